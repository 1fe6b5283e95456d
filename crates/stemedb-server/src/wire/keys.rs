//! API keys, as administrators see them. A secret is in an answer once: when it was made.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::scalar::{AgentKey, HashHex, SpaceText, Time};

/// What an API key may do. Each role may also do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Ask questions.
    Reader,
    /// Write records.
    Writer,
    /// Look after the node.
    Operator,
    /// Make and revoke API keys.
    Admin,
}

impl KeyRole {
    /// All roles, the least first.
    pub const ALL: [Self; 4] = [Self::Reader, Self::Writer, Self::Operator, Self::Admin];

    /// The name in JSON, and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl std::fmt::Display for KeyRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much the holder of an API key may write in a day, from midnight to midnight UTC. At least one of
/// the two is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Records that are new; those that were there before do not count. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_per_day: Option<u64>,
    /// Bytes of these records, signed and encoded. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<u64>,
}

/// How much of that is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An API key without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// Names it for good. Not secret; it is the part of the key before its last underscore.
    #[schema(example = "0f3c5a7e9b1d2c4e")]
    pub id: String,
    /// What people call it.
    #[schema(example = "ingest")]
    pub name: String,
    /// Who is stamped on what is written with it, and by whose custodial key it is signed.
    pub principal: String,
    /// What it may do.
    pub role: KeyRole,
    /// The spaces that it may read and write; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spaces: Option<Vec<SpaceText>>,
    /// The one agent whose records it may send, besides those that the server signs for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentKey>,
    /// `active`, `expired` or `revoked`.
    #[schema(example = "active")]
    pub state: String,
    /// When it was made.
    pub created_at: Time,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The hour in which it was used last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// Until when the secret before the last rotation is still taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until: Option<Time>,
    /// How much its holder may write in a day; left out: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// How much of it is used today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_today: Option<Usage>,
}

/// All API keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The keys, the oldest first; revoked ones, too.
    pub keys: Vec<KeyInfo>,
}

/// An API key to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What people will call it; no other live key has this name.
    #[schema(pattern = "^[a-z0-9._-]{1,64}$")]
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// Who is stamped on what is written with it. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z0-9._-]{1,64}$")]
    pub principal: Option<String>,
    /// The spaces that it may read and write, of a reader or writer. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 256)]
    pub spaces: Option<Vec<SpaceText>>,
    /// The one agent whose records it may send, besides those that the server signs for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentKey>,
    /// From when on it is refused. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// How much its holder may write in a day, of a writer or higher. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// How to rotate an API key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the secret of now is still taken. Default: 3,600; 0: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2592000)]
    pub grace_seconds: Option<u64>,
}

/// A key and its new secret, which is never shown again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeKey {
    /// What goes into `Authorization: Bearer`.
    #[schema(pattern = "^stk_[0-9a-f]{16}_[0-9a-f]{48}$")]
    pub secret: String,
    /// The key.
    pub key: KeyInfo,
}

impl std::fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What an administrator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminEntry {
    /// The hash of this entry and of all before it.
    pub chain: HashHex,
    /// Its number, dense from 1.
    pub id: u64,
    /// When it was done.
    pub at: Time,
    /// What was done: method and endpoint, or the command.
    #[schema(example = "POST /v1/admin/node/drain")]
    pub act: String,
    /// Who did it: the owner of the API key.
    pub principal: String,
    /// The API key that it was done with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `http`, `socket` or `offline`.
    #[schema(example = "http")]
    pub via: String,
    /// From where: address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Path and query, where they say more than the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What it came to, in words; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl AdminEntry {
    /// An act; number and chain are given when it is written.
    pub fn new(at: Time, act: &str, principal: &str, via: &str) -> Self {
        Self {
            chain: HashHex(stemedb_model::Hash([0; 32])),
            id: 0,
            at,
            act: act.to_owned(),
            principal: principal.to_owned(),
            key: None,
            via: via.to_owned(),
            client: None,
            path: None,
            status: None,
            detail: None,
        }
    }
}

/// A page of what administrators did, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminPage {
    /// The entries.
    pub entries: Vec<AdminEntry>,
    /// Where the next page begins, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Each place of the trail that is not as it was written; absent if all of it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// What GET /v1/audit/admin asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdminParams {
    /// How many entries a page holds. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where the next page begins, from the one before.
    pub cursor: Option<String>,
}
