//! What goes into the pipeline and what comes out.

use std::time::Duration;

use stemedb_lens::LensProblem;
use stemedb_log::Outcome;
use stemedb_model::Refusal;
use stemedb_model::{Hash, Millis, Position, Principal, RecordId, Signed};

use crate::node::NodeState;

/// One record on its way in. That its signature was verified is proved by the type [`Signed`]:
/// callers verify on their own threads, before they submit.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The record.
    pub signed: Signed,
    /// Owner of the API key it came through.
    pub principal: Principal,
    /// Signed by the server for a caller without keys.
    pub custodial: bool,
    /// Hash of (principal, idempotency key), if the caller gave one.
    pub idempotency: Option<Hash>,
    /// When the caller stops waiting, on the monotonic clock of the engine's `Env`.
    pub deadline: Option<Duration>,
}

/// An acknowledged write: durable, applied, readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The record.
    pub id: RecordId,
    /// Its number in the log; of a record sent again, that of its first copy.
    pub position: Position,
    /// When that copy was committed.
    pub recorded_at: Millis,
    /// Whether this submission created it.
    pub status: AckStatus,
}

/// Whether a submission created its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckStatus {
    /// It did.
    Created,
    /// The same record was there, or on its way, before. Whether it is excluded now is a read:
    /// [`View::record`](crate::View::record), on the caller's thread, never the pipeline's.
    Exists,
}

/// Why a submission was not acknowledged. Unless a variant says otherwise, this submission wrote
/// nothing and will not; `WalUnavailable` with `NotWritten` says so of every copy sent before.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Rights, references or policy. Nothing was logged.
    #[error(transparent)]
    Refused(Refusal),
    /// The claimed time is more than five minutes ahead.
    #[error("`at` is {at_ms}, more than 5 minutes ahead of this node's clock ({now_ms})", at_ms = at.0, now_ms = now.0)]
    AtAhead {
        /// Claimed time.
        at: Millis,
        /// Time of this node.
        now: Millis,
    },
    /// The definition of a lens that could not be used.
    #[error(transparent)]
    Lens(LensProblem),
    /// The idempotency key stands for another record.
    #[error("the idempotency key was used before, for record {first}")]
    IdempotencyConflict {
        /// The record that it stands for.
        first: RecordId,
    },
    /// The write queue has no room. Try again later.
    #[error("the write queue is full ({records} records, {bytes} bytes)")]
    QueueFull {
        /// Records that wait.
        records: usize,
        /// Bytes of their bodies.
        bytes: usize,
    },
    /// The node is going down, or to rest.
    #[error("the node is {}: it takes no new writes", .state.as_str())]
    Draining {
        /// `draining`, `drained` or `stopped`.
        state: NodeState,
    },
    /// The node is not up yet.
    #[error("the node is {}", .state.as_str())]
    NotReady {
        /// `starting` or `recovering`.
        state: NodeState,
    },
    /// The wall clock jumped; an operator must acknowledge.
    #[error("the wall clock left the monotonic clock by {by_ms} ms; writes wait for an operator")]
    ClockJump {
        /// How far, positive if the wall clock is ahead.
        by_ms: i64,
    },
    /// The archive that acknowledgements wait for takes nothing now; nothing was queued.
    #[error(
        "the archive takes nothing now, and writes are acknowledged only once they are there: {reason}"
    )]
    ArchiveUnavailable {
        /// What the archiver says.
        reason: String,
    },
    /// The lease that lets this node write is not held, or was lost before the write could be
    /// acknowledged. Another node may have gone on without the record, or with it.
    #[error("this node does not hold the lease: {reason}")]
    Fenced {
        /// Who does, or why not.
        reason: String,
    },
    /// The log is that of another node. Nothing was written.
    #[error("this node is a standby{}", at(.primary))]
    Standby {
        /// Where that node is; empty if it is not known.
        primary: String,
    },
    /// The deadline passed before the write was queued.
    #[error("the deadline passed before the write was queued")]
    DeadlineBeforeQueue,
    /// The deadline passed, or the log hung for ten seconds, after the write was queued. The
    /// record may still be created; sending it again is safe.
    #[error("no decision in time: {reason}")]
    Indeterminate {
        /// What was waited for.
        reason: String,
    },
    /// An earlier copy of this record was given to a log that failed, or hangs.
    #[error("record {id} is undecided: an earlier copy was given to a log that failed or hangs")]
    Undecided {
        /// The record.
        id: RecordId,
    },
    /// The log cannot make bytes durable.
    #[error("the log is not available ({}): {reason}", outcome_str(*.outcome))]
    WalUnavailable {
        /// Whether the record may still appear.
        outcome: Outcome,
        /// What failed.
        reason: String,
    },
    /// The index failed. With a position, the record is durable there and not yet readable: a
    /// reindex brings it back. Without, it was not written.
    #[error("the index failed: {reason}")]
    IndexFailed {
        /// Where the record is durable.
        position: Option<Position>,
        /// What failed.
        reason: String,
    },
}

fn at(primary: &str) -> String {
    match primary {
        "" => ": it takes no writes".to_owned(),
        primary => format!(": {primary} takes writes"),
    }
}

/// The name of an outcome in answers.
pub fn outcome_str(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotWritten => "not_written",
        Outcome::Indeterminate => "indeterminate",
    }
}

impl WriteError {
    /// The `reason` label of `stemedb_requests_rejected_total`: the code that the caller is told.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::AtAhead { .. } => "at_ahead",
            Self::Lens(_) => "invalid_field",
            Self::IdempotencyConflict { .. } => "idempotency_conflict",
            Self::QueueFull { .. } => "queue_full",
            Self::Draining { .. } => "draining",
            Self::NotReady { .. } => "not_ready",
            Self::ClockJump { .. } => "clock_jump",
            Self::ArchiveUnavailable { .. } => "archive_unavailable",
            Self::Fenced { .. } => "fenced",
            Self::Standby { .. } => "standby",
            Self::DeadlineBeforeQueue => "deadline_exceeded",
            Self::Indeterminate { .. } => "outcome_unknown",
            Self::Undecided { .. } => "indeterminate",
            Self::WalUnavailable { .. } => "wal_unavailable",
            Self::IndexFailed { .. } => "index_failed",
        }
    }
}
