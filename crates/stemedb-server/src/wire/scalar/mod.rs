//! Scalars: hex, times, exact numbers, names. Each knows its JSON form and its schema.

mod moment;
mod number;
mod text;

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use stemedb_model as model;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

pub use self::moment::{Time, TimeParam};
pub use self::number::{Amount, Count, Number, Share, VoteWeight};
pub(crate) use self::number::{kind_of, whole};
pub use self::text::{
    ExpressionText, Meta, NameText, PredicateText, ReasonText, SpaceText, SubjectText, UriText,
    ValueText,
};
pub(crate) use self::text::{LINE, LINES};

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

impl Item for KindName {
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
