//! What goes in and comes out: one record with its envelope.

use stemedb_model::{Hash, Millis, Position, Principal, Signed};

/// One durable record, as it is applied and as it is read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number in the log.
    pub position: Position,
    /// When its group was committed.
    pub recorded_at: Millis,
    /// Owner of the API key it came through.
    pub principal: Principal,
    /// Signed by the server for a caller without keys.
    pub custodial: bool,
    /// Hash of (principal, idempotency key), if the caller gave one.
    pub idempotency: Option<Hash>,
    /// The record, its id and its signature.
    pub signed: Signed,
}
