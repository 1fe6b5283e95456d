//! How much one caller may have: requests, connections, patience, records a day.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for a real server"
)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stemedb_server::{Limits, Rate, ServerConfig};
use support::{Answer, Running, start, start_with};

const AT: &str = "2024-07-01T00:00:00Z";
const QUESTION: &str = "/v1/query?subject=s&predicate=p&lens=authority";
/// So slow that a test does not see it fill up.
const ONCE: u32 = 1;

fn claim(subject: &str) -> Value {
    let source = json!({"uri": "https://example.org/", "class": "expert"});
    json!({"subject": subject, "predicate": "p", "object": 1, "at": AT, "source": source})
}

fn code(answer: &Answer) -> (u16, String) {
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    (answer.status, json["code"].as_str().unwrap_or_default().to_owned())
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("{header}: {answer:?}")).parse().unwrap()
}

fn first(server: &Running) -> String {
    let file = server.data_dir().join("node/first-admin.key");
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

fn with(server: &Running, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let headers = [("Authorization", format!("Bearer {key}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    match method {
        "GET" => server.get_with(path, &headers),
        _ => server.post_with(path, body, &headers),
    }
}

#[test]
fn whoever_asks_too_often_waits_and_others_do_not() {
    let server = start_with(|config, _| {
        config.auth.enabled = true;
        config.rates.read = Rate { per_second: ONCE, burst: 3 };
    });
    let admin = first(&server);
    let made = json!({"name": "second", "role": "reader"});
    let made = with(&server, &admin, "POST", "/v1/admin/keys", &made).json();
    let second = made["secret"].as_str().unwrap();
    for remaining in [2, 1, 0] {
        let answer = with(&server, &admin, "GET", QUESTION, &Value::Null);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(number(&answer, "RateLimit-Limit"), 3);
        assert!(number(&answer, "RateLimit-Remaining") >= remaining, "{answer:?}");
        assert!(number(&answer, "RateLimit-Reset") <= 3);
    }
    let refused = (0..3)
        .map(|_| with(&server, &admin, "GET", QUESTION, &Value::Null))
        .find(|answer| answer.status != 200)
        .expect("three more at once");
    assert_eq!(code(&refused), (429, "rate_limited".into()));
    assert_eq!(number(&refused, "RateLimit-Remaining"), 0);
    assert_eq!(number(&refused, "Retry-After"), 1);
    assert!(refused.json()["detail"].as_str().unwrap().contains("rate_limit.read"));
    // Another key, another class, probes and scrapes: as before.
    assert_eq!(with(&server, second, "GET", QUESTION, &Value::Null).status, 200);
    assert_eq!(with(&server, &admin, "POST", "/v1/assert", &claim("s")).status, 201);
    for _ in 0..20 {
        for path in ["/livez", "/readyz", "/metrics"] {
            let answer = server.get(path);
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("RateLimit-Limit"), None);
        }
    }
    // Who shows no key is its address, whatever it calls itself.
    let statuses: Vec<u16> = (0..8)
        .map(|n| {
            let forged = format!("203.0.113.{n}");
            server.get_with(QUESTION, &[("X-Forwarded-For", forged.as_str())]).status
        })
        .collect();
    assert_eq!(statuses[..3], [401; 3]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
    // What Retry-After says is enough.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(with(&server, &admin, "GET", QUESTION, &Value::Null).status, 200);
    let metrics = server.get("/metrics").text;
    let counted = "stemedb_requests_rejected_total{reason=\"rate_limited\"}";
    let line = metrics.lines().find(|line| line.starts_with(counted)).unwrap();
    assert!(!line.ends_with(" 0"), "{line}");
}

#[test]
fn a_key_writes_no_more_in_a_day_than_its_quota() {
    let server = start_with(|config, _| config.auth.enabled = true);
    let admin = first(&server);
    let new = json!({"name": "trial", "role": "writer", "quota": {"records_per_day": 3}});
    let made = with(&server, &admin, "POST", "/v1/admin/keys", &new).json();
    let trial = made["secret"].as_str().unwrap();
    assert_eq!(made["key"]["quota"], json!({"records_per_day": 3}));
    let write = |subject: &str| with(&server, trial, "POST", "/v1/assert", &claim(subject));
    let used = || {
        let list = with(&server, &admin, "GET", "/v1/admin/keys", &Value::Null).json();
        let keys = list["keys"].as_array().unwrap();
        keys.iter().find(|key| key["name"] == "trial").unwrap()["used_today"]["records"].clone()
    };
    assert_eq!(write("a").status, 201);
    // What was there before, and what is refused, costs nothing.
    for _ in 0..5 {
        assert_eq!(write("a").status, 200);
    }
    let mut ahead = claim("z");
    ahead["at"] = json!("2999-01-01T00:00:00Z");
    assert_eq!(with(&server, trial, "POST", "/v1/assert", &ahead).status, 400);
    assert_eq!(used(), 1);
    // An import is bounded line by line, and told where it stopped.
    let lines: String = ["b", "c", "d", "e"]
        .iter()
        .map(|subject| {
            let mut line = claim(subject);
            line["kind"] = json!("assertion");
            line.to_string() + "\n"
        })
        .collect();
    let bearer = format!("Bearer {trial}");
    let headers = [("Authorization", bearer.as_str())];
    let answer =
        server.send("POST", "/v1/import", "application/x-ndjson", lines.as_bytes(), &headers);
    let results = answer.lines();
    assert_eq!(results[0]["status"], "created", "{answer:?}");
    assert_eq!(results[1]["status"], "created", "{answer:?}");
    assert_eq!(results[2]["error"]["code"], "quota_exceeded", "{answer:?}");
    let summary = results.last().unwrap();
    assert_eq!(
        (&summary["created"], &summary["stopped"]["code"]),
        (&json!(2), &json!("quota_exceeded"))
    );
    let refused = write("f");
    assert_eq!(code(&refused), (429, "quota_exceeded".into()));
    assert_eq!(refused.json()["outcome"], "not_written");
    assert!(number(&refused, "Retry-After") <= 24 * 3_600);
    assert_eq!(used(), 3);
    // It reads on, others write on.
    assert_eq!(with(&server, trial, "GET", QUESTION, &Value::Null).status, 200);
    assert_eq!(with(&server, &admin, "POST", "/v1/assert", &claim("g")).status, 201);
    for (field, wrong) in [
        ("quota", json!({"name": "x", "role": "reader", "quota": {"records_per_day": 1}})),
        ("quota", json!({"name": "x", "role": "writer", "quota": {}})),
    ] {
        let answer = with(&server, &admin, "POST", "/v1/admin/keys", &wrong);
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{wrong}");
    }
}

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Whether a request on this connection is answered.
fn lives(mut stream: &TcpStream) -> bool {
    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = [0; 512];
    matches!(stream.read(&mut answer), Ok(read) if answer[..read].starts_with(b"HTTP/1.1 200"))
}

#[test]
fn one_address_does_not_have_all_connections() {
    let server = start_with(|config, _| config.limits.connections_per_address = 3);
    let held: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
    assert!(held.iter().all(lives));
    assert!(!lives(&connect(&server)), "a fourth");
    drop(held);
    let begun = Instant::now();
    while !lives(&connect(&server)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "those that ended are counted still");
        std::thread::sleep(Duration::from_millis(10));
    }
    let server = start_with(|config, _| {
        config.limits.connections_per_address = 1;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let held: Vec<TcpStream> = (0..5).map(|_| connect(&server)).collect();
    assert!(held.iter().all(lives), "a trusted proxy comes for many");
}

/// A caller that asks for much and takes nothing of it holds no place for ever.
#[test]
fn who_takes_nothing_is_given_up() {
    let server = start_with(|config, _| {
        config.limits.write_timeout = Duration::from_millis(300);
        config.limits.connections_per_address = 1;
    });
    takes_nothing_and_is_given_up(&server);
}

/// Of a server that takes one connection of an address.
fn takes_nothing_and_is_given_up(server: &Running) {
    let mut slow = connect(server);
    // Requests whose answers fill every buffer in between.
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    slow.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    for _ in 0..1_000 {
        if slow.write_all(request).is_err() {
            break;
        }
    }
    let begun = Instant::now();
    while !lives(&connect(server)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it holds its place");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a reload changes.
fn reloaded(server: &Running, change: impl FnOnce(&mut Limits)) {
    let mut config = ServerConfig::new(server.data_dir());
    config.auth.enabled = false;
    change(&mut config.limits);
    server.server.reload(&config).unwrap();
}

/// Whether the other side has closed within a while.
fn closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // With or without an answer that says so.
    let ended = stream.read_to_end(&mut Vec::new());
    !ended.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn limits_change_while_requests_are_answered() {
    let server = start();
    let long = format!("{QUESTION}&subject_prefix={}", "a".repeat(2_000));
    let import = |server: &Running| {
        let mut line = claim("long");
        line["kind"] = json!("assertion");
        line["note"] = json!("a".repeat(70_000));
        server.import(&(line.to_string() + "\n"))[0]["error"]["code"].clone()
    };
    let body = json!({"keys": [{"subject": "s", "predicate": "p"}], "note": "a".repeat(70_000)});
    let behind = |server: &Running| {
        let begun = Instant::now();
        let answer = server.get(&format!("{QUESTION}&at_least=1000"));
        assert_eq!(code(&answer).0, 409, "{answer:?}");
        begun.elapsed()
    };
    assert_ne!(code(&server.post("/v1/resolve", &body)).0, 413);
    assert_ne!(code(&server.get(&long)).1, "uri_too_long");
    assert_ne!(import(&server), json!("body_too_large"));
    assert!(behind(&server) < Duration::from_millis(900));
    reloaded(&server, |limits| {
        limits.uri_bytes = 1_024;
        limits.body_bytes = 65_536;
        limits.line_bytes = 65_536;
        limits.at_least_timeout = Duration::from_millis(1_000);
    });
    assert_eq!(code(&server.get(&long)), (414, "uri_too_long".into()));
    assert_eq!(code(&server.post("/v1/resolve", &body)), (413, "body_too_large".into()));
    assert_eq!(import(&server), json!("body_too_large"));
    assert!(behind(&server) >= Duration::from_millis(1_000));
    // What was wrong changes nothing.
    let mut wrong = ServerConfig::new(server.data_dir());
    wrong.limits.requests = 0;
    assert!(server.server.reload(&wrong).unwrap_err().contains("limits.requests"));
    assert_eq!(code(&server.get(&long)).0, 414);
    // Of connections that come from now on.
    reloaded(&server, |limits| limits.head_timeout = Duration::from_millis(200));
    assert!(closed(&mut connect(&server)), "it sends no head, and is not given up");
}

#[test]
fn how_many_at_once_changes_while_there_are_some() {
    let server = start_with(|config, _| config.limits.connections = 3);
    let held: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
    assert!(held.iter().all(lives));
    let fourth = connect(&server);
    fourth.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(!lives(&fourth), "it waits for its turn");
    reloaded(&server, |limits| limits.connections = 4);
    // Its request is answered now.
    fourth.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!((&fourth).read(&mut [0; 512]).unwrap() > 0);

    reloaded(&server, |limits| limits.connections_per_address = 4);
    assert!(!lives(&connect(&server)), "a fifth of one address");
    reloaded(&server, |limits| limits.connections_per_address = 5);
    assert!(lives(&connect(&server)));
    reloaded(&server, |_| ());

    let follow = || {
        let mut stream = connect(&server);
        stream
            .write_all(
                b"GET /v1/feed HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
            )
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        (stream, String::from_utf8_lossy(&answer[9..]).into_owned())
    };
    let (first, status) = follow();
    assert_eq!(status, "200");
    reloaded(&server, |limits| limits.feeds = 1);
    assert_eq!(follow().1, "503");
    reloaded(&server, |limits| limits.feeds = 2);
    assert_eq!(follow().1, "200");
    drop(first);
    // Else the end of the server waits until it would speak on the feeds.
    server.engine.drain(Duration::from_secs(5));
}

/// Sends the head of a request whose body is to come, and the first byte of that.
fn begin(server: &Running, path: &str, kind: &str) -> TcpStream {
    begin_with(server, path, kind, "")
}

fn begin_with(server: &Running, path: &str, kind: &str, headers: &str) -> TcpStream {
    let mut stream = connect(server);
    let body = format!("Content-Type: {kind}\r\n{headers}Content-Length: 100");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{body}\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Asks until it is answered so: what was sent before may be on its way yet.
fn comes_to(expected: (u16, &str), ask: impl Fn() -> Answer) {
    let begun = Instant::now();
    loop {
        let (status, found) = code(&ask());
        if (status, found.as_str()) == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{status} {found}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sizes_places_and_times_change_while_requests_are_answered() {
    let server = start();
    let long = "a".repeat(10_000);
    let headed = || server.get_with(QUESTION, &[("X-Long", long.as_str())]);
    let lines = "\n".repeat(1_200_000);
    let import =
        || server.send("POST", "/v1/import", "application/x-ndjson", lines.as_bytes(), &[]).text;
    let keys: Vec<Value> =
        (0..1_000).map(|n| json!({"subject": format!("s/{n}"), "predicate": "p"})).collect();
    let many = json!({"keys": keys, "lenses": vec!["authority"; 16]});
    assert_eq!(headed().status, 200);
    assert!(!import().contains("body_too_large"));
    assert_eq!(server.post("/v1/resolve", &many).status, 200);
    reloaded(&server, |limits| {
        limits.head_bytes = 8_192;
        limits.import_bytes = 1 << 20;
        limits.request_timeout = Duration::from_millis(1);
    });
    assert_eq!(code(&headed()), (431, "headers_too_large".into()));
    assert!(import().contains("body_too_large"));
    assert_eq!(code(&server.post("/v1/resolve", &many)), (504, "deadline_exceeded".into()));

    // One is under way, which its answer tells, and takes the only place.
    reloaded(&server, |_| ());
    let mut import = begin(&server, "/v1/import", "application/x-ndjson");
    let mut answer = [0; 12];
    import.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[9..], b"200");
    reloaded(&server, |limits| limits.streams = 1);
    let export = || server.get("/v1/export");
    assert_eq!(code(&export()), (503, "overloaded".into()));
    // This one asks whether its body is wanted, and is told so when it has its place.
    let expecting = "Expect: 100-continue\r\n";
    let mut assert = begin_with(&server, "/v1/assert", "application/json", expecting);
    assert.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[9..], b"100");
    reloaded(&server, |limits| limits.requests = 1);
    comes_to((503, "overloaded"), || server.get(QUESTION));
    reloaded(&server, |_| ());
    assert_eq!((export().status, server.get(QUESTION).status), (200, 200));
    drop((import, assert));

    reloaded(&server, |limits| limits.body_timeout = Duration::from_millis(100));
    begin(&server, "/v1/assert", "application/json").read_exact(&mut answer).unwrap();
    assert_eq!(&answer[9..], b"408");
}

/// As [`who_takes_nothing_is_given_up`], on connections that come after the reload.
#[test]
fn how_long_a_caller_may_take_nothing_changes() {
    let server = start();
    reloaded(&server, |limits| {
        limits.write_timeout = Duration::from_millis(300);
        limits.connections_per_address = 1;
    });
    takes_nothing_and_is_given_up(&server);
}

#[test]
fn an_answer_root_is_not_bound_by_the_time_of_a_request() {
    let server = start_with(|_, _| ());
    let mut lines = String::new();
    for n in 0..2_000 {
        let line = json!({
            "kind": "assertion", "subject": format!("s/{n}"), "predicate": "p", "object": n, "at": 1,
        });
        lines += &format!("{line}\n");
    }
    assert_eq!(server.import(&lines).len(), 2_001);
    // Every key is answered for it, which takes longer.
    reloaded(&server, |limits| limits.request_timeout = Duration::from_millis(1));
    let root = server.get("/v1/admin/root");
    assert_eq!(root.status, 200, "{}", root.text);
    assert_eq!(root.json()["keys"], 2_000);
}
