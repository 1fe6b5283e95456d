//! Makes a damaged or missing segment again, from what an archive has of it and, for what is newer, from
//! the file itself. Nothing is given up that either has: the input is only read.
//!
//! ```text
//! archive   ├──── parts ────┤
//! file      ├──x──────x─────┼── newer ──┤
//! result    ├──── parts ────┼── newer ──┤
//! ```
//!
//! The groups of both are one chain, which leads to where the next segment says that this one ended. Of the
//! newest segment nothing may tell where it ended; then what the file holds decides, or an operator.

use std::path::{Path, PathBuf};

use stemedb_io::{Env, Open, Vfs, VfsFile};
use stemedb_model::Position;

use super::neighbours::{Neighbours, cannot};
use super::patient::Patient;
use super::salvage::READ_AHEAD;
use super::unpack::{as_blocks, unpack};
use super::write::{name_result, refuse_existing};
use super::{Undecided, with_suffix};
use crate::entry::Entry;
use crate::error::LogError;
use crate::format::block::{BLOCK, GroupKind, Look};
use crate::format::group::{GroupPlace, encode_seal};
use crate::format::header::{HeaderState, SegmentHeader, encode_mark, segment_number};
use crate::part::{Link, PartContent, begin_part, read_part};
use crate::recover::survey::{io, read_header, survey_file};
use crate::recover::tail::{Torn, examine};
use crate::walk::{Blocks, Cursor, Group, Step, Walk};

/// Zeros that are written at a time.
const ZEROS: usize = 1 << 20;

/// What to make again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The segment, in the folder of its log; it may be missing there.
    pub segment: PathBuf,
    /// Where the result goes; nothing may be there.
    pub output: PathBuf,
    /// Say what would be done, and do nothing.
    pub plan: bool,
    /// Give up what may have been acknowledged after the archive ends, and cannot be read here.
    pub accept_loss: bool,
}

/// What was made again, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// File name of the segment.
    pub file: String,
    /// Its number.
    pub number: u64,
    /// First and last position that come from the archive.
    pub archived: (Position, Position),
    /// First and last position that are newer, and come from the file.
    pub newer: Option<(Position, Position)>,
    /// What may have come behind that; nothing tells.
    pub undecided: Option<Undecided>,
    /// Whether an operator's word was needed, and was not given: then nothing was written.
    pub refused: bool,
    /// What was written; `None` if nothing was.
    pub written: Option<PathBuf>,
}

/// Makes one segment again, or says what that would do. `parts` are those of it in an archive, in order;
/// `fetch` gives the bytes of one by its place in there.
///
/// `Err` says what is missing; nothing was written then, and nothing either if
/// [`RestoreReport::refused`].
pub fn restore_segment<E: From<LogError>>(
    env: &Env,
    options: &RestoreOptions,
    parts: &[(String, PartContent)],
    fetch: &mut dyn FnMut(usize) -> Result<Vec<u8>, E>,
) -> Result<RestoreReport, E> {
    let vfs = &*env.vfs;
    refuse_existing(env, &[&options.output])?;
    let name = options.segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((first, _)) = parts.first() else {
        return Err(cannot(&name, "is not in the archive")
            .hint("`stemedb wal repair` keeps what can be proved of the file")
            .into());
    };
    let target = Target::look(vfs, &options.segment, &name, parts, first, &fetch(0)?)?;
    let mut report = RestoreReport {
        file: name.clone(),
        number: target.header.number,
        archived: target.archived,
        newer: target.newer.range(),
        undecided: target.newer.undecided.clone(),
        refused: false,
        written: None,
    };
    if options.plan {
        return Ok(report);
    }
    if report.undecided.is_some() && !options.accept_loss {
        report.refused = true;
        return Ok(report);
    }
    let unfinished = with_suffix(&options.output, ".restoring");
    let mut writer = Writer::begin(vfs, &unfinished, &target.header)?;
    for (at, (name, content)) in parts.iter().enumerate() {
        let read = read_part(name, &fetch(at)?, &mut |group, entries| writer.add(group, entries))?;
        if read != *content {
            return Err(cannot(name, "holds something else than the archive says")
                .hint("stemedb archive status")
                .into());
        }
    }
    for (group, entries) in target.newer.groups {
        writer.add(&group, entries)?;
    }
    let end = writer.finish(target.went_on)?;
    check(vfs, &unfinished, end, target.went_on)?;
    name_result(vfs, &unfinished, &options.output)?;
    report.written = Some(options.output.clone());
    Ok(report)
}

/// The segment, as far as all that is known of it tells.
struct Target {
    header: SegmentHeader,
    archived: (Position, Position),
    newer: Newer,
    /// The log went on in a later segment.
    went_on: bool,
}

impl Target {
    fn look(
        vfs: &dyn Vfs,
        path: &Path,
        name: &str,
        parts: &[(String, PartContent)],
        first_name: &str,
        first: &[u8],
    ) -> Result<Self, LogError> {
        let number = segment_number(name).ok_or_else(|| {
            cannot(name, "is not the name of a segment")
                .hint("call it segment.NNN.wal, by its number, in the folder of its log")
        })?;
        let neighbours = Neighbours::of(vfs, path, Some(number))?;
        let (header, _) = begin_part(first_name, first)?;
        let header = SegmentHeader { packed: false, lost: 0, ..header };
        let start = Cursor::start_of(&header);
        let mut at = Link::from(start);
        for (part, content) in parts {
            let own = (content.segment, content.salt, content.start) == (number, header.salt, at);
            if !own || header.number != number {
                let problem = format!("is not what follows position {} of {name}", at.position);
                return Err(cannot(part, &problem).hint("stemedb archive status"));
            }
            at = content.end;
        }
        neighbours.accept(name, &header)?;
        let recorded_at = parts.last().map_or(start.recorded_at, |(_, last)| last.ended_at);
        let archived =
            Cursor { block: 0, group: at.group, last: at.position, recorded_at, chain: at.chain };
        let end = neighbours.end(&header)?;
        let newer = match end {
            Some(end) if Link::from(end) == at => Newer::default(),
            Some(end) if end.last <= at.position => {
                let problem = format!(
                    "the archive has another history: the next segment says that this one ended with \
                     position {}",
                    end.last
                );
                return Err(cannot(name, &problem).hint("see that it is the archive of this log"));
            }
            end => Newer::of(vfs, path, name, &header, &archived, end)?,
        };
        let reached = newer.groups.last().map_or(at, |(group, _)| link_after(group));
        if let Some(end) = end
            && Link::from(end) != reached
        {
            let problem = format!(
                "positions {} to {} are neither in the archive nor can they be proved in the file",
                reached.position.next(),
                end.last
            );
            return Err(cannot(name, &problem).hint(
                "`stemedb wal repair` keeps what can be proved of the file, with --accept-loss",
            ));
        }
        let first = start.last.next();
        let went_on = neighbours.went_on();
        Ok(Self { header, archived: (first, at.position), newer, went_on })
    }
}

fn link_after(group: &Group) -> Link {
    Link { position: group.last, group: group.number, chain: group.chain }
}

/// What the file has behind the archive's end.
#[derive(Default)]
struct Newer {
    groups: Vec<(Group, Vec<Entry>)>,
    undecided: Option<Undecided>,
}

impl Newer {
    fn range(&self) -> Option<(Position, Position)> {
        let ((first, _), (last, _)) = (self.groups.first()?, self.groups.last()?);
        Some((first.first, last.last))
    }

    /// With `end`, the last that counts.
    fn of(
        vfs: &dyn Vfs,
        path: &Path,
        name: &str,
        header: &SegmentHeader,
        archived: &Cursor,
        end: Option<Cursor>,
    ) -> Result<Self, LogError> {
        let mut newer = Self::default();
        let undecided = |byte, problem: &str| {
            let (first, problem) = (archived.last.next(), problem.to_owned());
            Some(Undecided { first, byte, problem })
        };
        if !vfs.exists(path).map_err(|source| io(name, "look at", 0, source))? {
            newer.undecided = undecided(0, "the file is not there").filter(|_| end.is_none());
            return Ok(newer);
        }
        let (file, len) = open_blocks(vfs, path, name, header)?;
        let blocks = u32::try_from(len / BLOCK as u64).unwrap_or(u32::MAX);
        let file = &file as &dyn VfsFile;
        let mut reached = *archived;
        if let Some(from) = found(file, name, blocks, header.salt, archived)? {
            let mut walk =
                Walk::new(Blocks::new(file, name, blocks, READ_AHEAD), header.salt, from);
            // What is behind ends it; whether that is damage is looked at below.
            while let Step::Group(group) = walk.step()? {
                if end.is_some_and(|end| group.last > end.last) {
                    break;
                }
                if group.kind.is_link() {
                    reached = walk.cursor;
                    let entries = walk.take_entries();
                    newer.groups.push((group, entries));
                }
            }
        }
        if end.is_none() {
            let behind = behind(file, name, blocks, header.salt, reached.group)?;
            let tail = examine(file, name, len, header.salt, behind, Torn::Behind(reached.group))?;
            let problem = if tail.watermark > reached.last {
                Some("records up to a later position were durable, and cannot be proved")
            } else if !(tail.unwritten() || tail.torn()) {
                Some("bytes that no group can be made of")
            } else if behind == 1 {
                // So it says nothing of what came later, either.
                Some("nothing of what the archive has is in the file")
            } else {
                None
            };
            if let Some(problem) = problem {
                newer.undecided = undecided(tail.rotten.unwrap_or(tail.from), problem)
                    .map(|undecided| Undecided { first: reached.last.next(), ..undecided });
            }
        }
        Ok(newer)
    }
}

/// The file, or the blocks that a packed one would be. Sectors that cannot be read never verify.
fn open_blocks(
    vfs: &dyn Vfs,
    path: &Path,
    name: &str,
    header: &SegmentHeader,
) -> Result<(Patient, u64), LogError> {
    let file = vfs.open(path, Open::Read).map_err(|source| io(name, "open", 0, source))?;
    let file = Patient::new(file);
    let len = file.len().map_err(|source| io(name, "measure", 0, source))?;
    let packed = match read_header(&file, name)? {
        HeaderState::Ok(found) => found.packed,
        _ => super::unpack::claim(&file, name, len)?.is_some(),
    };
    if !packed {
        return Ok((file, len));
    }
    let (blocks, _) = unpack(file, name, len, header)?;
    let len = blocks.len().map_err(|source| io(name, "measure", 0, source))?;
    Ok((Patient::new(Box::new(blocks)), len))
}

/// The block with which the log goes on behind `archived`.
fn found(
    file: &dyn VfsFile,
    name: &str,
    end: u32,
    salt: u64,
    archived: &Cursor,
) -> Result<Option<Cursor>, LogError> {
    let mut blocks = Blocks::new(file, name, end, READ_AHEAD);
    let mut number = 1;
    while let Some(block) = blocks.get(number)? {
        let header = Look::at(block, salt, number).header.and_then(Result::ok);
        if let Some(header) = header.filter(|header| header.index == 0) {
            let before = Cursor::before(&header);
            if Link::from(before) == Link::from(*archived) {
                return Ok(Some(Cursor { block: number, ..*archived }));
            }
        }
        number = number.saturating_add(1);
    }
    Ok(None)
}

/// The block behind everything that is known to be of a group up to `group`.
fn behind(
    file: &dyn VfsFile,
    name: &str,
    end: u32,
    salt: u64,
    group: u64,
) -> Result<u32, LogError> {
    let mut blocks = Blocks::new(file, name, end, READ_AHEAD);
    let (mut number, mut behind) = (1_u32, 1_u32);
    while let Some(block) = blocks.get(number)? {
        let header = Look::at(block, salt, number).header.and_then(Result::ok);
        if let Some(header) = header.filter(|header| header.group <= group) {
            // All blocks of its group, those that do not verify too.
            let first = number.saturating_sub(header.index);
            behind = behind.max(first.saturating_add(header.count));
        }
        number = number.saturating_add(1);
    }
    Ok(behind.min(end))
}

/// A result in the making.
struct Writer {
    file: Box<dyn VfsFile>,
    name: String,
    header: SegmentHeader,
    end: Cursor,
    lost: u32,
}

impl Writer {
    fn begin(vfs: &dyn Vfs, path: &Path, header: &SegmentHeader) -> Result<Self, LogError> {
        let name = path.display().to_string();
        // Left by a restore that was interrupted.
        match vfs.remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(&name, "remove", 0, source));
            }
            _ => {}
        }
        let file =
            vfs.open(path, Open::CreateNew).map_err(|source| io(&name, "create", 0, source))?;
        let end = Cursor::start_of(header);
        Ok(Self { file, name, header: header.clone(), end, lost: 0 })
    }

    fn add(&mut self, group: &Group, entries: Vec<Entry>) -> Result<(), LogError> {
        let follows = group.chain_before == self.end.chain && group.first == self.end.last.next();
        let (salt, block) = (self.header.salt, self.end.block);
        let blocks = as_blocks(group, entries, salt, block, self.end.last).filter(|_| follows);
        let Some(blocks) = blocks else {
            let problem = format!("group {} does not follow the one before it", group.number);
            return Err(cannot(&self.name, &problem).hint("stemedb archive status"));
        };
        self.put(block, &blocks)?;
        self.lost += u32::from(group.lost.is_some());
        self.end = Cursor {
            block: block.saturating_add((blocks.len() / BLOCK) as u32),
            group: group.number,
            last: group.last,
            recorded_at: group.recorded_at,
            chain: group.chain,
        };
        Ok(())
    }

    fn put(&self, block: u32, bytes: &[u8]) -> Result<(), LogError> {
        let offset = u64::from(block) * BLOCK as u64;
        self.file.write_at(bytes, offset).map_err(|source| io(&self.name, "write", offset, source))
    }

    /// Ends it, with a closing seal, or with zeros in which the log goes on; says where.
    fn finish(self, close: bool) -> Result<Link, LogError> {
        let end = self.end;
        let mut block = vec![0; BLOCK];
        if close {
            let place = GroupPlace {
                salt: self.header.salt,
                block: end.block,
                group: end.group,
                first: end.last.next(),
                watermark: end.last,
                recorded_at: end.recorded_at,
                chain: end.chain,
            };
            encode_seal(GroupKind::Close, &place, &mut block);
            self.put(end.block, &block)?;
        } else {
            self.zeros(end.block)?;
        }
        let header = SegmentHeader { lost: self.lost, ..self.header.clone() };
        let mut block = vec![0; BLOCK];
        header.encode(&mut block);
        encode_mark(header.number, header.salt, &mut block);
        self.put(0, &block)?;
        self.file.sync_all().map_err(|source| io(&self.name, "sync", 0, source))?;
        // What is read back should be what the medium has; where that cannot be had, the cache must do.
        let _ = self.file.evict();
        self.file.close().map_err(|source| io(&self.name, "close", 0, source))?;
        Ok(end.into())
    }

    fn zeros(&self, block: u32) -> Result<(), LogError> {
        let zeros = vec![0; ZEROS];
        let (mut at, to) = (u64::from(block) * BLOCK as u64, self.header.segment_bytes);
        while at < to {
            let count = usize::try_from(to - at).unwrap_or(usize::MAX).min(zeros.len());
            let piece = zeros.get(..count).unwrap_or_default();
            self.file.write_at(piece, at).map_err(|source| io(&self.name, "write", at, source))?;
            at += count as u64;
        }
        Ok(())
    }
}

/// Reads a result back: it must end where it was to end.
fn check(vfs: &dyn Vfs, path: &Path, end: Link, close: bool) -> Result<(), LogError> {
    let found = survey_file(vfs, path)?;
    let whole = found.groups.as_ref().is_some_and(|groups| {
        groups.bad.is_none() && groups.closed == close && Link::from(groups.end) == end
    });
    let empty = close || found.tail.as_ref().is_some_and(|tail| tail.unwritten());
    if whole && empty {
        return Ok(());
    }
    let name = path.display().to_string();
    Err(cannot(&name, "was read back and is not what was written")
        .hint("check the disk; write to another one"))
}
