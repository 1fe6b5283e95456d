//! The highest rate that holds, where the goal does not.

use anyhow::Result;

/// Below this share of the goal it is not worth while.
const LEAST: f64 = 1.0 / 256.0;
/// Of what came through when too much was asked, as much is tried first.
const CAREFUL: f64 = 0.7;
/// By how much it goes up while nothing failed above it but the goal.
const STEP: f64 = 1.4;

/// What a trial says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    pub(crate) holds: bool,
    /// The share of the goal that came through, whether or not it held.
    pub(crate) through: f64,
}

/// The highest share of the goal at which `trial` holds, at most 1. A share that did not hold is at
/// most `close` times as high. `None`: nothing holds.
pub(crate) fn highest(
    close: f64,
    mut trial: impl FnMut(f64) -> Result<Tried>,
) -> Result<Option<f64>> {
    let whole = trial(1.0)?;
    if whole.holds {
        return Ok(Some(1.0));
    }
    let (mut held, mut failed) = (None, 1.0);
    let mut next = (whole.through * CAREFUL).clamp(LEAST, 1.0 / close);
    loop {
        if trial(next)?.holds {
            held = Some(next);
        } else {
            failed = next;
        }
        next = match held {
            Some(held) if failed / held <= close => return Ok(Some(held)),
            Some(held) => (held * failed).sqrt().min(held * STEP),
            None if failed <= LEAST => return Ok(None),
            None => (failed / 2.0).max(LEAST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(capacity: f64, shares: &mut Vec<f64>) -> impl FnMut(f64) -> Result<Tried> {
        move |share| {
            shares.push(share);
            Ok(Tried { holds: share <= capacity, through: share.min(capacity) })
        }
    }

    #[test]
    fn finds_what_holds_from_below() {
        for capacity in [0.995, 0.7, 0.31, 0.26, 0.1, 0.02, 0.005] {
            let mut shares = Vec::new();
            let found = highest(1.1, server(capacity, &mut shares)).unwrap().unwrap();
            assert!(found <= capacity && found * 1.1 >= capacity, "{capacity}: {found}");
            assert!(shares.len() <= 10, "{capacity}: {shares:?}");
        }
    }

    #[test]
    fn what_holds_is_not_searched_and_what_never_does_is_none() {
        let mut shares = Vec::new();
        assert_eq!(highest(1.1, server(1.0, &mut shares)).unwrap(), Some(1.0));
        assert_eq!(shares, [1.0]);
        let mut shares = Vec::new();
        assert_eq!(highest(1.1, server(0.0, &mut shares)).unwrap(), None);
        assert!(shares.len() < 12, "{shares:?}");
    }

    #[test]
    fn a_guess_that_is_wrong_both_ways_does_no_harm() {
        for through in [0.01, 1.0] {
            let trial = |share| Ok(Tried { holds: share <= 0.5, through });
            let found = highest(1.1, trial).unwrap().unwrap();
            assert!(found <= 0.5 && found * 1.1 >= 0.5, "{through}: {found}");
        }
    }
}
