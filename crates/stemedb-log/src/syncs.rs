//! Syncs that run beside one another, and what the failure of one says about the others.
//!
//! A disk that fails a flush may forget all that it held unflushed, for whomever. The next flush then
//! finds nothing to do and succeeds, over bytes that are gone. So the sync of a file is believed only
//! if no other one failed since its bytes were written, which is known once those that were out at its
//! end have come back. Failures that the kernel meets on its own account, and those of other programs,
//! are not seen here.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use stemedb_io::{DirEntry, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};

/// Every sync of one log: which are out, how many have failed.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    tally: Mutex<Tally>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Tally {
    /// Number of the next ticket.
    next: u64,
    /// Tickets of the syncs that are running.
    out: BTreeSet<u64>,
    failed: u64,
}

impl Syncs {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have failed so far.
    pub(crate) fn failures(&self) -> u64 {
        self.lock().failed
    }

    /// Whether a sync that has just succeeded may be believed, of bytes that were written when
    /// `failures` had failed. Waits for those that are out now: one of them may have failed at the
    /// disk already, and only its caller does not know yet. One that begins later finds the bytes on
    /// the medium.
    fn none_failed_since(&self, failures: u64) -> io::Result<()> {
        let mut tally = self.lock();
        let next = tally.next;
        while tally.failed == failures && tally.out.first().is_some_and(|oldest| *oldest < next) {
            tally = self.returned.wait(tally).unwrap_or_else(PoisonError::into_inner);
        }
        if tally.failed == failures {
            return Ok(());
        }
        Err(io::Error::other(
            "a sync beside it failed, and the disk may have dropped these bytes too",
        ))
    }

    fn run(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut ticket = Ticket::take(self);
        let done = sync();
        ticket.failed = done.is_err();
        done
    }
}

/// A sync that is running. Given back when it is dropped, so that one whose thread panicked is not
/// waited for without end; it counts as failed.
struct Ticket<'a> {
    syncs: &'a Syncs,
    number: u64,
    failed: bool,
}

impl<'a> Ticket<'a> {
    fn take(syncs: &'a Syncs) -> Self {
        let mut tally = syncs.lock();
        let number = tally.next;
        tally.next += 1;
        tally.out.insert(number);
        Self { syncs, number, failed: true }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut tally = self.syncs.lock();
        tally.out.remove(&self.number);
        tally.failed += u64::from(self.failed);
        drop(tally);
        self.syncs.returned.notify_all();
    }
}

/// A file system whose syncs are counted, and whose files do not believe their own without the others.
pub(crate) struct Counted {
    vfs: Arc<dyn Vfs>,
    syncs: Arc<Syncs>,
}

impl Counted {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, syncs: Arc<Syncs>) -> Self {
        Self { vfs, syncs }
    }
}

impl Vfs for Counted {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>> {
        let file = self.vfs.open(path, mode)?;
        let syncs = Arc::clone(&self.syncs);
        Ok(Box::new(CountedFile { file, syncs, written: Mutex::new(None) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.vfs.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.vfs.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.vfs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.vfs.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.syncs.run(|| self.vfs.sync_dir(path))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.vfs.metadata(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.vfs.space(path)
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.vfs.file_system(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>> {
        self.vfs.lock(path)
    }

    fn readers(&self) -> usize {
        self.vfs.readers()
    }
}

struct CountedFile {
    file: Box<dyn VfsFile>,
    syncs: Arc<Syncs>,
    /// How many syncs had failed when the oldest byte that no sync has covered was written.
    written: Mutex<Option<u64>>,
}

impl CountedFile {
    fn written(&self) -> MutexGuard<'_, Option<u64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // Taken also if it fails: after that nothing is known of this file, as its contract says.
        let written = self.written().take();
        self.syncs.run(sync)?;
        written.map_or(Ok(()), |failures| self.syncs.none_failed_since(failures))
    }
}

impl VfsFile for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.written().get_or_insert_with(|| self.syncs.failures());
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_all())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn evict(&self) -> io::Result<()> {
        self.file.evict()
    }

    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_nowait(buf, offset)
    }

    fn fetch(&self, offset: u64, len: u64) {
        self.file.fetch(offset, len);
    }

    fn bypass_cache(&self, on: bool) -> io::Result<bool> {
        self.file.bypass_cache(on)
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.file.close()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failure_between_write_and_belief_counts_and_an_older_one_does_not() {
        let syncs = Syncs::default();
        let fails = || syncs.run(|| Err(io::Error::from_raw_os_error(5))).is_err();
        assert!(fails());
        assert!(syncs.none_failed_since(1).is_ok());
        assert!(syncs.run(|| Ok(())).is_ok());
        assert!(syncs.none_failed_since(1).is_ok());
        assert!(fails());
        assert!(syncs.none_failed_since(1).is_err());
        assert!(syncs.none_failed_since(2).is_ok());
    }

    #[test]
    fn one_whose_thread_panics_has_failed_and_is_not_waited_for() {
        let syncs = &Syncs::default();
        let died = std::thread::scope(|scope| {
            scope.spawn(move || syncs.run(|| std::panic::panic_any("a fault of the test"))).join()
        });
        assert!(died.is_err());
        assert!(syncs.none_failed_since(0).is_err());
        assert!(syncs.none_failed_since(1).is_ok());
    }

    /// Those that are out are waited for, whatever becomes of them; those that begin later are not.
    #[test]
    fn those_that_are_out_are_waited_for() {
        for fails in [false, true] {
            let syncs = &Syncs::default();
            let (out, is_out) = channel();
            let (let_go, gone) = channel::<()>();
            let (believed, verdict) = channel();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    syncs.run(|| {
                        out.send(()).ok();
                        gone.recv().ok();
                        if fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
                    })
                });
                assert!(is_out.recv().is_ok());
                scope.spawn(move || believed.send(syncs.none_failed_since(0).is_ok()));
                // Nothing can be concluded from silence but that it is not there yet.
                assert!(verdict.recv_timeout(Duration::from_millis(50)).is_err());
                assert!(let_go.send(()).is_ok());
                assert_eq!(verdict.recv().ok(), Some(!fails));
            });
        }
    }
}
