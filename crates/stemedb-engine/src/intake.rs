//! The bounded queue between callers and the sequencer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_model::{Position, RecordId};

use crate::metrics;
use crate::node::Pass;
use crate::submission::{Submission, WriteError};
use crate::waiters::Ticket;

/// A submission that was let in.
pub(crate) struct Queued {
    /// Boxed: it is moved from queue to queue.
    pub(crate) submission: Box<Submission>,
    pub(crate) ticket: Ticket,
    pub(crate) pass: Pass,
    /// Neither its id nor its idempotency key was in the index up to here.
    pub(crate) absent_at: Position,
}

impl Queued {
    pub(crate) fn id(&self) -> RecordId {
        self.submission.signed.id()
    }

    fn bytes(&self) -> usize {
        self.submission.signed.bytes().len()
    }
}

pub(crate) struct Intake {
    records_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
    arrived: Condvar,
    room: Condvar,
    idle: Condvar,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Let in and not yet answered by the pipeline: waiting here or anywhere behind.
    unfinished: usize,
    /// How often each of these records is among them.
    ids: HashMap<RecordId, usize>,
    closed: bool,
}

impl Intake {
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            records_max,
            bytes_max,
            inner: Mutex::default(),
            arrived: Condvar::new(),
            room: Condvar::new(),
            idle: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, inner: &Inner, bytes: usize) -> bool {
        inner.queue.len() < self.records_max && inner.bytes + bytes <= self.bytes_max
    }

    /// Waits up to `wait` for room for a body of `bytes`, then queues what `make` gives. Nothing is
    /// made when there is no room. `make` runs under the lock that [`Intake::wait_idle`] takes: a
    /// door it finds open was not shut before that looked.
    pub(crate) fn push(
        &self,
        bytes: usize,
        wait: Duration,
        make: impl FnOnce() -> Result<Queued, WriteError>,
    ) -> Result<(), WriteError> {
        let mut inner = self.lock();
        if !self.fits(&inner, bytes) && !wait.is_zero() {
            (inner, _) = self
                .room
                .wait_timeout_while(inner, wait, |inner| !self.fits(inner, bytes))
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !self.fits(&inner, bytes) {
            return Err(WriteError::QueueFull { records: inner.queue.len(), bytes: inner.bytes });
        }
        let queued = make()?;
        inner.bytes += bytes;
        inner.unfinished += 1;
        *inner.ids.entry(queued.id()).or_default() += 1;
        inner.queue.push_back(queued);
        metrics::queued(inner.queue.len());
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes up to `count` from the front; blocks while there is nothing. `None` once closed and
    /// empty.
    pub(crate) fn pop(&self, count: usize) -> Option<Vec<Queued>> {
        let inner = self.lock();
        let mut inner = self
            .arrived
            .wait_while(inner, |inner| inner.queue.is_empty() && !inner.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if inner.queue.is_empty() {
            return None;
        }
        let count = count.min(inner.queue.len());
        let taken: Vec<Queued> = inner.queue.drain(..count).collect();
        inner.bytes -= taken.iter().map(Queued::bytes).sum::<usize>();
        metrics::queued(inner.queue.len());
        drop(inner);
        self.room.notify_all();
        Some(taken)
    }

    /// These are decided. Say so before they are answered: whoever has the answer must not find
    /// the record still on its way.
    pub(crate) fn decided(&self, ids: &[RecordId]) {
        let mut inner = self.lock();
        for id in ids {
            if let Some(copies) = inner.ids.get_mut(id) {
                *copies -= 1;
                if *copies == 0 {
                    inner.ids.remove(id);
                }
            }
        }
    }

    /// This many of them have been answered.
    pub(crate) fn finished(&self, count: usize) {
        let mut inner = self.lock();
        inner.unfinished -= count;
        if inner.unfinished == 0 {
            self.idle.notify_all();
        }
    }

    /// Whether a copy of this record is on its way.
    pub(crate) fn holds(&self, id: &RecordId) -> bool {
        self.lock().ids.contains_key(id)
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.lock().unfinished
    }

    /// Waits until everything let in is answered, or at most `bound`; what is left.
    pub(crate) fn wait_idle(&self, bound: Duration) -> usize {
        let inner = self.lock();
        let (inner, _) = self
            .idle
            .wait_timeout_while(inner, bound, |inner| inner.unfinished > 0)
            .unwrap_or_else(PoisonError::into_inner);
        inner.unfinished
    }

    /// Ends the sequencer once the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }
}
