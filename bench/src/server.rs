//! The release server as a process of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use ureq::Agent;

/// After a kill, a start proves what is left of the log.
const START_MAX: Duration = Duration::from_secs(300);

/// Runs until it is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    url: String,
}

impl Server {
    /// Starts it on a data folder and waits until it is ready. Nobody needs an API key.
    ///
    /// - `settings`: environment variables.
    pub fn start(binary: &Path, data_dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(binary, data_dir, settings, &["--no-auth"])
    }

    /// The same as it comes: with API keys.
    pub fn start_guarded(
        binary: &Path,
        data_dir: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_with(binary, data_dir, settings, &[])
    }

    fn start_with(
        binary: &Path,
        data_dir: &Path,
        settings: &[(&str, &str)],
        flags: &[&str],
    ) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let words = tempfile::tempfile()?;
        let child = Command::new(binary)
            .arg("serve")
            .args(flags)
            .args(["--listen", &address.to_string(), "--data-dir"])
            .arg(data_dir)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { child, address, url: format!("http://{address}") };
        let started = Instant::now();
        while agent().get(format!("{}/readyz", server.url)).call().is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_MAX {
                let words = said(&words);
                bail!("{} does not become ready ({ended:?}): {words}", binary.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sum and count of everything that the server times, by name and label.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        metrics(&self.url)
    }
}

/// What the server at an address exports, by name and label.
pub fn metrics(url: &str) -> Result<BTreeMap<String, f64>> {
    let mut response = agent().get(format!("{url}/metrics")).call()?;
    let text = response.body_mut().read_to_string()?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(parsed.collect())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its number may be somebody else's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Already gone is fine.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.child.wait();
    }
}

/// What it wrote; it shares its place in the file with us.
fn said(words: &File) -> String {
    let length = words.metadata().map_or(0, |found| found.len());
    let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = words.read_exact_at(&mut text, 0);
    read.map_or_else(|error| error.to_string(), |()| String::from_utf8_lossy(&text).trim().into())
}

/// A client with connections of its own.
pub fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into()
}
