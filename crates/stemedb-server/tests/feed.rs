//! The feed: pages, and the stream that goes on.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for a real server"
)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Running, start, start_with};

fn claim(server: &Running, n: u64) -> (String, u64) {
    let subject = format!("feed/{}/{n}", n % 2);
    server.claim(json!({"subject": subject, "predicate": "p", "object": n, "at": n}))
}

fn positions(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["position"].as_u64().unwrap()).collect()
}

#[test]
fn pages_follow_one_another_whatever_is_filtered() {
    let server = start();
    // Genesis and the custodial agent are 1 and 2.
    for n in 0..20 {
        claim(&server, n);
    }
    let (voted, _) = claim(&server, 20);
    server.post("/v1/vote", &json!({"assertion": voted, "weight": 1, "at": 1}));
    for (filter, expected) in [
        ("", (1..=24).collect::<Vec<u64>>()),
        ("&kind=vote,genesis", vec![1, 24]),
        ("&subject_prefix=feed/1/", (4..=22).step_by(2).collect()),
        ("&subject=feed/0/4", vec![7]),
        ("&predicate=p&kind=assertion", (3..=23).collect()),
        ("&space=other", vec![]),
    ] {
        let (mut after, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let page = server.get(&format!("/v1/feed?after={after}&limit=7{filter}"));
            assert_eq!(page.status, 200, "{}", page.text);
            assert_eq!(page.header("content-type"), Some("application/x-ndjson"));
            let lines = page.lines();
            assert!(lines.len() <= 7, "{filter}: {}", lines.len());
            found.extend(positions(&lines));
            after = page.header("stemedb-snapshot").unwrap().to_owned();
            if page.header("stemedb-more") == Some("false") {
                break;
            }
        }
        assert_eq!(found, expected, "{filter}");
        let rest = server.get(&format!("/v1/feed?after={after}{filter}"));
        assert_eq!((rest.status, rest.text.as_str()), (200, ""), "{filter}");
    }
}

#[test]
fn what_cannot_be_gone_on_from_is_refused() {
    let server = start();
    let other_timeline = format!("{}{:016x}", "ab".repeat(16), 1);
    for (path, status, code) in [
        ("/v1/feed?after=3".to_owned(), 400, "invalid_parameter"),
        (format!("/v1/feed?after={other_timeline}"), 409, "wrong_timeline"),
        ("/v1/feed?after=x".to_owned(), 400, "invalid_parameter"),
        ("/v1/feed?kind=claim".to_owned(), 400, "invalid_parameter"),
        ("/v1/feed?limit=0".to_owned(), 400, "invalid_parameter"),
        ("/v1/feed?limit=1001".to_owned(), 400, "invalid_parameter"),
    ] {
        let answer = server.get(&path);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{path}");
    }
}

/// A stream of events under way.
struct Events(BufReader<TcpStream>);

impl Events {
    fn follow(server: &Running, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(
            stream,
            "GET /v1/feed{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
             Connection: close\r\n{last}\r\n"
        )
        .unwrap();
        let mut events = Self(BufReader::new(stream));
        let status = events.line().unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while !events.line().unwrap().is_empty() {}
        events
    }

    /// `None` at the end of the stream. Sizes of chunks come along as lines; nobody asks for them.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// The next record, with the id of its event.
    fn record(&mut self) -> Option<(String, Value)> {
        let (mut id, began) = (String::new(), Instant::now());
        loop {
            // A stream that has nothing to tell still says so now and then.
            assert!(began.elapsed() < Duration::from_secs(40), "no record comes");
            let line = self.line()?;
            if let Some(found) = line.strip_prefix("id: ") {
                found.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((id, serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[test]
fn a_stream_tells_the_past_then_what_comes_and_goes_on_where_it_broke_off() {
    let server = start();
    claim(&server, 0);
    let mut events = Events::follow(&server, "?after=2", None);
    assert_eq!(events.record().unwrap().1["position"], 3);
    claim(&server, 1);
    let (id, second) = events.record().unwrap();
    assert_eq!(second["position"], 4);
    drop(events);
    let lines: String = (2..400)
        .map(|n| {
            json!({"kind": "assertion", "subject": "feed", "predicate": "p", "object": n, "at": n})
                .to_string()
                + "\n"
        })
        .collect();
    server.import(&lines);
    let mut events = Events::follow(&server, "", Some(&id));
    for position in 5..=402 {
        assert_eq!(events.record().unwrap().1["position"], position);
    }
    // A page takes the id of an event, too.
    let page = server.get(&format!("/v1/feed?after={id}&limit=1"));
    assert_eq!(positions(&page.lines()), [5]);
    // Or else the server would wait for the stream.
    server.post("/v1/admin/node/drain", &Value::Null);
}

#[test]
fn a_stream_ends_with_the_node_and_there_is_a_limit() {
    let server = start_with(|config, _| config.limits.feeds = 1);
    claim(&server, 0);
    let mut events = Events::follow(&server, "?kind=assertion", None);
    assert_eq!(events.record().unwrap().1["position"], 3);
    let second = server.raw(
        b"GET /v1/feed HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
          Connection: close\r\n\r\n",
    );
    assert_eq!((second.status, second.json()["code"].as_str()), (503, Some("overloaded")));
    let began = Instant::now();
    assert_eq!(server.post("/v1/admin/node/drain", &Value::Null).status, 200);
    assert!(events.record().is_none());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
