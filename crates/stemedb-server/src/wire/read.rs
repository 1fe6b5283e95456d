//! Questions, and pages of answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ack::Exclusion;
use super::lens::LensName;
use super::point::{AsOf, AtLeast, Decay, Tier};
use super::record::{AnyRecord, SourceKey};
use super::resolution::Resolution;
use super::scalar::{
    AgentKey, Class, Id, LifecycleState, PredicateText, SpaceText, SubjectText, Time,
};

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
    /// Of an assertion: its tier, lifecycle state and voice. Left out, and `excluded` with it,
    /// where its key has more claims than a resolution may look at.
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

/// How two records hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// `from` has `to` as its parent.
    Revises,
    /// `from` has `to` among its premises.
    RestsOn,
    /// `from` takes the place of `to`, says the record `by`.
    Supersedes,
    /// `from` was made under the epoch `to`.
    Under,
}

/// That two records hang together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceLink {
    /// The one that refers to the other.
    pub from: Id,
    /// The other.
    pub to: Id,
    /// How.
    pub relation: Relation,
    /// The record that says so, where it is neither of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Id>,
}

/// The neighbourhood of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceAnswer {
    /// What the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// Where it begins, then what is one link away, and so on.
    pub records: Vec<RecordAnswer>,
    /// The links between these.
    pub links: Vec<TraceLink>,
    /// Whether nothing was left out for `depth` or `limit`.
    pub complete: bool,
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
