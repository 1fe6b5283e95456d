//! The evaluation on made-up worlds: through a server, as a user runs it.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Output};

use serde_json::Value;

/// Small enough for a build without optimisation; what is asked of it holds for other seeds too.
const SMALL: [&str; 8] =
    ["--questions", "150", "--copies", "0,60", "--sybils", "0,60", "--seed", "1"];

fn eval(arguments: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_stemedb")).arg("eval").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    output
}

fn moments(arguments: &[&str]) -> Vec<Value> {
    let output = eval(&[arguments, &SMALL, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Accuracy of a lens in a world at an amount.
fn accuracy(moments: &[Value], (world, amount): (&str, u64), lens: &str) -> f64 {
    let moment = moments.iter().find(|one| one["world"] == world && one["amount"] == amount);
    let moment = moment.unwrap_or_else(|| panic!("no {world} {amount}: {moments:?}"));
    let score = moment["scores"].as_array().unwrap().iter().find(|score| score["lens"] == lens);
    score.unwrap()["accuracy"].as_f64().unwrap()
}

#[test]
fn copies_bring_a_majority_down_and_learned_trust_stays() {
    let moments = moments(&["--generate", "copies,one-operator"]);
    let at = |world, amount, lens| accuracy(&moments, (world, amount), lens);
    let (alone, copied) = (at("copies", 0, "trust"), at("copies", 60, "trust"));
    assert!(copied >= alone - 0.02, "trust {alone} became {copied}");
    let (before, after) = (at("copies", 0, "consensus"), at("copies", 60, "consensus"));
    assert!(before > 0.7 && after < 0.35, "consensus {before} became {after}");
    assert!(alone >= before - 0.01, "trust {alone}, consensus {before}");
    // One operator is one voice, however many keys it has.
    for lens in ["consensus", "trust"] {
        let (alone, owned) = (at("one-operator", 0, lens), at("one-operator", 60, lens));
        assert!((alone - owned).abs() <= 0.05, "{lens} {alone} became {owned}");
    }
    let all = moments.last().unwrap();
    assert_eq!(all["world"], "all");
    for score in all["scores"].as_array().unwrap() {
        let brier = score["brier"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&brier), "{score}");
        assert_eq!(score["coverage"].as_array().unwrap().len(), 10, "{score}");
        let bins = score["reliability"].as_array().unwrap();
        let items: u64 = bins.iter().map(|bin| bin["items"].as_u64().unwrap()).sum();
        assert_eq!(items, score["items"].as_u64().unwrap(), "{score}");
    }
}

#[test]
fn the_rest_of_the_worlds_and_their_charts() {
    let dir = tempfile::tempdir().unwrap();
    let charts = dir.path().join("charts");
    let plot = ["--plot", charts.to_str().unwrap(), "--title", "made-up"];
    let moments = moments(
        &[&["--generate", "unregistered,ring,drift,topics,retractions"][..], &plot[..]].concat(),
    );
    let at = |world, amount, lens| accuracy(&moments, (world, amount), lens);
    // Keys that nobody registered are the one voice of whoever sends them.
    let (before, after) = (at("unregistered", 0, "consensus"), at("unregistered", 60, "consensus"));
    assert!(after >= before - 0.15, "{before} became {after}");
    assert!(at("ring", 60, "consensus") < 0.1);
    // Both should be within a point and are not, see docs/performance/truth.md: this bounds the loss.
    for (world, below) in [("drift", 0.05), ("topics", 0.1)] {
        let (consensus, trust) = (at(world, 0, "consensus"), at(world, 0, "trust"));
        assert!(trust >= consensus - below, "{world}: trust {trust}, consensus {consensus}");
    }
    // Learned trust sees through most of it before anything is taken back.
    for (lens, gain) in [("consensus", 0.1), ("authority", 0.1), ("trust", -0.01)] {
        let (before, after) = (at("retractions", 0, lens), at("retractions", 1, lens));
        assert!(after > before + gain, "{lens}: {before} became {after}");
    }
    for name in ["made-up.svg", "made-up-amounts.svg"] {
        let svg = std::fs::read_to_string(charts.join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("consensus"), "{name}: {svg:.200}");
    }
}

#[test]
fn a_table_for_people_and_no_server_needed() {
    let output = eval(&[&["--generate", "topics"][..], &SMALL[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let heading = text.lines().next().unwrap();
    for word in ["world", "amount", "claims", "recency", "consensus", "trust", "skeptic"] {
        assert!(heading.contains(word), "{heading}");
    }
    assert!(text.lines().any(|line| line.starts_with("topics")), "{text}");
    assert!(text.contains("all answers"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("seed 1\n"), "{said}");
}

#[test]
fn wrong_options_are_refused_with_the_reason() {
    for (arguments, words) in [
        (vec![], "--gold"),
        (vec!["--generate", "heaven"], "possible values"),
        (vec!["--generate", "--gold", "x"], "cannot be used with"),
        (vec!["--gold", "x", "--seed", "1"], "cannot be used with"),
        (vec!["--generate", "copies", "--slip", "2"], "from 0 to 1"),
        // It becomes the name of a file.
        (vec!["--generate", "copies", "--title", "../x"], "letters"),
        (vec!["--generate", "copies", "--title", "/tmp/x"], "letters"),
        (vec!["--generate", "copies", "--title", ".."], "letters"),
        (vec!["--generate", "copies", "--title", ".x"], "letters"),
        (vec!["--generate", "copies", "--title", ""], "letters"),
    ] {
        let command =
            Command::new(env!("CARGO_BIN_EXE_stemedb")).arg("eval").args(&arguments).output();
        let output = command.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
