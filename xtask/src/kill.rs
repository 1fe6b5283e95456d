//! Kill -9. Many writers import while the server is killed at random moments and started again.
//! Every acknowledged claim must be there at its position, none twice; the resumed import must say
//! `exists` for them with the first position, and end complete.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::server::{Ack, Claim, Client, Start, contradictions};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the server is killed.
    #[arg(long, default_value_t = 20)]
    cycles: usize,
    /// Concurrent writers.
    #[arg(long, default_value_t = 16)]
    writers: u64,
    /// Longest time between start and kill.
    #[arg(long, default_value_t = 400)]
    life_ms: u64,
}

/// Small segments, so that a run holds rotations.
const SEGMENT_BYTES: u64 = 1 << 20;
const BATCH: u64 = 40;

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let data_dir = scratch.path().join("data");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: SEGMENT_BYTES,
        mutant: None,
        under: &[],
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let bar = ProgressBar::new(args.cycles as u64);
    let acked: Mutex<BTreeMap<Claim, Ack>> = Mutex::default();
    let newest_sent = AtomicU64::new(0);
    let mut problems: Vec<String> = Vec::new();
    let (mut repeated, mut during_answers) = (0_usize, 0_usize);
    for _ in 0..args.cycles {
        let server = start.ready()?;
        let life = Duration::from_millis(rng.random_range(1..=args.life_ms));
        let broken = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..args.writers)
                .map(|writer| {
                    let (client, acked, newest) = (server.client(), &acked, &newest_sent);
                    scope.spawn(move || {
                        write_until_broken(&client, writer, args.writers, acked, newest)
                    })
                })
                .collect();
            std::thread::sleep(life);
            // The writers see their connections break and end.
            let killed = server.kill();
            let broken: Vec<_> =
                writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            killed.map(|()| broken)
        })?;
        for outcome in broken {
            match outcome {
                Ok(Ok(partial)) => during_answers += usize::from(partial),
                Ok(Err(problem)) => problems.push(problem.to_string()),
                Err(_) => bail!("a writer panicked"),
            }
        }
        // What was acknowledged so far is there, and a repeat says so.
        let server = start.ready()?;
        let client = server.client();
        let there = client.export()?;
        let known = acked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problems.extend(contradictions(known.values(), &there));
        let sample: Vec<Claim> = (0..BATCH)
            .filter_map(|_| known.keys().nth(rng.random_range(0..known.len().max(1))).copied())
            .collect();
        let (repeats, outcome) = client.import(&sample);
        outcome?;
        for (claim, repeat) in sample.iter().zip(&repeats) {
            repeated += 1;
            let first = known.get(claim);
            if !repeat.exists || first.is_none_or(|ack| ack.position != repeat.position) {
                problems.push(format!("{claim:?}: first {first:?}, repeated {repeat:?}"));
            }
        }
        server.kill()?;
        bar.inc(1);
    }
    // The resumed import: everything from the first claim on.
    let server = start.ready()?;
    let client = server.client();
    let known = acked.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What was sent and not answered may be there or not; the resumed import settles it.
    let all: Vec<Claim> = (0..=newest_sent.into_inner()).map(Claim).collect();
    let mut resumed: HashMap<Claim, Ack> = HashMap::new();
    for batch in all.chunks(1000) {
        let (acks, outcome) = client.import(batch);
        outcome?;
        resumed.extend(batch.iter().copied().zip(acks));
    }
    for (claim, first) in &known {
        if resumed.get(claim).is_none_or(|ack| !ack.exists || ack.position != first.position) {
            problems.push(format!("{claim:?}: first {first:?}, resumed {:?}", resumed.get(claim)));
        }
    }
    let there = client.export()?;
    if there.len() != all.len() {
        problems.push(format!("{} assertions are there, {} were sent", there.len(), all.len()));
    }
    bar.finish_and_clear();
    for problem in problems.iter().take(10) {
        println!("PROBLEM {problem}");
    }
    println!(
        "kill -9: {} cycles, {} writers, {} claims acknowledged before a kill, {} in all, \
         {during_answers} answers cut short, {repeated} repeats checked; {} problems; {:.0?}",
        args.cycles,
        args.writers,
        known.len(),
        all.len(),
        problems.len(),
        started.elapsed()
    );
    Ok(problems.is_empty() && !known.is_empty())
}

/// Imports this writer's claims, those not yet acknowledged first, until the connection breaks.
/// Returns whether an answer was cut short.
fn write_until_broken(
    client: &Client,
    writer: u64,
    writers: u64,
    acked: &Mutex<BTreeMap<Claim, Ack>>,
    newest_sent: &AtomicU64,
) -> Result<bool> {
    let mut next = writer;
    loop {
        let batch: Vec<Claim> = {
            let acked = acked.lock().unwrap_or_else(PoisonError::into_inner);
            let mine = (0..).map(|n| Claim(next + n * writers));
            mine.filter(|claim| !acked.contains_key(claim))
                .take(usize::try_from(BATCH).unwrap_or(1))
                .collect()
        };
        if let Some(last) = batch.last() {
            newest_sent.fetch_max(last.0, Ordering::Relaxed);
        }
        let (acks, outcome) = client.import(&batch);
        let partial = !acks.is_empty() && acks.len() < batch.len();
        if let Some(last) = batch.last() {
            next = last.0 + writers;
        }
        let mut acked = acked.lock().unwrap_or_else(PoisonError::into_inner);
        for (claim, ack) in batch.into_iter().zip(acks) {
            if let Some(first) = acked.get(&claim)
                && *first != ack
            {
                bail!("{claim:?} acknowledged twice: {first:?}, then {ack:?}");
            }
            acked.insert(claim, ack);
        }
        if outcome.is_err() {
            return Ok(partial);
        }
    }
}
