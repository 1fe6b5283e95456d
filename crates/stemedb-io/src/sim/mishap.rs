//! What goes wrong by chance: each kind of mishap has a rate in parts per million of the operations
//! that it can befall, and the seed decides which ones it does.

use std::collections::BTreeMap;

use super::fault::{EIO, ENOSPC, OpKind};
use super::rng::SplitMix;

/// A kind of mishap. The first ones are errors that the program is told of; the last three are lies
/// of the medium, that it is not told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mishap {
    /// A write fails (EIO); whole sectors of it may have been taken.
    WriteEio,
    /// A write fails for want of room (ENOSPC); whole sectors of it may have been taken.
    WriteNoSpace,
    /// A write takes some of its bytes, ending anywhere in a sector, and fails (EIO).
    ShortWrite,
    /// A sync fails (EIO); see [`Personality`](super::Personality) for what it leaves.
    SyncEio,
    /// A sync fails for want of room (ENOSPC), as where blocks are found only at write-back.
    SyncNoSpace,
    /// A sync takes one to nine seconds.
    SyncSlow,
    /// A sync takes half a minute to two minutes, and in half of the cases fails at the end.
    SyncHung,
    /// A sync of a folder fails (EIO); none of its names is durable by it.
    SyncDirEio,
    /// A rename fails (EIO) and does nothing.
    RenameEio,
    /// A removal fails (EIO) and does nothing.
    RemoveEio,
    /// A file cannot be created (EIO).
    CreateEio,
    /// Room cannot be reserved (ENOSPC).
    AllocateNoSpace,
    /// A length cannot be set (EIO).
    SetLenEio,
    /// Closing reports an error (EIO); the file is closed.
    CloseEio,
    /// A read fails (EIO); the next one may succeed.
    ReadEio,
    /// A sync says ok, and of what it covers some sectors, or all, were never written.
    SilentDrop,
    /// A sync says ok, and one page of it was written to another place.
    MisdirectedWrite,
    /// A sync says ok although the write-back failed; the error comes with a later sync of the
    /// file, by whatever descriptor, or when one is closed.
    LateReport,
}

impl Mishap {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::WriteEio,
        Self::WriteNoSpace,
        Self::ShortWrite,
        Self::SyncEio,
        Self::SyncNoSpace,
        Self::SyncSlow,
        Self::SyncHung,
        Self::SyncDirEio,
        Self::RenameEio,
        Self::RemoveEio,
        Self::CreateEio,
        Self::AllocateNoSpace,
        Self::SetLenEio,
        Self::CloseEio,
        Self::ReadEio,
        Self::SilentDrop,
        Self::MisdirectedWrite,
        Self::LateReport,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteEio => "write EIO",
            Self::WriteNoSpace => "write ENOSPC",
            Self::ShortWrite => "short write",
            Self::SyncEio => "sync EIO",
            Self::SyncNoSpace => "sync ENOSPC",
            Self::SyncSlow => "slow sync",
            Self::SyncHung => "hung sync",
            Self::SyncDirEio => "folder sync EIO",
            Self::RenameEio => "rename EIO",
            Self::RemoveEio => "unlink EIO",
            Self::CreateEio => "create EIO",
            Self::AllocateNoSpace => "allocate ENOSPC",
            Self::SetLenEio => "cut EIO",
            Self::CloseEio => "close EIO",
            Self::ReadEio => "read EIO",
            Self::SilentDrop => "silent drop",
            Self::MisdirectedWrite => "misdirected write",
            Self::LateReport => "late report",
        }
    }

    /// Whether bytes that a sync has confirmed are not on the medium after it.
    pub fn lies(self) -> bool {
        matches!(self, Self::SilentDrop | Self::MisdirectedWrite | Self::LateReport)
    }

    /// Whether the program is told.
    pub fn is_error(self) -> bool {
        self.errno().is_some()
    }

    fn befalls(self, op: OpKind, creates: bool) -> bool {
        match self {
            Self::WriteEio | Self::WriteNoSpace | Self::ShortWrite => op == OpKind::Write,
            Self::SyncEio
            | Self::SyncNoSpace
            | Self::SyncSlow
            | Self::SyncHung
            | Self::SilentDrop
            | Self::MisdirectedWrite
            | Self::LateReport => matches!(op, OpKind::SyncData | OpKind::SyncAll),
            Self::SyncDirEio => op == OpKind::SyncDir,
            Self::RenameEio => op == OpKind::Rename,
            Self::RemoveEio => op == OpKind::Remove,
            Self::CreateEio => op == OpKind::Open && creates,
            Self::AllocateNoSpace => op == OpKind::Allocate,
            Self::SetLenEio => op == OpKind::SetLen,
            Self::CloseEio => op == OpKind::Close,
            Self::ReadEio => op == OpKind::Read,
        }
    }

    pub(super) fn errno(self) -> Option<i32> {
        match self {
            Self::WriteNoSpace | Self::SyncNoSpace | Self::AllocateNoSpace => Some(ENOSPC),
            Self::WriteEio
            | Self::ShortWrite
            | Self::SyncEio
            | Self::SyncDirEio
            | Self::RenameEio
            | Self::RemoveEio
            | Self::CreateEio
            | Self::SetLenEio
            | Self::CloseEio
            | Self::ReadEio => Some(EIO),
            Self::SyncSlow
            | Self::SyncHung
            | Self::SilentDrop
            | Self::MisdirectedWrite
            | Self::LateReport => None,
        }
    }
}

/// Rates in parts per million.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates(BTreeMap<Mishap, u32>);

impl Rates {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets the rate of one kind.
    pub fn set(&mut self, mishap: Mishap, ppm: u32) {
        self.0.insert(mishap, ppm);
    }

    /// What befalls an operation, if anything.
    pub(super) fn draw(&self, op: OpKind, creates: bool, rng: &mut SplitMix) -> Option<Mishap> {
        let mut struck = None;
        for (mishap, ppm) in &self.0 {
            if mishap.befalls(op, creates) && rng.chance(*ppm) {
                struck = struck.or(Some(*mishap));
            }
        }
        struck
    }
}
