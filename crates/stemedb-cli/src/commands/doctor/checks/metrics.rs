//! What the node has counted since it was started.

use super::super::finding::Finding;
use super::super::site::Site;

/// A counter that should be 0, what it says if it is not, and how bad that is.
struct Counter {
    name: &'static str,
    what: &'static str,
    say: fn(&'static str, String) -> Finding,
}

const COUNTERS: &[Counter] = &[
    Counter {
        name: "stemedb_wal_scrub_damage_total",
        what: "a sealed segment was read again and is damaged: copy the folders before anything else",
        say: Finding::critical,
    },
    Counter {
        name: "stemedb_wal_fsync_errors_total",
        what: "writes or syncs of the log have failed; what was acknowledged is durable",
        say: Finding::warning,
    },
    Counter {
        name: "stemedb_wal_write_errors_total",
        what: "the medium has refused the log other things than syncs",
        say: Finding::warning,
    },
    Counter {
        name: "stemedb_storage_operation_errors_total",
        what: "operations of log or index have failed",
        say: Finding::warning,
    },
    Counter {
        name: "stemedb_admin_audit_failures_total",
        what: "acts of administrators could not be taken down",
        say: Finding::warning,
    },
    Counter {
        name: "stemedb_audit_dropped_total",
        what: "reads were answered and not taken down",
        say: Finding::note,
    },
    Counter {
        name: "stemedb_wal_repack_errors_total",
        what: "sealed segments could not be packed: they stay as long as they are",
        say: Finding::note,
    },
];

/// As the alert `WALFsyncSlow`.
const SLOW_SECONDS: f64 = 0.1;
/// Of the open files that the process may have.
const FILES_HIGH: f64 = 0.8;

struct Facts<'a> {
    /// The text of `/metrics`; `None` if no node answers.
    text: Option<Result<&'a str, &'a str>>,
    verify: String,
    status: String,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let text = site.answers().map(|answers| match &answers.metrics {
        Ok(text) => Ok(text.as_str()),
        Err(why) => Err(why.as_str()),
    });
    let verify = format!("stemedb wal verify{}", site.here);
    judge(&Facts { text, verify, status: site.admin("status") })
}

fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let unseen = |why: &str| vec![Finding::unseen("what the node has counted", why)];
    let samples = match facts.text {
        None => return unseen("no node answers"),
        Some(Err(why)) => return unseen(why),
        Some(Ok(text)) => samples(text),
    };
    let mut findings = Vec::new();
    for counter in COUNTERS {
        let sum: f64 = all(&samples, counter.name).map(|sample| sample.value).sum();
        if sum > 0.0 {
            let finding = (counter.say)(counter.what, format!("{} is {sum}", counter.name));
            let damaged = counter.name == "stemedb_wal_scrub_damage_total";
            findings.push(finding.next(if damaged { &facts.verify } else { &facts.status }));
        }
    }
    let slow = all(&samples, "stemedb_wal_fsync_duration_seconds")
        .find(|sample| sample.labels.contains("quantile=\"0.99\""))
        .filter(|sample| sample.value > SLOW_SECONDS);
    if let Some(slow) = slow {
        let evidence = format!(
            "one sync in a hundred of the last minute took over {:.0} ms",
            slow.value * 1e3
        );
        findings.push(Finding::warning("the disk is slow", evidence).next("iostat -x 1 5"));
    }
    let one = |name: &str| all(&samples, name).map(|sample| sample.value).next();
    if let (Some(open), Some(max)) = (one("process_open_fds"), one("process_max_fds"))
        && open > max * FILES_HIGH
    {
        let evidence = format!("process_open_fds is {open}, process_max_fds {max}");
        let what = "the node is about to run out of open files";
        findings.push(Finding::critical(what, evidence).next(&facts.status));
    }
    if findings.is_empty() {
        let evidence = format!("{} counters are 0", COUNTERS.len());
        findings.push(Finding::ok("the node has counted no failure since its start", evidence));
    }
    findings
}

pub(super) struct Sample<'a> {
    name: &'a str,
    pub(super) labels: &'a str,
    pub(super) value: f64,
}

/// Lines `name{labels} value`; those of no number, which a summary without samples has, are none.
pub(super) fn samples(text: &str) -> Vec<Sample<'_>> {
    let sample = |line: &'_ str| -> Option<(usize, f64)> {
        let end = line.rfind(' ')?;
        let value: f64 = line.get(end + 1..)?.parse().ok()?;
        (!line.starts_with('#') && value.is_finite()).then_some((end, value))
    };
    let lines = text.lines();
    lines
        .filter_map(|line| {
            let (end, value) = sample(line)?;
            let series = line.get(..end)?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(Sample { name, labels, value })
        })
        .collect()
}

pub(super) fn all<'a>(
    samples: &'a [Sample<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a Sample<'a>> {
    samples.iter().filter(move |sample| sample.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn counters_and_levels() {
        for (text, expected) in [
            ("", vec![Fine]),
            ("# HELP stemedb_wal_scrub_damage_total 1\n", vec![Fine]),
            ("stemedb_wal_scrub_damage_total 1\n", vec![Critical]),
            (
                "stemedb_wal_fsync_errors_total{segment=\"1\"} 0\n\
                 stemedb_wal_fsync_errors_total{segment=\"2\"} 1\n",
                vec![Warning],
            ),
            ("stemedb_audit_dropped_total 3\n", vec![Note]),
            ("stemedb_wal_fsync_duration_seconds{quantile=\"0.99\"} 0.1\n", vec![Fine]),
            ("stemedb_wal_fsync_duration_seconds{quantile=\"0.99\"} 0.11\n", vec![Warning]),
            ("stemedb_wal_fsync_duration_seconds{quantile=\"0.999\"} 9\n", vec![Fine]),
            ("stemedb_wal_fsync_duration_seconds{quantile=\"0.99\"} NaN\n", vec![Fine]),
            ("process_open_fds 80\nprocess_max_fds 100\n", vec![Fine]),
            ("process_open_fds 81\nprocess_max_fds 100\n", vec![Critical]),
        ] {
            let facts = Facts {
                text: Some(Ok(text)),
                verify: "stemedb wal verify --data-dir /d".into(),
                status: "stemedb admin status".into(),
            };
            assert_eq!(severities(&judge(&facts)), expected, "{text}");
        }
    }

    #[test]
    fn every_counter_is_one_that_the_monitoring_page_lists() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/monitoring.md");
        let page = crate::files::read_text(page.as_ref()).unwrap();
        let names = COUNTERS.iter().map(|counter| counter.name);
        for name in names.chain([
            "stemedb_wal_fsync_duration_seconds",
            "process_open_fds",
            "process_max_fds",
        ]) {
            assert!(page.contains(&format!("\n| `{name}` |")), "{name}");
        }
    }
}
