//! Where the log begins once older segments were removed: the file `floor`. It is replaced as a
//! whole and made durable before the first of them goes. Without the file a log begins with
//! segment 1, and a missing segment is damage.
//!
//! | offset | bytes | field      | meaning                                         |
//! |-------:|------:|------------|-------------------------------------------------|
//! |      0 |     8 | magic      | `STEMEFLR`                                      |
//! |      8 |     4 | format     | 0                                               |
//! |     12 |     4 | CRC        | of bytes 0 to 11: newer is not damaged          |
//! |     16 |    16 | log_id     | name of the database                            |
//! |     32 |    16 | timeline   | of the first kept segment                       |
//! |     48 |     8 | number     | of the first kept segment                       |
//! |     56 |     8 | salt       | its salt                                        |
//! |     64 |     8 | first      | its first position                              |
//! |     72 |    32 | chain      | the chain hash before that                      |
//! |    104 |     4 | CRC        | of all bytes before                             |

use std::io;
use std::path::Path;

use stemedb_io::{Open, Vfs};
use stemedb_model::{Hash, LogId, Position, Timeline};

use super::survey;
use crate::error::LogError;
use crate::format::header::{FORMAT, SegmentHeader, segment_name};

pub(crate) const NAME: &str = "floor";
const TEMPORARY: &str = "floor.tmp";
const MAGIC: [u8; 8] = *b"STEMEFLR";
const BYTES: usize = 108;
const PREAMBLE: usize = 12;

/// The beginning of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) log_id: LogId,
    pub(crate) timeline: Timeline,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) first: Position,
    pub(crate) chain: Hash,
}

/// Why the file could not be replaced.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The old one is still there, untouched.
    Before(&'static str, io::Error),
    /// The new one has the name; whether that survives is not known.
    After(io::Error),
}

impl Floor {
    /// The floor under the segment with this header.
    pub(crate) fn under(header: &SegmentHeader) -> Self {
        Self {
            log_id: header.log_id,
            timeline: header.timeline,
            number: header.number,
            salt: header.salt,
            first: header.fence.position.next(),
            chain: header.fence.chain,
        }
    }

    /// `None` if there is no such file. One that cannot be believed is an error: without it
    /// nothing tells a removed segment from a lost one.
    pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Self>, LogError> {
        let failed = |op| move |source| survey::io(NAME, op, 0, source);
        let file = match vfs.open(&dir.join(NAME), Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open"))?,
        };
        // One byte more than it has, so that a longer file is noticed.
        let mut bytes = [0; BYTES + 1];
        let read = file.read_at(&mut bytes, 0).map_err(failed("read"))?;
        let bytes = bytes.get(..read).unwrap_or_default();
        if let Some(found) = newer(bytes) {
            return Err(LogError::TooNew { file: NAME.into(), found, supported: FORMAT });
        }
        Self::decode(bytes).map(Some).ok_or_else(|| LogError::Damaged {
            file: NAME.into(),
            offset: 0,
            problem: "corrupt: it does not match its checksum, so nothing says which of the older \
                      segments were removed on purpose"
                .into(),
            first: Position::NONE,
            last: Position::NONE,
            hint: format!("put back the copy of `{NAME}` that is in the archive or a backup"),
        })
    }

    /// Replaces the file, whole or not at all, and makes that durable.
    pub(crate) fn store(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(TEMPORARY);
        let failed = |op| move |error| StoreError::Before(op, error);
        match vfs.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Before("remove", error));
            }
            _ => {}
        }
        let file = vfs.open(&path, Open::CreateNew).map_err(failed("create"))?;
        file.write_at(&self.encode(), 0).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))?;
        file.close().map_err(failed("close"))?;
        vfs.rename(&path, &dir.join(NAME)).map_err(failed("rename"))?;
        vfs.sync_dir(dir).map_err(StoreError::After)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&self.log_id.0);
        bytes.extend_from_slice(&self.timeline.0);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.first.0.to_le_bytes());
        bytes.extend_from_slice(&self.chain.0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        let rest = covered.strip_prefix(&MAGIC)?.get(PREAMBLE + 4 - MAGIC.len()..)?;
        let (log_id, rest) = rest.split_first_chunk::<16>()?;
        let (timeline, rest) = rest.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (salt, rest) = rest.split_first_chunk::<8>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let chain: &[u8; 32] = rest.try_into().ok()?;
        (*crc == crc32c::crc32c(covered).to_le_bytes()).then_some(Self {
            log_id: LogId(*log_id),
            timeline: Timeline(*timeline),
            number: u64::from_le_bytes(*number),
            salt: u64::from_le_bytes(*salt),
            first: Position(u64::from_le_bytes(*first)),
            chain: Hash(*chain),
        })
    }

    /// Whether this is the header of the segment that the floor names.
    pub(crate) fn fits(&self, header: &SegmentHeader) -> bool {
        *self == Self::under(header)
    }

    /// Takes the segments below the floor out of `segments` and says so of each.
    pub(crate) fn cut(&self, segments: &mut Vec<(u64, String)>) -> Vec<String> {
        let below = segments.extract_if(.., |(number, _)| *number < self.number);
        let first = segment_name(self.number);
        below
            .map(|(_, name)| {
                format!("{name} is ignored: it was removed from the log, which begins with {first}")
            })
            .collect()
    }

    /// Whether `name` is the file or its unfinished successor.
    pub(crate) fn owns(name: &str) -> bool {
        name == NAME || name == TEMPORARY
    }
}

/// The format of a file that is intact so far and newer than this build.
fn newer(bytes: &[u8]) -> Option<u32> {
    let preamble = bytes.first_chunk::<PREAMBLE>()?;
    let crc = bytes.get(PREAMBLE..PREAMBLE + 4)?;
    let format = u32::from_le_bytes(*preamble.last_chunk()?);
    let intact = preamble.starts_with(&MAGIC) && *crc == crc32c::crc32c(preamble).to_le_bytes();
    (intact && format > FORMAT).then_some(format)
}
