//! One simulated file: what the medium holds, and what the cache says instead.

use std::collections::BTreeMap;
use std::io;

use super::rng::SplitMix;

pub(super) const PAGE: usize = 4096;
/// What a disk writes in one piece.
pub(super) const SECTOR: usize = 512;

/// What a file system does with the pages of a sync that failed. Every variant was seen on a
/// real one; the later ones of the fault matrix join here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Personality {
    /// The cache keeps showing the new bytes and forgets that they are not on the medium: the
    /// next sync says ok and writes nothing (ext4, XFS, Btrfs).
    #[default]
    KeepsNew,
    /// The cache drops the new bytes: reads show the old ones, and the next sync says ok.
    Reverts,
    /// The pages stay dirty, and the next sync tries again.
    Redirties,
}

#[derive(Debug, Clone)]
struct Page {
    bytes: Box<[u8]>,
    dirty: bool,
}

/// What unsynced sectors do when the power goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Vanish,
    Survive,
    ByPage,
    BySector,
}

impl Fate {
    pub(super) fn draw(rng: &mut SplitMix) -> Self {
        match rng.below(4) {
            0 => Self::Vanish,
            1 => Self::Survive,
            2 => Self::ByPage,
            _ => Self::BySector,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// The medium. Its length is the durable length.
    disk: Vec<u8>,
    /// How much of `disk` the live file still shows; a shrunk file must not show it again when it
    /// grows.
    disk_shown: usize,
    /// The cache, by page number.
    pages: BTreeMap<usize, Page>,
    /// The live length.
    len: usize,
}

impl Inode {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { disk_shown: bytes.len(), len: bytes.len(), disk: bytes, pages: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn disk(&self) -> &[u8] {
        &self.disk
    }

    /// Flips bits of a byte on the medium.
    pub(super) fn rot(&mut self, at: usize, bits: u8) -> io::Result<()> {
        let byte = self.disk.get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        *byte ^= bits;
        Ok(())
    }

    fn page(&mut self, number: usize) -> &mut Page {
        let shown = self.disk.get(..self.disk_shown).unwrap_or(&self.disk);
        self.pages.entry(number).or_insert_with(|| {
            let start = (number * PAGE).min(shown.len());
            let end = (start + PAGE).min(shown.len());
            let mut bytes = vec![0; PAGE].into_boxed_slice();
            for (to, from) in bytes.iter_mut().zip(shown.get(start..end).unwrap_or_default()) {
                *to = *from;
            }
            Page { bytes, dirty: false }
        })
    }

    pub(super) fn read(&mut self, buf: &mut [u8], offset: usize) -> usize {
        let count = buf.len().min(self.len.saturating_sub(offset));
        let (mut rest, mut at) = (buf.split_at_mut(count).0, offset);
        while !rest.is_empty() {
            let within = at % PAGE;
            let n = rest.len().min(PAGE - within);
            let (now, later) = rest.split_at_mut(n);
            if let Some(from) = self.page(at / PAGE).bytes.get(within..within + n) {
                now.copy_from_slice(from);
            }
            rest = later;
            at += n;
        }
        count
    }

    /// Whether a read of these bytes would be answered by the cache.
    pub(super) fn cached(&self, count: usize, offset: usize) -> bool {
        let end = offset.saturating_add(count).min(self.len);
        offset >= end
            || (offset / PAGE..=(end - 1) / PAGE).all(|number| self.pages.contains_key(&number))
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: usize) {
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let within = at % PAGE;
            let (now, later) = rest.split_at(rest.len().min(PAGE - within));
            let page = self.page(at / PAGE);
            if let Some(to) = page.bytes.get_mut(within..within + now.len()) {
                to.copy_from_slice(now);
            }
            page.dirty = true;
            rest = later;
            at += now.len();
        }
        self.len = self.len.max(offset + buf.len());
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.len {
            self.disk_shown = self.disk_shown.min(len);
            self.pages.retain(|number, _| number * PAGE < len);
            if !len.is_multiple_of(PAGE) {
                let page = self.page(len / PAGE);
                page.dirty = true;
                if let Some(tail) = page.bytes.get_mut(len % PAGE..) {
                    tail.fill(0);
                }
            }
        }
        self.len = len;
    }

    fn settle_len(&mut self) {
        self.disk.truncate(self.disk_shown);
        self.disk.resize(self.len, 0);
        self.disk_shown = self.len;
    }

    pub(super) fn sync(&mut self) {
        self.settle_len();
        for (number, page) in &mut self.pages {
            if std::mem::take(&mut page.dirty) {
                put(&mut self.disk, number * PAGE, &page.bytes);
            }
        }
    }

    /// A sync that fails: some sectors may have reached the medium.
    pub(super) fn sync_failing(&mut self, personality: Personality, rng: &mut SplitMix) {
        self.persist_some(rng);
        match personality {
            Personality::KeepsNew => self.pages.values_mut().for_each(|page| page.dirty = false),
            Personality::Reverts => self.pages.retain(|_, page| !page.dirty),
            Personality::Redirties => {}
        }
    }

    pub(super) fn evict(&mut self) {
        self.pages.retain(|_, page| page.dirty);
    }

    /// Power goes: the cache is gone, and chance decides about what was not synced.
    pub(super) fn crash(&mut self, rng: &mut SplitMix) {
        if self.len != self.disk.len() && rng.below(2) == 0 {
            self.settle_len();
        }
        self.persist_some(rng);
        *self = Self::durable(std::mem::take(&mut self.disk));
    }

    fn persist_some(&mut self, rng: &mut SplitMix) {
        let fate = Fate::draw(rng);
        for (number, page) in self.pages.iter().filter(|(_, page)| page.dirty) {
            let whole_page = rng.below(2) == 0;
            for (index, sector) in page.bytes.chunks(SECTOR).enumerate() {
                let survives = match fate {
                    Fate::Vanish => false,
                    Fate::Survive => true,
                    Fate::ByPage => whole_page,
                    Fate::BySector => rng.below(2) == 0,
                };
                if survives {
                    put(&mut self.disk, number * PAGE + index * SECTOR, sector);
                }
            }
        }
    }
}

/// Copies `bytes` to `at`, as far as `disk` reaches.
fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in disk.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
