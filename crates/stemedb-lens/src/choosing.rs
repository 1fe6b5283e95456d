//! The options of step 1: those that decide who takes part, and those that decide who is heard.

use std::collections::{BTreeSet, HashSet};

use stemedb_model::{LifecycleState, Millis, Position, Tier};

use crate::lookup::Lookup;
use crate::options::Options;
use crate::statements::Statement;

/// The options that decide who takes part before the disagreement is taken, but for `valid_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choosing {
    pub(crate) epoch_aware: bool,
    pub(crate) asserted_before: Option<Millis>,
    deprecated: bool,
    rejected: bool,
}

/// Whether two options are about the same claims, but for `valid_at`: a [`Question`](crate::Question)
/// that was made for one can answer the other.
pub fn same_claims(one: &Options, other: &Options) -> bool {
    Choosing::of(one) == Choosing::of(other)
}

impl Choosing {
    pub(crate) fn of(options: &Options) -> Self {
        let named = |state| options.lifecycle.as_ref().is_some_and(|kept| kept.contains(&state));
        Self {
            epoch_aware: options.epoch_aware,
            asserted_before: options.asserted_before,
            deprecated: named(LifecycleState::Deprecated),
            rejected: named(LifecycleState::Rejected),
        }
    }

    pub(crate) fn allows(self, state: LifecycleState) -> bool {
        match state {
            LifecycleState::Deprecated => self.deprecated,
            LifecycleState::Rejected => self.rejected,
            _ => true,
        }
    }
}

/// The options that keep claims from the answer, though not from the disagreement.
pub(crate) struct Filter {
    min_confidence: Option<f64>,
    lifecycle: Option<BTreeSet<LifecycleState>>,
    tiers: Option<BTreeSet<Tier>>,
    agents: Option<HashSet<u32>>,
    sources: Option<HashSet<u32>>,
    /// What a lens of one's own leaves out.
    dropped: HashSet<Position>,
}

impl Filter {
    pub(crate) fn new(lookup: &Lookup, options: &Options) -> Self {
        let agents = options
            .agents
            .as_ref()
            .map(|agents| agents.iter().filter_map(|agent| lookup.agent_number(agent)).collect());
        let sources = options.sources.as_ref().map(|sources| {
            sources.iter().filter_map(|source| lookup.source_number(source)).collect()
        });
        Self {
            min_confidence: options.min_confidence,
            lifecycle: options.lifecycle.clone(),
            tiers: options.tiers.clone(),
            agents,
            sources,
            dropped: HashSet::new(),
        }
    }

    /// Leaves out these too.
    pub(crate) fn drop(&mut self, positions: &HashSet<Position>) {
        self.dropped.extend(positions);
    }

    pub(crate) fn keeps_all(&self) -> bool {
        let Self { min_confidence, lifecycle, tiers, agents, sources, dropped } = self;
        min_confidence.is_none()
            && lifecycle.is_none()
            && tiers.is_none()
            && agents.is_none()
            && sources.is_none()
            && dropped.is_empty()
    }

    pub(crate) fn passes(&self, statement: &Statement) -> bool {
        fn allows<T>(set: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
            set.as_ref().is_none_or(test)
        }
        self.min_confidence.is_none_or(|least| statement.confidence >= least)
            && allows(&self.lifecycle, |states| states.contains(&statement.state))
            && allows(&self.tiers, |tiers| tiers.contains(&statement.tier))
            && allows(&self.agents, |agents| agents.contains(&statement.author))
            && allows(&self.sources, |sources| sources.contains(&statement.source))
            && !self.dropped.contains(&statement.position)
    }
}
