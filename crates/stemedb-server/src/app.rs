//! What every handler has at hand.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use stemedb_engine::{Engine, ReadError, Submission, View};
use stemedb_io::{Env, FolderLock};
use stemedb_model::{
    Agent, AgentAct, AgentId, Body, Principal, Record, Role, Signed, SigningKey, Space,
};
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use crate::audit::Audit;
use crate::auth::{Key, KeyStore, Quotas, Trail, hold};
use crate::config::{Limits, ServerConfig};
use crate::crowd::Crowd;
use crate::custodial;
use crate::error::{ApiError, ApiResult};
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::replica::Replica;
use crate::slots::{Slot, Slots};
use crate::span::{self, Part};
use crate::tls::Tls;
use crate::wire::{AdminEntry, ErrorCode, KeyRole, Time};

/// Name of the one principal while there are no API keys.
const LOCAL: &str = "local";

/// Shared by all handlers.
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    /// This node follows another.
    pub(crate) replica: Option<Arc<dyn Replica>>,
    /// As it was at the start. Limits and rates may be others by now: [`Self::limits`], the limiter.
    pub(crate) config: ServerConfig,
    limits: RwLock<Arc<Limits>>,
    pub(crate) metrics: Metrics,
    /// Takes down what is read.
    pub(crate) audit: Arc<Audit>,
    /// Who everybody is without API keys, and the node itself.
    pub(crate) principal: Principal,
    /// The key by which the server signs for that one, if it signs at all.
    pub(crate) custodial: Option<SigningKey>,
    /// The keys by which it signs for the holders of API keys.
    custodians: Mutex<BTreeMap<Principal, SigningKey>>,
    /// One is made at a time.
    making: Mutex<()>,
    /// `None`: without authentication.
    pub(crate) keys: Option<KeyStore>,
    /// Of the folder of this node, where the keys do not hold it.
    _lock: Option<Box<dyn FolderLock>>,
    /// Where the secret of the first key is, if this start made it.
    pub(crate) first_key: Option<PathBuf>,
    pub(crate) trail: Trail,
    pub(crate) limiter: Limiter,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) tls: Option<Tls>,
    requests_named: AtomicU64,
    env: Env,
    root: OnceLock<AgentId>,
    /// The secret half, if it is on this machine.
    root_key: OnceLock<SigningKey>,
    pub(crate) requests: Arc<Slots>,
    pub(crate) connections: Arc<Slots>,
    /// The connections of each address.
    pub(crate) crowd: Arc<Crowd>,
    reads: Arc<Slots>,
    streams: Arc<Slots>,
    feeds: Arc<Slots>,
}

impl App {
    pub(crate) fn new(
        engine: Arc<Engine>,
        env: &Env,
        config: ServerConfig,
        replica: Option<Arc<dyn Replica>>,
    ) -> io::Result<Self> {
        config
            .validate()
            .map_err(|problems| io::Error::new(io::ErrorKind::InvalidInput, problems.join("; ")))?;
        let principal = Principal::parse(LOCAL).map_err(io::Error::other)?;
        let custodial = match config.signing.custodial {
            true => Some(custodial::open_key(env, &config.data_dir, &principal)?),
            false => None,
        };
        let (mut keys, mut first_key, mut lock) = (None, None, None);
        if config.auth.enabled {
            let opened = KeyStore::open(env, &config.data_dir).map_err(io::Error::other)?;
            (keys, first_key) = (Some(opened.0), opened.1);
        } else {
            lock = Some(hold(env, &config.data_dir).map_err(io::Error::other)?);
        }
        let tls = config.tls.as_ref().map(|tls| Tls::load(env, tls)).transpose();
        let tls = tls.map_err(io::Error::other)?;
        let limits = &config.limits;
        let metrics = Metrics::install(&config.commit);
        let audit = Audit::open(env, &config.data_dir, engine.log_id(), &config.audit);
        let app = Self {
            metrics,
            audit: Arc::new(audit),
            requests: Slots::new(limits.requests),
            connections: Slots::new(limits.connections),
            crowd: Crowd::new(limits.connections_per_address),
            reads: Slots::new(limits.reads_at_once()),
            streams: Slots::new(limits.streams),
            feeds: Slots::new(limits.feeds),
            limits: RwLock::new(Arc::new(limits.clone())),
            principal,
            custodial,
            custodians: Mutex::default(),
            making: Mutex::default(),
            keys,
            _lock: lock,
            first_key,
            trail: Trail::new(env, &config.data_dir),
            tls,
            requests_named: AtomicU64::new(env.rng.next_u64()),
            quotas: Arc::new(Quotas::open(env, &config.data_dir)),
            limiter: Limiter::new(&config.rates, Arc::clone(&env.clock)),
            env: env.clone(),
            root: OnceLock::new(),
            root_key: OnceLock::new(),
            engine,
            replica,
            config,
        };
        app.tell_certificate();
        app.count_keys();
        if app.first_key.is_some() {
            let mut act = AdminEntry::new(Time(app.engine.now()), "first start", LOCAL, "offline");
            act.detail = Some("one admin key made, there was no list".to_owned());
            if let Err(error) = app.trail.append(act) {
                tracing::error!(%error, "that a first admin key was made was not taken down");
            }
        }
        Ok(app)
    }

    /// The bounds that hold now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other bounds from now on. What is under way keeps what it has.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.requests.set(limits.requests);
        self.connections.set(limits.connections);
        self.crowd.set(limits.connections_per_address);
        self.reads.set(limits.reads_at_once());
        self.streams.set(limits.streams);
        self.feeds.set(limits.feeds);
        let mut now = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(limits.clone());
    }

    /// The key by which the server signs for a principal, if it signs at all. The first time it is read
    /// or made, which may take as long as the disk likes.
    pub(crate) fn custodian(&self, principal: &Principal) -> ApiResult<Option<SigningKey>> {
        let Some(local) = &self.custodial else { return Ok(None) };
        if *principal == self.principal {
            return Ok(Some(local.clone()));
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.known_custodian(principal) {
            return Ok(Some(key));
        }
        let key =
            custodial::open_key(&self.env, &self.config.data_dir, principal).map_err(|error| {
                ApiError::internal(format!(
                    "the signing key of {principal} cannot be used: {error}"
                ))
            })?;
        let mut known = self.custodians.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(principal.clone(), key.clone());
        Ok(Some(key))
    }

    /// The same if it is in memory: never waits for the disk.
    pub(crate) fn known_custodian(&self, principal: &Principal) -> Option<SigningKey> {
        let local = self.custodial.as_ref()?;
        if *principal == self.principal {
            return Some(local.clone());
        }
        let known = self.custodians.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(principal).cloned()
    }

    /// Brings it into memory, on a thread that may wait for the disk.
    pub(crate) async fn meet(self: &Arc<Self>, principal: &Principal) -> ApiResult<()> {
        if self.custodial.is_none() || self.known_custodian(principal).is_some() {
            return Ok(());
        }
        let (app, principal) = (Arc::clone(self), principal.clone());
        self.read(move || app.custodian(&principal).map(drop)).await
    }

    /// A name for a request; another one each time, and after each start.
    pub(crate) fn next_request_id(&self) -> String {
        format!("{:016x}", self.requests_named.fetch_add(1, Ordering::Relaxed))
    }

    /// Shows when the certificate ends.
    pub(crate) fn tell_certificate(&self) {
        if let Some(tls) = &self.tls {
            self.metrics.certificate(tls.expires_at());
        }
    }

    /// Shows how many keys of each role there are.
    pub(crate) fn count_keys(&self) {
        let now = self.engine.now();
        let all = self.keys.as_ref().map(KeyStore::all).unwrap_or_default();
        for role in KeyRole::ALL {
            let live = all.values().filter(|key| key.role() == role && key.is_live(now)).count();
            self.metrics.keys(role, live);
        }
    }

    /// When a request that comes now has to be answered, on the monotonic clock.
    pub(crate) fn deadline(&self) -> Duration {
        self.engine.monotonic().saturating_add(self.limits().request_timeout)
    }

    /// The key that signed genesis; `None` until the database can be read.
    pub(crate) fn root(&self) -> Option<AgentId> {
        if let Some(root) = self.root.get() {
            return Some(*root);
        }
        let view = self.engine.view(stemedb_model::Position::NONE, Duration::ZERO).ok()?;
        let (_, root) = view.snapshot().registry().genesis()?;
        Some(*self.root.get_or_init(|| root))
    }

    /// Does work that may touch the disk on a thread of its own, within the time of a request.
    /// What takes longer goes on unheard.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        self.read_within(self.limits().request_timeout, work).await
    }

    /// The same within another bound: for what an operator asks, and takes as long as the database is large.
    pub(crate) async fn read_within<T: Send + 'static>(
        self: &Arc<Self>,
        timeout: Duration,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let late = || {
            let bound = timeout.as_millis();
            ApiError::new(ErrorCode::DeadlineExceeded, format!("no answer within {bound} ms"))
        };
        let reads = Arc::clone(&self.reads);
        let done = async move {
            let slot = reads.take().await;
            let (request, part) = (Span::current(), span::part(Part::Read));
            tokio::task::spawn_blocking(move || {
                let _slot = slot;
                request.in_scope(|| part.in_scope(work))
            })
            .await
        };
        match tokio::time::timeout(timeout, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(ApiError::internal(format!("a read broke off: {panic}"))),
            Err(_) => Err(late()),
        }
    }

    /// A place among the imports and exports.
    pub(crate) fn stream(&self) -> ApiResult<Slot> {
        self.streams.try_take().ok_or_else(|| {
            let most = self.streams.most();
            let detail = format!("{most} imports and exports are under way, which is the limit");
            ApiError::new(ErrorCode::Overloaded, detail)
        })
    }

    /// A place among the feeds that go on.
    pub(crate) fn feed(&self) -> ApiResult<Slot> {
        self.feeds.try_take().ok_or_else(|| {
            let most = self.feeds.most();
            let detail = format!("{most} feeds are followed, which is the limit");
            ApiError::new(ErrorCode::Overloaded, detail)
        })
    }

    /// Submits one record and waits for its fate.
    pub(crate) async fn submit(&self, submission: Submission) -> ApiResult<stemedb_engine::Ack> {
        let (reply, fate) = oneshot::channel();
        let part = span::part(Part::Commit);
        self.engine.submit(submission, move |result| {
            // A caller that has gone needs no answer.
            let _ = reply.send(result);
        });
        match fate.instrument(part).await {
            Ok(result) => result.map_err(ApiError::from),
            Err(_) => Err(ApiError::new(ErrorCode::OutcomeUnknown, "the pipeline gave no answer")
                .outcome("indeterminate")),
        }
    }

    /// Waits until the list of conflicts tells all up to `at_least`, without holding a thread.
    pub(crate) async fn reach_conflicts(&self, at_least: stemedb_model::Position) -> ApiResult<()> {
        self.reach(at_least).await?;
        let mut pause = Duration::from_millis(5);
        let end = self.engine.monotonic().saturating_add(self.limits().at_least_timeout);
        loop {
            let reached = self.engine.conflict_standing()?.position;
            if reached >= at_least {
                return Ok(());
            }
            if self.engine.monotonic() >= end {
                let behind = ReadError::Behind { asked: at_least, applied: reached };
                return Err(behind.into());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Waits until `at_least` is applied, without holding a thread.
    pub(crate) async fn reach(&self, at_least: stemedb_model::Position) -> ApiResult<View> {
        match self.engine.view(at_least, Duration::ZERO) {
            Err(ReadError::Behind { .. }) => {
                self.wait(at_least).instrument(span::part(Part::Wait)).await
            }
            other => Ok(other?),
        }
    }

    async fn wait(&self, at_least: stemedb_model::Position) -> ApiResult<View> {
        let mut pause = Duration::from_millis(1);
        let end = self.engine.monotonic().saturating_add(self.limits().at_least_timeout);
        loop {
            let found = self.engine.view(at_least, Duration::ZERO);
            match found {
                Err(ReadError::Behind { .. }) if self.engine.monotonic() < end => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                other => return Ok(other?),
            }
        }
    }
}

/// Keeps the root key, and registers with it the keys by which the server signs for its callers,
/// where they are not yet what the configuration says. Blocks until the node is ready.
///
/// What these agents may do is decided in `docs/decisions/2026-11-22-custodial-agent.md`.
pub(crate) fn register_custodial(app: &App, root: &SigningKey) -> Result<(), String> {
    // A second root key would be another database's.
    let _ = app.root_key.set(root.clone());
    let Some(custodial) = &app.custodial else { return Ok(()) };
    app.engine.wait_ready(|_| ()).map_err(|error| error.to_string())?;
    let mut roles = app.config.signing.roles.clone();
    roles.sort();
    register(app, root, &app.principal, custodial, &Space::default(), roles)?;
    let keys = app.keys.as_ref().map(KeyStore::all).unwrap_or_default();
    let now = app.engine.now();
    for key in keys.values().filter(|key| key.role() >= KeyRole::Writer && key.is_live(now)) {
        register_holder(app, root, key)?;
    }
    Ok(())
}

/// The same for the holder of one API key, if the root key is on this machine.
pub(crate) fn register_key(app: &App, id: &str) -> Result<(), String> {
    let keys = app.keys.as_ref().map(KeyStore::all).unwrap_or_default();
    match (app.root_key.get(), keys.get(id)) {
        (Some(root), Some(key)) => register_holder(app, root, key),
        _ => Ok(()),
    }
}

/// Whoever writes with a key is no curator by that: roles in the log are given by registrars.
fn register_holder(app: &App, root: &SigningKey, key: &Key) -> Result<(), String> {
    if key.principal == app.principal {
        return Ok(());
    }
    let custodian = app.custodian(&key.principal).map_err(|error| error.problem.detail)?;
    let Some(custodian) = custodian else { return Ok(()) };
    let everywhere = vec![Space::default()];
    for space in key.spaces.as_ref().unwrap_or(&everywhere) {
        register(app, root, &key.principal, &custodian, space, Vec::new())?;
    }
    Ok(())
}

/// Registers a key by which the server signs for `owner`. Of an owner that has been registered with
/// roles by somebody else, those stay.
fn register(
    app: &App,
    root: &SigningKey,
    owner: &Principal,
    custodial: &SigningKey,
    space: &Space,
    roles: Vec<Role>,
) -> Result<(), String> {
    let view = app
        .engine
        .view(stemedb_model::Position::NONE, Duration::ZERO)
        .map_err(|error| error.to_string())?;
    let ceiling = app.config.signing.ceiling;
    let key = custodial.agent_id();
    let state = view.snapshot().registry().agent(space, &key, view.position());
    let ours = *owner == app.principal;
    let known = state.registered
        && (!ours
            || state.ceiling == ceiling.tier() && state.roles.iter().eq(roles.iter().copied()));
    if known || state.revoked_from.is_some() || state.replaced_by.is_some() {
        return Ok(());
    }
    let record = Record {
        space: space.clone(),
        agent: root.agent_id(),
        at: app.engine.now(),
        log_id: Some(app.engine.log_id()),
        body: Body::Agent(Agent {
            key,
            act: AgentAct::Register {
                name: Some(owner.as_str().into()),
                ceiling,
                operator: None,
                roles,
            },
        }),
    };
    let signed = Signed::seal(record, root).map_err(|error| error.to_string())?;
    let submission = Submission {
        signed,
        principal: app.principal.clone(),
        custodial: false,
        idempotency: None,
        deadline: None,
    };
    let (reply, fate) = std::sync::mpsc::sync_channel(1);
    app.engine.submit(submission, move |result| {
        // The receiver waits below; it cannot be gone.
        let _ = reply.send(result);
    });
    match fate.recv() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
