//! Whether the share that a lens gives its answer can be taken for the probability that it is right.

use serde::Serialize;

/// Bars of a reliability diagram; also the points of a coverage curve.
const PARTS: usize = 10;

/// One answer, as far as calibration goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// 1 if it is right, 0 if not; of values that tie at the top the fraction that is right.
    pub right: f64,
    /// The share, 0 to 1, that the answer stands on.
    pub share: f64,
}

/// Accuracy of the answers with the largest shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Covered {
    /// How many of all answers these are, 0 to 1.
    pub coverage: f64,
    /// How many of them are right.
    pub accuracy: f64,
}

/// Answers whose shares are nearly alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Mean share.
    pub share: f64,
    /// How many are right.
    pub accuracy: f64,
    /// How many there are.
    pub items: u64,
}

/// Mean squared distance between the share and what came of it, 0 at best; NaN of nothing. Of a tie
/// one of the values is drawn, so it is the expected distance (Brier, "Verification of Forecasts
/// Expressed in Terms of Probability", Monthly Weather Review 78(1), 1950).
pub fn brier(all: &[Judged]) -> f64 {
    let squares = all
        .iter()
        .map(|one| one.right * (1.0 - one.share).powi(2) + (1.0 - one.right) * one.share.powi(2));
    squares.sum::<f64>() / all.len() as f64
}

/// Accuracy of the clearest tenth, two tenths and so on to all. Answers of one share have no order:
/// of them the mean counts. O(n log n).
pub fn coverage(all: &[Judged]) -> Vec<Covered> {
    let mut sorted = all.to_vec();
    sorted.sort_by(|a, b| b.share.total_cmp(&a.share));
    // Behind each group of equal shares: answers so far, and how many of them are right.
    let mut steps = vec![(0.0, 0.0)];
    let (mut answers, mut right) = (0.0, 0.0);
    for group in sorted.chunk_by(|a, b| a.share == b.share) {
        answers += group.len() as f64;
        right += group.iter().map(|one| one.right).sum::<f64>();
        steps.push((answers, right));
    }
    let part = |part: usize| {
        let wanted = answers * part as f64 / PARTS as f64;
        let at = steps.iter().zip(steps.iter().skip(1)).find(|(_, after)| after.0 >= wanted);
        let ((before, right), (after, right_after)) = at?;
        let right = right + (right_after - right) * (wanted - before) / (after - before);
        Some(Covered { coverage: part as f64 / PARTS as f64, accuracy: right / wanted })
    };
    (1..=PARTS).filter_map(part).collect()
}

/// Answers by tenths of the share; tenths without any are left out (DeGroot and Fienberg, "The
/// Comparison and Evaluation of Forecasters", The Statistician 32, 1983). O(n).
pub fn reliability(all: &[Judged]) -> Vec<Bin> {
    let part_of = |share: f64| ((share * PARTS as f64) as usize).min(PARTS - 1);
    let bins = (0..PARTS).filter_map(|part| {
        let (mut share, mut right, mut items) = (0.0, 0.0, 0u64);
        for one in all.iter().filter(|one| part_of(one.share) == part) {
            share += one.share;
            right += one.right;
            items += 1;
        }
        let count = items as f64;
        (items > 0).then(|| Bin { share: share / count, accuracy: right / count, items })
    });
    bins.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(all: &[(f64, f64)]) -> Vec<Judged> {
        all.iter().map(|(share, right)| Judged { right: *right, share: *share }).collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn brier_of_known_cases() {
        for (all, expected) in [
            (vec![(1.0, 1.0)], 0.0),
            (vec![(1.0, 0.0)], 1.0),
            (vec![(0.7, 1.0), (0.7, 0.0)], (0.09 + 0.49) / 2.0),
            // A coin: whichever side is drawn.
            (vec![(0.5, 0.5)], 0.25),
            // Of three that tie one is right: 1/3 (2/3)^2 + 2/3 (1/3)^2.
            (vec![(1.0 / 3.0, 1.0 / 3.0)], 2.0 / 9.0),
            (vec![(0.0, 0.0), (1.0, 1.0), (0.5, 1.0), (0.5, 0.0)], 0.125),
        ] {
            let found = brier(&judged(&all));
            assert!(close(found, expected), "{all:?}: {found}, not {expected}");
        }
        assert!(brier(&[]).is_nan());
    }

    #[test]
    fn the_clearest_come_first() {
        // Ten answers, the six clearest right.
        let all: Vec<_> =
            (0..10).map(|n| (0.95 - 0.05 * f64::from(n), f64::from(u8::from(n < 6)))).collect();
        let mut turned = judged(&all);
        turned.reverse();
        let curve = coverage(&turned);
        assert_eq!(curve.len(), 10);
        for (n, point) in curve.iter().enumerate() {
            let covered = (n + 1) as f64;
            assert!(close(point.coverage, covered / 10.0), "{point:?}");
            assert!(close(point.accuracy, covered.min(6.0) / covered), "{point:?}");
        }
    }

    #[test]
    fn equal_shares_have_no_order() {
        for all in [[(0.8, 1.0), (0.8, 0.0)], [(0.8, 0.0), (0.8, 1.0)]] {
            assert!(coverage(&judged(&all)).iter().all(|point| close(point.accuracy, 0.5)));
        }
        // One clear and right answer, then four alike of which one is right: half of five is the
        // first and three eighths of the four.
        let mut all = judged(&[(0.6, 0.0), (0.6, 1.0), (0.6, 0.0), (0.6, 0.0)]);
        all.push(Judged { right: 1.0, share: 0.9 });
        let half = coverage(&all).into_iter().find(|point| close(point.coverage, 0.5));
        assert!(half.is_some_and(|half| close(half.accuracy, (1.0 + 1.5 / 4.0) / 2.5)), "{half:?}");
        assert_eq!(coverage(&[]), []);
    }

    #[test]
    fn bins_of_a_reliability_diagram() {
        let all =
            judged(&[(0.0, 0.0), (0.31, 1.0), (0.39, 0.0), (0.4, 0.5), (1.0, 1.0), (0.95, 0.0)]);
        let found = reliability(&all);
        let expected = [(0.0, 0.0, 1), (0.35, 0.5, 2), (0.4, 0.5, 1), (0.975, 0.5, 2)];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (bin, (share, accuracy, items)) in found.iter().zip(expected) {
            assert!(close(bin.share, share) && close(bin.accuracy, accuracy), "{bin:?}");
            assert_eq!(bin.items, items, "{bin:?}");
        }
        assert_eq!(reliability(&[]), []);
    }
}
