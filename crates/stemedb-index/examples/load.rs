//! How fast the index takes claims, what they weigh, and how fast a key is gathered.
//!
//! `cargo run --release --example load -p stemedb-index -- [claims]` (default 300000). The claims
//! are made up: three to a key, a thousand agents, two thirds with a URI out of as many as a sixth
//! of the claims, one in eight resting on an earlier one, one vote to every ten claims, groups of
//! a thousand. Signing is outside the timed part. Times are given as they passed and, on Linux, as
//! the processor spent them, which is what counts on a machine that does other things too.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measuring program prints, and stops at the first error"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use stemedb_index::{Entry, Index, IndexConfig, IndexError};
use stemedb_io::{Clock, Env};
use stemedb_model::*;

const GROUP: u64 = 1_000;
const AGENTS: u64 = 1_000;
/// Claims on keys of their own, to time a resolution's input by size.
const KEY_SIZES: [u64; 3] = [10, 1_000, 10_000];
const REPEATS: u32 = 50;
const RANDOM_KEYS: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let claims: u64 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 300_000,
    };
    let clock = Env::real().clock;
    let folder = tempfile::tempdir()?;
    let config = IndexConfig::new(folder.path().join("index"));
    let identity = (LogId([1; 16]), Timeline([2; 16]));
    let index = Index::open(&config, Some(identity))?;
    let empty_rss = rss_mib();
    let mut load = Load::new(identity.0);
    let mut spent = Time::default();
    let mut slowest = Duration::ZERO;
    let background = threads_cpu() - own_cpu();
    let mut peak = 0;
    while load.claims < claims {
        let group = load.group()?;
        let took = timed(&*clock, || index.apply(&group))?;
        spent.wall += took.wall;
        spent.cpu += took.cpu;
        slowest = slowest.max(took.wall);
        peak = peak.max(rss_mib());
    }
    let per_second = |time: Duration| load.claims as f64 / time.as_secs_f64();
    println!(
        "{} claims, {} records in {:.1} s: {:.0} claims/s; slowest group {:.0} ms",
        load.claims,
        load.position,
        spent.wall.as_secs_f64(),
        per_second(spent.wall),
        slowest.as_secs_f64() * 1e3,
    );
    let background = threads_cpu() - own_cpu() - background;
    println!(
        "processor: {:.0} claims/s in the applying thread, {:.0} with flushing and compaction",
        per_second(spent.cpu),
        per_second(spent.cpu + background),
    );
    println!("memory: {empty_rss} MiB empty, {peak} MiB at the most");
    println!("record bodies: {:.0} bytes each", load.body_bytes as f64 / load.position as f64);

    let start = clock.monotonic();
    index.compact()?;
    println!("compaction: {:.1} s", (clock.monotonic() - start).as_secs_f64());
    let stats = index.stats()?;
    let mut without_bodies = 0;
    for table in &stats.tables {
        println!(
            "{:>12} {:>10} rows {:>12} bytes {:>7.1} a claim",
            table.table.name(),
            table.rows,
            table.disk_bytes,
            table.disk_bytes as f64 / load.claims as f64
        );
        if table.table.name() != "records" {
            without_bodies += table.disk_bytes;
        }
    }
    println!("without records: {:.1} bytes a claim", without_bodies as f64 / load.claims as f64);

    let snapshot = index.snapshot();
    for (which, size) in KEY_SIZES.into_iter().enumerate() {
        let key = Key {
            space: Space::default(),
            subject: Subject::parse(&format!("sized/{which}"))?,
            predicate: PredicateName::parse("mass")?,
        };
        let gather = || {
            let all = snapshot.candidates(&key, Position::MAX, 1_000_000)?;
            assert_eq!(all.claims.len() as u64, size, "the load was large enough for all sizes");
            Ok::<_, IndexError>(())
        };
        let first = timed(&*clock, gather)?;
        let again = timed(&*clock, || (0..REPEATS).try_for_each(|_| gather()))?.each(REPEATS);
        println!("candidates of {size:>6} claims: first {first}; then {again}");
    }
    let mut random = 99;
    let mut gathered = 0;
    let took = timed(&*clock, || {
        for _ in 0..RANDOM_KEYS {
            let key = load.key(next(&mut random) % (load.claims / 3));
            gathered += snapshot.candidates(&key, Position::MAX, 1_000_000)?.claims.len();
        }
        Ok::<_, IndexError>(())
    })?;
    let each = took.each(RANDOM_KEYS);
    println!("candidates of random keys: {each}; {gathered} claims in {RANDOM_KEYS}");
    drop((snapshot, index));

    let start = clock.monotonic();
    let index = Index::open(&config, Some(identity))?;
    println!("reopened in {:.2} s, {} MiB", (clock.monotonic() - start).as_secs_f64(), rss_mib());
    drop(index);
    Ok(())
}

struct Load {
    log: LogId,
    keys: Vec<SigningKey>,
    random: u64,
    position: u64,
    claims: u64,
    body_bytes: u64,
    /// Ids of some earlier claims.
    earlier: Vec<RecordId>,
}

impl Load {
    fn new(log: LogId) -> Self {
        let seed = |agent: u64| {
            let mut seed = [5; 32];
            seed[..8].copy_from_slice(&agent.to_le_bytes());
            SigningKey::from_seed(&seed)
        };
        Self {
            log,
            keys: (0..AGENTS).map(seed).collect(),
            random: 7,
            position: 0,
            claims: 0,
            body_bytes: 0,
            earlier: Vec::new(),
        }
    }

    fn key(&self, number: u64) -> Key {
        Key {
            space: Space::default(),
            subject: Subject::parse(&format!("things/{number:07}")).expect("a subject"),
            predicate: PredicateName::parse(["mass", "colour", "age"][number as usize % 3])
                .expect("a predicate"),
        }
    }

    fn group(&mut self) -> Result<Vec<Entry>, Box<dyn Error>> {
        (0..GROUP).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Result<Entry, Box<dyn Error>> {
        self.position += 1;
        let agent = (next(&mut self.random) % AGENTS) as usize;
        let root = self.keys[0].agent_id();
        let draw = next(&mut self.random);
        let body = match self.earlier.get((draw >> 8) as usize % self.earlier.len().max(1)) {
            _ if self.position == 1 => Body::Genesis(Genesis { format: 1, root }),
            Some(assertion) if draw.is_multiple_of(11) => {
                Body::Vote(Vote { assertion: *assertion, weight: 0.5 })
            }
            earlier => {
                let earlier = earlier.copied();
                Body::Assertion(self.assertion(draw, earlier)?)
            }
        };
        let key = &self.keys[if self.position == 1 { 0 } else { agent }];
        let recorded_at = Millis(1_700_000_000_000 + self.position as i64 / 20);
        let record = Record {
            space: Space::default(),
            agent: key.agent_id(),
            at: Millis(recorded_at.0 - (draw % 5_000) as i64),
            log_id: (!matches!(body, Body::Assertion(_))).then_some(self.log),
            body,
        };
        let is_claim = matches!(record.body, Body::Assertion(_));
        let signed = Signed::seal(record, key)?;
        if is_claim {
            self.claims += 1;
            if draw.is_multiple_of(16) {
                self.earlier.push(signed.id());
            }
        }
        self.body_bytes += signed.bytes().len() as u64;
        Ok(Entry {
            position: Position(self.position),
            recorded_at,
            principal: Principal::parse("importer")?,
            custodial: false,
            idempotency: None,
            signed,
        })
    }

    fn assertion(
        &mut self,
        draw: u64,
        earlier: Option<RecordId>,
    ) -> Result<Assertion, InvalidField> {
        // Hot keys are spread over the load: one claim in twenty each, until they have enough.
        let sized = usize::try_from(self.claims % 20)
            .ok()
            .filter(|which| KEY_SIZES.get(*which).is_some_and(|size| self.claims / 20 < *size));
        let key = match sized {
            Some(which) => {
                Key { subject: Subject::parse(&format!("sized/{which}"))?, ..self.key(0) }
            }
            None => self.key(self.claims / 3),
        };
        let mut meta = BTreeMap::new();
        meta.insert("batch".into(), "2024-01-import".into());
        let uri = format!(
            "https://example.org/articles/2024/{:06}/supplement",
            next(&mut self.random) % (self.claims / 6 + 1)
        );
        Ok(Assertion {
            subject: key.subject,
            predicate: key.predicate,
            object: Value::Number { value: (draw % 1_000) as f64, unit: Some("kg".into()) },
            confidence: (draw % 100) as f64 / 100.0,
            source: (!draw.is_multiple_of(3)).then(|| Provenance {
                uri: Some(uri.into()),
                evidence: None,
                class: Some(SourceClass::Observational),
            }),
            valid_from: None,
            valid_to: None,
            epoch: None,
            lifecycle: LifecycleState::Proposed,
            parent: None,
            derived_from: earlier
                .filter(|_| draw.is_multiple_of(8) && sized.is_none())
                .into_iter()
                .collect(),
            vector: None,
            visual_hash: None,
            meta,
        })
    }
}

/// How long something took, as it passed and on the processor.
#[derive(Debug, Clone, Copy, Default)]
struct Time {
    wall: Duration,
    cpu: Duration,
}

impl Time {
    fn each(self, count: u32) -> Self {
        Self { wall: self.wall / count, cpu: self.cpu / count }
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?} ({:.1?} processor)", self.wall, self.cpu)
    }
}

fn timed<E>(clock: &dyn Clock, work: impl FnOnce() -> Result<(), E>) -> Result<Time, E> {
    let (wall, cpu) = (clock.monotonic(), own_cpu());
    work()?;
    Ok(Time { wall: clock.monotonic() - wall, cpu: own_cpu() - cpu })
}

/// Processor time of this thread; nothing where there is no /proc.
fn own_cpu() -> Duration {
    schedstat("/proc/thread-self/schedstat")
}

/// Processor time of all threads that run now.
fn threads_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| schedstat(&task.path().join("schedstat").to_string_lossy())).sum()
}

fn schedstat(path: &str) -> Duration {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let spent = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(spent.unwrap_or_default())
}

/// splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Resident memory of this process; 0 where there is no /proc.
fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
