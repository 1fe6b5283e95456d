//! What every handler has at hand.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stemedb_engine::{Engine, ReadError, Submission, View};
use stemedb_io::Env;
use stemedb_model::{Agent, AgentAct, AgentId, Body, Principal, Record, Signed, SigningKey, Space};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::audit::Audit;
use crate::config::ServerConfig;
use crate::custodial;
use crate::error::{ApiError, ApiResult};
use crate::metrics::Metrics;
use crate::wire::ErrorCode;

/// Name of the one principal while there are no API keys.
const LOCAL: &str = "local";

/// Shared by all handlers.
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) config: ServerConfig,
    pub(crate) metrics: Metrics,
    /// Takes down what is read.
    pub(crate) audit: Arc<Audit>,
    pub(crate) principal: Principal,
    /// The key by which the server signs for its caller, if it does.
    pub(crate) custodial: Option<SigningKey>,
    root: OnceLock<AgentId>,
    pub(crate) requests: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    feeds: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(engine: Arc<Engine>, env: &Env, config: ServerConfig) -> io::Result<Self> {
        config
            .validate()
            .map_err(|problems| io::Error::new(io::ErrorKind::InvalidInput, problems.join("; ")))?;
        let principal = Principal::parse(LOCAL).map_err(io::Error::other)?;
        let custodial = match config.signing.custodial {
            true => Some(custodial::open_key(env, &config.data_dir, &principal)?),
            false => None,
        };
        let limits = &config.limits;
        let metrics = Metrics::install(&config.commit);
        let audit = Audit::open(env, &config.data_dir, engine.log_id(), &config.audit);
        Ok(Self {
            metrics,
            audit: Arc::new(audit),
            requests: Arc::new(Semaphore::new(limits.requests)),
            reads: Arc::new(Semaphore::new(limits.reads)),
            streams: Arc::new(Semaphore::new(limits.streams)),
            feeds: Arc::new(Semaphore::new(limits.feeds)),
            principal,
            custodial,
            root: OnceLock::new(),
            engine,
            config,
        })
    }

    /// When a request that comes now has to be answered, on the monotonic clock.
    pub(crate) fn deadline(&self) -> Duration {
        self.engine.monotonic().saturating_add(self.config.limits.request_timeout)
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
        let late = || {
            let bound = self.config.limits.request_timeout.as_millis();
            ApiError::new(ErrorCode::DeadlineExceeded, format!("no answer within {bound} ms"))
        };
        let timeout = self.config.limits.request_timeout;
        let reads = Arc::clone(&self.reads);
        let done = async move {
            let permit = reads.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work()
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
    pub(crate) fn stream(&self) -> ApiResult<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let most = self.config.limits.streams;
            let detail = format!("{most} imports and exports are under way, which is the limit");
            ApiError::new(ErrorCode::Overloaded, detail)
        })
    }

    /// A place among the feeds that go on.
    pub(crate) fn feed(&self) -> ApiResult<OwnedSemaphorePermit> {
        Arc::clone(&self.feeds).try_acquire_owned().map_err(|_| {
            let most = self.config.limits.feeds;
            let detail = format!("{most} feeds are followed, which is the limit");
            ApiError::new(ErrorCode::Overloaded, detail)
        })
    }

    /// Submits one record and waits for its fate.
    pub(crate) async fn submit(&self, submission: Submission) -> ApiResult<stemedb_engine::Ack> {
        let (reply, fate) = oneshot::channel();
        self.engine.submit(submission, move |result| {
            // A caller that has gone needs no answer.
            let _ = reply.send(result);
        });
        match fate.await {
            Ok(result) => result.map_err(ApiError::from),
            Err(_) => Err(ApiError::new(ErrorCode::OutcomeUnknown, "the pipeline gave no answer")
                .outcome("indeterminate")),
        }
    }

    /// Waits until the list of conflicts tells all up to `at_least`, without holding a thread.
    pub(crate) async fn reach_conflicts(&self, at_least: stemedb_model::Position) -> ApiResult<()> {
        self.reach(at_least).await?;
        let mut pause = Duration::from_millis(5);
        let end = self.engine.monotonic().saturating_add(self.config.limits.at_least_timeout);
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
        let mut pause = Duration::from_millis(1);
        let end = self.engine.monotonic().saturating_add(self.config.limits.at_least_timeout);
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

/// Registers the custodial key as an agent of the default space, signed by the root key, if it is
/// not yet what the configuration says. Blocks until the node is ready.
///
/// What the agent may do is decided in `docs/decisions/2026-11-22-custodial-agent.md`.
pub(crate) fn register_custodial(app: &App, root: &SigningKey) -> Result<(), String> {
    let Some(custodial) = &app.custodial else { return Ok(()) };
    app.engine.wait_ready(|_| ()).map_err(|error| error.to_string())?;
    let view = app
        .engine
        .view(stemedb_model::Position::NONE, Duration::ZERO)
        .map_err(|error| error.to_string())?;
    let signing = &app.config.signing;
    let mut roles = signing.roles.clone();
    roles.sort();
    let key = custodial.agent_id();
    let state = view.snapshot().registry().agent(&Space::default(), &key, view.position());
    let known = state.registered
        && state.ceiling == signing.ceiling.tier()
        && state.roles.iter().eq(roles.iter().copied());
    if known || state.revoked_from.is_some() || state.replaced_by.is_some() {
        return Ok(());
    }
    let record = Record {
        space: Space::default(),
        agent: root.agent_id(),
        at: app.engine.now(),
        log_id: Some(app.engine.log_id()),
        body: Body::Agent(Agent {
            key,
            act: AgentAct::Register {
                name: Some(LOCAL.into()),
                ceiling: signing.ceiling,
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
