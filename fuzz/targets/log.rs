//! Arbitrary bytes as the folder of a log, on a simulated disk: opening, reading, verifying and
//! dumping it never panics, and takes no more memory than the files are long, within a factor.
//!
//! The first byte says into how many segments the rest is cut, and whether each sector that is not
//! all zero gets the checksum that fits: without that, no change would get past the checksums.
//! Nothing may be believed of the content then; what is checked is that all ways to read agree.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use stemedb_io::Env;
use stemedb_io::sim::{SimVfs, world};
use stemedb_log::conformance::{LOG_ID, START_MS, TIMELINE, sample};
use stemedb_log::{Entry, Expect, Log, LogError, LogReader, Wal, WalConfig, dump, stat, verify};
use stemedb_model::Position;

const DIR: &str = "/wal";
const SECTOR: usize = 512;
const BLOCK: usize = 4096;
const SEGMENT_BLOCKS: usize = 8;
const RESEAL: u8 = 128;
/// So many positions are read one by one.
const READS_MAX: u64 = 200;

fn segment(number: usize) -> PathBuf {
    Path::new(DIR).join(format!("segment.{number:03}.wal"))
}

fn config() -> WalConfig {
    WalConfig {
        segment_bytes: (SEGMENT_BLOCKS * BLOCK) as u64,
        prepare_in_background: false,
        ..WalConfig::new(DIR)
    }
}

fn env(vfs: &SimVfs) -> Env {
    let (_, _, env) = world(1, START_MS);
    Env { vfs: std::sync::Arc::new(vfs.clone()), ..env }
}

fn open(vfs: &SimVfs, void_tail: bool) -> Result<Wal, LogError> {
    let expect = Expect::Existing { log_id: None, witness: None };
    Wal::open(WalConfig { void_tail, ..config() }, env(vfs), expect).map(|(wal, _)| wal)
}

/// Gives every sector that is not all zero its checksum (`docs/format/wal.md`).
fn reseal(bytes: &mut [u8]) {
    let salt = |at: usize| bytes.get(at..at + 8).map(<[u8]>::to_vec);
    // The mark has it, else the header, else the first block.
    let salt =
        [528, 16, BLOCK + 8].into_iter().filter_map(salt).find(|s| s.iter().any(|b| *b != 0));
    let salt = salt.unwrap_or_else(|| vec![0; 8]);
    if let Some(preamble) = bytes.get(..12) {
        let crc = crc32c::crc32c(preamble);
        if let Some(place) = bytes.get_mut(12..16) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }
    for (number, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
        let Some((content, seal)) = sector.split_last_chunk_mut::<4>() else { continue };
        if content.iter().all(|byte| *byte == 0) {
            continue;
        }
        let crc = crc32c::crc32c(&salt);
        let crc = crc32c::crc32c_append(crc, &(number as u64).to_le_bytes());
        *seal = crc32c::crc32c_append(crc, content).to_le_bytes();
    }
}

/// The folder that an input stands for.
fn folder(data: &[u8]) -> Option<SimVfs> {
    let (flags, data) = data.split_first()?;
    let count = usize::from(flags & 3).max(1);
    let vfs = SimVfs::new(1);
    let mut rest = data;
    for number in 1..=count {
        let len = if number == count { rest.len() } else { rest.len().min(SEGMENT_BLOCKS * BLOCK) };
        let (now, after) = rest.split_at(len);
        let mut bytes = now.to_vec();
        if flags & RESEAL != 0 {
            reseal(&mut bytes);
        }
        vfs.put(&segment(number), bytes).expect("a disk without faults");
        rest = after;
    }
    Some(vfs)
}

/// Everything that scanning gives, if it gives it whole and in order.
fn scanned(reader: &dyn LogReader) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let whole = reader.scan(Position(1), &mut |more| {
        entries.extend(more);
        Ok(entries.len() < 10_000)
    });
    let ascending = entries.windows(2).all(|pair| pair[0].position < pair[1].position);
    assert!(ascending, "a scan is in order");
    whole.ok().map(|()| entries)
}

fn run(data: &[u8]) {
    let Some(vfs) = folder(data) else { return };
    let _ = stat(Path::new(DIR), &vfs);
    let _ = verify(Path::new(DIR), &vfs);
    for raw in [false, true] {
        let range = (Position(1), Position::MAX);
        let mut left = 100_000;
        let _ = dump(Path::new(DIR), &vfs, range, raw, &mut |_| {
            left -= 1;
            left > 0
        });
    }
    for void_tail in [false, true] {
        let vfs = vfs.fork();
        let Ok(wal) = open(&vfs, void_tail) else { continue };
        let reader = wal.reader();
        let (durable, _) = reader.durable();
        assert_eq!(reader.root().0, durable);
        let entries = scanned(&*reader);
        for entry in entries.iter().flatten().take(READS_MAX as usize) {
            let read = reader.read(entry.position).expect("what a scan shows can be read");
            assert_eq!(read.as_ref(), Some(entry));
        }
        for position in 1..=durable.0.min(READS_MAX) {
            // A forged fence may begin anywhere, and a repair may have given a range up.
            if let Ok(Some(entry)) = reader.read(Position(position)) {
                assert_eq!(entry.position.0, position);
            }
        }
        assert_eq!(reader.read(durable.next()).ok().flatten(), None);
        drop(reader);
        drop(wal);
        // Opened once, it opens again, and ends where it did.
        let again = open(&vfs.crash(), false).expect("it opened before");
        assert_eq!(again.reader().durable().0, durable);
    }
}

/// Logs of one to three segments, with their checksums and without, sealed and not.
fn seeds(to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for seeds");
    let mut number = 0;
    for groups in [1, 3, 6, 9] {
        for sealed in [false, true] {
            let vfs = SimVfs::new(groups);
            let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
            let (mut wal, _) = Wal::open(config(), env(&vfs), new).expect("a new log");
            for group in 0..groups {
                let body = if group % 2 == 0 { 60 } else { 5_000 };
                let entries: Vec<_> =
                    (0..1 + group % 3).map(|n| sample(group * 10 + n, body)).collect();
                wal.append(&entries).expect("a disk without faults");
            }
            if sealed {
                wal.close().expect("a disk without faults");
            }
            let mut data = Vec::new();
            let mut count = 0u8;
            while let Some(bytes) = vfs.medium(&segment(usize::from(count) + 1)) {
                data.resize(usize::from(count) * SEGMENT_BLOCKS * BLOCK, 0);
                data.extend(bytes);
                count += 1;
                if count == 3 {
                    break;
                }
            }
            for flags in [count, count | RESEAL] {
                let seed = [&[flags], data.as_slice()].concat();
                std::fs::write(to.join(format!("seed-{number}")), seed).expect("a seed");
                number += 1;
            }
        }
    }
}

fuzz_target!(
    init: {
        if let Some(to) = std::env::var_os("SEEDS") {
            seeds(Path::new(&to));
        }
    },
    |data: &[u8]| run(data)
);
