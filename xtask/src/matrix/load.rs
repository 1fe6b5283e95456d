//! Concurrent writers and a reader, and the ledger of every answer they got.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::node::{Answer, Client};
use crate::server::Claim;

pub(crate) const WRITERS: usize = 16;
/// A refused writer comes back after this.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// Between two looks of the reader.
const BETWEEN_READS: Duration = Duration::from_millis(4);
/// The reader looks among so many of the newest claims.
const NEWEST: u64 = 96;
/// Longest that a pause waits for answers under way.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a writer was told about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Created {
        position: u64,
    },
    Exists {
        position: u64,
    },
    /// It is not in the log and will not appear.
    NotWritten {
        code: String,
    },
    /// It may appear.
    Indeterminate {
        code: String,
    },
    /// It is in the log and cannot be read.
    Durable {
        position: u64,
    },
    /// No answer, or one that says nothing.
    Nothing {
        words: String,
    },
}

impl Told {
    fn of(answer: anyhow::Result<Answer>) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Self::Nothing { words: format!("{error:#}") },
        };
        let position = answer.body.get("position").and_then(serde_json::Value::as_u64);
        let code = answer.text("code").to_owned();
        match (answer.status, answer.text("outcome"), position) {
            (201, _, Some(position)) => Self::Created { position },
            (200, _, Some(position)) => Self::Exists { position },
            (_, "not_written", _) => Self::NotWritten { code },
            (_, "indeterminate", _) => Self::Indeterminate { code },
            (_, "durable_not_applied", Some(position)) => Self::Durable { position },
            // Turned away before the log saw it.
            (429 | 503, _, _) if code != "indeterminate" => Self::NotWritten { code },
            (status, _, _) => Self::Nothing { words: format!("{status} {}", answer.body) },
        }
    }

    /// Where it promises the claim to be.
    pub(crate) fn promised(&self) -> Option<u64> {
        match self {
            Self::Created { position } | Self::Exists { position } | Self::Durable { position } => {
                Some(*position)
            }
            Self::NotWritten { .. } | Self::Indeterminate { .. } | Self::Nothing { .. } => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) claim: u64,
    /// Since the ledger was opened.
    pub(crate) began: Duration,
    pub(crate) took: Duration,
    pub(crate) told: Told,
}

impl Attempt {
    pub(crate) fn ended(&self) -> Duration {
        self.began + self.took
    }
}

/// Everything that was said about claims.
pub(crate) struct Ledger {
    opened: Instant,
    attempts: Mutex<Vec<Attempt>>,
    next: AtomicU64,
    acks: AtomicU64,
    /// Claims that were read, at their positions.
    seen: Mutex<HashMap<u64, u64>>,
    problems: Mutex<Vec<String>>,
    pub(crate) reads: AtomicU64,
    read_failures: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            attempts: Mutex::default(),
            next: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            seen: Mutex::default(),
            problems: Mutex::default(),
            reads: AtomicU64::new(0),
            read_failures: Mutex::default(),
        }
    }

    /// The moment as the ledger counts it.
    pub(crate) fn moment(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.opened)
    }

    pub(crate) fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    pub(crate) fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    /// How many claims got no answer, or one that says nothing.
    pub(crate) fn unanswered(&self) -> usize {
        let nothing = |one: &&Attempt| matches!(one.told, Told::Nothing { .. });
        lock(&self.attempts).iter().filter(nothing).count()
    }

    /// How many claims were refused with this code, and are not in the log.
    pub(crate) fn refused(&self, code: &str) -> usize {
        let refused =
            |one: &&Attempt| matches!(&one.told, Told::NotWritten { code: told } if told == code);
        lock(&self.attempts).iter().filter(refused).count()
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        lock(&self.attempts).clone()
    }

    /// By claim, in the order in which the answers came.
    pub(crate) fn by_claim(&self) -> BTreeMap<u64, Vec<Attempt>> {
        let mut by_claim: BTreeMap<u64, Vec<Attempt>> = BTreeMap::new();
        for attempt in lock(&self.attempts).iter() {
            by_claim.entry(attempt.claim).or_default().push(attempt.clone());
        }
        by_claim
    }

    pub(crate) fn seen(&self) -> HashMap<u64, u64> {
        lock(&self.seen).clone()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        lock(&self.problems).clone()
    }

    pub(crate) fn read_failures(&self) -> Vec<String> {
        lock(&self.read_failures).clone()
    }

    /// The server was taken away under the reader.
    pub(crate) fn forgive_reads(&self) {
        lock(&self.read_failures).clear();
    }

    /// Sends one claim and takes down the answer.
    pub(crate) fn send(&self, client: &Client, claim: u64) -> Told {
        let began = self.now();
        let told = Told::of(client.post("/v1/assert", &Claim(claim).body()));
        let took = self.now().saturating_sub(began);
        self.take_down(Attempt { claim, began, took, told: told.clone() });
        told
    }

    fn take_down(&self, attempt: Attempt) {
        if attempt.told.promised().is_some() {
            self.acks.fetch_add(1, Ordering::Relaxed);
        }
        lock(&self.attempts).push(attempt);
    }

    #[cfg(test)]
    pub(crate) fn note(&self, claim: u64, told: Told) {
        self.take_down(Attempt { claim, began: self.now(), took: Duration::ZERO, told });
    }

    /// Sends a claim that nobody has sent.
    pub(crate) fn send_next(&self, client: &Client) -> Told {
        let claim = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(client, claim)
    }

    /// Looks one claim up by its key. What was there once must be there.
    fn look(&self, client: &Client, claim: u64) {
        let before = lock(&self.seen).get(&claim).copied();
        let path = format!("/v1/query?subject=harness/{claim}&predicate=holds");
        let began = Instant::now();
        let answer = client.get(&path);
        self.reads.fetch_add(1, Ordering::Relaxed);
        let answer = match answer {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => {
                let words =
                    format!("{} {}: {}", answer.status, answer.text("code"), answer.text("detail"));
                return lock(&self.read_failures).push(words);
            }
            Err(error) => return lock(&self.read_failures).push(format!("{error:#}")),
        };
        if began.elapsed() > super::judge::ANSWER_MAX {
            let words = format!("a read took {:.1} s", began.elapsed().as_secs_f64());
            lock(&self.problems).push(words);
        }
        let found = answer.body.pointer("/assertions/0/position");
        let found = found.and_then(serde_json::Value::as_u64);
        match (before, found) {
            (Some(first), None) => {
                lock(&self.problems)
                    .push(format!("claim {claim} was read at {first} and vanished"));
            }
            (Some(first), Some(now)) if first != now => {
                lock(&self.problems)
                    .push(format!("claim {claim} was read at {first}, then at {now}"));
            }
            (None, Some(position)) => {
                lock(&self.seen).insert(claim, position);
            }
            _ => {}
        }
    }
}

/// The writers and the reader at work.
pub(crate) struct Load {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    busy: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(client: &Client, ledger: &Arc<Ledger>) -> Self {
        let mut load = Self::of_writers(client, ledger);
        let (stop, ledger, client) = (Arc::clone(&load.stop), Arc::clone(ledger), client.clone());
        load.threads.push(std::thread::spawn(move || {
            let mut turn = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let next = ledger.next.load(Ordering::Relaxed);
                // Steps through the newest ones, those under way among them.
                turn = turn.wrapping_add(7);
                if let Some(claim) = next.checked_sub(1 + turn % NEWEST) {
                    ledger.look(&client, claim);
                }
                std::thread::sleep(BETWEEN_READS);
            }
        }));
        load
    }

    /// Without the reader: what is read at one node need not be at another yet.
    pub(crate) fn of_writers(client: &Client, ledger: &Arc<Ledger>) -> Self {
        let mut load = Self {
            ledger: Arc::clone(ledger),
            stop: Arc::default(),
            pause: Arc::default(),
            busy: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..WRITERS {
            let (stop, pause) = (Arc::clone(&load.stop), Arc::clone(&load.pause));
            let (busy, ledger) = (Arc::clone(&load.busy), Arc::clone(ledger));
            let client = client.clone();
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    busy.fetch_add(1, Ordering::SeqCst);
                    if pause.load(Ordering::SeqCst) {
                        busy.fetch_sub(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    let told = ledger.send_next(&client);
                    busy.fetch_sub(1, Ordering::SeqCst);
                    if told.promised().is_none() {
                        std::thread::sleep(AFTER_REFUSAL);
                    }
                }
            }));
        }
        load
    }

    /// Sends nothing more until told to go on; returns once all answers are there.
    pub(crate) fn pause(&self) {
        self.pause.store(true, Ordering::SeqCst);
        let began = Instant::now();
        while self.busy.load(Ordering::SeqCst) > 0 && began.elapsed() < PAUSE_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn go_on(&self) {
        self.pause.store(false, Ordering::SeqCst);
    }

    /// Waits until this many more claims are acknowledged; false if that takes too long.
    pub(crate) fn wait_for_acks(&self, more: u64, within: Duration) -> bool {
        let until = self.ledger.acks() + more;
        let began = Instant::now();
        while self.ledger.acks() < until {
            if began.elapsed() > within || super::interrupt::asked() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Ends after the answers under way.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there has been reported by its own message, and shows as missing answers.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_turned_away_has_written_nothing() {
        let ledger = Ledger::new();
        for (status, code) in [(429, "rate_limited"), (503, "overloaded"), (502, "")] {
            let told = Told::of(Ok(Answer { status, body: json!({"code": code}) }));
            assert_eq!(matches!(told, Told::NotWritten { .. }), status != 502, "{told:?}");
            ledger.note(u64::from(status), told);
        }
        let told = Told::of(Ok(Answer { status: 503, body: json!({"code": "indeterminate"}) }));
        assert!(matches!(told, Told::Nothing { .. }), "{told:?}");
        assert_eq!((ledger.refused("rate_limited"), ledger.refused("overloaded")), (1, 1));
        assert_eq!((ledger.unanswered(), ledger.acks()), (1, 0));
    }
}
