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

use check::Checked;
use claims::{Author, Stock};
use goals::{Goal, judge, status};
use load::Clients;
use phase::{Bench, Part, Phase, Plan};
use requests::{Caller, Kind};
use site::{CLAIMS_A_KEY, Loaded, Site};
use watch::{Sample, Watch};

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
    /// Resident memory that the server may have, in MiB.
    #[arg(long, default_value_t = 1_024)]
    memory_mib: u64,
    /// Only these parts.
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
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    /// What was not as it comes.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) memory_mib: u64,
    pub(crate) trial_seconds: f64,
    pub(crate) loaded: Loaded,
    pub(crate) phases: Vec<Phase>,
    /// Once a second.
    pub(crate) watch: Vec<Sample>,
    pub(crate) checked: Option<Checked>,
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
        save(&args.results, &results)?;
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
fn settings(quick: bool) -> Vec<(&'static str, String)> {
    let mut settings = vec![
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
    let site = Site::new(&args.server, home.path(), settings(args.quick))?;
    let settings = settings(args.quick).into_iter();
    let mut results = Results {
        machine,
        quick: args.quick,
        seed: args.seed,
        settings: settings.map(|(name, value)| (name.to_owned(), value)).collect(),
        memory_mib: args.memory_mib,
        trial_seconds: plan.trial.as_secs_f64(),
        loaded: Loaded::default(),
        phases: Vec::new(),
        watch: Vec::new(),
        checked: None,
    };
    let author = Author::new(args.seed, claims / CLAIMS_A_KEY);
    site.register(&author)?;
    say(&format!("import of {claims} claims"));
    results.loaded = site.load(claims, args.seed)?;
    let most = Duration::from_secs(if args.quick { 3 } else { 300 });
    results.loaded.rest_seconds = site.rest(most)?;
    let watch = Watch::start(site.server.id(), begun);
    let mut bench = Bench {
        clients: Clients::new(site.server.address())?,
        caller: Caller::new(&site.server.address().to_string(), &site.key)?,
        site: &site,
        stock: Stock::new(author),
        keys: results.loaded.keys,
        acks: Vec::new(),
        begun,
        plan,
        asked: 0,
    };
    for part in Part::ALL {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        say(part.describe());
        let p99_ms = |kind| match kind {
            Kind::Question => args.query_p99_ms,
            Kind::Assert | Kind::Batch => args.assert_p99_ms,
        };
        let goal = |kind: &Kind| Goal { kind: *kind, per_second: args.rate, p99_ms: p99_ms(*kind) };
        let goals: Vec<Goal> = part.kinds().iter().map(goal).collect();
        let most = |kind: &Kind| first(&results, part, *kind).unwrap_or(args.rate);
        let most: Vec<f64> = part.kinds().iter().map(most).collect();
        let phase = bench.phase(part, goals, &most)?;
        results.phases.push(phase);
    }
    let Bench { stock, acks, clients, .. } = bench;
    drop(clients);
    results.watch = watch.finish()?;
    // What took so long is not lost with a server that does not start again.
    save(&args.results, &results)?;
    say("is everything there?");
    results.checked = Some(check(site, &args.server, &acks, &stock.author, args.seed)?);
    say("done");
    Ok(results)
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

fn check(
    site: Site,
    binary: &Path,
    acks: &[claims::Ack],
    author: &Author,
    seed: u64,
) -> Result<Checked> {
    let (site, restart_seconds) = site.kill_and_start()?;
    let mut checked = Checked { restart_seconds, ..Checked::default() };
    checked.export(site.server.url(), &site.key, acks, author)?;
    checked.sample(site.server.url(), &site.key, acks, seed)?;
    checked.log(binary, &site.stop())?;
    Ok(checked)
}
