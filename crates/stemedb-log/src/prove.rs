//! Reads back from the medium what was durable in a segment that is not believed any more.

use std::io;
use std::path::Path;

use stemedb_io::{Open, Vfs, VfsFile, mutant};

use crate::error::LogError;
use crate::format::block::BLOCK;
use crate::format::header::HeaderState;
use crate::recover::survey::{self, read_header};
use crate::segment::Groups;
use crate::walk::{Cursor, Step};

/// Blocks that a proof reads at a time: 1 MiB.
const READ_AHEAD: u32 = 256;

/// A segment under which the medium failed, and where its durable groups end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) end: Cursor,
}

/// Proves every group of `suspect` up to its end from the medium. An `Err` names what is wrong, or
/// why it cannot be known. Time: one pass over its groups at the speed of the device.
pub(crate) fn prove(vfs: &dyn Vfs, dir: &Path, suspect: &Suspect) -> Result<(), LogError> {
    let Suspect { name, number, salt, end } = suspect;
    let failed = |op| move |source| survey::io(name, op, 0, source);
    let file = vfs.open(&dir.join(name), Open::Read).map_err(failed("open"))?;
    if !mutant("verify_through_cache") {
        // Its result means nothing any more. What it is for: a page that is still to be written
        // cannot be evicted, and may share its memory with the durable ones before it.
        let _ = file.sync_data();
        let gone = file.evict().and_then(|()| gone(&*file, end.block)).map_err(failed("evict"))?;
        if !gone {
            let problem = "its cached copy cannot be dropped".into();
            return Err(LogError::Unproved { file: name.clone(), problem });
        }
    }
    let damaged = |at: Cursor, offset: u64, problem: String| LogError::Damaged {
        file: name.clone(),
        offset,
        problem,
        first: at.last.next(),
        last: end.last.max(at.last.next()),
        hint: format!("keep the file; run `stemedb wal verify {}`", dir.display()),
    };
    let header = match read_header(&*file, name)? {
        HeaderState::Ok(header) if header.number == *number && header.salt == *salt => header,
        _ => {
            let problem = "the medium does not hold the header of this segment".into();
            return Err(LogError::Unproved { file: name.clone(), problem });
        }
    };
    let len = if header.packed {
        file.len().map_err(failed("measure"))?
    } else {
        u64::from(end.block) * BLOCK as u64
    };
    let mut walk = Groups::new(&*file, name, len, &header, READ_AHEAD)?;
    while walk.cursor().last < end.last {
        match walk.step()? {
            Step::Group(_) => {}
            Step::Unwritten => {
                let offset = walk.offset();
                let problem = "the medium lacks a group that was durable".into();
                return Err(damaged(walk.cursor(), offset, problem));
            }
            Step::Bad(bad) => return Err(damaged(walk.cursor(), bad.byte, bad.problem)),
        }
    }
    let found = walk.cursor();
    if found.last != end.last || found.chain != end.chain {
        let problem = "the medium holds other groups than were written".into();
        return Err(damaged(found, 0, problem));
    }
    Ok(())
}

/// Whether the cache holds nothing of the first `blocks`; asks before any of them is read.
fn gone(file: &dyn VfsFile, blocks: u32) -> io::Result<bool> {
    let mut byte = [0];
    for block in 0..blocks {
        if file.read_nowait(&mut byte, u64::from(block) * BLOCK as u64)?.is_some_and(|n| n > 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
