//! `wal`: look into the log. Reads only, beside a running server too.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use stemedb_log::{DamageKind, DumpItem, Finding, Group, LogError, SegmentReport};
use stemedb_model::{Position, Record};

use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::time;

/// Check and show the write-ahead log. Never writes; works beside a running server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb wal verify --data-dir ./stemedb-data
  stemedb wal dump ./stemedb-data/wal/segment.001.wal --from 10 --to 20
  stemedb wal stat --json")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Check every byte: exit 0 whole, 1 damage, 2 could not check.
    ///
    /// Whole up to a tail that was never durable is whole.
    #[command(after_help = "Examples:
  stemedb wal verify ./stemedb-data/wal
  stemedb-wal-verify --file ./stemedb-data/wal/segment.001.wal")]
    Verify(Target),
    /// Show segments, groups and records in order, also behind damage.
    #[command(after_help = "Examples:\n  stemedb wal dump ./stemedb-data/wal | head")]
    Dump {
        #[command(flatten)]
        target: Target,
        /// First position.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last position.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        to: u64,
        /// Show blocks and frames instead of groups and records.
        #[arg(long)]
        raw: bool,
    },
    /// Count segments and bytes, find the last position, without reading all of it.
    #[command(after_help = "Examples:\n  stemedb wal stat --data-dir ./stemedb-data")]
    Stat(Target),
}

#[derive(Debug, clap::Args)]
struct Target {
    /// A segment, or the folder of the log; the configured one if not given.
    path: Option<PathBuf>,
    /// The same under the name that scripts use.
    #[arg(long, value_name = "PATH", conflicts_with = "path")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Target {
    fn path(&self) -> Result<PathBuf, Failure> {
        match self.path.as_ref().or(self.file.as_ref()) {
            Some(path) => Ok(path.clone()),
            None => Ok(self.place.load(Vec::new())?.config.wal_dir()),
        }
    }
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Verify(target) => verify(&target, context),
        Act::Dump { target, from, to, raw } => {
            dump(&target, (Position(from), Position(to)), raw, context)
        }
        Act::Stat(target) => stat(&target, context),
    }
}

fn unreadable(path: &std::path::Path) -> impl Fn(LogError) -> Failure {
    let path = path.display().to_string();
    move |error| {
        Failure::error(format!("cannot check {path}"))
            .because(error)
            .hint("name a segment file, or the folder of the segments")
    }
}

fn verify(target: &Target, context: &Context) -> Result<(), Failure> {
    let path = target.path()?;
    let report = stemedb_log::verify(&path, context.env.vfs.as_ref()).map_err(unreadable(&path))?;
    if context.json {
        for segment in &report.segments {
            context.print_json(&segment_json(segment))?;
        }
        for finding in &report.findings {
            context.print_json(&finding_json(finding))?;
        }
    } else {
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
    }
    for name in &report.unknown {
        context.say(&format!("{name} is no file of the log"));
    }
    if report.whole() {
        return Ok(());
    }
    let bad = report.findings.iter().filter(|one| one.kind != DamageKind::TornTail).count();
    Err(Failure::no(format!(
        "the log is damaged in {bad} place{}",
        if bad == 1 { "" } else { "s" }
    ))
    .hint("restore the segment from a backup; keep a copy of the damaged folder"))
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

fn dump(
    target: &Target,
    range: (Position, Position),
    raw: bool,
    context: &Context,
) -> Result<(), Failure> {
    let path = target.path()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    stemedb_log::dump(&path, context.env.vfs.as_ref(), range, raw, &mut |item| {
        let line = if context.json { item_json(&item).to_string() } else { item_text(&item) };
        written = writeln!(out, "{line}");
        written.is_ok()
    })
    .map_err(unreadable(&path))?;
    written?;
    out.flush()?;
    Ok(())
}

fn item_text(item: &DumpItem) -> String {
    match item {
        DumpItem::Segment { file, bytes, header } => match header {
            Some(header) => {
                format!("segment {file}  {bytes} bytes  database {}", header.log_id)
            }
            None => format!("segment {file}  {bytes} bytes  no header"),
        },
        DumpItem::Group(group) => format!(
            " group {}  {}  {} to {}  block {}  {}  chain {}",
            group.number,
            kind(group),
            group.first,
            group.last,
            group.block,
            time::format(group.recorded_at),
            group.chain,
        ),
        DumpItem::Entry(entry) => {
            let what = match Record::decode_trusted(&entry.new.body) {
                Ok(record) => record.kind().to_string(),
                Err(error) => format!("unreadable: {error}"),
            };
            let custodial = if entry.new.custodial { "  custodial" } else { "" };
            format!(
                "  {}  {what}  {}  {} bytes  by {}{custodial}",
                entry.position,
                entry.new.id,
                entry.new.body.len(),
                entry.new.principal,
            )
        }
        DumpItem::Block { byte, header, whole } => match header {
            Some(header) => format!(" block at {byte}  {header:?}  whole {whole}"),
            None => format!(" block at {byte}  no header  whole {whole}"),
        },
        DumpItem::Frame { byte, bytes, unpacked, groups, first, last, whole } => format!(
            " frame at {byte}  {bytes} bytes, {unpacked} unpacked  {groups} groups  {first} to \
             {last}  whole {whole}"
        ),
        DumpItem::Bad { byte, problem } => format!(" BAD at byte {byte}: {problem}"),
    }
}

fn item_json(item: &DumpItem) -> Value {
    match item {
        DumpItem::Segment { file, bytes, header } => json!({
            "segment": file,
            "bytes": bytes,
            "log_id": header.as_ref().map(|header| header.log_id.to_string()),
            "timeline": header.as_ref().map(|header| header.timeline.to_string()),
        }),
        DumpItem::Group(group) => json!({
            "group": group.number,
            "kind": kind(group),
            "first": group.first.0,
            "last": group.last.0,
            "block": group.block,
            "blocks": group.blocks,
            "recorded_at": time::format(group.recorded_at),
            "watermark": group.watermark.0,
            "chain": group.chain.to_string(),
        }),
        DumpItem::Entry(entry) => json!({
            "position": entry.position.0,
            "recorded_at": time::format(entry.recorded_at),
            "id": entry.new.id.to_string(),
            "principal": entry.new.principal.as_str(),
            "custodial": entry.new.custodial,
            "signature": entry.new.signature.to_string(),
            "body": hex::encode(&entry.new.body),
        }),
        DumpItem::Block { byte, header, whole } => json!({
            "block_at": byte,
            "header": header.as_ref().map(|header| format!("{header:?}")),
            "whole": whole,
        }),
        DumpItem::Frame { byte, bytes, unpacked, groups, first, last, whole } => json!({
            "frame_at": byte,
            "bytes": bytes,
            "unpacked": unpacked,
            "groups": groups,
            "first": first.0,
            "last": last.0,
            "whole": whole,
        }),
        DumpItem::Bad { byte, problem } => json!({ "bad_at": byte, "problem": problem }),
    }
}

fn kind(group: &Group) -> &'static str {
    match group.kind {
        stemedb_log::GroupKind::Entries => "entries",
        stemedb_log::GroupKind::Seal => "seal",
        stemedb_log::GroupKind::Close => "close",
        stemedb_log::GroupKind::Lost => "lost",
    }
}

fn stat(target: &Target, context: &Context) -> Result<(), Failure> {
    let path = target.path()?;
    let report = stemedb_log::stat(&path, context.env.vfs.as_ref()).map_err(unreadable(&path))?;
    let last = report.last.map(|(position, _)| position.0);
    let recorded = report.last.map(|(_, at)| time::format(at));
    let log_id = report.identity.map(|(log_id, _)| log_id.to_string());
    if context.json {
        return context.print_json(&json!({
            "log_id": log_id,
            "last": last,
            "recorded_at": recorded,
            "segments": report.segments,
            "spares": report.spares,
            "bytes": report.bytes,
            "rejected": report.rejected,
        }));
    }
    context.print(&format!(
        "database {}\nlast position {}{}\n{} segments in use, {} spare, {} bytes\n",
        log_id.unwrap_or_else(|| "none".into()),
        last.map_or_else(|| "none".into(), |last| last.to_string()),
        recorded.map(|at| format!(", recorded {at}")).unwrap_or_default(),
        report.segments,
        report.spares,
        report.bytes,
    ))?;
    for name in &report.rejected {
        context.print(&format!("set aside: {name}\n"))?;
    }
    Ok(())
}
