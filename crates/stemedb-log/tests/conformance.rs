//! Every implementation of `Log` keeps the contract.

use std::sync::Arc;
use std::time::Duration;

use stemedb_io::sim::{EIO, Fault, OpKind, SimClock, When, world};
use stemedb_io::{Clock, Env, RealClock, RealRng, RealVfs};
use stemedb_log::conformance::{self, LOG_ID, START_MS, Subject, TIMELINE};
use stemedb_log::{Expect, MemoryLog, Wal, WalConfig};

const NEW: Expect = Expect::New { log_id: LOG_ID, timeline: TIMELINE };

#[test]
fn memory_log() {
    conformance::all(&mut || {
        let clock = Arc::new(SimClock::new(START_MS));
        let log = MemoryLog::new(LOG_ID, TIMELINE, clock.clone());
        let breaker = log.breaker();
        let break_medium: Box<dyn FnMut()> = Box::new(move || breaker(0));
        let break_medium = Some(break_medium);
        Subject { log: Box::new(log), clock, break_medium, mend_medium: None }
    });
}

/// Short segments, so that every clause sees rotations; the longest group needs eight blocks.
fn short(dir: impl Into<std::path::PathBuf>) -> WalConfig {
    WalConfig { segment_bytes: 10 * 4096, prepare_in_background: false, ..WalConfig::new(dir) }
}

#[test]
fn wal_on_the_simulated_disk() {
    for op in [OpKind::Write, OpKind::SyncData] {
        conformance::all(&mut || {
            let (vfs, clock, env) = world(11, START_MS);
            let (wal, _) = Wal::open(short("/wal"), env, NEW).unwrap();
            let fault =
                Fault { op: Some(op), path: String::new(), when: When::From(1), errno: EIO };
            let disk = vfs.clone();
            let break_medium: Box<dyn FnMut()> = Box::new(move || disk.inject(fault.clone()));
            let mend_medium: Box<dyn FnMut()> = Box::new(move || vfs.clear_faults());
            Subject {
                log: Box::new(wal),
                clock,
                break_medium: Some(break_medium),
                mend_medium: Some(mend_medium),
            }
        });
    }
}

/// Simulated time over real files: what the system has to finish takes real time.
struct RealSleep(Arc<SimClock>);

impl Clock for RealSleep {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        RealClock::new().sleep(duration);
    }
}

#[test]
fn wal_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    for background in [false, true] {
        let mut n = 0;
        conformance::all(&mut || {
            n += 1;
            let clock = Arc::new(SimClock::new(START_MS));
            let env = Env {
                clock: Arc::new(RealSleep(clock.clone())),
                rng: Arc::new(RealRng),
                vfs: Arc::new(RealVfs),
            };
            let config = WalConfig {
                prepare_in_background: background,
                ..short(dir.path().join(format!("{background}/{n}")))
            };
            let (wal, _) = Wal::open(config, env, NEW).unwrap();
            Subject { log: Box::new(wal), clock, break_medium: None, mend_medium: None }
        });
    }
}
