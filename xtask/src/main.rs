//! Harnesses for developers: power cuts, kill -9, a failing disk, errors and order of system calls,
//! real data, alerts and dashboards, runbooks, guides, deployment. Never shipped.
//!
//! Each drives the release binary over HTTP, as a user would, and judges it from outside: by what
//! it acknowledged and by what is there afterwards. Faults need root (loop devices, mounts).
#![expect(
    clippy::disallowed_methods,
    reason = "a harness is outside: it measures real time and touches real files"
)]

mod crash;
mod deploy;
mod disk;
mod drill;
mod eval;
mod fault;
mod findings;
mod guides;
mod inject;
mod kill;
mod matrix;
mod monitoring;
mod mount;
mod mutants;
mod order;
mod outcomes;
mod pages;
mod port;
mod program;
mod recording;
mod restoring;
mod server;
mod talk;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Harnesses for developers")]
struct Args {
    /// The binary under test.
    #[arg(long, global = true, default_value = "target/release/stemedb")]
    binary: PathBuf,
    /// Seed of the run; printed, so that a failure can be run again.
    #[arg(long, global = true)]
    seed: Option<u64>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Cut the power at random block writes under a real file system; look for lost claims.
    Crash(crash::Args),
    /// Check units and installation; run load balancers and systemd for real over nodes that go away.
    Deploy(deploy::Args),
    /// Kill the server with SIGKILL at random moments of an import; look for lost or doubled claims.
    Kill(kill::Args),
    /// Inject errors of system calls on the files of the log; judge everything that was answered.
    Inject(inject::Args),
    /// Run the runbooks: a real fault, the alert, the commands of the page, the cure.
    Drill(drill::Args),
    /// Run the shell blocks of README and docs, page by page, against a real node.
    Guides(guides::Args),
    /// Import the real data sets, make worlds up, and score every lens.
    Eval(eval::Args),
    /// Make a disk fail in every way under real file systems; hold the server to its promises.
    Matrix(matrix::Args),
    /// Hold alerts and dashboards against the server, Prometheus and Alertmanager, and let one fire.
    Monitoring(monitoring::Args),
    /// Switch wrong behaviours on, one by one; each must be caught.
    Mutants(mutants::Args),
    /// Bring databases back from an archive; tell how fast, beside the bare device.
    Restore(restoring::Args),
    /// Trace system calls; look for an answer that was sent before the sync that covers it.
    Order(order::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    eprintln!("seed {seed}");
    let outcome = match args.task {
        Task::Crash(task) => crash::run(&task, &args.binary, seed),
        Task::Deploy(task) => deploy::run(&task, &args.binary, seed),
        Task::Kill(task) => kill::run(&task, &args.binary, seed),
        Task::Inject(task) => inject::run(&task, &args.binary, seed),
        Task::Drill(task) => drill::run(&task, &args.binary, seed),
        Task::Guides(task) => guides::run(&task, &args.binary, seed),
        Task::Eval(task) => eval::run(&task, &args.binary, seed),
        Task::Matrix(task) => matrix::run(&task, &args.binary, seed),
        Task::Monitoring(task) => monitoring::run(&task, &args.binary, seed),
        Task::Mutants(task) => mutants::run(&task, &args.binary, seed),
        Task::Restore(task) => restoring::run(&task, &args.binary, seed),
        Task::Order(task) => order::run(&task, &args.binary, seed),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
