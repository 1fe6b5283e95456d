//! What became of the claims of a key between two moments, and so why an answer changed.

use std::collections::{BTreeMap, HashMap};

use stemedb_model::{LifecycleState, Position, SourceIdent, Tier};

use crate::candidates::{Candidates, FactKind};
use crate::resolution::{Excluded, Reason};
use crate::statements::Standing;

/// One claim, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The assertion.
    pub position: Position,
    /// It denies values of the key, under an opposite predicate.
    pub opposing: bool,
    /// What became of it.
    pub became: Became,
}

/// What can become of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Became {
    /// It was recorded in between; `None`: it takes part.
    Asserted(Option<Excluded>),
    /// It was there before, and belongs to the key now: by an alias or an opposite.
    Joined(Option<Excluded>),
    /// It belongs to the key no more.
    Left,
    /// It took part, and takes none now; or a filter leaves it out of the answer now.
    Excluded(Excluded),
    /// It took no part, and takes part now, at least in the disagreement; why it did not.
    Counts(Excluded),
    /// It is of another tier.
    Tier {
        /// Then.
        was: Tier,
        /// Now.
        now: Tier,
    },
    /// It is in another state.
    Lifecycle {
        /// Then.
        was: LifecycleState,
        /// Now.
        now: LifecycleState,
    },
    /// It counts for somebody else: its agent was registered, or got another operator.
    Voice,
    /// It counts with other claims: what it names was bound to another source.
    Source,
    /// Somebody voted on it, at this position.
    Voted {
        /// The vote.
        by: Position,
        /// From -1 to 1.
        weight: f64,
    },
    /// Somebody stands by it, at this position.
    Cosigned {
        /// The cosign.
        by: Position,
    },
    /// A vote on it or a cosign was taken back, at this position.
    TakenBack {
        /// The retraction.
        by: Position,
    },
}

/// What became of the claims of a key between two moments: the claims by position, and what was said
/// of each in the order in which it was said. A claim that takes no part in either is left out. What
/// was registered about the predicate meanwhile, aliases of subjects that values refer to, another trust
/// table, and time that passed (decay) change answers too, and are no change of a claim.
///
/// `before` and `after` are [`standings`](crate::standings) under the same question, `now` the
/// candidates of the later moment and `since` the position of the earlier one. O(n log n).
pub fn changes(
    before: &[Standing],
    after: &[Standing],
    now: &Candidates,
    since: Position,
) -> Vec<Change> {
    let then: BTreeMap<Position, &Standing> =
        before.iter().map(|one| (one.position, one)).collect();
    let in_both =
        |one: &&Standing| heard(one) && then.get(&one.position).is_some_and(|other| heard(other));
    let sources_now = companions(after.iter().filter(in_both));
    let sources_then =
        companions(after.iter().filter(in_both).filter_map(|one| then.get(&one.position).copied()));
    let mut changes = Vec::new();
    let mut counted = BTreeMap::new();
    for one in after {
        let mut add = |became| {
            changes.push(Change { position: one.position, opposing: one.opposing, became });
        };
        if heard(one) {
            counted.insert(one.position, one.opposing);
        }
        let Some(was) = then.get(&one.position) else {
            add(match one.position > since {
                true => Became::Asserted(one.excluded.clone()),
                false => Became::Joined(one.excluded.clone()),
            });
            continue;
        };
        match (&was.excluded, &one.excluded) {
            (Some(_), Some(_)) if !heard(was) && !heard(one) => {}
            (_, Some(excluded)) if heard(was) && was.excluded != one.excluded => {
                add(Became::Excluded(excluded.clone()));
            }
            (Some(excluded), _) if was.excluded != one.excluded => {
                add(Became::Counts(excluded.clone()));
            }
            _ => {}
        }
        if heard(was) && heard(one) {
            if was.tier != one.tier {
                add(Became::Tier { was: was.tier, now: one.tier });
            }
            if was.state != one.state {
                add(Became::Lifecycle { was: was.state, now: one.state });
            }
            if was.voice != one.voice {
                add(Became::Voice);
            }
            if sources_then.get(&one.position) != sources_now.get(&one.position) {
                add(Became::Source);
            }
        }
    }
    for one in before {
        let gone = after.binary_search_by_key(&one.position, |after| after.position).is_err();
        if gone && heard(one) {
            let (position, opposing) = (one.position, one.opposing);
            changes.push(Change { position, opposing, became: Became::Left });
        }
    }
    // A vote or a cosign that was taken back leads to its claim; the rest shows in how that stands.
    let voices = now
        .facts
        .iter()
        .filter(|fact| matches!(fact.kind, FactKind::Vote { .. } | FactKind::Cosign));
    let about: BTreeMap<Position, Position> =
        voices.map(|fact| (fact.position, fact.target)).collect();
    for fact in now.facts.iter().filter(|fact| fact.position > since) {
        let (position, became) = match fact.kind {
            FactKind::Vote { weight } => (fact.target, Became::Voted { by: fact.position, weight }),
            FactKind::Cosign => (fact.target, Became::Cosigned { by: fact.position }),
            FactKind::Retract => match about.get(&fact.target) {
                Some(claim) => (*claim, Became::TakenBack { by: fact.position }),
                None => continue,
            },
            // They show in how the claim stands.
            FactKind::Supersede { .. } | FactKind::Lifecycle { .. } => continue,
        };
        if let Some(opposing) = counted.get(&position) {
            changes.push(Change { position, opposing: *opposing, became });
        }
    }
    // Stable: what was said stays in its order.
    changes.sort_by_key(|change| change.position);
    changes
}

/// Whether it takes part in the disagreement; what a question filters out does.
fn heard(one: &Standing) -> bool {
    one.excluded.as_ref().is_none_or(|excluded| excluded.reason == Reason::Filtered)
}

/// For each claim the first that has its source. A source that is registered again has another name, and
/// the same claims.
fn companions<'a>(
    standings: impl Iterator<Item = &'a Standing>,
) -> BTreeMap<Position, Option<Position>> {
    let mut first: HashMap<&SourceIdent, Position> = HashMap::new();
    standings
        .map(|one| {
            let first =
                one.source.as_ref().map(|source| *first.entry(source).or_insert(one.position));
            (one.position, first)
        })
        .collect()
}
