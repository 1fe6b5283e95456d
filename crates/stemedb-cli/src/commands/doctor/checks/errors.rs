//! What the kernel and the file systems say of errors, of the disks under the folders and of no others.

use std::time::Duration;

use stemedb_model::Millis;

use super::super::finding::Finding;
use super::super::machine::block::{Counted, counted as counted_by};
use super::super::machine::kernel_log::{self, Message, trouble};
use super::super::machine::text;
use super::super::site::Site;
use super::counted;
use crate::time;

/// What is older was probably seen to; it is told all the same.
const RECENT: Duration = Duration::from_secs(24 * 3600);

struct Facts {
    name: String,
    /// What is mounted, for commands.
    source: String,
    kind: String,
    /// Lines about these disks, or why there are none to read.
    lines: Result<Vec<Message>, String>,
    counted: Option<Counted>,
    /// Since the machine started.
    up: Duration,
    now: Millis,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    // One reading for all of them.
    let log = kernel_log::read().map_err(|error| format!("/dev/kmsg: {error}"));
    let up = text("/proc/uptime").and_then(|text| text.split(' ').next()?.parse().ok());
    let up = Duration::try_from_secs_f64(up.unwrap_or(0.0)).unwrap_or_default();
    let mut findings = Vec::new();
    for volume in site.volumes().iter().filter(|volume| !volume.only("data")) {
        let Some((device, stack)) = volume.stack() else { continue };
        findings.extend(judge(&Facts {
            name: volume.name(),
            source: volume.mount.source.clone(),
            kind: volume.mount.kind.clone(),
            lines: match &log {
                Ok(log) => Ok(trouble(log, &stack.names)),
                Err(why) => Err(why.clone()),
            },
            counted: counted_by(&volume.mount.kind, &device),
            up,
            now: Millis(site.env.clock.now_ms()),
        }));
    }
    findings
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![judge_lines(facts)];
    findings.extend(judge_counted(facts));
    findings
}

fn judge_lines(facts: &Facts) -> Finding {
    let name = &facts.name;
    let lines = match &facts.lines {
        Ok(lines) => lines,
        Err(why) => {
            let what = format!("what the kernel said of the disks under {name}");
            return Finding::unseen(what, format!("{why}; root may read it"));
        }
    };
    let Some(newest) = lines.last() else {
        let evidence = format!("{name}: no such line that the kernel still has");
        return Finding::ok(
            "the kernel tells of no error of the disk or the file system",
            evidence,
        );
    };
    let age = facts.up.saturating_sub(newest.at);
    let evidence = format!(
        "{name}: {}, the newest {} ago: {}",
        counted(lines.len() as u64, "line"),
        ago(age),
        newest.text
    );
    let what = "the kernel tells of errors of the disk or the file system";
    let next = "dmesg --ctime --level=emerg,alert,crit,err,warn";
    match age <= RECENT {
        true => Finding::critical(what, evidence).next(next),
        false => Finding::warning(what, evidence).next(next),
    }
}

fn judge_counted(facts: &Facts) -> Option<Finding> {
    let Counted { errors, last } = facts.counted.as_ref()?;
    let name = &facts.name;
    let there: Vec<String> = errors
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    if there.is_empty() {
        let evidence = format!("{name}: its own counts are 0");
        return Some(Finding::ok("the file system has counted no error", evidence));
    }
    let age = last.map(|seconds| facts.now.0 / 1000 - seconds);
    let since = match *last {
        Some(seconds) => format!(", the last at {}", time::format(Millis(seconds * 1000))),
        None => String::new(),
    };
    let evidence = format!("{name}: {}{since}", there.join(", "));
    // Checked means unmounted: the log is taken off first, or the node stopped.
    let what = format!(
        "the file system has counted errors, and is to be checked while {} is not mounted",
        facts.source
    );
    let next = match facts.kind.as_str() {
        "ext4" => format!("tune2fs -l {}", facts.source),
        _ => "dmesg --ctime --level=emerg,alert,crit,err,warn".to_owned(),
    };
    let recent = age.is_none_or(|age| age <= RECENT.as_secs().cast_signed());
    Some(match recent {
        true => Finding::critical(what, evidence).next(next),
        false => Finding::warning(what, evidence).next(next),
    })
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn recent_errors_are_critical_and_old_ones_a_warning() {
        let up = Duration::from_secs(10 * DAY);
        let at = |seconds| Message {
            level: 3,
            at: Duration::from_secs(seconds),
            text: "I/O error, dev sda".into(),
        };
        let counts = |errors, last| Some(Counted { errors: vec![("errors".into(), errors)], last });
        let now = 100 * DAY.cast_signed();
        for (lines, counted, expected) in [
            (Ok(vec![]), None, vec![Fine]),
            (Ok(vec![at(0), at(9 * DAY)]), None, vec![Critical]),
            (Ok(vec![at(0), at(9 * DAY - 1)]), None, vec![Warning]),
            (Err("/dev/kmsg: Operation not permitted".into()), None, vec![Note]),
            (Ok(vec![]), counts(0, None), vec![Fine, Fine]),
            (Ok(vec![]), counts(1, None), vec![Fine, Critical]),
            (Ok(vec![]), counts(1, Some(now - DAY.cast_signed())), vec![Fine, Critical]),
            (Ok(vec![]), counts(1, Some(now - DAY.cast_signed() - 1)), vec![Fine, Warning]),
        ] {
            let facts = Facts {
                name: "wal on /d".into(),
                source: "/dev/sda1".into(),
                kind: "ext4".into(),
                lines,
                counted,
                up,
                now: Millis(now * 1000),
            };
            assert_eq!(severities(&judge(&facts)), expected, "{:?}", facts.lines);
        }
    }

    #[test]
    fn ages() {
        for (seconds, expected) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (3 * DAY, "3 days")]
        {
            assert_eq!(ago(Duration::from_secs(seconds)), expected);
        }
    }
}
