//! Every record kind as JSON: the same form for what a caller sends and what an answer shows.
//!
//! A caller who signs gives `agent`, `at` and `signature`; the canonical bytes are rebuilt from
//! the fields, so the signature proves that nothing was lost on the way. A caller who does not
//! leaves all three out, or gives `at` only, and the server signs.

mod any;
mod body;
mod schema;
#[cfg(test)]
pub(super) mod tests;

use serde::{Deserialize, Serialize};
use serde_json::json;
use stemedb_model::{AgentId, Body, Kind, LogId, Millis, Record, RecordId, Signature, Space};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Ref, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use self::any::{AnyBody, AnyRecord, Incoming, SignedBytes};
use self::schema::{
    ids_schema, kind_schema, meta_schema, opposites_schema, roles_schema, source_keys_schema,
    ties_schema, vector_schema, visual_hash_schema,
};
use super::WireError;
use super::object::ClaimedValue;
use super::scalar::{
    AgentKey, Aggregate, Amount, Bytes, Cardinality, Class, Count, EpochMode, ExpressionText,
    HashHex, Id, KindName, LifecycleState, LogIdHex, Meta, NameText, Number, PredicateText,
    ReasonText, Role, Share, SignatureHex, SpaceText, SubjectText, TieRule, Time, UriText,
    ValueType, VoteWeight,
};

/// A record as a caller asked for it: every field checked, the envelope still open.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The id that the caller expects.
    pub id: Option<RecordId>,
    /// The namespace.
    pub space: Space,
    /// Who signs; absent: the server, for its caller.
    pub agent: Option<AgentId>,
    /// Claimed time.
    pub at: Option<Millis>,
    /// The database it is meant for; absent: this one.
    pub log_id: Option<LogId>,
    /// The caller's signature.
    pub signature: Option<Signature>,
    /// What it says.
    pub body: Body,
}

impl Draft {
    /// The record that this stands for: `agent` and `at` fill what the caller left open, `log_id`
    /// too where the kind has one.
    pub fn record(&self, agent: AgentId, at: Millis, log_id: LogId) -> Record {
        let bound = !matches!(self.body.kind(), Kind::Assertion | Kind::Cosign);
        Record {
            space: self.space.clone(),
            agent: self.agent.unwrap_or(agent),
            at: self.at.unwrap_or(at),
            log_id: if bound { self.log_id.or(Some(log_id)) } else { self.log_id },
            body: self.body.clone(),
        }
    }
}

/// A request body that stands for one record.
pub trait RecordRequest: for<'de> Deserialize<'de> {
    /// The kind.
    const KIND: Kind;

    /// Checks every field.
    fn draft(self) -> Result<Draft, WireError>;
}

macro_rules! record {
    (
        $(#[$doc:meta])*
        $name:ident, $kind:ident,
        required { $($(#[$rm:meta])* $required:ident: $rt:ty,)* }
        optional { $($(#[$om:meta])* $optional:ident: $ot:ty,)* }
    ) => {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$doc])*
        pub struct $name {
            /// The kind of record; may be left out where the path says it.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schema(schema_with = kind_schema::<{ Kind::$kind as u8 }>)]
            pub kind: Option<KindName>,
            /// The id, if the caller knows it: the record must hash to it.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub id: Option<Id>,
            /// The namespace. Default: `default`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub space: Option<SpaceText>,
            /// Who signs. Left out, together with `signature`: the server signs for its caller.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub agent: Option<AgentKey>,
            /// When its author says it was made, at most 5 minutes ahead. May be left out only
            /// with an `Idempotency-Key`, in a record that the server signs.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub at: Option<Time>,
            $($(#[$rm])* pub $required: $rt,)*
            $(
                $(#[$om])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$ot>,
            )*
            /// The agent's signature over the id; with it, `agent` and `at` are needed.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub signature: Option<SignatureHex>,
        }

        impl RecordRequest for $name {
            const KIND: Kind = Kind::$kind;

            fn draft(self) -> Result<Draft, WireError> {
                if let Some(kind) = self.kind
                    && kind.0 != Self::KIND
                {
                    let problem = format!("{}, expected {}", kind.0, Self::KIND);
                    return Err(WireError::field("kind", problem));
                }
                if self.signature.is_some() != self.agent.is_some() {
                    let field = if self.agent.is_some() { "signature" } else { "agent" };
                    let problem = "is missing: a signed record has both agent and signature, one \
                                   that the server signs has neither";
                    return Err(WireError::field(field, problem));
                }
                if self.signature.is_some() && self.at.is_none() {
                    return Err(WireError::field("at", "is missing: a signed record has it"));
                }
                Ok(Draft {
                    id: self.id.map(|id| id.0),
                    space: match &self.space {
                        Some(space) => Space::parse(space.as_str())?,
                        None => Space::default(),
                    },
                    agent: self.agent.map(|agent| agent.0),
                    at: self.at.map(|at| at.0),
                    log_id: Bound::log_id(&self),
                    signature: self.signature.map(|signature| signature.0),
                    body: Body::$kind(self.body()?),
                })
            }
        }
    };
}

/// Assertions and cosigns mean the same in every database; all other kinds are bound to one.
trait Bound {
    fn log_id(&self) -> Option<LogId> {
        None
    }

    fn set_log_id(&mut self, _log_id: Option<LogId>) {}
}

impl Bound for Assertion {}
impl Bound for Cosign {}

macro_rules! bound {
    ($($name:ident),*) => {
        $(impl Bound for $name {
            fn log_id(&self) -> Option<LogId> {
                self.log_id.map(|log_id| log_id.0)
            }

            fn set_log_id(&mut self, log_id: Option<LogId>) {
                self.log_id = log_id.map(LogIdHex);
            }
        })*
    };
}

bound!(
    Genesis,
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

record!(
    /// Position 1 of every log. Never accepted from a caller; here to be shown.
    Genesis, Genesis,
    required {
        /// Version of the record format.
        format: Count,
        /// The root key.
        root: AgentKey,
    }
    optional {
        /// The database it is meant for.
        log_id: LogIdHex,
    }
);

record!(
    /// One claim: `subject` has `predicate` with value `object`.
    #[schema(examples(json!({
        "subject": "drugs/semaglutide", "predicate": "gastroparesis_risk", "object": "rare",
        "confidence": 0.8, "at": "2024-07-01T00:00:00Z",
        "source": {"uri": "https://example.org/label", "class": "regulatory"}
    })))]
    Assertion, Assertion,
    required {
        /// The entity; `/` makes a path. 1 to 512 bytes.
        subject: SubjectText,
        /// The property or relation. 1 to 256 bytes.
        predicate: PredicateText,
        /// The claimed value.
        object: ClaimedValue,
    }
    optional {
        /// The claimant's own certainty. Default 1.
        confidence: Share,
        /// Provenance. Default: the agent itself, class anecdotal.
        source: Provenance,
        /// From when the claim holds in the world, included.
        valid_from: Time,
        /// Until when it holds, excluded.
        valid_to: Time,
        /// The epoch it was made under.
        epoch: Id,
        /// Declared state. Default `proposed`.
        lifecycle: LifecycleState,
        /// The assertion it revises.
        parent: Id,
        /// The assertions it rests on.
        #[schema(schema_with = ids_schema)]
        derived_from: Vec<Id>,
        /// An embedding: f32, little-endian.
        #[schema(schema_with = vector_schema)]
        vector: Bytes,
        /// A perceptual hash, 8 bytes.
        #[schema(schema_with = visual_hash_schema)]
        visual_hash: Bytes,
        /// Free pairs, together at most 4 KiB.
        #[schema(schema_with = meta_schema)]
        meta: Meta,
    }
);

record!(
    /// Another agent stands by an assertion.
    Cosign, Cosign,
    required {
        /// What is stood by.
        assertion: Id,
    }
    optional {}
);

record!(
    /// A signed weight for or against an assertion. The newest per agent and assertion is live.
    Vote, Vote,
    required {
        /// What is voted on.
        assertion: Id,
        /// -1 (against) to 1 (for).
        weight: VoteWeight,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
    }
);

record!(
    /// A named era or paradigm.
    #[schema(examples(json!({"name": "after the 2023 label change", "at": "2024-07-01T00:00:00Z"})))]
    Epoch, Epoch,
    required {
        /// 1 to 512 bytes.
        name: NameText,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// At most 4 KiB.
        description: ReasonText,
        /// An earlier epoch; then `mode` is needed.
        supersedes: Id,
        /// What happens to the claims of the earlier epoch.
        mode: EpochMode,
    }
);

record!(
    /// Registers or re-classifies a source.
    #[schema(examples(json!({
        "keys": [{"uri": "https://example.org/label"}], "class": "regulatory",
        "title": "Prescribing information", "at": "2024-07-01T00:00:00Z"
    })))]
    Source, Source,
    required {
        /// The names of this one source.
        #[schema(schema_with = source_keys_schema)]
        keys: Vec<SourceKey>,
        /// Its class.
        class: Class,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// 1 to 512 bytes.
        title: NameText,
    }
);

record!(
    /// Takes something back: exactly one of `record` and `source`.
    Retract, Retract,
    required {}
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// A record.
        record: Id,
        /// A source: every claim that rests on it is excluded.
        source: SourceKey,
        /// At most 4 KiB.
        reason: ReasonText,
    }
);

record!(
    /// One assertion takes another's place while the new one is live.
    Supersede, Supersede,
    required {
        /// The assertion that retires.
        old: Id,
        /// The assertion that takes its place.
        new: Id,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// At most 4 KiB.
        reason: ReasonText,
    }
);

record!(
    /// Registers a predicate. The newest live record for a name holds.
    #[schema(examples(json!({
        "name": "nausea_rate", "cardinality": "one", "type": "number", "unit": "percent",
        "tolerance": {"absolute": 1.0}, "at": "2024-07-01T00:00:00Z"
    })))]
    Predicate, Predicate,
    required {
        /// The predicate. 1 to 256 bytes.
        name: PredicateText,
        /// One value or a set.
        cardinality: Cardinality,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// The type of its values.
        #[serde(rename = "type")]
        value_type: ValueType,
        /// Its unit, of numbers only. 1 to 512 bytes.
        unit: NameText,
        /// How other units become this one.
        #[schema(max_items = 64)]
        conversions: Vec<Conversion>,
        /// When two numbers or times are one value.
        tolerance: Tolerance,
        /// Predicates that deny this one for the same subject and value.
        #[schema(schema_with = opposites_schema)]
        opposites: Vec<PredicateText>,
        /// Half-life in milliseconds under decay `per_class`.
        half_life: Count,
    }
);

record!(
    /// Two subjects are one entity.
    #[schema(examples(json!({
        "subject": "drugs/ozempic", "other": "drugs/semaglutide", "at": "2024-07-01T00:00:00Z"
    })))]
    Alias, Alias,
    required {
        /// One subject.
        subject: SubjectText,
        /// The other.
        other: SubjectText,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
    }
);

record!(
    /// Registers a key (`ceiling`), puts it in the place of another (`replaces`, `consent`), or
    /// revokes it (`from_position`).
    Agent, Agent,
    required {
        /// The key the record is about.
        key: AgentKey,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// 1 to 512 bytes.
        name: NameText,
        /// The best class that its claims can have.
        ceiling: Class,
        /// Who runs it: agents of one operator are one voice. 1 to 512 bytes.
        operator: NameText,
        /// Rights.
        #[schema(schema_with = roles_schema)]
        roles: Vec<Role>,
        /// The old key, which signs.
        replaces: AgentKey,
        /// The new key's signature over the replacement.
        consent: SignatureHex,
        /// What the key wrote from there on ceases to count.
        from_position: Count,
    }
);

record!(
    /// A named, versioned lens definition.
    #[schema(examples(json!({
        "name": "only-certain", "version": 1, "weight": "claim.confidence", "aggregate": "sum",
        "at": "2024-07-01T00:00:00Z"
    })))]
    Lens, Lens,
    required {
        /// 1 to 512 bytes; not the name of a built-in lens.
        name: NameText,
        /// From 1; a version of a name is defined once.
        version: Count,
        /// CEL over one claim: a number.
        weight: ExpressionText,
        /// How the weights of a value's voices combine.
        aggregate: Aggregate,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// CEL over one claim: a boolean. Absent keeps all.
        filter: ExpressionText,
        /// Order in which ties are broken.
        #[schema(schema_with = ties_schema)]
        ties: Vec<TieRule>,
    }
);

record!(
    /// A known-true value for a key.
    #[schema(examples(json!({
        "subject": "countries/france", "predicate": "capital", "object": "Paris",
        "at": "2024-07-01T00:00:00Z"
    })))]
    Gold, Gold,
    required {
        /// The entity. 1 to 512 bytes.
        subject: SubjectText,
        /// The property. 1 to 256 bytes.
        predicate: PredicateText,
        /// What is true.
        object: ClaimedValue,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
    }
);

record!(
    /// Names a learned trust table: the only way learned trust changes.
    TrustSnapshot, TrustSnapshot,
    required {
        /// The table was learned from the records up to here.
        input_position: Count,
        /// Hash of the method's configuration.
        config: HashHex,
        /// Hash of the learned table.
        table: HashHex,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
    }
);

record!(
    /// Moves an assertion to a state; the newest recorded one holds.
    Lifecycle, Lifecycle,
    required {
        /// What is moved.
        assertion: Id,
        /// Where to.
        state: LifecycleState,
    }
    optional {
        /// The database it is meant for. Default: this one.
        log_id: LogIdHex,
        /// At most 4 KiB.
        reason: ReasonText,
    }
);

/// Where the evidence of a claim comes from; at least one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"uri": "https://example.org/label", "class": "regulatory"})))]
pub struct Provenance {
    /// Where it was found, as written. 1 byte to 2 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<UriText>,
    /// Hash of the evidence itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<HashHex>,
    /// Declared class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
}

/// The name of a source: exactly one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKey {
    /// By address, compared byte for byte.
    Uri(UriText),
    /// By content.
    Evidence(HashHex),
    /// The claimant itself: to filter by, never to register.
    Agent(AgentKey),
}

impl<'de> Deserialize<'de> for SourceKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            uri: Option<UriText>,
            evidence: Option<HashHex>,
            agent: Option<AgentKey>,
        }
        match Fields::deserialize(deserializer)? {
            Fields { uri: Some(uri), evidence: None, agent: None } => Ok(Self::Uri(uri)),
            Fields { uri: None, evidence: Some(hash), agent: None } => Ok(Self::Evidence(hash)),
            Fields { uri: None, evidence: None, agent: Some(key) } => Ok(Self::Agent(key)),
            _ => Err(serde::de::Error::custom("expected exactly one of uri, evidence, agent")),
        }
    }
}

impl PartialSchema for SourceKey {
    fn schema() -> RefOr<Schema> {
        let one = |name: &str, schema: RefOr<Schema>| {
            ObjectBuilder::new()
                .property(name, schema)
                .required(name)
                .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        };
        utoipa::openapi::schema::OneOfBuilder::new()
            .item(one("uri", Ref::from_schema_name("UriText").into()))
            .item(one("evidence", Ref::from_schema_name("HashHex").into()))
            .description(Some("The name of a source: by address or by content"))
            .examples([json!({"uri": "https://example.org/label"})])
            .into()
    }
}

impl ToSchema for SourceKey {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("HashHex".into(), HashHex::schema()));
        schemas.push(("UriText".into(), UriText::schema()));
    }
}

/// `value * multiply + add`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"unit": "fraction", "multiply": 100.0, "add": 0.0})))]
pub struct Conversion {
    /// The unit converted from. 1 to 512 bytes.
    pub unit: NameText,
    /// Not 0.
    pub multiply: Number,
    /// Any finite number.
    pub add: Number,
}

/// Whichever of the two allows more holds; at least one is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"absolute": 1.0})))]
pub struct Tolerance {
    /// In the predicate's unit; milliseconds for times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute: Option<Amount>,
    /// Relative to the centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<Amount>,
}
