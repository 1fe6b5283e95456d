//! `admin`: what an operator does with a node.

use clap::Subcommand;
use serde_json::{Value, json};
use stemedb_engine::AsOf;
use stemedb_model::{Millis, Position};
use stemedb_server::wire;

use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::remote::RemoteArgs;
use crate::{database, time};

/// Look after a node.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb admin status
  stemedb admin drain
  stemedb admin reindex --data-dir ./stemedb-data")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Say what the node does, and why if it is not simply ready.
    Status(RemoteArgs),
    /// Take no new writes, finish what is under way.
    Drain(RemoteArgs),
    /// Take writes again.
    Undrain(RemoteArgs),
    /// Rebuild the index from the log, while the node is stopped.
    #[command(after_help = "Examples:\n  stemedb admin reindex --data-dir ./stemedb-data")]
    Reindex(PlaceArgs),
    /// Print the log root and the answer root, while the node is stopped.
    ///
    /// Two nodes with the same log print the same at the same position and time, whatever became
    /// of their indexes.
    #[command(after_help = "Examples:\n  stemedb admin root --data-dir ./stemedb-data --json")]
    Root {
        /// The position; the newest if not given.
        #[arg(long, value_name = "POSITION")]
        position: Option<u64>,
        /// When answers are evaluated; when the position was recorded if not given.
        #[arg(long, value_name = "TIME", value_parser = time::parse)]
        at: Option<Millis>,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Status(remote) => {
            let node = remote.connect()?.get("/v1/admin/node", &[])?.read()?;
            show(&node, context)
        }
        Act::Drain(remote) => {
            let drain: wire::Drain =
                remote.connect()?.post_json("/v1/admin/node/drain", &json!({}))?.read()?;
            show(&drain.node, context)?;
            if drain.complete {
                return Ok(());
            }
            Err(Failure::no(format!("not drained in time: {}", drain.left.join("; ")))
                .hint("stemedb admin drain goes on"))
        }
        Act::Undrain(remote) => {
            let answer = remote.connect()?.post_json("/v1/admin/node/undrain", &json!({}))?;
            show(&answer.read()?, context)
        }
        Act::Reindex(place) => reindex(&place, context),
        Act::Root { position, at, place } => root(&place, position, at, context),
    }
}

fn show(node: &wire::Node, context: &Context) -> Result<(), Failure> {
    if context.json {
        return context.print_json(node);
    }
    let mut text = format!("{}  position {}", node.state, node.position);
    if node.durable != node.position {
        text.push_str(&format!(", log at {}", node.durable));
    }
    text.push_str(&format!("  database {}\n", node.log_id.0));
    if let Some(reason) = &node.reason {
        text.push_str(&format!("  {}: {}\n", reason.code, reason.detail));
    }
    if let Some(degraded) = &node.degraded {
        text.push_str(&format!("  degraded: {degraded}\n"));
    }
    context.print(&text)
}

fn reindex(place: &PlaceArgs, context: &Context) -> Result<(), Failure> {
    let config = place.load(Vec::new())?.config;
    let begun = context.env.clock.monotonic();
    // The log first, and kept open: the folder of a running node is locked, and an index is
    // thrown away only when there is a log to make it from.
    let (log, identity) = database::open_log(&config, &context.env)?;
    stemedb_index::remove(&config.index_dir())
        .map_err(|error| Failure::error("cannot remove the old index").because(error))?;
    let engine = database::open_engine(&config, &context.env, log, identity)?;
    database::wait_ready(&engine, context)?;
    let position = engine.node().progress.applied;
    close(&engine, &config)?;
    let took = context.env.clock.monotonic().saturating_sub(begun);
    if context.json {
        return context
            .print_json(&json!({ "position": position.0, "seconds": took.as_secs_f64() }));
    }
    context.print(&format!("{position} records indexed in {:.1} s\n", took.as_secs_f64()))
}

fn root(
    place: &PlaceArgs,
    position: Option<u64>,
    at: Option<Millis>,
    context: &Context,
) -> Result<(), Failure> {
    let config = place.load(Vec::new())?.config;
    let failed = |error| Failure::error("cannot compute the answer root").because(error);
    let engine = database::open(&config, &context.env, None)?.engine;
    database::wait_ready(&engine, context)?;
    let now = engine.view(Position::NONE, std::time::Duration::ZERO).map_err(failed)?;
    let position = position.map_or(now.position(), Position);
    if position > now.position() {
        return Err(Failure::no(format!("the log ends at {}", now.position())));
    }
    let view = now.as_of(AsOf::Position(position)).map_err(failed)?;
    let at = at.unwrap_or(view.snapshot().recorded_at());
    let view = view.evaluated(at);
    let answers = view.answer_root().map_err(failed)?;
    let (log_position, log_root) = view.log_root();
    let roots = json!({
        "position": answers.position.0,
        "evaluated_at": time::format(answers.evaluated_at),
        "keys": answers.keys,
        "answer_root": answers.root.to_string(),
        "log_root": log_root.to_string(),
        "log_root_position": log_position.0,
    });
    drop((now, view));
    close(&engine, &config)?;
    if context.json {
        return context.print_json(&roots);
    }
    let text = |name: &str| match roots.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    context.print(&format!(
        "answer root  {}  position {}, evaluated at {}, {} keys\nlog root     {}  position {}\n",
        text("answer_root"),
        text("position"),
        text("evaluated_at"),
        text("keys"),
        text("log_root"),
        text("log_root_position"),
    ))
}

fn close(engine: &stemedb_engine::Engine, config: &crate::config::Config) -> Result<(), Failure> {
    let report = engine.close(config.server().drain_timeout);
    match report.problems.as_slice() {
        [] => Ok(()),
        problems => Err(Failure::error(problems.join("; "))),
    }
}
