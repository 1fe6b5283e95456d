//! Quantiles, and the interval of a median.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// How often rounds are drawn again for an interval.
const RESAMPLES: usize = 2000;

/// Latencies of one or more slices.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn push(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In microseconds.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / 1000.0 / self.0.len().max(1) as f64
    }

    pub fn quantiles(&self) -> Quantiles {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // The smallest value that at least this share of all does not exceed.
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).map_or(0.0, |ns| *ns as f64 / 1000.0)
        };
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// In microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// A median over rounds, with the interval that holds it in 95 of 100 cases.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

impl Estimate {
    /// Percentile bootstrap over rounds, which are what is independent here: latencies within a
    /// slice are not.
    pub fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut rng = StdRng::seed_from_u64(rounds.len() as u64);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let mut drawn: Vec<f64> =
                    sorted.iter().map(|_| sorted[rng.random_range(0..sorted.len())]).collect();
                drawn.sort_by(f64::total_cmp);
                median(&drawn)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |share: f64| medians[(share * (RESAMPLES - 1) as f64).round() as usize];
        Self { median: median(&sorted), low: at(0.025), high: at(0.975) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut all = Latencies::default();
        for us in 1..=1000 {
            all.push(Duration::from_micros(us));
        }
        let found = all.quantiles();
        assert_eq!((found.p50, found.p99, found.p999, found.max), (500.0, 990.0, 999.0, 1000.0));
    }

    #[test]
    fn an_interval_holds_its_median_and_shrinks_with_rounds() {
        let few = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(few.median, 3.0);
        assert!(few.low >= 1.0 && few.low < 3.0 && few.high > 3.0 && few.high <= 5.0);
        let rounds: Vec<f64> = (0..500).map(|n| f64::from(n % 5 + 1)).collect();
        let many = Estimate::of(&rounds);
        assert!(many.high - many.low < few.high - few.low, "{many:?} {few:?}");
    }
}
