//! The answer, with the disagreement and the reasons.

use std::sync::Arc;

use arrayvec::ArrayVec;
use stemedb_model::{Hash, Key, Millis, Position, SourceClass, Tier, Value};

use crate::BECAUSE_MAX;
use crate::custom::{CustomLens, LensFault};
use crate::options::LensName;
use crate::values::text_bytes;

/// Why an assertion takes no part, in the order of [`Reason::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the reasons are specified in docs/format/answer.md")]
pub enum Reason {
    Retracted,
    SourceRetracted,
    Superseded,
    Replaced,
    EpochSuperseded,
    Lifecycle,
    NotValidThen,
    AgentRevoked,
    Undermined,
    Filtered,
}

impl Reason {
    /// All reasons, in the order in which the first one is told.
    pub const ALL: [Self; 10] = [
        Self::Retracted,
        Self::SourceRetracted,
        Self::Superseded,
        Self::Replaced,
        Self::EpochSuperseded,
        Self::Lifecycle,
        Self::NotValidThen,
        Self::AgentRevoked,
        Self::Undermined,
        Self::Filtered,
    ];

    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retracted => "retracted",
            Self::SourceRetracted => "source_retracted",
            Self::Superseded => "superseded",
            Self::Replaced => "replaced",
            Self::EpochSuperseded => "epoch_superseded",
            Self::Lifecycle => "lifecycle",
            Self::NotValidThen => "not_valid_then",
            Self::AgentRevoked => "agent_revoked",
            Self::Undermined => "undermined",
            Self::Filtered => "filtered",
        }
    }
}

/// An assertion that takes no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// The assertion.
    pub position: Position,
    /// The first reason in the order of the model.
    pub reason: Reason,
    /// The record that makes it so, where there is one: the retraction, the superseding assertion,
    /// the newer statement, the epoch, the revocation, the fallen premise.
    pub by: Option<Position>,
}

/// How far the candidates agree, the same under every lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Status {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unanimous => "unanimous",
            Self::Agreed => "agreed",
            Self::Contested => "contested",
        }
    }
}

/// One candidate value and what stands behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueSupport {
    /// The value; of a group within tolerance, its centre.
    pub value: Value,
    /// The exact values that the group holds, the centre first.
    pub members: Arc<[Value]>,
    /// Undecayed independent support, in 2^-30, before filters.
    pub support: u128,
    /// The same of the claims that deny it, under the predicate's opposites; cardinality many.
    pub against: u128,
    /// Share of the disagreement, 0 to 1, a multiple of 2^-52. Under cardinality many, the share
    /// of those for the value in the question of this value.
    pub share: f64,
    /// Weight under the lens, after filters, in the lens's own integer unit.
    pub lens_weight: i128,
    /// The same of the claims that deny it; cardinality many.
    pub lens_against: i128,
    /// Share under the lens, 0 to 1; 0 if the lens gives no weight at all.
    pub lens_share: f64,
    /// Best tier among its claims.
    pub best_tier: Tier,
    /// Assertions, distinct agents and distinct voices behind it, after all exclusions.
    pub claims: u64,
    /// Distinct agents.
    pub agents: u64,
    /// Independent voices.
    pub voices: u64,
    /// The strongest claim of each of its voices, at most [`BECAUSE_MAX`], strongest first.
    pub because: ArrayVec<Position, BECAUSE_MAX>,
}

impl ValueSupport {
    fn weight(&self) -> usize {
        let values = self.members.iter().chain([&self.value]);
        size_of::<Self>()
            + values.map(|value| size_of::<Value>() + text_bytes(value)).sum::<usize>()
    }
}

/// The answer of one authority tier, under the layered lens.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The tier.
    pub tier: Tier,
    /// Its values, heaviest first.
    pub values: Vec<ValueSupport>,
    /// Agreement inside the tier.
    pub status: Status,
    /// Entropy inside the tier, at most 1.
    pub conflict_score: f64,
}

/// Support that went to other values than the winner's, in one tier.
#[derive(Debug, Clone, PartialEq)]
pub struct Dissent {
    /// The tier.
    pub class: SourceClass,
    /// Voices.
    pub voices: u64,
    /// Assertions.
    pub claims: u64,
    /// Undecayed independent support, in 2^-30.
    pub support: u128,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The key, named by the smallest subject of its alias class.
    pub key: Key,
    /// The lens.
    pub lens: LensName,
    /// Its definition, if it is one's own.
    pub custom: Option<Arc<CustomLens>>,
    /// Claims that the definition has no value for, ascending by position: they are `filtered`.
    pub faults: Vec<LensFault>,
    /// Hash of the lens and its options.
    pub lens_hash: Hash,
    /// The answer is what the log up to here says.
    pub position: Position,
    /// Weights were taken at this time.
    pub evaluated_at: Millis,
    /// Validity was judged at this time.
    pub valid_at: Millis,
    /// The winners: none (no candidate, or a lens without winner), one, or under cardinality many
    /// the set; indices into `values`.
    pub winners: Vec<usize>,
    /// Every candidate value, heaviest first under the lens, then by share.
    pub values: Vec<ValueSupport>,
    /// Agreement.
    pub status: Status,
    /// min(1, entropy of the shares in bits).
    pub conflict_score: f64,
    /// 2^entropy; 0 without candidates.
    pub effective_values: f64,
    /// Share of the first value less that of the second.
    pub margin: f64,
    /// The same of the shares under the lens.
    pub lens_margin: f64,
    /// Effective number of independent voices, (sum w)^2 / sum w^2.
    pub evidence: f64,
    /// Assertions considered, excluded or not.
    pub considered: u64,
    /// How many of them are excluded.
    pub excluded_count: u64,
    /// How many for which reason, in the order of [`Reason::ALL`], none of them 0.
    pub excluded_for: Vec<(Reason, u64)>,
    /// The newest of the excluded, at most [`crate::EXCLUDED_MAX`], ascending by position; all of them
    /// are told by [`Question::excluded`](crate::Question::excluded).
    pub excluded: Vec<Excluded>,
    /// Support for other values, by tier, best first.
    pub dissent: Vec<Dissent>,
    /// Under the layered lens, the tiers that have candidates, best first; else empty.
    pub layers: Vec<Layer>,
    /// Under the layered lens, conflict between the tiers' winners; else 0.
    pub cross_tier_conflict: f64,
}

impl Resolution {
    /// Bytes of memory, about. O(values).
    pub fn weight(&self) -> usize {
        let text = self.key.space.as_str().len()
            + self.key.subject.as_str().len()
            + self.key.predicate.as_str().len();
        let values =
            |values: &[ValueSupport]| -> usize { values.iter().map(ValueSupport::weight).sum() };
        let layers = self.layers.iter();
        let layers = layers.map(|layer| size_of::<Layer>() + values(&layer.values));
        size_of::<Self>()
            + text
            + self.winners.len() * size_of::<usize>()
            + values(&self.values)
            + layers.sum::<usize>()
            + self.excluded.len() * size_of::<Excluded>()
            + self.excluded_for.len() * size_of::<(Reason, u64)>()
            + self.dissent.len() * size_of::<Dissent>()
            + self.faults.len() * size_of::<LensFault>()
    }

    /// The winning value, if there is exactly one.
    pub fn winner(&self) -> Option<&ValueSupport> {
        match self.winners.as_slice() {
            [one] => self.values.get(*one),
            _ => None,
        }
    }
}
