//! Tallies and sums kept by adding, removing and merging are those made at once.

use proptest::collection::vec;
use proptest::prelude::*;
use stemedb_lens::{Strength, Sum, Tally, Weight};
use stemedb_model::{Millis, Position, Tier};

/// (source, voice, tier, confidence in tenths): the claim at the position of its index.
type Said = (u8, u8, u8, u8);

fn strength(position: usize, said: Said) -> Strength {
    let position = Position(u64::try_from(position).unwrap_or(u64::MAX) + 1);
    Strength::new(Tier(said.2 % 6), f64::from(said.3 % 11) / 10.0, position)
}

fn tally(claims: &[Said], keep: impl Fn(usize) -> bool) -> Tally<u8, u8> {
    let mut tally = Tally::default();
    for (position, said) in claims.iter().enumerate().filter(|(position, _)| keep(*position)) {
        tally.add(&(said.0 % 5), &(said.1 % 5), strength(position, *said));
    }
    tally
}

fn sums(tally: &Tally<u8, u8>) -> (u128, u128, Option<Tier>, Vec<(u8, Strength)>) {
    let voices = tally.voices().map(|(voice, strongest)| (*voice, *strongest)).collect();
    (tally.support(), tally.squares(), tally.best_tier(), voices)
}

proptest! {
    #[test]
    fn removed_is_never_added(
        claims in vec(any::<Said>(), 0..40),
        gone in vec(any::<bool>(), 40),
        twice: bool,
    ) {
        let left = tally(&claims, |position| !gone.get(position).copied().unwrap_or(false));
        let mut all = tally(&claims, |_| true);
        for _ in 0..=usize::from(twice) {
            for (position, said) in claims.iter().enumerate() {
                if gone.get(position).copied().unwrap_or(false) {
                    all.remove(&(said.0 % 5), &(said.1 % 5), strength(position, *said));
                }
            }
        }
        prop_assert_eq!(sums(&all), sums(&left));
        prop_assert_eq!(all, left);
    }

    #[test]
    fn merged_is_added_together(claims in vec(any::<Said>(), 0..40), split in 0usize..40) {
        let mut first = tally(&claims, |position| position < split);
        first.merge(&tally(&claims, |position| position >= split));
        let whole = tally(&claims, |_| true);
        prop_assert_eq!(sums(&first), sums(&whole));
        prop_assert_eq!(first, whole);
    }

    /// The definition, word by word.
    #[test]
    fn per_source_then_per_voice(claims in vec(any::<Said>(), 0..40)) {
        let mut support = 0;
        for voice in 0..5 {
            let speaks = claims.iter().enumerate().filter(|(position, said)| {
                let of_source = claims.iter().enumerate().filter(|(_, other)| {
                    other.0 % 5 == said.0 % 5
                });
                let strongest = of_source.map(|(other, said)| strength(other, *said)).min();
                said.1 % 5 == voice && strongest == Some(strength(*position, **said))
            });
            let strongest = speaks.map(|(position, said)| strength(position, *said)).min();
            support += strongest.map_or(0, |strongest| u128::from(strongest.weight()));
        }
        prop_assert_eq!(tally(&claims, |_| true).support(), support);
    }

    #[test]
    fn sums_forget(weights in vec((0u8..11, -1_000_000i64..1_000_000, 0u64..50_000), 0..30), kept: usize) {
        let weights: Vec<_> = weights
            .into_iter()
            .map(|(tenths, t, h)| {
                let half_life = (h > 100).then_some(h);
                Weight::new(f64::from(tenths) / 10.0, Millis(t), half_life)
            })
            .collect();
        let (keep, drop) = weights.split_at(kept % (weights.len() + 1));
        let sum = |weights: &[Weight]| {
            let mut sum = Sum::default();
            weights.iter().for_each(|weight| sum.add(*weight));
            sum
        };
        let mut all = sum(&weights);
        drop.iter().rev().for_each(|weight| all.remove(*weight));
        prop_assert_eq!(all.at(Millis(1_000_000)), sum(keep).at(Millis(1_000_000)));
        prop_assert_eq!(all, sum(keep));
    }
}
