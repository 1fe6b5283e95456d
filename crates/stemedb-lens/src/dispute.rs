//! How far a key is in dispute, without asking any lens: what a list of conflicts keeps of it.

use stemedb_model::Millis;

use crate::camp::Sides;
use crate::disagreement::disagree;
use crate::question::Question;
use crate::resolution::Status;

/// The disagreement about a key, as every lens tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dispute {
    /// Agreement.
    pub status: Status,
    /// min(1, entropy of the shares in bits).
    pub conflict_score: f64,
    /// 2^entropy; 0 without candidates.
    pub effective_values: f64,
    /// Share of the first value less that of the second.
    pub margin: f64,
    /// Effective number of independent voices.
    pub evidence: f64,
    /// Candidate values.
    pub values: u64,
    /// Assertions that take part.
    pub claims: u64,
    /// When the next claim begins or ceases to be valid, after the time asked about: until then, and
    /// while nothing is recorded, all of this stays so.
    pub until: Option<Millis>,
    /// Some value refers to a subject, so that an alias may join or part values.
    pub refers: bool,
    /// Some claim is there for a cosigner, its author being revoked.
    pub by_cosigner: bool,
}

impl Question {
    /// The disagreement at `valid_at`, which the question must be ready for. O(v log v) in the distinct
    /// values.
    pub fn dispute(&self, valid_at: Millis) -> Dispute {
        debug_assert!(self.ready(valid_at), "not that question");
        let sides: Vec<Sides<'_>> = self.candidates().map(|one| one.camps.sides()).collect();
        let disagreement = disagree(&sides, self.many);
        let (all, out) = self.statements.counts();
        Dispute {
            status: disagreement.status,
            conflict_score: disagreement.conflict_score,
            effective_values: disagreement.effective_values,
            margin: disagreement.margin,
            evidence: disagreement.evidence,
            values: sides.iter().filter(|sides| !sides.yes.is_empty()).count() as u64,
            claims: (all - out) as u64,
            until: self.statements.next_bound(valid_at),
            refers: self.statements.refers(),
            by_cosigner: self.statements.by_cosigner(),
        }
    }
}
