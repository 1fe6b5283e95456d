//! The server as a service, and the commands by which operators handle it. There is no systemd in a
//! drill: `systemctl` and `journalctl` are stand-ins that know this one service.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::matrix::node::Client;
use crate::mount::run;
use crate::port;

/// Where it listens if its configuration says nothing else.
pub(crate) const ADDRESS: &str = "127.0.0.1:18180";
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How `systemctl` ends about a service that does not run.
const INACTIVE: i32 = 3;

const SYSTEMCTL: &str = r#"#!/bin/bash
# A stand-in: asks the drill.
case " $* " in
  *" stemedb-api "*) ;;
  *) echo "stand-in: knows only stemedb-api" >&2; exit 4 ;;
esac
asked="$*"
asked="${asked/ stemedb-api/}"
printf '%s\n' "${asked/ --no-pager/}" >"HERE/asked"
read -r status words <"HERE/answered"
if [ "$status" = 0 ]; then [ -z "$words" ] || echo "$words"; else echo "$words" >&2; fi
exit "$status"
"#;

const JOURNALCTL: &str = r#"#!/bin/bash
# A stand-in: the service writes to one file.
lines=1000
while [ $# -gt 0 ]; do
  case "$1" in
    -u)
      case "$2" in
        stemedb-api | stemedb-verify) shift ;; # the second has said nothing yet
        *) echo "stand-in: knows only stemedb-api" >&2; exit 4 ;;
      esac ;;
    -n) lines=$2; shift ;;
    -b | --no-pager) ;;
    *) echo "stand-in: $1 is unknown" >&2; exit 4 ;;
  esac
  shift
done
exec tail -n "$lines" "HERE/said"
"#;

/// Whoever reads the pages may be no root; in a drill everybody is.
const SUDO: &str = r#"#!/bin/bash
# A stand-in: there is one user.
[ "$1" != -u ] || shift 2
exec "$@"
"#;

/// Another machine: the paths are the same, the files are its own.
const MACHINE: &str = r#"#!/bin/bash
exec unshare --mount --propagation private -- bash -euc '
mount --bind "DATA" /var/lib/stemedb
mount --bind "ETC" /etc/stemedb
exec "$@"' machine "$@"
"#;

/// The service on one machine; killed when dropped.
pub(crate) struct Service {
    inner: Arc<Mutex<Inner>>,
    here: PathBuf,
    machine: Option<PathBuf>,
}

/// What another machine has at the paths of the pages.
pub(crate) struct Elsewhere<'a> {
    /// At `/var/lib/stemedb`.
    pub(crate) data: &'a Path,
    /// At `/etc/stemedb`.
    pub(crate) etc: &'a Path,
}

struct Inner {
    binary: PathBuf,
    said: PathBuf,
    machine: Option<PathBuf>,
    child: Option<Child>,
}

/// A command on a machine: that of the pages if none is given.
fn on(machine: Option<&Path>, program: impl AsRef<OsStr>) -> Command {
    let Some(machine) = machine else { return Command::new(program) };
    let mut command = Command::new(machine);
    command.arg(program);
    command
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// Puts the commands into `here/bin`; the server does not run yet.
    pub(crate) fn install(here: &Path, binary: &Path) -> Result<Self> {
        Self::install_on(here, binary, None)
    }

    /// The same on another machine, beside the one of the pages.
    pub(crate) fn install_elsewhere(
        here: &Path,
        binary: &Path,
        files: &Elsewhere<'_>,
    ) -> Result<Self> {
        let machine = here.join("machine");
        let (data, etc) = (files.data.display().to_string(), files.etc.display().to_string());
        put_script(&machine, &MACHINE.replace("DATA", &data).replace("ETC", &etc))?;
        Self::install_on(here, binary, Some(machine))
    }

    fn install_on(here: &Path, binary: &Path, machine: Option<PathBuf>) -> Result<Self> {
        let bin = here.join("bin");
        fs::create_dir_all(&bin)?;
        let binary = fs::canonicalize(binary)
            .with_context(|| format!("there is no {}", binary.display()))?;
        // Under the name that it has where it is installed.
        std::os::unix::fs::symlink(&binary, bin.join("stemedb"))?;
        let binary = bin.join("stemedb");
        let said = here.join("said");
        File::create(&said)?;
        let scripts = [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL), ("sudo", SUDO)];
        for (name, script) in scripts {
            put_script(&bin.join(name), &script.replace("HERE", &here.display().to_string()))?;
        }
        let inner = Inner { binary, said, machine: machine.clone(), child: None };
        let inner = Arc::new(Mutex::new(inner));
        let (asked, answered) = (here.join("asked"), here.join("answered"));
        run(Command::new("mkfifo").arg(&asked).arg(&answered))?;
        let ours = Arc::clone(&inner);
        std::thread::Builder::new().name("systemctl".into()).spawn(move || {
            // Ends with the process, or with the folder of the case.
            while let Ok(verb) = first_line(&asked) {
                let answer = match lock(&ours).act(&verb) {
                    Ok((status, words)) => format!("{status} {words}"),
                    Err(error) => format!("1 {}", format!("{error:#}").replace('\n', " / ")),
                };
                let told = File::options().write(true).open(&answered);
                if told.and_then(|mut pipe| writeln!(pipe, "{answer}")).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { inner, here: here.to_owned(), machine })
    }

    /// A command on its machine.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        on(self.machine.as_deref(), program)
    }

    /// In front of the path of whoever handles it.
    pub(crate) fn bin(&self) -> PathBuf {
        self.here.join("bin")
    }

    /// Starts it and waits until it answers reads.
    pub(crate) fn start(&self) -> Result<()> {
        lock(&self.inner).start()
    }

    pub(crate) fn stop(&self) -> Result<()> {
        lock(&self.inner).stop()
    }

    /// SIGHUP.
    pub(crate) fn reload(&self) -> Result<()> {
        lock(&self.inner).signal(Signal::HUP)
    }

    /// SIGSTOP: it stands still.
    pub(crate) fn pause(&self) -> Result<()> {
        lock(&self.inner).signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) -> Result<()> {
        lock(&self.inner).signal(Signal::CONT)
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) -> Result<()> {
        lock(&self.inner).kill()
    }

    /// Everything that it has said.
    pub(crate) fn words(&self) -> String {
        lock(&self.inner).words()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.kill();
    }
}

fn put_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn first_line(path: &Path) -> Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(path)?).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

impl Inner {
    /// What `systemctl` is asked for; its status and what it says.
    fn act(&mut self, asked: &str) -> Result<(i32, String)> {
        match asked {
            "start" => self.start()?,
            "stop" => self.stop()?,
            "restart" => self.stop().and_then(|()| self.start())?,
            // As systemd has it: sent, not waited for.
            "reload" => self.signal(Signal::HUP)?,
            "is-active" | "status" if self.runs()? => return Ok((0, "active".into())),
            "is-active" | "status" => return Ok((INACTIVE, "inactive".into())),
            _ => bail!("stand-in: {asked:?} is unknown"),
        }
        Ok((0, String::new()))
    }

    fn runs(&mut self) -> Result<bool> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        })
    }

    fn words(&self) -> String {
        let said = fs::read(&self.said).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn start(&mut self) -> Result<()> {
        if self.runs()? {
            return Ok(());
        }
        let before = self.words().len();
        let said = File::options().append(true).open(&self.said)?;
        let child = on(self.machine.as_deref(), &self.binary)
            .arg("serve")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        let began = Instant::now();
        loop {
            let words = self.words();
            let own = words.get(before..).unwrap_or_default();
            if !self.runs()? {
                bail!("the server ended: {}", own.trim());
            }
            if let Some(url) = port::listening(own) {
                // Whether its certificate is good is the affair of the case.
                let client = Client::blind(url.to_owned(), LOOK_MAX)?;
                if client.get("/readyz?for=read").is_ok_and(|answer| answer.status == 200) {
                    return Ok(());
                }
            }
            if began.elapsed() > START_MAX {
                bail!("the server is not ready: {}", own.trim());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn stop(&mut self) -> Result<()> {
        if !self.runs()? {
            self.child = None;
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        let Some(child) = &mut self.child else { return Ok(()) };
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP_MAX {
                self.kill()?;
                bail!("the server did not stop and was killed");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.child = None;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait()?;
        }
        Ok(())
    }
}
