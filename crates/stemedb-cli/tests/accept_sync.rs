//! Acknowledgements that wait for the archive: what was acknowledged is there, whatever becomes of the
//! machine; and a store that is away is told before it costs anybody anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(clippy::disallowed_methods, reason = "files of the servers under test")]

mod common;

use std::fs;
use std::path::Path;

use common::bodies::*;
use common::{Answer, Server, data_dir, key, run_in, until};
use serde_json::{Value as Json, json};
use stemedb_model::SourceClass::Expert;
use stemedb_model::*;

fn prepared(archive: &Path, sync: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[archive]\nurl = \"{}\"\ndelay = \"1h\"\nsync = {sync}\n[limits]\nrequest_timeout_ms = 4000\n\
         [server]\ndrain_timeout_ms = 2000\n",
        archive.display()
    );
    fs::write(dir.path().join("api.toml"), text).unwrap();
    dir
}

fn write(server: &Server, value: &str) -> (Signed, Answer) {
    let signed = server.sign(&key("alice"), &Space::default(), claim("a", "colour", value, Expert));
    let answer = server.put_record(&signed);
    (signed, answer)
}

/// The store is away: in the place of its folder is a file.
fn take_away(archive: &Path) {
    fs::rename(archive, archive.with_extension("away")).unwrap();
    fs::write(archive, "not a folder").unwrap();
}

fn bring_back(archive: &Path) {
    fs::remove_file(archive).unwrap();
    fs::rename(archive.with_extension("away"), archive).unwrap();
}

#[test]
fn what_is_acknowledged_is_in_the_archive() {
    let far = tempfile::tempdir().unwrap();
    let archive = far.path().join("archive");
    let server = Server::again(prepared(&archive, true));
    let data = data_dir(server.dir.path()).display().to_string();
    let store = archive.display().to_string();
    let status = ["archive", "status", "--store", &store, "--data-dir", &data, "--json"];
    for n in 0..5 {
        let newest = write(&server, &format!("v{n}")).1.expect(201)["position"].as_u64().unwrap();
        let archived = common::json(&server.run(&status), 0)["archived"].as_u64();
        assert!(archived >= Some(newest), "{archived:?}, acknowledged {newest}");
    }
    let node = server.get("/v1/admin/node", &[]).expect(200);
    assert_eq!(node["archive"]["sync"], true, "{node}");
    assert_eq!(node["archive"]["state"], "running", "{node}");

    take_away(&archive);
    let (signed, unknown) = write(&server, "late");
    assert_eq!(unknown.status, 500, "{}", unknown.text);
    assert_eq!(unknown.json()["outcome"], "indeterminate");
    until("told", || server.get("/readyz", &[("for", "write")]).status == 503);
    assert_eq!(server.get("/readyz", &[("for", "read")]).status, 200);
    let (_, refused) = write(&server, "refused");
    assert_eq!(refused.outcome(), (503, "archive_unavailable".into()), "{}", refused.text);
    assert_eq!(refused.json()["outcome"], "not_written");
    let node = server.get("/v1/admin/node", &[]).expect(200);
    assert_eq!(node["state"], "read_only");
    assert_eq!(node["reason"]["code"], "archive_unavailable");
    // What was acknowledged is answered as before.
    assert_eq!(server.get("/v1/query", &[("subject", "a"), ("predicate", "colour")]).status, 200);

    bring_back(&archive);
    until("back", || server.get("/readyz", &[("for", "write")]).status == 200);
    let again = server.put_record(&signed).expect(200);
    assert_eq!(again["status"], "exists", "{again}");
    let newest = write(&server, "newest").1.expect(201)["position"].as_u64().unwrap();
    let root = server.answer_root();
    let signer =
        common::json(&server.run(&["key", "show", &format!("{data}/node/node.key"), "--json"]), 0);
    let signer = signer["public_key"].as_str().unwrap().to_owned();
    // The machine is lost, at once.
    let lost = server.kill();
    fs::remove_dir_all(data_dir(lost.path())).unwrap();
    let to = tempfile::tempdir().unwrap();
    let restored = data_dir(to.path()).display().to_string();
    let restore = ["backup", "restore", "--store", &store, "--data-dir", &restored, "--json"];
    let restore = [&restore[..], &["--trust-key", &signer]].concat();
    assert_eq!(common::json(&run_in(&to, &restore), 0)["position"].as_u64(), Some(newest));
    let at = ["admin", "root", "--data-dir", &restored, "--at", common::EVALUATED_AT, "--json"];
    assert_eq!(common::json(&run_in(&to, &at), 0)["answer_root"], root);
}

#[test]
fn a_drain_archives_and_says_what_it_could_not() {
    let far = tempfile::tempdir().unwrap();
    let archive = far.path().join("archive");
    let server = Server::again(prepared(&archive, false));
    let drain = || server.post("/v1/admin/node/drain", &json!({})).expect(200);
    let undrain = || server.post("/v1/admin/node/undrain", &json!({})).expect(200);
    write(&server, "one").1.expect(201);
    // Nothing is due for an hour, but for a drain.
    let drained = drain();
    assert_eq!(drained["complete"], true, "{drained}");
    assert_eq!(drained["node"]["archive"]["position"], drained["node"]["durable"], "{drained}");
    undrain();
    let position = write(&server, "two").1.expect(201)["position"].as_u64().unwrap();
    take_away(&archive);
    let drained = drain();
    assert_eq!(drained["node"]["state"], "drained", "{drained}");
    assert_eq!(drained["complete"], false, "{drained}");
    let left = drained["left"][0].as_str().unwrap();
    let sentence = format!("positions {position} to {position} are not archived yet");
    assert!(left.contains(&sentence), "{left}");
    bring_back(&archive);
    until("archived after all", || drain()["complete"] == true);
    undrain();
    write(&server, "three").1.expect(201);
    take_away(&archive);
    // The end of the process says it, too.
    let dir = server.stop();
    let words = fs::read_to_string(dir.path().join("words")).unwrap();
    assert!(words.contains("are not archived yet"), "{words}");
}

#[test]
fn a_damaged_segment_comes_back_from_the_archive() {
    let far = tempfile::tempdir().unwrap();
    let archive = far.path().join("archive");
    let server = Server::again(prepared(&archive, true));
    for n in 0..8 {
        write(&server, &format!("v{n}")).1.expect(201);
    }
    let root = server.answer_root();
    let dir = server.stop();
    let data = data_dir(dir.path());
    let segment = data.join("wal/segment.001.wal");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096 * 2 + 100] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let run = |args: &[&str]| run_in(&dir, args);
    let (wal, segment) = (data.join("wal").display().to_string(), segment.display().to_string());
    assert_eq!(run(&["wal", "verify", &wal]).status.code(), Some(1));
    let store = archive.display().to_string();
    let output = dir.path().join("restored.wal").display().to_string();
    let restore = ["wal", "restore", "--segment", &segment, "--store", &store, "--json"];
    let plan = common::json(&run(&[&restore[..], &["--plan"]].concat()), 0);
    assert_eq!((&plan["output"], &plan["undecided"]), (&Json::Null, &Json::Null), "{plan}");
    let done = common::json(&run(&[&restore[..], &["--output", &output]].concat()), 0);
    assert_eq!(done["output"], output.as_str(), "{done}");
    assert_eq!(fs::read(&segment).unwrap(), bytes, "the input was touched");
    fs::rename(&output, &segment).unwrap();
    assert_eq!(run(&["wal", "verify", &wal]).status.code(), Some(0));
    let server = Server::again(dir);
    assert_eq!(server.answer_root(), root);
    write(&server, "on it goes").1.expect(201);
}
