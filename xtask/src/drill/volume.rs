//! A file system of the drill, on a disk that can be told to fail.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::room;
use crate::disk::{Disk, FILE};
use crate::fault::Faulty;
use crate::mount::{self, FileSystem, Loop, run};

const OPTIONS: &str = "errors=remount-ro";

fn image(folder: &Path, bytes: u64) -> Result<PathBuf> {
    let image = folder.join("image");
    File::create(&image)?.set_len(bytes)?;
    FileSystem::Ext4.make_in_pages(&image)?;
    Ok(image)
}

/// Fields in the order in which they must go.
pub(crate) struct Volume {
    at: PathBuf,
    device: Loop,
    /// Nothing if it cannot fail.
    disk: Option<Disk<Faulty>>,
    image: PathBuf,
}

impl Volume {
    /// Makes an ext4 of this size on a disk that can fail, mounts it at `at`, and notes it in
    /// `/etc/fstab`.
    pub(crate) fn on_a_failing_disk(
        folder: &Path,
        at: &Path,
        bytes: u64,
        seed: u64,
    ) -> Result<Self> {
        let image = image(folder, bytes)?;
        let fuse = folder.join("fuse");
        fs::create_dir_all(&fuse)?;
        let disk = Disk::mount(Faulty::over(&image, seed)?, &fuse)?;
        let device = Loop::attach(&fuse.join(FILE))?;
        Self { at: at.to_owned(), device, disk: Some(disk), image }.set_up()
    }

    /// The same on a disk that cannot fail, and can grow.
    pub(crate) fn on_a_good_disk(folder: &Path, at: &Path, bytes: u64) -> Result<Self> {
        let image = image(folder, bytes)?;
        let device = Loop::attach(&image)?;
        Self { at: at.to_owned(), device, disk: None, image }.set_up()
    }

    fn set_up(self) -> Result<Self> {
        fs::create_dir_all(&self.at)?;
        room::note_in_fstab(self.device(), &self.at, OPTIONS)?;
        self.mount()?;
        Ok(self)
    }

    pub(crate) fn disk(&self) -> Option<&Faulty> {
        self.disk.as_ref().map(|disk| &*disk.medium)
    }

    /// Whoever owns the disk makes it larger. The file system is left as it is.
    pub(crate) fn grow(&self, bytes: u64) -> Result<()> {
        File::options().write(true).open(&self.image)?.set_len(bytes)?;
        run(Command::new("losetup").arg("-c").arg(self.device())).map(drop)
    }

    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    pub(crate) fn device(&self) -> &Path {
        &self.device.device
    }

    pub(crate) fn mount(&self) -> Result<()> {
        mount::mount(self.device(), &self.at, OPTIONS)
    }

    pub(crate) fn mounted(&self) -> Result<bool> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        Ok(mounts.lines().any(|line| line.split(' ').nth(1) == self.at.to_str()))
    }

    pub(crate) fn unmount(&self) -> Result<()> {
        if self.mounted()? { mount::unmount(&self.at) } else { Ok(()) }
    }

    /// The file system finds an error in itself and takes no more writes, as `errors=remount-ro` has
    /// it.
    pub(crate) fn shut_off(&self) -> Result<()> {
        let name = self.device().file_name().context("a device has a name")?;
        let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        fs::write(&trigger, "1").with_context(|| trigger.display().to_string())
    }

    /// Takes all room but `leave` bytes, with a file that is not ours.
    pub(crate) fn fill(&self, leave: u64) -> Result<PathBuf> {
        let path = self.at.join("other-files");
        let stat = rustix::fs::statvfs(&self.at)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let file = File::create(&path)?;
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, free.saturating_sub(leave))?;
        file.sync_all()?;
        Ok(path)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // A disk that hangs or fails cannot be unmounted.
        if let Some(disk) = self.disk() {
            disk.clear();
        }
        if let Err(error) = self.unmount() {
            eprintln!("warning: {error:#}");
        }
    }
}
