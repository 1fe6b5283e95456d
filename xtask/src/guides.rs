//! Guides: the shell blocks of README and docs, but for those of the runbooks, run as they stand
//! there, one after the other as in one shell, against a real node that asks for API keys.
//!
//! As the drills they take place in namespaces of their own ([`room`]), where the paths and the port
//! of the pages are real.

mod audit;
mod authentication;
mod backup;
mod doctor;
mod incident;
mod limits;
mod readme;
mod session;
mod troubleshooting;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use self::session::Session;
use crate::deploy::boot;
use crate::drill::room::{self, Room};
use crate::drill::runbook;
use crate::matrix::interrupt;
use crate::monitoring::files;
use crate::pages::{self, Runner};

/// What a block of ours is marked with.
const RUNNER: &str = "guide";
/// What is run by a test of its own, which knows the steps of its one page.
const TLS: (&str, &str, [&str; 3]) = ("tls", "docs/operations/tls.md", ["make", "serve", "ask"]);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only pages whose path has this in it; may be repeated.
    #[arg(long = "page")]
    pages: Vec<String>,
    /// The folder of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// We are in namespaces of our own.
    #[arg(long, hide = true)]
    inside: bool,
}

/// A page, and how its blocks are run.
pub(crate) struct Guide {
    /// From the root of the repository.
    page: &'static str,
    /// Blocks that it runs.
    steps: &'static [&'static str],
    run: fn(&mut Session<'_>) -> Result<()>,
}

const GUIDES: &[Guide] = &[
    Guide {
        page: "README.md",
        steps: &["serve", "first", "feed", "trace", "curl"],
        run: readme::run,
    },
    Guide {
        page: "docs/operations/authentication.md",
        steps: &["first", "make", "rotate", "reset", "trail", "socket"],
        run: authentication::run,
    },
    Guide { page: "docs/operations/audit.md", steps: &["look"], run: audit::run },
    Guide {
        page: "docs/operations/backup.md",
        steps: &["archive", "backups", "give-up", "encryption", "drills"],
        run: backup::run,
    },
    Guide { page: "docs/operations/doctor.md", steps: &["look"], run: doctor::run },
    Guide {
        page: "docs/operations/incident-response.md",
        steps: &["look", "keep", "copy"],
        run: incident::run,
    },
    Guide { page: "docs/operations/limits.md", steps: &["quota"], run: limits::run },
    Guide {
        page: "docs/operations/troubleshooting.md",
        steps: &[
            "status",
            "reach",
            "listens",
            "proxy",
            "tls",
            "allowed",
            "keys",
            "clocks",
            "record",
            "refused",
            "limited",
            "written",
            "explain",
            "lenses",
            "elsewhere",
            "at-least",
            "behind",
            "measures",
            "far",
            "doctor",
        ],
        run: troubleshooting::run,
    },
];

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let problems = problems(&args.root)?;
    ensure!(problems.is_empty(), "pages and those who run them differ: {}", problems.join("; "));
    let ours = |guide: &&Guide| {
        args.pages.is_empty() || args.pages.iter().any(|part| guide.page.contains(part))
    };
    let chosen: Vec<&'static Guide> = GUIDES.iter().filter(ours).collect();
    ensure!(!chosen.is_empty(), "no page of a guide has {:?} in its path", args.pages);
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: guides need root (namespaces, mounts)");
        return Ok(true);
    }
    if !args.inside {
        return Err(room::enter(seed));
    }
    interrupt::install()?;
    let room = Room::make()?;
    let mut failed = 0;
    for guide in &chosen {
        interrupt::check()?;
        println!("{}", guide.page);
        let began = Instant::now();
        let outcome = one(guide, &args.root, binary, &room);
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("ok   {}, {seconds:.0} s", guide.page),
            Err(error) => {
                println!("FAIL {}, {seconds:.0} s: {error:#}", guide.page);
                failed += 1;
            }
        }
    }
    println!("{} pages, {failed} failed", chosen.len());
    Ok(failed == 0)
}

fn one(guide: &'static Guide, root: &Path, binary: &Path, room: &Room) -> Result<()> {
    let mut session = Session::begin(guide, root, binary, room)?;
    let outcome = (guide.run)(&mut session).and_then(|()| session.ran_all());
    if outcome.is_err() {
        // What the server said is the evidence.
        eprintln!("--- the server said:\n{}", session.service.words());
    }
    outcome
}

/// What is wrong with the pages: a block without a mark, one that nobody runs, one that somebody runs
/// and its page does not say so.
fn problems(root: &Path) -> Result<Vec<String>> {
    problems_with(root, GUIDES)
}

fn problems_with(root: &Path, guides: &[Guide]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let pages = all(root)?;
    for guide in guides.iter().filter(|guide| !pages.contains(guide.page)) {
        problems.push(format!("{} has a guide, and is no page", guide.page));
    }
    for page in &pages {
        let blocks = pages::blocks(&files::read(&root.join(page))?).context(page.clone())?;
        let mut runners = Vec::new();
        for guide in guides.iter().filter(|guide| guide.page == page) {
            let steps = guide.steps.iter().copied().collect();
            runners.push(Runner { name: RUNNER, steps });
        }
        if boot::PAGES.iter().any(|(_, of)| of == page) {
            runners.push(Runner { name: boot::RUNNER, steps: boot::typed(page) });
        }
        let (name, of, steps) = TLS;
        if of == page {
            runners.push(Runner { name, steps: steps.into() });
        }
        let found = pages::problems(&blocks, &runners);
        problems.extend(found.into_iter().map(|problem| format!("{page}: {problem}")));
    }
    Ok(problems)
}

/// Every page of the root and below `docs`, but for the runbooks: these have a rule of their own.
fn all(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.join("docs")];
    let mut paths = files::in_folder(root, "md")?;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with(runbook::FOLDER) {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                paths.push(path);
            }
        }
    }
    for path in paths {
        found.insert(path.strip_prefix(root)?.display().to_string());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_block_is_run_by_somebody() {
        let pages = all(&root()).unwrap();
        for page in ["README.md", "docs/operations/backup.md", "docs/format/wal.md"] {
            assert!(pages.contains(page), "{page}");
        }
        assert!(!pages.iter().any(|page| page.starts_with(runbook::FOLDER)), "{pages:?}");
        assert_eq!(problems(&root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn pages_and_guides_that_differ_are_told_of() {
        let fewer = problems_with(&root(), &GUIDES[1..]).unwrap();
        assert!(fewer.iter().all(|one| one.starts_with("README.md: ")), "{fewer:?}");
        assert_eq!(fewer.len(), GUIDES[0].steps.len(), "{fewer:?}");
        let gone = [Guide { page: "docs/none.md", steps: &[], run: |_| Ok(()) }];
        let found = problems_with(&root(), &gone).unwrap();
        assert!(found.iter().any(|one| one.contains("is no page")), "{found:?}");
    }
}
