//! A file system on the failing disk, and what an operator does with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::disk::{Disk, FILE};
use crate::fault::Faulty;
use crate::mount::{FileSystem, Loop, Mount, run as run_command};

/// The least that XFS takes.
const DISK_BYTES: u64 = 320 << 20;

/// Fields in the order in which they must go.
pub(crate) struct Lab {
    mount: Option<Mount>,
    device: Option<Loop>,
    disk: Disk<Faulty>,
    fs: FileSystem,
    folder: PathBuf,
}

const FILL_STEP: u64 = 128 << 10;

impl Lab {
    /// Makes a file system in `folder` and mounts it there. Not a copy of a made one: XFS and Btrfs
    /// know each other by a number that must not occur twice.
    pub(crate) fn new(fs: FileSystem, folder: &Path, seed: u64) -> Result<Self> {
        let (image, fuse) = (folder.join("image"), folder.join("fuse"));
        std::fs::create_dir_all(&fuse)?;
        std::fs::create_dir_all(folder.join("mounted"))?;
        File::create(&image)?.set_len(DISK_BYTES)?;
        fs.make_in_pages(&image)?;
        let disk = Disk::mount(Faulty::over(&image, seed)?, &fuse)?;
        let folder = folder.to_owned();
        let mut lab = Self { mount: None, device: None, disk, fs, folder };
        lab.mount()?;
        Ok(lab)
    }

    pub(crate) fn disk(&self) -> &Arc<Faulty> {
        &self.disk.medium
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    fn mount(&mut self) -> Result<()> {
        let device = Loop::attach(&self.folder.join("fuse").join(FILE))?;
        let mount = Mount::with(&device.device, &self.path(), self.fs.options())?;
        self.device = Some(device);
        self.mount = Some(mount);
        Ok(())
    }

    /// Unmounts. The block device goes, too, and with it every cache.
    pub(crate) fn unmount(&mut self) {
        self.mount = None;
        self.device = None;
    }

    /// Unmounts, gives it power, checks if asked to, mounts.
    pub(crate) fn remount(&mut self, check: bool) -> Result<()> {
        self.unmount();
        self.disk().power_on();
        if check {
            let device = Loop::attach(&self.folder.join("fuse").join(FILE))?;
            self.fs.check(&device.device)?;
        }
        self.mount().context("the file system cannot be mounted again")
    }

    /// Whether the file system takes a new file.
    pub(crate) fn writable(&self) -> bool {
        let path = self.path().join("probe");
        let written = File::create(&path).and_then(|file| file.sync_all());
        let removed = std::fs::remove_file(&path);
        written.is_ok() && removed.is_ok()
    }

    /// Has the kernel write what it would write some day.
    pub(crate) fn write_back(&self) {
        if let Ok(folder) = File::open(self.path()) {
            // Whether that works shows by what reaches the disk.
            let _ = rustix::fs::syncfs(&folder);
        }
    }

    /// Takes all space but `leave` bytes.
    pub(crate) fn fill(&self, leave: u64) -> Result<()> {
        // Root may have what is kept from others, too.
        let stat = rustix::fs::statvfs(self.path())?;
        let bytes = stat.f_bfree.saturating_mul(stat.f_frsize).saturating_sub(leave);
        let ballast = File::create(self.path().join("ballast"))?;
        let flags = rustix::fs::FallocateFlags::empty();
        // Some of it is for the file system's own use; how much it does not say. Writers are at it
        // meanwhile, so this must not take long: Btrfs thinks before each refusal.
        let (mut filled, mut step) = (0, bytes);
        while filled < bytes && step >= FILL_STEP {
            let more = step.min(bytes - filled);
            match rustix::fs::fallocate(&ballast, flags, filled, more) {
                Ok(()) => filled += more,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error).context("cannot fill the volume"),
            }
        }
        ballast.sync_all()?;
        Ok(())
    }

    /// Gives the space back.
    pub(crate) fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.path().join("ballast"))?;
        // Else it is back after a power cut.
        Ok(rustix::fs::syncfs(std::fs::File::open(self.path())?)?)
    }

    /// What the volume may hold from now on, on Btrfs: its quota groups bind root, too.
    pub(crate) fn set_quota(&self, bytes: Option<u64>) -> Result<()> {
        let mut command = Command::new("btrfs");
        match bytes {
            Some(bytes) => {
                run_command(Command::new("btrfs").args(["quota", "enable"]).arg(self.path()))?;
                command.args(["qgroup", "limit", &bytes.to_string()]);
            }
            // Lifting a limit needs room under it.
            None => {
                command.args(["quota", "disable"]);
            }
        }
        run_command(command.arg(self.path())).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A disk that hangs or fails cannot be unmounted.
        self.disk.medium.clear();
    }
}
