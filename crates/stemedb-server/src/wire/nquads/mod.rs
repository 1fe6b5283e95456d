//! Records as N-Quads of RDF 1.2: which quads, which names, which literals is specified in
//! `docs/format/nquads.md`.
//!
//! What is claimed stands in a triple term only, never as a triple of its own: claims contradict
//! each other, and a store that held them as facts would hold both.

use std::fmt::Write as _;

use stemedb_model::{
    Agent, AgentAct, AgentId, Assertion, Body, Epoch, Gold, LogId, Millis, Position, Predicate,
    PredicateName, Principal, RecordId, Retract, RetractTarget, Signed, Source, SourceKey, Space,
    Subject, Value,
};

use super::scalar::Time;

/// The media type of what [`write_record`] writes.
pub const NQUADS: &str = "application/n-quads";

const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const XSD: &str = "http://www.w3.org/2001/XMLSchema#";

/// A record as the log holds it.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// The database: with the space it names the graph.
    pub log_id: LogId,
    /// Its number in the log.
    pub position: Position,
    /// When it was committed.
    pub recorded_at: Millis,
    /// Owner of the API key it came through.
    pub principal: &'a Principal,
    /// Whether the server signed for its caller.
    pub custodial: bool,
    /// The record, with its id and signature.
    pub signed: &'a Signed,
}

/// Writes all that is known of one record, a quad a line.
pub fn write_record(out: &mut String, exported: &Exported<'_>) {
    let record = exported.signed.record();
    let space = &record.space;
    let mut quads = Quads {
        about: self::record(exported.signed.id()),
        graph: iri(&format!("graph:{}:", exported.log_id), space.as_str()),
        space,
        out,
    };
    if let Body::Assertion(Assertion { subject, predicate, object, .. }) = &record.body {
        let object = quads.value(object);
        let term = format!(
            "<<( {} {} {object} )>>",
            self::subject(space, subject),
            self::predicate(space, predicate)
        );
        quads.write(&format!("<{RDF}reifies>"), &term);
    }
    quads.write(&format!("<{RDF}type>"), &format!("<urn:stemedb:kind:{}>", record.kind()));
    quads.say("agent", &agent(record.agent));
    quads.say("at", &time(record.at));
    if let Some(log_id) = record.log_id {
        quads.say("log_id", &hex(log_id.as_bytes()));
    }
    quads.say("position", &integer(exported.position.0));
    quads.say("recorded_at", &time(exported.recorded_at));
    quads.say("principal", &text(exported.principal.as_str()));
    quads.say("custodial", &boolean(exported.custodial));
    quads.say("signature", &hex(exported.signed.signature().as_bytes()));
    quads.body(&record.body);
}

struct Quads<'a> {
    out: &'a mut String,
    about: String,
    graph: String,
    space: &'a Space,
}

impl Quads<'_> {
    fn write(&mut self, predicate: &str, object: &str) {
        for part in [&self.about, " ", predicate, " ", object, " ", &self.graph, " .\n"] {
            self.out.push_str(part);
        }
    }

    fn say(&mut self, field: &str, object: &str) {
        self.write(&format!("<urn:stemedb:vocab:{field}>"), object);
    }

    fn say_if(&mut self, field: &str, object: Option<String>) {
        if let Some(object) = object {
            self.say(field, &object);
        }
    }

    fn say_text(&mut self, field: &str, said: Option<&str>) {
        self.say_if(field, said.map(text));
    }

    fn value(&self, value: &Value) -> String {
        match value {
            Value::Text(said) => text(said),
            Value::Number { value, unit: None } => double(*value),
            Value::Number { value, unit: Some(unit) } => {
                format!("\"{}\"^^{}", digits(*value), iri("unit:", unit))
            }
            Value::Boolean(said) => boolean(*said),
            Value::Time(at) => time(*at),
            Value::Reference(to) => subject(self.space, to),
        }
    }

    fn source(&self, key: &SourceKey) -> String {
        let space = self.space;
        match key {
            SourceKey::Evidence(hash) => format!("<urn:stemedb:source:{space}:evidence:{hash}>"),
            SourceKey::Uri(uri) => iri(&format!("source:{space}:uri:"), uri),
            SourceKey::Agent(own) => agent(*own),
        }
    }

    fn body(&mut self, body: &Body) {
        match body {
            Body::Genesis(genesis) => {
                self.say("format", &integer(genesis.format));
                self.say("root", &agent(genesis.root));
            }
            Body::Assertion(assertion) => self.assertion(assertion),
            Body::Cosign(cosign) => self.say("assertion", &record(cosign.assertion)),
            Body::Vote(vote) => {
                self.say("assertion", &record(vote.assertion));
                self.say("weight", &double(vote.weight));
            }
            Body::Epoch(epoch) => self.epoch(epoch),
            Body::Source(source) => self.registration(source),
            Body::Retract(retract) => self.retract(retract),
            Body::Supersede(supersede) => {
                self.say("old", &record(supersede.old));
                self.say("new", &record(supersede.new));
                self.say_text("reason", supersede.reason.as_deref());
            }
            Body::Predicate(predicate) => self.predicate(predicate),
            Body::Alias(alias) => {
                self.say("subject", &subject(self.space, &alias.subject));
                self.say("other", &subject(self.space, &alias.other));
            }
            Body::Agent(agent) => self.agent(agent),
            Body::Lens(lens) => {
                self.say("name", &text(&lens.name));
                self.say("version", &integer(lens.version));
                self.say_text("filter", lens.filter.as_deref());
                self.say("weight", &text(&lens.weight));
                self.say("aggregate", &text(lens.aggregate.as_str()));
                // Their order counts.
                let ties: Vec<&str> = lens.ties.iter().map(|tie| tie.as_str()).collect();
                self.say_if("ties", (!ties.is_empty()).then(|| text(&ties.join(","))));
            }
            Body::Gold(Gold { subject, predicate, object }) => {
                self.say("subject", &self::subject(self.space, subject));
                self.say("predicate", &self::predicate(self.space, predicate));
                self.say("object", &self.value(object));
            }
            Body::TrustSnapshot(learned) => {
                self.say("input_position", &integer(learned.input_position.0));
                self.say("config", &hex(learned.config.as_bytes()));
                self.say("table", &hex(learned.table.as_bytes()));
            }
            Body::Lifecycle(lifecycle) => {
                self.say("assertion", &record(lifecycle.assertion));
                self.say("state", &text(lifecycle.state.as_str()));
                self.say_text("reason", lifecycle.reason.as_deref());
            }
        }
    }

    fn assertion(&mut self, assertion: &Assertion) {
        self.say("confidence", &double(assertion.confidence));
        if let Some(source) = &assertion.source {
            // What an agent says of itself needs no name of its own.
            if let (None, Some(uri)) = (source.evidence, &source.uri) {
                self.say("source", &self.source(&SourceKey::Uri(uri.clone())));
            } else if let Some(hash) = source.evidence {
                self.say("source", &self.source(&SourceKey::Evidence(hash)));
            }
            self.say_text("source_uri", source.uri.as_deref());
            self.say_if("source_evidence", source.evidence.map(|hash| hex(hash.as_bytes())));
            self.say_text("source_class", source.class.map(|class| class.as_str()));
        }
        self.say_if("valid_from", assertion.valid_from.map(time));
        self.say_if("valid_to", assertion.valid_to.map(time));
        self.say_if("epoch", assertion.epoch.map(record));
        self.say("lifecycle", &text(assertion.lifecycle.as_str()));
        self.say_if("parent", assertion.parent.map(record));
        for premise in &assertion.derived_from {
            self.say("derived_from", &record(*premise));
        }
        self.say_if("vector", assertion.vector.as_deref().map(hex));
        self.say_if("visual_hash", assertion.visual_hash.map(|hash| hex(&hash)));
        for (key, said) in &assertion.meta {
            self.write(&iri("meta:", key), &text(said));
        }
    }

    fn epoch(&mut self, epoch: &Epoch) {
        self.say("name", &text(&epoch.name));
        self.say_text("description", epoch.description.as_deref());
        if let Some((old, mode)) = epoch.supersedes {
            self.say("supersedes", &record(old));
            self.say("mode", &text(mode.as_str()));
        }
    }

    fn registration(&mut self, source: &Source) {
        for key in &source.keys {
            self.say("source", &self.source(key));
        }
        self.say("class", &text(source.class.as_str()));
        self.say_text("title", source.title.as_deref());
    }

    fn retract(&mut self, retract: &Retract) {
        match &retract.target {
            RetractTarget::Record(id) => self.say("record", &record(*id)),
            RetractTarget::Source(key) => self.say("source", &self.source(key)),
        }
        self.say_text("reason", retract.reason.as_deref());
    }

    fn predicate(&mut self, predicate: &Predicate) {
        self.say("name", &self::predicate(self.space, &predicate.name));
        self.say("cardinality", &text(predicate.cardinality.as_str()));
        self.say_text("type", predicate.value_type.map(|of| of.as_str()));
        self.say_if("unit", predicate.unit.as_deref().map(|unit| iri("unit:", unit)));
        for conversion in &predicate.conversions {
            let own = self.about.trim_start_matches("<urn:stemedb:").trim_end_matches('>');
            let about = iri(&format!("conversion:{own}:"), &conversion.unit);
            self.say("conversion", &about);
            let whole = std::mem::replace(&mut self.about, about);
            self.say("unit", &iri("unit:", &conversion.unit));
            self.say("multiply", &double(conversion.multiply));
            self.say("add", &double(conversion.add));
            self.about = whole;
        }
        if let Some(tolerance) = predicate.tolerance {
            self.say_if("tolerance_absolute", tolerance.absolute.map(double));
            self.say_if("tolerance_relative", tolerance.relative.map(double));
        }
        for opposite in &predicate.opposites {
            self.say("opposite", &self::predicate(self.space, opposite));
        }
        self.say_if("half_life", predicate.half_life.map(integer));
    }

    fn agent(&mut self, about: &Agent) {
        self.say("key", &agent(about.key));
        match &about.act {
            AgentAct::Register { name, ceiling, operator, roles } => {
                self.say_text("name", name.as_deref());
                self.say("ceiling", &text(ceiling.as_str()));
                self.say_text("operator", operator.as_deref());
                for role in roles {
                    self.say("role", &text(role.as_str()));
                }
            }
            AgentAct::Replace { replaces, consent } => {
                self.say("replaces", &agent(*replaces));
                self.say("consent", &hex(consent.as_bytes()));
            }
            AgentAct::Revoke { from_position } => {
                self.say("from_position", &integer(from_position.0));
            }
        }
    }
}

fn record(id: RecordId) -> String {
    format!("<urn:stemedb:record:{id}>")
}

fn agent(key: AgentId) -> String {
    format!("<urn:stemedb:agent:{key}>")
}

fn subject(space: &Space, name: &Subject) -> String {
    iri(&format!("subject:{space}:"), name.as_str())
}

fn predicate(space: &Space, name: &PredicateName) -> String {
    iri(&format!("predicate:{space}:"), name.as_str())
}

/// `name`, percent-encoded behind `start`. Only what RFC 3986 leaves unreserved stays as it is:
/// nothing that a program may rewrite on its way, such as `/../`, is left.
fn iri(start: &str, name: &str) -> String {
    let mut out = String::with_capacity(16 + start.len() + name.len());
    out.push_str("<urn:stemedb:");
    out.push_str(start);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out.push('>');
    out
}

/// A string literal, escaped as canonical N-Quads is.
fn text(said: &str) -> String {
    let mut out = String::with_capacity(2 + said.len());
    out.push('"');
    for c in said.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Other control characters no record holds; noncharacters some readers refuse.
            c if c.is_control() || u32::from(c) & 0xfffe == 0xfffe => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn typed(lexical: &str, datatype: &str) -> String {
    format!("\"{lexical}\"^^<{XSD}{datatype}>")
}

fn integer(number: u64) -> String {
    typed(&number.to_string(), "integer")
}

fn boolean(said: bool) -> String {
    typed(if said { "true" } else { "false" }, "boolean")
}

fn double(number: f64) -> String {
    typed(&digits(number), "double")
}

/// The canonical form of `xsd:double`, with the fewest digits that give back the same bits.
fn digits(number: f64) -> String {
    // A -0 is no value of the model.
    let shortest = format!("{:E}", number + 0.0);
    match shortest.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => shortest,
    }
}

fn hex(bytes: &[u8]) -> String {
    // The canonical form has capitals.
    typed(&hex::encode_upper(bytes), "hexBinary")
}

/// A moment in a year that every reader of `xsd:dateTime` takes; else milliseconds, which the
/// name of their type says.
fn time(at: Millis) -> String {
    match Time(at).rfc3339() {
        Some(moment) if !moment.starts_with("0000") => typed(&moment, "dateTime"),
        _ => format!("\"{}\"^^<urn:stemedb:milliseconds>", at.0),
    }
}

#[cfg(test)]
mod tests;
