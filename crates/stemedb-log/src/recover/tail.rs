//! What lies behind the last provable group of a segment.

use stemedb_io::VfsFile;
use stemedb_model::Position;

use crate::error::LogError;
use crate::format::block::{BLOCK, BlockHeader, Look, SECTOR, is_zero};
use crate::walk::Blocks;

/// The evidence in the bytes from some block to the end of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    /// First byte looked at.
    pub(crate) from: u64,
    /// End of the last sector that is not all zero; `from` if all are.
    pub(crate) written_to: u64,
    /// Newest watermark of any header that verifies: everything up to there was durable once.
    pub(crate) watermark: Position,
    /// First position of the first group after the bad one that verifies.
    pub(crate) resumes_at: Option<Position>,
    /// A block verifies that belongs neither to the next group nor to a seal before it.
    pub(crate) strangers: bool,
    /// First byte of a sector that was written and does not verify. Without one, a torn write
    /// explains everything.
    pub(crate) rotten: Option<u64>,
}

impl Tail {
    /// Nothing was ever written here.
    pub(crate) fn unwritten(&self) -> bool {
        self.written_to == self.from
    }

    /// One group was on its way and parts of it never arrived; nothing else is here.
    pub(crate) fn torn(&self) -> bool {
        self.rotten.is_none() && !self.strangers
    }
}

/// What a single torn write could have left, by the number of the last provable group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Torn {
    /// The next group, or a seal, behind that one.
    Behind(u64),
    /// The first write of a segment: nothing but its first group. That may be the last provable
    /// one again, if the medium failed under it before and it was written a second time.
    First(u64),
    /// The same, whichever group that is.
    Alone,
}

/// Looks at everything from block `from` on, which was written under `salt`.
pub(crate) fn examine(
    file: &dyn VfsFile,
    name: &str,
    len: u64,
    salt: u64,
    from: u32,
    torn: Torn,
) -> Result<Tail, LogError> {
    let end = (len / BLOCK as u64) as u32;
    let mut blocks = Blocks::new(file, name, end, 256);
    let start = u64::from(from) * BLOCK as u64;
    let mut tail = Tail {
        from: start.min(len),
        written_to: start.min(len),
        watermark: Position::NONE,
        resumes_at: None,
        strangers: false,
        rotten: None,
    };
    let mut first = None;
    for number in from..end {
        let Some(block) = blocks.get(number)? else { break };
        if is_zero(block) {
            continue;
        }
        let byte = u64::from(number) * BLOCK as u64;
        let written = block.chunks_exact(SECTOR).rposition(|sector| !is_zero(sector));
        tail.written_to = byte + ((written.unwrap_or(0) + 1) * SECTOR) as u64;
        let look = Look::at(block, salt, number);
        if let Some(rotten) = look.first_rotten() {
            tail.rotten.get_or_insert(byte + rotten as u64);
        }
        match look.header {
            Some(Ok(header)) => {
                let first = *first.get_or_insert(header.group);
                tail.note(&header, torn, first);
            }
            Some(Err(_)) => tail.strangers = true,
            None => {}
        }
    }
    tail.look_at_the_rest(file, name, len, u64::from(end) * BLOCK as u64)?;
    Ok(tail)
}

/// The salt that the blocks of a file claim, where header and mark are gone; 0, under which
/// nothing verifies, if none does. A block under a salt of `others` is of another segment.
pub(crate) fn claimed_salt(
    file: &dyn VfsFile,
    name: &str,
    len: u64,
    others: &[u64],
) -> Result<u64, LogError> {
    let end = (len / BLOCK as u64) as u32;
    let mut blocks = Blocks::new(file, name, end, 256);
    for number in 1..end {
        let Some(block) = blocks.get(number)? else { break };
        let salt = BlockHeader::claimed_salt(block)
            .filter(|salt| !others.contains(salt))
            .filter(|salt| matches!(Look::at(block, *salt, number).header, Some(Ok(_))));
        if let Some(salt) = salt {
            return Ok(salt);
        }
    }
    Ok(0)
}

impl Tail {
    /// `first`: the group of the first block that verifies.
    fn note(&mut self, header: &BlockHeader, torn: Torn, first: u64) {
        self.watermark = self.watermark.max(header.watermark);
        let expected = match torn {
            Torn::Behind(group) if header.kind.is_link() => header.group == group.saturating_add(1),
            Torn::Behind(group) => header.group == group,
            Torn::Alone => header.kind.is_link() && header.group == first,
            Torn::First(group) => {
                let next = header.group == group || header.group == group.saturating_add(1);
                header.kind.is_link() && header.group == first && next
            }
        };
        if !expected {
            self.strangers = true;
            if header.index == 0 && self.resumes_at.is_none() {
                self.resumes_at = Some(header.first);
            }
        }
    }

    /// A file cut inside a block ends with a part of one; nothing in it can be verified.
    fn look_at_the_rest(
        &mut self,
        file: &dyn VfsFile,
        name: &str,
        len: u64,
        blocks_end: u64,
    ) -> Result<(), LogError> {
        let offset = blocks_end.max(self.from);
        let mut rest = vec![0; len.saturating_sub(offset).min(BLOCK as u64) as usize];
        let read = file.read_at(&mut rest, offset).map_err(|source| LogError::Io {
            op: "read",
            file: name.into(),
            offset,
            source,
        })?;
        rest.truncate(read);
        if !is_zero(&rest) {
            self.written_to = len;
            self.rotten.get_or_insert(offset);
        }
        Ok(())
    }
}
