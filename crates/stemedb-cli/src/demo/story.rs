//! The bundled claims: who is who, and who said what. Real statements, dated and cited, in our own
//! words.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use stemedb_model::{AgentId, LogId, Millis, RecordId, Signed, SigningKey};

use crate::failure::Failure;
use crate::keys::Keyring;
use crate::record::{self, Fields};
use crate::time;

/// One JSON object a line; the kinds are those of [`Line`].
const STORY: &str = include_str!("../../demo/story.jsonl");
/// The keys of the demo's agents are no secret: they sign for nobody.
const SEED: &[u8; 32] = b"stemedb demo: everybody's secret";
/// Registry records carry this time, so that a second load finds them there.
const REGISTERED: &str = "2025-11-01";

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Agent {
        id: String,
        name: String,
        ceiling: String,
        #[serde(default)]
        operator: Option<String>,
    },
    Source {
        id: String,
        class: String,
        title: String,
        uris: Vec<String>,
    },
    Predicate {
        record: serde_json::Map<String, Value>,
    },
    Alias {
        by: String,
        subject: String,
        other: String,
    },
    Epoch {
        id: String,
        by: String,
        name: String,
        description: String,
        at: String,
        #[serde(default)]
        supersedes: Option<String>,
        #[serde(default)]
        mode: Option<String>,
    },
    Claim(Box<Claim>),
    Retract {
        by: String,
        source: String,
        at: String,
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    #[serde(default)]
    id: Option<String>,
    by: String,
    subject: String,
    predicate: String,
    object: Value,
    #[serde(default)]
    unit: Option<String>,
    at: String,
    /// `month` or `year` if the day is not known.
    #[serde(default)]
    precision: Option<String>,
    source: String,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(default)]
    rests_on: Vec<String>,
    note: String,
}

/// The records of the story, ready to be sent in this order.
pub(super) struct Story {
    /// Registries and claims.
    pub(super) claims: Vec<Signed>,
    /// What was taken back later.
    pub(super) retractions: Vec<Signed>,
    /// Names of agents.
    pub(super) names: HashMap<AgentId, String>,
    /// How many of the records are assertions.
    pub(super) assertions: usize,
}

/// Signs the story for one database.
pub(super) fn build(root: &SigningKey, log_id: LogId) -> Result<Story, Failure> {
    let mut builder = Builder {
        root,
        log_id,
        keyring: Keyring::from_seed(*SEED),
        sources: HashMap::new(),
        ids: HashMap::new(),
        story: Story {
            claims: Vec::new(),
            retractions: Vec::new(),
            names: HashMap::from([(root.agent_id(), "root".to_owned())]),
            assertions: 0,
        },
    };
    for (number, text) in STORY.lines().enumerate() {
        let wrong = |failure: Failure| {
            Failure::error(format!("the bundled claims, line {}: {}", number + 1, failure.report()))
        };
        let line =
            serde_json::from_str(text).map_err(|error| wrong(Failure::error(error.to_string())))?;
        builder.line(line).map_err(wrong)?;
    }
    Ok(builder.story)
}

struct Builder<'a> {
    root: &'a SigningKey,
    log_id: LogId,
    keyring: Keyring,
    sources: HashMap<String, String>,
    ids: HashMap<String, RecordId>,
    story: Story,
}

impl Builder<'_> {
    fn line(&mut self, line: Line) -> Result<(), Failure> {
        match line {
            Line::Agent { id, name, ceiling, operator } => {
                let agent = self.keyring.key(&id).agent_id();
                self.story.names.insert(agent, name.clone());
                let fields = Fields::new()
                    .set("key", agent.to_string())
                    .set("name", name)
                    .set("ceiling", ceiling)
                    .maybe("operator", operator);
                self.put("agent", fields, "root", REGISTERED).map(drop)
            }
            Line::Source { id, class, title, uris } => {
                self.sources.extend(uris.first().map(|uri| (id, uri.clone())));
                let keys: Vec<Value> = uris.iter().map(|uri| json!({ "uri": uri })).collect();
                let fields =
                    Fields::new().list("keys", keys).set("class", class).set("title", title);
                self.put("source", fields, "root", REGISTERED).map(drop)
            }
            Line::Predicate { record } => {
                let fields = record
                    .into_iter()
                    .fold(Fields::new(), |all, (name, value)| all.set(&name, value));
                self.put("predicate", fields, "root", REGISTERED).map(drop)
            }
            Line::Alias { by, subject, other } => {
                let fields = Fields::new().set("subject", subject).set("other", other);
                self.put("alias", fields, &by, REGISTERED).map(drop)
            }
            Line::Epoch { id, by, name, description, at, supersedes, mode } => {
                let supersedes = supersedes.map(|id| self.id(&id)).transpose()?;
                let fields = Fields::new()
                    .set("name", name)
                    .set("description", description)
                    .maybe("supersedes", supersedes)
                    .maybe("mode", mode);
                let record = self.put("epoch", fields, &by, &at)?;
                self.ids.insert(id, record);
                Ok(())
            }
            Line::Claim(claim) => self.claim(*claim),
            Line::Retract { by, source, at, reason } => {
                let uri = self.source(&source)?;
                let fields =
                    Fields::new().set("source", json!({ "uri": uri })).set("reason", reason);
                let signed = self.seal("retract", fields, &by, &at)?;
                self.story.retractions.push(signed);
                Ok(())
            }
        }
    }

    fn claim(&mut self, claim: Claim) -> Result<(), Failure> {
        let object = match claim.unit {
            Some(unit) => json!({ "type": "number", "value": claim.object, "unit": unit }),
            None => claim.object,
        };
        let meta = Fields::new().set("note", claim.note).maybe("precision", claim.precision);
        let rests_on: Result<Vec<String>, Failure> =
            claim.rests_on.iter().map(|id| self.id(id)).collect();
        let fields = Fields::new()
            .set("subject", claim.subject)
            .set("predicate", claim.predicate)
            .set("object", object)
            .set("source", json!({ "uri": self.source(&claim.source)? }))
            .maybe("epoch", claim.epoch.map(|id| self.id(&id)).transpose()?)
            .list("derived_from", rests_on?)
            .set("meta", meta.into_value());
        let record = self.put("assertion", fields, &claim.by, &claim.at)?;
        self.story.assertions += 1;
        self.ids.extend(claim.id.map(|id| (id, record)));
        Ok(())
    }

    fn put(&mut self, kind: &str, fields: Fields, by: &str, at: &str) -> Result<RecordId, Failure> {
        let signed = self.seal(kind, fields, by, at)?;
        let id = signed.id();
        self.story.claims.push(signed);
        Ok(id)
    }

    fn seal(&self, kind: &str, fields: Fields, by: &str, at: &str) -> Result<Signed, Failure> {
        let at: Millis = time::parse(at).map_err(Failure::error)?;
        let fields = fields.set("kind", kind).set("at", at.0).into_value();
        match by {
            "root" => record::seal(&fields, self.root, at, self.log_id),
            agent => record::seal(&fields, &self.keyring.key(agent), at, self.log_id),
        }
    }

    fn id(&self, name: &str) -> Result<String, Failure> {
        let id = self.ids.get(name).map(ToString::to_string);
        id.ok_or_else(|| Failure::error(format!("nothing above is called `{name}`")))
    }

    fn source(&self, name: &str) -> Result<String, Failure> {
        let uri = self.sources.get(name).cloned();
        uri.ok_or_else(|| Failure::error(format!("no source above is called `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_line_makes_a_valid_record() {
        let root = SigningKey::from_seed(&[7; 32]);
        let story = build(&root, LogId([1; LogId::LEN])).unwrap();
        assert!((95..=120).contains(&story.assertions), "{}", story.assertions);
        assert_eq!(story.retractions.len(), 2);
        let mut ids: Vec<_> = story.claims.iter().map(Signed::id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), story.claims.len(), "two lines are the same record");
    }

    #[test]
    fn every_claim_has_a_public_page_and_a_note() {
        for line in STORY.lines() {
            if let Line::Claim(claim) = serde_json::from_str(line).unwrap() {
                assert!(!claim.note.is_empty() && claim.note.len() < 200, "{line}");
                assert!(time::parse(&claim.at).is_ok(), "{line}");
                let precision = claim.precision.as_deref();
                assert!(matches!(precision, None | Some("month" | "year")), "{line}");
            }
        }
    }
}
