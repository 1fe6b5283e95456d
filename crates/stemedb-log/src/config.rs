//! How a write-ahead log is opened, and what opening it found.

use std::path::PathBuf;
use std::time::Duration;

use stemedb_model::{LogId, Position, Timeline};

/// What a failing medium does to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Go on in a fresh segment, where it can be proved that nothing durable is lost: everything
    /// not yet durable is written again there, and the old segment is read back from the medium.
    Heal,
    /// Be read-only until the medium takes writes again and the same proof has succeeded.
    Stop,
}

/// Settings of a write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalConfig {
    /// The folder of the segments. Nothing else should live in it.
    pub dir: PathBuf,
    /// Length of a new segment, rounded up to blocks of 4 KiB. Default 64 MiB, at least 1 MiB and
    /// at most 4 GiB. A group is at most about as long as a segment. Existing segments keep their
    /// length.
    pub segment_bytes: u64,
    /// Which of several logs of one database this is. Default and only value on one node: 0.
    pub partition: u32,
    /// What to do when the medium fails. Default: heal where that can be proved.
    pub on_failure: OnFailure,
    /// Write a line to the log for every sync that fails. Default true; they are counted in any
    /// case.
    pub log_fsync_errors: bool,
    /// Files and folders of this process that stay open while the log is detached: on the log's
    /// file system they would keep it busy, so detaching is refused then. Default: none.
    pub open_besides: Vec<PathBuf>,
    /// Void a last group of which nothing says whether it was acknowledged, instead of refusing
    /// to start. Default false; an operator's answer for one start.
    pub void_tail: bool,
    /// Read every segment at the start, also those that an earlier start has proved. Default false:
    /// they are proved again when they are read, and by `verify`.
    pub verify_all: bool,
    /// Prepare segments on a thread of their own. Default true; a simulation says false, and then
    /// segments are prepared at fixed points inside `open` and `append`.
    pub prepare_in_background: bool,
    /// Without `prepare_in_background`: let that work wait until [`Wal::work`](crate::Wal::work) is
    /// called, or until an append cannot go on without it. So a simulation decides what happens
    /// between it and the commits. Default false.
    pub background_on_demand: bool,
    /// How fast sealed segments are read to be packed, in bytes a second; 0: they are not packed.
    /// Default 16 MiB, otherwise at least 64 KiB. Without background work only
    /// [`Wal::repack_now`](crate::Wal::repack_now) packs.
    pub repack_bytes_per_second: u64,
    /// How fast sealed segments are read again to see that they are what was written, in bytes a
    /// second; 0: never. Default 8 MiB, otherwise at least 64 KiB. Each is read once a day at
    /// most. Without background work only [`Wal::scrub_now`](crate::Wal::scrub_now) reads.
    pub scrub_bytes_per_second: u64,
    /// Whether segments may ever be removed. Default: keep.
    pub retention: Retention,
}

/// What may become of old segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// They are kept. The log is the database.
    #[default]
    Keep,
    /// They may go once they are archived, read back, and within a backup whose restore was
    /// verified. Never by age.
    Archived,
}

/// Shortest segment that [`WalConfig::validate`] accepts.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Slowest rate of upkeep that is not "never".
pub const UPKEEP_RATE_MIN: u64 = 64 << 10;
/// Longest segment.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

impl WalConfig {
    /// The defaults, for the folder `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            partition: 0,
            on_failure: OnFailure::Heal,
            log_fsync_errors: true,
            open_besides: Vec::new(),
            void_tail: false,
            verify_all: false,
            prepare_in_background: true,
            background_on_demand: false,
            repack_bytes_per_second: 16 << 20,
            scrub_bytes_per_second: 8 << 20,
            retention: Retention::Keep,
        }
    }

    /// Reports every bound that fails, each naming its key, and changes nothing. Opening a log
    /// does not ask for the lower bound, so that tests can use short segments.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            problems.push(format!(
                "wal.segment_bytes is {}, expected {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        for (key, rate) in [
            ("wal.repack_bytes_per_second", self.repack_bytes_per_second),
            ("wal.scrub_bytes_per_second", self.scrub_bytes_per_second),
        ] {
            if rate != 0 && rate < UPKEEP_RATE_MIN {
                problems.push(format!(
                    "{key} is {rate}, expected 0 (never) or at least {UPKEEP_RATE_MIN}"
                ));
            }
        }
        if self.dir.as_os_str().is_empty() {
            problems.push("wal.dir is empty, expected a folder".into());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// What the opener knows about the folder from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// No log: the folder is missing, empty, or holds no durable record. The first append makes
    /// the log, and its first entry is the genesis record that carries `log_id`.
    New {
        /// Name of the new database.
        log_id: LogId,
        /// Name of its first branch.
        timeline: Timeline,
    },
    /// A log with at least one record; a missing or empty folder is refused.
    Existing {
        /// Its name, if known; another one is refused as foreign.
        log_id: Option<LogId>,
        /// A position that is known to have been acknowledged, such as the one the index has
        /// applied: less than that in the log is damage, never a torn tail.
        witness: Option<Position>,
    },
}

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Newest durable position.
    pub durable: Position,
    /// Segments that hold groups.
    pub segments: u64,
    /// Of these, how many were not read because an earlier start has proved them.
    pub segments_skipped: u64,
    /// The last thing in the log was a seal: it was stopped in an orderly way, or rested.
    pub sealed: bool,
    /// Bytes of a last group that was never durable, cut off now.
    pub voided: Option<Voided>,
    /// The folder's caches were dropped before reading, and none was seen to remain: what was
    /// read came from the medium.
    pub read_from_medium: bool,
    /// What an operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// A tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voided {
    /// The segment.
    pub file: String,
    /// Its first void byte.
    pub offset: u64,
    /// How many bytes were kept for inspection.
    pub bytes: u64,
    /// Where they are, in the same folder.
    pub kept_as: String,
    /// Why it was allowed: `torn`, or `operator`.
    pub because: &'static str,
}
