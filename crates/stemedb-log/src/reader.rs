//! The reading end of the WAL: any number of threads, while the writer appends.

use std::sync::Arc;

use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

use crate::LogReader;
use crate::entry::Entry;
use crate::error::{LogError, LogState};
use crate::format::block::{BLOCK, BlockHeader, GroupKind, Look, PAYLOAD, take_payload};
use crate::format::envelope::{decode_head, head_len};
use crate::format::group::LostRange;
use crate::format::pack::BadFrame;
use crate::packed::{PackedFile, PackedWalk};
use crate::segment::{OpenPacked, OpenSegment};
use crate::shared::{SegmentEntry, Shared};
use crate::walk::{Bad, Blocks, Cursor, Group, Step, Walk};

/// How many blocks a scan reads at a time: 256 KiB.
const READ_AHEAD: u32 = 64;

/// Where a position is to be looked for.
struct Place {
    segment: Arc<OpenSegment>,
    salt: u64,
    /// Blocks from here on are not looked at.
    end: u32,
    /// The block it begins in is one of these.
    among: std::ops::Range<u32>,
    /// The last position of the segment.
    last: Position,
}

impl LogReader for Shared {
    fn identity(&self) -> Option<(LogId, Timeline)> {
        self.published(|log| log.identity)
    }

    fn durable(&self) -> (Position, Millis) {
        self.published(|log| (log.end.last, log.end.recorded_at))
    }

    fn read(&self, position: Position) -> Result<Option<Entry>, LogError> {
        if position == Position::NONE {
            return Ok(None);
        }
        let place = match self.place(position) {
            Err(LogError::Trimmed { position, first }) => {
                return self.read_removed(position, first);
            }
            place => place?,
        };
        let Some(place) = place else { return Ok(None) };
        match place.segment.packed() {
            Some((file, packed)) => place.read_frame(self, &file, packed, position).map(Some),
            None => place.read(position).map(Some),
        }
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let mut next = from.max(Position(1));
        loop {
            let place = match self.place(next) {
                // Before the scan, or while it went on.
                Err(LogError::Trimmed { first, .. }) => {
                    match self.scan_removed(next, first, visit)? {
                        Some(first) => next = first,
                        None => return Ok(()),
                    }
                    continue;
                }
                place => place?,
            };
            let Some(place) = place else { return Ok(()) };
            let before = next;
            let go_on = match place.segment.packed() {
                Some((file, packed)) => place.scan_frames(file, packed, &mut next, visit)?,
                None => place.scan(&mut next, visit)?,
            };
            if !go_on {
                return Ok(());
            }
            if next == before {
                return Err(place.damaged(0, next, "the position is not where it must be".into()));
            }
        }
    }

    fn root(&self) -> (Position, Hash) {
        self.published(|log| (log.end.last, log.end.chain))
    }

    fn lost(&self) -> Vec<LostRange> {
        self.published(|log| log.lost.clone())
    }

    fn state(&self) -> LogState {
        Shared::state(self)
    }
}

impl Shared {
    /// `None` outside what is durable.
    fn place(&self, position: Position) -> Result<Option<Place>, LogError> {
        let mut floor = Position::NONE;
        let found = self.published(|log| {
            floor = log.floor;
            if position > log.end.last || position < floor {
                return None;
            }
            let after = log.segments.partition_point(|segment| segment.first <= position);
            let SegmentEntry { number, salt, end, marks, .. } =
                log.segments.get(after.checked_sub(1)?)?;
            let among = match marks {
                Some(marks) => marks.around(position, *end),
                None => 1..*end,
            };
            let last = log
                .segments
                .get(after)
                .map_or(log.end.last, |next| Position(next.first.0.saturating_sub(1)));
            Some((*number, *salt, *end, among, last))
        });
        if position < floor {
            return Err(LogError::Trimmed { position, first: floor });
        }
        let Some((number, salt, end, among, last)) = found else { return Ok(None) };
        let segment = match self.file(number) {
            Ok(segment) => segment,
            Err(error) => {
                // It may have been removed just now.
                let first = self.published(|log| log.floor);
                let trimmed = position < first;
                return Err(if trimmed { LogError::Trimmed { position, first } } else { error });
            }
        };
        let place = Place { segment, salt, end, among, last };
        if place.segment.packed.as_ref().is_some_and(|packed| packed.header.salt != salt) {
            return Err(place.damaged(0, position, "swapped: another segment".into()));
        }
        Ok(Some(place))
    }
}

impl Place {
    fn damaged(&self, offset: u64, position: Position, problem: String) -> LogError {
        self.damaged_range(offset, (position, position), problem)
    }

    fn damaged_range(
        &self,
        offset: u64,
        (first, last): (Position, Position),
        problem: String,
    ) -> LogError {
        LogError::Damaged {
            file: self.segment.name.clone(),
            offset,
            problem,
            first,
            last,
            hint: format!("run `stemedb wal verify` on {}", self.segment.name),
        }
    }

    /// Reads and verifies one block; `position` is what is looked for.
    fn block(
        &self,
        number: u32,
        position: Position,
        block: &mut [u8; BLOCK],
    ) -> Result<BlockHeader, LogError> {
        let offset = u64::from(number) * BLOCK as u64;
        self.segment.file.read_exact_at(block, offset).map_err(|source| LogError::Io {
            op: "read",
            file: self.segment.name.clone(),
            offset,
            source,
        })?;
        let look = Look::at(block, self.salt, number);
        match look.header {
            Some(Ok(header)) if look.whole() => Ok(header),
            _ => {
                let bad = offset + look.first_bad() as u64;
                Err(self.damaged(bad, position, "a sector does not match its checksum".into()))
            }
        }
    }

    /// The block that `position` begins in, read into `block`.
    fn find(
        &self,
        position: Position,
        block: &mut [u8; BLOCK],
    ) -> Result<(u32, BlockHeader), LogError> {
        // The last block whose first position is not beyond the one looked for. A block in which
        // no entry begins names the next one to begin, so it sorts before the right one.
        let (mut low, mut high) = (self.among.start, self.among.end);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.block(middle, position, block)?.first <= position {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok((low, self.block(low, position, block)?))
    }

    fn read(&self, position: Position) -> Result<Entry, LogError> {
        let mut block = [0; BLOCK];
        let (number, header) = self.find(position, &mut block)?;
        let byte = u64::from(number) * BLOCK as u64;
        let not_here =
            || self.damaged(byte, position, "the position is not where it must be".into());
        let mut bytes = Vec::with_capacity(PAYLOAD);
        let start = usize::from(header.start.ok_or_else(not_here)?);
        take_payload(&block, start..usize::from(header.used), &mut bytes);
        if header.kind == GroupKind::Lost {
            let lost = LostRange::decode(&bytes).ok_or_else(not_here)?;
            return Err(lost.to_error());
        }
        let mut following = header.index + 1..header.count;
        // Makes the first `len` of `bytes` there, from the group's next blocks. A length that
        // lies ends with the group.
        let mut gather = |bytes: &mut Vec<u8>, len: usize| -> Result<(), LogError> {
            while bytes.len() < len {
                let index = following.next().ok_or_else(not_here)?;
                let more = self.block(number + index - header.index, position, &mut block)?;
                if more.group != header.group || more.index != index {
                    return Err(not_here());
                }
                take_payload(&block, 0..usize::from(more.used), bytes);
            }
            Ok(())
        };
        let mut here = header.first;
        let mut at = 0;
        loop {
            gather(&mut bytes, at + 8)?;
            let head_len = head_len(bytes.get(at..).unwrap_or_default())
                .map_err(|problem| self.damaged(byte, position, format!("{problem:?}")))?;
            gather(&mut bytes, at + head_len)?;
            let head = decode_head(bytes.get(at..at + head_len).unwrap_or_default())
                .map_err(|problem| self.damaged(byte, position, format!("{problem:?}")))?;
            let body = at + head_len;
            let end = body + head.body_len as usize;
            if here == position {
                gather(&mut bytes, end)?;
                let body = bytes.get(body..end).unwrap_or_default();
                return if head.position == position {
                    Ok(head.with_body(body.into()))
                } else {
                    Err(not_here())
                };
            }
            gather(&mut bytes, end)?;
            here = here.next();
            at = end;
        }
    }

    /// Visits the groups of this segment from the one that holds `next` on, and moves `next`
    /// behind them. `false` when the visitor says stop.
    fn scan(
        &self,
        next: &mut Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<bool, LogError> {
        let mut block = [0; BLOCK];
        let (number, header) = self.find(*next, &mut block)?;
        let leader = match header.index {
            0 => header,
            index => self.block(number.saturating_sub(index), *next, &mut block)?,
        };
        let segment = &self.segment;
        let blocks = Blocks::new(&*segment.file, &segment.name, self.end, READ_AHEAD);
        let mut walk = Walk::new(blocks, self.salt, Cursor::before(&leader));
        loop {
            match walk.step()? {
                Step::Group(group) => {
                    if !pass(&group, walk.take_entries(), next, visit)? {
                        return Ok(false);
                    }
                }
                Step::Unwritten => return Ok(true),
                Step::Bad(bad) => return Err(self.damaged(bad.byte, *next, bad.problem)),
            }
        }
    }

    /// The frame that `position` is in.
    fn frame_of(&self, packed: &OpenPacked, position: Position) -> Result<(usize, u64), LogError> {
        let after = packed.frames.partition_point(|frame| frame.first <= position);
        let found = after.checked_sub(1).and_then(|at| Some((at, packed.frames.get(at)?.offset)));
        found.ok_or_else(|| self.damaged(0, position, "no frame holds the position".into()))
    }

    /// The positions that share a frame share its fate.
    fn bad_frame(&self, packed: &OpenPacked, (at, offset): (usize, u64), bad: Bad) -> LogError {
        let first = packed.frames.get(at).map_or(Position::NONE, |frame| frame.first);
        let last = packed
            .frames
            .get(at + 1)
            .map_or(self.last, |frame| Position(frame.first.0.saturating_sub(1)));
        let Bad { byte, problem, .. } = bad;
        self.damaged_range(byte.max(offset), (first, last), problem)
    }

    fn read_frame(
        &self,
        shared: &Shared,
        file: &PackedFile<'_>,
        packed: &OpenPacked,
        position: Position,
    ) -> Result<Entry, LogError> {
        let place = self.frame_of(packed, position)?;
        let frame = shared.frames.get(file, place.1)?;
        let found = frame.and_then(|frame| {
            let bad = |bad: BadFrame| Bad {
                byte: place.1,
                problem: bad.problem.into(),
                too_new: bad.too_new,
            };
            let mut point = frame.start();
            while let Some(group) = frame.next_group(&mut point).map_err(bad)? {
                if let Some(lost) = group.lost {
                    if position <= lost.last {
                        return Ok(Some(Err(lost.to_error())));
                    }
                    continue;
                }
                for here in group.first.0..=group.last.0 {
                    let entry = frame.next_entry(&mut point).map_err(bad)?;
                    if here == position.0 {
                        let head = frame.head(&entry, position, group.recorded_at);
                        return Ok(Some(Ok(head.with_body(frame.body(entry.body).into()))));
                    }
                }
            }
            Ok(None)
        });
        match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                let problem = "the position is not where it must be".into();
                Err(self.damaged(place.1, position, problem))
            }
            Err(bad) => Err(self.bad_frame(packed, place, bad)),
        }
    }

    /// Like [`Self::scan`], of a packed segment.
    fn scan_frames(
        &self,
        file: PackedFile<'_>,
        packed: &OpenPacked,
        next: &mut Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<bool, LogError> {
        let place = self.frame_of(packed, *next)?;
        let mut walk = PackedWalk::new(file, Cursor::start_of(&packed.header))?;
        if place.0 > 0 && !walk.resume_at(place.1)? {
            let problem = "the head of a frame does not match its checksum".to_string();
            let bad = Bad { byte: place.1, problem, too_new: false };
            return Err(self.bad_frame(packed, place, bad));
        }
        loop {
            match walk.step()? {
                Step::Group(group) => {
                    if !pass(&group, walk.take_entries(), next, visit)? {
                        return Ok(false);
                    }
                }
                Step::Unwritten => return Ok(true),
                Step::Bad(bad) => {
                    // What is behind the last position is the matter of verify and scrub.
                    if packed.frames.len() == walk.cursor.block as usize && walk.between_frames() {
                        return Ok(true);
                    }
                    let place = self.frame_of(packed, *next)?;
                    return Err(self.bad_frame(packed, place, bad));
                }
            }
        }
    }
}

/// Hands the entries of `group` from `next` on to a visitor, and moves `next` behind them.
fn pass(
    group: &Group,
    mut entries: Vec<Entry>,
    next: &mut Position,
    visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
) -> Result<bool, LogError> {
    entries.retain(|entry| entry.position >= *next);
    if group.kind.is_link() {
        *next = (*next).max(group.last.next());
    }
    Ok(entries.is_empty() || visit(entries)?)
}
