//! What the writer, its worker and the readers share: where the groups are, how far they are
//! durable, and whether the log still takes writes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use stemedb_io::{Open, Vfs, VfsFile};
use stemedb_model::{LogId, Position, Timeline};

use crate::error::{LogError, LogState};
use crate::format::header::{Fence, segment_name};
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
}

pub(crate) struct Shared {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) meters: Meters,
    log: RwLock<Published>,
    state: Mutex<LogState>,
    /// Recently read segments, newest last.
    files: Mutex<Vec<(u64, Arc<dyn VfsFile>)>>,
}

/// What readers may see.
pub(crate) struct Published {
    /// Set by the first group.
    pub(crate) identity: Option<(LogId, Timeline)>,
    /// After the newest durable group.
    pub(crate) end: Cursor,
    /// By number.
    pub(crate) segments: Vec<SegmentEntry>,
}

impl Shared {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        meters: Meters,
        published: Published,
    ) -> Self {
        let shared = Self {
            vfs,
            dir,
            meters,
            log: RwLock::new(published),
            state: Mutex::new(LogState::Ok),
            files: Mutex::new(Vec::new()),
        };
        shared.meters.state(&LogState::Ok);
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

    fn lock_state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> LogState {
        self.lock_state().clone()
    }

    /// The error of every write once the log is read-only.
    pub(crate) fn refuse_if_read_only(&self) -> Result<(), LogError> {
        match &*self.lock_state() {
            LogState::ReadOnly { reason } => Err(LogError::ReadOnly { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    /// No file of the log is believed again after an error of write, sync, rename, allocate or
    /// close: the log is read-only from here on, in this process. The first reason stays.
    pub(crate) fn poison(&self, op: &'static str, file: &str, offset: u64, error: &std::io::Error) {
        self.meters.failed(op, file, offset, error);
        let mut state = self.lock_state();
        if !matches!(*state, LogState::ReadOnly { .. }) {
            let reason = format!("{op} of {file} at byte {offset} failed: {error}");
            *state = LogState::ReadOnly { reason };
            self.meters.state(&state);
        }
    }

    /// Says that an operator should look; `None`: no longer. A read-only log stays so.
    pub(crate) fn degrade(&self, reason: Option<String>) {
        let mut state = self.lock_state();
        if matches!(*state, LogState::ReadOnly { .. }) {
            return;
        }
        *state = reason.map_or(LogState::Ok, |reason| LogState::Degraded { reason });
        self.meters.state(&state);
    }

    /// A segment, opened for reading.
    pub(crate) fn file(&self, number: u64) -> Result<Arc<dyn VfsFile>, LogError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = files.iter().position(|(open, _)| *open == number) {
            let found = files.remove(at);
            let file = Arc::clone(&found.1);
            files.push(found);
            return Ok(file);
        }
        let name = segment_name(number);
        let opened = self.vfs.open(&self.dir.join(&name), Open::Read);
        let file: Arc<dyn VfsFile> = match opened {
            Ok(file) => file.into(),
            Err(source) => return Err(LogError::Io { op: "open", file: name, offset: 0, source }),
        };
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
