//! Where a drill takes place: mounts and a network of its own, in which the paths and addresses of
//! the runbooks are real and nothing of the machine is touched.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::mount::run;

pub(crate) const DATA: &str = "/var/lib/stemedb";
pub(crate) const NODE: &str = "/var/lib/stemedb/node";
pub(crate) const WAL: &str = "/var/lib/stemedb/wal";
pub(crate) const CONFIG: &str = "/etc/stemedb/api.toml";
const FSTAB: &str = "/etc/fstab";

/// Goes on as the same program, with the same seed, in a mount and network namespace of its own. Comes
/// back only if that fails.
pub(crate) fn enter(seed: u64) -> anyhow::Error {
    let seeded = std::env::args_os().any(|one| one.to_string_lossy().starts_with("--seed"));
    let seed = (!seeded).then(|| format!("--seed={seed}"));
    let again = std::env::current_exe().map(|program| {
        Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "--"])
            .arg(program)
            .args(std::env::args_os().skip(1))
            .args(seed)
            .arg("--inside")
            .exec()
    });
    match again {
        Ok(error) | Err(error) => {
            anyhow::Error::new(error).context("cannot run unshare; `make setup` installs it")
        }
    }
}

/// The private machine.
pub(crate) struct Room {
    scratch: TempDir,
}

impl Room {
    /// Makes it: a network with loopback only; `/etc` to write into; `/var/lib`
    /// and `/mnt` empty.
    pub(crate) fn make() -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let layers = scratch.path().join("etc");
        fs::create_dir(&layers)?;
        // Layers of an overlay must not lie on an overlay.
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&layers))?;
        let (upper, work) = (layers.join("upper"), layers.join("work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let options =
            format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, "/etc"]))?;
        for empty in ["/var/lib", "/mnt"] {
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", empty]))?;
        }
        Ok(Self { scratch })
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A folder of this name, new and empty.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// As a new machine: no data, no file systems, this configuration.
    pub(crate) fn renew(&self, config: &str) -> Result<()> {
        if Path::new(DATA).exists() {
            fs::remove_dir_all(DATA).context("something of the last drill is still mounted")?;
        }
        fs::create_dir_all(DATA)?;
        fs::create_dir_all("/etc/stemedb")?;
        fs::write(CONFIG, config)?;
        fs::write(FSTAB, "")?;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The namespace takes its mounts with it, but not the folders on which they are.
        let layers = self.path().join("etc");
        for path in [Path::new("/etc"), layers.as_path()] {
            if let Err(error) = run(Command::new("umount").arg("-l").arg(path)) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

/// Forgets every file system, as a machine that has never seen them.
pub(crate) fn forget_fstab() -> Result<()> {
    Ok(fs::write(FSTAB, "")?)
}

/// Has `mount MOUNTPOINT` know the device.
pub(crate) fn note_in_fstab(device: &Path, at: &Path, options: &str) -> Result<()> {
    let line = format!("{} {} ext4 {options} 0 2\n", device.display(), at.display());
    let known = fs::read_to_string(FSTAB)?;
    let others = known.lines().filter(|line| line.split(' ').nth(1) != at.to_str());
    let others: String = others.map(|line| format!("{line}\n")).collect();
    Ok(fs::write(FSTAB, others + &line)?)
}
