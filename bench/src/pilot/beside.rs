//! What a backup reads, beside everything else: the sealed segments and the export, each one byte
//! after the other, as fast as they come.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use ureq::Agent;

const PIECE: usize = 1 << 20;
/// The segment in use and the one after it are not sealed.
const NOT_SEALED: usize = 2;

/// What was read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Reads {
    pub(crate) seconds: f64,
    /// Of segments, from the medium.
    pub(crate) segment_bytes: u64,
    pub(crate) export_bytes: u64,
    /// Exports that reached their end.
    pub(crate) exports: u64,
    pub(crate) errors: u64,
}

/// Reads from its start to [`Beside::finish`].
pub(crate) struct Beside {
    begun: Instant,
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<Result<Reads>>; 2],
}

impl Beside {
    /// - `export`: the address to export from.
    pub(crate) fn start(wal: &Path, export: String, key: String) -> Result<Self> {
        ensure!(!sealed(wal)?.is_empty(), "{} has no sealed segment", wal.display());
        let stop = Arc::new(AtomicBool::new(false));
        let (wal, stopped) = (wal.to_owned(), Arc::clone(&stop));
        let segments = std::thread::spawn(move || read_segments(&wal, &stopped));
        let stopped = Arc::clone(&stop);
        let exports = std::thread::spawn(move || read_exports(&export, &key, &stopped));
        Ok(Self { begun: Instant::now(), stop, threads: [segments, exports] })
    }

    pub(crate) fn finish(self) -> Result<Reads> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Reads { seconds, ..Reads::default() };
        for thread in self.threads {
            let part = thread.join().map_err(|_| anyhow!("a reader panicked"))??;
            all.segment_bytes += part.segment_bytes;
            all.export_bytes += part.export_bytes;
            all.exports += part.exports;
            all.errors += part.errors;
        }
        Ok(all)
    }
}

/// Segments that nothing is added to, in order.
fn sealed(wal: &Path) -> Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for file in fs::read_dir(wal).with_context(|| format!("no {}", wal.display()))? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix("segment.").and_then(|rest| rest.strip_suffix(".wal"));
        if let Some(number) = number.and_then(|digits| digits.parse::<u64>().ok()) {
            numbered.push((number, path));
        }
    }
    numbered.sort();
    numbered.truncate(numbered.len().saturating_sub(NOT_SEALED));
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

fn read_segments(wal: &Path, stop: &AtomicBool) -> Result<Reads> {
    let mut reads = Reads::default();
    let mut piece = vec![0; PIECE];
    while !stop.load(Ordering::Relaxed) {
        for path in sealed(wal)? {
            let mut file = match File::open(&path) {
                Ok(file) => file,
                // Between the list and now it was packed into another one.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(path.display().to_string()),
            };
            // A backup reads more than a cache holds.
            fadvise(&file, 0, None, Advice::DontNeed)?;
            loop {
                match file.read(&mut piece) {
                    Ok(0) => break,
                    Ok(count) => reads.segment_bytes += count as u64,
                    Err(_) => {
                        reads.errors += 1;
                        break;
                    }
                }
                if stop.load(Ordering::Relaxed) {
                    return Ok(reads);
                }
            }
        }
    }
    Ok(reads)
}

fn read_exports(url: &str, key: &str, stop: &AtomicBool) -> Result<Reads> {
    let mut reads = Reads::default();
    let mut piece = vec![0; PIECE];
    let agent: Agent = Agent::config_builder().http_status_as_error(true).build().into();
    while !stop.load(Ordering::Relaxed) {
        let request = agent.get(url).header("Authorization", format!("Bearer {key}"));
        let Ok(mut response) = request.call() else {
            reads.errors += 1;
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let mut body = response.body_mut().as_reader();
        loop {
            match body.read(&mut piece) {
                Ok(0) => {
                    reads.exports += 1;
                    break;
                }
                Ok(count) => reads.export_bytes += count as u64,
                Err(_) => {
                    reads.errors += 1;
                    break;
                }
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(reads);
            }
        }
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segments_in_use_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["segment.002.wal", "segment.1000.wal", "segment.001.wal", "lock"];
        for name in names.into_iter().chain(["segment.999.wal"]) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let found: Vec<_> = sealed(folder.path()).unwrap();
        let expected = ["segment.001.wal", "segment.002.wal"].map(|name| folder.path().join(name));
        assert_eq!(found, expected);
    }
}
