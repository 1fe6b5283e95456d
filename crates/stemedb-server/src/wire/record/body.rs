//! The kind-specific part of a record: wire to model, model to wire.

use std::sync::Arc;

use stemedb_model::{self as model, AgentAct, Position, PredicateName, RetractTarget, Subject};

use super::super::WireError;
use super::super::scalar::{self as wire, *};
use super::{
    Agent, Alias, Assertion, Conversion, Cosign, Epoch, Genesis, Gold, Lens, Lifecycle, Predicate,
    Provenance, Retract, Source, SourceKey, Supersede, Tolerance, TrustSnapshot, Vote,
};

/// A record without its envelope, which the caller fills.
macro_rules! open {
    ($name:ident { $($body:tt)* }) => {
        $name { kind: None, id: None, space: None, agent: None, at: None, signature: None, $($body)* }
    };
}

type Checked<T> = Result<T, WireError>;

fn missing(field: &str) -> WireError {
    WireError::field(field, "is missing")
}

fn name(text: Option<NameText>) -> Option<Arc<str>> {
    text.map(|text| text.0.into())
}

fn reason(text: Option<ReasonText>) -> Option<Arc<str>> {
    text.map(|text| text.0.into())
}

fn name_of(text: &Option<Arc<str>>) -> Option<NameText> {
    text.as_deref().map(NameText::from)
}

fn reason_of(text: &Option<Arc<str>>) -> Option<ReasonText> {
    text.as_deref().map(ReasonText::from)
}

/// A set as the canonical form has it: in order. Repeats are left for the model to refuse.
fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

fn some_if_any<T>(items: Vec<T>) -> Option<Vec<T>> {
    if items.is_empty() { None } else { Some(items) }
}

/// The same check under another name of the field.
fn renamed<T>(field: &str, checked: Result<T, model::InvalidField>) -> Checked<T> {
    checked.map_err(|invalid| WireError::field(field, invalid.problem))
}

impl Genesis {
    pub(super) fn body(self) -> Checked<model::Genesis> {
        Ok(model::Genesis { format: self.format.0, root: self.root.0 })
    }

    pub(super) fn of(body: &model::Genesis) -> Self {
        open!(Self { format: Count(body.format), root: AgentKey(body.root), log_id: None })
    }
}

impl Assertion {
    pub(super) fn body(self) -> Checked<model::Assertion> {
        let visual_hash = match self.visual_hash {
            None => None,
            Some(Bytes(bytes)) => Some(<[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| {
                WireError::field("visual_hash", format!("{} bytes, expected 8", bytes.len()))
            })?),
        };
        Ok(model::Assertion {
            subject: Subject::parse(self.subject.as_str())?,
            predicate: PredicateName::parse(self.predicate.as_str())?,
            object: self.object.try_into()?,
            confidence: self.confidence.map_or(1.0, |confidence| confidence.0.0 + 0.0),
            source: self.source.map(Provenance::into_model),
            valid_from: self.valid_from.map(|at| at.0),
            valid_to: self.valid_to.map(|at| at.0),
            epoch: self.epoch.map(|id| id.0),
            lifecycle: self.lifecycle.map(|state| state.0).unwrap_or_default(),
            parent: self.parent.map(|id| id.0),
            derived_from: sorted(self.derived_from.into_iter().flatten().map(|id| id.0)),
            vector: self.vector.map(|bytes| bytes.0.into()),
            visual_hash,
            meta: self.meta.map(|meta| meta.0).unwrap_or_default(),
        })
    }

    pub(super) fn of(body: &model::Assertion) -> Self {
        open!(Self {
            subject: SubjectText::from(body.subject.as_str()),
            predicate: PredicateText::from(body.predicate.as_str()),
            object: (&body.object).into(),
            confidence: Some(Share(Number(body.confidence))),
            source: body.source.as_ref().map(Provenance::of),
            valid_from: body.valid_from.map(Time),
            valid_to: body.valid_to.map(Time),
            epoch: body.epoch.map(Id),
            lifecycle: Some(LifecycleState(body.lifecycle)),
            parent: body.parent.map(Id),
            derived_from: some_if_any(body.derived_from.iter().copied().map(Id).collect()),
            vector: body.vector.as_ref().map(|bytes| Bytes(bytes.to_vec())),
            visual_hash: body.visual_hash.map(|bytes| Bytes(bytes.to_vec())),
            meta: (!body.meta.is_empty()).then(|| Meta(body.meta.clone())),
        })
    }
}

impl Provenance {
    fn into_model(self) -> model::Provenance {
        model::Provenance {
            uri: self.uri.map(|uri| uri.0.into()),
            evidence: self.evidence.map(|hash| hash.0),
            class: self.class.map(|class| class.0),
        }
    }

    fn of(body: &model::Provenance) -> Self {
        Self {
            uri: body.uri.as_deref().map(UriText::from),
            evidence: body.evidence.map(HashHex),
            class: body.class.map(Class),
        }
    }
}

impl From<SourceKey> for model::SourceKey {
    fn from(key: SourceKey) -> Self {
        match key {
            SourceKey::Uri(uri) => Self::Uri(uri.0.into()),
            SourceKey::Evidence(hash) => Self::Evidence(hash.0),
            SourceKey::Agent(agent) => Self::Agent(agent.0),
        }
    }
}

impl From<&model::SourceKey> for SourceKey {
    fn from(key: &model::SourceKey) -> Self {
        match key {
            model::SourceKey::Uri(uri) => Self::Uri(UriText::from(uri.as_ref())),
            model::SourceKey::Evidence(hash) => Self::Evidence(HashHex(*hash)),
            model::SourceKey::Agent(agent) => Self::Agent(AgentKey(*agent)),
        }
    }
}

impl Cosign {
    pub(super) fn body(self) -> Checked<model::Cosign> {
        Ok(model::Cosign { assertion: self.assertion.0 })
    }

    pub(super) fn of(body: &model::Cosign) -> Self {
        open!(Self { assertion: Id(body.assertion) })
    }
}

impl Vote {
    pub(super) fn body(self) -> Checked<model::Vote> {
        Ok(model::Vote { assertion: self.assertion.0, weight: self.weight.0.0 + 0.0 })
    }

    pub(super) fn of(body: &model::Vote) -> Self {
        open!(Self {
            assertion: Id(body.assertion),
            weight: VoteWeight(Number(body.weight)),
            log_id: None
        })
    }
}

impl Epoch {
    pub(super) fn body(self) -> Checked<model::Epoch> {
        let supersedes = match (self.supersedes, self.mode) {
            (Some(id), Some(mode)) => Some((id.0, mode.0)),
            (None, None) => None,
            (Some(_), None) => return Err(missing("mode")),
            (None, Some(_)) => return Err(missing("supersedes")),
        };
        Ok(model::Epoch {
            name: self.name.0.into(),
            description: reason(self.description),
            supersedes,
        })
    }

    pub(super) fn of(body: &model::Epoch) -> Self {
        open!(Self {
            name: NameText::from(body.name.as_ref()),
            log_id: None,
            description: reason_of(&body.description),
            supersedes: body.supersedes.map(|(id, _)| Id(id)),
            mode: body.supersedes.map(|(_, mode)| wire::EpochMode(mode)),
        })
    }
}

impl Source {
    pub(super) fn body(self) -> Checked<model::Source> {
        Ok(model::Source {
            keys: sorted(self.keys.into_iter().map(model::SourceKey::from)),
            class: self.class.0,
            title: name(self.title),
        })
    }

    pub(super) fn of(body: &model::Source) -> Self {
        open!(Self {
            keys: body.keys.iter().map(SourceKey::from).collect(),
            class: Class(body.class),
            log_id: None,
            title: name_of(&body.title),
        })
    }
}

impl Retract {
    pub(super) fn body(self) -> Checked<model::Retract> {
        let target = match (self.record, self.source) {
            (Some(id), None) => RetractTarget::Record(id.0),
            (None, Some(key)) => RetractTarget::Source(key.into()),
            (None, None) => return Err(WireError::field("record", "is missing, or else source")),
            (Some(_), Some(_)) => {
                return Err(WireError::field("source", "is given beside record; expected one"));
            }
        };
        Ok(model::Retract { target, reason: reason(self.reason) })
    }

    pub(super) fn of(body: &model::Retract) -> Self {
        let (record, source) = match &body.target {
            RetractTarget::Record(id) => (Some(Id(*id)), None),
            RetractTarget::Source(key) => (None, Some(key.into())),
        };
        open!(Self { log_id: None, record, source, reason: reason_of(&body.reason) })
    }
}

impl Supersede {
    pub(super) fn body(self) -> Checked<model::Supersede> {
        Ok(model::Supersede { old: self.old.0, new: self.new.0, reason: reason(self.reason) })
    }

    pub(super) fn of(body: &model::Supersede) -> Self {
        open!(Self {
            old: Id(body.old),
            new: Id(body.new),
            log_id: None,
            reason: reason_of(&body.reason),
        })
    }
}

impl Predicate {
    pub(super) fn body(self) -> Checked<model::Predicate> {
        let mut conversions: Vec<model::Conversion> = self
            .conversions
            .into_iter()
            .flatten()
            .map(|conversion| model::Conversion {
                unit: conversion.unit.0.into(),
                multiply: conversion.multiply.0 + 0.0,
                add: conversion.add.0 + 0.0,
            })
            .collect();
        conversions.sort_by(|a, b| a.unit.cmp(&b.unit));
        let opposites: Result<Vec<_>, _> = self
            .opposites
            .into_iter()
            .flatten()
            .map(|opposite| renamed("opposites", PredicateName::parse(opposite.as_str())))
            .collect();
        Ok(model::Predicate {
            name: renamed("name", PredicateName::parse(self.name.as_str()))?,
            cardinality: self.cardinality.0,
            value_type: self.value_type.map(|value_type| value_type.0),
            unit: name(self.unit),
            conversions,
            tolerance: self.tolerance.map(|tolerance| model::Tolerance {
                absolute: tolerance.absolute.map(|bound| bound.0.0 + 0.0),
                relative: tolerance.relative.map(|bound| bound.0.0 + 0.0),
            }),
            opposites: sorted(opposites?),
            half_life: self.half_life.map(|ms| ms.0),
        })
    }

    pub(super) fn of(body: &model::Predicate) -> Self {
        let conversions = body
            .conversions
            .iter()
            .map(|conversion| Conversion {
                unit: NameText::from(conversion.unit.as_ref()),
                multiply: Number(conversion.multiply),
                add: Number(conversion.add),
            })
            .collect();
        let opposites =
            body.opposites.iter().map(|name| PredicateText::from(name.as_str())).collect();
        open!(Self {
            name: PredicateText::from(body.name.as_str()),
            cardinality: Cardinality(body.cardinality),
            log_id: None,
            value_type: body.value_type.map(ValueType),
            unit: name_of(&body.unit),
            conversions: some_if_any(conversions),
            tolerance: body.tolerance.map(|tolerance| Tolerance {
                absolute: tolerance.absolute.map(|bound| Amount(Number(bound))),
                relative: tolerance.relative.map(|bound| Amount(Number(bound))),
            }),
            opposites: some_if_any(opposites),
            half_life: body.half_life.map(Count),
        })
    }
}

impl Alias {
    pub(super) fn body(self) -> Checked<model::Alias> {
        Ok(model::Alias {
            subject: Subject::parse(self.subject.as_str())?,
            other: renamed("other", Subject::parse(self.other.as_str()))?,
        })
    }

    pub(super) fn of(body: &model::Alias) -> Self {
        open!(Self {
            subject: SubjectText::from(body.subject.as_str()),
            other: SubjectText::from(body.other.as_str()),
            log_id: None,
        })
    }
}

impl Agent {
    pub(super) fn body(self) -> Checked<model::Agent> {
        let replaces = self.replaces.is_some() || self.consent.is_some();
        let registers = [
            ("ceiling", self.ceiling.is_some()),
            ("name", self.name.is_some()),
            ("operator", self.operator.is_some()),
            ("roles", self.roles.is_some()),
        ];
        let other = if self.from_position.is_some() {
            Some("from_position, which revokes")
        } else if replaces {
            Some("replaces, which puts one key in the place of another")
        } else {
            None
        };
        if let (Some(other), Some((field, _))) =
            (other, registers.iter().find(|(_, present)| *present))
        {
            let problem = format!("is of a registration, but the record has {other}");
            return Err(WireError::field(*field, problem));
        }
        let act = match (self.from_position, replaces) {
            (Some(_), true) => {
                let problem = "is given beside from_position, which revokes; expected one";
                return Err(WireError::field("replaces", problem));
            }
            (Some(from), false) => AgentAct::Revoke { from_position: Position(from.0) },
            (None, true) => AgentAct::Replace {
                replaces: self.replaces.ok_or_else(|| missing("replaces"))?.0,
                consent: self.consent.ok_or_else(|| missing("consent"))?.0,
            },
            (None, false) => AgentAct::Register {
                name: name(self.name),
                ceiling: self.ceiling.ok_or_else(|| missing("ceiling"))?.0,
                operator: name(self.operator),
                roles: sorted(self.roles.into_iter().flatten().map(|role| role.0)),
            },
        };
        Ok(model::Agent { key: self.key.0, act })
    }

    pub(super) fn of(body: &model::Agent) -> Self {
        let mut wire = open!(Self {
            key: AgentKey(body.key),
            log_id: None,
            name: None,
            ceiling: None,
            operator: None,
            roles: None,
            replaces: None,
            consent: None,
            from_position: None,
        });
        match &body.act {
            AgentAct::Register { name, ceiling, operator, roles } => {
                wire.name = name_of(name);
                wire.ceiling = Some(Class(*ceiling));
                wire.operator = name_of(operator);
                wire.roles = some_if_any(roles.iter().copied().map(Role).collect());
            }
            AgentAct::Replace { replaces, consent } => {
                wire.replaces = Some(AgentKey(*replaces));
                wire.consent = Some(SignatureHex(*consent));
            }
            AgentAct::Revoke { from_position } => wire.from_position = Some(Count(from_position.0)),
        }
        wire
    }
}

impl Lens {
    pub(super) fn body(self) -> Checked<model::Lens> {
        Ok(model::Lens {
            name: self.name.0.into(),
            version: self.version.0,
            filter: self.filter.map(|text| text.0.into()),
            weight: self.weight.0.into(),
            aggregate: self.aggregate.0,
            ties: self.ties.into_iter().flatten().map(|rule| rule.0).collect(),
        })
    }

    pub(super) fn of(body: &model::Lens) -> Self {
        open!(Self {
            name: NameText::from(body.name.as_ref()),
            version: Count(body.version),
            weight: ExpressionText::from(body.weight.as_ref()),
            aggregate: Aggregate(body.aggregate),
            log_id: None,
            filter: body.filter.as_deref().map(ExpressionText::from),
            ties: some_if_any(body.ties.iter().copied().map(TieRule).collect()),
        })
    }
}

impl Gold {
    pub(super) fn body(self) -> Checked<model::Gold> {
        Ok(model::Gold {
            subject: Subject::parse(self.subject.as_str())?,
            predicate: PredicateName::parse(self.predicate.as_str())?,
            object: self.object.try_into()?,
        })
    }

    pub(super) fn of(body: &model::Gold) -> Self {
        open!(Self {
            subject: SubjectText::from(body.subject.as_str()),
            predicate: PredicateText::from(body.predicate.as_str()),
            object: (&body.object).into(),
            log_id: None,
        })
    }
}

impl TrustSnapshot {
    pub(super) fn body(self) -> Checked<model::TrustSnapshot> {
        Ok(model::TrustSnapshot {
            input_position: Position(self.input_position.0),
            config: self.config.0,
            table: self.table.0,
        })
    }

    pub(super) fn of(body: &model::TrustSnapshot) -> Self {
        open!(Self {
            input_position: Count(body.input_position.0),
            config: HashHex(body.config),
            table: HashHex(body.table),
            log_id: None,
        })
    }
}

impl Lifecycle {
    pub(super) fn body(self) -> Checked<model::Lifecycle> {
        Ok(model::Lifecycle {
            assertion: self.assertion.0,
            state: self.state.0,
            reason: reason(self.reason),
        })
    }

    pub(super) fn of(body: &model::Lifecycle) -> Self {
        open!(Self {
            assertion: Id(body.assertion),
            state: LifecycleState(body.state),
            log_id: None,
            reason: reason_of(&body.reason),
        })
    }
}
