//! The API keys of a node, in `<data_dir>/node/api-keys.json`.
//!
//! Secrets are stored as hashes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use serde::{Deserialize, Serialize};
use stemedb_io::{Env, FolderLock, Vfs, replace};
use stemedb_model::{Hash, Millis, Principal, Space};

use super::sealed::{self, Unreadable};
use super::token::{Token, id_bytes};
use crate::custodial::create_folder;
use crate::wire::{AgentKey, HashHex, KeyInfo, KeyRole, NewKey, Quota, SpaceText, Time};

/// Version of the file.
pub const KEYS_FORMAT: u64 = 1;
/// Keys of one node, revoked ones included.
const KEYS_MAX: usize = 10_000;
/// Spaces of one key.
const SPACES_MAX: usize = 256;
/// How exactly it is known when a key was used: finer would be a write for every request.
const USED_MS: i64 = 3_600_000;
/// Longest grace of a rotated secret: 30 days.
pub(crate) const GRACE_SECONDS_MAX: u64 = 30 * 24 * 3_600;
/// Name and owner of the key that a first start makes.
const FIRST: &str = "local";

/// Why there are no keys, or a change of them was not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not as it was written.
    #[error(
        "{} is damaged: {problem}; bring it back from a backup, or make all keys anew with \
         `stemedb admin keys reset`",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process has the folder.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The request makes no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// There is no such key.
    #[error("there is no API key {0}")]
    Unknown(String),
    /// A live key has this name.
    #[error("there is a live API key with the name {0}: rotate or revoke it, or take another name")]
    NameTaken(String),
    /// The key is revoked.
    #[error("the API key {0} is revoked")]
    Revoked(String),
    /// Nobody could make keys any more.
    #[error(
        "the API key {0} is the last live one with role admin: make another one before it is revoked"
    )]
    LastAdmin(String),
    /// There is no room.
    #[error("there are {KEYS_MAX} live API keys, which is the limit")]
    Full,
}

/// Why a key that was shown is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key has this id, or not this secret.
    Unknown,
    /// Its time is over, or that of this secret.
    Expired,
    /// It was revoked.
    Revoked,
}

/// A secret, as its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    hash: HashHex,
    created_at: Time,
    /// Until when it is taken, of one that was rotated out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    id: String,
    name: String,
    principal: String,
    role: KeyRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spaces: Option<Vec<SpaceText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<AgentKey>,
    created_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
    /// The newest first; at most two.
    secrets: Vec<Secret>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u64,
    keys: Vec<Stored>,
}

/// An API key in use, read.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    stored: Stored,
    pub(crate) principal: Principal,
    pub(crate) spaces: Option<Vec<Space>>,
}

impl Key {
    fn read(stored: Stored) -> Result<Self, String> {
        let wrong = |what: &str, problem: String| format!("key {}: {what}: {problem}", stored.id);
        if id_bytes(&stored.id).is_none() {
            return Err(wrong("id", "expected 16 hex digits".into()));
        }
        let principal = Principal::parse(&stored.principal);
        let principal = principal.map_err(|invalid| wrong("principal", invalid.problem))?;
        let spaces = stored.spaces.as_ref().map(|spaces| {
            let parsed = spaces.iter().map(|space| Space::parse(space.as_str()));
            parsed.collect::<Result<Vec<_>, _>>()
        });
        let spaces = spaces.transpose().map_err(|invalid| wrong("space", invalid.problem))?;
        Ok(Self { stored, principal, spaces })
    }

    pub(crate) fn id(&self) -> &str {
        &self.stored.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.stored.name
    }

    pub(crate) fn role(&self) -> KeyRole {
        self.stored.role
    }

    pub(crate) fn agent(&self) -> Option<stemedb_model::AgentId> {
        self.stored.agent.map(|agent| agent.0)
    }

    pub(crate) fn quota(&self) -> Option<Quota> {
        self.stored.quota
    }

    fn live(&self, now: Millis) -> Result<(), Denied> {
        if self.stored.revoked_at.is_some() {
            return Err(Denied::Revoked);
        }
        match self.stored.expires_at {
            Some(end) if end.0 <= now => Err(Denied::Expired),
            _ => Ok(()),
        }
    }

    /// Whether requests with it are answered now.
    pub(crate) fn is_live(&self, now: Millis) -> bool {
        self.live(now).is_ok()
    }

    pub(crate) fn info(&self, now: Millis) -> KeyInfo {
        let Stored {
            id,
            name,
            principal,
            role,
            spaces,
            agent,
            created_at,
            expires_at,
            last_used_at,
            revoked_at,
            quota,
            secrets,
        } = self.stored.clone();
        let state = match self.live(now) {
            Ok(()) => "active",
            Err(Denied::Revoked) => "revoked",
            Err(Denied::Expired | Denied::Unknown) => "expired",
        };
        let old_secret_until =
            secrets.iter().filter_map(|secret| secret.until).find(|until| until.0 > now);
        KeyInfo {
            id,
            name,
            principal,
            role,
            spaces,
            agent,
            state: state.to_owned(),
            created_at,
            expires_at,
            last_used_at,
            revoked_at,
            old_secret_until,
            quota,
            used_today: None,
        }
    }
}

type Keys = BTreeMap<String, Arc<Key>>;

/// The keys of a node. Holds the lock of the folder.
pub(crate) struct KeyStore {
    env: Env,
    file: PathBuf,
    keys: RwLock<Arc<Keys>>,
    /// One change at a time; whether something is newer than the file.
    change: Mutex<bool>,
    _lock: Box<dyn FolderLock>,
}

/// Takes the folder of the node's own state, for as long as the result lives: nobody resets the keys
/// of a node that runs.
pub(crate) fn hold(env: &Env, data_dir: &Path) -> Result<Box<dyn FolderLock>, KeyError> {
    let node = data_dir.join("node");
    let failed = |source| KeyError::File { file: node.clone(), source };
    create_folder(&*env.vfs, data_dir, &node).map_err(failed)?;
    env.vfs.lock(&node).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => KeyError::InUse(node.clone()),
        _ => failed(error),
    })
}

/// The file of the keys.
pub fn keys_file(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("api-keys.json")
}

/// Where the secret of the first key is written, for its owner to take.
pub fn first_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("first-admin.key")
}

impl KeyStore {
    /// Reads the keys. Where there is no list yet, makes a first key with role admin and writes it
    /// into a file of its own, which is named in the result.
    pub(crate) fn open(env: &Env, data_dir: &Path) -> Result<(Self, Option<PathBuf>), KeyError> {
        let store = Self::lock(env, data_dir)?;
        let read = read(&*env.vfs, &store.file)?;
        if let Some(keys) = read {
            *store.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            return Ok((store, None));
        }
        let path = store.start_over(data_dir, Keys::new())?;
        Ok((store, Some(path)))
    }

    /// Takes the keys that the file holds now.
    pub(crate) fn reload(&self) -> Result<(), KeyError> {
        let mut unwritten = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = read(&*self.env.vfs, &self.file)? {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            *unwritten = false;
        }
        Ok(())
    }

    fn lock(env: &Env, data_dir: &Path) -> Result<Self, KeyError> {
        let (file, lock) = (keys_file(data_dir), hold(env, data_dir)?);
        let keys = RwLock::default();
        Ok(Self { env: env.clone(), file, keys, change: Mutex::new(false), _lock: lock })
    }

    /// Puts `kept` and a new first key in force. Its secret is on the disk before the list that
    /// knows it: a start that is cut short between the two makes another.
    fn start_over(&self, data_dir: &Path, mut kept: Keys) -> Result<PathBuf, KeyError> {
        let path = first_key_file(data_dir);
        let token = Token::generate(&*self.env.rng, None);
        let text = token.reveal() + "\n";
        replace(&*self.env.vfs, &path, text.as_bytes())
            .map_err(|source| KeyError::File { file: path.clone(), source })?;
        let key = self.made(&token, FIRST, FIRST, KeyRole::Admin);
        let key = Key::read(key).map_err(|problem| self.invalid(problem))?;
        kept.insert(token.id(), Arc::new(key));
        self.save(&kept)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kept);
        Ok(path)
    }

    fn invalid(&self, problem: String) -> KeyError {
        KeyError::Damaged { file: self.file.clone(), problem }
    }

    fn now(&self) -> Millis {
        Millis(self.env.clock.now_ms())
    }

    fn made(&self, token: &Token, name: &str, principal: &str, role: KeyRole) -> Stored {
        let now = Time(self.now());
        Stored {
            id: token.id(),
            name: name.to_owned(),
            principal: principal.to_owned(),
            role,
            spaces: None,
            agent: None,
            created_at: now,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            quota: None,
            secrets: vec![Secret { hash: HashHex(token.hash()), created_at: now, until: None }],
        }
    }

    /// The keys as they are now.
    pub(crate) fn all(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys, the oldest first.
    pub(crate) fn list(&self) -> Vec<KeyInfo> {
        let now = self.now();
        let mut list: Vec<KeyInfo> = self.all().values().map(|key| key.info(now)).collect();
        list.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        list
    }

    /// Whose key it is, and notes the use.
    pub(crate) fn authenticate(&self, token: &Token) -> Result<Arc<Key>, Denied> {
        let now = self.now();
        let key = self.all().get(&token.id()).cloned().ok_or(Denied::Unknown)?;
        let hash = blake3::Hash::from_bytes(*token.hash().as_bytes());
        // The comparison of these hashes takes the same time wherever they differ.
        let mut secrets = key.stored.secrets.iter();
        let secret = secrets
            .find(|secret| blake3::Hash::from_bytes(*secret.hash.0.as_bytes()) == hash)
            .ok_or(Denied::Unknown)?;
        key.live(now)?;
        if secret.until.is_some_and(|until| until.0 <= now) {
            return Err(Denied::Expired);
        }
        let hour = Millis(now.0 - now.0.rem_euclid(USED_MS));
        if key.stored.last_used_at.is_none_or(|last| last.0 < hour) {
            self.note_use(key.id(), hour);
        }
        Ok(key)
    }

    /// Whether a secret that was taken is taken still.
    pub(crate) fn still(&self, id: &str, shown: &Hash) -> bool {
        let (now, all) = (self.now(), self.all());
        all.get(id).is_some_and(|key| {
            let mut secrets = key.stored.secrets.iter();
            key.is_live(now)
                && secrets.any(|secret| {
                    secret.hash.0 == *shown && secret.until.is_none_or(|until| until.0 > now)
                })
        })
    }

    /// In memory; [`KeyStore::flush`] writes it. While a change is being written, which may take as
    /// long as the disk likes, nothing is noted: the next request does it.
    fn note_use(&self, id: &str, hour: Millis) {
        let mut unwritten = match self.change.try_lock() {
            Ok(unwritten) => unwritten,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let mut keys = Keys::clone(&self.all());
        if let Some(key) = keys.get_mut(id) {
            Arc::make_mut(key).stored.last_used_at = Some(Time(hour));
            *unwritten = true;
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
    }

    /// Writes when keys were used, if that is not written yet.
    pub(crate) fn flush(&self) -> Result<(), KeyError> {
        let mut unwritten = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if *unwritten {
            self.save(&self.all())?;
            *unwritten = false;
        }
        Ok(())
    }

    /// Makes a key. It counts once this has returned.
    pub(crate) fn create(&self, new: &NewKey) -> Result<(Token, KeyInfo), KeyError> {
        let mut unwritten = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let mut keys = Keys::clone(&self.all());
        check(new, now)?;
        if keys.values().any(|key| key.is_live(now) && key.name() == new.name) {
            return Err(KeyError::NameTaken(new.name.clone()));
        }
        if keys.len() >= KEYS_MAX {
            let ended = keys.values().filter(|key| !key.is_live(now));
            let oldest = ended.min_by_key(|key| key.stored.created_at);
            let oldest = oldest.map(|key| key.id().to_owned()).ok_or(KeyError::Full)?;
            keys.remove(&oldest);
        }
        let token = Token::generate(&*self.env.rng, None);
        let principal = new.principal.as_ref().unwrap_or(&new.name);
        let mut stored = self.made(&token, &new.name, principal, new.role);
        let mut spaces = new.spaces.clone();
        if let Some(spaces) = &mut spaces {
            spaces.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            spaces.dedup();
        }
        (stored.spaces, stored.agent, stored.expires_at) = (spaces, new.agent, new.expires_at);
        stored.quota = new.quota;
        let key = Key::read(stored).map_err(|problem| self.invalid(problem))?;
        let info = key.info(now);
        if keys.insert(token.id(), Arc::new(key)).is_some() {
            return Err(self.invalid("the source of chance gave an id twice".into()));
        }
        self.put(keys, &mut unwritten)?;
        Ok((token, info))
    }

    /// Gives a key another secret. The one before it is taken for `grace_seconds` more; one from
    /// before that no longer.
    pub(crate) fn rotate(
        &self,
        id: &str,
        grace_seconds: u64,
    ) -> Result<(Token, KeyInfo), KeyError> {
        if grace_seconds > GRACE_SECONDS_MAX {
            let problem = format!("{grace_seconds}, expected 0 to {GRACE_SECONDS_MAX}");
            return Err(KeyError::Invalid { field: "grace_seconds", problem });
        }
        let grace_ms = i64::try_from(grace_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let mut rotated = None;
        let info = self.edit(id, |stored, now| {
            if stored.revoked_at.is_some() {
                return Err(KeyError::Revoked(stored.id.clone()));
            }
            let token = Token::generate(&*self.env.rng, id_bytes(&stored.id));
            let until = Some(Time(Millis(now.0.saturating_add(grace_ms))));
            let old = stored.secrets.first().filter(|_| grace_seconds > 0).cloned();
            stored.secrets =
                vec![Secret { hash: HashHex(token.hash()), created_at: Time(now), until: None }];
            stored.secrets.extend(old.map(|old| Secret { until, ..old }));
            rotated = Some(token);
            Ok(())
        })?;
        let token = rotated.ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
        Ok((token, info))
    }

    /// Revokes a key for good; one that is revoked already stays as it is.
    pub(crate) fn revoke(&self, id: &str) -> Result<KeyInfo, KeyError> {
        self.edit(id, |stored, now| {
            // Inside the change: of two at once, one sees what the other has done.
            let others = self.all().values().any(|key| {
                key.role() == KeyRole::Admin && key.is_live(now) && key.id() != stored.id
            });
            if stored.role == KeyRole::Admin && stored.revoked_at.is_none() && !others {
                return Err(KeyError::LastAdmin(stored.id.clone()));
            }
            stored.revoked_at = stored.revoked_at.or(Some(Time(now)));
            stored.secrets.clear();
            Ok(())
        })
    }

    fn edit(
        &self,
        id: &str,
        change: impl FnOnce(&mut Stored, Millis) -> Result<(), KeyError>,
    ) -> Result<KeyInfo, KeyError> {
        let mut unwritten = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let mut keys = Keys::clone(&self.all());
        let key = keys.get_mut(id).ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
        change(&mut Arc::make_mut(key).stored, now)?;
        let info = key.info(now);
        self.put(keys, &mut unwritten)?;
        Ok(info)
    }

    /// On the disk first: what is in force is never less durable than an answer says.
    fn put(&self, keys: Keys, unwritten: &mut bool) -> Result<(), KeyError> {
        // If it fails half-way, the next flush writes what is in force.
        *unwritten = true;
        self.save(&keys)?;
        *unwritten = false;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    fn save(&self, keys: &Keys) -> Result<(), KeyError> {
        let keys = keys.values().map(|key| key.stored.clone()).collect();
        sealed::write(&*self.env.vfs, &self.file, &File { format: KEYS_FORMAT, keys })
            .map_err(|source| KeyError::File { file: self.file.clone(), source })
    }
}

/// What a reset did.
#[derive(Debug)]
pub struct Reset {
    /// Where the new key is.
    pub file: PathBuf,
    /// Live keys that are revoked now.
    pub revoked: usize,
    /// Where a list went that could not be read.
    pub set_aside: Option<PathBuf>,
}

/// Revokes every API key of a stopped node and makes one with role admin. Works on a damaged list,
/// too, which is kept beside the new one.
pub fn reset_keys(env: &Env, data_dir: &Path) -> Result<Reset, KeyError> {
    let store = KeyStore::lock(env, data_dir)?;
    let now = store.now();
    let (mut kept, set_aside) = match read(&*env.vfs, &store.file) {
        Ok(found) => (found.unwrap_or_default(), None),
        Err(KeyError::Damaged { file, .. }) => {
            let aside = file.with_extension(format!("json.damaged-{}", now.0));
            // Its name becomes durable together with that of the new list.
            env.vfs
                .rename(&file, &aside)
                .map_err(|source| KeyError::File { file: file.clone(), source })?;
            (Keys::new(), Some(aside))
        }
        Err(error) => return Err(error),
    };
    let mut revoked = 0;
    for key in kept.values_mut() {
        let live = key.is_live(now);
        let stored = &mut Arc::make_mut(key).stored;
        if stored.revoked_at.is_none() {
            revoked += usize::from(live);
            stored.revoked_at = Some(Time(now));
            stored.secrets.clear();
        }
    }
    let file = store.start_over(data_dir, kept)?;
    Ok(Reset { file, revoked, set_aside })
}

fn check(new: &NewKey, now: Millis) -> Result<(), KeyError> {
    let invalid = |field, problem| Err(KeyError::Invalid { field, problem });
    // The name is the owner where none is given, so it is written alike.
    if let Err(problem) = Principal::parse(&new.name) {
        return invalid("name", problem.problem);
    }
    if let Some(Err(problem)) = new.principal.as_ref().map(|name| Principal::parse(name)) {
        return invalid("principal", problem.problem);
    }
    let owner = new.principal.as_ref().unwrap_or(&new.name);
    if owner == FIRST && new.role != KeyRole::Admin {
        let field = if new.principal.is_some() { "principal" } else { "name" };
        let problem = "`local` is the node's own owner, whose records have the node's rights: only \
                       an admin key may have it";
        return invalid(field, problem.into());
    }
    if let Some(spaces) = &new.spaces {
        if new.role > KeyRole::Writer {
            let problem = format!("{} is a role for the whole node, and takes none", new.role);
            return invalid("spaces", problem);
        }
        if !(1..=SPACES_MAX).contains(&spaces.len()) {
            let problem = format!("{} items, expected 1 to {SPACES_MAX}", spaces.len());
            return invalid("spaces", problem);
        }
        if let Some(Err(problem)) =
            spaces.iter().map(|space| Space::parse(space.as_str())).find(Result::is_err)
        {
            return invalid("spaces", problem.problem);
        }
    }
    if new.agent.is_some() && new.role != KeyRole::Writer {
        return invalid("agent", format!("only a writer is bound to one, not {}", new.role));
    }
    if let Some(Quota { records_per_day, bytes_per_day }) = new.quota {
        if new.role == KeyRole::Reader {
            return invalid("quota", "is a bound on writing, and a reader does not write".into());
        }
        if records_per_day.is_none() && bytes_per_day.is_none() {
            return invalid("quota", "bounds neither records nor bytes".into());
        }
    }
    if new.expires_at.is_some_and(|end| end.0 <= now) {
        return invalid("expires_at", "is not in the future".into());
    }
    Ok(())
}

/// `None` if there is no list.
fn read(vfs: &dyn Vfs, path: &Path) -> Result<Option<Keys>, KeyError> {
    let damaged = |problem: String| KeyError::Damaged { file: path.to_owned(), problem };
    let read = sealed::read::<File>(vfs, path).map_err(|error| match error {
        Unreadable::Io(source) => KeyError::File { file: path.to_owned(), source },
        Unreadable::Damaged(problem) => damaged(problem),
    })?;
    let Some(read) = read else { return Ok(None) };
    if read.format != KEYS_FORMAT {
        return Err(damaged(format!("its format is {}, expected {KEYS_FORMAT}", read.format)));
    }
    let mut keys = Keys::new();
    for stored in read.keys {
        let key = Key::read(stored).map_err(damaged)?;
        keys.insert(key.id().to_owned(), Arc::new(key));
    }
    Ok(Some(keys))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
