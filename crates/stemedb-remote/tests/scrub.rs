//! A running archiver reads its archive again, and puts back what became something else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::Clock;
use stemedb_log::{Log, Wal};
use stemedb_model::{Hash, SigningKey, Timeline};
use stemedb_remote::{
    ArchiveConfig, ArchiveState, Archiver, Catalogue, Manifest, RestorePlan, RestoreTo, Store,
    Target, archive_status, restore, verify_archive,
};
use support::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const ROUND: Duration = Duration::from_secs(5 * 24 * 3_600);

/// A log of some groups, and an archiver that reads its archive again in five days.
fn world(seed: u64, groups: usize) -> (Machine, Wal, Arc<FaultyStore>, Archiver) {
    let machine = Machine::new(seed);
    let faulty = FaultyStore::new(seed, &machine.clock);
    let mut wal = machine.create();
    for (pause, group) in history(seed, groups) {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
    }
    let mut archiver = scrubbing(&machine, &wal, &faulty);
    settle(&mut archiver, &machine.clock);
    (machine, wal, faulty, archiver)
}

fn scrubbing(machine: &Machine, wal: &Wal, faulty: &Arc<FaultyStore>) -> Archiver {
    let config = ArchiveConfig { part_bytes: 1, scrub_every: ROUND, ..ArchiveConfig::new(NOTE) };
    let key = SigningKey::from_seed(&[5; 32]);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(faulty);
    Archiver::new(store, wal.cutter(), key, machine.env.clone(), config).unwrap()
}

/// Lets so many days pass, an hour at a time; says how many steps failed.
fn pass(archiver: &mut Archiver, machine: &Machine, days: u32) -> u32 {
    let mut failed = 0;
    for _ in 0..days * 24 {
        machine.clock.sleep(Duration::from_secs(3_600));
        for _ in 0..60 {
            match archiver.step() {
                Ok(_) => machine.clock.sleep(Duration::from_secs(1)),
                Err(error) => {
                    assert!(error.passes(), "{error}");
                    failed += 1;
                    machine.clock.sleep(Duration::from_secs(60));
                }
            }
        }
    }
    failed
}

fn parts(store: &dyn Store) -> Vec<String> {
    let listed = store.list(&format!("{LOG_ID}/{TIMELINE}/parts"), "").unwrap();
    listed.into_iter().map(|one| one.name).collect()
}

fn flip(faulty: &FaultyStore, name: &str) -> Vec<u8> {
    let mut bytes = faulty.get(name, u64::MAX).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    faulty.inner.overwrite(name, bytes.clone());
    bytes
}

#[test]
fn a_flipped_bit_in_any_part_is_replaced_within_two_rounds() {
    let (machine, wal, faulty, mut archiver) = world(1, 20);
    let names = parts(&*faulty);
    assert!(names.len() > 10);
    let flipped: Vec<(String, Vec<u8>)> =
        names.iter().map(|name| (name.clone(), flip(&faulty, name))).collect();
    let manifests = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap().taken;
    assert!(archive_status(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap().whole());
    // Within the first hours some are found, and not all: they are read by and by.
    pass(&mut archiver, &machine, 1);
    let soon = archiver.progress().replaced_parts;
    assert!(soon < names.len() as u64 / 2, "{soon}");
    assert_eq!(pass(&mut archiver, &machine, 10), 0);
    let progress = archiver.progress();
    assert_eq!(
        (progress.lost_parts, progress.replaced_parts),
        (names.len() as u64, names.len() as u64)
    );
    assert_eq!(progress.problems, 0);
    // Under other names, that new manifests give; what was there is as it was.
    for (name, bytes) in &flipped {
        assert!(faulty.get(name, u64::MAX).unwrap() == *bytes, "{name} was overwritten");
        let copy = name.strip_suffix(".part").unwrap().to_owned() + ".1.part";
        assert!(faulty.get(&copy, u64::MAX).is_ok(), "{copy}");
    }
    let after = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap();
    assert_eq!(after.taken, manifests + names.len() as u64);
    let identity = (LOG_ID, TIMELINE);
    let found = verify_archive(&*faulty, &machine.env, identity, &mut |_| ()).unwrap().unwrap();
    assert!(found.is_empty(), "{found:?}");
    let to = Machine::new(50);
    let plan = RestorePlan::of_archive(&*faulty, &to.env, identity, Target::Newest).unwrap();
    let dir = Path::new("/restored/wal");
    let place = RestoreTo { dir, timeline: Timeline([3; 16]), segment_bytes: SEGMENT };
    let restored = restore(&*faulty, &to.env, &plan, place, &mut |_| ()).unwrap();
    assert_eq!((restored.end.position, restored.end.chain), wal.reader().root());
}

#[test]
fn a_part_that_is_misread_once_is_not_replaced() {
    let (machine, _wal, faulty, mut archiver) = world(2, 10);
    let names = parts(&*faulty);
    *faulty.misread.lock().unwrap() = Some(names[3].clone());
    pass(&mut archiver, &machine, 11);
    assert!(faulty.misread.lock().unwrap().is_none(), "it was never read");
    let progress = archiver.progress();
    assert_eq!((progress.lost_parts, progress.problems), (0, 0));
    assert_eq!(parts(&*faulty), names);
}

#[test]
fn damage_that_the_log_cannot_put_right_is_a_problem() {
    let (machine, mut wal, faulty, archiver) = world(3, 10);
    drop(archiver);
    // What the newest manifest says of the first part the log has never been.
    let catalogue = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap();
    let name = |number| format!("{LOG_ID}/{TIMELINE}/manifests/{number:020}.cbor");
    let bytes = faulty.get(&name(catalogue.newest.0), u64::MAX).unwrap();
    let mut manifest = Manifest::open(&bytes).unwrap().0;
    (manifest.number, manifest.previous) = (catalogue.newest.0 + 1, Some(catalogue.newest.1));
    let first = catalogue.parts[0].clone();
    manifest.parts = vec![first.clone()];
    manifest.parts[0].content.start.chain = Hash([1; 32]);
    let bytes = manifest.seal(&SigningKey::from_seed(&[5; 32]));
    faulty.put_new(&name(manifest.number), &bytes).unwrap();
    let mut archiver = scrubbing(&machine, &wal, &faulty);
    settle(&mut archiver, &machine.clock);
    assert_eq!(archiver.progress().problems, 0, "a listing does not show it");
    assert_eq!(pass(&mut archiver, &machine, 11), 0);
    let progress = archiver.progress();
    assert_eq!((progress.problems, progress.replaced_parts), (1, 0));
    // It goes on archiving all the same.
    assert_eq!(progress.state, ArchiveState::Running);
    wal.append(&history(4, 2)[1].1).unwrap();
    machine.clock.sleep(DAY);
    settle(&mut archiver, &machine.clock);
    assert_eq!(archiver.progress().problems, 1);
}

#[test]
fn a_store_that_is_away_while_a_part_is_due_is_asked_again() {
    let (machine, _wal, faulty, mut archiver) = world(5, 40);
    // The audit after a day says what is due on the next one.
    pass(&mut archiver, &machine, 1);
    let names = parts(&*faulty);
    flip(&faulty, &names[2]);
    faulty.set(Faults::AWAY);
    assert!(pass(&mut archiver, &machine, 6) > 0);
    assert!(archiver.progress().problems > 0, "nobody knows how they are");
    faulty.set(Faults::default());
    pass(&mut archiver, &machine, 11);
    let progress = archiver.progress();
    assert_eq!((progress.problems, progress.replaced_parts), (0, 1));
}
