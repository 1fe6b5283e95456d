//! The server of a cell: started, watched, stopped; what it says goes to a file, so that it never
//! waits for us to read it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, RequestBuilder};

use super::interrupt;
use crate::port::{self, LISTENING};
use crate::server::Claim;

/// Longest that a request may take on our side; the promise is 10 s.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(25);
/// Longest that a look at whether it is ready may take.
const LOOK_MAX: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Claims about such subjects are not in the ledger.
pub(crate) const UNCOUNTED: &str = "drill/";

/// Where everything of a node lies.
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) wal: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) segment_bytes: u64,
    /// Program and arguments to run it under.
    pub(crate) under: Vec<String>,
    /// Whether callers have to show API keys.
    pub(crate) keys: bool,
    pub(crate) environment: Vec<(String, String)>,
    /// What it says is appended here.
    pub(crate) said: PathBuf,
}

pub(crate) struct Node {
    child: Child,
    url: String,
    said: PathBuf,
    said_from: u64,
}

/// How a start ended.
pub(crate) enum Started {
    /// It answers reads.
    Ready,
    /// It ended, with these words.
    Refused { status: ExitStatus, words: String },
    /// Neither so far.
    Waiting,
}

impl Place {
    pub(crate) fn spawn(&self) -> Result<Node> {
        let port = port::free()?;
        let mut command = match self.under.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        let said = File::options().create(true).append(true).open(&self.said)?;
        let said_from = said.metadata()?.len();
        command
            .arg("serve")
            .args((!self.keys).then_some("--no-auth"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(&self.data)
            .env("STEMEDB_WAL__DIR", &self.wal)
            .env("STEMEDB_INDEX__DIR", &self.index)
            .env("STEMEDB_WAL__SEGMENT_BYTES", self.segment_bytes.to_string())
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", self.binary))?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Node { child, url, said: self.said.clone(), said_from })
    }

    /// Runs another command of the binary on this node's configuration.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("STEMEDB_WAL__DIR", &self.wal)
            .env("STEMEDB_INDEX__DIR", &self.index)
            .env("STEMEDB_SERVER__DATA_DIR", &self.data);
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&words).trim().to_owned()))
    }
}

impl Node {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.url.clone(), REQUEST_MAX)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the end of the start, at most this long.
    pub(crate) fn started(&mut self, within: Duration) -> Result<Started> {
        // A server that still recovers may take a connection and not answer.
        let client = Client::new(self.url.clone(), LOOK_MAX);
        let began = Instant::now();
        loop {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                return Ok(Started::Refused { status, words: self.words() });
            }
            let ready = || client.get("/readyz?for=read").is_ok_and(|answer| answer.status == 200);
            if self.words().contains(LISTENING) && ready() {
                return Ok(Started::Ready);
            }
            if began.elapsed() > within {
                return Ok(Started::Waiting);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What it said since it was started.
    pub(crate) fn words(&self) -> String {
        let all = std::fs::read(&self.said).unwrap_or_default();
        let own = all.get(usize::try_from(self.said_from).unwrap_or(0)..).unwrap_or_default();
        String::from_utf8_lossy(own).trim().to_owned()
    }

    /// `Some` once it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGTERM; false if it had to be killed because it did not end in time.
    pub(crate) fn stop(&mut self, within: Duration) -> Result<bool> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process id is not 0")?;
        // Already gone is fine.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > within {
                self.kill()?;
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(true)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }

    /// SIGKILL; it may hang in the kernel a while longer.
    pub(crate) fn shoot(&mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    /// The API key that it shows.
    key: Option<String>,
}

/// Which certificates a client takes.
#[derive(Clone, Copy)]
enum Trust<'a> {
    /// Those that one of this file has signed, within their dates.
    SignedBy(&'a Path),
    /// All.
    Anybody,
}

impl Trust<'_> {
    fn config(self) -> Result<TlsConfig> {
        let roots = match self {
            Self::SignedBy(file) => RootCerts::new_with_certs(&certificates(file)?),
            Self::Anybody => RootCerts::new_with_certs(&[]),
        };
        Ok(TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(roots)
            .disable_verification(matches!(self, Self::Anybody))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build())
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item? {
            found.push(certificate);
        }
    }
    ensure!(!found.is_empty(), "{} holds no certificate in PEM", file.display());
    Ok(found)
}

/// What the node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) state: String,
    pub(crate) code: Option<String>,
    pub(crate) detail: String,
    pub(crate) degraded: Option<String>,
}

/// An assertion as an export shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) id: String,
    pub(crate) position: u64,
    /// Whether every field is what was sent.
    pub(crate) intact: bool,
}

/// All assertions of a node by the number of the claim.
pub(crate) type Holdings = std::collections::HashMap<u64, There>;

impl Client {
    pub(crate) fn new(url: String, longest: Duration) -> Self {
        Self::over(url, longest, TlsConfig::default())
    }

    /// The same for `https://`; takes certificates that one of the file `roots` has signed.
    pub(crate) fn trusting(url: String, longest: Duration, roots: &Path) -> Result<Self> {
        Ok(Self::over(url, longest, Trust::SignedBy(roots).config()?))
    }

    /// The same; takes every certificate, and so learns only whether somebody answers.
    pub(crate) fn blind(url: String, longest: Duration) -> Result<Self> {
        Ok(Self::over(url, longest, Trust::Anybody.config()?))
    }

    fn over(url: String, longest: Duration, tls: TlsConfig) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(longest))
            .http_status_as_error(false)
            .tls_config(tls)
            .build();
        Self { agent: config.into(), url, key: None }
    }

    /// The same, with an API key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same, without one.
    pub(crate) fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    fn shown<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        let mut response = self.shown(self.agent.get(format!("{}{path}", self.url))).call()?;
        let text = response.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status: response.status().as_u16(), body })
    }

    /// An answer that is not JSON.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        let request = self.shown(self.agent.get(format!("{}{path}", self.url)));
        Ok(request.call()?.into_body().read_to_string()?)
    }

    /// The value of one series without labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = self.text("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok())
            .with_context(|| format!("no series {name} at /metrics"))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let mut response = self
            .shown(self.agent.post(format!("{}{path}", self.url)))
            .content_type("application/json")
            .send(body.to_string())?;
        let text = response.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status: response.status().as_u16(), body })
    }

    pub(crate) fn state(&self) -> Result<State> {
        let answer = self.get("/v1/admin/node")?;
        let reason = |key| {
            let found = answer.body.pointer(&format!("/reason/{key}"));
            found.and_then(Value::as_str).map(str::to_owned)
        };
        Ok(State {
            state: answer.text("state").to_owned(),
            code: reason("code"),
            detail: reason("detail").unwrap_or_default(),
            degraded: answer.body.get("degraded").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Everything it holds; fails if a claim, an id or a position occurs twice.
    pub(crate) fn holdings(&self) -> Result<Holdings> {
        let mut response = self.shown(self.agent.get(format!("{}/v1/export", self.url))).call()?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        if status != 200 {
            bail!("an export is answered {status}: {text}");
        }
        let mut holdings = Holdings::new();
        let mut positions = std::collections::HashMap::new();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line)
                .with_context(|| format!("a line of an export that is not JSON: {line}"))?;
            let field = |pointer| record.pointer(pointer).and_then(Value::as_str);
            if field("/record/kind") != Some("assertion") {
                continue;
            }
            if field("/record/subject").is_some_and(|subject| subject.starts_with(UNCOUNTED)) {
                continue;
            }
            let number =
                field("/record/subject").and_then(|subject| subject.strip_prefix("harness/"));
            let number = number.and_then(|number| number.parse().ok());
            let position = record.get("position").and_then(Value::as_u64);
            let (Some(number), Some(position), Some(id)) = (number, position, field("/record/id"))
            else {
                bail!("a record that nobody sent: {line}");
            };
            let expected = Claim(number).body();
            let intact = field("/record/predicate") == Some("holds")
                && record.pointer("/record/object").is_some_and(|object| {
                    let object = object.pointer("/value").unwrap_or(object);
                    Some(object) == expected.get("object")
                });
            let there = There { id: id.to_owned(), position, intact };
            if let Some(first) = holdings.insert(number, there) {
                bail!("claim {number} is there twice, at {} and at {position}", first.position);
            }
            if let Some(first) = positions.insert(position, number) {
                bail!("position {position} is there twice, as claims {first} and {number}");
            }
        }
        Ok(holdings)
    }
}
