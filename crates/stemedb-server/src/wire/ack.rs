//! Answers to writes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::scalar::{AgentKey, Id, Time};

/// Whether a write created its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AckStatus {
    /// It did.
    Created,
    /// The same record was there before.
    Exists,
}

/// Why an assertion takes no part in answers now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exclusion {
    /// The reason.
    #[schema(example = "retracted")]
    pub reason: String,
    /// The record that makes it so, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Id>,
}

/// A record is durable and readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ack {
    /// The record.
    pub id: Id,
    /// Its number in the log.
    #[schema(minimum = 1)]
    pub position: u64,
    /// When it was committed.
    pub recorded_at: Time,
    /// Whether this request created it.
    pub status: AckStatus,
    /// Names the state of the database that holds it: `at_least` takes it.
    pub snapshot: String,
    /// Who signed it.
    pub agent: AgentKey,
    /// The claimed time it was signed with.
    pub at: Time,
    /// Whether the server signed for its caller.
    pub custodial: bool,
    /// Of an assertion that existed: why it takes no part now, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Exclusion>,
}

/// What became of one line of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImportStatus {
    /// A new record.
    Created,
    /// The same record was there before.
    Exists,
    /// Not written; `error` says why.
    Error,
}

/// The result of one line of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportLine {
    /// Its number, from 1; empty lines count.
    #[schema(minimum = 1)]
    pub line: u64,
    /// What became of it.
    pub status: ImportStatus,
    /// The record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Its number in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// When it was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Time>,
    /// Why it was not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// The last line of the answer to an import. Without it, the import was cut short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportSummary {
    /// Always true, so that a program can tell this line from the others.
    pub done: bool,
    /// Lines read.
    pub lines: u64,
    /// New records.
    pub created: u64,
    /// Records that were there before.
    pub exists: u64,
    /// Lines that were not written.
    pub errors: u64,
    /// Why reading stopped before the end of the body, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Problem>,
}
