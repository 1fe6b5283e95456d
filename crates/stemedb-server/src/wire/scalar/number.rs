//! Numbers, exact or refused.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::integer;

/// A finite number. An integer that f64 cannot hold is refused: it would come back as another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl Number {
    /// From the text of a JSON number.
    pub fn parse(literal: &str) -> Result<Self, String> {
        let value: f64 =
            literal.parse().map_err(|_| format!("{literal} is not a number that JSON knows"))?;
        if !value.is_finite() {
            return Err(format!("{literal} is too large, expected at most {}", f64::MAX));
        }
        // `{:.0}` prints an f64 exactly, so the two texts differ exactly if something was lost.
        if !literal.contains(['.', 'e', 'E'])
            && format!("{value:.0}").trim_start_matches('-') != literal.trim_start_matches('-')
        {
            return Err(format!(
                "{literal} is an integer that a 64-bit float cannot hold (the nearest is \
                 {value:.0}); send it as text"
            ));
        }
        Ok(Self(value))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Self::parse(raw.get()).map_err(de::Error::custom),
            _ => Err(de::Error::custom(format!("expected a number, got {}", kind_of(raw.get())))),
        }
    }
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Number))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Double)))
            .into()
    }
}

impl ToSchema for Number {}

/// The kind of a JSON text, for messages.
pub(crate) fn kind_of(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A whole number of at least 1. JSON knows one kind of number, so `2.0` is one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Count(pub u64);

/// The integer that a JSON number without fraction stands for.
pub(crate) fn whole(number: f64) -> Option<i64> {
    // Below 2^53 every whole f64 is one i64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    let whole = number as i64;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(whole)
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of at least 0")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Count, E> {
                whole(number)
                    .and_then(|number| u64::try_from(number).ok())
                    .map(Count)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
            }
        }
        deserializer.deserialize_u64(Whole)
    }
}

impl PartialSchema for Count {
    fn schema() -> RefOr<Schema> {
        // Up to here every language holds it, and so does a float.
        integer().minimum(Some(1)).maximum(Some(9_007_199_254_740_991_i64 as isize)).into()
    }
}

impl ToSchema for Count {}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Number);

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let maximum: Option<f64> = $max;
                ObjectBuilder::new()
                    .schema_type(SchemaType::new(Type::Number))
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Double)))
                    .minimum(Some($min))
                    .maximum(maximum)
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

bounded!(
    /// A number from 0 to 1.
    Share, 0.0, Some(1.0)
);
bounded!(
    /// A number from -1 to 1.
    VoteWeight, -1.0, Some(1.0)
);
bounded!(
    /// A number of at least 0.
    Amount, 0.0, None
);
