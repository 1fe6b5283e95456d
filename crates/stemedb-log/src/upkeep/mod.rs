//! What sealed segments need once nobody waits for them: to become small, and to be looked at
//! again from time to time. On a thread of its own, at a bounded rate, never on the way of a
//! commit.
//!
//! - `prove` goes through one sealed segment and proves it;
//! - `repack` rewrites one dense and compressed;
//! - here is when and in which order, and what is said about it.

pub(crate) mod hint;
mod prove;
mod repack;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stemedb_io::{Env, Open, come_behind};
use stemedb_model::{Millis, Position};

use crate::config::WalConfig;
use crate::error::{LogError, LogState};
use crate::format::header::{Fence, HeaderState, segment_name};
use crate::health::Concern;
use crate::prove::{CACHE_LOOK_EVERY, drop_cache};
use crate::recover::survey::{io, read_header};
use crate::shared::Shared;
use prove::{Damage, Pace, Trouble, prove};
use repack::{Lengths, repack};

/// A segment that was proved is left alone for a day: a small log would be read without end.
const SCRUB_AGAIN_MS: i64 = 24 * 60 * 60 * 1000;
/// An error of reading may pass; only one that stays is damage.
const READ_ATTEMPTS: usize = 3;
const READ_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether there is something to do.
const IDLE: Duration = Duration::from_secs(5);
/// After a failure the next attempt to pack waits this long, then twice as long, up to the limit.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// Sleep no more often than after so many bytes.
const PACE_BYTES: u64 = 256 << 10;

/// What packing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repacked {
    /// How many segments were packed.
    pub segments: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes now.
    pub bytes_after: u64,
    /// The file system cannot show that what is read comes from the medium: nothing is packed.
    pub unproved: bool,
}

/// What scrubbing found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrubbed {
    /// How many segments were read.
    pub segments: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Of the segments, how many the file system would not drop from its cache: they were read,
    /// but perhaps not from the medium, and do not count as scrubbed.
    pub from_cache: u64,
    /// Damage, a line each: file, byte, what, positions.
    pub damage: Vec<String>,
}

/// Packs and scrubs, on a thread of its own or at the call.
pub(crate) struct Upkeep {
    tasks: Arc<Tasks>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

struct Tasks {
    shared: Arc<Shared>,
    env: Env,
    repack_rate: u64,
    scrub_rate: u64,
    /// Held during a task: one at a time.
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// When the bytes of a segment were last proved from the medium.
    proved: BTreeMap<u64, Millis>,
    /// When a segment was last read, proved or not.
    read: BTreeMap<u64, Millis>,
    /// Segments that are known to be damaged.
    damaged: BTreeSet<u64>,
    /// No packing before this moment of the monotonic clock.
    retry_at: Duration,
    retry_after: Duration,
    /// The file system cannot prove what it reads.
    unproved: bool,
    told_cache: bool,
    /// What the file `scrubbed` says.
    remembered: Vec<hint::Line>,
}

/// A sealed segment.
#[derive(Debug, Clone, Copy)]
struct Sealed {
    number: u64,
    salt: u64,
    packed: bool,
    /// When its last group was committed.
    ended: Millis,
    /// It is older than the newest sealed one: the worker has finished it before the segment
    /// after it was taken into use.
    settled: bool,
}

impl Upkeep {
    /// `proved`: segments that the start has read from the medium.
    pub(crate) fn new(
        shared: Arc<Shared>,
        env: Env,
        config: &WalConfig,
        proved: Vec<u64>,
    ) -> std::io::Result<Self> {
        let now = Millis(env.clock.now_ms());
        let tasks = Arc::new(Tasks {
            shared,
            env,
            repack_rate: config.repack_bytes_per_second,
            scrub_rate: config.scrub_bytes_per_second,
            notes: Mutex::new(Notes::default()),
        });
        {
            let mut notes = tasks.lock();
            let known = hint::load(&*tasks.env.vfs, &tasks.shared.dir);
            for sealed in tasks.sealed() {
                let hinted = known
                    .iter()
                    .find(|line| (line.number, line.salt) == (sealed.number, sealed.salt))
                    .map(|line| line.at.min(now));
                let at = if proved.contains(&sealed.number) { Some(now) } else { hinted };
                if let Some(at) = at {
                    notes.proved.insert(sealed.number, at);
                    notes.read.insert(sealed.number, at);
                }
            }
        }
        tasks.tell_age();
        let thread = if config.prepare_in_background {
            let (sender, stop) = channel();
            let tasks = Arc::clone(&tasks);
            let run = move || {
                come_behind();
                tasks.run(&stop);
            };
            let handle = std::thread::Builder::new().name("wal-upkeep".into()).spawn(run)?;
            Some((sender, handle))
        } else {
            None
        };
        Ok(Self { tasks, thread })
    }

    /// Packs everything that may be packed, now and at full speed.
    pub(crate) fn repack_now(&self) -> Result<Repacked, LogError> {
        let mut done = Repacked::default();
        let mut notes = self.tasks.lock();
        for sealed in self.tasks.sealed() {
            if !sealed.settled || sealed.packed {
                continue;
            }
            match self.tasks.repack(&mut notes, sealed.number, &mut |_| true) {
                Ok(lengths) => {
                    done.segments += 1;
                    done.bytes_before += lengths.before;
                    done.bytes_after += lengths.after;
                }
                Err(Trouble::Failed(error)) => return Err(error),
                Err(Trouble::Unproved) => done.unproved = true,
                Err(Trouble::Stopped | Trouble::Damaged(_)) => {}
            }
        }
        Ok(done)
    }

    /// Reads and proves every sealed segment, now and at full speed.
    pub(crate) fn scrub_now(&self) -> Result<Scrubbed, LogError> {
        let mut done = Scrubbed::default();
        let mut notes = self.tasks.lock();
        for sealed in self.tasks.sealed() {
            match self.tasks.scrub(&mut notes, sealed.number, &mut |_| true) {
                Ok((bytes, from_medium)) => {
                    done.segments += 1;
                    done.bytes += bytes;
                    done.from_cache += u64::from(!from_medium);
                }
                Err(Trouble::Damaged(damage)) => {
                    done.segments += 1;
                    done.damage.push(damage.to_string());
                }
                Err(Trouble::Failed(error)) => return Err(error),
                Err(Trouble::Stopped | Trouble::Unproved) => {}
            }
        }
        self.tasks.remember(&mut notes);
        drop(notes);
        self.tasks.tell_age();
        Ok(done)
    }

    /// Returns once no task has a file open, when the log is detached and none begins.
    pub(crate) fn rest(&self) {
        drop(self.tasks.lock());
    }

    /// Ends the thread; what it was packing is left as it was.
    pub(crate) fn finish(&mut self) {
        if let Some((stop, handle)) = self.thread.take() {
            drop(stop);
            // A panic there has been reported by its own message; nothing of it is needed here.
            let _ = handle.join();
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Waits; `false` when the log is being closed.
fn wait(stop: &Receiver<()>, duration: Duration) -> bool {
    matches!(stop.recv_timeout(duration), Err(RecvTimeoutError::Timeout))
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        Millis(self.env.clock.now_ms())
    }

    fn run(&self, stop: &Receiver<()>) {
        while wait(stop, IDLE) {
            loop {
                let packed = self.repack_one(stop);
                let scrubbed = self.scrub_one(stop);
                self.tell_age();
                self.shared.tell_space();
                if !(packed || scrubbed) {
                    break;
                }
            }
            self.remember(&mut self.lock());
        }
    }

    /// Reads at `rate`, as long as `go_on`.
    fn pace<'a>(
        rate: u64,
        stop: &'a Receiver<()>,
        go_on: impl Fn() -> bool + 'a,
    ) -> impl FnMut(u64) -> bool + 'a {
        let mut owed = 0u64;
        move |bytes| {
            owed = owed.saturating_add(bytes);
            if owed < PACE_BYTES {
                return true;
            }
            let nanos = u128::from(std::mem::take(&mut owed)) * 1_000_000_000 / u128::from(rate);
            let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            wait(stop, pause) && go_on()
        }
    }

    /// Packs the oldest segment that is not; says whether it did.
    fn repack_one(&self, stop: &Receiver<()>) -> bool {
        // A segment that the log has yet to prove is proved as it is.
        let usable =
            || self.shared.refuse_if_closed().is_ok() && self.shared.health.suspects().is_empty();
        let mut notes = self.lock();
        if self.repack_rate == 0
            || notes.unproved
            || self.env.clock.monotonic() < notes.retry_at
            || !usable()
        {
            return false;
        }
        let next = self
            .sealed()
            .into_iter()
            .find(|one| one.settled && !one.packed && !notes.damaged.contains(&one.number));
        let Some(next) = next else { return false };
        // The packed file is read back as well, and is about as long at most.
        let mut pace = Self::pace(self.repack_rate, stop, usable);
        self.repack(&mut notes, next.number, &mut pace).is_ok()
    }

    fn repack(
        &self,
        notes: &mut Notes,
        number: u64,
        pace: &mut Pace<'_>,
    ) -> Result<Lengths, Trouble> {
        let name = segment_name(number);
        let packed = self
            .room_for(&name)
            .and_then(|()| self.fence_of(number))
            .and_then(|fence| repack(&self.shared, &self.env, number, &fence, pace));
        match &packed {
            Ok(lengths) => {
                let Lengths { before, after } = lengths.unwrap_or_default();
                notes.retry_after = Duration::ZERO;
                // Read back from the medium before it got its name.
                let now = self.now();
                notes.proved.insert(number, now);
                notes.read.insert(number, now);
                self.shared.shrunk(before.saturating_sub(after));
                self.shared.meters.repacked(before, after);
                tracing::info!("packed {name}: {before} bytes are {after} now");
            }
            Err(Trouble::Stopped) => {}
            Err(Trouble::Unproved) => {
                notes.unproved = true;
                tracing::warn!(
                    "segments are not packed: this file system does not let its cache be \
                     dropped, so that a packed segment cannot be proved before the original goes"
                );
            }
            Err(Trouble::Failed(error)) => {
                self.shared.meters.repack_failed();
                let doubled = (notes.retry_after * 2).clamp(RETRY_FIRST, RETRY_MAX);
                notes.retry_after = doubled;
                notes.retry_at = self.env.clock.monotonic() + doubled;
                tracing::warn!(
                    "could not pack {name}: {error}; the segment is as it was, the next attempt \
                     is in {} s",
                    doubled.as_secs()
                );
            }
            Err(Trouble::Damaged(damage)) => self.damaged(notes, number, damage),
        }
        packed.map(Option::unwrap_or_default)
    }

    /// Room for the packed file and for the next segment besides: packing must never be why the
    /// log has none.
    fn room_for(&self, name: &str) -> Result<(), Trouble> {
        let failed = |source| io(name, "measure", 0, source);
        let path = self.shared.dir.join(name);
        let len = self.env.vfs.metadata(&path).map_err(failed)?.len;
        let space = self.env.vfs.space(&self.shared.dir).map_err(failed)?;
        if space.available < len.saturating_mul(2) {
            let reason = format!("{} bytes free, packing wants {}", space.available, len * 2);
            return Err(Trouble::Failed(LogError::Unprepared { reason }));
        }
        Ok(())
    }

    /// Reads the segment that was not read for longest, if it is due; says whether it did.
    fn scrub_one(&self, stop: &Receiver<()>) -> bool {
        if self.scrub_rate == 0 || matches!(self.shared.state(), LogState::Detached) {
            return false;
        }
        let mut notes = self.lock();
        let since = |sealed: &Sealed| notes.read.get(&sealed.number).copied();
        let next = self.sealed().into_iter().min_by_key(|sealed| since(sealed));
        let due = |at: Millis| self.now().0.saturating_sub(at.0) >= SCRUB_AGAIN_MS;
        let Some(next) = next.filter(|next| since(next).is_none_or(due)) else { return false };
        let attached = || !matches!(self.shared.state(), LogState::Detached);
        let mut pace = Self::pace(self.scrub_rate, stop, attached);
        match self.scrub(&mut notes, next.number, &mut pace) {
            Ok(_) | Err(Trouble::Damaged(_)) => true,
            Err(_) => false,
        }
    }

    /// Reads and proves one segment; gives its length, and whether it came from the medium.
    fn scrub(
        &self,
        notes: &mut Notes,
        number: u64,
        pace: &mut Pace<'_>,
    ) -> Result<(u64, bool), Trouble> {
        let name = segment_name(number);
        let meters = &self.shared.meters;
        let mut scrubbed = |bytes| {
            meters.scrubbed(bytes);
            pace(bytes)
        };
        let mut look = || {
            let fence = self.fence_of(number)?;
            let failed = |op| {
                let name = name.clone();
                move |source| io(&name, op, 0, source)
            };
            let path = self.shared.dir.join(&name);
            let file = self.env.vfs.open(&path, Open::Read).map_err(failed("open"))?;
            let len = file.len().map_err(failed("measure"))?;
            let from_medium =
                drop_cache(&*file, len, CACHE_LOOK_EVERY, &*self.env.clock).unwrap_or(false);
            prove(&*file, &name, number, &fence, &mut scrubbed, &mut |_, _| Ok(()))?;
            Ok((len, from_medium))
        };
        let mut found = look();
        for _ in 1..READ_ATTEMPTS {
            match &found {
                Err(Trouble::Failed(LogError::Io { op: "read", .. })) => {
                    self.env.clock.sleep(READ_PAUSE);
                    found = look();
                }
                _ => break,
            }
        }
        let found = found.map_err(|trouble| self.unreadable(number, trouble));
        let now = self.now();
        match &found {
            Ok((_, from_medium)) => {
                notes.read.insert(number, now);
                notes.damaged.remove(&number);
                if *from_medium {
                    notes.proved.insert(number, now);
                } else if !std::mem::replace(&mut notes.told_cache, true) {
                    tracing::warn!(
                        "{name} was scrubbed, but the file system kept its cache: what was read \
                         may not be what the medium holds, and does not count"
                    );
                }
            }
            Err(Trouble::Damaged(damage)) => {
                notes.read.insert(number, now);
                self.damaged(notes, number, damage);
            }
            Err(Trouble::Failed(error)) => {
                // Not read, so not proved: the age of it goes on growing.
                notes.read.insert(number, now);
                tracing::warn!("could not scrub {name}: {error}");
            }
            Err(Trouble::Stopped | Trouble::Unproved) => {}
        }
        found
    }

    /// Bytes of a sealed segment that the medium does not give back, and a file that is not there,
    /// are damage like any other; the rest of what may fail says nothing about the segment.
    fn unreadable(&self, number: u64, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Failed(LogError::Io { op, file, offset, source })
                if op == "read" || source.kind() == std::io::ErrorKind::NotFound =>
            {
                let range = self.shared.published(|log| {
                    let at = log.segments.iter().position(|one| one.number == number)?;
                    let next = log.segments.get(at + 1)?;
                    let first = log.segments.get(at)?.first;
                    Some((first, Position(next.first.0.saturating_sub(1))))
                });
                match range {
                    Some((first, last)) => Trouble::Damaged(Damage {
                        file,
                        byte: offset,
                        first,
                        last,
                        problem: format!("it cannot be read: {source}"),
                    }),
                    // Removed in the meantime.
                    None => Trouble::Stopped,
                }
            }
            other => other,
        }
    }

    fn damaged(&self, notes: &mut Notes, number: u64, damage: &Damage) {
        notes.damaged.insert(number);
        notes.proved.remove(&number);
        self.shared.meters.scrub_damage();
        let dir = self.shared.dir.display();
        let Damage { file, byte, first, last, .. } = damage;
        tracing::error!(
            segment = %file, byte, first = first.0, last = last.0,
            "damage in a sealed WAL segment: {damage}; run `stemedb wal verify {dir}`, then \
             `stemedb wal repair` or restore the segment from a backup"
        );
        let reason = format!("damage: {damage}; run `stemedb wal verify {dir}`");
        self.shared.concern(Concern::Damaged, Some(reason));
    }

    /// Notes for the next start what was proved when. Only a convenience.
    fn remember(&self, notes: &mut Notes) {
        let lines: Vec<hint::Line> = self
            .sealed()
            .iter()
            .filter_map(|one| {
                let at = *notes.proved.get(&one.number)?;
                Some(hint::Line { number: one.number, salt: one.salt, at })
            })
            .collect();
        if lines == notes.remembered || self.shared.refuse_if_closed().is_err() {
            return;
        }
        match hint::store(&*self.env.vfs, &self.shared.dir, &lines) {
            Ok(()) => notes.remembered = lines,
            Err(error) => tracing::warn!("could not note what was scrubbed: {error}"),
        }
    }

    /// Where the segment after `number` says that it ends.
    fn fence_of(&self, number: u64) -> Result<Fence, Trouble> {
        let name = segment_name(number.saturating_add(1));
        let file = self
            .env
            .vfs
            .open(&self.shared.dir.join(&name), Open::Read)
            .map_err(|source| io(&name, "open", 0, source))?;
        match read_header(&*file, &name)? {
            HeaderState::Ok(header) => Ok(header.fence),
            _ => Err(Trouble::Damaged(Damage {
                file: name,
                byte: 0,
                first: Position::NONE,
                last: Position::NONE,
                problem: "the segment header does not match its checksum".into(),
            })),
        }
    }

    /// Every segment but the one that is written to, oldest first.
    fn sealed(&self) -> Vec<Sealed> {
        self.shared.published(|log| {
            let pairs = log.segments.iter().zip(log.segments.iter().skip(1));
            let newest = log.segments.last().map_or(0, |segment| segment.number);
            pairs
                .map(|(segment, next)| Sealed {
                    number: segment.number,
                    salt: segment.salt,
                    packed: segment.packed,
                    ended: next.since,
                    settled: segment.number + 1 < newest,
                })
                .collect()
        })
    }

    /// Exports the age of the oldest byte that was not proved since.
    fn tell_age(&self) {
        let notes = self.lock();
        let oldest = self
            .sealed()
            .iter()
            .map(|sealed| notes.proved.get(&sealed.number).copied().unwrap_or(sealed.ended))
            .min();
        let age = oldest.map_or(0, |oldest| self.now().0.saturating_sub(oldest.0).max(0));
        self.shared.meters.scrub_age(Duration::from_millis(age as u64));
    }
}
