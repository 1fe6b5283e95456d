//! Record to canonical bytes, straight into the buffer: fields are written in their final order,
//! so nothing is collected or sorted (but `meta`, whose keys are the caller's).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FORMAT_VERSION, cbor};
use crate::record::{
    Agent, AgentAct, Assertion, Body, Conversion, Epoch, Gold, Lens, Predicate, Provenance, Record,
    Retract, RetractTarget, Source, SourceKey, Tolerance,
};
use crate::value::Value;

impl Record {
    /// The canonical bytes. They mean something only for a record that [`Record::validate`]
    /// accepts; [`crate::Signed::seal`] does both. About a quarter of a microsecond.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode_into(&mut out);
        out
    }

    /// Appends the canonical bytes to a buffer, for callers that keep one.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut fields = Fields::begin(self, out);
        match &self.body {
            Body::Genesis(genesis) => {
                fields.bytes("root", genesis.root.as_bytes());
                fields.uint("format", genesis.format);
            }
            Body::Assertion(assertion) => assertion_fields(assertion, &mut fields),
            Body::Cosign(cosign) => fields.bytes("assertion", cosign.assertion.as_bytes()),
            Body::Vote(vote) => {
                fields.float("weight", vote.weight);
                fields.bytes("assertion", vote.assertion.as_bytes());
            }
            Body::Epoch(epoch) => epoch_fields(epoch, &mut fields),
            Body::Source(source) => source_fields(source, &mut fields),
            Body::Retract(retract) => retract_fields(retract, &mut fields),
            Body::Supersede(supersede) => {
                fields.bytes("new", supersede.new.as_bytes());
                fields.bytes("old", supersede.old.as_bytes());
                fields.text_if("reason", supersede.reason.as_deref());
            }
            Body::Predicate(predicate) => predicate_fields(predicate, &mut fields),
            Body::Alias(alias) => {
                fields.text("other", alias.other.as_str());
                fields.text("subject", alias.subject.as_str());
            }
            Body::Agent(agent) => agent_fields(agent, &mut fields),
            Body::Lens(lens) => lens_fields(lens, &mut fields),
            Body::Gold(gold) => gold_fields(gold, &mut fields),
            Body::TrustSnapshot(snapshot) => {
                fields.bytes("table", snapshot.table.as_bytes());
                fields.bytes("config", snapshot.config.as_bytes());
                fields.uint("input_position", snapshot.input_position.0);
            }
            Body::Lifecycle(lifecycle) => {
                fields.text("state", lifecycle.state.as_str());
                fields.text_if("reason", lifecycle.reason.as_deref());
                fields.bytes("assertion", lifecycle.assertion.as_bytes());
            }
        }
        fields.end();
    }
}

fn assertion_fields(assertion: &Assertion, fields: &mut Fields<'_>) {
    fields.map_if("meta", (!assertion.meta.is_empty()).then_some(&assertion.meta), write_meta);
    fields.id_if("epoch", assertion.epoch.as_ref().map(|id| id.as_bytes()));
    write_value(fields.key("object"), &assertion.object);
    fields.id_if("parent", assertion.parent.as_ref().map(|id| id.as_bytes()));
    fields.map_if("source", assertion.source.as_ref(), write_provenance);
    if let Some(vector) = &assertion.vector {
        fields.bytes("vector", vector);
    }
    fields.text("subject", assertion.subject.as_str());
    if let Some(at) = assertion.valid_to {
        fields.int("valid_to", at.0);
    }
    fields.text("lifecycle", assertion.lifecycle.as_str());
    fields.text("predicate", assertion.predicate.as_str());
    fields.float("confidence", assertion.confidence);
    if let Some(at) = assertion.valid_from {
        fields.int("valid_from", at.0);
    }
    if let Some(hash) = &assertion.visual_hash {
        fields.bytes("visual_hash", hash);
    }
    fields.list("derived_from", &assertion.derived_from, |out, id| cbor::bytes(out, id.as_bytes()));
}

fn epoch_fields(epoch: &Epoch, fields: &mut Fields<'_>) {
    if let Some((_, mode)) = epoch.supersedes {
        fields.text("mode", mode.as_str());
    }
    fields.text("name", &epoch.name);
    if let Some((id, _)) = &epoch.supersedes {
        fields.bytes("supersedes", id.as_bytes());
    }
    fields.text_if("description", epoch.description.as_deref());
}

fn source_fields(source: &Source, fields: &mut Fields<'_>) {
    fields.list("keys", &source.keys, write_source_key);
    fields.text("class", source.class.as_str());
    fields.text_if("title", source.title.as_deref());
}

fn retract_fields(retract: &Retract, fields: &mut Fields<'_>) {
    fields.text_if("reason", retract.reason.as_deref());
    match &retract.target {
        RetractTarget::Record(id) => fields.bytes("record", id.as_bytes()),
        RetractTarget::Source(key) => write_source_key(fields.key("source"), key),
    }
}

fn predicate_fields(predicate: &Predicate, fields: &mut Fields<'_>) {
    fields.text("name", predicate.name.as_str());
    fields.text_if("type", predicate.value_type.map(|value_type| value_type.as_str()));
    fields.text_if("unit", predicate.unit.as_deref());
    if let Some(half_life) = predicate.half_life {
        fields.uint("half_life", half_life);
    }
    fields.list("opposites", &predicate.opposites, |out, name| cbor::text(out, name.as_str()));
    fields.map_if("tolerance", predicate.tolerance.as_ref(), write_tolerance);
    fields.text("cardinality", predicate.cardinality.as_str());
    fields.list("conversions", &predicate.conversions, write_conversion);
}

fn agent_fields(agent: &Agent, fields: &mut Fields<'_>) {
    fields.bytes("key", agent.key.as_bytes());
    match &agent.act {
        AgentAct::Register { name, ceiling, operator, roles } => {
            fields.text_if("name", name.as_deref());
            fields.list("roles", roles, |out, role| cbor::text(out, role.as_str()));
            fields.text("ceiling", ceiling.as_str());
            fields.text_if("operator", operator.as_deref());
        }
        AgentAct::Replace { replaces, consent } => {
            fields.bytes("consent", consent.as_bytes());
            fields.bytes("replaces", replaces.as_bytes());
        }
        AgentAct::Revoke { from_position } => fields.uint("from_position", from_position.0),
    }
}

fn lens_fields(lens: &Lens, fields: &mut Fields<'_>) {
    fields.text("name", &lens.name);
    fields.list("ties", &lens.ties, |out, rule| cbor::text(out, rule.as_str()));
    fields.text_if("filter", lens.filter.as_deref());
    fields.text("weight", &lens.weight);
    fields.uint("version", lens.version);
    fields.text("aggregate", lens.aggregate.as_str());
}

fn gold_fields(gold: &Gold, fields: &mut Fields<'_>) {
    write_value(fields.key("object"), &gold.object);
    fields.text("subject", gold.subject.as_str());
    fields.text("predicate", gold.predicate.as_str());
}

/// An object: `type`, `unit` (of a number that has one), `value`, in this order.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &Value) {
    let unit = match value {
        Value::Number { unit, .. } => unit.as_deref(),
        _ => None,
    };
    cbor::map(out, 2 + usize::from(unit.is_some()));
    cbor::text(out, "type");
    cbor::text(out, value.value_type().as_str());
    if let Some(unit) = unit {
        cbor::text(out, "unit");
        cbor::text(out, unit);
    }
    cbor::text(out, "value");
    match value {
        Value::Text(text) => cbor::text(out, text),
        Value::Number { value, .. } => cbor::float(out, *value),
        Value::Boolean(boolean) => cbor::boolean(out, *boolean),
        Value::Time(at) => cbor::int(out, at.0),
        Value::Reference(subject) => cbor::text(out, subject.as_str()),
    }
}

fn write_provenance(out: &mut Vec<u8>, source: &Provenance) {
    let count = usize::from(source.uri.is_some())
        + usize::from(source.class.is_some())
        + usize::from(source.evidence.is_some());
    cbor::map(out, count);
    if let Some(uri) = &source.uri {
        cbor::text(out, "uri");
        cbor::text(out, uri);
    }
    if let Some(class) = source.class {
        cbor::text(out, "class");
        cbor::text(out, class.as_str());
    }
    if let Some(hash) = &source.evidence {
        cbor::text(out, "evidence");
        cbor::bytes(out, hash.as_bytes());
    }
}

fn write_meta(out: &mut Vec<u8>, meta: &BTreeMap<Arc<str>, Arc<str>>) {
    let mut pairs: Vec<_> = meta.iter().collect();
    pairs.sort_unstable_by(|(a, _), (b, _)| cbor::key_order(a, b));
    cbor::map(out, pairs.len());
    for (key, value) in pairs {
        cbor::text(out, key);
        cbor::text(out, value);
    }
}

fn write_tolerance(out: &mut Vec<u8>, tolerance: &Tolerance) {
    let bounds = [("absolute", tolerance.absolute), ("relative", tolerance.relative)];
    cbor::map(out, bounds.iter().filter(|(_, bound)| bound.is_some()).count());
    for (name, bound) in bounds {
        if let Some(bound) = bound {
            cbor::text(out, name);
            cbor::float(out, bound);
        }
    }
}

fn write_conversion(out: &mut Vec<u8>, conversion: &Conversion) {
    cbor::map(out, 3);
    cbor::text(out, "add");
    cbor::float(out, conversion.add);
    cbor::text(out, "unit");
    cbor::text(out, &conversion.unit);
    cbor::text(out, "multiply");
    cbor::float(out, conversion.multiply);
}

fn write_source_key(out: &mut Vec<u8>, key: &SourceKey) {
    match key {
        SourceKey::Evidence(hash) => cbor::bytes(out, hash.as_bytes()),
        SourceKey::Uri(uri) => cbor::text(out, uri),
        // `validate` refuses it: an agent is never named as a source in a record. Were it written,
        // it would be a byte string of the same length as a hash.
        SourceKey::Agent(agent) => cbor::bytes(out, agent.as_bytes()),
    }
}

/// The map of a record being written. The fields that every kind has are put in where they belong
/// among the others, so each kind writes only its own, in key order.
struct Fields<'a> {
    record: &'a Record,
    out: &'a mut Vec<u8>,
    /// Offset of the map's head, which is written last.
    head: usize,
    count: u8,
    /// How many of `COMMON` are dealt with.
    common: usize,
    #[cfg(debug_assertions)]
    last: &'static str,
}

/// The fields of every kind, in key order.
const COMMON: [&str; 6] = ["v", "at", "kind", "agent", "space", "log_id"];

impl<'a> Fields<'a> {
    fn begin(record: &'a Record, out: &'a mut Vec<u8>) -> Self {
        let head = out.len();
        cbor::map(out, 0);
        Self {
            record,
            out,
            head,
            count: 0,
            common: 0,
            #[cfg(debug_assertions)]
            last: "",
        }
    }

    fn end(mut self) {
        while self.common < COMMON.len() {
            self.next_common();
        }
        // No kind has more than 23 fields, so the head is one byte: 0xa0 and the count.
        debug_assert!(self.count < 24, "{} fields", self.count);
        if let Some(head) = self.out.get_mut(self.head) {
            *head |= self.count;
        }
    }

    /// Writes a key; the caller writes its value next.
    fn key(&mut self, name: &'static str) -> &mut Vec<u8> {
        while COMMON.get(self.common).is_some_and(|common| cbor::key_order(common, name).is_lt()) {
            self.next_common();
        }
        self.raw_key(name)
    }

    fn raw_key(&mut self, name: &'static str) -> &mut Vec<u8> {
        #[cfg(debug_assertions)]
        {
            debug_assert!(
                cbor::key_order(self.last, name).is_lt(),
                "field {name:?} after {:?}",
                self.last
            );
            self.last = name;
        }
        self.count += 1;
        cbor::text(self.out, name);
        self.out
    }

    fn next_common(&mut self) {
        let record = self.record;
        match self.common {
            0 => cbor::uint(self.raw_key("v"), FORMAT_VERSION),
            1 => cbor::int(self.raw_key("at"), record.at.0),
            2 => cbor::uint(self.raw_key("kind"), u64::from(record.kind().tag())),
            3 => cbor::bytes(self.raw_key("agent"), record.agent.as_bytes()),
            4 => cbor::text(self.raw_key("space"), record.space.as_str()),
            _ => {
                if let Some(log_id) = &record.log_id {
                    cbor::bytes(self.raw_key("log_id"), log_id.as_bytes());
                }
            }
        }
        self.common += 1;
    }

    fn uint(&mut self, name: &'static str, value: u64) {
        cbor::uint(self.key(name), value);
    }

    fn int(&mut self, name: &'static str, value: i64) {
        cbor::int(self.key(name), value);
    }

    fn float(&mut self, name: &'static str, value: f64) {
        cbor::float(self.key(name), value);
    }

    fn bytes(&mut self, name: &'static str, value: &[u8]) {
        cbor::bytes(self.key(name), value);
    }

    fn id_if(&mut self, name: &'static str, value: Option<&[u8; 32]>) {
        if let Some(value) = value {
            self.bytes(name, value);
        }
    }

    fn text(&mut self, name: &'static str, value: &str) {
        cbor::text(self.key(name), value);
    }

    fn text_if(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn map_if<T>(&mut self, name: &'static str, value: Option<&T>, write: fn(&mut Vec<u8>, &T)) {
        if let Some(value) = value {
            write(self.key(name), value);
        }
    }

    /// An empty list is left out.
    fn list<T>(&mut self, name: &'static str, items: &[T], write: fn(&mut Vec<u8>, &T)) {
        if !items.is_empty() {
            let out = self.key(name);
            cbor::list(out, items.len());
            for item in items {
                write(out, item);
            }
        }
    }
}
