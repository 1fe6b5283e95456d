//! From the log into an index: at a start, and when the index is made anew.

use std::sync::atomic::Ordering;

use stemedb_index::{Entry, Index, Lost};
use stemedb_log::LogError;
use stemedb_model::Signed;

use crate::engine::lost_of;
use crate::metrics::{self, Operation};
use crate::shared::Shared;

/// Groups are applied together up to this many records: one batch of the storage costs about the
/// same for one record as for a hundred.
pub(crate) const RECORDS_MAX: usize = 4 << 10;
/// The same in bytes, so that a replay of large records stays within bounded memory.
const BYTES_MAX: usize = 8 << 20;

/// Applies everything that the log has and `index` lacks, and tells `moved` after each batch. False if
/// told to stop.
pub(crate) fn replay(shared: &Shared, index: &Index, moved: &dyn Fn()) -> Result<bool, String> {
    let (durable, _) = shared.log.durable();
    let from = index.applied().next();
    if from > durable {
        return Ok(true);
    }
    tracing::info!(from = from.0, to = durable.0, "replaying the log into the index");
    let lost = lost_of(&*shared.log);
    let add = |batch: &[Entry]| {
        apply(shared, index, batch)?;
        moved();
        Ok(())
    };
    // Passes over the lost positions that begin at or before the next one.
    let skip = || {
        skip(index, &lost)?;
        moved();
        Ok(())
    };
    let mut batch: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    let mut failure: Option<String> = None;
    let mut stopped = false;
    let scanned = shared.log.scan(from, &mut |group| {
        for entry in group {
            let next = batch.last().map_or(index.applied(), |last| last.position).next();
            if entry.position > next {
                // A scan passes over what a repair gave up; the index must know of it.
                let skipped = add(&batch).and_then(|()| skip());
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
            failure = add(&batch).err();
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
    add(&batch)?;
    if lost.at(index.applied().next()).is_some() {
        skip()?;
    }
    let applied = index.applied();
    if applied < durable {
        return Err(format!("the log ends at {applied}, though {durable} is durable"));
    }
    Ok(true)
}

/// One atomic batch.
pub(crate) fn apply(shared: &Shared, index: &Index, entries: &[Entry]) -> Result<(), String> {
    if entries.is_empty() {
        return Ok(());
    }
    let since = shared.clock.monotonic();
    let result = index.apply(entries).map_err(|error| error.to_string());
    let took = shared.clock.monotonic().saturating_sub(since);
    metrics::operation(Operation::Apply, took, result.is_err());
    result
}

fn skip(index: &Index, lost: &Lost) -> Result<(), String> {
    let next = index.applied().next();
    let (_, last) = lost
        .at(next)
        .ok_or_else(|| format!("the log has no position {next}, and does not say it is lost"))?;
    tracing::warn!(first = next.0, last = last.0, "positions are lost; passing over them");
    index.skip(last).map_err(|error| error.to_string())
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
