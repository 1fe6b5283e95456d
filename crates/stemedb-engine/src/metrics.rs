//! What the engine exports. Every labelled counter stands at 0 from the moment an engine opens:
//! install the recorder before that.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use stemedb_index::{ConflictStanding, Memory};
use stemedb_model::{Kind, Position};

use crate::node::NodeState;
use crate::rebuild::RebuildState;
use crate::submission::WriteError;

const RECORDS: &str = "stemedb_records_total";
const REJECTED: &str = "stemedb_requests_rejected_total";
const APPLIED: &str = "stemedb_index_applied_position";
const DRAINING: &str = "stemedb_node_draining";
const STATE: &str = "stemedb_node_state";
const CONFLICTS: &str = "stemedb_conflicts_open";
const CONFLICTS_POSITION: &str = "stemedb_conflicts_position";
const ANSWERS: &str = "stemedb_answer_cache_total";
const REBUILD_POSITION: &str = "stemedb_index_rebuild_position";
const REBUILDS: &str = "stemedb_index_rebuilds_total";
const INDEX_MEMORY: &str = "stemedb_index_memory_bytes";
const QUEUED: &str = "stemedb_write_queue_records";
const OPERATION_SECONDS: &str = "stemedb_storage_operation_duration_seconds";
const OPERATION_ERRORS: &str = "stemedb_storage_operation_errors_total";

/// Every [`WriteError::reason`].
const REASONS: [&str; 25] = [
    "agent_unregistered",
    "archive_unavailable",
    "at_ahead",
    "clock_jump",
    "conflict",
    "cycle",
    "deadline_exceeded",
    "draining",
    "fenced",
    "forbidden",
    "idempotency_conflict",
    "indeterminate",
    "index_failed",
    "invalid_field",
    "key_replaced",
    "key_revoked",
    "not_ready",
    "outcome_unknown",
    "queue_full",
    "standby",
    "unknown_reference",
    "wal_unavailable",
    "wrong_kind",
    "wrong_log",
    "wrong_space",
];

/// A step that touches a medium; the `operation` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Append,
    Seal,
    Apply,
    Persist,
    Read,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Append, Self::Seal, Self::Apply, Self::Persist, Self::Read];

    fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Seal => "seal",
            Self::Apply => "apply",
            Self::Persist => "persist",
            Self::Read => "read",
        }
    }
}

/// Describes everything and sets every counter to 0.
pub(crate) fn register() {
    describe_counter!(RECORDS, Unit::Count, "records made durable and applied, by kind");
    describe_counter!(REJECTED, Unit::Count, "requests refused, by reason");
    describe_gauge!(APPLIED, Unit::Count, "newest position that the index has applied");
    describe_gauge!(DRAINING, Unit::Count, "1 while the node drains or is drained");
    describe_gauge!(STATE, Unit::Count, "1 for the state the node is in, 0 for all others");
    describe_gauge!(CONFLICTS, Unit::Count, "keys in conflict");
    describe_gauge!(
        CONFLICTS_POSITION,
        Unit::Count,
        "position that the list of conflicts has reached"
    );
    describe_gauge!(
        REBUILD_POSITION,
        Unit::Count,
        "newest position of the index that is being made anew, or was; 0 if none was"
    );
    describe_counter!(REBUILDS, Unit::Count, "indexes made anew while the node ran, by result");
    describe_counter!(ANSWERS, Unit::Count, "answers found in memory (hit) or made (miss)");
    describe_gauge!(INDEX_MEMORY, Unit::Bytes, "memory that the index keeps, by part");
    describe_gauge!(QUEUED, Unit::Count, "records that wait for admission");
    describe_histogram!(OPERATION_SECONDS, Unit::Seconds, "storage operations, by operation");
    describe_counter!(OPERATION_ERRORS, Unit::Count, "failed storage operations, by operation");
    for kind in Kind::ALL {
        counter!(RECORDS, "kind" => kind.name()).increment(0);
    }
    for reason in REASONS {
        counter!(REJECTED, "reason" => reason).increment(0);
    }
    for operation in Operation::ALL {
        counter!(OPERATION_ERRORS, "operation" => operation.as_str()).increment(0);
    }
    for state in [RebuildState::Done, RebuildState::Failed] {
        counter!(REBUILDS, "result" => state.as_str()).increment(0);
    }
    answers(0, 0);
    gauge!(REBUILD_POSITION).set(0.0);
    gauge!(APPLIED).set(0.0);
    gauge!(CONFLICTS).set(0.0);
    gauge!(CONFLICTS_POSITION).set(0.0);
    gauge!(QUEUED).set(0.0);
    index_memory(&Memory::default());
}

pub(crate) fn node_state(state: NodeState) {
    for other in NodeState::ALL {
        gauge!(STATE, "state" => other.as_str()).set(f64::from(u8::from(other == state)));
    }
    let draining = matches!(state, NodeState::Draining | NodeState::Drained);
    gauge!(DRAINING).set(f64::from(u8::from(draining)));
}

pub(crate) fn records(kind: Kind, count: u64) {
    counter!(RECORDS, "kind" => kind.name()).increment(count);
}

pub(crate) fn answers(kept: usize, made: usize) {
    counter!(ANSWERS, "result" => "hit").increment(kept as u64);
    counter!(ANSWERS, "result" => "miss").increment(made as u64);
}

pub(crate) fn rejected(error: &WriteError) {
    counter!(REJECTED, "reason" => error.reason()).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53")]
pub(crate) fn index_memory(memory: &Memory) {
    for (part, bytes) in memory.parts() {
        gauge!(INDEX_MEMORY, "part" => part).set(bytes as f64);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53")]
pub(crate) fn applied(position: Position) {
    gauge!(APPLIED).set(position.0 as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53")]
pub(crate) fn conflicts(standing: &ConflictStanding) {
    gauge!(CONFLICTS).set(standing.open as f64);
    gauge!(CONFLICTS_POSITION).set(standing.position.0 as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53")]
pub(crate) fn rebuilding(position: Position) {
    gauge!(REBUILD_POSITION).set(position.0 as f64);
}

pub(crate) fn rebuilt(result: RebuildState) {
    counter!(REBUILDS, "result" => result.as_str()).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53")]
pub(crate) fn queued(records: usize) {
    gauge!(QUEUED).set(records as f64);
}

/// Counts an operation and how long it took.
pub(crate) fn operation(operation: Operation, took: Duration, failed: bool) {
    histogram!(OPERATION_SECONDS, "operation" => operation.as_str()).record(took);
    if failed {
        counter!(OPERATION_ERRORS, "operation" => operation.as_str()).increment(1);
    }
}
