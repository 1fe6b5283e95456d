//! Connections.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use stemedb_engine::Engine;
use stemedb_io::Env;
use stemedb_model::SigningKey;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::app::{App, register_custodial};
use crate::client::Client;
use crate::config::{Limits, ServerConfig, check_loopback};
use crate::crowd::Place;
use crate::learner;
use crate::metrics::UPKEEP_EVERY;
use crate::replica::Replica;
use crate::routes::router;
use crate::wire::ErrorCode;

/// How long to rest after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 128;
/// How often a connection of HTTP/2 on which nothing happens is asked whether it is there still.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long its answer may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is written when keys were used.
const USES_EVERY: Duration = Duration::from_secs(60);
/// How long the end of a node waits for that.
const USES_TIMEOUT: Duration = Duration::from_secs(1);

/// An engine behind HTTP. Clones share it.
#[derive(Clone)]
pub struct Server {
    app: Arc<App>,
    router: Router,
}

impl Server {
    /// Makes the routes, and the custodial key if there is none yet. The node need not be ready:
    /// until it is, probes say so and everything else is answered 503.
    pub fn new(engine: Arc<Engine>, env: &Env, config: ServerConfig) -> io::Result<Self> {
        Self::of(engine, env, config, None)
    }

    /// The same of a node that follows another.
    pub fn of_replica(
        engine: Arc<Engine>,
        env: &Env,
        config: ServerConfig,
        replica: Arc<dyn Replica>,
    ) -> io::Result<Self> {
        Self::of(engine, env, config, Some(replica))
    }

    fn of(
        engine: Arc<Engine>,
        env: &Env,
        config: ServerConfig,
        replica: Option<Arc<dyn Replica>>,
    ) -> io::Result<Self> {
        let app = Arc::new(App::new(engine, env, config, replica)?);
        let router = router(&app).map_err(io::Error::other)?;
        Ok(Self { app, router })
    }

    /// Where the secret of the first API key is, if this start made it.
    pub fn first_key(&self) -> Option<&Path> {
        self.app.first_key.as_deref()
    }

    /// Reads the API keys again: those of a standby are its primary's, and were fetched anew.
    pub fn reload_keys(&self) -> Result<(), String> {
        let Some(keys) = &self.app.keys else { return Ok(()) };
        keys.reload().map_err(|error| error.to_string())?;
        self.app.count_keys();
        Ok(())
    }

    /// Takes from a configuration what can be changed while requests are answered: certificates, limits and
    /// rate limits. Whether TLS is used at all is not. What is under way keeps the limits that it began
    /// with, connections among it. If it fails, all stays as it was.
    pub fn reload(&self, config: &ServerConfig) -> Result<(), String> {
        let reload = || {
            config.validate().map_err(|problems| problems.join("; "))?;
            match (&self.app.tls, &config.tls) {
                (Some(tls), Some(config)) => {
                    tls.reload(config).map_err(|error| error.to_string())?;
                    self.app.tell_certificate();
                }
                (None, None) => {}
                _ => return Err("[tls] is switched on or off by a restart".to_owned()),
            }
            self.app.limiter.set(&config.rates);
            self.app.set_limits(&config.limits);
            Ok(())
        };
        let done = reload();
        self.app.metrics.reloaded(done.is_ok());
        done
    }

    /// The routes, for tests that need no socket.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Registers the custodial key as an agent of the default space, signed by `root`, unless it
    /// is what the configuration says already. Blocks until the node is ready, and for one write.
    pub fn register_custodial(&self, root: &SigningKey) -> Result<(), String> {
        register_custodial(&self.app, root)
    }

    /// Answers requests until `shutdown` is done, then lets those under way finish, at most for
    /// the drain timeout. Draining the engine is the caller's: before `shutdown`, so that probes
    /// show it.
    ///
    /// On `socket` it answers what operators and administrators ask, without keys: whoever may open
    /// the file may do that.
    ///
    /// Without authentication, refuses a listener that others than this machine can reach.
    pub async fn serve(
        self,
        listener: TcpListener,
        socket: Option<UnixListener>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !self.app.config.auth.enabled {
            check_loopback(address).map_err(|error| io::Error::other(error.to_string()))?;
        }
        let mut limits = self.app.limits();
        let mut protocols = Protocols::new(&limits);
        let app = Arc::clone(&self.app);
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                app.metrics.upkeep();
                app.limiter.forget();
            }
        });
        let audit = tokio::spawn(Arc::clone(&self.app.audit).run());
        let uses = tokio::spawn(note_uses(Arc::clone(&self.app)));
        let learner = tokio::spawn(learner::run(Arc::clone(&self.app)));
        let graceful = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accept = async {
                let slot = self.app.connections.take().await;
                let (stream, peer) = listener.accept().await?;
                Ok((Accepted::Tcp(stream), Client::Peer(peer), Some(slot)))
            };
            // Not counted: an operator gets in however many connections there are.
            let accept_socket = async {
                match &socket {
                    Some(socket) => {
                        let (stream, _) = socket.accept().await?;
                        Ok((Accepted::Unix(stream), Client::Socket, None))
                    }
                    None => std::future::pending().await,
                }
            };
            let accepted: io::Result<_> = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accept_socket => accepted,
                accepted = accept => accepted,
            };
            let (stream, client, slot) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let newest = self.app.limits();
            if !Arc::ptr_eq(&limits, &newest) {
                protocols = Protocols::new(&newest);
                limits = newest;
            }
            let from = move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(client);
                request
            };
            let service = TowerToHyperService::new(self.router.clone().map_request(from));
            match stream {
                Accepted::Tcp(stream) => {
                    let Ok(place) = self.place(client) else {
                        self.app.metrics.rejected(ErrorCode::Overloaded);
                        tracing::debug!(%client, "a connection too many was closed");
                        continue;
                    };
                    // Without it, a small answer may wait for an acknowledgement of the one before.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    let mut stream = TimeoutStream::new(stream);
                    stream.set_write_timeout(Some(limits.write_timeout));
                    let stream = Box::pin(stream);
                    let held = (slot, place);
                    match &self.app.tls {
                        Some(tls) => {
                            let (acceptor, watcher) = (tls.acceptor(), graceful.watcher());
                            let protocols = protocols.clone();
                            tokio::spawn(to_its_end(
                                async move {
                                    protocols.over_tls(stream, acceptor, service, watcher).await
                                },
                                held,
                            ));
                        }
                        None => {
                            let stream = TokioIo::new(stream);
                            let connection = protocols.http1.serve_connection(stream, service);
                            let connection = graceful.watch(connection);
                            let connection = async { connection.await.map_err(io::Error::other) };
                            tokio::spawn(to_its_end(connection, held));
                        }
                    }
                }
                Accepted::Unix(stream) => {
                    if let Err(error) = may_ask(&stream) {
                        tracing::warn!(%error, "a connection was refused");
                        continue;
                    }
                    let stream = TokioIo::new(stream);
                    let connection = protocols.http1.serve_connection(stream, service);
                    let connection = graceful.watch(connection);
                    let connection = async { connection.await.map_err(io::Error::other) };
                    tokio::spawn(to_its_end(connection, slot));
                }
            }
        }
        drop((listener, socket));
        if tokio::time::timeout(self.app.config.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still under way when the drain timeout passed");
        }
        self.app.audit.close().await;
        audit.abort();
        upkeep.abort();
        uses.abort();
        // It is only about when keys were used: no disk may keep a node from ending.
        if tokio::time::timeout(USES_TIMEOUT, write_uses(&self.app)).await.is_err() {
            tracing::warn!("how API keys were used is not written: the disk is too slow");
        }
        learner.abort();
        Ok(())
    }
}

impl Server {
    /// A place for a connection of this address; trusted proxies need none, they come for many.
    fn place(&self, client: Client) -> Result<Option<Place>, TooMany> {
        let Client::Peer(peer) = client else { return Ok(None) };
        let address = peer.ip().to_canonical();
        if self.app.config.trusted_proxies.iter().any(|network| network.contains(&address)) {
            return Ok(None);
        }
        self.app.crowd.enter(address).map(Some).ok_or(TooMany)
    }
}

/// What is spoken on a connection.
#[derive(Clone)]
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    handshake_timeout: Duration,
}

impl Protocols {
    fn new(limits: &Limits) -> Self {
        // Twice the limit, so that a head which is a little too long gets a proper answer.
        let head_bytes = 2 * limits.head_bytes;
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(head_bytes)
            // A client may say that it has sent everything, and still wait for the answer.
            .half_close(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(PING_EVERY))
            .keep_alive_timeout(PING_TIMEOUT);
        Self { http1, http2, handshake_timeout: limits.head_timeout }
    }

    /// Serves a connection over TLS, by the protocol that the two sides agree on.
    async fn over_tls<S>(
        self,
        stream: Pin<Box<TimeoutStream<TcpStream>>>,
        acceptor: TlsAcceptor,
        service: S,
        watcher: Watcher,
    ) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
        S::Future: Send + 'static,
    {
        let shaken = tokio::time::timeout(self.handshake_timeout, acceptor.accept(stream));
        let stream = shaken.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        let served = match http2 {
            true => watcher.watch(self.http2.serve_connection(stream, service)).await,
            false => watcher.watch(self.http1.serve_connection(stream, service)).await,
        };
        served.map_err(io::Error::other)
    }
}

/// An address has as many connections as it may.
struct TooMany;

/// The mode of the file lets in its owner and root. That the file has had another mode for a moment, or
/// was given one, must let nobody in.
fn may_ask(stream: &UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer == 0 || peer == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let problem = format!("user {peer} may not use the admin socket");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
}

/// A connection of either kind.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Holds what the connection takes up for as long as it lives.
async fn to_its_end<T>(connection: impl Future<Output = io::Result<()>>, held: T) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended early");
    }
    drop(held);
}

/// Writes now and then when keys were used, and lets keys that expired fall out of the gauge.
async fn note_uses(app: Arc<App>) {
    loop {
        tokio::time::sleep(USES_EVERY).await;
        app.count_keys();
        write_uses(&app).await;
    }
}

async fn write_uses(app: &Arc<App>) {
    let app = Arc::clone(app);
    let written = tokio::task::spawn_blocking(move || match &app.keys {
        Some(keys) => {
            let quotas = app.quotas.flush().map_err(|error| error.to_string());
            keys.flush().map_err(|error| error.to_string()).and(quotas)
        }
        None => Ok(()),
    });
    let problem = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(problem)) => problem,
        Err(error) => error.to_string(),
    };
    tracing::warn!(problem, "how API keys were used is not written");
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("engine", &self.app.engine).finish_non_exhaustive()
    }
}
