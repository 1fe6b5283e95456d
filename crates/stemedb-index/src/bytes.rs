//! Integers and floats in rows: LEB128, zigzag, little-endian.

/// Row bytes that no writer of this format produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// LEB128: seven bits a byte, low ones first.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A signed number, small ones of either sign short.
pub(crate) fn push_zigzag(out: &mut Vec<u8>, value: i64) {
    push_varint(out, (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
}

/// Reads a row from its start. Every method fails rather than reads past the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub(crate) fn zigzag(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(crate) fn float(&mut self) -> Result<f64, Malformed> {
        self.array().map(f64::from_le_bytes)
    }

    /// A varint length, then as many bytes of UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        std::str::from_utf8(self.bytes(count)?).map_err(|_| Malformed)
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Fails unless everything was read.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 1 << 63, u64::MAX] {
            let mut out = Vec::new();
            push_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!((reader.varint(), reader.end()), (Ok(value), Ok(())), "{value}");
            let cut = out.split_last().map(|(_, head)| Reader::new(head).varint());
            assert_eq!(cut, Some(Err(Malformed)), "{value} cut short");
        }
        for value in [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            push_zigzag(&mut out, value);
            assert_eq!(Reader::new(&out).zigzag(), Ok(value), "{value}");
        }
    }

    #[test]
    fn numbers_past_64_bits_are_malformed() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]);
        assert_eq!(reader.varint(), Err(Malformed));
        assert_eq!(Reader::new(&[0x80; 11]).varint(), Err(Malformed));
    }

    #[test]
    fn texts_do_not_read_past_the_end() {
        assert_eq!(Reader::new(&[3, b'a', b'b']).text(), Err(Malformed));
        assert_eq!(Reader::new(&[1, 0xff]).text(), Err(Malformed));
        assert_eq!(Reader::new(&[2, b'a', b'b']).text(), Ok("ab"));
    }
}
