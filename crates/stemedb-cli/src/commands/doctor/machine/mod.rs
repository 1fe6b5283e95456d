//! What the kernel tells: files of `/proc`, `/sys` and `/dev/kmsg`, read and taken apart. Nothing here
//! decides what is good.

pub(super) mod block;
pub(super) mod kernel_log;
pub(super) mod memory;
pub(super) mod mounts;
pub(super) mod processes;
pub(super) mod sockets;

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

/// The text of a small file, without what ends it; `None` if it cannot be read.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What `work` gives, or `None` if it takes longer: a disk that is gone may keep a caller for ever.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = channel();
    let started = std::thread::Builder::new().name("doctor".into()).spawn(move || {
        // Nobody listens any more after the limit.
        let _ = tell.send(work());
    });
    started.ok()?;
    told.recv_timeout(limit).ok()
}
