//! What admission asks of the log, answered from a snapshot.

use stemedb_lens::{FactKind, LensName, Options, standings};
use stemedb_model::{Head, Known, RecordId, Tier};

use crate::error::IndexError;
use crate::snapshot::Snapshot;

/// Answers cannot fail here: an error of the storage reads as "not known" and stops the index, so
/// [`Snapshot::failure`] tells afterwards whether an answer was one.
impl Known for Snapshot {
    fn head(&self, id: &RecordId) -> Option<Head> {
        self.record_head(id).ok().flatten()
    }

    fn tier(&self, id: &RecordId) -> Option<Tier> {
        self.tier_now(id).ok().flatten()
    }

    fn superseded_by(&self, id: &RecordId) -> Vec<RecordId> {
        self.new_ends(id).unwrap_or_default()
    }
}

impl Snapshot {
    fn record_head(&self, id: &RecordId) -> Result<Option<Head>, IndexError> {
        let Some(position) = self.position_of(id)? else { return Ok(None) };
        Ok(self.signed(position)?.map(|signed| Head::of(position, signed.record())))
    }

    /// As resolution has it: premises count, and so does who stands for a revoked author.
    fn tier_now(&self, id: &RecordId) -> Result<Option<Tier>, IndexError> {
        let Some(position) = self.position_of(id)? else { return Ok(None) };
        let Some(candidates) = self.candidates_of_one(position)? else { return Ok(None) };
        // Tiers depend on neither lens nor time.
        let options = Options::new(LensName::Authority, self.recorded_at());
        Ok(standings(&candidates, &options).first().map(|standing| standing.tier))
    }

    fn new_ends(&self, id: &RecordId) -> Result<Vec<RecordId>, IndexError> {
        let Some(old) = self.position_of(id)? else { return Ok(Vec::new()) };
        let mut ends = Vec::new();
        for fact in self.facts_under(old, self.position())? {
            if let FactKind::Supersede { new } = fact.kind
                && fact.target == old
            {
                ends.extend(self.id(new)?);
            }
        }
        Ok(ends)
    }
}
