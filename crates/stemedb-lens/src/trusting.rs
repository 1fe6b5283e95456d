//! How far the agents of a question are trusted, for as long as sums are kept under it.
//!
//! The weight of a claim under the lens `trust` depends on the claim and on what a table says of one
//! agent. So the sums of a question can be kept under one table, claim by claim, like all its others. The
//! table itself is not kept: it may be large, and newer ones come.

use std::collections::BTreeSet;

use stemedb_model::{AgentId, Hash, Key, Position};

use crate::decay::scaled;
use crate::lenses::{Reliability, UNKNOWN, reliability};
use crate::tally::Strength;

/// What a question knows of the table that its sums are kept under.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trusting {
    /// The table's name; without a table nobody is known.
    table: Option<Hash>,
    /// What the table says of each agent, by number, in 2^-30. Agents that came later are not in it.
    agents: Vec<u32>,
    /// Claims of those: they take part, and weigh nothing here until the table is at hand again.
    unweighed: BTreeSet<Position>,
}

impl Trusting {
    /// Under a table; `None` if it has no name. O(agents).
    pub(crate) fn new(
        trust: Option<&dyn Reliability>,
        agents: &[AgentId],
        key: &Key,
    ) -> Option<Self> {
        let mut trusting = Self::default();
        if let Some(trust) = trust {
            trusting.table = Some(trust.name()?);
            trusting.meet(trust, agents, key);
        }
        Some(trusting)
    }

    /// Whether this is the table.
    pub(crate) fn is_under(&self, trust: Option<&dyn Reliability>) -> bool {
        match trust {
            None => self.table.is_none(),
            Some(trust) => self.table.is_some() && self.table == trust.name(),
        }
    }

    /// Whether every claim is weighed.
    pub(crate) fn is_complete(&self) -> bool {
        self.unweighed.is_empty()
    }

    /// Looks up the agents that came since the table was at hand. Returns the claims to weigh now.
    pub(crate) fn meet(
        &mut self,
        table: &dyn Reliability,
        agents: &[AgentId],
        key: &Key,
    ) -> BTreeSet<Position> {
        let met = agents.iter().skip(self.agents.len());
        // At most 2^30.
        self.agents.extend(met.map(|agent| reliability(Some(table), agent, key) as u32));
        std::mem::take(&mut self.unweighed)
    }

    /// A claim takes part now.
    pub(crate) fn joined(&mut self, position: Position, agent: u32) {
        if self.table.is_some() && self.agents.len() <= agent as usize {
            self.unweighed.insert(position);
        }
    }

    /// A claim takes part no more.
    pub(crate) fn left(&mut self, position: Position) {
        self.unweighed.remove(&position);
    }

    /// What a claim weighs, in 2^-30.
    pub(crate) fn weight(&self, claim: &Strength) -> u128 {
        let reliability = match self.table {
            None => UNKNOWN,
            Some(_) => self.agents.get(claim.agent() as usize).copied().unwrap_or(0).into(),
        };
        scaled(claim.weight(), reliability).into()
    }

    /// Bytes of memory, about, with that many agents: as if a table were in use, since one may be at
    /// any time.
    pub(crate) fn bytes(&self, agents: usize) -> usize {
        agents * size_of::<u32>() + self.unweighed.len() * 24
    }
}
