//! Learned trust beside a plain vote, on real claims with known answers and on made-up worlds:
//! `cargo run --release -p stemedb-lens --example trust_eval -- FOLDER [SET…]`, or `worlds [PART OF A NAME…]`.
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
use stemedb_model::{AgentId, Subject, Tolerance, Value};

#[path = "../tests/support/worlds.rs"]
mod worlds;

use worlds::{Answer, Said, World, agent, near, subject, topic};

const SETS: [&str; 8] = [
    "books",
    "flights-no3",
    "flights",
    "population",
    "restaurants",
    "crowd-music",
    "crowd-rte",
    "books-multi",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder, or `worlds`");
    if folder == "worlds" {
        made_up(&arguments.collect::<Vec<_>>());
        return;
    }
    let asked: Vec<String> = arguments.collect();
    let sets = if asked.is_empty() { SETS.map(String::from).to_vec() } else { asked };
    println!(
        "{:<14} {:>8} {:>6} | {:>6} {:>6} {:>6} {:>6} | {:>6} {:>6} {:>6} | {:<17} {:<17} | seconds",
        "set",
        "claims",
        "agents",
        "vote",
        "trust",
        "method",
        "fresh",
        "Brier",
        "trust",
        "method",
        "vote at 25 50 75 %",
        "trust at 25 50 75 %",
    );
    for set in sets {
        if set == "books-multi" {
            many(Path::new(&folder));
            continue;
        }
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
        let fresh = fresh(&world);
        let agents = table.rows().filter(|(_, topic, _)| topic.is_none()).count();
        println!(
            "{:<14} {:>8} {:>6} | {:>6.3} {:>6.3} {:>6.3} {:>6.3} | {:>6.3} {:>6.3} {:>6.3} | {:<17} {:<17} | {:.2}",
            set,
            world.said.len(),
            agents,
            right(&vote),
            right(&trust),
            right(&method),
            right(&fresh),
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

/// Answers about subjects that nothing was learned from, as a table meets them that is older than
/// the question: each half of the subjects by what the other half taught.
fn fresh(world: &World) -> Vec<Answer> {
    let half = |subject: &Subject| blake3::hash(subject.as_str().as_bytes()).as_bytes()[0] & 1;
    let mut all = Vec::new();
    for asked in [0, 1] {
        let table = learn(&world.evidence_about(|subject| half(subject) != asked), 1).into_table();
        let unknown = 1u64 << 29;
        let answers = world
            .answers(|agent, topic| table.of(agent, topic).unwrap_or(unknown) as f64)
            .into_iter()
            .filter(|answer| half(&answer.subject) == asked);
        all.extend(answers);
    }
    all
}

/// Precision, recall and F1 over (subject, value), where a subject has many values: what at least
/// half of those name who speak about it, by number and by trust, and what the method believes.
fn many(folder: &Path) {
    let claims = lines(&folder.join("books/claims-multi.jsonl.gz"));
    let mut world = World::default();
    for (index, line) in claims.iter().enumerate() {
        let (about, value) = (text(line, "subject"), object(&line["object"]));
        world.say(&text(line, "source"), (&text(line, "predicate"), &about), value);
        assert_eq!(world.said[index].position, index as u64 + 1);
    }
    world.many.extend(world.said.first().map(|said| said.predicate.clone()));
    let gold = std::fs::read_to_string(folder.join("books/gold-multi.jsonl")).expect("gold");
    let mut truth: HashMap<Subject, Vec<Value>> = HashMap::new();
    for line in gold.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        truth.entry(subject(&text(&line, "subject"))).or_default().push(object(&line["object"]));
    }
    let learned = learn(&world.evidence(), 1);
    let table = learned.table();
    let mut speakers: HashMap<&Subject, HashMap<AgentId, f64>> = HashMap::new();
    let mut named: HashMap<(&Subject, &Value), HashMap<AgentId, f64>> = HashMap::new();
    for said in world.said.iter().filter(|said| truth.contains_key(&said.subject)) {
        let trust = table.of(&said.agent, &said.predicate).expect("learned") as f64;
        speakers.entry(&said.subject).or_default().insert(said.agent, trust);
        named.entry((&said.subject, &said.value)).or_default().insert(said.agent, trust);
    }
    let mut chosen: [Vec<(&Subject, &Value)>; 3] = Default::default();
    for ((about, value), by) in &named {
        let all = &speakers[about];
        if by.len() * 2 >= all.len() {
            chosen[0].push((about, value));
        }
        if by.values().sum::<f64>() * 2.0 >= all.values().sum::<f64>() {
            chosen[1].push((about, value));
        }
    }
    let believed = learned.beliefs().filter(|belief| belief.probability > 0.5);
    let believed = believed.filter(|belief| truth.contains_key(belief.subject));
    chosen[2].extend(believed.map(|belief| (belief.subject, belief.value)));
    let all: usize =
        truth.iter().filter(|of| speakers.contains_key(of.0)).map(|of| of.1.len()).sum();
    for (name, chosen) in ["vote", "trust", "method"].into_iter().zip(chosen) {
        let right = chosen.iter().filter(|(about, value)| truth[about].contains(value)).count();
        let (precision, recall) = (right as f64 / chosen.len() as f64, right as f64 / all as f64);
        let f1 = 2.0 * precision * recall / (precision + recall);
        println!("books, many: {name:<8} precision {precision:.3} recall {recall:.3} F1 {f1:.3}");
    }
}

fn lines(packed: &Path) -> Vec<serde_json::Value> {
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().expect("gzip");
    let claims = String::from_utf8(unpacked.stdout).expect("UTF-8");
    claims.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn text(line: &serde_json::Value, field: &str) -> String {
    line[field].as_str().expect("a text").to_owned()
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
    let claims = lines(&folder.join(name).join("claims.jsonl.gz"));
    let mut world = World::default();
    let mut dated = Vec::new();
    for line in claims {
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
        world.is((&text(&line, "predicate"), &text(&line, "subject")), object(&line["object"]));
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

/// Made-up worlds; `only` keeps the rows whose names contain one of these.
fn made_up(only: &[String]) {
    println!(
        "{:<34} {:>5} | {:>6} {:>6} {:>6} | {:>6} {:>6} | {:>6} {:>6}",
        "world", "seeds", "vote", "trust", "method", "mean", "worst", "Brier", "trust"
    );
    let row = |name: &str, seeds: u64, make: &dyn Fn(u64) -> World| {
        if !only.is_empty() && !only.iter().any(|only| name.contains(only.as_str())) {
            return;
        }
        // Vote, trust, method; Brier of vote and trust; the largest loss.
        let (mut sums, mut worst) = ([0.0; 5], f64::INFINITY);
        for seed in 0..seeds {
            let world = make(seed);
            let learned = world.learn();
            let table = learned.table();
            let vote = world.answers(|_, _| 1.0);
            let trust = world.answers(|agent, topic| {
                table.of(agent, topic).expect("every agent was learned") as f64
            });
            let method = believed(&world, &learned);
            let found = [right(&vote), right(&trust), right(&method), brier(&vote), brier(&trust)];
            sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
            worst = worst.min(found[1] - found[0]);
        }
        let [vote, trust, method, brier_vote, brier_trust] = sums.map(|sum| sum / seeds as f64);
        println!(
            "{name:<34} {seeds:>5} | {vote:>6.3} {trust:>6.3} {method:>6.3} | {:>+6.3} {worst:>+6.3} | {brier_vote:>6.3} {brier_trust:>6.3}",
            trust - vote,
        );
    };
    row("topics", 64, &worlds::specialists);
    row("drift", 64, &worlds::turncoats);
    row("topic skill", 20, &worlds::topic_skill);
    row("older drift", 20, &worlds::drift);
    row("numbers", 20, &worlds::numbers);
    row("thin", 20, &worlds::thin);
    for (values, changed) in [(10, 0), (10, 20), (10, 5), (2, 0), (2, 20)] {
        for copies in [0, 1, 3, 10, 30, 100, 300, 1000] {
            let name = format!("{values} values, {copies} copies, 1 in {changed} changed");
            row(&name, 2, &|seed| worlds::copies(seed, values, copies, changed));
        }
    }
    for slip in [0.0, 0.05, 0.1, 0.2] {
        for copies in [0, 1, 10, 30, 60, 100, 300, 1000] {
            let name = format!("rumours, {copies} copies, slip {slip}");
            let seeds = if copies < 300 { 4 } else { 2 };
            row(&name, seeds, &|seed| worlds::rumours(seed, copies, slip));
        }
    }
}
