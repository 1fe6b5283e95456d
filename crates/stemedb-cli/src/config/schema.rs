//! The keys, their defaults and their bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stemedb_engine::EngineConfig;
use stemedb_index::IndexConfig;
use stemedb_log::WalConfig;
use stemedb_model::{AgentId, Role, SourceClass};
use stemedb_server::{AuditConfig, AuthConfig, ServerConfig, TlsConfig};

use crate::telemetry;

/// All of `api.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the node listens and keeps its data.
    pub server: Server,
    /// Who may ask.
    pub auth: Auth,
    /// Encryption of connections.
    pub tls: Tls,
    /// What the node signs for callers.
    pub signing: Signing,
    /// Who asked what, and was told what.
    pub audit: Audit,
    /// Bounds on what callers may ask for. SIGHUP reads them anew.
    pub limits: Limits,
    /// How often a caller, an API key or where there is none an address, may ask; more is answered 429.
    pub rate_limit: RateLimit,
    /// The write-ahead log.
    pub wal: Wal,
    /// The log a second time, in an object store.
    pub archive: Archive,
    /// Copies of everything the node keeps, each of one moment.
    pub backup: Backup,
    /// Encryption of the archive and of backups.
    pub encryption: Encryption,
    /// More than one node with the same log.
    pub cluster: Cluster,
    /// What is derived from the log.
    pub index: Index,
    /// Reads.
    pub query: Query,
    /// Learned trust.
    pub trust: Trust,
    /// What Prometheus scrapes.
    pub metrics: Metrics,
    /// What the node says about itself.
    pub log: Log,
    /// Traces of requests for an OpenTelemetry collector.
    pub telemetry: Telemetry,
    /// An operator's answers for one start: flags only, so that no file makes them for good.
    #[serde(skip)]
    pub once: Once,
}

/// What holds for one start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Once {
    /// Give up a last group of the log of which nothing says whether it was durable.
    pub void_tail: bool,
    /// Read all of the log before anything is answered.
    pub verify_all: bool,
}

/// Where the node listens and keeps its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port. With `auth.enabled = false` only loopback addresses are allowed.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The folder of everything the node keeps: `wal`, `index`, `node`.
    pub data_dir: PathBuf,
    /// Public half of the root key, 64 hex digits, where the secret half is kept elsewhere.
    pub root_public_key: Option<String>,
    /// Socket on which operators and administrators of this machine are answered without keys, mode
    /// 0600; `<server.data_dir>/node/admin.sock` if not set, none if empty.
    pub admin_socket: Option<PathBuf>,
    /// Proxies, as addresses or networks (`10.0.0.0/8`), whose `X-Forwarded-For` says who asks.
    pub trusted_proxies: Vec<String>,
    /// Sites whose pages may ask from a browser, as `https://app.example`; none if empty.
    pub cors_origins: Vec<String>,
    /// How long a drain may take before what is left is reported; at most 600,000.
    pub drain_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 18180)),
            data_dir: "/var/lib/stemedb".into(),
            root_public_key: None,
            admin_socket: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            drain_timeout_ms: 25_000,
        }
    }
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether requests need an API key. Without it only a loopback address is served, only requests
    /// for this machine by name, and none through a proxy.
    pub enabled: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self { enabled: AuthConfig::default().enabled }
    }
}

/// Encryption of connections: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. SIGHUP reads the files anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate of the node and those between it and the root, in PEM. Not set: connections are
    /// in the clear.
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
    /// Certificates in PEM; callers must then show a certificate that one of these has signed, besides
    /// an API key.
    pub client_ca: Option<PathBuf>,
}

/// What Prometheus scrapes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether `/metrics` needs an API key, too.
    pub require_key: bool,
}

/// What the node signs for callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Signing {
    /// Whether the node signs for callers that have no key of their own.
    pub custodial: bool,
    /// The best class that claims signed by the node can have.
    pub ceiling: Class,
    /// Roles of the key by which the node signs: curator, registrar, reviewer, trust.
    pub roles: Vec<String>,
}

impl Default for Signing {
    fn default() -> Self {
        Self {
            custodial: true,
            ceiling: Class::Expert,
            roles: vec!["curator".into(), "reviewer".into(), "trust".into()],
        }
    }
}

/// Who asked what, and was told what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Whether reads are taken down, in `<server.data_dir>/node/audit`.
    pub enabled: bool,
    /// Whether a read is answered only once it is durably taken down, and refused (503) where it
    /// cannot be. If not, the audit never stops a read, and says how many it lacks.
    pub required: bool,
    /// The endpoints whose reads are taken down.
    pub endpoints: Vec<String>,
    /// A file that is longer is closed, and another begun; 65,536 to 1,073,741,824.
    pub rotate_bytes: u64,
    /// How much is kept; the oldest files go. At least twice `rotate_bytes`; 0: nothing goes.
    pub keep_bytes: u64,
    /// How long an entry that nobody waits for may be written but not durable; at most 60,000.
    pub sync_ms: u64,
}

impl Default for Audit {
    fn default() -> Self {
        let audit = AuditConfig::default();
        Self {
            enabled: audit.enabled,
            required: audit.required,
            endpoints: audit.endpoints,
            rotate_bytes: audit.rotate_bytes,
            keep_bytes: audit.keep_bytes,
            sync_ms: u64::try_from(audit.sync_every.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A class of sources, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the classes of the model")]
pub enum Class {
    Regulatory,
    Clinical,
    Observational,
    Expert,
    Community,
    Anecdotal,
}

/// Bounds on what callers may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A request body, unpacked; 65,536 to 67,108,864.
    pub body_bytes: usize,
    /// One line of an import, unpacked; 65,536 to 67,108,864.
    pub line_bytes: usize,
    /// The body of an import, unpacked; at least 1,048,576.
    pub import_bytes: u64,
    /// Path and query; 1,024 to 32,768.
    pub uri_bytes: usize,
    /// The request line and all headers; 8,192 to 1,048,576.
    pub head_bytes: usize,
    /// Requests at once; more are answered 503. 1 to 1,048,576.
    pub requests: usize,
    /// Connections at once; more wait. 1 to 1,048,576.
    pub connections: usize,
    /// Connections of one address at once; more are closed. Those of `server.trusted_proxies` are not
    /// counted. 1 to 1,048,576.
    pub connections_per_address: usize,
    /// Reads that may touch storage at once; more wait. At most 512; 0: eight for each processor, and at
    /// most 64.
    pub reads: usize,
    /// Imports and exports at once; more are answered 503. 1 to 1,048,576.
    pub streams: usize,
    /// Feeds that are followed at once; more are answered 503. 1 to 1,048,576.
    pub feeds: usize,
    /// From the first byte of a request to the end of its head; 1 to 3,600,000.
    pub head_timeout_ms: u64,
    /// From the head to the end of the body, of an import between two pieces; 1 to 3,600,000.
    pub body_timeout_ms: u64,
    /// From the end of the body to the answer; 1 to 3,600,000.
    pub request_timeout_ms: u64,
    /// How long a caller may take nothing of its answer; 1 to 3,600,000.
    pub write_timeout_ms: u64,
    /// How long a read waits for the position it wants; at most 3,600,000.
    pub at_least_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = stemedb_server::Limits::default();
        Self {
            body_bytes: limits.body_bytes,
            line_bytes: limits.line_bytes,
            import_bytes: limits.import_bytes,
            uri_bytes: limits.uri_bytes,
            head_bytes: limits.head_bytes,
            requests: limits.requests,
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            reads: limits.reads,
            streams: limits.streams,
            feeds: limits.feeds,
            head_timeout_ms: ms(limits.head_timeout),
            body_timeout_ms: ms(limits.body_timeout),
            request_timeout_ms: ms(limits.request_timeout),
            write_timeout_ms: ms(limits.write_timeout),
            at_least_timeout_ms: ms(limits.at_least_timeout),
        }
    }
}

/// How often a caller, an API key or where there is none an address, may ask; more is answered 429.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// One record: `/v1/assert` and its like.
    pub write: Rate,
    /// Many records: `/v1/import`.
    pub import: Rate,
    /// Questions about one key, pages, single records.
    pub read: Rate,
    /// Exports, receipts, what-if, many keys at once, learning.
    pub heavy: Rate,
    /// The node: `/v1/admin/…`, `/v1/audit/…`.
    pub admin: Rate,
}

impl Default for RateLimit {
    fn default() -> Self {
        let stemedb_server::RateLimits { write, import, read, heavy, admin } =
            stemedb_server::RateLimits::default();
        let rate =
            |rate: stemedb_server::Rate| Rate { per_second: rate.per_second, burst: rate.burst };
        Self {
            write: rate(write),
            import: rate(import),
            read: rate(read),
            heavy: rate(heavy),
            admin: rate(admin),
        }
    }
}

/// How often one caller may make requests of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second, in the long run; at most 1,000,000, 0: no bound.
    pub per_second: u32,
    /// Requests at once, after a rest; 1 to 10,000,000.
    pub burst: u32,
}

impl Rate {
    fn server(self) -> stemedb_server::Rate {
        stemedb_server::Rate { per_second: self.per_second, burst: self.burst }
    }
}

/// A network, or the one address of it.
fn network(text: &str) -> Option<IpNet> {
    let alone = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(alone)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The write-ahead log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wal {
    /// Its folder; `<server.data_dir>/wal` if not set.
    pub dir: Option<PathBuf>,
    /// Length of a new segment; 1,048,576 to 4,294,967,296. Existing segments keep theirs.
    pub segment_bytes: u64,
    /// What a failing medium does to the log. `heal`: go on in a fresh segment where it can be proved
    /// that nothing durable is lost. `stop`: refuse writes until the medium takes them again and the
    /// same proof has succeeded.
    pub on_failure: OnFailure,
    /// Whether the process ends, with status 2, once the log cannot make bytes durable; else reads go
    /// on.
    pub exit_on_failure: bool,
    /// Whether every failed write or sync of a segment gets a line in the log of the node; they are
    /// counted in any case.
    pub log_fsync_errors: bool,
    /// What may become of old segments. `keep`: nothing, they are kept. `archived`: a segment goes once it
    /// was read back from the archive and lies within a backup whose restore was verified (`stemedb backup
    /// verify --deep`), never by age. Needs `archive.url` and `backup.url`.
    pub retention: Retention,
    /// How fast sealed segments are read to be packed, in bytes a second; 0: they are not packed;
    /// otherwise at least 65,536.
    pub repack_bytes_per_second: u64,
    /// How fast sealed segments are read again from the medium and proved, in bytes a second; each
    /// once a day at most. 0: never; otherwise at least 65,536.
    pub scrub_bytes_per_second: u64,
}

impl Default for Wal {
    fn default() -> Self {
        Self {
            dir: None,
            segment_bytes: 64 << 20,
            on_failure: OnFailure::Heal,
            exit_on_failure: false,
            log_fsync_errors: true,
            retention: Retention::Keep,
            repack_bytes_per_second: 16 << 20,
            scrub_bytes_per_second: 8 << 20,
        }
    }
}

/// What a failing medium does to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Go on where that can be proved to be safe.
    Heal,
    /// Refuse writes until it is.
    Stop,
}

/// What may become of old segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    /// They are kept.
    Keep,
    /// They may go once they are safe elsewhere.
    Archived,
}

/// The log a second time, in an object store. Credentials come from the environment, as the clouds name
/// them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// Where: `/path`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`. Not set: nothing
    /// is archived.
    pub url: Option<String>,
    /// The newest records are archived after this long at most, as `500ms`, `10s`, `5m`; 0s to 24h.
    pub delay: String,
    /// Keys of nodes, 64 hex digits each, whose archives and backups are believed besides those of this
    /// node: of one that it was restored from, or of every node on a machine that only restores.
    pub trusted_keys: Vec<String>,
    /// Each part of the archive is read again and compared within so many days, and archived anew if it is
    /// damaged; 0: never; at most 3,650.
    pub scrub_days: u64,
    /// Whether an acknowledgement waits until its record is in the archive as well. Costs every write four
    /// requests to the store, one after the other; those that come meanwhile share the next four. While the
    /// archive takes nothing, writes are refused with 503 `archive_unavailable`.
    pub sync: bool,
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            url: None,
            delay: "10s".into(),
            trusted_keys: Vec::new(),
            scrub_days: 30,
            sync: false,
        }
    }
}

/// Copies of everything the node keeps, each of one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// Where `stemedb backup` puts and finds them, as `archive.url`; it may be the same. They hold the keys
    /// of the node: without `encryption.keys` keep it as secret as the node.
    pub url: Option<String>,
}

/// Encryption of the archive and of backups. The node's own disk is not encrypted by it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Encryption {
    /// Files of keys (`stemedb key generate --encryption`). What is written is encrypted with the first, what
    /// is read with any. Keep copies elsewhere: no backup holds them, and none can be read without. Empty:
    /// what is written is in the clear.
    pub keys: Vec<PathBuf>,
}

/// More than one node with the same log, of which one writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The archive of another node, as its `archive.url`: this node follows it as a standby, answers reads,
    /// and takes no writes until it is promoted.
    pub standby_of: Option<String>,
    /// How long this node acknowledges writes after it has last renewed its lease in `archive.url`, as `10s`;
    /// 1s to 1h. Not set: it keeps no lease, and nothing stops it when another node takes its place.
    pub lease: Option<String>,
    /// How much longer than a lease its taker waits: for clocks that do not run alike. 100ms to 10m.
    pub skew: String,
    /// Where callers reach this node, as `https://node1.example:18180`: told to those who ask another node
    /// to write.
    pub address: Option<String>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { standby_of: None, lease: None, skew: "2s".into(), address: None }
    }
}

/// The longest `archive.delay`.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3_600);

/// A length of time as people write it: a number and `ms`, `s`, `m` or `h`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
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
    /// Memory for what is kept of the keys that are asked about, so that an answer does not begin with
    /// their claims; about 700 bytes a claim. 1,048,576 to 1,099,511,627,776.
    pub memory_bytes: u64,
    /// Memory for whole answers, each kept until something that it rests on changes; 0 keeps none. 0 to
    /// 1,099,511,627,776.
    pub answers_bytes: u64,
}

impl Default for Query {
    fn default() -> Self {
        Self { claims_max: 100_000, memory_bytes: 256 << 20, answers_bytes: 32 << 20 }
    }
}

/// Learning whom to trust.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// Most live claims and votes of one space to learn from, at some 400 bytes of memory each. 1 to
    /// 1,000,000,000.
    pub statements_max: usize,
    /// How often to look whether there is enough new to learn again, and then to put it in force. 0:
    /// never, else 1,000 to 2,592,000,000. Needs `signing.roles` with `trust`.
    pub learn_every_ms: u64,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            statements_max: EngineConfig::default().trust_statements_max,
            learn_every_ms: 3_600_000,
        }
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

/// Traces of requests for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where a collector takes OTLP over HTTP, such as `http://127.0.0.1:4318`; spans go to `/v1/traces`
    /// there. Nothing is sent if not set.
    pub otlp_endpoint: Option<String>,
    /// The part of requests of which a span is sent, where the caller has not decided. 0 to 1.
    pub sample_ratio: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0 }
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

impl Cluster {
    fn problems(&self, archive: &Archive) -> Vec<String> {
        let mut problems = Vec::new();
        let bounds = |key: &str, text: &str, least: Duration, most: Duration, shown: &str| {
            let fits = duration(text).is_some_and(|time| (least..=most).contains(&time));
            (!fits).then(|| format!("{key} is `{text}`, expected {shown}, as 500ms, 10s or 5m"))
        };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        if let Some(lease) = &self.lease {
            problems.extend(bounds("cluster.lease", lease, second, hour, "1s to 1h"));
            if archive.url.is_none() && self.standby_of.is_none() {
                problems
                    .push("cluster.lease is set, and archive.url, where it is kept, is not".into());
            }
        }
        let (least, most) = (second / 10, hour / 6);
        problems.extend(bounds("cluster.skew", &self.skew, least, most, "100ms to 10m"));
        let most = stemedb_remote::ADDRESS_BYTES_MAX;
        if self.address.as_ref().is_some_and(|address| address.len() > most) {
            problems.push(format!("cluster.address is longer than {most} bytes"));
        }
        problems
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

    /// Where the admin socket is, if there is one.
    pub fn admin_socket(&self) -> Option<PathBuf> {
        let default = || self.node_dir().join("admin.sock");
        let path = self.server.admin_socket.clone().unwrap_or_else(default);
        (!path.as_os_str().is_empty()).then_some(path)
    }

    /// Settings of the HTTP server.
    pub fn server(&self) -> ServerConfig {
        let millis = Duration::from_millis;
        let mut config = ServerConfig::new(&self.server.data_dir);
        config.auth =
            AuthConfig { enabled: self.auth.enabled, metrics_need_key: self.metrics.require_key };
        config.tls = match (&self.tls.certificate, &self.tls.key) {
            (Some(certificate), Some(key)) => Some(TlsConfig {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: self.tls.client_ca.clone(),
            }),
            _ => None,
        };
        let proxies = self.server.trusted_proxies.iter();
        config.trusted_proxies = proxies.filter_map(|text| network(text)).collect();
        config.cors_origins = self.server.cors_origins.clone();
        config.signing.custodial = self.signing.custodial;
        config.signing.ceiling = match self.signing.ceiling {
            Class::Regulatory => SourceClass::Regulatory,
            Class::Clinical => SourceClass::Clinical,
            Class::Observational => SourceClass::Observational,
            Class::Expert => SourceClass::Expert,
            Class::Community => SourceClass::Community,
            Class::Anecdotal => SourceClass::Anecdotal,
        };
        config.signing.roles =
            self.signing.roles.iter().filter_map(|name| Role::parse(name)).collect();
        config.audit = AuditConfig {
            enabled: self.audit.enabled,
            required: self.audit.required,
            endpoints: self.audit.endpoints.clone(),
            rotate_bytes: self.audit.rotate_bytes,
            keep_bytes: self.audit.keep_bytes,
            sync_every: millis(self.audit.sync_ms),
        };
        config.limits = stemedb_server::Limits {
            body_bytes: self.limits.body_bytes,
            line_bytes: self.limits.line_bytes,
            import_bytes: self.limits.import_bytes,
            uri_bytes: self.limits.uri_bytes,
            head_bytes: self.limits.head_bytes,
            requests: self.limits.requests,
            connections: self.limits.connections,
            connections_per_address: self.limits.connections_per_address,
            reads: self.limits.reads,
            streams: self.limits.streams,
            feeds: self.limits.feeds,
            head_timeout: millis(self.limits.head_timeout_ms),
            body_timeout: millis(self.limits.body_timeout_ms),
            request_timeout: millis(self.limits.request_timeout_ms),
            write_timeout: millis(self.limits.write_timeout_ms),
            at_least_timeout: millis(self.limits.at_least_timeout_ms),
        };
        config.rates = stemedb_server::RateLimits {
            write: self.rate_limit.write.server(),
            import: self.rate_limit.import.server(),
            read: self.rate_limit.read.server(),
            heavy: self.rate_limit.heavy.server(),
            admin: self.rate_limit.admin.server(),
        };
        let learn_every = self.trust.learn_every_ms;
        config.learn_every = (learn_every > 0).then(|| millis(learn_every));
        config.drain_timeout = millis(self.server.drain_timeout_ms);
        // Given by `make build`; a build from an archive has none.
        config.commit = option_env!("STEMEDB_COMMIT").unwrap_or("unknown").to_owned();
        config
    }

    /// Settings of the write-ahead log.
    pub fn wal(&self) -> WalConfig {
        let mut config = WalConfig::new(self.wal_dir());
        config.segment_bytes = self.wal.segment_bytes;
        config.on_failure = match self.wal.on_failure {
            OnFailure::Heal => stemedb_log::OnFailure::Heal,
            OnFailure::Stop => stemedb_log::OnFailure::Stop,
        };
        config.log_fsync_errors = self.wal.log_fsync_errors;
        config.void_tail = self.once.void_tail;
        config.verify_all = self.once.verify_all;
        config.open_besides = vec![self.index_dir(), self.node_dir()];
        config.retention = match self.wal.retention {
            Retention::Keep => stemedb_log::Retention::Keep,
            Retention::Archived => stemedb_log::Retention::Archived,
        };
        config.repack_bytes_per_second = self.wal.repack_bytes_per_second;
        config.scrub_bytes_per_second = self.wal.scrub_bytes_per_second;
        config
    }

    /// Settings of the index.
    pub fn index(&self) -> IndexConfig {
        let mut config = IndexConfig::new(self.index_dir());
        config.cache_bytes = self.index.cache_bytes;
        config.questions_bytes = self.query.memory_bytes;
        config.answers_bytes = self.query.answers_bytes;
        config
    }

    /// Whose archives and backups are believed besides those of this node; checked by `validate`.
    pub fn trusted_keys(&self) -> Vec<AgentId> {
        self.archive.trusted_keys.iter().filter_map(|key| key.parse().ok()).collect()
    }

    /// Settings of the engine.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            resolve_claims_max: self.query.claims_max,
            trust_statements_max: self.trust.statements_max,
            trust_dir: Some(self.node_dir().join("trust")),
            ..EngineConfig::default()
        }
    }

    /// Every bound that fails, a sentence each that begins with the key; changes nothing.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.server().validate().err().into_iter().flatten());
        problems.extend(self.wal().validate().err().into_iter().flatten());
        for (key, value, min, max) in [
            ("index.cache_bytes", self.index.cache_bytes, 1 << 20, 1 << 40),
            ("query.memory_bytes", self.query.memory_bytes, 1 << 20, 1 << 40),
            ("query.answers_bytes", self.query.answers_bytes, 0, 1 << 40),
            ("query.claims_max", self.query.claims_max as u64, 1, 10_000_000),
            ("archive.scrub_days", self.archive.scrub_days, 0, 3_650),
            ("trust.statements_max", self.trust.statements_max as u64, 1, 1_000_000_000),
        ] {
            if !(min..=max).contains(&value) {
                problems.push(format!("{key} is {value}, expected {min} to {max}"));
            }
        }
        if !self.auth.enabled
            && let Err(error) = stemedb_server::check_loopback(self.server.listen)
        {
            problems.push(error.to_string());
        }
        if duration(&self.archive.delay).is_none_or(|delay| delay > DELAY_MAX) {
            problems.push(format!(
                "archive.delay is `{}`, expected 0s to 24h, as 500ms, 10s or 5m",
                self.archive.delay
            ));
        }
        if self.archive.sync && self.archive.url.is_none() {
            problems.push("archive.sync is true, and archive.url is not set".into());
        }
        if self.wal.retention == Retention::Archived {
            for (key, url, what) in [
                ("archive.url", &self.archive.url, "segments go only once they are archived"),
                (
                    "backup.url",
                    &self.backup.url,
                    "segments go only once a verified backup holds them",
                ),
            ] {
                if url.is_none() {
                    problems.push(format!(
                        "wal.retention is \"archived\", and {key} is not set: {what}"
                    ));
                }
            }
        }
        problems.extend(self.cluster.problems(&self.archive));
        for (key, url) in [
            ("archive.url", &self.archive.url),
            ("backup.url", &self.backup.url),
            ("cluster.standby_of", &self.cluster.standby_of),
        ] {
            let is = |url: &&String| url.starts_with('/') || url.contains("://");
            if let Some(url) = url.as_ref().filter(|url| !is(url)) {
                problems.push(format!(
                    "{key} is `{url}`, expected /path, s3://bucket/prefix, gs://bucket/prefix or \
                     az://container/prefix"
                ));
            }
        }
        for key in &self.archive.trusted_keys {
            if let Err(error) = key.parse::<AgentId>() {
                problems.push(format!("archive.trusted_keys names `{key}`: {error}"));
            }
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            problems.push("tls.certificate and tls.key: one is set, expected both or none".into());
        }
        if self.tls.client_ca.is_some() && self.tls.certificate.is_none() {
            problems.push("tls.client_ca is set, and tls.certificate is not".into());
        }
        for (key, dir) in [
            ("server.data_dir", Some(&self.server.data_dir)),
            ("index.dir", self.index.dir.as_ref()),
        ] {
            if dir.is_some_and(|dir| dir.as_os_str().is_empty()) {
                problems.push(format!("{key} is empty, expected a folder"));
            }
        }
        for proxy in &self.server.trusted_proxies {
            if network(proxy).is_none() {
                problems.push(format!(
                    "server.trusted_proxies names `{proxy}`, expected an address or a network such as \
                     10.0.0.0/8"
                ));
            }
        }
        for name in &self.signing.roles {
            if Role::parse(name).is_none() {
                let known = Role::ALL.map(Role::as_str).join(", ");
                problems.push(format!("signing.roles names `{name}`, expected some of {known}"));
            }
        }
        if let Some(root) = &self.server.root_public_key
            && let Err(error) = root.parse::<AgentId>()
        {
            problems.push(format!("server.root_public_key: {error}"));
        }
        let Telemetry { otlp_endpoint, sample_ratio } = &self.telemetry;
        if !(0.0..=1.0).contains(sample_ratio) {
            problems.push(format!("telemetry.sample_ratio is {sample_ratio}, expected 0 to 1"));
        }
        if let Some(endpoint) = otlp_endpoint
            && let Err(problem) = telemetry::traces_url(endpoint)
        {
            problems.push(format!("telemetry.otlp_endpoint is `{endpoint}`: {problem}"));
        }
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            problems.push(format!("log.filter is `{}`: {error}", self.log.filter));
        }
        problems
    }
}
