//! The registries at one position, each question asked once: claims share agents and sources.

use std::collections::HashMap;
use std::hash::Hash;

use stemedb_model::{
    AgentId, LifecycleState, Millis, Position, Principal, Registry, SourceClass, SourceIdent,
    SourceKey, Space, Tier, Voice,
};

/// A small number for each distinct thing, in the order of asking.
#[derive(Debug)]
struct Numbers<T>(HashMap<T, u32>);

impl<T: Eq + Hash> Numbers<T> {
    fn of(&mut self, thing: T) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(thing).or_insert(next)
    }
}

/// What resolution asks the registries, as of one position. Numbers stand for agents, voices and
/// sources: they mean something only within one `Lookup` and order nothing.
pub(crate) struct Lookup<'a> {
    registry: &'a Registry,
    space: &'a Space,
    as_of: Position,
    asserted_before: Option<Millis>,
    lineage_names: Vec<AgentId>,
    lineages: Numbers<AgentId>,
    agents: HashMap<AgentId, u32>,
    voice_names: Vec<Voice>,
    voices: Numbers<Voice>,
    voices_asked: HashMap<(AgentId, &'a Principal), u32>,
    sources: Numbers<SourceIdent>,
    sources_asked: HashMap<&'a SourceKey, (u32, Option<Position>)>,
    tiers: HashMap<(AgentId, &'a SourceKey, Option<SourceClass>), Tier>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(
        registry: &'a Registry,
        space: &'a Space,
        as_of: Position,
        asserted_before: Option<Millis>,
    ) -> Self {
        Self {
            registry,
            space,
            as_of,
            asserted_before,
            lineage_names: Vec::new(),
            lineages: Numbers(HashMap::new()),
            agents: HashMap::new(),
            voice_names: Vec::new(),
            voices: Numbers(HashMap::new()),
            voices_asked: HashMap::new(),
            sources: Numbers(HashMap::new()),
            sources_asked: HashMap::new(),
            tiers: HashMap::new(),
        }
    }

    pub(crate) fn registry(&self) -> &'a Registry {
        self.registry
    }

    pub(crate) fn space(&self) -> &'a Space {
        self.space
    }

    pub(crate) fn as_of(&self) -> Position {
        self.as_of
    }

    /// The revocation of `agent`'s key that reaches a record it wrote at `written`.
    pub(crate) fn revoked_by(&self, agent: &AgentId, written: Position) -> Option<Position> {
        self.registry.revoked_by(self.space, agent, written, self.as_of)
    }

    /// The agent behind a key: keys that replaced one another are one.
    pub(crate) fn agent(&mut self, agent: AgentId) -> u32 {
        if let Some(number) = self.agents.get(&agent) {
            return *number;
        }
        let lineage = self.lineage(&agent);
        let number = self.lineages.of(lineage);
        if self.lineage_names.len() < self.lineages.0.len() {
            self.lineage_names.push(lineage);
        }
        self.agents.insert(agent, number);
        number
    }

    /// The first key of the agent that a number stands for.
    pub(crate) fn agent_name(&self, number: u32) -> Option<&AgentId> {
        self.lineage_names.get(number as usize)
    }

    /// The first key of an agent.
    pub(crate) fn lineage(&self, agent: &AgentId) -> AgentId {
        self.registry.lineage(self.space, agent, self.as_of)
    }

    pub(crate) fn ceiling(&self, agent: &AgentId) -> Tier {
        self.registry.agent(self.space, agent, self.as_of).ceiling
    }

    pub(crate) fn voice(&mut self, agent: AgentId, principal: &'a Principal) -> u32 {
        if let Some(number) = self.voices_asked.get(&(agent, principal)) {
            return *number;
        }
        let voice = self.registry.voice(self.space, &agent, principal, self.as_of);
        let number = self.voices.of(voice.clone());
        if self.voice_names.len() < self.voices.0.len() {
            self.voice_names.push(voice);
        }
        self.voices_asked.insert((agent, principal), number);
        number
    }

    /// The voice that a number stands for.
    pub(crate) fn voice_name(&self, number: u32) -> Option<&Voice> {
        self.voice_names.get(number as usize)
    }

    /// The source that a key names, and the retraction that excludes its claims.
    pub(crate) fn source(&mut self, key: &'a SourceKey) -> (u32, Option<Position>) {
        if let Some(known) = self.sources_asked.get(key) {
            return *known;
        }
        let number = self.sources.of(self.source_ident(key));
        let retracted =
            self.registry.source_retracted(self.space, key, self.as_of, self.asserted_before);
        self.sources_asked.insert(key, (number, retracted));
        (number, retracted)
    }

    pub(crate) fn source_ident(&self, key: &SourceKey) -> SourceIdent {
        self.registry.source_id(self.space, key, self.as_of)
    }

    pub(crate) fn base_tier(
        &mut self,
        agent: AgentId,
        source: &'a SourceKey,
        declared: Option<SourceClass>,
    ) -> Tier {
        *self.tiers.entry((agent, source, declared)).or_insert_with(|| {
            self.registry.base_tier(self.space, &agent, source, declared, self.as_of)
        })
    }

    pub(crate) fn declared_lifecycle(
        &self,
        agent: &AgentId,
        declared: LifecycleState,
        written: Position,
    ) -> LifecycleState {
        self.registry.declared_lifecycle(self.space, agent, declared, written)
    }
}
