//! Every bound of the model in one place. Bytes are bytes of UTF-8.

use crate::text::InvalidField;

/// A whole record, canonical bytes.
pub const RECORD_BYTES_MAX: usize = 256 << 10;
/// A space or principal.
pub const SPACE_BYTES_MAX: usize = 64;
/// A subject, also as a reference value.
pub const SUBJECT_BYTES_MAX: usize = 512;
/// A predicate name.
pub const PREDICATE_BYTES_MAX: usize = 256;
/// A text value.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// A source URI.
pub const URI_BYTES_MAX: usize = 2 << 10;
/// A name, a title, a unit, an operator.
pub const NAME_BYTES_MAX: usize = 512;
/// A reason, a description, an expression of a lens.
pub const REASON_BYTES_MAX: usize = 4 << 10;
/// Premises of one assertion.
pub const DERIVED_FROM_MAX: usize = 64;
/// Numbers in a vector (4 bytes each).
pub const VECTOR_NUMBERS_MAX: usize = 4096;
/// Pairs in `meta`.
pub const META_PAIRS_MAX: usize = 32;
/// Keys and values of `meta` together.
pub const META_BYTES_MAX: usize = 4 << 10;
/// Keys bound by one source record; conversions and opposites of one predicate record.
pub const LIST_MAX: usize = 64;
/// A half-life, in milliseconds: every integer up to here is a number that f64 holds exactly.
pub const HALF_LIFE_MILLIS_MAX: u64 = (1 << 53) - 1;

/// Refuses the canonical bytes of a record when there are too many of them.
pub(crate) fn check_record_bytes(len: usize) -> Result<(), InvalidField> {
    if len <= RECORD_BYTES_MAX {
        return Ok(());
    }
    let problem = format!("{len} bytes long, expected at most {RECORD_BYTES_MAX} bytes");
    Err(InvalidField::new("record", problem))
}
