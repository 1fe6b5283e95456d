//! Inspectors: they only read, work beside a running server, and need no lock.

mod dump;
mod stat;
mod verify;

pub use dump::{DumpItem, dump};
pub use stat::{StatReport, stat};
pub use verify::{SegmentReport, VerifyReport, verify};
