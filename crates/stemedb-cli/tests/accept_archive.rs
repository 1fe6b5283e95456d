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

use common::{Server, data_dir, json, run_in};
use stemedb_io::{Clock, RealClock};
use stemedb_model::SigningKey;
use stemedb_remote::Backup;
use tempfile::TempDir;

/// A folder with the configuration of a server that archives.
fn prepared(archive: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[archive]\nurl = \"{}\"\ndelay = \"200ms\"\n", archive.display());
    fs::write(dir.path().join("api.toml"), text).unwrap();
    dir
}

/// What `signer` has signed is not believed; the error says so, and how it would be.
#[track_caller]
fn refused(output: &Output, signer: &str) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("was signed by") && words.contains(signer), "{words}");
    assert!(words.contains(&format!("--trust-key {signer}")), "{words}");
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
    let signer = status["signed_by"][0].as_str().unwrap().to_owned();
    let trust = ["--trust-key", signer.as_str()];

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
    // A bare machine believes nobody who is not named.
    for more in [&["--dry-run"][..], &[]] {
        refused(&run_in(&restored, &[&restore[..], more].concat()), &signer);
        assert!(!Path::new(&to).exists());
    }
    let restore = [&restore[..], &trust[..]].concat();
    let plan = json(&run_in(&restored, &[&restore[..], &["--dry-run"]].concat()), 0);
    assert!(!Path::new(&to).exists());
    assert_eq!(plan["signed_by"], serde_json::json!([signer]));
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
    let bare = ["--log", name.as_str(), "--data-dir", nowhere.as_str()];
    for act in ["list", "verify", "prune"] {
        refused(&again.run(&[&["backup", act][..], &place[..], &bare[..]].concat()), &signer);
    }
    let from = ["--store", archive.as_str()];
    refused(&again.run(&[&["archive", "status"][..], &from[..], &bare[..]].concat()), &signer);
    let log = [&bare[..], &trust[..]].concat();
    let verified = json(&again.run(&[&deep[..], &place[..], &log[..]].concat()), 0);
    assert_eq!(verified["position"].as_u64(), Some(newest));
    let other = tempfile::tempdir().unwrap();
    let to = data_dir(other.path()).display().to_string();
    let id = first["id"].as_str().unwrap();
    let restore = ["backup", "restore", "--backup", id, "--data-dir", &to, "--json"];
    refused(&run_in(&other, &[&restore[..], &place[..]].concat()), &signer);
    // Named in the configuration it is believed, too.
    let text = format!("[archive]\ntrusted_keys = [\"{signer}\"]\n");
    fs::write(other.path().join("restore.toml"), text).unwrap();
    let named = ["--config", "restore.toml"];
    let done = json(&run_in(&other, &[&restore[..], &place[..], &named[..]].concat()), 0);
    assert_eq!(done["position"], first["position"]);
    let early = Server::again(other);
    assert_eq!(early.position(), first["position"].as_u64().unwrap());
    drop(early);

    // The log from the archive, and the node's files from a backup: without its key it would not be it.
    let both = tempfile::tempdir().unwrap();
    let to = data_dir(both.path()).display().to_string();
    let log_from = ["backup", "restore", "--store", &archive, "--log", &name, "--branch", &branch];
    let log_from = [&log_from[..], &trust, &["--data-dir", &to, "--json"]].concat();
    json(&run_in(&both, &log_from), 0);
    let node = ["backup", "restore", "--backup", id, "--node-only", "--data-dir", &to, "--json"];
    let node = [&node[..], &place[..], &trust].concat();
    let done = json(&run_in(&both, &node), 0);
    assert!(done["files"].as_u64() > Some(1), "{done}");
    let stray = data_dir(both.path()).join("node/stray");
    fs::write(&stray, "").unwrap();
    let refused = run_in(&both, &node);
    assert_eq!(refused.status.code(), Some(1), "over other files nothing is restored");
    fs::remove_file(&stray).unwrap();
    let both = Server::again(both);
    assert_eq!((both.position(), both.answer_root()), (newest, root.clone()));
    drop(both);

    // The newest backup cannot be read: an older one does not take its place.
    let newest_position = newest;
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
    let all = ["archive", "verify", "--store", &archive, "--data-dir", &data, "--json"];
    let whole = json(&run_in(&dir, &all), 0);
    assert_eq!(
        (&whole["whole"], whole["archived"].as_u64()),
        (&true.into(), Some(newest_position))
    );
    let victim = object(&Path::new(&archive).join(again.log_id.to_string()));
    let kept = fs::read(&victim).unwrap();
    let mut bytes = kept.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let damaged = json(&run_in(&dir, &all), 1);
    let name = damaged["damaged"][0]["object"].as_str().unwrap();
    assert!(victim.ends_with(name) && damaged["whole"] == false, "{damaged}");
    fs::write(&victim, kept).unwrap();
    json(&run_in(&dir, &all), 0);
    let nowhere = ["archive", "verify", "--store", "ftp://x", "--data-dir", data.as_str()];
    assert_eq!(run_in(&dir, &nowhere).status.code(), Some(2));
    fs::remove_file(&victim).unwrap();
    let lost =
        run_in(&dir, &["archive", "status", "--store", &archive, "--data-dir", &data, "--json"]);
    assert_eq!(json(&lost, 1)["whole"], false);

    // The old and the restored database make backups to one place: which newest is meant is asked.
    let shared = path("shared");
    let place = ["--store", shared.as_str()];
    let here = data_dir(again.dir.path()).display().to_string();
    let (old, new) = (["--data-dir", data.as_str()], ["--data-dir", here.as_str()]);
    let run =
        |act: &[&str], of: &[&str]| again.run(&[&["backup"][..], act, &place[..], of].concat());
    let first = json(&run(&["create", "--json"], &old), 0);
    let branch = first["branch"].as_str().unwrap();
    let none = run(&["verify"], &new);
    let words = String::from_utf8_lossy(&none.stderr);
    assert_eq!(none.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("it holds some of {branch}")), "{words}");
    let second = json(&run(&["create", "--json"], &new), 0);
    assert_ne!(first["branch"], second["branch"]);
    assert_eq!(json(&run(&["verify", "--json"], &old), 0)["id"], first["id"]);
    assert_eq!(json(&run(&["verify", "--json"], &new), 0)["id"], second["id"]);
    let several = run(&["verify"], &log);
    let words = String::from_utf8_lossy(&several.stderr);
    assert_eq!(several.status.code(), Some(1), "{words}");
    for named in [branch, second["branch"].as_str().unwrap(), "--branch"] {
        assert!(words.contains(named), "{words}");
    }
    assert_eq!(json(&run(&["verify", "--json", "--branch", branch], &log), 0)["id"], first["id"]);

    // A backup that cannot be read stops pruning until somebody gives it up, twice said.
    let name = format!("{:015}-{:016x}", 9_999_999_999_999_u64, 7);
    let map = Path::new(&shared).join(again.log_id.to_string()).join("backups");
    fs::write(map.join(format!("{name}.cbor")), "nonsense").unwrap();
    let stopped = run(&["prune"], &new);
    let words = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(1), "{words}");
    assert!(words.contains(&name) && words.contains("give-up"), "{words}");
    for (more, status) in [(&[][..], 1), (&["--yes"][..], 0), (&["--yes"][..], 1)] {
        let output = run(&[&["give-up", name.as_str()][..], more].concat(), &new);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words}");
    }
    // The old branch is dead; that of the node is not.
    let own = run(&["prune", "--branch", second["branch"].as_str().unwrap(), "--yes"], &new);
    assert_eq!(own.status.code(), Some(1), "{}", String::from_utf8_lossy(&own.stderr));
    for (more, status, left) in
        [(&["--dry-run"][..], 0, 2), (&[][..], 1, 2), (&["--yes"][..], 0, 1)]
    {
        let output = run(&[&["prune", "--branch", branch][..], more].concat(), &new);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words}");
        let listed = run(&["list", "--json"], &new);
        assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), left);
    }
    assert_eq!(json(&run(&["verify", "--json"], &new), 0)["id"], second["id"]);
}

#[test]
fn a_half_restored_folder_is_not_served() {
    let far = tempfile::tempdir().unwrap();
    let backups = far.path().join("backups").display().to_string();
    let place = ["--store", backups.as_str()];
    let server = Server::again(tempfile::tempdir().unwrap());
    assert_some(&server, 0, 3);
    let dir = server.stop();
    let data = data_dir(dir.path()).display().to_string();
    let own = ["--data-dir", data.as_str()];
    let run = |act: &[&str]| run_in(&dir, &[&["backup"][..], act, &place[..], &own[..]].concat());
    let made = json(&run(&["create", "--json"]), 0);
    let signer = json(&run(&["list", "--json"]), 0)["signed_by"].as_str().unwrap().to_owned();

    // A key of the node is away while it is restored.
    let is_key = |path: &PathBuf| fs::metadata(path).unwrap().len() == 65;
    let victim = files(Path::new(&backups)).into_iter().find(is_key).unwrap();
    let hidden = far.path().join("hidden");
    fs::rename(&victim, &hidden).unwrap();
    let restored = tempfile::tempdir().unwrap();
    let to = data_dir(restored.path()).display().to_string();
    let restore = |more: &[&str]| {
        let command = ["backup", "restore", "--backup", "newest", "--trust-key", &signer];
        let to = ["--data-dir", to.as_str(), "--json"];
        run_in(&restored, &[&command[..], &place[..], &to[..], more].concat())
    };
    assert_eq!(restore(&[]).status.code(), Some(2));
    let half = |output: &Output| {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(&format!("{to} is half restored")), "{words}");
        assert!(words.contains("stemedb backup restore --store"), "{words}");
        assert!(words.contains(made["id"].as_str().unwrap()), "{words}");
    };
    let at = ["--data-dir", to.as_str()];
    for act in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["admin", "root"],
        &["archive", "run", "--store", "/nowhere"],
        &["backup", "create", "--store", "/nowhere"],
    ] {
        half(&run_in(&restored, &[act, &at[..]].concat()));
    }
    half(&restore(&["--position", "1"]));

    // The same goes on, over what is there.
    fs::rename(&hidden, &victim).unwrap();
    assert_eq!(json(&restore(&[]), 0)["position"], made["position"]);
    assert!(!Path::new(&to).join("restoring").exists());
    // Done once more it is the same.
    assert_eq!(json(&restore(&[]), 0)["position"], made["position"]);
    // A file that is not of the backup.
    fs::write(Path::new(&to).join("node/mine"), "x").unwrap();
    let refused = restore(&[]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("node/mine is there"), "{words}");
    fs::remove_file(Path::new(&to).join("node/mine")).unwrap();
    let again = Server::again(restored);
    assert_eq!(again.position(), made["position"].as_u64().unwrap());
}

/// The holder of a key that is believed has gone bad, and says of a file that it lies elsewhere.
#[test]
fn a_backup_whose_names_lead_out_is_refused_by_its_name() {
    let far = tempfile::tempdir().unwrap();
    let backups = far.path().join("backups").display().to_string();
    let place = ["--store", backups.as_str()];
    let server = Server::again(tempfile::tempdir().unwrap());
    assert_some(&server, 0, 3);
    let dir = server.stop();
    let data = data_dir(dir.path()).display().to_string();
    let own = ["--data-dir", data.as_str()];
    let run = |act: &[&str]| run_in(&dir, &[&["backup"][..], act, &place[..], &own[..]].concat());
    let made = json(&run(&["create", "--json"]), 0);
    let id = made["id"].as_str().unwrap();
    let signer = json(&run(&["list", "--json"]), 0)["signed_by"].as_str().unwrap().to_owned();
    let map =
        files(Path::new(&backups)).into_iter().find(|path| path.ends_with(format!("{id}.cbor")));
    let map = map.unwrap();
    let (backup, _) = Backup::open(&fs::read(&map).unwrap()).unwrap();
    let text = fs::read_to_string(Path::new(&data).join("node/node.key")).unwrap();
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).unwrap();
    let key = SigningKey::from_seed(&seed);
    assert_eq!(key.agent_id().to_string(), signer);

    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("planted").display().to_string();
    for path in [absolute.as_str(), "../planted", "../../planted", "custodial/../../../planted"] {
        let mut bad = backup.clone();
        let root = bad.files.iter_mut().find(|file| file.path == "root.key").unwrap();
        path.clone_into(&mut root.path);
        fs::write(&map, bad.seal(&key)).unwrap();
        for more in
            [&["--backup", "newest"][..], &["--backup", id], &["--backup", id, "--node-only"]]
        {
            let restored = tempfile::tempdir().unwrap();
            let to = restored.path().join("a/b/data");
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let to = ["--data-dir", to.to_str().unwrap()];
            let restore = ["backup", "restore", "--trust-key", &signer];
            let output = run_in(&restored, &[&restore[..], &place[..], &to[..], more].concat());
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{path}: {words}");
            assert!(words.contains(&format!("{path} is no path below a folder")), "{words}");
            assert!(words.contains(&format!("{id}.cbor")), "{words}");
            assert_eq!(files(restored.path()), [] as [PathBuf; 0], "{path}");
            assert_eq!(files(outside.path()), [] as [PathBuf; 0], "{path}");
        }
        for act in [&["verify", id][..], &["verify"], &["list"], &["prune"]] {
            let output = run(act);
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{act:?}, {path}: {words}");
            assert!(
                words.contains(&format!("{path} is no path below a folder")),
                "{act:?}: {words}"
            );
        }
    }
    fs::write(&map, backup.seal(&key)).unwrap();
    json(&run(&["verify", "--json"]), 0);
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
    let signer = listed["signed_by"].as_str().unwrap();
    let restore = ["backup", "restore", "--backup", "newest", "--trust-key", signer];
    let restore = [&restore[..], &["--store", &backups, "--data-dir", &to]].concat();
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
