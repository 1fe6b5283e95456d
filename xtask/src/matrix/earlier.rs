//! Results of an earlier run, so that only what is red or missing in it is run again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use super::cells::{Cell, Fault, Moment, fs_name};
use super::scenario::{Report, Verdict};
use crate::mount::FileSystem;

/// The cells in the raw results that ended well, as they were.
pub(super) fn load(path: &Path) -> Result<Vec<Report>> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read the results of an earlier run, {}", path.display())
    })?;
    let mut reports = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let report = parse(line).with_context(|| format!("{}, line {}", path.display(), n + 1))?;
        reports.extend(report);
    }
    Ok(reports)
}

/// `None`: red, or not run at all.
fn parse(line: &str) -> Result<Option<Report>> {
    let value: Value = serde_json::from_str(line)?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let count = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default() as usize;
    let seconds = |key: &str| value.get(key).and_then(Value::as_f64);
    let fs = [FileSystem::Ext4, FileSystem::Ext4Journal, FileSystem::Xfs, FileSystem::Btrfs];
    let cell = Cell {
        fault: Fault::from_str(text("fault"), false).map_err(anyhow::Error::msg)?,
        fs: fs.into_iter().find(|fs| fs_name(*fs) == text("fs")).context("no such file system")?,
        moment: Moment::from_str(text("moment"), false).map_err(anyhow::Error::msg)?,
        run_seed: value.get("seed").and_then(Value::as_u64).context("no seed")?,
    };
    let Some(verdict) = verdict(text("verdict"))? else { return Ok(None) };
    Ok(Some(Report {
        acks: count("acks"),
        not_written: count("not_written"),
        indeterminate: count("indeterminate"),
        unanswered: count("unanswered"),
        settled_there: count("settled_there"),
        gap: seconds("gap_s"),
        slowest: seconds("slowest_s").unwrap_or_default(),
        note: value.get("note").and_then(Value::as_str).map(str::to_owned),
        took: Duration::from_secs_f64(seconds("took_s").unwrap_or_default()),
        ..Report::without(cell, verdict)
    }))
}

fn verdict(words: &str) -> Result<Option<Verdict>> {
    let code = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
    Ok(Some(match words {
        "healed" => Verdict::Healed,
        "stopped(start)" => Verdict::Refused,
        "detected" => Verdict::Detected,
        "indeterminate told" => Verdict::Told,
        "unharmed" => Verdict::Unharmed,
        // What is impossible is known without running it.
        _ if words == "RED" || words.starts_with("impossible") || words.starts_with("absent") => {
            return Ok(None);
        }
        _ => match words.strip_prefix("stopped(") {
            Some(rest) if rest.ends_with("resumed") => Verdict::Resumed(code(rest)),
            Some(rest) => Verdict::Stopped(code(rest)),
            None => bail!("no such verdict: {words}"),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_come_back_as_they_were_written() {
        let all = [
            Verdict::Healed,
            Verdict::Resumed("wal_unavailable".into()),
            Verdict::Stopped("index_failed".into()),
            Verdict::Refused,
            Verdict::Detected,
            Verdict::Told,
            Verdict::Unharmed,
        ];
        for one in all {
            assert_eq!(verdict(&one.words()).unwrap(), Some(one));
        }
        for again in [Verdict::Red, Verdict::Impossible("so"), Verdict::Absent("not yet")] {
            assert_eq!(verdict(&again.words()).unwrap(), None);
        }
        assert!(verdict("fine").is_err());
    }

    #[test]
    fn a_line_comes_back_as_it_was_written() {
        let cell = Cell {
            fault: Fault::TornThenEio,
            fs: FileSystem::Ext4Journal,
            moment: Moment::Seal,
            run_seed: 77,
        };
        let report = Report {
            acks: 5,
            gap: Some(0.25),
            note: Some("so".into()),
            ..Report::without(cell, Verdict::Stopped("wal_unavailable".into()))
        };
        let found = parse(&report.json().to_string()).unwrap().unwrap();
        assert_eq!(found.json(), report.json());
    }
}
