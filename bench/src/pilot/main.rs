//! The success criteria of a pilot, judged on the machine at hand.
//!
//! `make pilot` runs it; `docs/operations/pilot.md` explains method and result.

mod beside;
mod check;
mod claims;
mod goals;
mod load;
mod page;
mod phase;
mod plot;
mod requests;
mod search;
mod site;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use stemedb_bench::machine::Machine;

use claims::{Author, Stock};
use goals::{Goal, judge, status};
use load::Clients;
use phase::{Bench, Part, Phase, Plan};
use requests::{Caller, Kind};
use site::{CLAIMS_A_KEY, Kept, Loaded, Site};
use watch::Watch;

/// What the server keeps in memory of a claim that is asked about, and without these: by the sizing page.
const KEPT_BYTES: u64 = 700;
const MEMORY_MIB: u64 = 887;
/// `query.memory_bytes` as it comes.
const KEPT_BYTES_LEAST: u64 = 256 << 20;
/// What a caller may do in a second by default.
const RATE_MAX: f64 = 50_000.0;

#[derive(Parser)]
#[command(about = "The success criteria of a pilot. Exit status: 0 met, 1 missed, 2 could not run")]
struct Args {
    /// The release server.
    #[arg(long)]
    server: PathBuf,
    /// Folder to work in; everything in it is made and removed by this run.
    #[arg(long, default_value = "target")]
    scratch: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "target/bench-pilot.json")]
    results: PathBuf,
    /// Write the results into docs/operations/pilot.md, with a chart.
    #[arg(long)]
    write: bool,
    /// Measure nothing; take the results of an earlier run.
    #[arg(long)]
    from_results: bool,
    /// A look of less than 90 seconds at a small database. What is too slow is told and forgiven.
    #[arg(long)]
    quick: bool,
    /// Tell what is too slow, and forgive it. What is wrong is never forgiven.
    #[arg(long)]
    report_only: bool,
    /// Asserts, and queries, that are asked for in a second.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// The 99th percentile of asserts must be below, in milliseconds.
    #[arg(long, default_value_t = 50)]
    assert_p99_ms: u64,
    /// The same of queries.
    #[arg(long, default_value_t = 20)]
    query_p99_ms: u64,
    /// How long a rate must hold. Default: 300, with --quick 3.
    #[arg(long)]
    seconds: Option<u64>,
    /// Claims to load first. Default: 1,000,000, with --quick 20,000.
    #[arg(long)]
    claims: Option<u64>,
    /// Resident memory that the server may have, in MiB. Default: what the sizing page gives, 1,554 for a
    /// million claims.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Only these parts; the results keep the others, as an earlier run of the same build, machine and
    /// goals has found them.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Everything that was found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// Of the server.
    pub(crate) build: String,
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    /// What was not as it comes.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) memory_mib: u64,
    pub(crate) trial_seconds: f64,
    pub(crate) loaded: Loaded,
    pub(crate) phases: Vec<Phase>,
}

impl Results {
    /// What of this kind held in this part, a second.
    fn held(&self, part: Part, kind: Kind) -> Option<f64> {
        let phase = self.phases.iter().find(|phase| phase.part == part)?;
        let last = phase.full.last()?;
        let mut both = phase.goals.iter().zip(&last.streams);
        let (goal, (_, outcome)) = both.find(|(goal, _)| goal.kind == kind)?;
        outcome.holds(goal.p99()).then_some(outcome.per_second * kind.size() as f64)
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<u8> {
    let results = if args.from_results {
        let text = fs::read_to_string(&args.results)
            .with_context(|| format!("no {}", args.results.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is of another harness", args.results.display()))?
    } else {
        let results = measure(args)?;
        eprintln!("results are in {}", args.results.display());
        results
    };
    let criteria = judge(&results);
    println!("{}", page::tables(&results, &criteria));
    if args.write {
        page::write(Path::new("docs/operations"), &results, &criteria)?;
    }
    Ok(status(&criteria, args.report_only || results.quick))
}

fn save(path: &Path, results: &Results) -> Result<()> {
    let text = serde_json::to_string(results)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What has to be other than it comes, so that a load from one machine is no attack.
fn settings(quick: bool, kept_bytes: u64) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        // All keys are asked about.
        ("STEMEDB_QUERY__MEMORY_BYTES", kept_bytes.to_string()),
        // A batch is an import, of which a caller has 50 a second, and the node 16 at once.
        ("STEMEDB_RATE_LIMIT__IMPORT__PER_SECOND", "1000".to_owned()),
        ("STEMEDB_LIMITS__STREAMS", "64".to_owned()),
    ];
    if quick {
        // So that there are sealed ones to read.
        settings.push(("STEMEDB_WAL__SEGMENT_BYTES", (1 << 20).to_string()));
    }
    settings
}

fn measure(args: &Args) -> Result<Results> {
    ensure!(
        args.rate > 0.0 && args.rate <= RATE_MAX,
        "--rate {}: from 1 to {RATE_MAX}, what one caller may do by default",
        args.rate
    );
    let claims = args.claims.unwrap_or(if args.quick { 20_000 } else { 1_000_000 });
    let seconds = args.seconds.unwrap_or(if args.quick { 3 } else { 300 });
    ensure!((1..86_400_000).contains(&(claims / CLAIMS_A_KEY)), "--claims {claims}");
    ensure!(seconds > 0, "--seconds 0");
    let plan = Plan {
        trial: Duration::from_millis(if args.quick { 1_000 } else { 10_000 }),
        full: Duration::from_secs(seconds),
        close: if args.quick { 1.5 } else { 1.1 },
        rest: Duration::from_secs(if args.quick { 0 } else { 30 }),
        seed: args.seed,
    };
    fs::create_dir_all(&args.scratch)?;
    let home = tempfile::Builder::new()
        .prefix("bench-pilot-")
        .tempdir_in(fs::canonicalize(&args.scratch)?)?;
    let mut machine = Machine::look(home.path(), false);
    machine.rivals.clear();
    let begun = Instant::now();
    let say = |what: &str| eprintln!("[{:5.0} s] {what}", begun.elapsed().as_secs_f64());
    say(&format!("seed {}", args.seed));
    let kept_bytes = (claims * KEPT_BYTES).max(KEPT_BYTES_LEAST);
    let settings = settings(args.quick, kept_bytes);
    let site = Site::new(&args.server, home.path(), settings.clone())?;
    let mut results = Results {
        machine,
        build: site.build()?,
        quick: args.quick,
        seed: args.seed,
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        memory_mib: args.memory_mib.unwrap_or(MEMORY_MIB + (kept_bytes >> 20)),
        trial_seconds: plan.trial.as_secs_f64(),
        loaded: Loaded::default(),
        phases: Vec::new(),
    };
    let author = Author::new(args.seed, claims / CLAIMS_A_KEY);
    site.register(&author)?;
    say(&format!("import of {claims} claims"));
    results.loaded = site.load(claims, args.seed)?;
    let most = Duration::from_secs(if args.quick { 3 } else { 300 });
    results.loaded.rest_seconds = site.rest(most)?;
    let kept = site.keep()?;
    let mut stock = Stock::new(author);
    let wanted = |part: &Part| args.only.is_empty() || args.only.contains(part);
    if !args.only.is_empty() {
        let earlier = earlier(args, &results, seconds);
        results.phases.extend(earlier.into_iter().filter(|phase| !wanted(&phase.part)));
    }
    for part in Part::ALL.into_iter().filter(wanted) {
        say(part.describe());
        let phase;
        (phase, stock) = one(args, plan, part, &kept, stock, begun, &results)?;
        results.phases.push(phase);
        let place = |phase: &Phase| Part::ALL.iter().position(|part| *part == phase.part);
        results.phases.sort_by_key(place);
        // What took so long is not lost with a phase that breaks off.
        save(&args.results, &results)?;
    }
    say("done");
    Ok(results)
}

/// The phases of an earlier run, if it was one of the same.
fn earlier(args: &Args, now: &Results, seconds: u64) -> Vec<Phase> {
    let text = fs::read_to_string(&args.results).unwrap_or_default();
    let Ok(then) = serde_json::from_str::<Results>(&text) else { return Vec::new() };
    let of = |results: &Results| {
        let Results { build, quick, seed, settings, memory_mib, loaded, .. } = results;
        let settings = settings.clone();
        (build.clone(), *quick, *seed, settings, *memory_mib, loaded.claims)
    };
    if of(&then) != of(now) || then.machine.sentence() != now.machine.sentence() {
        return Vec::new();
    }
    let same = |phase: &Phase| {
        let asked = phase.goals.iter().all(|goal| *goal == self::goal(args, goal.kind));
        asked && phase.seconds == seconds as f64
    };
    then.phases.into_iter().filter(same).collect()
}

fn goal(args: &Args, kind: Kind) -> Goal {
    let p99_ms = match kind {
        Kind::Question => args.query_p99_ms,
        Kind::Assert | Kind::Batch => args.assert_p99_ms,
    };
    Goal { kind, per_second: args.rate, p99_ms }
}

/// One part, on the database as it was loaded, and whether everything is there after it.
fn one(
    args: &Args,
    plan: Plan,
    part: Part,
    kept: &Kept,
    stock: Stock,
    begun: Instant,
    results: &Results,
) -> Result<(Phase, Stock)> {
    let site = kept.start()?;
    let watch = Watch::start(site.server.id(), site.server.url().to_owned(), begun);
    let mut bench = Bench {
        clients: Clients::new(site.server.address())?,
        caller: Caller::new(&site.server.address().to_string(), &site.key)?,
        site: &site,
        stock,
        keys: results.loaded.keys,
        acks: Vec::new(),
        begun,
        plan,
        asked: 0,
    };
    let goals: Vec<Goal> = part.kinds().iter().map(|kind| goal(args, *kind)).collect();
    let most = |kind: &Kind| first(results, part, *kind).unwrap_or(args.rate);
    let most: Vec<f64> = part.kinds().iter().map(most).collect();
    if part.kinds().contains(&Kind::Question) {
        bench.warm(args.rate / 2.0)?;
    }
    let mut phase = bench.phase(part, goals, &most)?;
    let Bench { stock, acks, clients, .. } = bench;
    drop(clients);
    phase.watch = watch.finish()?;
    eprintln!("    is everything there?");
    let (site, restart_seconds) = site.kill_and_start()?;
    phase.checked.restart_seconds = restart_seconds;
    phase.checked.export(site.server.url(), &site.key, &acks, &stock.author)?;
    phase.checked.sample(site.server.url(), &site.key, &acks, args.seed)?;
    phase.checked.log(&args.server, &site.stop())?;
    Ok((phase, stock))
}

/// What is tried first where it is not the goal: no more than what held before, with less beside it.
fn first(results: &Results, part: Part, kind: Kind) -> Option<f64> {
    let alone = match kind {
        Kind::Assert => Part::Asserts,
        Kind::Question => Part::Queries,
        Kind::Batch => Part::Batches,
    };
    match part {
        Part::Queries | Part::Asserts | Part::Batches => None,
        Part::Mixed => results.held(alone, kind),
        Part::Backup => results.held(Part::Mixed, kind).or_else(|| results.held(alone, kind)),
    }
}
