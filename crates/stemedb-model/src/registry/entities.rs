//! Predicates, aliases, epochs, lenses, gold, trust snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Registry, What};
use crate::ids::{Millis, Position, RecordId};
use crate::record::{EpochMode, Gold, Lens, Predicate, TrustSnapshot};
use crate::text::{Key, PredicateName, Space, Subject};

/// An epoch as of a position.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochState {
    /// Where its record is.
    pub position: Position,
    /// The namespace it is in.
    pub space: Space,
    /// Its name.
    pub name: Arc<str>,
    /// The epoch it supersedes, and how.
    pub supersedes: Option<(RecordId, EpochMode)>,
    /// Neither retracted nor ceased by a revocation of its author.
    pub live: bool,
}

/// A lens definition.
#[derive(Debug, Clone, PartialEq)]
pub struct LensState {
    /// Its record.
    pub id: RecordId,
    /// Where that is.
    pub position: Position,
    /// What it says.
    pub lens: Arc<Lens>,
}

/// A known-true value.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldState {
    /// Its record.
    pub id: RecordId,
    /// Where that is.
    pub position: Position,
    /// What it says.
    pub gold: Arc<Gold>,
}

/// The trust in force.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustState {
    /// Its record.
    pub id: RecordId,
    /// Where that is.
    pub position: Position,
    /// What it says.
    pub snapshot: TrustSnapshot,
}

impl Registry {
    /// The newest live registration of a predicate as of `at`.
    pub fn predicate(
        &self,
        space: &Space,
        name: &PredicateName,
        at: Position,
    ) -> Option<Arc<Predicate>> {
        match &self.newest(self.tables(space)?.predicates.get(name), at)?.what {
            What::Predicate(predicate) => Some(predicate.clone()),
            _ => None,
        }
    }

    /// The predicates that `name` is an opposite of as of `at`, ascending. Costs the predicates of the
    /// space.
    pub fn denied_by(
        &self,
        space: &Space,
        name: &PredicateName,
        at: Position,
    ) -> Vec<PredicateName> {
        let Some(tables) = self.tables(space) else { return Vec::new() };
        let names = tables.predicates.keys().filter(|other| {
            self.predicate(space, other, at).is_some_and(|found| found.opposites.contains(name))
        });
        names.cloned().collect()
    }

    /// All subjects that are one entity with `subject` as of `at`, itself included, ascending in
    /// byte order: the first is the name of the entity. Costs the alias records of the entity.
    pub fn entity(&self, space: &Space, subject: &Subject, at: Position) -> Vec<Subject> {
        let mut names = BTreeSet::from([subject.clone()]);
        let Some(tables) = self.tables(space) else { return vec![subject.clone()] };
        let mut todo = vec![subject.clone()];
        while let Some(name) = todo.pop() {
            for held in tables.aliases.get(&name).into_iter().flatten() {
                let What::Alias(alias) = &held.what else { continue };
                let other = if alias.subject == name { &alias.other } else { &alias.subject };
                if !names.contains(other) && self.live(held, at, None) {
                    names.insert(other.clone());
                    todo.push(other.clone());
                }
            }
        }
        names.into_iter().collect()
    }

    /// The name of the entity that `subject` is: the smallest of [`Registry::entity`].
    pub fn canonical_subject(&self, space: &Space, subject: &Subject, at: Position) -> Subject {
        self.entity(space, subject, at).into_iter().next().unwrap_or_else(|| subject.clone())
    }

    /// An epoch by its record, if that is in the log as of `at`.
    pub fn epoch(&self, id: &RecordId, at: Position) -> Option<EpochState> {
        let held = self.records.get(id).filter(|held| held.position <= at)?;
        match &held.what {
            What::Epoch(epoch) => Some(EpochState {
                position: held.position,
                space: held.space.clone(),
                name: epoch.name.clone(),
                supersedes: epoch.supersedes,
                live: self.live(held, at, None),
            }),
            _ => None,
        }
    }

    /// The oldest live epoch record, as of `at`, that replaces `epoch`. With `asserted_before`,
    /// only epochs and retractions claimed before it exist. One step: an epoch that is itself
    /// replaced still retires the one it names.
    pub fn epoch_superseded(
        &self,
        epoch: &RecordId,
        at: Position,
        asserted_before: Option<Millis>,
    ) -> Option<Position> {
        let space = &self.records.get(epoch)?.space;
        let oldest = self.tables(space)?.superseding.get(epoch)?.iter().find(|held| {
            let What::Epoch(newer) = &held.what else { return false };
            matches!(newer.supersedes, Some((_, EpochMode::Replace)))
                && asserted_before.is_none_or(|before| held.at < before)
                && self.live(held, at, asserted_before)
        })?;
        Some(oldest.position)
    }

    /// A live lens definition as of `at`: this version, or the highest one.
    pub fn lens(
        &self,
        space: &Space,
        name: &str,
        version: Option<u64>,
        at: Position,
    ) -> Option<LensState> {
        let list = self.tables(space)?.lenses.get(name)?;
        let found = list.iter().filter_map(|held| match &held.what {
            What::Lens(lens) => Some((held, lens)),
            _ => None,
        });
        let (held, lens) = found
            .filter(|(held, lens)| {
                version.is_none_or(|version| lens.version == version) && self.live(held, at, None)
            })
            .max_by_key(|(_, lens)| lens.version)?;
        Some(LensState { id: held.id, position: held.position, lens: lens.clone() })
    }

    /// All live lens definitions of a space as of `at`, by name and then version.
    pub fn lenses(&self, space: &Space, at: Position) -> Vec<LensState> {
        let lists = self.tables(space).into_iter().flat_map(|tables| tables.lenses.values());
        let held = lists.flatten().filter(|held| self.live(held, at, None));
        let mut found: Vec<LensState> = held
            .filter_map(|held| match &held.what {
                What::Lens(lens) => {
                    Some(LensState { id: held.id, position: held.position, lens: lens.clone() })
                }
                _ => None,
            })
            .collect();
        found.sort_by(|one, other| {
            let order = |state: &LensState| (state.lens.name.clone(), state.lens.version);
            order(one).cmp(&order(other))
        });
        found
    }

    /// The record that defined a version of a lens up to `at`, live or not: it is defined once.
    pub(crate) fn lens_defined(
        &self,
        space: &Space,
        name: &str,
        version: u64,
        at: Position,
    ) -> Option<RecordId> {
        let list = self.tables(space)?.lenses.get(name)?;
        let defined = list.iter().find(|held| match &held.what {
            What::Lens(lens) => lens.version == version && held.position <= at,
            _ => false,
        })?;
        Some(defined.id)
    }

    /// The live gold records of a key as of `at`, newest first. Under cardinality one the first
    /// counts. Aliases are the caller's: ask for every subject of the entity.
    pub fn gold(&self, key: &Key, at: Position) -> Vec<GoldState> {
        let name = (key.subject.clone(), key.predicate.clone());
        let list = self.tables(&key.space).and_then(|tables| tables.gold.get(&name));
        list.into_iter()
            .flatten()
            .rev()
            .filter(|held| self.live(held, at, None))
            .filter_map(|held| match &held.what {
                What::Gold(gold) => {
                    Some(GoldState { id: held.id, position: held.position, gold: gold.clone() })
                }
                _ => None,
            })
            .collect()
    }

    /// The live trust snapshots of a space as of `at`, newest first.
    pub fn trust_snapshots(&self, space: &Space, at: Position) -> impl Iterator<Item = TrustState> {
        let list = self.tables(space).into_iter().flat_map(|tables| tables.trust.iter().rev());
        list.filter(move |held| self.live(held, at, None)).filter_map(|held| match &held.what {
            What::Trust(snapshot) => Some(TrustState {
                id: held.id,
                position: held.position,
                snapshot: snapshot.clone(),
            }),
            _ => None,
        })
    }
}
