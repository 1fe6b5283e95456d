//! Why a database could not be opened, and why a read has no answer.

use stemedb_index::{IndexError, Lost};
use stemedb_lens::LensProblem;
use stemedb_log::LogError;
use stemedb_model::{Millis, Position, RecordId, Refusal, Timeline};

use crate::node::NodeState;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Settings out of bounds, a sentence each.
    #[error("engine configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The log is empty, or the record given as its first is of another kind.
    #[error("the log has no genesis record; it must be the first")]
    NoGenesis,
    /// Genesis was given to a log that has records.
    #[error("the log has {durable} records; genesis is the first only")]
    NotEmpty {
        /// Its newest position.
        durable: Position,
    },
    /// The genesis record does not fit.
    #[error("genesis: {0}")]
    Genesis(#[from] Refusal),
    /// The log lost records that the index has seen acknowledged.
    #[error(
        "the index has applied position {applied}, but the log ends at {durable}: positions {} to \
         {applied} are missing from the log; restore it, or delete the index to go on without them",
        .durable.next()
    )]
    IndexAhead {
        /// Newest position of the index.
        applied: Position,
        /// Newest position of the log.
        durable: Position,
    },
    /// The log was repaired, or put back, after the index took from it what is not there now.
    #[error(
        "the index was made from the log before it was repaired: of the positions that the index \
         has applied, {} are lost in the log, {} in the index; rebuild the index with \
         `stemedb admin reindex` (it may hold the last copy of what was lost: keep a copy if that \
         is wanted)",
        ranges(.log), ranges(.index)
    )]
    IndexBeforeRepair {
        /// What the log has lost, as far as the index has applied it.
        log: Lost,
        /// What the index knows to be lost.
        index: Lost,
    },
    /// The index could not be brought up to the log.
    #[error("replaying the log into the index: {0}")]
    Recovery(String),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is at work, or hangs in the medium.
    #[error("the log has not answered in time; look at the device and the kernel's messages")]
    LogSilent,
    /// The index is of another log, or damaged.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index is not there yet, or no more.
    #[error("the node is {}: its index cannot be made anew now", .state.as_str())]
    NotReady {
        /// `starting`, `recovering` or `stopped`.
        state: NodeState,
    },
    /// The index is being made anew already.
    #[error("the index is being made anew already; /v1/admin/node says how far it is")]
    Rebuilding,
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(String),
}

/// Ranges of positions in words.
fn ranges(lost: &Lost) -> String {
    if lost.ranges().is_empty() {
        return "none".to_owned();
    }
    let ranges = lost.ranges().iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first} to {last}"),
    });
    ranges.collect::<Vec<_>>().join(", ")
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The index is not there yet, or no more.
    #[error("the node is {}", .state.as_str())]
    NotReady {
        /// `starting`, `recovering` or `stopped`.
        state: NodeState,
    },
    /// What was asked for did not come in time.
    #[error("position {asked} is not applied yet, the newest is {applied}")]
    Behind {
        /// What `at_least` said.
        asked: Position,
        /// What there is.
        applied: Position,
    },
    /// A token of a branch that was abandoned, or of another database.
    #[error("the snapshot is of timeline {found}, this database is on {expected}")]
    WrongTimeline {
        /// The token's.
        found: Timeline,
        /// Ours.
        expected: Timeline,
    },
    /// `as_of` names a position that is not applied yet.
    #[error("as_of: position {asked} is ahead of the newest, {newest}")]
    AheadOfLog {
        /// What was asked for.
        asked: Position,
        /// What there is.
        newest: Position,
    },
    /// `as_of` names a time that is not over: the answer could still change.
    #[error("as_of: {} ms is ahead of this node's clock, {} ms", .asked.0, .now.0)]
    AheadOfClock {
        /// What was asked for.
        asked: Millis,
        /// The newest time that can be answered.
        now: Millis,
    },
    /// The record that was at this position was lost to damage, and a repair gave it up.
    #[error(
        "position {position} is lost: a repair of the log gave up positions {first} to {last}; a \
         record that was there can be sent again and gets a new position"
    )]
    Lost {
        /// What was asked for.
        position: Position,
        /// First lost position of the range.
        first: Position,
        /// Last lost position of the range.
        last: Position,
    },
    /// The record is on its way, or was given to a log that failed or hangs.
    #[error("record {id} is undecided: it is on its way, or waits for the log to be mended")]
    Undecided {
        /// The record.
        id: RecordId,
    },
    /// The record is durable, but the index failed before it took it.
    #[error("record {id} is durable at position {position}, but the index failed")]
    NotApplied {
        /// The record.
        id: RecordId,
        /// Where it is.
        position: Position,
    },
    /// The trust snapshot in force names a table that this node is learning.
    #[error(
        "whom to trust is being learned from the log up to position {input_position}; ask again in a \
         moment"
    )]
    TrustPending {
        /// What it is learned from.
        input_position: Position,
    },
    /// The trust snapshot in force names a table that this node cannot have.
    #[error(
        "the trust snapshot at position {position} cannot be used: {reason}; `stemedb trust learn` \
         puts another in force"
    )]
    TrustUnavailable {
        /// The snapshot.
        position: Position,
        /// Why not.
        reason: String,
    },
    /// There is no such lens in the space, as of the position that is read.
    #[error("there is no lens {asked:?} here; there are {}", .known.join(", "))]
    LensUnknown {
        /// What was asked for.
        asked: String,
        /// Some of those there are.
        known: Vec<String>,
    },
    /// A lens was defined before definitions were checked as they are by this build.
    #[error("the lens {name:?} cannot be used: {problem}; define a version that can")]
    LensUnusable {
        /// `name@version`.
        name: String,
        /// Why not.
        problem: LensProblem,
    },
    /// What is supposed to be gone could matter to more keys than the bound.
    #[error("it could matter to more than {most} keys, which is as many as are looked at")]
    WhatIfTooLarge {
        /// The bound.
        most: usize,
    },
    /// There is more to learn from than the configured bound.
    #[error(
        "more than {most} statements to learn trust from: {found} and counting; raise `trust.statements_max`"
    )]
    TrustTooLarge {
        /// How many there were when it stopped.
        found: usize,
        /// The bound.
        most: usize,
    },
    /// The index could not answer, or not within its bounds ([`IndexError::TooLarge`]).
    #[error(transparent)]
    Index(#[from] IndexError),
}
