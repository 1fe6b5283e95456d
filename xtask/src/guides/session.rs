//! What the case of a page has at hand: a node, and a shell in which the blocks of the page are typed
//! one after the other.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Guide;
use crate::drill::room::{NODE, Room};
use crate::drill::service::Service;
use crate::drill::volume::Volume;
use crate::matrix::interrupt;
use crate::pages::{self, Block};
use crate::port::LISTENING;

/// Small segments, so that nothing takes long.
pub(crate) const CONFIG: &str = "[wal]\nsegment_bytes = 1048576\n";
/// Where archive and backups are, in the room.
pub(crate) const FAR: &str = "/mnt/stemedb";
/// Longest that a block may run.
const BLOCK_MAX: &str = "120";
const WAIT_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The pages speak of a user of the server. There is one user in the room, and so it has two names.
const USER: &str = "stemedb:x:0:0::/:/bin/sh\n";
const GROUP: &str = "stemedb:x:0:\n";
/// Runs `$3` and keeps what it exports in `$1` for the next; `$2` is where it runs.
const SHELL: &str = r#"
[ ! -e "$1" ] || source "$1"
cd "$2"
trap "export -p >'$1'" EXIT
eval "$3"
"#;

/// What a block has written.
pub(crate) struct Said {
    step: &'static str,
    pub(crate) words: String,
}

impl Said {
    /// All of these are in it.
    pub(crate) fn shows(&self, expected: &[&str]) -> Result<()> {
        for words in expected {
            ensure!(
                self.words.contains(words),
                "block {:?} does not show {words:?}, but: {}",
                self.step,
                self.words
            );
        }
        Ok(())
    }

    /// The word that comes after this one.
    pub(crate) fn after(&self, word: &str) -> Result<String> {
        let mut words = self.words.split_whitespace().skip_while(|one| *one != word);
        let found = words.nth(1).map(str::to_owned);
        found.with_context(|| format!("block {:?} says no {word:?}: {}", self.step, self.words))
    }
}

/// A page at work.
pub(crate) struct Session<'a> {
    pub(crate) service: Service,
    room: &'a Room,
    guide: &'static Guide,
    blocks: Vec<Block>,
    /// Where the blocks are typed.
    work: PathBuf,
    /// What they have exported.
    exported: PathBuf,
    binary: PathBuf,
    servers: Vec<Child>,
    /// Gone after the service that writes to it.
    volume: Option<Volume>,
    ran: BTreeSet<&'static str>,
}

impl<'a> Session<'a> {
    pub(crate) fn begin(
        guide: &'static Guide,
        root: &Path,
        binary: &Path,
        room: &'a Room,
    ) -> Result<Self> {
        room.renew(CONFIG)?;
        for folder in ["/mnt", "/var/lib"] {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                // The room itself has made that one.
                if path != Path::new(crate::drill::room::DATA) {
                    fs::remove_dir_all(path)?;
                }
            }
        }
        for (file, line) in [("/etc/passwd", USER), ("/etc/group", GROUP)] {
            let known = fs::read_to_string(file)?;
            let name = line.split_inclusive(':').next().unwrap_or_default();
            if !known.lines().any(|known| known.starts_with(name)) {
                fs::write(file, known + line)?;
            }
        }
        let text = fs::read_to_string(root.join(guide.page)).context(guide.page)?;
        let here = room.folder("guide")?;
        let service = Service::install(&here, binary)?;
        Ok(Self {
            service,
            room,
            guide,
            blocks: pages::blocks(&text).context(guide.page)?,
            work: room.folder("work")?,
            exported: here.join("exported"),
            binary: fs::canonicalize(binary)?,
            servers: Vec::new(),
            volume: None,
            ran: BTreeSet::new(),
        })
    }

    /// More of the configuration; what runs is started again with it.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        fs::write(crate::drill::room::CONFIG, format!("{CONFIG}{more}"))?;
        self.service.stop()?;
        self.service.start()
    }

    /// The node's folder on a disk of its own, as it is on machines that matter.
    pub(crate) fn on_a_disk(&mut self) -> Result<()> {
        let at = Path::new(crate::drill::room::DATA);
        let volume = Volume::on_a_good_disk(&self.room.folder("disk")?, at, 256 << 20)?;
        self.volume = Some(volume);
        Ok(())
    }

    /// Where the blocks are typed.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// The binary under test, as a file.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The command line, as the administrator of the node; what it printed.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Result<String> {
        self.tool_with(&Path::new(NODE).join("first-admin.key"), arguments)
    }

    /// The same with another API key.
    pub(crate) fn tool_with(&self, key: &Path, arguments: &[&str]) -> Result<String> {
        let (status, words) = self.told(key, arguments)?;
        ensure!(status == Some(0), "{arguments:?} ends with {status:?}: {words}");
        Ok(words)
    }

    /// The same, which must fail; with which words.
    pub(crate) fn refused_with(&self, key: &Path, arguments: &[&str]) -> Result<String> {
        let (status, words) = self.told(key, arguments)?;
        ensure!(status != Some(0), "{arguments:?} is not refused: {words}");
        Ok(words)
    }

    /// The same, however it ends.
    pub(crate) fn told(&self, key: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("STEMEDB_API_KEY_FILE", key).env("NO_COLOR", "1");
        let output = command.current_dir(&self.work).stdin(Stdio::null()).output()?;
        // What was said to a person comes last.
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&words).trim().to_owned()))
    }

    /// An API key of this role in a file of the working folder, made as an operator makes it.
    pub(crate) fn key(&self, name: &str, more: &[&str]) -> Result<PathBuf> {
        let file = self.work.join(format!("{name}.key"));
        let out = file.display().to_string();
        let arguments = ["admin", "keys", "create", name, "--out", &out];
        self.tool(&[&arguments[..], more].concat())?;
        Ok(file)
    }

    /// Asserts a claim; its id.
    pub(crate) fn assert(&self, claim: [&str; 3], more: &[&str]) -> Result<String> {
        let told = self.tool(&[&["assert"][..], &claim[..], more].concat())?;
        let id = told.split_whitespace().nth(1);
        id.map(str::to_owned).with_context(|| format!("no id in {told:?}"))
    }

    /// Sets a variable for all blocks to come, as whoever reads the page has it set.
    pub(crate) fn export(&self, name: &str, value: impl AsRef<Path>) -> Result<()> {
        let script = format!("export {name}='{}'", value.as_ref().display());
        let output = self.shell(&script).output()?;
        ensure!(output.status.success(), "cannot export {name}");
        Ok(())
    }

    /// Runs a block; all of it must succeed.
    pub(crate) fn step(&mut self, name: &'static str) -> Result<Said> {
        self.step_as(name, &[], 0)
    }

    /// The same with what stands for a value of the reader, word by word.
    pub(crate) fn step_with(&mut self, name: &'static str, swaps: &[(&str, &str)]) -> Result<Said> {
        self.step_as(name, swaps, 0)
    }

    /// Runs a block that must end with this status.
    pub(crate) fn step_ends(&mut self, name: &'static str, status: i32) -> Result<Said> {
        self.step_as(name, &[], status)
    }

    /// The same with what stands for a value of the reader.
    pub(crate) fn step_as(
        &mut self,
        name: &'static str,
        swaps: &[(&str, &str)],
        status: i32,
    ) -> Result<Said> {
        interrupt::check()?;
        let script = self.script(name, swaps)?;
        let (ended, words) = self.typed(&script)?;
        ensure!(
            ended == Some(status),
            "block {name:?} ends with {ended:?}, expected {status}: {words}"
        );
        self.ran.insert(name);
        println!("     {name}");
        Ok(Said { step: name, words })
    }

    /// Runs the lines of a block one by one, each whatever became of the one before; the status of
    /// each with what it wrote.
    pub(crate) fn step_by_lines(&mut self, name: &'static str) -> Result<Vec<(i32, Said)>> {
        self.step_by_lines_with(name, &[])
    }

    /// The same with what stands for a value of the reader.
    pub(crate) fn step_by_lines_with(
        &mut self,
        name: &'static str,
        swaps: &[(&str, &str)],
    ) -> Result<Vec<(i32, Said)>> {
        let script = self.script(name, swaps)?;
        let mut found = Vec::new();
        for line in script.lines() {
            let (ended, words) = self.typed(line)?;
            let ended = ended.with_context(|| format!("{line:?} was killed: {words}"))?;
            found.push((ended, Said { step: name, words }));
        }
        self.ran.insert(name);
        println!("     {name}");
        Ok(found)
    }

    /// Starts a block that does not end, and waits until it listens. It goes with the session.
    pub(crate) fn step_serves(&mut self, name: &'static str) -> Result<Said> {
        let script = self.script(name, &[])?;
        let said = self.work.join(format!("{name}.said"));
        let mut shell = self.shell(&script);
        let words = fs::File::create(&said)?;
        let child = shell.stdout(words.try_clone()?).stderr(words).process_group(0).spawn()?;
        self.servers.push(child);
        let began = Instant::now();
        loop {
            let words = fs::read_to_string(&said)?;
            if words.contains(LISTENING) {
                self.ran.insert(name);
                println!("     {name}");
                return Ok(Said { step: name, words });
            }
            ensure!(began.elapsed() < WAIT_MAX, "block {name:?} does not listen: {words}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn script(&self, name: &str, swaps: &[(&str, &str)]) -> Result<String> {
        let block = pages::find(&self.blocks, name)?;
        ensure!(block.runners.iter().any(|one| one == super::RUNNER), "{name:?} is not for us");
        let mut script = block.script.clone();
        for (from, to) in swaps {
            let swapped = swap(&script, from, to);
            ensure!(swapped != script, "block {name:?} has no word {from:?}");
            script = swapped;
        }
        Ok(script)
    }

    fn shell(&self, script: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}:/usr/sbin:/sbin", self.service.bin().display());
        let mut command = Command::new("timeout");
        command
            .args([BLOCK_MAX, "bash", "-euo", "pipefail", "-c", SHELL, "bash"])
            .args([&self.exported, &self.work])
            .arg(script)
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// What somebody types besides the page; how it ends and what it writes.
    pub(crate) fn typed(&self, script: &str) -> Result<(Option<i32>, String)> {
        let output = self.shell(script).output()?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&words).trim().to_owned()))
    }

    /// Waits until `done`.
    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done()? {
            interrupt::check()?;
            if began.elapsed() > WAIT_MAX {
                bail!("{what}: not within {} s", WAIT_MAX.as_secs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Every block that the guide declares has been run.
    pub(crate) fn ran_all(&self) -> Result<()> {
        let declared: BTreeSet<&str> = self.guide.steps.iter().copied().collect();
        let ran: BTreeSet<&str> = self.ran.iter().copied().collect();
        ensure!(declared == ran, "it ran {ran:?}, and declares {declared:?}");
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Whatever the block has started is of its group.
            let _ = kill_process_group(Pid::from_child(server), Signal::KILL);
            let _ = server.wait();
        }
        if let Err(error) = self.service.kill() {
            eprintln!("warning: {error:#}");
        }
        self.volume = None;
    }
}

/// Every occurrence of a word, as a whole, is another.
fn swap(text: &str, from: &str, to: &str) -> String {
    let of_a_word = |one: char| one.is_alphanumeric() || one == '_';
    let mut swapped = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, found) = rest.split_at(at);
        let behind = found.get(from.len()..).unwrap_or_default();
        swapped.push_str(before);
        let last = swapped.chars().next_back();
        let whole = !last.is_some_and(of_a_word) && !behind.chars().next().is_some_and(of_a_word);
        swapped.push_str(if whole { to } else { from });
        rest = behind;
    }
    swapped + rest
}

#[cfg(test)]
mod tests {
    use super::swap;

    #[test]
    fn whole_words_are_swapped() {
        for (text, expected) in [
            ("trace ID # an ID", "trace 7 # an 7"),
            ("IDS ID_ VOID ID", "IDS ID_ VOID 7"),
            ("ID", "7"),
            ("none", "none"),
        ] {
            assert_eq!(swap(text, "ID", "7"), expected);
        }
        assert_eq!(swap("a 2026-01-01", "2026-01-01", "b"), "a b");
    }
}
