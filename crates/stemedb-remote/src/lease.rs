//! The lease: of the nodes that could write a log only the one that holds it acknowledges.
//!
//! A lease is an object with a number, put under the condition that there is none of its name. The
//! highest number counts. Whoever holds number n renews by putting n + 1; whoever wants to take over
//! puts n + 1 as well, and of the two the store lets one.
//!
//! A holder counts its time on its own clock from before its put, so it never believes in a lease
//! longer than anybody who has seen the object. Who takes over counts the same time, and some more for
//! clocks that do not run alike, from after it has seen the object or put the next one. So there is no
//! moment at which two of them hold it, whatever is slow, stands still, or fails without saying how.
//!
//! Old objects are removed. A node that has slept through them may put one of their numbers again; that
//! is why a holder looks, after each put, whether its number is the highest.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_io::{Clock, Env};
use stemedb_model::{AgentId, LogId, Millis, Position, SigningKey, Timeline};

use crate::codec::{BadManifest, Fields, MapWriter, open, seal};
use crate::error::RemoteError;
use crate::names;
use crate::store::{Put, Store, StoreError};
use crate::telemetry;

const DOMAIN: &str = "stemedb/lease/v1";
const VERSION: u64 = 1;
/// No lease is longer.
const LEASE_BYTES_MAX: u64 = 4 << 10;
/// No address is longer.
pub const ADDRESS_BYTES_MAX: usize = 512;
/// Objects that stay behind the newest.
const KEPT: u64 = 16;
/// The wait after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// A lease is renewed when this part of it is over.
const RENEW_PART: u32 = 3;

/// One lease, as its object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The database.
    pub log_id: LogId,
    /// The branch that is written under it.
    pub timeline: Timeline,
    /// From 1.
    pub number: u64,
    /// One life of a process; chance.
    pub holder: [u8; 16],
    /// For how long it is held.
    pub time: Duration,
    /// Its holder holds it no longer.
    pub released: bool,
    /// The newest durable position of its holder then.
    pub position: Position,
    /// Where its holder is reached, for whoever asks another node to write.
    pub address: String,
    /// By the clock of its holder, for people.
    pub made_at: Millis,
}

impl Lease {
    /// Its bytes, signed.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let body = MapWriter::default()
            .uint("v", VERSION)
            .bytes("log_id", &self.log_id.0)
            .bytes("timeline", &self.timeline.0)
            .uint("number", self.number)
            .bytes("holder", &self.holder)
            .uint("time_ms", u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX))
            .boolean("released", self.released)
            .uint("position", self.position.0)
            .text("address", &self.address)
            .int("made_at", self.made_at.0)
            .finish();
        seal(DOMAIN, &body, key)
    }

    /// Reads one and says who signed it.
    pub fn open(bytes: &[u8]) -> Result<(Self, AgentId), BadManifest> {
        let (body, key) = open(DOMAIN, bytes)?;
        let mut fields = Fields::new(body)?;
        fields.version(VERSION)?;
        let lease = Self {
            log_id: LogId(fields.array("log_id")?),
            timeline: Timeline(fields.array("timeline")?),
            number: fields.uint("number")?,
            holder: fields.array("holder")?,
            time: Duration::from_millis(fields.uint("time_ms")?),
            released: fields.boolean("released")?,
            position: Position(fields.uint("position")?),
            address: fields.text("address")?.to_owned(),
            made_at: Millis(fields.int("made_at")?),
        };
        fields.end()?;
        Ok((lease, key))
    }
}

/// The newest lease of a log, or `None` if there has never been one. One that cannot be read is an
/// error: nobody knows how long it is held.
pub fn newest_lease(store: &dyn Store, log_id: LogId) -> Result<Option<Lease>, RemoteError> {
    // Removed by its holder between the look and the reading: there is a newer one.
    for _ in 0..4 {
        let Some(number) = highest(store, log_id, 0)? else { return Ok(None) };
        let name = names::lease(log_id, number);
        let bytes = match store.get(&name, LEASE_BYTES_MAX) {
            Err(StoreError::Missing { .. }) => continue,
            got => got?,
        };
        let (lease, _) = Lease::open(&bytes)
            .map_err(|problem| RemoteError::Manifest { name: name.clone(), problem })?;
        if (lease.log_id, lease.number) != (log_id, number) {
            let problem = "it is the lease of another place".into();
            return Err(RemoteError::Damaged { name, problem });
        }
        return Ok(Some(lease));
    }
    Err(RemoteError::Damaged {
        name: names::leases(log_id),
        problem: "each lease was gone before it could be read".into(),
    })
}

/// The highest number behind `after`.
fn highest(store: &dyn Store, log_id: LogId, after: u64) -> Result<Option<u64>, RemoteError> {
    let after = if after == 0 { String::new() } else { names::lease(log_id, after) };
    let there = store.list(&names::leases(log_id), &after)?;
    Ok(there.iter().filter_map(|one| names::manifest_number(&one.name)).max())
}

/// Settings of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long it is held without being renewed.
    pub time: Duration,
    /// How much longer than that a taker waits: for clocks that do not run alike.
    pub skew: Duration,
    /// Where this node is reached.
    pub address: String,
}

/// Who may follow whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// The database.
    pub log_id: LogId,
    /// The branch that this node writes.
    pub timeline: Timeline,
    /// The branch that it left.
    pub parent: Option<Timeline>,
}

/// How a lease is taken from another holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Once it was seen not to be renewed for as long as it lasts.
    WhenOver,
    /// At once, so that it cannot be renewed; it counts once the one before it is over.
    Now,
}

/// What a keeper is at, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LeaseState {
    /// It looks who holds it.
    #[default]
    Looking,
    /// Another holds it, or did a moment ago.
    Waiting {
        /// Where that one is reached.
        address: String,
        /// How long it is waited yet.
        left: Duration,
    },
    /// This node holds it.
    Held,
    /// It was not renewed in time: the store does not answer.
    Over {
        /// What it said.
        problem: String,
    },
    /// Another node has gone on from the log of this one, or writes another branch.
    Lost {
        /// Who, and what to do.
        problem: String,
    },
    /// Given back.
    Released,
}

impl LeaseState {
    /// The name in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Waiting { .. } => "waiting",
            Self::Held => "held",
            Self::Over { .. } => "over",
            Self::Lost { .. } => "lost",
            Self::Released => "released",
        }
    }
}

/// What a lease allows at any moment. Clones look at the same one.
#[derive(Clone)]
pub struct LeaseView {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// It counts from here...
    from: Duration,
    /// ... to here, on the clock of this machine. Nothing counts at the beginning.
    until: Duration,
    state: LeaseState,
    /// What the store said last, while it fails.
    problem: Option<String>,
    stop: Option<Stop>,
    ended: bool,
}

/// How a keeper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Leaves the lease to itself.
    Leave,
    /// Gives it back.
    Release,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LeaseView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseView").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl LeaseView {
    /// Whether this node holds the lease now; if not, why.
    pub fn check(&self) -> Result<(), String> {
        let inner = self.shared.lock();
        let now = self.clock.boottime();
        if inner.from <= now && now < inner.until {
            return Ok(());
        }
        Err(match self.state_of(&inner, now) {
            LeaseState::Lost { problem } => problem,
            LeaseState::Over { problem } => {
                format!("the lease is over and was not renewed: {problem}")
            }
            LeaseState::Waiting { address, left } => {
                let at = if address.is_empty() { String::new() } else { format!(" at {address}") };
                let left = left.as_secs_f64();
                format!(
                    "another node{at} holds the lease, or did: it is waited for, {left:.1} s at least"
                )
            }
            LeaseState::Released => "the lease was given back".to_owned(),
            LeaseState::Looking | LeaseState::Held => "the lease is not held yet".to_owned(),
        })
    }

    /// What it is at.
    pub fn state(&self) -> LeaseState {
        self.state_of(&self.shared.lock(), self.clock.boottime())
    }

    fn state_of(&self, inner: &Inner, now: Duration) -> LeaseState {
        match &inner.state {
            LeaseState::Held if now < inner.from => {
                LeaseState::Waiting { address: String::new(), left: inner.from.saturating_sub(now) }
            }
            LeaseState::Held if now >= inner.until => {
                let problem = inner.problem.clone();
                let asleep = || "this machine or process stood still".to_owned();
                LeaseState::Over { problem: problem.unwrap_or_else(asleep) }
            }
            LeaseState::Waiting { address, left } => LeaseState::Waiting {
                address: address.clone(),
                // Kept as the moment at which it ends.
                left: left.saturating_sub(now),
            },
            state => state.clone(),
        }
    }
}

/// Takes and renews the lease of one log, for one life of a process.
pub struct LeaseKeeper {
    store: Arc<dyn Store>,
    env: Env,
    key: SigningKey,
    writer: Writer,
    config: LeaseConfig,
    take: Take,
    holder: [u8; 16],
    shared: Arc<Shared>,
    /// Tells how far the log is.
    position: Box<dyn Fn() -> Position + Send>,
    /// The number that this node holds, or held.
    held: Option<u64>,
    /// The put that is under way or whose outcome is not known.
    pending: Option<Pending>,
    /// Whose lease it is waited for, and until when.
    waiting: Option<(u64, Duration)>,
    renew_at: Duration,
    /// Until when the lease of another may be held yet, and how long that one was, or this one.
    inherited: Option<(Duration, Duration)>,
}

struct Pending {
    number: u64,
    /// Before the first attempt.
    since: Duration,
    /// How long what is put is held.
    time: Duration,
    bytes: Vec<u8>,
    /// That of the lease before it, if it was taken from another holder at once.
    taken: Option<Duration>,
}

impl std::fmt::Debug for LeaseKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseKeeper").field("held", &self.held).finish_non_exhaustive()
    }
}

impl LeaseKeeper {
    /// Asks nothing yet.
    pub fn new(
        store: Arc<dyn Store>,
        env: Env,
        key: SigningKey,
        writer: Writer,
        config: LeaseConfig,
        take: Take,
    ) -> Self {
        let mut holder = [0; 16];
        env.rng.fill(&mut holder);
        telemetry::lease_registered();
        Self {
            store,
            env,
            key,
            writer,
            config,
            take,
            holder,
            shared: Arc::default(),
            position: Box::new(|| Position::NONE),
            held: None,
            pending: None,
            waiting: None,
            renew_at: Duration::ZERO,
            inherited: None,
        }
    }

    /// What tells how far the log is: followers compare themselves with that.
    #[must_use]
    pub fn telling(mut self, position: impl Fn() -> Position + Send + 'static) -> Self {
        self.position = Box::new(position);
        self
    }

    /// What it allows.
    pub fn view(&self) -> LeaseView {
        LeaseView { shared: Arc::clone(&self.shared), clock: Arc::clone(&self.env.clock) }
    }

    fn now(&self) -> Duration {
        self.env.clock.boottime()
    }

    /// Does what is to be done now; says how long nothing is to be done then.
    pub fn step(&mut self) -> Duration {
        if matches!(self.shared.lock().state, LeaseState::Lost { .. } | LeaseState::Released) {
            return self.config.time;
        }
        let done = self.work();
        let pause = match done {
            Ok(pause) => {
                self.shared.lock().problem = None;
                pause
            }
            Err(error) => {
                telemetry::lease_failed();
                tracing::warn!(%error, "cannot take or renew the lease");
                self.shared.lock().problem = Some(error.to_string());
                RETRY.min(self.config.time / RENEW_PART)
            }
        };
        telemetry::lease(&self.view().state());
        pause
    }

    fn work(&mut self) -> Result<Duration, RemoteError> {
        if self.pending.is_some() {
            return self.put();
        }
        let now = self.now();
        if let Some(number) = self.held {
            if now < self.renew_at {
                return Ok(self.renew_at - now);
            }
            // Whoever waits for this one must wait for the one before it, too.
            let inherited = self.inherited.filter(|(until, _)| now < *until);
            let time = inherited.map_or(self.config.time, |(_, time)| time);
            self.prepare(number + 1, time, false, None);
            return self.put();
        }
        self.look()
    }

    /// Finds out who holds it, and takes it if it may be taken.
    fn look(&mut self) -> Result<Duration, RemoteError> {
        let Some(lease) = newest_lease(&*self.store, self.writer.log_id)? else {
            self.prepare(1, self.config.time, false, None);
            return self.put();
        };
        // After it was seen: whoever put it counts from before.
        let now = self.now();
        let Writer { timeline, parent, .. } = self.writer;
        if lease.timeline != timeline && parent != Some(lease.timeline) {
            let at = if lease.address.is_empty() {
                String::new()
            } else {
                format!(" at {}", lease.address)
            };
            let problem = format!(
                "a node{at} holds the lease and writes branch {} of this log, which is not the one here \
                 ({timeline}): `stemedb rejoin` makes this node a standby of that one",
                lease.timeline
            );
            tracing::error!(problem, "the lease is lost");
            self.tell(LeaseState::Lost { problem });
            return Ok(self.config.time);
        }
        if lease.released {
            self.prepare(lease.number + 1, self.config.time, false, None);
            return self.put();
        }
        if self.take == Take::Now && lease.timeline != timeline {
            let time = self.config.time.max(lease.time);
            self.prepare(lease.number + 1, time, false, Some(lease.time));
            return self.put();
        }
        let until = match self.waiting {
            Some((number, until)) if number == lease.number => until,
            _ => now + lease.time + self.config.skew,
        };
        if now >= until {
            self.waiting = None;
            self.prepare(lease.number + 1, self.config.time, false, None);
            return self.put();
        }
        self.waiting = Some((lease.number, until));
        self.tell(LeaseState::Waiting { address: lease.address, left: until });
        Ok((until - now).min(self.config.time / RENEW_PART))
    }

    fn prepare(&mut self, number: u64, time: Duration, released: bool, taken: Option<Duration>) {
        let lease = Lease {
            log_id: self.writer.log_id,
            timeline: self.writer.timeline,
            number,
            holder: self.holder,
            time,
            released,
            position: (self.position)(),
            address: self.config.address.clone(),
            made_at: Millis(self.env.clock.now_ms()),
        };
        let bytes = lease.seal(&self.key);
        self.pending = Some(Pending { number, since: self.now(), time, bytes, taken });
    }

    /// Puts what is pending; it is held then, unless somebody was before.
    fn put(&mut self) -> Result<Duration, RemoteError> {
        let Some(pending) = &self.pending else { return Ok(Duration::ZERO) };
        let log_id = self.writer.log_id;
        let name = names::lease(log_id, pending.number);
        // An attempt of which nothing was heard may have succeeded.
        let ours = match self.store.put_new(&name, &pending.bytes)? {
            Put::Created => true,
            Put::Exists => match self.store.get(&name, LEASE_BYTES_MAX) {
                Ok(found) => found == pending.bytes,
                Err(StoreError::Missing { .. } | StoreError::TooLong { .. }) => false,
                Err(error) => return Err(error.into()),
            },
        };
        if !ours || highest(&*self.store, log_id, pending.number)?.is_some() {
            self.lose();
            return Ok(Duration::ZERO);
        }
        let Some(Pending { number, since, time, taken, .. }) = self.pending.take() else {
            return Ok(Duration::ZERO);
        };
        let now = self.now();
        self.held = Some(number);
        self.waiting = None;
        self.renew_at = since + self.config.time / RENEW_PART;
        {
            let mut inner = self.shared.lock();
            if let Some(before) = taken {
                // It could not be renewed from the moment of the put, which is over by now.
                inner.from = now + before + self.config.skew;
                self.inherited = Some((inner.from, time));
            }
            inner.until = since + time;
        }
        self.tell(LeaseState::Held);
        telemetry::lease_renewed();
        self.remove_old(number);
        Ok(self.renew_at.saturating_sub(self.now()))
    }

    /// Somebody has put a higher number: from this moment on nothing counts.
    fn lose(&mut self) {
        self.pending = None;
        self.held = None;
        self.waiting = None;
        {
            let mut inner = self.shared.lock();
            (inner.from, inner.until) = (Duration::ZERO, Duration::ZERO);
        }
        self.tell(LeaseState::Looking);
    }

    /// The objects long before the newest; what stays is removed the next time.
    fn remove_old(&self, newest: u64) {
        let Some(last) = newest.checked_sub(KEPT).filter(|last| *last > 0) else { return };
        let name = names::lease(self.writer.log_id, last);
        if let Err(error) = self.store.remove(&name) {
            tracing::debug!(%error, name, "an old lease stays");
        }
    }

    fn tell(&self, state: LeaseState) {
        let mut inner = self.shared.lock();
        if inner.state.as_str() != state.as_str() {
            tracing::info!(from = inner.state.as_str(), to = state.as_str(), "lease");
        }
        inner.state = state;
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// Gives the lease back, so that nobody need wait: nothing counts any more, whether or not the store
    /// takes it.
    pub fn release(&mut self) -> Result<(), RemoteError> {
        // Of what may be another's yet nothing is said, and of a put that may have been done.
        let ours = self.pending.is_none() && self.now() >= self.shared.lock().from;
        let held = self.held.filter(|_| ours);
        self.lose();
        self.tell(LeaseState::Released);
        let Some(number) = held else { return Ok(()) };
        self.prepare(number + 1, self.config.time, true, None);
        if let Some(Pending { number, bytes, .. }) = self.pending.take() {
            self.store.put_new(&names::lease(self.writer.log_id, number), &bytes)?;
        }
        Ok(())
    }

    /// Starts a thread that keeps it.
    pub fn start(self) -> Result<LeaseHandle, RemoteError> {
        let view = self.view();
        let thread = std::thread::Builder::new().name("lease".into()).spawn(|| self.run());
        thread.map_err(|source| RemoteError::File {
            act: "start",
            file: "a thread".into(),
            source,
        })?;
        Ok(LeaseHandle { view })
    }

    fn run(mut self) {
        loop {
            let pause = self.step();
            let inner = self.shared.lock();
            let waited =
                self.shared.changed.wait_timeout_while(inner, pause, |inner| inner.stop.is_none());
            let stop = waited.unwrap_or_else(PoisonError::into_inner).0.stop;
            let Some(stop) = stop else { continue };
            if stop == Stop::Release
                && let Err(error) = self.release()
            {
                tracing::warn!(%error, "the lease is not given back: others wait until it is over");
            }
            self.shared.lock().ended = true;
            self.shared.changed.notify_all();
            return;
        }
    }
}

/// The keeper that runs on a thread. Dropped, it leaves the lease to itself.
#[derive(Debug)]
pub struct LeaseHandle {
    view: LeaseView,
}

impl LeaseHandle {
    /// What the lease allows.
    pub fn view(&self) -> LeaseView {
        self.view.clone()
    }

    /// Gives the lease back; waits for that up to `bound`. Whoever calls this acknowledges no more.
    pub fn release(self, bound: Duration) {
        let shared = &self.view.shared;
        let mut inner = shared.lock();
        inner.stop = Some(Stop::Release);
        shared.changed.notify_all();
        drop(shared.changed.wait_timeout_while(inner, bound, |inner| !inner.ended));
    }
}

impl Drop for LeaseHandle {
    fn drop(&mut self) {
        let mut inner = self.view.shared.lock();
        inner.stop.get_or_insert(Stop::Leave);
        drop(inner);
        self.view.shared.changed.notify_all();
    }
}
