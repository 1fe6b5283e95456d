//! Traces of requests: what a collector is sent, and that one which is gone costs nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and measures real time"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use rustix::process::{Pid, Signal};

const STEMEDB: &str = env!("CARGO_BIN_EXE_stemedb");

/// A collector: what it was sent, and on which path. It answers with this status.
fn collector(status: &'static str) -> (String, Receiver<(String, ExportTraceServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            std::thread::spawn(move || {
                while let Some(sent) = receive(&stream) {
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    (&stream).write_all(answer.as_bytes()).unwrap();
                    let _ = tell.send(sent);
                }
            });
        }
    });
    (url, told)
}

fn receive(stream: &TcpStream) -> Option<(String, ExportTraceServiceRequest)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let header = line.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(bytes) = header.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        if let Some(form) = header.strip_prefix("content-type:") {
            assert_eq!(form.trim(), "application/x-protobuf");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some((path, ExportTraceServiceRequest::decode(&*body).unwrap()))
}

struct Node {
    child: Child,
    url: String,
    words: std::process::ChildStderr,
}

impl Node {
    fn start(dir: &Path, endpoint: &str) -> Self {
        Self::start_with(dir, endpoint, &[])
    }

    fn start_with(dir: &Path, endpoint: &str, more: &[(&str, &str)]) -> Self {
        let mut child = Command::new(STEMEDB)
            .args(["serve", "--no-auth", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env("STEMEDB_WAL__SEGMENT_BYTES", "1048576")
            .env("STEMEDB_TELEMETRY__OTLP_ENDPOINT", endpoint)
            .env("NO_COLOR", "1")
            .envs(more.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = child.stderr.take().unwrap();
        let mut said = Vec::new();
        let url = loop {
            let mut byte = [0];
            assert_eq!(words.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
            let text = String::from_utf8_lossy(&said);
            let line = text.lines().find_map(|line| line.strip_prefix("listening on "));
            if let Some((url, _)) = line.and_then(|rest| rest.split_once(',')) {
                break url.to_owned();
            }
        };
        let node = Self { child, url, words };
        while node.get("/readyz").0 != 200 {
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        answer(agent().get(format!("{}{path}", self.url)).header("x-request-id", "asked-1").call())
    }

    fn assert(&self, object: &str) -> (u16, String, String) {
        let body = format!(
            r#"{{"subject":"thing","predicate":"is","object":"{object}","at":"2024-07-01T00:00:00Z"}}"#
        );
        let request = agent().post(format!("{}/v1/assert", self.url));
        answer(request.content_type("application/json").send(body))
    }

    /// SIGTERM; the status, what it said since it listened, and how long it took.
    fn stop(mut self) -> (Option<i32>, String, Duration) {
        let began = Instant::now();
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut said = String::new();
        self.words.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said, began.elapsed())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// Status, request id, body.
fn answer(
    answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> (u16, String, String) {
    let mut response = answered.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    (response.status().as_u16(), id, response.body_mut().read_to_string().unwrap())
}

fn attributes(list: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    list.iter().map(|pair| (pair.key.as_str(), text(pair))).collect()
}

/// All that a collector was sent, once the node has ended.
fn spans(told: &Receiver<(String, ExportTraceServiceRequest)>) -> Vec<Span> {
    let mut spans = Vec::new();
    while let Ok((path, request)) = told.recv_timeout(Duration::from_millis(100)) {
        assert_eq!(path, "/v1/traces");
        for resource in request.resource_spans {
            let about = resource.resource.unwrap().attributes;
            assert_eq!(attributes(&about)["service.name"], "stemedb");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

#[test]
fn a_collector_is_sent_a_span_of_every_request() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, told) = collector("200 OK");
    let node = Node::start(dir.path(), &endpoint);
    let (status, written, body) = node.assert("rare");
    assert_eq!(status, 201, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let position = body["position"].to_string();
    let (status, ..) = node.get("/v1/query?subject=thing&predicate=is&lens=consensus");
    assert_eq!(status, 200);
    assert_eq!(node.get("/v1/query?subject=thing&predicate=is&lens=none").0, 404);
    assert_eq!(node.stop().0, Some(0));

    let spans = spans(&told);
    let named = |name: &str| -> Vec<&Span> { spans.iter().filter(|s| s.name == name).collect() };
    let [write] = *named("POST /v1/assert") else { panic!("{spans:#?}") };
    assert_eq!(write.kind(), SpanKind::Server);
    let said = attributes(&write.attributes);
    assert_eq!(said["http.request.method"], "POST");
    assert_eq!(said["http.route"], "/v1/assert");
    assert_eq!(said["http.response.status_code"], "201");
    assert_eq!((&said["stemedb.request_id"], &said["stemedb.position"]), (&written, &position));
    let waited: u64 = said["stemedb.commit_us"].parse().unwrap();
    let took = (write.end_time_unix_nano - write.start_time_unix_nano) / 1_000;
    assert!(0 < waited && waited <= took, "{waited} of {took} us");

    let [asked, refused] = *named("GET /v1/query") else { panic!("{spans:#?}") };
    let said = attributes(&asked.attributes);
    assert_eq!((&*said["stemedb.lens"], &said["stemedb.position"]), ("consensus", &position));
    assert_eq!((&*said["stemedb.request_id"], said.get("stemedb.commit_us")), ("asked-1", None));
    let said = attributes(&refused.attributes);
    assert_eq!(said["http.response.status_code"], "404");
    assert!(refused.status.as_ref().is_none_or(|one| one.code() != StatusCode::Error));
    assert!(!named("GET /readyz").is_empty());
}

/// A caller's trace goes on in the node, part by part, and the lines of the log name it. What names no
/// trace, or not one, begins another.
#[test]
fn the_trace_of_a_caller_is_taken_up() {
    const CALLER: [u8; 8] = [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, told) = collector("200 OK");
    let said = [("STEMEDB_LOG__FORMAT", "json"), ("STEMEDB_LOG__FILTER", "info")];
    let node = Node::start_with(dir.path(), &endpoint, &said);
    let trace = |n: u8| [n; 16];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parent = |n: u8, flags: &str| format!("00-{}-{}-{flags}", hex(&trace(n)), hex(&CALLER));

    let claim = r#"{"subject":"s","predicate":"is","object":1,"at":"2024-07-01T00:00:00Z"}"#;
    let write = agent().post(format!("{}/v1/assert", node.url)).content_type("application/json");
    assert_eq!(answer(write.header("traceparent", parent(1, "01")).send(claim)).0, 201);
    let ask = |id: &str, parents: &[String]| {
        let path = "/v1/query?subject=s&predicate=is&lens=consensus";
        let request = agent().get(format!("{}{path}", node.url)).header("x-request-id", id);
        let request =
            parents.iter().fold(request, |request, one| request.header("traceparent", one));
        assert_eq!(answer(request.call()).0, 200);
    };
    ask("sampled", &[parent(2, "01")]);
    ask("not-sampled", &[parent(3, "00")]);
    ask("two", &[parent(4, "01"), parent(5, "01")]);
    ask("malformed", &["00-6-6-01-00".to_owned()]);
    let (status, said, _) = node.stop();
    assert_eq!(status, Some(0), "{said}");

    let spans = spans(&told);
    let request = |n: u8| -> &Span {
        let found: Vec<&Span> = spans.iter().filter(|one| one.trace_id == trace(n)).collect();
        let roots = found.iter().copied().filter(|one| one.kind() == SpanKind::Server);
        let [root] = *roots.collect::<Vec<_>>() else { panic!("{found:#?}") };
        assert_eq!(root.parent_span_id, CALLER);
        root
    };
    let parts = |of: &Span| -> Vec<&str> {
        let parts = spans.iter().filter(|one| one.parent_span_id == of.span_id);
        let names = parts.map(|part| {
            assert_eq!((part.kind(), &part.trace_id), (SpanKind::Internal, &of.trace_id));
            assert!(of.start_time_unix_nano <= part.start_time_unix_nano);
            assert!(part.end_time_unix_nano <= of.end_time_unix_nano);
            part.name.as_str()
        });
        names.collect()
    };
    assert_eq!(request(1).name, "POST /v1/assert");
    assert_eq!(parts(request(1)), ["admit", "validate", "commit"]);
    assert!(!attributes(&request(1).attributes).contains_key("trace_id"));
    assert_eq!(parts(request(2)), ["admit", "read", "audit"]);
    // Whoever began a trace decides whether it is kept.
    assert!(!spans.iter().any(|one| one.trace_id == trace(3)));
    assert!(!spans.iter().any(|one| one.trace_id == trace(4) || one.trace_id == trace(5)));
    let by_id = |id: &str| {
        let named = |one: &&Span| {
            attributes(&one.attributes).get("stemedb.request_id").is_some_and(|found| found == id)
        };
        spans.iter().find(named).unwrap()
    };
    for id in ["two", "malformed"] {
        assert!(by_id(id).parent_span_id.is_empty(), "{id}");
        // Memory held the answer by then.
        assert_eq!(parts(by_id(id)), ["admit", "audit"]);
    }

    // Every answer has a line, and each line the id of its trace, kept or not.
    let lines: Vec<serde_json::Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = |id: &str| {
        let answered = |line: &&serde_json::Value| {
            line["fields"]["message"] == "answered" && line["span"]["id"] == id
        };
        let line = lines.iter().find(answered).unwrap_or_else(|| panic!("{id}: {said}"));
        line["span"]["trace_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(line("sampled"), hex(&trace(2)));
    assert_eq!(line("not-sampled"), hex(&trace(3)));
    assert_eq!(line("two"), hex(&by_id("two").trace_id));
}

/// The endpoint is dead, or answers that it cannot: requests are answered as ever, it is counted and said
/// once, and the node ends in time.
#[test]
fn a_collector_that_is_gone_costs_nothing() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (refusing, _told) = collector("503 Service Unavailable");
    // It takes the connection, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = format!("http://{}", silent.local_addr().unwrap());
    for (endpoint, says) in [(dead, true), (refusing, true), (hanging, false)] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), &endpoint);
        let failed = || -> u64 {
            let text = node.get("/metrics").2;
            let series = r#"stemedb_telemetry_spans_total{result="failed"} "#;
            let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap();
            line.parse().unwrap()
        };
        let began = Instant::now();
        for number in 0..50 {
            assert_eq!(node.assert(&number.to_string()).0, 201);
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{endpoint}: {took:?}");
        while says && failed() < 50 {
            assert!(began.elapsed() < Duration::from_secs(30), "{endpoint}: not counted");
            std::thread::sleep(Duration::from_millis(100));
        }
        let (status, said, took) = node.stop();
        assert_eq!(status, Some(0), "{said}");
        assert!(took < Duration::from_secs(10), "{endpoint}: {took:?}");
        let lines = said.matches("not taken by the collector").count();
        assert!(lines == 1 || !says && lines == 0, "{endpoint}: {said}");
    }
    drop(silent);
}
