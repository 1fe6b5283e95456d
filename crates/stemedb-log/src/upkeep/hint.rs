//! When segments were last proved, for the next start: the file `scrubbed`. It is a hint: without
//! it, or for a segment that has another salt, the age is counted from the last record.
//!
//! | offset | bytes | field   | meaning                                    |
//! |-------:|------:|---------|--------------------------------------------|
//! |      0 |     8 | magic   | `STEMESCR`                                 |
//! |      8 |  24 n | lines   | number, salt, when it was proved (ms)      |
//! |        |     4 | CRC     | CRC-32C of the bytes before                |

use std::io;
use std::path::Path;

use stemedb_io::{Open, Vfs};
use stemedb_model::Millis;

const NAME: &str = "scrubbed";
const TEMPORARY: &str = "scrubbed.tmp";
const MAGIC: [u8; 8] = *b"STEMESCR";
const LINE: usize = 24;
/// More than any log has segments; bounds what is read.
const BYTES_MAX: u64 = 64 << 20;

/// When one segment was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) at: Millis,
}

/// Empty if there is no such file or it cannot be believed.
pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Vec<Line> {
    read(vfs, dir).unwrap_or_default()
}

fn read(vfs: &dyn Vfs, dir: &Path) -> Option<Vec<Line>> {
    let file = vfs.open(&dir.join(NAME), Open::Read).ok()?;
    let len = file.len().ok().filter(|len| *len <= BYTES_MAX)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    let lines = covered.strip_prefix(&MAGIC)?;
    if *crc != crc32c::crc32c(covered).to_le_bytes() {
        return None;
    }
    let (lines, rest) = lines.as_chunks::<LINE>();
    let line = |line: &[u8; LINE]| {
        let (number, rest) = line.split_first_chunk::<8>()?;
        let (salt, at) = rest.split_first_chunk::<8>()?;
        Some(Line {
            number: u64::from_le_bytes(*number),
            salt: u64::from_le_bytes(*salt),
            at: Millis(i64::from_le_bytes(*at.first_chunk()?)),
        })
    };
    rest.is_empty().then(|| lines.iter().filter_map(line).collect())
}

/// Replaces the file, whole or not at all.
pub(crate) fn store(vfs: &dyn Vfs, dir: &Path, lines: &[Line]) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for line in lines {
        bytes.extend_from_slice(&line.number.to_le_bytes());
        bytes.extend_from_slice(&line.salt.to_le_bytes());
        bytes.extend_from_slice(&line.at.0.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let path = dir.join(TEMPORARY);
    match vfs.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = vfs.open(&path, Open::CreateNew)?;
    file.write_at(&bytes, 0)?;
    file.sync_all()?;
    file.close()?;
    // The folder is not synced: which of the two files a crash leaves does not matter.
    vfs.rename(&path, &dir.join(NAME))
}

/// Whether `name` is the file or its unfinished successor.
pub(crate) fn owns(name: &str) -> bool {
    name == NAME || name == TEMPORARY
}
