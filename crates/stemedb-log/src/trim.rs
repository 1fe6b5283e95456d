//! Removes the oldest segments, once it is proved that they are safe elsewhere.

use std::sync::Arc;

use stemedb_io::{Open, Vfs};
use stemedb_model::{Hash, LogId, Position, Timeline};

use crate::config::Retention;
use crate::error::LogError;
use crate::format::header::{HeaderState, SegmentHeader, segment_name};
use crate::recover::floor::{Floor, NAME, StoreError};
use crate::recover::survey::{io, names, read_header};
use crate::shared::{SegmentEntry, Shared};

/// Proof that everything up to a position may leave this disk: it is archived, was read back from
/// the archive and compared by hash, and lies within a backup whose restore was verified.
///
/// Nothing here can check that: whoever makes one says that it was done. What is checked is that the
/// chain hash is that of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveProof {
    log_id: LogId,
    timeline: Timeline,
    through: Position,
    chain: Hash,
}

impl ArchiveProof {
    /// `through` is the last position of a segment that was read back and whose restore was
    /// verified, `chain` the chain hash after it as computed from what was read back. Never as it was
    /// told, and never that of the log itself.
    pub fn new(log_id: LogId, timeline: Timeline, through: Position, chain: Hash) -> Self {
        Self { log_id, timeline, through, chain }
    }
}

/// What a trim did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// The first position that is still here.
    pub first: Position,
    /// The files that were removed.
    pub removed: Vec<String>,
}

/// A segment that may go, if it is safe elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removable {
    /// Its number.
    pub number: u64,
    /// Its last position.
    pub last: Position,
}

/// Removes old segments of a log beside its writer, from any thread.
#[derive(Clone)]
pub struct Trimmer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) retention: Retention,
    pub(crate) identity: (LogId, Timeline),
}

impl std::fmt::Debug for Trimmer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trimmer").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Trimmer {
    /// The log.
    pub fn identity(&self) -> (LogId, Timeline) {
        self.identity
    }

    /// The first position that is here.
    pub fn first_kept(&self) -> Position {
        self.shared.published(|log| log.floor)
    }

    /// What may go once it is safe elsewhere, oldest first: all but the newest two segments, up to the
    /// first one with lost positions. Only the segment itself says that they were given up.
    pub fn removable(&self) -> Vec<Removable> {
        self.shared.published(|log| {
            let newest = log.segments.last().map_or(0, |segment| segment.number);
            let lost = log.lost.first().map_or(Position::MAX, |lost| lost.first);
            let pairs = log.segments.iter().zip(log.segments.iter().skip(1));
            let removable =
                pairs.take_while(|(_, next)| next.number < newest && next.first <= lost);
            let last = |next: &SegmentEntry| Position(next.first.0.saturating_sub(1));
            removable
                .map(|(segment, next)| Removable { number: segment.number, last: last(next) })
                .collect()
        })
    }

    /// See [`Wal::trim`](crate::Wal::trim).
    pub fn trim(&self, proof: &ArchiveProof) -> Result<Trimmed, LogError> {
        trim(&self.shared, &*self.shared.env.vfs, self.retention, self.identity, proof)
    }

    /// Removes what a trim that broke off has left: segments that are no part of the log any more.
    pub fn remove_left(&self) -> Result<Trimmed, LogError> {
        allowed(&self.shared, self.retention)?;
        let _names = self.shared.lock_names();
        self.shared.refuse_if_closed()?;
        remove_below(&self.shared, &*self.shared.env.vfs, self.first_kept())
    }
}

fn allowed(shared: &Shared, retention: Retention) -> Result<(), LogError> {
    if retention != Retention::Archived {
        return Err(LogError::Refused(
            "wal.retention is \"keep\": no segment is removed; \"archived\" allows it".into(),
        ));
    }
    shared.refuse_if_closed()
}

/// Makes the log begin behind `proof.through`, durably, then removes what is before. After an
/// error of a removal the log begins there all the same, and the next trim removes the rest.
pub(crate) fn trim(
    shared: &Shared,
    vfs: &dyn Vfs,
    retention: Retention,
    (log_id, timeline): (LogId, Timeline),
    proof: &ArchiveProof,
) -> Result<Trimmed, LogError> {
    allowed(shared, retention)?;
    if (proof.log_id, proof.timeline) != (log_id, timeline) {
        return Err(LogError::Refused(format!(
            "the archive is of log {} on timeline {}, this is {log_id} on {timeline}",
            proof.log_id, proof.timeline
        )));
    }
    let _names = shared.lock_names();
    // Whoever takes the log off its file system waits for the names.
    shared.refuse_if_closed()?;
    let first = proof.through.next();
    let (floor, number, newest, lost) = shared.published(|log| {
        let newest = log.segments.last().map_or(0, |segment| segment.number);
        let lost = log.lost.first().map(|lost| (lost.first, lost.last));
        // Segments may share a first position, if one has no groups: the last of them.
        let number = log.segments.iter().rev().find(|segment| segment.first == first);
        (log.floor, number.map(|segment| segment.number), newest, lost)
    });
    if let Some((first, last)) = lost.filter(|(first, _)| *first <= proof.through) {
        return Err(LogError::Refused(format!(
            "positions {first} to {last} were given up by a repair, and only their segment says so: it \
             and those behind it stay"
        )));
    }
    let number = match number {
        Some(number) if number < newest => number,
        _ if first <= floor => return remove_below(shared, vfs, floor),
        _ => {
            return Err(LogError::Refused(format!(
                "no sealed segment that may go ends with position {}",
                proof.through
            )));
        }
    };
    let header = header(shared, vfs, number)?;
    if header.fence.chain != proof.chain || header.fence.position != proof.through {
        return Err(LogError::Refused(format!(
            "what was archived is not this log: another chain hash after position {}",
            proof.through
        )));
    }
    match Floor::under(&header).store(vfs, &shared.dir) {
        Ok(()) => {}
        Err(StoreError::Before(op, source)) => return Err(io(NAME, op, 0, source)),
        Err(StoreError::After(source)) => {
            // Both floors are true of what is there: nothing was removed yet. But a failed sync
            // of the folder may hide that other names never arrived.
            return Err(shared.doubt_names("sync folder after replacing", NAME, source));
        }
    }
    let gone = shared.publish_floor(first, number);
    for number in gone {
        shared.forget(number);
    }
    remove_below(shared, vfs, first)
}

fn header(shared: &Shared, vfs: &dyn Vfs, number: u64) -> Result<SegmentHeader, LogError> {
    let name = segment_name(number);
    let file = vfs
        .open(&shared.dir.join(&name), Open::Read)
        .map_err(|source| io(&name, "open", 0, source))?;
    match read_header(&*file, &name)? {
        HeaderState::Ok(header) if header.number == number => Ok(header),
        _ => Err(LogError::Damaged {
            file: name,
            offset: 0,
            problem: "the segment header does not match its checksum".into(),
            first: Position::NONE,
            last: Position::NONE,
            hint: format!("run `stemedb wal verify {}`", shared.dir.display()),
        }),
    }
}

/// Removes the files of segments that the log no longer has, oldest first.
fn remove_below(shared: &Shared, vfs: &dyn Vfs, first: Position) -> Result<Trimmed, LogError> {
    let kept = shared.published(|log| log.segments.first().map_or(0, |segment| segment.number));
    let mut removed = Vec::new();
    let mut bytes = 0;
    let mut failed = None;
    for (_, name) in names(vfs, &shared.dir)?.segments.into_iter().filter(|(n, _)| *n < kept) {
        let path = shared.dir.join(&name);
        let len = vfs.metadata(&path).map_or(0, |metadata| metadata.len);
        match vfs.remove_file(&path) {
            Ok(()) => {
                bytes += len;
                removed.push(name);
            }
            Err(source) => {
                failed = Some(io(&name, "remove", 0, source));
                break;
            }
        }
    }
    shared.shrunk(bytes);
    if !removed.is_empty()
        && let Err(source) = vfs.sync_dir(&shared.dir)
    {
        let name = removed.concat();
        return Err(shared.doubt_names("sync folder after removing", &name, source));
    }
    match failed {
        None => Ok(Trimmed { first, removed }),
        Some(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
