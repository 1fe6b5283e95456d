//! Parameters of query strings.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::lens::LensName;
use super::point::{AsOf, AtLeast, Decay, Tier};
use super::scalar::{
    AgentKey, Class, Id, KindName, LifecycleState, List, PredicateText, SpaceText, SubjectText,
    TimeParam, UriText,
};

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
    /// Say what changed since then, and why. With a key and a lens.
    pub diff: Option<AsOf>,
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

/// What GET /v1/trace/{id} asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TraceParams {
    /// How many links far. Default: 8.
    #[param(minimum = 1, maximum = 64)]
    pub depth: Option<u32>,
    /// How many records. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
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
    /// The form. Default: `ndjson`, which an import takes.
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
    /// Quads of RDF 1.2, a record after the other, ascending by position.
    Nquads,
}

/// What GET /v1/feed asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FeedParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// Go on behind this record. Default: from the first one on.
    pub after: Option<AtLeast>,
    /// Only records of these kinds, separated by commas.
    #[param(value_type = Option<Vec<KindName>>, style = Form, explode = false,
        min_items = 1, max_items = 15)]
    pub kind: Option<List<KindName>>,
    /// Only records of this agent.
    pub agent: Option<AgentKey>,
    /// Only assertions about this entity.
    pub subject: Option<SubjectText>,
    /// Only assertions about entities whose name begins so.
    pub subject_prefix: Option<SubjectText>,
    /// Only assertions of this property.
    pub predicate: Option<PredicateText>,
    /// How many records a page holds. Default: 100. Not of a stream.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
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
