//! Damage of every part of a segment, and its repair: what can be proved is kept byte for byte,
//! what cannot is named exactly, and the log goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use stemedb_io::sim::SimVfs;
use stemedb_io::{DirEntry, Env, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};
use stemedb_log::conformance::{LOG_ID, TIMELINE, sample};
use stemedb_log::{
    DamageKind, DumpItem, Entry, Group, GroupKind, HeaderOrigin, Log, LogError, NewEntry,
    RepairOptions, RepairReport, Wal, WalConfig, dump, repair, verify,
};
use stemedb_model::Position;
use world::*;

const BLOCK: usize = 4096;

fn output(number: u64) -> PathBuf {
    Path::new("/repaired").join(format!("segment.{number:03}.wal"))
}

fn options(number: u64) -> RepairOptions {
    RepairOptions {
        segment: segment(number),
        output: output(number),
        truncate_at: None,
        plan: false,
        accept_loss: true,
        witness: None,
        identity: None,
        tool: "a test".into(),
    }
}

fn run(vfs: &SimVfs, options: &RepairOptions) -> Result<RepairReport, LogError> {
    vfs.create_dir_all(Path::new("/repaired")).unwrap();
    repair(&env_on(vfs, 5), options)
}

/// Puts the result of a repair where its input was.
fn install(vfs: &SimVfs, number: u64) {
    let bytes = vfs.medium(&output(number)).unwrap();
    vfs.put(&segment(number), bytes).unwrap();
    vfs.take(&output(number)).unwrap();
    let rejected = output(number).with_extension("wal.rejected");
    if vfs.exists(&rejected).unwrap() {
        vfs.take(&rejected).unwrap();
    }
}

/// A log, and everything that was in it.
struct Original {
    vfs: SimVfs,
    entries: Vec<Entry>,
    /// Segments with records.
    segments: Vec<u64>,
}

impl Original {
    fn of(seed: u64, groups: &[Vec<NewEntry>], sealed: bool) -> Self {
        let vfs = written(seed, groups, sealed);
        let mut entries = Vec::new();
        let (wal, _) = open(&vfs.fork(), existing(None)).unwrap();
        wal.reader()
            .scan(Position(1), &mut |group| {
                entries.extend(group);
                Ok(true)
            })
            .unwrap();
        assert_eq!(entries.len(), groups.concat().len());
        let report = verify(Path::new(DIR), &vfs).unwrap();
        let segments = report.segments.iter().filter(|one| !one.spare).map(|one| one.number);
        Self { entries, segments: segments.collect(), vfs }
    }

    fn durable(&self) -> u64 {
        self.entries.len() as u64
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        self.vfs.medium(&segment(number)).unwrap()
    }

    /// The groups of one segment.
    fn groups(&self, number: u64) -> Vec<Group> {
        let mut groups = Vec::new();
        let all = (Position(1), Position::MAX);
        dump(&segment(number), &self.vfs, all, false, &mut |item| {
            if let DumpItem::Group(group) = item {
                groups.push(group);
            }
            true
        })
        .unwrap();
        groups
    }

    /// Positions of the groups that any of these bytes belongs to.
    fn hit(&self, number: u64, bytes: &[Range<usize>]) -> Vec<u64> {
        let touched = |group: &Group| {
            let from = group.block as usize * BLOCK;
            let to = from + group.blocks as usize * BLOCK;
            bytes.iter().any(|range| range.start < to && range.end > from)
        };
        let groups = self.groups(number);
        let hit = groups.iter().filter(|one| one.kind == GroupKind::Entries && touched(one));
        hit.flat_map(|one| one.first.0..=one.last.0).collect()
    }

    /// A copy with other bytes in one segment.
    fn with(&self, number: u64, bytes: Vec<u8>) -> SimVfs {
        let vfs = self.vfs.fork();
        vfs.put(&segment(number), bytes).unwrap();
        vfs
    }

    /// The repaired log holds everything but `lost`, up to `durable`, and goes on.
    fn check(&self, vfs: &SimVfs, lost: &[u64], durable: u64, what: &str) {
        let report = verify(Path::new(DIR), vfs).unwrap();
        assert_eq!(report.exit_status(), 0, "{what}: {:?}", report.findings);
        let found = report.findings.iter().inspect(|one| {
            assert_eq!(one.kind, DamageKind::Lost, "{what}: {one:?}");
        });
        let reported: Vec<u64> = found.flat_map(|one| one.first.0..=one.last.0).collect();
        assert_eq!(reported, lost, "{what}: verify names what is lost");

        let (mut wal, _) =
            open(vfs, existing(Some(durable))).unwrap_or_else(|error| panic!("{what}: {error}"));
        let reader = wal.reader();
        assert_eq!(reader.durable().0.0, durable, "{what}");
        let ranges = reader.lost();
        let told: Vec<u64> = ranges.iter().flat_map(|one| one.first.0..=one.last.0).collect();
        assert_eq!(told, lost, "{what}: the reader names what is lost");
        for position in 1..=durable {
            match reader.read(Position(position)) {
                Ok(entry) => {
                    assert_eq!(entry.as_ref(), self.entries.get(position as usize - 1), "{what}");
                    assert!(!lost.contains(&position), "{what}: {position} is not lost");
                }
                Err(LogError::Lost { first, last, by }) => {
                    assert!(lost.contains(&position), "{what}: {position} is lost");
                    assert!((first.0..=last.0).contains(&position) && by.contains("a test"));
                }
                Err(error) => panic!("{what}: position {position}: {error}"),
            }
        }
        let mut scanned = Vec::new();
        reader
            .scan(Position(1), &mut |group| {
                scanned.extend(group);
                Ok(true)
            })
            .unwrap();
        let expected = self.entries.iter().take(durable as usize);
        let expected = expected.filter(|entry| !lost.contains(&entry.position.0));
        assert!(scanned.iter().eq(expected), "{what}: a scan passes over what is lost");

        let again = vec![sample(990_001, 300), sample(990_002, 5_000)];
        let commit = wal.append(&again).unwrap();
        assert_eq!(commit.first.0, durable + 1, "{what}: a lost position is not used again");
        drop(wal);
        let (wal, _) = open(&vfs.crash(), existing(Some(durable + 2)))
            .unwrap_or_else(|error| panic!("{what}: after going on: {error}"));
        let reader = wal.reader();
        let entry = reader.read(Position(durable + 2)).unwrap().unwrap();
        assert_eq!(entry.new, again[1], "{what}");
    }

    /// Damages the bytes of one segment, repairs it, and expects the groups that were hit to be
    /// lost and nothing else.
    fn repaired(&self, number: u64, damaged: &[Range<usize>], bytes: Vec<u8>, what: &str) {
        self.costs(number, &self.hit(number, damaged), bytes, what);
    }

    /// Repairs a segment of these bytes and expects exactly `lost` to be lost.
    fn costs(&self, number: u64, lost: &[u64], bytes: Vec<u8>, what: &str) -> RepairReport {
        let vfs = self.with(number, bytes.clone());
        let report = run(&vfs, &options(number)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let told: Vec<u64> = report.lost.iter().flat_map(|one| one.first.0..=one.last.0).collect();
        assert_eq!(told, lost, "{what}: {report:?}");
        assert!(report.lost.iter().all(|one| one.acknowledged == Some(true)), "{what}: {report:?}");
        assert_eq!(vfs.medium(&segment(number)).unwrap(), bytes, "{what}: the input was touched");
        assert_eq!(report.undecided, None, "{what}");
        // Nothing disappears: what is not in the result is in the rejected bytes.
        let dropped: Vec<u8> = report
            .dropped
            .iter()
            .flat_map(|range| bytes[range.from as usize..range.to as usize].to_vec())
            .collect();
        let written = report.written.as_ref().unwrap();
        let rejected = written.rejected.as_ref().map(|path| vfs.medium(path).unwrap());
        assert_eq!(rejected.unwrap_or_default(), dropped, "{what}");
        install(&vfs, number);
        self.check(&vfs, lost, self.durable(), what);
        report
    }

    /// The same log with its sealed segments packed, in several frames each.
    fn packed(seed: u64) -> Self {
        let long = WalConfig { segment_bytes: 128 * BLOCK as u64, ..config() };
        let vfs = SimVfs::new(seed);
        let (mut wal, _) = Wal::open(long, env_on(&vfs, 77), NEW).unwrap();
        for group in script(seed, 420) {
            wal.append(&group).unwrap();
        }
        let packed = wal.repack_now().unwrap().segments;
        assert!(packed >= 3, "{packed}");
        let mut entries = Vec::new();
        wal.reader()
            .scan(Position(1), &mut |group| {
                entries.extend(group);
                Ok(true)
            })
            .unwrap();
        drop(wal);
        Self { vfs, entries, segments: (1..=packed).collect() }
    }

    /// Bytes and positions of the frames of a packed segment.
    fn frames(&self, number: u64) -> Vec<(Range<usize>, Vec<u64>)> {
        let mut frames = Vec::new();
        let all = (Position(1), Position::MAX);
        dump(&segment(number), &self.vfs, all, true, &mut |item| {
            if let DumpItem::Frame { byte, bytes, first, last, .. } = item {
                let byte = byte as usize;
                frames.push((byte..byte + bytes as usize, (first.0..=last.0).collect()));
            }
            true
        })
        .unwrap();
        frames
    }
}

/// One bit, in every sector of every written block of every segment.
#[test]
fn a_flipped_bit_anywhere_costs_its_group_and_nothing_else() {
    let original = Original::of(3, &script(3, 36), true);
    assert!(original.segments.len() >= 4, "{:?}", original.segments);
    let multi = original.segments.iter().flat_map(|number| original.groups(*number));
    assert!(multi.into_iter().filter(|one| one.blocks > 2).count() >= 3);
    let mut cases = 0;
    for number in &original.segments {
        let whole = original.bytes(*number);
        let last_written = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for sector in 0..=last_written / 512 {
            // Each field of the header of a block comes up, one block after the other.
            let at =
                sector * 512 + if sector % 8 == 0 { sector / 8 * 7 % 96 } else { sector % 500 };
            if *number == *original.segments.last().unwrap() && at / BLOCK == last_written / BLOCK {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (sector % 8);
            let what = format!("segment {number}, byte {at}");
            original.repaired(*number, std::slice::from_ref(&(at..at + 1)), bytes, &what);
            cases += 1;
        }
    }
    assert!(cases > 250, "{cases}");
}

/// Whole blocks overwritten: by zeros, by noise, by the block of another place.
#[test]
fn blocks_that_are_gone_cost_their_groups_and_nothing_else() {
    let original = Original::of(5, &script(5, 22), true);
    for number in &original.segments {
        let whole = original.bytes(*number);
        let groups = original.groups(*number);
        let blocks = groups.last().map(|one| one.block + one.blocks).unwrap() as usize;
        let newest = number == original.segments.last().unwrap();
        let end = if newest { blocks - 1 } else { blocks };
        for from in 0..end {
            for to in [from + 1, from + 2, (from + 5).min(end), end] {
                if to > end || to <= from {
                    continue;
                }
                for kind in 0..3 {
                    let range = from * BLOCK..to * BLOCK;
                    let mut bytes = whole.clone();
                    match kind {
                        0 => bytes[range.clone()].fill(0),
                        1 => bytes[range.clone()].fill(0xa5),
                        _ => {
                            let other = if from == 0 { BLOCK } else { 0 };
                            bytes.copy_within(other..other + BLOCK, from * BLOCK);
                            bytes[from * BLOCK + BLOCK..to * BLOCK].fill(0);
                        }
                    }
                    let what = format!("segment {number}, blocks {from} to {to}, kind {kind}");
                    original.repaired(*number, std::slice::from_ref(&range), bytes, &what);
                }
            }
        }
    }
}

#[test]
fn two_damaged_ranges_are_two_lost_groups() {
    let original = Original::of(7, &script(7, 20), true);
    for number in &original.segments {
        let whole = original.bytes(*number);
        let blocks = original.groups(*number).last().unwrap().block as usize;
        for one in 1..blocks {
            for other in one + 1..blocks {
                let mut bytes = whole.clone();
                let hit = [one, other].map(|block| block * BLOCK + 600..block * BLOCK + 601);
                for range in &hit {
                    bytes[range.start] ^= 0x40;
                }
                let what = format!("segment {number}, blocks {one} and {other}");
                original.repaired(*number, &hit, bytes, &what);
            }
        }
    }
}

/// The header and the mark, in every way, with and without groups behind them.
#[test]
fn a_header_is_made_again_from_what_is_proved() {
    let original = Original::of(9, &script(9, 24), true);
    for number in &original.segments {
        let whole = original.bytes(*number);
        for (what, from, to) in
            [("header", 0, 512), ("mark", 512, 1024), ("both", 0, 1024), ("block 0", 0, 4096)]
        {
            let mut bytes = whole.clone();
            bytes[from..to].fill(0);
            let vfs = original.with(*number, bytes);
            let report = run(&vfs, &options(*number)).unwrap();
            let rebuilt = matches!(report.header, HeaderOrigin::Rebuilt(_));
            assert_eq!(rebuilt, what != "mark", "{what} of {number}: {report:?}");
            assert!(!report.needs_acceptance(), "{what}: {report:?}");
            install(&vfs, *number);
            original.check(&vfs, &[], original.durable(), what);
        }
        // With the first group gone as well.
        let first = original.groups(*number).first().unwrap().blocks as usize;
        let range = 0..BLOCK + first * BLOCK;
        let mut bytes = whole.clone();
        bytes[range.clone()].fill(0xee);
        let what = format!("header and first group of {number}");
        original.repaired(*number, std::slice::from_ref(&range), bytes, &what);
    }
}

/// A write that went to the wrong place left the header of another segment; the blocks are this
/// one's.
#[test]
fn a_header_of_another_segment_is_made_again() {
    let original = Original::of(9, &script(9, 24), true);
    for number in &original.segments {
        for other in original.segments.iter().filter(|other| *other != number) {
            // The header alone, with the mark that names the salt, and without it.
            for (what, to) in [("header", 512), ("header and mark", 1024), ("block 0", 4096)] {
                let mut bytes = original.bytes(*number);
                bytes[..to].copy_from_slice(&original.bytes(*other)[..to]);
                let vfs = original.with(*number, bytes);
                let what = format!("{what} of {other} in {number}");
                let error = open(&vfs, existing(Some(original.durable()))).unwrap_err();
                assert!(error.to_string().contains("wal repair"), "{what}: {error}");
                // Its neighbours can be repaired beside it.
                for neighbour in original.segments.iter().filter(|at| *at != number) {
                    let report = run(&vfs, &RepairOptions { plan: true, ..options(*neighbour) });
                    assert!(!report.unwrap().needs_acceptance(), "{what}: {neighbour}");
                }
                let report = run(&vfs, &options(*number)).unwrap();
                assert!(matches!(report.header, HeaderOrigin::Rebuilt(_)), "{what}: {report:?}");
                assert!(!report.needs_acceptance(), "{what}: {report:?}");
                install(&vfs, *number);
                original.check(&vfs, &[], original.durable(), &what);
            }
        }
    }
    // Nothing else verifies: as good as missing. (Of the newest one nothing would tell the end.)
    for number in original.segments.iter().take(original.segments.len() - 1) {
        let other = number + 1;
        let mut bytes = original.bytes(*number);
        bytes[BLOCK..].fill(0xee);
        bytes[..BLOCK].copy_from_slice(&original.bytes(other)[..BLOCK]);
        let all: Vec<u64> = original.hit(*number, std::slice::from_ref(&(0..bytes.len())));
        original.costs(*number, &all, bytes, &format!("header of {other}, all of {number} gone"));
    }
}

/// No record is left of a log that had some: its positions are given up, never given again.
#[test]
fn a_log_that_is_gone_becomes_lost_positions() {
    for blank in [true, false] {
        let original = Original::of(31, &script(31, 3), false);
        assert_eq!(original.segments, [1]);
        let vfs = match blank {
            true => original.with(1, vec![0; original.bytes(1).len()]),
            false => original.vfs.fork(),
        };
        if !blank {
            for path in vfs.files() {
                vfs.take(&path).unwrap();
            }
        }
        let durable = original.durable();
        let error = open(&vfs, existing(Some(durable))).unwrap_err();
        assert!(error.to_string().contains(&format!("--witness {durable}")), "{error}");
        // Only a witness makes a log of nothing.
        run(&vfs, &RepairOptions { identity: Some((LOG_ID, TIMELINE)), ..options(1) }).unwrap_err();
        let known = RepairOptions {
            identity: Some((LOG_ID, TIMELINE)),
            witness: Some(Position(durable)),
            ..options(1)
        };
        let refused = run(&vfs, &RepairOptions { accept_loss: false, ..known.clone() }).unwrap();
        assert!(refused.refused && refused.lost[0].acknowledged == Some(true), "{refused:?}");
        run(&vfs, &known).unwrap();
        install(&vfs, 1);
        let lost: Vec<u64> = (1..=durable).collect();
        original.check(&vfs, &lost, durable, "all is gone");
    }
}

/// Positions that a repair gave up are accounted for: they do not hide that the end is gone.
#[test]
fn a_lost_group_does_not_explain_a_missing_end() {
    let original = Original::of(13, &script(13, 12), false);
    let number = *original.segments.last().unwrap();
    let groups = original.groups(number);
    let of_records = |group: &&Group| group.kind == GroupKind::Entries;
    let first = groups.iter().find(of_records).unwrap();
    let mut bytes = original.bytes(number);
    bytes[first.block as usize * BLOCK + 100] ^= 1;
    let vfs = original.with(number, bytes);
    run(&vfs, &options(number)).unwrap();
    install(&vfs, number);
    let (wal, _) = open(&vfs, existing(Some(original.durable()))).unwrap();
    assert!(!wal.reader().lost().is_empty());
    drop(wal);
    let repaired = Original { vfs: vfs.fork(), entries: Vec::new(), segments: Vec::new() };
    let groups = repaired.groups(number);
    let last = groups.iter().rfind(of_records).unwrap();
    assert!(last.last.0 == original.durable(), "the newest segment holds more than one group");
    let mut bytes = vfs.medium(&segment(number)).unwrap();
    bytes[last.block as usize * BLOCK..].fill(0);
    vfs.put(&segment(number), bytes).unwrap();
    let error = open(&vfs, existing(Some(original.durable()))).unwrap_err();
    assert!(error.to_string().contains("has applied position"), "{error}");
}

/// The power went while the first group of the next segment was written: some of its sectors are
/// there, its header is not. It was never durable, and a repair of the segment before must not make
/// it look so.
#[test]
fn a_torn_first_group_behind_a_repair_stays_void() {
    let first_of =
        |original: &Original| original.groups(*original.segments.last().unwrap())[0].blocks;
    let original = (0..100)
        .map(|seed| Original::of(seed, &script(seed, 24), false))
        .find(|original| first_of(original) > 1)
        .unwrap();
    let number = *original.segments.last().unwrap();
    let before = number - 1;
    let next = original.bytes(number);
    let kept: Vec<u64> = original.groups(before).iter().map(|group| group.last.0).collect();
    let durable = *kept.iter().max().unwrap();
    for arrived in [BLOCK, 2 * BLOCK].map(|from| from..from + 512) {
        for last_group in [false, true] {
            let mut torn = vec![0; next.len()];
            torn[512..1024].copy_from_slice(&next[512..1024]);
            torn[arrived.clone()].copy_from_slice(&next[arrived.clone()]);
            let vfs = original.with(number, torn);
            let spare = segment(number + 1);
            if vfs.exists(&spare).unwrap() {
                vfs.take(&spare).unwrap();
            }
            // No closing seal: the log had not gone on.
            let mut bytes = original.bytes(before);
            let close =
                original.groups(before).iter().find(|g| g.kind == GroupKind::Close).cloned();
            bytes.truncate(close.map_or(bytes.len(), |close| close.block as usize * BLOCK));
            bytes.resize(config().segment_bytes as usize, 0);
            let of_records = |group: &&Group| group.kind == GroupKind::Entries;
            let hit = match last_group {
                true => original.groups(before).iter().rev().find(of_records).cloned(),
                false => original.groups(before).iter().find(of_records).cloned(),
            };
            let hit = hit.unwrap();
            bytes[hit.block as usize * BLOCK + 100] ^= 1;
            vfs.put(&segment(before), bytes).unwrap();
            let what = format!("{arrived:?}, last {last_group}");
            let witness = Some(Position(durable));
            let report = run(&vfs, &RepairOptions { witness, ..options(before) }).unwrap();
            let lost: Vec<u64> = (hit.first.0..=hit.last.0).collect();
            let told: Vec<u64> =
                report.lost.iter().flat_map(|one| one.first.0..=one.last.0).collect();
            assert_eq!(told, lost, "{what}");
            install(&vfs, before);
            let (wal, recovery) = open(&vfs, existing(Some(durable))).unwrap();
            assert_eq!(recovery.durable.0, durable, "{what}");
            assert!(recovery.voided.is_some(), "{what}");
            let told = wal.reader().lost();
            let told: Vec<u64> = told.iter().flat_map(|one| one.first.0..=one.last.0).collect();
            assert_eq!(told, lost, "{what}");
        }
    }
}

/// A write that went to the wrong place put a block of one segment where the next one begins: that
/// does not say where the first one ended.
#[test]
fn a_block_in_the_next_segment_voids_nothing() {
    let original = Original::of(19, &script(19, 6), false);
    let number = *original.segments.last().unwrap();
    let groups = original.groups(number);
    assert!(groups.len() > 2, "{groups:?}");
    // Checksums name the place in the file: the block is at the same one in the wrong file.
    let at = BLOCK..(1 + groups[0].blocks as usize) * BLOCK;
    let mut bytes = original.bytes(number);
    let mut spare = original.bytes(number + 1);
    spare[at.clone()].copy_from_slice(&bytes[at.clone()]);
    bytes[at].fill(0);
    let vfs = original.with(number, bytes);
    vfs.put(&segment(number + 1), spare).unwrap();
    let report = run(&vfs, &options(number)).unwrap();
    let lost: Vec<u64> = report.lost.iter().flat_map(|one| one.first.0..=one.last.0).collect();
    let expected: Vec<u64> = (groups[0].first.0..=groups[0].last.0).collect();
    assert_eq!(lost, expected, "{report:?}");
}

/// A small database has one segment and a spare: then the name of the database must be given, and
/// is proved by the chain.
#[test]
fn the_header_of_a_lone_segment_needs_the_name_of_the_database() {
    let groups: Vec<Vec<NewEntry>> = (1..=4).map(|n| vec![sample(n, 300)]).collect();
    let original = Original::of(1, &groups, true);
    assert_eq!(original.segments, [1]);
    let mut bytes = original.bytes(1);
    bytes[40] ^= 1;
    let vfs = original.with(1, bytes);
    let error = run(&vfs, &options(1)).unwrap_err();
    assert!(error.to_string().contains("which database"), "{error}");
    let wrong = Some((stemedb_model::LogId([8; 16]), TIMELINE));
    let error = run(&vfs, &RepairOptions { identity: wrong, ..options(1) }).unwrap_err();
    assert!(error.to_string().contains("was not written by log"), "{error}");
    let right = Some((LOG_ID, TIMELINE));
    let report = run(&vfs, &RepairOptions { identity: right, ..options(1) }).unwrap();
    assert!(matches!(report.header, HeaderOrigin::Rebuilt(_)));
    install(&vfs, 1);
    original.check(&vfs, &[], 4, "a lone segment");
}

/// A file that was cut: what is gone is lost as far as the neighbours tell.
#[test]
fn a_cut_segment_keeps_what_is_left() {
    let original = Original::of(11, &script(11, 16), true);
    let (newest, closed) = original.segments.split_last().unwrap();
    for number in closed {
        let whole = original.bytes(*number);
        for len in (0..whole.len()).step_by(512) {
            let what = format!("segment {number} cut to {len}");
            let cut = len..whole.len();
            original.repaired(*number, std::slice::from_ref(&cut), whole[..len].to_vec(), &what);
        }
    }
    // The newest one: nothing but a witness tells what was behind the cut.
    let whole = original.bytes(*newest);
    let groups = original.groups(*newest);
    let durable = original.durable();
    for len in (BLOCK..whole.len()).step_by(512) {
        let what = format!("newest segment cut to {len}");
        let vfs = original.with(*newest, whole[..len].to_vec());
        let kept = groups.iter().filter(|one| (one.block + one.blocks) as usize * BLOCK <= len);
        let last = kept.filter(|one| one.kind == GroupKind::Entries).map(|one| one.last.0).max();
        let last = last.unwrap_or(groups[0].first.0 - 1);
        let given = RepairOptions { accept_loss: false, ..options(*newest) };
        let refused = run(&vfs, &given).unwrap();
        assert!(refused.refused && refused.undecided.is_some(), "{what}: {refused:?}");
        let witness = Some(Position(durable));
        let report = run(&vfs, &RepairOptions { witness, ..options(*newest) }).unwrap();
        let lost: Vec<u64> = (last + 1..=durable).collect();
        let told: Vec<u64> = report.lost.iter().flat_map(|one| one.first.0..=one.last.0).collect();
        assert_eq!(told, lost, "{what}");
        install(&vfs, *newest);
        original.check(&vfs, &lost, durable, &what);
    }
}

#[test]
fn segments_that_are_missing_are_made_of_lost_positions() {
    let original = Original::of(13, &script(13, 40), true);
    assert!(original.segments.len() >= 5);
    let of = |number: u64| {
        let whole = original.bytes(number).len();
        original.hit(number, std::slice::from_ref(&(0..whole)))
    };
    let (newest, closed) = original.segments.split_last().unwrap();
    for number in closed {
        let vfs = original.vfs.fork();
        vfs.take(&segment(*number)).unwrap();
        let refused = run(&vfs, &RepairOptions { accept_loss: false, ..options(*number) }).unwrap();
        assert!(refused.refused && refused.written.is_none());
        assert!(!vfs.exists(&output(*number)).unwrap(), "a refusal writes nothing");
        let report = run(&vfs, &options(*number)).unwrap();
        assert!(matches!(report.header, HeaderOrigin::Missing(_)), "{report:?}");
        install(&vfs, *number);
        original.check(&vfs, &of(*number), original.durable(), &format!("{number} is missing"));
    }
    // Two in a row: the second stands for the positions of both.
    let vfs = original.vfs.fork();
    vfs.take(&segment(2)).unwrap();
    vfs.take(&segment(3)).unwrap();
    let early = run(&vfs, &options(3)).unwrap_err();
    assert!(early.to_string().contains("repair segment.002.wal first"), "{early}");
    for number in [2, 3] {
        run(&vfs, &options(number)).unwrap();
        install(&vfs, number);
    }
    let both = [of(2), of(3)].concat();
    original.check(&vfs, &both, original.durable(), "2 and 3 are missing");
    // The newest: the closing seal of the one before says that it was there, a witness how far.
    let vfs = original.vfs.fork();
    for file in [*newest, newest + 1] {
        vfs.take(&segment(file)).unwrap();
    }
    let witness = Some(Position(original.durable()));
    run(&vfs, &RepairOptions { witness, ..options(*newest) }).unwrap();
    install(&vfs, *newest);
    original.check(&vfs, &of(*newest), original.durable(), "the newest is missing");
    // One that nobody misses.
    let error = run(&original.vfs.fork(), &options(newest + 2)).unwrap_err();
    assert!(error.to_string().contains("no other segment says"), "{error}");
}

/// What was never durable is no loss: no word of an operator is needed.
#[test]
fn a_torn_tail_goes_without_asking() {
    let groups = vec![vec![sample(1, 300)], vec![sample(2, 9_000)]];
    let original = Original::of(2, &groups, false);
    for zeroed in 0..24 {
        let mut bytes = original.bytes(1);
        bytes[2 * BLOCK + zeroed * 512..2 * BLOCK + zeroed * 512 + 512].fill(0);
        let vfs = original.with(1, bytes);
        let given = RepairOptions { accept_loss: false, ..options(1) };
        let report = run(&vfs, &given).unwrap();
        assert!(!report.needs_acceptance() && report.lost.is_empty(), "{report:?}");
        assert_eq!(report.dropped.len(), 1, "{report:?}");
        // With a witness the same bytes were acknowledged.
        let witness = Some(Position(2));
        let known = RepairOptions { output: "/repaired/x".into(), witness, ..given };
        let refused = run(&vfs, &known).unwrap();
        assert!(refused.refused, "{refused:?}");
        assert_eq!((refused.lost[0].first.0, refused.lost[0].last.0), (2, 2));
        assert_eq!(refused.lost[0].acknowledged, Some(true));
        install(&vfs, 1);
        original.check(&vfs, &[], 1, "torn");
    }
    // Rot in the last group: nothing tells whether it was acknowledged, so the operator must.
    let mut bytes = original.bytes(1);
    bytes[3 * BLOCK + 700] ^= 1;
    let vfs = original.with(1, bytes);
    let report = run(&vfs, &RepairOptions { accept_loss: false, ..options(1) }).unwrap();
    assert!(report.refused && report.lost.is_empty(), "{report:?}");
    assert_eq!(report.undecided.as_ref().unwrap().first.0, 2);
    assert_eq!(report.undecided.unwrap().byte, (3 * BLOCK + 512) as u64);
    run(&vfs, &options(1)).unwrap();
    install(&vfs, 1);
    original.check(&vfs, &[], 1, "rotten");
}

#[test]
fn truncation_keeps_whole_groups_and_gives_no_position_twice() {
    let original = Original::of(15, &script(15, 20), true);
    for number in &original.segments {
        let groups = original.groups(*number);
        let len = original.bytes(*number).len();
        for cut in (0..len + 512).step_by(1536) {
            let vfs = original.vfs.fork();
            let given = RepairOptions { truncate_at: Some(cut as u64), ..options(*number) };
            let report = run(&vfs, &given).unwrap();
            let gone = groups.iter().filter(|one| {
                one.kind == GroupKind::Entries && (one.block + one.blocks) as usize * BLOCK > cut
            });
            let lost: Vec<u64> = gone.flat_map(|one| one.first.0..=one.last.0).collect();
            let told: Vec<u64> =
                report.lost.iter().flat_map(|one| one.first.0..=one.last.0).collect();
            assert_eq!(told, lost, "segment {number} at {cut}");
            assert!(report.lost.len() <= 1);
            install(&vfs, *number);
            let what = format!("segment {number} truncated at {cut}");
            original.check(&vfs, &lost, original.durable(), &what);
        }
    }
}

#[test]
fn a_plan_writes_nothing_and_a_repair_replaces_nothing() {
    let original = Original::of(17, &script(17, 12), true);
    let mut bytes = original.bytes(1);
    bytes[BLOCK + 900] ^= 1;
    let vfs = original.with(1, bytes);
    let before = vfs.files();
    let planned = run(&vfs, &RepairOptions { plan: true, ..options(1) }).unwrap();
    assert!(planned.needs_acceptance() && planned.written.is_none() && !planned.refused);
    assert_eq!(vfs.files(), before);
    let done = run(&vfs, &options(1)).unwrap();
    assert_eq!((&done.lost, &done.dropped), (&planned.lost, &planned.dropped));
    assert_eq!(done.bytes as usize, vfs.medium(&output(1)).unwrap().len());
    let again = run(&vfs, &options(1)).unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");
}

/// A second repair of what was repaired before, and a start that has proved the segments already.
#[test]
fn lost_positions_stay_known() {
    let original = Original::of(19, &script(19, 40), true);
    let groups = original.groups(2);
    let vfs = original.vfs.fork();
    drop(open(&vfs, existing(None)).unwrap());
    assert!(vfs.exists(&Path::new(DIR).join("verified")).unwrap());
    let mut lost = Vec::new();
    for group in [&groups[1], &groups[2]] {
        let mut bytes = vfs.medium(&segment(2)).unwrap();
        // Each lost group takes one block: find the group where it is now.
        let mut block = 0;
        dump(&segment(2), &vfs, (group.first, group.last), false, &mut |item| {
            if let DumpItem::Group(found) = item
                && found.first == group.first
            {
                block = found.block as usize;
            }
            true
        })
        .unwrap();
        bytes[block * BLOCK + 300] ^= 1;
        vfs.put(&segment(2), bytes).unwrap();
        let report = run(&vfs, &options(2)).unwrap();
        assert_eq!(report.lost_before.len(), usize::from(!lost.is_empty()));
        lost.extend(group.first.0..=group.last.0);
        install(&vfs, 2);
    }
    original.check(&vfs, &lost, original.durable(), "repaired twice");
    // Both in the same way: what `verified` vouches for is skipped, but never what is lost.
    let (wal, recovery) = open(&vfs, existing(None)).unwrap();
    assert!(recovery.segments_skipped > 0, "{recovery:?}");
    let told: Vec<u64> =
        wal.reader().lost().iter().flat_map(|one| one.first.0..=one.last.0).collect();
    assert_eq!(told, lost);
    drop(wal);
    let all = WalConfig { verify_all: true, ..config() };
    let (wal, _) = Wal::open(all, env_on(&vfs, 1), existing(None)).unwrap();
    assert_eq!(wal.reader().lost().len(), 2);
}

/// Files that are whole and at the wrong place are not for repair, nor is what a newer build wrote.
#[test]
fn what_is_not_damage_is_refused() {
    let original = Original::of(21, &script(21, 30), true);
    let vfs = original.with(3, original.bytes(2));
    let error = run(&vfs, &options(3)).unwrap_err();
    assert!(error.to_string().contains("swapped"), "{error}");
    let mut bytes = original.bytes(2);
    bytes[40] ^= 1;
    let elsewhere = SimVfs::new(1);
    elsewhere.create_dir_all(Path::new(DIR)).unwrap();
    elsewhere.put(Path::new("/somewhere/file"), bytes).unwrap();
    let lone = RepairOptions { segment: "/somewhere/file".into(), ..options(2) };
    let error = run(&elsewhere, &lone).unwrap_err();
    assert!(error.to_string().contains("its name is none of a log's"), "{error}");
    let spare = original.segments.last().unwrap() + 1;
    let error = run(&original.vfs.fork(), &options(spare)).unwrap_err();
    assert!(error.to_string().contains("was not used yet"), "{error}");
    // Under any name, a whole header and the damage behind it are enough.
    let mut bytes = original.bytes(2);
    let hit = original.groups(2)[1].clone();
    bytes[hit.block as usize * BLOCK + 5] ^= 1;
    elsewhere.put(Path::new("/somewhere/file"), bytes).unwrap();
    let report = run(&elsewhere, &lone).unwrap();
    assert_eq!((report.lost[0].first, report.lost[0].last), (hit.first, hit.last));
    assert_eq!(verify(&output(2), &elsewhere).unwrap().exit_status(), 0);
}

/// A disk that does not give some sectors of one file any more.
struct Scratched {
    vfs: SimVfs,
    path: PathBuf,
    bad: Vec<u64>,
}

struct ScratchedFile {
    file: Box<dyn VfsFile>,
    bad: Vec<u64>,
}

impl Vfs for Scratched {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>> {
        let file = self.vfs.open(path, mode)?;
        match path == self.path {
            true => Ok(Box::new(ScratchedFile { file, bad: self.bad.clone() })),
            false => Ok(file),
        }
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.vfs.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.vfs.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.vfs.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.vfs.remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.vfs.sync_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.vfs.metadata(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.vfs.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>> {
        self.vfs.lock(path)
    }
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.vfs.file_system(path)
    }
}

impl VfsFile for ScratchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buf.len() as u64;
        match self.bad.iter().any(|sector| sector * 512 < end && (sector + 1) * 512 > offset) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => self.file.read_at(buf, offset),
        }
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        panic!("the input was written to")
    }
    fn sync_data(&self) -> io::Result<()> {
        panic!("the input was written to")
    }
    fn sync_all(&self) -> io::Result<()> {
        panic!("the input was written to")
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        panic!("the input was written to")
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        panic!("the input was written to")
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

/// Sectors that the medium does not give at all are damage like any other.
#[test]
fn what_cannot_be_read_is_lost_and_nothing_else() {
    let original = Original::of(23, &script(23, 20), true);
    let number = original.segments[1];
    let groups = original.groups(number);
    let first = u64::from(groups[0].block) * 8;
    let third = u64::from(groups[2].block) * 8;
    for bad in [vec![third + 3], vec![first, third + 7], vec![0], vec![0, 1, first + 5]] {
        let vfs = original.vfs.fork();
        vfs.create_dir_all(Path::new("/repaired")).unwrap();
        let scratched = Scratched { vfs: vfs.clone(), path: segment(number), bad: bad.clone() };
        let env = Env { vfs: std::sync::Arc::new(scratched), ..env_on(&vfs, 5) };
        let report = repair(&env, &options(number)).unwrap();
        assert_eq!(report.unreadable_sectors, bad.len() as u64, "{bad:?}");
        let ranges: Vec<Range<usize>> =
            bad.iter().map(|sector| *sector as usize * 512..(*sector as usize + 1) * 512).collect();
        let lost = original.hit(number, &ranges);
        let told: Vec<u64> = report.lost.iter().flat_map(|one| one.first.0..=one.last.0).collect();
        assert_eq!(told, lost, "{bad:?}");
        install(&vfs, number);
        original.check(&vfs, &lost, original.durable(), &format!("{bad:?}"));
    }
}

/// Groups that were given up and fenced off come not back, however whole they are.
#[test]
fn groups_behind_a_fence_stay_void() {
    let groups: Vec<Vec<NewEntry>> = (1..=3).map(|n| vec![sample(n, 300)]).collect();
    let vfs = written(1, &groups, false);
    let whole = vfs.medium(&segment(1)).unwrap();
    let mut bytes = whole.clone();
    bytes[3 * BLOCK + 600] ^= 1;
    vfs.put(&segment(1), bytes).unwrap();
    let lenient = WalConfig { void_tail: true, ..config() };
    let (mut wal, _) = Wal::open(lenient, env_on(&vfs, 1), existing(Some(2))).unwrap();
    let other = vec![sample(77, 300)];
    assert_eq!(wal.append(&other).unwrap().first.0, 3);
    drop(wal);

    let mut bytes = whole;
    bytes[BLOCK + 600] ^= 1;
    vfs.put(&segment(1), bytes).unwrap();
    let report = run(&vfs, &options(1)).unwrap();
    assert_eq!((report.lost.len(), report.records), (1, 1), "{report:?}");
    assert_eq!((report.lost[0].first.0, report.lost[0].last.0), (1, 1));
    let dropped: Vec<u64> = report.dropped.iter().map(|range| range.from).collect();
    assert_eq!(dropped, [BLOCK as u64, 3 * BLOCK as u64]);
    install(&vfs, 1);
    assert_eq!(verify(Path::new(DIR), &vfs).unwrap().exit_status(), 0);
    let (wal, _) = open(&vfs, existing(Some(3))).unwrap();
    let reader = wal.reader();
    assert_eq!(reader.durable().0.0, 3);
    assert!(matches!(reader.read(Position(1)), Err(LogError::Lost { .. })));
    assert_eq!(reader.read(Position(2)).unwrap().unwrap().new, groups[1][0]);
    assert_eq!(reader.read(Position(3)).unwrap().unwrap().new, other[0]);
}

/// The header that holds the fence is gone as well: the first block behind it, or the segment after
/// it, still tells what is void.
#[test]
fn a_fence_is_made_again() {
    let groups: Vec<Vec<NewEntry>> = (1..=3).map(|n| vec![sample(n, 300)]).collect();
    let other = vec![sample(77, 300)];
    for refilled in [true, false] {
        let vfs = written(1, &groups, false);
        let whole = vfs.medium(&segment(1)).unwrap();
        let mut bytes = whole.clone();
        bytes[3 * BLOCK + 600] ^= 1;
        vfs.put(&segment(1), bytes).unwrap();
        let lenient = || WalConfig { void_tail: true, ..config() };
        let (mut wal, _) = Wal::open(lenient(), env_on(&vfs, 1), existing(Some(2))).unwrap();
        if refilled {
            assert_eq!(wal.append(&other).unwrap().first.0, 3);
        } else {
            // Segment 2 never holds a record: its first group is torn, and segment 3 fences it.
            let mut torn = vfs.medium(&segment(2)).unwrap();
            torn[BLOCK..BLOCK + 100].fill(0xee);
            drop(wal);
            vfs.put(&segment(2), torn).unwrap();
            wal = Wal::open(lenient(), env_on(&vfs, 2), existing(Some(2))).unwrap().0;
            assert_eq!(wal.append(&other).unwrap().first.0, 3);
        }
        drop(wal);
        vfs.put(&segment(1), whole).unwrap();
        let mut bytes = vfs.medium(&segment(2)).unwrap();
        bytes[100] ^= 1;
        vfs.put(&segment(2), bytes).unwrap();
        let report = run(&vfs, &options(2)).unwrap();
        assert!(matches!(report.header, HeaderOrigin::Rebuilt(_)), "{report:?}");
        assert!(report.lost.is_empty(), "{report:?}");
        install(&vfs, 2);
        let (wal, _) = open(&vfs, existing(Some(3))).unwrap();
        assert_eq!(wal.reader().durable().0.0, 3);
        assert_eq!(wal.reader().read(Position(3)).unwrap().unwrap().new, other[0]);
    }
}

/// A group whose sync failed was written again in the next segment, and that segment is gone: the
/// fence behind it tells that the first writing, however whole, is void.
#[test]
fn a_group_that_was_written_twice_is_lost_with_its_second_writing() {
    let groups: Vec<Vec<NewEntry>> = (1..=3).map(|n| vec![sample(n, 300)]).collect();
    let again = vec![sample(77, 300)];
    let vfs = written(1, &groups, false);
    let whole = vfs.medium(&segment(1)).unwrap();
    let prepared = vfs.medium(&segment(2)).unwrap();
    let mut torn = whole.clone();
    torn[3 * BLOCK + 600] ^= 1;
    vfs.put(&segment(1), torn).unwrap();
    let lenient = WalConfig { void_tail: true, ..config() };
    let (mut wal, _) = Wal::open(lenient, env_on(&vfs, 1), existing(Some(2))).unwrap();
    assert_eq!(wal.append(&again).unwrap().first.0, 3);
    drop(wal);
    // The next start finds a torn group behind it and begins segment 3.
    let mut torn = vfs.medium(&segment(2)).unwrap();
    torn[2 * BLOCK..2 * BLOCK + 100].fill(0xee);
    vfs.put(&segment(2), torn).unwrap();
    let lenient = WalConfig { void_tail: true, ..config() };
    let (mut wal, _) = Wal::open(lenient, env_on(&vfs, 2), existing(Some(3))).unwrap();
    assert_eq!(wal.append(&groups[0]).unwrap().first.0, 4);
    drop(wal);

    // Only one group can be in doubt: with two too many it is a file of another history.
    let stranger = vfs.fork();
    let longer: Vec<_> = groups.iter().chain(&groups).cloned().collect();
    let longer = written(1, &longer, false).medium(&segment(1)).unwrap();
    stranger.put(&segment(1), longer).unwrap();
    stranger.put(&segment(2), prepared.clone()).unwrap();
    let error = run(&stranger, &options(2)).unwrap_err();
    assert!(matches!(error, LogError::Misplaced { .. }), "{error}");

    for (what, bytes) in [("blank", Some(prepared)), ("missing", None)] {
        let vfs = vfs.fork();
        vfs.put(&segment(1), whole.clone()).unwrap();
        match bytes {
            Some(bytes) => vfs.put(&segment(2), bytes).unwrap(),
            None => vfs.take(&segment(2)).unwrap(),
        }
        assert!(open(&vfs, existing(Some(4))).is_err(), "{what}");
        let report = run(&vfs, &options(2)).unwrap();
        let lost: Vec<_> = report.lost.iter().map(|lost| (lost.first.0, lost.last.0)).collect();
        assert_eq!(lost, [(3, 3)], "{what}: {report:?}");
        assert_eq!(report.lost[0].acknowledged, Some(true), "{what}");
        install(&vfs, 2);
        let (wal, _) = open(&vfs, existing(Some(4))).unwrap();
        let reader = wal.reader();
        assert_eq!(reader.read(Position(2)).unwrap().unwrap().new, groups[1][0], "{what}");
        assert!(matches!(reader.read(Position(3)), Err(LogError::Lost { .. })), "{what}");
        assert_eq!(reader.read(Position(4)).unwrap().unwrap().new, groups[0][0], "{what}");
    }
}

/// The header of the other shape of the same segment: what is behind it tells what it is.
#[test]
fn a_segment_is_read_as_what_it_is() {
    let packed = Original::packed(33);
    let number = packed.segments[0];
    // A repair of a packed segment has blocks, and the same identity.
    let vfs = packed.vfs.fork();
    let mut cut = packed.bytes(number);
    let end = cut.len() - 8;
    cut[end] ^= 1;
    vfs.put(&segment(number), cut).unwrap();
    run(&vfs, &options(number)).unwrap();
    let blocks = vfs.medium(&output(number)).unwrap();
    for (what, header, rest) in [
        ("packed header on blocks", packed.bytes(number), blocks.clone()),
        ("block header on frames", blocks, packed.bytes(number)),
    ] {
        let mut bytes = rest;
        assert_ne!(bytes[..512], header[..512]);
        bytes[..512].copy_from_slice(&header[..512]);
        let vfs = packed.with(number, bytes);
        let report = run(&vfs, &options(number)).unwrap();
        assert!(matches!(report.header, HeaderOrigin::Rebuilt(_)), "{what}: {report:?}");
        assert!(!report.needs_acceptance(), "{what}: {report:?}");
        install(&vfs, number);
        packed.check(&vfs, &[], packed.durable(), what);
    }
}

/// One bit anywhere in a packed segment costs the frame it is in; in its header or its end,
/// nothing. What is reported are bytes of the file.
#[test]
fn a_flipped_bit_in_a_packed_segment_costs_its_frame_and_nothing_else() {
    let original = Original::packed(31);
    let mut hit = 0;
    for number in original.segments.iter().step_by(2) {
        let whole = original.bytes(*number);
        let frames = original.frames(*number);
        assert!(frames.len() >= 2, "{} frames", frames.len());
        let mut places: Vec<usize> = vec![0, 13, 40, 100, 500, 511];
        for (range, _) in &frames {
            places.extend([0, 50, 103, 104, range.len() / 2].map(|at| range.start + at));
        }
        let end = frames.last().unwrap().0.end;
        places.extend([end, end + 9, end + 60, end + 99, whole.len() - 32, whole.len() - 3]);
        for at in places {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let what = format!("packed segment {number}, byte {at} of {}", whole.len());
            let frame = frames.iter().find(|(range, _)| range.contains(&at));
            let lost = frame.map(|(_, positions)| positions.clone()).unwrap_or_default();
            let report = original.costs(*number, &lost, bytes, &what);
            if let Some((range, _)) = frame {
                hit += 1;
                let dropped = report.dropped.iter().map(|one| one.from as usize..one.to as usize);
                assert_eq!(dropped.collect::<Vec<_>>(), std::slice::from_ref(range), "{what}");
                assert_eq!(report.lost[0].byte, range.start as u64, "{what}");
                assert!(report.lost[0].problem.contains("frame"), "{what}: {report:?}");
            }
            assert_eq!(matches!(report.header, HeaderOrigin::Rebuilt(_)), at < 512, "{what}");
        }
    }
    assert!(hit > 20, "{hit}");
}

/// Two frames at once, the first frame with the header, and everything behind a cut.
#[test]
fn a_packed_segment_is_repaired_from_all_sides() {
    let original = Original::packed(32);
    let number = 2;
    let whole = original.bytes(number);
    let frames = original.frames(number);
    assert!(frames.len() >= 4, "{} frames", frames.len());
    let (first, last) = (&frames[0], &frames[frames.len() - 1]);
    let damage = |ranges: &[Range<usize>]| {
        let mut bytes = whole.clone();
        for range in ranges {
            bytes[range.clone()].fill(0xa5);
        }
        bytes
    };
    let both: Vec<u64> = [&frames[0].1[..], &frames[2].1].concat();
    let report = original.costs(
        number,
        &both,
        damage(&[first.0.clone(), frames[2].0.clone()]),
        "the first and the third frame",
    );
    assert_eq!(report.lost.len(), 2);
    let pair: Vec<u64> = [&frames[1].1[..], &frames[2].1].concat();
    original.costs(
        number,
        &pair,
        damage(std::slice::from_ref(&(frames[1].0.start..frames[2].0.end))),
        "the second and the third frame",
    );
    original.costs(
        number,
        &first.1,
        damage(std::slice::from_ref(&(0..first.0.end))),
        "header and first frame",
    );
    original.costs(
        number,
        &[],
        damage(std::slice::from_ref(&(last.0.end..whole.len()))),
        "footer and trailer",
    );
    let cut = last.0.start + 60;
    original.costs(number, &last.1, whole[..cut].to_vec(), "cut inside the last frame");
}

/// What a repair gave up stays known when the repaired segment is packed, and when that is
/// damaged and repaired again.
#[test]
fn lost_positions_stay_known_in_packed_segments() {
    let original = Original::packed(33);
    let number = 2;
    let frames = original.frames(number);
    let mut bytes = original.bytes(number);
    bytes[frames[0].0.start + 30] ^= 4;
    let vfs = original.with(number, bytes);
    run(&vfs, &options(number)).unwrap();
    install(&vfs, number);
    let repack = || {
        let (wal, _) = open(&vfs, existing(None)).unwrap();
        assert_eq!(wal.repack_now().unwrap().segments, 1);
        drop(wal);
        assert!(vfs.medium(&segment(number)).unwrap().starts_with(b"STEMEPAK"));
    };
    repack();
    let mut lost = frames[0].1.clone();
    original.check(&vfs.fork(), &lost, original.durable(), "packed again");

    // The first frame begins with the lost group now; of another one, a bit.
    let mut second = None;
    dump(&segment(number), &vfs, (Position(1), Position::MAX), true, &mut |item| {
        if let DumpItem::Frame { byte, first, last, .. } = item
            && first.0 > *lost.last().unwrap()
        {
            second.get_or_insert((byte, first.0..=last.0));
        }
        true
    })
    .unwrap();
    let (byte, positions) = second.unwrap();
    let mut bytes = vfs.medium(&segment(number)).unwrap();
    bytes[byte as usize + 200] ^= 1;
    vfs.put(&segment(number), bytes).unwrap();
    let report = run(&vfs, &options(number)).unwrap();
    assert_eq!((report.lost.len(), report.lost_before.len()), (1, 1), "{report:?}");
    install(&vfs, number);
    lost.extend(positions);
    repack();
    original.check(&vfs, &lost, original.durable(), "repaired and packed twice");
}

/// Found by the simulator (seeds 1261 and 2089): the repair of one segment read the header of another
/// that could not be read, and the repair of that one needs the first.
#[test]
fn a_neighbour_that_cannot_be_read_is_no_obstacle() {
    let vfs = written(31, &script(31, 40), true).crash();
    assert!(vfs.spoil(&segment(3), 0));
    assert!(vfs.harm(&segment(2), 8, &[7; 512]));
    for number in [2, 3] {
        run(&vfs, &options(number)).unwrap();
        install(&vfs, number);
    }
    let (wal, _) = open(&vfs, existing(None)).unwrap();
    assert!(!wal.reader().lost().is_empty());
}
