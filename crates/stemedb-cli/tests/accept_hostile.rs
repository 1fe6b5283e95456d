//! A real process under callers who want its memory: it stays within what its configuration allows
//! for, and goes on answering everybody else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Server, until};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use stemedb_io::{Clock, RealClock};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Connections that hostile callers have at once. Each is a request that is under way, or will be.
const CROWD: usize = 200;
/// Room for the requests of the others.
const OTHERS: usize = 20;
const BODY_BYTES: usize = 256 * KIB;
const LINE_BYTES: usize = 256 * KIB;
const HEAD_BYTES: usize = 8 * KIB;
const STREAMS: usize = 16;
/// A task, a socket, and what is on its way between them.
const CONNECTION_BYTES: usize = 64 * KIB;
/// What a server grows by under good requests alone: write buffers, threads, what the allocator holds
/// back.
const OWN_BYTES: usize = 64 * MIB;
/// Whoever waits longer waits in vain; a laden machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many threads speak for the crowd.
const SPEAKERS: usize = 8;

/// What the configuration allows for. A body or line grows by doubling, so it may be there twice; the
/// parser of heads takes twice their limit.
const fn bound() -> usize {
    let bodies = (CROWD + OTHERS) * 2 * BODY_BYTES;
    let lines = STREAMS * 2 * LINE_BYTES;
    let connections = (CROWD + OTHERS) * (CONNECTION_BYTES + 2 * 2 * HEAD_BYTES);
    bodies + lines + connections + OWN_BYTES
}

fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let timeout = PATIENCE.as_millis();
    let text = format!(
        "[limits]\nrequests = {}\nstreams = {STREAMS}\nbody_bytes = {BODY_BYTES}\n\
         line_bytes = {LINE_BYTES}\nhead_bytes = {HEAD_BYTES}\n\
         body_timeout_ms = {timeout}\nhead_timeout_ms = {timeout}\n",
        CROWD + OTHERS
    );
    #[expect(clippy::disallowed_methods, reason = "a file of the server under test")]
    fs::write(dir.path().join("api.toml"), text).unwrap();
    Server::again(dir)
}

/// Bytes that the process has resident.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Whatever others do: a claim is written, read, and the node says that it is ready.
#[track_caller]
fn is_good(server: &Server) {
    let claim = json!({"subject": "s", "predicate": "p", "object": 1, "at": 1});
    let written = server.post("/v1/assert", &claim);
    assert!(matches!(written.status, 200 | 201), "{written:?}");
    let question = [("subject", "s"), ("predicate", "p"), ("lens", "consensus")];
    server.get("/v1/query", &question).expect(200);
    assert_eq!(server.get("/readyz", &[]).status, 200);
}

/// Requests under way, but for the one that asks.
fn in_flight(server: &Server) -> u64 {
    let text = server.get("/metrics", &[]).text;
    let line = text.lines().find_map(|line| line.strip_prefix("stemedb_http_in_flight "));
    line.unwrap().parse::<u64>().unwrap() - 1
}

/// Looks at the memory all the time: it may grow by so much, and no more.
fn bounded_during(server: &Server, name: &str, act: impl FnOnce()) {
    let (before, done) = (resident(server), AtomicBool::new(false));
    let most = AtomicU64::new(before);
    let look = || most.fetch_max(resident(server), Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            let clock = RealClock::new();
            while !done.load(Ordering::Relaxed) {
                look();
                clock.sleep(Duration::from_millis(10));
            }
        });
        // A panic must not leave the other thread behind.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        done.store(true, Ordering::Relaxed);
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    look();
    let grown = most.into_inner() - before;
    let told = |bytes: u64| bytes / MIB as u64;
    println!("{name}: {} MiB, and {} more at most", told(before), told(grown));
    assert!(grown <= bound() as u64, "{name}: {} MiB more, allowed {}", told(grown), bound() / MIB);
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn crowd(server: &Server, size: usize) -> Vec<TcpStream> {
    (0..size).map(|_| connect(server)).collect()
}

/// Each caller sends this, at the same time as the others. One that is cut off has its answer.
fn all_send(crowd: &mut [TcpStream], bytes: &[u8]) {
    let share = crowd.len().div_ceil(SPEAKERS);
    thread::scope(|scope| {
        for some in crowd.chunks_mut(share) {
            scope.spawn(|| {
                for stream in some {
                    let _ = stream.write_all(bytes);
                }
            });
        }
    });
}

/// The status of an answer; `None` where the connection broke before it came.
fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut text = [0; 12];
    stream.read_exact(&mut text).ok()?;
    std::str::from_utf8(&text).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

fn head(path: &str, kind: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{more}\r\n\r\n")
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Answers of a crowd that asked for too much: one of these, or the connection was cut off.
#[track_caller]
fn are_refused(crowd: &mut [TcpStream], expected: &[u16]) {
    let answers: Vec<u16> = crowd.iter_mut().filter_map(status).collect();
    assert!(!answers.is_empty(), "nobody was told why");
    assert!(answers.iter().all(|status| expected.contains(status)), "{answers:?}");
}

#[test]
fn memory_is_bounded_whatever_callers_send() {
    let server = start();
    is_good(&server);

    // Bodies just below the limit, a piece now and then, that never come to their end.
    bounded_during(&server, "slow bodies", || {
        let mut slow = crowd(&server, CROWD);
        let length = format!("Content-Length: {}", BODY_BYTES - 1);
        all_send(&mut slow, head("/v1/assert", "application/json", &length).as_bytes());
        for _ in 0..7 {
            all_send(&mut slow, &vec![b' '; BODY_BYTES / 8]);
            is_good(&server);
        }
        until("all of them are under way", || in_flight(&server) == CROWD as u64);
        // Their end comes, and is no JSON.
        all_send(&mut slow, &vec![b' '; BODY_BYTES / 8 - 1]);
        are_refused(&mut slow, &[400]);
    });
    is_good(&server);

    // Sixteen times the limit, whose length nobody is told.
    let pieces = 16 * BODY_BYTES / (64 * KIB);
    for (name, path, kind) in [
        ("long bodies", "/v1/assert", "application/json"),
        ("long lines", "/v1/import", "application/x-ndjson"),
    ] {
        bounded_during(&server, name, || {
            let mut long = crowd(&server, CROWD);
            let chunked = "Transfer-Encoding: chunked\r\nConnection: close";
            all_send(&mut long, head(path, kind, chunked).as_bytes());
            let piece = chunk(&vec![b' '; 64 * KIB]);
            for n in 0..pieces {
                all_send(&mut long, &piece);
                if n % 20 == 0 {
                    is_good(&server);
                }
            }
            // An import answers as it goes along, with a line for each of the body.
            are_refused(&mut long, &[200, 413, 503]);
        });
        is_good(&server);
    }

    // A few KiB that unpack to 64 MiB.
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; 64 * MIB]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < BODY_BYTES, "{}", packed.len());
    bounded_during(&server, "packed bodies", || {
        let mut bombs = crowd(&server, CROWD);
        let length = format!("Content-Encoding: gzip\r\nContent-Length: {}", packed.len());
        all_send(&mut bombs, head("/v1/assert", "application/json", &length).as_bytes());
        all_send(&mut bombs, &packed);
        is_good(&server);
        are_refused(&mut bombs, &[413]);
    });
    is_good(&server);

    // Heads that do not end: up to their limit they wait, behind it they are cut off.
    bounded_during(&server, "open heads", || {
        let mut open = crowd(&server, CROWD);
        all_send(&mut open, b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
        all_send(&mut open, &vec![b'a'; HEAD_BYTES]);
        is_good(&server);
        for n in 0..64 {
            all_send(&mut open, &vec![b'a'; 32 * KIB]);
            if n % 16 == 0 {
                is_good(&server);
            }
        }
        let answers: Vec<u16> = open.iter_mut().filter_map(status).collect();
        assert!(answers.iter().all(|status| *status == 431), "{answers:?}");
    });
    is_good(&server);
}
