//! Learned trust over HTTP.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::json;
use support::{Running, start, start_with};

fn resolve(server: &Running, lens: &str) -> support::Answer {
    server.get(&format!("/v1/query?subject=a&predicate=p&lens={lens}"))
}

#[test]
fn what_is_learned_is_put_in_force_and_explained() {
    let server = start();
    for (n, subject) in ["a", "b", "c"].into_iter().enumerate() {
        server.claim(json!({"subject": subject, "predicate": "p", "object": n, "at": n}));
    }
    let agent = server.get_json("/v1/query?subject=a")["assertions"][0]["record"]["agent"].clone();
    let agent = agent.as_str().unwrap();
    let before = server.get_json(&format!("/v1/trust/{agent}"));
    assert_eq!(before["in_force"], json!(null));
    assert_eq!(
        (before["learned"].clone(), before["reliability"].clone()),
        (json!(false), json!(0.5))
    );

    let learned = server.post("/v1/trust/learn", &json!({})).json();
    assert_eq!((learned["agents"].clone(), learned["statements"].clone()), (json!(1), json!(3)));
    assert_eq!(learned["input_position"], json!(5));
    assert!(resolve(&server, "trust").json()["trust_snapshot"].is_null());
    let snapshot = json!({
        "input_position": learned["input_position"], "config": learned["config"],
        "table": learned["table"], "at": 9,
    });
    let written = server.post("/v1/trust_snapshot", &snapshot);
    assert_eq!(written.status, 201, "the server's key may: {}", written.text);
    let id = written.json()["id"].clone();
    for (lens, named) in [("trust", true), ("votes", true), ("consensus", false)] {
        let answer = resolve(&server, lens).json();
        assert_eq!(answer["trust_snapshot"]["id"] == id, named, "{lens}: {answer}");
    }

    let after = server.get_json(&format!("/v1/trust/{agent}?limit=2"));
    assert_eq!(after["in_force"]["snapshot"]["id"], id);
    assert_eq!(after["in_force"]["table"], learned["table"]);
    assert_eq!((after["learned"].clone(), after["compared"].clone()), (json!(true), json!(2)));
    assert_eq!(after["signed"], json!(3));
    let topic = &after["topics"][0];
    assert_eq!((topic["predicate"].clone(), topic["claims"].clone()), (json!("p"), json!(2)));
    assert_eq!((topic["agreed"].clone(), topic["disputes"].clone()), (json!(2), json!([])));
    // As it was before.
    let then = server.get_json(&format!("/v1/trust/{agent}?as_of=5"));
    assert_eq!(then["in_force"], json!(null));
}

#[test]
fn what_cannot_be_learned_or_used_says_why() {
    let server = start_with(|_, engine| engine.trust_statements_max = 1);
    for subject in ["a", "b"] {
        server.claim(json!({"subject": subject, "predicate": "p", "object": 1, "at": 1}));
    }
    let hash = "07".repeat(32);
    let config = stemedb_lens::trust::configuration_hash().to_string();
    let snapshot = json!({"input_position": 3, "config": config, "table": hash, "at": 9});
    assert_eq!(server.post("/v1/trust_snapshot", &snapshot).status, 201);
    // It has to learn before it knows that the log gives another table.
    while resolve(&server, "trust").status == 503 {
        std::thread::yield_now();
    }
    let unknown = "00".repeat(32);
    for (answer, status, code) in [
        (server.post("/v1/trust/learn", &json!({})), 422, "trust_too_large"),
        (resolve(&server, "trust"), 409, "trust_unavailable"),
        (resolve(&server, "votes"), 409, "trust_unavailable"),
        (server.get(&format!("/v1/trust/{unknown}")), 409, "trust_unavailable"),
        (server.get("/v1/trust/nobody"), 400, "invalid_parameter"),
        (server.get(&format!("/v1/trust/{unknown}?limit=0")), 400, "invalid_parameter"),
        (server.get(&format!("/v1/trust/{unknown}?limit=1001")), 400, "invalid_parameter"),
        (server.post("/v1/trust/learn?as_of=99", &json!({})), 400, "invalid_parameter"),
        (server.post("/v1/trust/learn?space=No!", &json!({})), 400, "invalid_parameter"),
    ] {
        let found = answer.json()["code"].clone();
        assert_eq!((answer.status, found.as_str()), (status, Some(code)), "{}", answer.text);
    }
    assert_eq!(resolve(&server, "consensus").status, 200, "only who asks for trust is refused");
    assert_eq!(server.get(&format!("/v1/trust/{unknown}?as_of=2")).status, 200);
}
