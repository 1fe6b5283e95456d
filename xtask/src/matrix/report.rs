//! What a run found, for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::ValueEnum;

use super::FILE_SYSTEMS;
use super::cells::{Fault, fs_name};
use super::scenario::{Report, Verdict};

/// One red cell, with all that is known of it.
pub(crate) fn evidence(report: &Report) -> String {
    let cell = &report.cell;
    let mut text =
        format!("RED {} on {} at {}\n", cell.fault.words(), fs_name(cell.fs), cell.moment.name());
    for words in &report.red {
        let _ = writeln!(text, "  forbidden: {words}");
    }
    for words in &report.story {
        let _ = writeln!(text, "    {words}");
    }
    let _ = writeln!(text, "  again: {}", cell.command());
    text
}

/// The figures of one cell: acknowledged, not written, indeterminate (of these, there in the end).
fn figures(report: &Report) -> String {
    let mut text = format!("{}/{}/{}", report.acks, report.not_written, report.indeterminate);
    if report.settled_there > 0 {
        let _ = write!(text, "({})", report.settled_there);
    }
    if let Some(gap) = report.gap
        && matches!(report.verdict, Verdict::Healed | Verdict::Resumed(_))
    {
        let _ = write!(text, ", {gap:.2} s");
    }
    if let Some(note) = &report.note {
        let _ = write!(text, ", {note}");
    }
    text
}

/// One row a fault, one column a file system, one line a moment.
pub(crate) fn table(reports: &[Report]) -> String {
    let mut text = String::from("| fault |");
    for fs in FILE_SYSTEMS {
        let _ = write!(text, " {} |", fs_name(fs));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(FILE_SYSTEMS.len()));
    text.push('\n');
    for fault in Fault::value_variants() {
        if !reports.iter().any(|report| report.cell.fault == *fault) {
            continue;
        }
        let _ = write!(text, "| {} |", fault.words());
        for fs in FILE_SYSTEMS {
            let mut here: Vec<&Report> = reports
                .iter()
                .filter(|report| report.cell.fault == *fault && report.cell.fs == fs)
                .collect();
            here.sort_by_key(|report| report.cell.moment as u8);
            let _ = write!(text, " {} |", field(&here));
        }
        text.push('\n');
    }
    text
}

fn field(reports: &[&Report]) -> String {
    let mut lines: Vec<String> = Vec::new();
    // Moments without a figure share a line.
    let mut without: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for report in reports {
        let moment = report.cell.moment.name();
        match &report.verdict {
            Verdict::Impossible(_) | Verdict::Absent(_) => {
                without.entry(report.verdict.words()).or_default().push(moment);
            }
            verdict => lines.push(format!("{moment}: {} {}", verdict.words(), figures(report))),
        }
    }
    lines.extend(
        without.into_iter().map(|(words, moments)| format!("{}: {words}", moments.join(", "))),
    );
    lines.join("<br>")
}

pub(crate) fn summary(reports: &[Report], seed: u64) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for report in reports {
        let kind = match report.verdict {
            Verdict::Healed => "healed",
            Verdict::Resumed(_) => "stopped and resumed",
            Verdict::Stopped(_) => "stopped",
            Verdict::Refused => "stopped at the start",
            Verdict::Detected => "detected",
            Verdict::Told => "indeterminate told",
            Verdict::Unharmed => "unharmed",
            Verdict::Impossible(_) => "impossible",
            Verdict::Absent(_) => "absent",
            Verdict::Red => "RED",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let sum = |figure: fn(&Report) -> usize| reports.iter().map(figure).sum::<usize>();
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let took: Duration = reports.iter().map(|report| report.took).sum();
    let slowest = reports.iter().map(|report| report.slowest).fold(0.0, f64::max);
    format!(
        "fault matrix, seed {seed}: {} cells: {}; {} claims acknowledged, {} told not written, {} \
         told indeterminate, {} unanswered; slowest answer {slowest:.1} s; {:.0} min one after the other",
        reports.len(),
        kinds.join(", "),
        sum(|report| report.acks),
        sum(|report| report.not_written),
        sum(|report| report.indeterminate),
        sum(|report| report.unanswered),
        took.as_secs_f64() / 60.0,
    )
}

/// The page in the documentation.
pub(crate) fn page(reports: &[Report], seed: u64, summary: &str) -> String {
    format!(
        "{}{}\n{summary}.\n",
        HEAD.replace("SEED_OF_THE_RUN", &seed.to_string()),
        table(reports)
    )
}

const HEAD: &str = include_str!("page.md");
