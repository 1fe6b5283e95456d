//! What the writer, its worker and the readers share: where the groups are, how far they are
//! durable, and whether the log still takes writes.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use stemedb_io::Env;
use stemedb_model::{LogId, Millis, Position, Timeline};

use crate::error::{Failure, LogError, LogState};
use crate::format::group::LostRange;
use crate::format::header::Fence;
use crate::health::{Concern, Health};
use crate::packed::FrameCache;
use crate::prove::{Suspect, prove};
use crate::removed::Removed;
use crate::segment::OpenSegment;
use crate::syncs::Syncs;
use crate::telemetry::Meters;
use crate::walk::{Cursor, Marks};

/// Reading ends keep this many segments open.
const OPEN_FILES: usize = 32;

/// A segment, for readers.
#[derive(Debug, Clone)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The first position it may hold.
    pub(crate) first: Position,
    /// Blocks from here on are not durable, or hold nothing.
    pub(crate) end: u32,
    /// `None` for a segment that was not read at the start.
    pub(crate) marks: Option<Marks>,
    /// When the last group before it was committed.
    pub(crate) since: Millis,
    /// Its file was packed when this was published; an open one goes by its own header.
    pub(crate) packed: bool,
}

pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) syncs: Arc<Syncs>,
    pub(crate) dir: PathBuf,
    pub(crate) meters: Meters,
    log: RwLock<Published>,
    pub(crate) health: Health,
    /// Recently read segments, newest last.
    files: Mutex<Vec<(u64, Arc<OpenSegment>)>>,
    /// Held while names of segments change under readers.
    names: Mutex<()>,
    /// Bytes of all segments in use.
    bytes: AtomicU64,
    /// Recently read frames of packed segments.
    pub(crate) frames: FrameCache,
    /// Where what was removed is read.
    pub(crate) removed: OnceLock<Arc<dyn Removed>>,
}

/// What readers may see.
pub(crate) struct Published {
    /// Set by the first group.
    pub(crate) identity: Option<(LogId, Timeline)>,
    /// After the newest durable group.
    pub(crate) end: Cursor,
    /// The first position that is here.
    pub(crate) floor: Position,
    /// By number.
    pub(crate) segments: Vec<SegmentEntry>,
    /// What repairs gave up, in order.
    pub(crate) lost: Vec<LostRange>,
}

impl Shared {
    pub(crate) fn new(
        env: Env,
        syncs: Arc<Syncs>,
        dir: PathBuf,
        meters: Meters,
        health: Health,
        published: Published,
        bytes: u64,
    ) -> Self {
        let shared = Self {
            env,
            syncs,
            dir,
            meters,
            log: RwLock::new(published),
            health,
            files: Mutex::new(Vec::new()),
            names: Mutex::new(()),
            bytes: AtomicU64::new(bytes),
            frames: FrameCache::default(),
            removed: OnceLock::new(),
        };
        shared.tell_state();
        shared.tell_space();
        shared.shrunk(0);
        shared
    }

    /// Looks at what is published. `look` must be short: appends wait for it.
    pub(crate) fn published<T>(&self, look: impl FnOnce(&Published) -> T) -> T {
        look(&self.log.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes what has become durable.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.log.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn state(&self) -> LogState {
        self.health.state()
    }

    /// Brings the metrics up to the state. After every change of it.
    pub(crate) fn tell_state(&self) {
        self.health.tell(|state, concerns| self.meters.state(state, concerns));
    }

    /// Brings the metrics up to how much room there is. Others fill the file system, too, so not only
    /// when the log has taken some.
    pub(crate) fn tell_space(&self) {
        // Once it is unmounted, the folder lies on another file system.
        if self.health.state() == LogState::Detached {
            return;
        }
        if let Ok(space) = self.env.vfs.space(&self.dir) {
            self.meters.space(space);
        }
    }

    /// The error of every write while the log takes none.
    pub(crate) fn refuse_if_closed(&self) -> Result<(), LogError> {
        match self.health.state() {
            LogState::ReadOnly { reason } => Err(LogError::ReadOnly { reason }),
            LogState::Detached => Err(LogError::Detached),
            LogState::Ok | LogState::Degraded { .. } => Ok(()),
        }
    }

    /// Counts a failure of the medium and says what follows. The file concerned is not believed
    /// again. `Ok` if the log may go on by itself, else why not.
    pub(crate) fn failed(&self, failure: &Failure) -> Result<(), String> {
        let syncs = failure.op.starts_with("sync").then(|| self.syncs.failures());
        let may_heal = self.health.may_heal(self.env.clock.monotonic(), syncs);
        self.meters.failed(failure, may_heal.as_ref().err().map(String::as_str));
        may_heal
    }

    pub(crate) fn read_only(&self, reason: String) {
        tracing::error!(reason, "the log is read-only; reads go on");
        self.health.read_only(reason);
        self.tell_state();
    }

    /// The medium failed and nothing is lost; stays until an operator acknowledges.
    pub(crate) fn healed(&self, reason: &str) {
        let reason = format!("healed: {reason}");
        tracing::warn!(reason, "the log is degraded until `stemedb admin wal acknowledge`");
        self.health.takes_writes();
        self.concern(Concern::Healed, Some(reason));
    }

    /// Notes something that an operator should look at, or that it is over.
    pub(crate) fn concern(&self, concern: Concern, reason: Option<String>) {
        self.health.concern(concern, reason);
        self.tell_state();
    }

    /// Proves what is not believed. The first segment that cannot be proved ends it.
    pub(crate) fn prove_suspects(&self) -> Result<(), LogError> {
        for suspect in self.health.suspects() {
            self.prove(&suspect)?;
        }
        Ok(())
    }

    fn prove(&self, suspect: &Suspect) -> Result<(), LogError> {
        prove(&self.env, &self.dir, suspect)?;
        tracing::info!(
            segment = suspect.name,
            position = suspect.end.last.0,
            "read back from the medium: every durable group is there"
        );
        self.health.proved(suspect.number);
        Ok(())
    }

    /// Closes the segments that readers keep open. `false` if a read holds one.
    pub(crate) fn close_files(&self) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(_, file)| Arc::strong_count(file) > 1);
        files.is_empty()
    }

    /// The log begins at `first`, in segment `number`; gives the numbers of those that are gone.
    pub(crate) fn publish_floor(&self, first: Position, number: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        self.publish(|log| {
            log.floor = first;
            let below = log.segments.extract_if(.., |segment| segment.number < number);
            gone.extend(below.map(|segment| segment.number));
        });
        gone
    }

    /// A name in the folder was changed, and it is not known whether that is durable.
    pub(crate) fn doubt_names(&self, op: &'static str, file: &str, source: io::Error) -> LogError {
        let failure = Failure { op, file: file.into(), offset: 0, source };
        let why = self.failed(&failure).err().unwrap_or_else(|| "names are in doubt".into());
        self.read_only(format!("{failure}; {why}"));
        failure.into()
    }

    /// One at a time gives names of segments to other files, or takes them away.
    pub(crate) fn lock_names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments in use have become longer.
    pub(crate) fn grown(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shrunk(0);
    }

    /// The segments in use have become shorter.
    pub(crate) fn shrunk(&self, bytes: u64) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let segments = self.published(|log| log.segments.len());
        self.meters.folder(segments as u64, before.saturating_sub(bytes));
    }

    /// The name of a segment has got another file, or is gone: the next read opens what is there.
    /// Whoever holds the old file goes on with it.
    pub(crate) fn forget(&self, number: u64) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(open, _)| *open != number);
    }

    /// A segment, opened for reading.
    pub(crate) fn file(&self, number: u64) -> Result<Arc<OpenSegment>, LogError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: once `close_files` has closed all, none is opened again.
        if self.health.state() == LogState::Detached {
            return Err(LogError::Detached);
        }
        if let Some(at) = files.iter().position(|(open, _)| *open == number) {
            let found = files.remove(at);
            let file = Arc::clone(&found.1);
            files.push(found);
            return Ok(file);
        }
        // Opened under the lock, so that a file that has lost its name is not kept after
        // `forget`.
        let file = Arc::new(OpenSegment::open(&*self.env.vfs, &self.dir, number)?);
        if files.len() >= OPEN_FILES {
            files.remove(0);
        }
        files.push((number, Arc::clone(&file)));
        Ok(file)
    }
}

impl Cursor {
    /// The fence of a segment that follows one with this number and salt and ends here.
    pub(crate) fn fence(&self, segment: u64, salt: u64) -> Fence {
        Fence {
            segment,
            salt,
            position: self.last,
            group: self.group,
            recorded_at: self.recorded_at,
            chain: self.chain,
        }
    }
}
