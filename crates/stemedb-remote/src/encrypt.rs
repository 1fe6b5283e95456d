//! Encryption of parts and of the files of a node. The format is in `docs/format/archive.md`, the
//! reasons in `docs/decisions`.
//!
//! The key of an object is derived from a secret and from what is in the object. So the same content
//! gives the same object, which uploads that broke off and backups rely on, and no nonce is ever used
//! twice with one key: other content has another key.

use std::borrow::Cow;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use stemedb_io::Rng;
use stemedb_log::PartContent;
use stemedb_model::LogId;

use crate::codec::MapWriter;
use crate::error::RemoteError;
use crate::manifest::encode_link;

const MAGIC: &[u8; 8] = b"STEMENC1";
/// Version of encrypted objects: the digit at the end of what they begin with.
pub const ENCRYPTION_FORMAT: u8 = {
    let [.., digit] = *MAGIC;
    digit - b'0'
};
/// What the text of a key begins with, so that a signing key is not taken for one.
const KEY_TEXT: &str = "stemedb-encryption-key-1:";
/// Of the content, before the tag.
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
const ID_BYTES: usize = 16;
const SYNTHETIC_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + ID_BYTES + SYNTHETIC_BYTES;

/// The name of an encryption key: computed from it, and no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; ID_BYTES]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A secret that objects are encrypted with.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    secret: [u8; 32],
    id: KeyId,
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptionKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl EncryptionKey {
    /// A new one.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        Self::from_secret(secret)
    }

    fn from_secret(secret: [u8; 32]) -> Self {
        let mut id = [0; ID_BYTES];
        let derived = blake3::derive_key("stemedb 2026 encryption: id of a key", &secret);
        id.iter_mut().zip(derived).for_each(|(to, from)| *to = from);
        Self { secret, id: KeyId(id) }
    }

    /// Reads what [`text`](Self::text) gives; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut secret = [0; 32];
        hex::decode_to_slice(text.trim().strip_prefix(KEY_TEXT)?, &mut secret).ok()?;
        Some(Self::from_secret(secret))
    }

    /// The key as a file holds it. A secret.
    pub fn text(&self) -> String {
        format!("{KEY_TEXT}{}\n", hex::encode(self.secret))
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What stands for content at its place in a header. Nobody without the key can compute it, so that
    /// it does not tell whether an object holds what somebody guesses.
    fn synthetic(&self, context: &[u8], content: &[u8]) -> [u8; SYNTHETIC_BYTES] {
        let key = blake3::derive_key("stemedb 2026 encryption: what is in an object", &self.secret);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&(context.len() as u64).to_be_bytes()).update(context).update(content);
        *hasher.finalize().as_bytes()
    }

    /// The cipher of one object. Of another context it is another one.
    fn cipher(
        &self,
        synthetic: &[u8],
        context: &[u8],
    ) -> Result<LessSafeKey, ring::error::Unspecified> {
        let key = blake3::derive_key("stemedb 2026 encryption: keys of objects", &self.secret);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(synthetic).update(context);
        UnboundKey::new(&CHACHA20_POLY1305, hasher.finalize().as_bytes()).map(LessSafeKey::new)
    }

    fn seal(&self, context: &[u8], content: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let chunks = content.len().div_ceil(CHUNK_BYTES).max(1);
        let mut object =
            Vec::with_capacity(HEADER_BYTES + content.len() + chunks.saturating_mul(TAG_BYTES));
        let synthetic = self.synthetic(context, content);
        object.extend_from_slice(MAGIC);
        object.extend_from_slice(&self.id.0);
        object.extend_from_slice(&synthetic);
        let header = object.clone();
        let cipher = self.cipher(&synthetic, context)?;
        for number in 0..chunks {
            let from = number * CHUNK_BYTES;
            let to = content.len().min(from + CHUNK_BYTES);
            let at = object.len();
            object.extend_from_slice(content.get(from..to).unwrap_or_default());
            let nonce = nonce(number, number + 1 == chunks)?;
            let chunk = object.get_mut(at..).unwrap_or_default();
            let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(&header), chunk)?;
            object.extend_from_slice(tag.as_ref());
        }
        Ok(object)
    }

    /// The content, in the memory of the object. `None` if it is not what was sealed for this context.
    fn open(&self, context: &[u8], mut object: Vec<u8>) -> Option<Vec<u8>> {
        let header: [u8; HEADER_BYTES] = *object.first_chunk()?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (id, synthetic) = rest.split_at(ID_BYTES);
        if magic != MAGIC || id != self.id.0 {
            return None;
        }
        let cipher = self.cipher(synthetic, context).ok()?;
        let chunks = (object.len() - HEADER_BYTES).div_ceil(CHUNK_BYTES + TAG_BYTES);
        let (mut from, mut done) = (HEADER_BYTES, 0);
        for number in 0..chunks {
            let end = object.len().min(from + CHUNK_BYTES + TAG_BYTES);
            let nonce = nonce(number, number + 1 == chunks).ok()?;
            let chunk = object.get_mut(from..end)?;
            let length = cipher.open_in_place(nonce, Aad::from(&header), chunk).ok()?.len();
            object.copy_within(from..from + length, done);
            done += length;
            from = end;
        }
        object.truncate(done);
        (chunks > 0).then_some(object)
    }
}

/// Of a chunk. The last one says that it is: a shortened object does not open.
fn nonce(number: usize, last: bool) -> Result<Nonce, ring::error::Unspecified> {
    let number = u32::try_from(number).map_err(|_| ring::error::Unspecified)?;
    let mut nonce = [0; NONCE_LEN];
    let bytes = number.to_be_bytes().into_iter().chain([u8::from(last)]);
    nonce.iter_mut().rev().zip(bytes.rev()).for_each(|(to, from)| *to = from);
    Ok(Nonce::assume_unique_for_key(nonce))
}

/// The keys that a node has: what it writes is encrypted with the first one, what it reads with any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncryptionKeys(Vec<EncryptionKey>);

static NONE: EncryptionKeys = EncryptionKeys(Vec::new());

impl EncryptionKeys {
    /// These, the one to write with first.
    pub fn new(keys: Vec<EncryptionKey>) -> Self {
        Self(keys)
    }

    /// No keys: what is written is in the clear.
    pub fn none() -> &'static Self {
        &NONE
    }

    /// What new objects are encrypted with.
    pub fn writes_with(&self) -> Option<KeyId> {
        self.0.first().map(EncryptionKey::id)
    }

    /// Their names.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.0.iter().map(EncryptionKey::id)
    }

    /// Whether objects of this key can be read.
    pub fn has(&self, id: KeyId) -> bool {
        self.ids().any(|one| one == id)
    }

    /// Refuses objects, by name and key, that these keys do not open.
    pub(crate) fn need<'a>(
        &self,
        objects: impl IntoIterator<Item = (&'a str, Option<KeyId>)>,
    ) -> Result<(), RemoteError> {
        objects.into_iter().try_for_each(|(name, id)| match id {
            Some(id) => self.of(name, id).map(|_| ()),
            None => Ok(()),
        })
    }

    fn of(&self, name: &str, id: KeyId) -> Result<&EncryptionKey, RemoteError> {
        self.0.iter().find(|key| key.id == id).ok_or_else(|| {
            let here: Vec<String> = self.ids().map(|id| id.to_string()).collect();
            let here = match here.as_slice() {
                [] => "no key is here".to_owned(),
                here => format!("here is {}", here.join(" and ")),
            };
            RemoteError::Key { name: name.into(), key_id: id, here }
        })
    }

    /// What is put for `content`, and the key that it is encrypted with.
    pub(crate) fn seal<'a>(
        &self,
        context: &Context,
        content: &'a [u8],
    ) -> Result<(Cow<'a, [u8]>, Option<KeyId>), RemoteError> {
        let Some(key) = self.0.first() else { return Ok((Cow::Borrowed(content), None)) };
        Ok((Cow::Owned(sealed(key, context, content)?), Some(key.id)))
    }

    /// What was put for `content`, if its manifest says that it is encrypted with this key.
    pub(crate) fn seal_with<'a>(
        &self,
        name: &str,
        key_id: Option<KeyId>,
        context: &Context,
        content: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, RemoteError> {
        let Some(id) = key_id else { return Ok(Cow::Borrowed(content)) };
        sealed(self.of(name, id)?, context, content).map(Cow::Owned)
    }

    /// The content of an object, of which its manifest says that it is encrypted with this key.
    pub(crate) fn open(
        &self,
        name: &str,
        key_id: Option<KeyId>,
        context: &Context,
        object: Vec<u8>,
    ) -> Result<Vec<u8>, RemoteError> {
        let Some(id) = key_id else { return Ok(object) };
        let opened = self.of(name, id)?.open(&context.0, object);
        opened.ok_or_else(|| RemoteError::Damaged {
            name: name.into(),
            problem: format!("key {id} does not open it: it is another object, or was put wrong"),
        })
    }
}

fn sealed(key: &EncryptionKey, context: &Context, content: &[u8]) -> Result<Vec<u8>, RemoteError> {
    key.seal(&context.0, content).map_err(|_| {
        RemoteError::Refused(format!("{} bytes are too long to be encrypted", content.len()))
    })
}

/// What an object is. It does not open in the place of another.
pub(crate) struct Context(Vec<u8>);

impl Context {
    /// A part of a log.
    pub(crate) fn part(content: &PartContent) -> Self {
        Self(
            MapWriter::default()
                .text("kind", "part")
                .bytes("log_id", &content.log_id.0)
                .bytes("timeline", &content.timeline.0)
                .uint("segment", content.segment)
                .uint("salt", content.salt)
                .map("start", encode_link(&content.start))
                .map("end", encode_link(&content.end))
                .finish(),
        )
    }

    /// A file of a node.
    pub(crate) fn file(log_id: LogId, path: &str) -> Self {
        Self(
            MapWriter::default()
                .text("kind", "file")
                .bytes("log_id", &log_id.0)
                .text("path", path)
                .finish(),
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use stemedb_io::sim::SimRng;

    use super::*;

    fn key(seed: u64) -> EncryptionKey {
        EncryptionKey::generate(&SimRng::new(seed))
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n * 7 % 251) as u8).collect()
    }

    #[test]
    fn what_is_sealed_opens_and_is_the_same_every_time() {
        let context = Context::file(LogId([1; 16]), "root.key");
        let lengths = [0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES];
        for bytes in lengths {
            let content = content(bytes);
            let sealed = key(1).seal(&context.0, &content).unwrap();
            let chunks = bytes.div_ceil(CHUNK_BYTES).max(1);
            assert_eq!(sealed.len(), HEADER_BYTES + bytes + chunks * TAG_BYTES);
            assert_eq!(key(1).seal(&context.0, &content).unwrap(), sealed);
            assert_eq!(key(1).open(&context.0, sealed.clone()).unwrap(), content);
            if bytes >= 100 {
                // Nothing of the content shows, nor where two objects begin alike.
                assert!(!sealed.windows(8).any(|window| content.starts_with(window)));
                let mut other = content.clone();
                other[bytes - 1] ^= 1;
                let other = key(1).seal(&context.0, &other).unwrap();
                let alike = sealed.iter().zip(&other).skip(24).filter(|(a, b)| a == b).count();
                assert!(alike < sealed.len() / 50, "{alike} of {}", sealed.len());
            }
        }
    }

    #[test]
    fn nothing_else_opens() {
        let (ours, theirs) =
            (Context::file(LogId([1; 16]), "a"), Context::file(LogId([1; 16]), "b"));
        let content = content(2 * CHUNK_BYTES + 5);
        let sealed = key(1).seal(&ours.0, &content).unwrap();
        assert!(key(1).open(&theirs.0, sealed.clone()).is_none(), "in the place of another");
        assert!(key(2).open(&ours.0, sealed.clone()).is_none(), "with another key");
        let end = sealed.len();
        for at in (0..200).chain((200..end).step_by(997)).chain([end - 1]) {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(key(1).open(&ours.0, flipped).is_none(), "byte {at}");
        }
        let chunk = CHUNK_BYTES + TAG_BYTES;
        for cut in [0, 1, HEADER_BYTES, HEADER_BYTES + chunk, HEADER_BYTES + 2 * chunk, end - 1] {
            assert!(key(1).open(&ours.0, sealed[..cut].to_vec()).is_none(), "{cut} bytes");
        }
        let mut swapped = sealed.clone();
        let (first, second) = swapped[HEADER_BYTES..HEADER_BYTES + 2 * chunk].split_at_mut(chunk);
        first.swap_with_slice(second);
        assert!(key(1).open(&ours.0, swapped).is_none(), "chunks in another order");
    }

    #[test]
    fn a_key_survives_its_text_and_no_other_text_is_one() {
        let ours = key(3);
        assert_eq!(EncryptionKey::parse(&ours.text()), Some(ours.clone()));
        assert!(!format!("{ours:?}").contains(&hex::encode(ours.secret)));
        for text in ["", &"0".repeat(64), &ours.text()[..80], "stemedb-encryption-key-2:00"] {
            assert_eq!(EncryptionKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_here_is_named() {
        let object = [("some/object", Some(key(1).id()))];
        let problem = |keys: &EncryptionKeys| keys.need(object).unwrap_err().to_string();
        let text = problem(EncryptionKeys::none());
        assert!(
            text.contains(&key(1).id().to_string()) && text.contains("no key is here"),
            "{text}"
        );
        let text = problem(&EncryptionKeys::new(vec![key(2)]));
        assert!(text.contains("some/object") && text.contains(&key(2).id().to_string()), "{text}");
        EncryptionKeys::new(vec![key(2), key(1)]).need(object).unwrap();
    }
}
