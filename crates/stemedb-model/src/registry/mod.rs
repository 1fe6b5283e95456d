//! What resolution and rights look up, by position: agents, sources, predicates, aliases, epochs,
//! lenses, gold, trust snapshots, and the retractions that concern those or a source key.
//!
//! A [`Registry`] is a fold over the log. Folding only adds: nothing that a record says is ever
//! taken out, and whether it *holds* is worked out at the lookup, as of a position. So one value
//! answers for every position up to the last one folded, and a clone (a pointer copy) taken at any
//! time keeps answering the same.
//!
//! Invariants:
//! - Records are folded once each, in ascending position; a lookup at `at` sees none above `at`.
//! - Whether a record holds depends on later records only: on retractions of it, and on
//!   revocations of its author. So the question always ends, whatever the log says.
//! - A revocation at position q excludes what its key wrote in `[from_position, q)`. Later records
//!   by the key are refused; one that is in the log all the same was admitted while the key was
//!   reinstated, and stays.
//! - Admission is not repeated here: a record in the log was allowed (see [`crate::admit`]).
//!
//! Choices where the contract is silent: `docs/decisions/2026-11-22-registry-versions.md`.

mod agents;
mod entities;
mod sources;

use std::fmt;
use std::sync::Arc;

use imbl::{OrdMap, Vector};

pub use agents::{AgentState, RoleSet, Voice};
pub use entities::{EpochState, GoldState, LensState, TrustState};
pub use sources::{SourceIdent, SourceState};

use crate::ids::{AgentId, LogId, Millis, Position, RecordId};
use crate::record::{
    Agent, AgentAct, Alias, Body, Epoch, Gold, Lens, Predicate, Record, RetractTarget, Source,
    SourceKey, TrustSnapshot,
};
use crate::text::{PredicateName, Space, Subject};

/// The registries of all spaces at every position folded so far. Cloning copies pointers.
#[derive(Clone, Default)]
pub struct Registry {
    genesis: Option<Origin>,
    /// Root keys, oldest first: the one of genesis, then those that took its place.
    roots: Vector<Root>,
    records: OrdMap<RecordId, Arc<Held>>,
    /// Retractions by the record they name.
    retractions: OrdMap<RecordId, List>,
    spaces: OrdMap<Space, Tables>,
}

/// Records under one name, ascending by position.
type List = Vector<Arc<Held>>;

#[derive(Clone, Copy)]
struct Origin {
    id: RecordId,
    position: Position,
    log_id: LogId,
    root: AgentId,
}

#[derive(Clone, Copy)]
struct Root {
    position: Position,
    key: AgentId,
}

/// What one space holds.
#[derive(Clone, Default)]
struct Tables {
    agents: OrdMap<AgentId, agents::History>,
    sources: OrdMap<SourceKey, List>,
    source_retractions: OrdMap<SourceKey, List>,
    predicates: OrdMap<PredicateName, List>,
    aliases: OrdMap<Subject, List>,
    /// Epochs by the epoch they supersede.
    superseding: OrdMap<RecordId, List>,
    lenses: OrdMap<Arc<str>, List>,
    gold: OrdMap<(Subject, PredicateName), List>,
    trust: List,
}

/// One folded record.
#[derive(Debug)]
struct Held {
    id: RecordId,
    position: Position,
    space: Space,
    agent: AgentId,
    at: Millis,
    what: What,
}

#[derive(Debug)]
enum What {
    Epoch(Epoch),
    Source(Source),
    Predicate(Arc<Predicate>),
    Alias(Alias),
    Agent(Agent),
    Lens(Arc<Lens>),
    Gold(Arc<Gold>),
    Trust(TrustSnapshot),
    Retract,
}

impl fmt::Debug for Registry {
    /// Sizes only: whole registries have no place in a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("records", &self.records.len())
            .field("spaces", &self.spaces.len())
            .finish()
    }
}

impl Registry {
    /// Folds one record; positions ascend from call to call. `false`, and nothing changed, for
    /// records that no registry holds: assertions, cosigns, votes, supersessions, lifecycle
    /// records and retractions of those; and for an id already folded.
    ///
    /// Time O(log n) in the records held.
    pub fn apply(&mut self, position: Position, id: RecordId, record: &Record) -> bool {
        if self.records.contains_key(&id) || self.genesis.is_some_and(|genesis| genesis.id == id) {
            return false;
        }
        let what = match &record.body {
            Body::Genesis(genesis) => {
                let Some(log_id) = record.log_id.filter(|_| self.genesis.is_none()) else {
                    return false;
                };
                self.genesis = Some(Origin { id, position, log_id, root: genesis.root });
                self.roots.push_back(Root { position, key: genesis.root });
                return true;
            }
            Body::Epoch(epoch) => What::Epoch(epoch.clone()),
            Body::Source(source) => What::Source(source.clone()),
            Body::Predicate(predicate) => What::Predicate(Arc::new(predicate.clone())),
            Body::Alias(alias) => What::Alias(alias.clone()),
            Body::Agent(agent) => What::Agent(agent.clone()),
            Body::Lens(lens) => What::Lens(Arc::new(lens.clone())),
            Body::Gold(gold) => What::Gold(Arc::new(gold.clone())),
            Body::TrustSnapshot(snapshot) => What::Trust(snapshot.clone()),
            Body::Retract(retract) => match &retract.target {
                RetractTarget::Record(target) if !self.records.contains_key(target) => {
                    return false;
                }
                RetractTarget::Record(_) | RetractTarget::Source(_) => What::Retract,
            },
            Body::Assertion(_)
            | Body::Cosign(_)
            | Body::Vote(_)
            | Body::Supersede(_)
            | Body::Lifecycle(_) => return false,
        };
        let held = Arc::new(Held {
            id,
            position,
            space: record.space.clone(),
            agent: record.agent,
            at: record.at,
            what,
        });
        self.records.insert(id, held.clone());
        self.file(&held, &record.body);
        true
    }

    /// Enters a record under every name it is looked up by.
    fn file(&mut self, held: &Arc<Held>, body: &Body) {
        let tables = self.spaces.entry(held.space.clone()).or_default();
        match body {
            Body::Epoch(epoch) => {
                if let Some((superseded, _)) = epoch.supersedes {
                    push(&mut tables.superseding, superseded, held);
                }
            }
            Body::Source(source) => {
                for key in &source.keys {
                    push(&mut tables.sources, key.clone(), held);
                }
            }
            Body::Predicate(predicate) => {
                push(&mut tables.predicates, predicate.name.clone(), held);
            }
            Body::Alias(alias) => {
                push(&mut tables.aliases, alias.subject.clone(), held);
                push(&mut tables.aliases, alias.other.clone(), held);
            }
            Body::Agent(agent) => {
                agents::file(&mut tables.agents, agent, held);
                let root = self.roots.last().map(|root| root.key);
                if let AgentAct::Replace { replaces, .. } = agent.act
                    && root == Some(replaces)
                {
                    self.roots.push_back(Root { position: held.position, key: agent.key });
                }
            }
            Body::Lens(lens) => push(&mut tables.lenses, lens.name.clone(), held),
            Body::Gold(gold) => {
                push(&mut tables.gold, (gold.subject.clone(), gold.predicate.clone()), held);
            }
            Body::TrustSnapshot(_) => tables.trust.push_back(held.clone()),
            Body::Retract(retract) => match &retract.target {
                RetractTarget::Record(target) => push(&mut self.retractions, *target, held),
                RetractTarget::Source(key) => {
                    push(&mut tables.source_retractions, key.clone(), held);
                }
            },
            Body::Genesis(_)
            | Body::Assertion(_)
            | Body::Cosign(_)
            | Body::Vote(_)
            | Body::Supersede(_)
            | Body::Lifecycle(_) => {}
        }
    }

    /// The name of the database and the key that genesis made root; `None` before genesis.
    pub fn genesis(&self) -> Option<(LogId, AgentId)> {
        self.genesis.map(|genesis| (genesis.log_id, genesis.root))
    }

    /// The root key as of `at`.
    pub fn root(&self, at: Position) -> Option<AgentId> {
        self.roots.iter().rev().find(|root| root.position <= at).map(|root| root.key)
    }

    /// Whether a record that the registry folds holds as of `at`: neither retracted nor ceased by
    /// a revocation of its author. A newer record that takes its place does not end that. `None`
    /// if no registry holds this id as of `at`.
    pub fn holds(&self, id: &RecordId, at: Position) -> Option<bool> {
        if let Some(genesis) = self.genesis
            && genesis.id == *id
        {
            return (genesis.position <= at).then_some(true);
        }
        let held = self.records.get(id).filter(|held| held.position <= at)?;
        Some(self.live(held, at, None))
    }

    fn tables(&self, space: &Space) -> Option<&Tables> {
        self.spaces.get(space)
    }

    /// Whether any record of a registry is by `agent`, live or not. Costs the records held.
    pub fn any_by(&self, agent: &AgentId) -> bool {
        self.records.values().any(|held| held.agent == *agent)
    }

    /// The newest of `list` that holds as of `at`.
    fn newest<'a>(&'a self, list: Option<&'a List>, at: Position) -> Option<&'a Arc<Held>> {
        list?.iter().rev().find(|held| self.live(held, at, None))
    }

    /// Whether `held` is there as of `at`, not ceased, and no live retraction names it. With
    /// `before`, only retractions with a claimed time below it exist.
    ///
    /// Costs the length of the retraction chains on it; no recursion, so a chain of retractions
    /// of retractions, which anyone may write, cannot exhaust the stack.
    fn live(&self, held: &Held, at: Position, before: Option<Millis>) -> bool {
        if !self.stands(held, at) {
            return false;
        }
        if !self.retractions.contains_key(&held.id) {
            return true;
        }
        // Each item of the stack is a record, as the retractions of it that are still to be
        // looked at; each retracts the record below it.
        let mut stack = vec![self.retractions_of(held, at, before)];
        while let Some(top) = stack.last_mut() {
            if let Some(retraction) = top.next() {
                let next = self.retractions_of(retraction, at, before);
                stack.push(next);
                continue;
            }
            // Nothing retracts the top: it holds, and what it retracts does not.
            stack.pop();
            if stack.pop().is_none() {
                return true;
            }
        }
        false
    }

    fn retractions_of<'a>(
        &'a self,
        held: &Held,
        at: Position,
        before: Option<Millis>,
    ) -> impl Iterator<Item = &'a Arc<Held>> + use<'a> {
        self.retractions.get(&held.id).into_iter().flatten().filter(move |retraction| {
            before.is_none_or(|before| retraction.at < before) && self.stands(retraction, at)
        })
    }

    /// Whether `held` is there as of `at` and its author's revocation does not reach it.
    fn stands(&self, held: &Held, at: Position) -> bool {
        held.position <= at && self.counts(&held.space, &held.agent, held.position, at)
    }
}

/// Appends to the list of `name`.
fn push<K: Ord + Clone>(map: &mut OrdMap<K, List>, name: K, held: &Arc<Held>) {
    map.entry(name).or_default().push_back(held.clone());
}
