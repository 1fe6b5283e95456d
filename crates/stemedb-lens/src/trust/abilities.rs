//! Step 3: what the agents are worth, given what is believed.

use super::beliefs::Beliefs;
use super::mirror::Side;
use super::parts::in_parts;
use super::questions::{Manner, Questions};
use super::{ACCURACY, AGENT_CLAIMS, ANSWER_CLAIMS, DOUBT, INVENTS_NOTHING, NAMES, TOPIC_CLAIMS};

#[derive(Debug, Clone)]
pub(super) struct Abilities {
    /// By cell: how often the agent is right on the topic.
    pub(super) accuracy: Vec<f64>,
    /// By agent: on all topics together.
    pub(super) overall: Vec<f64>,
    /// By cell: how often it says no where no is right, and yes where yes is right.
    pub(super) answers: Vec<Answers>,
    /// By topic: how often yes is right.
    pub(super) yes: Vec<f64>,
    /// By cell: claims that were right, and all, in weights.
    pub(super) record: Vec<Record>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    no: f64,
    yes: f64,
}

/// Which questions abilities are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    Everything,
    /// Those whose answer is known.
    Gold,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    pub(super) right: f64,
    pub(super) all: f64,
}

impl Answers {
    fn new(no: f64, yes: f64) -> Self {
        let bounded = |share: f64| share.clamp(DOUBT, 1.0 - DOUBT);
        Self { no: bounded(no), yes: bounded(yes) }
    }

    /// What hearing "no", or "yes", from it adds to the log-odds of yes.
    pub(super) fn odds(self) -> [f64; 2] {
        [libm::log((1.0 - self.yes) / self.no), libm::log(self.yes / (1.0 - self.no))]
    }
}

impl Abilities {
    /// Of agents that nothing is known about.
    pub(super) fn unknown(questions: &Questions) -> Self {
        let cells = questions.cell_topic.len();
        Self {
            accuracy: vec![ACCURACY; cells],
            overall: vec![ACCURACY; questions.agents.len()],
            answers: questions
                .cell_topic
                .iter()
                .map(|topic| {
                    if questions.many[*topic as usize] {
                        Answers::new(INVENTS_NOTHING, NAMES)
                    } else {
                        Answers::new(ACCURACY, ACCURACY)
                    }
                })
                .collect(),
            yes: vec![0.5; questions.topics.len()],
            record: vec![Record::default(); cells],
        }
    }

    /// Takes the other side in topics whose mirror image it is. O(cells).
    pub(super) fn turn(&mut self, questions: &Questions, sides: &[Side]) {
        for (cell, topic) in questions.cell_topic.iter().enumerate() {
            if sides[*topic as usize] == Side::Mirror {
                let Answers { no, yes } = self.answers[cell];
                self.answers[cell] = Answers::new(1.0 - no, 1.0 - yes);
                self.accuracy[cell] = 1.0 - self.accuracy[cell];
            }
        }
        for (yes, side) in self.yes.iter_mut().zip(sides) {
            if *side == Side::Mirror {
                *yes = 1.0 - *yes;
            }
        }
    }

    /// Of topics that are open, nobody is known. O(cells).
    pub(super) fn forget(&mut self, questions: &Questions, sides: &[Side]) {
        for (cell, topic) in questions.cell_topic.iter().enumerate() {
            if sides[*topic as usize] == Side::Open {
                self.answers[cell] = Answers::new(ACCURACY, ACCURACY);
                self.accuracy[cell] = ACCURACY;
            }
        }
        for (yes, side) in self.yes.iter_mut().zip(sides) {
            if *side == Side::Open {
                *yes = 0.5;
            }
        }
    }
}

/// Where the claims of each agent begin, as costs of its share of the work.
pub(super) fn work_of_agents(questions: &Questions) -> Vec<u32> {
    questions.cells_from.iter().map(|cell| questions.cell_claims_from[*cell as usize]).collect()
}

/// O(claims).
pub(super) fn judge(
    questions: &Questions,
    beliefs: &Beliefs,
    ground: Ground,
    threads: usize,
) -> Abilities {
    let judged = in_parts(threads, &work_of_agents(questions), |agents| {
        agents.map(|agent| judge_agent(questions, beliefs, ground, agent)).collect()
    });
    let cells = questions.cell_topic.len();
    let mut abilities = Abilities {
        accuracy: Vec::with_capacity(cells),
        overall: Vec::with_capacity(questions.agents.len()),
        answers: Vec::with_capacity(cells),
        yes: prior(questions, beliefs),
        record: Vec::with_capacity(cells),
    };
    for (overall, cells) in judged {
        abilities.overall.push(overall);
        for (record, accuracy, answers) in cells {
            abilities.accuracy.push(accuracy);
            abilities.answers.push(answers);
            abilities.record.push(record);
        }
    }
    abilities
}

type JudgedCell = (Record, f64, Answers);

fn judge_agent(
    questions: &Questions,
    beliefs: &Beliefs,
    ground: Ground,
    agent: usize,
) -> (f64, Vec<JudgedCell>) {
    let mut cells = Vec::new();
    let mut total = Record { right: AGENT_CLAIMS * ACCURACY, all: AGENT_CLAIMS };
    for cell in questions.cells(agent) {
        let mut record = Record::default();
        // By what is true and what was said; `false` first.
        let mut said = [[0.0; 2]; 2];
        for index in questions.of_cell(cell) {
            let claim = &questions.claims[*index as usize];
            let candidate = claim.candidate as usize;
            let asked = questions.asked[claim.question as usize];
            if ground == Ground::Gold && asked.gold.is_none() {
                continue;
            }
            // Silence tells how an agent answers, but it is what it says that it is believed for.
            if claim.manner != Manner::Implies {
                let credit = beliefs.credit[candidate];
                let credit = if claim.manner == Manner::Denies { 1.0 - credit } else { credit };
                record.right += claim.weight * credit;
                record.all += claim.weight;
            }
            let question = claim.question as usize;
            if asked.yes_or_no {
                let says = usize::from(questions.is_yes(question, claim.candidate));
                let yes = beliefs.truth[questions.candidates(question).start + 1];
                said[0][says] += claim.weight * (1.0 - yes);
                said[1][says] += claim.weight * yes;
            }
        }
        total.right += record.right;
        total.all += record.all;
        cells.push((record, said));
    }
    let overall = total.right / total.all;
    // Half way to the agent's own, and never so far that one answer would speak for the other.
    let answer = 0.5 * (ACCURACY + overall.clamp(0.55, 0.95));
    let share = |said: [f64; 2], right: usize, expected: f64| {
        (said[right] + ANSWER_CLAIMS * expected) / (said[0] + said[1] + ANSWER_CLAIMS)
    };
    let topics = &questions.cell_topic[questions.cells(agent)];
    let cells = cells.into_iter().zip(topics).map(|((record, said), topic)| {
        let accuracy = (record.right + TOPIC_CLAIMS * overall) / (record.all + TOPIC_CLAIMS);
        let (no, yes) = if questions.many[*topic as usize] {
            (INVENTS_NOTHING, NAMES)
        } else {
            (answer, answer)
        };
        (record, accuracy, Answers::new(share(said[0], 0, no), share(said[1], 1, yes)))
    });
    (overall, cells.collect())
}

/// How often yes is right, by topic, with the weight of four questions on one half.
fn prior(questions: &Questions, beliefs: &Beliefs) -> Vec<f64> {
    let mut records = vec![Record { right: 2.0, all: 4.0 }; questions.topics.len()];
    for (question, asked) in questions.asked.iter().enumerate() {
        if asked.yes_or_no {
            let record = &mut records[asked.topic as usize];
            record.right += beliefs.truth[questions.candidates(question).start + 1];
            record.all += 1.0;
        }
    }
    records.into_iter().map(|record| record.right / record.all).collect()
}
