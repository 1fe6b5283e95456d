//! Everything under `deploy/` that starts or stands in front of a server, run for real: installed,
//! under a real systemd, behind real load balancers, while nodes go away.

mod balancer;
pub(crate) mod boot;
mod failover;
mod load;
mod node;
mod scenario;
mod units;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use self::balancer::Kind;
use crate::findings::Findings;
use crate::matrix::interrupt;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Only one load balancer, and no boot.
    #[arg(long)]
    quick: bool,
    /// Only the boot.
    #[arg(long, conflicts_with = "quick")]
    boot: bool,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    interrupt::install()?;
    let began = Instant::now();
    let root = args.root.canonicalize()?;
    let binary = binary.canonicalize()?;
    let mut findings = Findings::default();
    let folder = tempfile::tempdir()?;
    if args.boot {
        boot::run(&root, &binary, folder.path(), &mut findings)?;
        return Ok(told(&findings, began));
    }
    units::check(&root, &binary, folder.path(), &mut findings)?;
    for kind in Kind::ALL {
        balancer::validate(kind, &root, folder.path(), &mut findings)?;
    }
    for kind in Kind::ALL {
        let what = format!("{} over nodes that go away", kind.name());
        if args.quick && kind != Kind::Haproxy {
            findings.skip(&what, "only without --quick");
            continue;
        }
        if !kind.is_there() {
            findings.skip(&what, "it is not installed; `make setup` does that");
            continue;
        }
        let place = folder.path().join(kind.name());
        std::fs::create_dir(&place)?;
        println!("     {what}");
        scenario::run(kind, &root, &binary, &place, seed, &mut findings)?;
        failover::run(kind, &root, &binary, &place.join("pair"), seed, &mut findings)?;
    }
    if args.quick {
        findings.skip("the units under systemd", "only without --quick");
    } else {
        boot::run(&root, &binary, folder.path(), &mut findings)?;
    }
    Ok(told(&findings, began))
}

/// Says what came of all; whether that is good.
fn told(findings: &Findings, began: Instant) -> bool {
    let Findings { problems, skipped } = findings;
    println!("{problems} problems, {skipped} skipped, {:.0} s", began.elapsed().as_secs_f32());
    *problems == 0
}
