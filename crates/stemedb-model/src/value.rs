//! The claimed value: canonical, comparable byte for byte.

use std::sync::Arc;

use crate::ids::Millis;
use crate::text::Subject;

/// The object of an assertion or gold record.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NFC UTF-8, at most 64 KiB.
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
