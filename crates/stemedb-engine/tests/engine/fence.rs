//! A lease that is not held, or no longer, and a node that follows another.

use std::sync::Mutex;

use stemedb_engine::{Engine, EngineConfig, Fence, NodeState, WriteError};
use stemedb_model::*;

use crate::common::*;

/// A lease that a test gives and takes.
#[derive(Debug, Default)]
struct Held(Mutex<Option<String>>);

impl Held {
    fn lose(&self, why: &str) {
        *self.0.lock().unwrap() = Some(why.to_owned());
    }

    fn regain(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Fence for Held {
    fn check(&self) -> Result<(), String> {
        self.0.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

fn fenced(result: Result<stemedb_engine::Ack, WriteError>) {
    match result {
        Err(WriteError::Fenced { reason }) => assert_eq!(reason, "node b has it"),
        other => panic!("{other:?}"),
    }
}

/// The process stands still in the sync, and wakes up when another node writes.
#[test]
fn what_is_durable_after_the_lease_is_not_acknowledged() {
    let world = World::new();
    let lease = std::sync::Arc::new(Held::default());
    let config = EngineConfig { fence: Some(lease.clone()), ..EngineConfig::default() };
    let engine = world.start_with(config);
    let before = assertion(&key(1), "a", "rare");
    create(&engine, before.clone());
    world.medium.hold();
    let caught = assertion(&key(1), "b", "rare");
    let first = send(&engine, submission(caught.clone()));
    world.medium.wait_held();
    let behind = send(&engine, submission(assertion(&key(1), "c", "rare")));
    lease.lose("node b has it");
    world.medium.release();
    fenced(wait(&first));
    fenced(wait(&behind));
    wait_state(&engine, NodeState::ReadOnly);
    assert_eq!(engine.node().reason.unwrap().code, "fenced");
    // To say that it is there would be to acknowledge it.
    fenced(write(&engine, caught.clone()));
    fenced(write(&engine, before));
    fenced(write(&engine, assertion(&key(1), "d", "rare")));
    // Genesis, a, b: what came behind was not written any more.
    assert_eq!(world.medium.ids().len(), 3);
    // The lease was only not renewed in time: nobody had it.
    lease.regain();
    wait_state(&engine, NodeState::Ready);
    assert_eq!(write(&engine, caught).unwrap().position, Position(3));
    create(&engine, assertion(&key(1), "d", "rare"));
}

/// Whoever asks whether it is ready for writes right at the start is told that it is not.
#[test]
fn a_node_that_has_no_lease_yet_is_never_ready() {
    let world = World::new();
    let lease = std::sync::Arc::new(Held::default());
    lease.lose("node b has it");
    let config = EngineConfig { fence: Some(lease.clone()), ..EngineConfig::default() };
    let engine = world.start_with(config);
    assert_eq!(engine.node().state, NodeState::ReadOnly);
    fenced(write(&engine, assertion(&key(1), "a", "rare")));
    lease.regain();
    wait_state(&engine, NodeState::Ready);
    create(&engine, assertion(&key(1), "a", "rare"));
}

#[test]
fn a_standby_takes_no_writes_and_follows_its_log() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "a", "rare"));
    engine.close(PATIENCE);
    drop(engine);

    let config = EngineConfig { standby: true, ..EngineConfig::default() };
    let engine = world.start_with(config);
    wait_state(&engine, NodeState::Standby);
    let said = |engine: &Engine| write(engine, assertion(&key(1), "b", "rare")).unwrap_err();
    assert_eq!(said(&engine).to_string(), "this node is a standby: it takes no writes");
    engine.tell_primary("http://a:18180");
    assert_eq!(said(&engine).to_string(), "this node is a standby: http://a:18180 takes writes");

    // The other node goes on.
    let signed = assertion(&key(1), "c", "rare");
    world.medium.add(&signed);
    assert_eq!(engine.node().progress.applied, Position(2));
    assert_eq!(engine.catch_up().unwrap(), Position(3));
    let view = engine.view(Position(3), PATIENCE).unwrap();
    assert_eq!(view.record(&signed.id()).unwrap().unwrap().entry.position, Position(3));
    assert_eq!(engine.node().state, NodeState::Standby);
}
