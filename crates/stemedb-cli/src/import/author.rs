//! Who signs a simple claim, and the line that goes to the server.

use std::sync::Arc;

use serde_json::json;
use stemedb_model::{
    Assertion, Body, LifecycleState, Millis, PredicateName, Provenance, Record, Signed, SigningKey,
    Space, Subject,
};
use stemedb_server::wire;

use crate::claim_line::ClaimLine;
use crate::commands::import::Args;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys::{self, Keyring};

/// Turns claims into lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Author {
    signer: Signer,
    space: Space,
    at: Option<Millis>,
    confidence: f64,
}

#[derive(Debug, Clone)]
enum Signer {
    /// The server, for its caller.
    Server,
    /// One key.
    Key(Arc<SigningKey>),
    /// A key for each source.
    Ring(Arc<Keyring>),
}

impl Author {
    pub(super) fn new(args: &Args, context: &Context) -> Result<Self, Failure> {
        let signer = match (&args.keyring, &args.key) {
            (Some(dir), _) if args.agent_per_source => {
                Signer::Ring(Arc::new(Keyring::open(dir, context.env.rng.as_ref())?))
            }
            (_, Some(file)) => Signer::Key(Arc::new(keys::load(file)?)),
            _ => Signer::Server,
        };
        let space = Space::parse(&args.space).map_err(|error| Failure::error(error.to_string()))?;
        Ok(Self { signer, space, at: args.at, confidence: args.confidence })
    }

    /// The line for the server, with its end. An error says what is wrong with the claim.
    pub(super) fn line(&self, claim: ClaimLine) -> Result<String, String> {
        let at = claim.at.or(self.at).ok_or(super::NO_TIME)?;
        let confidence = claim.confidence.unwrap_or(self.confidence);
        let key = match &self.signer {
            Signer::Server => {
                let object = wire::Object::from(&claim.object);
                let line = json!({
                    "kind": "assertion", "space": self.space.as_str(), "at": at.0,
                    "subject": claim.subject, "predicate": claim.predicate, "object": object,
                    "confidence": confidence, "source": { "uri": claim.source },
                });
                return Ok(format!("{line}\n"));
            }
            Signer::Key(key) => SigningKey::clone(key),
            Signer::Ring(ring) => ring.key(&claim.source),
        };
        let assertion = Assertion {
            subject: Subject::parse(&claim.subject).map_err(|error| error.to_string())?,
            predicate: PredicateName::parse(&claim.predicate).map_err(|error| error.to_string())?,
            object: claim.object,
            confidence,
            source: Some(Provenance {
                uri: Some(claim.source.into()),
                evidence: None,
                class: None,
            }),
            valid_from: None,
            valid_to: None,
            epoch: None,
            lifecycle: LifecycleState::default(),
            parent: None,
            derived_from: Vec::new(),
            vector: None,
            visual_hash: None,
            meta: Default::default(),
        };
        let record = Record {
            space: self.space.clone(),
            agent: key.agent_id(),
            at,
            log_id: None,
            body: Body::Assertion(assertion),
        };
        let signed = Signed::seal(record, &key).map_err(|error| error.to_string())?;
        Ok(signed_line(&signed))
    }
}

/// A signed record as a line, in the form that costs the server least to read.
pub(super) fn signed_line(signed: &Signed) -> String {
    let bytes = hex::encode(signed.bytes());
    format!("{{\"bytes\":\"{bytes}\",\"signature\":\"{}\"}}\n", signed.signature())
}
