//! The fifteen kinds of record. Field names are those of the canonical form, which is specified
//! in `docs/format/record.md`; limits are in [`crate::limits`] and checked by
//! [`Record::validate`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::class::SourceClass;
use crate::ids::{AgentId, Hash, LogId, Millis, Position, RecordId, Signature};
use crate::names::names;
use crate::text::{PredicateName, Space, Subject};
use crate::value::{Value, ValueType};

/// One record: everything that its id is computed from. The signature is outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The namespace the record lives in.
    pub space: Space,
    /// Who signs it.
    pub agent: AgentId,
    /// When its author says it was made.
    pub at: Millis,
    /// The database it was signed for: in every kind but assertion and cosign.
    pub log_id: Option<LogId>,
    /// What it says.
    pub body: Body,
}

/// The kind-specific part of a record.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is documented by the struct it holds")]
pub enum Body {
    Genesis(Genesis),
    Assertion(Assertion),
    Cosign(Cosign),
    Vote(Vote),
    Epoch(Epoch),
    Source(Source),
    Retract(Retract),
    Supersede(Supersede),
    Predicate(Predicate),
    Alias(Alias),
    Agent(Agent),
    Lens(Lens),
    Gold(Gold),
    TrustSnapshot(TrustSnapshot),
    Lifecycle(Lifecycle),
}

/// The tag of a record kind; the discriminant is the `kind` of the canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is documented by the struct of the same name")]
pub enum Kind {
    Genesis = 0,
    Assertion = 1,
    Cosign = 2,
    Vote = 3,
    Epoch = 4,
    Source = 5,
    Retract = 6,
    Supersede = 7,
    Predicate = 8,
    Alias = 9,
    Agent = 10,
    Lens = 11,
    Gold = 12,
    TrustSnapshot = 13,
    Lifecycle = 14,
}

names!(Kind, name, {
    Genesis = "genesis",
    Assertion = "assertion",
    Cosign = "cosign",
    Vote = "vote",
    Epoch = "epoch",
    Source = "source",
    Retract = "retract",
    Supersede = "supersede",
    Predicate = "predicate",
    Alias = "alias",
    Agent = "agent",
    Lens = "lens",
    Gold = "gold",
    TrustSnapshot = "trust_snapshot",
    Lifecycle = "lifecycle",
});

impl Kind {
    /// The `kind` of the canonical form.
    pub fn tag(self) -> u8 {
        self as u8
    }

    /// The kind with this tag.
    pub fn from_tag(tag: u64) -> Option<Self> {
        // `ALL` is in the order of the tags, which are dense from 0.
        usize::try_from(tag).ok().and_then(|tag| Self::ALL.get(tag).copied())
    }
}

/// Position 1 of every log: names the database and its root key, which signs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Genesis {
    /// Version of the record format, 1.
    pub format: u64,
    /// The root key; equal to the record's `agent`.
    pub root: AgentId,
}

/// One claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    /// The entity.
    pub subject: Subject,
    /// The property or relation.
    pub predicate: PredicateName,
    /// The claimed value.
    pub object: Value,
    /// The claimant's own certainty, 0 to 1.
    pub confidence: f64,
    /// Provenance; `None`: the source is the agent itself, class anecdotal.
    pub source: Option<Provenance>,
    /// From when the claim holds in the world, included.
    pub valid_from: Option<Millis>,
    /// Until when it holds, excluded.
    pub valid_to: Option<Millis>,
    /// The epoch it was made under.
    pub epoch: Option<RecordId>,
    /// Declared state; counts as proposed unless the author was reviewer at that position.
    pub lifecycle: LifecycleState,
    /// The assertion it revises.
    pub parent: Option<RecordId>,
    /// Its premises, ascending, no repeats, at most 64.
    pub derived_from: Vec<RecordId>,
    /// An embedding: f32 little-endian, at most 4096 of them.
    pub vector: Option<Arc<[u8]>>,
    /// A perceptual hash.
    pub visual_hash: Option<[u8; 8]>,
    /// Free pairs.
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
}

/// The `source` of an assertion. At least one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance {
    /// Where the evidence was found, as written.
    pub uri: Option<Arc<str>>,
    /// Hash of the evidence itself.
    pub evidence: Option<Hash>,
    /// Declared class; `None` declares nothing if the source is registered, else anecdotal.
    pub class: Option<SourceClass>,
}

/// What names a source: the evidence hash if there is one, else the URI as written, else the
/// agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKey {
    /// By content.
    Evidence(Hash),
    /// By address, compared byte for byte.
    Uri(Arc<str>),
    /// The claimant is its own source. Cannot be registered or retracted as a source.
    Agent(AgentId),
}

/// Another agent stands by an assertion.
#[derive(Debug, Clone, PartialEq)]
pub struct Cosign {
    /// What is stood by.
    pub assertion: RecordId,
}

/// A signed weight for or against an assertion.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// What is voted on.
    pub assertion: RecordId,
    /// -1 (against) to 1 (for).
    pub weight: f64,
}

/// A named era or paradigm.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// 1 to 512 bytes.
    pub name: Arc<str>,
    /// At most 4 KiB.
    pub description: Option<Arc<str>>,
    /// An earlier epoch, and what happens to it.
    pub supersedes: Option<(RecordId, EpochMode)>,
}

/// What superseding does to the claims of the named epoch. Canonical field `mode`, present
/// exactly when `supersedes` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochMode {
    /// `replace`: they retire for epoch-aware reads.
    Replace,
    /// `extend`: nothing retires.
    Extend,
}

names!(EpochMode, as_str, { Replace = "replace", Extend = "extend" });

/// Registers or re-classifies a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The names of this one source: 1 to 64, ascending (hashes before URIs), no repeats; never
    /// `SourceKey::Agent`. Canonical form: byte strings and texts in one list.
    pub keys: Vec<SourceKey>,
    /// Its class.
    pub class: SourceClass,
    /// 1 to 512 bytes.
    pub title: Option<Arc<str>>,
}

/// Takes something back; undone by retracting the retraction.
#[derive(Debug, Clone, PartialEq)]
pub struct Retract {
    /// What is taken back.
    pub target: RetractTarget,
    /// At most 4 KiB.
    pub reason: Option<Arc<str>>,
}

/// Canonical fields: exactly one of `record` (byte string) and `source` (byte string or text).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetractTarget {
    /// A record; not genesis, agent or trust_snapshot.
    Record(RecordId),
    /// A source: every claim that rests on it is excluded. Never `SourceKey::Agent`.
    Source(SourceKey),
}

/// One assertion takes another's place while the new one is live.
#[derive(Debug, Clone, PartialEq)]
pub struct Supersede {
    /// The assertion that retires.
    pub old: RecordId,
    /// The assertion that takes its place.
    pub new: RecordId,
    /// At most 4 KiB.
    pub reason: Option<Arc<str>>,
}

/// Registers a predicate. The newest live record for a name holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// The predicate.
    pub name: PredicateName,
    /// One value or a set.
    pub cardinality: Cardinality,
    /// Canonical field `type`.
    pub value_type: Option<ValueType>,
    /// The unit of the predicate, 1 to 512 bytes.
    pub unit: Option<Arc<str>>,
    /// How other units become this one; by unit, ascending, at most 64.
    pub conversions: Vec<Conversion>,
    /// When two numbers are one value.
    pub tolerance: Option<Tolerance>,
    /// Predicates that deny this one for the same subject and value; ascending, at most 64.
    pub opposites: Vec<PredicateName>,
    /// Half-life in milliseconds under decay `per class`, at least 1.
    pub half_life: Option<u64>,
}

/// How many values a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// `one`
    One,
    /// `many`: each value is a question of its own.
    Many,
}

names!(Cardinality, as_str, { One = "one", Many = "many" });

/// `value * multiply + add`, one f64 multiply then one f64 add.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// The unit converted from.
    pub unit: Arc<str>,
    /// Finite, not 0.
    pub multiply: f64,
    /// Finite.
    pub add: f64,
}

/// Whichever of the two allows more holds, bounds included. At least one is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// In the predicate's unit (ms for times), finite, at least 0.
    pub absolute: Option<f64>,
    /// Relative to the centre, finite, at least 0.
    pub relative: Option<f64>,
}

/// Two subjects are one entity. They differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    /// One subject.
    pub subject: Subject,
    /// The other.
    pub other: Subject,
}

/// Registers, replaces or revokes a key. Canonical fields: `key`, and by variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// The key the record is about: registered, new, or revoked.
    pub key: AgentId,
    /// What happens to it.
    pub act: AgentAct,
}

/// What an agent record does.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentAct {
    /// Fields `name`, `ceiling` (always), `operator`, `roles`. A newer one takes the older's place.
    Register {
        /// 1 to 512 bytes.
        name: Option<Arc<str>>,
        /// The best tier its claims can have, by class name.
        ceiling: SourceClass,
        /// Who runs it: agents of one operator are one voice. 1 to 512 bytes.
        operator: Option<Arc<str>>,
        /// Ascending by name, no repeats; absent if empty.
        roles: Vec<Role>,
    },
    /// Fields `replaces` (the old key, equal to the record's agent) and `consent`: the new key's
    /// signature over `"stemedb/v1/replace" 0x00 log_id space old new`.
    Replace {
        /// The old key.
        replaces: AgentId,
        /// By the new key.
        consent: Signature,
    },
    /// Field `from_position`, at least 1: what the key wrote from there on ceases to count.
    Revoke {
        /// First position that no longer counts.
        from_position: Position,
    },
}

/// A right given by an agent record. Ordered by canonical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `curator`: retracts and supersedes others' assertions at or below its ceiling.
    Curator,
    /// `registrar`: sources, predicates, aliases, lenses, gold, epochs, agents.
    Registrar,
    /// `reviewer`: moves assertions through their lifecycle.
    Reviewer,
    /// `trust`: writes trust snapshots.
    Trust,
}

names!(Role, as_str, {
    Curator = "curator",
    Registrar = "registrar",
    Reviewer = "reviewer",
    Trust = "trust",
});

/// A named, versioned lens definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Lens {
    /// 1 to 512 bytes; not the name of a built-in lens.
    pub name: Arc<str>,
    /// From 1; a (name, version) is defined once per space.
    pub version: u64,
    /// CEL over one claim; absent keeps all. At most 4 KiB.
    pub filter: Option<Arc<str>>,
    /// CEL over one claim, a number. 1 byte to 4 KiB.
    pub weight: Arc<str>,
    /// How the weights of a value's voices combine.
    pub aggregate: Aggregate,
    /// Order in which ties are broken, no repeats; absent if empty (then the standard order).
    pub ties: Vec<TieRule>,
}

/// Canonical form: the lower-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// `sum`
    Sum,
    /// `max`
    Max,
}

names!(Aggregate, as_str, { Sum = "sum", Max = "max" });

/// Canonical form: the lower-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TieRule {
    /// `agents`: more distinct agents.
    Agents,
    /// `newest`: newest recorded.
    Newest,
    /// `bytes`: smaller canonical bytes.
    Bytes,
}

names!(TieRule, as_str, { Agents = "agents", Newest = "newest", Bytes = "bytes" });

/// A known-true value for a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Gold {
    /// The entity.
    pub subject: Subject,
    /// The property.
    pub predicate: PredicateName,
    /// What is true.
    pub object: Value,
}

/// The only way learned trust changes.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustSnapshot {
    /// The table was learned from the records up to here.
    pub input_position: Position,
    /// Hash of the method's configuration.
    pub config: Hash,
    /// Hash of the learned table.
    pub table: Hash,
}

/// Moves an assertion to a state; the newest recorded one holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    /// What is moved.
    pub assertion: RecordId,
    /// Where to.
    pub state: LifecycleState,
    /// At most 4 KiB.
    pub reason: Option<Arc<str>>,
}

/// State of an assertion. Canonical form: the lower-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum LifecycleState {
    /// `proposed`, the default.
    #[default]
    Proposed,
    /// `under_review`
    UnderReview,
    /// `approved`
    Approved,
    /// `deprecated`: excluded by default.
    Deprecated,
    /// `rejected`: excluded by default, and what rests on it is undermined.
    Rejected,
}

names!(LifecycleState, as_str, {
    Proposed = "proposed",
    UnderReview = "under_review",
    Approved = "approved",
    Deprecated = "deprecated",
    Rejected = "rejected",
});

impl Body {
    /// The tag of this body.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Genesis(_) => Kind::Genesis,
            Self::Assertion(_) => Kind::Assertion,
            Self::Cosign(_) => Kind::Cosign,
            Self::Vote(_) => Kind::Vote,
            Self::Epoch(_) => Kind::Epoch,
            Self::Source(_) => Kind::Source,
            Self::Retract(_) => Kind::Retract,
            Self::Supersede(_) => Kind::Supersede,
            Self::Predicate(_) => Kind::Predicate,
            Self::Alias(_) => Kind::Alias,
            Self::Agent(_) => Kind::Agent,
            Self::Lens(_) => Kind::Lens,
            Self::Gold(_) => Kind::Gold,
            Self::TrustSnapshot(_) => Kind::TrustSnapshot,
            Self::Lifecycle(_) => Kind::Lifecycle,
        }
    }
}

impl Record {
    /// The kind of its body.
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }
}

impl Assertion {
    /// What names the source of this claim by `agent`.
    pub fn source_key(&self, agent: AgentId) -> SourceKey {
        match &self.source {
            Some(Provenance { evidence: Some(hash), .. }) => SourceKey::Evidence(*hash),
            Some(Provenance { uri: Some(uri), .. }) => SourceKey::Uri(uri.clone()),
            _ => SourceKey::Agent(agent),
        }
    }

    /// The class its author declared.
    pub fn declared_class(&self) -> Option<SourceClass> {
        self.source.as_ref().and_then(|source| source.class)
    }
}
