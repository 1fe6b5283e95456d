//! A medium that remembers every write and flush in order.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use fuser::Errno;

use crate::disk::Medium;

/// What reached the disk.
pub(crate) enum Event {
    Write { offset: u64, bytes: Vec<u8> },
    Flush,
}

/// The recording, over the file that holds the bytes.
pub(crate) struct Recording {
    file: File,
    bytes: u64,
    events: Mutex<Vec<Event>>,
    count: AtomicUsize,
}

impl Recording {
    /// Records what happens to `backing` from now on.
    pub(crate) fn of(backing: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(backing)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, events: Mutex::default(), count: AtomicUsize::new(0) })
    }

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

impl Medium for Recording {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        self.file.read_at(bytes, offset).map_err(|_| Errno::EIO)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.push(Event::Write { offset, bytes: bytes.to_vec() });
        self.file.write_all_at(bytes, offset).map_err(|_| Errno::EIO)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.push(Event::Flush);
        Ok(())
    }
}
