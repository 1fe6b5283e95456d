//! What was proved once: the file `verified` names the newest segment up to which every byte was
//! read and proved at an earlier start, so that a start reads the rest only. It is a hint: without
//! it, or when it does not fit the segments, everything is read.
//!
//! | offset | bytes | field   | meaning                                       |
//! |-------:|------:|---------|-----------------------------------------------|
//! |      0 |     8 | magic   | `STEMEVER`                                    |
//! |      8 |     8 | number  | of the segment                                |
//! |     16 |     8 | salt    | its salt                                      |
//! |     24 |    32 | chain   | the chain hash at its end                     |
//! |     56 |     4 | CRC     | CRC-32C of the bytes before                   |

use std::io;
use std::path::Path;

use stemedb_io::{Open, Vfs};
use stemedb_model::Hash;

pub(crate) const NAME: &str = "verified";
const TEMPORARY: &str = "verified.tmp";
const MAGIC: [u8; 8] = *b"STEMEVER";
const BYTES: usize = 60;

/// The end of a segment that was proved, with all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) chain: Hash,
}

impl Verified {
    /// `None` if there is no such file or it cannot be believed.
    pub(crate) fn load(vfs: &dyn Vfs, dir: &Path) -> Option<Self> {
        let mut bytes = [0; BYTES];
        let file = vfs.open(&dir.join(NAME), Open::Read).ok()?;
        file.read_exact_at(&mut bytes, 0).ok()?;
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (salt, rest) = rest.split_first_chunk::<8>()?;
        let (chain, crc) = rest.split_first_chunk::<32>()?;
        let covered = bytes.first_chunk::<{ BYTES - 4 }>()?;
        (*magic == MAGIC && crc == crc32c::crc32c(covered).to_le_bytes()).then_some(Self {
            number: u64::from_le_bytes(*number),
            salt: u64::from_le_bytes(*salt),
            chain: Hash(*chain),
        })
    }

    /// Replaces the file, whole or not at all.
    pub(crate) fn store(&self, vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.chain.0);
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
        vfs.rename(&path, &dir.join(NAME))?;
        vfs.sync_dir(dir)
    }

    /// Whether `name` is the file or its unfinished successor.
    pub(crate) fn owns(name: &str) -> bool {
        name == NAME || name == TEMPORARY
    }
}
