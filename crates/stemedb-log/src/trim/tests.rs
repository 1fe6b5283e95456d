//! Old segments go only with a proof, after the floor is durable, and at no moment is anything
//! missing that the floor does not explain.

use std::path::Path;
use std::sync::Arc;

use stemedb_io::Env;
use stemedb_io::sim::{EIO, Fault, SimVfs, When, world};

use super::*;
use crate::conformance::{LOG_ID, START_MS, TIMELINE, sample};
use crate::{
    DumpItem, ErrorKind, Expect, Log, LogReader, LogState, NewEntry, Recovery, Wal, WalConfig,
    dump, stat, verify,
};

const DIR: &str = "/data/wal";

fn config() -> WalConfig {
    WalConfig {
        segment_bytes: 16 * 4096,
        prepare_in_background: false,
        retention: Retention::Archived,
        ..WalConfig::new(DIR)
    }
}

fn env_on(vfs: &SimVfs) -> Env {
    let (_, _, env) = world(7, START_MS);
    Env { vfs: Arc::new(vfs.clone()), ..env }
}

fn open(vfs: &SimVfs, config: WalConfig) -> Result<(Wal, Recovery), LogError> {
    let expect = Expect::Existing { log_id: Some(LOG_ID), witness: None };
    Wal::open(config, env_on(vfs), expect)
}

/// Ninety records, some segments of them packed.
fn written() -> (SimVfs, Vec<NewEntry>, Wal) {
    let vfs = SimVfs::new(5);
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (mut wal, _) = Wal::open(config(), env_on(&vfs), new).unwrap();
    let entries: Vec<NewEntry> = (0..90).map(|n| sample(n, 300)).collect();
    for (n, entry) in entries.iter().enumerate() {
        wal.append(std::slice::from_ref(entry)).unwrap();
        if n == 50 {
            wal.repack_now().unwrap();
        }
    }
    (vfs, entries, wal)
}

/// What an archive would say that holds everything up to the end of segment `number`.
fn archived(vfs: &SimVfs, number: u64) -> ArchiveProof {
    let path = Path::new(DIR).join(segment_name(number + 1));
    let file = vfs.open(&path, Open::Read).unwrap();
    let HeaderState::Ok(header) = read_header(&*file, "next").unwrap() else { panic!("no header") };
    ArchiveProof::new(LOG_ID, TIMELINE, header.fence.position, header.fence.chain)
}

/// Everything from `first` on is there, and nothing before it.
fn check(reader: &dyn LogReader, entries: &[NewEntry], first: Position) {
    for (position, entry) in (1..).zip(entries) {
        match reader.read(Position(position)) {
            Ok(found) => {
                assert!(position >= first.0, "position {position} was removed");
                assert_eq!(&found.unwrap().new, entry);
            }
            Err(LogError::Trimmed { position: asked, first: here }) => {
                assert!(position < first.0, "position {position} is missing");
                assert_eq!((asked.0, here), (position, first));
            }
            Err(other) => panic!("{other}"),
        }
    }
    let mut next = first.0;
    reader
        .scan(first, &mut |group| {
            for entry in group {
                assert_eq!(entry.position.0, next);
                next += 1;
            }
            Ok(true)
        })
        .unwrap();
    assert_eq!(next as usize, entries.len() + 1);
    if first > Position(1) {
        let error = reader.scan(Position(1), &mut |_| Ok(true)).unwrap_err();
        assert!(matches!(error, LogError::Trimmed { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}

fn segments(vfs: &SimVfs) -> Vec<u64> {
    names(vfs, Path::new(DIR)).unwrap().segments.iter().map(|(number, _)| *number).collect()
}

fn floor_of(vfs: &SimVfs) -> Position {
    Floor::load(vfs, Path::new(DIR)).unwrap().map_or(Position(1), |floor| floor.first)
}

#[test]
fn what_is_archived_may_go() {
    let (vfs, mut entries, mut wal) = written();
    let newest = wal.shared_segments();
    assert!(newest >= 6, "{newest} segments");
    let proof = archived(&vfs, 3);
    let reader = wal.reader();
    check(&*reader, &entries, Position(1));
    let trimmed = wal.trim(&proof).unwrap();
    assert_eq!(trimmed.removed, ["segment.001.wal", "segment.002.wal", "segment.003.wal"]);
    assert_eq!(trimmed.first, proof.through.next());
    assert_eq!(segments(&vfs)[0], 4);
    check(&*reader, &entries, trimmed.first);
    let again = wal.trim(&proof).unwrap();
    assert_eq!((again.first, again.removed.len()), (trimmed.first, 0));
    // An older proof is no step back.
    let second = archived(&vfs, 4);
    let trimmed = wal.trim(&second).unwrap();
    assert_eq!(wal.trim(&proof).unwrap().first, trimmed.first);

    entries.push(sample(90, 300));
    wal.append(entries.split_last().map(|(last, _)| std::slice::from_ref(last)).unwrap()).unwrap();
    wal.repack_now().unwrap();
    wal.scrub_now().unwrap();
    check(&*reader, &entries, trimmed.first);
    drop(wal);
    let (wal, recovery) = open(&vfs.crash(), config()).unwrap();
    assert!(recovery.warnings.is_empty(), "{:?}", recovery.warnings);
    check(&*wal.reader(), &entries, trimmed.first);
    let report = verify(Path::new(DIR), &vfs).unwrap();
    assert!(report.findings.is_empty() && report.unknown.is_empty(), "{:?}", report.findings);
    assert_eq!(stat(Path::new(DIR), &vfs).unwrap().last.unwrap().0.0 as usize, entries.len());
}

#[test]
fn without_a_proof_nothing_goes() {
    let (vfs, entries, mut wal) = written();
    let good = archived(&vfs, 2);
    let newest = wal.shared_segments();
    let before = segments(&vfs);
    let refused = |wal: &mut Wal, proof: ArchiveProof| match wal.trim(&proof) {
        Err(LogError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(&mut wal, ArchiveProof { chain: Hash([1; 32]), ..good.clone() });
    assert!(why.contains("what was archived is not this log"), "{why}");
    let why = refused(&mut wal, ArchiveProof { log_id: LogId([8; 16]), ..good.clone() });
    assert!(why.contains("the archive is of log"), "{why}");
    let why = refused(&mut wal, ArchiveProof { timeline: Timeline([8; 16]), ..good.clone() });
    assert!(why.contains("on timeline"), "{why}");
    // Not the end of a segment; the end of the newest sealed one.
    let through = Position(good.through.0 - 1);
    refused(&mut wal, ArchiveProof { through, ..good.clone() });
    refused(&mut wal, archived(&vfs, newest - 1));
    assert_eq!(segments(&vfs), before);
    check(&*wal.reader(), &entries, Position(1));
    drop(wal);

    let keep = WalConfig { retention: Retention::Keep, ..config() };
    let (mut wal, _) = open(&vfs, keep).unwrap();
    let why = refused(&mut wal, good);
    assert!(why.contains("wal.retention"), "{why}");
    assert_eq!(segments(&vfs), before);
}

#[test]
fn power_is_cut_at_every_change_of_a_trim() {
    let (vfs, entries, wal) = written();
    drop(wal);
    let whole = vfs.fork();
    let (mut wal, _) = open(&whole, config()).unwrap();
    let start = whole.changes();
    let first = wal.trim(&archived(&whole, 3)).unwrap().first;
    let total = whole.changes() - start;
    drop(wal);
    let (mut before, mut after, mut ignored) = (0, 0, 0);
    for changes in 0..=total {
        let vfs = vfs.fork();
        let (mut wal, _) = open(&vfs, config()).unwrap();
        let proof = archived(&vfs, 3);
        vfs.power_off_after(changes);
        let _ = wal.trim(&proof);
        drop(wal);
        for _ in 0..8 {
            let crashed = vfs.crash();
            let floor = floor_of(&crashed);
            let (mut wal, recovery) = open(&crashed, config()).unwrap();
            if floor == Position(1) {
                assert!(recovery.warnings.is_empty(), "{:?}", recovery.warnings);
                before += 1;
            } else {
                assert_eq!(floor, first);
                let below = segments(&crashed).iter().filter(|number| **number < 4).count();
                assert_eq!(recovery.warnings.len(), below, "{:?}", recovery.warnings);
                ignored += below;
                after += 1;
            }
            check(&*wal.reader(), &entries, floor);
            assert_eq!(verify(Path::new(DIR), &crashed).unwrap().exit_status(), 0);
            assert_eq!(wal.trim(&proof).unwrap().first, first);
            assert_eq!(segments(&crashed)[0], 4);
            check(&*wal.reader(), &entries, first);
        }
    }
    assert!(before > 8 && after > 8 && ignored > 3, "{before}, {after}, {ignored}");
}

#[test]
fn any_operation_of_a_trim_may_fail() {
    let (vfs, entries, wal) = written();
    drop(wal);
    let whole = vfs.fork();
    let (mut wal, _) = open(&whole, config()).unwrap();
    let proof = archived(&whole, 3);
    let start = whole.count_all();
    wal.trim(&proof).unwrap();
    let total = whole.count_all() - start;
    drop(wal);
    let (mut failed, mut read_only) = (0, 0);
    for n in 1..=total {
        for when in [When::Nth(n), When::From(n)] {
            let vfs = vfs.fork();
            let (mut wal, _) = open(&vfs, config()).unwrap();
            vfs.inject(Fault { op: None, path: DIR.into(), when, errno: EIO });
            let outcome = wal.trim(&proof);
            vfs.clear_faults();
            failed += u64::from(outcome.is_err());
            let floor = wal.first_kept();
            check(&*wal.reader(), &entries, floor);
            let folder = matches!(
                &outcome,
                Err(LogError::Io { op, .. }) if op.starts_with("sync folder after")
            );
            if folder {
                assert!(matches!(wal.reader().state(), LogState::ReadOnly { .. }));
                read_only += 1;
            } else {
                assert_eq!(wal.reader().state(), LogState::Ok, "{outcome:?}");
                wal.trim(&proof).unwrap();
                assert_eq!(segments(&vfs)[0], 4);
            }
            drop(wal);
            for vfs in [vfs.fork(), vfs.crash()] {
                let (wal, _) = open(&vfs, config()).unwrap();
                check(&*wal.reader(), &entries, floor_of(&vfs));
            }
        }
    }
    assert!(failed > 10 && read_only >= 2, "{failed} of {total} failed, {read_only} read-only");
}

/// What a floor does not explain is damage as before; a floor that cannot be believed is not
/// guessed at.
#[test]
fn a_floor_explains_only_what_it_names() {
    let (vfs, entries, mut wal) = written();
    wal.trim(&archived(&vfs, 3)).unwrap();
    drop(wal);
    let error = |vfs: &SimVfs| open(vfs, config()).map(|(_, r)| r).unwrap_err().to_string();
    let path = |name: &str| Path::new(DIR).join(name);

    let gap = vfs.fork();
    gap.take(&path("segment.004.wal")).unwrap();
    let text = error(&gap);
    assert!(text.contains("segment.004.wal not there"), "{text}");
    assert_eq!(verify(Path::new(DIR), &gap).unwrap().exit_status(), 1);

    let without = vfs.fork();
    without.take(&path("floor")).unwrap();
    let text = error(&without);
    assert!(text.contains("segment.001.wal to segment.003.wal not there"), "{text}");

    let bytes = vfs.medium(&path("floor")).unwrap();
    for at in 0..bytes.len() {
        let rotten = vfs.fork();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        rotten.put(&path("floor"), flipped).unwrap();
        let text = error(&rotten);
        assert!(text.starts_with("floor"), "byte {at}: {text}");
        assert_eq!(verify(Path::new(DIR), &rotten).unwrap().exit_status(), 1, "byte {at}");
    }
    let newer = vfs.fork();
    let mut other = bytes.clone();
    other[8] = 9;
    let crc = crc32c::crc32c(&other[..12]).to_le_bytes();
    other[12..16].copy_from_slice(&crc);
    newer.put(&path("floor"), other).unwrap();
    assert!(matches!(
        open(&newer, config()).map(|(_, r)| r),
        Err(LogError::TooNew { found: 9, .. })
    ));

    // The floor of another history.
    let other = vfs.fork();
    let mut moved = Floor::load(&vfs, Path::new(DIR)).unwrap().unwrap();
    moved.salt += 1;
    let _ = other.take(&path("floor"));
    moved.store(&other, Path::new(DIR)).map_err(|error| format!("{error:?}")).unwrap();
    let text = error(&other);
    assert!(text.contains("not the segment that the file `floor` names"), "{text}");

    // A new database is not begun on a floor.
    for number in segments(&vfs) {
        other.take(&path(&segment_name(number))).unwrap();
    }
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    assert!(Wal::open(config(), env_on(&other), new).is_err());
    let mut dumped = 0;
    dump(Path::new(DIR), &vfs, (Position(1), Position::MAX), false, &mut |item| {
        dumped += usize::from(matches!(item, DumpItem::Entry(_)));
        true
    })
    .unwrap();
    assert_eq!(dumped as u64, entries.len() as u64 + 1 - floor_of(&vfs).0);
}
