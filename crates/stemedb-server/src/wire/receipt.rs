//! Receipts: what an answer rests on, and the same made again.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::lens::LensName;
use super::object::ClaimedValue;
use super::point::{AsOf, AtLeast, Decay, Tier};
use super::record::SourceKey;
use super::resolution::Status;
use super::scalar::{
    AgentKey, HashHex, Id, LifecycleState, List, PredicateText, SpaceText, SubjectText, Time,
    TimeParam, UriText,
};

/// What GET /v1/explain asks.
#[derive(Debug, Clone, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// The entity.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
    /// The lens. Default: authority.
    pub lens: Option<LensName>,
    /// Claims of this agent.
    pub agent: Option<AgentKey>,
    /// Claims that name this source by its URI.
    pub source: Option<UriText>,
    /// Claims in one of these states now, separated by commas.
    #[param(value_type = Option<Vec<LifecycleState>>, style = Form, explode = false,
        min_items = 1, max_items = 5)]
    pub lifecycle: Option<List<LifecycleState>>,
    /// Claims of replaced epochs retire. Default: true.
    pub epoch_aware: Option<bool>,
    /// How weights fade. Default: off.
    pub decay: Option<Decay>,
    /// Keep only claims at least this certain.
    #[param(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f64>,
    /// Keep only claims of these tiers, separated by commas.
    #[param(value_type = Option<Vec<Tier>>, style = Form, explode = false,
        min_items = 1, max_items = 6)]
    pub tiers: Option<List<Tier>>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Keep only what was claimed before this time.
    pub asserted_before: Option<TimeParam>,
    /// Judge validity in the world at this time. Default: when the answer is evaluated.
    pub valid_at: Option<TimeParam>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
    /// Where the next page begins, from the one before; all other parameters stay the same.
    pub cursor: Option<String>,
}

/// An answer with all that it depends on: the same log gives the same receipt. Sums are integers as
/// text: they may not fit a float.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The version of this form.
    #[schema(minimum = 1, maximum = 1)]
    pub version: u64,
    /// The namespace.
    pub space: SpaceText,
    /// The entity, by the smallest of its names.
    pub subject: SubjectText,
    /// The property.
    pub predicate: PredicateText,
    /// The lens.
    pub lens: LensName,
    /// Its options.
    pub options: ReceiptOptions,
    /// Hash of the lens and its options.
    pub lens_hash: HashHex,
    /// The answer is what the log up to here says.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    pub position: u64,
    /// Weights were taken at this time.
    pub evaluated_at: Time,
    /// Validity was judged at this time.
    pub valid_at: Time,
    /// The table of learned trust that the lens used, if it used one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<ReceiptTrust>,
    /// Agreement.
    pub status: Status,
    /// Which of `values` win.
    #[schema(max_items = 1000)]
    pub winners: Vec<u64>,
    /// Every candidate value, in the order of the answer.
    #[schema(max_items = 1000)]
    pub values: Vec<ReceiptValue>,
    /// Assertions considered.
    pub considered: u64,
    /// How many of them have no part in the answer.
    pub excluded: u64,
    /// The root of the hash tree over the considered assertions.
    pub root: HashHex,
}

/// The options of a receipt; what is absent filters nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptOptions {
    /// Claims of replaced epochs retire.
    pub epoch_aware: bool,
    /// How weights fade.
    pub decay: Decay,
    /// Only claims at least this certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_confidence: Option<f64>,
    /// Only claims in these states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 5)]
    pub lifecycle: Option<Vec<LifecycleState>>,
    /// Only claims of these tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 6)]
    pub tiers: Option<Vec<Tier>>,
    /// Only claims of these agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000)]
    pub agents: Option<Vec<AgentKey>>,
    /// Only claims of these sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000)]
    pub sources: Option<Vec<SourceKey>>,
    /// Only what was claimed before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asserted_before: Option<Time>,
}

/// A table of learned trust, as a trust snapshot names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptTrust {
    /// It was learned from the log up to here.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    pub input_position: u64,
    /// Hash of the method and its constants.
    pub config: HashHex,
    /// Hash of the table.
    pub table: HashHex,
}

/// One candidate value, in integers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptValue {
    /// The value; of a group within tolerance, its centre.
    pub value: ClaimedValue,
    /// Share of the disagreement, in 2^-52.
    #[schema(pattern = "^-?[0-9]+$")]
    pub share: String,
    /// Undecayed independent support, in 2^-30.
    #[schema(pattern = "^-?[0-9]+$")]
    pub support: String,
    /// The same of the claims that deny it.
    #[schema(pattern = "^-?[0-9]+$")]
    pub against: String,
    /// Weight under the lens, in the lens's own unit.
    #[schema(pattern = "^-?[0-9]+$")]
    pub lens_weight: String,
    /// The same of the claims that deny it.
    #[schema(pattern = "^-?[0-9]+$")]
    pub lens_against: String,
    /// Assertions behind it.
    pub claims: u64,
    /// Distinct agents.
    pub agents: u64,
    /// Independent voices.
    pub voices: u64,
}

/// One assertion that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Considered {
    /// Its number in the log.
    pub position: u64,
    /// Its id.
    pub id: Id,
    /// It denies values of the key, under an opposite predicate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opposing: bool,
    /// Its tier.
    #[schema(minimum = 0, maximum = 5)]
    pub tier: u8,
    /// Its value, in the form in which values are compared.
    pub value: ClaimedValue,
    /// Why it has no part in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The position of the record that makes it so, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u64>,
}

/// A receipt, and a page of what was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The receipt.
    pub receipt: Receipt,
    /// Its name: a hash of its canonical bytes.
    pub hash: HashHex,
    /// Names the state of the database that it is of.
    pub snapshot: String,
    /// Which page this is, from 0; each but the last holds 256.
    pub page: u64,
    /// How many there are.
    pub pages: u64,
    /// Assertions, ascending by position.
    #[schema(max_items = 256)]
    pub considered: Vec<Considered>,
    /// The hashes on the page's way to the receipt's root, nearest first.
    pub path: Vec<HashHex>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A receipt made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Replay {
    /// Every field is the same, bit for bit.
    pub same: bool,
    /// The fields that are not.
    pub differences: Vec<String>,
    /// The name of the receipt as it is here.
    pub hash: HashHex,
    /// The receipt as it is here.
    pub receipt: Receipt,
}
