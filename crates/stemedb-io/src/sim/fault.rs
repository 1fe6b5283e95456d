//! Faults to order: which operation fails, when, and with what error.

use std::path::Path;

use super::rng::SplitMix;

/// Kinds of operations on files and folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named after the method it stands for")]
pub enum OpKind {
    Open,
    CreateDir,
    ReadDir,
    Rename,
    Remove,
    SyncDir,
    Metadata,
    Space,
    Lock,
    Read,
    ReadNowait,
    Write,
    SyncData,
    SyncAll,
    SetLen,
    Len,
    Allocate,
    Evict,
    Close,
}

/// When a fault strikes. Operations are counted from 1, from the moment the fault was injected,
/// and only those that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The n-th one only.
    Nth(u64),
    /// The n-th one and every later one.
    From(u64),
    /// Each one with this probability, in parts per million, drawn from the seed.
    Ppm(u32),
}

/// One order. A failing write may leave any first part of its bytes; a failing sync leaves what
/// the [`Personality`](super::Personality) says; everything else that fails does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of operation; `None`: any.
    pub op: Option<OpKind>,
    /// Part of the path; empty: any.
    pub path: String,
    /// When.
    pub when: When,
    /// The error number of the system, such as 5 (EIO) or 28 (ENOSPC).
    pub errno: i32,
}

/// EIO.
pub const EIO: i32 = 5;
/// ENOSPC.
pub const ENOSPC: i32 = 28;
/// EROFS.
pub const EROFS: i32 = 30;

#[derive(Debug, Clone)]
pub(super) struct Armed {
    fault: Fault,
    seen: u64,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, seen: 0 }
    }

    /// Counts the operation and says whether it must fail.
    pub(super) fn strikes(&mut self, op: OpKind, path: &Path, rng: &mut SplitMix) -> Option<i32> {
        let fault = &self.fault;
        let named = fault.op.is_none_or(|kind| kind == op)
            && (fault.path.is_empty() || path.to_string_lossy().contains(&fault.path));
        if !named {
            return None;
        }
        self.seen += 1;
        let strikes = match fault.when {
            When::Nth(n) => self.seen == n,
            When::From(n) => self.seen >= n,
            When::Ppm(ppm) => rng.chance(ppm),
        };
        strikes.then_some(fault.errno)
    }
}
