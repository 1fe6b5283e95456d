//! The device itself, as far as a file system lets one: overwriting a file of zeros.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Result;
use rustix::fs::OFlags;

use super::Contender;
use crate::workload::{BLOCK, Record, device_bytes};

/// pwrite and fdatasync.
pub(crate) const BARE: &str = "bare device";
/// One write to a file opened with O_DIRECT and O_DSYNC.
pub(crate) const DIRECT: &str = "bare device, O_DIRECT";

const FILE_BYTES: u64 = 256 << 20;
/// Longest write.
const WRITE_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Bare {
    file: File,
    direct: bool,
    at: u64,
    buffer: Vec<u8>,
    /// Where in the buffer an aligned piece begins, as O_DIRECT asks for.
    aligned: usize,
}

impl Bare {
    pub(crate) fn new(dir: &Path, direct: bool) -> Result<Self> {
        let path = dir.join("zeros");
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        for at in (0..FILE_BYTES).step_by(1 << 20) {
            file.write_all_at(&vec![0; 1 << 20], at)?;
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        let file = if direct {
            let flags = OFlags::DIRECT | OFlags::DSYNC;
            OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(&path)?
        } else {
            file
        };
        let buffer = vec![7; WRITE_BYTES_MAX + BLOCK];
        let aligned = buffer.as_ptr().align_offset(BLOCK);
        Ok(Self { file, direct, at: 0, buffer, aligned })
    }

    pub(crate) fn write(&mut self, bytes: usize) -> Result<()> {
        if self.at + bytes as u64 > FILE_BYTES {
            self.at = 0;
        }
        let piece = &mut self.buffer[self.aligned..self.aligned + bytes];
        // Not the same bytes every time: a device may notice.
        piece[..8].copy_from_slice(&self.at.to_ne_bytes());
        self.file.write_all_at(piece, self.at)?;
        if !self.direct {
            rustix::fs::fdatasync(&self.file)?;
        }
        self.at += bytes as u64;
        Ok(())
    }
}

impl Contender for Bare {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        self.write(device_bytes(group))
    }
}
