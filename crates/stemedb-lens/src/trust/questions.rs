//! Evidence in canonical order, as dense numbers: questions, their candidate values, their claims.
//!
//! - Agents ascend by their bytes, topics by name, questions by (topic, subject), the candidates of
//!   a question by value, its claims by agent. So the order of the input is gone.
//! - A yes-or-no question has exactly two candidates: `false`, then `true`. So is every value of a
//!   predicate with many values: an agent that names some of them is taken to deny the others
//!   (Zhao, Rubinstein, Gemmell, Han, "A Bayesian Approach to Discovering Truth from Conflicting
//!   Sources for Data Integration", PVLDB 5(6), 2012).
//! - Claims of one agent on one topic are a *cell*.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use stemedb_model::{AgentId, PredicateName, Subject, Tolerance, Value};

use super::evidence::{Evidence, Row};
use super::{ANSWERS_MAX, NEAR, NEAR_MAX, PEERS_MAX, SILENCE};

/// What a claim is, besides agent, candidate and weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manner {
    /// It names the candidate.
    Says,
    /// It says that the candidate is wrong, and nothing about what is right.
    Denies,
    /// Nobody said it: it follows from silence.
    Implies,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) agent: u32,
    pub(super) question: u32,
    /// Number of the candidate, over all questions.
    pub(super) candidate: u32,
    pub(super) cell: u32,
    pub(super) weight: f64,
    pub(super) manner: Manner,
}

#[derive(Debug, Default)]
pub(super) struct Questions {
    pub(super) agents: Vec<AgentId>,
    pub(super) topics: Vec<PredicateName>,
    /// By topic: whether its predicate has many values.
    pub(super) many: Vec<bool>,
    pub(super) subjects: Vec<Subject>,
    pub(super) values: Vec<Value>,
    /// By question: topic, subject, and whether it is one of yes or no.
    pub(super) asked: Vec<Asked>,
    /// Where the candidates of each question begin; one more than there are questions.
    pub(super) candidates_from: Vec<u32>,
    /// The same for its claims.
    pub(super) claims_from: Vec<u32>,
    /// By candidate: its value.
    pub(super) value: Vec<u32>,
    /// By candidate: where its neighbours begin.
    pub(super) near_from: Vec<u32>,
    /// A candidate within tolerance, and how much it supports this one.
    pub(super) near: Vec<(u32, f64)>,
    pub(super) claims: Vec<Claim>,
    /// Claims in the order of (agent, question).
    pub(super) by_agent: Vec<u32>,
    /// Where the cells of each agent begin, and where in `by_agent` the claims of each cell.
    pub(super) cells_from: Vec<u32>,
    pub(super) cell_claims_from: Vec<u32>,
    /// By cell.
    pub(super) cell_topic: Vec<u32>,
    /// For questions with too many claims: those that others are compared with.
    pub(super) peers: BTreeMap<u32, Vec<u32>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) topic: u32,
    pub(super) subject: u32,
    pub(super) yes_or_no: bool,
    /// The candidates that are known to be right: none, one, or `false` or `true` of each value.
    pub(super) gold: Option<u32>,
}

impl Questions {
    /// O(n log n) in statements.
    pub(super) fn new(evidence: &Evidence) -> Self {
        let (agents, agent_rank) = evidence.agents.ranked(AgentId::cmp);
        let (subjects, subject_rank) = evidence.subjects.ranked(Subject::cmp);
        let (topics, topic_rank) = evidence.topics.ranked(PredicateName::cmp);
        let (values, value_rank) = evidence.values.ranked(along_the_line);
        let mut kinds = vec![super::evidence::TopicKind::default(); topics.len()];
        for (kind, rank) in evidence.kinds.iter().zip(&topic_rank) {
            kinds[*rank as usize] = *kind;
        }
        let mut rows: Vec<Row> = evidence
            .rows
            .iter()
            .map(|row| Row {
                topic: topic_rank[row.topic as usize],
                subject: subject_rank[row.subject as usize],
                agent: agent_rank[row.agent as usize],
                value: value_rank[row.value as usize],
                ..*row
            })
            .collect();
        rows.sort_unstable_by_key(|row| {
            // The weight last: two records never share a position, so it only decides where the
            // caller made positions up.
            let weight = row.weight.to_bits();
            (row.topic, row.subject, row.agent, row.position, row.value, weight)
        });
        let mut gold: BTreeMap<(u32, u32), BTreeSet<u32>> = BTreeMap::new();
        for (topic, subject, value) in &evidence.gold {
            let question = (topic_rank[*topic as usize], subject_rank[*subject as usize]);
            gold.entry(question).or_default().insert(value_rank[*value as usize]);
        }
        let mut questions = Self {
            many: kinds.iter().map(|kind| kind.many).collect(),
            agents,
            topics,
            subjects,
            values,
            candidates_from: vec![0],
            claims_from: vec![0],
            near_from: vec![0],
            ..Self::default()
        };
        let nothing = BTreeSet::new();
        for rows in rows.chunk_by(|a, b| (a.topic, a.subject) == (b.topic, b.subject)) {
            let (topic, subject) = (rows[0].topic, rows[0].subject);
            let gold = gold.get(&(topic, subject)).unwrap_or(&nothing);
            let kind = kinds[topic as usize];
            if kind.many {
                questions.each_value(rows, gold);
            } else {
                questions.one_value(rows, gold, kind.tolerance);
            }
        }
        questions.find_cells();
        questions.find_peers();
        questions
    }

    pub(super) fn candidates(&self, question: usize) -> Range<usize> {
        self.candidates_from[question] as usize..self.candidates_from[question + 1] as usize
    }

    pub(super) fn claims(&self, question: usize) -> Range<usize> {
        self.claims_from[question] as usize..self.claims_from[question + 1] as usize
    }

    pub(super) fn near(&self, candidate: usize) -> &[(u32, f64)] {
        &self.near[self.near_from[candidate] as usize..self.near_from[candidate + 1] as usize]
    }

    pub(super) fn cells(&self, agent: usize) -> Range<usize> {
        self.cells_from[agent] as usize..self.cells_from[agent + 1] as usize
    }

    pub(super) fn of_cell(&self, cell: usize) -> &[u32] {
        let from = self.cell_claims_from[cell] as usize;
        &self.by_agent[from..self.cell_claims_from[cell + 1] as usize]
    }

    /// Whether a candidate of a yes-or-no question is `true`.
    pub(super) fn is_yes(&self, question: usize, candidate: u32) -> bool {
        candidate != self.candidates_from[question]
    }

    /// One question whose candidates are the values themselves.
    fn one_value(&mut self, rows: &[Row], gold: &BTreeSet<u32>, tolerance: Option<Tolerance>) {
        let mut candidates: Vec<u32> =
            rows.iter().map(|row| row.value).chain(gold.iter().copied()).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let boolean = |value: &u32| match self.values[*value as usize] {
            Value::Boolean(yes) => Some(yes),
            _ => None,
        };
        let answers: Option<Vec<bool>> = candidates.iter().map(boolean).collect();
        let yes_or_no = answers.is_some();
        // A line of its own for each value, so that both answers exist even where only one is named.
        let first = self.value.len() as u32;
        if yes_or_no {
            let of = |yes| candidates.iter().copied().find(|value| boolean(value) == Some(yes));
            let either = candidates[0];
            self.value.extend([of(false).unwrap_or(either), of(true).unwrap_or(either)]);
        } else {
            self.value.extend(&candidates);
        }
        let place = |values: &[Value], value: u32| match (&values[value as usize], yes_or_no) {
            (Value::Boolean(yes), true) => first + u32::from(*yes),
            _ => first + candidates.partition_point(|other| *other < value) as u32,
        };
        let question = self.asked.len() as u32;
        for rows in rows.chunk_by(|a, b| a.agent == b.agent) {
            let newest = rows.iter().rev().find(|row| row.weight > 0.0);
            let mut said = BTreeMap::new();
            for row in rows.iter().filter(|row| row.weight < 0.0) {
                let candidate = place(&self.values, row.value);
                if yes_or_no {
                    // To deny one answer is to give the other.
                    said.insert(2 * first + 1 - candidate, (Manner::Says, -row.weight));
                } else {
                    said.insert(candidate, (Manner::Denies, -row.weight));
                }
            }
            if let Some(row) = newest {
                if yes_or_no {
                    said.clear();
                }
                said.insert(place(&self.values, row.value), (Manner::Says, row.weight));
            }
            let agent = rows[0].agent;
            self.claims.extend(said.into_iter().map(|(candidate, (manner, weight))| Claim {
                agent,
                question,
                candidate,
                cell: 0,
                weight,
                manner,
            }));
        }
        let gold = gold.first().map(|value| place(&self.values, *value));
        self.close(rows[0], yes_or_no, gold, tolerance);
    }

    /// One yes-or-no question for each value.
    fn each_value(&mut self, rows: &[Row], gold: &BTreeSet<u32>) {
        let mut values: Vec<u32> =
            rows.iter().map(|row| row.value).chain(gold.iter().copied()).collect();
        values.sort_unstable();
        values.dedup();
        // By value and agent; the newest last, so it is what stays.
        let mut said = BTreeMap::new();
        for row in rows {
            said.insert((row.value, row.agent), (row.weight > 0.0, row.weight.abs(), Manner::Says));
        }
        if values.len() <= ANSWERS_MAX {
            let speaks: BTreeSet<u32> =
                said.iter().filter(|(_, said)| said.0).map(|((_, agent), _)| *agent).collect();
            for (value, agent) in
                values.iter().flat_map(|value| speaks.iter().map(move |agent| (*value, *agent)))
            {
                said.entry((value, agent)).or_insert((false, SILENCE, Manner::Implies));
            }
        }
        let mut said = said.into_iter().peekable();
        for value in values {
            let first = self.value.len() as u32;
            self.value.extend([value, value]);
            while let Some(((_, agent), (yes, weight, manner))) =
                said.next_if(|((of, _), _)| *of == value)
            {
                let candidate = first + u32::from(yes);
                let question = self.asked.len() as u32;
                self.claims.push(Claim { agent, question, candidate, cell: 0, weight, manner });
            }
            let gold = (!gold.is_empty()).then(|| first + u32::from(gold.contains(&value)));
            self.close(rows[0], true, gold, None);
        }
    }

    fn close(
        &mut self,
        row: Row,
        yes_or_no: bool,
        gold: Option<u32>,
        tolerance: Option<Tolerance>,
    ) {
        let asked = Asked { topic: row.topic, subject: row.subject, yes_or_no, gold };
        self.asked.push(asked);
        let from = self.candidates_from[self.candidates_from.len() - 1] as usize;
        let to = self.value.len();
        for centre in from..to {
            if let (Some(tolerance), false) = (tolerance, yes_or_no) {
                let below = (from..centre).rev().take(NEAR_MAX);
                let above = (centre + 1..to).take(NEAR_MAX);
                let mut near: Vec<(u32, f64)> = Vec::new();
                for side in [
                    &mut below.into_iter() as &mut dyn Iterator<Item = usize>,
                    &mut above.into_iter(),
                ] {
                    let supports = side.map_while(|other| {
                        let value = |candidate: usize| &self.values[self.value[candidate] as usize];
                        Some((other as u32, support(value(centre), value(other), tolerance)?))
                    });
                    near.extend(supports);
                }
                near.sort_unstable_by_key(|(other, _)| *other);
                self.near.extend(near);
            }
            self.near_from.push(self.near.len() as u32);
        }
        self.candidates_from.push(to as u32);
        self.claims_from.push(self.claims.len() as u32);
    }

    fn find_cells(&mut self) {
        let mut counts = vec![0u32; self.agents.len() + 1];
        for claim in &self.claims {
            counts[claim.agent as usize + 1] += 1;
        }
        for agent in 1..counts.len() {
            counts[agent] += counts[agent - 1];
        }
        let mut free = counts.clone();
        self.by_agent = vec![0; self.claims.len()];
        for (index, claim) in self.claims.iter().enumerate() {
            let slot = &mut free[claim.agent as usize];
            self.by_agent[*slot as usize] = index as u32;
            *slot += 1;
        }
        self.cells_from.push(0);
        for agent in 0..self.agents.len() {
            let mut before = None;
            for at in counts[agent]..counts[agent + 1] {
                let claim = self.by_agent[at as usize] as usize;
                let topic = self.asked[self.claims[claim].question as usize].topic;
                if before != Some(topic) {
                    before = Some(topic);
                    self.cell_topic.push(topic);
                    self.cell_claims_from.push(at);
                }
                self.claims[claim].cell = self.cell_topic.len() as u32 - 1;
            }
            self.cells_from.push(self.cell_topic.len() as u32);
        }
        self.cell_claims_from.push(self.claims.len() as u32);
    }

    fn find_peers(&mut self) {
        let large = |question: &usize| self.claims(*question).len() > PEERS_MAX;
        let large: Vec<usize> = (0..self.asked.len()).filter(large).collect();
        if large.is_empty() {
            return;
        }
        // The same few agents wherever they speak, so that two claims of one pair meet again.
        let lot: Vec<[u8; 32]> =
            self.agents.iter().map(|agent| *blake3::hash(&agent.0).as_bytes()).collect();
        for question in large {
            let mut claims: Vec<u32> = self.claims(question).map(|claim| claim as u32).collect();
            claims.sort_unstable_by_key(|claim| {
                (lot[self.claims[*claim as usize].agent as usize], *claim)
            });
            claims.truncate(PEERS_MAX);
            claims.sort_unstable();
            self.peers.insert(question as u32, claims);
        }
    }
}

/// Numbers and times by size, so that what tolerance may join lies side by side; the rest in the
/// order of their bytes.
fn along_the_line(a: &Value, b: &Value) -> Ordering {
    let kind = |value: &Value| match value {
        Value::Boolean(_) => 0,
        Value::Number { .. } => 1,
        Value::Time(_) => 2,
        Value::Text(_) => 3,
        Value::Reference(_) => 4,
    };
    match (a, b) {
        (Value::Number { value: a, unit: of_a }, Value::Number { value: b, unit: of_b }) => {
            of_a.cmp(of_b).then(a.total_cmp(b))
        }
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        _ => kind(a).cmp(&kind(b)).then_with(|| a.cmp(b)),
    }
}

/// How much `other` supports `centre`; `None` beyond tolerance.
fn support(centre: &Value, other: &Value, tolerance: Tolerance) -> Option<f64> {
    let absolute = tolerance.absolute.unwrap_or(0.0).max(0.0);
    let (distance, reach) = match (centre, other) {
        (Value::Number { value: a, unit: of_a }, Value::Number { value: b, unit: of_b })
            if of_a == of_b =>
        {
            let relative = tolerance.relative.unwrap_or(0.0).max(0.0) * a.abs();
            ((a - b).abs(), absolute.max(relative))
        }
        (Value::Time(a), Value::Time(b)) => (a.0.abs_diff(b.0) as f64, absolute),
        _ => return None,
    };
    (distance <= reach && reach > 0.0).then(|| NEAR * (1.0 - distance / (2.0 * reach)))
}
