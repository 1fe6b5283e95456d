//! The newest applied state, and those who wait for a newer one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_index::Snapshot;
use stemedb_model::Position;

use crate::metrics;

pub(crate) struct Applied {
    newest: Mutex<Snapshot>,
    changed: Condvar,
}

impl Applied {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        metrics::applied(snapshot.position());
        Self { newest: Mutex::new(snapshot), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn position(&self) -> Position {
        self.lock().position()
    }

    pub(crate) fn newest(&self) -> Snapshot {
        self.lock().clone()
    }

    pub(crate) fn set(&self, snapshot: Snapshot) {
        metrics::applied(snapshot.position());
        let before = std::mem::replace(&mut *self.lock(), snapshot);
        self.changed.notify_all();
        // Releasing a snapshot may do work in the storage; not under the lock.
        drop(before);
    }

    /// Takes the same state in place of the one it has, to let go of that one.
    pub(crate) fn renew(&self, snapshot: Snapshot) {
        let mut newest = self.lock();
        let before = match newest.same_state(&snapshot) {
            true => std::mem::replace(&mut *newest, snapshot),
            false => snapshot,
        };
        drop(newest);
        drop(before);
    }

    /// The newest state once it is at `position` or past it, or `stop` says that this will not
    /// come, or after `wait`.
    pub(crate) fn wait_for(
        &self,
        position: Position,
        wait: Duration,
        stop: impl Fn() -> bool,
    ) -> Snapshot {
        let waiting = |newest: &mut Snapshot| newest.position() < position && !stop();
        let (newest, _) = self
            .changed
            .wait_timeout_while(self.lock(), wait, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        newest.clone()
    }

    /// Lets those who wait ask their `stop` again.
    pub(crate) fn nudge(&self) {
        // The lock orders this after any waiter's last look.
        drop(self.lock());
        self.changed.notify_all();
    }
}
