//! The chain: one BLAKE3 hash per group, each over the one before it.
//!
//! ```text
//! chain(0) = BLAKE3("stemedb/log/v0/start" 00 ‖ log_id)
//! chain(g) = BLAKE3("stemedb/log/v0/group" 00 ‖ chain(g-1) ‖ g ‖ first ‖ head(first) ‖ … ‖ head(last))
//! ```
//!
//! `g` (the number of the group, from 1) and `first` (its first position) are u64 little-endian; a
//! head is everything of an entry but its body (`docs/format/wal.md`). The body is bound through
//! the record id in the head, so it can be erased later without breaking the chain. Seals are not
//! in the chain: the log root says what is in the log, not how often it rested.

use stemedb_model::{Hash, LogId, Position};

/// Heads are hashed in pieces of about this size: BLAKE3 works on many chunks of 1 KiB at once.
const GATHER_BYTES: usize = 32 << 10;

/// The chain hash before the first group of a log.
pub fn chain_start(log_id: LogId) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stemedb/log/v0/start\0").update(&log_id.0);
    Hash(*hasher.finalize().as_bytes())
}

/// The chain hash of one group in the making.
#[derive(Debug)]
pub struct ChainHasher {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
}

impl ChainHasher {
    /// Starts group number `group`, whose first entry is `first`, after `previous`.
    pub fn new(previous: Hash, group: u64, first: Position) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(b"stemedb/log/v0/group\0")
            .update(&previous.0)
            .update(&group.to_le_bytes())
            .update(&first.0.to_le_bytes());
        Self { hasher, gathered: Vec::new() }
    }

    /// Adds the next entry, by its head.
    pub fn head(&mut self, head: &[u8]) {
        self.gathered.extend_from_slice(head);
        if self.gathered.len() >= GATHER_BYTES {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
    }

    /// The chain hash after the group.
    pub fn finish(&mut self) -> Hash {
        self.hasher.update(&self.gathered);
        self.gathered.clear();
        Hash(*self.hasher.finalize().as_bytes())
    }
}
