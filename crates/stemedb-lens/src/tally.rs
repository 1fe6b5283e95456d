//! What stands behind one value: claims, counted once per source and once per voice.
//!
//! Invariants:
//! - A source speaks through its strongest claim only, whoever made it.
//! - A voice speaks through the strongest of the claims that its sources speak through.
//! - The sums are those of the voices' strongest claims, in integers. So neither the order of
//!   adding and removing nor the way tallies were merged can be seen in them.

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
}

impl Strength {
    /// A claim of `tier` at `position`. Confidence outside [0, 1] counts as the nearer bound, NaN
    /// as 0; neither is in an admitted log.
    pub fn new(tier: Tier, confidence: f64, position: Position) -> Self {
        let confidence = if confidence > 0.0 { confidence.min(1.0) } else { 0.0 };
        Self { tier, confidence_bits: Reverse(confidence.to_bits()), position }
    }

    /// Not weaker than any claim of `tier`.
    pub(crate) fn strongest_of(tier: Tier) -> Self {
        Self { tier, confidence_bits: Reverse(u64::MAX), position: Position::NONE }
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
}

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

impl<S, V> Default for Tally<S, V> {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            voices: BTreeMap::new(),
            spoken: BTreeSet::new(),
            tiers: Default::default(),
        }
    }
}

impl<S: Ord + Clone, V: Ord + Clone> Tally<S, V> {
    /// Counts a claim. Adding the same one again changes nothing.
    pub fn add(&mut self, source: &S, voice: &V, strength: Strength) {
        let claim = (strength, voice.clone());
        match self.sources.get_mut(source) {
            None => {
                self.sources.insert(source.clone(), Ranked::One(claim));
                self.speak(voice, strength);
            }
            Some(claims) => {
                let before = claims.first().cloned();
                claims.insert(claim);
                let after = claims.first().cloned();
                self.hand_over(before, after);
            }
        }
    }

    /// Takes a claim out again, as if it had never been added. Removing one that is not in
    /// changes nothing.
    pub fn remove(&mut self, source: &S, voice: &V, strength: Strength) {
        let Some(claims) = self.sources.get_mut(source) else { return };
        let before = claims.first().cloned();
        if claims.remove(&(strength, voice.clone())) {
            self.sources.remove(source);
            self.hand_over(before, None);
        } else {
            let after = claims.first().cloned();
            self.hand_over(before, after);
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

    /// The sums of one tier.
    pub fn tier(&self, tier: Tier) -> TierSum {
        self.tiers.get(usize::from(tier.0)).copied().unwrap_or_default()
    }

    /// The best tier that a claim is of; `None` of no claims.
    pub fn best_tier(&self) -> Option<Tier> {
        let best = self.tiers.iter().position(|sum| sum.voices > 0)?;
        SourceClass::ALL.get(best).map(|class| class.tier())
    }

    /// Undecayed independent support, in 2^-30.
    pub fn support(&self) -> u128 {
        self.tiers.iter().map(|sum| sum.support).sum()
    }

    /// The squares of the voices' weights, in 2^-60.
    pub fn squares(&self) -> u128 {
        self.tiers.iter().map(|sum| sum.squares).sum()
    }

    /// A source speaks through another claim than before.
    fn hand_over(&mut self, before: Option<(Strength, V)>, after: Option<(Strength, V)>) {
        if before == after {
            return;
        }
        if let Some((strength, voice)) = before {
            self.fall_silent(&voice, strength);
        }
        if let Some((strength, voice)) = after {
            self.speak(&voice, strength);
        }
    }

    fn speak(&mut self, voice: &V, strength: Strength) {
        let Some(claims) = self.voices.get_mut(voice) else {
            self.voices.insert(voice.clone(), Ranked::One(strength));
            self.count(strength);
            return;
        };
        let before = claims.first().copied();
        claims.insert(strength);
        let after = claims.first().copied();
        self.recount(before, after);
    }

    fn fall_silent(&mut self, voice: &V, strength: Strength) {
        let Some(claims) = self.voices.get_mut(voice) else { return };
        let before = claims.first().copied();
        if claims.remove(&strength) {
            self.voices.remove(voice);
            self.recount(before, None);
        } else {
            let after = claims.first().copied();
            self.recount(before, after);
        }
    }

    fn recount(&mut self, before: Option<Strength>, after: Option<Strength>) {
        if before == after {
            return;
        }
        if let Some(strength) = before {
            self.spoken.remove(&strength);
            if let Some(sum) = self.tiers.get_mut(usize::from(strength.tier.0)) {
                let weight = u128::from(strength.weight());
                sum.voices -= 1;
                sum.support -= weight;
                sum.squares -= weight * weight;
            }
        }
        if let Some(strength) = after {
            self.count(strength);
        }
    }

    fn count(&mut self, strength: Strength) {
        self.spoken.insert(strength);
        if let Some(sum) = self.tiers.get_mut(usize::from(strength.tier.0)) {
            let weight = u128::from(strength.weight());
            sum.voices += 1;
            sum.support += weight;
            sum.squares += weight * weight;
        }
    }
}
