//! Answers of lenses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::diff::Diff;
use super::lens::{LensFault, LensName};
use super::object::ClaimedValue;
use super::scalar::{Class, HashHex, Id, PredicateText, SpaceText, SubjectText, Time};

/// A record, by both of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reference {
    /// Its id.
    pub id: Id,
    /// Its number in the log.
    pub position: u64,
}

/// How far the candidates agree, the same under every lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No candidate.
    Unknown,
    /// One value.
    Unanimous,
    /// The first value leads the second by a third or more.
    Agreed,
    /// It does not.
    Contested,
}

/// One candidate value and what stands behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Candidate)]
pub struct Value {
    /// The value; of a group within tolerance, its centre.
    pub value: ClaimedValue,
    /// The exact values of such a group, the centre first; left out if it is the only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<ClaimedValue>,
    /// Share of the disagreement, 0 to 1.
    pub share: f64,
    /// Undecayed independent support: the sum of confidences, one voice each.
    pub support: f64,
    /// Of a predicate with many values: the same under its opposites.
    pub against: f64,
    /// Share under the lens, 0 to 1.
    pub lens_share: f64,
    /// Weight under the lens, in the lens's own integer unit, as text: it may not fit a float.
    #[schema(pattern = "^-?[0-9]+$")]
    pub lens_weight: String,
    /// Best tier among its claims, 0 the best.
    #[schema(minimum = 0, maximum = 5)]
    pub tier: u8,
    /// The class that this tier is named by.
    pub class: Class,
    /// Assertions behind it.
    pub claims: u64,
    /// Distinct agents behind it.
    pub agents: u64,
    /// Independent voices behind it.
    pub voices: u64,
    /// Its strongest claims, strongest first.
    pub because: Vec<Reference>,
}

/// What fields of schemas call it: the derive takes the name `Value` for any JSON value.
type Candidate = Value;

/// An assertion that takes no part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excluded {
    /// The assertion.
    pub id: Id,
    /// Its number in the log.
    pub position: u64,
    /// The first reason in the order of the model.
    #[schema(example = "retracted")]
    pub reason: String,
    /// The record that makes it so, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Id>,
}

/// Support that went to other values than the winner's, in one tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dissent {
    /// The tier's class.
    pub class: Class,
    /// Independent voices.
    pub voices: u64,
    /// Assertions.
    pub claims: u64,
    /// Undecayed independent support.
    pub support: f64,
}

/// The answer of one authority tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Layer {
    /// The tier, 0 the best.
    #[schema(minimum = 0, maximum = 5)]
    pub tier: u8,
    /// Its class.
    pub class: Class,
    /// Its values, heaviest first.
    pub values: Vec<Candidate>,
    /// Agreement inside the tier.
    pub status: Status,
    /// Conflict inside the tier, 0 to 1.
    pub conflict_score: f64,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resolution {
    /// The namespace.
    pub space: SpaceText,
    /// The entity, by the smallest of its names.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
    /// The lens.
    pub lens: LensName,
    /// Hash of the lens and its options.
    pub lens_hash: HashHex,
    /// Of lenses that ask for learned trust: the snapshot in force, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_snapshot: Option<Reference>,
    /// The answer is what the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// Weights were taken at this time.
    pub evaluated_at: Time,
    /// Validity was judged at this time.
    pub valid_at: Time,
    /// False if there were more claims than the bound: then no winner is named.
    pub complete: bool,
    /// True if damage took records from the log up to here that a repair gave up: the answer may
    /// lack what they said.
    pub history_lost: bool,
    /// The winner, if there is exactly one.
    #[schema(required = true)]
    pub value: Option<ClaimedValue>,
    /// The winners: none, one, or, of a predicate with many values, the set.
    pub winners: Vec<ClaimedValue>,
    /// Agreement.
    pub status: Status,
    /// min(1, entropy of the shares in bits).
    pub conflict_score: f64,
    /// 2^entropy.
    pub effective_values: f64,
    /// Share of the first value less that of the second.
    pub margin: f64,
    /// Share of the winner under the lens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lens_share: Option<f64>,
    /// The margin of the shares under the lens.
    pub lens_margin: f64,
    /// Effective number of independent voices.
    pub evidence: f64,
    /// The strongest claims behind the winners.
    pub because: Vec<Reference>,
    /// Every candidate value, heaviest first under the lens.
    pub candidates: Vec<Candidate>,
    /// Support for other values, by tier, best first.
    pub dissent: Vec<Dissent>,
    /// Assertions considered, excluded or not.
    pub considered: u64,
    /// How many of them are excluded.
    pub excluded_count: u64,
    /// How many for which reason.
    pub excluded_for: BTreeMap<String, u64>,
    /// The newest of the excluded ones, at most 10, ascending by position; the receipt has all of them.
    #[schema(max_items = 10)]
    pub excluded: Vec<Excluded>,
    /// Under the layered lens, the tiers that have candidates, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// Under the layered lens, conflict between the tiers' winners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_tier_conflict: Option<f64>,
    /// Of a lens of one's own: the newest of the claims that it has no value for, at most 10, ascending
    /// by position. They are `filtered`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10)]
    pub faults: Vec<LensFault>,
    /// What changed since `diff`, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Box<Diff>>,
}
