//! The thread that owns the log: one group, one append, one sync.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use stemedb_log::{Commit, Log, LogError, LogState, NewEntry, Outcome};
use stemedb_model::{Position, RecordId};

use crate::config::{APPEND_SLOW, RESUME_EVERY, RETRY_EVERY};
use crate::fates::Fate;
use crate::metrics::{self, Operation};
use crate::node::{Failure, Pass};
use crate::shared::{Appending, Cut, Shared};
use crate::slot::{Command, Group, Item, Next, Order, Verdict};
use crate::submission::WriteError;

/// A group on its way to the applier.
pub(crate) struct Durable {
    pub(crate) items: Vec<Item>,
    /// Absent if no record of it entered the log.
    pub(crate) commit: Option<Commit>,
}

pub(crate) struct Committer {
    shared: Arc<Shared>,
    log: Box<dyn Log>,
    applier: SyncSender<Durable>,
    /// Something was appended since the last seal.
    unsealed: bool,
    /// What the log keeps, undecided, since the medium failed under it.
    held: Option<Group>,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        log: Box<dyn Log>,
        applier: SyncSender<Durable>,
    ) -> Self {
        Self { shared, log, applier, unsealed: false, held: None }
    }

    /// Until the slot is closed and empty. Drops the log and the way to the applier at the end.
    pub(crate) fn run(mut self) {
        loop {
            let next = if self.held.is_some() {
                self.shared.slot.next_order(RESUME_EVERY)
            } else {
                // No timer under load: the wait ends as soon as there is a record.
                let rest = self.unsealed.then_some(self.shared.config.idle_seal);
                let idle = if self.writable() { rest } else { Some(RESUME_EVERY) };
                self.shared.slot.next(idle)
            };
            match next {
                Next::Commit(group) => self.commit(group),
                Next::Idle if !self.writable() => self.try_again(),
                Next::Idle => {
                    // Its failure is the log's, and said by the gate.
                    let _ = self.seal();
                }
                Next::Obey(order) => self.obey(order),
                Next::Stop => return self.leave(),
            }
        }
    }

    fn writable(&self) -> bool {
        matches!(self.shared.log.state(), LogState::Ok | LogState::Degraded { .. })
    }

    fn obey(&mut self, Order { command, reply }: Order) {
        let result = match command {
            Command::Seal => self.seal().map(|()| None),
            Command::Detach => self.log.detach().map(|()| None),
            Command::Attach => self.log.attach().map(|commit| {
                self.resumed(commit);
                None
            }),
            Command::Acknowledge => Ok(self.log.acknowledge()),
        };
        self.tell_gate();
        // Nobody listens any more when the bound has passed.
        let _ = reply.send(result);
    }

    /// The log takes no writes: asks it whether it can again.
    fn try_again(&mut self) {
        if let Ok(commit) = self.log.resume() {
            self.resumed(commit);
        }
        self.tell_gate();
    }

    /// The log takes writes again, or has at least decided what it kept.
    fn resumed(&mut self, commit: Option<Commit>) {
        let Some(group) = self.held.take() else { return };
        let first = group.positions().map(|(first, _)| first);
        match commit {
            Some(commit) if Some(commit.first) == first => self.durable(group, commit),
            // The contract of the log: what it keeps is made durable before anything else.
            other => {
                let reason = format!("the log kept a group for {first:?} and put it at {other:?}");
                tracing::error!(reason, "an undecided group was not kept");
                self.held = Some(group);
                self.shared.gate.fail(Failure::Log { reason, retry_at: None });
            }
        }
    }

    /// The gate says of the log what the log says of itself.
    fn tell_gate(&self) {
        match self.shared.log.state() {
            LogState::Ok | LogState::Degraded { .. } if self.held.is_none() => {
                self.shared.gate.log_works();
            }
            _ => self.shared.gate.follow(&*self.shared.log),
        }
    }

    /// The end: whoever still waits hears that it is not known.
    fn leave(mut self) {
        let Some(group) = self.held.take() else { return };
        let reason = "the node stops while the log cannot make bytes durable".to_owned();
        let error = WriteError::Indeterminate { reason };
        let answers = group.items.into_iter().map(|item| (item, Err(error.clone())));
        self.shared.finish_all(answers.collect());
        self.shared.appending().take();
    }

    fn commit(&mut self, mut group: Group) {
        let shared = Arc::clone(&self.shared);
        let Some((first, last)) = group.positions() else {
            return self.forward(group.items, None);
        };
        // Copies of what is durable already: whatever becomes of this group is not about them.
        self.forward(group.take_echoes_before(first), None);
        let since = shared.clock.monotonic();
        let ids = ids_of(&group).collect();
        let tickets = group.items.iter().map(|item| {
            let outcome = match item.verdict {
                Verdict::Record(_) | Verdict::Echo(_) => Outcome::Indeterminate,
                Verdict::Refused(_) => Outcome::NotWritten,
            };
            (item.queued.ticket, outcome)
        });
        let tickets = tickets.collect();
        let items = group.items.len();
        // Before the look at the gate: whoever shuts it knows of this group, or stops it.
        *shared.appending() =
            Some(Appending { since, ids, tickets, items, last, given_up: false, held: false });
        // The log stamps the time: not one more record after the clock has jumped.
        shared.gate.check_clock(&*shared.clock);
        // Nor one that nobody could acknowledge.
        let _ = shared.fenced();
        if let Some(error) = shared.gate.broken(Pass { probe: group.probe() }) {
            shared.appending().take();
            return self.give_up(group.items, shared.cut(), &error);
        }
        let result = self.log.append(&group.entries);
        let took = shared.clock.monotonic().saturating_sub(since);
        metrics::operation(Operation::Append, took, result.is_err());
        if took > APPEND_SLOW {
            let records = group.entries.len();
            tracing::warn!(?took, records, "the log took long to make a group durable");
        }
        match result {
            Ok(commit) if commit.first == first => {
                self.durable(group, commit);
                self.tell_gate();
            }
            Ok(commit) => {
                // Not ours to sort out while running: the next start replays what is there.
                let reason = format!(
                    "the log put a group at position {}, expected {first}: another writer?",
                    commit.first
                );
                let failure = Failure::Log { reason: reason.clone(), retry_at: None };
                let durable = Position(first.0.saturating_sub(1));
                self.lost(group, Cut { durable, undecided: last }, failure, reason);
            }
            Err(error) if error.outcome() == Outcome::Indeterminate => self.hold(group, &error),
            Err(error) => {
                let durable = Position(first.0.saturating_sub(1));
                let failure = self.failure(&error);
                let cut = Cut { durable, undecided: durable };
                self.lost(group, cut, failure, error.to_string());
            }
        }
    }

    fn durable(&mut self, group: Group, commit: Commit) {
        self.shared.appending().take();
        self.unsealed = true;
        self.forward(group.items, Some(commit));
    }

    /// The medium failed, and the log keeps the group. Its waiters wait on: until the log has
    /// decided, until their deadline, or until the watchdog sends them away. New writes are refused
    /// at once; those of the open group wait as well.
    fn hold(&mut self, group: Group, error: &LogError) {
        // What is undecided is known as such before the gate says anything about the rest.
        self.shared.fates.set(ids_of(&group).map(|id| (id, Fate::Undecided)));
        if let Some(appending) = &mut *self.shared.appending() {
            appending.held = true;
        }
        self.shared.gate.fail(self.failure(error));
        self.shared.applied.nudge();
        self.held = Some(group);
    }

    /// What an error of the log means for the gate.
    fn failure(&self, error: &LogError) -> Failure {
        let shared = &self.shared;
        let state = shared.log.state();
        // Nothing was written and the log says it goes on: no room for a segment, mostly.
        let passing = error.outcome() == Outcome::NotWritten
            && matches!(state, LogState::Ok | LogState::Degraded { .. });
        let retry_at = passing.then(|| shared.clock.monotonic().saturating_add(RETRY_EVERY));
        tracing::error!(%error, ?state, retry = passing, "the log refused a write");
        Failure::Log { reason: error.to_string(), retry_at }
    }

    /// The append of `group` failed.
    fn lost(&mut self, group: Group, cut: Cut, failure: Failure, reason: String) {
        let shared = &self.shared;
        // What is undecided is known as such before the gate says anything about the rest, and
        // before the log's hand is empty: nobody is told `not_written` of it.
        let ids = ids_of(&group);
        if cut.undecided > cut.durable {
            shared.fates.set(ids.map(|id| (id, Fate::Undecided)));
        } else {
            shared.fates.settle(ids);
        }
        if shared.appending().take().is_some_and(|appending| appending.given_up) {
            // What the watchdog said was of the hang; that is over, and this is new.
            shared.gate.log_works();
        }
        shared.gate.fail(failure);
        let error = WriteError::WalUnavailable { outcome: Outcome::NotWritten, reason };
        self.give_up(group.items, cut, &error);
    }

    /// Answers a group that is not made durable, and the open one behind it. The gate is shut.
    fn give_up(&mut self, items: Vec<Item>, cut: Cut, error: &WriteError) {
        let mut durable = self.shared.refuse(items, cut, error);
        durable.extend(self.shared.give_up_open_group(cut, error));
        self.forward(durable, None);
    }

    fn forward(&mut self, items: Vec<Item>, commit: Option<Commit>) {
        if items.is_empty() {
            return;
        }
        if let Err(unsent) = self.applier.send(Durable { items, commit }) {
            // The applier ended early: it panicked. Nothing can be acknowledged any more.
            let reason = "the applier thread is gone".to_owned();
            self.shared.gate.fail(Failure::Index { reason: reason.clone() });
            let answer = |item: Item| {
                let position = match item.verdict {
                    Verdict::Record(position) | Verdict::Echo(position) => Some(position),
                    Verdict::Refused(_) => None,
                };
                let reason = reason.clone();
                (item, Err(WriteError::IndexFailed { position, reason }))
            };
            self.shared.finish_all(unsent.0.items.into_iter().map(answer).collect());
        }
    }

    fn seal(&mut self) -> Result<(), LogError> {
        let since = self.shared.clock.monotonic();
        // For the watchdog: a sync that hangs under a seal keeps writers waiting like any other.
        *self.shared.appending() = Some(Appending::seal(since, self.shared.log.durable().0));
        let result = self.log.seal();
        self.shared.appending().take();
        let took = self.shared.clock.monotonic().saturating_sub(since);
        metrics::operation(Operation::Seal, took, result.is_err());
        // Once per rest, whether it went well or not.
        self.unsealed = false;
        self.tell_gate();
        result
    }
}

fn ids_of(group: &Group) -> impl Iterator<Item = RecordId> {
    group.entries.iter().map(|entry: &NewEntry| entry.id)
}
