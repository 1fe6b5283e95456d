//! What one key says about the agents that speak of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use stemedb_model::{Cardinality, Key, Millis, Value};

use super::evidence::{Evidence, Statement as Said};
use crate::candidates::Candidates;
use crate::options::{LensName, Options};
use crate::statements::{Statement, Statements};
use crate::values::Canon;

impl Evidence {
    /// Adds what a key says, whole: its live claims, the live votes on them and the gold, as the
    /// `trust` lens hears them by default at `evaluated_at`. What is excluded is not evidence, for or
    /// against. A claim under an opposite predicate denies; so does a vote against. Of one voice the newest
    /// statement is heard, by value where a key has several.
    ///
    /// Every entity is one subject here, so each key is to be added once, under the smallest name.
    /// O(n log n) in claims and facts.
    pub fn testify(&mut self, candidates: &Candidates, evaluated_at: Millis) {
        let options = Options::new(LensName::Trust, evaluated_at);
        let (statements, votes) = Statements::of(candidates, &options);
        let (key, lookup) = (&candidates.key, &statements.lookup);
        let canon = Canon::new(lookup, &key.predicate);
        let cardinality = statements.cardinality;
        self.topic(&key.predicate, cardinality, canon.tolerance());
        // Under cardinality one nothing opposes.
        let sign = |opposing| if opposing { -1.0 } else { 1.0 };
        // One voice is one witness, as it is where lenses count: fresh keys cost nothing.
        let mut newest: BTreeMap<(u32, Option<u32>, bool), &Statement> = BTreeMap::new();
        for claim in statements.in_play() {
            let value = (cardinality != Cardinality::One).then_some(claim.value);
            newest.insert((claim.voice, value, claim.opposing), claim);
        }
        let mut witnesses: Vec<&Statement> = newest.into_values().collect();
        witnesses.sort_unstable_by_key(|claim| claim.position);
        for claim in witnesses {
            let spoken = lookup.agent_name(claim.agent).zip(statements.value(claim));
            let Some((agent, value)) = spoken else { continue };
            self.add(Said {
                position: claim.position,
                agent,
                subject: &key.subject,
                predicate: &key.predicate,
                value,
                weight: claim.confidence * sign(claim.opposing),
            });
        }
        for vote in &votes {
            let Some(claim) = statements.playing(vote.assertion) else { continue };
            let spoken = lookup.agent_name(vote.signer.agent).zip(statements.value(claim));
            let Some((agent, value)) = spoken else { continue };
            self.add(Said {
                position: vote.position,
                agent,
                subject: &key.subject,
                predicate: &key.predicate,
                value,
                weight: vote.weight * sign(claim.opposing),
            });
        }
        for value in gold(candidates, cardinality, &canon) {
            self.gold(&key.subject, &key.predicate, &value);
        }
    }
}

/// What is known to be true of the key, under any name of its entity: under cardinality one the
/// newest alone.
fn gold(candidates: &Candidates, cardinality: Cardinality, canon: &Canon<'_>) -> Vec<Value> {
    let (key, as_of) = (&candidates.key, candidates.as_of);
    let registry = &candidates.registry;
    let subjects = registry.entity(&key.space, &key.subject, as_of);
    let mut gold: Vec<_> = subjects
        .into_iter()
        .flat_map(|subject| registry.gold(&Key { subject, ..key.clone() }, as_of))
        .collect();
    gold.sort_unstable_by_key(|gold| Reverse(gold.position));
    if cardinality == Cardinality::One {
        gold.truncate(1);
    }
    gold.iter().map(|gold| canon.value(&gold.gold.object, None)).collect()
}
