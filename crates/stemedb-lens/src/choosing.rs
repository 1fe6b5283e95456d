//! The options of step 1: those that decide who takes part, and those that decide who is heard.

use std::collections::{BTreeSet, HashSet};

use stemedb_model::{AgentId, LifecycleState, Millis, SourceIdent, Tier};

use crate::exclude::{Exclusion, Judged};
use crate::options::Options;

/// The options that decide who takes part before the disagreement is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choosing {
    pub(crate) epoch_aware: bool,
    pub(crate) asserted_before: Option<Millis>,
    pub(crate) valid_at: Millis,
    deprecated: bool,
    rejected: bool,
}

impl Choosing {
    pub(crate) fn of(options: &Options) -> Self {
        let named = |state| options.lifecycle.as_ref().is_some_and(|kept| kept.contains(&state));
        Self {
            epoch_aware: options.epoch_aware,
            asserted_before: options.asserted_before,
            valid_at: options.valid_at,
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
}

impl Filter {
    pub(crate) fn new(exclusion: &Exclusion<'_>, options: &Options) -> Self {
        let lookup = &exclusion.lookup;
        let agents = options.agents.as_ref().map(|agents| {
            let named: HashSet<AgentId> = agents.iter().map(|key| lookup.lineage(key)).collect();
            let authors = exclusion.judged.iter();
            authors
                .filter(|judged| named.contains(&lookup.lineage(&judged.claim.agent)))
                .map(|judged| judged.author)
                .collect()
        });
        let sources = options.sources.as_ref().map(|sources| {
            let named: HashSet<SourceIdent> =
                sources.iter().map(|key| lookup.source_ident(key)).collect();
            let judged = exclusion.judged.iter();
            judged
                .filter(|judged| named.contains(&lookup.source_ident(&judged.claim.source)))
                .map(|judged| judged.source)
                .collect()
        });
        Self {
            min_confidence: options.min_confidence,
            lifecycle: options.lifecycle.clone(),
            tiers: options.tiers.clone(),
            agents,
            sources,
        }
    }

    pub(crate) fn keeps_all(&self) -> bool {
        let Self { min_confidence, lifecycle, tiers, agents, sources } = self;
        min_confidence.is_none()
            && lifecycle.is_none()
            && tiers.is_none()
            && agents.is_none()
            && sources.is_none()
    }

    pub(crate) fn passes(&self, judged: &Judged<'_>) -> bool {
        fn allows<T>(set: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
            set.as_ref().is_none_or(test)
        }
        self.min_confidence.is_none_or(|least| judged.claim.confidence >= least)
            && allows(&self.lifecycle, |states| states.contains(&judged.state))
            && allows(&self.tiers, |tiers| tiers.contains(&judged.tier))
            && allows(&self.agents, |agents| agents.contains(&judged.author))
            && allows(&self.sources, |sources| sources.contains(&judged.source))
    }
}
