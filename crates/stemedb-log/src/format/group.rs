//! Groups: entries laid out over blocks, and back.

use stemedb_model::{Hash, Millis, Position};

use super::block::{BLOCK, BlockHeader, GroupKind, PAYLOAD, put_payload, stamp_block};
use super::envelope::{BadHead, Head, decode_head, encode_head, head_len};
use crate::chain::ChainHasher;
use crate::entry::NewEntry;
use crate::error::LogError;

/// What a group is written under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupPlace {
    pub(crate) salt: u64,
    /// Number of its first block in the file.
    pub(crate) block: u32,
    /// Number of the group.
    pub(crate) group: u64,
    pub(crate) first: Position,
    pub(crate) watermark: Position,
    pub(crate) recorded_at: Millis,
    /// Chain hash after the previous group.
    pub(crate) chain: Hash,
}

/// Blocks that `bytes` of entries take.
pub(crate) fn blocks_of(bytes: usize) -> usize {
    bytes.div_ceil(PAYLOAD).max(1)
}

/// Lays `entries` out in `blocks`, which must be zero and exactly as long as they need; gives the
/// chain hash after the group. `head` is scratch space.
pub(crate) fn encode_entries(
    entries: &[NewEntry],
    place: &GroupPlace,
    blocks: &mut [u8],
    head: &mut Vec<u8>,
) -> Hash {
    let count = blocks.len() / BLOCK;
    let mut chain = ChainHasher::new(place.chain, place.group, place.first);
    // Where the first entry of each block begins.
    let mut starts: Vec<Option<(Position, u16)>> = vec![None; count];
    let mut at = 0;
    let mut position = place.first;
    for entry in entries {
        if let Some(start @ None) = starts.get_mut(at / PAYLOAD) {
            *start = Some((position, (at % PAYLOAD) as u16));
        }
        encode_head(entry, position, position, place.recorded_at, head);
        chain.head(head);
        put_payload(blocks, at, head);
        at += head.len();
        put_payload(blocks, at, &entry.body);
        at += entry.body.len();
        position = position.next();
    }
    stamp_group(GroupKind::Entries, place, blocks, at, &starts, position);
    chain.finish()
}

/// A seal, or a closing one, in one zero block.
pub(crate) fn encode_seal(kind: GroupKind, place: &GroupPlace, block: &mut [u8]) {
    stamp_group(kind, place, block, 0, &[None], place.first);
}

fn stamp_group(
    kind: GroupKind,
    place: &GroupPlace,
    blocks: &mut [u8],
    used: usize,
    starts: &[Option<(Position, u16)>],
    after: Position,
) {
    let count = (blocks.len() / BLOCK) as u32;
    let mut next = after;
    // Backwards: a block in which no entry begins names the one that begins next.
    for ((index, block), start) in (0..count).zip(blocks.chunks_exact_mut(BLOCK)).zip(starts).rev()
    {
        let first = start.map_or(next, |(position, _)| position);
        next = first;
        let number = place.block + index;
        BlockHeader {
            kind,
            used: used.saturating_sub(index as usize * PAYLOAD).min(PAYLOAD) as u16,
            salt: place.salt,
            group: place.group,
            first,
            watermark: place.watermark,
            index,
            count,
            block: number,
            start: start.map(|(_, start)| start),
            recorded_at: place.recorded_at,
            chain: place.chain,
        }
        .encode(block);
        stamp_block(block, place.salt, number);
    }
}

/// What a `lost` group says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// First lost position.
    pub first: Position,
    /// Last lost position.
    pub last: Position,
    /// The chain hash that the next provable group was written after.
    pub chain_after: Hash,
    /// When the repair was made.
    pub at: Millis,
    /// The tool that made it, with its version.
    pub tool: String,
}

const LOST_FIXED: usize = 8 + 8 + 32 + 8;

impl LostRange {
    /// Lays the group out in one zero block.
    pub(crate) fn encode(&self, place: &GroupPlace, block: &mut [u8]) {
        let mut payload = Vec::with_capacity(LOST_FIXED + self.tool.len());
        self.encode_payload(&mut payload);
        payload.truncate(PAYLOAD);
        put_payload(block, 0, &payload);
        let start = [Some((self.first, 0))];
        stamp_group(GroupKind::Lost, place, block, payload.len(), &start, self.last.next());
    }
}

impl LostRange {
    /// Appends the payload of the group.
    pub(crate) fn encode_payload(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.last.0.to_le_bytes());
        out.extend_from_slice(&self.chain_after.0);
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.extend_from_slice(self.tool.as_bytes());
    }

    /// What a read of one of its positions is answered.
    pub(crate) fn to_error(&self) -> LogError {
        let by = format!("{} at {} ms", self.tool, self.at.0);
        LogError::Lost { first: self.first, last: self.last, by }
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (fixed, tool) = payload.split_first_chunk::<LOST_FIXED>()?;
        let (first, rest) = fixed.split_first_chunk::<8>()?;
        let (last, rest) = rest.split_first_chunk::<8>()?;
        let (chain, at) = rest.split_first_chunk::<32>()?;
        let lost = Self {
            first: Position(u64::from_le_bytes(*first)),
            last: Position(u64::from_le_bytes(*last)),
            chain_after: Hash(*chain),
            at: Millis(i64::from_le_bytes(*at.first_chunk()?)),
            tool: String::from_utf8(tool.to_vec()).ok()?,
        };
        (lost.first <= lost.last && lost.last < Position::MAX).then_some(lost)
    }
}

/// Reads entries one after the other from the contiguous payload of a group.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    payload: &'a [u8],
    at: usize,
}

/// One entry, still in place.
#[derive(Debug)]
pub(crate) struct RawEntry<'a> {
    /// Offset in the payload.
    pub(crate) at: usize,
    pub(crate) head_bytes: &'a [u8],
    pub(crate) head: Head,
    pub(crate) body: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<RawEntry<'a>, BadHead>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.payload.get(self.at..).filter(|rest| !rest.is_empty())?;
        let entry = raw_entry(rest, self.at);
        self.at = match &entry {
            Ok(entry) => self.at + entry.head_bytes.len() + entry.body.len(),
            Err(_) => self.payload.len(),
        };
        Some(entry)
    }
}

fn raw_entry(rest: &[u8], at: usize) -> Result<RawEntry<'_>, BadHead> {
    let short = BadHead::Malformed("an entry is longer than its group");
    let (head_bytes, rest) = rest.split_at_checked(head_len(rest)?).ok_or(short.clone())?;
    let head = decode_head(head_bytes)?;
    let body = rest.get(..head.body_len as usize).ok_or(short)?;
    Ok(RawEntry { at, head_bytes, head, body })
}
