//! Sealed segments become small and stay what they were: the same entries, positions and chain,
//! for readers that come later and for those that are in the middle; after a crash or a failure at
//! any moment; and every flipped bit is found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::io;
use std::path::Path;
use std::sync::Arc;

use stemedb_io::sim::{EIO, ENOSPC, Fault, OpKind, SimVfs, When};
use stemedb_io::{DirEntry, Env, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};
use stemedb_log::conformance::sample;
use stemedb_log::{
    DamageKind, DumpItem, Log, LogError, LogState, NewEntry, Wal, WalConfig, dump, stat, verify,
};
use stemedb_model::{Kind, Position, record_id};
use world::*;

/// Segments that take several frames when they are packed.
fn longer() -> WalConfig {
    WalConfig { segment_bytes: 128 * 4096, ..config() }
}

fn open_longer(vfs: &SimVfs, expect: stemedb_log::Expect) -> Result<Wal, LogError> {
    Wal::open(longer(), env_on(vfs, 77), expect).map(|(wal, _)| wal)
}

/// Entries as they are in life: the id is the hash of the body. Every seventh is not, as if its
/// body had been erased. Bodies repeat themselves, as records do.
fn lifelike(seed: u64, groups: usize) -> Vec<Vec<NewEntry>> {
    let mut groups = script(seed, groups);
    for (n, entry) in groups.iter_mut().flatten().enumerate() {
        let mut body = b"a subject and a predicate that many records share ".repeat(3);
        body.extend_from_slice(&entry.body);
        entry.body = body.into();
        if n % 7 > 0 {
            entry.id = record_id(Kind::ALL[n % 5], &entry.body);
        }
    }
    groups
}

fn written_longer(seed: u64, groups: &[Vec<NewEntry>]) -> (SimVfs, Wal) {
    written_as(longer(), seed, groups)
}

fn written_short(seed: u64, groups: &[Vec<NewEntry>]) -> (SimVfs, Wal) {
    written_as(config(), seed, groups)
}

fn written_as(config: WalConfig, seed: u64, groups: &[Vec<NewEntry>]) -> (SimVfs, Wal) {
    let vfs = SimVfs::new(seed);
    let (mut wal, _) = Wal::open(config, env_on(&vfs, 77), NEW).unwrap();
    for (n, group) in groups.iter().enumerate() {
        wal.append(group).unwrap();
        if n % 5 == 4 {
            wal.seal().unwrap();
        }
    }
    (vfs, wal)
}

fn medium(vfs: &SimVfs, number: u64) -> Vec<u8> {
    vfs.medium(&segment(number)).unwrap()
}

fn is_packed(vfs: &SimVfs, number: u64) -> bool {
    vfs.medium(&segment(number)).is_some_and(|bytes| bytes.starts_with(b"STEMEPAK"))
}

fn leftovers(vfs: &SimVfs) -> Vec<String> {
    let names = vfs.files().into_iter().map(|path| path.display().to_string());
    names.filter(|name| name.contains("packed")).collect()
}

#[test]
fn packed_segments_say_the_same() {
    let groups = lifelike(11, 420);
    let all = groups.concat().len();
    let (vfs, wal) = written_longer(11, &groups);
    let before = verify(Path::new(DIR), &vfs).unwrap();
    let used = before.segments.iter().filter(|segment| !segment.spare).count() as u64;
    assert!(used >= 5, "{used} segments");
    let reader = wal.reader();
    check_prefix(&*reader, &groups);

    let packed = wal.repack_now().unwrap();
    assert_eq!(packed.segments, used - 2, "the newest sealed one and the one in use stay");
    assert!(packed.bytes_after < packed.bytes_before * 9 / 10, "{packed:?}");
    assert_eq!((1..=used).filter(|number| is_packed(&vfs, *number)).count() as u64, used - 2);
    assert_eq!(wal.repack_now().unwrap().segments, 0, "nothing is packed twice");
    assert!(leftovers(&vfs).is_empty());

    // The reading end from before, whose files were open.
    assert_eq!(check_prefix(&*reader, &groups), all);
    let after = verify(Path::new(DIR), &vfs).unwrap();
    assert!(after.findings.is_empty(), "{:?}", after.findings);
    for (before, after) in before.segments.iter().zip(&after.segments) {
        assert_eq!((before.groups, before.records), (after.groups, after.records));
        assert_eq!((before.positions, before.identity), (after.positions, after.identity));
        assert_eq!(before.entry_bytes, after.entry_bytes);
        let file = Path::new(DIR).join(&after.file);
        let single = verify(&file, &vfs).unwrap();
        assert!(single.findings.is_empty(), "{:?}", single.findings);
        assert_eq!(single.segments.first().unwrap(), after);
    }
    assert_eq!(stat(Path::new(DIR), &vfs).unwrap().last.unwrap().0.0 as usize, all);
    drop(wal);

    // Read at the start, taken on trust at the next one, read again on demand.
    for (verify_all, skipped) in [(false, 0), (false, used - 1), (true, 0)] {
        let config = WalConfig { verify_all, ..longer() };
        let opened = Wal::open(config, env_on(&vfs, 78), existing(Some(all as u64))).unwrap();
        assert_eq!(opened.1.segments_skipped, skipped);
        assert_eq!(check_prefix(&*opened.0.reader(), &groups), all);
    }
    let mut wal = open_longer(&vfs.crash(), existing(Some(all as u64))).unwrap();
    let more = [groups.clone(), lifelike(12, 3)].concat();
    for group in &more[groups.len()..] {
        wal.append(group).unwrap();
    }
    check_prefix(&*wal.reader(), &more);
}

/// Groups of one record each: what they take is a block for the record and one for the seal.
#[test]
fn a_trickle_becomes_dense() {
    let groups: Vec<Vec<NewEntry>> = (0..1200)
        .map(|n| {
            let mut entry = sample(n, 250);
            entry.id = record_id(Kind::Assertion, &entry.body);
            vec![entry]
        })
        .collect();
    let vfs = SimVfs::new(1);
    let config = WalConfig { segment_bytes: 512 * 4096, ..config() };
    let (mut wal, _) = Wal::open(config, env_on(&vfs, 77), NEW).unwrap();
    for group in &groups {
        wal.append(group).unwrap();
        wal.seal().unwrap();
    }
    let packed = wal.repack_now().unwrap();
    let records: u64 = verify(Path::new(DIR), &vfs).unwrap().segments[..packed.segments as usize]
        .iter()
        .map(|segment| segment.records)
        .sum();
    // Bodies of chance, which cannot be compressed.
    let ratio = packed.bytes_after as f64 / (records * (250 + 64)) as f64;
    assert!(ratio <= 1.1, "{ratio} for {records} records, {packed:?}");
    check_prefix(&*wal.reader(), &groups);
}

#[test]
fn a_scan_in_the_middle_goes_on() {
    let groups = lifelike(13, 260);
    let all: Vec<NewEntry> = groups.concat();
    let (vfs, wal) = written_longer(13, &groups);
    let reader = wal.reader();
    let mut seen = 0;
    let scanned = reader.scan(Position(1), &mut |entries| {
        if seen == 0 {
            assert!(wal.repack_now().unwrap().segments > 1);
        }
        for entry in entries {
            assert_eq!(entry.new, all[seen]);
            seen += 1;
            // Into frames that were blocks when the scan began.
            let other = seen * 7919 % all.len();
            let found = reader.read(Position(other as u64 + 1)).unwrap().unwrap();
            assert_eq!(found.new, all[other]);
        }
        Ok(true)
    });
    scanned.unwrap();
    assert_eq!(seen, all.len());
    assert!(is_packed(&vfs, 1));
}

#[test]
fn scans_begin_and_end_anywhere() {
    let groups = lifelike(14, 260);
    let all: Vec<NewEntry> = groups.concat();
    let (_vfs, wal) = written_longer(14, &groups);
    wal.repack_now().unwrap();
    let reader = wal.reader();
    for from in (1..=all.len()).step_by(11) {
        let mut next = from;
        reader
            .scan(Position(from as u64), &mut |entries| {
                for entry in entries {
                    assert_eq!(entry.position.0 as usize, next);
                    assert_eq!(entry.new, all[next - 1]);
                    next += 1;
                }
                Ok(next < from + 40)
            })
            .unwrap();
        assert!(next > all.len() || next >= from + 40, "{from} to {next}");
    }
}

#[test]
fn dump_shows_packed_segments() {
    let groups = lifelike(15, 260);
    let all = groups.concat().len() as u64;
    let (vfs, wal) = written_longer(15, &groups);
    let shown = |raw| {
        let (mut positions, mut numbers, mut frames) = (Vec::new(), Vec::new(), 0u64);
        dump(Path::new(DIR), &vfs, (Position(1), Position::MAX), raw, &mut |item| {
            match item {
                DumpItem::Entry(entry) => positions.push(entry.position.0),
                DumpItem::Group(group) if group.kind.is_link() => {
                    numbers.push((group.number, group.first, group.chain, group.bytes));
                }
                DumpItem::Frame { whole, first, last, .. } => {
                    assert!(whole && first <= last);
                    frames += 1;
                }
                DumpItem::Bad { problem, .. } => panic!("{problem}"),
                _ => {}
            }
            true
        })
        .unwrap();
        (positions, numbers, frames)
    };
    let before = shown(false);
    wal.repack_now().unwrap();
    let after = shown(false);
    assert_eq!(after.0, (1..=all).collect::<Vec<_>>());
    assert_eq!(before, after);
    assert!(shown(true).2 > 4);
}

/// Each part of a packed file, bit by bit or nearly so: verify finds it, a start that reads all
/// refuses, and reads give the right record or an error that names the file and the position.
#[test]
fn a_flipped_bit_is_found() {
    let groups = lifelike(31, 260);
    let all: Vec<NewEntry> = groups.concat();
    let (whole, wal) = written_longer(31, &groups);
    assert!(wal.repack_now().unwrap().segments >= 1);
    drop(wal);
    // From now on a start takes the packed segments on trust.
    drop(open_longer(&whole, existing(Some(all.len() as u64))).unwrap());
    let bytes = medium(&whole, 1);
    let frames = frames_of(&bytes);
    assert!(frames.len() >= 3, "{frames:?}");
    let footer = bytes.len() - 200..bytes.len();
    let heads = frames.iter().flat_map(|at| *at..at + 108);
    let payload = (512..bytes.len()).step_by(997);
    let report = verify(Path::new(DIR), &whole).unwrap();
    let (first, last) = report.segments[0].positions.unwrap();
    let (mut lost, mut served) = (0, 0);
    for (n, at) in
        (0..512).step_by(3).chain(heads.step_by(2)).chain(payload).chain(footer).enumerate()
    {
        let damaged = whole.fork();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (n % 8);
        damaged.put(&segment(1), flipped).unwrap();
        let report = verify(Path::new(DIR), &damaged).unwrap();
        assert_eq!(report.exit_status(), 1, "byte {at}");
        let found = report.findings.first().unwrap();
        assert_eq!(found.file, "segment.001.wal", "byte {at}");
        assert_eq!(found.acknowledged, Some(true), "byte {at}: {found:?}");
        assert!(found.offset as usize <= at, "byte {at}: {found:?}");
        let single = verify(&segment(1), &damaged).unwrap();
        assert_eq!(single.exit_status(), 1, "byte {at} of the file by itself");
        let config = WalConfig { verify_all: true, ..longer() };
        let refused = Wal::open(config, env_on(&damaged, 5), existing(None));
        let error = refused.map(|(_, recovery)| recovery).unwrap_err();
        assert!(error.to_string().contains("segment.001.wal"), "byte {at}: {error}");
        let Ok(wal) = open_longer(&damaged, existing(None)) else { continue };
        let reader = wal.reader();
        for position in (first.0..=last.0).step_by(3) {
            match reader.read(Position(position)) {
                Ok(entry) => {
                    assert_eq!(entry.unwrap().new, all[position as usize - 1], "byte {at}");
                    served += 1;
                }
                Err(LogError::Damaged { file, first, last, .. }) => {
                    assert_eq!(file, "segment.001.wal");
                    assert!((first.0..=last.0).contains(&position), "{first} to {last}");
                    lost += 1;
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
    assert!(lost > 1000 && served > lost, "{lost} lost, {served} served");
}

/// Where frames begin, from their magic and length alone.
fn frames_of(bytes: &[u8]) -> Vec<usize> {
    let mut frames = Vec::new();
    let mut at = 512;
    while bytes[at..].starts_with(b"SPF0") {
        frames.push(at);
        let packed = u32::from_le_bytes(bytes[at + 28..at + 32].try_into().unwrap());
        at += 104 + packed as usize;
    }
    frames
}

/// Damage in one frame leaves the others readable, with and without the index at the end.
#[test]
fn other_frames_are_read() {
    let groups = lifelike(32, 260);
    let all: Vec<NewEntry> = groups.concat();
    let (whole, wal) = written_longer(32, &groups);
    wal.repack_now().unwrap();
    drop(wal);
    drop(open_longer(&whole, existing(None)).unwrap());
    let bytes = medium(&whole, 1);
    let frames = frames_of(&bytes);
    let first = |at: usize| u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap());
    let bad = first(frames[1])..first(frames[2]);
    let report = verify(Path::new(DIR), &whole).unwrap();
    let last = report.segments[0].positions.unwrap().1.0;
    let mut flipped = bytes.clone();
    flipped[frames[1] + 300] ^= 1;
    let damaged = whole.fork();
    damaged.put(&segment(1), flipped.clone()).unwrap();
    let finding = verify(Path::new(DIR), &damaged).unwrap().findings[0].clone();
    assert_eq!((finding.first.0, finding.last.0), (bad.start, bad.end - 1));
    assert_eq!((finding.offset as usize, finding.kind), (frames[1] + 104, DamageKind::Corrupt));

    let wal = open_longer(&damaged, existing(None)).unwrap();
    for position in 1..=last {
        match wal.reader().read(Position(position)) {
            Ok(entry) => {
                assert!(!bad.contains(&position));
                assert_eq!(entry.unwrap().new, all[position as usize - 1]);
            }
            Err(LogError::Damaged { file, offset, first, last, .. }) => {
                assert!(bad.contains(&position), "position {position} of {bad:?}");
                assert_eq!((file.as_str(), offset as usize), ("segment.001.wal", frames[1] + 104));
                assert_eq!((first.0, last.0), (bad.start, bad.end - 1));
            }
            Err(other) => panic!("{other}"),
        }
    }
    let error = wal.reader().scan(Position(1), &mut |_| Ok(true)).unwrap_err();
    assert!(matches!(error, LogError::Damaged { first, .. } if first.0 == bad.start), "{error}");
    let mut dumped = Vec::new();
    dump(&segment(1), &damaged, (Position(1), Position::MAX), false, &mut |item| {
        if let DumpItem::Entry(entry) = item {
            dumped.push(entry.position.0);
        }
        true
    })
    .unwrap();
    let expected: Vec<u64> = (1..=last).filter(|position| !bad.contains(position)).collect();
    assert_eq!(dumped, expected);
    drop(wal);

    // Without the index at the end, one frame leads to the next.
    let without = bytes.len() - 40;
    let damaged = whole.fork();
    let mut flipped = bytes.clone();
    flipped[without] ^= 1;
    damaged.put(&segment(1), flipped).unwrap();
    let finding = verify(Path::new(DIR), &damaged).unwrap().findings[0].clone();
    assert!(finding.problem.contains("its records are whole"), "{finding:?}");
    let wal = open_longer(&whole, existing(None)).unwrap();
    whole.put(&segment(1), medium(&damaged, 1)).unwrap();
    for position in 1..=last {
        let entry = wal.reader().read(Position(position)).unwrap().unwrap();
        assert_eq!(entry.new, all[position as usize - 1]);
    }
    check_prefix(&*wal.reader(), &groups);
    drop(wal);
    damaged.put(&Path::new(DIR).join("segment.001.wal"), bytes[..without].to_vec()).unwrap();
    assert_eq!(verify(Path::new(DIR), &damaged).unwrap().exit_status(), 1);
}

/// A packed file that was cut, or has something behind its end, is damage.
#[test]
fn a_cut_packed_file_is_found() {
    let groups = lifelike(33, 260);
    let (whole, wal) = written_longer(33, &groups);
    wal.repack_now().unwrap();
    drop(wal);
    let bytes = medium(&whole, 1);
    let cuts = (0..bytes.len()).step_by(509).map(|len| bytes[..len].to_vec());
    let longer = [[&bytes[..], &[0; 32]].concat(), [&bytes[..], &bytes[..]].concat()];
    for changed in cuts.chain(longer) {
        let damaged = whole.fork();
        let len = changed.len();
        damaged.put(&segment(1), changed).unwrap();
        let report = verify(Path::new(DIR), &damaged).unwrap();
        assert_eq!(report.exit_status(), 1, "{len} of {} bytes", bytes.len());
        let error = open_longer(&damaged, existing(None)).map(drop).unwrap_err();
        assert!(error.to_string().contains("segment.001.wal"), "{len}: {error}");
    }
}

#[test]
fn packed_segments_at_the_wrong_place_are_refused() {
    let groups = lifelike(34, 420);
    let (whole, wal) = written_longer(34, &groups);
    assert!(wal.repack_now().unwrap().segments >= 3);
    drop(wal);
    let (other, other_wal) = {
        let vfs = SimVfs::new(9);
        let mut wal = Wal::open(longer(), env_on(&vfs, 99), NEW).unwrap().0;
        for group in &groups {
            wal.append(group).unwrap();
        }
        wal.repack_now().unwrap();
        (vfs, wal)
    };
    drop(other_wal);
    let (one, two) = (medium(&whole, 1), medium(&whole, 2));
    let stranger = medium(&other, 2);
    for (what, number, bytes) in [
        ("one at the place of two", 2, one.clone()),
        ("two at the place of one", 1, two),
        ("the same groups of another log", 2, stranger),
    ] {
        let vfs = whole.fork();
        vfs.put(&segment(number), bytes).unwrap();
        let error = open_longer(&vfs, existing(None)).map(drop).unwrap_err();
        assert!(matches!(error, LogError::Misplaced { .. }), "{what}: {error}");
        let report = verify(Path::new(DIR), &vfs).unwrap();
        assert_eq!(report.findings[0].kind, DamageKind::Swapped, "{what}");
    }
    // A frame that was moved to another place of the same file.
    let frames = frames_of(&one);
    let mut moved = one.clone();
    let head = one[frames[0]..frames[0] + 104].to_vec();
    moved[frames[1]..frames[1] + 104].copy_from_slice(&head);
    let vfs = whole.fork();
    vfs.put(&segment(1), moved).unwrap();
    let found = verify(Path::new(DIR), &vfs).unwrap().findings[0].clone();
    assert_eq!((found.kind, found.offset as usize), (DamageKind::Corrupt, frames[1]));
    // The last one is packed, and the rest of the log is gone.
    let vfs = whole.fork();
    let used = verify(Path::new(DIR), &whole).unwrap().segments.len() as u64;
    for number in 2..=used {
        vfs.take(&segment(number)).unwrap();
    }
    let error = open_longer(&vfs, existing(None)).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("segment.002.wal: missing"), "{error}");
}

fn fault(op: Option<OpKind>, when: When, errno: i32) -> Fault {
    Fault { op, path: DIR.into(), when, errno }
}

/// The power goes at every change that packing makes: original or packed, never neither.
#[test]
fn power_is_cut_at_every_change_of_packing() {
    let groups = lifelike(41, 48);
    let all = groups.concat().len();
    let (vfs, wal) = written_short(41, &groups);
    drop(wal);
    let open_at = |vfs: &SimVfs| open(vfs, existing(Some(all as u64))).unwrap().0;
    let whole = vfs.fork();
    let wal = open_at(&whole);
    let start = whole.changes();
    let packed = wal.repack_now().unwrap().segments;
    let total = whole.changes() - start;
    drop(wal);
    assert!(packed >= 2 && total > 20, "{packed} segments, {total} changes");
    let (mut originals, mut replaced) = (0, 0);
    for changes in 0..=total {
        let vfs = vfs.fork();
        let wal = open_at(&vfs);
        vfs.power_off_after(changes);
        let _ = wal.repack_now();
        drop(wal);
        for _ in 0..4 {
            let crashed = vfs.crash();
            for number in 1..=packed {
                if is_packed(&crashed, number) { replaced += 1 } else { originals += 1 }
            }
            let config = WalConfig { verify_all: true, ..config() };
            let opened = Wal::open(config, env_on(&crashed, 3), existing(Some(all as u64)));
            let (wal, recovery) = opened.unwrap();
            assert!(recovery.warnings.is_empty(), "{:?}", recovery.warnings);
            assert_eq!(check_prefix(&*wal.reader(), &groups), all);
            assert!(leftovers(&crashed).is_empty());
            wal.repack_now().unwrap();
            assert_eq!(check_prefix(&*wal.reader(), &groups), all);
        }
    }
    assert!(originals > 20 && replaced > 20, "{originals}, {replaced}");
}

/// Every operation of packing fails once: the log goes on, but for a failed sync of the folder
/// once the name was given.
#[test]
fn any_operation_of_packing_may_fail() {
    let groups = lifelike(42, 48);
    let all = groups.concat().len();
    let (vfs, wal) = written_short(42, &groups);
    drop(wal);
    let open_at = |vfs: &SimVfs| open(vfs, existing(Some(all as u64))).unwrap().0;
    let whole = vfs.fork();
    let wal = open_at(&whole);
    let start = whole.count_all();
    assert!(wal.repack_now().unwrap().segments >= 2);
    let total = whole.count_all() - start;
    drop(wal);
    let (mut failed, mut read_only) = (0, 0);
    for n in 1..=total {
        for (when, errno) in [(When::Nth(n), EIO), (When::From(n), EIO), (When::Nth(n), ENOSPC)] {
            let vfs = vfs.fork();
            let mut wal = open_at(&vfs);
            vfs.inject(fault(None, when, errno));
            let outcome = wal.repack_now();
            vfs.clear_faults();
            failed += u64::from(outcome.is_err());
            let after_rename =
                matches!(&outcome, Err(LogError::Io { op: "sync folder after packing", .. }));
            assert_eq!(check_prefix(&*wal.reader(), &groups), all);
            let state = wal.reader().state();
            if after_rename {
                assert!(matches!(state, LogState::ReadOnly { .. }), "{state:?}");
                read_only += 1;
            } else {
                assert_eq!(state, LogState::Ok, "{outcome:?}");
                if !matches!(when, When::From(_)) {
                    assert!(leftovers(&vfs).is_empty(), "{n}: {outcome:?}");
                }
                wal.append(&groups[0]).unwrap();
                // Some file systems cannot prove what they read, and that is how this one looks
                // after a read without waiting that fails: nothing more is packed then.
                wal.repack_now().unwrap();
                assert!(leftovers(&vfs).is_empty());
            }
            drop(wal);
            for vfs in [vfs.fork(), vfs.crash()] {
                let wal = open_at(&vfs);
                let more = [groups.clone(), vec![groups[0].clone()]].concat();
                assert!(check_prefix(&*wal.reader(), &more) >= all);
            }
        }
    }
    assert!(failed > 50 && read_only >= 2, "{failed} of {total} failed, {read_only} read-only");
}

/// A file system whose cache cannot be dropped cannot prove the packed file: nothing is replaced.
#[test]
fn what_cannot_be_proved_is_not_replaced() {
    let groups = lifelike(43, 48);
    let (vfs, wal) = written_short(43, &groups);
    // EOPNOTSUPP, as a file system without such reads answers.
    vfs.inject(Fault {
        op: Some(OpKind::ReadNowait),
        path: "packed.tmp".into(),
        when: When::From(1),
        errno: 95,
    });
    let done = wal.repack_now().unwrap();
    assert!(done.unproved && done.segments == 0, "{done:?}");
    assert!(!is_packed(&vfs, 1) && leftovers(&vfs).is_empty());
    check_prefix(&*wal.reader(), &groups);
}

/// A disk that changes one bit of what is written to packed files, and says nothing.
struct Lying {
    disk: SimVfs,
    /// Which byte of each write.
    byte: usize,
}

struct LyingFile {
    file: Box<dyn VfsFile>,
    byte: usize,
}

impl Vfs for Lying {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>> {
        let file = self.disk.open(path, mode)?;
        let lies = path.to_string_lossy().ends_with("packed.tmp");
        Ok(if lies { Box::new(LyingFile { file, byte: self.byte }) } else { file })
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.disk.metadata(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.disk.file_system(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>> {
        self.disk.lock(path)
    }
}

impl VfsFile for LyingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut changed = buf.to_vec();
        let at = self.byte % changed.len();
        changed[at] ^= 4;
        self.file.write_at(&changed, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn evict(&self) -> io::Result<()> {
        self.file.evict()
    }
    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_nowait(buf, offset)
    }
    fn close(self: Box<Self>) -> io::Result<()> {
        self.file.close()
    }
}

/// What was written to the packed file is not what is read back: the original stays.
#[test]
fn a_packed_file_that_reads_back_wrong_is_not_used() {
    let groups = lifelike(44, 48);
    let all = groups.concat().len();
    let (vfs, wal) = written_short(44, &groups);
    drop(wal);
    for byte in (0..40_000).step_by(1201) {
        let disk = vfs.fork();
        let lying = Arc::new(Lying { disk: disk.clone(), byte });
        let env = Env { vfs: lying, ..env_on(&disk, 6) };
        let (mut wal, _) = Wal::open(config(), env, existing(Some(all as u64))).unwrap();
        let error = wal.repack_now().unwrap_err();
        assert!(error.to_string().contains("what was read back"), "{error}");
        assert!(!is_packed(&disk, 1) && leftovers(&disk).is_empty());
        assert_eq!(wal.reader().state(), LogState::Ok);
        assert_eq!(check_prefix(&*wal.reader(), &groups), all);
        wal.append(&groups[0]).unwrap();
    }
}

/// Without room for the packed file and the next segment nothing is begun.
#[test]
fn packing_leaves_room_for_the_log() {
    let groups = lifelike(45, 48);
    let (vfs, wal) = written_short(45, &groups);
    let used: usize = vfs.files().iter().map(|path| vfs.medium(path).unwrap().len()).sum();
    vfs.set_capacity(used as u64 + 4096);
    let error = wal.repack_now().unwrap_err();
    assert!(error.to_string().contains("packing wants"), "{error}");
    assert_eq!(wal.reader().state(), LogState::Ok);
    vfs.set_capacity(u64::MAX);
    assert!(wal.repack_now().unwrap().segments >= 2);
}

/// Damage is found before it is packed: a packed segment is never made of it.
#[test]
fn damage_is_not_packed() {
    let groups = lifelike(46, 320);
    let (vfs, wal) = written_longer(46, &groups);
    let mut bytes = medium(&vfs, 1);
    bytes[5 * 4096 + 700] ^= 1;
    vfs.put(&segment(1), bytes.clone()).unwrap();
    let done = wal.repack_now().unwrap();
    assert!(done.segments >= 1, "{done:?}");
    assert_eq!(medium(&vfs, 1), bytes, "the damaged one is as it was");
    assert!(is_packed(&vfs, 2));
    let LogState::Degraded { reason } = wal.reader().state() else { panic!("not degraded") };
    assert!(reason.contains("segment.001.wal, byte 20992"), "{reason}");
}

/// A segment whose tail recovery voided: the void bytes are not packed.
#[test]
fn a_voided_tail_is_left_behind() {
    let groups = lifelike(47, 20);
    let (vfs, wal) = written_longer(47, &groups);
    drop(wal);
    let durable = groups.concat().len();
    // A group that never arrived whole.
    let mut bytes = medium(&vfs, 1);
    let last = bytes.chunks(4096).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap();
    let seal = bytes[last * 4096..last * 4096 + 512].to_vec();
    bytes[last * 4096..(last + 1) * 4096].fill(0);
    bytes[last * 4096..last * 4096 + 512].copy_from_slice(&seal);
    vfs.put(&segment(1), bytes).unwrap();
    let opened = Wal::open(longer(), env_on(&vfs, 5), existing(None));
    let (mut wal, recovery) = opened.unwrap();
    assert!(recovery.voided.is_some());
    let kept = recovery.durable.0 as usize;
    assert!(kept <= durable);
    let mut history: Vec<Vec<NewEntry>> = Vec::new();
    let mut left = kept;
    for group in &groups {
        if left < group.len() {
            break;
        }
        left -= group.len();
        history.push(group.clone());
    }
    for group in lifelike(48, 260) {
        wal.append(&group).unwrap();
        history.push(group);
    }
    assert!(wal.repack_now().unwrap().segments >= 1);
    assert!(is_packed(&vfs, 1));
    check_prefix(&*wal.reader(), &history);
    drop(wal);
    let config = WalConfig { verify_all: true, ..longer() };
    let (wal, _) = Wal::open(config, env_on(&vfs.crash(), 5), existing(None)).unwrap();
    check_prefix(&*wal.reader(), &history);
}
