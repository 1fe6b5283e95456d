//! Learned trust in worlds where the truth is known.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

#[path = "support/worlds.rs"]
mod worlds;

use proptest::prelude::*;
use stemedb_lens::trust::{Evidence, Statement, Table, configuration_hash, learn};
use stemedb_lens::{Reliability, WEIGHT_ONE};
use stemedb_model::{AgentId, Cardinality, Key, Position, Space, Tolerance, Value};
use worlds::{World, agent, subject, topic, value};

const HALF: u64 = WEIGHT_ONE / 2;

fn text(text: &str) -> Value {
    Value::text(text).unwrap()
}

fn of(table: &Table, who: &str, about: &str) -> u64 {
    table.of(&agent(who), &topic(about)).unwrap()
}

/// `who` says, or votes, on the question `about` of topic `answer`.
fn add(evidence: &mut Evidence, position: u64, who: &str, about: &str, value: &Value, weight: f64) {
    evidence.add(Statement {
        position: Position(position),
        agent: &agent(who),
        subject: &subject(about),
        predicate: &topic("answer"),
        value,
        weight,
    });
}

#[test]
fn a_thousand_copies_count_like_one() {
    for (values, changed) in [(10, 0), (10, 20), (2, 0)] {
        let alone = worlds::copies(5, values, 0, changed).trust();
        for copies in [10, 60] {
            let world = worlds::copies(5, values, copies, changed);
            let (vote, trust) = (world.vote(), world.trust());
            let case = format!("{values} values, {copies} copies: {vote:.3} {trust:.3} {alone:.3}");
            assert!(trust >= alone - 0.02, "{case}");
            assert!(vote < 0.5 || values == 10 && copies == 10, "{case}");
        }
    }
}

/// Where the honest are few and fall for rumours, and each copy slips once in twenty.
#[test]
fn copies_with_slips_count_like_one() {
    for seed in 0..2 {
        let alone = worlds::rumours(seed, 0, 0.05).trust();
        for copies in [10, 60] {
            let world = worlds::rumours(seed, copies, 0.05);
            let (vote, trust) = (world.vote(), world.trust());
            assert!(trust >= alone - 0.02, "{seed}, {copies} copies: {trust} was {alone}");
            assert!(vote < 0.3, "{seed}, {copies} copies: {vote}");
        }
    }
}

#[test]
fn copies_are_told_from_agents_that_are_right() {
    let world = worlds::copies(1, 10, 30, 0);
    let learned = world.learn();
    let table = learned.table();
    let copies: u64 = (0..30).map(|n| of(table, &format!("copy {n}"), "answer")).sum();
    assert!(copies < HALF, "together less than one stranger: {copies}");
    assert!(of(table, "honest 19", "answer") > HALF);
    assert!(of(table, "honest 19", "answer") > of(table, "honest 0", "answer"));
}

#[test]
fn thin_evidence_is_a_plain_vote() {
    let (mut vote, mut trust) = (0.0, 0.0);
    for seed in 0..8 {
        let world = worlds::thin(seed);
        vote += world.vote() / 8.0;
        trust += world.trust() / 8.0;
    }
    assert!(trust >= vote - 0.01, "{trust} {vote}");
}

#[test]
fn who_is_never_contradicted_nor_confirmed_stays_a_stranger() {
    let mut world = World::default();
    for n in 0..20 {
        let (who, about) = (format!("agent {n}"), format!("question {n}"));
        world.say(&who, ("answer", &about), text("something"));
    }
    let learned = world.learn();
    for (_, _, reliability) in learned.table().rows() {
        assert!(reliability.abs_diff(HALF) <= HALF / 100, "{reliability}");
    }
}

#[test]
fn agents_are_judged_topic_by_topic() {
    for seed in 0..2 {
        let world = worlds::topic_skill(seed);
        let (vote, trust) = (world.vote(), world.trust());
        assert!(trust > vote + 0.02, "{trust} {vote}");
        let learned = world.learn();
        // Agent 0 knows the north.
        let [north, south] = ["north", "south"].map(|about| of(learned.table(), "agent 0", about));
        assert!(north > HALF && south < HALF, "{north} {south}");
    }
}

/// Many that agree a little more often than chance, about falsehoods, and four that nearly always do.
/// From the side of the majority the four look like liars; they are the likelier side.
#[test]
fn few_that_agree_well_outweigh_many_that_hardly_do() {
    for seed in [0, 12] {
        let world = worlds::specialists(seed);
        let learned = world.learn();
        let of_topic = |weight: &dyn Fn(&AgentId) -> f64| {
            let answers = world.answers(|agent, _| weight(agent)).into_iter();
            let right: Vec<f64> = answers
                .filter(|answer| answer.predicate == topic("is_open"))
                .map(|answer| answer.right)
                .collect();
            right.iter().sum::<f64>() / right.len() as f64
        };
        let vote = of_topic(&|_| 1.0);
        let trust = of_topic(&|agent| learned.table().of(agent, &topic("is_open")).unwrap() as f64);
        assert!(vote < 0.6 && trust > 0.8, "{seed}: {vote} {trust}");
    }
}

/// Two camps of one size that always contradict each other: a voice more is not enough to make all of
/// one good and all of the other bad.
#[test]
fn of_two_sides_that_are_equally_likely_neither_is_taken() {
    let mut evidence = Evidence::new();
    for n in 0..30u64 {
        let about = format!("question {n}");
        for k in 0..3 {
            let slip = n % 10 == k || n % 10 == k + 3;
            add(&mut evidence, n, &format!("left {k}"), &about, &Value::Boolean(slip), 1.0);
            add(&mut evidence, n, &format!("right {k}"), &about, &Value::Boolean(!slip), 1.0);
        }
    }
    for n in [2, 5] {
        add(&mut evidence, n, "late", &format!("question {n}"), &Value::Boolean(true), 1.0);
    }
    let table = learn(&evidence, 1).into_table();
    for k in 0..3 {
        let [left, right] =
            ["left", "right"].map(|camp| of(&table, &format!("{camp} {k}"), "answer"));
        assert!(left.abs_diff(right) < HALF / 20, "{left} {right}");
    }
}

/// Half of the mistakes fall for one rumour, and on yes or no the many that know nothing agree.
#[test]
fn specialists_outweigh_a_majority() {
    let (mut vote, mut trust) = (0.0, 0.0);
    for seed in 0..8 {
        let world = worlds::specialists(seed);
        vote += world.vote() / 8.0;
        trust += world.trust() / 8.0;
    }
    assert!(trust > vote + 0.13, "{trust} {vote}");
}

#[test]
fn change_does_not_make_it_worse_than_a_vote() {
    for seed in 0..2 {
        let world = worlds::drift(seed);
        assert!(world.trust() >= world.vote() - 0.02, "{} {}", world.trust(), world.vote());
    }
}

#[test]
fn near_numbers_support_each_other() {
    for seed in 0..2 {
        let world = worlds::numbers(seed);
        assert!(world.trust() > world.vote() + 0.1, "{} {}", world.trust(), world.vote());
    }
    // Two that are near outweigh two equal strangers' far ones only where tolerance says so.
    let learned = |tolerance: Option<f64>| {
        let mut evidence = Evidence::new();
        let tolerance =
            tolerance.map(|absolute| Tolerance { absolute: Some(absolute), relative: None });
        evidence.topic(&topic("answer"), Cardinality::One, tolerance);
        for (n, (who, number)) in [("a", 10.0), ("b", 11.0), ("c", 50.0)].into_iter().enumerate() {
            let number = Value::number(number, None).unwrap();
            add(&mut evidence, n as u64 + 1, who, "level", &number, 1.0);
        }
        learn(&evidence, 1).into_table()
    };
    let (with, without) = (learned(Some(2.0)), learned(None));
    assert!(of(&with, "a", "answer") > of(&with, "c", "answer"));
    assert_eq!(of(&without, "a", "answer"), of(&without, "c", "answer"));
}

/// Whoever contradicts an agent, alone and all along, takes less from it than it gains from a few
/// that agree with it.
#[test]
fn a_single_adversary_does_not_ruin() {
    let judged = |friends: u64| {
        let mut evidence = Evidence::new();
        for n in 0..20 {
            let about = format!("question {n}");
            add(&mut evidence, n, "expert", &about, &text("x"), 1.0);
            add(&mut evidence, n, "adversary", &about, &text(&format!("y {n}")), 1.0);
            if n < friends {
                add(&mut evidence, n, &format!("friend {n}"), &about, &text("x"), 1.0);
            }
        }
        let table = learn(&evidence, 1).into_table();
        ["expert", "adversary"].map(|who| of(&table, who, "answer"))
    };
    let [expert, adversary] = judged(0);
    assert_eq!(expert, adversary, "nothing tells them apart");
    assert!(expert > HALF / 8, "{expert}");
    let [expert, adversary] = judged(5);
    assert!(expert > HALF && adversary < HALF / 8, "{expert} {adversary}");
}

#[test]
fn gold_decides_who_is_right() {
    let mut evidence = Evidence::new();
    for n in 0..10 {
        let about = format!("question {n}");
        for (who, answer) in [("a", "x"), ("b", "y"), ("c", "y")] {
            add(&mut evidence, n, who, &about, &text(answer), 1.0);
        }
        evidence.gold(&subject(&about), &topic("answer"), &text("x"));
    }
    let table = learn(&evidence, 1).into_table();
    assert!(of(&table, "a", "answer") > HALF);
    assert!(of(&table, "b", "answer") < HALF / 10);
}

/// Copies that change one value in five look like independent agents, and the larger camp would
/// decide. A tenth of the answers is enough to tell which camp it is.
#[test]
fn gold_speaks_before_the_majority() {
    let world = worlds::copies(3, 10, 30, 5);
    let told = |every: usize| {
        let mut evidence = world.evidence();
        for (topic, subject) in world.truth.keys().step_by(every) {
            evidence.gold(subject, topic, &world.truth[&(topic.clone(), subject.clone())]);
        }
        let table = learn(&evidence, 1).into_table();
        world.accuracy(|agent, topic| table.of(agent, topic).unwrap() as f64)
    };
    let (nothing, tenth) = (world.trust(), told(10));
    assert!(nothing < 0.5, "{nothing}");
    assert!(tenth > 0.95, "{tenth}");
}

#[test]
fn votes_count_for_and_against() {
    let judged = |weight: f64| {
        let mut evidence = Evidence::new();
        for n in 0..10u64 {
            let about = format!("question {n}");
            add(&mut evidence, 10 * n + 1, "a", &about, &text("x"), 1.0);
            add(&mut evidence, 10 * n + 2, "b", &about, &text(&format!("y {n}")), 1.0);
            for voter in ["c", "d"] {
                add(&mut evidence, 10 * n + 3, voter, &about, &text("x"), weight);
            }
        }
        of(&learn(&evidence, 1).into_table(), "a", "answer")
    };
    let [against, none, for_it] = [-1.0, 0.0, 1.0].map(judged);
    assert!(against < none && none < for_it, "{against} {none} {for_it}");
}

#[test]
fn of_many_values_those_that_nobody_else_names_cost() {
    let mut evidence = Evidence::new();
    evidence.topic(&topic("answer"), Cardinality::Many, None);
    for n in 0..20u64 {
        let about = format!("book {n}");
        for k in 0..16 {
            let who = format!("careful {k}");
            add(&mut evidence, n, &who, &about, &text("first author"), 1.0);
            // Each leaves out its own, so that nobody looks like a copy.
            if n % 8 != k % 8 && n % 5 != k % 5 {
                add(&mut evidence, n, &who, &about, &text("second author"), 1.0);
            }
        }
        for author in ["first author", "second author", "made up"] {
            let author = if author == "made up" { format!("{author} {n}") } else { author.into() };
            add(&mut evidence, n, "sloppy", &about, &text(&author), 1.0);
        }
    }
    let learned = learn(&evidence, 1);
    let table = learned.table();
    assert!(of(table, "sloppy", "answer") < of(table, "careful 0", "answer"));
    for belief in learned.beliefs() {
        let Value::Text(author) = belief.value else { continue };
        assert_eq!(belief.probability > 0.5, !author.starts_with("made up"), "{belief:?}");
    }
}

#[test]
fn the_newest_claim_of_an_agent_stands() {
    let mut before = Evidence::new();
    add(&mut before, 2, "a", "question", &text("new"), 1.0);
    let mut after = Evidence::new();
    add(&mut after, 2, "a", "question", &text("new"), 1.0);
    add(&mut after, 1, "a", "question", &text("old"), 1.0);
    for evidence in [&mut before, &mut after] {
        add(evidence, 3, "b", "question", &text("new"), 1.0);
        add(evidence, 4, "c", "question", &text("old"), 1.0);
    }
    // The value that was left behind has no voice of its own any more.
    assert_eq!(learn(&before, 1).table(), learn(&after, 1).table());
}

#[test]
fn what_the_lens_asks() {
    let world = worlds::topic_skill(0);
    let learned = world.learn();
    let table = learned.table();
    let key = |predicate: &str| Key {
        space: Space::default(),
        subject: subject("anything"),
        predicate: topic(predicate),
    };
    let (known, stranger) = (agent("agent 0"), agent("nobody"));
    assert_eq!(table.reliability(&known, &key("north")), table.of(&known, &topic("north")));
    assert_eq!(table.reliability(&known, &key("unheard of")), table.of_agent(&known));
    assert_eq!(table.reliability(&stranger, &key("north")), None);
    assert!(table.rows().all(|(_, _, reliability)| 0 < reliability && reliability < WEIGHT_ONE));
}

#[test]
fn nothing_in_nothing_out() {
    let learned = learn(&Evidence::new(), 4);
    assert_eq!(learned.table().rows().count(), 0);
    assert_eq!(learned.beliefs().count(), 0);
}

/// Any change of the method changes every table that was ever made: it needs a new number in
/// `configuration_hash`, and so do these.
#[test]
fn the_method_is_frozen() {
    let mut world = worlds::topic_skill(0);
    let others = [worlds::numbers(0), worlds::copies(0, 2, 5, 20)];
    for other in others {
        world.tolerances.extend(other.tolerances);
        world.said.extend(other.said);
    }
    assert_eq!(
        [configuration_hash().to_string(), world.learn().table().hash().to_string()],
        [
            "6075e89cab523cc934d22384a8ff198b59fd5c91a9fdd4e0f8e07898bdbfd880",
            "feff226e0916b8a38e059a03a3bd7f17cfec893945ae2cd0a4a286f83c81567b",
        ]
    );
    // Where a topic of yes and no turns.
    assert_eq!(
        worlds::specialists(0).learn().table().hash().to_string(),
        "201133e16b200a36cfaf9bc987d419593b27191fb4154ecf80530dfe6652c796"
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0u64..4).prop_map(|n| value(4, n)),
        any::<bool>().prop_map(Value::Boolean),
        (0i32..30).prop_map(|n| Value::number(f64::from(n), None).unwrap()),
    ]
}

type Row = (u64, u8, u8, u8, Value, f64);

fn evidence(rows: &[Row], gold: &[Row]) -> Evidence {
    let mut evidence = Evidence::new();
    let tolerance = Tolerance { absolute: Some(2.0), relative: Some(0.1) };
    evidence.topic(&topic("topic 1"), Cardinality::One, Some(tolerance));
    evidence.topic(&topic("topic 2"), Cardinality::Many, None);
    for (position, who, about, of, value, weight) in rows {
        evidence.add(Statement {
            position: Position(*position),
            agent: &agent(&format!("agent {who}")),
            subject: &subject(&format!("subject {about}")),
            predicate: &topic(&format!("topic {of}")),
            value,
            weight: *weight,
        });
    }
    for (_, _, about, of, value, _) in gold {
        let (about, of) = (format!("subject {about}"), format!("topic {of}"));
        evidence.gold(&subject(&about), &topic(&of), value);
    }
    evidence
}

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let weight = prop_oneof![Just(1.0), Just(-1.0), 0.0..1.0];
    let row = (0u8..9, 0u8..12, 0u8..3, any_value(), weight);
    prop::collection::vec(row, 0..most).prop_map(|rows| {
        let numbered = rows.into_iter().enumerate();
        numbered.map(|(n, (who, about, of, v, w))| (n as u64 + 1, who, about, of, v, w)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn order_and_threads_do_not_matter(
        rows in rows(160),
        gold in rows(5),
        turned in any::<prop::sample::Index>(),
        threads in 2usize..7,
    ) {
        let expected = learn(&evidence(&rows, &gold), 1);
        let mut mixed = rows.clone();
        if !mixed.is_empty() {
            let at = turned.index(mixed.len());
            mixed.rotate_left(at);
            mixed[at..].reverse();
        }
        let found = learn(&evidence(&mixed, &gold), threads);
        prop_assert_eq!(found.table(), expected.table());
        prop_assert_eq!(found.table().hash(), expected.table().hash());
        let bits = |learned: &stemedb_lens::trust::Learned| {
            learned.beliefs().map(|belief| belief.probability.to_bits()).collect::<Vec<_>>()
        };
        prop_assert_eq!(bits(&found), bits(&expected));
    }

    #[test]
    fn probabilities_are_probabilities(rows in rows(160), gold in rows(4)) {
        let learned = learn(&evidence(&rows, &gold), 1);
        for belief in learned.beliefs() {
            prop_assert!((0.0..=1.0).contains(&belief.probability), "{:?}", belief);
        }
        for (_, _, reliability) in learned.table().rows() {
            prop_assert!(0 < reliability && reliability < WEIGHT_ONE);
        }
    }
}
