//! A log that was cut into parts and put together again is the same log, whatever happened meanwhile.

use std::path::Path;
use std::sync::Arc;

use stemedb_io::sim::{EIO, Fault, OpKind, SimClock, SimRng, SimVfs, When, world};
use stemedb_io::{Env, Open, Rng, Vfs};
use stemedb_model::{Position, Timeline};

use super::*;
use crate::conformance::{LOG_ID, START_MS, TIMELINE, sample};
use crate::{Expect, Log, LogError, MemoryLog, NewEntry, Wal, WalConfig, verify};

const DIR: &str = "/data/wal";
const TO: &str = "/restored/wal";
const BRANCH: Timeline = Timeline([3; 16]);
const SEGMENT: u64 = 16 * 4096;

fn config(dir: &str) -> WalConfig {
    WalConfig { segment_bytes: SEGMENT, prepare_in_background: false, ..WalConfig::new(dir) }
}

fn env_on(vfs: &SimVfs) -> Env {
    let (_, _, env) = world(7, START_MS);
    Env { vfs: Arc::new(vfs.clone()), ..env }
}

fn new_log(vfs: &SimVfs) -> Wal {
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    Wal::open(config(DIR), env_on(vfs), new).unwrap().0
}

fn existing(vfs: &SimVfs, dir: &str) -> Result<Wal, LogError> {
    let expect = Expect::Existing { log_id: Some(LOG_ID), witness: None };
    Wal::open(config(dir), env_on(vfs), expect).map(|(wal, _)| wal)
}

/// Groups of one to six records.
fn groups(seed: u64, count: usize) -> Vec<Vec<NewEntry>> {
    let rng = SimRng::new(seed);
    let mut next = seed << 32;
    let mut one = || {
        next += 1;
        sample(next, (rng.next_u64() % 3_000) as usize)
    };
    (0..count).map(|n| (0..1 + (seed as usize + n) % 6).map(|_| one()).collect()).collect()
}

/// What the reference says of the first `count` of these records.
fn root_of(groups: &[Vec<NewEntry>], mut count: usize) -> Hash {
    let clock = Arc::new(SimClock::new(START_MS));
    let mut log = MemoryLog::new(LOG_ID, TIMELINE, clock);
    for group in groups {
        let here = group.get(..group.len().min(count)).unwrap();
        if here.is_empty() {
            break;
        }
        log.append(here).unwrap();
        count -= here.len();
    }
    log.reader().root().1
}

fn cut_all(cutter: &mut Cutter, bytes_max: u64, parts: &mut Vec<Part>) {
    while let Some(part) = cutter.next(bytes_max).unwrap() {
        let read = read_part("part", &part.bytes, &mut |_, _| Ok(())).unwrap();
        assert_eq!(read, part.content);
        if let Some(before) = parts.last() {
            assert_eq!(before.content.end, part.content.start);
            assert_eq!(before.ends_segment, before.content.segment != part.content.segment);
        }
        parts.push(part);
    }
}

fn compose(vfs: &SimVfs, parts: &[Part], upto: Position) -> Result<Composed, LogError> {
    let env = env_on(vfs);
    let mut composer = Composer::new(&env, Path::new(TO), upto)?;
    let begun = composer.end().map_or(Position::NONE, |end| end.position);
    for part in parts {
        let there = begun == upto || part.content.end.position <= begun;
        if part.content.start.position < upto && !there {
            composer.add("part", &part.bytes)?;
        }
    }
    composer.finish(BRANCH, SEGMENT)
}

/// The restored log holds the first `count` of these records, and takes more.
fn check(vfs: &SimVfs, groups: &[Vec<NewEntry>], count: usize) {
    let report = verify(Path::new(TO), vfs).unwrap();
    assert!(report.findings.is_empty() && report.unknown.is_empty(), "{:?}", report.findings);
    let mut wal = existing(vfs, TO).unwrap();
    let reader = wal.reader();
    assert_eq!(reader.root(), (Position(count as u64), root_of(groups, count)));
    assert_eq!(reader.identity(), Some((LOG_ID, BRANCH)));
    let mut entries = groups.iter().flatten();
    for position in 1..=count as u64 {
        let found = reader.read(Position(position)).unwrap().unwrap();
        assert_eq!(Some(&found.new), entries.next());
    }
    wal.append(&[sample(1, 100)]).unwrap();
    assert_eq!(reader.durable().0, Position(count as u64 + 1));
    assert_eq!(wal.cutter().parent().unwrap(), Some((TIMELINE, Position(count as u64))));
}

#[test]
fn a_log_is_cut_and_put_together_up_to_every_position() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    let groups = groups(3, 24);
    let mut cutter = wal.cutter();
    let (mut parts, mut begun) = (Vec::new(), false);
    for (n, group) in groups.iter().enumerate() {
        wal.append(group).unwrap();
        if !begun {
            cutter.seek(Position::NONE).unwrap();
            begun = true;
        }
        match n % 7 {
            // At rest, packed, in small parts and in long ones.
            3 => wal.seal().unwrap(),
            5 => {
                wal.repack_now().unwrap();
            }
            2 => cut_all(&mut cutter, 1, &mut parts),
            6 => cut_all(&mut cutter, 40_000, &mut parts),
            _ => {}
        }
    }
    cut_all(&mut cutter, 1 << 20, &mut parts);
    let count: usize = groups.iter().map(Vec::len).sum();
    let ends = parts.iter().filter(|part| part.ends_segment).count();
    assert!(parts.len() > 8 && ends > 2, "{} parts, {ends} segments", parts.len());
    let mut inside = 0;
    for upto in 1..=count {
        let vfs = SimVfs::new(2);
        let composed = compose(&vfs, &parts, Position(upto as u64)).unwrap();
        assert_eq!(composed.end.position, Position(upto as u64));
        assert_eq!(composed.end.chain, root_of(&groups, upto));
        inside += usize::from(composed.cut_group);
        check(&vfs, &groups, upto);
    }
    assert_eq!(count - inside, groups.len());
    // From any group on, the parts of a log are those of its history.
    for part in &parts {
        assert_eq!(cutter.seek(part.content.start.position).unwrap(), part.content.start);
        let again = cutter.next(1).unwrap().unwrap();
        assert_eq!(again.content.start, part.content.start);
    }
    assert!(cutter.seek(Position(2)).is_err(), "no group ends there");
    assert!(cutter.seek(Position(count as u64 + 1)).is_err(), "behind the end");
    assert_eq!(cutter.seek(Position(count as u64)).unwrap().chain, root_of(&groups, count));
    assert_eq!(cutter.next(1).unwrap(), None);
}

/// A medium that failed leaves void bytes behind fences, and segments that hold nothing.
#[test]
fn what_a_fence_voids_is_in_no_part() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    let (mut kept, mut count) = (Vec::new(), 0);
    let reopen = |wal: &mut Wal| {
        wal.detach().unwrap();
        wal.attach().unwrap();
    };
    for (n, group) in groups(2, 16).into_iter().enumerate() {
        if n % 4 == 3 {
            let sync = Some(OpKind::SyncData);
            vfs.inject(Fault { op: sync, path: DIR.into(), when: When::Nth(1), errno: EIO });
        }
        let _ = wal.append(&group);
        vfs.clear_faults();
        if wal.reader().state() != crate::LogState::Ok {
            reopen(&mut wal);
        }
        if n % 5 == 4 {
            reopen(&mut wal);
            reopen(&mut wal);
        }
        // Of a group that somebody was told is not written, no byte counts.
        if wal.reader().durable().0 > Position(count as u64) {
            count += group.len();
            kept.push(group);
        }
    }
    let groups = kept;
    assert!(groups.len() > 10);
    assert_eq!(wal.reader().root(), (Position(count as u64), root_of(&groups, count)));
    let (mut parts, mut cutter) = (Vec::new(), wal.cutter());
    cutter.seek(Position::NONE).unwrap();
    cut_all(&mut cutter, 1 << 20, &mut parts);
    let skipped = parts.iter().zip(parts.iter().skip(1));
    let skipped = skipped.filter(|(a, b)| b.content.segment > a.content.segment + 1).count();
    assert!(skipped > 0, "no segment held nothing");
    let to = SimVfs::new(2);
    compose(&to, &parts, Position::MAX).unwrap();
    check(&to, &groups, count);
}

#[test]
fn one_flipped_bit_is_found() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    for group in groups(5, 3) {
        wal.append(&group).unwrap();
    }
    let mut cutter = wal.cutter();
    cutter.seek(Position::NONE).unwrap();
    let part = cutter.next(1 << 20).unwrap().unwrap();
    let read = |bytes: &[u8]| read_part("part", bytes, &mut |_, _| Ok(()));
    assert_eq!(read(&part.bytes).unwrap(), part.content);
    for at in 0..part.bytes.len() {
        let mut bytes = part.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(read(&bytes).is_err(), "byte {at}");
    }
    for len in (0..part.bytes.len()).step_by(7) {
        assert!(read(&part.bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_log_is_put_together_from_its_own_parts_in_order_only() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    for group in groups(4, 16) {
        wal.append(&group).unwrap();
    }
    let (mut parts, mut cutter) = (Vec::new(), wal.cutter());
    cutter.seek(Position::NONE).unwrap();
    cut_all(&mut cutter, 20_000, &mut parts);
    assert!(parts.len() > 4);
    for gap in 0..parts.len() - 1 {
        let mut without = parts.clone();
        without.remove(gap);
        assert!(compose(&SimVfs::new(2), &without, Position::MAX).is_err(), "without {gap}");
    }
    let mut twice = parts.clone();
    twice.insert(1, parts[1].clone());
    assert!(compose(&SimVfs::new(2), &twice, Position::MAX).is_err());
    assert!(compose(&SimVfs::new(2), &[], Position::MAX).is_err(), "a log without a record");
    // Never over a log that is there.
    let to = SimVfs::new(2);
    compose(&to, &parts, Position::MAX).unwrap();
    let error = compose(&to, &parts, Position::MAX).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

/// A small file with this name in the folder of a log.
fn put(vfs: &SimVfs, dir: &str, name: &str) {
    vfs.create_dir_all(Path::new(dir)).unwrap();
    let file = vfs.open(&Path::new(dir).join(name), Open::CreateNew).unwrap();
    file.write_at(b"something", 0).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn nothing_of_a_log_that_is_there_is_touched() {
    let vfs = SimVfs::new(1);
    let env = env_on(&vfs);
    let mut wal = new_log(&vfs);
    for group in groups(4, 16) {
        wal.append(&group).unwrap();
    }
    let temporary = ["segment.001.wal.packed.tmp", "segment.099.wal.tmp"];
    temporary.iter().for_each(|name| put(&vfs, DIR, name));
    let begin = || Composer::new(&env, Path::new(DIR), Position::MAX).map(|_| ());
    let there = || temporary.iter().all(|name| vfs.exists(&Path::new(DIR).join(name)).unwrap());
    // While it is written, and when nobody has it.
    assert!(matches!(begin(), Err(LogError::Locked { .. })));
    assert!(there());
    drop(wal);
    let error = begin().unwrap_err().to_string();
    assert!(error.contains("is not empty") && there(), "{error}");
    // What only a log that was there has left.
    for name in ["floor", "verified", "scrubbed"] {
        let vfs = SimVfs::new(2);
        put(&vfs, TO, name);
        let error = Composer::new(&env_on(&vfs), Path::new(TO), Position::MAX).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn two_cannot_put_a_log_together_in_one_folder() {
    let vfs = SimVfs::new(1);
    let env = env_on(&vfs);
    let begin = || Composer::new(&env, Path::new(TO), Position::MAX);
    let first = begin().unwrap();
    assert!(matches!(begin(), Err(LogError::Locked { .. })));
    drop(first);
    begin().unwrap();
}

#[test]
fn a_log_that_is_put_together_and_not_written_to_is_gone_on_with() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    let groups = groups(4, 16);
    for group in &groups {
        wal.append(group).unwrap();
    }
    let (mut parts, mut cutter) = (Vec::new(), wal.cutter());
    cutter.seek(Position::NONE).unwrap();
    cut_all(&mut cutter, 20_000, &mut parts);
    let count = groups.iter().flatten().count();
    let upto = Position(count as u64 - 3);
    let to = SimVfs::new(2);
    let first = compose(&to, &parts, upto).unwrap();
    let env = env_on(&to);
    let composer = Composer::new(&env, Path::new(TO), upto).unwrap();
    assert_eq!(composer.end(), Some(first.end));
    let again = composer.finish(Timeline([4; 16]), SEGMENT).unwrap();
    assert_eq!((again.end, again.recorded_at), (first.end, first.recorded_at));
    assert_eq!(again.segments, first.segments);
    // It is the branch that it was. One that was to end elsewhere is not this one.
    for other in [Position(upto.0 - 1), upto.next(), Position::MAX] {
        assert!(Composer::new(&env, Path::new(TO), other).is_err(), "{other}");
    }
    check(&to, &groups, count - 3);
    let error = compose(&to, &parts, upto).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn power_is_cut_at_every_change_of_putting_together() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    let groups = groups(4, 16);
    for group in &groups {
        wal.append(group).unwrap();
    }
    let (mut parts, mut cutter) = (Vec::new(), wal.cutter());
    cutter.seek(Position::NONE).unwrap();
    cut_all(&mut cutter, 20_000, &mut parts);
    let upto = groups.iter().flatten().count() - 1;
    let whole = SimVfs::new(2);
    compose(&whole, &parts, Position(upto as u64)).unwrap();
    let (mut resumed, mut done) = (0, 0);
    for changes in 0..=whole.changes() {
        let vfs = SimVfs::new(changes);
        vfs.power_off_after(changes);
        let _ = compose(&vfs, &parts, Position(upto as u64));
        let crashed = vfs.crash();
        match existing(&crashed, TO) {
            // The last change was the end.
            Ok(_) => done += 1,
            Err(_) => {
                compose(&crashed, &parts, Position(upto as u64)).unwrap();
                resumed += 1;
            }
        }
        check(&crashed, &groups, upto);
    }
    assert!(resumed > 20 && done > 0, "{resumed} resumed, {done} done");
}

/// A restored log and the one it comes from have the same positions for different records.
#[test]
fn a_branch_is_put_together_from_both_logs() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    let groups = groups(4, 16);
    for group in &groups {
        wal.append(group).unwrap();
    }
    let (mut parts, mut cutter) = (Vec::new(), wal.cutter());
    cutter.seek(Position::NONE).unwrap();
    cut_all(&mut cutter, 20_000, &mut parts);
    let upto = groups.iter().flatten().count() - 9;
    let there = SimVfs::new(2);
    compose(&there, &parts, Position(upto as u64)).unwrap();
    let mut branch = existing(&there, TO).unwrap();
    // The medium fails at once: the segment that names the branch it left holds nothing.
    let sync = Some(OpKind::SyncData);
    there.inject(Fault { op: sync, path: TO.into(), when: When::Nth(1), errno: EIO });
    let _ = branch.append(&[sample(899, 100)]);
    there.clear_faults();
    if branch.reader().state() != crate::LogState::Ok {
        branch.detach().unwrap();
        branch.attach().unwrap();
    }
    for n in 0..40 {
        branch.append(&[sample(900 + n, 2_000)]).unwrap();
    }
    branch.repack_now().unwrap();
    // What both have up to here is in the parts of the first; the rest is cut from the branch.
    let shared: Vec<Part> =
        parts.iter().filter(|part| part.content.last().0 <= upto as u64).cloned().collect();
    let mut cutter = branch.cutter();
    let link = cutter.seek(shared.last().unwrap().content.last()).unwrap();
    assert_eq!(link, shared.last().unwrap().content.end);
    let mut all = shared;
    cut_all(&mut cutter, 20_000, &mut all);
    let again = SimVfs::new(3);
    let composed = compose(&again, &all, Position::MAX).unwrap();
    let (position, root) = branch.reader().root();
    assert_eq!((composed.end.position, composed.end.chain), (position, root));
    assert_eq!(existing(&again, TO).unwrap().reader().root(), (position, root));
    assert_eq!(verify(Path::new(TO), &again).unwrap().exit_status(), 0);
    // Parts of the one do not go behind those of the other.
    let mut wrong = all.clone();
    wrong.truncate(all.len() - 1);
    wrong.push(parts.last().unwrap().clone());
    assert!(compose(&SimVfs::new(4), &wrong, Position::MAX).is_err());
}

/// Beside a writer nothing is seen that was not durable, and all of it once the log rests.
#[test]
fn a_folder_is_cut_beside_its_writer() {
    let vfs = SimVfs::new(1);
    let mut wal = new_log(&vfs);
    let groups = groups(6, 30);
    let env = env_on(&vfs);
    let cut = || {
        let mut cutter = Cutter::of_folder(Path::new(DIR), &env).unwrap();
        cutter.seek_start().unwrap();
        let mut parts = Vec::new();
        cut_all(&mut cutter, 20_000, &mut parts);
        (cutter.durable().0, parts)
    };
    let (mut written, mut behind) = (0, 0);
    for (n, group) in groups.iter().enumerate() {
        wal.append(group).unwrap();
        let before = written;
        written += group.len();
        let (end, parts) = cut();
        assert_eq!(parts.last().map_or(Position::NONE, |part| part.content.last()), end.position);
        // The last group has no later one that says that it was durable.
        assert!(
            end.position == Position(before as u64) || end.position == Position(written as u64)
        );
        behind += usize::from(end.position < Position(written as u64));
        if n % 6 == 5 {
            wal.seal().unwrap();
            assert_eq!(cut().0.chain, root_of(&groups, written));
            wal.repack_now().unwrap();
        }
    }
    assert!(behind > 10, "{behind}");
    wal.seal().unwrap();
    let (end, parts) = cut();
    assert_eq!(end.position, Position(written as u64));
    let to = SimVfs::new(2);
    compose(&to, &parts, Position::MAX).unwrap();
    check(&to, &groups, written);
    // A segment that is not there is told, not passed over.
    vfs.take(&Path::new(DIR).join("segment.002.wal")).unwrap();
    assert!(Cutter::of_folder(Path::new(DIR), &env).is_err());
}

/// Every position, and what is read of it.
fn all_of(log: &dyn crate::LogReader) -> Vec<crate::Entry> {
    let mut found = Vec::new();
    log.scan(Position(1), &mut |group| {
        found.extend(group);
        Ok(true)
    })
    .unwrap();
    for entry in &found {
        assert_eq!(log.read(entry.position).unwrap().as_ref(), Some(entry));
    }
    found
}

#[test]
fn a_follower_is_read_while_it_goes_and_ends_as_a_branch() {
    for seed in 0..6 {
        let vfs = SimVfs::new(seed);
        let mut wal = new_log(&vfs);
        let groups = groups(seed, 40);
        let mut cutter = wal.cutter();
        let mut begun = false;
        let mut parts = Vec::new();
        for (n, group) in groups.iter().enumerate() {
            wal.append(group).unwrap();
            if !begun {
                cutter.seek(Position::NONE).unwrap();
                begun = true;
            }
            if n % 3 == 0 || n == 39 {
                while let Some(part) = cutter.next(8_192).unwrap() {
                    parts.push(part);
                }
            }
        }
        let segments = parts.last().unwrap().content.segment;
        assert!(segments > 3, "{segments} segments");

        let env = env_on(&vfs);
        let begin = || Follower::new(&env, Path::new(TO), (LOG_ID, TIMELINE), SEGMENT);
        let mut follower = begin().unwrap();
        let mut log = follower.log().reader();
        assert_eq!((log.identity(), log.durable().0), (None, Position::NONE));
        let mut count = 0;
        for (n, part) in parts.iter().enumerate() {
            if n == parts.len() / 2 {
                // It ends as power does; the segment in the making is fetched again.
                drop(follower);
                follower = begin().unwrap();
                log = follower.log().reader();
                let there = follower.end().unwrap().position;
                for again in parts.iter().take(n) {
                    if again.content.start.position >= there {
                        follower.add("again", &again.bytes).unwrap();
                    }
                }
            }
            follower.add("part", &part.bytes).unwrap();
            count += part.content.records as usize;
            assert_eq!(log.root(), (part.content.last(), part.content.end.chain));
            assert_eq!(log.identity(), Some((LOG_ID, TIMELINE)));
            if n % 5 == 0 {
                let found = all_of(&*log);
                let expected: Vec<_> = groups.iter().flatten().take(count).collect();
                assert_eq!(found.iter().map(|entry| &entry.new).collect::<Vec<_>>(), expected);
            }
        }
        // Not the next, or of another log.
        assert!(follower.log().append(&[sample(1, 1)]).is_err());
        let composed = follower.finish(BRANCH).unwrap();
        assert_eq!(composed.end, parts.last().unwrap().content.end);
        check(&vfs, &groups, count);
    }
}

#[test]
fn a_follower_takes_nothing_but_the_next_part() {
    let vfs = SimVfs::new(4);
    let mut wal = new_log(&vfs);
    let groups = groups(4, 12);
    for group in &groups {
        wal.append(group).unwrap();
    }
    let mut cutter = wal.cutter();
    cutter.seek(Position::NONE).unwrap();
    let mut parts = Vec::new();
    cut_all(&mut cutter, 4_096, &mut parts);
    let env = env_on(&vfs);
    let mut follower = Follower::new(&env, Path::new(TO), (LOG_ID, TIMELINE), SEGMENT).unwrap();
    follower.add("first", &parts[0].bytes).unwrap();
    assert!(follower.add("third", &parts[2].bytes).is_err());
    drop((follower, wal));
    // A log that goes on by itself is not followed into.
    let other = Follower::new(&env, Path::new(DIR), (LOG_ID, TIMELINE), SEGMENT);
    assert!(other.is_err());
}
