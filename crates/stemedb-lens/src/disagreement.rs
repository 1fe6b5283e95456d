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
/// the value whose claims and denials are nearest to each other. O(n log n) in values.
///
/// Entropy as a measure of disagreement: Shannon, "A Mathematical Theory of Communication", 1948;
/// its exponential as an effective number: Hill, "Diversity and Evenness", Ecology 54(2), 1973;
/// evidence as an effective sample size: Kish, "Survey Sampling", 1965.
pub(crate) fn disagree(camps: &[Sides<'_>], many: bool) -> Disagreement {
    let verdict = if many {
        let verdicts: Vec<Verdict> = camps
            .iter()
            .map(|camps| Verdict::new(&[Sums::of(camps.yes), Sums::of(camps.no)]))
            .collect();
        let shares = verdicts
            .iter()
            .zip(camps)
            // Of a value that nobody asserts there is no question.
            .map(|(verdict, camps)| if camps.yes.is_empty() { 0 } else { verdict.first() })
            .collect();
        let asked = verdicts.into_iter().zip(camps).filter(|(_, camps)| !camps.yes.is_empty());
        let worst = asked.map(|(verdict, _)| verdict).max_by_key(Verdict::contested);
        Verdict { shares, ..worst.unwrap_or_else(|| Verdict::new(&[])) }
    } else {
        let sums: Vec<_> = camps.iter().map(|camps| Sums::of(camps.yes)).collect();
        Verdict::new(&sums)
    };
    Disagreement {
        status: verdict.status,
        conflict_score: bits(verdict.entropy).min(1.0),
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
struct Verdict {
    shares: Vec<u64>,
    status: Status,
    /// Of the shares, in bits, in 2^-40.
    entropy: u64,
    /// First share less second, in 2^-52.
    margin: u64,
}

impl Verdict {
    fn new(sides: &[Sums]) -> Self {
        let (parts, whole) = exact(sides);
        let mut ranked = parts.clone();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let first = ranked.first().copied().unwrap_or(0);
        let second = ranked.get(1).copied().unwrap_or(0);
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

/// The shares as exact fractions with one denominator: part / whole.
///
/// A sum stays below 2^60 while a key has fewer than 2^30 voices, so all products fit.
fn exact(sides: &[Sums]) -> (Vec<u128>, u128) {
    let best = sides.iter().filter_map(|side| side.best_tier).min();
    let mut all: Vec<u128> = sides.iter().map(|side| side.all).collect();
    let of_best = |side: &Sums| if side.best_tier == best { side.best } else { 0 };
    let mut inside: Vec<u128> = sides.iter().map(of_best).collect();
    if all.iter().all(|sum| *sum == 0) {
        all = sides.iter().map(|side| side.present.into()).collect();
    }
    if inside.iter().all(|sum| *sum == 0) {
        let in_best = |side: &Sums| (side.present && side.best_tier == best).into();
        inside = sides.iter().map(in_best).collect();
    }
    let (sum_all, sum_inside) = (all.iter().sum::<u128>(), inside.iter().sum::<u128>());
    let parts = all.iter().zip(&inside).map(|(all, inside)| {
        all.saturating_mul(sum_inside).saturating_add(inside.saturating_mul(sum_all))
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
