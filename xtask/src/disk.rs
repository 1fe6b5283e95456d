//! A disk of our own: one file served through FUSE. Under a loop device it is a block device for any
//! file system. What it does with reads, writes and flushes is its [`Medium`]'s affair.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, WriteFlags,
};

/// Name of the one file.
pub(crate) const FILE: &str = "disk.img";
const FILE_INODE: INodeNo = INodeNo(2);

/// What a disk is made of. Called by one thread, one request after the other.
pub(crate) trait Medium: Send + Sync + 'static {
    /// Its size.
    fn bytes(&self) -> u64;
    /// Fills `bytes` from `offset` on as far as there is something; says how far.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno>;
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno>;
    /// Makes everything written so far durable.
    fn flush(&self) -> Result<(), Errno>;
}

/// A mounted disk; unmounted when dropped.
pub(crate) struct Disk<M> {
    pub(crate) medium: Arc<M>,
    session: Option<BackgroundSession>,
    mountpoint: PathBuf,
}

impl<M: Medium> Disk<M> {
    /// Serves `medium` as `mountpoint`/[`FILE`].
    pub(crate) fn mount(medium: M, mountpoint: &Path) -> Result<Self> {
        let medium = Arc::new(medium);
        let served = Served { medium: Arc::clone(&medium), bytes: medium.bytes() };
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName("stemedb-disk".into()));
        let session = Session::new(served, mountpoint, &config)
            .and_then(Session::spawn)
            .context("cannot mount a disk of our own (needs root, /dev/fuse and fusermount3)")?;
        Ok(Self { medium, session: Some(session), mountpoint: mountpoint.into() })
    }
}

impl<M> Drop for Disk<M> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("warning: cannot unmount the disk: {error}");
            // At least it goes away with whatever holds it.
            let _ = Command::new("umount").arg("-l").arg(&self.mountpoint).status();
        }
    }
}

struct Served<M> {
    medium: Arc<M>,
    bytes: u64,
}

impl<M: Medium> Served<M> {
    fn attr(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE_INODE;
        let size = if is_file { self.bytes } else { 0 };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

// No attribute is cached: the answers are instant anyway.
const TTL: Duration = Duration::ZERO;

impl<M: Medium> Filesystem for Served<M> {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == FILE {
            reply.entry(&TTL, &self.attr(FILE_INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: what the loop device writes arrives here at once and in its order.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        match self.medium.read(offset, &mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                reply.data(&bytes);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.medium.write(offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.medium.flush() {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
