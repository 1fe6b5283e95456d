//! The whole way of a claim, over HTTP, with what each step takes by the server's own metrics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stemedb_model::{
    Assertion, Body, LifecycleState, Millis, PredicateName, Record, Signed, SigningKey, Space,
    Subject, Value,
};
use ureq::Agent;

use crate::commits::Plan;
use crate::contender::{Bare, Contender};
use crate::workload::records;
use stemedb_bench::budget::Grown;
use stemedb_bench::server::{Server, agent};
use stemedb_bench::stats::{Estimate, Latencies, Quantiles};

/// Bytes of a claimed value.
const OBJECT_BYTES: usize = 300;
const CLIENTS: [usize; 2] = [1, 64];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Http {
    pub(crate) loads: Vec<Load>,
}

/// One number of clients, each with one request under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) requests: usize,
    pub(crate) requests_per_second: Estimate,
    /// As the client sees it, in microseconds.
    pub(crate) latency: Quantiles,
    /// Median latency over the median sync of the bare device in the same round.
    pub(crate) p50_in_syncs: Estimate,
    pub(crate) records_per_group: f64,
    /// Mean microseconds of a request, by step, in order.
    pub(crate) budget: Vec<(String, f64)>,
    /// Their sum: the mean latency.
    pub(crate) mean: f64,
}

/// Signed claims, each with a key of its own; the client's work is done before the clock starts.
struct Claims {
    key: SigningKey,
    next: AtomicU64,
}

impl Claims {
    fn body(&self) -> Result<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let subject = format!("bench/{number}");
        let object = format!("{number:0>OBJECT_BYTES$}");
        let at = Millis(1_700_000_000_000 + i64::try_from(number)?);
        let record = Record {
            space: Space::default(),
            agent: self.key.agent_id(),
            at,
            log_id: None,
            body: Body::Assertion(Assertion {
                subject: Subject::parse(&subject)?,
                predicate: PredicateName::parse("holds")?,
                object: Value::Text(object.as_str().into()),
                confidence: 1.0,
                source: None,
                valid_from: None,
                valid_to: None,
                epoch: None,
                lifecycle: LifecycleState::default(),
                parent: None,
                derived_from: Vec::new(),
                vector: None,
                visual_hash: None,
                meta: BTreeMap::new(),
            }),
        };
        let signed = Signed::seal(record, &self.key)?;
        let body = json!({
            "subject": subject, "predicate": "holds", "object": object, "at": at.0,
            "agent": self.key.agent_id().to_string(),
            "signature": signed.signature().to_string(),
        });
        Ok(body.to_string())
    }
}

pub(crate) fn run(dir: &Path, binary: &Path, plan: Plan) -> Result<Http> {
    let server = Server::start(binary, &dir.join("data"), &[])?;
    let bare_dir = tempfile::tempdir_in(dir)?;
    let mut bare = Bare::new(bare_dir.path(), false)?;
    let claims = Claims { key: SigningKey::from_seed(&[7; 32]), next: AtomicU64::new(0) };
    let loads = CLIENTS
        .iter()
        .map(|clients| load(&server, &claims, &mut bare, *clients, plan))
        .collect::<Result<_>>()?;
    Ok(Http { loads })
}

fn load(
    server: &Server,
    claims: &Claims,
    bare: &mut Bare,
    clients: usize,
    plan: Plan,
) -> Result<Load> {
    let agents: Vec<Agent> = (0..clients).map(|_| agent()).collect();
    let one = records(1, OBJECT_BYTES);
    let (mut all, mut rates, mut in_syncs) = (Latencies::default(), Vec::new(), Vec::new());
    // Connections are made in a slice that does not count.
    slice(server, claims, &agents, plan.slice)?;
    let before = server.metrics()?;
    for _ in 0..plan.rounds {
        let mut syncs = Latencies::default();
        let started = Instant::now();
        while started.elapsed() < plan.slice / 2 {
            let started = Instant::now();
            bare.commit(&one)?;
            syncs.push(started.elapsed());
        }
        let (latencies, took) = slice(server, claims, &agents, plan.slice)?;
        rates.push(latencies.len() as f64 / took.as_secs_f64());
        in_syncs.push(latencies.quantiles().p50 / syncs.quantiles().p50);
        all.extend(&latencies);
    }
    let after = server.metrics()?;
    let grown = Grown::new(before, after);
    let whole = all.mean();
    Ok(Load {
        clients,
        requests: all.len(),
        requests_per_second: Estimate::of(&rates),
        latency: all.quantiles(),
        p50_in_syncs: Estimate::of(&in_syncs),
        records_per_group: grown.records_per_group(),
        budget: grown.assert_steps(whole)?,
        mean: whole,
    })
}

fn slice(
    server: &Server,
    claims: &Claims,
    agents: &[Agent],
    length: Duration,
) -> Result<(Latencies, Duration)> {
    let url = format!("{}/v1/assert", server.url());
    let start = Barrier::new(agents.len() + 1);
    std::thread::scope(|scope| {
        let running: Vec<_> = agents
            .iter()
            .map(|agent| {
                let (start, url) = (&start, &url);
                scope.spawn(move || -> Result<Latencies> {
                    let mut latencies = Latencies::default();
                    start.wait();
                    let began = Instant::now();
                    while began.elapsed() < length {
                        let body = claims.body()?;
                        let started = Instant::now();
                        let mut response =
                            agent.post(url).content_type("application/json").send(body)?;
                        ensure!(response.status() == 201, "answered {}", response.status());
                        response.body_mut().read_to_vec()?;
                        latencies.push(started.elapsed());
                    }
                    Ok(latencies)
                })
            })
            .collect();
        start.wait();
        let started = Instant::now();
        let mut latencies = Latencies::default();
        for thread in running {
            let result = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            latencies.extend(&result?);
        }
        Ok((latencies, started.elapsed()))
    })
}
