//! Parts: the groups of one segment from one position to another, as bytes that prove themselves.
//! What an archive and a backup hold, and what a log is put together from again.
//!
//! A part is a packed segment (`docs/format/wal.md`) of these groups alone: the header is that of
//! their segment, field by field, and the head of the first frame says after which group they come.
//! So a part of a whole segment is the packed segment, and any part is read by what reads those.
//!
//! | module | what |
//! |---|---|
//! | `cut` | cuts parts off a log that is in use |
//! | `folder` | the same of a folder that another process writes to |
//! | `read` | proves the bytes of a part |
//! | `compose` | puts a log together from parts, whole or up to a position |
//! | `follow` | the same without an end, of a log that can be read meanwhile |

mod compose;
mod cut;
mod folder;
mod follow;
mod read;

use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

pub use compose::{Composed, Composer};
pub use cut::{Cutter, Waiting};
pub use follow::Follower;
pub(crate) use read::begin as begin_part;
pub use read::{PartEnd, VisitPart, end_within, read_part};

use crate::chain::ChainHasher;
use crate::entry::Entry;
use crate::format::envelope::encode_head;
use crate::format::header::SegmentHeader;
use crate::format::pack::GroupToPack;
use crate::walk::{Cursor, Group};

/// A point between two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// The last position before it; 0 at the start of a log.
    pub position: Position,
    /// Number of the group before it.
    pub group: u64,
    /// The chain hash after that group: the log root at `position`.
    pub chain: Hash,
}

/// What is in a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartContent {
    /// The database.
    pub log_id: LogId,
    /// The branch its segment was begun on.
    pub timeline: Timeline,
    /// Number of its segment.
    pub segment: u64,
    /// Salt of its segment: two of one number have different ones.
    pub salt: u64,
    /// Before its first group.
    pub start: Link,
    /// After its last group.
    pub end: Link,
    /// When its first group was committed.
    pub began_at: Millis,
    /// When its last group was committed.
    pub ended_at: Millis,
    /// How many records are in it.
    pub records: u64,
}

impl PartContent {
    /// Its first position.
    pub fn first(&self) -> Position {
        self.start.position.next()
    }

    /// Its last position.
    pub fn last(&self) -> Position {
        self.end.position
    }
}

/// A part that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What is in it.
    pub content: PartContent,
    /// It.
    pub bytes: Vec<u8>,
    /// The log goes on in the next segment behind it.
    pub ends_segment: bool,
}

impl From<Cursor> for Link {
    fn from(cursor: Cursor) -> Self {
        Self { position: cursor.last, group: cursor.group, chain: cursor.chain }
    }
}

/// Counts what goes into a part while it is read or made.
#[derive(Debug)]
struct Tally {
    start: Link,
    end: Cursor,
    began_at: Option<Millis>,
    records: u64,
}

impl Tally {
    fn new(start: Cursor) -> Self {
        Self { start: start.into(), end: start, began_at: None, records: 0 }
    }

    fn add(&mut self, group: &Group, records: usize) {
        self.began_at.get_or_insert(group.recorded_at);
        self.records += records as u64;
        self.end = after(group);
    }

    /// `None` if nothing was added.
    fn content(&self, header: &SegmentHeader) -> Option<PartContent> {
        Some(PartContent {
            log_id: header.log_id,
            timeline: header.timeline,
            segment: header.number,
            salt: header.salt,
            start: self.start,
            end: self.end.into(),
            began_at: self.began_at?,
            ended_at: self.end.recorded_at,
            records: self.records,
        })
    }
}

/// The point after `group`.
fn after(group: &Group) -> Cursor {
    Cursor {
        block: group.block.saturating_add(group.blocks),
        group: group.number,
        last: group.last,
        recorded_at: group.recorded_at,
        chain: group.chain,
    }
}

/// `group` as it is packed; `before` is the number of the group before it.
fn to_pack(group: &Group, before: u64) -> GroupToPack<'_> {
    GroupToPack {
        after: before,
        number: group.number,
        first: group.first,
        last: group.last,
        recorded_at: group.recorded_at,
        chain_before: group.chain_before,
        lost: group.lost.as_ref(),
    }
}

/// What of `group` is not beyond `upto`, and whether that is only a part of it. `None`: nothing; of
/// what was lost, all or nothing, since it can end nowhere but where it did.
fn up_to(
    group: &Group,
    mut entries: Vec<Entry>,
    upto: Position,
) -> Option<(Group, Vec<Entry>, bool)> {
    let mut group = group.clone();
    if group.first > upto || (group.last > upto && group.lost.is_some()) {
        return None;
    }
    if group.last <= upto {
        return Some((group, entries, false));
    }
    entries.retain(|entry| entry.position <= upto);
    let mut chain = ChainHasher::new(group.chain_before, group.number, group.first);
    let mut head = Vec::new();
    for entry in &entries {
        encode_head(&entry.new, entry.position, entry.registry, group.recorded_at, &mut head);
        chain.head(&head);
    }
    group.last = upto;
    group.chain = chain.finish();
    Some((group, entries, true))
}

#[cfg(test)]
mod tests;
