//! Learned trust beside a plain vote, on real claims with known answers and on made-up worlds:
//! `cargo run --release -p stemedb-lens --example trust_eval -- FOLDER [SET…]`, or `worlds`.
//!
//! A set is a folder with `claims.jsonl.gz` and `gold.jsonl`, one JSON object a line with subject,
//! predicate and object, claims also with source and timestamp. The last statement of a source
//! about a question counts; ties at the top give the share of them that is right. Gold is read
//! after learning, for the marks alone. `-no3` behind the name leaves out the sources that the gold
//! of `flights` was taken from.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement, for people"
)]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use stemedb_lens::trust::{Learned, learn};
use stemedb_model::{Tolerance, Value};

#[path = "../tests/support/worlds.rs"]
mod worlds;

use worlds::{Answer, Said, World, agent, near, subject, topic};

const SETS: [&str; 7] =
    ["books", "flights-no3", "flights", "population", "restaurants", "crowd-music", "crowd-rte"];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder, or `worlds`");
    if folder == "worlds" {
        made_up();
        return;
    }
    let asked: Vec<String> = arguments.collect();
    let sets = if asked.is_empty() { SETS.map(String::from).to_vec() } else { asked };
    println!(
        "{:<14} {:>8} {:>6} | {:>6} {:>6} {:>6} | {:>6} {:>6} {:>6} | {:<23} {:<23} | seconds",
        "set",
        "claims",
        "agents",
        "vote",
        "trust",
        "method",
        "Brier",
        "trust",
        "method",
        "vote at 25 50 75 %",
        "trust at 25 50 75 %",
    );
    for set in sets {
        let world = read(Path::new(&folder), &set);
        let evidence = world.evidence();
        let threads = std::env::var("THREADS").map_or(1, |n| n.parse().expect("a number"));
        let start = Instant::now();
        let learned = learn(&evidence, threads);
        let took = start.elapsed();
        let table = learned.table();
        let vote = world.answers(|_, _| 1.0);
        let trust = world.answers(|agent, topic| {
            table.of(agent, topic).expect("every agent was learned") as f64
        });
        let method = believed(&world, &learned);
        let agents = table.rows().filter(|(_, topic, _)| topic.is_none()).count();
        println!(
            "{:<14} {:>8} {:>6} | {:>6.3} {:>6.3} {:>6.3} | {:>6.3} {:>6.3} {:>6.3} | {:<23} {:<23} | {:.2}",
            set,
            world.said.len(),
            agents,
            right(&vote),
            right(&trust),
            right(&method),
            brier(&vote),
            brier(&trust),
            brier(&method),
            curve(vote),
            curve(trust),
            took.as_secs_f64(),
        );
        println!("{:>14} {}", "table", table.hash());
    }
}

fn right(answers: &[Answer]) -> f64 {
    answers.iter().map(|answer| answer.right).sum::<f64>() / answers.len() as f64
}

/// Mean squared distance between the share of the first value and whether it is right.
fn brier(answers: &[Answer]) -> f64 {
    let squares = answers.iter().map(|answer| (answer.share - answer.right).powi(2));
    squares.sum::<f64>() / answers.len() as f64
}

/// Accuracy of the answers with the clearest quarter, half and three quarters.
fn curve(mut answers: Vec<Answer>) -> String {
    answers.sort_by(|a, b| b.share.total_cmp(&a.share));
    let at = |part: usize| format!("{:.3}", right(&answers[..answers.len() * part / 4]));
    [1, 2, 3].map(at).join(" ")
}

/// What the method itself holds for true, which knows more than one number per agent and topic.
fn believed(world: &World, learned: &Learned) -> Vec<Answer> {
    let mut all: HashMap<_, Vec<(&Value, f64)>> = HashMap::new();
    for belief in learned.beliefs() {
        let key = (belief.predicate.clone(), belief.subject.clone());
        if world.truth.contains_key(&key) {
            all.entry(key).or_default().push((belief.value, belief.probability));
        }
    }
    let answers = all.into_iter().map(|((predicate, subject), values)| {
        let top = values.iter().map(|value| value.1).fold(0.0, f64::max);
        let best: Vec<_> = values.iter().filter(|value| value.1 >= top * (1.0 - 1e-9)).collect();
        let truth = &world.truth[&(predicate.clone(), subject.clone())];
        let tolerance = world.tolerances.get(&predicate);
        let right = best.iter().filter(|value| near(truth, value.0, tolerance)).count();
        // Values within tolerance of the first are the first, once more.
        let share = values.iter().filter(|value| near(best[0].0, value.0, tolerance));
        let share = share.map(|value| value.1).sum::<f64>().min(1.0);
        Answer { predicate, subject, right: right as f64 / best.len() as f64, share }
    });
    answers.collect()
}

fn read(folder: &Path, set: &str) -> World {
    let (name, without) = match set.strip_suffix("-no3") {
        Some(name) => (name, ["aa", "ua", "CO"].as_slice()),
        None => (set, [].as_slice()),
    };
    let claims = folder.join(name).join("claims.jsonl.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(&claims).output().expect("gzip");
    let claims = String::from_utf8(unpacked.stdout).expect("UTF-8");
    let mut world = World::default();
    let mut dated = Vec::new();
    for line in claims.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let source = line["source"].as_str().expect("a source");
        if !without.contains(&source) {
            let said = Said {
                agent: agent(source),
                subject: subject(line["subject"].as_str().expect("a subject")),
                predicate: topic(line["predicate"].as_str().expect("a predicate")),
                value: object(&line["object"]),
                position: 0,
            };
            dated.push((line["timestamp"].as_str().unwrap_or_default().to_owned(), said));
        }
    }
    // Stable: within a day the order of the file.
    dated.sort_by(|a, b| a.0.cmp(&b.0));
    world.said = dated.into_iter().map(|(_, said)| said).collect();
    for (index, said) in world.said.iter_mut().enumerate() {
        said.position = index as u64 + 1;
    }
    let known_from = if name == "flights-full" { "flights" } else { name };
    let gold = std::fs::read_to_string(folder.join(known_from).join("gold.jsonl")).expect("gold");
    for line in gold.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = |field: &str| line[field].as_str().expect("a text").to_owned();
        world.is((&text("predicate"), &text("subject")), object(&line["object"]));
    }
    if name.starts_with("flights") {
        for said in &world.said {
            // Of the matching rule of the set: times are minutes.
            if matches!(said.value, Value::Number { .. }) {
                let minutes = Tolerance { absolute: Some(10.0), relative: None };
                world.tolerances.insert(said.predicate.clone(), minutes);
            }
        }
    }
    world
}

fn object(object: &serde_json::Value) -> Value {
    match object {
        serde_json::Value::Bool(answer) => Value::Boolean(*answer),
        serde_json::Value::Number(number) => {
            Value::number(number.as_f64().expect("a number"), None).expect("a number")
        }
        other => Value::text(other.as_str().expect("a text")).expect("a text"),
    }
}

fn made_up() {
    let row = |name: &str, worlds: &[World]| {
        let mean =
            |of: &dyn Fn(&World) -> f64| worlds.iter().map(of).sum::<f64>() / worlds.len() as f64;
        println!("{name:<34} vote {:.3}  trust {:.3}", mean(&World::vote), mean(&World::trust));
    };
    let seeds = |make: &dyn Fn(u64) -> World| (0..5).map(make).collect::<Vec<_>>();
    for (values, changed) in [(10, 0), (10, 20), (10, 5), (2, 0), (2, 20)] {
        for copies in [0, 1, 3, 10, 30, 100, 300, 1000] {
            let name = format!("{values} values, {copies} copies, 1 in {changed} changed");
            let worlds: Vec<_> =
                (0..2).map(|seed| worlds::copies(seed, values, copies, changed)).collect();
            row(&name, &worlds);
        }
    }
    row("topic skill", &seeds(&worlds::topic_skill));
    row("drift", &seeds(&worlds::drift));
    row("numbers", &seeds(&worlds::numbers));
    row("thin", &seeds(&worlds::thin));
}
