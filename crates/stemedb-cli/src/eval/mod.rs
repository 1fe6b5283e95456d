//! How often a lens is right, and whether it knows, measured on keys whose true value is known.

pub mod calibration;
pub mod generate;
pub mod plot;
mod score;

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use stemedb_server::wire;

use crate::commands::resolve::KEYS_MAX;
use crate::context::Context;
use crate::failure::Failure;
use crate::files;
use crate::remote::Remote;

use calibration::{Bin, Covered};

pub use score::{Tally, Tolerances, mark};

/// One key with its true value.
#[derive(Debug, Clone, Deserialize)]
pub struct GoldLine {
    /// The entity.
    pub subject: String,
    /// The property.
    pub predicate: String,
    /// What is true.
    pub object: serde_json::Value,
}

/// What one lens came to.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// The lens.
    pub lens: String,
    /// The share of items that it got right; of a tie, the fraction that is right.
    pub accuracy: f64,
    /// Items with a claim: what the accuracy is taken over.
    pub items: u64,
    /// Items of the gold file that nobody says anything about.
    pub without_claim: u64,
    /// The share of items with more than one value.
    pub in_conflict: f64,
    /// Items where several values tie at the top.
    pub ties: u64,
    /// Time of the calls for all lenses together.
    pub seconds: f64,
    /// Brier score of the answer's share under the lens, taken as the probability that it is right.
    pub brier: f64,
    /// The same of its share in the disagreement.
    pub brier_disagreement: f64,
    /// Accuracy of the answers with the largest shares under the lens.
    pub coverage: Vec<Covered>,
    /// How often answers with such shares are right.
    pub reliability: Vec<Bin>,
}

/// Whom to ask, and what.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The server.
    pub remote: &'a Remote,
    /// The namespace.
    pub space: &'a str,
    /// The lenses.
    pub lenses: &'a [String],
}

impl Asking<'_> {
    /// Asks for every gold key under every lens: a tally for each, and the time of the calls.
    pub fn all(
        &self,
        gold: &[GoldLine],
        tolerances: &Tolerances,
        context: &Context,
    ) -> Result<(Vec<Tally>, Duration), Failure> {
        let bar = context.progress(Some(gold.len() as u64), "keys");
        bar.set_message("eval");
        let mut tallies = vec![Tally::default(); self.lenses.len()];
        let mut asked = Duration::ZERO;
        for chunk in gold.chunks(KEYS_MAX) {
            let keys: Vec<_> = chunk
                .iter()
                .map(|one| json!({ "subject": one.subject, "predicate": one.predicate }))
                .collect();
            let mut body = json!({ "keys": keys, "lenses": self.lenses });
            if self.space != "default"
                && let Some(body) = body.as_object_mut()
            {
                body.insert("space".into(), self.space.into());
            }
            let begun = context.env.clock.monotonic();
            let result: wire::ResolveResult =
                self.remote.post_json("/v1/resolve", &body)?.read()?;
            asked += context.env.clock.monotonic().saturating_sub(begun);
            for (one, answers) in chunk.iter().zip(&result.results) {
                let tolerance = tolerances.of(&one.predicate);
                for (tally, resolution) in tallies.iter_mut().zip(&answers.resolutions) {
                    tally.add(mark(resolution, &one.object, tolerance));
                }
            }
            bar.inc(chunk.len() as u64);
        }
        bar.finish_and_clear();
        Ok((tallies, asked))
    }
}

/// One score a lens.
pub fn scores(lenses: &[String], tallies: &[Tally], asked: Duration) -> Vec<Score> {
    lenses.iter().zip(tallies).map(|(lens, tally)| tally.score(lens, asked)).collect()
}

/// Reads a file of true values.
pub fn gold(path: &Path) -> Result<Vec<GoldLine>, Failure> {
    let mut gold = Vec::new();
    for (number, line) in files::open_lines(path)?.lines().enumerate() {
        let line = line.map_err(|error| files::cannot_read(path, error))?;
        if line.trim().is_empty() {
            continue;
        }
        gold.push(serde_json::from_str(&line).map_err(|error| {
            Failure::error(format!("{}, line {}", path.display(), number + 1)).because(error)
        })?);
    }
    Ok(gold)
}
