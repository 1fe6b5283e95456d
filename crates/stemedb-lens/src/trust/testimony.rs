//! What one key says about the agents that speak of it.

use std::cmp::Reverse;

use stemedb_model::{Cardinality, Key, Millis, Value};

use super::evidence::{Evidence, Statement};
use crate::candidates::Candidates;
use crate::exclude::exclude;
use crate::options::{LensName, Options};
use crate::values::Canon;

impl Evidence {
    /// Adds what a key says, whole: its live claims, the live votes on them and the gold, as the
    /// `trust` lens hears them by default at `evaluated_at`. What is excluded is not evidence, for or
    /// against. A claim under an opposite predicate denies; so does a vote against.
    ///
    /// Every entity is one subject here, so each key is to be added once, under the smallest name.
    /// O(n log n) in claims and facts.
    pub fn testify(&mut self, candidates: &Candidates, evaluated_at: Millis) {
        let exclusion = exclude(candidates, &Options::new(LensName::Trust, evaluated_at));
        let key = &candidates.key;
        let canon = Canon::new(&exclusion.lookup, &key.predicate);
        let cardinality = exclusion.cardinality;
        self.topic(&key.predicate, cardinality, canon.tolerance());
        // Under cardinality one nothing opposes.
        let sign = |opposing| if opposing { -1.0 } else { 1.0 };
        let live: Vec<_> = exclusion.judged.iter().filter(|judged| judged.live()).collect();
        let values: Vec<Value> = live
            .iter()
            .map(|judged| {
                let opposite = judged.opposing.then_some(&judged.claim.predicate);
                canon.value(&judged.claim.object, opposite)
            })
            .collect();
        for (judged, value) in live.iter().zip(&values) {
            let Some(agent) = exclusion.lookup.agent_name(judged.agent) else { continue };
            self.add(Statement {
                position: judged.claim.position,
                agent,
                subject: &key.subject,
                predicate: &key.predicate,
                value,
                weight: judged.claim.confidence * sign(judged.opposing),
            });
        }
        for vote in &exclusion.votes {
            let on = live.binary_search_by_key(&vote.assertion, |judged| judged.claim.position);
            let Some((judged, value)) = on.ok().and_then(|on| live.get(on).zip(values.get(on)))
            else {
                continue;
            };
            let Some(agent) = exclusion.lookup.agent_name(vote.signer.agent) else { continue };
            self.add(Statement {
                position: vote.position,
                agent,
                subject: &key.subject,
                predicate: &key.predicate,
                value,
                weight: vote.weight * sign(judged.opposing),
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
