//! What would change.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lens::LensName;
use super::object::ClaimedValue;
use super::record::SourceKey;
use super::resolution::Status;
use super::scalar::{AgentKey, Id, PredicateText, SpaceText, SubjectText, Time};

/// What POST /v1/whatif asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfRequest {
    /// The namespace. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceText>,
    /// What is supposed to be gone: exactly one of these.
    pub drop: Drop,
    /// The lenses. Default: authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 16)]
    pub lenses: Option<Vec<LensName>>,
    /// How many answers to show. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// What is supposed to be gone: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1, max_properties = 1)]
pub struct Drop {
    /// All that rests on a source, as if it were retracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub source: Option<SourceKey>,
    /// All that a key wrote, as if it were revoked from the first position on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub agent: Option<AgentKey>,
    /// One assertion, as if it were retracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub assertion: Option<Id>,
    /// All that was made under an epoch, as if another replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<Id>,
}

/// The answers that would be others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhatIfAnswer {
    /// What the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// When the answers were evaluated.
    pub evaluated_at: Time,
    /// Keys that were looked at: all that it could matter to.
    pub keys: u64,
    /// Answers that would have another winner or another status.
    pub changed_count: u64,
    /// Up to `limit` of them, by key and then in the order of the lenses.
    pub changed: Vec<ChangedAnswer>,
}

/// One answer, as it is and as it would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedAnswer {
    /// The key.
    pub subject: SubjectText,
    /// The key.
    pub predicate: PredicateText,
    /// The lens.
    pub lens: LensName,
    /// As it is.
    pub now: ShortAnswer,
    /// As it would be.
    pub then: ShortAnswer,
}

/// The essentials of a resolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShortAnswer {
    /// The winners.
    pub winners: Vec<ClaimedValue>,
    /// Agreement.
    pub status: Status,
    /// Conflict, 0 to 1.
    pub conflict_score: f64,
    /// Claims that take part.
    pub claims: u64,
}
