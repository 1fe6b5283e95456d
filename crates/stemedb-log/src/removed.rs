//! Where the reading end finds what was removed: an archive, which this room does not know.

use stemedb_model::Position;

use crate::entry::Entry;
use crate::error::LogError;
use crate::format::header::{HeaderState, SegmentHeader};
use crate::part::Link;
use crate::recover::survey::read_header;
use crate::shared::Shared;

/// Segments that were removed from here, and can be read elsewhere.
pub trait Removed: Send + Sync {
    /// Calls `visit` with groups of entries in order, from position `from` up to `end`, until `visit`
    /// says stop: `Ok(false)` then. Whole groups, but for the first. What leads to `end` is proved: its
    /// chain hash is that of this log. Why it cannot be read is [`LogError::Away`]. Bounded memory.
    fn scan(
        &self,
        from: Position,
        end: Link,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<bool, LogError>;
}

impl Shared {
    /// Scans what was removed from `next` on, up to the first position that is here, and says which
    /// that is; `None` if `visit` said stop.
    pub(crate) fn scan_removed(
        &self,
        next: Position,
        first: Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<Option<Position>, LogError> {
        let Some(removed) = self.removed.get() else {
            return Err(LogError::Trimmed { position: next, first });
        };
        let end = self.before_first_kept()?;
        let go_on = removed.scan(next, end, visit)?;
        Ok(go_on.then(|| end.position.next()))
    }

    /// One position that was removed.
    pub(crate) fn read_removed(
        &self,
        position: Position,
        first: Position,
    ) -> Result<Option<Entry>, LogError> {
        let mut found = None;
        self.scan_removed(position, first, &mut |group| {
            found = group.into_iter().find(|entry| entry.position == position);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Where the first segment that is here goes on from.
    fn before_first_kept(&self) -> Result<Link, LogError> {
        let first = self.published(|log| log.segments.first().map(|segment| segment.number));
        let file = self.file(first.unwrap_or(1))?;
        match read_header(&*file.file, &file.name)? {
            HeaderState::Ok(SegmentHeader { fence, .. }) => {
                Ok(Link { position: fence.position, group: fence.group, chain: fence.chain })
            }
            _ => Err(LogError::Damaged {
                file: file.name.clone(),
                offset: 0,
                problem: "the segment header does not match its checksum".into(),
                first: Position::NONE,
                last: Position::NONE,
                hint: format!("run `stemedb wal verify {}`", self.dir.display()),
            }),
        }
    }
}
