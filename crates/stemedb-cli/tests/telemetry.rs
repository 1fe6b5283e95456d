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
        let mut child = Command::new(STEMEDB)
            .args(["serve", "--no-auth", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env("STEMEDB_WAL__SEGMENT_BYTES", "1048576")
            .env("STEMEDB_TELEMETRY__OTLP_ENDPOINT", endpoint)
            .env("NO_COLOR", "1")
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

    let mut spans: Vec<Span> = Vec::new();
    while let Ok((path, request)) = told.recv_timeout(Duration::from_millis(100)) {
        assert_eq!(path, "/v1/traces");
        for resource in request.resource_spans {
            let about = resource.resource.unwrap().attributes;
            assert_eq!(attributes(&about)["service.name"], "stemedb");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
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
