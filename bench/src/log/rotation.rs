//! Does an append wait when the log goes on in the next segment? A whole segment of ours, then the
//! bare device, and so on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use stemedb_log::{Log, NewEntry};

use crate::contender::{Bare, Contender, open_new};
use crate::workload::records;
use stemedb_bench::stats::{Latencies, Quantiles};

/// Clients of a group, and the body of a record.
const SHAPE: (usize, usize) = (64, 300);
/// Writes to the bare device for each segment of ours.
const BARE_WRITES: usize = 300;

/// In microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rotations {
    pub(crate) rotations: usize,
    pub(crate) appends: usize,
    pub(crate) bare: Quantiles,
    /// The appends that went into a new segment.
    pub(crate) turning: Quantiles,
    /// From there on until the segment after it was ready.
    pub(crate) preparing: Quantiles,
    pub(crate) preparing_appends: usize,
    /// All others.
    pub(crate) quiet: Quantiles,
}

impl Rotations {
    /// What rotation adds at the 99.9th percentile, in median syncs of the bare device.
    pub(crate) fn stall_in_syncs(&self) -> f64 {
        (self.preparing.p999 - self.quiet.p999) / self.bare.p50
    }
}

/// The segment that the log goes on in next: who has its first bytes knows whether it is in use.
struct Next<'a> {
    dir: &'a Path,
    number: usize,
    file: Option<File>,
}

impl Next<'_> {
    fn ready(&mut self) -> bool {
        if self.file.is_none() {
            let name = format!("segment.{:03}.wal", self.number);
            self.file = File::open(self.dir.join(name)).ok();
        }
        self.file.is_some()
    }

    /// Whether the log has gone on in it; then the one after it is meant from here on.
    fn turned(&mut self) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0)?;
        let turned = magic == *b"STEMEWAL";
        if turned {
            self.number += 1;
            self.file = None;
        }
        Ok(turned)
    }
}

/// Leaves its log in `dir`, whole and closed.
pub(crate) fn run(dir: &Path, rotations: usize) -> Result<Rotations> {
    let group = records(SHAPE.0, SHAPE.1);
    let entries: Vec<NewEntry> = group.iter().map(|record| record.entry.clone()).collect();
    let bare_dir = tempfile::tempdir_in(dir.parent().unwrap_or(dir))?;
    let mut bare = Bare::new(bare_dir.path(), false)?;
    let mut wal = open_new(dir)?;
    let (mut bare_times, mut turning, mut preparing, mut quiet) =
        (Latencies::default(), Latencies::default(), Latencies::default(), Latencies::default());
    wal.append(&entries)?;
    let mut next = Next { dir, number: 2, file: None };
    let mut resting = false;
    while turning.len() < rotations {
        let ready = next.ready();
        if ready && !resting {
            // The worker has nothing to do now: the device is as bare as it gets.
            for _ in 0..BARE_WRITES {
                let started = Instant::now();
                bare.commit(&group)?;
                bare_times.push(started.elapsed());
            }
        }
        resting = ready;
        let started = Instant::now();
        wal.append(&entries)?;
        let took = started.elapsed();
        // A segment that became ready during this append may have been waited for.
        if (next.ready() || ready) && next.turned()? {
            turning.push(took);
            preparing.push(took);
            resting = false;
        } else if ready {
            quiet.push(took);
        } else {
            preparing.push(took);
        }
    }
    wal.close()?;
    Ok(Rotations {
        rotations: turning.len(),
        appends: preparing.len() + quiet.len(),
        bare: bare_times.quantiles(),
        turning: turning.quantiles(),
        preparing_appends: preparing.len(),
        preparing: preparing.quantiles(),
        quiet: quiet.quantiles(),
    })
}
