//! Writing the audit: batches into chained files, and what is done when the disk fails.
//!
//! A file under which a write or sync failed is never written again. What was not known to be
//! durable is written once more into a fresh file, whose first line says how much of the file
//! before it counts. The same is done after a start, so that a torn tail is never written over.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::{Env, Open, Vfs, VfsFile};
use stemedb_model::{Hash, LogId, Millis};
use tokio::sync::oneshot;

use super::chain::{ORIGIN, seal};
use super::entry::blank;
use super::shared::{Kept, Shared, State};
use super::walk::{Bad, Walk, header, numbers, open_file, path, walk};
use super::{AuditConfig, metrics};
use crate::wire::{AuditEntry, AuditFence, AuditHeader, AuditKind, HashHex, LogIdHex, Time};

/// Memory for entries that are not yet durable; past it they are dropped, and that is told.
const PENDING_BYTES_MAX: usize = 16 << 20;
/// With more than this, a sync does not wait for its time.
const PENDING_BYTES_SYNC: usize = 4 << 20;
/// Between two attempts to write after a failure: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// An entry that is not yet durable, and who waits until it is.
struct Pending {
    entry: AuditEntry,
    bytes: usize,
    waiter: Option<oneshot::Sender<bool>>,
}

/// The file that is written to.
struct Current {
    number: u64,
    file: Box<dyn VfsFile>,
    first: u64,
    /// What was written.
    length: u64,
    /// Whether its name is durable.
    named: bool,
}

/// Writes the files of one folder. Not shared: one task has it.
pub(super) struct Writer {
    env: Env,
    dir: PathBuf,
    data_dir: PathBuf,
    log_id: LogId,
    config: AuditConfig,
    shared: Arc<Shared>,
    /// Whether the folder and its name are known to be durable.
    dir_named: bool,
    /// Whether the files of earlier starts were looked at.
    recovered: bool,
    current: Option<Current>,
    /// The end of what is durable, if there is any file.
    fence: Option<AuditFence>,
    /// The highest number that a file has had.
    number: u64,
    /// The newest durable entry, and the chain there.
    durable: (u64, Hash),
    /// The newest written entry, and the chain there.
    written: (u64, Hash),
    pending: Vec<Pending>,
    pending_bytes: usize,
    /// How many of `pending` are in the file.
    in_file: usize,
    /// Reads that are not taken down, to be told by the next entry.
    missing: u64,
    /// Since when something is written and not synced, by the monotonic clock.
    unsynced: Option<Duration>,
    /// When to try again, and how long to wait after that.
    retry: Option<(Duration, Duration)>,
}

impl Writer {
    /// Looks at the files of earlier starts; a failure of that is tried again with the first entry.
    pub(super) fn open(
        env: &Env,
        data_dir: &Path,
        log_id: LogId,
        config: AuditConfig,
        shared: Arc<Shared>,
    ) -> Self {
        let mut writer = Self {
            env: env.clone(),
            dir: super::audit_dir(data_dir),
            data_dir: data_dir.into(),
            log_id,
            config,
            shared,
            dir_named: false,
            recovered: false,
            current: None,
            fence: None,
            number: 0,
            durable: (0, ORIGIN),
            written: (0, ORIGIN),
            pending: Vec::new(),
            pending_bytes: 0,
            in_file: 0,
            missing: 0,
            unsynced: None,
            retry: None,
        };
        if let Err(error) = writer.recover() {
            writer.failed(&error);
        }
        writer
    }

    /// Takes down what was read. What waits is told when it is durable, or that it will not be.
    pub(super) fn add(&mut self, entry: AuditEntry, waiter: Option<oneshot::Sender<bool>>) {
        let bytes = approximate_bytes(&entry);
        let full = |writer: &Self| {
            let held = writer.pending_bytes.saturating_add(bytes);
            held > PENDING_BYTES_MAX && !writer.pending.is_empty()
        };
        if full(self) && self.retry.is_none() {
            self.work();
        }
        if full(self) {
            self.missing += 1;
            metrics::dropped(1);
            tell(waiter, false);
            return;
        }
        self.pending_bytes += bytes;
        self.pending.push(Pending { entry, bytes, waiter });
    }

    /// Writes what was added, and syncs it if it is time or somebody waits.
    pub(super) fn work(&mut self) {
        self.missing += self.shared.take_dropped();
        let now = self.env.clock.monotonic();
        if self.retry.is_some_and(|(at, _)| now < at) {
            self.refuse();
            return;
        }
        // Once more at once, into a fresh file: most failures are of one file.
        let first = self.attempt(now);
        let Err(error) = first else { return };
        metrics::failed();
        self.give_up_file();
        tracing::warn!(%error, "the audit goes on in a fresh file");
        if let Err(error) = self.attempt(now) {
            metrics::failed();
            self.give_up_file();
            self.failed(&error);
            self.refuse();
        }
    }

    /// When there is something to do again though nobody asks.
    pub(super) fn due(&self) -> Option<Duration> {
        let retry = self.retry.map(|(at, _)| at);
        let sync = self.unsynced.map(|since| since + self.config.sync_every);
        let now = self.env.clock.monotonic();
        let nothing = self.pending.is_empty() && self.missing == 0 && !self.config.required;
        retry.filter(|_| !nothing).or(sync).map(|at| at.saturating_sub(now))
    }

    /// Makes everything durable, and says that the node stopped in an orderly way.
    pub(super) fn close(&mut self) {
        self.retry = None;
        self.config.sync_every = Duration::ZERO;
        self.work();
        if self.current.is_some() {
            // It says that all before it is durable: without it the last batch could be taken for
            // one that power cut short.
            self.add(blank(AuditKind::End, Millis(self.env.clock.now_ms())), None);
            self.work();
        }
        if let Some(current) = self.current.take()
            && let Err(error) = current.file.close()
        {
            tracing::warn!(%error, "the audit's file did not close well");
        }
    }

    fn attempt(&mut self, now: Duration) -> io::Result<()> {
        if !self.recovered {
            self.recover()?;
        }
        let waits = self.config.required
            || self.retry.is_some()
            || self.pending.iter().any(|one| one.waiter.is_some());
        if self.missing > 0 {
            let mut gap = blank(AuditKind::Gap, Millis(self.env.clock.now_ms()));
            gap.dropped = Some(std::mem::take(&mut self.missing));
            let bytes = approximate_bytes(&gap);
            self.pending_bytes += bytes;
            self.pending.push(Pending { entry: gap, bytes, waiter: None });
        }
        if self.in_file < self.pending.len() || self.retry.is_some() {
            self.write()?;
            self.unsynced.get_or_insert(now);
        }
        let due = self.unsynced.is_some_and(|since| now >= since + self.config.sync_every);
        if self.unsynced.is_some() && (due || waits || self.pending_bytes > PENDING_BYTES_SYNC) {
            self.sync()?;
        }
        // Whoever asked for a proof that the disk takes writes again has it.
        if self.retry.take().is_some() {
            self.shared.set_state(State::Ok);
        }
        Ok(())
    }

    /// Writes what is pending and not in the file yet.
    fn write(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        if self.current.is_none() {
            self.begin(&mut out)?;
        }
        let synced = self.durable.0;
        for pending in self.pending.iter_mut().skip(self.in_file) {
            let (id, chain) = &mut self.written;
            *id += 1;
            pending.entry.id = *id;
            pending.entry.synced = synced;
            *chain = seal(&mut out, chain, &pending.entry).map_err(io::Error::other)?;
        }
        self.in_file = self.pending.len();
        let Some(current) = &mut self.current else { return Ok(()) };
        current.file.write_at(&out, current.length)?;
        current.length += out.len() as u64;
        Ok(())
    }

    /// Makes a fresh file and its first line.
    fn begin(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.make_dir()?;
        let number = self.number + 1;
        let file = self.env.vfs.open(&path(&self.dir, number), Open::CreateNew);
        // Taken or not: this number is used up.
        self.number = number;
        let file = file?;
        let first = self.written.0 + 1;
        self.current = Some(Current { number, file, first, length: 0, named: false });
        let header = AuditHeader {
            chain: HashHex(ORIGIN),
            audit: super::AUDIT_FORMAT,
            file: number,
            log_id: LogIdHex(self.log_id),
            at: Time(Millis(self.env.clock.now_ms())),
            first,
            kept_from: self.shared.kept_from(self.config.room(), number),
            previous: self.fence,
        };
        self.written.1 = seal(out, &self.written.1, &header).map_err(io::Error::other)?;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.named {
            current.file.sync_data()?;
        } else {
            current.file.sync_all()?;
            self.env.vfs.sync_dir(&self.dir)?;
            current.named = true;
        }
        let (number, length, first) = (current.number, current.length, current.first);
        self.durable = self.written;
        let (last, chain) = self.durable;
        self.fence =
            Some(AuditFence { file: number, bytes: length, chain: HashHex(chain), cut: 0 });
        self.unsynced = None;
        self.in_file = 0;
        self.pending_bytes = 0;
        metrics::written(self.pending.len());
        self.shared.durable(Kept { number, first, bytes: length }, last, chain);
        for pending in self.pending.drain(..) {
            tell(pending.waiter, true);
        }
        // All is durable by now: what fails from here on costs room, not entries.
        if let Err(error) = self.remove_old(number) {
            tracing::warn!(%error, "old files of the audit are still there");
        }
        if length >= self.config.rotate_bytes
            && let Some(current) = self.current.take()
            && let Err(error) = current.file.close()
        {
            tracing::warn!(%error, "a file of the audit did not close well");
        }
        Ok(())
    }

    /// Removes what the header of the current file says is not kept any more.
    fn remove_old(&self, current: u64) -> io::Result<()> {
        let old = self.shared.before_kept();
        if old.is_empty() {
            return Ok(());
        }
        for number in old.into_iter().filter(|number| *number < current) {
            match self.env.vfs.remove_file(&path(&self.dir, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.shared.removed(number),
            }
        }
        self.env.vfs.sync_dir(&self.dir)
    }

    /// Turns its back on the file: what is not known to be durable will be written once more.
    fn give_up_file(&mut self) {
        if let Some(current) = self.current.take()
            && self.fence.is_none_or(|fence| fence.file != current.number)
        {
            // Nothing in it counts. If it cannot be removed, its bytes are void all the same.
            drop(current.file);
            let _ = self.env.vfs.remove_file(&path(&self.dir, current.number));
        }
        self.written = self.durable;
        self.in_file = 0;
        self.unsynced = None;
    }

    fn failed(&mut self, error: &io::Error) {
        let wait = self.retry.map_or(RETRY_FIRST, |(_, wait)| (wait * 2).min(RETRY_LAST));
        self.retry = Some((self.env.clock.monotonic() + wait, wait));
        let detail = format!("{}: {error}", self.dir.display());
        tracing::error!(%detail, "the audit cannot be written");
        self.shared.set_state(State::Failing(detail));
    }

    /// Tells all who wait that their read is not taken down; it is not answered then.
    fn refuse(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending.waiter {
                Some(waiter) => {
                    self.pending_bytes = self.pending_bytes.saturating_sub(pending.bytes);
                    tell(Some(waiter), false);
                }
                None => self.pending.push(pending),
            }
        }
    }

    /// The folder and its name, durable.
    fn make_dir(&mut self) -> io::Result<()> {
        // That it is there does not say so: an earlier attempt may have been cut short.
        if self.dir_named {
            return Ok(());
        }
        self.env.vfs.create_dir_all(&self.dir)?;
        for dir in self.dir.ancestors().skip(1) {
            self.env.vfs.sync_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
            if dir == self.data_dir {
                break;
            }
        }
        self.dir_named = true;
        Ok(())
    }

    /// Finds the end of the history that earlier starts left.
    fn recover(&mut self) -> io::Result<()> {
        let vfs = Arc::clone(&self.env.vfs);
        if !vfs.exists(&self.dir)? {
            self.recovered = true;
            return Ok(());
        }
        let found = survey(&*vfs, &self.dir)?;
        self.number = found.number;
        if let Some((file, walk, cut)) = &found.newest {
            self.durable = (walk.last, walk.chain);
            self.written = self.durable;
            let fence =
                AuditFence { file: *file, bytes: walk.end, chain: HashHex(walk.chain), cut: *cut };
            self.fence = Some(fence);
            if *cut > 0 {
                tracing::warn!(
                    file = super::walk::name(*file),
                    bytes = cut,
                    "a torn end of the audit does not count"
                );
            }
        }
        self.shared.found(found.kept, self.durable.0, self.durable.1);
        if let Some(bad) = found.damaged {
            let detail = format!("{}: {bad}; run `stemedb audit verify`", self.dir.display());
            tracing::error!(%detail, "the audit is damaged");
            self.shared.set_damaged(detail);
        }
        self.recovered = true;
        Ok(())
    }
}

/// What lies in the folder.
#[derive(Default)]
struct Survey {
    kept: Vec<Kept>,
    number: u64,
    /// The newest file that has a first line, and the bytes behind what counts in it and later.
    newest: Option<(u64, Walk, u64)>,
    /// The first bad place in it.
    damaged: Option<String>,
}

fn survey(vfs: &dyn Vfs, dir: &Path) -> io::Result<Survey> {
    let mut survey = Survey::default();
    let mut void = 0;
    for number in numbers(vfs, dir)?.into_iter().rev() {
        survey.number = survey.number.max(number);
        let (file, length) = open_file(vfs, &path(dir, number))?;
        match &survey.newest {
            None => {
                let Some(walk) = walk(&*file, length, None)? else {
                    void += length;
                    continue;
                };
                survey.kept.push(Kept { number, first: walk.first, bytes: walk.end });
                survey.damaged = walk.damaged.first().map(|bad| place(number, bad));
                let cut = walk.cut() + void;
                survey.newest = Some((number, walk, cut));
            }
            Some(_) => {
                // Its later neighbour says how much of it counts.
                let Some((header, _, _)) = header(&*file, length)? else { continue };
                survey.kept.push(Kept { number, first: header.first, bytes: length });
            }
        }
    }
    survey.kept.reverse();
    fence_in(vfs, dir, &mut survey.kept)?;
    Ok(survey)
}

/// Shortens every file to what the first line of its later neighbour says counts of it.
fn fence_in(vfs: &dyn Vfs, dir: &Path, kept: &mut Vec<Kept>) -> io::Result<()> {
    let mut counted: Vec<Kept> = Vec::with_capacity(kept.len());
    let mut wanted: Option<AuditFence> = None;
    for mut one in kept.drain(..).rev() {
        if let Some(fence) = wanted {
            // Files between the two are void.
            if fence.file < one.number {
                continue;
            }
            if fence.file == one.number {
                one.bytes = one.bytes.min(fence.bytes);
            }
        }
        let (file, length) = open_file(vfs, &path(dir, one.number))?;
        wanted = header(&*file, length)?.and_then(|(header, _, _)| header.previous);
        counted.push(one);
    }
    counted.reverse();
    *kept = counted;
    Ok(())
}

/// A bad place, for people.
pub(super) fn place(file: u64, bad: &Bad) -> String {
    let Bad { byte, line, id } = bad;
    let name = super::walk::name(file);
    format!("{name}, line {line}, byte {byte}: entry {id} is not as it was written")
}

fn tell(waiter: Option<oneshot::Sender<bool>>, durable: bool) {
    if let Some(waiter) = waiter {
        // Whoever has gone need not know.
        let _ = waiter.send(durable);
    }
}

fn approximate_bytes(entry: &AuditEntry) -> usize {
    let question = entry.question.as_ref().map_or(0, json_bytes);
    let told: usize = entry
        .told
        .iter()
        .map(|told| 128 + told.winners.iter().map(json_bytes).sum::<usize>())
        .sum();
    512 + question + told
}

fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value as Json;
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 24,
        Json::String(text) => 24 + text.len(),
        Json::Array(items) => 24 + items.iter().map(json_bytes).sum::<usize>(),
        Json::Object(fields) => {
            24 + fields
                .iter()
                .map(|(name, value)| 48 + name.len() + json_bytes(value))
                .sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests;
