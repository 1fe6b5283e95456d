//! What an answer costs, from ten claims a key to a million, beside SQLite and PostgreSQL.
//!
//! `make bench-resolve` runs it; `docs/performance/resolve.md` explains method and result.

mod data;
mod http;
mod ours;
mod page;
mod rivals;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use serde::{Deserialize, Serialize};
use stemedb_bench::cluster::Cluster;
use stemedb_bench::machine::Machine;

use data::Shape;

#[derive(Parser)]
#[command(about = "Answers beside SQLite and PostgreSQL")]
struct Args {
    /// Folder to work in; everything in it is made and removed by this run.
    #[arg(long, default_value = "target")]
    scratch: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "target/bench-resolve.json")]
    results: PathBuf,
    /// Write the results into docs/performance.
    #[arg(long)]
    write: bool,
    /// Up to 10,000 claims a key, and no more keys than are asked about.
    #[arg(long)]
    quick: bool,
    /// Claims on keys that nobody asks about.
    #[arg(long, default_value_t = 7_800_000)]
    others: u64,
    /// Leave PostgreSQL out.
    #[arg(long)]
    without_postgres: bool,
    /// The release server; without it nothing is asked over HTTP.
    #[arg(long)]
    server: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) store: ours::Store,
    pub(crate) cells: Vec<Cell>,
    pub(crate) http: Option<http::Http>,
}

/// One key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) claims: u64,
    pub(crate) agents: u64,
    pub(crate) ours: ours::Times,
    /// Names with microseconds.
    pub(crate) rivals: Vec<(String, stemedb_bench::stats::Quantiles)>,
}

fn shapes(quick: bool) -> Vec<Shape> {
    let most = if quick { 10_000 } else { 1_000_000 };
    let sizes = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
    let mut shapes = Vec::new();
    for claims in sizes.into_iter().filter(|claims| *claims <= most) {
        shapes.push(Shape { claims, agents: claims.min(1_000) });
        // Beyond that every claim of an agent but its newest is replaced; here none is.
        if (10_000..=100_000).contains(&claims) {
            shapes.push(Shape { claims, agents: claims });
        }
    }
    shapes
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.scratch)?;
    let scratch = tempfile::Builder::new().prefix("bench-resolve-").tempdir_in(&args.scratch)?;
    // PostgreSQL runs as another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), open)?;
    let results = measure(scratch.path(), &args)?;
    save(&args.results, &results)?;
    print!("{}", page::tables(&results));
    if args.write {
        page::write(Path::new("."), &results)?;
    }
    Ok(())
}

fn save(path: &Path, results: &Results) -> Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn measure(scratch: &Path, args: &Args) -> Result<Results> {
    let machine = Machine::look(scratch, !args.without_postgres);
    let shapes = shapes(args.quick);
    let others = if args.quick { 0 } else { args.others };
    let (mut ours, store) = ours::Ours::load(&scratch.join("index"), &shapes, others)?;
    let cluster = match args.without_postgres {
        true => None,
        false => Some(Cluster::start(scratch)?),
    };
    let mut sqlite = rivals::Sqlite::load(scratch, &shapes)?;
    let mut postgres =
        cluster.as_ref().map(|cluster| rivals::Postgres::load(cluster, &shapes)).transpose()?;
    let (mut cells, mut winners) = (Vec::new(), Vec::new());
    for (number, shape) in shapes.iter().enumerate() {
        eprintln!("{} claims of {} agents", shape.claims, shape.agents);
        let (expected, times) = ours.measure(number, *shape)?;
        let mut rivals = vec![("SQLite".to_owned(), sqlite.measure(number, &expected)?)];
        if let Some(postgres) = &mut postgres {
            rivals.push(("PostgreSQL".to_owned(), postgres.measure(number, &expected)?));
        }
        cells.push(Cell { claims: shape.claims, agents: shape.agents, ours: times, rivals });
        winners.push(expected.value);
    }
    drop(ours);
    let mut results = Results { machine, store, cells, http: None };
    if let Some(server) = &args.server {
        // What took so long is not lost with a server that fails.
        save(&args.results, &results)?;
        results.http = Some(http::run(server, scratch, &shapes, &winners)?);
    }
    Ok(results)
}
