//! `drill failover`: a standby is made in a scratch folder, follows the running node, and takes its place
//! there. The node is not touched: nothing is put into its archive, and its lease stays its own, so how
//! long the lease is waited for is taken from what is in the archive and in the configuration.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Engine, EngineConfig};
use stemedb_log::Composed;
use stemedb_model::{LogId, Position, Timeline};
use stemedb_remote::{FollowConfig, RestorePlan, Standby, Step, Store, Target, newest_lease};
use stemedb_server::wire;

use super::course::Course;
use super::report::{Failover, Pair};
use super::{Drill, Loss, SCRATCH_SEGMENT, refused};
use crate::archive::StoreArgs;
use crate::commands::admin::{close, roots_from, roots_in};
use crate::config::{Config, duration};
use crate::failure::Failure;
use crate::operations::{self, DrillNote};
use crate::{database, standby, time};

/// How often a standby looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far node and standby were while they were watched.
#[derive(Default)]
pub(super) struct Watched {
    /// Positions by seconds.
    pub(super) node: Vec<(f64, f64)>,
    pub(super) standby: Vec<(f64, f64)>,
    /// The most that the standby was behind.
    pub(super) positions: u64,
    /// The longest that it had not had everything.
    pub(super) lag: Duration,
    /// Seconds from nothing to a standby that follows.
    pub(super) follow: f64,
}

impl Watched {
    /// How much was written meanwhile.
    fn written(&self) -> u64 {
        let at = |point: Option<&(f64, f64)>| point.map_or(0.0, |(_, position)| *position);
        (at(self.node.last()) - at(self.node.first())).max(0.0) as u64
    }
}

/// The time for which a lease is waited, if there is one.
struct Wait {
    lease: Option<Duration>,
    skew: Duration,
}

impl Wait {
    fn seconds(&self) -> f64 {
        self.lease.map_or(0.0, |lease| (lease + self.skew).as_secs_f64())
    }
}

/// A standby of the drill's own, with an index that is kept up.
struct Shadow<'a> {
    drill: &'a Drill<'a>,
    config: Config,
    standby: Standby,
    engine: Arc<Engine>,
}

/// What took the place of the node.
struct Taken {
    composed: Composed,
    roots: wire::Roots,
}

impl Drill<'_> {
    pub(super) fn failover(&self, watch: Duration) -> Result<(), Failure> {
        let env = &self.context.env;
        self.loss()?;
        let (store, trust) = (self.with.store.clone(), self.with.trust.clone());
        let store = StoreArgs { store, log: None, branch: None, trust }.open(&self.config)?;
        let plan = RestorePlan::of_archive(&*store, env, self.identity, Target::Newest);
        let plan = plan.map_err(refused)?;
        self.with.trust.believe(&*store, &self.config, env, &plan.signers)?;
        let lease = newest_lease(&*store, self.identity.0).map_err(refused)?;
        let wait = Wait {
            lease: lease.map(|lease| lease.time),
            // Checked when the configuration was.
            skew: duration(&self.config.cluster.skew).unwrap_or_default(),
        };
        let scratch = self.scratch(plan.bytes())?;
        let mut follow = self.course();
        let mut shadow = Shadow::begin(self, &store, scratch.path())?;
        follow.step("follow");
        let watched = Watched { follow: follow.total(), ..shadow.watch(watch)? };

        let (loss, mut course) = (self.loss()?, self.course());
        let taken = shadow.take_over(&mut course)?;
        let report = self.failover_report(&*store, &wait, &watched, &loss, &course, taken)?;
        if let Some(dir) = &self.with.report {
            report.write(dir, &watched)?;
        }
        if self.context.json {
            self.context.print_json(&report)?;
        } else {
            self.context.print(&report.text())?;
        }
        if !report.same {
            let what = format!("what took over is not what the node has at {}", report.position);
            return Err(Failure::no(what).hint("stemedb wal verify; stemedb archive status"));
        }
        let note = DrillNote {
            at_ms: env.clock.now_ms(),
            rpo_seconds: report.rpo_seconds,
            rto_seconds: report.rto_seconds,
        };
        let name = operations::DRILL_FAILOVER;
        operations::drilled(&self.config, self.context, self.identity.0, name, &note);
        Ok(())
    }

    fn failover_report(
        &self,
        store: &dyn Store,
        wait: &Wait,
        watched: &Watched,
        loss: &Loss,
        course: &Course,
        taken: Taken,
    ) -> Result<Failover, Failure> {
        let Taken { composed, roots } = taken;
        let end = composed.end;
        let (link, oldest) = self.of_the_node(end.position)?;
        let theirs =
            roots_from(&self.with.remote, Some(roots.position), Some(roots.evaluated_at.0))?;
        let missing = loss.durable.0.saturating_sub(end.position.0);
        let since = oldest.unwrap_or(composed.recorded_at);
        let age_ms = if missing == 0 { 0 } else { (loss.at.0 - since.0).max(0) };
        let log_root = Pair::of(&end.chain, &link.chain);
        let answer_root = Pair::of(&roots.answer_root.0, &theirs.answer_root.0);
        Ok(Failover {
            drill: operations::DRILL_FAILOVER,
            same: log_root.same() && answer_root.same() && end == link,
            at: time::format(loss.at),
            log_id: self.identity.0.to_string(),
            branch: self.identity.1.to_string(),
            place: store.place(),
            position: end.position.0,
            durable: loss.durable.0,
            keys: roots.keys,
            rpo_positions: missing,
            rpo_seconds: age_ms as f64 / 1e3,
            rto_seconds: wait.seconds() + course.total(),
            lease_seconds: wait.lease.map(|lease| lease.as_secs_f64()),
            skew_seconds: wait.skew.as_secs_f64(),
            watched_seconds: watched.node.last().map_or(0.0, |(at, _)| *at),
            written: watched.written(),
            lag_positions_max: watched.positions,
            lag_seconds_max: watched.lag.as_secs_f64(),
            follow_seconds: watched.follow,
            steps: course.steps().to_vec(),
            log_root,
            answer_root,
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

impl<'a> Shadow<'a> {
    /// Fetches everything that there is, and makes the index of it.
    fn begin(drill: &'a Drill<'_>, store: &Arc<dyn Store>, dir: &Path) -> Result<Self, Failure> {
        let env = &drill.context.env;
        // Nothing of the node's configuration: it may name folders that are in use.
        let mut config = Config::default();
        config.server.data_dir = dir.to_owned();
        config.wal.segment_bytes = SCRATCH_SEGMENT;
        database::make_private(&config.node_dir())?;
        let settings = FollowConfig {
            every: LOOK_EVERY,
            keys: drill.with.trust.believed(&drill.config, env)?,
            segment_bytes: SCRATCH_SEGMENT,
        };
        let (wal, identity) = (config.wal_dir(), drill.identity);
        let standby = Standby::new(Arc::clone(store), env.clone(), &wal, identity, settings);
        let mut standby = standby.map_err(refused)?;
        fetch(&mut standby)?;
        if standby.position() == Position::NONE {
            let what = format!("{} holds no record of this log yet", store.place());
            return Err(Failure::no(what).hint("stemedb archive status"));
        }
        let index = database::open_index(&config, identity)?;
        let settings = EngineConfig { standby: true, ..config.engine() };
        let engine = Engine::open(settings, env.clone(), standby.log(), index).map_err(broken)?;
        engine.wait_ready(|_| ()).map_err(broken)?;
        Ok(Self { drill, config, standby, engine })
    }

    /// What is new in the archive, in log and index.
    fn look(&mut self) -> Result<(), Failure> {
        fetch(&mut self.standby)?;
        self.engine.catch_up().map(drop).map_err(broken)
    }

    /// Holds it against the node for so long.
    fn watch(&mut self, time: Duration) -> Result<Watched, Failure> {
        let clock = Arc::clone(&self.drill.context.env.clock);
        let began = clock.monotonic();
        let (mut watched, mut asked, mut level_at) = (Watched::default(), VecDeque::new(), began);
        let seconds = |at: Duration| at.saturating_sub(began).as_secs_f64();
        loop {
            let (at, durable) = (clock.monotonic(), self.drill.loss()?.durable.0);
            asked.push_back((at, durable));
            let before = self.standby.position().0;
            watched.node.push((seconds(at), durable as f64));
            watched.standby.push((seconds(at), before as f64));
            watched.positions = watched.positions.max(durable.saturating_sub(before));
            self.look()?;
            let here = self.standby.position().0;
            while let Some((at, _)) = asked.pop_front_if(|(_, durable)| *durable <= here) {
                level_at = at;
            }
            let now = clock.monotonic();
            watched.lag = watched.lag.max(now.saturating_sub(level_at));
            if now.saturating_sub(began) >= time {
                return Ok(watched);
            }
            clock.sleep(LOOK_EVERY);
        }
    }

    /// The last look, the end of the log that was followed, and the start as a database of its own.
    fn take_over(mut self, course: &mut Course) -> Result<Taken, Failure> {
        let drill = self.drill;
        let env = &drill.context.env;
        let (log_id, followed): (LogId, Timeline) = drill.identity;
        self.look()?;
        course.step("look");
        let Self { config, standby, engine, .. } = self;
        close(&engine, &config)?;
        drop(engine);
        let mut name = [0; 16];
        env.rng.fill(&mut name);
        let branch = Timeline(name);
        let composed = standby.finish(branch).map_err(refused)?;
        standby::own(&config, env, log_id, (followed, branch))?;
        course.step("log");
        let engine = database::open(&config, env, None)?.engine;
        engine.wait_ready(|_| ()).map_err(broken)?;
        course.step("open");
        let roots = roots_in(&engine, None, None)?;
        close(&engine, &config)?;
        Ok(Taken { composed, roots })
    }
}

fn fetch(standby: &mut Standby) -> Result<(), Failure> {
    while standby.step().map_err(refused)? == Step::Worked {}
    Ok(())
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::error("cannot open the database of the scratch standby").because(error)
}
