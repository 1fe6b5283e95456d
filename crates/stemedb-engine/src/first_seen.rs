//! When an idempotency key was first seen, so that a retry without `at` makes the same record.
//!
//! The durable answer is the record itself, found by the key's hash in the index. Here are those of
//! requests that are still on their way, or were refused; they are lost at a restart, and may be:
//! then nothing was written under them, or the index knows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use stemedb_model::{Hash, Millis};

/// Keys kept; the oldest goes first. Far more than can be in flight.
const KEEP: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct FirstSeen {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    times: HashMap<Hash, Millis>,
    order: VecDeque<Hash>,
}

impl FirstSeen {
    /// The time first given for `key`; `now` if this is the first.
    pub(crate) fn first(&self, key: Hash, now: Millis) -> Millis {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = inner.times.get(&key) {
            return *first;
        }
        if inner.order.len() >= KEEP
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.times.remove(&oldest);
        }
        inner.order.push_back(key);
        inner.times.insert(key, now);
        now
    }
}
