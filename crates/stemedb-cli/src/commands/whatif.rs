//! `whatif`: which answers would be others if something were gone.

use serde_json::json;
use stemedb_model::{AgentId, Hash, RecordId};
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::present::{self, BOLD, DIM};
use crate::remote::RemoteArgs;
use crate::table::{Align, Cell, Table, cut};

/// So much of a key is shown, and so much of a value, that a line stays a line.
const KEY_WIDTH: usize = 34;
const VALUE_WIDTH: usize = 24;

/// Which answers would be others if a source, an agent, an assertion or an epoch were gone.
///
/// What rests on it goes with it. Nothing is written: retracting or superseding for good is another
/// command, and can be undone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb whatif --source https://example.org/paper
  stemedb whatif --agent AGENT --lens consensus,authority
  stemedb whatif --epoch ID")]
pub struct Args {
    #[command(flatten)]
    drop: DropArgs,
    /// The lenses, with commas between: built in (recency, consensus, confidence, authority, trust, votes, skeptic,
    /// layered), or NAME or NAME@VERSION of one's own: see `stemedb lens list`.
    #[arg(long, value_delimiter = ',', default_value = "authority", value_name = "LENSES")]
    lens: Vec<String>,
    /// Show so many answers, up to 1,000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// The namespace.
    #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
    space: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct DropArgs {
    /// All that rests on the source with this address.
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// All that rests on the source with this content.
    #[arg(long, value_name = "HASH")]
    evidence: Option<Hash>,
    /// All that this key wrote.
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentId>,
    /// This assertion.
    #[arg(long, value_name = "ID")]
    assertion: Option<RecordId>,
    /// All that was made under this epoch.
    #[arg(long, value_name = "ID")]
    epoch: Option<RecordId>,
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let DropArgs { source, evidence, agent, assertion, epoch } = &args.drop;
    let text = |id: &dyn std::fmt::Display| id.to_string();
    let drop = match (source, evidence, agent, assertion, epoch) {
        (Some(uri), ..) => json!({ "source": { "uri": uri } }),
        (_, Some(hash), ..) => json!({ "source": { "evidence": text(hash) } }),
        (_, _, Some(agent), ..) => json!({ "agent": text(agent) }),
        (_, _, _, Some(id), _) => json!({ "assertion": text(id) }),
        (.., Some(id)) => json!({ "epoch": text(id) }),
        _ => return Err(Failure::error("say what is supposed to be gone")),
    };
    let body =
        json!({ "space": args.space, "drop": drop, "lenses": args.lens, "limit": args.limit });
    let answer = args.remote.connect()?.post_json("/v1/whatif", &body)?.ok()?;
    if context.json {
        return context.print(&(answer + "\n"));
    }
    let answer: wire::WhatIfAnswer = serde_json::from_str(&answer).map_err(|error| {
        Failure::error("the server's answer is not what this version expects").because(error)
    })?;
    context.print(&shown(&answer))
}

/// The answers, and how many.
pub fn shown(answer: &wire::WhatIfAnswer) -> String {
    let mut table = Table::new([
        ("key", Align::Left),
        ("lens", Align::Left),
        ("is", Align::Left),
        ("would be", Align::Left),
    ])
    .width_max(present::WIDTH - 2);
    for one in &answer.changed {
        let key = format!("{}  {}", one.subject.as_str(), one.predicate.as_str());
        table.row([
            cut(&key, KEY_WIDTH).into(),
            Cell::new(present::lens_name(&one.lens), DIM),
            cut(&winners(&one.now), VALUE_WIDTH).into(),
            Cell::new(winners(&one.then), BOLD),
        ]);
    }
    let mut text = if answer.changed.is_empty() { String::new() } else { table.render() };
    let keys = if answer.keys == 1 { "key" } else { "keys" };
    text.push_str(&format!(
        "{} of the answers to {} {keys} would be others\n",
        answer.changed_count, answer.keys
    ));
    let hidden = answer.changed_count.saturating_sub(answer.changed.len() as u64);
    if hidden > 0 {
        text.push_str(&format!("{hidden} of them are not shown: --limit shows up to 1,000\n"));
    }
    text
}

/// The winners and how far they are agreed on.
fn winners(answer: &wire::ShortAnswer) -> String {
    let winners: Vec<String> = answer.winners.iter().map(present::rounded).collect();
    let winners = if winners.is_empty() { "no winner".to_owned() } else { winners.join(", ") };
    format!("{winners} ({})", present::status_name(answer.status))
}
