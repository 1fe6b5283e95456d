//! `trust`: learn whom to trust, and say why somebody is.

use std::fmt::Write as _;

use clap::Subcommand;
use stemedb_model::{AgentId, Kind, Space};
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::present::{BOLD, DIM, WIDTH, object};
use crate::record::{self, AuthorArgs, Fields};
use crate::remote::RemoteArgs;
use crate::table::{Align, Table};

/// Learned trust: how reliable each agent is on each topic.
///
/// The lens `trust` weighs claims by it, and so do votes. Learned is from the log alone: which answers
/// and which abilities explain each other best, with copies counted once. Nothing changes until a
/// table is put in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb trust learn
  stemedb trust explain AGENT")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Learn from everything in the log, and put the table in force.
    ///
    /// Putting it in force writes a record, which needs a registrar's key or the role `trust`.
    #[command(after_help = "Examples:
  stemedb trust learn
  stemedb trust learn --dry-run
  stemedb trust learn --key root.key")]
    Learn {
        /// Only learn, and print the hashes that `trust-snapshot` takes.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        author: AuthorArgs,
    },
    /// What an agent is worth, by topic, and which of its claims are not the answer.
    #[command(after_help = "Examples:
  stemedb trust explain AGENT
  stemedb trust explain AGENT --as-of 2024-07-01 --limit 1000")]
    Explain {
        /// A key of the agent.
        agent: AgentId,
        /// Compare this many of its newest claims with the answers, up to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// As it stood then: a position, an answer's snapshot, or a time.
        #[arg(long, value_name = "WHEN", value_parser = crate::question::when)]
        as_of: Option<String>,
        /// The namespace.
        #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
        space: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Learn { dry_run, author } => learn(dry_run, &author, context),
        Act::Explain { agent, limit, as_of, space, remote } => {
            let mut parameters = vec![("limit", limit.to_string()), ("space", space)];
            parameters.extend(as_of.map(|when| ("as_of", when)));
            let answer = remote.connect()?.get(&format!("/v1/trust/{agent}"), &parameters)?;
            if context.json {
                return context.print(&(answer.ok()? + "\n"));
            }
            context.print(&text(&answer.read()?))
        }
    }
}

fn learn(dry_run: bool, author: &AuthorArgs, context: &Context) -> Result<(), Failure> {
    let space = Space::parse(&author.space).map_err(|error| Failure::error(error.to_string()))?;
    let remote = author.remote.connect()?;
    let bar = context.progress(None, "statements");
    bar.set_message("learning");
    let learned = remote.post(&format!("/v1/trust/learn?space={space}"), "application/json", b"");
    bar.finish_and_clear();
    let learned: wire::LearnedTrust = learned?.read()?;
    if context.json && dry_run {
        return context.print_json(&learned);
    }
    if !context.json {
        context.print(&format!(
            "{} agents from {} statements up to position {}, in {:.1} s\n{DIM}config  {}\ntable   \
             {}{DIM:#}\n",
            learned.agents,
            learned.statements,
            learned.input_position,
            learned.took_ms as f64 / 1000.0,
            learned.config.0,
            learned.table.0,
        ))?;
    }
    if dry_run {
        return Ok(());
    }
    let fields = Fields::new()
        .set("input_position", learned.input_position)
        .set("config", learned.config.0.to_string())
        .set("table", learned.table.0.to_string());
    record::send(context, author, Kind::TrustSnapshot, fields)
}

fn text(found: &wire::TrustAnswer) -> String {
    let mut text = String::new();
    let _ = match &found.in_force {
        None => writeln!(text, "no trust snapshot is in force: every agent counts one half"),
        Some(in_force) => writeln!(
            text,
            "{BOLD}{:.3}{BOLD:#} over all topics{}  {DIM}snapshot at position {}, learned up to \
             {}{DIM:#}",
            found.reliability,
            if found.learned { "" } else { " (nothing was learned of this agent)" },
            in_force.snapshot.position,
            in_force.input_position,
        ),
    };
    let mut table = Table::new([
        ("topic", Align::Left),
        ("reliability", Align::Right),
        ("claims", Align::Right),
        ("are the answer", Align::Right),
    ])
    .width_max(WIDTH);
    for topic in &found.topics {
        let learned = if topic.learned { "" } else { " (all topics)" };
        table.row([
            topic.predicate.as_str().to_owned(),
            format!("{:.3}{learned}", topic.reliability),
            topic.claims.to_string(),
            topic.agreed.to_string(),
        ]);
    }
    text.push_str(&table.render());
    for topic in &found.topics {
        for dispute in &topic.disputes {
            let answer = dispute.answer.as_ref().map_or_else(|| "nothing".to_owned(), object);
            let _ = writeln!(
                text,
                "#{}  {} {}: says {}, the answer is {answer}",
                dispute.position,
                dispute.subject.as_str(),
                topic.predicate.as_str(),
                object(&dispute.says),
            );
        }
    }
    let _ = writeln!(text, "compared {} of {} claims", found.compared, found.signed);
    text
}
