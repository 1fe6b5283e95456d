//! `bench`: what this machine and this disk hold.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use stemedb_io::Clock;
use stemedb_model::{LogId, Millis, Signed, SigningKey};

use super::doctor::time_syncs;
use crate::config::Config;
use crate::context::Context;
use crate::database::{self, First};
use crate::failure::Failure;
use crate::record::Fields;
use crate::remote::Remote;
use crate::table::{Align, Table};
use crate::{keys, record, serve};

const SECONDS_MAX: u64 = 3_600;
const CLIENTS_MAX: u64 = 1_024;
const KEYS_MAX: u64 = 1_000_000;
/// Who disagree about each key.
const AGENTS: u64 = 5;

/// Measure this machine: syncs of the disk, signed claims, answers.
///
/// Makes a database in a folder of its own under --dir, which goes when it is over, and asks it over
/// HTTP on loopback from this process: clients and server share the processors. Each claim is signed,
/// verified, synced and readable before the next of its client is sent. A closed loop: a client waits for
/// its answer. Exit status: 0, or 2 if anything failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb bench
  stemedb bench --dir /mnt/candidate --seconds 30
  stemedb bench --clients 64 --json")]
pub struct Args {
    /// A folder on the file system to be measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    /// Clients at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub clients: u64,
    /// Keys that claims and questions are about.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub keys: u64,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    measured: &'static str,
    clients: u64,
    requests: usize,
    seconds: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
}

/// Measures and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cannot = |error| {
        Failure::error(format!("cannot make a folder in {}", args.dir.display()))
            .because(error)
            .hint("--dir DIR names a folder on the file system to be measured")
    };
    let scratch = tempfile::Builder::new().prefix(".stemedb-bench-").tempdir_in(&args.dir);
    let scratch = scratch.map_err(cannot)?;
    let mut lines = vec![syncs(scratch.path(), &*context.env.clock)?];
    let running =
        serve::start(&config(scratch.path(), args.clients), &First::default(), &context.env)?;
    let measured = database::wait_ready(&running.engine, context)
        .and_then(|()| Bench::new(&args, running.url(), context).all(&mut lines));
    let stopped = running.stop();
    measured?;
    stopped?;
    if context.json {
        return lines.iter().try_for_each(|line| context.print_json(line));
    }
    context.print(&table(&lines))
}

/// As it comes, but for what stands in the way of somebody who is alone with it.
fn config(dir: &Path, clients: u64) -> Config {
    let mut config = Config::default();
    config.server.data_dir = dir.join("data");
    config.server.listen.set_port(0);
    config.auth.enabled = false;
    config.log.filter = "error".into();
    config.rate_limit.write.per_second = 0;
    config.rate_limit.read.per_second = 0;
    let clients = usize::try_from(clients).unwrap_or(usize::MAX).saturating_add(16);
    config.limits.connections_per_address = config.limits.connections_per_address.max(clients);
    config.limits.connections = config.limits.connections.max(clients);
    config.limits.requests = config.limits.requests.max(clients);
    config
}

/// The raw limit: nothing durable is faster than that, one after the other.
fn syncs(dir: &Path, clock: &dyn Clock) -> Result<Line, Failure> {
    let took = time_syncs(dir, clock).map_err(|error| {
        Failure::error(format!("cannot sync in {}", dir.display())).because(error)
    })?;
    let whole = took.iter().sum();
    Ok(Line::of("4 KiB written and synced", 1, whole, took))
}

struct Bench<'a> {
    args: &'a Args,
    url: String,
    context: &'a Context,
    agents: Vec<SigningKey>,
    next: AtomicU64,
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, url: String, context: &'a Context) -> Self {
        let agents = (0..AGENTS).map(|_| keys::generate(context.env.rng.as_ref())).collect();
        Self { args, url, context, agents, next: AtomicU64::new(0) }
    }

    fn all(&self, lines: &mut Vec<Line>) -> Result<(), Failure> {
        let claim = |remote: &Remote, number| {
            let signed = self.claim(number)?;
            remote.post_json("/v1/assert", &record::to_json(&signed))?.ok().map(drop)
        };
        let ask = |remote: &Remote, number: u64| {
            let subject = format!("bench/{}", number.wrapping_mul(7_919) % self.args.keys);
            let parameters = [("subject", subject), ("predicate", "is".to_owned())];
            remote.get("/v1/skeptic", &parameters)?.ok().map(drop)
        };
        let clients = self.args.clients;
        lines.push(self.measure("signed claims", 1, &claim)?);
        if clients > 1 {
            lines.push(self.measure("signed claims", clients, &claim)?);
        }
        lines.push(self.measure("answers", clients, &ask)?);
        Ok(())
    }

    /// A claim that nobody has made.
    fn claim(&self, number: u64) -> Result<Signed, Failure> {
        let agent = number / self.args.keys;
        let at = usize::try_from(agent % AGENTS).unwrap_or_default();
        let Some(key) = self.agents.get(at) else { return Err(Failure::error("no agent")) };
        let fields = Fields::new()
            .set("kind", "assertion")
            .set("subject", format!("bench/{}", number % self.args.keys))
            .set("predicate", "is")
            .set("object", format!("value {agent}"));
        let now = Millis(self.context.env.clock.now_ms());
        record::seal(&fields.into_value(), key, now, LogId([0; LogId::LEN]))
    }

    /// Each client does it again and again until the time is over.
    fn measure(
        &self,
        measured: &'static str,
        clients: u64,
        work: &(impl Fn(&Remote, u64) -> Result<(), Failure> + Sync),
    ) -> Result<Line, Failure> {
        let clock = &*self.context.env.clock;
        let bar = self.context.progress(None, "requests");
        bar.set_message(format!("{measured}, {clients} at once"));
        let begun = clock.monotonic();
        let end = begun.saturating_add(Duration::from_secs(self.args.seconds));
        let took = std::thread::scope(|scope| {
            let client = || -> Result<Vec<Duration>, Failure> {
                let remote = Remote::new(&self.url, None)?;
                let mut took = Vec::new();
                loop {
                    let before = clock.monotonic();
                    if before >= end {
                        return Ok(took);
                    }
                    work(&remote, self.next.fetch_add(1, Ordering::Relaxed))?;
                    took.push(clock.monotonic().saturating_sub(before));
                    ProgressBar::inc(&bar, 1);
                }
            };
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            let ends = clients.into_iter().map(|client| match client.join() {
                Ok(ended) => ended,
                Err(_) => Err(Failure::error("a client broke off")),
            });
            ends.collect::<Result<Vec<_>, _>>()
        })?;
        bar.finish_and_clear();
        let whole = clock.monotonic().saturating_sub(begun);
        Ok(Line::of(measured, clients, whole, took.concat()))
    }
}

impl Line {
    fn of(measured: &'static str, clients: u64, whole: Duration, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |part: f64| {
            // The smallest that so many are not above.
            let place = (took.len() as f64 * part).ceil() as usize;
            let found = took.get(place.saturating_sub(1).min(took.len().saturating_sub(1)));
            found.map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        let seconds = whole.as_secs_f64();
        let per_second = if seconds > 0.0 { took.len() as f64 / seconds } else { 0.0 };
        let (p50_ms, p99_ms, longest_ms) = (at(0.5), at(0.99), at(1.0));
        let requests = took.len();
        Self { measured, clients, requests, seconds, per_second, p50_ms, p99_ms, longest_ms }
    }
}

fn table(lines: &[Line]) -> String {
    let right = |name| (name, Align::Right);
    let mut table = Table::new([
        ("measured", Align::Left),
        right("clients"),
        right("a second"),
        right("p50 ms"),
        right("p99 ms"),
        right("longest ms"),
    ]);
    for line in lines {
        table.row([
            line.measured.to_owned(),
            line.clients.to_string(),
            format!("{:.0}", line.per_second),
            format!("{:.2}", line.p50_ms),
            format!("{:.2}", line.p99_ms),
            format!("{:.2}", line.longest_ms),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_seen() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let line = Line::of("x", 2, Duration::from_secs(4), took);
        assert_eq!((line.requests, line.per_second), (200, 50.0));
        assert_eq!((line.p50_ms, line.p99_ms, line.longest_ms), (100.0, 198.0, 200.0));
        let none = Line::of("x", 2, Duration::ZERO, Vec::new());
        assert_eq!((none.per_second, none.p50_ms, none.longest_ms), (0.0, 0.0, 0.0));
    }
}
