//! Loop devices and mounts that go away when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// File systems a harness can make.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    fn mkfs(self) -> (&'static str, &'static [&'static str]) {
        match self {
            // Without lazy initialisation, which would write in the background for minutes.
            Self::Ext4 => {
                ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            }
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
        }
    }

    /// Makes this file system on a device.
    pub(crate) fn make(self, device: &Path) -> Result<()> {
        let (program, options) = self.mkfs();
        run(Command::new(program).args(options).arg(device)).map(drop)
    }
}

/// Runs a command to its end; its words are in the error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A loop device over a file.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
}

impl Loop {
    pub(crate) fn attach(file: &Path) -> Result<Self> {
        let device = run(Command::new("losetup").args(["-f", "--show"]).arg(file))?;
        Ok(Self { device: device.into() })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("losetup").arg("-d").arg(&self.device)) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// A mounted file system.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
}

impl Mount {
    pub(crate) fn new(device: &Path, path: &Path) -> Result<Self> {
        run(Command::new("mount").arg(device).arg(path))?;
        Ok(Self { path: path.into() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.path)) {
            eprintln!("warning: {error:#}");
        }
    }
}
