//! The files under `deploy/examples`, read by the binary that they are for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

fn stemedb(arguments: &[&str], file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stemedb"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEMEDB_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).arg("--config").arg(file).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(words).unwrap())
}

#[test]
fn every_example_is_a_valid_configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
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
        names.push(path.file_name().unwrap().to_owned());
    }
    names.sort();
    let pair = ["warm-standby-primary.toml", "warm-standby.toml"];
    assert_eq!(names, ["single-node-wal-disk.toml", "single-node.toml", pair[0], pair[1]]);
}
