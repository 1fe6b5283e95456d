//! What can go wrong, and what a caller can do about it.

use std::io;

use stemedb_model::Position;

/// Why the log could not do what was asked. The kind is API, the message is for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The medium or the file system refused an operation.
    #[error("{op} {file} at byte {offset}: {source}")]
    Io {
        /// What was tried: `write`, `sync`, `open`, …
        op: &'static str,
        /// File name inside the log's folder.
        file: String,
        /// Where in the file; 0 if it concerns the whole file.
        offset: u64,
        /// The error of the system.
        source: io::Error,
    },
    /// Bytes that were acknowledged are not what was written.
    #[error("{file}, byte {offset}: {problem} (positions {first} to {last}); {hint}")]
    Damaged {
        /// File name inside the log's folder.
        file: String,
        /// First bad byte.
        offset: u64,
        /// Kind of damage and how it is known.
        problem: String,
        /// First position concerned.
        first: Position,
        /// Last position concerned.
        last: Position,
        /// The next command to type.
        hint: String,
    },
    /// A file belongs to another database, timeline or place in the sequence, or is missing.
    #[error("{file}: {problem}; {hint}")]
    Misplaced {
        /// File name inside the log's folder.
        file: String,
        /// `foreign`, `swapped`, `missing`, `duplicated`, in a sentence.
        problem: String,
        /// The next command to type.
        hint: String,
    },
    /// Written by a newer version.
    #[error("{file}: format {found}, this build reads up to {supported}; use a newer build")]
    TooNew {
        /// File name inside the log's folder.
        file: String,
        /// Format found.
        found: u32,
        /// Newest format this build reads.
        supported: u32,
    },
    /// The last group is bad and nothing says whether it was acknowledged.
    #[error("{file}, byte {offset}: {problem}; {hint}")]
    TailUndecided {
        /// File name inside the log's folder.
        file: String,
        /// First bad byte.
        offset: u64,
        /// What was found.
        problem: String,
        /// The next command to type.
        hint: String,
    },
    /// The log takes no writes since an earlier failure.
    #[error("the log is read-only: {reason}")]
    ReadOnly {
        /// Which file, which operation, which error.
        reason: String,
    },
    /// A repair gave these positions up; they stay numbered and unreadable (HTTP 410).
    #[error("positions {first} to {last} were lost to damage and given up by a repair ({by})")]
    Lost {
        /// First lost position of the range.
        first: Position,
        /// Last lost position of the range.
        last: Position,
        /// Tool and time of the repair.
        by: String,
    },
    /// The medium failed, and what was given to it is void for ever: it is not in the log.
    #[error("not written: {reason}; the log is read-only")]
    GivenUp {
        /// Which file, which operation, which error.
        reason: String,
    },
    /// It is not known what the medium holds of a segment under which it failed.
    #[error("{file}: {problem}, so it is not known what the medium holds")]
    Unproved {
        /// File name inside the log's folder.
        file: String,
        /// Why not.
        problem: String,
    },
    /// An operator took the log off its file system.
    #[error("the log is detached: run `stemedb admin wal attach` when its file system is back")]
    Detached,
    /// The position is before the first one that this node keeps (HTTP 410).
    #[error(
        "position {position} was removed from this node, whose log begins at {first}; it is in \
         the archive: set archive.url, so that it is read there"
    )]
    Trimmed {
        /// The position that was asked for.
        position: Position,
        /// The first one that is here.
        first: Position,
    },
    /// Positions that were removed from this node could not be read where they are.
    #[error(
        "positions {first} to {last} were removed from this node and cannot be read from the \
         archive: {problem}"
    )]
    Away {
        /// First of them that was asked for.
        first: Position,
        /// Last of them that was asked for.
        last: Position,
        /// Why, and what to do.
        problem: String,
    },
    /// Another process has the folder open.
    #[error("{dir} is in use by another process: stop it first")]
    Locked {
        /// The folder.
        dir: String,
    },
    /// No prepared segment is there to write to; nothing was appended. Ends when there is room.
    #[error("no segment is ready to write to: {reason}")]
    Unprepared {
        /// Why preparing one failed.
        reason: String,
    },
    /// The caller broke the contract (an empty or too large group).
    #[error("{0}")]
    Refused(String),
}

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The medium: mend it, then restart or attach.
    Unavailable,
    /// The data: verify, repair, restore.
    Data,
    /// The caller: ask for something else.
    Caller,
}

/// What is known about the records of a failed append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They are not in the log and will not appear.
    NotWritten,
    /// They may appear after a restart.
    Indeterminate,
}

/// Whether the log takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Ok,
    /// It does, but an operator should look.
    Degraded {
        /// Why.
        reason: String,
    },
    /// It does not.
    ReadOnly {
        /// Why.
        reason: String,
    },
    /// Its files are closed so that the file system can be unmounted.
    Detached,
}

impl LogState {
    /// The name in answers, logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded { .. } => "degraded",
            Self::ReadOnly { .. } => "read_only",
            Self::Detached => "detached",
        }
    }
}

impl LogError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. }
            | Self::ReadOnly { .. }
            | Self::GivenUp { .. }
            | Self::Unproved { .. }
            | Self::Detached
            | Self::Away { .. }
            | Self::Locked { .. }
            | Self::Unprepared { .. } => ErrorKind::Unavailable,
            Self::Damaged { .. }
            | Self::Lost { .. }
            | Self::Trimmed { .. }
            | Self::Misplaced { .. }
            | Self::TooNew { .. }
            | Self::TailUndecided { .. } => ErrorKind::Data,
            Self::Refused(_) => ErrorKind::Caller,
        }
    }

    /// What is known about the records of the append that failed with this: an error of a write or
    /// sync leaves them undecided; after every other error they are not in the log and will not be.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Io { .. } => Outcome::Indeterminate,
            _ => Outcome::NotWritten,
        }
    }
}

/// An operation that the medium or the file system refused.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) op: &'static str,
    /// File name inside the log's folder.
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) source: io::Error,
}

impl Failure {
    /// No room: nothing is wrong with the medium, and there may be room later.
    pub(crate) fn full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { op, file, offset, source } = self;
        write!(f, "{op} of {file} at byte {offset} failed: {source}")
    }
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        let Failure { op, file, offset, source } = failure;
        Self::Io { op, file, offset, source }
    }
}
