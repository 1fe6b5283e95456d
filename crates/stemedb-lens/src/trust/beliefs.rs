//! Step 2: how probable each candidate is, given what the agents are worth.

use super::abilities::Abilities;
use super::parts::in_parts;
use super::questions::{Manner, Questions};
use super::{log_odds, probability};

/// By candidate.
pub(super) struct Beliefs {
    /// Probability that it is the true one.
    pub(super) truth: Vec<f64>,
    /// What naming it earns: its own probability and, for numbers, a part of its neighbours'.
    pub(super) credit: Vec<f64>,
}

/// `ways` is by topic, `independence` by claim. O(claims + neighbours).
pub(super) fn believe(
    questions: &Questions,
    abilities: &Abilities,
    ways: &[f64],
    independence: &[f64],
    threads: usize,
) -> Beliefs {
    // One logarithm a cell, not one a claim.
    let ways_odds: Vec<f64> = ways.iter().map(|ways| libm::log(*ways)).collect();
    let cells = abilities.accuracy.iter().zip(&questions.cell_topic);
    let odds: Vec<f64> =
        cells.map(|(accuracy, topic)| log_odds(*accuracy) + ways_odds[*topic as usize]).collect();
    let answers: Vec<[f64; 2]> = abilities.answers.iter().map(|answers| answers.odds()).collect();
    let prior: Vec<f64> = abilities.yes.iter().map(|yes| log_odds(*yes)).collect();
    let truth = in_parts(threads, &questions.candidates_from, |range| {
        let mut all = Vec::new();
        for question in range {
            let asked = questions.asked[question];
            let candidates = questions.candidates(question);
            let first = candidates.start as u32;
            let from = all.len();
            all.resize(from + candidates.len(), 0.0);
            if let Some(gold) = asked.gold {
                all[from + (gold - first) as usize] = 1.0;
                continue;
            }
            let mut yes = prior[asked.topic as usize];
            for index in questions.claims(question) {
                let claim = &questions.claims[index];
                let (cell, heard) = (claim.cell as usize, claim.weight * independence[index]);
                if asked.yes_or_no {
                    yes += heard
                        * answers[cell][usize::from(questions.is_yes(question, claim.candidate))];
                } else {
                    let score = &mut all[from + (claim.candidate - first) as usize];
                    let heard = heard * odds[cell];
                    *score += if claim.manner == Manner::Denies { -heard } else { heard };
                }
            }
            if asked.yes_or_no {
                let yes = probability(yes);
                all[from] = 1.0 - yes;
                all[from + 1] = yes;
            } else {
                let scores = all[from..].to_vec();
                for candidate in candidates {
                    for (near, support) in questions.near(candidate) {
                        all[from + candidate - first as usize] +=
                            support * scores[(near - first) as usize];
                    }
                }
                share_out(&mut all[from..], ways[asked.topic as usize]);
            }
        }
        all
    });
    let credit = in_parts(threads, &questions.candidates_from, |range| {
        let mut all = Vec::new();
        for candidate in range.flat_map(|question| questions.candidates(question)) {
            let near = questions.near(candidate).iter();
            let of_near: f64 = near.map(|(near, support)| support * truth[*near as usize]).sum();
            all.push((truth[candidate] + of_near).min(1.0));
        }
        all
    });
    Beliefs { truth, credit }
}

/// Scores in log-odds to probabilities. A value that stands alone may be wrong, and something that
/// nobody named be right. Of several one is taken to be right: else whoever is contradicted again
/// and again by a single other agent would end as worthless as that one.
fn share_out(scores: &mut [f64], ways: f64) {
    let top = scores.iter().copied().fold(0.0, f64::max);
    let unsaid = if scores.len() < 2 { ways * libm::exp(-top) } else { 0.0 };
    for score in &mut *scores {
        *score = libm::exp(*score - top);
    }
    let total = scores.iter().sum::<f64>() + unsaid;
    // Scores may lie below 0 by far where everybody is against; then all are equally unlikely.
    if total > 0.0 {
        scores.iter_mut().for_each(|score| *score /= total);
    }
}
