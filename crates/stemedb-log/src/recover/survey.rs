//! Reads a folder, or one file, and tells what is there. Decides nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::Position;

use super::floor::Floor;
use super::tail::{Tail, Torn, claimed_salt, examine};
use super::verified::Verified;
use crate::error::LogError;
use crate::format::block::{BLOCK, GroupKind, Look, SECTOR};
use crate::format::group::LostRange;
use crate::format::header::{Fence, HeaderState, SegmentHeader, segment_number};
use crate::heal::PROBE_NAME;
use crate::packed::PackedFile;
use crate::segment::Groups;
use crate::upkeep::hint;
use crate::walk::{Bad, Blocks, Cursor, Group, Marks, Step};

/// How many blocks a full scan reads at a time: 1 MiB.
const READ_AHEAD: u32 = 256;

/// Names in a log's folder, sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Segments, by number.
    pub(crate) segments: Vec<(u64, String)>,
    /// Segments that were being prepared when the process ended.
    pub(crate) temporary: Vec<String>,
    /// What recovery or repair set aside.
    pub(crate) rejected: Vec<String>,
    /// Everything else.
    pub(crate) unknown: Vec<String>,
}

/// One segment, as found.
#[derive(Debug)]
pub(crate) struct SegmentSurvey {
    pub(crate) name: String,
    /// The number in its name; the one in its header for a file under another name.
    pub(crate) number: u64,
    pub(crate) len: u64,
    pub(crate) header: HeaderState,
    /// The groups; `None` without a header that can be read.
    pub(crate) groups: Option<GroupsSurvey>,
    /// What lies behind the groups: always looked at where no later segment says where they end.
    pub(crate) tail: Option<Tail>,
}

/// The provable groups of a segment, from its start.
#[derive(Debug)]
pub(crate) struct GroupsSurvey {
    /// After the last of them.
    pub(crate) end: Cursor,
    /// The block that the last link of the chain begins in; 0 if there is at most one, which was
    /// written together with the header.
    pub(crate) last_write: u32,
    pub(crate) count: u64,
    pub(crate) records: u64,
    /// Bytes of entries.
    pub(crate) bytes: u64,
    /// The last thing is a seal.
    pub(crate) sealed: bool,
    /// The last thing is a closing seal: the log went on in the next segment.
    pub(crate) closed: bool,
    pub(crate) lost: Vec<LostRange>,
    /// Why the walk ended, if not at the end of what was written or at the fence.
    pub(crate) bad: Option<Bad>,
    /// Of a packed segment that ended badly, the last position that is not proved there.
    pub(crate) missing_to: Option<Position>,
    /// `None`: not read, since an earlier start has proved it.
    pub(crate) marks: Option<Marks>,
}

/// Sorts out the names of a folder.
pub(crate) fn names(vfs: &dyn Vfs, dir: &Path) -> Result<Names, LogError> {
    let listed = vfs.read_dir(dir).map_err(|source| LogError::Io {
        op: "list",
        file: dir.display().to_string(),
        offset: 0,
        source,
    })?;
    let mut names = Names::default();
    for entry in listed {
        let name = entry.name.to_string_lossy().into_owned();
        let stem = name.strip_suffix(".tmp").unwrap_or(&name);
        let stem = if stem == name { stem } else { stem.strip_suffix(".packed").unwrap_or(stem) };
        let rejected = name.find(".wal.rejected").and_then(|at| name.get(..at + 4));
        match segment_number(stem) {
            Some(number) if !entry.is_dir && stem == name => names.segments.push((number, name)),
            Some(_) if !entry.is_dir => names.temporary.push(name),
            _ if name == PROBE_NAME && !entry.is_dir => names.temporary.push(name),
            _ if Verified::owns(&name) || Floor::owns(&name) || hint::owns(&name) => {}
            _ if rejected.and_then(segment_number).is_some() => names.rejected.push(name),
            _ => names.unknown.push(name),
        }
    }
    names.segments.sort();
    Ok(names)
}

/// Reads every segment of a folder, but for those that `verified` vouches for.
pub(crate) fn survey(
    vfs: &dyn Vfs,
    dir: &Path,
    segments: &[(u64, String)],
    verified: Option<Verified>,
) -> Result<Vec<SegmentSurvey>, LogError> {
    survey_watched(vfs, dir, segments, verified, &mut |_| ())
}

/// The same, telling the length of every segment that is done with, in no order. Segments are proved
/// by themselves, from the fence in their header on, so several are read at once.
pub(crate) fn survey_watched(
    vfs: &dyn Vfs,
    dir: &Path,
    segments: &[(u64, String)],
    verified: Option<Verified>,
    watch: &mut dyn FnMut(u64),
) -> Result<Vec<SegmentSurvey>, LogError> {
    let mut headers = Vec::new();
    for (number, name) in segments {
        let file = open(vfs, dir, name)?;
        headers.push((*number, name.as_str(), read_header(&*file, name)?));
    }
    let proved = verified.map_or(0, |verified| vouched_for(&headers, &verified));
    let folder = Folder { vfs, dir, headers, proved };
    let mut ahead = folder.ahead(watch);
    let mut found: Vec<SegmentSurvey> = Vec::new();
    for at in 0..folder.headers.len() {
        let survey = match ahead.remove(&at) {
            Some(survey) => survey?,
            None => {
                let before = found.iter().rev().find_map(|before| before.groups.as_ref());
                let survey = folder.survey(at, before.map_or(0, |groups| groups.end.group))?;
                watch(survey.len);
                survey
            }
        };
        found.push(survey);
    }
    Ok(found)
}

/// A segment's number and name, and the header that was found.
type Header<'a> = (u64, &'a str, HeaderState);

struct Folder<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    headers: Vec<Header<'a>>,
    /// Segments up to this number are vouched for.
    proved: u64,
}

impl Folder<'_> {
    /// Surveys at once what needs no other segment, if that pays.
    fn ahead(
        &self,
        watch: &mut dyn FnMut(u64),
    ) -> BTreeMap<usize, Result<SegmentSurvey, LogError>> {
        let alone = |at: &usize| matches!(self.headers.get(*at), Some((_, _, HeaderState::Ok(_))));
        let all: Vec<usize> = (0..self.headers.len()).filter(alone).collect();
        let readers = self.vfs.readers().min(all.len());
        let mut surveys = BTreeMap::new();
        if readers < 2 {
            return surveys;
        }
        let next = AtomicUsize::new(0);
        let (sender, done) = channel();
        std::thread::scope(|scope| {
            for _ in 0..readers {
                let (next, all, sender) = (&next, &all, sender.clone());
                scope.spawn(move || {
                    while let Some(at) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // The receiver outlives this thread.
                        let _ = sender.send((*at, self.survey(*at, 0)));
                    }
                });
            }
            drop(sender);
            for (at, survey) in done {
                watch(survey.as_ref().map_or(0, |survey| survey.len));
                surveys.insert(at, survey);
            }
        });
        surveys
    }

    /// `group`: the last one known before it, of which a segment with a header has no need.
    fn survey(&self, at: usize, group: u64) -> Result<SegmentSurvey, LogError> {
        let next = match self.headers.get(at + 1) {
            Some((_, _, HeaderState::Ok(next))) => Some(next),
            _ => None,
        };
        let Some((number, name, header)) = self.headers.get(at) else {
            return Err(io("folder", "list", 0, std::io::ErrorKind::NotFound.into()));
        };
        let file = open(self.vfs, self.dir, name)?;
        if let (true, HeaderState::Ok(own), Some(next)) = (*number <= self.proved, header, next)
            && own.lost == 0
            && let Some(skipped) = skip_proved(&*file, name, own, &next.fence)?
        {
            return Ok(skipped);
        }
        // Read again: a log that is in use may have packed it since.
        let header = read_header(&*file, name)?;
        survey_segment(&*file, name, *number, header, next, group)
    }
}

/// The newest segment that `verified` speaks of, if it is still the one that was proved.
fn vouched_for(headers: &[Header<'_>], verified: &Verified) -> u64 {
    let mut pairs = headers.iter().zip(headers.iter().skip(1));
    let fits = pairs.any(|pair| match pair {
        ((number, _, HeaderState::Ok(own)), (_, _, HeaderState::Ok(next))) => {
            *number == verified.number
                && own.salt == verified.salt
                && next.fence.salt == own.salt
                && next.fence.chain == verified.chain
        }
        _ => false,
    });
    if fits { verified.number } else { 0 }
}

/// A segment that was proved and still ends with the closing seal that fits the next one's fence.
fn skip_proved(
    file: &dyn VfsFile,
    name: &str,
    header: &SegmentHeader,
    fence: &Fence,
) -> Result<Option<SegmentSurvey>, LogError> {
    let len = file.len().map_err(|source| io(name, "measure", 0, source))?;
    let end = (len / BLOCK as u64) as u32;
    let sealed = if header.packed {
        let footer = PackedFile::new(file, name, len, header).footer()?;
        footer.ok().map(|footer| (footer.last.next(), footer.chain))
    } else {
        let last = end.saturating_sub(1);
        let mut blocks = Blocks::new(file, name, end, 1);
        let Some(block) = blocks.get(last)? else { return Ok(None) };
        let look = Look::at(block, header.salt, last);
        match look.header {
            Some(Ok(seal)) if look.whole() && seal.kind == GroupKind::Close => {
                Some((seal.first, seal.chain))
            }
            _ => None,
        }
    };
    let fits = sealed == Some((fence.position.next(), fence.chain))
        && fence.segment == header.number
        && fence.salt == header.salt;
    let groups = GroupsSurvey {
        end: Cursor {
            block: end,
            group: fence.group,
            last: fence.position,
            recorded_at: fence.recorded_at,
            chain: fence.chain,
        },
        last_write: end,
        count: 0,
        records: 0,
        bytes: 0,
        sealed: false,
        closed: true,
        lost: Vec::new(),
        bad: None,
        missing_to: None,
        marks: None,
    };
    Ok(fits.then(|| SegmentSurvey {
        name: name.into(),
        number: header.number,
        len,
        header: HeaderState::Ok(header.clone()),
        groups: Some(groups),
        tail: None,
    }))
}

/// Reads one file by itself; its number is that of its header.
pub(crate) fn survey_file(vfs: &dyn Vfs, path: &Path) -> Result<SegmentSurvey, LogError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = open(vfs, dir, &name)?;
    let header = read_header(&*file, &name)?;
    let number = match &header {
        HeaderState::Ok(header) => header.number,
        _ => segment_number(&name).unwrap_or(0),
    };
    survey_segment(&*file, &name, number, header, None, 0)
}

/// Reads one segment of a folder as if none came after it.
pub(crate) fn survey_last(
    vfs: &dyn Vfs,
    dir: &Path,
    (number, name): &(u64, String),
) -> Result<SegmentSurvey, LogError> {
    let file = open(vfs, dir, name)?;
    let header = read_header(&*file, name)?;
    survey_segment(&*file, name, *number, header, None, 0)
}

/// `next` is the header of the segment after it, `group` the last group known before it.
pub(crate) fn survey_segment(
    file: &dyn VfsFile,
    name: &str,
    number: u64,
    header: HeaderState,
    next: Option<&SegmentHeader>,
    group: u64,
) -> Result<SegmentSurvey, LogError> {
    let len = file.len().map_err(|source| io(name, "measure", 0, source))?;
    let mut found =
        SegmentSurvey { name: name.into(), number, len, header, groups: None, tail: None };
    match &found.header {
        HeaderState::Ok(header) => {
            // A fence that names this very file says where it ends; what is behind is void.
            let fence = next
                .map(|next| next.fence)
                .filter(|fence| fence.segment == header.number && fence.salt == header.salt);
            let groups = survey_groups(file, name, len, header, fence)?;
            let reached = fence.is_some_and(|fence| groups.end.last >= fence.position);
            if !reached && !header.packed {
                let end = &groups.end;
                let torn = Torn::Behind(end.group);
                found.tail = Some(examine(file, name, len, header.salt, end.block, torn)?);
            }
            found.groups = Some(groups);
        }
        HeaderState::Blank(marked) | HeaderState::Bad(marked) => {
            let salt = match marked {
                Some(salt) => *salt,
                None => claimed_salt(file, name, len, &[])?,
            };
            let mut tail = examine(file, name, len, salt, 1, Torn::First(group))?;
            if matches!(found.header, HeaderState::Bad(_)) {
                tail.rotten = Some(0);
            }
            found.tail = Some(tail);
        }
        HeaderState::TooNew(_) => {}
    }
    Ok(found)
}

fn survey_groups(
    file: &dyn VfsFile,
    name: &str,
    len: u64,
    header: &SegmentHeader,
    fence: Option<Fence>,
) -> Result<GroupsSurvey, LogError> {
    let mut walk = Groups::new(file, name, len, header, READ_AHEAD)?;
    let (mut count, mut records, mut bytes, mut last_write) = (0, 0, 0, 0);
    let (mut sealed, mut closed, mut bad, mut lost) = (false, false, None, Vec::new());
    // What is in blocks behind the fence is void; a packed segment has nothing there, and its
    // end is proved too.
    while header.packed || fence.is_none_or(|fence| walk.cursor().last < fence.position) {
        match walk.step()? {
            Step::Group(Group { kind: GroupKind::Seal, .. }) => sealed = true,
            Step::Group(Group { kind: GroupKind::Close, .. }) => {
                closed = true;
                break;
            }
            Step::Group(group) => {
                sealed = false;
                if count > 0 {
                    last_write = group.block;
                }
                count += 1;
                bytes += group.bytes;
                match group.lost {
                    Some(range) => lost.push(range),
                    None => records += group.last.0.saturating_sub(group.first.0).saturating_add(1),
                }
            }
            Step::Unwritten => break,
            Step::Bad(found) => {
                bad = Some(found);
                break;
            }
        }
    }
    let end = walk.cursor();
    let missing_to = match &bad {
        Some(_) => walk.missing_to()?,
        None => None,
    };
    let marks = Some(walk.into_marks());
    Ok(GroupsSurvey {
        end,
        last_write,
        count,
        records,
        bytes,
        sealed,
        closed,
        lost,
        bad,
        missing_to,
        marks,
    })
}

pub(crate) fn read_header(file: &dyn VfsFile, name: &str) -> Result<HeaderState, LogError> {
    let mut start = [0; 2 * SECTOR];
    let read = file.read_at(&mut start, 0).map_err(|source| io(name, "read", 0, source))?;
    // A file that is shorter than its header has lost it, whatever is left.
    Ok(match read < SECTOR {
        true => HeaderState::Bad(None),
        false => SegmentHeader::decode(&start, segment_number(name)),
    })
}

fn open(vfs: &dyn Vfs, dir: &Path, name: &str) -> Result<Box<dyn VfsFile>, LogError> {
    vfs.open(&dir.join(name), Open::Read).map_err(|source| io(name, "open", 0, source))
}

pub(crate) fn io(file: &str, op: &'static str, offset: u64, source: std::io::Error) -> LogError {
    LogError::Io { op, file: file.into(), offset, source }
}

impl SegmentSurvey {
    pub(crate) fn written_header(&self) -> Option<&SegmentHeader> {
        match &self.header {
            HeaderState::Ok(header) => Some(header),
            _ => None,
        }
    }

    /// Prepared and never used.
    pub(crate) fn is_spare(&self) -> bool {
        matches!(self.header, HeaderState::Blank(_))
            && self.tail.as_ref().is_some_and(Tail::unwritten)
    }

    /// Not read, since an earlier start has proved it.
    pub(crate) fn skipped(&self) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.marks.is_none())
    }

    /// Where its positions end, as far as they are proved.
    pub(crate) fn last(&self) -> Option<Position> {
        self.groups.as_ref().map(|groups| groups.end.last)
    }
}
