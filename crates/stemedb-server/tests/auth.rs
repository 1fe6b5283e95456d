//! API keys over real HTTP: who is let in, who is not, and what is said to them.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for a real server"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use stemedb_model::{
    Assertion, Body, LifecycleState, Millis, PredicateName, Record, Signed, Space, Subject,
};
use stemedb_server::wire::AnyRecord;
use support::{Answer, Running, key, root, start, start_with};

const AT: &str = "2024-07-01T00:00:00Z";
const ROLES: [&str; 4] = ["reader", "writer", "operator", "admin"];

fn secured() -> Running {
    start_with(|config, _| config.auth.enabled = true)
}

/// The key that the first start wrote.
fn first(server: &Running) -> String {
    let file = server.data_dir().join("node/first-admin.key");
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

fn ask(server: &Running, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: node.example\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    if !body.is_empty() {
        request.push_str("Content-Type: application/json\r\n");
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    server.raw(request.as_bytes())
}

fn with(server: &Running, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    ask(server, method, path, &[&format!("Authorization: Bearer {key}")], body)
}

/// Makes a key; its secret and its id.
fn make(server: &Running, fields: Value) -> (String, String) {
    let made = with(server, &first(server), "POST", "/v1/admin/keys", &fields);
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    (made["secret"].as_str().unwrap().into(), made["key"]["id"].as_str().unwrap().into())
}

fn code(answer: &Answer) -> (u16, String) {
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    (answer.status, json["code"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn is(answer: &Answer, status: u16, expected: &str) {
    assert_eq!(code(answer), (status, expected.to_owned()), "{}", answer.text);
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge.is_some_and(|text| text.starts_with("Bearer")), status == 401);
}

fn claim(subject: &str) -> Value {
    let source = json!({"uri": "https://example.org/", "class": "expert"});
    json!({"subject": subject, "predicate": "p", "object": 1, "at": AT, "source": source})
}

#[test]
fn without_a_good_key_nothing_is_answered() {
    let server = secured();
    let admin = first(&server);
    let path = "/v1/query?subject=s&predicate=p&lens=authority";
    let get = |headers: &[&str]| ask(&server, "GET", path, headers, &Value::Null);
    is(&get(&[]), 401, "api_key_missing");
    is(&get(&["Authorization: Basic YTpi"]), 401, "api_key_missing");
    is(&get(&["Authorization: "]), 401, "api_key_missing");
    for wrong in ["", "x", "stk_", &admin[..68], &format!("{admin}0"), &admin.to_uppercase()] {
        is(&get(&[&format!("X-API-Key: {wrong}")]), 401, "api_key_unknown");
    }
    // A good id with another secret, and a good form with another id.
    let last = if admin.ends_with('0') { '1' } else { '0' };
    let other = format!("{}{last}", &admin[..68]);
    is(&get(&[&format!("Authorization: Bearer {other}")]), 401, "api_key_unknown");
    let other = format!("stk_0000000000000000{}", &admin[20..]);
    is(&get(&[&format!("Authorization: Bearer {other}")]), 401, "api_key_unknown");
    // Both ways of a good one; the scheme has no case.
    assert_eq!(get(&[&format!("Authorization: Bearer {admin}")]).status, 200);
    assert_eq!(get(&[&format!("authorization: bearer {admin}")]).status, 200);
    let plain = format!("X-API-Key: {admin}");
    assert_eq!(get(&[&plain]).status, 200);
    // More than one is not a choice of ours.
    let bearer = format!("Authorization: Bearer {admin}");
    for headers in [&[&*bearer, &*plain], &[&*bearer, &*bearer], &[&*plain, &*plain]] {
        is(&get(headers), 400, "invalid_parameter");
    }
    // Identity is not what a header says.
    let answer = get(&["X-Forwarded-User: local", "X-Principal: local", "Cookie: key=1"]);
    is(&answer, 401, "api_key_missing");
    // Nor does a wrong key on an open endpoint matter.
    for open in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(
            ask(&server, "GET", open, &["X-API-Key: x"], &Value::Null).status,
            200,
            "{open}"
        );
    }
    let metrics = ask(&server, "GET", "/metrics", &[], &Value::Null).text;
    for role in ROLES {
        let live = u8::from(role == "admin");
        assert!(metrics.contains(&format!("stemedb_api_keys{{role=\"{role}\"}} {live}")), "{role}");
    }
    for reason in ["api_key_missing", "api_key_unknown", "role_too_low", "api_key_in_url"] {
        let series = format!("stemedb_requests_rejected_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&series), "{reason}");
    }
}

#[test]
fn a_key_in_the_url_is_refused_whoever_it_belongs_to() {
    let server = secured();
    let admin = first(&server);
    let bearer = format!("Authorization: Bearer {admin}");
    for path in [
        format!("/v1/query?api_key={admin}"),
        format!("/v1/query?subject={admin}"),
        format!("/v1/query?{admin}=1"),
        "/v1/query?API_KEY=x".to_owned(),
        "/v1/query?access_token=x".to_owned(),
        "/v1/query?x%2Dapi%2Dkey=x".to_owned(),
        format!("/v1/records/{admin}"),
        format!("/nothing/{admin}"),
        format!("/livez?api_key={admin}"),
    ] {
        let answer = ask(&server, "GET", &path, &[&bearer], &Value::Null);
        is(&answer, 400, "api_key_in_url");
        assert!(!answer.text.contains(&admin), "{}", answer.text);
    }
    // What only looks a little like one is a subject as any other.
    let fine = ask(&server, "GET", "/v1/query?subject=stk_1&predicate=p", &[&bearer], &Value::Null);
    assert_eq!(fine.status, 200, "{}", fine.text);
    // No such URL is in the audit of reads.
    std::thread::sleep(Duration::from_millis(300));
    let audit = server.data_dir().join("node/audit");
    for file in std::fs::read_dir(audit).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&admin) && !text.contains("api_key="), "{text}");
    }
}

/// For every line of the table: each role below the one it takes is refused by name, that role and
/// those above are let in. What the handler says then is its own affair.
#[test]
fn every_endpoint_takes_its_role_and_no_lower_one() {
    let server = secured();
    let keys: Vec<String> =
        ROLES.iter().map(|role| make(&server, json!({"name": role, "role": role})).0).collect();
    let document = ask(&server, "GET", "/openapi.json", &[], &Value::Null).json();
    let (mut refused, mut open) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            // An id that there is not; of a drain nothing would be left to test with.
            let place = path.replace("{id}", "0").replace("{position}", "0");
            let place = place.replace("{agent}", "0").replace("{name}", "0");
            let place = match path.as_str() {
                "/v1/admin/node/drain" => format!("{place}?timeout_ms=x"),
                _ => place,
            };
            let nobody = ask(&server, &method, &place, &[], &Value::Null);
            let public = ["/livez", "/readyz", "/metrics"].contains(&path.as_str());
            if public {
                assert_eq!(nobody.status, 200, "{path}");
                open += 1;
                continue;
            }
            is(&nobody, 401, "api_key_missing");
            let needed = operation["x-stemedb-role"].as_str().unwrap();
            let needed_at = ROLES.iter().position(|role| *role == needed).unwrap();
            for (at, key) in keys.iter().enumerate() {
                // Not acts that the others need undone.
                if at >= needed_at && ["detach", "seal"].iter().any(|act| path.ends_with(act)) {
                    continue;
                }
                if at >= needed_at && method == "POST" && path.ends_with("/attach") {
                    continue;
                }
                let answer = with(&server, key, &method, &place, &Value::Null);
                if at < needed_at {
                    is(&answer, 403, "role_too_low");
                    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                    let names = detail.contains(&format!("the role {needed}"))
                        && detail.contains(&format!("has {}", ROLES[at]));
                    assert!(names, "{detail}");
                    refused += 1;
                } else {
                    let (status, code) = code(&answer);
                    assert!(status != 401 && code != "role_too_low", "{method} {path}: {code}");
                }
            }
        }
    }
    assert!(refused > 50 && open == 3, "{refused} {open}");
    // What has no route, and what has none for this method.
    let admin = &keys[3];
    is(&with(&server, admin, "GET", "/v1/nothing", &Value::Null), 404, "not_found");
    let answer = with(&server, admin, "DELETE", "/v1/admin/keys", &Value::Null);
    is(&answer, 405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, POST, HEAD"));
    let answer = ask(&server, "HEAD", "/v1/query", &[], &Value::Null);
    assert_eq!(answer.status, 401);
}

#[test]
fn keys_expire_rotate_and_are_revoked() {
    let server = secured();
    let admin = first(&server);
    let get = |key: &str| with(&server, key, "GET", "/v1/health", &Value::Null);
    let soon = server.engine.now().0 + 1_500;
    let (short, _) = make(&server, json!({"name": "short", "role": "reader", "expires_at": soon}));
    assert_eq!(get(&short).status, 200);
    let (one, id) = make(&server, json!({"name": "long", "role": "reader"}));
    let rotate = |grace: u64| {
        let path = format!("/v1/admin/keys/{id}/rotate");
        let made = with(&server, &admin, "POST", &path, &json!({"grace_seconds": grace}));
        assert_eq!(made.status, 200, "{}", made.text);
        made.json()["secret"].as_str().unwrap().to_owned()
    };
    let two = rotate(1);
    assert_eq!((get(&one).status, get(&two).status), (200, 200));
    std::thread::sleep(Duration::from_millis(1_700));
    is(&get(&one), 401, "api_key_expired");
    is(&get(&short), 401, "api_key_expired");
    assert_eq!(get(&two).status, 200);
    let three = rotate(0);
    is(&get(&two), 401, "api_key_unknown");
    assert_eq!(get(&three).status, 200);
    let revoke =
        |id: &str| with(&server, &admin, "DELETE", &format!("/v1/admin/keys/{id}"), &Value::Null);
    assert_eq!(revoke(&id).json()["state"], "revoked");
    assert_eq!(revoke(&id).status, 200);
    is(&get(&three), 401, "api_key_unknown");
    let path = format!("/v1/admin/keys/{id}/rotate");
    is(&with(&server, &admin, "POST", &path, &json!({})), 404, "api_key_not_found");
    is(&revoke("0"), 404, "api_key_not_found");
    is(&revoke(&admin[4..20]), 409, "last_admin_key");
    let list = with(&server, &admin, "GET", "/v1/admin/keys", &Value::Null);
    let names: Vec<String> =
        list.json()["keys"].as_array().unwrap().iter().map(|key| key["name"].to_string()).collect();
    assert_eq!(names, ["\"local\"", "\"short\"", "\"long\""]);
    for secret in [&admin, &short, &one, &two, &three] {
        assert!(!list.text.contains(&secret[21..]), "a list shows no secret");
    }
    let again = json!({"name": "short", "role": "reader"});
    make(&server, again.clone());
    is(&with(&server, &admin, "POST", "/v1/admin/keys", &again), 409, "api_key_exists");
    for (field, body) in [
        ("role", json!({"name": "x", "role": "root"})),
        ("name", json!({"name": "No Name", "role": "reader"})),
        ("spaces", json!({"name": "x", "role": "admin", "spaces": ["a"]})),
        ("colour", json!({"name": "x", "role": "reader", "colour": 1})),
        ("expires_at", json!({"name": "x", "role": "reader", "expires_at": 1})),
        // The node's own owner has the node's rights in the log.
        ("principal", json!({"name": "x", "role": "writer", "principal": "local"})),
    ] {
        let answer = with(&server, &admin, "POST", "/v1/admin/keys", &body);
        is(&answer, 400, "invalid_field");
        assert_eq!(answer.json()["field"], field, "{}", answer.text);
    }
}

/// What goes on when a key ends ends with it.
#[test]
fn a_revoked_key_ends_what_it_has_under_way() {
    let server = secured();
    let (reader, reads) = make(&server, json!({"name": "r", "role": "reader"}));
    let (writer, writes) = make(&server, json!({"name": "w", "role": "writer"}));
    let revoke = |id: &str| {
        let path = format!("/v1/admin/keys/{id}");
        assert_eq!(with(&server, &first(&server), "DELETE", &path, &Value::Null).status, 200);
    };
    let open = |head: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
        stream
    };
    let mut feed = open(&format!(
        "GET /v1/feed HTTP/1.1\nHost: n\nAccept: text/event-stream\nX-API-Key: {reader}\n\n"
    ));
    let mut import = open(&format!(
        "POST /v1/import HTTP/1.1\nHost: n\nConnection: close\nX-API-Key: {writer}\n\
         Content-Type: application/x-ndjson\nTransfer-Encoding: chunked\n\n"
    ));
    let send = |stream: &mut TcpStream, line: &Value| {
        let line = format!("{line}\n");
        // The other side may have hung up already.
        let _ = stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
    };
    send(&mut import, &signed("default", 3));
    let mut seen = [0; 1024];
    assert!(feed.read(&mut seen).unwrap() > 0, "the feed began");
    revoke(&reads);
    let mut rest = Vec::new();
    // It ends, well or with an error; a feed that went on would run into the time limit.
    if let Err(error) = feed.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the feed goes on");
    }
    revoke(&writes);
    send(&mut import, &signed("default", 4));
    let _ = import.write_all(b"0\r\n\r\n");
    let mut text = String::new();
    import.read_to_string(&mut text).unwrap();
    assert!(text.contains("api_key_expired") && text.contains(r#""stopped""#), "{text}");
    assert!(!text.contains(r#""created":2"#), "{text}");
}

/// A claim in a space, signed by a key of the caller's own.
fn signed(space: &str, n: u8) -> Value {
    let body = Body::Assertion(Assertion {
        subject: Subject::parse("s").unwrap(),
        predicate: PredicateName::parse("p").unwrap(),
        object: stemedb_model::Value::Boolean(true),
        confidence: 1.0,
        source: None,
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: vec![],
        vector: None,
        visual_hash: None,
        meta: Default::default(),
    });
    let record = Record {
        space: Space::parse(space).unwrap(),
        agent: key(n).agent_id(),
        at: Millis(1_700_000_000_000),
        log_id: None,
        body,
    };
    let signed = Signed::seal(record, &key(n)).unwrap();
    let any = AnyRecord::of(signed.record(), signed.id(), signed.signature());
    serde_json::to_value(any).unwrap()
}

fn without_kind(mut record: Value) -> Value {
    record.as_object_mut().unwrap().remove("kind");
    record
}

#[test]
fn a_key_is_for_its_spaces() {
    let server = secured();
    let admin = first(&server);
    let (writer, _) = make(&server, json!({"name": "w", "role": "writer", "spaces": ["a", "b"]}));
    let in_space = |space: &str| {
        let mut claim = claim("s");
        claim["space"] = space.into();
        claim
    };
    let mut ids = Vec::new();
    for space in ["a", "c", "default"] {
        let written = with(&server, &admin, "POST", "/v1/assert", &in_space(space));
        assert_eq!(written.status, 201, "{}", written.text);
        ids.push(written.json()["id"].as_str().unwrap().to_owned());
    }
    let (mine, foreign) = (&ids[0], &ids[1]);
    assert_eq!(with(&server, &writer, "POST", "/v1/assert", &in_space("b")).status, 201);
    let mut deny = Vec::new();
    for (space, allowed) in [("a", true), ("c", false), ("default", false)] {
        let one = format!("subject=s&predicate=p&space={space}");
        let some = format!("space={space}");
        for path in [
            format!("/v1/query?{one}&lens=authority"),
            format!("/v1/query?{some}"),
            format!("/v1/query?{some}&lens=authority"),
            format!("/v1/skeptic?{one}"),
            format!("/v1/layered?{one}"),
            format!("/v1/explain?{one}"),
            format!("/v1/conflicts?{some}"),
            format!("/v1/feed?{some}"),
            format!("/v1/export?{some}"),
            format!("/v1/lenses?{some}"),
            format!("/v1/lenses/authority?{some}"),
            format!("/v1/trust/{}?{some}", root().agent_id()),
        ] {
            let answer = with(&server, &writer, "GET", &path, &Value::Null);
            match allowed {
                true => assert_eq!(answer.status, 200, "{path}: {}", answer.text),
                false => deny.push((path, answer)),
            }
        }
        for (path, body) in [
            ("/v1/resolve", json!({"space": space, "keys": [{"subject": "s", "predicate": "p"}]})),
            (
                "/v1/whatif",
                json!({"space": space, "drop": {"agent": root().agent_id().to_string()}}),
            ),
            ("/v1/assert", in_space(space)),
            (&*format!("/v1/trust/learn?space={space}"), Value::Null),
        ] {
            let answer = with(&server, &writer, "POST", path, &body);
            match allowed {
                true => {
                    assert!(answer.status < 300 || answer.status == 404, "{path}: {}", answer.text)
                }
                false => deny.push((path.to_owned(), answer)),
            }
        }
    }
    let admins =
        with(&server, &admin, "GET", "/v1/explain?subject=s&predicate=p&space=c", &Value::Null);
    let receipt = admins.json()["receipt"].clone();
    deny.push(("/v1/replay".into(), with(&server, &writer, "POST", "/v1/replay", &receipt)));
    for path in ["/v1/query?subject=s&predicate=p", "/v1/feed"] {
        // The default space is a space like any other.
        deny.push((path.into(), with(&server, &writer, "GET", path, &Value::Null)));
    }
    // Of records that are named without their space it does not even learn that they are there.
    let mut hidden = Vec::new();
    for path in ["/v1/records", "/v1/assertions", "/v1/trace"] {
        let path = format!("{path}/{foreign}");
        hidden.push((path.clone(), with(&server, &writer, "GET", &path, &Value::Null)));
        let path = path.replace(foreign, mine);
        assert_eq!(with(&server, &writer, "GET", &path, &Value::Null).status, 200, "{path}");
    }
    hidden
        .push(("position".into(), with(&server, &writer, "GET", "/v1/positions/1", &Value::Null)));
    for (path, answer) in &hidden {
        assert_eq!(code(answer), (404, "record_not_found".into()), "{path}: {}", answer.text);
    }
    let put = format!("/v1/records/{}", signed("c", 9)["id"].as_str().unwrap());
    deny.push((put.clone(), with(&server, &writer, "PUT", &put, &signed("c", 9))));
    for (path, answer) in &deny {
        assert_eq!(code(answer), (403, "space_forbidden".into()), "{path}: {}", answer.text);
    }
    assert!(deny.len() > 31, "{}", deny.len());
    // Without a space an export is of those that the key is for.
    let all = with(&server, &writer, "GET", "/v1/export", &Value::Null);
    assert!(all.text.contains(r#""space":"a""#) && all.text.contains(r#""space":"b""#));
    assert!(!all.text.contains(r#""space":"c""#) && !all.text.contains(r#""space":"default""#));
    // An import is judged line by line.
    let lines = format!("{}\n{}\n", signed("a", 8), signed("c", 8));
    let length = lines.len();
    let request = format!(
        "POST /v1/import HTTP/1.1\r\nHost: n\r\nConnection: close\r\nX-API-Key: {writer}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{lines}"
    );
    let text = server.raw(request.as_bytes()).text;
    assert!(text.contains(r#""created":1"#) && text.contains("space_forbidden"), "{text}");
}

#[test]
fn a_bound_key_sends_what_its_agent_signed() {
    let server = secured();
    let fields = json!({"name": "bound", "role": "writer", "agent": key(5).agent_id().to_string()});
    let (bound, _) = make(&server, fields);
    let send = |record: &Value| with(&server, &bound, "POST", "/v1/assert", record);
    assert_eq!(send(&without_kind(signed("default", 5))).status, 201);
    is(&send(&without_kind(signed("default", 6))), 403, "agent_not_bound");
    let id = signed("default", 6)["id"].as_str().unwrap().to_owned();
    let put = with(&server, &bound, "PUT", &format!("/v1/records/{id}"), &signed("default", 6));
    is(&put, 403, "agent_not_bound");
    // What the server signs for it is its own.
    let custodial = send(&claim("t"));
    assert_eq!(custodial.status, 201, "{}", custodial.text);
    assert_eq!(custodial.json()["custodial"], true);
}

/// The principal of a key is stamped, has a signing key of its own, and is its own in idempotency.
#[test]
fn the_server_signs_as_the_owner_of_the_key() {
    let server = secured();
    let admin = first(&server);
    let (one, _) = make(&server, json!({"name": "one", "role": "writer"}));
    let (two, _) = make(&server, json!({"name": "two", "role": "writer", "principal": "team"}));
    let (three, _) = make(&server, json!({"name": "three", "role": "writer", "principal": "team"}));
    let mut agents = Vec::new();
    for (n, secret) in [&admin, &one, &two, &three].into_iter().enumerate() {
        let written = with(&server, secret, "POST", "/v1/assert", &claim(&format!("s{n}")));
        assert_eq!(written.status, 201, "{}", written.text);
        let health = with(&server, secret, "GET", "/v1/health", &Value::Null).json();
        let agent = written.json()["agent"].as_str().unwrap().to_owned();
        assert_eq!(health["custodial_agent"], agent.as_str());
        let path = format!("/v1/records/{}", written.json()["id"].as_str().unwrap());
        let record = with(&server, &admin, "GET", &path, &Value::Null).json();
        agents.push((agent, record["principal"].as_str().unwrap().to_owned()));
        // Registered by the root key with the configured ceiling, so not anecdotal.
        assert_eq!(record["standing"]["tier"], 3, "{record}");
    }
    let owners: Vec<&str> = agents.iter().map(|(_, owner)| owner.as_str()).collect();
    assert_eq!(owners, ["local", "one", "team", "team"]);
    assert_eq!(agents[2].0, agents[3].0);
    let distinct: std::collections::BTreeSet<&String> = agents.iter().map(|(a, _)| a).collect();
    assert_eq!(distinct.len(), 3);
    // A writer is no curator: what another claimed stays.
    let other = with(&server, &admin, "POST", "/v1/assert", &claim("mine")).json();
    let body = json!({"record": other["id"], "reason": "no", "at": AT});
    is(&with(&server, &one, "POST", "/v1/retract", &body), 403, "forbidden");
    assert_eq!(with(&server, &admin, "POST", "/v1/retract", &body).status, 201);
    // The same idempotency key of two owners is two.
    let retry = |secret: &str, subject: &str| {
        let body = json!({"subject": subject, "predicate": "p", "object": 1});
        let bearer = format!("Authorization: Bearer {secret}");
        ask(&server, "POST", "/v1/assert", &[&bearer, "Idempotency-Key: k"], &body)
    };
    assert_eq!(retry(&one, "x").status, 201);
    assert_eq!(retry(&two, "y").status, 201);
    is(&retry(&three, "z"), 409, "idempotency_conflict");
    // Who read what is known by owner, too.
    std::thread::sleep(Duration::from_millis(1_500));
    let path = "/v1/audit/queries?principal=one";
    let read = with(&server, &one, "GET", "/v1/query?subject=s1&predicate=p", &Value::Null);
    assert_eq!(read.status, 200);
    std::thread::sleep(Duration::from_millis(1_500));
    let entries = with(&server, &admin, "GET", path, &Value::Null).json();
    assert_eq!(entries["entries"][0]["principal"], "one", "{entries}");
}

#[test]
fn acts_of_administrators_are_taken_down() {
    let server = secured();
    let admin = first(&server);
    let (secret, id) = make(&server, json!({"name": "op", "role": "operator"}));
    let rotated = with(&server, &admin, "POST", &format!("/v1/admin/keys/{id}/rotate"), &json!({}));
    let rotated = rotated.json()["secret"].as_str().unwrap().to_owned();
    with(&server, &rotated, "POST", "/v1/admin/node/drain?timeout_ms=100", &Value::Null);
    with(&server, &rotated, "POST", "/v1/admin/node/undrain", &Value::Null);
    with(&server, &admin, "DELETE", &format!("/v1/admin/keys/{id}"), &Value::Null);
    with(&server, &admin, "DELETE", "/v1/admin/keys/0", &Value::Null);
    // Refused at the door: counted, no act.
    with(&server, &secret, "POST", "/v1/admin/node/drain", &Value::Null);
    let page = with(&server, &admin, "GET", "/v1/audit/admin", &Value::Null);
    let entries = page.json()["entries"].as_array().unwrap().clone();
    let seen: Vec<String> = entries
        .iter()
        .rev()
        .map(|one| {
            format!("{} {} {}", one["act"].as_str().unwrap(), one["principal"], one["status"])
        })
        .collect();
    assert_eq!(
        seen,
        [
            "first start \"local\" null",
            "POST /v1/admin/keys \"local\" 201",
            "POST /v1/admin/keys/{id}/rotate \"local\" 200",
            "POST /v1/admin/node/drain \"op\" 200",
            "POST /v1/admin/node/undrain \"op\" 200",
            "DELETE /v1/admin/keys/{id} \"local\" 200",
            "DELETE /v1/admin/keys/{id} \"local\" 404",
        ]
    );
    let drained = &entries[3];
    assert_eq!(drained["path"], "/v1/admin/node/drain?timeout_ms=100");
    assert_eq!((&drained["key"], &drained["via"]), (&json!(id), &json!("http")));
    assert!(drained["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(entries[0]["detail"], "api_key_not_found");
    assert!(entries[5]["detail"].as_str().unwrap().contains(&id));
    for secret in [&admin, &secret, &rotated] {
        assert!(!page.text.contains(&secret[21..]), "a trail shows no secret");
    }
    let first = with(&server, &admin, "GET", "/v1/audit/admin?limit=4", &Value::Null).json();
    let next = format!("/v1/audit/admin?limit=4&cursor={}", first["cursor"].as_str().unwrap());
    let next = with(&server, &admin, "GET", &next, &Value::Null).json();
    assert_eq!(next["entries"].as_array().unwrap().len(), 3);
    assert!(next["cursor"].is_null());
    let env = stemedb_io::Env::real();
    let report = stemedb_server::read_trail(&*env.vfs, server.data_dir()).unwrap();
    assert_eq!((report.entries.len(), report.problems.len()), (7, 0));
}

#[test]
fn metrics_can_be_closed() {
    let server = start_with(|config, _| {
        config.auth.enabled = true;
        config.auth.metrics_need_key = true;
    });
    is(&ask(&server, "GET", "/metrics", &[], &Value::Null), 401, "api_key_missing");
    let (reader, _) = make(&server, json!({"name": "prometheus", "role": "reader"}));
    assert_eq!(with(&server, &reader, "GET", "/metrics", &Value::Null).status, 200);
    assert_eq!(ask(&server, "GET", "/livez", &[], &Value::Null).status, 200);
}

/// Without authentication there is nobody to make keys for, and only this machine is answered.
#[test]
fn without_authentication_only_this_machine_is_answered() {
    let server = start();
    let get = |headers: &str| {
        server.raw(
            format!("GET /v1/health HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes(),
        )
    };
    assert_eq!(get("Host: localhost\r\n").status, 200);
    is(&get("Host: node.example\r\n"), 403, "foreign_host");
    for header in ["Forwarded: for=10.0.0.1", "X-Forwarded-For: 10.0.0.1", "X-Real-IP: 10.0.0.1"] {
        is(&get(&format!("Host: localhost\r\n{header}\r\n")), 403, "foreign_host");
    }
    let keys = server.get("/v1/admin/keys");
    assert_eq!(code(&keys), (404, "not_found".into()), "{}", keys.text);
    assert!(!server.data_dir().join("node/api-keys.json").exists());
}

fn on_socket(server: &Running, method: &str, path: &str) -> Answer {
    let mut stream =
        std::os::unix::net::UnixStream::connect(server.data_dir().join("admin.sock")).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, headers: Vec::new(), text: body.to_owned() }
}

/// Whoever may open the socket needs no key for what operators and administrators do, and gets
/// nothing else there.
#[test]
fn the_socket_is_for_operators_and_administrators() {
    for enabled in [true, false] {
        let server = start_with(|config, _| config.auth.enabled = enabled);
        assert_eq!(on_socket(&server, "GET", "/v1/admin/node").status, 200);
        assert_eq!(on_socket(&server, "GET", "/readyz").status, 200);
        assert_eq!(on_socket(&server, "POST", "/v1/admin/wal/acknowledge").status, 200);
        let keys = on_socket(&server, "GET", "/v1/admin/keys");
        assert_eq!(keys.status, if enabled { 200 } else { 404 }, "{}", keys.text);
        for (method, path) in [
            ("GET", "/v1/query?subject=s&predicate=p"),
            ("GET", "/v1/export"),
            ("POST", "/v1/assert"),
            ("POST", "/v1/import"),
        ] {
            let answer = on_socket(&server, method, path);
            assert_eq!(code(&answer), (404, "not_found".into()), "{path}: {}", answer.text);
        }
        let entries = on_socket(&server, "GET", "/v1/audit/admin").json();
        let entry = &entries["entries"][0];
        assert_eq!((&entry["via"], &entry["principal"]), (&json!("socket"), &json!("local")));
        assert!(entry["client"].is_null());
    }
}

#[test]
fn only_proxies_that_are_trusted_say_who_asks() {
    for (trusted, expected) in [(Some("127.0.0.0/8"), "10.1.2.3"), (None, "127.0.0.1:")] {
        let server = start_with(|config, _| {
            config.auth.enabled = true;
            if let Some(text) = trusted {
                config.trusted_proxies.push(text.parse().unwrap());
            }
        });
        let bearer = format!("Authorization: Bearer {}", first(&server));
        let headers = [&*bearer, "X-Forwarded-For: 9.9.9.9, 10.1.2.3"];
        let done = ask(&server, "POST", "/v1/admin/wal/acknowledge", &headers, &Value::Null);
        assert_eq!(done.status, 200, "{}", done.text);
        let page = ask(&server, "GET", "/v1/audit/admin", &[&bearer], &Value::Null).json();
        let client = page["entries"][0]["client"].as_str().unwrap();
        assert!(client.starts_with(expected), "{client}");
    }
}

#[test]
fn browsers_are_told_what_not_to_do() {
    let server = secured();
    let admin = first(&server);
    for (path, kept) in [("/v1/health", false), ("/v1/nothing", false), ("/docs/", true)] {
        let answer = with(&server, &admin, "GET", path, &Value::Null);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("script"), "{path}: {policy}");
        assert_eq!(answer.header("cache-control") == Some("no-store"), !kept, "{path}");
    }
    // The page needs no script of its own within it, which the policy would stop.
    let page = ask(&server, "GET", "/docs/", &[], &Value::Null);
    assert_eq!(page.status, 200);
    for part in page.text.split("<script").skip(1) {
        let (tag, rest) = part.split_once('>').unwrap();
        assert!(tag.contains("src=") && rest.trim_start().starts_with("</script>"), "{part}");
    }
}

#[test]
fn pages_of_other_sites_may_ask_only_if_named() {
    let preflight = [
        "Origin: https://app.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type",
    ];
    let server = secured();
    let answer = ask(&server, "OPTIONS", "/v1/assert", &preflight, &Value::Null);
    is(&answer, 405, "method_not_allowed");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let server = start_with(|config, _| {
        config.auth.enabled = true;
        config.cors_origins = vec!["https://app.example".into()];
    });
    let answer = ask(&server, "OPTIONS", "/v1/assert", &preflight, &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("x-api-key"), "{allowed}");
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let origin = ["Origin: https://evil.example", preflight[1]];
    let other = ask(&server, "OPTIONS", "/v1/assert", &origin, &Value::Null);
    assert_eq!(other.header("access-control-allow-origin"), None);
    // A named origin still needs a key, and its page may read why not.
    let answer = ask(&server, "GET", "/v1/health", &preflight[..1], &Value::Null);
    is(&answer, 401, "api_key_missing");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
}
