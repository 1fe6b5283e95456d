//! Records that are neither readable nor surely absent, by id.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stemedb_model::{Position, RecordId};

/// What became of a record that was given to the log and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The log failed, or hangs: it may be there after the next start.
    Undecided,
    /// Durable, but the index did not take it.
    Durable(Position),
}

/// Empty while all is well. Holds at most what was in flight when something failed.
#[derive(Default)]
pub(crate) struct Fates {
    inner: Mutex<HashMap<RecordId, Fate>>,
}

impl Fates {
    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, Fate>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, id: &RecordId) -> Option<Fate> {
        self.lock().get(id).copied()
    }

    pub(crate) fn set(&self, fates: impl IntoIterator<Item = (RecordId, Fate)>) {
        self.lock().extend(fates);
    }

    /// Everything up to this position is readable.
    pub(crate) fn settle_up_to(&self, applied: Position) {
        let readable =
            |fate: &Fate| matches!(fate, Fate::Durable(position) if *position <= applied);
        self.lock().retain(|_, fate| !readable(fate));
    }

    /// These are readable, or surely absent.
    pub(crate) fn settle(&self, ids: impl IntoIterator<Item = RecordId>) {
        let mut inner = self.lock();
        if !inner.is_empty() {
            for id in ids {
                inner.remove(&id);
            }
        }
    }
}
