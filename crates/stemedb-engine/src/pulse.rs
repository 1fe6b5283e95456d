//! Whether the engine lives, for whoever starts again what does not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Beats while the watchdog comes round, which takes every lock that the pipeline holds, and while
/// no thread has panicked. A log that hangs is no reason to stop: it is told as a state of the node,
/// reads go on, and another process would hang over the same disk.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    broken: AtomicBool,
}

impl Pulse {
    pub(crate) fn beat(&self) {
        if !self.broken.load(Ordering::Relaxed) {
            self.beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs what a thread of the engine does. A panic in it stops the pulse for good.
    pub(crate) fn watch(&self, run: impl FnOnce()) {
        let _guard = Guard(self);
        run();
    }

    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

struct Guard<'a>(&'a Pulse);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_stops_it_and_an_end_does_not() {
        let pulse = Arc::new(Pulse::default());
        let thread = |run: fn()| {
            let pulse = Arc::clone(&pulse);
            std::thread::spawn(move || pulse.watch(run)).join().is_ok()
        };
        assert!(thread(|| ()));
        pulse.beat();
        assert_eq!(pulse.beats(), 1);
        assert!(!thread(|| panic!("on purpose")));
        pulse.beat();
        assert_eq!(pulse.beats(), 1);
    }
}
