//! A packed segment, given to the rest of the repair as the blocks it would be without packing:
//! one way to salvage, plan and write. Frames that cannot be proved stand as one block that never
//! verifies; where anything was in the file is kept, so that what people read names bytes of it.

use std::io;

use stemedb_io::VfsFile;
use stemedb_model::Position;

use super::patient::{Patient, read_only};
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{BLOCK, GroupKind, SECTOR};
use crate::format::group::{GroupPlace, blocks_of, encode_entries, encode_seal};
use crate::format::header::SegmentHeader;
use crate::format::pack::{FRAMES_AT, Footer, TRAILER};
use crate::packed::PackedFile;
use crate::recover::survey::io;
use crate::segment::Groups;
use crate::walk::{Cursor, Group, Step};

/// What such a block is filled with: not zero, which is what was never written.
const UNPROVED: u8 = 0xff;
/// Without any header that tells, no frame unpacks to more than this.
const SEGMENT_MAX: u64 = 1 << 32;

/// A packed file and where its bytes are in the blocks made of it.
pub(super) struct Packed {
    pub(super) file: Patient,
    pub(super) len: u64,
    /// In order, one for each group, damage, or end.
    places: Vec<Place>,
}

struct Place {
    /// Byte of the blocks.
    block: u64,
    /// Byte of the file.
    file: u64,
    /// Why what begins there is not believed.
    problem: Option<String>,
}

impl Packed {
    /// The byte of the file for a byte of the blocks that begins something.
    pub(super) fn start(&self, block_byte: u64) -> u64 {
        let places = self.places.iter().take_while(|place| place.block <= block_byte);
        places.last().map_or(0, |place| place.file)
    }

    /// The same for a byte that ends something.
    pub(super) fn end(&self, block_byte: u64) -> u64 {
        let mut places = self.places.iter();
        places.find(|place| place.block >= block_byte).map_or(self.len, |place| place.file)
    }

    /// Why the first damage between two bytes of the blocks is not believed.
    pub(super) fn problem(&self, from: u64, to: u64) -> Option<&str> {
        let within = self.places.iter().filter(|place| (from..to).contains(&place.block));
        within.filter_map(|place| place.problem.as_deref()).next()
    }
}

/// Salt of a packed segment, by its end or its first frame, whatever its header says, and what its
/// first frame was written after. `None`: nothing of it says that it is packed.
pub(super) fn claim(
    file: &dyn VfsFile,
    name: &str,
    len: u64,
) -> Result<Option<(u64, Option<Cursor>)>, LogError> {
    let at = len.saturating_sub(TRAILER as u64);
    let mut trailer = [0; TRAILER];
    let read = file.read_at(&mut trailer, at).map_err(|source| io(name, "read", at, source))?;
    let Some(salt) = Footer::claimed_salt(&trailer, len).filter(|_| read == TRAILER) else {
        return Ok(None);
    };
    let packed = PackedFile::with_salt(file, name, len, salt, SEGMENT_MAX);
    let first = packed.frame_header(FRAMES_AT)?.ok().map(|frame| Cursor::before_frame(&frame));
    Ok(Some((salt, first)))
}

/// Unpacks what can be proved. Memory: the length of the segment before it was packed.
pub(super) fn unpack(
    file: Patient,
    name: &str,
    len: u64,
    header: &SegmentHeader,
) -> Result<(Blocks, Packed), LogError> {
    let mut bytes = vec![0; BLOCK];
    let sector = bytes.get_mut(..SECTOR).unwrap_or_default();
    file.read_at(sector, 0).map_err(|source| io(name, "read", 0, source))?;
    let header = SegmentHeader { packed: true, ..header.clone() };
    let mut groups = Groups::new(&file, name, len, &header, 1)?;
    let mut places = Vec::new();
    let mut end = len;
    // Where the frame begins that the last group was in.
    let mut frame = FRAMES_AT;
    loop {
        let (before, from) = (groups.cursor(), groups.offset());
        let step = groups.step()?;
        if groups.offset() != from {
            frame = from;
        }
        let at = bytes.len() as u64;
        let number = u32::try_from(at / BLOCK as u64).unwrap_or(u32::MAX);
        let problem = match step {
            Step::Unwritten => break,
            Step::Group(group) => {
                let entries = groups.take_entries();
                let blocks = as_blocks(&group, entries, header.salt, number, before.last);
                if let Some(blocks) = blocks {
                    let start = if group.kind == GroupKind::Close { from } else { frame };
                    places.push(Place { block: at, file: start, problem: None });
                    bytes.extend_from_slice(&blocks);
                    continue;
                }
                "a group that has no form as blocks".to_owned()
            }
            Step::Bad(bad) if bad.too_new => {
                let problem = format!("byte {}: {}", bad.byte, bad.problem);
                return Err(super::neighbours::cannot(name, &problem).hint("use a newer build"));
            }
            Step::Bad(bad) => bad.problem,
        };
        places.push(Place { block: at, file: from, problem: Some(problem) });
        bytes.resize(bytes.len() + BLOCK, UNPROVED);
        if !groups.skip(true)? {
            // The last frame was bad. The end behind it says no more, and is no loss.
            end = groups.frames_end().unwrap_or(len);
            break;
        }
    }
    drop(groups);
    places.push(Place { block: bytes.len() as u64, file: end, problem: None });
    Ok((Blocks(bytes), Packed { file, len, places }))
}

/// A group as blocks, the first of them number `block`; everything up to `durable` was durable before
/// it. `None` if that would be another group.
pub(super) fn as_blocks(
    group: &Group,
    entries: Vec<Entry>,
    salt: u64,
    block: u32,
    durable: Position,
) -> Option<Vec<u8>> {
    let place = GroupPlace {
        salt,
        block,
        group: group.number,
        first: group.first,
        watermark: durable,
        recorded_at: group.recorded_at,
        chain: group.chain_before,
    };
    let new: Vec<_> = entries.into_iter().map(|entry| entry.new).collect();
    let len: usize = new.iter().map(|entry| entry.encoded_len()).sum();
    let mut blocks = vec![0; blocks_of(len) * BLOCK];
    let made = match (&group.lost, group.kind) {
        (Some(lost), _) => {
            lost.encode(&place, &mut blocks);
            lost.chain_after
        }
        (None, GroupKind::Entries) => encode_entries(&new, &place, &mut blocks, &mut Vec::new()),
        (None, kind) => {
            encode_seal(kind, &place, &mut blocks);
            group.chain
        }
    };
    (made == group.chain).then_some(blocks)
}

/// The blocks, as a file that is only read.
pub(super) struct Blocks(Vec<u8>);

impl VfsFile for Blocks {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(at..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn evict(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }
}
