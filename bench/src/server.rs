//! The release server as a process of its own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use ureq::Agent;

const START_MAX: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts it on a data folder and waits until it is ready.
    ///
    /// - `settings`: environment variables.
    pub fn start(binary: &Path, data_dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(binary)
            .args(["serve", "--no-auth", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data_dir)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let started = Instant::now();
        while agent().get(format!("{}/readyz", server.url)).call().is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_MAX {
                bail!("{} does not become ready ({ended:?})", binary.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sum and count of everything that the server times, by name and label.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let mut response = agent().get(format!("{}/metrics", self.url)).call()?;
        let text = response.body_mut().read_to_string()?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parsed = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(parsed.collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Already gone is fine.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.child.wait();
    }
}

/// A client with connections of its own.
pub fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into()
}
