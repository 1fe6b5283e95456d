//! `conflicts`: what claims disagree about most.

use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::present::{self, BOLD, DIM};
use crate::remote::RemoteArgs;
use crate::table::{Align, Cell, Table, cut};

/// So much of a key is shown that a line stays a line.
const KEY_WIDTH: usize = 44;

/// List the keys whose claims disagree, the worst first.
///
/// The list is an index of its own: it costs what is shown, however many keys there are. It follows the
/// log some moments behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb conflicts
  stemedb conflicts --status contested --subject-prefix drugs/
  stemedb conflicts --score-min 0.9 --limit 1000 --json")]
pub struct Args {
    /// Only entities whose name begins so.
    #[arg(long, value_name = "PREFIX")]
    subject_prefix: Option<String>,
    /// Only this property.
    #[arg(long)]
    predicate: Option<String>,
    /// Only these: contested (nothing leads by a third) or agreed.
    #[arg(long, value_parser = ["contested", "agreed"])]
    status: Option<String>,
    /// Only conflict scores from here on, 0 to 1.
    #[arg(long, value_name = "SCORE")]
    score_min: Option<f64>,
    /// Show so many, up to 1,000.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Where an earlier page ended.
    #[arg(long)]
    cursor: Option<String>,
    /// Wait until all that was recorded up to this position is told.
    #[arg(long, value_name = "POSITION")]
    at_least: Option<String>,
    /// The namespace.
    #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
    space: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let asked = [
        ("space", Some(args.space)),
        ("subject_prefix", args.subject_prefix),
        ("predicate", args.predicate),
        ("status", args.status),
        ("score_min", args.score_min.map(|score| score.to_string())),
        ("limit", Some(args.limit.to_string())),
        ("cursor", args.cursor),
        ("at_least", args.at_least),
    ];
    let asked: Vec<(&str, String)> =
        asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = args.remote.connect()?.get("/v1/conflicts", &asked)?.ok()?;
    if context.json {
        return context.print(&(answer + "\n"));
    }
    let answer: wire::ConflictsAnswer = serde_json::from_str(&answer).map_err(|error| {
        Failure::error("the server's answer is not what this version expects").because(error)
    })?;
    context.print(&shown(&answer))
}

/// The keys, and how many there are.
pub fn shown(answer: &wire::ConflictsAnswer) -> String {
    let mut table = Table::new([
        ("key", Align::Left),
        ("status", Align::Left),
        ("conflict", Align::Right),
        ("values", Align::Right),
        ("claims", Align::Right),
    ])
    .width_max(present::WIDTH - 2);
    for one in &answer.conflicts {
        let key = format!("{}  {}", one.subject.as_str(), one.predicate.as_str());
        table.row([
            Cell::new(cut(&key, KEY_WIDTH), BOLD),
            Cell::new(present::status_name(one.status), DIM),
            format!("{:.3}", one.conflict_score).into(),
            one.values.to_string().into(),
            one.claims.to_string().into(),
        ]);
    }
    let mut text = if answer.conflicts.is_empty() { String::new() } else { table.render() };
    let keys = if answer.open == 1 { "key is" } else { "keys are" };
    text.push_str(&format!(
        "{} {keys} in conflict, as of position {}\n",
        answer.open, answer.position
    ));
    if answer.too_large > 0 {
        text.push_str(&format!("{} have too many claims to be judged\n", answer.too_large));
    }
    if let Some(cursor) = &answer.cursor {
        text.push_str(&format!("more: --cursor {cursor}\n"));
    }
    text
}
