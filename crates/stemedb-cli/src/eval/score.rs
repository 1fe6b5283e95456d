//! The rules of a fair score, as functions of one answer.
//!
//! - Only items with a claim count.
//! - Where several values tie at the top, the mark is the fraction of them that is right.
//! - A value is right if it is exactly the gold, or a number within the predicate's tolerance of it.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use stemedb_server::wire;

use crate::failure::Failure;
use crate::files;

use super::Score;
use super::calibration::{Judged, brier, coverage, reliability};

/// When two numbers are one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Tolerance {
    /// This far apart, bounds included.
    #[serde(default)]
    pub absolute: Option<f64>,
    /// This far apart as a fraction of the gold, bounds included.
    #[serde(default)]
    pub relative: Option<f64>,
}

/// Tolerances by predicate, from the file that `import --predicates` takes.
#[derive(Debug, Clone, Default)]
pub struct Tolerances(HashMap<String, Tolerance>);

#[derive(Deserialize)]
struct PredicateLine {
    name: String,
    #[serde(default)]
    tolerance: Option<Tolerance>,
}

impl Tolerances {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let mut all = HashMap::new();
        for (number, line) in files::open_lines(path)?.lines().enumerate() {
            let line = line.map_err(|error| files::cannot_read(path, error))?;
            if line.trim().is_empty() {
                continue;
            }
            let one: PredicateLine = serde_json::from_str(&line).map_err(|error| {
                Failure::error(format!("{}, line {}", path.display(), number + 1)).because(error)
            })?;
            all.extend(one.tolerance.map(|tolerance| (one.name, tolerance)));
        }
        Ok(Self(all))
    }

    /// That of a predicate; exact equality if the file says nothing.
    pub fn of(&self, predicate: &str) -> Tolerance {
        self.0.get(predicate).copied().unwrap_or_default()
    }
}

/// What one answer is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// 0 to 1.
    pub right: f64,
    /// Somebody says something else.
    pub conflict: bool,
    /// Several values are at the top.
    pub tie: bool,
    /// Share of the answer under the lens.
    pub lens_share: f64,
    /// Its share of the disagreement.
    pub share: f64,
}

/// Marks one answer; `None` if nobody says anything.
pub fn mark(resolution: &wire::Resolution, gold: &Value, tolerance: Tolerance) -> Option<Mark> {
    let top = top(&resolution.candidates);
    let first = top.first()?;
    let right = top.iter().filter(|value| is_right(&value.value, gold, tolerance)).count();
    Some(Mark {
        right: right as f64 / top.len() as f64,
        conflict: resolution.candidates.len() > 1,
        tie: top.len() > 1,
        lens_share: first.lens_share,
        // Values that tie under a lens need not be equally common.
        share: top.iter().map(|value| value.share).sum::<f64>() / top.len() as f64,
    })
}

/// The values with the largest weight under the lens; under a lens that gives no weight, those
/// with the largest share of the disagreement.
fn top(values: &[wire::Value]) -> Vec<&wire::Value> {
    let weight = |value: &wire::Value| value.lens_weight.parse::<i128>().unwrap_or(0);
    let heaviest = values.iter().map(weight).max().unwrap_or(0);
    if heaviest > 0 || values.iter().any(|value| weight(value) != 0) {
        return values.iter().filter(|value| weight(value) == heaviest).collect();
    }
    let largest = values.iter().map(|value| value.share).fold(0.0, f64::max);
    values.iter().filter(|value| value.share >= largest).collect()
}

fn is_right(value: &wire::Object, gold: &Value, tolerance: Tolerance) -> bool {
    match (value, gold) {
        (wire::Object::Text(text), Value::String(gold)) => text.as_str() == gold,
        (wire::Object::Boolean(value), Value::Bool(gold)) => value == gold,
        (wire::Object::Number(value), Value::Number(gold)) => {
            gold.as_f64().is_some_and(|gold| near(value.0, gold, tolerance))
        }
        (wire::Object::Tagged(wire::Tagged::Number { value, .. }), Value::Number(gold)) => {
            gold.as_f64().is_some_and(|gold| near(value.0, gold, tolerance))
        }
        _ => false,
    }
}

/// Whichever of the two bounds allows more holds.
fn near(value: f64, gold: f64, tolerance: Tolerance) -> bool {
    let relative = tolerance.relative.map_or(0.0, |fraction| fraction * gold.abs());
    (value - gold).abs() <= tolerance.absolute.unwrap_or(0.0).max(relative)
}

/// Adds up marks.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    right: f64,
    items: u64,
    without_claim: u64,
    conflicts: u64,
    ties: u64,
    by_lens: Vec<Judged>,
    by_disagreement: Vec<Judged>,
}

impl Tally {
    /// Adds one.
    pub fn add(&mut self, mark: Option<Mark>) {
        let Some(mark) = mark else {
            self.without_claim += 1;
            return;
        };
        self.items += 1;
        self.right += mark.right;
        self.conflicts += u64::from(mark.conflict);
        self.ties += u64::from(mark.tie);
        self.by_lens.push(Judged { right: mark.right, share: mark.lens_share });
        self.by_disagreement.push(Judged { right: mark.right, share: mark.share });
    }

    /// Adds all of another.
    pub fn add_all(&mut self, other: &Self) {
        self.right += other.right;
        self.items += other.items;
        self.without_claim += other.without_claim;
        self.conflicts += other.conflicts;
        self.ties += other.ties;
        self.by_lens.extend(&other.by_lens);
        self.by_disagreement.extend(&other.by_disagreement);
    }

    /// The figures.
    pub fn score(&self, lens: &str, asked: Duration) -> Score {
        let items = self.items.max(1) as f64;
        Score {
            lens: lens.to_owned(),
            accuracy: self.right / items,
            items: self.items,
            without_claim: self.without_claim,
            in_conflict: self.conflicts as f64 / items,
            ties: self.ties,
            seconds: asked.as_secs_f64(),
            brier: brier(&self.by_lens),
            brier_disagreement: brier(&self.by_disagreement),
            coverage: coverage(&self.by_lens),
            reliability: reliability(&self.by_lens),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// (value, lens weight, share)
    type Candidate = (Value, &'static str, f64);

    fn resolution(candidates: &[Candidate]) -> wire::Resolution {
        let hash = "0".repeat(64);
        let values: Vec<Value> = candidates
            .iter()
            .map(|(value, weight, share)| {
                json!({
                    "value": value, "share": share, "support": 1.0, "against": 0.0, "lens_share": share,
                    "lens_weight": weight, "tier": 3, "class": "expert", "claims": 1, "agents": 1,
                    "voices": 1, "because": [],
                })
            })
            .collect();
        serde_json::from_value(json!({
            "space": "default", "subject": "s", "predicate": "p", "lens": "consensus",
            "lens_hash": hash, "position": 1, "snapshot": "0".repeat(48),
            "evaluated_at": 0, "valid_at": 0, "complete": true, "history_lost": false, "value": null, "winners": [],
            "status": "contested", "conflict_score": 0.0, "effective_values": 1.0, "margin": 0.0,
            "lens_margin": 0.0, "evidence": 1.0, "because": [], "candidates": values,
            "dissent": [], "considered": 1, "excluded_count": 0, "excluded_for": {}, "excluded": [],
        }))
        .unwrap()
    }

    #[test]
    fn marks() {
        let minutes = Tolerance { absolute: Some(10.0), relative: None };
        let share = Tolerance { absolute: Some(1.0), relative: Some(0.01) };
        let exact = Tolerance::default();
        let mark_of = |right, conflict, tie| Some((right, conflict, tie));
        for (candidates, gold, tolerance, expected) in [
            (vec![], json!("a"), exact, None),
            (vec![(json!("a"), "5", 1.0)], json!("a"), exact, mark_of(1.0, false, false)),
            (vec![(json!("b"), "5", 1.0)], json!("a"), exact, mark_of(0.0, false, false)),
            (
                vec![(json!("a"), "5", 0.6), (json!("b"), "4", 0.4)],
                json!("b"),
                exact,
                mark_of(0.0, true, false),
            ),
            (
                vec![(json!("a"), "5", 0.5), (json!("b"), "5", 0.5), (json!("c"), "1", 0.0)],
                json!("b"),
                exact,
                mark_of(0.5, true, true),
            ),
            // Weights beyond a double are still told apart.
            (
                vec![
                    (json!("a"), "36893488147419103233", 0.5),
                    (json!("b"), "36893488147419103232", 0.5),
                ],
                json!("a"),
                exact,
                mark_of(1.0, true, false),
            ),
            // No weight at all: the share decides.
            (
                vec![(json!("a"), "0", 0.3), (json!("b"), "0", 0.7)],
                json!("b"),
                exact,
                mark_of(1.0, true, false),
            ),
            (vec![(json!(895), "1", 1.0)], json!(905), minutes, mark_of(1.0, false, false)),
            (vec![(json!(895), "1", 1.0)], json!(906), minutes, mark_of(0.0, false, false)),
            (vec![(json!(1010), "1", 1.0)], json!(1000), share, mark_of(1.0, false, false)),
            (vec![(json!(11), "1", 1.0)], json!(10), share, mark_of(1.0, false, false)),
            (vec![(json!(12), "1", 1.0)], json!(10), share, mark_of(0.0, false, false)),
            (vec![(json!(true), "1", 1.0)], json!(true), exact, mark_of(1.0, false, false)),
            (vec![(json!("1"), "1", 1.0)], json!(1), exact, mark_of(0.0, false, false)),
            (
                vec![(json!({"type": "number", "value": 5.0, "unit": "m"}), "1", 1.0)],
                json!(5),
                exact,
                mark_of(1.0, false, false),
            ),
        ] {
            let found = mark(&resolution(&candidates), &gold, tolerance);
            let found = found.map(|mark| (mark.right, mark.conflict, mark.tie));
            assert_eq!(found, expected, "{candidates:?} against {gold}");
        }
    }

    /// The share is that of the answer: under the lens, and in the disagreement.
    #[test]
    fn shares_of_the_answer() {
        let mut answer =
            resolution(&[(json!("a"), "5", 0.2), (json!("b"), "5", 0.4), (json!("c"), "1", 0.4)]);
        for (value, share) in answer.candidates.iter_mut().zip([0.45, 0.45, 0.1]) {
            value.lens_share = share;
        }
        let found = mark(&answer, &json!("b"), Tolerance::default());
        let found = found.map(|mark| (mark.right, mark.lens_share, mark.share));
        assert_eq!(found, Some((0.5, 0.45, (0.2 + 0.4) / 2.0)));
    }

    #[test]
    fn a_tally_counts_only_items_with_a_claim() {
        let mut tally = Tally::default();
        tally.add(None);
        let clear = Mark { right: 1.0, conflict: false, tie: false, lens_share: 1.0, share: 0.5 };
        tally.add(Some(Mark {
            right: 0.5,
            conflict: true,
            tie: true,
            lens_share: 0.5,
            share: 0.25,
        }));
        tally.add(Some(clear));
        let score = tally.score("consensus", Duration::from_secs(2));
        assert_eq!((score.items, score.without_claim, score.ties), (2, 1, 1));
        assert_eq!((score.accuracy, score.in_conflict, score.seconds), (0.75, 0.5, 2.0));
        assert_eq!((score.brier, score.brier_disagreement), (0.125, (0.3125 + 0.25) / 2.0));
        let mut twice = tally.clone();
        twice.add_all(&tally);
        let twice = twice.score("consensus", Duration::ZERO);
        assert_eq!((twice.items, twice.without_claim, twice.ties), (4, 2, 2));
        assert_eq!((twice.accuracy, twice.brier), (score.accuracy, score.brier));
    }
}
