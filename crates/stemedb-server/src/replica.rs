//! A node that follows another, as the server shows and asks it. What it is, the binary knows.

use std::time::Duration;

/// A node that follows another.
pub trait Replica: Send + Sync {
    /// How it is.
    fn status(&self) -> ReplicaStatus;
    /// Begins to take the place of the primary; how that goes, the status tells. With `force` also where
    /// nothing stops the primary from writing. Refused with the reason.
    fn promote(&self, force: bool) -> Result<(), String>;
}

/// A node that follows another, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaStatus {
    /// The archive that it follows.
    pub of: String,
    /// What it is doing: `catching_up`, `following`, `failing`, `stopped`, `promoting`.
    pub state: &'static str,
    /// Why it does not go on, or what it waits for.
    pub problem: Option<String>,
    /// Where the primary is, if that is known.
    pub primary: Option<String>,
    /// Newest position that is known of the primary.
    pub primary_position: u64,
    /// How many positions this node is behind.
    pub lag_positions: u64,
    /// How long ago it had everything that was known of the primary then.
    pub lag: Duration,
}
