//! PostgreSQL: a cluster of its own, in a folder of the run, over a Unix socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, Config, NoTls};

/// Where distributions keep the programs of a server.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Who may run a server: PostgreSQL refuses root.
const USER: &str = "postgres";
const START_MAX: Duration = Duration::from_secs(30);

/// A running server; stopped when dropped.
pub struct Cluster {
    server: Child,
    data: PathBuf,
    sockets: PathBuf,
}

fn as_user(program: &str) -> Command {
    let program = format!("{PROGRAMS}/{program}");
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", USER, "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Cluster {
    /// Makes a cluster in `dir` and starts its server.
    pub fn start(dir: &Path) -> Result<Self> {
        let home = dir.join("postgres");
        std::fs::create_dir(&home)?;
        if rustix::process::geteuid().is_root() {
            let status = Command::new("chown").arg(USER).arg(&home).status()?;
            ensure!(status.success(), "there is no user {USER}: is PostgreSQL installed?");
        }
        let (data, log) = (home.join("data"), home.join("log"));
        let made = as_user("initdb")
            .args(["--auth=trust", "--username=bench", "--encoding=UTF8", "--no-locale", "-D"])
            .arg(&data)
            .current_dir(&home)
            .output()
            .context("initdb of PostgreSQL 15 cannot be run")?;
        let words = String::from_utf8_lossy(&made.stderr);
        ensure!(
            made.status.success(),
            "initdb: {words}: user {USER} must reach {}; SCRATCH=… names another folder",
            home.display()
        );
        let mut command = as_user("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(&home);
        // Everything else as it comes: fsync, full_page_writes and synchronous_commit are on.
        for setting in ["listen_addresses=", "wal_sync_method=fdatasync", "shared_buffers=256MB"] {
            command.args(["-c", setting]);
        }
        let words = std::fs::File::create(&log)?;
        let server = command
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(words.try_clone()?)
            .stderr(words)
            .spawn()?;
        let mut cluster = Self { server, data, sockets: home };
        let started = Instant::now();
        while cluster.connect().is_err() {
            let ended = cluster.server.try_wait()?;
            if ended.is_some() || started.elapsed() > START_MAX {
                bail!("PostgreSQL did not start: {}", std::fs::read_to_string(&log)?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(cluster)
    }

    /// How to reach it.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(&self.sockets).user("bench").dbname("postgres");
        config
    }

    /// A connection.
    pub fn connect(&self) -> Result<Client> {
        Ok(self.config().connect(NoTls)?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Fast shutdown. What fails here leaves a server that the message of the caller is about.
        let _ = as_user("pg_ctl")
            .arg("-D")
            .arg(&self.data)
            .args(["-m", "fast", "-s", "stop"])
            .current_dir(&self.sockets)
            .status();
        let _ = self.server.wait();
    }
}
