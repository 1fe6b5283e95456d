//! Learning whom to trust: from the claims of a log to a table of reliabilities.
//!
//! [`Evidence`] goes in, [`learn`] gives a [`Table`]: one number in (0, 1) per (agent, topic) and
//! one per agent, which the `trust` lens multiplies with confidence and decay. The method has no
//! truth to look at, unless the log holds gold: it asks which answers and which abilities explain
//! each other best. `docs/decisions/2026-11-28-trust.md` has the figures it was chosen by.
//!
//! A round is three steps, and there are [`ROUNDS`] of them:
//!
//! 1. *copies*: how many independent voices a claim shares its value with (`copies`). Bayesian copy
//!    detection by shared values, rare or false ones weighing most: Dong, Berti-Equille,
//!    Srivastava, "Integrating Conflicting Data: The Role of Source Dependence", VLDB 2009;
//! 2. *beliefs*: how probable each value of each question is (`beliefs`). Every claim speaks with
//!    the log-odds of its agent's accuracy, the more so the more ways there are to be wrong
//!    (`ways`); yes-or-no questions use one accuracy for each answer (Dawid, Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
//!    Algorithm", Applied Statistics 28(1), 1979);
//! 3. *abilities*: how often each agent is right on each topic, given the beliefs (`abilities`),
//!    shrunk towards what it is on all topics together, and that towards [`ACCURACY`].
//!
//! Where truth is known it speaks first: the first abilities are those on questions with gold.
//! Once, in the middle, topics whose agents are known from elsewhere are judged afresh by what the
//! same agents are worth on all other topics (`elsewhere`): two camps that contradict each other
//! all along can not be told apart from inside their topic. Once, later, topics of yes and no may turn
//! into their mirror image, or be given up for a plain vote (`mirror`).
//!
//! Nothing here reads a clock, draws a number or depends on the order of the input or the number
//! of threads: everything is put in canonical order first, every sum is taken in that order by one
//! thread, and logarithms and exponentials come from `libm`. Time O(rounds x claims x peers), where
//! a question has at most [`PEERS_MAX`] peers; memory O(claims).
//!
//! Not covered: strangers. An agent that says one thing and never again can not be judged, and a
//! thousand fresh keys are a thousand of them; that is for voices, tiers and registration. (Those that
//! nobody registered are one voice, and so one witness a question.)
#![allow(
    clippy::indexing_slicing,
    reason = "dense numbers that `questions` hands out and that never leave this module"
)]

mod abilities;
mod beliefs;
mod copies;
mod elsewhere;
mod evidence;
mod learning;
mod mirror;
mod parts;
mod questions;
mod table;
mod testimony;
mod ways;

pub use evidence::{Evidence, Statement};
pub use learning::{Belief, Learned, configuration_hash, learn};
pub use table::Table;

/// Rounds of learning. The sets that were looked at settle within 10; twice that and some more.
pub const ROUNDS: u32 = 24;
/// The round in whose end topics are judged from elsewhere.
pub const ROUND_ELSEWHERE: u32 = 8;
/// Accuracy of an agent that nothing is known about. It stands for reliability 1/2.
pub const ACCURACY: f64 = 0.8;
/// Accuracy that everybody is taken for when copies are first looked for. Below [`ACCURACY`], so
/// that hundreds of copies with a slip in twenty are still found; from the second time on it is what
/// was learned.
pub const ACCURACY_AT_FIRST: f64 = 0.6;
/// Weight of [`ACCURACY`] in claims, against the agent's own record.
pub const AGENT_CLAIMS: f64 = 2.0;
/// Weight of the agent's accuracy over all topics in claims, against that on one topic.
pub const TOPIC_CLAIMS: f64 = 2.0;
/// The same for the two accuracies on yes-or-no questions: each sees only a part of the claims.
pub const ANSWER_CLAIMS: f64 = 4.0;
/// Where a predicate has many values: how often an agent does not name what is wrong...
pub const INVENTS_NOTHING: f64 = 0.95;
/// ... and how often it names what is right. Leaving out is common and says little.
pub const NAMES: f64 = 0.6;
/// Weight of not naming a value beside others, as a denial of it. With the weight of a claim, agents
/// that name little would agree with each other that nothing more is true.
pub const SILENCE: f64 = 0.25;
/// Accuracies are kept this far from 0 and 1: no record is long enough for certainty.
pub const DOUBT: f64 = 0.02;
/// In how many ways one can be wrong about a question, before anything is known of its topic...
pub const WAYS: f64 = 3.0;
/// ... and the weight of that in pairs of wrong claims that agree.
pub const WAYS_PAIRS: f64 = 5.0;
/// More ways than this make no difference.
pub const WAYS_MAX: f64 = 50.0;
/// How much a number within tolerance of another supports it, at distance 0; half of that at the
/// bound. Less than whole: who is right to the minute should count for more than who is near.
pub const NEAR: f64 = 0.5;
/// Neighbours of a number that are looked at, to each side.
pub const NEAR_MAX: usize = 32;
/// Share of what a copier copies that it takes over unchanged.
pub const COPIED: f64 = 0.8;
/// Probability, before looking, that one of two agents copies the other.
pub const COPIER: f64 = 0.01;
/// Shared questions below which two agents are not compared.
pub const SHARED_MIN: u32 = 5;
/// Shared questions of one topic from which on that topic alone can clear two agents: who copies
/// does so wherever the two meet.
pub const TOPIC_SHARED_MIN: u32 = 20;
/// Agents of one question that others are compared with. A larger question is estimated from as
/// many, the same ones everywhere.
pub const PEERS_MAX: usize = 256;
/// Values of one question with many answers for which silence counts as a denial.
pub const ANSWERS_MAX: usize = 32;
/// The round in whose end topics of yes and no may turn into their mirror image.
pub const ROUND_MIRROR: u32 = 12;
/// Odds, by what was expected of agents, from which on one of two mirror images is taken.
pub const MIRROR_ODDS: f64 = 5.0;
/// Evidence from elsewhere, in topics of many claims, from which on it can stand alone.
pub const ELSEWHERE_MIN: f64 = 1.0;
/// Share of a topic's claims whose agents must be known from elsewhere.
pub const KNOWN_MIN: f64 = 0.9;

/// ln(p / (1 - p)), with `p` kept away from 0 and 1 by [`DOUBT`].
fn log_odds(p: f64) -> f64 {
    let p = p.clamp(DOUBT, 1.0 - DOUBT);
    libm::log(p / (1.0 - p))
}

/// The inverse of the log-odds.
fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-log_odds))
}
