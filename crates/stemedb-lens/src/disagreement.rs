//! Step 4: how far the candidates agree, the same under every lens.
//!
//! The share of a value is the mean of two shares: of all undecayed independent support, and of
//! the support inside the best tier that has candidates. It is kept as an exact fraction until it
//! is compared; `share` and `margin` are that fraction in 2^-52, rounded half to even. A part in
//! which nothing weighs anything (all confidences 0) is shared equally by the values that have
//! claims in it.

use crate::camp::{Camp, Sides};
use crate::decay::{SHARE_BITS, as_number, share};
use crate::resolution::Status;

/// The figures of step 4.
pub(crate) struct Disagreement {
    /// Per value, in 2^-52.
    pub(crate) shares: Vec<u64>,
    pub(crate) status: Status,
    pub(crate) conflict_score: f64,
    pub(crate) effective_values: f64,
    pub(crate) margin: f64,
    pub(crate) evidence: f64,
}

/// The disagreement between camps. Under cardinality one, between the values; under many, that of
/// the value whose claims and denials are nearest to each other. O(values).
///
/// Entropy as a measure of disagreement: Shannon, "A Mathematical Theory of Communication", 1948;
/// its exponential as an effective number: Hill, "Diversity and Evenness", Ecology 54(2), 1973;
/// evidence as an effective sample size: Kish, "Survey Sampling", 1965.
pub(crate) fn disagree(camps: &[Sides<'_>], many: bool) -> Disagreement {
    let verdict = Verdict::of(camps, many);
    Disagreement {
        status: verdict.status,
        conflict_score: verdict.conflict_score(),
        effective_values: match verdict.status {
            Status::Unknown => 0.0,
            _ => libm::exp2(bits(verdict.entropy)),
        },
        margin: as_number(verdict.margin),
        evidence: evidence(camps),
        shares: verdict.shares,
    }
}

/// The effective number of voices, (sum of weights)^2 / (sum of their squares); 0 of none.
fn evidence(camps: &[Sides<'_>]) -> f64 {
    let both = || camps.iter().flat_map(|camps| [&camps.yes.tally, &camps.no.tally]);
    let sum: u128 = both().map(|tally| tally.support()).sum();
    let squares: u128 = both().map(|tally| tally.squares()).sum();
    if squares == 0 { 0.0 } else { sum.saturating_mul(sum) as f64 / squares as f64 }
}

/// What one side weighs, in all and inside one tier.
struct Sums {
    present: bool,
    best_tier: Option<stemedb_model::Tier>,
    all: u128,
    /// Inside its own best tier, or inside the best of all sides.
    best: u128,
}

impl Sums {
    fn of(camp: &Camp) -> Self {
        let best_tier = camp.tally.best_tier();
        Self {
            present: !camp.is_empty(),
            best_tier,
            all: camp.tally.support(),
            best: best_tier.map_or(0, |tier| camp.tally.tier(tier).support),
        }
    }
}

/// One question with its sides.
pub(crate) struct Verdict {
    /// Per side, in 2^-52; of camps per value.
    pub(crate) shares: Vec<u64>,
    pub(crate) status: Status,
    /// Of the shares, in bits, in 2^-40.
    entropy: u64,
    /// First share less second, in 2^-52.
    margin: u64,
}

impl Verdict {
    /// What [`disagree`] says of camps, without the figures that only a whole answer tells.
    pub(crate) fn of(camps: &[Sides<'_>], many: bool) -> Self {
        if !many {
            return Self::new(camps.iter().map(|camps| Sums::of(camps.yes)).collect());
        }
        let verdicts: Vec<Self> = camps
            .iter()
            .map(|camps| Self::new(vec![Sums::of(camps.yes), Sums::of(camps.no)]))
            .collect();
        let shares = verdicts
            .iter()
            .zip(camps)
            // Of a value that nobody asserts there is no question.
            .map(|(verdict, camps)| if camps.yes.is_empty() { 0 } else { verdict.first() })
            .collect();
        let asked = verdicts.into_iter().zip(camps).filter(|(_, camps)| !camps.yes.is_empty());
        let worst = asked.map(|(verdict, _)| verdict).max_by_key(Self::contested);
        Self { shares, ..worst.unwrap_or_else(|| Self::new(Vec::new())) }
    }

    fn new(mut sides: Vec<Sums>) -> Self {
        let (parts, whole) = exact(&mut sides);
        let (mut first, mut second) = (0, 0);
        for part in &parts {
            if *part > first {
                (first, second) = (*part, first);
            } else {
                second = second.max(*part);
            }
        }
        let lead = first - second;
        let status = match sides.iter().filter(|side| side.present).count() {
            0 => Status::Unknown,
            1 => Status::Unanimous,
            _ if lead.saturating_mul(3) >= whole => Status::Agreed,
            _ => Status::Contested,
        };
        let shares: Vec<u64> = parts.iter().map(|part| share(*part, whole)).collect();
        Self { status, entropy: entropy(&shares), margin: share(lead, whole), shares }
    }

    /// min(1, entropy of the shares in bits).
    pub(crate) fn conflict_score(&self) -> f64 {
        bits(self.entropy).min(1.0)
    }

    fn first(&self) -> u64 {
        self.shares.first().copied().unwrap_or(0)
    }

    /// Ascends from the most agreed to the most contested.
    fn contested(&self) -> (u8, std::cmp::Reverse<u64>, u64) {
        let rank = match self.status {
            Status::Unknown => 0,
            Status::Unanimous => 1,
            Status::Agreed => 2,
            Status::Contested => 3,
        };
        (rank, std::cmp::Reverse(self.margin), self.entropy)
    }
}

/// The shares as exact fractions with one denominator: part / whole. Leaves in `sides` what is shared by.
///
/// A sum stays below 2^60 while a key has fewer than 2^30 voices, so all products fit.
fn exact(sides: &mut [Sums]) -> (Vec<u128>, u128) {
    let best = sides.iter().filter_map(|side| side.best_tier).min();
    let (mut sum_all, mut sum_inside) = (0u128, 0u128);
    for side in sides.iter_mut() {
        if side.best_tier != best {
            side.best = 0;
        }
        sum_all += side.all;
        sum_inside += side.best;
    }
    if sum_all == 0 {
        sides.iter_mut().for_each(|side| side.all = side.present.into());
        sum_all = sides.iter().map(|side| side.all).sum();
    }
    if sum_inside == 0 {
        let in_best = |side: &Sums| (side.present && side.best_tier == best).into();
        sides.iter_mut().for_each(|side| side.best = in_best(side));
        sum_inside = sides.iter().map(|side| side.best).sum();
    }
    let parts = sides.iter().map(|side| {
        side.all.saturating_mul(sum_inside).saturating_add(side.best.saturating_mul(sum_all))
    });
    (parts.collect(), sum_all.saturating_mul(sum_inside).saturating_mul(2))
}

const ENTROPY_BITS: u32 = 40;

/// Entropy of shares in 2^-52, in bits, in 2^-40: each term rounded half to even, then summed, so
/// that order does not matter.
pub(crate) fn entropy(shares: &[u64]) -> u64 {
    let one = 1u64 << SHARE_BITS;
    let inner = shares.iter().filter(|share| **share > 0 && **share < one);
    let term = |share: &u64| {
        let p = as_number(*share);
        let scale = (1u64 << ENTROPY_BITS) as f64;
        (-p * libm::log2(p) * scale).round_ties_even() as u64
    };
    inner.map(term).sum()
}

/// An entropy as a number of bits. Exact.
pub(crate) fn bits(entropy: u64) -> f64 {
    entropy as f64 / (1u64 << ENTROPY_BITS) as f64
}
