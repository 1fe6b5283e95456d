//! What is learned from, as it comes: any order, any number of topics.

use std::collections::HashMap;

use stemedb_model::{AgentId, Cardinality, Position, PredicateName, Subject, Tolerance, Value};

/// One thing that an agent stands by, or against.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// Where it is in the log. Of two that say one thing, or of two claims of one agent about one
    /// question, the newer stands.
    pub position: Position,
    /// Whose record it goes on: the agent, as the reader of the table will name it.
    pub agent: &'a AgentId,
    /// What it is about; the predicate is the topic.
    pub subject: &'a Subject,
    /// See `subject`.
    pub predicate: &'a PredicateName,
    /// In the form in which values are compared: units converted, aliases followed.
    pub value: &'a Value,
    /// For a claim its confidence; for a vote its weight, below 0 if it is against the value.
    /// Nothing within [-1, 1] is refused, all else is clamped; 0 says nothing.
    pub weight: f64,
}

/// The live claims, votes and gold of a log up to some position. Exclusion is the caller's: what
/// is retracted, superseded or undermined is not evidence.
#[derive(Debug, Default)]
pub struct Evidence {
    pub(super) agents: Names<AgentId>,
    pub(super) subjects: Names<Subject>,
    pub(super) values: Names<Value>,
    pub(super) topics: Names<PredicateName>,
    /// By topic.
    pub(super) kinds: Vec<TopicKind>,
    pub(super) rows: Vec<Row>,
    /// Topic, subject, value.
    pub(super) gold: Vec<(u32, u32, u32)>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TopicKind {
    pub(super) many: bool,
    pub(super) tolerance: Option<Tolerance>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) topic: u32,
    pub(super) subject: u32,
    pub(super) agent: u32,
    pub(super) value: u32,
    pub(super) position: u64,
    pub(super) weight: f64,
}

impl Evidence {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is registered about a predicate. Without it: one value, no tolerance.
    pub fn topic(
        &mut self,
        predicate: &PredicateName,
        cardinality: Cardinality,
        tolerance: Option<Tolerance>,
    ) {
        let topic = self.topic_number(predicate);
        let many = cardinality == Cardinality::Many;
        if let Some(kind) = self.kinds.get_mut(topic as usize) {
            *kind = TopicKind { many, tolerance };
        }
    }

    /// One more statement. O(1).
    pub fn add(&mut self, statement: Statement<'_>) {
        let weight = statement.weight.clamp(-1.0, 1.0);
        // NaN says nothing either.
        if weight.abs() > 0.0 {
            let topic = self.topic_number(statement.predicate);
            self.rows.push(Row {
                topic,
                subject: self.subjects.number(statement.subject),
                agent: self.agents.number(statement.agent),
                value: self.values.number(statement.value),
                position: statement.position.0,
                weight,
            });
        }
    }

    /// A value that is known to be true. Under cardinality many, one of those that are.
    pub fn gold(&mut self, subject: &Subject, predicate: &PredicateName, value: &Value) {
        let topic = self.topic_number(predicate);
        let row = (topic, self.subjects.number(subject), self.values.number(value));
        self.gold.push(row);
    }

    /// Statements so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nobody has said anything yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn topic_number(&mut self, predicate: &PredicateName) -> u32 {
        let topic = self.topics.number(predicate);
        if self.kinds.len() <= topic as usize {
            self.kinds.push(TopicKind::default());
        }
        topic
    }
}

/// Names by number, in the order of their first use.
#[derive(Debug)]
pub(super) struct Names<T> {
    numbers: HashMap<T, u32>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Names<T> {
    fn number(&mut self, name: &T) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.clone(), number);
        number
    }

    /// The names in the order of `compare`, and the rank of each number in it.
    pub(super) fn ranked(
        &self,
        compare: impl Fn(&T, &T) -> std::cmp::Ordering,
    ) -> (Vec<T>, Vec<u32>) {
        let mut sorted: Vec<(&T, u32)> = self.numbers.iter().map(|(name, n)| (name, *n)).collect();
        sorted.sort_unstable_by(|a, b| compare(a.0, b.0));
        let mut rank = vec![0; sorted.len()];
        for (place, (_, number)) in sorted.iter().enumerate() {
            rank[*number as usize] = place as u32;
        }
        (sorted.into_iter().map(|(name, _)| name.clone()).collect(), rank)
    }
}
