//! The claims on each side of a value, with all that the lenses ask about them kept at hand.

use std::collections::{BTreeMap, BTreeSet};

use arrayvec::ArrayVec;
use stemedb_model::{Millis, Position, SourceClass, Tier};

use crate::BECAUSE_MAX;
use crate::statements::Statement;
use crate::tally::{Spoken, Strength, Tally, Told};
use crate::trusting::Trusting;

const TIERS: usize = SourceClass::ALL.len();

/// The claims on one side of one value. Every figure is exact at any time, costs O(1) or O(log n) to
/// ask for, and O(log n) a claim to keep. What every answer asks for lies here and not in a tree: an
/// answer looks at many camps, and their trees are far apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Camp {
    pub(crate) tally: Tally<u32, u32>,
    head: Head,
    /// What the voices weigh under the lens `trust`.
    trusted: u128,
    claims: BTreeSet<Strength>,
    recorded: BTreeSet<(Tier, Position)>,
    /// The newest of each tier, or [`Position::NONE`].
    newest: [Position; TIERS],
    times: BTreeSet<(Millis, Position)>,
    counts: [u64; TIERS],
    /// Claims of each agent that stands for any, by tier.
    agents: BTreeMap<(u32, Tier), u64>,
    agents_of_tier: [u64; TIERS],
    agents_in_all: u64,
}

/// The strongest of the claims that voices speak through.
#[derive(Debug, Clone, Default)]
struct Head {
    positions: ArrayVec<Position, BECAUSE_MAX>,
    /// The last of them, if there is no room for more.
    weakest: Option<Strength>,
}

impl Head {
    fn of(tally: &Tally<u32, u32>) -> Self {
        let mut head = Self::default();
        for claim in tally.spoken().take(BECAUSE_MAX) {
            head.positions.push(claim.position());
            head.weakest = head.positions.is_full().then_some(*claim);
        }
        head
    }

    /// Whether a claim is or would be one of them.
    fn reaches(&self, claim: &Strength) -> bool {
        self.weakest.is_none_or(|weakest| *claim <= weakest)
    }
}

impl Camp {
    pub(crate) fn add(&mut self, one: &Statement, trusting: &Trusting) {
        let strength = one.strength();
        if !self.claims.insert(strength) {
            return;
        }
        self.tell(trusting, |tally, told| {
            tally.add_telling(&one.source, &one.voice, strength, told);
        });
        self.recorded.insert((one.tier, one.position));
        if let Some(newest) = self.newest.get_mut(usize::from(one.tier.0)) {
            *newest = one.position.max(*newest);
        }
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
    pub(crate) fn remove(&mut self, one: &Statement, trusting: &Trusting) {
        let strength = one.strength();
        if !self.claims.remove(&strength) {
            return;
        }
        self.tell(trusting, |tally, told| {
            tally.remove_telling(&one.source, &one.voice, strength, told);
        });
        self.recorded.remove(&(one.tier, one.position));
        if let Some(newest) = self.newest.get_mut(usize::from(one.tier.0))
            && *newest == one.position
        {
            let of_tier = (one.tier, Position::NONE)..=(one.tier, Position(u64::MAX));
            let next = self.recorded.range(of_tier).next_back();
            *newest = next.map_or(Position::NONE, |(_, position)| *position);
        }
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

    /// Weighs all voices anew.
    fn learn(&mut self, trusting: &Trusting) {
        self.trusted = self.tally.spoken().map(|claim| trusting.weight(claim)).sum();
    }

    /// Weighs a claim that weighed nothing until now.
    fn weigh(&mut self, one: &Statement, trusting: &Trusting) {
        let strength = one.strength();
        if self.tally.speaks(&strength) {
            self.trusted += trusting.weight(&strength);
        }
    }

    /// Changes the tally, and with it what is kept of what the voices speak through.
    fn tell(&mut self, trusting: &Trusting, change: impl FnOnce(&mut Tally<u32, u32>, Told<'_>)) {
        let (head, trusted) = (&self.head, &mut self.trusted);
        let mut reached = false;
        change(&mut self.tally, &mut |spoken| {
            let claim = match spoken {
                Spoken::Now(claim) => {
                    *trusted += trusting.weight(&claim);
                    claim
                }
                Spoken::NoMore(claim) => {
                    *trusted -= trusting.weight(&claim);
                    claim
                }
            };
            reached |= head.reaches(&claim);
        });
        if reached {
            self.head = Head::of(&self.tally);
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
        let newest = match only {
            Some(tier) => self.newest.get(usize::from(tier.0)),
            None => self.newest.iter().max(),
        };
        newest.copied().unwrap_or(Position::NONE)
    }

    /// The strongest claims of the voices, at most [`BECAUSE_MAX`], strongest first.
    pub(crate) fn because(&self) -> &ArrayVec<Position, BECAUSE_MAX> {
        &self.head.positions
    }

    /// What the voices weigh under the table that the question's sums are kept under, in 2^-30.
    pub(crate) fn trusted(&self) -> u128 {
        self.trusted
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
    tiers: Option<Box<[OfTier; TIERS]>>,
}

/// Most tiers have nothing to say about most values.
type OfTier = Option<Box<[Camp; 2]>>;

impl Camps {
    pub(crate) fn sides(&self) -> Sides<'_> {
        let [yes, no] = &self.all;
        Sides { yes, no }
    }

    /// What the claims of one tier say, as if there were no others; `None` if there are none.
    pub(crate) fn of_tier(&self, tier: Tier) -> Option<Sides<'_>> {
        match &self.tiers {
            Some(tiers) => {
                let [yes, no] = tiers.get(usize::from(tier.0))?.as_deref()?;
                let sides = Sides { yes, no };
                (!sides.is_empty()).then_some(sides)
            }
            None => (self.only_tier() == Some(tier)).then(|| self.sides()),
        }
    }

    pub(crate) fn add(&mut self, one: &Statement, trusting: &Trusting) {
        if self.tiers.is_none()
            && let Some(only) = self.only_tier()
            && only != one.tier
        {
            let mut tiers = Box::<[OfTier; TIERS]>::default();
            if let Some(of_tier) = tiers.get_mut(usize::from(only.0)) {
                *of_tier = Some(Box::new(self.all.clone()));
            }
            self.tiers = Some(tiers);
        }
        self.each(one, |camp| camp.add(one, trusting));
    }

    pub(crate) fn remove(&mut self, one: &Statement, trusting: &Trusting) {
        self.each(one, |camp| camp.remove(one, trusting));
    }

    /// Weighs all claims anew.
    pub(crate) fn learn(&mut self, trusting: &Trusting) {
        let of_tiers = self.tiers.iter_mut().flat_map(|tiers| tiers.iter_mut().flatten());
        let sides = of_tiers.map(|sides| &mut **sides).chain([&mut self.all]);
        sides.flatten().for_each(|camp| camp.learn(trusting));
    }

    /// Weighs a claim that weighed nothing until now.
    pub(crate) fn weigh(&mut self, one: &Statement, trusting: &Trusting) {
        self.each(one, |camp| camp.weigh(one, trusting));
    }

    /// The camps that a claim is in.
    fn each(&mut self, one: &Statement, change: impl Fn(&mut Camp)) {
        let side = |[yes, no]: &mut [Camp; 2]| change(if one.opposing { no } else { yes });
        side(&mut self.all);
        if let Some(tiers) = &mut self.tiers
            && let Some(of_tier) = tiers.get_mut(usize::from(one.tier.0))
        {
            side(of_tier.get_or_insert_default());
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
        let of_tiers = self.tiers.iter().map(|tiers| {
            let spoken = tiers.iter().flatten().count();
            claims + TIERS * size_of::<OfTier>() + spoken * size_of::<[Camp; 2]>()
        });
        size_of::<Self>() + claims + of_tiers.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use stemedb_model::{AgentId, Hash, Key, PredicateName, Space, Subject};

    use super::*;
    use crate::lenses::Reliability;

    const AGENTS: u8 = 40;

    struct Table;

    impl Reliability for Table {
        fn reliability(&self, agent: &AgentId, _key: &Key) -> Option<u64> {
            (!agent.0[0].is_multiple_of(3)).then_some(u64::from(agent.0[0]) << 22)
        }

        fn name(&self) -> Option<Hash> {
            Some(Hash([1; 32]))
        }
    }

    fn trusting() -> Trusting {
        let agents: Vec<AgentId> = (0..AGENTS).map(|n| AgentId([n; 32])).collect();
        let key = Key {
            space: Space::default(),
            subject: Subject::parse("s").unwrap(),
            predicate: PredicateName::parse("p").unwrap(),
        };
        Trusting::new(Some(&Table), &agents, &key).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Claims come and go, of many more voices than an answer names.
        #[test]
        fn what_lies_at_hand_is_what_the_trees_say(
            claims in vec((0..AGENTS, 0..AGENTS, 0u8..6, 0u8..=10), 1..80),
            turns in vec(0usize..80, 1..250),
        ) {
            let trusting = trusting();
            let statement = |at: usize| {
                let (agent, source, tier, tenths) = claims[at];
                let confidence = f64::from(tenths) / 10.0;
                let strength = Strength::new(Tier(tier), confidence, Position(at as u64 + 1));
                Statement::bare(strength, agent.into(), source.into())
            };
            let (mut camps, mut inside) = (Camps::default(), BTreeSet::new());
            for turn in (0..claims.len()).chain(turns) {
                let one = statement(turn % claims.len());
                if inside.insert(one.position) {
                    camps.add(&one, &trusting);
                } else {
                    inside.remove(&one.position);
                    camps.remove(&one, &trusting);
                }
                let of_tiers = (0..6).filter_map(|tier| camps.of_tier(Tier(tier)));
                for Sides { yes, .. } in of_tiers.chain([camps.sides()]) {
                    let spoken = || yes.tally.spoken();
                    let strongest: Vec<_> = spoken().take(BECAUSE_MAX).map(Strength::position).collect();
                    prop_assert_eq!(yes.because().as_slice(), strongest.as_slice());
                    let trusted: u128 = spoken().map(|claim| trusting.weight(claim)).sum();
                    prop_assert_eq!(yes.trusted(), trusted);
                    for only in (0..6).map(|tier| Some(Tier(tier))).chain([None]) {
                        let of_tier = |claim: &&Strength| only.is_none_or(|tier| claim.tier() == tier);
                        let newest = yes.claims().filter(of_tier).map(Strength::position).max();
                        prop_assert_eq!(yes.newest(only), newest.unwrap_or(Position::NONE));
                    }
                }
            }
        }
    }
}
