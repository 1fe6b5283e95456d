//! Commits: everybody in turn, in slices of a fraction of a second, many rounds, so that whatever
//! the machine does meanwhile meets all alike. Ratios are taken within a round.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::contender::{self, BARE, Contender, OURS, Writer};
use crate::workload::{Record, device_bytes, records};
use stemedb_bench::cluster::Cluster;
use stemedb_bench::stats::{Estimate, Latencies, Quantiles};

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    pub(crate) seed: u64,
}

/// How the records of several clients get into one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// One writer commits what all clients are waiting for, as a committer thread does.
    Group,
    /// Each client commits for itself, at the same time as the others.
    Writers,
}

/// One number of clients and one size of records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) clients: usize,
    pub(crate) body_bytes: usize,
    /// What a group of all clients has, in whole blocks.
    pub(crate) group_bytes: usize,
    pub(crate) rows: Vec<Row>,
}

/// One contender in a cell. Ratios are to the bare device in the same round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) commits: usize,
    pub(crate) records_per_second: Estimate,
    /// Of all rounds together.
    pub(crate) latency: Quantiles,
    pub(crate) p50: Estimate,
    pub(crate) p99: Estimate,
    pub(crate) p999: Estimate,
    pub(crate) throughput: Estimate,
    /// 99th percentile over the median sync of the bare device.
    pub(crate) p99_in_syncs: Estimate,
}

impl Cell {
    pub(crate) fn row(&self, name: &str, mode: Mode) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.mode == mode)
    }

    /// The better of the two ways to use a store.
    pub(crate) fn best(&self, name: &str) -> Option<&Row> {
        self.rows
            .iter()
            .filter(|row| row.name == name)
            .max_by(|a, b| a.records_per_second.median.total_cmp(&b.records_per_second.median))
    }
}

struct Slice {
    latencies: Latencies,
    records: usize,
    took: Duration,
}

struct Entrant {
    name: &'static str,
    mode: Mode,
    /// Which of the stores.
    store: usize,
    writers: Vec<Box<dyn Writer>>,
    slices: Vec<Slice>,
}

/// Measures one cell with fresh stores in `scratch`.
pub(crate) fn cell(
    plan: Plan,
    scratch: &Path,
    cluster: Option<&Cluster>,
    clients: usize,
    body_bytes: usize,
) -> Result<Cell> {
    let group = records(clients, body_bytes);
    // First, so that it goes last, when nobody works in it any more.
    let home = tempfile::tempdir_in(scratch)?;
    let mut stores: Vec<Box<dyn Contender>> = Vec::new();
    let mut entrants = Vec::new();
    for maker in contender::all(cluster) {
        let dir = home.path().join(stores.len().to_string());
        fs::create_dir(&dir)?;
        let made = (maker.make)(&dir).with_context(|| format!("cannot open {}", maker.name))?;
        let writers = if clients > 1 { made.writers(clients)? } else { None };
        let entrant = |mode, writers| Entrant {
            name: maker.name,
            mode,
            store: stores.len(),
            writers,
            slices: Vec::new(),
        };
        entrants.push(entrant(Mode::Group, Vec::new()));
        if let Some(writers) = writers {
            entrants.push(entrant(Mode::Writers, writers));
        }
        stores.push(made);
    }
    let mut rng = StdRng::seed_from_u64(plan.seed ^ (clients * body_bytes) as u64);
    // Caches, connections and first files are made in a round that does not count.
    for round in 0..=plan.rounds {
        for number in order(&entrants, round, &mut rng) {
            let entrant = &mut entrants[number];
            let length = if round == 0 { plan.slice / 2 } else { plan.slice };
            let slice = match entrant.mode {
                Mode::Group => by_group(&mut *stores[entrant.store], &group, length),
                Mode::Writers => by_writers(&mut entrant.writers, &group, length),
            }
            .with_context(|| format!("{} failed", entrant.name))?;
            if round > 0 {
                entrant.slices.push(slice);
            }
        }
    }
    let bare: Vec<(Quantiles, f64)> = entrants
        .iter()
        .filter(|entrant| entrant.name == BARE)
        .flat_map(|entrant| entrant.slices.iter().map(Slice::summary))
        .collect();
    let rows = entrants.iter().map(|entrant| row(entrant, &bare)).collect();
    Ok(Cell { clients, body_bytes, group_bytes: device_bytes(&group), rows })
}

/// The bare device and ours stand side by side, in turn one first and the other; the rest is
/// shuffled around them.
fn order(entrants: &[Entrant], round: usize, rng: &mut StdRng) -> Vec<usize> {
    let (mut pair, mut rest): (Vec<usize>, Vec<usize>) =
        (0..entrants.len()).partition(|number| [BARE, OURS].contains(&entrants[*number].name));
    if round % 2 == 1 {
        pair.reverse();
    }
    rest.shuffle(rng);
    let at = rng.random_range(0..=rest.len());
    rest.splice(at..at, pair);
    rest
}

fn by_group(store: &mut dyn Contender, group: &[Record], length: Duration) -> Result<Slice> {
    let mut latencies = Latencies::default();
    let started = Instant::now();
    let mut last = started;
    while last - started < length {
        store.commit(group)?;
        let now = Instant::now();
        latencies.push(now - last);
        last = now;
    }
    Ok(Slice { records: latencies.len() * group.len(), latencies, took: last - started })
}

fn by_writers(
    writers: &mut [Box<dyn Writer>],
    records: &[Record],
    length: Duration,
) -> Result<Slice> {
    let start = Barrier::new(writers.len() + 1);
    std::thread::scope(|scope| {
        let running: Vec<_> = writers
            .iter_mut()
            .zip(records)
            .map(|(writer, record)| {
                let start = &start;
                scope.spawn(move || -> Result<Latencies> {
                    let mut latencies = Latencies::default();
                    start.wait();
                    let started = Instant::now();
                    let mut last = started;
                    while last - started < length {
                        writer.commit(record)?;
                        let now = Instant::now();
                        latencies.push(now - last);
                        last = now;
                    }
                    Ok(latencies)
                })
            })
            .collect();
        start.wait();
        let started = Instant::now();
        let mut latencies = Latencies::default();
        for thread in running {
            let result = thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            latencies.extend(&result?);
        }
        Ok(Slice { records: latencies.len(), latencies, took: started.elapsed() })
    })
}

impl Slice {
    /// Latencies, and records in a second.
    fn summary(&self) -> (Quantiles, f64) {
        (self.latencies.quantiles(), self.records as f64 / self.took.as_secs_f64())
    }
}

fn row(entrant: &Entrant, bare: &[(Quantiles, f64)]) -> Row {
    let own: Vec<(Quantiles, f64)> = entrant.slices.iter().map(Slice::summary).collect();
    let ratio = |what: fn(&(Quantiles, f64)) -> f64, to: fn(&(Quantiles, f64)) -> f64| {
        let rounds: Vec<f64> = own.iter().zip(bare).map(|(a, b)| what(a) / to(b)).collect();
        Estimate::of(&rounds)
    };
    let mut all = Latencies::default();
    for slice in &entrant.slices {
        all.extend(&slice.latencies);
    }
    let rates: Vec<f64> = own.iter().map(|(_, rate)| *rate).collect();
    Row {
        name: entrant.name.into(),
        mode: entrant.mode,
        commits: all.len(),
        records_per_second: Estimate::of(&rates),
        latency: all.quantiles(),
        p50: ratio(|(q, _)| q.p50, |(q, _)| q.p50),
        p99: ratio(|(q, _)| q.p99, |(q, _)| q.p99),
        p999: ratio(|(q, _)| q.p999, |(q, _)| q.p999),
        throughput: ratio(|(_, rate)| *rate, |(_, rate)| *rate),
        p99_in_syncs: ratio(|(q, _)| q.p99, |(q, _)| q.p50),
    }
}
