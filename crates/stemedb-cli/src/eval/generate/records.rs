//! What happens in a made-up world, as signed records.

use std::collections::HashMap;
use std::sync::Arc;

use stemedb_model::{
    Agent, AgentAct, Assertion, Body, Gold, LifecycleState, LogId, Millis, PredicateName,
    Provenance, Record, RecordId, Retract, RetractTarget, Signed, SigningKey, SourceClass,
    SourceKey, Space, Subject,
};

use crate::failure::Failure;
use crate::keys::Keyring;

use super::world::{Act, Question};

/// The keys of made-up agents are no secret: they sign for nobody.
const SEED: &[u8; 32] = b"stemedb eval: everybody's secret";
/// 2020-01-01. Each act is a minute after the one before.
const BEGIN: Millis = Millis(1_577_836_800_000);
const MINUTE_MS: i64 = 60_000;
/// What a registrar gives to agents it knows nothing else about. The same to all, so that tiers
/// decide nothing here.
const CEILING: SourceClass = SourceClass::Expert;

/// Signs the acts of one world for one database.
pub(super) struct Scribe<'a> {
    root: &'a SigningKey,
    log_id: LogId,
    space: Space,
    ring: Keyring,
    keys: HashMap<Arc<str>, SigningKey>,
    claims: HashMap<(Arc<str>, Question), RecordId>,
    at: Millis,
}

impl<'a> Scribe<'a> {
    pub(super) fn new(root: &'a SigningKey, log_id: LogId, space: Space) -> Self {
        Self {
            root,
            log_id,
            space,
            ring: Keyring::from_seed(*SEED),
            keys: HashMap::new(),
            claims: HashMap::new(),
            at: BEGIN,
        }
    }

    /// The records of these acts, in order.
    pub(super) fn seal(&mut self, acts: &[Act]) -> Result<Vec<Signed>, Failure> {
        let mut records = Vec::with_capacity(acts.len());
        for act in acts {
            let signed = match act {
                Act::Register { agent, operator } => {
                    let act = AgentAct::Register {
                        name: Some(agent.clone()),
                        ceiling: CEILING,
                        operator: operator.clone(),
                        roles: Vec::new(),
                    };
                    let key = self.key(agent).agent_id();
                    self.by_root(Body::Agent(Agent { key, act }))?
                }
                Act::Say { agent, about, value, source } => {
                    let source = source.clone().unwrap_or_else(|| agent.clone());
                    let assertion = claim(*about, *value, source)?;
                    let signed = self.by(agent, Body::Assertion(assertion))?;
                    self.claims.insert((agent.clone(), *about), signed.id());
                    signed
                }
                Act::TakeBack { agent, about } => {
                    let claim = self.claims.get(&(agent.clone(), *about)).copied();
                    let Some(claim) = claim else { continue };
                    let target = RetractTarget::Record(claim);
                    self.by(agent, Body::Retract(Retract { target, reason: None }))?
                }
                Act::Withdraw { source } => {
                    let target = RetractTarget::Source(SourceKey::Uri(source.clone()));
                    self.by_root(Body::Retract(Retract { target, reason: None }))?
                }
                Act::Gold { about, value } => self.by_root(Body::Gold(Gold {
                    subject: subject(*about)?,
                    predicate: predicate(*about)?,
                    object: about.value(*value),
                }))?,
            };
            records.push(signed);
        }
        Ok(records)
    }

    /// A record by the root key that is not part of the world.
    pub(super) fn by_root(&mut self, body: Body) -> Result<Signed, Failure> {
        let record = self.record(self.root.agent_id(), body);
        sign(record, self.root)
    }

    fn by(&mut self, agent: &Arc<str>, body: Body) -> Result<Signed, Failure> {
        let key = SigningKey::clone(self.key(agent));
        let record = self.record(key.agent_id(), body);
        sign(record, &key)
    }

    fn record(&mut self, agent: stemedb_model::AgentId, body: Body) -> Record {
        let at = self.at;
        self.at = Millis(at.0 + MINUTE_MS);
        // Assertions mean the same in every database.
        let log_id = (!matches!(body, Body::Assertion(_))).then_some(self.log_id);
        Record { space: self.space.clone(), agent, at, log_id, body }
    }

    fn key(&mut self, agent: &Arc<str>) -> &SigningKey {
        let ring = &self.ring;
        self.keys.entry(agent.clone()).or_insert_with(|| ring.key(agent))
    }
}

fn claim(about: Question, value: u32, source: Arc<str>) -> Result<Assertion, Failure> {
    Ok(Assertion {
        subject: subject(about)?,
        predicate: predicate(about)?,
        object: about.value(value),
        confidence: 1.0,
        source: Some(Provenance { uri: Some(source), evidence: None, class: None }),
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::default(),
        parent: None,
        derived_from: Vec::new(),
        vector: None,
        visual_hash: None,
        meta: Default::default(),
    })
}

fn subject(about: Question) -> Result<Subject, Failure> {
    Subject::parse(&about.subject()).map_err(|error| Failure::error(error.to_string()))
}

fn predicate(about: Question) -> Result<PredicateName, Failure> {
    PredicateName::parse(about.predicate()).map_err(|error| Failure::error(error.to_string()))
}

fn sign(record: Record, key: &SigningKey) -> Result<Signed, Failure> {
    Signed::seal(record, key)
        .map_err(|error| Failure::error("cannot sign a made-up record").because(error))
}
