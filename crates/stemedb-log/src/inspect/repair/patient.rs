//! A file of which some sectors cannot be read.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use stemedb_io::VfsFile;

use crate::format::block::SECTOR;

/// What is read where the medium gives nothing. Not zero: zero is what was never written.
const UNREADABLE: u8 = 0xff;

/// Reads what can be read. A sector that the medium does not give is filled with bytes that never
/// verify, so that it counts as damaged and its neighbours do not.
pub(super) struct Patient {
    file: Box<dyn VfsFile>,
    /// Numbers of sectors that could not be read.
    unreadable: Mutex<BTreeSet<u64>>,
}

impl Patient {
    pub(super) fn new(file: Box<dyn VfsFile>) -> Self {
        Self { file, unreadable: Mutex::default() }
    }

    /// How many sectors could not be read.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

impl VfsFile for Patient {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Ok(read) = self.file.read_at(buf, offset) {
            return Ok(read);
        }
        let len = self.file.len()?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() && at < len {
            let to_boundary = SECTOR as u64 - at % SECTOR as u64;
            let count = to_boundary.min(len - at).min(rest.len() as u64);
            let (now, later) =
                std::mem::take(&mut rest).split_at_mut(usize::try_from(count).unwrap_or(SECTOR));
            if self.file.read_exact_at(now, at).is_err() {
                now.fill(UNREADABLE);
                let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                unreadable.insert(at / SECTOR as u64);
            }
            at += count;
            rest = later;
        }
        Ok(usize::try_from(at - offset).unwrap_or(usize::MAX))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn evict(&self) -> io::Result<()> {
        self.file.evict()
    }

    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_nowait(buf, offset)
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.file.close()
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }
}

pub(super) fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the input of a repair is only read")
}
