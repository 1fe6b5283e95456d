//! One phase: find the rate that holds, then hold it for the whole time, and see where time goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use stemedb_bench::budget::{Grown, REQUESTS, SYNCS};

use crate::beside::{Beside, Reads};
use crate::check::Checked;
use crate::claims::{Ack, Stock};
use crate::goals::Goal;
use crate::load::{Clients, Length, Outcome, Requests, Stream};
use crate::requests::{Asserts, Batches, Caller, EachKey, Kind, Questions};
use crate::search::{Tried, highest};
use crate::site::Site;
use crate::watch::{Rest, Sample, Spent};

/// A rate that held in a short trial and not for the whole time is lowered by this, so often.
const LOWER: f64 = 0.8;
const FULL_MAX: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Part {
    /// Queries at what was loaded.
    Queries,
    /// Durable signed asserts, one a request.
    Asserts,
    /// Both at once.
    Mixed,
    /// Both at once, and reads as a backup makes them.
    Backup,
    /// Asserts in batches; not a criterion.
    Batches,
}

impl Part {
    /// In the order in which they run: queries come before there are more claims.
    pub(crate) const ALL: [Self; 5] =
        [Self::Queries, Self::Asserts, Self::Mixed, Self::Backup, Self::Batches];
    pub(crate) const JUDGED: [Self; 4] = [Self::Asserts, Self::Queries, Self::Mixed, Self::Backup];

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Queries => "queries",
            Self::Asserts => "asserts",
            Self::Mixed => "both at once",
            Self::Backup => "both, beside reads as of a backup",
            Self::Batches => "asserts in batches",
        }
    }

    /// Where there is little room.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Queries => "queries",
            Self::Asserts => "asserts",
            Self::Mixed => "both",
            Self::Backup => "both, backup",
            Self::Batches => "batches",
        }
    }

    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Queries => &[Kind::Question],
            Self::Asserts => &[Kind::Assert],
            Self::Mixed | Self::Backup => &[Kind::Assert, Kind::Question],
            Self::Batches => &[Kind::Batch],
        }
    }
}

/// What was found of a part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) part: Part,
    pub(crate) goals: Vec<Goal>,
    /// How long a rate has to hold.
    pub(crate) seconds: f64,
    /// Short, in the order in which they were made.
    pub(crate) tries: Vec<Vec<(Kind, Outcome)>>,
    /// Of the whole length, each lower than the one before; the last one counts. None if no rate
    /// held in a trial.
    pub(crate) full: Vec<Measured>,
    /// Memory of the server, once a second.
    pub(crate) watch: Vec<Sample>,
    /// What was there afterwards.
    pub(crate) checked: Checked,
}

/// The load for the whole time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) streams: Vec<(Kind, Outcome)>,
    /// In seconds since the beginning of the run.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Records in the log when it began.
    pub(crate) records: f64,
    /// By thread of the server, in processors.
    pub(crate) threads: Vec<(String, f64)>,
    /// In processors, too.
    pub(crate) server: f64,
    pub(crate) clients: f64,
    pub(crate) idle: f64,
    pub(crate) stolen: f64,
    pub(crate) syncs_per_second: f64,
    /// Mean, in microseconds.
    pub(crate) sync: f64,
    pub(crate) records_per_group: f64,
    pub(crate) log_bytes_per_second: f64,
    /// Mean microseconds of an assert, by step.
    pub(crate) steps: Vec<(String, f64)>,
    /// Mean microseconds of a query within the server.
    pub(crate) query: Option<f64>,
    /// The bucket of the server's own histogram that the 99th percentile lies in, in seconds; `None`
    /// past the last one.
    pub(crate) server_p99: Vec<(Kind, Option<f64>)>,
    pub(crate) beside: Option<Reads>,
}

/// How thoroughly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) trial: Duration,
    pub(crate) full: Duration,
    /// How near to the highest rate that holds.
    pub(crate) close: f64,
    /// Before a phase, for what the one before left to do.
    pub(crate) rest: Duration,
    pub(crate) seed: u64,
}

/// What all phases share.
pub(crate) struct Bench<'a> {
    pub(crate) site: &'a Site,
    pub(crate) clients: Clients,
    pub(crate) caller: Caller,
    pub(crate) stock: Stock,
    /// Keys that there are claims about.
    pub(crate) keys: u64,
    pub(crate) acks: Vec<Ack>,
    pub(crate) begun: Instant,
    pub(crate) plan: Plan,
    /// Questions asked so far.
    pub(crate) asked: u64,
}

impl Bench<'_> {
    /// Asks about every key once, as fast as they are answered, and then as it will be asked, at this rate:
    /// the first answer to a key begins with its claims, and what is measured is a node that has answered
    /// for a while.
    pub(crate) fn warm(&self, per_second: f64) -> Result<()> {
        let caller = || self.caller.clone();
        let each: Arc<dyn Requests> = Arc::new(EachKey { caller: caller() });
        let mixed: Arc<dyn Requests> = Questions::new(caller(), !self.plan.seed, self.keys)?;
        let asked = [
            (each, self.keys as f64, Duration::from_secs(1)),
            (mixed, per_second, self.plan.trial),
        ];
        for (requests, per_second, time) in asked {
            let connections = Kind::Question.connections();
            let stream = Stream { requests, per_second, connections, p99: Duration::MAX };
            let length = Length { time, until_error: true };
            for (outcome, _) in self.clients.run(&[stream], length)? {
                let all = outcome.answered == outcome.planned;
                ensure!(all, "not all questions were answered: {:?}", outcome.errors);
                eprintln!("    warm: {} answers in {:.0} s", outcome.answered, outcome.seconds);
            }
        }
        Ok(())
    }

    /// - `goals`: what is asked.
    /// - `most`: requests' worth of each kind a second that is tried first, at most the goal.
    pub(crate) fn phase(&mut self, part: Part, goals: Vec<Goal>, most: &[f64]) -> Result<Phase> {
        let Plan { trial, full, close, .. } = self.plan;
        let scaled = |share: f64| -> Vec<f64> { most.iter().map(|rate| rate * share).collect() };
        let mut tries = Vec::new();
        let found = highest(close, |share| {
            self.site.rest(self.plan.rest)?;
            let length = Length { time: trial, until_error: true };
            let beside = self.beside(part)?;
            let streams = self.send(&goals, &scaled(share), length)?;
            if let Some(beside) = beside {
                beside.finish()?;
            }
            let tried = tried(&goals, &streams, share);
            say(share, &goals, &streams);
            tries.push(streams);
            Ok(tried)
        })?;
        let seconds = full.as_secs_f64();
        let (full, watch, checked) = Default::default();
        let mut phase = Phase { part, goals, seconds, tries, full, watch, checked };
        let Some(mut share) = found else { return Ok(phase) };
        for _ in 0..FULL_MAX {
            self.site.rest(self.plan.rest)?;
            let measured = self.measure(part, &phase.goals, &scaled(share))?;
            let holds = holds(&phase.goals, &measured.streams);
            say(share, &phase.goals, &measured.streams);
            phase.full.push(measured);
            if holds {
                break;
            }
            share *= LOWER;
        }
        Ok(phase)
    }

    fn beside(&self, part: Part) -> Result<Option<Beside>> {
        if part != Part::Backup {
            return Ok(None);
        }
        let export = format!("{}/v1/export?live=false", self.site.server.url());
        Beside::start(&self.site.wal(), export, self.site.key.clone()).map(Some)
    }

    /// Sends requests of each goal's kind at these rates.
    fn send(
        &mut self,
        goals: &[Goal],
        rates: &[f64],
        length: Length,
    ) -> Result<Vec<(Kind, Outcome)>> {
        let mut streams = Vec::new();
        for (goal, rate) in goals.iter().zip(rates) {
            let per_second = rate / goal.kind.size() as f64;
            let caller = self.caller.clone();
            // One more than is needed, for what is rounded.
            let count = (rate * length.time.as_secs_f64()) as u64 + goal.kind.size();
            let requests: Arc<dyn Requests> = match goal.kind {
                Kind::Assert => Arc::new(Asserts { caller, claims: self.stock.claims(count)? }),
                Kind::Batch => Arc::new(Batches { caller, claims: self.stock.claims(count)? }),
                Kind::Question => {
                    // Not the same ones again.
                    Questions::new(caller, self.plan.seed ^ self.asked, self.keys)?
                }
            };
            let connections = goal.kind.connections();
            streams.push(Stream { requests, per_second, connections, p99: goal.p99() });
        }
        let outcomes = self.clients.run(&streams, length)?;
        let mut named = Vec::new();
        for (goal, (outcome, acks)) in goals.iter().zip(outcomes) {
            match goal.kind {
                Kind::Question => self.asked += outcome.sent,
                kind => self.stock.sent(outcome.sent * kind.size()),
            }
            self.acks.extend(acks);
            named.push((goal.kind, outcome));
        }
        Ok(named)
    }

    fn measure(&mut self, part: Part, goals: &[Goal], rates: &[f64]) -> Result<Measured> {
        let length = Length { time: self.plan.full, until_error: false };
        // Signed before the clock starts, so that nobody signs beside it.
        for (goal, rate) in goals.iter().zip(rates) {
            if goal.kind != Kind::Question {
                let count = rate * length.time.as_secs_f64();
                self.stock.claims(count as u64 + 2 * goal.kind.size())?;
            }
        }
        let beside = self.beside(part)?;
        let (server, own) = (self.site.server.id(), std::process::id());
        let metrics = self.site.server.metrics()?;
        let (at_server, at_own, rest) = (Spent::of(server)?, Spent::of(own)?, Rest::now()?);
        let from = self.begun.elapsed().as_secs_f64();
        let streams = self.send(goals, rates, length)?;
        let to = self.begun.elapsed().as_secs_f64();
        let (server, own, rest_after) = (Spent::of(server)?, Spent::of(own)?, Rest::now()?);
        let records = metrics.get("stemedb_wal_durable_position").copied().unwrap_or(0.0);
        let grown = Grown::new(metrics, self.site.server.metrics()?);
        let beside = beside.map(Beside::finish).transpose()?;
        let seconds = to - from;
        let a_second = |spent: f64| spent / seconds;
        let mean_of = |kind| {
            let stream = streams.iter().find(|(of, _)| *of == kind);
            stream.map(|(_, outcome)| outcome.mean)
        };
        let steps = mean_of(Kind::Assert).map(|mean| grown.assert_steps(mean)).transpose()?;
        let query = "{endpoint=\"/v1/query\"}";
        let query = mean_of(Kind::Question).map(|_| grown.mean(REQUESTS, query)).transpose()?;
        let server_p99 = streams
            .iter()
            .filter_map(|(kind, _)| Some((*kind, grown.request_quantile(kind.endpoint()?, 0.99))));
        let server_p99 = server_p99.collect();
        let written = grown.by(&format!("{SYNCS}_count")) > 0.0;
        let threads = server.by_thread(&at_server).into_iter();
        Ok(Measured {
            from,
            to,
            records,
            threads: threads.map(|(name, spent)| (name, a_second(spent))).collect(),
            server: a_second(server.since(&at_server)),
            clients: a_second(own.since(&at_own)),
            idle: a_second(rest_after.idle - rest.idle),
            stolen: a_second(rest_after.stolen - rest.stolen),
            syncs_per_second: a_second(grown.by(&format!("{SYNCS}_count"))),
            sync: if written { grown.mean(SYNCS, "")? } else { 0.0 },
            records_per_group: if written { grown.records_per_group() } else { 0.0 },
            log_bytes_per_second: a_second(grown.by("stemedb_wal_bytes_written_total")),
            steps: steps.unwrap_or_default(),
            query,
            server_p99,
            beside,
            streams,
        })
    }
}

fn holds(goals: &[Goal], streams: &[(Kind, Outcome)]) -> bool {
    goals.iter().zip(streams).all(|(goal, (_, outcome))| outcome.holds(goal.p99()))
}

fn tried(goals: &[Goal], streams: &[(Kind, Outcome)], share: f64) -> Tried {
    let through = streams.iter().map(|(_, outcome)| {
        share * outcome.answered_per_second() / outcome.per_second.max(f64::MIN_POSITIVE)
    });
    Tried { holds: holds(goals, streams), through: through.fold(1.0, f64::min) }
}

fn say(share: f64, goals: &[Goal], streams: &[(Kind, Outcome)]) {
    for (goal, (kind, outcome)) in goals.iter().zip(streams) {
        eprintln!(
            "    {:5.1} %: {:.0} {}/s for {:.1} s: {} of {} answered, {} failed, p99 {:.1} ms{}",
            share * 100.0,
            outcome.per_second * kind.size() as f64,
            kind.describe(),
            outcome.seconds,
            outcome.answered,
            outcome.planned,
            outcome.failed(),
            outcome.latency.p99 / 1e3,
            if outcome.holds(goal.p99()) { "" } else { "; does not hold" },
        );
    }
}

#[cfg(test)]
mod tests {
    use stemedb_bench::stats::Quantiles;

    use super::*;

    #[test]
    fn both_must_hold_and_the_slower_one_says_what_came_through() {
        let goal = |kind, p99_ms| Goal { kind, per_second: 100.0, p99_ms };
        let goals = [goal(Kind::Assert, 50), goal(Kind::Question, 20)];
        let outcome = |answered: u64, p99_ms: f64| Outcome {
            per_second: 50.0,
            planned: 500,
            answered,
            seconds: 10.0,
            latency: Quantiles { p99: p99_ms * 1e3, ..Quantiles::default() },
            ..Outcome::default()
        };
        let streams = |questions| [(Kind::Assert, outcome(500, 30.0)), (Kind::Question, questions)];
        assert!(tried(&goals, &streams(outcome(500, 19.0)), 0.5).holds);
        // Good enough for an assert only.
        assert!(!tried(&goals, &streams(outcome(500, 30.0)), 0.5).holds);
        let slow = tried(&goals, &streams(outcome(250, 10.0)), 0.5);
        assert!(!slow.holds);
        assert!((slow.through - 0.25).abs() < 1e-9, "{slow:?}");
    }
}
