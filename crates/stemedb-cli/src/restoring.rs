//! The note that a restore leaves in the data folder until it is done. Such a folder is not served: what
//! is there may be a log that ends early, or a node without its keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stemedb_io::{Env, replace};
use stemedb_remote::{Backup, RestorePlan, Store};

use crate::config::Config;
use crate::failure::Failure;
use crate::{database, files};

/// Its name in the data folder.
const NAME: &str = "restoring";

/// What is restored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restoring {
    store: String,
    log_id: String,
    branch: String,
    position: u64,
    log_root: String,
    backup: Option<String>,
}

impl Restoring {
    /// What this plan restores.
    pub fn of(plan: &RestorePlan, backup: Option<&Backup>, store: &dyn Store) -> Self {
        Self {
            store: store.place(),
            log_id: plan.log_id.to_string(),
            branch: plan.timeline.to_string(),
            position: plan.end.position.0,
            log_root: plan.end.chain.to_string(),
            backup: backup.map(|one| one.id.clone()),
        }
    }

    /// Whether it comes to the same, from whatever address.
    fn same(&self, other: &Self) -> bool {
        (&self.log_id, self.position, &self.log_root, &self.backup)
            == (&other.log_id, other.position, &other.log_root, &other.backup)
    }

    /// Notes it, unless that was done before. Refuses a folder in which something else is restored.
    pub fn begin(&self, config: &Config, env: &Env) -> Result<(), Failure> {
        if let Some(begun) = read(config)? {
            return if self.same(&begun) { Ok(()) } else { Err(begun.unfinished(config)) };
        }
        // A log that is there is a finished restore, or somebody else's: putting it together tells.
        if database::has_entries(env, &config.wal_dir())? {
            return Ok(());
        }
        database::make_private(&config.server.data_dir)?;
        let text = serde_json::to_string(self).unwrap_or_default() + "\n";
        let path = path(config);
        replace(&*env.vfs, &path, text.as_bytes()).map_err(|error| {
            Failure::error(format!("cannot write {}", path.display())).because(error)
        })
    }

    fn unfinished(&self, config: &Config) -> Failure {
        let dir = config.server.data_dir.display();
        let Self { store, log_id, branch, position, backup, .. } = self;
        let from = match backup {
            Some(id) => format!("--backup {id}"),
            None => format!("--branch {branch}"),
        };
        Failure::error(format!(
            "{dir} is half restored: a restore up to position {position} broke off"
        ))
        .hint(format!(
            "stemedb backup restore --store {store} --log {log_id} {from} --position {position} \
                 --data-dir {dir} goes on with it; or empty the folder"
        ))
    }
}

/// The restore is done.
pub fn end(config: &Config, env: &Env) -> Result<(), Failure> {
    let path = path(config);
    let removed = match env.vfs.remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        removed => removed.and_then(|()| env.vfs.sync_dir(&config.server.data_dir)),
    };
    removed
        .map_err(|error| Failure::error(format!("cannot remove {}", path.display())).because(error))
}

/// Refuses a data folder that is half restored.
pub fn refuse(config: &Config) -> Result<(), Failure> {
    read(config)?.map_or(Ok(()), |begun| Err(begun.unfinished(config)))
}

fn read(config: &Config) -> Result<Option<Restoring>, Failure> {
    let path = path(config);
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(&path)?;
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Failure::error(format!("{} does not say what is restored here", path.display()))
            .because(error)
            .hint("empty the data folder and restore again")
    })
}

fn path(config: &Config) -> PathBuf {
    config.server.data_dir.join(NAME)
}
