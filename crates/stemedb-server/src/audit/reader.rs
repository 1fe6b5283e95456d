//! Entries out again, newest first or by number. Only what is durable is shown.

use std::io;
use std::path::Path;

use stemedb_io::{Vfs, VfsFile};
use stemedb_model::{Hash, Millis};

use super::chain::open;
use super::entry::is_about;
use super::shared::Kept;
use super::walk::{Lines, numbers, open_file, path};
use crate::wire::{AuditEntry, AuditKind};

/// Bytes that one page looks at: it takes a fraction of a second.
const LOOK_BYTES: u64 = 16 << 20;
/// Bytes that are read at once.
const BLOCK: u64 = 64 << 10;

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) principal: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) from: Option<Millis>,
    pub(crate) to: Option<Millis>,
}

impl Filter {
    fn fits(&self, entry: &AuditEntry) -> bool {
        let same =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        same(&self.principal, &entry.principal)
            && same(&self.endpoint, &entry.endpoint)
            && self.from.is_none_or(|from| from <= entry.at.0)
            && self.to.is_none_or(|to| entry.at.0 < to)
            && self
                .subject
                .as_ref()
                .is_none_or(|subject| entry.kind == AuditKind::Read && is_about(entry, subject))
    }
}

/// Entries, newest first, and where to go on: before this number.
pub(super) fn list(
    vfs: &dyn Vfs,
    dir: &Path,
    files: &[Kept],
    filter: &Filter,
    before: u64,
    limit: usize,
) -> io::Result<(Vec<AuditEntry>, Option<u64>)> {
    let mut found = Vec::new();
    let mut looked = 0;
    for kept in files.iter().rev().filter(|kept| kept.first < before) {
        let Some(file) = open_kept(vfs, dir, kept)? else { continue };
        let mut lines = Backwards { file: &*file, begin: kept.bytes, buffer: Vec::new() };
        while let Some(line) = lines.next()? {
            looked += line.len() as u64;
            let Some(id) = number(&line).filter(|id| *id < before) else { continue };
            if let Ok(entry) = serde_json::from_slice::<AuditEntry>(&line)
                && filter.fits(&entry)
            {
                found.push(entry);
            }
            let more = id > 1;
            if found.len() == limit || looked >= LOOK_BYTES {
                return Ok((found, more.then_some(id)));
            }
        }
    }
    Ok((found, None))
}

/// The entry with this number.
pub(super) fn find(
    vfs: &dyn Vfs,
    dir: &Path,
    files: &[Kept],
    id: u64,
) -> io::Result<Option<AuditEntry>> {
    let Some(kept) = files.iter().rev().find(|kept| kept.first <= id) else { return Ok(None) };
    let Some(file) = open_kept(vfs, dir, kept)? else { return Ok(None) };
    let mut lines = Lines::new(&*file, 0, kept.bytes);
    while let Some((_, line, _)) = lines.next()? {
        if number(line) == Some(id) {
            return Ok(serde_json::from_slice(line).ok());
        }
    }
    Ok(None)
}

/// The chain at an entry, wherever it stands.
pub(super) fn chain_at(vfs: &dyn Vfs, dir: &Path, id: u64) -> io::Result<Option<Hash>> {
    for file in numbers(vfs, dir)?.into_iter().rev() {
        let (file, length) = open_file(vfs, &path(dir, file))?;
        let mut lines = Lines::new(&*file, 0, length);
        while let Some((_, line, _)) = lines.next()? {
            if number(line) == Some(id) {
                return Ok(open(line).map(|(stated, _)| stated));
            }
        }
    }
    Ok(None)
}

/// `None` if retention was faster.
fn open_kept(vfs: &dyn Vfs, dir: &Path, kept: &Kept) -> io::Result<Option<Box<dyn VfsFile>>> {
    match open_file(vfs, &path(dir, kept.number)) {
        Ok((file, _)) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of the entry in a line, without reading the rest.
fn number(line: &[u8]) -> Option<u64> {
    let (_, rest) = open(line)?;
    let digits = rest.strip_prefix(b"\"id\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// Lines of a file from the last to the first.
struct Backwards<'a> {
    file: &'a dyn VfsFile,
    /// Where in the file the buffer begins.
    begin: u64,
    /// What is read and not given.
    buffer: Vec<u8>,
}

impl Backwards<'_> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        // Of a line, its end was read with the line behind it.
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        }
        let mut looked = self.buffer.len();
        loop {
            let head = self.buffer.get(..looked).unwrap_or_default();
            if let Some(at) = head.iter().rposition(|byte| *byte == b'\n') {
                let line = self.buffer.split_off(at + 1);
                return Ok(Some(line));
            }
            if self.begin == 0 {
                let line = std::mem::take(&mut self.buffer);
                return Ok((!line.is_empty()).then_some(line));
            }
            let want = self.begin.min(BLOCK);
            self.begin -= want;
            let mut block = vec![0; usize::try_from(want).unwrap_or_default()];
            self.file.read_exact_at(&mut block, self.begin)?;
            looked = block.len();
            let first = self.buffer.is_empty();
            block.append(&mut self.buffer);
            self.buffer = block;
            // The very end of the file ends a line.
            if first && self.buffer.last() == Some(&b'\n') {
                self.buffer.pop();
                looked -= 1;
            }
        }
    }
}
