//! Who asks, and what that one may do: API keys, their roles, the endpoints of each role.
//!
//! The reasons are in `docs/decisions/2026-11-29-api-keys.md`.

mod store;
mod token;

pub use store::{KeyError, Reset, first_key_file, keys_file, reset_keys};
pub use token::Token;
