//! How a drill goes: its steps, how long each takes, and how far it is at each moment.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stemedb_io::Clock;

use crate::plot::Point;

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
}

/// A drill on its way.
pub(super) struct Course {
    clock: Arc<dyn Clock>,
    began: Duration,
    /// When the step under way was begun.
    since: Duration,
    steps: Vec<Step>,
    /// How much of the log is there, by seconds since the beginning.
    pub(super) log: Vec<Point>,
    /// The same of the index.
    pub(super) index: Vec<Point>,
}

impl Course {
    /// From now on.
    pub(super) fn begin(clock: Arc<dyn Clock>) -> Self {
        let began = clock.monotonic();
        let (steps, log, index) = (Vec::new(), Vec::new(), Vec::new());
        Self { clock, began, since: began, steps, log, index }
    }

    /// The step under way is over. Of several of one name the first counts all.
    pub(super) fn step(&mut self, name: &'static str) {
        let now = self.clock.monotonic();
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        self.since = now;
        match self.steps.iter_mut().find(|step| step.name == name) {
            Some(step) => step.seconds += seconds,
            None => self.steps.push(Step { name, seconds }),
        }
    }

    /// So much of the log is there, of 1.
    pub(super) fn log(&mut self, part: f64) {
        let at = self.elapsed();
        self.log.push((at, part));
    }

    /// So much of the index is made, of 1.
    pub(super) fn index(&mut self, part: f64) {
        let at = self.elapsed();
        self.index.push((at, part));
    }

    fn elapsed(&self) -> f64 {
        self.clock.monotonic().saturating_sub(self.began).as_secs_f64()
    }

    /// The steps that are done.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How long that one took; 0 if there was none.
    pub(super) fn seconds_of(&self, name: &str) -> f64 {
        self.steps.iter().find(|step| step.name == name).map_or(0.0, |step| step.seconds)
    }

    /// All steps together. What comes after them, to compare, is no part of the way back.
    pub(super) fn total(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }
}

#[cfg(test)]
mod tests {
    use stemedb_io::sim::SimClock;

    use super::*;

    #[test]
    fn steps_follow_each_other() {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(0));
        let mut course = Course::begin(Arc::clone(&clock));
        clock.sleep(Duration::from_secs(1));
        course.step("plan");
        clock.sleep(Duration::from_secs(2));
        course.log(0.5);
        course.step("fetch");
        clock.sleep(Duration::from_secs(3));
        course.step("fetch");
        clock.sleep(Duration::from_secs(9));
        assert_eq!((course.total(), course.seconds_of("fetch")), (6.0, 5.0));
        assert_eq!((course.seconds_of("prove"), course.log.as_slice()), (0.0, &[(3.0, 0.5)][..]));
    }
}
