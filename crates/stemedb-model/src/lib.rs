//! The nouns of StemeDB: records, canonical bytes, ids, signatures, limits, rights.
//!
//! No I/O, no clock, no async. Every other crate may import this one; it imports none of them.
//!
//! A record comes to life in [`Signed::seal`] (here) or [`Signed::from_bytes`] (from elsewhere):
//! past either, it is valid, canonical and signed by its agent. The canonical form is specified in
//! `docs/format/record.md`.

mod class;
mod codec;
mod ids;
pub mod limits;
mod names;
mod record;
mod registry;
mod rights;
mod sign;
mod text;
mod validate;
mod value;

pub use class::{SourceClass, Tier};
pub use codec::{DecodeError, FORMAT_VERSION, cbor};
pub use ids::{AgentId, Hash, HexError, LogId, Millis, Position, RecordId, Signature, Timeline};
pub use record::*;
pub use registry::{
    AgentState, EpochState, GoldState, LensState, Registry, RoleSet, SourceIdent, SourceState,
    TrustState, Voice,
};
pub use rights::{Head, Known, Policy, Refusal, admit};
pub use sign::{
    BadSignature, Signed, SigningKey, VerifyError, record_id, verify_consent, verify_signature,
};
pub use text::{InvalidField, Key, PredicateName, Principal, Space, Subject};
pub use validate::BUILTIN_LENSES;
pub use value::{Value, ValueType};
