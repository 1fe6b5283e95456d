//! With a key nothing is stored in the clear, and keys are changed without losing what is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::{Clock, Open, Vfs};
use stemedb_log::{Log, NewEntry, Wal};
use stemedb_model::{Hash, Position, SigningKey, Timeline};
use stemedb_remote::{
    Backup, BackupOptions, Keep, KeyId, Made, MemoryStore, RemoteError, RestorePlan, RestoreTo,
    Store, Target, archive_status, list_backups, make_backup, prune_backups, restore,
    restore_files, verify_archive, verify_backup,
};
use support::*;

const NODE: &str = "/data/node";
const BRANCH: Timeline = Timeline([3; 16]);
/// What the node keeps secret.
const SECRET: &[u8] = b"the root key of this very node";

fn key_id(seed: u64) -> KeyId {
    encryption_keys(&[seed]).writes_with().unwrap()
}

fn append(machine: &Machine, wal: &mut Wal, groups: &[(Duration, Vec<NewEntry>)]) {
    for (pause, group) in groups {
        machine.clock.sleep(*pause);
        wal.append(group).unwrap();
    }
}

fn world(seed: u64) -> (Machine, Wal) {
    let machine = Machine::new(seed);
    let mut wal = machine.create();
    append(&machine, &mut wal, &history(seed, 40));
    machine.vfs.put(&Path::new(NODE).join("root.key"), SECRET.to_vec()).unwrap();
    machine.vfs.put(&Path::new(NODE).join("same.key"), SECRET.to_vec()).unwrap();
    machine.vfs.put(&Path::new(NODE).join("nothing"), Vec::new()).unwrap();
    (machine, wal)
}

fn backup(machine: &Machine, wal: &Wal, store: &dyn Store) -> Made {
    let options = BackupOptions { part_bytes: 20_000, ..BackupOptions::new(NODE) };
    let key = SigningKey::from_seed(&[5; 32]);
    make_backup(store, &machine.env, &mut wal.cutter(), &key, &options, &mut |_| ()).unwrap()
}

/// The log root and the root key of what comes back.
fn bring_back(store: &dyn Store, one: &Backup) -> Result<(Position, Hash), RemoteError> {
    let to = Machine::new(50);
    let plan = one.plan(store, &to.env, Target::Newest)?;
    let place = RestoreTo { dir: Path::new(DIR), timeline: BRANCH, segment_bytes: SEGMENT };
    restore(store, &to.env, &plan, place, &mut |_| ())?;
    restore_files(store, &to.env, one, Path::new(NODE), &[])?;
    let file = to.vfs.open(&Path::new(NODE).join("root.key"), Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, SECRET);
    Ok(to.open(DIR).unwrap().reader().root())
}

/// Everything that is stored.
fn stored(store: &dyn Store) -> Vec<Vec<u8>> {
    let listed = store.list(&LOG_ID.to_string(), "").unwrap();
    listed.iter().map(|one| store.get(&one.name, u64::MAX).unwrap()).collect()
}

fn shows(objects: &[Vec<u8>], what: &[u8]) -> bool {
    objects.iter().any(|object| object.windows(what.len()).any(|window| window == what))
}

/// What somebody would look for: subjects and long values are in records as they are.
fn readable(store: &dyn Store) -> (bool, bool) {
    let objects = stored(store);
    (shows(&objects, SECRET), shows(&objects, b"drugs/") || shows(&objects, b"xxxxxxxx"))
}

#[test]
fn nothing_of_a_backup_is_in_the_clear_and_the_next_one_sends_only_what_is_new() {
    let (machine, mut wal) = world(1);
    let clear: Arc<dyn Store> = Arc::new(MemoryStore::default());
    backup(&machine, &wal, &*clear);
    assert_eq!(readable(&*clear), (true, true), "or the next look would prove nothing");

    let memory: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = keyed(&memory, &[1]);
    let first = backup(&machine, &wal, &*store);
    assert_eq!(readable(&*memory), (false, false));
    assert_eq!(first.backup.keys(), BTreeSet::from([Some(key_id(1))]));
    let again = backup(&machine, &wal, &*store);
    assert_eq!((again.sent, again.reused), (0, first.backup.bytes()));
    append(&machine, &mut wal, &history(2, 10)[1..]);
    let third = backup(&machine, &wal, &*store);
    assert!(third.sent > 0 && third.sent < third.backup.bytes() / 2, "{}", third.sent);
    for one in [&first, &again, &third] {
        assert_eq!(verify_backup(&*store, &machine.env, &one.backup, &mut |_| ()).unwrap(), []);
    }
    assert_eq!(bring_back(&*store, &third.backup).unwrap(), wal.reader().root());
    // Two files of one content are two objects: that they are alike is nobody's business.
    let hashes: BTreeSet<Hash> = third.backup.files.iter().map(|file| file.hash).collect();
    assert_eq!(hashes.len(), third.backup.files.len());

    // Where a file alone needs a key that is not here, the log is not restored either.
    let mut half = third.backup.clone();
    half.files[0].key_id = Some(key_id(9));
    let plan = half.plan(&*store, &machine.env, Target::Newest);
    assert!(
        matches!(plan, Err(RemoteError::Key { key_id: id, .. }) if id == key_id(9)),
        "{plan:?}"
    );

    // Without the key, or with another one, it is named before anything is done.
    for keys in [&[][..], &[2]] {
        let store = keyed(&memory, keys);
        let verified = verify_backup(&*store, &machine.env, &third.backup, &mut |_| ());
        for error in [verified.unwrap_err(), bring_back(&*store, &third.backup).unwrap_err()] {
            assert!(matches!(error, RemoteError::Key { key_id: id, .. } if id == key_id(1)));
            assert!(error.to_string().contains(&key_id(1).to_string()), "{error}");
        }
        let files = Machine::new(60);
        assert!(restore_files(&*store, &files.env, &third.backup, Path::new(NODE), &[]).is_err());
        assert!(files.vfs.read_dir(Path::new(NODE)).unwrap().is_empty());
    }
}

#[test]
fn after_a_change_of_keys_the_old_one_is_needed_until_its_backups_are_pruned() {
    let (machine, wal) = world(3);
    let memory: Arc<dyn Store> =
        Arc::new(MemoryStore::with_clock(Arc::clone(&machine.clock) as Arc<dyn Clock>));
    wal.repack_now().unwrap();
    let clear = backup(&machine, &wal, &*memory).backup;
    assert_eq!(clear.keys(), BTreeSet::from([None]));
    machine.clock.sleep(Duration::from_secs(60));
    let old = backup(&machine, &wal, &*keyed(&memory, &[1]));
    machine.clock.sleep(Duration::from_secs(60));
    // What was in the clear is not relied on.
    assert_eq!(old.reused, 0);
    let store = keyed(&memory, &[2, 1]);
    let new = backup(&machine, &wal, &*store);
    assert_eq!((new.reused, new.backup.keys()), (0, BTreeSet::from([Some(key_id(2))])));
    for one in [&clear, &old.backup, &new.backup] {
        assert_eq!(bring_back(&*store, one).unwrap(), wal.reader().root());
    }
    machine.clock.sleep(Duration::from_secs(3 * 24 * 3_600));
    let newest = backup(&machine, &wal, &*store);
    assert_eq!(newest.sent, 0);
    // Pruning needs no key.
    let keep = Keep { last: 2, daily: 0, weekly: 0 };
    let pruned = prune_backups(&*memory, &machine.env, LOG_ID, keep, false).unwrap();
    assert_eq!(pruned.backups.len(), 2);
    let left = list_backups(&*memory, &machine.env, LOG_ID).unwrap().good;
    let keys: BTreeSet<_> = left.iter().flat_map(|(one, _)| one.keys()).collect();
    assert_eq!(keys, BTreeSet::from([Some(key_id(2))]));
    let store = keyed(&memory, &[2]);
    for (one, _) in &left {
        assert_eq!(verify_backup(&*store, &machine.env, one, &mut |_| ()).unwrap(), []);
        assert_eq!(bring_back(&*store, one).unwrap(), wal.reader().root());
    }
    assert_eq!(readable(&*memory), (false, false));
}

#[test]
fn an_archive_goes_on_with_a_new_key_and_is_restored_with_both() {
    let machine = Machine::new(4);
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let history = history(4, 90);
    let mut wal = machine.create();
    let identity = (LOG_ID, TIMELINE);
    // In the clear, then with one key, then with another.
    for (keys, from) in [(&[][..], 0), (&[1], 30), (&[2, 1], 60)] {
        let before = stored(&*memory).len();
        append(&machine, &mut wal, &history[from..from + 30]);
        let store = keyed(&memory, keys);
        settle(&mut machine.archiver(&wal, &store, 9_000), &machine.clock);
        assert!(stored(&*memory).len() > before);
    }
    let status = archive_status(&*memory, LOG_ID, TIMELINE).unwrap().unwrap();
    assert!(status.whole());
    let keys: Vec<_> = status.keys.keys().copied().collect();
    let mut expected = vec![None, Some(key_id(1)), Some(key_id(2))];
    expected.sort();
    assert_eq!(keys, expected);

    let store = keyed(&memory, &[2, 1]);
    let env = &machine.env;
    assert_eq!(verify_archive(&*store, env, identity, &mut |_| ()).unwrap().unwrap(), []);
    let plan = RestorePlan::of_archive(&*store, env, identity, Target::Newest).unwrap();
    let place = RestoreTo { dir: Path::new("/back"), timeline: BRANCH, segment_bytes: SEGMENT };
    let restored = restore(&*store, env, &plan, place, &mut |_| ()).unwrap();
    assert_eq!((restored.end.position, restored.end.chain), wal.reader().root());
    // A plan that needs a key which is not here is none; an earlier one may not need it.
    for (keys, missing) in [(&[2][..], 1), (&[1], 2), (&[], 1)] {
        let store = keyed(&memory, keys);
        match RestorePlan::of_archive(&*store, env, identity, Target::Newest) {
            Err(RemoteError::Key { key_id: id, .. }) => assert_eq!(id, key_id(missing)),
            other => panic!("{other:?}"),
        }
        let early = Target::Position(Position(10));
        RestorePlan::of_archive(&*store, env, identity, early).unwrap();
    }
    // A part that is lost is archived again with the key in force.
    let lost = plan.parts.iter().find(|part| part.entry.key_id == Some(key_id(1))).unwrap();
    memory.remove(&lost.name).unwrap();
    settle(&mut machine.archiver(&wal, &store, 9_000), &machine.clock);
    let mut archiver = machine.archiver(&wal, &store, 9_000);
    archiver.step().unwrap();
    archiver.step().unwrap();
    let again = RestorePlan::of_archive(&*store, env, identity, Target::Newest).unwrap();
    let first = lost.entry.content.first();
    let part = again.parts.iter().find(|part| part.entry.content.first() == first).unwrap();
    assert_eq!(part.entry.key_id, Some(key_id(2)));
    assert_eq!(verify_archive(&*store, env, identity, &mut |_| ()).unwrap().unwrap(), []);
}

#[test]
fn an_object_in_the_place_of_another_is_found_even_if_the_map_says_so() {
    let (machine, wal) = world(5);
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = keyed(&memory, &[1]);
    let mut one = backup(&machine, &wal, &*store).backup;
    let [_, root, same] = one.files.as_mut_slice() else { panic!("{:?}", one.files) };
    assert_eq!((root.path.as_str(), same.path.as_str()), ("root.key", "same.key"));
    std::mem::swap(&mut root.hash, &mut same.hash);
    let problems = verify_backup(&*store, &machine.env, &one, &mut |_| ()).unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].1.contains("does not open it"), "{problems:?}");
    assert!(bring_back(&*store, &one).is_err());
}
