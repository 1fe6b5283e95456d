//! What is taken down of one read.

use std::sync::Arc;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use stemedb_model::{Hash, Millis, Principal};

use crate::wire::{AuditEntry, AuditKind, AuditTold, HashHex, Time};

/// Answers that are told of in an entry; of the others it says how many there were.
const TOLD_MAX: usize = 64;
/// Bytes of the winners of one answer; longer ones the hash stands for.
const WINNERS_BYTES_MAX: usize = 1 << 10;
/// A longer answer is not looked into: its hash stands for it.
const LOOKED_INTO_BYTES_MAX: usize = 1 << 20;
/// A refused question says nothing about what was told, and may be as long as a body may be.
const REFUSED_BYTES_MAX: usize = 4 << 10;

/// One read, as the request and the answer show it. Cheap to make: the work is done off the way of
/// the answer.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) at: Millis,
    pub(crate) principal: Principal,
    pub(crate) client: Option<String>,
    pub(crate) method: &'static str,
    pub(crate) endpoint: Arc<str>,
    /// Where the endpoint has parameters in its path.
    pub(crate) path: Option<String>,
    pub(crate) query: Option<String>,
    pub(crate) body: Option<Bytes>,
    pub(crate) status: u16,
    /// The snapshot that a header names.
    pub(crate) snapshot: Option<String>,
    /// `None` of a stream.
    pub(crate) answer: Option<Bytes>,
}

impl Observed {
    /// Memory that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.path, &self.query].into_iter().flatten().map(String::len).sum::<usize>();
        let bodies =
            [&self.body, &self.answer].into_iter().flatten().map(Bytes::len).sum::<usize>();
        512 + texts + bodies
    }

    /// The entry; chain and number are given when it is written.
    pub(crate) fn entry(self) -> AuditEntry {
        let mut entry = blank(AuditKind::Read, self.at);
        entry.principal = Some(self.principal.to_string());
        entry.client = self.client;
        entry.method = Some(self.method.to_owned());
        entry.endpoint = Some(self.endpoint.to_string());
        entry.path = self.path;
        entry.status = Some(self.status);
        entry.snapshot = self.snapshot;
        entry.streamed = self.answer.is_none();
        let refused = self.status >= 400;
        match self.body {
            Some(body) => {
                let short = !refused || body.len() <= REFUSED_BYTES_MAX;
                entry.question = short.then(|| serde_json::from_slice(&body).ok()).flatten();
                entry.question = entry.question.map(in_order);
                if entry.question.is_none() {
                    entry.question_hash = Some(hash(&body));
                }
            }
            None => entry.question = Some(parameters(self.query.as_deref().unwrap_or_default())),
        }
        if let Some(answer) = self.answer {
            entry.answer_hash = Some(hash(&answer));
            entry.answer_bytes = u64::try_from(answer.len()).ok();
            if answer.len() <= LOOKED_INTO_BYTES_MAX {
                look_into(&mut entry, &answer, refused);
            }
        }
        entry
    }
}

/// An entry that says nothing yet.
pub(super) fn blank(kind: AuditKind, at: Millis) -> AuditEntry {
    AuditEntry {
        chain: HashHex(Hash([0; 32])),
        id: 0,
        kind,
        at: Time(at),
        synced: 0,
        principal: None,
        client: None,
        method: None,
        endpoint: None,
        path: None,
        question: None,
        question_hash: None,
        status: None,
        code: None,
        position: None,
        snapshot: None,
        evaluated_at: None,
        answer_hash: None,
        answer_bytes: None,
        streamed: false,
        told: Vec::new(),
        told_besides: None,
        dropped: None,
    }
}

fn hash(bytes: &[u8]) -> HashHex {
    HashHex(Hash(*blake3::hash(bytes).as_bytes()))
}

/// The parameters by name. One that is given twice is kept twice: the request was refused.
fn parameters(query: &str) -> Json {
    let mut pairs: Vec<(String, String)> =
        form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    pairs.sort();
    let mut object = serde_json::Map::new();
    for (name, value) in pairs {
        match object.get_mut(&name) {
            None => {
                object.insert(name, Json::String(value));
            }
            Some(Json::Array(values)) => values.push(Json::String(value)),
            Some(first) => *first = Json::Array(vec![first.take(), Json::String(value)]),
        }
    }
    Json::Object(object)
}

/// The fields of every object by name, whatever order this build keeps them in.
fn in_order(value: Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.into_iter().map(in_order).collect()),
        Json::Object(map) => {
            let mut fields: Vec<(String, Json)> = map.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(fields.into_iter().map(|(name, value)| (name, in_order(value))).collect())
        }
        other => other,
    }
}

/// The parts of any answer that an entry tells of.
#[derive(Debug, Default, Deserialize)]
struct Answer<'a> {
    position: Option<u64>,
    snapshot: Option<String>,
    evaluated_at: Option<Time>,
    #[serde(borrow)]
    receipt: Option<Box<Answer<'a>>>,
    #[serde(borrow)]
    record: Option<Named<'a>>,
    #[serde(borrow, default)]
    resolutions: Vec<Answer<'a>>,
    #[serde(borrow, default)]
    results: Vec<Answer<'a>>,
    #[serde(borrow, default)]
    assertions: Vec<Listed<'a>>,
    #[serde(borrow, default)]
    records: Vec<Listed<'a>>,
    // Of a resolution, or of the receipt of one.
    subject: Option<String>,
    predicate: Option<String>,
    lens: Option<String>,
    status: Option<String>,
    #[serde(borrow)]
    winners: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    record: Option<Named<'a>>,
}

#[derive(Debug, Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Refused {
    code: Option<String>,
    position: Option<u64>,
}

fn look_into(entry: &mut AuditEntry, answer: &[u8], refused: bool) {
    if refused {
        if let Ok(problem) = serde_json::from_slice::<Refused>(answer) {
            entry.code = problem.code;
            entry.position = problem.position;
        }
        return;
    }
    let Ok(mut found) = serde_json::from_slice::<Answer<'_>>(answer) else { return };
    let inner = found.receipt.as_deref();
    entry.position = found.position.or(inner.and_then(|receipt| receipt.position));
    entry.evaluated_at = found.evaluated_at.or(inner.and_then(|receipt| receipt.evaluated_at));
    entry.snapshot = found.snapshot.take().or(entry.snapshot.take());
    let mut told = Vec::new();
    match found.receipt.take() {
        Some(mut receipt) => {
            // Those of a receipt are numbers of its values: the status says enough.
            receipt.winners = None;
            told.push(short(&mut receipt));
        }
        None if found.lens.is_some() => told.push(short(&mut found)),
        None => {}
    }
    let of_keys = found.results.into_iter().flat_map(|key| key.resolutions);
    told.extend(found.resolutions.into_iter().chain(of_keys).map(|mut one| short(&mut one)));
    let shown = found.record.into_iter().chain(
        found.assertions.into_iter().chain(found.records).filter_map(|listed| listed.record),
    );
    told.extend(
        shown
            .filter_map(|record| record.id)
            .map(|id| AuditTold { id: Some(id.into_owned()), ..AuditTold::default() }),
    );
    let besides = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    entry.told = told;
    entry.told_besides = (besides > 0).then(|| u64::try_from(besides).unwrap_or(u64::MAX));
}

/// A resolution, in few words.
fn short(one: &mut Answer<'_>) -> AuditTold {
    let winners = one.winners.map(RawValue::get).filter(|text| text.len() <= WINNERS_BYTES_MAX);
    AuditTold {
        id: None,
        subject: one.subject.take(),
        predicate: one.predicate.take(),
        lens: one.lens.take(),
        status: one.status.take(),
        winners: winners.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
    }
}

/// Whether the entry is about a subject: in its question or in what was told.
pub(super) fn is_about(entry: &AuditEntry, subject: &str) -> bool {
    let told = entry.told.iter().any(|told| told.subject.as_deref() == Some(subject));
    told || entry.question.as_ref().is_some_and(|question| {
        let named = |value: &Json| value.get("subject").and_then(Json::as_str) == Some(subject);
        let keys = question.get("keys").and_then(Json::as_array);
        named(question) || keys.into_iter().flatten().any(named)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn observed(body: Option<&str>, status: u16, answer: &Json) -> Observed {
        Observed {
            at: Millis(5),
            principal: Principal::parse("local").unwrap(),
            client: Some("127.0.0.1:9".into()),
            method: "GET",
            endpoint: "/v1/query".into(),
            path: None,
            query: Some("subject=a%20b&lens=trust&lens=votes&agent=".into()),
            body: body.map(|body| Bytes::from(body.to_owned())),
            status,
            snapshot: None,
            answer: Some(Bytes::from(answer.to_string())),
        }
    }

    #[test]
    fn what_was_told_is_told_in_short() {
        let one = json!({"subject": "a b", "predicate": "p", "lens": "trust", "status": "agreed",
            "winners": ["rare"], "position": 7, "snapshot": "5e", "evaluated_at": 9,
            "value": "rare", "candidates": [{"value": "rare"}]});
        let entry = observed(None, 200, &one).entry();
        assert_eq!(
            entry.question,
            Some(json!({"agent": "", "lens": ["trust", "votes"], "subject": "a b"}))
        );
        assert_eq!((entry.position, entry.snapshot.as_deref()), (Some(7), Some("5e")));
        assert_eq!(entry.evaluated_at, Some(Time(Millis(9))));
        let told = AuditTold {
            subject: Some("a b".into()),
            predicate: Some("p".into()),
            lens: Some("trust".into()),
            status: Some("agreed".into()),
            winners: vec![json!("rare")],
            id: None,
        };
        assert_eq!(entry.told, std::slice::from_ref(&told));
        assert!(is_about(&entry, "a b") && !is_about(&entry, "a"));

        let many = json!({"position": 7, "results": [{"subject": "x", "resolutions": vec![one.clone(); 70]}]});
        let body = r#"{"lenses":["trust"],"keys":[{"predicate":"p","subject":"k"}]}"#;
        let entry = observed(Some(body), 200, &many).entry();
        assert_eq!(entry.told.len(), 64);
        assert_eq!(entry.told_besides, Some(6));
        assert!(is_about(&entry, "k") && is_about(&entry, "a b"));
        let text = entry.question.unwrap().to_string();
        assert_eq!(text, r#"{"keys":[{"predicate":"p","subject":"k"}],"lenses":["trust"]}"#);

        let receipt = json!({"hash": "ab", "receipt": {"subject": "a b", "predicate": "p",
            "lens": "trust", "status": "agreed", "winners": [0], "position": 3, "evaluated_at": 4}});
        let entry = observed(None, 200, &receipt).entry();
        assert_eq!((entry.position, entry.told.len()), (Some(3), 1));
        assert_eq!(entry.told[0], AuditTold { winners: vec![], ..told });

        let record = json!({"position": 3, "record": {"id": "ab", "subject": "s"}});
        assert_eq!(observed(None, 200, &record).entry().told[0].id.as_deref(), Some("ab"));
        let page = json!({"assertions": [{"record": {"id": "ab"}}, {"record": {"id": "cd"}}]});
        assert_eq!(observed(None, 200, &page).entry().told[1].id.as_deref(), Some("cd"));
        // Whatever it is, its hash is kept.
        let odd = observed(None, 200, &json!([1])).entry();
        assert_eq!(odd.answer_hash, Some(hash(b"[1]")));
    }

    #[test]
    fn what_is_too_long_is_hashed() {
        let winner = "x".repeat(2000);
        let one = json!({"lens": "trust", "winners": [winner]});
        let entry = observed(None, 200, &one).entry();
        assert_eq!(entry.told[0].winners, Vec::<Json>::new());
        let problem = json!({"code": "invalid_field", "status": 400});
        let long = format!("{{\"keys\":\"{}\"}}", "x".repeat(5000));
        let entry = observed(Some(&long), 400, &problem).entry();
        assert_eq!((entry.question, entry.question_hash), (None, Some(hash(long.as_bytes()))));
        assert_eq!(entry.code.as_deref(), Some("invalid_field"));
        assert_eq!(entry.told, []);
        let entry = observed(Some("not json"), 400, &problem).entry();
        assert_eq!((entry.question, entry.question_hash), (None, Some(hash(b"not json"))));
    }
}
