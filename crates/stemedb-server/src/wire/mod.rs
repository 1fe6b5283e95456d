//! JSON as it crosses the wire, and its way to and from the nouns of the model.
//!
//! A leaf: it imports the model, serde and the schema derive, nothing of the server, so that a
//! client can use it too. Answers are plain structs that read back what they wrote.
//!
//! - Bytes are hex. Times come in as RFC 3339 or as integer milliseconds and go out as RFC 3339.
//! - Unknown and repeated fields are refused; an error names its field and the limit.
//! - Sets (`derived_from`, `roles`, …) may come in any order: the canonical form has one.

mod ack;
mod node;
mod object;
mod problem;
mod read;
mod record;
mod resolution;
mod scalar;

pub use ack::{Ack, AckStatus, Exclusion, ImportLine, ImportStatus, ImportSummary};
pub use node::{Drain, Health, Node, NodeReason};
pub use object::{Object, Tagged};
pub use problem::{ErrorCode, Problem};
pub use read::{
    AsOf, AssertionPage, AtLeast, Decay, ExportFormat, ExportParams, Fact, FactKind, KeyParams,
    KeyRef, LensName, QueryParams, QueryResult, RecordAnswer, RecordParams, ResolutionPage,
    ResolveRequest, ResolveResult, ResolvedKey, StoredRecord, Tier,
};
pub use record::*;
pub use resolution::{Dissent, Excluded, Layer, Reference, Resolution, Status, Value};
pub use scalar::*;

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

/// Reads JSON; an error names the field in which it happened.
pub fn from_json<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, WireError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let field = if path == "." { "body".to_owned() } else { path };
            WireError::field(field, inner.to_string())
        } else {
            WireError::Malformed(inner.to_string())
        }
    })?;
    json.end().map_err(|error| WireError::Malformed(error.to_string()))?;
    Ok(value)
}
