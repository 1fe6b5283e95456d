//! Recovery and verify beside a plain sequential read of the same files, from the medium; and the
//! decoder alone, from the page cache.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::fs::Advice;
use serde::{Deserialize, Serialize};
use stemedb_io::{Env, RealVfs};
use stemedb_log::conformance::LOG_ID;
use stemedb_log::{Expect, Log, NewEntry, Wal, WalConfig, verify};
use stemedb_model::Position;

use crate::contender::open_new;
use crate::workload::records;
use stemedb_bench::stats::Estimate;

/// Clients of a group.
const CLIENTS: usize = 64;

/// Rates are in MB of files a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) body_bytes: usize,
    pub(crate) records: usize,
    pub(crate) file_bytes: u64,
    /// Bytes of bodies.
    pub(crate) payload_bytes: u64,
    /// read(2) into a buffer of 1 MiB, nothing of it in the cache.
    pub(crate) device: Estimate,
    pub(crate) verify: Estimate,
    pub(crate) recovery: Estimate,
    pub(crate) verify_ratio: Estimate,
    pub(crate) recovery_ratio: Estimate,
    /// The same files, all of them in the cache.
    pub(crate) cached_read: Estimate,
    /// File by file, in one thread.
    pub(crate) cached_verify: Estimate,
    pub(crate) cached_scan: Estimate,
}

/// Writes a log of about `bytes` into `dir` and reads it again and again.
pub(crate) fn run(dir: &Path, body_bytes: usize, bytes: u64, rounds: usize) -> Result<Reading> {
    let group: Vec<NewEntry> =
        records(CLIENTS, body_bytes).into_iter().map(|record| record.entry).collect();
    let group_bytes: usize = group.iter().map(NewEntry::encoded_len).sum();
    let groups = bytes.div_ceil(group_bytes as u64);
    let mut wal = open_new(dir)?;
    for _ in 0..groups {
        wal.append(&group)?;
    }
    wal.close()?;
    let files = segments(dir)?;
    let mut file_bytes = 0;
    for file in &files {
        file_bytes += file.metadata()?.len();
    }
    let total = groups as usize * CLIENTS;
    let (mut device, mut verified, mut recovered) = (Vec::new(), Vec::new(), Vec::new());
    let (mut read, mut proved, mut scanned) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        evict(&files)?;
        device.push(plain(dir)?);
        evict(&files)?;
        verified.push(check(dir, total)?);
        evict(&files)?;
        recovered.push(recover(dir, total)?);
        plain(dir)?;
        read.push(plain(dir)?);
        proved.push(decode(dir, total)?);
        scanned.push(scan(dir, total)?);
    }
    let rate = |times: &[Duration]| {
        let rates: Vec<f64> =
            times.iter().map(|took| file_bytes as f64 / 1e6 / took.as_secs_f64()).collect();
        Estimate::of(&rates)
    };
    let ratio = |times: &[Duration]| {
        let ratios: Vec<f64> = device
            .iter()
            .zip(times)
            .map(|(device, took)| device.as_secs_f64() / took.as_secs_f64())
            .collect();
        Estimate::of(&ratios)
    };
    Ok(Reading {
        body_bytes,
        records: total,
        file_bytes,
        payload_bytes: (total * body_bytes) as u64,
        device: rate(&device),
        verify: rate(&verified),
        recovery: rate(&recovered),
        verify_ratio: ratio(&verified),
        recovery_ratio: ratio(&recovered),
        cached_read: rate(&read),
        cached_verify: rate(&proved),
        cached_scan: rate(&scanned),
    })
}

fn paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "wal"));
    paths.sort();
    Ok(paths)
}

fn segments(dir: &Path) -> Result<Vec<File>> {
    Ok(paths(dir)?.iter().map(File::open).collect::<Result<_, _>>()?)
}

fn evict(files: &[File]) -> Result<()> {
    for file in files {
        file.sync_all()?;
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

fn plain(dir: &Path) -> Result<Duration> {
    let mut buffer = vec![0; 1 << 20];
    let started = Instant::now();
    for path in paths(dir)? {
        let mut file = File::open(path)?;
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(started.elapsed())
}

fn check(dir: &Path, total: usize) -> Result<Duration> {
    let started = Instant::now();
    let report = verify(dir, &RealVfs)?;
    let took = started.elapsed();
    let found: u64 = report.segments.iter().map(|segment| segment.records).sum();
    ensure!(report.whole() && found == total as u64, "verify proved {found} of {total} records");
    Ok(took)
}

/// Each file by itself, so in one thread: the decoder.
fn decode(dir: &Path, total: usize) -> Result<Duration> {
    let mut found = 0;
    let started = Instant::now();
    for path in paths(dir)? {
        let report = verify(&path, &RealVfs)?;
        ensure!(report.whole(), "{} is not whole", path.display());
        found += report.segments.iter().map(|segment| segment.records).sum::<u64>();
    }
    let took = started.elapsed();
    ensure!(found == total as u64, "verify proved {found} of {total} records");
    Ok(took)
}

fn open(dir: &Path) -> Result<(Wal, stemedb_log::Recovery)> {
    let existing = Expect::Existing { log_id: Some(LOG_ID), witness: None };
    // As after a crash of a log that no start has proved yet: everything is read.
    let config = WalConfig { verify_all: true, ..WalConfig::new(dir) };
    Ok(Wal::open(config, Env::real(), existing)?)
}

fn recover(dir: &Path, total: usize) -> Result<Duration> {
    let (_, recovery) = open(dir)?;
    ensure!(recovery.durable == Position(total as u64), "recovery found {recovery:?}");
    ensure!(recovery.read_from_medium, "recovery read from the cache");
    Ok(recovery.took)
}

fn scan(dir: &Path, total: usize) -> Result<Duration> {
    let (wal, _) = open(dir)?;
    plain(dir)?;
    let mut found = 0;
    let started = Instant::now();
    wal.reader().scan(Position(1), &mut |entries| {
        found += entries.len();
        Ok(true)
    })?;
    let took = started.elapsed();
    ensure!(found == total, "a scan visited {found} of {total} records");
    Ok(took)
}
