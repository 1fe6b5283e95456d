//! A log on a simulated disk, and a store that fails in every way a store can.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stemedb_io::sim::{SimClock, SimRng, SimVfs};
use stemedb_io::{Clock, Env, Rng, Vfs};
use stemedb_log::{Expect, Log, LogError, MemoryLog, NewEntry, Retention, Wal, WalConfig};
use stemedb_model::*;
use stemedb_remote::{
    ArchiveConfig, Archiver, EncryptionKey, EncryptionKeys, KeyedStore, Listed, MemoryStore, Put,
    Store, StoreError,
};

pub const DIR: &str = "/data/wal";
pub const NOTE: &str = "/data/node/archived";
pub const LOG_ID: LogId = LogId([7; 16]);
pub const TIMELINE: Timeline = Timeline([9; 16]);
pub const START_MS: i64 = 1_700_000_000_000;
pub const SEGMENT: u64 = 16 * 4096;
/// Names of files as nobody's node has them, but as one may be signed whose holder has gone bad.
pub const LEAD_OUT: [&str; 14] = [
    "/etc/cron.d/stemedb",
    "//etc/cron.d/stemedb",
    "..",
    "../root.key",
    "../../etc/cron.d/stemedb",
    "audit/../../root.key",
    "audit/..",
    "./root.key",
    "audit/./1",
    "audit//1",
    "audit/",
    "",
    "..\\root.key",
    "root.key\0",
];

/// A machine: its disk, its clock.
pub struct Machine {
    pub vfs: SimVfs,
    pub clock: Arc<SimClock>,
    pub env: Env,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        Self::on(SimVfs::new(seed), Arc::new(SimClock::new(START_MS)), seed)
    }

    fn on(vfs: SimVfs, clock: Arc<SimClock>, seed: u64) -> Self {
        vfs.create_dir_all(Path::new("/data/node")).unwrap();
        let env = Env {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            rng: Arc::new(SimRng::new(seed)),
            vfs: Arc::new(vfs.clone()),
        };
        Self { vfs, clock, env }
    }

    /// Another one with the same disk.
    pub fn fork(&self, seed: u64) -> Self {
        Self::on(self.vfs.fork(), Arc::clone(&self.clock), seed)
    }

    /// What is left after a loss of power.
    pub fn crash(&self, seed: u64) -> Self {
        Self::on(self.vfs.crash(), Arc::clone(&self.clock), seed)
    }

    pub fn create(&self) -> Wal {
        self.open_as(DIR, Expect::New { log_id: LOG_ID, timeline: TIMELINE }).unwrap()
    }

    pub fn open(&self, dir: &str) -> Result<Wal, LogError> {
        self.open_as(dir, Expect::Existing { log_id: Some(LOG_ID), witness: None })
    }

    fn open_as(&self, dir: &str, expect: Expect) -> Result<Wal, LogError> {
        let config = WalConfig {
            segment_bytes: SEGMENT,
            prepare_in_background: false,
            retention: Retention::Archived,
            ..WalConfig::new(dir)
        };
        Wal::open(config, self.env.clone(), expect).map(|(wal, _)| wal)
    }

    pub fn archiver(&self, wal: &Wal, store: &Arc<dyn Store>, part_bytes: u64) -> Archiver {
        let config = ArchiveConfig {
            delay: Duration::from_secs(10),
            part_bytes,
            ..ArchiveConfig::new(NOTE)
        };
        let key = SigningKey::from_seed(&[5; 32]);
        Archiver::new(Arc::clone(store), wal.cutter(), key, self.env.clone(), config).unwrap()
    }
}

/// How often, of a thousand requests, what goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Nothing is done, and an error told.
    pub refused: u64,
    /// It is done, and an error told.
    pub answer_lost: u64,
    /// Only a part arrives, and an error is told.
    pub cut_short: u64,
    /// Only a part arrives, and success is told.
    pub cut_silently: u64,
    /// It takes this long.
    pub delay: Duration,
}

impl Faults {
    pub const AWAY: Self = Self {
        refused: 1_000,
        answer_lost: 0,
        cut_short: 0,
        cut_silently: 0,
        delay: Duration::ZERO,
    };
}

/// A store that fails, and that remembers what it was first given.
pub struct FaultyStore {
    pub inner: MemoryStore,
    rng: SimRng,
    faults: Mutex<Faults>,
    clock: Arc<SimClock>,
    first: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What is called so is read with a flipped bit, once.
    pub misread: Mutex<Option<String>>,
}

impl FaultyStore {
    pub fn new(seed: u64, clock: &Arc<SimClock>) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::with_clock(Arc::clone(clock) as Arc<dyn Clock>),
            rng: SimRng::new(seed),
            faults: Mutex::default(),
            clock: Arc::clone(clock),
            first: Mutex::default(),
            misread: Mutex::default(),
        })
    }

    pub fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    fn strikes(&self, rate: u64) -> bool {
        rate > 0 && self.rng.next_u64() % 1_000 < rate
    }

    fn before(&self, act: &'static str, name: &str) -> Result<(), StoreError> {
        let faults = *self.faults.lock().unwrap();
        self.clock.sleep(faults.delay);
        if self.strikes(faults.refused) {
            return Err(unavailable(act, name));
        }
        Ok(())
    }

    /// Every object is what it was when it was first put.
    pub fn assert_nothing_overwritten(&self) {
        for (name, bytes) in self.first.lock().unwrap().iter() {
            match self.inner.get(name, u64::MAX) {
                Ok(found) => assert!(found == *bytes, "{name} was overwritten"),
                Err(StoreError::Missing { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn unavailable(act: &'static str, name: &str) -> StoreError {
    StoreError::Unavailable { act, name: name.into(), problem: "as the test says".into() }
}

impl Store for FaultyStore {
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.before("put", name)?;
        let faults = *self.faults.lock().unwrap();
        let silent = self.strikes(faults.cut_silently);
        let short = silent || self.strikes(faults.cut_short);
        let arrived = if short { &bytes[..bytes.len() / 2] } else { bytes };
        let put = self.inner.put_new(name, arrived)?;
        if put == Put::Created {
            self.first.lock().unwrap().insert(name.into(), arrived.into());
        }
        if (short && !silent) || self.strikes(faults.answer_lost) {
            return Err(unavailable("put", name));
        }
        Ok(put)
    }

    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        self.before("get", name)?;
        let mut bytes = self.inner.get(name, most)?;
        let mut misread = self.misread.lock().unwrap();
        if misread.as_deref() == Some(name) {
            *misread = None;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }
        Ok(bytes)
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        self.before("list", folder)?;
        self.inner.list(folder, after)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.before("list", folder)?;
        self.inner.folders(folder)
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.before("remove", name)?;
        self.inner.remove(name)
    }

    fn place(&self) -> String {
        "a store that fails".into()
    }

    fn keys(&self) -> &EncryptionKeys {
        self.inner.keys()
    }
}

/// Works until nothing is left to do, failures and waits included.
pub fn settle(archiver: &mut Archiver, clock: &SimClock) {
    for _ in 0..10_000 {
        match archiver.step() {
            Ok(stemedb_remote::Step::Worked) => {}
            Ok(stemedb_remote::Step::Idle) => {
                let progress = archiver.progress();
                if progress.archived == progress.durable {
                    return;
                }
                clock.sleep(Duration::from_secs(1));
            }
            Err(error) if error.passes() => clock.sleep(Duration::from_secs(1)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never came to rest: {:?}", archiver.progress());
}

/// Keys that are the same for the same seeds, the first to write with.
pub fn encryption_keys(seeds: &[u64]) -> EncryptionKeys {
    let key = |seed: &u64| EncryptionKey::generate(&SimRng::new(*seed));
    EncryptionKeys::new(seeds.iter().map(key).collect())
}

/// What is put there is encrypted.
pub fn keyed(store: &Arc<dyn Store>, seeds: &[u64]) -> Arc<dyn Store> {
    Arc::new(KeyedStore::new(Arc::clone(store), encryption_keys(seeds)))
}

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

fn sealed(key: &SigningKey, at: i64, body: Body) -> Signed {
    let unbound = matches!(body, Body::Assertion(_) | Body::Cosign(_));
    let record = Record {
        space: Space::default(),
        agent: key.agent_id(),
        at: Millis(at),
        log_id: (!unbound).then_some(LOG_ID),
        body,
    };
    Signed::seal(record, key).unwrap()
}

fn entry(signed: &Signed) -> NewEntry {
    NewEntry {
        id: signed.id(),
        signature: signed.signature(),
        principal: Principal::parse("tester").unwrap(),
        custodial: false,
        idempotency: None,
        body: Arc::clone(signed.bytes()),
    }
}

fn claim(subject: &str, value: String) -> Body {
    Body::Assertion(Assertion {
        subject: Subject::parse(subject).unwrap(),
        predicate: PredicateName::parse("risk").unwrap(),
        object: Value::Text(value.into()),
        confidence: 1.0,
        source: None,
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: Vec::new(),
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    })
}

/// A history drawn from a seed: genesis, then groups of claims, votes and retractions, each with the
/// time that passes before it.
pub fn history(seed: u64, groups: usize) -> Vec<(Duration, Vec<NewEntry>)> {
    let rng = SimRng::new(seed);
    let draw = |most: u64| rng.next_u64() % most;
    let root = key(255);
    let body = Body::Genesis(Genesis { format: 1, root: root.agent_id() });
    let mut all = vec![(Duration::ZERO, vec![entry(&sealed(&root, START_MS, body))])];
    let mut claims: Vec<(u8, RecordId)> = Vec::new();
    let mut at = START_MS;
    for _ in 1..groups {
        let mut group = Vec::new();
        for _ in 0..1 + draw(6) {
            at += 1;
            let agent = 1 + draw(4) as u8;
            let own: Vec<_> = claims.iter().filter(|(author, _)| *author == agent).collect();
            let signed = match draw(8) {
                0 if !own.is_empty() => {
                    let target = RetractTarget::Record(own[draw(own.len() as u64) as usize].1);
                    sealed(&key(agent), at, Body::Retract(Retract { target, reason: None }))
                }
                1 | 2 if !claims.is_empty() => {
                    let assertion = claims[draw(claims.len() as u64) as usize].1;
                    let weight = if draw(2) == 0 { 1.0 } else { -0.5 };
                    sealed(&key(agent), at, Body::Vote(Vote { assertion, weight }))
                }
                _ => {
                    let value = format!("{}{}", draw(3), "x".repeat(draw(900) as usize));
                    let body = claim(&format!("drugs/{}", draw(5)), value);
                    let signed = sealed(&key(agent), at, body);
                    claims.push((agent, signed.id()));
                    signed
                }
            };
            group.push(entry(&signed));
        }
        all.push((Duration::from_millis(draw(3) * 700), group));
    }
    all
}

/// The reference: a log in memory that was stopped after `count` records.
pub fn stopped_at(history: &[(Duration, Vec<NewEntry>)], mut count: usize) -> MemoryLog {
    let clock = Arc::new(SimClock::new(START_MS));
    let mut log = MemoryLog::new(LOG_ID, TIMELINE, Arc::clone(&clock) as Arc<dyn Clock>);
    for (pause, group) in history {
        let here = &group[..group.len().min(count)];
        if here.is_empty() {
            break;
        }
        clock.sleep(*pause);
        log.append(here).unwrap();
        count -= here.len();
    }
    log
}
