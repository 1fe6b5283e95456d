//! What a reader may ask for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use stemedb_model::{AgentId, LifecycleState, Millis, SourceKey, Tier};

use crate::custom::CustomLens;

/// The lenses: the built-in ones in the order of answer roots, then any of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the rule of each stands on its `resolve` function")]
pub enum LensName {
    Recency,
    Consensus,
    Confidence,
    Authority,
    Trust,
    Votes,
    Skeptic,
    Layered,
    /// The definition in [`Options::custom`].
    Custom,
}

impl LensName {
    /// All built-in lenses, in table order.
    pub const ALL: [Self; 8] = [
        Self::Recency,
        Self::Consensus,
        Self::Confidence,
        Self::Authority,
        Self::Trust,
        Self::Votes,
        Self::Skeptic,
        Self::Layered,
    ];

    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recency => "recency",
            Self::Consensus => "consensus",
            Self::Confidence => "confidence",
            Self::Authority => "authority",
            Self::Trust => "trust",
            Self::Votes => "votes",
            Self::Skeptic => "skeptic",
            Self::Layered => "layered",
            Self::Custom => "custom",
        }
    }

    /// The built-in lens of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lens| lens.as_str() == name)
    }
}

/// How the weight of a claim fades with its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Decay {
    /// It does not.
    #[default]
    Off,
    /// By the predicate's half-life if set, else the class's.
    PerClass,
    /// By one half-life, in milliseconds, at least 1.
    HalfLife(u64),
}

/// How to read one key. The same options at the same position give the same answer, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The lens. Default: authority.
    pub lens: LensName,
    /// The definition, of the lens [`LensName::Custom`] and of no other.
    pub custom: Option<Arc<CustomLens>>,
    /// Claims of replaced epochs retire. Default: true.
    pub epoch_aware: bool,
    /// Fading of weights. Default: off.
    pub decay: Decay,
    /// Keep only claims at least this certain.
    pub min_confidence: Option<f64>,
    /// Keep only claims in these states. Deprecated and rejected claims are excluded, before the
    /// disagreement is taken, unless they are named here; the other states are filtered after it.
    /// Absent: all but deprecated and rejected.
    pub lifecycle: Option<BTreeSet<LifecycleState>>,
    /// Keep only claims of these tiers.
    pub tiers: Option<BTreeSet<Tier>>,
    /// Keep only claims of these agents.
    pub agents: Option<BTreeSet<AgentId>>,
    /// Keep only claims of these sources.
    pub sources: Option<BTreeSet<SourceKey>>,
    /// Keep only records claimed before this time.
    pub asserted_before: Option<Millis>,
    /// Weights are taken at this time.
    pub evaluated_at: Millis,
    /// Claims that do not hold in the world at this time are excluded.
    pub valid_at: Millis,
}

impl Options {
    /// The defaults, at `evaluated_at`.
    pub fn new(lens: LensName, evaluated_at: Millis) -> Self {
        Self {
            lens,
            custom: None,
            epoch_aware: true,
            decay: Decay::Off,
            min_confidence: None,
            lifecycle: None,
            tiers: None,
            agents: None,
            sources: None,
            asserted_before: None,
            evaluated_at,
            valid_at: evaluated_at,
        }
    }

    /// The defaults of a lens of one's own, at `evaluated_at`.
    pub fn custom(lens: Arc<CustomLens>, evaluated_at: Millis) -> Self {
        Self { custom: Some(lens), ..Self::new(LensName::Custom, evaluated_at) }
    }

    /// The name of the lens in answers and receipts: of one's own `name@version`.
    pub fn lens_name(&self) -> Cow<'static, str> {
        match &self.custom {
            Some(custom) => custom.name().into(),
            None => self.lens.as_str().into(),
        }
    }

    /// Whether the answer depends on the time of evaluation for anything but to tell it.
    pub fn fades(&self) -> bool {
        // A definition may ask for the age of a claim.
        self.decay != Decay::Off || self.custom.is_some()
    }

    /// Whether the lens asks for learned trust.
    pub fn uses_trust(&self) -> bool {
        match &self.custom {
            Some(custom) => custom.uses_trust(),
            None => matches!(self.lens, LensName::Trust | LensName::Votes),
        }
    }

    /// Whether the answer asks for learned trust only in sums that a question can keep
    /// ([`Question::learn`](crate::Question::learn)).
    pub fn sums_trust(&self) -> bool {
        self.lens == LensName::Trust && self.decay == Decay::Off
    }
}
