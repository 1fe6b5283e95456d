//! Backups: the log up to one position and the files of the node, as one signed statement about objects
//! that are named by their content. What an earlier backup holds is not sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::{Env, Open};
use stemedb_log::{Cutter, Link, LogError, Part};
use stemedb_model::{AgentId, Hash, LogId, Millis, Position, SigningKey, Timeline};

use crate::archiver::{Noted, put_and_read_back};
use crate::codec::{BadManifest, Fields, MapWriter, hash, open, seal};
use crate::earlier::removed_parts;
use crate::encrypt::{Context, KeyId};
use crate::error::RemoteError;
use crate::manifest::{PartEntry, decode_link, encode_link};
use crate::names;
use crate::parallel;
use crate::prune::{YOUNG_MS, announced};
use crate::restore::{Needed, RestorePlan, Target, fetch, fetch_hashed, patiently};
use crate::store::{Listed, Store, StoreError};

const DOMAIN: &str = "stemedb/backup/v1/manifest";
/// Version of the map of a backup.
pub const BACKUP_FORMAT: u64 = 1;
/// No manifest of a backup is longer.
pub(crate) const BACKUP_BYTES_MAX: u64 = 256 << 20;
/// No file of a node is longer.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Uploads at once: their bytes are in memory.
const SENDERS: usize = 4;
/// Objects that are checked at once.
const CHECKERS: usize = 4;

/// A file of the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Its path below the folder of the node, with `/`.
    pub path: String,
    /// Length of the object.
    pub bytes: u64,
    /// BLAKE3 of the object.
    pub hash: Hash,
    /// Which of the objects that were to hold it does.
    pub copy: u64,
    /// What the object is encrypted with; `None`: it is in the clear.
    pub key_id: Option<KeyId>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name: when it was begun, and chance.
    pub id: String,
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// When it was made.
    pub made_at: Millis,
    /// The log root at its position.
    pub end: Link,
    /// When the record there was committed.
    pub ended_at: Millis,
    /// The log, in order.
    pub parts: Vec<PartEntry>,
    /// The files of the node, by path.
    pub files: Vec<FileEntry>,
}

impl Backup {
    /// Its bytes, signed.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let body = MapWriter::default()
            .uint("v", BACKUP_FORMAT)
            .text("id", &self.id)
            .bytes("log_id", &self.log_id.0)
            .bytes("timeline", &self.timeline.0)
            .int("made_at", self.made_at.0)
            .map("end", encode_link(&self.end))
            .int("ended_at", self.ended_at.0)
            .list("parts", self.parts.iter().map(PartEntry::encode).collect())
            .list("files", self.files.iter().map(FileEntry::encode).collect())
            .finish();
        seal(DOMAIN, &body, key)
    }

    /// Reads one and says who signed it.
    pub fn open(bytes: &[u8]) -> Result<(Self, AgentId), BadManifest> {
        let (body, key) = open(DOMAIN, bytes)?;
        let mut fields = Fields::new(body)?;
        fields.version(BACKUP_FORMAT)?;
        let log_id = LogId(fields.array("log_id")?);
        let backup = Self {
            id: fields.text("id")?.to_owned(),
            log_id,
            timeline: Timeline(fields.array("timeline")?),
            made_at: Millis(fields.int("made_at")?),
            end: decode_link(fields.map("end")?)?,
            ended_at: Millis(fields.int("ended_at")?),
            parts: fields.list("parts", |part| PartEntry::decode(part, log_id))?,
            files: fields.list("files", FileEntry::decode)?,
        };
        fields.end()?;
        Ok((backup, key))
    }

    /// Bytes of all its objects.
    pub fn bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|part| part.bytes);
        parts.chain(self.files.iter().map(|file| file.bytes)).sum()
    }

    /// The keys that it is encrypted with; `None` stands for what is in the clear.
    pub fn keys(&self) -> BTreeSet<Option<KeyId>> {
        let parts = self.parts.iter().map(|part| part.key_id);
        parts.chain(self.files.iter().map(|file| file.key_id)).collect()
    }

    /// The objects that it needs.
    pub(crate) fn objects(&self) -> Vec<Object<'_>> {
        let parts = self.parts.iter().map(|part| Object {
            name: names::file(self.log_id, &part.hash, part.copy),
            bytes: part.bytes,
            held: Held::Part(part),
        });
        let files = self.files.iter().map(|file| Object {
            name: names::file(self.log_id, &file.hash, file.copy),
            bytes: file.bytes,
            held: Held::File(file),
        });
        parts.chain(files).collect()
    }

    /// Refuses a backup of which something is encrypted with a key that is not here.
    fn can_be_read(&self, store: &dyn Store) -> Result<(), RemoteError> {
        let objects = self.objects();
        let needed = objects.iter().map(|object| (object.name.as_str(), object.held.key_id()));
        store.keys().need(needed)
    }

    /// What a restore of its log up to `target` needs. Refuses where the key to some of the backup is
    /// missing, its files included: half a restore is none.
    pub fn plan(
        &self,
        store: &dyn Store,
        env: &Env,
        target: Target,
    ) -> Result<RestorePlan, RemoteError> {
        let needed = |entry: &PartEntry| Needed {
            name: names::file(self.log_id, &entry.hash, entry.copy),
            entry: entry.clone(),
        };
        self.can_be_read(store)?;
        let parts = self.parts.iter().map(needed).collect();
        RestorePlan::of_parts(store, env, (self.log_id, self.timeline), parts, target)
    }
}

pub(crate) struct Object<'a> {
    pub(crate) name: String,
    bytes: u64,
    held: Held<'a>,
}

/// What is in an object.
enum Held<'a> {
    Part(&'a PartEntry),
    File(&'a FileEntry),
}

impl Held<'_> {
    fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Part(part) => part.key_id,
            Self::File(file) => file.key_id,
        }
    }
}

impl FileEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        MapWriter::default()
            .optional_bytes("key_id", self.key_id.as_ref().map(|id| id.0.as_slice()))
            .text("path", &self.path)
            .uint("bytes", self.bytes)
            .bytes("hash", &self.hash.0)
            .uint("copy", self.copy)
            .finish()
    }

    pub(crate) fn decode(mut fields: Fields<'_>) -> Result<Self, BadManifest> {
        let path = fields.text("path")?;
        if !is_plain(path) {
            return Err(BadManifest::Damaged(format!("{path} is no path below a folder")));
        }
        let file = Self {
            path: path.to_owned(),
            bytes: fields.uint("bytes")?,
            hash: Hash(fields.array("hash")?),
            copy: fields.uint("copy")?,
            key_id: fields.optional_array("key_id")?.map(KeyId),
        };
        fields.end()?;
        Ok(file)
    }
}

/// Whether a path can be joined to a folder when it is restored.
fn is_plain(path: &str) -> bool {
    let plain = |name: &str| !["", ".", ".."].contains(&name) && !name.contains(['\\', '\0']);
    path.split('/').all(plain)
}

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The folder of the node's own files.
    pub node: PathBuf,
    /// Files and folders in there that are not taken, by path below it.
    pub leave_out: Vec<String>,
    /// About how long a part of the log is before compression.
    pub part_bytes: u64,
    /// Bytes that are sent in a second at most; 0: no bound.
    pub bytes_per_second: u64,
    /// Where it is noted that there is a backup: a file of this node. A place that has lost all of them
    /// may not be mounted, and is not begun anew.
    pub note: Option<PathBuf>,
    /// Where the log is archived: what was removed from it, and no earlier backup holds, is taken there.
    pub archive: Option<Arc<dyn Store>>,
}

impl BackupOptions {
    /// The defaults, for a node's folder.
    pub fn new(node: impl Into<PathBuf>) -> Self {
        Self {
            node: node.into(),
            leave_out: Vec::new(),
            part_bytes: 16 << 20,
            bytes_per_second: 0,
            note: None,
            archive: None,
        }
    }
}

/// What making a backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Made {
    /// The backup.
    pub backup: Backup,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that an earlier backup had sent.
    pub reused: u64,
}

/// Makes a backup of the log that `cutter` reads, up to its newest durable position, and of the files
/// of the node. Tells `progress` positions of the log that are done, ascending.
pub fn make_backup(
    store: &dyn Store,
    env: &Env,
    cutter: &mut Cutter,
    key: &SigningKey,
    options: &BackupOptions,
    progress: &mut dyn FnMut(Position),
) -> Result<Made, RemoteError> {
    let (log_id, timeline) = cutter.identity().ok_or_else(|| {
        RemoteError::Refused("a log without a first record cannot be backed up".into())
    })?;
    let began = env.clock.now_ms();
    let there = listed(store, env, log_id)?;
    let Backups { good: earlier, bad } = list_backups(store, env, log_id)?;
    if earlier.is_empty()
        && bad.is_empty()
        && let Some(path) = &options.note
    {
        not_begun_again(store, env, (log_id, timeline), path)?;
    }
    let own = key.agent_id();
    let mut leave = not_to_rely_on(&there, &earlier);
    leave.extend(announced(store, env, log_id)?);
    let mut sender = Sender {
        store,
        env,
        log_id,
        leave,
        there,
        sent: 0,
        reused: 0,
        pace: options.bytes_per_second,
    };
    let (durable, _) = cutter.durable();
    let mut parts = reusable(cutter, &sender, earlier, (log_id, timeline, own));
    sender.reused += parts.iter().map(|part| part.bytes).sum::<u64>();
    let mut at = match parts.last() {
        Some(last) => cutter.seek(last.content.last())?,
        None => match cutter.seek_start() {
            Err(LogError::Trimmed { first, .. }) => {
                let before = cutter.seek(Position(first.0.saturating_sub(1)))?;
                parts = sender.send_removed(options.archive.as_deref(), timeline, before)?;
                before
            }
            at => at?,
        },
    };
    progress(at.position);
    while at.position < durable.position {
        let mut some = Vec::new();
        while some.len() < SENDERS
            && at.position < durable.position
            && let Some(part) = cutter.next(options.part_bytes)?
        {
            at = part.content.end;
            some.push(part);
        }
        if some.is_empty() {
            break;
        }
        parts.extend(sender.send_parts(some)?);
        progress(at.position);
    }
    let Some(last) = parts.last() else {
        return Err(RemoteError::Refused("a log without a record cannot be backed up".into()));
    };
    let (end, ended_at) = (last.content.end, last.content.ended_at);
    let files = sender.send_files(options)?;
    let mut chance = [0; 8];
    env.rng.fill(&mut chance);
    let id = format!("{began:015}-{}", hex::encode(chance));
    let backup = Backup {
        id,
        log_id,
        timeline,
        made_at: Millis(env.clock.now_ms()),
        end,
        ended_at,
        parts,
        files,
    };
    let bytes = backup.seal(key);
    // Before it counts as a backup, and after: pruning beside it may have taken what was reused.
    all_there(store, env, &backup)?;
    let name = names::backup(log_id, &backup.id);
    patiently(env, || store.put_new(&name, &bytes).map_err(RemoteError::from))?;
    let whole = read_back(store, env, &name, &bytes)
        .and_then(|()| none_announced(store, env, &backup))
        .and_then(|()| all_there(store, env, &backup));
    if let Err(error) = whole {
        // Its name is of this attempt alone. One that stays would be kept before whole ones.
        if let Err(remove) = patiently(env, || store.remove(&name).map_err(RemoteError::from)) {
            return Err(RemoteError::Refused(format!(
                "{error}; {name} is not a whole backup and cannot be removed ({remove}): remove it"
            )));
        }
        return Err(error);
    }
    if let Some(path) = &options.note {
        let place = hash(store.place().as_bytes());
        let hash = hash(&bytes);
        let position = backup.end.position;
        let note = Noted { place, log_id, timeline, number: 0, hash, position };
        if let Err(error) = note.store(env, path) {
            tracing::warn!(%error, "cannot note that there is a backup");
        }
    }
    Ok(Made { backup, sent: sender.sent, reused: sender.reused })
}

/// Refuses a place without a backup where this node has made one, before anything is put there.
fn not_begun_again(
    store: &dyn Store,
    env: &Env,
    identity: (LogId, Timeline),
    note: &Path,
) -> Result<(), RemoteError> {
    match Noted::load(env, note)? {
        Some(noted) if noted.is_of(store, identity) => Err(RemoteError::Refused(format!(
            "{} holds no backup of this log, and this node has made one there up to position {}: see that \
             it is mounted and the address is right; to begin again there, remove {}",
            store.place(),
            noted.position,
            note.display()
        ))),
        _ => Ok(()),
    }
}

/// The map of a backup is what was put, and a backup.
fn read_back(store: &dyn Store, env: &Env, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
    let found = patiently(env, || store.get(name, BACKUP_BYTES_MAX).map_err(RemoteError::from))?;
    let problem = match Backup::open(&found) {
        Ok(_) if found == bytes => return Ok(()),
        Ok(_) => "what is read back is not what was put".to_owned(),
        Err(problem) => problem.to_string(),
    };
    let problem = format!("{problem}; make the backup again");
    Err(RemoteError::Damaged { name: name.into(), problem })
}

/// Every object of a backup is in a listing, in its length.
pub(crate) fn all_there(store: &dyn Store, env: &Env, backup: &Backup) -> Result<(), RemoteError> {
    let there = listed(store, env, backup.log_id)?;
    let is_there =
        |one: &Object<'_>| there.get(&one.name).is_some_and(|there| there.bytes == one.bytes);
    match backup.objects().into_iter().find(|one| !is_there(one)) {
        None => Ok(()),
        Some(Object { name, .. }) => Err(RemoteError::Damaged {
            name,
            problem: "it was removed while the backup was made; make the backup again".into(),
        }),
    }
}

/// Nothing that the backup needs is about to be removed. Asked once its map is there: pruning that
/// begins later sees the map.
fn none_announced(store: &dyn Store, env: &Env, backup: &Backup) -> Result<(), RemoteError> {
    let announced = announced(store, env, backup.log_id)?;
    match backup.objects().into_iter().find(|one| announced.contains(&one.name)) {
        None => Ok(()),
        Some(Object { name, .. }) => Err(RemoteError::Damaged {
            name,
            problem: "pruning is about to remove it; make the backup again".into(),
        }),
    }
}

/// Objects that pruning beside the backup may take: no map names them, and they are not new.
fn not_to_rely_on(
    there: &BTreeMap<String, Listed>,
    earlier: &[(Backup, AgentId)],
) -> BTreeSet<String> {
    let needed: BTreeSet<String> =
        earlier.iter().flat_map(|(one, _)| one.objects()).map(|object| object.name).collect();
    // By the clock of the store, and half of what pruning waits for: a backup takes its time.
    let newest = there.values().map(|one| one.modified_ms).max().unwrap_or_default();
    let old = |one: &Listed| newest.saturating_sub(one.modified_ms) >= YOUNG_MS / 2;
    let unnamed = there.values().filter(|one| !needed.contains(&one.name));
    unnamed.filter(|one| old(one)).map(|one| one.name.clone()).collect()
}

/// What an earlier backup holds of whole segments, as long as the log has the same history. What is
/// encrypted with another key than new objects is not taken: once the backups of an old key are pruned
/// nothing needs that key.
fn reusable(
    cutter: &mut Cutter,
    sender: &Sender<'_>,
    earlier: Vec<(Backup, AgentId)>,
    (log_id, timeline, own): (LogId, Timeline, AgentId),
) -> Vec<PartEntry> {
    // What it says of parts is signed again: nobody else is believed.
    let ours = |one: &Backup, signer: AgentId| one.timeline == timeline && signer == own;
    let Some((newest, _)) = earlier.into_iter().rev().find(|(one, signer)| ours(one, *signer))
    else {
        return Vec::new();
    };
    let mut parts = newest.parts;
    let key_id = sender.store.keys().writes_with();
    let usable = |part: &PartEntry| {
        let name = names::file(log_id, &part.hash, part.copy);
        let there = sender.there.get(&name).filter(|_| !sender.leave.contains(&name));
        there.is_some_and(|there| there.bytes == part.bytes) && part.key_id == key_id
    };
    if let Some(lost) = parts.iter().position(|part| !usable(part)) {
        parts.truncate(lost);
    }
    // Behind the last segment that the log has left the parts would be cut in other places.
    let sealed = parts.iter().rposition(|part| part.ends_segment).map_or(0, |at| at + 1);
    parts.truncate(sealed);
    match parts.last() {
        Some(last)
            if cutter.seek(last.content.last()).is_ok_and(|here| here == last.content.end) =>
        {
            parts
        }
        _ => Vec::new(),
    }
}

struct Sender<'a> {
    store: &'a dyn Store,
    env: &'a Env,
    log_id: LogId,
    /// What is there already.
    there: BTreeMap<String, Listed>,
    /// What of it is put again, under the next name.
    leave: BTreeSet<String>,
    sent: u64,
    reused: u64,
    pace: u64,
}

impl Sender<'_> {
    fn send_parts(&mut self, parts: Vec<Part>) -> Result<Vec<PartEntry>, RemoteError> {
        let contents: Vec<(Context, &[u8])> = parts
            .iter()
            .map(|part| (Context::part(&part.content), part.bytes.as_slice()))
            .collect();
        let sent = self.send(&contents)?;
        let entry = |(part, sent): (&Part, Sent)| PartEntry {
            content: part.content.clone(),
            bytes: sent.bytes,
            hash: sent.hash,
            copy: sent.copy,
            ends_segment: part.ends_segment,
            key_id: sent.key_id,
        };
        Ok(parts.iter().zip(sent).map(entry).collect())
    }

    /// Takes what was removed from the log, up to `before`, from its archive.
    fn send_removed(
        &mut self,
        archive: Option<&dyn Store>,
        timeline: Timeline,
        before: Link,
    ) -> Result<Vec<PartEntry>, RemoteError> {
        let Some(archive) = archive else {
            return Err(RemoteError::Refused(format!(
                "positions up to {} were removed from the log here, and no backup at {} that can be gone on \
                 from holds them: set archive.url, so that they are taken from the archive",
                before.position,
                self.store.place()
            )));
        };
        let removed =
            removed_parts(archive, self.env, (self.log_id, timeline), Position(1), before)?;
        let mut parts = Vec::new();
        for some in removed.chunks(SENDERS) {
            let fetched = parallel::each(some, SENDERS, |part| fetch(archive, self.env, part))?;
            let part = |(needed, bytes): (&Needed, Vec<u8>)| Part {
                content: needed.entry.content.clone(),
                bytes,
                ends_segment: needed.entry.ends_segment,
            };
            parts.extend(self.send_parts(some.iter().zip(fetched).map(part).collect())?);
        }
        Ok(parts)
    }

    fn send_files(&mut self, options: &BackupOptions) -> Result<Vec<FileEntry>, RemoteError> {
        let mut paths = Vec::new();
        walk(self.env, &options.node, "", &options.leave_out, &mut paths)?;
        let mut files = Vec::new();
        for path in paths {
            let Some(bytes) = read_file(self.env, &options.node.join(&path))? else { continue };
            let content = (Context::file(self.log_id, &path), bytes.as_slice());
            for Sent { bytes, hash, copy, key_id, .. } in self.send(&[content])? {
                files.push(FileEntry { path: path.clone(), bytes, hash, copy, key_id });
            }
        }
        Ok(files)
    }

    /// Puts what is not there, and reads it back.
    fn send(&mut self, contents: &[(Context, &[u8])]) -> Result<Vec<Sent>, RemoteError> {
        let began = self.env.clock.monotonic();
        let (store, env, log_id) = (self.store, self.env, self.log_id);
        let (there, leave) = (&self.there, &self.leave);
        let sent = parallel::each(contents, SENDERS, |(context, content)| {
            let (object, key_id) = store.keys().seal(context, content)?;
            let hash = hash(&object);
            let bytes = object.len() as u64;
            let first = (0..).find(|copy| !leave.contains(&names::file(log_id, &hash, *copy)));
            let first = first.unwrap_or_default();
            let name = |copy| names::file(log_id, &hash, first + copy);
            let known = there.get(&name(0)).is_some_and(|one| one.bytes == bytes);
            let copy = first + patiently(env, || put_and_read_back(store, &object, name))?;
            Ok::<_, RemoteError>(Sent { hash, copy, bytes, key_id, known })
        })?;
        let mut fresh = 0;
        for one in &sent {
            if one.known { self.reused += one.bytes } else { fresh += one.bytes }
        }
        self.sent += fresh;
        if let Some(ms) = (fresh * 1_000).checked_div(self.pace) {
            let took = self.env.clock.monotonic().saturating_sub(began);
            self.env.clock.sleep(Duration::from_millis(ms).saturating_sub(took));
        }
        Ok(sent)
    }
}

/// An object that is there.
struct Sent {
    hash: Hash,
    copy: u64,
    bytes: u64,
    key_id: Option<KeyId>,
    /// It was there before.
    known: bool,
}

fn listed(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
) -> Result<BTreeMap<String, Listed>, RemoteError> {
    let listed =
        patiently(env, || store.list(&names::files(log_id), "").map_err(RemoteError::from))?;
    Ok(listed.into_iter().map(|one| (one.name.clone(), one)).collect())
}

/// The files below a folder, by path, but for temporary ones.
pub(crate) fn walk(
    env: &Env,
    root: &Path,
    below: &str,
    leave_out: &[String],
    paths: &mut Vec<String>,
) -> Result<(), RemoteError> {
    let dir = root.join(below);
    let entries = match env.vfs.read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| RemoteError::File {
            act: "list",
            file: dir.display().to_string(),
            source,
        })?,
    };
    for entry in entries {
        let name = entry.name.to_string_lossy();
        let path = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
        let passing = path.ends_with(".new") || path.ends_with(".tmp");
        if passing || leave_out.contains(&path) {
            continue;
        }
        if entry.name.to_str().is_none() || !is_plain(&path) {
            return Err(RemoteError::Refused(format!(
                "{} has a name that a backup cannot hold: rename it or move it elsewhere",
                root.join(below).join(&entry.name).display()
            )));
        }
        if entry.is_dir {
            walk(env, root, &path, leave_out, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// The bytes of a file; `None` if it is gone: audits are rotated, files replaced meanwhile.
pub(crate) fn read_file(env: &Env, path: &Path) -> Result<Option<Vec<u8>>, RemoteError> {
    let failed =
        |source| RemoteError::File { act: "read", file: path.display().to_string(), source };
    let file = match env.vfs.open(path, Open::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let length = file.len().map_err(failed)?;
    if length > FILE_BYTES_MAX {
        return Err(RemoteError::Refused(format!("{} has {length} bytes", path.display())));
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// The backups of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backups {
    /// Those whose manifest verifies, the oldest first, and who signed.
    pub good: Vec<(Backup, AgentId)>,
    /// Objects in the place of one that are none, and why.
    pub bad: Vec<(String, String)>,
}

impl Backups {
    /// The newest one. Refuses if there are some of several branches: which of them is meant, only a
    /// person can say; and where a newer map cannot be read.
    pub fn newest(&self) -> Result<Option<&(Backup, AgentId)>, RemoteError> {
        let newest = self.newest_of_each();
        if newest.len() < 2 {
            return self.newest_of(|_| true);
        }
        let told: Vec<String> = newest
            .values()
            .map(|one| {
                let Backup { id, timeline, end, .. } = one;
                format!("of branch {timeline} the newest is {id}, up to position {}", end.position)
            })
            .collect();
        Err(RemoteError::Refused(format!(
            "there are backups of {} branches: {}",
            newest.len(),
            told.join("; ")
        )))
    }

    /// The newest backup of each branch that has one.
    pub fn newest_of_each(&self) -> BTreeMap<Timeline, &Backup> {
        self.good.iter().map(|(one, _)| (one.timeline, one)).collect()
    }

    /// The newest one of a branch. Refuses if one that cannot be read was begun later: it may be of this
    /// branch, and whoever asks for the newest does not mean an older one. `None` if there is none.
    pub fn newest_of_branch(
        &self,
        branch: Timeline,
    ) -> Result<Option<&(Backup, AgentId)>, RemoteError> {
        self.newest_of(|one| one.timeline == branch)
    }

    fn newest_of(
        &self,
        which: impl Fn(&Backup) -> bool,
    ) -> Result<Option<&(Backup, AgentId)>, RemoteError> {
        let newest = self.good.iter().rev().find(|(one, _)| which(one));
        let name = newest.map(|(one, _)| names::backup(one.log_id, &one.id)).unwrap_or_default();
        match self.bad.iter().rev().find(|(bad, _)| *bad > name) {
            None => Ok(newest),
            Some((bad, problem)) => Err(RemoteError::Refused(format!(
                "the newest backup, {bad}, cannot be read: {problem}; an older one is had by its id"
            ))),
        }
    }
}

/// Reads the manifests of all backups of a log.
pub fn list_backups(store: &dyn Store, env: &Env, log_id: LogId) -> Result<Backups, RemoteError> {
    let folder = names::backups(log_id);
    let listed = patiently(env, || store.list(&folder, "").map_err(RemoteError::from))?;
    let mut backups = Backups::default();
    for one in listed {
        let bytes =
            patiently(env, || store.get(&one.name, BACKUP_BYTES_MAX).map_err(RemoteError::from));
        let bytes = match bytes {
            // Pruned meanwhile.
            Err(RemoteError::Store(StoreError::Missing { .. })) => continue,
            bytes => bytes?,
        };
        match Backup::open(&bytes) {
            Ok((backup, key)) if one.name == names::backup(log_id, &backup.id) => {
                backups.good.push((backup, key));
            }
            Ok(_) => backups.bad.push((one.name, "it is the manifest of another backup".into())),
            Err(problem) => backups.bad.push((one.name, problem.to_string())),
        }
    }
    Ok(backups)
}

/// Reads every object of a backup and compares it with the manifest: each byte is covered by a hash.
/// Gives what is wrong, an object and a sentence each; empty: the backup is whole. Tells `progress`
/// bytes that were read. Refuses where the key to some of it is missing.
pub fn verify_backup(
    store: &dyn Store,
    env: &Env,
    backup: &Backup,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<(String, String)>, RemoteError> {
    backup.can_be_read(store)?;
    let mut problems = Vec::new();
    let mut at: Option<Link> = None;
    for part in &backup.parts {
        let name = names::file(backup.log_id, &part.hash, part.copy);
        let follows = match at {
            None => part.content.start.position == Position::NONE,
            Some(at) => at == part.content.start,
        };
        if !follows {
            problems.push((name, "it does not go on from the part before it".into()));
        }
        at = Some(part.content.end);
    }
    if at != Some(backup.end) {
        let name = names::backup(backup.log_id, &backup.id);
        problems.push((name, "its parts do not end where it says".into()));
    }
    let objects = backup.objects();
    let mut done = 0;
    for some in objects.chunks(CHECKERS) {
        let found = parallel::each(some, CHECKERS, |object| {
            let name = object.name.clone();
            let read = match object.held {
                Held::Part(entry) => {
                    let needed = Needed { name: name.clone(), entry: entry.clone() };
                    fetch(store, env, &needed).map(|_| ())
                }
                Held::File(file) => fetch_file(store, env, backup.log_id, file).map(|_| ()),
            };
            match read {
                Ok(()) => Ok(None),
                Err(RemoteError::Damaged { problem, .. }) => Ok(Some((name, problem))),
                Err(RemoteError::Store(StoreError::Missing { .. })) => {
                    Ok(Some((name, "it is not there".to_owned())))
                }
                // It has the hash of the manifest, and is no part.
                Err(RemoteError::Log(error)) => Ok(Some((name, error.to_string()))),
                Err(error) => Err(error),
            }
        })?;
        problems.extend(found.into_iter().flatten());
        done += some.iter().map(|object| object.bytes).sum::<u64>();
        progress(done);
    }
    Ok(problems)
}

/// Refuses a folder for the files of the node that holds a file which this backup does not put there,
/// as it is: what an earlier call has left there may stay.
pub fn check_files(
    store: &dyn Store,
    env: &Env,
    backup: &Backup,
    to: &Path,
    leave_out: &[String],
) -> Result<(), RemoteError> {
    let mut paths = Vec::new();
    walk(env, to, "", leave_out, &mut paths)?;
    for path in paths {
        let here = to.join(&path);
        let file = backup.files.iter().find(|file| file.path == path);
        let same = match file {
            Some(file) => is_there(store, env, &here, backup.log_id, file)?,
            None => false,
        };
        if !same {
            return Err(RemoteError::Refused(format!(
                "{} is there and is not the file of the backup: files are restored into an empty folder",
                here.display()
            )));
        }
    }
    Ok(())
}

/// Whether a file is there as it is to be. The hash of one that is encrypted says nothing of what is in
/// it: that one is fetched.
fn is_there(
    store: &dyn Store,
    env: &Env,
    path: &Path,
    log_id: LogId,
    file: &FileEntry,
) -> Result<bool, RemoteError> {
    let Some(found) = read_file(env, path)? else { return Ok(false) };
    if file.key_id.is_none() {
        return Ok(found.len() as u64 == file.bytes && hash(&found) == file.hash);
    }
    Ok(fetch_file(store, env, log_id, file)? == found)
}

/// The bytes of a file of the node, in the clear.
fn fetch_file(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    file: &FileEntry,
) -> Result<Vec<u8>, RemoteError> {
    let name = names::file(log_id, &file.hash, file.copy);
    let bytes = fetch_hashed(store, env, &name, file.bytes, file.hash)?;
    store.keys().open(&name, file.key_id, &Context::file(log_id, &file.path), bytes)
}

/// Puts the files of the node below `to`, readable by their owner only. Those whose path is in
/// `leave_out` stay out. What an earlier call has put there stays; a folder with any other file is
/// refused and left as it is.
pub fn restore_files(
    store: &dyn Store,
    env: &Env,
    backup: &Backup,
    to: &Path,
    leave_out: &[String],
) -> Result<u64, RemoteError> {
    backup.can_be_read(store)?;
    check_files(store, env, backup, to, leave_out)?;
    let mut restored = 0;
    let failed = |act, path: &Path| {
        let file = path.display().to_string();
        move |source| RemoteError::File { act, file, source }
    };
    for file in backup.files.iter().filter(|file| !leave_out.contains(&file.path)) {
        let path = to.join(&file.path);
        let dir = path.parent().unwrap_or(to);
        if !is_there(store, env, &path, backup.log_id, file)? {
            let bytes = fetch_file(store, env, backup.log_id, file)?;
            env.vfs.create_dir_all(dir).map_err(failed("create", dir))?;
            // Whole, or not there: what broke off has another name.
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{:016x}.new", env.rng.next_u64()));
            let temporary = path.with_file_name(name);
            let new = env.vfs.open(&temporary, Open::CreateNew);
            let new = new.map_err(failed("create", &temporary))?;
            new.write_at(&bytes, 0).map_err(failed("write", &temporary))?;
            new.sync_all().map_err(failed("sync", &temporary))?;
            new.close().map_err(failed("close", &temporary))?;
            env.vfs.rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        }
        env.vfs.sync_dir(dir).map_err(failed("sync", dir))?;
        restored += 1;
    }
    Ok(restored)
}
