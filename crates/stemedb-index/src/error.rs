//! What can be wrong with an index, and what to do about it.

use stemedb_model::Position;

/// Why the index could not do what was asked.
///
/// Nothing here loses data: the index is derived, and any folder it complains about can be rebuilt
/// from the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The folder belongs to another database or to another branch of its log.
    #[error(
        "{dir}: index of {what} {found}, but the log is {expected}; \
         point the configuration at the right folder"
    )]
    Foreign {
        /// The folder.
        dir: String,
        /// `log` or `timeline`.
        what: &'static str,
        /// What the folder says.
        found: String,
        /// What the log says.
        expected: String,
    },
    /// Another version of the software wrote it.
    #[error(
        "{dir}: index format {found}, this build reads {supported}; \
         delete the folder, it is rebuilt from the log"
    )]
    UnknownFormat {
        /// The folder.
        dir: String,
        /// What the folder says.
        found: u64,
        /// The only one this build reads.
        supported: u64,
    },
    /// The folder holds something else; nothing in it was touched.
    #[error("{dir}: holds {file:?}, which is no part of an index; choose an empty folder")]
    NotAnIndex {
        /// The folder.
        dir: String,
        /// A name found in it.
        file: String,
    },
    /// Another process has it open.
    #[error("{dir}: in use by another process")]
    InUse {
        /// The folder.
        dir: String,
    },
    /// Its contents contradict themselves, or are cut short.
    #[error("{dir}: damaged ({what}); delete the folder, it is rebuilt from the log")]
    Damaged {
        /// The folder.
        dir: String,
        /// What was found.
        what: String,
    },
    /// The storage under it failed. Nothing more is applied until it is opened again.
    #[error("{op}: {reason}")]
    Failed {
        /// What was being done.
        op: &'static str,
        /// What the storage said, or why an earlier call stopped the index.
        reason: String,
    },
    /// The caller skipped or repeated a position, or went back in time.
    #[error("entry {found} cannot follow position {applied}: {problem}")]
    OutOfOrder {
        /// The newest position applied.
        applied: Position,
        /// The position that came.
        found: Position,
        /// The rule it breaks.
        problem: &'static str,
    },
    /// A resolution would need more than the bound allows.
    #[error("the key rests on {claims} claims and {facts} facts, more than the bound of {bound}")]
    TooLarge {
        /// Assertions that would take part. Of those of other keys, only as many as were found.
        claims: usize,
        /// Votes, cosigns, retractions, supersessions and lifecycle records about them.
        facts: usize,
        /// The bound that one of the two exceeds.
        bound: usize,
    },
}

/// What the caller can do about an [`IndexError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Correct the configuration.
    Configuration,
    /// Delete the folder and rebuild.
    Rebuild,
    /// Repair the storage, then open again.
    Unavailable,
    /// Ask for less.
    TooLarge,
    /// The caller broke the contract of this crate.
    Bug,
}

impl IndexError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } | Self::NotAnIndex { .. } | Self::InUse { .. } => {
                ErrorKind::Configuration
            }
            Self::UnknownFormat { .. } | Self::Damaged { .. } => ErrorKind::Rebuild,
            Self::Failed { .. } => ErrorKind::Unavailable,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::OutOfOrder { .. } => ErrorKind::Bug,
        }
    }
}
