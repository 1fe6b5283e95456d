//! The file system of the machine.

use std::fs::{self, File};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::mounts;
use crate::owner;
use crate::vfs::{DirEntry, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};

/// Real files, through the page cache.
#[derive(Debug, Clone, Copy)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    // The lock lives as long as the descriptor of the folder.
    _folder: File,
}

impl FolderLock for RealLock {}

/// Whatever the number of processors: most of the time a reader waits. A device is busy with a few,
/// and a spinning one would only seek.
const READERS: usize = 4;

impl Vfs for RealVfs {
    fn readers(&self) -> usize {
        READERS
    }

    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::CreateNew => {
                options.write(true).create_new(true).mode(0o600);
            }
        }
        let file = options.open(path)?;
        if mode == Open::CreateNew {
            owner::settle(&file, path);
        }
        Ok(Box::new(RealFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        owner::make_folder(path, 0o777)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that vanished between listing and asking is no longer in the folder.
            match fs::metadata(entry.path()) {
                Ok(meta) => {
                    entries.push(DirEntry { name: entry.file_name(), is_dir: meta.is_dir() });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if crate::mutant("no_dir_sync") {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let meta = fs::metadata(path)?;
        let is_dir = meta.is_dir();
        Ok(Metadata { len: if is_dir { 0 } else { meta.len() }, is_dir })
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let device = fs::metadata(path)?.dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // Its options are there in full; the table of mounts leaves out those that the file system
        // itself names as its default.
        let options = |name: &str| fs::read_to_string(format!("/proc/fs/ext4/{name}/options"));
        let block_device = |number: &str| {
            let link = fs::read_link(format!("/sys/dev/block/{number}")).ok()?;
            Some(link.file_name()?.to_string_lossy().into_owned())
        };
        let magic = rustix::fs::statfs(path).ok().map(|found| found.f_type.cast_unsigned());
        Ok(mounts::identify(device, magic, &mounts, |number| {
            block_device(number).and_then(|name| options(&name).ok())
        }))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>> {
        let folder = File::open(path)?;
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _folder: folder }))
    }
}

impl VfsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let asked = buf.len();
        let (mut rest, mut offset) = (buf, offset);
        while !rest.is_empty() {
            match self.0.read_at(rest, offset) {
                Ok(0) => break,
                Ok(n) => {
                    rest = rest.split_at_mut(n).1;
                    offset = offset.saturating_add(n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(asked - rest.len())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(feature = "mutants")]
        if crate::mutant("sync_file_range") {
            return sync_file_range(&self.0);
        }
        // Not std's `sync_data`: that one repeats after EINTR, and a repeated sync may say ok
        // although the first one dropped the pages.
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn evict(&self) -> io::Result<()> {
        // A look that asks the cache only starts to read ahead all the same, and later looks then
        // find what the first one has fetched; not on a file that is read at random.
        rustix::fs::fadvise(&self.0, 0, None, Advice::Random)?;
        if crate::mutant("evict_range") {
            let page = std::num::NonZeroU64::new(4096);
            return Ok(rustix::fs::fadvise(&self.0, 0, page, Advice::DontNeed)?);
        }
        // A length of `None` means the whole file; evicting a range leaves pages behind.
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }

    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let mut bufs = [io::IoSliceMut::new(buf)];
        match rustix::io::preadv2(&self.0, &mut bufs, offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn fetch(&self, offset: u64, len: u64) {
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&self.0, offset, Some(len), Advice::WillNeed);
        }
    }

    fn bypass_cache(&self, on: bool) -> io::Result<bool> {
        let flags = rustix::fs::fcntl_getfl(&self.0)?;
        let wanted = if on { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
        match rustix::fs::fcntl_setfl(&self.0, wanted) {
            Ok(()) => Ok(on),
            // Not every file system can.
            Err(Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[expect(unsafe_code, reason = "no safe call reports the error of close(2)")]
    fn close(self: Box<Self>) -> io::Result<()> {
        let fd = self.0.into_raw_fd();
        // SAFETY: `fd` was just taken out of the owning `File`, so nothing else closes it and it
        // is not used again, whatever the outcome.
        Ok(unsafe { rustix::io::try_close(fd) }?)
    }
}

/// Starts and awaits the writing of all dirty pages: no flush of the disk's cache, no metadata.
#[cfg(feature = "mutants")]
#[expect(unsafe_code, reason = "no safe call exists, and nobody should want one")]
fn sync_file_range(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes no pointers, and `file` keeps the descriptor open during it.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
