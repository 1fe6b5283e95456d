//! The index, in process.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use stemedb_bench::random::mix;
use stemedb_bench::stats::{Latencies, Quantiles};
use stemedb_index::{ConflictFilter, Entry, Index, IndexConfig, Learned};
use stemedb_lens::{LensName, Options, Reliability, Resolution, resolve};
use stemedb_model::{AgentId, Hash, Key, Millis, Position, Space, Timeline, Value};

use crate::data::{Entries, LOG, NOW, Row, Shape, key};

/// Entries applied at once, as an engine under load does.
const GROUP: usize = 4_096;
/// Claims on each key that nobody asks about.
const OTHER_CLAIMS: u64 = 10;
const CLAIMS_MAX: usize = 2_000_000;
/// How long each figure is measured.
const SLICE: Duration = Duration::from_millis(700);

/// A table of learned trust, made up: every agent has another reliability.
struct MadeUp;

impl Reliability for MadeUp {
    fn reliability(&self, agent: &AgentId, _key: &Key) -> Option<u64> {
        let (number, _) = agent.0.split_first_chunk()?;
        Some(mix(u64::from_be_bytes(*number)) >> 34)
    }
}

/// What the lenses that ask whom to trust are given.
const TRUST: Learned<'static> = Learned { table: &MadeUp, hash: Hash([7; 32]) };

/// What the index is, after everything is in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    pub(crate) claims: u64,
    pub(crate) bytes_per_claim: f64,
    pub(crate) applied_per_second: f64,
    pub(crate) open_seconds: f64,
    pub(crate) memory_mib: u64,
    pub(crate) conflicts: Conflicts,
}

/// The list of conflicts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Conflicts {
    /// Keys in conflict.
    pub(crate) open: u64,
    /// How long the list took to follow all that was loaded.
    pub(crate) followed_seconds: f64,
    /// A page of 100 after a random place, in microseconds.
    pub(crate) page: Quantiles,
}

/// What one key costs, in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    /// The first answer of all: from the claims.
    pub(crate) first: f64,
    /// By lens: an answer when nothing was written.
    pub(crate) lenses: Vec<(String, Quantiles)>,
    /// The default lens and `trust`, when the answer was kept from an earlier read.
    pub(crate) kept: Vec<(String, Quantiles)>,
    /// The default lens, with a claim about the key written before each answer; without the write.
    pub(crate) after_write: Quantiles,
    /// The default lens as of a random position among the key's.
    pub(crate) past: Quantiles,
    pub(crate) memory_mib: u64,
}

pub(crate) struct Ours {
    index: Index,
    entries: Entries,
}

/// The winner under the default lens, as every database must find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) value: String,
    /// In 2^-30.
    pub(crate) weight: i64,
}

fn config(dir: &Path) -> IndexConfig {
    IndexConfig { questions_bytes: 4 << 30, ..IndexConfig::new(dir) }
}

fn open(dir: &Path) -> Result<Index> {
    Ok(Index::open(&config(dir), Some((LOG, Timeline([1; 16]))))?)
}

/// Resident memory of this process.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() { bytes_in(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}

impl Ours {
    /// An index with the keys that are asked about, and `others` claims on keys that are not.
    pub(crate) fn load(dir: &Path, shapes: &[Shape], others: u64) -> Result<(Self, Store)> {
        let index = open(dir)?;
        let mut entries = Entries::new()?;
        let started = Instant::now();
        let mut group = vec![entries.genesis()?];
        let agents = shapes.iter().map(|shape| shape.agents).max().unwrap_or(0);
        let mut spent = Duration::ZERO;
        let mut count = 0;
        let mut put = |entry: Option<Entry>, group: &mut Vec<Entry>| -> Result<()> {
            let last = entry.is_none();
            group.extend(entry);
            if group.len() >= GROUP || last {
                let started = Instant::now();
                index.apply(group)?;
                spent += started.elapsed();
                count += group.len() as u64;
                group.clear();
            }
            Ok(())
        };
        for n in 0..agents {
            put(Some(entries.register(n)?), &mut group)?;
        }
        for (number, shape) in shapes.iter().enumerate() {
            let key = key(number)?;
            for n in 0..shape.claims {
                put(Some(entries.claim(&key, shape.row(n))?), &mut group)?;
            }
        }
        let other = Shape { claims: others, agents: 1_000 };
        for n in 0..others {
            let key = key(1_000_000 + usize::try_from(n / OTHER_CLAIMS)?)?;
            put(Some(entries.claim(&key, other.row(n))?), &mut group)?;
        }
        put(None, &mut group)?;
        eprintln!("{count} records applied in {:.0} s", started.elapsed().as_secs_f64());
        index.persist()?;
        drop(index);
        let started = Instant::now();
        let index = open(dir)?;
        let open_seconds = started.elapsed().as_secs_f64();
        let claims = shapes.iter().map(|shape| shape.claims).sum::<u64>() + others;
        let memory_mib = memory_mib();
        let conflicts = Self::conflicts(&index)?;
        // Following made questions, so no first answer would be one.
        drop(index);
        let index = open(dir)?;
        let store = Store {
            claims,
            bytes_per_claim: bytes_in(dir)? as f64 / claims as f64,
            applied_per_second: count as f64 / spent.as_secs_f64(),
            open_seconds,
            memory_mib,
            conflicts,
        };
        Ok((Self { index, entries }, store))
    }

    /// Brings the list of conflicts up to date, then reads pages of it.
    fn conflicts(index: &Index) -> Result<Conflicts> {
        let started = Instant::now();
        while index.follow_conflicts(NOW, CLAIMS_MAX, &|| false)?.more {}
        let followed_seconds = started.elapsed().as_secs_f64();
        let standing = index.conflict_standing()?;
        ensure!(standing.too_large == 0, "{} keys were too large", standing.too_large);
        let all = ConflictFilter::new(Space::default());
        let mut places = vec![None];
        while let Some(next) =
            index.conflicts(&all, places.last().and_then(Option::as_ref), 1_000)?.next
        {
            places.push(Some(next));
        }
        let mut turn = 0;
        let page = Self::times(|| {
            turn += 1;
            let at = usize::try_from(mix(turn))? % places.len();
            let page = index.conflicts(&all, places[at].as_ref(), 100)?;
            ensure!(!page.items.is_empty() || standing.open < 100, "an empty page");
            black_box(page.items.len());
            Ok(())
        })?;
        Ok(Conflicts { open: standing.open, followed_seconds, page })
    }

    fn ask(&self, number: usize, lens: LensName, at: Millis) -> Result<Resolution> {
        let options = Options::new(lens, at);
        let key = key(number)?;
        let answer = self
            .index
            .snapshot()
            .question(&key, &options, CLAIMS_MAX, |question| question.answer(&options, None))?;
        Ok(answer)
    }

    fn times(mut run: impl FnMut() -> Result<()>) -> Result<Quantiles> {
        let mut latencies = Latencies::default();
        let begun = Instant::now();
        while begun.elapsed() < SLICE || latencies.len() < 3 {
            let started = Instant::now();
            run()?;
            latencies.push(started.elapsed());
        }
        Ok(latencies.quantiles())
    }

    /// One key through every lens.
    pub(crate) fn measure(&mut self, number: usize, shape: Shape) -> Result<(Winner, Times)> {
        let later = Millis(NOW.0 + 1_000_000_000);
        let started = Instant::now();
        let answer = self.ask(number, LensName::Authority, later)?;
        let first = started.elapsed().as_secs_f64() * 1e6;
        ensure!(answer.considered == shape.claims, "{} considered", answer.considered);
        let winner = answer.winner().context("no winner")?;
        let Value::Text(text) = &winner.value else { anyhow::bail!("no text") };
        let winner = Winner { value: text.to_string(), weight: i64::try_from(winner.lens_weight)? };
        let key = key(number)?;
        let mut lenses = Vec::new();
        // As an engine does, which has the table of the trust snapshot in force at hand.
        let trust = [Options::new(LensName::Trust, later)];
        self.index.snapshot().answers(&key, &trust, Some(TRUST), CLAIMS_MAX)?;
        for lens in LensName::ALL {
            let options = Options::new(lens, later);
            let took = Self::times(|| {
                let snapshot = self.index.snapshot();
                let found = snapshot.question(&key, &options, CLAIMS_MAX, |question| {
                    question.answer(&options, Some(&TRUST))
                })?;
                black_box(found.values.len());
                Ok(())
            })?;
            lenses.push((lens.as_str().to_owned(), took));
        }
        let kept = [LensName::Authority, LensName::Trust].map(|lens| {
            let options = [Options::new(lens, later)];
            let took = Self::times(|| {
                let (found, _) =
                    self.index.snapshot().answers(&key, &options, Some(TRUST), CLAIMS_MAX)?;
                black_box(found.len());
                Ok(())
            })?;
            Ok((lens.as_str().to_owned(), took))
        });
        let kept = kept.into_iter().collect::<Result<_>>()?;
        let memory_mib = memory_mib();
        let past = self.past(number, shape)?;
        let after_write = self.after_writes(number, shape)?;
        Ok((winner, Times { first, lenses, kept, after_write, past, memory_mib }))
    }

    /// As it was answered at positions drawn from the key's own.
    fn past(&self, number: usize, shape: Shape) -> Result<Quantiles> {
        let key = key(number)?;
        let snapshot = self.index.snapshot();
        let options = Options::new(LensName::Authority, NOW);
        let newest = snapshot.candidates(&key, snapshot.position(), CLAIMS_MAX)?;
        let positions: Vec<Position> = newest.claims.iter().map(|claim| claim.position).collect();
        drop(newest);
        let mut turn = 0;
        Self::times(|| {
            turn += 1;
            let at = usize::try_from(mix(turn) % shape.claims)?;
            let as_of = *positions.get(at).context("no such claim")?;
            let then = snapshot.candidates(&key, as_of, CLAIMS_MAX)?;
            let answer = resolve(&then, &options, None);
            ensure!(answer.considered == at as u64 + 1, "{} considered", answer.considered);
            Ok(())
        })
    }

    fn after_writes(&mut self, number: usize, shape: Shape) -> Result<Quantiles> {
        let key = key(number)?;
        let options = Options::new(LensName::Authority, Millis(NOW.0 + 1_000_000_000));
        let mut latencies = Latencies::default();
        let begun = Instant::now();
        let mut n = shape.claims;
        while begun.elapsed() < SLICE {
            n += 1;
            // The last agent speaks again, so that what is asked stays of one size.
            let row = Row { agent: shape.agents - 1, ..shape.row(n) };
            let entry = self.entries.claim(&key, row)?;
            self.index.apply(&[entry])?;
            let snapshot = self.index.snapshot();
            let started = Instant::now();
            let found = snapshot
                .question(&key, &options, CLAIMS_MAX, |question| question.answer(&options, None))?;
            latencies.push(started.elapsed());
            black_box(found.values.len());
        }
        Ok(latencies.quantiles())
    }
}
