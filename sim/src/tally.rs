//! What was seen, for the table.

use std::collections::BTreeMap;
use std::fmt::Write;

use stemedb_io::sim::{Mishap, Personality};

/// Sums over runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Steps of all runs.
    pub steps: u64,
    /// Operations on the disk.
    pub operations: u64,
    /// What befell the disk, by kind and by what the file system is like.
    pub faults: BTreeMap<(String, &'static str), u64>,
    /// What happened, by name.
    pub events: BTreeMap<&'static str, u64>,
    /// Starts that were refused, by kind of error.
    pub refusals: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn event(&mut self, name: &'static str) {
        *self.events.entry(name).or_default() += 1;
    }

    pub(crate) fn refusal(&mut self, name: &'static str) {
        *self.refusals.entry(name).or_default() += 1;
    }

    pub(crate) fn ordered(&mut self, what: String, personality: Personality) {
        *self.faults.entry((what, personality.name())).or_default() += 1;
    }

    pub(crate) fn struck(&mut self, struck: &BTreeMap<Mishap, u64>, personality: Personality) {
        for (mishap, count) in struck {
            let key = (mishap.name().to_owned(), personality.name());
            *self.faults.entry(key).or_default() += count;
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.operations += other.operations;
        for (key, count) in &other.faults {
            *self.faults.entry(key.clone()).or_default() += count;
        }
        for (key, count) in &other.events {
            *self.events.entry(key).or_default() += count;
        }
        for (key, count) in &other.refusals {
            *self.refusals.entry(key).or_default() += count;
        }
    }

    /// Text of several lines.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let columns = Personality::ALL.map(Personality::name);
        let _ = write!(text, "{:<24}", "fault");
        for column in columns {
            let _ = write!(text, "{column:>18}");
        }
        let mut kinds: Vec<&String> = self.faults.keys().map(|(kind, _)| kind).collect();
        kinds.dedup();
        for kind in kinds {
            let _ = write!(text, "\n{kind:<24}");
            for column in columns {
                let count = self.faults.get(&(kind.clone(), column)).copied().unwrap_or(0);
                let _ = write!(text, "{count:>18}");
            }
        }
        let _ = writeln!(text, "\n");
        for (name, count) in &self.events {
            let _ = writeln!(text, "{name:<40}{count:>12}");
        }
        for (name, count) in &self.refusals {
            let _ = writeln!(text, "start refused: {name:<25}{count:>12}");
        }
        let _ = write!(
            text,
            "\n{} runs, {} steps, {} operations on the disk",
            self.runs, self.steps, self.operations
        );
        text
    }
}
