//! A server in the test's process, with a root key that is always the same, so that the ids of
//! assertions are, too.

use std::net::SocketAddr;
use std::path::PathBuf;

use stemedb_cli::config::Config;
use stemedb_cli::database::First;
use stemedb_cli::serve::{self, Running};
use stemedb_cli::{database, files};
use stemedb_io::Env;
use tempfile::TempDir;

pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) root_key: PathBuf,
    running: Option<Running>,
    dir: Option<TempDir>,
}

/// The log of a server that was stopped.
#[allow(dead_code, reason = "not every test stops its server")]
pub(crate) struct Stopped {
    pub(crate) wal: PathBuf,
    _dir: Option<TempDir>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.data_dir = dir.path().join("data");
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.wal.segment_bytes = 1 << 20;
        // What these tests are about is not who may ask.
        config.auth.enabled = false;
        let node = config.node_dir();
        std::fs::create_dir_all(&node).unwrap();
        let root_key = node.join("root.key");
        files::create_private(&root_key, &format!("{}\n", "07".repeat(32))).unwrap();
        let running = serve::start(&config, &First::default(), &Env::real()).unwrap();
        let context = stemedb_cli::context::Context { json: false, env: Env::real() };
        database::wait_ready(&running.engine, &context).unwrap();
        Self { url: running.url(), root_key, running: Some(running), dir: Some(dir) }
    }

    /// Ends it in an orderly way.
    #[allow(dead_code, reason = "not every test stops its server")]
    pub(crate) fn stop(mut self) -> Stopped {
        let running = self.running.take().unwrap();
        running.stop().unwrap();
        let dir = self.dir.take();
        let wal = dir.as_ref().unwrap().path().join("data/wal");
        Stopped { wal, _dir: dir }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop();
        }
    }
}
