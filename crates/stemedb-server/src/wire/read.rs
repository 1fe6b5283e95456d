//! Questions, and pages of answers.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, Schema, SchemaFormat};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::ack::Exclusion;
use super::record::{AnyRecord, SourceKey};
use super::resolution::Resolution;
use super::scalar::{
    AgentKey, Class, Count, Id, Item, LifecycleState, List, PredicateText, SpaceText, SubjectText,
    Time, TimeParam, UriText, integer, string, whole,
};

/// A built-in lens.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LensName {
    /// The value of the newest claimed time.
    Recency,
    /// One vote per independent agent.
    Consensus,
    /// The highest single confidence.
    Confidence,
    /// The best tier that has candidates decides.
    Authority,
    /// Weighed by learned reliability.
    Trust,
    /// Weighed by votes.
    Votes,
    /// No winner: the map of disagreement.
    Skeptic,
    /// Each tier's winner, and conflict across tiers.
    Layered,
}

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
    fn parse(text: &str) -> Result<Self, String> {
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

/// What GET /v1/query asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QueryParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// The entity.
    pub subject: Option<SubjectText>,
    /// The property.
    pub predicate: Option<PredicateText>,
    /// Entities whose name begins so.
    pub subject_prefix: Option<SubjectText>,
    /// Claims of this agent.
    pub agent: Option<AgentKey>,
    /// Claims that name this source by its URI.
    pub source: Option<UriText>,
    /// Claims that declare this class; with a lens, claims of its tier.
    pub class: Option<Class>,
    /// Claims made under this epoch; not with a lens.
    pub epoch: Option<Id>,
    /// Claims declared in one of these states; with a lens, claims in one of these states now.
    /// Separated by commas.
    #[param(value_type = Option<Vec<LifecycleState>>, style = Form, explode = false,
        min_items = 1, max_items = 5)]
    pub lifecycle: Option<List<LifecycleState>>,
    /// The lens. With a key, the answer is one resolution; without, a page of them. Without a
    /// lens, the answer is a page of assertions.
    pub lens: Option<LensName>,
    /// Claims of replaced epochs retire. Default: true. With a lens.
    pub epoch_aware: Option<bool>,
    /// How weights fade. Default: off. With a lens.
    pub decay: Option<Decay>,
    /// Keep only claims at least this certain. With a lens.
    #[param(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f64>,
    /// Keep only claims of these tiers, separated by commas. With a lens.
    #[param(value_type = Option<Vec<Tier>>, style = Form, explode = false,
        min_items = 1, max_items = 6)]
    pub tiers: Option<List<Tier>>,
    /// With more claims than the bound, say so and name no winner, instead of 422. With a lens.
    pub partial: Option<bool>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Keep only what was claimed before this time.
    pub asserted_before: Option<TimeParam>,
    /// Judge validity in the world at this time. Default: when the answer is evaluated.
    pub valid_at: Option<TimeParam>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
    /// How many items a page holds.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where the next page begins, from the one before; all other parameters stay the same.
    pub cursor: Option<String>,
}

/// What GET /v1/skeptic and /v1/layered ask.
#[derive(Debug, Clone, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeyParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// The entity.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
    /// Claims of this agent.
    pub agent: Option<AgentKey>,
    /// Claims that name this source by its URI.
    pub source: Option<UriText>,
    /// Claims in one of these states now, separated by commas.
    #[param(value_type = Option<Vec<LifecycleState>>, style = Form, explode = false,
        min_items = 1, max_items = 5)]
    pub lifecycle: Option<List<LifecycleState>>,
    /// Claims of replaced epochs retire. Default: true.
    pub epoch_aware: Option<bool>,
    /// How weights fade. Default: off.
    pub decay: Option<Decay>,
    /// Keep only claims at least this certain.
    #[param(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f64>,
    /// Keep only claims of these tiers, separated by commas.
    #[param(value_type = Option<Vec<Tier>>, style = Form, explode = false,
        min_items = 1, max_items = 6)]
    pub tiers: Option<List<Tier>>,
    /// With more claims than the bound, say so and name no winner, instead of 422.
    pub partial: Option<bool>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Keep only what was claimed before this time.
    pub asserted_before: Option<TimeParam>,
    /// Judge validity in the world at this time. Default: when the answer is evaluated.
    pub valid_at: Option<TimeParam>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
}

/// What GET /v1/records/{id} and /v1/assertions/{id} ask.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordParams {
    /// The namespace. Default: any; an id is one record wherever it lives.
    pub space: Option<SpaceText>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
}

/// What GET /v1/export asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// The namespace. Default: all of them.
    pub space: Option<SpaceText>,
    /// Leave out what takes no part in answers. Default: true.
    pub live: Option<bool>,
    /// Records after this position.
    #[param(minimum = 0, maximum = 9223372036854775807_i64)]
    pub after: Option<u64>,
    /// The form; `ndjson` is the only one yet.
    pub format: Option<ExportFormat>,
    /// Export what the database held then.
    pub as_of: Option<AsOf>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// One JSON record a line, ascending by position.
    Ndjson,
}

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

/// A key inside the space of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"subject": "drugs/semaglutide", "predicate": "gastroparesis_risk"})))]
pub struct KeyRef {
    /// The entity.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
}

/// Many keys under many lenses, all at one position.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "keys": [{"subject": "drugs/semaglutide", "predicate": "gastroparesis_risk"}],
    "lenses": ["authority", "consensus"]
})))]
pub struct ResolveRequest {
    /// The namespace. Default: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceText>,
    /// The keys; answers come in this order.
    #[schema(min_items = 1, max_items = 1000)]
    pub keys: Vec<KeyRef>,
    /// The lenses; answers to one key come in this order. Default: authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 16)]
    pub lenses: Option<Vec<LensName>>,
    /// Claims of replaced epochs retire. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch_aware: Option<bool>,
    /// How weights fade. Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
    /// Keep only claims at least this certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f64>,
    /// Keep only claims in these states. Default: all but deprecated and rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 5)]
    pub lifecycle: Option<Vec<LifecycleState>>,
    /// Keep only claims of these tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 6)]
    pub tiers: Option<Vec<Tier>>,
    /// Keep only claims of these agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1000)]
    pub agents: Option<Vec<AgentKey>>,
    /// Keep only claims of these sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1000)]
    pub sources: Option<Vec<SourceKey>>,
    /// With more claims than the bound, say so and name no winner, instead of 422.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// Answer as the database would have then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// Keep only what was claimed before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asserted_before: Option<Time>,
    /// Judge validity in the world at this time. Default: when the answer is evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_at: Option<Time>,
    /// Wait until this much of the log is readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<AtLeast>,
}

/// The answers to one key, in the order of the lenses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedKey {
    /// The entity, as asked.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
    /// One answer a lens.
    pub resolutions: Vec<Resolution>,
}

/// The answers to a [`ResolveRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResolveResult {
    /// All answers are what the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// Weights were taken at this time.
    pub evaluated_at: Time,
    /// Validity was judged at this time.
    pub valid_at: Time,
    /// In the order of the keys.
    pub results: Vec<ResolvedKey>,
}

/// A record as the log holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoredRecord {
    /// Its number in the log.
    pub position: u64,
    /// When it was committed.
    pub recorded_at: Time,
    /// Owner of the API key it came through.
    pub principal: String,
    /// Whether the server signed for its caller.
    pub custodial: bool,
    /// The record, with its id and signature.
    pub record: AnyRecord,
}

/// A record, and how it stands at the position of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordAnswer {
    /// Its number in the log.
    pub position: u64,
    /// When it was committed.
    pub recorded_at: Time,
    /// Owner of the API key it came through.
    pub principal: String,
    /// Whether the server signed for its caller.
    pub custodial: bool,
    /// The record, with its id and signature.
    pub record: AnyRecord,
    /// Why it does not count, if it does not: of an assertion, under default options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Exclusion>,
    /// Of an assertion: its tier, lifecycle state and voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Names the state of the database that this was read from.
    pub snapshot: String,
    /// Of an assertion asked for as such: what others said of it, ascending by position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Vec<Fact>>,
}

/// How an assertion stands, whatever its author declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// The worst of what its author, its source and its premises allow, 0 the best.
    #[schema(minimum = 0, maximum = 5)]
    pub tier: u8,
    /// The class that this tier is named by.
    pub class: Class,
    /// Its state now.
    pub lifecycle: LifecycleState,
    /// Whom it counts for: an operator, a registered agent or a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
}

/// What a later record says of an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the kinds of record of these names")]
pub enum FactKind {
    Retract,
    Supersede,
    Vote,
    Cosign,
    Lifecycle,
}

/// A later record about an assertion, or about such a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fact {
    /// The record that says so.
    pub id: Id,
    /// Its number in the log.
    pub position: u64,
    /// The record it is about.
    pub target: Id,
    /// What it is.
    pub kind: FactKind,
    /// Who signed it.
    pub agent: AgentKey,
    /// Claimed time.
    pub at: Time,
    /// When it was committed.
    pub recorded_at: Time,
    /// Of a vote: for (positive) or against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Of a lifecycle record: the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<LifecycleState>,
    /// Of a supersession: the assertion that takes the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Id>,
}

/// A page of assertions, ascending by position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AssertionPage {
    /// All pages are what the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// When the question was evaluated.
    pub evaluated_at: Time,
    /// The assertions.
    pub assertions: Vec<StoredRecord>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    pub cursor: Option<String>,
}

/// A page of resolutions, by subject and predicate in byte order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResolutionPage {
    /// All pages are what the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// When the question was evaluated.
    pub evaluated_at: Time,
    /// Validity was judged at this time.
    pub valid_at: Time,
    /// The answers.
    pub resolutions: Vec<Resolution>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    pub cursor: Option<String>,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum QueryResult {
    /// With a key and a lens.
    Resolution(Box<Resolution>),
    /// With a lens only.
    Resolutions(ResolutionPage),
    /// Without a lens.
    Assertions(AssertionPage),
}

/// What POST /v1/import asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportParams {
    /// Which results to send. Default: `all`.
    pub results: Option<ImportResults>,
}

/// Which results of an import are sent; the summary always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImportResults {
    /// One a line.
    All,
    /// Those of lines that were not written.
    Errors,
}

/// What GET /readyz asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadyParams {
    /// Ready for what. Default: everything.
    #[serde(rename = "for")]
    pub what: Option<ReadyFor>,
}

/// What a node may be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadyFor {
    /// Questions.
    Read,
    /// Records.
    Write,
}

/// What POST /v1/admin/node/drain asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DrainParams {
    /// How long to wait, in milliseconds. Default: the server's `drain_timeout_ms`.
    #[param(minimum = 0, maximum = 600000)]
    pub timeout_ms: Option<u64>,
}
