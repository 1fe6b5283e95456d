//! What callers are told when the log or the index fails, and that it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::time::Duration;

use proptest::prelude::*;
use stemedb_engine::{AckStatus, EngineError, NodeState, ReadError, WriteError};
use stemedb_log::{LogReader, LogState, Outcome};
use stemedb_model::*;

use crate::common::*;

fn outcome(result: &Result<stemedb_engine::Ack, WriteError>) -> Option<Outcome> {
    match result {
        Err(WriteError::WalUnavailable { outcome, .. }) => Some(*outcome),
        _ => None,
    }
}

#[test]
fn an_undecided_group_is_told_from_what_waits_behind_it() {
    for step in [Step::Lost, Step::Kept] {
        let world = World::new();
        let engine = world.start();
        create(&engine, assertion(&key(1), "before", "rare"));
        world.medium.script([step]);
        world.medium.hold();
        let undecided = assertion(&key(1), "a", "rare");
        let first = send(&engine, submission(undecided.clone()));
        world.medium.wait_held();
        let echo = send(&engine, submission(undecided.clone()));
        let behind = assertion(&key(1), "b", "rare");
        let next = send(&engine, submission(behind.clone()));
        // Refused only because of the record before it.
        let rests_on_it =
            send(&engine, submission(supersede(&key(2), undecided.id(), behind.id())));
        RealPause.pause();
        world.medium.release();
        wait_state(&engine, NodeState::ReadOnly);
        // They are held while the log might still heal.
        RealPause.pause();
        assert!(first.try_recv().is_err() && next.try_recv().is_err());
        world.clock.step(Duration::from_secs(11));
        assert_eq!(outcome(&wait(&first)), Some(Outcome::Indeterminate));
        assert_eq!(outcome(&wait(&echo)), Some(Outcome::Indeterminate));
        assert_eq!(outcome(&wait(&next)), Some(Outcome::NotWritten));
        assert_eq!(outcome(&wait(&rests_on_it)), Some(Outcome::NotWritten));

        // From now on: refused at once, reads go on.
        let node = engine.node();
        assert_eq!(node.state, NodeState::ReadOnly);
        assert_eq!(node.reason.unwrap().code, "wal_unavailable");
        let later = write(&engine, assertion(&key(1), "c", "rare"));
        assert_eq!(outcome(&later), Some(Outcome::NotWritten));
        let again = write(&engine, undecided.clone());
        assert!(matches!(again, Err(WriteError::Undecided { .. })), "{again:?}");
        let view = engine.view(Position(2), Duration::ZERO).unwrap();
        assert!(matches!(view.record(&undecided.id()), Err(ReadError::Undecided { .. })));
        assert!(view.record(&behind.id()).unwrap().is_none());
        assert_eq!(view.position(), Position(2));
        drop(view);
        drop(engine);

        // The next start decides.
        let engine = world.start();
        assert_eq!(engine.node().state, NodeState::Ready);
        let kept = step == Step::Kept;
        let expected = if kept { AckStatus::Exists } else { AckStatus::Created };
        let view = engine.view(Position(2), Duration::ZERO).unwrap();
        assert_eq!(view.record(&undecided.id()).unwrap().is_some(), kept);
        assert_eq!(write(&engine, undecided).unwrap().status, expected);
        assert_eq!(write(&engine, behind).unwrap().status, AckStatus::Created);
    }
}

/// The medium comes back, while the waiters are held or after they were sent away: the group is
/// made durable at its place, and everything goes on without a restart.
#[test]
fn a_log_that_resumes_decides_what_it_kept() {
    for sent_away in [false, true] {
        for step in [Step::Lost, Step::Kept] {
            let world = World::new();
            let engine = world.start();
            world.medium.script([step]);
            world.medium.hold();
            let kept = assertion(&key(1), "a", "rare");
            let first = send(&engine, submission(kept.clone()));
            world.medium.wait_held();
            let behind = send(&engine, submission(assertion(&key(1), "b", "rare")));
            RealPause.pause();
            world.medium.release();
            wait_state(&engine, NodeState::ReadOnly);
            let at_once = write(&engine, assertion(&key(1), "c", "rare"));
            assert_eq!(outcome(&at_once), Some(Outcome::NotWritten));
            let again = write(&engine, kept.clone());
            assert!(matches!(again, Err(WriteError::Undecided { .. })), "{again:?}");
            if sent_away {
                world.clock.step(Duration::from_secs(11));
                assert_eq!(outcome(&wait(&first)), Some(Outcome::Indeterminate));
                assert_eq!(outcome(&wait(&behind)), Some(Outcome::NotWritten));
            }
            world.medium.mend();
            wait_state(&engine, NodeState::Ready);
            if !sent_away {
                assert_eq!(wait(&first).unwrap().position, Position(2));
                assert_eq!(wait(&behind).unwrap().position, Position(3));
            }
            engine.view(Position(2), PATIENCE).unwrap();
            let ack = write(&engine, kept).unwrap();
            assert_eq!((ack.status, ack.position), (AckStatus::Exists, Position(2)));
            create(&engine, assertion(&key(1), "c", "rare"));
            assert_eq!(world.medium.ids().len(), if sent_away { 3 } else { 4 });
        }
    }
}

/// A node that stops meanwhile does not wait for what nobody waits for, and says so to the rest.
#[test]
fn a_node_stops_while_the_log_keeps_a_group() {
    let world = World::new();
    let engine = world.start();
    world.medium.script([Step::Kept]);
    let kept = assertion(&key(1), "a", "rare");
    let first = send(&engine, submission(kept.clone()));
    wait_state(&engine, NodeState::ReadOnly);
    world.clock.step(Duration::from_secs(11));
    assert_eq!(outcome(&wait(&first)), Some(Outcome::Indeterminate));
    let report = engine.close(PATIENCE);
    assert_eq!(report.unfinished, 1);
    assert!(report.problems.concat().contains("not sealed"), "{report:?}");
    drop(engine);
    let engine = world.start();
    assert_eq!(write(&engine, kept).unwrap().status, AckStatus::Exists);
}

/// An operator takes the log off its file system and puts it back: reads go on, writes resume.
#[test]
fn the_log_is_detached_and_attached() {
    let world = World::new();
    let engine = world.start();
    let known = assertion(&key(1), "a", "rare");
    create(&engine, known.clone());
    engine.detach_log(PATIENCE).unwrap();
    wait_state(&engine, NodeState::ReadOnly);
    assert_eq!(engine.node().log, LogState::Detached);
    let refused = write(&engine, assertion(&key(1), "b", "rare"));
    assert_eq!(outcome(&refused), Some(Outcome::NotWritten));
    let view = engine.view(Position(2), Duration::ZERO).unwrap();
    assert!(view.record(&known.id()).unwrap().is_some());
    engine.attach_log(PATIENCE).unwrap();
    assert_eq!(engine.node().state, NodeState::Ready);
    assert_eq!(create(&engine, assertion(&key(1), "b", "rare")), Position(3));
}

#[test]
fn a_refusing_log_has_written_nothing() {
    let world = World::new();
    let engine = world.start();
    let before = world.medium.ids();
    world.medium.script([Step::Refused]);
    let signed = assertion(&key(1), "a", "rare");
    for _ in 0..2 {
        assert_eq!(outcome(&write(&engine, signed.clone())), Some(Outcome::NotWritten));
    }
    assert_eq!(engine.node().state, NodeState::ReadOnly);
    assert_eq!(world.medium.ids(), before);
}

/// No room for a segment: nothing of what was given up stays in anybody's memory, and writes
/// resume by themselves.
#[test]
fn a_passing_refusal_is_rolled_back_and_tried_again() {
    let world = World::new();
    let engine = world.start();
    let (curator, author) = (key(10), key(1));
    let claimed = assertion(&author, "a", "rare");
    create(&engine, claimed.clone());
    world.medium.script([Step::Unprepared]);
    world.medium.hold();
    let registration = register(&root(), &curator, SourceClass::Regulatory, &[Role::Curator]);
    let first = send(&engine, submission(registration.clone()));
    world.medium.wait_held();
    // Rests on the registration, which is about to be given up.
    let second = send(&engine, submission(retract(&curator, claimed.id())));
    RealPause.pause();
    world.medium.release();
    assert_eq!(outcome(&wait(&first)), Some(Outcome::NotWritten));
    assert_eq!(outcome(&wait(&second)), Some(Outcome::NotWritten));
    wait_state(&engine, NodeState::ReadOnly);
    assert_eq!(outcome(&write(&engine, registration.clone())), Some(Outcome::NotWritten));

    world.clock.step(Duration::from_millis(1_001));
    let refused = write(&engine, retract(&curator, claimed.id()));
    assert!(matches!(refused, Err(WriteError::Refused(Refusal::Forbidden { .. }))), "{refused:?}");
    assert_eq!(engine.node().state, NodeState::ReadOnly, "a refusal proves nothing of the log");
    world.clock.step(Duration::from_millis(1_001));
    assert_eq!(create(&engine, registration), Position(3));
    wait_state(&engine, NodeState::Ready);
    assert_eq!(create(&engine, retract(&curator, claimed.id())), Position(4));
}

#[test]
fn a_durable_record_that_the_index_refuses_is_named() {
    let world = World::new();
    let engine = world.start();
    let known = assertion(&key(1), "before", "rare");
    create(&engine, known.clone());
    world.clock.step(Duration::from_secs(1));
    world.medium.script([Step::BackInTime]);
    world.medium.hold();
    let signed = assertion(&key(1), "a", "rare");
    let first = send(&engine, submission(signed.clone()));
    world.medium.wait_held();
    let echo = send(&engine, submission(signed.clone()));
    RealPause.pause();
    world.medium.release();
    for answer in [&first, &echo] {
        match wait(answer) {
            Err(WriteError::IndexFailed { position, .. }) => {
                assert_eq!(position, Some(Position(3)));
            }
            other => panic!("{other:?}"),
        }
    }
    let node = engine.node();
    assert_eq!((node.state, node.reason.unwrap().code), (NodeState::ReadOnly, "index_failed"));
    assert_eq!(node.progress.applied, Position(2));
    assert_eq!(node.progress.durable, Position(3));
    // Asked for again, by id, and as something new.
    match write(&engine, signed.clone()) {
        Err(WriteError::IndexFailed { position: Some(Position(3)), .. }) => {}
        other => panic!("{other:?}"),
    }
    match write(&engine, assertion(&key(1), "b", "rare")) {
        Err(WriteError::IndexFailed { position: None, .. }) => {}
        other => panic!("{other:?}"),
    }
    let view = engine.view(Position(2), Duration::ZERO).unwrap();
    match view.record(&signed.id()) {
        Err(ReadError::NotApplied { position: Position(3), .. }) => {}
        other => panic!("{other:?}"),
    }
    // What is known is still said.
    assert_eq!(write(&engine, known).unwrap().status, AckStatus::Exists);
}

#[test]
fn an_index_ahead_of_the_log_is_refused() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "a", "rare"));
    create(&engine, assertion(&key(1), "b", "rare"));
    drop(engine);
    world.medium.lose_newest_group();
    let log = world.medium.open();
    let opened =
        stemedb_engine::Engine::open(world.config.clone(), world.env(), log, world.index());
    match opened {
        Err(EngineError::IndexAhead { applied: Position(3), durable: Position(2) }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_without_genesis_is_refused() {
    let world = World::new();
    let empty = Medium::new(world.clock.clone());
    let opened = stemedb_engine::Engine::open(
        world.config.clone(),
        world.env(),
        empty.open(),
        world.index(),
    );
    assert!(matches!(opened, Err(EngineError::NoGenesis)), "{opened:?}");
    // And is given one once, of the right kind.
    let mut log = empty.open();
    let mut genesis_of = |signed: &Signed| {
        let commit = stemedb_engine::Engine::genesis(&mut *log, signed, principal("root"));
        commit.map(|commit| commit.first)
    };
    let other = genesis_of(&assertion(&key(1), "a", "rare"));
    assert!(matches!(other, Err(EngineError::NoGenesis)), "{other:?}");
    assert_eq!(genesis_of(&genesis()).unwrap(), Position(1));
    let twice = genesis_of(&genesis());
    assert!(matches!(twice, Err(EngineError::NotEmpty { durable: Position(1) })), "{twice:?}");
}

/// One thing a client does.
#[derive(Debug, Clone)]
enum Act {
    Claim(u8),
    /// A vote on a claim that may be known, on its way, lost, or not yet made.
    Vote(u8),
    /// Let the clock run, so that a log that refused for a while is tried again.
    Wait,
    /// The medium takes writes again, now and whenever it has failed.
    Mend,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..24u8).prop_map(Act::Claim),
        3 => (0..24u8).prop_map(Act::Vote),
        1 => Just(Act::Wait),
        1 => Just(Act::Mend),
    ];
    proptest::collection::vec(act, 1..60)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Good),
        1 => Just(Step::Unprepared),
        1 => Just(Step::Refused),
        1 => Just(Step::Lost),
        1 => Just(Step::Kept),
    ];
    proptest::collection::vec(step, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the log does: what was acknowledged is there after a restart, what was told not
    /// written is not, and the index can be made again from what is there.
    #[test]
    fn answers_are_true(acts in acts(), steps in steps(), together in 1..8usize) {
        let world = World::new();
        let engine = world.start();
        // So that waiters are not held for long.
        world.clock.step_on_read(Duration::from_millis(200));
        world.medium.script(steps);
        let claim = |n: u8| assertion(&key(1), &format!("s{n}"), "rare");
        let mut created = BTreeMap::new();
        let mut undecided = BTreeSet::new();
        let mut never = BTreeSet::new();
        for acts in acts.chunks(together) {
            let mut answers = Vec::new();
            world.medium.hold();
            for act in acts {
                let signed = match act {
                    Act::Claim(n) => claim(*n),
                    Act::Vote(n) => vote(&key(2), claim(*n).id()),
                    Act::Wait | Act::Mend => continue,
                };
                answers.push((signed.id(), send(&engine, submission(signed))));
            }
            world.medium.release();
            for (id, answer) in answers {
                match wait(&answer) {
                    Ok(ack) => {
                        prop_assert_eq!(ack.id, id);
                        let first = *created.entry(id).or_insert(ack.position);
                        prop_assert_eq!(first, ack.position);
                        never.remove(&id);
                    }
                    Err(WriteError::WalUnavailable { outcome: Outcome::Indeterminate, .. }
                        | WriteError::Undecided { .. }) => {
                        undecided.insert(id);
                        never.remove(&id);
                    }
                    Err(WriteError::WalUnavailable { outcome: Outcome::NotWritten, .. }
                        | WriteError::Refused(Refusal::UnknownReference { .. })) => {
                        // In the order of sending: a copy sent after this one may be created,
                        // while the log takes writes again.
                        prop_assert!(!created.contains_key(&id), "created, then told not written");
                        prop_assert!(!undecided.contains(&id), "undecided, then told not written");
                        never.insert(id);
                    }
                    Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
                }
            }
            if acts.iter().any(|act| matches!(act, Act::Mend)) {
                world.medium.mend();
            }
            if acts.iter().any(|act| matches!(act, Act::Wait)) {
                world.clock.step(Duration::from_millis(1_001));
            }
        }
        // A given-up record that was sent again may have been created then.
        never.retain(|id| !created.contains_key(id) && !undecided.contains(id));
        drop(engine);

        world.clock.step_on_read(Duration::ZERO);

        let there = world.medium.ids();
        let by_id: BTreeMap<_, _> = there.iter().map(|(position, id)| (*id, *position)).collect();
        prop_assert_eq!(by_id.len(), there.len(), "a record twice");
        for (id, position) in &created {
            prop_assert_eq!(by_id.get(id), Some(position), "acknowledged and lost");
        }
        for id in &never {
            prop_assert!(!by_id.contains_key(id), "told not written, and there");
        }
        for id in by_id.keys().filter(|id| **id != genesis().id()) {
            prop_assert!(created.contains_key(id) || undecided.contains(id), "there unasked");
        }

        let engine = world.start();
        let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
        prop_assert_eq!(view.position(), world.medium.durable().0);
        for (id, position) in &by_id {
            let found = view.record(id).unwrap().map(|found| found.entry.position);
            prop_assert_eq!(found, Some(*position));
        }
        let answers = view.answer_root().unwrap();
        drop(engine);
        world.delete_index();
        let engine = world.start();
        let rebuilt = engine.view(Position::NONE, Duration::ZERO).unwrap();
        prop_assert_eq!(rebuilt.answer_root().unwrap(), answers);
    }
}

/// Copies that come while the log fails are told the same as the first, not that nothing is there.
#[test]
fn a_copy_sent_while_the_log_fails_is_told_the_truth() {
    for (step, outcome_of_first) in [(Step::Good, None), (Step::Kept, Some(Outcome::Indeterminate))]
    {
        for _ in 0..6 {
            let world = World::new();
            let engine = world.start();
            world.clock.step_on_read(Duration::from_millis(200));
            // The second append ends writing; copies of both records keep coming meanwhile.
            world.medium.script([step, Step::Lost]);
            let first = assertion(&key(1), "a", "rare");
            let second = assertion(&key(1), "b", "rare");
            let told: Vec<(RecordId, Result<_, WriteError>)> = std::thread::scope(|scope| {
                let senders: Vec<_> = (0..4)
                    .map(|_| {
                        let (engine, first, second) = (&engine, &first, &second);
                        scope.spawn(move || {
                            let mut told = Vec::new();
                            for _ in 0..20 {
                                for signed in [first, second] {
                                    told.push((signed.id(), write(engine, signed.clone())));
                                }
                            }
                            told
                        })
                    })
                    .collect();
                senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
            });
            drop(engine);
            let there = world.medium.ids();
            for (id, result) in told {
                match result {
                    Ok(ack) => assert_eq!(there.get(&ack.position), Some(&id)),
                    Err(WriteError::WalUnavailable { outcome: Outcome::NotWritten, .. }) => {
                        assert!(there.values().all(|found| *found != id), "not written, yet there");
                    }
                    Err(
                        WriteError::Undecided { .. }
                        | WriteError::WalUnavailable { outcome: Outcome::Indeterminate, .. },
                    ) => assert!(id != first.id() || outcome_of_first.is_some()),
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
}

/// A copy may share its group with a record that fails. Its own first is durable, and so it hears
/// `exists`, however far behind the applier was when the copy came.
#[test]
fn a_copy_of_what_is_durable_does_not_share_the_fate_of_its_group() {
    let world = World::new();
    let engine = world.start();
    // An answer that takes its time holds the applier, so that the next record is durable and not
    // yet readable.
    let (let_go, held) = channel::<()>();
    engine.submit(submission(assertion(&key(1), "holds", "rare")), move |result| {
        result.unwrap();
        held.recv_timeout(PATIENCE).unwrap();
    });
    while engine.node().progress.applied < Position(2) {
        RealPause.pause();
    }
    let durable = assertion(&key(1), "durable", "rare");
    let first = send(&engine, submission(durable.clone()));
    while engine.node().progress.durable < Position(3) {
        RealPause.pause();
    }
    world.medium.script([Step::Good, Step::Kept]);
    world.medium.hold();
    let before = send(&engine, submission(assertion(&key(1), "before", "rare")));
    world.medium.wait_held();
    let fails = send(&engine, submission(assertion(&key(1), "fails", "rare")));
    let copy = send(&engine, submission(durable));
    RealPause.pause();
    world.medium.release();
    wait_state(&engine, NodeState::ReadOnly);
    let_go.send(()).unwrap();
    assert_eq!(wait(&first).unwrap().status, AckStatus::Created);
    assert_eq!(wait(&before).unwrap().status, AckStatus::Created);
    let ack = wait(&copy).unwrap();
    assert_eq!((ack.status, ack.position), (AckStatus::Exists, Position(3)));
    world.clock.step(Duration::from_secs(11));
    assert_eq!(outcome(&wait(&fails)), Some(Outcome::Indeterminate));
}
