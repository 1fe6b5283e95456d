//! The canonical form of a record: DAG-CBOR, one byte string for one meaning. Normative page:
//! `docs/format/record.md`.

pub mod cbor;
mod decode;
mod encode;
mod fields;

pub(crate) use encode::write_value;
pub use fields::DecodeError;

/// The `v` of every record this build writes, and the newest it reads.
pub const FORMAT_VERSION: u64 = 1;
