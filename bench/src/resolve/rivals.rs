//! The same answer in SQL, over one indexed table.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};
use stemedb_bench::cluster::Cluster;
use stemedb_bench::stats::{Latencies, Quantiles};

use crate::data::{Shape, value};
use crate::ours::Winner;

const SLICE: Duration = Duration::from_millis(700);

/// The authority lens: the newest statement of each agent; of a value the strongest claim of each
/// source, then of each voice; of these, those of the best tier that has claims.
const QUERY: &str = "
WITH live AS (
    SELECT c.position, c.agent, c.source, c.value, c.weight, c.tier
    FROM claims c
    JOIN (SELECT max(position) AS position FROM claims WHERE key = $1 GROUP BY agent) newest
      ON newest.position = c.position
), of_source AS (
    SELECT *, row_number() OVER
        (PARTITION BY value, source ORDER BY tier, weight DESC, position) AS rank
    FROM live
), of_voice AS (
    SELECT *, row_number() OVER
        (PARTITION BY value, agent ORDER BY tier, weight DESC, position) AS place
    FROM of_source WHERE rank = 1
), spoken AS (SELECT * FROM of_voice WHERE place = 1)
SELECT value, sum(weight)
FROM spoken
WHERE tier = (SELECT min(tier) FROM live)
GROUP BY value
ORDER BY 2 DESC, count(*) DESC, max(position) DESC
LIMIT 1";

const TABLE: &str = "CREATE TABLE claims (
    position bigint PRIMARY KEY, key bigint NOT NULL, agent bigint NOT NULL, source bigint NOT NULL,
    value text NOT NULL, weight bigint NOT NULL, tier int NOT NULL)";
const INDEX: &str = "CREATE INDEX claims_of_key ON claims (key, agent, position)";

fn times(mut run: impl FnMut() -> Result<Winner>, expected: &Winner) -> Result<Quantiles> {
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    while begun.elapsed() < SLICE || latencies.len() < 3 {
        let started = Instant::now();
        let found = run()?;
        latencies.push(started.elapsed());
        ensure!(found == *expected, "another answer: {found:?}, not {expected:?}");
    }
    Ok(latencies.quantiles())
}

pub(crate) struct Sqlite(Connection);

impl Sqlite {
    pub(crate) fn load(dir: &Path, shapes: &[Shape]) -> Result<Self> {
        let mut database = Connection::open(dir.join("claims.sqlite"))?;
        database.execute_batch("PRAGMA cache_size = -1000000; PRAGMA synchronous = OFF")?;
        database.execute_batch(&format!("{TABLE} WITHOUT ROWID;"))?;
        let transaction = database.transaction()?;
        {
            let mut insert =
                transaction.prepare("INSERT INTO claims VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            let mut position = 0i64;
            for (key, shape) in shapes.iter().enumerate() {
                for n in 0..shape.claims {
                    let row = shape.row(n);
                    position += 1;
                    let value = value(row.value);
                    let (agent, source) = (row.agent as i64, row.source as i64);
                    insert.execute(params![
                        position, key as i64, agent, source, value, row.weight, row.tier
                    ])?;
                }
            }
        }
        transaction.commit()?;
        database.execute_batch(&format!("{INDEX}; ANALYZE"))?;
        Ok(Self(database))
    }

    pub(crate) fn measure(&mut self, key: usize, expected: &Winner) -> Result<Quantiles> {
        let mut query = self.0.prepare(QUERY)?;
        let run = || {
            Ok(query.query_row([key as i64], |row| {
                Ok(Winner { value: row.get(0)?, weight: row.get(1)? })
            })?)
        };
        times(run, expected)
    }
}

pub(crate) struct Postgres(postgres::Client);

impl Postgres {
    pub(crate) fn load(cluster: &Cluster, shapes: &[Shape]) -> Result<Self> {
        use std::io::Write;
        let mut client = cluster.connect()?;
        client.batch_execute(TABLE)?;
        let mut rows = client.copy_in("COPY claims FROM STDIN")?;
        let mut position = 0u64;
        for (key, shape) in shapes.iter().enumerate() {
            for n in 0..shape.claims {
                let row = shape.row(n);
                position += 1;
                writeln!(
                    rows,
                    "{position}\t{key}\t{}\t{}\t{}\t{}\t{}",
                    row.agent,
                    row.source,
                    value(row.value),
                    row.weight,
                    row.tier
                )?;
            }
        }
        rows.finish()?;
        client.batch_execute(INDEX)?;
        // Not together: that would be a transaction, and in one it is refused.
        client.batch_execute("VACUUM ANALYZE claims")?;
        Ok(Self(client))
    }

    pub(crate) fn measure(&mut self, key: usize, expected: &Winner) -> Result<Quantiles> {
        let query = QUERY.replace("sum(weight)", "sum(weight)::bigint");
        let query = self.0.prepare(&query)?;
        let run = || {
            let row = self.0.query_one(&query, &[&(key as i64)])?;
            Ok(Winner { value: row.get(0), weight: row.get(1) })
        };
        times(run, expected)
    }
}
