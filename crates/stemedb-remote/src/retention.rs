//! Lets old segments of a log go, once each of them is safe in two places: in the archive, read back
//! from there now and compared to the last byte, and in a backup whose restore was verified.
//!
//! ```text
//! backup create ─▶ backup verify --deep ─▶ note, signed ─┐
//! archiver ─▶ parts ─▶ read back now, chain hash ────────┴▶ proof ─▶ floor, durable ─▶ files go
//! ```
//!
//! Whatever is missing for that is said, and everything stays.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_io::{Env, Open};
use stemedb_log::{ArchiveProof, Cutter, Link, Trimmed, Trimmer};
use stemedb_model::{AgentId, Position};

use crate::catalogue::History;
use crate::error::RemoteError;
use crate::restore::{Needed, fetch, patiently};
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::verified::{still_whole, verified_restores};

/// How often it is looked whether a backup was verified here since.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is tried in any case.
const TRY_EVERY: Duration = Duration::from_secs(3_600);
/// The note of a node on the last verified backup is no longer.
const NOTE_BYTES_MAX: usize = 8 << 10;

/// What the segments of a log are compared with before they go.
pub struct Retention {
    /// Removes them.
    pub trimmer: Trimmer,
    /// Tells what the log is.
    pub cutter: Cutter,
    /// Where the log is archived.
    pub archive: Arc<dyn Store>,
    /// Where its backups are.
    pub backups: Arc<dyn Store>,
    /// Whose word that a restore was verified is believed.
    pub keys: Vec<AgentId>,
    /// Clock and files.
    pub env: Env,
}

/// What a look came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What was removed.
    pub removed: Vec<String>,
    /// The first position that is here.
    pub first: Position,
    /// Why no more was, if there was more that could go.
    pub kept: Option<String>,
}

/// A backup that was restored and compared: it goes up to here.
struct Covered {
    backup: String,
    upto: Position,
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retention").field("trimmer", &self.trimmer).finish_non_exhaustive()
    }
}

impl Retention {
    /// Removes what may go now. Reads all of it back from the archive first.
    pub fn look(&mut self) -> Result<Looked, RemoteError> {
        let left = self.trimmer.remove_left()?;
        let mut looked = Looked { removed: left.removed, first: left.first, kept: None };
        let removable = self.trimmer.removable();
        let Some(oldest) = removable.first() else { return Ok(looked) };
        let Some(covered) = self.covered()? else {
            looked.kept = Some(format!(
                "no backup at {} was restored and compared: run `stemedb backup create`, then `stemedb \
                 backup verify --deep`",
                self.backups.place()
            ));
            return Ok(looked);
        };
        let within = removable.iter().rev().find(|segment| segment.last <= covered.upto);
        let Some(last) = within else {
            let Covered { backup, upto } = covered;
            looked.kept = Some(format!(
                "backup {backup}, the newest that was restored and compared, goes up to {upto}; the oldest \
                 segment here goes up to {}",
                oldest.last
            ));
            return Ok(looked);
        };
        let ends: Vec<Position> = removable.iter().map(|segment| segment.last).collect();
        let (proved, kept) = self.read_back(&ends, last.last)?;
        looked.kept = kept;
        if let Some(proved) = proved {
            let (log_id, timeline) = self.trimmer.identity();
            let proof = ArchiveProof::new(log_id, timeline, proved.position, proved.chain);
            let Trimmed { first, removed, .. } = self.trimmer.trim(&proof)?;
            looked.first = first;
            looked.removed.extend(removed);
        }
        Ok(looked)
    }

    /// The newest backup that was verified, is whole, and is of this log.
    fn covered(&mut self) -> Result<Option<Covered>, RemoteError> {
        let (log_id, _) = self.trimmer.identity();
        for (note, signer) in verified_restores(&*self.backups, &self.env, log_id)? {
            if !self.keys.contains(&signer) {
                tracing::warn!(backup = note.backup, %signer, "who says that it was verified is not known here");
                continue;
            }
            // Another history, or older than what is here.
            if self.cutter.seek(note.end.position).ok() != Some(note.end) {
                continue;
            }
            match still_whole(&*self.backups, &self.env, &note) {
                Ok(()) => {
                    return Ok(Some(Covered { backup: note.backup, upto: note.end.position }));
                }
                Err(RemoteError::Store(error)) if !matches!(error, StoreError::Missing { .. }) => {
                    return Err(error.into());
                }
                // Pruned since, or damaged.
                Err(error) => {
                    tracing::warn!(%error, backup = note.backup, "a verified backup is no more")
                }
            }
        }
        Ok(None)
    }

    /// Reads the parts from where the log begins up to `upto`, and gives the last of `ends` that they
    /// lead to; why not further, if that is so.
    fn read_back(
        &mut self,
        ends: &[Position],
        upto: Position,
    ) -> Result<(Option<Link>, Option<String>), RemoteError> {
        let (log_id, timeline) = self.trimmer.identity();
        let history = patiently(&self.env, || History::load(&*self.archive, log_id, timeline))?;
        let Some(history) = history else {
            return Ok((
                None,
                Some(format!("{} holds no archive of this log", self.archive.place())),
            ));
        };
        let before = Position(self.trimmer.first_kept().0.saturating_sub(1));
        let mut at = self.cutter.seek(before)?;
        let mut proved = None;
        for placed in history.parts.iter().filter(|part| part.entry.content.last() > before) {
            let content = &placed.entry.content;
            if content.last() > upto {
                break;
            }
            if content.start != at {
                let name = placed.name();
                return Ok((
                    proved,
                    Some(format!("{name} does not go on from position {}", at.position)),
                ));
            }
            let needed = Needed { name: placed.name(), entry: placed.entry.clone() };
            match fetch(&*self.archive, &self.env, &needed) {
                Ok(_) => at = content.end,
                Err(RemoteError::Store(error)) if !matches!(error, StoreError::Missing { .. }) => {
                    return Err(error.into());
                }
                Err(error) => {
                    return Ok((proved, Some(format!("the archive is damaged: {error}"))));
                }
            }
            if ends.contains(&at.position) {
                proved = Some(at);
            }
        }
        let short = at.position < upto;
        let why = || format!("the archive goes up to position {} only", at.position);
        Ok((proved, short.then(why)))
    }
}

/// Looks now and then, on a thread. Ends when it is dropped, after the request that it is making.
pub struct RetentionHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: Mutex<bool>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RetentionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetentionHandle").finish_non_exhaustive()
    }
}

impl Drop for RetentionHandle {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.changed.notify_all();
    }
}

impl Retention {
    /// Starts a thread that looks every hour, and soon after the file `note` has changed: the note that a
    /// backup was verified on this machine.
    pub fn start(self, note: PathBuf) -> Result<RetentionHandle, RemoteError> {
        telemetry::register_retention();
        telemetry::first_kept(self.trimmer.first_kept());
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("retention".into())
            .spawn(move || self.run(&own, &note));
        thread.map_err(|source| RemoteError::File {
            act: "start",
            file: "a thread".into(),
            source,
        })?;
        Ok(RetentionHandle { shared })
    }

    fn run(mut self, shared: &Shared, note: &std::path::Path) {
        let mut seen: Option<Vec<u8>> = None;
        let mut due = Duration::ZERO;
        let mut told = None;
        loop {
            let now = self.env.clock.monotonic();
            let there = read_note(&self.env, note);
            if now >= due || there != seen {
                due = now + TRY_EVERY;
                seen = there;
                match self.look() {
                    Ok(looked) => tell(looked, &mut told),
                    Err(error) => {
                        telemetry::failed(&error);
                        tracing::error!(%error, "cannot see which segments may go; they stay");
                    }
                }
            }
            let stop = shared.lock();
            let waited = shared.changed.wait_timeout_while(stop, LOOK_EVERY, |stop| !*stop);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
        }
    }
}

/// Says what a look came to, and why nothing more goes once for each reason.
fn tell(looked: Looked, told: &mut Option<String>) {
    let Looked { removed, first, kept } = looked;
    if !removed.is_empty() {
        telemetry::removed(removed.len());
        tracing::warn!(
            first = first.0,
            files = removed.join(", "),
            "removed what is safe elsewhere"
        );
    }
    telemetry::first_kept(first);
    if let Some(kept) = &kept
        && *told != Some(kept.clone())
    {
        tracing::info!("segments stay: {kept}");
    }
    *told = kept;
}

fn read_note(env: &Env, path: &std::path::Path) -> Option<Vec<u8>> {
    let file = env.vfs.open(path, Open::Read).ok()?;
    let mut bytes = vec![0; NOTE_BYTES_MAX];
    let read = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(read);
    Some(bytes)
}
