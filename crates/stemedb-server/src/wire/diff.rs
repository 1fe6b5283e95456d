//! What changed between two answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::object::ClaimedValue;
use super::resolution::{Reference, Status};
use super::scalar::{Id, Time};

/// An answer of before, and why it is another now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The earlier answer was what the log up to here said.
    pub position: u64,
    /// When it was evaluated.
    pub evaluated_at: Time,
    /// Whether value, winners or status are others now.
    pub changed: bool,
    /// The winning value then, if there was exactly one.
    #[schema(required = true)]
    pub value: Option<ClaimedValue>,
    /// The winners then.
    pub winners: Vec<ClaimedValue>,
    /// Agreement then.
    pub status: Status,
    /// Conflict then.
    pub conflict_score: f64,
    /// Share of the first value less that of the second, then.
    pub margin: f64,
    /// The same under the lens, then.
    pub lens_margin: f64,
    /// The trust snapshot in force then, if the lens asks for one and there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_snapshot: Option<Reference>,
    /// Whether the predicate is registered differently now: its unit, tolerance, cardinality, opposites.
    pub predicate_changed: bool,
    /// Every value of either answer: those of now in their order, then those that are gone.
    pub values: Vec<ValueChange>,
    /// What became of the claims in between, by position: the newest 100.
    pub changes: Vec<ClaimChange>,
    /// How many there are.
    pub changes_count: u64,
}

/// A value then and now; 0 where nobody names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValueChange {
    /// The value.
    pub value: ClaimedValue,
    /// Share of the disagreement then.
    pub share_then: f64,
    /// Share of the disagreement now.
    pub share: f64,
    /// Share under the lens then.
    pub lens_share_then: f64,
    /// Share under the lens now.
    pub lens_share: f64,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClaimChange {
    /// The claim.
    pub id: Id,
    /// Its number in the log.
    pub position: u64,
    /// It denies values of the key, under an opposite predicate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opposing: bool,
    /// What became of it.
    pub change: ChangeKind,
    /// Why it takes no part: now, or under `counts` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The record that makes it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Id>,
    /// Tier or state then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// Tier or state now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Of a vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// What can become of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was recorded in between; with a `reason` it takes no part.
    Asserted,
    /// It was there, and belongs to the key now, by an alias or an opposite.
    Joined,
    /// It belongs to the key no more.
    Left,
    /// It took part, and takes none now.
    Excluded,
    /// It took no part, and takes part now.
    Counts,
    /// It is of another tier.
    Tier,
    /// It is in another state.
    Lifecycle,
    /// It counts for somebody else.
    Voice,
    /// It counts with other claims: what it names was bound to another source.
    Source,
    /// Somebody voted on it.
    Voted,
    /// Somebody stands by it.
    Cosigned,
    /// A vote on it or a cosign was taken back.
    TakenBack,
}
