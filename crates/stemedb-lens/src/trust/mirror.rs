//! Which of two mirror images a topic of yes and no is.
//!
//! Whatever explains yes-or-no claims has a mirror image that explains them equally well: every
//! answer the other one, everybody right where it was wrong. The rounds end in the one nearer to
//! the majority. What tells the two apart is only what was expected of agents before they spoke: a
//! few that hardly ever disagree are more likely right than many that agree somewhat more often
//! than chance. Where that does not tell either, as between two camps of one size, nothing is known
//! of anybody, and a plain vote is the better answer.

use super::abilities::Abilities;
use super::questions::Questions;
use super::{ACCURACY, AGENT_CLAIMS, MIRROR_ODDS};

/// What became of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// As it was found, or no topic of yes and no.
    Found,
    /// The mirror image is more probable.
    Mirror,
    /// Neither is probable enough.
    Open,
}

/// By topic. A topic with gold needs no decision. O(claims).
pub(super) fn sides(
    questions: &Questions,
    abilities: &Abilities,
    independence: &[f64],
) -> Vec<Side> {
    let mut decided = questions.many.clone();
    for asked in &questions.asked {
        decided[asked.topic as usize] |= !asked.yes_or_no || asked.gold.is_some();
    }
    // The log of the odds between both sides: a beta distribution of [`ACCURACY`] with the weight of
    // [`AGENT_CLAIMS`], at an accuracy and at its opposite. Copies are one voice.
    let prior = AGENT_CLAIMS * (2.0 * ACCURACY - 1.0);
    let mut odds = vec![0.0; questions.topics.len()];
    for (cell, record) in abilities.record.iter().enumerate() {
        let topic = questions.cell_topic[cell] as usize;
        if !decided[topic] {
            let claims = questions.of_cell(cell);
            let voices: f64 = claims.iter().map(|claim| independence[*claim as usize]).sum();
            let (right, wrong) = (record.right, record.all - record.right);
            odds[topic] +=
                prior * voices / claims.len() as f64 * libm::log((right + 1.0) / (wrong + 1.0));
        }
    }
    let enough = libm::log(MIRROR_ODDS);
    let side = |(decided, odds): (bool, f64)| match odds {
        _ if decided => Side::Found,
        odds if odds >= enough => Side::Found,
        odds if odds <= -enough => Side::Mirror,
        _ => Side::Open,
    };
    decided.into_iter().zip(odds).map(side).collect()
}
