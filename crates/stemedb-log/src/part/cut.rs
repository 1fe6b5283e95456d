//! Cuts parts off a log, beside its writer.

use std::sync::Arc;

use stemedb_model::{LogId, Millis, Position, Timeline};

use super::{Link, Part, Tally, to_pack};
use crate::LogReader;
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::header::{HeaderState, SegmentHeader};
use crate::format::packer::{PackedEnd, Packer};
use crate::packed::PackedWalk;
use crate::recover::survey::read_header;
use crate::segment::OpenSegment;
use crate::shared::Shared;
use crate::walk::{Blocks, Cursor, Group, Step, Walk};

/// How many blocks are read at a time: 256 KiB.
const READ_AHEAD: u32 = 64;

/// Goes along a log and cuts it into parts. Sees only what is durable, never waits for the writer
/// and never holds it up. It keeps its place: what it has passed is not read again.
#[derive(Clone)]
pub struct Cutter {
    shared: Arc<Shared>,
    place: Option<Place>,
}

/// What a cutter has yet to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Positions.
    pub positions: u64,
    /// Bytes of segments, about.
    pub bytes: u64,
    /// Some of it is in a segment that the log has left.
    pub sealed: bool,
}

/// Called with each group and its entries; says whether to go on.
type Visit<'a> = dyn FnMut(&Group, Vec<Entry>) -> Result<bool, LogError> + 'a;

/// Behind the last group that was cut.
#[derive(Clone)]
struct Place {
    segment: Where,
    cursor: Cursor,
}

/// A segment, as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Where {
    number: u64,
    salt: u64,
    first: Position,
    /// Blocks from here on are not durable.
    end: u32,
    /// The last position in it that is durable.
    last: Position,
    /// The log went on in the next one.
    left: bool,
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let position = self.place.as_ref().map(|place| place.cursor.last);
        f.debug_struct("Cutter").field("position", &position).finish_non_exhaustive()
    }
}

impl Cutter {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, place: None }
    }

    /// The log that is cut; `None` before its first record.
    pub fn identity(&self) -> Option<(LogId, Timeline)> {
        LogReader::identity(&*self.shared)
    }

    /// The branch that this one left, and the last position they share.
    pub fn parent(&self) -> Result<Option<(Timeline, Position)>, LogError> {
        let Some((_, timeline)) = self.identity() else { return Ok(None) };
        let segments = self
            .shared
            .published(|log| log.segments.iter().map(|segment| segment.number).collect::<Vec<_>>());
        // The first segment of a branch names its parent.
        for number in segments.into_iter().rev() {
            let header = self.header(&*self.shared.file(number)?)?;
            match header.parent {
                Some(parent) if header.timeline == timeline => return Ok(Some(parent)),
                _ if header.timeline != timeline => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The newest durable position, its time, and the log root there.
    pub fn durable(&self) -> (Link, Millis) {
        self.shared.published(|log| (log.end.into(), log.end.recorded_at))
    }

    /// The first position that is here.
    pub fn first_kept(&self) -> Position {
        self.shared.published(|log| log.floor)
    }

    /// Goes to the start of the log, which must be here.
    pub fn seek_start(&mut self) -> Result<Link, LogError> {
        self.seek(Position::NONE)
    }

    /// Goes behind `position`, which must end a group or be 0, and says what the log is there.
    pub fn seek(&mut self, position: Position) -> Result<Link, LogError> {
        self.place = None;
        let Some(segment) = self.find(position.next())? else {
            let (end, _) = self.durable();
            return Err(LogError::Refused(format!(
                "position {position} is not in the log, which ends at {}",
                end.position
            )));
        };
        let file = self.open(&segment)?;
        let start = Cursor::start_of(&self.header(&file)?);
        let mut cursor = start;
        if start.last != position {
            self.walk(&file, &segment, start, &mut |group, _| {
                cursor = super::after(group);
                Ok(group.last < position)
            })?;
        }
        if cursor.last != position {
            return Err(LogError::Refused(format!("no group of the log ends at {position}")));
        }
        self.place = Some(Place { segment, cursor });
        Ok(cursor.into())
    }

    /// The next part, of about `bytes_max` bytes before compression at most, or one group. `None`
    /// at the end of what is durable. After an error the place is the same.
    pub fn next(&mut self, bytes_max: u64) -> Result<Option<Part>, LogError> {
        self.next_up_to(bytes_max, Position::MAX)
    }

    /// The same, with no group that begins behind `last`; `None` there, too.
    pub fn next_up_to(&mut self, bytes_max: u64, last: Position) -> Result<Option<Part>, LogError> {
        loop {
            let Some(place) = &self.place else { return Ok(None) };
            if place.cursor.last >= last {
                return Ok(None);
            }
            let Some(segment) = self.published(place.segment.number) else {
                let first = self.first_kept();
                return Err(LogError::Trimmed { position: place.cursor.last.next(), first });
            };
            if place.cursor.last < segment.last {
                let upto = Where { last: last.min(segment.last), ..segment };
                let part = self.cut(&upto, bytes_max)?;
                let ends_segment = segment.left && part.content.last() == segment.last;
                return Ok(Some(Part { ends_segment, ..part }));
            }
            if !segment.left {
                return Ok(None);
            }
            self.turn_over(&segment)?;
        }
    }

    /// The part that begins behind `start` and ends with position `last`, which must be in one
    /// segment and end a group. The place is behind it afterwards.
    pub fn exactly(&mut self, start: Link, last: Position) -> Result<Part, LogError> {
        if self.seek(start.position)? != start {
            return Err(LogError::Refused(format!(
                "the log has another history up to position {}",
                start.position
            )));
        }
        let Some(segment) = self.find(start.position.next())? else {
            return Err(LogError::Refused(format!("position {last} is not in the log")));
        };
        let part = self.cut(&Where { last: last.min(segment.last), ..segment }, u64::MAX)?;
        if part.content.last() != last {
            return Err(LogError::Refused(format!(
                "no part of one segment ends with position {last}"
            )));
        }
        Ok(Part { ends_segment: segment.left && last == segment.last, ..part })
    }

    /// When the first group behind the place was committed; `None` at the end of what is durable.
    pub fn next_recorded_at(&self) -> Result<Option<Millis>, LogError> {
        let Some(Place { cursor, .. }) = &self.place else { return Ok(None) };
        let next = cursor.last.next();
        let Some(segment) = self.find(next)?.filter(|segment| next <= segment.last) else {
            return Ok(None);
        };
        let file = self.open(&segment)?;
        let start = Cursor::start_of(&self.header(&file)?);
        let from = if start.last == cursor.last { start } else { *cursor };
        let mut recorded_at = None;
        self.walk(&file, &segment, from, &mut |group, _| {
            recorded_at = Some(group.recorded_at);
            Ok(false)
        })?;
        Ok(recorded_at)
    }

    /// What lies between the place and the end of what is durable.
    pub fn waiting(&self) -> Waiting {
        let place = self.place.as_ref().map(|place| (place.segment.number, place.cursor));
        self.shared.published(|log| {
            let (number, cursor) = place.unwrap_or((0, Cursor { block: 1, ..log.end }));
            let passed = if place.is_some() { cursor.last } else { Position::NONE };
            let blocks: u64 = log
                .segments
                .iter()
                .filter(|segment| segment.number >= number)
                .map(|segment| match (segment.number == number, segment.packed) {
                    (true, true) => 0,
                    (true, false) => u64::from(segment.end.saturating_sub(cursor.block)),
                    (false, _) => u64::from(segment.end.saturating_sub(1)),
                })
                .sum();
            Waiting {
                positions: log.end.last.0.saturating_sub(passed.0),
                bytes: blocks * crate::format::block::BLOCK as u64,
                sealed: log.segments.last().is_some_and(|last| last.number > number),
            }
        })
    }

    /// Goes to the start of the segment after `segment`, all of which was cut.
    fn turn_over(&mut self, segment: &Where) -> Result<(), LogError> {
        let Some(place) = &self.place else { return Ok(()) };
        let Some(next) = self.published(segment.number + 1) else { return Ok(()) };
        let file = self.open(&next)?;
        let header = self.header(&file)?;
        let start = Cursor::start_of(&header);
        let follows = header.fence.segment == segment.number
            && header.fence.salt == segment.salt
            && Link::from(start) == Link::from(place.cursor);
        if !follows {
            let problem = format!("it was written after another group than {}", place.cursor.group);
            return Err(damaged(&file, 0, place.cursor.last.next(), problem));
        }
        self.place = Some(Place { segment: next, cursor: start });
        Ok(())
    }

    fn cut(&mut self, segment: &Where, bytes_max: u64) -> Result<Part, LogError> {
        let Some(place) = &self.place else {
            return Err(LogError::Refused("a cut without a place".into()));
        };
        let file = self.open(segment)?;
        let header = SegmentHeader { packed: true, ..self.header(&file)? };
        let mut packer = Packer::new(&header);
        let mut tally = Tally::new(place.cursor);
        let mut bytes = 0;
        self.walk(&file, segment, place.cursor, &mut |group, entries| {
            let before = tally.end.group;
            let packed = packer.add(&to_pack(group, before), &entries);
            packed.map_err(|too_long| too_long.in_file(&file.name))?;
            tally.add(group, entries.len());
            bytes += group.bytes;
            Ok(group.last < segment.last && bytes < bytes_max)
        })?;
        let end = tally.end;
        let Some(content) = tally.content(&header) else {
            let problem = "a group is not there".into();
            return Err(damaged(&file, 0, end.last.next(), problem));
        };
        let packed = PackedEnd {
            last: end.last,
            group: end.group,
            recorded_at: end.recorded_at,
            chain: end.chain,
        };
        packer.finish(&packed).map_err(|too_long| too_long.in_file(&file.name))?;
        let (_, bytes) = packer.take();
        let ends_segment = segment.left && end.last == segment.last;
        self.place = Some(Place { segment: *segment, cursor: end });
        Ok(Part { content, bytes, ends_segment })
    }

    /// Calls `visit` with the groups of `segment` behind `from`, until it says stop or the last
    /// durable one.
    fn walk(
        &self,
        file: &OpenSegment,
        segment: &Where,
        from: Cursor,
        visit: &mut Visit<'_>,
    ) -> Result<(), LogError> {
        let mut walk = match file.packed() {
            None => {
                let blocks = Blocks::new(&*file.file, &file.name, segment.end, READ_AHEAD);
                Shape::Blocks(Box::new(Walk::new(blocks, segment.salt, from)))
            }
            Some((packed, open)) => {
                let start = Cursor::start_of(&open.header);
                let mut walk = PackedWalk::new(packed, start)?;
                let next = from.last.next();
                let frame = open.frames.partition_point(|frame| frame.first <= next);
                if let Some(frame) = frame.checked_sub(1).and_then(|at| open.frames.get(at))
                    && !walk.resume_at(frame.offset)?
                {
                    let problem = "the head of a frame does not match its checksum".into();
                    return Err(damaged(file, frame.offset, next, problem));
                }
                Shape::Packed(Box::new(walk))
            }
        };
        let mut at = from;
        while at.last < segment.last {
            match walk.step()? {
                // A frame may begin before the place.
                Step::Group(group) if group.last <= from.last && group.kind.is_link() => {}
                Step::Group(group) if group.kind.is_link() => {
                    if group.chain_before != at.chain {
                        let problem = "a group was written after another one".into();
                        return Err(damaged(file, walk.offset(), group.first, problem));
                    }
                    at = super::after(&group);
                    if !visit(&group, walk.take_entries())? {
                        break;
                    }
                }
                Step::Group(_) => {}
                Step::Unwritten => {
                    let problem = "a group is not there".into();
                    return Err(damaged(file, walk.offset(), at.last.next(), problem));
                }
                Step::Bad(bad) => return Err(damaged(file, bad.byte, at.last.next(), bad.problem)),
            }
        }
        Ok(())
    }

    /// The segment that holds `position`, or will.
    fn find(&self, position: Position) -> Result<Option<Where>, LogError> {
        let (found, floor) = self.shared.published(|log| {
            let after = log.segments.partition_point(|segment| segment.first <= position);
            let number = after.checked_sub(1).and_then(|at| log.segments.get(at));
            (number.map(|segment| segment.number), log.floor)
        });
        if position < floor {
            return Err(LogError::Trimmed { position, first: floor });
        }
        let found = found.and_then(|number| self.published(number));
        // Behind the end of the log there is nothing to go to.
        Ok(found.filter(|segment| position <= segment.last.next()))
    }

    fn published(&self, number: u64) -> Option<Where> {
        self.shared.published(|log| {
            let at = log.segments.iter().position(|segment| segment.number == number)?;
            let segment = log.segments.get(at)?;
            let next = log.segments.get(at + 1);
            let last = next.map_or(log.end.last, |next| Position(next.first.0.saturating_sub(1)));
            Some(Where {
                number,
                salt: segment.salt,
                first: segment.first,
                end: segment.end,
                last,
                left: next.is_some(),
            })
        })
    }

    fn open(&self, segment: &Where) -> Result<Arc<OpenSegment>, LogError> {
        let file = self.shared.file(segment.number)?;
        let header = self.header(&file)?;
        if header.salt != segment.salt {
            return Err(damaged(&file, 0, segment.first, "swapped: another segment".into()));
        }
        Ok(file)
    }

    fn header(&self, file: &OpenSegment) -> Result<SegmentHeader, LogError> {
        match read_header(&*file.file, &file.name)? {
            HeaderState::Ok(header) => Ok(header),
            _ => {
                let problem = "the segment header does not match its checksum".into();
                Err(damaged(file, 0, Position::NONE, problem))
            }
        }
    }
}

enum Shape<'a> {
    Blocks(Box<Walk<'a>>),
    Packed(Box<PackedWalk<'a>>),
}

impl Shape<'_> {
    fn step(&mut self) -> Result<Step, LogError> {
        match self {
            Self::Blocks(walk) => walk.step(),
            Self::Packed(walk) => walk.step(),
        }
    }

    fn take_entries(&mut self) -> Vec<Entry> {
        match self {
            Self::Blocks(walk) => walk.take_entries(),
            Self::Packed(walk) => walk.take_entries(),
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Self::Blocks(walk) => u64::from(walk.cursor.block) * crate::format::block::BLOCK as u64,
            Self::Packed(walk) => walk.offset(),
        }
    }
}

fn damaged(file: &OpenSegment, offset: u64, position: Position, problem: String) -> LogError {
    LogError::Damaged {
        file: file.name.clone(),
        offset,
        problem,
        first: position,
        last: position,
        hint: format!("run `stemedb wal verify` on {}", file.name),
    }
}
