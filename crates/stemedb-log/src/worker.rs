//! What must not happen on the commit path: preparing the next segment, closing the last one.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stemedb_io::{Clock, DIRECT_ALIGN, Env, Open, Vfs, VfsFile, mutant};

use crate::config::WalConfig;
use crate::error::{Failure, LogError};
use crate::format::block::{BLOCK, GroupKind};
use crate::format::group::{GroupPlace, encode_seal};
use crate::format::header::{encode_mark, segment_name};
use crate::health::Concern;
use crate::prove::{Suspect, prove};
use crate::recover::open::free_name;
use crate::shared::Shared;
use crate::walk::Cursor;

/// Zeros are written in pieces, each made durable before the next: one large sync would hold up
/// the syncs of commits behind it. Through the cache, with pieces of 256 KiB, the worker fell behind a
/// writer of large groups, which then waited at every rotation; with 1 MiB it never did.
const PIECE: usize = 1 << 20;
/// Past the cache small pieces are as fast, and a commit waits a quarter as long at its 99th
/// percentile (`docs/performance/log.md`).
const DIRECT_PIECE: usize = 128 << 10;
/// A piece that takes longer is mostly its sync: larger ones, or the worker falls behind.
const PIECE_TIME_MAX: Duration = Duration::from_millis(2);

/// Room that preparing a segment leaves free, or as much as the segment takes if that is less: the
/// seals of a shutdown, the index and a repair need some when the file system is full.
const RESERVE_BYTES: u64 = 16 << 20;

/// A segment that is ready to be written to: zero, durable, with its final name.
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) file: Box<dyn VfsFile>,
    pub(crate) bytes: u64,
    pub(crate) salt: u64,
}

/// Makes a segment of zeros, but for its mark, under a temporary name, syncs it, gives it its name,
/// syncs the folder. Gives up when `stop` is set (`Interrupted`).
pub(crate) fn prepare(
    env: &Env,
    dir: &Path,
    number: u64,
    bytes: u64,
    stop: &AtomicBool,
) -> Result<Spare, Failure> {
    let vfs = &*env.vfs;
    let salt = if mutant("constant_salt") { 1 } else { env.rng.next_u64() };
    let name = segment_name(number);
    let temporary = format!("{name}.tmp");
    let path = dir.join(&temporary);
    let failed = |op, offset, source| Failure { op, file: temporary.clone(), offset, source };
    let space = vfs.space(dir).map_err(|error| failed("statfs", 0, error))?;
    if space.available < bytes.saturating_add(RESERVE_BYTES.min(bytes)) {
        return Err(failed("allocate", 0, io::ErrorKind::StorageFull.into()));
    }
    match vfs.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", 0, error));
        }
        _ => {}
    }
    let file = vfs.open(&path, Open::CreateNew).map_err(|error| failed("create", 0, error))?;
    let filled = fill(&*file, &*env.clock, bytes, number, salt, stop);
    if let Err((op, offset, source)) = filled {
        let failure = failed(op, offset, source);
        if !failed_medium(&failure) || keep_away(vfs, dir, number, file, offset).is_err() {
            // Give the room back; if that fails too, the next start removes the file.
            let _ = vfs.remove_file(&path);
        }
        return Err(failure);
    }
    vfs.rename(&path, &dir.join(&name)).map_err(|error| failed("rename", 0, error))?;
    vfs.sync_dir(dir).map_err(|error| failed("sync folder after", 0, error))?;
    Ok(Spare { number, name, file, bytes, salt })
}

/// Keeps the blocks of a prepared segment, of which one may be bad, out of the next attempt: a file
/// system that gets them back gives them out again, and a log with one bad place under it would go on
/// nowhere. The failure was in what was written at `offset`, or before it.
fn keep_away(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
    file: Box<dyn VfsFile>,
    offset: u64,
) -> io::Result<()> {
    let name = segment_name(number);
    // Both may fail on a file system that is about to shut itself off.
    file.set_len(offset.saturating_add(PIECE as u64).min(file.len()?))?;
    drop(file);
    let kept = free_name(vfs, dir, &name).map_err(io::Error::other)?;
    vfs.rename(&dir.join(format!("{name}.tmp")), &dir.join(&kept))?;
    tracing::warn!(
        file = kept,
        "kept, so that what the disk could not write is not given out again"
    );
    vfs.sync_dir(dir)
}

fn fill(
    file: &dyn VfsFile,
    clock: &dyn Clock,
    bytes: u64,
    number: u64,
    salt: u64,
    stop: &AtomicBool,
) -> Result<(), (&'static str, u64, io::Error)> {
    match file.allocate(bytes) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            return Err(("allocate", 0, error));
        }
        _ => {}
    }
    let mut direct = file.bypass_cache(true).map_err(|error| ("open", 0, error))?;
    let most = PIECE.min(usize::try_from(bytes).unwrap_or(PIECE));
    let mut size = if direct { DIRECT_PIECE.min(most) } else { most };
    let mut room = vec![0; most + DIRECT_ALIGN];
    let aligned = room.as_ptr().align_offset(DIRECT_ALIGN);
    let piece = room.get_mut(aligned..).and_then(|room| room.get_mut(..most)).unwrap_or_default();
    encode_mark(number, salt, piece);
    let mut at = 0;
    while at < bytes {
        if stop.load(Ordering::Relaxed) {
            return Err(("prepare", at, io::ErrorKind::Interrupted.into()));
        }
        let began = clock.monotonic();
        let count = usize::try_from(bytes - at).unwrap_or(PIECE).min(size);
        let now = piece.get(..count).unwrap_or(piece);
        match file.write_at(now, at) {
            // Some file systems find out only now that they cannot.
            Err(error) if direct && error.kind() == io::ErrorKind::InvalidInput => {
                file.bypass_cache(false).map_err(|error| ("open", 0, error))?;
                (direct, size) = (false, most);
                continue;
            }
            written => written.map_err(|error| ("write", at, error))?,
        }
        file.sync_data().map_err(|error| ("sync", at, error))?;
        at += count as u64;
        if at == count as u64 {
            piece.fill(0);
        }
        if clock.monotonic().saturating_sub(began) > PIECE_TIME_MAX {
            size = (size * 2).min(most);
        }
    }
    if direct {
        file.bypass_cache(false).map_err(|error| ("open", 0, error))?;
    }
    file.sync_all().map_err(|error| ("sync", at, error))
}

/// A segment that the log has left.
pub(crate) struct Retired {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) file: Box<dyn VfsFile>,
    /// Where the closing seal goes.
    pub(crate) seal: GroupPlace,
}

/// Writes the closing seal, cuts the zero tail off, closes.
fn retire(retired: Retired) -> Result<(), Failure> {
    let Retired { name, file, seal, .. } = retired;
    let at = u64::from(seal.block) * BLOCK as u64;
    let end = at + BLOCK as u64;
    let failed = |op, offset| {
        let file = name.clone();
        move |source| Failure { op, file, offset, source }
    };
    let mut block = [0; BLOCK];
    encode_seal(GroupKind::Close, &seal, &mut block);
    file.write_at(&block, at).map_err(failed("write", at))?;
    file.sync_data().map_err(failed("sync", at))?;
    file.set_len(end).map_err(failed("cut", end))?;
    file.sync_all().map_err(failed("sync", end))?;
    match file.close().map_err(failed("close", 0)) {
        Err(_) if mutant("ignore_close_error") => Ok(()),
        closed => closed,
    }
}

impl Retired {
    /// What has to be proved if retiring it fails.
    fn suspect(&self) -> Suspect {
        let Self { name, number, seal, .. } = self;
        let end = Cursor {
            block: seal.block,
            group: seal.group,
            last: seal.watermark,
            recorded_at: seal.recorded_at,
            chain: seal.chain,
        };
        Suspect { name: name.clone(), number: *number, salt: seal.salt, end }
    }
}

enum Job {
    Prepare(u64),
    Retire(Retired),
}

/// Where the next segment waits.
enum Slot {
    Empty,
    Working,
    Ready(Spare),
    /// No room; the reason.
    Full(String),
    /// The medium failed; the log is read-only.
    Broken,
}

struct Bench {
    shared: Arc<Shared>,
    env: Env,
    dir: PathBuf,
    bytes: u64,
    slot: Mutex<Slot>,
    changed: Condvar,
    /// The log is being closed: what is not prepared yet is not needed.
    stop: AtomicBool,
}

/// Prepares and retires segments, on a thread of its own, at the call, or when told.
pub(crate) struct Worker {
    bench: Arc<Bench>,
    background: bool,
    thread: Option<(Sender<Job>, JoinHandle<()>)>,
    /// What waits for [`Worker::step`].
    waiting: Option<Mutex<VecDeque<Job>>>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        env: Env,
        spare: Option<Spare>,
        config: &WalConfig,
    ) -> io::Result<Self> {
        let background = config.prepare_in_background;
        let waiting = (!background && config.background_on_demand).then(Mutex::default);
        let dir = shared.dir.clone();
        let slot = Mutex::new(spare.map_or(Slot::Empty, Slot::Ready));
        let bench = Arc::new(Bench {
            shared,
            env,
            dir,
            bytes: config.segment_bytes,
            slot,
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let thread = if background { Some(start(&bench)?) } else { None };
        Ok(Self { bench, background, thread, waiting })
    }

    fn submit(&self, job: Job) {
        match (&self.thread, &self.waiting) {
            (Some((sender, _)), _) => {
                // The thread ends before the sender is gone only if it panicked.
                if let Err(SendError(job)) = sender.send(job) {
                    self.bench.work(job);
                }
            }
            (None, Some(waiting)) => {
                waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
            }
            (None, None) => self.bench.work(job),
        }
    }

    /// Does the oldest piece of work that waits to be told. `false` if there is none.
    pub(crate) fn step(&self) -> bool {
        let Some(waiting) = &self.waiting else { return false };
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let found = job.is_some();
        if let Some(job) = job {
            self.bench.work(job);
        }
        found
    }

    /// Starts to prepare segment `number`, unless one is ready or on its way.
    pub(crate) fn order(&self, number: u64) {
        {
            let mut slot = self.bench.lock();
            match *slot {
                Slot::Empty | Slot::Full(_) => *slot = Slot::Working,
                Slot::Working | Slot::Ready(_) | Slot::Broken => return,
            }
        }
        self.submit(Job::Prepare(number));
    }

    /// Takes the prepared segment, waiting for one that is on its way. Without room it orders
    /// another attempt and refuses at once.
    pub(crate) fn take(&self, number: u64) -> Result<Spare, LogError> {
        self.order_if_empty(number);
        let mut slot = self.settled();
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Ready(spare) => Ok(spare),
            Slot::Full(reason) => {
                *slot = Slot::Full(reason.clone());
                drop(slot);
                self.order(number);
                match &*self.bench.lock() {
                    // Without a thread the attempt has been made by now.
                    Slot::Ready(_) => {}
                    _ => return Err(LogError::Unprepared { reason }),
                }
                self.take(number)
            }
            Slot::Broken => {
                *slot = Slot::Broken;
                drop(slot);
                self.bench.shared.refuse_if_closed()?;
                // The log was mended while the thread still had the failure in hand.
                self.mend();
                self.order(number);
                self.take(number)
            }
            other => {
                *slot = other;
                drop(slot);
                self.bench.shared.refuse_if_closed()?;
                Err(LogError::Unprepared { reason: "no segment was prepared".into() })
            }
        }
    }

    /// Waits until the next segment is prepared, or there is no room for one. An error if the medium
    /// fails under it.
    pub(crate) fn wait_for_next(&self, number: u64) -> Result<(), LogError> {
        self.order(number);
        match *self.settled() {
            Slot::Broken => {
                let reason = "the next segment cannot be written".into();
                Err(LogError::Unprepared { reason })
            }
            Slot::Empty | Slot::Working | Slot::Ready(_) | Slot::Full(_) => Ok(()),
        }
    }

    /// The slot, once nobody works on it.
    fn settled(&self) -> MutexGuard<'_, Slot> {
        let mut slot = self.bench.lock();
        while matches!(*slot, Slot::Working) {
            if self.waiting.is_some() {
                drop(slot);
                let worked = self.step();
                slot = self.bench.lock();
                if worked { continue } else { break }
            }
            slot = self.bench.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        slot
    }

    fn order_if_empty(&self, number: u64) {
        if matches!(*self.bench.lock(), Slot::Empty) {
            self.order(number);
        }
    }

    /// Forgets what failed: the next segment is prepared anew.
    pub(crate) fn mend(&self) {
        let mut slot = self.bench.lock();
        if matches!(*slot, Slot::Broken | Slot::Full(_)) {
            *slot = Slot::Empty;
        }
    }

    /// Finishes a segment that the log has left.
    pub(crate) fn retire(&self, retired: Retired) {
        self.submit(Job::Retire(retired));
    }

    /// Gives up preparing, and waits for the segments that are being retired.
    pub(crate) fn finish(&mut self) {
        self.bench.stop.store(true, Ordering::Relaxed);
        while self.step() {}
        if let Some((sender, handle)) = self.thread.take() {
            drop(sender);
            // A panic there has been reported by its own message; nothing of it is needed here.
            let _ = handle.join();
        }
    }

    /// Closes every file, so that the file system can be unmounted.
    pub(crate) fn detach(&mut self) {
        self.finish();
        *self.bench.lock() = Slot::Empty;
    }

    /// Works again after [`Worker::detach`].
    pub(crate) fn attach(&mut self) -> io::Result<()> {
        self.bench.stop.store(false, Ordering::Relaxed);
        if self.background && self.thread.is_none() {
            self.thread = Some(start(&self.bench)?);
        }
        Ok(())
    }
}

fn start(bench: &Arc<Bench>) -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (sender, jobs) = channel();
    let bench = Arc::clone(bench);
    let run = move || bench.run(&jobs);
    let handle = std::thread::Builder::new().name("wal-worker".into()).spawn(run)?;
    Ok((sender, handle))
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Bench {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, jobs: &Receiver<Job>) {
        let _watch = Watch(self);
        while let Ok(job) = jobs.recv() {
            self.work(job);
        }
    }

    fn work(&self, job: Job) {
        match job {
            Job::Prepare(number) => self.prepare(number),
            Job::Retire(retired) => self.retire(retired),
        }
        self.shared.tell_space();
    }

    /// Every group of it is durable, and the next segment's fence says so: what can fail here takes
    /// nothing back, but the file is to be proved then.
    fn retire(&self, retired: Retired) {
        let suspect = retired.suspect();
        let Err(failure) = retire(retired) else { return };
        let reason = failure.to_string();
        let proved = self.shared.failed(&failure).and_then(|()| {
            prove(&self.env, &self.dir, &suspect).map_err(|error| error.to_string())
        });
        match proved {
            Ok(()) => self.shared.healed(&reason),
            Err(why) => {
                self.shared.health.suspect(suspect);
                self.shared.read_only(format!("{reason}; {why}"));
            }
        }
    }

    fn prepare(&self, number: u64) {
        // It may fail before it is in use.
        self.shared.meters.segment_known(&segment_name(number));
        let attempt = || prepare(&self.env, &self.dir, number, self.bytes, &self.stop);
        let prepared = match attempt() {
            Err(failure) if failed_medium(&failure) => match self.shared.failed(&failure) {
                // No durable byte is concerned: another file is all it takes.
                Ok(()) => {
                    let again = attempt();
                    match &again {
                        // Want of room ends by itself; what failed before it stays to be seen.
                        Ok(_) => self.shared.healed(&failure.to_string()),
                        Err(second) if second.full() => self.shared.healed(&failure.to_string()),
                        Err(second) if failed_medium(second) => {
                            // Counts it, and knows why it is one too many.
                            let why = self.shared.failed(second).err().unwrap_or_default();
                            self.shared.read_only(format!("{second}; {why}"));
                        }
                        Err(_) => {}
                    }
                    again
                }
                Err(why) => {
                    self.shared.read_only(format!("{failure}; {why}"));
                    Err(failure)
                }
            },
            prepared => prepared,
        };
        let filled = match prepared {
            Ok(spare) => {
                self.shared.concern(Concern::NoRoom, None);
                Slot::Ready(spare)
            }
            Err(failure) if failure.source.kind() == io::ErrorKind::Interrupted => Slot::Empty,
            Err(failure) if failure.full() => {
                let reason = failure.to_string();
                tracing::warn!("no room for the next WAL segment: {reason}");
                let concern = format!("no room for the next segment: {reason}");
                self.shared.concern(Concern::NoRoom, Some(concern));
                Slot::Full(reason)
            }
            Err(_) => Slot::Broken,
        };
        *self.lock() = filled;
        self.changed.notify_all();
    }
}

/// Lets nobody wait for a thread that panicked: the log is read-only then, since what the thread knew
/// of the medium is lost.
struct Watch<'a>(&'a Bench);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shared.read_only("the thread that prepares segments panicked".into());
            *self.0.lock() = Slot::Broken;
            self.0.changed.notify_all();
        }
    }
}

/// Not one that asks for room or was told to stop.
fn failed_medium(failure: &Failure) -> bool {
    !failure.full() && failure.source.kind() != io::ErrorKind::Interrupted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stemedb_io::Env;
    use stemedb_io::sim::{SimVfs, world};

    use super::*;
    use crate::conformance::{LOG_ID, START_MS, TIMELINE, sample};
    use crate::{Expect, Log, Wal};

    /// The thread tells that the medium failed before it leaves the slot; a log that was mended in
    /// between goes on.
    #[test]
    fn a_failure_that_is_left_behind_after_mending_keeps_nobody_out() {
        let (_, _, env) = world(5, START_MS);
        let env = Env { vfs: Arc::new(SimVfs::new(5)), ..env };
        let config = WalConfig {
            segment_bytes: 16 * 4096,
            prepare_in_background: false,
            ..WalConfig::new("/data/wal")
        };
        let expect = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
        let (mut wal, _) = Wal::open(config, env, expect).expect("a new log");
        *wal.worker.bench.lock() = Slot::Broken;
        for n in 0..40 {
            wal.append(&[sample(n, 3_000)]).expect("a log that takes writes");
        }
        assert!(wal.shared_segments() > 2);
    }
}
