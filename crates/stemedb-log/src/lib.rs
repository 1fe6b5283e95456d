//! The truth in order: the [`Log`] trait, the write-ahead log, recovery, verify.
//!
//! [`Wal`] keeps the contract of [`Log`] on a file system, [`MemoryLog`] is the reference, and
//! [`conformance`] is the contract as code. The files are specified in `docs/format/wal.md`.
//!
//! | module | what |
//! |---|---|
//! | `format` | bytes of headers, blocks, groups, entries; touches no file |
//! | `walk`, `packed`, `segment` | prove the groups of a segment one after the other: in blocks, packed, in either shape |
//! | `recover` | surveys a folder, judges it, opens it |
//! | `wal`, `worker`, `reader`, `shared` | the writing end, its background work, the reading end, what they share |
//! | `health`, `heal`, `prove` | what a failing medium does to the log, and how it goes on |
//! | `part` | cuts a log into parts for an archive, and puts a log together from parts |
//! | `upkeep`, `trim` | packs and scrubs sealed segments; removes what is safe elsewhere |
//! | `removed` | where the reading end finds what was removed |
//! | `inspect` | `verify`, `dump`, `stat`: beside a running server, never writing; `repair` of a segment into a new file |
//!
//! Invariants:
//! - Bytes reach a file only in front of the commit's one sync, in blocks that never held any.
//! - A file under which write, sync, cut, rename, allocate, folder sync or close failed is never
//!   written again. The log goes on in a fresh segment once every durable group was read back from
//!   the medium, else it is read-only. Reads go on.
//! - Of a group that somebody was told is not written, no byte counts any more: the fence that
//!   voids it was durable before.
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
mod heal;
mod health;
mod inspect;
mod memory;
mod packed;
mod part;
mod prove;
mod reader;
mod recover;
mod removed;
mod segment;
mod shared;
mod syncs;
mod telemetry;
mod trim;
mod upkeep;
mod wal;
mod walk;
mod worker;

pub use chain::{ChainHasher, chain_start};
pub use config::{
    Expect, OnFailure, Recovery, Retention, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, UPKEEP_RATE_MIN,
    Voided, WalConfig,
};
pub use entry::{Commit, Entry, NewEntry};
pub use error::{ErrorKind, LogError, LogState, Outcome};
pub use format::block::{BlockHeader, GroupKind};
pub use format::group::LostRange;
pub use format::header::{FORMAT, Fence, SegmentHeader, segment_number};
pub use inspect::{
    DroppedBytes, DumpItem, HeaderOrigin, LostPositions, RepairOptions, RepairReport,
    RepairWritten, RestoreOptions, RestoreReport, SegmentReport, StatReport, Undecided,
    VerifyReport, dump, repair, restore_segment, stat, verify, verify_watched,
};
pub use memory::MemoryLog;
pub use part::{
    Composed, Composer, Cutter, Follower, Link, Part, PartContent, PartEnd, VisitPart, Waiting,
    end_within, read_part,
};
pub use recover::judge::{DamageKind, Finding};
pub use removed::Removed;
pub use trim::{ArchiveProof, Removable, Trimmed, Trimmer};
pub use upkeep::{Repacked, Scrubbed};
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
///    is. *Not written*: it is not in the log and never will be. *Indeterminate*: the log keeps the
///    group; [`Log::resume`] or [`Log::attach`] makes it durable, or the next start decides, and it
///    never changes after that;
/// 4. a log that cannot make bytes durable is read-only: appends are refused, reads go on.
///
/// One group costs one sync. Nothing above the trait assumes that an append is fast or local.
pub trait Log: Send {
    /// Makes `group` durable. Refuses an empty group.
    fn append(&mut self, group: &[NewEntry]) -> Result<Commit, LogError>;
    /// Carries the newest durable watermark to the medium (an idle or clean-stop seal).
    fn seal(&mut self) -> Result<(), LogError>;
    /// Tries to take writes again, if the log is read-only and can find out by itself whether that
    /// is safe. Gives the commit of the group that an indeterminate append left, if there is one:
    /// it is durable now. `Ok(None)` also if nothing was wrong. Cheap when it is too early to try.
    fn resume(&mut self) -> Result<Option<Commit>, LogError>;
    /// Closes every file, so that the file system can be unmounted and checked. Appends and reads
    /// of the log are refused until [`Log::attach`].
    fn detach(&mut self) -> Result<(), LogError>;
    /// Takes writes again on an operator's word that the file system is whole: proves everything
    /// durable, then goes on in a fresh segment. The result is that of [`Log::resume`].
    fn attach(&mut self) -> Result<Option<Commit>, LogError>;
    /// An operator has seen why the log is degraded: it is no more. What that was.
    fn acknowledge(&mut self) -> Option<String>;
    /// The most bytes a group may have, as the sum of [`NewEntry::encoded_len`].
    fn group_bytes_max(&self) -> usize {
        usize::MAX
    }
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
    /// What repairs gave up, ascending: positions that stay numbered and read as
    /// [`LogError::Lost`]; a scan passes over them. Empty for a log that was never repaired.
    fn lost(&self) -> Vec<LostRange> {
        Vec::new()
    }
    /// The chain hash after the newest group, with the position it stands for (the log root).
    fn root(&self) -> (Position, Hash);
    /// `ok`, `read_only`, …, with the reason.
    fn state(&self) -> LogState;
}
