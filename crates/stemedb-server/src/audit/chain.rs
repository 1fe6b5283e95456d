//! One line: JSON whose first field is the hash of the line before and of the rest of this one.

use serde::Serialize;
use stemedb_model::Hash;

const DOMAIN: &[u8] = b"stemedb/v1/audit\0";
/// How every line begins.
pub(crate) const START: &[u8] = b"{\"chain\":\"";
const DIGITS: usize = 2 * Hash::LEN;
const MIDDLE: &[u8] = b"\",";

/// Bytes of a line in front of what its hash is of.
pub(crate) const CHAIN_BYTES: usize = START.len() + DIGITS + MIDDLE.len();

/// What the first file begins from.
pub(crate) const ORIGIN: Hash = Hash([0; Hash::LEN]);

/// The hash of a line: over the one before, and everything behind its own `chain` field.
pub(crate) fn link(before: &Hash, rest: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN).update(before.as_bytes()).update(rest);
    Hash(*hasher.finalize().as_bytes())
}

/// Writes a line, its end included. The first field of `content` must be `chain`; what it says is
/// replaced.
pub(crate) fn seal(
    out: &mut Vec<u8>,
    before: &Hash,
    content: &impl Serialize,
) -> Result<Hash, serde_json::Error> {
    let begin = out.len();
    serde_json::to_writer(&mut *out, content)?;
    let line = out.get_mut(begin..).unwrap_or_default();
    let Some((chain, rest)) = line.split_at_mut_checked(CHAIN_BYTES) else {
        return Err(serde::ser::Error::custom("a line without the field chain"));
    };
    let hash = link(before, rest);
    let digits = hex::encode(hash.as_bytes());
    for (to, from) in chain.iter_mut().skip(START.len()).zip(digits.bytes()) {
        *to = from;
    }
    out.push(b'\n');
    Ok(hash)
}

/// A line without its end: the hash it states, and what that is over. `None` if it has no such form.
pub(crate) fn open(line: &[u8]) -> Option<(Hash, &[u8])> {
    let rest = line.strip_prefix(START)?;
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    let mut hash = [0; Hash::LEN];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    // Only one way to write a hash, or a changed letter would go unnoticed.
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    Some((Hash(hash), rest.strip_prefix(MIDDLE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Line {
        chain: &'static str,
        n: u64,
    }

    #[test]
    fn a_line_states_its_hash_and_every_changed_byte_shows() {
        let chain = "0000000000000000000000000000000000000000000000000000000000000000";
        let mut out = Vec::new();
        let first = seal(&mut out, &ORIGIN, &Line { chain, n: 1 }).unwrap();
        let second = seal(&mut out, &first, &Line { chain, n: 2 }).unwrap();
        let lines: Vec<&[u8]> = out.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 2);
        let line = lines[1].strip_suffix(b"\n").unwrap();
        let (stated, rest) = open(line).unwrap();
        assert_eq!((stated, rest), (second, &b"\"n\":2}"[..]));
        assert_eq!(link(&first, rest), second);
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut changed = line.to_vec();
                changed[at] ^= 1 << bit;
                let fine =
                    open(&changed).is_some_and(|(stated, rest)| link(&first, rest) == stated);
                assert!(!fine, "byte {at}, bit {bit}");
            }
        }
    }
}
