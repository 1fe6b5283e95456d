//! Ports for servers under test.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Where nobody listens now. Below the ports that the system gives away by itself, and from a place
/// of this process's own: several harnesses may be at work on one machine. Somebody may still take
/// it before the server does; whoever asks the server must have seen it say [`LISTENING`].
pub(crate) fn free() -> Result<u16> {
    let own = u16::try_from(std::process::id() % 20_000)?;
    for _ in 0..1_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7) % 20_000;
        let port = 11_000 + (own + step) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// What a server says once its port is its own.
pub(crate) const LISTENING: &str = "listening on http";

/// The address in what it says so, with `http://` or `https://`.
pub(crate) fn listening(words: &str) -> Option<&str> {
    let rest = words.lines().find_map(|line| line.strip_prefix("listening on "))?;
    rest.split(',').next().filter(|url| url.starts_with("http"))
}
