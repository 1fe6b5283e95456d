//! Whose a new file is. What root makes in the folder of another user becomes that user's: a server
//! that runs as this one has to use it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Gives a new file or folder at `path` to the owner of the folder it is in, if root has made it and the
/// folder is not root's. Where that is not allowed it stays root's.
pub(crate) fn settle(new: &File, path: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (Ok(folder), Ok(own)) = (fs::metadata(folder), new.metadata()) else { return };
    if own.uid() == 0 && folder.uid() != 0 {
        // By its descriptor: the owner of the folder may have put something else under the name.
        let _ = std::os::unix::fs::fchown(new, Some(folder.uid()), Some(folder.gid()));
    }
}

/// Makes a folder, and those above it, unless it is there.
pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    let missing = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing: Vec<&Path> = missing.collect();
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    for dir in missing.into_iter().rev() {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        if let Ok(made) = fs::OpenOptions::new().read(true).custom_flags(flags).open(dir) {
            settle(&made, dir);
        }
    }
    Ok(())
}

/// Makes a folder, and those above it, that only their owner may enter, unless it is there.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    make_folder(path, 0o700)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use crate::{Open, RealVfs, Vfs, make_private_folder, replace};

    const SERVER: u32 = 61_234;

    #[test]
    #[ignore = "needs root (files of another user); `make unit` runs it as root"]
    fn what_root_makes_in_the_folder_of_another_is_that_users() {
        let dir = tempfile::tempdir().unwrap();
        let owner = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.uid(), meta.gid(), meta.permissions().mode() & 0o777)
        };
        // In its own folder root's files are root's.
        RealVfs.open(&dir.path().join("own"), Open::CreateNew).unwrap();
        assert_eq!(owner(&dir.path().join("own")).0, 0);
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::chown(&data, Some(SERVER), Some(SERVER + 1)).unwrap();
        RealVfs.open(&data.join("new"), Open::CreateNew).unwrap();
        replace(&RealVfs, &data.join("note"), b"text").unwrap();
        RealVfs.create_dir_all(&data.join("a/b")).unwrap();
        make_private_folder(&data.join("node/keys")).unwrap();
        RealVfs.open(&data.join("node/keys/new"), Open::CreateNew).unwrap();
        for (name, mode) in [
            ("new", 0o600),
            ("note", 0o600),
            ("node", 0o700),
            ("node/keys", 0o700),
            ("node/keys/new", 0o600),
        ] {
            assert_eq!(owner(&data.join(name)), (SERVER, SERVER + 1, mode), "{name}");
        }
        for name in ["a", "a/b"] {
            assert_eq!(owner(&data.join(name)).0, SERVER, "{name}");
        }
        // What was there stays whose it is.
        fs::write(data.join("old"), "x").unwrap();
        RealVfs.open(&data.join("old"), Open::Write).unwrap();
        assert_eq!(owner(&data.join("old")).0, 0);
        RealVfs.create_dir_all(&data.join("a/b")).unwrap();
    }
}
