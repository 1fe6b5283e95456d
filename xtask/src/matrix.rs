//! The fault matrix. A disk of our own fails under a loop device under a real file system, on which
//! the release binary works for 16 writers over HTTP. Every answer is taken down. Afterwards an
//! operator does what operators do, and everything that was answered is held against what is there:
//! again after a power cut, and again with an index made anew.
//!
//! A cell is a fault, a file system and a moment. What is forbidden makes it red; the run then
//! fails and prints the command that runs this cell again with the same draw.

mod cells;
mod earlier;
pub(crate) mod interrupt;
pub(crate) mod judge;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod node;
mod report;
mod scenario;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::cells::{Cell, Fault, Moment};
use self::scenario::{Report, Verdict};
use crate::mount::FileSystem;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this fault; may be repeated.
    #[arg(long = "fault", value_enum)]
    faults: Vec<Fault>,
    /// Only this file system; may be repeated.
    #[arg(long = "fs", value_enum)]
    file_systems: Vec<FileSystem>,
    /// Only this moment; may be repeated.
    #[arg(long = "moment", value_enum)]
    moments: Vec<Moment>,
    /// One cell a fault, drawn by the seed, without those that hang.
    #[arg(long)]
    slice: bool,
    /// Cells that run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Write the table here.
    #[arg(long)]
    write: Option<PathBuf>,
    /// One JSON object a cell goes here.
    #[arg(long, default_value = "target/matrix.jsonl")]
    raw: PathBuf,
    /// Raw results of an earlier run with this seed: only what is red or missing there is run.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Say which cells there are, and run none.
    #[arg(long)]
    list: bool,
}

/// What the build under test can do.
pub(crate) struct Abilities {
    pub(crate) heal: bool,
    pub(crate) acknowledge: bool,
    pub(crate) detach: bool,
    pub(crate) repack: bool,
    pub(crate) repair: bool,
    pub(crate) faketime: Option<PathBuf>,
}

impl Abilities {
    fn of(binary: &Path) -> Result<Self> {
        let help = |arguments: &[&str]| -> Result<String> {
            let output = Command::new(binary)
                .args(arguments)
                .output()
                .with_context(|| format!("cannot run {}", binary.display()))?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let admin_wal = help(&["admin", "wal", "--help"])?;
        let wal = help(&["wal", "--help"])?;
        let keys = help(&["config", "schema"])?;
        Ok(Self {
            heal: keys.contains("on_failure"),
            acknowledge: admin_wal.contains("acknowledge"),
            detach: admin_wal.contains("detach"),
            repack: keys.contains("repack"),
            repair: wal.contains("repair"),
            faketime: faketime(),
        })
    }
}

fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let paths = folders.map(|folder| Path::new(folder).join("faketime/libfaketime.so.1"));
    paths.into_iter().find(|path| path.exists())
}

const FILE_SYSTEMS: [FileSystem; 4] =
    [FileSystem::Ext4, FileSystem::Ext4Journal, FileSystem::Xfs, FileSystem::Btrfs];

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let mut cells = cells(args, seed);
    if args.list {
        for cell in &cells {
            println!("{}", cell.command());
        }
        return Ok(true);
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: the fault matrix needs root (loop devices, mounts)");
        return Ok(true);
    }
    interrupt::install()?;
    let abilities = Abilities::of(binary)?;
    let scratch = tempfile::tempdir()?;
    if let Some(folder) = args.raw.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Before that file is written anew: they may be the same.
    let kept = args.keep.as_deref().map(earlier::load).transpose()?.unwrap_or_default();
    let raw = Mutex::new(std::fs::File::create(&args.raw)?);
    let done: Vec<Report> = kept.into_iter().filter(|one| cells.contains(&one.cell)).collect();
    for report in &done {
        cells.retain(|cell| *cell != report.cell);
    }
    let bar = ProgressBar::new(cells.len() as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} cells  {elapsed} (eta {eta})  {msg}")
            .context("a template of ours")?,
    );
    let (queue, reports) = (Mutex::new(cells.iter()), Mutex::new(Vec::new()));
    let one = |worker: usize| -> Result<()> {
        loop {
            interrupt::check()?;
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(cell) = next else { return Ok(()) };
            let folder = scratch.path().join(format!("cell-{worker}"));
            std::fs::create_dir_all(&folder)?;
            let report = scenario::run(*cell, binary, &abilities, &folder)
                .with_context(|| format!("this cell could not be run: {}", cell.command()))?;
            std::fs::remove_dir_all(&folder)?;
            {
                let mut raw = raw.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(raw, "{}", report.json())?;
            }
            if report.verdict == Verdict::Red {
                bar.suspend(|| print!("{}", report::evidence(&report)));
            }
            reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..args.jobs.max(1)).map(|worker| scope.spawn(move || one(worker))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    bar.finish_and_clear();
    let mut reports: Vec<Report> = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.extend(done);
    let summary = report::summary(&reports, seed);
    println!("{}\n{summary}", report::table(&reports));
    if let Some(path) = &args.write {
        std::fs::write(path, report::page(&reports, seed, &summary))?;
        println!("written to {}", path.display());
    }
    Ok(reports.iter().all(|report| report.verdict != Verdict::Red))
}

/// The cells that are asked for, row by row.
fn cells(args: &Args, seed: u64) -> Vec<Cell> {
    let asked = |list: &[Fault], one: &Fault| list.is_empty() || list.contains(one);
    let mut all: Vec<Cell> = Vec::new();
    for fault in Fault::value_variants().iter().filter(|one| asked(&args.faults, one)) {
        for fs in FILE_SYSTEMS {
            for moment in Moment::value_variants() {
                all.push(Cell { fault: *fault, fs, moment: *moment, run_seed: seed });
            }
        }
    }
    all.retain(|cell| {
        (args.file_systems.is_empty() || args.file_systems.contains(&cell.fs))
            && (args.moments.is_empty() || args.moments.contains(&cell.moment))
    });
    if !args.slice {
        return all;
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut slice = Vec::new();
    for fault in Fault::value_variants() {
        let hangs = matches!(fault, Fault::HungWrite | Fault::HungFlush);
        let possible: Vec<&Cell> = all
            .iter()
            .filter(|cell| cell.fault == *fault && cell.means().is_ok() && !hangs)
            .filter(|cell| !matches!(cell.moment, Moment::Repack | Moment::Repair))
            .collect();
        if let Some(cell) = possible.get(rng.random_range(0..possible.len().max(1))) {
            slice.push(**cell);
        }
    }
    slice
}
