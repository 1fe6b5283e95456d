//! A segment in either of its shapes, blocks or packed. Whoever reads groups in order reads them
//! here and need not know which.

use std::path::Path;

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::{Hash, Millis, Position};

use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{BLOCK, Look};
use crate::format::header::{HeaderState, SegmentHeader, segment_name};
use crate::format::pack::FramePlace;
use crate::packed::{PackedFile, PackedWalk};
use crate::recover::survey::{io, read_header};
use crate::walk::{Blocks, Cursor, Marks, Step, Walk};

/// Goes through the groups of a segment and proves each.
pub(crate) struct Groups<'a> {
    file: &'a dyn VfsFile,
    name: &'a str,
    blocks: u32,
    read_ahead: u32,
    salt: u64,
    shape: Shape<'a>,
}

enum Shape<'a> {
    Blocks(Box<Walk<'a>>),
    Packed(Box<PackedWalk<'a>>),
}

impl<'a> Groups<'a> {
    /// All groups of a file of `len` bytes whose header is `header`; blocks are read `read_ahead`
    /// at a time.
    pub(crate) fn new(
        file: &'a dyn VfsFile,
        name: &'a str,
        len: u64,
        header: &SegmentHeader,
        read_ahead: u32,
    ) -> Result<Self, LogError> {
        let start = Cursor::start_of(header);
        let blocks = (len / BLOCK as u64) as u32;
        let shape = if header.packed {
            let packed = PackedFile::new(file, name, len, header);
            Shape::Packed(Box::new(PackedWalk::new(packed, start)?))
        } else {
            let blocks = Blocks::new(file, name, blocks, read_ahead);
            Shape::Blocks(Box::new(Walk::new(blocks, header.salt, start)))
        };
        Ok(Self { file, name, blocks, read_ahead, salt: header.salt, shape })
    }

    /// The groups of a file of blocks without a header, from the first one that can be believed;
    /// `None` if there is none.
    pub(crate) fn first_of(
        file: &'a dyn VfsFile,
        name: &'a str,
        len: u64,
        salt: u64,
        read_ahead: u32,
    ) -> Result<Option<Self>, LogError> {
        let blocks = (len / BLOCK as u64) as u32;
        let nowhere = Cursor {
            block: 1,
            group: 0,
            last: Position::NONE,
            recorded_at: Millis(i64::MIN),
            chain: Hash([0; 32]),
        };
        let walk = Walk::new(Blocks::new(file, name, blocks, read_ahead), salt, nowhere);
        let mut groups =
            Self { file, name, blocks, read_ahead, salt, shape: Shape::Blocks(Box::new(walk)) };
        Ok(groups.skip(false)?.then_some(groups))
    }

    /// It has frames, not blocks.
    pub(crate) fn packed(&self) -> bool {
        matches!(self.shape, Shape::Packed(_))
    }

    /// Reads and proves the next group. `Err` only if the medium cannot be read.
    pub(crate) fn step(&mut self) -> Result<Step, LogError> {
        match &mut self.shape {
            Shape::Blocks(walk) => walk.step(),
            Shape::Packed(walk) => walk.step(),
        }
    }

    /// The entries of the group that the last step proved; the next call has none.
    pub(crate) fn take_entries(&mut self) -> Vec<Entry> {
        match &mut self.shape {
            Shape::Blocks(walk) => walk.take_entries(),
            Shape::Packed(walk) => walk.take_entries(),
        }
    }

    /// After the last group that was proved.
    pub(crate) fn cursor(&self) -> Cursor {
        match &self.shape {
            Shape::Blocks(walk) => walk.cursor,
            Shape::Packed(walk) => walk.cursor,
        }
    }

    /// The byte of the file up to which it was read.
    pub(crate) fn offset(&self) -> u64 {
        match &self.shape {
            Shape::Blocks(walk) => u64::from(walk.cursor.block) * BLOCK as u64,
            Shape::Packed(walk) => walk.offset(),
        }
    }

    /// The next group that can be believed is behind something that cannot, or that was never
    /// written: goes there. `false` if there is none.
    pub(crate) fn skip(&mut self, bad: bool) -> Result<bool, LogError> {
        match &mut self.shape {
            Shape::Packed(walk) => walk.skip(),
            Shape::Blocks(walk) => {
                let from = walk.cursor.block.saturating_add(u32::from(bad));
                let mut blocks = Blocks::new(self.file, self.name, self.blocks, self.read_ahead);
                for number in from..self.blocks {
                    let Some(block) = blocks.get(number)? else { break };
                    if let Some(Ok(header)) = Look::at(block, self.salt, number).header
                        && header.index == 0
                    {
                        **walk = Walk::new(blocks, self.salt, Cursor::before(&header));
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Of a packed segment, the byte behind its last frame, if its end can be believed.
    pub(crate) fn frames_end(&self) -> Option<u64> {
        match &self.shape {
            Shape::Blocks(_) => None,
            Shape::Packed(walk) => walk.footer.as_ref().ok().map(|footer| footer.offset),
        }
    }

    /// Where positions are to be looked for, of what was walked.
    pub(crate) fn into_marks(self) -> Marks {
        match self.shape {
            Shape::Blocks(walk) => walk.marks,
            Shape::Packed(_) => Marks::default(),
        }
    }

    /// Of a packed segment in which a step could not believe what it found: the last position
    /// that is not proved for that reason, if anything can tell. The walk is moved.
    pub(crate) fn missing_to(&mut self) -> Result<Option<Position>, LogError> {
        let Shape::Packed(walk) = &mut self.shape else { return Ok(None) };
        let last = walk.known_last();
        Ok(if walk.skip()? { Some(walk.cursor.last) } else { last })
    }
}

/// A segment that reading ends keep open. Its shape is that of the file it was opened as: when
/// the name has got a packed file since, this one goes on as it is.
pub(crate) struct OpenSegment {
    pub(crate) file: Box<dyn VfsFile>,
    pub(crate) name: String,
    /// `None`: blocks.
    pub(crate) packed: Option<OpenPacked>,
}

pub(crate) struct OpenPacked {
    pub(crate) header: SegmentHeader,
    pub(crate) len: u64,
    pub(crate) frames: Vec<FramePlace>,
}

impl OpenSegment {
    pub(crate) fn open(vfs: &dyn Vfs, dir: &Path, number: u64) -> Result<Self, LogError> {
        let name = segment_name(number);
        let file = vfs
            .open(&dir.join(&name), Open::Read)
            .map_err(|source| io(&name, "open", 0, source))?;
        let packed = match read_header(&*file, &name)? {
            HeaderState::Ok(header) if header.packed => {
                let len = file.len().map_err(|source| io(&name, "measure", 0, source))?;
                let frames = PackedFile::new(&*file, &name, len, &header).index()?;
                Some(OpenPacked { header, len, frames })
            }
            // A header that cannot be read does not keep blocks from being read: each has its
            // own proof.
            _ => None,
        };
        Ok(Self { file, name, packed })
    }

    /// Its frames, if it is packed.
    pub(crate) fn packed(&self) -> Option<(PackedFile<'_>, &OpenPacked)> {
        let packed = self.packed.as_ref()?;
        let file = PackedFile::new(&*self.file, &self.name, packed.len, &packed.header);
        Some((file, packed))
    }
}
