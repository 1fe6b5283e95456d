//! More than one node with the same log: the lease that lets one of them write, and what the primary
//! leaves beside its archive for the node that takes its place.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stemedb_engine::{Archive, Engine, Fence};
use stemedb_io::{Env, replace};
use stemedb_log::LogReader;
use stemedb_model::{LogId, Position, Timeline};
use stemedb_remote::{
    Carrier, LeaseConfig, LeaseHandle, LeaseKeeper, LeaseState, LeaseView, Store, Take, Writer,
    newest_lease,
};

use crate::config::{Config, duration};
use crate::failure::Failure;
use crate::{archive, database, files, operations};

/// Name of the file that says what a node is, if it is not simply the owner of its database.
pub const ROLE: &str = "role";
/// Files of a node that are its own: the address of the archive, its sockets, its own key and name, what is
/// made anew.
pub(crate) const OWN: [&str; 10] = [
    archive::NOTE,
    archive::BACKUP_NOTE,
    archive::VERIFIED,
    operations::FOLDER,
    "admin.sock",
    database::MARKER,
    "node.key",
    "first-admin.key",
    ROLE,
    "trust",
];
/// How often it is looked whether these files have changed.
const CARRY_EVERY: Duration = Duration::from_secs(2);
/// How often the lease is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The lease of a node of which it cannot be found out whether it keeps one.
const LEASE_UNKNOWN: Duration = Duration::from_secs(10);
/// How long a node that has lost its lease takes to archive what it has acknowledged.
const FLUSH_BOUND: Duration = Duration::from_secs(60);

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Role {
    /// Its log is that of another node.
    Standby {
        /// The database.
        log_id: String,
        /// The branch that it follows.
        timeline: String,
    },
    /// It is about to go on by itself.
    Promoting {
        /// The database.
        log_id: String,
        /// The branch that it followed.
        timeline: String,
        /// The branch on which it goes on.
        branch: String,
    },
    /// It was a standby, and is the owner of its database now.
    Promoted {
        /// The branch on which it went on.
        branch: String,
    },
}

/// A damaged name in the file of the role.
pub fn named<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::error(format!("the file {ROLE} names `{text}`")))
}

/// What the node is, if it is not simply the owner of its database.
pub fn role(config: &Config) -> Result<Option<Role>, Failure> {
    let path = role_file(config);
    if !path.exists() {
        return Ok(None);
    }
    let wrong = || Failure::error(format!("{} does not say what this node is", path.display()));
    serde_json::from_str(&files::read_text(&path)?)
        .map_err(|error| wrong().because(error))
        .map(Some)
}

/// Writes it down.
pub fn set_role(config: &Config, env: &Env, role: &Role) -> Result<(), Failure> {
    let path = role_file(config);
    let text = serde_json::to_string(role).unwrap_or_default() + "\n";
    replace(&*env.vfs, &path, text.as_bytes())
        .map_err(|error| Failure::error(format!("cannot write {}", path.display())).because(error))
}

fn role_file(config: &Config) -> PathBuf {
    config.node_dir().join(ROLE)
}

/// The lease of this node, as the engine asks it.
#[derive(Debug)]
struct Held(LeaseView);

impl Fence for Held {
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

/// A lease that is kept.
pub struct Lease {
    handle: LeaseHandle,
    /// Tells how far the log is, once there is one.
    log: Arc<Mutex<Option<Arc<dyn LogReader>>>>,
    /// The branch that it is for.
    pub timeline: Timeline,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Lease {
    /// Takes and keeps it.
    pub fn take(
        config: &Config,
        env: &Env,
        store: Arc<dyn Store>,
        writer: Writer,
        time: Duration,
        take: Take,
    ) -> Result<Self, Failure> {
        let log: Arc<Mutex<Option<Arc<dyn LogReader>>>> = Arc::default();
        let reader = Arc::clone(&log);
        let position = move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.as_ref().map_or(Position::NONE, |log| log.durable().0)
        };
        let settings = LeaseConfig {
            time,
            skew: skew(config),
            address: config.cluster.address.clone().unwrap_or_default(),
        };
        let key = archive::node_key(config, env)?;
        let keeper = LeaseKeeper::new(store, env.clone(), key, writer, settings, take);
        let handle = keeper.telling(position).start().map_err(archive::failure)?;
        Ok(Self { handle, log, timeline: writer.timeline })
    }

    /// What it allows.
    pub fn view(&self) -> LeaseView {
        self.handle.view()
    }

    /// The same for the engine of the log that `reader` reads.
    pub fn fence(&self, reader: Arc<dyn LogReader>) -> Arc<dyn Fence> {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
        Arc::new(Held(self.view()))
    }

    /// Gives it back: whoever comes next need not wait.
    pub fn release(self, bound: Duration) {
        self.handle.release(bound);
    }
}

/// How much longer than a lease its taker waits.
fn skew(config: &Config) -> Duration {
    // Checked when the configuration was.
    duration(&config.cluster.skew).unwrap_or(Duration::from_secs(2))
}

/// How long the lease of this node is, if it keeps one.
pub fn lease_time(config: &Config) -> Option<Duration> {
    config.cluster.lease.as_deref().and_then(duration)
}

/// The lease of a node that owns its database, if it is to keep one: as it is configured or, of a node
/// that was promoted, as it was taken then.
pub fn of_primary(config: &Config, env: &Env, writer: Writer) -> Result<Option<Lease>, Failure> {
    let Some(url) = &config.archive.url else { return Ok(None) };
    let time = match (lease_time(config), role(config)?) {
        (Some(time), _) => Some(time),
        (None, Some(Role::Promoted { .. })) => {
            match newest_lease(&*archive::open(url, config)?, writer.log_id) {
                Ok(newest) => {
                    newest.filter(|lease| lease.timeline == writer.timeline).map(|lease| lease.time)
                }
                // It may keep one: then it must not write without.
                Err(error) => {
                    tracing::warn!(%error, "cannot look for the lease");
                    Some(LEASE_UNKNOWN)
                }
            }
        }
        (None, _) => None,
    };
    let Some(time) = time else { return Ok(None) };
    let store = archive::open(url, config)?;
    Lease::take(config, env, store, writer, time, Take::WhenOver).map(Some)
}

/// What a primary with a lease does besides: it leaves its own files beside the archive, and when it has
/// lost the lease it archives what it has acknowledged. Ends when it is dropped.
#[derive(Debug)]
pub struct Duties {
    stop: Arc<AtomicBool>,
}

impl Duties {
    /// Begins.
    pub fn begin(
        config: &Config,
        env: &Env,
        lease: LeaseView,
        engine: &Arc<Engine>,
        archive: Arc<dyn Archive>,
    ) -> Result<Option<Self>, Failure> {
        let Some(url) = &config.archive.url else { return Ok(None) };
        let stop = Arc::new(AtomicBool::new(false));
        let identity: (LogId, Timeline) = (engine.log_id(), engine.timeline());
        let mut carrier = Carrier::new(
            archive::open(url, config)?,
            env.clone(),
            archive::node_key(config, env)?,
            identity,
            config.node_dir(),
            OWN.map(str::to_owned).to_vec(),
        );
        let (clock, engine) = (Arc::clone(&env.clock), Arc::clone(engine));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let mut carry_at = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let now = clock.monotonic();
                if matches!(lease.state(), LeaseState::Lost { .. }) {
                    let durable = engine.node().progress.durable;
                    let done = archive.flush(durable, FLUSH_BOUND);
                    tracing::warn!(%durable, done, "the lease is lost; what was acknowledged is archived");
                    return;
                }
                if now >= carry_at && lease.check().is_ok() {
                    if let Err(error) = carrier.step() {
                        tracing::warn!(%error, "the files of this node are not beside its archive");
                    }
                    carry_at = now + CARRY_EVERY;
                }
                clock.sleep(LOOK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("cluster".into()).spawn(run);
        thread.map_err(|error| Failure::error("cannot start a thread").because(error))?;
        Ok(Some(Self { stop }))
    }
}

impl Drop for Duties {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
