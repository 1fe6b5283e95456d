//! Views: one position, one time, the same answers whatever comes later.

use std::time::Duration;

use stemedb_engine::{AsOf, Engine, ReadError, SnapshotToken, View};
use stemedb_index::{Filter, IndexError, KeyFilter};
use stemedb_lens::{LensName, Reason, Status};
use stemedb_model::*;

use crate::common::*;

fn view(engine: &Engine) -> View {
    engine.view(Position::NONE, Duration::ZERO).unwrap()
}

/// Records of many kinds, one second apart. The last of them take back, replace and rename.
fn story(world: &World, engine: &Engine) {
    let (author, other, curator) = (key(1), key(2), key(10));
    let body = |key: &SigningKey, body| sealed(key, WALL_MS, body);
    let one = assertion(&author, "b", "rare");
    let two = assertion(&other, "b", "common");
    let source = Source {
        keys: vec![SourceKey::Uri("https://example.org/1".into())],
        class: SourceClass::Regulatory,
        title: None,
    };
    let cited = Assertion {
        source: Some(Provenance {
            uri: Some("https://example.org/1".into()),
            evidence: None,
            class: None,
        }),
        ..claim("b", "none")
    };
    let alias =
        Alias { subject: Subject::parse("a").unwrap(), other: Subject::parse("b").unwrap() };
    let epoch = body(
        &author,
        Body::Epoch(Epoch { name: "old".into(), description: None, supersedes: None }),
    );
    let dated = Assertion { epoch: Some(epoch.id()), ..claim("c", "rare") };
    let newer = Epoch {
        name: "new".into(),
        description: None,
        supersedes: Some((epoch.id(), EpochMode::Replace)),
    };
    let retraction = retract(&curator, one.id());
    let records = [
        one.clone(),
        two.clone(),
        register(&root(), &curator, SourceClass::Regulatory, &[Role::Curator]),
        register(&root(), &author, SourceClass::Regulatory, &[]),
        vote(&author, two.id()),
        body(&root(), Body::Source(source)),
        body(&author, Body::Assertion(cited)),
        epoch,
        body(&other, Body::Assertion(dated)),
        retraction.clone(),
        body(&root(), Body::Epoch(newer)),
        body(&root(), Body::Alias(alias)),
        retract(&curator, retraction.id()),
        assertion(&other, "b", "rare"),
    ];
    for signed in records {
        world.clock.step(Duration::from_secs(1));
        create(engine, signed);
    }
}

#[test]
fn as_of_is_what_an_engine_stopped_there_answers() {
    // The roots of the growing database, taken live.
    let world = World::new();
    let engine = world.start();
    story(&world, &engine);
    let newest = view(&engine);
    let mut roots = Vec::new();
    for position in 1..=newest.position().0 {
        let then = newest.as_of(AsOf::Position(Position(position))).unwrap();
        let answers = then.clone().answer_root().unwrap();
        assert_eq!(answers.position, Position(position));
        // The same by time: records are a second apart.
        let time = newest.as_of(AsOf::Time(then.evaluated_at())).unwrap();
        assert_eq!(time.answer_root().unwrap(), answers);
        roots.push(answers);
    }
    let last = *roots.last().unwrap();
    assert_eq!(last.keys, 2, "b, which is answered under its other name a, and c");
    drop(newest);

    // The same story, stopped after each record.
    let stopped = World::new();
    let mut engine = stopped.start();
    let ids: Vec<Signed> = (2..=last.position.0)
        .map(|position| {
            let entry = view_entry(&world, position);
            Signed::trusted(entry.new.body, entry.new.signature).unwrap()
        })
        .collect();
    assert_eq!(view(&engine).answer_root().unwrap().root, roots[0].root);
    for (signed, expected) in ids.into_iter().zip(&roots[1..]) {
        stopped.clock.step(Duration::from_secs(1));
        create(&engine, signed);
        drop(engine);
        engine = stopped.start();
        let now = view(&engine);
        let answers = now.as_of(AsOf::Position(now.position())).unwrap().answer_root().unwrap();
        assert_eq!(answers, *expected);
    }
}

fn view_entry(world: &World, position: u64) -> stemedb_log::Entry {
    use stemedb_log::LogReader;
    world.medium.read(Position(position)).unwrap().unwrap()
}

#[test]
fn a_view_stands_still() {
    let world = World::new();
    let engine = world.start();
    create(&engine, assertion(&key(1), "a", "rare"));
    let before = view(&engine);
    let options = [before.options(LensName::Consensus), before.options(LensName::Skeptic)];
    let answers = before.resolve(&the_key("a"), &options).unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].winner().unwrap().value, Value::Text("rare".into()));
    let later = assertion(&key(2), "a", "common");
    create(&engine, later.clone());
    assert_eq!(before.resolve(&the_key("a"), &options).unwrap(), answers);
    assert!(before.record(&later.id()).unwrap().is_none());
    assert!(before.entry(Position(3)).unwrap().is_none());
    assert_eq!(before.entries(Position(1), 10).unwrap().len(), 2);
    let after = view(&engine);
    let answer = after.resolve(&the_key("a"), &options).unwrap().remove(0);
    assert_eq!((answer.status, answer.position), (Status::Contested, Position(3)));
}

#[test]
fn time_is_that_of_the_question() {
    let world = World::new();
    let engine = world.start();
    world.clock.step(Duration::from_secs(10));
    create(&engine, assertion(&key(1), "a", "rare"));
    world.clock.step(Duration::from_secs(10));
    let now = view(&engine);
    assert_eq!(now.evaluated_at(), Millis(WALL_MS + 20_000));
    // The clock a little behind the newest record: that record's time.
    world.clock.set_wall(WALL_MS);
    assert_eq!(view(&engine).evaluated_at(), Millis(WALL_MS + 10_000));

    for (asked, position, evaluated_at) in [
        (AsOf::Position(Position(2)), 2, WALL_MS + 10_000),
        (AsOf::Position(Position(1)), 1, WALL_MS),
        (AsOf::Position(Position(0)), 0, 0),
        (AsOf::Time(Millis(WALL_MS + 10_000)), 2, WALL_MS + 10_000),
        (AsOf::Time(Millis(WALL_MS + 9_999)), 1, WALL_MS + 9_999),
        (AsOf::Time(Millis(WALL_MS + 15_000)), 2, WALL_MS + 15_000),
        (AsOf::Time(Millis(-5)), 0, -5),
    ] {
        let then = now.as_of(asked).unwrap();
        let found = (then.position(), then.evaluated_at());
        assert_eq!(found, (Position(position), Millis(evaluated_at)), "{asked:?}");
    }
    let ahead = now.as_of(AsOf::Position(Position(3)));
    assert!(matches!(ahead, Err(ReadError::AheadOfLog { .. })), "{ahead:?}");
    let ahead = now.as_of(AsOf::Time(Millis(WALL_MS + 20_001)));
    assert!(matches!(ahead, Err(ReadError::AheadOfClock { .. })), "{ahead:?}");
}

#[test]
fn a_record_says_whether_it_counts() {
    let world = World::new();
    let engine = world.start();
    let author = key(1);
    let claimed = assertion(&author, "a", "rare");
    let voted = vote(&author, claimed.id());
    let no_vote = retract(&author, voted.id());
    let no_claim = retract(&author, claimed.id());
    let again = retract(&author, no_claim.id());
    for signed in [&claimed, &voted, &no_vote, &no_claim, &again] {
        create(&engine, signed.clone());
    }
    let excluded = |view: &View, signed: &Signed| {
        let found = view.record(&signed.id()).unwrap().unwrap();
        found.excluded.map(|excluded| (excluded.reason, excluded.by))
    };
    let now = view(&engine);
    assert_eq!(excluded(&now, &claimed), None, "the retraction was taken back");
    assert_eq!(excluded(&now, &voted), Some((Reason::Retracted, Some(Position(4)))));
    assert_eq!(excluded(&now, &no_claim), Some((Reason::Retracted, Some(Position(6)))));
    let then = now.as_of(AsOf::Position(Position(5))).unwrap();
    assert_eq!(excluded(&then, &claimed), Some((Reason::Retracted, Some(Position(5)))));
    assert_eq!(excluded(&then, &no_claim), None);
    let found = now.record(&claimed.id()).unwrap().unwrap();
    assert_eq!(found.facts.len(), 4);
    assert_eq!(found.standing.unwrap().tier, SourceClass::Anecdotal.tier());
    assert!(now.record(&RecordId([1; 32])).unwrap().is_none());
}

#[test]
fn past_the_bound_there_is_no_answer() {
    let mut world = World::new();
    world.config.resolve_claims_max = 2;
    let engine = world.start();
    for n in 1..=3 {
        create(&engine, assertion(&key(n), "a", "rare"));
        let now = view(&engine);
        let result = now.resolve(&the_key("a"), &[now.options(LensName::Recency)]);
        match result {
            Ok(_) => assert!(n <= 2),
            Err(ReadError::Index(IndexError::TooLarge { claims: 3, bound: 2, .. })) => {
                assert_eq!(n, 3);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    // The root is of all answers.
    assert_eq!(view(&engine).answer_root().unwrap().keys, 1);
}

#[test]
fn lists_come_in_pages() {
    let world = World::new();
    let engine = world.start();
    for subject in ["c", "a", "b"] {
        create(&engine, assertion(&key(1), subject, "rare"));
    }
    let now = view(&engine);
    let filter = Filter::new(Space::default());
    let (first, next) = now.assertions(&filter, None, 2).unwrap();
    let (rest, end) = now.assertions(&filter, next, 2).unwrap();
    let positions: Vec<_> = first.iter().chain(&rest).map(|entry| entry.position.0).collect();
    assert_eq!((positions, first.len(), end), (vec![2, 3, 4], 2, None));
    let keys = now.keys(&KeyFilter::default(), None, 10).unwrap();
    let subjects: Vec<_> = keys.items.iter().map(|key| key.subject.as_str()).collect();
    assert_eq!(subjects, ["a", "b", "c"]);
}

#[test]
fn a_token_of_another_timeline_is_refused() {
    let world = World::new();
    let engine = world.start();
    let token = view(&engine).token();
    let read: SnapshotToken = token.to_string().parse().unwrap();
    assert_eq!(engine.position_of(&read).unwrap(), Position(1));
    let other = SnapshotToken { timeline: Timeline([0; 16]), ..token };
    let refused = engine.position_of(&other);
    assert!(matches!(refused, Err(ReadError::WrongTimeline { .. })), "{refused:?}");
}

#[test]
fn the_answer_root_survives_the_index() {
    let world = World::new();
    let engine = world.start();
    story(&world, &engine);
    let live = view(&engine).answer_root().unwrap();
    assert_eq!(live.position, Position(15));
    drop(engine);
    world.delete_index();
    let engine = world.start();
    assert_eq!(view(&engine).answer_root().unwrap(), live);
    // And it is a root of answers: another time weighs the same, another claim does not.
    create(&engine, assertion(&key(5), "b", "never"));
    assert_ne!(view(&engine).answer_root().unwrap().root, live.root);
}
