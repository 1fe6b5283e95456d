//! Transient faults of the medium under concurrent copies of the same records: whatever an answer
//! said stays true, in the living process, after a restart, after a loss of power, and in an index
//! made anew.
//!
//! `FAULTS=1000 SEED=…` runs longer; `make outcomes` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Ack, Engine, NodeState, WriteError};
use stemedb_io::sim::{EIO, ENOSPC, Fault, OpKind, Personality, SimRng, SimVfs, When, world};
use stemedb_io::{Env, Rng};
use stemedb_log::Outcome;
use stemedb_model::*;
use tempfile::TempDir;

use crate::common::*;
use crate::wal::{start_again, start_new};

/// Felt faults of one run of the test suite.
const FAULTS: u64 = 12;
/// Lives at a time: they wait more than they work.
const TOGETHER: u64 = 4;
const RECORDS: u64 = 14;
const WRITERS: usize = 4;

/// How often what was said.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    acknowledged: u64,
    not_written: u64,
    indeterminate: u64,
    /// Lives in which a fault was felt.
    felt: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.not_written += other.not_written;
        self.indeterminate += other.indeterminate;
        self.felt += other.felt;
    }
}

/// All that was ever said of one record.
#[derive(Debug, Default)]
struct Said {
    positions: BTreeSet<Position>,
    indeterminate: bool,
}

type Ledger = BTreeMap<RecordId, Said>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn record(n: u64) -> Signed {
    let len = [10, 300, 6_000][n as usize % 3];
    assertion(&key((n % 5) as u8 + 1), &format!("s{n}"), &"x".repeat(len))
}

/// Of the even records every writer sends a copy, each beginning elsewhere, so that they meet. An
/// odd one is sent once: no copy's answer hides its own.
fn write_all(engine: &Engine, records: &[u64]) -> Vec<(RecordId, Result<Ack, WriteError>)> {
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let mine =
                        |n: &&u64| n.is_multiple_of(2) || **n as usize / 2 % WRITERS == writer;
                    let sent = |n: &u64| {
                        let signed = record(*n);
                        (signed.id(), write(engine, signed))
                    };
                    let (last, first) = records.split_at(writer * 2 % records.len());
                    first.iter().chain(last).filter(mine).map(sent).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

fn note(ledger: &mut Ledger, answers: Vec<(RecordId, Result<Ack, WriteError>)>) -> Counts {
    let mut counts = Counts::default();
    for (id, answer) in answers {
        let said = ledger.entry(id).or_default();
        match answer {
            Ok(ack) => {
                said.positions.insert(ack.position);
                counts.acknowledged += 1;
            }
            Err(WriteError::WalUnavailable { outcome: Outcome::NotWritten, .. }) => {
                counts.not_written += 1;
            }
            Err(
                WriteError::WalUnavailable { outcome: Outcome::Indeterminate, .. }
                | WriteError::Undecided { .. },
            ) => {
                said.indeterminate = true;
                counts.indeterminate += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    counts
}

/// What is there, against what was said; `settled` is what an earlier look found.
fn check(
    ledger: &Ledger,
    env: &Env,
    dir: &Path,
    settled: Option<&BTreeMap<RecordId, Position>>,
    what: &str,
) -> BTreeMap<RecordId, Position> {
    let engine = start_again(env, dir);
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    let mut found = BTreeMap::new();
    for (id, said) in ledger {
        let here = view.record(id).unwrap().map(|found| found.entry.position);
        let acknowledged = said.positions.first().copied();
        assert!(said.positions.len() <= 1, "{what}: {id} at {:?}", said.positions);
        match (acknowledged, here) {
            (Some(position), here) => assert_eq!(here, Some(position), "{what}: acknowledged"),
            (None, Some(_)) => assert!(said.indeterminate, "{what}: told not written, and there"),
            (None, None) => {}
        }
        if let Some(settled) = settled {
            assert_eq!(here, settled.get(id).copied(), "{what}: it settled, and changed");
        }
        found.extend(here.map(|position| (*id, position)));
    }
    let positions: BTreeSet<_> = found.values().collect();
    assert_eq!(positions.len(), found.len(), "{what}: two records at one position");
    // Genesis, and nothing that was not sent, and nothing twice.
    assert_eq!(view.position().0, found.len() as u64 + 1, "{what}");
    found
}

/// One life of a database with up to three transient faults.
fn life(seed: u64) -> Counts {
    let rng = SimRng::new(seed);
    let below = |n: u64| rng.next_u64() % n;
    let dir = TempDir::new().unwrap();
    let (vfs, clock, env) = world(seed, WALL_MS);
    let personality = [Personality::KeepsNew, Personality::Reverts, Personality::Redirties];
    vfs.set_personality(personality[below(3) as usize]);
    vfs.set_rereads(below(4) > 0);
    let engine = start_new(&env, dir.path());
    let mut ledger = Ledger::new();
    let mut counts = Counts::default();
    let mut degraded = false;
    let rounds = 1 + below(3);
    for round in 0..rounds {
        let ops = [
            OpKind::Write,
            OpKind::Write,
            OpKind::SyncData,
            OpKind::SyncData,
            OpKind::SyncDir,
            OpKind::SyncAll,
            OpKind::Rename,
            OpKind::Close,
            OpKind::Allocate,
            OpKind::Open,
        ];
        // Once, or until the end of the round.
        let (n, once) = (1 + below(12), below(2) == 0);
        vfs.inject(Fault {
            op: Some(ops[below(ops.len() as u64) as usize]),
            path: "wal".into(),
            when: if once { When::Nth(n) } else { When::From(n) },
            errno: if below(5) == 0 { ENOSPC } else { EIO },
        });
        // Sometimes nobody is held for long, so that they are told before it is decided.
        let held = once && below(2) == 0;
        clock.step_on_read(Duration::from_millis(if held { 0 } else { 200 }));
        let records: Vec<u64> = (round * RECORDS..(round + 1) * RECORDS).collect();
        counts += note(&mut ledger, write_all(&engine, &records));
        clock.step_on_read(Duration::ZERO);
        vfs.clear_faults();
        clock.step(Duration::from_secs(2));
        degraded |= engine.node().degraded.is_some();
    }
    // The medium is well again: some of them once more, to a log that may have resumed. Of the
    // others, what was said stands.
    for _ in 0..50 {
        if engine.node().state == NodeState::Ready {
            break;
        }
        clock.step(Duration::from_secs(1));
        RealPause.pause();
    }
    clock.step_on_read(Duration::from_millis(200));
    let again: Vec<u64> = (0..rounds * RECORDS).step_by(3).collect();
    counts += note(&mut ledger, write_all(&engine, &again));
    drop(engine);
    clock.step_on_read(Duration::ZERO);
    for (found, what) in [(vfs.fork(), "killed"), (vfs.crash(), "power cut")] {
        let copy = TempDir::new().unwrap();
        let at = |vfs: &SimVfs| Env { vfs: Arc::new(vfs.clone()), ..env.clone() };
        let what = format!("seed {seed}, {what}");
        let settled = check(&ledger, &at(&found), copy.path(), None, &what);
        let later = found.crash();
        check(&ledger, &at(&later), copy.path(), Some(&settled), &format!("{what}, again"));
        std::fs::remove_dir_all(copy.path().join("index")).unwrap();
        check(&ledger, &at(&later), copy.path(), Some(&settled), &format!("{what}, reindexed"));
    }
    counts.felt = u64::from(degraded || counts.not_written + counts.indeterminate > 0);
    counts
}

#[test]
fn answers_stay_true_under_transient_faults() {
    let faults = number("FAULTS", FAULTS);
    let seed = number("SEED", stemedb_io::RealRng.next_u64() >> 16);
    println!("SEED={seed} FAULTS={faults}");
    let (mut counts, mut lives) = (Counts::default(), 0);
    // A run in which nothing was told but success would have shown nothing.
    let quiet = |counts: &Counts| counts.not_written == 0 || counts.indeterminate == 0;
    while counts.felt < faults || quiet(&counts) {
        std::thread::scope(|scope| {
            let next = seed + lives..seed + lives + TOGETHER;
            let lives: Vec<_> = next.map(|seed| scope.spawn(move || life(seed))).collect();
            lives.into_iter().for_each(|life| counts += life.join().unwrap());
        });
        lives += TOGETHER;
        assert!(lives < 20 + faults * 4, "{counts:?} in {lives} lives");
    }
    println!("{lives} lives, every answer stayed true: {counts:?}");
}
