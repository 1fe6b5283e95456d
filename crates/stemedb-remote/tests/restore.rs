//! What a restore refuses, and how it goes on. That what comes back is what was there is in `histories.rs`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;

use stemedb_log::Log;
use stemedb_model::{Millis, Position, Timeline};
use stemedb_remote::{RemoteError, RestorePlan, RestoreTo, Store, Target, restore};
use support::*;

const BRANCH: Timeline = Timeline([3; 16]);

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
