//! The audit of reads.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::{IntoParams, ToSchema};

use super::scalar::{HashHex, LogIdHex, SubjectText, Time, TimeParam};

/// What an entry of the audit tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// A read.
    Read,
    /// Reads that could not be taken down.
    Gap,
    /// The node stopped in an orderly way.
    End,
}

/// One entry of the audit, as its file holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// The hash of this entry and of all before it.
    pub chain: HashHex,
    /// Its number, dense from 1.
    pub id: u64,
    /// What it tells of.
    pub kind: AuditKind,
    /// When the answer was ready.
    pub at: Time,
    /// The newest entry known to be durable when this one was written.
    pub synced: u64,
    /// Who asked: the owner of the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// From where: address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/query")]
    pub endpoint: Option<String>,
    /// The path, where the endpoint has parameters in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The question: parameters, or the body, with the fields of every object in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Json>,
    /// Of a body that is no JSON, or of a refused one that is too long: its hash instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question_hash: Option<HashHex>,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The code of a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The position that was answered at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The state of the database that was answered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// When weights were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_at: Option<Time>,
    /// BLAKE3 of the body of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_hash: Option<HashHex>,
    /// Its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<u64>,
    /// Of a stream: that it began, with this question at this snapshot; what came is not hashed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streamed: bool,
    /// What was told, in short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<AuditTold>,
    /// How much more was told, for which there is no room here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_besides: Option<u64>,
    /// Of a gap: how many reads are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// One answer, or one record, in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditTold {
    /// The record that was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The entity that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// The lens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lens: Option<String>,
    /// Agreement, as told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The winners, as told; left out where they are too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub winners: Vec<Json>,
}

/// The first line of each file of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHeader {
    /// The hash of this line and of all before it.
    pub chain: HashHex,
    /// The version of the format, 1.
    pub audit: u64,
    /// The number of the file.
    pub file: u64,
    /// The database that was read.
    pub log_id: LogIdHex,
    /// When the file was made.
    pub at: Time,
    /// The number of the first entry.
    pub first: u64,
    /// The oldest file that retention keeps.
    pub kept_from: u64,
    /// Where the history before this file ends; left out in the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<AuditFence>,
}

/// The end of what counts in a file: bytes behind it are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFence {
    /// The number of the file.
    pub file: u64,
    /// How many bytes of it count.
    pub bytes: u64,
    /// The chain there.
    pub chain: HashHex,
    /// Bytes behind it that were found and do not count: a write that power or the disk cut short.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A page of the audit, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The entries. May be fewer than the limit, or none, and yet not the last page.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins, if there is more to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What GET /v1/audit/queries asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// Only reads by this principal.
    pub principal: Option<String>,
    /// Only reads about this entity: it stands in the question or in what was told.
    pub subject: Option<SubjectText>,
    /// Only reads of this endpoint, as `/v1/records/{id}`.
    pub endpoint: Option<String>,
    /// Only what was told at this time or later.
    pub from: Option<TimeParam>,
    /// Only what was told before this time.
    pub to: Option<TimeParam>,
    /// How many entries a page holds. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where the next page begins, from the one before; all other parameters stay the same.
    pub cursor: Option<String>,
}

/// The audit, for health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHealth {
    /// `ok`, `off`, `failing` (reads are not taken down) or `damaged` (an entry of the past is).
    #[schema(example = "ok")]
    pub state: String,
    /// Whether reads are refused while they cannot be taken down.
    pub required: bool,
    /// What failed, where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The newest durable entry; 0 if there is none.
    pub last: u64,
    /// The chain there. Kept elsewhere, it proves that nothing up to it was cut off or changed.
    pub chain: HashHex,
}
