//! Reads packed segments: the index at the end, single frames, and all groups in order with proof.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use stemedb_io::VfsFile;
use stemedb_model::Position;

use crate::chain::ChainHasher;
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::GroupKind;
use crate::format::envelope::Head;
use crate::format::header::SegmentHeader;
use crate::format::pack::{
    BadFrame, FRAME_HEADER, FRAMES_AT, Footer, Frame, FrameHeader, FramePlace, PackedGroup, Point,
    TRAILER,
};
use crate::walk::{Bad, Cursor, Group, Step};

/// A packed segment, open for reading.
pub(crate) struct PackedFile<'a> {
    pub(crate) file: &'a dyn VfsFile,
    pub(crate) name: &'a str,
    len: u64,
    salt: u64,
    /// No frame unpacks to more than this.
    raw_max: u64,
}

fn bad_at(byte: u64) -> impl Fn(BadFrame) -> Bad {
    move |bad| Bad { byte, problem: bad.problem.to_string(), too_new: bad.too_new }
}

impl<'a> PackedFile<'a> {
    pub(crate) fn new(
        file: &'a dyn VfsFile,
        name: &'a str,
        len: u64,
        header: &SegmentHeader,
    ) -> Self {
        Self::with_salt(file, name, len, header.salt, header.segment_bytes)
    }

    /// The same without a header. No frame unpacks to more than `raw_max` bytes.
    pub(crate) fn with_salt(
        file: &'a dyn VfsFile,
        name: &'a str,
        len: u64,
        salt: u64,
        raw_max: u64,
    ) -> Self {
        Self { file, name, len, salt, raw_max }
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<usize, LogError> {
        self.file.read_at(buf, offset).map_err(|source| LogError::Io {
            op: "read",
            file: self.name.into(),
            offset,
            source,
        })
    }

    /// What the end of the file says. Allocates no more than the file has.
    pub(crate) fn footer(&self) -> Result<Result<Footer, Bad>, LogError> {
        let at = self.len.saturating_sub(TRAILER as u64);
        let mut trailer = [0; TRAILER];
        if self.read(&mut trailer, at)? < TRAILER {
            let problem = "the file was cut off".to_string();
            return Ok(Err(Bad { byte: self.len, problem, too_new: false }));
        }
        let offset = match Footer::find(&trailer, self.salt, self.len) {
            Ok(offset) => offset,
            Err(bad) => return Ok(Err(bad_at(at)(bad))),
        };
        let mut bytes = vec![0; usize::try_from(at - offset).unwrap_or(usize::MAX)];
        let read = self.read(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(Footer::decode(&bytes, self.salt, offset).map_err(bad_at(offset)))
    }

    /// The head of the frame at `offset`. The payload lies within the file.
    pub(crate) fn frame_header(&self, offset: u64) -> Result<Result<FrameHeader, Bad>, LogError> {
        let mut bytes = [0; FRAME_HEADER];
        let read = self.read(&mut bytes, offset)?;
        if read < FRAME_HEADER {
            let problem = "the file was cut off".to_string();
            return Ok(Err(Bad { byte: offset, problem, too_new: false }));
        }
        Ok(FrameHeader::decode(&bytes, self.salt, offset).map_err(bad_at(offset)).and_then(
            |header| {
                if header.end() <= self.len {
                    Ok(header)
                } else {
                    let problem = "a frame is longer than the file".to_string();
                    Err(Bad { byte: offset, problem, too_new: false })
                }
            },
        ))
    }

    /// The frame at `offset`, unpacked.
    pub(crate) fn frame(&self, offset: u64) -> Result<Result<Frame, Bad>, LogError> {
        let header = match self.frame_header(offset)? {
            Ok(header) => header,
            Err(bad) => return Ok(Err(bad)),
        };
        let payload_at = offset + FRAME_HEADER as u64;
        let mut payload = vec![0; header.packed_len as usize];
        let read = self.read(&mut payload, payload_at)?;
        payload.truncate(read);
        let frame = Frame::decode(header, &payload, self.salt, self.raw_max);
        Ok(frame.map_err(bad_at(payload_at)))
    }

    /// Where the frames are: as the footer says, or, if that cannot be believed, as far as one
    /// frame leads to the next.
    pub(crate) fn index(&self) -> Result<Vec<FramePlace>, LogError> {
        match self.footer()? {
            Ok(footer) => Ok(footer.frames),
            Err(_) => {
                let mut frames = Vec::new();
                let mut offset = FRAMES_AT;
                while let Ok(header) = self.frame_header(offset)? {
                    frames.push(FramePlace { offset, first: header.first });
                    offset = header.end();
                }
                Ok(frames)
            }
        }
    }
}

/// Goes through a packed segment and proves each group: checksums, place, positions, time, chain.
/// The footer comes out as the closing seal that it stands for.
pub(crate) struct PackedWalk<'a> {
    packed: PackedFile<'a>,
    pub(crate) footer: Result<Footer, Bad>,
    /// In it, `block` is the number of the next frame, or of the one that the next group is in.
    pub(crate) cursor: Cursor,
    /// The byte after what was read.
    offset: u64,
    frame: Option<(Frame, Point)>,
    heads: Vec<(Head, Range<usize>)>,
    head: Vec<u8>,
    counts: Counts,
    /// Began at the first frame, so that the counts are those of the file.
    whole: bool,
    closed: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    records: u64,
    groups: u64,
    bytes: u64,
}

impl<'a> PackedWalk<'a> {
    /// From the first group on.
    pub(crate) fn new(packed: PackedFile<'a>, start: Cursor) -> Result<Self, LogError> {
        let footer = packed.footer()?;
        Ok(Self {
            packed,
            footer,
            cursor: Cursor { block: 0, ..start },
            offset: FRAMES_AT,
            frame: None,
            heads: Vec::new(),
            head: Vec::new(),
            counts: Counts::default(),
            whole: true,
            closed: false,
        })
    }

    /// Goes on with the frame at `offset`, whose head is believed if it verifies; `false` if not.
    pub(crate) fn resume_at(&mut self, offset: u64) -> Result<bool, LogError> {
        let Ok(header) = self.packed.frame_header(offset)? else { return Ok(false) };
        self.cursor = Cursor::before_frame(&header);
        self.offset = offset;
        self.frame = None;
        self.whole = false;
        self.closed = false;
        Ok(true)
    }

    /// Goes on behind the frame that the last step could not believe; `false` if no frame behind
    /// it can be believed either.
    pub(crate) fn skip(&mut self) -> Result<bool, LogError> {
        // The frame in hand was read, and `offset` is behind it; one that is not in hand begins
        // there.
        let from = if self.frame.is_some() { self.offset } else { self.offset + 1 };
        let later: Vec<u64> = match &self.footer {
            Ok(footer) => {
                let offsets = footer.frames.iter().map(|frame| frame.offset);
                offsets.filter(|offset| *offset >= from).collect()
            }
            Err(_) => match self.packed.frame_header(self.offset)? {
                Ok(header) if self.frame.is_none() => vec![header.end()],
                _ => vec![from],
            },
        };
        for offset in later {
            if self.resume_at(offset)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads and proves the next group. `Err` only if the medium cannot be read.
    pub(crate) fn step(&mut self) -> Result<Step, LogError> {
        self.heads.clear();
        loop {
            if let Some((frame, point)) = &mut self.frame {
                let byte = frame.header.offset;
                match frame.next_group(point) {
                    Ok(Some(group)) => {
                        return Ok(self.prove(group).map_or_else(Step::Bad, Step::Group));
                    }
                    Ok(None) => {
                        self.frame = None;
                        self.cursor.block = self.cursor.block.saturating_add(1);
                    }
                    Err(bad) => return Ok(Step::Bad(bad_at(byte)(bad))),
                }
            }
            if self.closed {
                return Ok(Step::Unwritten);
            }
            if self.footer.as_ref().is_ok_and(|footer| footer.offset == self.offset) {
                return Ok(self.close());
            }
            match self.packed.frame(self.offset)? {
                Ok(frame) => {
                    if let Err(problem) = self.follows(&frame.header) {
                        let byte = self.offset;
                        return Ok(Step::Bad(Bad { byte, problem, too_new: false }));
                    }
                    self.offset = frame.header.end();
                    let start = frame.start();
                    self.frame = Some((frame, start));
                }
                Err(bad) => {
                    // Without a footer nothing says where the frames end: what is there may be
                    // the footer.
                    let end = match &self.footer {
                        Err(footer) if !bad.too_new => footer.clone(),
                        _ => bad,
                    };
                    return Ok(Step::Bad(end));
                }
            }
        }
    }

    fn follows(&self, header: &FrameHeader) -> Result<(), String> {
        let Cursor { block, group, last, recorded_at, chain } = self.cursor;
        if header.number != block {
            return Err(format!("frame {} where frame {block} belongs", header.number));
        }
        if header.group != group.saturating_add(1) || header.first != last.next() {
            return Err(format!(
                "a frame from group {} and position {} where group {} from position {} belongs",
                header.group,
                header.first,
                group.saturating_add(1),
                last.next()
            ));
        }
        if header.chain != chain {
            return Err(format!("frame {block} was written after another group"));
        }
        if header.recorded_at < recorded_at {
            return Err(format!("frame {block} is earlier than the one before"));
        }
        Ok(())
    }

    /// The end of the file, if it agrees with what was read.
    fn close(&mut self) -> Step {
        let Ok(footer) = &self.footer else { return Step::Unwritten };
        let cursor = &self.cursor;
        let counts = Counts { records: footer.records, groups: footer.groups, bytes: footer.bytes };
        let agrees = footer.last == cursor.last
            && footer.group == cursor.group
            && footer.chain == cursor.chain
            && footer.frames.len() == cursor.block as usize
            && (!self.whole || (counts == self.counts && footer.recorded_at == cursor.recorded_at));
        if !agrees {
            let problem = "the end of the file does not agree with its frames".to_string();
            return Step::Bad(Bad { byte: footer.offset, problem, too_new: false });
        }
        self.closed = true;
        Step::Group(Group {
            kind: GroupKind::Close,
            number: cursor.group,
            block: cursor.block,
            blocks: 1,
            first: cursor.last.next(),
            last: cursor.last,
            recorded_at: footer.recorded_at,
            watermark: cursor.last,
            chain_before: cursor.chain,
            chain: cursor.chain,
            bytes: 0,
            lost: None,
        })
    }

    fn prove(&mut self, group: PackedGroup) -> Result<Group, Bad> {
        let Some((frame, point)) = &mut self.frame else {
            return Err(bad_at(self.offset)(BadFrame { problem: "no frame", too_new: false }));
        };
        let byte = frame.header.offset;
        let chain_before = self.cursor.chain;
        let (chain, bytes) = match &group.lost {
            Some(lost) => (lost.chain_after, group.lost_bytes),
            None => {
                let mut hasher = ChainHasher::new(chain_before, group.number, group.first);
                let mut bytes = 0;
                for position in group.first.0..=group.last.0 {
                    let entry = frame.next_entry(point).map_err(bad_at(byte))?;
                    let head = frame.head(&entry, Position(position), group.recorded_at);
                    head.encode(&mut self.head);
                    hasher.head(&self.head);
                    bytes += (self.head.len() + entry.body.len()) as u64;
                    self.heads.push((head, entry.body));
                }
                self.counts.records += self.heads.len() as u64;
                (hasher.finish(), bytes)
            }
        };
        self.counts.groups += 1;
        self.counts.bytes += bytes;
        let proved = Group {
            kind: group.kind,
            number: group.number,
            block: self.cursor.block,
            blocks: 1,
            first: group.first,
            last: group.last,
            recorded_at: group.recorded_at,
            watermark: self.cursor.last,
            chain_before,
            chain,
            bytes,
            lost: group.lost,
        };
        self.cursor = Cursor {
            block: self.cursor.block,
            group: proved.number,
            last: proved.last,
            recorded_at: proved.recorded_at,
            chain,
        };
        Ok(proved)
    }

    /// The entries of the group that the last step proved; the next call has none.
    pub(crate) fn take_entries(&mut self) -> Vec<Entry> {
        let Some((frame, _)) = &self.frame else { return Vec::new() };
        let entries = self.heads.drain(..);
        entries.map(|(head, body)| head.with_body(frame.body(body).into())).collect()
    }

    /// The byte after what was read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// All of what was read so far is proved: what comes next is a frame, or the end.
    pub(crate) fn between_frames(&self) -> bool {
        self.frame.is_none()
    }

    /// The last position that the file says it has.
    pub(crate) fn known_last(&self) -> Option<Position> {
        self.footer.as_ref().ok().map(|footer| footer.last)
    }
}

/// Frames that were read a moment ago, newest last: reads of neighbours unpack one frame once.
#[derive(Debug, Default)]
pub(crate) struct FrameCache(Mutex<Vec<(FrameKey, Arc<Frame>)>>);

/// Salt of the segment, byte of the frame.
type FrameKey = (u64, u64);

/// At most this many frames, and this many bytes of them, are kept.
const CACHED_FRAMES: usize = 32;
const CACHED_BYTES: usize = 4 << 20;

impl FrameCache {
    /// The frame at `offset` of `packed`, from the cache or the file.
    pub(crate) fn get(
        &self,
        packed: &PackedFile<'_>,
        offset: u64,
    ) -> Result<Result<Arc<Frame>, Bad>, LogError> {
        let key = (packed.salt, offset);
        {
            let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = frames.iter().position(|(known, _)| *known == key) {
                let found = frames.remove(at);
                let frame = Arc::clone(&found.1);
                frames.push(found);
                return Ok(Ok(frame));
            }
        }
        // Unpacked without the lock: others go on, and at worst it is done twice.
        let frame = match packed.frame(offset)? {
            Ok(frame) => Arc::new(frame),
            Err(bad) => return Ok(Err(bad)),
        };
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frame.size() <= CACHED_BYTES {
            frames.retain(|(known, _)| *known != key);
            frames.push((key, Arc::clone(&frame)));
            let mut bytes: usize = frames.iter().map(|(_, frame)| frame.size()).sum();
            let mut drop = 0;
            for (_, frame) in frames.iter() {
                if frames.len() - drop <= CACHED_FRAMES && bytes <= CACHED_BYTES {
                    break;
                }
                bytes -= frame.size();
                drop += 1;
            }
            frames.drain(..drop);
        }
        Ok(Ok(frame))
    }
}
