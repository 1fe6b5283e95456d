//! `wal repair`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stemedb_log::{HeaderOrigin, LogError, RepairOptions, RepairReport};
use stemedb_model::{LogId, Position, Timeline};

use crate::context::Context;
use crate::database;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The damaged segment, in the folder of its log; one that is missing there is made anew.
    #[arg(long, value_name = "FILE")]
    segment: PathBuf,
    /// Where the repaired segment goes; nothing may be there. Dropped bytes go to
    /// OUTPUT.rejected.
    #[arg(long, value_name = "FILE", required_unless_present = "plan")]
    output: Option<PathBuf>,
    /// Keep only groups that end at or before this byte of the segment.
    #[arg(long, value_name = "BYTES")]
    truncate_at: Option<u64>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
    /// Give up records that were acknowledged, or may have been.
    #[arg(long)]
    accept_loss: bool,
    /// A position that is known to have been acknowledged: what the refused start names.
    #[arg(long, value_name = "POSITION")]
    witness: Option<u64>,
    /// Folder of everything the node keeps, if the segment is not in it: says which database this
    /// is where no header does.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn repair(args: &Args, context: &Context) -> Result<(), Failure> {
    let options = RepairOptions {
        segment: args.segment.clone(),
        output: match &args.output {
            Some(output) => output.clone(),
            // Of a plan: named, never made.
            None => repaired_name(&args.segment),
        },
        truncate_at: args.truncate_at,
        plan: args.plan,
        accept_loss: args.accept_loss,
        witness: args.witness.map(Position),
        identity: identity(args)?,
        tool: concat!("stemedb ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let report = stemedb_log::repair(&context.env, &options).map_err(cannot(&args.segment))?;
    if context.json {
        context.print_json(&report_json(&report))?;
    } else {
        context.print(&report_text(&report, &options))?;
    }
    if report.refused {
        return Err(Failure::no(format!("{}: nothing was written", given_up(&report).join("; ")))
            .hint("restore it from the archive with `stemedb wal restore`, or from a backup, or accept the loss \
                   with --accept-loss"));
    }
    if let Some(written) = &report.written {
        context.say(&next(&args.segment, &written.output, &report));
    }
    Ok(())
}

/// `segment.003.wal` → `segment.003.wal.repaired`.
fn repaired_name(segment: &Path) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(".repaired");
    name.into()
}

/// Which database the segment is of, if the node knows that it is or may be in.
fn identity(args: &Args) -> Result<Option<(LogId, Timeline)>, Failure> {
    if let Some(dir) = &args.data_dir {
        return database::read_marker(&dir.join("node"));
    }
    // Only asked for a header that is gone: what cannot be read here is no reason to stop.
    Ok(beside(&args.segment))
}

/// The database of the node in whose folder of the log a segment is.
pub(super) fn beside(segment: &Path) -> Option<(LogId, Timeline)> {
    let folder = match segment.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let wal = folder.canonicalize().ok()?;
    database::read_marker(&wal.parent()?.join("node")).ok().flatten()
}

fn cannot(segment: &Path) -> impl Fn(LogError) -> Failure {
    let segment = segment.display().to_string();
    move |error| Failure::error(format!("cannot repair {segment}")).because(error)
}

/// What an operator has to accept, a sentence each.
fn given_up(report: &RepairReport) -> Vec<String> {
    let lost = report.lost.iter().map(|lost| {
        let positions = positions(lost.first, lost.last);
        match lost.acknowledged {
            Some(true) => format!("{positions} would be lost; what was there was acknowledged"),
            _ => format!("{positions} would be lost; what was there may have been acknowledged"),
        }
    });
    let undecided = report.undecided.iter().map(|undecided| {
        format!(
            "records from position {} on may have been acknowledged, nothing tells (byte {}: {})",
            undecided.first, undecided.byte, undecided.problem
        )
    });
    lost.chain(undecided).collect()
}

pub(super) fn positions(first: Position, last: Position) -> String {
    match first == last {
        true => format!("position {first}"),
        false => format!("positions {first} to {last}"),
    }
}

fn report_text(report: &RepairReport, options: &RepairOptions) -> String {
    let mut text = format!("segment {} ({})\n", report.number, report.file);
    match &report.header {
        HeaderOrigin::Kept => {}
        HeaderOrigin::Rebuilt(from) => text.push_str(&format!("  header    made again: {from}\n")),
        HeaderOrigin::Missing(from) => text.push_str(&format!("  missing   made anew: {from}\n")),
    }
    text.push_str(&format!("  kept      {} records in {} groups\n", report.records, report.groups));
    for lost in &report.lost {
        text.push_str(&format!(
            "  lost      {}  (byte {}: {}{})\n",
            positions(lost.first, lost.last),
            lost.byte,
            lost.problem,
            match lost.acknowledged {
                Some(true) => "; acknowledged",
                _ => "; nothing tells whether acknowledged",
            }
        ));
    }
    for lost in &report.lost_before {
        text.push_str(&format!(
            "  lost      {}  (given up by {} before)\n",
            positions(lost.first, lost.last),
            lost.tool
        ));
    }
    if let Some(undecided) = &report.undecided {
        text.push_str(&format!(
            "  undecided from position {}  (byte {}: {}); later records will have its number\n",
            undecided.first, undecided.byte, undecided.problem
        ));
    }
    let dropped: u64 = report.dropped.iter().map(|range| range.to - range.from).sum();
    if dropped > 0 {
        let ranges: Vec<String> =
            report.dropped.iter().map(|range| format!("{} to {}", range.from, range.to)).collect();
        text.push_str(&format!("  dropped   {dropped} bytes: {}\n", ranges.join(", ")));
    }
    if report.unreadable_sectors > 0 {
        text.push_str(&format!(
            "  unread    {} sectors that the disk did not give\n",
            report.unreadable_sectors
        ));
    }
    if report.nothing_wrong() {
        text.push_str("  nothing is wrong with it\n");
    }
    match &report.written {
        Some(written) => {
            text.push_str(&format!("written to {}\n", written.output.display()));
            if let Some(rejected) = &written.rejected {
                text.push_str(&format!("dropped bytes in {}\n", rejected.display()));
            }
        }
        None if options.plan && report.needs_acceptance() => {
            text.push_str("plan only: nothing was written; it needs --accept-loss\n");
        }
        None if options.plan => text.push_str("plan only: nothing was written\n"),
        None => {}
    }
    text
}

/// What is left to do.
fn next(segment: &Path, output: &Path, report: &RepairReport) -> String {
    let dir = segment.parent().unwrap_or(Path::new("."));
    let mut text = String::from("next: with the server stopped");
    if output != segment {
        text.push_str(&format!(
            ", keep {0} elsewhere, move {1} to {0}",
            segment.display(),
            output.display()
        ));
    }
    text.push_str(&format!(", check with: stemedb wal verify {}", dir.display()));
    if report.lost.iter().any(|lost| lost.first == Position(1)) {
        text.push_str(
            "\nposition 1 is the record that names the root key: without it the database answers and \
             takes no more records; restore that segment if you can",
        );
    }
    if !report.lost.is_empty() || report.undecided.is_some() {
        text.push_str(
            "\nthen rebuild the index, which may still hold what was lost: stemedb admin reindex\n\
             a lost position reads as error `lost` (HTTP 410); the same record sent again gets a \
             new position",
        );
    }
    text
}

fn report_json(report: &RepairReport) -> Value {
    let (header, from) = match &report.header {
        HeaderOrigin::Kept => ("kept", None),
        HeaderOrigin::Rebuilt(from) => ("rebuilt", Some(from)),
        HeaderOrigin::Missing(from) => ("missing", Some(from)),
    };
    json!({
        "segment": report.file,
        "number": report.number,
        "header": header,
        "header_from": from,
        "groups": report.groups,
        "records": report.records,
        "first": report.positions.map(|(first, _)| first.0),
        "last": report.positions.map(|(_, last)| last.0),
        "lost": report.lost.iter().map(|lost| json!({
            "first": lost.first.0,
            "last": lost.last.0,
            "acknowledged": lost.acknowledged,
            "byte": lost.byte,
            "problem": lost.problem,
        })).collect::<Vec<_>>(),
        "lost_before": report.lost_before.iter().map(|lost| json!({
            "first": lost.first.0,
            "last": lost.last.0,
            "by": lost.tool,
        })).collect::<Vec<_>>(),
        "undecided": report.undecided.as_ref().map(|undecided| json!({
            "first": undecided.first.0,
            "byte": undecided.byte,
            "problem": undecided.problem,
        })),
        "dropped": report.dropped.iter().map(|range| json!({
            "from": range.from,
            "to": range.to,
        })).collect::<Vec<_>>(),
        "unreadable_sectors": report.unreadable_sectors,
        "bytes": report.bytes,
        "needs_acceptance": report.needs_acceptance(),
        "refused": report.refused,
        "output": report.written.as_ref().map(|written| written.output.display().to_string()),
        "rejected": report
            .written
            .as_ref()
            .and_then(|written| written.rejected.as_ref())
            .map(|path| path.display().to_string()),
        "reindex": !report.lost.is_empty() || report.undecided.is_some(),
    })
}
