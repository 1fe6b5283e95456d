//! Scalars: hex, times, exact numbers, names. Each knows its JSON form and its schema.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use stemedb_model as model;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

/// Texts on one line: what `is_control` calls a control character is refused.
pub(crate) const LINE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";
/// Texts of several lines: tab, line feed and carriage return are allowed as well.
pub(crate) const LINES: &str = "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*$";

pub(crate) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String))
}

pub(crate) fn integer() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

/// Reads a string and parses it; says what was expected if it is something else.
struct Parse<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

macro_rules! hex_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse {
                    expected: concat!("a string of ", $digits, " hex digits"),
                    parse: |text| {
                        <$inner>::from_str(text).map(Self).map_err(|error| error.to_string())
                    },
                })
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                string()
                    .pattern(Some(concat!("^[0-9a-f]{", $digits, "}$")))
                    .description(Some(concat!($digits, " hex digits")))
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

hex_type!(
    /// The id of a record.
    Id,
    model::RecordId,
    "64"
);
hex_type!(
    /// The public key of an agent.
    AgentKey,
    model::AgentId,
    "64"
);
hex_type!(
    /// A hash of something that is not a record.
    HashHex,
    model::Hash,
    "64"
);
hex_type!(
    /// An Ed25519 signature.
    SignatureHex,
    model::Signature,
    "128"
);
hex_type!(
    /// The name of a database.
    LogIdHex,
    model::LogId,
    "32"
);
hex_type!(
    /// The name of a branch of a log.
    TimelineHex,
    model::Timeline,
    "32"
);

/// Bytes of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse {
            expected: "a string of hex digits",
            parse: |text| hex::decode(text).map(Self).map_err(|error| format!("hex: {error}")),
        })
    }
}

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        string().pattern(Some("^([0-9a-f]{2})*$")).description(Some("bytes as hex")).into()
    }
}

impl ToSchema for Bytes {}

/// A moment. In: RFC 3339, finer than a millisecond is cut off, or integer milliseconds since
/// 1970. Out: RFC 3339 in UTC, or milliseconds where the year does not have four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub model::Millis);

impl Time {
    /// From RFC 3339.
    pub fn parse(text: &str) -> Result<Self, String> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            format!(
                "{text:?} is not a time; expected RFC 3339 such as \"2024-07-01T00:00:00Z\" or \
                 milliseconds since 1970"
            )
        })?;
        let ms = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(ms).map(|ms| Self(model::Millis(ms))).map_err(|error| error.to_string())
    }

    /// As RFC 3339, if the year has four digits.
    pub fn rfc3339(self) -> Option<String> {
        let moment =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0.0) * 1_000_000).ok()?;
        moment.format(&Rfc3339).ok()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339() {
            Some(text) => f.write_str(&text),
            None => self.0.0.fmt(f),
        }
    }
}

impl From<model::Millis> for Time {
    fn from(ms: model::Millis) -> Self {
        Self(ms)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.rfc3339() {
            Some(text) => serializer.serialize_str(&text),
            None => serializer.serialize_i64(self.0.0),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time or integer milliseconds since 1970")
            }

            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Time, E> {
                Ok(Time(model::Millis(ms)))
            }

            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Time, E> {
                i64::try_from(ms)
                    .map(|ms| Time(model::Millis(ms)))
                    .map_err(|_| E::custom(format!("{ms} milliseconds do not fit 64 signed bits")))
            }

            fn visit_f64<E: de::Error>(self, ms: f64) -> Result<Time, E> {
                whole(ms)
                    .map(|ms| Time(model::Millis(ms)))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(ms), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(
                string()
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                    .description(Some("RFC 3339")),
            )
            .item(
                integer()
                    .minimum(Some(isize::MIN))
                    .maximum(Some(isize::MAX))
                    .description(Some("milliseconds since 1970-01-01T00:00:00Z")),
            )
            .into()
    }
}

impl ToSchema for Time {}

/// The same in a query string, where everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeParam(pub model::Millis);

impl TimeParam {
    /// From RFC 3339 or milliseconds.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(ms) => Ok(Self(model::Millis(ms))),
            Err(_) => Time::parse(text).map(|time| Self(time.0)),
        }
    }
}

impl<'de> Deserialize<'de> for TimeParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse { expected: "a time", parse: Self::parse })
    }
}

impl Serialize for TimeParam {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Time(self.0).serialize(serializer)
    }
}

impl PartialSchema for TimeParam {
    fn schema() -> RefOr<Schema> {
        Time::schema()
    }
}

impl ToSchema for TimeParam {}

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

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $as_str:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl $name {
            /// From the canonical name.
            pub fn parse(text: &str) -> Result<Self, String> {
                <$inner>::parse(text).map(Self).ok_or_else(|| {
                    let names = <$inner>::ALL.map(<$inner>::$as_str).join(", ");
                    format!("{text:?}, expected one of {names}")
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.$as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse { expected: "a name", parse: Self::parse })
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                string().enum_values(Some(<$inner>::ALL.map(<$inner>::$as_str))).into()
            }
        }

        impl ToSchema for $name {}
    };
}

name_type!(
    /// The name of a record kind.
    KindName,
    model::Kind,
    name
);
name_type!(
    /// The class of a source.
    Class,
    model::SourceClass,
    as_str
);
name_type!(
    /// The state of an assertion.
    LifecycleState,
    model::LifecycleState,
    as_str
);
name_type!(
    /// What superseding an epoch does.
    EpochMode,
    model::EpochMode,
    as_str
);
name_type!(
    /// How many values a key has.
    Cardinality,
    model::Cardinality,
    as_str
);
name_type!(
    /// The type of a value.
    ValueType,
    model::ValueType,
    as_str
);
name_type!(
    /// A right given by an agent record.
    Role,
    model::Role,
    as_str
);
name_type!(
    /// How a lens combines weights.
    Aggregate,
    model::Aggregate,
    as_str
);
name_type!(
    /// How a lens breaks ties.
    TieRule,
    model::TieRule,
    as_str
);

/// A list in a query string, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// What can be an item of a [`List`].
pub trait Item: Sized {
    /// From the text between two commas.
    fn item(text: &str) -> Result<Self, String>;
}

impl Item for LifecycleState {
    fn item(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl Item for AgentKey {
    fn item(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: model::HexError| error.to_string())
    }
}

impl<'de, T: Item> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse {
            expected: "a list separated by commas",
            parse: |text| text.split(',').map(T::item).collect::<Result<_, _>>().map(Self),
        })
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text, not yet checked.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                string()
                    .min_length(Some($min))
                    .max_length(Some($max))
                    .pattern(Some($pattern))
                    .description(Some(concat!(
                        "UTF-8 in Normalization Form C, ", $min, " to ", $max, " bytes"
                    )))
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

text_type!(
    /// A namespace.
    SpaceText, 1, 64, "^[a-z0-9._-]{1,64}$"
);
text_type!(
    /// An entity; `/` makes a path.
    SubjectText, 1, 512, LINE
);
text_type!(
    /// A property or relation.
    PredicateText, 1, 256, LINE
);
text_type!(
    /// A name, title, unit or operator.
    NameText, 1, 512, LINE
);
text_type!(
    /// A source's address, as written.
    UriText, 1, 2048, LINE
);
text_type!(
    /// A reason or description; may have several lines.
    ReasonText, 0, 4096, LINES
);
text_type!(
    /// A CEL expression.
    ExpressionText, 1, 4096, LINES
);
text_type!(
    /// A claimed text; may have several lines.
    ValueText, 0, 65536, LINES
);

/// Free pairs of texts. A key that comes twice is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta(pub BTreeMap<Arc<str>, Arc<str>>);

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if pairs.insert(Arc::from(key.as_str()), Arc::from(value)).is_some() {
                        return Err(de::Error::custom(format!("duplicate key {key:?}")));
                    }
                }
                Ok(Meta(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
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
