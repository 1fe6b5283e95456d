//! A log that was repaired: an index from before is refused, a new one passes over what is lost.

use std::path::Path;
use std::time::Duration;

use stemedb_engine::{AckStatus, AsOf, Engine, EngineConfig, EngineError, ReadError};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::Env;
use stemedb_io::sim::{SimVfs, world};
use stemedb_log::{Expect, RepairOptions, Wal, WalConfig, repair};
use stemedb_model::*;
use tempfile::TempDir;

use crate::common::*;

const SEGMENT: &str = "/wal/segment.001.wal";

fn wal_config() -> WalConfig {
    WalConfig { segment_bytes: 256 << 10, prepare_in_background: false, ..WalConfig::new("/wal") }
}

fn open(env: &Env, dir: &Path, expect: Expect) -> Result<std::sync::Arc<Engine>, EngineError> {
    let (mut log, _) = Wal::open(wal_config(), env.clone(), expect.clone())?;
    if matches!(expect, Expect::New { .. }) {
        Engine::genesis(&mut log, &genesis(), principal("root"))?;
    }
    let config = IndexConfig { cache_bytes: 1 << 20, ..IndexConfig::new(dir.join("index")) };
    let index = Index::open(&config, Some((LOG_ID, TIMELINE)))?;
    let config = EngineConfig { group_records_max: 8, ..EngineConfig::default() };
    let engine = Engine::open(config, env.clone(), Box::new(log), index)?;
    engine.wait_ready(|_| ())?;
    Ok(engine)
}

/// Damages the blocks with these numbers and repairs the segment.
fn damage_and_repair(vfs: &SimVfs, env: &Env, blocks: &[usize]) {
    let mut bytes = vfs.medium(Path::new(SEGMENT)).unwrap();
    for block in blocks {
        bytes[block * 4096 + 130] ^= 1;
    }
    vfs.put(Path::new(SEGMENT), bytes).unwrap();
    let options = RepairOptions {
        segment: SEGMENT.into(),
        output: "/repaired".into(),
        truncate_at: None,
        plan: false,
        accept_loss: true,
        witness: None,
        identity: None,
        tool: "a test".into(),
    };
    let report = repair(env, &options).unwrap();
    let lost: u64 = report.lost.iter().map(|range| range.last.0 - range.first.0 + 1).sum();
    assert_eq!(lost, 3, "{report:?}");
    env.vfs.rename(Path::new("/repaired"), Path::new(SEGMENT)).unwrap();
}

#[test]
fn what_a_repair_gave_up_is_known_and_never_answered_from_an_old_index() {
    let dir = TempDir::new().unwrap();
    let (vfs, _, env) = world(3, WALL_MS);
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let engine = open(&env, dir.path(), new).unwrap();
    let claims: Vec<Signed> =
        (0..8).map(|n| assertion(&key(1), &format!("s{n}"), "a value")).collect();
    let acks: Vec<_> = claims.iter().map(|one| write(&engine, one.clone()).unwrap()).collect();
    let positions: Vec<u64> = acks.iter().map(|ack| ack.position.0).collect();
    assert_eq!(positions, (2..=9).collect::<Vec<_>>());
    assert_eq!(engine.node().lost.ranges(), []);
    engine.close(PATIENCE);
    drop(engine);

    // One group a block, as long as nothing rested in between: positions 3 and 6 to 7.
    let mut blocks = Vec::new();
    stemedb_log::dump(Path::new(SEGMENT), &vfs, (Position(1), Position::MAX), false, &mut |item| {
        if let stemedb_log::DumpItem::Group(group) = item
            && group.kind == stemedb_log::GroupKind::Entries
            && [3, 6, 7].contains(&group.first.0)
        {
            blocks.push(group.block as usize);
        }
        true
    })
    .unwrap();
    assert_eq!(blocks.len(), 3);
    damage_and_repair(&vfs, &env, &blocks);

    let existing = Expect::Existing { log_id: Some(LOG_ID), witness: None };
    let error = open(&env, dir.path(), existing.clone()).unwrap_err();
    assert!(matches!(error, EngineError::IndexBeforeRepair { .. }), "{error}");
    assert!(error.to_string().contains("3, 6 to 7 are lost in the log, none in the index"));
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();

    let engine = open(&env, dir.path(), existing.clone()).unwrap();
    let lost = [(Position(3), Position(3)), (Position(6), Position(7))];
    assert_eq!(engine.node().lost.ranges(), lost);
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    assert!(view.history_lost());
    for ack in &acks {
        let found = view.entry(ack.position);
        match lost.iter().find(|(first, last)| (*first..=*last).contains(&ack.position)) {
            Some((a, b)) => match found {
                Err(ReadError::Lost { position, first, last }) => {
                    assert_eq!((position, first, last), (ack.position, *a, *b));
                    assert!(view.find(&ack.id).unwrap().is_none());
                }
                other => panic!("{other:?}"),
            },
            None => {
                let entry = found.unwrap().unwrap();
                assert_eq!((entry.signed.id(), entry.recorded_at), (ack.id, ack.recorded_at));
            }
        }
    }
    // Pages pass over them; the past before them is whole; the past at one of them is that before.
    let listed: Vec<u64> =
        view.entries(Position(1), 100).unwrap().iter().map(|entry| entry.position.0).collect();
    assert_eq!(listed, [1, 2, 4, 5, 8, 9]);
    assert!(!view.as_of(AsOf::Position(Position(2))).unwrap().history_lost());
    let at = view.as_of(AsOf::Position(Position(7))).unwrap();
    assert!(at.history_lost());
    assert_eq!(at.evaluated_at(), acks[3].recorded_at);

    // Sent again, a lost record is new; one that is there exists.
    let again = write(&engine, claims[1].clone()).unwrap();
    assert_eq!((again.status, again.position), (AckStatus::Created, Position(10)));
    let there = write(&engine, claims[0].clone()).unwrap();
    assert_eq!((there.status, there.position), (AckStatus::Exists, Position(2)));
    let answers = engine.view(Position(10), PATIENCE).unwrap().answer_root().unwrap();
    drop((view, at));
    engine.close(PATIENCE);
    drop(engine);
    let engine = open(&env, dir.path(), existing).unwrap();
    assert_eq!(engine.node().lost.ranges(), lost);
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    assert_eq!(view.evaluated(answers.evaluated_at).answer_root().unwrap(), answers);
}
