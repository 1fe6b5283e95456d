//! The thread that looks at the clocks: deadlines, a log that hangs, a wall clock that jumps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use stemedb_log::{LogState, Outcome};

use crate::config::APPEND_STALL_MAX;
use crate::fates::Fate;
use crate::node::{Failure, NodeState};
use crate::shared::Shared;
use crate::slot::{Item, Verdict};
use crate::submission::WriteError;
use crate::waiters::Ticket;

/// Deadlines are kept to about this.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// What is durable is readable within this time, or something else is wrong.
const APPLY_MAX: Duration = Duration::from_millis(500);

/// Ends the watchdog.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    /// True once rung; else after the time between two looks.
    fn wait(&self) -> bool {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |_: &mut ()| !self.rung.load(Ordering::Relaxed);
        drop(self.bell.wait_timeout_while(guard, LOOK_EVERY, silent));
        self.rung.load(Ordering::Relaxed)
    }
}

pub(crate) fn run(shared: &Arc<Shared>, bell: &Bell) {
    while !bell.wait() {
        let now = shared.clock.monotonic();
        shared.waiters.release(now, "the deadline passed while the write was on its way");
        shared.gate.check_clock(&*shared.clock);
        if let Some(fence) = &shared.config.fence {
            shared.gate.fence(fence.check());
        }
        // The log's own threads may have found the medium failing while nobody wrote.
        if matches!(shared.log.state(), LogState::ReadOnly { .. })
            && shared.gate.state() == NodeState::Ready
        {
            shared.gate.follow(&*shared.log);
        }
        let hung = {
            let mut appending = shared.appending();
            match &mut *appending {
                Some(appending)
                    if !appending.given_up
                        && now.saturating_sub(appending.since) > APPEND_STALL_MAX =>
                {
                    appending.given_up = true;
                    // Under the lock: the committer settles these once the append returns.
                    shared.fates.set(appending.ids.iter().map(|id| (*id, Fate::Undecided)));
                    Some(std::mem::take(&mut appending.tickets))
                }
                _ => None,
            }
        };
        if let Some(tickets) = hung {
            give_up(shared, tickets);
        }
        shared.pulse.beat();
    }
}

/// Sends away those who wait for a group that the log hangs over, or keeps undecided, and what is
/// queued behind it. It may come back: the committer opens the gate when the group is durable.
fn give_up(shared: &Shared, tickets: Vec<(Ticket, Outcome)>) {
    let silent = format!("the log has not answered for {:.1} s", APPEND_STALL_MAX.as_secs_f32());
    // A log that failed has said why.
    let (_, reason) = shared.gate.state_and_reason();
    let reason = reason.filter(|reason| reason.code == "wal_unavailable");
    let reason = reason.map_or(silent, |reason| reason.detail);
    tracing::error!(reason, "giving up the waiters");
    shared.gate.fail(Failure::Log { reason: reason.clone(), retry_at: None });
    let unavailable = |outcome| WriteError::WalUnavailable { outcome, reason: reason.clone() };
    let durable = shared.give_up_open_group(shared.cut(), &unavailable(Outcome::NotWritten));
    copies_of_durable(shared, durable);
    let answers = tickets.into_iter();
    shared.waiters.answer_all(answers.map(|(ticket, outcome)| (ticket, Err(unavailable(outcome)))));
}

/// Answers copies whose first is durable: that it is there, once it can be read. The log does not
/// hold the applier up, so that is soon, unless the index has failed as well.
fn copies_of_durable(shared: &Shared, copies: Vec<Item>) {
    let first = |item: &Item| match item.verdict {
        Verdict::Echo(position) => Some(position),
        Verdict::Record(_) | Verdict::Refused(_) => None,
    };
    let Some(last) = copies.iter().filter_map(first).max() else {
        return;
    };
    let readable = shared.applied.wait_for(last, APPLY_MAX, || false).position();
    let answers = copies.into_iter().map(|item| {
        let id = item.queued.id();
        let answer = match first(&item) {
            Some(position) if position <= readable => shared.exists(id, position),
            _ => Err(WriteError::Undecided { id }),
        };
        (item, answer)
    });
    shared.acknowledge(answers.collect());
}
