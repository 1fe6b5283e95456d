//! What keys say about agents: the same evidence as if it had been put together by hand.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

mod support;

use stemedb_lens::trust::{Evidence, Statement, Table, learn};
use stemedb_model::{AgentId, Body, Cardinality, Gold, Position, SourceClass, Value};
use support::*;

/// (position, agent, topic, subject, value, weight)
type By = (u64, AgentId, &'static str, &'static str, Value, f64);

fn by_hand(topics: &[(&str, Cardinality)], said: &[By], gold: &[(&str, Value)]) -> Evidence {
    let mut evidence = Evidence::new();
    for (topic, cardinality) in topics {
        evidence.topic(&name(topic), *cardinality, None);
    }
    for (position, agent, topic, about, value, weight) in said {
        evidence.add(Statement {
            position: Position(*position),
            agent,
            subject: &subject(about),
            predicate: &name(topic),
            value,
            weight: *weight,
        });
    }
    for (about, value) in gold {
        evidence.gold(&subject(about), &name("p"), value);
    }
    evidence
}

fn testimony(world: &World, keys: &[(&str, &str)]) -> Evidence {
    let mut evidence = Evidence::new();
    for key in keys {
        evidence.testify(&world.candidates_at(*key, world.last), world.now());
    }
    evidence
}

/// Equal evidence gives equal tables; unequal evidence of these tests does not.
fn table(evidence: &Evidence) -> Table {
    learn(evidence, 1).into_table()
}

#[test]
fn live_claims_and_votes_speak_and_excluded_ones_do_not() {
    let mut w = World::new();
    for n in 1..=5 {
        w.register(agent(n), SourceClass::Expert, None);
    }
    let mut about = predicate("p");
    about.unit = Some("m".into());
    about.conversions = vec![conversion("cm", 0.01, 0.0)];
    w.predicate(about);
    w.alias("b", "a");
    let far =
        |w: &mut World, n, value| w.claim_with(("b", "p"), agent(n), measure(value, "cm"), |_| {});
    let one = far(&mut w, 1, 150.0);
    let two = w.claim_with(("a", "p"), agent(2), measure(1.5, "m"), |c| c.confidence = 0.5);
    let gone = far(&mut w, 3, 999.0);
    w.retract(agent(3), gone);
    let other = far(&mut w, 4, 200.0);
    let vote = w.vote(agent(5), two, 0.25);
    let against = w.vote(agent(5), other, -1.0);
    w.vote(agent(5), gone, 1.0);
    // Agent 4 goes on under another key, and is still known by the first one.
    w.rotate(agent(4), agent(9));
    let later = w.claim_with(("c", "p"), agent(9), measure(3.0, "m"), |_| {});
    let gold = Gold { subject: subject("b"), predicate: name("p"), object: measure(150.0, "cm") };
    w.fold(ROOT, Body::Gold(gold));

    let found = testimony(&w, &[("a", "p"), ("c", "p")]);
    let metres = |value| measure(value, "m");
    let expected = by_hand(
        &[("p", Cardinality::One)],
        &[
            (one.0, agent(1), "p", "a", metres(1.5), 1.0),
            (two.0, agent(2), "p", "a", metres(1.5), 0.5),
            (other.0, agent(4), "p", "a", metres(2.0), 1.0),
            (vote.0, agent(5), "p", "a", metres(1.5), 0.25),
            (against.0, agent(5), "p", "a", metres(2.0), -1.0),
            (later.0, agent(4), "p", "c", metres(3.0), 1.0),
        ],
        &[("a", metres(1.5))],
    );
    assert_eq!(found.len(), expected.len());
    assert_eq!(table(&found), table(&expected));
}

#[test]
fn an_opposite_denies_and_all_gold_of_many_counts() {
    let mut w = World::new();
    for n in 1..=3 {
        w.register(agent(n), SourceClass::Expert, None);
    }
    let mut about = predicate("p");
    about.cardinality = Cardinality::Many;
    about.opposites = vec![name("not p")];
    w.predicate(about);
    let says = w.claim(agent(1), "x");
    let denies = w.claim_with(("s", "not p"), agent(2), text("x"), |_| {});
    let vote = w.vote(agent(3), denies, 1.0);
    for value in ["x", "y"] {
        let (subject, object) = (subject("s"), text(value));
        w.fold(ROOT, Body::Gold(Gold { subject, predicate: name("p"), object }));
    }
    let found = testimony(&w, &[("s", "p")]);
    let expected = by_hand(
        &[("p", Cardinality::Many)],
        &[
            (says.0, agent(1), "p", "s", text("x"), 1.0),
            (denies.0, agent(2), "p", "s", text("x"), -1.0),
            (vote.0, agent(3), "p", "s", text("x"), -1.0),
        ],
        &[("s", text("x")), ("s", text("y"))],
    );
    assert_eq!(found.len(), 3);
    assert_eq!(table(&found), table(&expected));
}

#[test]
fn a_table_is_read_back_only_under_its_hash() {
    let mut w = World::new();
    for n in 1..=3 {
        w.register(agent(n), SourceClass::Expert, None);
        w.claim(agent(n), if n == 3 { "y" } else { "x" });
    }
    let table = table(&testimony(&w, &[("s", "p")]));
    let (bytes, hash) = (table.encode(), table.hash());
    assert_eq!(table.len(), 3);
    assert_eq!(Table::decode(&bytes, hash), Some(table));
    for len in 0..bytes.len() {
        assert_eq!(Table::decode(&bytes[..len], hash), None);
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(Table::decode(&changed, hash), None);
    }
}

/// Keys that nobody registered are the voice of whoever sends them, and so one witness: the newest.
#[test]
fn one_voice_is_one_witness() {
    let mut w = World::new();
    w.register(agent(1), SourceClass::Expert, None);
    let known = w.claim(agent(1), "x");
    for n in 2..=20 {
        w.principals.insert(agent(n), principal("sender"));
    }
    for n in 2..20 {
        w.claim(agent(n), "y");
    }
    let newest = w.claim(agent(20), "z");
    let found = testimony(&w, &[("s", "p")]);
    let expected = by_hand(
        &[("p", Cardinality::One)],
        &[
            (known.0, agent(1), "p", "s", text("x"), 1.0),
            (newest.0, agent(20), "p", "s", text("z"), 1.0),
        ],
        &[],
    );
    assert_eq!(found.len(), 2);
    assert_eq!(table(&found), table(&expected));
}
