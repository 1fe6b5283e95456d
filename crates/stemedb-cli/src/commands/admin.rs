//! `admin`: what an operator does with a node.

use clap::Subcommand;
use serde_json::json;
use stemedb_engine::AsOf;
use stemedb_model::{Millis, Position};
use stemedb_server::wire;

use super::admin_keys;
use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::remote::RemoteArgs;
use crate::{database, time};

/// How often it is asked how far a promotion is.
const PROMOTE_LOOK: std::time::Duration = std::time::Duration::from_millis(200);
/// So often in a row nobody need answer: the log is opened meanwhile.
const PROMOTE_SILENT: u32 = 300;
/// How often it is asked how far an index is.
const REBUILD_LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// Look after a node.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb admin status
  stemedb admin drain
  stemedb admin promote --url https://standby.example:18180
  stemedb admin wal acknowledge
  stemedb admin keys create ingest --role writer
  stemedb admin checkpoint
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
    /// Have a standby take the place of its primary, and wait for that.
    ///
    /// It takes the lease, so that the primary cannot renew its own, waits until that one is over, fetches
    /// what the primary has left in the archive, and goes on from there on a branch of its own. What the
    /// primary has acknowledged and not archived is not in it: `stemedb rejoin` lists that on the old
    /// primary.
    #[command(after_help = "Examples:
  stemedb admin promote --url https://standby.example:18180
  stemedb admin promote --socket /var/lib/stemedb/node/admin.sock --force")]
    Promote {
        /// Also where the primary keeps no lease: only you keep it from writing.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// The log: acknowledge a failure, take it off its file system and put it back.
    Wal {
        #[command(subcommand)]
        act: WalAct,
    },
    /// API keys: make, list, rotate, revoke them, or begin anew.
    #[command(after_help = "Examples:
  stemedb admin keys create ingest --role writer --out ingest.key
  stemedb admin keys list
  stemedb admin keys reset --data-dir ./stemedb-data")]
    Keys {
        #[command(subcommand)]
        act: admin_keys::Act,
    },
    /// Bring the log's newest watermark and the index to the medium, so that a start replays nothing.
    Checkpoint(RemoteArgs),
    /// Rebuild the index from the log: of a stopped node or, with --online, of one that runs.
    ///
    /// A running node answers reads and takes writes meanwhile, and takes them again if its index had
    /// failed. It needs room for a second index.
    #[command(after_help = "Examples:
  stemedb admin reindex --data-dir ./stemedb-data
  stemedb admin reindex --online")]
    Reindex {
        /// Ask the server, and wait for the end of it.
        #[arg(long, conflicts_with_all = ["data_dir", "config"])]
        online: bool,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Print the log root and the answer root.
    ///
    /// Asks the server, or with --data-dir or --config opens the folder of a stopped node. Two
    /// nodes with the same log print the same at the same position and time, whatever became of
    /// their indexes. Resolves every key under every lens.
    #[command(after_help = "Examples:
  stemedb admin root --position 1000
  stemedb admin root --data-dir ./stemedb-data --json")]
    Root {
        /// The position; the newest if not given.
        #[arg(long, value_name = "POSITION")]
        position: Option<u64>,
        /// When answers are evaluated; when the position was recorded if not given.
        #[arg(long, value_name = "TIME", value_parser = time::parse)]
        at: Option<Millis>,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

#[derive(Debug, Subcommand)]
enum WalAct {
    /// Say that somebody has seen why the log is degraded, or that the clock is right again.
    ///
    /// The alert ends, and the node is simply ready again; after `clock_jump` it takes writes by the
    /// clock as it is now.
    Acknowledge(RemoteArgs),
    /// Close every file of the log, so that its file system can be unmounted and checked.
    ///
    /// Writes are refused meanwhile, reads go on. Refused while other files of the node lie on the
    /// same file system: then stop the node, mend the file system, start it again.
    #[command(after_help = "Examples:
  stemedb admin wal detach && umount /var/lib/stemedb/wal && fsck -y /dev/sdb1
  mount /var/lib/stemedb/wal && stemedb admin wal attach")]
    Detach(RemoteArgs),
    /// Read all of the log, prove that everything durable is there, take writes again.
    ///
    /// Also after a failure that the node cannot judge by itself: on a file system of which it
    /// cannot be proved what the medium holds.
    Attach(RemoteArgs),
    /// Write the newest watermark: whoever reads the files then knows that all of it was durable.
    Seal(RemoteArgs),
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
        Act::Promote { force, remote } => promote(force, &remote, context),
        Act::Wal { act } => {
            let (remote, act) = match act {
                WalAct::Acknowledge(remote) => (remote, "acknowledge"),
                WalAct::Detach(remote) => (remote, "detach"),
                WalAct::Attach(remote) => (remote, "attach"),
                WalAct::Seal(remote) => (remote, "seal"),
            };
            let answer =
                remote.connect()?.post_json(&format!("/v1/admin/wal/{act}"), &json!({}))?;
            show(&answer.read()?, context)
        }
        Act::Keys { act } => admin_keys::run(act, context),
        Act::Checkpoint(remote) => {
            let answer = remote.connect()?.post_json("/v1/admin/checkpoint", &json!({}))?;
            show_checkpoint(&answer.read()?, context)
        }
        Act::Reindex { online: true, remote, .. } => reindex_online(&remote, context),
        Act::Reindex { online: false, place, .. } => reindex(&place, context),
        Act::Root { position, at, place, remote } => {
            let offline = place.data_dir.is_some() || place.config.is_some();
            let roots = match offline {
                true => roots_of(&place.load(Vec::new())?.config, position, at, context)?,
                false => roots_from(&remote, position, at)?,
            };
            show_roots(&roots, context)
        }
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
    if let Some(replica) = &node.replica {
        let wire::Replica { of, state, lag_positions, lag_seconds, .. } = replica;
        text.push_str(&format!(
            "  {state} {of}: {lag_positions} positions and {lag_seconds:.1} s behind{}\n",
            replica.primary.as_ref().map_or(String::new(), |primary| format!(" {primary}"))
        ));
        if let Some(problem) = &replica.problem {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    if let Some(degraded) = &node.degraded {
        text.push_str(&format!("  degraded: {degraded}\n"));
    }
    if let Some(archive) = &node.archive {
        let wire::NodeArchive { sync, state, position, .. } = archive;
        let problem = archive.problem.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let sync = if *sync { ", acknowledgements wait for it" } else { "" };
        text.push_str(&format!("  archive {state}, at {position}{sync}{problem}\n"));
    }
    if let Some(rebuild) = &node.rebuild {
        let problem = rebuild.problem.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let wire::Rebuild { state, position, .. } = rebuild;
        text.push_str(&format!("  index rebuild {state}, at {position}{problem}\n"));
    }
    context.print(&text)
}

/// Asks for it, and waits until the node has begun anew.
fn promote(force: bool, remote: &RemoteArgs, context: &Context) -> Result<(), Failure> {
    let remote = remote.connect()?;
    let path = if force { "/v1/admin/promote?force=true" } else { "/v1/admin/promote" };
    let before: wire::Node = remote.post_json(path, &json!({}))?.read()?;
    let bar = context.progress(None, "");
    let mut silent = 0;
    let node = loop {
        context.env.clock.sleep(PROMOTE_LOOK);
        let asked = remote.get("/v1/admin/node", &[]).and_then(|answer| answer.read());
        let node: wire::Node = match asked {
            Ok(node) => node,
            // It begins anew: for a moment nobody answers.
            Err(failure) if silent >= PROMOTE_SILENT => break Err(failure),
            Err(_) => {
                silent += 1;
                continue;
            }
        };
        silent = 0;
        let Some(replica) = &node.replica else {
            if matches!(node.state.as_str(), "starting" | "recovering") {
                continue;
            }
            break Ok(node);
        };
        let waits = replica.problem.clone().unwrap_or_default();
        bar.set_message(waits.clone());
        if waits.starts_with("not promoted") {
            break Err(Failure::no(waits));
        }
    };
    bar.finish_and_clear();
    let node = node?;
    if node.timeline == before.timeline {
        return Err(Failure::no(
            "the node was started again, and goes on as the standby that it was",
        ));
    }
    show(&node, context)
}

fn show_checkpoint(checkpoint: &wire::Checkpoint, context: &Context) -> Result<(), Failure> {
    if context.json {
        return context.print_json(checkpoint);
    }
    let wire::Checkpoint { position, durable, index_bytes, took_ms } = checkpoint;
    context.print(&format!(
        "position {position} of {durable} on the medium, index {index_bytes} bytes, in {took_ms} ms\n"
    ))
}

fn reindex_online(remote: &RemoteArgs, context: &Context) -> Result<(), Failure> {
    let remote = remote.connect()?;
    let mut node: wire::Node = remote.post_json("/v1/admin/reindex", &json!({}))?.read()?;
    let bar = context.progress(Some(node.durable), "records");
    bar.set_message("rebuild");
    let ended = loop {
        let Some(rebuild) = node.rebuild else {
            break Err(Failure::no("the node was started again: its index is not made anew"));
        };
        match (rebuild.state.as_str(), rebuild.problem) {
            ("running", _) => {}
            ("done", _) => break Ok(rebuild.position),
            (_, problem) => {
                let problem = problem.unwrap_or_default();
                break Err(Failure::no(format!("the index is not made anew: {problem}")));
            }
        }
        bar.set_length(node.durable);
        bar.set_position(rebuild.position);
        context.env.clock.sleep(REBUILD_LOOK);
        node = remote.get("/v1/admin/node", &[])?.read()?;
    };
    bar.finish_and_clear();
    let position = ended?;
    if context.json {
        return context.print_json(&json!({ "position": position }));
    }
    context.print(&format!("{position} records indexed\n"))
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

/// The same of a node that runs.
pub(super) fn roots_from(
    remote: &RemoteArgs,
    position: Option<u64>,
    at: Option<Millis>,
) -> Result<wire::Roots, Failure> {
    let mut parameters = Vec::new();
    parameters.extend(position.map(|position| ("position", position.to_string())));
    parameters.extend(at.map(|at| ("evaluated_at", time::format(at))));
    remote.connect()?.get("/v1/admin/root", &parameters)?.read()
}

/// Both roots of the database of a stopped node, at its end or a position.
pub(super) fn roots_of(
    config: &crate::config::Config,
    position: Option<u64>,
    at: Option<Millis>,
    context: &Context,
) -> Result<wire::Roots, Failure> {
    let engine = database::open(config, &context.env, None)?.engine;
    database::wait_ready(&engine, context)?;
    let roots = roots_in(&engine, position, at)?;
    close(&engine, config)?;
    Ok(roots)
}

/// Both roots of an open database, at its end or a position.
pub(super) fn roots_in(
    engine: &stemedb_engine::Engine,
    position: Option<u64>,
    at: Option<Millis>,
) -> Result<wire::Roots, Failure> {
    let failed = |error| Failure::error("cannot compute the answer root").because(error);
    let now = engine.view(Position::NONE, std::time::Duration::ZERO).map_err(failed)?;
    let position = position.map_or(now.position(), Position);
    if position > now.position() {
        return Err(Failure::no(format!("the log ends at {}", now.position())));
    }
    let view = now.as_of(AsOf::Position(position)).map_err(failed)?;
    let view = view.evaluated(at.unwrap_or(view.snapshot().recorded_at()));
    let (log_root_position, log_root) = view.log_root();
    let answers = view.answer_root().map_err(failed)?;
    Ok(wire::Roots {
        position: answers.position.0,
        evaluated_at: wire::Time(answers.evaluated_at),
        keys: answers.keys,
        answer_root: wire::HashHex(answers.root),
        log_root: wire::HashHex(log_root),
        log_root_position: log_root_position.0,
    })
}

fn show_roots(roots: &wire::Roots, context: &Context) -> Result<(), Failure> {
    if context.json {
        return context.print_json(roots);
    }
    context.print(&format!(
        "answer root  {}  position {}, evaluated at {}, {} keys\n\
         log root     {}  position {}\n",
        roots.answer_root.0,
        roots.position,
        roots.evaluated_at,
        roots.keys,
        roots.log_root.0,
        roots.log_root_position,
    ))
}

/// Closes it, as far as that can fail.
pub(super) fn close(
    engine: &stemedb_engine::Engine,
    config: &crate::config::Config,
) -> Result<(), Failure> {
    let report = engine.close(config.server().drain_timeout);
    match report.problems.as_slice() {
        [] => Ok(()),
        problems => Err(Failure::error(problems.join("; "))),
    }
}
