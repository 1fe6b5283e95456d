//! What was learned, as the lens reads it.
//!
//! Reliability is linear in the log-odds of accuracy, so that adding up reliabilities is what
//! naive Bayes does: an agent of plain accuracy ([`ACCURACY`]) gets 1/2, as somebody unknown does;
//! one that is worth no more than chance gets next to nothing; one that is right nineteen times in
//! twenty, or more often, gets nearly 1. It is then multiplied with the mean independence of the
//! agent's claims.

use std::collections::BTreeMap;

use stemedb_model::{AgentId, Hash, Key, PredicateName};

use super::abilities::Abilities;
use super::questions::Questions;
use super::{ACCURACY, log_odds};
use crate::decay::{WEIGHT_ONE, fixed};
use crate::lenses::Reliability;

/// Reliabilities in 2^-30, each above 0 and below 2^30.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    agents: BTreeMap<AgentId, OfAgent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OfAgent {
    overall: u64,
    topics: BTreeMap<PredicateName, u64>,
}

impl Table {
    pub(super) fn new(
        questions: &Questions,
        abilities: &Abilities,
        ways: &[f64],
        independence: &[f64],
    ) -> Self {
        let mut agents = BTreeMap::new();
        for (agent, id) in questions.agents.iter().enumerate() {
            let mut topics = BTreeMap::new();
            let (mut sum, mut claims) = (0.0, 0.0);
            for cell in questions.cells(agent) {
                let of_cell = questions.of_cell(cell);
                let heard: f64 = of_cell.iter().map(|claim| independence[*claim as usize]).sum();
                let topic = questions.cell_topic[cell] as usize;
                let share = share(abilities.accuracy[cell], ways[topic]);
                let count = of_cell.len() as f64;
                topics.insert(questions.topics[topic].clone(), in_bits(share * heard / count));
                sum += share * heard;
                claims += count;
            }
            if claims > 0.0 {
                agents.insert(*id, OfAgent { overall: in_bits(sum / claims), topics });
            }
        }
        Self { agents }
    }

    /// Mean reliability of `agent` over its claims, for topics that it never spoke about.
    pub fn of_agent(&self, agent: &AgentId) -> Option<u64> {
        self.agents.get(agent).map(|of_agent| of_agent.overall)
    }

    /// Reliability of `agent` on `topic`; overall where it never spoke about it.
    pub fn of(&self, agent: &AgentId, topic: &PredicateName) -> Option<u64> {
        let of_agent = self.agents.get(agent)?;
        Some(of_agent.topics.get(topic).copied().unwrap_or(of_agent.overall))
    }

    /// All rows: agents ascending, for each first the one without a topic, then topics ascending.
    pub fn rows(&self) -> impl Iterator<Item = (&AgentId, Option<&PredicateName>, u64)> {
        self.agents.iter().flat_map(|(agent, of_agent)| {
            let topics = of_agent.topics.iter();
            let topics = topics.map(move |(topic, reliability)| (agent, Some(topic), *reliability));
            std::iter::once((agent, None, of_agent.overall)).chain(topics)
        })
    }

    /// The [rows](Self::rows): 32 bytes of agent, the length of the topic (4 bytes, little-endian; 0
    /// for none) and the topic, the reliability (4 bytes, little-endian).
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (agent, topic, reliability) in self.rows() {
            let topic = topic.map_or(&b""[..], |topic| topic.as_str().as_bytes());
            bytes.extend_from_slice(&agent.0);
            bytes.extend_from_slice(&(topic.len() as u32).to_le_bytes());
            bytes.extend_from_slice(topic);
            // Below 2^30.
            bytes.extend_from_slice(&(reliability as u32).to_le_bytes());
        }
        bytes
    }

    /// BLAKE3 over `"stemedb/v1/trust-table"`, a 0 byte, and the [encoded](Self::encode) rows.
    pub fn hash(&self) -> Hash {
        hash(&self.encode())
    }

    /// The table of these bytes; `None` if they are none, or do not hash to `expected`.
    pub fn decode(mut bytes: &[u8], expected: Hash) -> Option<Self> {
        if hash(bytes) != expected {
            return None;
        }
        let mut agents: BTreeMap<AgentId, OfAgent> = BTreeMap::new();
        while !bytes.is_empty() {
            let (agent, rest) = bytes.split_first_chunk::<32>()?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let (topic, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            let (reliability, rest) = rest.split_first_chunk::<4>()?;
            let reliability = u64::from(u32::from_le_bytes(*reliability));
            if reliability >= WEIGHT_ONE {
                return None;
            }
            if topic.is_empty() {
                let row = OfAgent { overall: reliability, topics: BTreeMap::new() };
                agents.insert(AgentId(*agent), row);
            } else {
                let topic = PredicateName::parse(std::str::from_utf8(topic).ok()?).ok()?;
                agents.get_mut(&AgentId(*agent))?.topics.insert(topic, reliability);
            }
            bytes = rest;
        }
        Some(Self { agents })
    }

    /// How many agents it knows.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether it knows nobody.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// What was learned of `agent` by topic, topics ascending.
    pub fn topics(&self, agent: &AgentId) -> impl Iterator<Item = (&PredicateName, u64)> {
        let topics = self.agents.get(agent).map(|of_agent| &of_agent.topics);
        topics.into_iter().flatten().map(|(topic, reliability)| (topic, *reliability))
    }
}

impl Reliability for Table {
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64> {
        self.of(agent, &key.predicate)
    }
}

/// 1/2 at [`ACCURACY`], linear in the log-odds. `ways` counts by half its logarithm: the values that
/// the lens weighs against each other are fewer than those that could be, since tolerance joins
/// some and nobody names others.
fn share(accuracy: f64, ways: f64) -> f64 {
    let ways = 0.5 * libm::log(ways);
    ((log_odds(accuracy) + ways) / (2.0 * (log_odds(ACCURACY) + ways))).clamp(0.0, 1.0)
}

/// Never quite 0 or 1: both would say that nothing more can be learned.
fn in_bits(share: f64) -> u64 {
    fixed(share).clamp(1, WEIGHT_ONE - 1)
}

fn hash(rows: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stemedb/v1/trust-table\0").update(rows);
    Hash(*hasher.finalize().as_bytes())
}
