//! Moments.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use stemedb_model as model;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::{Parse, integer, string, whole};

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
