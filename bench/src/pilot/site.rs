//! The server as a pilot has it: API keys on, a key for the writers, registered agents, a million
//! claims imported by the command line.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use stemedb_bench::random::mix;
use stemedb_bench::server::Server;

use crate::claims::{Author, PREDICATE, VALUES, subject};
use crate::watch::Spent;

/// Sources of the claims that are loaded; each is registered as an agent.
pub(crate) const SOURCES: u64 = 1_000;
/// Claims about a key, all in all.
pub(crate) const CLAIMS_A_KEY: u64 = 10;
/// A server that spends less of a processor than this is at rest.
const AT_REST: f64 = 0.1;
const AT_REST_FOR: u32 = 3;

/// How the import of everything went.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) claims: u64,
    pub(crate) keys: u64,
    pub(crate) seconds: f64,
    /// Processor seconds.
    pub(crate) server: f64,
    pub(crate) client: f64,
    /// Until the server was at rest again.
    pub(crate) rest_seconds: f64,
}

/// What every phase begins with: a stopped server's files, loaded.
pub(crate) struct Kept {
    binary: PathBuf,
    dir: PathBuf,
    settings: Vec<(&'static str, String)>,
    key: String,
}

impl Kept {
    fn loaded(&self) -> PathBuf {
        self.dir.join("loaded")
    }

    /// A server on a copy of them.
    pub(crate) fn start(&self) -> Result<Site> {
        let Self { binary, dir, settings, key } = self;
        let data = dir.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        copy(&self.loaded(), &data)?;
        let server = start(binary, dir, settings)?;
        let (binary, dir, settings) = (binary.clone(), dir.clone(), settings.clone());
        Ok(Site { binary, dir, settings, server, key: key.clone() })
    }
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&from, &to)?,
            kind if kind.is_file() => {
                std::fs::copy(&from, &to).map(drop).with_context(|| from.display().to_string())?;
            }
            // A socket, which nobody listens on.
            _ => {}
        }
    }
    Ok(())
}

/// A server and its files.
pub(crate) struct Site {
    binary: PathBuf,
    dir: PathBuf,
    settings: Vec<(&'static str, String)>,
    pub(crate) server: Server,
    /// Of the writers and readers.
    pub(crate) key: String,
}

#[derive(Deserialize)]
struct Summary {
    created: u64,
    refused: u64,
}

impl Site {
    pub(crate) fn new(
        binary: &Path,
        dir: &Path,
        settings: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let server = start(binary, dir, &settings)?;
        let (binary, dir) = (binary.to_owned(), dir.to_owned());
        let mut site = Self { binary, dir, settings, server, key: String::new() };
        let file = site.dir.join("pilot.key");
        let out = file.display().to_string();
        site.stemedb(&["admin", "keys", "create", "pilot", "--role", "writer", "--out", &out])?;
        site.key = std::fs::read_to_string(&file)?.trim().to_owned();
        Ok(site)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.data().join("wal")
    }

    fn root_key(&self) -> String {
        self.data().join("node/root.key").display().to_string()
    }

    /// Runs a command as the administrator; what it prints.
    fn stemedb(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .env("STEMEDB_URL", self.server.url())
            .env("STEMEDB_API_KEY_FILE", self.data().join("node/first-admin.key"))
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "stemedb {}: {}", arguments.join(" "), words.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Registers those who sign the load.
    pub(crate) fn register(&self, author: &Author) -> Result<()> {
        let root = self.root_key();
        for (n, agent) in author.agents().iter().enumerate() {
            let name = format!("pilot-{n}");
            let arguments = ["--ceiling", "expert", "--name", &name, "--key", &root];
            self.stemedb(&[&["agent", "register", agent.as_str()][..], &arguments].concat())?;
        }
        Ok(())
    }

    /// Imports that many claims, ten about a key, each signed by its source.
    pub(crate) fn load(&self, claims: u64, seed: u64) -> Result<Loaded> {
        let keys = claims / CLAIMS_A_KEY;
        let file = self.dir.join("claims.jsonl");
        write_claims(&file, claims, keys, seed)?;
        let (path, root) = (file.display().to_string(), self.root_key());
        let ring = self.dir.join("ring").display().to_string();
        let own = std::process::id();
        let (server, client) = (Spent::of(self.server.id())?, Spent::of(own)?);
        let begun = Instant::now();
        let printed = self.stemedb(&[
            "import",
            &path,
            "--json",
            "--agent-per-source",
            "--keyring",
            &ring,
            "--root-key",
            &root,
        ])?;
        let seconds = begun.elapsed().as_secs_f64();
        let summary: Summary = serde_json::from_str(&printed).context("summary of the import")?;
        ensure!(
            summary.created == claims && summary.refused == 0,
            "of {claims} claims {} were taken, {} refused",
            summary.created,
            summary.refused
        );
        std::fs::remove_file(&file)?;
        Ok(Loaded {
            claims,
            keys,
            seconds,
            server: Spent::of(self.server.id())?.since(&server),
            client: Spent::of(own)?.children() - client.children(),
            rest_seconds: 0.0,
        })
    }

    /// Stops the server, and keeps what it has.
    pub(crate) fn keep(self) -> Result<Kept> {
        let data = self.data();
        let Self { binary, dir, settings, server, key } = self;
        drop(server);
        let kept = Kept { binary, dir, settings, key };
        std::fs::rename(data, kept.loaded())?;
        Ok(kept)
    }

    /// Version and commit of the server.
    pub(crate) fn build(&self) -> Result<String> {
        let metrics = self.server.metrics()?;
        let info = metrics.keys().find(|name| name.starts_with("stemedb_build_info"));
        Ok(info.context("the server exports no stemedb_build_info")?.clone())
    }

    /// Waits until the server has done what it does by itself after so many writes, at most so long;
    /// how long it took.
    pub(crate) fn rest(&self, most: Duration) -> Result<f64> {
        let begun = Instant::now();
        let mut quiet = 0;
        while quiet < AT_REST_FOR && begun.elapsed() < most {
            let before = Spent::of(self.server.id())?;
            std::thread::sleep(Duration::from_secs(1));
            let spent = Spent::of(self.server.id())?.since(&before);
            quiet = if spent < AT_REST { quiet + 1 } else { 0 };
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// SIGKILL, and the same again on the same folder; how long it took until it was ready.
    pub(crate) fn kill_and_start(self) -> Result<(Self, f64)> {
        let Self { binary, dir, settings, server, key } = self;
        server.kill()?;
        let begun = Instant::now();
        let server = start(&binary, &dir, &settings)?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok((Self { binary, dir, settings, server, key }, seconds))
    }

    /// SIGTERM; where the log is.
    pub(crate) fn stop(self) -> PathBuf {
        self.wal()
    }
}

fn start(binary: &Path, dir: &Path, settings: &[(&'static str, String)]) -> Result<Server> {
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::start_guarded(binary, &dir.join("data"), &settings)
}

/// Simple claim lines.
fn write_claims(path: &Path, claims: u64, keys: u64, seed: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for n in 0..claims {
        let dice = mix(seed ^ mix(n));
        let (minutes, rest) = (n / 60_000, n % 60_000);
        writeln!(
            file,
            "{{\"subject\":\"{}\",\"predicate\":\"{PREDICATE}\",\"object\":\"value {}\",\
             \"source\":\"source-{}\",\"confidence\":{},\
             \"timestamp\":\"2025-06-15T{:02}:{:02}:{:02}.{:03}Z\"}}",
            subject(n % keys),
            dice % VALUES,
            (dice >> 8) % SOURCES,
            0.5 + ((dice >> 32) % 128) as f64 / 256.0,
            minutes / 60,
            minutes % 60,
            rest / 1_000,
            rest % 1_000,
        )?;
    }
    file.flush()?;
    Ok(())
}
