//! What is acknowledged, what is refused, and when.

use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use stemedb_engine::{AckStatus, EngineConfig, WriteError};
use stemedb_log::LogReader;
use stemedb_model::*;

use crate::common::*;

#[test]
fn an_acknowledged_record_is_durable_and_readable() {
    let world = World::new();
    let engine = world.start();
    let signed = assertion(&key(1), "a", "rare");
    let id = signed.id();
    let (reply, answer) = channel();
    let (medium, reader) = (Arc::clone(&world.medium), Arc::clone(&engine));
    engine.submit(submission(signed), move |result| {
        let ack = result.unwrap();
        // Here, before anybody is told: on the medium, and in a view that does not wait.
        let durable = medium.durable().0;
        let view = reader.view(ack.position, Duration::ZERO);
        let found = view.map(|view| view.record(&id).unwrap().map(|found| found.entry.position));
        reply.send((ack, durable, found)).unwrap();
    });
    let (ack, durable, found) = answer.recv_timeout(PATIENCE).unwrap();
    let entry = found.unwrap_or_else(|error| panic!("acknowledged and not readable: {error}"));
    assert_eq!((ack.id, ack.position, ack.status), (id, Position(2), AckStatus::Created));
    assert_eq!((durable, entry), (Position(2), Some(Position(2))));
    assert_eq!(ack.recorded_at, Millis(WALL_MS));
}

#[test]
fn a_refused_record_is_absent_when_its_writer_hears_of_it() {
    let world = World::new();
    let engine = world.start();
    let theirs = assertion(&key(1), "a", "rare");
    create(&engine, theirs.clone());
    let signed = retract(&key(2), theirs.id());
    let id = signed.id();
    let (reply, answer) = channel();
    let reader = Arc::clone(&engine);
    engine.submit(submission(signed), move |result| {
        let view = reader.view(Position::NONE, Duration::ZERO).unwrap();
        reply.send((result.is_err(), view.find(&id).map(|found| found.is_some()))).unwrap();
    });
    let (refused, found) = answer.recv_timeout(PATIENCE).unwrap();
    assert!(refused);
    assert!(!found.unwrap());
}

#[test]
fn the_same_record_again_exists() {
    let world = World::new();
    let engine = world.start();
    let signed = assertion(&key(1), "a", "rare");
    let first = write(&engine, signed.clone()).unwrap();
    world.clock.step(Duration::from_secs(5));
    let again = write(&engine, signed.clone()).unwrap();
    assert_eq!(again.status, AckStatus::Exists);
    assert_eq!((again.position, again.recorded_at), (first.position, first.recorded_at));
    drop(engine);

    let engine = world.start();
    assert_eq!(write(&engine, signed).unwrap().status, AckStatus::Exists);
    assert_eq!(world.medium.ids().len(), 2);
}

#[test]
fn exists_is_answered_before_rights() {
    let world = World::new();
    let engine = world.start();
    let author = key(1);
    let signed = assertion(&author, "a", "rare");
    create(&engine, signed.clone());
    let act = AgentAct::Revoke { from_position: Position(1) };
    create(&engine, sealed(&root(), WALL_MS, Body::Agent(Agent { key: author.agent_id(), act })));
    assert_eq!(write(&engine, signed).unwrap().status, AckStatus::Exists);
    let other = write(&engine, assertion(&author, "a", "common"));
    assert!(matches!(other, Err(WriteError::Refused(Refusal::KeyRevoked { .. }))), "{other:?}");
}

#[test]
fn a_duplicate_in_flight_shares_the_outcome() {
    let world = World::new();
    let engine = world.start();
    world.medium.hold();
    let signed = assertion(&key(1), "a", "rare");
    let first = send(&engine, submission(signed.clone()));
    world.medium.wait_held();
    let second = send(&engine, submission(signed.clone()));
    let third = send(&engine, submission(signed));
    RealPause.pause();
    for answer in [&first, &second, &third] {
        assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Empty, "told too early");
    }
    world.medium.release();
    let first = wait(&first).unwrap();
    assert_eq!(first.status, AckStatus::Created);
    for answer in [second, third] {
        let ack = wait(&answer).unwrap();
        assert_eq!((ack.status, ack.position), (AckStatus::Exists, first.position));
    }
    assert_eq!(world.medium.ids().len(), 2);
}

#[test]
fn a_group_is_no_longer_than_the_log_takes() {
    let world = World::new();
    world.medium.limit_groups(40_000);
    let engine = world.start();
    world.medium.hold();
    let first = send(&engine, submission(assertion(&key(1), "a", "rare")));
    world.medium.wait_held();
    let long = "x".repeat(9_000);
    let claims = (0..20).map(|n| assertion(&key(1), &format!("s{n}"), &long));
    let answers: Vec<_> = claims.map(|claim| send(&engine, submission(claim))).collect();
    world.medium.release();
    assert_eq!(wait(&first).unwrap().status, AckStatus::Created);
    for answer in &answers {
        assert_eq!(wait(answer).unwrap().status, AckStatus::Created);
    }
    // Four of them fill a group.
    assert!(world.medium.appends() >= 7, "{}", world.medium.appends());
}

#[test]
fn an_idempotency_key_stands_for_one_record() {
    let world = World::new();
    let engine = world.start();
    let under = |signed: &Signed, key: u8| {
        let idempotency = Some(Hash([key; 32]));
        stemedb_engine::Submission { idempotency, ..submission(signed.clone()) }
    };
    let (one, other) = (assertion(&key(1), "a", "rare"), assertion(&key(1), "a", "common"));
    // In flight.
    world.medium.hold();
    let first = send(&engine, under(&one, 1));
    world.medium.wait_held();
    let conflict = send(&engine, under(&other, 1));
    let again = send(&engine, under(&one, 1));
    RealPause.pause();
    // It rests on a record that may still be lost.
    assert_eq!(conflict.try_recv().unwrap_err(), TryRecvError::Empty);
    world.medium.release();
    assert_eq!(wait(&first).unwrap().status, AckStatus::Created);
    assert_eq!(wait(&again).unwrap().status, AckStatus::Exists);
    let is_conflict = |result: Result<_, WriteError>| match result {
        Err(WriteError::IdempotencyConflict { first }) => assert_eq!(first, one.id()),
        other => panic!("{other:?}"),
    };
    is_conflict(wait(&conflict));
    // Applied, and after a restart without index.
    is_conflict(wait(&send(&engine, under(&other, 1))));
    drop(engine);
    world.delete_index();
    let engine = world.start();
    is_conflict(wait(&send(&engine, under(&other, 1))));
    assert_eq!(wait(&send(&engine, under(&one, 1))).unwrap().status, AckStatus::Exists);
    assert_eq!(wait(&send(&engine, under(&other, 2))).unwrap().status, AckStatus::Created);
}

#[test]
fn a_retry_without_time_gets_the_first_receipts_time() {
    let world = World::new();
    let engine = world.start();
    let (applied, waiting) = (Hash([1; 32]), Hash([2; 32]));
    let signed = sealed(&key(1), 42, Body::Assertion(claim("a", "rare")));
    let submission =
        stemedb_engine::Submission { idempotency: Some(applied), ..submission(signed) };
    wait(&send(&engine, submission)).unwrap();
    let first = engine.receipt_time(&waiting).unwrap();
    assert_eq!(first, Millis(WALL_MS));
    world.clock.step(Duration::from_secs(60));
    assert_eq!(engine.receipt_time(&waiting).unwrap(), first);
    assert_eq!(engine.receipt_time(&applied).unwrap(), Millis(42));
}

#[test]
fn records_refer_to_records_in_flight() {
    let world = World::new();
    let engine = world.start();
    world.medium.hold();
    let held = send(&engine, submission(assertion(&key(1), "a", "rare")));
    world.medium.wait_held();
    // All of these fill the next group.
    let claimed = assertion(&key(1), "b", "rare");
    let voted = vote(&key(2), claimed.id());
    let taken_back = retract(&key(2), voted.id());
    let newer = assertion(&key(1), "b", "common");
    let superseded = supersede(&key(1), claimed.id(), newer.id());
    let cycle = supersede(&key(1), newer.id(), claimed.id());
    let answers: Vec<_> = [claimed, voted, taken_back, newer, superseded]
        .map(|signed| send(&engine, submission(signed)))
        .into();
    let cycle = send(&engine, submission(cycle));
    let unknown = send(&engine, submission(vote(&key(2), RecordId([3; 32]))));
    // Time to be admitted; the answers are the same without it.
    RealPause.pause();
    world.medium.release();
    wait(&held).unwrap();
    for (answer, position) in answers.iter().zip(3..) {
        assert_eq!(wait(answer).unwrap().position, Position(position));
    }
    let cycle = wait(&cycle);
    assert!(matches!(cycle, Err(WriteError::Refused(Refusal::Cycle { .. }))), "{cycle:?}");
    let unknown = wait(&unknown);
    let is_unknown = matches!(
        unknown,
        Err(WriteError::Refused(Refusal::UnknownReference { field: "assertion", .. }))
    );
    assert!(is_unknown, "{unknown:?}");
}

/// The tier of another's assertion is asked for while that is in flight.
#[test]
fn a_curator_waits_at_the_barrier() {
    let world = World::new();
    let engine = world.start();
    let (expert, clinical) = (key(10), key(11));
    for (curator, ceiling) in [(&expert, SourceClass::Expert), (&clinical, SourceClass::Clinical)] {
        create(&engine, register(&root(), curator, ceiling, &[Role::Curator]));
    }
    let author = key(1);
    create(&engine, register(&root(), &author, SourceClass::Clinical, &[]));
    let uri: Arc<str> = "https://trials.example/1".into();
    let source = Source {
        keys: vec![SourceKey::Uri(uri.clone())],
        class: SourceClass::Clinical,
        title: None,
    };
    world.medium.hold();
    let mut answers =
        vec![send(&engine, submission(sealed(&root(), WALL_MS, Body::Source(source))))];
    world.medium.wait_held();
    let provenance = Provenance { uri: Some(uri), evidence: None, class: None };
    let claimed = Assertion { source: Some(provenance), ..claim("a", "rare") };
    let claimed = sealed(&author, WALL_MS, Body::Assertion(claimed));
    answers.push(send(&engine, submission(claimed.clone())));
    // Expert may not touch a clinical claim; clinical may; and that decides a third.
    let refused = send(&engine, submission(retract(&expert, claimed.id())));
    let retraction = retract(&clinical, claimed.id());
    answers.push(send(&engine, submission(retraction.clone())));
    let not_by_author = send(&engine, submission(retract(&author, retraction.id())));
    world.medium.release();
    for answer in &answers {
        assert_eq!(wait(answer).unwrap().status, AckStatus::Created);
    }
    for answer in [refused, not_by_author] {
        let result = wait(&answer);
        let forbidden = matches!(result, Err(WriteError::Refused(Refusal::Forbidden { .. })));
        assert!(forbidden, "{result:?}");
    }
}

#[test]
fn a_refusal_logs_nothing() {
    let world = World::new();
    let engine = world.start();
    let (stranger, other) = (key(1), key(2));
    create(&engine, assertion(&other, "a", "rare"));
    let before = world.medium.ids();
    let target = before[&Position(2)];
    let alias =
        Alias { subject: Subject::parse("a").unwrap(), other: Subject::parse("b").unwrap() };
    let lifecycle = Lifecycle { assertion: target, state: LifecycleState::Approved, reason: None };
    for signed in [
        retract(&stranger, target),
        register(&stranger, &stranger, SourceClass::Regulatory, &[Role::Registrar]),
        sealed(&stranger, WALL_MS, Body::Alias(alias)),
        sealed(&stranger, WALL_MS, Body::Lifecycle(lifecycle)),
        genesis_of(&stranger),
    ] {
        let kind = signed.record().kind();
        let result = write(&engine, signed);
        assert!(matches!(result, Err(WriteError::Refused(_))), "{kind:?}: {result:?}");
    }
    assert_eq!(world.medium.ids(), before);
    // The position that a refused record would have had is the next one's.
    assert_eq!(create(&engine, assertion(&other, "b", "rare")), Position(3));
}

fn genesis_of(key: &SigningKey) -> Signed {
    sealed(key, WALL_MS, Body::Genesis(Genesis { format: 1, root: key.agent_id() }))
}

#[test]
fn a_claimed_time_may_be_five_minutes_ahead() {
    let world = World::new();
    let engine = world.start();
    for (ahead_ms, fits) in
        [(0, true), (300_000, true), (300_001, false), (i64::MAX - WALL_MS, false)]
    {
        // Root, too.
        let signed = sealed(&root(), WALL_MS + ahead_ms, Body::Assertion(claim("a", "rare")));
        let result = write(&engine, signed);
        assert_eq!(result.is_ok(), fits, "{ahead_ms}: {result:?}");
        if let Err(error) = result {
            assert!(matches!(error, WriteError::AtAhead { .. }), "{error:?}");
        }
    }
}

#[test]
fn a_full_queue_refuses_and_drops_nothing() {
    let mut world = World::new();
    world.config = EngineConfig { queue_records_max: 4, group_records_max: 2, ..world.config };
    let engine = world.start();
    world.medium.hold();
    let first = send(&engine, submission(assertion(&key(1), "a", "0")));
    world.medium.wait_held();
    let mut answers = vec![first];
    let mut full = 0;
    for n in 1..1_000 {
        answers.push(send(&engine, submission(assertion(&key(1), "a", &n.to_string()))));
    }
    // A bulk writer waits for room instead; it gets it below.
    let waiting = std::thread::scope(|scope| {
        let bulk = scope.spawn(|| {
            let (reply, answer) = channel();
            let signed = assertion(&key(1), "a", "bulk");
            engine.submit_waiting(submission(signed), PATIENCE, move |result| {
                reply.send(result).unwrap();
            });
            wait(&answer)
        });
        RealPause.pause();
        world.medium.release();
        bulk.join().unwrap()
    });
    assert_eq!(waiting.unwrap().status, AckStatus::Created);
    let mut created = 1;
    for answer in &answers {
        match wait(answer) {
            Ok(_) => created += 1,
            Err(WriteError::QueueFull { .. }) => full += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(full > 900, "only {full} were refused");
    assert_eq!(world.medium.ids().len(), created + 1, "genesis and every created one");
}

#[test]
fn many_writers_get_dense_positions() {
    let world = World::new();
    let engine = world.start();
    let mut positions: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=8u8)
            .map(|n| {
                let engine = &engine;
                scope.spawn(move || {
                    let write =
                        |i: u32| create(engine, assertion(&key(n), &format!("s{i}"), "rare")).0;
                    (0..50).map(write).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    positions.sort_unstable();
    assert_eq!(positions, (2..=401).collect::<Vec<_>>());
    assert!(world.medium.appends() < 401, "no two records shared a sync");
}
