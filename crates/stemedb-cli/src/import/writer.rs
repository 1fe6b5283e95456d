//! One stream to the server: signs, sends in chunks, reads the results.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde::Deserialize;
use stemedb_io::Env;

use crate::claim_line::ClaimLine;
use crate::failure::Failure;
use crate::remote::Remote;

use super::author::Author;
use super::summary::{Refusal, Summary};

/// A chunk is one request: large enough that its answer is not waited for often, small enough
/// that a broken connection costs little.
const CHUNK_LINES: usize = 2_000;
const CHUNK_BYTES: usize = 2 << 20;
/// Attempts at a line that the server could not take just then.
const ATTEMPTS: u32 = 6;
/// Pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// A line on its way.
pub(super) struct Job {
    pub(super) file: Arc<str>,
    pub(super) number: u64,
    pub(super) what: What,
}

/// What is on it.
pub(super) enum What {
    /// A simple claim, to be signed.
    Claim(Box<ClaimLine>),
    /// A record as it stands.
    Record(String),
}

pub(super) struct Writer {
    remote: Remote,
    author: Author,
    env: Env,
    chunk: Vec<Ready>,
    bytes: usize,
    summary: Summary,
}

/// A line ready to be sent.
struct Ready {
    file: Arc<str>,
    number: u64,
    line: String,
}

/// As much of a result line as matters here; the last line of an answer is the server's summary.
#[derive(Deserialize)]
struct ResultLine {
    #[serde(default)]
    line: Option<usize>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<Problem>,
    #[serde(default)]
    stopped: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    retryable: bool,
}

/// What became of one line.
enum Fate {
    Created,
    Exists,
    Refused(String),
    Later(String),
}

impl Writer {
    pub(super) fn new(remote: Remote, author: Author, env: Env) -> Self {
        let (chunk, summary) = (Vec::new(), Summary::default());
        Self { remote, author, env, chunk, bytes: 0, summary }
    }

    /// Works until nothing more comes. `done` hears how many lines have their result.
    pub(super) fn run(
        mut self,
        jobs: &Receiver<Vec<Job>>,
        done: impl Fn(u64),
    ) -> Result<Summary, Failure> {
        for job in jobs.iter().flatten() {
            let line = match job.what {
                What::Claim(claim) => self.author.line(*claim),
                What::Record(line) => Ok(line + "\n"),
            };
            match line {
                Ok(line) => {
                    self.bytes += line.len();
                    self.chunk.push(Ready { file: job.file, number: job.number, line });
                }
                Err(problem) => self.refuse(&job.file, job.number, problem),
            }
            if self.chunk.len() >= CHUNK_LINES || self.bytes >= CHUNK_BYTES {
                self.send(&done)?;
            }
        }
        self.send(&done)?;
        Ok(self.summary)
    }

    /// Sends the chunk until every line has a fate.
    fn send(&mut self, done: &impl Fn(u64)) -> Result<(), Failure> {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.bytes = 0;
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            if chunk.is_empty() {
                return Ok(());
            }
            let fates = post(&self.remote, chunk.iter().map(|ready| ready.line.as_str()))?;
            let mut later = Vec::new();
            let sent = chunk.len();
            for (ready, fate) in chunk.into_iter().zip(fates) {
                match fate {
                    Fate::Created => self.summary.created += 1,
                    Fate::Exists => self.summary.exists += 1,
                    Fate::Later(_) if attempt < ATTEMPTS => {
                        later.push(ready);
                        continue;
                    }
                    Fate::Later(problem) | Fate::Refused(problem) => {
                        self.refuse(&ready.file, ready.number, problem);
                        continue;
                    }
                }
                self.summary.lines += 1;
            }
            done((sent - later.len()) as u64);
            chunk = later;
            if !chunk.is_empty() {
                self.env.clock.sleep(pause);
                pause *= 2;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, file: &str, line: u64, problem: String) {
        self.summary.refuse(Refusal { file: file.to_owned(), line, problem });
    }
}

/// Sends lines that must all be taken.
pub(super) fn send_all(remote: &Remote, lines: &[String]) -> Result<(), Failure> {
    for chunk in lines.chunks(CHUNK_LINES) {
        for fate in post(remote, chunk.iter().map(String::as_str))? {
            if let Fate::Refused(problem) | Fate::Later(problem) = fate {
                return Err(Failure::error(format!("cannot register: {problem}"))
                    .hint("--root-key FILE: on the server it is <data_dir>/node/root.key"));
            }
        }
    }
    Ok(())
}

/// Sends lines; gives the fate of each.
fn post<'a>(
    remote: &Remote,
    lines: impl ExactSizeIterator<Item = &'a str>,
) -> Result<Vec<Fate>, Failure> {
    let count = lines.len();
    let body: String = lines.collect();
    let resume = "run the same command again: what is there already counts as exists";
    let answer = remote.post("/v1/import", "application/x-ndjson", body.as_bytes());
    let answer = answer.map_err(|failure| failure.hint(resume))?;
    if answer.status.as_u16() == 503 {
        // Too many imports at once, or draining: not one line was read.
        let detail = answer.ok().err().map(|failure| failure.report()).unwrap_or_default();
        return Ok((0..count).map(|_| Fate::Later(detail.trim().to_owned())).collect());
    }
    let text = answer.ok()?;
    let mut fates: Vec<Option<Fate>> = (0..count).map(|_| None).collect();
    let mut stopped = None;
    for line in text.lines() {
        let result: ResultLine = serde_json::from_str(line).map_err(|error| {
            Failure::error("the server's answer is not what this version expects").because(error)
        })?;
        let Some(number) = result.line else {
            stopped = result.stopped;
            continue;
        };
        let slot = number.checked_sub(1).and_then(|index| fates.get_mut(index));
        if let Some(slot) = slot {
            *slot = Some(fate(result.status.as_deref(), result.error));
        }
    }
    if let Some(problem) = stopped {
        return Err(Failure::error(format!("the server stopped reading: {}", problem.text())));
    }
    let fates: Option<Vec<Fate>> = fates.into_iter().collect();
    fates.ok_or_else(|| Failure::error("the server's answer broke off").hint(resume))
}

fn fate(status: Option<&str>, error: Option<Problem>) -> Fate {
    match (status, error) {
        (Some("created"), _) => Fate::Created,
        (Some("exists"), _) => Fate::Exists,
        (_, Some(problem)) if problem.retryable => Fate::Later(problem.text()),
        (_, Some(problem)) => Fate::Refused(problem.text()),
        (status, None) => Fate::Refused(format!("status {status:?} without a reason")),
    }
}

impl Problem {
    fn text(&self) -> String {
        if self.detail.is_empty() {
            self.code.clone()
        } else {
            format!("{} ({})", self.detail, self.code)
        }
    }
}
