//! Who may write what: admission of one record, as a pure function of (state, record).
//!
//! The single writer asks [`admit`] at the record's position, with a registry and an index that
//! hold everything before it. What is admitted is never judged again.
//!
//! Taken as done before: all that [`crate::Signed`] proves (a valid record, its signature, the new
//! key's consent in a replacement), and the answer `exists` for a record already in the log.
//!
//! | act | who |
//! |---|---|
//! | assertion, cosign, vote, epoch that supersedes nothing | any agent |
//! | retract or supersede one's own; replace one's own key | any agent |
//! | retract another's assertion, vote, cosign, supersede; supersede another's assertion | curator whose ceiling is at least as good as the assertion's tier (for supersede the old one's) |
//! | retract another's lifecycle record; any lifecycle record | reviewer |
//! | retract another's retraction | who may retract, as somebody else's, what that retracts |
//! | source, predicate, alias, lens, gold, epoch that supersedes; retract those of others, any epoch of others, a source key | registrar |
//! | trust snapshot | registrar, trust |
//! | register, revoke | registrar; root where the key is or becomes registrar |
//!
//! Root may do all of it, in every space. With [`Policy::require_registration`] "any agent" is any
//! registered one. "One's own" is of the same lineage: a new key owns what the keys before it wrote.
//! Why, where the contract is silent: `docs/decisions/2026-11-22-rights.md`.

use std::collections::BTreeSet;

use crate::class::Tier;
use crate::ids::{AgentId, LogId, Position, RecordId};
use crate::record::{
    Agent, AgentAct, Body, Epoch, Kind, Lens, Record, Retract, RetractTarget, Role, Supersede,
    TrustSnapshot,
};
use crate::registry::{AgentState, Registry};
use crate::text::Space;

/// What the log holds, as far as admission asks. Answers cover every record admitted before the
/// one that is judged, durable or not.
pub trait Known {
    /// What is known of a record; `None` if the log does not hold it.
    fn head(&self, id: &RecordId) -> Option<Head>;
    /// Tier of an assertion now, its premises included; `None` if the log does not hold it.
    fn tier(&self, id: &RecordId) -> Option<Tier>;
    /// The assertions that supersede records name as `new` for this `old` one, live or not.
    fn superseded_by(&self, id: &RecordId) -> Vec<RecordId>;
}

/// What admission asks of a record in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Where it is.
    pub position: Position,
    /// What it is.
    pub kind: Kind,
    /// The namespace it is in.
    pub space: Space,
    /// Who wrote it.
    pub agent: AgentId,
    /// The assertion that a cosign, vote or lifecycle record is about; the old one of a supersede.
    pub about: Option<RecordId>,
    /// What a retraction takes back.
    pub retract_target: Option<RetractTarget>,
}

impl Head {
    /// The head of a record at a position.
    pub fn of(position: Position, record: &Record) -> Self {
        let about = match &record.body {
            Body::Cosign(cosign) => Some(cosign.assertion),
            Body::Vote(vote) => Some(vote.assertion),
            Body::Lifecycle(lifecycle) => Some(lifecycle.assertion),
            Body::Supersede(supersede) => Some(supersede.old),
            _ => None,
        };
        let retract_target = match &record.body {
            Body::Retract(retract) => Some(retract.target.clone()),
            _ => None,
        };
        Self {
            position,
            kind: record.body.kind(),
            space: record.space.clone(),
            agent: record.agent,
            about,
            retract_target,
        }
    }
}

/// What configuration says about admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Only registered agents (and root) write. Default: anybody may.
    pub require_registration: bool,
}

/// Why a record is not admitted. Nothing of it is logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The agent has no right to do this.
    #[error("agent {agent} may not {act} in space {space}: that takes {needs}")]
    Forbidden {
        /// Who tried.
        agent: AgentId,
        /// Where.
        space: Space,
        /// What, as a verb with its object.
        act: &'static str,
        /// Who may.
        needs: String,
    },
    /// The key is revoked.
    #[error(
        "key {key} is revoked in space {space} (from position {from}); sign with another key, or \
         have a registrar register this one anew"
    )]
    KeyRevoked {
        /// The key.
        key: AgentId,
        /// Where.
        space: Space,
        /// From where its records do not count.
        from: Position,
    },
    /// The key gave its place to another.
    #[error("key {key} was replaced by {by}; sign with that one")]
    KeyReplaced {
        /// The key.
        key: AgentId,
        /// The one to use.
        by: AgentId,
    },
    /// This database takes records of registered agents only.
    #[error("agent {key} is not registered in space {space}; a registrar must register it first")]
    Unregistered {
        /// The key.
        key: AgentId,
        /// Where.
        space: Space,
    },
    /// A field names a record that the log does not hold.
    #[error("{field}: no record {id} in this log; write it first")]
    UnknownReference {
        /// The field.
        field: &'static str,
        /// What it names.
        id: RecordId,
    },
    /// A field names a record of another space.
    #[error("{field}: record {id} is in space {found}, and references stay inside {expected}")]
    WrongSpace {
        /// The field.
        field: &'static str,
        /// What it names.
        id: RecordId,
        /// Where that is.
        found: Space,
        /// Where it must be.
        expected: Space,
    },
    /// A field names a record of a kind that cannot stand there.
    #[error("{field}: record {id} is of kind {found}, expected {expected}")]
    WrongKind {
        /// The field.
        field: &'static str,
        /// What it names.
        id: RecordId,
        /// What that is.
        found: Kind,
        /// What it must be.
        expected: &'static str,
    },
    /// The supersession would close a cycle.
    #[error("{old} cannot be superseded by {new}: {new} is itself, step by step, superseded by it")]
    Cycle {
        /// The assertion that would retire.
        old: RecordId,
        /// The assertion that would take its place.
        new: RecordId,
    },
    /// The record was signed for another database.
    #[error("log_id: the record is signed for {}, this log is {expected}", name(.found))]
    WrongLog {
        /// What the record says.
        found: Option<LogId>,
        /// The name of this database.
        expected: LogId,
    },
    /// The record contradicts what the log holds.
    #[error("{0}")]
    Conflict(String),
}

fn name(log: &Option<LogId>) -> String {
    log.map_or_else(|| "no log".to_owned(), |log| log.to_string())
}

impl Refusal {
    /// The stable code of the interfaces.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "forbidden",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::KeyReplaced { .. } => "key_replaced",
            Self::Unregistered { .. } => "agent_unregistered",
            Self::UnknownReference { .. } => "unknown_reference",
            Self::WrongSpace { .. } => "wrong_space",
            Self::WrongKind { .. } => "wrong_kind",
            Self::Cycle { .. } => "cycle",
            Self::WrongLog { .. } => "wrong_log",
            Self::Conflict(_) => "conflict",
        }
    }

    /// Whether the author lacks the right (403), rather than the record not fitting the log (409).
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Forbidden { .. }
            | Self::KeyRevoked { .. }
            | Self::KeyReplaced { .. }
            | Self::Unregistered { .. } => true,
            Self::UnknownReference { .. }
            | Self::WrongSpace { .. }
            | Self::WrongKind { .. }
            | Self::Cycle { .. }
            | Self::WrongLog { .. }
            | Self::Conflict(_) => false,
        }
    }
}

/// Decides whether `record` may enter the log at `position`.
///
/// - `registry`: folded at least up to the position before; what is newer is not looked at.
/// - `known`: the same of records.
///
/// Costs the references of the record; a supersede record also the chain of supersessions above
/// its new assertion, a retraction the chain of retractions below it.
pub fn admit(
    registry: &Registry,
    known: &dyn Known,
    position: Position,
    record: &Record,
    policy: &Policy,
) -> Result<(), Refusal> {
    if matches!(record.body, Body::Genesis(_)) {
        if position != Position(1) {
            return conflict("genesis stands at position 1 only, and this log has one");
        }
        return Ok(());
    }
    let at = Position(position.0.saturating_sub(1));
    let Some((log_id, _)) = registry.genesis().filter(|_| position > Position(1)) else {
        return conflict("this log has no genesis yet; it must be the first record");
    };
    let unbound = matches!(record.body, Body::Assertion(_) | Body::Cosign(_));
    if record.log_id != Some(log_id) && !(unbound && record.log_id.is_none()) {
        return Err(Refusal::WrongLog { found: record.log_id, expected: log_id });
    }
    let author = registry.agent(&record.space, &record.agent, at);
    if let Some(from) = author.revoked_from {
        return Err(Refusal::KeyRevoked { key: record.agent, space: record.space.clone(), from });
    }
    if let Some(by) = author.replaced_by {
        return Err(Refusal::KeyReplaced { key: record.agent, by });
    }
    if policy.require_registration && !author.registered {
        return Err(Refusal::Unregistered { key: record.agent, space: record.space.clone() });
    }
    Admission { registry, known, at, record, author }.decide()
}

fn conflict(problem: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::Conflict(problem.into()))
}

/// One decision under way; the author is in good standing.
struct Admission<'a> {
    registry: &'a Registry,
    known: &'a dyn Known,
    /// The position before the record's own.
    at: Position,
    record: &'a Record,
    author: AgentState,
}

impl Admission<'_> {
    fn decide(&self) -> Result<(), Refusal> {
        match &self.record.body {
            // Decided by the caller, which knows the position.
            Body::Genesis(_) => Ok(()),
            Body::Assertion(assertion) => {
                if let Some(epoch) = &assertion.epoch {
                    self.refer("epoch", epoch, Kind::Epoch)?;
                }
                if let Some(parent) = &assertion.parent {
                    self.refer("parent", parent, Kind::Assertion)?;
                }
                for premise in &assertion.derived_from {
                    self.refer("derived_from", premise, Kind::Assertion)?;
                }
                Ok(())
            }
            Body::Cosign(cosign) => {
                self.refer("assertion", &cosign.assertion, Kind::Assertion).map(drop)
            }
            Body::Vote(vote) => self.refer("assertion", &vote.assertion, Kind::Assertion).map(drop),
            Body::Epoch(epoch) => self.epoch(epoch),
            Body::Source(_) => self.needs(Role::Registrar, "register a source"),
            Body::Retract(retract) => self.retract(retract),
            Body::Supersede(supersede) => self.supersede(supersede),
            Body::Predicate(_) => self.needs(Role::Registrar, "register a predicate"),
            Body::Alias(_) => self.needs(Role::Registrar, "join two subjects by an alias"),
            Body::Agent(agent) => self.agent(agent),
            Body::Lens(lens) => self.lens(lens),
            Body::Gold(_) => self.needs(Role::Registrar, "state a gold value"),
            Body::TrustSnapshot(snapshot) => self.trust_snapshot(snapshot),
            Body::Lifecycle(lifecycle) => {
                // All states, `proposed` too: the newest record holds, so an author who could
                // write one could take back what a reviewer decided.
                self.needs(Role::Reviewer, "move an assertion through its lifecycle")?;
                self.refer("assertion", &lifecycle.assertion, Kind::Assertion).map(drop)
            }
        }
    }

    fn epoch(&self, epoch: &Epoch) -> Result<(), Refusal> {
        let Some((superseded, _)) = &epoch.supersedes else { return Ok(()) };
        self.needs(Role::Registrar, "supersede an epoch")?;
        self.refer("supersedes", superseded, Kind::Epoch).map(drop)
    }

    fn lens(&self, lens: &Lens) -> Result<(), Refusal> {
        self.needs(Role::Registrar, "define a lens")?;
        let (space, name, version) = (&self.record.space, &lens.name, lens.version);
        match self.registry.lens_defined(space, name, version, self.at) {
            Some(id) => conflict(format!(
                "version: {name} version {version} is defined in space {space} by {id}, for good; \
                 take the next version"
            )),
            None => Ok(()),
        }
    }

    fn trust_snapshot(&self, snapshot: &TrustSnapshot) -> Result<(), Refusal> {
        if !self.author.has(Role::Trust) {
            self.needs(Role::Registrar, "change the learned trust")?;
        }
        if snapshot.input_position > self.at {
            return conflict(format!(
                "input_position: {} is past the end of the log, {}",
                snapshot.input_position, self.at
            ));
        }
        Ok(())
    }

    fn supersede(&self, supersede: &Supersede) -> Result<(), Refusal> {
        let old = self.refer("old", &supersede.old, Kind::Assertion)?;
        self.refer("new", &supersede.new, Kind::Assertion)?;
        if !self.own(&old) {
            self.curates(&supersede.old, "supersede an assertion of another agent")?;
        }
        // The new link leads from old to new: it closes a cycle exactly if new leads to old.
        let mut seen = BTreeSet::from([supersede.new]);
        let mut todo = vec![supersede.new];
        while let Some(id) = todo.pop() {
            if id == supersede.old {
                return Err(Refusal::Cycle { old: supersede.old, new: supersede.new });
            }
            todo.extend(self.known.superseded_by(&id).into_iter().filter(|id| seen.insert(*id)));
        }
        Ok(())
    }

    fn retract(&self, retract: &Retract) -> Result<(), Refusal> {
        let id = match &retract.target {
            RetractTarget::Source(_) => return self.needs(Role::Registrar, "retract a source"),
            RetractTarget::Record(id) => *id,
        };
        let head = self.found("record", &id)?;
        if matches!(head.kind, Kind::Genesis | Kind::Agent | Kind::TrustSnapshot) {
            return Err(Refusal::WrongKind {
                field: "record",
                id,
                found: head.kind,
                expected: "a kind that can be retracted; a newer record takes the place of this one",
            });
        }
        if self.own(&head) { Ok(()) } else { self.retract_others(id, head) }
    }

    /// The right to retract a record of another agent. Of a retraction: the right to retract as
    /// another's what it retracts, so that nobody takes back what a curator did to their claim.
    fn retract_others(&self, mut id: RecordId, mut head: Head) -> Result<(), Refusal> {
        // Each step leads to an older record, so this ends.
        while let Some(RetractTarget::Record(target)) = head.retract_target {
            head = self.found("record", &target)?;
            id = target;
        }
        let act = "retract a record of another agent";
        match head.kind {
            Kind::Assertion => self.curates(&id, act),
            Kind::Cosign | Kind::Vote | Kind::Supersede => {
                self.curates(&head.about.unwrap_or(id), act)
            }
            Kind::Lifecycle => self.needs(Role::Reviewer, act),
            Kind::Epoch
            | Kind::Source
            | Kind::Retract
            | Kind::Predicate
            | Kind::Alias
            | Kind::Lens
            | Kind::Gold
            | Kind::Genesis
            | Kind::Agent
            | Kind::TrustSnapshot => self.needs(Role::Registrar, act),
        }
    }

    fn agent(&self, agent: &Agent) -> Result<(), Refusal> {
        let key = &agent.key;
        match &agent.act {
            AgentAct::Register { roles, .. } => {
                self.agent_right(key, roles.contains(&Role::Registrar), "register this agent")?;
                match self.registry.agent(&self.record.space, key, self.at).replaced_by {
                    Some(by) => {
                        conflict(format!("key: {key} was replaced by {by}; register that one"))
                    }
                    None => Ok(()),
                }
            }
            AgentAct::Revoke { .. } => self.agent_right(key, false, "revoke this agent"),
            AgentAct::Replace { replaces, .. } => {
                // Root is one key in all spaces, so its successor must be new in all of them.
                let space = (!self.author.root).then_some(&self.record.space);
                let used = key == replaces
                    || self.registry.root_line(key, self.at)
                    || self.registry.key_used(space, key, self.at);
                if used {
                    return conflict(format!(
                        "key: {key} is named by earlier agent records; take a fresh key"
                    ));
                }
                Ok(())
            }
        }
    }

    /// The right to register or revoke `key`; `registrar`: it is to become one.
    fn agent_right(
        &self,
        key: &AgentId,
        registrar: bool,
        act: &'static str,
    ) -> Result<(), Refusal> {
        if self.registry.root_line(key, self.at) {
            return conflict(format!("key: {key} is a root key, which only a replacement changes"));
        }
        // The roles of a revoked registrar too: only root gives a registrar's records back.
        let state = self.registry.agent(&self.record.space, key, self.at);
        if !registrar && !state.roles.contains(Role::Registrar) {
            return self.needs(Role::Registrar, act);
        }
        if self.author.root { Ok(()) } else { self.forbidden(act, "the root key".to_owned()) }
    }

    /// The head of a record that `field` names, in this space.
    fn found(&self, field: &'static str, id: &RecordId) -> Result<Head, Refusal> {
        let head = self
            .known
            .head(id)
            .filter(|head| head.position <= self.at)
            .ok_or(Refusal::UnknownReference { field, id: *id })?;
        if head.space != self.record.space {
            return Err(Refusal::WrongSpace {
                field,
                id: *id,
                found: head.space,
                expected: self.record.space.clone(),
            });
        }
        Ok(head)
    }

    /// The same, of one kind.
    fn refer(&self, field: &'static str, id: &RecordId, kind: Kind) -> Result<Head, Refusal> {
        let head = self.found(field, id)?;
        if head.kind == kind {
            return Ok(head);
        }
        let expected = if kind == Kind::Epoch { "an epoch" } else { "an assertion" };
        Err(Refusal::WrongKind { field, id: *id, found: head.kind, expected })
    }

    fn own(&self, head: &Head) -> bool {
        self.author.lineage == self.registry.lineage(&self.record.space, &head.agent, self.at)
    }

    fn needs(&self, role: Role, act: &'static str) -> Result<(), Refusal> {
        if self.author.has(role) {
            return Ok(());
        }
        self.forbidden(act, format!("the role {role}"))
    }

    /// The right to act on an assertion of another agent.
    fn curates(&self, assertion: &RecordId, act: &'static str) -> Result<(), Refusal> {
        // What the index cannot say is judged as the best tier: only the best ceiling suffices.
        let tier = self.known.tier(assertion).unwrap_or(Tier(0));
        if self.author.has(Role::Curator) && self.author.ceiling <= tier {
            return Ok(());
        }
        let class = tier.class();
        self.forbidden(act, format!("the role curator with the ceiling {class} or a better one"))
    }

    fn forbidden(&self, act: &'static str, needs: String) -> Result<(), Refusal> {
        Err(Refusal::Forbidden {
            agent: self.record.agent,
            space: self.record.space.clone(),
            act,
            needs,
        })
    }
}
