//! JSON as it crosses the wire, and its way to and from the nouns of the model.
//!
//! A leaf: it imports the model, serde and the schema derive, nothing of the server, so that a
//! client can use it too. Answers are plain structs that read back what they wrote.
//!
//! - Bytes are hex. Times come in as RFC 3339 or as integer milliseconds and go out as RFC 3339.
//! - Unknown and repeated fields are refused; an error names its field and the limit.
//! - Sets (`derived_from`, `roles`, …) may come in any order: the canonical form has one.

mod ack;
mod audit;
mod conflicts;
mod diff;
mod keys;
mod lens;
mod node;
mod nquads;
mod object;
mod params;
mod point;
mod problem;
mod read;
mod receipt;
mod record;
mod resolution;
mod scalar;
mod trust;
mod whatif;

pub use ack::{Ack, AckStatus, Exclusion, ImportLine, ImportStatus, ImportSummary};
pub use audit::{
    AuditEntry, AuditFence, AuditHeader, AuditHealth, AuditKind, AuditPage, AuditParams, AuditTold,
};
pub use conflicts::{Conflict, ConflictParams, ConflictsAnswer};
pub use diff::{ChangeKind, ClaimChange, Diff, ValueChange};
pub use keys::{
    AdminEntry, AdminPage, AdminParams, KeyInfo, KeyList, KeyRole, MadeKey, NewKey, Quota,
    RotateKey, Usage,
};
pub use lens::{LensAnswer, LensFault, LensName, LensPage, LensParams, LensesParams};
pub use node::{
    Checkpoint, Drain, Health, Node, NodeArchive, NodeReason, PositionRange, PromoteParams,
    Rebuild, Replica, RootParams, Roots,
};
pub use nquads::{Exported, NQUADS, write_record};
pub use object::{Object, Tagged};
pub use params::{
    DrainParams, ExportFormat, ExportParams, FeedParams, ImportParams, ImportResults, KeyParams,
    QueryParams, ReadyFor, ReadyParams, RecordParams, TraceParams,
};
pub use point::{AsOf, AtLeast, Decay, Tier};
pub use problem::{ErrorCode, Problem};
pub use read::{
    AssertionPage, Fact, FactKind, KeyRef, QueryResult, RecordAnswer, Relation, ResolutionPage,
    ResolveRequest, ResolveResult, ResolvedKey, Standing, StoredRecord, TraceAnswer, TraceLink,
};
pub use receipt::{
    Considered, ExplainParams, Explanation, Receipt, ReceiptOptions, ReceiptTrust, ReceiptValue,
    Replay,
};
pub use record::*;
pub use resolution::{Dissent, Excluded, Layer, Reference, Resolution, Status, Value};
pub use scalar::*;
pub use trust::{
    Dispute, LearnParams, LearnedTrust, TopicTrust, TrustAnswer, TrustInForce, TrustParams,
};
pub use whatif::{ChangedAnswer, Drop, ShortAnswer, WhatIfAnswer, WhatIfRequest};

/// What is wrong with a body or a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is not JSON, or ends too early.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// A field is unknown, repeated, missing, or does not hold what it should.
    #[error("{field}: {problem}")]
    Field {
        /// The path of the field.
        field: String,
        /// What was found and what was expected.
        problem: String,
    },
}

impl WireError {
    /// `field: problem`.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }
}

impl From<stemedb_model::InvalidField> for WireError {
    fn from(invalid: stemedb_model::InvalidField) -> Self {
        Self::field(invalid.field, invalid.problem)
    }
}

/// Reads a JSON object; an error names the field in which it happened.
pub fn from_json<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, WireError> {
    // The derive would take an array of the fields in order as well.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|first| *first != b'{') {
        return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            Ok(_) => WireError::field("body", "is not a JSON object"),
            Err(error) => WireError::Malformed(error.to_string()),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            field_error(&path, &inner.to_string())
        } else {
            WireError::Malformed(inner.to_string())
        }
    })?;
    json.end().map_err(|error| WireError::Malformed(error.to_string()))?;
    Ok(value)
}

/// Of a missing, repeated or unknown field serde tells the name in the message, and the path of
/// what should or should not hold it.
pub fn field_error(path: &str, message: &str) -> WireError {
    let path = if path == "." { "" } else { path };
    let problems = [
        ("missing field `", Some("is missing")),
        ("duplicate field `", Some("is there twice")),
        ("unknown field `", None),
    ];
    for (start, problem) in problems {
        let Some((name, _)) = message.strip_prefix(start).and_then(|rest| rest.split_once('`'))
        else {
            continue;
        };
        let field = match path {
            "" => name.to_owned(),
            _ if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
            _ => format!("{path}.{name}"),
        };
        return WireError::field(field, problem.unwrap_or(message));
    }
    WireError::field(if path.is_empty() { "body" } else { path }, message)
}
