//! What the threads of one engine have in common.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use stemedb_index::Index;
use stemedb_io::Clock;
use stemedb_log::{LogReader, Outcome};
use stemedb_model::{LogId, Position, RecordId, Timeline};

use crate::applied::Applied;
use crate::archiving::Archiving;
use crate::config::EngineConfig;
use crate::fates::Fates;
use crate::first_seen::FirstSeen;
use crate::intake::{Intake, Queued};
use crate::node::{Failure, Gate};
use crate::pulse::Pulse;
use crate::rebuild::Rebuild;
use crate::slot::{Item, Slot, Verdict};
use crate::submission::{Ack, AckStatus, WriteError};
use crate::trust::Tables;
use crate::waiters::{Ticket, Waiters};

pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) clock: Arc<dyn Clock>,
    /// The one in use.
    pub(crate) index: RwLock<Arc<Index>>,
    /// Why it takes nothing more. Whoever applies, or changes the index for another, holds this.
    pub(crate) index_failed: Mutex<Option<String>>,
    pub(crate) rebuild: Mutex<Option<Rebuild>>,
    pub(crate) log: Arc<dyn LogReader>,
    pub(crate) log_id: LogId,
    pub(crate) timeline: Timeline,
    pub(crate) gate: Gate,
    pub(crate) waiters: Waiters,
    pub(crate) intake: Intake,
    pub(crate) slot: Slot,
    pub(crate) applied: Applied,
    pub(crate) fates: Fates,
    pub(crate) first_seen: FirstSeen,
    pub(crate) trust: Tables,
    pub(crate) appending: Mutex<Option<Appending>>,
    pub(crate) pulse: Pulse,
    /// The archive of the log, if there is one.
    pub(crate) archiving: OnceLock<Archiving>,
    /// The engine is being closed: replay ends early.
    pub(crate) stopping: AtomicBool,
}

/// The group that the log has in hand.
pub(crate) struct Appending {
    pub(crate) since: Duration,
    pub(crate) ids: Vec<RecordId>,
    /// Position that admission gave to the last of them.
    pub(crate) last: Position,
    /// Who waits for it, and what may be told if it stays undecided.
    pub(crate) tickets: Vec<(Ticket, Outcome)>,
    /// Everything in the group, with what only waits for its records.
    pub(crate) items: usize,
    /// It took so long that its waiters were sent away.
    pub(crate) given_up: bool,
    /// The append failed, and the log keeps the group: it is not at work on it.
    pub(crate) held: bool,
}

impl Appending {
    /// A seal: it holds the log up, and no record is in it.
    pub(crate) fn seal(since: Duration, durable: Position) -> Self {
        Self {
            since,
            ids: Vec::new(),
            last: durable,
            tickets: Vec::new(),
            items: 0,
            given_up: false,
            held: false,
        }
    }
}

/// What is known of records that were admitted and will not be acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Up to here, durable.
    pub(crate) durable: Position,
    /// From there up to here, undecided; after it, not written.
    pub(crate) undecided: Position,
}

impl Shared {
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another index is in use from now on; the one that was.
    pub(crate) fn use_index(&self, index: Arc<Index>) -> Arc<Index> {
        std::mem::replace(&mut self.index.write().unwrap_or_else(PoisonError::into_inner), index)
    }

    pub(crate) fn index_failed(&self) -> MutexGuard<'_, Option<String>> {
        self.index_failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody found that the index takes nothing more. Without writes the applier would not: then it
    /// is told before a record is made durable that cannot be read.
    pub(crate) fn fail_index(&self, index: &Arc<Index>, reason: String) {
        let mut failed = self.index_failed();
        // Another may be in use by now.
        if failed.is_none() && Arc::ptr_eq(index, &self.index()) {
            tracing::error!(reason, "the index failed");
            self.gate.fail(Failure::Index { reason: reason.clone() });
            *failed = Some(reason);
        }
    }

    /// Asks the fence. What it says is the state of the node from then on.
    pub(crate) fn fenced(&self) -> Option<WriteError> {
        let reason = self.config.fence.as_ref()?.check().err()?;
        self.gate.fence(Err(reason.clone()));
        Some(WriteError::Fenced { reason })
    }

    pub(crate) fn appending(&self) -> MutexGuard<'_, Option<Appending>> {
        self.appending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that nobody waits for any more, though they are not decided.
    pub(crate) fn given_up(&self) -> usize {
        self.appending().as_ref().filter(|group| group.given_up).map_or(0, |group| group.items)
    }

    /// What is decided now. While the gate is shut it only grows.
    pub(crate) fn cut(&self) -> Cut {
        // In this order: a group that has left the log's hand is durable before it leaves.
        let in_hand = self.appending().as_ref().map(|appending| appending.last);
        let (durable, _) = self.log.durable();
        Cut { durable, undecided: in_hand.map_or(durable, |last| last.max(durable)) }
    }

    /// Answers one that was let in.
    pub(crate) fn finish(&self, queued: &Queued, result: Result<Ack, WriteError>) {
        let result = result.and_then(|ack| self.fenced().map_or(Ok(ack), Err));
        self.intake.decided(&[queued.id()]);
        self.waiters.answer(queued.ticket, result);
        self.intake.finished(1);
    }

    /// Answers many, in order. What is durable and readable here is acknowledged only while no other
    /// node may write: asked after the sync and all that took time, before anybody is told.
    pub(crate) fn finish_all(&self, mut answers: Vec<(Item, Result<Ack, WriteError>)>) {
        if answers.is_empty() {
            return;
        }
        if answers.iter().any(|(_, result)| result.is_ok())
            && let Some(error) = self.fenced()
        {
            let good = answers.iter_mut().map(|(_, result)| result).filter(|one| one.is_ok());
            let records = good.map(|result| *result = Err(error.clone())).count();
            tracing::error!(%error, records, "not acknowledged");
        }
        let ids: Vec<RecordId> = answers.iter().map(|(item, _)| item.queued.id()).collect();
        self.intake.decided(&ids);
        self.waiters
            .answer_all(answers.into_iter().map(|(item, result)| (item.queued.ticket, result)));
        self.intake.finished(ids.len());
    }

    /// Begins a new generation: what is in the open group is given up, and answered with
    /// [`Shared::refuse`]. The gate must be shut before.
    pub(crate) fn give_up_open_group(&self, cut: Cut, error: &WriteError) -> Vec<Item> {
        let group = self.slot.give_up();
        self.applied.nudge();
        self.refuse(group.items, cut, error)
    }

    /// Answers items that will not be acknowledged, each by what is known of its record. `error`
    /// is what is said of records that were not written. Gives back those whose record is durable:
    /// they are still answered by the applier.
    pub(crate) fn refuse(&self, items: Vec<Item>, cut: Cut, error: &WriteError) -> Vec<Item> {
        let of_durable = |item: &Item| matches!(item.verdict, Verdict::Echo(position) if position <= cut.durable);
        let (durable, lost): (Vec<_>, Vec<_>) = items.into_iter().partition(of_durable);
        let answer = |item: Item| {
            let error = match &item.verdict {
                Verdict::Record(position) | Verdict::Echo(position)
                    if *position <= cut.undecided =>
                {
                    let reason = match error {
                        WriteError::WalUnavailable { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    };
                    WriteError::WalUnavailable { outcome: Outcome::Indeterminate, reason }
                }
                _ => error.clone(),
            };
            (item, Err(error))
        };
        self.finish_all(lost.into_iter().map(answer).collect());
        durable
    }

    /// The acknowledgement of a record that was there before.
    pub(crate) fn exists(&self, id: RecordId, position: Position) -> Result<Ack, WriteError> {
        let entry = self.applied.newest().entry(position).map_err(|error| index_error(&error))?;
        let Some(entry) = entry else {
            let reason = format!("record {id} is at position {position}, which the index lacks");
            return Err(WriteError::IndexFailed { position: Some(position), reason });
        };
        Ok(Ack { id, position, recorded_at: entry.recorded_at, status: AckStatus::Exists })
    }
}

/// A failed look into the index during admission: nothing was written.
pub(crate) fn index_error(error: &dyn std::fmt::Display) -> WriteError {
    WriteError::IndexFailed { position: None, reason: error.to_string() }
}
