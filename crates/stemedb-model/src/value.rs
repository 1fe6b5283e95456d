//! The claimed value: canonical, comparable byte for byte.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::codec::{cbor, write_value};
use crate::ids::Millis;
use crate::limits;
use crate::names::names;
use crate::text::{InvalidField, Subject, check_text};

/// The object of an assertion or gold record.
///
/// Equality, hash and order are those of the canonical bytes: equal values have equal bytes, and
/// the smaller value has the smaller bytes, which is how ties are broken. It is a total order but
/// not one for people: shorter texts come first, negative numbers after positive ones.
#[derive(Debug, Clone)]
pub enum Value {
    /// NFC UTF-8, at most 64 KiB. Tab, line feed and carriage return are allowed, other control
    /// characters are not.
    Text(Arc<str>),
    /// A finite number, -0 stored as 0, with an optional unit (1 to 512 bytes).
    Number {
        /// The number.
        value: f64,
        /// Its unit as written; `None` is taken in the predicate's unit.
        unit: Option<Arc<str>>,
    },
    /// True or false.
    Boolean(bool),
    /// A moment, in milliseconds.
    Time(Millis),
    /// Another subject of the same space.
    Reference(Subject),
}

/// The type of a value, as a predicate record declares it. Canonical form: the lower-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// `text`
    Text,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
    /// `time`
    Time,
    /// `reference`
    Reference,
}

names!(ValueType, as_str, {
    Text = "text",
    Number = "number",
    Boolean = "boolean",
    Time = "time",
    Reference = "reference",
});

impl Value {
    /// A text, checked.
    pub fn text(text: &str) -> Result<Self, InvalidField> {
        let value = Self::Text(text.into());
        value.validate().map(|()| value)
    }

    /// A number with the unit as written, checked; -0 becomes 0.
    pub fn number(value: f64, unit: Option<&str>) -> Result<Self, InvalidField> {
        // Adding 0 turns -0 into 0 and leaves every other number alone.
        let value = Self::Number { value: value + 0.0, unit: unit.map(Arc::from) };
        value.validate().map(|()| value)
    }

    /// A reference to another subject, checked.
    pub fn reference(subject: &str) -> Result<Self, InvalidField> {
        match Subject::parse(subject) {
            Ok(subject) => Ok(Self::Reference(subject)),
            Err(invalid) => Err(InvalidField { field: "object.value", ..invalid }),
        }
    }

    /// Its type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Text(_) => ValueType::Text,
            Self::Number { .. } => ValueType::Number,
            Self::Boolean(_) => ValueType::Boolean,
            Self::Time(_) => ValueType::Time,
            Self::Reference(_) => ValueType::Reference,
        }
    }

    /// Checks the limits of a value that was built by hand.
    pub fn validate(&self) -> Result<(), InvalidField> {
        match self {
            Self::Text(text) => check_text("object.value", text, 0, limits::TEXT_BYTES_MAX, true),
            Self::Number { value, unit } => {
                if !value.is_finite() {
                    let problem = format!("{value}, expected a finite number");
                    return Err(InvalidField::new("object.value", problem));
                }
                match unit {
                    Some(unit) => check_text("object.unit", unit, 1, limits::NAME_BYTES_MAX, false),
                    None => Ok(()),
                }
            }
            Self::Boolean(_) | Self::Time(_) | Self::Reference(_) => Ok(()),
        }
    }

    /// The bytes that stand for this value in a record: the DAG-CBOR map of `type`, `unit` if it
    /// has one, `value`.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        write_value(&mut out, self);
        out
    }

    /// What the order of the canonical bytes depends on, in the order of its weight: the map's
    /// length (3 with a unit), the type's name (a text, so by its length first), the unit, the
    /// value.
    fn order(&self) -> (u8, &str, Content<'_>) {
        match self {
            Self::Text(text) => (0, "", Content::Text(text.len(), text)),
            Self::Time(Millis(at)) => (1, "", Content::Bits(integer_order(*at))),
            Self::Number { value, unit: None } => (2, "", Content::Bits(cbor::float_bits(*value))),
            Self::Boolean(boolean) => (3, "", Content::Bits(u64::from(*boolean))),
            Self::Reference(subject) => {
                (4, "", Content::Text(subject.as_str().len(), subject.as_str()))
            }
            Self::Number { value, unit: Some(unit) } => {
                (5, unit, Content::Bits(cbor::float_bits(*value)))
            }
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Content<'a> {
    Bits(u64),
    Text(usize, &'a str),
}

/// CBOR writes a negative n as -1 - n under a larger head byte: after all others, downwards.
fn integer_order(value: i64) -> u64 {
    if value < 0 { (1 << 63) | !value.cast_unsigned() } else { value.cast_unsigned() }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        let (rank, unit, content) = self.order();
        let (other_rank, other_unit, other_content) = other.order();
        rank.cmp(&other_rank)
            .then_with(|| cbor::key_order(unit, other_unit))
            .then_with(|| content.cmp(&other_content))
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.order().hash(state);
    }
}
