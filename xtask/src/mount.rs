//! Loop devices and mounts that go away when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// File systems a harness can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum FileSystem {
    /// ext4, `data=ordered`, which is its default.
    Ext4,
    /// ext4, `data=journal`.
    Ext4Journal,
    Xfs,
    Btrfs,
}

impl FileSystem {
    fn mkfs(self) -> (&'static str, &'static [&'static str]) {
        match self {
            // Without lazy initialisation, which would write in the background for minutes.
            Self::Ext4 | Self::Ext4Journal => {
                ("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            }
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
        }
    }

    /// Options to mount it with.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::Ext4 => "errors=remount-ro",
            Self::Ext4Journal => "errors=remount-ro,data=journal",
            // Copies of one image are mounted side by side.
            Self::Xfs => "nouuid",
            Self::Btrfs => "defaults",
        }
    }

    /// Checks it as an operator would before mounting it after trouble. XFS and Btrfs do that while
    /// they are mounted.
    pub(crate) fn check(self, device: &Path) -> Result<()> {
        match self {
            Self::Ext4 | Self::Ext4Journal => {
                let mut command = Command::new("e2fsck");
                let output = command.args(["-f", "-y"]).arg(device).output()?;
                // 1: it mended something.
                match output.status.code() {
                    Some(0 | 1) => Ok(()),
                    _ => bail!("{command:?}: {}", String::from_utf8_lossy(&output.stdout).trim()),
                }
            }
            Self::Xfs | Self::Btrfs => Ok(()),
        }
    }

    /// Makes this file system on a device or in a file.
    pub(crate) fn make(self, device: &Path) -> Result<()> {
        self.make_with(&[], device)
    }

    /// The same, in blocks of 4 KiB, as on disks that are not small: those of the log then lie on
    /// those of the disk.
    pub(crate) fn make_in_pages(self, device: &Path) -> Result<()> {
        match self {
            Self::Ext4 | Self::Ext4Journal => self.make_with(&["-b", "4096"], device),
            Self::Xfs | Self::Btrfs => self.make(device),
        }
    }

    fn make_with(self, more: &[&str], device: &Path) -> Result<()> {
        let (program, options) = self.mkfs();
        let mut command = match self {
            Self::Btrfs => {
                let mut alone = Command::new("unshare");
                alone.args(["--mount", "--propagation", "private", "sh", "-c", ALONE, program]);
                alone.arg(program);
                alone
            }
            Self::Ext4 | Self::Ext4Journal | Self::Xfs => Command::new(program),
        };
        run(command.args(options).args(more).arg(device)).map(drop)
    }
}

/// `mkfs.btrfs` looks at every mount of the machine, and stumbles over one that goes away meanwhile,
/// or whose disk has died with its process. So it gets a list of mounts without disks of ours and
/// what lies on them; nobody else's list changes.
const ALONE: &str = r#"
awk '($1 == "stemedb-disk" || $1 ~ "^/dev/loop") && $2 != "/" { print $2 }' /proc/self/mounts | tac |
    xargs --no-run-if-empty umount --lazy --
exec "$@"
"#;

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
    file: PathBuf,
}

impl Loop {
    pub(crate) fn attach(file: &Path) -> Result<Self> {
        // Another process may take the free device between being told of it and taking it.
        let mut attempts = 0;
        loop {
            match run(Command::new("losetup").args(["-f", "--show"]).arg(file)) {
                Ok(device) => {
                    return Ok(Self { device: device.into(), file: file.into() });
                }
                Err(error) if attempts == 10 => return Err(error),
                Err(_) => {
                    attempts += 1;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("losetup").arg("-d").arg(&self.device)) {
            eprintln!("warning: {error:#}");
        }
        // If somebody looks at the device just now, it lets go of the file a moment later.
        let name = self.device.file_name().unwrap_or_default();
        let file = Path::new("/sys/block").join(name).join("loop/backing_file");
        let ours = |path: &str| path.trim_end() == self.file.to_string_lossy();
        for _ in 0..100 {
            match std::fs::read_to_string(&file) {
                Ok(path) if ours(&path) => std::thread::sleep(Duration::from_millis(50)),
                _ => return,
            }
        }
        eprintln!("warning: {} holds on to its file", self.device.display());
    }
}

/// A mounted file system.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
}

impl Mount {
    pub(crate) fn with(device: &Path, path: &Path, options: &str) -> Result<Self> {
        mount(device, path, options)?;
        Ok(Self { path: path.into() })
    }
}

/// Mounts; whoever called unmounts.
pub(crate) fn mount(device: &Path, path: &Path, options: &str) -> Result<()> {
    run(Command::new("mount").args(["-o", options]).arg(device).arg(path)).map(drop)
}

/// Unmounts; a process that was just killed may hold it a moment longer.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    let mut attempts = 0;
    loop {
        match run(Command::new("umount").arg(path)) {
            Ok(_) => return Ok(()),
            Err(error) if attempts == 50 => {
                // At least nothing new comes to it.
                run(Command::new("umount").arg("-l").arg(path))?;
                return Err(error);
            }
            Err(_) => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path) {
            eprintln!("warning: {error:#}");
        }
    }
}
