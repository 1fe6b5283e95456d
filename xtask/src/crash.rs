//! Power cuts. The server runs on a file system over a recording disk while many writers assert.
//! Afterwards the disk is rebuilt as it may have been at a random moment: everything up to the last
//! flush, and of what came after it any subset, torn at any 512 bytes. The file system is mounted,
//! the server started on it, and every claim that was acknowledged before that moment must be there
//! at its position.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::{Disk, FILE};
use crate::mount::{FileSystem, Loop, Mount, run as run_command};
use crate::recording::{Event, Recording};
use crate::server::{Ack, Claim, Start, contradictions};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Disk states to explore, over all recordings.
    #[arg(long, default_value_t = 500)]
    states: usize,
    /// States explored per recording.
    #[arg(long, default_value_t = 125)]
    states_per_recording: usize,
    /// Claims asserted per recording.
    #[arg(long, default_value_t = 1500)]
    claims: u64,
    /// Concurrent writers.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// File system under the server.
    #[arg(long, value_enum, default_value = "ext4")]
    fs: FileSystem,
    /// A wrong behaviour to switch on (needs a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
    /// No further recording after one that shows a loss.
    #[arg(long)]
    until_loss: bool,
    /// Folder for the images of states that show a loss or do not start, as the power cut left them.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Small segments, so that one recording holds several rotations.
const SEGMENT_BYTES: u64 = 1 << 20;
const DISK_BYTES: u64 = 400 << 20;
/// Disk states are checked in parallel, each with a server of its own.
const WORKERS: usize = 2;

/// How many states of one disk may be mounted at a time. They are copies, with one identity.
fn workers(fs: FileSystem) -> usize {
    match fs {
        FileSystem::Ext4 | FileSystem::Ext4Journal | FileSystem::Xfs => WORKERS,
        // It knows devices by that identity: of two mounts begun at once, one got the other's disk.
        FileSystem::Btrfs => 1,
    }
}
const SECTOR_BYTES: usize = 512;

/// One recorded run: the disk before it, what was written, and who was told what when.
struct Run {
    base: PathBuf,
    events: Vec<Event>,
    /// Each acknowledgement with the number of events that had reached the disk by then.
    acks: Vec<(usize, Ack)>,
}

/// Events after an acknowledgement in a new segment that count as right after the rotation.
const AFTER_ROTATION: usize = 4;
/// How the first block of a log segment begins (`docs/format/wal.md`).
const SEGMENT_MAGIC: &[u8] = b"STEMEWAL";

impl Run {
    /// By segment that was begun: the number of events at the first acknowledgement after that.
    fn rotations(&self) -> Vec<usize> {
        let mut acked: Vec<usize> = self.acks.iter().map(|(count, _)| *count).collect();
        acked.sort_unstable();
        let begins = |event: &Event| match event {
            Event::Write { bytes, .. } => {
                bytes.chunks(SECTOR_BYTES).any(|sector| sector.starts_with(SEGMENT_MAGIC))
            }
            Event::Flush => false,
        };
        let begun = self.events.iter().enumerate().filter(|(_, event)| begins(event));
        begun
            .filter_map(|(index, _)| acked.get(acked.partition_point(|count| *count <= index)))
            .copied()
            .collect()
    }
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: power-cut states: they need root (loop devices, mounts)");
        return Ok(true);
    }
    let scratch = tempfile::tempdir()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let bar = ProgressBar::new(args.states as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} states  {elapsed} (eta {eta})  {msg}")
            .context("a template of ours")?,
    );
    let started = Instant::now();
    let (mut explored, mut losses, mut failures) = (0, Vec::new(), Vec::new());
    let (mut flushes, mut writes, mut acknowledged) = (0, 0, 0);
    while explored < args.states {
        let recorded = record(args, binary, scratch.path())?;
        flushes += recorded.events.iter().filter(|event| matches!(event, Event::Flush)).count();
        writes += recorded.events.len();
        acknowledged += recorded.acks.len();
        let states = args.states_per_recording.min(args.states - explored);
        let first_ack = recorded.acks.iter().map(|(count, _)| *count).min().unwrap_or(0);
        // From a little before the first acknowledgement: the first start is worth a look, too.
        let from = first_ack.saturating_sub(first_ack / 4);
        let rotations = recorded.rotations();
        let mut cuts: Vec<(usize, u64)> = (0..states)
            .map(|n| {
                // A third right after a rotation, where a new name may not be durable yet: that
                // lasts only until the file system next commits its journal for another reason.
                let near = rng.random_range(0..rotations.len().max(1));
                let cut = match rotations.get(near) {
                    Some(rotation) if n % 3 == 0 => rotation + rng.random_range(0..AFTER_ROTATION),
                    _ => rng.random_range(from..=recorded.events.len()),
                };
                (cut.min(recorded.events.len()), rng.random())
            })
            .collect();
        cuts.sort_unstable();
        for verdict in explore(args, binary, scratch.path(), &recorded, &cuts, &bar)? {
            match verdict {
                Verdict::Whole => {}
                Verdict::Lost(words) => losses.push(words),
                Verdict::Failed(words) => failures.push(words),
            }
        }
        explored += states;
        if bar.is_hidden() {
            let bad = losses.len() + failures.len();
            eprintln!("{explored} of {} states, {bad} bad, {:.0?}", args.states, started.elapsed());
        }
        if args.until_loss && !(losses.is_empty() && failures.is_empty()) {
            break;
        }
    }
    bar.finish_and_clear();
    for words in losses.iter().chain(&failures).take(10) {
        println!("{words}");
    }
    println!(
        "power cuts on {:?}: {explored} states, {} lost acknowledged claims, {} did not start; \
         {acknowledged} claims acknowledged, {writes} disk events, {flushes} flushes, {:.0?}",
        args.fs,
        losses.len(),
        failures.len(),
        started.elapsed()
    );
    Ok(losses.is_empty() && failures.is_empty())
}

fn record(args: &Args, binary: &Path, scratch: &Path) -> Result<Run> {
    let backing = scratch.join("backing.img");
    let base = scratch.join("base.img");
    std::fs::File::create(&backing)?.set_len(0)?;
    std::fs::OpenOptions::new().write(true).open(&backing)?.set_len(DISK_BYTES)?;
    let (fuse, mounted) = (scratch.join("fuse"), scratch.join("mounted"));
    std::fs::create_dir_all(&fuse)?;
    std::fs::create_dir_all(&mounted)?;
    let disk = Disk::mount(Recording::of(&backing)?, &fuse)?;
    let device = Loop::attach(&fuse.join(FILE))?;
    args.fs.make(&device.device)?;
    run_command(&mut Command::new("sync"))?;
    copy_sparse(&backing, &base)?;
    disk.medium.take();

    let mount = Mount::with(&device.device, &mounted, args.fs.options())?;
    let data_dir = mounted.join("data");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: SEGMENT_BYTES,
        mutant: args.mutant.as_deref(),
        under: &[],
    };
    let server = start.ready()?;
    let acks = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..args.writers)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let client = server.client();
                    loop {
                        let claim = Claim(next.fetch_add(1, Ordering::Relaxed));
                        if claim.0 >= args.claims {
                            return Ok(());
                        }
                        let ack = client.assert(claim)?;
                        // Counted after the answer: all that the answer rests on lies within.
                        let count = disk.medium.count();
                        acks.lock().unwrap_or_else(PoisonError::into_inner).push((count, ack));
                    }
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a writer panicked"),
        })
    })?;
    server.kill()?;
    let events = disk.medium.take();
    drop(mount);
    drop(device);
    drop(disk);
    Ok(Run { base, events, acks: acks.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

enum Verdict {
    Whole,
    Lost(String),
    Failed(String),
}

/// Checks the states at `cuts` (ascending). The durable part grows from cut to cut in one image;
/// each state is a copy of it.
fn explore(
    args: &Args,
    binary: &Path,
    scratch: &Path,
    recorded: &Run,
    cuts: &[(usize, u64)],
    bar: &ProgressBar,
) -> Result<Vec<Verdict>> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers(args.fs))
            .map(|worker| {
                let (next, verdicts) = (&next, &verdicts);
                scope.spawn(move || -> Result<()> {
                    let durable = scratch.join(format!("durable-{worker}.img"));
                    copy_sparse(&recorded.base, &durable)?;
                    let mut applied = 0;
                    loop {
                        let Some((cut, seed)) = cuts.get(next.fetch_add(1, Ordering::Relaxed))
                        else {
                            return Ok(());
                        };
                        let flushed = flushed_before(&recorded.events, *cut);
                        write_all(&durable, recorded.events.get(applied..flushed))?;
                        applied = flushed;
                        let state = scratch.join(format!("state-{worker}.img"));
                        copy_sparse(&durable, &state)?;
                        tear(&state, recorded.events.get(flushed..*cut), *seed)?;
                        let verdict = judge(args, binary, scratch, worker, &state, recorded, *cut);
                        let verdict = match verdict {
                            Ok(Verdict::Lost(words)) => {
                                Verdict::Lost(format!("LOST  cut {cut} draw {seed}: {words}"))
                            }
                            Ok(verdict) => verdict,
                            Err(error) => {
                                Verdict::Failed(format!("FAILED cut {cut} draw {seed}: {error:#}"))
                            }
                        };
                        if let (Verdict::Lost(words) | Verdict::Failed(words), Some(keep)) =
                            (&verdict, &args.keep)
                        {
                            // Mounting has changed the other copy.
                            bar.suspend(|| eprintln!("{words}"));
                            let image = keep.join(format!("cut-{cut}-draw-{seed}.img"));
                            copy_sparse(&durable, &image)?;
                            tear(&image, recorded.events.get(flushed..*cut), *seed)?;
                        }
                        verdicts.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
                        bar.inc(1);
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    Ok(verdicts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Number of events up to and including the last flush before `cut`.
fn flushed_before(events: &[Event], cut: usize) -> usize {
    events
        .iter()
        .take(cut)
        .rposition(|event| matches!(event, Event::Flush))
        .map_or(0, |index| index + 1)
}

fn write_all(image: &Path, events: Option<&[Event]>) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(image)?;
    for event in events.unwrap_or_default() {
        if let Event::Write { offset, bytes } = event {
            file.write_all_at(bytes, *offset)?;
        }
    }
    Ok(())
}

/// Of what was not flushed, a random half arrives, a third of that only in part.
fn tear(image: &Path, events: Option<&[Event]>, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let file = std::fs::OpenOptions::new().write(true).open(image)?;
    for event in events.unwrap_or_default() {
        let Event::Write { offset, bytes } = event else { continue };
        if !rng.random_bool(0.5) {
            continue;
        }
        if rng.random_bool(0.7) {
            file.write_all_at(bytes, *offset)?;
            continue;
        }
        for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if rng.random_bool(0.5) {
                file.write_all_at(sector, offset + (index * SECTOR_BYTES) as u64)?;
            }
        }
    }
    Ok(())
}

fn judge(
    args: &Args,
    binary: &Path,
    scratch: &Path,
    worker: usize,
    state: &Path,
    recorded: &Run,
    cut: usize,
) -> Result<Verdict> {
    let needed: Vec<&Ack> =
        recorded.acks.iter().filter(|(count, _)| *count <= cut).map(|(_, ack)| ack).collect();
    let mounted = scratch.join(format!("mounted-{worker}"));
    std::fs::create_dir_all(&mounted)?;
    let device = Loop::attach(state)?;
    let mount = Mount::with(&device.device, &mounted, args.fs.options())?;
    let data_dir = mount.path.join("data");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: SEGMENT_BYTES,
        mutant: args.mutant.as_deref(),
        under: &[],
    };
    // Before the first acknowledgement a half-made folder may be refused, but by name.
    let server = match start.ready() {
        Ok(server) => server,
        Err(_) if needed.is_empty() => return Ok(Verdict::Whole),
        Err(error) => return Err(error),
    };
    let there = server.client().export()?;
    server.kill()?;
    let lost = contradictions(needed.iter().copied(), &there);
    Ok(match lost.first() {
        None => Verdict::Whole,
        Some(first) => Verdict::Lost(format!("{} of {} claims; {first}", lost.len(), needed.len())),
    })
}

fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    run_command(&mut copy).map(drop)
}
