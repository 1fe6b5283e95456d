//! Backups: incremental, verified to the last bit, pruned without losing what is needed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use stemedb_io::{Clock, Open, Vfs};
use stemedb_log::{Cutter, Log, Wal};
use stemedb_model::{Position, SigningKey, Timeline};
use stemedb_remote::{
    Backup, BackupOptions, BadManifest, EncryptionKeys, Keep, Listed, Made, MemoryStore, Put,
    RemoteError, RestoreTo, Store, StoreError, Target, give_up_backup, list_backups, make_backup,
    prune_backups, prune_branch, restore, restore_files, verify_backup,
};
use support::*;

const NODE: &str = "/data/node";
const BRANCH: Timeline = Timeline([3; 16]);

fn put_file(machine: &Machine, path: &str, bytes: &[u8]) {
    let path = Path::new(NODE).join(path);
    machine.vfs.create_dir_all(path.parent().unwrap()).unwrap();
    let _ = machine.vfs.remove_file(&path);
    let file = machine.vfs.open(&path, Open::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

fn machine_forgets(machine: &Machine, path: &str) {
    machine.vfs.remove_file(&Path::new(NODE).join(path)).unwrap();
}

fn backup(machine: &Machine, wal: &Wal, store: &dyn Store) -> Result<Made, RemoteError> {
    backup_with(machine, wal.cutter(), store)
}

fn backup_with(
    machine: &Machine,
    mut cutter: Cutter,
    store: &dyn Store,
) -> Result<Made, RemoteError> {
    let options = BackupOptions {
        leave_out: vec!["archived".into()],
        part_bytes: 20_000,
        ..BackupOptions::new(NODE)
    };
    let key = SigningKey::from_seed(&[5; 32]);
    let mut told = Vec::new();
    let made = make_backup(store, &machine.env, &mut cutter, &key, &options, &mut |at| {
        told.push(at);
    });
    assert!(told.is_sorted());
    made
}

/// A store with the clock of the machine.
fn with_clock(machine: &Machine) -> MemoryStore {
    MemoryStore::with_clock(Arc::clone(&machine.clock) as Arc<dyn Clock>)
}

/// A database with files of its own.
fn world(seed: u64, groups: usize) -> (Machine, Wal) {
    let machine = Machine::new(seed);
    let mut wal = machine.create();
    for (pause, group) in history(seed, groups) {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
    }
    put_file(&machine, "root.key", b"secret");
    put_file(&machine, "custodial/alice.key", b"another");
    put_file(&machine, "audit/1.audit", &[7; 40_000]);
    put_file(&machine, "archived", b"not taken");
    put_file(&machine, "keys.new", b"on its way");
    (machine, wal)
}

fn bring_back(store: &dyn Store, one: &Backup) -> (Machine, Wal) {
    let to = Machine::new(50);
    let plan = one.plan(store, &to.env, Target::Newest).unwrap();
    let place = RestoreTo { dir: Path::new(DIR), timeline: BRANCH, segment_bytes: SEGMENT };
    let restored = restore(store, &to.env, &plan, place, &mut |_| ()).unwrap();
    assert_eq!(restored.end, one.end);
    let files = restore_files(store, &to.env, one, Path::new(NODE), &[]).unwrap();
    assert_eq!(files, one.files.len() as u64);
    let wal = to.open(DIR).unwrap();
    (to, wal)
}

#[test]
fn a_second_backup_sends_only_what_is_new() {
    let (machine, mut wal) = world(1, 120);
    let store = MemoryStore::default();
    let first = backup(&machine, &wal, &store).unwrap();
    assert_eq!(first.backup.end.position, wal.reader().durable().0);
    assert_eq!((first.sent, first.reused), (first.backup.bytes(), 0));
    let paths: Vec<&str> = first.backup.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["audit/1.audit", "custodial/alice.key", "root.key"]);
    let again = backup(&machine, &wal, &store).unwrap();
    assert_eq!((again.sent, again.reused), (0, first.backup.bytes()));
    assert_eq!(again.backup.parts, first.backup.parts);
    for (_, group) in &history(2, 30)[1..] {
        wal.append(group).unwrap();
    }
    wal.repack_now().unwrap();
    put_file(&machine, "root.key", b"replaced");
    let third = backup(&machine, &wal, &store).unwrap();
    assert!(third.sent > 0 && third.sent < third.backup.bytes() / 2, "{}", third.sent);
    for (one, records) in [(&first, first.backup.end.position), (&third, wal.reader().durable().0)]
    {
        let (to, restored) = bring_back(&store, &one.backup);
        assert_eq!(restored.reader().durable().0, records);
        let key = to.vfs.open(&Path::new(NODE).join("root.key"), Open::Read).unwrap();
        let expected = if one.backup.id == first.backup.id { 6 } else { 8 };
        assert_eq!(key.len().unwrap(), expected);
        // A folder with a file that the backup does not have is left as it is, before anything is put.
        put_file(&to, "audit/of-somebody", b"else");
        machine_forgets(&to, "root.key");
        let error = restore_files(&store, &to.env, &one.backup, Path::new(NODE), &[]).unwrap_err();
        assert!(error.to_string().contains("audit/of-somebody is there and is not"), "{error}");
        assert!(!to.vfs.exists(&Path::new(NODE).join("root.key")).unwrap());
        machine_forgets(&to, "audit/of-somebody");
        // What is there already is what it was to be; another file is not replaced.
        let again = restore_files(&store, &to.env, &one.backup, Path::new(NODE), &[]);
        assert_eq!(again.unwrap(), one.backup.files.len() as u64);
        put_file(&to, "root.key", b"of somebody else");
        let error = restore_files(&store, &to.env, &one.backup, Path::new(NODE), &[]).unwrap_err();
        assert!(error.to_string().contains("root.key is there and is not"), "{error}");
        let key = to.vfs.open(&Path::new(NODE).join("root.key"), Open::Read).unwrap();
        assert_eq!(key.len().unwrap(), 16);
    }
    assert_eq!(bring_back(&store, &third.backup).1.reader().root(), wal.reader().root());
    let listed = list_backups(&store, &machine.env, LOG_ID).unwrap();
    assert_eq!(listed.good.len(), 3);
}

#[test]
fn one_flipped_bit_anywhere_is_found() {
    let (machine, wal) = world(3, 8);
    let store = MemoryStore::default();
    let made = backup(&machine, &wal, &store).unwrap().backup;
    let verify = || {
        let listed = list_backups(&store, &machine.env, LOG_ID).unwrap();
        match listed.good.as_slice() {
            [(one, _)] => verify_backup(&store, &machine.env, one, &mut |_| ()).unwrap().len(),
            _ => listed.bad.len(),
        }
    };
    assert_eq!(verify(), 0);
    for object in store.list(&LOG_ID.to_string(), "").unwrap() {
        let kept = store.get(&object.name, u64::MAX).unwrap();
        for at in (0..kept.len()).step_by(1 + kept.len() / 150) {
            let mut flipped = kept.clone();
            flipped[at] ^= 1 << (at % 8);
            store.overwrite(&object.name, flipped);
            assert_eq!(verify(), 1, "{}, byte {at}", object.name);
        }
        store.overwrite(&object.name, kept[..kept.len() - 1].to_vec());
        assert_eq!(verify(), 1, "{}", object.name);
        store.remove(&object.name).unwrap();
        if object.name.ends_with(".cbor") {
            assert!(list_backups(&store, &machine.env, LOG_ID).unwrap().good.is_empty());
        } else {
            assert_eq!(verify(), 1, "{}", object.name);
        }
        store.overwrite(&object.name, kept);
    }
    assert_eq!(verify(), 0);
    assert_eq!(bring_back(&store, &made).1.reader().root(), wal.reader().root());
}

#[test]
fn pruning_keeps_what_the_kept_backups_need() {
    let (machine, mut wal) = world(4, 40);
    let store = with_clock(&machine);
    let day = Duration::from_secs(24 * 3_600);
    let mut made = Vec::new();
    for round in 0..12 {
        for (_, group) in &history(100 + round, 8)[1..] {
            wal.append(group).unwrap();
        }
        put_file(&machine, "audit/1.audit", &vec![round as u8; 5_000]);
        let one = backup(&machine, &wal, &store).unwrap().backup;
        made.push((one.id, one.made_at.0));
        machine.clock.sleep(day / 2);
    }
    let keep = Keep { last: 2, daily: 3, weekly: 2 };
    let before = store.list(&LOG_ID.to_string(), "").unwrap();
    let planned = prune_backups(&store, &machine.env, LOG_ID, keep, true).unwrap();
    assert_eq!(store.list(&LOG_ID.to_string(), "").unwrap(), before);
    assert!(!planned.backups.is_empty() && planned.objects > 0 && planned.bytes > 0);
    assert_eq!(prune_backups(&store, &machine.env, LOG_ID, keep, false).unwrap(), planned);
    let left = list_backups(&store, &machine.env, LOG_ID).unwrap().good;
    let left_ids: Vec<&String> = left.iter().map(|(one, _)| &one.id).collect();
    // Two of the newest, the newest of each of three days, of each of two weeks that begin on Mondays.
    let expected = |times: &[(String, i64)]| {
        let mut expected: BTreeSet<String> =
            times.iter().rev().take(2).map(|one| one.0.clone()).collect();
        for (count, period, shift) in [(3, 86_400_000, 0), (2, 7 * 86_400_000, 3 * 86_400_000)] {
            let newest: BTreeMap<i64, String> =
                times.iter().map(|(id, at)| ((at + shift) / period, id.clone())).collect();
            expected.extend(newest.into_values().rev().take(count));
        }
        expected
    };
    assert_eq!(left_ids, expected(&made).iter().collect::<Vec<_>>());
    for (one, _) in &left {
        assert_eq!(verify_backup(&store, &machine.env, one, &mut |_| ()).unwrap(), []);
    }
    assert_eq!(bring_back(&store, &left.last().unwrap().0).1.reader().root(), wal.reader().root());
    // Nothing more goes, and the newest one never.
    let again = prune_backups(&store, &machine.env, LOG_ID, keep, false).unwrap();
    assert_eq!((again.backups.len(), again.objects), (0, 0));
    let none = Keep { last: 0, daily: 0, weekly: 0 };
    prune_backups(&store, &machine.env, LOG_ID, none, false).unwrap();
    let left = list_backups(&store, &machine.env, LOG_ID).unwrap().good;
    assert_eq!(left.len(), 1);
    assert_eq!(verify_backup(&store, &machine.env, &left[0].0, &mut |_| ()).unwrap(), []);
    // What cannot be read may need anything.
    let name = format!("{LOG_ID}/backups/{}.cbor", left[0].0.id);
    store.overwrite(&name, b"nonsense".to_vec());
    assert!(prune_backups(&store, &machine.env, LOG_ID, none, false).is_err());
    // Until somebody gives that one up, and no other.
    let good = backup(&machine, &wal, &store).unwrap().backup.id;
    let other = format!("{LOG_ID}/backups/{good}.cbor");
    let own = [SigningKey::from_seed(&[5; 32]).agent_id()];
    let give_up =
        |name: &str, dry_run| give_up_backup(&store, &machine.env, LOG_ID, name, &own, dry_run);
    assert!(give_up(&other, false).is_err() && give_up(&good, false).is_err());
    assert_eq!(give_up(&left[0].0.id, true).unwrap(), name);
    assert_eq!(give_up(&name, true).unwrap(), name);
    assert!(store.get(&name, 99).is_ok());
    give_up(&name, false).unwrap();
    // And what somebody else has signed.
    let mut forged = left[0].0.clone();
    forged.id = format!("{:015}-{}", START_MS * 2, "0".repeat(16));
    let name = format!("{LOG_ID}/backups/{}.cbor", forged.id);
    store.put_new(&name, &forged.seal(&SigningKey::from_seed(&[6; 32]))).unwrap();
    assert_eq!(give_up(&forged.id, false).unwrap(), name);
    prune_backups(&store, &machine.env, LOG_ID, none, false).unwrap();
    assert_eq!(list_backups(&store, &machine.env, LOG_ID).unwrap().good.len(), 1);
}

#[test]
fn a_backup_is_of_one_position_while_the_log_is_written() {
    let (machine, mut wal) = world(5, 30);
    let store = FaultyStore::new(5, &machine.clock);
    store.set(Faults { refused: 100, answer_lost: 50, cut_short: 50, ..Faults::default() });
    let options = BackupOptions { part_bytes: 2_000, ..BackupOptions::new(NODE) };
    let key = SigningKey::from_seed(&[5; 32]);
    let mut more = history(6, 40).into_iter().skip(1);
    let mut roots = vec![wal.reader().root()];
    let mut cutter = wal.cutter();
    let made = make_backup(&*store, &machine.env, &mut cutter, &key, &options, &mut |_| {
        if let Some((_, group)) = more.next() {
            wal.append(&group).unwrap();
            roots.push(wal.reader().root());
        }
    });
    store.set(Faults::default());
    let made = made.unwrap().backup;
    assert!(roots.contains(&(made.end.position, made.end.chain)));
    assert!(made.end.position > Position(1) && roots.len() > 3);
    assert_eq!(verify_backup(&*store, &machine.env, &made, &mut |_| ()).unwrap(), []);
    assert_eq!(bring_back(&*store, &made).1.reader().root(), (made.end.position, made.end.chain));
    store.assert_nothing_overwritten();
}

#[test]
fn pruning_leaves_what_was_put_within_a_day() {
    let (machine, wal) = world(7, 10);
    let store = with_clock(&machine);
    let old = format!("{LOG_ID}/files/{}", "0".repeat(64));
    store.put_new(&old, b"nobody needs it").unwrap();
    machine.clock.sleep(Duration::from_secs(23 * 3_600));
    // What a backup that is being made has put: no map names it yet.
    let young = format!("{LOG_ID}/files/{}", "1".repeat(64));
    store.put_new(&young, b"a map will name it").unwrap();
    backup(&machine, &wal, &store).unwrap();
    let prune = |machine: &Machine| {
        let keep = Keep { last: 1, daily: 0, weekly: 0 };
        prune_backups(&store, &machine.env, LOG_ID, keep, false).unwrap().objects
    };
    assert_eq!(prune(&machine), 0);
    // A clock that is days ahead of that of the store makes nothing old.
    let ahead = Machine::new(8);
    ahead.clock.sleep(Duration::from_secs(9 * 24 * 3_600));
    assert_eq!(prune(&ahead), 0);
    machine.clock.sleep(Duration::from_secs(2 * 3_600));
    backup(&machine, &wal, &store).unwrap();
    assert_eq!(prune(&machine), 1);
    assert!(store.get(&old, 99).is_err() && store.get(&young, 99).is_ok());
}

#[test]
fn a_file_whose_name_a_backup_cannot_hold_is_told() {
    let (machine, wal) = world(9, 3);
    let store = MemoryStore::default();
    put_file(&machine, "audit/a\\b", b"cannot be joined to a folder everywhere");
    let error = backup(&machine, &wal, &store).unwrap_err().to_string();
    assert!(error.contains("/data/node/audit/a\\b has a name"), "{error}");
    assert!(store.list(&format!("{LOG_ID}/backups"), "").unwrap().is_empty());
}

/// A signature says who has made a map, not that its names are harmless.
#[test]
fn a_map_whose_names_lead_out_is_no_backup() {
    let (machine, wal) = world(13, 3);
    let store = MemoryStore::default();
    let made = backup(&machine, &wal, &store).unwrap().backup;
    let name = format!("{LOG_ID}/backups/{}.cbor", made.id);
    let key = SigningKey::from_seed(&[5; 32]);
    let put = |change: &dyn Fn(&mut Backup)| {
        let mut changed = made.clone();
        change(&mut changed);
        let bytes = changed.seal(&key);
        store.overwrite(&name, bytes.clone());
        (Backup::open(&bytes), list_backups(&store, &machine.env, LOG_ID).unwrap())
    };
    let (opened, listed) = put(&|_| ());
    assert_eq!(opened.unwrap().1, key.agent_id(), "the signature is what it is to be");
    assert_eq!((listed.good.len(), listed.bad.len()), (1, 0));
    // Among others, first and last.
    for path in LEAD_OUT {
        for at in [0, made.files.len() - 1] {
            let (opened, listed) = put(&|one| one.files[at].path = path.to_owned());
            let problem = format!("{path} is no path below a folder");
            assert_eq!(opened.unwrap_err(), BadManifest::Damaged(problem.clone()));
            assert!(listed.good.is_empty());
            assert_eq!(listed.bad, [(name.clone(), problem)], "it is told by its name");
        }
    }
    // Its own name is that of its object, so it leads nowhere either.
    let (_, listed) = put(&|one| one.id = format!("../backups/{}", made.id));
    assert!(listed.good.is_empty());
    assert_eq!(listed.bad, [(name.clone(), "it is the manifest of another backup".into())]);
}

type Act = Box<dyn FnOnce(&MemoryStore) + Send>;

/// Something happens in the store once, right before a request.
struct Meanwhile {
    store: Arc<MemoryStore>,
    /// Before this request of a name that begins so.
    before: (Request, String),
    act: Mutex<Option<Act>>,
}

#[derive(PartialEq)]
enum Request {
    Put,
    /// Once it is known what is there.
    List,
    Remove,
}

impl Meanwhile {
    fn look(&self, request: Request, name: &str) {
        if request == self.before.0
            && name.starts_with(&self.before.1)
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act(&self.store);
        }
    }
}

impl Store for Meanwhile {
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.look(Request::Put, name);
        self.store.put_new(name, bytes)
    }
    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        self.store.get(name, most)
    }
    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = self.store.list(folder, after);
        self.look(Request::List, folder);
        listed
    }
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.store.folders(folder)
    }
    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.look(Request::Remove, name);
        self.store.remove(name)
    }
    fn place(&self) -> String {
        "meanwhile".into()
    }
    fn keys(&self) -> &EncryptionKeys {
        self.store.keys()
    }
}

#[test]
fn a_backup_that_lost_something_while_it_was_made_leaves_no_map() {
    let (machine, wal) = world(10, 20);
    let files = format!("{LOG_ID}/files");
    // When everything else is there and the map comes; and while files are still sent.
    for name in [format!("{LOG_ID}/backups"), files.clone()] {
        let (store, before) = (Arc::new(with_clock(&machine)), (Request::Put, name));
        let store = Meanwhile { store, before, act: Mutex::new(None) };
        // A part that is not sent again.
        let first = backup(&machine, &wal, &*store.store).unwrap().backup.parts.remove(0);
        let part = format!("{files}/{}", first.hash);
        let lose: Act = Box::new(move |store: &MemoryStore| store.remove(&part).unwrap());
        *store.act.lock().unwrap() = Some(lose);
        put_file(&machine, "root.key", b"so that there is something to send");
        let made = backup(&machine, &wal, &store);
        assert!(matches!(made, Err(RemoteError::Damaged { .. })), "{made:?}");
        let left = list_backups(&*store.store, &machine.env, LOG_ID).unwrap();
        assert_eq!((left.good.len(), left.bad.len()), (1, 0));
    }
}

#[test]
fn pruning_spares_what_a_backup_beside_it_names() {
    let (machine, wal) = world(11, 20);
    let day = Duration::from_secs(24 * 3_600);
    let store = Meanwhile {
        store: Arc::new(with_clock(&machine)),
        before: (Request::List, format!("{LOG_ID}/files")),
        act: Mutex::new(None),
    };
    put_file(&machine, "root.key", b"the first one");
    let mut again = backup(&machine, &wal, &store).unwrap().backup;
    machine.clock.sleep(day * 3);
    put_file(&machine, "root.key", b"the second one");
    backup(&machine, &wal, &store).unwrap();
    // A third one, with the file of the first, is there as soon as the objects are listed.
    again.id = format!("{:015}-{}", START_MS * 2, "0".repeat(16));
    let (name, bytes) = (
        format!("{LOG_ID}/backups/{}.cbor", again.id),
        again.seal(&SigningKey::from_seed(&[5; 32])),
    );
    *store.act.lock().unwrap() = Some(Box::new(move |store: &MemoryStore| {
        store.put_new(&name, &bytes).unwrap();
    }));
    let keep = Keep { last: 1, daily: 0, weekly: 0 };
    let pruned = prune_backups(&store, &machine.env, LOG_ID, keep, false).unwrap();
    assert_eq!((pruned.backups.len(), pruned.objects), (1, 0));
    assert_eq!(verify_backup(&store, &machine.env, &again, &mut |_| ()).unwrap(), []);
}

/// A store in which `act` happens once before a request, and others see the same objects.
fn meanwhile(store: &Arc<MemoryStore>, before: (Request, &str), act: Act) -> Meanwhile {
    let before = (before.0, format!("{LOG_ID}/{}", before.1));
    Meanwhile { store: Arc::clone(store), before, act: Mutex::new(Some(act)) }
}

/// Pruning has looked at the maps and is about to remove; the backup, which relies on what the map of
/// an older one named, puts its own map and looks for the last time; then both go on.
#[test]
fn of_pruning_and_a_backup_one_sees_the_other() {
    let (machine, wal) = world(18, 30);
    let store = Arc::new(with_clock(&machine));
    backup(&machine, &wal, &*store).unwrap();
    machine.clock.sleep(Duration::from_secs(3 * 24 * 3_600));
    // The newest one needs another key file; the one that is being made that of the first.
    put_file(&machine, "root.key", b"the second one");
    backup(&machine, &wal, &*store).unwrap();
    put_file(&machine, "root.key", b"secret");
    let (at_map, is_at_map) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let wait: Act = Box::new(move |_: &MemoryStore| {
        at_map.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    let of_backup = meanwhile(&store, (Request::Put, "backups"), wait);
    let keep = Keep { last: 1, daily: 0, weekly: 0 };
    let made = std::thread::scope(|scope| {
        let (cutter, machine) = (wal.cutter(), &machine);
        let made = scope.spawn(|| backup_with(machine, cutter, &of_backup));
        is_at_map.recv().unwrap();
        let (ended, has_ended) = mpsc::channel();
        let beside: Act = Box::new(move |_: &MemoryStore| {
            go_on.send(()).unwrap();
            has_ended.recv().unwrap();
        });
        let of_pruning = meanwhile(&store, (Request::Remove, "files"), beside);
        let pruned =
            scope.spawn(move || prune_backups(&of_pruning, &machine.env, LOG_ID, keep, false));
        let made = made.join().unwrap();
        ended.send(()).unwrap();
        assert_eq!(
            pruned.join().unwrap().unwrap().objects,
            1,
            "the file of the first is not removed"
        );
        made
    });
    let error = made.unwrap_err().to_string();
    assert!(error.contains("about to remove it; make the backup again"), "{error}");
    // Made again it is whole, and nothing is left behind.
    let again = backup(&machine, &wal, &*store).unwrap().backup;
    assert_eq!(verify_backup(&*store, &machine.env, &again, &mut |_| ()).unwrap(), []);
    assert_eq!(list_backups(&*store, &machine.env, LOG_ID).unwrap().good.len(), 2);
    assert!(store.list(&format!("{LOG_ID}/pruning"), "").unwrap().is_empty());
}

#[test]
fn what_pruning_that_broke_off_had_announced_is_sent_again() {
    let (machine, mut wal) = world(19, 20);
    let store = with_clock(&machine);
    wal.append(&history(20, 2)[1].1).unwrap();
    wal.repack_now().unwrap();
    let first = backup(&machine, &wal, &store).unwrap().backup;
    let all = store.list(&format!("{LOG_ID}/files"), "").unwrap();
    let text: String = all.iter().map(|one| format!("{}\n", one.name)).collect();
    let list = format!("{LOG_ID}/pruning/{:015}-{}", START_MS, "0".repeat(16));
    store.put_new(&list, text.as_bytes()).unwrap();
    let second = backup(&machine, &wal, &store).unwrap();
    assert_eq!((second.sent, second.reused), (first.bytes(), 0));
    // Whoever announced it goes on.
    for one in &all {
        store.remove(&one.name).unwrap();
    }
    assert_eq!(verify_backup(&store, &machine.env, &second.backup, &mut |_| ()).unwrap(), []);
    // After a day it is taken for what it is.
    machine.clock.sleep(Duration::from_secs(2 * 24 * 3_600));
    backup(&machine, &wal, &store).unwrap();
    let keep = Keep { last: 9, daily: 0, weekly: 0 };
    prune_backups(&store, &machine.env, LOG_ID, keep, false).unwrap();
    assert!(store.list(&format!("{LOG_ID}/pruning"), "").unwrap().is_empty());
}

#[test]
fn the_backups_of_a_dead_branch_go_when_somebody_says_so() {
    let (machine, wal) = world(21, 10);
    let store = with_clock(&machine);
    let one = backup(&machine, &wal, &store).unwrap().backup;
    let prune = |branch, dry_run| prune_branch(&store, &machine.env, LOG_ID, branch, dry_run);
    let error = prune(TIMELINE, false).unwrap_err().to_string();
    assert!(error.contains("would hold no backup any more"), "{error}");
    let mut copy = Backup { timeline: BRANCH, ..one.clone() };
    copy.id = format!("{:015}-{}", START_MS * 2, "0".repeat(16));
    let name = format!("{LOG_ID}/backups/{}.cbor", copy.id);
    store.put_new(&name, &copy.seal(&SigningKey::from_seed(&[5; 32]))).unwrap();
    assert!(
        prune(Timeline([4; 16]), false).unwrap_err().to_string().contains("holds no backup of")
    );
    assert_eq!(prune(TIMELINE, true).unwrap().backups, std::slice::from_ref(&one.id));
    assert_eq!(list_backups(&store, &machine.env, LOG_ID).unwrap().good.len(), 2);
    assert_eq!(prune(TIMELINE, false).unwrap().backups, [one.id]);
    let left = list_backups(&store, &machine.env, LOG_ID).unwrap().good;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, copy);
    assert_eq!(verify_backup(&store, &machine.env, &copy, &mut |_| ()).unwrap(), []);
}

#[test]
fn a_backup_does_not_rely_on_what_pruning_may_take() {
    let (machine, wal) = world(12, 20);
    let store = with_clock(&machine);
    put_file(&machine, "root.key", b"the first one");
    let first = backup(&machine, &wal, &store).unwrap().backup;
    machine.clock.sleep(Duration::from_secs(3 * 24 * 3_600));
    put_file(&machine, "root.key", b"the second one");
    backup(&machine, &wal, &store).unwrap();
    // Pruning has taken the map of the first, and is at the objects.
    store.remove(&format!("{LOG_ID}/backups/{}.cbor", first.id)).unwrap();
    put_file(&machine, "root.key", b"the first one");
    let third = backup(&machine, &wal, &store).unwrap().backup;
    for file in &first.files {
        if file.path == "root.key" {
            store.remove(&format!("{LOG_ID}/files/{}", file.hash)).unwrap();
        }
    }
    assert_eq!(verify_backup(&store, &machine.env, &third, &mut |_| ()).unwrap(), []);
}

#[test]
fn each_branch_keeps_its_backups() {
    let (machine, wal) = world(13, 10);
    let store = with_clock(&machine);
    let one = backup(&machine, &wal, &store).unwrap().backup;
    // A copy that somebody looks at is backed up later, to the same place.
    for hour in 1..4 {
        let mut copy = Backup { timeline: BRANCH, ..one.clone() };
        copy.made_at.0 += hour * 3_600_000;
        copy.id = format!("{:015}-{}", copy.made_at.0, "0".repeat(16));
        let name = format!("{LOG_ID}/backups/{}.cbor", copy.id);
        store.put_new(&name, &copy.seal(&SigningKey::from_seed(&[5; 32]))).unwrap();
    }
    let keep = Keep { last: 1, daily: 1, weekly: 1 };
    let pruned = prune_backups(&store, &machine.env, LOG_ID, keep, false).unwrap();
    assert_eq!(pruned.backups.len(), 2);
    let left = list_backups(&store, &machine.env, LOG_ID).unwrap().good;
    let left: Vec<Timeline> = left.iter().map(|(one, _)| one.timeline).collect();
    assert_eq!(left, [TIMELINE, BRANCH]);
}

#[test]
fn of_several_branches_the_newest_is_asked_for_by_branch() {
    let (machine, wal) = world(16, 10);
    let store = MemoryStore::default();
    let one = backup(&machine, &wal, &store).unwrap().backup;
    let list = || list_backups(&store, &machine.env, LOG_ID).unwrap();
    assert_eq!(list().newest().unwrap().unwrap().0, one);
    // A copy that somebody looked at is backed up later, to the same place.
    let id = format!("{:015}-{}", START_MS * 2, "0".repeat(16));
    let copy = Backup { timeline: BRANCH, id, ..one.clone() };
    let name = format!("{LOG_ID}/backups/{}.cbor", copy.id);
    store.put_new(&name, &copy.seal(&SigningKey::from_seed(&[5; 32]))).unwrap();
    let error = list().newest().unwrap_err().to_string();
    for named in [TIMELINE.to_string(), BRANCH.to_string(), one.id.clone(), copy.id.clone()] {
        assert!(error.contains(&named), "{error}");
    }
    let listed = list();
    let newest = |branch| listed.newest_of_branch(branch).unwrap().map(|(one, _)| one.clone());
    assert_eq!((newest(TIMELINE), newest(BRANCH)), (Some(one), Some(copy)));
    assert_eq!(newest(Timeline([4; 16])), None);
    // What cannot be read may be of any branch.
    let bad = format!("{LOG_ID}/backups/{:015}-{}.cbor", START_MS * 3, "0".repeat(16));
    store.put_new(&bad, b"nonsense").unwrap();
    assert!(list().newest_of_branch(TIMELINE).unwrap_err().to_string().contains(&bad));
}

#[test]
fn a_place_that_has_lost_all_backups_is_not_begun_again() {
    let (machine, wal) = world(17, 10);
    let key = SigningKey::from_seed(&[5; 32]);
    let note = Path::new(NODE).join("backed-up");
    let options = BackupOptions { note: Some(note.clone()), ..BackupOptions::new(NODE) };
    let make = |store: &dyn Store| {
        make_backup(store, &machine.env, &mut wal.cutter(), &key, &options, &mut |_| ())
    };
    let store = MemoryStore::default();
    make(&store).unwrap();
    make(&store).unwrap();
    // What is seen of a place that is not mounted.
    let empty = MemoryStore::default();
    let error = make(&empty).unwrap_err().to_string();
    assert!(error.contains("is mounted") && error.contains("backed-up"), "{error}");
    assert!(empty.folders("").unwrap().is_empty());
    // One that is there and cannot be read is there.
    let listed = store.list(&format!("{LOG_ID}/backups"), "").unwrap();
    empty.put_new(&listed[0].name, b"nonsense").unwrap();
    make(&empty).unwrap();
    // Somebody says to begin again; and another place was never known.
    machine.vfs.remove_file(&note).unwrap();
    make(&MemoryStore::default()).unwrap();
}

#[test]
fn the_parts_of_a_backup_of_another_key_are_not_signed_again() {
    let (machine, wal) = world(14, 30);
    let store = MemoryStore::default();
    wal.repack_now().unwrap();
    let one = backup(&machine, &wal, &store).unwrap().backup;
    let mut forged = one.clone();
    forged.id = format!("{:015}-{}", START_MS * 2, "0".repeat(16));
    // Nothing else than its own content would show that it is not this segment.
    forged.parts[0].hash = one.files[0].hash;
    forged.parts[0].bytes = one.files[0].bytes;
    let name = format!("{LOG_ID}/backups/{}.cbor", forged.id);
    store.put_new(&name, &forged.seal(&SigningKey::from_seed(&[6; 32]))).unwrap();
    let made = backup(&machine, &wal, &store).unwrap().backup;
    assert_eq!(verify_backup(&store, &machine.env, &made, &mut |_| ()).unwrap(), []);
}

#[test]
fn an_older_backup_is_not_taken_for_the_newest() {
    let (machine, wal) = world(15, 5);
    let store = MemoryStore::default();
    let list = || list_backups(&store, &machine.env, LOG_ID).unwrap();
    assert_eq!(list().newest().unwrap(), None);
    let ids = [0, 1, 2].map(|_| {
        machine.clock.sleep(Duration::from_secs(60));
        backup(&machine, &wal, &store).unwrap().backup.id
    });
    let damage = |id: &str| {
        let name = format!("{LOG_ID}/backups/{id}.cbor");
        let mut bytes = store.get(&name, u64::MAX).unwrap();
        bytes[100] ^= 1;
        store.overwrite(&name, bytes);
    };
    // One before it does not matter.
    damage(&ids[1]);
    assert_eq!(list().newest().unwrap().unwrap().0.id, ids[2]);
    damage(&ids[2]);
    let error = list().newest().unwrap_err().to_string();
    assert!(error.contains(&ids[2]) && !error.contains(&ids[1]), "{error}");
    damage(&ids[0]);
    assert!(list().newest().is_err(), "none is left");
}
