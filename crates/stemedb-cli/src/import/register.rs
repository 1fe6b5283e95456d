//! Registers predicates, sources and the sources' agents with the root key.

use std::collections::HashSet;

use stemedb_model::{
    Agent, AgentAct, Body, LogId, Millis, Record, Signed, SigningKey, Source, SourceClass,
    SourceKey, Space,
};

use crate::claim_line::ClaimLine;
use crate::commands::import::Args;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys::{self, Keyring};
use crate::record;
use crate::remote::Remote;

use super::author::signed_line;
use super::sources::{Sources, predicates};
use super::writer;

/// The class of an agent whose source no file names.
const CEILING: SourceClass = SourceClass::Expert;

/// Knows which sources the server has been told of. Does nothing without a root key.
pub(super) struct Registrar {
    remote: Remote,
    root: Option<Root>,
    keyring: Option<Keyring>,
    sources: Sources,
    space: Space,
    at: Option<Millis>,
    seen: HashSet<String>,
    predicates: Vec<serde_json::Value>,
    registered: u64,
}

struct Root {
    key: SigningKey,
    log_id: LogId,
}

impl Registrar {
    pub(super) fn new(args: &Args, context: &Context, remote: &Remote) -> Result<Self, Failure> {
        let root = match &args.root_key {
            Some(file) => Some(Root { key: keys::load(file)?, log_id: record::log_id(remote)? }),
            None => None,
        };
        let keyring = match &args.keyring {
            Some(dir) if args.agent_per_source => {
                Some(Keyring::open(dir, context.env.rng.as_ref())?)
            }
            _ => None,
        };
        let sources = match &args.sources {
            Some(file) => Sources::load(file, args.tier_map.as_deref())?,
            None => Sources::default(),
        };
        Ok(Self {
            remote: remote.clone(),
            root,
            keyring,
            sources,
            space: Space::parse(&args.space).map_err(|error| Failure::error(error.to_string()))?,
            at: args.at,
            seen: HashSet::new(),
            predicates: match &args.predicates {
                Some(file) => predicates(file)?,
                None => Vec::new(),
            },
            registered: 0,
        })
    }

    /// How many registry records were sent.
    pub(super) fn registered(&self) -> u64 {
        self.registered
    }

    /// Registers what these claims need and nobody has registered yet. Registry records carry
    /// `--at`, else the time of the first claim: the same files give the same records.
    pub(super) fn register<'a>(
        &mut self,
        claims: impl Iterator<Item = &'a ClaimLine>,
    ) -> Result<(), Failure> {
        if self.root.is_none() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for claim in claims {
            // A claim without a time is refused when it is signed.
            let Some(at) = self.at.or(claim.at) else { continue };
            for fields in std::mem::take(&mut self.predicates) {
                self.predicate(fields, at, &mut lines)?;
            }
            if !self.seen.contains(&claim.source) {
                self.seen.insert(claim.source.clone());
                self.source(&claim.source, at, &mut lines)?;
            }
        }
        self.registered += lines.len() as u64;
        writer::send_all(&self.remote, &lines)
    }

    fn predicate(
        &self,
        mut fields: serde_json::Value,
        at: Millis,
        lines: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let Some(root) = &self.root else { return Ok(()) };
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("space".into(), self.space.as_str().into());
        }
        let signed = record::seal(&fields, &root.key, at, root.log_id)?;
        lines.push(signed_line(&signed));
        Ok(())
    }

    fn source(&self, name: &str, at: Millis, lines: &mut Vec<String>) -> Result<(), Failure> {
        let info = self.sources.get(name);
        if let Some(info) = info {
            lines.push(self.seal(
                at,
                Body::Source(Source {
                    keys: vec![SourceKey::Uri(name.into())],
                    class: info.class,
                    title: info.title.as_deref().map(Into::into),
                }),
            )?);
        }
        if let Some(keyring) = &self.keyring {
            let act = AgentAct::Register {
                name: Some(name.into()),
                ceiling: info.map_or(CEILING, |info| info.class),
                operator: None,
                roles: Vec::new(),
            };
            let key = keyring.key(name).agent_id();
            lines.push(self.seal(at, Body::Agent(Agent { key, act }))?);
        }
        Ok(())
    }

    fn seal(&self, at: Millis, body: Body) -> Result<String, Failure> {
        let Some(root) = &self.root else { return Ok(String::new()) };
        let record = Record {
            space: self.space.clone(),
            agent: root.key.agent_id(),
            at,
            log_id: Some(root.log_id),
            body,
        };
        let signed = Signed::seal(record, &root.key)
            .map_err(|error| Failure::error("cannot register").because(error))?;
        Ok(signed_line(&signed))
    }
}
