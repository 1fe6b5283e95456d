//! The state of the node, and the gate that every write passes.
//!
//! ```text
//! starting → recovering → ready ⇄ read_only → draining → drained → stopped
//! ```
//!
//! `read_only` is not entered by anybody: it is what `ready` is called while the log or the index
//! has failed, the clock has jumped, the lease is not held, or an archive that acknowledgements wait for
//! takes nothing. `standby` is what it is called on a node that follows another. Undrain leads from
//! draining or drained back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_index::Lost;
use stemedb_io::Clock;
use stemedb_log::{LogReader, LogState, Outcome};
use stemedb_model::{LogId, Position, Timeline};

use crate::archiving::ArchiveStatus;
use crate::config::{CLOCK_JUMP_MAX, RETRY_EVERY};
use crate::metrics;
use crate::rebuild::Rebuild;
use crate::submission::WriteError;

/// What the node does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "specified in docs/operations; the picture is above")]
pub enum NodeState {
    Starting,
    Recovering,
    Ready,
    ReadOnly,
    Standby,
    Draining,
    Drained,
    Stopped,
}

impl NodeState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Recovering,
        Self::Ready,
        Self::ReadOnly,
        Self::Standby,
        Self::Draining,
        Self::Drained,
        Self::Stopped,
    ];

    /// The name in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Recovering => "recovering",
            Self::Ready => "ready",
            Self::ReadOnly => "read_only",
            Self::Standby => "standby",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
        }
    }

    /// Whether reads are answered: in every state but the first two and the last.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Starting | Self::Recovering | Self::Stopped)
    }
}

/// Why the node is not simply ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReason {
    /// `wal_unavailable`, `index_failed`, `fenced`, `clock_jump`, `archive_unavailable` or
    /// `recovery_failed`.
    pub code: &'static str,
    /// For people: what failed, where.
    pub detail: String,
}

/// How far the index is in replaying the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Newest position in the index.
    pub applied: Position,
    /// Where it has to get to.
    pub durable: Position,
}

/// The node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// What it does.
    pub state: NodeState,
    /// Why it takes no writes, or why recovery ended.
    pub reason: Option<NodeReason>,
    /// Set while the node is ready but an operator should look.
    pub degraded: Option<String>,
    /// What the log says of itself.
    pub log: LogState,
    /// Name of the database.
    pub log_id: LogId,
    /// Name of its branch.
    pub timeline: Timeline,
    /// How far the index is.
    pub progress: Progress,
    /// Records that are queued, being made durable or being applied.
    pub in_flight: usize,
    /// Positions that a repair of the log gave up.
    pub lost: Lost,
    /// The archive of the log, if there is one.
    pub archive: Option<ArchiveStatus>,
    /// How the index is being made anew, or how that ended the last time.
    pub rebuild: Option<Rebuild>,
}

/// The part of the state that is set; the rest follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Recovering,
    Running,
    Draining,
    Drained,
    Stopped,
}

/// Why no write can be made durable and readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The log refuses. With `retry_at`, it may take writes again by itself, and from then on one
    /// write is let through to try.
    Log { reason: String, retry_at: Option<Duration> },
    /// The index did not take what is durable.
    Index { reason: String },
    /// Replay did not come to its end.
    Recovery { reason: String },
}

/// A write that may enter: `probe` ones are let through a failing log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) probe: bool,
}

pub(crate) struct Gate {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    phase: Phase,
    failure: Option<Failure>,
    jump_ms: Option<i64>,
    /// Why the archive that acknowledgements wait for takes nothing.
    archive: Option<String>,
    /// Why the lease is not held.
    fenced: Option<String>,
    /// The log is another node's; where that one is, if it is known.
    standby: Option<String>,
    /// Wall clock less monotonic clock, in ms, as last agreed on.
    clock_offset_ms: i64,
}

impl Gate {
    pub(crate) fn new(clock: &dyn Clock, standby: bool) -> Self {
        let gate = Self {
            inner: Mutex::new(Inner {
                phase: Phase::Starting,
                failure: None,
                jump_ms: None,
                archive: None,
                fenced: None,
                standby: standby.then(String::new),
                clock_offset_ms: clock_offset_ms(clock),
            }),
            changed: Condvar::new(),
        };
        gate.change(|_| ());
        gate
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state; says so in the log and the metrics if it has another name afterwards.
    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.lock();
        let before = inner.state();
        let result = change(&mut inner);
        let (after, reason) = (inner.state(), inner.reason());
        // Under the lock: of two changes at once, the later one is told last.
        metrics::node_state(after);
        drop(inner);
        if before != after {
            let reason = reason.map(|reason| format!("{}: {}", reason.code, reason.detail));
            tracing::info!(
                from = before.as_str(),
                to = after.as_str(),
                reason,
                "node state changed"
            );
        }
        self.changed.notify_all();
        result
    }

    pub(crate) fn state(&self) -> NodeState {
        self.lock().state()
    }

    pub(crate) fn state_and_reason(&self) -> (NodeState, Option<NodeReason>) {
        let inner = self.lock();
        (inner.state(), inner.reason())
    }

    /// Blocks until `wanted` says so, or at most `wait`; true if it did.
    pub(crate) fn wait_until(&self, wait: Duration, wanted: impl Fn(NodeState) -> bool) -> bool {
        self.wait(wait, |inner| wanted(inner.state()))
    }

    /// Blocks until replay has ended, well or not, or at most `wait`; true if it has.
    pub(crate) fn wait_replayed(&self, wait: Duration) -> bool {
        self.wait(wait, |inner| {
            !matches!(inner.phase, Phase::Starting | Phase::Recovering)
                || matches!(inner.failure, Some(Failure::Recovery { .. }))
        })
    }

    fn wait(&self, wait: Duration, wanted: impl Fn(&Inner) -> bool) -> bool {
        let (inner, _) = self
            .changed
            .wait_timeout_while(self.lock(), wait, |inner| !wanted(inner))
            .unwrap_or_else(PoisonError::into_inner);
        wanted(&inner)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.change(|inner| inner.phase = phase);
    }

    /// Moves from one of `from` to `to`; the phase it was in if that is not possible.
    pub(crate) fn step(&self, from: &[Phase], to: Phase) -> Result<(), NodeState> {
        self.change(|inner| {
            if !from.contains(&inner.phase) {
                return Err(inner.state());
            }
            inner.phase = to;
            Ok(())
        })
    }

    /// The first failure stays, except that an index failure outranks one of the log.
    pub(crate) fn fail(&self, failure: Failure) {
        self.change(|inner| match (&inner.failure, &failure) {
            (Some(Failure::Index { .. } | Failure::Recovery { .. }), _) => {}
            (Some(Failure::Log { retry_at: None, .. }), Failure::Log { .. }) => {}
            _ => inner.failure = Some(failure),
        });
    }

    /// A log that says of itself that it takes no writes shuts the gate, with its newest reason.
    pub(crate) fn follow(&self, log: &dyn LogReader) {
        let reason_of = |log: &dyn LogReader| match log.state() {
            LogState::Ok | LogState::Degraded { .. } => None,
            LogState::ReadOnly { reason } => Some(reason),
            LogState::Detached => Some("detached by an operator".to_owned()),
        };
        if reason_of(log).is_none() {
            return;
        }
        // Asked again under the lock: the log may have come back, and `log_works` comes after that.
        self.change(|inner| {
            let Some(reason) = reason_of(log) else { return };
            match &mut inner.failure {
                Some(Failure::Index { .. } | Failure::Recovery { .. }) => {}
                Some(Failure::Log { reason: before, retry_at: None }) => *before = reason,
                failure => *failure = Some(Failure::Log { reason, retry_at: None }),
            }
        });
    }

    /// The log took a write: it works.
    pub(crate) fn log_works(&self) {
        let of_log = |inner: &Inner| matches!(inner.failure, Some(Failure::Log { .. }));
        if !of_log(&self.lock()) {
            return;
        }
        // Asked again under the lock: the index may have failed meanwhile.
        self.change(|inner| {
            if of_log(inner) {
                inner.failure = None;
            }
        });
    }

    /// What the fence says now.
    pub(crate) fn fence(&self, held: Result<(), String>) {
        let fenced = held.err();
        if self.lock().fenced == fenced {
            return;
        }
        self.change(|inner| inner.fenced = fenced);
    }

    /// Where the node is whose log this is.
    pub(crate) fn tell_primary(&self, address: &str) {
        let mut inner = self.lock();
        if let Some(known) = &mut inner.standby
            && known != address
        {
            address.clone_into(known);
        }
    }

    /// A standby takes no write, and says who does.
    pub(crate) fn standby(&self) -> Option<WriteError> {
        let primary = self.lock().standby.clone()?;
        Some(WriteError::Standby { primary })
    }

    /// Another index took everything that is durable.
    pub(crate) fn index_works(&self) {
        self.change(|inner| {
            if matches!(inner.failure, Some(Failure::Index { .. })) {
                inner.failure = None;
            }
        });
    }

    /// May a write be queued? A failure does not keep it out here: the sequencer refuses it, since
    /// it alone knows whether a copy of the record went before, of which it must not be said that
    /// it is not written.
    pub(crate) fn enter(&self, clock: &dyn Clock) -> Result<Pass, WriteError> {
        self.check_clock(clock);
        let mut inner = self.lock();
        let state = inner.state();
        match inner.phase {
            Phase::Starting | Phase::Recovering => return Err(WriteError::NotReady { state }),
            Phase::Draining | Phase::Drained | Phase::Stopped => {
                return Err(WriteError::Draining { state });
            }
            Phase::Running => {}
        }
        inner.archived()?;
        if let Some(Failure::Log { retry_at: Some(at), .. }) = &mut inner.failure {
            let now = clock.monotonic();
            if now >= *at && inner.jump_ms.is_none() {
                if let Some(Failure::Log { retry_at, .. }) = &mut inner.failure {
                    *retry_at = Some(now.saturating_add(RETRY_EVERY));
                }
                return Ok(Pass { probe: true });
            }
        }
        Ok(Pass { probe: false })
    }

    /// A drain may have begun since [`Gate::enter`].
    pub(crate) fn still_open(&self) -> Result<(), WriteError> {
        let inner = self.lock();
        match inner.phase {
            Phase::Running => Ok(()),
            _ => Err(WriteError::Draining { state: inner.state() }),
        }
    }

    /// The archive that acknowledgements wait for does this.
    pub(crate) fn archive(&self, problem: Option<String>) {
        if self.lock().archive != problem {
            self.change(|inner| inner.archive = problem);
        }
    }

    /// Whether the archive takes anything, if acknowledgements wait for it.
    pub(crate) fn archived(&self) -> Result<(), WriteError> {
        self.lock().archived()
    }

    /// Why a write that has entered cannot go on; the phase does not matter to it any more.
    pub(crate) fn broken(&self, pass: Pass) -> Option<WriteError> {
        self.lock().broken(pass)
    }

    /// Compares the clocks; from the moment they differ too much, writes stop.
    pub(crate) fn check_clock(&self, clock: &dyn Clock) {
        let offset = clock_offset_ms(clock);
        let inner = self.lock();
        let by_ms = offset.saturating_sub(inner.clock_offset_ms);
        let jumped = u128::from(by_ms.unsigned_abs()) > CLOCK_JUMP_MAX.as_millis();
        let known = inner.jump_ms.is_some();
        drop(inner);
        if jumped && !known {
            tracing::error!(by_ms, "the wall clock jumped: writes stop until acknowledged");
            self.change(|inner| inner.jump_ms = Some(by_ms));
        }
    }

    /// An operator says that the wall clock is right now; how far it had jumped, if it had.
    pub(crate) fn acknowledge_clock(&self, clock: &dyn Clock) -> Option<i64> {
        let offset = clock_offset_ms(clock);
        self.change(|inner| {
            inner.clock_offset_ms = offset;
            inner.jump_ms.take()
        })
    }
}

impl Inner {
    fn state(&self) -> NodeState {
        match self.phase {
            Phase::Starting => NodeState::Starting,
            Phase::Recovering => NodeState::Recovering,
            Phase::Running
                if self.failure.is_some() || self.jump_ms.is_some() || self.archive.is_some() =>
            {
                NodeState::ReadOnly
            }
            Phase::Running if self.standby.is_some() => NodeState::Standby,
            Phase::Running if self.fenced.is_some() => NodeState::ReadOnly,
            Phase::Running => NodeState::Ready,
            Phase::Draining => NodeState::Draining,
            Phase::Drained => NodeState::Drained,
            Phase::Stopped => NodeState::Stopped,
        }
    }

    fn reason(&self) -> Option<NodeReason> {
        if let Some(failure) = &self.failure {
            let (code, detail) = match failure {
                Failure::Log { reason, .. } => ("wal_unavailable", reason),
                Failure::Index { reason } => ("index_failed", reason),
                Failure::Recovery { reason } => ("recovery_failed", reason),
            };
            return Some(NodeReason { code, detail: detail.clone() });
        }
        if let Some(detail) = &self.fenced {
            return Some(NodeReason { code: "fenced", detail: detail.clone() });
        }
        if let Some(by_ms) = self.jump_ms {
            let detail = format!("the wall clock left the monotonic clock by {by_ms} ms");
            return Some(NodeReason { code: "clock_jump", detail });
        }
        let detail = self.archive.clone()?;
        Some(NodeReason { code: "archive_unavailable", detail })
    }

    fn archived(&self) -> Result<(), WriteError> {
        match &self.archive {
            None => Ok(()),
            Some(reason) => Err(WriteError::ArchiveUnavailable { reason: reason.clone() }),
        }
    }

    fn broken(&self, pass: Pass) -> Option<WriteError> {
        match &self.failure {
            Some(Failure::Log { reason, retry_at }) if !(pass.probe && retry_at.is_some()) => {
                return Some(WriteError::WalUnavailable {
                    outcome: Outcome::NotWritten,
                    reason: reason.clone(),
                });
            }
            Some(Failure::Index { reason } | Failure::Recovery { reason }) => {
                let reason = reason.clone();
                return Some(WriteError::IndexFailed { position: None, reason });
            }
            Some(Failure::Log { .. }) | None => {}
        }
        if let Some(reason) = &self.fenced {
            return Some(WriteError::Fenced { reason: reason.clone() });
        }
        self.jump_ms.map(|by_ms| WriteError::ClockJump { by_ms })
    }
}

fn clock_offset_ms(clock: &dyn Clock) -> i64 {
    let monotonic = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
    clock.now_ms().saturating_sub(monotonic)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stemedb_io::sim::SimClock;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn who_waits_for_a_state_waits_also_after_a_failed_replay() {
        let gate = Arc::new(Gate::new(&SimClock::new(0), false));
        gate.fail(Failure::Recovery { reason: "no room".into() });
        assert!(gate.wait_replayed(LONG));
        let later = Arc::clone(&gate);
        let stop = std::thread::spawn(move || later.set_phase(Phase::Stopped));
        assert!(gate.wait_until(LONG, |state| state == NodeState::Stopped));
        stop.join().unwrap();
    }

    #[test]
    fn the_log_mends_what_the_log_broke() {
        let gate = Gate::new(&SimClock::new(0), false);
        gate.set_phase(Phase::Running);
        gate.fail(Failure::Log { reason: "EIO".into(), retry_at: None });
        gate.fail(Failure::Index { reason: "EIO".into() });
        gate.log_works();
        assert_eq!(gate.state_and_reason().1.unwrap().code, "index_failed");
        gate.index_works();
        assert_eq!(gate.state(), NodeState::Ready);
    }
}
