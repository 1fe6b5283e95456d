//! The files under `deploy/examples`, read by the binary that they are for.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One node each.
const ALONE: [&str; 2] = ["single-node-wal-disk.toml", "single-node.toml"];
/// The file of the node that takes writes, that of those who follow it.
const FOLLOWED: [(&str, &str); 3] = [
    ("multi-region-primary.toml", "multi-region-standby.toml"),
    ("three-node-primary.toml", "three-node-standby.toml"),
    ("warm-standby-primary.toml", "warm-standby.toml"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples")
}

fn stemedb(arguments: &[&str], file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stemedb"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEMEDB_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).arg("--config").arg(file).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(words).unwrap())
}

/// What an example sets, with the defaults of the rest.
fn values(name: &str) -> Value {
    let (_, words) = stemedb(&["config", "print", "--json"], &folder().join(name));
    serde_json::from_str(&words).unwrap_or_else(|error| panic!("{name}: {error}: {words}"))
}

#[test]
fn every_example_is_a_valid_configuration() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let (status, words) = stemedb(&["config", "check"], &path);
        assert_eq!(status, Some(0), "{}: {words}", path.display());
        let (_, values) = stemedb(&["config", "print"], &path);
        let place = if path.ends_with("single-node-wal-disk.toml") {
            "dir = \"/var/lib/stemedb-wal/log\"  # from "
        } else {
            "# dir is not set"
        };
        assert!(values.contains(place), "{}: {values}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    let pairs = FOLLOWED.iter().flat_map(|(primary, standby)| [*primary, *standby]);
    let mut expected: Vec<&str> = ALONE.into_iter().chain(pairs).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn a_node_alone_follows_nobody_and_keeps_no_lease() {
    for name in ALONE {
        let values = values(name);
        for key in ["standby_of", "lease"] {
            assert_eq!(values["cluster"][key], Value::Null, "{name}: cluster.{key}");
        }
    }
}

/// What two nodes must agree on so that one can follow the other and take its place.
#[test]
fn who_follows_names_the_archive_and_the_lease_of_whom_it_follows() {
    for (one, other) in FOLLOWED {
        let (primary, standby) = (values(one), values(other));
        let archive = &primary["archive"]["url"];
        assert!(archive.is_string(), "{one} archives nothing");
        assert_eq!(&standby["cluster"]["standby_of"], archive, "{other} follows another archive");
        // Where it goes on once it takes writes, and where others follow it.
        assert_eq!(&standby["archive"]["url"], archive, "{other} would archive elsewhere");
        assert_eq!(primary["cluster"]["standby_of"], Value::Null, "{one} follows somebody");
        assert!(primary["cluster"]["lease"].is_string(), "nothing fences {one}");
        for (section, key) in [
            ("archive", "delay"),
            ("archive", "sync"),
            ("backup", "url"),
            ("cluster", "lease"),
            ("cluster", "skew"),
            ("encryption", "keys"),
            ("wal", "retention"),
            ("wal", "segment_bytes"),
        ] {
            let (of_one, of_other) = (&primary[section][key], &standby[section][key]);
            assert_eq!(of_one, of_other, "{section}.{key} of {one} and {other}");
        }
        // Told to callers: of two nodes it is two.
        let [here, there] = [&primary, &standby].map(|values| &values["cluster"]["address"]);
        assert!(here.is_null() && there.is_null() || here != there, "both are at {here}");
    }
}

#[test]
fn nodes_of_two_regions_speak_tls_and_keep_backups_apart_and_encrypted() {
    let (one, other) = FOLLOWED[0];
    for name in [one, other] {
        let values = values(name);
        for key in ["certificate", "key"] {
            assert!(values["tls"][key].is_string(), "{name}: tls.{key}");
        }
        let keys = values["encryption"]["keys"].as_array();
        assert!(keys.is_some_and(|keys| !keys.is_empty()), "{name}: encryption.keys");
        let bucket = |section: &str| {
            let url = values[section]["url"].as_str().unwrap_or_default();
            let rest = url.strip_prefix("s3://").unwrap_or_else(|| panic!("{name}: {url}"));
            rest.split('/').next().unwrap_or_default().to_owned()
        };
        let buckets = [bucket("archive"), bucket("backup")];
        assert_ne!(buckets[0], buckets[1], "{name}: backups are where the archive is");
    }
}
