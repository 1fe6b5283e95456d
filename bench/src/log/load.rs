//! Neighbours: what else a machine does while the log is written.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde::{Deserialize, Serialize};

const FILE_BYTES: usize = 128 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Neighbour {
    /// Two threads for each processor that never rest.
    Processor,
    /// Files of 128 MiB, written through the cache and synced, one after the other.
    Disk,
}

impl Neighbour {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Processor => "every processor wanted by two busy threads",
            Self::Disk => "a neighbour that writes and syncs files of 128 MiB",
        }
    }

    /// Does `work` beside it.
    pub(crate) fn beside<T>(self, dir: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let stop = AtomicBool::new(false);
        let threads = match self {
            Self::Processor => 2 * std::thread::available_parallelism()?.get(),
            Self::Disk => 1,
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| match self {
                        Self::Processor => {
                            while !stop.load(Ordering::Relaxed) {
                                std::hint::spin_loop();
                            }
                            Ok(())
                        }
                        Self::Disk => write_files(dir, &stop),
                    })
                })
                .collect();
            let done = work();
            stop.store(true, Ordering::Relaxed);
            for thread in running {
                thread.join().map_err(|_| anyhow::anyhow!("the neighbour panicked"))??;
            }
            done
        })
    }
}

fn write_files(dir: &Path, stop: &AtomicBool) -> Result<()> {
    let piece = vec![1; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        let path = dir.join("neighbour");
        let mut file = File::create(&path)?;
        for _ in 0..FILE_BYTES / piece.len() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}
