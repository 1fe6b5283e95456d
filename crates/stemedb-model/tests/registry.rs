//! The registries, as of every position.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use stemedb_model::*;
use world::*;

const A: AgentId = AgentId([1; 32]);
const B: AgentId = AgentId([2; 32]);
const REGISTRAR: AgentId = AgentId([9; 32]);

#[test]
fn a_registry_is_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Registry>();
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut world = World::new();
    let before = world.registry.clone();
    world.write(ROOT, register(A, SourceClass::Clinical, &[Role::Curator]));
    assert!(!before.agent(&world.space, &A, NOW).registered);
    let state = world.state(A);
    assert!(state.registered && state.has(Role::Curator) && !state.has(Role::Trust));
    assert_eq!(state.roles.iter().collect::<Vec<_>>(), [Role::Curator]);
    assert!(!world.registry.agent(&world.space, &A, Position(1)).registered);
}

#[test]
fn records_that_no_registry_holds() {
    let mut world = World::new();
    let id = world.write(A, claim(SourceClass::Expert));
    let retraction = world.write(A, retract(id));
    for id in [id, retraction] {
        assert_eq!(world.registry.holds(&id, NOW), None);
    }
    let record = world.record(A, supersede(id, retraction));
    assert!(!world.registry.apply(world.last().next(), record.id(), &record));
    let record = world.record(A, epoch("e", None));
    assert!(world.registry.apply(world.last().next(), record.id(), &record));
    assert!(!world.registry.apply(world.last().next(), record.id(), &record), "twice");
    assert_eq!(world.registry.holds(&world.log[0].0, NOW), Some(true), "genesis");
    assert_eq!(world.registry.genesis(), Some((LOG_ID, ROOT)));
}

#[test]
fn aliases_join_and_part() {
    let mut world = World::new();
    let names = |world: &World, name: &str| -> String {
        let entity = world.registry.entity(&world.space, &subject(name), NOW);
        entity.iter().map(Subject::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&world, "b"), "b");
    let first = world.write(ROOT, alias("c", "b"));
    world.write(ROOT, alias("d", "e"));
    world.write(ROOT, alias("d", "c"));
    let joined = world.last();
    assert_eq!(names(&world, "e"), "b c d e");
    assert_eq!(world.registry.canonical_subject(&world.space, &subject("e"), NOW), subject("b"));
    let parted = world.write(ROOT, retract(first));
    assert_eq!((names(&world, "b"), names(&world, "e")), ("b".into(), "c d e".into()));
    let then = world.registry.entity(&world.space, &subject("b"), joined);
    assert_eq!(then.len(), 4, "as of before the retraction");
    world.write(ROOT, retract(parted));
    assert_eq!(names(&world, "c"), "b c d e");
    world.space = Space::parse("elsewhere").unwrap();
    assert_eq!(names(&world, "c"), "c");
}

#[test]
fn sources_are_classified_anew_and_joined() {
    use SourceClass::{Anecdotal, Clinical, Expert, Observational, Regulatory};
    let mut world = World::new();
    let s = |world: &World, key: &str| world.registry.source(&world.space, &uri(key), NOW);
    let id = |world: &World, key: &str| world.registry.source_id(&world.space, &uri(key), NOW);
    assert_eq!(id(&world, "a"), SourceIdent::Key(uri("a")));
    world.write(ROOT, source(&["a", "b"], Clinical));
    assert_eq!(id(&world, "a"), SourceIdent::Registered(Position(2)));
    assert_eq!(id(&world, "a"), id(&world, "b"));
    let anew = world.write(ROOT, source(&["b"], Regulatory));
    // Still one source, of the newer class.
    assert_eq!(id(&world, "a"), id(&world, "b"));
    let state = s(&world, "a").unwrap();
    assert_eq!((state.class, state.keys, state.id), (Regulatory, vec![uri("a"), uri("b")], anew));
    world.write(ROOT, retract(anew));
    assert_eq!(s(&world, "b").unwrap().class, Clinical);
    let joining = world.write(ROOT, source(&["b", "c"], Observational));
    assert_eq!(s(&world, "a").unwrap().keys.len(), 3);
    world.write(ROOT, retract(joining));
    assert_eq!((s(&world, "c"), s(&world, "a").unwrap().class), (None, Clinical));

    // Retracting one key retracts the source, and as of before it does not.
    let retracted = |world: &World, key: &str, at| {
        world.registry.source_retracted(&world.space, &uri(key), at, None)
    };
    let ban = world.write(ROOT, retract_source(uri("a")));
    let banned = world.last();
    assert_eq!(retracted(&world, "b", NOW), Some(banned));
    assert_eq!((retracted(&world, "c", NOW), retracted(&world, "b", Position(3))), (None, None));
    world.write(ROOT, retract(ban));
    assert_eq!((retracted(&world, "b", NOW), retracted(&world, "b", banned)), (None, Some(banned)));

    // Tiers: (source, declared class) of a claim by an agent with the ceiling clinical.
    world.write(ROOT, register(A, Clinical, &[]));
    world.write(ROOT, source(&["best"], Regulatory));
    for (key, declared, tier) in [
        (uri("best"), None, 1),
        (uri("best"), Some(Regulatory), 1),
        (uri("best"), Some(Expert), 3),
        (uri("a"), None, 1),
        (uri("a"), Some(Regulatory), 1),
        (uri("nobody's"), None, 5),
        (uri("nobody's"), Some(Regulatory), 3),
        (uri("nobody's"), Some(Anecdotal), 5),
        (SourceKey::Agent(A), None, 5),
        (SourceKey::Agent(A), Some(Regulatory), 3),
    ] {
        assert_eq!(world.tier(A, &key, declared), Tier(tier), "{key:?} {declared:?}");
        assert_eq!(world.tier(B, &key, declared), Tier(5), "a stranger, {key:?} {declared:?}");
    }
    assert_eq!(world.tier(ROOT, &uri("best"), None), Tier(0));
}

#[test]
fn one_voice_per_operator_agent_or_principal() {
    let mut world = World::new();
    let desk = Principal::parse("desk").unwrap();
    let voice = |world: &World, agent: u8, at: Position| {
        world.registry.voice(&world.space, &world::agent(agent), &desk, at)
    };
    assert_eq!(voice(&world, 1, NOW), Voice::Principal(desk.clone()));
    world.write(ROOT, register(A, SourceClass::Expert, &[]));
    world.write(ROOT, register_for(B, SourceClass::Expert, "lab"));
    world.write(ROOT, register_for(agent(3), SourceClass::Expert, "lab"));
    assert_eq!(voice(&world, 1, NOW), Voice::Agent(A));
    assert_eq!(voice(&world, 2, NOW), Voice::Operator("lab".into()));
    assert_eq!(voice(&world, 2, NOW), voice(&world, 3, NOW));
    assert_eq!(world.registry.voice(&world.space, &ROOT, &desk, NOW), Voice::Agent(ROOT));
    // Keys that replaced one another are one voice and one registration, whoever is changed.
    world.write(A, replace(A, agent(11)));
    assert_eq!(voice(&world, 11, NOW), Voice::Agent(A));
    let replaced = world.last();
    world.write(ROOT, register_for(agent(11), SourceClass::Community, "lab"));
    assert_eq!(voice(&world, 1, NOW), Voice::Operator("lab".into()));
    assert_eq!(voice(&world, 1, replaced), Voice::Agent(A));
    assert_eq!((world.state(A).ceiling, world.state(agent(11)).ceiling), (Tier(4), Tier(4)));
    assert_eq!((world.state(A).replaced_by, world.state(A).active()), (Some(agent(11)), false));
    assert_eq!(world.state(agent(11)).name, Some("someone".into()));
}

#[test]
fn revocation_takes_back_from_a_position() {
    let mut world = World::new();
    world.write(ROOT, register(REGISTRAR, SourceClass::Regulatory, &[Role::Registrar]));
    let kept = world.write(REGISTRAR, register(A, SourceClass::Clinical, &[Role::Registrar][..0]));
    let from = world.last().next();
    let ceased = world.write(REGISTRAR, register(B, SourceClass::Clinical, &[Role::Reviewer]));
    let given = world.write(B, epoch("by B", None));
    let of_b = world.last();
    let early = world.write(REGISTRAR, predicate("p", Cardinality::One));
    let banned = world.write(REGISTRAR, retract_source(uri("s")));
    assert!(world.state(B).registered);
    world.write(ROOT, revoke(REGISTRAR, from.0));
    let revoked = world.last();

    let holds = |world: &World, id, at| world.registry.holds(&id, at).unwrap();
    assert!(holds(&world, kept, NOW) && world.state(A).registered);
    for (id, holds_now) in [(ceased, false), (early, false), (banned, false), (given, true)] {
        assert_eq!(holds(&world, id, NOW), holds_now);
        assert!(holds(&world, id, Position(revoked.0 - 1)), "as of before");
    }
    assert_eq!(world.registry.source_retracted(&world.space, &uri("s"), NOW, None), None);
    assert!(!world.state(B).registered);
    // B was reviewer when it wrote: what it wrote stays.
    let approved = LifecycleState::Approved;
    let declared = |written| world.registry.declared_lifecycle(&world.space, &B, approved, written);
    assert_eq!((declared(of_b), declared(from)), (approved, LifecycleState::Proposed));
    let counts = |written, at| world.registry.counts(&world.space, &REGISTRAR, written, at);
    assert!(counts(Position(from.0 - 1), NOW) && !counts(from, NOW));
    assert!(counts(from, Position(revoked.0 - 1)));
    assert_eq!(world.state(REGISTRAR).revoked_from, Some(from));
    assert!(!world.state(REGISTRAR).has(Role::Registrar));
    assert!(world.state(REGISTRAR).roles.contains(Role::Registrar), "what its old claims rest on");

    // A newer agent record takes the revocation's place.
    world.write(ROOT, revoke(REGISTRAR, revoked.0));
    assert!(holds(&world, ceased, NOW));
    world.write(ROOT, revoke(REGISTRAR, 1));
    world.write(ROOT, register(REGISTRAR, SourceClass::Regulatory, &[Role::Registrar]));
    assert!(world.state(REGISTRAR).has(Role::Registrar) && holds(&world, ceased, NOW));
}

#[test]
fn epochs_retire_and_come_back() {
    let mut world = World::new();
    let old = world.write(A, epoch("old", None));
    let new = world.write(ROOT, epoch("new", Some((old, EpochMode::Replace))));
    world.write(ROOT, epoch("more", Some((new, EpochMode::Extend))));
    let superseded = |world: &World, at, before| world.registry.epoch_superseded(&old, at, before);
    assert_eq!(superseded(&world, NOW, None), Some(Position(3)));
    assert_eq!(superseded(&world, Position(2), None), None);
    assert_eq!(world.registry.epoch_superseded(&new, NOW, None), None, "extend retires nothing");
    // In this world the claimed time of a record is its position.
    assert_eq!(superseded(&world, NOW, Some(Millis(3))), None);
    assert_eq!(superseded(&world, NOW, Some(Millis(4))), Some(Position(3)));
    world.write(ROOT, retract(new));
    assert_eq!(superseded(&world, NOW, None), None);
    assert_eq!(superseded(&world, NOW, Some(Millis(5))), Some(Position(3)));
    let state = world.registry.epoch(&new, NOW).unwrap();
    assert_eq!((state.live, state.supersedes), (false, Some((old, EpochMode::Replace))));
    assert!(world.registry.epoch(&new, Position(4)).unwrap().live);
    assert_eq!(world.registry.epoch(&new, Position(2)), None);
}

#[test]
fn a_retracted_source_by_claimed_time() {
    let mut world = World::new();
    let ban = world.write(ROOT, retract_source(uri("s")));
    world.write(ROOT, retract(ban));
    for (before, banned) in [(None, false), (Some(2), false), (Some(3), true), (Some(4), false)] {
        let at = world.registry.source_retracted(&world.space, &uri("s"), NOW, before.map(Millis));
        assert_eq!(at.is_some(), banned, "{before:?}");
    }
}

#[test]
fn the_newest_live_record_holds() {
    let mut world = World::new();
    let name = PredicateName::parse("p").unwrap();
    let cardinality = |world: &World, at| {
        world.registry.predicate(&world.space, &name, at).map(|found| found.cardinality)
    };
    world.write(ROOT, predicate("p", Cardinality::One));
    let many = world.write(ROOT, predicate("p", Cardinality::Many));
    assert_eq!(cardinality(&world, NOW), Some(Cardinality::Many));
    world.write(ROOT, retract(many));
    assert_eq!(cardinality(&world, NOW), Some(Cardinality::One));
    assert_eq!(cardinality(&world, Position(3)), Some(Cardinality::Many));
    assert_eq!(cardinality(&world, Position(1)), None);

    world.write(ROOT, lens("house", 2));
    world.write(ROOT, lens("house", 1));
    let newest = world.write(ROOT, lens("house", 3));
    let version = |world: &World, version| {
        world.registry.lens(&world.space, "house", version, NOW).map(|found| found.lens.version)
    };
    assert_eq!((version(&world, None), version(&world, Some(1))), (Some(3), Some(1)));
    world.write(ROOT, retract(newest));
    assert_eq!((version(&world, None), version(&world, Some(3))), (Some(2), None));

    let key = Key {
        space: world.space.clone(),
        subject: subject("x"),
        predicate: PredicateName::parse("colour").unwrap(),
    };
    let truths = |world: &World| -> Vec<Value> {
        world.registry.gold(&key, NOW).into_iter().map(|found| found.gold.object.clone()).collect()
    };
    world.write(ROOT, gold("x", true));
    let wrong = world.write(ROOT, gold("x", false));
    assert_eq!(truths(&world), [Value::Boolean(false), Value::Boolean(true)]);
    world.write(ROOT, retract(wrong));
    assert_eq!(truths(&world), [Value::Boolean(true)]);

    world.write(ROOT, register(A, SourceClass::Expert, &[Role::Trust]));
    world.write(ROOT, trust(2));
    world.write(A, trust(3));
    let input = |world: &World| {
        world.registry.trust_snapshots(&world.space, NOW).next().unwrap().snapshot.input_position
    };
    assert_eq!(input(&world), Position(3));
    world.write(ROOT, revoke(A, 1));
    assert_eq!(input(&world), Position(2));
}

#[test]
fn a_long_chain_of_retractions_is_no_deep_call() {
    let mut world = World::new();
    let epoch = world.write(A, epoch("e", None));
    let mut last = epoch;
    for _ in 0..50_000 {
        last = world.force(A, retract(last));
    }
    assert_eq!(world.registry.holds(&epoch, NOW), Some(true));
    assert_eq!(world.registry.holds(&epoch, Position(world.last().0 - 1)), Some(false));
}

#[test]
fn keys_that_replace_each_other_in_a_ring_end_somewhere() {
    // Never admitted; a lookup must end all the same.
    let mut world = World::new();
    for (old, new) in [(A, B), (B, agent(3)), (agent(3), A)] {
        world.force(old, replace(old, new));
    }
    assert_eq!(world.state(A).lineage, A);
    assert_eq!(world.state(B).lineage, A);
    world.write(ROOT, register(agent(4), SourceClass::Expert, &[]));
    assert!(!world.state(B).registered);
}

/// One step of a random history: the numbers pick an act, its author and what it is about.
type Step = (u8, u8, u8, u8);

const AGENTS: u8 = 5;

fn who(n: u8) -> AgentId {
    if n.is_multiple_of(AGENTS) { ROOT } else { agent(n % AGENTS) }
}

/// Any history, not only an admitted one: folding decides no rights, and lookups must end.
fn history(steps: &[Step]) -> World {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let mut world = World::new();
    for &(act, author, x, y) in steps {
        let name = NAMES[usize::from(x % 4)];
        let other = NAMES[usize::from(y % 4)];
        let class = SourceClass::ALL[usize::from(y % 6)];
        let retractable = world.log.iter().filter(|(_, record)| {
            !matches!(record.kind(), Kind::Genesis | Kind::Agent | Kind::TrustSnapshot)
        });
        let earlier: Vec<RecordId> = retractable.map(|(id, _)| *id).collect();
        // Without one, something that is not there.
        let earlier = earlier
            .get(usize::from(x) % earlier.len().max(1))
            .copied()
            .unwrap_or(RecordId([0; 32]));
        let from = 1 + u64::from(y) % world.last().0;
        let body = match act % 16 {
            0 => source(&[name], class),
            1 => source(&[name, other][..if name < other { 2 } else { 1 }], class),
            2 => retract_source(uri(name)),
            3 => predicate(name, Cardinality::One),
            4 if name != other => alias(name, other),
            5 => register(who(x), class, &Role::ALL[..usize::from(y % 4)]),
            6 => register_for(who(x), class, other),
            7 | 8 => revoke(who(x), from),
            9 if x % AGENTS != author % AGENTS => replace(who(author), who(x)),
            10 => epoch(name, None),
            11 => epoch(name, Some((earlier, EpochMode::Replace))),
            12 => lens(name, u64::from(y % 3)),
            13 => gold(name, y % 2 == 0),
            14 => trust(from),
            _ => retract(earlier),
        };
        world.force(who(author), body);
    }
    world
}

/// Every answer that `registry` gives as of `at`, about everything in `log`.
fn answers(registry: &Registry, log: &[(RecordId, Record)], at: Position) -> Vec<String> {
    let space = &Space::default();
    let principal = &Principal::parse("p").unwrap();
    let mut answers = Vec::new();
    for (index, (id, _)) in log.iter().enumerate() {
        answers.push(format!("{:?} {:?}", registry.holds(id, at), registry.epoch(id, at)));
        for before in [None, Some(Millis(index as i64))] {
            answers.push(format!("{:?}", registry.epoch_superseded(id, at, before)));
        }
    }
    for n in 0..AGENTS {
        answers.push(format!("{:?}", registry.agent(space, &who(n), at)));
        answers.push(format!("{:?}", registry.voice(space, &who(n), principal, at)));
        for written in 1..=at.0 {
            answers.push(registry.counts(space, &who(n), Position(written), at).to_string());
        }
    }
    for name in ["a", "b", "c", "d"] {
        let key = uri(name);
        let subject = subject(name);
        let predicate = PredicateName::parse(name).unwrap();
        answers.push(format!("{:?}", registry.source(space, &key, at)));
        answers.push(format!("{:?}", registry.source_id(space, &key, at)));
        for before in [None, Some(Millis(at.0 as i64 / 2))] {
            answers.push(format!("{:?}", registry.source_retracted(space, &key, at, before)));
        }
        answers.push(format!("{:?}", registry.base_tier(space, &who(1), &key, None, at)));
        answers.push(format!("{:?}", registry.entity(space, &subject, at)));
        answers.push(format!("{:?}", registry.predicate(space, &predicate, at)));
        for version in [None, Some(1)] {
            answers.push(format!("{:?}", registry.lens(space, name, version, at)));
        }
        let predicate = PredicateName::parse("colour").unwrap();
        let key = Key { space: space.clone(), subject, predicate };
        answers.push(format!("{:?}", registry.gold(&key, at)));
    }
    answers.push(format!("{:?}", registry.trust_snapshots(space, at).next()));
    answers
}

/// Which records hold at the end of `log`, by the rule as written: from the newest back, since
/// only later records take a record back.
fn holding(log: &[(RecordId, Record)]) -> Vec<bool> {
    let mut roots = vec![ROOT];
    for (_, record) in log {
        if let Body::Agent(Agent { key, act: AgentAct::Replace { replaces, .. } }) = &record.body
            && roots.last() == Some(replaces)
        {
            roots.push(*key);
        }
    }
    let mut holding = vec![true; log.len()];
    for (index, (id, record)) in log.iter().enumerate().rev() {
        let later = || (index + 1..log.len()).rev().filter(|&later| holding[later]);
        let retracted = later().any(|later| {
            matches!(&log[later].1.body, Body::Retract(retract)
                if retract.target == RetractTarget::Record(*id))
        });
        let newest = later().find_map(|later| match &log[later].1.body {
            Body::Agent(agent) if agent.key == record.agent => match agent.act {
                AgentAct::Replace { .. } => None,
                AgentAct::Register { .. } => Some(u64::MAX),
                AgentAct::Revoke { from_position } => Some(from_position.0),
            },
            _ => None,
        });
        let ceased = newest.is_some_and(|from| from <= index as u64 + 1);
        holding[index] = !retracted && (!ceased || roots.contains(&record.agent));
    }
    holding
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Folding everything and asking as of P is folding up to P and asking.
    #[test]
    fn as_of_is_what_it_would_have_been(steps in vec(any::<Step>(), 0..28)) {
        let world = history(&steps);
        let mut then = Registry::default();
        for (index, (id, record)) in world.log.iter().enumerate() {
            let at = Position(index as u64 + 1);
            then.apply(at, *id, record);
            let expected = answers(&then, &world.log, at);
            prop_assert_eq!(answers(&world.registry, &world.log, at), expected, "as of {}", at);
        }
    }

    /// A record holds exactly by the rule.
    #[test]
    fn a_record_holds_by_the_rule(steps in vec(any::<Step>(), 0..60)) {
        let world = history(&steps);
        for last in 1..=world.log.len() {
            let expected = holding(&world.log[..last]);
            for (index, (id, record)) in world.log[..last].iter().enumerate() {
                if let Some(holds) = world.registry.holds(id, Position(last as u64)) {
                    prop_assert_eq!(holds, expected[index], "{} as of {}: {:?}", index + 1, last, record);
                }
            }
        }
    }
}
