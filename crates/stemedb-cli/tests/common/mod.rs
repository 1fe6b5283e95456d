//! A started binary, a client, and people who sign: what the tests from outside act on.
#![allow(dead_code, unreachable_pub, reason = "shared by test files; each uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

pub mod bodies;
pub mod records;

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stemedb_io::{Clock, RealClock};
use stemedb_model::{
    AgentId, Body, Kind, LogId, Millis, Record, RecordId, Signed, SigningKey, Space,
};
use stemedb_server::wire::AnyRecord;
use tempfile::TempDir;

/// Longest that a start or an end may take; a laden machine is slow.
const START_MAX: Duration = Duration::from_secs(60);
/// When answer roots are taken: after everything that the tests write.
pub const EVALUATED_AT: &str = "2100-01-01T00:00:00Z";
/// The claimed time of the first record that a test signs: 2024-01-01.
const FIRST_AT: i64 = 1_704_067_200_000;

/// Claimed times never repeat, so that two records that say the same are two.
static NEXT_AT: AtomicI64 = AtomicI64::new(FIRST_AT);
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A server of its own folder; killed when dropped, its words printed if the test failed.
pub struct Server {
    child: Child,
    url: String,
    http: ureq::Agent,
    pub dir: TempDir,
    pub log_id: LogId,
    pub root: SigningKey,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// Status and code of a problem, status and `status` of an acknowledgement.
    pub fn outcome(&self) -> (u16, String) {
        let json = serde_json::from_str(&self.text).unwrap_or(Value::Null);
        let word = json.get("code").or_else(|| json.get("status")).and_then(Value::as_str);
        (self.status, word.unwrap_or("").to_owned())
    }
}

impl Server {
    /// A new database.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(mut dir: TempDir) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(START_MAX));
        let http = config.build().new_agent();
        // Another process may take a port between the look and the start: then the next one.
        for _ in 0..20 {
            let port = free_port();
            let mut serve = command(dir.path());
            serve.args(["serve", "--no-auth", "--data-dir"]).arg(data_dir(dir.path()));
            let file = dir.path().join("api.toml");
            if file.exists() {
                serve.arg("--config").arg(file);
            }
            let child = serve
                .args(["--listen", &format!("127.0.0.1:{port}")])
                .env("STEMEDB_WAL__SEGMENT_BYTES", (1 << 20).to_string())
                .stdin(Stdio::null())
                .stdout(log_file(dir.path()))
                .stderr(log_file(dir.path()))
                .spawn()
                .unwrap();
            let mut server = Self {
                child,
                url: format!("http://127.0.0.1:{port}"),
                http: http.clone(),
                dir,
                log_id: LogId([0; 16]),
                root: SigningKey::from_seed(&[0; 32]),
            };
            if server.wait_ready() {
                return server;
            }
            dir = server.take_dir();
        }
        panic!("no port was free")
    }

    /// Whether the server that answers is ours; false if the port was taken.
    fn wait_ready(&mut self) -> bool {
        let clock = RealClock::new();
        while clock.monotonic() < START_MAX {
            let ended = self.child.try_wait().unwrap();
            if let Some(status) = ended {
                let words = self.words();
                assert!(words.contains("in use"), "the server ended, {status}: {words}");
                return false;
            }
            let ready = self.try_get("/readyz").is_some_and(|answer| answer.status == 200);
            if ready && let Some(health) = self.try_get("/v1/health") {
                let health = health.expect(200);
                // The first start registers the custodial agent once it is up.
                if health["node"]["position"].as_u64() < Some(2) {
                    continue;
                }
                self.root = key_file(&data_dir(self.dir.path()).join("node/root.key"));
                self.log_id = health["node"]["log_id"].as_str().unwrap().parse().unwrap();
                return health["root_public_key"] == self.root.agent_id().to_string();
            }
            clock.sleep(Duration::from_millis(5));
        }
        panic!("not ready in {START_MAX:?}: {}", self.words());
    }

    fn take_dir(mut self) -> TempDir {
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Ends it as an operator does and gives its folder.
    pub fn stop(mut self) -> TempDir {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("sh")
                .args(["-c", &format!("kill -TERM {pid}")])
                .status()
                .unwrap()
                .success()
        );
        let clock = RealClock::new();
        while self.child.try_wait().unwrap().is_none() {
            assert!(clock.monotonic() < START_MAX, "SIGTERM did not end it: {}", self.words());
            clock.sleep(Duration::from_millis(5));
        }
        self.take_dir()
    }

    /// Ends it as power does and gives its folder.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.take_dir()
    }

    /// Starts a server on the folder of one that was stopped, or a prepared one; with the `api.toml`
    /// that is there.
    pub fn again(dir: TempDir) -> Self {
        Self::start_in(dir)
    }

    /// What the server said.
    fn words(&self) -> String {
        fs::read_to_string(self.dir.path().join("words")).unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn try_get(&self, path: &str) -> Option<Answer> {
        answer(self.http.get(format!("{}{path}", self.url)).call()).ok()
    }

    #[track_caller]
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        let mut request = self.http.get(format!("{}{path}", self.url));
        for (name, value) in query {
            request = request.query(name, value);
        }
        answer(request.call()).unwrap()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body)
    }

    #[track_caller]
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.content_type("application/json").send(body.to_string())).unwrap()
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        let request = self.http.put(format!("{}{path}", self.url));
        answer(request.content_type("application/json").send(body.to_string())).unwrap()
    }

    /// Signs a record for this database.
    pub fn sign(&self, key: &SigningKey, space: &Space, body: Body) -> Signed {
        let at = Millis(NEXT_AT.fetch_add(1, Ordering::Relaxed));
        let bound = !matches!(body.kind(), Kind::Assertion | Kind::Cosign);
        let (agent, log_id) = (key.agent_id(), bound.then_some(self.log_id));
        Signed::seal(Record { space: space.clone(), agent, at, log_id, body }, key).unwrap()
    }

    /// `PUT /v1/records/{id}` in canonical form.
    #[track_caller]
    pub fn put_record(&self, signed: &Signed) -> Answer {
        self.put(&format!("/v1/records/{}", signed.id()), &canonical(signed))
    }

    /// `POST` of the fields to the path of the kind; `None` of genesis, which has no path.
    #[track_caller]
    pub fn post_record(&self, signed: &Signed) -> Option<Answer> {
        Some(self.post(path(signed.record().kind())?, &fields(signed)))
    }

    /// Has all of it recorded, in this order.
    #[track_caller]
    pub fn import(&self, records: &[Signed]) {
        let lines: String =
            records.iter().map(|signed| canonical(signed).to_string() + "\n").collect();
        let request = self.http.post(format!("{}/v1/import", self.url));
        let answer = answer(request.content_type("application/x-ndjson").send(lines)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        let results: Vec<Value> =
            answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(results.len(), records.len() + 1, "{}", answer.text);
        for (signed, result) in records.iter().zip(&results) {
            assert_eq!(result["status"], "created", "{:?}: {result}", signed.record());
            assert_eq!(result["id"], signed.id().to_string());
        }
    }

    /// The newest position that reads see.
    #[track_caller]
    pub fn position(&self) -> u64 {
        self.get("/v1/admin/node", &[]).expect(200)["position"].as_u64().unwrap()
    }

    /// The answer root of now, evaluated at [`EVALUATED_AT`].
    #[track_caller]
    pub fn answer_root(&self) -> String {
        let root = self.get("/v1/admin/root", &[("evaluated_at", EVALUATED_AT)]).expect(200);
        root["answer_root"].as_str().unwrap().to_owned()
    }

    /// Another command of the binary, for this server.
    pub fn run(&self, args: &[&str]) -> Output {
        command(self.dir.path()).env("STEMEDB_URL", &self.url).args(args).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server had ended: {ended:?}; its words\n{}", self.words());
        }
    }
}

/// Another command of the binary, on a folder whose server is stopped.
pub fn run_in(dir: &TempDir, args: &[&str]) -> Output {
    command(dir.path()).args(args).output().unwrap()
}

/// The data folder of a server.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stemedb"));
    // Nothing of the machine's own configuration.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEMEDB_")) {
        command.env_remove(name);
    }
    command.env("HOME", home).current_dir(home);
    command
}

fn log_file(dir: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(dir.join("words")).unwrap()
}

fn key_file(path: &Path) -> SigningKey {
    let mut seed = [0; 32];
    hex::decode_to_slice(fs::read_to_string(path).unwrap().trim(), &mut seed).unwrap();
    SigningKey::from_seed(&seed)
}

/// Below the ports that the system gives to clients, so that no connection takes it meanwhile.
fn free_port() -> u16 {
    let process = u16::try_from(std::process::id() % 20_000).unwrap();
    loop {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
        let port = 11_000 + process.wrapping_add(step) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Answer, ureq::Error> {
    let mut response = response?;
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
    Ok(Answer { status: response.status().as_u16(), text })
}

/// The key that a test calls by this name.
pub fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(blake3::hash(name.as_bytes()).as_bytes())
}

pub fn agent(name: &str) -> AgentId {
    key(name).agent_id()
}

/// A record as canonical bytes in JSON.
pub fn canonical(signed: &Signed) -> Value {
    json!({"bytes": hex::encode(signed.bytes()), "signature": signed.signature().to_string()})
}

/// A record as fields in JSON.
pub fn fields(signed: &Signed) -> Value {
    let record = AnyRecord::of(signed.record(), signed.id(), signed.signature());
    serde_json::to_value(record).unwrap()
}

/// Where records of a kind are posted.
pub fn path(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Genesis => return None,
        Kind::Assertion => "/v1/assert",
        Kind::Cosign => "/v1/cosign",
        Kind::Vote => "/v1/vote",
        Kind::Epoch => "/v1/epoch",
        Kind::Source => "/v1/source",
        Kind::Retract => "/v1/retract",
        Kind::Supersede => "/v1/supersede",
        Kind::Predicate => "/v1/predicate",
        Kind::Alias => "/v1/alias",
        Kind::Agent => "/v1/agent",
        Kind::Lens => "/v1/lens",
        Kind::Gold => "/v1/gold",
        Kind::TrustSnapshot => "/v1/trust_snapshot",
        Kind::Lifecycle => "/v1/lifecycle",
    })
}

/// The id in JSON.
pub fn id_of(value: &Value) -> RecordId {
    value.as_str().unwrap().parse().unwrap()
}

/// The last line that a command has printed; it must have ended like that.
#[track_caller]
pub fn json(output: &Output, status: i32) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words}");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}{words}"))
}

/// Waits for something, a minute at most.
#[track_caller]
pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let clock = RealClock::new();
    while !there() {
        assert!(clock.monotonic() < Duration::from_secs(60), "never: {what}");
        clock.sleep(Duration::from_millis(100));
    }
}
