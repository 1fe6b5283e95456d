//! A tiny log for tests: records go in, the candidates of a key come out, as the index would
//! gather them. Ids are made from positions; admission is not checked.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a wrong test input fails the test"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stemedb_lens::{
    Candidates, Claim, Decay, Fact, FactKind, LensName, Options, Resolution, resolve,
};
use stemedb_model::{
    Agent, AgentAct, AgentId, Alias, Body, Cardinality, Conversion, Epoch, EpochMode, Genesis, Key,
    LifecycleState, LogId, Millis, Position, Predicate, PredicateName, Principal, Record, RecordId,
    Registry, Retract, RetractTarget, Role, Signature, Source, SourceClass, SourceKey, Space,
    Subject, Tolerance, Value,
};

pub const DAY: i64 = 86_400_000;
/// Genesis is recorded here; each record a second later than the one before.
pub const BEGINNING: i64 = 1_700_000_000_000;

pub fn agent(n: u8) -> AgentId {
    AgentId([n; 32])
}

pub const ROOT: AgentId = AgentId([255; 32]);

pub fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

pub fn name(text: &str) -> PredicateName {
    PredicateName::parse(text).unwrap()
}

pub fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

pub fn uri(text: &str) -> SourceKey {
    SourceKey::Uri(text.into())
}

pub fn text(text: &str) -> Value {
    Value::text(text).unwrap()
}

pub fn number(value: f64) -> Value {
    Value::number(value, None).unwrap()
}

pub fn measure(value: f64, unit: &str) -> Value {
    Value::number(value, Some(unit)).unwrap()
}

pub fn id(position: Position) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&position.0.to_le_bytes());
    RecordId(bytes)
}

pub fn predicate(of: &str) -> Predicate {
    Predicate {
        name: name(of),
        cardinality: Cardinality::One,
        value_type: None,
        unit: None,
        conversions: Vec::new(),
        tolerance: None,
        opposites: Vec::new(),
        half_life: None,
    }
}

pub fn conversion(unit: &str, multiply: f64, add: f64) -> Conversion {
    Conversion { unit: unit.into(), multiply, add }
}

pub fn tolerance(absolute: Option<f64>, relative: Option<f64>) -> Option<Tolerance> {
    Some(Tolerance { absolute, relative })
}

#[derive(Clone)]
pub struct World {
    pub registry: Registry,
    pub claims: Vec<Claim>,
    pub facts: Vec<Fact>,
    pub epochs: Vec<(Position, RecordId)>,
    /// What the registries were told.
    pub registered: BTreeMap<Position, Record>,
    pub last: Position,
    /// Claimed time of what comes next; `None`: when it is recorded.
    pub at: Option<Millis>,
    pub principals: HashMap<AgentId, Principal>,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            registry: Registry::default(),
            claims: Vec::new(),
            facts: Vec::new(),
            epochs: Vec::new(),
            registered: BTreeMap::new(),
            last: Position::NONE,
            at: None,
            principals: HashMap::new(),
        };
        world.fold(ROOT, Body::Genesis(Genesis { format: 1, root: ROOT }));
        world
    }

    pub fn recorded_at(&self, position: Position) -> Millis {
        Millis(BEGINNING + 1000 * i64::try_from(position.0).unwrap())
    }

    pub fn now(&self) -> Millis {
        self.recorded_at(self.last)
    }

    fn step(&mut self) -> (Position, Millis, Millis) {
        self.last = self.last.next();
        let recorded_at = self.recorded_at(self.last);
        (self.last, self.at.unwrap_or(recorded_at), recorded_at)
    }

    /// A record of the registries, by `by`.
    pub fn fold(&mut self, by: AgentId, body: Body) -> Position {
        let (position, at, _) = self.step();
        let log_id = Some(LogId([7; 16]));
        let record = Record { space: Space::default(), agent: by, at, log_id, body };
        assert!(self.registry.apply(position, id(position), &record), "{record:?}");
        self.registered.insert(position, record);
        position
    }

    pub fn register(&mut self, key: AgentId, ceiling: SourceClass, operator: Option<&str>) {
        self.register_as(key, ceiling, operator, &[]);
    }

    pub fn register_as(
        &mut self,
        key: AgentId,
        ceiling: SourceClass,
        operator: Option<&str>,
        roles: &[Role],
    ) {
        let act = AgentAct::Register {
            name: None,
            ceiling,
            operator: operator.map(Arc::from),
            roles: roles.to_vec(),
        };
        self.fold(ROOT, Body::Agent(Agent { key, act }));
    }

    pub fn revoke(&mut self, key: AgentId, from_position: Position) -> Position {
        let act = AgentAct::Revoke { from_position };
        self.fold(ROOT, Body::Agent(Agent { key, act }))
    }

    pub fn rotate(&mut self, old: AgentId, new: AgentId) {
        let act = AgentAct::Replace { replaces: old, consent: Signature([0; 64]) };
        self.fold(old, Body::Agent(Agent { key: new, act }));
    }

    pub fn source(&mut self, keys: &[SourceKey], class: SourceClass) -> Position {
        let mut keys = keys.to_vec();
        keys.sort();
        self.fold(ROOT, Body::Source(Source { keys, class, title: None }))
    }

    pub fn retract_source(&mut self, key: SourceKey) -> Position {
        let target = RetractTarget::Source(key);
        self.fold(ROOT, Body::Retract(Retract { target, reason: None }))
    }

    pub fn predicate(&mut self, predicate: Predicate) {
        self.fold(ROOT, Body::Predicate(predicate));
    }

    pub fn alias(&mut self, one: &str, other: &str) -> Position {
        let alias = Alias { subject: subject(one), other: subject(other) };
        self.fold(ROOT, Body::Alias(alias))
    }

    pub fn epoch(&mut self, supersedes: Option<(Position, EpochMode)>) -> Position {
        let supersedes = supersedes.map(|(old, mode)| (id(old), mode));
        let epoch = Epoch { name: "era".into(), description: None, supersedes };
        let position = self.fold(ROOT, Body::Epoch(epoch));
        self.epochs.push((position, id(position)));
        position
    }

    fn principal_of(&self, agent: AgentId) -> Principal {
        let own = || principal(&format!("p{}", agent.0[0]));
        self.principals.get(&agent).cloned().unwrap_or_else(own)
    }

    /// Asserts; `set` changes the claim before it is filed.
    pub fn claim_with(
        &mut self,
        key: (&str, &str),
        by: AgentId,
        object: Value,
        set: impl FnOnce(&mut Claim),
    ) -> Position {
        let (position, at, recorded_at) = self.step();
        let mut claim = Claim {
            position,
            subject: subject(key.0),
            predicate: name(key.1),
            agent: by,
            principal: self.principal_of(by),
            at,
            recorded_at,
            source: SourceKey::Agent(by),
            class: None,
            object,
            confidence: 1.0,
            valid_from: None,
            valid_to: None,
            epoch: None,
            lifecycle: LifecycleState::Proposed,
            parent: None,
            premises: Arc::new([]),
        };
        set(&mut claim);
        self.claims.push(claim);
        position
    }

    /// Asserts about the key ("s", "p").
    pub fn claim(&mut self, by: AgentId, value: &str) -> Position {
        self.claim_with(("s", "p"), by, text(value), |_| {})
    }

    pub fn fact(&mut self, by: AgentId, target: Position, kind: FactKind) -> Position {
        let (position, at, recorded_at) = self.step();
        let principal = self.principal_of(by);
        self.facts.push(Fact { position, target, agent: by, principal, at, recorded_at, kind });
        position
    }

    /// Retracts any record, of a registry or not.
    pub fn retract(&mut self, by: AgentId, target: Position) -> Position {
        if self.registered.contains_key(&target) {
            let target = RetractTarget::Record(id(target));
            return self.fold(by, Body::Retract(Retract { target, reason: None }));
        }
        self.fact(by, target, FactKind::Retract)
    }

    pub fn vote(&mut self, by: AgentId, target: Position, weight: f64) -> Position {
        self.fact(by, target, FactKind::Vote { weight })
    }

    pub fn cosign(&mut self, by: AgentId, target: Position) -> Position {
        self.fact(by, target, FactKind::Cosign)
    }

    pub fn supersede(&mut self, by: AgentId, old: Position, new: Position) -> Position {
        self.fact(by, old, FactKind::Supersede { new })
    }

    pub fn lifecycle(&mut self, target: Position, state: LifecycleState) -> Position {
        self.fact(ROOT, target, FactKind::Lifecycle { state })
    }

    /// What the index would gather for a key as of a position.
    pub fn candidates_at(&self, key: (&str, &str), as_of: Position) -> Candidates {
        let space = Space::default();
        let entity = |of: &Subject| self.registry.canonical_subject(&space, of, as_of);
        let asked = (entity(&subject(key.0)), name(key.1));
        let predicate = self.registry.predicate(&space, &asked.1, as_of);
        let opposites = predicate.map(|found| found.opposites.clone()).unwrap_or_default();
        let (mut claims, mut opposing, mut related) = (Vec::new(), Vec::new(), Vec::new());
        for claim in self.claims.iter().filter(|claim| claim.position <= as_of) {
            let of_subject = entity(&claim.subject) == asked.0;
            if of_subject && claim.predicate == asked.1 {
                claims.push(claim.clone());
            } else if of_subject && opposites.contains(&claim.predicate) {
                opposing.push(claim.clone());
            } else {
                related.push(claim.clone());
            }
        }
        let facts = self.facts.iter().filter(|fact| fact.position <= as_of).cloned().collect();
        Candidates {
            key: Key { space, subject: asked.0, predicate: asked.1 },
            as_of,
            claims,
            opposing,
            related,
            facts,
            registry: self.registry.clone(),
            epochs: self.epochs.clone(),
        }
    }

    /// The candidates of ("s", "p") now.
    pub fn candidates(&self) -> Candidates {
        self.candidates_at(("s", "p"), self.last)
    }

    pub fn options(&self, lens: LensName) -> Options {
        Options::new(lens, self.now())
    }

    /// ("s", "p") under a lens with default options.
    pub fn ask(&self, lens: LensName) -> Resolution {
        resolve(&self.candidates(), &self.options(lens), None)
    }

    pub fn ask_with(&self, lens: LensName, set: impl FnOnce(&mut Options)) -> Resolution {
        let mut options = self.options(lens);
        set(&mut options);
        resolve(&self.candidates(), &options, None)
    }
}

/// The winning text.
pub fn answer(resolution: &Resolution) -> Option<&str> {
    match &resolution.winner()?.value {
        Value::Text(text) => Some(text),
        other => panic!("not a text: {other:?}"),
    }
}

/// All winners as text.
pub fn answers(resolution: &Resolution) -> Vec<String> {
    let winners = resolution.winners.iter().map(|index| &resolution.values[*index].value);
    winners
        .map(|value| match value {
            Value::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        })
        .collect()
}

/// Excluded positions with the names of their reasons.
pub fn reasons(resolution: &Resolution) -> Vec<(u64, &'static str)> {
    let excluded = resolution.excluded.iter();
    excluded.map(|excluded| (excluded.position.0, excluded.reason.as_str())).collect()
}

pub fn decays() -> [Decay; 3] {
    [Decay::Off, Decay::PerClass, Decay::HalfLife(3_600_000)]
}
