//! The keys, their defaults and their bounds.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stemedb_model::AgentId;

/// All of `api.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the node listens and keeps its data.
    pub server: Server,
    /// What the node signs for callers.
    pub signing: Signing,
    /// Bounds on what callers may ask for.
    pub limits: Limits,
    /// The write-ahead log.
    pub wal: Wal,
    /// What is derived from the log.
    pub index: Index,
    /// Reads.
    pub query: Query,
    /// What the node says about itself.
    pub log: Log,
}

/// Where the node listens and keeps its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port. Without API keys only loopback addresses are allowed.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The folder of everything the node keeps: `wal`, `index`, `node`.
    pub data_dir: PathBuf,
    /// Public half of the root key, 64 hex digits, where the secret half is kept elsewhere.
    pub root_public_key: Option<String>,
    /// How long a drain may take before what is left is reported; 1 to 600,000.
    pub drain_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 18180)),
            data_dir: "/var/lib/stemedb".into(),
            root_public_key: None,
            drain_timeout_ms: 25_000,
        }
    }
}

/// What the node signs for callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Signing {
    /// Whether the node signs for callers that have no key of their own.
    pub custodial: bool,
}

impl Default for Signing {
    fn default() -> Self {
        Self { custodial: true }
    }
}

/// Bounds on what callers may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest request body, imports excepted; 262,144 to 1,073,741,824.
    pub body_bytes_max: usize,
    /// Requests worked on at once; more are answered 503. 1 to 65,536.
    pub requests_max: usize,
    /// Longest time a request may take, imports and exports excepted; 100 to 600,000.
    pub request_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 8 << 20, requests_max: 512, request_timeout_ms: 30_000 }
    }
}

/// The write-ahead log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wal {
    /// Its folder; `<server.data_dir>/wal` if not set.
    pub dir: Option<PathBuf>,
    /// Length of a new segment; 1,048,576 to 4,294,967,296. Existing segments keep theirs.
    pub segment_bytes: u64,
}

impl Default for Wal {
    fn default() -> Self {
        Self { dir: None, segment_bytes: 64 << 20 }
    }
}

/// What is derived from the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Index {
    /// Its folder; `<server.data_dir>/index` if not set. May be deleted while the node is stopped.
    pub dir: Option<PathBuf>,
    /// Memory for recently read blocks; 1,048,576 to 1,099,511,627,776.
    pub cache_bytes: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { dir: None, cache_bytes: 256 << 20 }
    }
}

/// Reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Most claims that one resolution may look at; more is `resolve_too_large`. 1 to 10,000,000.
    pub claims_max: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self { claims_max: 100_000 }
    }
}

/// What the node says about itself, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Lines for people, or one JSON object a line.
    pub format: LogFormat,
    /// What is said: a level, or levels by module (`info,stemedb_log=debug`).
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "warn".into() }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// One bound that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`.
    pub key: &'static str,
    /// What it is and what was expected.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.key, self.what)
    }
}

impl Config {
    /// The folder of the log.
    pub fn wal_dir(&self) -> PathBuf {
        self.wal.dir.clone().unwrap_or_else(|| self.server.data_dir.join("wal"))
    }

    /// The folder of the index.
    pub fn index_dir(&self) -> PathBuf {
        self.index.dir.clone().unwrap_or_else(|| self.server.data_dir.join("index"))
    }

    /// The folder of keys and other state of this node.
    pub fn node_dir(&self) -> PathBuf {
        self.server.data_dir.join("node")
    }

    /// Every bound that fails, in the order of the file; changes nothing.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut bound = |key, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                problems
                    .push(Problem { key, what: format!("is {value}, expected {min} to {max}") });
            }
        };
        bound("server.drain_timeout_ms", self.server.drain_timeout_ms, 1, 600_000);
        bound("limits.body_bytes_max", self.limits.body_bytes_max as u64, 256 << 10, 1 << 30);
        bound("limits.requests_max", self.limits.requests_max as u64, 1, 65_536);
        bound("limits.request_timeout_ms", self.limits.request_timeout_ms, 100, 600_000);
        bound("wal.segment_bytes", self.wal.segment_bytes, 1 << 20, 4 << 30);
        bound("index.cache_bytes", self.index.cache_bytes, 1 << 20, 1 << 40);
        bound("query.claims_max", self.query.claims_max as u64, 1, 10_000_000);
        if !self.server.listen.ip().is_loopback() {
            problems.push(Problem {
                key: "server.listen",
                what: format!(
                    "is {}, expected a loopback address: this build has no API keys, so whoever \
                     reaches the port may write",
                    self.server.listen
                ),
            });
        }
        for (key, dir) in [
            ("server.data_dir", Some(&self.server.data_dir)),
            ("wal.dir", self.wal.dir.as_ref()),
            ("index.dir", self.index.dir.as_ref()),
        ] {
            if dir.is_some_and(|dir| dir.as_os_str().is_empty()) {
                problems.push(Problem { key, what: "is empty, expected a folder".into() });
            }
        }
        if let Some(root) = &self.server.root_public_key
            && let Err(error) = root.parse::<AgentId>()
        {
            problems.push(Problem { key: "server.root_public_key", what: format!("{error}") });
        }
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            problems.push(Problem {
                key: "log.filter",
                what: format!("is `{}`: {error}", self.log.filter),
            });
        }
        problems
    }
}
