//! Archive, backup and restore from outside: what a server held comes back, with the same roots.
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
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::{Server, data_dir, run_in};
use serde_json::Value;
use stemedb_io::{Clock, RealClock};
use tempfile::TempDir;

/// A folder with the configuration of a server that archives.
fn prepared(archive: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[archive]\nurl = \"{}\"\ndelay = \"200ms\"\n", archive.display());
    fs::write(dir.path().join("api.toml"), text).unwrap();
    dir
}

#[track_caller]
fn json(output: &Output, status: i32) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words}");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}{words}"))
}

fn assert_some(server: &Server, from: u64, count: u64) {
    for n in from..from + count {
        let (subject, value) = (format!("s{}", n % 7), format!("v{}", n % 3));
        let output = server.run(&["assert", &subject, "p", &value]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    RealClock::new().now_ms() as f64 / 1e3
}

/// The value of a metric that the server exports once a command has left its note.
fn told(server: &Server, name: &str) -> Option<f64> {
    let clock = RealClock::new();
    while clock.monotonic() < Duration::from_secs(30) {
        let text = server.get("/metrics", &[]).text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        if let Some(value) = line {
            return value.parse().ok();
        }
        clock.sleep(Duration::from_millis(200));
    }
    None
}

/// The files of a node go to another one, but for those that say which branch its log was.
fn move_node(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            move_node(&entry.path(), &to.join(name));
        } else if entry.file_type().unwrap().is_file() && name != "database" && name != "archived" {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path())
            } else {
                found.push(entry.path())
            }
        }
    }
    found
}

/// One object below a folder, the largest.
fn object(dir: &Path) -> PathBuf {
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    files(dir).into_iter().max_by_key(size).unwrap()
}

#[test]
fn what_a_server_held_comes_back() {
    let far = tempfile::tempdir().unwrap();
    let path = |name: &str| far.path().join(name).display().to_string();
    let (archive, backups) = (path("archive"), path("backups"));
    let server = Server::again(prepared(Path::new(&archive)));
    assert_some(&server, 0, 6);
    let data = data_dir(server.dir.path()).display().to_string();
    let status = |server: &Server| {
        server.run(&["archive", "status", "--store", &archive, "--data-dir", &data, "--json"])
    };
    let position = server.position();
    let clock = RealClock::new();
    loop {
        let output = status(&server);
        if output.status.success() && json(&output, 0)["archived"].as_u64() >= Some(position) {
            break;
        }
        assert!(clock.monotonic() < Duration::from_secs(60), "never archived");
        clock.sleep(Duration::from_millis(100));
    }
    let scraped = server.get("/metrics", &[]).text;
    assert!(scraped.contains("stemedb_archive_state{state=\"running\"} 1"), "{scraped}");
    assert!(scraped.contains("stemedb_wal_archived_position"), "{scraped}");

    // Beside the running server, which tells of it.
    const MADE: &str = "stemedb_backup_last_success_timestamp_seconds";
    const VERIFIED: &str = "stemedb_backup_last_verified_timestamp_seconds";
    assert!(!scraped.contains("stemedb_backup_"), "nobody expects backups: {scraped}");
    let create = ["backup", "create", "--store", &backups, "--data-dir", &data, "--json"];
    let first = json(&server.run(&create), 0);
    assert_some(&server, 6, 4);
    // A moment after the last write the files say that it was durable.
    let newest = server.position();
    let second = loop {
        let second = json(&server.run(&create), 0);
        if second["position"].as_u64() == Some(newest) {
            break second;
        }
        clock.sleep(Duration::from_millis(200));
    };
    assert!(second["reused"].as_u64() > Some(0), "{second}");
    let verify = ["backup", "verify", "--store", &backups, "--data-dir", &data, "--json"];
    // One by its id says nothing of the newest.
    let id = first["id"].as_str().unwrap();
    json(&server.run(&[&verify[..], &[id]].concat()), 0);
    let made = told(&server, MADE);
    assert!(made.is_some_and(|at| (at - now()).abs() < 120.0), "{made:?}");
    assert!(!server.get("/metrics", &[]).text.contains(VERIFIED));
    json(&server.run(&verify), 0);
    let verified = told(&server, VERIFIED);
    assert!(verified >= made && verified.is_some_and(|at| at <= now() + 1.0), "{verified:?}");
    let root = server.answer_root();
    let dir = server.stop();

    // What was left was archived by the drain.
    let offline =
        run_in(&dir, &["archive", "status", "--store", &archive, "--data-dir", &data, "--json"]);
    let status = json(&offline, 0);
    assert_eq!((status["archived"].as_u64(), status["delayed"].as_u64()), (Some(newest), Some(0)));

    // The same once more by hand, and to another place.
    for store in [archive.clone(), path("another")] {
        let run = ["archive", "run", "--store", store.as_str(), "--data-dir", &data, "--json"];
        assert_eq!(json(&run_in(&dir, &run), 0)["archived"].as_u64(), Some(newest));
        let status =
            ["archive", "status", "--store", store.as_str(), "--data-dir", &data, "--json"];
        assert_eq!(json(&run_in(&dir, &status), 0)["delayed"].as_u64(), Some(0));
    }

    // Back from the archive.
    let restored = prepared(Path::new(&archive));
    let to = data_dir(restored.path()).display().to_string();
    let restore = ["backup", "restore", "--store", &archive, "--data-dir", &to, "--json"];
    let plan = json(&run_in(&restored, &[&restore[..], &["--dry-run"]].concat()), 0);
    assert!(!Path::new(&to).exists());
    let done = json(&run_in(&restored, &restore), 0);
    let branch = done["parent"].as_str().unwrap().to_owned();
    assert_eq!((&done["log_root"], &done["position"]), (&plan["log_root"], &plan["position"]));
    assert_eq!(done["position"].as_u64(), Some(newest));
    move_node(&Path::new(&data).join("node"), &Path::new(&to).join("node"));
    let again = Server::again(restored);
    assert_eq!(again.answer_root(), root);
    assert_some(&again, 50, 1);

    // Over a database nothing is restored.
    let output = again.run(&restore);
    assert_eq!(output.status.code(), Some(1));

    // Back from the backup, with the node's own files.
    let place = ["--store", backups.as_str()];
    let deep = ["backup", "verify", "--deep", "--against-server", "--json"];
    let (name, nowhere) = (again.log_id.to_string(), path("nowhere"));
    let log = ["--log", name.as_str(), "--data-dir", nowhere.as_str()];
    let verified = json(&again.run(&[&deep[..], &place[..], &log[..]].concat()), 0);
    assert_eq!(verified["position"].as_u64(), Some(newest));
    let other = tempfile::tempdir().unwrap();
    let to = data_dir(other.path()).display().to_string();
    let id = first["id"].as_str().unwrap();
    let restore = ["backup", "restore", "--backup", id, "--data-dir", &to, "--json"];
    let done = json(&run_in(&other, &[&restore[..], &place[..]].concat()), 0);
    assert_eq!(done["position"], first["position"]);
    let early = Server::again(other);
    assert_eq!(early.position(), first["position"].as_u64().unwrap());
    drop(early);

    // The log from the archive, and the node's files from a backup: without its key it would not be it.
    let both = tempfile::tempdir().unwrap();
    let to = data_dir(both.path()).display().to_string();
    let log_from = ["backup", "restore", "--store", &archive, "--log", &name, "--branch", &branch];
    json(&run_in(&both, &[&log_from[..], &["--data-dir", &to, "--json"]].concat()), 0);
    let node = ["backup", "restore", "--backup", id, "--node-only", "--data-dir", &to, "--json"];
    let done = json(&run_in(&both, &[&node[..], &place[..]].concat()), 0);
    assert!(done["files"].as_u64() > Some(1), "{done}");
    let refused = run_in(&both, &[&node[..], &place[..]].concat());
    assert_eq!(refused.status.code(), Some(1), "over files nothing is restored");
    let both = Server::again(both);
    assert_eq!((both.position(), both.answer_root()), (newest, root.clone()));
    drop(both);

    // The newest backup cannot be read: an older one does not take its place.
    let newest = format!("{}.cbor", second["id"].as_str().unwrap());
    let map = files(Path::new(&backups)).into_iter().find(|path| path.ends_with(&newest)).unwrap();
    let whole = fs::read(&map).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&map, bytes).unwrap();
    let verify = ["backup", "verify", "--json"];
    let refused = again.run(&[&verify[..], &place[..], &log[..]].concat());
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("the newest backup") && words.contains(&newest), "{words}");
    json(&again.run(&[&verify[..], &[id], &place[..], &log[..]].concat()), 0);
    fs::write(&map, whole).unwrap();

    // One flipped bit, one lost part.
    let listed =
        json(&again.run(&[&["backup", "list", "--json"][..], &place[..], &log[..]].concat()), 0);
    assert_eq!(listed["id"], second["id"]);
    let victim = object(Path::new(&backups));
    let mut bytes = fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let verify = again.run(&[&["backup", "verify", "--json"][..], &place[..], &log[..]].concat());
    assert_eq!(json(&verify, 1)["problems"].as_array().unwrap().len(), 1);
    let victim = object(&Path::new(&archive).join(again.log_id.to_string()));
    fs::remove_file(&victim).unwrap();
    let lost =
        run_in(&dir, &["archive", "status", "--store", &archive, "--data-dir", &data, "--json"]);
    assert_eq!(json(&lost, 1)["whole"], false);
}

#[test]
fn what_is_encrypted_comes_back_with_its_key_only() {
    let far = tempfile::tempdir().unwrap();
    let path = |name: &str| far.path().join(name).display().to_string();
    let (archive, backups, key) = (path("archive"), path("backups"), path("encryption.key"));
    let home = prepared(Path::new(&archive));
    let made = json(&run_in(&home, &["key", "generate", "--encryption", &key, "--json"]), 0);
    let id = made["key_id"].as_str().unwrap().to_owned();
    let config = home.path().join("api.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}[encryption]\nkeys = [\"{key}\"]\n")).unwrap();
    let server = Server::again(home);
    assert_some(&server, 0, 5);
    let root = server.answer_root();
    let secret = fs::read(data_dir(server.dir.path()).join("node/root.key")).unwrap();
    let dir = server.stop();
    let data = data_dir(dir.path()).display().to_string();
    let with_config = ["--config", config.to_str().unwrap(), "--data-dir", data.as_str(), "--json"];
    let run = |args: &[&str]| run_in(&dir, &[args, &with_config].concat());
    let status = json(&run(&["archive", "status"]), 0);
    assert_eq!(status["keys"][0]["key_id"], id.as_str());
    assert_eq!(status["keys"].as_array().unwrap().len(), 1);
    json(&run(&["backup", "create", "--store", &backups]), 0);
    json(&run(&["backup", "verify", "--deep", "--store", &backups]), 0);
    let listed = json(&run(&["backup", "list", "--store", &backups]), 0);
    assert_eq!((&listed["key_ids"][0], &listed["encrypted"]), (&id.as_str().into(), &true.into()));
    // Nothing of the root key is there. In a backup without a key it is.
    let shows = |place: &str| {
        let objects = files(Path::new(place));
        objects.iter().any(|file| {
            fs::read(file).unwrap().windows(secret.len()).any(|window| window == secret)
        })
    };
    assert!(!shows(&archive) && !shows(&backups));
    let clear = path("clear");
    let clear = ["backup", "create", "--store", &clear, "--data-dir", &data, "--json"];
    let output = run_in(&dir, &clear);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(json(&output, 0)["encrypted"], false);
    assert!(words.contains("not encrypted"), "{words}");
    assert!(shows(&path("clear")), "or the look proves nothing");

    // A bare machine.
    let bare = tempfile::tempdir().unwrap();
    let to = data_dir(bare.path()).display().to_string();
    let restore =
        ["backup", "restore", "--backup", "newest", "--store", &backups, "--data-dir", &to];
    let refused = run_in(&bare, &restore);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(words.contains(&id) && words.contains("STEMEDB_ENCRYPTION__KEYS"), "{words}");
    assert!(!Path::new(&to).join("node").exists(), "nothing is half restored");
    let bare_config = bare.path().join("keys.toml");
    fs::write(&bare_config, format!("[encryption]\nkeys = [\"{key}\"]\n")).unwrap();
    let with_key = ["--config", bare_config.to_str().unwrap()];
    let output = run_in(&bare, &[&restore[..], &with_key].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = Server::again(bare);
    assert_eq!(again.answer_root(), root);
}
