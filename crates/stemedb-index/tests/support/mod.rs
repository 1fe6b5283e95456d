//! Histories to apply: random ones out of small worlds, so that everything refers to everything.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use stemedb_index::{Entry, Index, IndexConfig};
use stemedb_model::*;

pub(crate) const LOG: LogId = LogId([7; 16]);
pub(crate) const TIMELINE: Timeline = Timeline([9; 16]);
pub(crate) const AGENTS: usize = 4;

static KEYS: LazyLock<Vec<SigningKey>> =
    LazyLock::new(|| (0..=AGENTS as u8).map(|seed| SigningKey::from_seed(&[seed; 32])).collect());

/// Agent 0 is root.
pub(crate) fn key(agent: usize) -> &'static SigningKey {
    &KEYS[agent % KEYS.len()]
}

pub(crate) fn space(index: usize) -> Space {
    Space::parse(["default", "lab"][index % 2]).unwrap()
}

pub(crate) fn subject(index: usize) -> Subject {
    Subject::parse(["drugs/a", "drugs/b", "drugs", "moon"][index % 4]).unwrap()
}

pub(crate) fn predicate(index: usize) -> PredicateName {
    PredicateName::parse(["helps", "harms", "mass"][index % 3]).unwrap()
}

pub(crate) fn all_keys() -> Vec<Key> {
    let mut keys = Vec::new();
    for s in 0..2 {
        for entity in 0..4 {
            for property in 0..3 {
                keys.push(Key {
                    space: space(s),
                    subject: subject(entity),
                    predicate: predicate(property),
                });
            }
        }
    }
    keys.sort();
    keys
}

pub(crate) fn uri(index: usize) -> SourceKey {
    SourceKey::Uri(["https://a.example", "https://b.example/1"][index % 2].into())
}

/// One random record: numbers that pick authors, names and earlier records, modulo what there is.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    what: u8,
    agent: usize,
    space: usize,
    pick: [usize; 4],
    small: u8,
    flags: u8,
}

pub(crate) fn ops(
    count: impl Into<proptest::collection::SizeRange>,
) -> impl Strategy<Value = Vec<Op>> {
    let op = (0u8..24, 0..AGENTS, 0usize..8, any::<[u16; 4]>(), any::<u8>(), any::<u8>());
    let op = op.prop_map(|(what, agent, space, pick, small, flags)| Op {
        what,
        agent,
        // Mostly one space, so that references find something.
        space: usize::from(space == 0),
        pick: pick.map(usize::from),
        small,
        flags,
    });
    proptest::collection::vec(op, count)
}

/// The entries of a log: genesis, then what the ops say.
pub(crate) fn history(ops: &[Op]) -> Vec<Entry> {
    let mut history = History { entries: Vec::new() };
    history.push(0, space(0), Body::Genesis(Genesis { format: 1, root: key(0).agent_id() }), 0);
    for op in ops {
        let body = history.body(op);
        history.push(op.agent, space(op.space), body, op.flags);
    }
    history.entries
}

/// A log of these records by these agents, after genesis.
pub(crate) fn records(records: impl IntoIterator<Item = (usize, Body)>) -> Vec<Entry> {
    let mut history = History { entries: history(&[]) };
    for (agent, body) in records {
        history.push(agent, space(0), body, 0);
    }
    history.entries
}

pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
}

impl History {
    pub(crate) fn push(&mut self, agent: usize, space: Space, body: Body, flags: u8) -> RecordId {
        let position = Position(self.entries.len() as u64 + 1);
        let free = matches!(body, Body::Assertion(_) | Body::Cosign(_));
        // Claimed times differ, so no two records are the same one.
        let record = Record {
            space,
            agent: key(agent).agent_id(),
            at: Millis(1_000_000 + position.0 as i64),
            log_id: (!free).then_some(LOG),
            body,
        };
        let signed = Signed::seal(record, key(agent)).unwrap();
        let id = signed.id();
        let mut hash = [3; 32];
        hash[0] = flags >> 6;
        self.entries.push(Entry {
            position,
            // Several positions a millisecond.
            recorded_at: Millis(2_000_000 + position.0 as i64 / 3),
            principal: Principal::parse(["svc", "lab-1"][usize::from(flags) % 2]).unwrap(),
            custodial: flags & 2 != 0,
            idempotency: (flags & 4 != 0).then_some(Hash(hash)),
            signed,
        });
        id
    }

    /// An earlier record of one of these kinds, in this space.
    fn earlier(&self, op: &Op, pick: usize, kinds: &[Kind]) -> Option<RecordId> {
        let space = space(op.space);
        let fits: Vec<RecordId> = self
            .entries
            .iter()
            .map(|entry| &entry.signed)
            .filter(|s| s.record().space == space && kinds.contains(&s.record().body.kind()))
            .map(Signed::id)
            .collect();
        (!fits.is_empty()).then(|| fits[op.pick[pick] % fits.len()])
    }

    fn body(&self, op: &Op) -> Body {
        self.special(op).unwrap_or_else(|| self.assertion(op))
    }

    fn assertion(&self, op: &Op) -> Body {
        let bit = |bit: u8| op.flags & (1 << bit) != 0;
        let claims = [Kind::Assertion];
        let mut premises: Vec<RecordId> = (0..usize::from(op.small % 3))
            .filter(|_| bit(1))
            .filter_map(|pick| self.earlier(op, pick + 1, &claims))
            .collect();
        premises.sort();
        premises.dedup();
        let source = match op.small % 4 {
            0 => None,
            1 => Some(Provenance {
                evidence: Some(Hash([op.small / 64; 32])),
                class: Some(SourceClass::Clinical),
                ..Provenance::default()
            }),
            _ => Some(Provenance {
                uri: match uri(op.pick[3]) {
                    SourceKey::Uri(uri) => Some(uri),
                    _ => None,
                },
                class: bit(0).then_some(SourceClass::Expert),
                ..Provenance::default()
            }),
        };
        Body::Assertion(Assertion {
            subject: subject(op.pick[0]),
            predicate: predicate(op.pick[1]),
            object: match op.small % 5 {
                0 => Value::Boolean(true),
                1 => Value::Number { value: f64::from(op.small), unit: bit(4).then(|| "m".into()) },
                2 => Value::Time(Millis(i64::from(op.small))),
                3 => Value::Reference(subject(op.pick[2])),
                _ => Value::Text("much".into()),
            },
            confidence: if bit(3) { 1.0 } else { f64::from(op.small) / 255.0 },
            source,
            valid_from: bit(5).then_some(Millis(5)),
            valid_to: bit(6).then_some(Millis(50)),
            epoch: self.earlier(op, 2, &[Kind::Epoch]).filter(|_| bit(2)),
            lifecycle: if bit(7) { LifecycleState::Approved } else { LifecycleState::Proposed },
            parent: self.earlier(op, 3, &claims).filter(|_| bit(4)),
            derived_from: premises,
            vector: None,
            visual_hash: None,
            meta: BTreeMap::new(),
        })
    }

    fn special(&self, op: &Op) -> Option<Body> {
        let claim = |pick| self.earlier(op, pick, &[Kind::Assertion]);
        let facts = [Kind::Cosign, Kind::Vote, Kind::Retract, Kind::Supersede, Kind::Lifecycle];
        let registered = [
            Kind::Epoch,
            Kind::Source,
            Kind::Predicate,
            Kind::Alias,
            Kind::Lens,
            Kind::Gold,
            Kind::Retract,
        ];
        let retract =
            |record| Body::Retract(Retract { target: RetractTarget::Record(record), reason: None });
        Some(match op.what {
            0 => Body::Cosign(Cosign { assertion: claim(0)? }),
            1 | 2 => {
                let weight = f64::from(op.small) / 255.0;
                Body::Vote(Vote { assertion: claim(0)?, weight })
            }
            3 => Body::Lifecycle(Lifecycle {
                assertion: claim(0)?,
                state: [LifecycleState::Rejected, LifecycleState::UnderReview]
                    [usize::from(op.small) % 2],
                reason: None,
            }),
            4 => retract(claim(0)?),
            5 | 6 => retract(self.earlier(op, 0, &facts)?),
            7 => retract(self.earlier(op, 0, &registered)?),
            8 => Body::Retract(Retract {
                target: RetractTarget::Source(uri(op.pick[0])),
                reason: Some("withdrawn".into()),
            }),
            9 | 10 => {
                let (old, new) = (claim(0)?, claim(1)?);
                if old == new {
                    return None;
                }
                Body::Supersede(Supersede { old, new, reason: None })
            }
            11 => Body::Epoch(Epoch {
                name: "era".into(),
                description: None,
                supersedes: self
                    .earlier(op, 0, &[Kind::Epoch])
                    .filter(|_| op.small > 100)
                    .map(|epoch| (epoch, EpochMode::Replace)),
            }),
            12 => Body::Predicate(Predicate {
                name: predicate(op.pick[0]),
                cardinality: if op.small < 200 { Cardinality::Many } else { Cardinality::One },
                value_type: None,
                unit: None,
                conversions: Vec::new(),
                tolerance: None,
                opposites: (1..3)
                    .map(|next| predicate(op.pick[0] + next))
                    .take(usize::from(op.small % 3))
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                half_life: None,
            }),
            13 => {
                let (one, other) = (subject(op.pick[0]), subject(op.pick[1]));
                if one == other {
                    return None;
                }
                Body::Alias(Alias { subject: one, other })
            }
            14 => Body::Source(Source {
                keys: vec![uri(op.pick[0])],
                class: SourceClass::Regulatory,
                title: None,
            }),
            15 => Body::Agent(Agent {
                key: key(op.pick[0]).agent_id(),
                act: if op.small < 128 {
                    AgentAct::Register {
                        name: None,
                        ceiling: SourceClass::Clinical,
                        operator: None,
                        roles: vec![Role::Curator],
                    }
                } else {
                    AgentAct::Revoke { from_position: Position(1 + u64::from(op.small % 16)) }
                },
            }),
            _ => return None,
        })
    }
}

/// A plain assertion on a key.
pub(crate) fn assertion(subject_index: usize, predicate_index: usize, value: f64) -> Assertion {
    Assertion {
        subject: subject(subject_index),
        predicate: predicate(predicate_index),
        object: Value::Number { value, unit: None },
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
    }
}

/// A folder of its own, gone when dropped.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("index")
    }

    pub(crate) fn open(&self) -> Index {
        open(&self.path())
    }
}

pub(crate) fn open(dir: &Path) -> Index {
    Index::open(&config(dir), Some((LOG, TIMELINE))).unwrap()
}

pub(crate) fn config(dir: &Path) -> IndexConfig {
    IndexConfig { cache_bytes: 1 << 20, ..IndexConfig::new(dir) }
}
