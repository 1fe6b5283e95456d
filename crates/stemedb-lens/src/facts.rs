//! Which of the later records about claims hold, and what they say together.

use std::collections::{BTreeMap, HashMap};

use stemedb_model::{LifecycleState, Millis, Position, Principal};

use crate::candidates::{Fact, FactKind};
use crate::lookup::{Lookup, Signer};

/// What holds about claims, each named by its position.
#[derive(Default)]
pub(crate) struct Facts<'a> {
    /// The oldest live retraction of a record.
    pub(crate) retracted: HashMap<Position, Position>,
    /// The newest live lifecycle record of an assertion, and its state.
    pub(crate) lifecycle: HashMap<Position, (Position, LifecycleState)>,
    /// Live cosigns of an assertion, ascending.
    pub(crate) cosigns: HashMap<Position, Vec<&'a Fact>>,
    /// Live supersessions, ascending.
    pub(crate) links: Vec<Link>,
    /// The live vote of each agent on each assertion, ascending.
    pub(crate) votes: Vec<LiveVote<'a>>,
}

/// A live supersession.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) old: Position,
    pub(crate) new: Position,
}

/// The newest live vote of one agent on one assertion.
pub(crate) struct LiveVote<'a> {
    pub(crate) position: Position,
    pub(crate) assertion: Position,
    pub(crate) signer: Signer,
    pub(crate) principal: &'a Principal,
    pub(crate) weight: f64,
}

/// Sorts the facts into what holds.
///
/// A fact holds unless it was recorded after `as_of`, claimed at or after `asserted_before`,
/// written from the position on that its author is revoked from, or retracted by a retraction that
/// holds. Retractions name earlier records, so one walk from the newest fact to the oldest decides
/// all. Time O(n log n).
pub(crate) fn live_facts<'a>(
    facts: &'a [Fact],
    asserted_before: Option<Millis>,
    lookup: &mut Lookup,
) -> Facts<'a> {
    let mut newest_first: Vec<&Fact> = facts
        .iter()
        .filter(|fact| {
            fact.position <= lookup.as_of()
                && asserted_before.is_none_or(|before| fact.at < before)
                && lookup.comment_revoked_by(&fact.agent, fact.position).is_none()
        })
        .collect();
    newest_first.sort_unstable_by_key(|fact| std::cmp::Reverse(fact.position));
    newest_first.dedup_by_key(|fact| fact.position);

    let mut held = Facts::default();
    let mut votes = BTreeMap::new();
    for fact in newest_first {
        // A fact about a later record is in no admitted log and says nothing.
        if held.retracted.contains_key(&fact.position) || fact.target >= fact.position {
            continue;
        }
        match fact.kind {
            FactKind::Retract => {
                // The last one to be entered is the oldest.
                held.retracted.insert(fact.target, fact.position);
            }
            FactKind::Supersede { new } if new >= fact.position => {}
            FactKind::Supersede { new } => held.links.push(Link { old: fact.target, new }),
            FactKind::Lifecycle { state } => {
                held.lifecycle.entry(fact.target).or_insert((fact.position, state));
            }
            FactKind::Cosign => held.cosigns.entry(fact.target).or_default().push(fact),
            FactKind::Vote { weight } => {
                let signer = lookup.signer(&fact.agent, &fact.principal);
                votes.entry((fact.target, signer.agent)).or_insert(LiveVote {
                    position: fact.position,
                    assertion: fact.target,
                    signer,
                    principal: &fact.principal,
                    weight,
                });
            }
        }
    }
    held.links.reverse();
    held.cosigns.values_mut().for_each(|cosigns| cosigns.reverse());
    held.votes = votes.into_values().collect();
    held
}
