//! Random histories, archived and backed up while they are written, restored to random targets: what
//! comes back is the log that was stopped there, with the same log root and the same answers. And one
//! flipped bit in any object of a backup is found.
//!
//! `HISTORIES` and `ANSWERS` (one history in so many has its answers compared) say how much; `SEED` is
//! fresh each time and printed. A failure names its history: `SEED=that HISTORIES=1` runs it alone, by
//! the first of the tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Engine, EngineConfig};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::sim::{SimClock, SimRng};
use stemedb_io::{Clock, Env, Open, RealRng, Rng, Vfs};
use stemedb_log::{Log, NewEntry, Wal};
use stemedb_model::{Hash, Millis, Position, SigningKey, Timeline};
use stemedb_remote::{
    Archiver, Backup, BackupOptions, MemoryStore, RestorePlan, RestoreTo, Step, Store, Target,
    list_backups, make_backup, restore, restore_files, verify_backup,
};
use support::*;

const BRANCH: Timeline = Timeline([3; 16]);
const NODE: &str = "/data/node";
const SECRET_FILE: &str = "root.key";
/// Tests that share the work, so that they run beside each other.
const SHARES: u64 = 4;
/// What the slice takes that runs with every other test.
const HISTORIES: u64 = 160;
/// Answers are computed by engines with an index on a real disk, which takes most of the time.
const ANSWERS: u64 = 8;

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

/// What the histories of a share came to, so that none of it is left out by chance.
#[derive(Debug, Default)]
struct Seen {
    inside_groups: u64,
    by_time: u64,
    encrypted: u64,
    keys_changed: u64,
    older_backups: u64,
    flipped: u64,
    answered: u64,
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Err(_) => default,
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, expected a number"))
        }
    }
}

fn histories(share: u64) {
    let seed = number("SEED", RealRng.next_u64() >> 16);
    let count = number("HISTORIES", HISTORIES);
    let answers_every = number("ANSWERS", ANSWERS).max(1);
    let here = (0..count).filter(|n| n % SHARES == share).count() as u64;
    println!("{here} histories, SEED={seed} HISTORIES={count} ANSWERS={answers_every}");
    let mut seen = Seen::default();
    for n in (0..count).filter(|n| n % SHARES == share) {
        one(seed.wrapping_add(n), (n / SHARES).is_multiple_of(answers_every), &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.flipped >= 3 * here && seen.answered >= here / answers_every, "{seen:?}");
    // Of fewer one of these may be left out by chance.
    if here >= 200 {
        let Seen { inside_groups, by_time, encrypted, keys_changed, older_backups, .. } = seen;
        let all = [inside_groups, by_time, encrypted, keys_changed, older_backups];
        assert!(all.iter().all(|some| *some > 0) && encrypted < here, "{seen:?}");
    }
}

/// A history while it is written.
struct World {
    machine: Machine,
    wal: Wal,
    archive: Arc<dyn Store>,
    backups: Arc<MemoryStore>,
    /// Of encryption keys; the first one writes.
    keys: Vec<u64>,
    /// What was backed up, and what the file of the node held then.
    made: Vec<(Backup, Vec<u8>)>,
}

impl World {
    fn archive(&self) -> Arc<dyn Store> {
        keyed(&self.archive, &self.keys)
    }

    fn backups(&self) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(&self.backups);
        keyed(&store, &self.keys)
    }

    fn archiver(&self, part_bytes: u64) -> Archiver {
        self.machine.archiver(&self.wal, &self.archive(), part_bytes)
    }

    fn back_up(&mut self, rng: &SimRng) {
        let mut secret = vec![0; 40 + (rng.next_u64() % 500) as usize];
        rng.fill(&mut secret);
        self.machine.vfs.put(&Path::new(NODE).join(SECRET_FILE), secret.clone()).unwrap();
        let options = BackupOptions {
            leave_out: vec!["archived".into()],
            part_bytes: 4_000 + rng.next_u64() % 20_000,
            ..BackupOptions::new(NODE)
        };
        let (env, key) = (&self.machine.env, SigningKey::from_seed(&[5; 32]));
        let (store, mut cutter) = (self.backups(), self.wal.cutter());
        let made = make_backup(&*store, env, &mut cutter, &key, &options, &mut |_| ()).unwrap();
        self.made.push((made.backup, secret));
    }
}

fn one(seed: u64, compare_answers: bool, seen: &mut Seen) {
    let rng = SimRng::new(seed ^ 0x77);
    let draw = |most: u64| rng.next_u64() % most;
    let machine = Machine::new(seed);
    let history = history(seed, 2 + draw(20) as usize);
    let times = times(&history);
    let wal = machine.create();
    let encrypted = draw(2) == 0;
    let mut world = World {
        machine,
        wal,
        archive: Arc::new(MemoryStore::default()),
        backups: Arc::new(MemoryStore::default()),
        keys: if encrypted { vec![1] } else { Vec::new() },
        made: Vec::new(),
    };
    let part_bytes = 1 + draw(20_000);
    let mut archiver = None;
    for (pause, group) in &history {
        world.machine.clock.sleep(*pause);
        world.wal.append(group).unwrap();
        // Now and then, so that parts are of many lengths; never waiting, which would take time.
        let running = archiver.get_or_insert_with(|| world.archiver(part_bytes));
        if draw(3) == 0 {
            while running.step().unwrap() == Step::Worked {}
        }
        match draw(18) {
            0 | 1 => {
                world.wal.repack_now().unwrap();
            }
            2 | 3 => world.back_up(&rng),
            // Another start, perhaps with another key.
            4 => {
                if encrypted && draw(2) == 0 {
                    world.keys.insert(0, world.keys.len() as u64 + 1);
                }
                archiver = None;
            }
            _ => {}
        }
    }
    let mut archiver = archiver.unwrap_or_else(|| world.archiver(part_bytes));
    settle(&mut archiver, &world.machine.clock);
    world.back_up(&rng);
    seen.encrypted += u64::from(encrypted);
    seen.keys_changed += u64::from(world.keys.len() > 1);

    // From the archive.
    let to = Machine::new(seed.wrapping_add(1));
    let (target, expected) = drawn(&rng, &times);
    let store = world.archive();
    let identity = (LOG_ID, TIMELINE);
    let plan = RestorePlan::of_archive(&*store, &to.env, identity, target).unwrap();
    let from = format!("history {seed}, archive, {target:?}");
    let log = bring_back(&to, &*store, &plan, &history, expected, &from);
    seen.inside_groups += u64::from(plan.cut_group);
    seen.by_time += u64::from(matches!(target, Target::Time(_)));

    // From one of the backups.
    let chosen =
        if draw(2) == 0 { world.made.len() - 1 } else { draw(world.made.len() as u64) as usize };
    let (backup, secret) = &world.made[chosen];
    let other = Machine::new(seed.wrapping_add(2));
    let (target, expected_too) = drawn(&rng, &times[..backup.end.position.0 as usize]);
    let store = world.backups();
    let plan = backup.plan(&*store, &other.env, target).unwrap();
    let from_too = format!("history {seed}, backup, {target:?}");
    let log_too = bring_back(&other, &*store, &plan, &history, expected_too, &from_too);
    restore_files(&*store, &other.env, backup, Path::new(NODE), &[]).unwrap();
    assert_eq!(read(&other, SECRET_FILE), *secret, "{from_too}");
    seen.older_backups += u64::from(chosen + 1 < world.made.len());

    for name in objects(backup) {
        let (byte, bit) = flip(&rng, &world.backups, &name);
        let found = problems(&world, backup);
        assert_eq!(found, BTreeSet::from([name.clone()]), "history {seed}, byte {byte}, bit {bit}");
        flip_back(&world.backups, &name, byte, bit);
        seen.flipped += 1;
    }
    assert_eq!(problems(&world, backup), BTreeSet::new());

    if compare_answers {
        let runs = [(log, expected, &to, from), (log_too, expected_too, &other, from_too)];
        for (log, expected, machine, from) in runs {
            let stopped = stopped_at(&history, expected as usize);
            let clock = Arc::new(SimClock::new(START_MS)) as Arc<dyn Clock>;
            let reference = Env { clock, ..machine.env.clone() };
            let found = answers(Box::new(log), machine.env.clone());
            assert_eq!(found, answers(Box::new(stopped), reference), "{from}");
        }
        seen.answered += 1;
    }
}

/// A target, and how many records it keeps of those with these times.
fn drawn(rng: &SimRng, times: &[i64]) -> (Target, u64) {
    let count = times.len() as u64;
    let position = 1 + rng.next_u64() % count;
    match rng.next_u64() % 4 {
        0 => (Target::Newest, count),
        1 => (Target::Position(Position(position)), position),
        2 => (Target::Before(Position(position + 1)), position),
        _ => {
            let time = START_MS + (rng.next_u64() % 20_000) as i64;
            let last = times.iter().filter(|at| **at <= time).count() as u64;
            (Target::Time(Millis(time)), last)
        }
    }
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

/// Restores and opens; it is the log that was stopped after `expected` records.
fn bring_back(
    to: &Machine,
    store: &dyn Store,
    plan: &RestorePlan,
    history: &[(Duration, Vec<NewEntry>)],
    expected: u64,
    from: &str,
) -> Wal {
    let place = RestoreTo { dir: Path::new(DIR), timeline: BRANCH, segment_bytes: SEGMENT };
    let mut done = 0;
    let restored = restore(store, &to.env, plan, place, &mut |bytes| done = bytes).unwrap();
    assert_eq!(done, plan.bytes(), "{from}");
    let root = stopped_at(history, expected as usize).reader().root();
    assert_eq!((restored.end.position, restored.end.chain), root, "{from}");
    assert_eq!(restored.recorded_at.0, times(history)[expected as usize - 1], "{from}");
    let wal = to.open(DIR).unwrap();
    assert_eq!(wal.reader().root(), root, "{from}");
    wal
}

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
    engine.close(Duration::from_secs(20));
    (answers.position, answers.root)
}

fn read(machine: &Machine, file: &str) -> Vec<u8> {
    let file = machine.vfs.open(&Path::new(NODE).join(file), Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Everything that a backup consists of, as the format says it.
fn objects(backup: &Backup) -> BTreeSet<String> {
    let name = |hash: Hash, copy: u64| match copy {
        0 => format!("{LOG_ID}/files/{hash}"),
        copy => format!("{LOG_ID}/files/{hash}.{copy}"),
    };
    let parts = backup.parts.iter().map(|part| name(part.hash, part.copy));
    let files = backup.files.iter().map(|file| name(file.hash, file.copy));
    let map = format!("{LOG_ID}/backups/{}.cbor", backup.id);
    parts.chain(files).chain([map]).collect()
}

/// What looking for this backup and verifying it finds wrong, by object.
fn problems(world: &World, backup: &Backup) -> BTreeSet<String> {
    let (store, env) = (world.backups(), &world.machine.env);
    let listed = list_backups(&*store, env, LOG_ID).unwrap();
    let bad = listed.bad.into_iter().map(|(name, _)| name);
    let good = listed.good.iter().find(|(one, _)| one.id == backup.id);
    let verified = good
        .map(|(one, _)| verify_backup(&*store, env, one, &mut |_| ()).unwrap())
        .unwrap_or_default();
    bad.chain(verified.into_iter().map(|(name, _)| name)).collect()
}

fn flip(rng: &SimRng, store: &MemoryStore, name: &str) -> (usize, u64) {
    let length = store.get(name, u64::MAX).unwrap().len() as u64;
    let (byte, bit) = ((rng.next_u64() % length) as usize, rng.next_u64() % 8);
    flip_back(store, name, byte, bit);
    (byte, bit)
}

fn flip_back(store: &MemoryStore, name: &str, byte: usize, bit: u64) {
    let mut bytes = store.get(name, u64::MAX).unwrap();
    bytes[byte] ^= 1 << bit;
    store.overwrite(name, bytes);
}
