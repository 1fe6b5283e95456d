//! What an append costs beside the bare disk: `cargo run --release --example append_speed [DIR [SEGMENTS]]`.
//!
//! Single client: one 300-byte record a group, interleaved in pairs with a raw 4 KiB write +
//! fdatasync into a zeroed file of the same folder. Then groups of 64 records of 300 bytes beside
//! a raw write of as many bytes. Then the slowest appends around rotations, and a scan.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an example: its panic is the message"
)]

use std::path::PathBuf;
use std::time::Duration;

use stemedb_io::{Env, Open, VfsFile};
use stemedb_log::conformance::{LOG_ID, TIMELINE, sample};
use stemedb_log::{Expect, Log, NewEntry, Wal, WalConfig};
use stemedb_model::Position;

const ZEROED: u64 = 256 << 20;

struct Raw {
    file: Box<dyn VfsFile>,
    at: u64,
}

impl Raw {
    fn new(env: &Env, dir: &std::path::Path) -> Self {
        let path = dir.join("raw");
        let file = env.vfs.open(&path, Open::CreateNew).unwrap();
        for at in (0..ZEROED).step_by(1 << 20) {
            file.write_at(&vec![0; 1 << 20], at).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, at: 0 }
    }

    fn write(&mut self, env: &Env, bytes: &[u8]) -> Duration {
        let started = env.clock.monotonic();
        self.file.write_at(bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at = (self.at + bytes.len() as u64) % (ZEROED - (1 << 20));
        env.clock.monotonic() - started
    }
}

fn report(what: &str, mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    println!(
        "{what:32} p50 {:>9.1?} p90 {:>9.1?} p99 {:>9.1?} p99.9 {:>9.1?} max {:>9.1?} mean {mean:>9.1?}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    (at(0.5), at(0.99))
}

fn pairs(env: &Env, wal: &mut Wal, raw: &mut Raw, group: &[NewEntry], raw_bytes: usize, n: usize) {
    let bytes = vec![7; raw_bytes];
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for turn in 0..n {
        // The order within a pair alternates, so that neither always follows the other.
        for first in [turn % 2 == 0, turn % 2 == 1] {
            if first {
                bare.push(raw.write(env, &bytes));
            } else {
                let started = env.clock.monotonic();
                wal.append(group).unwrap();
                ours.push(env.clock.monotonic() - started);
            }
        }
    }
    let (p50, p99) = report(&format!("append, {} records", group.len()), ours);
    let (raw50, raw99) = report(&format!("raw, {raw_bytes} bytes"), bare);
    println!(
        "ratio p50 {:.3}, p99 {:.3}",
        p50.as_secs_f64() / raw50.as_secs_f64(),
        p99.as_secs_f64() / raw99.as_secs_f64()
    );
}

fn main() {
    let rotations: usize = std::env::args().nth(2).map_or(8, |n| n.parse().unwrap());
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("stemedb-append-speed-{}", std::process::id()));
    let env = Env::real();
    env.vfs.create_dir_all(&dir).unwrap();
    let mut raw = Raw::new(&env, &dir);
    let config = WalConfig::new(dir.join("wal"));
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (mut wal, _) = Wal::open(config.clone(), env.clone(), new).unwrap();

    let one = [sample(1, 300)];
    let many: Vec<_> = (0..64).map(|n| sample(n, 300)).collect();
    pairs(&env, &mut wal, &mut raw, &one, 4096, 200);
    println!("-- single client");
    pairs(&env, &mut wal, &mut raw, &one, 4096, 5000);
    println!("-- 64 records a group");
    pairs(&env, &mut wal, &mut raw, &many, 8 * 4096, 3000);

    wal.close().unwrap();

    println!("-- groups of 256 KiB, as fast as they go");
    let config = WalConfig::new(dir.join("rotating"));
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (mut wal, _) = Wal::open(config.clone(), env.clone(), new).unwrap();
    let big: Vec<_> = (0..16).map(|n| sample(n, 16 << 10)).collect();
    let bytes: usize = big.iter().map(NewEntry::encoded_len).sum();
    // Blocks of a segment, less the header and two seals, by blocks of a group.
    let groups_a_segment = ((64 << 20) / 4096 - 3) / bytes.div_ceil(3968);
    let (mut turning, mut going_on) = (Vec::new(), Vec::new());
    for n in 0..rotations * groups_a_segment {
        let started = env.clock.monotonic();
        wal.append(&big).unwrap();
        let took = env.clock.monotonic() - started;
        if n > 0 && n % groups_a_segment == 0 { &mut turning } else { &mut going_on }.push(took);
    }
    report("append in a segment", going_on);
    report("append into the next segment", turning);

    let reader = wal.reader();
    let (last, _) = reader.durable();
    let mut times = Vec::new();
    for n in 0..20_000u64 {
        let position = Position(n * 7919 % last.0 + 1);
        let started = env.clock.monotonic();
        reader.read(position).unwrap().unwrap();
        times.push(env.clock.monotonic() - started);
    }
    report("read by position, cached", times);
    let started = env.clock.monotonic();
    let (mut count, mut bytes) = (0, 0);
    reader
        .scan(Position(1), &mut |entries| {
            count += entries.len();
            bytes += entries.iter().map(|entry| entry.new.encoded_len()).sum::<usize>();
            Ok(true)
        })
        .unwrap();
    let took = env.clock.monotonic() - started;
    println!(
        "scan: {count} records, {} MB in {took:.1?}: {:.0} MB/s",
        bytes / 1_000_000,
        bytes as f64 / 1e6 / took.as_secs_f64()
    );
    wal.close().unwrap();
    let existing = Expect::Existing { log_id: Some(LOG_ID), witness: None };
    let (_, recovery) = Wal::open(config, env.clone(), existing).unwrap();
    println!("recovery: {:.1?} for {} segments", recovery.took, recovery.segments);
    std::fs::remove_dir_all(&dir).unwrap();
}
