//! Everything that callers can do wrong, over real HTTP.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for a real server"
)]

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Answer, Running, read_answer, start, start_with};

const AT: &str = "2024-07-01T00:00:00Z";

/// Checks that an answer is a problem document in all its parts.
fn is_problem(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{what}: {}", answer.text);
    assert_eq!(problem["type"], format!("urn:stemedb:error:{code}"), "{what}");
    assert_eq!(problem["status"], status, "{what}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{what}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}");
    assert!(problem["retryable"].is_boolean(), "{what}");
    assert_eq!(answer.header("retry-after").is_some(), status == 503 || code == "position_ahead");
}

/// A request as bytes; `Connection: close` so that the answer ends.
fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        out.push_str("Host: localhost\r\n");
    }
    if !body.is_empty() {
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for header in headers {
        out.push_str(header);
        out.push_str("\r\n");
    }
    let mut out = (out + "\r\n").into_bytes();
    out.extend_from_slice(body);
    out
}

const JSON: &str = "Content-Type: application/json";

#[test]
fn bodies() {
    let server = start();
    let hex64 = "ab".repeat(32);
    let claim = |fields: &str| format!(r#"{{"subject":"s","predicate":"p","at":1,{fields}}}"#);
    let subject =
        |text: &str| json!({"subject": text, "predicate": "p", "object": 1, "at": 1}).to_string();
    let object =
        |text: &str| json!({"subject": "s", "predicate": "p", "object": text, "at": 1}).to_string();
    let uri =
        |len: usize| claim(&format!(r#""object":1,"source":{{"uri":"{}"}}"#, "u".repeat(len)));
    let meta = |pairs: usize| {
        let pairs: Vec<String> = (0..pairs).map(|n| format!(r#""k{n}":"v""#)).collect();
        claim(&format!(r#""object":1,"meta":{{{}}}"#, pairs.join(",")))
    };
    let far = i64::MAX;
    // Path, body, expected status, code, and what the detail names.
    let table: Vec<(&str, String, u16, &str, &str)> = vec![
        ("/v1/assert", "".into(), 400, "malformed_json", "EOF"),
        ("/v1/assert", "{".into(), 400, "malformed_json", "EOF"),
        ("/v1/assert", "not json".into(), 400, "malformed_json", "expected"),
        ("/v1/assert", claim(r#""object":NaN"#), 400, "malformed_json", "expected"),
        ("/v1/assert", claim(r#""object":Infinity"#), 400, "malformed_json", "expected"),
        ("/v1/assert", claim(r#""object":-Infinity"#), 400, "malformed_json", "number"),
        ("/v1/assert", claim(r#""object":1e999"#), 400, "invalid_field", "too large"),
        ("/v1/assert", claim(r#""object":9007199254740992"#), 201, "", ""),
        ("/v1/assert", claim(r#""object":9007199254740993"#), 400, "invalid_field", "object"),
        ("/v1/assert", "[]".into(), 400, "invalid_field", "not a JSON object"),
        ("/v1/assert", "null".into(), 400, "invalid_field", "not a JSON object"),
        ("/v1/assert", claim(r#""object":1,"colour":1"#), 400, "invalid_field", "colour"),
        ("/v1/assert", claim(r#""object":1,"object":2"#), 400, "invalid_field", "object"),
        ("/v1/assert", claim(r#""confidence":1"#), 400, "invalid_field", "object: is missing"),
        ("/v1/assert", claim(r#""object":1,"kind":"vote""#), 400, "invalid_field", "kind"),
        ("/v1/assert", subject(""), 400, "invalid_field", "subject"),
        ("/v1/assert", subject("x"), 201, "", ""),
        ("/v1/assert", subject(&"x".repeat(512)), 201, "", ""),
        ("/v1/assert", subject(&"x".repeat(513)), 400, "invalid_field", "1 to 512"),
        // 256 times two bytes fits; the limit is of bytes, not characters.
        ("/v1/assert", subject(&"é".repeat(256)), 201, "", ""),
        ("/v1/assert", subject(&"é".repeat(257)), 400, "invalid_field", "1 to 512"),
        ("/v1/assert", subject("a\u{7}"), 400, "invalid_field", "U+0007"),
        ("/v1/assert", subject("e\u{301}"), 400, "invalid_field", "Normalization Form C"),
        ("/v1/assert", object(&"x".repeat(64 << 10)), 201, "", ""),
        ("/v1/assert", object(&"x".repeat((64 << 10) + 1)), 400, "invalid_field", "object.value"),
        ("/v1/assert", uri(2048), 201, "", ""),
        ("/v1/assert", uri(2049), 400, "invalid_field", "source.uri"),
        ("/v1/assert", meta(32), 201, "", ""),
        ("/v1/assert", meta(33), 400, "invalid_field", "meta"),
        ("/v1/assert", claim(r#""object":1,"confidence":0"#), 201, "", ""),
        (
            "/v1/assert",
            claim(r#""object":1,"confidence":1.0000001"#),
            400,
            "invalid_field",
            "0 to 1",
        ),
        ("/v1/assert", claim(r#""object":1,"confidence":-0.1"#), 400, "invalid_field", "0 to 1"),
        ("/v1/assert", claim(r#""object":1,"space":"No Space""#), 400, "invalid_field", "space"),
        (
            "/v1/assert",
            claim(r#""object":1,"valid_from":5,"valid_to":5"#),
            400,
            "invalid_field",
            "valid_to",
        ),
        (
            "/v1/assert",
            format!(r#"{{"subject":"s","predicate":"p","object":1,"at":{far}}}"#),
            400,
            "at_ahead",
            "5 minutes",
        ),
        (
            "/v1/assert",
            claim(&format!(r#""object":1,"id":"{hex64}""#)),
            400,
            "id_mismatch",
            "hashes to",
        ),
        (
            "/v1/assert",
            claim(&format!(r#""object":1,"agent":"{hex64}","signature":"{}""#, "cd".repeat(64))),
            401,
            "bad_signature",
            "signature",
        ),
        (
            "/v1/assert",
            claim(&format!(r#""object":1,"parent":"{hex64}""#)),
            409,
            "unknown_reference",
            "parent",
        ),
        (
            "/v1/vote",
            format!(r#"{{"assertion":"{hex64}","weight":1,"at":1}}"#),
            409,
            "unknown_reference",
            "assertion",
        ),
        (
            "/v1/vote",
            format!(r#"{{"assertion":"{hex64}","weight":1.5,"at":1}}"#),
            400,
            "invalid_field",
            "weight",
        ),
        (
            "/v1/vote",
            format!(
                r#"{{"assertion":"{hex64}","weight":1,"at":1,"log_id":"{}"}}"#,
                "00".repeat(16)
            ),
            409,
            "wrong_log",
            "log_id",
        ),
        (
            "/v1/agent",
            format!(r#"{{"key":"{hex64}","ceiling":"expert","at":1}}"#),
            403,
            "forbidden",
            "registrar",
        ),
        ("/v1/resolve", r#"{"keys":[]}"#.into(), 400, "invalid_field", "1 to 1000"),
        (
            "/v1/resolve",
            r#"{"keys":[{"subject":"","predicate":"p"}]}"#.into(),
            400,
            "invalid_field",
            "keys[0].subject",
        ),
        (
            "/v1/resolve",
            json!({"keys": vec![json!({"subject": "s", "predicate": "p"}); 1000]}).to_string(),
            200,
            "",
            "",
        ),
        (
            "/v1/resolve",
            json!({"keys": vec![json!({"subject": "s", "predicate": "p"}); 1001]}).to_string(),
            400,
            "invalid_field",
            "1001 items",
        ),
        (
            "/v1/resolve",
            json!({"keys": [{"subject": "s", "predicate": "p"}], "lenses": vec!["recency"; 17]})
                .to_string(),
            400,
            "invalid_field",
            "17 items",
        ),
        (
            "/v1/resolve",
            r#"{"keys":[{"subject":"s","predicate":"p"}],"lenses":["best"]}"#.into(),
            404,
            "lens_not_found",
            "there is no lens \"best\" here; there are recency, consensus",
        ),
        (
            "/v1/resolve",
            r#"{"keys":[{"subject":"s","predicate":"p"}],"tiers":[6]}"#.into(),
            400,
            "invalid_field",
            "tiers[0]",
        ),
    ];
    for (path, body, status, code, names) in table {
        let what = format!("{path} {}", body.chars().take(200).collect::<String>());
        let answer = server.send("POST", path, "application/json", body.as_bytes(), &[]);
        if status < 300 {
            assert_eq!(answer.status, status, "{what}: {}", answer.text);
            continue;
        }
        is_problem(&answer, status, code, &what);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(names), "{what}: {detail}");
    }
}

#[test]
fn a_cycle_is_refused() {
    let server = start();
    let claim = |n: u32| {
        let body = json!({"subject": format!("s{n}"), "predicate": "p", "object": n, "at": AT});
        server.claim(body).0
    };
    let (a, b, c) = (claim(1), claim(2), claim(3));
    let supersede = |old: &str, new: &str| {
        server.post("/v1/supersede", &json!({"old": old, "new": new, "at": AT}))
    };
    assert_eq!(supersede(&a, &b).status, 201);
    assert_eq!(supersede(&b, &c).status, 201);
    is_problem(&supersede(&c, &a), 409, "cycle", "c by a");
    is_problem(&supersede(&a, &a), 400, "invalid_field", "a by a");
}

#[test]
fn parameters() {
    let server = start();
    let key = "subject=s&predicate=p&lens=recency";
    for (path, code, names) in [
        ("/v1/query?colour=red".to_owned(), "invalid_parameter", "colour"),
        ("/v1/query?subject=a&subject=b".into(), "invalid_parameter", "subject"),
        ("/v1/query?subject=".into(), "invalid_parameter", "1 to 512"),
        (format!("/v1/query?subject={}", "x".repeat(513)), "invalid_parameter", "1 to 512"),
        ("/v1/query?limit=0".into(), "invalid_parameter", "1 to 1000"),
        ("/v1/query?limit=1001".into(), "invalid_parameter", "1 to 1000"),
        ("/v1/query?limit=x".into(), "invalid_parameter", "limit"),
        ("/v1/query?cursor=zz".into(), "invalid_parameter", "cursor"),
        ("/v1/query?decay=per_class".into(), "invalid_parameter", "needs a lens"),
        (format!("/v1/query?{key}&epoch={}", "ab".repeat(32)), "invalid_parameter", "epoch"),
        (format!("/v1/query?{key}&decay=0"), "invalid_parameter", "decay"),
        (format!("/v1/query?{key}&decay=fast"), "invalid_parameter", "per_class"),
        (format!("/v1/query?{key}&min_confidence=2"), "invalid_parameter", "0 to 1"),
        (format!("/v1/query?{key}&min_confidence=NaN"), "invalid_parameter", "0 to 1"),
        (format!("/v1/query?{key}&tiers=1,6"), "invalid_parameter", "0 to 5"),
        (format!("/v1/query?{key}&lifecycle=gone"), "invalid_parameter", "proposed"),
        (format!("/v1/query?{key}&agent=ab"), "invalid_parameter", "64 hex digits"),
        (format!("/v1/query?{key}&valid_at=tomorrow"), "invalid_parameter", "RFC 3339"),
        (format!("/v1/query?{key}&as_of=soon"), "invalid_parameter", "as_of"),
        (format!("/v1/query?{key}&as_of=9999-01-01T00:00:00Z"), "invalid_parameter", "as_of"),
        (format!("/v1/query?{key}&epoch_aware=maybe"), "invalid_parameter", "epoch_aware"),
        (format!("/v1/query?{key}&space=A"), "invalid_parameter", "space"),
        ("/v1/skeptic?subject=s".into(), "invalid_parameter", "predicate"),
        ("/v1/layered".into(), "invalid_parameter", "subject"),
        ("/v1/records/xyz".into(), "invalid_parameter", "id"),
        ("/v1/records/%ff".into(), "invalid_parameter", "id"),
        (format!("/v1/records/{}?x=1", "ab".repeat(32)), "invalid_parameter", "x"),
        ("/v1/positions/xyz".into(), "invalid_parameter", "position"),
        ("/v1/positions/-1".into(), "invalid_parameter", "position"),
        ("/v1/positions/1?x=1".into(), "invalid_parameter", "x"),
        ("/v1/export?format=xml".into(), "invalid_parameter", "format"),
        ("/readyz?for=everything".into(), "invalid_parameter", "for"),
    ] {
        let answer = server.get(&path);
        is_problem(&answer, 400, code, &path);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(names), "{path}: {detail}");
    }
    is_problem(&server.get("/v1/query?lens=best"), 404, "lens_not_found", "an unknown lens");
    let absent = format!("/v1/records/{}", "ab".repeat(32));
    is_problem(&server.get(&absent), 404, "record_not_found", &absent);
    for position in [0, 999, u64::MAX] {
        let path = format!("/v1/positions/{position}");
        is_problem(&server.get(&path), 404, "record_not_found", &path);
    }
}

#[test]
fn methods_types_and_sizes() {
    let server = start();
    let long = |bytes: usize| format!("/v1/query?subject={}", "x".repeat(bytes - 18));
    let body = json!({"subject": "s", "predicate": "p", "object": 1, "at": 1}).to_string();
    let huge = format!(r#"{{"subject":"{}"}}"#, "x".repeat(3 << 20));
    let gzip = "Content-Encoding: gzip";
    let packed = gz(body.as_bytes());
    let bomb = gz(huge.as_bytes());
    assert!(bomb.len() < 64 << 10);
    let twice = format!("{JSON}\r\n{gzip}\r\n{gzip}");
    for (what, bytes, status, code) in [
        ("no route", request("GET", "/v2/assert", &[], b""), 404, "not_found"),
        ("no method", request("DELETE", "/v1/assert", &[], b""), 405, "method_not_allowed"),
        ("odd method", request("BREW", "/v1/assert", &[], b""), 405, "method_not_allowed"),
        ("get for post", request("GET", "/v1/resolve", &[], b""), 405, "method_not_allowed"),
        (
            "no type",
            request("POST", "/v1/assert", &[], body.as_bytes()),
            415,
            "unsupported_media_type",
        ),
        (
            "other type",
            request("POST", "/v1/assert", &["Content-Type: text/plain"], body.as_bytes()),
            415,
            "unsupported_media_type",
        ),
        (
            "import of json",
            request("POST", "/v1/import", &[JSON], body.as_bytes()),
            415,
            "unsupported_media_type",
        ),
        (
            "other packing",
            request("POST", "/v1/assert", &[JSON, "Content-Encoding: br"], body.as_bytes()),
            415,
            "unsupported_media_type",
        ),
        (
            "packed twice",
            request("POST", "/v1/assert", &[&twice], &packed),
            415,
            "unsupported_media_type",
        ),
        (
            "type with parameters",
            request(
                "POST",
                "/v1/assert",
                &["Content-Type: application/json; charset=utf-8"],
                body.as_bytes(),
            ),
            201,
            "",
        ),
        ("packed", request("POST", "/v1/assert", &[JSON, gzip], &packed), 200, ""),
        (
            "packed, cut",
            request("POST", "/v1/assert", &[JSON, gzip], &packed[..packed.len() - 6]),
            400,
            "invalid_body",
        ),
        ("not packed", request("POST", "/v1/assert", &[JSON, gzip], b"hello"), 400, "invalid_body"),
        ("bomb", request("POST", "/v1/assert", &[JSON, gzip], &bomb), 413, "body_too_large"),
        ("huge", request("POST", "/v1/assert", &[JSON], huge.as_bytes()), 413, "body_too_large"),
        ("url at the limit", request("GET", &long(8 << 10), &[], b""), 400, "invalid_parameter"),
        ("url over it", request("GET", &long((8 << 10) + 1), &[], b""), 414, "uri_too_long"),
    ] {
        let answer = server.raw(&bytes);
        if status < 300 {
            assert_eq!(answer.status, status, "{what}: {}", answer.text);
        } else {
            is_problem(&answer, status, code, what);
        }
    }
    let allow = server.raw(&request("DELETE", "/v1/assert", &[], b""));
    assert_eq!(allow.header("allow"), Some("POST"));
    let head = |kib: usize| format!("X-Long: {}", "x".repeat(kib << 10));
    let long = server.raw(&request("GET", "/livez", &[&head(33)], b""));
    is_problem(&long, 431, "headers_too_large", "head");
    // A head that is too long for the parser itself is answered before any route is known.
    assert_eq!(server.raw(&request("GET", "/livez", &[&head(200)], b"")).status, 431);
    assert_eq!(server.raw(b"hello\r\n\r\n").status, 400);
}

#[test]
fn only_this_machine_and_for_itself() {
    let server = start();
    for (header, refused) in [
        ("Host: localhost", false),
        ("Host: 127.0.0.1:18180", false),
        ("Host: [::1]", false),
        ("Host: evil.example", true),
        ("Host: 127.0.0.1.evil.example", true),
        ("Host:", true),
        ("Host: localhost\r\nHost: localhost", true),
        ("Forwarded: for=10.0.0.1", true),
        ("X-Forwarded-For: 10.0.0.1", true),
        ("X-Forwarded-Host: localhost", true),
        ("X-Real-IP: 127.0.0.1", true),
        ("Origin: http://localhost:3000", false),
        ("Origin: https://evil.example", true),
        ("Origin: null", true),
    ] {
        let answer = server.raw(&request("GET", "/livez", &[header], b""));
        if refused {
            is_problem(&answer, 403, "foreign_host", header);
        } else {
            assert_eq!(answer.status, 200, "{header}: {}", answer.text);
        }
    }
    let absolute =
        server.raw(&request("GET", "http://evil.example/livez", &["Host: localhost"], b""));
    is_problem(&absolute, 403, "foreign_host", "absolute URL");
    let nothing = server.raw(b"GET /livez HTTP/1.0\r\n\r\n");
    is_problem(&nothing, 403, "foreign_host", "no Host at all");
}

#[test]
fn slow_callers_are_given_up() {
    let server = start_with(|config, _| {
        config.limits.head_timeout = Duration::from_millis(300);
        config.limits.body_timeout = Duration::from_millis(300);
    });
    let began = Instant::now();
    let mut slow = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /v1/assert HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 100\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(b"{\"subject\"").unwrap();
    let answer = read_answer(&mut slow);
    is_problem(&answer, 408, "body_timeout", "slow body");
    // A head that never ends is nobody's request: the connection just closes.
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.write_all(b"GET /livez HTTP/1.1\r\nHost: local").unwrap();
    let answer = read_answer(&mut silent);
    assert!([0, 408].contains(&answer.status), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    // A body that ends before it is complete.
    let mut cut = TcpStream::connect(server.address).unwrap();
    cut.write_all(head.as_bytes()).unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    let answer = read_answer(&mut cut);
    assert!([0, 400].contains(&answer.status), "{answer:?}");
}

#[test]
fn too_many_at_once_are_told_so() {
    let server = start_with(|config, _| {
        config.limits.requests = 1;
        config.limits.body_timeout = Duration::from_secs(5);
    });
    let mut first = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /v1/assert HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}\r\nContent-Length: 2\r\n\r\n"
    );
    first.write_all(head.as_bytes()).unwrap();
    wait_for(&server, "stemedb_http_in_flight 2");
    let answer = server.get("/v1/health");
    is_problem(&answer, 503, "overloaded", "second");
    assert_eq!(server.get("/livez").status, 200);
    first.write_all(b"{}").unwrap();
    assert_eq!(read_answer(&mut first).status, 400);
    assert_eq!(server.get("/v1/health").status, 200);
    // A caller that goes away is not in flight any more.
    let mut gone = TcpStream::connect(server.address).unwrap();
    gone.write_all(head.as_bytes()).unwrap();
    wait_for(&server, "stemedb_http_in_flight 2");
    drop(gone);
    wait_for(&server, "stemedb_http_in_flight 1");
    assert_eq!(server.get("/v1/health").status, 200);
}

/// Tests of other threads have servers of their own, but nextest runs each test in a process of
/// its own, and so does this: the gauge counts this server and the scrape itself.
fn wait_for(server: &Running, line: &str) {
    for _ in 0..200 {
        if server.get("/metrics").text.lines().any(|found| found == line) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never saw {line}");
}

#[test]
fn a_write_that_comes_too_late_is_not_made() {
    let server = start_with(|config, _| config.limits.request_timeout = Duration::from_millis(1));
    // A body that is read and parsed takes no millisecond; one that waits in line does. Whatever
    // happens, the answer is one of the three that the contract has.
    let body = json!({"subject": "s", "predicate": "p", "object": "x".repeat(60_000), "at": 1});
    let answer = server.post("/v1/assert", &body);
    match answer.status {
        201 => {}
        504 => {
            is_problem(&answer, 504, "deadline_exceeded", "late");
            assert_eq!(answer.json()["outcome"], "not_written");
        }
        _ => {
            is_problem(&answer, 500, "outcome_unknown", "later");
            assert_eq!(answer.json()["outcome"], "indeterminate");
        }
    }
}

#[test]
fn a_full_queue_is_said() {
    // One record fills the queue; the rest of a burst is told so, or gets in.
    let server = start_with(|_, engine| {
        engine.queue_records_max = 1;
        engine.group_records_max = 1;
    });
    let mut refused = 0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let server = &server;
                scope.spawn(move || {
                    let mut refused = 0;
                    for n in 0..50 {
                        let body = json!({
                            "subject": format!("s{thread}"), "predicate": "p", "object": n, "at": n
                        });
                        let answer = server.post("/v1/assert", &body);
                        if answer.status != 201 {
                            is_problem(&answer, 503, "queue_full", "burst");
                            refused += 1;
                        }
                    }
                    refused
                })
            })
            .collect();
        for thread in threads {
            refused += thread.join().unwrap();
        }
    });
    assert!(refused > 0, "the queue was never full");
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An answer and the lines of the log about it can be put together.
#[test]
fn every_answer_names_its_request() {
    let server = start();
    let named = |path: &str, given: Option<&str>| {
        let headers: Vec<(&str, &str)> = given.map(|id| ("X-Request-Id", id)).into_iter().collect();
        let answer = server.get_with(path, &headers);
        answer.header("x-request-id").unwrap_or_else(|| panic!("{path}: {answer:?}")).to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/livez", "/v1/query", "/v1/nothing", "/v1/records/x", "/metrics"] {
        let id = named(path, None);
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(seen.insert(id), "{path}: there twice");
    }
    for id in ["a", "7f-3_x.y:9", &"x".repeat(64)] {
        assert_eq!(named("/livez", Some(id)), id);
    }
    for wrong in ["", "a b", "id\u{7e}", "a{id=1}", &"x".repeat(65)] {
        assert_ne!(named("/livez", Some(wrong)), wrong);
    }
}
