//! `rejoin`: a primary whose place was taken becomes a standby of the one that took it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::json;
use stemedb_log::Entry;
use stemedb_model::{LogId, Timeline};
use stemedb_remote::{Apart, RemoteError, leaves, newest_lease, only_here};
use stemedb_server::wire;

use super::serve::PlaceArgs;
use crate::archive::{self, TrustArgs, only};
use crate::cluster::{self, Role};
use crate::config::Config;
use crate::context::Context;
use crate::database;
use crate::failure::Failure;

/// Make a stopped node whose place another has taken a standby of that one.
///
/// Records that only this node has are saved as lines that `stemedb import` takes: they were acknowledged
/// here, or may have been, and were not archived when the other node went on. The old log is kept beside
/// the new one; the log of the other branch is fetched by the next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb rejoin --data-dir ./stemedb-data --store /mnt/archive --tail tail.ndjson --dry-run
  stemedb rejoin --data-dir ./stemedb-data --store /mnt/archive --tail tail.ndjson
  stemedb serve --data-dir ./stemedb-data --standby-of /mnt/archive
  stemedb import tail.ndjson --url https://primary.example:18180")]
pub struct Args {
    /// File for the records that only this node has; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    tail: PathBuf,
    /// Address of the archive, instead of cluster.standby_of or archive.url.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The branch that is written now; that of the lease if not given.
    #[arg(long, value_name = "HEX")]
    branch: Option<Timeline>,
    /// Only save and count the records; leave the node as it is.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let config = args.place.load(Vec::new())?.config;
    let url = args.store.as_ref().or(config.cluster.standby_of.as_ref());
    let Some(url) = url.or(config.archive.url.as_ref()) else {
        return Err(Failure::error("it is not said where the archive is")
            .hint("--store URL, or cluster.standby_of in the configuration"));
    };
    if matches!(cluster::role(&config)?, Some(Role::Standby { .. } | Role::Promoting { .. })) {
        let dir = config.server.data_dir.display();
        return Err(Failure::no(format!("{dir} is the folder of a standby already"))
            .hint("stemedb serve --standby-of ARCHIVE"));
    }
    let Some((log_id, timeline)) = database::read_marker(&config.node_dir())? else {
        return Err(Failure::no(format!("{} holds no database", config.server.data_dir.display())));
    };
    let store = archive::open(url, &config)?;
    let lease = newest_lease(&*store, log_id).map_err(archive::failure)?;
    let branch = match (args.branch, lease) {
        (Some(branch), _) => branch,
        (None, Some(lease)) => lease.timeline,
        (None, None) => {
            let mut found = leaves(&*store, log_id).map_err(archive::failure)?;
            found.retain(|leaf| *leaf != timeline);
            only(found, "other branches", "--branch HEX", &*store)?
        }
    };
    if branch == timeline {
        return Err(Failure::no(format!(
            "branch {branch} is the one that is written: no other node has taken the place of this one"
        )));
    }
    let left = left_beside(&config, timeline);
    let moved = left.exists() && !config.wal_dir().exists();
    let apart = match moved {
        // An earlier call came so far, and has saved the records.
        true => None,
        false => Some(save(&args, &config, &*store, branch, context)?),
    };
    if !args.dry_run {
        if !moved {
            let from = config.wal_dir();
            context.env.vfs.rename(&from, &left).map_err(|error| {
                Failure::error(format!("cannot move {} to {}", from.display(), left.display()))
                    .because(error)
                    .hint("of a mount point, move what is in it elsewhere by hand; then call this again")
            })?;
        }
        become_standby(&config, (log_id, branch), context)?;
    }
    show(&args, &config, (timeline, branch), apart, context)
}

/// Where the old log is kept.
fn left_beside(config: &Config, timeline: Timeline) -> PathBuf {
    let dir = config.wal_dir();
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".left-{timeline}"));
    dir.with_file_name(name)
}

/// Writes the records that only this node has, durably.
fn save(
    args: &Args,
    config: &Config,
    store: &dyn stemedb_remote::Store,
    branch: Timeline,
    context: &Context,
) -> Result<Apart, Failure> {
    let path = &args.tail;
    let believed = args.trust.believed(config, &context.env)?;
    let failed = |error: io::Error| {
        Failure::error(format!("cannot write {}", path.display())).because(error)
    };
    // Opened as a start does: what was durable is found, and nobody else has the folder.
    let (log, _) = database::open_log(config, &context.env)?;
    let mut cutter = log.cutter();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut out = BufWriter::new(file.map_err(failed)?);
    let found = only_here(store, &context.env, &mut cutter, branch, &believed, &mut |entry| {
        line(&mut out, entry).map_err(|source| RemoteError::File {
            act: "write",
            file: path.display().to_string(),
            source,
        })
    });
    let written = found.map_err(archive::failure).and_then(|apart| {
        let sync =
            |out: BufWriter<File>| out.into_inner().map_err(|error| error.into_error())?.sync_all();
        sync(out).map_err(failed).map(|()| apart)
    });
    if written.is_err() {
        // It says nothing; the next call makes it again.
        let _ = context.env.vfs.remove_file(path);
    }
    written
}

fn line(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let form = wire::SignedBytes {
        id: Some(wire::Id(entry.new.id)),
        bytes: wire::Bytes(entry.new.body.to_vec()),
        signature: wire::SignatureHex(entry.new.signature),
    };
    serde_json::to_writer(&mut *out, &form)?;
    out.write_all(b"\n")
}

/// The folder is that of a standby, with nothing in it yet.
fn become_standby(
    config: &Config,
    (log_id, branch): (LogId, Timeline),
    context: &Context,
) -> Result<(), Failure> {
    let failed = |error| Failure::error("cannot remove the index").because(error);
    stemedb_index::remove(&config.index_dir()).map_err(failed)?;
    let role = Role::Standby { log_id: log_id.to_string(), timeline: branch.to_string() };
    cluster::set_role(config, &context.env, &role)?;
    // What they say of the old branch is of no use any more.
    for name in [database::MARKER, archive::NOTE] {
        let path = config.node_dir().join(name);
        match context.env.vfs.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(
                    Failure::error(format!("cannot remove {}", path.display())).because(error)
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn show(
    args: &Args,
    config: &Config,
    (timeline, branch): (Timeline, Timeline),
    apart: Option<Apart>,
    context: &Context,
) -> Result<(), Failure> {
    let tail = args.tail.display().to_string();
    if context.json {
        return context.print_json(&json!({
            "branch": branch.to_string(),
            "left": timeline.to_string(),
            "common": apart.map(|apart| apart.common.position.0),
            "end": apart.map(|apart| apart.end.0),
            "only_here": apart.map(|apart| apart.only_here),
            "also_there": apart.map(|apart| apart.there),
            "tail": tail,
            "standby": !args.dry_run,
        }));
    }
    let mut text = String::new();
    if let Some(Apart { common, end, there, only_here }) = apart {
        text.push_str(&format!(
            "branch {timeline} was left at position {} and goes on here to {end}\n  {only_here} records \
             are on this node only: {tail}\n  {there} are on branch {branch}, too\n",
            common.position
        ));
    }
    if !args.dry_run {
        let left = left_beside(config, timeline);
        text.push_str(&format!(
            "a standby of branch {branch} now; the old log is in {}\n",
            left.display()
        ));
    }
    context.print(&text)?;
    if apart.is_some_and(|apart| apart.only_here > 0) {
        context.say(&format!("stemedb import {tail} sends them to the node that writes now"));
    }
    Ok(())
}
