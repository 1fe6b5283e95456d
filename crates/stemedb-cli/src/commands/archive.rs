//! `archive`: what of the log is in the archive.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use stemedb_log::Cutter;
use stemedb_model::{LogId, Position, Timeline};
use stemedb_remote::{
    ArchiveConfig, ArchiveStatus, Archiver, KeyId, Noted, PartEntry, Step, Store, archive_status,
    verify_archive,
};

use super::serve::PlaceArgs;
use crate::archive::{self, StoreArgs, TrustArgs, identity};
use crate::config::Config;
use crate::context::Context;
use crate::failure::Failure;
use crate::{restoring, standby, time};

/// How often a failure of the store is waited out.
const ATTEMPTS: u32 = 5;
/// The wait.
const RETRY: Duration = Duration::from_secs(2);

/// The archive: the log a second time, in an object store.
///
/// A node archives while it serves, once `archive.url` is set: `/path`, `s3://bucket/prefix`,
/// `gs://bucket/prefix` or `az://container/prefix`. Credentials come from the environment, as the
/// clouds name them (`AWS_ACCESS_KEY_ID`, …).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb archive run --data-dir ./stemedb-data --store /mnt/archive
  stemedb archive status --data-dir ./stemedb-data
  stemedb archive verify
  stemedb archive status --store s3://backups/stemedb --json")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Tell what is in the archive, delayed, on its way, and lost: exit 1 if anything is missing.
    ///
    /// Reads manifests and lists parts. Works beside a running server, and without the node's data.
    #[command(after_help = "Examples:
  stemedb archive status
  stemedb archive status --store /mnt/archive --branch 0123456789abcdef0123456789abcdef")]
    Status {
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Read every part of the archive and compare every byte: exit 0 whole, 1 damaged, 2 could not check.
    ///
    /// Of the branch and of those that it goes on from: all that a restore of it may need. Works beside a
    /// running server, and without the node's data.
    #[command(after_help = "Examples:
  stemedb archive verify
  stemedb archive verify --store s3://archive/stemedb --trust-key HEX --json")]
    Verify {
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Archive once what is not archived yet, and look for every part: for a stopped node, or a timer.
    ///
    /// Up to the newest position that the files of the log show to have been durable. A server with
    /// archive.url does the same all the time and by itself; both together do no harm.
    #[command(after_help = "Examples:
  stemedb archive run
  stemedb archive run --data-dir ./stemedb-data --store /mnt/archive")]
    Run {
        /// Address of the archive, instead of archive.url.
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Status { store, place } => status(&store, &place, context),
        Act::Verify { store, place } => verify(&store, &place, context),
        Act::Run { store, place } => archive_once(store, &place, context),
    }
}

fn archive_once(
    store: Option<String>,
    place: &PlaceArgs,
    context: &Context,
) -> Result<(), Failure> {
    let config = place.load(Vec::new())?.config;
    restoring::refuse(&config)?;
    standby::refuse(&config)?;
    let trust = TrustArgs::default();
    let store = StoreArgs { store, log: None, branch: None, trust }.open(&config)?;
    let env = &context.env;
    let dir = config.wal_dir();
    let cutter = Cutter::of_folder(&dir, env).map_err(|error| {
        Failure::error(format!("cannot read the log in {}", dir.display()))
            .because(error)
            .hint(format!("stemedb wal verify {}", dir.display()))
    })?;
    let (durable, _) = cutter.durable();
    let key = archive::node_key(&config, env)?;
    let settings = ArchiveConfig {
        delay: Duration::ZERO,
        // `archive verify` reads all of it.
        scrub_every: Duration::ZERO,
        keys: config.trusted_keys(),
        ..ArchiveConfig::new(archive::note(&config))
    };
    let archiver = Archiver::new(store, cutter, key, env.clone(), settings);
    let mut archiver = archiver.map_err(archive::failure)?;
    let bar = context.progress(Some(durable.position.0), "positions");
    bar.set_message("archive");
    let mut attempts = 0;
    loop {
        match archiver.step() {
            Ok(Step::Worked) => attempts = 0,
            Ok(Step::Idle) => break,
            Err(error) if error.passes() && attempts < ATTEMPTS => {
                attempts += 1;
                context.say(&format!("{error}; trying again"));
                env.clock.sleep(RETRY);
            }
            Err(error) => return Err(archive::failure(error)),
        }
        bar.set_position(archiver.progress().archived.0);
    }
    bar.finish_and_clear();
    let progress = archiver.progress();
    if context.json {
        context.print_json(&json!({
            "archived": progress.archived.0,
            "lost_parts": progress.lost_parts,
            "replaced_parts": progress.replaced_parts,
            "problems": progress.problems,
        }))?;
    } else {
        let mut text = format!("archived up to position {}\n", progress.archived);
        if progress.lost_parts > 0 {
            let (lost, replaced) = (progress.lost_parts, progress.replaced_parts);
            text.push_str(&format!("  {lost} were missing, {replaced} of them archived again\n"));
        }
        context.print(&text)?;
    }
    match progress.problems {
        0 => Ok(()),
        left => Err(Failure::no(format!("{left} problems of the archive could not be put right"))
            .hint("stemedb archive status")),
    }
}

/// What a status is compared with, if the node's data is here.
#[derive(Debug, Default)]
struct Here {
    durable: Option<Position>,
    noted: Option<Noted>,
}

fn status(args: &StoreArgs, place: &PlaceArgs, context: &Context) -> Result<(), Failure> {
    let config = place.load(Vec::new())?.config;
    let store = args.open(&config)?;
    let status = believed(&*store, args, &config, context)?;
    let here = here(&*store, &config, context, (status.log_id, status.timeline));
    if context.json {
        context.print_json(&status_json(&status, &here, &store))?;
    } else {
        context.print(&text(&status, &here, &store))?;
    }
    let noted = here.noted.filter(|noted| noted.position > status.archived);
    if let Some(noted) = noted {
        return Err(Failure::no(format!(
            "the archive has lost its newest manifests: it ends at {}, and this node has archived up \
             to {}",
            status.archived, noted.position
        ))
        .hint("a running node archives again what its log still has; look after the store"));
    }
    if status.whole() {
        return Ok(());
    }
    Err(Failure::no(format!(
        "the archive is not whole: {} parts are lost, {} other problems",
        status.lost.len(),
        status.problems.len()
    ))
    .hint("a running node archives again what its log still has, at its start and once a day"))
}

/// The archive that is asked for, if it is there and believed.
fn believed(
    store: &dyn Store,
    args: &StoreArgs,
    config: &Config,
    context: &Context,
) -> Result<ArchiveStatus, Failure> {
    let (log_id, timeline) = identity(store, args, config)?;
    let Some(status) = archive_status(store, log_id, timeline).map_err(archive::failure)? else {
        return Err(no_archive(store, (log_id, timeline)));
    };
    args.trust.believe(store, config, &context.env, &status.signers)?;
    Ok(status)
}

fn no_archive(store: &dyn Store, (log_id, timeline): (LogId, Timeline)) -> Failure {
    Failure::no(format!("{} holds no archive of log {log_id} on branch {timeline}", store.place()))
        .hint("archive.url makes `stemedb serve` archive; `stemedb config print` shows it")
}

fn verify(args: &StoreArgs, place: &PlaceArgs, context: &Context) -> Result<(), Failure> {
    let config = place.load(Vec::new())?.config;
    let store = args.open(&config)?;
    let status = believed(&*store, args, &config, context)?;
    let identity = (status.log_id, status.timeline);
    let lost: u64 = status.lost.iter().map(|part| part.bytes).sum();
    let (parts, bytes) = (status.present.0 + status.lost.len() as u64, status.present.1 + lost);
    let bar = context.progress(Some(bytes), "bytes");
    bar.set_message("verify");
    let told = &mut |done| bar.set_position(done);
    let problems = verify_archive(&*store, &context.env, identity, told);
    bar.finish_and_clear();
    let Some(problems) = problems.map_err(archive::failure)? else {
        return Err(no_archive(&*store, identity));
    };
    let manifests: Vec<String> = status.problems.iter().map(ToString::to_string).collect();
    for problem in &manifests {
        context.say(problem);
    }
    for (name, problem) in &problems {
        context.say(&format!("{name}: {problem}"));
    }
    let count = manifests.len() + problems.len();
    if context.json {
        let objects: Vec<_> = problems
            .iter()
            .map(|(name, problem)| json!({ "object": name, "problem": problem }))
            .collect();
        context.print_json(&json!({
            "place": store.place(),
            "log_id": status.log_id.to_string(),
            "branch": status.timeline.to_string(),
            "archived": status.archived.0,
            "parts": parts,
            "bytes": bytes,
            "problems": manifests,
            "damaged": objects,
            "whole": count == 0,
        }))?;
    } else if count == 0 {
        let archived = status.archived;
        context.print(&format!(
            "the archive is whole: {parts} parts, {bytes} bytes, positions 1 to {archived}\n"
        ))?;
    }
    if count == 0 {
        return Ok(());
    }
    Err(Failure::no(format!(
        "the archive is damaged: {} parts, {} other problems",
        problems.len(),
        manifests.len()
    ))
    .hint(
        "a running node archives damaged parts again while it reads all within archive.scrub_days",
    ))
}

fn here(
    store: &dyn Store,
    config: &Config,
    context: &Context,
    identity: (LogId, Timeline),
) -> Here {
    let vfs = &*context.env.vfs;
    let stat = stemedb_log::stat(&config.wal_dir(), vfs).ok();
    let ours = stat.filter(|stat| stat.identity == Some(identity));
    let noted = Noted::load(&context.env, &archive::note(config)).ok().flatten();
    Here {
        durable: ours.and_then(|stat| stat.last).map(|(position, _)| position),
        noted: noted.filter(|noted| noted.is_of(store, identity)),
    }
}

fn delayed(status: &ArchiveStatus, here: &Here) -> Option<u64> {
    here.durable.map(|durable| durable.0.saturating_sub(status.archived.0))
}

fn text(status: &ArchiveStatus, here: &Here, store: &Arc<dyn Store>) -> String {
    let (parts, bytes) = status.present;
    let mut text = format!(
        "archive of log {} on branch {} at {}\n  present    positions 1 to {}, of {}; {parts} parts, \
         {bytes} bytes\n",
        status.log_id,
        status.timeline,
        store.place(),
        status.archived,
        time::format(status.archived_time),
    );
    if let (Some(delayed), Some(durable)) = (delayed(status, here), here.durable) {
        text.push_str(&format!("  delayed    {delayed} positions: the log is at {durable}\n"));
    }
    for (key, parts) in &status.keys {
        text.push_str(&format!("  keys       {}\n", key_line(*key, *parts, &**store)));
    }
    let uploading = status.uploading.len();
    text.push_str(&format!("  uploading  {uploading} objects that no manifest names\n"));
    text.push_str(&format!("  lost       {} parts\n", status.lost.len()));
    for lost in &status.lost {
        let (first, last) = (lost.content.first(), lost.content.last());
        text.push_str(&format!("    positions {first} to {last}\n"));
    }
    for problem in &status.problems {
        text.push_str(&format!("  {problem}\n"));
    }
    for signer in &status.signers {
        text.push_str(&format!("  signed by  {signer}\n"));
    }
    text
}

/// What a key is needed for, and whether it is here.
fn key_line(key: Option<KeyId>, parts: u64, store: &dyn Store) -> String {
    match key {
        None => format!("none: {parts} parts are in the clear"),
        Some(id) if store.keys().has(id) => format!("{id} opens {parts} parts"),
        Some(id) => format!("{id} opens {parts} parts, and is not in encryption.keys"),
    }
}

fn status_json(status: &ArchiveStatus, here: &Here, store: &Arc<dyn Store>) -> serde_json::Value {
    let of_key = |(key, parts): (&Option<KeyId>, &u64)| {
        let here = key.is_none_or(|id| store.keys().has(id));
        json!({ "key_id": key.map(|id| id.to_string()), "parts": parts, "here": here })
    };
    let range = |part: &PartEntry| json!({ "first": part.content.first().0, "last": part.content.last().0 });
    json!({
        "place": store.place(),
        "log_id": status.log_id.to_string(),
        "branch": status.timeline.to_string(),
        "archived": status.archived.0,
        "archived_time": time::format(status.archived_time),
        "made_at": time::format(status.made_at),
        "parts": status.present.0,
        "bytes": status.present.1,
        "delayed": delayed(status, here),
        "durable": here.durable.map(|durable| durable.0),
        "uploading": status.uploading,
        "lost": status.lost.iter().map(range).collect::<Vec<_>>(),
        "problems": status.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "signed_by": status.signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "keys": status.keys.iter().map(of_key).collect::<Vec<_>>(),
        "whole": status.whole(),
    })
}
