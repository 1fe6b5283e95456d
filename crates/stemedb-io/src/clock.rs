//! Time: the wall clock for people, the monotonic clock for durations, and whether the first is right.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time and waits.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z; may jump either way, negative before 1970.
    fn now_ms(&self) -> i64;
    /// Time since some fixed moment of this clock's life. Never goes back.
    fn monotonic(&self) -> Duration;
    /// Like [`Clock::monotonic`], and goes on while the machine is suspended: for what others count
    /// on meanwhile. Of another fixed moment. By default the machine is never suspended.
    fn boottime(&self) -> Duration {
        self.monotonic()
    }
    /// Returns after at least `duration`. A simulated clock steps forward instead of waiting.
    fn sleep(&self, duration: Duration);
}

/// The clock of the machine.
#[derive(Debug, Clone)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => ms(after),
            Err(before) => ms(before.duration()).saturating_neg(),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(unsafe_code, reason = "no safe call asks for this clock")]
    fn boottime(&self) -> Duration {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` outlives the call, which writes within it. The clock is there since Linux 2.6.39,
        // so it cannot fail; if it did, the time would stand at 0, and a lease would never be held.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// What the kernel was told of how right its wall clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockDiscipline {
    /// Whether a time source keeps it right, and has lately.
    pub synchronised: bool,
    /// How wrong it may be; grows while no source is heard. Means nothing if not synchronised.
    pub error_max: Duration,
}

/// Asks the kernel, which every time daemon tells; changes nothing and needs no right.
#[expect(unsafe_code, reason = "no safe call asks the kernel for this")]
pub fn clock_discipline() -> io::Result<ClockDiscipline> {
    // SAFETY: the structure is plain numbers, for which zeros are a value; `modes` 0 only asks.
    let mut found: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `found` outlives the call, which writes within it.
    if unsafe { libc::adjtimex(&raw mut found) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockDiscipline {
        synchronised: found.status & libc::STA_UNSYNC == 0,
        error_max: Duration::from_micros(u64::try_from(found.maxerror).unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_machine_began_goes_on() {
        let clock = RealClock::new();
        let before = clock.boottime();
        clock.sleep(Duration::from_millis(5));
        let passed = clock.boottime() - before;
        assert!(passed >= Duration::from_millis(5), "{passed:?}");
        // The process is younger than the machine.
        assert!(before > clock.monotonic());
    }

    #[test]
    fn the_kernel_says_how_right_its_clock_is() {
        let found = clock_discipline().unwrap();
        // The kernel bounds it at 16 s, and counts from there as not synchronised.
        assert!(found.error_max <= Duration::from_secs(16), "{found:?}");
        assert!(!found.synchronised || found.error_max < Duration::from_secs(16), "{found:?}");
    }
}
