//! An archive under load, while everything around it fails: no gap that is not told, nothing
//! overwritten, and once it can it catches up by itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::sim::{EIO, Fault, OpKind, SimRng, When};
use stemedb_io::{Clock, Rng, Vfs};
use stemedb_log::Log;
use stemedb_model::{Position, SigningKey, Timeline};
use stemedb_remote::{
    ArchiveState, Archiver, Catalogue, Manifest, MemoryStore, PartEntry, Put, RemoteError,
    RestorePlan, RestoreTo, Step, Store, StoreError, Target, archive_status, believe, leaves, logs,
    probe, restore, verify_archive,
};
use support::*;

const BRANCH: Timeline = Timeline([3; 16]);

fn root_of(store: &dyn Store, timeline: Timeline, seed: u64) -> (Position, stemedb_model::Hash) {
    let to = Machine::new(seed);
    let plan = RestorePlan::of_archive(store, &to.env, (LOG_ID, timeline), Target::Newest).unwrap();
    let dir = Path::new("/restored/wal");
    let place = RestoreTo { dir, timeline: BRANCH, segment_bytes: SEGMENT };
    let restored = restore(store, &to.env, &plan, place, &mut |_| ()).unwrap();
    assert_eq!(restored.end, plan.end);
    assert_eq!(restored.records, plan.end.position.0);
    let wal = to.open("/restored/wal").unwrap();
    assert_eq!(wal.reader().root(), (restored.end.position, restored.end.chain));
    wal.reader().root()
}

#[test]
fn whatever_fails_the_archive_becomes_the_log() {
    let (mut kills, mut void, mut copies) = (0, 0, 0);
    for seed in 0..60 {
        let rng = SimRng::new(seed ^ 0xa5);
        let mut machine = Machine::new(seed);
        let faulty = FaultyStore::new(seed, &machine.clock);
        let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
        let mut wal = machine.create();
        let history = history(seed, 60);
        wal.append(&history[0].1).unwrap();
        let part_bytes = 1 + rng.next_u64() % 30_000;
        let mut archiver = machine.archiver(&wal, &store, part_bytes);
        for (pause, group) in &history[1..] {
            machine.clock.sleep(*pause);
            wal.append(group).unwrap();
            match rng.next_u64() % 12 {
                0 => faulty.set(Faults::AWAY),
                1 => faulty.set(Faults::default()),
                2 => faulty.set(Faults {
                    refused: 100,
                    answer_lost: 100,
                    cut_short: 100,
                    cut_silently: 100,
                    delay: Duration::from_millis(200),
                }),
                3 => {
                    wal.repack_now().unwrap();
                }
                4 => {
                    // The process ends; what it had sent is in the store.
                    drop((archiver, wal));
                    machine = machine.crash(seed + kills);
                    wal = machine.open(DIR).unwrap();
                    archiver = machine.archiver(&wal, &store, part_bytes);
                    kills += 1;
                }
                _ => {}
            }
            for _ in 0..rng.next_u64() % 4 {
                match archiver.step() {
                    Err(error) => assert!(error.passes(), "{error}"),
                    Ok(Step::Idle) => machine.clock.sleep(Duration::from_secs(4)),
                    Ok(Step::Worked) => {}
                }
            }
            let progress = archiver.progress();
            assert!(progress.archived <= progress.durable);
        }
        faulty.set(Faults::default());
        settle(&mut archiver, &machine.clock);
        let progress = archiver.progress();
        assert_eq!(progress.archived, wal.reader().durable().0);
        assert_eq!((progress.lag_bytes, progress.lag), (0, Duration::ZERO));
        faulty.assert_nothing_overwritten();
        let status = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
        assert!(status.whole(), "{status:?}");
        assert_eq!(status.archived, progress.archived);
        assert_eq!(root_of(&*store, TIMELINE, seed), wal.reader().root());
        let catalogue = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
        copies += catalogue.parts.iter().filter(|part| part.copy > 0).count();
        void += catalogue.taken - store_manifests(&*store);
        assert_eq!(logs(&*store).unwrap(), [LOG_ID]);
        assert_eq!(leaves(&*store, LOG_ID).unwrap(), [TIMELINE]);
    }
    assert!(kills > 50 && void > 20 && copies > 20, "{kills} kills, {void} void, {copies} copies");
}

/// Objects in the place of manifests that are some.
fn store_manifests(store: &dyn Store) -> u64 {
    let listed = store.list(&format!("{LOG_ID}/{TIMELINE}/manifests"), "").unwrap();
    let good = listed
        .iter()
        .filter(|one| Manifest::open(&store.get(&one.name, u64::MAX).unwrap()).is_ok());
    good.count() as u64
}

/// A log of some groups, archived in small parts.
fn archived(seed: u64, groups: usize) -> (Machine, stemedb_log::Wal, Arc<FaultyStore>, Archiver) {
    let machine = Machine::new(seed);
    let faulty = FaultyStore::new(seed, &machine.clock);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let mut wal = machine.create();
    for (pause, group) in history(seed, groups) {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
    }
    let mut archiver = machine.archiver(&wal, &store, 1);
    settle(&mut archiver, &machine.clock);
    (machine, wal, faulty, archiver)
}

#[test]
fn what_a_store_loses_is_told_and_put_back() {
    let (machine, wal, faulty, archiver) = archived(3, 30);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    let parts = faulty.list(&format!("{LOG_ID}/{TIMELINE}/parts"), "").unwrap();
    faulty.remove(&parts[4].name).unwrap();
    faulty.inner.overwrite(&parts[9].name, b"short".to_vec());
    let status = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert_eq!((status.lost.len(), status.whole()), (2, false));
    let error = RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), Target::Newest)
        .and_then(|plan| {
            let dir = Path::new("/restored/wal");
            let place = RestoreTo { dir, timeline: BRANCH, segment_bytes: SEGMENT };
            restore(&*store, &machine.env, &plan, place, &mut |_| ())
        })
        .unwrap_err();
    assert!(error.to_string().contains("parts/"), "{error}");

    let mut archiver = machine.archiver(&wal, &store, 1);
    settle(&mut archiver, &machine.clock);
    let progress = archiver.progress();
    assert_eq!((progress.lost_parts, progress.replaced_parts), (2, 2));
    let status = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(status.whole(), "{status:?}");
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
}

/// Everything that is durable is in the archive, once, and can be restored.
fn assert_whole(store: &dyn Store, wal: &stemedb_log::Wal) {
    let status = archive_status(store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(status.whole(), "{status:?}");
    assert_eq!(status.archived, wal.reader().durable().0);
    assert_eq!(root_of(store, TIMELINE, 1), wal.reader().root());
}

#[test]
fn an_audit_that_breaks_off_leaves_the_archiver_where_it_was() {
    let (machine, mut wal, faulty, archiver) = archived(13, 30);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    let parts = faulty.list(&format!("{LOG_ID}/{TIMELINE}/parts"), "").unwrap();
    faulty.remove(&parts[4].name).unwrap();
    let mut archiver = machine.archiver(&wal, &store, 1 << 20);
    assert_eq!(archiver.step().unwrap(), Step::Worked);
    // The part arrives, and nobody hears of it.
    faulty.set(Faults { answer_lost: 1_000, ..Faults::default() });
    assert!(archiver.step().unwrap_err().passes());
    faulty.set(Faults::default());
    for (_, group) in &history(14, 12)[1..] {
        wal.append(group).unwrap();
    }
    settle(&mut archiver, &machine.clock);
    assert_whole(&*store, &wal);
}

fn manifest_name(number: u64) -> String {
    format!("{LOG_ID}/{TIMELINE}/manifests/{number:020}.cbor")
}

/// A manifest of which this build knows that it is one, and no more.
fn of_a_newer_build() -> Vec<u8> {
    use stemedb_model::{RecordId, cbor};
    let key = SigningKey::from_seed(&[5; 32]);
    let mut body = Vec::new();
    cbor::map(&mut body, 1);
    cbor::text(&mut body, "v");
    cbor::uint(&mut body, 2);
    let mut signed = b"stemedb/archive/v1/manifest\0".to_vec();
    signed.extend(&body);
    let signature = key.sign(&RecordId(*blake3::hash(&signed).as_bytes()));
    let mut bytes = Vec::new();
    cbor::map(&mut bytes, 3);
    cbor::text(&mut bytes, "key");
    cbor::bytes(&mut bytes, key.agent_id().as_bytes());
    cbor::text(&mut bytes, "body");
    cbor::bytes(&mut bytes, &body);
    cbor::text(&mut bytes, "signature");
    cbor::bytes(&mut bytes, signature.as_bytes());
    bytes
}

#[test]
fn a_manifest_of_a_newer_build_stops_an_older_archiver() {
    let (machine, mut wal, faulty, mut archiver) = archived(15, 10);
    let newest = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap().newest.0;
    faulty.put_new(&manifest_name(newest + 1), &of_a_newer_build()).unwrap();
    for (_, group) in &history(16, 4)[1..] {
        wal.append(group).unwrap();
    }
    machine.clock.sleep(Duration::from_secs(20));
    for _ in 0..3 {
        let error = archiver.step().unwrap_err();
        assert!(matches!(error, RemoteError::Manifest { .. }) && !error.passes(), "{error}");
    }
    assert!(matches!(archiver.progress().state, ArchiveState::Stopped { .. }));
    assert!(faulty.get(&manifest_name(newest + 2), u64::MAX).is_err(), "it was called void");
}

#[test]
fn a_manifest_that_is_misread_once_is_not_void() {
    let (machine, mut wal, faulty, mut archiver) = archived(17, 10);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let newest = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap().newest.0;
    *faulty.misread.lock().unwrap() = Some(manifest_name(newest + 1));
    for (_, group) in &history(18, 4)[1..] {
        wal.append(group).unwrap();
    }
    settle(&mut archiver, &machine.clock);
    assert!(faulty.misread.lock().unwrap().is_none());
    assert_whole(&*store, &wal);
    for number in 1..=Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap().taken {
        let bytes = store.get(&manifest_name(number), u64::MAX).unwrap();
        assert_eq!(Manifest::open(&bytes).unwrap().0.void, [0u64; 0]);
    }
}

/// The next manifest of an archive, with other parts.
fn next_manifest(store: &dyn Store, skip: u64, change: impl FnOnce(&mut Manifest)) {
    let catalogue = Catalogue::load(store, LOG_ID, TIMELINE).unwrap().unwrap();
    let bytes = store.get(&manifest_name(catalogue.newest.0), u64::MAX).unwrap();
    let (mut manifest, _) = Manifest::open(&bytes).unwrap();
    manifest.number += 1 + skip;
    manifest.previous = Some(catalogue.newest.1);
    change(&mut manifest);
    let bytes = manifest.seal(&SigningKey::from_seed(&[5; 32]));
    store.put_new(&manifest_name(manifest.number), &bytes).unwrap();
}

#[test]
fn what_a_void_manifest_names_does_not_count() {
    let (_machine, wal, faulty, _archiver) = archived(19, 12);
    // Both after the newest; the second one says that the first one is none.
    let before = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap();
    let void = before.newest.0 + 1;
    let first = before.parts[1].clone();
    let keep = before.parts.last().unwrap().clone();
    let bytes = {
        let bytes = faulty.get(&manifest_name(before.newest.0), u64::MAX).unwrap();
        let mut manifest = Manifest::open(&bytes).unwrap().0;
        (manifest.number, manifest.previous) = (void, Some(before.newest.1));
        manifest.parts = vec![PartEntry { copy: 3, ..first }];
        manifest.seal(&SigningKey::from_seed(&[5; 32]))
    };
    next_manifest(&*faulty, 1, |manifest| {
        manifest.void = vec![void];
        manifest.parts = vec![keep];
    });
    faulty.put_new(&manifest_name(void), &bytes).unwrap();
    assert_whole(&*faulty, &wal);
}

#[test]
fn a_status_tells_that_parts_are_of_two_histories() {
    let (_machine, _wal, faulty, _archiver) = archived(20, 12);
    next_manifest(&*faulty, 0, |manifest| {
        manifest.parts[0].content.start.chain = stemedb_model::Hash([1; 32]);
    });
    let status = archive_status(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(!status.whole(), "{status:?}");
    let told = status.problems.iter().any(|one| one.to_string().contains("another history"));
    assert!(told, "{:?}", status.problems);
}

#[test]
fn a_verify_finds_a_flipped_bit_in_any_part() {
    let (machine, _wal, faulty, _archiver) = archived(22, 10);
    let verify = || {
        let mut bytes = 0;
        let found =
            verify_archive(&*faulty, &machine.env, (LOG_ID, TIMELINE), &mut |at| bytes = at);
        (found.unwrap().unwrap(), bytes)
    };
    let (found, bytes) = verify();
    assert!(found.is_empty() && bytes > 10_000, "{found:?}, {bytes}");
    for part in faulty.list(&format!("{LOG_ID}/{TIMELINE}/parts"), "").unwrap() {
        let kept = faulty.get(&part.name, u64::MAX).unwrap();
        let mut flipped = kept.clone();
        flipped[kept.len() / 3] ^= 16;
        faulty.inner.overwrite(&part.name, flipped);
        let names: Vec<String> = verify().0.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, std::slice::from_ref(&part.name));
        faulty.inner.remove(&part.name).unwrap();
        assert_eq!(verify().0.len(), 1);
        faulty.inner.overwrite(&part.name, kept);
    }
}

#[test]
fn a_damaged_newest_manifest_is_not_passed_over_in_silence() {
    let (machine, wal, faulty, _archiver) = archived(21, 20);
    let newest = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap().newest.0;
    for number in newest - 2..=newest {
        let name = manifest_name(number);
        let mut bytes = faulty.get(&name, u64::MAX).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        faulty.inner.overwrite(&name, bytes);
    }
    let plan = |target| RestorePlan::of_archive(&*faulty, &machine.env, (LOG_ID, TIMELINE), target);
    let readable = Catalogue::load(&*faulty, LOG_ID, TIMELINE).unwrap().unwrap().end.0.position;
    assert!(readable < wal.reader().durable().0);
    for target in [Target::Newest, Target::Time(stemedb_model::Millis(i64::MAX))] {
        let error = plan(target).unwrap_err().to_string();
        let named = error.contains(&format!("manifest {}", newest - 2));
        assert!(named && error.contains(&format!("position {readable}")), "{error}");
    }
    // Asked for by its position it is had.
    assert_eq!(plan(Target::Position(readable)).unwrap().end.position, readable);
    let before = plan(Target::Time(stemedb_model::Millis(START_MS))).unwrap();
    assert!(before.end.position < readable);
}

#[test]
fn what_no_manifest_names_is_archived_again() {
    let (machine, wal, faulty, archiver) = archived(23, 30);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    // One is gone, two are damaged: more positions than one part, over more than one segment.
    faulty.remove(&manifest_name(9)).unwrap();
    for number in [3, 4] {
        faulty.inner.overwrite(&manifest_name(number), b"damaged".to_vec());
    }
    assert!(!archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap().whole());
    let mut archiver = machine.archiver(&wal, &store, 1 << 20);
    settle(&mut archiver, &machine.clock);
    let progress = archiver.progress();
    assert!(progress.lost_parts > 1 && progress.lost_parts == progress.replaced_parts);
    assert_eq!(progress.problems, 0);
    assert_whole(&*store, &wal);
    // What comes back is not needed any more, and does no harm.
    faulty.inner.overwrite(&manifest_name(9), b"back, and damaged".to_vec());
    assert_whole(&*store, &wal);
}

#[test]
fn what_the_archive_of_the_parent_loses_is_archived_again() {
    let (machine, wal, faulty, archiver) = archived(24, 30);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop((archiver, wal, machine));
    let machine = Machine::new(25);
    let target = Target::Position(Position(40));
    let plan = RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), target).unwrap();
    let place = RestoreTo { dir: Path::new(DIR), timeline: BRANCH, segment_bytes: SEGMENT };
    restore(&*store, &machine.env, &plan, place, &mut |_| ()).unwrap();
    let mut wal = machine.open(DIR).unwrap();
    for (_, group) in &history(26, 12)[1..] {
        wal.append(group).unwrap();
    }
    settle(&mut machine.archiver(&wal, &store, 1), &machine.clock);
    // A part, and a manifest with its part.
    let parts = faulty.list(&format!("{LOG_ID}/{TIMELINE}/parts"), "").unwrap();
    faulty.remove(&parts[2].name).unwrap();
    faulty.remove(&manifest_name(6)).unwrap();
    assert!(!archive_status(&*store, LOG_ID, BRANCH).unwrap().unwrap().whole());
    settle(&mut machine.archiver(&wal, &store, 1), &machine.clock);
    let status = archive_status(&*store, LOG_ID, BRANCH).unwrap().unwrap();
    assert!(status.whole(), "{status:?}");
    assert_eq!(root_of(&*store, BRANCH, 1), wal.reader().root());
    // Not for the branch that has lost it.
    assert!(!archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap().whole());
    // All of the parent.
    for object in faulty.list(&format!("{LOG_ID}/{TIMELINE}"), "").unwrap() {
        faulty.remove(&object.name).unwrap();
    }
    settle(&mut machine.archiver(&wal, &store, 1), &machine.clock);
    assert!(archive_status(&*store, LOG_ID, BRANCH).unwrap().unwrap().whole());
    assert_eq!(root_of(&*store, BRANCH, 1), wal.reader().root());
}

#[test]
fn the_lag_is_the_age_of_the_oldest_record_that_waits() {
    let machine = Machine::new(27);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut wal = machine.create();
    let groups = history(27, 6);
    for (_, group) in &groups {
        wal.append(group).unwrap();
        machine.clock.sleep(Duration::from_secs(600));
    }
    let mut archiver = machine.archiver(&wal, &store, 1);
    // It begins, and looks after the archive.
    for _ in 0..2 {
        archiver.step().unwrap();
        assert_eq!(archiver.progress().lag, Duration::from_secs(3_600));
    }
    for left in (0..6).rev() {
        assert_eq!(archiver.step().unwrap(), Step::Worked, "{left}");
        assert_eq!(archiver.progress().lag, Duration::from_secs(600) * left);
    }
}

#[test]
fn a_note_that_cannot_be_written_holds_nothing_up() {
    let machine = Machine::new(28);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut wal = machine.create();
    for (_, group) in &history(28, 6) {
        wal.append(group).unwrap();
    }
    let fault =
        |op| Fault { op: Some(op), path: "node/archived".into(), when: When::From(1), errno: EIO };
    machine.vfs.inject(fault(OpKind::Open));
    let mut archiver = machine.archiver(&wal, &store, 1);
    for _ in 0..40 {
        let _ = archiver.step();
        machine.clock.sleep(Duration::from_secs(1));
    }
    assert_eq!(archiver.progress().state, ArchiveState::Running);
    let catalogue = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert_eq!((catalogue.taken, catalogue.parts.len()), (6, 6));
    machine.vfs.clear_faults();
    assert_whole(&*store, &wal);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_another_history() {
    let (machine, wal, faulty, archiver) = archived(29, 12);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    machine.vfs.inject(Fault { op: None, path: DIR.into(), when: When::From(1), errno: EIO });
    let mut archiver = machine.archiver(&wal, &store, 1);
    let error = archiver.step().unwrap_err();
    assert!(matches!(error, RemoteError::Log(_)), "{error}");
    machine.vfs.clear_faults();
    settle(&mut archiver, &machine.clock);
    assert_whole(&*store, &wal);
}

#[test]
fn no_checkpoint_stands_for_an_archive_that_is_damaged() {
    let (machine, mut wal, faulty, archiver) = archived(30, 10);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    // It names another one before it than is there, which nothing heals.
    next_manifest(&*faulty, 0, |manifest| {
        manifest.previous = Some(stemedb_model::Hash([1; 32]));
    });
    let mut archiver = machine.archiver(&wal, &store, 1);
    for (_, group) in &history(31, 270)[1..] {
        wal.append(group).unwrap();
    }
    settle(&mut archiver, &machine.clock);
    // Begun again behind the place where it would be.
    drop(archiver);
    let mut archiver = machine.archiver(&wal, &store, 1);
    wal.append(&history(32, 3)[1].1).unwrap();
    settle(&mut archiver, &machine.clock);
    assert_eq!(archiver.progress().problems, 1);
    assert!(store.get(&manifest_name(256), u64::MAX).is_err());
    let catalogue = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(catalogue.newest.0 > 260 && catalogue.problems.len() == 1, "{:?}", catalogue.problems);
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
}

#[test]
fn a_place_that_holds_nothing_any_more_is_not_begun_again() {
    let (machine, wal, faulty, archiver) = archived(33, 8);
    drop(archiver);
    // What is seen of a store that is not mounted.
    let empty: Arc<dyn Store> = FaultyStore::new(34, &machine.clock);
    let mut archiver = machine.archiver(&wal, &empty, 1);
    let error = archiver.step().unwrap_err();
    assert!(!error.passes() && error.to_string().contains("is mounted"), "{error}");
    assert!(matches!(archiver.progress().state, ArchiveState::Stopped { .. }));
    assert!(empty.folders("").unwrap().is_empty());
    // It is there again; and somebody says to begin again.
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    settle(&mut machine.archiver(&wal, &store, 1), &machine.clock);
    machine.vfs.remove_file(Path::new(NOTE)).unwrap();
    settle(&mut machine.archiver(&wal, &empty, 1), &machine.clock);
    assert_whole(&*empty, &wal);
}

#[test]
fn what_an_unknown_key_has_signed_is_not_believed() {
    let (machine, wal, faulty, archiver) = archived(35, 10);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    let (own, other) = (SigningKey::from_seed(&[5; 32]), SigningKey::from_seed(&[6; 32]));
    let plan = || {
        let newest = Target::Newest;
        RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), newest).unwrap()
    };
    believe("here", &plan().signers, &[own.agent_id()]).unwrap();
    // Whoever may put objects can put a manifest.
    let catalogue = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    let bytes = store.get(&manifest_name(catalogue.newest.0), u64::MAX).unwrap();
    let mut manifest = Manifest::open(&bytes).unwrap().0;
    (manifest.number, manifest.previous) = (catalogue.newest.0 + 1, Some(catalogue.newest.1));
    store.put_new(&manifest_name(manifest.number), &manifest.seal(&other)).unwrap();
    let error = believe("here", &plan().signers, &[own.agent_id()]).unwrap_err().to_string();
    assert!(error.contains(&other.agent_id().to_string()), "{error}");
    assert!(!error.contains(&own.agent_id().to_string()), "{error}");
    let status = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert_eq!(status.signers, plan().signers);
    let mut archiver = machine.archiver(&wal, &store, 1);
    let error = archiver.step().unwrap_err();
    assert!(matches!(error, RemoteError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains(&other.agent_id().to_string()), "{error}");
    // As one of ours it is.
    let config = stemedb_remote::ArchiveConfig {
        keys: vec![other.agent_id()],
        ..stemedb_remote::ArchiveConfig::new(NOTE)
    };
    let cutter = wal.cutter();
    let archiver = Archiver::new(Arc::clone(&store), cutter, own, machine.env.clone(), config);
    settle(&mut archiver.unwrap(), &machine.clock);
}

#[test]
fn lost_manifests_are_told_and_their_parts_archived_again() {
    let (machine, wal, faulty, archiver) = archived(4, 30);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop(archiver);
    let manifests = faulty.list(&format!("{LOG_ID}/{TIMELINE}/manifests"), "").unwrap();
    // In the middle: a gap that the archive itself tells.
    let name = manifests[7].name.clone();
    let kept = faulty.get(&name, u64::MAX).unwrap();
    faulty.remove(&name).unwrap();
    let status = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(!status.whole() && status.problems.len() >= 2, "{status:?}");
    let plan = RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, TIMELINE), Target::Newest);
    assert!(matches!(plan, Err(RemoteError::Gap { .. })), "{plan:?}");
    // One flipped bit is as bad.
    let mut flipped = kept.clone();
    flipped[kept.len() / 2] ^= 4;
    faulty.inner.overwrite(&name, flipped);
    let status = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(!status.whole(), "{status:?}");
    faulty.inner.overwrite(&name, kept);
    assert!(archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap().whole());

    // The newest ones: only the node knows.
    for manifest in &manifests[manifests.len() - 5..] {
        faulty.remove(&manifest.name).unwrap();
    }
    let shorter = archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(shorter.whole() && shorter.archived < wal.reader().durable().0);
    let mut archiver = machine.archiver(&wal, &store, 1);
    settle(&mut archiver, &machine.clock);
    assert_eq!(archiver.progress().lost_parts, 5);
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
    // All of them.
    drop(archiver);
    for manifest in faulty.list(&format!("{LOG_ID}/{TIMELINE}/manifests"), "").unwrap() {
        faulty.remove(&manifest.name).unwrap();
    }
    let mut archiver = machine.archiver(&wal, &store, 1);
    settle(&mut archiver, &machine.clock);
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
    faulty.assert_nothing_overwritten();
}

#[test]
fn an_archive_of_another_history_is_not_written_to() {
    let (machine, wal, faulty, archiver) = archived(5, 20);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop((archiver, wal));
    let before = faulty.list(&LOG_ID.to_string(), "").unwrap();
    // The same log and branch, other records: a folder that was copied and written to.
    let other = Machine::new(6);
    let mut wal = other.create();
    for (pause, group) in history(6, 20) {
        other.clock.sleep(pause);
        wal.append(&group).unwrap();
    }
    let mut archiver = other.archiver(&wal, &store, 1);
    let error = archiver.step().unwrap_err();
    assert!(matches!(error, RemoteError::Diverged { .. }) && !error.passes(), "{error}");
    assert!(matches!(archiver.progress().state, ArchiveState::Stopped { .. }));
    assert!(archiver.step().is_err());
    assert_eq!(faulty.list(&LOG_ID.to_string(), "").unwrap(), before);
    drop(machine);
}

#[test]
fn of_two_archivers_of_one_log_both_come_to_the_same_archive() {
    let machine = Machine::new(8);
    let faulty = FaultyStore::new(8, &machine.clock);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let mut wal = machine.create();
    let history = history(8, 50);
    wal.append(&history[0].1).unwrap();
    let mut archivers = [machine.archiver(&wal, &store, 1), machine.archiver(&wal, &store, 9_000)];
    let mut collided = 0;
    for (n, (pause, group)) in history.iter().enumerate().skip(1) {
        machine.clock.sleep(*pause);
        wal.append(group).unwrap();
        machine.clock.sleep(Duration::from_secs(6));
        if let Err(error) = archivers[n % 2].step() {
            assert!(error.passes(), "{error}");
            collided += 1;
        }
    }
    for archiver in &mut archivers {
        settle(archiver, &machine.clock);
    }
    assert!(collided > 3, "{collided}");
    faulty.assert_nothing_overwritten();
    assert!(archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap().whole());
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
}

/// More manifests than one checkpoint stands for.
#[test]
fn a_checkpoint_stands_for_the_manifests_before_it() {
    let machine = Machine::new(9);
    let faulty = FaultyStore::new(9, &machine.clock);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let mut wal = machine.create();
    let mut archiver = None;
    for (n, (pause, group)) in history(9, 700).into_iter().enumerate() {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
        let archiver = archiver.get_or_insert_with(|| machine.archiver(&wal, &store, 1));
        faulty.set(Faults { cut_silently: 20, ..Faults::default() });
        if n % 90 == 89 {
            *archiver = machine.archiver(&wal, &store, 1);
        }
        settle(archiver, &machine.clock);
    }
    faulty.set(Faults::default());
    let whole = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(whole.problems.is_empty() && whole.newest.0 > 700, "{:?}", whole.problems);
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
    // Without the others the checkpoints tell the same, and say that something is gone.
    for number in (1..512).filter(|number| number % 256 != 0) {
        let _ = faulty.remove(&format!("{LOG_ID}/{TIMELINE}/manifests/{number:020}.cbor"));
    }
    let without = Catalogue::load(&*store, LOG_ID, TIMELINE).unwrap().unwrap();
    assert_eq!(without.parts, whole.parts);
    assert!(!without.problems.is_empty());
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
}

#[test]
fn a_restored_log_is_archived_behind_what_it_shares() {
    let (machine, wal, faulty, archiver) = archived(10, 40);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    drop((archiver, wal, machine));
    let mut timeline = TIMELINE;
    for round in 0..4u8 {
        let machine = Machine::new(20 + u64::from(round));
        let newest =
            RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, timeline), Target::Newest);
        // Once inside a group, once at the very end.
        let back = if round == 3 { 0 } else { 7 + u64::from(round) };
        let target = Target::Position(Position(newest.unwrap().newest.0 - back));
        let plan =
            RestorePlan::of_archive(&*store, &machine.env, (LOG_ID, timeline), target).unwrap();
        let branch = Timeline([100 + round; 16]);
        let place = RestoreTo { dir: Path::new(DIR), timeline: branch, segment_bytes: SEGMENT };
        restore(&*store, &machine.env, &plan, place, &mut |_| ()).unwrap();
        let mut wal = machine.open(DIR).unwrap();
        for (_, group) in &history(30 + u64::from(round), 12)[1..] {
            wal.append(group).unwrap();
        }
        let parts_before = faulty.list(&LOG_ID.to_string(), "").unwrap().len();
        let mut archiver = machine.archiver(&wal, &store, 1);
        settle(&mut archiver, &machine.clock);
        let added = faulty.list(&LOG_ID.to_string(), "").unwrap().len() - parts_before;
        assert!(added < 2 * 16, "{added} objects: what is shared was archived again");
        // The log that it comes from goes on behind the place where it was left, but for the last.
        let left = if back == 0 { None } else { Some(timeline) };
        let found = leaves(&*store, LOG_ID).unwrap();
        assert!(found.contains(&branch), "{found:?}");
        assert!(left.is_none_or(|left| found.contains(&left)), "{found:?}");
        assert_eq!(left.is_some(), found.contains(&timeline));
        assert!(archive_status(&*store, LOG_ID, branch).unwrap().unwrap().whole());
        assert_eq!(root_of(&*store, branch, 1), wal.reader().root());
        timeline = branch;
    }
    // The first branch is still what it was.
    assert!(archive_status(&*store, LOG_ID, TIMELINE).unwrap().unwrap().whole());
    faulty.assert_nothing_overwritten();
}

#[test]
fn records_wait_no_longer_than_the_delay() {
    let machine = Machine::new(11);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut wal = machine.create();
    let history = history(11, 3);
    wal.append(&history[0].1).unwrap();
    let mut archiver = machine.archiver(&wal, &store, 1 << 20);
    while archiver.step().unwrap() == Step::Worked {}
    assert_eq!(archiver.progress().archived, Position::NONE);
    machine.clock.sleep(Duration::from_secs(6));
    wal.append(&history[1].1).unwrap();
    assert_eq!(archiver.step().unwrap(), Step::Idle);
    let progress = archiver.progress();
    assert_eq!(progress.lag, Duration::from_secs(6));
    assert!(progress.lag_bytes >= 4096 && progress.durable > progress.archived);
    machine.clock.sleep(Duration::from_secs(4));
    assert_eq!(archiver.step().unwrap(), Step::Worked);
    let progress = archiver.progress();
    assert_eq!((progress.archived, progress.lag), (progress.durable, Duration::ZERO));
    assert_eq!(archiver.step().unwrap(), Step::Idle);
}

#[test]
fn the_thread_archives_flushes_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let env = stemedb_io::Env::real();
    let config = stemedb_log::WalConfig {
        segment_bytes: 1 << 20,
        ..stemedb_log::WalConfig::new(dir.path().join("wal"))
    };
    let new = stemedb_log::Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (mut wal, _) = stemedb_log::Wal::open(config, env.clone(), new).unwrap();
    let history = history(12, 20);
    wal.append(&history[0].1).unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let config = stemedb_remote::ArchiveConfig {
        delay: Duration::from_secs(3_600),
        ..stemedb_remote::ArchiveConfig::new(dir.path().join("archived"))
    };
    let key = SigningKey::from_seed(&[5; 32]);
    let archiver = Archiver::new(Arc::clone(&store), wal.cutter(), key, env, config).unwrap();
    let handle = archiver.start().unwrap();
    for (_, group) in &history[1..] {
        wal.append(group).unwrap();
    }
    let durable = wal.reader().durable().0;
    assert!(handle.flush(durable, Duration::from_secs(20)), "{:?}", handle.progress());
    assert!(!handle.flush(durable.next(), Duration::from_millis(50)), "beyond what is durable");
    drop(handle);
    assert_eq!(root_of(&*store, TIMELINE, 1), wal.reader().root());
}

#[test]
fn a_store_that_overwrites_is_refused() {
    struct Careless(MemoryStore);
    impl Store for Careless {
        fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
            self.0.overwrite(name, bytes.into());
            Ok(Put::Created)
        }
        fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
            self.0.get(name, most)
        }
        fn list(
            &self,
            folder: &str,
            after: &str,
        ) -> Result<Vec<stemedb_remote::Listed>, StoreError> {
            self.0.list(folder, after)
        }
        fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
            self.0.folders(folder)
        }
        fn remove(&self, name: &str) -> Result<(), StoreError> {
            self.0.remove(name)
        }
        fn place(&self) -> String {
            "careless".into()
        }
        fn keys(&self) -> &stemedb_remote::EncryptionKeys {
            self.0.keys()
        }
    }
    let rng = SimRng::new(1);
    let error = probe(&Careless(MemoryStore::default()), &rng).unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    let good = MemoryStore::default();
    probe(&good, &rng).unwrap();
    assert!(good.list("probe", "").unwrap().is_empty());
}
