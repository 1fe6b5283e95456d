//! The claims that are asked about, the same for everybody.

use std::collections::BTreeMap;

use anyhow::Result;
use stemedb_bench::random::mix;
use stemedb_index::Entry;
use stemedb_model::{
    Agent, AgentAct, AgentId, Assertion, Body, Genesis, Key, LifecycleState, LogId, Millis,
    Position, PredicateName, Principal, Provenance, Record, Signature, Signed, SourceClass, Space,
    Subject, Value,
};

pub(crate) const LOG: LogId = LogId([1; 16]);
pub(crate) const NOW: Millis = Millis(1_700_000_000_000);
/// Distinct values of each key.
const VALUES: u64 = 5;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) claims: u64,
    pub(crate) agents: u64,
}

/// One claim, as a table has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) agent: u64,
    pub(crate) source: u64,
    pub(crate) value: u64,
    /// In 2^-30.
    pub(crate) weight: i64,
    /// 3 to 5: a source that nobody registered is expert at best.
    pub(crate) tier: u8,
}

impl Shape {
    /// The claim `n` of a key.
    pub(crate) fn row(self, n: u64) -> Row {
        let agent = n % self.agents;
        let dice = mix(n);
        Row {
            agent,
            // An agent has a few sources, which it shares with its neighbours.
            source: (agent + dice % 3) % self.agents,
            value: (dice >> 8) % VALUES,
            weight: i64::try_from(confidence(n)).unwrap_or(1) << (30 - CONFIDENCE_BITS),
            tier: 3 + (agent % 3) as u8,
        }
    }
}

/// Confidences are multiples of 2^-8, so that every database holds them exactly.
const CONFIDENCE_BITS: u32 = 8;

fn confidence(n: u64) -> u64 {
    128 + mix(n ^ 0xabcd) % 129
}

pub(crate) fn agent(n: u64) -> AgentId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes[31] = 1;
    AgentId(bytes)
}

pub(crate) fn value(n: u64) -> String {
    format!("value {n}")
}

pub(crate) fn key(number: usize) -> Result<Key> {
    Ok(Key {
        space: Space::default(),
        subject: Subject::parse(&format!("asked/{number}"))?,
        predicate: PredicateName::parse("is")?,
    })
}

/// Numbers entries; signatures are not real, since an index believes its log.
pub(crate) struct Entries {
    position: Position,
    principal: Principal,
}

impl Entries {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { position: Position::NONE, principal: Principal::parse("bench")? })
    }

    fn entry(&mut self, agent: AgentId, body: Body) -> Result<Entry> {
        self.position = self.position.next();
        let unbound = matches!(body, Body::Assertion(_));
        let log_id = (!unbound).then_some(LOG);
        // No two records are the same.
        let at = Millis(NOW.0 + i64::try_from(self.position.0)?);
        let record = Record { space: Space::default(), agent, at, log_id, body };
        let bytes = record.encode();
        Ok(Entry {
            position: self.position,
            recorded_at: at,
            principal: self.principal.clone(),
            custodial: false,
            idempotency: None,
            signed: Signed::trusted(bytes, Signature([0; 64]))?,
        })
    }

    pub(crate) fn genesis(&mut self) -> Result<Entry> {
        let root = agent(u64::MAX);
        self.entry(root, Body::Genesis(Genesis { format: 1, root }))
    }

    pub(crate) fn register(&mut self, n: u64) -> Result<Entry> {
        self.entry(agent(u64::MAX), registration(agent(n)))
    }

    /// A claim about a key, with the class that makes it of the row's tier.
    pub(crate) fn claim(&mut self, key: &Key, row: Row) -> Result<Entry> {
        self.entry(agent(row.agent), assertion(key, row))
    }
}

/// What the root says of an agent.
pub(crate) fn registration(key: AgentId) -> Body {
    let ceiling = SourceClass::Regulatory;
    let act = AgentAct::Register { name: None, ceiling, operator: None, roles: Vec::new() };
    Body::Agent(Agent { key, act })
}

/// A claim about a key, with the class that makes it of the row's tier.
pub(crate) fn assertion(key: &Key, row: Row) -> Body {
    let class = SourceClass::ALL.into_iter().find(|class| class.tier().0 == row.tier);
    Body::Assertion(Assertion {
        subject: key.subject.clone(),
        predicate: key.predicate.clone(),
        object: Value::Text(value(row.value).into()),
        confidence: row.weight as f64 / f64::from(1 << 30),
        source: Some(Provenance {
            uri: Some(format!("https://example.org/{}", row.source).into()),
            class,
            ..Provenance::default()
        }),
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
