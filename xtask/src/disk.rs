//! A disk that remembers: one file served through FUSE, whose every write and flush is recorded in
//! order. Under a loop device it is a block device for any file system.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// What reached the disk.
pub(crate) enum Event {
    Write { offset: u64, bytes: Vec<u8> },
    Flush,
}

/// The recording, shared with the thread that serves the file.
#[derive(Default)]
pub(crate) struct Recording {
    events: Mutex<Vec<Event>>,
    count: AtomicUsize,
}

impl Recording {
    /// Events so far: what was answered to a caller before this is asked lies within them.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Takes the events and starts over.
    pub(crate) fn take(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.store(0, Ordering::SeqCst);
        std::mem::take(&mut events)
    }

    fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        self.count.store(events.len(), Ordering::SeqCst);
    }
}

/// A mounted recording disk; unmounted when dropped.
pub(crate) struct RecordingDisk {
    pub(crate) recording: Arc<Recording>,
    session: Option<BackgroundSession>,
}

impl RecordingDisk {
    /// Serves `backing` as `mountpoint`/[`FILE`].
    pub(crate) fn mount(backing: &Path, mountpoint: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(backing)?;
        let bytes = file.metadata()?.len();
        let recording = Arc::new(Recording::default());
        let disk = Disk { file, bytes, recording: recording.clone() };
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName("recording-disk".into()));
        let session = Session::new(disk, mountpoint, &config)
            .and_then(Session::spawn)
            .context("cannot mount the recording disk (needs root, /dev/fuse and fusermount3)")?;
        Ok(Self { recording, session: Some(session) })
    }
}

impl Drop for RecordingDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("warning: cannot unmount the recording disk: {error}");
        }
    }
}

struct Disk {
    file: File,
    bytes: u64,
    recording: Arc<Recording>,
}

impl Disk {
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

impl Filesystem for Disk {
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
        match self.file.read_at(&mut bytes, offset) {
            Ok(count) => {
                bytes.truncate(count);
                reply.data(&bytes);
            }
            Err(_) => reply.error(Errno::EIO),
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
        self.recording.push(Event::Write { offset, bytes: data.to_vec() });
        match self.file.write_all_at(data, offset) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.recording.push(Event::Flush);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
