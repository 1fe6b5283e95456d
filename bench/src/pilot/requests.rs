//! The three kinds of requests: a claim, a batch of claims, a question.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};
use stemedb_bench::random::mix;

use crate::claims::{Ack, BATCH, Claims, PREDICATE, subject};
use crate::load::Requests;

/// How unevenly keys are asked for: the key of rank r is asked for 1/r as often as the first.
const SKEW: f64 = 1.0;
/// Spreads the ranks over the keys. Prime, and no factor of a number of keys.
const SPREAD: u64 = 7_919;
/// One answer in so many is read as a whole.
const READ_EVERY: u64 = 32;
/// Lenses besides the default one, each asked for as often.
const LENSES: [&str; 7] =
    ["recency", "consensus", "confidence", "trust", "votes", "skeptic", "layered"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// `POST /v1/assert`.
    Assert,
    /// `POST /v1/import` of a hundred lines.
    Batch,
    /// `GET /v1/query`.
    Question,
}

impl Kind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Assert => "signed asserts",
            Self::Batch => "signed asserts in batches of 100",
            Self::Question => "queries",
        }
    }

    /// Where the server times the whole of a request.
    pub(crate) fn endpoint(self) -> Option<&'static str> {
        match self {
            Self::Assert => Some("/v1/assert"),
            // Its time is that to the head of the answer, which comes first.
            Self::Batch => None,
            Self::Question => Some("/v1/query"),
        }
    }

    /// Claims or questions in one request.
    pub(crate) fn size(self) -> u64 {
        if self == Self::Batch { BATCH } else { 1 }
    }

    /// Connections, each with one request under way.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Assert => 256,
            Self::Batch => 32,
            Self::Question => 128,
        }
    }
}

/// What every request carries.
#[derive(Clone)]
pub(crate) struct Caller {
    host: HeaderValue,
    key: HeaderValue,
}

impl Caller {
    pub(crate) fn new(host: &str, key: &str) -> Result<Self> {
        let mut key: HeaderValue = format!("Bearer {key}").parse()?;
        key.set_sensitive(true);
        Ok(Self { host: host.parse()?, key })
    }

    fn ask(&self, request: hyper::http::request::Builder, body: Bytes) -> Request<Full<Bytes>> {
        let request =
            request.header(HOST, self.host.clone()).header(AUTHORIZATION, self.key.clone());
        // A path of ours is good, and so are headers that were headers before.
        request.body(Full::new(body)).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Acknowledged {
    id: String,
    position: u64,
    status: String,
}

impl Acknowledged {
    /// Nobody else has sent it, so it must be new.
    fn ack(self, number: u64) -> Result<Ack, String> {
        let id = self.id.parse().map_err(|_| "acknowledged without an id".to_owned())?;
        match self.status.as_str() {
            "created" => Ok(Ack { number, id, position: self.position }),
            other => Err(format!("a new claim is told `{other}`")),
        }
    }
}

pub(crate) struct Asserts {
    pub(crate) caller: Caller,
    pub(crate) claims: Claims,
}

impl Requests for Asserts {
    fn request(&self, n: u64) -> Request<Full<Bytes>> {
        let json = HeaderValue::from_static("application/json");
        let request = Request::post("/v1/assert").header(CONTENT_TYPE, json);
        self.caller.ask(request, self.claims.lines(n, 1))
    }

    fn check(&self, n: u64, body: &[u8], acks: &mut Vec<Ack>) -> Result<(), String> {
        let answer: Acknowledged =
            serde_json::from_slice(body).map_err(|_| "not an acknowledgement".to_owned())?;
        acks.push(answer.ack(self.claims.start + n)?);
        Ok(())
    }
}

pub(crate) struct Batches {
    pub(crate) caller: Caller,
    pub(crate) claims: Claims,
}

impl Requests for Batches {
    fn request(&self, n: u64) -> Request<Full<Bytes>> {
        let lines = HeaderValue::from_static("application/x-ndjson");
        let request = Request::post("/v1/import").header(CONTENT_TYPE, lines);
        self.caller.ask(request, self.claims.lines(n * BATCH, BATCH))
    }

    /// All lines must be taken, or the batch has failed; those that were taken are acknowledged.
    fn check(&self, n: u64, body: &[u8], acks: &mut Vec<Ack>) -> Result<(), String> {
        let begun = acks.len();
        let mut lines = serde_json::Deserializer::from_slice(body).into_iter::<serde_json::Value>();
        for line in 0..BATCH {
            let Some(Ok(result)) = lines.next() else { break };
            if let Ok(answer) = serde_json::from_value::<Acknowledged>(result) {
                acks.push(answer.ack(self.claims.start + n * BATCH + line)?);
            }
        }
        match acks.len() - begun {
            taken if taken as u64 == BATCH => Ok(()),
            _ => Err("a batch was not taken as a whole".to_owned()),
        }
    }
}

/// A question about one key after the other, under the default lens.
pub(crate) struct EachKey {
    pub(crate) caller: Caller,
}

impl Requests for EachKey {
    fn request(&self, n: u64) -> Request<Full<Bytes>> {
        let path = format!("/v1/query?subject={}&predicate={PREDICATE}&lens=authority", subject(n));
        self.caller.ask(Request::get(path), Bytes::new())
    }

    fn check(&self, _n: u64, body: &[u8], _acks: &mut Vec<Ack>) -> Result<(), String> {
        from_claims(body)
    }
}

/// An answer must rest on claims.
fn from_claims(body: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Answer {
        considered: u64,
    }
    match serde_json::from_slice(body) {
        Ok(Answer { considered: 1.. }) => Ok(()),
        _ => Err("an answer from no claims".to_owned()),
    }
}

/// Half of them under the default lens, the others under one of the seven.
pub(crate) struct Questions {
    caller: Caller,
    seed: u64,
    keys: u64,
    zipf: Zipf<f64>,
}

impl Questions {
    /// - `keys`: that there are claims about.
    pub(crate) fn new(caller: Caller, seed: u64, keys: u64) -> Result<Arc<Self>> {
        anyhow::ensure!(!keys.is_multiple_of(SPREAD), "{keys} keys are a multiple of {SPREAD}");
        Ok(Arc::new(Self { caller, seed, keys, zipf: Zipf::new(keys as f64, SKEW)? }))
    }

    fn path(&self, n: u64) -> String {
        let dice = mix(self.seed ^ mix(n));
        let rank = self.zipf.sample(&mut StdRng::seed_from_u64(dice)) as u64;
        let subject = subject(rank * SPREAD % self.keys);
        let lens = match dice % 14 {
            n if n % 2 == 0 => "authority",
            n => LENSES[usize::try_from(n / 2).unwrap_or(0)],
        };
        format!("/v1/query?subject={subject}&predicate={PREDICATE}&lens={lens}")
    }
}

impl Requests for Questions {
    fn request(&self, n: u64) -> Request<Full<Bytes>> {
        self.caller.ask(Request::get(self.path(n)), Bytes::new())
    }

    fn check(&self, n: u64, body: &[u8], _acks: &mut Vec<Ack>) -> Result<(), String> {
        if !n.is_multiple_of(READ_EVERY) {
            return if body.is_empty() { Err("an empty answer".to_owned()) } else { Ok(()) };
        }
        from_claims(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{Author, Stock};

    fn caller() -> Caller {
        Caller::new("127.0.0.1:1", "stk_x").unwrap()
    }

    #[test]
    fn questions_are_the_same_for_a_seed_and_favour_few_keys() {
        let (one, other) = (Questions::new(caller(), 1, 1_000), Questions::new(caller(), 2, 1_000));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.path(5), one.path(5));
        assert!((0..20).any(|n| one.path(n) != other.path(n)));
        let favourite = format!("subject={}&", subject(SPREAD % 1_000));
        let asked = (0..10_000).filter(|n| one.path(*n).contains(&favourite)).count();
        // 1/H(1000), 13 %, where all alike would be 0.1 %.
        assert!((1_000..1_700).contains(&asked), "{asked}");
        for lens in LENSES.into_iter().chain(["authority"]) {
            let asked = (0..2_000).filter(|n| one.path(*n).ends_with(lens)).count();
            assert!(asked > 80, "{lens}: {asked}");
        }
    }

    #[test]
    fn an_answer_from_no_claims_is_an_error() {
        let questions = Questions::new(caller(), 1, 1_000).unwrap();
        let check = |body: &[u8]| questions.check(0, body, &mut Vec::new());
        assert_eq!(check(br#"{"value":"x","considered":3}"#), Ok(()));
        assert!(check(br#"{"value":null,"considered":0}"#).is_err());
        assert!(check(b"<html>").is_err());
    }

    #[test]
    fn acknowledgements_are_read_one_by_one_and_by_the_line() {
        let mut stock = Stock::new(Author::new(1, 50));
        let claims = stock.claims(BATCH * 2).unwrap();
        let line = |n: u64, status: &str| {
            format!(r#"{{"line":{n},"id":"{:064x}","position":{},"status":"{status}"}}"#, n, n + 7)
        };
        let asserts = Asserts { caller: caller(), claims };
        let mut acks = Vec::new();
        assert_eq!(asserts.check(3, line(5, "created").as_bytes(), &mut acks), Ok(()));
        assert_eq!((acks[0].number, acks[0].position), (3, 12));
        // Somebody else's claim, or one that was sent before.
        assert!(asserts.check(3, line(5, "exists").as_bytes(), &mut acks).is_err());
        assert!(asserts.check(3, b"{}", &mut acks).is_err());

        let claims = stock.claims(BATCH * 2).unwrap();
        let batches = Batches { caller: caller(), claims };
        let mut acks = Vec::new();
        let mut body: Vec<String> = (0..BATCH).map(|n| line(n + 1, "created")).collect();
        body.push(r#"{"done":true,"lines":100}"#.into());
        assert_eq!(batches.check(1, body.join("\n").as_bytes(), &mut acks), Ok(()));
        assert_eq!((acks.len(), acks[99].number), (100, 199));
        acks.clear();
        body[40] = r#"{"line":41,"status":"error","error":{"code":"queue_full"}}"#.into();
        assert!(batches.check(1, body.join("\n").as_bytes(), &mut acks).is_err());
        // The others are there, and have to be.
        assert_eq!(acks.len(), 99);
        assert!(acks.iter().all(|ack| ack.number != 140));
    }
}
