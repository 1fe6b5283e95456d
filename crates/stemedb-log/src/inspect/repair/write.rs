//! Writes the result of a repair, reads it back, and only then gives it its name.

use std::path::{Path, PathBuf};

use stemedb_io::{Env, Open, Vfs, VfsFile};
use stemedb_model::{Millis, Position};

use super::neighbours::cannot;
use super::plan::{End, Plan};
use super::salvage::Piece;
use super::source::Source;
use super::{DroppedBytes, RepairOptions, RepairWritten, with_suffix};
use crate::error::LogError;
use crate::format::block::{BLOCK, GroupKind, move_block};
use crate::format::group::{GroupPlace, LostRange, encode_seal};
use crate::format::header::{SegmentHeader, encode_mark};
use crate::recover::survey::{io, survey_file};

/// Zeros that are written at a time.
const ZEROS: usize = 1 << 20;

/// A repair never replaces anything.
pub(super) fn refuse_existing(env: &Env, paths: &[&Path]) -> Result<(), LogError> {
    for path in paths {
        let name = path.display().to_string();
        if env.vfs.exists(path).map_err(|source| io(&name, "look at", 0, source))? {
            return Err(cannot(&name, "is there already, and a repair replaces nothing")
                .hint("give another output, or move it away"));
        }
    }
    Ok(())
}

pub(super) fn write(
    env: &Env,
    source: &Source,
    plan: &Plan,
    options: &RepairOptions,
    rejected: PathBuf,
) -> Result<RepairWritten, LogError> {
    let vfs = &*env.vfs;
    let rejected = match (source.raw(), plan.dropped.as_slice()) {
        (Some(file), [_, ..]) => {
            keep(vfs, file, &source.name, &plan.dropped, &rejected)?;
            Some(rejected)
        }
        _ => None,
    };
    let unfinished = with_suffix(&options.output, ".repairing");
    let name = unfinished.display().to_string();
    // Left by a repair that was interrupted.
    match vfs.remove_file(&unfinished) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(&name, "remove", 0, source));
        }
        _ => {}
    }
    let failed = |op| {
        let name = name.clone();
        move |source| io(&name, op, 0, source)
    };
    let file = vfs.open(&unfinished, Open::CreateNew).map_err(failed("create"))?;
    let writer = Writer { file: &*file, name: &name, source, plan, options };
    writer.run(Millis(env.clock.now_ms()))?;
    file.sync_all().map_err(failed("sync"))?;
    // What is read back should be what the medium has; where that cannot be had, the cache must do.
    let _ = file.evict();
    file.close().map_err(failed("close"))?;
    check(vfs, &unfinished, source, plan)?;
    name_result(vfs, &unfinished, &options.output)?;
    Ok(RepairWritten { output: options.output.clone(), rejected })
}

/// Gives a result its name, durably.
pub(super) fn name_result(vfs: &dyn Vfs, unfinished: &Path, output: &Path) -> Result<(), LogError> {
    let failed = |source| io(&unfinished.display().to_string(), "rename", 0, source);
    vfs.rename(unfinished, output).map_err(failed)?;
    sync_folder(vfs, output)
}

fn sync_folder(vfs: &dyn Vfs, path: &Path) -> Result<(), LogError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    vfs.sync_dir(dir).map_err(|source| io(&dir.display().to_string(), "sync folder", 0, source))
}

/// Copies the dropped bytes, one range behind the other.
fn keep(
    vfs: &dyn Vfs,
    file: &dyn VfsFile,
    name: &str,
    dropped: &[DroppedBytes],
    to: &Path,
) -> Result<(), LogError> {
    let failed = |op| move |source| io(name, op, 0, source);
    let copy = vfs.open(to, Open::CreateNew).map_err(failed("create a copy of the bytes of"))?;
    let mut piece = vec![0; ZEROS];
    let mut written = 0;
    for range in dropped {
        let mut at = range.from;
        while at < range.to {
            let count = usize::try_from(range.to - at).unwrap_or(usize::MAX).min(piece.len());
            let bytes = piece.get_mut(..count).unwrap_or_default();
            file.read_exact_at(bytes, at).map_err(failed("read"))?;
            copy.write_at(bytes, written).map_err(failed("copy"))?;
            at += count as u64;
            written += count as u64;
        }
    }
    copy.sync_all().map_err(failed("sync the copy of"))?;
    copy.close().map_err(failed("close the copy of"))?;
    sync_folder(vfs, to)
}

struct Writer<'a> {
    file: &'a dyn VfsFile,
    name: &'a str,
    source: &'a Source,
    plan: &'a Plan,
    options: &'a RepairOptions,
}

impl Writer<'_> {
    fn run(&self, now: Millis) -> Result<(), LogError> {
        let header = SegmentHeader { lost: self.plan.lost_groups(), ..self.source.header.clone() };
        let mut block = vec![0; BLOCK];
        header.encode(&mut block);
        encode_mark(header.number, header.salt, &mut block);
        self.put(0, &block)?;
        let start = &header.fence;
        let mut before = End { last: start.position, group: start.group, chain: start.chain };
        let mut recorded_at = start.recorded_at;
        let mut number = 1;
        let pieces = &self.plan.pieces;
        for (i, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Kept(group) => {
                    let mut blocks = self.read(group.block, group.blocks)?;
                    for (to, block) in (number..).zip(blocks.chunks_exact_mut(BLOCK)) {
                        move_block(block, header.salt, to);
                    }
                    self.put(number, &blocks)?;
                    number = number.saturating_add(group.blocks);
                    recorded_at = group.recorded_at;
                    if group.kind.is_link() {
                        before = End { last: group.last, group: group.number, chain: group.chain };
                    }
                }
                Piece::Lost(gap) => {
                    if recorded_at == Millis(i64::MIN) {
                        recorded_at = self.time_after(i);
                    }
                    let lost = LostRange {
                        first: gap.first,
                        last: gap.last,
                        chain_after: gap.chain_after,
                        at: now,
                        tool: self.options.tool.clone(),
                    };
                    let place =
                        GroupPlace { group: gap.group, ..self.place(number, &before, recorded_at) };
                    let mut block = vec![0; BLOCK];
                    lost.encode(&place, &mut block);
                    self.put(number, &block)?;
                    number = number.saturating_add(1);
                    before = End { last: gap.last, group: gap.group, chain: gap.chain_after };
                }
            }
        }
        if self.plan.close {
            let mut block = vec![0; BLOCK];
            let place = self.place(number, &before, recorded_at);
            encode_seal(GroupKind::Close, &place, &mut block);
            self.put(number, &block)?;
            number = number.saturating_add(1);
        }
        self.zeros(u64::from(number) * BLOCK as u64)
    }

    fn place(&self, block: u32, before: &End, recorded_at: Millis) -> GroupPlace {
        GroupPlace {
            salt: self.source.header.salt,
            block,
            group: before.group,
            first: before.last.next(),
            watermark: before.last,
            recorded_at,
            chain: before.chain,
        }
    }

    /// The time of a lost group at the very start of a log: that of what comes after it.
    fn time_after(&self, piece: usize) -> Millis {
        let next = self.plan.pieces.iter().skip(piece).find_map(|piece| match piece {
            Piece::Kept(group) => Some(group.recorded_at),
            Piece::Lost(_) => None,
        });
        let end = self.source.end.map(|end| end.recorded_at);
        next.or(end).unwrap_or(Millis(i64::MIN))
    }

    fn read(&self, block: u32, blocks: u32) -> Result<Vec<u8>, LogError> {
        let offset = u64::from(block) * BLOCK as u64;
        let mut bytes = vec![0; blocks as usize * BLOCK];
        match &self.source.file {
            Some(file) => file
                .read_exact_at(&mut bytes, offset)
                .map_err(|source| io(&self.source.name, "read", offset, source))?,
            None => return Err(cannot(&self.source.name, "is not there").hint("start again")),
        }
        Ok(bytes)
    }

    fn put(&self, block: u32, bytes: &[u8]) -> Result<(), LogError> {
        let offset = u64::from(block) * BLOCK as u64;
        self.file.write_at(bytes, offset).map_err(|source| io(self.name, "write", offset, source))
    }

    /// Zeros to the end, written out: a log may go on in them.
    fn zeros(&self, from: u64) -> Result<(), LogError> {
        let zeros = vec![0; ZEROS];
        let (mut at, to) = (from, self.plan.bytes(self.source));
        while at < to {
            let count = usize::try_from(to - at).unwrap_or(usize::MAX).min(zeros.len());
            let piece = zeros.get(..count).unwrap_or_default();
            self.file.write_at(piece, at).map_err(|source| io(self.name, "write", at, source))?;
            at += count as u64;
        }
        Ok(())
    }
}

/// The result is read back and must be exactly what was planned.
fn check(vfs: &dyn Vfs, path: &Path, source: &Source, plan: &Plan) -> Result<(), LogError> {
    let found = survey_file(vfs, path)?;
    let report = plan.report(source);
    let lost = |first: Position, last: Position| (first, last);
    let planned: Vec<_> = {
        let mut all: Vec<_> = report.lost.iter().map(|one| lost(one.first, one.last)).collect();
        all.extend(report.lost_before.iter().map(|one| lost(one.first, one.last)));
        all.sort_unstable();
        all
    };
    let fits = found.groups.as_ref().is_some_and(|groups| {
        groups.bad.is_none()
            && groups.closed == plan.close
            && groups.records == report.records
            && groups.lost.iter().map(|one| lost(one.first, one.last)).eq(planned)
            && End::from(groups.end) == plan.end
    });
    let empty = plan.close || found.tail.as_ref().is_some_and(|tail| tail.unwritten());
    if fits && empty {
        return Ok(());
    }
    let name = path.display().to_string();
    Err(cannot(&name, "was read back and is not what was written")
        .hint("check the disk; write to another one"))
}
