//! The index as its owner sees it: open, apply, persist, publish.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use fjall::{OwnedWriteBatch, PersistMode, UserKey, UserValue};
use quick_cache::Weighter;
use stemedb_model::{Kind, LogId, Millis, Position, RecordId, Registry, Timeline};

use crate::buffers::Buffers;
use crate::bytes::{Malformed, Reader, push_varint, push_zigzag};
use crate::entry::Entry;
use crate::error::IndexError;
use crate::fold::{Scratch, Target, fold, may_register};
use crate::format::{Table, meta, time_key};
use crate::lost::Lost;
use crate::open;
use crate::place;
use crate::rows::IdRow;
use crate::snapshot::Snapshot;
use crate::store::{Store, number};

/// Where the index is and what memory it may use. While it is made anew there are two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexConfig {
    /// Its folder; made if it is missing. Nothing else may be in it.
    pub dir: PathBuf,
    /// Blocks of the tables and names kept in memory, in bytes. Default 256 MiB. Write buffers come
    /// on top: about 82 MiB while records stream in, up to four times that on a slow medium.
    pub cache_bytes: u64,
    /// What is kept in memory of the keys that are asked about, so that answers need not begin with
    /// their claims, in bytes. Some 700 bytes a claim that takes part, its id among them, fewer of one that
    /// does not.
    /// Default 256 MiB.
    pub questions_bytes: u64,
    /// Whole answers kept until what they rest on changes, in bytes; 0: none are. Default 32 MiB.
    pub answers_bytes: u64,
}

impl IndexConfig {
    /// The defaults, in this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 256 << 20,
            questions_bytes: 256 << 20,
            answers_bytes: 32 << 20,
        }
    }
}

/// How many of each thing there are. Counts what was ever recorded, retracted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records by kind, in the order of their tags.
    pub records: [u64; Kind::ALL.len()],
    /// Distinct (space, subject, predicate).
    pub keys: u64,
    /// Distinct authors of assertions and of facts about them, principals, evidence hashes and
    /// URIs.
    pub names: u64,
}

impl Counters {
    /// Records of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.records.get(usize::from(kind.tag())).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, kind: Kind) {
        if let Some(count) = self.records.get_mut(usize::from(kind.tag())) {
            *count += 1;
        }
    }
}

/// Everything at one position: a cut through storage and registries.
pub(crate) struct Cut {
    pub(crate) tables: fjall::Snapshot,
    pub(crate) registry: Registry,
    /// The newest record in the registries.
    pub(crate) registered: Position,
    pub(crate) applied: Applied,
    pub(crate) lost: Arc<Lost>,
}

/// The row `applied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) position: Position,
    pub(crate) recorded_at: Millis,
    pub(crate) counters: Counters,
}

impl Applied {
    pub(crate) const NONE: Self = Self {
        position: Position::NONE,
        recorded_at: Millis(i64::MIN),
        counters: Counters { records: [0; Kind::ALL.len()], keys: 0, names: 0 },
    };

    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        push_varint(out, self.position.0);
        push_zigzag(out, self.recorded_at.0);
        for count in self.counters.records {
            push_varint(out, count);
        }
        push_varint(out, self.counters.keys);
        push_varint(out, self.counters.names);
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        let position = Position(reader.varint()?);
        let recorded_at = Millis(reader.zigzag()?);
        let mut counters = Counters::default();
        for count in &mut counters.records {
            *count = reader.varint()?;
        }
        counters.keys = reader.varint()?;
        counters.names = reader.varint()?;
        reader.end()?;
        Ok(Self { position, recorded_at, counters })
    }
}

/// A fold over the log, on disk. One thread applies; any number read through [`Snapshot`]s.
///
/// The index is never ahead of the log: its owner applies only what is durable there. It is not
/// itself durable: after a crash it stands at some earlier group, whole, and the rest is applied
/// again. Every open snapshot keeps the folder locked, also after the index is dropped.
pub struct Index {
    /// As it was given; the index may lie in a folder within its own.
    config: IndexConfig,
    /// Before the store: it holds the tables open.
    buffers: Buffers,
    store: Arc<Store>,
    cut: RwLock<Arc<Cut>>,
    writer: Mutex<Writer>,
    /// One at a time follows conflicts.
    follower: Mutex<()>,
}

impl Index {
    /// Opens the folder, or makes it.
    ///
    /// `identity` names the database and the branch of its log, as the log does; `None` before
    /// genesis. Refuses the folder of another one, a format it does not know, a damaged folder and
    /// one that holds anything else; see [`IndexError`]. Of a damaged one it may have changed the
    /// contents.
    ///
    /// Costs the replay of what the last process did not write into tables (up to some seconds
    /// after a crash), and the registry records: some microseconds each.
    pub fn open(
        config: &IndexConfig,
        identity: Option<(LogId, Timeline)>,
    ) -> Result<Self, IndexError> {
        let folder = place::in_force(&config.dir)?;
        let index = Self::open_in(config, &folder, identity)?;
        place::clean(&config.dir, &folder)?;
        Ok(index)
    }

    fn open_in(
        config: &IndexConfig,
        folder: &Path,
        identity: Option<(LogId, Timeline)>,
    ) -> Result<Self, IndexError> {
        let within = IndexConfig { dir: folder.to_owned(), ..config.clone() };
        let opened = open::open(&within, identity)?;
        let buffers = Buffers::watch(opened.store.tables()).map_err(|error| {
            IndexError::Failed { op: "start a thread of the index", reason: error.to_string() }
        })?;
        Ok(Self {
            config: config.clone(),
            buffers,
            store: Arc::new(opened.store),
            cut: RwLock::new(Arc::new(opened.cut)),
            writer: Mutex::new(Writer::new()),
            follower: Mutex::new(()),
        })
    }

    /// An empty index for the same log beside this one, with memory of its own. It comes into force with
    /// [`Index::put_in_force`]; until then the next open does not find it.
    pub fn another(&self, log: LogId, timeline: Timeline) -> Result<Self, IndexError> {
        let folder = place::another(&self.config.dir)?;
        Self::open_in(&self.config, &folder, Some((log, timeline)))
    }

    /// Carries it to the medium, and has the next open find this one.
    pub fn put_in_force(&self) -> Result<(), IndexError> {
        self.persist()?;
        place::put_in_force(&self.config.dir, &self.store.dir)
    }

    /// Removes an index that is not in force, unless somebody reads from it yet: then it is given back.
    pub fn retire(self: Arc<Self>) -> Result<Option<Arc<Self>>, IndexError> {
        let index = match Arc::try_unwrap(self) {
            Ok(index) => index,
            Err(shared) => return Ok(Some(shared)),
        };
        // With the last handle on the index nobody can make another snapshot of it.
        if Arc::strong_count(&index.store) > 1 {
            return Ok(Some(Arc::new(index)));
        }
        let (dir, folder) = (index.config.dir.clone(), index.store.dir.clone());
        drop(index);
        place::remove(&dir, &folder).map(|()| None)
    }

    /// Bytes that it takes on the medium.
    pub fn disk_bytes(&self) -> Result<u64, IndexError> {
        let bytes = self.store.db.disk_space();
        bytes.map_err(|error| self.store.storage("measure index", &error))
    }

    /// Names the database and its branch in an index that was opened before genesis. The same as
    /// opening it again with them, and refused alike if it is another's.
    pub fn identify(&self, log: LogId, timeline: Timeline) -> Result<(), IndexError> {
        self.store.check_alive()?;
        let genesis = self.current().registry.genesis().map(|(log, _)| log);
        open::identify(&self.store, genesis, (log, timeline))
    }

    /// The log goes on as the branch `timeline` behind `upto`: from the next opening on this is the index
    /// of that branch. `false`, and nothing is changed, if it holds something from behind `upto`.
    pub fn go_on_as(&self, timeline: Timeline, upto: Position) -> Result<bool, IndexError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.check_alive()?;
        if self.current().applied.position > upto {
            return Ok(false);
        }
        open::rename(&self.store, timeline)?;
        Ok(true)
    }

    /// Applies a group: all of it or, on error, nothing. On return new snapshots show it.
    ///
    /// Positions continue densely from [`Index::applied`] and `recorded_at` never goes back, else
    /// [`IndexError::OutOfOrder`]. Any other error stops the index: what follows is refused, reads
    /// go on at the last position. Costs some ten microseconds a record; blocks for as long as the
    /// storage needs to write its buffers out.
    pub fn apply(&self, group: &[Entry]) -> Result<(), IndexError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.check_alive()?;
        self.store.room()?;
        let before = self.current();
        check_order(&before.applied, group)?;
        let (Some(last), false) = (group.last(), group.is_empty()) else { return Ok(()) };

        let mut registry = before.registry.clone();
        let mut newest_registered = before.registered;
        let mut applied = before.applied;
        applied.position = last.position;
        applied.recorded_at = last.recorded_at;
        let rows = group.len() * writer.rows_per_entry;
        let batch = OwnedWriteBatch::with_capacity(self.store.db.clone(), rows)
            // Into the page cache: a killed process loses nothing, a power cut costs a replay.
            .durability(Some(PersistMode::Buffer));
        let Writer { scratch, keys, names, recent, .. } = &mut *writer;
        recent.clear();
        let mut rows = Rows { store: &self.store, batch, keys, names, recent };
        for entry in group {
            let record = entry.signed.record();
            let registered = may_register(record.kind())
                && registry.apply(entry.position, entry.signed.id(), record);
            if registered {
                newest_registered = entry.position;
            }
            fold(entry, registered, &mut rows, scratch)?;
            applied.counters.add(record.kind());
        }
        applied.counters.keys += rows.recent.keys.len() as u64;
        applied.counters.names += rows.recent.names.len() as u64;
        rows.put_times(group)?;
        let mut row = Vec::with_capacity(64);
        applied.encode(&mut row);
        rows.put(Table::Meta, meta::APPLIED, &row)?;

        let (batch, count) = (rows.batch, group.len().max(1));
        let rows_per_entry = batch.len() / count + 1;
        batch.commit().map_err(|error| self.store.storage("write index", &error))?;
        writer.rows_per_entry = rows_per_entry;
        writer.remember();
        self.store.keeps_numbers(writer.keys.weight() + writer.names.weight());
        let (lost, registered) = (Arc::clone(&before.lost), newest_registered);
        self.publish(registry, registered, applied, lost);
        Ok(())
    }

    /// Passes over positions up to `last` that a repair of the log gave up: they stay numbered, and
    /// no record will be there. Begins behind [`Index::applied`].
    pub fn skip(&self, last: Position) -> Result<(), IndexError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.check_alive()?;
        let before = self.current();
        let mut applied = before.applied;
        if last <= applied.position {
            let problem = "positions are dense";
            let applied = applied.position;
            return Err(IndexError::OutOfOrder { applied, found: last, problem });
        }
        let mut lost = Lost::clone(&before.lost);
        lost.add(applied.position.next(), last);
        applied.position = last;
        let mut row = Vec::new();
        let mut batch = self.store.db.batch().durability(Some(PersistMode::Buffer));
        applied.encode(&mut row);
        batch.insert(self.store.table(Table::Meta), meta::APPLIED, row.as_slice());
        lost.encode(&mut row);
        batch.insert(self.store.table(Table::Meta), meta::LOST, row.as_slice());
        batch.commit().map_err(|error| self.store.storage("write index", &error))?;
        self.publish(before.registry.clone(), before.registered, applied, Arc::new(lost));
        Ok(())
    }

    /// Carries everything applied to the medium. Never needed for correctness: it spares the next
    /// start the replay.
    pub fn persist(&self) -> Result<(), IndexError> {
        self.store.check_alive()?;
        self.store
            .db
            .persist(PersistMode::SyncAll)
            .map_err(|error| self.store.storage("sync index", &error))
    }

    /// The newest position applied; [`Position::NONE`] when empty.
    pub fn applied(&self) -> Position {
        self.current().applied.position
    }

    /// Everything as of [`Index::applied`], for as long as it is held. Cheap.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.store.clone(), self.current())
    }

    /// The same state as [`Index::snapshot`], with all that was written by now and is of no position, such
    /// as the list of conflicts: new snapshots are of it too. The storage keeps in memory what was written
    /// since the oldest that somebody holds, and with nothing to apply nobody else would take a newer one.
    /// `None`, and nothing is done, while somebody applies.
    pub fn renew(&self) -> Option<Snapshot> {
        let _writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let before = self.current();
        let (registry, lost) = (before.registry.clone(), Arc::clone(&before.lost));
        self.publish(registry, before.registered, before.applied, lost);
        Some(self.snapshot())
    }

    /// Why the index applies nothing more; `None` while it is well.
    pub fn failure(&self) -> Option<String> {
        self.store.failure().map(str::to_owned)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Has new snapshots show all that is written by now. For whoever holds the writer.
    fn publish(&self, registry: Registry, registered: Position, applied: Applied, lost: Arc<Lost>) {
        let tables = self.store.db.snapshot();
        let cut = Cut { tables, registry, registered, applied, lost };
        *self.cut.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(cut);
    }

    fn current(&self) -> Arc<Cut> {
        self.cut.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds off whoever else follows conflicts.
    pub(crate) fn follow(&self) -> MutexGuard<'_, ()> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the writer off, for maintenance.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("dir", &self.store.dir)
            .field("applied", &self.applied())
            .finish_non_exhaustive()
    }
}

fn check_order(applied: &Applied, group: &[Entry]) -> Result<(), IndexError> {
    let (mut position, mut recorded_at) = (applied.position, applied.recorded_at);
    for entry in group {
        let problem = if entry.position != position.next() {
            "positions are dense"
        } else if entry.recorded_at < recorded_at {
            "recorded_at never goes back"
        } else {
            (position, recorded_at) = (entry.position, entry.recorded_at);
            continue;
        };
        return Err(IndexError::OutOfOrder { applied: position, found: entry.position, problem });
    }
    Ok(())
}

/// What the applier keeps from group to group.
pub(crate) struct Writer {
    scratch: Scratch,
    /// Rows that an entry of the last group made, on average.
    rows_per_entry: usize,
    keys: Numbers,
    names: Numbers,
    recent: Recent,
}

/// Numbers of keys or names that came up lately.
type Numbers = quick_cache::unsync::Cache<UserKey, u64, ByBytes>;

/// Bytes of either cache of numbers.
const NUMBERS_CACHE_BYTES: u64 = 24 << 20;

#[derive(Clone)]
struct ByBytes;

impl Weighter<UserKey, u64> for ByBytes {
    fn weight(&self, key: &UserKey, _number: &u64) -> u64 {
        64 + key.len() as u64
    }
}

/// What the group added so far and the tables do not show yet.
#[derive(Default)]
struct Recent {
    ids: HashMap<RecordId, IdRow>,
    keys: HashMap<UserKey, u64>,
    names: HashMap<UserKey, u64>,
}

impl Recent {
    fn clear(&mut self) {
        self.ids.clear();
        self.keys.clear();
        self.names.clear();
    }
}

impl Writer {
    fn new() -> Self {
        let slots = usize::try_from(NUMBERS_CACHE_BYTES / 128).unwrap_or(usize::MAX);
        let numbers =
            || quick_cache::unsync::Cache::with_weighter(slots, NUMBERS_CACHE_BYTES, ByBytes);
        Self {
            scratch: Scratch::default(),
            rows_per_entry: 8,
            keys: numbers(),
            names: numbers(),
            recent: Recent::default(),
        }
    }

    /// After the commit: what was recent is now in the tables.
    fn remember(&mut self) {
        for (key, number) in self.recent.keys.drain() {
            self.keys.insert(key, number);
        }
        for (key, number) in self.recent.names.drain() {
            self.names.insert(key, number);
        }
        self.recent.ids.clear();
    }
}

/// The rows of a group on their way into a batch.
struct Rows<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
    keys: &'a mut Numbers,
    names: &'a mut Numbers,
    recent: &'a mut Recent,
}

impl Rows<'_> {
    /// One row for each time in the group: its last position.
    fn put_times(&mut self, group: &[Entry]) -> Result<(), IndexError> {
        for (entry, last) in last_of_time(group) {
            if last {
                let mut row = Vec::with_capacity(10);
                push_varint(&mut row, entry.position.0);
                self.put(Table::Times, &time_key(entry.recorded_at), &row)?;
            }
        }
        Ok(())
    }

    fn stored<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, IndexError> {
        let found = self.store.table(table).get(key);
        match found.map_err(|error| self.store.storage("read index", &error))? {
            Some(row) => {
                let row = decode(&row);
                row.map(Some).map_err(|Malformed| self.store.damaged_row(table, key))
            }
            None => Ok(None),
        }
    }
}

/// Each entry, and whether it is the last of its time among them.
fn last_of_time(group: &[Entry]) -> impl Iterator<Item = (&Entry, bool)> {
    let next = group.iter().skip(1).map(Some).chain([None]);
    group
        .iter()
        .zip(next)
        .map(|(entry, next)| (entry, next.is_none_or(|next| next.recorded_at != entry.recorded_at)))
}

impl Target for Rows<'_> {
    fn id(&mut self, id: &RecordId) -> Result<Option<IdRow>, IndexError> {
        match self.recent.ids.get(id) {
            Some(row) => Ok(Some(*row)),
            None => self.stored(Table::Ids, id.as_bytes(), IdRow::decode),
        }
    }

    fn number(&mut self, table: Table, key: &[u8]) -> Result<Option<u64>, IndexError> {
        let (recent, cache) = match table {
            Table::Keys => (&self.recent.keys, &*self.keys),
            _ => (&self.recent.names, &*self.names),
        };
        if let Some(number) = recent.get(key).or_else(|| cache.get(key)) {
            return Ok(Some(*number));
        }
        let found = self.stored(table, key, number)?;
        if let Some(number) = found {
            let cache = match table {
                Table::Keys => &mut *self.keys,
                _ => &mut *self.names,
            };
            cache.insert(key.into(), number);
        }
        Ok(found)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let key = UserKey::from(key);
        let malformed = |Malformed| self.store.damaged_row(table, &key);
        match table {
            Table::Ids => {
                let row = IdRow::decode(value).map_err(malformed)?;
                let id = RecordId::from_slice(&key).ok_or_else(|| malformed(Malformed))?;
                self.recent.ids.insert(id, row);
            }
            Table::Keys => {
                let number = number(value).map_err(malformed)?;
                self.recent.keys.insert(key.clone(), number);
            }
            // Rows from number to name have tags of their own and are never asked for here.
            Table::Names if key.first().is_some_and(|tag| *tag < 16) => {
                let number = number(value).map_err(malformed)?;
                self.recent.names.insert(key.clone(), number);
            }
            Table::Claims | Table::Facts => self.store.touched.mark(table, &key),
            _ => {}
        }
        self.batch.insert(self.store.table(table), key, UserValue::from(value));
        Ok(())
    }
}
