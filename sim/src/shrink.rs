//! Fewer steps that fail the same way.

use crate::world::{Outcome, Plan, run};

/// Leaves steps out, in pieces that become smaller, as long as the same promise is broken. Gives
/// the smallest plan found within so many runs, and its outcome.
pub fn shrink(plan: &Plan, outcome: Outcome, runs: u32) -> (Plan, Outcome) {
    let Some((at, broken)) = outcome.broken.clone() else { return (plan.clone(), outcome) };
    let mut best = (Plan { steps: plan.steps.min(at + 1), ..plan.clone() }, outcome);
    let mut left = runs;
    let mut piece = best.0.steps.div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < best.0.steps && left > 0 {
            let mut tried = best.0.clone();
            tried.skip.extend(from..(from + piece).min(tried.steps));
            from += piece;
            if tried.skip == best.0.skip {
                continue;
            }
            left -= 1;
            let outcome = run(&tried);
            if outcome.broken.as_ref().is_some_and(|(_, b)| b.promise == broken.promise) {
                best = (tried, outcome);
            }
        }
        if piece == 1 || left == 0 {
            return best;
        }
        piece = piece.div_ceil(2);
    }
}
