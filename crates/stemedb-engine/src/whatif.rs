//! Which answers would be others if something had never been said, worked out without saying so.

use std::collections::{BTreeSet, HashSet};

use stemedb_index::{Filter, KeyFilter, Referrer};
use stemedb_lens::{Candidates, Fact, FactKind, Options, Resolution, resolve_many};
use stemedb_model::{
    Agent, AgentAct, AgentId, Body, Epoch, EpochMode, Key, Position, Principal, Record, RecordId,
    Registry, Retract, RetractTarget, SourceKey, Space,
};

use crate::error::ReadError;
use crate::trust::reliability;
use crate::view::{View, key_of};

/// Positions asked for at a time.
const PAGE: usize = 1_000;
/// No record hashes to it.
const SUPPOSED: RecordId = RecordId([0xff; 32]);

/// What is supposed to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// All that rests on a source, as if it were retracted.
    Source(SourceKey),
    /// All that a key wrote, as if it were revoked from the first position on.
    Agent(AgentId),
    /// One assertion, as if it were retracted.
    Assertion(RecordId),
    /// All that was made under an epoch, as if another replaced it.
    Epoch(RecordId),
}

/// What would change.
#[derive(Debug, Clone)]
pub struct WhatIf {
    /// The answers that would be others, by key and then in the order of the lenses asked for.
    pub changed: Vec<Changed>,
    /// How many would be others, those that were left out for the bound among them.
    pub changed_count: u64,
    /// Keys that were looked at: all that what is gone could matter to.
    pub keys: u64,
}

/// One answer, as it is and as it would be.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As it is.
    pub now: Resolution,
    /// As it would be.
    pub then: Resolution,
}

/// How much is looked at and shown.
#[derive(Debug, Clone, Copy)]
pub struct WhatIfBounds {
    /// Keys to look at; more are [`ReadError::WhatIfTooLarge`].
    pub keys_max: usize,
    /// Answers to show.
    pub shown_max: usize,
}

/// The registries and facts of a log that has one record more.
struct Supposed {
    registry: Registry,
    fact: Option<Fact>,
}

impl View {
    /// The answers of the newest state that would be others, under any of `options`, if `dropped` were
    /// gone: another winner, or another status. `None` if there is no such record, and for the root key.
    ///
    /// Exact: what rests on it falls with it, transitively, and what it had replaced comes back. Costs
    /// two resolutions for each key that it could matter to, each within the bound of
    /// [`View::resolve`]; for an agent that wrote records of registries these are all keys of the space.
    pub fn what_if(
        &self,
        space: &Space,
        dropped: &Dropped,
        options: &[Options],
        bounds: WhatIfBounds,
    ) -> Result<Option<WhatIf>, ReadError> {
        let Some(supposed) = self.suppose(space, dropped)? else { return Ok(None) };
        let keys = self.concerned(space, dropped, &supposed.registry, bounds.keys_max)?;
        let trust = match options.iter().any(Options::uses_trust) {
            true => self.trust(space)?,
            false => None,
        };
        let claims_max = self.shared.config.resolve_claims_max;
        let mut found = WhatIf { changed: Vec::new(), changed_count: 0, keys: keys.len() as u64 };
        for key in keys {
            let now = self.candidates(&key)?;
            let snapshot = self.snapshot();
            let mut then = snapshot.candidates_supposing(&supposed.registry, &key, claims_max)?;
            then.facts.extend(supposed.fact.clone());
            let answers = |candidates: &Candidates| {
                resolve_many(candidates, options, reliability(trust.as_ref()))
            };
            for (now, then) in answers(&now).into_iter().zip(answers(&then)) {
                if same(&now, &then) {
                    continue;
                }
                found.changed_count += 1;
                if found.changed.len() < bounds.shown_max {
                    found.changed.push(Changed { now, then });
                }
            }
        }
        Ok(Some(found))
    }

    /// The state with one record more, by root: what it says takes the rest away.
    fn suppose(&self, space: &Space, dropped: &Dropped) -> Result<Option<Supposed>, ReadError> {
        let snapshot = self.snapshot();
        let mut registry = snapshot.registry().clone();
        let genesis = registry.genesis().zip(registry.root(self.position()));
        let Some(((log_id, _), root)) = genesis else { return Ok(None) };
        let at = self.evaluated_at();
        let body = match dropped {
            Dropped::Source(key) => {
                let target = RetractTarget::Source(key.clone());
                Body::Retract(Retract { target, reason: None })
            }
            // Nobody could write that.
            Dropped::Agent(key) if *key == root => return Ok(None),
            Dropped::Agent(key) => {
                let act = AgentAct::Revoke { from_position: Position(1) };
                Body::Agent(Agent { key: *key, act })
            }
            Dropped::Epoch(id) => {
                if registry.epoch(id, self.position()).is_none_or(|epoch| epoch.space != *space) {
                    return Ok(None);
                }
                let supersedes = Some((*id, EpochMode::Replace));
                Body::Epoch(Epoch { name: "supposed".into(), description: None, supersedes })
            }
            Dropped::Assertion(id) => {
                let Some(entry) = self.find(id)? else { return Ok(None) };
                if key_of(&entry).is_none_or(|key| key.space != *space) {
                    return Ok(None);
                }
                let principal = Principal::parse("supposed");
                let principal = principal
                    .map_err(|_| ReadError::NotReady { state: self.shared.gate.state() })?;
                let fact = Fact {
                    position: self.position().next(),
                    target: entry.position,
                    agent: root,
                    principal,
                    at,
                    recorded_at: at,
                    kind: FactKind::Retract,
                };
                return Ok(Some(Supposed { registry, fact: Some(fact) }));
            }
        };
        let record = Record { space: space.clone(), agent: root, at, log_id: Some(log_id), body };
        registry.apply(self.position().next(), SUPPOSED, &record);
        Ok(Some(Supposed { registry, fact: None }))
    }

    /// The keys that it could matter to, under the names of their entities.
    fn concerned(
        &self,
        space: &Space,
        dropped: &Dropped,
        supposed: &Registry,
        keys_max: usize,
    ) -> Result<BTreeSet<Key>, ReadError> {
        let snapshot = self.snapshot();
        let mut concerned = Concerned { view: self, supposed, keys: BTreeSet::new(), keys_max };
        let mut todo = Vec::new();
        match dropped {
            Dropped::Agent(agent) if snapshot.registry().any_by(agent) => {
                let filter = KeyFilter { space: Some(space.clone()), ..KeyFilter::default() };
                // What it registered may hold names together, or apart.
                self.clone().each_key(&filter, |_, key| concerned.add(&key))?;
                return Ok(concerned.keys);
            }
            Dropped::Agent(agent) => {
                todo = self.all(&Filter { agent: Some(*agent), ..Filter::new(space.clone()) })?;
                todo.extend(snapshot.spoken_of_by(agent, self.position())?);
            }
            Dropped::Source(source) => {
                // Every name of the source.
                let names = snapshot.registry().source(space, source, self.position());
                let names = names.map_or_else(|| vec![source.clone()], |source| source.keys);
                for source in names {
                    let filter = Filter { source: Some(source), ..Filter::new(space.clone()) };
                    todo.extend(self.all(&filter)?);
                }
            }
            Dropped::Epoch(id) => {
                let epoch = snapshot.position_of(id)?.unwrap_or(Position::NONE);
                todo = self.all(&Filter { epoch: Some(epoch), ..Filter::new(space.clone()) })?;
            }
            Dropped::Assertion(id) => todo.extend(snapshot.position_of(id)?),
        }
        let mut seen = HashSet::new();
        while let Some(position) = todo.pop() {
            if !seen.insert(position) {
                continue;
            }
            let Some(entry) = self.entry(position)? else { continue };
            let Some(key) = key_of(&entry).filter(|key| key.space == *space) else { continue };
            concerned.add(&key)?;
            // What rests on it falls, and what it replaced comes back.
            todo.extend(self.referrers(Referrer::Dependants, position)?);
            for by in self.referrers(Referrer::Supersessions, position)? {
                if let Some(entry) = self.entry(by)?
                    && let Body::Supersede(supersede) = &entry.signed.record().body
                {
                    todo.extend(snapshot.position_of(&supersede.old)?);
                }
            }
        }
        Ok(concerned.keys)
    }

    /// Positions of all assertions that fit, ascending.
    pub(crate) fn all(&self, filter: &Filter) -> Result<Vec<Position>, ReadError> {
        let mut positions = Vec::new();
        let mut after = None;
        loop {
            let page = self.snapshot().assertions(filter, self.position(), after, PAGE)?;
            positions.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(positions),
            }
        }
    }

    fn referrers(&self, of: Referrer, position: Position) -> Result<Vec<Position>, ReadError> {
        let page = self.snapshot().referrers(of, position, self.position(), None, usize::MAX)?;
        Ok(page.items)
    }
}

struct Concerned<'a> {
    view: &'a View,
    supposed: &'a Registry,
    keys: BTreeSet<Key>,
    keys_max: usize,
}

impl Concerned<'_> {
    /// A key somebody spoke of: the one that answers for it, now and then, and those that it denies.
    fn add(&mut self, key: &Key) -> Result<(), ReadError> {
        let (now, then) = (self.view.position(), self.view.position().next());
        let registry = self.view.snapshot().registry();
        for (registry, at) in [(registry, now), (self.supposed, then)] {
            let subject = registry.canonical_subject(&key.space, &key.subject, at);
            for predicate in registry.denied_by(&key.space, &key.predicate, at) {
                self.insert(Key { subject: subject.clone(), predicate, ..key.clone() })?;
            }
            self.insert(Key { subject, ..key.clone() })?;
        }
        Ok(())
    }

    fn insert(&mut self, key: Key) -> Result<(), ReadError> {
        self.keys.insert(key);
        match self.keys.len() > self.keys_max {
            true => Err(ReadError::WhatIfTooLarge { most: self.keys_max }),
            false => Ok(()),
        }
    }
}

/// Neither another winner nor another status.
fn same(now: &Resolution, then: &Resolution) -> bool {
    let winners = |answer: &Resolution| -> Vec<_> {
        let winners = answer.winners.iter().filter_map(|index| answer.values.get(*index));
        winners.map(|winner| winner.value.clone()).collect()
    };
    now.status == then.status && winners(now) == winners(then)
}
