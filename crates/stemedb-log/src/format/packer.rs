//! Packs groups in order: frames back to back behind a header, then footer and trailer. Whoever uses
//! it decides where the bytes go.

use stemedb_model::{Hash, Millis, Position};

use super::block::SECTOR;
use super::header::SegmentHeader;
use super::pack::{FRAME_BYTES, FRAMES_AT, Footer, FrameBuilder, FramePlace, GroupToPack};
use crate::entry::Entry;
use crate::error::LogError;

/// A group is longer than a frame can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl TooLong {
    pub(crate) fn in_file(self, name: &str) -> LogError {
        LogError::Refused(format!("{name}: a group that is too long to be packed"))
    }
}

/// The last group: what the footer says that cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedEnd {
    pub(crate) last: Position,
    pub(crate) group: u64,
    pub(crate) recorded_at: Millis,
    pub(crate) chain: Hash,
}

/// A packed file in the making.
#[derive(Debug)]
pub(crate) struct Packer {
    salt: u64,
    /// Bytes that were taken out already.
    at: u64,
    buf: Vec<u8>,
    builder: FrameBuilder,
    frames: Vec<FramePlace>,
    records: u64,
    groups: u64,
    bytes: u64,
}

impl Packer {
    /// Begins with `header`, which must say that it is packed.
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        debug_assert!(header.packed);
        let mut buf = vec![0; SECTOR];
        header.encode(&mut buf);
        debug_assert_eq!(buf.len() as u64, FRAMES_AT);
        Self {
            salt: header.salt,
            at: 0,
            buf,
            builder: FrameBuilder::default(),
            frames: Vec::new(),
            records: 0,
            groups: 0,
            bytes: 0,
        }
    }

    /// Adds the next group; `entries` are all of its entries, none for a lost one.
    pub(crate) fn add(
        &mut self,
        group: &GroupToPack<'_>,
        entries: &[Entry],
    ) -> Result<(), TooLong> {
        let bytes: usize = entries.iter().map(|entry| entry.new.encoded_len()).sum();
        if !self.builder.is_empty() && self.builder.len() + bytes > FRAME_BYTES {
            self.frame()?;
        }
        self.builder.add(group, entries);
        self.groups += 1;
        self.records += entries.len() as u64;
        self.bytes += group.lost.map_or(bytes as u64, |lost| {
            let mut payload = Vec::new();
            lost.encode_payload(&mut payload);
            payload.len() as u64
        });
        if self.builder.len() >= FRAME_BYTES { self.frame() } else { Ok(()) }
    }

    /// Bytes that can be taken.
    pub(crate) fn ready(&self) -> usize {
        self.buf.len()
    }

    /// The bytes that are ready, and where in the file they begin.
    pub(crate) fn take(&mut self) -> (u64, Vec<u8>) {
        let at = self.at;
        let bytes = std::mem::take(&mut self.buf);
        self.at += bytes.len() as u64;
        (at, bytes)
    }

    fn frame(&mut self) -> Result<(), TooLong> {
        let offset = self.at + self.buf.len() as u64;
        let number = self.frames.len() as u32;
        let finished = self.builder.finish(self.salt, number, offset, &mut self.buf);
        let header = finished.ok_or(TooLong)?;
        self.frames.push(FramePlace { offset, first: header.first });
        Ok(())
    }

    /// Ends the file; what is ready then is its last bytes.
    pub(crate) fn finish(&mut self, end: &PackedEnd) -> Result<(), TooLong> {
        if !self.builder.is_empty() {
            self.frame()?;
        }
        let footer = Footer {
            offset: self.at + self.buf.len() as u64,
            last: end.last,
            group: end.group,
            recorded_at: end.recorded_at,
            chain: end.chain,
            records: self.records,
            groups: self.groups,
            bytes: self.bytes,
            frames: std::mem::take(&mut self.frames),
        };
        footer.encode(self.salt, &mut self.buf);
        Ok(())
    }
}
