//! Troubleshooting: each symptom is made, and the commands of the page show what the page says.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::session::{FAR, Session};
use crate::drill::room::NODE;
use crate::drill::service::ADDRESS;
use crate::matrix::node::{Client, REQUEST_MAX};
use crate::mount::run as call;

/// The key that the page asks about.
const SUBJECT: &str = "semaglutide";
const PREDICATE: &str = "gastroparesis_risk";
/// Another address of this machine.
const ELSEWHERE: &str = "192.0.2.1";
/// Where nobody is, and a proxy is said to be.
const PROXY: &str = "http://127.0.0.1:9";
/// `curl` could not connect.
const REFUSED: i32 = 7;
/// `curl` heard something else than TLS.
const NO_TLS: i32 = 35;
/// When claims of the case are said to have been made; a server that signs wants to be told.
const AT: u64 = 1_767_225_600_000;
/// An id of no record.
const NOBODY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    does_not_run(session)?;
    session.service.start()?;
    session.export("STEMEDB_API_KEY_FILE", format!("{NODE}/first-admin.key"))?;
    runs(session)?;
    is_behind_a_proxy(session)?;
    is_not_allowed(session)?;
    is_wrong(session)?;
    was_written(session)?;
    surprises(session)?;
    is_not_there_yet(session)?;
    is_measured(session)?;
    is_too_much(session)?;
    is_nowhere_else(session)?;
    speaks_tls(session)
}

fn client(session: &Session<'_>, key: &str) -> Result<Client> {
    let file = match key {
        "" => PathBuf::from(NODE).join("first-admin.key"),
        _ => session.work().join(format!("{key}.key")),
    };
    let secret = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(Client::new(format!("http://{ADDRESS}"), REQUEST_MAX).with_key(secret.trim()))
}

/// What is answered to a body.
fn answers(client: &Client, path: &str, body: &Value, status: u16, code: &str) -> Result<()> {
    let answer = client.post(path, body)?;
    let found = (answer.status, answer.text("code"));
    ensure!(found == (status, code), "{path} is answered {found:?}: {}", answer.body);
    Ok(())
}

fn does_not_run(session: &mut Session<'_>) -> Result<()> {
    session.step("status")?.shows(&["inactive"])?;
    session.step_ends("reach", REFUSED)?;
    let listens = session.step("listens")?;
    ensure!(!listens.words.contains("LISTEN"), "somebody listens: {}", listens.words);
    Ok(())
}

fn runs(session: &mut Session<'_>) -> Result<()> {
    let said = session.step("status")?;
    said.shows(&["active", "ready"])?;
    ensure!(!said.words.contains("inactive"), "{}", said.words);
    session.step("reach")?.shows(&["{\"status\":\"ready\"}"])?;
    // Asked from elsewhere, as the page says: it listens on this machine only.
    call(Command::new("ip").args(["address", "replace", ELSEWHERE, "dev", "lo"]))?;
    let (status, _) = session.typed(&format!("curl -sS http://{ELSEWHERE}:18180/readyz"))?;
    ensure!(status == Some(REFUSED), "it answers at another address: {status:?}");
    session.step("listens")?.shows(&["127.0.0.1:18180", "listen = \"127.0.0.1:18180\""])?;
    // Drained, it says so.
    session.tool(&["admin", "drain"])?;
    session.step("status")?.shows(&["drained"])?;
    let drained = json!({"subject": "a", "predicate": "b", "object": 1, "at": AT});
    answers(&client(session, "")?, "/v1/assert", &drained, 503, "draining")?;
    session.tool(&["admin", "undrain"])?;
    Ok(())
}

fn is_behind_a_proxy(session: &mut Session<'_>) -> Result<()> {
    session.assert([SUBJECT, PREDICATE, "rare"], &[])?;
    session.export("http_proxy", PROXY)?;
    let (status, words) = session.typed(&format!("stemedb query {SUBJECT} {PREDICATE}"))?;
    ensure!(status == Some(2) && words.contains("Connection refused"), "{status:?}: {words}");
    session.step("proxy")?.shows(&["http_proxy=", "rare"])?;
    session.typed("unset http_proxy")?;
    Ok(())
}

fn is_not_allowed(session: &mut Session<'_>) -> Result<()> {
    session.step("allowed")?.shows(&["\"code\":\"invalid_field\""])?;
    let bound = session.tool(&["key", "generate", "bound.agent"])?;
    session.tool(&["key", "generate", "other.agent"])?;
    session.key("reader", &["--role", "reader"])?;
    session.key("lab", &["--role", "writer", "--space", "lab"])?;
    session.key("bound", &["--role", "writer", "--agent", bound.trim()])?;
    session.key("gone", &["--role", "writer"])?;
    let list = session.step("keys")?;
    list.shows(&["reader", "lab", "bound"])?;
    let gone = list.words.lines().find(|line| line.contains("gone"));
    let gone = gone.and_then(|line| line.split_whitespace().next()).context("no id")?;
    session.tool(&["admin", "keys", "revoke", gone])?;
    for (key, code) in [("reader", "role_too_low"), ("gone", "api_key_unknown")] {
        session.export("STEMEDB_API_KEY_FILE", session.work().join(format!("{key}.key")))?;
        session.step("allowed")?.shows(&[&format!("\"code\":\"{code}\"")])?;
    }
    session.export("STEMEDB_API_KEY_FILE", "/dev/null")?;
    session.step("allowed")?.shows(&["api_key_"])?;
    session.export("STEMEDB_API_KEY_FILE", format!("{NODE}/first-admin.key"))?;
    session.step("keys")?.shows(&["revoked"])?;
    let claim = ["assert", "a", "b", "c"];
    for (key, more, code) in [
        ("lab", &[][..], "403 space_forbidden"),
        ("bound", &["--key", "other.agent"][..], "403 agent_not_bound"),
    ] {
        let file = session.work().join(format!("{key}.key"));
        let words = session.refused_with(&file, &[&claim[..], more].concat())?;
        ensure!(words.contains(code), "{key} is told: {words}");
    }
    let lab = session.work().join("lab.key");
    session.tool_with(&lab, &["assert", "a", "b", "c", "--space", "lab"])?;
    let url = format!("http://{ADDRESS}");
    let without = Client::new(url, REQUEST_MAX);
    answers(&without, "/v1/assert", &json!({}), 401, "api_key_missing")?;
    answers(&without, "/v1/assert?api_key=stk_1", &json!({}), 400, "api_key_in_url")
}

fn is_wrong(session: &mut Session<'_>) -> Result<()> {
    let client = client(session, "")?;
    let claim = |more: Value| {
        let mut body = json!({"subject": "a", "predicate": "b", "object": "c", "at": AT});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        body
    };
    // Far ahead of every clock: the year 2100.
    let ahead = json!({"at": 4_102_444_800_000_u64});
    for (more, code) in [
        (json!({"objekt": "c"}), "invalid_field"),
        (json!({"subject": ""}), "invalid_field"),
        (ahead, "at_ahead"),
    ] {
        answers(&client, "/v1/assert", &claim(more), 400, code)?;
    }
    let day = client.get("/v1/query?subject=a&predicate=b&as_of=2026-01-01")?;
    ensure!(day.text("code") == "invalid_parameter", "{}", day.body);
    session.step("clocks")?.shows(&["date:"])?;
    // A record that was changed after it was signed, and one under another's id.
    let id = session.assert(["signed", "is", "one"], &["--key", "other.agent"])?;
    let mut record = client.get(&format!("/v1/records/{id}"))?.body;
    let record = record.pointer_mut("/record").and_then(Value::as_object_mut).context("record")?;
    record.insert("id".into(), NOBODY.into());
    answers(&client, "/v1/assert", &Value::Object(record.clone()), 400, "id_mismatch")?;
    record.insert("object".into(), "two".into());
    answers(&client, "/v1/assert", &Value::Object(record.clone()), 401, "bad_signature")?;
    // What it names is not there.
    let parent = json!({"parent": NOBODY});
    answers(&client, "/v1/assert", &claim(parent), 409, "unknown_reference")?;
    session.step_as("record", &[("ID", NOBODY)], 1)?.shows(&["404 record_not_found"])?;
    session.step_with("record", &[("ID", &id)])?.shows(&["\"signed\""])
}

fn was_written(session: &mut Session<'_>) -> Result<()> {
    let id =
        session.assert(["written", "is", "it"], &["--key", "other.agent", "--at", "2026-01-01"])?;
    session.step_with("written", &[("ID", &id)])?.shows(&["200"])?;
    session.step_with("written", &[("ID", NOBODY)])?.shows(&["404"])?;
    // The same record again.
    let again = ["assert", "written", "is", "it", "--key", "other.agent", "--at", "2026-01-01"];
    let told = session.tool(&again)?;
    ensure!(told.contains("exists") && told.contains(&id), "sent again it is told {told}");
    Ok(())
}

fn surprises(session: &mut Session<'_>) -> Result<()> {
    for agent in ["one", "two", "three", "four"] {
        session.tool(&["key", "generate", &format!("{agent}.agent")])?;
    }
    let key = |agent: &str| ["--key".to_owned(), format!("{agent}.agent")];
    let say = |session: &Session<'_>, agent: &str, value: &str, more: &[&str]| {
        let key = key(agent);
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        session.assert([SUBJECT, PREDICATE, value], &[&key[..], more].concat())
    };
    say(session, "one", "first", &[])?;
    say(session, "one", "second", &[])?;
    let retracted = say(session, "two", "taken back", &[])?;
    session.tool(&["retract", &retracted, "--key", "two.agent"])?;
    say(session, "three", "long ago", &["--valid-to", "2020-01-01"])?;
    let old = say(session, "four", "old", &[])?;
    let new = session.assert([SUBJECT, PREDICATE, "new"], &[])?;
    session.tool(&["supersede", &old, &new, "--key", "four.agent"])?;
    session.step("explain")?.shows(&[
        "replaced by #",
        "retracted by #",
        "superseded by #",
        "not_valid_then",
        "yes",
    ])?;
    session.step("lenses")?.shows(&["tier 5 anecdotal", "no winner", "since position"])?;
    session.assert([SUBJECT, PREDICATE, "in the lab"], &["--space", "lab"])?;
    let (status, words) = session.typed(&format!("stemedb query {SUBJECT} {PREDICATE}"))?;
    ensure!(status == Some(0) && !words.contains("in the lab"), "{status:?}: {words}");
    session.step("elsewhere")?.shows(&["in the lab", "assertion", "semaglutide"])
}

fn is_not_there_yet(session: &mut Session<'_>) -> Result<()> {
    let newest = client(session, "")?.metric("stemedb_wal_durable_position")?;
    session.step_with("at-least", &[("1207", &newest.to_string())])?.shows(&["at position"])?;
    let ahead = session.step_ends("at-least", 2)?;
    ahead.shows(&["409 position_ahead", &format!("the newest is {newest}")])?;
    let said = session.step("behind")?;
    ensure!(said.words.lines().count() == 3, "not all positions are told: {}", said.words);
    said.shows(&[&format!("stemedb_index_applied_position {newest}")])
}

fn is_measured(session: &mut Session<'_>) -> Result<()> {
    session.step("measures")?.shows(&[
        "stemedb_index_memory_bytes{part=\"blocks\"}",
        "stemedb_answer_cache_total{result=\"miss\"}",
        "stemedb_write_queue_records",
        "process_resident_memory_bytes",
        "stemedb_wal_recovery_duration_seconds",
        "/var/lib/stemedb/index",
        "retention = \"keep\"",
        "keep_bytes",
        "cache_bytes",
    ])
}

fn is_too_much(session: &mut Session<'_>) -> Result<()> {
    session.configure("[rate_limit.write]\nper_second = 1\nburst = 2\n")?;
    let asks = client(session, "")?;
    let long = "a".repeat(2_200_000);
    let large = json!({"subject": "a", "predicate": "b", "object": long, "at": AT});
    answers(&asks, "/v1/assert", &large, 413, "body_too_large")?;
    let address = format!("/v1/query?subject={}&predicate=b", "a".repeat(9_000));
    let far = asks.get(&address)?;
    ensure!(far.text("code") == "uri_too_long", "{} {}", far.status, far.body);
    let one = json!({"subject": "a", "predicate": "b", "object": 1, "at": AT});
    for _ in 0..3 {
        asks.post("/v1/assert", &one)?;
    }
    answers(&asks, "/v1/assert", &one, 429, "rate_limited")?;
    session.step("refused")?.shows(&[
        "reason=\"body_too_large\"",
        "reason=\"uri_too_long\"",
        "reason=\"rate_limited\"",
    ])?;
    session.step("limited")?.shows(&["over its rate limit", "class=\"write\""])
}

fn is_nowhere_else(session: &mut Session<'_>) -> Result<()> {
    session.configure("")?;
    for (status, said) in session.step_by_lines("far")? {
        ensure!(status == 2, "it ends with {status}: {}", said.words);
        said.shows(&[".url is not set"])?;
    }
    fs::create_dir_all(FAR)?;
    session.configure(&format!(
        "[archive]\nurl = \"{FAR}/archive\"\n[backup]\nurl = \"{FAR}/backups\"\n"
    ))?;
    session.tool(&["archive", "run"])?;
    session.tool(&["backup", "create"])?;
    session.step("far")?.shows(&["present", "lost       0 parts", "position"])?;
    // In the room the log lies in memory, and that is told.
    let said = session.step_ends("doctor", 1)?;
    said.shows(&[
        "critical",
        "in memory",
        "next: ",
        "backups are not encrypted",
        "data in /var/lib/stemedb",
    ])
}

fn speaks_tls(session: &mut Session<'_>) -> Result<()> {
    session.step_ends("tls", NO_TLS)?;
    let (certificate, key) = (session.work().join("node.pem"), session.work().join("node.key"));
    call(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    )?;
    session.configure(&format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        certificate.display(),
        key.display()
    ))?;
    session.step("tls")?.shows(&["{\"status\":\"ready\"}"])?;
    let (status, words) = session.typed(&format!("stemedb query {SUBJECT} {PREDICATE}"))?;
    ensure!(status == Some(2) && words.contains("invalid HTTP version"), "{status:?}: {words}");
    let strict = format!("stemedb query {SUBJECT} {PREDICATE} --url https://localhost:18180");
    let (status, words) = session.typed(&strict)?;
    ensure!(status == Some(2) && words.contains("invalid peer certificate"), "{status:?}: {words}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::fs;

    fn page(name: &str) -> String {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        fs::read_to_string(docs.join(name)).unwrap()
    }

    /// Words in backquotes of a cell of a table, or of a line without.
    fn quoted(cell: &str) -> impl Iterator<Item = (&str, &str)> {
        let parts: Vec<&str> = cell.split('`').collect();
        (1..parts.len()).step_by(2).map(move |at| (parts[at - 1], parts[at]))
    }

    /// What is wrong with codes, metrics and settings that the page names.
    fn problems(text: &str) -> Vec<String> {
        let (errors, metrics) = (page("errors.md"), page("operations/monitoring.md"));
        let configuration = page("configuration.md");
        let rows = errors.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let codes: BTreeMap<&str, &str> =
            rows.map(|(code, rest)| (code, rest.split(' ').next().unwrap())).collect();
        let mut tables: Vec<&str> = Vec::new();
        let mut keys = Vec::new();
        for line in configuration.lines() {
            let table = line.strip_prefix("## `[").and_then(|rest| rest.strip_suffix("]`"));
            tables.extend(table);
            if let Some((key, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
                keys.push(format!("{}.{key}", tables.last().unwrap()));
            }
        }
        let mut problems = Vec::new();
        for cell in text.lines().flat_map(|line| line.split('|')) {
            let mut status = None;
            for (before, word) in quoted(cell) {
                let number = before.split([' ', '(']).rfind(|one| !one.is_empty());
                let number = number.filter(|one| one.len() == 3 && one.starts_with(['4', '5']));
                status = number.or(status.filter(|_| before == ", "));
                match (status, codes.get(word)) {
                    (Some(status), Some(known)) if status != *known => {
                        problems.push(format!("{word} is {known}, not {status}"));
                    }
                    (Some(status), None) => problems.push(format!("{status} {word} is no code")),
                    _ => {}
                }
                let metric = word.split('{').next().unwrap();
                if metric.starts_with("stemedb_") && !metrics.contains(&format!("`{metric}`")) {
                    problems.push(format!("{metric} is no metric of the list"));
                }
                let key = word.split(' ').next().unwrap();
                let of = key.split_once('.').is_some_and(|(table, _)| tables.contains(&table));
                if of && !keys.iter().any(|known| known == key) {
                    problems.push(format!("{key} is no setting"));
                }
            }
        }
        problems
    }

    #[test]
    fn codes_metrics_and_settings_are_what_the_server_has() {
        let text = page("operations/troubleshooting.md");
        assert!(text.contains("409 `unknown_reference`") && text.contains("`limits.uri_bytes`"));
        assert_eq!(problems(&text), Vec::<String>::new());
    }

    #[test]
    fn what_the_server_does_not_have_is_told() {
        for (text, expected) in [
            ("| 403 `api_key_missing` |", "api_key_missing is 401, not 403"),
            ("400 `invalid_field`, `wrong_kind`", "wrong_kind is 409, not 400"),
            ("| 400 `wrong_id` |", "400 wrong_id is no code"),
            ("`stemedb_none_total{a=\"b\"}`", "stemedb_none_total is no metric of the list"),
            ("`limits.url_bytes`", "limits.url_bytes is no setting"),
        ] {
            assert_eq!(problems(text), [expected]);
        }
        let fine = "409 `cycle`; `wal.retention = \"archived\"`, `stemedb_wal_state{state}`, `a.b`, `word`";
        assert_eq!(problems(fine), Vec::<String>::new());
    }
}
