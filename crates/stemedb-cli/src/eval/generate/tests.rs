//! What the worlds promise, without a server.

use std::collections::{BTreeMap, BTreeSet};

use stemedb_model::{LogId, SigningKey, Space};

use super::records::Scribe;
use super::world::{Act, Question, World};
use super::{Kind, Spec};

fn spec(seed: u64) -> Spec {
    Spec {
        seed,
        questions: 60,
        agents: 9,
        copies: vec![0, 1, 4],
        sybils: vec![0, 1, 3],
        slip: 0.1,
        known: 0.0,
    }
}

/// All records of a world, as they are signed and sent.
fn bytes(kind: Kind, spec: &Spec) -> Vec<u8> {
    let root = SigningKey::from_seed(&[7; 32]);
    let space = Space::parse("made-up").unwrap();
    let mut scribe = Scribe::new(&root, LogId([1; LogId::LEN]), space);
    let world = World::new(kind, spec);
    let records = world.waves.iter().flat_map(|wave| scribe.seal(&wave.acts).unwrap());
    records
        .flat_map(|signed| [signed.bytes().to_vec(), signed.signature().0.to_vec()].concat())
        .collect()
}

fn acts(world: &World) -> impl Iterator<Item = &Act> {
    world.waves.iter().flat_map(|wave| &wave.acts)
}

/// (agent, question, value) of every claim.
fn claims(world: &World) -> Vec<(&str, Question, u32)> {
    let claims = acts(world).filter_map(|act| match act {
        Act::Say { agent, about, value, .. } => Some((agent.as_ref(), *about, *value)),
        _ => None,
    });
    claims.collect()
}

/// How often agents whose names begin so are right.
fn accuracy(world: &World, prefix: &str, keep: impl Fn(Question) -> bool) -> f64 {
    let claims = claims(world);
    let asked = claims.iter().filter(|claim| claim.0.starts_with(prefix) && keep(claim.1));
    let marks: Vec<f64> = asked
        .filter_map(|(_, about, value)| Some(f64::from(u8::from(world.truth.get(about)? == value))))
        .collect();
    assert!(!marks.is_empty(), "{prefix} says nothing");
    marks.iter().sum::<f64>() / marks.len() as f64
}

#[test]
fn a_seed_gives_the_same_world_byte_for_byte() {
    for kind in Kind::ALL {
        let once = bytes(kind, &spec(1));
        assert!(!once.is_empty());
        assert_eq!(once, bytes(kind, &spec(1)), "{kind:?}");
        assert_ne!(once, bytes(kind, &spec(2)), "{kind:?}");
    }
}

#[test]
fn more_copies_change_nothing_of_what_was_there() {
    for kind in [Kind::Copies, Kind::OneOperator, Kind::Sybils, Kind::Unregistered, Kind::Ring] {
        let small = bytes(kind, &spec(1));
        let with = |amounts: &[u32]| {
            let (copies, sybils) = (amounts.to_vec(), amounts.to_vec());
            bytes(kind, &Spec { copies, sybils, ..spec(1) })
        };
        let large = with(&[0, 6]);
        assert!(large.starts_with(&with(&[0, 1, 3])), "{kind:?}");
        assert!(large.len() > small.len(), "{kind:?}");
        assert_eq!(with(&[0, 2, 6]), large, "{kind:?}: steps make no difference");
    }
}

#[test]
fn copies_repeat_what_is_wrong_and_slip_as_often_as_they_should() {
    let spec = Spec { questions: 600, copies: vec![5], slip: 0.2, ..spec(3) };
    let world = World::new(Kind::Copies, &spec);
    let claims = claims(&world);
    let wrong: BTreeMap<Question, u32> = claims
        .iter()
        .filter(|claim| claim.0 == "wrong")
        .map(|(_, about, value)| (*about, *value))
        .collect();
    assert_eq!(wrong.len(), 600);
    assert!((accuracy(&world, "wrong", |_| true) - 0.2).abs() < 0.05);
    assert!((accuracy(&world, "agent", |_| true) - 0.7).abs() < 0.05);
    for copy in 0..5 {
        let name = format!("copy {copy:05}");
        let own: Vec<_> = claims.iter().filter(|claim| claim.0 == name).collect();
        let same = own.iter().filter(|claim| wrong.get(&claim.1) == Some(&claim.2)).count();
        let (said, same) = (own.len() as f64 / 600.0, same as f64 / own.len() as f64);
        assert!((said - 0.9).abs() < 0.05 && (same - 0.8).abs() < 0.06, "{name}: {said} {same}");
    }
    let registered = acts(&world).filter(|act| matches!(act, Act::Register { operator: None, .. }));
    assert_eq!(registered.count(), 9 + 1 + 5, "each a voice of its own");
    let owned = World::new(Kind::OneOperator, &spec);
    let owned = acts(&owned).filter(|act| matches!(act, Act::Register { operator: Some(_), .. }));
    assert_eq!(owned.count(), 1 + 5, "the wrong one and its copies are one voice");
}

#[test]
fn sybils_say_one_false_thing_each() {
    for (kind, registered, claims_each) in
        [(Kind::Sybils, 3 * 12, 1), (Kind::Unregistered, 0, 1), (Kind::Ring, 3, 12)]
    {
        let world = World::new(kind, &spec(1));
        assert_eq!(world.truth.len(), 12, "one item in five is attacked, and asked for");
        let mut said: BTreeMap<&str, u32> = BTreeMap::new();
        let mut values: BTreeSet<(Question, u32)> = BTreeSet::new();
        for (agent, about, value) in claims(&world) {
            if !agent.starts_with("agent") {
                *said.entry(agent).or_default() += 1;
                values.insert((about, value));
                assert_ne!(world.truth.get(&about), Some(&value), "{kind:?}");
            }
        }
        assert!(said.values().all(|claims| *claims == claims_each), "{kind:?} {said:?}");
        assert_eq!(said.len() as u32 * claims_each, 3 * 12, "{kind:?}");
        assert_eq!(values.len(), 12, "all say the same");
        let fresh = acts(&world).filter(|act| match act {
            Act::Register { agent, .. } => !agent.starts_with("agent"),
            _ => false,
        });
        assert_eq!(fresh.count(), registered, "{kind:?}");
    }
}

#[test]
fn skill_is_where_it_is_said_to_be() {
    let spec = Spec { questions: 1200, ..spec(5) };
    let topics = World::new(Kind::Topics, &spec);
    let drift = World::new(Kind::Drift, &spec);
    // Items are numbered in the order of time: 400 of each topic.
    let early = |about: Question| about.item < 200;
    for agent in 0..9 {
        let name = format!("agent {agent:03}");
        for topic in 0..3 {
            let found = accuracy(&topics, &name, |about| about.topic == topic);
            let expected = if agent % 3 == topic { 0.9 } else { 0.35 };
            assert!((found - expected).abs() < 0.1, "{name} on {topic}: {found}");
        }
        let (before, after) = [(0.9, 0.35), (0.35, 0.9), (0.625, 0.625)][agent as usize % 3];
        let found = [accuracy(&drift, &name, early), accuracy(&drift, &name, |a| !early(a))];
        assert!((found[0] - before).abs() < 0.1 && (found[1] - after).abs() < 0.1, "{found:?}");
    }
}

#[test]
fn only_what_is_wrong_is_taken_back_and_only_by_its_author() {
    let world = World::new(Kind::Retractions, &Spec { questions: 300, ..spec(1) });
    let said: BTreeMap<(&str, Question), u32> =
        claims(&world).into_iter().map(|(agent, about, value)| ((agent, about), value)).collect();
    let wrong = said.iter().filter(|(key, value)| world.truth.get(&key.1) != Some(value)).count();
    let (mut taken, mut withdrawn) = (0, 0);
    for act in acts(&world) {
        match act {
            Act::TakeBack { agent, about } => {
                let value = said.get(&(agent.as_ref(), *about)).expect("it was said");
                assert_ne!(world.truth.get(about), Some(value), "{agent} was right");
                taken += 1;
            }
            Act::Withdraw { .. } => withdrawn += 1,
            _ => {}
        }
    }
    assert!(taken > wrong / 4 && taken < wrong * 3 / 4, "{taken} of {wrong}");
    assert_eq!(withdrawn, 1);
    assert_eq!(world.waves.len(), 2);
}

#[test]
fn gold_is_off_unless_asked_for_and_is_not_scored() {
    let told = |known: f64| {
        let world = World::new(Kind::Copies, &Spec { known, ..spec(1) });
        let gold: Vec<_> = acts(&world)
            .filter_map(|act| match act {
                Act::Gold { about, .. } => Some(*about),
                _ => None,
            })
            .collect();
        assert!(gold.iter().all(|about| !world.truth.contains_key(about)));
        assert_eq!(gold.len() + world.truth.len(), 60);
        gold.len()
    };
    assert_eq!(told(0.0), 0);
    assert!((6..=24).contains(&told(0.25)), "{}", told(0.25));
    assert_eq!(told(1.0), 60);
}
