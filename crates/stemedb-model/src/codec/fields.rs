//! What decoding is made of: one value with its name, the fields of one map, and what can be wrong
//! with them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::FORMAT_VERSION;
use super::cbor::{self, Item, Malformed, Reader};
use crate::ids::{Hash, Millis, RecordId};
use crate::record::SourceKey;
use crate::text::InvalidField;

/// Why bytes are not a record in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not CBOR of the canonical kind.
    #[error("byte {at}{}: {problem}", in_field(.field.as_deref()))]
    Malformed {
        /// Offset of the offending byte.
        at: usize,
        /// The field of the record it lies in, if it could be told.
        field: Option<String>,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Written by a newer version: well-formed so far, but not for this build.
    #[error("v: record format {found}, this build reads up to {FORMAT_VERSION}")]
    TooNew {
        /// The `v` of the record.
        found: u64,
    },
    /// No kind has this tag.
    #[error("kind: {found} is the tag of no kind")]
    UnknownKind {
        /// The tag.
        found: u64,
    },
    /// The kind has no such field.
    #[error("{field}: no such field")]
    UnknownField {
        /// Its name, with a path for nested ones.
        field: String,
    },
    /// A field is missing, of the wrong type, or breaks a rule of the model.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The record has another canonical form, which differs from this byte on.
    #[error("byte {at}: not in canonical form")]
    NotCanonical {
        /// Offset of the first byte that differs.
        at: usize,
    },
}

impl DecodeError {
    /// The field at fault, as in the canonical form, if one can be named.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Malformed { field, .. } => field.as_deref(),
            Self::TooNew { .. } => Some("v"),
            Self::UnknownKind { .. } => Some("kind"),
            Self::UnknownField { field } => Some(field),
            Self::Invalid(invalid) => Some(invalid.field),
            Self::NotCanonical { .. } => None,
        }
    }
}

impl From<Malformed> for DecodeError {
    fn from(Malformed { at, problem }: Malformed) -> Self {
        Self::Malformed { at, field: None, problem }
    }
}

fn in_field(field: Option<&str>) -> String {
    field.map_or_else(String::new, |field| format!(", in {field}"))
}

/// A record holds lists of maps of scalars.
pub(super) const DEPTH: usize = 3;

pub(super) fn missing(field: &'static str) -> InvalidField {
    InvalidField::new(field, "is missing")
}

pub(super) fn check_key_order(
    last: Option<&str>,
    key: &str,
    at: usize,
    field: &str,
) -> Result<(), DecodeError> {
    let problem = match last.map(|last| cbor::key_order(last, key)) {
        None | Some(Ordering::Less) => return Ok(()),
        Some(Ordering::Equal) => "a map key that was there before",
        Some(Ordering::Greater) => "a map key out of order (shorter first, then byte by byte)",
    };
    let field = if field.is_empty() { key.to_owned() } else { field.to_owned() };
    Err(DecodeError::Malformed { at, field: Some(field), problem })
}

/// One value and the name that errors give it.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) item: Item<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn wrong_type(&self, expected: &str) -> InvalidField {
        InvalidField::new(self.name, format!("{}, expected {expected}", self.item.describe()))
    }

    pub(super) fn uint(self) -> Result<u64, DecodeError> {
        match self.item {
            Item::Uint(value) => Ok(value),
            _ => Err(self.wrong_type("an unsigned integer").into()),
        }
    }

    pub(super) fn millis(self) -> Result<Millis, DecodeError> {
        let value = match self.item {
            Item::Uint(value) => i64::try_from(value).ok(),
            Item::Negative(value) => i64::try_from(value).ok().map(|value| -1 - value),
            _ => return Err(self.wrong_type("milliseconds as an integer").into()),
        };
        let value =
            value.ok_or_else(|| InvalidField::new(self.name, "does not fit a 64-bit integer"))?;
        Ok(Millis(value))
    }

    pub(super) fn float(self) -> Result<f64, DecodeError> {
        match self.item {
            Item::Float(value) => Ok(value),
            _ => Err(self.wrong_type("a 64-bit float").into()),
        }
    }

    pub(super) fn boolean(self) -> Result<bool, DecodeError> {
        match self.item {
            Item::Boolean(value) => Ok(value),
            _ => Err(self.wrong_type("a boolean").into()),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self.item {
            Item::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong_type("a byte string").into()),
        }
    }

    pub(super) fn array<const N: usize>(self) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| {
            let problem = format!("a byte string of {} bytes, expected {N}", bytes.len());
            InvalidField::new(self.name, problem).into()
        })
    }

    pub(super) fn id(self) -> Result<RecordId, DecodeError> {
        self.array().map(RecordId)
    }

    pub(super) fn str(self) -> Result<&'a str, DecodeError> {
        match self.item {
            Item::Text(text) => Ok(text),
            _ => Err(self.wrong_type("a text").into()),
        }
    }

    pub(super) fn text(self) -> Result<Arc<str>, DecodeError> {
        self.str().map(Arc::from)
    }

    /// A checked text; its own error names the type, so the name of this field takes its place.
    pub(super) fn parsed<T>(
        self,
        parse: fn(&str) -> Result<T, InvalidField>,
    ) -> Result<T, DecodeError> {
        parse(self.str()?).map_err(|invalid| InvalidField { field: self.name, ..invalid }.into())
    }

    pub(super) fn named<T>(self, parse: fn(&str) -> Option<T>) -> Result<T, DecodeError> {
        let name = self.str()?;
        parse(name).ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            InvalidField::new(self.name, format!("{shown:?} is not one of its names")).into()
        })
    }

    pub(super) fn source_key(self) -> Result<SourceKey, DecodeError> {
        match self.item {
            Item::Bytes(_) => Ok(SourceKey::Evidence(Hash(self.array()?))),
            Item::Text(uri) => Ok(SourceKey::Uri(uri.into())),
            _ => Err(self.wrong_type("a hash or a URI").into()),
        }
    }

    pub(super) fn list<T>(
        self,
        max: usize,
        read: fn(Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let Item::List(count, mut items) = self.item else {
            return Err(self.wrong_type("a list").into());
        };
        if count == 0 {
            return Err(InvalidField::new(self.name, "is empty; leave it out").into());
        }
        if count > max {
            let problem = format!("{count} items, expected at most {max}");
            return Err(InvalidField::new(self.name, problem).into());
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(Self { name: self.name, item: items.item(DEPTH)? })?);
        }
        Ok(list)
    }
}

/// A key and its value.
pub(super) type Slot<'a> = (&'a str, Item<'a>);

/// Room for the fields of one map. The caller keeps it: fields are looked at, not moved about.
pub(super) fn slots<'a, const N: usize>() -> [Slot<'a>; N] {
    [("", Item::Boolean(false)); N]
}

/// No map of known fields has more; the largest kind, an assertion, has nineteen.
pub(super) const FIELDS_MAX: usize = 23;

/// The fields of one map, in key order, and how far they were taken.
pub(super) struct Fields<'s, 'a> {
    /// Name of the field that holds this map; empty for the record itself.
    within: &'static str,
    all: &'s [Slot<'a>],
    next: usize,
    /// Bit n: field n was found by name already, out of turn.
    found: u32,
}

impl<'s, 'a> Fields<'s, 'a> {
    /// The fields of a record: of a map that is all there is.
    pub(super) fn of_record(
        slots: &'s mut [Slot<'a>],
        bytes: &'a [u8],
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let Some(count) = reader.enter_map()? else {
            let item = reader.item(DEPTH)?;
            return Err(Field { name: "record", item }.wrong_type("a map").into());
        };
        let fields = Self::fill(slots, "", count, &mut reader)?;
        reader.end()?;
        Ok(fields)
    }

    /// The fields of a map inside a record.
    pub(super) fn split(slots: &'s mut [Slot<'a>], field: Field<'a>) -> Result<Self, DecodeError> {
        match field.item {
            Item::Map(count, mut reader) => Self::fill(slots, field.name, count, &mut reader),
            _ => Err(field.wrong_type("a map").into()),
        }
    }

    fn fill(
        slots: &'s mut [Slot<'a>],
        within: &'static str,
        count: usize,
        reader: &mut Reader<'a>,
    ) -> Result<Self, DecodeError> {
        let name = if within.is_empty() { "record" } else { within };
        if count == 0 {
            return Err(InvalidField::new(name, "is empty").into());
        }
        let most = slots.len();
        let Some(slots) = slots.get_mut(..count) else {
            let problem = format!("{count} fields, expected at most {most}");
            return Err(InvalidField::new(name, problem).into());
        };
        let mut last = None;
        for slot in slots.iter_mut() {
            let at = reader.at();
            let key = reader.key()?;
            check_key_order(last, key, at, within)?;
            last = Some(key);
            let item = reader.item(DEPTH).map_err(|Malformed { at, problem }| {
                let field = if within.is_empty() { key } else { within };
                DecodeError::Malformed { at, field: Some(field.to_owned()), problem }
            })?;
            *slot = (key, item);
        }
        Ok(Self { within, all: slots, next: 0, found: 0 })
    }

    /// Finds a field that every kind has, wherever it stands.
    pub(super) fn find_if(&mut self, name: &'static str) -> Option<Field<'a>> {
        let index = self.all.iter().position(|(key, _)| *key == name)?;
        self.found |= 1 << index;
        self.all.get(index).map(|(_, item)| Field { name, item: *item })
    }

    pub(super) fn find(&mut self, name: &'static str) -> Result<Field<'a>, DecodeError> {
        self.find_if(name).ok_or_else(|| missing(name).into())
    }

    /// The next field that was not found by name.
    fn peek(&mut self) -> Option<(&'a str, Item<'a>)> {
        while self.found >> self.next & 1 == 1 {
            self.next += 1;
        }
        self.all.get(self.next).copied()
    }

    /// Takes a field, called `path` in errors. Fields are taken in key order.
    pub(super) fn take_as(
        &mut self,
        key: &'static str,
        path: &'static str,
    ) -> Result<Option<Field<'a>>, DecodeError> {
        match self.peek() {
            Some((found, item)) if found == key => {
                self.next += 1;
                Ok(Some(Field { name: path, item }))
            }
            // Nobody asked for it, and nobody will: the fields asked for are in order as well.
            Some((found, _)) if cbor::key_order(found, key).is_lt() => Err(self.unknown(found)),
            _ => Ok(None),
        }
    }

    pub(super) fn need_as(
        &mut self,
        key: &'static str,
        path: &'static str,
    ) -> Result<Field<'a>, DecodeError> {
        self.take_as(key, path)?.ok_or_else(|| missing(path).into())
    }

    pub(super) fn take(&mut self, name: &'static str) -> Result<Option<Field<'a>>, DecodeError> {
        self.take_as(name, name)
    }

    pub(super) fn need(&mut self, name: &'static str) -> Result<Field<'a>, DecodeError> {
        self.need_as(name, name)
    }

    /// A list, empty when the field is absent.
    pub(super) fn list_if<T>(
        &mut self,
        name: &'static str,
        max: usize,
        read: fn(Field<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.take(name)?.map_or_else(|| Ok(Vec::new()), |field| field.list(max, read))
    }

    /// Refuses what was not taken.
    pub(super) fn end(mut self) -> Result<(), DecodeError> {
        match self.peek() {
            Some((found, _)) => Err(self.unknown(found)),
            None => Ok(()),
        }
    }

    fn unknown(&self, key: &str) -> DecodeError {
        let key: String = key.chars().take(40).collect();
        let field = if self.within.is_empty() { key } else { format!("{}.{key}", self.within) };
        DecodeError::UnknownField { field }
    }
}
