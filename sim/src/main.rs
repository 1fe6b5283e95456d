//! The simulator from the command line.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use stemedb_io::Env;
use stemedb_sim::{Outcome, Plan, Tally, run, shrink};

/// Runs that are made to find a smaller one that fails.
const SHRINK_RUNS: u32 = 300;

#[derive(Parser)]
#[command(name = "sim", about = "Runs the log on a disk that breaks in every way, and judges it")]
struct Args {
    /// Seed of the first run; the others have the numbers behind it. Fresh if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many runs; 0: until the time is up.
    #[arg(long, default_value_t = 0)]
    runs: u64,
    /// No new run begins after so many seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Steps of a run.
    #[arg(long, default_value_t = 150)]
    steps: u64,
    /// Steps to leave out, such as 3,5-9.
    #[arg(long, value_parser = ranges)]
    skip: Option<BTreeSet<u64>>,
    /// Make each run twice and compare.
    #[arg(long)]
    twice: bool,
    /// Tell every answer and the last operations of a run that keeps all promises, too.
    #[arg(long)]
    trace: bool,
    /// Expect this wrong behaviour to be caught.
    #[arg(long, value_name = "MUTANT")]
    expect_catch: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.expect_catch {
        Some(mutant) => catch(mutant, &args),
        None => judge(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn judge(args: &Args) -> Result<ExitCode, String> {
    let env = Env::real();
    let started = env.clock.monotonic();
    let first = args.seed.unwrap_or_else(|| env.rng.next_u64() >> 16);
    eprintln!("seed {first}");
    let mut tally = Tally::default();
    let mut said = Duration::ZERO;
    for n in 0.. {
        let passed = env.clock.monotonic().saturating_sub(started);
        let enough = if args.runs > 0 { n >= args.runs } else { passed.as_secs() >= args.seconds };
        if enough {
            break;
        }
        if passed.saturating_sub(said) > Duration::from_secs(10) {
            said = passed;
            eprintln!("{} s: {} runs, {} steps", passed.as_secs(), tally.runs, tally.steps);
        }
        let seed = first.wrapping_add(n);
        let skip = args.skip.clone().unwrap_or_default();
        let plan = Plan { seed, steps: args.steps, skip };
        let outcome = run(&plan);
        tally.add(&outcome.tally);
        if args.twice {
            let again = run(&plan);
            if again.digest != outcome.digest {
                println!(
                    "seed {seed}: two runs differ, {:016x} {:016x}",
                    outcome.digest, again.digest
                );
                return Ok(ExitCode::from(1));
            }
        }
        if args.trace && outcome.broken.is_none() {
            outcome.trace.iter().for_each(|line| println!("  {line}"));
        }
        if outcome.broken.is_some() {
            report(&plan, outcome, args.skip.is_none());
            return Ok(ExitCode::from(1));
        }
    }
    println!("{}", tally.table());
    if args.twice {
        println!("every run was made twice, with the same digest");
    }
    println!("no promise was broken");
    Ok(ExitCode::SUCCESS)
}

fn report(plan: &Plan, outcome: Outcome, smaller: bool) {
    let (plan, outcome) =
        if smaller { shrink(plan, outcome, SHRINK_RUNS) } else { (plan.clone(), outcome) };
    println!("{}", outcome.profile);
    for line in &outcome.trace {
        println!("  {line}");
    }
    if let Some((step, broken)) = &outcome.broken {
        println!("broken at step {step}: {}", broken.promise.text());
        println!("  {}", broken.detail);
    }
    println!("again: {}", command(&plan));
}

fn command(plan: &Plan) -> String {
    let mut text = format!("make sim SEED={} RUNS=1 STEPS={}", plan.seed, plan.steps);
    let skip = spell(&plan.skip);
    if !skip.is_empty() {
        text.push_str(&format!(" SKIP={skip}"));
    }
    text
}

/// `3,5-9`.
fn spell(steps: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for step in steps {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *step => *last = *step,
            _ => ranges.push((*step, *step)),
        }
    }
    let spelt = ranges.iter().map(|(from, to)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    });
    spelt.collect::<Vec<_>>().join(",")
}

fn ranges(text: &str) -> Result<BTreeSet<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    let mut steps = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        steps.extend(number(from)?..=number(to)?);
    }
    Ok(steps)
}

/// Runs seeds with a wrong behaviour until a promise is broken. The mutant is chosen for a whole
/// process, so this makes itself again.
fn catch(mutant: &str, args: &Args) -> Result<ExitCode, String> {
    if std::env::var("STEMEDB_MUTANT").as_deref() != Ok(mutant) {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let status = Command::new(program)
            .args(std::env::args_os().skip(1))
            .env("STEMEDB_MUTANT", mutant)
            .status()
            .map_err(|error| error.to_string())?;
        return Ok(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2).into());
    }
    if !stemedb_io::mutant(mutant) {
        return Err("built without the feature `mutants`".into());
    }
    let env = Env::real();
    let started = env.clock.monotonic();
    let first = args.seed.unwrap_or_else(|| env.rng.next_u64() >> 16);
    for n in 0.. {
        let passed = env.clock.monotonic().saturating_sub(started);
        if passed.as_secs() >= args.seconds || (args.runs > 0 && n >= args.runs) {
            println!("{mutant}: not caught by {n} seeds from {first} on");
            return Ok(ExitCode::from(1));
        }
        let plan = Plan { seed: first.wrapping_add(n), steps: args.steps, skip: BTreeSet::new() };
        if let Some((step, broken)) = run(&plan).broken {
            let seeds = n + 1;
            let promise = broken.promise.text();
            println!("{mutant}: caught by seed {} ({seeds} tried), step {step}", plan.seed);
            println!("  {promise}: {}", broken.detail);
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::from(1))
}
