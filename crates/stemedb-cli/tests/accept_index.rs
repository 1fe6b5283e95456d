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

use common::records::every_kind;
use common::{Server, data_dir, run_in};
use serde_json::{Value as Json, json};
use stemedb_model::Space;

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

#[test]
fn the_index_is_derived_from_the_log() {
    let server = Server::start();
    let spaces = [Space::default(), Space::parse("second").unwrap()];
    let mut written = usize::try_from(server.position()).unwrap();
    for space in &spaces {
        written += every_kind(&server, space);
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
