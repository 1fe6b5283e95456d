//! Step 1: who says a thing because somebody else does.
//!
//! Two agents that share a value are evidence that one copies the other, the more so the less
//! likely it is that the second would have said it by itself: a truth is no surprise from an
//! accurate agent, the same rare mistake is. Every value that they do not share is evidence
//! against. A claim then counts 1 / (1 + expected copies of it): a thousand copies weigh little
//! more than what they were copied from.

use super::abilities::{Abilities, work_of_agents};
use super::parts::in_parts;
use super::questions::{Manner, Questions};
use super::{
    ACCURACY_AT_FIRST, COPIED, COPIER, PEERS_MAX, SHARED_MIN, TOPIC_SHARED_MIN, probability,
};

/// Pairs less likely than this are not counted.
const LIKELY: f64 = 0.01;

/// By claim, in (0, 1]. `known` is what the rounds before have learned: abilities, the truth of
/// each candidate, and independence; `None` in the first round. O(claims x peers).
pub(super) fn independence(
    questions: &Questions,
    known: Option<(&Abilities, &[f64], &[f64])>,
    threads: usize,
) -> Vec<f64> {
    let surprise = surprise(questions, known);
    let found = in_parts(threads, &work_of_agents(questions), |agents| {
        let mut suspects = Suspects::new(questions.agents.len());
        agents.flat_map(|agent| suspects.independence(questions, &surprise, agent)).collect()
    });
    let mut independence = vec![1.0; questions.claims.len()];
    for (claim, found) in questions.by_agent.iter().zip(found) {
        independence[*claim as usize] = found;
    }
    independence
}

/// By claim: what it is worth as evidence for copying if somebody else says the same, as the
/// logarithm of a ratio of probabilities.
fn surprise(questions: &Questions, known: Option<(&Abilities, &[f64], &[f64])>) -> Vec<f64> {
    let mut popular = vec![0.0; questions.value.len()];
    for (index, claim) in questions.claims.iter().enumerate() {
        let voices = known.map_or(1.0, |(_, _, independence)| independence[index]);
        popular[claim.candidate as usize] += voices;
    }
    let surprise = questions.claims.iter().enumerate().map(|(index, claim)| {
        let question = claim.question as usize;
        let candidates = questions.candidates(question);
        let candidate = claim.candidate as usize;
        // Before anything is known every agreement is judged as if it were about the truth, by
        // agents of plain accuracy: the majority may be nothing but copies.
        let (accuracy, truth, own) = match known {
            None => (ACCURACY_AT_FIRST, 1.0, 1.0),
            Some((abilities, truth, independence)) => {
                let accuracy = abilities.accuracy[claim.cell as usize].clamp(0.2, 0.99);
                (accuracy, truth[candidate], independence[index])
            }
        };
        // How many of those who are wrong would be wrong in this way.
        let common = if questions.asked[question].yes_or_no {
            1.0
        } else {
            let others = |voices: f64| (voices - 2.0 * own).max(0.0) + 0.5;
            let all: f64 = popular[candidates.clone()].iter().sum();
            let ways = candidates.len().max(2) as f64;
            others(popular[candidate]) / (others(all) + 0.5 * (ways - 1.0))
        };
        let by_itself = (truth * accuracy + (1.0 - truth) * (1.0 - accuracy) * common).max(1e-4);
        libm::log((COPIED + (1.0 - COPIED) * by_itself) / by_itself)
    });
    surprise.collect()
}

/// One agent's dealings with all others; emptied after each agent.
struct Suspects {
    of: Vec<Dealings>,
    met: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Dealings {
    /// On all topics so far, and on the present one.
    total: f64,
    present: f64,
    shared: u32,
    shared_present: u32,
    /// The topic that speaks most against copying.
    least: f64,
    /// In the end: how probable copying is.
    copies: f64,
}

const NONE: Dealings = Dealings {
    total: 0.0,
    present: 0.0,
    shared: 0,
    shared_present: 0,
    least: f64::INFINITY,
    copies: 0.0,
};

impl Suspects {
    fn new(agents: usize) -> Self {
        Self { of: vec![NONE; agents], met: Vec::new() }
    }

    /// Of the claims of `agent`, in the order of `by_agent`.
    fn independence(&mut self, questions: &Questions, surprise: &[f64], agent: usize) -> Vec<f64> {
        let mut of_claims = Vec::new();
        for cell in questions.cells(agent) {
            for index in questions.of_cell(cell) {
                self.compare(questions, surprise, *index as usize);
            }
            self.close_topic();
        }
        self.decide();
        for cell in questions.cells(agent) {
            let claims = questions.of_cell(cell).iter();
            of_claims.extend(claims.map(|index| {
                let copies = COPIED * self.copies(questions, *index as usize);
                1.0 / (1.0 + copies)
            }));
        }
        for other in self.met.drain(..) {
            self.of[other as usize] = NONE;
        }
        of_claims
    }

    fn compare(&mut self, questions: &Questions, surprise: &[f64], index: usize) {
        let apart = libm::log(1.0 - COPIED);
        let claim = &questions.claims[index];
        if claim.manner == Manner::Denies {
            return;
        }
        for peer in peers(questions, claim.question) {
            let other = &questions.claims[peer];
            // Two that are silent about the same thing share nothing.
            let silent = claim.manner == Manner::Implies && other.manner == Manner::Implies;
            if other.agent == claim.agent || other.manner == Manner::Denies || silent {
                continue;
            }
            let dealings = &mut self.of[other.agent as usize];
            if dealings.shared == 0 && dealings.shared_present == 0 {
                self.met.push(other.agent);
            }
            dealings.shared_present += 1;
            dealings.present += if claim.candidate == other.candidate {
                // The same from both sides, so that both come to one verdict.
                0.5 * (surprise[index] + surprise[peer])
            } else {
                apart
            };
        }
    }

    fn close_topic(&mut self) {
        for other in &self.met {
            let dealings = &mut self.of[*other as usize];
            if dealings.shared_present >= TOPIC_SHARED_MIN {
                dealings.least = dealings.least.min(dealings.present);
            }
            dealings.total += dealings.present;
            dealings.shared += dealings.shared_present;
            (dealings.present, dealings.shared_present) = (0.0, 0);
        }
    }

    fn decide(&mut self) {
        let before = libm::log(COPIER / (1.0 - COPIER));
        for other in &self.met {
            let dealings = &mut self.of[*other as usize];
            let after = before + dealings.total.min(dealings.least);
            if dealings.shared >= SHARED_MIN {
                let copies = probability(after);
                dealings.copies = if copies > LIKELY { copies } else { 0.0 };
            }
        }
    }

    /// How many others are expected to have one claim from the same hand.
    fn copies(&self, questions: &Questions, index: usize) -> f64 {
        let claim = &questions.claims[index];
        let same = |peer: &usize| {
            let other = &questions.claims[*peer];
            other.candidate == claim.candidate
                && other.agent != claim.agent
                && (other.manner == Manner::Denies) == (claim.manner == Manner::Denies)
        };
        let all = questions.claims(claim.question as usize).len();
        let peers = peers(questions, claim.question).filter(same);
        let copies: f64 =
            peers.map(|peer| self.of[questions.claims[peer].agent as usize].copies).sum();
        // Of a large question only a sample was looked at.
        if all > PEERS_MAX { copies * all as f64 / PEERS_MAX as f64 } else { copies }
    }
}

/// The claims of a question that others are compared with.
fn peers(questions: &Questions, question: u32) -> impl Iterator<Item = usize> + '_ {
    let sample = questions.peers.get(&question);
    let all = if sample.is_none() { questions.claims(question as usize) } else { 0..0 };
    let sample = sample.into_iter().flatten().map(|claim| *claim as usize);
    sample.chain(all)
}
