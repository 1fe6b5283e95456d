//! Canonical bytes to record. Every map is split into fields once (which checks that the bytes are
//! well-formed and the keys in order), then each kind takes the fields it knows, in key order, as
//! in a merge: what is skipped over is unknown, what is left over too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cbor::{Item, Reader};
use super::fields::{DecodeError, FIELDS_MAX, Field, Fields, check_key_order, missing, slots};
use super::{FORMAT_VERSION, encode};
use crate::class::SourceClass;
use crate::ids::{AgentId, Hash, LogId, Position, Signature};
use crate::limits;
use crate::record::{
    Agent, AgentAct, Aggregate, Alias, Assertion, Body, Cardinality, Conversion, Cosign, Epoch,
    EpochMode, Genesis, Gold, Kind, Lens, Lifecycle, LifecycleState, Predicate, Provenance, Record,
    Retract, RetractTarget, Role, Source, Supersede, TieRule, Tolerance, TrustSnapshot, Vote,
};
use crate::text::{InvalidField, PredicateName, Space, Subject};
use crate::value::{Value, ValueType};

impl Record {
    /// Reads bytes from outside: accepts the canonical form of a valid record and nothing else, so
    /// two different byte strings are never the same record. One to two microseconds for a common
    /// assertion; allocates no more than the input is long, within a small factor.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        limits::check_record_bytes(bytes.len())?;
        let record = Self::decode_trusted(bytes)?;
        record.validate()?;
        // The reader below is strict already; this is the proof of it.
        let canonical = record.encode();
        if canonical != bytes {
            let same = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            return Err(DecodeError::NotCanonical { at: same });
        }
        Ok(record)
    }

    /// Reads bytes that were admitted before: from the log, under its checksums. Leaves out the
    /// checks of limits and order that [`Record::decode`] makes; damaged bytes are still an error
    /// and never a panic.
    pub fn decode_trusted(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut slots = slots::<FIELDS_MAX>();
        let mut fields = Fields::of_record(&mut slots, bytes)?;
        let version = fields.find("v")?.uint()?;
        if version > FORMAT_VERSION {
            return Err(DecodeError::TooNew { found: version });
        }
        if version < FORMAT_VERSION {
            return Err(InvalidField::new("v", format!("{version}, expected 1")).into());
        }
        let tag = fields.find("kind")?.uint()?;
        let kind = Kind::from_tag(tag).ok_or(DecodeError::UnknownKind { found: tag })?;
        let at = fields.find("at")?.millis()?;
        let agent = AgentId(fields.find("agent")?.array()?);
        let space = fields.find("space")?.parsed(Space::parse)?;
        let log_id = match fields.find_if("log_id") {
            Some(field) => Some(LogId(field.array()?)),
            None => None,
        };
        let body = body(kind, &mut fields)?;
        fields.end()?;
        Ok(Self { space, agent, at, log_id, body })
    }
}

fn body(kind: Kind, fields: &mut Fields<'_, '_>) -> Result<Body, DecodeError> {
    Ok(match kind {
        Kind::Genesis => Body::Genesis(Genesis {
            root: AgentId(fields.need("root")?.array()?),
            format: fields.need("format")?.uint()?,
        }),
        Kind::Assertion => Body::Assertion(assertion(fields)?),
        Kind::Cosign => Body::Cosign(Cosign { assertion: fields.need("assertion")?.id()? }),
        Kind::Vote => Body::Vote(Vote {
            weight: fields.need("weight")?.float()?,
            assertion: fields.need("assertion")?.id()?,
        }),
        Kind::Epoch => Body::Epoch(epoch(fields)?),
        Kind::Source => Body::Source(Source {
            keys: fields.need("keys")?.list(limits::LIST_MAX, Field::source_key)?,
            class: fields.need("class")?.named(SourceClass::parse)?,
            title: fields.take("title")?.map(Field::text).transpose()?,
        }),
        Kind::Retract => Body::Retract(retract(fields)?),
        Kind::Supersede => Body::Supersede(Supersede {
            new: fields.need("new")?.id()?,
            old: fields.need("old")?.id()?,
            reason: fields.take("reason")?.map(Field::text).transpose()?,
        }),
        Kind::Predicate => Body::Predicate(predicate(fields)?),
        Kind::Alias => Body::Alias(Alias {
            other: fields.need("other")?.parsed(Subject::parse)?,
            subject: fields.need("subject")?.parsed(Subject::parse)?,
        }),
        Kind::Agent => Body::Agent(agent(fields)?),
        Kind::Lens => Body::Lens(Lens {
            name: fields.need("name")?.text()?,
            ties: fields
                .list_if("ties", TieRule::ALL.len(), |field| field.named(TieRule::parse))?,
            filter: fields.take("filter")?.map(Field::text).transpose()?,
            weight: fields.need("weight")?.text()?,
            version: fields.need("version")?.uint()?,
            aggregate: fields.need("aggregate")?.named(Aggregate::parse)?,
        }),
        Kind::Gold => Body::Gold(Gold {
            object: value(fields.need("object")?)?,
            subject: fields.need("subject")?.parsed(Subject::parse)?,
            predicate: fields.need("predicate")?.parsed(PredicateName::parse)?,
        }),
        Kind::TrustSnapshot => Body::TrustSnapshot(TrustSnapshot {
            table: Hash(fields.need("table")?.array()?),
            config: Hash(fields.need("config")?.array()?),
            input_position: Position(fields.need("input_position")?.uint()?),
        }),
        Kind::Lifecycle => Body::Lifecycle(Lifecycle {
            state: fields.need("state")?.named(LifecycleState::parse)?,
            reason: fields.take("reason")?.map(Field::text).transpose()?,
            assertion: fields.need("assertion")?.id()?,
        }),
    })
}

fn assertion(fields: &mut Fields<'_, '_>) -> Result<Assertion, DecodeError> {
    Ok(Assertion {
        meta: fields.take("meta")?.map(meta).transpose()?.unwrap_or_default(),
        epoch: fields.take("epoch")?.map(Field::id).transpose()?,
        object: value(fields.need("object")?)?,
        parent: fields.take("parent")?.map(Field::id).transpose()?,
        source: fields.take("source")?.map(provenance).transpose()?,
        vector: fields.take("vector")?.map(Field::bytes).transpose()?.map(Arc::from),
        subject: fields.need("subject")?.parsed(Subject::parse)?,
        valid_to: fields.take("valid_to")?.map(Field::millis).transpose()?,
        lifecycle: fields.need("lifecycle")?.named(LifecycleState::parse)?,
        predicate: fields.need("predicate")?.parsed(PredicateName::parse)?,
        confidence: fields.need("confidence")?.float()?,
        valid_from: fields.take("valid_from")?.map(Field::millis).transpose()?,
        visual_hash: fields.take("visual_hash")?.map(Field::array).transpose()?,
        derived_from: fields.list_if("derived_from", limits::DERIVED_FROM_MAX, Field::id)?,
    })
}

fn epoch(fields: &mut Fields<'_, '_>) -> Result<Epoch, DecodeError> {
    let mode = fields.take("mode")?.map(|field| field.named(EpochMode::parse)).transpose()?;
    let name = fields.need("name")?.text()?;
    let supersedes = match (fields.take("supersedes")?.map(Field::id).transpose()?, mode) {
        (Some(id), Some(mode)) => Some((id, mode)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(InvalidField::new("mode", "is missing; it comes with supersedes").into());
        }
        (None, Some(_)) => {
            return Err(InvalidField::new("mode", "says how to supersede, but not what").into());
        }
    };
    let description = fields.take("description")?.map(Field::text).transpose()?;
    Ok(Epoch { name, description, supersedes })
}

fn retract(fields: &mut Fields<'_, '_>) -> Result<Retract, DecodeError> {
    let reason = fields.take("reason")?.map(Field::text).transpose()?;
    let record = fields.take("record")?.map(Field::id).transpose()?;
    let source = fields.take("source")?.map(Field::source_key).transpose()?;
    let target = match (record, source) {
        (Some(id), None) => RetractTarget::Record(id),
        (None, Some(key)) => RetractTarget::Source(key),
        (None, None) => {
            return Err(InvalidField::new("record", "is missing, and source too").into());
        }
        (Some(_), Some(_)) => {
            return Err(
                InvalidField::new("source", "expected either this or record, not both").into()
            );
        }
    };
    Ok(Retract { target, reason })
}

fn predicate(fields: &mut Fields<'_, '_>) -> Result<Predicate, DecodeError> {
    Ok(Predicate {
        name: fields.need("name")?.parsed(PredicateName::parse)?,
        value_type: fields.take("type")?.map(|field| field.named(ValueType::parse)).transpose()?,
        unit: fields.take("unit")?.map(Field::text).transpose()?,
        half_life: fields.take("half_life")?.map(Field::uint).transpose()?,
        opposites: fields
            .list_if("opposites", limits::LIST_MAX, |field| field.parsed(PredicateName::parse))?,
        tolerance: fields.take("tolerance")?.map(tolerance).transpose()?,
        cardinality: fields.need("cardinality")?.named(Cardinality::parse)?,
        conversions: fields.list_if("conversions", limits::LIST_MAX, conversion)?,
    })
}

fn agent(fields: &mut Fields<'_, '_>) -> Result<Agent, DecodeError> {
    let key = AgentId(fields.need("key")?.array()?);
    let name = fields.take("name")?.map(Field::text).transpose()?;
    let roles = fields.list_if("roles", Role::ALL.len(), |field| field.named(Role::parse))?;
    let ceiling = fields.take("ceiling")?;
    let ceiling = ceiling.map(|field| field.named(SourceClass::parse)).transpose()?;
    let consent = fields.take("consent")?.map(Field::array).transpose()?.map(Signature);
    let operator = fields.take("operator")?.map(Field::text).transpose()?;
    let replaces = fields.take("replaces")?.map(Field::array).transpose()?.map(AgentId);
    let from_position = fields.take("from_position")?.map(Field::uint).transpose()?.map(Position);
    let described = name.is_some() || operator.is_some() || !roles.is_empty();
    let act = match (ceiling, replaces, from_position) {
        (Some(ceiling), None, None) if consent.is_none() => {
            AgentAct::Register { name, ceiling, operator, roles }
        }
        (None, Some(replaces), None) if !described => {
            let consent = consent.ok_or_else(|| missing("consent"))?;
            AgentAct::Replace { replaces, consent }
        }
        (None, None, Some(from_position)) if !described && consent.is_none() => {
            AgentAct::Revoke { from_position }
        }
        (None, None, None) => return Err(missing("ceiling").into()),
        _ => {
            let problem = "fields of more than one act: a registration has ceiling, name, operator, \
                           roles; a replacement has replaces, consent; a revocation has from_position";
            return Err(InvalidField::new("key", problem).into());
        }
    };
    Ok(Agent { key, act })
}

impl Value {
    /// Reads what [`Value::canonical_bytes`] gave, and nothing else.
    pub fn from_canonical_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let item = reader.item(1)?;
        reader.end()?;
        let value = value(Field { name: "object", item })?;
        value.validate()?;
        let mut canonical = Vec::with_capacity(bytes.len());
        encode::write_value(&mut canonical, &value);
        if canonical != bytes {
            return Err(DecodeError::NotCanonical { at: 0 });
        }
        Ok(value)
    }
}

fn value(field: Field<'_>) -> Result<Value, DecodeError> {
    let mut slots = slots::<3>();
    let mut fields = Fields::split(&mut slots, field)?;
    let value_type = fields.need_as("type", "object.type")?.named(ValueType::parse)?;
    let unit = match value_type {
        ValueType::Number => fields.take_as("unit", "object.unit")?.map(Field::text).transpose()?,
        _ => None,
    };
    let value = fields.need_as("value", "object.value")?;
    let value = match value_type {
        ValueType::Text => Value::Text(value.text()?),
        ValueType::Number => Value::Number { value: value.float()?, unit },
        ValueType::Boolean => Value::Boolean(value.boolean()?),
        ValueType::Time => Value::Time(value.millis()?),
        ValueType::Reference => Value::Reference(value.parsed(Subject::parse)?),
    };
    fields.end()?;
    Ok(value)
}

fn provenance(field: Field<'_>) -> Result<Provenance, DecodeError> {
    let mut slots = slots::<3>();
    let mut fields = Fields::split(&mut slots, field)?;
    let uri = fields.take_as("uri", "source.uri")?.map(Field::text).transpose()?;
    let class = fields.take_as("class", "source.class")?;
    let class = class.map(|field| field.named(SourceClass::parse)).transpose()?;
    let evidence = fields.take_as("evidence", "source.evidence")?.map(Field::array).transpose()?;
    fields.end()?;
    Ok(Provenance { uri, evidence: evidence.map(Hash), class })
}

fn tolerance(field: Field<'_>) -> Result<Tolerance, DecodeError> {
    let mut slots = slots::<2>();
    let mut fields = Fields::split(&mut slots, field)?;
    let absolute = fields.take_as("absolute", "tolerance.absolute")?;
    let absolute = absolute.map(Field::float).transpose()?;
    let relative = fields.take_as("relative", "tolerance.relative")?;
    let relative = relative.map(Field::float).transpose()?;
    fields.end()?;
    Ok(Tolerance { absolute, relative })
}

fn conversion(field: Field<'_>) -> Result<Conversion, DecodeError> {
    let mut slots = slots::<3>();
    let mut fields = Fields::split(&mut slots, field)?;
    let add = fields.need_as("add", "conversions.add")?.float()?;
    let unit = fields.need_as("unit", "conversions.unit")?.text()?;
    let multiply = fields.need_as("multiply", "conversions.multiply")?.float()?;
    fields.end()?;
    Ok(Conversion { unit, multiply, add })
}

fn meta(field: Field<'_>) -> Result<BTreeMap<Arc<str>, Arc<str>>, DecodeError> {
    let Item::Map(count, mut pairs) = field.item else {
        return Err(field.wrong_type("a map").into());
    };
    if count == 0 {
        return Err(InvalidField::new("meta", "is empty; leave it out").into());
    }
    let mut meta = BTreeMap::new();
    let mut last: Option<&str> = None;
    for _ in 0..count {
        let at = pairs.at();
        let key = pairs.key()?;
        check_key_order(last, key, at, "meta")?;
        last = Some(key);
        let value = Field { name: "meta", item: pairs.item(0)? }.text()?;
        meta.insert(Arc::from(key), value);
    }
    Ok(meta)
}
