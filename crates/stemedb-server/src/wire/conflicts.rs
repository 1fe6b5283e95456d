//! Keys in conflict.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::point::AtLeast;
use super::resolution::Status;
use super::scalar::{PredicateText, SpaceText, SubjectText, Time};

/// What GET /v1/conflicts asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConflictParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// Only entities whose name begins so.
    pub subject_prefix: Option<String>,
    /// Only this property.
    pub predicate: Option<PredicateText>,
    /// Only this status: `contested` or `agreed`; of a predicate with many values, that of the most
    /// contested one.
    pub status: Option<Status>,
    /// Only conflict scores from here on, 0 to 1.
    #[param(minimum = 0, maximum = 1)]
    pub score_min: Option<f64>,
    /// Conflicts on a page. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where a page before ended. All other parameters but `limit` must stay the same.
    pub cursor: Option<String>,
    /// Wait until the list tells all that was recorded up to here.
    pub at_least: Option<AtLeast>,
}

/// Keys in conflict, the worst first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConflictsAnswer {
    /// All that was recorded up to here is told; single rows may be newer.
    pub position: u64,
    /// The same, for `at_least`.
    pub snapshot: String,
    /// Keys in conflict in the whole database.
    pub open: u64,
    /// Keys with more claims than a resolution may have: whether they are in conflict is not known.
    pub too_large: u64,
    /// By conflict score, then by effective number of values, both falling.
    pub conflicts: Vec<Conflict>,
    /// Where the next page begins; absent on the last. A page may be short and still have one. The list
    /// goes on changing: a key that moves past the place may be seen twice or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A key about which claims disagree. The figures are those of an answer, the same under every lens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conflict {
    /// The entity, by its smallest name.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
    /// Agreement.
    pub status: Status,
    /// Entropy of the shares in bits, at most 1.
    pub conflict_score: f64,
    /// So many equally strong values would disagree as much.
    pub effective_values: f64,
    /// Share of the first value less that of the second.
    pub margin: f64,
    /// Effective number of independent voices.
    pub evidence: f64,
    /// Distinct values.
    pub values: u64,
    /// Assertions that take part.
    pub claims: u64,
    /// It was judged at this position...
    pub position: u64,
    /// ... and time.
    pub valid_at: Time,
}
