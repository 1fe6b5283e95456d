//! Every implementation of `Log` keeps the contract.

use std::sync::Arc;

use stemedb_io::sim::SimClock;
use stemedb_log::MemoryLog;
use stemedb_log::conformance::{self, LOG_ID, START_MS, Subject, TIMELINE};

#[test]
fn memory_log() {
    conformance::all(&mut || {
        let clock = Arc::new(SimClock::new(START_MS));
        let log = MemoryLog::new(LOG_ID, TIMELINE, clock.clone());
        let breaker = log.breaker();
        let break_medium: Box<dyn FnMut()> = Box::new(move || breaker(0));
        Subject { log: Box::new(log), clock, break_medium: Some(break_medium) }
    });
}
