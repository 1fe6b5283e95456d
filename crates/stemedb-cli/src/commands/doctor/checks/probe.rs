//! A timed write and sync where the log writes, past the cache if the file system can.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use stemedb_io::{Clock, DIRECT_ALIGN};

use super::super::finding::{Finding, quoted};
use super::super::machine::within;
use super::super::site::Site;

/// How many syncs are timed.
const TIMES: usize = 16;
/// The room for them is written and synced first, as the log prepares its segments.
const BYTES: usize = TIMES * DIRECT_ALIGN;
/// No more are begun after this.
const ENOUGH: Duration = Duration::from_secs(3);
/// After this a node stops taking writes until its sync comes back.
const PATIENCE: Duration = stemedb_engine::APPEND_STALL_MAX;
/// As the alert `WALFsyncSlow`.
const SLOW: Duration = Duration::from_millis(100);

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Timed {
    /// Each write and sync.
    took: Vec<Duration>,
    /// Whether these writes went past the cache.
    direct: bool,
}

/// What was refused, and with which error.
#[derive(Debug)]
struct Refused {
    op: &'static str,
    error: io::Error,
}

#[derive(Debug)]
enum Outcome {
    /// Not tried, and why.
    Left(String),
    Timed(Timed),
    Refused(Refused),
    /// It has not come back.
    Hangs,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let dir = site.config.wal_dir();
    let outcome = if site.no_probe {
        Outcome::Left("--no-probe".into())
    } else if site.detached() {
        Outcome::Left("the log is detached: its file system may be another one by now".into())
    } else if !dir.is_dir() {
        Outcome::Left(format!("{} cannot be seen to be a folder", dir.display()))
    } else {
        try_it(dir.clone(), Arc::clone(&site.env.clock))
    };
    judge(&dir, &outcome)
}

fn try_it(dir: PathBuf, clock: Arc<dyn Clock>) -> Outcome {
    match within(PATIENCE, move || time(&dir, &*clock)) {
        None => Outcome::Hangs,
        Some(Ok(timed)) => Outcome::Timed(timed),
        Some(Err(refused)) => Outcome::Refused(refused),
    }
}

/// How long each write and sync of 4 KiB in a folder takes, one after the other; nothing is left of it.
pub(crate) fn time_syncs(dir: &Path, clock: &dyn Clock) -> io::Result<Vec<Duration>> {
    match time(dir, clock) {
        Ok(timed) => Ok(timed.took),
        Err(refused) => Err(refused.error),
    }
}

fn time(dir: &Path, clock: &dyn Clock) -> Result<Timed, Refused> {
    let failed = |op| move |error: io::Error| Refused { op, error };
    // It has no name, so that nothing is left of it whatever happens, and the log does not see it.
    let file = tempfile::tempfile_in(dir).map_err(failed("make a file"))?;
    let buffer = vec![0x5a; BYTES + DIRECT_ALIGN];
    let aligned = buffer.as_ptr().align_offset(DIRECT_ALIGN);
    let bytes = buffer.get(aligned..aligned + BYTES).unwrap_or_default();
    file.write_all_at(bytes, 0).map_err(failed("write"))?;
    rustix::fs::fdatasync(&file).map_err(io::Error::from).map_err(failed("sync"))?;
    let direct = past_cache(&file, bytes);
    let (mut took, begun) = (Vec::new(), clock.monotonic());
    for (block, offset) in bytes.chunks(DIRECT_ALIGN).zip((0..).step_by(DIRECT_ALIGN)) {
        let before = clock.monotonic();
        file.write_all_at(block, offset).map_err(failed("write"))?;
        // Once: a second sync may say ok although the first one dropped the bytes.
        rustix::fs::fdatasync(&file).map_err(io::Error::from).map_err(failed("sync"))?;
        let after = clock.monotonic();
        took.push(after.saturating_sub(before));
        if after.saturating_sub(begun) > ENOUGH {
            break;
        }
    }
    Ok(Timed { took, direct })
}

/// Has writes go past the cache, if a write then works: some file systems say so and cannot.
fn past_cache(file: &File, bytes: &[u8]) -> bool {
    let set = |direct: bool| {
        let flags = rustix::fs::fcntl_getfl(file)?;
        let wanted = if direct { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
        rustix::fs::fcntl_setfl(file, wanted)
    };
    let block = bytes.get(..DIRECT_ALIGN).unwrap_or_default();
    if set(true).is_ok() && file.write_all_at(block, 0).is_ok() {
        return true;
    }
    let _ = set(false);
    false
}

fn judge(dir: &Path, outcome: &Outcome) -> Vec<Finding> {
    let shown = dir.display();
    let quoted = quoted(dir);
    match outcome {
        Outcome::Left(why) => vec![Finding::unseen("how long a sync takes", why)],
        Outcome::Hangs => {
            let evidence = format!("{shown}: nothing came back in {} s", PATIENCE.as_secs());
            let what = "a write and sync hangs: a node stops taking writes after as long";
            vec![
                Finding::critical(what, evidence)
                    .next("dmesg --ctime --level=emerg,alert,crit,err,warn"),
            ]
        }
        Outcome::Refused(Refused { op, error }) => {
            let evidence = format!("{shown}: {op}: {error}");
            match Errno::from_io_error(error) {
                Some(Errno::ACCESS | Errno::PERM) => {
                    let why = format!("{evidence}; run it as the user of the node, or as root");
                    vec![Finding::unseen("how long a sync takes", why)]
                }
                Some(Errno::NOSPC | Errno::DQUOT) => {
                    let what = "there is no room where the log writes";
                    vec![Finding::critical(what, evidence).next(format!("df -h {quoted}"))]
                }
                Some(Errno::ROFS) => {
                    let what = "the file system of the log is read-only";
                    vec![Finding::critical(what, evidence).next(format!("findmnt -T {quoted}"))]
                }
                _ => {
                    let what = "the file system of the log does not take a write and sync";
                    let next = "dmesg --ctime --level=emerg,alert,crit,err,warn";
                    vec![Finding::critical(what, evidence).next(next)]
                }
            }
        }
        Outcome::Timed(timed) => judge_timed(dir, timed),
    }
}

fn judge_timed(dir: &Path, timed: &Timed) -> Vec<Finding> {
    let mut sorted = timed.took.clone();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let longest = sorted.last().copied().unwrap_or_default();
    let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1000.0);
    let evidence = format!(
        "{}: {} times 4 KiB and a sync: median {}, longest {}",
        dir.display(),
        sorted.len(),
        ms(middle),
        ms(longest)
    );
    let next = "iostat -x 1 5";
    let mut findings = vec![if middle > SLOW {
        Finding::warning("every write waits long for the disk", evidence).next(next)
    } else if longest > SLOW {
        Finding::note("a sync was slow now and then; others may use the disk", evidence)
    } else {
        Finding::ok("the disk takes a write and sync", evidence)
    }];
    let evidence = format!("{}: O_DIRECT", dir.display());
    findings.push(if timed.direct {
        Finding::ok("writes can go past the cache", evidence)
    } else {
        let what = "writes cannot go past the cache: the log writes through it, a little slower";
        Finding::note(what, format!("{evidence} is refused"))
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn outcomes() {
        let timed = |took: &[u64], direct| {
            let took = took.iter().copied().map(Duration::from_millis).collect();
            Outcome::Timed(Timed { took, direct })
        };
        let refused = |errno: Errno| Outcome::Refused(Refused { op: "write", error: errno.into() });
        for (outcome, expected) in [
            (timed(&[1, 1, 100], true), vec![Fine, Fine]),
            (timed(&[1, 1, 101], true), vec![Note, Fine]),
            (timed(&[101, 101, 1], false), vec![Warning, Note]),
            (refused(Errno::NOSPC), vec![Critical]),
            (refused(Errno::ROFS), vec![Critical]),
            (refused(Errno::IO), vec![Critical]),
            (refused(Errno::ACCESS), vec![Note]),
            (Outcome::Hangs, vec![Critical]),
            (Outcome::Left("--no-probe".into()), vec![Note]),
        ] {
            let found = severities(&judge(Path::new("/d/wal"), &outcome));
            assert_eq!(found, expected, "{outcome:?}");
        }
    }

    #[test]
    fn a_folder_takes_the_probe_and_keeps_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = stemedb_io::RealClock::new();
        let timed = time(dir.path(), &clock).unwrap();
        assert!(!timed.took.is_empty() && timed.took.len() <= TIMES, "{timed:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let refused = time(&dir.path().join("nowhere"), &clock).unwrap_err();
        assert_eq!(refused.error.kind(), io::ErrorKind::NotFound);
    }
}
