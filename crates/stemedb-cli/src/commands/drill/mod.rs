//! `drill`: the database brought back while nothing is wrong, and held against the node that has it.
//!
//! | module | what |
//! |---|---|
//! | here | what is brought back from where, and whether it is the same |
//! | `failover` | a standby takes the place of the node, in a scratch folder |
//! | `course` | how long each step takes, and how far it is when |
//! | `report` | what is told of it: text, JSON, a page with a chart |

mod course;
mod failover;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use stemedb_engine::Progress;
use stemedb_log::{Cutter, Link, LogError};
use stemedb_model::{LogId, Millis, Position, Timeline};
use stemedb_remote::{
    Backup, RemoteError, RestorePlan, RestoreTo, Restored, Store, Target, restore, restore_files,
};
use stemedb_server::wire;

use self::course::Course;
use self::report::{Pair, Report};
use super::admin::{roots_from, roots_in};
use super::backup::{self, Wanted};
use super::serve::PlaceArgs;
use crate::archive::{self, BackupArgs, StoreArgs, TrustArgs};
use crate::config::{Config, duration};
use crate::context::Context;
use crate::failure::Failure;
use crate::operations::{self, BackupNote, DrillNote};
use crate::remote::{Remote, RemoteArgs};
use crate::{database, time};

/// Length of the segment in which the log in the scratch folder would go on.
const SCRATCH_SEGMENT: u64 = 1 << 20;

/// Bring the database back into a scratch folder, and compare it with the running node.
///
/// Needs the node running, its data folder on this machine, and room for a second log and index. Log root
/// and answer root must be those of the node at the same position. Told are what a loss at this moment
/// would have cost (RPO) and how long the way back takes (RTO). Nothing of the node changes; a note is left
/// that its server exports. Exit status: 0 it is the same, 1 it is not or cannot be brought back, 2 it
/// could not be tried.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb drill backup --data-dir ./stemedb-data --store /mnt/backups
  stemedb drill restore --report ./drills
  stemedb drill failover --watch 1m
  stemedb drill restore --backup newest --scratch /mnt/scratch --json")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make a backup, bring the database back from it, compare.
    ///
    /// The moment of the loss is when the backup is done. The backup stays, and counts as verified.
    #[command(after_help = "Examples:
  stemedb drill backup
  stemedb drill backup --store /mnt/backups --report ./drills")]
    Backup(With),
    /// Bring the database back from what is there already, as after a loss at this moment.
    ///
    /// From the archive as it is, or with --backup from a backup.
    #[command(after_help = "Examples:
  stemedb drill restore
  stemedb drill restore --backup newest --json")]
    Restore {
        /// From this backup, or `newest`, instead of the archive.
        #[arg(long, value_name = "ID")]
        backup: Option<String>,
        #[command(flatten)]
        with: With,
    },
    /// Have a standby in a scratch folder follow the running node, and take its place there.
    ///
    /// Told are how far behind it was at most while it was watched, what would have been lost at that
    /// moment (RPO), and how long a promotion takes (RTO): the last look into the archive, the end of the
    /// log, the start as a primary, and the lease and the skew as they are set, since nothing is put into the archive
    /// and the node keeps its lease. `stemedb admin promote` is the real thing.
    #[command(after_help = "Examples:
  stemedb drill failover
  stemedb drill failover --watch 5m --report ./drills")]
    Failover {
        /// How long it is watched, as 30s; while nothing is written there is nothing to be behind.
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = length)]
        watch: Duration,
        #[command(flatten)]
        with: With,
    },
}

/// A length of time.
fn length(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| format!("`{text}` is no length of time: 500ms, 30s, 5m, 1h"))
}

/// What every drill is told.
#[derive(Debug, clap::Args)]
struct With {
    /// Address of the backups or the archive, instead of backup.url or archive.url.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where the scratch folder is made; it goes afterwards.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Write a report into this folder: Markdown, JSON and a chart.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// The files of a log show a moment after the last write that it was durable.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The node, as it was when the loss is thought to be.
struct Loss {
    at: Millis,
    durable: Position,
}

/// Where the database comes back from.
struct Source {
    store: Arc<dyn Store>,
    plan: RestorePlan,
    backup: Option<Backup>,
}

/// What came back, and what the node has at the same place.
struct Back {
    restored: Restored,
    roots: wire::Roots,
    /// Of the node.
    link: Link,
    theirs: wire::Roots,
    /// When the oldest record that did not come back was committed.
    oldest: Option<Millis>,
}

struct Drill<'a> {
    with: &'a With,
    context: &'a Context,
    config: Config,
    identity: (LogId, Timeline),
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match &args.act {
        Act::Backup(with) => Drill::of(with, context)?.backup(),
        Act::Restore { backup, with } => Drill::of(with, context)?.restore(backup.as_deref()),
        Act::Failover { watch, with } => Drill::of(with, context)?.failover(*watch),
    }
}

impl<'a> Drill<'a> {
    fn of(with: &'a With, context: &'a Context) -> Result<Self, Failure> {
        let config = with.place.load(Vec::new())?.config;
        let Some(identity) = database::read_marker(&config.node_dir())? else {
            let dir = config.server.data_dir.display();
            return Err(Failure::error(format!("there is no database in {dir}"))
                .hint("--data-dir DIR names the folder of the running node"));
        };
        Ok(Self { with, context, config, identity })
    }

    fn backups(&self) -> BackupArgs {
        let (store, trust) = (self.with.store.clone(), self.with.trust.clone());
        BackupArgs { store, log: Some(self.identity.0), trust }
    }

    fn backup(&self) -> Result<(), Failure> {
        self.loss()?;
        let store = self.backups().open(&self.config)?;
        let made = backup::make(&self.config, &*store, 0, self.context)?;
        let (loss, mut course) = (self.loss()?, self.course());
        let plan = made.backup.plan(&*store, &self.context.env, Target::Newest);
        course.step("plan");
        let source = Source { plan: plan.map_err(refused)?, store, backup: Some(made.backup) };
        self.compare(operations::DRILL_BACKUP, &source, loss, course, true)
    }

    fn restore(&self, id: Option<&str>) -> Result<(), Failure> {
        let env = &self.context.env;
        let (loss, mut course) = (self.loss()?, self.course());
        let source = match id {
            None => {
                let (store, trust) = (self.with.store.clone(), self.with.trust.clone());
                let store =
                    StoreArgs { store, log: None, branch: None, trust }.open(&self.config)?;
                let plan = RestorePlan::of_archive(&*store, env, self.identity, Target::Newest);
                let plan = plan.map_err(refused)?;
                self.with.trust.believe(&*store, &self.config, env, &plan.signers)?;
                Source { plan, store, backup: None }
            }
            Some(id) => {
                let store = self.backups().open(&self.config)?;
                let wanted = Wanted { log_id: self.identity.0, id: Some(id), branch: None };
                let (one, signer) = wanted.find(&*store, &self.config, self.context)?;
                self.with.trust.believe(&*store, &self.config, env, &BTreeSet::from([signer]))?;
                let plan = one.plan(&*store, env, Target::Newest).map_err(refused)?;
                Source { plan, store, backup: Some(one) }
            }
        };
        course.step("plan");
        self.compare(operations::DRILL_RESTORE, &source, loss, course, id == Some("newest"))
    }

    fn course(&self) -> Course {
        Course::begin(Arc::clone(&self.context.env.clock))
    }

    /// Asks the node where it is.
    fn loss(&self) -> Result<Loss, Failure> {
        let remote = self.with.remote.connect()?;
        let node: wire::Node = remote.get("/v1/admin/node", &[])?.read()?;
        self.is_ours(&node, &remote)?;
        let at = Millis(self.context.env.clock.now_ms());
        Ok(Loss { at, durable: Position(node.durable) })
    }

    fn is_ours(&self, node: &wire::Node, remote: &Remote) -> Result<(), Failure> {
        if (node.log_id.0, node.timeline.0) == self.identity {
            return Ok(());
        }
        let (log_id, timeline) = self.identity;
        let what = format!(
            "{} serves database {} on branch {}, and {} holds {log_id} on {timeline}",
            remote.url(),
            node.log_id.0,
            node.timeline.0,
            self.config.server.data_dir.display(),
        );
        Err(Failure::error(what).hint("--url or --socket, and --data-dir, name one node"))
    }

    /// Brings it back, compares it, tells of it. `newest`: of all backups it is that one.
    fn compare(
        &self,
        name: &'static str,
        source: &Source,
        loss: Loss,
        mut course: Course,
        newest: bool,
    ) -> Result<(), Failure> {
        let back = self.bring_back(source, &mut course)?;
        let report = self.report(name, source, &loss, &back, &course);
        if let Some(dir) = &self.with.report {
            report.write(dir, &course)?;
        }
        if self.context.json {
            self.context.print_json(&report)?;
        } else {
            self.context.print(&report.text())?;
        }
        if !report.same {
            let what = format!("what came back is not what the node has at {}", report.position);
            return Err(Failure::no(what).hint("stemedb wal verify; stemedb archive status"));
        }
        let at_ms = self.context.env.clock.now_ms();
        let note =
            DrillNote { at_ms, rpo_seconds: report.rpo_seconds, rto_seconds: report.rto_seconds };
        operations::drilled(&self.config, self.context, self.identity.0, name, &note);
        if let (Some(one), true) = (&source.backup, newest) {
            let note = BackupNote { id: one.id.clone(), position: one.end.position.0, at_ms };
            operations::backup_verified(&self.config, self.context, self.identity.0, &note);
        }
        Ok(())
    }

    fn bring_back(&self, source: &Source, course: &mut Course) -> Result<Back, Failure> {
        let (env, plan) = (&self.context.env, &source.plan);
        let scratch = self.scratch(plan.bytes())?;
        // Nothing of the node's configuration: it may name folders that are in use.
        let mut config = Config::default();
        config.server.data_dir = scratch.path().to_owned();
        config.wal.segment_bytes = SCRATCH_SEGMENT;
        let restored = self.put_together(source, &config, course)?;
        if let Some(one) = &source.backup {
            let (node, leave_out) = (config.node_dir(), [database::MARKER.to_owned()]);
            database::make_private(&node)?;
            restore_files(&*source.store, env, one, &node, &leave_out).map_err(refused)?;
            course.step("files");
        }
        let engine = database::open(&config, env, None)?.engine;
        let ready = engine.wait_ready(|Progress { applied, durable }| {
            course.index(applied.0 as f64 / durable.0.max(1) as f64);
        });
        ready.map_err(|error| Failure::error("cannot recover the database").because(error))?;
        course.step("index");
        let roots = roots_in(&engine, None, None)?;
        super::admin::close(&engine, &config)?;
        let (link, oldest) = self.of_the_node(restored.end.position)?;
        let theirs =
            roots_from(&self.with.remote, Some(roots.position), Some(roots.evaluated_at.0))?;
        Ok(Back { restored, roots, link, theirs, oldest })
    }

    fn scratch(&self, needs: u64) -> Result<tempfile::TempDir, Failure> {
        let made = match &self.with.scratch {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        let hint = "--scratch DIR names a folder with room";
        let made = made.map_err(|error| {
            Failure::error("cannot make a scratch folder").because(error).hint(hint)
        })?;
        let shown = made.path().display();
        let room = self.context.env.vfs.space(made.path()).map_err(|error| {
            Failure::error(format!("cannot tell what room {shown} has")).because(error)
        })?;
        if room.available <= needs {
            let what =
                format!("{shown} has room for {} bytes, and {needs} come back", room.available);
            return Err(Failure::error(what).hint(hint));
        }
        Ok(made)
    }

    fn put_together(
        &self,
        source: &Source,
        config: &Config,
        course: &mut Course,
    ) -> Result<Restored, Failure> {
        let (env, plan) = (&self.context.env, &source.plan);
        let (dir, mut name) = (config.wal_dir(), [0; 16]);
        env.rng.fill(&mut name);
        let to = RestoreTo { dir: &dir, timeline: Timeline(name), segment_bytes: SCRATCH_SEGMENT };
        let bar = self.context.progress(Some(plan.bytes()), "bytes");
        bar.set_message("restore");
        let restored = restore(&*source.store, env, plan, to, &mut |bytes| {
            bar.set_position(bytes);
            course.log(bytes as f64 / plan.bytes().max(1) as f64);
            if bytes == plan.bytes() {
                course.step("fetch");
            }
        });
        bar.finish_and_clear();
        let restored = restored.map_err(refused)?;
        course.step("prove");
        Ok(restored)
    }

    /// The log root of the node behind this position, and when what comes after it was committed.
    fn of_the_node(&self, position: Position) -> Result<(Link, Option<Millis>), Failure> {
        let dir = self.config.wal_dir();
        let failed = |error| {
            Failure::error(format!("cannot read the log in {}", dir.display()))
                .because(error)
                .hint(format!("stemedb wal verify {}", dir.display()))
        };
        let clock = &self.context.env.clock;
        let until = clock.monotonic() + SHOWN_WITHIN;
        let mut cutter = Cutter::of_folder(&dir, &self.context.env).map_err(failed)?;
        while cutter.durable().0.position < position && clock.monotonic() < until {
            clock.sleep(LOOK_EVERY);
            cutter = Cutter::of_folder(&dir, &self.context.env).map_err(failed)?;
        }
        let link = match cutter.seek(position) {
            Err(LogError::Refused(why)) => {
                let what = format!("the log of the node is another than what came back: {why}");
                return Err(Failure::no(what).hint("stemedb archive status"));
            }
            link => link.map_err(failed)?,
        };
        Ok((link, cutter.next_recorded_at().map_err(failed)?))
    }

    fn report(
        &self,
        name: &'static str,
        source: &Source,
        loss: &Loss,
        back: &Back,
        course: &Course,
    ) -> Report {
        let Source { store, plan, backup } = source;
        let end = back.restored.end;
        let missing = loss.durable.0.saturating_sub(end.position.0);
        // Where the files do not show yet what comes next, it is not older than what came back.
        let since = back.oldest.unwrap_or(plan.recorded_at);
        let age_ms = if missing == 0 { 0 } else { (loss.at.0 - since.0).max(0) };
        let log_root = Pair::of(&end.chain, &back.link.chain);
        let answer_root = Pair::of(&back.roots.answer_root.0, &back.theirs.answer_root.0);
        let fetch = course.seconds_of("fetch");
        Report {
            drill: name,
            same: log_root.same() && answer_root.same() && end == back.link,
            at: time::format(loss.at),
            log_id: self.identity.0.to_string(),
            branch: self.identity.1.to_string(),
            place: store.place(),
            backup: backup.as_ref().map(|one| one.id.clone()),
            position: end.position.0,
            recorded_at: time::format(plan.recorded_at),
            durable: loss.durable.0,
            records: back.restored.records,
            keys: back.roots.keys,
            rpo_positions: missing,
            rpo_seconds: age_ms as f64 / 1e3,
            rto_seconds: course.total(),
            bytes: plan.bytes(),
            bytes_per_second: if fetch > 0.0 { plan.bytes() as f64 / fetch } else { 0.0 },
            steps: course.steps().to_vec(),
            log_root,
            answer_root,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// What is damaged or not there is an answer; all else is a failure to try.
fn refused(error: RemoteError) -> Failure {
    match &error {
        RemoteError::Damaged { .. } | RemoteError::Gap { .. } | RemoteError::Manifest { .. } => {
            Failure::no(format!("it cannot be brought back: {error}"))
                .hint("stemedb archive status; stemedb backup verify")
        }
        _ => archive::failure(error),
    }
}
