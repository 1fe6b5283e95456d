//! What the writing end does when the medium fails: go on in a fresh segment, or stop with the
//! truth; and how it takes writes again.
//!
//! The order is what makes it safe:
//! 1. the file is not written any more, nor believed beyond what was durable before;
//! 2. all that was not durable is written to a fresh segment, whose header fences the old one: one
//!    write, one sync, and from then on no byte behind the fence counts;
//! 3. the durable groups of the old file are proved from the medium.
//!
//! A group is *given up* only once a fence without it is durable, and is never written again. A
//! group is *held* while neither is known: the process keeps it in memory, and either a later
//! attempt makes it durable or the next start decides.

use std::time::Duration;

use stemedb_io::{Open, mutant};
use stemedb_model::Position;

use crate::Log;
use crate::entry::{Commit, NewEntry};
use crate::error::{Failure, LogError, LogState};
use crate::health::Concern;
use crate::prove::Suspect;
use crate::recover::open::{Active, check, free_name};
use crate::wal::{Unwritten, Wal, file_system, lock_folder};

/// A file whose only purpose is to see whether the medium takes writes.
pub(crate) const PROBE_NAME: &str = "probe.tmp";
const PROBE_BYTES: usize = 4096;
/// Between two attempts to take writes again.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// After this many attempts in a row the time between them doubles each time.
const PROBE_EVERY_MAX: Duration = Duration::from_secs(60);
/// What a read in progress gets to finish before detaching is refused.
const DETACH_WAIT: Duration = Duration::from_secs(5);

/// The newest segment, if it is not written to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) number: u64,
    pub(crate) salt: u64,
}

/// When the medium is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probes {
    next: Duration,
    every: Duration,
}

impl Default for Probes {
    fn default() -> Self {
        Self { next: Duration::ZERO, every: PROBE_EVERY }
    }
}

impl Wal {
    /// The medium failed under `group`.
    pub(crate) fn failed_under(
        &mut self,
        group: &[NewEntry],
        failure: Failure,
    ) -> Result<Commit, LogError> {
        let mut reason = failure.to_string();
        match self.note(&failure) {
            Ok(()) => match self.go_on(Some(group)) {
                Ok(Some(commit)) => {
                    self.believe(Some(&reason));
                    return Ok(commit);
                }
                Ok(None) => reason.push_str("; nothing was written"),
                Err(error) => reason = format!("{reason}; then {error}"),
            },
            Err(why) => {
                reason = format!("{reason}; {why}");
                // The medium may still take the few bytes that make it certain.
                if self.give_up().is_ok() {
                    if mutant("rewrite_after_not_written") {
                        self.held = Some(group.to_vec());
                    }
                    self.shared.read_only(reason.clone());
                    return Err(LogError::GivenUp { reason });
                }
            }
        }
        self.held = Some(group.to_vec());
        self.shared.read_only(reason);
        Err(failure.into())
    }

    /// The medium failed while everything was durable.
    pub(crate) fn failed_at_rest(&mut self, failure: Failure) -> Result<(), LogError> {
        let reason = failure.to_string();
        match self.note(&failure) {
            Ok(()) => match self.go_on(None) {
                Ok(_) => {
                    self.believe(Some(&reason));
                    self.shared.refuse_if_closed()
                }
                Err(error) => {
                    self.shared.read_only(format!("{reason}; then {error}"));
                    Err(failure.into())
                }
            },
            Err(why) => {
                self.shared.read_only(format!("{reason}; {why}"));
                Err(failure.into())
            }
        }
    }

    /// Stops believing the file that failed. `Ok` if the log may heal by itself, else why not.
    fn note(&mut self, failure: &Failure) -> Result<(), String> {
        match self.active.take_if(|active| active.name == failure.file) {
            Some(active) => {
                // Its file is closed, with whatever error: nothing more is asked of it.
                self.leave(active);
            }
            // The first write into a prepared one.
            None => self.spoiled = Some(failure.file.clone()),
        }
        self.shared.failed(failure)
    }

    /// The log goes on in another segment, once the durable groups of this one are proved.
    fn leave(&mut self, active: Active) {
        let Active { name, number, salt, .. } = active;
        self.left = Some(Left { number, salt });
        self.shared.health.suspect(Suspect { name, number, salt, end: self.end });
    }

    /// Goes on in a fresh segment, with `group` in it.
    fn go_on(&mut self, group: Option<&[NewEntry]>) -> Result<Option<Commit>, LogError> {
        self.free_the_name()?;
        let written = match group {
            Some(_) if mutant("heal_without_rewriting") => {
                let first = self.end.last.next();
                let recorded_at = self.end.recorded_at;
                self.write_fence().map(|()| Some(Commit { first, recorded_at }))
            }
            Some(group) => self.write(group).map(Some),
            None if self.active.is_some() => Ok(None),
            None => self.write_fence().map(|()| None),
        };
        written.map_err(|unwritten| match unwritten {
            Unwritten::Refused(error) => error,
            Unwritten::Failed(failure) => {
                // Counted; one too many, whatever may be healed otherwise.
                let _ = self.note(&failure);
                failure.into()
            }
        })
    }

    /// Voids for ever what was not durable.
    fn give_up(&mut self) -> Result<(), LogError> {
        self.go_on(None).map(drop)
    }

    /// All that matters is durable in a fresh segment; what remains is to prove the old ones.
    /// `failure`: what an operator has to know of it.
    fn believe(&mut self, failure: Option<&str>) {
        match (self.shared.prove_suspects(), failure) {
            (Ok(()), Some(failure)) => {
                self.probes = Probes::default();
                self.shared.healed(failure);
            }
            (Ok(()), None) => {
                self.shared.health.takes_writes();
                self.shared.tell_state();
            }
            (Err(error), failure) => {
                let before = failure.map(|failure| format!("{failure}; then ")).unwrap_or_default();
                self.shared.read_only(format!("{before}{error}"));
            }
        }
    }

    /// A prepared segment whose first write failed loses its name. Nothing in it was durable, so
    /// this takes nothing away; its bytes are kept for people.
    fn free_the_name(&mut self) -> Result<(), LogError> {
        let Some(name) = &self.spoiled else { return Ok(()) };
        let (vfs, dir) = (&*self.env.vfs, &self.config.dir);
        let failed = |op| move |source| LogError::Io { op, file: name.clone(), offset: 0, source };
        if vfs.exists(&dir.join(name)).map_err(failed("look at"))? {
            let kept_as = free_name(vfs, dir, name)?;
            vfs.rename(&dir.join(name), &dir.join(kept_as)).map_err(failed("rename"))?;
        }
        vfs.sync_dir(dir).map_err(failed("sync folder of"))?;
        self.spoiled = None;
        Ok(())
    }

    /// See [`Log::resume`].
    pub(crate) fn resume_by_itself(&mut self) -> Result<Option<Commit>, LogError> {
        match self.shared.state() {
            LogState::Detached => return Err(LogError::Detached),
            LogState::Ok | LogState::Degraded { .. } => return Ok(None),
            LogState::ReadOnly { reason } => {
                let now = self.env.clock.monotonic();
                if self.shared.health.provable().is_err() || now < self.probes.next {
                    return Err(LogError::ReadOnly { reason });
                }
                self.probes.next = now.saturating_add(self.probes.every);
                self.probes.every = (self.probes.every * 2).min(PROBE_EVERY_MAX);
            }
        }
        self.recover()
    }

    /// Asks the medium, writes what is held, proves what is not believed.
    fn recover(&mut self) -> Result<Option<Commit>, LogError> {
        self.probe()?;
        self.worker.mend();
        self.free_the_name()?;
        // One that cannot have a next segment would say that it takes writes, and stop at once, and so
        // on, as often as the medium is asked.
        self.worker.wait_for_next(self.next_number())?;
        let failure = match self.shared.state() {
            LogState::ReadOnly { reason } => Some(reason),
            _ => None,
        };
        let held = self.held.take();
        let commit = match self.go_on(held.as_deref()) {
            Ok(commit) => commit,
            Err(error) => {
                self.held = held;
                let before = failure.map(|reason| reason + "; then ").unwrap_or_default();
                self.shared.health.read_only(format!("{before}{error}"));
                self.shared.tell_state();
                return Err(error);
            }
        };
        self.believe(failure.as_deref());
        self.worker.order(self.next_number());
        match commit {
            Some(commit) => Ok(Some(commit)),
            None => self.shared.refuse_if_closed().map(|()| None),
        }
    }

    /// Whether the medium takes a write, in a file of its own.
    fn probe(&self) -> Result<(), LogError> {
        let (vfs, dir) = (&*self.env.vfs, &self.config.dir);
        let path = dir.join(PROBE_NAME);
        let failed =
            |op| move |source| LogError::Io { op, file: PROBE_NAME.into(), offset: 0, source };
        if vfs.exists(&path).map_err(failed("look at"))? {
            vfs.remove_file(&path).map_err(failed("remove"))?;
        }
        let file = vfs.open(&path, Open::CreateNew).map_err(failed("create"))?;
        file.write_at(&[0x5a; PROBE_BYTES], 0).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))?;
        file.close().map_err(failed("close"))?;
        vfs.remove_file(&path).map_err(failed("remove"))?;
        vfs.sync_dir(dir).map_err(failed("sync folder of"))
    }

    /// See [`Log::detach`].
    pub(crate) fn take_off(&mut self) -> Result<(), LogError> {
        if self.shared.state() == LogState::Detached {
            return Ok(());
        }
        self.refuse_if_busy()?;
        // A seal carries the watermark, so that whoever checks the files meanwhile sees that
        // everything in them was durable. Not possible on a log that takes no writes.
        let _ = self.seal();
        if let Some(active) = self.active.take() {
            // Attaching goes on in a fresh segment, after a proof of this one: nobody can know
            // what happens to the file until then.
            self.leave(active);
        }
        self.worker.detach();
        self.shared.health.detached(true);
        // Whoever removes segments is done, and sees that there is nothing more to do.
        drop(self.shared.lock_names());
        self.upkeep.rest();
        let started = self.env.clock.monotonic();
        while !self.shared.close_files() {
            if self.env.clock.monotonic().saturating_sub(started) > DETACH_WAIT {
                self.shared.health.detached(false);
                self.shared.read_only("a read kept the log from being detached".into());
                let reason = "a read of the log is still running: try again".into();
                return Err(LogError::Refused(reason));
            }
            self.env.clock.sleep(Duration::from_millis(10));
        }
        self.lock = None;
        self.shared.tell_state();
        tracing::warn!(dir = %self.config.dir.display(), "the log is detached; reads go on");
        Ok(())
    }

    /// Other files of this process on the same file system would keep it busy.
    fn refuse_if_busy(&self) -> Result<(), LogError> {
        let Ok(ours) = file_system(&self.config, &self.env) else { return Ok(()) };
        for path in &self.config.open_besides {
            let there = self.env.vfs.file_system(path);
            if there.is_ok_and(|there| there.device == ours.device) {
                return Err(LogError::Refused(format!(
                    "{} lies on the same file system and stays open: stop the server, mend the \
                     file system, start again",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// See [`Log::attach`].
    pub(crate) fn put_back(&mut self) -> Result<Option<Commit>, LogError> {
        let detached = self.shared.state() == LogState::Detached;
        if !detached && self.shared.refuse_if_closed().is_ok() {
            return Ok(None);
        }
        if detached {
            self.lock = Some(lock_folder(&self.config, &self.env)?);
        }
        let attached = self.check_all().and_then(|()| {
            self.worker.attach().map_err(|source| LogError::Io {
                op: "start the worker of",
                file: self.config.dir.display().to_string(),
                offset: 0,
                source,
            })?;
            if detached {
                self.shared.health.detached(false);
            }
            self.recover()
        });
        if let Err(error) = &attached {
            tracing::error!(%error, "the log cannot be attached");
            if detached {
                self.worker.detach();
                self.shared.health.detached(true);
                self.shared.close_files();
                self.lock = None;
            }
        }
        self.shared.tell_state();
        attached
    }

    /// Reads the whole folder as a start would: a file system that was checked may have lost files.
    fn check_all(&self) -> Result<(), LogError> {
        let file_system = file_system(&self.config, &self.env)?;
        let witness = (self.end.last > Position::NONE).then_some(self.end.last);
        check(&self.config, &self.env, self.log_id, witness)?;
        self.shared.health.moved_to(file_system);
        self.shared.concern(Concern::NoRoom, None);
        Ok(())
    }
}
