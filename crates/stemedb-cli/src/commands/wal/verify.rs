//! `wal verify`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use stemedb_log::{DamageKind, Finding, SegmentReport, VerifyReport};

use super::{Target, removed, unreadable};
use crate::context::Context;
use crate::failure::Failure;
use crate::table::{Align, Table};

/// A check that takes no longer shows no progress.
const QUICK: Duration = Duration::from_secs(1);

pub(super) fn verify(target: &Target, context: &Context) -> Result<(), Failure> {
    let path = target.path()?;
    let report = check(&path, context)?;
    if context.json {
        for segment in &report.segments {
            context.print_json(&segment_json(segment))?;
        }
        for finding in &report.findings {
            context.print_json(&finding_json(finding))?;
        }
    } else {
        print(&report, context)?;
    }
    for name in &report.unknown {
        context.say(&format!("{name} is no file of the log"));
    }
    if let Some(first) = report.first_kept {
        context.say(removed(first).trim_end());
    }
    if report.whole() {
        return Ok(());
    }
    let damage = |one: &&Finding| !matches!(one.kind, DamageKind::TornTail | DamageKind::Lost);
    let bad: Vec<&Finding> = report.findings.iter().filter(damage).collect();
    let places = if bad.len() == 1 { "place" } else { "places" };
    let failure = Failure::no(format!("the log is damaged in {} {places}", bad.len()));
    Err(match bad.first() {
        Some(first) => failure.hint(next(&path, first)),
        None => failure,
    })
}

/// What to do about damage.
fn next(path: &Path, finding: &Finding) -> String {
    // Of a range of missing segments, the first is the first to be made.
    let name = finding.file.split(" to ").next().unwrap_or(&finding.file);
    let segment: PathBuf = if path.is_dir() { path.join(name) } else { path.to_path_buf() };
    match finding.kind {
        DamageKind::Foreign | DamageKind::Swapped => {
            format!("put the right file in the place of {name}")
        }
        DamageKind::TooNew => "use a newer build".to_owned(),
        DamageKind::Corrupt | DamageKind::Missing | DamageKind::TornTail | DamageKind::Lost => {
            format!(
                "restore it from the archive: stemedb wal restore --segment {0} --plan; or see what a \
                 repair would keep: stemedb wal repair --segment {0} --plan",
                segment.display()
            )
        }
    }
}

/// Checks, with a progress bar if it takes long.
fn check(path: &Path, context: &Context) -> Result<VerifyReport, Failure> {
    let clock = &context.env.clock;
    let begun = clock.monotonic();
    let total = length(path);
    let mut bar: Option<ProgressBar> = None;
    let mut read = 0;
    let report = stemedb_log::verify_watched(path, context.env.vfs.as_ref(), &mut |bytes| {
        read += bytes;
        if clock.monotonic().saturating_sub(begun) > QUICK {
            let bar = bar.get_or_insert_with(|| {
                let bar = context.progress(Some(total), "bytes");
                bar.set_message("check");
                bar
            });
            // What is found is looked at once more.
            bar.set_length(if read > total { 2 * total } else { total });
            bar.set_position(read);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    report.map_err(unreadable(path))
}

/// Bytes of a file, or of the files in a folder.
fn length(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| file.metadata().ok()).map(|found| found.len());
    let own =
        std::fs::metadata(path).map_or(0, |found| if found.is_dir() { 0 } else { found.len() });
    sizes.sum::<u64>() + own
}

fn print(report: &VerifyReport, context: &Context) -> Result<(), Failure> {
    let mut table = Table::new([
        ("segment", Align::Left),
        ("records", Align::Right),
        ("positions", Align::Left),
        ("bytes", Align::Right),
        ("first bad byte", Align::Right),
        ("state", Align::Left),
    ]);
    for segment in &report.segments {
        let positions = segment.positions;
        table.row([
            segment.file.clone(),
            segment.records.to_string(),
            positions.map_or("–".into(), |(first, last)| format!("{first} to {last}")),
            segment.bytes.to_string(),
            segment.damage.map_or("–".into(), |(offset, _, _)| offset.to_string()),
            state(segment),
        ]);
    }
    context.print(&table.render())?;
    for finding in &report.findings {
        context.print(&format!(
            "{}, byte {}: {}: {}{}\n",
            finding.file,
            finding.offset,
            finding.kind.name(),
            finding.problem,
            acknowledged(finding.acknowledged),
        ))?;
    }
    Ok(())
}

fn state(segment: &SegmentReport) -> String {
    match segment.damage {
        Some((_, kind, known)) => format!("{}{}", kind.name(), acknowledged(known)),
        None if segment.spare => "spare".into(),
        None => "whole".into(),
    }
}

fn acknowledged(known: Option<bool>) -> &'static str {
    match known {
        Some(true) => " (acknowledged records are affected)",
        Some(false) => " (never durable)",
        None => " (nothing tells whether it was acknowledged)",
    }
}

fn segment_json(segment: &SegmentReport) -> Value {
    json!({
        "segment": segment.file,
        "number": segment.number,
        "spare": segment.spare,
        "log_id": segment.identity.map(|(log_id, _)| log_id.to_string()),
        "records": segment.records,
        "groups": segment.groups,
        "first": segment.positions.map(|(first, _)| first.0),
        "last": segment.positions.map(|(_, last)| last.0),
        "bytes": segment.bytes,
        "entry_bytes": segment.entry_bytes,
        "first_bad_byte": segment.damage.map(|(offset, _, _)| offset),
        "damage": segment.damage.map(|(_, kind, _)| kind.name()),
        "acknowledged": segment.damage.and_then(|(_, _, known)| known),
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "finding": finding.kind.name(),
        "segment": finding.file,
        "byte": finding.offset,
        "first": finding.first.0,
        "last": finding.last.0,
        "acknowledged": finding.acknowledged,
        "problem": finding.problem,
    })
}
