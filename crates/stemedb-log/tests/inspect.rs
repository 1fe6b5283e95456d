//! `dump` and `stat` show what is there, damaged or not, and `verify` works beside a writer.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stemedb_io::sim::SimVfs;
use stemedb_io::{Env, RealVfs};
use stemedb_log::conformance::{LOG_ID, TIMELINE, sample};
use stemedb_log::{DumpItem, GroupKind, Log, NewEntry, Wal, WalConfig, dump, stat, verify};
use stemedb_model::Position;
use world::*;

fn all() -> (Position, Position) {
    (Position(1), Position::MAX)
}

fn items(vfs: &SimVfs, range: (Position, Position), raw: bool) -> Vec<DumpItem> {
    let mut items = Vec::new();
    dump(Path::new(DIR), vfs, range, raw, &mut |item| {
        items.push(item);
        true
    })
    .unwrap();
    items
}

fn positions(items: &[DumpItem]) -> Vec<u64> {
    let entries = items.iter().filter_map(|item| match item {
        DumpItem::Entry(entry) => Some(entry.position.0),
        _ => None,
    });
    entries.collect()
}

#[test]
fn dump_shows_everything_in_order() {
    let groups = script(7, 30);
    let records = groups.concat().len() as u64;
    let vfs = written(7, &groups, true);
    let shown = items(&vfs, all(), false);
    assert_eq!(positions(&shown), (1..=records).collect::<Vec<_>>());
    let found = shown.iter().filter_map(|item| match item {
        DumpItem::Group(group) if group.kind == GroupKind::Entries => Some(group.number),
        _ => None,
    });
    assert_eq!(found.collect::<Vec<_>>(), (1..=groups.len() as u64).collect::<Vec<_>>());

    let part = items(&vfs, (Position(20), Position(40)), false);
    assert_eq!(positions(&part), (20..=40).collect::<Vec<_>>());

    let mut seen = 0;
    dump(Path::new(DIR), &vfs, all(), false, &mut |_| {
        seen += 1;
        seen < 5
    })
    .unwrap();
    assert_eq!(seen, 5, "a dump ends when its visitor says so");
}

#[test]
fn dump_goes_on_behind_damage() {
    let groups: Vec<Vec<NewEntry>> = (1..=6).map(|n| vec![sample(n, 300)]).collect();
    let vfs = written(1, &groups, false);
    let mut bytes = vfs.medium(&segment(1)).unwrap();
    bytes[3 * 4096 + 200] ^= 1;
    bytes[5 * 4096..6 * 4096].fill(0);
    vfs.put(&segment(1), bytes.clone()).unwrap();
    let shown = items(&vfs, all(), false);
    assert_eq!(positions(&shown), [1, 2, 4, 6]);
    let bad: Vec<u64> = shown
        .iter()
        .filter_map(|item| match item {
            DumpItem::Bad { byte, .. } => Some(*byte),
            _ => None,
        })
        .collect();
    assert_eq!(bad, [3 * 4096]);

    let raw: Vec<_> = items(&vfs, all(), true)
        .into_iter()
        .filter_map(|item| match item {
            DumpItem::Block { byte, header, first_bad } => {
                Some((byte / 4096, header.map(|header| header.first.0), first_bad))
            }
            _ => None,
        })
        .collect();
    let whole = |n| (n, Some(n), None);
    let third = (3, None, Some(3 * 4096));
    assert_eq!(raw, [whole(1), whole(2), third, whole(4), whole(6)]);

    // Without the header, and without the mark that has the salt too.
    for end in [512, 1024] {
        bytes[..end].fill(0x5a);
        vfs.put(&segment(1), bytes.clone()).unwrap();
        let shown = items(&vfs, all(), false);
        assert_eq!(positions(&shown), [1, 2, 4, 6]);
        let DumpItem::Segment { header: None, problem: Some(problem), .. } = &shown[0] else {
            panic!("{:?}", shown[0]);
        };
        assert!(problem.contains("does not match its checksum"), "{problem}");
        let blocks = items(&vfs, all(), true);
        assert_eq!(blocks.iter().filter(|one| matches!(one, DumpItem::Block { .. })).count(), 5);
    }
}

#[test]
fn stat_counts() {
    let groups = script(7, 30);
    let vfs = written(7, &groups, true);
    vfs.put(&Path::new(DIR).join("notes"), vec![1]).unwrap();
    vfs.put(&Path::new(DIR).join("segment.001.wal.rejected"), vec![1]).unwrap();
    let report = stat(Path::new(DIR), &vfs).unwrap();
    assert_eq!(report.identity, Some((LOG_ID, TIMELINE)));
    assert_eq!(report.last.unwrap().0.0 as usize, groups.concat().len());
    let files = vfs.files().len() as u64;
    assert_eq!((report.segments + report.spares, report.spares), (files - 2, 1));
    assert_eq!(report.rejected, ["segment.001.wal.rejected"]);
    assert_eq!(report.unknown, ["notes"]);
    let bytes: usize = vfs.files().iter().map(|path| vfs.medium(path).unwrap().len()).sum();
    assert_eq!(report.bytes, bytes as u64 - 2);
}

/// Real files, segments prepared and retired on a thread, readers and `verify` beside the writer.
#[test]
fn a_log_in_use_is_whole_whenever_it_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let config = WalConfig { segment_bytes: 64 << 10, ..WalConfig::new(dir.path().join("wal")) };
    let (mut wal, _) = Wal::open(config.clone(), Env::real(), NEW).unwrap();
    let groups = script(3, 400);
    wal.append(&groups[0]).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let looking = std::thread::spawn({
        let (done, dir, reader) = (Arc::clone(&done), config.dir.clone(), wal.reader());
        move || {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let durable = reader.durable().0;
                let report = verify(&dir, &RealVfs).unwrap();
                assert!(report.whole(), "{:?}", report.findings);
                let records: u64 = report.segments.iter().map(|segment| segment.records).sum();
                assert!(records >= durable.0, "{records} of {durable}");
                assert!(reader.read(durable).unwrap().is_some());
                looks += 1;
            }
            looks
        }
    });
    for group in &groups[1..] {
        wal.append(group).unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(looking.join().unwrap() > 2);
    let durable = check_entries(&*wal.reader(), &groups);
    wal.close().unwrap();
    let (wal, recovery) = Wal::open(config, Env::real(), existing(Some(durable))).unwrap();
    assert!(recovery.sealed && recovery.segments > 10, "{recovery:?}");
    assert_eq!(check_entries(&*wal.reader(), &groups), durable);
}

/// Like `check_prefix`, without the roots: these groups are stamped by a real clock.
fn check_entries(reader: &dyn stemedb_log::LogReader, groups: &[Vec<NewEntry>]) -> u64 {
    let all: Vec<&NewEntry> = groups.iter().flatten().collect();
    let mut next = 1;
    reader
        .scan(Position(1), &mut |entries| {
            for entry in entries {
                assert_eq!(entry.position.0, next);
                assert_eq!(&entry.new, all[next as usize - 1]);
                next += 1;
            }
            Ok(true)
        })
        .unwrap();
    assert_eq!(next - 1, all.len() as u64);
    next - 1
}
