//! A restored log is the log that was stopped there: the same log root, the same answers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Engine, EngineConfig};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::sim::{SimClock, SimRng};
use stemedb_io::{Clock, Env, Rng};
use stemedb_log::{Log, NewEntry};
use stemedb_model::{Hash, Millis, Position, Timeline};
use stemedb_remote::{RemoteError, RestorePlan, RestoreTo, Store, Target, restore};
use support::*;

const BRANCH: Timeline = Timeline([3; 16]);
/// Histories of each of the four tests that share the work: a thousand in all.
const HISTORIES: u64 = 250;
/// Answers are computed by an engine with an index on a real disk, which takes most of the time.
const ANSWERS_EVERY: u64 = 10;

/// The answer root of a log at its end.
fn answers(log: Box<dyn Log>, env: Env) -> (Position, Hash) {
    let identity = log.reader().identity();
    let dir = tempfile::tempdir().unwrap();
    let config = IndexConfig { cache_bytes: 1 << 20, ..IndexConfig::new(dir.path().join("index")) };
    let index = Index::open(&config, identity).unwrap();
    let engine = Engine::open(EngineConfig::default(), env, log, index).unwrap();
    engine.wait_ready(|_| ()).unwrap();
    let view = engine.view(Position::NONE, Duration::ZERO).unwrap();
    let view = view.evaluated(Millis(START_MS + 1_000_000));
    let answers = view.answer_root().unwrap();
    assert!(answers.keys > 0 || answers.position == Position(1));
    drop(view);
    engine.close(Duration::from_secs(20));
    (answers.position, answers.root)
}

/// When each record of a history was recorded.
fn times(history: &[(Duration, Vec<NewEntry>)]) -> Vec<i64> {
    let mut at = START_MS;
    let mut times = Vec::new();
    for (pause, group) in history {
        at += pause.as_millis() as i64;
        times.extend(group.iter().map(|_| at));
    }
    times
}

#[test]
fn histories_are_restored_to_any_position_or_time_1() {
    histories(0);
}

#[test]
fn histories_are_restored_to_any_position_or_time_2() {
    histories(1);
}

#[test]
fn histories_are_restored_to_any_position_or_time_3() {
    histories(2);
}

#[test]
fn histories_are_restored_to_any_position_or_time_4() {
    histories(3);
}

fn histories(quarter: u64) {
    let (mut inside, mut by_time, mut answered) = (0, 0, 0);
    for seed in quarter * HISTORIES..(quarter + 1) * HISTORIES {
        let rng = SimRng::new(seed ^ 0x77);
        let machine = Machine::new(seed);
        let store: Arc<dyn Store> = Arc::new(stemedb_remote::MemoryStore::default());
        let history = history(seed, 2 + (rng.next_u64() % 20) as usize);
        let times = times(&history);
        let mut wal = machine.create();
        let mut archiver = None;
        for (pause, group) in &history {
            machine.clock.sleep(*pause);
            wal.append(group).unwrap();
            let archiver =
                archiver.get_or_insert_with(|| machine.archiver(&wal, &store, 1 + seed * 20));
            // Now and then, so that parts are of many lengths; never waiting, which would take time.
            if rng.next_u64().is_multiple_of(3) {
                while archiver.step().unwrap() == stemedb_remote::Step::Worked {}
            }
            if rng.next_u64().is_multiple_of(9) {
                wal.repack_now().unwrap();
            }
        }
        let mut archiver = archiver.unwrap();
        settle(&mut archiver, &machine.clock);

        let count = times.len() as u64;
        let drawn = 1 + rng.next_u64() % count;
        let (target, expected) = match rng.next_u64() % 4 {
            0 => (Target::Newest, count),
            1 => (Target::Position(Position(drawn)), drawn),
            2 => (Target::Before(Position(drawn + 1)), drawn),
            _ => {
                let time = START_MS + (rng.next_u64() % 20_000) as i64;
                let last = times.iter().filter(|at| **at <= time).count() as u64;
                by_time += 1;
                (Target::Time(Millis(time)), last)
            }
        };
        let to = Machine::new(seed + 1);
        let identity = (LOG_ID, TIMELINE);
        let plan = RestorePlan::of_archive(&*store, &to.env, identity, target).unwrap();
        let dir = Path::new("/restored/wal");
        let place = RestoreTo { dir, timeline: BRANCH, segment_bytes: SEGMENT };
        let mut done = 0;
        let restored = restore(&*store, &to.env, &plan, place, &mut |bytes| done = bytes).unwrap();
        assert_eq!((done, restored.cut_group), (plan.bytes(), plan.cut_group));
        if plan.cut_group {
            // It goes on where it is finished, and says the same.
            let again = restore(&*store, &to.env, &plan, place, &mut |_| ()).unwrap();
            assert_eq!(again, restored);
        }
        let stopped = stopped_at(&history, expected as usize);
        let root = stopped.reader().root();
        assert_eq!((restored.end.position, restored.end.chain), root, "history {seed}, {target:?}");
        assert_eq!(restored.recorded_at, Millis(times[expected as usize - 1]));
        let wal = to.open("/restored/wal").unwrap();
        assert_eq!(wal.reader().root(), root);
        inside += u64::from(plan.cut_group);
        if seed.is_multiple_of(ANSWERS_EVERY) {
            let (clock, env) = (Arc::new(SimClock::new(START_MS)), to.env.clone());
            let reference = Env { clock: clock as Arc<dyn Clock>, ..env.clone() };
            assert_eq!(
                answers(Box::new(wal), env),
                answers(Box::new(stopped), reference),
                "history {seed}, {target:?}"
            );
            answered += 1;
        }
    }
    assert!(inside > 25 && by_time > 25 && answered >= 25, "{inside}, {by_time}, {answered}");
}

#[test]
fn targets_that_cannot_be_are_refused_with_what_can() {
    let machine = Machine::new(1);
    let store: Arc<dyn Store> = Arc::new(stemedb_remote::MemoryStore::default());
    let mut wal = machine.create();
    for (_, group) in history(1, 6) {
        wal.append(&group).unwrap();
    }
    let plan = |target| {
        RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), target)
            .map_err(|error| error.to_string())
    };
    assert!(plan(Target::Newest).unwrap_err().contains("holds no archive"));
    let mut archiver = machine.archiver(&wal, &store, 1);
    settle(&mut archiver, &machine.clock);
    let newest = plan(Target::Newest).unwrap().newest;
    assert_eq!(newest, wal.reader().durable().0);
    for (target, position) in [
        (Target::Position(newest.next()), newest.next()),
        (Target::Position(Position::NONE), Position::NONE),
        (Target::Before(Position(1)), Position::NONE),
    ] {
        assert_eq!(
            plan(target).unwrap_err(),
            format!("position {position} cannot be restored: positions 1 to {newest} can")
        );
    }
    let (before, first) = (START_MS - 1, START_MS);
    assert_eq!(
        plan(Target::Time(Millis(before))).unwrap_err(),
        format!("nothing was recorded at or before {before} ms: the first record is of {first} ms")
    );
    assert_eq!(plan(Target::Time(Millis(i64::MAX))).unwrap().end.position, newest);
}

#[test]
fn a_restore_that_broke_off_goes_on() {
    let machine = Machine::new(2);
    let faulty = FaultyStore::new(2, &machine.clock);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let mut wal = machine.create();
    for (_, group) in history(2, 150) {
        wal.append(&group).unwrap();
    }
    let mut archiver = machine.archiver(&wal, &store, 9_000);
    settle(&mut archiver, &machine.clock);
    let plan =
        RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), Target::Newest).unwrap();
    assert!(plan.parts.len() > 20, "{}", plan.parts.len());
    let dir = Path::new("/restored/wal");
    let place = RestoreTo { dir, timeline: BRANCH, segment_bytes: SEGMENT };
    let to = Machine::new(3);
    let mut begun_at = Vec::new();
    let mut attempts = 0;
    loop {
        // Refused so often that some requests fail for good.
        let refused = if attempts < 6 { 700 } else { 0 };
        faulty.set(Faults { refused, ..Faults::default() });
        let mut first = None;
        let done = restore(&*store, &to.env, &plan, place, &mut |bytes| {
            first.get_or_insert(bytes);
        });
        begun_at.extend(first);
        attempts += 1;
        match done {
            Ok(restored) => {
                assert_eq!(restored.end, plan.end);
                break;
            }
            Err(error) => assert!(matches!(error, RemoteError::Store(_)), "{error}"),
        }
    }
    assert!(attempts > 2 && begun_at.is_sorted() && begun_at.last() > begun_at.first());
    // It may have broken off behind that, too: as long as nothing is written there it is the same.
    let other = RestoreTo { timeline: Timeline([4; 16]), ..place };
    let again = restore(&*store, &to.env, &plan, other, &mut |_| ()).unwrap();
    assert_eq!((again.end, again.timeline), (plan.end, BRANCH));
    let mut restored = to.open("/restored/wal").unwrap();
    assert_eq!(restored.reader().root(), wal.reader().root());
    restored.append(&history(9, 2)[1].1).unwrap();
    drop(restored);
    // Over a log nothing is restored.
    let error = restore(&*store, &to.env, &plan, place, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn one_flipped_bit_in_a_part_ends_a_restore() {
    let machine = Machine::new(4);
    let store = Arc::new(stemedb_remote::MemoryStore::default());
    let dynamic: Arc<dyn Store> = Arc::<stemedb_remote::MemoryStore>::clone(&store);
    let mut wal = machine.create();
    for (_, group) in history(4, 4) {
        wal.append(&group).unwrap();
    }
    let mut archiver = machine.archiver(&wal, &dynamic, 1 << 20);
    settle(&mut archiver, &machine.clock);
    let plan =
        RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), Target::Newest).unwrap();
    let [part] = plan.parts.as_slice() else { panic!("one part") };
    let kept = store.get(&part.name, u64::MAX).unwrap();
    for at in (0..kept.len()).step_by(3) {
        let mut flipped = kept.clone();
        flipped[at] ^= 1 << (at % 8);
        store.overwrite(&part.name, flipped);
        let to = Machine::new(5);
        let dir = Path::new("/restored/wal");
        let place = RestoreTo { dir, timeline: BRANCH, segment_bytes: SEGMENT };
        let error = restore(&*store, &to.env, &plan, place, &mut |_| ()).unwrap_err();
        assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");
        assert!(to.open("/restored/wal").is_err());
    }
}
