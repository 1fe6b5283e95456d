//! The inspector: whether every row is there that the records call for, and no other; and what
//! the tables weigh.

use stemedb_model::{Millis, Position, RecordId, Registry};

use crate::bytes::push_varint;
use crate::error::IndexError;
use crate::fold::{Scratch, Target, fold, may_register};
use crate::format::{Table, time_key};
use crate::index::{Counters, Index};
use crate::rows::IdRow;
use crate::snapshot::Snapshot;
use crate::store::{Hex, number};

/// Contradictions named in one report; more are only counted.
const PROBLEMS_MAX: usize = 100;

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rows of each table.
    pub rows: Vec<(Table, u64)>,
    /// Contradictions, as sentences; the first hundred.
    pub problems: Vec<String>,
    /// All contradictions.
    pub problem_count: u64,
}

impl Report {
    /// Whether there was no contradiction.
    pub fn is_whole(&self) -> bool {
        self.problem_count == 0
    }
}

/// Compares every row of every table with what the records at and before the snapshot's position
/// call for: missing, different and surplus rows are problems. Does not compare the records with
/// the log, nor verify signatures.
///
/// Reads all of the index, some ten point reads a record. `Err` only if the storage fails.
pub fn check(snapshot: &Snapshot) -> Result<Report, IndexError> {
    let mut check = Check {
        snapshot,
        rows: [0; Table::ALL.len()],
        new_keys: 0,
        new_names: 0,
        problems: Vec::new(),
        problem_count: 0,
    };
    check.records()?;
    let mut rows = Vec::new();
    for (table, expected) in Table::ALL.into_iter().zip(check.rows) {
        let found = snapshot.count(table)?;
        rows.push((table, found));
        if table != Table::Meta && !table.follows() && found != expected {
            check.problem(format!(
                "table {} holds {found} rows, its records call for {expected}",
                table.name()
            ));
        }
    }
    Ok(Report { rows, problems: check.problems, problem_count: check.problem_count })
}

struct Check<'a> {
    snapshot: &'a Snapshot,
    /// Rows that the records call for, in the order of [`Table::ALL`].
    rows: [u64; Table::ALL.len()],
    new_keys: u64,
    new_names: u64,
    problems: Vec<String>,
    problem_count: u64,
}

impl Check<'_> {
    fn records(&mut self) -> Result<(), IndexError> {
        let snapshot = self.snapshot;
        let (mut registry, mut scratch) = (Registry::default(), Scratch::default());
        let mut counters = Counters::default();
        // The newest time, with the last position of it so far.
        let mut time = None;
        let mut position = Position::NONE;
        while position < snapshot.position() {
            position = position.next();
            let Some(entry) = snapshot.entry(position)? else {
                if let Some((_, last)) = snapshot.lost().at(position) {
                    position = last;
                    continue;
                }
                self.problem(format!("no record at position {position}"));
                continue;
            };
            let record = entry.signed.record();
            let registered =
                may_register(record.kind()) && registry.apply(position, entry.signed.id(), record);
            fold(&entry, registered, self, &mut scratch)?;
            counters.add(record.kind());
            if let Some((earlier, last)) = time.replace((entry.recorded_at, position))
                && earlier != entry.recorded_at
            {
                self.time(earlier, last)?;
            }
        }
        if let Some((newest, last)) = time {
            self.time(newest, last)?;
        }
        counters.keys = self.new_keys;
        counters.names = self.new_names;
        if counters != *snapshot.counters() {
            self.problem(format!(
                "counters say {:?}, the records {counters:?}",
                snapshot.counters()
            ));
        }
        Ok(())
    }

    fn time(&mut self, time: Millis, last: Position) -> Result<(), IndexError> {
        let mut row = Vec::new();
        push_varint(&mut row, last.0);
        self.put(Table::Times, &time_key(time), &row)
    }

    fn problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    fn count(&mut self, table: Table) {
        if let Some(rows) = self.rows.get_mut(table as usize) {
            *rows += 1;
        }
    }
}

impl Target for Check<'_> {
    fn id(&mut self, id: &RecordId) -> Result<Option<IdRow>, IndexError> {
        self.snapshot.id_row(id)
    }

    fn number(&mut self, table: Table, key: &[u8]) -> Result<Option<u64>, IndexError> {
        let snapshot = self.snapshot;
        snapshot.store().read(snapshot.tables(), table, key, number)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let snapshot = self.snapshot;
        let found = snapshot.store().get(snapshot.tables(), table, key)?;
        let found = found.as_deref();
        if table == Table::Idempotency
            && let (Some(newest), Ok(own)) = (found.and_then(|row| number(row).ok()), number(value))
            && newest > own
        {
            // Used again later; that record accounts for the row.
            return Ok(());
        }
        self.count(table);
        match table {
            Table::Keys => self.new_keys += 1,
            Table::Names if key.first().is_some_and(|tag| *tag < 16) => self.new_names += 1,
            _ => {}
        }
        if found != Some(value) {
            let what = if found.is_some() { "differs" } else { "is missing" };
            self.problem(format!("table {}, row {} {what}", table.name(), Hex(key)));
        }
        Ok(())
    }
}

/// What one table weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStats {
    /// The table.
    pub table: Table,
    /// Its files on disk, compressed, in bytes. What was applied lately is still in the journal.
    pub disk_bytes: u64,
    /// Rows, those in write buffers too; overwritten ones may count more than once.
    pub rows: u64,
}

/// What an index weighs on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// By table, in the order of [`Table::ALL`].
    pub tables: Vec<TableStats>,
    /// Files of the journal, in bytes: what write buffers are rebuilt from after a crash.
    pub journal_bytes: u64,
}

impl Index {
    /// Sizes by table. Cheap.
    pub fn stats(&self) -> Result<Stats, IndexError> {
        let store = self.store();
        let tables = Table::ALL.map(|table| {
            let keyspace = store.table(table);
            TableStats {
                table,
                disk_bytes: keyspace.disk_space(),
                rows: keyspace.approximate_len() as u64,
            }
        });
        let journal_bytes =
            store.db.journal_disk_space().map_err(|error| store.storage("read index", &error))?;
        Ok(Stats { tables: tables.to_vec(), journal_bytes })
    }

    /// Writes out all buffers and merges every table into its densest form: after an import, or to
    /// measure. Blocks [`Index::apply`], not readers, for as long as it takes to write the index
    /// once.
    pub fn compact(&self) -> Result<(), IndexError> {
        let _writer = self.hold();
        let store = self.store();
        store.check_alive()?;
        for table in Table::ALL {
            store.flush(table)?;
            let compacted = store.table(table).major_compact();
            compacted.map_err(|error| store.storage("compact index", &error))?;
        }
        Ok(())
    }
}
