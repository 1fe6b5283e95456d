//! Other people's servers, run beside ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const START_MAX: Duration = Duration::from_secs(60);
/// A program that does not end by then is killed.
const END_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A program that ends with us.
pub(crate) struct Program {
    child: Child,
    said: PathBuf,
    name: &'static str,
}

impl Program {
    /// Starts it; what it says goes to a file in `folder`.
    pub(crate) fn start(name: &'static str, command: &mut Command, folder: &Path) -> Result<Self> {
        let said = folder.join(format!("{name}.log"));
        let words = File::create(&said)?;
        command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, said, name })
    }

    pub(crate) fn wait(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !ready() {
            if self.child.try_wait()?.is_some() || began.elapsed() > START_MAX {
                bail!("{} does not become ready: {}", self.name, self.words());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// What it said.
    pub(crate) fn words(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default().trim().to_owned()
    }

    /// Processes that it has started itself, and not waited for.
    pub(crate) fn children(&self) -> Result<Vec<u32>> {
        let id = self.child.id();
        let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
            .with_context(|| format!("{} is gone", self.name))?;
        Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // In good order, since some have children of their own. Already gone is fine.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(rustix::process::Signal::TERM);
        }
        let began = Instant::now();
        while began.elapsed() < END_MAX && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
