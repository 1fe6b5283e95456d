//! `backup`: copies of everything a node keeps, and the way back.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;
use stemedb_log::Cutter;
use stemedb_model::{AgentId, LogId, Millis, Position, Timeline};
use stemedb_remote::{
    Backup, BackupOptions, Backups, Keep, KeyId, Made, Pruned, RestorePlan, RestoreTo, Restored,
    Store, Target, VerifiedRestore, check_files, give_up_backup, list_backups, make_backup,
    note_verified, prune_backups, prune_branch, restore, restore_files, verify_backup,
};
use stemedb_server::wire;

use super::admin::{roots_from, roots_of};
use super::serve::PlaceArgs;
use crate::archive::{self, BackupArgs, StoreArgs, identity};
use crate::config::Config;
use crate::context::Context;
use crate::failure::Failure;
use crate::operations::{self, BackupNote};
use crate::remote::RemoteArgs;
use crate::restoring::{self, Restoring};
use crate::{database, standby, time};

/// The admin socket, where it is by default: nothing to copy.
const SOCKET: &str = "admin.sock";
const CUT_GROUP: &str =
    "  the position is inside of what was one group: no earlier log has had this root\n";
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
    /// A backup stays if any rule keeps it; the newest of each branch always does. Nothing is removed while
    /// one cannot be read or is not believed: see give-up. What was put within a day stays: a backup that is being made may need it.
    #[command(after_help = "Examples:
  stemedb backup prune --dry-run
  stemedb backup prune --keep-last 3 --keep-daily 14 --keep-weekly 8
  stemedb backup prune --branch 0123456789abcdef0123456789abcdef --dry-run")]
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
        /// Instead of all that: all backups of this branch, the newest too. For one that nobody writes any
        /// more; takes --yes.
        #[arg(long, value_name = "HEX", conflicts_with_all = ["keep_last", "keep_daily", "keep_weekly"])]
        branch: Option<Timeline>,
        /// Remove the backups of --branch.
        #[arg(long, requires = "branch")]
        yes: bool,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        at: At,
    },
    /// Remove a backup that cannot be read, or that no trusted key has signed: pruning stops at it.
    ///
    /// What it held can then not be restored. Others go by `prune`. Without --yes only says what would go.
    #[command(after_help = "Examples:
  stemedb backup give-up 001764417600000-0123456789abcdef
  stemedb backup give-up 001764417600000-0123456789abcdef --yes")]
    GiveUp {
        /// Its id, or the name of its object, as list and prune tell it.
        name: String,
        /// Remove it.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        at: At,
    },
    /// Put the log together: the newest, or as it was at a position or time.
    ///
    /// From the archive, or with --backup from a backup, and then with the node's own files. Into an empty
    /// data folder only; what was begun there is gone on with, and no server starts on it before it is done.
    /// Every part is compared with its manifest,
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
    /// The backup; the newest if not given, of the branch of the node's data or the only one there is.
    id: Option<String>,
    /// The newest backup of this branch.
    #[arg(long, value_name = "HEX", conflicts_with = "id")]
    branch: Option<Timeline>,
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
    /// From this backup, or `newest`, instead of the archive; where there are some of several branches,
    /// --branch says of which.
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

    fn believe(
        &self,
        place: &Place,
        context: &Context,
        signers: &BTreeSet<AgentId>,
    ) -> Result<(), Failure> {
        self.backups.trust.believe(&*place.store, &place.config, &context.env, signers)
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
            let wanted = Wanted { log_id, id: args.id.as_deref(), branch: args.branch };
            let (one, signer) = wanted.find(&*place.store, &place.config, context)?;
            args.at.believe(&place, context, &BTreeSet::from([signer]))?;
            check(&*place.store, context, &one)?;
            if args.deep {
                check_deep(&place, context, &one, &args)?;
            }
            // Of an older one it would say nothing of the one that is needed.
            if args.id.as_deref().is_none_or(|id| id == "newest") {
                operations::backup_verified(&place.config, context, log_id, &noted(&one, context));
            }
            Ok(())
        }
        Act::Prune { branch: Some(branch), yes, dry_run, at, .. } => {
            forget_branch(branch, yes && !dry_run, dry_run, &at, context)
        }
        Act::Prune { keep_last, keep_daily, keep_weekly, dry_run, at, .. } => {
            let keep = Keep { last: keep_last, daily: keep_daily, weekly: keep_weekly };
            prune(keep, dry_run, &at, context)
        }
        Act::GiveUp { name, yes, at } => give_up(&name, yes, &at, context),
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
    restoring::refuse(config)?;
    standby::refuse(config)?;
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
        leave_out: vec![
            archive::NOTE.into(),
            archive::BACKUP_NOTE.into(),
            archive::VERIFIED.into(),
            SOCKET.into(),
            operations::FOLDER.into(),
        ],
        note: Some(archive::backup_note(config)),
        bytes_per_second,
        archive: config.archive.url.as_deref().map(|url| archive::open(url, config)).transpose()?,
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
                "{}  {}  position {}, of {}  {} bytes, {}\n    branch {}, signed by {key}\n",
                one.id,
                time::format(one.made_at),
                one.end.position,
                time::format(one.ended_at),
                one.bytes(),
                key_words(one, &*place.store),
                one.timeline,
            ))?;
        }
    }
    match found.bad.as_slice() {
        [] => at.believe(&place, context, &signers(&found)),
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

fn signers(found: &Backups) -> BTreeSet<AgentId> {
    found.good.iter().map(|(_, signer)| *signer).collect()
}

/// Which backup.
pub(super) struct Wanted<'a> {
    pub(super) log_id: LogId,
    /// Its name; the newest one if there is none, or `newest`.
    pub(super) id: Option<&'a str>,
    /// The newest of this branch.
    pub(super) branch: Option<Timeline>,
}

impl Wanted<'_> {
    /// The backup, and who signed it. Without a name or a branch it is of the branch of the node's data,
    /// else of the only one that has backups.
    pub(super) fn find(
        &self,
        store: &dyn Store,
        config: &Config,
        context: &Context,
    ) -> Result<(Backup, AgentId), Failure> {
        let Self { log_id, id, branch } = *self;
        let found = list_backups(store, &context.env, log_id).map_err(archive::failure)?;
        if let Some(id) = id.filter(|id| *id != "newest") {
            if let Some((name, problem)) = found.bad.iter().find(|(name, _)| name.contains(id)) {
                context.say(&format!("{name} cannot be read: {problem}"));
            }
            let one = found.good.iter().find(|(one, _)| one.id == id);
            return one.cloned().ok_or_else(|| none(store, &format!("{id} of log {log_id}")));
        }
        let known = database::read_marker(&config.node_dir())?;
        let here = known.filter(|(known, _)| *known == log_id).map(|(_, branch)| branch);
        let Some(branch) = branch.or(here) else {
            let newest = found.newest().map_err(|error| {
                archive::failure(error).hint("--branch HEX says which, or the id of a backup does")
            })?;
            return newest.cloned().ok_or_else(|| none(store, &format!("of log {log_id}")));
        };
        let newest = found.newest_of_branch(branch).map_err(archive::failure)?;
        newest.cloned().ok_or_else(|| {
            let others: Vec<String> =
                found.newest_of_each().into_keys().map(|branch| branch.to_string()).collect();
            let mut what = format!("of branch {branch} of log {log_id}");
            if !others.is_empty() {
                what.push_str(&format!("; it holds some of {}", others.join(", ")));
            }
            none(store, &what)
        })
    }
}

fn none(store: &dyn Store, what: &str) -> Failure {
    Failure::no(format!("{} does not hold a backup {what}", store.place()))
        .hint("stemedb backup list")
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

/// Restores it into a scratch folder, opens it, compares the roots, and notes that.
fn check_deep(
    place: &Place,
    context: &Context,
    one: &Backup,
    args: &VerifyArgs,
) -> Result<(), Failure> {
    let store = &*place.store;
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
    let noted = note(place, context, one, &roots, args.against_server);
    if context.json {
        return context.print_json(&json!({
            "id": one.id,
            "position": roots.position,
            "records": restored.records,
            "log_root": roots.log_root.0.to_string(),
            "answer_root": roots.answer_root.0.to_string(),
            "compared_with_server": args.against_server,
            "noted": noted,
        }));
    }
    let same = if args.against_server { "; the server gives the same answer root" } else { "" };
    context.print(&format!(
        "restored and opened: {} records\n  log root {}\n  answer root {}{same}\n",
        restored.records, roots.log_root.0, roots.answer_root.0
    ))
}

/// Notes beside the backups, and on the node, that one was verified: segments may go for it. Whether it
/// did; the backup is as good without.
fn note(
    place: &Place,
    context: &Context,
    one: &Backup,
    roots: &wire::Roots,
    compared: bool,
) -> bool {
    let (config, env, store) = (&place.config, &context.env, &*place.store);
    let here = database::read_marker(&config.node_dir()).ok().flatten();
    if here.is_none_or(|(log_id, _)| log_id != one.log_id) {
        context.say(
            "not noted, since the node's data is not here: segments go only for what was verified on \
             the node",
        );
        return false;
    }
    let made = archive::node_key(config, env).and_then(|key| {
        let answer_root = roots.answer_root.0;
        let note = VerifiedRestore::of(store, env, one, answer_root, compared)
            .and_then(|note| note_verified(store, env, &key, &note))
            .map_err(archive::failure)?;
        let path = archive::verified_note(config);
        stemedb_io::replace(&*env.vfs, &path, &note).map_err(|error| {
            Failure::error(format!("cannot write {}", path.display())).because(error)
        })
    });
    if let Err(failure) = &made {
        context.say(&format!("it is not noted that the backup was verified: {}", failure.report()));
    }
    made.is_ok()
}

fn prune(keep: Keep, dry_run: bool, at: &At, context: &Context) -> Result<(), Failure> {
    let place = at.open()?;
    let log_id = all_believed(at, &place, context)?;
    let pruned = prune_backups(&*place.store, &context.env, log_id, keep, dry_run);
    show_pruned(&pruned.map_err(archive::failure)?, dry_run, context)
}

/// Refuses to prune where one of the backups is not believed: it would take the place of one of ours.
fn all_believed(at: &At, place: &Place, context: &Context) -> Result<LogId, Failure> {
    let log_id = at.log_id(place)?;
    let found = list_backups(&*place.store, &context.env, log_id).map_err(archive::failure)?;
    at.believe(place, context, &signers(&found))?;
    Ok(log_id)
}

/// Removes all backups of a branch, if somebody has said so twice.
fn forget_branch(
    branch: Timeline,
    remove: bool,
    dry_run: bool,
    at: &At,
    context: &Context,
) -> Result<(), Failure> {
    let place = at.open()?;
    let log_id = all_believed(at, &place, context)?;
    if let Some((_, here)) = database::read_marker(&place.config.node_dir())?
        && here == branch
    {
        return Err(Failure::no(format!(
            "branch {branch} is that of this node: its newest backup stays"
        ))
        .hint("stemedb backup prune --keep-last 1 --keep-daily 0 --keep-weekly 0"));
    }
    let pruned = prune_branch(&*place.store, &context.env, log_id, branch, !remove);
    show_pruned(&pruned.map_err(archive::failure)?, !remove, context)?;
    if remove || dry_run {
        return Ok(());
    }
    Err(Failure::no(format!("nothing was removed: branch {branch} would have no backup any more"))
        .hint(format!("stemedb backup prune --branch {branch} --yes")))
}

fn give_up(name: &str, remove: bool, at: &At, context: &Context) -> Result<(), Failure> {
    let place = at.open()?;
    let log_id = at.log_id(&place)?;
    let env = &context.env;
    let believed = at.backups.trust.believed(&place.config, env)?;
    let object = give_up_backup(&*place.store, env, log_id, name, &believed, !remove);
    let object = object.map_err(|error| archive::failure(error).hint("stemedb backup list"))?;
    if !remove {
        return Err(Failure::no(format!(
            "nothing was removed: what {object} held could not be restored any more"
        ))
        .hint(format!("stemedb backup give-up {name} --yes")));
    }
    if context.json {
        return context.print_json(&json!({ "removed": object }));
    }
    context.print(&format!("{object} removed; what it held goes with the next pruning\n"))
}

fn show_pruned(pruned: &Pruned, dry_run: bool, context: &Context) -> Result<(), Failure> {
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
        let plan = plan.map_err(archive::failure)?;
        args.store.trust.believe(&*store, config, env, &plan.signers)?;
        return Ok(Source { plan, store, backup: None });
    };
    let trust = args.store.trust.clone();
    let place = BackupArgs { store: args.store.store.clone(), log: args.store.log, trust };
    let store = place.open(config)?;
    let log_id = place.log_id(&*store, config)?;
    let wanted = Wanted { log_id, id: Some(id), branch: args.store.branch };
    let (one, signer) = wanted.find(&*store, config, context)?;
    place.trust.believe(&*store, config, env, &BTreeSet::from([signer]))?;
    let mut plan = one.plan(&*store, env, target).map_err(archive::failure)?;
    plan.signers.insert(signer);
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
    let env = &context.env;
    // The marker says which branch the log was.
    let leave_out = [database::MARKER.to_owned()];
    if let Some(one) = &backup {
        check_files(&*store, env, one, &node, &leave_out).map_err(archive::failure)?;
    }
    if let (Some(one), true) = (&backup, args.node_only) {
        put_files(&*store, one, &node, context)?;
        return show_files(one, &node, context);
    }
    Restoring::of(&plan, backup.as_ref(), &*store).begin(&config, env)?;
    let restored = put_together(&*store, &plan, &config, context)?;
    if let Some(one) = &backup {
        put_files(&*store, one, &node, context)?;
    }
    restoring::end(&config, env)?;
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
            "signed_by": plan.signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
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
    for signer in &plan.signers {
        text.push_str(&format!("  signed by {signer}\n"));
    }
    if plan.cut_group {
        text.push_str(CUT_GROUP);
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
            "cut_group": restored.cut_group,
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
    if restored.cut_group {
        context.print(CUT_GROUP)?;
    }
    let dir = config.server.data_dir.display();
    context.say(&format!(
        "stemedb admin root --data-dir {dir} builds the index and gives the answer root"
    ));
    Ok(())
}
