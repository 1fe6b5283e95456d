//! What admission asks of the log, answered from a snapshot.

use std::collections::BTreeSet;

use stemedb_lens::FactKind;
use stemedb_model::{Head, Known, Position, RecordId, Tier};

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

    /// The worst of the claim's own tier and those of all it rests on.
    fn tier_now(&self, id: &RecordId) -> Result<Option<Tier>, IndexError> {
        let Some(position) = self.position_of(id)? else { return Ok(None) };
        let Some(signed) = self.signed(position)? else { return Ok(None) };
        let (registry, space, now) = (self.registry(), &signed.record().space, self.position());
        let mut worst = None;
        let mut seen: BTreeSet<Position> = BTreeSet::from([position]);
        let mut todo = vec![position];
        while let Some(position) = todo.pop() {
            let Some(claim) = self.claim(position)? else { return Ok(worst) };
            let tier = registry.base_tier(space, &claim.agent, &claim.source, claim.class, now);
            worst = Some(worst.map_or(tier, |worst: Tier| worst.worst(tier)));
            todo.extend(claim.premises.iter().copied().filter(|premise| seen.insert(*premise)));
        }
        Ok(worst)
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
