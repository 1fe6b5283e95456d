//! `eval`: how often a lens is right.

use std::path::PathBuf;

use crate::context::Context;
use crate::eval;
use crate::failure::Failure;
use crate::question::LENSES;
use crate::remote::RemoteArgs;
use crate::table::{Align, Table};

/// Score lenses on keys whose true value is known.
///
/// Only keys with a claim count. Where several values tie at the top, the fraction of them that
/// is right counts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb eval --gold gold.jsonl --lens consensus,authority
  stemedb eval --gold gold.jsonl --lens consensus --tolerance-from predicates.jsonl --json")]
pub struct Args {
    /// True values, {\"subject\",\"predicate\",\"object\"} a line.
    #[arg(long, value_name = "FILE")]
    pub gold: PathBuf,
    /// The lenses, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "consensus", value_parser = LENSES)]
    pub lens: Vec<String>,
    /// The file given to `import --predicates`: numbers within its tolerances are right.
    #[arg(long, value_name = "FILE")]
    pub tolerance_from: Option<PathBuf>,
    /// The namespace.
    #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
    pub space: String,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Measures and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let scores = eval::run(&args, context)?;
    if context.json {
        return scores.iter().try_for_each(|score| context.print_json(score));
    }
    let mut table = Table::new([
        ("lens", Align::Left),
        ("accuracy", Align::Right),
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
            format!("{:.3}", score.in_conflict),
            score.items.to_string(),
            score.without_claim.to_string(),
            score.ties.to_string(),
            format!("{:.2}", score.seconds),
        ]);
    }
    context.print(&table.render())
}
