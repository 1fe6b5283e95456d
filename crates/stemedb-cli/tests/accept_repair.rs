//! A disk that forgets: a bit of an acknowledged record flips. The start is refused by name, a
//! repair keeps everything else, and the history says from then on that something is missing.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::bodies::claim;
use common::{Answer, Server, data_dir, key, run_in};
use serde_json::{Value as Json, json};
use stemedb_model::{Signed, SourceClass, Space};
use tempfile::TempDir;

const CLAIMS: usize = 9;

fn wal(dir: &TempDir) -> PathBuf {
    data_dir(dir.path()).join("wal")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// One of the binaries that runbooks name.
fn tool(name: &str, args: &[&str]) -> Output {
    let path = match name {
        "stemedb-wal-verify" => env!("CARGO_BIN_EXE_stemedb-wal-verify"),
        _ => env!("CARGO_BIN_EXE_stemedb-wal-repair"),
    };
    Command::new(path).args(args).output().unwrap()
}

fn lines(output: &Output) -> Vec<Json> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Claims of one group each, with the positions they were given.
fn written(server: &Server) -> Vec<(Signed, u64)> {
    let space = Space::default();
    let claims = (0..CLAIMS).map(|n| {
        let body = claim("thing", &format!("p{n}"), &format!("value {n}"), SourceClass::Expert);
        let signed = server.sign(&key("somebody"), &space, body);
        let ack = server.put_record(&signed).expect(201);
        (signed, ack["position"].as_u64().unwrap())
    });
    claims.collect()
}

/// Where the block of the group of a position begins.
fn byte_of(dir: &TempDir, position: u64) -> u64 {
    let from = position.to_string();
    let wal = wal(dir);
    let args = ["--json", "wal", "dump", wal.to_str().unwrap(), "--from", &from, "--to", &from];
    let output = run_in(dir, &args);
    let found = lines(&output).into_iter().find(|line| line["kind"] == "entries");
    found.unwrap_or_else(|| panic!("{}", text(&output)))["block"].as_u64().unwrap() * 4096
}

fn flip(path: &Path, byte: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(byte).unwrap()] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A start that must not come up; its words. One that does is ended, and fails the test.
fn refused(dir: &TempDir) -> String {
    let place = data_dir(dir.path());
    let output = Command::new("timeout")
        .args([
            "60",
            env!("CARGO_BIN_EXE_stemedb"),
            "serve",
            "--no-auth",
            "--listen",
            "127.0.0.1:0",
        ])
        .args(["--data-dir", place.to_str().unwrap()])
        .env("STEMEDB_WAL__SEGMENT_BYTES", (1 << 20).to_string())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    text(&output)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn resolved(server: &Server, n: usize, as_of: u64) -> Json {
    let (predicate, as_of) = (format!("p{n}"), as_of.to_string());
    let query = [
        ("subject", "thing"),
        ("predicate", predicate.as_str()),
        ("lens", "consensus"),
        ("as_of", as_of.as_str()),
    ];
    server.get("/v1/query", &query).expect(200)
}

fn at(server: &Server, position: u64) -> Answer {
    server.get(&format!("/v1/positions/{position}"), &[])
}

#[test]
fn a_flipped_bit_costs_one_record_and_the_history_says_so() {
    let server = Server::start();
    let claims = written(&server);
    let newest = server.position();
    let (lost, position) = claims[4].clone();
    assert_eq!(at(&server, position).expect(200)["record"]["id"], lost.id().to_string());
    let health = server.get("/v1/health", &[]).expect(200);
    assert_eq!((&health["history_lost"], health.get("lost")), (&json!(false), None));
    assert_eq!(resolved(&server, 4, newest)["history_lost"], false);
    let dir = server.stop();

    let segment = wal(&dir).join("segment.001.wal");
    let byte = byte_of(&dir, position);
    flip(&segment, byte + 700);

    let words = refused(&dir);
    let where_ = format!("segment.001.wal, byte {}", byte + 512);
    let which = format!("positions {position} to {position}");
    let command = format!("stemedb wal repair --segment {}", segment.display());
    for expected in [where_.as_str(), &which, &command] {
        assert!(words.contains(expected), "{expected} in {words}");
    }
    let (file, folder) = (segment.to_str().unwrap(), wal(&dir));
    let verified = tool("stemedb-wal-verify", &["--file", file]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified).contains("stemedb wal repair --segment"), "{}", text(&verified));

    // A plan, and a refusal: nothing changes.
    let before = (names(&folder), fs::read(&segment).unwrap());
    let output = folder.join("segment.001.repaired");
    let out = output.to_str().unwrap();
    let plan = tool("stemedb-wal-repair", &["--segment", file, "--output", out, "--plan"]);
    assert_eq!(plan.status.code(), Some(0), "{}", text(&plan));
    assert!(text(&plan).contains("it needs --accept-loss"), "{}", text(&plan));
    let no = tool("stemedb-wal-repair", &["--segment", file, "--output", out]);
    assert_eq!(no.status.code(), Some(1));
    let words = text(&no);
    for expected in [format!("position {position} would be lost").as_str(), "--accept-loss"] {
        assert!(words.contains(expected), "{expected} in {words}");
    }
    assert_eq!((names(&folder), fs::read(&segment).unwrap()), before);

    let args = ["--segment", file, "--output", out, "--accept-loss", "--json"];
    let done = tool("stemedb-wal-repair", &args);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let report = &lines(&done)[0];
    assert_eq!(report["lost"][0]["first"], position);
    assert_eq!(report["lost"][0]["last"], position);
    assert_eq!(report["lost"].as_array().unwrap().len(), 1);
    assert_eq!((&report["records"], &report["reindex"]), (&json!(newest - 1), &json!(true)));
    let rejected = fs::read(report["rejected"].as_str().unwrap()).unwrap();
    let from = usize::try_from(byte).unwrap();
    assert_eq!(rejected, before.1[from..from + rejected.len()]);
    assert_eq!(fs::read(&segment).unwrap(), before.1, "the input is not touched");
    fs::rename(&output, &segment).unwrap();

    let verified = tool("stemedb-wal-verify", &["--file", folder.to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    assert!(text(&verified).contains("lost"), "{}", text(&verified));

    // The index is from before, and still has the record: never served beside this log.
    let words = refused(&dir);
    assert!(words.contains("stemedb admin reindex --data-dir"), "{words}");
    let place = data_dir(dir.path());
    let output = run_in(&dir, &["admin", "reindex", "--data-dir", place.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));

    let server = Server::again(dir);
    let health = server.get("/v1/health", &[]).expect(200);
    assert_eq!(health["history_lost"], true);
    assert_eq!(health["lost"], json!([{"first": position, "last": position}]));
    assert_eq!(server.position(), newest);
    for (signed, at_position) in &claims {
        let answer = at(&server, *at_position);
        if *at_position == position {
            let problem = answer.expect(410);
            assert_eq!(
                (&problem["code"], &problem["position"]),
                (&json!("lost"), &json!(position))
            );
            let by_id = server.get(&format!("/v1/records/{}", signed.id()), &[]);
            assert_eq!(by_id.outcome(), (404, "record_not_found".into()));
        } else {
            assert_eq!(answer.expect(200)["record"]["id"], signed.id().to_string());
        }
    }
    assert_eq!(at(&server, newest + 1).outcome(), (404, "record_not_found".into()));
    assert_eq!(at(&server, 0).outcome().0, 404);
    assert_eq!(resolved(&server, 4, newest)["value"], Json::Null);
    assert_eq!(resolved(&server, 5, newest)["value"], "value 5");
    assert_eq!(resolved(&server, 5, newest)["history_lost"], true);
    assert_eq!(resolved(&server, 3, position)["history_lost"], true);
    assert_eq!(resolved(&server, 3, position - 1)["history_lost"], false);
    let export = server.get("/v1/export", &[("live", "false")]).text;
    assert_eq!(export.lines().count() as u64, newest - 1);

    // Sent again it is a new record, at a new position.
    let ack = server.put_record(&lost).expect(201);
    assert_eq!((&ack["position"], &ack["status"]), (&json!(newest + 1), &json!("created")));
    assert_eq!(server.put_record(&lost).expect(200)["position"], newest + 1);
    assert_eq!(resolved(&server, 4, newest + 1)["value"], "value 4");
    let root = server.answer_root();

    let same = |dir: TempDir| {
        let server = Server::again(dir);
        assert_eq!(server.answer_root(), root);
        assert_eq!(at(&server, position).outcome(), (410, "lost".into()));
        assert_eq!(resolved(&server, 5, newest)["history_lost"], true);
        server
    };
    let dir = same(server.kill()).stop();
    fs::remove_dir_all(data_dir(dir.path()).join("index")).unwrap();
    same(dir).stop();
}

/// The only segment of a small database loses its header: the node knows which database it is of,
/// and the chain proves it. Nothing is lost, so nobody is asked.
#[test]
fn a_lost_header_costs_nothing() {
    let server = Server::start();
    let claims = written(&server);
    let root = server.answer_root();
    let dir = server.stop();
    let segment = wal(&dir).join("segment.001.wal");
    flip(&segment, 45);
    let words = refused(&dir);
    assert!(words.contains("the segment header does not match its checksum"), "{words}");
    let output = segment.with_extension("repaired");
    let (file, out) = (segment.to_str().unwrap(), output.to_str().unwrap());
    let done = run_in(&dir, &["wal", "repair", "--segment", file, "--output", out]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("made again"), "{}", text(&done));
    fs::rename(&output, &segment).unwrap();
    let server = Server::again(dir);
    assert_eq!(server.answer_root(), root);
    assert_eq!(server.get("/v1/health", &[]).expect(200)["history_lost"], false);
    for (signed, position) in claims {
        assert_eq!(at(&server, position).expect(200)["record"]["id"], signed.id().to_string());
    }
}

/// The newest record rots where nothing in the log vouches for it; the index does. The position
/// that the refused start names is the witness, and is not given to another record.
#[test]
fn a_witness_keeps_the_number_of_the_newest_record() {
    let server = Server::start();
    let claims = written(&server);
    let (newest, position) = claims.last().unwrap().clone();
    let dir = server.stop();
    let segment = wal(&dir).join("segment.001.wal");
    let byte = byte_of(&dir, position);
    let mut bytes = fs::read(&segment).unwrap();
    let from = usize::try_from(byte).unwrap();
    bytes[from + 700] ^= 4;
    // The seals behind it, too.
    bytes[from + 4096..].fill(0);
    fs::write(&segment, bytes).unwrap();
    let words = refused(&dir);
    assert!(
        words.contains(&format!("position {position} is known to have been durable")),
        "{words}"
    );
    let output = segment.with_extension("repaired");
    let (file, out) = (segment.to_str().unwrap(), output.to_str().unwrap());
    let witness = position.to_string();
    let args = [
        "wal",
        "repair",
        "--segment",
        file,
        "--output",
        out,
        "--witness",
        &witness,
        "--accept-loss",
    ];
    let done = run_in(&dir, &args);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    fs::rename(&output, &segment).unwrap();
    fs::remove_dir_all(data_dir(dir.path()).join("index")).unwrap();
    let server = Server::again(dir);
    assert_eq!(server.position(), position);
    assert_eq!(at(&server, position).outcome(), (410, "lost".into()));
    assert_eq!(server.put_record(&newest).expect(201)["position"], position + 1);
}
