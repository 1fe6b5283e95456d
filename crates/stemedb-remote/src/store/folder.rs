//! The folder of a local store. One that is unmounted while it is used leaves its mount point behind,
//! and whatever is put then lands on the disk below.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::names;

/// A folder, and what is remembered of it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// Device and number of the folder that was used.
    id: Option<(u64, u64)>,
    /// An object that was seen in it.
    witness: Option<String>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), used: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Says so if this is not the folder that was used. Another one is it nevertheless if the object is
    /// there that was seen last: a device has another number when it is mounted again.
    pub(super) fn check(&self) -> Result<(), String> {
        let now = self.id();
        let mut used = self.used();
        let is = match &used.witness {
            None => true,
            Some(_) if now == used.id => true,
            Some(witness) => now.is_some() && self.path.join(witness).exists(),
        };
        if !is {
            return Err(format!(
                "{} is not the folder that was used before: mount it again, if it was unmounted",
                self.path.display()
            ));
        }
        used.id = now;
        Ok(())
    }

    /// An object was put there or read.
    pub(super) fn saw(&self, name: &str) {
        let mut used = self.used();
        if !names::goes_soon(name) {
            used.witness = Some(name.to_owned());
        }
        // Just made, by a put.
        used.id = used.id.or_else(|| self.id());
    }

    /// An object is not there any more.
    pub(super) fn removed(&self, name: &str) {
        let mut used = self.used();
        if used.witness.as_deref() == Some(name) {
            used.witness = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use super::*;
    use stemedb_model::LogId;

    #[test]
    fn a_lease_is_no_witness_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("place");
        let log_id = LogId([7; 16]);
        let (part, lease) = (format!("{log_id}/a-part"), names::lease(log_id, 1));
        for name in [&part, &lease] {
            fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
            fs::write(at.join(name), "").unwrap();
        }
        let folder = Folder::new(&at);
        folder.saw(&part);
        folder.saw(&lease);
        // Mounted again, it has another number; the lease was removed meanwhile, by its holder.
        fs::remove_file(at.join(&lease)).unwrap();
        fs::rename(&at, dir.path().join("away")).unwrap();
        fs::create_dir(&at).unwrap();
        assert!(folder.check().unwrap_err().contains("mount it again"));
        let below = dir.path().join("away").join(log_id.to_string());
        fs::rename(below, at.join(log_id.to_string())).unwrap();
        folder.check().unwrap();
    }
}
