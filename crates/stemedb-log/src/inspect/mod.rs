//! Inspectors: they only read, work beside a running server, and need no lock. And the repair of a
//! segment, which reads one file and writes another.

mod dump;
mod repair;
mod stat;
mod verify;

pub use dump::{DumpItem, dump};
pub use repair::{
    DroppedBytes, HeaderOrigin, LostPositions, RepairOptions, RepairReport, RepairWritten,
    RestoreOptions, RestoreReport, Undecided, repair, restore_segment,
};
pub use stat::{StatReport, stat};
pub use verify::{SegmentReport, VerifyReport, verify, verify_watched};
