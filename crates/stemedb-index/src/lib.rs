//! Everything derivable from the log: records, ids, postings, registries; rebuilt at will.
//!
//! The index is a fold over the log's entries, kept on disk by fjall. Start at [`Index`]; what is
//! on disk is specified in [`mod@format`].

mod answers;
mod buffers;
mod bytes;
mod candidates;
mod check;
pub mod conflicts;
mod entry;
mod error;
mod fold;
pub mod format;
mod index;
mod known;
mod lost;
mod memory;
mod open;
mod pages;
mod place;
mod questions;
mod rows;
mod snapshot;
mod store;
mod touched;

pub use answers::Learned;
pub use check::{Report, Stats, TableStats, check};
pub use conflicts::{
    Conflict, ConflictFilter, ConflictPage, ConflictPlace, ConflictStanding, Followed,
};
pub use entry::Entry;
pub use error::{ErrorKind, IndexError};
pub use index::{Counters, Index, IndexConfig};
pub use lost::Lost;
pub use memory::Memory;
pub use open::remove;
pub use pages::{Filter, KeyFilter, Page, Referrer};
pub use snapshot::Snapshot;
