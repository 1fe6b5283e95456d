//! The neighbourhood of a record.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::{Running, start};

/// The records of a trace by position, and its links as (from, relation, to).
fn trace(server: &Running, id: &str, query: &str) -> (Vec<u64>, Vec<(u64, String, u64)>, Value) {
    let answer = server.get_json(&format!("/v1/trace/{id}{query}"));
    let records = answer["records"].as_array().unwrap();
    let place = |id: &Value| {
        let found = records.iter().find(|one| one["record"]["id"] == *id);
        found.unwrap_or_else(|| panic!("{id} is linked and not there"))["position"]
            .as_u64()
            .unwrap()
    };
    let positions = records.iter().map(|one| one["position"].as_u64().unwrap()).collect();
    let mut links: Vec<_> = answer["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| {
            let relation = link["relation"].as_str().unwrap().to_owned();
            (place(&link["from"]), relation, place(&link["to"]))
        })
        .collect();
    links.sort();
    (positions, links, answer)
}

fn claim(server: &Running, subject: &str, more: Value) -> (String, u64) {
    let mut body = json!({"subject": subject, "predicate": "p", "object": 1, "at": 1});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.claim(body)
}

fn of(links: &[(u64, &str, u64)]) -> Vec<(u64, String, u64)> {
    links.iter().map(|(from, relation, to)| (*from, (*relation).to_owned(), *to)).collect()
}

#[test]
fn a_trace_leads_up_and_down_and_is_bounded() {
    let server = start();
    // Genesis and the custodial agent are 1 and 2.
    let (base, three) = claim(&server, "base", json!({}));
    let (revised, four) = claim(&server, "base", json!({"parent": base, "object": 2, "at": 2}));
    let (result, five) = claim(&server, "result", json!({"derived_from": [revised]}));
    let (_, six) = claim(&server, "summary", json!({"derived_from": [result], "at": 3}));
    let (better, seven) = claim(&server, "result", json!({"object": 9, "at": 4}));
    let supersede = json!({"old": result, "new": better, "at": 5});
    let supersede = server.post("/v1/supersede", &supersede).json();
    let vote = server.post("/v1/vote", &json!({"assertion": base, "weight": 1, "at": 1})).json();
    assert_eq!([three, four, five, six, seven], [3, 4, 5, 6, 7]);

    let all =
        of(&[(4, "revises", 3), (5, "rests_on", 4), (6, "rests_on", 5), (7, "supersedes", 5)]);
    let (records, links, answer) = trace(&server, &revised, "");
    assert_eq!((records.as_slice(), &links), ([4, 3, 5, 7, 6].as_slice(), &all));
    assert_eq!(answer["complete"], true);
    let link = answer["links"].as_array().unwrap();
    let superseded = link.iter().find(|link| link["relation"] == "supersedes").unwrap();
    assert_eq!(superseded["by"], supersede["id"]);
    let base_answer = &answer["records"][1];
    assert_eq!(base_answer["facts"][0]["id"], vote["id"]);
    assert_eq!(base_answer["excluded"]["reason"], "replaced");
    // From every record of it the same neighbourhood is found, also from what speaks of one.
    for from in [&base, &result, &better] {
        assert_eq!(trace(&server, from, "").1, all);
    }
    assert_eq!(trace(&server, vote["id"].as_str().unwrap(), "").1, all);
    assert_eq!(trace(&server, supersede["id"].as_str().unwrap(), "").0[0], 5);

    let (records, links, answer) = trace(&server, &revised, "?depth=1");
    assert_eq!(records, [4, 3, 5]);
    assert_eq!(links, of(&[(4, "revises", 3), (5, "rests_on", 4)]));
    assert_eq!(answer["complete"], false);
    let (records, _, answer) = trace(&server, &revised, "?limit=2");
    assert_eq!((records.len(), &answer["complete"]), (2, &json!(false)));
    // As it stood before the summary and what came later.
    let (records, _, answer) = trace(&server, &revised, "?as_of=5");
    assert_eq!((records, &answer["complete"]), (vec![4, 3, 5], &json!(true)));
}

#[test]
fn an_epoch_leads_to_the_claims_made_under_it() {
    let server = start();
    let epoch = json!({"name": "before the recall", "at": 1});
    let epoch = server.post("/v1/epoch", &epoch).json();
    let epoch = epoch["id"].as_str().unwrap();
    let (_, under) = claim(&server, "x", json!({"epoch": epoch}));
    let (records, links, _) = trace(&server, epoch, "");
    assert_eq!((records, links), (vec![3, under], of(&[(under, "under", 3)])));
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let server = start();
    let absent = "0".repeat(64);
    for (path, status, code) in [
        (format!("/v1/trace/{absent}"), 404, "record_not_found"),
        ("/v1/trace/x".to_owned(), 400, "invalid_parameter"),
        (format!("/v1/trace/{absent}?depth=0"), 400, "invalid_parameter"),
        (format!("/v1/trace/{absent}?depth=65"), 400, "invalid_parameter"),
        (format!("/v1/trace/{absent}?limit=1001"), 400, "invalid_parameter"),
    ] {
        let answer = server.get(&path);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{path}");
    }
}
