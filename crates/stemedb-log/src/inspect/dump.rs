//! Shows what is in a log, damaged or not.

use std::path::Path;

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::Position;

use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{BLOCK, BlockHeader, GroupKind, Look};
use crate::format::header::{FORMAT, Fence, HeaderState, SegmentHeader};
use crate::packed::PackedFile;
use crate::recover::floor::Floor;
use crate::recover::survey::{self, names, read_header};
use crate::recover::tail::claimed_salt;
use crate::segment::Groups;
use crate::walk::{Blocks, Group, Step};

/// One line of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpItem {
    /// A segment begins.
    Segment {
        /// File name.
        file: String,
        /// Length of the file.
        bytes: u64,
        /// Its header, if it can be read.
        header: Option<SegmentHeader>,
        /// Without one, what is wrong, and how its blocks are read all the same.
        problem: Option<String>,
    },
    /// A group that is proved, before its entries.
    Group(Group),
    /// An entry.
    Entry(Entry),
    /// A block, in a raw dump; blocks that were never written are left out.
    Block {
        /// Where it begins in the file.
        byte: u64,
        /// Its header, if its first sector verifies.
        header: Option<BlockHeader>,
        /// The first byte of the file of a sector in it that does not verify; `None`: all do.
        first_bad: Option<u64>,
    },
    /// A frame of a packed segment, in a raw dump.
    Frame {
        /// Where it begins in the file.
        byte: u64,
        /// Its length in the file.
        bytes: u64,
        /// Bytes of its groups once unpacked.
        unpacked: u64,
        /// How many groups are in it.
        groups: u32,
        /// Its first position.
        first: Position,
        /// Its last position.
        last: Position,
        /// All its bytes verify.
        whole: bool,
    },
    /// Something that cannot be believed; the dump goes on with the next group that can.
    Bad {
        /// First bad byte.
        byte: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Visits a folder or one segment in order, groups and entries that overlap `first..=last`; with
/// `raw` every written block instead. Goes on behind damage. Ends when `visit` says `false`.
pub fn dump(
    path: &Path,
    vfs: &dyn Vfs,
    (first, last): (Position, Position),
    raw: bool,
    visit: &mut dyn FnMut(DumpItem) -> bool,
) -> Result<(), LogError> {
    let failed = |source| survey::io(&path.display().to_string(), "open", 0, source);
    let files = if vfs.metadata(path).map_err(failed)?.is_dir {
        let mut names = names(vfs, path)?;
        if let Some(floor) = Floor::load(vfs, path)? {
            floor.cut(&mut names.segments);
        }
        names.segments.iter().map(|(_, name)| path.join(name)).collect()
    } else {
        vec![path.to_path_buf()]
    };
    let mut segments = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |source| survey::io(&name, "open", 0, source);
        let file = vfs.open(&path, Open::Read).map_err(failed)?;
        let header = read_header(&*file, &name)?;
        segments.push((path, name, header));
    }
    for (i, (path, name, _)) in segments.iter().enumerate() {
        let failed = |source| survey::io(name, "open", 0, source);
        let file = vfs.open(path, Open::Read).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        // Read again: a log that is in use may have packed it since.
        let (header, salt, problem) = match read_header(&*file, name)? {
            HeaderState::Ok(header) => {
                let salt = header.salt;
                (Some(header), salt, None)
            }
            HeaderState::TooNew(format) => {
                let problem = format!("format {format}, this build reads up to {FORMAT}");
                (None, 0, Some(problem))
            }
            state @ (HeaderState::Blank(_) | HeaderState::Bad(_)) => {
                let (what, mark) = match state {
                    HeaderState::Blank(mark) => ("no header, as in a segment not yet used", mark),
                    HeaderState::Bad(mark) => ("its header does not match its checksum", mark),
                    _ => ("", None),
                };
                let (salt, from) = match mark {
                    Some(salt) => (salt, "of the mark"),
                    None => (claimed_salt(&*file, name, bytes, &[])?, "that its blocks claim"),
                };
                let how = match salt {
                    0 => "no block of it verifies".to_owned(),
                    _ => format!("blocks are read by the salt {from}"),
                };
                (None, salt, Some(format!("{what}; {how}")))
            }
        };
        let fence = match segments.get(i + 1) {
            Some((_, _, HeaderState::Ok(next))) => {
                header.as_ref().filter(|h| next.fence.salt == h.salt).map(|_| next.fence)
            }
            _ => None,
        };
        let segment =
            DumpItem::Segment { file: name.clone(), bytes, header: header.clone(), problem };
        let dump = Dump { file: &*file, name, bytes, first, last };
        let go_on = visit(segment)
            && match header {
                _ if salt == 0 => true,
                Some(header) if raw && header.packed => dump.frames(&header, visit)?,
                _ if raw => dump.blocks(salt, visit)?,
                Some(header) => {
                    let groups = Groups::new(&*file, name, bytes, &header, 64)?;
                    dump.groups(groups, fence, visit)?
                }
                None => match Groups::first_of(&*file, name, bytes, salt, 64)? {
                    Some(groups) => dump.groups(groups, fence, visit)?,
                    None => true,
                },
            };
        if !go_on {
            break;
        }
    }
    Ok(())
}

struct Dump<'a> {
    file: &'a dyn VfsFile,
    name: &'a str,
    bytes: u64,
    first: Position,
    last: Position,
}

impl Dump<'_> {
    fn end(&self) -> u32 {
        (self.bytes / BLOCK as u64) as u32
    }

    fn blocks(&self, salt: u64, visit: &mut dyn FnMut(DumpItem) -> bool) -> Result<bool, LogError> {
        let mut blocks = Blocks::new(self.file, self.name, self.end(), 64);
        for number in 1..self.end() {
            let Some(block) = blocks.get(number)? else { break };
            let look = Look::at(block, salt, number);
            if look.unwritten() {
                continue;
            }
            let header = look.header.and_then(Result::ok);
            let byte = u64::from(number) * BLOCK as u64;
            let first_bad = (!look.whole()).then(|| byte + look.first_bad() as u64);
            if !visit(DumpItem::Block { byte, header, first_bad }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn frames(
        &self,
        header: &SegmentHeader,
        visit: &mut dyn FnMut(DumpItem) -> bool,
    ) -> Result<bool, LogError> {
        let packed = PackedFile::new(self.file, self.name, self.bytes, header);
        if let Err(bad) = packed.footer()?
            && !visit(DumpItem::Bad { byte: bad.byte, problem: bad.problem })
        {
            return Ok(false);
        }
        for place in packed.index()? {
            let item = match packed.frame_header(place.offset)? {
                Ok(frame) => DumpItem::Frame {
                    byte: place.offset,
                    bytes: frame.end() - place.offset,
                    unpacked: u64::from(frame.raw_len),
                    groups: frame.groups,
                    first: frame.first,
                    last: frame.last,
                    whole: packed.frame(place.offset)?.is_ok(),
                },
                Err(bad) => DumpItem::Bad { byte: bad.byte, problem: bad.problem },
            };
            if !visit(item) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn groups(
        &self,
        mut walk: Groups<'_>,
        fence: Option<Fence>,
        visit: &mut dyn FnMut(DumpItem) -> bool,
    ) -> Result<bool, LogError> {
        // Behind a fence blocks are void; a packed segment has nothing there.
        let packed = walk.packed();
        let fence = fence.filter(|_| !packed);
        loop {
            let last = walk.cursor().last;
            if fence.is_some_and(|fence| last >= fence.position) || last >= self.last {
                return Ok(true);
            }
            match walk.step()? {
                Step::Group(group) => {
                    let entries = walk.take_entries();
                    let end = packed && group.kind == GroupKind::Close;
                    if group.last >= self.first && !end && !visit(DumpItem::Group(group)) {
                        return Ok(false);
                    }
                    for entry in entries {
                        let wanted = (self.first..=self.last).contains(&entry.position);
                        if wanted && !visit(DumpItem::Entry(entry)) {
                            return Ok(false);
                        }
                    }
                }
                Step::Unwritten if packed => return Ok(true),
                Step::Unwritten => {
                    if !walk.skip(false)? {
                        return Ok(true);
                    }
                }
                Step::Bad(bad) => {
                    if !visit(DumpItem::Bad { byte: bad.byte, problem: bad.problem }) {
                        return Ok(false);
                    }
                    if !walk.skip(true)? {
                        return Ok(true);
                    }
                }
            }
        }
    }
}
