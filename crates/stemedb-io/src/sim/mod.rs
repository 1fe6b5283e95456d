//! Simulated doors: the same seed gives the same run, byte for byte.

mod clock;
mod fault;
mod inode;
mod mishap;
mod names;
mod rng;
mod vfs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use clock::SimClock;
pub use fault::{EIO, ENOSPC, EROFS, Fault, OpKind, When};
pub use inode::Personality;
pub use mishap::{Mishap, Rates};
pub use rng::SimRng;
pub use vfs::{Failed, SimVfs, Traced};

use crate::Env;

/// A world made from a seed: the disk, a clock that starts at `wall_ms`, and an `Env` of them.
pub fn world(seed: u64, wall_ms: i64) -> (SimVfs, Arc<SimClock>, Env) {
    let vfs = SimVfs::new(seed);
    let clock = Arc::new(SimClock::new(wall_ms));
    let rng = Arc::new(SimRng::new(seed ^ 0x5eed));
    let env = Env { clock: clock.clone(), rng, vfs: Arc::new(vfs.clone()) };
    (vfs, clock, env)
}

/// A panic of one test thread must not turn into a second one here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
