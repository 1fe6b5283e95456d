//! What the log stores: one record with its envelope.

use std::sync::Arc;

use stemedb_model::{Hash, Millis, Position, Principal, RecordId, Signature};

/// One record on its way into the log. Built, checked, verified and encoded before it comes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Id of the record.
    pub id: RecordId,
    /// Signature over the id.
    pub signature: Signature,
    /// Owner of the API key it came through.
    pub principal: Principal,
    /// Signed by the server for a caller without keys.
    pub custodial: bool,
    /// Hash of (principal, idempotency key), if the caller gave one.
    pub idempotency: Option<Hash>,
    /// Canonical bytes of the record.
    pub body: Arc<[u8]>,
}

/// One durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub position: Position,
    /// The registry state that decided its rights; on one node the position before its own group's
    /// admission is implied and this is its own position.
    pub registry: Position,
    /// When its group was committed. Never decreases along the log.
    pub recorded_at: Millis,
    /// The record and the rest of its envelope.
    pub new: NewEntry,
}

/// What a successful append says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Position of the group's first entry; the others follow densely.
    pub first: Position,
    /// Stamped on every entry of the group.
    pub recorded_at: Millis,
}
