//! Files that the person at the keyboard names: inputs, keys, small outputs.
//!
//! State of the database goes through `stemedb_io::Vfs`, which can be simulated. What is read
//! here may be a pipe or a terminal, which a `Vfs` with explicit offsets cannot read.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::failure::Failure;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The whole text of a file; `-` is standard input.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    raw(path)
        .and_then(|mut input| input.read_to_string(&mut text))
        .map_err(|error| cannot_read(path, error))?;
    Ok(text)
}

/// Lines of a file, unpacked if it is gzip, whatever its name; `-` is standard input.
pub fn open_lines(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    open_counted(path, |_| {})
}

/// Like [`open_lines`]; `count` hears how many bytes of the file itself were read, each time.
pub fn open_counted(
    path: &Path,
    count: impl FnMut(u64) + Send + 'static,
) -> Result<Box<dyn BufRead + Send>, Failure> {
    let input = raw(path).map_err(|error| cannot_read(path, error))?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, Counted { input, count });
    let start = input.fill_buf().map_err(|error| cannot_read(path, error))?;
    if start.starts_with(&GZIP_MAGIC) {
        let unpacked = MultiGzDecoder::new(input);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)));
    }
    Ok(Box::new(input))
}

/// Length of a regular file, `None` for pipes and standard input.
pub fn length(path: &Path) -> Option<u64> {
    let meta = std::fs::metadata(path).ok()?;
    meta.is_file().then_some(meta.len())
}

/// Creates a file that only its owner may read; fails if the name is taken.
pub fn create_private(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| {
        Failure::error(format!("cannot create {}", path.display())).because(error)
    })
}

/// Writes a file, whatever was there before.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error: io::Error| {
        Failure::error(format!("cannot write {}", path.display())).because(error)
    })
}

/// Makes a folder, and those above it, unless it is there.
pub fn create_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::error(format!("cannot create {}", path.display())).because(error))
}

/// The text of a file that must not be readable by others.
pub fn read_private(path: &Path) -> Result<String, Failure> {
    let meta = std::fs::metadata(path).map_err(|error| cannot_read(path, error))?;
    if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
        return Err(Failure::error(format!(
            "{} may be read by others (mode {:03o})",
            path.display(),
            meta.permissions().mode() & 0o777
        ))
        .hint(format!("chmod 600 {}", path.display())));
    }
    read_text(path)
}

/// The error of a file that cannot be read.
pub fn cannot_read(path: &Path, error: io::Error) -> Failure {
    Failure::error(format!("cannot read {}", path.display())).because(error)
}

fn raw(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = OpenOptions::new().read(true).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    Ok(Box::new(file))
}

struct Counted<F> {
    input: Box<dyn Read + Send>,
    count: F,
}

impl<F: FnMut(u64)> Read for Counted<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        (self.count)(n as u64);
        Ok(n)
    }
}
