//! What is measured: each makes records durable, with the same promise, on the same file system.

mod bare;
mod fjall;
mod ours;
pub(crate) mod postgres;
mod raft_engine;
mod rocksdb;
mod sqlite;

use std::path::Path;

use anyhow::Result;

use crate::workload::Record;
use stemedb_bench::cluster::Cluster;

pub(crate) use self::bare::{BARE, Bare};
pub(crate) use self::ours::{OURS, open_new};

/// One store under test.
pub(crate) trait Contender {
    /// Makes all of `group` durable: one commit by one writer.
    fn commit(&mut self, group: &[Record]) -> Result<()>;

    /// `count` writers that commit at the same time, each its own records, where the store itself
    /// shares syncs among them; `None` where writers only wait for each other.
    fn writers(&self, count: usize) -> Result<Option<Vec<Box<dyn Writer>>>> {
        let _ = count;
        Ok(None)
    }
}

/// One of several writers of a store.
pub(crate) trait Writer: Send {
    /// Makes one record durable.
    fn commit(&mut self, record: &Record) -> Result<()>;
}

/// Everything that is measured, by name. Fresh in `dir`, which holds nothing else.
pub(crate) struct Maker<'a> {
    pub(crate) name: &'static str,
    pub(crate) make: Box<dyn Fn(&Path) -> Result<Box<dyn Contender>> + 'a>,
}

fn maker<'a, C: Contender + 'static>(
    name: &'static str,
    make: impl Fn(&Path) -> Result<C> + 'a,
) -> Maker<'a> {
    let make = move |dir: &Path| -> Result<Box<dyn Contender>> { Ok(Box::new(make(dir)?)) };
    Maker { name, make: Box::new(make) }
}

/// The bare device twice, ours, the rivals. PostgreSQL is left out without a cluster.
pub(crate) fn all(cluster: Option<&Cluster>) -> Vec<Maker<'_>> {
    let mut all = vec![
        maker(BARE, |dir| bare::Bare::new(dir, false)),
        maker(OURS, ours::Ours::new),
        maker(bare::DIRECT, |dir| bare::Bare::new(dir, true)),
        maker("RocksDB", rocksdb::RocksDb::new),
        maker("raft-engine", raft_engine::RaftEngine::new),
        maker("fjall", fjall::Fjall::new),
        maker("SQLite", sqlite::Sqlite::new),
    ];
    if let Some(cluster) = cluster {
        all.push(maker("PostgreSQL", |_| postgres::fresh(cluster)));
    }
    all
}
