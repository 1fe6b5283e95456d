//! Import and export.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Running, start, start_with};

fn line(n: u64) -> String {
    json!({"kind": "assertion", "subject": format!("s/{n}"), "predicate": "p", "object": n, "at": n})
        .to_string()
}

fn summary(lines: &[Value]) -> &Value {
    let last = lines.last().unwrap();
    assert_eq!(last["done"], true, "{last}");
    last
}

#[test]
fn an_import_answers_line_by_line_and_is_resumed_by_sending_it_again() {
    let server = start();
    let body: String = (0..1000).map(|n| line(n) + "\n").collect();
    let first = server.import(&body[..body.len() / 2]);
    // The cut line is an error, the ones before it are in.
    let made = summary(&first)["created"].as_u64().unwrap();
    assert!(made > 400);
    assert_eq!(summary(&first)["errors"], 1);
    let second = server.import(&body);
    assert_eq!(second.len(), 1001);
    for (index, line) in second[..1000].iter().enumerate() {
        assert_eq!(line["line"], index + 1);
        let expected = if (index as u64) < made { "exists" } else { "created" };
        assert_eq!(line["status"], expected, "{line}");
    }
    for (before, after) in first.iter().zip(&second).take(made as usize) {
        for same in ["id", "position", "recorded_at"] {
            assert_eq!(before[same], after[same]);
        }
    }
    let counts = summary(&second);
    assert_eq!(counts["lines"], 1000);
    assert_eq!(counts["exists"], made);
    assert_eq!(counts["created"], 1000 - made);
    assert_eq!(counts.get("stopped"), None);
    let third = server.import(&body);
    assert_eq!(summary(&third)["exists"], 1000);
}

#[test]
fn broken_lines_are_errors_of_their_own() {
    let server = start_with(|config, _| config.limits.line_bytes = 64 << 10);
    let long = "x".repeat(70_000);
    let lines = [
        line(1),
        "not json".into(),
        String::new(),
        r#"{"kind":"assertion","subject":"s"}"#.into(),
        r#"{"subject":"s","predicate":"p","object":1,"at":1}"#.into(),
        json!({"kind": "assertion", "subject": "s", "predicate": "p", "object": 1}).to_string(),
        long,
        "\u{0}".into(),
        line(2),
        json!({"kind": "vote", "assertion": "ab".repeat(32), "weight": 1, "at": 1}).to_string(),
        line(3),
    ];
    let results = server.import(&lines.join("\n"));
    let found: Vec<(u64, &str, &str)> = results[..results.len() - 1]
        .iter()
        .map(|one| {
            let code = one["error"]["code"].as_str().unwrap_or("");
            (one["line"].as_u64().unwrap(), one["status"].as_str().unwrap(), code)
        })
        .collect();
    assert_eq!(
        found,
        [
            (1, "created", ""),
            (2, "error", "malformed_json"),
            (4, "error", "invalid_field"),
            (5, "error", "invalid_field"),
            (6, "error", "invalid_field"),
            (7, "error", "body_too_large"),
            (8, "error", "malformed_json"),
            (9, "created", ""),
            (10, "error", "unknown_reference"),
            (11, "created", ""),
        ]
    );
    assert_eq!(results[2]["error"]["field"], "predicate");
    assert_eq!(results[3]["error"]["field"], "kind");
    assert_eq!(results[4]["error"]["field"], "at");
    let counts = summary(&results);
    assert_eq!((&counts["lines"], &counts["created"]), (&json!(11), &json!(3)));
    assert_eq!((&counts["errors"], &counts["exists"]), (&json!(7), &json!(0)));
}

#[test]
fn a_line_may_refer_to_the_one_before() {
    let server = start();
    let claim = server.import(&line(1));
    let id = claim[0]["id"].as_str().unwrap().to_owned();
    // A second database does not know the claim yet; both lines come in one import.
    let other = start();
    let vote = json!({"kind": "vote", "assertion": id, "weight": 1, "at": 5});
    let agent = other.get_json("/v1/health")["custodial_agent"].clone();
    let cosign =
        json!({"kind": "assertion", "subject": "t", "predicate": "p", "object": 1, "at": 1});
    assert_ne!(agent, Value::Null);
    let first = other.import(&cosign.to_string());
    let known = first[0]["id"].as_str().unwrap();
    let lines = [
        line(2),
        json!({"kind": "vote", "assertion": known, "weight": 1, "at": 5}).to_string(),
        vote.to_string(),
    ];
    let results = other.import(&lines.join("\n"));
    assert_eq!(results[1]["status"], "created", "{}", results[1]);
    assert_eq!(results[2]["error"]["code"], "unknown_reference");
}

#[test]
fn packed_imports_are_unpacked_and_cut_ones_are_said_to_be() {
    let server = start();
    let body: String = (0..300).map(|n| line(n) + "\n").collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let gzip = [("Content-Encoding", "gzip")];
    let cut = &packed[..packed.len() / 2];
    let answer = server.send("POST", "/v1/import", "application/x-ndjson", cut, &gzip);
    assert_eq!(answer.status, 200);
    let lines = answer.lines();
    assert_eq!(summary(&lines)["stopped"]["code"], "invalid_body", "{:?}", lines.last());
    let answer =
        server.send("POST", "/v1/import?results=errors", "application/x-ndjson", &packed, &gzip);
    let lines = answer.lines();
    assert_eq!(lines.len(), 1, "only the summary: {lines:?}");
    assert_eq!(summary(&lines)["lines"], 300);
    assert_eq!(summary(&lines)["errors"], 0);
}

#[test]
fn an_import_over_the_limit_stops_and_says_so() {
    let server = start_with(|config, _| config.limits.import_bytes = 1 << 20);
    let body = "\n".repeat((1 << 20) + 1);
    let lines = server.import(&body);
    assert_eq!(summary(&lines)["stopped"]["code"], "body_too_large");
    let body: String = (0..2).map(|n| line(n) + "\n").collect::<String>() + &"\n".repeat(1 << 19);
    assert_eq!(summary(&server.import(&body)).get("stopped"), None);
}

/// One connection, results read while lines are sent: each line's result comes before the next
/// line is written.
#[test]
fn results_come_while_the_body_still_does() {
    let server = start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
        .write_all(
            b"POST /v1/import HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
              Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for n in 0..3 {
        let text = line(n) + "\n";
        stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
        let mut found = String::new();
        while !found.contains("\"position\"") {
            let mut one = String::new();
            assert_ne!(reader.read_line(&mut one).unwrap(), 0, "{found}");
            found.push_str(&one);
        }
        assert!(found.contains(&format!("{{\"line\":{}", n + 1)), "{found}");
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"done\":true"), "{rest}");
}

#[test]
fn an_import_stops_when_the_log_does() {
    let server = start();
    (server.breaker)(0);
    let body: String = (0..5000).map(|n| line(n) + "\n").collect();
    let lines = server.import(&body);
    let counts = summary(&lines);
    assert_eq!(counts["stopped"]["code"], "wal_unavailable", "{counts}");
    assert_eq!(counts["created"], 0);
    assert_eq!(lines[0]["error"]["code"], "wal_unavailable");
    assert!(lines[0]["error"]["outcome"] == "indeterminate", "{}", lines[0]);
}

fn export(server: &Running, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v1/export{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.lines()
}

#[test]
fn an_export_is_what_an_import_takes() {
    let server = start();
    let body: String = (0..600).map(|n| line(n) + "\n").collect();
    server.import(&body);
    let (gone, _) = server.claim(json!({"subject": "x", "predicate": "p", "object": 1, "at": 1}));
    server.post("/v1/vote", &json!({"assertion": gone, "weight": 1, "at": 1}));
    server.post("/v1/retract", &json!({"record": gone, "at": 1}));
    let all = export(&server, "?live=false");
    let live = export(&server, "");
    // Genesis, the custodial agent, 600 claims, one more, its vote, its retraction.
    assert_eq!(all.len(), 605);
    let positions: Vec<u64> = all.iter().map(|one| one["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=605).collect::<Vec<_>>());
    assert_eq!(live.len(), 602);
    assert_eq!(export(&server, "?live=false&after=600").len(), 5);
    assert_eq!(export(&server, "?live=false&as_of=2").len(), 2);
    assert_eq!(export(&server, "?space=other").len(), 0);

    let lines: Vec<String> = all.iter().map(Value::to_string).collect();
    let again = server.import(&lines.join("\n"));
    assert_eq!(summary(&again)["exists"], 605, "{:?}", again.last());
    // Claims mean the same in every database, whoever signed them.
    let other = start();
    let claims: Vec<String> = live
        .iter()
        .filter(|one| one["record"]["kind"] == "assertion")
        .map(Value::to_string)
        .collect();
    let moved = other.import(&claims.join("\n"));
    assert_eq!(summary(&moved)["created"], 600, "{:?}", moved.last());
    assert_eq!(moved[0]["id"], live[2]["record"]["id"]);
}

/// A reader that is slow keeps no state of the index: neither its files nor what is written meanwhile.
#[test]
fn an_export_goes_on_with_the_index_that_takes_the_place_of_its_own() {
    let server = start();
    let long = "x".repeat(4 << 10);
    let line = |n: u64| {
        let claim = json!({"kind": "assertion", "subject": format!("s/{n}"), "predicate": "p",
            "object": long, "at": n});
        claim.to_string() + "\n"
    };
    // More than is on its way between two ends of a connection.
    const CLAIMS: u64 = 6_000;
    for from in (0..CLAIMS).step_by(1_000) {
        let lines = server.import(&(from..from + 1_000).map(line).collect::<String>());
        assert_eq!(summary(&lines)["created"], 1_000);
    }
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request =
        b"GET /v1/export?live=false HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut reader = BufReader::new(stream);
    let mut lines = 0;
    let mut read = |most: usize| {
        let mut line = String::new();
        while lines < most && reader.read_line(&mut line).unwrap() > 0 {
            lines += usize::from(line.starts_with('{'));
            line.clear();
        }
        lines
    };
    assert_eq!(read(1), 1);
    server.claim(json!({"subject": "later", "predicate": "p", "object": 1, "at": 1}));
    assert_eq!(server.post("/v1/admin/reindex", &Value::Null).status, 202);
    let index = server.data_dir().join("index");
    let is_old_there = || index.join("keyspaces").exists();
    let new_in_use = || server.get_json("/v1/admin/node")["rebuild"]["state"] == "done";
    assert!(within(Duration::from_secs(60), new_in_use));
    assert!(is_old_there(), "the export reads from it");
    // The pieces that wait are sent, and the next is read from the new one.
    assert_eq!(read(1_000), 1_000);
    assert!(within(Duration::from_secs(20), || !is_old_there()));
    // Genesis and the custodial agent too; what came later not.
    assert_eq!(read(usize::MAX), CLAIMS as usize + 2);
}

#[expect(clippy::disallowed_methods, reason = "it waits for another thread")]
fn within(time: Duration, is_so: impl Fn() -> bool) -> bool {
    let began = std::time::Instant::now();
    while !is_so() {
        if began.elapsed() > time {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Contradicting claims both come out, neither as a fact; what does not count stays out.
#[test]
fn an_export_is_quads_for_graph_stores() {
    let server = start();
    let claim = |object: Value, at| {
        server.claim(json!({"subject": "a b", "predicate": "p", "object": object, "at": at}))
    };
    let (gone, _) = claim(json!("gone"), 1);
    server.post("/v1/retract", &json!({"record": gone, "at": 1}));
    let (kept, position) = claim(json!({"type": "number", "value": 47e6, "unit": "USD"}), 2);
    let body: String = (0..300).map(|n| line(n) + "\n").collect();
    server.import(&body);
    let quads = |query: &str| {
        let answer = server.get(&format!("/v1/export?format=nquads{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/n-quads"));
        assert_eq!(answer.header("stemedb-snapshot").map(str::len), Some(48));
        answer.text
    };
    let live = quads("");
    let log_id = "1d".repeat(16);
    let expected = format!(
        "<urn:stemedb:record:{kept}> <http://www.w3.org/1999/02/22-rdf-syntax-ns#reifies> \
         <<( <urn:stemedb:subject:default:a%20b> <urn:stemedb:predicate:default:p> \
         \"4.7E7\"^^<urn:stemedb:unit:USD> )>> <urn:stemedb:graph:{log_id}:default> ."
    );
    assert!(live.lines().any(|line| line == expected), "{live}");
    assert!(!live.contains(&gone));
    let claims = |text: &str| text.matches("#reifies>").count();
    assert_eq!(claims(&live), 301);
    let all = quads("&live=false");
    assert_eq!(claims(&all), 302);
    assert!(all.lines().all(|line| line.starts_with("<urn:stemedb:record:")));
    assert_eq!(claims(&quads(&format!("&after={position}"))), 300);
    assert_eq!(quads("&space=other"), "");
}

#[test]
fn counters_stand_at_zero_and_count() {
    let server = start();
    let value = |line: &str| {
        let text = server.get("/metrics").text;
        let found = text
            .lines()
            .find(|one| one.strip_prefix(line).is_some_and(|rest| rest.starts_with(' ')));
        found
            .unwrap_or_else(|| panic!("no {line} in {text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let created =
        r#"stemedb_http_requests_total{endpoint="/v1/assert",method="POST",status="201"}"#;
    let failed = r#"stemedb_http_requests_total{endpoint="/v1/assert",method="POST",status="500"}"#;
    let asked = r#"stemedb_queries_total{endpoint="/v1/query",lens="recency"}"#;
    let shown =
        r#"stemedb_http_requests_total{endpoint="/v1/records/{id}",method="GET",status="200"}"#;
    for zero in [
        created,
        failed,
        asked,
        shown,
        r#"stemedb_queries_total{endpoint="/v1/resolve",lens="layered"}"#,
        r#"stemedb_requests_rejected_total{reason="queue_full"}"#,
        r#"stemedb_requests_rejected_total{reason="body_too_large"}"#,
        r#"stemedb_records_total{kind="vote"}"#,
    ] {
        assert_eq!(value(zero), "0", "{zero}");
    }
    let (id, _) = server.claim(json!({"subject": "s", "predicate": "p", "object": 1, "at": 1}));
    server.get(&format!("/v1/records/{id}"));
    server.get("/v1/query?subject=s&predicate=p&lens=recency");
    server.post("/v1/assert", &json!({"subject": "s"}));
    assert_eq!(value(created), "1");
    assert_eq!(value(failed), "0");
    assert_eq!(value(asked), "1");
    assert_eq!(value(shown), "1");
    assert_eq!(value(r#"stemedb_requests_rejected_total{reason="invalid_field"}"#), "1");
    assert_eq!(value(r#"stemedb_http_request_duration_seconds_count{endpoint="/v1/assert"}"#), "2");
    for step in ["parse", "verify", "commit"] {
        let count = format!("stemedb_write_step_duration_seconds_count{{step={step:?}}}");
        assert_eq!(value(&count), "1", "{step}");
    }
    assert_eq!(value(r#"stemedb_query_latency_seconds_count{endpoint="/v1/query"}"#), "1");
    // The scrape itself.
    assert_eq!(value("stemedb_http_in_flight"), "1");
    assert_eq!(
        value(&format!(
            r#"stemedb_build_info{{version="{}",commit="unknown"}}"#,
            env!("CARGO_PKG_VERSION")
        )),
        "1"
    );
    assert_ne!(value("process_resident_memory_bytes"), "0");
    // Ids are no labels, and what has no route is one endpoint.
    server.get("/no/such/path");
    let text = server.get("/metrics").text;
    assert!(!text.contains(&id) && !text.contains("/no/such/path"));
    assert!(text.contains(r#"endpoint="other""#));
}
