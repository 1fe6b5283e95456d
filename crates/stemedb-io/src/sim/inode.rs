//! One simulated file: what the medium holds, and what the cache says instead.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::rng::SplitMix;

pub(super) const PAGE: usize = 4096;
/// What a disk writes in one piece.
pub(super) const SECTOR: usize = 512;

/// What a file system does with the pages of a sync that failed, and afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Personality {
    /// The cache keeps showing the new bytes and forgets that they are not on the medium: the
    /// next sync says ok and writes nothing. As ext4, XFS and Btrfs do.
    #[default]
    KeepsNew,
    /// The cache drops the new bytes: reads show the old ones, and the next sync says ok. As NFS
    /// does after some errors of the server, and overlays that invalidate what they could not copy.
    Reverts,
    /// The pages stay dirty, and the next sync tries again. As ext4 with `data=journal` before the
    /// journal aborts, ZFS while it waits for its pool, and most systems that are not Linux.
    Redirties,
    /// Pages are written back before anybody syncs, and the error is kept until somebody does: the
    /// next sync of each descriptor of the file says it once, or its close; the pages are clean, as
    /// in [`Personality::KeepsNew`]. As Linux does since 4.13 (`errseq`) on every file system, and
    /// NFS and FUSE at close.
    ReportsLate,
    /// As [`Personality::KeepsNew`], and from the first error of a write or sync on everything that
    /// changes the file system fails with EROFS, until [`SimVfs::remount`](super::SimVfs::remount).
    /// As ext4 does with `errors=remount-ro` or an aborted journal, and XFS after a shutdown.
    StickyReadOnly,
}

impl Personality {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::KeepsNew, Self::Reverts, Self::Redirties, Self::ReportsLate, Self::StickyReadOnly];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepsNew => "keeps new",
            Self::Reverts => "reverts",
            Self::Redirties => "re-dirties",
            Self::ReportsLate => "reports late",
            Self::StickyReadOnly => "sticky read-only",
        }
    }
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
    /// Sectors of the medium that are not what a sync has confirmed, with what they should be.
    harmed: BTreeMap<usize, Vec<u8>>,
    /// Sectors that cannot be read; each is harmed, too.
    unreadable: BTreeSet<usize>,
    /// Sectors of which a write that failed took a part.
    ragged: BTreeSet<usize>,
    /// Errors of write-back so far, for [`Personality::ReportsLate`].
    pub(super) errors: u64,
    /// The newest of them was reported to somebody.
    pub(super) told: bool,
}

impl Inode {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { disk_shown: bytes.len(), len: bytes.len(), disk: bytes, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn disk(&self) -> &[u8] {
        &self.disk
    }

    /// Flips bits of a byte on the medium.
    pub(super) fn rot(&mut self, at: usize, bits: u8) -> io::Result<()> {
        let sector = at / SECTOR;
        let mut bytes = self.sector(sector).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
        *bytes.get_mut(at % SECTOR).ok_or(io::ErrorKind::UnexpectedEof)? ^= bits;
        self.harm(sector, &bytes);
        Ok(())
    }

    /// Sectors of the medium that are not what a sync has confirmed.
    pub(super) fn harmed(&self) -> Vec<usize> {
        self.harmed.keys().copied().collect()
    }

    /// Whether a write that failed left a part of a sector.
    pub(super) fn ragged(&self) -> bool {
        !self.ragged.is_empty()
    }

    /// Takes back all harm.
    pub(super) fn restore(&mut self) {
        self.unreadable.clear();
        for (sector, bytes) in std::mem::take(&mut self.harmed) {
            put(&mut self.disk, sector * SECTOR, &bytes);
            if let Some(page) = self.pages.get(&(sector * SECTOR / PAGE))
                && !page.dirty
            {
                self.pages.remove(&(sector * SECTOR / PAGE));
            }
        }
    }

    fn sector(&self, sector: usize) -> Option<&[u8]> {
        let start = sector.checked_mul(SECTOR)?;
        self.disk.get(start..start.saturating_add(SECTOR).min(self.disk.len()))
    }

    /// Writes a sector of a page to the medium; what was harmed there is whole again, unless these
    /// are the harmed bytes themselves.
    fn store(&mut self, sector: usize, bytes: &[u8]) {
        let same = self.sector(sector).is_some_and(|now| bytes.starts_with(now));
        let right = self.harmed.get(&sector).is_some_and(|right| bytes.starts_with(right));
        if right || !same || self.unreadable.contains(&sector) {
            self.harmed.remove(&sector);
            self.unreadable.remove(&sector);
        }
        put(&mut self.disk, sector * SECTOR, bytes);
    }

    /// What a sync confirms and the medium does not get.
    fn withhold(&mut self, sector: usize, bytes: &[u8]) {
        let Some(now) = self.sector(sector) else { return };
        let bytes = bytes.get(..now.len()).unwrap_or(bytes);
        if now == bytes && !self.unreadable.contains(&sector) {
            self.harmed.remove(&sector);
        } else {
            self.harmed.insert(sector, bytes.to_vec());
        }
    }

    /// The medium changes a sector by itself. `false` if that changes nothing.
    pub(super) fn harm(&mut self, sector: usize, bytes: &[u8]) -> bool {
        let Some(now) = self.sector(sector).map(<[u8]>::to_vec) else { return false };
        let bytes = bytes.get(..now.len()).unwrap_or(bytes);
        if now.starts_with(bytes) {
            return false;
        }
        self.harmed.entry(sector).or_insert(now);
        put(&mut self.disk, sector * SECTOR, bytes);
        if self.harmed.get(&sector).is_some_and(|right| right == bytes) {
            self.harmed.remove(&sector);
        }
        true
    }

    /// From now on the medium does not give this sector. `false` if there is none.
    pub(super) fn spoil(&mut self, sector: usize) -> bool {
        let Some(now) = self.sector(sector).map(<[u8]>::to_vec) else { return false };
        self.harmed.entry(sector).or_insert(now);
        self.unreadable.insert(sector)
    }

    /// Whether reading these bytes has to ask the medium for a sector that it does not give.
    pub(super) fn unreadable(&self, count: usize, offset: usize) -> bool {
        let end = offset.saturating_add(count).min(self.len);
        let (first, last) = (offset / PAGE, end.div_ceil(PAGE));
        let sectors = first * PAGE / SECTOR..last * PAGE / SECTOR;
        offset < end
            && self
                .unreadable
                .range(sectors)
                .any(|sector| !self.pages.contains_key(&(sector * SECTOR / PAGE)))
    }

    /// A write that failed took `count` bytes at `offset`, the last of them within a sector.
    pub(super) fn fray(&mut self, count: usize, offset: usize) {
        if count > 0 && !(offset + count).is_multiple_of(SECTOR) {
            self.ragged.insert((offset + count) / SECTOR);
        }
    }

    /// The dirty sectors, with their bytes.
    pub(super) fn dirty(&self) -> Vec<(usize, Vec<u8>)> {
        let dirty = self.pages.iter().filter(|(_, page)| page.dirty);
        dirty
            .flat_map(|(number, page)| {
                let first = number * PAGE / SECTOR;
                page.bytes.chunks(SECTOR).enumerate().map(move |(i, s)| (first + i, s.to_vec()))
            })
            .collect()
    }

    fn page(&mut self, number: usize) -> &mut Page {
        let shown = self.disk.get(..self.disk_shown).unwrap_or(&self.disk);
        self.pages.entry(number).or_insert_with(|| {
            let start = (number * PAGE).min(shown.len());
            let end = (start + PAGE).min(shown.len());
            let mut bytes = vec![0; PAGE].into_boxed_slice();
            put(&mut bytes, 0, shown.get(start..end).unwrap_or_default());
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
        let whole = self.disk.len().div_ceil(SECTOR);
        self.harmed.retain(|sector, _| *sector < whole);
        self.unreadable.retain(|sector| *sector < whole);
        self.disk.resize(self.len, 0);
        self.disk_shown = self.len;
    }

    pub(super) fn sync(&mut self) {
        if !self.harmed.is_empty() {
            return self.sync_but(|_| false);
        }
        self.settle_len();
        for (number, page) in &mut self.pages {
            if std::mem::take(&mut page.dirty) {
                put(&mut self.disk, number * PAGE, &page.bytes);
            }
        }
    }

    /// A sync that says ok and does not write the sectors that `withheld` names.
    pub(super) fn sync_but(&mut self, mut withheld: impl FnMut(usize) -> bool) {
        self.settle_len();
        for (sector, bytes) in self.dirty() {
            match withheld(sector) {
                true => self.withhold(sector, &bytes),
                false => self.store(sector, &bytes),
            }
        }
        self.pages.values_mut().for_each(|page| page.dirty = false);
    }

    /// A sync that fails: some sectors may have reached the medium.
    pub(super) fn sync_failing(&mut self, personality: Personality, rng: &mut SplitMix) {
        self.persist_some(rng);
        match personality {
            Personality::KeepsNew | Personality::ReportsLate | Personality::StickyReadOnly => {
                self.pages.values_mut().for_each(|page| page.dirty = false);
            }
            Personality::Reverts => self.pages.retain(|_, page| !page.dirty),
            Personality::Redirties => {}
        }
    }

    pub(super) fn evict(&mut self) {
        self.pages.retain(|_, page| page.dirty);
    }

    /// Drops only the first page: a wrong way to do it.
    pub(super) fn evict_first_page(&mut self) {
        self.pages.retain(|number, page| *number > 0 || page.dirty);
    }

    /// Power goes: the cache is gone, and chance decides about what was not synced.
    pub(super) fn crash(&mut self, rng: &mut SplitMix) {
        if self.len != self.disk.len() && rng.below(2) == 0 {
            self.settle_len();
        }
        self.persist_some(rng);
        self.forget();
    }

    /// The cache is gone, and nothing of it was written.
    pub(super) fn forget(&mut self) {
        *self = Self {
            harmed: std::mem::take(&mut self.harmed),
            unreadable: std::mem::take(&mut self.unreadable),
            ragged: std::mem::take(&mut self.ragged),
            ..Self::durable(std::mem::take(&mut self.disk))
        };
    }

    fn persist_some(&mut self, rng: &mut SplitMix) {
        let fate = Fate::draw(rng);
        let mut whole_page = false;
        for (sector, bytes) in self.dirty() {
            if (sector * SECTOR).is_multiple_of(PAGE) {
                whole_page = rng.below(2) == 0;
            }
            let survives = match fate {
                Fate::Vanish => false,
                Fate::Survive => true,
                Fate::ByPage => whole_page,
                Fate::BySector => rng.below(2) == 0,
            };
            if survives {
                self.store(sector, &bytes);
            }
        }
    }
}

/// Copies `bytes` to `at`, as far as `disk` reaches.
fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    let Some(there) = disk.get_mut(at..) else { return };
    let count = there.len().min(bytes.len());
    if let (Some(to), Some(from)) = (there.get_mut(..count), bytes.get(..count)) {
        to.copy_from_slice(from);
    }
}
