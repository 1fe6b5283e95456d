//! Is the log there, is it ours, and are its newest segments whole? Only reads, and takes no lock.

use std::path::{Path, PathBuf};

use stemedb_io::Vfs;
use stemedb_log::{DamageKind, StatReport, VerifyReport};
use stemedb_model::{LogId, Position};

use super::super::finding::{Finding, quoted};
use super::super::site::Site;
use super::{bytes, counted};
use crate::time;

/// How many segments in use are read again, the newest first.
const SEGMENTS: usize = 2;
/// What is longer is left to `wal verify`: a doctor answers soon.
const BYTES_MAX: u64 = 512 << 20;
/// More names than these of one kind say nothing that the first do not.
const NAMED: usize = 5;

struct Facts {
    dir: PathBuf,
    /// The database that belongs here.
    marker: Result<Option<LogId>, String>,
    log: Result<Option<StatReport>, String>,
    checked: Vec<Checked>,
    running: bool,
    /// What was removed can be read.
    archive: bool,
    /// How the whole log is checked.
    verify: String,
}

/// What reading a segment came to.
struct Checked {
    file: String,
    outcome: Result<VerifyReport, String>,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let dir = site.config.wal_dir();
    let checked = match &site.log {
        Ok(Some(_)) => newest(&dir, site.env.vfs.as_ref()),
        Ok(None) | Err(_) => Vec::new(),
    };
    judge(&Facts {
        verify: format!("stemedb wal verify {}", quoted(&dir)),
        dir,
        marker: site.marker.clone(),
        log: site.log.clone(),
        checked,
        running: site.running() == Some(true),
        archive: site.config.archive.url.is_some(),
    })
}

/// Reads the newest segments in use, as many as are soon read.
fn newest(dir: &Path, vfs: &dyn Vfs) -> Vec<Checked> {
    let (mut checked, mut in_use, mut read) = (Vec::new(), 0, 0_u64);
    for (_, file) in segments(dir, vfs).into_iter().rev() {
        if in_use == SEGMENTS {
            break;
        }
        let path = dir.join(&file);
        let len = vfs.metadata(&path).map_or(0, |found| found.len);
        read = read.saturating_add(len);
        if read > BYTES_MAX {
            break;
        }
        let outcome = stemedb_log::verify(&path, vfs).map_err(|error| error.to_string());
        let spare = |report: &VerifyReport| report.segments.iter().all(|segment| segment.spare);
        if outcome.as_ref().is_ok_and(spare) {
            // Zeros: nothing was read that counts.
            read = read.saturating_sub(len);
            continue;
        }
        in_use += 1;
        checked.push(Checked { file, outcome });
    }
    checked
}

/// Names of segments, by number.
fn segments(dir: &Path, vfs: &dyn Vfs) -> Vec<(u64, String)> {
    let names = vfs.read_dir(dir).unwrap_or_default().into_iter();
    let mut segments: Vec<(u64, String)> = names
        .filter_map(|entry| {
            let name = entry.name.to_str()?.to_owned();
            let number = name.strip_prefix("segment.")?.strip_suffix(".wal")?.parse().ok()?;
            Some((number, name))
        })
        .collect();
    segments.sort();
    segments
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let dir = facts.dir.display();
    let mut findings = Vec::new();
    if let Err(why) = &facts.marker {
        findings.push(Finding::unseen("which database belongs here", why));
    }
    let expected = facts.marker.as_ref().ok().copied().flatten();
    let stat = match (&facts.log, expected) {
        (Err(why), _) => {
            let why = format!("{dir}: {why}");
            findings.push(Finding::unseen("the log", why));
            return findings;
        }
        (Ok(None), Some(log_id)) => {
            let what = "the log is gone: there should be one";
            let evidence = format!("{dir} holds no segment, and database {log_id} belongs here");
            findings.push(
                Finding::critical(what, evidence).next(format!("ls -la {}", quoted(&facts.dir))),
            );
            return findings;
        }
        (Ok(None), None) => {
            let evidence = format!("{dir} holds no segment");
            findings
                .push(Finding::note("there is no log yet; the first start makes one", evidence));
            return findings;
        }
        (Ok(Some(stat)), _) => stat,
    };
    findings.push(judge_stat(facts, stat, expected));
    findings.extend(stat.first_kept.map(|first| judge_floor(facts, first)));
    findings.extend(facts.checked.iter().flat_map(|checked| judge_segment(facts, checked)));
    if facts.checked.is_empty() && stat.segments > 0 {
        let why = format!(
            "{dir}: segments longer than {} are left to: {}",
            bytes(BYTES_MAX),
            facts.verify
        );
        findings.push(Finding::unseen("whether the newest segments are whole", why));
    }
    for (names, what) in [
        (
            &stat.rejected,
            "recovery or repair has set bytes aside; they are evidence, not part of the log",
        ),
        (&stat.unknown, "files that are none of the log's lie in its folder"),
    ] {
        if !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
            let more = if names.len() > NAMED { ", …" } else { "" };
            findings.push(Finding::note(what, format!("{dir}: {}{more}", shown.join(", "))));
        }
    }
    findings
}

fn judge_stat(facts: &Facts, stat: &StatReport, expected: Option<LogId>) -> Finding {
    let found = stat.identity.map(|(log_id, _)| log_id);
    if let (Some(expected), Some(found)) = (expected, found)
        && expected != found
    {
        let what = "the log is of another database than the one that belongs here";
        let evidence = format!("{}: {found}, expected {expected}", facts.dir.display());
        return Finding::critical(what, evidence).next(&facts.verify);
    }
    let last = match stat.last {
        Some((position, at)) => format!("position {position} of {}", time::format(at)),
        None => "no position".to_owned(),
    };
    let evidence = format!(
        "{}: {last}, {} in use, {} spare, {}",
        facts.dir.display(),
        counted(stat.segments, "segment"),
        stat.spares,
        bytes(stat.bytes)
    );
    Finding::ok("the log is there", evidence)
}

/// Of a log whose oldest segments were removed.
fn judge_floor(facts: &Facts, first: Position) -> Finding {
    let dir = facts.dir.display();
    let evidence = format!("{dir}: the log begins with position {first}");
    if facts.archive {
        return Finding::ok("older segments were removed, and are in the archive", evidence);
    }
    let what =
        "older segments were removed, and archive.url is not set: the index cannot be made anew";
    Finding::warning(what, evidence).next("stemedb config print")
}

fn judge_segment(facts: &Facts, checked: &Checked) -> Vec<Finding> {
    let file = &checked.file;
    let report = match &checked.outcome {
        Ok(report) => report,
        Err(why) => {
            let what = format!("{file} cannot be read");
            return vec![Finding::critical(what, why).next(&facts.verify)];
        }
    };
    if report.findings.is_empty() {
        let records = report.segments.iter().map(|segment| segment.records).sum();
        let evidence = format!("{file}: {}, every byte proved", counted(records, "record"));
        return vec![Finding::ok("a segment is whole", evidence)];
    }
    let judged = report.findings.iter().map(|found| {
        let evidence =
            format!("{file}, byte {}: {}: {}", found.offset, found.kind.name(), found.problem);
        match found.kind {
            // On its way while it was looked at.
            DamageKind::TornTail if facts.running => {
                Finding::ok("a segment is whole up to what is on its way", evidence)
            }
            DamageKind::TornTail => {
                let what = "the last group was never durable; the next start sets it aside";
                Finding::note(what, evidence)
            }
            DamageKind::Lost => Finding::note("a repair gave up records", evidence),
            DamageKind::Corrupt
            | DamageKind::Missing
            | DamageKind::Foreign
            | DamageKind::Swapped
            | DamageKind::TooNew => {
                let what =
                    "the log is damaged: copy the folders wal and index before anything else";
                Finding::critical(what, evidence).next(&facts.verify)
            }
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use stemedb_log::Finding as Damage;
    use stemedb_model::{Millis, Timeline};

    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    const OURS: LogId = LogId([7; 16]);

    fn facts(marker: Option<LogId>, log: Option<StatReport>, kinds: &[DamageKind]) -> Facts {
        let damage = |kind: &DamageKind| Damage {
            file: "segment.001.wal".into(),
            offset: 4096,
            kind: *kind,
            first: Position(1),
            last: Position(2),
            acknowledged: None,
            problem: "a sector does not match its checksum".into(),
        };
        let findings = kinds.iter().map(damage).collect();
        let (segments, unknown) = (Vec::new(), Vec::new());
        let report = VerifyReport { segments, findings, unknown, first_kept: None };
        let checked = Checked { file: "segment.001.wal".into(), outcome: Ok(report) };
        Facts {
            dir: "/d/wal".into(),
            marker: Ok(marker),
            checked: if log.is_some() { vec![checked] } else { Vec::new() },
            log: Ok(log),
            running: false,
            archive: false,
            verify: "stemedb wal verify /d/wal".into(),
        }
    }

    fn stat() -> StatReport {
        StatReport {
            identity: Some((OURS, Timeline([1; 16]))),
            last: Some((Position(7), Millis(0))),
            segments: 1,
            ..StatReport::default()
        }
    }

    #[test]
    fn a_log_is_there_and_ours_and_whole_or_not() {
        let trimmed = || StatReport { first_kept: Some(Position(5)), ..stat() };
        let aside = || StatReport { rejected: vec!["segment.001.wal.rejected".into()], ..stat() };
        for (facts, expected) in [
            (facts(None, None, &[]), vec![Note]),
            (facts(Some(OURS), None, &[]), vec![Critical]),
            (facts(Some(OURS), Some(stat()), &[]), vec![Fine, Fine]),
            (facts(None, Some(stat()), &[]), vec![Fine, Fine]),
            (facts(None, Some(trimmed()), &[]), vec![Fine, Warning, Fine]),
            (Facts { archive: true, ..facts(None, Some(trimmed()), &[]) }, vec![Fine, Fine, Fine]),
            (facts(Some(LogId([8; 16])), Some(stat()), &[]), vec![Critical, Fine]),
            (facts(Some(OURS), Some(aside()), &[]), vec![Fine, Fine, Note]),
            (facts(Some(OURS), Some(stat()), &[DamageKind::TornTail]), vec![Fine, Note]),
            (facts(Some(OURS), Some(stat()), &[DamageKind::Lost]), vec![Fine, Note]),
            (facts(Some(OURS), Some(stat()), &[DamageKind::Corrupt]), vec![Fine, Critical]),
            (facts(Some(OURS), Some(stat()), &[DamageKind::TooNew]), vec![Fine, Critical]),
            (
                Facts { running: true, ..facts(None, Some(stat()), &[DamageKind::TornTail]) },
                vec![Fine, Fine],
            ),
            (Facts { checked: Vec::new(), ..facts(None, Some(stat()), &[]) }, vec![Fine, Note]),
            (Facts { log: Err("detached".into()), ..facts(None, None, &[]) }, vec![Note]),
            (
                Facts { marker: Err("refused".into()), ..facts(None, Some(stat()), &[]) },
                vec![Note, Fine, Fine],
            ),
        ] {
            assert_eq!(severities(&judge(&facts)), expected, "{:?} {:?}", facts.marker, facts.log);
        }
    }
}
