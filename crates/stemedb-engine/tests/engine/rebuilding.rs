//! The index made anew while the node runs.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use stemedb_engine::{
    AckStatus, Engine, EngineError, NodeState, ReadError, Rebuild, RebuildState, WriteError,
};
use stemedb_model::*;

use crate::common::*;

/// Blocks until it is over.
fn end_of_rebuild(engine: &Engine) -> Rebuild {
    for _ in 0..2_000 {
        let rebuild = engine.node().rebuild.unwrap();
        if rebuild.state != RebuildState::Running {
            return rebuild;
        }
        RealPause.pause();
    }
    panic!("it does not end: {:?}", engine.node());
}

fn answer_root(engine: &Engine) -> stemedb_engine::Answers {
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    view.evaluated(Millis(WALL_MS + 1_000_000)).answer_root().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn reads_and_writes_go_on_and_answers_are_the_same() {
    let world = World::new();
    let engine = world.start();
    for n in 0..50 {
        create(&engine, assertion(&key(n % 7), &format!("s{}", n % 5), &format!("v{n}")));
    }
    let before = answer_root(&engine);
    assert_eq!(engine.node().rebuild, None);
    let newest = engine.view(Position::NONE, Duration::ZERO);
    let mut old = newest.unwrap().evaluated(Millis(WALL_MS + 1_000_000));

    world.medium.hold_scans(true);
    engine.reindex().unwrap();
    assert_eq!(engine.node().rebuild.unwrap().state, RebuildState::Running);
    assert!(matches!(engine.reindex(), Err(EngineError::Rebuilding)));
    let meanwhile = assertion(&key(1), "meanwhile", "rare");
    let position = create(&engine, meanwhile.clone());
    let view = engine.view(position, Duration::ZERO).unwrap();
    assert!(view.record(&meanwhile.id()).unwrap().is_some());
    assert_eq!(engine.node().state, NodeState::Ready);
    drop(view);
    world.medium.hold_scans(false);
    let rebuild = end_of_rebuild(&engine);
    assert_eq!((rebuild.state, rebuild.problem), (RebuildState::Done, None));
    assert_eq!(rebuild.position, position);

    // What was begun on the old one goes on with it; everybody else is on the new one.
    assert_eq!(old.snapshot().position(), before.position);
    assert!(old.record(&meanwhile.id()).unwrap().is_none());
    let position = create(&engine, assertion(&key(2), "after", "rare"));
    assert_eq!(write(&engine, meanwhile.clone()).unwrap().status, AckStatus::Exists);
    let after = answer_root(&engine);
    assert_eq!(after.position, position);
    assert_eq!(engine.conflict_standing().unwrap().position.0.min(51), 51);
    assert!(world.index_dir().join("keyspaces").exists(), "somebody reads from it");
    // A long walk lets go of it on the way, and answers as before.
    old.renew();
    assert_eq!((old.position(), old.snapshot().position()), (before.position, position));
    assert!(old.record(&meanwhile.id()).unwrap().is_none());
    assert_eq!(old.clone().answer_root().unwrap(), before);
    // File by file.
    for _ in 0..2_000 {
        if names(&world.index_dir()).len() == 2 {
            break;
        }
        RealPause.pause();
    }
    assert_eq!(names(&world.index_dir()), ["current", "rebuilt-1"]);
    drop(old);

    // And so after a restart, and when it is done again.
    drop(engine);
    let engine = world.start();
    assert_eq!(answer_root(&engine), after);
    engine.reindex().unwrap();
    assert_eq!(end_of_rebuild(&engine).state, RebuildState::Done);
    assert_eq!(answer_root(&engine), after);
    drop(engine);
    let engine = world.start();
    assert_eq!(answer_root(&engine), after);
    assert_eq!(names(&world.index_dir()), ["current", "rebuilt-2"]);
    drop(engine);
    world.delete_index();
    assert_eq!(answer_root(&world.start()), after);
}

#[test]
fn records_that_come_meanwhile_are_acknowledged_once() {
    let world = World::new();
    let engine = world.start();
    let mut answers = Vec::new();
    for round in 0..5 {
        for n in 0..200 {
            let signed = assertion(&key(n), &format!("s{round}"), &format!("v{n}"));
            answers.push(send(&engine, submission(signed)));
            if n == 50 {
                engine.reindex().unwrap();
            }
        }
        assert_eq!(end_of_rebuild(&engine).state, RebuildState::Done);
    }
    let mut positions: Vec<Position> = answers
        .iter()
        .map(|answer| {
            let ack = wait(answer).unwrap();
            assert_eq!(ack.status, AckStatus::Created);
            ack.position
        })
        .collect();
    positions.sort();
    let expected: Vec<Position> = (2..=1_001).map(Position).collect();
    assert_eq!(positions, expected);
    let live = answer_root(&engine);
    drop(engine);
    world.delete_index();
    assert_eq!(answer_root(&world.start()), live);
}

/// A record is durable and waits for the applier while another index comes into use, which has it from
/// the log.
#[test]
fn what_the_new_index_has_is_not_applied_again() {
    let world = World::new();
    let engine = world.start();
    let (go_on, held) = channel::<()>();
    let (entered, inside) = channel();
    // On the thread of the applier.
    engine.submit(submission(assertion(&key(1), "a", "rare")), move |_| {
        entered.send(()).unwrap();
        let _ = held.recv();
    });
    inside.recv_timeout(PATIENCE).unwrap();
    let behind = send(&engine, submission(assertion(&key(1), "b", "rare")));
    for _ in 0..2_000 {
        if engine.node().progress.durable == Position(3) {
            break;
        }
        RealPause.pause();
    }
    assert_eq!(engine.node().progress.applied, Position(2));
    engine.reindex().unwrap();
    let rebuild = end_of_rebuild(&engine);
    assert_eq!((rebuild.problem, rebuild.position), (None, Position(3)));
    go_on.send(()).unwrap();
    let ack = wait(&behind).unwrap();
    assert_eq!((ack.status, ack.position), (AckStatus::Created, Position(3)));
    assert_eq!(engine.node().state, NodeState::Ready);
    assert_eq!(create(&engine, assertion(&key(1), "c", "rare")), Position(4));
}

#[test]
fn a_node_whose_index_failed_takes_writes_again() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "before", "rare"));
    world.clock.step(Duration::from_secs(1));
    world.medium.script([Step::BackInTime]);
    let signed = assertion(&key(1), "a", "rare");
    match write(&engine, signed.clone()) {
        Err(WriteError::IndexFailed { position: Some(Position(3)), .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.node().reason.unwrap().code, "index_failed");
    // The log is as it was: so is what is made from it. The old index stays.
    engine.reindex().unwrap();
    let failed = end_of_rebuild(&engine);
    assert_eq!(failed.state, RebuildState::Failed);
    assert!(failed.problem.unwrap().contains("never goes back"));
    assert_eq!(engine.node().state, NodeState::ReadOnly);
    assert!(!names(&world.index_dir()).iter().any(|name| name.starts_with("rebuilt")));
    let view = engine.view(Position(2), Duration::ZERO).unwrap();
    assert!(matches!(view.record(&signed.id()), Err(ReadError::NotApplied { .. })));
    drop(view);

    world.medium.mend_times();
    engine.reindex().unwrap();
    let done = end_of_rebuild(&engine);
    assert_eq!((done.state, done.position), (RebuildState::Done, Position(3)), "{done:?}");
    let node = engine.node();
    assert_eq!((node.state, node.reason), (NodeState::Ready, None));
    let view = engine.view(Position(3), Duration::ZERO).unwrap();
    assert!(view.record(&signed.id()).unwrap().is_some());
    assert_eq!(write(&engine, signed).unwrap().status, AckStatus::Exists);
    assert_eq!(create(&engine, assertion(&key(1), "b", "rare")), Position(4));
}

/// It ends, it says why, and the node goes on with the old index.
#[test]
fn a_panic_over_the_new_index_is_a_failure_like_any_other() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "a", "rare"));
    let before = answer_root(&engine);
    world.medium.panic_scans(true);
    engine.reindex().unwrap();
    let failed = end_of_rebuild(&engine);
    assert_eq!(failed.state, RebuildState::Failed);
    let problem = failed.problem.unwrap();
    assert!(problem.contains("panicked") && problem.contains("as the test says"), "{problem}");
    assert!(!names(&world.index_dir()).iter().any(|name| name.starts_with("rebuilt")));
    assert_eq!((engine.node().state, engine.node().reason), (NodeState::Ready, None));
    assert_eq!(answer_root(&engine), before);
    let pulse = engine.pulse();
    create(&engine, assertion(&key(1), "b", "rare"));
    for _ in 0..2_000 {
        if engine.pulse() > pulse {
            break;
        }
        RealPause.pause();
    }
    assert!(engine.pulse() > pulse, "the node counts as dead");

    world.medium.panic_scans(false);
    engine.reindex().unwrap();
    assert_eq!(end_of_rebuild(&engine).problem, None);
}

/// The largest file of a table: that of the records.
fn largest(dir: &Path) -> (u64, PathBuf) {
    let sizes = std::fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let in_tables = path.parent().is_some_and(|parent| parent.ends_with("tables"));
        match path.is_dir() {
            true => largest(&path),
            false if in_tables => (path.metadata().unwrap().len(), path),
            false => (0, path),
        }
    });
    sizes.max().unwrap_or_default()
}

/// Text that does not become small.
fn noise(seed: u64) -> String {
    let word = |n: u64| (seed * 1_000_003 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..40).map(|n| format!("{:016x}", word(n))).collect()
}

/// Nobody writes, and a reader meets the damage: the node says so by itself, and a new index mends it.
#[test]
fn an_index_that_fails_on_an_idle_node_is_told_of() {
    let world = World::new();
    let engine = world.start();
    let records: Vec<Signed> =
        (0..300).map(|n| assertion(&key(1), &format!("s{n}"), &noise(n))).collect();
    let answers: Vec<Answer> =
        records.iter().map(|signed| send(&engine, submission(signed.clone()))).collect();
    for answer in &answers {
        wait(answer).unwrap();
    }
    drop(engine);
    world.index().compact().unwrap();
    let (len, path) = largest(&world.index_dir());
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8_192], len / 2).unwrap();
    let engine = world.start();
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    assert!(records.iter().any(|signed| view.record(&signed.id()).is_err()));
    drop(view);
    wait_state(&engine, NodeState::ReadOnly);
    assert_eq!(engine.node().reason.unwrap().code, "index_failed");

    engine.reindex().unwrap();
    assert_eq!(end_of_rebuild(&engine).problem, None);
    assert_eq!(engine.node().state, NodeState::Ready);
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    assert!(records.iter().all(|signed| view.record(&signed.id()).unwrap().is_some()));
    drop(view);
    let position = create(&engine, assertion(&key(1), "later", "rare"));
    // Whoever keeps the list of conflicts is back, too.
    for _ in 0..2_000 {
        if engine.conflict_standing().unwrap().position == position {
            return;
        }
        RealPause.pause();
    }
    panic!("conflicts are not followed");
}

#[test]
fn a_checkpoint_says_what_is_on_the_medium() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "a", "rare"));
    let seals = world.medium.seals();
    let done = engine.checkpoint(PATIENCE).unwrap();
    assert_eq!((done.position, done.durable), (Position(2), Position(2)));
    assert!(done.index_bytes > 0);
    assert!(world.medium.seals() > seals);
    drop(engine);
}

#[test]
fn a_node_that_is_not_there_makes_no_index() {
    let world = World::new();
    let engine = world.start();
    engine.close(PATIENCE);
    let refused = engine.reindex();
    assert!(matches!(refused, Err(EngineError::NotReady { state: NodeState::Stopped })));
}
