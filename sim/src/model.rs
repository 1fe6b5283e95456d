//! What was promised, and whether an answer keeps it.

use std::collections::{BTreeMap, BTreeSet};

use stemedb_log::{Commit, Entry, LogError, LogReader, LostRange, NewEntry, Outcome};
use stemedb_model::{Hash, Millis, Position, RecordId};

/// What the log has promised, each in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What is acknowledged is never lost.
    Kept,
    /// What is read is what was written, at its position.
    Exact,
    /// What somebody was told is not written never appears.
    NotWritten,
    /// What was left open is decided once, whole or not at all.
    Decided,
    /// Nothing appears that was not asked for.
    Asked,
    /// Positions are dense.
    Dense,
    /// The time of a record never goes back and never changes.
    Time,
    /// The log root of a position never changes.
    Root,
    /// A start succeeds, or is refused for a reason that is true.
    Starts,
    /// What is damaged is detected, and everything else is kept.
    Repaired,
    /// A failure that can be healed is healed.
    Heals,
    /// No failure of the medium is passed over: the state says it.
    Told,
    /// Nothing goes on in what is not proved.
    Proved,
    /// An error is one that has a cause.
    Cause,
    /// Detaching closes every file.
    Detached,
    /// When the medium is whole again, the log takes writes again.
    Resumes,
}

impl Promise {
    /// In a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Self::Kept => "what is acknowledged is never lost",
            Self::Exact => "what is read is what was written",
            Self::NotWritten => "what was told not written never appears",
            Self::Decided => "what was left open is decided once, whole or not at all",
            Self::Asked => "nothing appears that was not asked for",
            Self::Dense => "positions are dense",
            Self::Time => "the time of a record never goes back and never changes",
            Self::Root => "the log root of a position never changes",
            Self::Starts => "a start succeeds or is refused for a true reason",
            Self::Repaired => "a repair keeps everything that is not damaged",
            Self::Heals => "a failure that can be healed is healed",
            Self::Told => "the state says that the medium failed",
            Self::Proved => "nothing goes on behind damage that a proof must see",
            Self::Cause => "an error has a cause",
            Self::Detached => "detaching closes every file",
            Self::Resumes => "on a whole medium the log takes writes",
        }
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// How.
    pub detail: String,
}

pub(crate) type Judged<T = ()> = Result<T, Broken>;

pub(crate) fn broken<T>(promise: Promise, detail: impl Into<String>) -> Judged<T> {
    Err(Broken { promise, detail: detail.into() })
}

/// A position.
#[derive(Debug, Clone)]
enum Slot {
    Known {
        entry: NewEntry,
        /// `None` until it is read: it was decided at a start.
        at: Option<Millis>,
    },
    /// Given up by a repair.
    Lost,
}

impl Slot {
    fn at(&self) -> Option<Millis> {
        match self {
            Self::Known { at, .. } => *at,
            Self::Lost => None,
        }
    }
}

/// Everything that was said about a log.
#[derive(Debug, Default)]
pub(crate) struct Model {
    slots: Vec<Slot>,
    /// A group of which nobody knows.
    held: Option<Vec<NewEntry>>,
    /// Records that are not in the log and never will be, with the reason.
    void: BTreeMap<RecordId, &'static str>,
    /// The newest time stamp.
    newest: Option<Millis>,
    root: Option<(Position, Hash)>,
}

impl Model {
    /// The newest position that is known to be durable.
    pub(crate) fn last(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn is_lost(&self, position: u64) -> bool {
        matches!(self.slot(position), Some(Slot::Lost))
    }

    fn slot(&self, position: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(position.checked_sub(1)?).ok()?)
    }

    fn give_up(&mut self, group: &[NewEntry], why: &'static str) {
        self.void.extend(group.iter().map(|entry| (entry.id, why)));
    }

    fn committed(&mut self, group: Vec<NewEntry>, commit: Commit) -> Judged {
        if commit.first.0 != self.last() + 1 {
            let detail = format!("a group got {}, the log ends at {}", commit.first, self.last());
            return broken(Promise::Dense, detail);
        }
        self.later(commit.recorded_at)?;
        let at = Some(commit.recorded_at);
        self.slots.extend(group.into_iter().map(|entry| Slot::Known { entry, at }));
        Ok(())
    }

    fn later(&mut self, at: Millis) -> Judged {
        if let Some(newest) = self.newest.filter(|newest| *newest > at) {
            return broken(Promise::Time, format!("{} after {}", at.0, newest.0));
        }
        self.newest = Some(at);
        Ok(())
    }

    /// The answer to an append.
    pub(crate) fn appended(
        &mut self,
        group: Vec<NewEntry>,
        answer: &Result<Commit, LogError>,
    ) -> Judged {
        match answer {
            Ok(_) if self.held.is_some() => {
                broken(Promise::Decided, "a group overtook one that is held")
            }
            Ok(commit) => self.committed(group, *commit),
            Err(error) => match error.outcome() {
                Outcome::NotWritten => {
                    self.give_up(&group, "told not written");
                    Ok(())
                }
                Outcome::Indeterminate if self.held.is_some() => {
                    broken(Promise::Decided, "two groups are open at once")
                }
                Outcome::Indeterminate => {
                    self.held = Some(group);
                    Ok(())
                }
            },
        }
    }

    /// The answer to an attempt to go on.
    pub(crate) fn continued(&mut self, answer: &Result<Option<Commit>, LogError>) -> Judged {
        match (answer, self.held.take()) {
            (Ok(Some(commit)), Some(group)) => self.committed(group, *commit),
            (Ok(Some(commit)), None) => broken(
                Promise::NotWritten,
                format!("a group was written at {} that nobody is waiting for", commit.first),
            ),
            (Ok(None), Some(_)) => broken(Promise::Decided, "the log went on without what it held"),
            (Ok(None), None) => Ok(()),
            (Err(_), held) => {
                self.held = held;
                Ok(())
            }
        }
    }

    /// A start has succeeded; what was open is decided now. `may_lose`: positions that a repair
    /// may have given up.
    pub(crate) fn started(&mut self, reader: &dyn LogReader, may_lose: &BTreeSet<u64>) -> Judged {
        let (durable, lost) = (reader.durable().0.0, reader.lost());
        let is_lost =
            |position: u64| lost.iter().any(|r| (r.first.0..=r.last.0).contains(&position));
        let mut given_up = false;
        for (slot, position) in self.slots.iter_mut().zip(1..) {
            if !is_lost(position) || matches!(slot, Slot::Lost) {
                continue;
            }
            if !may_lose.contains(&position) {
                return broken(
                    Promise::Repaired,
                    format!("position {position} is lost for nothing"),
                );
            }
            *slot = Slot::Lost;
            given_up = true;
        }
        if given_up {
            // Nobody knows the time of what is lost.
            self.newest = self.slots.iter().filter_map(Slot::at).max();
        }
        let last = self.last();
        if durable < last {
            let detail = format!("the log ends at {durable}, {last} was acknowledged");
            return broken(Promise::Kept, detail);
        }
        let more = durable - last;
        match self.held.take() {
            None if more > 0 => {
                let detail = format!("the log ends at {durable}, nobody wrote behind {last}");
                return broken(Promise::Asked, detail);
            }
            None => {}
            Some(group) if more == 0 => self.give_up(&group, "decided at a start: not in the log"),
            Some(group) if more == group.len() as u64 => {
                if (last + 1..=durable).any(is_lost) {
                    self.give_up(&group, "lost with its segment");
                    self.slots.extend(group.iter().map(|_| Slot::Lost));
                } else {
                    let known = |entry| Slot::Known { entry, at: None };
                    self.slots.extend(group.into_iter().map(known));
                }
            }
            Some(group) => {
                let detail = format!("{more} of {} records of a group are there", group.len());
                return broken(Promise::Decided, detail);
            }
        }
        Ok(())
    }

    /// Nothing was ever acknowledged, and an operator begins anew.
    pub(crate) fn begin_anew(&mut self) {
        if let Some(held) = self.held.take() {
            self.give_up(&held, "thrown away by an operator");
        }
    }

    /// What is durable, and the root, are what they must be.
    pub(crate) fn check_end(&mut self, reader: &dyn LogReader) -> Judged {
        let durable = reader.durable().0.0;
        if durable != self.last() {
            let detail = format!("readers see {durable}, {} was said", self.last());
            return broken(Promise::Kept, detail);
        }
        let (position, hash) = reader.root();
        if position.0 != durable {
            return broken(Promise::Root, format!("the root is that of {position}, not {durable}"));
        }
        match self.root {
            // Of a last group that is lost nobody may know the hash.
            Some((before, root))
                if before == position && root != hash && !self.is_lost(position.0) =>
            {
                broken(Promise::Root, format!("the root of {position} has changed"))
            }
            _ => {
                self.root = Some((position, hash));
                Ok(())
            }
        }
    }

    /// An entry that was read at `position`.
    fn check_entry(&mut self, position: u64, found: &Entry) -> Judged {
        if let Some(why) = self.void.get(&found.new.id) {
            let detail = format!("position {position} holds a record that was {why}");
            return broken(Promise::NotWritten, detail);
        }
        if found.position.0 != position {
            let detail = format!("position {position} says that it is {}", found.position);
            return broken(Promise::Dense, detail);
        }
        let index = usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX);
        let before = self.slots.iter().take(index).rev().find_map(Slot::at);
        let after = self.slots.iter().skip(index + 1).find_map(Slot::at);
        match self.slots.get_mut(index) {
            Some(Slot::Known { entry, at }) => {
                if *entry != found.new {
                    let detail = format!("position {position} holds another record");
                    return broken(Promise::Exact, detail);
                }
                if at.is_some_and(|at| at != found.recorded_at) {
                    return broken(Promise::Time, format!("that of {position} has changed"));
                }
                let now = found.recorded_at;
                if before.is_some_and(|at| at > now) || after.is_some_and(|at| at < now) {
                    return broken(Promise::Time, format!("that of {position} went back"));
                }
                *at = Some(now);
                self.newest = self.newest.max(Some(now));
                Ok(())
            }
            Some(Slot::Lost) => {
                broken(Promise::Exact, format!("position {position} is lost and reads as a record"))
            }
            None => broken(Promise::Asked, format!("position {position} was never written")),
        }
    }

    /// Reads one position. An error of the log that the model has no opinion on is given back.
    pub(crate) fn read(
        &mut self,
        reader: &dyn LogReader,
        position: u64,
    ) -> Judged<Option<LogError>> {
        let there = self.slot(position).is_some();
        match reader.read(Position(position)) {
            Ok(None) if !there => Ok(None),
            Ok(None) => broken(Promise::Kept, format!("position {position} is not there")),
            Ok(Some(entry)) => self.check_entry(position, &entry).map(|()| None),
            Err(LogError::Lost { .. }) if self.is_lost(position) => Ok(None),
            Err(error @ LogError::Lost { .. }) => {
                broken(Promise::Kept, format!("position {position}: {error}"))
            }
            Err(error) => Ok(Some(error)),
        }
    }

    /// Reads everything from `from` on, in order.
    pub(crate) fn scan(&mut self, reader: &dyn LogReader, from: u64) -> Judged<Option<LogError>> {
        let mut next = from.max(1);
        let mut judged = Ok(());
        let read = reader.scan(Position(from), &mut |entries| {
            for entry in &entries {
                while self.is_lost(next) {
                    next += 1;
                }
                judged = self.check_entry(next, entry);
                if judged.is_err() {
                    return Ok(false);
                }
                next += 1;
            }
            Ok(true)
        });
        judged?;
        while self.is_lost(next) {
            next += 1;
        }
        match read {
            Err(error) => Ok(Some(error)),
            Ok(()) if next <= self.last() => {
                let detail = format!("a scan ends before {next}, the log at {}", self.last());
                broken(Promise::Kept, detail)
            }
            Ok(()) => Ok(None),
        }
    }

    /// The lost ranges are those that repairs gave up.
    pub(crate) fn check_lost(&self, lost: &[LostRange]) -> Judged {
        for position in 1..=self.last() {
            let there = lost.iter().any(|r| (r.first.0..=r.last.0).contains(&position));
            if there != self.is_lost(position) {
                return broken(Promise::Repaired, format!("position {position}: lost is {there}"));
            }
        }
        Ok(())
    }
}
