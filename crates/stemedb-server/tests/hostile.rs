//! Bytes that no client sends: what two parsers might read in two ways, heads that never end, paths
//! that lead out.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for a real server"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Running, start, start_with};

/// A request that a smuggler hides in the body of another, and what its answer would begin with.
const HIDDEN: &str = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Everything that comes back until the connection is closed.
fn send(server: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    // It may be closed before all is taken.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(text: &str) -> Vec<u16> {
    text.match_indices("HTTP/1.1 ").map(|(at, _)| text[at + 9..at + 12].parse().unwrap()).collect()
}

#[test]
fn what_two_parsers_would_read_in_two_ways_is_refused() {
    let server = start();
    let post = "POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let hidden = HIDDEN.len();
    for head in [
        // Two lengths.
        format!("Content-Length: 0\r\nContent-Length: {hidden}\r\n"),
        format!("Content-Length: {hidden}, 0\r\n"),
        // A length that is no number to everybody.
        format!("Content-Length: +{hidden}\r\n"),
        format!("Content-Length: 0x{hidden:x}\r\n"),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 99999999999999999999999\r\n".to_owned(),
        // Codings that one side may not know.
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n".to_owned(),
        // Names and values that one side may cut elsewhere.
        "Content-Length : 0\r\n".to_owned(),
        "X-One: a\r\n b: c\r\n".to_owned(),
        "X-One: a\0b\r\n".to_owned(),
        "X One: a\r\n".to_owned(),
        ": a\r\n".to_owned(),
    ] {
        let text = send(&server, format!("{post}{head}\r\n{HIDDEN}").as_bytes());
        let found = answers(&text);
        assert!(found.len() <= 1, "{head:?}: the hidden one was answered: {text}");
        assert!(found.iter().all(|status| (400..500).contains(status)), "{head:?}: {text}");
    }
    for (name, body) in [
        ("no hex", "zz\r\n{}\r\n0\r\n\r\n"),
        ("a length beyond all", "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("less than it says", "2\r\n{}GET / HTTP/1.1\r\n0\r\n\r\n"),
        ("signed", "-2\r\n{}\r\n0\r\n\r\n"),
    ] {
        let request = format!("{post}Transfer-Encoding: chunked\r\n\r\n{body}{HIDDEN}");
        let text = send(&server, request.as_bytes());
        let found = answers(&text);
        assert!(found.len() <= 1, "{name}: the hidden one was answered: {text}");
        assert!(found.iter().all(|status| (400..500).contains(status)), "{name}: {text}");
    }
    // Chunks count where both are given, as every parser of today reads it: one body, and then the next
    // request stands by itself.
    let both = format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(answers(&send(&server, both.as_bytes())).len() <= 1);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn what_is_no_http_is_no_trouble() {
    let server = start();
    let mut long = b"GET /".to_vec();
    long.extend(vec![b'a'; 1 << 20]);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(100_000));
    let tls = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let cases: [&[u8]; 8] = [
        b"",
        b"\r\n\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &tls,
        &long,
        many.as_bytes(),
    ];
    for bytes in cases {
        let text = send(&server, bytes);
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]);
        assert!(answers(&text).iter().all(|status| *status >= 400), "{name:?}: {text}");
    }
    assert_eq!(server.get("/livez").status, 200);
}

/// Many connections that never end their head cost nobody an answer, and end by themselves.
#[test]
fn a_crowd_that_never_ends_its_heads_keeps_nobody_out() {
    let server = start_with(|config, _| config.limits.head_timeout = Duration::from_millis(800));
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get("/v1/health").status, 200);
        // A byte now and then does not buy more time.
        for stream in &mut slow {
            let _ = stream.write_all(b"a");
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    assert!(began.elapsed() > Duration::from_millis(800));
    for stream in &mut slow {
        let mut answer = Vec::new();
        // Closed, with or without an answer that says so.
        let _ = stream.read_to_end(&mut answer);
        assert!(answers(&String::from_utf8_lossy(&answer)).iter().all(|status| *status >= 400));
    }
}

#[test]
fn no_path_leads_out() {
    let server = start();
    for path in [
        "/docs/../../../../etc/passwd",
        "/docs/..%2f..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/v1/records/..%2f..%2fetc%2fpasswd",
        "/v1/lenses/..%2f..%2fnode%2froot.key",
        "/v1/audit/query/..%2fadmin",
        "/%00",
        "/v1/query?subject=%00&predicate=p&lens=authority",
        "/v1/query?subject=%ff&predicate=p&lens=authority",
    ] {
        let text = send(
            &server,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        );
        assert!(!text.contains("root:"), "{path}: {text}");
        assert!(answers(&text).iter().all(|status| (300..500).contains(status)), "{path}: {text}");
    }
}
