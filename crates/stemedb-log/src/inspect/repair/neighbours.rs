//! What the other segments of a folder tell of one: which database it is of, where it began, where
//! it ended, whether the log went on behind it.

use std::path::{Path, PathBuf};

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::{LogId, Millis, Position};

use super::RepairOptions;
use super::patient::Patient;
use super::salvage::READ_AHEAD;
use super::unpack::claim;
use crate::chain::chain_start;
use crate::error::LogError;
use crate::format::block::{BLOCK, Look, SECTOR};
use crate::format::header::{Fence, HeaderState, SegmentHeader, marked_salt, segment_name};
use crate::recover::floor::Floor;
use crate::recover::survey::{SegmentSurvey, io, names, read_header, survey_segment};
use crate::recover::tail::{Tail, Torn, claimed_salt, examine};
use crate::segment::Groups;
use crate::walk::{Blocks, Cursor, Step};

/// The other segments of the folder. They may be as damaged as the one to repair, so they are read
/// as patiently.
pub(super) struct Neighbours<'a> {
    vfs: &'a dyn Vfs,
    dir: PathBuf,
    /// Of the segment; 0 for a file that is none by its name.
    pub(super) number: u64,
    /// By number.
    headers: Vec<(u64, String, HeaderState)>,
    /// Where the log begins, if older segments were removed.
    floor: Option<Floor>,
}

impl<'a> Neighbours<'a> {
    /// `number` is that of the segment; a file under another name has no neighbours.
    pub(super) fn of(vfs: &'a dyn Vfs, path: &Path, number: Option<u64>) -> Result<Self, LogError> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut headers = Vec::new();
        let mut floor = None;
        if let Some(number) = number {
            let mut segments = names(vfs, &dir)?.segments;
            // One that is damaged tells nothing; a start says so.
            floor = match Floor::load(vfs, &dir) {
                Err(LogError::Damaged { .. }) => None,
                loaded => loaded?,
            };
            if let Some(floor) = &floor {
                refuse_removed(number, floor)?;
                floor.cut(&mut segments);
            }
            for (other, name) in segments {
                if other == number {
                    continue;
                }
                let file = vfs
                    .open(&dir.join(&name), Open::Read)
                    .map_err(|source| io(&name, "open", 0, source))?;
                let file = Patient::new(file);
                let header = own_header(&file, &name, other, read_header(&file, &name)?)?;
                headers.push((other, name, header));
            }
        }
        Ok(Self { vfs, dir, number: number.unwrap_or(0), headers, floor })
    }

    fn header(&self, number: u64) -> Option<&HeaderState> {
        self.headers.iter().find(|(other, _, _)| *other == number).map(|(_, _, header)| header)
    }

    fn written(&self) -> impl Iterator<Item = &SegmentHeader> {
        self.headers.iter().filter_map(|(_, _, header)| match header {
            HeaderState::Ok(header) => Some(header),
            _ => None,
        })
    }

    fn open(&self, name: &str) -> Result<(Patient, u64), LogError> {
        let failed = |source| io(name, "open", 0, source);
        let file = Patient::new(self.vfs.open(&self.dir.join(name), Open::Read).map_err(failed)?);
        let len = file.len().map_err(failed)?;
        Ok((file, len))
    }

    fn survey(&self, number: u64) -> Result<Option<SegmentSurvey>, LogError> {
        let Some(header) = self.header(number) else { return Ok(None) };
        let name = segment_name(number);
        let (file, _) = self.open(&name)?;
        survey_segment(&file, &name, number, header.clone(), None, 0).map(Some)
    }

    /// The segment before.
    fn previous(&self) -> Result<Option<SegmentSurvey>, LogError> {
        self.survey(self.number.saturating_sub(1))
    }

    /// Whether the segment before says that the log went on in this one.
    pub(super) fn closed_before(&self) -> Result<bool, LogError> {
        let previous = self.previous()?;
        let groups = previous.as_ref().and_then(|previous| previous.groups.as_ref());
        Ok(groups.is_some_and(|groups| groups.closed))
    }

    /// The header of the next segment, if it was written after this number.
    fn next(&self) -> Option<&SegmentHeader> {
        match self.header(self.number.checked_add(1)?) {
            Some(HeaderState::Ok(header)) if header.fence.segment == self.number => Some(header),
            _ => None,
        }
    }

    /// The salts of other segments: a block under one of them is at the wrong place.
    pub(super) fn salts(&self) -> Vec<u64> {
        self.written().map(|header| header.salt).collect()
    }

    pub(super) fn next_names_salt(&self) -> Option<u64> {
        self.next().map(|next| next.fence.salt)
    }

    /// Refuses a segment that is whole and at the wrong place: that is not for repair.
    pub(super) fn accept(&self, name: &str, header: &SegmentHeader) -> Result<(), LogError> {
        if self.number != 0 && header.number != self.number {
            let problem = format!("swapped: its header says it is segment {}", header.number);
            return Err(cannot(name, &problem).hint("put the right file there"));
        }
        if let Some(other) = self.written().find(|other| other.log_id != header.log_id) {
            let problem = format!(
                "foreign: it is of log {}, {} is of {}",
                header.log_id,
                segment_name(other.number),
                other.log_id
            );
            return Err(cannot(name, &problem).hint("put the right file there"));
        }
        if let Some(salt) = self.next_names_salt().filter(|salt| *salt != header.salt) {
            let problem = format!(
                "swapped: the next segment was written after another file (salt {salt:016x}, this \
                 one has {:016x})",
                header.salt
            );
            return Err(cannot(name, &problem).hint("put the right file there"));
        }
        Ok(())
    }

    /// Makes the header of this segment; says from what.
    pub(super) fn make(
        &self,
        name: &str,
        salt: u64,
        len: u64,
        first: Option<Cursor>,
        options: &RepairOptions,
    ) -> Result<(SegmentHeader, String), LogError> {
        let previous = self.previous()?;
        let before = previous.as_ref().and_then(SegmentSurvey::written_header);
        // The nearest one knows the branch.
        let model = before.or_else(|| self.next()).or_else(|| self.written().next());
        let (log_id, timeline) = match (model, options.identity) {
            (Some(model), _) => (model.log_id, model.timeline),
            (None, Some(identity)) => identity,
            (None, None) => {
                return Err(cannot(
                    name,
                    "its header is damaged, and no other segment says which database it is of",
                )
                .hint(
                    "give the folder of the node with --data-dir, or put a neighbouring segment \
                     beside it",
                ));
            }
        };
        let (fence, place) = self.fence(name, log_id, previous.as_ref(), first)?;
        // Of a newest segment the file still has the length; of others it does not matter.
        let segment_bytes = match len {
            0 => self.written().map(|other| other.segment_bytes).max().unwrap_or(0),
            len => len,
        };
        let header = SegmentHeader {
            log_id,
            timeline,
            parent: before.and_then(|before| before.parent),
            partition: model.map_or(0, |model| model.partition),
            number: self.number,
            salt,
            segment_bytes: segment_bytes.next_multiple_of(BLOCK as u64),
            fence,
            lost: 0,
            packed: false,
        };
        Ok((header, place))
    }

    /// Where the segment before this one ended.
    fn fence(
        &self,
        name: &str,
        log_id: LogId,
        previous: Option<&SegmentSurvey>,
        first: Option<Cursor>,
    ) -> Result<(Fence, String), LogError> {
        if self.number == 1 {
            let chain = chain_start(log_id);
            if first.is_some_and(|first| first.chain != chain) {
                let problem = format!("its first block was not written by log {log_id}");
                return Err(cannot(name, &problem).hint("name the database that it is of"));
            }
            let start = Fence {
                segment: 0,
                salt: 0,
                position: Position::NONE,
                group: 0,
                recorded_at: Millis(i64::MIN),
                chain,
            };
            return Ok((start, "its number".into()));
        }
        let before = segment_name(self.number.saturating_sub(1));
        if self.floor.is_some_and(|floor| floor.number == self.number) {
            let problem = "where it begins is known only to segments that were removed from here";
            return Err(cannot(name, problem)
                .hint("restore it from the archive with `stemedb wal restore`"));
        }
        let missing = || {
            cannot(name, &format!("where it begins is known only to {before}, which is no help"))
                .hint(format!("repair {before} first"))
        };
        let previous = previous.ok_or_else(missing)?;
        let header = previous.written_header().ok_or_else(missing)?;
        let groups = previous.groups.as_ref().ok_or_else(missing)?;
        let end = groups.end;
        let fence = end.fence(header.number, header.salt);
        // What was never durable there is void, and may look whole.
        let told = first.or_else(|| self.next().map(|next| Cursor::at(&next.fence)));
        let other = |told: &Cursor| told.last <= end.last && !same_point(told, &end);
        if let Some(told) = told.filter(|told| other(told) && !groups.closed) {
            let (found, from) = match (self.void_behind(&told)?, first) {
                (found, Some(_)) => (found, "its first block"),
                (None, None) => (self.written_twice(&told)?, "the segment after"),
                (found, None) => (found, "the segment after"),
            };
            if let Some(end) = found {
                return Ok((end.fence(header.number, header.salt), from.into()));
            }
        }
        let unbroken = groups.closed
            || (groups.bad.is_none()
                && previous.len >= header.segment_bytes
                && previous.tail.as_ref().is_none_or(Tail::unwritten));
        match first {
            Some(own) if same_point(&own, &end) => {
                Ok((fence, format!("{before} and its first block")))
            }
            // The previous segment has lost its end; this one tells where that was.
            Some(own) if own.last > end.last && !groups.closed => {
                let own = Cursor { recorded_at: end.recorded_at, ..own };
                Ok((own.fence(header.number, header.salt), "its first block".into()))
            }
            Some(own) => {
                let problem = format!(
                    "its first block follows position {}, but {before} goes up to {}, or the two \
                     are of different histories",
                    own.last, end.last
                );
                Err(cannot(name, &problem).hint("put the right files there"))
            }
            None if unbroken => Ok((fence, format!("the end of {before}"))),
            None => Err(missing()),
        }
    }

    /// The groups of the segment before up to `end`, if they lead there.
    fn void_behind(&self, end: &Cursor) -> Result<Option<Cursor>, LogError> {
        let number = self.number.saturating_sub(1);
        let Some(HeaderState::Ok(header)) = self.header(number) else { return Ok(None) };
        let name = segment_name(number);
        let (file, _) = self.open(&name)?;
        let fence = end.fence(header.number, header.salt);
        let next = SegmentHeader { fence, ..header.clone() };
        let state = HeaderState::Ok(header.clone());
        let found = survey_segment(&file, &name, number, state, Some(&next), 0)?;
        let reached = found.groups.map(|groups| groups.end);
        Ok(reached.filter(|at| same_point(at, end)))
    }

    /// The groups of the segment before without the last one, if `told`, which its groups do not lead
    /// to, can have been reached from there: that last group failed, and was written again in this
    /// segment. The log has never more than one group in doubt; where more would have to go, it is
    /// a file of another history.
    fn written_twice(&self, told: &Cursor) -> Result<Option<Cursor>, LogError> {
        let number = self.number.saturating_sub(1);
        let Some(HeaderState::Ok(header)) = self.header(number) else { return Ok(None) };
        let name = segment_name(number);
        let (file, len) = self.open(&name)?;
        let mut groups = Groups::new(&file, &name, len, header, READ_AHEAD)?;
        let mut before = groups.cursor();
        loop {
            let at = groups.cursor();
            match groups.step()? {
                Step::Group(group) if group.kind.is_link() => before = at,
                Step::Group(_) => {}
                Step::Bad(_) | Step::Unwritten => break,
            }
        }
        Ok(Some(before).filter(|before| before.last < told.last && before.group < told.group))
    }

    /// Where this segment ended, as the next one tells.
    pub(super) fn end(&self, header: &SegmentHeader) -> Result<Option<Cursor>, LogError> {
        if let Some(next) = self.next().filter(|next| next.fence.salt == header.salt) {
            return Ok(Some(Cursor::at(&next.fence)));
        }
        let number = self.number.saturating_add(1);
        let Some(HeaderState::Blank(mark) | HeaderState::Bad(mark)) = self.header(number) else {
            return Ok(None);
        };
        // The next one has lost its header; its first block names what it was written after, unless
        // it is a block of this one at the wrong place.
        let next = segment_name(number);
        let (file, len) = self.open(&next)?;
        let first = Claim::of(&file, &next, len, *mark, &[header.salt])?.first;
        Ok(first.filter(|first| first.last >= header.fence.position))
    }

    /// Whether the log went on behind this segment: only a whole header proves it, since a segment
    /// gets it together with its first group, in one durable write.
    pub(super) fn went_on(&self) -> bool {
        let used =
            |header: &HeaderState| matches!(header, HeaderState::Ok(_) | HeaderState::TooNew(_));
        self.headers.iter().any(|(number, _, header)| *number > self.number && used(header))
    }

    /// Whether a later segment holds anything.
    pub(super) fn followed(&self) -> Result<bool, LogError> {
        for (number, _, header) in &self.headers {
            let used = *number > self.number
                && match header {
                    HeaderState::Ok(_) | HeaderState::TooNew(_) => true,
                    HeaderState::Blank(_) | HeaderState::Bad(_) => {
                        self.survey(*number)?.is_some_and(|found| !found.is_spare())
                    }
                };
            if used {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `witness` can only have been in this segment: later ones hold at most the first group
    /// of a segment, torn, whose blocks know of no position behind it.
    pub(super) fn ends_with(&self, witness: Position) -> Result<bool, LogError> {
        for (number, name, header) in &self.headers {
            if *number < self.number {
                continue;
            }
            let (HeaderState::Blank(mark) | HeaderState::Bad(mark)) = header else {
                return Ok(false);
            };
            let (file, len) = self.open(name)?;
            let salt = match mark {
                Some(salt) => *salt,
                None => claimed_salt(&file, name, len, &[])?,
            };
            let tail = examine(&file, name, len, salt, 1, Torn::Alone)?;
            let known = tail.watermark == Position::NONE || witness <= tail.watermark;
            if !(tail.unwritten() || (tail.torn() && known)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything up to here was durable, by the fences of later segments.
    pub(super) fn durable(&self) -> Position {
        let later = self.written().filter(|other| other.number > self.number);
        later.map(|later| later.fence.position).max().unwrap_or(Position::NONE)
    }
}

/// What was removed on purpose is not made anew.
fn refuse_removed(number: u64, floor: &Floor) -> Result<(), LogError> {
    if number >= floor.number {
        return Ok(());
    }
    let problem = format!(
        "was removed from the log, which begins with {} at position {}; it is in the archive",
        segment_name(floor.number),
        floor.first
    );
    Err(cannot(&segment_name(number), &problem).hint("nothing is to be done"))
}

/// The same place of the same history, whatever file it is in.
fn same_point(one: &Cursor, other: &Cursor) -> bool {
    (one.last, one.group, one.chain) == (other.last, other.group, other.chain)
}

/// What the bytes of a segment say of it, where its header does not.
pub(super) struct Claim {
    /// Its salt, and what says so.
    pub(super) salt: Option<(u64, &'static str)>,
    /// What its first group was written after.
    pub(super) first: Option<Cursor>,
    /// It has frames, not blocks.
    pub(super) packed: bool,
}

impl Claim {
    pub(super) fn of(
        file: &dyn VfsFile,
        name: &str,
        len: u64,
        mark: Option<u64>,
        others: &[u64],
    ) -> Result<Self, LogError> {
        if let Some((salt, first)) = claim(file, name, len)? {
            return Ok(Self { salt: Some((salt, "the end of the file")), first, packed: true });
        }
        let salt = match (mark, claimed_salt(file, name, len, others)?) {
            (Some(salt), _) => Some((salt, "the mark")),
            (None, 0) => None,
            (None, salt) => Some((salt, "the blocks")),
        };
        let first = salt.map(|(salt, _)| first_group(file, name, salt)).transpose()?.flatten();
        Ok(Self { salt, first, packed: false })
    }
}

/// What is to be thought of the header that was found in segment `number`: a write that went to the
/// wrong place leaves the header of another segment where every block is still this one's. Such a
/// header is as bad as none. A file that is another segment altogether has its own header.
pub(super) fn own_header(
    file: &dyn VfsFile,
    name: &str,
    number: u64,
    found: HeaderState,
) -> Result<HeaderState, LogError> {
    let HeaderState::Ok(header) = &found else { return Ok(found) };
    if number == 0 || header.number == number {
        return Ok(found);
    }
    let mut start = [0; 2 * SECTOR];
    file.read_at(&mut start, 0).map_err(|source| io(name, "read", 0, source))?;
    let mark = marked_salt(&start, Some(number));
    let len = file.len().map_err(|source| io(name, "measure", 0, source))?;
    let salt = Claim::of(file, name, len, mark, &[])?.salt;
    Ok(match salt {
        Some((salt, _)) if salt == header.salt => found,
        // Where nothing else verifies, the header is all there is of the other segment.
        _ => HeaderState::Bad(mark),
    })
}

/// Just before the first block, if it verifies and begins a group.
fn first_group(file: &dyn VfsFile, name: &str, salt: u64) -> Result<Option<Cursor>, LogError> {
    let mut blocks = Blocks::new(file, name, 2, 1);
    let Some(block) = blocks.get(1)? else { return Ok(None) };
    let header = Look::at(block, salt, 1).header.and_then(Result::ok);
    Ok(header.filter(|header| header.index == 0).map(|header| Cursor::before(&header)))
}

/// Why a segment cannot be repaired.
pub(super) struct Cannot {
    file: String,
    problem: String,
}

pub(super) fn cannot(file: &str, problem: &str) -> Cannot {
    Cannot { file: file.into(), problem: problem.into() }
}

impl Cannot {
    pub(super) fn hint(self, hint: impl Into<String>) -> LogError {
        LogError::Misplaced { file: self.file, problem: self.problem, hint: hint.into() }
    }
}
