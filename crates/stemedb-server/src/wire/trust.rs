//! Learned trust.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::object::ClaimedValue;
use super::point::{AsOf, AtLeast};
use super::resolution::Reference;
use super::scalar::{AgentKey, HashHex, Id, PredicateText, SpaceText, SubjectText};

/// What POST /v1/trust/learn asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LearnParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// Learn from the log up to here. Default: all of it.
    pub as_of: Option<AsOf>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
}

/// A learned table, as a trust snapshot names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LearnedTrust {
    /// The namespace.
    pub space: SpaceText,
    /// It was learned from the records up to here.
    pub input_position: u64,
    /// Hash of the method and its constants.
    pub config: HashHex,
    /// Hash of the table.
    pub table: HashHex,
    /// How many agents it knows.
    pub agents: u64,
    /// Live claims and votes that it was learned from.
    pub statements: u64,
    /// How long that took.
    pub took_ms: u64,
}

/// What GET /v1/trust/{agent} asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrustParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// Compare this many of the agent's newest claims with the answers. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
}

/// The trust snapshot that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustInForce {
    /// The record.
    pub snapshot: Reference,
    /// Its table was learned from the records up to here.
    pub input_position: u64,
    /// Hash of the method and its constants.
    pub config: HashHex,
    /// Hash of the table.
    pub table: HashHex,
}

/// What an agent is worth under the lens `trust`, and how its claims fare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustAnswer {
    /// What the log up to here says.
    pub position: u64,
    /// The namespace.
    pub space: SpaceText,
    /// The first key of the agent: what the table knows it by.
    pub agent: AgentKey,
    /// Null: none was ever written, and everybody is worth one half.
    #[schema(required = true)]
    pub in_force: Option<TrustInForce>,
    /// Reliability over all topics, 0 to 1; one half if nothing was learned of the agent.
    pub reliability: f64,
    /// Whether anything was learned of the agent.
    pub learned: bool,
    /// By topic, in byte order.
    pub topics: Vec<TopicTrust>,
    /// How many of the agent's newest assertions were compared with the answers of today...
    pub compared: u64,
    /// ... of how many that it signed with this key.
    pub signed: u64,
}

/// What an agent is worth on one topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopicTrust {
    /// The topic.
    pub predicate: PredicateText,
    /// Reliability, 0 to 1.
    pub reliability: f64,
    /// Whether it was learned on this topic, or is that over all topics.
    pub learned: bool,
    /// Claims that count, of those compared.
    pub claims: u64,
    /// Of these, the ones whose value is the answer of the lens `trust`.
    pub agreed: u64,
    /// Some of the others, newest first.
    pub disputes: Vec<Dispute>,
}

/// A claim that is not the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dispute {
    /// The claim.
    pub id: Id,
    /// Its number in the log.
    pub position: u64,
    /// What it is about.
    pub subject: SubjectText,
    /// What the agent says.
    pub says: ClaimedValue,
    /// What the answer is; null if there is none.
    #[schema(required = true)]
    pub answer: Option<ClaimedValue>,
}
