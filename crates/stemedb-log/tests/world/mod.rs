//! A small world for tests of the WAL: a simulated disk, a script of groups, a check that what is
//! read back is what was written.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

use std::path::Path;

use stemedb_io::Env;
use stemedb_io::sim::{SimRng, SimVfs, world};
use stemedb_log::conformance::{LOG_ID, START_MS, TIMELINE, sample};
use stemedb_log::{
    Expect, Log, LogError, LogReader, MemoryLog, NewEntry, Outcome, Recovery, Wal, WalConfig,
};
use stemedb_model::{Hash, Position};

pub const DIR: &str = "/data/wal";
pub const NEW: Expect = Expect::New { log_id: LOG_ID, timeline: TIMELINE };

pub fn existing(witness: Option<u64>) -> Expect {
    Expect::Existing { log_id: Some(LOG_ID), witness: witness.map(Position) }
}

/// Short segments, prepared at fixed points: sixteen blocks.
pub fn config() -> WalConfig {
    WalConfig { segment_bytes: 16 * 4096, prepare_in_background: false, ..WalConfig::new(DIR) }
}

pub fn segment(number: u64) -> std::path::PathBuf {
    Path::new(DIR).join(format!("segment.{number:03}.wal"))
}

/// An environment whose files are on `vfs`.
pub fn env_on(vfs: &SimVfs, seed: u64) -> Env {
    let (_, _, env) = world(seed, START_MS);
    Env { vfs: std::sync::Arc::new(vfs.clone()), ..env }
}

pub fn open(vfs: &SimVfs, expect: Expect) -> Result<(Wal, Recovery), LogError> {
    Wal::open(config(), env_on(vfs, 77), expect)
}

/// Group sizes drawn from a seed: mostly small, some longer than a block, some of many entries.
pub fn script(seed: u64, groups: usize) -> Vec<Vec<NewEntry>> {
    use stemedb_io::Rng;
    let rng = SimRng::new(seed);
    let mut next = seed << 32;
    (0..groups)
        .map(|_| {
            let (entries, body) = match rng.next_u64() % 6 {
                0 => (1, 9_000),
                1 => (12, 300),
                2 => (3, 4_000),
                _ => (1, 300),
            };
            (0..entries)
                .map(|_| {
                    next += 1;
                    sample(next, (rng.next_u64() % body) as usize)
                })
                .collect()
        })
        .collect()
}

/// What became of a script.
#[derive(Debug, Default)]
pub struct Ran {
    /// Entries of groups that were acknowledged.
    pub acknowledged: usize,
    /// Entries that were acknowledged or whose fate was left open.
    pub possible: usize,
    /// The error that ended it.
    pub error: Option<LogError>,
}

/// Appends groups, with a seal after every fourth, until one fails.
pub fn run(wal: &mut Wal, groups: &[Vec<NewEntry>], ran: &mut Ran) {
    for (n, group) in groups.iter().enumerate() {
        match wal.append(group) {
            Ok(commit) => {
                assert_eq!(commit.first.0 as usize, ran.acknowledged + 1);
                ran.acknowledged += group.len();
                ran.possible = ran.acknowledged;
            }
            Err(error) => {
                if error.outcome() == Outcome::Indeterminate {
                    ran.possible = ran.acknowledged + group.len();
                }
                ran.error = Some(error);
                return;
            }
        }
        if n % 4 == 3
            && let Err(error) = wal.seal()
        {
            ran.error = Some(error);
            return;
        }
    }
}

/// The root after each number of entries at which a group of the script ends.
pub fn roots(groups: &[Vec<NewEntry>]) -> Vec<(usize, Hash)> {
    let mut reference = MemoryLog::new(
        LOG_ID,
        TIMELINE,
        std::sync::Arc::new(stemedb_io::sim::SimClock::new(START_MS)),
    );
    let mut roots = vec![(0, reference.reader().root().1)];
    for group in groups {
        reference.append(group).unwrap();
        let (position, hash) = reference.reader().root();
        roots.push((position.0 as usize, hash));
    }
    roots
}

/// The log holds a prefix of the script that ends with a group, entry by entry, by scan and by
/// position, and its root is that of the reference.
pub fn check_prefix(reader: &dyn LogReader, groups: &[Vec<NewEntry>]) -> usize {
    let all: Vec<&NewEntry> = groups.iter().flatten().collect();
    let durable = reader.durable().0.0 as usize;
    assert!(durable <= all.len(), "{durable} records, {} were written", all.len());
    let mut position = 0;
    reader
        .scan(Position(1), &mut |entries| {
            for entry in entries {
                assert_eq!(&&entry.new, &all[position], "position {}", position + 1);
                position += 1;
                assert_eq!(entry.position.0 as usize, position);
            }
            Ok(true)
        })
        .unwrap();
    assert_eq!(position, durable, "a scan ends where the log does");
    for position in 1..=durable {
        let entry = reader.read(Position(position as u64)).unwrap().unwrap();
        assert_eq!(&entry.new, all[position - 1]);
    }
    let root = reader.root();
    assert_eq!(root.0.0 as usize, durable);
    assert!(roots(groups).contains(&(durable, root.1)), "the log ends inside a group");
    durable
}

/// A disk with a log of `groups` on it; `sealed` says whether it was stopped in an orderly way.
pub fn written(seed: u64, groups: &[Vec<NewEntry>], sealed: bool) -> SimVfs {
    let vfs = SimVfs::new(seed);
    let (mut wal, _) = open(&vfs, NEW).unwrap();
    for group in groups {
        wal.append(group).unwrap();
    }
    if sealed {
        wal.close().unwrap();
    }
    vfs
}
