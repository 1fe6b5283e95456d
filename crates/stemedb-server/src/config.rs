//! Settings of the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use stemedb_model::{Role, SourceClass};

use crate::audit::AuditConfig;

/// Settings of the HTTP server. Times and sizes that nobody would set well are constants beside
/// their use, each with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where node-local state lives: custodial keys in `node/custodial`.
    pub data_dir: PathBuf,
    /// TLS; `None`: connections are in the clear.
    pub tls: Option<TlsConfig>,
    /// Who may ask.
    pub auth: AuthConfig,
    /// Proxies whose word about addresses counts. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Sites whose pages may ask, as browsers write them: `https://app.example`. Default none.
    pub cors_origins: Vec<String>,
    /// Signing for callers without keys.
    pub signing: SigningConfig,
    /// Which reads are taken down.
    pub audit: AuditConfig,
    /// Bounds on requests.
    pub limits: Limits,
    /// How often a caller may ask.
    pub rates: RateLimits,
    /// How often to look whether trust is to be learned again; `None`: never. Default one hour, at
    /// least a second.
    pub learn_every: Option<Duration>,
    /// How long a drain may take before what is left is reported. Default 25 s, at most 600 s.
    pub drain_timeout: Duration,
    /// Commit that the binary was built from, for `/v1/health` and `stemedb_build_info`.
    pub commit: String,
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether requests need an API key. Default true; without it only loopback addresses are
    /// served.
    pub enabled: bool,
    /// Whether `/metrics` needs one, too. Default false.
    pub metrics_need_key: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { enabled: true, metrics_need_key: false }
    }
}

/// Signing for callers without keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningConfig {
    /// Whether the server signs at all. Default true.
    pub custodial: bool,
    /// The best class that claims signed by the server can have. Default expert.
    pub ceiling: SourceClass,
    /// Roles of the custodial agent. Default curator, reviewer and trust: enough to decide among claims
    /// and to put in force what was learned of agents, not to change registries.
    pub roles: Vec<Role>,
}

/// Bounds on requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A body, unpacked. Default 2 MiB, at least 64 KiB and at most 64 MiB: a record of 256 KiB as
    /// hex, or 1,000 keys, must fit.
    pub body_bytes: usize,
    /// One line of an import, unpacked. Default 2 MiB, at least 64 KiB and at most 64 MiB.
    pub line_bytes: usize,
    /// The body of an import, unpacked. Default 64 GiB, at least 1 MiB.
    pub import_bytes: u64,
    /// Path and query. Default 8 KiB, at least 1 KiB and at most 32 KiB.
    pub uri_bytes: usize,
    /// The request line and all headers. Default 32 KiB, at least 8 KiB and at most 1 MiB.
    pub head_bytes: usize,
    /// Requests at once; more are answered 503. Default 1,024, at least 1.
    pub requests: usize,
    /// Connections at once; more wait to be accepted. Default 4,096, at least 1.
    pub connections: usize,
    /// Connections of one address at once, of a trusted proxy without bound; more are closed. Default
    /// 1,024, at least 1.
    pub connections_per_address: usize,
    /// Reads that may touch storage at once; more wait. Default 0: by [`Limits::reads_at_once`].
    pub reads: usize,
    /// Imports and exports at once; more are answered 503. Default 16, at least 1.
    pub streams: usize,
    /// Feeds that are followed at once; more are answered 503. Default 256, at least 1.
    pub feeds: usize,
    /// From the end of one request, or the opening of the connection, to the end of the head of the
    /// next. Default 30 s, at least 1 ms.
    pub head_timeout: Duration,
    /// From the head to the end of the body; of an import, between any two pieces. Default 30 s,
    /// at least 1 ms.
    pub body_timeout: Duration,
    /// From the end of the body to the answer. Default 30 s, at least 1 ms.
    pub request_timeout: Duration,
    /// How long a caller may take nothing of its answer. Default 30 s, at least 1 ms.
    pub write_timeout: Duration,
    /// How long a read waits for the position that `at_least` names. Default 5 s.
    pub at_least_timeout: Duration,
}

/// TLS, 1.2 and 1.3, with HTTP/2 and HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate of the server and those between it and the root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Certificates in PEM; callers must then show one that one of these has signed.
    pub client_ca: Option<PathBuf>,
}

/// How often a caller may make requests of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, in the long run. At most 1,000,000; 0: no bound.
    pub per_second: u32,
    /// Requests at once, after a rest. 1 to 10,000,000.
    pub burst: u32,
}

/// How often a caller, an API key or where there is none an address, may make requests of each class.
///
/// The defaults stop a loop that has gone wild, and no caller that works: they are above what one
/// node answers to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// One record: `/v1/assert` and its like. Default 50,000 and 100,000.
    pub write: Rate,
    /// Many records: `/v1/import`. Default 50 and 200.
    pub import: Rate,
    /// Questions about one key, pages, single records. Default 50,000 and 100,000.
    pub read: Rate,
    /// Exports, receipts, what-if, many keys at once, learning. Default 500 and 2,000.
    pub heavy: Rate,
    /// The node: `/v1/admin/…`, `/v1/audit/…`. Default 50 and 200.
    pub admin: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            write: rate(50_000, 100_000),
            import: rate(50, 200),
            read: rate(50_000, 100_000),
            heavy: rate(500, 2_000),
            admin: rate(50, 200),
        }
    }
}

impl ServerConfig {
    /// The defaults, for this data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            auth: AuthConfig::default(),
            tls: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            signing: SigningConfig::default(),
            audit: AuditConfig::default(),
            limits: Limits::default(),
            rates: RateLimits::default(),
            learn_every: Some(Duration::from_secs(3_600)),
            drain_timeout: Duration::from_secs(25),
            commit: "unknown".into(),
        }
    }

    /// Reports every bound that fails, each naming its key, and changes nothing.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let limits = &self.limits;
        let mebibyte = 1u64 << 20;
        let sizes = [
            ("limits.body_bytes", limits.body_bytes as u64, 64 << 10, 64 * mebibyte),
            ("limits.line_bytes", limits.line_bytes as u64, 64 << 10, 64 * mebibyte),
            ("limits.import_bytes", limits.import_bytes, mebibyte, u64::MAX),
            ("limits.uri_bytes", limits.uri_bytes as u64, 1 << 10, 32 << 10),
            ("limits.head_bytes", limits.head_bytes as u64, 8 << 10, mebibyte),
            ("limits.requests", limits.requests as u64, 1, 1 << 20),
            ("limits.connections", limits.connections as u64, 1, 1 << 20),
            ("limits.connections_per_address", limits.connections_per_address as u64, 1, 1 << 20),
            ("limits.reads", limits.reads as u64, 0, 512),
            ("limits.streams", limits.streams as u64, 1, 1 << 20),
            ("limits.feeds", limits.feeds as u64, 1, 1 << 20),
        ];
        let rates = [
            ("write", self.rates.write),
            ("import", self.rates.import),
            ("read", self.rates.read),
            ("heavy", self.rates.heavy),
            ("admin", self.rates.admin),
        ];
        for (class, Rate { per_second, burst }) in rates {
            for (key, value, least, most) in
                [("per_second", per_second, 0, 1_000_000), ("burst", burst, 1, 10_000_000)]
            {
                if !(least..=most).contains(&value) {
                    let key = format!("rate_limit.{class}.{key}");
                    problems.push(format!("{key} is {value}, expected {least} to {most}"));
                }
            }
        }
        for (key, value, least, most) in sizes {
            if !(least..=most).contains(&value) {
                problems.push(format!("{key} is {value}, expected {least} to {most}"));
            }
        }
        if limits.head_bytes < limits.uri_bytes {
            problems.push(format!(
                "limits.head_bytes is {}, expected at least limits.uri_bytes ({})",
                limits.head_bytes, limits.uri_bytes
            ));
        }
        let hour = 3_600_000;
        let learn_every = self.learn_every.unwrap_or(Duration::from_secs(1));
        let times = [
            ("trust.learn_every_ms", learn_every, 1_000, 30 * 24 * hour),
            ("limits.head_timeout_ms", limits.head_timeout, 1, hour),
            ("limits.body_timeout_ms", limits.body_timeout, 1, hour),
            ("limits.request_timeout_ms", limits.request_timeout, 1, hour),
            ("limits.write_timeout_ms", limits.write_timeout, 1, hour),
            ("limits.at_least_timeout_ms", limits.at_least_timeout, 0, hour),
            ("server.drain_timeout_ms", self.drain_timeout, 0, 600_000),
        ];
        for (key, value, least, most) in times {
            if !(least..=most).contains(&value.as_millis()) {
                let ms = value.as_millis();
                problems.push(format!("{key} is {ms}, expected {least} to {most}"));
            }
        }
        problems.extend(self.audit.problems());
        for origin in &self.cors_origins {
            let host = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
            let plain = |host: &str| {
                !host.is_empty()
                    && host.bytes().all(|byte| {
                        byte.is_ascii_lowercase()
                            || byte.is_ascii_digit()
                            || b"-.:[]".contains(&byte)
                    })
            };
            if !host.is_some_and(plain) {
                problems.push(format!(
                    "server.cors_origins names {origin:?}, expected an origin such as https://app.example"
                ));
            }
        }
        if self.signing.roles.iter().enumerate().any(|(index, role)| {
            self.signing.roles.iter().take(index).any(|earlier| earlier == role)
        }) {
            problems.push("signing.roles names a role twice".into());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Default for SigningConfig {
    fn default() -> Self {
        Self {
            custodial: true,
            ceiling: SourceClass::Expert,
            roles: vec![Role::Curator, Role::Reviewer, Role::Trust],
        }
    }
}

impl Limits {
    /// [`Limits::reads`], or where that is 0 eight for each processor and at most 64: enough to keep a
    /// disk busy while some wait for it, and not so many that those who read sockets and write the log
    /// stand in line behind them.
    pub fn reads_at_once(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.reads > 0 { self.reads } else { (8 * processors()).min(64) }
    }

    /// Threads that a runtime needs for what blocks: each read and each stream may have one, and there
    /// are some for all else. A runtime that may make more does: a read that ends wakes the next one
    /// before its own thread is free.
    pub fn blocking_threads(&self) -> usize {
        self.reads_at_once() + self.streams + 16
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2 << 20,
            line_bytes: 2 << 20,
            import_bytes: 64 << 30,
            uri_bytes: 8 << 10,
            head_bytes: 32 << 10,
            requests: 1_024,
            connections: 4_096,
            connections_per_address: 1_024,
            reads: 0,
            streams: 16,
            feeds: 256,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            at_least_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a server does not listen where it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("server.listen is {0}: without authentication only a loopback address is served")]
pub struct NotLoopback(pub SocketAddr);

/// Without authentication everybody who reaches the server may do everything, so only this
/// machine may reach it.
pub fn check_loopback(listen: SocketAddr) -> Result<(), NotLoopback> {
    // An IPv4 address in IPv6 clothes is judged as what it is.
    if listen.ip().to_canonical().is_loopback() { Ok(()) } else { Err(NotLoopback(listen)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_by_the_processors_unless_they_are_set() {
        let mut limits = Limits::default();
        let processors = std::thread::available_parallelism().unwrap().get();
        assert_eq!(limits.reads_at_once(), 64.min(8 * processors));
        assert_eq!(limits.blocking_threads(), 64.min(8 * processors) + limits.streams + 16);
        limits.reads = 3;
        assert_eq!(limits.reads_at_once(), 3);
    }

    #[test]
    fn bounds() {
        let with = |change: fn(&mut ServerConfig)| {
            let mut config = ServerConfig::new("data");
            change(&mut config);
            config.validate().err().map_or(0, |problems| problems.len())
        };
        assert_eq!(with(|_| ()), 0);
        assert_eq!(with(|c| c.limits.body_bytes = 64 << 10), 0);
        assert_eq!(with(|c| c.limits.body_bytes = (64 << 10) - 1), 1);
        assert_eq!(with(|c| c.limits.uri_bytes = 32 << 10), 0);
        assert_eq!(with(|c| c.limits.uri_bytes = (32 << 10) + 1), 2);
        assert_eq!(with(|c| c.limits.requests = 0), 1);
        assert_eq!(with(|c| c.limits.reads = 512), 0);
        assert_eq!(with(|c| c.limits.reads = 513), 1);
        assert_eq!(with(|c| c.limits.body_timeout = Duration::ZERO), 1);
        assert_eq!(with(|c| c.limits.write_timeout = Duration::ZERO), 1);
        assert_eq!(with(|c| c.limits.connections_per_address = 0), 1);
        assert_eq!(with(|c| c.rates.heavy = Rate { per_second: 0, burst: 1 }), 0);
        assert_eq!(with(|c| c.rates.heavy = Rate { per_second: 1_000_001, burst: 0 }), 2);
        assert_eq!(with(|c| c.drain_timeout = Duration::from_secs(600)), 0);
        assert_eq!(with(|c| c.drain_timeout = Duration::from_millis(600_001)), 1);
        assert_eq!(with(|c| c.audit.rotate_bytes = 1 << 30), 1);
        assert_eq!(with(|c| c.audit.rotate_bytes = (64 << 10) - 1), 1);
        assert_eq!(with(|c| c.audit.keep_bytes = 32 << 20), 0);
        assert_eq!(with(|c| c.audit.keep_bytes = (32 << 20) - 1), 1);
        assert_eq!(with(|c| c.audit.keep_bytes = 0), 0);
        assert_eq!(with(|c| c.audit.sync_every = Duration::from_secs(61)), 1);
        assert_eq!(with(|c| c.audit.endpoints = vec!["/v1/assert".into()]), 1);
        let required = |c: &mut ServerConfig| (c.audit.enabled, c.audit.required) = (false, true);
        assert_eq!(with(required), 1);
        assert_eq!(with(|c| c.cors_origins = vec!["https://app.example:8443".into()]), 0);
        for origin in ["*", "app.example", "https://app.example/", "https://", "https://*.example"]
        {
            let mut config = ServerConfig::new("data");
            config.cors_origins = vec![origin.into()];
            assert!(config.validate().is_err(), "{origin}");
        }
        assert_eq!(with(|c| c.signing.roles = vec![Role::Trust, Role::Trust]), 1);
    }

    #[test]
    fn only_loopback() {
        for (listen, fine) in [
            ("127.0.0.1:18180", true),
            ("127.8.9.1:0", true),
            ("[::1]:18180", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:18180", false),
            ("[::]:18180", false),
            ("192.168.1.5:18180", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            assert_eq!(check_loopback(listen.parse().unwrap()).is_ok(), fine, "{listen}");
        }
    }
}
