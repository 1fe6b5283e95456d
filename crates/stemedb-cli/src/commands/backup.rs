//! `backup`: copies of everything a node keeps, and the way back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;
use stemedb_log::Cutter;
use stemedb_model::{LogId, Millis, Position, Timeline};
use stemedb_remote::{
    Backup, BackupOptions, Keep, KeyId, Made, RestorePlan, RestoreTo, Restored, Store, Target,
    list_backups, make_backup, prune_backups, restore, restore_files, verify_backup,
};

use super::admin::{roots_from, roots_of};
use super::serve::PlaceArgs;
use crate::archive::{self, BackupArgs, StoreArgs, identity};
use crate::config::Config;
use crate::context::Context;
use crate::failure::Failure;
use crate::operations::{self, BackupNote};
use crate::remote::RemoteArgs;
use crate::{database, files, time};

/// The admin socket, where it is by default: nothing to copy.
const SOCKET: &str = "admin.sock";
/// Length of the segment in which a log in a scratch folder would go on.
const SCRATCH_SEGMENT: u64 = 1 << 20;

/// Make, check and prune backups; bring a database back from one, or from its archive.
///
/// A backup is everything a node keeps at one moment: the log up to a position, and its own files, keys
/// too. Only what no earlier backup holds is sent. Addresses and credentials are those of an archive
/// (`stemedb archive --help`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb backup create --store s3://backups/stemedb
  stemedb backup verify
  stemedb backup prune --keep-last 7 --keep-weekly 8 --dry-run
  stemedb backup restore --store /mnt/archive --data-dir ./restored --before 1042 --dry-run")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make a backup, beside a running server or of a stopped node.
    ///
    /// Its position is the newest that the files of the log show to have been durable. Every object is
    /// read back before the backup counts.
    #[command(after_help = "Examples:
  stemedb backup create --data-dir ./stemedb-data --store /mnt/backups
  stemedb backup create --bytes-per-second 20000000")]
    Create {
        /// Bytes to send in a second at most; 0: no bound.
        #[arg(long, value_name = "BYTES", default_value_t = 0)]
        bytes_per_second: u64,
        #[command(flatten)]
        at: At,
    },
    /// List the backups, the oldest first: exit 1 if one cannot be read.
    #[command(after_help = "Examples:
  stemedb backup list
  stemedb backup list --store /mnt/backups --json")]
    List(At),
    /// Read all of a backup and compare every byte: exit 0 whole, 1 damaged, 2 could not check.
    #[command(after_help = "Examples:
  stemedb backup verify
  stemedb backup verify --deep --against-server --url http://127.0.0.1:18180")]
    Verify(VerifyArgs),
    /// Remove old backups, and what no other one needs.
    ///
    /// A backup stays if any rule keeps it; the newest always does. Nothing is removed while the list of
    /// any backup cannot be read. What was put within a day stays: a backup that is being made may need it.
    #[command(after_help = "Examples:
  stemedb backup prune --dry-run
  stemedb backup prune --keep-last 3 --keep-daily 14 --keep-weekly 8")]
    Prune {
        /// So many of the newest.
        #[arg(long, value_name = "COUNT", default_value_t = 7)]
        keep_last: usize,
        /// The newest of each of so many days (UTC) that have one.
        #[arg(long, value_name = "COUNT", default_value_t = 7)]
        keep_daily: usize,
        /// The newest of each of so many weeks that have one.
        #[arg(long, value_name = "COUNT", default_value_t = 4)]
        keep_weekly: usize,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        at: At,
    },
    /// Put the log together: the newest, or as it was at a position or time.
    ///
    /// From the archive, or with --backup from a backup, and then with the node's own files. Into an empty
    /// data folder only; what was begun there is gone on with. Every part is compared with its manifest,
    /// and the log is read back and proved before this is done. The index is built by the first start.
    /// The restored log is a branch of its own: whatever the old one still writes is never taken for it.
    #[command(after_help = "Examples:
  stemedb backup restore --store s3://archive/stemedb --data-dir ./restored
  stemedb backup restore --backup newest --store /mnt/backups --data-dir ./restored
  stemedb backup restore --backup newest --node-only --store /mnt/backups --data-dir ./restored
  stemedb backup restore --store /mnt/archive --data-dir ./restored --time 2026-11-29T12:00:00Z
  stemedb backup restore --store /mnt/archive --data-dir ./restored --before 1042 --dry-run")]
    Restore(RestoreArgs),
}

/// Which backups of which database.
#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    backups: BackupArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The backup; the newest if not given.
    id: Option<String>,
    /// Also restore it into a scratch folder, open it, and compute its answer root.
    #[arg(long)]
    deep: bool,
    /// With --deep: compare the answer root with the one that a running server gives for the position,
    /// and the log root if that is its newest one.
    #[arg(long, requires = "deep")]
    against_server: bool,
    /// Where the scratch folder is made; it goes afterwards.
    #[arg(long, value_name = "DIR", requires = "deep")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    /// The last position to restore; the newest if nothing is given.
    #[arg(long, value_name = "POSITION", conflicts_with_all = ["before", "time"])]
    position: Option<u64>,
    /// The first position not to restore: without a record that should not be there.
    #[arg(long, value_name = "POSITION", conflicts_with = "time")]
    before: Option<u64>,
    /// Restore what was recorded at or before this time.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    time: Option<Millis>,
    /// From this backup, or `newest`, instead of the archive.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Only the node's own files, of a backup: beside a log that came from the archive.
    #[arg(long, requires = "backup", conflicts_with_all = ["position", "before", "time", "dry_run"])]
    node_only: bool,
    /// Only say what will come back: positions, time, bytes, log root.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// The place of backups, opened.
struct Place {
    config: Config,
    store: Arc<dyn Store>,
}

impl At {
    fn open(&self) -> Result<Place, Failure> {
        let config = self.place.load(Vec::new())?.config;
        let store = self.backups.open(&config)?;
        Ok(Place { config, store })
    }

    fn log_id(&self, place: &Place) -> Result<LogId, Failure> {
        self.backups.log_id(&*place.store, &place.config)
    }
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Create { bytes_per_second, at } => create(bytes_per_second, &at, context),
        Act::List(at) => list(&at, context),
        Act::Verify(args) => {
            let place = args.at.open()?;
            let log_id = args.at.log_id(&place)?;
            let one = find(&*place.store, context, log_id, args.id.as_deref())?;
            check(&*place.store, context, &one)?;
            if args.deep {
                check_deep(&*place.store, context, &one, &args)?;
            }
            // Of an older one it would say nothing of the one that is needed.
            if args.id.as_deref().is_none_or(|id| id == "newest") {
                operations::backup_verified(&place.config, context, log_id, &noted(&one, context));
            }
            Ok(())
        }
        Act::Prune { keep_last, keep_daily, keep_weekly, dry_run, at } => {
            let keep = Keep { last: keep_last, daily: keep_daily, weekly: keep_weekly };
            prune(keep, dry_run, &at, context)
        }
        Act::Restore(args) => bring_back(&args, context),
    }
}

/// Makes one of the newest position, and notes it.
pub(super) fn make(
    config: &Config,
    store: &dyn Store,
    bytes_per_second: u64,
    context: &Context,
) -> Result<Made, Failure> {
    let env = &context.env;
    let dir = config.wal_dir();
    let mut cutter = Cutter::of_folder(&dir, env).map_err(|error| {
        Failure::error(format!("cannot read the log in {}", dir.display()))
            .because(error)
            .hint(format!("stemedb wal verify {}", dir.display()))
    })?;
    let key = archive::node_key(config, env)?;
    if store.keys().writes_with().is_none() {
        context.say(
            "not encrypted: whoever can read this backup has the keys of the node; encryption.keys \
             names a key to encrypt with",
        );
    }
    let options = BackupOptions {
        leave_out: vec![archive::NOTE.into(), SOCKET.into(), operations::FOLDER.into()],
        bytes_per_second,
        ..BackupOptions::new(config.node_dir())
    };
    let (durable, _) = cutter.durable();
    let bar = context.progress(Some(durable.position.0), "positions");
    bar.set_message("backup");
    let made = make_backup(store, env, &mut cutter, &key, &options, &mut |at| {
        bar.set_position(at.0);
    });
    bar.finish_and_clear();
    let made = made.map_err(archive::failure)?;
    operations::backup_made(config, context, made.backup.log_id, &noted(&made.backup, context));
    Ok(made)
}

fn create(bytes_per_second: u64, at: &At, context: &Context) -> Result<(), Failure> {
    let Place { config, store } = at.open()?;
    let made = make(&config, &*store, bytes_per_second, context)?;
    let one = &made.backup;
    if context.json {
        let more = [("sent", made.sent.into()), ("reused", made.reused.into())];
        return context.print_json(&json_of(one, more));
    }
    context.print(&format!(
        "{}\n  positions 1 to {}, up to {}; {} files of the node\n  {} bytes sent, {} were there\n  \
         log root {}\n",
        one.id,
        one.end.position,
        time::format(one.ended_at),
        one.files.len(),
        made.sent,
        made.reused,
        one.end.chain,
    ))
}

/// What is noted of a backup now.
fn noted(one: &Backup, context: &Context) -> BackupNote {
    let (id, position) = (one.id.clone(), one.end.position.0);
    BackupNote { id, position, at_ms: context.env.clock.now_ms() }
}

/// A backup, and what else is to be said.
fn json_of<const N: usize>(
    one: &Backup,
    more: [(&str, serde_json::Value); N],
) -> serde_json::Value {
    let mut value = json!({
        "id": one.id,
        "log_id": one.log_id.to_string(),
        "branch": one.timeline.to_string(),
        "made_at": time::format(one.made_at),
        "position": one.end.position.0,
        "recorded_at": time::format(one.ended_at),
        "log_root": one.end.chain.to_string(),
        "bytes": one.bytes(),
        "files": one.files.len(),
        "key_ids": one.keys().into_iter().flatten().map(|id| id.to_string()).collect::<Vec<_>>(),
        "encrypted": !one.keys().contains(&None),
    });
    if let Some(object) = value.as_object_mut() {
        object.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    value
}

fn list(at: &At, context: &Context) -> Result<(), Failure> {
    let place = at.open()?;
    let log_id = at.log_id(&place)?;
    let found = list_backups(&*place.store, &context.env, log_id).map_err(archive::failure)?;
    for (one, key) in &found.good {
        if context.json {
            context.print_json(&json_of(one, [("signed_by", key.to_string().into())]))?;
        } else {
            context.print(&format!(
                "{}  {}  position {}, of {}  {} bytes, {}\n",
                one.id,
                time::format(one.made_at),
                one.end.position,
                time::format(one.ended_at),
                one.bytes(),
                key_words(one, &*place.store),
            ))?;
        }
    }
    match found.bad.as_slice() {
        [] => Ok(()),
        [(name, problem), ..] => Err(Failure::no(format!(
            "{} backups cannot be read: {name}: {problem}",
            found.bad.len()
        ))),
    }
}

/// What opens it.
fn key_words(one: &Backup, store: &dyn Store) -> String {
    let words = |key: Option<KeyId>| match key {
        None => "in the clear".to_owned(),
        Some(id) if store.keys().has(id) => format!("key {id}"),
        Some(id) => format!("key {id}, which is not in encryption.keys"),
    };
    one.keys().into_iter().map(words).collect::<Vec<_>>().join(" and ")
}

/// The backup that is called `id`, or the newest.
pub(super) fn find(
    store: &dyn Store,
    context: &Context,
    log_id: LogId,
    id: Option<&str>,
) -> Result<Backup, Failure> {
    let found = list_backups(store, &context.env, log_id).map_err(archive::failure)?;
    let id = id.filter(|id| *id != "newest");
    let one = match id {
        None => found.newest().map_err(archive::failure)?,
        Some(id) => {
            if let Some((name, problem)) = found.bad.iter().find(|(name, _)| name.contains(id)) {
                context.say(&format!("{name} cannot be read: {problem}"));
            }
            found.good.iter().find(|(one, _)| one.id == id)
        }
    };
    one.map(|(one, _)| one.clone()).ok_or_else(|| {
        let what = id.map_or_else(|| "a backup".to_owned(), |id| format!("a backup {id}"));
        Failure::no(format!("{} does not hold {what} of log {log_id}", store.place()))
            .hint("stemedb backup list")
    })
}

/// Compares every byte.
fn check(store: &dyn Store, context: &Context, one: &Backup) -> Result<(), Failure> {
    let bar = context.progress(Some(one.bytes()), "bytes");
    bar.set_message("verify");
    let problems = verify_backup(store, &context.env, one, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let problems = problems.map_err(archive::failure)?;
    for (name, problem) in &problems {
        context.say(&format!("{name}: {problem}"));
    }
    if context.json {
        let bad: Vec<_> = problems
            .iter()
            .map(|(name, problem)| json!({ "object": name, "problem": problem }))
            .collect();
        context.print_json(&json_of(one, [("problems", bad.into())]))?;
    } else if problems.is_empty() {
        let (bytes, last) = (one.bytes(), one.end.position);
        context.print(&format!("{} is whole: {bytes} bytes, positions 1 to {last}\n", one.id))?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    let what = format!("backup {} is damaged in {} objects", one.id, problems.len());
    Err(Failure::no(what).hint("stemedb backup create makes another one"))
}

/// Restores it into a scratch folder, opens it, and compares the roots.
fn check_deep(
    store: &dyn Store,
    context: &Context,
    one: &Backup,
    args: &VerifyArgs,
) -> Result<(), Failure> {
    let made = match &args.scratch {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let made = made.map_err(|error| {
        Failure::error("cannot make a scratch folder").because(error).hint("--scratch DIR")
    })?;
    // Nothing of the node's configuration: it may name folders that are in use.
    let mut config = Config::default();
    config.server.data_dir = made.path().to_owned();
    config.wal.segment_bytes = SCRATCH_SEGMENT;
    let plan = one.plan(store, &context.env, Target::Newest).map_err(archive::failure)?;
    let restored = put_together(store, &plan, &config, context)?;
    let roots = roots_of(&config, None, None, context)?;
    if args.against_server {
        let position = roots.position;
        let theirs = roots_from(&args.remote, Some(position), Some(roots.evaluated_at.0))?;
        // The server gives the log root of its newest position only; that of the backup's position was
        // compared with the manifest.
        let same_place = theirs.log_root_position == roots.log_root_position;
        let same_log = !same_place || theirs.log_root.0 == roots.log_root.0;
        if !same_log || theirs.answer_root.0 != roots.answer_root.0 {
            return Err(Failure::no(format!(
                "at position {position} the backup gives log root {} and answer root {}, the server {} \
                 (at position {}) and {}",
                roots.log_root.0,
                roots.answer_root.0,
                theirs.log_root.0,
                theirs.log_root_position,
                theirs.answer_root.0
            )));
        }
    }
    if context.json {
        return context.print_json(&json!({
            "id": one.id,
            "position": roots.position,
            "records": restored.records,
            "log_root": roots.log_root.0.to_string(),
            "answer_root": roots.answer_root.0.to_string(),
            "compared_with_server": args.against_server,
        }));
    }
    let same = if args.against_server { "; the server gives the same answer root" } else { "" };
    context.print(&format!(
        "restored and opened: {} records\n  log root {}\n  answer root {}{same}\n",
        restored.records, roots.log_root.0, roots.answer_root.0
    ))
}

fn prune(keep: Keep, dry_run: bool, at: &At, context: &Context) -> Result<(), Failure> {
    let place = at.open()?;
    let log_id = at.log_id(&place)?;
    let pruned = prune_backups(&*place.store, &context.env, log_id, keep, dry_run);
    let pruned = pruned.map_err(archive::failure)?;
    if context.json {
        return context.print_json(&json!({
            "dry_run": dry_run,
            "backups": pruned.backups,
            "objects": pruned.objects,
            "bytes": pruned.bytes,
        }));
    }
    let word = if dry_run { "would go" } else { "removed" };
    let ids: String = pruned.backups.iter().map(|id| format!("  {id}\n")).collect();
    context.print(&format!(
        "{} backups {word}, {} objects of {} bytes\n{ids}",
        pruned.backups.len(),
        pruned.objects,
        pruned.bytes
    ))
}

/// Where a restore takes from.
struct Source {
    store: Arc<dyn Store>,
    plan: RestorePlan,
    backup: Option<Backup>,
}

fn source(args: &RestoreArgs, config: &Config, context: &Context) -> Result<Source, Failure> {
    let env = &context.env;
    let target = match (args.position, args.before, args.time) {
        (Some(position), _, _) => Target::Position(Position(position)),
        (_, Some(position), _) => Target::Before(Position(position)),
        (_, _, Some(time)) => Target::Time(time),
        _ => Target::Newest,
    };
    let Some(id) = &args.backup else {
        let store = args.store.open(config)?;
        let found = identity(&*store, &args.store, config)?;
        let plan = RestorePlan::of_archive(&*store, env, found, target);
        return Ok(Source { plan: plan.map_err(archive::failure)?, store, backup: None });
    };
    let place = BackupArgs { store: args.store.store.clone(), log: args.store.log };
    let store = place.open(config)?;
    let log_id = place.log_id(&*store, config)?;
    let one = find(&*store, context, log_id, Some(id))?;
    let plan = one.plan(&*store, env, target).map_err(archive::failure)?;
    Ok(Source { store, plan, backup: Some(one) })
}

fn bring_back(args: &RestoreArgs, context: &Context) -> Result<(), Failure> {
    let config = args.place.load(Vec::new())?.config;
    let node = config.node_dir();
    // A folder that knows a database is that database's, whatever has become of its log.
    if let (false, Some((log_id, _))) = (args.dry_run, database::read_marker(&node)?) {
        return Err(Failure::no(format!("{} belongs to database {log_id}", node.display()))
            .hint("--data-dir DIR names an empty folder"));
    }
    let Source { store, plan, backup } = source(args, &config, context)?;
    if args.dry_run {
        return show_plan(&plan, context);
    }
    if backup.is_some() {
        empty(&node, context)?;
    }
    if let (Some(one), true) = (&backup, args.node_only) {
        put_files(&*store, one, &node, context)?;
        return show_files(one, &node, context);
    }
    let restored = put_together(&*store, &plan, &config, context)?;
    if let Some(one) = &backup {
        put_files(&*store, one, &node, context)?;
    }
    show(&plan, &restored, &config, context)
}

/// The node's own files, but for the one that says which branch the log was.
fn put_files(
    store: &dyn Store,
    one: &Backup,
    node: &Path,
    context: &Context,
) -> Result<(), Failure> {
    database::make_private(node)?;
    let leave_out = [database::MARKER.to_owned()];
    restore_files(store, &context.env, one, node, &leave_out).map(drop).map_err(archive::failure)
}

fn show_files(one: &Backup, node: &Path, context: &Context) -> Result<(), Failure> {
    let made_at = time::format(one.made_at);
    if context.json {
        let files = one.files.len();
        return context.print_json(&json!({ "id": one.id, "made_at": made_at, "files": files }));
    }
    let node = node.display();
    context.print(&format!("{node} is as in backup {}, made at {made_at}\n", one.id))
}

/// Refuses a folder of a node that holds something.
fn empty(node: &Path, context: &Context) -> Result<(), Failure> {
    match context.env.vfs.read_dir(node) {
        Ok(entries) if entries.is_empty() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(Failure::no(format!("{} is not empty", node.display()))
            .hint("--data-dir DIR names an empty folder")),
        Err(error) => Err(files::cannot_read(node, error)),
    }
}

fn put_together(
    store: &dyn Store,
    plan: &RestorePlan,
    config: &Config,
    context: &Context,
) -> Result<Restored, Failure> {
    let mut name = [0; 16];
    context.env.rng.fill(&mut name);
    let to = RestoreTo {
        dir: &config.wal_dir(),
        timeline: Timeline(name),
        segment_bytes: config.wal.segment_bytes,
    };
    let bar = context.progress(Some(plan.bytes()), "bytes");
    bar.set_message("restore");
    let restored = restore(store, &context.env, plan, to, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    restored.map_err(archive::failure)
}

fn show_plan(plan: &RestorePlan, context: &Context) -> Result<(), Failure> {
    if context.json {
        return context.print_json(&json!({
            "log_id": plan.log_id.to_string(),
            "branch": plan.timeline.to_string(),
            "position": plan.end.position.0,
            "recorded_at": time::format(plan.recorded_at),
            "log_root": plan.end.chain.to_string(),
            "cut_group": plan.cut_group,
            "newest": plan.newest.0,
            "parts": plan.parts.len(),
            "bytes": plan.bytes(),
        }));
    }
    let mut text = format!(
        "positions 1 to {} of log {}, up to {}\n  {} parts, {} bytes; the archive goes up to {}\n  \
         log root {}\n",
        plan.end.position,
        plan.log_id,
        time::format(plan.recorded_at),
        plan.parts.len(),
        plan.bytes(),
        plan.newest,
        plan.end.chain,
    );
    if plan.cut_group {
        text.push_str(
            "  the position is inside of what was one group: no earlier log has had this root\n",
        );
    }
    context.print(&text)
}

fn show(
    plan: &RestorePlan,
    restored: &Restored,
    config: &Config,
    context: &Context,
) -> Result<(), Failure> {
    if context.json {
        return context.print_json(&json!({
            "log_id": plan.log_id.to_string(),
            "branch": restored.timeline.to_string(),
            "parent": plan.timeline.to_string(),
            "position": restored.end.position.0,
            "recorded_at": time::format(restored.recorded_at),
            "log_root": restored.end.chain.to_string(),
            "records": restored.records,
            "segments": restored.segments,
        }));
    }
    context.print(&format!(
        "restored positions 1 to {}, up to {}\n  {} records in {} segments, read back and proved\n  \
         log root {}\n  branch {}\n",
        restored.end.position,
        time::format(restored.recorded_at),
        restored.records,
        restored.segments,
        restored.end.chain,
        restored.timeline,
    ))?;
    let dir = config.server.data_dir.display();
    context.say(&format!(
        "stemedb admin root --data-dir {dir} builds the index and gives the answer root"
    ));
    Ok(())
}
