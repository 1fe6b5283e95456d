//! The demonstration, as it is seen.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

use std::process::Command;

fn demo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stemedb"))
        .args(["demo", "--once"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demo_shows_the_disagreement_in_a_hundred_columns() {
    let text = demo(&[]);
    for line in text.lines() {
        let width = unicode_width::UnicodeWidthStr::width(line);
        assert!(width <= 100, "{width} columns: {line}");
    }
    let has = |words: &[&str]| {
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line has {words:?}:\n{text}");
    };
    has(&["consensus", "more gastroparesis", "contested"]);
    has(&["authority", "label precaution", "100 %", "contested"]);
    has(&["skeptic", "no winner", "contested"]);
    has(&["tier 0", "regulatory", "label precaution"]);
    has(&["2023-07-25", "cause unclear", "gastroparesis"]);
    has(&["2023-07-01", "mild and passing"]);
    has(&["2023-09-01", "cause unclear", "stomach paralysis"]);
    has(&["2024-12-01", "cause unclear", "more gastroparesis"]);
    has(&["before the retractions", "294 K"]);
    has(&["two papers retracted", "250 K", "2 source retracted", "2 undermined"]);
    has(&["pluto", "false", "true", "contested"]);
    has(&["everest height", "8848.86 m"]);
    has(&["semaglutide", "stomach_risk", "contested"]);
    has(&["keys are in conflict"]);
    has(&["who", "reliability", "are the answer"]);
}

#[test]
fn the_demo_can_be_loaded_twice_into_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let first = demo(&["--data-dir", data_dir, "--json"]);
    let second = demo(&["--data-dir", data_dir, "--json"]);
    assert!(first.lines().count() > 20);
    for line in first.lines().chain(second.lines()) {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}
