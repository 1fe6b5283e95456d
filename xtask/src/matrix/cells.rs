//! What there is to try: faults, moments, and which of them meet.

use std::time::Duration;

use clap::ValueEnum;

use crate::fault::{Act, Aim, Code, Plan, Times};
use crate::mount::FileSystem;

/// A way in which the world under the log goes wrong; a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Fault {
    WriteEioOnce,
    WriteEioHere,
    WriteEioAlways,
    EioEverywhere,
    EioEverywhereOneVolume,
    EnospcAtSync,
    VolumeFull,
    Quota,
    FlushFailsOnce,
    FlushFailsAlways,
    MetadataEio,
    CloseEio,
    LateError,
    SilentDrop,
    BitFlip,
    Misdirected,
    StaleSector,
    TornThenEio,
    TornThenCut,
    PowerCut,
    ReadEio,
    SlowWrite,
    SlowFlush,
    HungWrite,
    HungFlush,
    Kill9,
    ClockJump,
    SegmentMissing,
    SegmentsSwapped,
    SegmentOld,
    IndexFull,
    IndexEio,
}

/// Where in the life of a log the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Moment {
    /// The first group that the database ever writes.
    First,
    /// In the middle of a group of several blocks.
    Group,
    /// While the next segment is prepared.
    Rotation,
    /// The first write of a segment: header and first group.
    Header,
    /// The seal of a log that rests.
    Seal,
    /// While a sealed segment is packed.
    Repack,
    /// While the server starts after a power cut that tore the last group.
    Recovery,
    /// While a damaged segment is repaired.
    Repair,
}

/// What kind of promise is left under a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The disk says that it failed: whatever it does, nothing acknowledged is lost.
    Told,
    /// Nothing failed that the log could have been told of: slow, cut off, killed.
    Quiet,
    /// The disk lies: what it lost must be found out.
    Lie,
}

/// What makes the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// The disk under the log.
    Disk(Plan),
    /// The disk under the index.
    IndexDisk(Plan),
    /// SIGKILL while this request is held.
    Kill(Plan),
    VolumeFull,
    Quota,
    IndexFull,
    Clock,
    /// A file of the log changed while the server is stopped.
    File(FileChange),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileChange {
    Missing,
    Swapped,
    Old,
}

impl Fault {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::WriteEioOnce => "write EIO, once",
            Self::WriteEioHere => "write EIO, always at this place",
            Self::WriteEioAlways => "write EIO, every write of the log",
            Self::EioEverywhere => "EIO on every write of the log's volume",
            Self::EioEverywhereOneVolume => "EIO on every write; log, index and node on one volume",
            Self::EnospcAtSync => "ENOSPC at sync",
            Self::VolumeFull => "ENOSPC at write: the log's volume is full",
            Self::Quota => "EDQUOT: the quota is used up",
            Self::FlushFailsOnce => "flush fails, once",
            Self::FlushFailsAlways => "flush fails, always",
            Self::MetadataEio => "EIO on directory sync, rename, journal",
            Self::CloseEio => "EIO on close",
            Self::LateError => "late error: write ok, not stored, said at the flush",
            Self::SilentDrop => "silent drop",
            Self::BitFlip => "bit flip",
            Self::Misdirected => "misdirected write, onto an older block",
            Self::StaleSector => "stale sector",
            Self::TornThenEio => "torn group, any 512 B subset, then EIO",
            Self::TornThenCut => "torn group, any 512 B subset, then power cut",
            Self::PowerCut => "power cut",
            Self::ReadEio => "read EIO",
            Self::SlowWrite => "slow write, 1.5 s",
            Self::SlowFlush => "slow sync, 1.5 s",
            Self::HungWrite => "hung write, 14 s",
            Self::HungFlush => "hung sync, 14 s",
            Self::Kill9 => "kill -9",
            Self::ClockJump => "clock jump, 1 h ahead",
            Self::SegmentMissing => "segment missing",
            Self::SegmentsSwapped => "segments swapped",
            Self::SegmentOld => "an older copy of a segment",
            Self::IndexFull => "index volume full",
            Self::IndexEio => "index volume: EIO on every write",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::SilentDrop
            | Self::BitFlip
            | Self::Misdirected
            | Self::StaleSector
            | Self::SegmentMissing
            | Self::SegmentsSwapped
            | Self::SegmentOld => Kind::Lie,
            Self::TornThenCut
            | Self::PowerCut
            | Self::SlowWrite
            | Self::SlowFlush
            | Self::HungWrite
            | Self::HungFlush
            | Self::Kill9
            | Self::IndexFull
            | Self::IndexEio => Kind::Quiet,
            _ => Kind::Told,
        }
    }

    /// How it is made at a moment under a file system, or why it cannot be.
    pub(crate) fn means(
        self,
        moment: Moment,
        fs: FileSystem,
        seed: u64,
    ) -> Result<Means, &'static str> {
        let plan = |act, times| {
            let aim = match moment {
                Moment::First | Moment::Header | Moment::Recovery => Aim::Header,
                Moment::Group => Aim::MidGroup,
                Moment::Rotation => Aim::Prepared,
                Moment::Seal => Aim::Seal,
                Moment::Repack => Aim::Packed,
                Moment::Repair => Aim::Log,
            };
            // A lie about the copy in the journal is mended by the one that follows.
            let second = fs == FileSystem::Ext4Journal && self.kind() == Kind::Lie;
            Plan { aim, act, times, skip: 0, second }
        };
        let disk = |act, times| Ok(Means::Disk(plan(act, times)));
        let running =
            matches!(moment, Moment::Group | Moment::Rotation | Moment::Header | Moment::Seal);
        let everything = |act, times| Plan { aim: Aim::Everything, ..plan(act, times) };
        let eio = Act::Fail(Code::Io);
        match self {
            Self::WriteEioOnce => disk(eio, Times::Once),
            Self::WriteEioHere => disk(eio, Times::Here),
            Self::WriteEioAlways if moment == Moment::Seal => disk(eio, Times::Always),
            Self::WriteEioAlways => {
                Ok(Means::Disk(Plan { aim: Aim::Log, ..plan(eio, Times::Always) }))
            }
            Self::EioEverywhereOneVolume if moment == Moment::Repair => Err("as everywhere"),
            Self::EioEverywhere | Self::EioEverywhereOneVolume => {
                Ok(Means::Disk(everything(eio, Times::Always)))
            }
            Self::EnospcAtSync => disk(Act::Fail(Code::NoSpace), Times::Once),
            Self::FlushFailsOnce => {
                disk(Act::FailFlush { keeps: seed.is_multiple_of(2) }, Times::Once)
            }
            Self::FlushFailsAlways => {
                disk(Act::FailFlush { keeps: seed.is_multiple_of(2) }, Times::Always)
            }
            Self::MetadataEio if matches!(moment, Moment::Seal | Moment::Group) => match fs {
                FileSystem::Ext4 | FileSystem::Xfs => Err("the write changes no metadata here"),
                FileSystem::Ext4Journal | FileSystem::Btrfs => {
                    Ok(Means::Disk(Plan { aim: Aim::Metadata, ..plan(eio, Times::Once) }))
                }
            },
            Self::MetadataEio if (moment, fs) == (Moment::Repair, FileSystem::Xfs) => {
                Err("the file system writes its own blocks when the repair has ended")
            }
            Self::MetadataEio => {
                Ok(Means::Disk(Plan { aim: Aim::Metadata, ..plan(eio, Times::Once) }))
            }
            Self::CloseEio => {
                Err("local file systems report nothing at close; see injected errors")
            }
            Self::LateError => disk(Act::Late, Times::Once),
            Self::SilentDrop => disk(Act::Drop, Times::Once),
            Self::BitFlip => disk(Act::Flip, Times::Once),
            Self::Misdirected => disk(Act::Misdirect, Times::Once),
            Self::StaleSector => disk(Act::Stale, Times::Once),
            Self::TornThenEio => disk(Act::TornThenFail, Times::Once),
            Self::TornThenCut => disk(Act::TornThenCut, Times::Once),
            Self::PowerCut => disk(Act::Cut, Times::Once),
            Self::ReadEio => match moment {
                Moment::Group | Moment::Recovery => {
                    let plan = plan(Act::FailRead, Times::Here);
                    Ok(Means::Disk(Plan { aim: Aim::Entries, ..plan }))
                }
                Moment::Repair => disk(Act::FailRead, Times::Here),
                _ => Err("nothing is read then"),
            },
            Self::SlowWrite => disk(Act::Slow(Duration::from_millis(1500)), Times::Once),
            Self::SlowFlush => disk(Act::SlowFlush(Duration::from_millis(1500)), Times::Once),
            Self::HungWrite => disk(Act::Hang, Times::Once),
            Self::HungFlush => disk(Act::HangFlush, Times::Once),
            Self::Kill9 => Ok(Means::Kill(plan(Act::Hang, Times::Once))),
            Self::VolumeFull | Self::Quota => match (self, moment, fs) {
                (_, Moment::Group | Moment::Header | Moment::Seal | Moment::First, _) => {
                    Err("room is taken while a segment is prepared")
                }
                (Self::Quota, Moment::Rotation, FileSystem::Btrfs) => Ok(Means::Quota),
                (Self::Quota, Moment::Rotation, _) => {
                    Err("the kernel under test has no quota here; the errno is handled as ENOSPC")
                }
                (_, Moment::Repack, _) => Err("packing leaves the log its room, and waits for it"),
                (Self::VolumeFull, Moment::Rotation | Moment::Recovery, _) => Ok(Means::VolumeFull),
                (_, Moment::Repair, _) => Err("a repair without room: see ENOSPC at sync"),
                (_, _, _) => Err("as a full volume, under which nothing is prepared then"),
            },
            Self::ClockJump => match (moment, fs) {
                (Moment::Group, FileSystem::Ext4) => Ok(Means::Clock),
                _ => Err("no matter of the disk: under load on ext4"),
            },
            Self::SegmentMissing | Self::SegmentsSwapped | Self::SegmentOld => {
                if moment != Moment::Recovery {
                    return Err("found at the start");
                }
                Ok(Means::File(match self {
                    Self::SegmentMissing => FileChange::Missing,
                    Self::SegmentsSwapped => FileChange::Swapped,
                    _ => FileChange::Old,
                }))
            }
            Self::IndexFull | Self::IndexEio if running && moment != Moment::Group => {
                Err("no matter of the log: once under load is enough")
            }
            Self::IndexFull => match moment {
                Moment::Group => Ok(Means::IndexFull),
                _ => Err("no matter of the log: once under load is enough"),
            },
            Self::IndexEio => match moment {
                Moment::Group => Ok(Means::IndexDisk(everything(eio, Times::Always))),
                _ => Err("no matter of the log: once under load is enough"),
            },
        }
    }
}

impl Moment {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// One field of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) fault: Fault,
    pub(crate) fs: FileSystem,
    pub(crate) moment: Moment,
    /// Of the whole run.
    pub(crate) run_seed: u64,
}

pub(crate) fn fs_name(fs: FileSystem) -> String {
    fs.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Cell {
    /// Its own seed: that of the run and its name, so that it draws the same alone.
    pub(crate) fn seed(&self) -> u64 {
        let name = format!("{}/{}/{}", self.fault.name(), fs_name(self.fs), self.moment.name());
        // FNV-1a.
        name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.run_seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    pub(crate) fn means(&self) -> Result<Means, &'static str> {
        self.fault.means(self.moment, self.fs, self.seed() >> 8)
    }

    /// Whether a build that can heal must do so, or must not; `None` where either will do.
    pub(crate) fn heals(&self) -> Option<bool> {
        let once = matches!(
            self.fault,
            Fault::WriteEioOnce
                | Fault::WriteEioHere
                | Fault::EnospcAtSync
                | Fault::FlushFailsOnce
                | Fault::LateError
                | Fault::TornThenEio
        );
        let data = matches!(self.moment, Moment::Group | Moment::Header);
        match self.fs {
            FileSystem::Ext4 | FileSystem::Xfs => (once && data).then_some(true),
            FileSystem::Ext4Journal | FileSystem::Btrfs => {
                (self.fault.kind() == Kind::Told && data).then_some(false)
            }
        }
    }

    /// Runs this cell again as it was.
    pub(crate) fn command(&self) -> String {
        format!(
            "make matrix FAULT={} FS={} MOMENT={} SEED={}",
            self.fault.name(),
            fs_name(self.fs),
            self.moment.name(),
            self.run_seed
        )
    }
}
