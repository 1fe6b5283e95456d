//! `wal dump`.

use std::io::{BufWriter, Write};

use serde_json::{Value, json};
use stemedb_log::{BlockHeader, DumpItem, Entry, GroupKind};
use stemedb_model::{Kind, Position, Record};

use super::{Target, removed, unreadable};
use crate::context::Context;
use crate::failure::Failure;
use crate::time;

/// What is to be shown.
pub(super) struct Asked {
    pub(super) first: Position,
    pub(super) last: Position,
    /// Empty: every kind.
    pub(super) kinds: Vec<Kind>,
    pub(super) raw: bool,
}

impl Asked {
    /// With kinds only records are shown, and what says where they are or that some are missing.
    fn shows(&self, item: &DumpItem) -> bool {
        match item {
            _ if self.kinds.is_empty() => true,
            DumpItem::Entry(entry) => kind_of(entry).is_ok_and(|kind| self.kinds.contains(&kind)),
            DumpItem::Group(group) => group.kind == GroupKind::Lost,
            DumpItem::Segment { .. }
            | DumpItem::Block { .. }
            | DumpItem::Frame { .. }
            | DumpItem::Bad { .. } => true,
        }
    }
}

pub(super) fn dump(target: &Target, asked: &Asked, context: &Context) -> Result<(), Failure> {
    let path = target.path()?;
    let stat = stemedb_log::stat(&path, context.env.vfs.as_ref()).ok();
    if let Some(first) = stat.and_then(|stat| stat.first_kept).filter(|first| asked.first < *first)
    {
        context.say(removed(first).trim_end());
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let range = (asked.first, asked.last);
    stemedb_log::dump(&path, context.env.vfs.as_ref(), range, asked.raw, &mut |item| {
        if asked.shows(&item) {
            let line = if context.json { item_json(&item).to_string() } else { item_text(&item) };
            written = writeln!(out, "{line}");
        }
        written.is_ok()
    })
    .map_err(unreadable(&path))?;
    written?;
    out.flush()?;
    Ok(())
}

fn kind_of(entry: &Entry) -> Result<Kind, String> {
    let record = Record::decode_trusted(&entry.new.body);
    record.map(|record| record.kind()).map_err(|error| error.to_string())
}

fn item_text(item: &DumpItem) -> String {
    match item {
        DumpItem::Segment { file, bytes, header, problem } => {
            let header = match header {
                Some(header) => format!(
                    "database {}  salt {:016x}  follows position {}{}",
                    header.log_id,
                    header.salt,
                    header.fence.position,
                    if header.packed { "  packed" } else { "" },
                ),
                None => problem.clone().unwrap_or_default(),
            };
            format!("segment {file}  {bytes} bytes  {header}")
        }
        DumpItem::Group(group) => {
            let lost = group
                .lost
                .as_ref()
                .map(|lost| format!("  given up by {} at {}", lost.tool, time::format(lost.at)));
            format!(
                " group {}  {}  {} to {}  block {}  {}  chain {}{}",
                group.number,
                kind(group.kind),
                group.first,
                group.last,
                group.block,
                time::format(group.recorded_at),
                group.chain,
                lost.unwrap_or_default(),
            )
        }
        DumpItem::Entry(entry) => {
            let what = match kind_of(entry) {
                Ok(kind) => kind.to_string(),
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
        DumpItem::Block { byte, header, first_bad } => {
            let bad = first_bad.map(|bad| format!("  BAD from byte {bad}")).unwrap_or_default();
            match header {
                Some(header) => format!(" block at {byte}  {}{bad}", block_text(header)),
                None => format!(" block at {byte}  no header that verifies{bad}"),
            }
        }
        DumpItem::Frame { byte, bytes, unpacked, groups, first, last, whole } => {
            let bad = if *whole { "" } else { "  BAD: it does not match its checksum" };
            format!(
                " frame at {byte}  {bytes} bytes, {unpacked} unpacked  {groups} groups  {first} to \
                 {last}{bad}"
            )
        }
        DumpItem::Bad { byte, problem } => format!(" BAD at byte {byte}: {problem}"),
    }
}

fn block_text(header: &BlockHeader) -> String {
    let start = match header.start {
        Some(start) => format!("begins at payload byte {start}"),
        None => "begins in a later block".to_owned(),
    };
    format!(
        "{} of group {}  block {} of {}  position {} {start}  {} bytes used  durable to {}  {}  \
         after chain {}",
        kind(header.kind),
        header.group,
        header.index.saturating_add(1),
        header.count,
        header.first,
        header.used,
        header.watermark,
        time::format(header.recorded_at),
        header.chain,
    )
}

fn item_json(item: &DumpItem) -> Value {
    match item {
        DumpItem::Segment { file, bytes, header, problem } => json!({
            "segment": file,
            "bytes": bytes,
            "log_id": header.as_ref().map(|header| header.log_id.to_string()),
            "timeline": header.as_ref().map(|header| header.timeline.to_string()),
            "number": header.as_ref().map(|header| header.number),
            "salt": header.as_ref().map(|header| format!("{:016x}", header.salt)),
            "packed": header.as_ref().map(|header| header.packed),
            "lost_groups": header.as_ref().map(|header| header.lost),
            "fence": header.as_ref().map(|header| json!({
                "segment": header.fence.segment,
                "position": header.fence.position.0,
                "group": header.fence.group,
                "chain": header.fence.chain.to_string(),
            })),
            "problem": problem,
        }),
        DumpItem::Group(group) => json!({
            "group": group.number,
            "kind": kind(group.kind),
            "first": group.first.0,
            "last": group.last.0,
            "block": group.block,
            "blocks": group.blocks,
            "recorded_at": time::format(group.recorded_at),
            "watermark": group.watermark.0,
            "chain": group.chain.to_string(),
            "lost": group.lost.as_ref().map(|lost| json!({
                "by": lost.tool,
                "at": time::format(lost.at),
            })),
        }),
        DumpItem::Entry(entry) => json!({
            "position": entry.position.0,
            "recorded_at": time::format(entry.recorded_at),
            "record": kind_of(entry).ok().map(Kind::name),
            "id": entry.new.id.to_string(),
            "principal": entry.new.principal.as_str(),
            "custodial": entry.new.custodial,
            "signature": entry.new.signature.to_string(),
            "body": hex::encode(&entry.new.body),
        }),
        DumpItem::Block { byte, header, first_bad } => json!({
            "block_at": byte,
            "header": header.as_ref().map(block_json),
            "first_bad_byte": first_bad,
        }),
        DumpItem::Frame { byte, bytes, unpacked, groups, first, last, whole } => json!({
            "frame_at": byte,
            "bytes": bytes,
            "unpacked_bytes": unpacked,
            "groups": groups,
            "first": first.0,
            "last": last.0,
            "whole": whole,
        }),
        DumpItem::Bad { byte, problem } => json!({ "bad_at": byte, "problem": problem }),
    }
}

fn block_json(header: &BlockHeader) -> Value {
    json!({
        "kind": kind(header.kind),
        "group": header.group,
        "index": header.index,
        "count": header.count,
        "block": header.block,
        "first": header.first.0,
        "start": header.start,
        "used": header.used,
        "watermark": header.watermark.0,
        "recorded_at": time::format(header.recorded_at),
        "salt": format!("{:016x}", header.salt),
        "chain": header.chain.to_string(),
    })
}

fn kind(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Entries => "entries",
        GroupKind::Seal => "seal",
        GroupKind::Close => "close",
        GroupKind::Lost => "lost",
    }
}
