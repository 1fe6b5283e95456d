//! Reads back from the medium what was durable in a segment that is not believed any more.

use std::io;
use std::path::Path;
use std::time::Duration;

use stemedb_io::{Clock, Env, Open, VfsFile, mutant};

use crate::error::{Failure, LogError};
use crate::format::block::{BLOCK, SECTOR};
use crate::format::header::{HeaderState, SegmentHeader};
use crate::recover::survey::{self, read_header};
use crate::segment::Groups;
use crate::walk::{Cursor, Step};

/// A page that the system has in hand at that moment (being written back, say) survives one attempt;
/// on a busy machine that was seen.
const EVICT_ATTEMPTS: usize = 200;
const EVICT_PAUSE: Duration = Duration::from_millis(10);
/// The cache of a whole segment is looked at in steps of this many bytes: what was left of one that
/// was not dropped would be many of them.
pub(crate) const CACHE_LOOK_EVERY: usize = 1 << 20;
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
pub(crate) fn prove(env: &Env, dir: &Path, suspect: &Suspect) -> Result<(), LogError> {
    let Suspect { name, number, salt, end } = suspect;
    let failed = |op| move |source| survey::io(name, op, 0, source);
    let file = env.vfs.open(&dir.join(name), Open::Read).map_err(failed("open"))?;
    if !mutant("verify_through_cache") {
        // Its result means nothing any more. What it is for: a page that is still to be written
        // cannot be evicted, and may share its memory with the durable ones before it.
        let _ = file.sync_data();
        let durable = u64::from(end.block) * BLOCK as u64;
        let gone = drop_cache(&*file, durable, BLOCK, &*env.clock).map_err(failed("evict"))?;
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

/// Proves from the medium that segment `name` begins with `header`. Time: one read of the device.
pub(crate) fn prove_header(
    env: &Env,
    dir: &Path,
    name: &str,
    header: &SegmentHeader,
) -> Result<(), Failure> {
    let failed = |op| move |source| Failure { op, file: name.into(), offset: 0, source };
    let not_there = |problem| failed("prove")(io::Error::other(problem));
    let file = env.vfs.open(&dir.join(name), Open::Read).map_err(failed("open"))?;
    if !drop_cache(&*file, BLOCK as u64, BLOCK, &*env.clock).map_err(failed("evict"))? {
        return Err(not_there("its cached copy cannot be dropped"));
    }
    let mut start = [0; 2 * SECTOR];
    file.read_at(&mut start, 0).map_err(failed("read"))?;
    match SegmentHeader::decode(&start, Some(header.number)) {
        HeaderState::Ok(found) if found == *header => Ok(()),
        _ => Err(not_there("the medium does not hold the header that was synced")),
    }
}

/// Drops the cached copy of a file. `false` if some of the first `len` bytes, looked at in steps of
/// `step`, stay. Nothing of the file may be read between this and the reading that counts.
pub(crate) fn drop_cache(
    file: &dyn VfsFile,
    len: u64,
    step: usize,
    clock: &dyn Clock,
) -> io::Result<bool> {
    for attempt in 0..EVICT_ATTEMPTS {
        if attempt > 0 {
            clock.sleep(EVICT_PAUSE);
        }
        file.evict()?;
        if gone(file, len, step)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn gone(file: &dyn VfsFile, len: u64, step: usize) -> io::Result<bool> {
    let mut byte = [0];
    for at in (0..len).step_by(step) {
        if file.read_nowait(&mut byte, at)?.is_some_and(|read| read > 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
