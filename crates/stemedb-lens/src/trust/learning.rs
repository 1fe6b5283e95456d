//! The rounds.

use stemedb_model::{Hash, PredicateName, Subject, Value};

use super::abilities::{Abilities, Ground, judge};
use super::beliefs::{Beliefs, believe};
use super::copies::independence;
use super::elsewhere::from_elsewhere;
use super::evidence::Evidence;
use super::mirror::{Side, sides};
use super::questions::Questions;
use super::table::Table;
use super::ways::{ways_at_first, ways_to_be_wrong};
use super::*;

/// What came out.
#[derive(Debug)]
pub struct Learned {
    table: Table,
    questions: Questions,
    truth: Vec<f64>,
}

/// How probable the method itself holds one value of one question. Not what a lens answers.
#[derive(Debug, Clone, Copy)]
pub struct Belief<'a> {
    /// The question.
    pub predicate: &'a PredicateName,
    /// The question.
    pub subject: &'a Subject,
    /// One of the values that somebody named.
    pub value: &'a Value,
    /// From 0 to 1.
    pub probability: f64,
}

/// Learns from all of `evidence`; the same result for every order of it and every number of
/// threads. Time O(rounds x claims x peers), memory O(claims).
pub fn learn(evidence: &Evidence, threads: usize) -> Learned {
    let questions = Questions::new(evidence);
    let mut abilities = Abilities::unknown(&questions);
    let mut independent = independence(&questions, None, threads);
    let mut ways = ways_at_first(&questions);
    let mut beliefs = believe(&questions, &abilities, &ways, &independent, threads);
    // The rounds end near where they begin, and the first beliefs are those of the majority: a tenth
    // of the questions would not turn it if it were one voice among the others.
    let gold = questions.asked.iter().any(|asked| asked.gold.is_some());
    let mut side = vec![Side::Found; questions.topics.len()];
    for round in 0..ROUNDS {
        let ground = if gold && round == 0 { Ground::Gold } else { Ground::Everything };
        abilities = judge(&questions, &beliefs, ground, threads);
        if round == ROUND_ELSEWHERE {
            from_elsewhere(&questions, &mut abilities);
        }
        if round == ROUND_MIRROR {
            side = sides(&questions, &abilities, &independent);
            abilities.turn(&questions, &side);
        }
        abilities.forget(&questions, &side);
        if looks_for_copies(round) {
            let known = (&abilities, beliefs.truth.as_slice(), independent.as_slice());
            independent = independence(&questions, Some(known), threads);
        }
        ways = ways_to_be_wrong(&questions, &beliefs.truth, &independent);
        beliefs = believe(&questions, &abilities, &ways, &independent, threads);
    }
    let table = Table::new(&questions, &abilities, &ways, &independent);
    let Beliefs { truth, .. } = beliefs;
    Learned { table, questions, truth }
}

/// Copies are what takes longest, and change least.
fn looks_for_copies(round: u32) -> bool {
    round == 0 || round % 4 == 3
}

/// What the method is, besides its input: every constant, and a number that changes with the code.
pub fn configuration_hash() -> Hash {
    const METHOD: &[u8] = b"stemedb/v1/trust/4";
    let numbers = [
        f64::from(ROUNDS),
        f64::from(ROUND_ELSEWHERE),
        f64::from(ROUND_MIRROR),
        MIRROR_ODDS,
        ACCURACY,
        ACCURACY_AT_FIRST,
        AGENT_CLAIMS,
        TOPIC_CLAIMS,
        ANSWER_CLAIMS,
        INVENTS_NOTHING,
        NAMES,
        SILENCE,
        DOUBT,
        WAYS,
        WAYS_PAIRS,
        WAYS_MAX,
        NEAR,
        NEAR_MAX as f64,
        COPIED,
        COPIER,
        f64::from(SHARED_MIN),
        f64::from(TOPIC_SHARED_MIN),
        PEERS_MAX as f64,
        ANSWERS_MAX as f64,
        ELSEWHERE_MIN,
        KNOWN_MIN,
    ];
    let mut hasher = blake3::Hasher::new();
    hasher.update(METHOD);
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    Hash(*hasher.finalize().as_bytes())
}

impl Learned {
    /// What is handed to the lens.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The table alone.
    pub fn into_table(self) -> Table {
        self.table
    }

    /// What the method believes, by topic, subject and value. Of a predicate with many values each
    /// value is a question of its own.
    pub fn beliefs(&self) -> impl Iterator<Item = Belief<'_>> {
        let questions = &self.questions;
        (0..questions.asked.len()).flat_map(move |question| {
            let asked = questions.asked[question];
            let named = questions.candidates(question).filter(move |candidate| {
                let value = &questions.values[questions.value[*candidate] as usize];
                let yes = questions.is_yes(question, *candidate as u32);
                match value {
                    Value::Boolean(of) if asked.yes_or_no => *of == yes,
                    _ => !asked.yes_or_no || yes,
                }
            });
            named.map(move |candidate| Belief {
                predicate: &questions.topics[asked.topic as usize],
                subject: &questions.subjects[asked.subject as usize],
                value: &questions.values[questions.value[candidate] as usize],
                probability: self.truth[candidate],
            })
        })
    }
}
