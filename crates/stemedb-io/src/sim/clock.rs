//! A clock that moves only when told to.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;

/// Simulated time. The wall clock can be set and can jump; the monotonic clock only steps.
#[derive(Debug)]
pub struct SimClock {
    wall_ms: AtomicI64,
    monotonic_ns: AtomicU64,
    step_ns: AtomicU64,
}

impl SimClock {
    /// A clock whose wall time is `wall_ms`, and that stands still until told otherwise.
    pub fn new(wall_ms: i64) -> Self {
        Self {
            wall_ms: AtomicI64::new(wall_ms),
            monotonic_ns: AtomicU64::new(0),
            step_ns: AtomicU64::new(0),
        }
    }

    /// Moves both clocks forward, the wall clock by whole milliseconds.
    pub fn step(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let before = self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        let ms = before.wrapping_add(ns) / 1_000_000 - before / 1_000_000;
        self.wall_ms.fetch_add(ms as i64, Ordering::SeqCst);
    }

    /// Every later reading of the monotonic clock first moves both clocks by `duration`.
    pub fn step_on_read(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.step_ns.store(ns, Ordering::SeqCst);
    }

    /// Makes the wall clock jump; the monotonic clock does not notice.
    pub fn set_wall(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        let step = self.step_ns.load(Ordering::SeqCst);
        if step > 0 {
            self.step(Duration::from_nanos(step));
        }
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) {
        self.step(duration);
    }
}
