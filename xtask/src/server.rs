//! The binary under test, and the client that holds it to its word.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::Agent;

use crate::port::{self, LISTENING};

/// Longest that a start may take before it counts as failed.
const START_MAX: Duration = Duration::from_secs(60);

/// How to start a server.
pub(crate) struct Start<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) data_dir: &'a Path,
    pub(crate) segment_bytes: u64,
    /// A wrong behaviour that a build with the feature `mutants` switches on.
    pub(crate) mutant: Option<&'a str>,
    /// Program and arguments to run it under.
    pub(crate) under: &'a [String],
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    /// What it wrote to its standard error.
    words: File,
}

impl Start<'_> {
    /// Starts it and waits until it is ready.
    pub(crate) fn ready(&self) -> Result<Server> {
        let mut server = self.spawn()?;
        let client = server.client();
        server.wait(|| client.get("/readyz").is_ok())?;
        Ok(server)
    }

    /// Starts it; it may not answer yet.
    pub(crate) fn spawn(&self) -> Result<Server> {
        let port = port::free()?;
        let mut command = match self.under {
            [] => Command::new(self.binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(self.binary);
                command
            }
        };
        // A file, not a pipe: nobody reads it while the server runs, and a full pipe stops it.
        let words = tempfile::tempfile()?;
        command
            .args(["serve", "--no-auth", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(self.data_dir)
            .env("STEMEDB_WAL__SEGMENT_BYTES", self.segment_bytes.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words.try_clone()?);
        if let Some(mutant) = self.mutant {
            command.env("STEMEDB_MUTANT", mutant);
        }
        let child = command.spawn().with_context(|| format!("cannot start {:?}", self.binary))?;
        Ok(Server { child, url: format!("http://127.0.0.1:{port}"), words })
    }
}

impl Server {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `done`; fails if it ends before that, or takes too long.
    pub(crate) fn wait(&mut self, done: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            if self.words()?.contains(LISTENING) && done() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_MAX {
                bail!("the server did not become ready ({ended:?}): {}", self.words()?);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it has said so far.
    pub(crate) fn words(&self) -> Result<String> {
        // It shares the place in the file with us: we must not move it.
        let mut words = vec![0; usize::try_from(self.words.metadata()?.len())?];
        self.words.read_exact_at(&mut words, 0)?;
        Ok(String::from_utf8_lossy(&words).trim().to_owned())
    }

    /// SIGTERM to the process itself; kills it if it is not gone by then. Whether it was.
    pub(crate) fn end(mut self, patience: Duration) -> Result<bool> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id())?);
        let pid = pid.context("a process id is not 0")?;
        if self.child.try_wait()?.is_none() {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let started = Instant::now();
        while started.elapsed() < patience {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }

    /// The most memory it has had so far, in bytes.
    pub(crate) fn memory_peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kibibytes = kibibytes.context("the kernel tells no peak")?.trim();
        Ok(kibibytes.parse::<u64>()? << 10)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.url.clone())
    }

    /// SIGTERM, and waits until it is gone. Under a tracer the signal goes to the traced server,
    /// whose end ends the tracer.
    pub(crate) fn terminate(mut self) -> Result<()> {
        let tracer_or_server = self.child.id();
        let children = std::fs::read_to_string(format!(
            "/proc/{tracer_or_server}/task/{tracer_or_server}/children"
        ))?;
        let pid = match children.split_whitespace().next() {
            Some(traced) => traced.parse()?,
            None => i32::try_from(tracer_or_server)?,
        };
        let pid = rustix::process::Pid::from_raw(pid).context("a process id is not 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One claim made up by a harness: its number says everything about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Claim(pub(crate) u64);

impl Claim {
    /// A key and an author's time of its own, so that nothing replaces it and a repeat is the same
    /// record. Its name stands in it twice, close together: the log puts a checksum into every
    /// 512 bytes, and where that falls into one of them, a reader of raw bytes finds the other.
    pub(crate) fn body(self) -> Value {
        let padding = "x".repeat(usize::try_from(self.0 % 700).unwrap_or(0));
        json!({
            "subject": format!("harness/{}", self.0),
            "predicate": "holds",
            "object": format!("{padding}harness/{}", self.0),
            "at": 1_700_000_000_000_u64 + self.0,
        })
    }
}

/// What the server said of a claim that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: String,
    pub(crate) position: u64,
    pub(crate) exists: bool,
}

/// A keep-alive connection or two to one server.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
}

impl Client {
    fn new(url: String) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(120)))
            .http_status_as_error(true)
            .build();
        Self { agent: config.into(), url }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call()?;
        let text = response.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// `POST /v1/assert`.
    pub(crate) fn assert(&self, claim: Claim) -> Result<Ack> {
        let mut response = self
            .agent
            .post(format!("{}/v1/assert", self.url))
            .content_type("application/json")
            .send(claim.body().to_string())?;
        ack(&serde_json::from_str(&response.body_mut().read_to_string()?)?)
    }

    /// Every assertion that the server holds, by id; fails if an id or a position occurs twice.
    pub(crate) fn export(&self) -> Result<HashMap<String, u64>> {
        let mut response = self.agent.get(format!("{}/v1/export", self.url)).call()?;
        let mut positions = HashMap::new();
        let mut ids = HashMap::new();
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let record: Value = serde_json::from_str(&line?)?;
            // A database begins with genesis and the server's own agent.
            if record.pointer("/record/kind").and_then(Value::as_str) != Some("assertion") {
                continue;
            }
            let id = record.pointer("/record/id").and_then(Value::as_str);
            let position = record.get("position").and_then(Value::as_u64);
            let (Some(id), Some(position)) = (id, position) else {
                bail!("an exported line without id or position: {record}");
            };
            if let Some(first) = ids.insert(position, id.to_owned()) {
                bail!("position {position} is exported twice, as {first} and {id}");
            }
            if let Some(first) = positions.insert(id.to_owned(), position) {
                bail!("{id} is exported twice, at {first} and at {position}");
            }
        }
        Ok(positions)
    }
}

fn ack(answer: &Value) -> Result<Ack> {
    let (Some(id), Some(position), Some(status)) =
        (answer["id"].as_str(), answer["position"].as_u64(), answer["status"].as_str())
    else {
        bail!("not an acknowledgement: {answer}");
    };
    Ok(Ack { id: id.to_owned(), position, exists: status == "exists" })
}

/// Names every acknowledgement that what is there contradicts.
pub(crate) fn contradictions<'a>(
    acks: impl IntoIterator<Item = &'a Ack>,
    there: &HashMap<String, u64>,
) -> Vec<String> {
    acks.into_iter()
        .filter_map(|ack| match there.get(&ack.id) {
            Some(position) if *position == ack.position => None,
            Some(position) => {
                Some(format!("{} acknowledged at {}, is at {position}", ack.id, ack.position))
            }
            None => Some(format!("{} acknowledged at {}, is lost", ack.id, ack.position)),
        })
        .collect()
}
