//! PostgreSQL as a log: one table, one row a record.

use anyhow::{Result, ensure};
use postgres::{Client, Config, NoTls, Statement};
use stemedb_bench::cluster::Cluster;

use super::{Contender, Writer};
use crate::workload::Record;

/// An empty table, after a checkpoint.
pub(crate) fn fresh(cluster: &Cluster) -> Result<Postgres> {
    let mut client = cluster.connect()?;
    client.batch_execute(
        "DROP TABLE IF EXISTS log;
         CREATE TABLE log (position bigserial PRIMARY KEY, record bytea NOT NULL);
         ALTER TABLE log ALTER COLUMN record SET STORAGE EXTERNAL;
         CHECKPOINT",
    )?;
    let promise = client.query_one(
        "SELECT current_setting('fsync'), current_setting('synchronous_commit'), \
         current_setting('wal_sync_method')",
        &[],
    )?;
    let promise: [String; 3] = [promise.get(0), promise.get(1), promise.get(2)];
    ensure!(promise == ["on", "on", "fdatasync"], "PostgreSQL promises {promise:?}");
    let insert = client
        .prepare("INSERT INTO log (record) SELECT record FROM unnest($1::bytea[]) AS record")?;
    Ok(Postgres { config: cluster.config(), client, insert })
}

pub(crate) struct Postgres {
    config: Config,
    client: Client,
    insert: Statement,
}

impl Contender for Postgres {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        let records: Vec<&[u8]> = group.iter().map(|record| record.bytes.as_slice()).collect();
        self.client.execute(&self.insert, &[&records])?;
        Ok(())
    }

    fn writers(&self, count: usize) -> Result<Option<Vec<Box<dyn Writer>>>> {
        let connect = || -> Result<Box<dyn Writer>> {
            let mut client = self.config.connect(NoTls)?;
            let insert = client.prepare("INSERT INTO log (record) VALUES ($1)")?;
            Ok(Box::new(Connection { client, insert }))
        };
        (0..count).map(|_| connect()).collect::<Result<_>>().map(Some)
    }
}

struct Connection {
    client: Client,
    insert: Statement,
}

impl Writer for Connection {
    fn commit(&mut self, record: &Record) -> Result<()> {
        self.client.execute(&self.insert, &[&record.bytes])?;
        Ok(())
    }
}
