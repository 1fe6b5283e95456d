//! What changed between two moments, and what would.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::{Running, start};

fn claim(server: &Running, subject: &str, object: &str, more: Value) -> (String, u64) {
    let mut body = json!({"subject": subject, "predicate": "p", "object": object, "at": 1});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.claim(body)
}

#[test]
fn a_diff_says_what_became_of_each_claim() {
    let server = start();
    let (first, three) = claim(&server, "s", "rare", json!({}));
    let bounds = json!({"valid_from": 0});
    let (other, four) = claim(&server, "s", "rare", bounds);
    let (newer, five) = claim(&server, "s", "common", json!({"at": 2}));
    let vote = server.post("/v1/vote", &json!({"assertion": newer, "weight": 0.5, "at": 3})).json();
    let retract = json!({"record": other, "at": 4});
    let retract = server.post("/v1/retract", &retract).json();
    assert_eq!([three, four, five], [3, 4, 5]);

    let ask = |more: &str| {
        server.get_json(&format!("/v1/query?subject=s&predicate=p&lens=consensus{more}"))
    };
    assert!(ask("").get("diff").is_none());
    let answer = ask("&diff=4");
    let diff = &answer["diff"];
    assert_eq!(answer["value"], "common");
    assert_eq!((&diff["value"], &diff["changed"]), (&json!("rare"), &json!(true)));
    assert_eq!((&diff["position"], &diff["status"]), (&json!(4), &json!("unanimous")));
    assert_eq!(diff["predicate_changed"], false);
    let told: Vec<(&str, &str, &Value, &Value)> = diff["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let text = |name: &str| change[name].as_str().unwrap();
            (text("id"), text("change"), &change["reason"], &change["by"])
        })
        .collect();
    let none = Value::Null;
    assert_eq!(
        told,
        [
            (first.as_str(), "excluded", &json!("replaced"), &json!(newer)),
            (other.as_str(), "excluded", &json!("retracted"), &retract["id"]),
            (newer.as_str(), "asserted", &none, &none),
            (newer.as_str(), "voted", &none, &vote["id"]),
        ]
    );
    let values: Vec<(&Value, f64, f64)> = diff["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| {
            let share = |name: &str| value[name].as_f64().unwrap();
            (&value["value"], share("share_then"), share("share"))
        })
        .collect();
    assert_eq!(values, [(&json!("common"), 0.0, 1.0), (&json!("rare"), 1.0, 0.0)]);
    // Between two moments of the past, and where nothing happened.
    let past = ask("&as_of=5&diff=4");
    assert_eq!(past["diff"]["changes"].as_array().unwrap().len(), 2);
    let same = ask("&diff=7");
    assert_eq!(
        (&same["diff"]["changed"], &same["diff"]["changes_count"]),
        (&json!(false), &json!(0))
    );
    for (path, field) in [
        ("/v1/query?subject=s&lens=consensus&diff=4", "diff"),
        ("/v1/query?subject=s&predicate=p&diff=4", "diff"),
        ("/v1/query?subject=s&predicate=p&lens=consensus&as_of=4&diff=5", "diff"),
    ] {
        let refused = server.get(path);
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!(field)), "{path}");
    }
}

#[test]
fn what_would_change_is_told_and_nothing_is_written() {
    let server = start();
    let source = json!({"source": {"uri": "https://example.org/a"}});
    let (base, _) = claim(&server, "a", "x", source);
    claim(&server, "b", "x", json!({"derived_from": [base]}));
    claim(&server, "c", "x", json!({}));
    let ask = |drop: Value, more: Value| {
        let mut body = json!({ "drop": drop });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/whatif", &body)
    };
    let drop = json!({"source": {"uri": "https://example.org/a"}});
    let answer = ask(drop.clone(), json!({"lenses": ["authority", "skeptic"]})).json();
    assert_eq!((&answer["keys"], &answer["changed_count"]), (&json!(2), &json!(4)));
    let first = &answer["changed"][0];
    assert_eq!((&first["subject"], &first["lens"]), (&json!("a"), &json!("authority")));
    assert_eq!(first["now"]["winners"], json!(["x"]));
    assert_eq!(first["then"]["winners"], json!([]));
    assert_eq!(
        (&first["then"]["status"], &first["then"]["claims"]),
        (&json!("unknown"), &json!(0))
    );
    assert_eq!(answer["position"], json!(5), "nothing is written");
    let one = ask(drop.clone(), json!({"limit": 1})).json();
    assert_eq!((one["changed"].as_array().unwrap().len(), &one["changed_count"]), (1, &json!(2)));
    let nobody = "00".repeat(32);
    for (drop, more, status, code) in [
        (json!({"assertion": nobody}), json!({}), 404, "record_not_found"),
        (json!({"epoch": base}), json!({}), 404, "record_not_found"),
        (json!({"agent": nobody}), json!({}), 200, ""),
        (json!({"agent": "x"}), json!({}), 400, "invalid_field"),
        (json!({}), json!({}), 400, "invalid_field"),
        (json!({"assertion": base, "epoch": base}), json!({}), 400, "invalid_field"),
        (drop.clone(), json!({"lenses": []}), 400, "invalid_field"),
        (drop.clone(), json!({"limit": 0}), 400, "invalid_parameter"),
        (drop, json!({"else": 1}), 400, "invalid_field"),
    ] {
        let answer = ask(drop.clone(), more.clone());
        let found = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, found.as_str()), (status, code), "{drop} {more}");
    }
}
