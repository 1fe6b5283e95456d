//! The index can be lost: what the log says is all there is. After a restart, after the index
//! folder is deleted, and after a reindex, every answer is the same as before.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

mod common;

use std::fs;

use common::bodies::*;
use common::{Server, agent, data_dir, key, run_in};
use serde_json::{Value as Json, json};
use stemedb_model::SourceClass::{Anecdotal, Clinical, Expert, Regulatory};
use stemedb_model::*;

const CITED: &str = "https://example.org/cited";
const BAD: &str = "https://example.org/bad";

/// Everything that later starts must answer alike.
#[derive(Debug, PartialEq)]
struct Told {
    position: u64,
    answer_root: String,
    log_root: Json,
    log_root_position: Json,
    past_root: Json,
    /// The stored records of every kind, excluded ones among them.
    export: String,
    live: String,
    /// All keys under every lens, at one position.
    resolved: Json,
}

fn told(server: &Server, spaces: &[Space], past: u64) -> Told {
    let at = common::EVALUATED_AT;
    let position = server.position();
    let newest = server.get("/v1/admin/root", &[("evaluated_at", at)]).expect(200);
    assert_eq!(newest["position"], position);
    let past = [("position", past.to_string())];
    let past = past.each_ref().map(|(name, value)| (*name, value.as_str()));
    let past_root = server.get("/v1/admin/root", &past).expect(200);
    let export = |live| server.get("/v1/export", &[("live", live)]).text;
    let lenses = ["recency", "consensus", "confidence", "authority", "trust", "votes"];
    let lenses: Vec<&str> = lenses.into_iter().chain(["skeptic", "layered"]).collect();
    let subjects = ["thing", "object", "part/one", "part/two", "retired", "unsound"];
    let keys: Vec<Json> = subjects
        .iter()
        .flat_map(|subject| ["colour", "size"].map(|p| json!({"subject": subject, "predicate": p})))
        .collect();
    let resolved = spaces.iter().map(|space| {
        let ask = json!({
            "space": space.to_string(), "keys": keys, "lenses": lenses, "as_of": position,
            "decay": "per_class", "valid_at": "2024-06-01T00:00:00Z",
        });
        server.post("/v1/resolve", &ask).expect(200)["results"].clone()
    });
    Told {
        position,
        answer_root: newest["answer_root"].as_str().unwrap().to_owned(),
        log_root: newest["log_root"].clone(),
        log_root_position: newest["log_root_position"].clone(),
        past_root,
        resolved: resolved.collect(),
        export: export("false"),
        live: export("true"),
    }
}

/// Records of every kind, of which many take each other back; gives the number of them.
fn history(server: &Server, space: &Space) -> usize {
    let mut records: Vec<Signed> = Vec::new();
    let mut write = |who: &str, body: Body| {
        let key = if who == "root" { server.root.clone() } else { key(who) };
        let signed = server.sign(&key, space, body);
        let id = signed.id();
        records.push(signed);
        id
    };
    let colour = |about: &str, value: &str, class| claim(about, "colour", value, class);
    for (name, ceiling, roles) in [
        ("regulator", Regulatory, &[][..]),
        ("trial", Clinical, &[]),
        ("all", Regulatory, &Role::ALL),
        ("thief", Expert, &[Role::Registrar]),
    ] {
        write("root", register(agent(name), ceiling, roles));
    }
    write(
        "root",
        Body::Agent(Agent {
            key: agent("bot"),
            act: AgentAct::Register {
                name: Some("a bot".into()),
                ceiling: Expert,
                operator: Some("regulator".into()),
                roles: vec![],
            },
        }),
    );
    write("all", source(CITED, Clinical));
    write("all", source(BAD, Regulatory));
    write("all", predicate("colour", Cardinality::One));
    let size = Predicate {
        name: property("size"),
        cardinality: Cardinality::One,
        value_type: Some(ValueType::Number),
        unit: Some("m".into()),
        conversions: vec![Conversion { unit: "km".into(), multiply: 1000.0, add: 0.0 }],
        tolerance: Some(Tolerance { absolute: Some(1.0), relative: None }),
        opposites: vec![],
        half_life: Some(86_400_000),
    };
    write("all", Body::Predicate(size));
    write("all", lens("house", 1));
    write("all", gold("thing", "colour", "red"));

    let red = write("regulator", cited("thing", "colour", "red", CITED, Clinical));
    let blue = write("trial", colour("thing", "blue", Clinical));
    for n in 0..12_u8 {
        let who = format!("patient {n}");
        let first = write(&who, colour("thing", ["red", "green"][usize::from(n % 2)], Anecdotal));
        if n % 3 == 0 {
            write(&who, colour("thing", "grey", Anecdotal));
        }
        if n % 4 == 0 {
            write(&who, vote(red, if n == 0 { -1.0 } else { 0.5 }));
            write("trial", cosign(first));
        }
        let object = if n < 6 {
            Value::number(1.0 + f64::from(n) / 4.0, None)
        } else {
            Value::number(0.01, Some("km"))
        };
        let number = Assertion {
            object: object.unwrap(),
            confidence: 0.5 + f64::from(n) / 100.0,
            ..assertion("thing", "size", "")
        };
        write(&who, Body::Assertion(number));
    }
    // Aliases, one of them undone.
    write("bot", colour("object", "red", Expert));
    write("all", alias("object", "thing"));
    let wrong = write("all", alias("part/one", "part/two"));
    write("bot", colour("part/one", "red", Expert));
    write("trial", colour("part/two", "blue", Expert));
    write("all", retract(wrong));
    // Epochs.
    let before = write("trial", epoch("before", None));
    let old = Assertion { epoch: Some(before), ..assertion("retired", "colour", "old") };
    write("trial", Body::Assertion(old));
    write("bot", colour("retired", "new", Expert));
    write("all", epoch("after", Some((before, EpochMode::Replace))));
    // Premises of which one falls.
    let premise = write("trial", cited("unsound", "size", "much", BAD, Regulatory));
    let mut rests = assertion("unsound", "colour", "red");
    rests.derived_from = vec![premise];
    rests.valid_from = Some(Millis(0));
    write("bot", Body::Assertion(rests));
    write("all", retract_source(uri(BAD)));
    // Supersession, lifecycle, retraction and its undoing.
    let late = write("trial", colour("thing", "azure", Clinical));
    write("trial", supersede(blue, late));
    write("all", lifecycle(late, LifecycleState::Approved));
    let rejected = write("bot", colour("part/one", "pink", Expert));
    write("all", lifecycle(rejected, LifecycleState::Rejected));
    let gone = write("bot", colour("part/two", "pink", Expert));
    let retraction = write("bot", retract(gone));
    write("bot", retract(retraction));
    // Keys: one replaced, one revoked with what it registered.
    let other = predicate("colour", Cardinality::Many);
    write("thief", other);
    write("thief", colour("thing", "stolen", Expert));
    write("bot", replace(server.log_id, space, agent("bot"), &key("new bot")));
    write("new bot", colour("part/one", "violet", Expert));
    write("root", revoke(agent("thief"), 2));
    write("all", trust(10));
    let kinds: std::collections::BTreeSet<Kind> =
        records.iter().map(|signed| signed.record().kind()).collect();
    assert_eq!(kinds.len(), Kind::ALL.len() - 1, "all but genesis");
    server.import(&records);
    records.len()
}

#[test]
fn the_index_is_derived_from_the_log() {
    let server = Server::start();
    let spaces = [Space::default(), Space::parse("second").unwrap()];
    let mut written = usize::try_from(server.position()).unwrap();
    for space in &spaces {
        written += history(&server, space);
    }
    let custodial = json!({"subject": "thing", "predicate": "colour", "object": "custodial"});
    let header = [("idempotency-key", "once")];
    let ack = server.post_with("/v1/assert", &header, &custodial).expect(201);
    written += 1;
    let past = written as u64 / 2;
    let told = |server: &Server| told(server, &spaces, past);

    let before = told(&server);
    assert_eq!(before.position, written as u64);
    assert_eq!(before.export.lines().count(), written);
    assert_ne!(before.past_root["answer_root"], before.answer_root);
    assert!(before.live.lines().count() < written, "much was taken back");
    let leaves_mark = |subject: &str, reason: &str| {
        let query = [("subject", subject), ("predicate", "colour"), ("lens", "authority")];
        let answer = server.get("/v1/query", &query).expect(200);
        let reasons: Vec<&Json> =
            answer["excluded"].as_array().unwrap().iter().map(|one| &one["reason"]).collect();
        assert!(reasons.contains(&&json!(reason)), "{subject} {reason}: {answer}");
    };
    for (subject, reason) in [
        ("thing", "superseded"),
        ("thing", "replaced"),
        ("thing", "agent_revoked"),
        ("part/one", "lifecycle"),
        ("retired", "epoch_superseded"),
        ("unsound", "undermined"),
    ] {
        leaves_mark(subject, reason);
    }

    let same = |dir: tempfile::TempDir, how: &str| {
        let server = Server::again(dir);
        let now = told(&server);
        assert_eq!(now, before, "{how}");
        // The index of idempotency keys came back, too.
        let again = server.post_with("/v1/assert", &header, &custodial).expect(200);
        assert_eq!((&again["id"], &again["status"]), (&ack["id"], &json!("exists")), "{how}");
        server
    };
    let server = same(server.stop(), "restarted");
    let server = same(server.kill(), "killed");

    let dir = server.stop();
    fs::remove_dir_all(data_dir(dir.path()).join("index")).unwrap();
    let server = same(dir, "the index folder was deleted");

    // A node that died without an index, and one that died with half of one.
    let dir = server.kill();
    let index = data_dir(dir.path()).join("index");
    let files: Vec<_> = fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    fs::remove_dir_all(&index).unwrap();
    let server = same(dir, "killed, and the index folder was deleted");

    let dir = server.stop();
    let folder = data_dir(dir.path());
    let output =
        run_in(&dir, &["--json", "admin", "reindex", "--data-dir", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let dir = same(dir, "reindexed").stop();

    let server = Server::again(dir);
    let output = server.run(&["--json", "admin", "reindex", "--online"]);
    assert!(output.status.success(), "{output:?}");
    let rebuilt: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rebuilt["position"], before.position);
    assert_eq!(told(&server), before, "reindexed while it runs");
    let dir = same(server.kill(), "killed after a reindex").stop();

    // The binary says the same of a node that is stopped.
    let place = folder.to_str().unwrap();
    let output = run_in(
        &dir,
        &["--json", "admin", "root", "--data-dir", place, "--at", common::EVALUATED_AT],
    );
    assert!(output.status.success(), "{output:?}");
    let roots: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(roots["answer_root"], before.answer_root);
    assert_eq!(roots["position"], before.position);
}
