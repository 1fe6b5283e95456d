//! Is the log archived, and does the place of its archive answer?

use stemedb_model::Position;
use stemedb_remote::Noted;

use super::super::finding::Finding;
use super::super::site::Site;
use super::metrics::{all, samples};
use super::places::{Place, ask};
use super::{bytes, counted};
use crate::archive;

/// As the alert `ArchiveLagging`.
const LAG_SECONDS: f64 = 300.0;

struct Facts<'a> {
    /// `archive.url`, and what is there.
    place: Option<(&'a str, Place)>,
    /// The text of `/metrics`; `None` if no node answers.
    text: Option<Result<&'a str, &'a str>>,
    /// The last position of a log that no node has open, and how far its archive was.
    left: Option<(Position, Position)>,
    /// ` --data-dir DIR`
    here: &'a str,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let url = site.config.archive.url.as_deref();
    let text = site.answers().map(|answers| match &answers.metrics {
        Ok(text) => Ok(text.as_str()),
        Err(why) => Err(why.as_str()),
    });
    let last = site.log.as_ref().ok().and_then(|stat| stat.as_ref()?.last);
    let noted = Noted::load(&site.env, &archive::note(&site.config)).ok().flatten();
    let left = last.map(|(last, _)| (last, noted.map(|noted| noted.position).unwrap_or_default()));
    judge(&Facts { place: url.map(|url| (url, ask(site, url))), text, left, here: &site.here })
}

fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let Some((url, place)) = &facts.place else {
        let what = "the log is not archived: it is lost with this machine and its disk";
        return vec![Finding::note(what, "archive.url is not set")];
    };
    let (status, run) = (
        format!("stemedb archive status{}", facts.here),
        format!("stemedb archive run{}", facts.here),
    );
    let mut findings = vec![place.judge("the archive", url, &run)];
    match (facts.text, facts.left) {
        (Some(Ok(text)), _) => findings.extend(judge_running(text, &status)),
        (Some(Err(why)), _) => {
            findings.push(Finding::unseen("how far the log is archived", why));
        }
        (None, Some((last, archived))) if archived < last => {
            let left = counted(last.0 - archived.0, "position");
            let evidence =
                format!("no node answers; the log ends at {last}, the archive at {archived}");
            let what = format!("{left} of a log that nobody writes are not archived");
            findings.push(Finding::warning(what, evidence).next(run));
        }
        (None, Some((last, _))) => {
            let evidence =
                format!("no node answers; the archive ended where the log does, at {last}");
            findings.push(Finding::ok("all of the log is archived", evidence));
        }
        (None, None) => {
            findings.push(Finding::unseen("how far the log is archived", "no node answers"));
        }
    }
    findings
}

fn judge_running(text: &str, status: &str) -> Vec<Finding> {
    let samples = samples(text);
    let one = |name: &str| all(&samples, name).map(|sample| sample.value).next();
    let state = all(&samples, "stemedb_archive_state").find(|sample| sample.value > 0.0);
    let Some(state) = state else {
        let what = "the node does not archive, although archive.url is set";
        let evidence = "it exports no stemedb_archive_state: it was started without";
        return vec![Finding::warning(what, evidence).next("systemctl restart stemedb-api")];
    };
    let value = |name: &str| one(name).unwrap_or_default();
    let state = state.labels.split('"').nth(1).unwrap_or_default();
    let lag = value("stemedb_archive_lag_seconds");
    let evidence = format!(
        "{state}; archived up to {}, {} behind in positions, {} and {lag:.0} s",
        value("stemedb_wal_archived_position"),
        value("stemedb_archive_lag_positions"),
        bytes(value("stemedb_archive_lag_bytes") as u64),
    );
    let mut findings = Vec::new();
    if state == "stopped" {
        let what = "the archiver has stopped: it goes on when somebody has looked";
        findings.push(Finding::critical(what, evidence.clone()).next(status));
    } else if lag > LAG_SECONDS {
        let what = "the archive does not keep up with the log";
        findings.push(Finding::warning(what, evidence.clone()).next(status));
    }
    let problems = value("stemedb_archive_problems");
    if problems > 0.0 {
        let what = "something of the archive is missing and could not be put right";
        let evidence = format!("stemedb_archive_problems is {problems}");
        findings.push(Finding::warning(what, evidence).next(status));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("the archive keeps up with the log", evidence));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    const RUNNING: &str = "stemedb_archive_state{state=\"running\"} 1\n\
                           stemedb_archive_state{state=\"stopped\"} 0\n";

    fn found(place: Place, text: Option<&str>, left: Option<(u64, u64)>) -> Vec<Finding> {
        judge(&Facts {
            place: Some(("/mnt/archive", place)),
            text: text.map(Ok),
            left: left.map(|(last, archived)| (Position(last), Position(archived))),
            here: " --data-dir /d",
        })
    }

    #[test]
    fn the_place_and_the_lag() {
        let stopped = "stemedb_archive_state{state=\"running\"} 0\n\
                       stemedb_archive_state{state=\"stopped\"} 1\n";
        let with = |more: &str| format!("{RUNNING}{more}");
        for (place, text, left, expected) in [
            (Place::Holds, Some(RUNNING.to_owned()), None, vec![Fine, Fine]),
            (Place::Empty, Some(RUNNING.to_owned()), None, vec![Warning, Fine]),
            (Place::Silent("refused".into()), Some(RUNNING.to_owned()), None, vec![Warning, Fine]),
            (Place::Holds, Some(String::new()), None, vec![Fine, Warning]),
            (Place::Holds, Some(stopped.to_owned()), None, vec![Fine, Critical]),
            (Place::Holds, Some(with("stemedb_archive_lag_seconds 300\n")), None, vec![Fine, Fine]),
            (
                Place::Holds,
                Some(with("stemedb_archive_lag_seconds 301\n")),
                None,
                vec![Fine, Warning],
            ),
            (Place::Holds, Some(with("stemedb_archive_problems 1\n")), None, vec![Fine, Warning]),
            (Place::Holds, None, Some((7, 7)), vec![Fine, Fine]),
            (Place::Holds, None, Some((7, 6)), vec![Fine, Warning]),
            (Place::Holds, None, None, vec![Fine, Note]),
        ] {
            let found = found(place, text.as_deref(), left);
            assert_eq!(severities(&found), expected, "{found:?}");
        }
        let nothing = Facts { place: None, text: None, left: None, here: "" };
        assert_eq!(severities(&judge(&nothing)), [Note]);
    }
}
