//! Who asked what, and was told what.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use stemedb_io::RealVfs;
use stemedb_server::{AuditConfig, audit_chain_at, audit_dir, verify_audit};
use support::{Running, start_with};

fn audited(change: impl FnOnce(&mut AuditConfig)) -> Running {
    start_with(|config, _| {
        config.audit.sync_every = Duration::from_millis(10);
        change(&mut config.audit);
    })
}

fn last(server: &Running) -> u64 {
    server.get_json("/v1/health")["audit"]["last"].as_u64().unwrap()
}

/// Waits until so many entries are durable.
fn reach(server: &Running, entries: u64) {
    for _ in 0..2_000 {
        if last(server) >= entries {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} entries, expected {entries}", last(server));
}

fn entries(server: &Running, query: &str) -> Vec<Value> {
    let page = server.get_json(&format!("/v1/audit/queries{query}"));
    page["entries"].as_array().unwrap().clone()
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[test]
fn every_read_is_taken_down_with_what_was_told() {
    let server = audited(|_| ());
    let (id, position) =
        server.claim(json!({"subject": "a b", "predicate": "p", "object": "rare", "at": 1}));
    server.claim(json!({"subject": "c", "predicate": "p", "object": 2, "at": 1}));
    let one = server.get("/v1/query?predicate=p&lens=consensus&subject=a%20b");
    let many = server.post(
        "/v1/resolve",
        &json!({"lenses": ["votes", "skeptic"], "keys": [{"predicate": "p", "subject": "c"}]}),
    );
    let record = server.get(&format!("/v1/records/{id}"));
    let missing = server.get(&format!("/v1/records/{}", "ab".repeat(32)));
    let refused = server.get("/v1/skeptic?subject=a%20b&nonsense=1");
    let export = server.get("/v1/export?live=false");
    let feed = server.get("/v1/feed?limit=1");
    let explain = server.get("/v1/explain?subject=a%20b&predicate=p");
    // What is no read, or tells of no record, is not.
    server.get("/metrics");
    server.get("/v1/admin/node");
    reach(&server, 8);
    let all = entries(&server, "");
    assert_eq!(all.len(), 8, "{all:#?}");
    let found: Vec<&Value> = all.iter().rev().collect();
    for (index, entry) in found.iter().enumerate() {
        assert_eq!(entry["id"], index + 1);
        assert_eq!(entry["kind"], "read");
        assert_eq!(entry["principal"], "local");
        assert!(entry["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
    }
    for (entry, answer, endpoint) in [
        (found[0], &one, "/v1/query"),
        (found[1], &many, "/v1/resolve"),
        (found[2], &record, "/v1/records/{id}"),
        (found[3], &missing, "/v1/records/{id}"),
        (found[4], &refused, "/v1/skeptic"),
        (found[6], &feed, "/v1/feed"),
        (found[7], &explain, "/v1/explain"),
    ] {
        assert_eq!(entry["endpoint"], endpoint);
        assert_eq!(entry["status"], answer.status, "{entry}");
        assert_eq!(entry["answer_hash"], hash(&answer.text), "{entry}");
        assert_eq!(entry["answer_bytes"], answer.text.len());
    }
    let told = one.json();
    assert_eq!(
        found[0]["question"],
        json!({"lens": "consensus", "predicate": "p", "subject": "a b"})
    );
    for same in ["position", "snapshot", "evaluated_at"] {
        assert_eq!(found[0][same], told[same], "{same}");
        assert_eq!(found[1][same], many.json()[same], "{same}");
    }
    assert_eq!(
        found[0]["told"],
        json!([{"subject": "a b", "predicate": "p", "lens": "consensus", "status": "unanimous",
            "winners": ["rare"]}])
    );
    assert_eq!(found[1]["method"], "POST");
    assert_eq!(found[1]["question"]["keys"], json!([{"predicate": "p", "subject": "c"}]));
    assert_eq!(found[1]["told"][0]["winners"], json!([2.0]));
    assert_eq!(found[1]["told"][1]["lens"], "skeptic");
    assert_eq!(found[2]["path"], format!("/v1/records/{id}"));
    assert_eq!(found[2]["told"], json!([{"id": id}]));
    assert_eq!(found[3]["code"], "record_not_found");
    assert_eq!(found[4]["code"], "invalid_parameter");
    assert_eq!(found[5]["streamed"], true);
    assert_eq!(found[5]["snapshot"], export.header("stemedb-snapshot").unwrap());
    assert_eq!(found[5].get("answer_hash"), None);
    assert_eq!(found[7]["told"][0]["status"], "unanimous");
    assert!(position > 0);

    // By number, and by what it says.
    assert_eq!(&server.get_json("/v1/audit/query/2"), found[1]);
    let none = server.get("/v1/audit/query/999999");
    assert_eq!((none.status, none.json()["code"].clone()), (404, json!("audit_entry_not_found")));
    let count = |query: &str| entries(&server, query).len();
    assert_eq!(count("?subject=a%20b"), 3);
    assert_eq!(count("?subject=c"), 1);
    assert_eq!(count("?principal=local&endpoint=%2Fv1%2Frecords%2F%7Bid%7D"), 2);
    assert_eq!(count("?principal=somebody"), 0);
    assert_eq!(count("?to=2020-01-01T00:00:00Z"), 0);
    assert!(count("?from=2020-01-01T00:00:00Z") >= 8);
    // What was read of the audit is in it.
    reach(&server, 9);
    assert!(count("?endpoint=%2Fv1%2Faudit%2Fqueries") > 0);
}

#[test]
fn the_audit_is_read_in_pages() {
    let server = audited(|config| config.endpoints = vec!["/v1/layered".into()]);
    for n in 0..23 {
        server.get(&format!("/v1/layered?subject=s{}&predicate=p", n % 2));
        server.get("/v1/query");
    }
    reach(&server, 23);
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get_json(&format!("/v1/audit/queries?limit=5{cursor}"));
        for entry in page["entries"].as_array().unwrap() {
            ids.push(entry["id"].as_u64().unwrap());
        }
        match page.get("cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids, (1..=23).rev().collect::<Vec<_>>());
    assert_eq!(entries(&server, "?subject=s1").len(), 11);
    for (query, code) in [
        (format!("?limit=5&subject=s1{cursor}"), "cursor_mismatch"),
        ("?cursor=00".into(), "invalid_parameter"),
        ("?limit=0".into(), "invalid_parameter"),
        ("?from=yesterday".into(), "invalid_parameter"),
        ("?who=me".into(), "invalid_parameter"),
    ] {
        let answer = server.get(&format!("/v1/audit/queries{query}"));
        assert_eq!((answer.status, answer.json()["code"].clone()), (400, json!(code)), "{query}");
    }
    assert_eq!(server.get("/v1/audit/query/x").json()["code"], "invalid_parameter");
}

/// Required: when an answer is here, its entry is durable, also with many readers at once.
#[test]
fn a_required_entry_is_durable_before_the_answer() {
    let server = audited(|config| {
        config.required = true;
        config.rotate_bytes = 64 << 10;
    });
    server.claim(json!({"subject": "s", "predicate": "p", "object": 1, "at": 1}));
    for n in 1..20 {
        server.get_json("/v1/skeptic?subject=s&predicate=p");
        assert_eq!(last(&server), n);
    }
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..40 {
                    let answer = server
                        .get(&format!("/v1/query?subject=s{reader}-{n}&predicate=p&lens=votes"));
                    assert_eq!(answer.status, 200);
                }
            });
        }
    });
    assert_eq!(last(&server), 19 + 8 * 40);
    let dir = audit_dir(server.data_dir());
    let live = verify_audit(&RealVfs, &dir).unwrap();
    assert_eq!((live.findings.len(), live.last), (0, 19 + 8 * 40));
    assert!(live.files.len() > 1, "{:?}", live.files);
    for (reader, n) in [(0, 0), (3, 39), (7, 20)] {
        assert_eq!(entries(&server, &format!("?subject=s{reader}-{n}")).len(), 1);
    }
    let health = server.get_json("/v1/health")["audit"].clone();
    let (last, chain) = (health["last"].as_u64().unwrap(), health["chain"].as_str().unwrap());
    assert_eq!((&health["state"], &health["required"]), (&json!("ok"), &json!(true)));
    let there = audit_chain_at(&RealVfs, &dir, last).unwrap();
    assert_eq!(there.unwrap().to_string(), chain);
}

/// Puts a file where the folder should be: nothing can be written there.
fn blocked(config: &mut stemedb_server::ServerConfig) -> PathBuf {
    let dir = audit_dir(&config.data_dir);
    std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
    std::fs::write(&dir, "in the way").unwrap();
    dir
}

#[test]
fn a_bad_disk_stops_required_reads_and_nothing_else() {
    let mut dir = PathBuf::new();
    let server = start_with(|config, _| {
        config.audit.required = true;
        dir = blocked(config);
    });
    let (id, _) = server.claim(json!({"subject": "s", "predicate": "p", "object": 1, "at": 1}));
    for path in
        ["/v1/query?subject=s", &format!("/v1/records/{id}"), "/v1/export", "/v1/audit/queries"]
    {
        let answer = server.get(path);
        assert_eq!(answer.status, 503, "{path}");
        let problem = answer.json();
        assert_eq!(problem["code"], "audit_unavailable");
        assert!(problem["detail"].as_str().unwrap().contains("node/audit"), "{problem}");
        assert!(answer.header("retry-after").is_some());
    }
    let body = json!({"keys": [{"subject": "s", "predicate": "p"}]});
    assert_eq!(server.post("/v1/resolve", &body).json()["code"], "audit_unavailable");
    server.post("/v1/vote", &json!({"assertion": id, "weight": 1, "at": 1}));
    let health = server.get("/v1/health");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    assert_eq!(health.json()["audit"]["state"], "failing");
    assert_eq!(server.get("/readyz").status, 200);
    assert!(server.get("/metrics").text.contains("stemedb_audit_writable 0"));
    std::fs::remove_file(&dir).unwrap();
    for n in 0.. {
        if server.get("/v1/query?subject=s").status == 200 {
            break;
        }
        assert!(n < 1_000, "reads are refused still");
        std::thread::sleep(Duration::from_millis(20));
    }
    let health = server.get_json("/v1/health");
    assert_eq!((&health["status"], &health["audit"]["state"]), (&json!("ok"), &json!("ok")));
    assert!(server.get("/metrics").text.contains("stemedb_audit_writable 1"));
    assert_eq!(verify_audit(&RealVfs, &dir).unwrap().findings, []);
}

#[test]
fn a_bad_disk_does_not_stop_other_reads() {
    let mut dir = PathBuf::new();
    let server = start_with(|config, _| {
        config.audit.sync_every = Duration::from_millis(10);
        dir = blocked(config);
    });
    for n in 0..5 {
        assert_eq!(server.get(&format!("/v1/query?subject=s{n}")).status, 200);
    }
    let health = server.get_json("/v1/health");
    assert_eq!(
        (&health["status"], &health["audit"]["state"]),
        (&json!("degraded"), &json!("failing"))
    );
    std::fs::remove_file(&dir).unwrap();
    // They were kept meanwhile.
    reach(&server, 5);
    assert_eq!(entries(&server, "?subject=s3").len(), 1);
    assert_eq!(server.get_json("/v1/health")["audit"]["state"], "ok");
}

#[test]
fn an_audit_that_is_off_writes_nothing() {
    let server = audited(|config| config.enabled = false);
    assert_eq!(server.get("/v1/query").status, 200);
    assert_eq!(server.get_json("/v1/audit/queries"), json!({"entries": []}));
    assert_eq!(server.get_json("/v1/health")["audit"]["state"], "off");
    assert!(!audit_dir(server.data_dir()).exists());
}

/// Prints what the audit costs a read. `cargo test -p stemedb-server --release --test audit --
/// --ignored --nocapture`
#[test]
#[ignore = "measures, and says nothing in a debug build; `make bench-audit` runs it"]
fn what_a_read_costs() {
    const READS: usize = 2_000;
    let servers: Vec<(&str, Running)> =
        [("off", false, false), ("on", true, false), ("required", true, true)]
            .into_iter()
            .map(|(name, enabled, required)| {
                let server = start_with(|config, _| {
                    config.audit.enabled = enabled;
                    config.audit.required = required;
                });
                for n in 0..20 {
                    server
                        .claim(json!({"subject": "s", "predicate": "p", "object": n % 3, "at": n}));
                }
                (name, server)
            })
            .collect();
    let path = "/v1/query?subject=s&predicate=p&lens=authority";
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
    for _ in 0..10 {
        for ((_, server), took) in servers.iter().zip(&mut took) {
            let begun = server.engine.monotonic();
            for _ in 0..READS / 10 {
                assert_eq!(server.get(path).status, 200);
            }
            let spent = server.engine.monotonic().saturating_sub(begun);
            took.push(spent.as_secs_f64() * 1e6 / (READS / 10) as f64);
        }
    }
    for ((name, server), mut took) in servers.iter().zip(took) {
        took.sort_by(f64::total_cmp);
        let bytes = server.get("/metrics").text;
        let bytes =
            bytes.lines().find(|line| line.starts_with("stemedb_audit_bytes ")).unwrap_or_default();
        println!("audit {name}: {:.1} µs a read (median of 10 rounds), {bytes}", took[5]);
    }
}
