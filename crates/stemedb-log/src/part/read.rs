//! Proves the bytes of a part.

use std::io;

use stemedb_io::VfsFile;
use stemedb_model::{Millis, Position};

use super::{Link, PartContent, Tally, up_to};
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{GroupKind, SECTOR};
use crate::format::header::{FORMAT, HeaderState, SegmentHeader};
use crate::format::pack::FRAMES_AT;
use crate::packed::{PackedFile, PackedWalk};
use crate::walk::{Bad, Cursor, Group, Step};

/// Called with each group and its entries; an error ends the reading.
pub type VisitPart<'a> = dyn FnMut(&Group, Vec<Entry>) -> Result<(), LogError> + 'a;

/// Reads all of a part that is called `name` and proves it: every checksum, every position, every
/// link of the chain. Calls `visit` with each group in order; what it was given before an error is
/// proved as far as the chain goes. No length in `bytes` allocates more than a frame of its segment.
pub fn read_part(
    name: &str,
    bytes: &[u8],
    visit: &mut VisitPart<'_>,
) -> Result<PartContent, LogError> {
    read(name, bytes, visit).map(|(_, content)| content)
}

/// The same, with the header of the segment.
pub(super) fn read(
    name: &str,
    bytes: &[u8],
    visit: &mut VisitPart<'_>,
) -> Result<(SegmentHeader, PartContent), LogError> {
    let (header, start) = begin(name, bytes)?;
    let file = InMemory(bytes);
    let packed = PackedFile::new(&file, name, bytes.len() as u64, &header);
    let mut walk = PackedWalk::new(packed, start)?;
    let mut tally = Tally::new(start);
    loop {
        match walk.step()? {
            Step::Group(group) if group.kind == GroupKind::Close => break,
            Step::Group(group) => {
                let entries = walk.take_entries();
                tally.add(&group, entries.len());
                visit(&group, entries)?;
            }
            Step::Bad(bad) => return Err(not_believed(name, bad)),
            Step::Unwritten => {
                return Err(damaged(name, walk.offset(), "it has no end".into()));
            }
        }
    }
    let content = tally.content(&header);
    let content = content.ok_or_else(|| damaged(name, 0, "it holds no group".into()))?;
    Ok((header, content))
}

/// Where a log ends that is put together up to a position within a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartEnd {
    /// Its end: the log root.
    pub link: Link,
    /// When its last record was committed.
    pub recorded_at: Millis,
    /// It is inside of what was one group: the root is that of the shorter one.
    pub cut_group: bool,
}

/// Where a log would end that a [`Composer`](super::Composer) puts together from this part and those
/// before it, up to position `upto`. `None` if no record of the part would be in it.
pub fn end_within(name: &str, bytes: &[u8], upto: Position) -> Result<Option<PartEnd>, LogError> {
    let mut end: Option<PartEnd> = None;
    read_part(name, bytes, &mut |group, entries| {
        if let Some((group, _, cut_group)) = up_to(group, entries, upto) {
            let link = super::after(&group).into();
            end = Some(PartEnd { link, recorded_at: group.recorded_at, cut_group });
        }
        Ok(())
    })?;
    Ok(end)
}

/// The header of the segment, and the point before the first group.
pub(crate) fn begin(name: &str, bytes: &[u8]) -> Result<(SegmentHeader, Cursor), LogError> {
    let header = header(name, bytes)?;
    let file = InMemory(bytes);
    let packed = PackedFile::new(&file, name, bytes.len() as u64, &header);
    let first = packed.frame_header(FRAMES_AT)?.map_err(|bad| not_believed(name, bad))?;
    Ok((header, Cursor::before_frame(&first)))
}

fn not_believed(name: &str, bad: Bad) -> LogError {
    match bad.too_new {
        true => LogError::TooNew { file: name.into(), found: FORMAT + 1, supported: FORMAT },
        false => damaged(name, bad.byte, bad.problem),
    }
}

fn header(name: &str, bytes: &[u8]) -> Result<SegmentHeader, LogError> {
    let mut start = [0; 2 * SECTOR];
    let found = bytes.get(..SECTOR).unwrap_or_default();
    for (to, from) in start.iter_mut().zip(found) {
        *to = *from;
    }
    match SegmentHeader::decode(&start, None) {
        HeaderState::Ok(header) if header.packed => Ok(header),
        HeaderState::TooNew(found) => {
            Err(LogError::TooNew { file: name.into(), found, supported: FORMAT })
        }
        _ => Err(damaged(name, 0, "its header does not match its checksum".into())),
    }
}

fn damaged(name: &str, offset: u64, problem: String) -> LogError {
    LogError::Damaged {
        file: name.into(),
        offset,
        problem,
        first: Position::NONE,
        last: Position::NONE,
        hint: "it is not what was uploaded: look for another copy of it, or archive it again"
            .into(),
    }
}

/// Bytes where a reader of packed segments expects a file.
struct InMemory<'a>(&'a [u8]);

impl VfsFile for InMemory<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = buf.len().min(from.len());
        for (to, from) in buf.iter_mut().zip(from) {
            *to = *from;
        }
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn evict(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_nowait(&self, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
