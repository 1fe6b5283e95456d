//! The nouns of StemeDB: records, canonical bytes, ids, signatures, limits, rights.
//!
//! No I/O, no clock, no async. Every other crate may import this one; it imports none of them.

mod class;
mod ids;
pub mod limits;
mod record;
mod registry;
mod text;
mod value;

pub use class::{SourceClass, Tier};
pub use ids::{AgentId, Hash, HexError, LogId, Millis, Position, RecordId, Signature, Timeline};
pub use record::*;
pub use registry::Registry;
pub use text::{InvalidField, Key, PredicateName, Principal, Space, Subject};
pub use value::{Value, ValueType};
