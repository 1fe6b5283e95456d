//! Who asks, and what that one may do: API keys, their roles, the endpoints of each role, and what
//! administrators did.
//!
//! The reasons are in `docs/decisions/2026-11-29-api-keys.md`.

mod caller;
mod check;
mod quota;
mod sealed;
mod store;
mod table;
mod token;
mod trail;

pub(crate) use caller::Caller;
pub(crate) use check::authorize;
pub(crate) use quota::{Quotas, Reserved};
pub use store::{KEYS_FORMAT, KeyError, Reset, first_key_file, keys_file, reset_keys};
pub(crate) use store::{Key, KeyStore, hold};
pub(crate) use table::{Access, TABLE, access, class};
pub use token::Token;
pub(crate) use trail::Trail;
pub use trail::{TrailReport, append_offline, read_trail, trail_dir};

/// What an act of an administrator came to, left in its answer for the trail.
#[derive(Debug, Clone)]
pub(crate) struct Done(pub(crate) String);
