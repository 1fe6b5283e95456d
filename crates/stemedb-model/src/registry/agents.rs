//! Keys and what they may do: registration, replacement, revocation, voice.

use std::sync::Arc;

use imbl::OrdMap;

use super::{Held, List, Registry, What};
use crate::class::{SourceClass, Tier};
use crate::ids::{AgentId, Position};
use crate::record::{Agent, AgentAct, LifecycleState, Role};
use crate::text::{Principal, Space};

/// What the log says about one key.
#[derive(Clone, Default)]
pub(super) struct History {
    /// Records that register or revoke it.
    about: List,
    /// Whether one of them revokes: most keys never are, and need no walk.
    revoked: bool,
    /// Replacements that name it as the new key.
    came_from: List,
    /// Replacements that it wrote.
    went_to: List,
}

/// Enters an agent record under the keys it names.
pub(super) fn file(agents: &mut OrdMap<AgentId, History>, agent: &Agent, held: &Arc<Held>) {
    match agent.act {
        AgentAct::Register { .. } => {
            agents.entry(agent.key).or_default().about.push_back(held.clone());
        }
        AgentAct::Revoke { .. } => {
            let history = agents.entry(agent.key).or_default();
            history.about.push_back(held.clone());
            history.revoked = true;
        }
        AgentAct::Replace { replaces, .. } => {
            agents.entry(agent.key).or_default().came_from.push_back(held.clone());
            agents.entry(replaces).or_default().went_to.push_back(held.clone());
        }
    }
}

/// One key as of a position. Keys that replaced one another are one agent: they share the newest
/// live registration of any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentState {
    /// Whether a live registration, or genesis, names it or a key of its replacement chain.
    pub registered: bool,
    /// Whether it is the root key.
    pub root: bool,
    /// As registered.
    pub name: Option<Arc<str>>,
    /// The best tier its claims can have. Root 0; unregistered: that of anecdotes.
    pub ceiling: Tier,
    /// Who runs it.
    pub operator: Option<Arc<str>>,
    /// As registered. What it may do now is [`AgentState::has`].
    pub roles: RoleSet,
    /// The first key of its replacement chain: one agent, however often it changed keys.
    pub lineage: AgentId,
    /// The key that took its place.
    pub replaced_by: Option<AgentId>,
    /// Set while it is revoked: from this position its records do not count.
    pub revoked_from: Option<Position>,
}

impl AgentState {
    /// Whether it may act under `role` now: root may under all, a revoked or replaced key under
    /// none.
    pub fn has(&self, role: Role) -> bool {
        self.active() && (self.root || self.roles.contains(role))
    }

    /// Neither revoked nor replaced.
    pub fn active(&self) -> bool {
        self.revoked_from.is_none() && self.replaced_by.is_none()
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleSet(u8);

impl RoleSet {
    /// Whether `role` is in it.
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// The roles, ascending by name.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for RoleSet {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | (1 << role as u8)))
    }
}

/// Whom a record counts for: one voice is heard once, however many keys it uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Voice {
    /// All agents of one operator.
    Operator(Arc<str>),
    /// A registered agent without operator, by the first key of its replacement chain.
    Agent(AgentId),
    /// All unregistered agents behind one API key owner.
    Principal(Principal),
}

/// A `Register` that holds.
struct Registration<'a> {
    name: &'a Option<Arc<str>>,
    ceiling: SourceClass,
    operator: &'a Option<Arc<str>>,
    roles: &'a [Role],
}

impl Registry {
    /// What holds about a key in `space` as of `at`. Root's answer is the same in all spaces.
    ///
    /// Costs the length of the key's replacement chain and of its list of agent records.
    pub fn agent(&self, space: &Space, agent: &AgentId, at: Position) -> AgentState {
        if let Some(index) = self.root_index(agent, at) {
            let next = self.roots.get(index + 1).filter(|root| root.position <= at);
            return AgentState {
                registered: true,
                root: next.is_none(),
                name: None,
                ceiling: SourceClass::Regulatory.tier(),
                operator: None,
                roles: RoleSet::default(),
                lineage: self.lineage(space, agent, at),
                replaced_by: next.map(|root| root.key),
                revoked_from: None,
            };
        }
        let registration = self.registration(space, agent, at);
        let registered = registration.as_ref();
        AgentState {
            registered: registered.is_some(),
            root: false,
            name: registered.and_then(|found| found.name.clone()),
            ceiling: registered.map_or(SourceClass::Anecdotal.tier(), |found| found.ceiling.tier()),
            operator: registered.and_then(|found| found.operator.clone()),
            roles: registered
                .map(|found| found.roles.iter().copied().collect())
                .unwrap_or_default(),
            lineage: self.lineage(space, agent, at),
            replaced_by: self.successor(space, agent, at).map(|(_, key)| key),
            revoked_from: self.revocation(space, agent, Position::NONE, at).map(|found| found.from),
        }
    }

    /// Whether a record that `agent` wrote at position `written` still counts as of `at`: no live
    /// revocation reaches it. Decides alone for assertions, votes, cosigns, supersessions,
    /// lifecycle records and their retractions; records that a registry holds ask
    /// [`Registry::holds`].
    pub fn counts(&self, space: &Space, agent: &AgentId, written: Position, at: Position) -> bool {
        self.revoked_by(space, agent, written, at).is_none()
    }

    /// The revocation, in force as of `at`, that reaches a record which `agent` wrote at
    /// `written`.
    pub fn revoked_by(
        &self,
        space: &Space,
        agent: &AgentId,
        written: Position,
        at: Position,
    ) -> Option<Position> {
        let found = self.revocation(space, agent, written, at)?;
        (written >= found.from).then_some(found.position)
    }

    /// The first key of the replacement chain that ends in `agent`; `agent` itself without one.
    /// Two keys are one agent exactly if their lineage is the same.
    pub fn lineage(&self, space: &Space, agent: &AgentId, at: Position) -> AgentId {
        if self.root_index(agent, at).is_some() {
            return self.roots.front().map_or(*agent, |root| root.key);
        }
        self.earlier_keys(space, agent, at).last().unwrap_or(*agent)
    }

    /// Whom a record by `agent`, received for `principal`, counts for as of `at`.
    pub fn voice(
        &self,
        space: &Space,
        agent: &AgentId,
        principal: &Principal,
        at: Position,
    ) -> Voice {
        if self.root_index(agent, at).is_some() {
            return Voice::Agent(self.lineage(space, agent, at));
        }
        match self.registration(space, agent, at) {
            Some(Registration { operator: Some(operator), .. }) => {
                Voice::Operator(operator.clone())
            }
            Some(_) => Voice::Agent(self.lineage(space, agent, at)),
            None => Voice::Principal(principal.clone()),
        }
    }

    /// The state that a declared one counts as: approved, deprecated and rejected only if the
    /// author was reviewer when the assertion was admitted at `written`, else proposed. Roles
    /// taken away later change nothing.
    pub fn declared_lifecycle(
        &self,
        space: &Space,
        agent: &AgentId,
        declared: LifecycleState,
        written: Position,
    ) -> LifecycleState {
        let needs_review = match declared {
            LifecycleState::Proposed | LifecycleState::UnderReview => false,
            LifecycleState::Approved | LifecycleState::Deprecated | LifecycleState::Rejected => {
                true
            }
        };
        let before = Position(written.0.saturating_sub(1));
        if needs_review && !self.agent(space, agent, before).has(Role::Reviewer) {
            return LifecycleState::Proposed;
        }
        declared
    }

    /// The best tier that claims of `agent` can have as of `at`.
    pub fn ceiling(&self, space: &Space, agent: &AgentId, at: Position) -> Tier {
        if self.root_index(agent, at).is_some() {
            return SourceClass::Regulatory.tier();
        }
        self.registration(space, agent, at)
            .map_or(SourceClass::Anecdotal, |found| found.ceiling)
            .tier()
    }

    /// Whether any agent record up to `at`, live or not, names or was written as a replacement by
    /// `key`: in `space`, or in all spaces with `None`. A key is taken over only unused, so that
    /// no later undoing can give it two pasts.
    pub(crate) fn key_used(&self, space: Option<&Space>, key: &AgentId, at: Position) -> bool {
        let used = |tables: &super::Tables| {
            tables.agents.get(key).is_some_and(|history| {
                [&history.about, &history.came_from, &history.went_to]
                    .into_iter()
                    .any(|list| list.front().is_some_and(|held| held.position <= at))
            })
        };
        match space {
            Some(space) => self.tables(space).is_some_and(used),
            None => self.spaces.values().any(used),
        }
    }

    /// Whether `key` is or was the root key as of `at`.
    pub(crate) fn root_line(&self, key: &AgentId, at: Position) -> bool {
        self.root_index(key, at).is_some()
    }

    fn root_index(&self, key: &AgentId, at: Position) -> Option<usize> {
        self.roots.iter().position(|root| root.key == *key && root.position <= at)
    }

    fn history(&self, space: &Space, key: &AgentId) -> Option<&History> {
        self.tables(space)?.agents.get(key)
    }

    /// The revocation of `key` in force as of `at`, among agent records about it that are newer
    /// than `after`: the newest live one, unless that registers the key anew.
    ///
    /// Looks only at records after `after`, and whether those hold depends on still later ones:
    /// this is what makes the recursion through their authors end.
    fn revocation(
        &self,
        space: &Space,
        key: &AgentId,
        after: Position,
        at: Position,
    ) -> Option<Revocation> {
        let history = self.history(space, key).filter(|history| history.revoked)?;
        // Root is never revoked: nobody could undo that.
        if self.root_index(key, at).is_some() {
            return None;
        }
        let newest = history
            .about
            .iter()
            .rev()
            .take_while(|held| held.position > after)
            .find(|held| self.live(held, at, None))?;
        match act(newest)? {
            AgentAct::Revoke { from_position } => {
                Some(Revocation { position: newest.position, from: *from_position })
            }
            AgentAct::Register { .. } | AgentAct::Replace { .. } => None,
        }
    }

    /// The newest live registration of any key of the chain that `key` is in.
    fn registration(&self, space: &Space, key: &AgentId, at: Position) -> Option<Registration<'_>> {
        let of = |key: &AgentId| {
            self.history(space, key)?.about.iter().rev().find(|held| {
                matches!(act(held), Some(AgentAct::Register { .. })) && self.live(held, at, None)
            })
        };
        let newest = std::iter::once(*key)
            .chain(self.earlier_keys(space, key, at))
            .chain(self.later_keys(space, key, at))
            .filter_map(|key| of(&key))
            .max_by_key(|held| held.position)?;
        match act(newest)? {
            AgentAct::Register { name, ceiling, operator, roles } => {
                Some(Registration { name, ceiling: *ceiling, operator, roles })
            }
            AgentAct::Revoke { .. } | AgentAct::Replace { .. } => None,
        }
    }

    /// The keys that `key` replaced, newest first.
    fn earlier_keys(
        &self,
        space: &Space,
        key: &AgentId,
        at: Position,
    ) -> impl Iterator<Item = AgentId> {
        // Positions descend along the chain, so it ends.
        let mut link = (Position::MAX, *key);
        std::iter::from_fn(move || {
            let (below, key) = link;
            let replacement = self
                .history(space, &key)?
                .came_from
                .iter()
                .rev()
                .find(|held| held.position < below && self.live(held, at, None))?;
            let AgentAct::Replace { replaces, .. } = act(replacement)? else { return None };
            link = (replacement.position, *replaces);
            Some(*replaces)
        })
    }

    /// The keys that replaced `key`, oldest first.
    fn later_keys(
        &self,
        space: &Space,
        key: &AgentId,
        at: Position,
    ) -> impl Iterator<Item = AgentId> {
        let mut link = (Position::NONE, *key);
        std::iter::from_fn(move || {
            let (above, key) = link;
            link = self.successor(space, &key, at).filter(|(position, _)| *position > above)?;
            Some(link.1)
        })
    }

    /// The key that replaced `key`, and the position of that.
    fn successor(&self, space: &Space, key: &AgentId, at: Position) -> Option<(Position, AgentId)> {
        let newest = self.newest(Some(&self.history(space, key)?.went_to), at)?;
        match &newest.what {
            What::Agent(agent) => Some((newest.position, agent.key)),
            _ => None,
        }
    }
}

/// A live revocation.
struct Revocation {
    position: Position,
    from: Position,
}

fn act(held: &Held) -> Option<&AgentAct> {
    match &held.what {
        What::Agent(agent) => Some(&agent.act),
        _ => None,
    }
}
