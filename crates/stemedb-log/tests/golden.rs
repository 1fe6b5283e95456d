//! The bytes of the format, kept: what is written today is byte for byte what was written when the
//! format was laid down, and what was written then is read. A difference is a new format, with a
//! new number.
//!
//! `UPDATE=1` writes the files anew. Trailing zeros are left out of them, and files of a later state
//! that are those of `blocks`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]
#![allow(clippy::disallowed_methods, reason = "what was kept is not on the simulated disk")]

mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stemedb_io::Vfs;
use stemedb_io::sim::SimVfs;
use stemedb_log::{
    DumpItem, GroupKind, Log, LogError, NewEntry, RepairOptions, Wal, dump, repair, verify,
};
use stemedb_model::{Hash, Kind, Position, Principal, record_id};
use world::*;

/// Files of a folder of a log, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Groups with everything that an entry can have: ids that are the hash of their body and one that
/// is not, custody, an idempotency hash, several principals, an empty body, one of many blocks.
fn groups() -> Vec<Vec<NewEntry>> {
    let mut groups = script(41, 44);
    let entries = groups.iter_mut().flatten().enumerate();
    for (n, entry) in entries {
        let kind = Kind::ALL[n % Kind::ALL.len()];
        entry.custodial = n % 5 == 1;
        entry.idempotency = (n % 3 == 1).then_some(Hash([n as u8; 32]));
        entry.principal = Principal::parse(&format!("user-{}", n % 4)).unwrap();
        if n == 3 {
            entry.body = [].into();
        }
        if n % 7 > 0 {
            entry.id = record_id(kind, &entry.body);
        }
    }
    groups
}

/// A log of several segments, closed in order.
fn blocks() -> SimVfs {
    let vfs = SimVfs::new(41);
    let (mut wal, _) = open(&vfs, NEW).unwrap();
    for (n, group) in groups().iter().enumerate() {
        wal.append(group).unwrap();
        if n % 5 == 4 {
            wal.seal().unwrap();
        }
    }
    wal.close().unwrap();
    vfs
}

/// The same log, its older segments packed and scrubbed.
fn packed() -> SimVfs {
    let vfs = blocks();
    let (wal, _) = open(&vfs, existing(None)).unwrap();
    assert!(wal.repack_now().unwrap().segments > 2);
    wal.scrub_now().unwrap();
    wal.close().unwrap();
    vfs
}

/// The same log with two groups of its second segment given up.
fn repaired() -> SimVfs {
    let vfs = blocks();
    let path = segment(2);
    let mut damaged = vfs.medium(&path).unwrap();
    let mut hit = None;
    dump(&path, &vfs, (Position(1), Position::MAX), false, &mut |item| {
        if let DumpItem::Group(group) = item
            && group.kind == GroupKind::Entries
        {
            hit.get_or_insert(group.block as usize * 4096 + 700);
        }
        true
    })
    .unwrap();
    damaged[hit.unwrap()] ^= 1;
    vfs.put(&path, damaged).unwrap();
    vfs.create_dir_all(Path::new("/repaired")).unwrap();
    let output = PathBuf::from("/repaired/segment.002.wal");
    let options = RepairOptions {
        segment: path.clone(),
        output: output.clone(),
        truncate_at: None,
        plan: false,
        accept_loss: true,
        witness: None,
        identity: None,
        tool: "stemedb-wal-repair 0.1.0".into(),
    };
    repair(&env_on(&vfs, 5), &options).unwrap();
    vfs.put(&path, vfs.medium(&output).unwrap()).unwrap();
    vfs
}

fn files(vfs: &SimVfs) -> Files {
    let mut files = Files::new();
    for path in vfs.files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.parent() != Some(Path::new(DIR)) || name.contains("lock") {
            continue;
        }
        let mut bytes = vfs.medium(&path).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(written);
        if !bytes.is_empty() {
            files.insert(name, bytes);
        }
    }
    files
}

fn folder(state: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(state)
}

fn kept(state: &str) -> Files {
    let listed = std::fs::read_dir(folder(state)).unwrap();
    let paths = listed.map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    let mut files = if state == "blocks" { Files::new() } else { kept("blocks") };
    files.extend(paths.map(read));
    files
}

fn written_as_before(state: &str, vfs: &SimVfs) {
    let now = files(vfs);
    if std::env::var_os("UPDATE").is_some() {
        let folder = folder(state);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let base = if state == "blocks" { Files::new() } else { kept("blocks") };
        for (name, bytes) in now.iter().filter(|(name, bytes)| base.get(*name) != Some(bytes)) {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let before = kept(state);
    assert!(now.keys().eq(before.keys()), "{:?} and {:?}", now.keys(), before.keys());
    for (name, bytes) in &now {
        let first = bytes.iter().zip(&before[name]).position(|(now, before)| now != before);
        assert!(
            *bytes == before[name],
            "{state}/{name} is written in another form from byte {first:?} on; lengths {} and {}",
            bytes.len(),
            before[name].len()
        );
    }
}

/// A disk with what was kept, as it was: segments of blocks that end with zeros get them back.
fn disk(state: &str) -> SimVfs {
    let vfs = SimVfs::new(1);
    vfs.create_dir_all(Path::new(DIR)).unwrap();
    for (name, mut bytes) in kept(state) {
        if name.ends_with(".wal") && bytes.starts_with(b"STEMEWAL") {
            let last = bytes.len() / 4096 * 4096;
            let closed = bytes.get(last..last + 5).is_some_and(|head| head == b"SWB0\x04");
            let len = if closed { last + 4096 } else { config().segment_bytes as usize };
            bytes.resize(len, 0);
        } else if name.ends_with(".wal") && bytes[..512].iter().all(|byte| *byte == 0) {
            bytes.resize(config().segment_bytes as usize, 0);
        }
        vfs.put(&Path::new(DIR).join(name), bytes).unwrap();
    }
    vfs
}

/// What is in the log, but for what a repair gave up.
fn read_as_before(state: &str) -> Vec<u64> {
    let vfs = disk(state);
    let report = verify(Path::new(DIR), &vfs).unwrap();
    assert_eq!(report.exit_status(), 0, "{state}: {:?}", report.findings);
    let all = groups().concat();
    let (mut wal, _): (Wal, _) = open(&vfs, existing(Some(all.len() as u64))).unwrap();
    let reader = wal.reader();
    let mut lost = Vec::new();
    for (position, new) in (1..).zip(&all) {
        match reader.read(Position(position)) {
            Ok(Some(entry)) => assert_eq!(entry.new, *new, "{state}: position {position}"),
            Err(LogError::Lost { .. }) => lost.push(position),
            other => panic!("{state}: position {position}: {other:?}"),
        }
    }
    let next = wal.append(&groups()[0]).unwrap();
    assert_eq!(next.first.0, all.len() as u64 + 1);
    lost
}

#[test]
fn every_kind_of_block_and_segment_is_written_as_before() {
    written_as_before("blocks", &blocks());
    written_as_before("packed", &packed());
    written_as_before("repaired", &repaired());
}

#[test]
fn what_was_written_before_is_read() {
    assert!(read_as_before("blocks").is_empty());
    assert!(read_as_before("packed").is_empty());
    let lost = read_as_before("repaired");
    assert!(!lost.is_empty() && lost.len() < 20, "{lost:?}");

    // They are what the format has: every kind of group, both shapes, a prepared segment.
    for (state, kind) in [("blocks", 1), ("blocks", 2), ("repaired", 3), ("blocks", 4)] {
        let files = kept(state);
        let mut blocks = files.values().flat_map(|bytes| bytes.chunks(4096));
        let start = [b'S', b'W', b'B', b'0', kind];
        assert!(blocks.any(|block| block.starts_with(&start)), "kind {kind} in {state}");
    }
    let packed = kept("packed");
    let starts = |magic: &[u8]| packed.values().filter(|bytes| bytes.starts_with(magic)).count();
    assert!(starts(b"STEMEPAK") > 2 && starts(b"STEMEWAL") >= 2, "{:?}", packed.keys());
    let prepared = |bytes: &&Vec<u8>| bytes.get(512..520).is_some_and(|mark| mark == b"STEMEPRE");
    assert!(packed.values().filter(prepared).count() > 0);
    assert!(packed.contains_key("verified") && packed.contains_key("scrubbed"));
}
