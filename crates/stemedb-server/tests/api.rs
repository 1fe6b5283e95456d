//! What callers do, over real HTTP.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

mod support;

use serde_json::{Value, json};
use stemedb_model::{
    Agent, AgentAct, Body, Millis, Record, Role, Signed, SigningKey, SourceClass, Space,
};
use support::{LOG_ID, Running, key, root, signed, start, start_with};

const AT: &str = "2024-07-01T00:00:00Z";
const QUERY: &str = "/v1/query?subject=drugs/semaglutide&predicate=gastroparesis_risk";

fn claim(object: impl Into<Value>, at: &str) -> Value {
    json!({
        "subject": "drugs/semaglutide", "predicate": "gastroparesis_risk",
        "object": object.into(), "at": at
    })
}

/// The same claim by another agent, signed at the client.
fn signed_claim(object: &str, key: &SigningKey, class: Option<SourceClass>) -> Value {
    use stemedb_model::{Assertion, PredicateName, Provenance, Subject, Value as Object};
    let assertion = Assertion {
        subject: Subject::parse("drugs/semaglutide").unwrap(),
        predicate: PredicateName::parse("gastroparesis_risk").unwrap(),
        object: Object::text(object).unwrap(),
        confidence: 1.0,
        source: class.map(|class| Provenance { class: Some(class), ..Provenance::default() }),
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
    signed(Body::Assertion(assertion), key, 1_719_792_000_000)
}

fn register(server: &Running, agent: &SigningKey, ceiling: SourceClass) {
    let act = AgentAct::Register { name: None, ceiling, operator: None, roles: vec![] };
    let body = Body::Agent(Agent { key: agent.agent_id(), act });
    let answer = server.post("/v1/agent", &signed(body, &root(), 1_700_000_000_000));
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[test]
fn a_claim_goes_in_and_an_answer_comes_out() {
    let server = start();
    let first = server.post("/v1/assert", &claim("rare", AT));
    assert_eq!(first.status, 201, "{}", first.text);
    let ack = first.json();
    assert_eq!(ack["status"], "created");
    assert_eq!(ack["custodial"], true);
    assert_eq!(ack["position"], 3, "after genesis and the custodial agent");
    assert_eq!(ack["at"], AT);

    let again = server.post("/v1/assert", &claim("rare", AT));
    assert_eq!(again.status, 200);
    let exists = again.json();
    assert_eq!(exists["status"], "exists");
    for same in ["id", "position", "recorded_at", "snapshot"] {
        assert_eq!(exists[same], ack[same]);
    }
    assert_eq!(exists.get("excluded"), None);

    let answer = server.get_json(&format!("{QUERY}&lens=consensus"));
    assert_eq!(answer["value"], "rare");
    assert_eq!(answer["status"], "unanimous");
    assert_eq!(answer["position"], 3);
    assert_eq!(answer["because"][0]["id"], ack["id"]);
    assert_eq!(answer["candidates"][0]["class"], "anecdotal");
}

/// The answer as a client sees it, all of it: a change here is a change of the interface.
#[test]
fn the_answer_of_a_lens_is_frozen() {
    let server = start();
    register(&server, &key(7), SourceClass::Regulatory);
    let label =
        server.post("/v1/assert", &signed_claim("rare", &key(7), Some(SourceClass::Regulatory)));
    let (post, _) = server.claim(claim("common", AT));
    let (gone, _) = server.claim(claim("never", "2024-06-01T00:00:00Z"));
    let mut answer = server.get_json(&format!("{QUERY}&lens=authority"));
    for moving in ["evaluated_at", "valid_at"] {
        assert!(answer[moving].as_str().unwrap().ends_with('Z'));
        answer[moving] = json!("now");
    }
    let label = label.json()["id"].clone();
    let expected = json!({
        "space": "default",
        "subject": "drugs/semaglutide",
        "predicate": "gastroparesis_risk",
        "lens": "authority",
        "lens_hash": answer["lens_hash"],
        "position": 6,
        "snapshot": format!("{}{:016x}", "7e".repeat(16), 6),
        "evaluated_at": "now",
        "valid_at": "now",
        "complete": true,
        "history_lost": false,
        "value": "rare",
        "winners": ["rare"],
        "status": "agreed",
        "conflict_score": answer["conflict_score"],
        "effective_values": answer["effective_values"],
        "margin": 0.5,
        "lens_share": 1.0,
        "lens_margin": 1.0,
        "evidence": 2.0,
        "because": [{"id": label, "position": 4}],
        "candidates": [
            {
                "value": "rare", "share": 0.75, "support": 1.0, "against": 0.0,
                // An unregistered source is expert at best, whatever its claim declares.
                "lens_share": 1.0, "lens_weight": "1073741824", "tier": 3,
                "class": "expert", "claims": 1, "agents": 1, "voices": 1,
                "because": [{"id": label, "position": 4}]
            },
            {
                "value": "never", "share": 0.25, "support": 1.0, "against": 0.0,
                "lens_share": 0.0, "lens_weight": "0", "tier": 5,
                "class": "anecdotal", "claims": 1, "agents": 1, "voices": 1,
                "because": [{"id": gone, "position": 6}]
            }
        ],
        "dissent": [{"class": "anecdotal", "voices": 1, "claims": 1, "support": 1.0}],
        "considered": 3,
        "excluded_count": 1,
        "excluded_for": {"replaced": 1},
        "excluded": [
            {"id": post, "position": 5, "reason": "replaced", "by": gone}
        ]
    });
    assert_eq!(answer, expected);
    let score = answer["conflict_score"].as_f64().unwrap();
    assert!((score - 0.811_278).abs() < 1e-6, "{score}");
}

#[test]
fn one_question_has_one_answer_however_it_is_asked() {
    let server = start();
    for (n, object) in [(10, "rare"), (11, "rare"), (12, "common")] {
        let answer = server.post("/v1/assert", &signed_claim(object, &key(n), None));
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    // At a position, so that the time of evaluation is the same too.
    let at = "as_of=5";
    let lenses = ["recency", "consensus", "confidence", "authority", "votes", "skeptic", "layered"];
    let bulk = server.post(
        "/v1/resolve",
        &json!({
            "keys": [
                {"subject": "drugs/semaglutide", "predicate": "gastroparesis_risk"},
                {"subject": "nobody", "predicate": "knows"}
            ],
            "lenses": lenses,
            "as_of": 5
        }),
    );
    assert_eq!(bulk.status, 200, "{}", bulk.text);
    let bulk = bulk.json();
    assert_eq!(bulk["position"], 5);
    for (index, lens) in lenses.into_iter().enumerate() {
        let one = server.get_json(&format!("{QUERY}&lens={lens}&{at}"));
        assert_eq!(one, bulk["results"][0]["resolutions"][index], "{lens}");
        assert_eq!(one["considered"], 3);
        let none =
            server.get_json(&format!("/v1/query?subject=nobody&predicate=knows&lens={lens}&{at}"));
        assert_eq!(none, bulk["results"][1]["resolutions"][index], "{lens}");
        assert_eq!(none["status"], "unknown");
        assert_eq!(none["value"], Value::Null);
    }
    let key = "subject=drugs/semaglutide&predicate=gastroparesis_risk&as_of=5";
    assert_eq!(
        server.get_json(&format!("/v1/skeptic?{key}")),
        bulk["results"][0]["resolutions"][5]
    );
    assert_eq!(
        server.get_json(&format!("/v1/layered?{key}")),
        bulk["results"][0]["resolutions"][6]
    );
}

#[test]
fn records_are_content_addressed() {
    let server = start();
    let record = signed_claim("rare", &key(9), None);
    let id = record["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/assertions/{id}");
    assert_eq!(server.get(&path).status, 404);
    assert_eq!(server.put(&path, &record).status, 201);
    assert_eq!(server.put(&format!("/v1/records/{id}"), &record).status, 200);
    let other = format!("/v1/assertions/{}", "ab".repeat(32));
    let refused = server.put(&other, &record);
    assert_eq!((refused.status, refused.json()["code"].clone()), (400, json!("id_mismatch")));

    let shown = server.get_json(&path);
    assert_eq!(shown["record"]["object"], "rare");
    assert_eq!(shown["custodial"], false);
    assert_eq!(shown["principal"], "local");
    assert_eq!(shown["standing"]["class"], "anecdotal");
    assert_eq!(shown["facts"], json!([]));
    // What was shown can be sent again.
    assert_eq!(server.put(&path, &shown["record"]).status, 200);

    let signed = Signed::seal(
        Record {
            space: Space::default(),
            agent: key(9).agent_id(),
            at: Millis(5),
            log_id: Some(LOG_ID),
            body: Body::Vote(stemedb_model::Vote { assertion: id.parse().unwrap(), weight: -1.0 }),
        },
        &key(9),
    )
    .unwrap();
    let bytes = json!({
        "bytes": signed.bytes().iter().map(|b| format!("{b:02x}")).collect::<String>(),
        "signature": signed.signature().to_string()
    });
    let vote = format!("/v1/records/{}", signed.id());
    assert_eq!(server.put(&vote, &bytes).status, 201);
    assert_eq!(server.get_json(&vote)["record"]["weight"], -1.0);
    let facts = server.get_json(&path)["facts"].clone();
    assert_eq!((&facts[0]["kind"], &facts[0]["weight"]), (&json!("vote"), &json!(-1.0)));
    assert_eq!(server.get(&format!("/v1/assertions/{}", signed.id())).status, 404);
    assert_eq!(server.get(&format!("{path}?space=other")).status, 404);
    assert_eq!(server.get(&format!("{path}?as_of=2")).status, 404);
}

#[test]
fn a_body_without_a_time_is_the_same_record_under_the_same_key() {
    let server = start();
    let body = json!({"subject": "s", "predicate": "p", "object": 1});
    let refused = server.post("/v1/assert", &body);
    assert_eq!((refused.status, refused.json()["field"].clone()), (400, json!("at")));
    let with =
        |body: &Value, key: &str| server.post_with("/v1/assert", body, &[("Idempotency-Key", key)]);
    let first = with(&body, "k1");
    assert_eq!(first.status, 201, "{}", first.text);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let again = with(&body, "k1");
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.json()["id"], first.json()["id"]);
    let other = with(&json!({"subject": "s", "predicate": "p", "object": 2}), "k1");
    assert_eq!((other.status, other.json()["code"].clone()), (409, json!("idempotency_conflict")));
    assert_eq!(other.json()["id"], first.json()["id"]);
    assert_eq!(with(&body, "k2").status, 201);
    assert_eq!(with(&body, "").status, 400);
    assert_eq!(with(&body, &"k".repeat(256)).status, 400);
    assert_eq!(with(&body, "a b").status, 400);
}

#[test]
fn the_local_user_decides_but_does_not_administer() {
    let server = start();
    let (theirs, _) = {
        let answer = server.post("/v1/assert", &signed_claim("rare", &key(20), None));
        (answer.json()["id"].as_str().unwrap().to_owned(), 0)
    };
    let (ours, _) = server.claim(claim("common", AT));
    for (path, body, status) in [
        ("/v1/vote", json!({"assertion": theirs, "weight": 1, "at": AT}), 201),
        ("/v1/cosign", json!({"assertion": theirs, "at": AT}), 201),
        ("/v1/epoch", json!({"name": "e", "at": AT}), 201),
        ("/v1/lifecycle", json!({"assertion": theirs, "state": "approved", "at": AT}), 201),
        ("/v1/supersede", json!({"old": theirs, "new": ours, "at": AT}), 201),
        ("/v1/retract", json!({"record": ours, "reason": "wrong", "at": AT}), 201),
        (
            "/v1/source",
            json!({"keys": [{"uri": "https://example.org"}], "class": "regulatory", "at": AT}),
            403,
        ),
        ("/v1/predicate", json!({"name": "p", "cardinality": "one", "at": AT}), 403),
        ("/v1/alias", json!({"subject": "a", "other": "b", "at": AT}), 403),
        ("/v1/gold", json!({"subject": "s", "predicate": "p", "object": 1, "at": AT}), 403),
        (
            "/v1/lens",
            json!({"name": "l", "version": 1, "weight": "1.0", "aggregate": "sum", "at": AT}),
            403,
        ),
        (
            "/v1/agent",
            json!({"key": key(3).agent_id().to_string(), "ceiling": "expert", "at": AT}),
            403,
        ),
    ] {
        let answer = server.post(path, &body);
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        if status == 403 {
            assert_eq!(answer.json()["code"], "forbidden");
        }
    }
    let exists = server.post("/v1/assert", &claim("common", AT));
    assert_eq!(exists.status, 200);
    assert_eq!(exists.json()["excluded"]["reason"], "retracted");
    let shown = server.get_json(&format!("/v1/assertions/{theirs}"));
    let kinds: Vec<_> =
        shown["facts"].as_array().unwrap().iter().map(|f| f["kind"].clone()).collect();
    // The retraction is about ours, which is what theirs was superseded by.
    assert_eq!(kinds, ["vote", "cosign", "lifecycle", "supersede"]);
    assert_eq!(shown["standing"]["lifecycle"], "approved");
}

#[test]
fn a_configured_registrar_registers() {
    let server = start_with(|config, _| {
        config.signing.roles = vec![Role::Curator, Role::Registrar];
    });
    let body = json!({"name": "p", "cardinality": "one", "at": AT});
    assert_eq!(server.post("/v1/predicate", &body).status, 201);
}

#[test]
fn without_custodial_signing_records_need_signatures() {
    let server = start_with(|config, _| config.signing.custodial = false);
    let answer = server.post("/v1/assert", &claim("rare", AT));
    assert_eq!((answer.status, answer.json()["code"].clone()), (403, json!("signing_disabled")));
    let answer = server.post("/v1/assert", &signed_claim("rare", &key(4), None));
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.json()["custodial"], false);
    assert_eq!(server.get_json("/v1/health").get("custodial_agent"), None);
}

#[test]
fn pages_of_assertions_are_of_one_state() {
    let server = start();
    for n in 0..7 {
        server.claim(json!({"subject": format!("s/{n}"), "predicate": "p", "object": n, "at": n}));
    }
    let mut found = Vec::new();
    let mut path = "/v1/query?predicate=p&limit=3".to_owned();
    let mut pages = 0;
    loop {
        let page = server.get_json(&path);
        assert_eq!(page["position"], 9);
        for one in page["assertions"].as_array().unwrap() {
            found.push(one["record"]["object"].as_f64().unwrap());
        }
        pages += 1;
        // What is written meanwhile belongs to no page.
        server.claim(
            json!({"subject": format!("late/{pages}"), "predicate": "p", "object": 99, "at": 1}),
        );
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/v1/query?predicate=p&limit=3&cursor={cursor}");
    }
    assert_eq!(found, (0..7).map(f64::from).collect::<Vec<_>>());
    let cursor = server.get_json("/v1/query?predicate=p&limit=3")["cursor"].clone();
    let other = server.get(&format!("/v1/query?predicate=q&cursor={}", cursor.as_str().unwrap()));
    assert_eq!((other.status, other.json()["code"].clone()), (400, json!("cursor_mismatch")));

    let of = |query: &str| {
        let page = server.get_json(&format!("/v1/query?{query}"));
        page["assertions"].as_array().unwrap().len()
    };
    assert_eq!(of("subject_prefix=s/"), 7);
    assert_eq!(of("subject=s/3"), 1);
    assert_eq!(of("predicate=p&asserted_before=3&as_of=9"), 3);
    assert_eq!(of("predicate=nothing"), 0);
    assert_eq!(of(&format!("epoch={}", "ab".repeat(32))), 0);
    assert_eq!(of("lifecycle=proposed,approved&as_of=9"), 7);
    assert_eq!(of("class=regulatory"), 0);
    assert_eq!(of("space=other"), 0);
}

#[test]
fn pages_of_resolutions_come_by_key() {
    let server = start();
    for n in [3, 1, 4, 0, 2] {
        server.claim(json!({"subject": format!("s/{n}"), "predicate": "p", "object": n, "at": 1}));
    }
    let mut subjects = Vec::new();
    let mut path = "/v1/query?subject_prefix=s/&lens=recency&limit=2".to_owned();
    loop {
        let page = server.get_json(&path);
        for one in page["resolutions"].as_array().unwrap() {
            assert_eq!(one["evaluated_at"], page["evaluated_at"]);
            subjects.push(one["subject"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/v1/query?subject_prefix=s/&lens=recency&limit=2&cursor={cursor}");
    }
    assert_eq!(subjects, ["s/0", "s/1", "s/2", "s/3", "s/4"]);
}

#[test]
fn the_past_stays_as_it_was() {
    let server = start();
    let (first, position) = server.claim(claim("rare", AT));
    let snapshot = server.get_json(&format!("{QUERY}&lens=recency"))["snapshot"].clone();
    server.claim(claim("common", "2024-08-01T00:00:00Z"));
    assert_eq!(server.get_json(&format!("{QUERY}&lens=recency"))["value"], "common");
    for as_of in [position.to_string(), snapshot.as_str().unwrap().to_owned()] {
        let then = server.get_json(&format!("{QUERY}&lens=recency&as_of={as_of}"));
        assert_eq!(then["value"], "rare");
        assert_eq!(then["position"], position);
        assert_eq!(then["because"][0]["id"], first);
    }
    let then =
        server.get_json(&format!("{QUERY}&lens=recency&asserted_before=2024-07-15T00:00:00Z"));
    assert_eq!(then["value"], "rare");
    let before = server.get_json(&format!("{QUERY}&lens=recency&as_of=2000-01-01T00:00:00Z"));
    assert_eq!(
        (&before["status"], &before["evaluated_at"]),
        (&json!("unknown"), &json!("2000-01-01T00:00:00Z"))
    );
    let ahead = server.get(&format!("{QUERY}&lens=recency&as_of=99"));
    assert_eq!((ahead.status, ahead.json()["field"].clone()), (400, json!("as_of")));
    let waits = server.get(&format!("{QUERY}&lens=recency&at_least=99"));
    assert_eq!((waits.status, waits.json()["code"].clone()), (409, json!("position_ahead")));
    let other = format!("{}{:016x}", "00".repeat(16), 3);
    let lost = server.get(&format!("{QUERY}&lens=recency&at_least={other}"));
    assert_eq!((lost.status, lost.json()["code"].clone()), (409, json!("wrong_timeline")));
}

#[test]
fn too_much_for_one_resolution_is_said() {
    let server = start_with(|_, engine| engine.resolve_claims_max = 2);
    let mut id = String::new();
    for n in 0..3 {
        let answer = server.post("/v1/assert", &signed_claim("rare", &key(30 + n), None));
        assert_eq!(answer.status, 201);
        id = answer.json()["id"].as_str().unwrap().to_owned();
    }
    // The records themselves are there all the same.
    let shown = server.get_json(&format!("/v1/assertions/{id}"));
    assert_eq!((&shown["record"]["object"], shown.get("standing")), (&json!("rare"), None));
    let again = server.post("/v1/assert", &signed_claim("rare", &key(32), None));
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(server.get("/v1/export").lines().len(), 5);
    let refused = server.get(&format!("{QUERY}&lens=consensus"));
    assert_eq!((refused.status, refused.json()["code"].clone()), (422, json!("resolve_too_large")));
    let partial = server.get_json(&format!("{QUERY}&lens=consensus&partial=true"));
    assert_eq!((&partial["complete"], &partial["value"]), (&json!(false), &Value::Null));
    assert_eq!(partial["considered"], 3);
}

#[test]
fn roots_are_of_a_position_and_a_time() {
    let server = start();
    let empty = server.get_json("/v1/admin/root");
    assert_eq!(empty["keys"], 0);
    server.post("/v1/assert", &claim("rare", AT));
    let now = server.get_json("/v1/admin/root");
    assert_eq!((&now["keys"], &now["log_root_position"]), (&json!(1), &now["position"]));
    assert_ne!(now["answer_root"], empty["answer_root"]);
    assert_ne!(now["log_root"], empty["log_root"]);
    let past = server.get_json(&format!("/v1/admin/root?position={}", empty["position"]));
    assert_eq!(past["answer_root"], empty["answer_root"]);
    assert_eq!(past["evaluated_at"], empty["evaluated_at"]);
    let later = server.get_json("/v1/admin/root?evaluated_at=2100-01-01T00:00:00Z");
    assert_eq!(later["evaluated_at"], "2100-01-01T00:00:00Z");
    let ahead = server.get("/v1/admin/root?position=1000");
    assert_eq!((ahead.status, ahead.json()["field"].clone()), (400, json!("position")));
}

#[test]
fn drained_is_drained_and_back() {
    let server = start();
    assert_eq!(server.get("/readyz").status, 200);
    let drained = server.send("POST", "/v1/admin/node/drain", "", b"", &[]);
    assert_eq!(drained.status, 200, "{}", drained.text);
    assert_eq!(drained.json()["complete"], true);
    assert_eq!(server.get_json("/v1/admin/node")["state"], "drained");
    let refused = server.post("/v1/assert", &claim("rare", AT));
    assert_eq!((refused.status, refused.json()["code"].clone()), (503, json!("draining")));
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/livez").status, 200);
    assert_eq!(server.get("/v1/health").status, 503);
    assert_eq!(server.get(&format!("{QUERY}&lens=recency")).status, 200);
    let import = server.send("POST", "/v1/import", "application/x-ndjson", b"{}", &[]);
    assert_eq!(import.status, 503);
    assert_eq!(server.send("POST", "/v1/admin/node/undrain", "", b"", &[]).status, 200);
    assert_eq!(server.post("/v1/assert", &claim("rare", AT)).status, 201);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn the_index_is_brought_to_the_medium_and_made_anew() {
    let server = start();
    let (id, position) = server.claim(claim("rare", AT));
    let done = server.post("/v1/admin/checkpoint", &Value::Null);
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(
        (&done.json()["position"], &done.json()["durable"]),
        (&json!(position), &json!(position))
    );
    assert!(done.json()["index_bytes"].as_u64().unwrap() > 0);

    let root = |server: &Running| server.get_json("/v1/admin/root");
    let before = root(&server);
    assert!(server.get_json("/v1/admin/node").get("rebuild").is_none());
    let begun = server.post("/v1/admin/reindex", &Value::Null);
    assert_eq!(begun.status, 202, "{}", begun.text);
    let rebuild = loop {
        let rebuild = server.get_json("/v1/admin/node")["rebuild"].clone();
        if rebuild["state"] != "running" {
            break rebuild;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!((&rebuild["state"], &rebuild["position"]), (&json!("done"), &json!(position)));
    assert_eq!(root(&server), before);
    assert_eq!(server.get(&format!("/v1/records/{id}")).status, 200);
    assert_eq!(server.post("/v1/assert", &claim("common", AT)).status, 201);
    // A node that has ended makes none.
    server.engine.close(std::time::Duration::from_secs(5));
    let refused = server.post("/v1/admin/reindex", &Value::Null);
    assert_eq!((refused.status, refused.json()["code"].clone()), (409, json!("wrong_state")));
}

#[test]
fn a_log_that_fails_says_what_is_known() {
    let server = start();
    let (id, _) = server.claim(claim("rare", AT));
    (server.breaker)(0);
    let first = server.post("/v1/assert", &claim("common", AT));
    assert_eq!((first.status, first.json()["code"].clone()), (500, json!("wal_unavailable")));
    assert_eq!(first.json()["outcome"], "indeterminate");
    // That record is open until the next start; sending it again, or asking for it, says so.
    let again = server.post("/v1/assert", &claim("common", AT));
    assert_eq!((again.status, again.json()["code"].clone()), (503, json!("indeterminate")));
    let lost = again.json()["id"].clone();
    let asked = server.get(&format!("/v1/records/{}", lost.as_str().unwrap()));
    assert_eq!((asked.status, asked.json()["code"].clone()), (503, json!("indeterminate")));
    let next = server.post("/v1/assert", &claim("never", AT));
    assert_eq!((next.status, next.json()["outcome"].clone()), (500, json!("not_written")));
    // Reads go on, and so does what they are routed by.
    assert_eq!(server.get_json(&format!("{QUERY}&lens=recency"))["value"], "rare");
    assert_eq!(server.get(&format!("/v1/records/{id}")).status, 200);
    assert_eq!(server.get("/readyz?for=read").status, 200);
    assert_eq!(server.get("/readyz?for=write").status, 503);
    assert_eq!(server.get("/readyz").status, 503);
    let health = server.get("/v1/health");
    assert_eq!((health.status, health.json()["status"].clone()), (503, json!("read_only")));
    assert_eq!(health.json()["node"]["reason"]["code"], "wal_unavailable");
}

#[test]
fn health_names_the_database() {
    let server = start();
    let health = server.get_json("/v1/health");
    assert_eq!(health["status"], "ok");
    assert_eq!(health["node"]["log_id"], LOG_ID.to_string());
    assert_eq!(health["node"]["position"], 2);
    assert_eq!(health["root_public_key"], root().agent_id().to_string());
    assert_eq!(health["custodial_agent"].as_str().unwrap().len(), 64);
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_documentation_is_served_from_the_binary() {
    let server = start();
    let specification = server.get("/openapi.json");
    assert_eq!(specification.header("content-type"), Some("application/json"));
    assert_eq!(specification.text, stemedb_server::openapi().unwrap());
    let page = server.get("/docs/");
    assert_eq!(page.status, 200);
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    for file in
        ["/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/swagger-initializer.js"]
    {
        assert_eq!(server.get(file).status, 200, "{file}");
    }
    assert!(!page.text.contains("https://"), "a page of another site: {}", page.text);
}
