//! What broad facts do to everybody else: a source of a million claims retracted, two subjects of a hundred
//! thousand claims aliased, an epoch superseded, all at once, beside a writer and a reader who have
//! nothing to do with it.
//!
//! `make bench-upheaval` runs it; `docs/performance/upheaval.md` explains method and result.

mod page;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use stemedb_bench::machine::Machine;
use stemedb_bench::random::mix;
use stemedb_bench::stats::{Latencies, Quantiles};
use stemedb_engine::{Engine, Submission};
use stemedb_lens::{LensName, Options, resolve_many};
use stemedb_model::{Key, Position, Principal, Signed};

use world::{Size, World};

#[derive(Parser)]
#[command(about = "Broad facts beside a writer and a reader")]
struct Args {
    /// Folder to work in; everything in it is made and removed by this run.
    #[arg(long, default_value = "target")]
    scratch: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "target/bench-upheaval.json")]
    results: PathBuf,
    /// Write the results into docs/performance.
    #[arg(long)]
    write: bool,
    /// A hundredth of the claims, and shorter.
    #[arg(long)]
    quick: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) size: Size,
    pub(crate) idle: Phase,
    pub(crate) upheaval: Phase,
    /// Each broad record, from submission to acknowledgement, in milliseconds.
    pub(crate) acknowledged_ms: Vec<(String, f64)>,
    /// From the first of them until the list of conflicts told all of them, in seconds.
    pub(crate) conflicts_seconds: f64,
    pub(crate) conflicts_before: u64,
    pub(crate) conflicts_after: u64,
}

/// The writer and the reader for a while.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    /// One claim after the other, in microseconds.
    pub(crate) writes: Quantiles,
    pub(crate) write_count: u64,
    /// Answers that were made twice, kept and from the claims, and were the same; by kind of key.
    pub(crate) compared: Vec<(String, u64)>,
    /// The kept answer of a small key, in microseconds.
    pub(crate) reads: Quantiles,
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.scratch)?;
    let scratch = tempfile::Builder::new().prefix("bench-upheaval-").tempdir_in(&args.scratch)?;
    let results = measure(scratch.path(), args.quick)?;
    std::fs::write(&args.results, serde_json::to_string_pretty(&results)?)
        .with_context(|| format!("cannot write {}", args.results.display()))?;
    print!("{}", page::tables(&results));
    if args.write {
        page::write(Path::new("."), &results)?;
    }
    Ok(())
}

fn measure(scratch: &Path, quick: bool) -> Result<Results> {
    let machine = Machine::look(scratch, false);
    let size = if quick { Size::SMALL } else { Size::WHOLE };
    let mut world = World::new(size)?;
    let engine = world.open(scratch)?;
    let started = Instant::now();
    load(&engine, &mut world)?;
    eprintln!("{} records in {:.0} s", world.records, started.elapsed().as_secs_f64());
    settle(&engine, Duration::from_secs(600))?;
    let conflicts_before = engine.conflict_standing()?.open;
    let seconds = Duration::from_secs(if quick { 3 } else { 20 });

    let idle = run(&engine, &mut world, |_| {
        std::thread::sleep(seconds);
        Ok(())
    })?
    .0;
    let (upheaval, (acknowledged_ms, conflicts_seconds)) = run(&engine, &mut world, |broad| {
        let started = Instant::now();
        let mut acknowledged = Vec::new();
        for (name, signed) in broad {
            let sent = Instant::now();
            submit(&engine, &signed)?;
            acknowledged.push((name, sent.elapsed().as_secs_f64() * 1e3));
        }
        settle(&engine, Duration::from_secs(1800))?;
        let told = started.elapsed();
        std::thread::sleep(seconds.saturating_sub(told));
        Ok((acknowledged, told.as_secs_f64()))
    })?;
    let conflicts_after = engine.conflict_standing()?.open;
    engine.close(Duration::from_secs(60));
    Ok(Results {
        machine,
        size,
        idle,
        upheaval,
        acknowledged_ms,
        conflicts_seconds,
        conflicts_before,
        conflicts_after,
    })
}

/// The writer and the reader, while `what` happens.
fn run<T>(
    engine: &Arc<Engine>,
    world: &mut World,
    what: impl FnOnce(Vec<(String, Signed)>) -> Result<T>,
) -> Result<(Phase, T)> {
    let (stop, started) = (AtomicBool::new(false), Instant::now());
    let (broad, calm) = (world.broad()?, world.calm()?);
    let keys = world.keys()?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(engine, calm, &stop));
        let reader = scope.spawn(|| read(engine, &keys, &stop));
        let done = what(broad);
        stop.store(true, Ordering::Relaxed);
        let (writes, left) =
            writer.join().map_err(|_| anyhow::anyhow!("the writer broke off"))??;
        let (compared, reads) =
            reader.join().map_err(|_| anyhow::anyhow!("the reader broke off"))??;
        world.calm_written(left);
        let phase = Phase {
            seconds: started.elapsed().as_secs_f64(),
            write_count: writes.len() as u64,
            writes: writes.quantiles(),
            compared,
            reads,
        };
        Ok((phase, done?))
    })
}

/// Claims that nothing else is about, one after the other; how many were written.
fn write(
    engine: &Engine,
    mut claims: impl FnMut() -> Result<Signed>,
    stop: &AtomicBool,
) -> Result<(Latencies, u64)> {
    let (mut took, mut count) = (Latencies::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let signed = claims()?;
        let sent = Instant::now();
        submit(engine, &signed)?;
        took.push(sent.elapsed());
        count += 1;
    }
    Ok((took, count))
}

/// Asks keys of each kind in turn, and compares each answer with the one made from the claims at the same
/// position.
fn read(
    engine: &Engine,
    keys: &[(String, Vec<Key>)],
    stop: &AtomicBool,
) -> Result<(Vec<(String, u64)>, Quantiles)> {
    let mut compared: Vec<(String, u64)> = keys.iter().map(|(name, _)| (name.clone(), 0)).collect();
    let mut took = Latencies::default();
    for round in 0.. {
        for ((name, keys), (_, count)) in keys.iter().zip(&mut compared) {
            if stop.load(Ordering::Relaxed) {
                return Ok((compared, took.quantiles()));
            }
            let few = keys.len() < 100;
            // A large key made from its claims takes a second: a few of those are enough.
            if few && round % 2_000 != 0 {
                continue;
            }
            let at = usize::try_from(mix(round))? % keys.len();
            let key = keys.get(at).context("no key")?;
            let view = engine.view(Position::NONE, Duration::ZERO)?;
            let options: Vec<Options> =
                [LensName::Authority, LensName::Consensus].map(|lens| view.options(lens)).into();
            let asked = Instant::now();
            let kept = view.resolve(key, &options)?;
            if !few {
                took.push(asked.elapsed());
            }
            let made = resolve_many(&view.candidates(key)?, &options, None);
            ensure!(kept == made, "{name}: {key:?} at {}: another answer", view.position());
            *count += 1;
        }
    }
    Ok((compared, took.quantiles()))
}

/// Waits until the list of conflicts tells all that is applied now.
fn settle(engine: &Engine, bound: Duration) -> Result<()> {
    let target = engine.view(Position::NONE, Duration::ZERO)?.position();
    let started = Instant::now();
    while engine.conflict_standing()?.position < target {
        ensure!(started.elapsed() < bound, "the list of conflicts does not reach {target}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn submission(signed: &Signed) -> Result<Submission> {
    Ok(Submission {
        signed: signed.clone(),
        principal: Principal::parse("bench")?,
        custodial: false,
        idempotency: None,
        deadline: None,
    })
}

fn submit(engine: &Engine, signed: &Signed) -> Result<()> {
    let (reply, answer) = channel();
    engine.submit(submission(signed)?, move |result| {
        let _ = reply.send(result);
    });
    answer.recv()??;
    Ok(())
}

fn load(engine: &Engine, world: &mut World) -> Result<()> {
    let failed = Arc::new(AtomicU64::new(0));
    while let Some(signed) = world.next()? {
        let failed = Arc::clone(&failed);
        engine.submit_waiting(submission(&signed)?, Duration::from_secs(60), move |result| {
            if result.is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // The last one is answered after all others.
    submit(engine, &(world.calm()?)()?)?;
    world.calm_written(1);
    ensure!(failed.load(Ordering::Relaxed) == 0, "{failed:?} records were refused");
    Ok(())
}
