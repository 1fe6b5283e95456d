//! What a resolution is made from: everything the log says about one key at one position.
//!
//! The index gathers it, whole; this crate decides. Nothing here was judged yet: claims that turn
//! out retracted, superseded or expired are in it, with the facts that make them so.

use std::sync::Arc;

use stemedb_model::{
    AgentId, Key, LifecycleState, Millis, Position, PredicateName, Principal, Registry,
    SourceClass, SourceKey, Space, Subject, Value,
};

/// One assertion as resolution sees it. Records are named by position here; ids are for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Its number in the log.
    pub position: Position,
    /// Its key; the subject as written, before aliases.
    pub subject: Subject,
    /// Its key; of opposing claims one of the opposites, of related ones any predicate.
    pub predicate: PredicateName,
    /// Who signed it.
    pub agent: AgentId,
    /// Owner of the API key it came through.
    pub principal: Principal,
    /// Claimed time.
    pub at: Millis,
    /// Commit time.
    pub recorded_at: Millis,
    /// What names its source.
    pub source: SourceKey,
    /// Class its author declared.
    pub class: Option<SourceClass>,
    /// The claimed value as written.
    pub object: Value,
    /// 0 to 1.
    pub confidence: f64,
    /// Validity interval in the world, half-open.
    pub valid_from: Option<Millis>,
    /// End of it, excluded.
    pub valid_to: Option<Millis>,
    /// The epoch record it was made under.
    pub epoch: Option<Position>,
    /// State declared in the assertion.
    pub lifecycle: LifecycleState,
    /// The assertion it revises.
    pub parent: Option<Position>,
    /// The assertions it rests on.
    pub premises: Arc<[Position]>,
}

/// A later record about an assertion, or about another such record.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Its number in the log.
    pub position: Position,
    /// The record it is about.
    pub target: Position,
    /// Who signed it.
    pub agent: AgentId,
    /// Owner of the API key it came through.
    pub principal: Principal,
    /// Claimed time.
    pub at: Millis,
    /// Commit time.
    pub recorded_at: Millis,
    /// What it says.
    pub kind: FactKind,
}

/// What a fact says of its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FactKind {
    /// Takes it back: an assertion, vote, cosign, supersession, lifecycle or retraction.
    Retract,
    /// The target is the old assertion; this one takes its place while live.
    Supersede {
        /// The assertion that takes the place.
        new: Position,
    },
    /// A signed weight in [-1, 1].
    Vote {
        /// For (positive) or against.
        weight: f64,
    },
    /// Another agent stands by it.
    Cosign,
    /// Moves it to a state.
    Lifecycle {
        /// The state.
        state: LifecycleState,
    },
}

/// Everything the log says, up to one position, about one key.
#[derive(Debug, Clone)]
pub struct Candidates {
    /// The key, named by the smallest subject of its alias class.
    pub key: Key,
    /// Nothing recorded later is in here.
    pub as_of: Position,
    /// Assertions of the key under all its aliases, ascending by position.
    pub claims: Vec<Claim>,
    /// Assertions under the predicate's opposites (cardinality many), ascending by position.
    pub opposing: Vec<Claim>,
    /// Assertions of other keys that those above depend on, transitively: premises and the new
    /// ends of supersessions. Ascending by position, no repeats, disjoint from the two above.
    pub related: Vec<Claim>,
    /// Facts about all of those, and facts about those facts. Ascending by position.
    pub facts: Vec<Fact>,
    /// The registries; every lookup is made as of `as_of`.
    pub registry: Registry,
    /// `epoch` positions of all claims, as the record ids that the registry knows them by.
    pub epochs: Vec<(Position, stemedb_model::RecordId)>,
}

impl Candidates {
    /// The space that everything in here lives in.
    pub fn space(&self) -> &Space {
        &self.key.space
    }
}
