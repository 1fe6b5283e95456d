//! Objects far away: named bytes that are written once, read, listed, and removed by pruning alone.

mod folder;
mod keyed;
mod memory;
mod object;
mod probe;

pub use keyed::KeyedStore;
pub use memory::MemoryStore;
pub use object::{ObjectStore, STORE_VARIABLES, StoreOptions, StoreVariable};
pub use probe::probe;

use crate::encrypt::EncryptionKeys;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was put, by the clock of the store.
    pub modified_ms: i64,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was not there and is now.
    Created,
    /// An object of this name is there and was left as it is.
    Exists,
}

/// Why a store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{name} is not there")]
    Missing {
        /// The object.
        name: String,
    },
    /// The store did not do it, and may later: it cannot be reached, it is slow, it failed.
    #[error("cannot {act} {name}: {problem}")]
    Unavailable {
        /// What was tried.
        act: &'static str,
        /// The object or folder.
        name: String,
        /// What the store or the network said.
        problem: String,
    },
    /// The store refuses, and will again: rights, a bucket that is not there, a wrong address.
    #[error("{place} refuses: {problem}")]
    Refused {
        /// The address.
        place: String,
        /// What it said, and what to do.
        problem: String,
    },
    /// The object is longer than it can be.
    #[error("{name} has {found} bytes, expected {most} at most")]
    TooLong {
        /// The object.
        name: String,
        /// Its length.
        found: u64,
        /// The bound.
        most: u64,
    },
}

impl std::fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.place()).finish()
    }
}

/// A store of objects.
///
/// Contract:
/// 1. `put_new` never changes an object that is there, whoever else puts at the same time: of
///    several that put one name one is told `Created`, the others `Exists`;
/// 2. after `Created` the object is found by `get` and `list`. After an error it may be there,
///    whole, or in part if the store is a bad one: whoever puts reads back;
/// 3. names are `/`-separated; `list` gives those below a folder in byte order.
///
/// Calls block. They may be made from any thread, but not from inside of an async task.
pub trait Store: Send + Sync {
    /// Makes an object of these bytes unless one of this name is there.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError>;
    /// The bytes of an object, of at most `most`.
    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError>;
    /// All objects below `folder` whose names come after `after` (empty: all), by name.
    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError>;
    /// The names right below `folder` (empty: at the top) that are folders themselves.
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError>;
    /// Removes an object; fine if it is not there.
    fn remove(&self, name: &str) -> Result<(), StoreError>;
    /// Where it is, for people. Holds no secret.
    fn place(&self) -> String;
    /// What parts and files here are encrypted with. A store in front of another one says what that
    /// says: without keys they are put in the clear.
    fn keys(&self) -> &EncryptionKeys;
}
