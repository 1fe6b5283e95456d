//! The thread that owns the index: replays what it lacks, then applies what becomes durable, and
//! acknowledges in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use stemedb_index::{Entry, Lost};
use stemedb_io::mutant;
use stemedb_log::LogError;
use stemedb_model::{Kind, Millis, Position, Signed};

use crate::committer::Durable;
use crate::engine::lost_of;
use crate::fates::Fate;
use crate::metrics::{self, Operation};
use crate::node::{Failure, Phase};
use crate::shared::Shared;
use crate::slot::{Item, Verdict};
use crate::submission::{Ack, AckStatus, WriteError};

/// Groups are applied together up to this many records: one batch of the storage costs about the
/// same for one record as for a hundred.
const RECORDS_MAX: usize = 4 << 10;
/// The same in bytes, so that a replay of large records stays within bounded memory.
const BYTES_MAX: usize = 8 << 20;

pub(crate) struct Applier {
    shared: Arc<Shared>,
    durable: Receiver<Durable>,
    /// Why the index takes nothing more.
    failed: Option<String>,
}

impl Applier {
    pub(crate) fn new(shared: Arc<Shared>, durable: Receiver<Durable>) -> Self {
        Self { shared, durable, failed: None }
    }

    /// Until the committer is gone.
    pub(crate) fn run(mut self) {
        let gate = &self.shared.gate;
        // An error means that the engine is being closed: then there is nothing to recover for.
        if gate.step(&[Phase::Starting], Phase::Recovering).is_ok() {
            match self.replay() {
                Ok(true) => {
                    let _ = gate.step(&[Phase::Recovering], Phase::Running);
                }
                Ok(false) => {}
                Err(reason) => {
                    tracing::error!(reason, "replay of the log into the index failed");
                    gate.fail(Failure::Recovery { reason });
                }
            }
        }
        while let Ok(first) = self.durable.recv() {
            let mut records = first.items.len();
            let mut groups = vec![first];
            while records < RECORDS_MAX
                && let Ok(group) = self.durable.try_recv()
            {
                records += group.items.len();
                groups.push(group);
            }
            self.acknowledge(groups);
        }
    }

    /// Applies everything that the log has and the index lacks. False if told to stop.
    fn replay(&self) -> Result<bool, String> {
        let shared = &self.shared;
        let (durable, _) = shared.log.durable();
        let from = shared.index.applied().next();
        if from > durable {
            return Ok(true);
        }
        tracing::info!(from = from.0, to = durable.0, "replaying the log into the index");
        let lost = lost_of(&*shared.log);
        let mut batch: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut failure = None;
        let mut stopped = false;
        let scanned = shared.log.scan(from, &mut |group| {
            for entry in group {
                let next = batch.last().map_or(shared.index.applied(), |last| last.position).next();
                if entry.position > next {
                    // A scan passes over what a repair gave up; the index must know of it.
                    let skipped = self.apply(&batch).and_then(|()| self.skip(&lost, next));
                    failure = failure.take().or(skipped.err());
                    batch.clear();
                    bytes = 0;
                }
                bytes += entry.new.body.len();
                match decode(entry) {
                    Ok(entry) => batch.push(entry),
                    Err(reason) => failure = Some(reason),
                }
            }
            stopped = shared.stopping.load(Ordering::Relaxed);
            if failure.is_none() && (batch.len() >= RECORDS_MAX || bytes >= BYTES_MAX) {
                failure = self.apply(&batch).err();
                batch.clear();
                bytes = 0;
            }
            Ok(failure.is_none() && !stopped)
        });
        if let Some(reason) = failure {
            return Err(reason);
        }
        scanned.map_err(|error: LogError| error.to_string())?;
        if stopped {
            return Ok(false);
        }
        self.apply(&batch)?;
        let next = shared.index.applied().next();
        if lost.at(next).is_some() {
            self.skip(&lost, next)?;
        }
        let applied = shared.applied.position();
        if applied < durable {
            return Err(format!("the log ends at {applied}, though {durable} is durable"));
        }
        Ok(true)
    }

    /// Passes over the lost positions that begin at or before `next`.
    fn skip(&self, lost: &Lost, next: Position) -> Result<(), String> {
        let (_, last) = lost.at(next).ok_or_else(|| {
            format!("the log has no position {next}, and does not say it is lost")
        })?;
        tracing::warn!(first = next.0, last = last.0, "positions are lost; passing over them");
        self.shared.index.skip(last).map_err(|error| error.to_string())?;
        self.shared.applied.set(self.shared.index.snapshot());
        Ok(())
    }

    /// One atomic batch; afterwards it is visible to every reader.
    fn apply(&self, entries: &[Entry]) -> Result<(), String> {
        if entries.is_empty() {
            return Ok(());
        }
        let since = self.shared.clock.monotonic();
        let result = self.shared.index.apply(entries).map_err(|error| error.to_string());
        let took = self.shared.clock.monotonic().saturating_sub(since);
        metrics::operation(Operation::Apply, took, result.is_err());
        result?;
        self.shared.applied.set(self.shared.index.snapshot());
        Ok(())
    }

    fn acknowledge(&mut self, groups: Vec<Durable>) {
        let mut entries = Vec::new();
        let mut items = Vec::new();
        for group in groups {
            if let Some(commit) = group.commit {
                entries
                    .extend(group.items.iter().filter_map(|item| entry(item, commit.recorded_at)));
            }
            items.extend(group.items);
        }
        if mutant("ack_before_apply") {
            self.answer(&entries, std::mem::take(&mut items));
        }
        if self.failed.is_none()
            && !entries.is_empty()
            && let Err(reason) = self.apply(&entries)
        {
            tracing::error!(reason, "the index failed; the records are durable");
            self.failed = Some(reason);
        }
        if let Some(reason) = self.failed.clone() {
            return self.not_applied(&entries, items, reason);
        }
        self.answer(&entries, items);
    }

    /// Durable and readable: everybody is told.
    fn answer(&self, entries: &[Entry], items: Vec<Item>) {
        let shared = &self.shared;
        let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
        for entry in entries {
            *kinds.entry(entry.signed.record().kind()).or_default() += 1;
        }
        kinds.into_iter().for_each(|(kind, count)| metrics::records(kind, count));
        shared.fates.settle(entries.iter().map(|entry| entry.signed.id()));
        // Positions of the entries are dense, so one of them is found by its distance.
        let recorded_at = |position: Position| {
            let first = entries.first()?.position;
            let at = usize::try_from(position.0.checked_sub(first.0)?).ok()?;
            entries.get(at).map(|entry| entry.recorded_at)
        };
        let answer = |item: Item| {
            let id = item.queued.id();
            let result = match &item.verdict {
                Verdict::Refused(error) => Err((**error).clone()),
                Verdict::Record(position) => match recorded_at(*position) {
                    Some(recorded_at) => {
                        Ok(Ack { id, position: *position, recorded_at, status: AckStatus::Created })
                    }
                    // Cannot be: it is among the entries. The index knows it in any case.
                    None => shared.exists(id, *position),
                },
                Verdict::Echo(position) => shared.exists(id, *position),
            };
            (item, result)
        };
        shared.finish_all(items.into_iter().map(answer).collect());
    }

    /// Durable and not readable: everybody is told where the record is.
    fn not_applied(&self, entries: &[Entry], items: Vec<Item>, reason: String) {
        let shared = &self.shared;
        // Known before the gate says anything about the rest.
        let durable = |entry: &Entry| (entry.signed.id(), Fate::Durable(entry.position));
        shared.fates.set(entries.iter().map(durable));
        shared.gate.fail(Failure::Index { reason: reason.clone() });
        let error = WriteError::IndexFailed { position: None, reason: reason.clone() };
        let mut items = items;
        items.extend(shared.give_up_open_group(shared.cut(), &error));
        let answer = |item: Item| {
            let id = item.queued.id();
            let result = match &item.verdict {
                Verdict::Refused(error) => Err((**error).clone()),
                Verdict::Echo(position) if *position <= shared.applied.position() => {
                    shared.exists(id, *position)
                }
                Verdict::Record(position) | Verdict::Echo(position) => {
                    let reason = reason.clone();
                    Err(WriteError::IndexFailed { position: Some(*position), reason })
                }
            };
            (item, result)
        };
        shared.finish_all(items.into_iter().map(answer).collect());
    }
}

fn entry(item: &Item, recorded_at: Millis) -> Option<Entry> {
    let Verdict::Record(position) = item.verdict else { return None };
    let submission = &item.queued.submission;
    Some(Entry {
        position,
        recorded_at,
        principal: submission.principal.clone(),
        custodial: submission.custodial,
        idempotency: submission.idempotency,
        signed: submission.signed.clone(),
    })
}

/// A record read back from the log. It was proved when it was admitted, and lies under checksums.
fn decode(entry: stemedb_log::Entry) -> Result<Entry, String> {
    let stemedb_log::Entry { position, recorded_at, new, .. } = entry;
    let signed = Signed::trusted(new.body, new.signature)
        .map_err(|error| format!("position {position}: {error}"))?;
    if signed.id() != new.id {
        return Err(format!(
            "position {position}: the bytes are those of record {}, the log says {}",
            signed.id(),
            new.id
        ));
    }
    Ok(Entry {
        position,
        recorded_at,
        principal: new.principal,
        custodial: new.custodial,
        idempotency: new.idempotency,
        signed,
    })
}
