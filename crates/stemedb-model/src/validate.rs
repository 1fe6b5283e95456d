//! Every rule that a record can be judged by alone, without the log: limits, order, presence.
//! What depends on other records (rights, references, cycles) is decided at its position.

use std::fmt::Display;

use crate::codec::FORMAT_VERSION;
use crate::limits;
use crate::record::{
    Agent, AgentAct, Assertion, Body, Conversion, Epoch, Kind, Lens, Predicate, Provenance, Record,
    RetractTarget, Source, SourceKey, Tolerance,
};
use crate::text::{InvalidField, check_text};
use crate::value::ValueType;

type Checked = Result<(), InvalidField>;

/// Lens records cannot take these names.
pub const BUILTIN_LENSES: [&str; 9] = [
    "recency",
    "consensus",
    "confidence",
    "authority",
    "trust",
    "votes",
    "skeptic",
    "layered",
    "custom",
];

impl Record {
    /// Checks the record against every rule it can be judged by alone; the error names the field,
    /// the limit and what was found. Signatures are not looked at, nor is a `consent`.
    pub fn validate(&self) -> Checked {
        let unbound = matches!(self.kind(), Kind::Assertion | Kind::Cosign);
        match &self.log_id {
            Some(_) if unbound => {
                let problem = "is in every kind but assertion and cosign, and this is one of them";
                return Err(InvalidField::new("log_id", problem));
            }
            None if !unbound => return Err(InvalidField::new("log_id", "is missing")),
            _ => {}
        }
        match &self.body {
            Body::Genesis(genesis) => {
                if genesis.format != FORMAT_VERSION {
                    return Err(expected("format", FORMAT_VERSION, genesis.format));
                }
                if genesis.root != self.agent {
                    return Err(expected("root", "the agent of the record", genesis.root));
                }
                Ok(())
            }
            Body::Assertion(assertion) => check_assertion(assertion),
            Body::Cosign(_) => Ok(()),
            Body::Vote(vote) => within("weight", vote.weight, -1.0, 1.0),
            Body::Epoch(epoch) => check_epoch(epoch),
            Body::Source(source) => check_source(source),
            Body::Retract(retract) => {
                reason("reason", retract.reason.as_deref())?;
                match &retract.target {
                    RetractTarget::Record(_) => Ok(()),
                    RetractTarget::Source(key) => check_source_key("source", key),
                }
            }
            Body::Supersede(supersede) => {
                if supersede.old == supersede.new {
                    return Err(InvalidField::new("new", "is the same assertion as old"));
                }
                reason("reason", supersede.reason.as_deref())
            }
            Body::Predicate(predicate) => check_predicate(predicate),
            Body::Alias(alias) => {
                if alias.subject == alias.other {
                    return Err(InvalidField::new("other", "is the same as subject"));
                }
                Ok(())
            }
            Body::Agent(agent) => check_agent(self, agent),
            Body::Lens(lens) => check_lens(lens),
            Body::Gold(gold) => gold.object.validate(),
            Body::TrustSnapshot(snapshot) => {
                at_least_one("input_position", snapshot.input_position.0)
            }
            Body::Lifecycle(lifecycle) => reason("reason", lifecycle.reason.as_deref()),
        }
    }
}

fn check_assertion(assertion: &Assertion) -> Checked {
    assertion.object.validate()?;
    within("confidence", assertion.confidence, 0.0, 1.0)?;
    if let Some(source) = &assertion.source {
        check_provenance(source)?;
    }
    if let (Some(from), Some(to)) = (assertion.valid_from, assertion.valid_to)
        && from >= to
    {
        let problem = format!("{}, expected more than valid_from ({})", to.0, from.0);
        return Err(InvalidField::new("valid_to", problem));
    }
    at_most("derived_from", assertion.derived_from.len(), limits::DERIVED_FROM_MAX)?;
    ascending("derived_from", &assertion.derived_from)?;
    if let Some(vector) = &assertion.vector {
        check_vector(vector)?;
    }
    check_meta(assertion)
}

fn check_provenance(source: &Provenance) -> Checked {
    if source.uri.is_none() && source.evidence.is_none() && source.class.is_none() {
        let problem = "is empty, expected at least one of uri, evidence, class";
        return Err(InvalidField::new("source", problem));
    }
    source.uri.as_deref().map_or(Ok(()), |uri| line("source.uri", uri, limits::URI_BYTES_MAX))
}

fn check_vector(vector: &[u8]) -> Checked {
    const NUMBER_BYTES: usize = 4;
    let bytes_max = limits::VECTOR_NUMBERS_MAX * NUMBER_BYTES;
    let (numbers, rest) = vector.as_chunks::<NUMBER_BYTES>();
    if numbers.is_empty() || !rest.is_empty() || vector.len() > bytes_max {
        let problem = format!(
            "{} bytes, expected 1 to {} numbers of {NUMBER_BYTES} bytes",
            vector.len(),
            limits::VECTOR_NUMBERS_MAX
        );
        return Err(InvalidField::new("vector", problem));
    }
    match numbers.iter().position(|number| !f32::from_le_bytes(*number).is_finite()) {
        Some(index) => {
            Err(InvalidField::new("vector", format!("number {index} is NaN or infinite")))
        }
        None => Ok(()),
    }
}

fn check_meta(assertion: &Assertion) -> Checked {
    at_most("meta", assertion.meta.len(), limits::META_PAIRS_MAX)?;
    let mut bytes = 0;
    for (key, value) in &assertion.meta {
        check_text("meta", key, 1, limits::META_BYTES_MAX, false)?;
        check_text("meta", value, 0, limits::META_BYTES_MAX, true)?;
        bytes += key.len() + value.len();
    }
    if bytes > limits::META_BYTES_MAX {
        let problem = format!(
            "{bytes} bytes of keys and values, expected at most {}",
            limits::META_BYTES_MAX
        );
        return Err(InvalidField::new("meta", problem));
    }
    Ok(())
}

fn check_epoch(epoch: &Epoch) -> Checked {
    line("name", &epoch.name, limits::NAME_BYTES_MAX)?;
    reason("description", epoch.description.as_deref())
}

fn check_source(source: &Source) -> Checked {
    if source.keys.is_empty() {
        return Err(InvalidField::new("keys", "is empty, expected at least one"));
    }
    at_most("keys", source.keys.len(), limits::LIST_MAX)?;
    for key in &source.keys {
        check_source_key("keys", key)?;
    }
    ascending("keys", &source.keys)?;
    name("title", source.title.as_deref())
}

fn check_source_key(field: &'static str, key: &SourceKey) -> Checked {
    match key {
        SourceKey::Agent(_) => {
            Err(InvalidField::new(field, "an agent, expected an evidence hash or a URI"))
        }
        SourceKey::Evidence(_) | SourceKey::Uri(_) => key.check(field),
    }
}

impl SourceKey {
    /// Whether any record can name this source; the error is of `field`.
    pub fn check(&self, field: &'static str) -> Result<(), InvalidField> {
        match self {
            Self::Uri(uri) => line(field, uri, limits::URI_BYTES_MAX),
            Self::Evidence(_) | Self::Agent(_) => Ok(()),
        }
    }
}

fn check_predicate(predicate: &Predicate) -> Checked {
    name("unit", predicate.unit.as_deref())?;
    let numeric = matches!(predicate.value_type, None | Some(ValueType::Number));
    if predicate.unit.is_some() && !numeric {
        return Err(InvalidField::new("unit", "is given, but type is not number"));
    }
    at_most("conversions", predicate.conversions.len(), limits::LIST_MAX)?;
    if !predicate.conversions.is_empty() && predicate.unit.is_none() {
        return Err(InvalidField::new("conversions", "lead to the predicate's unit; it has none"));
    }
    for conversion in &predicate.conversions {
        check_conversion(conversion)?;
        if predicate.unit.as_ref() == Some(&conversion.unit) {
            let problem = format!("{:?} is the unit of the predicate itself", conversion.unit);
            return Err(InvalidField::new("conversions.unit", problem));
        }
    }
    let units: Vec<&str> = predicate.conversions.iter().map(|item| item.unit.as_ref()).collect();
    ascending("conversions", &units)?;
    if let Some(tolerance) = &predicate.tolerance {
        check_tolerance(tolerance)?;
        if !numeric && predicate.value_type != Some(ValueType::Time) {
            let problem = "is given, but type is neither number nor time";
            return Err(InvalidField::new("tolerance", problem));
        }
    }
    at_most("opposites", predicate.opposites.len(), limits::LIST_MAX)?;
    ascending("opposites", &predicate.opposites)?;
    if predicate.opposites.contains(&predicate.name) {
        return Err(InvalidField::new("opposites", "holds the predicate itself"));
    }
    match predicate.half_life {
        Some(half_life) if !(1..=limits::HALF_LIFE_MILLIS_MAX).contains(&half_life) => {
            let bounds = format!("1 to {} milliseconds", limits::HALF_LIFE_MILLIS_MAX);
            Err(expected("half_life", bounds, half_life))
        }
        _ => Ok(()),
    }
}

fn check_conversion(conversion: &Conversion) -> Checked {
    line("conversions.unit", &conversion.unit, limits::NAME_BYTES_MAX)?;
    finite("conversions.multiply", conversion.multiply)?;
    if conversion.multiply == 0.0 {
        return Err(InvalidField::new("conversions.multiply", "0 makes all values one"));
    }
    finite("conversions.add", conversion.add)
}

fn check_tolerance(tolerance: &Tolerance) -> Checked {
    if tolerance.absolute.is_none() && tolerance.relative.is_none() {
        let problem = "is empty, expected at least one of absolute, relative";
        return Err(InvalidField::new("tolerance", problem));
    }
    let bounds =
        [("tolerance.absolute", tolerance.absolute), ("tolerance.relative", tolerance.relative)];
    for (field, bound) in bounds {
        if let Some(bound) = bound {
            within(field, bound, 0.0, f64::MAX)?;
        }
    }
    Ok(())
}

fn check_agent(record: &Record, agent: &Agent) -> Checked {
    match &agent.act {
        AgentAct::Register { name: called, operator, roles, .. } => {
            name("name", called.as_deref())?;
            name("operator", operator.as_deref())?;
            ascending("roles", roles)
        }
        AgentAct::Replace { replaces, .. } => {
            if *replaces != record.agent {
                return Err(expected("replaces", "the agent of the record", replaces));
            }
            if agent.key == *replaces {
                return Err(InvalidField::new("key", "is the key that it replaces"));
            }
            Ok(())
        }
        AgentAct::Revoke { from_position } => at_least_one("from_position", from_position.0),
    }
}

fn check_lens(lens: &Lens) -> Checked {
    line("name", &lens.name, limits::NAME_BYTES_MAX)?;
    if BUILTIN_LENSES.contains(&lens.name.as_ref()) {
        return Err(InvalidField::new("name", format!("{:?} is a built-in lens", lens.name)));
    }
    at_least_one("version", lens.version)?;
    if let Some(filter) = &lens.filter {
        check_text("filter", filter, 1, limits::REASON_BYTES_MAX, true)?;
    }
    check_text("weight", &lens.weight, 1, limits::REASON_BYTES_MAX, true)?;
    for (index, rule) in lens.ties.iter().enumerate() {
        if lens.ties.iter().take(index).any(|earlier| earlier == rule) {
            return Err(InvalidField::new("ties", format!("{rule} is there twice")));
        }
    }
    Ok(())
}

fn expected(field: &'static str, expected: impl Display, found: impl Display) -> InvalidField {
    InvalidField::new(field, format!("{found}, expected {expected}"))
}

/// A text of one line, at least one byte.
fn line(field: &'static str, text: &str, bytes_max: usize) -> Checked {
    check_text(field, text, 1, bytes_max, false)
}

fn name(field: &'static str, text: Option<&str>) -> Checked {
    text.map_or(Ok(()), |text| line(field, text, limits::NAME_BYTES_MAX))
}

fn reason(field: &'static str, text: Option<&str>) -> Checked {
    text.map_or(Ok(()), |text| check_text(field, text, 0, limits::REASON_BYTES_MAX, true))
}

fn finite(field: &'static str, value: f64) -> Checked {
    if value.is_finite() { Ok(()) } else { Err(expected(field, "a finite number", value)) }
}

/// Bounds included; NaN is outside of all bounds.
fn within(field: &'static str, value: f64, least: f64, most: f64) -> Checked {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let bounds = if most == f64::MAX {
        format!("a finite number of at least {least}")
    } else {
        format!("{least} to {most}")
    };
    Err(expected(field, bounds, value))
}

fn at_least_one(field: &'static str, value: u64) -> Checked {
    if value == 0 { Err(expected(field, "at least 1", value)) } else { Ok(()) }
}

fn at_most(field: &'static str, count: usize, max: usize) -> Checked {
    if count <= max {
        return Ok(());
    }
    Err(InvalidField::new(field, format!("{count} items, expected at most {max}")))
}

fn ascending<T: Ord>(field: &'static str, items: &[T]) -> Checked {
    match items.array_windows().position(|[a, b]| a >= b) {
        Some(index) => {
            let problem = format!(
                "item {} is not after the one before it, expected ascending order without repeats",
                index + 1
            );
            Err(InvalidField::new(field, problem))
        }
        None => Ok(()),
    }
}
