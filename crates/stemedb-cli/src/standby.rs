//! A node that follows another, and takes its place.
//!
//! ```text
//! (nothing) ── serve --standby-of ──▶ standby ── promote ──▶ promoting ──▶ promoted: a primary
//!                                        ▲
//! primary that lost its lease ── rejoin ─┘
//! ```
//!
//! What a node is lies in `<data_dir>/node/role`. Each step can be done again: a node that ends in the
//! middle of its promotion goes on with it at the next start.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stemedb_engine::{Engine, EngineConfig};
use stemedb_index::{Index, IndexError};
use stemedb_io::Env;
use stemedb_log::Cutter;
use stemedb_model::{AgentId, LogId, Position, Timeline};
use stemedb_remote::{
    FollowConfig, FollowHandle, FollowState, FollowView, History, LeaseState, NodeState, Standby,
    Step, Store, Take, Writer, fetch_node_state, leaves, logs, newest_lease, newest_node_state,
};
use stemedb_server::{Replica, ReplicaStatus, Server};

use crate::archive::{self, TrustArgs, only};
use crate::cluster::{self, Lease, Role, named};
use crate::config::Config;
use crate::database;
use crate::failure::Failure;
use crate::restoring;

/// How often it is looked whether the archive has more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The wait after a failure while a promotion goes on.
const RETRY: Duration = Duration::from_secs(1);
/// How often the files of the primary are tried to be fetched before a promotion goes on without.
const FETCHES: u32 = 10;
/// How often an index is tried that is in use.
const INDEX_LOOKS: u32 = 200;
/// How often it is looked whether a lease counts, or an index is free.
const LEASE_LOOK: Duration = Duration::from_millis(50);

/// How a node begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It owns its database.
    Primary,
    /// It follows; the branch that it followed, if it did, and the one on which it is to go on.
    Standby(Option<(LogId, Timeline)>, Option<Timeline>),
}

/// What the node is to be, by its configuration and its folder.
pub fn begin(config: &Config) -> Result<Begin, Failure> {
    let of = config.cluster.standby_of.as_ref();
    let role = cluster::role(config)?;
    let dir = config.server.data_dir.display();
    match (of, role) {
        (Some(_), Some(Role::Promoted { branch })) => {
            tracing::warn!(
                branch,
                "this node was promoted: cluster.standby_of does not count any more"
            );
            Ok(Begin::Primary)
        }
        (None, None | Some(Role::Promoted { .. })) => Ok(Begin::Primary),
        (Some(_), Some(Role::Standby { log_id, timeline })) => {
            Ok(Begin::Standby(Some((named(&log_id)?, named(&timeline)?)), None))
        }
        (Some(_), Some(Role::Promoting { log_id, timeline, branch })) => {
            Ok(Begin::Standby(Some((named(&log_id)?, named(&timeline)?)), Some(named(&branch)?)))
        }
        (None, Some(Role::Standby { .. } | Role::Promoting { .. })) => Err(no_database(config)),
        (Some(_), None) => match database::read_marker(&config.node_dir())? {
            Some((log_id, _)) => Err(Failure::error(format!(
                "{dir} holds database {log_id}, which would not become that of another node"
            ))
            .hint(format!(
                "stemedb rejoin --data-dir {dir} saves what only this node has, and makes it a standby"
            ))),
            None => Ok(Begin::Standby(None, None)),
        },
    }
}

/// Refuses the folder of a standby where the owner of a database is wanted.
pub fn refuse(config: &Config) -> Result<(), Failure> {
    match cluster::role(config)? {
        Some(Role::Standby { .. } | Role::Promoting { .. }) => Err(no_database(config)),
        None | Some(Role::Promoted { .. }) => Ok(()),
    }
}

fn no_database(config: &Config) -> Failure {
    let dir = config.server.data_dir.display();
    Failure::error(format!("{dir} is the folder of a standby")).hint(
        "stemedb serve --standby-of ARCHIVE follows; stemedb admin promote makes it take writes; archive \
         and backups are made by the node that does",
    )
}

/// A standby that can be read.
pub struct Following {
    /// The engine.
    pub engine: Arc<Engine>,
    /// It, as the server asks it.
    pub replica: Arc<Follow>,
}

/// A standby that was promoted, and is to begin anew.
pub struct Promoted {
    standby: Standby,
    lease: Option<Lease>,
    log_id: LogId,
    followed: Timeline,
    branch: Timeline,
}

/// A standby at work.
pub struct Follow {
    config: Config,
    env: Env,
    store: Arc<dyn Store>,
    identity: (LogId, Timeline),
    engine: Arc<Engine>,
    view: FollowView,
    inner: Mutex<Inner>,
    /// The log goes on as another branch: the node begins anew, and follows that one.
    moved: AtomicBool,
    this: Weak<Self>,
}

#[derive(Default)]
struct Inner {
    handle: Option<FollowHandle>,
    /// Until it is stopped: it knows this standby, too.
    server: Option<Server>,
    /// A promotion is under way, and what it waits for.
    promoting: Option<String>,
    done: Option<Promoted>,
}

/// An archive, and the log and branch in it that are followed.
type Target = (Arc<dyn Store>, (LogId, Timeline));

/// Opens the store of the primary's archive and finds out what is followed.
fn target(config: &Config, url: &str, known: Option<(LogId, Timeline)>) -> Result<Target, Failure> {
    let store = archive::open(url, config)?;
    let log_id = match (known, database::read_marker(&config.node_dir())?) {
        (Some((log_id, _)), _) | (None, Some((log_id, _))) => log_id,
        (None, None) => {
            only(logs(&*store).map_err(archive::failure)?, "logs", "--data-dir DIR", &*store)?
        }
    };
    // The branch that is written, where that is said; else the only one that goes on.
    let timeline = match newest_lease(&*store, log_id).map_err(archive::failure)? {
        Some(lease) => lease.timeline,
        None => {
            let leaves = leaves(&*store, log_id).map_err(archive::failure)?;
            match known {
                Some((_, timeline)) if leaves.contains(&timeline) => timeline,
                _ => only(leaves, "branches", "cluster.lease on the primary", &*store)?,
            }
        }
    };
    Ok((store, (log_id, timeline)))
}

/// Begins to follow: returns once everything that is in the archive can be read.
pub fn open(
    config: &Config,
    env: &Env,
    known: Option<(LogId, Timeline)>,
    promoting: Option<Timeline>,
) -> Result<Following, Failure> {
    let Some(url) = config.cluster.standby_of.clone() else { return Err(no_database(config)) };
    restoring::refuse(config)?;
    let (store, found) = target(config, &url, known)?;
    // One that is being promoted goes on with what it followed.
    let identity = match (known, promoting) {
        (Some(known), Some(_)) => known,
        _ => found,
    };
    let (log_id, timeline) = identity;
    database::make_private(&config.node_dir())?;
    let settings = FollowConfig {
        every: LOOK_EVERY,
        keys: believed(config, env)?,
        segment_bytes: config.wal.segment_bytes,
    };
    let standby =
        Standby::new(Arc::clone(&store), env.clone(), &config.wal_dir(), identity, settings);
    let mut standby = standby.map_err(archive::failure)?;
    tracing::info!(archive = store.place(), %log_id, branch = %timeline, "fetching what is not here yet");
    while standby.step().map_err(archive::failure)? == Step::Worked {}
    if standby.position() == Position::NONE {
        return Err(Failure::error(format!(
            "{} holds no record of log {log_id} yet",
            store.place()
        ))
        .hint("archive.url on the primary; a new database is there after archive.delay"));
    }
    if let Some((_, before)) = known
        && before != timeline
    {
        rename_index(config, env, log_id, (before, timeline), standby.position())?;
    }
    let state = newest_files(&*store, env, config, log_id, 0)?;
    let files = state.as_ref().map_or(0, |state| state.number);
    match state {
        Some(state) => {
            fetch(&*store, env, config, &state)?;
        }
        None => tracing::warn!(
            "the primary has left none of its API keys: cluster.lease there has it do so"
        ),
    }
    if promoting.is_none() {
        let role = Role::Standby { log_id: log_id.to_string(), timeline: timeline.to_string() };
        cluster::set_role(config, env, &role)?;
    }
    let index = database::open_index(config, identity)?;
    let settings = EngineConfig { standby: true, ..config.engine() };
    let engine = Engine::open(settings, env.clone(), standby.log(), index)
        .map_err(|error| Failure::error("cannot open the database").because(error))?;
    engine.tell_primary(&standby.progress().primary);
    Ok(Following { replica: Follow::new(config, env, store, &engine, standby, files)?, engine })
}

/// Whose archive is followed: that of this node, as it was before, and those that are named.
fn believed(config: &Config, env: &Env) -> Result<Vec<AgentId>, Failure> {
    // Made now: those who follow this node one day are to know it before.
    archive::node_key(config, env)?;
    TrustArgs::default().believed(config, env)
}

/// The newest files of the primary behind number `after`, if somebody has signed them who is believed:
/// there are API keys among them.
fn newest_files(
    store: &dyn Store,
    env: &Env,
    config: &Config,
    log_id: LogId,
    after: u64,
) -> Result<Option<NodeState>, Failure> {
    let newest = newest_node_state(store, log_id, after).map_err(archive::failure)?;
    let Some((state, signer)) = newest else { return Ok(None) };
    TrustArgs::default().believe(store, config, env, &BTreeSet::from([signer]))?;
    Ok(Some(state))
}

/// Fetches the files of the primary into the folder of this node; the paths that have changed.
fn fetch(
    store: &dyn Store,
    env: &Env,
    config: &Config,
    state: &NodeState,
) -> Result<Vec<String>, Failure> {
    let place = |path: &str| place(path, state.timeline);
    let dir = config.node_dir();
    fetch_node_state(store, env, state, &dir, &place).map_err(archive::failure)
}

/// Where a file of a primary belongs in the folder of this node; `None`: it does not.
fn place(path: &str, primary: Timeline) -> Option<String> {
    let first = path.split('/').next().unwrap_or_default();
    // No primary puts them. One that did would take this node's key, or what it knows of its place.
    if cluster::OWN.contains(&first) {
        return None;
    }
    match path.split_once('/') {
        // Its audits are chains of their own.
        Some((dir @ ("audit" | "admin-audit"), file)) => Some(format!("{dir}-of-{primary}/{file}")),
        _ => Some(path.to_owned()),
    }
}

/// The index of what was followed becomes that of what is followed now; one that holds more goes.
fn rename_index(
    config: &Config,
    env: &Env,
    log_id: LogId,
    (from, to): (Timeline, Timeline),
    upto: Position,
) -> Result<(), Failure> {
    let failed = |error| Failure::error("cannot take over the index").because(error);
    let mut opened = Index::open(&config.index(), Some((log_id, from)));
    for _ in 0..INDEX_LOOKS {
        // Some thread of the standby that was has a look at it yet.
        if !matches!(opened, Err(IndexError::InUse { .. })) {
            break;
        }
        env.clock.sleep(LEASE_LOOK);
        opened = Index::open(&config.index(), Some((log_id, from)));
    }
    let fits = match opened {
        Ok(index) => index.go_on_as(to, upto).map_err(failed)?,
        // Done before, or made anew by the start.
        Err(IndexError::Foreign { .. } | IndexError::Damaged { .. }) => true,
        Err(error) => return Err(failed(error)),
    };
    if !fits {
        stemedb_index::remove(&config.index_dir()).map_err(failed)?;
    }
    Ok(())
}

impl Follow {
    fn new(
        config: &Config,
        env: &Env,
        store: Arc<dyn Store>,
        engine: &Arc<Engine>,
        standby: Standby,
        files: u64,
    ) -> Result<Arc<Self>, Failure> {
        let identity = (engine.log_id(), engine.timeline());
        let added = {
            let engine = Arc::clone(engine);
            move || engine.catch_up().map(drop).map_err(|error| error.to_string())
        };
        let told: Arc<Mutex<Weak<Self>>> = Arc::default();
        let looked = {
            let (told, mut files) = (Arc::clone(&told), files);
            move |progress: &stemedb_remote::FollowProgress| {
                let this = told.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                let Some(this) = this else { return };
                this.engine.tell_primary(&progress.primary);
                if let Err(problem) = this.look(&mut files) {
                    tracing::warn!(
                        problem = problem.report().trim_end(),
                        "the files of the primary"
                    );
                }
            }
        };
        let handle = standby.start(added, looked).map_err(archive::failure)?;
        let follow = Arc::new_cyclic(|this| Self {
            config: config.clone(),
            env: env.clone(),
            store,
            identity,
            engine: Arc::clone(engine),
            view: handle.view(),
            inner: Mutex::new(Inner { handle: Some(handle), ..Inner::default() }),
            moved: AtomicBool::new(false),
            this: Weak::clone(this),
        });
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&follow);
        Ok(follow)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Between two looks into the archive: fetches files of the primary that have changed, and finds out
    /// whether another node has taken its place.
    fn look(&self, files: &mut u64) -> Result<(), Failure> {
        let (log_id, timeline) = self.identity;
        let newest = newest_files(&*self.store, &self.env, &self.config, log_id, *files)?;
        if let Some(state) = newest {
            fetch(&*self.store, &self.env, &self.config, &state)?;
            *files = state.number;
            self.files_changed();
        }
        if let Some(lease) = newest_lease(&*self.store, log_id).map_err(archive::failure)?
            && lease.timeline != timeline
            && self.lock().promoting.is_none()
            && History::load(&*self.store, log_id, lease.timeline)
                .map_err(archive::failure)?
                .is_some()
        {
            tracing::warn!(branch = %lease.timeline, "the log goes on as another branch: following that");
            self.moved.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// From now on `server` answers for this standby.
    pub fn serve(&self, server: Server) {
        self.lock().server = Some(server);
        // They may have changed after it has read them, and before it could be told.
        self.files_changed();
    }

    /// Has the server take the keys of the primary as they are now.
    fn files_changed(&self) {
        let server = self.lock().server.clone();
        if let Some(server) = server
            && let Err(problem) = server.reload_keys()
        {
            tracing::error!(problem, "the API keys of the primary cannot be read");
        }
    }

    /// Whether the node is to begin anew, as a primary or behind another one.
    pub fn over(&self) -> bool {
        self.moved.load(Ordering::Relaxed) || self.lock().done.is_some()
    }

    /// Stops to follow; what is to become of the node if it was promoted.
    pub fn stop(&self) -> Option<Promoted> {
        let (handle, done) = {
            let mut inner = self.lock();
            inner.server = None;
            (inner.handle.take(), inner.done.take())
        };
        if let Some(handle) = handle {
            // A thread that has panicked has said so.
            let _ = handle.stop();
        }
        done
    }

    fn say(&self, waits: &str) {
        waits.clone_into(self.lock().promoting.get_or_insert_default());
    }

    /// Goes on with a promotion, or begins one, on a thread of its own.
    pub fn promote_as(&self, branch: Timeline, leased: Option<Duration>) -> Result<(), Failure> {
        let Some(this) = self.this.upgrade() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("promotion".into()).spawn(move || {
            if let Err(failure) = this.take_over(branch, leased) {
                let problem = failure.report();
                tracing::error!(problem = problem.trim_end(), "not promoted");
                this.say(&format!("not promoted: {}", problem.trim_end()));
                this.stay_standby();
            }
        });
        thread.map(drop).map_err(|error| Failure::error("cannot start a thread").because(error))
    }

    /// It was not promoted: it follows on, from the start if it had stopped to.
    fn stay_standby(&self) {
        let (log_id, timeline) = self.identity;
        let role = Role::Standby { log_id: log_id.to_string(), timeline: timeline.to_string() };
        if let Err(failure) = cluster::set_role(&self.config, &self.env, &role) {
            let problem = failure.report();
            tracing::error!(
                problem = problem.trim_end(),
                "the next start goes on with the promotion"
            );
        }
        if self.lock().handle.is_none() {
            self.moved.store(true, Ordering::Relaxed);
        }
    }

    fn take_over(&self, branch: Timeline, leased: Option<Duration>) -> Result<(), Failure> {
        let (log_id, followed) = self.identity;
        let clock = Arc::clone(&self.env.clock);
        let mut lease = None;
        if let Some(time) = leased.or(cluster::lease_time(&self.config)) {
            self.say("taking the lease");
            let writer = Writer { log_id, timeline: branch, parent: Some(followed) };
            let store = Arc::clone(&self.store);
            let kept = Lease::take(&self.config, &self.env, store, writer, time, Take::Now)?;
            while let Err(waits) = kept.view().check() {
                if let LeaseState::Lost { problem } = kept.view().state() {
                    return Err(Failure::no(problem));
                }
                self.say(&waits);
                clock.sleep(LEASE_LOOK);
            }
            lease = Some(kept);
        }
        // From here on the primary acknowledges nothing: what it has left in the archive is all there is.
        self.say("fetching what the primary has left in the archive");
        let handle = self.lock().handle.take();
        let mut standby = handle
            .and_then(FollowHandle::stop)
            .ok_or_else(|| Failure::error("the thread that follows has broken off"))?;
        loop {
            match standby.step() {
                Ok(Step::Idle) => break,
                Ok(Step::Worked) => {}
                Err(error) if matches!(standby.progress().state, FollowState::Stopped { .. }) => {
                    return Err(archive::failure(error));
                }
                Err(error) => {
                    self.say(&error.to_string());
                    clock.sleep(RETRY);
                }
            }
        }
        self.say("fetching the files of the primary");
        for attempt in 1.. {
            let newest = newest_files(&*self.store, &self.env, &self.config, log_id, 0);
            let fetched = newest.and_then(|state| match state {
                Some(state) => fetch(&*self.store, &self.env, &self.config, &state).map(drop),
                None => Ok(()),
            });
            match fetched {
                Ok(()) => break,
                Err(failure) if attempt >= FETCHES => {
                    // Those that were fetched before are here.
                    let problem = failure.report();
                    tracing::error!(
                        problem = problem.trim_end(),
                        "the files of the primary may be old"
                    );
                    break;
                }
                Err(_) => clock.sleep(RETRY),
            }
        }
        self.say("beginning anew as the primary");
        self.lock().done = Some(Promoted { standby, lease, log_id, followed, branch });
        Ok(())
    }
}

impl Replica for Follow {
    fn status(&self) -> ReplicaStatus {
        let progress = self.view.progress();
        let promoting = self.lock().promoting.clone();
        let problem = match (&promoting, &progress.state) {
            (Some(waits), _) => Some(waits.clone()),
            (None, FollowState::Failing { problem } | FollowState::Stopped { problem }) => {
                Some(problem.clone())
            }
            (None, FollowState::CatchingUp | FollowState::Following) => None,
        };
        ReplicaStatus {
            of: self.store.place(),
            state: if promoting.is_some() { "promoting" } else { progress.state.as_str() },
            problem,
            primary: (!progress.primary.is_empty()).then(|| progress.primary.clone()),
            primary_position: progress.primary_position.0,
            lag_positions: progress.lag_positions(),
            lag: progress.lag,
        }
    }

    fn promote(&self, force: bool) -> Result<(), String> {
        let said = |failure: Failure| failure.report().trim_end().to_owned();
        let (log_id, timeline) = self.identity;
        {
            let mut inner = self.lock();
            if inner.promoting.as_ref().is_some_and(|waits| !waits.starts_with("not promoted")) {
                return Err("this standby is being promoted".into());
            }
            inner.promoting = Some("asking for the lease".into());
        }
        let begin = || {
            let lease = newest_lease(&*self.store, log_id).map_err(|error| error.to_string())?;
            if lease.is_none() && !force {
                return Err(
                    "the primary keeps no lease (cluster.lease), so that nothing stops it from \
                            writing: see that it is off for good, then promote with force"
                        .to_owned(),
                );
            }
            let mut name = [0; 16];
            self.env.rng.fill(&mut name);
            let branch = Timeline(name);
            let role = Role::Promoting {
                log_id: log_id.to_string(),
                timeline: timeline.to_string(),
                branch: branch.to_string(),
            };
            cluster::set_role(&self.config, &self.env, &role).map_err(said)?;
            self.promote_as(branch, lease.map(|lease| lease.time)).map_err(said)
        };
        let begun = begin();
        if begun.is_err() {
            self.lock().promoting = None;
        }
        begun
    }
}

/// Goes on with a promotion that an earlier process had begun.
pub fn go_on(follow: &Follow, branch: Timeline) -> Result<(), Failure> {
    let (log_id, _) = follow.identity;
    follow.say("asking for the lease");
    let lease = newest_lease(&*follow.store, log_id).map_err(archive::failure)?;
    follow.promote_as(branch, lease.map(|lease| lease.time))
}

/// Whether the log in `dir` goes on as this branch already.
pub fn is_branch(dir: &Path, env: &Env, identity: (LogId, Timeline)) -> bool {
    Cutter::of_folder(dir, env).is_ok_and(|cutter| cutter.identity() == Some(identity))
}

/// Ends the log of a standby that was promoted and makes it that of this node; its lease.
pub fn finish(config: &Config, env: &Env, promoted: Promoted) -> Result<Option<Lease>, Failure> {
    let Promoted { standby, lease, log_id, followed, branch } = promoted;
    let composed = standby.finish(branch).map_err(archive::failure)?;
    tracing::warn!(
        position = composed.end.position.0,
        root = %composed.end.chain,
        branch = %branch,
        "promoted: the log goes on here"
    );
    own(config, env, log_id, (followed, branch))?;
    Ok(lease)
}

/// The log in the folder of this node is its own.
pub fn own(
    config: &Config,
    env: &Env,
    log_id: LogId,
    (followed, branch): (Timeline, Timeline),
) -> Result<(), Failure> {
    // What it followed ends where the branch begins, and the index is not ahead of it.
    rename_index(config, env, log_id, (followed, branch), Position::MAX)?;
    database::write_marker(&config.node_dir(), (log_id, branch), env)?;
    cluster::set_role(config, env, &Role::Promoted { branch: branch.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_nodes_own_stays_its_own() {
        let primary = Timeline([9; 16]);
        let put = |path: &str| place(path, primary);
        for own in cluster::OWN {
            assert_eq!(put(own), None, "{own}");
            assert_eq!(put(&format!("{own}/below")), None, "{own}");
        }
        for taken in ["api-keys.json", "custodial/alice.key", "node.keys", "custodial/node.key"] {
            assert_eq!(put(taken).as_deref(), Some(taken));
        }
        let beside = |dir: &str| Some(format!("{dir}-of-{primary}/1"));
        assert_eq!(put("audit/1"), beside("audit"));
        assert_eq!(put("admin-audit/1"), beside("admin-audit"));
    }
}
