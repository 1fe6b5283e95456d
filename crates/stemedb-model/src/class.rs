//! Source classes and their authority tiers.

use crate::names::names;

/// Where evidence comes from. The discriminant is the authority tier, 0 the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SourceClass {
    /// Tier 0: regulators, official registries. Does not decay.
    Regulatory = 0,
    /// Tier 1: clinical trials. Half-life 730 days.
    Clinical = 1,
    /// Tier 2: observational studies. Half-life 365 days.
    Observational = 2,
    /// Tier 3: expert opinion. Half-life 180 days.
    Expert = 3,
    /// Tier 4: community. Half-life 90 days.
    Community = 4,
    /// Tier 5: anecdotes. Half-life 30 days.
    Anecdotal = 5,
}

names!(SourceClass, as_str, {
    Regulatory = "regulatory",
    Clinical = "clinical",
    Observational = "observational",
    Expert = "expert",
    Community = "community",
    Anecdotal = "anecdotal",
});

impl SourceClass {
    /// The authority tier, 0 (best) to 5.
    pub fn tier(self) -> Tier {
        Tier(self as u8)
    }

    /// Half-life in days under decay `per class`; `None` never decays.
    pub fn half_life_days(self) -> Option<u32> {
        match self {
            Self::Regulatory => None,
            Self::Clinical => Some(730),
            Self::Observational => Some(365),
            Self::Expert => Some(180),
            Self::Community => Some(90),
            Self::Anecdotal => Some(30),
        }
    }
}

/// An authority tier, 0 (regulatory) to 5 (anecdotal); a *smaller* number is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tier(pub u8);

impl Tier {
    /// The worse of two tiers.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        self.max(other)
    }

    /// The class that this tier is named by.
    pub fn class(self) -> SourceClass {
        SourceClass::ALL.get(usize::from(self.0)).copied().unwrap_or(SourceClass::Anecdotal)
    }
}
