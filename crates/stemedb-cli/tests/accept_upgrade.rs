//! What an earlier version has left is opened by this one, answers as it did, is verified, backed up and
//! restored; its archive is continued, its backups are read.
//!
//! `tests/golden` at the root of the repository holds for each version what a node of it has left behind:
//! `<version>.tar.gz` with `data`, `archive` (in the clear), `backups` and `encryption.key`, and
//! `<version>.json` with what must come of it. `make golden` makes those of this version.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]
#![allow(clippy::disallowed_methods, reason = "what was kept is on the real disk")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::bodies::claim;
use common::records::every_kind;
use common::{EVALUATED_AT, Server, data_dir, key, run_in};
use serde_json::{Value, json};
use stemedb_io::{Clock, RealClock};
use stemedb_model::{Signed, SourceClass, Space};
use tempfile::TempDir;

/// Of one version, so that the repository stays small.
const GOLDEN_BYTES_MAX: u64 = 200_000;
/// How long the log may take to pack a segment.
const PACKED_WITHIN: Duration = Duration::from_secs(120);

fn golden(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(file)
}

/// The formats of everything that outlives a version.
fn formats() -> Value {
    json!({
        "record": stemedb_model::FORMAT_VERSION,
        "log": stemedb_log::FORMAT,
        "index": stemedb_index::format::FORMAT,
        "archive": stemedb_remote::ARCHIVE_FORMAT,
        "backup": stemedb_remote::BACKUP_FORMAT,
        "encryption": stemedb_remote::ENCRYPTION_FORMAT,
        "audit": stemedb_server::AUDIT_FORMAT,
        "api_keys": stemedb_server::KEYS_FORMAT,
    })
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap()).collect()
}

/// The versions that something is kept of, the oldest first.
fn versions() -> Vec<String> {
    let names = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut versions: Vec<String> =
        names.filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned())).collect();
    versions.sort_by_key(|version| numbers(version));
    assert!(!versions.is_empty(), "{} holds nothing", golden("").display());
    versions
}

fn expected(version: &str) -> Value {
    let text = fs::read_to_string(golden(&format!("{version}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn done(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}{words}"))
}

fn tar(dir: &Path, args: &[&str]) {
    let status = Command::new("tar").arg("-C").arg(dir).args(args).status().unwrap();
    assert!(status.success(), "tar {args:?}");
}

/// Both roots of a stopped node, as they are written down.
fn roots(dir: &TempDir, data: &Path) -> Value {
    let data = data.to_str().unwrap();
    let root = ["admin", "root", "--at", EVALUATED_AT, "--data-dir", data, "--json"];
    let root = done(&run_in(dir, &root));
    let picked = ["position", "answer_root", "log_root", "log_root_position"];
    picked
        .iter()
        .map(|name| ((*name).to_owned(), root[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn what_each_version_left_is_opened_verified_backed_up_and_restored() {
    for version in versions() {
        println!("{version}");
        one(&version);
    }
}

fn one(version: &str) {
    let dir = tempfile::tempdir().unwrap();
    let kept = golden(&format!("{version}.tar.gz"));
    assert!(fs::metadata(&kept).unwrap().len() <= GOLDEN_BYTES_MAX, "{}", kept.display());
    tar(dir.path(), &["-xpzf", kept.to_str().unwrap()]);
    let told = &expected(version)["roots"];
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(
        dir.path().join("keys.toml"),
        format!("[encryption]\nkeys = [\"{}\"]\n", path("encryption.key")),
    )
    .unwrap();
    let (keys, archive, backups) = (path("keys.toml"), path("archive"), path("backups"));
    let run = |args: &[&str]| done(&run_in(&dir, &[args, &["--json"]].concat()));
    let data = data_dir(dir.path());
    let wal = data.join("wal").display().to_string();

    // Each byte of the log, before anything is written.
    run(&["wal", "verify", &wal]);
    assert_eq!(roots(&dir, &data), *told, "{version}, opened");

    // What it has put elsewhere.
    let signer = data.join("node/node.key").display().to_string();
    let signer = run(&["key", "show", &signer])["public_key"].as_str().unwrap().to_owned();
    let restore = |to: &str, more: &[&str]| {
        let to = path(to);
        let first =
            ["backup", "restore", "--config", &keys, "--data-dir", &to, "--trust-key", &signer];
        run(&[&first[..], more].concat());
        roots(&dir, Path::new(&to))
    };
    let nowhere = path("nowhere");
    let verify = ["backup", "verify", "--config", &keys, "--data-dir", &nowhere];
    run(&[&verify[..], &["--store", &backups, "--trust-key", &signer]].concat());
    let from_backup = restore("from-backup", &["--store", &backups, "--backup", "newest"]);
    assert_eq!(from_backup, *told, "{version}, from its backup");
    assert_eq!(
        restore("from-archive", &["--store", &archive]),
        *told,
        "{version}, from its archive"
    );

    // It goes on: a record more, and the archive with it.
    let server = Server::again(dir);
    assert_eq!(server.answer_root(), told["answer_root"].as_str().unwrap(), "{version}, served");
    let claim = server.run(&["assert", "after", "the", "upgrade"]);
    assert!(claim.status.success(), "{}", String::from_utf8_lossy(&claim.stderr));
    let (position, answers) = (server.position(), server.answer_root());
    assert!(position > told["position"].as_u64().unwrap());
    let dir = server.stop();
    let (run, data) = (
        |args: &[&str]| done(&run_in(&dir, &[args, &["--json"]].concat())),
        data.to_str().unwrap().to_owned(),
    );
    let here = ["--config", keys.as_str(), "--data-dir", data.as_str()];
    let archived = run(&[&["archive", "run", "--store", &archive][..], &here].concat());
    assert_eq!(archived["archived"].as_u64(), Some(position), "{version}: {archived}");
    run(&[&["archive", "status", "--store", &archive][..], &here].concat());

    // And all of that is backed up and comes back.
    run(&[&["backup", "create", "--store", &backups][..], &here].concat());
    run(&[&["backup", "verify", "--deep", "--store", &backups][..], &here].concat());
    for (name, store, more) in
        [("again", &archive, &[][..]), ("again-too", &backups, &["--backup", "newest"])]
    {
        let to = dir.path().join(name).display().to_string();
        let from = ["backup", "restore", "--config", &keys, "--data-dir", &to, "--store", store];
        run(&[&from[..], more, &["--trust-key", &signer]].concat());
        let roots = roots(&dir, Path::new(&to));
        assert_eq!(roots["position"].as_u64(), Some(position), "{version}");
        assert_eq!(roots["answer_root"].as_str(), Some(answers.as_str()), "{version}");
    }
}

#[test]
fn the_newest_that_is_kept_has_the_formats_of_this_build() {
    let newest = versions().pop().unwrap();
    assert_eq!(
        expected(&newest)["formats"],
        formats(),
        "a format was changed since {newest}: give this build the version that it will be released as, \
         and `make golden` keeps what a node of it leaves (docs/operations/upgrade.md)"
    );
}

#[test]
#[ignore = "writes what is kept of this version, once before a release; `make golden` runs it"]
fn keep_what_this_version_leaves() {
    let version = env!("CARGO_PKG_VERSION");
    let to = golden(&format!("{version}.tar.gz"));
    assert!(
        !to.exists(),
        "{}: what was released stays; if {version} was not, remove it",
        to.display()
    );
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let text = format!("[archive]\nurl = \"{}\"\ndelay = \"200ms\"\n", archive.display());
    fs::write(dir.path().join("api.toml"), text).unwrap();
    let server = Server::again(dir);
    // Two segments, the older one packed, so that both shapes are kept. What fills the first one takes
    // hardly any room in there.
    every_kind(&server, &Space::default());
    let long = "x".repeat(20_000);
    let fill: Vec<Signed> = (0..80)
        .map(|n| {
            let body = claim(&format!("long/{n}"), "text", &long, SourceClass::Expert);
            server.sign(&key("writer"), &Space::default(), body)
        })
        .collect();
    server.import(&fill);
    every_kind(&server, &Space::parse("second").unwrap());
    let first = data_dir(server.dir.path()).join("wal/segment.001.wal");
    let clock = RealClock::new();
    while fs::metadata(&first).unwrap().len() > GOLDEN_BYTES_MAX {
        assert!(clock.monotonic() < PACKED_WITHIN, "the first segment was never packed");
        clock.sleep(Duration::from_millis(200));
    }
    let dir = server.stop();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let run = |args: &[&str]| done(&run_in(&dir, &[args, &["--json"]].concat()));
    run(&["key", "generate", "--encryption", &path("encryption.key")]);
    fs::write(
        dir.path().join("keys.toml"),
        format!("[encryption]\nkeys = [\"{}\"]\n", path("encryption.key")),
    )
    .unwrap();
    let data = data_dir(dir.path());
    // A list of API keys, which a server without authentication does not make.
    run(&["admin", "keys", "reset", "--data-dir", data.to_str().unwrap()]);
    run(&[
        "backup",
        "create",
        "--config",
        &path("keys.toml"),
        "--data-dir",
        data.to_str().unwrap(),
        "--store",
        &path("backups"),
    ]);
    let kept = json!({ "formats": formats(), "roots": roots(&dir, &data) });
    let text = serde_json::to_string_pretty(&kept).unwrap();
    fs::create_dir_all(golden("")).unwrap();
    tar(
        dir.path(),
        &["-czSf", to.to_str().unwrap(), "data", "archive", "backups", "encryption.key"],
    );
    fs::write(golden(&format!("{version}.json")), text + "\n").unwrap();
    let bytes = fs::metadata(&to).unwrap().len();
    assert!(bytes <= GOLDEN_BYTES_MAX, "{bytes} bytes");
}
