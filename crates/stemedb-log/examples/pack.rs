//! What packing does: `cargo run --release -p stemedb-log --example pack [DIR [RECORDS]]`.
//!
//! First a trickle: records one by one, a second apart on a simulated clock, a seal after each as
//! when the log rests, on real files. Sealed and packed, the log must be at most 1.1 times as long
//! as its records, body and signature. Then groups of 64. Of both, scans and reads beside a copy
//! that was not packed, in turns.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an example: its panic is the message"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::sim::SimClock;
use stemedb_io::{Clock, Env, RealClock};
use stemedb_log::conformance::{LOG_ID, START_MS, TIMELINE};
use stemedb_log::{Expect, Log, LogReader, NewEntry, Wal, WalConfig, verify};
use stemedb_model::{
    Assertion, Body, LifecycleState, Millis, Position, PredicateName, Principal, Provenance,
    Record, Signed, SigningKey, SourceClass, Space, Subject, Value,
};

const TURNS: usize = 7;

fn claim(keys: &[SigningKey], n: usize) -> NewEntry {
    let key = &keys[n % keys.len()];
    let body = Body::Assertion(Assertion {
        subject: Subject::parse(&format!("flights/AA-{}", n / 8)).unwrap(),
        predicate: PredicateName::parse("departure").unwrap(),
        object: Value::Number { value: (n % 5) as f64, unit: None },
        confidence: 0.9,
        source: Some(Provenance {
            uri: Some(format!("https://source.example/{}", n % 38).into()),
            evidence: None,
            class: Some(SourceClass::Community),
        }),
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: Vec::new(),
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    });
    let at = Millis(START_MS + n as i64);
    let record = Record { space: Space::default(), agent: key.agent_id(), at, log_id: None, body };
    let signed = Signed::seal(record, key).unwrap();
    NewEntry {
        id: signed.id(),
        signature: signed.signature(),
        principal: Principal::parse(["alice", "bob", "carol"][n % 3]).unwrap(),
        custodial: false,
        idempotency: None,
        body: Arc::clone(signed.bytes()),
    }
}

fn config(dir: &Path) -> WalConfig {
    // Packed and scrubbed by call only, so that what is measured is alone.
    WalConfig { repack_bytes_per_second: 0, scrub_bytes_per_second: 0, ..WalConfig::new(dir) }
}

fn reopen(env: &Env, dir: &Path) -> Wal {
    let existing = Expect::Existing { log_id: Some(LOG_ID), witness: None };
    Wal::open(config(dir), env.clone(), existing).unwrap().0
}

/// Packs all that may be packed; gives how many times as long it is as its records.
fn pack(wal: &Wal, env: &Env, dir: &Path, clock: &RealClock) -> f64 {
    let started = clock.monotonic();
    let done = wal.repack_now().unwrap();
    let took = clock.monotonic() - started;
    assert!(!done.unproved, "this file system cannot prove what it reads; name another folder");
    let report = verify(dir, env.vfs.as_ref()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let last = report.segments[done.segments as usize - 1].positions.unwrap().1;
    let (mut count, mut bytes) = (0u64, 0);
    wal.reader()
        .scan(Position(1), &mut |entries| {
            for entry in entries.iter().filter(|entry| entry.position <= last) {
                count += 1;
                bytes += entry.new.body.len() + entry.new.signature.0.len();
            }
            Ok(entries.last().is_some_and(|entry| entry.position < last))
        })
        .unwrap();
    let ratio = done.bytes_after as f64 / bytes as f64;
    println!(
        "{count} records, {bytes} bytes of body and signature: {} bytes in {} segments, packed \
         {} bytes, ratio {ratio:.3}; packing took {took:.1?} ({:.0} MB/s of what was read)",
        done.bytes_before,
        done.segments,
        done.bytes_after,
        done.bytes_before as f64 / 1e6 / took.as_secs_f64()
    );
    ratio
}

fn scan(reader: &dyn LogReader, last: Position, clock: &RealClock) -> (f64, usize) {
    let started = clock.monotonic();
    let (mut count, mut bytes) = (0, 0);
    reader
        .scan(Position(1), &mut |entries| {
            count += entries.len();
            bytes += entries.iter().map(|entry| entry.new.encoded_len()).sum::<usize>();
            Ok(entries.last().is_some_and(|entry| entry.position < last))
        })
        .unwrap();
    assert!(count as u64 >= last.0);
    (bytes as f64 / 1e6 / (clock.monotonic() - started).as_secs_f64(), count)
}

fn reads(reader: &dyn LogReader, last: Position, clock: &RealClock) -> Duration {
    let mut times: Vec<Duration> = (0..20_000u64)
        .map(|n| {
            let position = Position(n * 7919 % last.0 + 1);
            let started = clock.monotonic();
            reader.read(position).unwrap().unwrap();
            clock.monotonic() - started
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

/// Scans and reads the packed and the other one in turns.
fn compare(packed: &Wal, other: &Wal, last: Position) {
    let clock = RealClock::new();
    let (packed, other) = (packed.reader(), other.reader());
    let (mut fast, mut slow, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let blocks = scan(&*other, last, &clock).0;
        let frames = scan(&*packed, last, &clock).0;
        fast.push(frames);
        slow.push(blocks);
        ratios.push(frames / blocks);
    }
    println!(
        "scan: packed {:.0} MB/s, blocks {:.0} MB/s of heads and bodies; ratio {:.2}",
        median(fast),
        median(slow),
        median(ratios)
    );
    println!(
        "read by position, cached: packed p50 {:.1?}, blocks p50 {:.1?}",
        reads(&*packed, last, &clock),
        reads(&*other, last, &clock)
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn main() {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let records: usize = std::env::args().nth(2).map_or(100_000, |n| n.parse().unwrap());
    let base = base.join(format!("stemedb-pack-{}", std::process::id()));
    let clock = RealClock::new();
    let simulated = Arc::new(SimClock::new(START_MS));
    let env = Env { clock: Arc::clone(&simulated) as Arc<dyn Clock>, ..Env::real() };
    let keys: Vec<SigningKey> =
        (0..64u8).map(|n| SigningKey::from_seed(&[n.wrapping_add(1); 32])).collect();
    let mut worst = 0f64;
    for (name, group, sealed) in [("trickle", 1, true), ("dense", 64, false)] {
        println!("-- {name}");
        let (dir, other) = (base.join(name), base.join(format!("{name}-blocks")));
        let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
        let (mut wal, _) = Wal::open(config(&dir), env.clone(), new).unwrap();
        let per_segment = (64 << 20) / 8192;
        // The newest sealed segment and the one in use are not packed: go on until what counts
        // is older than these.
        let total = if sealed { records + 2 * per_segment } else { records * 4 };
        let mut n = 0;
        while n < total {
            let entries: Vec<NewEntry> = (n..n + group).map(|n| claim(&keys, n)).collect();
            simulated.step(Duration::from_secs(1));
            wal.append(&entries).unwrap();
            if sealed {
                wal.seal().unwrap();
            }
            n += group;
        }
        wal.close().unwrap();
        copy(&dir, &other);
        let (wal, blocks) = (reopen(&env, &dir), reopen(&env, &other));
        let ratio = pack(&wal, &env, &dir, &clock);
        worst = worst.max(ratio);
        let report = verify(&dir, env.vfs.as_ref()).unwrap();
        let packed = report.segments.iter().take_while(|one| one.bytes < 48 << 20);
        let last = packed.last().and_then(|one| one.positions).unwrap().1;
        println!(
            "everything in the folder: {} bytes",
            report.segments.iter().map(|s| s.bytes).sum::<u64>()
        );
        compare(&wal, &blocks, last);
    }
    std::fs::remove_dir_all(&base).unwrap();
    assert!(worst <= 1.1, "a packed log is {worst:.3} times as long as its records");
}
