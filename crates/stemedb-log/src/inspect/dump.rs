//! Shows what is in a log, damaged or not.

use std::path::Path;

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::Position;

use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{BLOCK, BlockHeader, Look};
use crate::format::header::{FORMAT, Fence, HeaderState, SegmentHeader};
use crate::recover::survey::{self, names, read_header};
use crate::recover::tail::claimed_salt;
use crate::walk::{Blocks, Cursor, Group, Step, Walk};

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
        names(vfs, path)?.segments.iter().map(|(_, name)| path.join(name)).collect()
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
    for (i, (path, name, header)) in segments.iter().enumerate() {
        let failed = |source| survey::io(name, "open", 0, source);
        let file = vfs.open(path, Open::Read).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        let (header, salt, problem) = match header {
            HeaderState::Ok(header) => (Some(header), header.salt, None),
            HeaderState::TooNew(format) => {
                let problem = format!("format {format}, this build reads up to {FORMAT}");
                (None, 0, Some(problem))
            }
            HeaderState::Blank(mark) | HeaderState::Bad(mark) => {
                let (salt, from) = match mark {
                    Some(salt) => (*salt, "of the mark"),
                    None => (claimed_salt(&*file, name, bytes)?, "that its blocks claim"),
                };
                let what = match segments.get(i).map(|(_, _, header)| header) {
                    Some(HeaderState::Blank(_)) => "no header, as in a segment not yet used",
                    _ => "its header does not match its checksum",
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
                header.filter(|h| next.fence.salt == h.salt).map(|_| next.fence)
            }
            _ => None,
        };
        let segment =
            DumpItem::Segment { file: name.clone(), bytes, header: header.cloned(), problem };
        let dump = Dump { file: &*file, name, bytes, first, last };
        let go_on = visit(segment)
            && match header {
                _ if salt == 0 => true,
                _ if raw => dump.blocks(salt, visit)?,
                Some(header) => dump.groups(salt, Cursor::start_of(header), fence, visit)?,
                None => match dump.next_group(salt, 1)? {
                    Some(first) => dump.groups(salt, first, fence, visit)?,
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

    fn groups(
        &self,
        salt: u64,
        first: Cursor,
        fence: Option<Fence>,
        visit: &mut dyn FnMut(DumpItem) -> bool,
    ) -> Result<bool, LogError> {
        let new_walk = |cursor| {
            let blocks = Blocks::new(self.file, self.name, self.end(), 64);
            Walk::new(blocks, salt, cursor)
        };
        let mut walk = new_walk(first);
        loop {
            if fence.is_some_and(|fence| walk.cursor.last >= fence.position)
                || walk.cursor.last >= self.last
            {
                return Ok(true);
            }
            match walk.step()? {
                Step::Group(group) => {
                    let entries = walk.take_entries();
                    if group.last < self.first {
                        continue;
                    }
                    if !visit(DumpItem::Group(group)) {
                        return Ok(false);
                    }
                    for entry in entries {
                        let wanted = (self.first..=self.last).contains(&entry.position);
                        if wanted && !visit(DumpItem::Entry(entry)) {
                            return Ok(false);
                        }
                    }
                }
                Step::Unwritten => {
                    let Some(next) = self.next_group(salt, walk.cursor.block)? else {
                        return Ok(true);
                    };
                    walk = new_walk(next);
                }
                Step::Bad(bad) => {
                    if !visit(DumpItem::Bad { byte: bad.byte, problem: bad.problem }) {
                        return Ok(false);
                    }
                    let Some(next) = self.next_group(salt, walk.cursor.block + 1)? else {
                        return Ok(true);
                    };
                    walk = new_walk(next);
                }
            }
        }
    }

    /// Where the next group begins, from block `from` on.
    fn next_group(&self, salt: u64, from: u32) -> Result<Option<Cursor>, LogError> {
        let mut blocks = Blocks::new(self.file, self.name, self.end(), 64);
        for number in from..self.end() {
            let Some(block) = blocks.get(number)? else { break };
            if let Some(Ok(header)) = Look::at(block, salt, number).header
                && header.index == 0
            {
                return Ok(Some(Cursor::before(&header)));
            }
        }
        Ok(None)
    }
}
