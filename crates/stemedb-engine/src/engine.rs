//! The engine: opening, writing, node states.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use stemedb_index::{Index, IndexError, Lost};
use stemedb_io::Env;
use stemedb_lens::CustomLens;
use stemedb_log::{Commit, Log, LogReader, LogState, NewEntry};
use stemedb_model::{
    Body, Hash, Head, Kind, Known, LogId, Millis, Policy, Position, Principal, RecordId, Registry,
    Signed, Tier, Timeline, admit,
};

use crate::applied::Applied;
use crate::applier::Applier;
use crate::committer::Committer;
use crate::config::{AT_AHEAD_MAX_MS, EngineConfig};
use crate::conflicts;
use crate::error::{EngineError, ReadError};
use crate::fates::{Fate, Fates};
use crate::first_seen::FirstSeen;
use crate::intake::{Intake, Queued};
use crate::metrics::{self, Operation};
use crate::node::{Failure, Gate, NodeState, NodeStatus, Phase, Progress};
use crate::pulse::Pulse;
use crate::replay::replay;
use crate::sequencer::{Sequencer, first_of_key};
use crate::shared::{Shared, index_error};
use crate::slot::{Command, Order, Slot};
use crate::submission::{Ack, Submission, WriteError};
use crate::token::SnapshotToken;
use crate::trust::Tables;
use crate::view::View;
use crate::waiters::{Reply, Waiters};
use crate::watchdog::{self, Bell};

/// Groups that may wait for the applier; then the committer waits, so memory stays bounded.
const APPLIER_GROUPS_MAX: usize = 4;
/// A drain looks this often whether what is left is still waited for.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// What an engine that is dropped without being closed may take to end.
const DROP_BOUND: Duration = Duration::from_secs(25);

/// One database, open on this node.
///
/// Five threads work behind it. A *sequencer* admits, in order; a *committer* owns the log and
/// makes a group durable while the sequencer fills the next; an *applier* owns the index and
/// acknowledges; a *follower* keeps the list of conflicts; a *watchdog* looks at the clocks. Callers verify signatures on their own threads
/// before they submit, and read on their own threads from snapshots.
///
/// ```text
/// submit ─▶ intake ─▶ sequencer ─▶ open group ─▶ committer ─▶ applier ─▶ reply
///           bounded    rights       bounded       sync         snapshot
/// ```
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    bell: Arc<Bell>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainReport {
    /// State afterwards: `drained`, or `draining` if the bound passed first.
    pub state: NodeState,
    /// Records that were still on their way when the bound passed.
    pub unfinished: usize,
    /// Newest durable position.
    pub durable: Position,
    /// Newest applied position.
    pub applied: Position,
    /// What went wrong in sealing the log or persisting the index, and what is not archived yet, a
    /// sentence each. None of it loses a record: the next start takes longer, and archives it.
    pub problems: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// What a checkpoint came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Up to here the index on the medium has everything.
    pub position: Position,
    /// Newest durable position.
    pub durable: Position,
    /// Bytes of the index on the medium.
    pub index_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// Writes the first record of an empty log. Do this before the index is opened: it is opened
    /// for the identity that the log has from then on.
    pub fn genesis(
        log: &mut dyn Log,
        signed: &Signed,
        principal: Principal,
    ) -> Result<Commit, EngineError> {
        let (durable, _) = log.reader().durable();
        if durable != Position::NONE {
            return Err(EngineError::NotEmpty { durable });
        }
        if signed.record().kind() != Kind::Genesis {
            return Err(EngineError::NoGenesis);
        }
        let registry = Registry::default();
        admit(&registry, &Nothing, Position(1), signed.record(), &Policy::default())?;
        let entry = NewEntry {
            id: signed.id(),
            signature: signed.signature(),
            principal,
            custodial: false,
            idempotency: None,
            body: Arc::clone(signed.bytes()),
        };
        Ok(log.append(&[entry])?)
    }

    /// Opens the database that `log` and `index` are. Returns at once, `starting`; the applier
    /// replays what the index lacks, then the node is ready: see [`Engine::wait_ready`].
    ///
    /// Refuses a log without genesis, and an index of another log, ahead of this one, or from before
    /// a repair of it.
    pub fn open(
        config: EngineConfig,
        env: Env,
        log: Box<dyn Log>,
        index: Index,
    ) -> Result<Arc<Self>, EngineError> {
        config.validate().map_err(EngineError::Config)?;
        let reader = log.reader();
        let Some((log_id, timeline)) = reader.identity() else {
            return Err(EngineError::NoGenesis);
        };
        index.identify(log_id, timeline)?;
        let (durable, _) = reader.durable();
        let snapshot = index.snapshot();
        if snapshot.position() > durable {
            return Err(EngineError::IndexAhead { applied: snapshot.position(), durable });
        }
        let log_lost = lost_of(&*reader);
        let (expected, known) = (log_lost.up_to(snapshot.position()), snapshot.lost());
        if expected != *known {
            let (log, index) = (expected, known.clone());
            return Err(EngineError::IndexBeforeRepair { log, index });
        }
        metrics::register();
        let shared = Arc::new(Shared {
            gate: Gate::new(&*env.clock, config.standby),
            waiters: Waiters::default(),
            intake: Intake::new(config.queue_records_max, config.queue_bytes_max),
            slot: Slot::new(
                config.group_records_max,
                config.group_bytes_max.min(log.group_bytes_max()),
            ),
            applied: Applied::new(snapshot),
            fates: Fates::default(),
            first_seen: FirstSeen::default(),
            trust: Tables::new(config.trust_dir.clone(), env.vfs),
            appending: Mutex::default(),
            pulse: Pulse::default(),
            archiving: OnceLock::new(),
            stopping: AtomicBool::new(false),
            clock: env.clock,
            log: reader,
            config,
            index: RwLock::new(Arc::new(index)),
            index_failed: Mutex::default(),
            rebuild: Mutex::default(),
            log_id,
            timeline,
        });
        // Before anybody can see it ready.
        let _ = shared.fenced();
        let bell = Arc::new(Bell::default());
        let engine = Arc::new(Self { shared, bell: Arc::clone(&bell), threads: Mutex::default() });
        let (to_applier, durable) = sync_channel(APPLIER_GROUPS_MAX);
        let shared = &engine.shared;
        let applier = Applier::new(Arc::clone(shared), durable);
        let committer = Committer::new(Arc::clone(shared), log, to_applier);
        let sequencer = Sequencer::new(Arc::clone(shared));
        let (watched, followed) = (Arc::clone(shared), Arc::clone(shared));
        engine.start("applier", move || applier.run())?;
        engine.start("committer", move || committer.run())?;
        engine.start("sequencer", move || sequencer.run())?;
        engine.start("follower", move || conflicts::follow(&followed))?;
        engine.start("watchdog", move || watchdog::run(&watched, &bell))?;
        Ok(engine)
    }

    pub(crate) fn start(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        let run = move || shared.pulse.watch(run);
        let thread = thread::Builder::new().name(name.into()).spawn(run);
        let thread = thread.map_err(|error| EngineError::Thread(error.to_string()))?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended keeps its stack until nobody can join it.
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// Blocks until replay is over, telling `progress` about ten times a second. An error says
    /// why it ended early; then only [`Engine::close`] is left to do.
    pub fn wait_ready(&self, mut progress: impl FnMut(Progress)) -> Result<(), EngineError> {
        while !self.shared.gate.wait_replayed(Duration::from_millis(100)) {
            progress(self.progress());
        }
        progress(self.progress());
        let (_, reason) = self.shared.gate.state_and_reason();
        match reason.filter(|reason| reason.code == "recovery_failed") {
            Some(reason) => Err(EngineError::Recovery(reason.detail)),
            None => Ok(()),
        }
    }

    fn progress(&self) -> Progress {
        let (durable, _) = self.shared.log.durable();
        Progress { applied: self.shared.applied.position(), durable }
    }

    /// Puts one record on its way. Costs a look into the index and a place in a queue, some
    /// microseconds; never waits.
    ///
    /// `reply` is called exactly once: on this thread if the answer is known at once (the record
    /// exists, the node takes no writes, the queue is full), else on a thread of the engine, when
    /// the record is durable and readable or its fate known. It must not block.
    pub fn submit(
        &self,
        submission: Submission,
        reply: impl FnOnce(Result<Ack, WriteError>) + Send + 'static,
    ) {
        self.submit_waiting(submission, Duration::ZERO, reply);
    }

    /// The same for a bulk writer on a thread of its own: waits up to `wait` for room in the
    /// queue, so that the queue holds back whoever reads the input.
    pub fn submit_waiting(
        &self,
        submission: Submission,
        wait: Duration,
        reply: impl FnOnce(Result<Ack, WriteError>) + Send + 'static,
    ) {
        let mut reply = Some(Box::new(reply) as Reply);
        if let Err(result) = self.enter(submission, wait, &mut reply)
            && let Some(reply) = reply.take()
        {
            if let Err(error) = &result {
                metrics::rejected(error);
            }
            reply(result);
        }
    }

    /// Queues the submission and takes the reply; or gives the answer that is known at once.
    fn enter(
        &self,
        submission: Submission,
        wait: Duration,
        reply: &mut Option<Reply>,
    ) -> Result<(), Result<Ack, WriteError>> {
        let shared = &self.shared;
        let now = shared.clock.monotonic();
        let deadline = submission.deadline;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Err(WriteError::DeadlineBeforeQueue));
        }
        let state = shared.gate.state();
        if !state.reads() {
            // The door knows the right words, and without an index nothing else can be said.
            let refused = shared.gate.enter(&*shared.clock).err();
            return Err(Err(refused.unwrap_or(WriteError::NotReady { state })));
        }
        // Also of a record that is here: to say so is to acknowledge it.
        if let Some(refused) = self.elsewhere() {
            return Err(Err(refused));
        }
        let absent_at = match self.known_already(&submission) {
            Ok(position) => position,
            Err(Ok(ack)) => return shared.acknowledge_known(ack, deadline, reply),
            Err(error) => return Err(error),
        };
        let pass = shared.gate.enter(&*shared.clock).map_err(Err)?;
        let (at, now) = (submission.signed.record().at, self.now());
        if at.0.saturating_sub(now.0) > AT_AHEAD_MAX_MS {
            return Err(Err(WriteError::AtAhead { at, now }));
        }
        // Compiled and thrown away: a read compiles what it needs.
        if let Body::Lens(lens) = &submission.signed.record().body
            && let Err(problem) = CustomLens::new(Arc::new(lens.clone()))
        {
            return Err(Err(WriteError::Lens(problem)));
        }
        let bytes = submission.signed.bytes().len();
        let wait =
            deadline.map_or(wait, |end| wait.min(end.saturating_sub(shared.clock.monotonic())));
        let submission = Box::new(submission);
        let queued = || {
            shared.gate.still_open()?;
            let reply = reply.take().unwrap_or_else(|| Box::new(|_| ()));
            let ticket = shared.waiters.add(deadline, reply);
            Ok(Queued { submission, ticket, pass, absent_at })
        };
        shared.intake.push(bytes, wait, queued).map_err(Err)
    }

    /// Answers a record that the index has, or that is undecided; else the position up to which
    /// the index lacks it.
    fn known_already(&self, submission: &Submission) -> Result<Position, Result<Ack, WriteError>> {
        let shared = &self.shared;
        let id = submission.signed.id();
        let snapshot = shared.applied.newest();
        if let Some(key) = &submission.idempotency
            && let Some(first) = first_of_key(&snapshot, key).map_err(Err)?
            && first != id
        {
            return Err(Err(WriteError::IdempotencyConflict { first }));
        }
        match snapshot.position_of(&id) {
            Ok(Some(position)) => return Err(shared.exists(id, position)),
            Ok(None) => {}
            Err(error) => return Err(Err(index_error(&error))),
        }
        match shared.fates.of(&id) {
            None => Ok(snapshot.position()),
            Some(Fate::Undecided) => Err(Err(WriteError::Undecided { id })),
            Some(Fate::Durable(position)) => {
                let (_, reason) = shared.gate.state_and_reason();
                let reason = reason.map_or_else(String::new, |reason| reason.detail);
                Err(Err(WriteError::IndexFailed { position: Some(position), reason }))
            }
        }
    }

    /// The claimed time for a body that has none and comes with an idempotency key: that of the
    /// first receipt under this key, so that a retry makes the same record.
    pub fn receipt_time(&self, key: &Hash) -> Result<Millis, ReadError> {
        let snapshot = self.shared.applied.newest();
        if let Some(position) = snapshot.idempotency(key)?
            && let Some(entry) = snapshot.entry(position)?
        {
            return Ok(entry.signed.record().at);
        }
        Ok(self.shared.first_seen.first(*key, self.now()))
    }

    /// A read at the newest applied position, which is at least `at_least`; waits for that up to
    /// `wait`, blocking this thread.
    pub fn view(&self, at_least: Position, wait: Duration) -> Result<View, ReadError> {
        let shared = &self.shared;
        let state = shared.gate.state();
        if !state.reads() {
            return Err(ReadError::NotReady { state });
        }
        let snapshot = shared.applied.wait_for(at_least, wait, || false);
        if snapshot.position() < at_least {
            return Err(ReadError::Behind { asked: at_least, applied: snapshot.position() });
        }
        Ok(View::newest(Arc::clone(shared), snapshot, self.now()))
    }

    /// The position that a token of this database names.
    pub fn position_of(&self, token: &SnapshotToken) -> Result<Position, ReadError> {
        if token.timeline == self.shared.timeline {
            return Ok(token.position);
        }
        Err(ReadError::WrongTimeline { found: token.timeline, expected: self.shared.timeline })
    }

    /// Name of the database.
    pub fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    /// Name of its branch.
    pub fn timeline(&self) -> Timeline {
        self.shared.timeline
    }

    /// The clock's time.
    pub fn now(&self) -> Millis {
        Millis(self.shared.clock.now_ms())
    }

    /// The monotonic time that deadlines are counted in.
    pub fn monotonic(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// Brings metrics up to date that cost a look; for whoever is about to show them.
    pub fn observe(&self) {
        metrics::index_memory(&self.shared.index().memory());
    }

    /// What the node does now, and why.
    pub fn node(&self) -> NodeStatus {
        let (state, reason) = self.shared.gate.state_and_reason();
        let log = self.shared.log.state();
        let degraded = match &log {
            LogState::Degraded { reason } => Some(reason.clone()),
            LogState::Ok | LogState::ReadOnly { .. } | LogState::Detached => None,
        };
        NodeStatus {
            state,
            reason,
            degraded,
            log,
            log_id: self.shared.log_id,
            timeline: self.shared.timeline,
            progress: self.progress(),
            in_flight: self.shared.intake.unfinished(),
            archive: self.shared.archive_status(),
            lost: self.shared.applied.newest().lost().clone(),
            rebuild: self.shared.rebuild().clone(),
        }
    }

    /// A number that grows, some forty times a second, while the engine lives. It stands still for good
    /// once one of its threads has panicked, waits for a lock that nobody gives back, or after
    /// [`Engine::close`]: then only another process helps. It does not stand still because the log
    /// hangs; that is in [`Engine::node`].
    pub fn pulse(&self) -> u64 {
        self.shared.pulse.beats()
    }

    /// Whether this node may take writes, and tell anybody that a record is written, as far as another
    /// node could.
    pub fn may_write(&self) -> Result<(), WriteError> {
        self.elsewhere().map_or(Ok(()), Err)
    }

    /// Another node takes writes, or may.
    fn elsewhere(&self) -> Option<WriteError> {
        self.shared.gate.standby().or_else(|| self.shared.fenced())
    }

    /// Of a standby: brings the index to where the log is, on the thread of whoever makes the log
    /// longer; the position it is at then.
    pub fn catch_up(&self) -> Result<Position, EngineError> {
        let shared = &self.shared;
        let mut failed = shared.index_failed();
        if let Some(reason) = &*failed {
            return Err(EngineError::Recovery(reason.clone()));
        }
        let index = shared.index();
        if let Err(reason) = replay(shared, &index, &|| shared.applied.set(index.snapshot())) {
            shared.gate.fail(Failure::Index { reason: reason.clone() });
            *failed = Some(reason.clone());
            return Err(EngineError::Recovery(reason));
        }
        Ok(shared.applied.position())
    }

    /// Of a standby: where the node is that takes writes.
    pub fn tell_primary(&self, address: &str) {
        self.shared.gate.tell_primary(address);
    }

    /// An operator says that the wall clock is right: writes go on. By how many milliseconds it
    /// had jumped, if it had.
    pub fn acknowledge_clock(&self) -> Option<i64> {
        let jump = self.shared.gate.acknowledge_clock(&*self.shared.clock);
        if let Some(by_ms) = jump {
            tracing::warn!(by_ms, "an operator acknowledged the clock jump");
        }
        jump
    }

    /// Refuses new writes, lets those on their way finish, seals the log, persists the index and
    /// archives what is not archived yet, all within `bound`. Reads go on. A node that is not ready yet
    /// has nothing to drain and stays as it is. Drain again to go on after the bound has passed.
    pub fn drain(&self, bound: Duration) -> DrainReport {
        self.drain_log(bound, true)
    }

    /// With `archive`, archives what is left; without, only says what that is.
    fn drain_log(&self, bound: Duration, archive: bool) -> DrainReport {
        let shared = &self.shared;
        let since = shared.clock.monotonic();
        let from = [Phase::Running, Phase::Draining, Phase::Drained];
        let mut problems = Vec::new();
        let mut unfinished = shared.intake.unfinished();
        if shared.gate.step(&from, Phase::Draining).is_ok() {
            unfinished = self.wait_idle(bound);
            if unfinished == 0 || unfinished == shared.given_up() {
                let left = || bound.saturating_sub(shared.clock.monotonic().saturating_sub(since));
                problems = self.settle(left());
                let unarchived = shared.archive_rest(if archive { left() } else { Duration::ZERO });
                problems.extend(unarchived);
                let _ = shared.gate.step(&[Phase::Draining], Phase::Drained);
            }
        }
        let Progress { applied, durable } = self.progress();
        let took = shared.clock.monotonic().saturating_sub(since);
        let report = DrainReport {
            state: shared.gate.state(),
            unfinished,
            durable,
            applied,
            problems,
            took,
        };
        tracing::info!(?report, "drain");
        report
    }

    /// Waits until everything let in is answered, or waits for the archive alone, or nobody waits for
    /// what is left; what is left, but for what waits for the archive.
    fn wait_idle(&self, bound: Duration) -> usize {
        let shared = &self.shared;
        let mut left = bound;
        loop {
            let look = left.min(DRAIN_LOOK);
            let unfinished = shared.intake.wait_idle(look);
            // In this order: what is answered in between counts as unfinished, and is looked at again.
            let unfinished = unfinished.saturating_sub(shared.waiting_for_archive());
            left = left.saturating_sub(look);
            if unfinished == 0 || left.is_zero() || unfinished == shared.given_up() {
                return unfinished;
            }
        }
    }

    /// Seals the log and persists the index; what went wrong.
    fn settle(&self, bound: Duration) -> Vec<String> {
        let shared = &self.shared;
        let since = shared.clock.monotonic();
        let mut problems = Vec::new();
        if let Err(error) = self.ask_log(Command::Seal, bound) {
            problems.push(format!("the log is not sealed: {error}"));
        }
        let left = bound.saturating_sub(shared.clock.monotonic().saturating_sub(since));
        let persist = {
            let shared = Arc::clone(shared);
            move || persist(&shared).map_err(|error| error.to_string())
        };
        if let Err(error) = within(left, persist) {
            problems.push(format!("the index is not persisted: {error}"));
        }
        problems
    }

    fn ask_log(&self, command: Command, bound: Duration) -> Result<Option<String>, EngineError> {
        let (reply, answer) = sync_channel(1);
        self.shared.slot.order(Order { command, reply });
        match answer.recv_timeout(bound) {
            Ok(result) => Ok(result?),
            Err(_) => Err(EngineError::LogSilent),
        }
    }

    /// Writes the newest watermark, so that everything in the log is known to be durable.
    pub fn seal_log(&self, bound: Duration) -> Result<(), EngineError> {
        self.ask_log(Command::Seal, bound).map(drop)
    }

    /// Closes every file of the log, so that its file system can be unmounted and checked. Writes
    /// are refused until [`Engine::attach_log`]; reads go on.
    pub fn detach_log(&self, bound: Duration) -> Result<(), EngineError> {
        self.ask_log(Command::Detach, bound).map(drop)
    }

    /// Proves everything durable in the log and takes writes again, also after a failure that the
    /// log cannot judge by itself. What the log had kept, undecided, can be read afterwards.
    pub fn attach_log(&self, bound: Duration) -> Result<(), EngineError> {
        self.ask_log(Command::Attach, bound)?;
        let (durable, _) = self.shared.log.durable();
        // An index that does not follow is told by the state of the node.
        self.shared.applied.wait_for(durable, bound, || false);
        Ok(())
    }

    /// An operator has seen why the log is degraded; what that was, if it was.
    pub fn acknowledge_log(&self, bound: Duration) -> Result<Option<String>, EngineError> {
        let seen = self.ask_log(Command::Acknowledge, bound)?;
        if let Some(reason) = &seen {
            tracing::warn!(reason, "an operator acknowledged");
        }
        Ok(seen)
    }

    /// Brings the index to the medium. Never needed for correctness: a start replays less.
    pub fn persist(&self) -> Result<(), IndexError> {
        persist(&self.shared)
    }

    /// Seals the log and brings the index to the medium: a start after this has nothing to replay up to
    /// the position. Reads and writes go on.
    pub fn checkpoint(&self, bound: Duration) -> Result<Checkpoint, EngineError> {
        let since = self.shared.clock.monotonic();
        self.seal_log(bound)?;
        let position = self.shared.applied.position();
        self.persist()?;
        let Progress { durable, .. } = self.progress();
        let index_bytes = self.shared.index().disk_bytes()?;
        let took = self.shared.clock.monotonic().saturating_sub(since);
        Ok(Checkpoint { position, durable, index_bytes, took })
    }

    /// Takes writes again after a drain. The state afterwards: `ready`, `read_only` if the node
    /// cannot write, or the one it was in if it was not draining or drained.
    pub fn undrain(&self) -> NodeState {
        let _ = self.shared.gate.step(&[Phase::Draining, Phase::Drained], Phase::Running);
        self.shared.gate.state()
    }

    /// Drains, then ends all threads. Later writes and reads are refused. If the log still hangs
    /// when `bound` has passed, its thread is left behind.
    pub fn close(&self, bound: Duration) -> DrainReport {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // Without threads to wait for there is nobody to drain: closed before, or from inside.
        let bound = if threads.is_empty() { Duration::ZERO } else { bound };
        let mut report = self.drain_log(bound, false);
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.stop_archiving();
        self.shared.gate.set_phase(Phase::Stopped);
        self.shared.intake.close();
        self.bell.ring();
        self.shared.applied.nudge();
        // A log that keeps a group is not at work on it; one that hangs is left behind.
        let held = self.shared.appending().as_ref().is_some_and(|appending| appending.held);
        if report.unfinished == 0 || held {
            for thread in threads {
                // A panic was printed where it happened; the rest still has to end.
                let _ = thread.join();
            }
        } else {
            self.shared.waiters.release(Duration::MAX, "the node is stopping");
        }
        report.state = self.shared.gate.state();
        report
    }
}

fn persist(shared: &Shared) -> Result<(), IndexError> {
    let since = shared.clock.monotonic();
    let result = shared.index().persist();
    let took = shared.clock.monotonic().saturating_sub(since);
    metrics::operation(Operation::Persist, took, result.is_err());
    result
}

/// Does what may take as long as a disk likes. Past `bound` it goes on by itself, and nobody waits.
fn within(
    bound: Duration,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let (reply, answer) = sync_channel(1);
    let work = move || {
        // Whoever asked may have gone.
        let _ = reply.send(work());
    };
    thread::Builder::new().name("persist".into()).spawn(work).map_err(|error| error.to_string())?;
    let late = |_| Err(format!("not within {:.1} s", bound.as_secs_f32()));
    answer.recv_timeout(bound).unwrap_or_else(late)
}

impl Drop for Engine {
    /// An engine that was not closed is closed now.
    fn drop(&mut self) {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        if threads.is_empty() {
            return;
        }
        // The last handle may go inside a reply: that thread cannot wait for itself.
        let this = thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == this) {
            threads.clear();
        }
        self.close(DROP_BOUND);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("node", &self.node()).finish_non_exhaustive()
    }
}

/// What repairs of the log gave up.
pub(crate) fn lost_of(log: &dyn LogReader) -> Lost {
    Lost::new(log.lost().into_iter().map(|range| (range.first, range.last)))
}

/// What a log without records knows.
struct Nothing;

impl Known for Nothing {
    fn head(&self, _: &RecordId) -> Option<Head> {
        None
    }

    fn tier(&self, _: &RecordId) -> Option<Tier> {
        None
    }

    fn superseded_by(&self, _: &RecordId) -> Vec<RecordId> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn nobody_waits_longer_than_the_bound() {
        assert_eq!(within(Duration::from_secs(20), || Ok(())), Ok(()));
        let failed = within(Duration::from_secs(20), || Err("no room".to_owned()));
        assert_eq!(failed, Err("no room".to_owned()));
        let (go_on, held) = channel::<()>();
        let hangs = move || held.recv().map_err(|error| error.to_string());
        assert_eq!(within(Duration::from_millis(10), hangs), Err("not within 0.0 s".to_owned()));
        drop(go_on);
    }
}
