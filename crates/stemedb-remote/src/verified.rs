//! Notes that a backup was restored and compared: what allows old segments to go. Each is an object
//! beside the backups, signed, and never changed. The format is in `docs/format/archive.md`.

use stemedb_io::Env;
use stemedb_log::Link;
use stemedb_model::{AgentId, Hash, LogId, Millis, SigningKey, Timeline};

use crate::backup::{BACKUP_BYTES_MAX, Backup, all_there};
use crate::codec::{BadManifest, Fields, MapWriter, hash, open, seal};
use crate::error::RemoteError;
use crate::manifest::{decode_link, encode_link};
use crate::names;
use crate::restore::patiently;
use crate::store::{Store, StoreError};

const DOMAIN: &str = "stemedb/backup/v1/verified";
const VERSION: u64 = 1;
/// No note is longer.
const NOTE_BYTES_MAX: u64 = 4 << 10;

/// That a backup was restored: every byte compared, the log put together and read back, opened, and
/// every answer computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRestore {
    /// The backup.
    pub backup: String,
    /// BLAKE3 of its manifest.
    pub hash: Hash,
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// The log root that came of it.
    pub end: Link,
    /// The answer root that came of it.
    pub answer_root: Hash,
    /// Whether a server gave the same answer root.
    pub compared: bool,
    /// When.
    pub verified_at: Millis,
}

impl VerifiedRestore {
    /// Of this backup, whose manifest is read for its hash.
    pub fn of(
        store: &dyn Store,
        env: &Env,
        backup: &Backup,
        answer_root: Hash,
        compared: bool,
    ) -> Result<Self, RemoteError> {
        Ok(Self {
            backup: backup.id.clone(),
            hash: hash(&manifest(store, env, backup.log_id, &backup.id)?),
            log_id: backup.log_id,
            timeline: backup.timeline,
            end: backup.end,
            answer_root,
            compared,
            verified_at: Millis(env.clock.now_ms()),
        })
    }

    /// Its bytes, signed.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let body = MapWriter::default()
            .uint("v", VERSION)
            .text("backup", &self.backup)
            .bytes("hash", &self.hash.0)
            .bytes("log_id", &self.log_id.0)
            .bytes("timeline", &self.timeline.0)
            .map("end", encode_link(&self.end))
            .bytes("answer_root", &self.answer_root.0)
            .boolean("compared", self.compared)
            .int("verified_at", self.verified_at.0)
            .finish();
        seal(DOMAIN, &body, key)
    }

    /// Reads one and says who signed it.
    pub fn open(bytes: &[u8]) -> Result<(Self, AgentId), BadManifest> {
        let (body, key) = open(DOMAIN, bytes)?;
        let mut fields = Fields::new(body)?;
        fields.version(VERSION)?;
        let note = Self {
            backup: fields.text("backup")?.to_owned(),
            hash: Hash(fields.array("hash")?),
            log_id: LogId(fields.array("log_id")?),
            timeline: Timeline(fields.array("timeline")?),
            end: decode_link(fields.map("end")?)?,
            answer_root: Hash(fields.array("answer_root")?),
            compared: fields.boolean("compared")?,
            verified_at: Millis(fields.int("verified_at")?),
        };
        fields.end()?;
        Ok((note, key))
    }

    fn name(&self) -> String {
        names::verified(self.log_id, self.verified_at, &self.backup)
    }
}

/// Puts a note beside the backups and gives its bytes, which are read back.
pub fn note_verified(
    store: &dyn Store,
    env: &Env,
    key: &SigningKey,
    note: &VerifiedRestore,
) -> Result<Vec<u8>, RemoteError> {
    let (name, bytes) = (note.name(), note.seal(key));
    patiently(env, || store.put_new(&name, &bytes).map_err(RemoteError::from))?;
    let found = patiently(env, || store.get(&name, NOTE_BYTES_MAX).map_err(RemoteError::from))?;
    if found == bytes {
        return Ok(bytes);
    }
    let problem = "what is read back is not what was put; verify the backup again".into();
    Err(RemoteError::Damaged { name, problem })
}

/// The notes of a log that can be read, the newest first, and who signed each.
pub fn verified_restores(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
) -> Result<Vec<(VerifiedRestore, AgentId)>, RemoteError> {
    let folder = names::verified_folder(log_id);
    let listed = patiently(env, || store.list(&folder, "").map_err(RemoteError::from))?;
    let mut notes = Vec::new();
    for one in listed.iter().rev() {
        let read = || store.get(&one.name, NOTE_BYTES_MAX).map_err(RemoteError::from);
        let bytes = match patiently(env, read) {
            Err(RemoteError::Store(StoreError::Missing { .. } | StoreError::TooLong { .. })) => {
                continue;
            }
            bytes => bytes?,
        };
        match VerifiedRestore::open(&bytes) {
            Ok((note, key)) if note.name() == one.name => notes.push((note, key)),
            Ok(_) => {
                tracing::warn!(name = one.name, "the note of another place; it is passed over")
            }
            Err(problem) => {
                tracing::warn!(name = one.name, %problem, "not a note; it is passed over")
            }
        }
    }
    Ok(notes)
}

/// The bytes of the manifest of a backup.
fn manifest(store: &dyn Store, env: &Env, log_id: LogId, id: &str) -> Result<Vec<u8>, RemoteError> {
    let name = names::backup(log_id, id);
    patiently(env, || store.get(&name, BACKUP_BYTES_MAX).map_err(RemoteError::from))
}

/// That the backup of a note is still the one that was verified, with every object in a listing, in its
/// length.
pub(crate) fn still_whole(
    store: &dyn Store,
    env: &Env,
    note: &VerifiedRestore,
) -> Result<(), RemoteError> {
    let name = names::backup(note.log_id, &note.backup);
    let found = manifest(store, env, note.log_id, &note.backup)?;
    if hash(&found) != note.hash {
        let problem = "its manifest is not the one that was verified".into();
        return Err(RemoteError::Damaged { name, problem });
    }
    match Backup::open(&found) {
        Ok((backup, _)) if backup.end == note.end => all_there(store, env, &backup),
        Ok(_) => {
            let problem = "it ends elsewhere than the note on it says".into();
            Err(RemoteError::Damaged { name, problem })
        }
        Err(problem) => Err(RemoteError::Manifest { name, problem }),
    }
}

/// Removes the notes on backups that are gone.
pub(crate) fn remove_notes(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    gone: &[String],
) -> Result<(), RemoteError> {
    let folder = names::verified_folder(log_id);
    let notes = patiently(env, || store.list(&folder, "").map_err(RemoteError::from))?;
    for note in notes {
        if gone.iter().any(|id| note.name.ends_with(&format!("-{id}.cbor"))) {
            patiently(env, || store.remove(&note.name).map_err(RemoteError::from))?;
        }
    }
    Ok(())
}
