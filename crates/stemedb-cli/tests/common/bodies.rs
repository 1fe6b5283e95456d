//! What records say, in short.

use std::collections::BTreeMap;

use stemedb_model::*;

pub fn subject(name: &str) -> Subject {
    Subject::parse(name).unwrap()
}

pub fn property(name: &str) -> PredicateName {
    PredicateName::parse(name).unwrap()
}

pub fn uri(name: &str) -> SourceKey {
    SourceKey::Uri(name.into())
}

/// A claim of one text; change what else it should say.
pub fn assertion(about: &str, what: &str, value: &str) -> Assertion {
    Assertion {
        subject: subject(about),
        predicate: property(what),
        object: Value::text(value).unwrap(),
        confidence: 1.0,
        source: None,
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: vec![],
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    }
}

/// A claim without evidence that declares a class.
pub fn claim(about: &str, what: &str, value: &str, class: SourceClass) -> Body {
    let source = Some(Provenance { uri: None, evidence: None, class: Some(class) });
    Body::Assertion(Assertion { source, ..assertion(about, what, value) })
}

/// A claim that cites an address and declares a class.
pub fn cited(about: &str, what: &str, value: &str, address: &str, class: SourceClass) -> Body {
    let source = Some(Provenance { uri: Some(address.into()), evidence: None, class: Some(class) });
    Body::Assertion(Assertion { source, ..assertion(about, what, value) })
}

pub fn register(key: AgentId, ceiling: SourceClass, roles: &[Role]) -> Body {
    let (name, operator, roles) = (None, None, roles.to_vec());
    Body::Agent(Agent { key, act: AgentAct::Register { name, ceiling, operator, roles } })
}

pub fn revoke(key: AgentId, from: u64) -> Body {
    Body::Agent(Agent { key, act: AgentAct::Revoke { from_position: Position(from) } })
}

/// `old` gives its place to `new`, which consents.
pub fn replace(log_id: LogId, space: &Space, old: AgentId, new: &SigningKey) -> Body {
    let consent = new.consent(log_id, space, old, new.agent_id());
    Body::Agent(Agent { key: new.agent_id(), act: AgentAct::Replace { replaces: old, consent } })
}

pub fn retract(id: RecordId) -> Body {
    Body::Retract(Retract { target: RetractTarget::Record(id), reason: None })
}

pub fn retract_source(key: SourceKey) -> Body {
    Body::Retract(Retract { target: RetractTarget::Source(key), reason: None })
}

pub fn source(address: &str, class: SourceClass) -> Body {
    Body::Source(Source { keys: vec![uri(address)], class, title: None })
}

pub fn predicate(name: &str, cardinality: Cardinality) -> Body {
    Body::Predicate(Predicate {
        name: property(name),
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
        weight: "claim.confidence".into(),
        aggregate: Aggregate::Sum,
        ties: vec![],
    })
}

pub fn gold(about: &str, what: &str, value: &str) -> Body {
    let object = Value::text(value).unwrap();
    Body::Gold(Gold { subject: subject(about), predicate: property(what), object })
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

pub fn vote(assertion: RecordId, weight: f64) -> Body {
    Body::Vote(Vote { assertion, weight })
}

pub fn cosign(assertion: RecordId) -> Body {
    Body::Cosign(Cosign { assertion })
}
