//! What stands behind one value: claims, counted once per source and once per voice.
//!
//! Invariants:
//! - A source speaks through its strongest claim only, whoever made it.
//! - A voice speaks through the strongest of the claims that its sources speak through.
//! - The sums are those of the voices' strongest claims, in integers. So neither the order of
//!   adding and removing nor the way tallies were merged can be seen in them.
//! - The sums over all tiers are those of the single tiers together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stemedb_model::{Position, SourceClass, Tier};

use crate::decay::fixed;
use crate::ranked::Ranked;

/// How strong a claim is, before any fading. The strongest is the smallest: best tier, then
/// highest confidence, then oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strength {
    tier: Tier,
    // For numbers in [0, 1] the order of the bits is the order of the numbers.
    confidence_bits: Reverse<u64>,
    position: Position,
    // Decides nothing: no two claims have one position.
    agent: u32,
}

impl Strength {
    /// A claim of `tier` at `position`. Confidence outside [0, 1] counts as the nearer bound, NaN
    /// as 0; neither is in an admitted log.
    pub fn new(tier: Tier, confidence: f64, position: Position) -> Self {
        let confidence = if confidence > 0.0 { confidence.min(1.0) } else { 0.0 };
        Self { tier, confidence_bits: Reverse(confidence.to_bits()), position, agent: 0 }
    }

    /// The same, of a claim that this agent stands for.
    #[must_use]
    pub(crate) fn by(self, agent: u32) -> Self {
        Self { agent, ..self }
    }

    /// Not weaker than any claim of `tier`.
    pub(crate) fn strongest_of(tier: Tier) -> Self {
        let confidence_bits = Reverse(u64::MAX);
        Self { tier, confidence_bits, position: Position::NONE, agent: 0 }
    }

    /// Its tier.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Its confidence, 0 to 1.
    pub fn confidence(&self) -> f64 {
        f64::from_bits(self.confidence_bits.0)
    }

    /// Its assertion.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The number of the agent that stands for it.
    pub(crate) fn agent(&self) -> u32 {
        self.agent
    }

    /// Undecayed weight: the confidence in 2^-30, rounded half to even.
    pub fn weight(&self) -> u64 {
        fixed(self.confidence())
    }
}

/// The support of one value, mergeable and removable. `S` names sources, `V` voices.
///
/// Adding and removing cost O(log n) in the claims of the value, the sums O(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally<S, V> {
    sources: BTreeMap<S, Ranked<(Strength, V)>>,
    voices: BTreeMap<V, Ranked<Strength>>,
    /// What the voices speak through.
    spoken: BTreeSet<Strength>,
    tiers: [TierSum; SourceClass::ALL.len()],
    all: TierSum,
}

/// A voice speaks through a claim from now on, or does so no more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spoken {
    Now(Strength),
    NoMore(Strength),
}

/// Who is told of each.
pub(crate) type Told<'a> = &'a mut dyn FnMut(Spoken);

/// What the voices of one tier weigh together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierSum {
    /// Voices whose strongest claim is of this tier.
    pub voices: u64,
    /// Their undecayed weights, in 2^-30.
    pub support: u128,
    /// The squares of these, in 2^-60.
    pub squares: u128,
}

impl TierSum {
    fn add(&mut self, weight: u128) {
        self.voices += 1;
        self.support += weight;
        self.squares += weight * weight;
    }

    fn remove(&mut self, weight: u128) {
        self.voices -= 1;
        self.support -= weight;
        self.squares -= weight * weight;
    }
}

impl<S, V> Default for Tally<S, V> {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            voices: BTreeMap::new(),
            spoken: BTreeSet::new(),
            tiers: Default::default(),
            all: TierSum::default(),
        }
    }
}

impl<S: Ord + Clone, V: Ord + Clone> Tally<S, V> {
    /// Counts a claim. Adding the same one again changes nothing.
    pub fn add(&mut self, source: &S, voice: &V, strength: Strength) {
        self.add_telling(source, voice, strength, &mut |_| {});
    }

    /// [`Tally::add`], with what it changes of what the voices speak through told to `told`.
    pub(crate) fn add_telling(&mut self, source: &S, voice: &V, one: Strength, told: Told<'_>) {
        let claim = (one, voice.clone());
        match self.sources.get_mut(source) {
            None => {
                self.sources.insert(source.clone(), Ranked::One(claim));
                self.speak(voice, one, told);
            }
            Some(claims) => {
                let before = claims.first().cloned();
                claims.insert(claim);
                let after = claims.first().cloned();
                self.hand_over(before, after, told);
            }
        }
    }

    /// Takes a claim out again, as if it had never been added. Removing one that is not in
    /// changes nothing.
    pub fn remove(&mut self, source: &S, voice: &V, strength: Strength) {
        self.remove_telling(source, voice, strength, &mut |_| {});
    }

    /// [`Tally::remove`], with what it changes of what the voices speak through told to `told`.
    pub(crate) fn remove_telling(&mut self, source: &S, voice: &V, one: Strength, told: Told<'_>) {
        let Some(claims) = self.sources.get_mut(source) else { return };
        let before = claims.first().cloned();
        if claims.remove(&(one, voice.clone())) {
            self.sources.remove(source);
            self.hand_over(before, None, told);
        } else {
            let after = claims.first().cloned();
            self.hand_over(before, after, told);
        }
    }

    /// Adds all claims of another tally: one value instead of two.
    pub fn merge(&mut self, other: &Self) {
        for (source, claims) in &other.sources {
            claims.for_each(|(strength, voice)| self.add(source, voice, *strength));
        }
    }

    /// The voices, each with its strongest claim, in the order of `V`.
    pub fn voices(&self) -> impl Iterator<Item = (&V, &Strength)> {
        self.voices.iter().filter_map(|(voice, claims)| Some((voice, claims.first()?)))
    }

    /// The strongest claims of the voices, strongest first.
    pub fn spoken(&self) -> impl ExactSizeIterator<Item = &Strength> {
        self.spoken.iter()
    }

    /// Whether a voice speaks through this claim.
    pub(crate) fn speaks(&self, claim: &Strength) -> bool {
        self.spoken.contains(claim)
    }

    /// The sums of one tier.
    pub fn tier(&self, tier: Tier) -> TierSum {
        self.tiers.get(usize::from(tier.0)).copied().unwrap_or_default()
    }

    /// The best tier that a claim is of; `None` of no claims.
    pub fn best_tier(&self) -> Option<Tier> {
        if self.all.voices == 0 {
            return None;
        }
        let best = self.tiers.iter().position(|sum| sum.voices > 0)?;
        SourceClass::ALL.get(best).map(|class| class.tier())
    }

    /// Undecayed independent support, in 2^-30.
    pub fn support(&self) -> u128 {
        self.all.support
    }

    /// The squares of the voices' weights, in 2^-60.
    pub fn squares(&self) -> u128 {
        self.all.squares
    }

    /// A source speaks through another claim than before.
    fn hand_over(
        &mut self,
        before: Option<(Strength, V)>,
        after: Option<(Strength, V)>,
        told: Told<'_>,
    ) {
        if before == after {
            return;
        }
        if let Some((strength, voice)) = before {
            self.fall_silent(&voice, strength, told);
        }
        if let Some((strength, voice)) = after {
            self.speak(&voice, strength, told);
        }
    }

    fn speak(&mut self, voice: &V, strength: Strength, told: Told<'_>) {
        let Some(claims) = self.voices.get_mut(voice) else {
            self.voices.insert(voice.clone(), Ranked::One(strength));
            self.recount(None, Some(strength), told);
            return;
        };
        let before = claims.first().copied();
        claims.insert(strength);
        let after = claims.first().copied();
        self.recount(before, after, told);
    }

    fn fall_silent(&mut self, voice: &V, strength: Strength, told: Told<'_>) {
        let Some(claims) = self.voices.get_mut(voice) else { return };
        let before = claims.first().copied();
        if claims.remove(&strength) {
            self.voices.remove(voice);
            self.recount(before, None, told);
        } else {
            let after = claims.first().copied();
            self.recount(before, after, told);
        }
    }

    fn recount(&mut self, before: Option<Strength>, after: Option<Strength>, told: Told<'_>) {
        if before == after {
            return;
        }
        if let Some(strength) = before {
            self.spoken.remove(&strength);
            self.sums(strength.tier, |sum| sum.remove(strength.weight().into()));
            told(Spoken::NoMore(strength));
        }
        if let Some(strength) = after {
            self.spoken.insert(strength);
            self.sums(strength.tier, |sum| sum.add(strength.weight().into()));
            told(Spoken::Now(strength));
        }
    }

    /// The sums that a claim of this tier is in.
    fn sums(&mut self, tier: Tier, change: impl Fn(&mut TierSum)) {
        if let Some(sum) = self.tiers.get_mut(usize::from(tier.0)) {
            change(sum);
            change(&mut self.all);
        }
    }
}
