//! A standby: a log that follows its archive, part by part, each proved as a restore proves it. It can be
//! read meanwhile, and becomes a log of its own when the standby is promoted.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stemedb_io::{Clock, Env};
use stemedb_log::{Composed, Follower, Link, Log};
use stemedb_model::{AgentId, Hash, LogId, Millis, Position, Timeline};

use crate::archiver::Step;
use crate::catalogue::{History, Placed, read};
use crate::codec::believe;
use crate::error::RemoteError;
use crate::lease::newest_lease;
use crate::names;
use crate::parallel;
use crate::restore::{Needed, fetch};
use crate::store::Store;
use crate::telemetry;

/// Parts that are fetched at once: their bytes are in memory.
const FETCHERS: usize = 4;
/// The first wait after a failure; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Settings of a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowConfig {
    /// How often it is looked whether there is something new.
    pub every: Duration,
    /// Whose manifests are believed.
    pub keys: Vec<AgentId>,
    /// Length of the segment in which the log goes on when the standby is promoted.
    pub segment_bytes: u64,
}

/// What a standby is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FollowState {
    /// It fetches what it lacks.
    #[default]
    CatchingUp,
    /// It has what was there at the last look.
    Following,
    /// It could not go on and tries again.
    Failing {
        /// Why.
        problem: String,
    },
    /// It cannot go on before somebody looks.
    Stopped {
        /// Why, and what to do.
        problem: String,
    },
}

impl FollowState {
    /// The name in answers and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Following => "following",
            Self::Failing { .. } => "failing",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// A standby at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowProgress {
    /// What it is doing.
    pub state: FollowState,
    /// Newest position here.
    pub position: Position,
    /// When the record there was committed.
    pub recorded_at: Millis,
    /// Newest position that is known of the primary: from its lease, else from the archive.
    pub primary_position: Position,
    /// Where the primary is, if its lease says so.
    pub primary: String,
    /// How long ago this node last had everything that was known of the primary then.
    pub lag: Duration,
}

impl FollowProgress {
    /// How many positions it is behind.
    pub fn lag_positions(&self) -> u64 {
        self.primary_position.0.saturating_sub(self.position.0)
    }
}

/// Follows the archive of one branch.
pub struct Standby {
    store: Arc<dyn Store>,
    env: Env,
    config: FollowConfig,
    identity: (LogId, Timeline),
    follower: Follower,
    /// The newest manifest that was read.
    known: Option<(u64, Hash)>,
    /// Parts that are to be fetched, in order.
    waiting: VecDeque<Placed>,
    /// Everything up to here is in the archive.
    archived: Position,
    recorded_at: Millis,
    /// Adding a part failed: nothing more can be added.
    broken: Option<String>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    progress: FollowProgress,
    /// When it last had everything.
    level_at: Duration,
    /// What it has to have to have everything, and since when that is known.
    goal: Option<(Position, Duration)>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standby").field("follower", &self.follower).finish_non_exhaustive()
    }
}

impl Standby {
    /// Of a branch, in the folder `dir`, which is empty or holds what a standby has left. Asks nothing
    /// of the store yet.
    pub fn new(
        store: Arc<dyn Store>,
        env: Env,
        dir: &Path,
        identity: (LogId, Timeline),
        config: FollowConfig,
    ) -> Result<Self, RemoteError> {
        let follower = Follower::new(&env, dir, identity, config.segment_bytes)?;
        let level_at = env.clock.monotonic();
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner { level_at, ..Inner::default() }),
            changed: Condvar::new(),
        });
        telemetry::replica_registered();
        Ok(Self {
            store,
            env,
            config,
            identity,
            follower,
            known: None,
            waiting: VecDeque::new(),
            archived: Position::NONE,
            recorded_at: Millis(i64::MIN),
            broken: None,
            shared,
        })
    }

    /// The log, to be read.
    pub fn log(&self) -> Box<dyn Log> {
        self.follower.log()
    }

    /// What it is doing.
    pub fn progress(&self) -> FollowProgress {
        progress(&self.shared.lock(), &*self.env.clock)
    }

    /// Newest position here.
    pub fn position(&self) -> Position {
        self.follower.end().map(|end| end.position).unwrap_or_default()
    }

    /// Fetches and adds some parts, or looks whether there are more.
    pub fn step(&mut self) -> Result<Step, RemoteError> {
        let result = self.work();
        self.tell(&result);
        result
    }

    fn work(&mut self) -> Result<Step, RemoteError> {
        if let Some(problem) = &self.broken {
            return Err(RemoteError::Refused(format!(
                "the log of this standby cannot go on: {problem}; start the node again"
            )));
        }
        if self.waiting.is_empty() && !self.look()? {
            return Ok(Step::Idle);
        }
        let some: Vec<Placed> = self.waiting.iter().take(FETCHERS).cloned().collect();
        let (store, env) = (&*self.store, &self.env);
        let needed: Vec<Needed> = some
            .iter()
            .map(|part| Needed { name: part.name(), entry: part.entry.clone() })
            .collect();
        let fetched = parallel::each(&needed, FETCHERS, |part| fetch(store, env, part))?;
        for (part, bytes) in needed.iter().zip(fetched) {
            let added = self.follower.add(&part.name, &bytes);
            if let Err(error) = &added {
                self.broken = Some(error.to_string());
            }
            self.recorded_at = added?.ended_at;
            self.waiting.pop_front();
        }
        Ok(Step::Worked)
    }

    /// Finds out what is new in the archive; whether there is something.
    fn look(&mut self) -> Result<bool, RemoteError> {
        let (log_id, _) = self.identity;
        let looked = self.env.clock.monotonic();
        // What the primary had, before what is there of it.
        let lease = newest_lease(&*self.store, log_id)?;
        let new = match self.known {
            None => self.read_all()?,
            Some(known) => match self.read_new(known)? {
                Some(new) => new,
                // Not simply the next ones: everything is looked at.
                None => self.read_all()?,
            },
        };
        self.waiting.extend(new);
        let mut inner = self.shared.lock();
        let mut goal = self.archived;
        if let Some(lease) = lease {
            inner.progress.primary.clone_from(&lease.address);
            // Also of another branch: whoever stays on this one, as long as it cannot follow the other, is
            // behind what is written there.
            goal = goal.max(lease.position);
        }
        inner.progress.primary_position = goal;
        inner.goal = Some((goal, looked));
        Ok(!self.waiting.is_empty())
    }

    /// All that is in the archive and not here.
    fn read_all(&mut self) -> Result<Vec<Placed>, RemoteError> {
        let (log_id, timeline) = self.identity;
        let history = History::load(&*self.store, log_id, timeline)?;
        let Some(history) = history else {
            return Err(RemoteError::Refused(format!(
                "{} holds no archive of log {log_id} on branch {timeline}",
                self.store.place()
            )));
        };
        self.believe(&history.signers())?;
        let Some(newest) = history.newest() else { return Ok(Vec::new()) };
        self.known = Some(newest.newest);
        self.archived = newest.end.0.position;
        let here = self.position();
        let new: Vec<Placed> =
            history.parts.into_iter().filter(|part| part.entry.content.last() > here).collect();
        self.check(&new)?;
        Ok(new)
    }

    /// What the manifests behind the known one name. `None`: one of them does not simply follow.
    fn read_new(&mut self, known: (u64, Hash)) -> Result<Option<Vec<Placed>>, RemoteError> {
        let (log_id, timeline) = self.identity;
        let after = names::manifest(log_id, timeline, known.0);
        let there = self.store.list(&names::manifests(log_id, timeline), &after)?;
        let (mut before, mut end) = (known, self.archived);
        let mut new = Vec::new();
        for number in there.iter().filter_map(|one| names::manifest_number(&one.name)) {
            let (_, Ok((manifest, key, hash))) = read(&*self.store, log_id, timeline, number)?
            else {
                return Ok(None);
            };
            if number != before.0 + 1 || manifest.previous != Some(before.1) {
                return Ok(None);
            }
            self.believe([&key])?;
            // A checkpoint names older ones, too, and so does one that puts back what was lost.
            let behind = |part: &&crate::manifest::PartEntry| part.content.start.position >= end;
            let parts = manifest.parts.iter().filter(behind);
            new.extend(parts.map(|entry| Placed { archive: timeline, entry: entry.clone() }));
            (before, end) = ((number, hash), manifest.end.position);
        }
        self.check(&new)?;
        (self.known, self.archived) = (Some(before), end);
        Ok(Some(new))
    }

    fn believe<'a>(
        &self,
        signers: impl IntoIterator<Item = &'a AgentId>,
    ) -> Result<(), RemoteError> {
        believe(&self.store.place(), signers, &self.config.keys)
    }

    /// Each of these parts begins where the one before it, or the log here, ends.
    fn check(&self, new: &[Placed]) -> Result<(), RemoteError> {
        let mut at: Option<Link> = self.follower.end();
        for part in new {
            let start = part.entry.content.start;
            let here = at.map_or(Position::NONE, |link| link.position);
            if start.position > here {
                return Err(RemoteError::Gap { first: here.next(), last: start.position });
            }
            if at.is_some_and(|link| link != start) {
                return Err(RemoteError::Refused(format!(
                    "{} goes on from another history than the log here, which is at position {here}: \
                     `stemedb rejoin` saves what only this log has and begins again",
                    part.name()
                )));
            }
            at = Some(part.entry.content.end);
        }
        Ok(())
    }

    fn tell(&self, result: &Result<Step, RemoteError>) {
        let mut inner = self.shared.lock();
        inner.progress.position = self.position();
        inner.progress.recorded_at = self.recorded_at;
        if let Some((goal, at)) = inner.goal
            && inner.progress.position >= goal
        {
            inner.level_at = inner.level_at.max(at);
        }
        inner.progress.state = match result {
            Ok(Step::Idle) => FollowState::Following,
            Ok(Step::Worked) => FollowState::CatchingUp,
            Err(error) if error.passes() && self.broken.is_none() => {
                FollowState::Failing { problem: error.to_string() }
            }
            Err(error) => FollowState::Stopped { problem: error.to_string() },
        };
        telemetry::replica(&progress(&inner, &*self.env.clock));
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// Follows on a thread of its own until it is told to stop. `added` is called when there is more to
    /// read, and `looked` about as often as it is looked for more.
    pub fn start(
        self,
        mut added: impl FnMut() -> Result<(), String> + Send + 'static,
        mut looked: impl FnMut(&FollowProgress) + Send + 'static,
    ) -> Result<FollowHandle, RemoteError> {
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.env.clock));
        let run = move || self.run(&mut added, &mut looked);
        let thread = std::thread::Builder::new().name("standby".into()).spawn(run);
        let thread = thread.map_err(|source| RemoteError::File {
            act: "start",
            file: "a thread".into(),
            source,
        })?;
        Ok(FollowHandle { shared, clock, thread })
    }

    fn run(
        mut self,
        added: &mut dyn FnMut() -> Result<(), String>,
        looked: &mut dyn FnMut(&FollowProgress),
    ) -> Self {
        let mut wait = RETRY_FIRST;
        loop {
            let pause = match self.step() {
                Ok(step) => {
                    wait = RETRY_FIRST;
                    match step {
                        Step::Worked => {
                            if let Err(problem) = added() {
                                tracing::error!(problem, "what was added cannot be read");
                            }
                            Duration::ZERO
                        }
                        Step::Idle => {
                            looked(&self.progress());
                            self.config.every
                        }
                    }
                }
                Err(error) => {
                    telemetry::replica_failed();
                    tracing::error!(%error, retry_in_ms = wait.as_millis(), "cannot follow the archive");
                    let pause = wait;
                    wait = (wait * 2).min(RETRY_MOST);
                    pause
                }
            };
            let inner = self.shared.lock();
            let waited = self.shared.changed.wait_timeout_while(inner, pause, |inner| !inner.stop);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stop {
                return self;
            }
        }
    }

    /// Ends the log here: it goes on as the branch `timeline`.
    pub fn finish(self, timeline: Timeline) -> Result<Composed, RemoteError> {
        let composed = self.follower.finish(timeline)?;
        telemetry::replica_over();
        Ok(composed)
    }
}

fn progress(inner: &Inner, clock: &dyn Clock) -> FollowProgress {
    let lag = clock.monotonic().saturating_sub(inner.level_at);
    FollowProgress { lag, ..inner.progress.clone() }
}

/// A standby that follows on a thread.
pub struct FollowHandle {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    thread: JoinHandle<Standby>,
}

impl std::fmt::Debug for FollowHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowHandle").finish_non_exhaustive()
    }
}

/// Tells what a standby is doing.
#[derive(Clone)]
pub struct FollowView {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for FollowView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowView").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl FollowView {
    /// What it is doing.
    pub fn progress(&self) -> FollowProgress {
        progress(&self.shared.lock(), &*self.clock)
    }
}

impl FollowHandle {
    /// Tells what it is doing, also after it has stopped.
    pub fn view(&self) -> FollowView {
        FollowView { shared: Arc::clone(&self.shared), clock: Arc::clone(&self.clock) }
    }

    /// Stops it after the request that it is making, and gives it back; `None` if it has panicked.
    pub fn stop(self) -> Option<Standby> {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        self.thread.join().ok()
    }
}
