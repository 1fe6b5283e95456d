//! Fixed-size names: record ids, agents, hashes, positions. All print as lower-case hex.

use std::fmt;
use std::str::FromStr;

/// Text that is not the hex form of a fixed-size byte string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hex digits, got {found}")]
pub struct HexError {
    /// Digits that the type has.
    pub expected: usize,
    /// What came instead, in words.
    pub found: String,
}

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// From a slice of exactly the right length, else `None`.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; $len * 2];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0u8; $len];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok(Self(bytes)),
                    Err(hex::FromHexError::InvalidHexCharacter { c, index }) => Err(HexError {
                        expected: $len * 2,
                        found: format!("{c:?} at character {index}"),
                    }),
                    Err(_) => Err(HexError {
                        expected: $len * 2,
                        found: format!("{} characters", text.chars().count()),
                    }),
                }
            }
        }
    };
}

bytes_type!(
    /// BLAKE3-256 of a record's domain-separated canonical bytes.
    RecordId,
    32
);
bytes_type!(
    /// An Ed25519 public key: the author of a record.
    AgentId,
    32
);
bytes_type!(
    /// A BLAKE3-256 hash of something that is not a record: evidence, a table, a chain link.
    Hash,
    32
);
bytes_type!(
    /// An Ed25519 signature over a record's id.
    Signature,
    64
);
bytes_type!(
    /// The random name of one database, given at genesis.
    LogId,
    16
);
bytes_type!(
    /// The random name of one branch of a log; new after point-in-time restore or promotion.
    Timeline,
    16
);

/// The dense number of a record in the log, from 1; `Position::NONE` (0) is before the first.
/// The only clock of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position(pub u64);

impl Position {
    /// Before the first record.
    pub const NONE: Self = Self(0);
    /// After every record: reads "as of now".
    pub const MAX: Self = Self(u64::MAX);

    /// The position that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Millis(pub i64);
