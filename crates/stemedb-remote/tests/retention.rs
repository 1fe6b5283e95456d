//! Old segments go only when they are safe in two places, and are read from the archive from then on.
//! At no moment, whatever fails, is a record in no place.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::{Clock, Vfs};
use stemedb_log::{Entry, Log, LogError, LogReader, Wal};
use stemedb_model::{Hash, Position, SigningKey};
use stemedb_remote::{
    Archiver, Backup, BackupOptions, Earlier, Keep, Looked, MemoryStore, RemoteError, Retention,
    Store, VerifiedRestore, archive_status, make_backup, note_verified, prune_backups,
    verify_backup,
};
use support::*;

const GROUPS: usize = 220;

fn own() -> SigningKey {
    SigningKey::from_seed(&[5; 32])
}

/// A machine whose log is archived and backed up.
struct World {
    machine: Machine,
    wal: Wal,
    archive: Arc<dyn Store>,
    objects: Arc<FaultyStore>,
    backups: Arc<MemoryStore>,
    archiver: Archiver,
}

impl World {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(seed);
        let objects = FaultyStore::new(seed, &machine.clock);
        let archive: Arc<dyn Store> = Arc::<FaultyStore>::clone(&objects);
        let mut wal = machine.create();
        for (_, group) in history(seed, GROUPS) {
            wal.append(&group).unwrap();
        }
        wal.repack_now().unwrap();
        let mut archiver = machine.archiver(&wal, &archive, 20_000);
        settle(&mut archiver, &machine.clock);
        Self { machine, wal, archive, objects, backups: Arc::default(), archiver }
    }

    fn back_up(&self) -> Result<Backup, RemoteError> {
        self.back_up_with(None)
    }

    fn back_up_with(&self, archive: Option<Arc<dyn Store>>) -> Result<Backup, RemoteError> {
        let new = BackupOptions::new("/data/node");
        let options = BackupOptions { part_bytes: 20_000, archive, ..new };
        let mut cutter = self.wal.cutter();
        make_backup(&*self.backups, &self.machine.env, &mut cutter, &own(), &options, &mut |_| ())
            .map(|made| made.backup)
    }

    fn note(&self, backup: &Backup, key: &SigningKey) {
        // No two at one moment.
        self.machine.clock.sleep(Duration::from_secs(1));
        let (store, env) = (&*self.backups, &self.machine.env);
        let note = VerifiedRestore::of(store, env, backup, Hash([1; 32]), true).unwrap();
        note_verified(store, env, key, &note).unwrap();
    }

    fn look(&self) -> Result<Looked, RemoteError> {
        look(&self.machine, &self.wal, &self.archive, &self.backups)
    }

    /// Why everything stays.
    #[track_caller]
    fn stays(&self) -> String {
        let before = segments(&self.machine);
        let looked = self.look().unwrap();
        assert_eq!((looked.first, looked.removed.len()), (Position(1), 0), "{looked:?}");
        assert_eq!(segments(&self.machine), before);
        looked.kept.unwrap()
    }
}

fn look(
    machine: &Machine,
    wal: &Wal,
    archive: &Arc<dyn Store>,
    backups: &Arc<MemoryStore>,
) -> Result<Looked, RemoteError> {
    let mut retention = Retention {
        trimmer: wal.trimmer(),
        cutter: wal.cutter(),
        archive: Arc::clone(archive),
        backups: Arc::<MemoryStore>::clone(backups),
        keys: vec![own().agent_id()],
        env: machine.env.clone(),
    };
    retention.look()
}

fn segments(machine: &Machine) -> Vec<String> {
    let listed = machine.vfs.read_dir(Path::new(DIR)).unwrap();
    let names = listed.iter().map(|entry| entry.name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".wal")).collect()
}

fn read_from(wal: &Wal, machine: &Machine, archive: &Arc<dyn Store>) {
    let archive = Arc::clone(archive);
    let open = Box::new(move || Ok(Arc::clone(&archive)));
    let earlier = Earlier::new(open, machine.env.clone(), (LOG_ID, TIMELINE));
    wal.read_removed_from(Arc::new(earlier));
}

fn scan(reader: &dyn LogReader, from: u64) -> Result<Vec<Entry>, LogError> {
    let mut all = Vec::new();
    reader.scan(Position(from), &mut |group| {
        all.extend(group);
        Ok(true)
    })?;
    Ok(all)
}

/// What is removed is read from the archive, and nothing has changed.
#[track_caller]
fn whole(wal: &Wal, all: &[Entry]) {
    let reader = wal.reader();
    assert_eq!(scan(&*reader, 1).unwrap(), all);
    let first = wal.first_kept().0;
    for at in [1, first / 2, first.saturating_sub(1), first, first + 1, all.len() as u64] {
        let at = at.max(1);
        assert_eq!(reader.read(Position(at)).unwrap().as_ref(), all.get(at as usize - 1));
        assert_eq!(scan(&*reader, at).unwrap(), all[at as usize - 1..]);
    }
    let mut seen = 0;
    reader
        .scan(Position(1), &mut |group| {
            seen += group.len();
            Ok(false)
        })
        .unwrap();
    assert!(seen > 0 && seen < all.len());
}

#[test]
fn segments_go_when_they_are_safe_in_two_places() {
    let mut world = World::new(1);
    let all = scan(&*world.wal.reader(), 1).unwrap();
    let before = segments(&world.machine);
    assert!(before.len() >= 8, "{before:?}");
    assert!(world.stays().contains("stemedb backup verify --deep"));
    let backup = world.back_up().unwrap();
    assert!(world.stays().contains("no backup"));
    // Said by somebody whom nobody knows.
    world.note(&backup, &SigningKey::from_seed(&[6; 32]));
    assert!(world.stays().contains("no backup"));
    world.note(&backup, &own());
    let looked = world.look().unwrap();
    assert_eq!(looked.kept, None);
    // The newest two stay, and what was prepared.
    let after = segments(&world.machine);
    assert!((2..=3).contains(&after.len()) && before.ends_with(&after), "{after:?}");
    assert_eq!(looked.removed, before[..before.len() - after.len()]);
    assert_eq!(looked.first, world.wal.first_kept());
    assert_eq!(world.look().unwrap(), Looked { removed: Vec::new(), ..looked.clone() });

    // Without an archive to read from, an error that says where it is.
    let error = scan(&*world.wal.reader(), 1).unwrap_err();
    assert!(matches!(error, LogError::Trimmed { .. }), "{error}");
    assert!(error.to_string().contains("archive.url"), "{error}");
    read_from(&world.wal, &world.machine, &world.archive);
    whole(&world.wal, &all);
    // One that is away is told as such, and read again later.
    world.objects.set(Faults::AWAY);
    let error = world.wal.reader().read(Position(1)).unwrap_err();
    assert!(matches!(error, LogError::Away { .. }), "{error}");
    world.objects.set(Faults::default());
    whole(&world.wal, &all);

    // The archiver misses nothing and goes on; so do backups, from what earlier ones hold.
    drop(world.archiver);
    let mut wal = world.wal;
    for (_, group) in &history(2, 30)[1..] {
        wal.append(group).unwrap();
    }
    world.archiver = world.machine.archiver(&wal, &world.archive, 20_000);
    world.wal = wal;
    settle(&mut world.archiver, &world.machine.clock);
    let progress = world.archiver.progress();
    assert_eq!((progress.problems, progress.lost_parts), (0, 0), "{progress:?}");
    assert!(archive_status(&*world.archive, LOG_ID, TIMELINE).unwrap().unwrap().whole());
    world.machine.clock.sleep(Duration::from_secs(1));
    let second = world.back_up().unwrap();
    assert_eq!(second.end.position, world.wal.reader().durable().0);
    let env = &world.machine.env;
    assert!(verify_backup(&*world.backups, env, &second, &mut |_| ()).unwrap().is_empty());
    // What the first one does not cover stays.
    let looked = world.look().unwrap();
    assert!(looked.first <= backup.end.position.next(), "{looked:?}");

    // After a loss of power it begins there.
    drop((world.archiver, world.wal));
    let machine = world.machine.crash(3);
    let wal = machine.open(DIR).unwrap();
    assert!(wal.first_kept() >= looked.first);
    read_from(&wal, &machine, &world.archive);
    let now = scan(&*wal.reader(), 1).unwrap();
    assert_eq!(now[..all.len()], all);
    whole(&wal, &now);
    world.objects.assert_nothing_overwritten();
}

#[test]
fn what_is_damaged_or_gone_elsewhere_stays_here() {
    let world = World::new(4);
    let all = scan(&*world.wal.reader(), 1).unwrap();
    let backup = world.back_up().unwrap();
    world.note(&backup, &own());
    let parts = world.objects.list(&format!("{LOG_ID}/{TIMELINE}/parts"), "").unwrap();
    let part = |at: usize| (&parts[at].name, world.objects.get(&parts[at].name, u64::MAX).unwrap());
    let (name, bytes) = part(0);
    // One bit of the first part.
    let mut flipped = bytes.clone();
    flipped[700] ^= 1;
    world.objects.inner.overwrite(name, flipped);
    assert!(world.stays().contains("the archive is damaged"));
    world.objects.remove(name).unwrap();
    assert!(world.stays().contains("is not there"));
    world.objects.set(Faults::AWAY);
    assert!(matches!(world.look().unwrap_err(), RemoteError::Store(_)));
    world.objects.set(Faults::default());
    world.objects.inner.overwrite(name, bytes);

    // The backup has lost something, and then is another.
    let object = &world.backups.list(&format!("{LOG_ID}/files"), "").unwrap()[0].name;
    let kept = world.backups.get(object, u64::MAX).unwrap();
    world.backups.remove(object).unwrap();
    assert!(world.stays().contains("no backup"));
    world.backups.overwrite(object, kept);
    let manifest = format!("{LOG_ID}/backups/{}.cbor", backup.id);
    let kept = world.backups.get(&manifest, u64::MAX).unwrap();
    let other = Backup { files: Vec::new(), ..backup.clone() }.seal(&own());
    world.backups.overwrite(&manifest, other);
    assert!(world.stays().contains("no backup"));
    world.backups.overwrite(&manifest, kept);

    // Some part in the middle: what lies before it may go, the rest not.
    let (name, bytes) = part(parts.len() / 2);
    let first = name.split('-').nth(1).unwrap().parse::<u64>().unwrap();
    world.objects.remove(name).unwrap();
    let looked = world.look().unwrap();
    assert!(looked.kept.unwrap().contains("is not there"));
    assert!(!looked.removed.is_empty() && looked.first <= Position(first), "{first}");
    world.objects.inner.overwrite(name, bytes);
    let rest = world.look().unwrap();
    assert!(rest.first > looked.first && rest.kept.is_none());
    read_from(&world.wal, &world.machine, &world.archive);
    whole(&world.wal, &all);
}

/// A part that only the archive had is told as lost: it is no gap that could be cut again.
#[test]
fn what_the_archive_loses_after_that_is_told() {
    let mut world = World::new(6);
    let backup = world.back_up().unwrap();
    world.note(&backup, &own());
    assert!(!world.look().unwrap().removed.is_empty());
    drop(world.archiver);
    let folder = format!("{LOG_ID}/{TIMELINE}/parts");
    let parts = world.objects.list(&folder, "").unwrap();
    world.objects.remove(&parts[1].name).unwrap();
    world.archiver = world.machine.archiver(&world.wal, &world.archive, 20_000);
    settle(&mut world.archiver, &world.machine.clock);
    let progress = world.archiver.progress();
    let told = (progress.problems, progress.lost_parts, progress.replaced_parts);
    assert_eq!(told, (1, 1, 0), "{progress:?}");
    assert_eq!(world.objects.list(&folder, "").unwrap().len(), parts.len() - 1);
    read_from(&world.wal, &world.machine, &world.archive);
    let error = scan(&*world.wal.reader(), 1).unwrap_err();
    assert!(error.to_string().contains("cannot be read from the archive"), "{error}");

    // Another place cannot begin in the middle.
    let elsewhere: Arc<dyn Store> = Arc::new(MemoryStore::default());
    world.machine.vfs.remove_file(Path::new(NOTE)).unwrap();
    let mut archiver = world.machine.archiver(&world.wal, &elsewhere, 20_000);
    let error = archiver.step().unwrap_err();
    assert!(error.to_string().contains("copy the earlier archive there"), "{error}");
}

#[test]
fn notes_go_with_their_backups() {
    let world = World::new(7);
    let first = world.back_up().unwrap();
    world.note(&first, &own());
    world.machine.clock.sleep(Duration::from_secs(1));
    let second = world.back_up().unwrap();
    let keep = Keep { last: 1, daily: 0, weekly: 0 };
    let pruned = prune_backups(&*world.backups, &world.machine.env, LOG_ID, keep, false).unwrap();
    assert_eq!(pruned.backups, [first.id]);
    assert!(world.backups.list(&format!("{LOG_ID}/verified"), "").unwrap().is_empty());
    assert!(world.stays().contains("no backup"));
    world.note(&second, &own());
    assert!(!world.look().unwrap().removed.is_empty());
}

/// A backup that has lost something does not keep the next one from being whole.
#[test]
fn a_backup_is_made_anew_from_the_archive() {
    let world = World::new(11);
    let first = world.back_up().unwrap();
    world.note(&first, &own());
    assert!(!world.look().unwrap().removed.is_empty());
    let part = &first.parts[0];
    world.backups.remove(&format!("{LOG_ID}/files/{}", part.hash)).unwrap();
    world.machine.clock.sleep(Duration::from_secs(1));
    let error = world.back_up().unwrap_err().to_string();
    assert!(error.contains("set archive.url"), "{error}");
    let second = world.back_up_with(Some(Arc::clone(&world.archive))).unwrap();
    assert_eq!((second.end, &second.files), (first.end, &first.files));
    let env = &world.machine.env;
    assert!(verify_backup(&*world.backups, env, &second, &mut |_| ()).unwrap().is_empty());
    assert_eq!(second.parts[0].content.start.position, Position::NONE);
    // The one after it goes on from there.
    world.machine.clock.sleep(Duration::from_secs(1));
    assert_eq!(world.back_up().unwrap().parts[0], second.parts[0]);
}

/// Power is cut before every change of the disk that a removal makes; nothing is ever missing.
#[test]
fn power_is_cut_at_every_step_of_a_removal() {
    let world = World::new(8);
    let all = scan(&*world.wal.reader(), 1).unwrap();
    let backup = world.back_up().unwrap();
    world.note(&backup, &own());
    drop((world.archiver, world.wal));
    let (archive, backups) = (world.archive, world.backups);
    let fork = || world.machine.fork(9);
    let (total, expected) = {
        let machine = fork();
        let wal = machine.open(DIR).unwrap();
        let start = machine.vfs.changes();
        assert!(!look(&machine, &wal, &archive, &backups).unwrap().removed.is_empty());
        (machine.vfs.changes() - start, segments(&machine)[0].clone())
    };
    let (mut before, mut after, mut left) = (0, 0, 0);
    for changes in 0..=total {
        let machine = fork();
        let wal = machine.open(DIR).unwrap();
        machine.vfs.power_off_after(changes);
        let _ = look(&machine, &wal, &archive, &backups);
        drop(wal);
        for seed in 0..4 {
            let machine = machine.crash(seed);
            let wal = machine.open(DIR).unwrap();
            match wal.first_kept() {
                Position(1) => before += 1,
                _ => after += 1,
            }
            read_from(&wal, &machine, &archive);
            whole(&wal, &all);
            // What the first attempt has left goes with the second.
            let looked = look(&machine, &wal, &archive, &backups).unwrap();
            left += usize::from(wal.first_kept() > Position(1) && !looked.removed.is_empty());
            assert_eq!(segments(&machine)[0], expected);
            whole(&wal, &all);
        }
    }
    assert!(before > 4 && after > 4 && left > 4, "{before}, {after}, {left}");
}
