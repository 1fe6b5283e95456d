//! What an import came to.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// Refusals that are told in full; the others are counted.
const REFUSALS_TOLD: usize = 10;

/// One line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// Why.
    pub problem: String,
}

/// What an import came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Lines that held something.
    pub lines: u64,
    /// New records.
    pub created: u64,
    /// Records that were there before.
    pub exists: u64,
    /// Lines that were not taken.
    pub refused: u64,
    /// Agents, sources and predicates that were registered first, new or not.
    pub registered: u64,
    /// How long it took.
    pub seconds: f64,
    /// Lines in a second.
    pub per_second: f64,
    /// The first refusals.
    pub refusals: Vec<Refusal>,
}

impl Summary {
    /// Counts a line that was not taken.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.lines += 1;
        self.refused += 1;
        if self.refusals.len() < REFUSALS_TOLD {
            self.refusals.push(refusal);
        }
    }

    /// Adds what another thread did.
    pub fn add(&mut self, part: Self) {
        self.lines += part.lines;
        self.created += part.created;
        self.exists += part.exists;
        self.refused += part.refused;
        self.refusals.extend(part.refusals);
    }

    /// Puts the refusals in order and works out the rate.
    pub fn finish(&mut self, took: Duration) {
        self.refusals.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.refusals.truncate(REFUSALS_TOLD);
        self.seconds = took.as_secs_f64();
        self.per_second = self.lines as f64 / self.seconds.max(1e-3);
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} lines: {} created, {} exist, {} refused; {:.1} s, {:.0} a second\n",
            self.lines, self.created, self.exists, self.refused, self.seconds, self.per_second
        );
        if self.registered > 0 {
            let _ = writeln!(text, "{} registry records before them", self.registered);
        }
        for refusal in &self.refusals {
            let _ = writeln!(text, "{}, line {}: {}", refusal.file, refusal.line, refusal.problem);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_the_first_refusals_are_told_in_order() {
        let refusal = |line| Refusal { file: "f".into(), line, problem: "p".into() };
        let mut all = Summary { lines: 3, created: 2, exists: 1, ..Summary::default() };
        for line in (1..=REFUSALS_TOLD as u64).rev() {
            all.refuse(refusal(line * 2));
        }
        let mut part = Summary::default();
        part.refuse(refusal(1));
        all.add(part);
        all.finish(Duration::from_secs(2));
        assert_eq!((all.lines, all.refused), (14, 11));
        assert_eq!(all.refusals.len(), REFUSALS_TOLD);
        assert_eq!(all.refusals.first().map(|r| r.line), Some(1));
        assert!(
            all.text().starts_with("14 lines: 2 created, 1 exist, 11 refused; 2.0 s, 7 a second\n")
        );
    }
}
