//! Folders of many histories are damaged in many ways, drawn from a seed: opening one either
//! refuses by name, or yields exactly what was acknowledged, and goes on from there. Inspectors
//! show only what was written once. Nothing panics, and nothing grows with what a damaged byte says.
//!
//! `MUTATIONS=100000 SEED=7` in the environment asks for more and for other ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use stemedb_io::Rng;
use stemedb_io::sim::{SimRng, SimVfs};
use stemedb_log::conformance::{TIMELINE, sample};
use stemedb_log::{
    DumpItem, ErrorKind, Expect, GroupKind, Log, LogError, NewEntry, VerifyReport, Wal, WalConfig,
    dump, stat, verify,
};
use stemedb_model::{LogId, Position};
use world::*;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
/// More than any of these folders needs, far less than a length that lies could ask for.
const MEMORY_MAX: u64 = 400 << 20;

/// A folder, and what was acknowledged in it.
struct History {
    name: &'static str,
    vfs: SimVfs,
    groups: Vec<Vec<NewEntry>>,
    /// The same folder at earlier times.
    earlier: Vec<SimVfs>,
    /// Entries that were written and are void.
    void: Vec<NewEntry>,
}

impl History {
    fn records(&self) -> u64 {
        self.groups.concat().len() as u64
    }

    fn files(&self) -> Vec<PathBuf> {
        self.vfs.files()
    }
}

fn medium(vfs: &SimVfs, path: &Path) -> Vec<u8> {
    vfs.medium(path).unwrap_or_default()
}

fn file(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Groups one after the other, sealed or not, with a copy of the folder after every third.
fn plain(name: &'static str, seed: u64, groups: usize, sealed: bool) -> History {
    let groups = script(seed, groups);
    let vfs = SimVfs::new(seed);
    let (mut wal, _) = Wal::open(config(), env_on(&vfs, seed), NEW).unwrap();
    let mut earlier = Vec::new();
    for (n, group) in groups.iter().enumerate() {
        wal.append(group).unwrap();
        if n % 3 == 0 {
            earlier.push(vfs.fork());
        }
    }
    if sealed {
        wal.close().unwrap();
    }
    History { name, vfs, groups, earlier, void: Vec::new() }
}

/// Last group of entries in the folder: segment, first block, blocks.
fn last_group(vfs: &SimVfs) -> (PathBuf, usize, usize) {
    let (mut segment, mut found) = (PathBuf::new(), None);
    dump(Path::new(DIR), vfs, (Position(1), Position::MAX), false, &mut |item| {
        match item {
            DumpItem::Segment { file: name, .. } => segment = file(&name),
            DumpItem::Group(group) if group.kind == GroupKind::Entries => {
                found = Some((segment.clone(), group.block as usize, group.blocks as usize));
            }
            _ => {}
        }
        true
    })
    .unwrap();
    found.unwrap()
}

/// Every few groups the power goes in the middle of one: it is void, and a fence says so. With
/// `fence_last` the folder ends with a segment that holds nothing but its header.
fn torn(name: &'static str, seed: u64, rounds: usize, fence_last: bool) -> History {
    let vfs = SimVfs::new(seed);
    let (mut groups, mut void, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
    let (mut wal, _) = Wal::open(config(), env_on(&vfs, seed), NEW).unwrap();
    for round in 0..rounds {
        for group in script(seed + round as u64 * 100, 4) {
            wal.append(&group).unwrap();
            groups.push(group);
        }
        earlier.push(vfs.fork());
        let lost = vec![sample((seed << 40) + round as u64, 9_000)];
        wal.append(&lost).unwrap();
        drop(wal);
        void.extend(lost);
        let (path, block, blocks) = last_group(&vfs);
        assert_eq!(blocks, 3);
        let mut bytes = medium(&vfs, &path);
        let sector = block * BLOCK + (1 + round * 5) % (3 * 8) * SECTOR;
        bytes[sector..sector + SECTOR].fill(0);
        vfs.put(&path, bytes).unwrap();
        let acknowledged = groups.concat().len() as u64;
        let opened = Wal::open(
            config(),
            env_on(&vfs, seed + round as u64 + 1),
            existing(Some(acknowledged)),
        );
        let (reopened, recovery) = opened.unwrap();
        assert_eq!(recovery.durable.0, acknowledged);
        assert_eq!(recovery.voided.unwrap().because, "torn");
        wal = reopened;
    }
    if !fence_last {
        let group = vec![sample(seed << 41, 300)];
        wal.append(&group).unwrap();
        groups.push(group);
    }
    drop(wal);
    History { name, vfs, groups, earlier, void }
}

fn histories() -> Vec<History> {
    vec![
        plain("sealed", 31, 40, true),
        plain("not sealed", 32, 40, false),
        plain("one segment", 33, 3, false),
        torn("torn and gone on", 34, 4, false),
        torn("ends with a fence", 35, 3, true),
        restarted(36),
    ]
}

/// Started again often: `verified` is there and most segments are vouched for.
fn restarted(seed: u64) -> History {
    let mut history = plain("started again", seed, 30, true);
    for _ in 0..2 {
        let witness = Some(history.records());
        let (mut wal, _) =
            Wal::open(config(), env_on(&history.vfs, seed), existing(witness)).unwrap();
        let group = vec![sample((seed << 40) + history.records(), 5_000)];
        wal.append(&group).unwrap();
        history.groups.push(group);
        wal.close().unwrap();
        history.earlier.push(history.vfs.fork());
    }
    assert!(history.vfs.medium(&file("verified")).is_some());
    history
}

/// Another database with the same numbers.
fn foreign() -> SimVfs {
    let vfs = SimVfs::new(90);
    let new = Expect::New { log_id: LogId([8; 16]), timeline: TIMELINE };
    let (mut wal, _) = Wal::open(config(), env_on(&vfs, 90), new).unwrap();
    for group in script(90, 40) {
        wal.append(&group).unwrap();
    }
    drop(wal);
    vfs
}

/// What may stand in a dump: everything that was ever written, by id.
fn written(histories: &[History]) -> HashMap<[u8; 32], NewEntry> {
    let theirs = script(90, 40).concat();
    let ours = histories.iter().flat_map(|h| h.groups.concat().into_iter().chain(h.void.clone()));
    ours.chain(theirs).map(|entry| (entry.id.0, entry)).collect()
}

/// A refusal is about data, and names a file or the index.
fn named(error: &LogError, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Data, "{what}: {error}");
    let text = error.to_string();
    assert!(text.contains("segment.") || text.contains(DIR), "{what}: {text} names nothing");
}

/// Opens a damaged folder with and without a witness, and looks at it with every inspector. Gives
/// whether it was refused with the witness.
fn judge(
    history: &History,
    damaged: &SimVfs,
    written: &HashMap<[u8; 32], NewEntry>,
    what: &str,
) -> bool {
    let what = format!("{}: {what}", history.name);
    // Inspectors only read, and before anything is changed.
    let report = verify(Path::new(DIR), damaged);
    let _ = stat(Path::new(DIR), damaged);
    for raw in [false, true] {
        let range = (Position(1), Position::MAX);
        let _ = dump(Path::new(DIR), damaged, range, raw, &mut |item| {
            if let DumpItem::Entry(entry) = item {
                let known = written.get(&entry.new.id.0);
                assert_eq!(known, Some(&entry.new), "{what}: a dump shows what nobody wrote");
            }
            true
        });
    }
    for path in damaged.files() {
        let _ = verify(&path, damaged);
    }

    // What an earlier start has proved is not read at this one. It is proved when it is read.
    if let Ok((wal, _)) = Wal::open(config(), env_on(&damaged.fork(), 76), existing(None)) {
        let all = history.groups.concat();
        let mut found: u64 = 0;
        let read = wal.reader().scan(Position(1), &mut |entries| {
            for entry in entries {
                assert_eq!(Some(&entry.new), all.get(found as usize), "{what}: a wrong record");
                found += 1;
            }
            Ok(true)
        });
        let _ = read.map_err(|error| named(&error, &what));
    }
    let open = |vfs: &SimVfs, witness| {
        let config = WalConfig { verify_all: true, ..config() };
        Wal::open(config, env_on(vfs, 77), existing(witness))
    };

    // Without a witness the end may be missing, as the specification of the format says; what is
    // there is right, and `verify` says whether it opens.
    match open(&damaged.fork(), None) {
        Ok((wal, _)) => {
            check_prefix(&*wal.reader(), &history.groups);
            assert_eq!(report.unwrap().exit_status(), 0, "{what}: it opens, verify says damage");
        }
        Err(error) => {
            named(&error, &what);
            // A folder that holds no record may be that of a new database: only whoever expects
            // data knows better.
            let empty = |report: &VerifyReport| report.segments.iter().all(|s| s.records == 0);
            let found = report.map_or(true, |report| report.exit_status() == 1 || empty(&report));
            assert!(found, "{what}: {error}, but verify finds nothing");
        }
    }

    let records = history.records();
    let (mut wal, _) = match open(damaged, Some(records)) {
        Err(error) => {
            named(&error, &what);
            return true;
        }
        Ok(opened) => opened,
    };
    let durable = check_prefix(&*wal.reader(), &history.groups);
    assert_eq!(durable as u64, records, "{what}: records vanished in silence");
    // It goes on: what is written now is there after the next start, with everything before it.
    let mut groups = history.groups.clone();
    for n in 0..3 {
        groups.push(vec![sample((1 << 50) + n, 7_000)]);
        wal.append(&groups[groups.len() - 1]).unwrap();
    }
    drop(wal);
    let after = damaged.crash();
    let (wal, _) = Wal::open(config(), env_on(&after, 79), existing(Some(records + 3)))
        .unwrap_or_else(|error| panic!("{what}: opened once, and then: {error}"));
    check_prefix(&*wal.reader(), &groups);
    false
}

/// One way to damage a folder.
#[derive(Debug, Clone)]
enum Damage {
    Flip {
        file: PathBuf,
        byte: usize,
        bit: u32,
    },
    /// `count` sectors from `sector` on.
    Zero {
        file: PathBuf,
        sector: usize,
        count: usize,
    },
    Garbage {
        file: PathBuf,
        sector: usize,
        seed: u64,
    },
    /// The sectors of another place, file or time.
    Misdirect {
        file: PathBuf,
        to: usize,
        from: PathBuf,
        at: usize,
        count: usize,
    },
    /// The sectors as they were at an earlier time.
    Stale {
        file: PathBuf,
        sector: usize,
        count: usize,
        earlier: usize,
    },
    Cut {
        file: PathBuf,
        len: usize,
    },
    Extend {
        file: PathBuf,
        bytes: usize,
        seed: Option<u64>,
    },
    Gone {
        file: PathBuf,
    },
    Swap {
        one: PathBuf,
        other: PathBuf,
    },
    Copy {
        from: PathBuf,
        to: PathBuf,
    },
    Older {
        file: PathBuf,
        earlier: usize,
    },
    Foreign {
        file: PathBuf,
    },
}

impl Damage {
    fn draw(history: &History, rng: &SimRng) -> Self {
        let below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
        let files = history.files();
        let pick = || files[below(files.len())].clone();
        let file = pick();
        let len = medium(&history.vfs, &file).len();
        let sectors = len / SECTOR;
        // Mostly where something is, and often in the first sectors of a block.
        let place = || match below(3) {
            0 => below(sectors),
            1 => below(3 * 8),
            _ => below(sectors / 8) * 8,
        };
        match below(12) {
            0 => Self::Zero { file, sector: place(), count: 1 + below(20) },
            1 => Self::Garbage { file, sector: place(), seed: rng.next_u64() },
            2 => Self::Misdirect {
                from: pick(),
                file,
                to: place(),
                at: below(128),
                count: 1 + below(16),
            },
            3 => {
                let earlier = below(history.earlier.len());
                Self::Stale { file, sector: place(), count: 1 + below(64), earlier }
            }
            4 => Self::Cut { file, len: below(sectors + 1) * SECTOR },
            5 => {
                let seed = (below(2) == 0).then(|| rng.next_u64());
                Self::Extend { file, bytes: 1 + below(3 * BLOCK), seed }
            }
            6 => Self::Gone { file },
            7 => Self::Swap { one: file, other: pick() },
            8 => Self::Copy { from: file, to: pick() },
            9 => Self::Older { file, earlier: below(history.earlier.len()) },
            10 => Self::Foreign { file },
            _ => {
                let byte = place() * SECTOR + below(SECTOR);
                Self::Flip { file, byte, bit: below(8) as u32 }
            }
        }
    }

    fn apply(&self, vfs: &SimVfs, history: &History, foreign: &SimVfs) {
        let edit = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = medium(vfs, path);
            change(&mut bytes);
            vfs.put(path, bytes).unwrap();
        };
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(at).zip(new) {
                *place = *byte;
            }
        };
        let sectors = |bytes: &[u8], at: usize, count: usize| -> Vec<u8> {
            bytes.iter().skip(at * SECTOR).take(count * SECTOR).copied().collect()
        };
        let noise = |seed: u64, len: usize| {
            let mut bytes = vec![0; len];
            SimRng::new(seed).fill(&mut bytes);
            bytes
        };
        match self {
            Self::Flip { file, byte, bit } => edit(file, &|bytes| {
                if let Some(byte) = bytes.get_mut(*byte) {
                    *byte ^= 1 << bit;
                }
            }),
            Self::Zero { file, sector, count } => {
                edit(file, &|bytes| put(bytes, sector * SECTOR, &vec![0; count * SECTOR]));
            }
            Self::Garbage { file, sector, seed } => {
                edit(file, &|bytes| put(bytes, sector * SECTOR, &noise(*seed, SECTOR)));
            }
            Self::Misdirect { file, to, from, at, count } => {
                let new = sectors(&medium(vfs, from), *at, *count);
                edit(file, &|bytes| put(bytes, to * SECTOR, &new));
            }
            Self::Stale { file, sector, count, earlier } => {
                let old = medium(&history.earlier[*earlier], file);
                let new = sectors(&old, *sector, *count);
                edit(file, &|bytes| put(bytes, sector * SECTOR, &new));
            }
            Self::Cut { file, len } => edit(file, &|bytes| bytes.truncate(*len)),
            Self::Extend { file, bytes: more, seed } => edit(file, &|bytes| {
                bytes.extend(seed.map_or(vec![0; *more], |seed| noise(seed, *more)));
            }),
            Self::Gone { file } => vfs.take(file).unwrap_or(()),
            Self::Swap { one, other } => {
                let (first, second) = (medium(vfs, one), medium(vfs, other));
                vfs.put(one, second).unwrap();
                vfs.put(other, first).unwrap();
            }
            Self::Copy { from, to } => vfs.put(to, medium(vfs, from)).unwrap(),
            Self::Older { file, earlier } => {
                if let Some(bytes) = history.earlier[*earlier].medium(file) {
                    vfs.put(file, bytes).unwrap();
                }
            }
            Self::Foreign { file } => {
                if let Some(bytes) = foreign.medium(file) {
                    vfs.put(file, bytes).unwrap();
                }
            }
        }
    }
}

fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The most memory that this process has had.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn damage_is_refused_by_name_or_makes_no_difference() {
    let (count, seed) = (asked("MUTATIONS", 200), asked("SEED", 1));
    let histories = histories();
    let (written, foreign) = (written(&histories), foreign());
    let (mut refused, mut harmless) = (0, 0);
    for n in 0..count {
        let rng = SimRng::new(seed.wrapping_mul(1_000_003).wrapping_add(n));
        let history = &histories[(rng.next_u64() % histories.len() as u64) as usize];
        let damaged = history.vfs.fork();
        // Mostly one thing goes wrong; two or three now and then.
        let damages: Vec<Damage> = (0..[1, 1, 1, 2, 3][(rng.next_u64() % 5) as usize])
            .map(|_| Damage::draw(history, &rng))
            .collect();
        for damage in &damages {
            damage.apply(&damaged, history, &foreign);
        }
        let what = format!("SEED={seed}, mutation {n}: {damages:?}");
        match judge(history, &damaged, &written, &what) {
            true => refused += 1,
            false => harmless += 1,
        }
    }
    println!("{count} mutations from SEED={seed}: {refused} refused, {harmless} harmless");
    assert!(refused > harmless / 4 && harmless > refused / 20, "{refused}, {harmless}");
    assert!(memory_peak() < MEMORY_MAX, "{} MiB", memory_peak() >> 20);
}

/// Every bit, or every `step`-th, of the sectors in which one bit decides the most: header, mark,
/// the first sector of the first block and of the closing seal, the same of the next segment, whose
/// header is the fence.
#[test]
fn every_bit_of_what_decides() {
    let step = asked("BIT_STEP", 3203) as usize;
    let histories = histories();
    let written = written(&histories);
    let mut bits = 0;
    for history in &histories {
        for (n, path) in history.files().into_iter().enumerate() {
            let bytes = medium(&history.vfs, &path);
            let last = bytes.chunks(BLOCK).rposition(|block| block.iter().any(|b| *b != 0));
            let mut sectors = vec![0, 1, 8, last.unwrap_or(0) * 8];
            sectors.dedup();
            for sector in sectors {
                for bit in (n % step..SECTOR * 8).step_by(step) {
                    let byte = sector * SECTOR + bit / 8;
                    if byte >= bytes.len() {
                        continue;
                    }
                    let damaged = history.vfs.fork();
                    let flip = Damage::Flip { file: path.clone(), byte, bit: bit as u32 % 8 };
                    flip.apply(&damaged, history, &damaged);
                    judge(history, &damaged, &written, &format!("{flip:?}"));
                    bits += 1;
                }
            }
        }
    }
    println!("{bits} bits");
    assert!(bits > 100, "{bits}");
}

/// Every file, also a spare, `verified` and what was set aside, cut at every sector, or every
/// `step`-th.
#[test]
fn every_length() {
    let step = asked("CUT_STEP", 97) as usize;
    let histories = histories();
    let written = written(&histories);
    for history in &histories {
        for (n, path) in history.files().into_iter().enumerate() {
            let len = medium(&history.vfs, &path).len();
            for len in (0..len).step_by(SECTOR).skip(n % step).step_by(step) {
                let damaged = history.vfs.fork();
                let cut = Damage::Cut { file: path.clone(), len };
                cut.apply(&damaged, history, &damaged);
                judge(history, &damaged, &written, &format!("{cut:?}"));
            }
        }
    }
}

/// What lies behind a fence is void, whatever it is: no byte of it makes a difference.
#[test]
fn void_bytes_make_no_difference() {
    let history = torn("torn and gone on", 44, 3, false);
    let written = written(std::slice::from_ref(&history));
    let mut ends: Vec<(PathBuf, usize)> = Vec::new();
    dump(Path::new(DIR), &history.vfs, (Position(1), Position::MAX), false, &mut |item| {
        match item {
            DumpItem::Segment { file: name, .. } => ends.push((file(&name), 1)),
            DumpItem::Group(group) => {
                ends.last_mut().unwrap().1 = (group.block + group.blocks) as usize;
            }
            _ => {}
        }
        true
    })
    .unwrap();
    let fenced: Vec<_> = ends
        .iter()
        .filter(|(path, end)| {
            let bytes = medium(&history.vfs, path);
            bytes.get(end * BLOCK..).is_some_and(|void| void.iter().any(|byte| *byte != 0))
        })
        .collect();
    assert_eq!(fenced.len(), 3, "{ends:?}");
    for (path, end) in fenced {
        for sector in (end * 8..end * 8 + 3 * 8).step_by(5) {
            for damage in [
                Damage::Garbage { file: path.clone(), sector, seed: 1 },
                Damage::Zero { file: path.clone(), sector, count: 1 },
                Damage::Cut { file: path.clone(), len: sector * SECTOR },
            ] {
                let damaged = history.vfs.fork();
                damage.apply(&damaged, &history, &damaged);
                let refused = judge(&history, &damaged, &written, &format!("{damage:?}"));
                assert!(!refused, "void bytes were not void: {damage:?}");
            }
        }
    }
}

/// An older copy of any segment, put back: refused as soon as anything remembers that it was longer.
#[test]
fn an_older_copy_of_any_segment() {
    let histories = histories();
    let written = written(&histories);
    let mut refused = 0;
    for history in &histories {
        for earlier in 0..history.earlier.len() {
            for path in history.files() {
                let old = history.earlier[earlier].medium(&path);
                if old.is_none() || old == history.vfs.medium(&path) {
                    continue;
                }
                let damaged = history.vfs.fork();
                let older = Damage::Older { file: path, earlier };
                older.apply(&damaged, history, &damaged);
                refused += usize::from(judge(history, &damaged, &written, &format!("{older:?}")));
            }
        }
    }
    assert!(refused > 30, "{refused}");
}

/// A spare holds nothing: damage to it loses nothing, and what it says is not believed.
#[test]
fn a_damaged_spare() {
    let histories = histories();
    let written = written(&histories);
    let mut spares = 0;
    for history in &histories {
        let report = verify(Path::new(DIR), &history.vfs).unwrap();
        for spare in report.segments.iter().filter(|segment| segment.spare) {
            spares += 1;
            let path = file(&spare.file);
            for sector in [0, 1, 2, 7, 8, 9, 64, 127] {
                for damage in [
                    Damage::Flip { file: path.clone(), byte: sector * SECTOR + 40, bit: 3 },
                    Damage::Garbage { file: path.clone(), sector, seed: 5 },
                    Damage::Cut { file: path.clone(), len: sector * SECTOR },
                    Damage::Gone { file: path.clone() },
                ] {
                    let damaged = history.vfs.fork();
                    damage.apply(&damaged, history, &damaged);
                    judge(history, &damaged, &written, &format!("{damage:?}"));
                }
            }
        }
    }
    assert!(spares >= 4, "{spares}");
}
