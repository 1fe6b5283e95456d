//! What the write-ahead log costs beside the bare device and beside other stores.
//!
//! `make bench-log` runs it; `docs/performance/log.md` explains method and result.

mod commits;
mod contender;
mod http;
mod load;
mod page;
mod plot;
mod reading;
mod rotation;
mod workload;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use commits::{Cell, Plan};
use http::Http;
use load::Neighbour;
use reading::Reading;
use rotation::Rotations;
use stemedb_bench::cluster::Cluster;
use stemedb_bench::machine::Machine;

/// Numbers of clients.
const CLIENTS: [usize; 4] = [1, 4, 16, 64];
/// Bodies of records, in bytes.
const BODIES: [usize; 2] = [300, 4096];

#[derive(Parser)]
#[command(about = "The log beside the bare device and its rivals")]
struct Args {
    /// Folder on the file system to measure; everything in it is made and removed by this run.
    #[arg(long, default_value = "target")]
    scratch: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "target/bench-log.json")]
    results: PathBuf,
    /// Release binary of the server, for the figures over HTTP.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Write the results into docs/performance.
    #[arg(long)]
    write: bool,
    /// Only refresh docs/performance, or print its tables, from the results of an earlier run.
    #[arg(long)]
    from_results: bool,
    /// A look of less than two minutes instead of a measurement.
    #[arg(long)]
    quick: bool,
    /// Leave PostgreSQL out.
    #[arg(long)]
    without_postgres: bool,
    /// Only these parts; the others stay as the results of an earlier run have them.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of the commit cells.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of a slice in the commit cells, in milliseconds.
    #[arg(long)]
    slice_ms: Option<u64>,
    /// Rotations to go through.
    #[arg(long)]
    rotations: Option<usize>,
    /// Seed of the order within rounds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Commits,
    Rotation,
    Load,
    Reading,
    Http,
}

/// Everything a run found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    machine: Machine,
    rounds: usize,
    slice_ms: u64,
    cells: Vec<Cell>,
    rotation: Option<Rotations>,
    /// The same beside neighbours.
    loaded: Vec<(Neighbour, Rotations)>,
    reading: Vec<Reading>,
    http: Option<Http>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let results = if args.from_results {
        read(&args.results)?
    } else {
        let results = measure(args)?;
        fs::write(&args.results, serde_json::to_string_pretty(&results)?)?;
        eprintln!("results are in {}", args.results.display());
        results
    };
    if args.write {
        page::write(Path::new("docs/performance"), &results)
    } else {
        println!("{}", page::tables(&results));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Results> {
    let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is of another harness", path.display()))
}

impl Results {
    /// Takes over what is not measured anew.
    fn keep(&mut self, earlier: Self, anew: &[Part]) {
        if !anew.contains(&Part::Commits) {
            (self.machine, self.rounds, self.slice_ms, self.cells) =
                (earlier.machine, earlier.rounds, earlier.slice_ms, earlier.cells);
        }
        if !anew.contains(&Part::Rotation) {
            self.rotation = earlier.rotation;
        }
        if !anew.contains(&Part::Load) {
            self.loaded = earlier.loaded;
        }
        if !anew.contains(&Part::Reading) {
            self.reading = earlier.reading;
        }
        if !anew.contains(&Part::Http) {
            self.http = earlier.http;
        }
    }
}

fn measure(args: &Args) -> Result<Results> {
    fs::create_dir_all(&args.scratch)?;
    let home = tempfile::Builder::new()
        .prefix("bench-log-")
        // PostgreSQL runs as another user and has to get through.
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(fs::canonicalize(&args.scratch)?)?;
    let scratch = home.path();
    let machine = Machine::look(scratch, !args.without_postgres);
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let plan = Plan {
        rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 15 }),
        slice: Duration::from_millis(args.slice_ms.unwrap_or(if args.quick { 60 } else { 500 })),
        seed: args.seed,
    };
    let mut results = Results {
        machine,
        rounds: plan.rounds,
        slice_ms: u64::try_from(plan.slice.as_millis())?,
        cells: Vec::new(),
        rotation: None,
        loaded: Vec::new(),
        reading: Vec::new(),
        http: None,
    };
    if !args.only.is_empty() && args.results.exists() {
        results.keep(read(&args.results)?, &args.only);
    }
    let started = Instant::now();
    let say = |what: &str| eprintln!("[{:5.0} s] {what}", started.elapsed().as_secs_f64());
    if wants(Part::Commits) {
        let cluster = if args.without_postgres {
            None
        } else {
            say("PostgreSQL: initdb, start");
            Some(Cluster::start(scratch)?)
        };
        for body in BODIES {
            for clients in CLIENTS {
                say(&format!("commits: {clients} clients, {body} bytes"));
                let cell = commits::cell(plan, scratch, cluster.as_ref(), clients, body)?;
                eprintln!("{}", page::cell(&cell));
                results.cells.push(cell);
            }
        }
    }
    if wants(Part::Rotation) {
        let rotations = args.rotations.unwrap_or(if args.quick { 5 } else { 100 });
        say(&format!("{rotations} rotations"));
        let home = tempfile::tempdir_in(scratch)?;
        let found = rotation::run(&home.path().join("wal"), rotations)?;
        eprintln!("{}", page::rotation(&found, "machine at rest"));
        results.rotation = Some(found);
    }
    if wants(Part::Load) {
        for neighbour in [Neighbour::Processor, Neighbour::Disk] {
            let rotations = if args.quick { 2 } else { 10 };
            say(&format!("{rotations} rotations beside {}", neighbour.describe()));
            let home = tempfile::tempdir_in(scratch)?;
            let found = neighbour
                .beside(home.path(), || rotation::run(&home.path().join("wal"), rotations))?;
            eprintln!("{}", page::rotation(&found, neighbour.describe()));
            results.loaded.push((neighbour, found));
        }
    }
    if wants(Part::Reading) {
        let (bytes, rounds) = if args.quick { (96 << 20, 3) } else { (768 << 20, 7) };
        for body in BODIES {
            say(&format!("recovery and verify: records of {body} bytes"));
            let home = tempfile::tempdir_in(scratch)?;
            let found = reading::run(&home.path().join("wal"), body, bytes, rounds)?;
            results.reading.push(found);
            eprintln!("{}", page::reading(&results.reading));
        }
    }
    if wants(Part::Http) {
        match &args.server {
            Some(server) => {
                say("HTTP");
                let home = tempfile::tempdir_in(scratch)?;
                let found = http::run(home.path(), server, plan)?;
                eprintln!("{}", page::http(&found));
                results.http = Some(found);
            }
            None => say("HTTP is NOT measured: name the release binary with --server"),
        }
    }
    say("done");
    Ok(results)
}
