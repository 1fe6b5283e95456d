//! A database in a temporary folder with a log whose every append the test decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use stemedb_engine::{Ack, AckStatus, Engine, EngineConfig, NodeState, Submission, WriteError};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::sim::{SimClock, SimRng, SimVfs};
use stemedb_io::{Clock, Env};
use stemedb_log::{Commit, Entry, Log, LogError, LogReader, LogState, NewEntry};
use stemedb_model::*;
use tempfile::TempDir;

pub(crate) const WALL_MS: i64 = 1_800_000_000_000;
pub(crate) const LOG_ID: LogId = LogId([7; 16]);
pub(crate) const TIMELINE: Timeline = Timeline([9; 16]);
/// Long enough for any machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What an append does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Good,
    /// Refused, and the log is read-only.
    Refused,
    /// Refused for now: the log itself goes on.
    Unprepared,
    /// Undecided; the bytes are not on the medium.
    Lost,
    /// Undecided; the bytes are on the medium.
    Kept,
    /// Durable, but with a time before the last one: the index cannot take it.
    BackInTime,
}

/// What survives a restart, and the strings that a test pulls.
pub(crate) struct Medium {
    clock: Arc<SimClock>,
    state: Mutex<MediumState>,
    changed: Condvar,
}

#[derive(Default)]
struct MediumState {
    groups: Vec<Vec<Entry>>,
    /// Written by an append that failed; found by the next start.
    undecided: Option<Vec<Entry>>,
    /// Of a failed append, as the log keeps it.
    held_back: Option<Vec<Entry>>,
    /// `resume` succeeds.
    mended: bool,
    detached: bool,
    durable: u64,
    recorded_at: i64,
    read_only: Option<String>,
    script: VecDeque<Step>,
    /// Groups with more bytes are refused.
    group_bytes_max: Option<usize>,
    held: bool,
    seals_held: bool,
    scans_held: bool,
    scans_panic: bool,
    appending: bool,
    appends: usize,
    seals: usize,
}

impl Medium {
    pub(crate) fn new(clock: Arc<SimClock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The next appends do this; later ones are good.
    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state.lock().unwrap().script.extend(steps);
    }

    /// The log takes no longer groups than that.
    pub(crate) fn limit_groups(&self, bytes: usize) {
        self.state.lock().unwrap().group_bytes_max = Some(bytes);
    }

    /// Appends wait until [`Medium::release`].
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    pub(crate) fn release(&self) {
        self.state.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// Seals wait until told otherwise.
    pub(crate) fn hold_seals(&self, hold: bool) {
        self.state.lock().unwrap().seals_held = hold;
        self.changed.notify_all();
    }

    /// Scans wait until told otherwise.
    pub(crate) fn hold_scans(&self, hold: bool) {
        self.state.lock().unwrap().scans_held = hold;
        self.changed.notify_all();
    }

    /// Scans panic until told otherwise.
    pub(crate) fn panic_scans(&self, panic: bool) {
        self.state.lock().unwrap().scans_panic = panic;
    }

    /// The times of all records, as if none had gone back.
    pub(crate) fn mend_times(&self) {
        let mut state = self.state.lock().unwrap();
        let newest = Millis(state.recorded_at);
        let last = state.groups.last_mut().unwrap();
        last.iter_mut().for_each(|entry| entry.recorded_at = newest);
    }

    /// Blocks until an append waits.
    pub(crate) fn wait_held(&self) {
        let state = self.state.lock().unwrap();
        let waiting = |state: &mut MediumState| !(state.held && state.appending);
        let (state, late) = self.changed.wait_timeout_while(state, PATIENCE, waiting).unwrap();
        drop(state);
        assert!(!late.timed_out(), "no append came");
    }

    /// A log that failed can resume from now on.
    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().mended = true;
    }

    pub(crate) fn appends(&self) -> usize {
        self.state.lock().unwrap().appends
    }

    pub(crate) fn seals(&self) -> usize {
        self.state.lock().unwrap().seals
    }

    /// Ids by position, as the next start will find them.
    pub(crate) fn ids(&self) -> BTreeMap<Position, RecordId> {
        let state = self.state.lock().unwrap();
        let entries = state.groups.iter().chain(&state.undecided).flatten();
        entries.map(|entry| (entry.position, entry.new.id)).collect()
    }

    /// Forgets the newest group: a log that lost what it had acknowledged.
    pub(crate) fn lose_newest_group(&self) {
        let mut state = self.state.lock().unwrap();
        let lost = state.groups.pop().unwrap();
        state.durable -= lost.len() as u64;
    }

    /// Another node makes the log longer.
    pub(crate) fn add(&self, signed: &Signed) {
        let mut state = self.state.lock().unwrap();
        let position = Position(state.durable + 1);
        let new = NewEntry {
            id: signed.id(),
            signature: signed.signature(),
            principal: principal("other"),
            custodial: false,
            idempotency: None,
            body: Arc::clone(signed.bytes()),
        };
        let recorded_at = Millis(state.recorded_at);
        state.groups.push(vec![Entry { position, registry: position, recorded_at, new }]);
        state.durable += 1;
    }

    pub(crate) fn open(self: &Arc<Self>) -> Box<dyn Log> {
        let mut state = self.state.lock().unwrap();
        if let Some(group) = state.undecided.take() {
            state.durable += group.len() as u64;
            state.recorded_at = state.recorded_at.max(group.last().unwrap().recorded_at.0);
            state.groups.push(group);
        }
        state.held_back = None;
        state.mended = false;
        state.detached = false;
        state.read_only = None;
        state.script.clear();
        state.held = false;
        Box::new(TestLog(Arc::clone(self)))
    }
}

struct TestLog(Arc<Medium>);

impl Log for TestLog {
    fn append(&mut self, group: &[NewEntry]) -> Result<Commit, LogError> {
        assert!(!group.is_empty());
        let medium = &self.0;
        let mut state = medium.state.lock().unwrap();
        if state.detached {
            return Err(LogError::Detached);
        }
        if let Some(reason) = &state.read_only {
            return Err(LogError::ReadOnly { reason: reason.clone() });
        }
        state.appending = true;
        medium.changed.notify_all();
        state = medium.changed.wait_while(state, |state| state.held).unwrap();
        state.appending = false;
        state.appends += 1;
        let bytes: usize = group.iter().map(NewEntry::encoded_len).sum();
        if state.group_bytes_max.is_some_and(|max| bytes > max) {
            return Err(LogError::Refused(format!("a group of {bytes} bytes")));
        }
        let step = state.script.pop_front().unwrap_or(Step::Good);
        let mut recorded_at = state.recorded_at.max(medium.clock.now_ms());
        if step == Step::BackInTime {
            recorded_at = state.recorded_at - 1;
        }
        let first = Position(state.durable + 1);
        let entries: Vec<Entry> = (first.0..)
            .zip(group)
            .map(|(position, new)| Entry {
                position: Position(position),
                registry: Position(position),
                recorded_at: Millis(recorded_at),
                new: new.clone(),
            })
            .collect();
        let error = |state: &mut MediumState| {
            let source = std::io::Error::other("as the script says");
            state.read_only = Some("as the script says".into());
            Err(LogError::Io { op: "sync", file: "script".into(), offset: 0, source })
        };
        match step {
            Step::Good | Step::BackInTime => {
                state.durable += entries.len() as u64;
                state.recorded_at = state.recorded_at.max(recorded_at);
                state.groups.push(entries);
                Ok(Commit { first, recorded_at: Millis(recorded_at) })
            }
            Step::Unprepared => Err(LogError::Unprepared { reason: "no room".into() }),
            Step::Refused => {
                state.read_only = Some("refused".into());
                Err(LogError::ReadOnly { reason: "refused".into() })
            }
            Step::Lost => {
                state.held_back = Some(entries);
                error(&mut state)
            }
            Step::Kept => {
                state.held_back = Some(entries.clone());
                state.undecided = Some(entries);
                error(&mut state)
            }
        }
    }

    fn seal(&mut self) -> Result<(), LogError> {
        let state = self.0.state.lock().unwrap();
        let mut state = self.0.changed.wait_while(state, |state| state.seals_held).unwrap();
        match &state.read_only {
            Some(reason) => Err(LogError::ReadOnly { reason: reason.clone() }),
            None => {
                state.seals += 1;
                Ok(())
            }
        }
    }

    fn resume(&mut self) -> Result<Option<Commit>, LogError> {
        let mut state = self.0.state.lock().unwrap();
        let Some(reason) = state.read_only.clone() else { return Ok(None) };
        if !state.mended {
            return Err(LogError::ReadOnly { reason });
        }
        state.read_only = None;
        state.undecided = None;
        Ok(state.held_back.take().map(|entries| {
            let first = entries.first().unwrap();
            let commit = Commit { first: first.position, recorded_at: first.recorded_at };
            state.durable += entries.len() as u64;
            state.recorded_at = state.recorded_at.max(commit.recorded_at.0);
            state.groups.push(entries);
            commit
        }))
    }

    fn detach(&mut self) -> Result<(), LogError> {
        self.0.state.lock().unwrap().detached = true;
        Ok(())
    }

    fn attach(&mut self) -> Result<Option<Commit>, LogError> {
        let mut state = self.0.state.lock().unwrap();
        state.detached = false;
        state.mended = true;
        drop(state);
        self.resume()
    }

    fn acknowledge(&mut self) -> Option<String> {
        None
    }

    fn group_bytes_max(&self) -> usize {
        self.0.state.lock().unwrap().group_bytes_max.unwrap_or(usize::MAX)
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.0) as Arc<dyn LogReader>
    }
}

impl LogReader for Medium {
    fn identity(&self) -> Option<(LogId, Timeline)> {
        (self.state.lock().unwrap().durable > 0).then_some((LOG_ID, TIMELINE))
    }

    fn durable(&self) -> (Position, Millis) {
        let state = self.state.lock().unwrap();
        (Position(state.durable), Millis(state.recorded_at))
    }

    fn read(&self, position: Position) -> Result<Option<Entry>, LogError> {
        let state = self.state.lock().unwrap();
        Ok(state.groups.iter().flatten().find(|entry| entry.position == position).cloned())
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.scans_held).unwrap();
        let (groups, panic) = (state.groups.clone(), state.scans_panic);
        drop(state);
        assert!(!panic, "a scan panics, as the test says");
        for group in groups {
            let group: Vec<Entry> = group.into_iter().filter(|e| e.position >= from).collect();
            if !group.is_empty() && !visit(group)? {
                break;
            }
        }
        Ok(())
    }

    fn root(&self) -> (Position, Hash) {
        (self.durable().0, Hash([0; 32]))
    }

    fn state(&self) -> LogState {
        let state = self.state.lock().unwrap();
        match &state.read_only {
            _ if state.detached => LogState::Detached,
            Some(reason) => LogState::ReadOnly { reason: reason.clone() },
            None => LogState::Ok,
        }
    }
}

/// Everything that outlives an engine.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) medium: Arc<Medium>,
    pub(crate) config: EngineConfig,
}

impl World {
    /// A database with nothing but genesis.
    pub(crate) fn new() -> Self {
        let clock = Arc::new(SimClock::new(WALL_MS));
        let medium = Medium::new(Arc::clone(&clock));
        let config =
            EngineConfig { idle_seal: Duration::from_millis(5), ..EngineConfig::default() };
        let world = Self { dir: TempDir::new().unwrap(), clock, medium, config };
        Engine::genesis(&mut *world.medium.open(), &genesis(), principal("root")).unwrap();
        world
    }

    pub(crate) fn env(&self) -> Env {
        Env {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SimRng::new(1)),
            vfs: Arc::new(SimVfs::new(1)),
        }
    }

    pub(crate) fn index(&self) -> Index {
        let config = IndexConfig { cache_bytes: 1 << 20, ..IndexConfig::new(self.index_dir()) };
        Index::open(&config, Some((LOG_ID, TIMELINE))).unwrap()
    }

    pub(crate) fn index_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("index")
    }

    pub(crate) fn delete_index(&self) {
        std::fs::remove_dir_all(self.index_dir()).unwrap();
    }

    /// Starts an engine on what there is, ready.
    pub(crate) fn start(&self) -> Arc<Engine> {
        self.start_with(self.config.clone())
    }

    /// The same with other settings.
    pub(crate) fn start_with(&self, config: EngineConfig) -> Arc<Engine> {
        let config = EngineConfig { idle_seal: self.config.idle_seal, ..config };
        let log = self.medium.open();
        let engine = Engine::open(config, self.env(), log, self.index()).unwrap();
        engine.wait_ready(|_| ()).unwrap();
        engine
    }
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

/// Signs genesis.
pub(crate) fn root() -> SigningKey {
    key(255)
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal::parse(name).unwrap()
}

pub(crate) fn sealed(key: &SigningKey, at: i64, body: Body) -> Signed {
    let unbound = matches!(body, Body::Assertion(_) | Body::Cosign(_));
    let record = Record {
        space: Space::default(),
        agent: key.agent_id(),
        at: Millis(at),
        log_id: (!unbound).then_some(LOG_ID),
        body,
    };
    Signed::seal(record, key).unwrap()
}

pub(crate) fn genesis() -> Signed {
    let body = Body::Genesis(Genesis { format: 1, root: root().agent_id() });
    sealed(&root(), WALL_MS, body)
}

pub(crate) fn claim(subject: &str, value: &str) -> Assertion {
    Assertion {
        subject: Subject::parse(subject).unwrap(),
        predicate: PredicateName::parse("risk").unwrap(),
        object: Value::Text(value.into()),
        confidence: 1.0,
        source: None,
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: Vec::new(),
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    }
}

pub(crate) fn assertion(author: &SigningKey, subject: &str, value: &str) -> Signed {
    sealed(author, WALL_MS, Body::Assertion(claim(subject, value)))
}

pub(crate) fn vote(author: &SigningKey, assertion: RecordId) -> Signed {
    sealed(author, WALL_MS, Body::Vote(Vote { assertion, weight: 1.0 }))
}

pub(crate) fn retract(author: &SigningKey, target: RecordId) -> Signed {
    let target = RetractTarget::Record(target);
    sealed(author, WALL_MS, Body::Retract(Retract { target, reason: None }))
}

pub(crate) fn supersede(author: &SigningKey, old: RecordId, new: RecordId) -> Signed {
    sealed(author, WALL_MS, Body::Supersede(Supersede { old, new, reason: None }))
}

pub(crate) fn register(
    author: &SigningKey,
    key: &SigningKey,
    ceiling: SourceClass,
    roles: &[Role],
) -> Signed {
    let act = AgentAct::Register { name: None, ceiling, operator: None, roles: roles.to_vec() };
    sealed(author, WALL_MS, Body::Agent(Agent { key: key.agent_id(), act }))
}

pub(crate) fn the_key(subject: &str) -> Key {
    Key {
        space: Space::default(),
        subject: Subject::parse(subject).unwrap(),
        predicate: PredicateName::parse("risk").unwrap(),
    }
}

pub(crate) fn submission(signed: Signed) -> Submission {
    let principal = principal("tester");
    Submission { signed, principal, custodial: false, idempotency: None, deadline: None }
}

/// The answer to come.
pub(crate) type Answer = Receiver<Result<Ack, WriteError>>;

pub(crate) fn send(engine: &Engine, submission: Submission) -> Answer {
    let (reply, answer) = channel();
    engine.submit(submission, move |result| {
        // A test that has its answer may be gone.
        let _ = reply.send(result);
    });
    answer
}

pub(crate) fn wait(answer: &Answer) -> Result<Ack, WriteError> {
    answer.recv_timeout(PATIENCE).expect("no answer came")
}

/// Writes a record and waits for its fate.
pub(crate) fn write(engine: &Engine, signed: Signed) -> Result<Ack, WriteError> {
    wait(&send(engine, submission(signed)))
}

/// Writes a record that must be new.
pub(crate) fn create(engine: &Engine, signed: Signed) -> Position {
    let ack = write(engine, signed).unwrap();
    assert_eq!(ack.status, AckStatus::Created);
    ack.position
}

/// Blocks until the node is in this state.
pub(crate) fn wait_state(engine: &Engine, state: NodeState) {
    for _ in 0..2_000 {
        if engine.node().state == state {
            return;
        }
        RealPause.pause();
    }
    panic!("the node is {:?}, expected {state:?}", engine.node());
}

/// Real time: the engine's threads run in it, whatever the simulated clock says.
pub(crate) struct RealPause;

impl RealPause {
    pub(crate) fn pause(&self) {
        stemedb_io::RealClock::new().sleep(Duration::from_millis(5));
    }
}
