//! Files and folders, as far as a log and its neighbours need them.
//!
//! Contract of durability, shared by the real and the simulated file system:
//! - written bytes are durable once [`VfsFile::sync_data`] or [`VfsFile::sync_all`] of the file
//!   has returned `Ok`, and no sync of that file has ever failed before;
//! - a name (created, renamed, removed) is durable once [`Vfs::sync_dir`] of its folder has
//!   returned `Ok`; syncing the file does not make its name durable;
//! - after an error of write, sync, allocate or close nothing is known about the bytes that were
//!   not durable before: what a read returns may be the cache, not the medium.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// What [`VfsFile::bypass_cache`] wants everything to be a multiple of: no disk has larger sectors.
pub const DIRECT_ALIGN: usize = 4096;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; `AlreadyExists` if the name is taken. On a real file
    /// system only its owner may read it (mode 0600); if root makes it, that is the owner of the folder.
    CreateNew,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of its path.
    pub name: OsString,
    /// Whether it is a folder; a symbolic link counts as what it points to.
    pub is_dir: bool,
}

/// What is known about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes; 0 for a folder.
    pub len: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// Room of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What this process may still take.
    pub available: u64,
}

/// What is known about the file system that holds a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// `ext4`, `xfs`, `btrfs`, …; of one that journals its data, `ext4 data=journal`.
    pub name: String,
    /// Names the mounted device: two paths with the same number lie on one file system.
    pub device: u64,
    /// Whether what is read after [`VfsFile::evict`] is known to come from the medium, also after
    /// a sync that failed. It was seen to on ext4 (unless it journals data) and on XFS; where
    /// nothing is known, the answer is no.
    pub rereads: bool,
}

/// A file system.
pub trait Vfs: Send + Sync {
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>>;
    /// Creates a folder and all folders above it; fine if it exists. The new names are not yet
    /// durable.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in byte order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles stay usable.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// What is at `path`; `NotFound` if nothing is.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Room of the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Which file system holds `path`.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
    /// Takes the exclusive lock of a folder, for as long as the result lives; `WouldBlock` if
    /// another process or another part of this one holds it. Leaves nothing behind.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>>;

    /// How many files it pays to read at once. One, where the order of operations matters.
    fn readers(&self) -> usize {
        1
    }

    /// Whether something is at `path`.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Released on drop.
pub trait FolderLock: Send + Sync + std::fmt::Debug {}

/// An open file. Offsets are explicit, so one handle serves any number of threads.
pub trait VfsFile: Send + Sync {
    /// Reads into `buf` from `offset`; returns how many bytes, fewer than asked for only at the
    /// end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, extending the file if needed. After an error any part of
    /// it may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes durable, and the length as far as they need it (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the bytes and all metadata durable (fsync).
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts the file or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves room for the first `len` bytes and makes the file that long; new bytes are zeros.
    /// `Unsupported` where the file system cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Asks the system to forget its cached copy of the whole file. Pages that are not yet
    /// written stay, and so do pages that the system has in hand. It is a request, to be repeated:
    /// [`VfsFile::read_nowait`] tells whether it was followed.
    fn evict(&self) -> io::Result<()>;
    /// Reads like [`VfsFile::read_at`], but only from the cache: `None` if the medium would have
    /// to be asked. `Unsupported` where the file system cannot tell.
    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Asks the system to begin reading these bytes, so that a later read finds them: the medium
    /// works while the caller does. Only a hint; a failure shows at the read.
    fn fetch(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// Asks that what this handle writes goes to the medium past the cache, or through it again; says
    /// whether it does. Past the cache, offsets, lengths and the place of the bytes in memory must be
    /// multiples of [`DIRECT_ALIGN`]. Promises nothing: a sync is as necessary as before.
    fn bypass_cache(&self, on: bool) -> io::Result<bool> {
        let _ = on;
        Ok(false)
    }
    /// Closes the file and reports the error that a plain drop would hide.
    fn close(self: Box<Self>) -> io::Result<()>;

    /// Reads exactly `buf.len()` bytes; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buf, offset)? == buf.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}
