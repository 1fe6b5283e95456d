//! Records of any kind.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stemedb_model::{Body, Kind, Record, RecordId, Signature};
use utoipa::ToSchema;

use super::super::scalar::{AgentKey, Bytes, Id, KindName, SignatureHex, SpaceText, Time};
use super::super::{WireError, from_json};
use super::{
    Agent, Alias, Assertion, Bound, Cosign, Draft, Epoch, Genesis, Gold, Lens, Lifecycle,
    Predicate, RecordRequest, Retract, Source, Supersede, TrustSnapshot, Vote,
};

/// A record in canonical form, with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBytes {
    /// The id, if the caller knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The canonical bytes.
    pub bytes: Bytes,
    /// The agent's signature over the id.
    pub signature: SignatureHex,
}

/// What may be sent where any kind is taken: fields, or canonical bytes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is documented by the struct it holds")]
pub enum AnyBody {
    Record(Box<AnyRecord>),
    Bytes(SignedBytes),
}

/// A record of any kind; `kind` says which.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is documented by the struct it holds")]
pub enum AnyRecord {
    Genesis(Genesis),
    Assertion(Assertion),
    Cosign(Cosign),
    Vote(Vote),
    Epoch(Epoch),
    Source(Source),
    Retract(Retract),
    Supersede(Supersede),
    Predicate(Predicate),
    Alias(Alias),
    Agent(Agent),
    Lens(Lens),
    Gold(Gold),
    TrustSnapshot(TrustSnapshot),
    Lifecycle(Lifecycle),
}

impl<'de> Deserialize<'de> for AnyRecord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get().as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// What decides how a body is read; everything else is left for the second look.
#[derive(Deserialize)]
struct Peek<'a> {
    kind: Option<KindName>,
    bytes: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
}

/// A record as an export shows it; what the log said of it is not taken over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    #[serde(rename = "position")]
    _position: Option<u64>,
    #[serde(rename = "recorded_at")]
    _recorded_at: Option<Time>,
    #[serde(rename = "principal")]
    _principal: Option<String>,
    #[serde(rename = "custodial")]
    _custodial: Option<bool>,
}

/// A body or line that stands for one record of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// As fields.
    Fields(Box<Draft>),
    /// In canonical form.
    Bytes(SignedBytes),
}

impl Incoming {
    /// Reads a record with its `kind`, a record in canonical form, or a line of an export.
    pub fn parse(text: &[u8]) -> Result<Self, WireError> {
        let peek: Peek<'_> = from_json(text)?;
        if peek.bytes.is_some() {
            return from_json(text).map(Self::Bytes);
        }
        let record = if peek.kind.is_none() && peek.record.is_some() {
            let exported: Exported<'_> = from_json(text)?;
            AnyRecord::parse(exported.record.get().as_bytes())?
        } else {
            AnyRecord::of_kind(peek.kind, text)?
        };
        Ok(Self::Fields(Box::new(record.draft()?)))
    }
}

macro_rules! any_record {
    ($($kind:ident),*) => {
        impl AnyRecord {
            /// Reads a record with its `kind`.
            pub fn parse(text: &[u8]) -> Result<Self, WireError> {
                let peek: Peek<'_> = from_json(text)?;
                Self::of_kind(peek.kind, text)
            }

            fn of_kind(kind: Option<KindName>, text: &[u8]) -> Result<Self, WireError> {
                let kind = kind.ok_or_else(|| WireError::field("kind", "is missing"))?;
                match kind.0 {
                    $(Kind::$kind => from_json(text).map(Self::$kind),)*
                }
            }

            /// Checks every field.
            pub fn draft(self) -> Result<Draft, WireError> {
                match self {
                    $(Self::$kind(record) => record.draft(),)*
                }
            }

            /// A stored record, all fields of its envelope set.
            pub fn of(record: &Record, id: RecordId, signature: Signature) -> Self {
                match &record.body {
                    $(Body::$kind(body) => {
                        let mut any = $kind::of(body);
                        any.kind = Some(KindName(Kind::$kind));
                        any.id = Some(Id(id));
                        any.space = Some(SpaceText(record.space.to_string()));
                        any.agent = Some(AgentKey(record.agent));
                        any.at = Some(Time(record.at));
                        any.signature = Some(SignatureHex(signature));
                        any.set_log_id(record.log_id);
                        Self::$kind(any)
                    })*
                }
            }
        }
    };
}

any_record!(
    Genesis,
    Assertion,
    Cosign,
    Vote,
    Epoch,
    Source,
    Retract,
    Supersede,
    Predicate,
    Alias,
    Agent,
    Lens,
    Gold,
    TrustSnapshot,
    Lifecycle
);
