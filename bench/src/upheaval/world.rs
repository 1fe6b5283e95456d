//! Who says what.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stemedb_bench::random::mix;
use stemedb_engine::{Engine, EngineConfig};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::Env;
use stemedb_log::{Expect, Log, Wal, WalConfig};
use stemedb_model::{
    Agent, AgentAct, AgentId, Alias, Assertion, Body, Epoch, EpochMode, Genesis, Key,
    LifecycleState, LogId, Millis, PredicateName, Principal, Provenance, Record, RecordId, Retract,
    RetractTarget, Signature, Signed, SourceClass, SourceKey, Space, Subject, Timeline, Value,
};

const LOG: LogId = LogId([1; 16]);
const NOW: i64 = 1_700_000_000_000;
const WITHDRAWN: &str = "https://withdrawn.example/";
/// Claims on each key of the source; one more of another source says something else.
const OF_SOURCE: u64 = 10;
/// Claims on each key of the epoch.
const OF_EPOCH: u64 = 10;

/// How many claims of each kind.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) source: u64,
    /// On each of two subjects.
    pub(crate) subject: u64,
    pub(crate) epoch: u64,
    pub(crate) agents: u64,
}

impl Size {
    pub(crate) const WHOLE: Self =
        Self { source: 1_000_000, subject: 100_000, epoch: 100_000, agents: 1_000 };
    pub(crate) const SMALL: Self =
        Self { source: 10_000, subject: 1_000, epoch: 1_000, agents: 100 };
}

pub(crate) struct World {
    size: Size,
    /// Records made so far; each has a time of its own.
    pub(crate) records: u64,
    calm: u64,
    old_epoch: Signed,
}

fn agent(n: u64) -> AgentId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes[31] = 1;
    AgentId(bytes)
}

fn root() -> AgentId {
    agent(u64::MAX)
}

fn subject(text: &str) -> Result<Subject> {
    Ok(Subject::parse(text)?)
}

/// Signatures are not real: whoever submits to an engine has verified them.
fn signed(agent: AgentId, at: i64, body: Body) -> Result<Signed> {
    let bound = !matches!(body, Body::Assertion(_));
    let log_id = bound.then_some(LOG);
    let record = Record { space: Space::default(), agent, at: Millis(at), log_id, body };
    Ok(Signed::trusted(record.encode(), Signature([0; 64]))?)
}

fn claim(
    agent_number: u64,
    at: i64,
    subject: Subject,
    (value, source, epoch): (u64, String, Option<RecordId>),
) -> Result<Signed> {
    let body = Body::Assertion(Assertion {
        subject,
        predicate: PredicateName::parse("is")?,
        object: Value::Text(format!("value {value}").into()),
        confidence: 0.9,
        source: Some(Provenance {
            uri: Some(source.into()),
            class: Some(SourceClass::Community),
            ..Provenance::default()
        }),
        valid_from: None,
        valid_to: None,
        epoch,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: Vec::new(),
        vector: None,
        visual_hash: None,
        meta: Default::default(),
    });
    signed(agent(agent_number), at, body)
}

fn epoch(at: i64, supersedes: Option<RecordId>) -> Result<Signed> {
    let supersedes = supersedes.map(|old| (old, EpochMode::Replace));
    let body = Body::Epoch(Epoch { name: "era".into(), description: None, supersedes });
    signed(root(), at, body)
}

impl World {
    pub(crate) fn new(size: Size) -> Result<Self> {
        Ok(Self { size, records: 0, calm: 0, old_epoch: epoch(NOW, None)? })
    }

    pub(crate) fn open(&self, dir: &Path) -> Result<Arc<Engine>> {
        let env = Env::real();
        let principal = Principal::parse("bench")?;
        let expect = Expect::New { log_id: LOG, timeline: Timeline([1; 16]) };
        let (mut log, _) = Wal::open(WalConfig::new(dir.join("wal")), env.clone(), expect)?;
        let genesis = Body::Genesis(Genesis { format: 1, root: root() });
        Engine::genesis(&mut log, &signed(root(), 0, genesis)?, principal)?;
        let config = IndexConfig::new(dir.join("index"));
        let index = Index::open(&config, log.reader().identity())?;
        // As one, the two subjects have more claims than an answer is made from by default.
        let config = EngineConfig { resolve_claims_max: 1_000_000, ..EngineConfig::default() };
        let engine = Engine::open(config, env, Box::new(log), index)?;
        engine.wait_ready(|_| ())?;
        Ok(engine)
    }

    /// The next record to load; `None` when all are there.
    pub(crate) fn next(&mut self) -> Result<Option<Signed>> {
        let Size { source, subject: of_subject, epoch, agents } = self.size;
        let n = self.records;
        self.records += 1;
        let at = NOW + i64::try_from(n)?;
        let other = |n: u64| format!("https://example.org/{}", n % 97);
        let mut n = n;
        if n < agents {
            let ceiling = SourceClass::Regulatory;
            let act = AgentAct::Register { name: None, ceiling, operator: None, roles: Vec::new() };
            return signed(root(), at, Body::Agent(Agent { key: agent(n), act })).map(Some);
        }
        n -= agents;
        if n == 0 {
            return Ok(Some(self.old_epoch.clone()));
        }
        n -= 1;
        if n < source {
            let what = (0, WITHDRAWN.to_owned(), None);
            let of = subject(&format!("source/{}", n / OF_SOURCE))?;
            return claim(n % agents, at, of, what).map(Some);
        }
        n -= source;
        if n < source / OF_SOURCE {
            let of = subject(&format!("source/{n}"))?;
            return claim(mix(n) % agents, at, of, (1, other(n), None)).map(Some);
        }
        n -= source / OF_SOURCE;
        if n < 2 * of_subject {
            let of = subject(if n.is_multiple_of(2) { "one/a" } else { "one/b" })?;
            return claim(mix(n) % agents, at, of, (mix(n) % 5, other(n), None)).map(Some);
        }
        n -= 2 * of_subject;
        if n < epoch {
            let of = subject(&format!("epoch/{}", n / OF_EPOCH))?;
            let under = (n.is_multiple_of(2)).then(|| self.old_epoch.id());
            return claim(n % agents, at, of, (n % 2, other(n), under)).map(Some);
        }
        self.records -= 1;
        Ok(None)
    }

    /// The broad facts, each with its name.
    pub(crate) fn broad(&self) -> Result<Vec<(String, Signed)>> {
        let at = NOW + i64::try_from(self.records)?;
        let target = RetractTarget::Source(SourceKey::Uri(WITHDRAWN.into()));
        let (one, other) = (subject("one/a")?, subject("one/b")?);
        let of_root = |body| signed(root(), at, body);
        Ok(vec![
            (
                "source retracted".to_owned(),
                of_root(Body::Retract(Retract { target, reason: None }))?,
            ),
            ("subjects aliased".to_owned(), of_root(Body::Alias(Alias { subject: one, other }))?),
            ("epoch superseded".to_owned(), epoch(at, Some(self.old_epoch.id()))?),
        ])
    }

    /// Claims that nothing else is about.
    pub(crate) fn calm(&self) -> Result<impl FnMut() -> Result<Signed> + Send + use<>> {
        let (mut n, agents) = (self.calm, self.size.agents);
        let base = NOW + i64::try_from(self.records)?;
        Ok(move || {
            n += 1;
            let of = subject(&format!("calm/{}", n / 3))?;
            let source = "https://calm.example/".to_owned();
            claim(n % agents, base + i64::try_from(n)?, of, (n % 2, source, None))
        })
    }

    pub(crate) fn calm_written(&mut self, count: u64) {
        self.calm += count;
    }

    /// Keys to ask, by kind.
    pub(crate) fn keys(&self) -> Result<Vec<(String, Vec<Key>)>> {
        let key = |text: &str| -> Result<Key> {
            let predicate = PredicateName::parse("is").context("a predicate")?;
            Ok(Key { space: Space::default(), subject: subject(text)?, predicate })
        };
        let many = |kind: &str, count: u64| -> Result<Vec<Key>> {
            (0..count).map(|n| key(&format!("{kind}/{n}"))).collect()
        };
        Ok(vec![
            ("of the source".to_owned(), many("source", self.size.source / OF_SOURCE)?),
            ("of the subjects".to_owned(), vec![key("one/a")?, key("one/b")?]),
            ("of the epoch".to_owned(), many("epoch", self.size.epoch / OF_EPOCH)?),
            ("unrelated".to_owned(), many("calm", 200)?),
        ])
    }
}
