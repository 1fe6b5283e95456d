//! What a writer may believe: one record is created once whoever sends it how often, an
//! idempotency key stands for one record for good, and what was acknowledged can be read at once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::bodies::*;
use common::{Answer, Server, data_dir, fields, key};
use serde_json::{Value, json};
use stemedb_io::{Clock, RealClock};
use stemedb_model::SourceClass::Anecdotal;
use stemedb_model::{RecordId, Signed, Space};

const WRITERS: usize = 16;

/// Starts all at once and gives what each came to.
fn together<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (barrier, work) = (Barrier::new(count), &work);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|n| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    work(n)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn claims(server: &Server, count: usize) -> Vec<Signed> {
    let space = Space::default();
    (0..count)
        .map(|n| {
            let body = claim(&format!("thing/{n}"), "colour", "red", Anecdotal);
            server.sign(&key(&format!("author {}", n % 7)), &space, body)
        })
        .collect()
}

#[test]
fn one_is_created_and_the_others_exist() {
    let server = Server::start();
    let records = claims(&server, 60);
    let first = server.position() + 1;
    let acks: Vec<Vec<(RecordId, Value)>> = together(WRITERS, |writer| {
        (0..records.len())
            .map(|n| {
                // Half of them in the same order, so that they meet in flight.
                let n = if writer % 2 == 0 { n } else { (n + writer * 7) % records.len() };
                let signed = &records[n];
                let answer = match writer % 3 {
                    0 => server.put_record(signed),
                    1 => server.put(&format!("/v1/assertions/{}", signed.id()), &fields(signed)),
                    _ => server.post_record(signed).unwrap(),
                };
                let ack = answer.json();
                let (status, word) = answer.outcome();
                assert!(
                    matches!((status, word.as_str()), (201, "created") | (200, "exists")),
                    "{}",
                    answer.text
                );
                // Acknowledged is readable, by whoever comes next.
                let found = server.get(&format!("/v1/records/{}", signed.id()), &[]).expect(200);
                assert_eq!(found["position"], ack["position"]);
                assert_eq!(found["record"]["signature"], signed.signature().to_string());
                (signed.id(), ack)
            })
            .collect()
    });
    let mut by_record: BTreeMap<RecordId, Vec<Value>> = BTreeMap::new();
    for (id, ack) in acks.into_iter().flatten() {
        assert_eq!(ack["id"], id.to_string());
        by_record.entry(id).or_default().push(ack);
    }
    let mut positions = BTreeSet::new();
    for (id, acks) in &by_record {
        assert_eq!(acks.len(), WRITERS);
        let created = acks.iter().filter(|ack| ack["status"] == "created").count();
        assert_eq!(created, 1, "{id}: {acks:?}");
        let places: BTreeSet<String> =
            acks.iter().map(|ack| format!("{} {}", ack["position"], ack["recorded_at"])).collect();
        assert_eq!(places.len(), 1, "{id}: {places:?}");
        positions.insert(acks[0]["position"].as_u64().unwrap());
    }
    let count = records.len() as u64;
    assert_eq!(positions, (first..first + count).collect());
    assert_eq!(server.position(), first + count - 1);

    // The same of duplicates within and between imports.
    let more = claims(&server, 100);
    let lines: String = more
        .iter()
        .flat_map(|signed| [signed, signed])
        .map(|signed| common::canonical(signed).to_string() + "\n")
        .collect();
    let results = together(4, |_| import(&server, &lines));
    let mut created = BTreeMap::new();
    let mut places: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for result in results.iter().flatten() {
        let id = result["id"].as_str().unwrap().to_owned();
        places.entry(id.clone()).or_default().insert(result["position"].as_u64().unwrap());
        *created.entry(id).or_insert(0) += usize::from(result["status"] == "created");
    }
    assert_eq!(created.len(), more.len());
    assert!(created.values().all(|count| *count == 1), "{created:?}");
    assert!(places.values().all(|places| places.len() == 1), "{places:?}");
}

fn import(server: &Server, lines: &str) -> Vec<Value> {
    let mut response = ureq::post(format!("{}/v1/import", server.url()))
        .content_type("application/x-ndjson")
        .send(lines)
        .unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    let mut results: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = results.pop().unwrap();
    assert_eq!(summary["done"], true, "{summary}");
    assert_eq!(summary["lines"], lines.lines().count());
    assert_eq!(summary["errors"], 0);
    results
}

#[test]
fn what_is_acknowledged_is_in_the_next_answer() {
    let server = Server::start();
    together(8, |writer| {
        for n in 0..15 {
            let about = format!("thing/{writer}");
            let body = claim(&about, "count", &n.to_string(), Anecdotal);
            let signed = server.sign(&key(&about), &Space::default(), body);
            let ack = server.put_record(&signed).expect(201);
            let query = [("subject", about.as_str()), ("predicate", "count"), ("lens", "recency")];
            let answer = server.get("/v1/query", &query).expect(200);
            assert_eq!(answer["value"], n.to_string(), "{answer}");
            assert!(answer["position"].as_u64() >= ack["position"].as_u64());
            let position = ack["position"].to_string();
            for at_least in [position.as_str(), ack["snapshot"].as_str().unwrap()] {
                let query = [query.as_slice(), &[("at_least", at_least)]].concat();
                assert_eq!(server.get("/v1/query", &query).expect(200)["value"], n.to_string());
            }
            // As of the position before, the claim was not there.
            let before = (ack["position"].as_u64().unwrap() - 1).to_string();
            let query = [query.as_slice(), &[("as_of", &before)]].concat();
            let past = server.get("/v1/query", &query).expect(200);
            let expected = if n == 0 { Value::Null } else { json!((n - 1).to_string()) };
            assert_eq!(past["value"], expected, "{past}");
        }
    });
}

#[test]
fn at_least_waits_for_the_write() {
    let server = Server::start();
    let signed = claims(&server, 1).remove(0);
    let next = (server.position() + 1).to_string();
    let query = [
        ("subject", "thing/0"),
        ("predicate", "colour"),
        ("lens", "consensus"),
        ("at_least", &*next),
    ];
    let clock = RealClock::new();
    let (answer, ack) = thread::scope(|scope| {
        let reader = scope.spawn(|| server.get("/v1/query", &query).expect(200));
        clock.sleep(Duration::from_millis(300));
        assert!(!reader.is_finished(), "the reader did not wait");
        let ack = server.put_record(&signed).expect(201);
        (reader.join().unwrap(), ack)
    });
    assert_eq!(answer["value"], "red");
    assert_eq!(ack["position"].to_string(), next);
    // Snapshots of another timeline mean nothing here.
    let snapshot = ack["snapshot"].as_str().unwrap();
    let (head, tail) = snapshot.split_at(1);
    let foreign = if head == "0" { "1" } else { "0" }.to_owned() + tail;
    for parameter in ["at_least", "as_of"] {
        let query = [&query[..3], &[(parameter, foreign.as_str())]].concat();
        let answer = server.get("/v1/query", &query);
        assert_eq!(answer.outcome(), (409, "wrong_timeline".to_owned()), "{}", answer.text);
    }
    // A position that never comes is told, and may be asked for again.
    let query = [&query[..3], &[("at_least", "1000000")]].concat();
    let answer = server.get("/v1/query", &query);
    assert_eq!(answer.outcome(), (409, "position_ahead".to_owned()), "{}", answer.text);
    assert_eq!(answer.json()["retryable"], true);
}

/// A body without a key of its own, without a time.
fn body(value: &str) -> Value {
    json!({"subject": "thing", "predicate": "colour", "object": value})
}

fn post(server: &Server, key: &str, body: &Value) -> Answer {
    server.post_with("/v1/assert", &[("idempotency-key", key)], body)
}

#[test]
fn an_idempotency_key_stands_for_one_record() {
    let mut server = Server::start();
    let conflict = (409, "idempotency_conflict".to_owned());
    let first = post(&server, "one", &body("red")).expect(201);
    assert_eq!(first["custodial"], true);
    let signed = claims(&server, 2);
    let with_key = |server: &Server, n: usize| {
        let headers = [("idempotency-key", "signed")];
        server.post_with("/v1/assert", &headers, &fields(&signed[n]))
    };
    let second = with_key(&server, 0).expect(201);

    let check = |server: &Server, when: &str| {
        let position = server.position();
        let again = post(server, "one", &body("red")).expect(200);
        for part in ["id", "position", "recorded_at", "at", "agent"] {
            assert_eq!(again[part], first[part], "{when}: {part}");
        }
        assert_eq!(again["status"], "exists", "{when}");
        assert_eq!(post(server, "one", &body("blue")).outcome(), conflict, "{when}");
        let mut at = body("red");
        at["at"] = json!("2024-01-01T00:00:00Z");
        assert_eq!(post(server, "one", &at).outcome(), conflict, "{when}: another time");
        let vote = json!({"assertion": first["id"], "weight": 1});
        let answer = server.post_with("/v1/vote", &[("idempotency-key", "one")], &vote);
        assert_eq!(answer.outcome(), conflict, "{when}: another kind");
        assert_eq!(with_key(server, 0).expect(200)["position"], second["position"], "{when}");
        assert_eq!(with_key(server, 1).outcome(), conflict, "{when}");
        assert_eq!(server.position(), position, "{when}: nothing was written");
    };
    check(&server, "at once");
    server = Server::again(server.stop());
    check(&server, "after a restart");
    server = Server::again(server.kill());
    check(&server, "after a kill");
    let dir = server.stop();
    fs::remove_dir_all(data_dir(dir.path()).join("index")).unwrap();
    server = Server::again(dir);
    check(&server, "without its index");

    // Another key is another act; no key needs a time.
    let other = post(&server, "two", &body("red")).expect(201);
    assert_ne!(other["id"], first["id"]);
    let answer = server.post("/v1/assert", &body("red"));
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert_eq!(answer.json()["field"], "at");
    let mut at = body("red");
    at["at"] = json!("2024-01-01T00:00:00Z");
    let created = server.post("/v1/assert", &at).expect(201);
    assert_eq!(server.post("/v1/assert", &at).expect(200)["id"], created["id"]);
}

#[test]
fn an_idempotency_key_in_flight() {
    let server = Server::start();
    for round in 0..10 {
        let key = format!("same-{round}");
        let answers = together(WRITERS, |_| post(&server, &key, &body("red")));
        let created = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(created, 1, "{answers:?}");
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)), "{answers:?}");
        let places: BTreeSet<String> = answers
            .iter()
            .map(|answer| format!("{} {}", answer.json()["id"], answer.json()["position"]))
            .collect();
        assert_eq!(places.len(), 1, "{places:?}");

        let key = format!("other-{round}");
        let answers = together(WRITERS, |writer| post(&server, &key, &body(&writer.to_string())));
        let mut outcomes: Vec<(u16, String)> = answers.iter().map(Answer::outcome).collect();
        outcomes.sort();
        assert_eq!(outcomes[0], (201, "created".to_owned()), "{answers:?}");
        let conflict = (409, "idempotency_conflict".to_owned());
        assert!(outcomes[1..].iter().all(|outcome| *outcome == conflict), "{answers:?}");
    }
}
