//! Which past is asked about, which tiers, and how weights fade.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::scalar::{Count, Item, Time, integer, string, whole};

/// A state of the database that a reader names: a position or the `snapshot` of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "told above")]
pub enum AtLeast {
    Position(u64),
    Snapshot(String),
}

/// The past that a reader asks about: a position, the `snapshot` of an answer, or a time, which
/// means the last position recorded at or before it. An integer is always a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "told above")]
pub enum AsOf {
    Position(u64),
    Snapshot(String),
    Time(Time),
}

const SNAPSHOT: &str = "^[0-9a-f]{48}$";

impl AtLeast {
    /// A position, or a snapshot.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() == 48 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Snapshot(text.to_owned()));
        }
        text.parse()
            .map(Self::Position)
            .map_err(|_| format!("{text:?}, expected a position or the `snapshot` of an answer"))
    }
}

impl AsOf {
    fn parse(text: &str) -> Result<Self, String> {
        match AtLeast::parse(text) {
            Ok(AtLeast::Position(position)) => Ok(Self::Position(position)),
            Ok(AtLeast::Snapshot(snapshot)) => Ok(Self::Snapshot(snapshot)),
            Err(_) => Time::parse(text).map(Self::Time).map_err(|_| {
                format!(
                    "{text:?}, expected a position, the `snapshot` of an answer or an RFC 3339 time"
                )
            }),
        }
    }
}

/// Reads an integer or a string.
struct Point<T> {
    expected: &'static str,
    position: fn(u64) -> T,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Point<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: de::Error>(self, position: u64) -> Result<T, E> {
        Ok((self.position)(position))
    }

    fn visit_f64<E: de::Error>(self, position: f64) -> Result<T, E> {
        whole(position)
            .and_then(|position| u64::try_from(position).ok())
            .map(self.position)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(position), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for AtLeast {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Point {
            expected: "a position or the `snapshot` of an answer",
            position: Self::Position,
            parse: Self::parse,
        })
    }
}

impl<'de> Deserialize<'de> for AsOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Point {
            expected: "a position, the `snapshot` of an answer or an RFC 3339 time",
            position: Self::Position,
            parse: Self::parse,
        })
    }
}

fn position_schema() -> utoipa::openapi::schema::ObjectBuilder {
    integer().minimum(Some(0)).maximum(Some(isize::MAX)).description(Some("a position"))
}

fn snapshot_schema() -> utoipa::openapi::schema::ObjectBuilder {
    string().pattern(Some(SNAPSHOT)).description(Some("the `snapshot` of an answer"))
}

impl PartialSchema for AtLeast {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(position_schema())
            .item(snapshot_schema())
            .description(Some("Wait until this much of the log is readable"))
            .examples([json!(1)])
            .into()
    }
}

impl ToSchema for AtLeast {}

impl PartialSchema for AsOf {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(position_schema())
            .item(snapshot_schema())
            .item(
                string()
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                    .description(Some("the last position recorded at or before this time")),
            )
            .description(Some("Answer as the database would have then"))
            .examples([json!("2024-07-01T00:00:00Z")])
            .into()
    }
}

impl ToSchema for AsOf {}

/// How the weight of a claim fades: `off`, `per_class`, or one half-life in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "told above")]
pub enum Decay {
    Off,
    PerClass,
    HalfLife(u64),
}

impl Decay {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "per_class" => Ok(Self::PerClass),
            _ => text.parse().map_err(|_| ()).and_then(|ms| Self::half_life(ms).ok_or(())).map_err(
                |()| {
                    format!(
                        "{text:?}, expected off, per_class or a half-life of 1 to {} ms",
                        stemedb_model::limits::HALF_LIFE_MILLIS_MAX
                    )
                },
            ),
        }
    }

    fn half_life(ms: u64) -> Option<Self> {
        (1..=stemedb_model::limits::HALF_LIFE_MILLIS_MAX)
            .contains(&ms)
            .then_some(Self::HalfLife(ms))
    }
}

impl Serialize for Decay {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::PerClass => serializer.serialize_str("per_class"),
            Self::HalfLife(ms) => serializer.serialize_u64(*ms),
        }
    }
}

impl<'de> Deserialize<'de> for Decay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Decay;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off, per_class or a half-life in milliseconds")
            }

            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Decay, E> {
                Decay::parse(&ms.to_string()).map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, ms: f64) -> Result<Decay, E> {
                whole(ms)
                    .and_then(|ms| u64::try_from(ms).ok())
                    .and_then(Decay::half_life)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(ms), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decay, E> {
                Decay::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl PartialSchema for Decay {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(string().enum_values(Some(["off", "per_class"])))
            .item(
                integer()
                    .minimum(Some(1))
                    .maximum(Some(9_007_199_254_740_991_i64 as isize))
                    .description(Some("one half-life in milliseconds")),
            )
            .description(Some("How the weight of a claim fades with its age. Default: off"))
            .examples([json!("per_class")])
            .into()
    }
}

impl ToSchema for Decay {}

/// An authority tier, 0 the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tier(pub u8);

impl Tier {
    const LAST: u8 = 5;

    fn parse(number: u64) -> Result<Self, String> {
        match u8::try_from(number) {
            Ok(tier) if tier <= Self::LAST => Ok(Self(tier)),
            _ => Err(format!("{number}, expected 0 to {}", Self::LAST)),
        }
    }
}

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Count(number) = Count::deserialize(deserializer)?;
        Self::parse(number).map_err(de::Error::custom)
    }
}

impl Item for Tier {
    fn item(text: &str) -> Result<Self, String> {
        let number: u64 = text.parse().map_err(|_| format!("{text:?}, expected a number"))?;
        Self::parse(number)
    }
}

impl PartialSchema for Tier {
    fn schema() -> RefOr<Schema> {
        integer()
            .minimum(Some(0))
            .maximum(Some(5))
            .description(Some("an authority tier: 0 regulatory to 5 anecdotal"))
            .examples([json!(0)])
            .into()
    }
}

impl ToSchema for Tier {}
