//! Frees write buffers of the storage where nobody waits for it.
//!
//! A write buffer is a skip list of up to some hundred thousand rows, and freeing one takes 30 to 70 ms.
//! fjall lets go of it under the lock over a table's list of versions, which every read of that table
//! and every batch need. So a thread here keeps a handle on each buffer: fjall's is never the last one.

use std::any::Any;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{AbstractTree, Keyspace};
use stemedb_io::come_behind;

/// A buffer is in use for longer than that: it takes megabytes to fill one, and a table is written from
/// it before it goes.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Looks after which it looks at the files as well, of which there may be thousands.
const FILES_EVERY: u32 = 50;

/// A buffer, and the bytes of its rows.
type Buffer = (Arc<dyn Any + Send + Sync>, u64);

/// The thread, until it is dropped.
pub(crate) struct Buffers {
    stop: Arc<(Mutex<bool>, Condvar)>,
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

/// What it saw last. To look takes the lock over a table's list of versions, which fjall holds while it
/// syncs that list: whoever tells of it must not wait for a disk.
#[derive(Default)]
struct Told {
    buffers: AtomicU64,
    filters: AtomicU64,
}

impl Buffers {
    /// Takes handles on these tables, which it lets go of when it is dropped.
    pub(crate) fn watch(tables: Vec<Keyspace>) -> std::io::Result<Self> {
        let stop = Arc::<(Mutex<bool>, Condvar)>::default();
        let told = Arc::<Told>::default();
        let (own, seen) = (Arc::clone(&stop), Arc::clone(&told));
        let thread = std::thread::Builder::new().name("index-buffers".into()).spawn(move || {
            come_behind();
            let mut held = Held::default();
            let mut looks = 0_u32;
            let (stop, changed) = &*own;
            let mut stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stopped {
                drop(stopped);
                held.look(tables.iter().map(|table| {
                    let buffer = table.tree.active_memtable();
                    let bytes = buffer.size();
                    (buffer as _, bytes)
                }));
                seen.buffers.store(held.bytes(), Ordering::Relaxed);
                if looks.is_multiple_of(FILES_EVERY) {
                    seen.filters.store(tables.iter().map(pinned).sum(), Ordering::Relaxed);
                }
                looks = looks.wrapping_add(1);
                stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
                if !*stopped {
                    let waited = changed.wait_timeout(stopped, LOOK_EVERY);
                    stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        })?;
        Ok(Self { stop, told, thread: Some(thread) })
    }

    /// Bytes of all buffers that somebody holds, some milliseconds ago.
    pub(crate) fn bytes(&self) -> u64 {
        self.told.buffers.load(Ordering::Relaxed)
    }

    /// Bytes of filters and indexes of the tables' files, about a second ago.
    pub(crate) fn filter_bytes(&self) -> u64 {
        self.told.filters.load(Ordering::Relaxed)
    }
}

/// What the files of a table keep in memory for as long as they are there. Costs a look at each.
fn pinned(table: &Keyspace) -> u64 {
    (table.tree.pinned_filter_size() + table.tree.pinned_block_index_size()) as u64
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let (stop, changed) = &*self.stop;
        *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, the storage frees its buffers itself.
            let _ = thread.join();
        }
    }
}

/// The buffers that are in use, and those before them that somebody still holds.
#[derive(Default)]
struct Held(Vec<Buffer>);

impl Held {
    /// Takes those that are in use now, and lets go of each that nobody else holds any more.
    fn look(&mut self, in_use: impl Iterator<Item = Buffer>) {
        for (buffer, bytes) in in_use {
            let same =
                |(held, _): &&mut Buffer| ptr::addr_eq(Arc::as_ptr(held), Arc::as_ptr(&buffer));
            match self.0.iter_mut().find(same) {
                Some((_, known)) => *known = bytes,
                None => self.0.push((buffer, bytes)),
            }
        }
        self.0.retain(|(buffer, _)| Arc::strong_count(buffer) > 1);
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_held_until_nobody_else_holds_it() {
        let (first, second): (Arc<i32>, Arc<i32>) = (Arc::new(1), Arc::new(2));
        let one = |buffer: &Arc<i32>, bytes| [(Arc::clone(buffer) as _, bytes)].into_iter();
        let mut held = Held::default();
        held.look(one(&first, 10));
        held.look(one(&second, 1));
        held.look(one(&second, 5));
        assert_eq!(held.0.len(), 2, "each once");
        assert_eq!(held.bytes(), 15, "one that grows counts as it is now");
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_some(), "ours is not let go of elsewhere");
        held.look(one(&second, 5));
        assert!(weak.upgrade().is_none());
        assert_eq!(held.bytes(), 5);
    }
}
