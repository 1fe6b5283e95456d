//! Signed claims, ready to be sent before the clock starts, and what was said of each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::json;
use stemedb_bench::random::mix;
use stemedb_model::{
    Assertion, Body, LifecycleState, Millis, PredicateName, Provenance, Record, RecordId, Signed,
    SigningKey, Space, Subject, Value,
};

/// What all claims here are about.
pub(crate) const PREDICATE: &str = "holds";
/// Values that the claims about a key choose from.
pub(crate) const VALUES: u64 = 5;
/// Who signs the claims of the load, in turn.
pub(crate) const AUTHORS: u64 = 16;
/// Lines of a batch.
pub(crate) const BATCH: u64 = 100;
/// Claims that are signed together: whole batches.
const CHUNK: u64 = 100 * BATCH;

/// Name of a key's subject.
pub(crate) fn subject(key: u64) -> String {
    format!("entity/{key}")
}

/// What the server said of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Of the claim.
    pub(crate) number: u64,
    pub(crate) id: RecordId,
    pub(crate) position: u64,
}

/// Makes claims; the same number is the same claim.
pub(crate) struct Author {
    keys: Vec<SigningKey>,
    seed: u64,
    /// Keys that there are claims about.
    about: u64,
}

impl Author {
    pub(crate) fn new(seed: u64, about: u64) -> Self {
        let key = |n: u64| {
            let mut bytes = [9; 32];
            let parts = [mix(seed ^ n), n];
            for (place, part) in bytes.chunks_exact_mut(8).zip(parts) {
                place.copy_from_slice(&part.to_le_bytes());
            }
            SigningKey::from_seed(&bytes)
        };
        Self { keys: (0..AUTHORS).map(key).collect(), seed, about }
    }

    /// Public keys of all who sign.
    pub(crate) fn agents(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.agent_id().to_string()).collect()
    }

    fn signer(&self, number: u64) -> &SigningKey {
        let n = usize::try_from(number % AUTHORS).unwrap_or(0);
        &self.keys[n]
    }

    /// About any of the keys that were loaded, each as likely: a key that is asked for often also
    /// changes now and then.
    fn record(&self, number: u64) -> Result<Record> {
        let dice = mix(self.seed.wrapping_add(number));
        let source = Provenance {
            uri: Some(format!("https://example.org/reports/{}", dice % 9_973).into()),
            ..Provenance::default()
        };
        Ok(Record {
            space: Space::default(),
            agent: self.signer(number).agent_id(),
            // No two are the same record.
            at: Millis(1_750_000_000_000 + i64::try_from(number)?),
            log_id: None,
            body: Body::Assertion(Assertion {
                subject: Subject::parse(&subject((dice >> 16) % self.about))?,
                predicate: PredicateName::parse(PREDICATE)?,
                object: Value::Text(format!("value {}", (dice >> 8) % VALUES).into()),
                // Exact in binary and in decimal.
                confidence: 0.5 + (dice % 128) as f64 / 256.0,
                source: Some(source),
                valid_from: None,
                valid_to: None,
                epoch: None,
                lifecycle: LifecycleState::default(),
                parent: None,
                derived_from: Vec::new(),
                vector: None,
                visual_hash: None,
                meta: BTreeMap::new(),
            }),
        })
    }

    pub(crate) fn id(&self, number: u64) -> Result<RecordId> {
        Ok(self.record(number)?.id())
    }

    /// The claim as JSON, on a line: a body of `POST /v1/assert`, a line of `POST /v1/import`.
    fn line(&self, number: u64, out: &mut Vec<u8>) -> Result<()> {
        let record = self.record(number)?;
        let signed = Signed::seal(record, self.signer(number))?;
        let record = signed.record();
        let Body::Assertion(claim) = &record.body else { bail!("{number} is no claim") };
        let Value::Text(object) = &claim.object else { bail!("{number} claims no text") };
        let line = json!({
            "kind": "assertion",
            "subject": claim.subject.as_str(),
            "predicate": claim.predicate.as_str(),
            "object": &**object,
            "confidence": claim.confidence,
            "source": {"uri": claim.source.as_ref().and_then(|source| source.uri.as_deref())},
            "at": record.at.0,
            "agent": record.agent.to_string(),
            "signature": signed.signature().to_string(),
        });
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        Ok(())
    }
}

/// Claims that are signed and were not sent.
pub(crate) struct Stock {
    pub(crate) author: Author,
    /// The first that was never sent.
    next: u64,
    /// Of which claim the first chunk begins.
    first: u64,
    chunks: Vec<Chunk>,
}

/// As many lines as [`CHUNK`] says.
#[derive(Clone)]
struct Chunk {
    bytes: Bytes,
    /// Where each line ends.
    ends: Vec<u32>,
}

impl Chunk {
    fn sign(author: &Author, first: u64) -> Result<Self> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for number in first..first + CHUNK {
            author.line(number, &mut bytes)?;
            ends.push(u32::try_from(bytes.len())?);
        }
        Ok(Self { bytes: bytes.into(), ends })
    }

    /// These lines, from 0.
    fn lines(&self, lines: Range<u64>) -> Bytes {
        let end = |line: u64| {
            let before = usize::try_from(line).unwrap_or(0).checked_sub(1);
            before.map_or(0, |before| self.ends[before] as usize)
        };
        self.bytes.slice(end(lines.start)..end(lines.end))
    }
}

/// Claims that a run may send.
pub(crate) struct Claims {
    /// The number of the first.
    pub(crate) start: u64,
    first: u64,
    chunks: Vec<Chunk>,
}

impl Claims {
    /// So many, from the one that is `n` after the start. All within one batch.
    pub(crate) fn lines(&self, n: u64, count: u64) -> Bytes {
        let place = self.start + n - self.first;
        let line = place % CHUNK;
        let chunk = usize::try_from(place / CHUNK).unwrap_or(usize::MAX);
        self.chunks[chunk].lines(line..line + count)
    }
}

impl Stock {
    pub(crate) fn new(author: Author) -> Self {
        Self { author, next: 0, first: 0, chunks: Vec::new() }
    }

    /// Signs on all processors until there are this many that were never sent. They begin with a
    /// whole batch.
    pub(crate) fn claims(&mut self, count: u64) -> Result<Claims> {
        self.next = self.next.next_multiple_of(BATCH);
        // What was sent is let go.
        let gone = (self.next - self.first) / CHUNK;
        let gone = usize::try_from(gone)?.min(self.chunks.len());
        self.chunks.drain(..gone);
        self.first += u64::try_from(gone)? * CHUNK;
        let begin = self.first + u64::try_from(self.chunks.len())? * CHUNK;
        let missing = (self.next + count).saturating_sub(begin).div_ceil(CHUNK);
        let turn = AtomicU64::new(0);
        let author = &self.author;
        let sign = || -> Result<Vec<(u64, Chunk)>> {
            let mut signed = Vec::new();
            loop {
                let n = turn.fetch_add(1, Ordering::Relaxed);
                if n >= missing {
                    return Ok(signed);
                }
                signed.push((n, Chunk::sign(author, begin + n * CHUNK)?));
            }
        };
        let mut signed = std::thread::scope(|scope| -> Result<Vec<(u64, Chunk)>> {
            let threads = std::thread::available_parallelism()?.get();
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(sign)).collect();
            let mut all = Vec::new();
            for thread in threads {
                let part = thread.join().map_err(|_| anyhow::anyhow!("a signer panicked"))?;
                all.extend(part?);
            }
            Ok(all)
        })?;
        signed.sort_by_key(|(n, _)| *n);
        self.chunks.extend(signed.into_iter().map(|(_, chunk)| chunk));
        // Cheap: the bytes are shared.
        Ok(Claims { start: self.next, first: self.first, chunks: self.chunks.clone() })
    }

    /// So many of those were sent, whatever became of them.
    pub(crate) fn sent(&mut self, count: u64) {
        self.next += count;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn a_stock_gives_every_claim_once_and_in_order() {
        let mut stock = Stock::new(Author::new(1, 50));
        let mut seen = Vec::new();
        // Within a chunk, over its border, and after a run that stopped within a batch.
        for (wanted, sent) in [(250, 130), (CHUNK, CHUNK), (10, 10)] {
            let claims = stock.claims(wanted).unwrap();
            for n in 0..sent {
                let line: Json = serde_json::from_slice(&claims.lines(n, 1)).unwrap();
                let at = u64::try_from(line["at"].as_i64().unwrap() - 1_750_000_000_000).unwrap();
                assert_eq!(at, claims.start + n);
                seen.push(at);
            }
            stock.sent(sent);
        }
        let expected = (0..130).chain(200..200 + CHUNK).chain(200 + CHUNK..210 + CHUNK);
        assert_eq!(seen, expected.collect::<Vec<u64>>());
    }

    #[test]
    fn a_line_is_the_record_that_was_signed() {
        let author = Author::new(7, 1_000);
        for number in [0, 1, 17] {
            let mut line = Vec::new();
            author.line(number, &mut line).unwrap();
            let line: Json = serde_json::from_slice(&line).unwrap();
            let record = author.record(number).unwrap();
            let signature = line["signature"].as_str().unwrap().parse().unwrap();
            let signed = Signed::verify(record, signature).unwrap();
            assert_eq!(signed.id(), author.id(number).unwrap());
            let Body::Assertion(claim) = &signed.record().body else { panic!("no claim") };
            assert_eq!(line["subject"], claim.subject.as_str());
            assert_eq!(line["confidence"], claim.confidence);
        }
    }
}
