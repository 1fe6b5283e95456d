//! Node states: drain, clocks, deadlines, a log that hangs, start and stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stemedb_engine::{AckStatus, NodeState, ReadError, Submission, WriteError};
use stemedb_log::Outcome;
use stemedb_model::*;

use crate::common::*;

#[test]
fn a_drain_finishes_what_is_on_its_way() {
    let world = World::new();
    let engine = world.start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=4u8)
            .map(|n| {
                let (engine, stop) = (&engine, &stop);
                scope.spawn(move || {
                    let mut created = 0;
                    for i in 0.. {
                        match write(engine, assertion(&key(n), &format!("s{i}"), "rare")) {
                            Ok(_) => created += 1,
                            Err(WriteError::Draining { .. }) => break,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    assert!(stop.load(Ordering::SeqCst), "refused before the drain");
                    created
                })
            })
            .collect();
        RealPause.pause();
        stop.store(true, Ordering::SeqCst);
        let report = engine.drain(PATIENCE);
        assert_eq!((report.state, report.unfinished), (NodeState::Drained, 0), "{report:?}");
        assert_eq!(report.applied, report.durable);
        assert_eq!(report.problems, Vec::<String>::new());
        let created: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        // Nothing came after the report.
        assert_eq!(world.medium.ids().len(), created + 1);
        assert_eq!(report.durable, Position(created as u64 + 1));
    });
    // Reads go on; undrain brings writes back.
    assert!(engine.view(Position(1), Duration::ZERO).is_ok());
    assert_eq!(engine.undrain(), NodeState::Ready);
    create(&engine, assertion(&key(9), "a", "rare"));
}

#[test]
fn a_drain_keeps_its_bound_and_says_what_is_left() {
    let world = World::new();
    let engine = world.start();
    world.medium.hold();
    let answer = send(&engine, submission(assertion(&key(1), "a", "rare")));
    world.medium.wait_held();
    let report = engine.drain(Duration::from_millis(20));
    assert_eq!((report.state, report.unfinished), (NodeState::Draining, 1));
    world.medium.release();
    assert_eq!(wait(&answer).unwrap().status, AckStatus::Created);
    assert_eq!(engine.drain(PATIENCE).state, NodeState::Drained);
}

#[test]
fn a_rest_is_sealed_once() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "a", "rare"));
    while world.medium.seals() == 0 {
        RealPause.pause();
    }
    // Many times as long as it takes to be taken for a rest.
    for _ in 0..20 {
        RealPause.pause();
    }
    assert_eq!(world.medium.seals(), 1);
    create(&engine, assertion(&key(1), "b", "rare"));
    let report = engine.close(PATIENCE);
    assert_eq!(report.state, NodeState::Stopped);
    // The drain seals whether or not the rest did.
    assert!((2..=3).contains(&world.medium.seals()), "{}", world.medium.seals());
    let late = write(&engine, assertion(&key(1), "c", "rare"));
    assert!(matches!(late, Err(WriteError::Draining { state: NodeState::Stopped })), "{late:?}");
    let read = engine.view(Position::NONE, Duration::ZERO);
    assert!(matches!(read, Err(ReadError::NotReady { state: NodeState::Stopped })), "{read:?}");
}

#[test]
fn a_clock_jump_stops_writes_until_acknowledged() {
    for (jump_ms, stops) in [(60_000, false), (60_001, true), (-60_000, false), (-60_001, true)] {
        let world = World::new();
        let engine = world.start();
        let first = assertion(&key(1), "a", "rare");
        create(&engine, first.clone());
        world.clock.set_wall(WALL_MS + jump_ms);
        let result =
            write(&engine, sealed(&key(1), WALL_MS - 60_000, Body::Assertion(claim("b", "rare"))));
        if !stops {
            assert!(result.is_ok(), "{jump_ms}: {result:?}");
            continue;
        }
        match result {
            Err(WriteError::ClockJump { by_ms }) => assert_eq!(by_ms, jump_ms),
            other => panic!("{jump_ms}: {other:?}"),
        }
        let node = engine.node();
        assert_eq!((node.state, node.reason.unwrap().code), (NodeState::ReadOnly, "clock_jump"));
        assert_eq!(write(&engine, first).unwrap().status, AckStatus::Exists);
        assert_eq!(world.medium.ids().len(), 2);
        assert_eq!(engine.acknowledge_clock(), Some(jump_ms));
        assert_eq!(engine.node().state, NodeState::Ready);
        let signed = sealed(&key(1), WALL_MS - 60_000, Body::Assertion(claim("c", "rare")));
        let ack = write(&engine, signed).unwrap();
        // The order of times holds even if the clock went back.
        assert_eq!(ack.recorded_at, Millis(WALL_MS.max(WALL_MS + jump_ms)));
    }
}

/// What was admitted before the jump, but not yet given to the log, is not stamped with a time
/// that may be wrong; and nothing of it is remembered.
#[test]
fn a_clock_jump_gives_up_what_the_log_has_not_seen() {
    let world = World::new();
    let engine = world.start();
    world.medium.hold();
    let first = send(&engine, submission(assertion(&key(1), "a", "rare")));
    world.medium.wait_held();
    let curator = key(10);
    let registration = register(&root(), &curator, SourceClass::Regulatory, &[Role::Curator]);
    let behind = send(&engine, submission(registration.clone()));
    let echo = send(&engine, submission(assertion(&key(1), "a", "rare")));
    RealPause.pause();
    world.clock.set_wall(WALL_MS + 3_600_000);
    world.medium.release();
    let first = wait(&first).unwrap();
    assert_eq!(wait(&echo).unwrap().position, first.position, "its record is durable");
    let behind = wait(&behind);
    assert!(matches!(behind, Err(WriteError::ClockJump { .. })), "{behind:?}");
    engine.acknowledge_clock();
    let result = write(&engine, retract(&curator, first.id));
    assert!(matches!(result, Err(WriteError::Refused(_))), "{result:?}");
    assert_eq!(create(&engine, registration), Position(3));
}

#[test]
fn a_deadline_is_kept() {
    let world = World::new();
    let engine = world.start();
    let by = |deadline: Duration, subject: &str| Submission {
        deadline: Some(deadline),
        ..submission(assertion(&key(1), subject, "rare"))
    };
    world.clock.step(Duration::from_secs(5));
    let late = wait(&send(&engine, by(Duration::from_secs(5), "a")));
    assert!(matches!(late, Err(WriteError::DeadlineBeforeQueue)), "{late:?}");
    world.medium.hold();
    let held = by(Duration::from_secs(6), "b");
    let id = held.signed.id();
    let waiting = send(&engine, held);
    world.medium.wait_held();
    let patient = send(&engine, by(Duration::from_secs(60), "c"));
    world.clock.step(Duration::from_secs(1));
    let released = wait(&waiting);
    assert!(matches!(released, Err(WriteError::Indeterminate { .. })), "{released:?}");
    let read = engine.view(Position::NONE, Duration::ZERO).unwrap().record(&id);
    assert!(matches!(read, Err(ReadError::Undecided { .. })), "{read:?}");
    world.medium.release();
    // The record went its way, and so did the other.
    assert_eq!(wait(&patient).unwrap().position, Position(3));
    let view = engine.view(Position(3), Duration::ZERO).unwrap();
    assert_eq!(view.record(&id).unwrap().unwrap().entry.position, Position(2));
}

/// A service manager that starts again what has no pulse must not do so because of a disk.
#[test]
fn the_pulse_goes_on_while_the_log_hangs_and_ends_with_the_engine() {
    let world = World::new();
    let engine = world.start();
    let grows = || {
        let before = engine.pulse();
        (0..1_000).any(|_| {
            RealPause.pause();
            engine.pulse() > before
        })
    };
    assert!(grows());
    world.medium.hold();
    let held = send(&engine, submission(assertion(&key(1), "a", "rare")));
    world.medium.wait_held();
    world.clock.step(Duration::from_secs(11));
    assert!(matches!(wait(&held), Err(WriteError::WalUnavailable { .. })));
    assert!(grows());
    world.medium.release();
    wait_state(&engine, NodeState::Ready);
    engine.close(PATIENCE);
    let last = engine.pulse();
    for _ in 0..20 {
        RealPause.pause();
    }
    assert_eq!(engine.pulse(), last);
}

/// A sync that hangs while nobody writes: the next writer is not left to find out.
#[test]
fn a_hanging_seal_shuts_the_gate() {
    let world = World::new();
    let engine = world.start();
    world.medium.hold_seals(true);
    create(&engine, assertion(&key(1), "a", "rare"));
    // The log rests, and the seal hangs.
    for _ in 0..10 {
        RealPause.pause();
    }
    let behind = send(&engine, submission(assertion(&key(1), "b", "rare")));
    RealPause.pause();
    world.clock.step(Duration::from_secs(11));
    match wait(&behind) {
        Err(WriteError::WalUnavailable { outcome: Outcome::NotWritten, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.node().state, NodeState::ReadOnly);
    world.medium.hold_seals(false);
    wait_state(&engine, NodeState::Ready);
    assert_eq!(create(&engine, assertion(&key(1), "b", "rare")), Position(3));
}

#[test]
fn a_hanging_log_releases_its_waiters() {
    let world = World::new();
    let engine = world.start();
    world.medium.hold();
    let hanging = assertion(&key(1), "a", "rare");
    let first = send(&engine, submission(hanging.clone()));
    world.medium.wait_held();
    let echo = send(&engine, submission(hanging.clone()));
    let behind = send(&engine, submission(assertion(&key(1), "b", "rare")));
    for _ in 0..10 {
        RealPause.pause();
    }
    world.clock.step(Duration::from_secs(11));
    let first = wait(&first);
    let indeterminate = |told: &Result<_, WriteError>| match told {
        Err(WriteError::WalUnavailable { outcome, .. }) => *outcome == Outcome::Indeterminate,
        _ => false,
    };
    assert!(indeterminate(&first), "{first:?}");
    match wait(&echo) {
        Err(
            WriteError::Undecided { .. }
            | WriteError::WalUnavailable { outcome: Outcome::Indeterminate, .. },
        ) => {}
        other => panic!("{other:?}"),
    }
    match wait(&behind) {
        Err(WriteError::WalUnavailable { outcome: Outcome::NotWritten, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.node().state, NodeState::ReadOnly);
    let again = write(&engine, hanging.clone());
    assert!(matches!(again, Err(WriteError::Undecided { .. })), "{again:?}");
    // It comes back, well: so does the node.
    world.medium.release();
    wait_state(&engine, NodeState::Ready);
    engine.view(Position(2), PATIENCE).unwrap();
    assert_eq!(write(&engine, hanging).unwrap().status, AckStatus::Exists);
    assert_eq!(create(&engine, assertion(&key(1), "b", "rare")), Position(3));
}

#[test]
fn a_start_replays_and_says_how_far_it_is() {
    let world = World::new();
    let engine = world.start();
    for n in 0..20 {
        create(&engine, assertion(&key(1), &format!("s{n}"), "rare"));
    }
    drop(engine);
    world.delete_index();
    let log = world.medium.open();
    let engine =
        stemedb_engine::Engine::open(world.config.clone(), world.env(), log, world.index())
            .unwrap();
    let mut last = None;
    engine.wait_ready(|progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert_eq!((last.applied, last.durable), (Position(21), Position(21)));
    assert_eq!(engine.node().state, NodeState::Ready);
}

#[test]
fn a_read_waits_for_a_position_and_not_for_ever() {
    let world = World::new();
    let engine = world.start();
    let behind = engine.view(Position(2), Duration::from_millis(1));
    let is_behind =
        matches!(behind, Err(ReadError::Behind { asked: Position(2), applied: Position(1) }));
    assert!(is_behind, "{behind:?}");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| engine.view(Position(2), PATIENCE).unwrap().position());
        create(&engine, assertion(&key(1), "a", "rare"));
        assert_eq!(reader.join().unwrap(), Position(2));
    });
}
