//! The few CBOR items that canonical forms are made of, and nothing else.
//!
//! Writing cannot fail: unsigned and negative integers in their shortest form, byte strings, texts,
//! lists and maps of known length, booleans, 64-bit floats. Reading refuses every other encoding:
//! longer integers and lengths, indefinite lengths, tags, null, shorter floats, NaN, infinities,
//! -0, text that is not UTF-8. CBOR libraries accept those, so a strict reader would have to look
//! at each head byte again anyway; that is why there is none underneath.
//!
//! The order of map keys is the caller's: length first, then byte by byte ([`key_order`]).

use std::cmp::Ordering;

/// The order of map keys in DAG-CBOR: shorter first, then byte by byte.
pub fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const FLOAT64: u8 = 0xfb;

fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match (argument, bytes) {
        (0..=23, [.., a]) => out.push(major | a),
        (24..=0xff, [.., a]) => out.extend_from_slice(&[major | 24, a]),
        (0x100..=0xffff, [.., a, b]) => out.extend_from_slice(&[major | 25, a, b]),
        (0x1_0000..=0xffff_ffff, [.., a, b, c, d]) => {
            out.extend_from_slice(&[major | 26, a, b, c, d]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends an unsigned integer.
pub fn uint(out: &mut Vec<u8>, value: u64) {
    head(out, UNSIGNED, value);
}

/// Appends a signed integer.
pub fn int(out: &mut Vec<u8>, value: i64) {
    // CBOR stores -1 - n, which in two's complement is the bitwise complement.
    if value < 0 { head(out, NEGATIVE, !value.cast_unsigned()) } else { uint(out, value as u64) }
}

/// Appends a byte string.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, BYTES, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a text.
pub fn text(out: &mut Vec<u8>, value: &str) {
    head(out, TEXT, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// Appends a 64-bit float; -0 becomes 0. The value must be finite: there is no canonical form of
/// anything else, and readers refuse it.
pub fn float(out: &mut Vec<u8>, value: f64) {
    out.push(FLOAT64);
    out.extend_from_slice(&float_bits(value).to_be_bytes());
}

/// The bits of a float in canonical form.
pub(crate) fn float_bits(value: f64) -> u64 {
    if value == 0.0 { 0 } else { value.to_bits() }
}

/// Appends true or false.
pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

/// Begins a list; exactly `count` items must follow.
pub fn list(out: &mut Vec<u8>, count: usize) {
    head(out, LIST, count as u64);
}

/// Begins a map; exactly `count` keys must follow, in [`key_order`], each with its value.
pub fn map(out: &mut Vec<u8>, count: usize) {
    head(out, MAP, count as u64);
}

/// Where and why bytes are not canonical CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub struct Malformed {
    /// Offset of the offending byte in the whole input.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// One item. Lists and maps hold a reader over their content, already checked to be well-formed.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// An unsigned integer.
    Uint(u64),
    /// The integer -1 - n.
    Negative(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text.
    Text(&'a str),
    /// So many items.
    List(usize, Reader<'a>),
    /// So many pairs. The order of keys is *not* checked yet.
    Map(usize, Reader<'a>),
    /// True or false.
    Boolean(bool),
    /// A finite float, not -0.
    Float(f64),
}

impl Item<'_> {
    /// What the item is, in words.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Uint(_) => "an unsigned integer",
            Self::Negative(_) => "a negative integer",
            Self::Bytes(_) => "a byte string",
            Self::Text(_) => "a text",
            Self::List(..) => "a list",
            Self::Map(..) => "a map",
            Self::Boolean(_) => "a boolean",
            Self::Float(_) => "a float",
        }
    }
}

/// Reads items from a slice. Never allocates; recursion is bounded by the depth asked for.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Over all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Refuses bytes that are left over.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.at < self.bytes.len() {
            return Err(self.malformed("bytes after the end"));
        }
        Ok(())
    }

    /// The next item with everything inside it; `depth` is how many containers may nest.
    pub fn item(&mut self, depth: usize) -> Result<Item<'a>, Malformed> {
        let start = *self;
        let [first] = self.array::<1>()?;
        let (major, info) = (first >> 5, first & 31);
        if major == TAG {
            return Err(start.malformed("a tag; no tag is used in canonical form"));
        }
        if major > TAG {
            return self.simple(start, first);
        }
        let argument = self.argument(start, info)?;
        match major {
            UNSIGNED => Ok(Item::Uint(argument)),
            NEGATIVE => Ok(Item::Negative(argument)),
            BYTES => Ok(Item::Bytes(self.slice(argument)?)),
            TEXT => {
                let text = std::str::from_utf8(self.slice(argument)?);
                Ok(Item::Text(text.map_err(|_| start.malformed("text that is not UTF-8"))?))
            }
            _ => self.container(start, major, argument, depth),
        }
    }

    /// The next item, which must be a text: a map key.
    pub fn key(&mut self) -> Result<&'a str, Malformed> {
        let start = *self;
        match self.item(0)? {
            Item::Text(text) => Ok(text),
            _ => Err(start.malformed("a map key that is not a text")),
        }
    }

    /// Enters the map that comes next and gives its number of pairs; `None`: it is not a map, and
    /// nothing was read. The pairs follow, each a [`Reader::key`] and an [`Reader::item`].
    pub fn enter_map(&mut self) -> Result<Option<usize>, Malformed> {
        let start = *self;
        let [first] = self.array::<1>()?;
        if first >> 5 != MAP {
            *self = start;
            return Ok(None);
        }
        let argument = self.argument(start, first & 31)?;
        self.count(start, argument).map(Some)
    }

    fn container(
        &mut self,
        start: Self,
        major: u8,
        argument: u64,
        depth: usize,
    ) -> Result<Item<'a>, Malformed> {
        let depth =
            depth.checked_sub(1).ok_or_else(|| start.malformed("a list or map inside too many"))?;
        // Each item takes a byte at least, so a larger count is a lie; it also ends the loop below.
        let count = usize::try_from(argument)
            .ok()
            .filter(|count| *count <= self.bytes.len().saturating_sub(self.at))
            .ok_or_else(|| {
                start.malformed("a list or map that says it is longer than the input")
            })?;
        let body = *self;
        for _ in 0..count {
            if major == MAP {
                self.key()?;
            }
            self.item(depth)?;
        }
        Ok(if major == MAP { Item::Map(count, body) } else { Item::List(count, body) })
    }

    /// A count of items. Each takes a byte at least, so a larger one is a lie.
    fn count(&self, start: Self, argument: u64) -> Result<usize, Malformed> {
        usize::try_from(argument)
            .ok()
            .filter(|count| *count <= self.bytes.len().saturating_sub(self.at))
            .ok_or_else(|| start.malformed("a list or map that says it is longer than the input"))
    }

    fn simple(&mut self, start: Self, first: u8) -> Result<Item<'a>, Malformed> {
        let problem = match first {
            FALSE => return Ok(Item::Boolean(false)),
            TRUE => return Ok(Item::Boolean(true)),
            FLOAT64 => {
                let value = f64::from_be_bytes(self.array()?);
                if !value.is_finite() {
                    "a number that is NaN or infinite"
                } else if value == 0.0 && value.is_sign_negative() {
                    "-0; zero is written without a sign"
                } else {
                    return Ok(Item::Float(value));
                }
            }
            0xf6 | 0xf7 => "null or undefined; absent fields are left out",
            0xf9 | 0xfa => "a float shorter than 64 bits",
            0xff => "the end of an indefinite length",
            _ => "a simple value other than true and false",
        };
        Err(start.malformed(problem))
    }

    fn argument(&mut self, start: Self, info: u8) -> Result<u64, Malformed> {
        let (argument, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (u64::from(u8::from_be_bytes(self.array()?)), 24),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 0x1_0000),
            27 => (u64::from_be_bytes(self.array()?), 0x1_0000_0000),
            31 => return Err(start.malformed("an indefinite length")),
            _ => return Err(start.malformed("a reserved head byte")),
        };
        if argument < least {
            return Err(start.malformed("an integer or length that is not in its shortest form"));
        }
        Ok(argument)
    }

    fn slice(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        match end.and_then(|end| self.bytes.get(self.at..end).map(|slice| (slice, end))) {
            Some((slice, end)) => {
                self.at = end;
                Ok(slice)
            }
            None => Err(self.malformed("the input ends inside an item")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.malformed("the input ends inside an item")),
        }
    }

    fn malformed(&self, problem: &'static str) -> Malformed {
        Malformed { at: self.at, problem }
    }
}
