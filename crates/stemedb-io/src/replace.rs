//! Putting a small file in the place of another.

use std::io;
use std::path::Path;

use crate::vfs::{Open, Vfs};

/// Puts a file in the place of another, readable by its owner only. After a crash it is the old one
/// or the new one.
pub fn replace(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    match vfs.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = vfs.open(&temporary, Open::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    file.close()?;
    vfs.rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => vfs.sync_dir(dir),
        None => Ok(()),
    }
}
