//! The audit of reads: who asked what, and was told what.
//!
//! Handlers know nothing of it. A middleware sees the question and the answer pass, and hands both
//! to one task, which hashes, looks into them and writes: chained lines in rotated files under
//! `<data_dir>/node/audit`, in batches. The format is `docs/format/audit.md`, the reasons are
//! `docs/decisions/2026-11-29-audit.md`.

pub(crate) mod chain;
mod entry;
mod metrics;
mod reader;
mod shared;
mod verify;
mod walk;
mod watch;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stemedb_io::{Env, Vfs};
use stemedb_model::{Hash, LogId};
use tokio::sync::{mpsc, oneshot};

pub(crate) use entry::Observed;
pub(crate) use reader::Filter;
pub use verify::{AuditFile, AuditFinding, AuditReport, verify};

/// The chain at an entry of a folder of the audit, if the entry is there. Whether the files are
/// whole, [`verify`] says.
pub fn chain_at(vfs: &dyn Vfs, dir: &Path, entry: u64) -> io::Result<Option<Hash>> {
    reader::chain_at(vfs, dir, entry)
}

pub(crate) use watch::{Note, watch};

use crate::error::{ApiError, ApiResult};
use crate::wire::{AuditEntry, AuditHealth, ErrorCode, HashHex};
use shared::{Shared, State};
use writer::Writer;

/// Version of the files.
pub const AUDIT_FORMAT: u64 = 1;
/// Reads that wait to be taken down.
const QUEUE: usize = 8_192;
/// Memory that they may hold, their answers included.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Reads that are written together.
const BATCH: usize = 1_024;
/// How long reads are gathered before they are written, where nobody waits for that.
const GATHER: Duration = Duration::from_millis(50);
/// How long the last ones may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which reads are taken down, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// Whether reads are taken down. Default true.
    pub enabled: bool,
    /// Whether a read is answered only once it is durably taken down, and refused where it cannot
    /// be. Default false: then the audit never stops a read, and says how many it lacks.
    pub required: bool,
    /// The endpoints whose reads are taken down, some of [`AuditConfig::ENDPOINTS`]. Default all.
    pub endpoints: Vec<String>,
    /// A file that is longer is closed, and another begun. Default 16 MiB, 64 KiB to 1 GiB.
    pub rotate_bytes: u64,
    /// How much is kept: the oldest files go. Default 1 GiB, at least twice `rotate_bytes`; 0:
    /// nothing goes.
    pub keep_bytes: u64,
    /// How long an entry that nobody waits for may be written but not durable. Default 1 s, at
    /// most 60 s.
    pub sync_every: Duration,
}

impl AuditConfig {
    /// Every endpoint that tells of records or of answers.
    pub const ENDPOINTS: [&'static str; 17] = [
        "/v1/assertions/{id}",
        "/v1/audit/queries",
        "/v1/audit/query/{id}",
        "/v1/conflicts",
        "/v1/explain",
        "/v1/export",
        "/v1/feed",
        "/v1/layered",
        "/v1/positions/{position}",
        "/v1/query",
        "/v1/records/{id}",
        "/v1/replay",
        "/v1/resolve",
        "/v1/skeptic",
        "/v1/trace/{id}",
        "/v1/trust/{agent}",
        "/v1/whatif",
    ];

    /// Every bound that fails, a sentence each that begins with the key.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(64 << 10..=1 << 30).contains(&self.rotate_bytes) {
            let found = self.rotate_bytes;
            problems.push(format!("audit.rotate_bytes is {found}, expected 65536 to 1073741824"));
        }
        let least = self.rotate_bytes.saturating_mul(2);
        if self.keep_bytes > 0 && self.keep_bytes < least {
            problems.push(format!(
                "audit.keep_bytes is {}, expected 0 or at least twice audit.rotate_bytes ({least})",
                self.keep_bytes
            ));
        }
        if self.sync_every > Duration::from_secs(60) {
            let ms = self.sync_every.as_millis();
            problems.push(format!("audit.sync_ms is {ms}, expected 0 to 60000"));
        }
        if self.required && !self.enabled {
            problems.push("audit.required is true, but audit.enabled is false".into());
        }
        for name in &self.endpoints {
            if !Self::ENDPOINTS.contains(&name.as_str()) {
                let known = Self::ENDPOINTS.join(", ");
                problems.push(format!("audit.endpoints names {name:?}, expected some of {known}"));
            }
        }
        problems
    }

    /// What may lie beside a file that is begun.
    fn room(&self) -> Option<u64> {
        (self.keep_bytes > 0).then(|| self.keep_bytes.saturating_sub(self.rotate_bytes))
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            required: false,
            endpoints: Self::ENDPOINTS.iter().map(|name| (*name).to_owned()).collect(),
            rotate_bytes: 16 << 20,
            keep_bytes: 1 << 30,
            sync_every: Duration::from_secs(1),
        }
    }
}

/// The folder of the audit.
pub fn audit_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("audit")
}

enum Message {
    Read(Box<Observed>, Option<oneshot::Sender<bool>>),
    Close(oneshot::Sender<()>),
}

/// What handlers and the middleware have of the audit.
pub(crate) struct Audit {
    config: AuditConfig,
    env: Env,
    dir: PathBuf,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    /// Memory of what is in the queue.
    queued: Arc<AtomicUsize>,
    /// Taken by the task that writes.
    work: Mutex<Option<(Writer, mpsc::Receiver<Message>)>>,
}

impl Audit {
    /// Looks at what earlier starts left. Nothing that is wrong with it keeps the node from
    /// starting.
    pub(crate) fn open(env: &Env, data_dir: &Path, log_id: LogId, config: &AuditConfig) -> Self {
        metrics::describe();
        metrics::state(config.enabled);
        let shared = Arc::new(Shared::new());
        let writer = Writer::open(env, data_dir, log_id, config.clone(), Arc::clone(&shared));
        let (queue, reads) = mpsc::channel(QUEUE);
        Self {
            config: config.clone(),
            env: env.clone(),
            dir: audit_dir(data_dir),
            shared,
            queue,
            queued: Arc::default(),
            work: Mutex::new(Some((writer, reads))),
        }
    }

    /// Whether reads of this endpoint are taken down.
    fn covers(&self, endpoint: &str) -> bool {
        self.config.enabled && self.config.endpoints.iter().any(|name| name == endpoint)
    }

    /// Refuses a read that could not be taken down, if it must be.
    fn admit(&self) -> ApiResult<()> {
        match self.shared.failing() {
            Some(detail) if self.config.required => Err(unavailable(&detail)),
            _ => Ok(()),
        }
    }

    /// Takes a read down. Where that is required, returns once it is durable, or after the bound.
    async fn take_down(&self, read: Observed, bound: Duration) -> ApiResult<()> {
        let bytes = read.bytes();
        let held = self.queued.fetch_add(bytes, Ordering::Relaxed);
        let full = held > 0 && held.saturating_add(bytes) > QUEUE_BYTES_MAX;
        if !self.config.required {
            let message = Message::Read(Box::new(read), None);
            if full || self.queue.try_send(message).is_err() {
                self.queued.fetch_sub(bytes, Ordering::Relaxed);
                self.shared.drop_one();
            }
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        let message = Message::Read(Box::new(read), Some(tell));
        if full || self.queue.try_send(message).is_err() {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            return Err(unavailable("more reads wait to be taken down than there is room for"));
        }
        match tokio::time::timeout(bound, told).await {
            Ok(Ok(true)) => Ok(()),
            Err(_) => Err(unavailable(&format!("not durable within {} ms", bound.as_millis()))),
            Ok(Ok(false) | Err(_)) => {
                let detail = self.shared.failing();
                Err(unavailable(detail.as_deref().unwrap_or("the read could not be taken down")))
            }
        }
    }

    /// Writes what is taken down, until [`Audit::close`]. Only the first call does anything.
    pub(crate) async fn run(self: Arc<Self>) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((mut writer, mut reads)) = work else { return };
        loop {
            let mut batch = Vec::new();
            match writer.due() {
                None => drop(reads.recv_many(&mut batch, BATCH).await),
                Some(due) => {
                    // What is due is due whether or not anything comes.
                    let _ = tokio::time::timeout(due, reads.recv_many(&mut batch, BATCH)).await;
                }
            }
            let alone = batch.iter().all(|one| matches!(one, Message::Read(_, None)));
            if alone && !batch.is_empty() && batch.len() < BATCH {
                tokio::time::sleep(GATHER).await;
                while batch.len() < BATCH
                    && let Ok(more) = reads.try_recv()
                {
                    batch.push(more);
                }
            }
            let queued = Arc::clone(&self.queued);
            let worked = tokio::task::spawn_blocking(move || {
                let mut closing = Vec::new();
                for message in batch {
                    match message {
                        Message::Read(read, waiter) => {
                            queued.fetch_sub(read.bytes(), Ordering::Relaxed);
                            writer.add(read.entry(), waiter);
                        }
                        Message::Close(done) => closing.push(done),
                    }
                }
                writer.work();
                if !closing.is_empty() {
                    writer.close();
                }
                (writer, closing)
            });
            match worked.await {
                Ok((back, closing)) if closing.is_empty() => writer = back,
                Ok((_, closing)) => {
                    for done in closing {
                        // Whoever has stopped waiting need not know.
                        let _ = done.send(());
                    }
                    return;
                }
                Err(error) => {
                    // Ours is the fault; reads that must be taken down are refused from now on.
                    let detail = format!("the task that writes the audit broke off: {error}");
                    tracing::error!(%detail);
                    self.shared.set_state(State::Failing(detail));
                    return;
                }
            }
        }
    }

    /// Makes durable what is taken down, at the end of the node.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let close = async {
            let sent = self.queue.send(Message::Close(done)).await;
            if sent.is_ok() {
                // An end of the task is an end, too.
                let _ = closed.await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            tracing::warn!("the end of the audit is not known to be durable");
        }
    }

    /// A page of entries, newest first, of those before a number.
    pub(crate) fn list(
        &self,
        filter: &Filter,
        before: u64,
        limit: usize,
    ) -> ApiResult<(Vec<AuditEntry>, Option<u64>)> {
        let files = self.shared.now().files;
        reader::list(&*self.env.vfs, &self.dir, &files, filter, before, limit)
            .map_err(|error| self.unreadable(&error))
    }

    /// One entry.
    pub(crate) fn find(&self, id: u64) -> ApiResult<Option<AuditEntry>> {
        let files = self.shared.now().files;
        reader::find(&*self.env.vfs, &self.dir, &files, id).map_err(|error| self.unreadable(&error))
    }

    /// The newest entry that can be read.
    pub(crate) fn last(&self) -> u64 {
        self.shared.now().last
    }

    fn unreadable(&self, error: &io::Error) -> ApiError {
        let detail = format!("{}: {error}", self.dir.display());
        tracing::error!(%detail, "the audit cannot be read");
        unavailable(&detail)
    }

    /// What health shows.
    pub(crate) fn health(&self) -> AuditHealth {
        let now = self.shared.now();
        let (state, detail) = match (now.state, now.damaged) {
            (State::Failing(detail), _) if self.config.enabled => ("failing", Some(detail)),
            (_, Some(detail)) => ("damaged", Some(detail)),
            (State::Ok | State::Failing(_), None) if self.config.enabled => ("ok", None),
            (State::Ok | State::Failing(_), None) => ("off", None),
        };
        AuditHealth {
            state: state.to_owned(),
            required: self.config.required,
            detail,
            last: now.last,
            chain: HashHex(now.chain),
        }
    }
}

fn unavailable(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::AuditUnavailable, format!("the audit of reads: {detail}"))
}
