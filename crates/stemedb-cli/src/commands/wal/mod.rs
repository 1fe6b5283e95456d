//! `wal`: look into the log, and repair a segment of it.

mod dump;
mod repair;
mod restore;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use stemedb_log::LogError;
use stemedb_model::{Kind, Position};

use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::time;

/// Check, show, repair and restore the write-ahead log.
///
/// All but `repair` and `restore` only read, beside a running server too; these two read one file and
/// write another.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb wal verify --data-dir ./stemedb-data
  stemedb wal dump ./stemedb-data/wal/segment.001.wal --from 10 --to 20
  stemedb wal repair --segment ./stemedb-data/wal/segment.001.wal --plan
  stemedb wal restore --segment ./stemedb-data/wal/segment.001.wal --plan
  stemedb wal stat --json")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Check every byte: exit 0 whole, 1 damage, 2 could not check.
    ///
    /// Whole up to a tail that was never durable is whole. Kinds of damage: torn_tail, corrupt,
    /// missing, foreign, swapped, too_new; and lost, which was repaired.
    #[command(after_help = "Examples:
  stemedb wal verify ./stemedb-data/wal
  stemedb-wal-verify --file ./stemedb-data/wal/segment.001.wal")]
    Verify(Target),
    /// Write a segment anew from what can be proved of a damaged one.
    ///
    /// The input is never touched. Whole groups are kept on both sides of the damage; what cannot
    /// be proved is lost: its positions stay numbered, read as `lost`, and are listed. The dropped
    /// bytes go to OUTPUT.rejected. The neighbours of the segment, in its folder, tell where it
    /// began and ended; a segment that is missing between two others is written as lost positions.
    /// Exit 0 done, 1 refused without --accept-loss, 2 cannot be done.
    ///
    /// Then stop the server, put OUTPUT where the segment was, and rebuild the index:
    /// `stemedb admin reindex`.
    #[command(after_help = "Examples:
  stemedb wal repair --segment ./stemedb-data/wal/segment.003.wal --plan
  stemedb wal repair --segment ./stemedb-data/wal/segment.003.wal --output ./segment.003.wal --accept-loss
  stemedb-wal-repair --segment segment.003.wal --output repaired.wal --truncate-at 1048576 --accept-loss")]
    Repair(repair::Args),
    /// Make a damaged or missing segment again from the archive.
    ///
    /// Nothing is given up: what is newer in the file than in the archive is kept, as far as it can be
    /// proved. The input is never touched. The next segment tells where this one ended; of the newest one
    /// nothing may tell, and then what the archive lacks and the file does not prove needs --accept-loss.
    /// Exit 0 done, 1 refused, 2 cannot be done.
    ///
    /// Then stop the server and put OUTPUT where the segment was. The index stays as it is.
    #[command(after_help = "Examples:
  stemedb wal restore --segment /var/lib/stemedb/wal/segment.003.wal --plan
  stemedb wal restore --segment /var/lib/stemedb/wal/segment.003.wal --output ./segment.003.wal
  stemedb wal restore --segment ./wal/segment.003.wal --output ./new.wal --store s3://backups/stemedb")]
    Restore(restore::Args),
    /// Show segments, groups and records in order, also behind damage.
    #[command(after_help = "Examples:
  stemedb wal dump ./stemedb-data/wal | head
  stemedb wal dump --data-dir ./stemedb-data --kind vote --kind retract --json
  stemedb wal dump ./stemedb-data/wal/segment.001.wal --raw")]
    Dump {
        #[command(flatten)]
        target: Target,
        /// First position.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last position.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        to: u64,
        /// Only records of this kind; may be given several times.
        #[arg(long, value_name = "KIND", value_parser = kind, conflicts_with = "raw")]
        kind: Vec<Kind>,
        /// Show written blocks and frames instead of groups and records.
        #[arg(long)]
        raw: bool,
    },
    /// Count segments and bytes, find the last position, without reading all of it.
    #[command(after_help = "Examples:\n  stemedb wal stat --data-dir ./stemedb-data")]
    Stat(Target),
}

#[derive(Debug, clap::Args)]
struct Target {
    /// A segment, or the folder of the log; the configured one if not given.
    path: Option<PathBuf>,
    /// The same under the name that scripts use.
    #[arg(long, value_name = "PATH", conflicts_with = "path")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Target {
    fn path(&self) -> Result<PathBuf, Failure> {
        match self.path.as_ref().or(self.file.as_ref()) {
            Some(path) => Ok(path.clone()),
            None => Ok(self.place.load(Vec::new())?.config.wal_dir()),
        }
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Verify(target) => verify::verify(&target, context),
        Act::Repair(args) => repair::repair(&args, context),
        Act::Restore(args) => restore::restore(&args, context),
        Act::Dump { target, from, to, kind, raw } => {
            let asked = dump::Asked { first: Position(from), last: Position(to), kinds: kind, raw };
            dump::dump(&target, &asked, context)
        }
        Act::Stat(target) => stat(&target, context),
    }
}

fn unreadable(path: &std::path::Path) -> impl Fn(LogError) -> Failure {
    let path = path.display().to_string();
    move |error| {
        Failure::error(format!("cannot check {path}"))
            .because(error)
            .hint("name a segment file, or the folder of the segments")
    }
}

fn stat(target: &Target, context: &Context) -> Result<(), Failure> {
    let path = target.path()?;
    let report = stemedb_log::stat(&path, context.env.vfs.as_ref()).map_err(unreadable(&path))?;
    let last = report.last.map(|(position, _)| position.0);
    let recorded = report.last.map(|(_, at)| time::format(at));
    let log_id = report.identity.map(|(log_id, _)| log_id.to_string());
    if context.json {
        return context.print_json(&json!({
            "log_id": log_id,
            "first_kept": report.first_kept.map(|first| first.0),
            "last": last,
            "recorded_at": recorded,
            "segments": report.segments,
            "spares": report.spares,
            "bytes": report.bytes,
            "rejected": report.rejected,
        }));
    }
    context.print(&format!(
        "database {}\nlast position {}{}\n{} segments in use, {} spare, {} bytes\n",
        log_id.unwrap_or_else(|| "none".into()),
        last.map_or_else(|| "none".into(), |last| last.to_string()),
        recorded.map(|at| format!(", recorded {at}")).unwrap_or_default(),
        report.segments,
        report.spares,
        report.bytes,
    ))?;
    if let Some(first) = report.first_kept {
        context.print(&removed(first))?;
    }
    for name in &report.rejected {
        context.print(&format!("set aside: {name}\n"))?;
    }
    Ok(())
}

/// Of a log whose oldest segments were removed.
fn removed(first: Position) -> String {
    format!("begins with position {first}: older segments were removed and are in the archive\n")
}
