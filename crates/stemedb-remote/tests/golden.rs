//! The bytes of the format, kept: what is written today is byte for byte what was written when the
//! format was laid down, and what was written then is read. A difference is a new format, with a
//! new number. `UPDATE=1` writes the files anew.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "what was kept is on the real disk")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::Clock;
use stemedb_log::{Link, Log, read_part};
use stemedb_model::{Hash, LogId, Millis, Position, SigningKey, Timeline};
use stemedb_remote::{
    Backup, BackupOptions, BadManifest, EncryptionKey, EncryptionKeys, KeyedStore, Manifest,
    Parent, RestorePlan, Store, Target, list_backups, make_backup, verify_backup,
};
use support::*;

fn kept(name: &str) -> PathBuf {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    dir.join(name.replace('/', "_"))
}

/// A log of some segments, archived in parts, the store lying once about what it took.
fn objects() -> Vec<(String, Vec<u8>)> {
    let machine = Machine::new(41);
    let faulty = FaultyStore::new(41, &machine.clock);
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&faulty);
    let mut wal = machine.create();
    let mut archiver = None;
    for (n, (pause, group)) in history(41, 30).into_iter().enumerate() {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
        let archiver = archiver.get_or_insert_with(|| machine.archiver(&wal, &store, 20_000));
        if n % 10 == 9 {
            faulty.set(Faults { cut_silently: 300, ..Faults::default() });
            machine.clock.sleep(Duration::from_secs(20));
            settle(archiver, &machine.clock);
        }
    }
    let listed = store.list(&LOG_ID.to_string(), "").unwrap();
    let object = |name: String| {
        let bytes = faulty.inner.get(&name, u64::MAX).unwrap();
        (name, bytes)
    };
    listed.into_iter().map(|one| object(one.name)).collect()
}

#[test]
fn an_archive_is_written_as_it_was_and_read() {
    let objects = objects();
    let names: Vec<String> = objects.iter().map(|(name, _)| format!("{name}\n")).collect();
    let index = kept("objects");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&index, names.concat()).unwrap();
        for (name, bytes) in &objects {
            std::fs::write(kept(name), bytes).unwrap();
        }
    }
    assert_eq!(std::fs::read_to_string(&index).unwrap(), names.concat());
    let store = stemedb_remote::MemoryStore::default();
    let (mut parts, mut manifests, mut broken) = (0, 0, 0);
    for (name, bytes) in &objects {
        let found = std::fs::read(kept(name)).unwrap();
        assert!(found == *bytes, "{name} is written in another way");
        match (name.ends_with(".cbor"), Manifest::open(&found)) {
            (true, Ok(_)) => manifests += 1,
            (true, Err(_)) => broken += 1,
            (false, _) if read_part(name, &found, &mut |_, _| Ok(())).is_ok() => parts += 1,
            (false, _) => broken += 1,
        }
        store.overwrite(name, found);
    }
    assert!(parts > 3 && manifests > 3 && broken > 0, "{parts}, {manifests}, {broken}");
    let machine = Machine::new(1);
    let identity = (LOG_ID, TIMELINE);
    let plan = RestorePlan::of_archive(&store, &machine.env, identity, Target::Newest).unwrap();
    assert_eq!(plan.end.position, plan.newest);
}

/// Every field that a manifest can have.
fn manifest() -> Manifest {
    let link = |n: u64| Link { position: Position(n), group: n / 2, chain: Hash([n as u8; 32]) };
    let objects = objects();
    let some = objects.iter().find_map(|(_, bytes)| Manifest::open(bytes).ok()).unwrap().0;
    Manifest {
        log_id: LogId([1; 16]),
        timeline: Timeline([2; 16]),
        number: 300,
        previous: Some(Hash([3; 32])),
        void: vec![7, 299],
        parent: Some(Parent { timeline: Timeline([4; 16]), end: link(40) }),
        made_at: Millis(-5),
        end: link(90),
        ended_at: Millis(START_MS),
        parts: some.parts,
    }
}

#[test]
fn a_manifest_says_what_was_said_and_nothing_else_is_believed() {
    let mut manifest = manifest();
    for part in &mut manifest.parts {
        part.content.log_id = manifest.log_id;
    }
    let key = SigningKey::from_seed(&[8; 32]);
    let bytes = manifest.seal(&key);
    assert_eq!(Manifest::open(&bytes), Ok((manifest.clone(), key.agent_id())));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(Manifest::open(&flipped).is_err(), "byte {at}, bit {bit}");
        }
    }
    for len in 0..bytes.len() {
        assert!(matches!(Manifest::open(&bytes[..len]), Err(BadManifest::Damaged(_))), "{len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Manifest::open(&longer).is_err());
    let first = Manifest { number: 1, previous: None, parent: None, void: vec![], ..manifest };
    assert_eq!(Manifest::open(&first.seal(&key)), Ok((first, key.agent_id())));
}

#[test]
fn a_backup_is_encrypted_as_it_was_and_read() {
    let machine = Machine::new(43);
    let mut wal = machine.create();
    for (pause, group) in history(43, 6) {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
    }
    // Of two chunks, so that their order is kept, too.
    let long = vec![b's'; 70_000];
    machine.vfs.put(std::path::Path::new("/data/node/root.key"), long).unwrap();
    let memory: Arc<dyn Store> = Arc::new(stemedb_remote::MemoryStore::default());
    let secret = format!("stemedb-encryption-key-1:{}", "5a".repeat(32));
    let keys = || EncryptionKeys::new(vec![EncryptionKey::parse(&secret).unwrap()]);
    let store = KeyedStore::new(Arc::clone(&memory), keys());
    let key = SigningKey::from_seed(&[8; 32]);
    let options = BackupOptions::new("/data/node");
    let mut cutter = wal.cutter();
    let made = make_backup(&store, &machine.env, &mut cutter, &key, &options, &mut |_| ());
    let made = made.unwrap().backup;
    let kept_store: Arc<dyn Store> = Arc::new(stemedb_remote::MemoryStore::default());
    for (n, one) in memory.list(&LOG_ID.to_string(), "").unwrap().iter().enumerate() {
        let bytes = memory.get(&one.name, u64::MAX).unwrap();
        let file = kept(&format!("encrypted.{n}"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &bytes).unwrap();
        }
        let found = std::fs::read(&file).unwrap();
        assert!(found == bytes, "{n}: it is written in another way");
        kept_store.put_new(&one.name, &found).unwrap();
    }
    let kept_store = KeyedStore::new(kept_store, keys());
    let found = list_backups(&kept_store, &machine.env, LOG_ID).unwrap().good;
    assert_eq!(found, [(made.clone(), key.agent_id())]);
    assert_eq!(verify_backup(&kept_store, &machine.env, &made, &mut |_| ()).unwrap(), []);
}

#[test]
fn a_backup_is_written_as_it_was_and_read() {
    let machine = Machine::new(42);
    let mut wal = machine.create();
    for (pause, group) in history(42, 20) {
        machine.clock.sleep(pause);
        wal.append(&group).unwrap();
    }
    let path = std::path::Path::new("/data/node/root.key");
    machine.vfs.put(path, b"secret".to_vec()).unwrap();
    let store = stemedb_remote::MemoryStore::default();
    let key = SigningKey::from_seed(&[8; 32]);
    let options = BackupOptions { part_bytes: 20_000, ..BackupOptions::new("/data/node") };
    let mut cutter = wal.cutter();
    let made = make_backup(&store, &machine.env, &mut cutter, &key, &options, &mut |_| ());
    let made = made.unwrap().backup;
    let bytes = made.seal(&key);
    let file = kept("backup.cbor");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &bytes).unwrap();
    }
    let found = std::fs::read(&file).unwrap();
    assert!(found == bytes, "it is written in another way");
    assert_eq!(Backup::open(&found), Ok((made, key.agent_id())));
    for at in 0..found.len() {
        let mut flipped = found.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Backup::open(&flipped).is_err(), "byte {at}");
    }
}
