//! The storage under the index: open tables, one way to turn its errors into ours, and a cache of
//! names.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fjall::{AbstractTree, Database, Keyspace, Readable, UserValue};
use quick_cache::Weighter;
use stemedb_io::{Clock, RealClock};
use stemedb_model::{AgentId, Hash, Position, Principal, RecordId, SourceKey};

use crate::answers::Answers;
use crate::bytes::{Malformed, Reader};
use crate::error::IndexError;
use crate::format::{NameTag, Table, number_key};
use crate::questions::Questions;
use crate::touched::Touched;

/// Write buffers of one table on their way to disk. fjall stalls at four; one that is full adds one.
const SEALED_MAX: usize = 3;
/// Tables not merged yet. fjall stalls at 30 runs.
const L0_MAX: usize = 24;
const WAIT: Duration = Duration::from_millis(2);
/// What an id in memory takes, by position. An answer names up to ten claims a value, and finding an id
/// costs a read and a hash of the record.
const ID_BYTES: u64 = 80;
/// The share of what is kept of questions that ids have: of a claim that takes part some 600 are kept.
const IDS_SHARE: u64 = 7;

/// Shared by an index and its snapshots.
pub(crate) struct Store {
    pub(crate) db: Database,
    tables: [Keyspace; Table::ALL.len()],
    pub(crate) dir: PathBuf,
    /// A number never changes its name, so every snapshot shares them.
    names: quick_cache::sync::Cache<(NameTag, u64), Name, ByBytes>,
    /// Neither does the record at a position change.
    ids: quick_cache::sync::Cache<Position, RecordId>,
    /// What the applier keeps of the numbers of keys and names, in bytes.
    numbers_bytes: AtomicU64,
    pub(crate) questions: Questions,
    pub(crate) answers: Answers,
    pub(crate) touched: Touched,
    clock: RealClock,
    /// Set by the first error of the storage, or by rows that make no sense.
    failed: OnceLock<String>,
}

/// An interned name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Agent(AgentId),
    Principal(Principal),
    Source(SourceKey),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(NameTag, u64), Name> for ByBytes {
    fn weight(&self, _number: &(NameTag, u64), name: &Name) -> u64 {
        // A slot costs about as much as a key of 32 bytes, twice.
        64 + match name {
            Name::Source(SourceKey::Uri(uri)) => uri.len() as u64,
            Name::Agent(_) | Name::Principal(_) | Name::Source(_) => 32,
        }
    }
}

impl Store {
    pub(crate) fn new(
        db: Database,
        dir: PathBuf,
        tables: [Keyspace; Table::ALL.len()],
        names_cache_bytes: u64,
        questions_bytes: u64,
        answers: Answers,
    ) -> Self {
        let ids_bytes = questions_bytes / IDS_SHARE;
        let questions = Questions::new(questions_bytes - ids_bytes);
        let slots = usize::try_from(names_cache_bytes / 96).unwrap_or(usize::MAX);
        let names = quick_cache::sync::Cache::with_weighter(slots, names_cache_bytes, ByBytes);
        let ids = usize::try_from(ids_bytes / ID_BYTES).unwrap_or(usize::MAX);
        let ids = quick_cache::sync::Cache::new(ids);
        let (clock, failed) = (RealClock::new(), OnceLock::new());
        let touched = Touched::new();
        let numbers_bytes = AtomicU64::new(0);
        Self {
            db,
            tables,
            dir,
            names,
            ids,
            numbers_bytes,
            questions,
            answers,
            touched,
            clock,
            failed,
        }
    }

    pub(crate) fn names_bytes(&self) -> u64 {
        self.names.weight() + self.numbers_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn keeps_numbers(&self, bytes: u64) {
        self.numbers_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn ids_bytes(&self) -> u64 {
        self.ids.len() as u64 * ID_BYTES
    }

    /// The id of the record at a position, as it was found before or as `find` tells.
    pub(crate) fn id(
        &self,
        position: Position,
        find: impl FnOnce() -> Result<Option<RecordId>, IndexError>,
    ) -> Result<Option<RecordId>, IndexError> {
        if let Some(id) = self.ids.get(&position) {
            return Ok(Some(id));
        }
        let found = find()?;
        if let Some(id) = found {
            self.ids.insert(position, id);
        }
        Ok(found)
    }

    /// The id of the record at a position, if it was found before.
    pub(crate) fn known_id(&self, position: Position) -> Option<RecordId> {
        self.ids.get(&position)
    }

    pub(crate) fn tables(&self) -> Vec<Keyspace> {
        self.tables.to_vec()
    }

    pub(crate) fn table(&self, table: Table) -> &Keyspace {
        let [
            meta,
            records,
            ids,
            idempotency,
            times,
            keys,
            names,
            claims,
            facts,
            postings,
            registry,
            conflicts,
            watched,
            due,
        ] = &self.tables;
        match table {
            Table::Meta => meta,
            Table::Records => records,
            Table::Ids => ids,
            Table::Idempotency => idempotency,
            Table::Times => times,
            Table::Keys => keys,
            Table::Names => names,
            Table::Claims => claims,
            Table::Facts => facts,
            Table::Postings => postings,
            Table::Registry => registry,
            Table::Conflicts => conflicts,
            Table::Watched => watched,
            Table::Due => due,
        }
    }

    /// The reason why nothing more is applied.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    pub(crate) fn check_alive(&self) -> Result<(), IndexError> {
        match self.failure() {
            Some(reason) => Err(IndexError::Failed {
                op: "stopped after an earlier error",
                reason: reason.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// An error of the storage: the index stops.
    pub(crate) fn storage(&self, op: &'static str, error: &fjall::Error) -> IndexError {
        if is_damage(error) {
            return self.damaged(format_args!("{op}: {error}"));
        }
        let reason = error.to_string();
        // Only the first reason is kept; the later ones follow from it.
        let _ = self.failed.set(format!("{op}: {reason}"));
        IndexError::Failed { op, reason }
    }

    /// A row that makes no sense: the index stops.
    pub(crate) fn damaged(&self, what: impl Display) -> IndexError {
        let what = what.to_string();
        let _ = self.failed.set(what.clone());
        IndexError::Damaged { dir: self.dir.display().to_string(), what }
    }

    pub(crate) fn damaged_row(&self, table: Table, key: &[u8]) -> IndexError {
        self.damaged(format_args!("table {}, row {}", table.name(), Hex(key)))
    }

    /// Makes tables of the write buffers that are full, and waits until there is room for another batch.
    ///
    /// fjall would ask its workers for that, with a message for every batch until one of them comes to it.
    /// They write into the same queue: if it is full of such messages they wait for each other for ever.
    ///
    /// fjall stalls a batch while too many write buffers wait to become tables, and would stall it
    /// for ever once the threads that write tables have died of an error. So it is never let come
    /// to that: the wait is here, one step earlier, and ends when the storage has failed.
    pub(crate) fn room(&self) -> Result<(), IndexError> {
        for (kind, table) in Table::ALL.map(|kind| (kind, self.table(kind))) {
            if table.tree.active_memtable().size() > kind.buffer_bytes() {
                table.rotate_memtable().map_err(|error| self.storage("write index", &error))?;
            }
            self.wait(|| {
                table.sealed_memtable_count() < SEALED_MAX && table.l0_table_count() < L0_MAX
            })?;
        }
        self.check_storage()
    }

    /// Waits for the write buffers of a table to become tables.
    pub(crate) fn flush(&self, table: Table) -> Result<(), IndexError> {
        let table = self.table(table);
        table.rotate_memtable().map_err(|error| self.storage("write index", &error))?;
        self.wait(|| table.sealed_memtable_count() == 0)
    }

    fn wait(&self, done: impl Fn() -> bool) -> Result<(), IndexError> {
        while !done() {
            self.check_storage()?;
            self.clock.sleep(WAIT);
        }
        Ok(())
    }

    /// Fails if a thread of the storage has.
    fn check_storage(&self) -> Result<(), IndexError> {
        // Nothing is buffered between batches, so this only looks.
        let looked = self.db.persist(fjall::PersistMode::Buffer);
        looked.map_err(|error| self.storage("write index", &error))
    }

    /// A row as of `at`, decoded by `decode`.
    pub(crate) fn read<T>(
        &self,
        at: &fjall::Snapshot,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<T>, IndexError> {
        match self.get(at, table, key)? {
            Some(row) => decode(&row).map(Some).map_err(|Malformed| self.damaged_row(table, key)),
            None => Ok(None),
        }
    }

    pub(crate) fn get(
        &self,
        at: &fjall::Snapshot,
        table: Table,
        key: &[u8],
    ) -> Result<Option<UserValue>, IndexError> {
        at.get(self.table(table), key).map_err(|error| self.storage("read index", &error))
    }

    /// The name that a number stands for, as of `at`.
    pub(crate) fn name(
        &self,
        at: &fjall::Snapshot,
        tag: NameTag,
        number: u64,
    ) -> Result<Name, IndexError> {
        if let Some(name) = self.names.get(&(tag, number)) {
            return Ok(name);
        }
        let key = number_key(tag, number);
        let name = self
            .read(at, Table::Names, &key, |row| parse_name(tag, row))?
            .ok_or_else(|| self.damaged(format_args!("no name for {tag:?} {number}")))?;
        self.names.insert((tag, number), name.clone());
        Ok(name)
    }
}

fn parse_name(tag: NameTag, row: &[u8]) -> Result<Name, Malformed> {
    let text = || std::str::from_utf8(row).map_err(|_| Malformed);
    Ok(match tag {
        NameTag::Agent => Name::Agent(AgentId::from_slice(row).ok_or(Malformed)?),
        NameTag::Principal => Name::Principal(Principal::parse(text()?).map_err(|_| Malformed)?),
        NameTag::Evidence => {
            Name::Source(SourceKey::Evidence(Hash::from_slice(row).ok_or(Malformed)?))
        }
        NameTag::Uri => Name::Source(SourceKey::Uri(text()?.into())),
    })
}

/// Whether an error speaks of what is in the files, not of the medium or of this process.
pub(crate) fn is_damage(error: &fjall::Error) -> bool {
    use std::io::ErrorKind::{AlreadyExists, InvalidData, InvalidInput, NotFound, UnexpectedEof};
    let content = |error: &std::io::Error| {
        matches!(
            error.kind(),
            AlreadyExists | InvalidData | InvalidInput | NotFound | UnexpectedEof
        )
    };
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            content(error)
        }
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => false,
        _ => true,
    }
}

/// A row that is one varint.
pub(crate) fn number(row: &[u8]) -> Result<u64, Malformed> {
    let mut reader = Reader::new(row);
    let number = reader.varint()?;
    reader.end()?;
    Ok(number)
}

/// Bytes for a message.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
