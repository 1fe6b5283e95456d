//! What can go wrong far away, and here on the way there.

use stemedb_log::LogError;
use stemedb_model::{AgentId, Position};

use crate::codec::BadManifest;
use crate::encrypt::KeyId;
use crate::store::StoreError;

/// Why the archive, a backup or a restore could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log that is archived, or the one that is put together.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A manifest cannot be believed.
    #[error("{name}: {problem}")]
    Manifest {
        /// The object.
        name: String,
        /// Why.
        problem: BadManifest,
    },
    /// An object is not what its manifest says.
    #[error("{name} is not what was uploaded: {problem}")]
    Damaged {
        /// The object.
        name: String,
        /// What is different.
        problem: String,
    },
    /// The archive is of another history than the log here: nothing is archived any more.
    #[error("the archive at {place} is of another history than this log: {problem}")]
    Diverged {
        /// The address.
        place: String,
        /// What is different, and what to do.
        problem: String,
    },
    /// Positions that are needed are not in the archive.
    #[error("positions {first} to {last} are not in the archive")]
    Gap {
        /// The first of them.
        first: Position,
        /// The last of them.
        last: Position,
    },
    /// An object is encrypted with a key that is not here.
    #[error(
        "{name} is encrypted with key {key_id}, and {here}: encryption.keys names the files of keys"
    )]
    Key {
        /// The object.
        name: String,
        /// The name of the key.
        key_id: KeyId,
        /// The keys that there are, in words.
        here: String,
    },
    /// What was asked for cannot be had; says why and what can.
    #[error("{0}")]
    Refused(String),
    /// Somebody who is not believed has signed what is there.
    #[error("what is at {place} was signed by {}, which nothing here says to believe: name it as a trusted \
             key if a node of yours has or had it", list(.signers))]
    Unknown {
        /// Where.
        place: String,
        /// Who.
        signers: Vec<AgentId>,
    },
    /// A file of this node could not be read or written.
    #[error("cannot {act} {file}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// The file.
        file: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

impl RemoteError {
    /// Whether trying again later may help.
    pub fn passes(&self) -> bool {
        match self {
            Self::Store(error) => !matches!(error, StoreError::Refused { .. }),
            Self::Log(error) => error.kind() == stemedb_log::ErrorKind::Unavailable,
            Self::Damaged { .. } | Self::File { .. } => true,
            _ => false,
        }
    }
}

fn list(signers: &[AgentId]) -> String {
    let names: Vec<String> = signers.iter().map(ToString::to_string).collect();
    names.join(" and ")
}
