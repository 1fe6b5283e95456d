//! One record of every kind with every optional field set, and one with none, for all tests.
#![allow(dead_code, unreachable_pub, reason = "shared by test files; each uses a part")]
#![allow(clippy::unwrap_used, reason = "test support: a sample that is not valid fails its test")]

use std::collections::BTreeMap;

use stemedb_model::*;

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

pub const LOG_ID: LogId = LogId([0x1d; 16]);
pub const AT: Millis = Millis(1_760_000_000_000);

pub fn id(n: u8) -> RecordId {
    RecordId([n; 32])
}

pub fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

pub fn predicate(text: &str) -> PredicateName {
    PredicateName::parse(text).unwrap()
}

/// A record by key 1; with `log_id` if the kind has one.
pub fn record(body: Body) -> Record {
    let bound = !matches!(body.kind(), Kind::Assertion | Kind::Cosign);
    Record {
        space: Space::default(),
        agent: key(1).agent_id(),
        at: AT,
        log_id: bound.then_some(LOG_ID),
        body,
    }
}

pub fn assertion() -> Assertion {
    Assertion {
        subject: subject("drugs/semaglutide"),
        predicate: predicate("nausea_rate"),
        object: Value::number(0.44, None).unwrap(),
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

pub fn full_assertion() -> Assertion {
    let vector: Vec<u8> = [0.25f32, -1.5, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    Assertion {
        subject: subject("drogues/sémaglutide"),
        predicate: predicate("市場規模"),
        object: Value::number(-47e6, Some("USD")).unwrap(),
        confidence: 0.85,
        source: Some(Provenance {
            uri: Some("https://example.org/trial?id=7".into()),
            evidence: Some(Hash([0xe1; 32])),
            class: Some(SourceClass::Clinical),
        }),
        valid_from: Some(Millis(-86_400_000)),
        valid_to: Some(Millis(1_800_000_000_000)),
        epoch: Some(id(4)),
        lifecycle: LifecycleState::UnderReview,
        parent: Some(id(5)),
        derived_from: vec![id(6), id(7)],
        vector: Some(vector.into()),
        visual_hash: Some([1, 2, 3, 4, 5, 6, 7, 8]),
        meta: [("run", "12"), ("a longer key", "line one\nline two"), ("zz", "")]
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
    }
}

pub fn predicate_record() -> Predicate {
    Predicate {
        name: predicate("height"),
        cardinality: Cardinality::One,
        value_type: Some(ValueType::Number),
        unit: Some("m".into()),
        conversions: vec![
            Conversion { unit: "cm".into(), multiply: 0.01, add: 0.0 },
            Conversion { unit: "km".into(), multiply: 1000.0, add: -0.5 },
        ],
        tolerance: Some(Tolerance { absolute: Some(0.5), relative: Some(0.01) }),
        opposites: vec![predicate("depth"), predicate("no height")],
        half_life: Some(31_536_000_000),
    }
}

pub fn replacement(consent: Signature) -> Agent {
    let act = AgentAct::Replace { replaces: key(1).agent_id(), consent };
    Agent { key: key(2).agent_id(), act }
}

pub fn lens() -> Lens {
    Lens {
        name: "house".into(),
        version: 3,
        filter: Some("tier <= 2".into()),
        weight: "confidence *\n\t2.0".into(),
        aggregate: Aggregate::Sum,
        ties: vec![TieRule::Newest, TieRule::Bytes],
    }
}

/// Named valid records: of every kind, large and small. Ids and hashes inside are made up.
pub fn samples() -> Vec<(&'static str, Record)> {
    let old = key(1).agent_id();
    let consent = key(2).consent(LOG_ID, &Space::default(), old, key(2).agent_id());
    let text = |text: &str| Assertion { object: Value::text(text).unwrap(), ..assertion() };
    let value = |object: Value| Assertion { object, ..assertion() };
    let bodies = [
        ("genesis", Body::Genesis(Genesis { format: 1, root: key(1).agent_id() })),
        ("assertion", Body::Assertion(assertion())),
        ("assertion, every field", Body::Assertion(full_assertion())),
        ("assertion, empty text", Body::Assertion(text(""))),
        ("assertion, long text", Body::Assertion(text(&"naïve ".repeat(60)))),
        ("assertion, zero", Body::Assertion(value(Value::number(0.0, None).unwrap()))),
        ("assertion, boolean", Body::Assertion(value(Value::Boolean(false)))),
        ("assertion, time before 1970", Body::Assertion(value(Value::Time(Millis(-1))))),
        ("assertion, earliest time", Body::Assertion(value(Value::Time(Millis(i64::MIN))))),
        ("assertion, reference", {
            Body::Assertion(value(Value::reference("companies/novo nordisk").unwrap()))
        }),
        ("assertion, class only", {
            let class = Some(SourceClass::Regulatory);
            let source = Some(Provenance { class, ..Provenance::default() });
            Body::Assertion(Assertion { source, ..assertion() })
        }),
        ("cosign", Body::Cosign(Cosign { assertion: id(6) })),
        ("vote", Body::Vote(Vote { assertion: id(6), weight: -0.5 })),
        ("epoch", {
            Body::Epoch(Epoch { name: "2026".into(), description: None, supersedes: None })
        }),
        ("epoch, every field", {
            Body::Epoch(Epoch {
                name: "GRCh38".into(),
                description: Some("The second assembly.\nReplaces the first.".into()),
                supersedes: Some((id(4), EpochMode::Replace)),
            })
        }),
        ("source", {
            let keys = vec![SourceKey::Uri("https://example.org/".into())];
            Body::Source(Source { keys, class: SourceClass::Observational, title: None })
        }),
        ("source, every field", {
            Body::Source(Source {
                keys: vec![
                    SourceKey::Evidence(Hash([0x0e; 32])),
                    SourceKey::Evidence(Hash([0xe1; 32])),
                    SourceKey::Uri("doi:10.1000/182".into()),
                    SourceKey::Uri("https://example.org/".into()),
                ],
                class: SourceClass::Clinical,
                title: Some("A trial".into()),
            })
        }),
        ("retract a record", {
            Body::Retract(Retract { target: RetractTarget::Record(id(6)), reason: None })
        }),
        ("retract a source by hash", {
            let target = RetractTarget::Source(SourceKey::Evidence(Hash([0xe1; 32])));
            Body::Retract(Retract { target, reason: Some("data made up".into()) })
        }),
        ("retract a source by URI", {
            let key = SourceKey::Uri("https://example.org/".into());
            Body::Retract(Retract { target: RetractTarget::Source(key), reason: None })
        }),
        ("supersede", Body::Supersede(Supersede { old: id(6), new: id(7), reason: None })),
        ("supersede, every field", {
            let reason = Some("remeasured".into());
            Body::Supersede(Supersede { old: id(7), new: id(6), reason })
        }),
        ("predicate", {
            Body::Predicate(Predicate {
                name: predicate("speaks"),
                cardinality: Cardinality::Many,
                value_type: None,
                unit: None,
                conversions: vec![],
                tolerance: None,
                opposites: vec![],
                half_life: None,
            })
        }),
        ("predicate, every field", Body::Predicate(predicate_record())),
        ("alias", Body::Alias(Alias { subject: subject("NYC"), other: subject("New York") })),
        ("agent registered", {
            let act = AgentAct::Register {
                name: None,
                ceiling: SourceClass::Community,
                operator: None,
                roles: vec![],
            };
            Body::Agent(Agent { key: key(3).agent_id(), act })
        }),
        ("agent registered, every field", {
            let act = AgentAct::Register {
                name: Some("trial reader".into()),
                ceiling: SourceClass::Clinical,
                operator: Some("Example Lab".into()),
                roles: Role::ALL.to_vec(),
            };
            Body::Agent(Agent { key: key(3).agent_id(), act })
        }),
        ("agent replaced", Body::Agent(replacement(consent))),
        ("agent revoked", {
            let act = AgentAct::Revoke { from_position: Position(300) };
            Body::Agent(Agent { key: key(3).agent_id(), act })
        }),
        ("lens", Body::Lens(Lens { filter: None, ties: vec![], version: 1, ..lens() })),
        ("lens, every field", Body::Lens(lens())),
        ("gold", {
            Body::Gold(Gold {
                subject: subject("France"),
                predicate: predicate("capital"),
                object: Value::reference("Paris").unwrap(),
            })
        }),
        ("trust snapshot", {
            Body::TrustSnapshot(TrustSnapshot {
                input_position: Position(70_000),
                config: Hash([0xc0; 32]),
                table: Hash([0x7a; 32]),
            })
        }),
        ("lifecycle", {
            let state = LifecycleState::Approved;
            Body::Lifecycle(Lifecycle { assertion: id(6), state, reason: None })
        }),
        ("lifecycle, every field", {
            let (state, reason) = (LifecycleState::Rejected, Some("not reproduced".into()));
            Body::Lifecycle(Lifecycle { assertion: id(6), state, reason })
        }),
    ];
    let mut samples: Vec<_> = bodies.into_iter().map(|(name, body)| (name, record(body))).collect();
    // Not everything happens in the default space at a time after 1970.
    if let Some((_, record)) = samples.iter_mut().find(|(name, _)| *name == "assertion, zero") {
        record.space = Space::parse("lab.eu-1_b").unwrap();
        record.at = Millis(-1);
    }
    samples
}
