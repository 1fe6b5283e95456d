//! The archive of a database of this machine: where it is, who signs, and the archiver beside the
//! server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Archive, ArchiveView};
use stemedb_io::Env;
use stemedb_log::{Cutter, Removed, Trimmer};
use stemedb_model::{AgentId, LogId, Position, SigningKey, Timeline};
use stemedb_remote::{
    ArchiveConfig, ArchiveState, Archiver, ArchiverHandle, Earlier, KeyedStore, ObjectStore,
    RemoteError, Retention, RetentionHandle, Store, StoreOptions, believe, leaves, logs,
};

use crate::config::Config;
use crate::failure::Failure;
use crate::{database, encryption, files};

/// The key that this node signs manifests with.
const NODE_KEY: &str = "node.key";
/// Name of the file that says how far the archive was.
pub const NOTE: &str = "archived";
/// Name of the file that says that there are backups.
pub const BACKUP_NOTE: &str = "backed-up";
/// Name of the file that says which backup was verified last.
pub const VERIFIED: &str = "verified";

/// Which archive.
#[derive(Debug, Clone, clap::Args)]
pub struct StoreArgs {
    /// Address of the archive, instead of archive.url.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Name of the log; that of the node's data, or the only one in the archive, if not given.
    #[arg(long, value_name = "HEX")]
    pub log: Option<LogId>,
    /// Branch of the log; that of the node's data, or the newest one if there is only one, if not given.
    #[arg(long, value_name = "HEX")]
    pub branch: Option<Timeline>,
    /// Whose word counts.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Whose archives and backups are believed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TrustArgs {
    /// Believe what the node with this public key has signed, besides this node and those of
    /// archive.trusted_keys; may be given again.
    #[arg(long = "trust-key", value_name = "HEX")]
    pub keys: Vec<AgentId>,
}

impl TrustArgs {
    /// Refuses what others than the believed have signed: names them, and how they would be believed.
    pub fn believe(
        &self,
        store: &dyn Store,
        config: &Config,
        env: &Env,
        signers: &BTreeSet<AgentId>,
    ) -> Result<(), Failure> {
        let believed = self.believed(config, env)?;
        believe(&store.place(), signers, &believed).map_err(failure)
    }

    /// The keys that are believed. On a machine without a node nobody is who is not named.
    pub fn believed(&self, config: &Config, env: &Env) -> Result<Vec<AgentId>, Failure> {
        let mut keys = config.trusted_keys();
        keys.extend_from_slice(&self.keys);
        keys.extend(existing_node_key(config, env)?.map(|key| key.agent_id()));
        Ok(keys)
    }
}

impl StoreArgs {
    /// Opens the store.
    pub fn open(&self, config: &Config) -> Result<Arc<dyn Store>, Failure> {
        let Some(url) = self.store.as_ref().or(config.archive.url.as_ref()) else {
            return Err(Failure::error("there is no archive: archive.url is not set")
                .hint("--store URL, or archive.url in the configuration"));
        };
        open(url, config)
    }
}

/// Where backups are.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// Address of the backups, instead of backup.url.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Name of the log; that of the node's data, or the only one there, if not given.
    #[arg(long, value_name = "HEX")]
    pub log: Option<LogId>,
    /// Whose word counts.
    #[command(flatten)]
    pub trust: TrustArgs,
}

impl BackupArgs {
    /// Opens the store.
    pub fn open(&self, config: &Config) -> Result<Arc<dyn Store>, Failure> {
        let Some(url) = self.store.as_ref().or(config.backup.url.as_ref()) else {
            return Err(Failure::error("there is no place for backups: backup.url is not set")
                .hint("--store URL, or backup.url in the configuration"));
        };
        open(url, config)
    }

    /// Which log.
    pub fn log_id(&self, store: &dyn Store, config: &Config) -> Result<LogId, Failure> {
        which_log(store, self.log, config)
    }
}

fn which_log(store: &dyn Store, asked: Option<LogId>, config: &Config) -> Result<LogId, Failure> {
    match (asked, database::read_marker(&config.node_dir())?) {
        (Some(log_id), _) | (None, Some((log_id, _))) => Ok(log_id),
        (None, None) => only(logs(store).map_err(failure)?, "logs", "--log HEX", store),
    }
}

/// Opens the store at an address, with the keys to what is there.
pub fn open(url: &str, config: &Config) -> Result<Arc<dyn Store>, Failure> {
    let keys = encryption::keys(config)?;
    Ok(Arc::new(KeyedStore::new(open_to_look(url)?, keys)))
}

/// The same without keys, for names and maps alone. What would be put there is in the clear.
pub fn open_to_look(url: &str) -> Result<Arc<dyn Store>, Failure> {
    let store = ObjectStore::open(url, &StoreOptions::default());
    let store = store.map_err(|error| Failure::error("cannot open the store").because(error))?;
    Ok(Arc::new(store))
}

/// Which log and branch: as asked, else that of the node's data, else the only one there is.
pub fn identity(
    store: &dyn Store,
    args: &StoreArgs,
    config: &Config,
) -> Result<(LogId, Timeline), Failure> {
    let known = database::read_marker(&config.node_dir())?;
    let log_id = which_log(store, args.log, config)?;
    let timeline = match (args.branch, known) {
        (Some(timeline), _) => timeline,
        (None, Some((known, timeline))) if known == log_id => timeline,
        (None, _) => {
            let leaves = leaves(store, log_id).map_err(failure)?;
            only(leaves, "branches", "--branch HEX", store)?
        }
    };
    Ok((log_id, timeline))
}

pub(crate) fn only<T: ToString>(
    found: Vec<T>,
    what: &str,
    flag: &str,
    store: &dyn Store,
) -> Result<T, Failure> {
    let names: Vec<String> = found.iter().map(ToString::to_string).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::no(format!("{} holds no {what}", store.place()))),
        _ => Err(Failure::error(format!(
            "{} holds {} {what}: {}",
            store.place(),
            names.len(),
            names.join(", ")
        ))
        .hint(format!("{flag} says which"))),
    }
}

/// Where it is noted what the archive held last.
pub fn note(config: &Config) -> PathBuf {
    config.node_dir().join(NOTE)
}

/// Where it is noted that there are backups.
pub fn backup_note(config: &Config) -> PathBuf {
    config.node_dir().join(BACKUP_NOTE)
}

/// What went wrong with an archive, for a person.
pub fn failure(error: RemoteError) -> Failure {
    if let RemoteError::Unknown { signers, .. } = &error {
        let unknown = signers.first().map(ToString::to_string).unwrap_or_default();
        return Failure::no(error.to_string()).hint(format!(
            "`stemedb key show DATA_DIR/node/node.key` on a node of yours tells its key; if it is this one: \
             --trust-key {unknown}, or archive.trusted_keys in the configuration"
        ));
    }
    let hint = match &error {
        RemoteError::Gap { .. } | RemoteError::Damaged { .. } => Some("stemedb archive status"),
        RemoteError::Key { .. } => {
            Some("STEMEDB_ENCRYPTION__KEYS=FILE,… names them without a configuration")
        }
        RemoteError::Store(_) => Some("check the address, the credentials and the network"),
        _ => None,
    };
    let failure = match &error {
        RemoteError::Key { .. } => Failure::error(error.to_string()),
        RemoteError::Refused(_) => Failure::no(error.to_string()),
        _ => Failure::error("the store").because(error),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The key of this node; made if there is none.
pub fn node_key(config: &Config, env: &Env) -> Result<SigningKey, Failure> {
    if let Some(key) = existing_node_key(config, env)? {
        return Ok(key);
    }
    let path = config.node_dir().join(NODE_KEY);
    let key = crate::keys::generate(env.rng.as_ref());
    let written = stemedb_server::write_key(&*env.vfs, &path, &key);
    written.map_err(|error| cannot_use(&path, error))?;
    Ok(key)
}

fn existing_node_key(config: &Config, env: &Env) -> Result<Option<SigningKey>, Failure> {
    let path = config.node_dir().join(NODE_KEY);
    if !env.vfs.exists(&path).map_err(|error| files::cannot_read(&path, error))? {
        return Ok(None);
    }
    let read = stemedb_server::read_key(&*env.vfs, &path);
    read.map(Some).map_err(|error| cannot_use(&path, error))
}

fn cannot_use(key: &Path, error: std::io::Error) -> Failure {
    Failure::error(format!("cannot use the key {}", key.display())).because(error)
}

/// With `archive.sync` a store that is back is noticed soon.
const SYNC_RETRY_MOST: Duration = Duration::from_secs(5);

/// The archiver, for the engine.
struct Archiving(ArchiverHandle);

impl Archive for Archiving {
    fn view(&self) -> ArchiveView {
        let progress = self.0.progress();
        let (position, state) = (progress.archived, progress.state.as_str());
        let problem = match progress.state {
            ArchiveState::Starting | ArchiveState::Running => None,
            ArchiveState::Failing { problem } | ArchiveState::Stopped { problem } => Some(problem),
        };
        ArchiveView { position, state, problem }
    }

    fn flush(&self, position: Position, bound: Duration) -> bool {
        self.0.flush(position, bound)
    }
}

/// Starts to archive, if that is configured. A store that cannot be reached is tried again: it does not
/// keep the node from serving.
pub fn start(
    config: &Config,
    env: &Env,
    cutter: Cutter,
) -> Result<Option<Arc<dyn Archive>>, Failure> {
    let Some(url) = &config.archive.url else { return Ok(None) };
    let store = open(url, config)?;
    let key = node_key(config, env)?;
    let mut settings = ArchiveConfig {
        delay: delay(config),
        scrub_every: Duration::from_secs(config.archive.scrub_days * 24 * 3_600),
        keys: config.trusted_keys(),
        ..ArchiveConfig::new(note(config))
    };
    if config.archive.sync {
        settings.retry_most = SYNC_RETRY_MOST;
    }
    let archiver = Archiver::new(store, cutter, key, env.clone(), settings).map_err(failure)?;
    let started = archiver.start().map_err(failure)?;
    Ok(Some(Arc::new(Archiving(started))))
}

/// Where what was removed from the log is read, if there is an archive. Opens it when it is needed.
pub fn earlier(
    config: &Config,
    env: &Env,
    identity: (LogId, Timeline),
) -> Result<Option<Arc<dyn Removed>>, Failure> {
    let Some(url) = config.archive.url.clone() else { return Ok(None) };
    let keys = encryption::keys(config)?;
    let open = move || -> Result<Arc<dyn Store>, RemoteError> {
        let store = Arc::new(ObjectStore::open(&url, &StoreOptions::default())?);
        Ok(Arc::new(KeyedStore::new(store, keys.clone())))
    };
    Ok(Some(Arc::new(Earlier::new(Box::new(open), env.clone(), identity))))
}

/// Where it is noted which backup was verified last.
pub fn verified_note(config: &Config) -> PathBuf {
    config.node_dir().join(VERIFIED)
}

/// Starts to remove segments that are safe elsewhere, if that is configured.
pub fn start_retention(
    config: &Config,
    env: &Env,
    trimmer: Trimmer,
    cutter: Cutter,
) -> Result<Option<RetentionHandle>, Failure> {
    let places = (&config.archive.url, &config.backup.url);
    let (crate::config::Retention::Archived, (Some(archive), Some(backups))) =
        (config.wal.retention, places)
    else {
        return Ok(None);
    };
    let (archive, backups) = (open(archive, config)?, open(backups, config)?);
    let mut keys = config.trusted_keys();
    keys.push(node_key(config, env)?.agent_id());
    let retention = Retention { trimmer, cutter, archive, backups, keys, env: env.clone() };
    retention.start(verified_note(config)).map(Some).map_err(failure)
}

fn delay(config: &Config) -> Duration {
    // Checked when the configuration was.
    crate::config::duration(&config.archive.delay).unwrap_or(Duration::from_secs(10))
}
