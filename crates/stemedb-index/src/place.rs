//! Which folder holds the index: the configured one or, once it was made anew beside itself, one within.
//!
//! ```text
//! DIR/version, …      the index as the first start made it
//! DIR/rebuilt-2/…     a later one
//! DIR/current         names the one in force, if that is not the first: `rebuilt-2`
//! ```
//!
//! A new one lies within, and not beside, the configured folder: that may be a mount point. `current` is
//! written last and replaced in one step, so that after a crash the old index or the new one is in force.
//! What is not in force is removed once nobody can read from it, at the next open at the latest.

use std::io;
use std::path::{Path, PathBuf};

use stemedb_io::{Open, RealVfs, Vfs, replace};

use crate::error::IndexError;

const CURRENT: &str = "current";
/// What [`replace`] writes first.
const CURRENT_NEW: &str = "current.new";
const REBUILT: &str = "rebuilt-";
/// No name of a folder is longer.
const NAME_MAX: usize = 64;
/// Files of the storage. The version marker is written last when a folder is made.
pub(crate) const VERSION_FILE: &str = "version";
const STORAGE_FILES: [&str; 3] = [VERSION_FILE, "lock", "keyspaces"];
const JOURNAL: &str = ".jnl";

/// Whether the storage keeps something under this name.
pub(crate) fn is_storage(name: &str) -> bool {
    STORAGE_FILES.contains(&name) || name.ends_with(JOURNAL)
}

/// Whether this module does.
pub(crate) fn is_ours(name: &str) -> bool {
    name == CURRENT || name == CURRENT_NEW || number(name).is_some()
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix(REBUILT)?.parse().ok()
}

/// The folder of the index that is in force.
pub(crate) fn in_force(dir: &Path) -> Result<PathBuf, IndexError> {
    let path = dir.join(CURRENT);
    let read = || -> io::Result<Vec<u8>> {
        let file = RealVfs.open(&path, Open::Read)?;
        let mut name = vec![0; NAME_MAX];
        let len = file.read_at(&mut name, 0)?;
        name.truncate(len);
        Ok(name)
    };
    let name = match read() {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(dir.to_owned()),
        Err(error) => return Err(failed("open index", &path, &error)),
    };
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    let folder = dir.join(&name);
    if number(&name).is_none() || !folder.is_dir() {
        return Err(IndexError::Damaged {
            dir: dir.display().to_string(),
            what: format!("the file {CURRENT:?} names {name:?}, which is not there"),
        });
    }
    Ok(folder)
}

/// A folder for another index, that no index has had.
pub(crate) fn another(dir: &Path) -> Result<PathBuf, IndexError> {
    let numbers = names(dir)?.into_iter().filter_map(|name| number(&name));
    let next = numbers.max().unwrap_or(0) + 1;
    Ok(dir.join(format!("{REBUILT}{next}")))
}

/// Has the next open find the index in `folder`.
pub(crate) fn put_in_force(dir: &Path, folder: &Path) -> Result<(), IndexError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = dir.join(CURRENT);
    replace(&RealVfs, &path, format!("{name}\n").as_bytes())
        .map_err(|error| failed("put index in force", &path, &error))
}

/// Removes the index in `folder`, which nobody has open.
pub(crate) fn remove(dir: &Path, folder: &Path) -> Result<(), IndexError> {
    if folder != dir {
        return remove_all(folder);
    }
    names(dir)?
        .iter()
        .filter(|name| is_storage(name))
        .try_for_each(|name| remove_all(&dir.join(name)))
}

/// Removes every index but that in `folder`. Whoever calls this has that one open: nobody else has
/// one of them then.
pub(crate) fn clean(dir: &Path, folder: &Path) -> Result<(), IndexError> {
    for name in names(dir)? {
        let path = dir.join(&name);
        let other = number(&name).is_some() || name == CURRENT_NEW;
        if path != folder && (other || folder != dir && is_storage(&name)) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, IndexError> {
    let entries =
        RealVfs.read_dir(dir).map_err(|error| failed("list index folder", dir, &error))?;
    Ok(entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
}

fn remove_all(path: &Path) -> Result<(), IndexError> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { RealVfs.remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove index", path, &error))
        }
        _ => Ok(()),
    }
}

fn failed(op: &'static str, path: &Path, error: &io::Error) -> IndexError {
    IndexError::Failed { op, reason: format!("{}: {error}", path.display()) }
}
