//! A database on this machine: its folders, its root key, and how the parts are put together.
//!
//! ```text
//! <data_dir>/wal            the log: the database itself
//! <data_dir>/index          derived from the log; may be deleted while the node is stopped
//! <data_dir>/node/root.key  the key that signed genesis (mode 0600), unless it is kept elsewhere
//! <data_dir>/node/database  which log belongs here: says that data is expected
//! <data_dir>/restoring      only while a restore is under way, or after it broke off
//! <data_dir>/node/role      of a standby, and of a node that was one
//! ```

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stemedb_engine::{Engine, EngineConfig, EngineError, Fence, Progress};
use stemedb_index::{Index, IndexError};
use stemedb_io::{Env, make_private_folder, replace};
use stemedb_log::{Cutter, Expect, Log, LogError, Recovery, Trimmer, Wal};
use stemedb_model::{AgentId, LogId, Millis, Principal, Signed, SigningKey, Timeline};

use crate::commands::key::genesis;
use crate::config::Config;
use crate::context::Context;
use crate::failure::Failure;
use crate::{archive, files, keys, restoring, standby};

/// Who is named in the envelope of genesis.
const PRINCIPAL: &str = "local";
/// Name of the file that says which log belongs to a node.
pub(crate) const MARKER: &str = "database";
const ROOT_KEY: &str = "root.key";

/// What a first start needs to know.
#[derive(Debug, Default)]
pub struct First {
    /// Public half of a root key that is kept elsewhere.
    pub root: Option<AgentId>,
    /// The signed first record that goes with it.
    pub genesis: Option<Signed>,
}

/// An open database.
pub struct Database {
    /// The engine; it recovers in the background.
    pub engine: Arc<Engine>,
    /// What opening the log found.
    pub recovery: Recovery,
    /// Reads the log for its archive.
    pub cutter: Cutter,
    /// Removes segments that are safe elsewhere.
    pub trimmer: Trimmer,
    /// The root key, if it is here.
    pub root: Option<SigningKey>,
    /// Whether this start made the database.
    pub created: bool,
}

/// Says which log belongs into a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Marker {
    log_id: String,
    timeline: String,
}

/// Opens the database that `config` describes; makes it if nothing is there and `first` allows it.
pub fn open(config: &Config, env: &Env, first: Option<&First>) -> Result<Database, Failure> {
    open_fenced(config, env, first, &mut |_, _| Ok(None))
}

/// Asked for what must hold for the database with this log to acknowledge.
pub type AskFence<'a> =
    dyn FnMut(&Wal, (LogId, Timeline)) -> Result<Option<Arc<dyn Fence>>, Failure> + 'a;

/// The same; `fence` gives what must hold for it to acknowledge.
pub fn open_fenced(
    config: &Config,
    env: &Env,
    first: Option<&First>,
    fence: &mut AskFence<'_>,
) -> Result<Database, Failure> {
    restoring::refuse(config)?;
    let node = config.node_dir();
    standby::refuse(config)?;
    let known = read_marker(&node)?;
    if known.is_none() && first.is_none() && !has_entries(env, &config.wal_dir())? {
        return Err(nothing(&config.wal_dir()));
    }
    make_private(&node)?;
    let (opened, index) = match known {
        Some(identity) => {
            let index = open_index(config, identity)?;
            // Less in the log than the index has seen is a loss, not a torn tail.
            let witness = Some(index.applied());
            let expect = Expect::Existing { log_id: Some(identity.0), witness };
            (open_wal(config, env, expect)?, Some(index))
        }
        None => (open_unknown(config, env, first)?, None),
    };
    let Opened { mut wal, recovery, new } = opened;
    let root_path = node.join(ROOT_KEY);
    let elsewhere = first.is_some_and(|first| first.root.is_some());
    let root = if root_path.exists() {
        Some(keys::load(&root_path)?)
    } else if new.is_some() && !elsewhere {
        let key = keys::generate(env.rng.as_ref());
        keys::save(&root_path, &key)?;
        sync_dir(env, &node)?;
        Some(key)
    } else {
        None
    };
    if let Some(log_id) = new {
        let signed = first_record(env, log_id, first, root.as_ref())?;
        let principal =
            Principal::parse(PRINCIPAL).map_err(|error| Failure::error(error.to_string()))?;
        Engine::genesis(&mut wal, &signed, principal).map_err(|error| {
            let dir = config.wal_dir();
            Failure::error(format!("cannot write the first record into {}", dir.display()))
                .because(error)
                .hint("mend the disk and start again: `stemedb serve` begins anew, nothing is lost")
        })?;
    }
    let Some(identity) = wal.reader().identity() else {
        return Err(Failure::error("the log has no name although it has a first record"));
    };
    if known.is_none() {
        write_marker(&node, identity, env)?;
    }
    let index = match index {
        Some(index) => index,
        None => open_index(config, identity)?,
    };
    let (cutter, trimmer) = (wal.cutter(), wal.trimmer());
    let fence = fence(&wal, identity)?;
    let engine = open_engine_with(config, env, wal, identity, index, fence)?;
    Ok(Database { engine, recovery, cutter, trimmer, root, created: new.is_some() })
}

struct Opened {
    wal: Wal,
    recovery: Recovery,
    /// Of a log that was made now, its name.
    new: Option<LogId>,
}

/// Opens a log of which this node does not know yet that it exists.
fn open_unknown(config: &Config, env: &Env, first: Option<&First>) -> Result<Opened, Failure> {
    if has_entries(env, &config.wal_dir())? {
        // A log that was put here, by a restore or by hand; or a first start that broke off before
        // its first record was durable, which leaves nothing that could be lost.
        let expect = Expect::Existing { log_id: None, witness: None };
        match Wal::open(config.wal(), env.clone(), expect) {
            Ok((wal, recovery)) => return Ok(Opened { wal, recovery, new: None }),
            Err(LogError::Misplaced { .. }) if first.is_some() => {}
            Err(error) => return Err(log_failure(config, error)),
        }
    }
    let given = first.and_then(|first| first.genesis.as_ref());
    let log_id = given.and_then(|signed| signed.record().log_id);
    let log_id = log_id.unwrap_or_else(|| LogId(random(env)));
    open_wal(config, env, Expect::New { log_id, timeline: Timeline(random(env)) })
}

fn open_wal(config: &Config, env: &Env, expect: Expect) -> Result<Opened, Failure> {
    let new = match &expect {
        Expect::New { log_id, .. } => Some(*log_id),
        Expect::Existing { .. } => None,
    };
    let (wal, recovery) =
        Wal::open(config.wal(), env.clone(), expect).map_err(|error| log_failure(config, error))?;
    Ok(Opened { wal, recovery, new })
}

/// The record that makes a log a database.
fn first_record(
    env: &Env,
    log_id: LogId,
    first: Option<&First>,
    root: Option<&SigningKey>,
) -> Result<Signed, Failure> {
    let given = first.and_then(|first| first.genesis.clone());
    let expected = first.and_then(|first| first.root);
    match (given, root) {
        (Some(signed), _) if expected.is_none_or(|root| root == signed.record().agent) => {
            Ok(signed)
        }
        (Some(signed), _) => Err(Failure::error(format!(
            "the genesis record is signed by {}, which is not the root key given",
            signed.record().agent
        ))),
        (None, Some(root)) => genesis(root, log_id, Millis(env.clock.now_ms())),
        (None, None) => Err(Failure::error("a new database needs a first record by its root key")
            .hint("stemedb key genesis --key root.key > genesis.json; then add --genesis genesis.json")),
    }
}

/// Opens the index for a log; tells what to do if it cannot be used.
///
/// A damaged one, and that of an earlier version, is removed and begun anew: everything in it comes
/// from the log, and a power cut may tear what its storage had not synced. What is lost is its word
/// on how far the log went.
pub(crate) fn open_index(config: &Config, identity: (LogId, Timeline)) -> Result<Index, Failure> {
    let opened = match Index::open(&config.index(), Some(identity)) {
        Err(error) if rebuilt(&error) => {
            tracing::warn!(%error, "the index cannot be used; rebuilding it from the log");
            stemedb_index::remove(&config.index_dir())
                .and_then(|()| Index::open(&config.index(), Some(identity)))
        }
        opened => opened,
    };
    opened.map_err(|error| {
        let dir = config.server.data_dir.display();
        let hint = match &error {
            IndexError::InUse { .. } => {
                "another process uses this folder; stop it, or give another --data-dir".to_owned()
            }
            _ => format!("stemedb admin reindex --data-dir {dir} rebuilds it from the log"),
        };
        Failure::error("cannot open the index").because(error).hint(hint)
    })
}

/// Whether a start makes a new index instead of refusing.
fn rebuilt(error: &IndexError) -> bool {
    match error {
        IndexError::Damaged { .. } => true,
        IndexError::UnknownFormat { found, supported, .. } => found < supported,
        _ => false,
    }
}

fn log_failure(config: &Config, error: LogError) -> Failure {
    let dir = config.wal_dir();
    let hint = match &error {
        LogError::Locked { .. } => {
            "another process uses this folder; stop it, or give another --data-dir".to_owned()
        }
        _ => format!("stemedb wal verify {}", dir.display()),
    };
    Failure::error(format!("cannot open the log in {}", dir.display())).because(error).hint(hint)
}

/// The name of the log that belongs into this folder, if one does.
pub fn read_marker(node: &Path) -> Result<Option<(LogId, Timeline)>, Failure> {
    let path = node.join(MARKER);
    if !path.exists() {
        return Ok(None);
    }
    let wrong = || Failure::error(format!("{} does not name a database", path.display()));
    let marker: Marker =
        serde_json::from_str(&files::read_text(&path)?).map_err(|error| wrong().because(error))?;
    match (marker.log_id.parse(), marker.timeline.parse()) {
        (Ok(log_id), Ok(timeline)) => Ok(Some((log_id, timeline))),
        _ => Err(wrong()),
    }
}

/// After this a missing log is an error, never a new database.
pub(crate) fn write_marker(
    node: &Path,
    (log, timeline): (LogId, Timeline),
    env: &Env,
) -> Result<(), Failure> {
    let marker = Marker { log_id: log.to_string(), timeline: timeline.to_string() };
    let text = serde_json::to_string(&marker).unwrap_or_default() + "\n";
    let path = node.join(MARKER);
    replace(&*env.vfs, &path, text.as_bytes())
        .map_err(|error| Failure::error(format!("cannot write {}", path.display())).because(error))
}

/// Makes a folder that only its owner may enter.
pub(crate) fn make_private(dir: &Path) -> Result<(), Failure> {
    make_private_folder(dir).map_err(|error| {
        Failure::error(format!("cannot create {}", dir.display()))
            .because(error)
            .hint("--data-dir DIR names a folder that you may write")
    })
}

fn sync_dir(env: &Env, dir: &Path) -> Result<(), Failure> {
    env.vfs
        .sync_dir(dir)
        .map_err(|error| Failure::error(format!("cannot sync {}", dir.display())).because(error))
}

pub(crate) fn has_entries(env: &Env, dir: &Path) -> Result<bool, Failure> {
    match env.vfs.read_dir(dir) {
        Ok(entries) => Ok(!entries.is_empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(files::cannot_read(dir, error)),
    }
}

fn nothing(dir: &Path) -> Failure {
    Failure::error(format!("there is no log in {}", dir.display()))
        .hint("stemedb serve --data-dir DIR makes a database")
}

fn random<const N: usize>(env: &Env) -> [u8; N] {
    let mut bytes = [0; N];
    env.rng.fill(&mut bytes);
    bytes
}

/// Opens the log of an existing database, and nothing else.
pub fn open_log(config: &Config, env: &Env) -> Result<(Wal, (LogId, Timeline)), Failure> {
    restoring::refuse(config)?;
    let known = read_marker(&config.node_dir())?;
    standby::refuse(config)?;
    if !has_entries(env, &config.wal_dir())? {
        return Err(nothing(&config.wal_dir()));
    }
    let log_id = known.map(|(log_id, _)| log_id);
    let opened = open_wal(config, env, Expect::Existing { log_id, witness: None })?;
    match opened.wal.reader().identity() {
        Some(identity) => Ok((opened.wal, identity)),
        None => Err(nothing(&config.wal_dir())),
    }
}

/// Opens the engine on a log, with the index of that log or a new one.
pub fn open_engine(
    config: &Config,
    env: &Env,
    log: Wal,
    identity: (LogId, Timeline),
) -> Result<Arc<Engine>, Failure> {
    let index = open_index(config, identity)?;
    open_engine_with(config, env, log, identity, index, None)
}

fn open_engine_with(
    config: &Config,
    env: &Env,
    log: Wal,
    identity: (LogId, Timeline),
    index: Index,
    fence: Option<Arc<dyn Fence>>,
) -> Result<Arc<Engine>, Failure> {
    if let Some(earlier) = archive::earlier(config, env, identity)? {
        log.read_removed_from(earlier);
    }
    let settings = EngineConfig { fence, ..config.engine() };
    Engine::open(settings, env.clone(), Box::new(log), index).map_err(|error| {
        let dir = config.server.data_dir.display();
        let hint = match &error {
            EngineError::IndexBeforeRepair { .. } => {
                Some(format!("stemedb admin reindex --data-dir {dir}"))
            }
            _ => None,
        };
        let failure = Failure::error("cannot open the database").because(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// Waits until the index has everything, telling how far it is if that takes a while.
pub fn wait_ready(engine: &Engine, context: &Context) -> Result<(), Failure> {
    let bar = context.progress(Some(0), "records");
    bar.set_message("replay");
    let ready = engine.wait_ready(|Progress { applied, durable }| {
        bar.set_length(durable.0);
        bar.set_position(applied.0);
    });
    bar.finish_and_clear();
    ready.map_err(|error| Failure::error("cannot recover the database").because(error))
}
