//! The server in this process: put together, started, stopped.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{DrainReport, Engine, Fence, NodeState};
use stemedb_io::{Clock as _, Env, RealClock};
use stemedb_log::{Log as _, LogState, Wal};
use stemedb_model::{LogId, SigningKey, Timeline};
use stemedb_remote::{RetentionHandle, Writer};
use stemedb_server::Server;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::archive;
use crate::cluster::{self, Duties, Lease, Role};
use crate::config::{self, Config, Log, LogFormat};
use crate::context::Context;
use crate::database::{self, Database, First};
use crate::failure::Failure;
use crate::notify::{self, Manager, Report};
use crate::operations;
use crate::standby::{self, Begin, Follow, Following, Promoted};
use crate::telemetry::Traces;

/// How often it is looked whether something failed that ends the process.
const FAILURE_LOOK: Duration = Duration::from_millis(200);
/// How often the node is looked at for the service manager.
const MANAGER_LOOK: Duration = Duration::from_millis(100);
/// How long an end waits for the lease to be given back.
const LEASE_BOUND: Duration = Duration::from_secs(5);

/// A server that answers.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The engine behind it.
    pub engine: Arc<Engine>,
    /// The root key, if it is on this machine.
    pub root: Option<SigningKey>,
    /// Whether this start made the database.
    pub created: bool,
    /// Where the secret of the first API key is, if this start made it.
    pub first_key: Option<PathBuf>,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    server: Server,
    /// Of a node that follows another.
    standby: Option<Arc<Follow>>,
    /// Of one that could be followed.
    lease: Option<Lease>,
    duties: Option<Duties>,
    /// Ends when it is dropped.
    _retention: Option<RetentionHandle>,
    config: Config,
}

/// Why a server is to end.
pub enum End {
    /// Somebody asked for it.
    Asked,
    /// It cannot go on.
    Failed(Failure),
    /// It goes on as something else: the standby was promoted, or follows another branch.
    Anew,
}

/// The signals that a server heeds. Kept by what outlives a runtime: one that comes while a standby
/// becomes a primary is heeded then.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hung_up: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    fn catch(runtime: &Runtime) -> Result<Self, Failure> {
        let _runtime = runtime.enter();
        let caught = |kind| {
            signal(kind).map_err(|error| Failure::error("cannot wait for signals").because(error))
        };
        Ok(Self {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hung_up: caught(SignalKind::hangup())?,
        })
    }
}

/// Serves until a signal asks to stop, then drains. SIGHUP has it take what `read` gives then, as far
/// as that can be changed while it runs.
pub fn run(
    config: &Config,
    first: &First,
    context: &Context,
    read: impl Fn() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let traces = Traces::start(&config.telemetry, &context.env.clock)?;
    let logging = start_logging(&config.log, traces.as_ref())?;
    let manager = Arc::new(Manager::of_this_process()?);
    manager.tell(&[notify::status("opening the log")]);
    let (mut config, mut lease, mut signals) = (config.clone(), None, None);
    let failed = loop {
        let mut catch = |runtime: &Runtime| {
            if signals.is_none() {
                signals = Some(Signals::catch(runtime)?);
            }
            Ok(())
        };
        let running = start_with(&config, first, &context.env, lease.take(), &mut catch)?;
        announce(&running, &config, context);
        show_recovery(&running, context)?;
        running.keep_told(&manager);
        let hang_up = || running.reload(&logging, read());
        let end = running.wait_for_end(manager.listens(), signals.as_mut(), hang_up)?;
        if !matches!(end, End::Anew) {
            manager.tell(&[notify::stopping()]);
        }
        // Whatever port it was: callers find it there again.
        config.server.listen = running.address;
        let (report, promoted) = running.stop_all()?;
        if report.unfinished > 0 {
            context.say(&format!("{} records were still on their way", report.unfinished));
        }
        for problem in &report.problems {
            context.say(problem);
        }
        match (end, promoted) {
            (End::Failed(failure), _) => break Some(failure),
            (End::Asked, _) => break None,
            (End::Anew, None) => {}
            (End::Anew, Some(promoted)) => {
                lease = standby::finish(&config, &context.env, promoted)?;
                context.say("promoted: this node takes writes");
            }
        }
    };
    if let Some(traces) = traces {
        traces.stop();
    }
    failed.map_or(Ok(()), Err)
}

/// Says what was begun.
fn announce(running: &Running, config: &Config, context: &Context) {
    if running.created {
        let key = config.node_dir().join("root.key");
        match &running.root {
            Some(_) => {
                context.say(&format!("made a new database; its root key is {}", key.display()))
            }
            None => context.say("made a new database"),
        }
    }
    if let Some(file) = &running.first_key {
        // The place, never the key: what is said here is read by others.
        context.say(&format!("made the first API key, role admin; it is in {}", file.display()));
    }
    context.say(&format!(
        "listening on {}, data in {}",
        running.url(),
        config.server.data_dir.display()
    ));
    if running.standby.is_some() {
        let of = config.cluster.standby_of.as_deref().unwrap_or_default();
        context.say(&format!("a standby of {of}: it takes no writes"));
    }
}

/// Shows how far the replay is, beside the server that answers probes meanwhile. Why it failed, if
/// it does, the engine logs, and probes tell.
fn show_recovery(running: &Running, context: &Context) -> Result<(), Failure> {
    let engine = Arc::clone(&running.engine);
    let context = Context { json: context.json, env: context.env.clone() };
    std::thread::Builder::new()
        .name("recovery".into())
        .spawn(move || drop(database::wait_ready(&engine, &context)))
        .map(drop)
        .map_err(|error| Failure::error("cannot start a thread").because(error))
}

/// Listens, opens the database, answers. Returns while the index may still be replaying: probes
/// tell when the node is ready.
pub fn start(config: &Config, first: &First, env: &Env) -> Result<Running, Failure> {
    start_with(config, first, env, None, &mut |_| Ok(()))
}

/// The same, with the lease that a promotion has taken. `before` is called when all is open, right before
/// the first request is answered.
fn start_with(
    config: &Config,
    first: &First,
    env: &Env,
    lease: Option<Lease>,
    before: &mut dyn FnMut(&Runtime) -> Result<(), Failure>,
) -> Result<Running, Failure> {
    // Before the log and the engine name their first metric.
    stemedb_server::install_recorder();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(config.server().limits.blocking_threads())
        .build()
        .map_err(|error| Failure::error("cannot start threads").because(error))?;
    let listen = config.server.listen;
    let listener = runtime.block_on(TcpListener::bind(listen)).map_err(|error| {
        Failure::error(format!("cannot listen on {listen}"))
            .because(error)
            .hint("--listen ADDR takes another address; `ss -ltnp` shows who has this one")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::error("cannot tell the address").because(error))?;
    if let Some(tls) = &config.server().tls {
        // Before anything is made: a start that is refused changes nothing.
        stemedb_server::certificate_ends(env, tls)
            .map_err(|error| Failure::error("cannot start the server").because(error))?;
    }
    let mut config = config.clone();
    let begin = match standby::begin(&config)? {
        // The promotion of an earlier process had come so far.
        Begin::Standby(Some((log_id, followed)), Some(branch))
            if standby::is_branch(&config.wal_dir(), env, (log_id, branch)) =>
        {
            standby::own(&config, env, log_id, (followed, branch))?;
            Begin::Primary
        }
        begin => begin,
    };
    if let Begin::Standby(known, promoting) = begin {
        let following = standby::open(&config, env, known, promoting)?;
        before(&runtime)?;
        let running = start_standby(&config, env, (runtime, listener, address), following)?;
        if let (Some(follow), Some(branch)) = (&running.standby, promoting) {
            standby::go_on(follow, branch)?;
        }
        return Ok(running);
    }
    if matches!(cluster::role(&config)?, Some(Role::Promoted { .. }))
        && config.archive.url.is_none()
    {
        // It goes on where the one before it has archived.
        config.archive.url.clone_from(&config.cluster.standby_of);
    }
    let config = &config;
    let mut lease = lease;
    let mut fence = |wal: &Wal,
                     (log_id, timeline): (LogId, Timeline)|
     -> Result<Option<Arc<dyn Fence>>, Failure> {
        if lease.as_ref().is_none_or(|lease| lease.timeline != timeline) {
            let parent = wal.cutter().parent();
            let parent =
                parent.map_err(|error| Failure::error("cannot read the log").because(error))?;
            let parent = parent.map(|(timeline, _)| timeline);
            lease = cluster::of_primary(config, env, Writer { log_id, timeline, parent })?;
        }
        Ok(lease.as_ref().map(|lease| lease.fence(wal.reader())))
    };
    let database = database::open_fenced(config, env, Some(first), &mut fence)?;
    let Database { engine, recovery, cutter, trimmer, root, created } = database;
    for warning in &recovery.warnings {
        tracing::warn!("{warning}");
    }
    let server = Server::new(Arc::clone(&engine), env, config.server())
        .map_err(|error| Failure::error("cannot start the server").because(error))?;
    let first_key = server.first_key().map(Path::to_owned);
    let in_the_clear = config.auth.enabled && config.tls.certificate.is_none();
    if in_the_clear && stemedb_server::check_loopback(address).is_err() {
        tracing::warn!(%address, "API keys cross the network unencrypted: set tls.certificate, or put TLS in front");
    }
    let retention = archive::start_retention(config, env, trimmer, cutter.clone())?;
    let mut duties = None;
    // Before anybody writes.
    if let Some(archive) = archive::start(config, env, cutter)? {
        engine
            .archive_with(Arc::clone(&archive), config.archive.sync)
            .map_err(|error| Failure::error("cannot archive").because(error))?;
        if let Some(lease) = &lease {
            duties = Duties::begin(config, env, lease.view(), &engine, archive)?;
        }
    }
    if let Some(root) = &root {
        // Who waits for a lease need not wait here.
        register_custodial(&server, &engine, root.clone(), created && lease.is_none())?;
    }
    operations::keep_exported(config, &runtime);
    before(&runtime)?;
    let (stop, serving) = begin_to_serve(config, env, (&runtime, listener), &server)?;
    let config = config.clone();
    let running = Running {
        address,
        engine,
        root,
        created,
        first_key,
        runtime,
        stop,
        serving,
        server,
        standby: None,
        lease,
        duties,
        _retention: retention,
        config,
    };
    Ok(running)
}

/// The same for a node that follows another.
fn start_standby(
    config: &Config,
    env: &Env,
    (runtime, listener, address): (Runtime, TcpListener, SocketAddr),
    following: Following,
) -> Result<Running, Failure> {
    let Following { engine, replica } = following;
    let asked = Arc::clone(&replica) as Arc<dyn stemedb_server::Replica>;
    let server = Server::of_replica(Arc::clone(&engine), env, config.server(), asked)
        .map_err(|error| Failure::error("cannot start the server").because(error))?;
    replica.serve(server.clone());
    let first_key = server.first_key().map(Path::to_owned);
    let (stop, serving) = begin_to_serve(config, env, (&runtime, listener), &server)?;
    Ok(Running {
        address,
        engine,
        root: None,
        created: false,
        first_key,
        runtime,
        stop,
        serving,
        server,
        standby: Some(replica),
        lease: None,
        duties: None,
        _retention: None,
        config: config.clone(),
    })
}

/// Answers from now on, until the sender is used or gone.
fn begin_to_serve(
    config: &Config,
    env: &Env,
    (runtime, listener): (&Runtime, TcpListener),
    server: &Server,
) -> Result<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>), Failure> {
    let socket = match config.admin_socket() {
        Some(path) => Some(bind_socket(&path, env, runtime)?),
        None => None,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        // An end of the sender is a stop, too.
        let _ = stopped.await;
    };
    Ok((stop, runtime.spawn(server.clone().serve(listener, socket, shutdown))))
}

/// A socket that only its owner may open: it gets its name once it has its mode.
fn bind_socket(path: &Path, env: &Env, runtime: &Runtime) -> Result<UnixListener, Failure> {
    let failed = |error| {
        Failure::error(format!("cannot listen on {}", path.display()))
            .because(error)
            .hint("server.admin_socket names a shorter path that can be written, or \"\" for none")
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    if env.vfs.exists(&new).map_err(failed)? {
        env.vfs.remove_file(&new).map_err(failed)?;
    }
    let _runtime = runtime.enter();
    let listener = UnixListener::bind(&new).map_err(failed)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    // What an earlier process left there, nobody listens on: the lock of the folder is ours.
    env.vfs.rename(&new, path).map_err(failed)?;
    Ok(listener)
}

/// Makes the key by which the server signs for its callers an agent. Waits for it only where
/// there is nothing to replay first: the server must answer probes while it recovers.
fn register_custodial(
    server: &Server,
    engine: &Arc<Engine>,
    root: SigningKey,
    wait: bool,
) -> Result<(), Failure> {
    let (server, engine) = (server.clone(), Arc::clone(engine));
    let registration = std::thread::Builder::new().name("custodial".into()).spawn(move || {
        let clock = RealClock::new();
        while engine.may_write().is_err() {
            if engine.node().state == NodeState::Stopped {
                return;
            }
            clock.sleep(FAILURE_LOOK);
        }
        if let Err(problem) = server.register_custodial(&root) {
            tracing::error!(%problem, "the server's signing key is not registered");
        }
    });
    let registration =
        registration.map_err(|error| Failure::error("cannot start a thread").because(error))?;
    if wait && registration.join().is_err() {
        return Err(Failure::error("the server's signing key is not registered"));
    }
    Ok(())
}

impl Running {
    /// Its address.
    pub fn url(&self) -> String {
        let scheme = if self.config.tls.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Takes a configuration as far as that can be done now: certificates, limits, rate limits, what is logged.
    fn reload(&self, logging: &Logging, read: Result<Config, Failure>) {
        let taken = read.map_err(|failure| failure.report()).and_then(|config| {
            let filter = config.log.filter.parse::<EnvFilter>();
            let filter = filter.map_err(|error| format!("log.filter: {error}"))?;
            self.server.reload(&config.server())?;
            (logging.0)(filter)?;
            Ok(config)
        });
        match taken {
            Ok(config) => {
                let waiting = wait_for_restart(&self.config, &config);
                tracing::warn!("the configuration is read anew");
                if !waiting.is_empty() {
                    tracing::warn!(keys = waiting.join(", "), "these take a restart");
                }
            }
            Err(problem) => {
                tracing::error!(problem = problem.trim_end(), "the configuration stays as it was");
            }
        }
    }

    /// Tells the service manager how the node is, until the end. From among the tasks that answer
    /// requests, so that it falls silent where those hang.
    fn keep_told(&self, manager: &Arc<Manager>) {
        if !manager.listens() {
            return;
        }
        let (engine, manager) = (Arc::clone(&self.engine), Arc::clone(manager));
        let mut report = Report::new(manager.ping_every());
        self.runtime.spawn(async move {
            loop {
                manager.tell(&report.news(&engine.node(), engine.pulse(), engine.monotonic()));
                tokio::time::sleep(MANAGER_LOOK).await;
            }
        });
    }

    /// Why the process should end though nobody asked. A service manager (`managed`) starts again what
    /// could not recover; without one, probes are left to tell.
    fn broken(&self, managed: bool) -> Option<Failure> {
        if self.serving.is_finished() {
            return Some(Failure::error("the server broke off"));
        }
        let node = self.engine.node();
        match (node.log, node.reason) {
            (LogState::ReadOnly { reason }, _) if self.config.wal.exit_on_failure => {
                let what = format!("the log cannot make bytes durable: {reason}");
                Some(Failure::error(what).hint(
                    "mend the file system, then start again; wal.exit_on_failure = false keeps reads up",
                ))
            }
            (_, Some(reason)) if managed && reason.code == "recovery_failed" => {
                let what = format!("cannot recover the database: {}", reason.detail);
                let dir = self.config.server.data_dir.display();
                Some(Failure::error(what).hint(format!("stemedb wal verify --data-dir {dir}")))
            }
            _ => None,
        }
    }

    /// Returns on SIGTERM or Ctrl-C, or with the reason why the process should end by itself. On SIGHUP
    /// does what it is told. Signals that are not caught yet are caught from now on.
    pub fn wait_for_end(
        &self,
        managed: bool,
        signals: Option<&mut Signals>,
        hang_up: impl Fn(),
    ) -> Result<End, Failure> {
        let end = async {
            loop {
                tokio::time::sleep(FAILURE_LOOK).await;
                if self.standby.as_ref().is_some_and(|standby| standby.over()) {
                    return End::Anew;
                }
                if let Some(failure) = self.broken(managed) {
                    return End::Failed(failure);
                }
            }
        };
        let mut caught;
        let signals = match signals {
            Some(signals) => signals,
            None => {
                caught = Signals::catch(&self.runtime)?;
                &mut caught
            }
        };
        Ok(self.runtime.block_on(async {
            let mut end = pin!(end);
            loop {
                tokio::select! {
                    _ = signals.terminate.recv() => return End::Asked,
                    _ = signals.interrupt.recv() => return End::Asked,
                    _ = signals.hung_up.recv() => hang_up(),
                    end = &mut end => return end,
                }
            }
        }))
    }

    /// Refuses new writes, finishes what is under way, closes everything.
    pub fn stop(self) -> Result<DrainReport, Failure> {
        self.stop_all().map(|(report, _)| report)
    }

    /// The same; what is to become of a standby that was promoted.
    fn stop_all(self) -> Result<(DrainReport, Option<Promoted>), Failure> {
        let bound = self.config.server().drain_timeout;
        // First, so that probes say `draining` while the last requests are answered.
        self.engine.drain(bound);
        let _ = self.stop.send(());
        let served = self.runtime.block_on(self.serving);
        let promoted = self.standby.as_ref().and_then(|standby| standby.stop());
        let report = self.engine.close(bound);
        drop(self.duties);
        // Nothing is acknowledged any more.
        if let Some(lease) = self.lease {
            lease.release(LEASE_BOUND);
        }
        match served {
            Ok(Ok(())) => Ok((report, promoted)),
            Ok(Err(error)) => Err(Failure::error("the server broke off").because(error)),
            Err(error) => Err(Failure::error("the server broke off").because(error)),
        }
    }
}

/// The keys that differ and cannot be changed while a node runs.
fn wait_for_restart(now: &Config, new: &Config) -> Vec<String> {
    let values = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let (now, new) = (values(now), values(new));
    let mut keys = Vec::new();
    for ((section, before), (_, after)) in
        config::sections(&now).into_iter().zip(config::sections(&new))
    {
        for ((key, before), (_, after)) in before.into_iter().zip(after) {
            let name = format!("{section}.{key}");
            let reloaded =
                ["limits.", "rate_limit.", "tls."].iter().any(|one| name.starts_with(one));
            if before != after && !reloaded && name != "log.filter" {
                keys.push(name);
            }
        }
    }
    keys
}

/// Changes what is logged.
pub struct Logging(Box<dyn Fn(EnvFilter) -> Result<(), String>>);

/// Log lines go to standard error; spans of requests to `traces` as well.
pub fn start_logging(log: &Log, traces: Option<&Traces>) -> Result<Logging, Failure> {
    let filter: EnvFilter = log
        .filter
        .parse()
        .map_err(|error| Failure::error(format!("log.filter `{}`", log.filter)).because(error))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => {
            use std::io::IsTerminal;
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colour).boxed()
        }
    };
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry();
    // Another subscriber in the process is a test's; its lines are as good.
    let _ = match traces {
        // For everything, so that what is not said costs nothing.
        None => registry.with(lines.and_then(filter)).try_init(),
        // Spans are sent whatever is said.
        Some(traces) => {
            registry.with(lines.with_filter(filter).and_then(traces.layer())).try_init()
        }
    };
    Ok(Logging(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))))
}
