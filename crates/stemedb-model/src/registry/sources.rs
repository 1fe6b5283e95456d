//! Sources and the tier of a claim.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Held, Registry, What};
use crate::class::{SourceClass, Tier};
use crate::ids::{AgentId, Millis, Position, RecordId};
use crate::record::SourceKey;
use crate::text::Space;

/// A registered source as of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// The newest live record that binds any of its keys; class and title are that record's.
    pub id: RecordId,
    /// Where that record is.
    pub position: Position,
    /// Its class.
    pub class: SourceClass,
    /// Its title.
    pub title: Option<Arc<str>>,
    /// All its keys, ascending.
    pub keys: Vec<SourceKey>,
}

/// Which source a key names, for "one voice per source". Equal exactly for keys of one source, at
/// one and the same position; not an identity across positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceIdent {
    /// A registered source, by the position of [`SourceState::position`].
    Registered(Position),
    /// A source nobody registered: the key itself.
    Key(SourceKey),
}

impl Registry {
    /// The source that `key` names as of `at`. Keys bound by one live record are one source, so
    /// records that share a key join theirs; the newest of them says what the source is.
    ///
    /// Costs the keys and records of the source.
    pub fn source(&self, space: &Space, key: &SourceKey, at: Position) -> Option<SourceState> {
        let (newest, keys) = self.bound(space, key, at)?;
        let What::Source(source) = &newest.what else { return None };
        Some(SourceState {
            id: newest.id,
            position: newest.position,
            class: source.class,
            title: source.title.clone(),
            keys: keys.into_iter().collect(),
        })
    }

    /// The identity under which a source is heard once, as of `at`.
    pub fn source_id(&self, space: &Space, key: &SourceKey, at: Position) -> SourceIdent {
        match self.bound(space, key, at) {
            Some((newest, _)) => SourceIdent::Registered(newest.position),
            None => SourceIdent::Key(key.clone()),
        }
    }

    /// The oldest live retraction, as of `at`, of any key of the source that `key` names. With
    /// `asserted_before`, only retractions (and their undoings) claimed before it exist.
    pub fn source_retracted(
        &self,
        space: &Space,
        key: &SourceKey,
        at: Position,
        asserted_before: Option<Millis>,
    ) -> Option<Position> {
        let tables = self.tables(space)?;
        // Most databases hold few retracted sources: without any there is nothing to bind.
        if tables.source_retractions.is_empty() {
            return None;
        }
        let of_key = |key: &SourceKey| {
            let oldest = tables.source_retractions.get(key)?.iter().find(|held| {
                asserted_before.is_none_or(|before| held.at < before)
                    && self.live(held, at, asserted_before)
            })?;
            Some(oldest.position)
        };
        match self.bound(space, key, at) {
            Some((_, keys)) => keys.iter().filter_map(of_key).min(),
            None => of_key(key),
        }
    }

    /// The tier of a claim as of `at`, its premises left aside: the worst of the declared class,
    /// the class of its registered source and its agent's ceiling.
    ///
    /// A source nobody registered is expert at best, and so is an agent that is its own source. An
    /// absent class declares nothing if the source is registered, else anecdotal.
    pub fn base_tier(
        &self,
        space: &Space,
        agent: &AgentId,
        source: &SourceKey,
        declared: Option<SourceClass>,
        at: Position,
    ) -> Tier {
        let registered = self.bound(space, source, at).and_then(|(newest, _)| match &newest.what {
            What::Source(source) => Some(source.class),
            _ => None,
        });
        let stated = match registered {
            Some(class) => {
                declared.map_or(class.tier(), |declared| declared.tier().worst(class.tier()))
            }
            None => {
                let declared = declared.unwrap_or(SourceClass::Anecdotal);
                declared.tier().worst(SourceClass::Expert.tier())
            }
        };
        stated.worst(self.ceiling(space, agent, at))
    }

    /// The newest live record of the source that `key` names, and all keys of that source.
    fn bound(
        &self,
        space: &Space,
        key: &SourceKey,
        at: Position,
    ) -> Option<(&Arc<Held>, BTreeSet<SourceKey>)> {
        let sources = &self.tables(space)?.sources;
        sources.get(key)?;
        let mut newest: Option<&Arc<Held>> = None;
        let mut keys = BTreeSet::from([key.clone()]);
        let mut todo = vec![key.clone()];
        while let Some(key) = todo.pop() {
            for held in sources.get(&key).into_iter().flatten() {
                let What::Source(source) = &held.what else { continue };
                if !self.live(held, at, None) {
                    continue;
                }
                if newest.is_none_or(|newest| newest.position < held.position) {
                    newest = Some(held);
                }
                for key in &source.keys {
                    if !keys.contains(key) {
                        keys.insert(key.clone());
                        todo.push(key.clone());
                    }
                }
            }
        }
        Some((newest?, keys))
    }
}
