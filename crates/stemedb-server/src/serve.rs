//! Connections.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use stemedb_engine::Engine;
use stemedb_io::Env;
use stemedb_model::SigningKey;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::app::{App, register_custodial};
use crate::client::Client;
use crate::config::{ServerConfig, check_loopback};
use crate::learner;
use crate::metrics::UPKEEP_EVERY;
use crate::routes::router;

/// How long to rest after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        let app = Arc::new(App::new(engine, env, config)?);
        let router = router(&app).map_err(io::Error::other)?;
        Ok(Self { app, router })
    }

    /// Where the secret of the first API key is, if this start made it.
    pub fn first_key(&self) -> Option<&Path> {
        self.app.first_key.as_deref()
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
        let limits = self.app.config.limits.clone();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            // Twice the limit, so that a head which is a little too long gets a proper answer.
            .max_buf_size(2 * limits.head_bytes)
            // A client may say that it has sent everything, and still wait for the answer.
            .half_close(true);
        let metrics = self.app.metrics.clone();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                metrics.upkeep();
            }
        });
        let audit = tokio::spawn(Arc::clone(&self.app.audit).run());
        let uses = tokio::spawn(note_uses(Arc::clone(&self.app)));
        let learner = tokio::spawn(learner::run(Arc::clone(&self.app)));
        let connections = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accept = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                let (stream, peer) = listener.accept().await?;
                Ok((Accepted::Tcp(stream), Client::Peer(peer), permit.ok()))
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
            let (stream, client, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let from = move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(client);
                request
            };
            let service = TowerToHyperService::new(self.router.clone().map_request(from));
            match stream {
                Accepted::Tcp(stream) => {
                    // Without it, a small answer may wait for an acknowledgement of the one before.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(to_its_end(graceful.watch(connection), permit));
                }
                Accepted::Unix(stream) => {
                    if let Err(error) = may_ask(&stream) {
                        tracing::warn!(%error, "a connection was refused");
                        continue;
                    }
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(to_its_end(graceful.watch(connection), permit));
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
            tracing::warn!("when API keys were used last is not written: the disk is too slow");
        }
        learner.abort();
        Ok(())
    }
}

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

async fn to_its_end(
    connection: impl Future<Output = hyper::Result<()>>,
    permit: Option<OwnedSemaphorePermit>,
) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended early");
    }
    drop(permit);
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
        Some(keys) => keys.flush().map_err(|error| error.to_string()),
        None => Ok(()),
    });
    let problem = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(problem)) => problem,
        Err(error) => error.to_string(),
    };
    tracing::warn!(problem, "when API keys were used last is not written");
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("engine", &self.app.engine).finish_non_exhaustive()
    }
}
