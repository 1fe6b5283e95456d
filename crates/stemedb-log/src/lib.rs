//! The truth in order: the [`Log`] trait, the write-ahead log, recovery, verify.
//!
//! [`Wal`] keeps the contract of [`Log`] on a file system, [`MemoryLog`] is the reference, and
//! [`conformance`] is the contract as code. The files are specified in `docs/format/wal.md`.
//!
//! | module | what |
//! |---|---|
//! | `format` | bytes of headers, blocks, groups, entries; touches no file |
//! | `walk` | proves the groups of a segment one after the other |
//! | `recover` | surveys a folder, judges it, opens it |
//! | `wal`, `worker`, `reader`, `shared` | the writing end, its background work, the reading end, what they share |
//! | `inspect` | `verify`, `dump`, `stat`: beside a running server, never writing |
//!
//! Invariants:
//! - Bytes reach a file only in front of the commit's one sync, in blocks that never held any.
//! - After an error of write, sync, cut, rename, allocate, folder sync or close the process writes
//!   to no segment any more. Reads go on.
//! - Readers see only what is durable. Recovery believes only what it has read after dropping the
//!   cache, and says if it could not.
//! - No byte from disk is used before its sector has verified, and no length from disk allocates
//!   more than the group it is in.
//!
//! Absent on purpose: what a record means (bodies are bytes), who may write, when to seal, and the
//! check for a wall clock that jumps; all of that is the engine's.

mod chain;
mod config;
pub mod conformance;
mod entry;
mod error;
mod format;
mod inspect;
mod memory;
mod reader;
mod recover;
mod shared;
mod telemetry;
mod wal;
mod walk;
mod worker;

pub use chain::{ChainHasher, chain_start};
pub use config::{Expect, Recovery, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Voided, WalConfig};
pub use entry::{Commit, Entry, NewEntry};
pub use error::{ErrorKind, LogError, LogState, Outcome};
pub use format::block::{BlockHeader, GroupKind};
pub use format::group::LostRange;
pub use format::header::{Fence, SegmentHeader};
pub use inspect::{DumpItem, SegmentReport, StatReport, VerifyReport, dump, stat, verify};
pub use memory::MemoryLog;
pub use recover::judge::{DamageKind, Finding};
pub use wal::Wal;
pub use walk::Group;

use std::sync::Arc;

use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

/// An append-only, totally ordered sequence of records: the writing end, owned by one thread.
///
/// Contract, checked alike for every implementation by the `conformance` suite:
/// 1. positions are dense: the first record is 1, each record adds exactly one;
/// 2. a record, its position and its `recorded_at` never change; `recorded_at` never goes back;
/// 3. `append` returns `Ok` only when the whole group survives loss of power. `Err` says which it
///    is: not written, or indeterminate; an indeterminate one is decided later and never changes
///    after that;
/// 4. after an error of the medium the log is read-only: appends are refused, reads go on.
///
/// One group costs one sync. Nothing above the trait assumes that an append is fast or local.
pub trait Log: Send {
    /// Makes `group` durable. Refuses an empty group.
    fn append(&mut self, group: &[NewEntry]) -> Result<Commit, LogError>;
    /// Carries the newest durable watermark to the medium (an idle or clean-stop seal).
    fn seal(&mut self) -> Result<(), LogError>;
    /// A reading end; any number may exist, on any thread.
    fn reader(&self) -> Arc<dyn LogReader>;
}

/// The reading end of a log. Sees only what is durable.
pub trait LogReader: Send + Sync {
    /// Name of the database and of this branch; `None` before genesis.
    fn identity(&self) -> Option<(LogId, Timeline)>;
    /// The newest durable position and its `recorded_at`; `(Position::NONE, _)` when empty.
    fn durable(&self) -> (Position, Millis);
    /// The entry at `position`, or `None` outside `1..=durable`.
    fn read(&self, position: Position) -> Result<Option<Entry>, LogError>;
    /// Calls `visit` with groups of entries in order, from `from` on, whole groups except perhaps
    /// the first, until the end or until `visit` says stop. Bounded memory.
    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<(), LogError>;
    /// The chain hash after the newest group, with the position it stands for (the log root).
    fn root(&self) -> (Position, Hash);
    /// `ok`, `read_only`, …, with the reason.
    fn state(&self) -> LogState;
}
