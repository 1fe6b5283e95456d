//! The list of conflicts over HTTP: it follows what is written, filters, and goes on page by page.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use stemedb_model::{
    Assertion, Body, PredicateName, Provenance, Retract, RetractTarget, SourceKey, Subject,
    Value as Object,
};
use support::{Running, key, root, signed, start_with};

/// Two agents with a source each disagree about each of the keys; the position of the last claim.
fn disagree(server: &Running, keys: std::ops::Range<u64>) -> u64 {
    let mut last = 0;
    for n in keys {
        for (agent, object) in [(1, "yes"), (2, "no")] {
            let assertion = Assertion {
                subject: Subject::parse(&format!("s/{n}")).unwrap(),
                predicate: PredicateName::parse("p").unwrap(),
                object: Object::text(object).unwrap(),
                // The further on, the weaker the second.
                confidence: if agent == 1 { 1.0 } else { 1.0 / (n + 1) as f64 },
                source: Some(Provenance {
                    uri: Some(format!("https://{object}.example/").into()),
                    ..Provenance::default()
                }),
                valid_from: None,
                valid_to: None,
                epoch: None,
                lifecycle: Default::default(),
                parent: None,
                derived_from: vec![],
                vector: None,
                visual_hash: None,
                meta: Default::default(),
            };
            let body = signed(Body::Assertion(assertion), &key(agent), 1_700_000_000_000);
            (_, last) = server.claim(body);
        }
    }
    last
}

/// A server whose readers wait long enough for the list to follow.
fn start() -> Running {
    start_with(|config, _| config.limits.at_least_timeout = Duration::from_secs(5))
}

fn list(server: &Running, query: &str) -> Value {
    server.get_json(&format!("/v1/conflicts?{query}"))
}

fn subjects(answer: &Value) -> Vec<&str> {
    answer["conflicts"].as_array().unwrap().iter().map(|c| c["subject"].as_str().unwrap()).collect()
}

#[test]
fn conflicts_are_listed_worst_first_and_in_pages() {
    let server = start();
    let empty = list(&server, "");
    assert_eq!((&empty["open"], &empty["conflicts"]), (&json!(0), &json!([])));
    let last = disagree(&server, 0..5);
    let all = list(&server, &format!("at_least={last}"));
    assert_eq!(all["open"], 5);
    assert!(all["position"].as_u64().unwrap() >= last);
    assert_eq!(subjects(&all), ["s/0", "s/1", "s/2", "s/3", "s/4"]);
    let worst = &all["conflicts"][0];
    assert_eq!((&worst["status"], &worst["conflict_score"]), (&json!("contested"), &json!(1.0)));
    assert_eq!((&worst["values"], &worst["claims"]), (&json!(2), &json!(2)));

    // What a row tells is what an answer tells.
    let answer = server.get_json("/v1/skeptic?subject=s/3&predicate=p");
    for figure in ["status", "conflict_score", "effective_values", "margin", "evidence"] {
        assert_eq!(all["conflicts"][3][figure], answer[figure], "{figure}");
    }

    let first = list(&server, "limit=2");
    assert_eq!(subjects(&first), ["s/0", "s/1"]);
    let cursor = first["cursor"].as_str().unwrap();
    let second = list(&server, &format!("limit=3&cursor={cursor}"));
    assert_eq!(subjects(&second), ["s/2", "s/3", "s/4"]);
    let other = server.get(&format!("/v1/conflicts?status=agreed&cursor={cursor}"));
    assert_eq!(other.json()["code"], "cursor_mismatch");

    assert_eq!(subjects(&list(&server, "subject_prefix=s/2")), ["s/2"]);
    assert_eq!(subjects(&list(&server, "predicate=q")), Vec::<&str>::new());
    assert_eq!(subjects(&list(&server, "score_min=0.999")), ["s/0"]);
    let agreed = list(&server, "status=agreed");
    let contested = list(&server, "status=contested");
    assert_eq!(subjects(&agreed).len() + subjects(&contested).len(), 5);
    assert!(!subjects(&agreed).is_empty() && !subjects(&contested).is_empty());
    for bad in ["score_min=1.5", "score_min=x", "limit=0", "status=torn", "cursor=00"] {
        let refused = server.get(&format!("/v1/conflicts?{bad}"));
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (400, &json!("invalid_parameter")),
            "{bad}"
        );
    }
    assert!(server.get("/metrics").text.contains("stemedb_conflicts_open 5"));
}

#[test]
fn a_withdrawn_source_ends_its_conflicts() {
    let server = start();
    let last = disagree(&server, 0..3);
    assert_eq!(list(&server, &format!("at_least={last}"))["open"], 3);
    let target = RetractTarget::Source(SourceKey::Uri("https://no.example/".into()));
    let gone = Body::Retract(Retract { target, reason: None });
    let gone = server.post("/v1/retract", &signed(gone, &root(), 1_700_000_000_000));
    assert_eq!(gone.status, 201, "{}", gone.text);
    let position = gone.json()["position"].as_u64().unwrap();
    let after = list(&server, &format!("at_least={position}"));
    assert_eq!((&after["open"], &after["conflicts"]), (&json!(0), &json!([])));
    // It is not there yet, and will not be.
    let early = server.get("/v1/conflicts?at_least=90000");
    assert_eq!(early.json()["code"], "position_ahead");
}
