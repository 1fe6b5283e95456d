//! The same questions over HTTP: the release server, one client that asks one after the other.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stemedb_bench::server::{Server, agent};
use stemedb_bench::stats::{Latencies, Quantiles};
use stemedb_lens::LensName;
use stemedb_model::{Body, LogId, Millis, Record, Signed, SigningKey, Space};

use crate::data::{NOW, Shape, assertion, key, registration};

/// Lines of one import.
const LINES: usize = 2_048;
const SLICE: Duration = Duration::from_millis(700);
/// More than any key has.
const CLAIMS_MAX: &str = "2000000";

/// Everything asked over HTTP.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Http {
    /// Records of the claims and their agents, signed, checked and made durable in a second.
    pub(crate) imported_per_second: f64,
    pub(crate) cells: Vec<Cell>,
}

/// One key, in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) claims: u64,
    pub(crate) agents: u64,
    /// By lens, with no answer kept.
    pub(crate) lenses: Vec<(String, Quantiles)>,
    /// The default lens and `trust`, with answers kept.
    pub(crate) kept: Vec<(String, Quantiles)>,
}

/// The keys with at most a thousand agents, asked of `binary`; `winners` by number of the key.
pub(crate) fn run(binary: &Path, dir: &Path, shapes: &[Shape], winners: &[String]) -> Result<Http> {
    let asked: Vec<(usize, Shape)> = shapes.iter().copied().enumerate().collect();
    let asked: Vec<(usize, Shape)> =
        asked.into_iter().filter(|(_, shape)| shape.agents <= 1_000).collect();
    let data = dir.join("served");
    let bound = ("STEMEDB_QUERY__CLAIMS_MAX", CLAIMS_MAX);
    let none_kept = ("STEMEDB_QUERY__ANSWERS_BYTES", "0");
    let server = Server::start(binary, &data, &[bound, none_kept])?;
    let imported_per_second = load(&server, &data, &asked)?;
    let mut cells = Vec::new();
    for (number, shape) in &asked {
        let winner = winners.get(*number).context("a key that was not asked before")?;
        let lenses = LensName::ALL.into_iter();
        let lenses = lenses.map(|lens| ask(&server, *number, lens, *shape, winner));
        let lenses = lenses.collect::<Result<_>>()?;
        cells.push(Cell { claims: shape.claims, agents: shape.agents, lenses, kept: Vec::new() });
    }
    drop(server);
    let server = Server::start(binary, &data, &[bound])?;
    for (cell, (number, shape)) in cells.iter_mut().zip(&asked) {
        let winner = winners.get(*number).context("a key that was not asked before")?;
        let lenses = [LensName::Authority, LensName::Trust].into_iter();
        let lenses = lenses.map(|lens| ask(&server, *number, lens, *shape, winner));
        cell.kept = lenses.collect::<Result<_>>()?;
    }
    Ok(Http { imported_per_second, cells })
}

fn ask(
    server: &Server,
    number: usize,
    lens: LensName,
    shape: Shape,
    winner: &str,
) -> Result<(String, Quantiles)> {
    let (client, key) = (agent(), key(number)?);
    let url = format!(
        "{}/v1/query?subject={}&predicate={}&lens={}",
        server.url(),
        key.subject.as_str(),
        key.predicate.as_str(),
        lens.as_str()
    );
    let get = || -> Result<Vec<u8>> {
        let mut response = client.get(&url).call()?;
        Ok(response.body_mut().read_to_vec()?)
    };
    let answer: Value = serde_json::from_slice(&get()?)?;
    ensure!(answer["considered"] == shape.claims, "{url}: {answer}");
    if lens == LensName::Authority {
        ensure!(answer["value"] == winner, "in process {winner} wins; {url}: {answer}");
    }
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    while begun.elapsed() < SLICE {
        let started = Instant::now();
        black_box(get()?.len());
        latencies.push(started.elapsed());
    }
    Ok((lens.as_str().to_owned(), latencies.quantiles()))
}

/// Imports the agents and the claims of the keys; records a second.
fn load(server: &Server, data: &Path, asked: &[(usize, Shape)]) -> Result<f64> {
    let seed = std::fs::read_to_string(data.join("node/root.key"))?;
    let root = SigningKey::from_seed(&seed_of(seed.trim())?);
    let mut health = agent().get(format!("{}/v1/health", server.url())).call()?;
    let health: Value = serde_json::from_str(&health.body_mut().read_to_string()?)?;
    let log_id =
        health["node"]["log_id"].as_str().context("no log_id in the health of the server")?;
    let log_id: LogId = log_id.parse().ok().context("no log id")?;
    let most = asked.iter().map(|(_, shape)| shape.agents).max().unwrap_or(0);
    let keys: Vec<SigningKey> = (0..most).map(agent_key).collect();
    let mut import = Import { server, client: agent(), lines: String::new(), waiting: 0, count: 0 };
    let mut spent = Duration::ZERO;
    for key in &keys {
        let body = registration(key.agent_id());
        spent += import.put(&root, NOW, Some(log_id), body)?;
    }
    let mut n = 0;
    for (number, shape) in asked {
        let key = key(*number)?;
        for claim in 0..shape.claims {
            n += 1;
            let row = shape.row(claim);
            let author = keys.get(usize::try_from(row.agent)?).context("no such agent")?;
            let at = Millis(NOW.0 + n);
            spent += import.put(author, at, None, assertion(&key, row))?;
        }
    }
    spent += import.send()?;
    Ok(import.count as f64 / spent.as_secs_f64())
}

fn agent_key(n: u64) -> SigningKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    SigningKey::from_seed(&seed)
}

fn seed_of(text: &str) -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    ensure!(text.len() == 64 && text.is_ascii(), "the root key is no key file");
    for (byte, digits) in seed.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
    }
    Ok(seed)
}

struct Import<'a> {
    server: &'a Server,
    client: ureq::Agent,
    lines: String,
    waiting: usize,
    count: u64,
}

impl Import<'_> {
    /// Signs a record and sends it with others; how long sending took.
    fn put(
        &mut self,
        author: &SigningKey,
        at: Millis,
        log_id: Option<LogId>,
        body: Body,
    ) -> Result<Duration> {
        let record = Record { space: Space::default(), agent: author.agent_id(), at, log_id, body };
        let signed = Signed::seal(record, author)?;
        self.lines.push_str("{\"bytes\":\"");
        for byte in signed.bytes().iter() {
            write!(self.lines, "{byte:02x}")?;
        }
        writeln!(self.lines, "\",\"signature\":\"{}\"}}", signed.signature())?;
        self.waiting += 1;
        self.count += 1;
        if self.waiting < LINES { Ok(Duration::ZERO) } else { self.send() }
    }

    fn send(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let url = format!("{}/v1/import", self.server.url());
        let lines = std::mem::take(&mut self.lines);
        let request = self.client.post(url).content_type("application/x-ndjson");
        let mut response = request.send(lines)?;
        let results = response.body_mut().read_to_string()?;
        let summary: Value = serde_json::from_str(results.lines().last().unwrap_or_default())?;
        ensure!(summary["created"] == self.waiting, "of {} lines: {summary}", self.waiting);
        self.waiting = 0;
        Ok(started.elapsed())
    }
}
