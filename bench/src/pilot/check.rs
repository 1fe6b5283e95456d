//! Afterwards: is everything there that was acknowledged?

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stemedb_bench::random::mix;
use stemedb_model::RecordId;
use ureq::Agent;

use crate::claims::{Ack, Author};

/// Claims that are read one by one.
const SAMPLE: usize = 1_000;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) acknowledged: u64,
    /// Acknowledgements that what is there contradicts.
    pub(crate) contradictions: u64,
    /// One of them.
    pub(crate) first: Option<String>,
    pub(crate) sampled: u64,
    /// From a kill to ready.
    pub(crate) restart_seconds: f64,
    /// What `wal verify` says.
    pub(crate) whole: bool,
    pub(crate) words: String,
    /// In the log.
    pub(crate) records: u64,
}

/// A record as it was found.
type Found = (RecordId, u64);

impl Checked {
    /// Of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let words = [self.words, other.words].into_iter().filter(|words| !words.is_empty());
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            contradictions: self.contradictions + other.contradictions,
            first: self.first.or(other.first),
            sampled: self.sampled + other.sampled,
            restart_seconds: self.restart_seconds.max(other.restart_seconds),
            whole: self.whole && other.whole,
            words: words.collect::<Vec<_>>().join("; "),
            records: self.records + other.records,
        }
    }

    fn contradict(&mut self, words: String) {
        self.contradictions += 1;
        self.first.get_or_insert(words);
    }

    /// Holds all acknowledgements against all that is there.
    pub(crate) fn compare(
        &mut self,
        acks: &[Ack],
        id: impl Fn(u64) -> Result<RecordId>,
        there: impl Iterator<Item = Result<Found>>,
    ) -> Result<()> {
        self.acknowledged = acks.len() as u64;
        let (mut wanted, mut taken) = (HashMap::new(), HashSet::new());
        for ack in acks {
            let real = id(ack.number)?;
            if real != ack.id {
                self.contradict(format!("{real} was acknowledged as {}", ack.id));
            }
            if !taken.insert(ack.position) {
                self.contradict(format!("two claims were acknowledged at {}", ack.position));
            }
            wanted.insert(real, ack.position);
        }
        for found in there {
            let (id, position) = found?;
            match wanted.remove(&id) {
                Some(told) if told != position => {
                    self.contradict(format!("{id}, acknowledged at {told}, is at {position}"));
                }
                _ => {}
            }
        }
        for (id, told) in wanted {
            self.contradict(format!("{id}, acknowledged at {told}, is lost"));
        }
        Ok(())
    }

    /// Everything that the server has.
    pub(crate) fn export(
        &mut self,
        url: &str,
        key: &str,
        acks: &[Ack],
        author: &Author,
    ) -> Result<()> {
        let agent: Agent = Agent::config_builder().build().into();
        let request = agent.get(format!("{url}/v1/export?live=false"));
        let mut response = request.header("Authorization", format!("Bearer {key}")).call()?;
        let lines = BufReader::new(response.body_mut().as_reader()).lines();
        let there = lines.map(|line| found(&line?));
        self.compare(acks, |number| author.id(number), there)
    }

    /// Asks for some of them by id.
    pub(crate) fn sample(&mut self, url: &str, key: &str, acks: &[Ack], seed: u64) -> Result<()> {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        for n in 0..SAMPLE.min(acks.len()) {
            let place = mix(seed ^ n as u64) % acks.len() as u64;
            let Ack { id, position, .. } = acks[usize::try_from(place)?];
            let request = agent.get(format!("{url}/v1/records/{id}"));
            let mut answer = request.header("Authorization", format!("Bearer {key}")).call()?;
            let text = answer.body_mut().read_to_string()?;
            self.sampled += 1;
            match found(&text) {
                Ok(there) if there == (id, position) => {}
                _ => self.contradict(format!(
                    "{id}, acknowledged at {position}, is read as {} {text}",
                    answer.status()
                )),
            }
        }
        Ok(())
    }

    /// Has every byte of the log of a stopped server checked.
    pub(crate) fn log(&mut self, binary: &Path, wal: &Path) -> Result<()> {
        #[derive(Deserialize)]
        struct Segment {
            records: u64,
        }
        let output = Command::new(binary).args(["wal", "verify", "--json"]).arg(wal).output()?;
        self.whole = output.status.success();
        self.words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        // Findings are lines of their own.
        let segments = lines.lines().filter_map(|line| serde_json::from_str::<Segment>(line).ok());
        self.records = segments.map(|segment| segment.records).sum();
        Ok(())
    }
}

/// A line of an export, or an answer about one record.
fn found(line: &str) -> Result<Found> {
    #[derive(Deserialize)]
    struct Line {
        position: u64,
        record: Record,
    }
    #[derive(Deserialize)]
    struct Record {
        id: String,
    }
    let Line { position, record } =
        serde_json::from_str(line).with_context(|| format!("no record: {line}"))?;
    Ok((record.id.parse()?, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> RecordId {
        let mut bytes = [3; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        RecordId(bytes)
    }

    fn compare(acks: &[Ack], there: &[Found]) -> Checked {
        let mut checked = Checked::default();
        let there = there.iter().map(|found| Ok(*found));
        checked.compare(acks, |number| Ok(id(number)), there).unwrap();
        checked
    }

    #[test]
    fn what_is_lost_moved_or_mixed_up_is_noticed() {
        let ack = |number, position| Ack { number, id: id(number), position };
        let acks = [ack(1, 11), ack(2, 12), ack(3, 13)];
        let there = [(id(1), 11), (id(9), 10), (id(3), 13), (id(2), 12)];
        let good = compare(&acks, &there);
        assert_eq!((good.acknowledged, good.contradictions), (3, 0));

        let lost = compare(&acks, &there[..3]);
        assert_eq!(lost.contradictions, 1);
        assert!(lost.first.unwrap().ends_with("acknowledged at 12, is lost"));

        let moved = compare(&acks, &[(id(1), 11), (id(2), 14), (id(3), 13)]);
        assert_eq!(moved.contradictions, 1);

        // Two claims told the same position, and one told the id of another.
        let twice = compare(&[ack(1, 11), ack(2, 11)], &[(id(1), 11), (id(2), 12)]);
        assert_eq!(twice.contradictions, 2);
        let mixed = compare(&[Ack { number: 1, id: id(2), position: 11 }], &[(id(1), 11)]);
        assert_eq!(mixed.contradictions, 1);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_no_record() {
        let id = "00".repeat(32);
        let line = format!(r#"{{"position":7,"record":{{"id":"{id}","kind":"vote"}}}}"#);
        assert_eq!(found(&line).unwrap().1, 7);
        assert!(found("{}").is_err());
        assert!(found("").is_err());
    }
}
