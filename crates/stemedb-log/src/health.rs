//! Whether the log takes writes, and what a failure of the medium does to that.
//!
//! One failure is healed where it can be proved what the medium holds: the group goes to a fresh
//! segment, and the durable groups of the old one are read back. A second one within an hour, a
//! file system that cannot be read back, or `wal.on_failure = "stop"` make the log read-only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_io::FileSystem;

use crate::config::OnFailure;
use crate::error::LogState;
use crate::prove::Suspect;

/// A failure this soon after the last one is no accident.
const AGAIN_WITHIN: Duration = Duration::from_secs(3600);

/// What an operator should know while the log takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Concern {
    /// The medium failed and the log went on; stays until acknowledged.
    Healed,
    /// The next segment cannot be prepared; ends when there is room.
    NoRoom,
    /// Acknowledged data is damaged; stays until acknowledged.
    Damaged,
}

impl Concern {
    pub(crate) const ALL: [Self; 3] = [Self::Healed, Self::NoRoom, Self::Damaged];

    /// The name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::NoRoom => "no_room",
            Self::Damaged => "damaged",
        }
    }
}

pub(crate) struct Health {
    on_failure: OnFailure,
    inner: Mutex<Inner>,
}

struct Inner {
    file_system: FileSystem,
    detached: bool,
    read_only: Option<String>,
    concerns: BTreeMap<Concern, String>,
    /// On the monotonic clock.
    last_failure: Option<Duration>,
    /// How many syncs had failed when a failed sync was counted last.
    last_sync_failure: Option<u64>,
    /// Segments whose durable groups must be proved before writes go on.
    suspects: Vec<Suspect>,
}

impl Health {
    pub(crate) fn new(on_failure: OnFailure, file_system: FileSystem) -> Self {
        let inner = Inner {
            file_system,
            detached: false,
            read_only: None,
            concerns: BTreeMap::new(),
            last_failure: None,
            last_sync_failure: None,
            suspects: Vec::new(),
        };
        Self { on_failure, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> LogState {
        self.lock().state()
    }

    /// Tells the state and what an operator should look at. Nothing changes meanwhile: of two who
    /// tell at once, the one with the newer state comes last.
    pub(crate) fn tell(&self, tell: impl FnOnce(&LogState, &BTreeMap<Concern, String>)) {
        let inner = self.lock();
        tell(&inner.state(), &inner.concerns);
    }

    /// Counts a failure at `now`. `Ok` if the log may go on by itself, else why not. `syncs`: how many
    /// have failed, if it was a sync; one that fails and those that are not believed because of it are
    /// one failure.
    pub(crate) fn may_heal(&self, now: Duration, syncs: Option<u64>) -> Result<(), String> {
        let mut inner = self.lock();
        let soon = inner
            .last_failure
            .replace(now)
            .is_some_and(|before| now.saturating_sub(before) < AGAIN_WITHIN);
        let same = syncs.is_some() && inner.last_sync_failure == syncs;
        inner.last_sync_failure = syncs.or(inner.last_sync_failure);
        let again = soon && !same;
        if self.on_failure == OnFailure::Stop {
            return Err("wal.on_failure is \"stop\"".into());
        }
        if inner.read_only.is_some() {
            return Err("the log is read-only already".into());
        }
        self.cannot_prove_on(&inner.file_system)?;
        if again {
            return Err("it is the second failure within an hour".into());
        }
        Ok(())
    }

    fn cannot_prove_on(&self, file_system: &FileSystem) -> Result<(), String> {
        if file_system.rereads {
            return Ok(());
        }
        Err(format!(
            "on this file system ({}) it cannot be proved what the medium holds",
            file_system.name
        ))
    }

    /// Whether the log can find out by itself what the medium holds; else why not.
    pub(crate) fn provable(&self) -> Result<(), String> {
        self.cannot_prove_on(&self.lock().file_system)
    }

    /// The folder may be on another file system than before.
    pub(crate) fn moved_to(&self, file_system: FileSystem) {
        self.lock().file_system = file_system;
    }

    /// The newest reason counts.
    pub(crate) fn read_only(&self, reason: String) {
        self.lock().read_only = Some(reason);
    }

    pub(crate) fn takes_writes(&self) {
        self.lock().read_only = None;
    }

    pub(crate) fn detached(&self, detached: bool) {
        self.lock().detached = detached;
    }

    /// Notes a concern, or that it is over.
    pub(crate) fn concern(&self, concern: Concern, reason: Option<String>) {
        let mut inner = self.lock();
        match reason {
            Some(reason) => inner.concerns.insert(concern, reason),
            None => inner.concerns.remove(&concern),
        };
    }

    /// An operator has seen what stays until then.
    pub(crate) fn acknowledge(&self) -> Option<String> {
        let mut inner = self.lock();
        let seen = [Concern::Healed, Concern::Damaged].map(|one| inner.concerns.remove(&one));
        let seen: Vec<String> = seen.into_iter().flatten().collect();
        (!seen.is_empty()).then(|| seen.join("; "))
    }

    pub(crate) fn suspect(&self, suspect: Suspect) {
        self.lock().suspects.push(suspect);
    }

    pub(crate) fn suspects(&self) -> Vec<Suspect> {
        self.lock().suspects.clone()
    }

    pub(crate) fn proved(&self, number: u64) {
        self.lock().suspects.retain(|suspect| suspect.number != number);
    }
}

impl Inner {
    fn state(&self) -> LogState {
        if self.detached {
            return LogState::Detached;
        }
        if let Some(reason) = &self.read_only {
            return LogState::ReadOnly { reason: reason.clone() };
        }
        if self.concerns.is_empty() {
            return LogState::Ok;
        }
        let reasons: Vec<&str> = self.concerns.values().map(String::as_str).collect();
        LogState::Degraded { reason: reasons.join("; ") }
    }
}
