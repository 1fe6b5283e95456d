//! Gathering what a resolution is made from.

use std::collections::BTreeSet;

use stemedb_lens::{Candidates, Claim, Fact, FactKind};
use stemedb_model::{Cardinality, Key, Position, PredicateName, Registry, Subject};

use crate::bytes::Malformed;
use crate::error::IndexError;
use crate::fold::key_of;
use crate::format::{Table, last_position, pair_key};
use crate::rows::ClaimsRow;
use crate::snapshot::Snapshot;

impl Snapshot {
    /// Everything that the log says about a key, up to `as_of`: aliases followed, opposites of a
    /// predicate of cardinality many, what the claims rest on, and all facts about any of them.
    /// Empty for a key nobody spoke of.
    ///
    /// Never a part of it: past `claims_max` claims, or as many facts, it is
    /// [`IndexError::TooLarge`] with the count.
    ///
    /// Costs one range scan for each subject of the alias class (and each opposite), and some point
    /// reads for each claim of another key that these rest on. Epochs cost a hash of their record.
    pub fn candidates(
        &self,
        key: &Key,
        as_of: Position,
        claims_max: usize,
    ) -> Result<Candidates, IndexError> {
        let as_of = as_of.min(self.position());
        self.gather(key, self.registry(), as_of, claims_max)
    }

    /// The same of the newest state, supposing that the registries were these: a copy of
    /// [`Snapshot::registry`] with records folded in behind it, at the position after the newest.
    pub fn candidates_supposing(
        &self,
        registry: &Registry,
        key: &Key,
        claims_max: usize,
    ) -> Result<Candidates, IndexError> {
        self.gather(key, registry, self.position().next(), claims_max)
    }

    fn gather(
        &self,
        key: &Key,
        registry: &Registry,
        as_of: Position,
        claims_max: usize,
    ) -> Result<Candidates, IndexError> {
        let subjects = registry.entity(&key.space, &key.subject, as_of);
        let mut gather =
            Gather { snapshot: self, registry, as_of, bound: claims_max, found: Found::default() };
        let mut claims = gather.key(key, &subjects, &key.predicate)?;
        let mut opposing = Vec::new();
        if let Some(predicate) = registry.predicate(&key.space, &key.predicate, as_of)
            && predicate.cardinality == Cardinality::Many
        {
            for opposite in &predicate.opposites {
                if *opposite != key.predicate {
                    opposing.extend(gather.key(key, &subjects, opposite)?);
                }
            }
        }
        gather.check()?;
        claims.sort_unstable_by_key(|claim| claim.position);
        opposing.sort_unstable_by_key(|claim| claim.position);
        let name = subjects.into_iter().next().unwrap_or_else(|| key.subject.clone());
        gather.finish(Key { subject: name, ..key.clone() }, claims, opposing)
    }

    /// The same for one assertion alone, without the others of its key; `None` if none is there.
    pub(crate) fn candidates_of_one(
        &self,
        position: Position,
    ) -> Result<Option<Candidates>, IndexError> {
        let Some(signed) = self.signed(position)? else { return Ok(None) };
        let (Some(key), Some(claim)) = (key_of(signed.record()), self.claim(position)?) else {
            return Ok(None);
        };
        let facts = self.facts_under(position, self.position())?;
        self.depending(key, vec![claim], Vec::new(), facts).map(Some)
    }
}

impl Snapshot {
    /// Claims of a key with all that they depend on, at [`Snapshot::position`]. `facts` are those about
    /// the claims.
    pub(crate) fn depending(
        &self,
        key: Key,
        claims: Vec<Claim>,
        opposing: Vec<Claim>,
        facts: Vec<Fact>,
    ) -> Result<Candidates, IndexError> {
        let found = Found { facts, ..Found::default() };
        let (as_of, registry) = (self.position(), self.registry());
        let gather = Gather { snapshot: self, registry, as_of, bound: usize::MAX, found };
        gather.finish(key, claims, opposing)
    }
}

struct Gather<'a> {
    snapshot: &'a Snapshot,
    registry: &'a Registry,
    as_of: Position,
    bound: usize,
    found: Found,
}

#[derive(Default)]
struct Found {
    claims: usize,
    facts_count: usize,
    facts: Vec<Fact>,
}

impl Gather<'_> {
    /// The claims under one predicate and any of the subjects; their facts go into `found`. Past
    /// the bound it only counts.
    fn key(
        &mut self,
        key: &Key,
        subjects: &[Subject],
        predicate: &PredicateName,
    ) -> Result<Vec<Claim>, IndexError> {
        let mut claims = Vec::new();
        for subject in subjects {
            let key = Key {
                space: key.space.clone(),
                subject: subject.clone(),
                predicate: predicate.clone(),
            };
            if let Some(number) = self.snapshot.key_number(&key)? {
                self.scan(number, subject, predicate, &mut claims)?;
            }
        }
        Ok(claims)
    }

    fn scan(
        &mut self,
        number: u64,
        subject: &Subject,
        predicate: &PredicateName,
        claims: &mut Vec<Claim>,
    ) -> Result<(), IndexError> {
        let snapshot = self.snapshot;
        let range = pair_key(number, Position::NONE)..=pair_key(number, self.as_of);
        for row in snapshot.range(Table::Claims, range) {
            let (key, row) = row?;
            let bad = |Malformed| snapshot.bad(Table::Claims, &key);
            let found = &mut self.found;
            if ClaimsRow::is_claim(&row) {
                found.claims += 1;
            } else {
                found.facts_count += 1;
            }
            if found.claims > self.bound || found.facts_count > self.bound {
                continue;
            }
            let position = last_position(&key).ok_or_else(|| bad(Malformed))?;
            match ClaimsRow::decode(position, &row).map_err(bad)? {
                ClaimsRow::Claim(row) => {
                    claims.push(snapshot.claim_from(position, subject, predicate, row)?);
                }
                ClaimsRow::Fact(row) => found.facts.push(snapshot.fact_from(position, row)?),
            }
        }
        Ok(())
    }

    /// The claims of other keys that these depend on, transitively: premises, and the new ends of
    /// supersessions. Their facts go into `found`.
    fn related(&mut self, from: &[&Vec<Claim>]) -> Result<Vec<Claim>, IndexError> {
        let snapshot = self.snapshot;
        let mut seen: BTreeSet<Position> =
            from.iter().copied().flatten().map(|claim| claim.position).collect();
        let premises = from.iter().copied().flatten().flat_map(|claim| claim.premises.iter());
        let mut todo: Vec<Position> = premises.copied().collect();
        todo.extend(new_ends(&self.found.facts));
        let mut related = Vec::new();
        while let Some(position) = todo.pop() {
            if !seen.insert(position) {
                continue;
            }
            let Some(claim) = snapshot.claim(position)? else {
                let problem = format_args!("no assertion at {position}, which others refer to");
                return Err(snapshot.store().damaged(problem));
            };
            let facts = snapshot.facts_under(position, self.as_of)?;
            self.found.claims += 1;
            self.found.facts_count += facts.len();
            self.check()?;
            todo.extend(claim.premises.iter());
            todo.extend(new_ends(&facts));
            self.found.facts.extend(facts);
            related.push(claim);
        }
        related.sort_unstable_by_key(|claim| claim.position);
        Ok(related)
    }

    fn finish(
        mut self,
        key: Key,
        claims: Vec<Claim>,
        opposing: Vec<Claim>,
    ) -> Result<Candidates, IndexError> {
        let related = self.related(&[&claims, &opposing])?;
        let Self { snapshot, registry, as_of, found: Found { mut facts, .. }, .. } = self;
        facts.sort_unstable_by_key(|fact| fact.position);
        let all = [&claims, &opposing, &related];
        let epochs: BTreeSet<Position> =
            all.into_iter().flatten().filter_map(|claim| claim.epoch).collect();
        let epochs = epochs
            .into_iter()
            .map(|epoch| match snapshot.id(epoch)? {
                Some(id) => Ok((epoch, id)),
                None => Err(snapshot.store().damaged(format_args!("no record of epoch {epoch}"))),
            })
            .collect::<Result<_, _>>()?;
        let registry = registry.clone();
        Ok(Candidates { key, as_of, claims, opposing, related, facts, registry, epochs })
    }

    fn check(&self) -> Result<(), IndexError> {
        let Found { claims, facts_count: facts, .. } = self.found;
        if claims > self.bound || facts > self.bound {
            return Err(IndexError::TooLarge { claims, facts, bound: self.bound });
        }
        Ok(())
    }
}

fn new_ends(facts: &[Fact]) -> impl Iterator<Item = Position> {
    facts.iter().filter_map(|fact| match fact.kind {
        FactKind::Supersede { new } => Some(new),
        _ => None,
    })
}
