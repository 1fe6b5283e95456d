//! A log in memory with the registry over it: what the tests of registry and rights act on.
#![allow(dead_code, unreachable_pub, reason = "shared by test files; each uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};

use stemedb_model::*;

pub const ROOT: AgentId = AgentId([0xff; 32]);
pub const LOG_ID: LogId = LogId([7; 16]);
pub const NOW: Position = Position::MAX;

pub fn agent(n: u8) -> AgentId {
    AgentId([n; 32])
}

pub fn subject(name: &str) -> Subject {
    Subject::parse(name).unwrap()
}

pub fn uri(name: &str) -> SourceKey {
    SourceKey::Uri(name.into())
}

/// Positions are indices plus one; the claimed time of a record is its position.
pub struct World {
    pub space: Space,
    pub registry: Registry,
    pub log: Vec<(RecordId, Record)>,
}

impl World {
    pub fn new() -> Self {
        let mut world =
            Self { space: Space::default(), registry: Registry::default(), log: Vec::new() };
        world.force(ROOT, Body::Genesis(Genesis { format: 1, root: ROOT }));
        world
    }

    pub fn last(&self) -> Position {
        Position(self.log.len() as u64)
    }

    pub fn record(&self, agent: AgentId, body: Body) -> Record {
        let unbound = matches!(body, Body::Assertion(_) | Body::Cosign(_));
        let at = Millis(self.log.len() as i64 + 1);
        Record { space: self.space.clone(), agent, at, log_id: (!unbound).then_some(LOG_ID), body }
    }

    /// Into the log without asking.
    pub fn force(&mut self, agent: AgentId, body: Body) -> RecordId {
        let record = self.record(agent, body);
        let id = record.id();
        self.registry.apply(self.last().next(), id, &record);
        self.log.push((id, record));
        id
    }

    /// Whether a record would be admitted next.
    pub fn admit(&self, agent: AgentId, body: Body) -> Result<(), Refusal> {
        let record = self.record(agent, body);
        admit(&self.registry, self, self.last().next(), &record, &Policy::default())
    }

    /// Into the log, which must admit it.
    #[track_caller]
    pub fn write(&mut self, agent: AgentId, body: Body) -> RecordId {
        if let Err(refusal) = self.admit(agent, body.clone()) {
            panic!("refused: {refusal}");
        }
        self.force(agent, body)
    }

    pub fn state(&self, agent: AgentId) -> AgentState {
        self.registry.agent(&self.space, &agent, NOW)
    }

    pub fn tier(&self, agent: AgentId, source: &SourceKey, class: Option<SourceClass>) -> Tier {
        self.registry.base_tier(&self.space, &agent, source, class, NOW)
    }

    fn find(&self, id: &RecordId) -> Option<(Position, &Record)> {
        let index = self.log.iter().position(|(found, _)| found == id)?;
        Some((Position(index as u64 + 1), &self.log[index].1))
    }
}

impl Known for World {
    fn head(&self, id: &RecordId) -> Option<Head> {
        self.find(id).map(|(position, record)| Head::of(position, record))
    }

    fn tier(&self, id: &RecordId) -> Option<Tier> {
        let (_, record) = self.find(id)?;
        let Body::Assertion(claim) = &record.body else { return None };
        let (source, class) = (claim.source_key(record.agent), claim.declared_class());
        let own = self.registry.base_tier(&record.space, &record.agent, &source, class, NOW);
        let premises = claim.derived_from.iter().filter_map(|id| Known::tier(self, id));
        Some(premises.fold(own, Tier::worst))
    }

    fn superseded_by(&self, id: &RecordId) -> Vec<RecordId> {
        let links = self.log.iter().filter_map(|(_, record)| match &record.body {
            Body::Supersede(link) if link.old == *id => Some(link.new),
            _ => None,
        });
        links.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

pub fn claim(class: SourceClass) -> Body {
    let source = Provenance { uri: None, evidence: None, class: Some(class) };
    Body::Assertion(Assertion {
        subject: subject("thing"),
        predicate: PredicateName::parse("colour").unwrap(),
        object: Value::Boolean(true),
        confidence: 1.0,
        source: Some(source),
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: vec![],
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    })
}

pub fn register(key: AgentId, ceiling: SourceClass, roles: &[Role]) -> Body {
    let roles = roles.to_vec();
    Body::Agent(Agent {
        key,
        act: AgentAct::Register { name: None, ceiling, operator: None, roles },
    })
}

pub fn register_for(key: AgentId, ceiling: SourceClass, operator: &str) -> Body {
    let act = AgentAct::Register {
        name: Some("someone".into()),
        ceiling,
        operator: Some(operator.into()),
        roles: vec![],
    };
    Body::Agent(Agent { key, act })
}

pub fn revoke(key: AgentId, from: u64) -> Body {
    Body::Agent(Agent { key, act: AgentAct::Revoke { from_position: Position(from) } })
}

pub fn replace(replaces: AgentId, key: AgentId) -> Body {
    let consent = Signature([0; 64]);
    Body::Agent(Agent { key, act: AgentAct::Replace { replaces, consent } })
}

pub fn retract(id: RecordId) -> Body {
    Body::Retract(Retract { target: RetractTarget::Record(id), reason: None })
}

pub fn retract_source(key: SourceKey) -> Body {
    Body::Retract(Retract { target: RetractTarget::Source(key), reason: None })
}

pub fn source(keys: &[&str], class: SourceClass) -> Body {
    Body::Source(Source { keys: keys.iter().map(|key| uri(key)).collect(), class, title: None })
}

pub fn predicate(name: &str, cardinality: Cardinality) -> Body {
    Body::Predicate(Predicate {
        name: PredicateName::parse(name).unwrap(),
        cardinality,
        value_type: None,
        unit: None,
        conversions: vec![],
        tolerance: None,
        opposites: vec![],
        half_life: None,
    })
}

pub fn alias(one: &str, other: &str) -> Body {
    Body::Alias(Alias { subject: subject(one), other: subject(other) })
}

pub fn epoch(name: &str, supersedes: Option<(RecordId, EpochMode)>) -> Body {
    Body::Epoch(Epoch { name: name.into(), description: None, supersedes })
}

pub fn lens(name: &str, version: u64) -> Body {
    Body::Lens(Lens {
        name: name.into(),
        version,
        filter: None,
        weight: "1.0".into(),
        aggregate: Aggregate::Sum,
        ties: vec![],
    })
}

pub fn gold(name: &str, truth: bool) -> Body {
    Body::Gold(Gold {
        subject: subject(name),
        predicate: PredicateName::parse("colour").unwrap(),
        object: Value::Boolean(truth),
    })
}

pub fn trust(input_position: u64) -> Body {
    let (config, table) = (Hash([1; 32]), Hash([2; 32]));
    Body::TrustSnapshot(TrustSnapshot { input_position: Position(input_position), config, table })
}

pub fn supersede(old: RecordId, new: RecordId) -> Body {
    Body::Supersede(Supersede { old, new, reason: None })
}

pub fn lifecycle(assertion: RecordId, state: LifecycleState) -> Body {
    Body::Lifecycle(Lifecycle { assertion, state, reason: None })
}
