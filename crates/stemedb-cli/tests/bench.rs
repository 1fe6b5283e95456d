//! `stemedb bench`, as it is typed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stemedb"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEMEDB_")) {
        command.env_remove(name);
    }
    command.arg("bench").args(arguments).output().unwrap()
}

#[test]
fn a_machine_is_measured_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(&[
        "--dir",
        dir.path().to_str().unwrap(),
        "--seconds",
        "1",
        "--clients",
        "3",
        "--keys",
        "10",
        "--json",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let measured: Vec<_> = lines
        .iter()
        .map(|line| (line["measured"].as_str().unwrap(), line["clients"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("4 KiB written and synced", 1),
        ("signed claims", 1),
        ("signed claims", 3),
        ("answers", 3),
    ];
    assert_eq!(measured, expected);
    for line in &lines {
        let figure = |name: &str| line[name].as_f64().unwrap();
        assert!(figure("requests") > 0.0 && figure("per_second") > 0.0, "{line}");
        assert!(figure("p50_ms") <= figure("p99_ms"), "{line}");
        assert!(figure("p99_ms") <= figure("longest_ms"), "{line}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let output = bench(&["--dir", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("cannot make a folder in /nowhere") && said.contains("hint: --dir"),
        "{said}"
    );
}
