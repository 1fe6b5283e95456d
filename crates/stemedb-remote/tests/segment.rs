//! A damaged segment comes back from the archive: byte for byte the same records, and nothing that is newer
//! here is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stemedb_log::{Entry, Log, RestoreOptions, RestoreReport, Wal, verify};
use stemedb_model::Position;
use stemedb_remote::{Archiver, RemoteError, Store, restore_damaged};
use support::*;

const OUTPUT: &str = "/data/restored.wal";

fn path(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("segment.{number:03}.wal"))
}

fn scan(wal: &Wal) -> Vec<Entry> {
    let mut all = Vec::new();
    let visit = &mut |group| {
        all.extend(group);
        Ok(true)
    };
    wal.reader().scan(Position(1), visit).unwrap();
    all
}

/// A log of several segments, archived up to the position given back, and then gone on with by some
/// groups more.
fn world(seed: u64, more: usize) -> (Machine, Arc<dyn Store>, Vec<Entry>, Position) {
    let machine = Machine::new(seed);
    let store: Arc<dyn Store> = FaultyStore::new(seed, &machine.clock);
    let mut wal = machine.create();
    let history = history(seed, 150 + more);
    for (n, (_, group)) in history[..150].iter().enumerate() {
        wal.append(group).unwrap();
        if n == 80 {
            wal.repack_now().unwrap();
        }
    }
    let mut archiver: Archiver = machine.archiver(&wal, &store, 9_000);
    settle(&mut archiver, &machine.clock);
    let archived = wal.reader().durable().0;
    for (_, group) in &history[150..] {
        wal.append(group).unwrap();
    }
    wal.seal().unwrap();
    let all = scan(&wal);
    drop(archiver);
    wal.close().unwrap();
    (machine, store, all, archived)
}

fn newest(machine: &Machine) -> u64 {
    let is = |number: &u64| {
        let bytes = machine.vfs.medium(&path(*number));
        bytes.is_some_and(|bytes| bytes[..512].iter().any(|byte| *byte != 0))
    };
    (1..).take_while(is).last().unwrap()
}

fn restore(
    machine: &Machine,
    store: &Arc<dyn Store>,
    number: u64,
    change: impl Fn(&mut RestoreOptions),
) -> Result<RestoreReport, RemoteError> {
    let mut options = RestoreOptions {
        segment: path(number),
        output: OUTPUT.into(),
        plan: false,
        accept_loss: false,
    };
    change(&mut options);
    restore_damaged(&**store, &machine.env, (LOG_ID, TIMELINE), number, &options)
}

/// The result, in the place of the segment, is the log again.
#[track_caller]
fn put_in_place(machine: &Machine, number: u64, all: &[Entry]) {
    let bytes = machine.vfs.medium(Path::new(OUTPUT)).unwrap();
    let _ = machine.vfs.take(&path(number));
    machine.vfs.put(&path(number), bytes).unwrap();
    let report = verify(Path::new(DIR), &machine.vfs).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let mut wal = machine.open(DIR).unwrap();
    assert_eq!(scan(&wal), all);
    // The log goes on behind it.
    wal.append(&history(99, 2)[1].1).unwrap();
    wal.repack_now().unwrap();
    assert_eq!(scan(&wal)[..all.len()], *all);
}

#[test]
fn any_damage_of_any_sealed_segment() {
    let (machine, store, all, _) = world(1, 0);
    let newest = newest(&machine);
    assert!(newest >= 5, "{newest}");
    let mut tried = 0;
    for number in 1..newest {
        let whole = machine.vfs.medium(&path(number)).unwrap();
        let flips = [0, 100, 600, whole.len() / 3, whole.len() / 2, whole.len() - 3];
        let mut damages: Vec<Option<Vec<u8>>> = flips
            .iter()
            .map(|at| {
                let mut bytes = whole.clone();
                bytes[*at] ^= 1;
                Some(bytes)
            })
            .collect();
        damages.push(Some(whole[..whole.len() / 2 / 4096 * 4096].to_vec()));
        damages.push(Some(vec![0; whole.len()]));
        damages.push(None);
        for damage in damages {
            let machine = machine.fork(7);
            machine.vfs.take(&path(number)).unwrap();
            if let Some(bytes) = &damage {
                machine.vfs.put(&path(number), bytes.clone()).unwrap();
            }
            let plan = restore(&machine, &store, number, |options| options.plan = true).unwrap();
            assert_eq!((plan.number, plan.newer, plan.written), (number, None, None));
            assert!(machine.vfs.medium(Path::new(OUTPUT)).is_none());
            let done = restore(&machine, &store, number, |_| ()).unwrap();
            assert_eq!((done.archived, done.undecided), (plan.archived, None));
            assert_eq!(machine.vfs.medium(&path(number)), damage, "the input was touched");
            put_in_place(&machine, number, &all);
            // Nothing is replaced.
            assert!(restore(&machine, &store, number, |_| ()).is_err());
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}

/// The newest segment, and a sealed one that was archived in part: what is newer comes from the file.
#[test]
fn what_is_newer_here_stays() {
    for (seed, more) in [(2, 6), (3, 6), (4, 60)] {
        let (machine, store, all, archived) = world(seed, more);
        let newest = newest(&machine);
        // Where the archive ends.
        let report = verify(Path::new(DIR), &machine.vfs).unwrap();
        let within = |range: (Position, Position)| range.0 <= archived && archived < range.1;
        let segment = report.segments.iter().find(|one| one.positions.is_some_and(within));
        let Some(segment) = segment else { panic!("the archive ends with a segment") };
        let (number, (first, last)) = (segment.number, segment.positions.unwrap());
        assert_eq!(number == newest, more < 10);
        let whole = machine.vfs.medium(&path(number)).unwrap();
        for at in [0, 600, 4096 + 200] {
            let machine = machine.fork(7);
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            machine.vfs.take(&path(number)).unwrap();
            machine.vfs.put(&path(number), bytes.clone()).unwrap();
            let done = restore(&machine, &store, number, |_| ()).unwrap();
            assert_eq!(done.archived, (first, archived));
            assert_eq!(done.newer, Some((archived.next(), last)));
            assert_eq!(machine.vfs.medium(&path(number)), Some(bytes), "the input was touched");
            put_in_place(&machine, number, &all);
        }
    }
}

/// Damage in what the archive does not have: nothing is given up unasked.
#[test]
fn what_nobody_has_is_said() {
    let (machine, store, all, archived) = world(2, 6);
    let number = newest(&machine);
    let whole = machine.vfs.medium(&path(number)).unwrap();
    // The last block that was written, and the seal before it.
    let used = whole.chunks(4096).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap();
    let machine_with = |bytes: Option<Vec<u8>>| {
        let machine = machine.fork(7);
        machine.vfs.take(&path(number)).unwrap();
        if let Some(bytes) = bytes {
            machine.vfs.put(&path(number), bytes).unwrap();
        }
        machine
    };
    let mut cut = whole.clone();
    for block in used - 3..=used {
        cut[block * 4096 + 40] ^= 1;
    }
    for damage in [Some(cut), Some(vec![0; whole.len()]), None] {
        let machine = machine_with(damage);
        let refused = restore(&machine, &store, number, |_| ()).unwrap();
        assert!(refused.refused && refused.written.is_none(), "{refused:?}");
        let undecided = refused.undecided.unwrap();
        assert!(undecided.first > archived && undecided.first.0 <= all.len() as u64);
        assert!(machine.vfs.medium(Path::new(OUTPUT)).is_none());
        let done = restore(&machine, &store, number, |options| options.accept_loss = true).unwrap();
        assert!(done.written.is_some());
        put_in_place(&machine, number, &all[..undecided.first.0 as usize - 1]);
    }

    // A sealed one whose end the archive does not have.
    let (machine, store, _, archived) = world(4, 60);
    let report = verify(Path::new(DIR), &machine.vfs).unwrap();
    let within = |range: (Position, Position)| range.0 <= archived && archived < range.1;
    let segment = report.segments.iter().find(|one| one.positions.is_some_and(within)).unwrap();
    let machine = machine.fork(7);
    machine.vfs.take(&path(segment.number)).unwrap();
    let error = restore(&machine, &store, segment.number, |_| ()).unwrap_err().to_string();
    let missing =
        format!("positions {} to {} are neither", archived.next(), segment.positions.unwrap().1);
    assert!(error.contains(&missing), "{error}");

    // Another history, and a segment that the archive does not have at all.
    let (other, _, _, _) = world(9, 0);
    let error = restore(&other, &store, 2, |_| ()).unwrap_err().to_string();
    assert!(error.contains("swapped"), "{error}");
    let error = restore(&machine, &store, 90, |_| ()).unwrap_err().to_string();
    assert!(error.contains("is not in the archive"), "{error}");
}
