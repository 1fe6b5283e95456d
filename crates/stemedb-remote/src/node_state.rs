//! What a primary keeps beside its log (API keys, the keys by which it signs for callers, quotas, its
//! audit), put beside the archive whenever it has changed, for the node that takes its place.
//!
//! A state is a signed list of files named by content, like that of a backup. The newest few are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stemedb_io::{Env, replace};
use stemedb_model::{AgentId, LogId, Millis, SigningKey, Timeline};

use crate::archiver::put_and_read_back;
use crate::backup::{FileEntry, read_file, walk};
use crate::codec::{BadManifest, Fields, MapWriter, hash, open, seal};
use crate::encrypt::Context;
use crate::error::RemoteError;
use crate::names;
use crate::restore::fetch_hashed;
use crate::store::{Put, Store, StoreError};

const DOMAIN: &str = "stemedb/node/v1/manifest";
const VERSION: u64 = 1;
/// No list is longer.
const STATE_BYTES_MAX: u64 = 16 << 20;
/// States that stay: whoever fetches one is done before so many more are put.
const KEPT: u64 = 8;

/// The files of a node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// The database.
    pub log_id: LogId,
    /// The branch that the node writes.
    pub timeline: Timeline,
    /// From 1.
    pub number: u64,
    /// When it was put.
    pub made_at: Millis,
    /// By path below the node's folder.
    pub files: Vec<FileEntry>,
}

impl NodeState {
    /// Its bytes, signed.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let body = MapWriter::default()
            .uint("v", VERSION)
            .bytes("log_id", &self.log_id.0)
            .bytes("timeline", &self.timeline.0)
            .uint("number", self.number)
            .int("made_at", self.made_at.0)
            .list("files", self.files.iter().map(FileEntry::encode).collect())
            .finish();
        seal(DOMAIN, &body, key)
    }

    /// Reads one and says who signed it.
    pub fn open(bytes: &[u8]) -> Result<(Self, AgentId), BadManifest> {
        let (body, key) = open(DOMAIN, bytes)?;
        let mut fields = Fields::new(body)?;
        fields.version(VERSION)?;
        let state = Self {
            log_id: LogId(fields.array("log_id")?),
            timeline: Timeline(fields.array("timeline")?),
            number: fields.uint("number")?,
            made_at: Millis(fields.int("made_at")?),
            files: fields.list("files", FileEntry::decode)?,
        };
        fields.end()?;
        Ok((state, key))
    }
}

/// The numbers of the states that are there, ascending.
fn numbers(store: &dyn Store, log_id: LogId) -> Result<Vec<u64>, RemoteError> {
    let there = store.list(&names::node_states(log_id), "")?;
    Ok(there.iter().filter_map(|one| names::manifest_number(&one.name)).collect())
}

fn read(
    store: &dyn Store,
    log_id: LogId,
    number: u64,
) -> Result<(NodeState, AgentId), RemoteError> {
    let name = names::node_state(log_id, number);
    let bytes = store.get(&name, STATE_BYTES_MAX)?;
    let (state, key) = NodeState::open(&bytes)
        .map_err(|problem| RemoteError::Manifest { name: name.clone(), problem })?;
    if (state.log_id, state.number) == (log_id, number) {
        return Ok((state, key));
    }
    let problem = "it is the state of another place".into();
    Err(RemoteError::Damaged { name, problem })
}

/// The newest state behind number `after` and who signed it; `None` if there is none.
pub fn newest_node_state(
    store: &dyn Store,
    log_id: LogId,
    after: u64,
) -> Result<Option<(NodeState, AgentId)>, RemoteError> {
    match numbers(store, log_id)?.last() {
        Some(&number) if number > after => read(store, log_id, number).map(Some),
        _ => Ok(None),
    }
}

/// Puts the files of a state below `to`, where `place` says; those that are there are replaced. Gives
/// the paths that have changed.
pub fn fetch_node_state(
    store: &dyn Store,
    env: &Env,
    state: &NodeState,
    to: &Path,
    place: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, RemoteError> {
    let mut changed = Vec::new();
    for file in &state.files {
        let Some(below) = place(&file.path) else { continue };
        let path = to.join(&below);
        let name = names::node_file(state.log_id, &file.hash, file.copy);
        let (keys, context) = (store.keys(), Context::file(state.log_id, &file.path));
        if let Some(there) = read_file(env, &path)?
            && hash(&keys.seal_with(&name, file.key_id, &context, &there)?) == file.hash
        {
            continue;
        }
        let bytes = fetch_hashed(store, env, &name, file.bytes, file.hash)?;
        let bytes = keys.open(&name, file.key_id, &context, bytes)?;
        let failed = |act, path: &Path| {
            let file = path.display().to_string();
            move |source| RemoteError::File { act, file, source }
        };
        let dir = path.parent().unwrap_or(to);
        env.vfs.create_dir_all(dir).map_err(failed("create", dir))?;
        replace(&*env.vfs, &path, &bytes).map_err(failed("write", &path))?;
        changed.push(below);
    }
    Ok(changed)
}

/// Puts the files of a node beside its archive whenever they have changed.
pub struct Carrier {
    store: Arc<dyn Store>,
    env: Env,
    key: SigningKey,
    identity: (LogId, Timeline),
    dir: PathBuf,
    leave_out: Vec<String>,
    /// What is there, as this carrier has put it.
    files: Option<Vec<FileEntry>>,
    /// How long they are here.
    lengths: BTreeMap<String, u64>,
    /// Objects that are there by their content.
    known: BTreeMap<stemedb_model::Hash, u64>,
    number: Option<u64>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Carrier {
    /// Of the node whose files are in `dir`, without those in `leave_out`. Asks nothing yet.
    pub fn new(
        store: Arc<dyn Store>,
        env: Env,
        key: SigningKey,
        identity: (LogId, Timeline),
        dir: PathBuf,
        leave_out: Vec<String>,
    ) -> Self {
        let (files, lengths, known, number) = (None, BTreeMap::new(), BTreeMap::new(), None);
        Self { store, env, key, identity, dir, leave_out, files, lengths, known, number }
    }

    /// Puts a state if the files have changed. Of the audit's file in use, which changes with every read,
    /// nothing is put: it goes once it is closed. Whether a state was put.
    pub fn step(&mut self) -> Result<bool, RemoteError> {
        let mut paths = Vec::new();
        walk(&self.env, &self.dir, "", &self.leave_out, &mut paths)?;
        paths.sort();
        let in_use = paths.iter().filter(|path| path.starts_with("audit/")).max().cloned();
        let (log_id, timeline) = self.identity;
        let mut files = Vec::new();
        for path in paths.into_iter().filter(|path| Some(path) != in_use.as_ref()) {
            // A closed file of an audit is never changed, and there may be many.
            if path.starts_with("audit")
                && let Ok(found) = self.env.vfs.metadata(&self.dir.join(&path))
                && self.lengths.get(&path) == Some(&found.len)
                && let Some(file) = self.files.iter().flatten().find(|file| file.path == path)
            {
                files.push(file.clone());
                continue;
            }
            let Some(content) = read_file(&self.env, &self.dir.join(&path))? else { continue };
            self.lengths.insert(path.clone(), content.len() as u64);
            let (bytes, key_id) =
                self.store.keys().seal(&Context::file(log_id, &path), &content)?;
            let hash = hash(&bytes);
            let copy = match self.known.get(&hash) {
                Some(copy) => *copy,
                None => {
                    let name = |copy| names::node_file(log_id, &hash, copy);
                    let copy = put_and_read_back(&*self.store, &bytes, name)?;
                    self.known.insert(hash, copy);
                    copy
                }
            };
            files.push(FileEntry { path, bytes: bytes.len() as u64, hash, copy, key_id });
        }
        if self.files.as_ref() == Some(&files) {
            return Ok(false);
        }
        let number = match self.number {
            Some(number) => number,
            None => numbers(&*self.store, log_id)?.last().copied().unwrap_or(0) + 1,
        };
        let state =
            NodeState { log_id, timeline, number, made_at: Millis(self.env.clock.now_ms()), files };
        let name = names::node_state(log_id, number);
        // Another life may have taken the number: the next look finds a higher one.
        self.number = None;
        if self.store.put_new(&name, &state.seal(&self.key))? == Put::Exists {
            return Err(RemoteError::Damaged {
                name,
                problem: "another state has its number".into(),
            });
        }
        self.number = Some(number + 1);
        self.files = Some(state.files);
        if let Err(error) = self.remove_old(number) {
            // The next state removes them.
            tracing::warn!(%error, "old states of the node stay for now");
        }
        Ok(true)
    }

    /// Old states go, and the files that none of those that stay names.
    fn remove_old(&mut self, newest: u64) -> Result<(), RemoteError> {
        let (log_id, _) = self.identity;
        let (old, stay): (Vec<u64>, Vec<u64>) =
            numbers(&*self.store, log_id)?.into_iter().partition(|number| number + KEPT <= newest);
        if old.is_empty() {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        for number in stay {
            let (state, _) = read(&*self.store, log_id, number)?;
            let name = |file: &FileEntry| names::node_file(log_id, &file.hash, file.copy);
            needed.extend(state.files.iter().map(name));
        }
        let mut gone = BTreeSet::new();
        for &number in &old {
            match read(&*self.store, log_id, number) {
                Ok((state, _)) => gone.extend(state.files),
                Err(RemoteError::Store(StoreError::Missing { .. })) => {}
                Err(error) => tracing::warn!(%error, "what an old state of the node named stays"),
            }
        }
        for file in gone {
            let name = names::node_file(log_id, &file.hash, file.copy);
            if !needed.contains(&name) {
                self.store.remove(&name)?;
                self.known.remove(&file.hash);
            }
        }
        // Last: what breaks off before is found again by them.
        for number in old {
            self.store.remove(&names::node_state(log_id, number))?;
        }
        Ok(())
    }
}
