//! What the result will hold, what is lost, and whether that needs an operator's word.

use stemedb_model::{Hash, Position};

use super::neighbours::cannot;
use super::salvage::{Gap, Piece, Salvage};
use super::source::Source;
use super::{DroppedBytes, HeaderOrigin, LostPositions, RepairOptions, RepairReport, Undecided};
use crate::error::LogError;
use crate::format::block::{BLOCK, GroupKind, SECTOR, is_zero};
use crate::walk::{Blocks, Cursor};

/// The result.
pub(super) struct Plan {
    /// What it holds, without a closing seal.
    pub(super) pieces: Vec<Piece>,
    /// It ends with a closing seal, and the file ends there.
    pub(super) close: bool,
    /// After its last group, but for the block.
    pub(super) end: End,
    /// Bytes of the input that are not in it.
    pub(super) dropped: Vec<DroppedBytes>,
    pub(super) undecided: Option<Undecided>,
    /// Everything up to here is known to have been durable.
    durable: Position,
}

/// Where the groups of the result end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) last: Position,
    pub(super) group: u64,
    pub(super) chain: Hash,
}

impl From<Cursor> for End {
    fn from(cursor: Cursor) -> Self {
        Self { last: cursor.last, group: cursor.group, chain: cursor.chain }
    }
}

pub(super) fn plan(
    source: &Source,
    salvage: Salvage,
    options: &RepairOptions,
) -> Result<Plan, LogError> {
    let Salvage { mut pieces, end: proved, mut closed, watermark, told, bad, tail } = salvage;
    let start = End::from(Cursor::start_of(&source.header));
    if closed {
        // Written anew at the end.
        pieces.pop();
    }
    let all = pieces.len();
    if let Some(cut) = options.truncate_at {
        let kept = pieces.iter().take_while(|piece| source.end_in_file(piece.to()) <= cut).count();
        pieces.truncate(kept);
    }
    let truncated =
        pieces.len() < all || (closed && options.truncate_at.is_some_and(|cut| cut < source.len));
    closed &= !truncated;
    let end = pieces.iter().rev().find_map(end_of).unwrap_or(start);

    // How far the segment went, as far as anything tells.
    let known = told.unwrap_or(proved);
    let mut goal = End::from(known);
    match source.end {
        Some(next)
            if next.last < goal.last || (next.last == goal.last && next.chain != goal.chain) =>
        {
            let problem = format!(
                "swapped: its groups are not those that the next segment was written after \
                 (position {})",
                next.last
            );
            return Err(cannot(&source.name, &problem).hint("put the right file there"));
        }
        Some(next) => goal = next.into(),
        None => {
            let witness = source.witness.filter(|_| !closed).unwrap_or(Position::NONE);
            let seen = watermark.max(witness);
            if seen > goal.last {
                // Nothing knows the groups that these positions were in.
                goal = End { last: seen, group: goal.group.saturating_add(1), ..goal };
            }
        }
    }
    let durable = watermark
        .max(source.durable)
        .max(source.end.map_or(Position::NONE, |end| end.last))
        .max(options.witness.unwrap_or(Position::NONE));
    let mut end = end;
    if goal.last > end.last {
        let from = pieces.last().map_or(BLOCK as u64, Piece::to);
        let problem = match (&source.file, &bad) {
            (None, _) => "the segment is missing".to_owned(),
            _ if truncated => "cut off by the operator".to_owned(),
            (Some(_), Some(bad)) => bad.problem.clone(),
            (Some(_), None) => "the groups are not there".to_owned(),
        };
        pieces.push(Piece::Lost(Gap {
            first: end.last.next(),
            last: goal.last,
            group: goal.group.max(end.group.saturating_add(1)),
            chain_after: goal.chain,
            from,
            to: source.len.max(from),
            problem,
        }));
        end = pieces.last().and_then(end_of).unwrap_or(end);
    }
    let undecided = match (&source.file, &tail) {
        (Some(_), Some(tail)) if source.end.is_none() => {
            let short = source.len < source.header.segment_bytes && !source.followed;
            let torn = tail.torn() && !short && tail.watermark <= proved.last;
            let problem = match &bad {
                Some(bad) => Some(bad.problem.clone()).filter(|_| !torn),
                None if short => Some(format!(
                    "the file is {} bytes long and was prepared with {}",
                    source.len, source.header.segment_bytes
                )),
                None if tail.unwritten() || torn => None,
                None => Some("bytes that no group can be made of".to_owned()),
            };
            problem.map(|problem| Undecided {
                first: end.last.next(),
                byte: source.start_in_file(bad.as_ref().map_or(tail.from, |bad| bad.byte)),
                problem,
            })
        }
        (None, _) if source.end.is_none() && !source.followed => Some(Undecided {
            first: end.last.next(),
            byte: 0,
            problem: "the newest segment is missing, and nothing tells all that was in it".into(),
        }),
        _ => None,
    };
    // A closing seal is the proof that the next segment was in use.
    let close = closed || source.went_on;
    let dropped = dropped(source, &pieces, close)?;
    Ok(Plan { pieces, close, end, dropped, undecided, durable })
}

/// Where a link of the chain ends; seals are none.
fn end_of(piece: &Piece) -> Option<End> {
    match piece {
        Piece::Kept(group) if group.kind.is_link() => {
            Some(End { last: group.last, group: group.number, chain: group.chain })
        }
        Piece::Kept(_) => None,
        Piece::Lost(gap) => Some(End { last: gap.last, group: gap.group, chain: gap.chain_after }),
    }
}

/// The written bytes of the input that no kept group holds; seals that are written anew are none.
fn dropped(source: &Source, pieces: &[Piece], close: bool) -> Result<Vec<DroppedBytes>, LogError> {
    let Some(file) = &source.file else { return Ok(Vec::new()) };
    let mut dropped: Vec<DroppedBytes> = Vec::new();
    let mut leave_out = |from: u64, to: u64| match dropped.last_mut() {
        Some(last) if last.to == from => last.to = to,
        _ => dropped.push(DroppedBytes { from, to }),
    };
    let end = u32::try_from(source.len / BLOCK as u64).unwrap_or(u32::MAX);
    let mut blocks = Blocks::new(file, &source.name, end, 256);
    if source.origin != HeaderOrigin::Kept
        && let Some(block) = blocks.get(0)?
        && !is_zero(block.get(..2 * SECTOR).unwrap_or_default())
    {
        leave_out(0, 2 * SECTOR as u64);
    }
    let mut kept = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Kept(group) => Some(group.block..group.block.saturating_add(group.blocks)),
            Piece::Lost(_) => None,
        })
        .peekable();
    for number in 1..end {
        let Some(block) = blocks.get(number)? else { break };
        while kept.next_if(|range| range.end <= number).is_some() {}
        let held = kept.peek().is_some_and(|range| range.contains(&number));
        if held || is_zero(block) || (close && is_close(block, source, number)) {
            continue;
        }
        let from = u64::from(number) * BLOCK as u64;
        leave_out(from, from + BLOCK as u64);
    }
    let rest = u64::from(end) * BLOCK as u64;
    if rest < source.len {
        leave_out(rest, source.len);
    }
    let in_file = |range: DroppedBytes| DroppedBytes {
        from: source.start_in_file(range.from),
        to: source.end_in_file(range.to),
    };
    Ok(dropped.into_iter().map(in_file).collect())
}

fn is_close(block: &[u8; BLOCK], source: &Source, number: u32) -> bool {
    let look = crate::format::block::Look::at(block, source.header.salt, number);
    let header = look.header.and_then(Result::ok);
    look.whole() && header.is_some_and(|header| header.kind == GroupKind::Close)
}

impl Plan {
    /// How many blocks the result uses.
    pub(super) fn blocks(&self) -> u64 {
        let groups = self.pieces.iter().map(|piece| match piece {
            Piece::Kept(group) => u64::from(group.blocks),
            Piece::Lost(_) => 1,
        });
        1 + groups.sum::<u64>() + u64::from(self.close)
    }

    /// Length of the result: one that the log goes on in keeps the length it was prepared with.
    pub(super) fn bytes(&self, source: &Source) -> u64 {
        let used = self.blocks().saturating_mul(BLOCK as u64);
        if self.close { used } else { used.max(source.header.segment_bytes) }
    }

    /// Lost groups in the result, those of earlier repairs too.
    pub(super) fn lost_groups(&self) -> u32 {
        let lost = self.pieces.iter().filter(|piece| match piece {
            Piece::Kept(group) => group.kind == GroupKind::Lost,
            Piece::Lost(_) => true,
        });
        u32::try_from(lost.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn report(&self, source: &Source) -> RepairReport {
        let start = source.header.fence.position;
        let (mut groups, mut records) = (0, 0);
        let (mut lost, mut lost_before) = (Vec::new(), Vec::new());
        for piece in &self.pieces {
            match piece {
                Piece::Kept(group) if group.kind == GroupKind::Entries => {
                    groups += 1;
                    records += (group.last.0 - group.first.0).saturating_add(1);
                }
                Piece::Kept(group) => lost_before.extend(group.lost.clone()),
                Piece::Lost(gap) => lost.push(LostPositions {
                    first: gap.first,
                    last: gap.last,
                    acknowledged: (gap.first <= self.durable).then_some(true),
                    byte: source.start_in_file(gap.from),
                    problem: source
                        .problem_in_file(gap.from, gap.to)
                        .unwrap_or(&gap.problem)
                        .into(),
                }),
            }
        }
        RepairReport {
            file: source.name.clone(),
            number: source.header.number,
            header: source.origin.clone(),
            groups,
            records,
            positions: (self.end.last > start).then(|| (start.next(), self.end.last)),
            lost,
            lost_before,
            undecided: self.undecided.clone(),
            dropped: self.dropped.clone(),
            unreadable_sectors: source.unreadable(),
            bytes: self.bytes(source),
            refused: false,
            written: None,
        }
    }
}
