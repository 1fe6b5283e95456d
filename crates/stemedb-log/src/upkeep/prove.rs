//! Proves one sealed segment, of either shape, up to where the next one says that it ends.

use stemedb_io::VfsFile;
use stemedb_model::{Hash, Millis, Position};

use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::GroupKind;
use crate::format::header::{Fence, HeaderState, SegmentHeader};
use crate::recover::survey::{io, read_header};
use crate::segment::Groups;
use crate::walk::{Group, Step};

/// How many blocks are read at a time: 256 KiB, so that a slow rate is a steady one.
const READ_AHEAD: u32 = 64;

/// Why the work on a segment ended early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The log is being closed, or takes no writes.
    Stopped,
    /// The file system cannot show that what is read comes from the medium.
    Unproved,
    /// The medium or the file system refused an operation.
    Failed(LogError),
    /// The segment is not what was written.
    Damaged(Damage),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Failed(error)
    }
}

/// Something in a sealed segment that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) file: String,
    pub(crate) byte: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) problem: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, byte, first, last, problem } = self;
        write!(f, "{file}, byte {byte}: {problem} (positions {first} to {last})")
    }
}

/// What is in a segment; equal for both shapes of the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) last: Position,
    pub(crate) group: u64,
    pub(crate) recorded_at: Millis,
    pub(crate) chain: Hash,
    pub(crate) records: u64,
    pub(crate) groups: u64,
    /// Bytes of entries, heads and bodies.
    pub(crate) bytes: u64,
    /// Over all bodies: the chain holds a body by its id only.
    bodies: Hash,
}

/// Told how many more bytes were read; `false`: stop.
pub(crate) type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// Called with each link of the chain and its entries.
type Visit<'a> = dyn FnMut(&Group, Vec<Entry>) -> Result<(), Trouble> + 'a;

/// The header of segment `number`, if it is that of the segment that `fence` is the end of.
pub(crate) fn header_of(
    file: &dyn VfsFile,
    name: &str,
    number: u64,
    fence: &Fence,
) -> Result<SegmentHeader, Trouble> {
    let problem = match read_header(file, name)? {
        HeaderState::Ok(header)
            if header.number == number
                && (fence.segment, fence.salt) == (header.number, header.salt) =>
        {
            return Ok(header);
        }
        HeaderState::Ok(_) => "it is not the segment that the next one was written after",
        HeaderState::TooNew(_) => "its header is of a newer format",
        _ => "the segment header does not match its checksum",
    };
    Err(Trouble::Damaged(Damage {
        file: name.into(),
        byte: 0,
        first: Position::NONE,
        last: fence.position,
        problem: problem.into(),
    }))
}

/// Reads and proves all of segment `number`.
pub(crate) fn prove(
    file: &dyn VfsFile,
    name: &str,
    number: u64,
    fence: &Fence,
    pace: &mut Pace<'_>,
    visit: &mut Visit<'_>,
) -> Result<Content, Trouble> {
    let header = header_of(file, name, number, fence)?;
    let len = file.len().map_err(|source| io(name, "measure", 0, source))?;
    let mut walk = Groups::new(file, name, len, &header, READ_AHEAD)?;
    let mut bodies = blake3::Hasher::new();
    let (mut records, mut groups, mut bytes) = (0, 0, 0);
    let mut read = 0;
    // What is in blocks behind the fence is void; a packed segment has nothing there, and its
    // end is proved too.
    while header.packed || walk.cursor().last < fence.position {
        let step = walk.step()?;
        let now = walk.offset();
        if !pace(now.saturating_sub(read)) {
            return Err(Trouble::Stopped);
        }
        read = now;
        match step {
            Step::Group(group) if group.kind == GroupKind::Close => break,
            Step::Group(group) if group.kind.is_link() => {
                let entries = walk.take_entries();
                groups += 1;
                records += entries.len() as u64;
                bytes += group.bytes;
                for entry in &entries {
                    bodies.update(&(entry.new.body.len() as u64).to_le_bytes());
                    bodies.update(&entry.new.body);
                }
                visit(&group, entries)?;
            }
            Step::Group(_) => {}
            Step::Unwritten => break,
            Step::Bad(bad) => {
                let first = walk.cursor().last.next();
                let last = if walk.skip(true)? { walk.cursor().last } else { fence.position };
                return Err(Trouble::Damaged(Damage {
                    file: name.into(),
                    byte: bad.byte,
                    first,
                    last: last.max(first),
                    problem: bad.problem,
                }));
            }
        }
    }
    let end = walk.cursor();
    if (end.last, end.group, end.chain) != (fence.position, fence.group, fence.chain) {
        return Err(Trouble::Damaged(Damage {
            file: name.into(),
            byte: walk.offset(),
            first: end.last.next(),
            last: fence.position.max(end.last.next()),
            problem: "it does not end where the next segment says".into(),
        }));
    }
    Ok(Content {
        last: end.last,
        group: end.group,
        recorded_at: end.recorded_at,
        chain: end.chain,
        records,
        groups,
        bytes,
        bodies: Hash(*bodies.finalize().as_bytes()),
    })
}
