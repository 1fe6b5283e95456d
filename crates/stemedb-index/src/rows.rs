//! Rows of the tables `records`, `ids`, `claims` and `facts`, in and out of bytes. Their form is
//! specified in [`crate::format`].

use std::sync::Arc;

use stemedb_lens::FactKind;
use stemedb_model::{
    Hash, Kind, LifecycleState, Millis, Position, Signature, SourceClass, Subject, Value,
};

use crate::bytes::{Malformed, Reader, push_varint, push_zigzag};

/// A row of `records`; the canonical bytes are borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordRow<'a> {
    pub(crate) recorded_at: Millis,
    pub(crate) principal: u64,
    pub(crate) custodial: bool,
    pub(crate) idempotency: Option<Hash>,
    pub(crate) signature: Signature,
    pub(crate) bytes: &'a [u8],
}

const CUSTODIAL: u8 = 1;
const IDEMPOTENCY: u8 = 2;

impl<'a> RecordRow<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        push_zigzag(out, self.recorded_at.0);
        let custodial = if self.custodial { CUSTODIAL } else { 0 };
        out.push(custodial | if self.idempotency.is_some() { IDEMPOTENCY } else { 0 });
        push_varint(out, self.principal);
        if let Some(hash) = &self.idempotency {
            out.extend_from_slice(hash.as_bytes());
        }
        out.extend_from_slice(self.signature.as_bytes());
        out.extend_from_slice(self.bytes);
    }

    pub(crate) fn decode(row: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        let recorded_at = Millis(reader.zigzag()?);
        let flags = reader.byte()?;
        if flags & !(CUSTODIAL | IDEMPOTENCY) != 0 {
            return Err(Malformed);
        }
        let principal = reader.varint()?;
        let idempotency = if flags & IDEMPOTENCY != 0 { Some(Hash(reader.array()?)) } else { None };
        let signature = Signature(reader.array()?);
        let custodial = flags & CUSTODIAL != 0;
        let bytes = reader.rest();
        Ok(Self { recorded_at, principal, custodial, idempotency, signature, bytes })
    }
}

/// A row of `ids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRow {
    pub(crate) kind: Kind,
    pub(crate) position: Position,
    /// For an assertion itself; for a fact, what it is about in the end.
    pub(crate) home: Option<Home>,
}

/// An assertion and the number of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) assertion: Position,
    pub(crate) key: u64,
}

impl IdRow {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(self.kind as u8);
        push_varint(out, self.position.0);
        if let Some(home) = self.home {
            if self.kind != Kind::Assertion {
                push_varint(out, home.assertion.0);
            }
            push_varint(out, home.key);
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        let kind = kind(reader.byte()?)?;
        let position = Position(reader.varint()?);
        let home = match kind {
            Kind::Assertion => Some(Home { assertion: position, key: reader.varint()? }),
            _ if reader.rest().is_empty() => None,
            _ => Some(Home { assertion: Position(reader.varint()?), key: reader.varint()? }),
        };
        reader.end()?;
        Ok(Self { kind, position, home })
    }
}

fn kind(tag: u8) -> Result<Kind, Malformed> {
    Kind::from_tag(u64::from(tag)).ok_or(Malformed)
}

/// What names the source of a claim, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceRow {
    Agent,
    Evidence(u64),
    Uri(u64),
}

/// A claim row: an assertion without its key, names as numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClaimRow {
    pub(crate) agent: u64,
    pub(crate) principal: u64,
    pub(crate) source: SourceRow,
    pub(crate) at: Millis,
    pub(crate) recorded_at: Millis,
    pub(crate) class: Option<SourceClass>,
    pub(crate) lifecycle: LifecycleState,
    pub(crate) confidence: f64,
    pub(crate) valid_from: Option<Millis>,
    pub(crate) valid_to: Option<Millis>,
    pub(crate) epoch: Option<Position>,
    pub(crate) parent: Option<Position>,
    pub(crate) premises: Arc<[Position]>,
    pub(crate) object: Value,
}

const CLAIM: u8 = 0;

const VALID_FROM: u8 = 1;
const VALID_TO: u8 = 2;
const EPOCH: u8 = 4;
const PARENT: u8 = 8;
const PREMISES: u8 = 16;
const UNSURE: u8 = 32;
const SOURCE_SHIFT: u32 = 6;

const CLASS_NONE: u8 = 6;
const STATES: [LifecycleState; 5] = [
    LifecycleState::Proposed,
    LifecycleState::UnderReview,
    LifecycleState::Approved,
    LifecycleState::Deprecated,
    LifecycleState::Rejected,
];

impl ClaimRow {
    /// The row of the assertion at `position`.
    pub(crate) fn encode(&self, position: Position, out: &mut Vec<u8>) {
        out.clear();
        out.push(CLAIM);
        let (source, source_number) = match self.source {
            SourceRow::Agent => (0, None),
            SourceRow::Evidence(number) => (1, Some(number)),
            SourceRow::Uri(number) => (2, Some(number)),
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            flag(self.valid_from.is_some(), VALID_FROM)
                | flag(self.valid_to.is_some(), VALID_TO)
                | flag(self.epoch.is_some(), EPOCH)
                | flag(self.parent.is_some(), PARENT)
                | flag(!self.premises.is_empty(), PREMISES)
                | flag(self.confidence != 1.0, UNSURE)
                | source << SOURCE_SHIFT,
        );
        let class = self.class.map_or(CLASS_NONE, |class| class as u8);
        out.push(class * 8 + state_byte(self.lifecycle));
        push_varint(out, self.agent);
        push_varint(out, self.principal);
        if let Some(number) = source_number {
            push_varint(out, number);
        }
        push_times(out, self.recorded_at, self.at);
        if self.confidence != 1.0 {
            out.extend_from_slice(&self.confidence.to_le_bytes());
        }
        for time in [self.valid_from, self.valid_to].into_iter().flatten() {
            push_zigzag(out, time.0);
        }
        for earlier in [self.epoch, self.parent].into_iter().flatten() {
            push_back(out, position, earlier);
        }
        if !self.premises.is_empty() {
            push_varint(out, self.premises.len() as u64);
            for premise in self.premises.iter() {
                push_back(out, position, *premise);
            }
        }
        push_value(out, &self.object);
    }

    fn decode(position: Position, mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let flags = reader.byte()?;
        let has = |bit: u8| flags & bit != 0;
        let kinds = reader.byte()?;
        let class = match kinds / 8 {
            CLASS_NONE => None,
            class => Some(*SourceClass::ALL.get(usize::from(class)).ok_or(Malformed)?),
        };
        let lifecycle = state(kinds % 8)?;
        let agent = reader.varint()?;
        let principal = reader.varint()?;
        let source = match flags >> SOURCE_SHIFT {
            0 => SourceRow::Agent,
            1 => SourceRow::Evidence(reader.varint()?),
            2 => SourceRow::Uri(reader.varint()?),
            _ => return Err(Malformed),
        };
        let (recorded_at, at) = times(&mut reader)?;
        let confidence = if has(UNSURE) { reader.float()? } else { 1.0 };
        let valid_from = if has(VALID_FROM) { Some(Millis(reader.zigzag()?)) } else { None };
        let valid_to = if has(VALID_TO) { Some(Millis(reader.zigzag()?)) } else { None };
        let epoch = if has(EPOCH) { Some(back(&mut reader, position)?) } else { None };
        let parent = if has(PARENT) { Some(back(&mut reader, position)?) } else { None };
        let count = if has(PREMISES) { reader.varint()? } else { 0 };
        // Collecting stops at the first one missing, so a wild count allocates nothing.
        let premises =
            (0..count).map(|_| back(&mut reader, position)).collect::<Result<Vec<_>, _>>()?.into();
        let object = value(&mut reader)?;
        reader.end()?;
        Ok(Self {
            agent,
            principal,
            source,
            at,
            recorded_at,
            class,
            lifecycle,
            confidence,
            valid_from,
            valid_to,
            epoch,
            parent,
            premises,
            object,
        })
    }
}

/// A fact row: a later record about an assertion or about another fact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FactRow {
    pub(crate) target: Position,
    pub(crate) agent: u64,
    pub(crate) principal: u64,
    pub(crate) at: Millis,
    pub(crate) recorded_at: Millis,
    pub(crate) kind: FactKind,
}

const RETRACT: u8 = 1;
const SUPERSEDE: u8 = 2;
const VOTE: u8 = 3;
const COSIGN: u8 = 4;
const LIFECYCLE: u8 = 5;

impl FactRow {
    /// The row of the fact at `position`.
    pub(crate) fn encode(&self, position: Position, out: &mut Vec<u8>) {
        out.clear();
        out.push(match self.kind {
            FactKind::Retract => RETRACT,
            FactKind::Supersede { .. } => SUPERSEDE,
            FactKind::Vote { .. } => VOTE,
            FactKind::Cosign => COSIGN,
            FactKind::Lifecycle { .. } => LIFECYCLE,
        });
        push_back(out, position, self.target);
        push_varint(out, self.agent);
        push_varint(out, self.principal);
        push_times(out, self.recorded_at, self.at);
        match self.kind {
            FactKind::Supersede { new } => push_back(out, position, new),
            FactKind::Vote { weight } => out.extend_from_slice(&weight.to_le_bytes()),
            FactKind::Lifecycle { state } => out.push(state_byte(state)),
            FactKind::Retract | FactKind::Cosign => {}
        }
    }

    /// The fact at `position` from a row of `facts`.
    pub(crate) fn decode(position: Position, row: &[u8]) -> Result<Self, Malformed> {
        match ClaimsRow::decode(position, row)? {
            ClaimsRow::Fact(fact) => Ok(fact),
            ClaimsRow::Claim(_) => Err(Malformed),
        }
    }

    fn decode_tail(kind: u8, position: Position, reader: Reader<'_>) -> Result<Self, Malformed> {
        let mut reader = reader;
        let target = back(&mut reader, position)?;
        let agent = reader.varint()?;
        let principal = reader.varint()?;
        let (recorded_at, at) = times(&mut reader)?;
        let kind = match kind {
            RETRACT => FactKind::Retract,
            SUPERSEDE => FactKind::Supersede { new: back(&mut reader, position)? },
            VOTE => FactKind::Vote { weight: reader.float()? },
            COSIGN => FactKind::Cosign,
            LIFECYCLE => FactKind::Lifecycle { state: state(reader.byte()?)? },
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(Self { target, agent, principal, at, recorded_at, kind })
    }
}

/// A row of `claims`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ClaimsRow {
    Claim(ClaimRow),
    Fact(FactRow),
}

impl ClaimsRow {
    /// Whether a row is a claim, without reading the rest of it.
    pub(crate) fn is_claim(row: &[u8]) -> bool {
        row.first() == Some(&CLAIM)
    }

    pub(crate) fn decode(position: Position, row: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        match reader.byte()? {
            CLAIM => ClaimRow::decode(position, reader).map(Self::Claim),
            kind => FactRow::decode_tail(kind, position, reader).map(Self::Fact),
        }
    }
}

fn push_back(out: &mut Vec<u8>, position: Position, earlier: Position) {
    debug_assert!(earlier < position, "{earlier} is referred to by {position}");
    push_varint(out, position.0.wrapping_sub(earlier.0));
}

fn back(reader: &mut Reader<'_>, position: Position) -> Result<Position, Malformed> {
    let distance = reader.varint()?;
    match position.0.checked_sub(distance) {
        Some(earlier) if earlier > 0 && distance > 0 => Ok(Position(earlier)),
        _ => Err(Malformed),
    }
}

fn push_times(out: &mut Vec<u8>, recorded_at: Millis, at: Millis) {
    push_zigzag(out, recorded_at.0);
    push_zigzag(out, recorded_at.0.wrapping_sub(at.0));
}

fn times(reader: &mut Reader<'_>) -> Result<(Millis, Millis), Malformed> {
    let recorded_at = reader.zigzag()?;
    let at = recorded_at.wrapping_sub(reader.zigzag()?);
    Ok((Millis(recorded_at), Millis(at)))
}

fn state_byte(state: LifecycleState) -> u8 {
    match state {
        LifecycleState::Proposed => 0,
        LifecycleState::UnderReview => 1,
        LifecycleState::Approved => 2,
        LifecycleState::Deprecated => 3,
        LifecycleState::Rejected => 4,
    }
}

fn state(byte: u8) -> Result<LifecycleState, Malformed> {
    STATES.get(usize::from(byte)).copied().ok_or(Malformed)
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(text) => {
            out.push(0);
            push_text(out, text);
        }
        Value::Number { value, unit } => {
            out.push(if unit.is_some() { 2 } else { 1 });
            out.extend_from_slice(&value.to_le_bytes());
            if let Some(unit) = unit {
                push_text(out, unit);
            }
        }
        Value::Boolean(false) => out.push(3),
        Value::Boolean(true) => out.push(4),
        Value::Time(time) => {
            out.push(5);
            push_zigzag(out, time.0);
        }
        Value::Reference(subject) => {
            out.push(6);
            push_text(out, subject.as_str());
        }
    }
}

fn value(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match reader.byte()? {
        0 => Value::Text(reader.text()?.into()),
        1 => Value::Number { value: reader.float()?, unit: None },
        2 => Value::Number { value: reader.float()?, unit: Some(reader.text()?.into()) },
        3 => Value::Boolean(false),
        4 => Value::Boolean(true),
        5 => Value::Time(Millis(reader.zigzag()?)),
        6 => Value::Reference(Subject::parse(reader.text()?).map_err(|_| Malformed)?),
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
