//! The engine on the real log over a simulated disk that loses power or refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Ack, Engine, EngineConfig, NodeState, WriteError};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::Env;
use stemedb_io::sim::{EIO, Fault, OpKind, SimVfs, When, world};
use stemedb_log::{Expect, Log, LogError, Outcome, Wal, WalConfig};
use stemedb_model::*;
use tempfile::TempDir;

use crate::common::*;

fn wal_config() -> WalConfig {
    WalConfig { segment_bytes: 64 << 10, prepare_in_background: false, ..WalConfig::new("/wal") }
}

fn index(dir: &Path) -> Index {
    let config = IndexConfig { cache_bytes: 1 << 20, ..IndexConfig::new(dir.join("index")) };
    Index::open(&config, Some((LOG_ID, TIMELINE))).unwrap()
}

fn open(env: &Env, log: Wal, dir: &Path) -> Arc<Engine> {
    let config = EngineConfig {
        // A group must fit a segment that is this short.
        group_records_max: 8,
        idle_seal: Duration::from_millis(1),
        ..EngineConfig::default()
    };
    let engine = Engine::open(config, env.clone(), Box::new(log), index(dir)).unwrap();
    engine.wait_ready(|_| ()).unwrap();
    engine
}

pub(crate) fn start_new(env: &Env, dir: &Path) -> Arc<Engine> {
    let expect = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (mut log, _) = Wal::open(wal_config(), env.clone(), expect).unwrap();
    Engine::genesis(&mut log, &genesis(), principal("root")).unwrap();
    open(env, log, dir)
}

pub(crate) fn start_again(env: &Env, dir: &Path) -> Arc<Engine> {
    // What the index has applied was acknowledged.
    let witness = index(dir).applied();
    let expect = Expect::Existing { log_id: Some(LOG_ID), witness: Some(witness) };
    let log = match Wal::open(wal_config(), env.clone(), expect.clone()) {
        // A write that failed may leave half a sector, of which nothing says what it was. Nobody
        // was told that it is durable, so the operator may give it up.
        Err(LogError::TailUndecided { .. }) => {
            let config = WalConfig { void_tail: true, ..wal_config() };
            Wal::open(config, env.clone(), expect).unwrap().0
        }
        opened => opened.unwrap().0,
    };
    assert!(log.reader().durable().0 >= witness);
    open(env, log, dir)
}

type Told = Vec<(Signed, Result<Ack, WriteError>)>;

/// Four writers, each sending a record only once the one before is answered.
fn write_all(engine: &Engine, records: usize) -> Told {
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=4u8)
            .map(|n| {
                scope.spawn(move || {
                    let signed =
                        |i: usize| assertion(&key(n), &format!("s{i}"), &"x".repeat(300 * i));
                    (0..records).map(|i| (signed(i), write(engine, signed(i)))).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

/// What was told against what a start finds, and the same again from the log alone.
fn check(told: &Told, env: &Env, dir: &Path) -> usize {
    let engine = start_again(env, dir);
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    let mut created = BTreeMap::new();
    for (signed, result) in told {
        let found = view.record(&signed.id()).unwrap().map(|found| found.entry.position);
        match result {
            Ok(ack) => {
                assert_eq!(found, Some(ack.position), "acknowledged");
                assert!(created.insert(ack.position, ack.id).is_none(), "a position twice");
            }
            Err(WriteError::WalUnavailable { outcome: Outcome::NotWritten, .. }) => {
                assert_eq!(found, None, "told not written");
            }
            Err(WriteError::WalUnavailable { outcome: Outcome::Indeterminate, .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let answers = view.answer_root().unwrap();
    drop(engine);
    std::fs::remove_dir_all(dir.join("index")).unwrap();
    let engine = start_again(env, dir);
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    assert_eq!(view.answer_root().unwrap(), answers);
    created.len()
}

#[test]
fn a_power_cut_takes_nothing_acknowledged() {
    let mut in_the_middle = 0;
    for seed in 0..16 {
        let dir = TempDir::new().unwrap();
        let (vfs, clock, env) = world(seed, WALL_MS);
        let engine = start_new(&env, dir.path());
        // So that waiters are not held for long.
        clock.step_on_read(Duration::from_millis(200));
        vfs.power_off_after(seed * 3);
        let told = write_all(&engine, 8);
        drop(engine);
        clock.step_on_read(Duration::ZERO);
        let found = SimVfs::crash(&vfs);
        let env = Env { vfs: Arc::new(found), ..env };
        let created = check(&told, &env, dir.path());
        in_the_middle += usize::from(created > 0 && created < told.len());
    }
    assert!(in_the_middle > 3, "only {in_the_middle} cuts fell between two records");
}

/// One failure: everything is acknowledged all the same, and the node says what happened.
#[test]
fn a_failed_sync_is_healed() {
    for (seed, op) in (0..6).zip([OpKind::SyncData, OpKind::Write].into_iter().cycle()) {
        let dir = TempDir::new().unwrap();
        let (vfs, _, env) = world(seed, WALL_MS);
        let engine = start_new(&env, dir.path());
        vfs.inject(Fault {
            op: Some(op),
            path: "wal".into(),
            when: When::Nth(1 + seed),
            errno: EIO,
        });
        let told = write_all(&engine, 8);
        assert!(told.iter().all(|(_, result)| result.is_ok()), "{seed} {op:?}: {told:?}");
        let node = engine.node();
        assert_eq!(node.state, NodeState::Ready);
        assert!(node.degraded.unwrap().contains("segment"));
        let seen = engine.acknowledge_log(PATIENCE).unwrap().unwrap();
        assert!(seen.contains("healed"), "{seen}");
        assert_eq!(engine.node().degraded, None);
        drop(engine);
        for found in [vfs.fork(), vfs.crash()] {
            let copy = TempDir::new().unwrap();
            let env = Env { vfs: Arc::new(found), ..env.clone() };
            check(&told, &env, copy.path());
        }
    }
}

#[test]
fn a_medium_that_is_gone_ends_writing_and_is_told_truly() {
    for (seed, op) in (0..6).zip([OpKind::SyncData, OpKind::Write].into_iter().cycle()) {
        let dir = TempDir::new().unwrap();
        let (vfs, clock, env) = world(seed, WALL_MS);
        let engine = start_new(&env, dir.path());
        clock.step_on_read(Duration::from_millis(200));
        vfs.inject(Fault {
            op: Some(op),
            path: "wal".into(),
            when: When::From(1 + seed),
            errno: EIO,
        });
        let told = write_all(&engine, 8);
        assert!(told.iter().any(|(_, result)| result.is_err()), "no fault struck: {seed} {op:?}");
        assert_eq!(engine.node().state, NodeState::ReadOnly);
        drop(engine);
        clock.step_on_read(Duration::ZERO);
        // Once as a new process finds it, once after loss of power too.
        for found in [vfs.fork(), vfs.crash()] {
            let copy = TempDir::new().unwrap();
            let env = Env { vfs: Arc::new(found), ..env.clone() };
            check(&told, &env, copy.path());
        }
    }
}
