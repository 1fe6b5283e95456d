//! Ids, signatures, and the type that proves both.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer, VerifyingKey};

use crate::codec::DecodeError;
use crate::ids::{AgentId, LogId, RecordId, Signature};
use crate::limits;
use crate::record::{AgentAct, Body, Kind, Record};
use crate::text::{InvalidField, Space};

const ID_DOMAIN: &[u8] = b"stemedb/v1/";
const SIGN_DOMAIN: &[u8] = b"stemedb/v1/sign\0";
const REPLACE_DOMAIN: &[u8] = b"stemedb/v1/replace\0";

/// The id of a record of this kind with these canonical bytes: BLAKE3-256 over `"stemedb/v1/"`,
/// the tag as one byte, a zero byte, the bytes.
pub fn record_id(kind: Kind, canonical: &[u8]) -> RecordId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(ID_DOMAIN).update(&[kind.tag(), 0]).update(canonical);
    RecordId(*hasher.finalize().as_bytes())
}

impl Record {
    /// The id, from the canonical bytes. Encodes; use [`record_id`] where the bytes are at hand.
    pub fn id(&self) -> RecordId {
        record_id(self.kind(), &self.encode())
    }
}

/// A signature that does not verify, or a public key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signature by {agent}")]
pub struct BadSignature {
    /// Who should have signed.
    pub agent: AgentId,
}

/// Why a record and a signature are not a signed record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The record itself is at fault.
    #[error(transparent)]
    Record(#[from] DecodeError),
    /// The record is good; the signature is not.
    #[error("signature: {0}")]
    Signature(#[from] BadSignature),
}

impl From<InvalidField> for VerifyError {
    fn from(invalid: InvalidField) -> Self {
        Self::Record(invalid.into())
    }
}

/// Verifies a signature over a record's id, strictly: small-order keys and points and unreduced
/// scalars are refused, so every node decides alike. Some tens of microseconds.
pub fn verify_signature(
    agent: AgentId,
    id: &RecordId,
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify(agent, &sign_message(id), signature)
}

/// Verifies that the key `new` agrees to take the place of `old` in this space of this database.
pub fn verify_consent(
    log_id: LogId,
    space: &Space,
    old: AgentId,
    new: AgentId,
    consent: &Signature,
) -> Result<(), BadSignature> {
    verify(new, &consent_message(log_id, space, old, new), consent)
}

fn verify(agent: AgentId, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    VerifyingKey::from_bytes(agent.as_bytes())
        .and_then(|key| key.verify_strict(message, &signature))
        .map_err(|_| BadSignature { agent })
}

fn sign_message(id: &RecordId) -> [u8; SIGN_DOMAIN.len() + RecordId::LEN] {
    let mut message = [0; SIGN_DOMAIN.len() + RecordId::LEN];
    let (domain, rest) = message.split_at_mut(SIGN_DOMAIN.len());
    domain.copy_from_slice(SIGN_DOMAIN);
    rest.copy_from_slice(id.as_bytes());
    message
}

fn consent_message(log_id: LogId, space: &Space, old: AgentId, new: AgentId) -> Vec<u8> {
    // The space is the only part of unknown length, so the parts cannot be shifted.
    let space = space.as_str().as_bytes();
    [REPLACE_DOMAIN, log_id.as_bytes(), space, old.as_bytes(), new.as_bytes()].concat()
}

/// An agent's secret key. Zeroed when dropped; printing it shows the public key.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that these 32 secret bytes stand for (RFC 8032). Every seed is a key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The 32 secret bytes. The copy a caller makes is the caller's to protect.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key.
    pub fn agent_id(&self) -> AgentId {
        AgentId(self.0.verifying_key().to_bytes())
    }

    /// Signs a record's id. Deterministic: the same id gives the same signature.
    pub fn sign(&self, id: &RecordId) -> Signature {
        Signature(self.0.sign(&sign_message(id)).to_bytes())
    }

    /// As the key `new`, agrees to take the place of `old`; goes into the agent record that `old`
    /// signs. Consent to another key than this one's own does not verify.
    pub fn consent(&self, log_id: LogId, space: &Space, old: AgentId, new: AgentId) -> Signature {
        Signature(self.0.sign(&consent_message(log_id, space, old, new)).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.agent_id())
    }
}

/// A valid record with its id, its canonical bytes, and a verified signature over the id: past it,
/// the type is the proof. [`Signed::trusted`] relies on a proof made earlier.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    record: Record,
    id: RecordId,
    signature: Signature,
    bytes: Arc<[u8]>,
}

impl Signed {
    /// Validates, encodes and signs. The key must be that of the record's agent.
    pub fn seal(record: Record, key: &SigningKey) -> Result<Self, InvalidField> {
        if record.agent != key.agent_id() {
            let problem =
                format!("{}, expected the signing key's {}", record.agent, key.agent_id());
            return Err(InvalidField::new("agent", problem));
        }
        let (id, bytes) = prove(&record)?;
        let signature = key.sign(&id);
        Ok(Self { record, id, signature, bytes })
    }

    /// Validates and encodes a record, and verifies the signature that came with it.
    pub fn verify(record: Record, signature: Signature) -> Result<Self, VerifyError> {
        let (id, bytes) = prove(&record)?;
        verify_signature(record.agent, &id, &signature)?;
        Ok(Self { record, id, signature, bytes })
    }

    /// The same for a record in canonical form; other forms of it are refused.
    pub fn from_bytes(
        bytes: impl Into<Arc<[u8]>>,
        signature: Signature,
    ) -> Result<Self, VerifyError> {
        let bytes = bytes.into();
        let record = Record::decode(&bytes)?;
        check_consent(&record)?;
        let id = record_id(record.kind(), &bytes);
        verify_signature(record.agent, &id, &signature)?;
        Ok(Self { record, id, signature, bytes })
    }

    /// The same for a record that was proved when it was written, read back from under checksums:
    /// the signature is not verified again, limits and order are not checked again. Bytes that are
    /// no record are still an error. Costs the reading and one hash.
    pub fn trusted(bytes: impl Into<Arc<[u8]>>, signature: Signature) -> Result<Self, DecodeError> {
        let bytes = bytes.into();
        let record = Record::decode_trusted(&bytes)?;
        let id = record_id(record.kind(), &bytes);
        Ok(Self { record, id, signature, bytes })
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its id.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Its agent's signature over the id.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// Its canonical bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Takes it apart: record, id, signature, canonical bytes.
    pub fn into_parts(self) -> (Record, RecordId, Signature, Arc<[u8]>) {
        (self.record, self.id, self.signature, self.bytes)
    }
}

/// All that is checked of a record before its own signature; gives its id and canonical bytes.
fn prove(record: &Record) -> Result<(RecordId, Arc<[u8]>), InvalidField> {
    record.validate()?;
    check_consent(record)?;
    let bytes = record.encode();
    limits::check_record_bytes(bytes.len())?;
    Ok((record_id(record.kind(), &bytes), bytes.into()))
}

fn check_consent(record: &Record) -> Result<(), InvalidField> {
    let (Body::Agent(agent), Some(log_id)) = (&record.body, record.log_id) else {
        return Ok(());
    };
    let AgentAct::Replace { replaces, consent } = &agent.act else {
        return Ok(());
    };
    verify_consent(log_id, &record.space, *replaces, agent.key, consent).map_err(|_| {
        let problem = "is not the new key's signature over this replacement in this database";
        InvalidField::new("consent", problem)
    })
}
