//! What commands beside the server did last: backups, their verification, drills. Each leaves a note in
//! `<data_dir>/node/operations`, and the server exports what the notes say.
//!
//! A note is one JSON file, replaced as a whole and synced. It belongs to whom the folder of the node
//! belongs, so that a server reads what root has written. Backups leave the folder out: what it says is
//! of this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics::{Unit, describe_gauge, gauge};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stemedb_io::{Env, replace};
use stemedb_model::LogId;
use tokio::runtime::Runtime;

use crate::config::Config;
use crate::context::Context;
use crate::failure::Failure;
use crate::{database, files};

/// Folder of the notes, below that of the node.
pub const FOLDER: &str = "operations";
/// How often the server looks at them.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The drill that makes a backup.
pub const DRILL_BACKUP: &str = "backup";
/// The drill that restores what is there.
pub const DRILL_RESTORE: &str = "restore";
/// The drill in which a standby takes over.
pub const DRILL_FAILOVER: &str = "failover";
const DRILLS: [&str; 3] = [DRILL_BACKUP, DRILL_RESTORE, DRILL_FAILOVER];

const BACKUP: &str = "backup";
const VERIFIED: &str = "verified";

const BACKUP_AT: &str = "stemedb_backup_last_success_timestamp_seconds";
const VERIFIED_AT: &str = "stemedb_backup_last_verified_timestamp_seconds";

const DRILL_AT: &str = "stemedb_drill_last_success_timestamp_seconds";
const DRILL_RPO: &str = "stemedb_drill_rpo_seconds";
const DRILL_RTO: &str = "stemedb_drill_rto_seconds";

/// That a backup was made, or found to be what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupNote {
    /// Which.
    pub id: String,
    /// The last position in it.
    pub position: u64,
    /// When that was, in ms since 1970.
    pub at_ms: i64,
}

/// That a drill brought the database back as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillNote {
    /// When that was, in ms since 1970.
    pub at_ms: i64,
    /// How old the oldest record was that did not come back.
    pub rpo_seconds: f64,
    /// How long it took.
    pub rto_seconds: f64,
}

/// Everything that is noted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notes {
    /// The last backup that was made.
    pub backup: Option<BackupNote>,
    /// The last time that the newest one was verified.
    pub verified: Option<BackupNote>,
    /// The last drill of each kind that succeeded.
    pub drills: Vec<(&'static str, DrillNote)>,
}

/// Notes that a backup was made.
pub fn backup_made(config: &Config, context: &Context, log_id: LogId, note: &BackupNote) {
    leave(config, context, log_id, BACKUP, note);
}

/// Notes that the newest backup was verified.
pub fn backup_verified(config: &Config, context: &Context, log_id: LogId, note: &BackupNote) {
    leave(config, context, log_id, VERIFIED, note);
}

/// Notes that a drill succeeded.
pub fn drilled(config: &Config, context: &Context, log_id: LogId, drill: &str, note: &DrillNote) {
    leave(config, context, log_id, &of_drill(drill), note);
}

fn of_drill(drill: &str) -> String {
    format!("drill-{drill}")
}

/// Leaves a note for the server of this database, if it is of this machine. What was done is done
/// without it, too.
fn leave(config: &Config, context: &Context, log_id: LogId, name: &str, note: &impl Serialize) {
    let node = config.node_dir();
    if !matches!(database::read_marker(&node), Ok(Some((here, _))) if here == log_id) {
        return;
    }
    if let Err(error) = write(&context.env, &node, name, note) {
        let dir = node.join(FOLDER);
        context.say(&format!(
            "the server will not know of this: cannot write into {}: {error}; run it as the user of the \
             node",
            dir.display()
        ));
    }
}

fn path(node: &Path, name: &str) -> PathBuf {
    node.join(FOLDER).join(format!("{name}.json"))
}

fn write(env: &Env, node: &Path, name: &str, note: &impl Serialize) -> io::Result<()> {
    let (dir, path) = (node.join(FOLDER), path(node, name));
    env.vfs.create_dir_all(&dir)?;
    let text = serde_json::to_string(note)? + "\n";
    replace(&*env.vfs, &path, text.as_bytes())?;
    env.vfs.sync_dir(node)
}

fn read<T: DeserializeOwned>(node: &Path, name: &str) -> Result<Option<T>, Failure> {
    let path = path(node, name);
    let shown = path.display();
    let there = path.try_exists().map_err(|error| files::cannot_read(&path, error))?;
    if !there {
        return Ok(None);
    }
    let note = serde_json::from_str(&files::read_text(&path)?);
    note.map(Some).map_err(|error| {
        Failure::error(format!("{shown} is no note of an operation"))
            .because(error)
            .hint(format!("rm {shown}"))
    })
}

impl Notes {
    /// Reads what is noted in the folder of a node.
    pub fn load(node: &Path) -> Result<Self, Failure> {
        let mut drills = Vec::new();
        for drill in DRILLS {
            drills.extend(read(node, &of_drill(drill))?.map(|note| (drill, note)));
        }
        Ok(Self { backup: read(node, BACKUP)?, verified: read(node, VERIFIED)?, drills })
    }

    /// Brings the metrics up to date. Where backups are `expected`, none at all is one of 1970.
    fn export(&self, expected: bool) {
        let at = |note: &Option<BackupNote>| note.as_ref().map(|note| seconds(note.at_ms));
        for (name, note) in [(BACKUP_AT, &self.backup), (VERIFIED_AT, &self.verified)] {
            if let Some(at) = at(note).or(expected.then_some(0.0)) {
                gauge!(name).set(at);
            }
        }
        for (drill, note) in &self.drills {
            gauge!(DRILL_AT, "drill" => *drill).set(seconds(note.at_ms));
            gauge!(DRILL_RPO, "drill" => *drill).set(note.rpo_seconds);
            gauge!(DRILL_RTO, "drill" => *drill).set(note.rto_seconds);
        }
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

/// Exports what the notes say while the runtime lives.
pub fn keep_exported(config: &Config, runtime: &Runtime) {
    let text = "when the last backup was made, since the unix epoch; 0 if none was";
    describe_gauge!(BACKUP_AT, Unit::Seconds, text);
    let text = "when the newest backup was last verified, since the unix epoch; 0 if none was";
    describe_gauge!(VERIFIED_AT, Unit::Seconds, text);
    let text = "when a drill last brought the database back as it was, by drill";
    describe_gauge!(DRILL_AT, Unit::Seconds, text);
    let text = "age of the oldest record that would not have come back, of the last drill";
    describe_gauge!(DRILL_RPO, Unit::Seconds, text);
    let text = "from nothing to a database that answers, of the last drill";
    describe_gauge!(DRILL_RTO, Unit::Seconds, text);
    let (node, expected) = (config.node_dir(), config.backup.url.is_some());
    runtime.spawn(async move {
        let mut problem = None;
        loop {
            let node = node.clone();
            // A disk that hangs must not hold up a task that answers requests.
            let looked = tokio::task::spawn_blocking(move || Notes::load(&node)).await;
            let found = match looked {
                Ok(Ok(notes)) => {
                    notes.export(expected);
                    None
                }
                Ok(Err(failure)) => Some(failure.report()),
                Err(_) => None,
            };
            if let (Some(found), true) = (&found, found != problem) {
                tracing::warn!(problem = found.trim_end(), "cannot tell what was done last");
            }
            problem = found;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use std::fs::metadata;
    use std::os::unix::fs::{MetadataExt, chown};

    use super::*;

    fn note(id: &str) -> BackupNote {
        BackupNote { id: id.into(), position: 7, at_ms: 1_700_000_000_000 }
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        assert_eq!(Notes::load(dir.path()).unwrap(), Notes::default());
        write(&env, dir.path(), BACKUP, &note("a")).unwrap();
        write(&env, dir.path(), BACKUP, &note("b")).unwrap();
        let found = Notes::load(dir.path()).unwrap();
        assert_eq!(found, Notes { backup: Some(note("b")), ..Notes::default() });
        let drill = DrillNote { at_ms: 1, rpo_seconds: 0.5, rto_seconds: 2.0 };
        write(&env, dir.path(), &of_drill(DRILL_RESTORE), &drill).unwrap();
        let found = Notes::load(dir.path()).unwrap();
        assert_eq!(found.drills, [(DRILL_RESTORE, drill)]);
        write(&env, dir.path(), VERIFIED, &"another thing").unwrap();
        let failure = Notes::load(dir.path()).unwrap_err().report();
        assert!(failure.contains("verified.json is no note"), "{failure}");
    }

    #[test]
    #[ignore = "needs root (files of another user); `make unit` runs it as root"]
    fn what_root_has_noted_is_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(4_711), Some(4_711)).unwrap();
        write(&Env::real(), dir.path(), BACKUP, &note("a")).unwrap();
        for path in [dir.path().join(FOLDER), path(dir.path(), BACKUP)] {
            let found = metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid()), (4_711, 4_711), "{}", path.display());
        }
    }
}
