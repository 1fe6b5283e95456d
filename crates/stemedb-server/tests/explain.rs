//! Receipts over HTTP: pages that lead to the root, and the same answer made again.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::{Running, start};

const CLAIMS: u64 = 600;

/// Many claims of one agent: the newest stands, and all are considered.
fn crowd(server: &Running) {
    for n in 0..CLAIMS {
        let body = json!({"subject": "s", "predicate": "p", "object": n % 7, "at": n + 2});
        assert_eq!(server.post("/v1/assert", &body).status, 201);
    }
}

fn pages(server: &Running, query: &str) -> Vec<Value> {
    let mut pages: Vec<Value> = Vec::new();
    loop {
        let cursor = pages.last().and_then(|page| page["cursor"].as_str());
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = server.get_json(&format!("/v1/explain?subject=s&predicate=p{query}{cursor}"));
        let more = page.get("cursor").is_some();
        pages.push(page);
        if !more {
            return pages;
        }
    }
}

#[test]
fn the_pages_of_a_receipt_are_of_one_moment() {
    let server = start();
    crowd(&server);
    let first = server.get_json("/v1/explain?subject=s&predicate=p&lens=consensus");
    assert_eq!((&first["page"], &first["pages"]), (&json!(0), &json!(3)));
    assert_eq!(first["considered"].as_array().unwrap().len(), 256);
    // What comes meanwhile is in no page of it.
    let more = json!({"subject": "s", "predicate": "p", "object": "late", "at": 5000});
    server.post("/v1/assert", &more);
    let cursor = first["cursor"].as_str().unwrap();
    let path = format!("/v1/explain?subject=s&predicate=p&lens=consensus&cursor={cursor}");
    let second = server.get_json(&path);
    assert_eq!(second["page"], 1);
    assert_eq!(second["receipt"], first["receipt"]);
    assert_eq!(second["hash"], first["hash"]);
    let other = server.get(&path.replace("consensus", "recency"));
    assert_eq!(other.json()["code"], "cursor_mismatch");

    let all = pages(&server, "&lens=consensus");
    let considered: u64 =
        all.iter().map(|p| p["considered"].as_array().unwrap().len() as u64).sum();
    assert_eq!(considered, CLAIMS + 1);
    assert_ne!(all[0]["receipt"]["root"], first["receipt"]["root"]);
}

#[test]
fn a_receipt_is_made_again_and_a_changed_one_is_told() {
    let server = start();
    let body = |object: &str, at: u64| json!({"subject": "s", "predicate": "p", "object": object, "at": at});
    let (first, _) = server.claim(body("a", 1));
    server.claim(body("b", 2));
    let explained = pages(&server, "&lens=recency&decay=86400000&min_confidence=0.5").remove(0);
    let receipt = &explained["receipt"];
    let reasons: Vec<&Value> =
        explained["considered"].as_array().unwrap().iter().map(|one| &one["reason"]).collect();
    assert_eq!(reasons, [&json!("replaced"), &Value::Null]);
    // The log goes on; the receipt is of then.
    server.post("/v1/retract", &json!({"record": first, "at": 3}));
    server.claim(body("c", 4));
    let replay = server.post("/v1/replay", receipt);
    assert_eq!(replay.status, 200, "{}", replay.text);
    let replay = replay.json();
    assert_eq!((&replay["same"], &replay["hash"]), (&json!(true), &explained["hash"]));
    assert_eq!(&replay["receipt"], receipt);

    let mut changed = receipt.clone();
    changed["winners"] = json!([]);
    changed["excluded"] = json!(0);
    let replay = server.post("/v1/replay", &changed).json();
    assert_eq!(
        (&replay["same"], &replay["differences"]),
        (&json!(false), &json!(["excluded", "winners"]))
    );
    for (field, value) in [
        ("position", json!(99)),
        ("version", json!(2)),
        ("subject", json!("")),
        ("made_up", json!(1)),
    ] {
        let mut wrong = receipt.clone();
        wrong[field] = value;
        let refused = server.post("/v1/replay", &wrong);
        assert_eq!(refused.json()["field"], *field, "{}", refused.text);
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
}

/// A source that no record can name is refused, and not echoed.
#[test]
fn a_source_that_cannot_be_is_refused() {
    let server = start();
    for path in ["explain", "skeptic"] {
        let answer = server.get(&format!("/v1/{path}?subject=s&predicate=p&source=a%C2%9Bb"));
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("source")), "{path}");
    }
    let asked = json!({
        "keys": [{"subject": "s", "predicate": "p"}], "sources": [{"uri": "a\u{9b}b"}],
    });
    let answer = server.post("/v1/resolve", &asked);
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("sources")));
}
