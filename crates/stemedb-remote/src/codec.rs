//! Signed CBOR: the canonical items of records (`stemedb_model::cbor`) in maps whose fields are
//! known, and around them a signature by a node's key.
//!
//! ```text
//! { "key": public key, "body": bytes of a map, "signature": over the body }
//! ```
//!
//! Signed is the id `BLAKE3(domain 00 ‖ body)` as the id of a record is; no record has such an id.

use std::collections::BTreeSet;

use stemedb_model::cbor::{self, Item, Malformed, Reader};
use stemedb_model::{AgentId, Hash, RecordId, Signature, SigningKey, verify_signature};

use crate::error::RemoteError;

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// They are not what they were when they were signed, or never were one.
    #[error("{0}")]
    Damaged(String),
    /// A newer build made it.
    #[error("{0}; use a newer build")]
    TooNew(String),
}

impl From<Malformed> for BadManifest {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed.to_string())
    }
}

/// Signs `body`.
pub(crate) fn seal(domain: &str, body: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature = key.sign(&id(domain, body));
    let mut out = Vec::with_capacity(body.len() + 128);
    cbor::map(&mut out, 3);
    cbor::text(&mut out, "key");
    cbor::bytes(&mut out, key.agent_id().as_bytes());
    cbor::text(&mut out, "body");
    cbor::bytes(&mut out, body);
    cbor::text(&mut out, "signature");
    cbor::bytes(&mut out, signature.as_bytes());
    out
}

/// The body, and whose signature over it verifies.
pub(crate) fn open<'a>(domain: &str, bytes: &'a [u8]) -> Result<(&'a [u8], AgentId), BadManifest> {
    let mut fields = Fields::new(bytes)?;
    let key = AgentId(fields.array("key")?);
    let body = fields.bytes("body")?;
    let signature = Signature(fields.array("signature")?);
    fields.end()?;
    verify_signature(key, &id(domain, body), &signature)
        .map_err(|error| BadManifest::Damaged(error.to_string()))?;
    Ok((body, key))
}

/// Refuses what others than `believed` have signed, and names them. A signature alone proves only that
/// somebody signed: who may put objects can put some with a key of his own.
pub fn believe<'a>(
    place: &str,
    signers: impl IntoIterator<Item = &'a AgentId>,
    believed: &[AgentId],
) -> Result<(), RemoteError> {
    let unknown: BTreeSet<&AgentId> =
        signers.into_iter().filter(|signer| !believed.contains(signer)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let signers = unknown.into_iter().copied().collect();
    Err(RemoteError::Unknown { place: place.to_owned(), signers })
}

fn id(domain: &str, body: &[u8]) -> RecordId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain.as_bytes()).update(&[0]).update(body);
    RecordId(*hasher.finalize().as_bytes())
}

/// BLAKE3 of an object.
pub(crate) fn hash(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

/// Writes a map: fields in any order, put into the canonical one at the end.
#[derive(Default)]
pub(crate) struct MapWriter(Vec<(&'static str, Vec<u8>)>);

impl MapWriter {
    fn put(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let mut value = Vec::new();
        write(&mut value);
        self.0.push((name, value));
        self
    }

    pub(crate) fn uint(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.put(name, |out| cbor::uint(out, value))
    }

    pub(crate) fn int(&mut self, name: &'static str, value: i64) -> &mut Self {
        self.put(name, |out| cbor::int(out, value))
    }

    pub(crate) fn bytes(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        self.put(name, |out| cbor::bytes(out, value))
    }

    pub(crate) fn optional_bytes(&mut self, name: &'static str, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.bytes(name, value),
            None => self,
        }
    }

    pub(crate) fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.put(name, |out| cbor::text(out, value))
    }

    pub(crate) fn boolean(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.put(name, |out| cbor::boolean(out, value))
    }

    pub(crate) fn map(&mut self, name: &'static str, value: Vec<u8>) -> &mut Self {
        self.put(name, |out| out.extend_from_slice(&value))
    }

    pub(crate) fn uints(&mut self, name: &'static str, values: &[u64]) -> &mut Self {
        self.put(name, |out| {
            cbor::list(out, values.len());
            values.iter().for_each(|value| cbor::uint(out, *value));
        })
    }

    pub(crate) fn list(&mut self, name: &'static str, items: Vec<Vec<u8>>) -> &mut Self {
        self.put(name, |out| {
            cbor::list(out, items.len());
            out.extend(items.into_iter().flatten());
        })
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.0.sort_by(|(a, _), (b, _)| cbor::key_order(a, b));
        let mut out = Vec::new();
        cbor::map(&mut out, self.0.len());
        for (name, value) in self.0.drain(..) {
            cbor::text(&mut out, name);
            out.extend_from_slice(&value);
        }
        out
    }
}

/// How deep manifests nest.
const DEPTH: usize = 4;

/// The fields of a map, each to be taken once.
pub(crate) struct Fields<'a>(Vec<(&'a str, Item<'a>)>);

impl<'a> Fields<'a> {
    /// Of bytes that are one map and nothing else.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, BadManifest> {
        let mut reader = Reader::new(bytes);
        let item = reader.item(DEPTH)?;
        reader.end()?;
        Self::of(item)
    }

    /// Of a map within another one.
    pub(crate) fn of(item: Item<'a>) -> Result<Self, BadManifest> {
        let Item::Map(count, mut reader) = item else {
            return Err(BadManifest::Damaged(format!("{} where a map belongs", item.describe())));
        };
        let mut fields: Vec<(&str, Item<'_>)> = Vec::new();
        for _ in 0..count {
            let name = reader.key()?;
            if let Some((before, _)) = fields.last()
                && cbor::key_order(before, name).is_ge()
            {
                return Err(BadManifest::Damaged(format!("{name} is not in its place")));
            }
            fields.push((name, reader.item(DEPTH)?));
        }
        Ok(Self(fields))
    }

    fn take(&mut self, name: &str) -> Option<Item<'a>> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<Item<'a>, BadManifest> {
        self.take(name).ok_or_else(|| BadManifest::Damaged(format!("{name} is not there")))
    }

    pub(crate) fn uint(&mut self, name: &str) -> Result<u64, BadManifest> {
        match self.need(name)? {
            Item::Uint(value) => Ok(value),
            other => Err(wrong(name, &other)),
        }
    }

    pub(crate) fn int(&mut self, name: &str) -> Result<i64, BadManifest> {
        let item = self.need(name)?;
        let value = match item {
            Item::Uint(value) => i64::try_from(value).ok(),
            Item::Negative(value) => i64::try_from(value).ok().map(|value| -1 - value),
            _ => None,
        };
        value.ok_or_else(|| wrong(name, &item))
    }

    pub(crate) fn bytes(&mut self, name: &str) -> Result<&'a [u8], BadManifest> {
        match self.need(name)? {
            Item::Bytes(value) => Ok(value),
            other => Err(wrong(name, &other)),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self, name: &str) -> Result<[u8; N], BadManifest> {
        let bytes = self.bytes(name)?;
        let wrong = || BadManifest::Damaged(format!("{name} has {} bytes, not {N}", bytes.len()));
        bytes.try_into().map_err(|_| wrong())
    }

    pub(crate) fn optional_array<const N: usize>(
        &mut self,
        name: &str,
    ) -> Result<Option<[u8; N]>, BadManifest> {
        if self.0.iter().any(|(known, _)| *known == name) {
            self.array(name).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<&'a str, BadManifest> {
        match self.need(name)? {
            Item::Text(value) => Ok(value),
            other => Err(wrong(name, &other)),
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<bool, BadManifest> {
        match self.need(name)? {
            Item::Boolean(value) => Ok(value),
            other => Err(wrong(name, &other)),
        }
    }

    pub(crate) fn map(&mut self, name: &str) -> Result<Self, BadManifest> {
        Fields::of(self.need(name)?)
    }

    pub(crate) fn uints(&mut self, name: &str) -> Result<Vec<u64>, BadManifest> {
        match self.need(name)? {
            Item::List(count, mut reader) => (0..count)
                .map(|_| match reader.item(DEPTH)? {
                    Item::Uint(value) => Ok(value),
                    other => Err(wrong(name, &other)),
                })
                .collect(),
            other => Err(wrong(name, &other)),
        }
    }

    pub(crate) fn optional_map(&mut self, name: &str) -> Result<Option<Self>, BadManifest> {
        self.take(name).map(Fields::of).transpose()
    }

    /// Reads each item of a list.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(Fields<'a>) -> Result<T, BadManifest>,
    ) -> Result<Vec<T>, BadManifest> {
        match self.need(name)? {
            Item::List(count, mut reader) => {
                (0..count).map(|_| read(Fields::of(reader.item(DEPTH)?)?)).collect()
            }
            other => Err(wrong(name, &other)),
        }
    }

    /// Refuses fields that nobody took: a newer build may have a use for them.
    pub(crate) fn end(self) -> Result<(), BadManifest> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(BadManifest::TooNew(format!("the field {name} is not known to this build")))
            }
        }
    }

    /// The version, which comes before anything else is read.
    pub(crate) fn version(&mut self, supported: u64) -> Result<(), BadManifest> {
        match self.uint("v")? {
            found if found == supported => Ok(()),
            found => {
                Err(BadManifest::TooNew(format!("format {found}, this build reads {supported}")))
            }
        }
    }
}

fn wrong(name: &str, item: &Item<'_>) -> BadManifest {
    BadManifest::Damaged(format!("{name} is {}", item.describe()))
}
