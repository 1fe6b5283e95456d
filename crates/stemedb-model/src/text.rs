//! Checked text: spaces, subjects, predicates, principals. Once parsed, the type is the proof.
//! Text that breaks a rule is refused, never repaired: changed bytes would break signatures.

use std::fmt;
use std::sync::Arc;

use unicode_normalization::is_nfc;

use crate::limits;

/// What is wrong with one field of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// Name of the field as in the canonical form, with a path for nested ones (`source.uri`).
    pub field: &'static str,
    /// What was wrong and what was expected.
    pub problem: String,
}

impl InvalidField {
    /// `field: problem`.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// Checks NFC, the byte bounds and the absence of control characters, which would reach terminals
/// and logs of everyone who reads the text. With `lines`, tab, line feed and carriage return pass.
pub(crate) fn check_text(
    field: &'static str,
    text: &str,
    bytes_min: usize,
    bytes_max: usize,
    lines: bool,
) -> Result<(), InvalidField> {
    if text.len() < bytes_min || text.len() > bytes_max {
        return Err(InvalidField::new(
            field,
            format!(
                "{} bytes long, expected {bytes_min} to {bytes_max} bytes of UTF-8",
                text.len()
            ),
        ));
    }
    let forbidden = |c: &char| c.is_control() && !(lines && matches!(c, '\t' | '\n' | '\r'));
    if let Some(c) = text.chars().find(forbidden) {
        return Err(InvalidField::new(
            field,
            format!(
                "holds the control character U+{:04X}, which is not allowed here",
                u32::from(c)
            ),
        ));
    }
    // Every ASCII text is NFC; the check costs a table walk per character otherwise.
    if !text.is_ascii() && !is_nfc(text) {
        return Err(InvalidField::new(
            field,
            "is not in Unicode Normalization Form C; normalize it before signing",
        ));
    }
    Ok(())
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Refuses text that breaks the rules of this type, naming the rule.
            pub fn parse(text: &str) -> Result<Self, InvalidField> {
                let check: fn(&'static str, &str) -> Result<(), InvalidField> = $check;
                check($field, text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn check_token(field: &'static str, text: &str) -> Result<(), InvalidField> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > limits::SPACE_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(InvalidField::new(field, "expected 1 to 64 characters out of a-z 0-9 . _ -"));
    }
    Ok(())
}

text_type!(
    /// A namespace (tenant, project): `[a-z0-9._-]{1,64}`. Keys, registries and rights live
    /// inside one space.
    Space,
    "space",
    check_token
);
text_type!(
    /// The stable owner of an API key, stamped on what it writes: `[a-z0-9._-]{1,64}`.
    Principal,
    "principal",
    check_token
);
text_type!(
    /// An entity: NFC UTF-8, 1 to 512 bytes, no control characters; `/` makes a path.
    Subject,
    "subject",
    |field, text| check_text(field, text, 1, limits::SUBJECT_BYTES_MAX, false)
);
text_type!(
    /// A property or relation: NFC UTF-8, 1 to 256 bytes, no control characters.
    PredicateName,
    "predicate",
    |field, text| check_text(field, text, 1, limits::PREDICATE_BYTES_MAX, false)
);

impl Default for Space {
    fn default() -> Self {
        Self("default".into())
    }
}

/// What assertions agree or disagree about. Orders by (space, subject, predicate) in byte order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub space: Space,
    /// The entity.
    pub subject: Subject,
    /// The property.
    pub predicate: PredicateName,
}
