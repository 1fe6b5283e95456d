//! `eval`: how often a lens is right.

use std::path::PathBuf;

use serde_json::json;

use crate::context::Context;
use crate::eval::generate::{self, Kind, Moment, Spec};
use crate::eval::{self, Asking, Score, Tally, Tolerances, plot};
use crate::failure::Failure;
use crate::question::LENSES;
use crate::remote::RemoteArgs;
use crate::table::{Align, Table};

/// Score lenses on keys whose true value is known.
///
/// Only keys with a claim count. Where several values tie at the top, the fraction of them that
/// is right counts. Brier scores tell how well the answer's share serves as the probability that it
/// is right, 0 at best: its share under the lens, and its share of the disagreement.
///
/// With --generate the keys are those of made-up worlds, in a server of its own: honest agents of
/// mixed skill, and what goes wrong in each world. Claims are signed, learned from and asked for as
/// any others.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb eval --gold gold.jsonl --lens consensus,authority
  stemedb eval --gold gold.jsonl --lens consensus --tolerance-from predicates.jsonl --json
  stemedb eval --gold gold.jsonl --lens consensus,trust --plot charts --title flights
  stemedb eval --generate copies --copies 0,10,100,1000 --slip 0.2 --seed 7
  stemedb eval --generate sybils,ring --sybils 0,10,100
  stemedb eval --generate --repeat 3 --plot charts")]
pub struct Args {
    /// True values, {\"subject\",\"predicate\",\"object\"} a line.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "generate",
        conflicts_with = "generate"
    )]
    pub gold: Option<PathBuf>,
    /// The lenses, with commas between. Default: consensus; with --generate all that can differ.
    #[arg(long, value_delimiter = ',', value_parser = LENSES)]
    pub lens: Vec<String>,
    /// The file given to `import --predicates`: numbers within its tolerances are right.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub tolerance_from: Option<PathBuf>,
    /// Draw charts into this folder: accuracy by coverage and reliability, and with --generate
    /// accuracy by amount.
    #[arg(long, value_name = "FOLDER")]
    pub plot: Option<PathBuf>,
    /// Name of the charts and their files.
    #[arg(long, default_value = "eval", value_parser = title)]
    pub title: String,
    /// The namespace.
    #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
    pub space: String,
    /// Make worlds up and score on them; all of them if none is named.
    #[arg(
        long,
        value_name = "WORLDS",
        value_enum,
        value_delimiter = ',',
        num_args = 0..=1,
        help_heading = "Made-up worlds"
    )]
    pub generate: Option<Vec<Kind>>,
    /// Everything in a world follows from it. Drawn and told if not given.
    #[arg(long, conflicts_with = "gold", help_heading = "Made-up worlds")]
    pub seed: Option<u64>,
    /// Worlds of each kind, with this seed and those after it; the table shows their mean.
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1000),
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub repeat: u32,
    /// Numbers of copies to look at, one after the other.
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0,1,10,100,1000",
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub copies: Vec<u32>,
    /// Numbers of sybils for each question they attack.
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0,1,10,100,1000",
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub sybils: Vec<u32>,
    /// Share of what a copy repeats that it changes.
    #[arg(
        long,
        value_name = "0..1",
        default_value_t = 0.05,
        value_parser = share,
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub slip: f64,
    /// Questions of a world, over three topics: of texts, of yes or no, of numbers.
    #[arg(
        long,
        default_value_t = 180,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub questions: u32,
    /// Agents that say what they believe.
    #[arg(
        long,
        default_value_t = 12,
        value_parser = clap::value_parser!(u32).range(1..=10_000),
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub agents: u32,
    /// Share of the questions whose answer the log holds as gold; they are not scored.
    #[arg(
        long,
        value_name = "0..1",
        default_value_t = 0.0,
        value_parser = share,
        conflicts_with = "gold",
        help_heading = "Made-up worlds"
    )]
    pub known: f64,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// What is shown of a world: `votes` and `layered` say what others say where nobody votes.
const GENERATED: [&str; 6] =
    ["recency", "consensus", "confidence", "authority", "trust", "skeptic"];

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".into())
}

/// It becomes the name of a file.
fn title(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && !text.starts_with('.') && text.chars().all(plain) {
        true => Ok(text.into()),
        false => Err("letters, digits, `-`, `_` and `.` only".into()),
    }
}

/// Measures and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match (&args.generate, &args.gold) {
        (Some(kinds), _) => made_up(&args, kinds, context),
        (None, Some(gold)) => real(&args, gold, context),
        (None, None) => Err(Failure::error("neither --gold nor --generate is given")),
    }
}

fn lenses(args: &Args, otherwise: &[&str]) -> Vec<String> {
    if args.lens.is_empty() {
        return otherwise.iter().map(ToString::to_string).collect();
    }
    args.lens.clone()
}

fn real(args: &Args, gold: &std::path::Path, context: &Context) -> Result<(), Failure> {
    let lenses = lenses(args, &["consensus"]);
    let remote = args.remote.connect()?;
    let tolerances = match &args.tolerance_from {
        Some(file) => Tolerances::load(file)?,
        None => Tolerances::default(),
    };
    let gold = eval::gold(gold)?;
    let asking = Asking { remote: &remote, space: &args.space, lenses: &lenses };
    let (tallies, asked) = asking.all(&gold, &tolerances, context)?;
    let scores = eval::scores(&lenses, &tallies, asked);
    if let Some(folder) = &args.plot {
        plot::calibration(folder, &args.title, &scores)?;
    }
    if context.json {
        return scores.iter().try_for_each(|score| context.print_json(score));
    }
    let mut table = Table::new([
        ("lens", Align::Left),
        ("accuracy", Align::Right),
        ("Brier", Align::Right),
        ("of share", Align::Right),
        ("in conflict", Align::Right),
        ("items", Align::Right),
        ("no claim", Align::Right),
        ("ties", Align::Right),
        ("seconds", Align::Right),
    ]);
    for score in &scores {
        table.row([
            score.lens.clone(),
            format!("{:.3}", score.accuracy),
            format!("{:.3}", score.brier),
            format!("{:.3}", score.brier_disagreement),
            format!("{:.3}", score.in_conflict),
            score.items.to_string(),
            score.without_claim.to_string(),
            score.ties.to_string(),
            format!("{:.2}", score.seconds),
        ]);
    }
    context.print(&table.render())
}

fn made_up(args: &Args, kinds: &[Kind], context: &Context) -> Result<(), Failure> {
    let lenses = lenses(args, &GENERATED);
    let kinds = if kinds.is_empty() { &Kind::ALL } else { kinds };
    let seed = args.seed.unwrap_or_else(|| context.env.rng.next_u64() >> 32);
    context.say(&format!("seed {seed}"));
    let ascending = |amounts: &[u32]| {
        let mut amounts = amounts.to_vec();
        amounts.sort_unstable();
        amounts.dedup();
        amounts
    };
    let spec = |n: u32| Spec {
        seed: seed.wrapping_add(n.into()),
        questions: args.questions,
        agents: args.agents,
        copies: ascending(&args.copies),
        sybils: ascending(&args.sybils),
        slip: args.slip,
        known: args.known,
    };
    let specs: Vec<Spec> = (0..args.repeat).map(spec).collect();
    let mut moments: Vec<Moment> = Vec::new();
    generate::run(kinds, &specs, &lenses, context, |moment| {
        if context.json {
            context.print_json(&moment)?;
        }
        moments.push(moment);
        Ok(())
    })?;
    let rows = means(&lenses, &moments);
    if let Some(folder) = &args.plot {
        plot::calibration(folder, &args.title, &rows.whole)?;
        plot::amounts(folder, &args.title, &lenses, &rows.rows)?;
    }
    if context.json {
        return context.print_json(&json!({ "world": "all", "scores": rows.whole }));
    }
    let mut columns = vec![
        ("world", Align::Left),
        ("amount", Align::Right),
        ("claims", Align::Right),
        ("learning", Align::Right),
    ];
    columns.extend(lenses.iter().map(|lens| (lens.as_str(), Align::Right)));
    let mut table = Table::new(columns);
    for row in &rows.rows {
        let first = [
            row.world.to_owned(),
            row.amount.to_string(),
            row.claims.to_string(),
            format!("{:.1} s", row.learned_ms as f64 / 1000.0),
        ];
        let accuracies = row.scores.iter().map(|score| format!("{:.3}", score.accuracy));
        table.row(first.into_iter().chain(accuracies));
    }
    let mut text = table.render() + "\n";
    let mut table = Table::new([
        ("all answers", Align::Left),
        ("accuracy", Align::Right),
        ("Brier", Align::Right),
        ("of share", Align::Right),
    ]);
    for score in &rows.whole {
        table.row([
            score.lens.clone(),
            format!("{:.3}", score.accuracy),
            format!("{:.3}", score.brier),
            format!("{:.3}", score.brier_disagreement),
        ]);
    }
    text.push_str(&table.render());
    context.print(&text)
}

/// Worlds of one kind at one moment, taken together.
struct Rows {
    rows: Vec<Moment>,
    /// Of all moments.
    whole: Vec<Score>,
}

fn means(lenses: &[String], moments: &[Moment]) -> Rows {
    let mut whole = vec![Tally::default(); lenses.len()];
    let mut rows: Vec<(Moment, u64)> = Vec::new();
    for moment in moments {
        for (all, tally) in whole.iter_mut().zip(&moment.tallies) {
            all.add_all(tally);
        }
        let same = |(row, _): &&mut (Moment, u64)| {
            (row.world, row.amount) == (moment.world, moment.amount)
        };
        let Some((row, worlds)) = rows.iter_mut().find(same) else {
            rows.push((moment.clone(), 1));
            continue;
        };
        for (all, tally) in row.tallies.iter_mut().zip(&moment.tallies) {
            all.add_all(tally);
        }
        row.claims += moment.claims;
        row.agents += moment.agents;
        row.learned_ms += moment.learned_ms;
        *worlds += 1;
    }
    let rows = rows.into_iter().map(|(row, worlds)| Moment {
        claims: row.claims / worlds,
        agents: row.agents / worlds,
        learned_ms: row.learned_ms / worlds,
        scores: eval::scores(lenses, &row.tallies, Default::default()),
        ..row
    });
    Rows { rows: rows.collect(), whole: eval::scores(lenses, &whole, Default::default()) }
}
