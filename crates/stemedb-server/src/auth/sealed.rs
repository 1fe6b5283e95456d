//! Small files of this node's own: a JSON object on one line, and the BLAKE3 hash of it in hex on the
//! next. A change writes a new file beside it, syncs it, gives it the name and syncs the folder: after
//! a crash there is the old content or the new one.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stemedb_io::{Open, Vfs, replace};

/// No file of ours is longer.
const BYTES_MAX: u64 = 256 << 20;

/// Why there is nothing to read.
pub(crate) enum Unreadable {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is not as it was written.
    Damaged(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(
    vfs: &dyn Vfs,
    path: &Path,
) -> Result<Option<T>, Unreadable> {
    if !vfs.exists(path)? {
        return Ok(None);
    }
    let file = vfs.open(path, Open::Read)?;
    let len = file.len()?;
    if len > BYTES_MAX {
        return Err(Unreadable::Damaged(format!("it is {len} bytes long")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(body), Some(hash), Some([]), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(Unreadable::Damaged("it does not have two lines".into()));
    };
    if blake3::hash(body).to_hex().as_bytes() != hash {
        return Err(Unreadable::Damaged("its hash is another".into()));
    }
    serde_json::from_slice(body).map(Some).map_err(|error| Unreadable::Damaged(error.to_string()))
}

/// Writes it anew.
pub(crate) fn write(vfs: &dyn Vfs, path: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(content)?;
    let hash = blake3::hash(&bytes).to_hex();
    bytes.push(b'\n');
    bytes.extend_from_slice(hash.as_bytes());
    bytes.push(b'\n');
    replace(vfs, path, &bytes)
}
