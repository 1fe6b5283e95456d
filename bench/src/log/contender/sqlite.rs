//! SQLite with a write-ahead log and a sync for every commit.

use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::Connection;

use super::Contender;
use crate::workload::Record;

pub(crate) struct Sqlite {
    database: Connection,
}

impl Sqlite {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let database = Connection::open(dir.join("log.sqlite"))?;
        let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        ensure!(mode == "wal", "SQLite is in journal mode {mode}");
        database.execute_batch("PRAGMA synchronous = FULL")?;
        database.execute_batch(
            "CREATE TABLE log (position INTEGER PRIMARY KEY, record BLOB NOT NULL)",
        )?;
        Ok(Self { database })
    }
}

impl Contender for Sqlite {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        let transaction = self.database.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log (record) VALUES (?1)")?;
            for record in group {
                insert.execute([&record.bytes])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
