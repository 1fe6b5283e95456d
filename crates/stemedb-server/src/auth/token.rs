//! The text of an API key: `stk_<id>_<secret>`, the id 16 and the secret 48 hex digits.
//!
//! The id is no secret: it finds the entry. The secret is 192 random bits, so a plain fast hash of
//! it is as good as a slow one: there is nothing to guess. The prefix is for secret scanners.

use std::fmt;

use stemedb_io::Rng;
use stemedb_model::Hash;

/// How every API key begins.
pub(super) const PREFIX: &str = "stk_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 24;
/// Keeps these hashes apart from every other use of the hash function.
const CONTEXT: &str = "stemedb 2026-11-29 api key secret";

/// An API key as its holder has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: [u8; ID_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// A new one; of a key that there is already, with its id.
    pub(super) fn generate(rng: &dyn Rng, id: Option<[u8; ID_BYTES]>) -> Self {
        let mut token = Self { id: [0; ID_BYTES], secret: [0; SECRET_BYTES] };
        rng.fill(&mut token.id);
        rng.fill(&mut token.secret);
        token.id = id.unwrap_or(token.id);
        token
    }

    /// Reads one; `None` if it is none. There is one way to write a key.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut token = Self { id: [0; ID_BYTES], secret: [0; SECRET_BYTES] };
        hex::decode_to_slice(id, &mut token.id).ok()?;
        hex::decode_to_slice(secret, &mut token.secret).ok()?;
        Some(token)
    }

    /// What names the key.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// What is stored in place of the secret.
    pub(super) fn hash(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.id).update(&self.secret);
        Hash(*hasher.finalize().as_bytes())
    }

    /// The text for its holder.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", hex::encode(self.id), hex::encode(self.secret))
    }
}

/// Never the secret: logs are read by others.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_…", hex::encode(self.id))
    }
}

/// The bytes of an id.
pub(super) fn id_bytes(id: &str) -> Option<[u8; ID_BYTES]> {
    let mut bytes = [0; ID_BYTES];
    hex::decode_to_slice(id, &mut bytes).ok()?;
    Some(bytes)
}

/// Whether a text holds something of the form of an API key.
pub(crate) fn contains_token(text: &str) -> bool {
    let length = PREFIX.len() + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES;
    text.match_indices(PREFIX)
        .filter_map(|(at, _)| text.get(at..at.checked_add(length)?))
        .any(|part| Token::parse(part).is_some())
}

#[cfg(test)]
mod tests {
    use stemedb_io::RealRng;

    use super::*;

    #[test]
    fn a_key_has_one_text_and_tells_no_secret() {
        let token = Token::generate(&RealRng, None);
        let text = token.reveal();
        assert_eq!(Token::parse(&text).as_ref(), Some(&token));
        assert_eq!(text.len(), 69);
        assert!(text.starts_with(PREFIX) && text.contains(&token.id()));
        let shown = format!("{token:?}");
        assert!(shown.contains(&token.id()) && !text.contains(&shown), "{shown}");
        assert!(!shown.contains(&text[text.len() - 48..]));
        for wrong in [
            "",
            "stk_",
            &text.to_uppercase(),
            &text.replace("stk_", "stl_"),
            &text[..68],
            &format!("{text}0"),
            &format!(" {text}"),
        ] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
        assert!(contains_token(&format!("x=1&y=stk_{text}")));
        assert!(!contains_token(&text[..68]) && !contains_token("subject=stk_1"));
    }

    #[test]
    fn two_keys_are_two_and_a_rotated_one_keeps_its_id() {
        let one = Token::generate(&RealRng, None);
        let other = Token::generate(&RealRng, None);
        assert_ne!(one.id(), other.id());
        let rotated = Token::generate(&RealRng, id_bytes(&one.id()));
        assert_eq!(rotated.id(), one.id());
        assert_ne!(rotated.hash(), one.hash());
        assert_eq!(Token::parse(&one.reveal()).unwrap().hash(), one.hash());
    }
}
