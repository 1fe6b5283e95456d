//! Judging a topic by what its agents are worth on the others.

use super::abilities::Abilities;
use super::questions::Questions;
use super::{ACCURACY, ELSEWHERE_MIN, KNOWN_MIN, log_odds, probability};

/// Claims of a topic at which its evidence counts half.
const HALF_KNOWN: f64 = 10.0;
/// Weight of [`ACCURACY`] in claims, when one topic speaks for another.
const PRIOR_CLAIMS: f64 = 4.0;

/// Replaces accuracies on topics most of whose claims are by agents that are known from elsewhere:
/// the mean of an agent's log-odds on all other topics, each by its number of claims. Its record on
/// the topic itself does not count, for that is what is in question. O(cells).
pub(super) fn from_elsewhere(questions: &Questions, abilities: &mut Abilities) {
    let evidence: Vec<(f64, f64)> = abilities
        .record
        .iter()
        .map(|record| {
            let weight = record.all / (record.all + HALF_KNOWN);
            let right = record.right + PRIOR_CLAIMS * ACCURACY;
            (weight * log_odds(right / (record.all + PRIOR_CLAIMS)), weight)
        })
        .collect();
    let mut elsewhere = vec![(0.0, 0.0); evidence.len()];
    let mut known = vec![(0.0, 0.0); questions.topics.len()];
    for agent in 0..questions.agents.len() {
        let cells = questions.cells(agent);
        for cell in cells.clone() {
            let (mut odds, mut weight) = (0.0, 0.0);
            for other in cells.clone().filter(|other| *other != cell) {
                odds += evidence[other].0;
                weight += evidence[other].1;
            }
            elsewhere[cell] = (odds, weight);
            let (part, all) = &mut known[questions.cell_topic[cell] as usize];
            let claims = questions.of_cell(cell).len() as f64;
            *part += weight.min(1.0) * claims;
            *all += claims;
        }
    }
    for (cell, (odds, weight)) in elsewhere.into_iter().enumerate() {
        let (part, all) = known[questions.cell_topic[cell] as usize];
        if weight >= ELSEWHERE_MIN && part >= KNOWN_MIN * all {
            abilities.accuracy[cell] = probability(odds / weight);
        }
    }
}
