//! Blocks of 4 KiB: eight sectors, each with its own checksum; the first starts with a header.
//!
//! The checksum of a sector is CRC-32C over the segment's salt, the number of the sector in the
//! file and the sector's other bytes. So a disk's unit of writing is also the unit of proof: of a
//! torn group it can be said, sector by sector, what was written and what was not, and a sector
//! at another place or of an older file never verifies.

use stemedb_model::{Hash, Millis, Position};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// Bytes that a disk writes in one piece.
pub(crate) const SECTOR: usize = 512;
/// Bytes of a sector before its checksum.
const SECTOR_DATA: usize = SECTOR - 4;
/// Bytes of the header at the start of a block.
pub(crate) const HEADER: usize = 96;
/// Bytes of a group that a block carries.
pub(crate) const PAYLOAD: usize = (BLOCK / SECTOR) * SECTOR_DATA - HEADER;

const _: () = assert!(HEADER < SECTOR_DATA && PAYLOAD == 3968);

const MAGIC: [u8; 4] = *b"SWB0";
/// Where a block header has the number of the block.
const NUMBER_AT: usize = 48;
/// `start` of a block in which no entry begins.
const NO_START: u16 = u16::MAX;

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// Records.
    Entries,
    /// No records: it carries the newest watermark.
    Seal,
    /// A seal that ends its segment: the log went on in the next one.
    Close,
    /// Written by a repair in place of positions that damage took.
    Lost,
}

impl GroupKind {
    /// Whether it is a link of the chain and takes positions; seals do not.
    pub fn is_link(self) -> bool {
        matches!(self, Self::Entries | Self::Lost)
    }
}

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// What its group is.
    pub kind: GroupKind,
    /// Payload bytes used; less than all only in the last block of a group.
    pub used: u16,
    /// The segment's salt.
    pub salt: u64,
    /// Number of its group, from 1; of a seal, the number of the group before it.
    pub group: u64,
    /// Position of the first entry that begins in this block, or of the next one to begin.
    pub first: Position,
    /// Everything up to here was durable when the block was written.
    pub watermark: Position,
    /// Number of the block in its group, from 0.
    pub index: u32,
    /// Blocks of the group.
    pub count: u32,
    /// Number of the block in the file; block 0 holds the segment header.
    pub block: u32,
    /// Where in the payload the entry at `first` begins; `None` if it begins in a later block.
    pub start: Option<u16>,
    /// `recorded_at` of the group; of a seal, of the group before it.
    pub recorded_at: Millis,
    /// Chain hash after the previous group.
    pub chain: Hash,
}

/// Why the header of a block whose first sector verifies is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    TooNew,
    Malformed,
}

fn sector_crc(salt: u64, sector: u64, data: &[u8]) -> u32 {
    let mut place = [0; 16];
    let (left, right) = place.split_at_mut(8);
    left.copy_from_slice(&salt.to_le_bytes());
    right.copy_from_slice(&sector.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), data)
}

/// Whether `sector` (number `number` of its file) is what was written under `salt`.
pub(crate) fn sector_verifies(sector: &[u8], salt: u64, number: u64) -> bool {
    match sector.split_at_checked(SECTOR_DATA) {
        Some((data, crc)) => crc == sector_crc(salt, number, data).to_le_bytes(),
        None => false,
    }
}

/// Puts the checksum at the end of `sector`.
pub(crate) fn stamp_sector(sector: &mut [u8], salt: u64, number: u64) {
    if let Some((data, crc)) = sector.split_at_mut_checked(SECTOR_DATA) {
        crc.copy_from_slice(&sector_crc(salt, number, data).to_le_bytes());
    }
}

/// Stamps every sector of a block.
pub(crate) fn stamp_block(block: &mut [u8], salt: u64, number: u32) {
    for (sector, bytes) in sectors(number).zip(block.chunks_exact_mut(SECTOR)) {
        stamp_sector(bytes, salt, sector);
    }
}

/// Numbers, in the file, of the sectors of a block.
fn sectors(block: u32) -> impl Iterator<Item = u64> {
    let first = u64::from(block) * (BLOCK / SECTOR) as u64;
    first..first + (BLOCK / SECTOR) as u64
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// What the checksums say about a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// A bit per sector that verifies.
    valid: u8,
    /// A bit per sector that is all zero.
    zero: u8,
    /// The header, if its sector verifies.
    pub(crate) header: Option<Result<BlockHeader, BadHeader>>,
}

impl Look {
    /// Looks at block number `number` of a segment with `salt`.
    pub(crate) fn at(block: &[u8; BLOCK], salt: u64, number: u32) -> Self {
        let (mut valid, mut zero) = (0u8, 0u8);
        for ((bit, sector), bytes) in (0..).zip(sectors(number)).zip(block.chunks_exact(SECTOR)) {
            if sector_verifies(bytes, salt, sector) {
                valid |= 1 << bit;
            } else if is_zero(bytes) {
                zero |= 1 << bit;
            }
        }
        let header = (valid & 1 != 0).then(|| BlockHeader::decode(block, salt, number));
        Self { valid, zero, header }
    }

    /// Every sector is what was written.
    pub(crate) fn whole(&self) -> bool {
        self.valid == u8::MAX
    }

    /// Nothing was ever written.
    pub(crate) fn unwritten(&self) -> bool {
        self.zero == u8::MAX
    }

    /// Byte in the block of the first sector that does not verify.
    pub(crate) fn first_bad(&self) -> usize {
        self.valid.trailing_ones() as usize * SECTOR
    }

    /// Byte in the block of the first sector that is neither valid nor unwritten.
    pub(crate) fn first_rotten(&self) -> Option<usize> {
        let bit = (self.valid | self.zero).trailing_ones() as usize;
        (bit < BLOCK / SECTOR).then_some(bit * SECTOR)
    }
}

impl BlockHeader {
    /// Writes the header into the first bytes of a block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        let kind = match self.kind {
            GroupKind::Entries => 1,
            GroupKind::Seal => 2,
            GroupKind::Lost => 3,
            GroupKind::Close => 4,
        };
        let mut out = block;
        put(&mut out, &MAGIC);
        put(&mut out, &[kind, 0]);
        put(&mut out, &self.used.to_le_bytes());
        put(&mut out, &self.salt.to_le_bytes());
        put(&mut out, &self.group.to_le_bytes());
        put(&mut out, &self.first.0.to_le_bytes());
        put(&mut out, &self.watermark.0.to_le_bytes());
        put(&mut out, &self.index.to_le_bytes());
        put(&mut out, &self.count.to_le_bytes());
        put(&mut out, &self.block.to_le_bytes());
        put(&mut out, &self.start.unwrap_or(NO_START).to_le_bytes());
        put(&mut out, &[0, 0]);
        put(&mut out, &self.recorded_at.0.to_le_bytes());
        put(&mut out, &self.chain.0);
    }

    fn decode(block: &[u8; BLOCK], salt: u64, number: u32) -> Result<Self, BadHeader> {
        let header = Self::decode_unplaced(block)?;
        if header.salt != salt || header.block != number {
            return Err(BadHeader::Malformed);
        }
        Ok(header)
    }

    /// Reads the fields, whatever segment and place they are from.
    fn decode_unplaced(block: &[u8; BLOCK]) -> Result<Self, BadHeader> {
        let mut fields = Fields(block);
        if fields.take::<4>()? != MAGIC {
            return Err(BadHeader::Malformed);
        }
        let [kind, flags] = fields.take()?;
        let kind = match kind {
            1 => GroupKind::Entries,
            2 => GroupKind::Seal,
            3 => GroupKind::Lost,
            4 => GroupKind::Close,
            _ => return Err(BadHeader::TooNew),
        };
        if flags != 0 {
            return Err(BadHeader::TooNew);
        }
        let used = u16::from_le_bytes(fields.take()?);
        let salt = u64::from_le_bytes(fields.take()?);
        let group = u64::from_le_bytes(fields.take()?);
        let first = Position(u64::from_le_bytes(fields.take()?));
        let watermark = Position(u64::from_le_bytes(fields.take()?));
        let index = u32::from_le_bytes(fields.take()?);
        let count = u32::from_le_bytes(fields.take()?);
        let block = u32::from_le_bytes(fields.take()?);
        let start = u16::from_le_bytes(fields.take()?);
        let reserved: [u8; 2] = fields.take()?;
        let recorded_at = Millis(i64::from_le_bytes(fields.take()?));
        let chain = Hash(fields.take()?);
        let start = (start != NO_START).then_some(start);
        let in_range = usize::from(used) <= PAYLOAD
            && start.is_none_or(|start| start < used)
            && index < count
            && (index + 1 == count || usize::from(used) == PAYLOAD)
            && index <= block
            && reserved == [0, 0];
        if !in_range {
            return Err(BadHeader::Malformed);
        }
        Ok(Self {
            kind,
            used,
            salt,
            group,
            first,
            watermark,
            index,
            count,
            block,
            start,
            recorded_at,
            chain,
        })
    }

    /// The salt that a block claims to be written under. Believe it only after [`Look::at`] with
    /// this salt.
    pub(crate) fn claimed_salt(block: &[u8; BLOCK]) -> Option<u64> {
        Self::decode_unplaced(block).ok().map(|header| header.salt)
    }
}

/// Writes one field, as far as there is room, and moves on.
fn put(out: &mut &mut [u8], field: &[u8]) {
    if let Some((to, rest)) = std::mem::take(out).split_at_mut_checked(field.len()) {
        to.copy_from_slice(field);
        *out = rest;
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadHeader> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(BadHeader::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }
}

/// Calls `piece` with each run of contiguous payload bytes of blocks laid out one after the other:
/// `from..to` are offsets in the payload, pieces are ranges of bytes of the blocks.
fn pieces(from: usize, to: usize, mut piece: impl FnMut(std::ops::Range<usize>)) {
    let mut at = from;
    while at < to {
        let in_block = at % PAYLOAD + HEADER;
        let within = in_block % SECTOR_DATA;
        let run = (SECTOR_DATA - within).min(to - at);
        let byte = at / PAYLOAD * BLOCK + in_block / SECTOR_DATA * SECTOR + within;
        piece(byte..byte + run);
        at += run;
    }
}

/// Makes a block that was proved one of another place in the same segment.
pub(crate) fn move_block(block: &mut [u8], salt: u64, number: u32) {
    if let Some(field) = block.get_mut(NUMBER_AT..NUMBER_AT + 4) {
        field.copy_from_slice(&number.to_le_bytes());
    }
    stamp_block(block, salt, number);
}

/// The first position of a block that was just encoded.
pub(crate) fn first_of(block: &[u8]) -> Option<Position> {
    let block: &[u8; BLOCK] = block.first_chunk()?;
    BlockHeader::decode_unplaced(block).ok().map(|header| header.first)
}

/// Copies `bytes` into the payload of `blocks`, from payload offset `at` on.
pub(crate) fn put_payload(blocks: &mut [u8], at: usize, bytes: &[u8]) {
    let mut rest = bytes;
    pieces(at, at + bytes.len(), |range| {
        let (now, later) = rest.split_at(range.len().min(rest.len()));
        if let Some(to) = blocks.get_mut(range) {
            to.copy_from_slice(now);
        }
        rest = later;
    });
}

/// Appends a range of the payload bytes of `block` to `out`.
pub(crate) fn take_payload(block: &[u8; BLOCK], range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    pieces(range.start, range.end.min(PAYLOAD), |range| {
        out.extend_from_slice(block.get(range).unwrap_or_default());
    });
}
