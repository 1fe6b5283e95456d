//! Drills: the runbooks, run. Each case makes a real fault, looks for the symptom, the metric, the
//! line in the log and the alert that its page names, then runs the shell blocks of the page as they
//! stand there, and looks for the cure. Nothing that was acknowledged may be lost.
//!
//! A drill takes place in namespaces of its own ([`room`]), where the paths of the pages are real.
//! Alerts are those that we ship, in a real Prometheus.

mod archive_lagging;
mod authority;
mod backup_too_old;
mod case;
mod certificate_expiry;
mod disaster_recovery;
mod disk_full;
mod estate;
mod failover_to_replica;
mod high_error_rate;
mod high_query_latency;
mod node_replacement;
mod page;
mod pair;
mod rate_limited;
mod restore_from_backup;
pub(crate) mod room;
pub(crate) mod runbook;
mod server_wont_start;
pub(crate) mod service;
mod slow_fsync;
mod storage_errors;
pub(crate) mod volume;
mod wal_corruption;
mod wal_fsync_failure;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use self::case::Drill;
use self::room::Room;
use self::runbook::Runbook;
use crate::matrix::interrupt;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this runbook; may be repeated.
    #[arg(long = "runbook")]
    runbooks: Vec<String>,
    /// Only this case of it; may be repeated.
    #[arg(long = "case")]
    cases: Vec<String>,
    /// Watch the alert of a failed sync stand for ten minutes.
    #[arg(long)]
    long: bool,
    /// Write what was seen, with times, to docs/operations/drills.md.
    #[arg(long)]
    write: bool,
    /// The folder of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// We are in namespaces of our own.
    #[arg(long, hide = true)]
    inside: bool,
}

/// A way in which what a runbook is about comes about.
pub(crate) struct Case {
    pub(crate) runbook: &'static str,
    pub(crate) name: &'static str,
    /// What happens, for the page of results.
    pub(crate) about: &'static str,
    /// Blocks of the runbook that it runs.
    pub(crate) steps: &'static [&'static str],
    run: fn(&mut Drill<'_>) -> Result<()>,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        runbook: "wal-fsync-failure",
        name: "once-own",
        about: "the log has a file system of its own; one sync fails, of a segment just begun",
        steps: &["look", "kernel", "place", "probe", "verify", "acknowledge"],
        run: wal_fsync_failure::once_own,
    },
    Case {
        runbook: "wal-fsync-failure",
        name: "once-shared",
        about: "log, index and node share a file system; one sync fails, of a segment just begun",
        steps: &["look", "kernel", "place", "probe", "verify", "acknowledge"],
        run: wal_fsync_failure::once_shared,
    },
    Case {
        runbook: "wal-fsync-failure",
        name: "off-own",
        about: "the file system of the log shuts itself off",
        steps: &["look", "kernel", "place", "check-own", "probe", "verify", "acknowledge"],
        run: wal_fsync_failure::off_own,
    },
    Case {
        runbook: "wal-fsync-failure",
        name: "off-shared",
        about: "the one file system of log, index and node shuts itself off",
        steps: &["look", "kernel", "place", "check-own", "check-shared", "probe", "verify"],
        run: wal_fsync_failure::off_shared,
    },
    Case {
        runbook: "disk-full",
        name: "other-files",
        about: "other files fill the file system of the log",
        steps: &["look", "usage"],
        run: disk_full::other_files,
    },
    Case {
        runbook: "disk-full",
        name: "grow",
        about: "the file system of the log is full, and its device is made larger",
        steps: &["look", "usage", "grow"],
        run: disk_full::grow,
    },
    Case {
        runbook: "wal-corruption",
        name: "copy",
        about: "a byte of a sealed segment is not what was written; there is a good copy",
        steps: &["look", "keep", "verify", "restore"],
        run: wal_corruption::copy,
    },
    Case {
        runbook: "wal-corruption",
        name: "archive",
        about: "a byte of a sealed segment is not what was written; there is an archive",
        steps: &["look", "keep", "verify", "again"],
        run: wal_corruption::archive,
    },
    Case {
        runbook: "wal-corruption",
        name: "repair",
        about: "a byte of a sealed segment is not what was written; there is no copy",
        steps: &["look", "keep", "verify", "plan", "repair", "health"],
        run: wal_corruption::repair,
    },
    Case {
        runbook: "server-wont-start",
        name: "port",
        about: "another program has the port",
        steps: &["look", "port", "start"],
        run: server_wont_start::port,
    },
    Case {
        runbook: "server-wont-start",
        name: "config",
        about: "a key of the configuration is misspelt",
        steps: &["look", "config", "start"],
        run: server_wont_start::config,
    },
    Case {
        runbook: "server-wont-start",
        name: "unmounted",
        about: "the file system of the log is not mounted",
        steps: &["look", "mounts", "start"],
        run: server_wont_start::unmounted,
    },
    Case {
        runbook: "storage-errors",
        name: "append",
        about: "the log has no room, and every append is refused",
        steps: &["look"],
        run: storage_errors::append,
    },
    Case {
        runbook: "storage-errors",
        name: "index",
        about: "the file system of the index shuts itself off under load",
        steps: &["look", "kernel", "check", "reindex"],
        run: storage_errors::index,
    },
    Case {
        runbook: "slow-fsync",
        name: "neighbour",
        about: "every write to the disk of the log takes 1.2 s longer",
        steps: &["look", "probe"],
        run: slow_fsync::neighbour,
    },
    Case {
        runbook: "high-error-rate",
        name: "overloaded",
        about: "more is asked at once than the limit allows",
        steps: &["look", "limits"],
        run: high_error_rate::overloaded,
    },
    Case {
        runbook: "certificate-expiry",
        name: "soon",
        about: "the certificate in force ends in three days",
        steps: &["look", "make", "put", "check"],
        run: certificate_expiry::soon,
    },
    Case {
        runbook: "certificate-expiry",
        name: "ended",
        about: "the certificate in force has ended",
        steps: &["look", "make", "put", "check"],
        run: certificate_expiry::ended,
    },
    Case {
        runbook: "rate-limited",
        name: "loader",
        about: "one API key writes far over the rate of its class, and is right to",
        steps: &["look", "who", "raise", "check"],
        run: rate_limited::loader,
    },
    Case {
        runbook: "high-query-latency",
        name: "wide",
        about: "a key with 50,000 claims is asked for again and again, and nothing of it is kept",
        steps: &["look", "answers", "memory"],
        run: high_query_latency::wide,
    },
    Case {
        runbook: "node-replacement",
        name: "moved-disk",
        about: "the machine is gone, and its disk goes to another",
        steps: &["mount", "verify", "start"],
        run: node_replacement::moved_disk,
    },
    Case {
        runbook: "node-replacement",
        name: "copied",
        about: "the folder of a stopped node goes to another disk",
        steps: &["stop", "copy", "verify", "start"],
        run: node_replacement::copied,
    },
    Case {
        runbook: "disaster-recovery",
        name: "machine",
        about: "the machine is lost with its disk, under load; archive and backups are elsewhere",
        steps: &["look", "plan", "restore", "verify", "start", "after"],
        run: disaster_recovery::machine,
    },
    Case {
        runbook: "restore-from-backup",
        name: "newest",
        about: "the machine is lost with its disk, under load; there is no archive, only backups",
        steps: &["look", "whole", "plan", "restore", "verify", "start", "after"],
        run: restore_from_backup::newest,
    },
    Case {
        runbook: "archive-lagging",
        name: "unmounted",
        about: "the machine is started again, and the file system of the archive is not mounted",
        steps: &["look", "mount", "whole"],
        run: archive_lagging::unmounted,
    },
    Case {
        runbook: "failover-to-replica",
        name: "killed",
        about: "the primary is killed under load, and its machine comes back later",
        steps: &["look", "promote", "balancer", "rejoin", "follow", "import"],
        run: failover_to_replica::killed,
    },
    Case {
        runbook: "failover-to-replica",
        name: "paused",
        about: "the primary stands still under load, and goes on after another has its place",
        steps: &["look", "promote", "balancer", "rejoin", "follow", "import"],
        run: failover_to_replica::paused,
    },
    Case {
        runbook: "failover-to-replica",
        name: "lagging",
        about: "the place of the archive goes away on the machine of the standby",
        steps: &["lag-look", "lag-mount"],
        run: failover_to_replica::lagging,
    },
    Case {
        runbook: "backup-too-old",
        name: "none",
        about: "backups are expected, and none was ever made",
        steps: &["look", "create", "verify"],
        run: backup_too_old::none,
    },
];

/// What became of a case.
pub(crate) struct Report {
    pub(crate) case: &'static Case,
    /// What was seen, with the time since the fault.
    pub(crate) seen: Vec<(Option<Duration>, String)>,
    pub(crate) problem: Option<String>,
    pub(crate) took: Duration,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let problems = runbook::problems(&args.root, CASES)?;
    ensure!(problems.is_empty(), "the runbooks and their drills differ: {}", problems.join("; "));
    let chosen = chosen(args)?;
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: drills need root (namespaces, mounts, loop devices)");
        return Ok(true);
    }
    if !args.inside {
        return Err(room::enter(seed));
    }
    interrupt::install()?;
    let room = Room::make()?;
    let mut reports = Vec::new();
    for case in chosen {
        interrupt::check()?;
        println!("{} / {}: {}", case.runbook, case.name, case.about);
        let report = one(case, args, binary, seed, &room)?;
        let seconds = report.took.as_secs_f32();
        match &report.problem {
            None => println!("ok   {} / {}, {seconds:.0} s", case.runbook, case.name),
            Some(problem) => {
                println!("FAIL {} / {}, {seconds:.0} s: {problem}", case.runbook, case.name);
            }
        }
        reports.push(report);
    }
    let failed = reports.iter().filter(|report| report.problem.is_some()).count();
    println!("{} cases, {failed} failed", reports.len());
    if args.write {
        page::write(&args.root, binary, &reports)?;
    }
    Ok(failed == 0)
}

fn chosen(args: &Args) -> Result<Vec<&'static Case>> {
    for name in &args.runbooks {
        let known: BTreeSet<&str> = CASES.iter().map(|case| case.runbook).collect();
        ensure!(known.contains(name.as_str()), "no runbook {name:?} has a drill; known: {known:?}");
    }
    let ours = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let chosen: Vec<_> = CASES
        .iter()
        .filter(|case| ours(&args.runbooks, case.runbook) && ours(&args.cases, case.name))
        .collect();
    if chosen.is_empty() {
        bail!("no case is named {:?}", args.cases);
    }
    Ok(chosen)
}

fn one(case: &'static Case, args: &Args, binary: &Path, seed: u64, room: &Room) -> Result<Report> {
    let began = Instant::now();
    let page = Runbook::load(&args.root, case.runbook)?;
    let environment = runbook::environment(&args.root)?;
    let mut drill = Drill::begin(case, args, binary, seed, room, &page, environment)?;
    let outcome = (case.run)(&mut drill).and_then(|()| drill.ran_all());
    let problem = outcome.err().map(|error| {
        // What the server said is the evidence.
        eprintln!("--- the server said:\n{}", drill.service.words());
        format!("{error:#}")
    });
    Ok(Report { case, seen: drill.seen(), problem, took: began.elapsed() })
}
