//! What an agent is worth, and why: the learned table beside what became of the agent's claims.

use std::collections::BTreeMap;
use std::sync::Arc;

use stemedb_index::Filter;
use stemedb_lens::trust::Table;
use stemedb_lens::{LensName, Options, Question};
use stemedb_model::{AgentId, Key, Position, PredicateName, Space, Subject, TrustState, Value};

use crate::error::ReadError;
use crate::trust::reliability;
use crate::view::{View, key_of};

/// Claims that did not become the answer, named for each topic.
const DISPUTES_MAX: usize = 3;

/// What an agent is worth in one space.
#[derive(Debug, Clone)]
pub struct TrustOf {
    /// The first key of its replacement chain: what the table knows it by.
    pub agent: AgentId,
    /// The snapshot in force; without one everybody is worth 1/2.
    pub snapshot: Option<TrustState>,
    /// Learned over all topics, in 2^-30.
    pub overall: Option<u64>,
    /// By topic, ascending: those that were learned, and those of the claims looked at.
    pub topics: Vec<TopicTrust>,
    /// The newest claims of the agent, this many, were compared with the answers.
    pub compared: usize,
    /// How many assertions it signed with the key asked for.
    pub signed: usize,
}

/// What an agent is worth on one topic.
#[derive(Debug, Clone)]
pub struct TopicTrust {
    /// The topic.
    pub predicate: PredicateName,
    /// Learned, in 2^-30; `None`: what it is worth over all topics counts.
    pub reliability: Option<u64>,
    /// Live claims among those looked at.
    pub claims: usize,
    /// Of these, the ones whose value is in the answer of the lens `trust` now.
    pub agreed: usize,
    /// Some of the others, newest first.
    pub disputes: Vec<Dispute>,
}

/// A claim that is not the answer.
#[derive(Debug, Clone)]
pub struct Dispute {
    /// The claim.
    pub position: Position,
    /// What it is about.
    pub subject: Subject,
    /// What the agent says.
    pub says: Value,
    /// What the answer is.
    pub answer: Option<Value>,
}

impl View {
    /// What `agent` is worth in a space and how its newest `compare` claims stand against the answers
    /// of the lens `trust`. Costs the list of its claims and two resolutions for each one compared.
    pub fn trust_of(
        &self,
        space: &Space,
        agent: &AgentId,
        compare: usize,
    ) -> Result<TrustOf, ReadError> {
        let table = self.trust(space)?;
        let first_key = self.snapshot().registry().lineage(space, agent, self.position());
        let mut topics: BTreeMap<PredicateName, TopicTrust> = BTreeMap::new();
        for (predicate, reliability) in table.iter().flat_map(|table| table.topics(&first_key)) {
            let topic = TopicTrust { reliability: Some(reliability), ..TopicTrust::new(predicate) };
            topics.insert(predicate.clone(), topic);
        }
        let filter = Filter { agent: Some(*agent), ..Filter::new(space.clone()) };
        let positions = self.all(&filter)?;
        let newest = positions.get(positions.len().saturating_sub(compare)..).unwrap_or_default();
        for position in newest.iter().rev() {
            let Some(key) = self.entry(*position)?.as_ref().and_then(key_of) else {
                continue;
            };
            let Some(verdict) = self.verdict(&key, agent, *position, table.as_ref())? else {
                continue;
            };
            let topic = topics
                .entry(key.predicate.clone())
                .or_insert_with(|| TopicTrust::new(&key.predicate));
            topic.claims += 1;
            match verdict {
                Ok(()) => topic.agreed += 1,
                Err(dispute) if topic.disputes.len() < DISPUTES_MAX => topic.disputes.push(dispute),
                Err(_) => {}
            }
        }
        Ok(TrustOf {
            agent: first_key,
            snapshot: self.trust_snapshot(space),
            overall: table.as_ref().and_then(|table| table.of_agent(&first_key)),
            topics: topics.into_values().collect(),
            compared: newest.len(),
            signed: positions.len(),
        })
    }

    /// Whether what an agent says about a key is the answer; `None` if its claim takes no part.
    fn verdict(
        &self,
        key: &Key,
        agent: &AgentId,
        position: Position,
        table: Option<&Arc<Table>>,
    ) -> Result<Option<Result<(), Dispute>>, ReadError> {
        let all = self.options(LensName::Trust);
        let own = Options { agents: Some([*agent].into()), ..all.clone() };
        let candidates = self.candidates(key)?;
        let question = Question::new(&candidates, &all);
        let trust = reliability(table);
        let excluded = question.excluded(&own, trust);
        if excluded.iter().any(|excluded| excluded.position == position) {
            return Ok(None);
        }
        let (all, own) = (question.answer(&all, trust), question.answer(&own, trust));
        let says = own.values.iter().find(|value| value.because.contains(&position));
        let Some(says) = says else { return Ok(None) };
        let mut winners = all.winners.iter().filter_map(|index| all.values.get(*index));
        if winners.any(|winner| winner.value == says.value) {
            return Ok(Some(Ok(())));
        }
        Ok(Some(Err(Dispute {
            position,
            subject: key.subject.clone(),
            says: says.value.clone(),
            answer: all.winner().map(|winner| winner.value.clone()),
        })))
    }
}

impl TopicTrust {
    fn new(predicate: &PredicateName) -> Self {
        Self {
            predicate: predicate.clone(),
            reliability: None,
            claims: 0,
            agreed: 0,
            disputes: Vec::new(),
        }
    }
}
