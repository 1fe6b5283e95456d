//! Who waits for an answer. Each reply is called exactly once, by whoever takes it out first: the
//! pipeline with the outcome, or the watchdog when the deadline passes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics;
use crate::submission::{Ack, WriteError};

/// What a waiter is told through.
pub(crate) type Reply = Box<dyn FnOnce(Result<Ack, WriteError>) + Send>;

/// Names a waiter. Ordered by deadline, so that expired ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    deadline: Duration,
    number: u64,
}

#[derive(Default)]
pub(crate) struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    replies: BTreeMap<Ticket, Reply>,
    next: u64,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without a deadline, only the pipeline answers, and the watchdog when the log hangs.
    pub(crate) fn add(&self, deadline: Option<Duration>, reply: Reply) -> Ticket {
        let mut inner = self.lock();
        let ticket = Ticket { deadline: deadline.unwrap_or(Duration::MAX), number: inner.next };
        inner.next += 1;
        inner.replies.insert(ticket, reply);
        ticket
    }

    /// Tells a waiter, unless it was told before.
    pub(crate) fn answer(&self, ticket: Ticket, result: Result<Ack, WriteError>) {
        // Called without the lock: a reply may take its time, or submit again.
        let reply = self.lock().replies.remove(&ticket);
        if let Some(reply) = reply {
            tell(reply, result);
        }
    }

    /// Tells many, under one lock, in order.
    pub(crate) fn answer_all(
        &self,
        answers: impl IntoIterator<Item = (Ticket, Result<Ack, WriteError>)>,
    ) {
        let mut inner = self.lock();
        let told: Vec<_> = answers
            .into_iter()
            .filter_map(|(ticket, result)| Some((inner.replies.remove(&ticket)?, result)))
            .collect();
        drop(inner);
        for (reply, result) in told {
            tell(reply, result);
        }
    }

    /// Tells all whose deadline has passed at `now` that nothing was decided in time; with
    /// `Duration::MAX`, everybody.
    pub(crate) fn release(&self, now: Duration, reason: &str) {
        let mut inner = self.lock();
        let later = match now {
            Duration::MAX => BTreeMap::new(),
            now => inner.replies.split_off(&Ticket { deadline: now, number: u64::MAX }),
        };
        let expired = std::mem::replace(&mut inner.replies, later);
        drop(inner);
        for reply in expired.into_values() {
            tell(reply, Err(WriteError::Indeterminate { reason: reason.into() }));
        }
    }
}

fn tell(reply: Reply, result: Result<Ack, WriteError>) {
    if let Err(error) = &result {
        metrics::rejected(error);
    }
    reply(result);
}
