//! Weights in integers, and how they fade.
//!
//! A weight is a confidence c in 2^-30. Under half-life h, a claim of time t belongs to bucket
//! n = floor(t / h) with m = round(c * 2^(30 + t/h - n)): its weight at the end of time, but for a
//! power of two per bucket. Sums of one bucket are plain sums of m; reading at time T shifts each
//! bucket down by its distance from T's and scales once. So a sum can be kept, added to and taken
//! from without knowing when it will be read (forward decay: Cormode, Shkapenyuk, Srivastava, Xu,
//! "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009).

use std::collections::BTreeMap;

use stemedb_model::{Millis, SourceClass, Tier};

use crate::options::Decay;

/// Fraction bits of a weight.
pub(crate) const WEIGHT_BITS: u32 = 30;
/// Weight 1.
pub const WEIGHT_ONE: u64 = 1 << WEIGHT_BITS;
/// Older buckets weigh nothing.
const BUCKETS_MAX: i128 = 62;
const DAY_MS: u64 = 86_400_000;

/// `x` in [0, 2] as an integer in 2^-30, rounded half to even.
pub(crate) fn fixed(x: f64) -> u64 {
    // Exact: a power of two moves the exponent only.
    (x * WEIGHT_ONE as f64).round_ties_even() as u64
}

/// The half-life of a claim of `tier` in milliseconds, at least 1; `None` does not fade.
/// `predicate` is the half-life that its predicate record sets.
pub(crate) fn half_life(decay: Decay, predicate: Option<u64>, tier: Tier) -> Option<u64> {
    let days = |days: u32| u64::from(days) * DAY_MS;
    let half_life = match decay {
        Decay::Off => None,
        Decay::HalfLife(ms) => Some(ms),
        Decay::PerClass => predicate.or_else(|| tier.class().half_life_days().map(days)),
    };
    half_life.map(|ms| ms.max(1))
}

/// The weight of one claim, fading or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Half-life in milliseconds and bucket; `None` does not fade.
    bucket: Option<(u64, i128)>,
    mantissa: u64,
}

impl Weight {
    /// The weight of confidence `c` (0 to 1) claimed at `t`, with a half-life in milliseconds (at
    /// least 1) or none.
    pub fn new(c: f64, t: Millis, half_life: Option<u64>) -> Self {
        match half_life {
            None => Self { bucket: None, mantissa: fixed(c) },
            Some(h) => {
                let (bucket, fraction) = split(t, h);
                let mantissa = fixed(c * libm::exp2(fraction));
                Self { bucket: Some((h, bucket)), mantissa }
            }
        }
    }

    /// What it adds to the sum of its bucket.
    pub(crate) fn mantissa(self) -> u64 {
        self.mantissa
    }

    /// Times `factor` in 2^-30, rounded down.
    #[must_use]
    pub fn scaled(self, factor: u64) -> Self {
        Self { mantissa: scaled(self.mantissa, factor), ..self }
    }
}

/// `weight` times `factor` in 2^-30, rounded down.
pub(crate) fn scaled(weight: u64, factor: u64) -> u64 {
    ((u128::from(weight) * u128::from(factor)) >> WEIGHT_BITS) as u64
}

/// A sum of weights: mergeable, and what was added can be taken out again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sum {
    steady: u128,
    /// By half-life and bucket. No entry is 0.
    fading: BTreeMap<(u64, i128), u128>,
}

impl Sum {
    /// Adds a weight. O(log buckets).
    pub fn add(&mut self, weight: Weight) {
        let mantissa = u128::from(weight.mantissa);
        match weight.bucket {
            None => self.steady += mantissa,
            Some(bucket) if mantissa > 0 => *self.fading.entry(bucket).or_default() += mantissa,
            Some(_) => {}
        }
    }

    /// Takes out a weight that was added. O(log buckets).
    pub fn remove(&mut self, weight: Weight) {
        let mantissa = u128::from(weight.mantissa);
        match weight.bucket {
            None => self.steady = self.steady.saturating_sub(mantissa),
            Some(bucket) => {
                if let Some(sum) = self.fading.get_mut(&bucket) {
                    *sum = sum.saturating_sub(mantissa);
                    if *sum == 0 {
                        self.fading.remove(&bucket);
                    }
                }
            }
        }
    }

    /// The sum at `evaluated_at`, in 2^-30. O(buckets).
    pub fn at(&self, evaluated_at: Millis) -> u128 {
        let mut total = self.steady;
        let mut buckets = self.fading.iter().peekable();
        while let Some(&(&(h, _), _)) = buckets.peek() {
            let (now, fraction) = split(evaluated_at, h);
            let mut sum = 0u128;
            while let Some((&(_, bucket), &mantissa)) = buckets.next_if(|((next, _), _)| *next == h)
            {
                let distance = now - bucket;
                if distance <= BUCKETS_MAX {
                    // Nothing is later than `evaluated_at`: the caller bounds the claims' times.
                    sum += mantissa >> distance.max(0);
                }
            }
            total += (sum * u128::from(fixed(libm::exp2(-fraction)))) >> WEIGHT_BITS;
        }
        total
    }
}

/// `t / h` as its floor and the rest, the latter in [0, 1].
fn split(t: Millis, h: u64) -> (i128, f64) {
    let (t, h) = (i128::from(t.0), i128::from(h.max(1)));
    let bucket = t.div_euclid(h);
    (bucket, t.rem_euclid(h) as f64 / h as f64)
}

/// The share of `part` in `whole` as an integer in 2^-52, rounded half to even; 0 of nothing.
/// `part` is at most `whole`, which is below 2^127. The result is at most 2^52 and exact as f64.
pub(crate) fn share(part: u128, whole: u128) -> u64 {
    let (quotient, rest) = match whole {
        0 => return 0,
        _ if whole < GUESSED_BELOW && part <= whole => guessed(part, whole),
        _ => divided(part, whole),
    };
    let twice = rest << 1;
    if twice > whole || (twice == whole && quotient & 1 == 1) { quotient + 1 } else { quotient }
}

/// Wholes for which a few of them, more or less, still fit an i128.
const GUESSED_BELOW: u128 = 1 << 120;

/// `part` times 2^52 by `whole`, and the rest. Guessed in floating point and put right in integers, so
/// that the guess cannot be seen in the result: divisions of this width are most of what an answer
/// costs otherwise.
fn guessed(part: u128, whole: u128) -> (u64, u128) {
    // At most two off: four roundings of 2^-53 each, in a number of at most 2^52.
    let mut quotient = (part as f64 / whole as f64 * (1u64 << SHARE_BITS) as f64) as u64;
    // Both products may not fit; their difference does, and is right whatever is lost above.
    let product = whole.wrapping_mul(quotient.into());
    let mut rest = (part << SHARE_BITS).wrapping_sub(product).cast_signed();
    while rest < 0 {
        rest += whole.cast_signed();
        quotient -= 1;
    }
    while rest >= whole.cast_signed() {
        rest -= whole.cast_signed();
        quotient += 1;
    }
    (quotient, rest.cast_unsigned())
}

/// The same in integers alone: as many digits at a time as fit, and one always does.
fn divided(part: u128, whole: u128) -> (u64, u128) {
    let mut quotient = (part / whole) as u64;
    let mut rest = part % whole;
    let mut digits = SHARE_BITS;
    while digits > 0 {
        let step = rest.leading_zeros().min(digits);
        rest <<= step;
        quotient = quotient << step | (rest / whole) as u64;
        rest %= whole;
        digits -= step;
    }
    (quotient, rest)
}

/// Fraction bits of a share.
pub(crate) const SHARE_BITS: u32 = 52;

/// A share as a number from 0 to 1. Exact.
pub(crate) fn as_number(share: u64) -> f64 {
    share as f64 / (1u64 << SHARE_BITS) as f64
}

/// The classes' tiers, best first.
pub(crate) fn tiers() -> impl Iterator<Item = Tier> {
    SourceClass::ALL.into_iter().map(SourceClass::tier)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = DAY_MS as i64;

    fn sum(weights: impl IntoIterator<Item = Weight>) -> Sum {
        let mut sum = Sum::default();
        weights.into_iter().for_each(|weight| sum.add(weight));
        sum
    }

    #[test]
    fn shares_round_half_to_even() {
        let one = 1u64 << SHARE_BITS;
        for (part, whole, expected) in [
            (0, 0, 0),
            (0, 7, 0),
            (7, 7, one),
            (1, 2, one / 2),
            (1, 3, one / 3),         // 2^52 / 3 = ...333 and a third
            (2, 3, one / 3 * 2 + 1), // and two thirds
            (1, 1 << 53, 0),         // half a unit, to the even 0
            (3, 1 << 53, 2),         // one and a half, to the even 2
            ((1 << 126) - 1, 1 << 126, one),
        ] {
            assert_eq!(share(part, whole), expected, "{part} of {whole}");
        }
        // Wholes of every size, against one digit after the other.
        for bits in 1..127 {
            let whole = (1u128 << bits) + (1 << bits) / 3;
            let whole = whole.min((1 << 127) - 1);
            for part in [whole / 5, whole / 3 + 1, whole - 1] {
                let (mut rest, mut digits) = (part % whole, part / whole);
                for _ in 0..SHARE_BITS {
                    digits = digits << 1 | u128::from(rest << 1 >= whole);
                    rest = (rest << 1) % whole;
                }
                let up = rest << 1 > whole || rest << 1 == whole && digits & 1 == 1;
                let expected = digits + u128::from(up);
                assert_eq!(u128::from(share(part, whole)), expected, "{part} of {whole}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_guess_is_put_right(whole in any::<u128>(), part in any::<u128>(), width in 1u32..=120) {
            let whole = (whole >> (128 - width)).max(1);
            // Anything, next to nothing, and next to all.
            let little = part % 7 % (whole + 1);
            for part in [part % (whole + 1), little, whole - little] {
                prop_assert_eq!(guessed(part, whole), divided(part, whole));
            }
        }
    }

    #[test]
    fn weights_fade_by_half_each_half_life() {
        for (age_days, half_life_days, expected) in [
            (0, None, WEIGHT_ONE),
            (100_000, None, WEIGHT_ONE),
            (0, Some(30), WEIGHT_ONE),
            (30, Some(30), WEIGHT_ONE / 2),
            (60, Some(30), WEIGHT_ONE / 4),
            (15, Some(30), 759_250_125), // 2^30 / sqrt 2
            (30 * 30, Some(30), 1),
            (31 * 30, Some(30), 0),
            (i64::from(u16::MAX), Some(1), 0),
        ] {
            // At a bucket's start, where nothing is lost to the scale.
            let now = Millis(1000 * 30 * DAY);
            let then = Millis(now.0 - age_days * DAY);
            let half_life = half_life_days.map(|days: u64| days * DAY_MS);
            let found = sum([Weight::new(1.0, then, half_life)]).at(now);
            assert!(found.abs_diff(expected.into()) <= 1, "{age_days} {half_life_days:?}: {found}");
        }
    }

    #[test]
    fn decayed_sums_are_frozen() {
        let weights = [(0.9, 17), (0.25, 1_000_000), (1.0, -1), (0.5, 86_400_001)];
        let weights = weights.map(|(c, t)| Weight::new(c, Millis(t), Some(40_000_000)));
        assert_eq!(sum(weights).at(Millis(90_000_000)), 990_700_693);
    }

    #[test]
    fn what_was_added_can_be_taken_out() {
        let kept = Weight::new(0.3, Millis(5), Some(7));
        let mut both =
            sum([kept, Weight::new(0.7, Millis(5), Some(7)), Weight::new(0.1, Millis(0), None)]);
        both.remove(Weight::new(0.7, Millis(5), Some(7)));
        both.remove(Weight::new(0.1, Millis(0), None));
        assert_eq!(both, sum([kept]));
        both.remove(kept);
        assert_eq!(both, Sum::default());
    }

    #[test]
    fn half_lives() {
        for (decay, predicate, tier, expected) in [
            (Decay::Off, Some(5), 5, None),
            (Decay::HalfLife(9), Some(5), 0, Some(9)),
            (Decay::HalfLife(0), None, 0, Some(1)),
            (Decay::PerClass, Some(5), 0, Some(5)),
            (Decay::PerClass, None, 0, None),
            (Decay::PerClass, None, 5, Some(30 * DAY_MS)),
        ] {
            assert_eq!(half_life(decay, predicate, Tier(tier)), expected);
        }
    }
}
