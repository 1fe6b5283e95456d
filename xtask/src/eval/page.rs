//! The page about truth: its tables and pictures.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::worlds::{self, Row};
use super::{LENSES, Outcome, number};

const BEGIN: &str = "<!-- results: written by `make eval WRITE=1` -->";
const END: &str = "<!-- end of results -->";

/// Puts tables into the place that the page has for them.
pub(super) fn write(path: &Path, tables: &str) -> Result<()> {
    let page = std::fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    let places = page
        .split_once(BEGIN)
        .and_then(|(before, rest)| rest.split_once(END).map(|(_, after)| (before, after)));
    let (before, after) =
        places.with_context(|| format!("{} has no place for results", path.display()))?;
    std::fs::write(path, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))?;
    Ok(())
}

/// All that was measured; `made` is how many worlds of each kind there are, and the seed.
pub(super) fn tables(outcomes: &[Outcome], rows: &[Row], made: (u32, u64)) -> String {
    let scored: Vec<&Outcome> = outcomes.iter().filter(|one| !one.scores.is_empty()).collect();
    let mut text = String::new();
    if !scored.is_empty() {
        real(&mut text, &scored);
    }
    if !rows.is_empty() {
        made_up(&mut text, rows, made);
    }
    text
}

fn heading<'a>(text: &mut String, left: &str, columns: impl IntoIterator<Item = &'a str>) {
    let mut rule = String::from("|---|");
    let _ = write!(text, "| {left} |");
    for column in columns {
        let _ = write!(text, " {column} |");
        rule.push_str("---:|");
    }
    let _ = writeln!(text, "\n{rule}");
}

fn real(text: &mut String, scored: &[&Outcome]) {
    text.push_str("### Real sets: accuracy\n\n");
    let columns = ["claims"].into_iter().chain(LENSES);
    heading(text, "set", columns.chain(["best published", "in conflict"]));
    for one in scored {
        let _ = write!(text, "| {} | {} |", one.set.name, one.claims());
        for lens in LENSES {
            let _ = write!(text, " {:.3} |", one.accuracy(lens).unwrap_or(f64::NAN));
        }
        let best = one.set.best.map_or_else(|| "–".to_owned(), |best| format!("{best:.3}"));
        let conflict = one.scores.first().map_or(f64::NAN, |score| number(score, "in_conflict"));
        let _ = writeln!(text, " {best} | {conflict:.3} |");
    }
    text.push_str("\n### Real sets: Brier score, and accuracy of the clearest answers\n\n");
    heading(
        text,
        "set",
        [
            "consensus",
            "authority",
            "trust",
            "disagreement",
            "consensus 20 %",
            "50 %",
            "80 %",
            "trust 20 %",
            "50 %",
            "80 %",
        ],
    );
    for one in scored {
        let score = |lens: &str| one.score(lens).unwrap_or(&Value::Null);
        let _ = write!(text, "| {} |", one.set.name);
        for lens in ["consensus", "authority", "trust"] {
            let _ = write!(text, " {:.3} |", number(score(lens), "brier"));
        }
        let _ = write!(text, " {:.3} |", number(score("trust"), "brier_disagreement"));
        for lens in ["consensus", "trust"] {
            for coverage in [0.2, 0.5, 0.8] {
                let _ = write!(text, " {:.3} |", covered(score(lens), coverage));
            }
        }
        text.push('\n');
    }
    for one in scored {
        let file = one.set.file();
        let _ = writeln!(text, "\n![{file}: coverage and reliability](truth/{file}.svg)");
    }
    text.push('\n');
}

fn covered(score: &Value, coverage: f64) -> f64 {
    let curve = score.get("coverage").and_then(Value::as_array);
    let point = curve
        .into_iter()
        .flatten()
        .find(|point| (number(point, "coverage") - coverage).abs() < 1e-9);
    point.map_or(f64::NAN, |point| number(point, "accuracy"))
}

fn made_up(text: &mut String, rows: &[Row], (count, seed): (u32, u64)) {
    let _ = writeln!(
        text,
        "### Made-up worlds: accuracy\n\nMean of {count} of each kind, `SEED={seed}`. Amount: copies \
         of the wrong agent, or sybils for each question they attack; with retractions 1 is after \
         them.\n"
    );
    heading(text, "world", ["amount", "claims", "learning"].into_iter().chain(worlds::LENSES));
    for row in rows {
        let Row { world, amount, claims, learned_s, .. } = row;
        let _ = write!(text, "| {world} | {amount} | {claims:.0} | {learned_s:.1} s |");
        for accuracy in &row.accuracies {
            let _ = write!(text, " {accuracy:.3} |");
        }
        text.push('\n');
    }
    text.push_str("\n![accuracy by amount](truth/made-up-amounts.svg)\n");
    text.push_str("\n### Made-up worlds: Brier score\n\n");
    heading(text, "world", ["amount"].into_iter().chain(worlds::LENSES));
    for row in rows {
        let _ = write!(text, "| {} | {} |", row.world, row.amount);
        for brier in &row.briers {
            let _ = write!(text, " {brier:.3} |");
        }
        text.push('\n');
    }
    text.push_str("\n![all made-up answers: coverage and reliability](truth/made-up.svg)\n");
}
