//! fjall, with the journal synced by every batch.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::Contender;
use crate::workload::Record;

pub(crate) struct Fjall {
    database: Database,
    log: Keyspace,
    position: u64,
}

impl Fjall {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir.join("fjall")).open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        Ok(Self { database, log, position: 0 })
    }
}

impl Contender for Fjall {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for record in group {
            self.position += 1;
            batch.insert(&self.log, self.position.to_be_bytes(), record.bytes.as_slice());
        }
        batch.commit()?;
        Ok(())
    }
}
