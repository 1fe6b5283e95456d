//! Trust is learned from the log, put in force by the log, and the same wherever it is learned.
#![allow(
    clippy::disallowed_methods,
    reason = "the files are tampered with behind the engine's back"
)]

use std::sync::Arc;

use stemedb_engine::{AsOf, Engine, ReadError, View};
use stemedb_io::{Env, RealVfs};
use stemedb_lens::LensName;
use stemedb_model::{
    Body, Hash, Position, Signed, SigningKey, SourceClass, Space, TrustSnapshot, Value,
};

use crate::common::*;

const SUBJECTS: u64 = 40;
const HONEST: u8 = 6;
const COPIES: u8 = 9;

/// Six agents that are wrong now and then, each in its own way, and nine that all repeat one which is
/// wrong four times in five.
fn quarrel(engine: &Engine) {
    for n in 1..=HONEST + COPIES {
        create(engine, register(&root(), &key(n), SourceClass::Expert, &[]));
    }
    for subject in 0..SUBJECTS {
        let name = format!("s{subject}");
        for n in 1..=HONEST {
            let slips = (subject + u64::from(n) * 7) % 11 == 0;
            let value = if slips { format!("slip {n}") } else { "right".to_owned() };
            create(engine, assertion(&key(n), &name, &value));
        }
        let copied = if subject % 5 == 0 { "right" } else { "wrong" };
        for n in HONEST + 1..=HONEST + COPIES {
            create(engine, assertion(&key(n), &name, copied));
        }
    }
}

fn view(engine: &Engine) -> View {
    engine.view(Position::NONE, std::time::Duration::ZERO).unwrap()
}

/// Of the keys, how many are answered right.
fn right(view: &View, lens: LensName) -> Result<u64, ReadError> {
    let mut right = 0;
    for subject in 0..SUBJECTS {
        let answers = view.resolve(&the_key(&format!("s{subject}")), &[view.options(lens)])?;
        let winner = answers[0].winner().unwrap();
        right += u64::from(winner.value == Value::Text("right".into()));
    }
    Ok(right)
}

fn put_in_force(author: &SigningKey, snapshot: TrustSnapshot) -> Signed {
    sealed(author, WALL_MS, Body::TrustSnapshot(snapshot))
}

#[test]
fn a_table_counts_from_its_snapshot_on() {
    let world = World::new();
    let engine = world.start();
    quarrel(&engine);
    let before = view(&engine);
    assert_eq!(right(&before, LensName::Consensus).unwrap(), SUBJECTS / 5);
    assert_eq!(right(&before, LensName::Trust).unwrap(), SUBJECTS / 5, "everybody is worth 1/2");

    let learned = before.clone().learn_trust(&Space::default()).unwrap();
    assert_eq!(learned.snapshot.input_position, before.position());
    assert_eq!(learned.statements, SUBJECTS * u64::from(HONEST + COPIES));
    assert_eq!(right(&view(&engine), LensName::Trust).unwrap(), SUBJECTS / 5, "it is not in force");

    let at = create(&engine, put_in_force(&root(), learned.snapshot.clone()));
    let after = view(&engine);
    assert_eq!(right(&after, LensName::Trust).unwrap(), SUBJECTS);
    assert_eq!(right(&after, LensName::Consensus).unwrap(), SUBJECTS / 5);
    let then = after.as_of(AsOf::Position(Position(at.0 - 1))).unwrap();
    assert_eq!(right(&then, LensName::Trust).unwrap(), SUBJECTS / 5);

    // Why: by agent and topic, with the claims that are not the answer.
    let honest = after.trust_of(&Space::default(), &key(1).agent_id(), 100).unwrap();
    let copier = after.trust_of(&Space::default(), &key(HONEST + 1).agent_id(), 100).unwrap();
    let (trusted, distrusted) = (honest.overall.unwrap(), copier.overall.unwrap());
    assert!(trusted > 5 * distrusted, "{trusted} {distrusted}");
    let topic = &copier.topics[0];
    assert_eq!((copier.signed, copier.compared), (SUBJECTS as usize, SUBJECTS as usize));
    assert_eq!((topic.claims as u64, topic.agreed as u64), (SUBJECTS, SUBJECTS / 5));
    let dispute = &topic.disputes[0];
    assert_eq!(dispute.says, Value::Text("wrong".into()));
    assert_eq!(dispute.answer, Some(Value::Text("right".into())));
    let newest = after.trust_of(&Space::default(), &key(HONEST + 1).agent_id(), 3).unwrap();
    assert_eq!((newest.compared, newest.topics[0].claims), (3, 3));
    assert!(newest.topics[0].disputes[0].position > topic.disputes[2].position);
}

/// The node forgets all it has learned: the same table comes from the log again.
#[test]
fn a_table_is_learned_again_from_the_log() {
    let world = World::new();
    let engine = world.start();
    quarrel(&engine);
    let learned = view(&engine).learn_trust(&Space::default()).unwrap();
    create(&engine, put_in_force(&root(), learned.snapshot.clone()));
    // What comes later changes nothing in it.
    create(&engine, assertion(&key(1), "s1", "later"));
    let root = view(&engine).answer_root().unwrap();
    engine.close(std::time::Duration::from_secs(5));
    world.delete_index();

    let engine = world.start();
    let newest = view(&engine);
    let pending = right(&newest, LensName::Votes).unwrap_err();
    assert!(
        matches!(pending, ReadError::TrustPending { input_position } if
        input_position == learned.snapshot.input_position),
        "{pending:?}"
    );
    assert_eq!(right(&newest, LensName::Consensus).unwrap(), SUBJECTS / 5, "nobody else waits");
    let found = loop {
        match right(&newest, LensName::Trust) {
            Err(ReadError::TrustPending { .. }) => RealPause.pause(),
            found => break found.unwrap(),
        }
    };
    assert_eq!(found, SUBJECTS);
    assert_eq!(newest.clone().answer_root().unwrap().root, root.root);
    let again = newest.as_of(AsOf::Position(learned.snapshot.input_position)).unwrap();
    assert_eq!(again.learn_trust(&Space::default()).unwrap().snapshot, learned.snapshot);
}

/// A table is kept beside the log; a kept one that is damaged is not believed.
#[test]
fn a_kept_table_spares_the_learning() {
    let mut world = World::new();
    let dir = world.dir.path().join("trust");
    world.config.trust_dir = Some(dir.clone());
    let start = |world: &World| {
        let env = Env { vfs: Arc::new(RealVfs), ..world.env() };
        let engine = Engine::open(world.config.clone(), env, world.medium.open(), world.index());
        let engine = engine.unwrap();
        engine.wait_ready(|_| ()).unwrap();
        engine
    };
    let engine = start(&world);
    quarrel(&engine);
    let learned = view(&engine).learn_trust(&Space::default()).unwrap();
    create(&engine, put_in_force(&root(), learned.snapshot));
    engine.close(std::time::Duration::from_secs(5));
    drop(engine);

    let engine = start(&world);
    assert_eq!(right(&view(&engine), LensName::Trust).unwrap(), SUBJECTS);
    engine.close(std::time::Duration::from_secs(5));
    drop(engine);

    let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let engine = start(&world);
    assert!(matches!(right(&view(&engine), LensName::Trust), Err(ReadError::TrustPending { .. })));
}

/// A snapshot that cannot be honoured is an error, never another answer.
#[test]
fn a_snapshot_that_names_no_table_of_the_log_is_refused_by_readers() {
    let world = World::new();
    let engine = world.start();
    quarrel(&engine);
    let learned = view(&engine).learn_trust(&Space::default()).unwrap().snapshot;
    let unavailable = |snapshot: TrustSnapshot| {
        create(&engine, put_in_force(&root(), snapshot));
        let view = view(&engine);
        loop {
            match right(&view, LensName::Trust) {
                Err(ReadError::TrustPending { .. }) => RealPause.pause(),
                Err(ReadError::TrustUnavailable { reason, .. }) => break reason,
                other => panic!("{other:?}"),
            }
        }
    };
    // Of another method it does not count.
    let other_method = TrustSnapshot { config: Hash([7; 32]), ..learned.clone() };
    create(&engine, put_in_force(&root(), other_method));
    assert_eq!(right(&view(&engine), LensName::Trust).unwrap(), SUBJECTS / 5);
    assert!(view(&engine).trust_snapshot(&Space::default()).is_none());
    let other_table = TrustSnapshot { table: Hash([7; 32]), ..learned.clone() };
    assert!(unavailable(other_table).contains("gives the table"));
    // The next good one mends it.
    create(&engine, put_in_force(&root(), learned));
    assert_eq!(right(&view(&engine), LensName::Trust).unwrap(), SUBJECTS);
}

#[test]
fn more_than_the_bound_is_refused() {
    let mut world = World::new();
    world.config.trust_statements_max = 100;
    let engine = world.start();
    quarrel(&engine);
    let refused = view(&engine).learn_trust(&Space::default());
    assert!(matches!(refused, Err(ReadError::TrustTooLarge { most: 100, .. })));
}
