//! Lenses as data over HTTP: defined, refused, used, versioned, listed, explained and replayed.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use stemedb_model::{Agent, AgentAct, Body, Role, SourceClass};
use stemedb_server::wire::AnyRecord;
use support::{Running, key, root, signed, start_with};

const KEY: &str = "subject=s&predicate=p";

/// A server whose callers may define lenses, and three claims with little in common.
fn server() -> Running {
    let server = start_with(|config, _| config.signing.roles = vec![Role::Registrar]);
    for (value, confidence, uri) in [("a", 0.9, "x"), ("b", 0.5, "y"), ("c", 0.0, "z")] {
        let body = json!({
            "subject": "s", "predicate": "p", "object": value, "confidence": confidence,
            "at": "2024-01-01T00:00:00Z", "source": {"uri": uri},
            // One agent has one live statement of a time: these hold at different ones.
            "valid_from": format!("20{}-01-01T00:00:00Z", 10 + uri.as_bytes()[0] % 4),
        });
        server.claim(body);
    }
    server
}

fn define(server: &Running, name: &str, version: u64, weight: &str) -> u64 {
    let body = json!({
        "name": name, "version": version, "weight": weight, "aggregate": "sum",
        "at": "2024-01-01T00:00:00Z",
    });
    let answer = server.post("/v1/lens", &body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["position"].as_u64().unwrap()
}

fn value(server: &Running, query: &str) -> Value {
    server.get_json(&format!("/v1/query?{KEY}&{query}"))["value"].clone()
}

#[test]
fn a_definition_that_means_nothing_is_refused() {
    let server = server();
    let position = server.get_json("/v1/health")["applied"].clone();
    for (filter, weight, field, part) in [
        (None, "claim.confidense", "weight", "`claim.confidense` is no input"),
        (None, "claim.tier < 2", "weight", "expected a number"),
        (None, "((", "weight", "expected an expression of CEL"),
        (Some("claim.confidence"), "1.0", "filter", "expected bool"),
        (Some("[1].all(x, x > 0)"), "1.0", "filter", "macros are not allowed"),
    ] {
        let mut body = json!({
            "name": "l", "version": 1, "weight": weight, "aggregate": "sum",
            "at": "2024-01-01T00:00:00Z",
        });
        if let Some(filter) = filter {
            body["filter"] = json!(filter);
        }
        let answer = server.post("/v1/lens", &body);
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (400, &json!("invalid_field")), "{weight}");
        assert_eq!(problem["field"], field);
        assert!(problem["detail"].as_str().unwrap().contains(part), "{}", answer.text);
        // The same through the other doors.
        body["kind"] = json!("lens");
        let line = &server.import(&format!("{body}\n"))[0];
        assert_eq!(line["error"]["code"], "invalid_field", "{line}");
    }
    assert_eq!(server.get_json("/v1/health")["applied"], position);
}

#[test]
fn a_lens_is_used_by_name_and_version_as_it_stood() {
    let server = server();
    let before = server.get_json(&format!("/v1/query?{KEY}&lens=authority"));
    let first = define(&server, "mine", 1, "claim.confidence");
    let second = define(&server, "mine", 2, "1.0 - claim.confidence");
    assert_eq!(value(&server, "lens=mine@1"), "a");
    assert_eq!(value(&server, "lens=mine@2"), "c");
    assert_eq!(value(&server, "lens=mine"), "c");
    assert_eq!(value(&server, &format!("lens=mine&as_of={first}")), "a");
    let answer = server.get_json(&format!("/v1/query?{KEY}&lens=mine"));
    assert_eq!(answer["lens"], "mine@2");
    // The disagreement is the same under every lens.
    for field in ["status", "margin", "conflict_score", "evidence", "considered"] {
        assert_eq!(answer[field], before[field], "{field}");
    }
    let hash =
        |query: &str| server.get_json(&format!("/v1/query?{KEY}&{query}"))["lens_hash"].clone();
    assert_ne!(hash("lens=mine@1"), hash("lens=mine@2"));
    assert_ne!(hash("lens=mine@1"), hash("lens=mine@1&decay=per_class"));
    assert_eq!(hash("lens=mine"), hash("lens=mine@2"));

    for (query, status) in [
        ("lens=mine@3".to_owned(), 404),
        ("lens=other".into(), 404),
        ("lens=mine&space=elsewhere".into(), 404),
        (format!("lens=mine&as_of={}", first - 1), 404),
        (format!("lens=mine@2&as_of={first}"), 404),
        (format!("lens=mine@2&as_of={second}"), 200),
    ] {
        let answer = server.get(&format!("/v1/query?{KEY}&{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
        if status == 404 {
            let problem = answer.json();
            assert_eq!(problem["code"], "lens_not_found");
            assert_eq!(problem["field"], "lens");
            assert!(problem["detail"].as_str().unwrap().contains("authority"), "{problem}");
        }
    }
    let known = server.get(&format!("/v1/query?{KEY}&lens=other")).json();
    assert!(known["detail"].as_str().unwrap().ends_with("mine@1, mine@2"), "{known}");

    // What it said then, beside what it says now.
    let diff = server.get_json(&format!("/v1/query?{KEY}&lens=mine&diff={first}"));
    assert_eq!((&diff["value"], &diff["diff"]["value"]), (&json!("c"), &json!("a")));

    // Retracted, the one before is the newest.
    let id = server.get_json("/v1/lenses/mine@2")["record"]["id"].clone();
    let retract = json!({"record": id, "at": "2024-01-02T00:00:00Z"});
    assert_eq!(server.post("/v1/retract", &retract).status, 201);
    assert_eq!(value(&server, "lens=mine"), "a");
    assert_eq!(server.get(&format!("/v1/query?{KEY}&lens=mine@2")).status, 404);
    assert_eq!(value(&server, &format!("lens=mine@2&as_of={second}")), "c");
}

#[test]
fn many_keys_and_what_if_take_it_too() {
    let server = server();
    define(&server, "mine", 1, "1.0 - claim.confidence");
    let asked = json!({
        "keys": [{"subject": "s", "predicate": "p"}],
        "lenses": ["authority", "mine", "mine@1"],
    });
    let answer = server.post("/v1/resolve", &asked).json();
    let found = answer["results"][0]["resolutions"].as_array().unwrap();
    let lenses: Vec<&Value> = found.iter().map(|one| &one["lens"]).collect();
    assert_eq!(lenses, ["authority", "mine@1", "mine@1"]);
    assert_eq!(found[1]["value"], "c");
    assert_eq!(found[1], found[2]);
    // A page of many keys.
    let page = server.get_json("/v1/query?subject=s&lens=mine");
    for field in ["lens", "lens_hash", "value", "candidates", "excluded"] {
        assert_eq!(page["resolutions"][0][field], found[1][field], "{field}");
    }

    let asked = json!({"drop": {"source": {"uri": "z"}}, "lenses": ["mine", "authority"]});
    let answer = server.post("/v1/whatif", &asked).json();
    assert_eq!(answer["changed"][0]["lens"], "mine@1", "{answer}");
    assert_eq!(answer["changed"][0]["now"]["winners"], json!(["c"]));
    assert_eq!(answer["changed"][0]["then"]["winners"], json!(["b"]));
    let asked = json!({"drop": {"source": {"uri": "z"}}, "lenses": ["other"]});
    assert_eq!(server.post("/v1/whatif", &asked).json()["code"], "lens_not_found");
}

#[test]
fn a_claim_that_it_cannot_digest_is_named() {
    let server = server();
    define(&server, "inverse", 1, "1.0 / claim.confidence");
    let answer = server.get_json(&format!("/v1/query?{KEY}&lens=inverse"));
    assert_eq!(answer["value"], "b");
    let [fault] = answer["faults"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!(fault["field"], "weight");
    assert_eq!(fault["problem"], "a number beyond 1,000,000,000");
    assert_eq!(answer["excluded"][0]["id"], fault["claim"]["id"]);
    assert_eq!(answer["excluded"][0]["reason"], "filtered");
    // No other answer has the field.
    let other = server.get_json(&format!("/v1/query?{KEY}&lens=authority"));
    assert!(other.get("faults").is_none());
}

#[test]
fn a_receipt_of_it_replays() {
    let server = server();
    define(&server, "inverse", 1, "1.0 / claim.confidence * claim.reliability");
    let explained = server.get_json(&format!("/v1/explain?{KEY}&lens=inverse"));
    let receipt = &explained["receipt"];
    assert_eq!(receipt["lens"], "inverse@1");
    assert_eq!(receipt["excluded"], 1);
    // Whatever comes later.
    define(&server, "inverse", 2, "claim.confidence");
    server.claim(json!({"subject": "s", "predicate": "p", "object": "d", "at": 5}));
    let replay = server.post("/v1/replay", receipt).json();
    assert_eq!((&replay["same"], &replay["hash"]), (&json!(true), &explained["hash"]));
    let mut other = receipt.clone();
    other["lens_hash"] = json!("00".repeat(32));
    assert_eq!(server.post("/v1/replay", &other).json()["differences"], json!(["lens_hash"]));
    other["lens"] = json!("inverse@2");
    // It was not defined yet.
    assert_eq!(server.post("/v1/replay", &other).json()["code"], "lens_not_found");
}

#[test]
fn it_may_ask_whom_to_trust() {
    let server = start_with(|config, _| config.signing.roles = vec![Role::Registrar, Role::Trust]);
    for (n, value) in ["a", "b"].into_iter().enumerate() {
        let from = format!("201{n}-01-01T00:00:00Z");
        let until = format!("201{}-01-01T00:00:00Z", n + 1);
        server.claim(json!({
            "subject": "s", "predicate": "p", "object": value, "confidence": 0.5 + n as f64 / 4.0,
            "at": n, "valid_from": from, "valid_to": until,
        }));
    }
    define(&server, "mine", 1, "claim.confidence * claim.reliability");
    let told = |lens: &str| {
        let at = "valid_at=2011-06-01T00:00:00Z";
        server.get_json(&format!("/v1/query?{KEY}&{at}&lens={lens}"))
    };
    let weight = |answer: &Value| {
        let weight = answer["candidates"][0]["lens_weight"].as_str();
        weight.unwrap_or_else(|| panic!("no weight: {answer}")).to_owned()
    };
    let before = weight(&told("trust"));
    assert_eq!(before, (3 * (1u64 << 27)).to_string(), "3/4 of an unknown agent");
    assert_eq!(weight(&told("mine")), before);
    // Two others say the same of everything, and not what the server's own agent does.
    for other in 2..4 {
        let ceiling = SourceClass::Expert;
        let act = AgentAct::Register { name: None, ceiling, operator: None, roles: vec![] };
        let agent = Body::Agent(Agent { key: key(other).agent_id(), act });
        assert_eq!(server.post("/v1/agent", &signed(agent, &root(), 1)).status, 201);
        for n in 0..8 {
            let fields = json!({
                "kind": "assertion", "subject": n.to_string(), "predicate": "p", "object": "right",
            });
            let fields = AnyRecord::parse(fields.to_string().as_bytes()).unwrap();
            let body = fields.draft().unwrap().body;
            let answer = server.post("/v1/assert", &signed(body, &key(other), n));
            assert_eq!(answer.status, 201, "{}", answer.text);
        }
    }
    for n in 0..8 {
        server.claim(json!({
            "subject": n.to_string(), "predicate": "p", "object": "wrong", "at": n,
        }));
    }
    let learned = server.post("/v1/trust/learn", &json!({})).json();
    let snapshot = json!({
        "input_position": learned["input_position"], "config": learned["config"],
        "table": learned["table"], "at": 9,
    });
    let id = server.post("/v1/trust_snapshot", &snapshot).json()["id"].clone();
    let after = told("mine");
    assert_eq!(after["trust_snapshot"]["id"], id);
    assert_ne!(weight(&after), before);
    assert_eq!(weight(&after), weight(&told("trust")));
    let explained = server.get_json(&format!("/v1/explain?{KEY}&lens=mine"));
    let replay = server.post("/v1/replay", &explained["receipt"]).json();
    assert_eq!((&replay["same"], &replay["hash"]), (&json!(true), &explained["hash"]));
}

#[test]
fn built_in_lenses_are_listed_as_definitions() {
    let server = server();
    for n in 0..4 {
        define(&server, &format!("l/{n}"), 1, "1.0");
    }
    let all = server.get_json("/v1/lenses");
    let lenses = all["lenses"].as_array().unwrap();
    assert_eq!(lenses.len(), 12);
    assert!(all.get("cursor").is_none());
    assert_eq!(lenses[3]["lens"], "authority");
    assert_eq!(lenses[3]["weight"], "claim.tier == question.best_tier ? claim.confidence : null");
    assert!(lenses[6].get("weight").is_none() && lenses[6].get("beyond").is_some());
    for lens in lenses {
        // A slash in a name is escaped in the path.
        let name = lens["lens"].as_str().unwrap().replace('/', "%2F");
        assert_eq!(server.get_json(&format!("/v1/lenses/{name}")), *lens);
        let answer = server.get_json(&format!("/v1/query?{KEY}&lens={name}"));
        assert_eq!(answer["lens_hash"], lens["lens_hash"], "{name}");
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get_json(&format!("/v1/lenses?limit=5{cursor}"));
        found.extend(page["lenses"].as_array().unwrap().clone());
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // What comes meanwhile is on no page of it.
        define(&server, "a", found.len() as u64, "1.0");
    }
    assert_eq!(&found, lenses);
    assert_eq!(server.get("/v1/lenses/nothing").json()["code"], "lens_not_found");
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("lens=\"custom\""), "counted under one name");
}
