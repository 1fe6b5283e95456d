//! Puts a log together from parts: packed segments as they were, then an empty one on a branch of
//! its own, in which the log goes on.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use stemedb_io::{Env, FolderLock, Open, VfsFile};
use stemedb_model::{Hash, Millis, Position, Timeline};

use super::{Link, PartContent, read, to_pack, up_to};
use crate::chain::chain_start;
use crate::config::WalConfig;
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::SECTOR;
use crate::format::group::LostRange;
use crate::format::header::{SegmentHeader, segment_name};
use crate::format::packer::{PackedEnd, Packer};
use crate::recover::floor::Floor;
use crate::recover::open::make_folder;
use crate::recover::survey::{SegmentSurvey, io, names, survey};
use crate::recover::tail::Tail;
use crate::recover::verified::Verified;
use crate::upkeep::hint;
use crate::wal::lock_folder;
use crate::walk::{Cursor, Group};
use crate::worker::prepare;

/// Written at a time.
const PIECE: usize = 1 << 20;

/// Takes the parts of a log in order and writes its segments into a folder that holds no log.
///
/// A segment has its name once it is whole and durable. So a composer that ended early is followed
/// by another one, which proves what is there and goes on behind it: see [`Composer::end`].
pub struct Composer {
    env: Env,
    dir: PathBuf,
    /// Nobody else has the folder.
    _lock: Box<dyn FolderLock>,
    /// The newest segment that has its name.
    last: Option<SegmentHeader>,
    open: Option<OpenFile>,
    end: Cursor,
    /// The segments that have their names, and where the newest of them ends.
    pub(super) named: Vec<SegmentHeader>,
    pub(super) named_end: Cursor,
    /// What was given up by repairs, of all that is there.
    pub(super) lost: Vec<LostRange>,
    /// The groups that were added, for somebody who takes them.
    pub(super) added: Option<Vec<Vec<Entry>>>,
    upto: Position,
    cut_group: bool,
    /// An earlier composer has ended the log: the branch on which it goes on.
    ended: Option<Timeline>,
}

/// A segment in the making.
struct OpenFile {
    header: SegmentHeader,
    file: Box<dyn VfsFile>,
    name: String,
    packer: Packer,
    lost: u32,
}

/// What was put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Composed {
    /// Where the log ends: its root.
    pub end: Link,
    /// When its last record was committed.
    pub recorded_at: Millis,
    /// The branch on which it goes on: that of an earlier composer, if that one had ended the log.
    pub timeline: Timeline,
    /// How many segments it has, without the empty one.
    pub segments: u64,
    /// The end is inside of what was one group: the root is that of the shorter one.
    pub cut_group: bool,
    /// Number and salt of the last segment before the empty one.
    pub(super) last: (u64, u64),
}

impl std::fmt::Debug for Composer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Composer").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Composer {
    /// Begins in `dir`, which is made if it is not there. It must be empty or hold what a composer
    /// has left; that is proved. No position beyond `upto` will be in the log.
    pub fn new(env: &Env, dir: &Path, upto: Position) -> Result<Self, LogError> {
        make_folder(&*env.vfs, dir)?;
        let lock = lock_folder(&WalConfig::new(dir), env)?;
        let start = Cursor {
            block: 0,
            group: 0,
            last: Position::NONE,
            recorded_at: Millis(i64::MIN),
            chain: Hash([0; 32]),
        };
        let mut composer = Self {
            env: env.clone(),
            dir: dir.into(),
            _lock: lock,
            last: None,
            open: None,
            end: start,
            named: Vec::new(),
            named_end: start,
            lost: Vec::new(),
            added: None,
            upto,
            cut_group: false,
            ended: None,
        };
        composer.resume()?;
        Ok(composer)
    }

    /// The log so far; `None` before its first group. Parts that end at or before it are there.
    pub fn end(&self) -> Option<Link> {
        (self.end.last > Position::NONE).then(|| self.end.into())
    }

    /// When the last record so far was committed.
    pub(super) fn recorded_at(&self) -> Millis {
        self.end.recorded_at
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The outside.
    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// Takes up what an earlier composer has left. Removes nothing before all that is there is proved to
    /// be a composer's.
    fn resume(&mut self) -> Result<(), LogError> {
        let vfs = Arc::clone(&self.env.vfs);
        let vfs = &*vfs;
        let found = names(vfs, &self.dir)?;
        let dir = self.dir.display().to_string();
        let busy = |name: &str| {
            LogError::Refused(format!(
                "{dir} is not empty: {name} is there; a log is put together in an empty folder"
            ))
        };
        // What a log writes beside its segments once it is opened: no composer does.
        let listed =
            vfs.read_dir(&self.dir).map_err(|source| io("the folder", "list", 0, source))?;
        let listed = listed.iter().map(|entry| entry.name.to_string_lossy());
        let beside = |name: &str| Floor::owns(name) || Verified::owns(name) || hint::owns(name);
        let beside = listed.filter(|name| beside(name)).map(Cow::into_owned).next();
        if let Some(name) = found.unknown.iter().chain(&found.rejected).chain(&beside).next() {
            return Err(busy(name));
        }
        let mut passing = found.temporary.clone();
        for (number, segment) in (1..).zip(survey(vfs, &self.dir, &found.segments, None)?) {
            if segment.is_spare() {
                // The last thing that was made, and not yet begun.
                passing.push(segment.name);
                continue;
            }
            if self.ended.is_none() && self.ends_log(&segment, number) {
                self.ended = segment.written_header().map(|header| header.timeline);
                continue;
            }
            if self.ended.is_some() {
                return Err(busy(&segment.name));
            }
            let Some((header, end)) = self.whole(&segment, number) else {
                return Err(busy(&segment.name));
            };
            self.lost.extend(segment.groups.into_iter().flat_map(|groups| groups.lost));
            self.named(header, end);
        }
        if self.end.last > self.upto {
            return Err(LogError::Refused(format!(
                "{} holds a log up to position {}, which is beyond {}: empty it",
                self.dir.display(),
                self.end.last,
                self.upto
            )));
        }
        for name in &passing {
            let path = self.dir.join(name);
            vfs.remove_file(&path).map_err(|source| io(name, "remove", 0, source))?;
        }
        Ok(())
    }

    /// A segment has its name, and ends here.
    fn named(&mut self, header: SegmentHeader, end: Cursor) {
        self.named.push(header.clone());
        (self.named_end, self.end) = (end, end);
        self.last = Some(header);
    }

    /// Whether `segment` is the empty one with which a composer has ended the log, at the same place.
    fn ends_log(&self, segment: &SegmentSurvey, number: u64) -> bool {
        let (Some(header), Some(last)) = (segment.written_header(), &self.last) else {
            return false;
        };
        let empty = segment.groups.as_ref().is_some_and(|groups| {
            groups.count == 0 && groups.bad.is_none() && groups.end.last == self.end.last
        });
        let unwritten = segment.tail.as_ref().is_some_and(Tail::unwritten);
        let placed = segment.number == number && header.number == number;
        let left = header.parent == Some((last.timeline, self.end.last));
        let here = self.end.last == self.upto && self.follows(header);
        empty && unwritten && placed && left && here && !header.packed
    }

    /// What `segment` adds, if it is one that a composer has made and follows the one before.
    fn whole(&self, segment: &SegmentSurvey, number: u64) -> Option<(SegmentHeader, Cursor)> {
        let header = segment.written_header()?;
        let groups = segment.groups.as_ref()?;
        let made = header.packed && groups.closed && groups.bad.is_none();
        let placed = segment.number == number && header.number == number;
        (made && placed && self.follows(header)).then(|| (header.clone(), groups.end))
    }

    /// Whether the segment with this header was begun where the log ends now.
    fn follows(&self, header: &SegmentHeader) -> bool {
        let fence = &header.fence;
        let link = Link { position: fence.position, group: fence.group, chain: fence.chain };
        match &self.last {
            None => {
                let start =
                    Link { position: Position::NONE, group: 0, chain: chain_start(header.log_id) };
                header.number == 1 && fence.segment == 0 && link == start
            }
            Some(last) => {
                header.log_id == last.log_id
                    && (fence.segment, fence.salt) == (last.number, last.salt)
                    && link == Link::from(self.end)
            }
        }
    }

    /// Adds the next part, called `name`, up to the position where the log is to end. It is proved
    /// while it is added; after an error only another composer can go on.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<PartContent, LogError> {
        let (header, start) = read::begin(name, bytes)?;
        let goes_on = self.open.as_ref().is_some_and(|open| {
            (open.header.number, open.header.salt) == (header.number, header.salt)
        });
        if !goes_on {
            self.close()?;
            self.begin(name, &header)?;
        }
        if Link::from(start) != Link::from(self.end) {
            return Err(self.not_next(name, start.last.next()));
        }
        let (_, content) =
            read::read(name, bytes, &mut |group, entries| self.group(group, entries))?;
        Ok(content)
    }

    fn not_next(&self, name: &str, first: Position) -> LogError {
        LogError::Refused(format!(
            "{name} begins with position {first} of another history, or is not the next part: the log \
             ends at position {}",
            self.end.last
        ))
    }

    /// Begins the segment with this header, and those before it that hold nothing.
    fn begin(&mut self, name: &str, header: &SegmentHeader) -> Result<(), LogError> {
        while let Some(last) = &self.last
            && last.number + 1 < header.number
        {
            let number = last.number + 1;
            // The one before the next is named there; nothing names the others.
            let named = header.fence.segment == number;
            let salt = if named { header.fence.salt } else { self.env.rng.next_u64() };
            let fence = self.end.fence(last.number, last.salt);
            // What the next one says of its branch may be said by this one alone.
            let (timeline, left) = (header.timeline, (last.timeline, self.end.last));
            let parent = (timeline != left.0).then_some(left);
            let empty =
                SegmentHeader { number, salt, fence, timeline, parent, lost: 0, ..last.clone() };
            self.create(empty)?;
            self.close()?;
        }
        if !self.follows(header) {
            return Err(self.not_next(name, header.fence.position.next()));
        }
        if self.last.is_none() {
            self.end = Cursor { block: 0, ..Cursor::start_of(header) };
        }
        self.create(header.clone())
    }

    fn create(&mut self, header: SegmentHeader) -> Result<(), LogError> {
        let header = SegmentHeader { packed: true, lost: 0, ..header };
        let name = format!("{}.packed.tmp", segment_name(header.number));
        let path = self.dir.join(&name);
        let file = self.env.vfs.open(&path, Open::CreateNew);
        let file = file.map_err(|source| io(&name, "create", 0, source))?;
        let packer = Packer::new(&header);
        self.open = Some(OpenFile { header, file, name, packer, lost: 0 });
        Ok(())
    }

    fn group(&mut self, group: &Group, entries: Vec<Entry>) -> Result<(), LogError> {
        let Some((group, entries, cut)) = up_to(group, entries, self.upto) else { return Ok(()) };
        self.cut_group |= cut;
        let before = self.end.group;
        let Some(open) = &mut self.open else {
            return Err(LogError::Refused("a group without a segment".into()));
        };
        open.packer
            .add(&to_pack(&group, before), &entries)
            .map_err(|too_long| too_long.in_file(&open.name))?;
        open.lost += u32::from(group.lost.is_some());
        self.lost.extend(group.lost.clone());
        self.end = super::after(&group);
        if let Some(added) = &mut self.added
            && !entries.is_empty()
        {
            added.push(entries);
        }
        if open.packer.ready() >= PIECE { open.flush() } else { Ok(()) }
    }

    /// Ends the segment in the making and gives it its name, durably.
    fn close(&mut self) -> Result<(), LogError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let end = PackedEnd {
            last: self.end.last,
            group: self.end.group,
            recorded_at: self.end.recorded_at,
            chain: self.end.chain,
        };
        open.packer.finish(&end).map_err(|too_long| too_long.in_file(&open.name))?;
        open.flush()?;
        let OpenFile { header, file, name, lost, .. } = open;
        let header = SegmentHeader { lost, ..header };
        let mut sector = [0; SECTOR];
        header.encode(&mut sector);
        let failed = |op| {
            let name = &name;
            move |source| io(name, op, 0, source)
        };
        file.write_at(&sector, 0).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))?;
        file.close().map_err(failed("close"))?;
        let path = self.dir.join(segment_name(header.number));
        let vfs = &*self.env.vfs;
        vfs.rename(&self.dir.join(&name), &path).map_err(failed("rename"))?;
        vfs.sync_dir(&self.dir).map_err(failed("sync folder after"))?;
        self.named(header, self.end);
        Ok(())
    }

    /// Ends the log. It goes on as the branch `timeline`, in a segment of `segment_bytes`, so that
    /// what is written from now on is never taken for what the log it comes from has written since.
    pub fn finish(mut self, timeline: Timeline, segment_bytes: u64) -> Result<Composed, LogError> {
        self.close()?;
        let (Some(last), Some(end)) = (&self.last, self.end()) else {
            return Err(LogError::Refused("a log without a record cannot be".into()));
        };
        if let Some(timeline) = self.ended {
            // It may have been written just now, and not be durable yet.
            let name = segment_name(last.number + 1);
            let file = self.env.vfs.open(&self.dir.join(&name), Open::Write);
            let synced = file.and_then(|file| file.sync_all());
            synced.map_err(|source| io(&name, "sync", 0, source))?;
            return Ok(self.composed(end, timeline));
        }
        let never = AtomicBool::new(false);
        let number = last.number + 1;
        let spare = prepare(&self.env, &self.dir, number, segment_bytes, &never)?;
        let header = SegmentHeader {
            timeline,
            parent: Some((last.timeline, end.position)),
            number,
            salt: spare.salt,
            segment_bytes: spare.bytes,
            fence: self.end.fence(last.number, last.salt),
            lost: 0,
            packed: false,
            ..last.clone()
        };
        let mut sector = [0; SECTOR];
        header.encode(&mut sector);
        let failed = |op| {
            let name = &spare.name;
            move |source| io(name, op, 0, source)
        };
        spare.file.write_at(&sector, 0).map_err(failed("write"))?;
        spare.file.sync_all().map_err(failed("sync"))?;
        Ok(self.composed(end, timeline))
    }

    fn composed(&self, end: Link, timeline: Timeline) -> Composed {
        Composed {
            end,
            recorded_at: self.end.recorded_at,
            timeline,
            segments: self.named.len() as u64,
            cut_group: self.cut_group,
            last: self.last.as_ref().map_or((0, 0), |last| (last.number, last.salt)),
        }
    }
}

impl OpenFile {
    fn flush(&mut self) -> Result<(), LogError> {
        let (at, bytes) = self.packer.take();
        self.file.write_at(&bytes, at).map_err(|source| io(&self.name, "write", at, source))
    }
}
