//! Talking to a server with a [`Journal`] at hand: signed claims, whose ids are known before they
//! are sent, so that every one of them can be asked for whatever became of its sending.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use stemedb_model::{
    Assertion, Body, LifecycleState, Millis, PredicateName, Record, RecordId, Signed, SigningKey,
    Space, Subject, Value as Object,
};
use ureq::Agent;

use crate::outcomes::{Answer, Began, Journal, Seen};

/// A client gives up after this. Longer than any answer may take, so that a hang is seen as one.
const PATIENCE: Duration = Duration::from_secs(60);
const PREDICATE: &str = "holds";

/// A claim that was signed beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) id: RecordId,
    pub(crate) subject: String,
    value: String,
    json: Arc<str>,
}

impl Statement {
    /// The record and its signature, as they are sent.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }
}

/// Signs claims; the same number is the same claim.
pub(crate) struct Author(SigningKey);

impl Author {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes.get_mut(..8).unwrap_or_default().copy_from_slice(&seed.to_le_bytes());
        Self(SigningKey::from_seed(&bytes))
    }

    /// A claim about a subject of its own, its value so many bytes longer than it needs to be.
    pub(crate) fn statement(&self, number: u64, padding: usize) -> Result<Statement> {
        let subject = format!("harness/{number}");
        let value = format!("{}harness/{number}", "x".repeat(padding));
        let record = Record {
            space: Space::default(),
            agent: self.0.agent_id(),
            at: Millis(1_700_000_000_000 + i64::try_from(number)?),
            log_id: None,
            body: Body::Assertion(Assertion {
                subject: Subject::parse(&subject)?,
                predicate: PredicateName::parse(PREDICATE)?,
                object: Object::Text(value.as_str().into()),
                confidence: 1.0,
                source: None,
                valid_from: None,
                valid_to: None,
                epoch: None,
                lifecycle: LifecycleState::Proposed,
                parent: None,
                derived_from: Vec::new(),
                vector: None,
                visual_hash: None,
                meta: std::collections::BTreeMap::new(),
            }),
        };
        let signed = Signed::seal(record, &self.0)?;
        let json = json!({
            "id": signed.id().to_string(),
            "bytes": hex(signed.bytes()),
            "signature": signed.signature().to_string(),
        });
        Ok(Statement { id: signed.id(), subject, value, json: json.to_string().into() })
    }
}

/// The text or number at a place in an answer.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A writer's or reader's connections to one server, and the journal they keep.
#[derive(Clone)]
pub(crate) struct Talk<'a> {
    agent: Agent,
    url: String,
    pub(crate) journal: &'a Journal,
    /// Reads that were answered, whatever with.
    pub(crate) reads: &'a AtomicU64,
}

/// Whether there is still somebody to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// The connection broke.
    Broken,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(url: &str, journal: &'a Journal, reads: &'a AtomicU64) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), url: url.to_owned(), journal, reads }
    }

    fn get(&self, path: &str) -> Result<(u16, Value)> {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call()?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Sends a claim; `None` if the connection broke.
    pub(crate) fn write(&self, statement: &Statement) -> Option<Answer> {
        let sending = self.journal.send(statement.id);
        let put = || -> Result<(u16, Value)> {
            let mut response = self
                .agent
                .put(format!("{}/v1/records/{}", self.url, statement.id))
                .content_type("application/json")
                .send(&*statement.json)?;
            let status = response.status().as_u16();
            let text = response.body_mut().read_to_string()?;
            Ok((status, serde_json::from_str(&text)?))
        };
        let Ok((status, body)) = put() else {
            self.journal.lost(sending);
            return None;
        };
        let answer = self.answer(statement.id, status, &body);
        self.journal.answered(sending, answer);
        Some(answer)
    }

    /// Sends claims as one import: answers in their order, for as many as came.
    pub(crate) fn import(&self, statements: &[Statement]) -> Vec<Answer> {
        let mut sendings: VecDeque<_> =
            statements.iter().map(|one| self.journal.send(one.id)).collect();
        let mut answers = Vec::new();
        let mut import = || -> Result<()> {
            let lines: String = statements.iter().flat_map(|one| [&*one.json, "\n"]).collect();
            let mut response = self
                .agent
                .post(format!("{}/v1/import", self.url))
                .content_type("application/x-ndjson")
                .send(lines)?;
            if response.status().as_u16() != 200 {
                self.journal.problem(format!("an import was answered {}", response.status()));
            }
            for line in BufReader::new(response.body_mut().as_reader()).lines() {
                let line: Value = serde_json::from_str(&line?)?;
                let (Some(one), Some(_)) = (statements.get(answers.len()), line.get("line")) else {
                    // The summary.
                    continue;
                };
                let (status, body) =
                    match (text(&line, "/status"), line.get("error").unwrap_or(&Value::Null)) {
                        (Some("created"), Value::Null) => (201, &line),
                        (Some("exists"), Value::Null) => (200, &line),
                        (_, error) => (number(error, "/status").unwrap_or(0) as u16, error),
                    };
                let answer = self.answer(one.id, status, body);
                if let Some(sending) = sendings.pop_front() {
                    self.journal.answered(sending, answer);
                }
                answers.push(answer);
            }
            Ok(())
        };
        // However it ended, what was not answered is known.
        let _ = import();
        for sending in sendings {
            self.journal.lost(sending);
        }
        answers
    }

    /// What an answer to a write says. An answer that should not be is a problem, too.
    fn answer(&self, id: RecordId, status: u16, body: &Value) -> Answer {
        let position = number(body, "/position");
        let answer = match (status, text(body, "/outcome"), position) {
            (201, None, Some(position)) => Answer::Created(position),
            (200, None, Some(position)) => Answer::Exists(position),
            (500, Some("durable_not_applied"), Some(position)) => Answer::NotApplied(position),
            (500 | 504, Some("not_written"), None) => Answer::NotWritten,
            (500 | 503, Some("indeterminate"), _) => Answer::Indeterminate,
            (503, None, _) => Answer::Refused,
            _ => {
                self.journal.problem(format!("{id} was answered {status} {body}"));
                Answer::Indeterminate
            }
        };
        if status <= 201 && text(body, "/id") != Some(&id.to_string()) {
            self.journal.problem(format!("{id} was acknowledged as {body}"));
        }
        answer
    }

    /// Asks for a claim by its id.
    pub(crate) fn look(&self, statement: &Statement) -> Line {
        let began = self.journal.begin();
        let Ok((status, body)) = self.get(&format!("/v1/records/{}", statement.id)) else {
            self.journal.broke(&began);
            return Line::Broken;
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        let seen = match (status, text(&body, "/code"), number(&body, "/position")) {
            (200, None, Some(position)) => {
                if text(&body, "/record/object") != Some(&statement.value) {
                    self.journal.problem(format!("{} was read as {body}", statement.id));
                }
                Seen::At(position)
            }
            (404, Some("record_not_found"), _) => Seen::Absent,
            (503, Some("indeterminate"), _) => Seen::Undecided,
            (500, Some("index_failed"), Some(position)) => Seen::NotApplied(position),
            // It is still recovering.
            (503, Some("not_ready" | "draining"), _) => return Line::Open,
            _ => {
                let id = statement.id;
                self.journal.problem(format!("a read of {id} was answered {status} {body}"));
                return Line::Open;
            }
        };
        self.journal.read(statement.id, began, seen);
        Line::Open
    }

    /// Asks for a claim by its key.
    pub(crate) fn query(&self, statement: &Statement) -> Line {
        let began = self.journal.begin();
        let path = format!("/v1/query?subject={}&predicate={PREDICATE}", statement.subject);
        let Ok((status, body)) = self.get(&path) else {
            self.journal.broke(&began);
            return Line::Broken;
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        if status == 503 && matches!(text(&body, "/code"), Some("not_ready" | "draining")) {
            return Line::Open;
        }
        let (Some(position), Some(found)) =
            (number(&body, "/position"), body.get("assertions").and_then(Value::as_array))
        else {
            self.journal.problem(format!("a query was answered {status} {body}"));
            return Line::Open;
        };
        self.journal.snapshot(&began, position);
        let seen = match found.as_slice() {
            [] => Seen::Unlisted,
            [one] if text(one, "/record/id") == Some(&statement.id.to_string()) => {
                match number(one, "/position") {
                    Some(at) if at <= position => Seen::At(at),
                    _ => {
                        self.journal.problem(format!("an answer at {position} holds {one}"));
                        return Line::Open;
                    }
                }
            }
            _ => {
                self.journal.problem(format!("{} was queried as {body}", statement.subject));
                return Line::Open;
            }
        };
        self.journal.read(statement.id, began, seen);
        Line::Open
    }

    /// Takes down a list of all claims. `quiet`: nothing is being written.
    pub(crate) fn list(&self, quiet: bool) -> Result<usize> {
        let began = self.journal.begin();
        let list = self.export()?;
        self.list_taken(&began, &list, quiet);
        Ok(list.len())
    }

    fn list_taken(&self, began: &Began, list: &HashMap<RecordId, u64>, quiet: bool) {
        self.journal.listed(began, list, quiet);
    }

    fn export(&self) -> Result<HashMap<RecordId, u64>> {
        let mut response = self.agent.get(format!("{}/v1/export", self.url)).call()?;
        if response.status().as_u16() != 200 {
            let words = response.body_mut().read_to_string().unwrap_or_default();
            bail!("an export was answered {} {words}", response.status());
        }
        let mut list = HashMap::new();
        let mut places = HashMap::new();
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line: Value = serde_json::from_str(&line?)?;
            // A database begins with genesis and the server's own agent.
            if line.pointer("/record/kind").and_then(Value::as_str) != Some("assertion") {
                continue;
            }
            let id: RecordId =
                text(&line, "/record/id").context("an exported line without id")?.parse()?;
            let position = number(&line, "/position").context("a line without position")?;
            if list.insert(id, position).is_some() {
                self.journal.problem(format!("{id} is exported twice"));
            }
            if let Some(other) = places.insert(position, id) {
                self.journal.problem(format!("{id} and {other} are exported at {position}"));
            }
        }
        Ok(list)
    }

    /// State of the node, and whether it is degraded.
    pub(crate) fn health(&self) -> Option<(String, bool)> {
        let (_, body) = self.get("/v1/health").ok()?;
        let state = text(&body, "/node/state")?.to_owned();
        Some((state, text(&body, "/node/degraded").is_some()))
    }
}
