//! The node: its state and health.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit::AuditHealth;
use super::scalar::{AgentKey, HashHex, LogIdHex, Time, TimeParam, TimelineHex};

/// Why the node is not simply ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReason {
    /// `wal_unavailable`, `index_failed`, `fenced`, `clock_jump`, `archive_unavailable` or
    /// `recovery_failed`.
    #[schema(example = "wal_unavailable")]
    pub code: String,
    /// For people: what failed, where.
    pub detail: String,
}

/// The node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// `starting`, `recovering`, `ready`, `read_only`, `standby`, `draining`, `drained` or `stopped`.
    #[schema(example = "ready")]
    pub state: String,
    /// Why it takes no writes, or why recovery ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<NodeReason>,
    /// Set while the node is ready but an operator should look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// What the log says of itself: `ok`, `degraded`, `read_only` or `detached`.
    #[schema(example = "ok")]
    pub wal: String,
    /// The database.
    pub log_id: LogIdHex,
    /// Its branch.
    pub timeline: TimelineHex,
    /// Newest position in the index: what reads see.
    pub position: u64,
    /// Newest position in the log.
    pub durable: u64,
    /// Records that are queued, being made durable or being applied.
    pub in_flight: u64,
    /// The archive of the log, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<NodeArchive>,
    /// Of a standby, in the answers of `GET /v1/admin/node` and `GET /v1/health`: what it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Replica>,
    /// How the index is being made anew, or how that ended the last time since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
}

/// The archive of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeArchive {
    /// Whether acknowledgements wait until their record is there (`archive.sync`).
    pub sync: bool,
    /// `starting`, `running`, `failing` (it tries again) or `stopped` (somebody has to look).
    #[schema(example = "running")]
    pub state: String,
    /// Everything up to here is there.
    pub position: u64,
    /// Why it takes nothing now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a standby follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    /// The archive.
    pub of: String,
    /// `catching_up`, `following`, `failing`, `stopped` or `promoting`.
    #[schema(example = "following")]
    pub state: String,
    /// Why it does not go on, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where the node is that takes writes, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Newest position that is known of that node.
    pub primary_position: u64,
    /// How many positions this node is behind.
    pub lag_positions: u64,
    /// How long ago it had everything that was known of that node then.
    pub lag_seconds: f64,
}

/// What POST /v1/admin/promote asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PromoteParams {
    /// Also where the primary keeps no lease, so that nothing but whoever asks keeps it from writing.
    /// Default: false.
    pub force: Option<bool>,
}

/// How far the index is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebuild {
    /// `running`, `done` or `failed`.
    #[schema(example = "running")]
    pub state: String,
    /// When it began.
    pub began_at: Time,
    /// Newest position in the new index; it has to get to `durable`.
    pub position: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a checkpoint came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Up to here the index on the medium has everything.
    pub position: u64,
    /// Newest position in the log.
    pub durable: u64,
    /// Bytes of the index on the medium.
    pub index_bytes: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// Health, for people and dashboards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or what is the matter: `degraded`, `read_only`, `standby`, `not_ready`.
    #[schema(example = "ok")]
    pub status: String,
    /// The node.
    pub node: Node,
    /// The key that signed genesis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_public_key: Option<AgentKey>,
    /// The key by which the server signs for its caller, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custodial_agent: Option<AgentKey>,
    /// The audit of reads. The node is `degraded` while it is failing or damaged.
    pub audit: AuditHealth,
    /// Version of the server.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// Commit it was built from.
    pub commit: String,
    /// The state of the database that reads see.
    pub snapshot: String,
    /// True if damage took records from the log that a repair gave up.
    pub history_lost: bool,
    /// The positions of such records: they read as `lost`, and are not given to other records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<PositionRange>,
}

/// Some positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionRange {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// The node afterwards.
    pub node: Node,
    /// Whether everything was done within the bound.
    pub complete: bool,
    /// What is left, in words.
    pub left: Vec<String>,
}

/// What GET /v1/admin/root asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RootParams {
    /// The position that is answered at. Default: the newest.
    #[param(minimum = 0, maximum = 9223372036854775807_i64)]
    pub position: Option<u64>,
    /// When weights and validity are taken. Default: when that position was recorded.
    pub evaluated_at: Option<TimeParam>,
}

/// One hash over every answer and one over the log: two nodes with the same log give the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Roots {
    /// Every answer is of this position.
    pub position: u64,
    /// Weights and validity were taken at this time.
    pub evaluated_at: Time,
    /// How many keys there are.
    pub keys: u64,
    /// The hash over all keys under all built-in lenses.
    pub answer_root: HashHex,
    /// The chain hash of the log at its newest group.
    pub log_root: HashHex,
    /// The last position of that group.
    pub log_root_position: u64,
}
