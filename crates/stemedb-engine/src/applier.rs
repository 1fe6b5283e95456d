//! The thread that owns the index: replays what it lacks, then applies what becomes durable, and
//! acknowledges in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use stemedb_index::Entry;
use stemedb_io::mutant;
use stemedb_model::{Kind, Millis, Position};

use crate::committer::Durable;
use crate::fates::Fate;
use crate::metrics;
use crate::node::{Failure, Phase};
use crate::replay::{RECORDS_MAX, apply, replay};
use crate::shared::Shared;
use crate::slot::{Item, Verdict};
use crate::submission::{Ack, AckStatus, WriteError};

pub(crate) struct Applier {
    shared: Arc<Shared>,
    durable: Receiver<Durable>,
}

impl Applier {
    pub(crate) fn new(shared: Arc<Shared>, durable: Receiver<Durable>) -> Self {
        Self { shared, durable }
    }

    /// Until the committer is gone.
    pub(crate) fn run(self) {
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

    /// Brings the index to where the log is, visible to every reader as it goes. False if told to stop.
    fn replay(&self) -> Result<bool, String> {
        let shared = &self.shared;
        let index = shared.index();
        replay(shared, &index, &|| shared.applied.set(index.snapshot()))
    }

    /// One atomic batch; afterwards it is visible to every reader.
    fn apply(&self, entries: &[Entry]) -> Result<(), String> {
        let shared = &self.shared;
        let index = shared.index();
        // One that was made anew may have taken some of them from the log.
        let known = entries.partition_point(|entry| entry.position <= index.applied());
        apply(shared, &index, entries.get(known..).unwrap_or_default())?;
        shared.applied.set(index.snapshot());
        Ok(())
    }

    fn acknowledge(&self, groups: Vec<Durable>) {
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
        // Until they are answered, no other index comes into use.
        let mut failed = self.shared.index_failed();
        if failed.is_none()
            && !entries.is_empty()
            && let Err(reason) = self.apply(&entries)
        {
            tracing::error!(reason, "the index failed; the records are durable");
            *failed = Some(reason);
        }
        if let Some(reason) = &*failed {
            return self.not_applied(&entries, items, reason.clone());
        }
        drop(failed);
        self.answer(&entries, items);
    }

    /// Durable and readable: everybody is told, or will be once it is archived.
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
        shared.acknowledge(items.into_iter().map(answer).collect());
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
        shared.acknowledge(items.into_iter().map(answer).collect());
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
