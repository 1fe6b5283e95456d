//! Two nodes as they stand behind a load balancer: with API keys, on ports of their own that they keep.

use std::collections::HashSet;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use ureq::Agent;

use super::balancer::Target;
use crate::matrix::interrupt;
use crate::mount::run;
use crate::port::{self, LISTENING};

const START_MAX: Duration = Duration::from_secs(60);
/// Two and a half drain timeouts.
const STOP_MAX: Duration = Duration::from_secs(60);
/// Longer than any answer may take, so that a hang is seen as one.
const REQUEST_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where a node lies and listens, whether or not it runs.
pub(crate) struct Place {
    binary: PathBuf,
    data: PathBuf,
    /// On another file system where there is one, so that the log can be detached.
    wal: PathBuf,
    said: PathBuf,
    /// The file that configures it, if it is not configured by words alone.
    config: Option<PathBuf>,
    /// What is asked of it before it counts as started.
    ready: &'static str,
    pub(crate) port: u16,
}

pub(crate) struct Node {
    child: Child,
    pub(crate) client: Client,
}

impl Place {
    pub(crate) fn new(binary: &Path, folder: &Path, wal: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            binary: binary.to_owned(),
            data: folder.join("data"),
            wal,
            said: folder.join("server.log"),
            config: None,
            ready: "/readyz",
            port: port::free()?,
        })
    }

    /// The same with a configuration; `ready` is what it must be ready for.
    pub(crate) fn configured(self, config: &Path, ready: &'static str) -> Self {
        Self { config: Some(config.to_owned()), ready, ..self }
    }

    /// As a load balancer names it.
    pub(crate) fn target(&self) -> Target {
        Target::at(self.port)
    }

    /// The key by which it signs what it archives.
    pub(crate) fn public_key(&self) -> Result<String> {
        let mut command = Command::new(&self.binary);
        let key = run(command.args(["key", "show"]).arg(self.data.join("node/node.key")))?;
        Ok(key.trim().to_owned())
    }

    /// The API key of the first start.
    pub(crate) fn key(&self) -> Result<String> {
        let file = self.data.join("node/first-admin.key");
        let key = std::fs::read_to_string(&file);
        Ok(key.with_context(|| format!("cannot read {}", file.display()))?.trim().to_owned())
    }

    /// Gives a node that was never started the API keys of another: a caller does not know which of the
    /// two it is sent to.
    pub(crate) fn take_keys(&self, from: &Place) -> Result<()> {
        let folder = self.data.join("node");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let list = std::fs::read(from.data.join("node/api-keys.json"))?;
        let mut file = std::fs::OpenOptions::new();
        let path = folder.join("api-keys.json");
        let mut file = file.write(true).create_new(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, &list)?;
        Ok(())
    }

    /// Starts it and waits until it is ready. `key`: the one to ask it with, its own if not given.
    pub(crate) fn start(&self, key: Option<&str>) -> Result<Node> {
        let said = std::fs::File::options().create(true).append(true).open(&self.said)?;
        let before = said.metadata()?.len();
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"])
            .arg(&self.data)
            .env("STEMEDB_WAL__DIR", &self.wal)
            .env("STEMEDB_WAL__SEGMENT_BYTES", (4 << 20).to_string())
            .env("STEMEDB_SERVER__TRUSTED_PROXIES", "127.0.0.1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let url = format!("http://127.0.0.1:{}", self.port);
        let began = Instant::now();
        let probe = Client::new(&url, "");
        loop {
            interrupt::check()?;
            let words = std::fs::read(&self.said)?;
            let words = words.get(usize::try_from(before)?..).unwrap_or_default();
            let words = String::from_utf8_lossy(words);
            let ready = || probe.get(self.ready).is_ok_and(|answer| answer.status == 200);
            if words.contains(LISTENING) && ready() {
                break;
            }
            let ended = child.try_wait()?;
            if ended.is_some() || began.elapsed() > START_MAX {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the server does not become ready ({ended:?}): {}", words.trim());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let key = key.map_or_else(|| self.key(), |key| Ok(key.to_owned()))?;
        Ok(Node { child, client: Client::new(&url, &key) })
    }
}

impl Node {
    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(began.elapsed() < STOP_MAX, "SIGTERM did not end the server");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How many requests of this kind it has answered so.
    pub(crate) fn answered(&self, endpoint: &str, statuses: &[u16]) -> Result<u64> {
        let text = self.client.get("/metrics")?.text;
        let series = format!("stemedb_http_requests_total{{endpoint=\"{endpoint}\",");
        let mut sum = 0;
        for line in text.lines().filter(|line| line.starts_with(&series)) {
            let of_status = |status: &u16| line.contains(&format!("status=\"{status}\""));
            if statuses.iter().any(of_status) {
                let number = line.rsplit(' ').next().context("a series has a value")?;
                sum += number.parse::<u64>()?;
            }
        }
        Ok(sum)
    }

    /// Ids of all assertions.
    pub(crate) fn ids(&self) -> Result<HashSet<String>> {
        let answer = self.client.get("/v1/export")?;
        ensure!(answer.status == 200, "an export is answered {}: {}", answer.status, answer.text);
        let mut ids = HashSet::new();
        for line in answer.text.lines() {
            let line: Value = serde_json::from_str(line)?;
            if line.pointer("/record/kind").and_then(Value::as_str) == Some("assertion") {
                let id = line.pointer("/record/id").and_then(Value::as_str);
                ids.insert(id.context("a record without an id")?.to_owned());
            }
        }
        Ok(ids)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// A text of the body.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_str(&self.text).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    }
}

/// Connections to one server or load balancer, with an API key.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    key: String,
}

impl Client {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST_MAX))
            .http_status_as_error(false)
            // A connection that rests may be closed at any time, by a reload for one; a client that
            // minds sends again what may be sent again. Here each failure is to be the balancer's.
            .max_idle_connections(0)
            .build();
        Self { agent: config.into(), url: url.to_owned(), key: key.to_owned() }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if !self.key.is_empty() {
            request = request.header("authorization", self.bearer());
        }
        answer(request.call()?)
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Result<Answer> {
        let request = self.agent.put(format!("{}{path}", self.url));
        let request = request.header("authorization", self.bearer());
        answer(request.content_type("application/json").send(body)?)
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Result<Answer> {
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("authorization", self.bearer());
        answer(request.content_type("application/json").send(body)?)
    }

    /// One that must be answered 200.
    pub(crate) fn order(&self, path: &str) -> Result<()> {
        let answer = self.post(path, "")?;
        ensure!(answer.status == 200, "{path} is answered {}: {}", answer.status, answer.text);
        Ok(())
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
    Ok(Answer { status, text })
}
