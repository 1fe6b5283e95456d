//! The start of a segment: in its first sector the header, in its second the mark that preparing
//! it left. Each is one sector, so that a torn write leaves all of it or nothing. The layout is in
//! `docs/format/wal.md`.

use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

use super::block::{BLOCK, SECTOR, is_zero, sector_verifies, stamp_sector};

const MAGIC: [u8; 8] = *b"STEMEWAL";
const PACKED_MAGIC: [u8; 8] = *b"STEMEPAK";
const MARK_MAGIC: [u8; 8] = *b"STEMEPRE";
/// The format that this build writes, and the newest that it reads. Frozen: the files in
/// `tests/golden` are read for ever. Format 0 was this one in the making.
pub const FORMAT: u32 = 1;

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// The branch this one left, if any, and the last position they share.
    pub parent: Option<(Timeline, Position)>,
    /// Which of several logs of one database; 0 on one node.
    pub partition: u32,
    /// Number of the segment, from 1.
    pub number: u64,
    /// Seeds every checksum of the segment.
    pub salt: u64,
    /// Length of the file as it was prepared.
    pub segment_bytes: u64,
    /// Where the segment before this one ends.
    pub fence: Fence,
    /// How many lost groups a repair has put into it. Such a segment is read at every start, so
    /// that what is lost is always known.
    pub lost: u32,
    /// It was rewritten dense: frames and a footer follow instead of blocks.
    pub packed: bool,
}

/// The last durable point of the previous segment: its bytes beyond are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// Number of the previous segment; 0 for the first one of a log.
    pub segment: u64,
    /// Its salt; 0 for the first one.
    pub salt: u64,
    /// The last durable position, answered or not; 0 when there is none.
    pub position: Position,
    /// Number of its group; 0 when there is none.
    pub group: u64,
    /// `recorded_at` of that group; the earliest time there is when there is none.
    pub recorded_at: Millis,
    /// The chain hash after it.
    pub chain: Hash,
}

/// What the first sector of a segment turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderState {
    /// All zero: a prepared segment that was never used, or one that lost its header. With the
    /// salt of the mark, if that is there.
    Blank(Option<u64>),
    Ok(SegmentHeader),
    /// The preamble is intact and names a format this build does not read.
    TooNew(u32),
    /// Neither. With the salt of the mark, if that is there.
    Bad(Option<u64>),
}

impl SegmentHeader {
    /// Writes the header into the first sector of `block`, which is otherwise zero.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        let mut bytes = Vec::with_capacity(SECTOR);
        bytes.extend_from_slice(if self.packed { &PACKED_MAGIC } else { &MAGIC });
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.log_id.0);
        bytes.extend_from_slice(&self.timeline.0);
        let (parent, branch) = self.parent.unwrap_or((Timeline([0; 16]), Position::NONE));
        bytes.extend_from_slice(&parent.0);
        bytes.extend_from_slice(&branch.0.to_le_bytes());
        bytes.extend_from_slice(&self.partition.to_le_bytes());
        bytes.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.segment_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.fence.segment.to_le_bytes());
        bytes.extend_from_slice(&self.fence.salt.to_le_bytes());
        bytes.extend_from_slice(&self.fence.position.0.to_le_bytes());
        bytes.extend_from_slice(&self.fence.group.to_le_bytes());
        bytes.extend_from_slice(&self.fence.recorded_at.0.to_le_bytes());
        bytes.extend_from_slice(&self.fence.chain.0);
        bytes.extend_from_slice(&self.lost.to_le_bytes());
        bytes.resize(SECTOR, 0);
        stamp_sector(&mut bytes, self.salt, 0);
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    /// Reads the first two sectors of segment `number`, if that is known: the mark of another one is
    /// none.
    pub(crate) fn decode(start: &[u8; 2 * SECTOR], number: Option<u64>) -> HeaderState {
        let header = start.split_at(SECTOR).0;
        let salt = marked_salt(start, number);
        if is_zero(header) {
            return HeaderState::Blank(salt);
        }
        Self::decode_written(header).unwrap_or(HeaderState::Bad(salt))
    }

    fn decode_written(sector: &[u8]) -> Option<HeaderState> {
        let preamble = sector.first_chunk::<12>()?;
        let mut rest = sector;
        let magic: [u8; 8] = take(&mut rest)?;
        let format = u32::from_le_bytes(take(&mut rest)?);
        let crc: [u8; 4] = take(&mut rest)?;
        // The preamble has a checksum of its own, the same in every format to come: "newer than
        // this build" and "damaged" must not be taken for each other.
        let packed = magic == PACKED_MAGIC;
        if !(packed || magic == MAGIC) || crc != crc32c::crc32c(preamble).to_le_bytes() {
            return None;
        }
        if format > FORMAT {
            return Some(HeaderState::TooNew(format));
        }
        let salt = u64::from_le_bytes(take(&mut rest)?);
        if !sector_verifies(sector, salt, 0) {
            return None;
        }
        let log_id = LogId(take(&mut rest)?);
        let timeline = Timeline(take(&mut rest)?);
        let parent = Timeline(take(&mut rest)?);
        let branch = Position(u64::from_le_bytes(take(&mut rest)?));
        let partition = u32::from_le_bytes(take(&mut rest)?);
        let block_bytes = u32::from_le_bytes(take(&mut rest)?);
        let number = u64::from_le_bytes(take(&mut rest)?);
        let segment_bytes = u64::from_le_bytes(take(&mut rest)?);
        let fence = Fence {
            segment: u64::from_le_bytes(take(&mut rest)?),
            salt: u64::from_le_bytes(take(&mut rest)?),
            position: Position(u64::from_le_bytes(take(&mut rest)?)),
            group: u64::from_le_bytes(take(&mut rest)?),
            recorded_at: Millis(i64::from_le_bytes(take(&mut rest)?)),
            chain: Hash(take(&mut rest)?),
        };
        let lost = u32::from_le_bytes(take(&mut rest)?);
        if block_bytes as usize != BLOCK {
            return None;
        }
        let parent = (parent.0 != [0; 16]).then_some((parent, branch));
        Some(HeaderState::Ok(Self {
            log_id,
            timeline,
            parent,
            partition,
            number,
            salt,
            segment_bytes,
            fence,
            lost,
            packed,
        }))
    }
}

/// Writes the mark of a prepared segment into its second sector; `block` is its first block. The
/// mark names the salt before the header does, so that of a torn first write every sector can be
/// judged.
pub(crate) fn encode_mark(number: u64, salt: u64, block: &mut [u8]) {
    let mut bytes = Vec::with_capacity(SECTOR);
    bytes.extend_from_slice(&MARK_MAGIC);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&salt.to_le_bytes());
    bytes.resize(SECTOR, 0);
    stamp_sector(&mut bytes, salt, 1);
    for (to, from) in block.iter_mut().skip(SECTOR).zip(bytes) {
        *to = from;
    }
}

/// The salt that the mark in the second of these sectors names, whatever the first one says. A mark
/// of another segment than `number` was meant for another place: two segments with one salt would
/// let the blocks of one pass for the other's.
pub(crate) fn marked_salt(start: &[u8; 2 * SECTOR], number: Option<u64>) -> Option<u64> {
    let mark = start.split_at(SECTOR).1;
    let mut rest = mark;
    let magic: [u8; 8] = take(&mut rest)?;
    let marked = u64::from_le_bytes(take(&mut rest)?);
    let salt = u64::from_le_bytes(take(&mut rest)?);
    let ours = number.is_none_or(|number| number == marked);
    (magic == MARK_MAGIC && ours && sector_verifies(mark, salt, 1)).then_some(salt)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*field)
}

/// Name of segment `number`.
pub(crate) fn segment_name(number: u64) -> String {
    format!("segment.{number:03}.wal")
}

/// More segments than any log has; keeps arithmetic on numbers from names harmless.
const NUMBER_MAX: u64 = 1 << 48;

/// Number of the segment called `name`; `None` if it is not exactly such a name.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment.")?.strip_suffix(".wal")?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name && (1..=NUMBER_MAX).contains(&number)).then_some(number)
}
