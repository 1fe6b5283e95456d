//! Which groups of a damaged segment can be proved, and what lies between them.

use stemedb_model::{Hash, Position};

use super::neighbours::cannot;
use super::source::Source;
use crate::error::LogError;
use crate::format::block::{BLOCK, BlockHeader, GroupKind, Look};
use crate::recover::tail::{Tail, Torn, examine};
use crate::walk::{Bad, Blocks, Cursor, Group, Step, Walk};

/// How many blocks are read at a time: 1 MiB.
pub(super) const READ_AHEAD: u32 = 256;

/// A part of the result, in order.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// A group that was proved.
    Kept(Group),
    /// A range that was not.
    Lost(Gap),
}

/// Positions that no provable group holds.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    pub(super) first: Position,
    pub(super) last: Position,
    /// Number of the last group that was in it.
    pub(super) group: u64,
    /// The chain hash after that one.
    pub(super) chain_after: Hash,
    /// Bytes of the input.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) problem: String,
}

/// Everything that can be proved.
pub(super) struct Salvage {
    pub(super) pieces: Vec<Piece>,
    /// After the last piece; its block is that of the input.
    pub(super) end: Cursor,
    /// The last piece is a closing seal.
    pub(super) closed: bool,
    /// The newest watermark of anything that verifies.
    pub(super) watermark: Position,
    /// What a block header behind the end, of a group that cannot be proved, says it was written
    /// after.
    pub(super) told: Option<Cursor>,
    /// Why the groups end where they do, if not at the end of what was written.
    pub(super) bad: Option<Bad>,
    /// What lies behind the end.
    pub(super) tail: Option<Tail>,
}

impl Piece {
    /// The byte behind it.
    pub(super) fn to(&self) -> u64 {
        match self {
            Self::Kept(group) => bytes(group.block.saturating_add(group.blocks)),
            Self::Lost(gap) => gap.to,
        }
    }
}

fn bytes(block: u32) -> u64 {
    u64::from(block) * BLOCK as u64
}

pub(super) fn salvage(source: &Source) -> Result<Salvage, LogError> {
    let mut salvage = Salvage {
        pieces: Vec::new(),
        end: Cursor::start_of(&source.header),
        closed: false,
        watermark: Position::NONE,
        told: None,
        bad: None,
        tail: None,
    };
    let Some(file) = &source.file else { return Ok(salvage) };
    let reader = Reader { file, source };
    let mut walk = reader.walk(salvage.end);
    loop {
        let at = walk.cursor;
        let step = walk.step()?;
        let bad = match step {
            Step::Group(group) if reader.void(&group) => break,
            Step::Group(group) => {
                let closed = group.kind == GroupKind::Close;
                salvage.watermark = salvage.watermark.max(group.watermark);
                salvage.pieces.push(Piece::Kept(group));
                salvage.end = walk.cursor;
                if closed {
                    salvage.closed = true;
                    break;
                }
                continue;
            }
            Step::Bad(bad) if bad.too_new => return Err(too_new(source, &bad)),
            Step::Bad(bad) => Some(bad),
            Step::Unwritten => None,
        };
        let Some(found) = reader.next(&at)? else {
            salvage.bad = bad;
            break;
        };
        if let Some(mut gap) = found.gap {
            gap.problem = bad.map_or_else(|| "a group is not there".into(), |bad| bad.problem);
            salvage.pieces.push(Piece::Lost(gap));
        }
        salvage.end = found.after;
        walk = reader.walk(found.after);
    }
    if !salvage.closed {
        let end = salvage.end;
        let (name, salt) = (&source.name, source.header.salt);
        let tail = examine(file, name, source.len, salt, end.block, Torn::Behind(end.group))?;
        salvage.watermark = salvage.watermark.max(tail.watermark);
        salvage.told = reader.told(&end)?;
        salvage.tail = Some(tail);
    }
    Ok(salvage)
}

fn too_new(source: &Source, bad: &Bad) -> LogError {
    let problem = format!("byte {}: {}", bad.byte, bad.problem);
    cannot(&source.name, &problem).hint("use a newer build")
}

/// Where the groups go on behind damage.
struct Found {
    /// Just before them.
    after: Cursor,
    /// What is lost, if anything but seals is.
    gap: Option<Gap>,
}

struct Reader<'a> {
    file: &'a dyn stemedb_io::VfsFile,
    source: &'a Source,
}

impl Reader<'_> {
    fn blocks(&self) -> Blocks<'_> {
        let end = u32::try_from(self.source.len / BLOCK as u64).unwrap_or(u32::MAX);
        Blocks::new(self.file, &self.source.name, end, READ_AHEAD)
    }

    fn walk(&self, cursor: Cursor) -> Walk<'_> {
        Walk::new(self.blocks(), self.source.header.salt, cursor)
    }

    /// Behind the fence of the next segment.
    fn void(&self, group: &Group) -> bool {
        self.source.end.is_some_and(|end| group.last > end.last)
    }

    /// The first provable group behind `at` that can follow it.
    fn next(&self, at: &Cursor) -> Result<Option<Found>, LogError> {
        let mut blocks = self.blocks();
        let mut number = at.block;
        while let Some(block) = blocks.get(number)? {
            let header = first_of_group(block, self.source.header.salt, number);
            if let Some(found) = header.map(|header| self.found(at, &header)).transpose()?.flatten()
            {
                return Ok(Some(found));
            }
            number = number.saturating_add(1);
        }
        Ok(None)
    }

    /// The group that begins with `header`, if it is whole and can follow `at`.
    fn found(&self, at: &Cursor, header: &BlockHeader) -> Result<Option<Found>, LogError> {
        let before = Cursor::before(header);
        let mut walk = self.walk(before);
        let group = match walk.step()? {
            Step::Group(group) => group,
            Step::Bad(bad) if bad.too_new => return Err(too_new(self.source, &bad)),
            Step::Bad(_) | Step::Unwritten => return Ok(None),
        };
        if self.void(&group) || group.recorded_at < at.recorded_at {
            return Ok(None);
        }
        let gap = |to: &Cursor, byte: u64| Gap {
            first: at.last.next(),
            last: to.last,
            group: to.group,
            chain_after: to.chain,
            from: bytes(at.block),
            to: byte,
            problem: String::new(),
        };
        if follows(at, &before) {
            let lost = before.last > at.last;
            let after = Cursor { recorded_at: at.recorded_at, ..before };
            let gap = lost.then(|| gap(&before, bytes(header.block)));
            return Ok(Some(Found { after, gap }));
        }
        // How many groups an earlier repair gave up is not known: one gap for all of it.
        if header.kind == GroupKind::Lost && follows(at, &walk.cursor) {
            let gap = Some(gap(&walk.cursor, bytes(walk.cursor.block)));
            return Ok(Some(Found { after: walk.cursor, gap }));
        }
        Ok(None)
    }

    /// The furthest that a block header behind `end` says it was written after.
    fn told(&self, end: &Cursor) -> Result<Option<Cursor>, LogError> {
        let mut blocks = self.blocks();
        let mut number = end.block;
        let mut told: Option<Cursor> = None;
        while let Some(block) = blocks.get(number)? {
            if let Some(header) = first_of_group(block, self.source.header.salt, number) {
                let before = Cursor::before(&header);
                let newer = before.last > told.map_or(end.last, |told| told.last);
                let void = self.source.end.is_some_and(|end| before.last > end.last);
                if newer && !void && follows(end, &before) {
                    let recorded_at = header.recorded_at.max(end.recorded_at);
                    told = Some(Cursor { recorded_at, ..before });
                }
            }
            number = number.saturating_add(1);
        }
        Ok(told)
    }
}

fn first_of_group(block: &[u8; BLOCK], salt: u64, number: u32) -> Option<BlockHeader> {
    let header = Look::at(block, salt, number).header.and_then(Result::ok);
    header.filter(|header| header.index == 0)
}

/// Whether `next` can come after `at` in one history: the same point, or at least one group later,
/// each with at least one position.
fn follows(at: &Cursor, next: &Cursor) -> bool {
    let (Some(positions), Some(groups)) =
        (next.last.0.checked_sub(at.last.0), next.group.checked_sub(at.group))
    else {
        return false;
    };
    match (positions, groups) {
        (0, 0) => next.chain == at.chain,
        (0, _) | (_, 0) => false,
        (positions, groups) => positions >= groups,
    }
}
