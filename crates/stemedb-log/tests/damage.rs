//! Files are flipped, cut, lost, swapped, doubled and mixed up: never a wrong record, always a
//! refusal that names the file, or the whole truth.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::path::Path;

use stemedb_io::sim::SimVfs;
use stemedb_log::conformance::{LOG_ID, TIMELINE, sample};
use stemedb_log::{DamageKind, ErrorKind, Expect, Log, LogError, NewEntry, Wal, WalConfig, verify};
use stemedb_model::{LogId, Timeline};
use world::*;

fn medium(vfs: &SimVfs, path: &Path) -> Vec<u8> {
    vfs.medium(path).unwrap()
}

/// A log of its own, with salts of its own.
fn written_with(rng: u64, groups: &[Vec<NewEntry>], new: Expect) -> SimVfs {
    let vfs = SimVfs::new(1);
    let (mut wal, _) = Wal::open(config(), env_on(&vfs, rng), new).unwrap();
    for group in groups {
        wal.append(group).unwrap();
    }
    vfs
}

/// Opens what is on `vfs`. If it opens, everything must be there; if not, the refusal must be one
/// about data. Gives the error.
fn all_or_refused(vfs: &SimVfs, groups: &[Vec<NewEntry>], what: &str) -> Option<LogError> {
    match open(vfs, existing(None)) {
        Ok((wal, _)) => {
            let durable = check_prefix(&*wal.reader(), groups);
            assert_eq!(durable, groups.concat().len(), "{what}: records vanished in silence");
            None
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Data, "{what}: {error}");
            assert!(error.to_string().contains("segment."), "{what}: {error} names no file");
            Some(error)
        }
    }
}

/// Segments in use of a log, with their bytes.
fn segments(vfs: &SimVfs) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    vfs.files().into_iter().map(|path| (path.clone(), medium(vfs, &path))).collect()
}

#[test]
fn a_flipped_bit_is_never_a_wrong_record() {
    for sealed in [true, false] {
        let groups = script(31, 16);
        let whole = written(31, &groups, sealed);
        let (mut refused, mut harmless) = (0, 0);
        for (path, bytes) in segments(&whole) {
            // Every field of the headers, and samples of everything else: each sector twice.
            let header = (0..200).step_by(3);
            let blocks = (4096..bytes.len()).step_by(4096).flat_map(|block| block..block + 100);
            let samples = (0..bytes.len()).step_by(1021);
            for (n, at) in header.chain(blocks.step_by(13)).chain(samples).enumerate() {
                let damaged = whole.fork();
                let mut bytes = bytes.clone();
                let Some(byte) = bytes.get_mut(at) else { continue };
                *byte ^= 1 << (n % 8);
                damaged.put(&path, bytes).unwrap();
                let what = format!("{} byte {at}", path.display());
                match all_or_refused(&damaged, &groups, &what) {
                    Some(_) => refused += 1,
                    None => harmless += 1,
                }
            }
        }
        assert!(refused > 300, "{refused} refused, {harmless} harmless");
        assert!(harmless < refused / 4, "{refused} refused, {harmless} harmless");
    }
}

/// The record that a flip hits is acknowledged, and a later block says so: damage, with the
/// positions. At the very end nothing says so: the operator is asked, and may void it.
#[test]
fn damage_is_named_by_its_position() {
    let groups: Vec<Vec<NewEntry>> = (1..=6).map(|n| vec![sample(n, 300)]).collect();
    // One group a block: position n is in block n of segment 1.
    let flip = |vfs: &SimVfs, block: usize| {
        let mut bytes = medium(vfs, &segment(1));
        *bytes.get_mut(block * 4096 + 700).unwrap() ^= 1;
        vfs.put(&segment(1), bytes).unwrap();
    };
    let vfs = written(1, &groups, false);
    flip(&vfs, 3);
    match open(&vfs, existing(None)) {
        Err(LogError::Damaged { file, offset, first, last, hint, .. }) => {
            assert_eq!((file.as_str(), offset), ("segment.001.wal", 3 * 4096 + 512));
            assert_eq!((first.0, last.0), (3, 3));
            assert!(hint.contains("stemedb wal verify"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    let report = verify(Path::new(DIR), &vfs).unwrap();
    assert_eq!(report.exit_status(), 1);
    let damage = report.segments.first().unwrap().damage;
    assert_eq!(damage, Some((3 * 4096 + 512, DamageKind::Corrupt, Some(true))));

    let vfs = written(1, &groups, false);
    flip(&vfs, 6);
    assert!(matches!(open(&vfs, existing(None)), Err(LogError::TailUndecided { .. })));
    assert!(matches!(open(&vfs, existing(Some(5))), Err(LogError::TailUndecided { .. })));
    assert!(matches!(open(&vfs, existing(Some(6))), Err(LogError::Damaged { .. })));
    let lenient = WalConfig { void_tail: true, ..config() };
    let refused = Wal::open(lenient.clone(), env_on(&vfs, 1), existing(Some(6)));
    assert!(matches!(refused, Err(LogError::Damaged { .. })), "a witness outweighs the operator");
    let (wal, recovery) = Wal::open(lenient, env_on(&vfs, 1), existing(Some(5))).unwrap();
    assert_eq!(recovery.durable.0, 5);
    let voided = recovery.voided.unwrap();
    assert_eq!((voided.file.as_str(), voided.offset), ("segment.001.wal", 6 * 4096));
    assert_eq!(voided.because, "operator");
    let kept = medium(&vfs, &Path::new(DIR).join(&voided.kept_as));
    assert_eq!(kept, medium(&vfs, &segment(1)).get(6 * 4096..7 * 4096).unwrap());
    drop(wal);
    // Decided once, decided for ever: the fence is durable, and the flag is no longer needed.
    let (wal, recovery) = open(&vfs.crash(), existing(Some(5))).unwrap();
    assert_eq!((recovery.durable.0, recovery.voided), (5, None));
    check_prefix(&*wal.reader(), &groups);

    // A seal behind the last group is the witness that was missing.
    let vfs = written(1, &groups, true);
    flip(&vfs, 6);
    assert!(matches!(open(&vfs, existing(None)), Err(LogError::Damaged { .. })));
}

#[test]
fn a_torn_group_is_void_and_a_rotten_one_is_not() {
    let groups = vec![vec![sample(1, 300)], vec![sample(2, 9_000)]];
    let sectors = 3 * 8;
    for missing in (1..(1u32 << 10) - 1).step_by(11) {
        let vfs = written(2, &groups, false);
        let mut bytes = medium(&vfs, &segment(1));
        // Spread ten bits over the sectors of the second group, blocks 2 to 4.
        for sector in (0..sectors).filter(|sector| missing >> (sector * 5 % 13 % 10) & 1 == 1) {
            let at = 2 * 4096 + sector * 512;
            bytes.get_mut(at..at + 512).unwrap().fill(0);
        }
        vfs.put(&segment(1), bytes).unwrap();
        assert!(matches!(open(&vfs, existing(Some(2))), Err(LogError::Damaged { .. })));
        let report = verify(Path::new(DIR), &vfs).unwrap();
        assert_eq!(report.exit_status(), 0, "a tail that was never durable is not damage");
        let (wal, recovery) = open(&vfs, existing(Some(1))).unwrap();
        assert_eq!(recovery.voided.unwrap().because, "torn");
        assert_eq!(check_prefix(&*wal.reader(), &groups), 1);
    }
    // One sector missing and one bit flipped: torn does not explain it.
    let vfs = written(2, &groups, false);
    let mut bytes = medium(&vfs, &segment(1));
    bytes.get_mut(3 * 4096..3 * 4096 + 512).unwrap().fill(0);
    *bytes.get_mut(2 * 4096 + 600).unwrap() ^= 4;
    vfs.put(&segment(1), bytes).unwrap();
    assert!(matches!(open(&vfs, existing(None)), Err(LogError::TailUndecided { .. })));
}

#[test]
fn a_cut_file_is_never_a_shorter_log() {
    let groups = script(41, 14);
    let whole = written(41, &groups, false);
    let files = segments(&whole);
    let in_use = files.len() - 1;
    for (path, bytes) in files.iter().take(in_use) {
        for len in (0..bytes.len()).step_by(512) {
            let cut = whole.fork();
            cut.put(path, bytes.get(..len).unwrap().to_vec()).unwrap();
            let what = format!("{} cut to {len}", path.display());
            let error = all_or_refused(&cut, &groups, &what);
            let report = verify(Path::new(DIR), &cut).unwrap();
            assert_eq!(report.exit_status() == 1, error.is_some(), "{what}: {error:?}");
        }
    }
}

#[test]
fn files_at_the_wrong_place_are_refused_by_name() {
    let groups = script(51, 45);
    let whole = written(51, &groups, true);
    let other = written_with(52, &groups, NEW);
    let last = segments(&whole).len() as u64 - 1;
    assert!(last >= 4, "{last} segments");
    let bytes = |vfs: &SimVfs, number| medium(vfs, &segment(number));

    type Change<'a> = Box<dyn Fn(&SimVfs) + 'a>;
    let cases: Vec<(&str, DamageKind, Change<'_>)> = vec![
        ("the first is gone", DamageKind::Missing, Box::new(|v| v.take(&segment(1)).unwrap())),
        ("one is gone", DamageKind::Missing, Box::new(|v| v.take(&segment(2)).unwrap())),
        (
            "the newest is gone, with its spare",
            DamageKind::Missing,
            Box::new(|v| {
                v.take(&segment(last)).unwrap();
                v.take(&segment(last + 1)).unwrap();
            }),
        ),
        (
            "the newest is gone, its spare is not",
            DamageKind::Missing,
            Box::new(|v| v.take(&segment(last)).unwrap()),
        ),
        (
            "two are swapped",
            DamageKind::Swapped,
            Box::new(|v| {
                let two = bytes(v, 2);
                v.put(&segment(2), bytes(v, 3)).unwrap();
                v.put(&segment(3), two).unwrap();
            }),
        ),
        (
            "one is there twice",
            DamageKind::Swapped,
            Box::new(|v| v.put(&segment(3), bytes(v, 2)).unwrap()),
        ),
        (
            "the newest is a copy of the one before",
            DamageKind::Swapped,
            Box::new(|v| v.put(&segment(last), bytes(v, last - 1)).unwrap()),
        ),
        (
            "one is of another log with the same name and number",
            DamageKind::Swapped,
            Box::new(|v| v.put(&segment(2), bytes(&other, 2)).unwrap()),
        ),
    ];
    for (what, kind, change) in cases {
        let vfs = whole.fork();
        change(&vfs);
        let error = open(&vfs, existing(None)).map(|(_, recovery)| recovery).unwrap_err();
        assert!(matches!(error, LogError::Misplaced { .. }), "{what}: {error}");
        assert!(error.to_string().contains("segment."), "{what}: {error}");
        let report = verify(Path::new(DIR), &vfs).unwrap();
        assert_eq!(report.exit_status(), 1, "{what}");
        let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert!(kinds.contains(&kind), "{what}: {kinds:?}");
    }
}

#[test]
fn a_file_of_another_database_is_foreign() {
    let groups = script(61, 30);
    let vfs = written(61, &groups, true);
    let new = Expect::New { log_id: LogId([8; 16]), timeline: TIMELINE };
    let elsewhere = written_with(62, &groups, new);
    vfs.put(&segment(2), medium(&elsewhere, &segment(2))).unwrap();
    let error = open(&vfs, existing(None)).map(|(_, recovery)| recovery).unwrap_err();
    assert!(error.to_string().contains("segment.002.wal: foreign"), "{error}");

    let wrong = Expect::Existing { log_id: Some(LogId([8; 16])), witness: None };
    let error = open(&written(61, &groups, true), wrong).map(|(_, r)| r).unwrap_err();
    assert!(error.to_string().contains("segment.001.wal: foreign"), "{error}");
}

#[test]
fn an_older_copy_is_refused() {
    let groups = script(71, 30);
    let older = written(71, groups.split_at(3).0, true);
    let newer = written(71, &groups, true);
    // Same salts, same beginning: only the fence of the next segment gives it away.
    newer.put(&segment(1), medium(&older, &segment(1))).unwrap();
    let error = open(&newer, existing(None)).map(|(_, recovery)| recovery).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    // The newest one is given away by what the index knows.
    let records = groups.concat().len() as u64;
    let error = open(&older, existing(Some(records))).map(|(_, r)| r).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("the index has applied position {records}")), "{text}");
}

/// A disk may give back what an earlier file had in the same place. Here it is even the next group
/// of the very same history; only the salt says that it was never written to this file.
#[test]
fn old_bytes_never_verify() {
    let groups: Vec<Vec<NewEntry>> = (1..=6).map(|n| vec![sample(n, 300)]).collect();
    let earlier = medium(&written_with(1, &groups, NEW), &segment(1));
    let now = written_with(2, groups.get(..3).unwrap(), NEW);
    let mut bytes = medium(&now, &segment(1));
    let stale = 4 * 4096..7 * 4096;
    bytes.get_mut(stale.clone()).unwrap().copy_from_slice(earlier.get(stale).unwrap());
    now.put(&segment(1), bytes).unwrap();
    match open(&now, existing(None)) {
        Err(LogError::TailUndecided { .. }) => {}
        Ok((_, recovery)) => panic!("old bytes are records now: {recovery:?}"),
        Err(other) => panic!("{other}"),
    }
}

/// What lies behind the damage is whole and cannot make up for it: no start with a hole.
#[test]
fn damage_in_an_earlier_segment_is_refused() {
    let groups = script(32, 40);
    let whole = written(32, &groups, true);
    let newest = segments(&whole).len() as u64 - 1;
    assert!(newest >= 4, "{newest} segments");
    for number in 1..newest {
        let vfs = whole.fork();
        let mut bytes = medium(&vfs, &segment(number));
        bytes[4096 + 700] ^= 1;
        vfs.put(&segment(number), bytes).unwrap();
        match open(&vfs, existing(None)) {
            Err(LogError::Damaged { file, offset, .. }) => {
                let name = format!("segment.{number:03}.wal");
                assert_eq!((file, offset), (name, 4096 + 512));
            }
            Ok((_, recovery)) => panic!("a start with a hole in segment {number}: {recovery:?}"),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The void group is longer than the one that follows it: what is left of it must never be taken
/// for part of the log, nor for damage.
#[test]
fn a_void_group_stays_void() {
    let groups = vec![vec![sample(1, 300)], vec![sample(2, 9_000)]];
    let vfs = written(2, &groups, false);
    let mut bytes = medium(&vfs, &segment(1));
    bytes.get_mut(2 * 4096..3 * 4096).unwrap().fill(0);
    vfs.put(&segment(1), bytes).unwrap();
    let (mut wal, recovery) = open(&vfs, existing(Some(1))).unwrap();
    assert_eq!(recovery.voided.unwrap().kept_as, "segment.001.wal.rejected");
    let history = vec![groups[0].clone(), vec![sample(3, 300)], vec![sample(4, 300)]];
    wal.append(&history[1]).unwrap();
    drop(wal);
    let (mut wal, recovery) = open(&vfs.crash(), existing(Some(2))).unwrap();
    assert_eq!((recovery.voided, recovery.segments), (None, 2));
    wal.append(&history[2]).unwrap();
    assert_eq!(check_prefix(&*wal.reader(), &history), 3);
}

/// Segments that a start has proved are not read at the next one. They are proved when they are
/// used, and whoever asks for it gets all of it at once.
#[test]
fn what_was_verified_once_is_skipped_but_never_believed() {
    let groups = script(31, 40);
    let records = groups.concat().len();
    let vfs = written(31, &groups, true);
    let start = |vfs: &SimVfs, verify_all| {
        let config = WalConfig { verify_all, ..config() };
        Wal::open(config, env_on(vfs, 1), existing(Some(records as u64)))
    };
    let (_, first) = start(&vfs, false).unwrap();
    assert!(first.segments >= 3 && first.segments_skipped == 0, "{first:?}");
    let (wal, second) = start(&vfs, false).unwrap();
    assert_eq!(second.segments_skipped, first.segments - 1);
    assert_eq!(check_prefix(&*wal.reader(), &groups), records);
    drop(wal);
    assert_eq!(start(&vfs, true).unwrap().1.segments_skipped, 0);

    let rotten = vfs.fork();
    let mut bytes = medium(&rotten, &segment(1));
    bytes[5000] ^= 1;
    rotten.put(&segment(1), bytes).unwrap();
    let (wal, _) = start(&rotten, false).unwrap();
    let error = wal.reader().read(stemedb_model::Position(1)).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    let error = wal.reader().scan(stemedb_model::Position(1), &mut |_| Ok(true)).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    drop(wal);
    assert!(matches!(start(&rotten, true), Err(LogError::Damaged { .. })));

    // A segment that is no longer the one that was proved is read, and found out.
    let older = written(31, groups.split_at(3).0, true);
    vfs.put(&segment(1), medium(&older, &segment(1))).unwrap();
    assert!(matches!(start(&vfs, false), Err(LogError::Damaged { .. })));
    let lying = vfs.fork();
    lying.put(&Path::new(DIR).join("verified"), vec![7; 60]).unwrap();
    assert!(matches!(start(&lying, false), Err(LogError::Damaged { .. })));
}

/// An empty file behind a cut one does not make it whole: what opens once opens again.
#[test]
fn an_empty_file_does_not_excuse_a_cut_one() {
    let groups = script(53, 2);
    let whole = written_with(53, &groups, NEW);
    let bytes = medium(&whole, &segment(1));
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for len in [used.next_multiple_of(4096), used.next_multiple_of(4096) + 100] {
        let vfs = whole.fork();
        vfs.put(&segment(1), bytes[..len].to_vec()).unwrap();
        vfs.put(&segment(2), Vec::new()).unwrap();
        let error = open(&vfs, existing(None)).unwrap_err();
        assert!(matches!(error, LogError::TailUndecided { .. }), "{error}");
        let lenient = WalConfig { void_tail: true, ..config() };
        drop(Wal::open(lenient, env_on(&vfs, 1), existing(None)).unwrap());
        drop(open(&vfs.crash(), existing(None)).unwrap());
    }
}

/// Salts tell segments apart: a prepared one with the mark of another is not taken into use.
#[test]
fn a_spare_with_a_foreign_mark_is_made_anew() {
    let groups = script(51, 8);
    let vfs = written_with(51, &groups, NEW);
    let last = segments(&vfs).len() as u64;
    let mut spare = medium(&vfs, &segment(last));
    let other = medium(&vfs, &segment(1));
    assert_ne!(spare[512..1024], other[512..1024]);
    spare[512..1024].copy_from_slice(&other[512..1024]);
    vfs.put(&segment(last), spare).unwrap();
    let (mut wal, _) = open(&vfs, existing(None)).unwrap();
    for group in &script(52, 24) {
        wal.append(group).unwrap();
    }
    drop(wal);
    let files = segments(&vfs);
    let mut salts: Vec<&[u8]> = files.iter().map(|(_, bytes)| &bytes[528..536]).collect();
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), files.len());
}

#[test]
fn a_newer_format_is_not_damage() {
    let vfs = written(1, &script(1, 3), true);
    let mut bytes = medium(&vfs, &segment(1));
    bytes.get_mut(8..12).unwrap().copy_from_slice(&7u32.to_le_bytes());
    vfs.put(&segment(1), bytes.clone()).unwrap();
    let error = open(&vfs, existing(None)).map(|(_, recovery)| recovery).unwrap_err();
    assert!(error.to_string().contains("segment."), "without its checksum it is damage: {error}");
    assert!(!matches!(error, LogError::TooNew { .. }));

    let crc = crc32c(bytes.get(..12).unwrap());
    bytes.get_mut(12..16).unwrap().copy_from_slice(&crc.to_le_bytes());
    vfs.put(&segment(1), bytes).unwrap();
    match open(&vfs, existing(None)) {
        Err(LogError::TooNew { file, found: 7, supported: 1 }) => {
            assert_eq!(file, "segment.001.wal");
        }
        other => panic!("{other:?}"),
    }
    let report = verify(Path::new(DIR), &vfs).unwrap();
    assert_eq!(report.findings.first().unwrap().kind, DamageKind::TooNew);
}

/// Bit by bit, so that the checksum of the format is checked by other code than wrote it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn folders_that_are_not_what_is_expected() {
    let groups = script(81, 3);
    let full = written(81, &groups, true);
    let error = |vfs: &SimVfs, expect| open(vfs, expect).map(|(_, r)| r).unwrap_err().to_string();
    let empty = SimVfs::new(1);
    assert!(error(&empty, existing(None)).contains("missing"));
    stemedb_io::Vfs::create_dir_all(&empty, Path::new(DIR)).unwrap();
    assert!(error(&empty, existing(None)).contains("missing: the folder holds no log"));
    assert!(error(&full, NEW).contains("holds a log up to position"));

    // Prepared and never used is new as well as empty.
    let prepared = SimVfs::new(1);
    drop(open(&prepared, NEW).unwrap());
    assert!(prepared.medium(&segment(1)).is_some());
    assert!(error(&prepared, existing(None)).contains("missing: the folder holds no log"));
    drop(open(&prepared, NEW).unwrap());

    let (wal, _) = open(&full, existing(None)).unwrap();
    assert!(matches!(open(&full, existing(None)), Err(LogError::Locked { .. })));
    drop(wal);

    full.put(&Path::new(DIR).join("notes.txt"), b"x".to_vec()).unwrap();
    full.put(&Path::new(DIR).join("segment.0001.wal"), b"x".to_vec()).unwrap();
    full.put(&Path::new(DIR).join("segment.099.wal.tmp"), b"x".to_vec()).unwrap();
    let (_, recovery) = open(&full, existing(None)).unwrap();
    assert_eq!(recovery.warnings.len(), 2, "{:?}", recovery.warnings);
    assert!(full.medium(&Path::new(DIR).join("segment.099.wal.tmp")).is_none());
}

/// After damage in the middle, a single file is judged by itself, and nothing is changed.
#[test]
fn verify_changes_nothing_and_takes_single_files() {
    let groups = script(91, 20);
    let vfs = written(91, &groups, true);
    let before = segments(&vfs);
    let report = verify(Path::new(DIR), &vfs).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let records: u64 = report.segments.iter().map(|segment| segment.records).sum();
    assert_eq!(records as usize, groups.concat().len());
    let identity = Some((LOG_ID, TIMELINE));
    assert!(report.segments.iter().all(|s| s.spare != (s.identity == identity)));
    for segment in &report.segments {
        let single = verify(&Path::new(DIR).join(&segment.file), &vfs).unwrap();
        assert!(single.findings.is_empty(), "{:?}", single.findings);
        assert_eq!(single.segments.first().unwrap(), segment);
    }
    vfs.put(Path::new("/elsewhere/renamed"), medium(&vfs, &segment(2))).unwrap();
    let single = verify(Path::new("/elsewhere/renamed"), &vfs).unwrap();
    assert_eq!((single.exit_status(), single.segments.first().unwrap().number), (0, 2));
    vfs.take(Path::new("/elsewhere/renamed")).unwrap();
    assert_eq!(segments(&vfs), before);
    assert!(verify(Path::new("/nowhere"), &vfs).is_err());
}

#[test]
fn timelines_must_follow_each_other() {
    let groups = script(95, 30);
    let vfs = written(95, &groups, true);
    // The same salts, as after a branch: only the timeline is another.
    let new = Expect::New { log_id: LOG_ID, timeline: Timeline([1; 16]) };
    let other = written_with(77, &groups, new);
    vfs.put(&segment(3), medium(&other, &segment(3))).unwrap();
    let report = verify(Path::new(DIR), &vfs).unwrap();
    let finding = report.findings.first().unwrap();
    assert_eq!((finding.file.as_str(), finding.kind), ("segment.003.wal", DamageKind::Foreign));
}
