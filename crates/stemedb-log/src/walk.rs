//! Reads the groups of one segment in order and proves each of them: checksums, place, positions,
//! time, chain.

use std::ops::Range;

use stemedb_io::VfsFile;
use stemedb_model::{Hash, Millis, Position};

use crate::chain::ChainHasher;
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{BLOCK, BadHeader, BlockHeader, GroupKind, Look, PAYLOAD, take_payload};
use crate::format::envelope::{BadHead, Head};
use crate::format::group::{Entries, LostRange};
use crate::format::header::{Fence, SegmentHeader};
use crate::format::pack::FrameHeader;

/// A block in every this many has its first position in memory: 2 KiB for a segment of 64 MiB.
const MARK_EVERY: u32 = 64;

/// Blocks of a file, read in larger pieces.
pub(crate) struct Blocks<'a> {
    file: &'a dyn VfsFile,
    name: &'a str,
    /// Blocks from here on are not looked at.
    end: u32,
    buf: Vec<u8>,
    /// The block at the start of `buf`.
    from: u32,
    read_ahead: u32,
}

impl<'a> Blocks<'a> {
    /// The blocks before number `end`, which reads `read_ahead` of them at a time.
    pub(crate) fn new(file: &'a dyn VfsFile, name: &'a str, end: u32, read_ahead: u32) -> Self {
        Self { file, name, end, buf: Vec::new(), from: 0, read_ahead }
    }

    /// Block `number`, or `None` from the end on.
    pub(crate) fn get(&mut self, number: u32) -> Result<Option<&[u8; BLOCK]>, LogError> {
        if number >= self.end {
            return Ok(None);
        }
        let loaded = (self.buf.len() / BLOCK) as u32;
        if number < self.from || number - self.from >= loaded {
            let count = self.read_ahead.min(self.end - number).max(1);
            let offset = u64::from(number) * BLOCK as u64;
            self.buf.resize(count as usize * BLOCK, 0);
            self.from = number;
            let read = self.file.read_at(&mut self.buf, offset).map_err(|source| LogError::Io {
                op: "read",
                file: self.name.into(),
                offset,
                source,
            });
            // The next ones come from the medium while these are proved.
            let next = (number + count).min(self.end);
            let ahead = self.read_ahead.min(self.end - next);
            self.file.fetch(u64::from(next) * BLOCK as u64, u64::from(ahead) * BLOCK as u64);
            let whole = read.as_ref().map_or(0, |read| read / BLOCK);
            self.buf.truncate(whole * BLOCK);
            read?;
            if whole < count as usize {
                // Shorter than it was a moment ago: the writer has cut its zero tail off.
                self.end = number + whole as u32;
            }
        }
        let start = (number - self.from) as usize * BLOCK;
        Ok(self.buf.get(start..).and_then(|rest| rest.first_chunk()))
    }
}

/// First positions of every 64th block of a segment: where to begin to look for a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks(Vec<Position>);

impl Marks {
    /// Tells the first position of block `number`; blocks come in order, from 1.
    pub(crate) fn note(&mut self, number: u32, first: Position) {
        if number == 1 + self.0.len() as u32 * MARK_EVERY {
            self.0.push(first);
        }
    }

    /// Blocks, before `end`, of which the last one that begins at or before `position` is one.
    pub(crate) fn around(&self, position: Position, end: u32) -> Range<u32> {
        let after = self.0.partition_point(|first| *first <= position) as u32;
        let from = after.saturating_sub(1) * MARK_EVERY + 1;
        from..(after * MARK_EVERY + 1).min(end).max(from)
    }
}

/// A point between two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The block after it.
    pub(crate) block: u32,
    /// Number of the group before it.
    pub(crate) group: u64,
    /// Last position before it.
    pub(crate) last: Position,
    /// `recorded_at` of the group before it.
    pub(crate) recorded_at: Millis,
    /// Chain hash after the group before it.
    pub(crate) chain: Hash,
}

impl Cursor {
    /// The start of a segment.
    pub(crate) fn start_of(header: &SegmentHeader) -> Self {
        Self { block: 1, ..Self::at(&header.fence) }
    }

    /// Where a fence says that a segment ends; in no block.
    pub(crate) fn at(fence: &Fence) -> Self {
        let Fence { position: last, group, recorded_at, chain, .. } = *fence;
        Self { block: 0, group, last, recorded_at, chain }
    }

    /// Just before the group whose first block has `header`, which is believed.
    pub(crate) fn before(header: &BlockHeader) -> Self {
        let group = header.group.saturating_sub(u64::from(header.kind.is_link()));
        Self {
            block: header.block,
            group,
            last: Position(header.first.0.saturating_sub(1)),
            recorded_at: Millis(i64::MIN),
            chain: header.chain,
        }
    }
}

impl Cursor {
    /// Just before a frame of a packed segment, which is believed; its block is the frame's number.
    pub(crate) fn before_frame(header: &FrameHeader) -> Self {
        Self {
            block: header.number,
            group: header.group.saturating_sub(1),
            last: Position(header.first.0.saturating_sub(1)),
            recorded_at: Millis(i64::MIN),
            chain: header.chain,
        }
    }
}

/// A group that was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Records, a seal, or what a repair left.
    pub kind: GroupKind,
    /// Its number; of a seal, the number of the group before it.
    pub number: u64,
    /// Number of its first block in the segment.
    pub block: u32,
    /// How many blocks it has.
    pub blocks: u32,
    /// Its first position; of a seal, the next one to be written.
    pub first: Position,
    /// Its last position; of a seal, the one before `first`.
    pub last: Position,
    /// When it was committed.
    pub recorded_at: Millis,
    /// Everything up to here was durable when it was written.
    pub watermark: Position,
    /// The chain hash before it.
    pub chain_before: Hash,
    /// The chain hash after it.
    pub chain: Hash,
    /// Bytes of its entries: heads and bodies.
    pub bytes: u64,
    /// Of a lost group, what the repair said.
    pub lost: Option<LostRange>,
}

/// What came next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A group, proved; the cursor is after it.
    Group(Group),
    /// A block that was never written, or the end of the blocks; the cursor stays.
    Unwritten,
    /// Something else; the cursor stays.
    Bad(Bad),
}

/// Why a group cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// First bad byte of the file.
    pub(crate) byte: u64,
    pub(crate) problem: String,
    /// The checksums are right; a newer build may understand it.
    pub(crate) too_new: bool,
}

pub(crate) struct Walk<'a> {
    pub(crate) blocks: Blocks<'a>,
    pub(crate) cursor: Cursor,
    pub(crate) marks: Marks,
    salt: u64,
    payload: Vec<u8>,
    heads: Vec<(Head, Range<usize>)>,
    starts: Vec<(Position, Option<u16>)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(blocks: Blocks<'a>, salt: u64, cursor: Cursor) -> Self {
        Self {
            blocks,
            cursor,
            marks: Marks::default(),
            salt,
            payload: Vec::new(),
            heads: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Reads and proves the next group. `Err` only if the medium cannot be read.
    pub(crate) fn step(&mut self) -> Result<Step, LogError> {
        match self.read_group()? {
            Ok(None) => Ok(Step::Unwritten),
            Ok(Some(header)) => Ok(match self.prove(&header) {
                Ok(group) => {
                    self.advance(&group);
                    Step::Group(group)
                }
                Err(bad) => Step::Bad(bad),
            }),
            Err(bad) => Ok(Step::Bad(bad)),
        }
    }

    /// The entries of the group that the last step proved; the next call has none.
    pub(crate) fn take_entries(&mut self) -> Vec<Entry> {
        let payload = &self.payload;
        self.heads
            .drain(..)
            .map(|(head, body)| head.with_body(payload.get(body).unwrap_or_default().into()))
            .collect()
    }

    fn advance(&mut self, group: &Group) {
        for (number, (first, _)) in (group.block..).zip(&self.starts) {
            self.marks.note(number, *first);
        }
        self.cursor = Cursor {
            block: group.block + group.blocks,
            group: group.number,
            last: group.last,
            recorded_at: group.recorded_at,
            chain: group.chain,
        };
    }

    /// Gathers the payload of the group at the cursor; gives the header of its first block.
    fn read_group(&mut self) -> Result<Result<Option<BlockHeader>, Bad>, LogError> {
        let first_block = self.cursor.block;
        self.payload.clear();
        self.starts.clear();
        let mut group: Option<BlockHeader> = None;
        loop {
            let index = self.starts.len() as u32;
            let number = first_block.saturating_add(index);
            let byte = u64::from(number) * BLOCK as u64;
            let malformed =
                |problem: &str| Ok(Err(Bad { byte, problem: problem.to_string(), too_new: false }));
            let Some(block) = self.blocks.get(number)? else {
                return match group {
                    None => Ok(Ok(None)),
                    Some(_) => malformed("the file ends inside a group"),
                };
            };
            let look = Look::at(block, self.salt, number);
            if look.unwritten() && group.is_none() {
                return Ok(Ok(None));
            }
            if !look.whole() {
                let byte = byte + look.first_bad() as u64;
                let problem = "a sector does not match its checksum".to_string();
                return Ok(Err(Bad { byte, problem, too_new: false }));
            }
            let header = match look.header {
                Some(Ok(header)) => header,
                Some(Err(BadHeader::TooNew)) => {
                    let problem = "a kind of block that this build does not know".to_string();
                    return Ok(Err(Bad { byte, problem, too_new: true }));
                }
                _ => return malformed("a block header that no build writes"),
            };
            let leader = *group.get_or_insert(header);
            let belongs = header.index == index
                && header.kind == leader.kind
                && header.group == leader.group
                && header.count == leader.count
                && header.watermark == leader.watermark
                && header.recorded_at == leader.recorded_at
                && header.chain == leader.chain;
            if !belongs {
                return malformed("a block of another group where one of this group belongs");
            }
            take_payload(block, 0..usize::from(header.used), &mut self.payload);
            self.starts.push((header.first, header.start));
            if index + 1 == leader.count {
                return Ok(Ok(group));
            }
        }
    }

    fn prove(&mut self, header: &BlockHeader) -> Result<Group, Bad> {
        let cursor = &self.cursor;
        let byte = u64::from(cursor.block) * BLOCK as u64;
        let bad = |problem: String| Bad { byte, problem, too_new: false };
        let number = cursor.group.saturating_add(u64::from(header.kind.is_link()));
        // A lost group stands for one or more and has the number of the last of them.
        let counted = header.group == number
            || (header.kind == GroupKind::Lost && header.group > cursor.group);
        if !counted || header.first != cursor.last.next() {
            return Err(bad(format!(
                "group {} from position {} where group {number} from position {} belongs",
                header.group,
                header.first,
                cursor.last.next()
            )));
        }
        if header.chain != cursor.chain {
            return Err(bad(format!("group {number} was written after another group")));
        }
        if header.recorded_at < cursor.recorded_at || header.watermark > cursor.last {
            return Err(bad(format!("group {number} has a time or watermark that cannot be")));
        }
        self.heads.clear();
        let (last, chain, lost) = match header.kind {
            GroupKind::Seal | GroupKind::Close => (cursor.last, cursor.chain, None),
            GroupKind::Lost => match LostRange::decode(&self.payload) {
                Some(lost) if lost.first == header.first => {
                    (lost.last, lost.chain_after, Some(lost))
                }
                _ => return Err(bad(format!("lost group {number} does not say what it lost"))),
            },
            GroupKind::Entries => {
                let (last, chain) = self.prove_entries(header)?;
                (last, chain, None)
            }
        };
        Ok(Group {
            kind: header.kind,
            number: header.group,
            block: header.block,
            blocks: header.count,
            first: header.first,
            last,
            recorded_at: header.recorded_at,
            watermark: header.watermark,
            chain_before: header.chain,
            chain,
            bytes: self.payload.len() as u64,
            lost,
        })
    }

    fn prove_entries(&mut self, header: &BlockHeader) -> Result<(Position, Hash), Bad> {
        let byte = u64::from(header.block) * BLOCK as u64;
        let bad = |problem: String| Bad { byte, problem, too_new: false };
        let mut chain = ChainHasher::new(header.chain, header.group, header.first);
        let mut next = header.first;
        let mut block_starts = self.starts.iter().zip(0..).peekable();
        for entry in Entries::new(&self.payload) {
            let entry = entry.map_err(|error| match error {
                BadHead::Malformed(what) => bad(format!("the entry at position {next}: {what}")),
                BadHead::TooNew(flags) => Bad {
                    byte,
                    problem: format!("the entry at position {next} has unknown flags {flags:#06x}"),
                    too_new: true,
                },
            })?;
            if entry.head.position != next || entry.head.recorded_at != header.recorded_at {
                return Err(bad(format!(
                    "an entry says position {} where {next} belongs, or another time",
                    entry.head.position
                )));
            }
            // Each block up to the one this entry begins in must name it as its first.
            while let Some(((first, start), _)) =
                block_starts.next_if(|(_, index): &(_, usize)| index * PAYLOAD <= entry.at)
            {
                let here = block_starts
                    .peek()
                    .is_none_or(|(_, index)| index * PAYLOAD > entry.at)
                    .then_some((entry.at % PAYLOAD) as u16);
                if (*first, *start) != (next, here) {
                    return Err(bad(format!("a block does not say where position {next} begins")));
                }
            }
            chain.head(entry.head_bytes);
            let body = entry.at + entry.head_bytes.len();
            self.heads.push((entry.head, body..body + entry.body.len()));
            next = next.next();
        }
        let tail_named = block_starts.all(|((first, start), _)| (*first, *start) == (next, None));
        if next == header.first || !tail_named {
            return Err(bad(format!("group {} has no entries, or misplaced ones", header.group)));
        }
        Ok((Position(next.0.saturating_sub(1)), chain.finish()))
    }
}
