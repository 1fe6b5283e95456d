//! Acknowledgements that wait for an archive, and drains that fill it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use stemedb_engine::{AckStatus, Archive, ArchiveView, Engine, NodeState, WriteError};
use stemedb_model::*;

use crate::common::*;

/// An archive whose every step the test decides.
#[derive(Default)]
struct Far {
    state: Mutex<FarState>,
    changed: Condvar,
}

#[derive(Default)]
struct FarState {
    position: u64,
    /// A flush archives by itself, up to here.
    reach: u64,
    problem: Option<String>,
    flushes: Vec<u64>,
}

impl Far {
    fn new(reach: u64) -> Arc<Self> {
        let state = FarState { reach, ..FarState::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn reach(&self, position: u64) {
        let mut state = self.state.lock().unwrap();
        state.reach = position;
        let asked = state.flushes.last().copied().unwrap_or(0);
        state.position = state.position.max(asked.min(position));
        drop(state);
        self.changed.notify_all();
    }

    fn fail(&self, problem: Option<&str>) {
        self.state.lock().unwrap().problem = problem.map(Into::into);
    }

    fn flushes(&self) -> Vec<u64> {
        let mut flushes = self.state.lock().unwrap().flushes.clone();
        flushes.dedup();
        flushes
    }
}

impl Archive for Far {
    fn view(&self) -> ArchiveView {
        let state = self.state.lock().unwrap();
        let name = if state.problem.is_some() { "failing" } else { "running" };
        let (position, problem) = (Position(state.position), state.problem.clone());
        ArchiveView { position, state: name, problem }
    }

    fn flush(&self, position: Position, bound: Duration) -> bool {
        let mut state = self.state.lock().unwrap();
        state.flushes.push(position.0);
        state.position = state.position.max(position.0.min(state.reach));
        let short = |state: &mut FarState| state.position < position.0;
        let bound = bound.min(Duration::from_millis(50));
        let (state, _) = self.changed.wait_timeout_while(state, bound, short).unwrap();
        state.position >= position.0
    }
}

fn start(world: &World, far: &Arc<Far>, sync: bool) -> Arc<Engine> {
    let engine = world.start();
    engine.archive_with(Arc::<Far>::clone(far), sync).unwrap();
    engine
}

#[test]
fn an_acknowledgement_waits_for_the_archive() {
    let world = World::new();
    let far = Far::new(0);
    let engine = start(&world, &far, true);
    let signed = assertion(&key(1), "a", "rare");
    let answer = send(&engine, submission(signed.clone()));
    // Durable and readable, and not told.
    while engine.node().progress.applied < Position(2) {
        RealPause.pause();
    }
    assert!(answer.recv_timeout(Duration::from_millis(300)).is_err());
    // A copy of it is not told either, nor what comes behind; what is refused is.
    let copy = send(&engine, submission(signed.clone()));
    let second = send(&engine, submission(assertion(&key(1), "b", "rare")));
    assert!(copy.recv_timeout(Duration::from_millis(300)).is_err());
    let refused = write(&engine, vote(&key(1), RecordId([9; 32])));
    assert!(matches!(refused, Err(WriteError::Refused(_))), "{refused:?}");
    far.reach(2);
    assert_eq!(wait(&answer).unwrap().status, AckStatus::Created);
    assert_eq!(wait(&copy).unwrap().status, AckStatus::Exists);
    assert!(second.recv_timeout(Duration::from_millis(300)).is_err());
    far.reach(u64::MAX);
    assert_eq!(wait(&second).unwrap().position, Position(3));
    assert_eq!(write(&engine, signed).unwrap().status, AckStatus::Exists);
    let node = engine.node();
    let archive = node.archive.unwrap();
    assert_eq!((archive.sync, archive.view.position), (true, Position(3)));
    engine.close(PATIENCE);
}

/// One request to the archive serves everything that came during the last one.
#[test]
fn many_wait_for_one_upload() {
    let world = World::new();
    let far = Far::new(0);
    let engine = start(&world, &far, true);
    let answers: Vec<_> = (0..200)
        .map(|n| send(&engine, submission(assertion(&key(1), &format!("s{n}"), "rare"))))
        .collect();
    while engine.node().progress.applied < Position(201) {
        RealPause.pause();
    }
    RealPause.pause();
    far.reach(u64::MAX);
    for answer in &answers {
        wait(answer).unwrap();
    }
    assert!(far.flushes().len() < 50, "{:?}", far.flushes());
    engine.close(PATIENCE);
}

#[test]
fn an_archive_that_is_away_is_told() {
    let world = World::new();
    let far = Far::new(u64::MAX);
    let engine = start(&world, &far, true);
    create(&engine, assertion(&key(1), "a", "rare"));
    far.fail(Some("the store is away"));
    wait_state(&engine, NodeState::ReadOnly);
    assert_eq!(engine.node().reason.unwrap().code, "archive_unavailable");
    let refused = write(&engine, assertion(&key(1), "b", "rare")).unwrap_err();
    assert!(
        matches!(&refused, WriteError::ArchiveUnavailable { reason } if reason.contains("away"))
    );
    // What is in it is told as before.
    let there = write(&engine, assertion(&key(1), "a", "rare")).unwrap();
    assert_eq!(there.status, AckStatus::Exists);
    far.fail(None);
    wait_state(&engine, NodeState::Ready);
    assert_eq!(create(&engine, assertion(&key(1), "b", "rare")), Position(3));

    // One that fell behind is not told, and later is: it is in the log.
    far.reach(0);
    let mut late = submission(assertion(&key(1), "c", "rare"));
    late.deadline = Some(engine.monotonic() + Duration::from_secs(1));
    let late = send(&engine, late);
    while engine.node().progress.applied < Position(4) {
        RealPause.pause();
    }
    world.clock.step(Duration::from_secs(2));
    let told = wait(&late).unwrap_err();
    assert!(matches!(told, WriteError::Indeterminate { .. }), "{told:?}");
    // Whoever has no deadline is told, too.
    let patient = send(&engine, submission(assertion(&key(1), "d", "rare")));
    while engine.node().progress.applied < Position(5) {
        RealPause.pause();
    }
    world.clock.step(Duration::from_secs(31));
    let told = wait(&patient).unwrap_err();
    assert!(matches!(told, WriteError::Indeterminate { .. }), "{told:?}");
    far.reach(u64::MAX);
    let now = write(&engine, assertion(&key(1), "c", "rare")).unwrap();
    assert_eq!((now.status, now.position), (AckStatus::Exists, Position(4)));
    engine.close(PATIENCE);
}

#[test]
fn a_drain_archives_what_is_left_and_says_what_is_not() {
    for sync in [false, true] {
        let world = World::new();
        let far = Far::new(1);
        let engine = start(&world, &far, sync);
        let answer = send(&engine, submission(assertion(&key(1), "a", "rare")));
        while engine.node().progress.applied < Position(2) {
            RealPause.pause();
        }
        far.fail(Some("the store is away"));
        let report = engine.drain(Duration::from_millis(200));
        assert_eq!((report.state, report.unfinished), (NodeState::Drained, 0), "{report:?}");
        let [left] = report.problems.as_slice() else { panic!("{report:?}") };
        assert!(
            left.contains("positions 2 to 2 are not archived yet (the store is away)"),
            "{left}"
        );
        far.fail(None);
        far.reach(u64::MAX);
        let report = engine.drain(Duration::from_millis(200));
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(engine.node().archive.unwrap().view.position, Position(2));
        assert_eq!(wait(&answer).unwrap().position, Position(2));
        // A stop does not wait again, and says it, too.
        engine.undrain();
        wait_state(&engine, NodeState::Ready);
        far.reach(2);
        let answer = send(&engine, submission(assertion(&key(1), "b", "rare")));
        while engine.node().progress.applied < Position(3) {
            RealPause.pause();
        }
        let report = engine.close(PATIENCE);
        assert!(report.problems.concat().contains("positions 3 to 3"), "{report:?}");
        match wait(&answer) {
            Ok(ack) => assert!(!sync && ack.position == Position(3)),
            Err(WriteError::Indeterminate { reason }) => assert!(sync && reason.contains("stops")),
            Err(other) => panic!("{other}"),
        }
    }
}
