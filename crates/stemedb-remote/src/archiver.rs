//! Copies a log to a store while it is written: parts first, each read back and compared, then the
//! manifest that names them. Nothing is ever overwritten, and nothing is in the archive before a
//! manifest says so.
//!
//! Where an upload breaks off it is done again, with the same bytes under the same name. A start
//! goes on behind the newest manifest, after comparing the log root there with that of the log here;
//! an archive of another history is never written to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_io::{Clock, Env, Open, replace};
use stemedb_log::{Cutter, Link, LogError, Part};
use stemedb_model::{AgentId, Hash, LogId, Millis, Position, SigningKey, Timeline};

use crate::catalogue::{Catalogue, History, Placed, Problem};
use crate::codec::{BadManifest, believe, hash};
use crate::encrypt::Context;
use crate::error::RemoteError;
use crate::manifest::{CHECKPOINT_EVERY, MANIFEST_BYTES_MAX, Manifest, Parent, PartEntry};
use crate::names;
use crate::scrub::Scrub;
use crate::status::{check_part, listed, missing_parts};
use crate::store::{Put, Store, StoreError, probe};
use crate::telemetry;

/// The first wait after a failure; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure, unless asked otherwise.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// How often it is looked whether there is something to do, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A delay of zero is one of this.
const LOOK_LEAST: Duration = Duration::from_millis(10);
/// Objects of one name that may turn out to hold something else before it is given up.
const COPIES_MAX: u64 = 5;

/// Settings of an archiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// The newest records are archived after this long at most. Sealed segments go at once.
    pub delay: Duration,
    /// About how long a part is before compression. One group is never divided.
    pub part_bytes: u64,
    /// The longest wait after a failure.
    pub retry_most: Duration,
    /// How often all parts are looked for in the store.
    pub audit_every: Duration,
    /// Within this each part is read again and compared; zero: none is.
    pub scrub_every: Duration,
    /// Where it is noted what the archive held last: a file of this node.
    pub note: PathBuf,
    /// Whose manifests are believed besides those of this node.
    pub keys: Vec<AgentId>,
}

impl ArchiveConfig {
    /// The defaults.
    pub fn new(note: impl Into<PathBuf>) -> Self {
        Self {
            delay: Duration::from_secs(10),
            part_bytes: 16 << 20,
            retry_most: RETRY_MOST,
            audit_every: Duration::from_secs(24 * 3_600),
            scrub_every: Duration::from_secs(30 * 24 * 3_600),
            note: note.into(),
            keys: Vec::new(),
        }
    }
}

/// What an archiver is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ArchiveState {
    /// It compares the archive with the log.
    #[default]
    Starting,
    /// It archives what comes.
    Running,
    /// It could not go on and tries again.
    Failing {
        /// Why.
        problem: String,
    },
    /// It cannot go on before somebody looks.
    Stopped {
        /// Why, and what to do.
        problem: String,
    },
}

impl ArchiveState {
    /// The name in answers and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Failing { .. } => "failing",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// An archiver at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveProgress {
    /// What it is doing.
    pub state: ArchiveState,
    /// Everything up to here is in the archive.
    pub archived: Position,
    /// Newest durable position.
    pub durable: Position,
    /// Bytes of the log that are not archived, about.
    pub lag_bytes: u64,
    /// How long ago the oldest record that is not archived was committed.
    pub lag: Duration,
    /// The positions on their way now.
    pub uploading: Option<(Position, Position)>,
    /// Parts that were found missing in the store or damaged there, and how many of them were put there
    /// again.
    pub lost_parts: u64,
    /// See `lost_parts`.
    pub replaced_parts: u64,
    /// What was found wrong with the archive and could not be put right: parts that are lost, damaged or
    /// cannot be read, manifests, positions that are in no part.
    pub problems: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something; there may be more.
    Worked,
    /// Nothing is to be done before something happens.
    Idle,
}

/// Archives one log.
pub struct Archiver {
    store: Arc<dyn Store>,
    cutter: Cutter,
    key: SigningKey,
    env: Env,
    config: ArchiveConfig,
    shared: Arc<Shared>,
    identity: (LogId, Timeline),
    known: Option<Known>,
    /// Cut and not yet named by a manifest.
    pending: Option<Part>,
    /// When something was first seen to wait.
    waiting_since: Option<Duration>,
    /// The last position before what waits, and when the first record of that was committed.
    oldest: Option<(Position, Millis)>,
    audit_at: Duration,
    /// What the last audit could not put right.
    left: u64,
    scrub: Scrub,
}

/// The archive as this archiver knows it.
struct Known {
    /// The newest manifest.
    newest: Option<(u64, Hash)>,
    /// The number for the next one, and those below it that are void.
    number: u64,
    void: Vec<u64>,
    parent: Option<Parent>,
    end: Link,
    ended_at: Millis,
    since_checkpoint: (Vec<PartEntry>, Vec<u64>),
}

/// What the archiver and its handle share.
#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    progress: ArchiveProgress,
    stop: bool,
    /// Archive what there is up to here, whatever its age.
    flush: Position,
}

impl Inner {
    fn flushes(&self) -> bool {
        self.progress.archived < self.flush && self.progress.state == ArchiveState::Running
    }
}

impl std::fmt::Debug for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archiver").field("store", &self.store.place()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archiver {
    /// An archiver of the log that `cutter` reads, which has a first record. Asks nothing yet.
    pub fn new(
        store: Arc<dyn Store>,
        cutter: Cutter,
        key: SigningKey,
        env: Env,
        config: ArchiveConfig,
    ) -> Result<Self, RemoteError> {
        let identity = cutter.identity().ok_or_else(|| {
            RemoteError::Refused("a log without a first record cannot be archived".into())
        })?;
        telemetry::register();
        let scrub = Scrub::new(config.scrub_every);
        Ok(Self {
            store,
            cutter,
            key,
            env,
            config,
            shared: Arc::default(),
            identity,
            known: None,
            pending: None,
            waiting_since: None,
            oldest: None,
            audit_at: Duration::ZERO,
            left: 0,
            scrub,
        })
    }

    /// What it is doing.
    pub fn progress(&self) -> ArchiveProgress {
        self.shared.lock().progress.clone()
    }

    /// Does one thing: begins, looks after the archive, or archives one part.
    pub fn step(&mut self) -> Result<Step, RemoteError> {
        let result = self.work();
        self.tell(result.as_ref().err());
        result
    }

    fn work(&mut self) -> Result<Step, RemoteError> {
        if self.known.is_none() {
            self.begin()?;
            return Ok(Step::Worked);
        }
        if self.env.clock.monotonic() >= self.audit_at {
            self.audit()?;
            self.audit_at = self.env.clock.monotonic() + self.config.audit_every;
            return Ok(Step::Worked);
        }
        if self.pending.is_none() {
            if !self.due() {
                return self.read_again();
            }
            self.pending = self.cutter.next(self.config.part_bytes)?;
            self.waiting_since = None;
        }
        let Some(part) = self.pending.clone() else { return Ok(Step::Idle) };
        let end = self.known.as_ref().map(|known| known.end);
        if end != Some(part.content.start) {
            return Err(self.look_again("a part does not begin where it ends".into()));
        }
        let (first, last) = (part.content.first(), part.content.last());
        self.shared.lock().progress.uploading = Some((first, last));
        let entry = self.upload(&part)?;
        self.name(vec![entry], part.content.end, part.content.ended_at)?;
        telemetry::archived(part.bytes.len() as u64);
        self.pending = None;
        self.shared.lock().progress.uploading = None;
        Ok(Step::Worked)
    }

    /// Whether what waits is to be archived now.
    fn due(&mut self) -> bool {
        let waiting = self.cutter.waiting();
        if waiting.positions == 0 {
            self.waiting_since = None;
            // A segment that was left without a record is passed, too.
            return false;
        }
        let now = self.env.clock.monotonic();
        let since = *self.waiting_since.get_or_insert(now);
        let flush = self.shared.lock().flushes();
        let old = now.saturating_sub(since) >= self.config.delay;
        flush || waiting.sealed || old || waiting.bytes >= self.config.part_bytes
    }

    /// Compares the archive with the log and finds the place to go on.
    fn begin(&mut self) -> Result<(), RemoteError> {
        let (log_id, timeline) = self.identity;
        let note = Noted::load(&self.env, &self.config.note).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read how far the archive was");
            telemetry::failed(&error);
            None
        });
        let note = note.filter(|note| note.is_of(&*self.store, self.identity));
        if let Some(note) = &note
            && self.store.folders(&names::branch(log_id, timeline))?.is_empty()
        {
            // Before anything is put: it may be a mount point.
            return Err(RemoteError::Refused(format!(
                "{} holds nothing of this log, and this node has archived up to position {} there: see \
                 that it is mounted and the address is right; to archive everything again, remove {}",
                self.store.place(),
                note.position,
                self.config.note.display()
            )));
        }
        probe(&*self.store, &*self.env.rng)?;
        let after = note.as_ref().map_or(0, |note| note.number);
        let found = Catalogue::load_after(&*self.store, log_id, timeline, after)?;
        let newest = found.as_ref().map_or(0, |found| found.newest.0);
        if let Some(note) = &note
            && (newest < note.number)
        {
            tracing::error!(
                noted = note.number,
                found = newest,
                "the archive has lost its newest manifests; what they named is archived again"
            );
            telemetry::lost(note.number - newest);
            self.shared.lock().progress.lost_parts += note.number - newest;
        }
        // What a lost tail leaves may begin before the checkpoint that was looked behind.
        let found = match found {
            None if after > 0 => Catalogue::load(&*self.store, log_id, timeline)?,
            found => found,
        };
        let known = match found {
            Some(found) => {
                self.believe(&found.keys)?;
                let void = (found.newest.0 + 1..=found.taken).collect();
                Known {
                    newest: Some(found.newest),
                    number: found.taken + 1,
                    void,
                    parent: found.parent,
                    end: found.end.0,
                    ended_at: found.end.1,
                    since_checkpoint: found.since_checkpoint,
                }
            }
            None => self.first()?,
        };
        let here = match self.cutter.seek(known.end.position) {
            // No group ends there, or the log is shorter: another log, or another history.
            Err(error @ LogError::Refused(_)) => return Err(self.diverged(&error)),
            here => here?,
        };
        if here != known.end {
            let position = known.end.position;
            return Err(self.diverged(&format!("another log root at position {position}")));
        }
        self.pending = None;
        self.shared.lock().progress.archived = known.end.position;
        self.known = Some(known);
        Ok(())
    }

    /// Refuses to go on behind what others have signed.
    fn believe(&self, signers: &BTreeSet<AgentId>) -> Result<(), RemoteError> {
        let own = [self.key.agent_id()];
        let believed = [&own, self.config.keys.as_slice()].concat();
        believe(&self.store.place(), signers, &believed)
    }

    /// What is known of the archive is not so: the next step begins again.
    fn look_again(&mut self, problem: String) -> RemoteError {
        let place = self.store.place();
        (self.known, self.pending) = (None, None);
        let problem = format!("{problem}; the archive is looked at again");
        RemoteError::Damaged { name: format!("the archive at {place}"), problem }
    }

    fn diverged(&self, problem: &dyn std::fmt::Display) -> RemoteError {
        RemoteError::Diverged {
            place: self.store.place(),
            problem: format!(
                "{problem}; archive this log to another place, or restore from the archive to go on \
                 from there"
            ),
        }
    }

    /// Of a branch without an archive: behind what the archive of its parent shares with it, if
    /// that is there, else from the start.
    fn first(&mut self) -> Result<Known, RemoteError> {
        let here = self.cutter.first_kept();
        if here > Position(1) {
            return Err(RemoteError::Refused(format!(
                "the log here begins with position {here}, since older segments were removed, and {} holds \
                 no archive of it: copy the earlier archive there, all of it, or set archive.url back",
                self.store.place()
            )));
        }
        let mut known = Known {
            newest: None,
            number: 1,
            void: Vec::new(),
            parent: None,
            end: self.cutter.seek_start()?,
            ended_at: Millis(i64::MIN),
            since_checkpoint: Default::default(),
        };
        let Some((timeline, branched)) = self.cutter.parent()? else { return Ok(known) };
        let (log_id, _) = self.identity;
        let Some(catalogue) = Catalogue::load(&*self.store, log_id, timeline)? else {
            return Ok(known);
        };
        let shared = catalogue.parts.iter().rev().map(|part| &part.content);
        for content in shared.filter(|content| content.last() <= branched) {
            // A group that was cut at the end has another root here.
            if self.cutter.seek(content.last()).is_ok_and(|here| here == content.end) {
                known.parent = Some(Parent { timeline, end: content.end });
                known.end = content.end;
                known.ended_at = content.ended_at;
                break;
            }
        }
        Ok(known)
    }

    /// Puts a part into the store and reads it back.
    fn upload(&self, part: &Part) -> Result<PartEntry, RemoteError> {
        let (log_id, timeline) = self.identity;
        let context = Context::part(&part.content);
        let (object, key_id) = self.store.keys().seal(&context, &part.bytes)?;
        let hash = hash(&object);
        let name = |copy| names::part(log_id, timeline, &part.content, &hash, copy);
        let copy = put_and_read_back(&*self.store, &object, name)?;
        Ok(PartEntry {
            content: part.content.clone(),
            bytes: object.len() as u64,
            hash,
            copy,
            ends_segment: part.ends_segment,
            key_id,
        })
    }

    /// Puts the manifest that names `parts`: from then on they are in the archive.
    fn name(
        &mut self,
        parts: Vec<PartEntry>,
        end: Link,
        ended_at: Millis,
    ) -> Result<(), RemoteError> {
        let (log_id, timeline) = self.identity;
        let Some(known) = &mut self.known else {
            return Err(RemoteError::Refused("an archiver that has not begun".into()));
        };
        if end.position < known.end.position {
            return Err(self.look_again(format!("a manifest would end at {}", end.position)));
        }
        let damaged = self.shared.lock().progress.problems > 0;
        loop {
            if damaged && known.number.is_multiple_of(CHECKPOINT_EVERY) {
                // What it would stand for may be found again, and would not be read any more.
                known.void.push(known.number);
                known.number += 1;
            }
            let mut manifest = Manifest {
                log_id,
                timeline,
                number: known.number,
                previous: known.newest.map(|(_, hash)| hash),
                void: known.void.clone(),
                parent: known.parent,
                made_at: Millis(self.env.clock.now_ms()),
                end,
                ended_at,
                parts: parts.clone(),
            };
            if manifest.is_checkpoint() {
                let (earlier, void) = &known.since_checkpoint;
                manifest.parts = earlier.iter().cloned().chain(parts.iter().cloned()).collect();
                manifest.void = void.iter().chain(&known.void).copied().collect();
            }
            let bytes = manifest.seal(&self.key);
            let name = names::manifest(log_id, timeline, known.number);
            self.store.put_new(&name, &bytes)?;
            let read = || match self.store.get(&name, MANIFEST_BYTES_MAX) {
                Err(StoreError::TooLong { .. }) => Ok(Vec::new()),
                found => found,
            };
            let mut found = read()?;
            if found != bytes {
                // Nothing is concluded from one reading.
                found = read()?;
            }
            if found == bytes {
                let newest = (known.number, Manifest::hash_of(&bytes));
                if manifest.is_checkpoint() {
                    known.since_checkpoint = Default::default();
                } else {
                    known.since_checkpoint.0.extend(parts);
                    known.since_checkpoint.1.append(&mut known.void);
                }
                known.void.clear();
                known.newest = Some(newest);
                known.number += 1;
                (known.end, known.ended_at) = (end, ended_at);
                let (number, hash) = newest;
                let position = end.position;
                let place = self::hash(self.store.place().as_bytes());
                let note = Noted { place, log_id, timeline, number, hash, position };
                // The archive has it: a node that cannot note it only knows less about a loss.
                if let Err(error) = note.store(&self.env, &self.config.note) {
                    tracing::warn!(%error, "cannot note how far the archive is");
                    telemetry::failed(&error);
                }
                return Ok(());
            }
            match Manifest::open(&found) {
                // Somebody else's, or one of ours that an earlier life put: begin again behind it.
                Ok(_) => {
                    self.known = None;
                    return Err(RemoteError::Damaged {
                        name,
                        problem: "another manifest has its number; the archive is looked at again"
                            .into(),
                    });
                }
                // It is one, and this build cannot go on behind it.
                Err(problem @ BadManifest::TooNew(_)) => {
                    self.known = None;
                    return Err(RemoteError::Manifest { name, problem });
                }
                // The upload went wrong and took the name. The next number says so.
                Err(BadManifest::Damaged(_)) => {
                    known.void.push(known.number);
                    known.number += 1;
                }
            }
        }
    }

    /// Looks for everything that leads to the newest position, and archives again what is missing,
    /// as far as the log still has it: parts, and positions that no manifest names. What the archive of
    /// an older branch has lost goes into that of this one.
    fn audit(&mut self) -> Result<(), RemoteError> {
        let (log_id, timeline) = self.identity;
        let look = || History::load_what_is_there(&*self.store, log_id, timeline);
        let Some(mut history) = look()? else { return Ok(()) };
        let mut unreadable = unreadable(&history);
        if !history.problems().is_empty() {
            // Nothing is concluded from one reading.
            history = look()?.unwrap_or(history);
            unreadable = &unreadable & &self::unreadable(&history);
        }
        let problems = history.problems();
        for problem in &problems {
            tracing::error!(%problem, "the archive is damaged");
        }
        let Some(newest) = history.newest() else { return Ok(()) };
        let newest = newest.clone();
        if let Some(known) = &mut self.known
            && known.newest == Some(newest.newest)
        {
            // What could not be read at the start may have been found since.
            known.since_checkpoint = newest.since_checkpoint.clone();
        }
        self.believe(&newest.keys)?;
        let there = listed(&*self.store, &history)?;
        let missing: Vec<Placed> = missing_parts(&history, &there).into_iter().cloned().collect();
        let is_there = |part: &&Placed| there.get(&part.name()) == Some(&part.entry.bytes);
        let present = history.parts.iter().filter(is_there);
        self.scrub.plan(present, self.env.clock.now_ms(), self.config.audit_every);
        let gaps = problems.iter().filter_map(|problem| match problem {
            Problem::Gap { first, last } => Some((*first, *last)),
            _ => None,
        });
        let others = problems.iter().filter(|one| !matches!(one, Problem::Gap { .. })).count();
        let result = self.put_back(missing, gaps.collect(), &newest, &unreadable);
        self.back_to_the_end()?;
        self.left = result? + (others - others.min(unreadable.len())) as u64;
        self.tell_problems();
        Ok(())
    }

    /// Cutting what is lost has moved the cutter, whether or not an upload broke off.
    fn back_to_the_end(&mut self) -> Result<(), RemoteError> {
        self.pending = None;
        if let Some(known) = &self.known
            && let Err(error) = self.cutter.seek(known.end.position)
        {
            self.known = None;
            return Err(error.into());
        }
        Ok(())
    }

    fn tell_problems(&self) {
        self.shared.lock().progress.problems = self.left + self.scrub.unsound();
    }

    /// Reads the part again that is due, if one is. Where it is not what was uploaded it is archived once
    /// more, as far as the log still has it: under another name, and a new manifest says so.
    fn read_again(&mut self) -> Result<Step, RemoteError> {
        let clock = Arc::clone(&self.env.clock);
        let Some(placed) = self.scrub.next(clock.now_ms(), clock.monotonic()) else {
            return Ok(Step::Idle);
        };
        let look = || check_part(&*self.store, &self.env, &placed);
        // Nothing is concluded from one reading.
        let found = look().and_then(|found| if found.is_some() { look() } else { Ok(None) });
        if found.is_ok() {
            telemetry::read_again(placed.entry.bytes);
        }
        let sound = match found {
            Ok(None) => Ok(true),
            Ok(Some(problem)) => {
                let name = placed.name();
                tracing::error!(name, problem, "a part of the archive is damaged");
                telemetry::damaged();
                self.shared.lock().progress.lost_parts += 1;
                let replaced = self.archive_again(&placed);
                self.back_to_the_end().and(replaced).map(|entry| entry.is_some())
            }
            Err(error) => Err(error),
        };
        match sound {
            Ok(true) => self.scrub.sound(&placed, clock.monotonic()),
            Ok(false) => self.scrub.damaged(&placed, clock.monotonic()),
            Err(_) => self.scrub.unread(&placed, clock.now_ms(), clock.monotonic()),
        }
        self.tell_problems();
        sound.map(|_| Step::Worked)
    }

    /// Archives a part once more and says as what; `None` if the log does not have it as it was. Moves
    /// the cutter.
    fn archive_again(&mut self, placed: &Placed) -> Result<Option<PartEntry>, RemoteError> {
        let place = self.known.as_ref().map(|known| (known.end, known.ended_at));
        let Some((end, ended_at)) = place else { return Ok(None) };
        let Placed { archive, entry: lost } = placed;
        let (first, last) = (lost.content.first(), lost.content.last());
        let part = match self.cutter.exactly(lost.content.start, last) {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(%error, %first, %last, "it cannot be archived again");
                return Ok(None);
            }
        };
        let entry = self.upload(&part)?;
        // Of the same name it is what the manifests name already.
        if entry != *lost || *archive != self.identity.1 {
            self.name(vec![entry.clone()], end, ended_at)?;
        }
        self.put_back_one(first, last);
        Ok(Some(entry))
    }

    /// Says how many of these are still missing.
    fn put_back(
        &mut self,
        missing: Vec<Placed>,
        gaps: Vec<(Position, Position)>,
        newest: &Catalogue,
        unreadable: &BTreeSet<u64>,
    ) -> Result<u64, RemoteError> {
        let place = self.known.as_ref().map(|known| (known.end, known.ended_at));
        let Some((end, ended_at)) = place else { return Ok(0) };
        let mut left = 0;
        let mut named = None;
        for lost in missing {
            self.found_missing(lost.entry.content.first(), lost.entry.content.last());
            match self.archive_again(&lost)? {
                Some(entry) => named = Some(entry),
                None => left += 1,
            }
        }
        for (first, last) in gaps {
            let mut at = Position(first.0.saturating_sub(1));
            while at < last {
                match self.cut_again(at, last) {
                    Ok(part) => {
                        let (first, last) = (part.content.first(), part.content.last());
                        self.found_missing(first, last);
                        let entry = self.upload(&part)?;
                        self.name(vec![entry.clone()], end, ended_at)?;
                        named = Some(entry);
                        self.put_back_one(first, last);
                        at = last;
                    }
                    Err(error) => {
                        let first = at.next();
                        tracing::error!(%error, %first, %last, "they cannot be archived again");
                        left += 1;
                        break;
                    }
                }
            }
        }
        let Some(known) = &mut self.known else { return Ok(left) };
        if left > 0 {
            return Ok(left + unreadable.len() as u64);
        }
        // Everything is named without them: a manifest says so.
        let void = unreadable.iter().filter(|void| **void < known.number);
        let void: Vec<u64> = void.filter(|void| !known.void.contains(void)).copied().collect();
        known.void.extend(&void);
        if let (false, Some(part)) = (void.is_empty(), named.or(newest.parts.last().cloned())) {
            self.name(vec![part], end, ended_at)?;
        }
        Ok(0)
    }

    /// The part that begins behind `at` and ends with `last` at the latest.
    fn cut_again(&mut self, at: Position, last: Position) -> Result<Part, LogError> {
        self.cutter.seek(at)?;
        match self.cutter.next_up_to(self.config.part_bytes, last)? {
            Some(part) if part.content.last() <= last => Ok(part),
            _ => Err(LogError::Refused(format!("no group of the log ends at {last}"))),
        }
    }

    fn found_missing(&self, first: Position, last: Position) {
        tracing::error!(%first, %last, "a part is not in the archive");
        telemetry::lost(1);
        self.shared.lock().progress.lost_parts += 1;
    }

    fn put_back_one(&self, first: Position, last: Position) {
        tracing::warn!(%first, %last, "archived again");
        telemetry::replaced();
        self.shared.lock().progress.replaced_parts += 1;
    }

    /// Brings progress and metrics up to date.
    fn tell(&mut self, error: Option<&RemoteError>) {
        let (durable, _) = self.cutter.durable();
        let now = self.env.clock.monotonic();
        let archived = self.known.as_ref().map(|known| known.end.position);
        let waiting = self.cutter.waiting();
        let oldest = archived.and_then(|archived| self.oldest(archived));
        let mut inner = self.shared.lock();
        let progress = &mut inner.progress;
        progress.durable = durable.position;
        if let Some(archived) = archived {
            progress.archived = archived;
        }
        let behind = progress.archived < durable.position;
        let pending = self.pending.as_ref().map_or(0, |part| part.bytes.len() as u64);
        progress.lag_bytes = if behind { waiting.bytes + pending } else { 0 };
        // Since when nothing was left behind.
        if !behind {
            self.waiting_since = None;
        } else {
            self.waiting_since.get_or_insert(now);
        }
        // By the clock of the records, which may jump; so never less than was waited here.
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let age = oldest.filter(|_| behind).map_or(0, |at| self.env.clock.now_ms() - at.0);
        progress.lag = waited.max(Duration::from_millis(age.max(0).unsigned_abs()));
        progress.state = match error {
            None if self.known.is_some() => ArchiveState::Running,
            None => ArchiveState::Starting,
            Some(error) if error.passes() => ArchiveState::Failing { problem: error.to_string() },
            Some(error) => ArchiveState::Stopped { problem: error.to_string() },
        };
        telemetry::progress(progress);
        self.shared.changed.notify_all();
    }

    /// When the first record behind `archived` was committed, if there is one.
    fn oldest(&mut self, archived: Position) -> Option<Millis> {
        if let Some((before, at)) = self.oldest
            && before == archived
        {
            return Some(at);
        }
        self.oldest = match &self.pending {
            Some(part) => Some((archived, part.content.began_at)),
            None => {
                let next = self.cutter.next_recorded_at();
                // What cannot be read now is told by the next cut.
                next.ok().flatten().map(|at| (archived, at))
            }
        };
        self.oldest.map(|(_, at)| at)
    }

    /// Archives until told to stop.
    fn run(mut self) {
        let mut wait = RETRY_FIRST;
        loop {
            let pause = match self.step() {
                Ok(Step::Worked) => {
                    wait = RETRY_FIRST;
                    Duration::ZERO
                }
                Ok(Step::Idle) => LOOK_EVERY.min(self.config.delay).max(LOOK_LEAST),
                Err(error) => {
                    telemetry::failed(&error);
                    tracing::error!(%error, retry_in_ms = wait.as_millis(), "cannot archive");
                    let pause = wait;
                    wait = (wait * 2).min(self.config.retry_most);
                    if !error.passes() {
                        // Looked at again, but not often: somebody may have mended it.
                        self.known = None;
                        self.config.retry_most
                    } else {
                        pause
                    }
                }
            };
            if self.stopped_within(pause) {
                return;
            }
        }
    }

    /// Waits; `true` if it is to stop. A flush ends the wait.
    fn stopped_within(&self, pause: Duration) -> bool {
        let inner = self.shared.lock();
        if pause.is_zero() {
            return inner.stop;
        }
        let wait = |inner: &mut Inner| !inner.stop && !inner.flushes();
        let waited = self.shared.changed.wait_timeout_while(inner, pause, wait);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Starts a thread that archives.
    pub fn start(self) -> Result<ArchiverHandle, RemoteError> {
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.env.clock));
        let thread = std::thread::Builder::new().name("archiver".into()).spawn(|| self.run());
        thread.map_err(|source| RemoteError::File {
            act: "start",
            file: "a thread".into(),
            source,
        })?;
        Ok(ArchiverHandle { shared, clock })
    }
}

/// Manifests of the branch itself that are not there or cannot be believed.
fn unreadable(history: &History) -> BTreeSet<u64> {
    history.newest().map(|newest| newest.unreadable.clone()).unwrap_or_default()
}

/// Puts `bytes` under the first name of which what is read back is them; says which.
pub(crate) fn put_and_read_back(
    store: &dyn Store,
    bytes: &[u8],
    name: impl Fn(u64) -> String,
) -> Result<u64, RemoteError> {
    let mut last = String::new();
    for copy in 0..COPIES_MAX {
        let name = name(copy);
        let put = store.put_new(&name, bytes)?;
        match store.get(&name, bytes.len() as u64) {
            Ok(found) if found == bytes => return Ok(copy),
            Ok(_) | Err(StoreError::TooLong { .. }) => {
                let there = match put {
                    Put::Created => "what was put is not what is read back",
                    Put::Exists => "another object has its name",
                };
                tracing::warn!(name, "{there}; it goes under another name");
            }
            Err(error) => return Err(error.into()),
        }
        last = name;
    }
    Err(RemoteError::Damaged {
        name: last,
        problem: format!("{COPIES_MAX} uploads were read back different: the store is damaged"),
    })
}

/// The archiver that runs on a thread. Dropped, it ends after the request that it is making: nobody
/// waits for that, since a store may be slow, and whatever breaks off is done again.
pub struct ArchiverHandle {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ArchiverHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiverHandle").finish_non_exhaustive()
    }
}

impl ArchiverHandle {
    /// What it is doing.
    pub fn progress(&self) -> ArchiveProgress {
        self.shared.lock().progress.clone()
    }

    /// Archives what there is, whatever its age; waits up to `bound` for it. Whether all that was
    /// durable then is archived.
    pub fn flush(&self, durable: Position, bound: Duration) -> bool {
        let until = self.clock.monotonic() + bound;
        let mut inner = self.shared.lock();
        inner.flush = inner.flush.max(durable);
        self.shared.changed.notify_all();
        while inner.progress.archived < durable {
            let left = until.saturating_sub(self.clock.monotonic());
            // Somebody has to look: waiting helps nobody.
            let stopped = matches!(inner.progress.state, ArchiveState::Stopped { .. });
            if left.is_zero() || stopped {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(inner, left.min(LOOK_EVERY));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for ArchiverHandle {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

/// What the archive held when this node last looked, or what it has last backed up: a place with less
/// has lost something that nothing in it can tell, or is not mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// BLAKE3 of the address of the archive.
    pub place: Hash,
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// Number of the newest manifest; 0 for a backup.
    pub number: u64,
    /// Its hash, or that of the map of the backup.
    pub hash: Hash,
    /// Everything up to here was in the archive.
    pub position: Position,
}

impl Noted {
    /// Reads it; `None` if nothing was noted.
    pub fn load(env: &Env, path: &Path) -> Result<Option<Self>, RemoteError> {
        let failed = |act| move |source| file_error(act, path, source);
        let file = match env.vfs.open(path, Open::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open"))?,
        };
        let mut bytes = [0; 512];
        let read = file.read_at(&mut bytes, 0).map_err(failed("read"))?;
        let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned();
        // One that cannot be read tells as much as none.
        Ok(Self::parse(&text))
    }

    /// Whether it speaks of this branch in this store.
    pub fn is_of(&self, store: &dyn Store, identity: (LogId, Timeline)) -> bool {
        self.place == hash(store.place().as_bytes()) && (self.log_id, self.timeline) == identity
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let note = Self {
            place: words.next()?.parse().ok()?,
            log_id: words.next()?.parse().ok()?,
            timeline: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
            hash: words.next()?.parse().ok()?,
            position: Position(words.next()?.parse().ok()?),
        };
        words.next().is_none().then_some(note)
    }

    /// Writes it. Where another process does so at the same moment, one of both may fail.
    pub(crate) fn store(&self, env: &Env, path: &Path) -> Result<(), RemoteError> {
        let Self { place, log_id, timeline, number, hash, position } = self;
        let text = format!("{place} {log_id} {timeline} {number} {hash} {position}\n");
        let written = replace(&*env.vfs, path, text.as_bytes());
        written.map_err(|source| file_error("write", path, source))
    }
}

fn file_error(act: &'static str, path: &Path, source: std::io::Error) -> RemoteError {
    RemoteError::File { act, file: path.display().to_string(), source }
}
