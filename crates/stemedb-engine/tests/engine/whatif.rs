//! What would change is what does change once it is written.

use std::collections::BTreeMap;

use stemedb_engine::{Dropped, Engine, View, WhatIfBounds};
use stemedb_lens::{LensName, Resolution};
use stemedb_model::*;

use crate::common::*;

const BOUNDS: WhatIfBounds = WhatIfBounds { keys_max: 1_000, shown_max: 1_000 };

fn view(engine: &Engine) -> View {
    engine.view(Position::NONE, std::time::Duration::ZERO).unwrap()
}

fn named(name: &str) -> PredicateName {
    PredicateName::parse(name).unwrap()
}

struct Scene {
    engine: std::sync::Arc<Engine>,
    epoch: RecordId,
    base: RecordId,
}

fn by(scene_claim: Assertion, author: u8) -> Signed {
    sealed(&key(author), WALL_MS, Body::Assertion(scene_claim))
}

/// Five agents, three sources, chains of premises over keys, a supersession, an opposite, an epoch,
/// a vote that decides, and an alias by a registrar.
fn scene(world: &World) -> Scene {
    let engine = world.start();
    for n in 1..=5 {
        let roles: &[Role] = if n == 5 { &[Role::Registrar] } else { &[] };
        create(&engine, register(&root(), &key(n), SourceClass::Expert, roles));
    }
    let many = |name: &str, opposites: Vec<PredicateName>| {
        sealed(
            &root(),
            WALL_MS,
            Body::Predicate(Predicate {
                name: named(name),
                cardinality: Cardinality::Many,
                value_type: None,
                unit: None,
                conversions: Vec::new(),
                tolerance: None,
                opposites,
                half_life: None,
            }),
        )
    };
    create(&engine, many("likes", vec![named("dislikes")]));
    let era = Epoch { name: "era".into(), description: None, supersedes: None };
    let era = sealed(&root(), WALL_MS, Body::Epoch(era));
    let epoch = era.id();
    create(&engine, era);
    let say = |subject: &str, value: &str, author: u8, set: &dyn Fn(&mut Assertion)| {
        let mut claim = claim(subject, value);
        set(&mut claim);
        let signed = by(claim, author);
        let id = signed.id();
        create(&engine, signed);
        id
    };
    let source =
        |uri: &str| Some(Provenance { uri: Some(uri.into()), evidence: None, class: None });
    let base = say("base", "x", 1, &|c| c.source = source("paper"));
    say("base", "y", 2, &|_| ());
    let middle = say("middle", "x", 1, &|c| c.derived_from = vec![base]);
    say("middle", "y", 3, &|_| ());
    say("top", "x", 2, &|c| c.derived_from = vec![middle]);
    say("top", "y", 4, &|c| c.source = source("other"));
    let old = say("swapped", "old", 1, &|_| ());
    let new = say("swapped", "new", 1, &|c| {
        c.source = source("paper");
        c.valid_from = Some(Millis(1));
    });
    create(&engine, supersede(&key(1), old, new));
    say("swapped", "new", 3, &|_| ());
    say("old era", "x", 1, &|c| c.epoch = Some(epoch));
    say("old era", "x", 2, &|c| c.epoch = Some(epoch));
    say("old era", "y", 3, &|_| ());
    let voted = say("voted", "x", 2, &|_| ());
    say("voted", "y", 4, &|_| ());
    create(&engine, vote(&key(3), voted));
    say("cats", "x", 2, &|c| c.predicate = named("likes"));
    say("cats", "x", 3, &|c| {
        c.predicate = named("dislikes");
        c.source = source("paper");
    });
    say("one", "x", 1, &|_| ());
    say("other", "y", 2, &|_| ());
    say("other", "y", 4, &|_| ());
    let alias =
        Alias { subject: Subject::parse("one").unwrap(), other: Subject::parse("other").unwrap() };
    create(&engine, sealed(&key(5), WALL_MS, Body::Alias(alias)));
    Scene { engine, epoch, base }
}

type Answers = BTreeMap<(String, String, &'static str), (Vec<Value>, &'static str)>;

fn told(answer: &Resolution) -> (Vec<Value>, &'static str) {
    let winners = answer.winners.iter().map(|index| answer.values[*index].value.clone());
    (winners.collect(), answer.status.as_str())
}

/// Every key under every lens.
fn all(view: &View, subjects: &[&str]) -> Answers {
    let options = LensName::ALL.map(|lens| view.options(lens));
    let mut answers = Answers::new();
    for subject in subjects {
        for predicate in ["risk", "likes", "dislikes"] {
            let key = Key { predicate: named(predicate), ..the_key(subject) };
            for answer in view.resolve(&key, &options).unwrap() {
                let key = &answer.key;
                let name =
                    (key.subject.to_string(), key.predicate.to_string(), answer.lens.as_str());
                answers.insert(name, told(&answer));
            }
        }
    }
    answers
}

const SUBJECTS: [&str; 8] =
    ["base", "middle", "top", "swapped", "old era", "voted", "cats", "other"];

#[test]
fn what_would_change_is_what_changes() {
    type Of = fn(&Scene) -> Dropped;
    let revoked = |n: u8| {
        let act = AgentAct::Revoke { from_position: Position(1) };
        sealed(&root(), WALL_MS, Body::Agent(Agent { key: key(n).agent_id(), act }))
    };
    let replaced = |epoch: RecordId| {
        let supersedes = Some((epoch, EpochMode::Replace));
        let body = Epoch { name: "next".into(), description: None, supersedes };
        sealed(&root(), WALL_MS, Body::Epoch(body))
    };
    let retracted_source = |uri: &str| {
        let target = RetractTarget::Source(SourceKey::Uri(uri.into()));
        sealed(&root(), WALL_MS, Body::Retract(Retract { target, reason: None }))
    };
    // (case, what is supposed to be gone, the record that does it, keys that change at least)
    type Case<'a> = (&'a str, Of, &'a dyn Fn(&Scene) -> Signed, usize);
    let cases: [Case<'_>; 7] = [
        (
            "a source",
            |_| Dropped::Source(SourceKey::Uri("paper".into())),
            &|_| retracted_source("paper"),
            // base, and what rests on it: middle, top; swapped; cats.
            5,
        ),
        ("an assertion", |s| Dropped::Assertion(s.base), &|s| retract(&root(), s.base), 3),
        ("an epoch", |s| Dropped::Epoch(s.epoch), &|s| replaced(s.epoch), 1),
        ("an author", |_| Dropped::Agent(key(1).agent_id()), &|_| revoked(1), 4),
        ("a voter", |_| Dropped::Agent(key(3).agent_id()), &|_| revoked(3), 4),
        ("a registrar", |_| Dropped::Agent(key(5).agent_id()), &|_| revoked(5), 1),
        ("somebody else", |_| Dropped::Agent(key(77).agent_id()), &|_| revoked(77), 0),
    ];
    for (case, dropped, real, keys_at_least) in cases {
        let world = World::new();
        let scene = scene(&world);
        let before = view(&scene.engine);
        let options = LensName::ALL.map(|lens| before.options(lens));
        let supposed =
            before.what_if(&Space::default(), &dropped(&scene), &options, BOUNDS).unwrap().unwrap();
        let then = supposed.changed.iter().map(|one| {
            let key = &one.then.key;
            let name = (key.subject.to_string(), key.predicate.to_string(), one.now.lens.as_str());
            (name, told(&one.then))
        });
        let then: Answers = then.collect();
        assert_eq!(supposed.changed_count as usize, supposed.changed.len(), "{case}");

        let now = all(&before, &SUBJECTS);
        create(&scene.engine, real(&scene));
        let after = all(&view(&scene.engine), &SUBJECTS);
        let changed: Answers = after
            .into_iter() // A name that nobody uses under that predicate is no answer.
            .filter(|(name, answer)| {
                now.get(name) != Some(answer) && (now.contains_key(name) || answer.1 != "unknown")
            })
            .collect();
        for (name, answer) in &changed {
            assert_eq!(then.get(name), Some(answer), "{case}: {name:?}");
        }
        let unchanged = then.iter().find(|(name, answer)| now.get(*name) == Some(answer));
        assert_eq!(unchanged, None, "{case}");
        let mut keys: Vec<_> = changed.keys().map(|(s, p, _)| (s, p)).collect();
        keys.dedup();
        assert!(keys.len() >= keys_at_least, "{case}: {keys:?}");
    }
}

#[test]
fn what_is_not_there_cannot_be_gone() {
    let world = World::new();
    let scene = scene(&world);
    let view = view(&scene.engine);
    let options = [view.options(LensName::Authority)];
    let other = Space::parse("other").unwrap();
    for (space, dropped) in [
        (Space::default(), Dropped::Assertion(RecordId([1; 32]))),
        (Space::default(), Dropped::Assertion(scene.epoch)),
        (Space::default(), Dropped::Epoch(scene.base)),
        (other.clone(), Dropped::Epoch(scene.epoch)),
        (other, Dropped::Assertion(scene.base)),
        (Space::default(), Dropped::Agent(root().agent_id())),
    ] {
        let found = view.what_if(&space, &dropped, &options, BOUNDS).unwrap();
        assert!(found.is_none(), "{dropped:?}");
    }
    let bounds = WhatIfBounds { keys_max: 2, ..BOUNDS };
    let dropped = Dropped::Source(SourceKey::Uri("paper".into()));
    let refused = view.what_if(&Space::default(), &dropped, &options, bounds).unwrap_err();
    assert!(matches!(refused, stemedb_engine::ReadError::WhatIfTooLarge { most: 2 }));
    let bounds = WhatIfBounds { shown_max: 1, ..BOUNDS };
    let found = view.what_if(&Space::default(), &dropped, &options, bounds).unwrap().unwrap();
    assert!(found.changed.len() == 1 && found.changed_count > 1);
}
