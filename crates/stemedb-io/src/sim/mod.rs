//! Simulated doors: the same seed gives the same run, byte for byte.

mod clock;
mod rng;

pub use clock::SimClock;
pub use rng::SimRng;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic of one test thread must not turn into a second one here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
