//! The claims on each side of a value, with all that the lenses ask about them kept at hand.

use std::collections::{BTreeMap, BTreeSet};

use stemedb_model::{Millis, Position, SourceClass, Tier};

use crate::statements::Statement;
use crate::tally::{Strength, Tally};

const TIERS: usize = SourceClass::ALL.len();

/// The claims on one side of one value. Every figure is exact at any time, costs O(1) or O(log n) to
/// ask for, and O(log n) a claim to keep.
#[derive(Debug, Clone, Default)]
pub(crate) struct Camp {
    pub(crate) tally: Tally<u32, u32>,
    claims: BTreeSet<Strength>,
    recorded: BTreeSet<(Tier, Position)>,
    times: BTreeSet<(Millis, Position)>,
    counts: [u64; TIERS],
    /// Claims of each agent that stands for any, by tier.
    agents: BTreeMap<(u32, Tier), u64>,
    agents_of_tier: [u64; TIERS],
    agents_in_all: u64,
}

impl Camp {
    pub(crate) fn add(&mut self, one: &Statement) {
        let strength = one.strength();
        if !self.claims.insert(strength) {
            return;
        }
        self.tally.add(&one.source, &one.voice, strength);
        self.recorded.insert((one.tier, one.position));
        self.times.insert((one.time, one.position));
        if let Some(count) = self.counts.get_mut(usize::from(one.tier.0)) {
            *count += 1;
        }
        if !self.speaks(one.agent) {
            self.agents_in_all += 1;
        }
        let claims = self.agents.entry((one.agent, one.tier)).or_default();
        *claims += 1;
        if *claims == 1
            && let Some(agents) = self.agents_of_tier.get_mut(usize::from(one.tier.0))
        {
            *agents += 1;
        }
    }

    /// Takes out a claim that was added, given as it was then.
    pub(crate) fn remove(&mut self, one: &Statement) {
        let strength = one.strength();
        if !self.claims.remove(&strength) {
            return;
        }
        self.tally.remove(&one.source, &one.voice, strength);
        self.recorded.remove(&(one.tier, one.position));
        self.times.remove(&(one.time, one.position));
        if let Some(count) = self.counts.get_mut(usize::from(one.tier.0)) {
            *count -= 1;
        }
        let of_agent = (one.agent, one.tier);
        if let Some(claims) = self.agents.get_mut(&of_agent) {
            *claims -= 1;
            if *claims == 0 {
                self.agents.remove(&of_agent);
                if let Some(agents) = self.agents_of_tier.get_mut(usize::from(one.tier.0)) {
                    *agents -= 1;
                }
                if !self.speaks(one.agent) {
                    self.agents_in_all -= 1;
                }
            }
        }
    }

    fn speaks(&self, agent: u32) -> bool {
        let worst = SourceClass::Anecdotal.tier();
        self.agents.range((agent, Tier(0))..=(agent, worst)).next().is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub(crate) fn holds(&self, one: &Statement) -> bool {
        self.claims.contains(&one.strength())
    }

    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Strongest first.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Strength> {
        self.claims.iter()
    }

    /// How many claims are of a tier.
    pub(crate) fn of_tier(&self, tier: Tier) -> u64 {
        self.counts.get(usize::from(tier.0)).copied().unwrap_or(0)
    }

    /// Distinct agents behind the claims, or behind those of one tier.
    pub(crate) fn agents(&self, only: Option<Tier>) -> u64 {
        match only {
            Some(tier) => self.agents_of_tier.get(usize::from(tier.0)).copied().unwrap_or(0),
            None => self.agents_in_all,
        }
    }

    /// The newest claim, or the newest of one tier; [`Position::NONE`] of none.
    pub(crate) fn newest(&self, only: Option<Tier>) -> Position {
        let of_tier = |tier| {
            let range = (tier, Position::NONE)..=(tier, Position(u64::MAX));
            self.recorded.range(range).next_back().map(|(_, position)| *position)
        };
        let newest = match only {
            Some(tier) => of_tier(tier),
            None => SourceClass::ALL.into_iter().filter_map(|class| of_tier(class.tier())).max(),
        };
        newest.unwrap_or(Position::NONE)
    }

    /// The newest claimed time.
    pub(crate) fn latest(&self) -> Option<Millis> {
        self.times.last().map(|(time, _)| *time)
    }

    /// The highest confidence of any claim, as a weight.
    pub(crate) fn most_confident(&self) -> u64 {
        let of_tier = |class: SourceClass| {
            let tier = class.tier();
            let first = self.claims.range(Strength::strongest_of(tier)..).next();
            first.filter(|strength| strength.tier() == tier).map(Strength::weight)
        };
        SourceClass::ALL.into_iter().filter_map(of_tier).max().unwrap_or(0)
    }
}

/// Both sides of one value. Under cardinality one nobody denies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides<'a> {
    pub(crate) yes: &'a Camp,
    pub(crate) no: &'a Camp,
}

impl Sides<'_> {
    pub(crate) fn is_empty(self) -> bool {
        self.yes.is_empty() && self.no.is_empty()
    }
}

/// Both sides of one value, together and tier by tier.
#[derive(Debug, Clone, Default)]
pub(crate) struct Camps {
    all: [Camp; 2],
    /// What each tier says by itself; `None` while all are of one.
    tiers: Option<Box<[[Camp; 2]; TIERS]>>,
}

impl Camps {
    pub(crate) fn sides(&self) -> Sides<'_> {
        let [yes, no] = &self.all;
        Sides { yes, no }
    }

    /// What the claims of one tier say, as if there were no others; `None` if there are none.
    pub(crate) fn of_tier(&self, tier: Tier) -> Option<Sides<'_>> {
        match &self.tiers {
            Some(tiers) => {
                let [yes, no] = tiers.get(usize::from(tier.0))?;
                let sides = Sides { yes, no };
                (!sides.is_empty()).then_some(sides)
            }
            None => (self.only_tier() == Some(tier)).then(|| self.sides()),
        }
    }

    pub(crate) fn add(&mut self, one: &Statement) {
        if self.tiers.is_none()
            && let Some(only) = self.only_tier()
            && only != one.tier
        {
            let mut tiers = Box::<[[Camp; 2]; TIERS]>::default();
            if let Some(of_tier) = tiers.get_mut(usize::from(only.0)) {
                *of_tier = self.all.clone();
            }
            self.tiers = Some(tiers);
        }
        self.each(one, Camp::add);
    }

    pub(crate) fn remove(&mut self, one: &Statement) {
        self.each(one, Camp::remove);
    }

    fn each(&mut self, one: &Statement, change: fn(&mut Camp, &Statement)) {
        let side = |[yes, no]: &mut [Camp; 2]| change(if one.opposing { no } else { yes }, one);
        side(&mut self.all);
        if let Some(tiers) = &mut self.tiers
            && let Some(of_tier) = tiers.get_mut(usize::from(one.tier.0))
        {
            side(of_tier);
        }
    }

    /// The tier of all claims, if they are of one.
    fn only_tier(&self) -> Option<Tier> {
        let [yes, no] = &self.all;
        yes.claims.first().or_else(|| no.claims.first()).map(Strength::tier)
    }

    /// Bytes of memory, about.
    pub(crate) fn weight(&self) -> usize {
        let [yes, no] = &self.all;
        let claims = (yes.len() + no.len()) * 260;
        size_of::<Self>() + if self.tiers.is_some() { 2 * claims } else { claims }
    }
}
