//! Requests that leave on time: an open loop.
//!
//! Request `n` is due at `start + n / rate`, whatever became of those before it, and its latency is
//! counted from then. A server that stands still for a second is charged for everybody who came in
//! that second, also for those whom all connections being busy kept from being sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use stemedb_bench::stats::{Latencies, Quantiles};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::claims::Ack;

/// A client gives up after this: longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between the last connection and the first request.
const LEAD: Duration = Duration::from_millis(50);

/// Makes requests and knows their good answers.
pub(crate) trait Requests: Send + Sync {
    fn request(&self, n: u64) -> Request<Full<Bytes>>;

    /// What is wrong with an answer of status 200 or 201; what it acknowledges is added.
    fn check(&self, n: u64, body: &[u8], acks: &mut Vec<Ack>) -> Result<(), String>;
}

/// Requests of one kind, at one rate.
pub(crate) struct Stream {
    pub(crate) requests: Arc<dyn Requests>,
    pub(crate) per_second: f64,
    pub(crate) connections: usize,
    /// Where the 99th percentile must stay below.
    pub(crate) p99: Duration,
}

/// How long, and when it ends before that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) time: Duration,
    /// Ends at the first error. Either way it ends once more than one request in a hundred was late,
    /// of all there should be: nothing that comes can make that good.
    pub(crate) until_error: bool,
}

/// What came of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    /// Requests due in the whole time.
    pub(crate) planned: u64,
    pub(crate) sent: u64,
    /// As they should be.
    pub(crate) answered: u64,
    /// By status and code.
    pub(crate) errors: BTreeMap<String, u64>,
    /// From the first that was due to the last answer.
    pub(crate) seconds: f64,
    /// From when it was due to its answer, in microseconds.
    pub(crate) latency: Quantiles,
    pub(crate) mean: f64,
    /// By the second in which requests were due.
    pub(crate) over_time: Vec<Second>,
}

/// Of the requests due in one second.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Answers that came in this second.
    pub(crate) answered: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Outcome {
    pub(crate) fn answered_per_second(&self) -> f64 {
        self.answered as f64 / self.seconds.max(1e-3)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Everybody was answered as they should be, in time.
    pub(crate) fn holds(&self, p99: Duration) -> bool {
        self.planned > 0
            && self.answered == self.planned
            && self.errors.is_empty()
            && self.latency.p99 < p99.as_secs_f64() * 1e6
    }
}

/// Who asks, over how many connections; the threads are named `load`.
pub(crate) struct Clients {
    runtime: Runtime,
    address: SocketAddr,
}

impl Clients {
    /// One thread for every four processors: the server is to have the others.
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let threads = std::thread::available_parallelism()?.get().div_ceil(4);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("load")
            .enable_all()
            .build()?;
        Ok(Self { runtime, address })
    }

    /// Sends all streams at once.
    pub(crate) fn run(
        &self,
        streams: &[Stream],
        length: Length,
    ) -> Result<Vec<(Outcome, Vec<Ack>)>> {
        self.runtime.block_on(self.send(streams, length))
    }

    async fn send(&self, streams: &[Stream], length: Length) -> Result<Vec<(Outcome, Vec<Ack>)>> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut ready = Vec::new();
        for stream in streams {
            let mut lines = Vec::new();
            for _ in 0..stream.connections {
                let mut line = Line { address: self.address, sender: None };
                line.greet()
                    .await
                    .map_err(anyhow::Error::msg)
                    .context("no connection is answered")?;
                lines.push(line);
            }
            ready.push(lines);
        }
        let start = Instant::now() + LEAD;
        let mut running = Vec::new();
        for (stream, lines) in streams.iter().zip(ready) {
            let planned = (stream.per_second * length.time.as_secs_f64()).round().max(1.0) as u64;
            let shared = Arc::new(Schedule {
                requests: Arc::clone(&stream.requests),
                start,
                per_second: stream.per_second,
                planned,
                next: AtomicU64::new(0),
                p99: stream.p99,
                late: AtomicU64::new(0),
                until_error: length.until_error,
                stop: Arc::clone(&stop),
            });
            let tasks: Vec<_> = lines
                .into_iter()
                .map(|line| tokio::spawn(Arc::clone(&shared).send_by(line)))
                .collect();
            running.push((shared, tasks));
        }
        let mut outcomes = Vec::new();
        for (shared, tasks) in running {
            let mut all = Part::default();
            for task in tasks {
                all.add(task.await.context("a client panicked")?);
            }
            outcomes.push(shared.outcome(all));
        }
        Ok(outcomes)
    }
}

/// What the connections of a stream share.
struct Schedule {
    requests: Arc<dyn Requests>,
    start: Instant,
    per_second: f64,
    planned: u64,
    /// The next request that nobody has taken on.
    next: AtomicU64,
    p99: Duration,
    /// Answers that came later than `p99`.
    late: AtomicU64,
    until_error: bool,
    stop: Arc<AtomicBool>,
}

/// What one connection did.
#[derive(Default)]
struct Part {
    sent: u64,
    /// When it was due, in microseconds since the start, and how long it took from then.
    answers: Vec<(u64, u64)>,
    errors: BTreeMap<String, u64>,
    acks: Vec<Ack>,
}

impl Part {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answers.extend(other.answers);
        self.acks.extend(other.acks);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

impl Schedule {
    /// Takes on one request after the other, each when it is due.
    async fn send_by(self: Arc<Self>, mut line: Line) -> Part {
        let mut part = Part::default();
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.planned {
                break;
            }
            let after = Duration::from_secs_f64(n as f64 / self.per_second);
            let due = self.start + after;
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            part.sent += 1;
            let answer = line.ask(self.requests.request(n)).await;
            let took = due.elapsed();
            let checked = answer.and_then(|(status, body)| match status {
                200 | 201 => self.requests.check(n, &body, &mut part.acks),
                _ => Err(refusal(status, &body)),
            });
            match checked {
                Ok(()) => part.answers.push((micros(after), micros(took))),
                Err(error) => {
                    *part.errors.entry(error).or_default() += 1;
                    if self.until_error {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
            }
            if took >= self.p99 {
                let late = self.late.fetch_add(1, Ordering::Relaxed) + 1;
                if late * 100 > self.planned {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
        part
    }

    fn outcome(&self, part: Part) -> (Outcome, Vec<Ack>) {
        let mut all = Latencies::default();
        let mut seconds: BTreeMap<u64, (u64, Latencies)> = BTreeMap::new();
        let mut end = 0;
        for (due, took) in &part.answers {
            let took_time = Duration::from_micros(*took);
            all.push(took_time);
            seconds.entry(due / 1_000_000).or_default().1.push(took_time);
            seconds.entry((due + took) / 1_000_000).or_default().0 += 1;
            end = end.max(due + took);
        }
        let last = seconds.last_key_value().map_or(0, |(second, _)| second + 1);
        let over_time = (0..last).map(|second| {
            let (answered, latencies) = seconds.remove(&second).unwrap_or_default();
            let quantiles = latencies.quantiles();
            Second { answered, p50: quantiles.p50, p99: quantiles.p99 }
        });
        let outcome = Outcome {
            per_second: self.per_second,
            planned: self.planned,
            sent: part.sent,
            answered: part.answers.len() as u64,
            errors: part.errors,
            over_time: over_time.collect(),
            // The last one is answered a little after it was due; the time before it counts in full.
            seconds: (end as f64 / 1e6).max(self.planned_seconds(part.sent)),
            latency: all.quantiles(),
            mean: all.mean(),
        };
        (outcome, part.acks)
    }

    fn planned_seconds(&self, sent: u64) -> f64 {
        sent as f64 / self.per_second
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `503 queue_full`.
fn refusal(status: u16, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
    }
    let problem = serde_json::from_slice::<Problem>(body);
    format!("{status} {}", problem.map_or_else(|_| "without a code".into(), |found| found.code))
}

/// One connection, made anew where it broke.
struct Line {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    async fn connect(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let broke = |error: &dyn std::fmt::Display| format!("no connection: {error}");
            let stream = TcpStream::connect(self.address).await.map_err(|error| broke(&error))?;
            stream.set_nodelay(true).map_err(|error| broke(&error))?;
            let made = handshake(TokioIo::new(stream)).await;
            let (sender, connection) = made.map_err(|error| broke(&error))?;
            // How it ends, its requests are told.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    /// One question and its answer, so that what a new connection costs is paid before the clock starts.
    async fn greet(&mut self) -> Result<(), String> {
        let probe = Request::get("/livez").header(HOST, self.address.to_string());
        let probe = probe.body(Full::default()).map_err(|error| error.to_string())?;
        match self.ask(probe).await? {
            (200, _) => Ok(()),
            (status, body) => Err(refusal(status, &body)),
        }
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), String> {
        let asking = async {
            let sender = self.connect().await?;
            let broke = |error: hyper::Error| format!("the connection broke: {error}");
            sender.ready().await.map_err(broke)?;
            let response = sender.send_request(request).await.map_err(broke)?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(broke)?;
            Ok((status, body.to_bytes()))
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer".to_owned()));
        if answer.is_err() {
            // Whatever comes of it now is nobody's answer.
            self.sender = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    struct Get;

    impl Requests for Get {
        fn request(&self, n: u64) -> Request<Full<Bytes>> {
            let request = Request::get(format!("/{n}")).header("host", "test");
            request.body(Full::default()).unwrap()
        }

        fn check(&self, _n: u64, body: &[u8], _acks: &mut Vec<Ack>) -> Result<(), String> {
            if body == b"ok" { Ok(()) } else { Err("not ok".into()) }
        }
    }

    /// Answers on one connection after the other, as `answer` says for each path.
    fn server(answer: impl Fn(u64) -> &'static str + Send + Copy + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let mut stream = stream;
                    while let Some(Ok(line)) = lines.next() {
                        if line.starts_with("GET /livez ") {
                            stream.write_all(OK.as_bytes()).unwrap();
                        } else if let Some(rest) = line.strip_prefix("GET /") {
                            let n = rest.split(' ').next().unwrap().parse().unwrap();
                            stream.write_all(answer(n).as_bytes()).unwrap();
                        }
                    }
                });
            }
        });
        address
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    fn run(address: SocketAddr, per_second: f64, p99: Duration, until_error: bool) -> Outcome {
        let clients = Clients::new(address).unwrap();
        let stream = Stream { requests: Arc::new(Get), per_second, connections: 1, p99 };
        let length = Length { time: Duration::from_secs(1), until_error };
        let mut outcomes = clients.run(&[stream], length).unwrap();
        outcomes.remove(0).0
    }

    #[test]
    fn a_stall_is_charged_for_everybody_who_came_meanwhile() {
        let address = server(|n| {
            if n == 50 {
                std::thread::sleep(Duration::from_millis(400));
            }
            OK
        });
        let outcome = run(address, 200.0, Duration::from_secs(10), false);
        assert_eq!((outcome.answered, outcome.planned), (200, 200));
        // 400 ms at 200 a second are 80 requests, the first of which waits longest.
        assert!(outcome.latency.max >= 400_000.0, "{outcome:?}");
        let mean_of_stall = 80.0 * 200_000.0 / 200.0;
        assert!(outcome.mean > mean_of_stall / 2.0, "{outcome:?}");
        assert!(outcome.holds(Duration::from_secs(1)));
        assert!(!outcome.holds(Duration::from_millis(300)));
    }

    #[test]
    fn a_run_that_cannot_hold_any_more_ends() {
        let address = server(|_| {
            std::thread::sleep(Duration::from_millis(20));
            OK
        });
        let outcome = run(address, 1_000.0, Duration::from_millis(30), false);
        assert!(outcome.sent < 100, "{outcome:?}");
        assert!(!outcome.holds(Duration::from_millis(30)));
    }

    #[test]
    fn errors_are_counted_by_code() {
        const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 21\r\n\r\n\
                            {\"code\":\"queue_full\"}";
        const ODD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno";
        let answer = |n: u64| match n {
            10 | 20 => FULL,
            30 => ODD,
            _ => OK,
        };
        let outcome = run(server(answer), 100.0, Duration::from_secs(1), false);
        let errors = [("503 queue_full".to_owned(), 2), ("not ok".to_owned(), 1)];
        assert_eq!(outcome.errors, errors.into());
        assert_eq!((outcome.answered, outcome.failed()), (97, 3));
        assert!(!outcome.holds(Duration::from_secs(1)));
        let outcome = run(server(answer), 100.0, Duration::from_secs(1), true);
        assert!(outcome.failed() == 1 && outcome.sent < 20, "{outcome:?}");
    }
}
