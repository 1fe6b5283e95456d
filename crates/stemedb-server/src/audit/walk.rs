//! Reading a file of the audit: line by line, proving the chain.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::Hash;

use super::chain::{CHAIN_BYTES, ORIGIN, START, link, open};
use crate::wire::{AuditEntry, AuditFence, AuditHeader};

/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;
/// Hashes that a line behind a bad one may be linked to.
const CANDIDATES_MAX: usize = 4;
/// A longer line is none of ours: a question is at most 64 MiB long.
const LINE_BYTES_MAX: usize = 80 << 20;

pub(super) fn name(number: u64) -> String {
    format!("audit.{number:06}.ndjson")
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(name(number))
}

/// The number of a file, if it is one of the audit.
pub(super) fn number(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix("audit.")?.strip_suffix(".ndjson")?;
    let number = digits.parse().ok()?;
    (self::name(number) == name.to_str()?).then_some(number)
}

/// The numbers of the files in a folder, ascending.
pub(super) fn numbers(vfs: &dyn Vfs, dir: &Path) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> = vfs
        .read_dir(dir)?
        .iter()
        .filter(|one| !one.is_dir)
        .filter_map(|one| number(&one.name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Lines of a file up to a length, each with its place.
pub(super) struct Lines<'a> {
    file: &'a dyn VfsFile,
    end: u64,
    /// The next byte to be read.
    next: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    begin: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(file: &'a dyn VfsFile, from: u64, end: u64) -> Self {
        Self { file, end, next: from, buffer: Vec::new(), begin: 0 }
    }

    /// The place of the next line, and the line without its end; `None` at the end. What follows
    /// the last line's end counts as a line of its own, without an end.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, &[u8], bool)>> {
        let mut looked = self.begin;
        loop {
            let rest = self.buffer.get(looked..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let (begin, end) = (self.begin, looked + at);
                self.begin = end + 1;
                let place = self.next - (self.buffer.len() - begin) as u64;
                return Ok(self.buffer.get(begin..end).map(|line| (place, line, true)));
            }
            looked = self.buffer.len();
            if self.next >= self.end || looked - self.begin > LINE_BYTES_MAX {
                let begin = self.begin;
                self.begin = looked;
                let place = self.next - (looked - begin) as u64;
                let line = self.buffer.get(begin..).unwrap_or_default();
                return Ok((!line.is_empty()).then_some((place, line, false)));
            }
            self.buffer.drain(..self.begin);
            looked -= self.begin;
            self.begin = 0;
            let want = usize::try_from(self.end - self.next).unwrap_or(BLOCK).min(BLOCK);
            self.buffer.resize(looked + want, 0);
            let got =
                self.file.read_at(self.buffer.get_mut(looked..).unwrap_or_default(), self.next)?;
            self.buffer.truncate(looked + got);
            self.next += got as u64;
            if got == 0 {
                self.end = self.next;
            }
        }
    }
}

/// A line that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    /// Its first byte.
    pub(super) byte: u64,
    /// Its number in the file, from 1.
    pub(super) line: u64,
    /// The entry that stood there.
    pub(super) id: u64,
}

/// What became of reading a file.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// The first line, unless it is damaged.
    pub(super) header: Option<AuditHeader>,
    /// The first entry.
    pub(super) first: u64,
    /// The newest entry that counts; one less than the first if there is none.
    pub(super) last: u64,
    /// Where the newest line that counts ends.
    pub(super) end: u64,
    /// The chain there.
    pub(super) chain: Hash,
    /// The length of the file.
    pub(super) length: u64,
    /// Lines that were durable and are not as they were written.
    pub(super) damaged: Vec<Bad>,
}

impl Walk {
    /// Bytes behind the end that do not count.
    pub(super) fn cut(&self) -> u64 {
        self.length - self.end
    }
}

/// Opens a file and gives its length.
pub(super) fn open_file(vfs: &dyn Vfs, path: &Path) -> io::Result<(Box<dyn VfsFile>, u64)> {
    let file = vfs.open(path, Open::Read)?;
    let length = file.len()?;
    Ok((file, length))
}

/// The first line of a file, proved against the fence it names. `None`: it has none that is whole.
pub(super) fn header(
    file: &dyn VfsFile,
    length: u64,
) -> io::Result<Option<(AuditHeader, Hash, u64)>> {
    let mut lines = Lines::new(file, 0, length.min(64 << 10));
    let Some((_, line, true)) = lines.next()? else { return Ok(None) };
    let end = line.len() as u64 + 1;
    let proved = open(line).and_then(|(stated, rest)| {
        let header: AuditHeader = serde_json::from_slice(line).ok()?;
        let before = header.previous.as_ref().map_or(ORIGIN, |fence| fence.chain.0);
        (link(&before, rest) == stated).then_some((header, stated, end))
    });
    Ok(proved)
}

/// What the first line of a file says that it is linked to, whatever hash it states.
fn linked_to(rest: &[u8]) -> Option<Hash> {
    #[derive(serde::Deserialize)]
    struct Linked {
        previous: Option<AuditFence>,
    }
    let linked: Linked = serde_json::from_slice(&[b"{", rest].concat()).ok()?;
    Some(linked.previous.map_or(ORIGIN, |fence| fence.chain.0))
}

/// A line; two, where the end of the first was changed.
fn apart(byte: u64, line: &[u8], ended: bool) -> impl Iterator<Item = (u64, &[u8], bool)> {
    // Inside of a text the quotes are escaped.
    let at = line.windows(START.len()).skip(1).position(|found| found == START);
    let two = at.and_then(|at| line.split_at_checked(at + 1));
    let (first, second) = match two {
        None => ((byte, line, ended), None),
        Some((one, other)) => ((byte, one, false), Some((byte + one.len() as u64, other, ended))),
    };
    std::iter::once(first).chain(second)
}

/// Reads a file; `None` if nothing in it counts. With `fence`, bytes behind it are void, and all
/// before it were durable.
pub(super) fn walk(
    file: &dyn VfsFile,
    length: u64,
    fence: Option<u64>,
) -> io::Result<Option<Walk>> {
    // Bad lines of which nothing has yet told whether they were durable.
    let mut doubtful: Vec<Bad> = Vec::new();
    // What the next line may be linked to.
    let mut before = Vec::new();
    let proved = header(file, length)?;
    let mut known = proved.is_some();
    let mut walk = match proved {
        Some((header, chain, end)) => {
            before.push(chain);
            let first = header.first;
            let (last, damaged) = (first.saturating_sub(1), Vec::new());
            Walk { header: Some(header), first, last, end, chain, length, damaged }
        }
        None => {
            let (end, damaged) = (0, Vec::new());
            Walk { header: None, first: 0, last: 0, end, chain: ORIGIN, length, damaged }
        }
    };
    let mut lines = Lines::new(file, walk.end, fence.map_or(length, |fence| fence.min(length)));
    let (mut count, mut id) = (u64::from(known), walk.last);
    while let Some((byte, line, ended)) = lines.next()? {
        for (byte, line, ended) in apart(byte, line, ended) {
            (count, id) = (count + 1, id + 1);
            let opened = open(line).filter(|_| ended);
            let good = opened
                .filter(|(stated, rest)| before.iter().any(|one| link(one, rest) == *stated))
                .and_then(|(stated, _)| Some((stated, serde_json::from_slice(line).ok()?)));
            let Some((stated, entry)): Option<(Hash, AuditEntry)> = good else {
                doubtful.push(Bad { byte, line: count, id });
                // Either the hash was changed, or what it is of.
                let rest = line.get(CHAIN_BYTES..).unwrap_or_default();
                if byte == 0 {
                    before.extend(linked_to(rest));
                }
                let made: Vec<Hash> = before.iter().map(|one| link(one, rest)).collect();
                let stated = open(line).map(|(stated, _)| stated);
                before = stated.into_iter().chain(made).collect();
                before.truncate(CANDIDATES_MAX);
                continue;
            };
            if !known {
                // The first line is damaged: counted back from here. It was durable if the first entry
                // was.
                let mut back = doubtful.len() as u64;
                for (index, bad) in doubtful.iter_mut().enumerate() {
                    back -= u64::from(index != 1);
                    bad.id = entry.id.saturating_sub(back);
                }
                walk.first = doubtful.first().map_or(entry.id, |bad| bad.id);
                (id, known) = (entry.id, true);
            }
            // What an entry says was durable is so; the rest stays in doubt.
            let synced = entry.synced;
            walk.damaged.extend(doubtful.extract_if(.., |bad| bad.id <= synced));
            if entry.id != id {
                // Its number shows that others are gone.
                walk.damaged.push(Bad { byte, line: count, id });
                id = entry.id;
            }
            before = vec![stated];
            if doubtful.is_empty() {
                walk.last = id;
                walk.end = byte + line.len() as u64 + 1;
                walk.chain = stated;
            }
        }
    }
    if let Some(fence) = fence {
        // All of it was durable.
        walk.damaged.append(&mut doubtful);
        if fence > length {
            walk.damaged.push(Bad { byte: length, line: count + 1, id: id + 1 });
        }
        walk.end = fence.min(length);
        walk.last = walk.last.max(id);
        walk.chain = before.first().copied().unwrap_or(walk.chain);
    } else if walk.end == 0 {
        return Ok(None);
    }
    Ok(Some(walk))
}
