//! Positions that a repair of the log gave up: numbered, and nowhere else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use stemedb_index::*;
use stemedb_model::*;
use support::*;

fn ranges(index: &Index) -> Vec<(u64, u64)> {
    index.snapshot().lost().ranges().iter().map(|(first, last)| (first.0, last.0)).collect()
}

fn whole(index: &Index) {
    let report = check(&index.snapshot()).unwrap();
    assert!(report.is_whole(), "{:?}", report.problems);
}

#[test]
fn lost_positions_are_passed_over_and_stay_known() {
    let folder = Folder::new();
    let entries: Vec<Entry> =
        records((0..20).map(|i| (i, Body::Assertion(assertion(i, i / 4, i as f64)))));
    assert_eq!(entries[0].position, Position(1));
    let index = folder.open();
    index.apply(&entries[..5]).unwrap();
    index.skip(Position(8)).unwrap();
    assert_eq!(index.applied(), Position(8));
    // Nothing is there, and nothing may be put there.
    assert_eq!(index.snapshot().entry(Position(7)).unwrap(), None);
    for error in [index.skip(Position(8)), index.apply(&entries[5..6])] {
        assert!(matches!(error, Err(IndexError::OutOfOrder { .. })), "{error:?}");
    }
    index.apply(&entries[8..15]).unwrap();
    // Two that touch are one.
    index.skip(Position(16)).unwrap();
    index.skip(Position(17)).unwrap();
    assert_eq!(ranges(&index), [(6, 8), (16, 17)]);
    whole(&index);
    drop(index);

    // Opened again, with lost positions at its end.
    let index = folder.open();
    assert_eq!((index.applied(), ranges(&index)), (Position(17), vec![(6, 8), (16, 17)]));
    index.apply(&entries[17..]).unwrap();
    whole(&index);
    let snapshot = index.snapshot();
    for entry in &entries {
        let lost = snapshot.lost().at(entry.position).is_some();
        let found = snapshot.entry(entry.position).unwrap();
        assert_eq!(found.as_ref(), (!lost).then_some(entry));
        let position = snapshot.position_of(&entry.signed.id()).unwrap();
        assert_eq!(position, (!lost).then_some(entry.position));
    }
}

/// A log whose very first records are gone, genesis among them.
#[test]
fn a_log_may_begin_with_lost_positions() {
    let folder = Folder::new();
    let entries: Vec<Entry> =
        records((0..6).map(|i| (i, Body::Assertion(assertion(i, i / 4, i as f64)))));
    let index = folder.open();
    index.skip(Position(3)).unwrap();
    drop(index);
    let index = folder.open();
    assert_eq!((index.applied(), ranges(&index)), (Position(3), vec![(1, 3)]));
    index.apply(&entries[3..]).unwrap();
    whole(&index);
}
