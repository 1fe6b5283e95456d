//! The registries at one position, each question asked once: claims share agents and sources.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use stemedb_model::{
    AgentAct, AgentId, Body, LifecycleState, Millis, Position, Principal, Record, Registry,
    RetractTarget, SourceClass, SourceIdent, SourceKey, Space, Tier, Voice,
};

/// A small number for each distinct thing, in the order of asking.
#[derive(Debug, Clone)]
pub(crate) struct Numbers<T> {
    known: HashMap<T, u32>,
    names: Vec<T>,
}

impl<T: Eq + Hash + Clone> Numbers<T> {
    pub(crate) fn new() -> Self {
        Self { known: HashMap::new(), names: Vec::new() }
    }

    pub(crate) fn of(&mut self, thing: T) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        *self.known.entry(thing).or_insert_with_key(|thing| {
            self.names.push(thing.clone());
            next
        })
    }

    pub(crate) fn known(&self, thing: &T) -> Option<u32> {
        self.known.get(thing).copied()
    }

    pub(crate) fn name(&self, number: u32) -> Option<&T> {
        self.names.get(number as usize)
    }

    pub(crate) fn names(&self) -> &[T] {
        &self.names
    }
}

/// A key of an agent, as a lookup knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signer {
    /// The agent behind it: keys that replaced one another are one.
    pub(crate) agent: u32,
    /// Which key.
    number: u32,
    /// Its voice, unless that is the principal's.
    voice: Option<u32>,
}

/// A name of a source, as a lookup knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    /// The source behind it.
    pub(crate) source: u32,
    /// The retraction that excludes its claims.
    pub(crate) retracted: Option<Position>,
    /// Which name.
    number: u32,
}

/// What resolution asks the registries, as of one position. Numbers stand for agents, voices and
/// sources: they mean something only within one `Lookup` and order nothing.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    registry: Registry,
    space: Space,
    as_of: Position,
    asserted_before: Option<Millis>,
    agents: Numbers<AgentId>,
    voices: Numbers<Voice>,
    sources: Numbers<SourceIdent>,
    signers: HashMap<AgentId, Signer>,
    principals: HashMap<Principal, u32>,
    named: HashMap<SourceKey, Named>,
    tiers: HashMap<(u32, u32, Option<SourceClass>), Tier>,
    /// Who said anything about a claim.
    commenters: HashSet<AgentId>,
}

impl Lookup {
    pub(crate) fn new(
        registry: Registry,
        space: Space,
        as_of: Position,
        asserted_before: Option<Millis>,
    ) -> Self {
        Self {
            registry,
            space,
            as_of,
            asserted_before,
            agents: Numbers::new(),
            voices: Numbers::new(),
            sources: Numbers::new(),
            signers: HashMap::new(),
            principals: HashMap::new(),
            named: HashMap::new(),
            tiers: HashMap::new(),
            commenters: HashSet::new(),
        }
    }

    /// Goes on at a later position, none of the records in between being one that
    /// [`Lookup::concerned_by`].
    pub(crate) fn advance(&mut self, registry: &Registry, as_of: Position) {
        self.registry = registry.clone();
        self.as_of = as_of;
    }

    /// Whether a record that a registry holds may change what was said here already. Never `false`
    /// where it does.
    pub(crate) fn concerned_by(&self, record: &Record) -> bool {
        let knows =
            |agent: &AgentId| self.signers.contains_key(agent) || self.commenters.contains(agent);
        match &record.body {
            // A source that is known here by one key may be bound to others already.
            Body::Source(source) => {
                let knows = |key: &SourceKey| {
                    self.named.contains_key(key) || self.source_number(key).is_some()
                };
                record.space == self.space && source.keys.iter().any(knows)
            }
            Body::Agent(agent) => match &agent.act {
                AgentAct::Register { .. } => knows(&agent.key) || self.is_revoked(&agent.key),
                // Sources, aliases and predicates that the key registered are gone with it, and come
                // back when it is registered anew.
                AgentAct::Revoke { .. } => true,
                AgentAct::Replace { replaces, .. } => {
                    knows(&agent.key) || knows(replaces) || self.is_revoked(&agent.key)
                }
            },
            // Of a source: its other keys may be the ones that are known here.
            Body::Retract(retract) => match &retract.target {
                RetractTarget::Source(_) => record.space == self.space,
                RetractTarget::Record(_) => true,
            },
            Body::Genesis(_) => true,
            _ => false,
        }
    }

    fn is_revoked(&self, agent: &AgentId) -> bool {
        self.registry.agent(&self.space, agent, self.as_of).revoked_from.is_some()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn as_of(&self) -> Position {
        self.as_of
    }

    /// The revocation that reaches a record which `agent` wrote about a claim at `written`.
    pub(crate) fn comment_revoked_by(
        &mut self,
        agent: &AgentId,
        written: Position,
    ) -> Option<Position> {
        self.commenters.insert(*agent);
        self.revoked_by(agent, written)
    }

    /// The revocation of `agent`'s key that reaches a record it wrote at `written`.
    pub(crate) fn revoked_by(&self, agent: &AgentId, written: Position) -> Option<Position> {
        self.registry.revoked_by(&self.space, agent, written, self.as_of)
    }

    /// The key that signed a record received for `principal`.
    pub(crate) fn signer(&mut self, key: &AgentId, principal: &Principal) -> Signer {
        if let Some(signer) = self.signers.get(key) {
            return *signer;
        }
        let agent = self.agents.of(self.lineage(key));
        let voice = match self.registry.voice(&self.space, key, principal, self.as_of) {
            Voice::Principal(_) => None,
            voice => Some(self.voices.of(voice)),
        };
        let number = u32::try_from(self.signers.len()).unwrap_or(u32::MAX);
        let signer = Signer { agent, number, voice };
        self.signers.insert(*key, signer);
        signer
    }

    /// The first key of the agent that a number stands for.
    pub(crate) fn agent_name(&self, number: u32) -> Option<&AgentId> {
        self.agents.name(number)
    }

    /// The first keys of all agents that were met, by number.
    pub(crate) fn agents(&self) -> &[AgentId] {
        self.agents.names()
    }

    /// The first key of an agent.
    pub(crate) fn lineage(&self, agent: &AgentId) -> AgentId {
        self.registry.lineage(&self.space, agent, self.as_of)
    }

    pub(crate) fn ceiling(&self, agent: &AgentId) -> Tier {
        self.registry.agent(&self.space, agent, self.as_of).ceiling
    }

    /// Whom a record by `signer`, received for `principal`, counts for.
    pub(crate) fn voice(&mut self, signer: Signer, principal: &Principal) -> u32 {
        if let Some(voice) = signer.voice.or_else(|| self.principals.get(principal).copied()) {
            return voice;
        }
        let voice = self.voices.of(Voice::Principal(principal.clone()));
        self.principals.insert(principal.clone(), voice);
        voice
    }

    /// The voice that a number stands for.
    pub(crate) fn voice_name(&self, number: u32) -> Option<&Voice> {
        self.voices.name(number)
    }

    /// The source that a number stands for.
    pub(crate) fn source_name(&self, number: u32) -> Option<&SourceIdent> {
        self.sources.name(number)
    }

    /// Whether the source that a number stands for is registered.
    pub(crate) fn registered(&self, number: u32) -> bool {
        matches!(self.sources.name(number), Some(SourceIdent::Registered(_)))
    }

    /// The number of the agent that a key belongs to, if it was met.
    pub(crate) fn agent_number(&self, key: &AgentId) -> Option<u32> {
        self.agents.known(&self.lineage(key))
    }

    /// The number of the source that a key names, if it was met.
    pub(crate) fn source_number(&self, key: &SourceKey) -> Option<u32> {
        self.sources.known(&self.source_ident(key))
    }

    /// Bytes of memory, about.
    pub(crate) fn weight(&self) -> usize {
        // Each name stands in a map and in a list; a map is half empty.
        let numbers = self.agents.names.len() * 160
            + self.voices.names.len() * 160
            + self.sources.names.len() * 200;
        let uris: usize = self
            .named
            .keys()
            .map(|key| if let SourceKey::Uri(uri) = key { uri.len() } else { 0 })
            .sum();
        numbers
            + self.signers.len() * 96
            + self.named.len() * 128
            + uris
            + self.principals.len() * 64
            + self.commenters.len() * 64
    }

    /// The source that a key names.
    pub(crate) fn named(&mut self, key: &SourceKey) -> Named {
        if let Some(named) = self.named.get(key) {
            return *named;
        }
        let source = self.sources.of(self.source_ident(key));
        let retracted =
            self.registry.source_retracted(&self.space, key, self.as_of, self.asserted_before);
        let number = u32::try_from(self.named.len()).unwrap_or(u32::MAX);
        let named = Named { source, retracted, number };
        self.named.insert(key.clone(), named);
        named
    }

    pub(crate) fn source_ident(&self, key: &SourceKey) -> SourceIdent {
        self.registry.source_id(&self.space, key, self.as_of)
    }

    /// The tier of a claim that `key` stands for, its premises left aside. `signer` and `named`
    /// are what `key` and `source` are known as.
    pub(crate) fn base_tier(
        &mut self,
        (signer, key): (Signer, &AgentId),
        (named, source): (Named, &SourceKey),
        declared: Option<SourceClass>,
    ) -> Tier {
        *self.tiers.entry((signer.number, named.number, declared)).or_insert_with(|| {
            self.registry.base_tier(&self.space, key, source, declared, self.as_of)
        })
    }

    pub(crate) fn declared_lifecycle(
        &self,
        agent: &AgentId,
        declared: LifecycleState,
        written: Position,
    ) -> LifecycleState {
        self.registry.declared_lifecycle(&self.space, agent, declared, written)
    }
}
