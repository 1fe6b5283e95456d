//! What the writer tells everybody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stemedb_model::Hash;

use super::chain::ORIGIN;

/// One file, as far as it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) number: u64,
    /// Its first entry.
    pub(super) first: u64,
    pub(super) bytes: u64,
}

/// Whether reads are taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    /// What failed, where.
    Failing(String),
}

#[derive(Debug)]
struct Known {
    state: State,
    damaged: Option<String>,
    files: Vec<Kept>,
    /// Files before this one are to go.
    kept_from: u64,
    last: u64,
    chain: Hash,
}

/// Seen by handlers while the writer works.
#[derive(Debug)]
pub(super) struct Shared {
    known: Mutex<Known>,
    /// Reads that found the queue full and are not yet told of in a gap.
    dropped: AtomicU64,
}

/// The audit at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) state: State,
    pub(super) damaged: Option<String>,
    pub(super) files: Vec<Kept>,
    pub(super) last: u64,
    pub(super) chain: Hash,
}

impl Shared {
    pub(super) fn new() -> Self {
        let known = Known {
            state: State::Ok,
            damaged: None,
            files: Vec::new(),
            kept_from: 0,
            last: 0,
            chain: ORIGIN,
        };
        Self { known: Mutex::new(known), dropped: AtomicU64::new(0) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Now {
        let known = self.known();
        Now {
            state: known.state.clone(),
            damaged: known.damaged.clone(),
            files: known.files.clone(),
            last: known.last,
            chain: known.chain,
        }
    }

    pub(super) fn failing(&self) -> Option<String> {
        match &self.known().state {
            State::Ok => None,
            State::Failing(detail) => Some(detail.clone()),
        }
    }

    pub(super) fn set_state(&self, state: State) {
        super::metrics::state(state == State::Ok);
        self.known().state = state;
    }

    pub(super) fn set_damaged(&self, detail: String) {
        self.known().damaged = Some(detail);
    }

    /// What earlier starts left.
    pub(super) fn found(&self, files: Vec<Kept>, last: u64, chain: Hash) {
        let mut known = self.known();
        (known.last, known.chain) = (last, chain);
        known.files = files;
        super::metrics::bytes(&known.files);
    }

    /// More of a file is durable.
    pub(super) fn durable(&self, file: Kept, last: u64, chain: Hash) {
        let mut known = self.known();
        (known.last, known.chain) = (last, chain);
        match known.files.last_mut() {
            Some(newest) if newest.number == file.number => *newest = file,
            _ => known.files.push(file),
        }
        super::metrics::bytes(&known.files);
    }

    /// The oldest file to be kept beside a new one, with room for so many bytes; `None`: all.
    pub(super) fn kept_from(&self, room: Option<u64>, new: u64) -> u64 {
        let mut known = self.known();
        let mut room = room.unwrap_or(u64::MAX);
        let mut from = new;
        for file in known.files.iter().rev() {
            let Some(rest) = room.checked_sub(file.bytes) else { break };
            (room, from) = (rest, file.number);
        }
        // Never back again: what is gone is gone.
        known.kept_from = known.kept_from.max(from.min(new));
        known.kept_from
    }

    /// Files that are to go.
    pub(super) fn before_kept(&self) -> Vec<u64> {
        let known = self.known();
        let old = known.files.iter().map(|file| file.number);
        old.filter(|number| *number < known.kept_from).collect()
    }

    pub(super) fn removed(&self, number: u64) {
        let mut known = self.known();
        known.files.retain(|file| file.number != number);
        super::metrics::bytes(&known.files);
    }

    pub(super) fn drop_one(&self) {
        super::metrics::dropped(1);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}
