//! The reference: a log in memory, as simple as the contract allows. Nothing survives a restart.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stemedb_io::Clock;
use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

use crate::chain::{ChainHasher, chain_start};
use crate::entry::{Commit, Entry, NewEntry};
use crate::error::{LogError, LogState};
use crate::format::envelope::encode_head;
use crate::{Log, LogReader};

/// A log in memory. Its chain hashes are those that the WAL computes for the same groups.
#[derive(Debug)]
pub struct MemoryLog {
    clock: Clocked,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log_id: LogId,
    timeline: Timeline,
    inner: Mutex<Inner>,
    /// Groups that still succeed; `u64::MAX`: all.
    groups_left: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    /// Each group with the chain hash after it.
    groups: Vec<Vec<Entry>>,
    count: u64,
    recorded_at: Millis,
    chain: Hash,
    /// Why it takes no writes.
    failed: Option<String>,
    detached: bool,
}

struct Clocked(Arc<dyn Clock>);

impl std::fmt::Debug for Clocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(log_id: LogId, timeline: Timeline, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            groups: Vec::new(),
            count: 0,
            recorded_at: Millis(i64::MIN),
            chain: chain_start(log_id),
            failed: None,
            detached: false,
        };
        let shared = Shared {
            log_id,
            timeline,
            inner: Mutex::new(inner),
            groups_left: AtomicU64::new(u64::MAX),
        };
        Self { clock: Clocked(clock), shared: Arc::new(shared) }
    }

    /// A switch that can be kept while the log is owned elsewhere: called with `n`, it lets `n`
    /// more groups through; the one after them fails like a failed sync, and the log is read-only
    /// from then on.
    pub fn breaker(&self) -> impl Fn(u64) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |groups| shared.groups_left.store(groups, Ordering::SeqCst)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_if_closed(&self) -> Result<(), LogError> {
        match LogReader::state(self) {
            LogState::Detached => Err(LogError::Detached),
            LogState::ReadOnly { reason } => Err(LogError::ReadOnly { reason }),
            LogState::Ok | LogState::Degraded { .. } => Ok(()),
        }
    }
}

impl Log for MemoryLog {
    fn append(&mut self, group: &[NewEntry]) -> Result<Commit, LogError> {
        self.shared.refuse_if_closed()?;
        let mut inner = self.shared.lock();
        if group.is_empty() {
            return Err(LogError::Refused("a group without entries".into()));
        }
        match self.shared.groups_left.load(Ordering::SeqCst) {
            u64::MAX => {}
            0 => {
                let source = io::Error::other("failed as asked");
                inner.failed = Some(format!("sync memory: {source}"));
                return Err(LogError::Io { op: "sync", file: "memory".into(), offset: 0, source });
            }
            left => self.shared.groups_left.store(left - 1, Ordering::SeqCst),
        }
        let first = Position(inner.count).next();
        let recorded_at = Millis(self.clock.0.now_ms()).max(inner.recorded_at);
        let number = inner.groups.len() as u64 + 1;
        let mut chain = ChainHasher::new(inner.chain, number, first);
        let mut head = Vec::new();
        let mut entries = Vec::with_capacity(group.len());
        for (position, new) in (first.0..).map(Position).zip(group) {
            encode_head(new, position, position, recorded_at, &mut head);
            chain.head(&head);
            entries.push(Entry { position, registry: position, recorded_at, new: new.clone() });
        }
        inner.count += group.len() as u64;
        inner.recorded_at = recorded_at;
        inner.chain = chain.finish();
        inner.groups.push(entries);
        Ok(Commit { first, recorded_at })
    }

    fn seal(&mut self) -> Result<(), LogError> {
        self.shared.refuse_if_closed()
    }

    /// A failed medium of this kind does not come back.
    fn resume(&mut self) -> Result<Option<Commit>, LogError> {
        self.shared.refuse_if_closed().map(|()| None)
    }

    fn detach(&mut self) -> Result<(), LogError> {
        self.shared.lock().detached = true;
        Ok(())
    }

    fn attach(&mut self) -> Result<Option<Commit>, LogError> {
        self.shared.lock().detached = false;
        self.resume()
    }

    fn acknowledge(&mut self) -> Option<String> {
        None
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.shared) as Arc<dyn LogReader>
    }
}

impl LogReader for Shared {
    fn identity(&self) -> Option<(LogId, Timeline)> {
        (self.lock().count > 0).then_some((self.log_id, self.timeline))
    }

    fn durable(&self) -> (Position, Millis) {
        let inner = self.lock();
        (Position(inner.count), inner.recorded_at)
    }

    fn read(&self, position: Position) -> Result<Option<Entry>, LogError> {
        let inner = self.lock();
        let after =
            inner.groups.partition_point(|g| g.first().is_some_and(|e| e.position <= position));
        let group = after.checked_sub(1).and_then(|i| inner.groups.get(i));
        Ok(group.and_then(|g| g.iter().find(|e| e.position == position)).cloned())
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let mut next =
            self.lock().groups.partition_point(|g| g.last().is_some_and(|e| e.position < from));
        loop {
            // The lock is not held while the visitor runs: it may read from this log.
            let Some(group) = self.lock().groups.get(next).cloned() else {
                return Ok(());
            };
            next += 1;
            let group: Vec<Entry> = group.into_iter().filter(|e| e.position >= from).collect();
            if !visit(group)? {
                return Ok(());
            }
        }
    }

    fn root(&self) -> (Position, Hash) {
        let inner = self.lock();
        (Position(inner.count), inner.chain)
    }

    fn state(&self) -> LogState {
        let inner = self.lock();
        match &inner.failed {
            _ if inner.detached => LogState::Detached,
            Some(reason) => LogState::ReadOnly { reason: reason.clone() },
            None => LogState::Ok,
        }
    }
}
