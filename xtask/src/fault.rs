//! A medium that fails on command. A [`Plan`] says which writes are meant ([`Aim`]), what becomes of
//! them ([`Act`]) and how often ([`Times`]). It is aimed by what the bytes are (`docs/format/wal.md`):
//! the file system decides where they go, and its own journal must not draw the fire.
//!
//! What was written since the last flush may vanish when the power is cut: whole writes, or any of
//! their sectors.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use fuser::Errno;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Medium;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
/// A hang ends by itself after this, so that no harness can wedge a machine.
const HANG_MAX: Duration = Duration::from_secs(60);
/// Blocks of the log whose places are remembered, for writes that go astray.
const PLACES: usize = 64;

/// What a block of 4 KiB is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The first block of a segment in use.
    Header,
    /// The first block of a segment that waits for its use.
    Prepared,
    /// A block of a group; with its index in the group.
    Entries(u32),
    Seal,
    ClosingSeal,
    Lost,
    /// The first block of a packed segment; the others have no form of their own.
    Packed,
    Zero,
    /// The file system's own, or other files.
    Other,
}

impl Piece {
    fn of(block: &[u8]) -> Self {
        let number = |at: usize| {
            block.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
        };
        if block.starts_with(b"STEMEWAL") {
            return Self::Header;
        }
        if block.starts_with(b"STEMEPAK") {
            return Self::Packed;
        }
        if block.starts_with(b"SWB0") {
            return match block.get(4) {
                Some(1) => Self::Entries(number(40).unwrap_or(0)),
                Some(2) => Self::Seal,
                Some(3) => Self::Lost,
                Some(4) => Self::ClosingSeal,
                _ => Self::Other,
            };
        }
        if block.get(SECTOR..).is_some_and(|rest| rest.starts_with(b"STEMEPRE")) {
            return Self::Prepared;
        }
        if block.iter().all(|byte| *byte == 0) { Self::Zero } else { Self::Other }
    }

    fn of_log(self) -> bool {
        !matches!(self, Self::Zero | Self::Other)
    }
}

/// The whole blocks of a write or read, with their places.
fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, Piece)> + '_ {
    let skip = (BLOCK - (offset % BLOCK as u64) as usize) % BLOCK;
    let blocks = bytes.get(skip..).unwrap_or_default().chunks_exact(BLOCK);
    blocks.enumerate().map(move |(n, block)| (offset + (skip + n * BLOCK) as u64, Piece::of(block)))
}

/// The whole blocks of a write with what they are and a hash of what is in them.
fn hashes(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, Piece, u64)> + '_ {
    pieces(offset, bytes).map(move |(place, piece)| {
        let at = (place - offset) as usize;
        let mut hasher = DefaultHasher::new();
        bytes.get(at..at + BLOCK).hash(&mut hasher);
        (place, piece, hasher.finish())
    })
}

/// Which requests are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// A block of a group.
    Entries,
    /// A block that is not the first of its group.
    MidGroup,
    Header,
    Prepared,
    Seal,
    /// The first block of a packed segment.
    Packed,
    /// Any block of the log.
    Log,
    /// The file system's own blocks, and other files.
    Metadata,
    Everything,
}

impl Aim {
    fn meets(self, piece: Piece) -> bool {
        match self {
            Self::Entries => matches!(piece, Piece::Entries(_)),
            Self::MidGroup => matches!(piece, Piece::Entries(1..)),
            Self::Header => piece == Piece::Header,
            Self::Prepared => piece == Piece::Prepared,
            Self::Seal => piece == Piece::Seal,
            Self::Packed => piece == Piece::Packed,
            Self::Log => piece.of_log(),
            Self::Metadata => piece == Piece::Other,
            Self::Everything => true,
        }
    }

    /// The first place that is meant.
    fn first(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        if self == Self::Everything {
            return Some(offset);
        }
        pieces(offset, bytes).find(|(_, piece)| self.meets(*piece)).map(|(place, _)| place)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing is stored, and the disk says so.
    Fail(Code),
    /// Any of the sectors are stored, and the disk says that it failed.
    TornThenFail,
    /// Any of the sectors are stored, then the power is cut.
    TornThenCut,
    /// The power is cut before anything is stored.
    Cut,
    /// The disk says `ok` and stores nothing.
    Drop,
    /// The disk says `ok` and stores all but one sector.
    Stale,
    /// One bit is stored wrong.
    Flip,
    /// It is stored where an older block of the log was.
    Misdirect,
    /// The disk says `ok`, stores nothing, and says so at the next flush.
    Late,
    /// The next flush fails. What it was to make durable stays (`true`) or reverts (`false`), as far
    /// as it is the log's: a file system that loses its own blocks is another matter.
    FailFlush { keeps: bool },
    /// It takes this long.
    Slow(Duration),
    /// The next flush takes this long.
    SlowFlush(Duration),
    /// It does not come back until it is released.
    Hang,
    /// The next flush does not come back until it is released.
    HangFlush,
    /// Reading it fails.
    FailRead,
}

/// What the disk says when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Io,
    NoSpace,
}

impl Code {
    fn errno(self) -> Errno {
        match self {
            Self::Io => Errno::EIO,
            Self::NoSpace => Errno::ENOSPC,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Once,
    /// From the first request on, whatever concerns the place that it met.
    Here,
    /// Every one that is aimed at, until the fault is taken away.
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) aim: Aim,
    pub(crate) act: Act,
    pub(crate) times: Times,
    /// So many requests that are meant pass unharmed first.
    pub(crate) skip: u32,
    /// Only blocks that were written elsewhere before: a file system that journals data writes
    /// every block twice, and the second time counts.
    pub(crate) second: bool,
}

struct Written {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    hits: u64,
    first_hit: Option<Instant>,
    /// The place of a fault that stays where it first was.
    here: Option<Range<u64>>,
    /// The next flush is to be hit.
    flush_due: bool,
    /// Since the last flush.
    volatile: Vec<Written>,
    /// No power.
    dark: bool,
    released: bool,
    hanging: u32,
    /// Where blocks of the log went, oldest first.
    places: VecDeque<u64>,
    /// Where blocks of the log were first written, by a hash of what is in them.
    firsts: HashMap<u64, u64>,
    writes: u64,
    flushes: u64,
}

/// The failing medium, over the file that holds the bytes.
pub(crate) struct Faulty {
    file: File,
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    rng: Mutex<StdRng>,
}

impl Faulty {
    pub(crate) fn over(backing: &Path, seed: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(backing)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            file,
            bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self) -> bool {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random_bool(0.5)
    }

    fn below(&self, bound: usize) -> usize {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.random_range(0..bound.max(1))
    }

    /// From now on requests fail by this plan.
    pub(crate) fn arm(&self, plan: Plan) {
        let mut state = self.lock();
        state.plan = Some(plan);
        state.hits = 0;
        state.first_hit = None;
        state.here = None;
        state.flush_due = false;
        state.released = false;
    }

    /// Takes the fault away and lets go of what hangs. Power that is gone stays gone.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.plan = None;
        state.here = None;
        state.flush_due = false;
        state.released = true;
        self.changed.notify_all();
    }

    /// How many requests met the fault.
    #[cfg(test)]
    fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// When the fault first struck.
    pub(crate) fn first_hit(&self) -> Option<Instant> {
        self.lock().first_hit
    }

    /// Whether a request hangs now.
    pub(crate) fn hanging(&self) -> bool {
        self.lock().hanging > 0
    }

    /// Writes and flushes so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.writes, state.flushes)
    }

    /// Whether the power is gone.
    pub(crate) fn dark(&self) -> bool {
        self.lock().dark
    }

    /// Nothing is answered any more, and of what was not flushed any part is gone.
    pub(crate) fn cut_power(&self) {
        self.go_dark(&mut self.lock());
    }

    /// Gives it power again.
    pub(crate) fn power_on(&self) {
        let mut state = self.lock();
        state.dark = false;
        state.volatile.clear();
    }

    fn go_dark(&self, state: &mut State) {
        if state.dark {
            return;
        }
        state.dark = true;
        let volatile = std::mem::take(&mut state.volatile);
        for written in volatile.iter().rev() {
            // A failed store shows as a loss, which is what the harness looks for.
            let _ = self.file.write_all_at(&written.before, written.offset);
        }
        for written in &volatile {
            if self.chance() {
                let _ = self.file.write_all_at(&written.after, written.offset);
            } else if self.chance() {
                let _ = self.store_some(written.offset, &written.after);
            }
        }
    }

    /// Stores any of the sectors.
    fn store_some(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        for (n, sector) in bytes.chunks(SECTOR).enumerate() {
            if self.chance() {
                self.store(offset + (n * SECTOR) as u64, sector)?;
            }
        }
        Ok(())
    }

    fn store(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.file.write_all_at(bytes, offset).map_err(|_| Errno::EIO)
    }

    /// Stores, and remembers how to take it back.
    fn store_volatile(&self, state: &mut State, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut before = vec![0; bytes.len()];
        let read = self.file.read_at(&mut before, offset).map_err(|_| Errno::EIO)?;
        before.truncate(read);
        self.store(offset, bytes)?;
        state.volatile.push(Written { offset, before, after: bytes.to_vec() });
        for (place, piece) in pieces(offset, bytes) {
            if matches!(piece, Piece::Entries(_)) {
                state.places.push_back(place);
                if state.places.len() > PLACES {
                    state.places.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Waits until it is released; false if it waited too long.
    fn hang<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.hanging += 1;
        self.changed.notify_all();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, HANG_MAX, |state| !state.released)
            .unwrap_or_else(PoisonError::into_inner);
        state.hanging -= 1;
        state
    }

    fn slow<'a>(&'a self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let (state, _) = self
            .changed
            .wait_timeout_while(state, time, |state| !state.released)
            .unwrap_or_else(PoisonError::into_inner);
        state
    }
}

impl State {
    fn hit(&mut self) {
        self.hits += 1;
        self.first_hit.get_or_insert_with(Instant::now);
    }

    /// Takes down where the blocks of the log in a write are first written.
    fn know(&mut self, offset: u64, bytes: &[u8]) {
        for (place, piece, hash) in hashes(offset, bytes) {
            if piece.of_log() {
                self.firsts.entry(hash).or_insert(place);
            }
        }
    }

    /// The first place that is meant and was written elsewhere before.
    fn second(&self, aim: Aim, offset: u64, bytes: &[u8]) -> Option<u64> {
        hashes(offset, bytes)
            .find(|(place, piece, hash)| {
                aim.meets(*piece) && self.firsts.get(hash).is_some_and(|first| first != place)
            })
            .map(|(place, ..)| place)
    }

    /// What is to become of a request at this place with these bytes.
    fn strike(&mut self, offset: u64, bytes: &[u8], reading: bool) -> Option<Act> {
        let plan = self.plan?;
        if (plan.act == Act::FailRead) != reading {
            return None;
        }
        if let Some(here) = &self.here {
            let end = offset + bytes.len() as u64;
            return (offset < here.end && here.start < end).then_some(plan.act);
        }
        if plan.times == Times::Once && (self.hits > 0 || self.flush_due) {
            return None;
        }
        let place = match plan.second {
            true => self.second(plan.aim, offset, bytes)?,
            false => plan.aim.first(offset, bytes)?,
        };
        let plan = self.plan.as_mut()?;
        if plan.skip > 0 {
            plan.skip -= 1;
            return None;
        }
        if plan.times == Times::Here {
            let length = if reading { SECTOR } else { BLOCK };
            self.here = Some(place..place + length as u64);
        }
        Some(plan.act)
    }
}

impl Medium for Faulty {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        if state.dark {
            return Err(Errno::EIO);
        }
        let count = self.file.read_at(bytes, offset).map_err(|_| Errno::EIO)?;
        match state.strike(offset, bytes.get(..count).unwrap_or_default(), true) {
            Some(_) => {
                state.hit();
                self.changed.notify_all();
                Err(Errno::EIO)
            }
            None => Ok(count),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.dark {
            return Err(Errno::EIO);
        }
        state.writes += 1;
        let act = state.strike(offset, bytes, false);
        state.know(offset, bytes);
        let Some(act) = act else {
            return self.store_volatile(&mut state, offset, bytes);
        };
        // A flush that is to fail counts when it does.
        if !matches!(act, Act::FailFlush { .. } | Act::SlowFlush(_) | Act::HangFlush) {
            state.hit();
            self.changed.notify_all();
        }
        match act {
            Act::Fail(code) => Err(code.errno()),
            Act::TornThenFail => {
                self.store_some(offset, bytes)?;
                Err(Errno::EIO)
            }
            Act::TornThenCut => {
                self.go_dark(&mut state);
                self.store_some(offset, bytes)?;
                Err(Errno::EIO)
            }
            Act::Cut => {
                self.go_dark(&mut state);
                Err(Errno::EIO)
            }
            Act::Drop => Ok(()),
            Act::Late => {
                state.flush_due = true;
                Ok(())
            }
            Act::Stale => {
                // One that has something to say: the rest of a block may be zeros on zeros.
                let sectors = bytes.len() / SECTOR;
                let spared = self.struck_sector(&state, offset, bytes).unwrap_or(sectors);
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if n != spared {
                        self.store_volatile(&mut state, offset + (n * SECTOR) as u64, sector)?;
                    }
                }
                Ok(())
            }
            Act::Flip => {
                let mut wrong = bytes.to_vec();
                let sector = self.struck_sector(&state, offset, bytes).unwrap_or(0);
                let bit = self.below(SECTOR * 8);
                if let Some(byte) = wrong.get_mut(sector * SECTOR + bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                self.store_volatile(&mut state, offset, &wrong)
            }
            Act::Misdirect => {
                let own = offset..offset + bytes.len() as u64;
                let astray = state.places.iter().rev().find(|place| !own.contains(place)).copied();
                match astray {
                    Some(astray) => {
                        let first = bytes.get(..BLOCK).unwrap_or(bytes);
                        self.store_volatile(&mut state, astray, first)
                    }
                    // Nothing to hit: it is lost all the same.
                    None => Ok(()),
                }
            }
            Act::FailFlush { .. } | Act::SlowFlush(_) | Act::HangFlush => {
                state.flush_due = true;
                self.store_volatile(&mut state, offset, bytes)
            }
            Act::Slow(time) => {
                let mut state = self.slow(state, time);
                self.store_volatile(&mut state, offset, bytes)
            }
            Act::Hang => {
                let mut state = self.hang(state);
                if state.dark {
                    return Err(Errno::EIO);
                }
                self.store_volatile(&mut state, offset, bytes)
            }
            Act::FailRead => self.store_volatile(&mut state, offset, bytes),
        }
    }

    fn flush(&self) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.dark {
            return Err(Errno::EIO);
        }
        state.flushes += 1;
        if !state.flush_due {
            state.volatile.clear();
            return Ok(());
        }
        let Some(plan) = state.plan else {
            state.flush_due = false;
            state.volatile.clear();
            return Ok(());
        };
        let late = plan.act == Act::Late;
        if plan.times == Times::Once || late {
            state.flush_due = false;
        }
        if !late {
            state.hit();
            self.changed.notify_all();
        }
        match plan.act {
            Act::SlowFlush(time) => {
                let mut state = self.slow(state, time);
                state.volatile.clear();
                Ok(())
            }
            Act::HangFlush => {
                let mut state = self.hang(state);
                if state.dark {
                    return Err(Errno::EIO);
                }
                state.volatile.clear();
                Ok(())
            }
            Act::FailFlush { keeps: false } => {
                let volatile = std::mem::take(&mut state.volatile);
                for written in volatile.iter().rev() {
                    for (place, piece) in pieces(written.offset, &written.after) {
                        let at = (place - written.offset) as usize;
                        if piece.of_log()
                            && let Some(before) = written.before.get(at..at + BLOCK)
                        {
                            self.store(place, before)?;
                        }
                    }
                }
                Err(Errno::EIO)
            }
            _ => Err(Errno::EIO),
        }
    }
}

impl Faulty {
    /// The number in the request of a sector that is not all zero, in the first block that is meant.
    fn struck_sector(&self, state: &State, offset: u64, bytes: &[u8]) -> Option<usize> {
        let place = state.plan?.aim.first(offset, bytes)?;
        let first = (place - offset) as usize / SECTOR;
        let told: Vec<usize> = (first..first + BLOCK / SECTOR)
            .filter(|n| {
                let sector = bytes.get(n * SECTOR..(n + 1) * SECTOR);
                sector.is_some_and(|sector| sector.iter().any(|byte| *byte != 0))
            })
            .collect();
        told.get(self.below(told.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Faulty {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        Faulty::over(file.path(), 7).unwrap()
    }

    fn block(index: u8) -> Vec<u8> {
        let mut block = vec![0xab; BLOCK];
        block[..4].copy_from_slice(b"SWB0");
        block[4] = 1;
        block[40..44].copy_from_slice(&[index, 0, 0, 0]);
        block
    }

    fn read(disk: &Faulty, offset: u64) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        disk.read(offset, &mut bytes).unwrap();
        bytes
    }

    fn armed(aim: Aim, act: Act, times: Times) -> Faulty {
        let disk = disk();
        disk.arm(Plan { aim, act, times, skip: 0, second: false });
        disk
    }

    #[test]
    fn the_second_time_a_block_is_written_elsewhere_can_be_meant() {
        let disk = disk();
        let (aim, act, times) = (Aim::Entries, Act::Drop, Times::Once);
        disk.arm(Plan { aim, act, times, skip: 0, second: true });
        for (offset, expected) in [(0, true), (0, true), (8192, false), (8192, true)] {
            disk.write(offset, &block(1)).unwrap();
            assert_eq!(read(&disk, offset) == block(1), expected, "{offset}");
        }
    }

    #[test]
    fn the_aim_meets_only_what_it_is_meant_for() {
        let disk = armed(Aim::MidGroup, Act::Fail(Code::Io), Times::Once);
        assert!(disk.write(0, &block(0)).is_ok());
        assert!(disk.write(4096, &[3; BLOCK]).is_ok());
        assert_eq!(disk.hits(), 0);
        assert!(disk.write(8192, &[block(0), block(1)].concat()).is_err());
        assert!(disk.write(8192, &block(1)).is_ok(), "once is once");
        assert_eq!(disk.hits(), 1);
    }

    #[test]
    fn a_bad_place_stays_bad_and_others_are_good() {
        let disk = armed(Aim::Entries, Act::Fail(Code::NoSpace), Times::Here);
        for (offset, fails) in [(4096, true), (8192, false), (4096, true)] {
            assert_eq!(disk.write(offset, &block(0)).is_err(), fails);
        }
        disk.clear();
        assert!(disk.write(4096, &block(0)).is_ok());
    }

    #[test]
    fn liars_say_ok() {
        for act in [Act::Drop, Act::Stale, Act::Flip, Act::Misdirect, Act::Late] {
            let disk = armed(Aim::Entries, act, Times::Once);
            assert!(disk.write(4096, &block(0)).is_ok(), "{act:?}");
            assert_ne!(read(&disk, 4096), block(0), "{act:?}");
            assert_eq!(disk.flush().is_err(), act == Act::Late, "{act:?}");
            assert!(disk.flush().is_ok());
        }
    }

    #[test]
    fn a_failed_flush_keeps_or_reverts() {
        for keeps in [true, false] {
            let disk = armed(Aim::Entries, Act::FailFlush { keeps }, Times::Once);
            disk.write(4096, &block(0)).unwrap();
            assert!(disk.flush().is_err());
            assert_eq!(read(&disk, 4096) == block(0), keeps);
            assert!(disk.flush().is_ok());
        }
    }

    #[test]
    fn only_what_was_flushed_surely_survives_a_cut() {
        let disk = disk();
        disk.write(0, &block(0)).unwrap();
        disk.flush().unwrap();
        for n in 1..64 {
            disk.write(n * 4096, &block(1)).unwrap();
        }
        disk.cut_power();
        assert!(disk.write(0, &block(0)).is_err() && disk.flush().is_err());
        disk.power_on();
        assert_eq!(read(&disk, 0), block(0));
        let survived = (1..64).filter(|n| read(&disk, n * 4096) == block(1)).count();
        assert!((1..63).contains(&survived), "{survived} of 63");
    }

    #[test]
    fn what_hangs_comes_back_when_released() {
        let disk = armed(Aim::Entries, Act::HangFlush, Times::Once);
        disk.write(0, &block(0)).unwrap();
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| disk.flush().is_ok());
            while !disk.hanging() {
                std::thread::yield_now();
            }
            assert!(!flush.is_finished());
            disk.clear();
            assert!(flush.join().unwrap());
        });
    }
}
