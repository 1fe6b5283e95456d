//! Readers and writers who know nothing of nodes: they ask the load balancer, and take down what they
//! were answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::node::{Answer, Client};
use crate::server::Claim;
use crate::talk::Author;

/// What a request is, for those who may send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A question.
    Get,
    /// A record that its author signed, under its id.
    Put,
    /// A claim that the node signs.
    Post,
}

impl Kind {
    /// As many as run at a time, of each.
    const EACH: [(Kind, usize); 3] = [(Kind::Get, 4), (Kind::Put, PUTS), (Kind::Post, POSTS)];
}

/// As many may be under way when a node goes.
pub(crate) const PUTS: usize = 2;
pub(crate) const POSTS: usize = 2;
/// Two processors are all there is: the load is a trickle that never ends, not a flood.
const REST: Duration = Duration::from_millis(3);

/// Everything since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    good: BTreeMap<Kind, usize>,
    /// Requests that were not answered as they should be, and why.
    pub(crate) bad: Vec<(Kind, String)>,
    /// Of the bad ones, those that were refused, with words that say so.
    pub(crate) refused: usize,
}

impl Tally {
    pub(crate) fn good(&self, kind: Kind) -> usize {
        self.good.get(&kind).copied().unwrap_or(0)
    }

    pub(crate) fn bad(&self, kind: Kind) -> usize {
        self.bad.iter().filter(|(of, _)| *of == kind).count()
    }

    /// One of each, for people.
    pub(crate) fn words(&self) -> String {
        let count = |kind| format!("{kind:?} {} ({} failed)", self.good(kind), self.bad(kind));
        let counts = Kind::EACH.map(|(kind, _)| count(kind)).join(", ");
        let mut reasons: Vec<_> = self.bad.iter().map(|(kind, why)| (kind, why)).collect();
        reasons.sort();
        reasons.dedup();
        let reasons: Vec<_> =
            reasons.iter().take(4).map(|(kind, why)| format!("\n       {kind:?}: {why}")).collect();
        format!("{counts}{}", reasons.concat())
    }
}

pub(crate) struct Load {
    client: Client,
    author: Author,
    next: AtomicU64,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    acked: Mutex<Vec<String>>,
}

impl Load {
    pub(crate) fn new(client: Client, seed: u64) -> Self {
        Self {
            client,
            author: Author::new(seed),
            next: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            acked: Mutex::default(),
        }
    }

    /// Runs it while `work` runs; what was acknowledged meanwhile.
    pub(crate) fn during(&self, work: impl FnOnce(&Self) -> Result<()>) -> Result<Vec<String>> {
        let result = std::thread::scope(|scope| {
            for (kind, count) in Kind::EACH {
                for _ in 0..count {
                    // One that breaks connects anew.
                    scope.spawn(move || self.work(kind));
                }
            }
            let result = work(self);
            self.stop.store(true, Ordering::Relaxed);
            result
        });
        result.map(|()| std::mem::take(&mut *lock(&self.acked)))
    }

    /// What came of it since the last time.
    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut *lock(&self.tally))
    }

    fn work(&self, kind: Kind) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let answer = self.request(kind, number);
            self.note(kind, answer);
            std::thread::sleep(REST);
        }
    }

    fn request(&self, kind: Kind, number: u64) -> Result<Answer> {
        match kind {
            Kind::Get => {
                let about = number.saturating_sub(20);
                self.client.get(&format!("/v1/query?subject=harness/{about}&predicate=holds"))
            }
            Kind::Put => {
                let statement = self.author.statement(number, 0)?;
                self.client.put(&format!("/v1/records/{}", statement.id), statement.json())
            }
            Kind::Post => self.client.post("/v1/assert", &Claim(number).body().to_string()),
        }
    }

    fn note(&self, kind: Kind, answer: Result<Answer>) {
        let mut tally = lock(&self.tally);
        match answer {
            Ok(answer) if matches!((kind, answer.status), (Kind::Get, 200) | (_, 200 | 201)) => {
                if kind != Kind::Get {
                    match answer.field("id") {
                        Some(id) => lock(&self.acked).push(id),
                        None => tally.bad.push((kind, format!("no id in {}", answer.text))),
                    }
                }
                *tally.good.entry(kind).or_default() += 1;
            }
            Ok(answer) => {
                let code = answer.field("code");
                let refused =
                    answer.field("outcome").is_some_and(|outcome| outcome == "not_written")
                        || matches!(code.as_deref(), Some("draining" | "not_ready"));
                tally.refused += usize::from(refused);
                let text: String = answer.text.chars().take(160).collect();
                tally.bad.push((kind, format!("{}: {}", answer.status, code.unwrap_or(text))));
            }
            Err(error) => tally.bad.push((kind, format!("{error:#}"))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
