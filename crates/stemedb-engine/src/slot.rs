//! Where the next group fills while the committer makes the last one durable.
//!
//! The slot has a *generation*. Admission runs ahead of durability: it hands out positions and
//! folds registries for records that may never become durable. Whoever gives such records up takes
//! the open group and begins a new generation; what the sequencer derived from the old one then no
//! longer fits in here, and it starts anew from what was applied.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_log::{LogError, NewEntry};
use stemedb_model::Position;

use crate::intake::Queued;
use crate::submission::WriteError;

/// One submission with what admission decided, answered in order.
pub(crate) struct Item {
    pub(crate) queued: Queued,
    pub(crate) verdict: Verdict,
}

/// What admission decided.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// It enters the log, there.
    Record(Position),
    /// The first copy of it is on its way to this position.
    Echo(Position),
    /// A refusal that may rest on records still on their way: told when those are durable, since
    /// without them it might not have been one.
    Refused(Box<WriteError>),
}

/// What one append makes durable, and everything that is answered after it.
#[derive(Default)]
pub(crate) struct Group {
    /// In the order of arrival.
    pub(crate) items: Vec<Item>,
    /// The records among them, as the log takes them.
    pub(crate) entries: Vec<NewEntry>,
    bytes: usize,
}

impl Group {
    /// Positions that admission gave to its records, first and last.
    pub(crate) fn positions(&self) -> Option<(Position, Position)> {
        let mut records = self.items.iter().filter_map(|item| match item.verdict {
            Verdict::Record(position) => Some(position),
            Verdict::Echo(_) | Verdict::Refused(_) => None,
        });
        let first = records.next()?;
        Some((first, records.next_back().unwrap_or(first)))
    }

    /// The copies of records before `first`, in order. Costs nothing where there are none.
    pub(crate) fn take_echoes_before(&mut self, first: Position) -> Vec<Item> {
        let of_earlier =
            |item: &mut Item| matches!(item.verdict, Verdict::Echo(position) if position < first);
        self.items.extract_if(.., of_earlier).collect()
    }

    /// Whether a record in it was let through to try a log that had failed.
    pub(crate) fn probe(&self) -> bool {
        self.items.iter().any(|item| item.queued.pass.probe)
    }
}

/// What an operator, or a drain, asks of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Seal,
    Detach,
    Attach,
    Acknowledge,
}

/// A command and where its result goes: a word about it, or why it failed.
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) reply: SyncSender<Result<Option<String>, LogError>>,
}

/// What the committer has to do next.
pub(crate) enum Next {
    Commit(Group),
    /// Nothing came for a while.
    Idle,
    Obey(Order),
    Stop,
}

pub(crate) struct Slot {
    records_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
    filled: Condvar,
    taken: Condvar,
}

#[derive(Default)]
struct Inner {
    group: Group,
    generation: u64,
    orders: VecDeque<Order>,
    closed: bool,
}

impl Slot {
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            records_max,
            bytes_max,
            inner: Mutex::default(),
            filled: Condvar::new(),
            taken: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Puts an item into the open group; blocks while that is full. Gives the item back if its
    /// generation is over. `entry` comes with a record.
    pub(crate) fn push(
        &self,
        generation: u64,
        item: Item,
        entry: Option<NewEntry>,
    ) -> Result<(), Item> {
        let bytes = entry.as_ref().map_or(0, NewEntry::encoded_len);
        let full = |inner: &mut Inner| {
            inner.generation == generation
                && !inner.group.items.is_empty()
                && (inner.group.items.len() >= self.records_max
                    || inner.group.bytes + bytes > self.bytes_max)
        };
        let mut inner =
            self.taken.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if inner.generation != generation {
            return Err(item);
        }
        let group = &mut inner.group;
        if let Some(entry) = entry {
            group.entries.push(entry);
            group.bytes += bytes;
        }
        group.items.push(item);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Blocks until there is something to do; with `idle`, at most that long.
    pub(crate) fn next(&self, idle: Option<Duration>) -> Next {
        let nothing = |inner: &mut Inner| {
            inner.group.items.is_empty() && inner.orders.is_empty() && !inner.closed
        };
        let mut inner = match idle {
            None => self.filled.wait_while(self.lock(), nothing),
            Some(idle) => self
                .filled
                .wait_timeout_while(self.lock(), idle, nothing)
                .map(|(inner, _)| inner)
                .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0)),
        }
        .unwrap_or_else(PoisonError::into_inner);
        if !inner.group.items.is_empty() {
            let group = std::mem::take(&mut inner.group);
            drop(inner);
            self.taken.notify_all();
            return Next::Commit(group);
        }
        inner.obey_or_rest()
    }

    /// The same without taking the group: for a committer whose log has one in hand already.
    pub(crate) fn next_order(&self, idle: Duration) -> Next {
        let nothing = |inner: &mut Inner| inner.orders.is_empty() && !inner.closed;
        let (mut inner, _) = self
            .filled
            .wait_timeout_while(self.lock(), idle, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        inner.obey_or_rest()
    }

    /// Gives up what has not been taken and begins a new generation.
    pub(crate) fn give_up(&self) -> Group {
        let mut inner = self.lock();
        inner.generation += 1;
        let group = std::mem::take(&mut inner.group);
        drop(inner);
        self.taken.notify_all();
        group
    }

    /// Asks the committer for something, once the open group is durable.
    pub(crate) fn order(&self, order: Order) {
        self.lock().orders.push_back(order);
        self.filled.notify_one();
    }

    /// Ends the committer once the group is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }
}

impl Inner {
    fn obey_or_rest(&mut self) -> Next {
        match self.orders.pop_front() {
            Some(order) => Next::Obey(order),
            None if self.closed => Next::Stop,
            None => Next::Idle,
        }
    }
}
