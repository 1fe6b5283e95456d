//! An entry as bytes: a head, then the body. Little-endian.
//!
//! | offset | bytes | field         | meaning                                                 |
//! |-------:|------:|---------------|---------------------------------------------------------|
//! |      0 |     4 | `body_len`    | bytes of body                                           |
//! |      4 |     2 | `flags`       | bit 0 custodial, bit 1 idempotency hash; others too new |
//! |      6 |     1 | `principal_len` | 1 to 64                                               |
//! |      7 |     1 | zero          |                                                         |
//! |      8 |     8 | `position`    |                                                         |
//! |     16 |     8 | `registry`    | position of the registry state that decided its rights  |
//! |     24 |     8 | `recorded_at` | milliseconds, signed                                    |
//! |     32 |    32 | `id`          | id of the record                                        |
//! |     64 |    64 | `signature`   | over the id                                             |
//! |    128 |     n | `principal`   | text                                                    |
//! |  128+n |  0/32 | `idempotency` | only with flag bit 1                                    |
//! |        |     m | `body`        | canonical bytes of the record                           |

use std::sync::Arc;

use stemedb_model::{Hash, Millis, Position, Principal, RecordId, Signature};

use crate::entry::{Entry, NewEntry};

/// Bytes of a head before the principal.
pub(crate) const FIXED_BYTES: usize = 128;

const CUSTODIAL: u16 = 1;
const IDEMPOTENCY: u16 = 2;

/// Why bytes are not a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// A flag that this build does not know.
    TooNew(u16),
    /// Anything else, in words.
    Malformed(&'static str),
}

/// A head without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) body_len: u32,
    pub(crate) custodial: bool,
    pub(crate) position: Position,
    pub(crate) registry: Position,
    pub(crate) recorded_at: Millis,
    pub(crate) id: RecordId,
    pub(crate) signature: Signature,
    pub(crate) principal: Principal,
    pub(crate) idempotency: Option<Hash>,
}

impl NewEntry {
    /// Bytes that this entry takes in a group; the group's bytes are the sum of its entries'.
    pub fn encoded_len(&self) -> usize {
        FIXED_BYTES
            + self.principal.as_str().len()
            + self.idempotency.map_or(0, |_| Hash::LEN)
            + self.body.len()
    }
}

/// Replaces `out` with the head of `new` at `position`. The body must be shorter than 4 GiB,
/// which the bound on a group guarantees.
pub(crate) fn encode_head(
    new: &NewEntry,
    position: Position,
    registry: Position,
    recorded_at: Millis,
    out: &mut Vec<u8>,
) {
    let fields = HeadFields {
        body_len: new.body.len() as u32,
        custodial: new.custodial,
        position,
        registry,
        recorded_at,
        id: &new.id,
        signature: &new.signature,
        principal: &new.principal,
        idempotency: new.idempotency.as_ref(),
    };
    fields.encode(out);
}

/// What a head holds, wherever it is.
struct HeadFields<'a> {
    body_len: u32,
    custodial: bool,
    position: Position,
    registry: Position,
    recorded_at: Millis,
    id: &'a RecordId,
    signature: &'a Signature,
    principal: &'a Principal,
    idempotency: Option<&'a Hash>,
}

impl HeadFields<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let principal = self.principal.as_str().as_bytes();
        let mut flags = if self.custodial { CUSTODIAL } else { 0 };
        if self.idempotency.is_some() {
            flags |= IDEMPOTENCY;
        }
        out.clear();
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        // A principal is at most 64 bytes long by its type.
        out.extend_from_slice(&[principal.len() as u8, 0]);
        out.extend_from_slice(&self.position.0.to_le_bytes());
        out.extend_from_slice(&self.registry.0.to_le_bytes());
        out.extend_from_slice(&self.recorded_at.0.to_le_bytes());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.signature.0);
        out.extend_from_slice(principal);
        if let Some(hash) = self.idempotency {
            out.extend_from_slice(&hash.0);
        }
    }
}

/// Bytes of the head that starts with `fixed`, of which the first eight are looked at.
pub(crate) fn head_len(fixed: &[u8]) -> Result<usize, BadHead> {
    let (_, rest) = take::<4>(fixed)?;
    let (flags, rest) = take::<2>(rest)?;
    let (lens, _) = take::<2>(rest)?;
    let flags = u16::from_le_bytes(flags);
    if flags & !(CUSTODIAL | IDEMPOTENCY) != 0 {
        return Err(BadHead::TooNew(flags));
    }
    let [principal, zero] = lens;
    if zero != 0 {
        return Err(BadHead::Malformed("a reserved byte is not zero"));
    }
    if principal == 0 || principal > 64 {
        return Err(BadHead::Malformed("the principal is not 1 to 64 bytes long"));
    }
    let hash = if flags & IDEMPOTENCY != 0 { Hash::LEN } else { 0 };
    Ok(FIXED_BYTES + usize::from(principal) + hash)
}

/// Reads exactly the bytes that [`head_len`] asked for.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head, BadHead> {
    if head_len(bytes)? != bytes.len() {
        return Err(BadHead::Malformed("cut short"));
    }
    let (body_len, rest) = take::<4>(bytes)?;
    let (flags, rest) = take::<2>(rest)?;
    let ([principal_len, _], rest) = take::<2>(rest)?;
    let (position, rest) = take::<8>(rest)?;
    let (registry, rest) = take::<8>(rest)?;
    let (recorded_at, rest) = take::<8>(rest)?;
    let (id, rest) = take::<32>(rest)?;
    let (signature, rest) = take::<64>(rest)?;
    let (principal, rest) =
        rest.split_at_checked(usize::from(principal_len)).ok_or(BadHead::Malformed("cut short"))?;
    let flags = u16::from_le_bytes(flags);
    let idempotency = if flags & IDEMPOTENCY != 0 { Some(Hash(take::<32>(rest)?.0)) } else { None };
    let principal = std::str::from_utf8(principal)
        .ok()
        .and_then(|text| Principal::parse(text).ok())
        .ok_or(BadHead::Malformed("the principal is not a principal"))?;
    Ok(Head {
        body_len: u32::from_le_bytes(body_len),
        custodial: flags & CUSTODIAL != 0,
        position: Position(u64::from_le_bytes(position)),
        registry: Position(u64::from_le_bytes(registry)),
        recorded_at: Millis(i64::from_le_bytes(recorded_at)),
        id: RecordId(id),
        signature: Signature(signature),
        principal,
        idempotency,
    })
}

impl Head {
    /// Replaces `out` with the bytes that [`decode_head`] makes this of.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let fields = HeadFields {
            body_len: self.body_len,
            custodial: self.custodial,
            position: self.position,
            registry: self.registry,
            recorded_at: self.recorded_at,
            id: &self.id,
            signature: &self.signature,
            principal: &self.principal,
            idempotency: self.idempotency.as_ref(),
        };
        fields.encode(out);
    }

    pub(crate) fn with_body(self, body: Arc<[u8]>) -> Entry {
        Entry {
            position: self.position,
            registry: self.registry,
            recorded_at: self.recorded_at,
            new: NewEntry {
                id: self.id,
                signature: self.signature,
                principal: self.principal,
                custodial: self.custodial,
                idempotency: self.idempotency,
                body,
            },
        }
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), BadHead> {
    bytes
        .split_first_chunk::<N>()
        .map(|(head, rest)| (*head, rest))
        .ok_or(BadHead::Malformed("cut short"))
}
