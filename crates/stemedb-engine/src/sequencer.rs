//! Admission: one thread decides, in order, what enters the log and where.
//!
//! It runs ahead of durability. It hands out the next position, folds a registry of its own, and
//! keeps the heads of the records in flight, so that a record may refer to one just before it in
//! the same group. Two questions cannot be answered from that and wait at a *barrier* until all
//! that was admitted is applied:
//! - the tier of an assertion, which a curator's retraction or supersession of another's record
//!   asks for: it rests on premises and registries as of now;
//! - everything, after records were given up: then all that was derived is thrown away and begins
//!   anew from the index.
//!
//! All other kinds go through without waiting.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use stemedb_index::Snapshot;
use stemedb_log::NewEntry;
use stemedb_model::{Hash, Head, Known, Position, RecordId, Registry, Tier, admit};

use crate::fates::Fate;
use crate::intake::Queued;
use crate::recent::Recent;
use crate::shared::{Shared, index_error};
use crate::slot::{Item, Verdict};
use crate::submission::{Ack, Submission, WriteError};

/// Taken from the queue at once; the snapshot is as old as that, which only costs look-ups.
const BATCH: usize = 256;
/// A barrier asks again whether it still makes sense after this time, at the latest.
const BARRIER_CHECK: Duration = Duration::from_millis(100);
/// How often it is asked what became of a record that the log has in hand.
const DECISION_CHECK: Duration = Duration::from_millis(2);

pub(crate) struct Sequencer {
    shared: Arc<Shared>,
    state: Option<State>,
}

/// What is derived from everything admitted.
struct State {
    generation: u64,
    /// Position of the newest admitted record.
    last: Position,
    /// Folded up to `last`.
    registry: Registry,
    /// Holds what the snapshot that goes with it does not.
    recent: Recent,
}

enum Decision {
    /// Known for sure, and not to be taken back by any failure.
    Now(Result<Ack, WriteError>),
    /// Known once everything admitted so far is durable.
    Later(Verdict),
    /// What it would rest on was given up meanwhile.
    Again,
}

impl Sequencer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: None }
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(batch) = shared.intake.pop(BATCH) {
            // Not held while there is nothing to do: the storage keeps what is written meanwhile.
            let mut snapshot = shared.applied.newest();
            if let Some(state) = &mut self.state {
                state.recent.prune(snapshot.position());
            }
            for queued in batch {
                self.admit(&mut snapshot, queued);
            }
        }
        shared.slot.close();
    }

    fn admit(&mut self, snapshot: &mut Snapshot, mut queued: Queued) {
        let shared = Arc::clone(&self.shared);
        loop {
            if let Some(error) = shared.gate.broken(queued.pass) {
                let result = self.refuse(&queued.id(), error);
                return shared.acknowledge_one(queued, result);
            }
            let Some(state) = self.caught_up(snapshot) else { continue };
            let verdict = match state.decide(&shared, snapshot, &queued) {
                Decision::Now(result) => return shared.acknowledge_one(queued, result),
                Decision::Later(verdict) => verdict,
                Decision::Again => continue,
            };
            let entry = matches!(verdict, Verdict::Record(_)).then(|| entry(&queued.submission));
            match shared.slot.push(state.generation, Item { queued, verdict }, entry) {
                Ok(()) => return,
                Err(item) => queued = item.queued,
            }
        }
    }

    /// The answer while nothing can be written: `error`, unless a copy of the record went before.
    fn refuse(&self, id: &RecordId, error: WriteError) -> Result<Ack, WriteError> {
        let shared = &self.shared;
        // Then nothing more is applied.
        let index_failed = matches!(error, WriteError::IndexFailed { .. });
        loop {
            // In this order: the fates of a generation are known before it ends.
            let generation = shared.slot.generation();
            match shared.fates.of(id) {
                Some(Fate::Undecided) => return Err(WriteError::Undecided { id: *id }),
                Some(Fate::Durable(position)) => {
                    let reason = error.to_string();
                    return Err(WriteError::IndexFailed { position: Some(position), reason });
                }
                None => {}
            }
            let cut = shared.cut();
            let snapshot = shared.applied.newest();
            let admitted = self.state.as_ref().and_then(|state| {
                let head = state.recent.head(id)?;
                Some((head.position, state.generation == generation))
            });
            match admitted {
                Some((position, _)) if position <= snapshot.position() => {
                    return shared.exists(*id, position);
                }
                Some((position, _)) if position <= cut.durable && index_failed => {
                    let reason = error.to_string();
                    return Err(WriteError::IndexFailed { position: Some(position), reason });
                }
                // In the open group, in the log's hand or the applier's: soon decided.
                Some((position, current)) if current || position <= cut.undecided => {
                    shared.applied.wait_for(position, DECISION_CHECK, || false);
                }
                // Given up before the log had it.
                Some(_) => return Err(error),
                None => {
                    let position = snapshot.position_of(id).map_err(|e| index_error(&e))?;
                    return position.map_or(Err(error), |position| shared.exists(*id, position));
                }
            }
        }
    }

    /// The state of the current generation; `None` when a look at the gate comes first.
    fn caught_up(&mut self, snapshot: &mut Snapshot) -> Option<&mut State> {
        let shared = &self.shared;
        let generation = shared.slot.generation();
        if self.state.as_ref().is_none_or(|state| state.generation != generation) {
            // Whoever gave records up has shut the gate before; it opens again only once what the
            // log has in hand is decided. So what is durable now is all there will be.
            let (durable, _) = shared.log.durable();
            *snapshot = shared
                .applied
                .wait_for(durable, BARRIER_CHECK, || shared.slot.generation() != generation);
            if snapshot.position() < durable {
                return None;
            }
            let last = snapshot.position();
            self.state = Some(State {
                generation,
                last,
                registry: snapshot.registry().clone(),
                recent: Recent::after(last),
            });
        }
        self.state.as_mut()
    }
}

fn entry(submission: &Submission) -> NewEntry {
    let signed = &submission.signed;
    NewEntry {
        id: signed.id(),
        signature: signed.signature(),
        principal: submission.principal.clone(),
        custodial: submission.custodial,
        idempotency: submission.idempotency,
        body: Arc::clone(signed.bytes()),
    }
}

impl State {
    /// `snapshot` holds everything that was admitted and is not in `recent`.
    fn decide(&mut self, shared: &Shared, snapshot: &mut Snapshot, queued: &Queued) -> Decision {
        match self.earlier(snapshot, queued) {
            Err(error) => return Decision::Now(Err(error)),
            Ok(Earlier::Conflict(first)) => {
                return self.refused(shared, WriteError::IdempotencyConflict { first });
            }
            Ok(Earlier::Copy(position)) => {
                if position > shared.applied.position() {
                    return Decision::Later(Verdict::Echo(position));
                }
                return Decision::Now(shared.exists(queued.submission.signed.id(), position));
            }
            Ok(Earlier::None) => {}
        }
        if queued.submission.deadline.is_some_and(|end| end <= shared.clock.monotonic()) {
            // Nobody waits any more, and it has no position yet: better not written.
            return Decision::Now(Err(WriteError::DeadlineBeforeQueue));
        }
        let signed = &queued.submission.signed;
        let position = self.last.next();
        let admitted = loop {
            let known = Overlay { state: self, snapshot, barrier: Cell::new(false) };
            let policy = &shared.config.policy;
            let result = admit(&self.registry, &known, position, signed.record(), policy);
            // The questions asked have no way to fail: a failed index is seen afterwards.
            if let Some(reason) = snapshot.failure() {
                return Decision::Now(Err(index_error(&reason)));
            }
            if !known.barrier.get() {
                break result;
            }
            if !self.wait_at_barrier(shared, snapshot, queued) {
                return Decision::Again;
            }
        };
        match admitted {
            Err(refusal) => self.refused(shared, WriteError::Refused(refusal)),
            Ok(()) => {
                self.last = position;
                self.registry.apply(position, signed.id(), signed.record());
                self.recent.add(position, &queued.submission);
                Decision::Later(Verdict::Record(position))
            }
        }
    }

    /// A refusal is told at once if all that it may rest on is durable.
    fn refused(&self, shared: &Shared, error: WriteError) -> Decision {
        if self.last <= shared.applied.position() {
            Decision::Now(Err(error))
        } else {
            Decision::Later(Verdict::Refused(Box::new(error)))
        }
    }

    /// Whether the record, or its idempotency key, was admitted before.
    fn earlier(&self, snapshot: &Snapshot, queued: &Queued) -> Result<Earlier, WriteError> {
        let id = queued.submission.signed.id();
        // The caller's thread looked into the index; what came since is mostly in memory.
        let look = queued.absent_at < self.recent.floor();
        if let Some(key) = &queued.submission.idempotency {
            let first = match self.recent.key(key) {
                None if look => first_of_key(snapshot, key)?,
                found => found,
            };
            if let Some(first) = first
                && first != id
            {
                return Ok(Earlier::Conflict(first));
            }
        }
        let position = match self.recent.head(&id) {
            Some(head) => Some(head.position),
            None if look => snapshot.position_of(&id).map_err(|e| index_error(&e))?,
            None => None,
        };
        Ok(position.map_or(Earlier::None, Earlier::Copy))
    }

    /// Waits until all that was admitted is applied, and looks from there on. False if that will
    /// not come.
    fn wait_at_barrier(&self, shared: &Shared, snapshot: &mut Snapshot, queued: &Queued) -> bool {
        while snapshot.position() < self.last {
            let given_up = || {
                shared.slot.generation() != self.generation
                    || shared.gate.broken(queued.pass).is_some()
            };
            if given_up() {
                return false;
            }
            *snapshot = shared.applied.wait_for(self.last, BARRIER_CHECK, given_up);
        }
        true
    }
}

/// The record that an idempotency key in the index stands for.
pub(crate) fn first_of_key(
    snapshot: &Snapshot,
    key: &Hash,
) -> Result<Option<RecordId>, WriteError> {
    let Some(position) = snapshot.idempotency(key).map_err(|e| index_error(&e))? else {
        return Ok(None);
    };
    snapshot.id(position).map_err(|e| index_error(&e))
}

enum Earlier {
    None,
    Copy(Position),
    Conflict(RecordId),
}

/// The records in flight over those in the index.
struct Overlay<'a> {
    state: &'a State,
    snapshot: &'a Snapshot,
    /// Asked for something that only the index can say, while it lags.
    barrier: Cell<bool>,
}

impl Known for Overlay<'_> {
    fn head(&self, id: &RecordId) -> Option<Head> {
        self.state.recent.head(id).cloned().or_else(|| self.snapshot.head(id))
    }

    fn tier(&self, id: &RecordId) -> Option<Tier> {
        if self.snapshot.position() < self.state.last {
            self.barrier.set(true);
            return None;
        }
        self.snapshot.tier(id)
    }

    fn superseded_by(&self, id: &RecordId) -> Vec<RecordId> {
        let mut newer = self.snapshot.superseded_by(id);
        newer.extend(self.state.recent.superseded_by(id));
        newer
    }
}
