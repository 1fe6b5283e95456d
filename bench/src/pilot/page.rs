//! The results as tables, and their place in the page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use stemedb_bench::page::{put, thousands, us};

use crate::Results;
use crate::goals::{Criterion, Verdict};
use crate::load::Outcome;
use crate::phase::{Measured, Phase};
use crate::plot;
use crate::requests::Kind;

const PAGE: &str = "pilot.md";
const CHART: &str = "pilot.svg";
/// Threads that spend less of a processor are told together.
const THREAD_TOLD: f64 = 0.005;

/// Puts the tables into the page and draws the chart.
pub(crate) fn write(dir: &Path, results: &Results, criteria: &[Criterion]) -> Result<()> {
    plot::draw(&dir.join(CHART), results)?;
    let tables = tables(results, criteria);
    let chart = "### Over time\n\n![Latency, throughput and memory over the phases](pilot.svg)\n";
    put(&dir.join(PAGE), "make pilot WRITE=1", &format!("{tables}\n{chart}"))
}

pub(crate) fn tables(results: &Results, criteria: &[Criterion]) -> String {
    let settings = results.settings.iter().map(|(name, value)| format!("`{name}={value}`"));
    let mut out = format!(
        "{} `{}`. Seed {}. Set for the load: {}.\n",
        results.machine.sentence(),
        results.build,
        results.seed,
        settings.collect::<Vec<_>>().join(", "),
    );
    if results.quick {
        out.push_str("\n**A look, not a measurement**: `QUICK=1`, a small database, seconds.\n");
    }
    let mut part = |title: &str, text: String| {
        let _ = write!(out, "\n### {title}\n\n{text}");
    };
    part("Criteria", verdicts(criteria));
    part("Load", loaded(results));
    part("What held", held(&results.phases));
    part("What was tried", tries(results));
    part("Where time goes", spent(&results.phases));
    out
}

fn verdicts(criteria: &[Criterion]) -> String {
    let mut out = String::from("| criterion | found | |\n|---|---|---|\n");
    for one in criteria {
        let verdict = match one.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Open => "not judged",
        };
        let _ = writeln!(out, "| {} | {} | {verdict} |", one.what, one.found);
    }
    out
}

fn loaded(results: &Results) -> String {
    let loaded = &results.loaded;
    let mut out = format!(
        "`stemedb import` took {} claims about {} keys in {:.1} s: {}/s, signed, registered, verified, \
         durable and indexed. The server spent {:.1} s of a processor, the command {:.1} s. It was at rest \
         {:.0} s later.\n",
        thousands(loaded.claims as f64),
        thousands(loaded.keys as f64),
        loaded.seconds,
        thousands(loaded.claims as f64 / loaded.seconds),
        loaded.server,
        loaded.client,
        loaded.rest_seconds,
    );
    let after = results.phases.iter().map(|phase| &phase.checked);
    if let Some(slowest) =
        after.max_by(|one, other| one.restart_seconds.total_cmp(&other.restart_seconds))
    {
        let _ = writeln!(
            out,
            "\nAfter each phase the server was killed; the slowest start took {:.1} s, with {} records in the \
             log.",
            slowest.restart_seconds,
            thousands(slowest.records as f64),
        );
    }
    out
}

/// `3 × 503 queue_full`, or nothing.
fn errors(outcome: &Outcome) -> String {
    if outcome.errors.is_empty() {
        return "0".to_owned();
    }
    let each = outcome.errors.iter().map(|(code, count)| format!("{count} × {code}"));
    each.collect::<Vec<_>>().join(", ")
}

fn milliseconds(us: f64) -> String {
    format!("{:.1}", us / 1e3)
}

fn held(phases: &[Phase]) -> String {
    let mut out = String::from(
        "Of the whole length, at the highest rate that held in trials. Where it did not hold for so long, a lower \
         one follows.\n\n\
         | phase | | a second | requests | p50 / p99 / p99.9 ms | longest ms | errors | records before | |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for phase in phases {
        for full in &phase.full {
            for (goal, (kind, outcome)) in phase.goals.iter().zip(&full.streams) {
                let holds = outcome.holds(goal.p99());
                let latency = [outcome.latency.p50, outcome.latency.p99, outcome.latency.p999];
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} of {} | {} | {} | {} | {} | {} |",
                    phase.part.describe(),
                    kind.describe(),
                    thousands(outcome.answered_per_second() * kind.size() as f64),
                    thousands(outcome.answered as f64),
                    thousands(outcome.planned as f64),
                    latency.map(milliseconds).join(" / "),
                    milliseconds(outcome.latency.max),
                    errors(outcome),
                    thousands(full.records),
                    if holds { "holds" } else { "does not hold" },
                );
            }
        }
    }
    out
}

fn tries(results: &Results) -> String {
    let mut out = format!(
        "Trials of at most {} s. One ends as soon as it cannot hold any more.\n\n\
         | phase | | asked a second | answered a second | p99 ms | errors | |\n\
         |---|---|---:|---:|---:|---:|---|\n",
        results.trial_seconds
    );
    for phase in &results.phases {
        for streams in &phase.tries {
            for (goal, (kind, outcome)) in phase.goals.iter().zip(streams) {
                let size = kind.size() as f64;
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {} |",
                    phase.part.describe(),
                    kind.describe(),
                    thousands(outcome.per_second * size),
                    thousands(outcome.answered_per_second() * size),
                    milliseconds(outcome.latency.p99),
                    errors(outcome),
                    if outcome.holds(goal.p99()) { "holds" } else { "does not hold" },
                );
            }
        }
    }
    out
}

fn spent(phases: &[Phase]) -> String {
    let last: Vec<(&Phase, &Measured)> =
        phases.iter().filter_map(|phase| Some((phase, phase.full.last()?))).collect();
    if last.is_empty() {
        return "Nothing held.\n".to_owned();
    }
    let mut out = String::from("| |");
    let mut row = |name: &str, of: &dyn Fn(&Phase, &Measured) -> String| {
        let cells = last.iter().map(|(phase, full)| of(phase, full));
        let _ = writeln!(out, "{name} {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    row("", &|phase, _| phase.part.describe().to_owned());
    row("|---|", &|_, _| "---:".to_owned());
    let processors = |value: f64| format!("{value:.2}");
    row("| processors: server |", &|_, full| processors(full.server));
    row("| clients |", &|_, full| processors(full.clients));
    row("| nobody |", &|_, full| processors(full.idle));
    row("| other guests |", &|_, full| processors(full.stolen));
    row("| threads of the server, at most |", &|phase, _| {
        phase.watch.iter().map(|sample| sample.threads).max().unwrap_or_default().to_string()
    });
    row("| server's µs of a processor for a request |", &|_, full| {
        let requests = full.streams.iter().map(|(_, outcome)| outcome.answered).sum::<u64>();
        us(full.server * (full.to - full.from) * 1e6 / requests.max(1) as f64)
    });
    row("| syncs a second |", &|_, full| thousands(full.syncs_per_second));
    row("| mean sync, µs |", &|_, full| us(full.sync));
    row("| records in a sync |", &|_, full| format!("{:.1}", full.records_per_group));
    row("| log, MB/s |", &|_, full| format!("{:.2}", full.log_bytes_per_second / 1e6));
    row("| query within the server, mean µs |", &|_, full| full.query.map_or("".into(), us));
    let within = |full: &Measured, kind| {
        let found = full.server_p99.iter().find(|(of, _)| *of == kind);
        found.map_or("".into(), |(_, bound)| match bound {
            Some(seconds) => format!("≤ {}", seconds * 1e3),
            None => "past 30 s".into(),
        })
    };
    row("| assert within the server, p99 in ms |", &|_, full| within(full, Kind::Assert));
    row("| query within the server, p99 in ms |", &|_, full| within(full, Kind::Question));
    row("| backup: segments, MB/s |", &|_, full| {
        let rate = full.beside.as_ref().map(|reads| reads.segment_bytes as f64 / reads.seconds);
        rate.map_or("".into(), |rate| thousands(rate / 1e6))
    });
    row("| backup: export, MB/s (whole exports) |", &|_, full| {
        full.beside.as_ref().map_or("".into(), |reads| {
            let rate = reads.export_bytes as f64 / reads.seconds / 1e6;
            format!("{rate:.1} ({})", reads.exports)
        })
    });
    out.push_str("\n**Processors by thread of the server**\n\n| phase | |\n|---|---|\n");
    for (phase, full) in &last {
        let told = full.threads.iter().filter(|(_, share)| *share >= THREAD_TOLD);
        let told: Vec<String> = told.map(|(name, share)| format!("{name} {share:.2}")).collect();
        let _ = writeln!(out, "| {} | {} |", phase.part.describe(), told.join(", "));
    }
    out.push_str(&steps(&last));
    out
}

/// The mean way of an assert.
fn steps(last: &[(&Phase, &Measured)]) -> String {
    let with: Vec<_> = last.iter().filter(|(_, full)| !full.steps.is_empty()).collect();
    let Some((_, first)) = with.first() else { return String::new() };
    let mut out = String::from("\n**The mean assert, in µs**\n\n| |");
    let mut row = |name: &str, cells: Vec<String>| {
        let _ = writeln!(out, "{name} {} |", cells.join(" | "));
    };
    row("", with.iter().map(|(phase, _)| phase.part.describe().to_owned()).collect());
    row("|---|", with.iter().map(|_| "---:".to_owned()).collect());
    for (n, (step, _)) in first.steps.iter().enumerate() {
        let step = if n == 0 { "until it is sent, connection" } else { step };
        let cell = |full: &Measured| full.steps.get(n).map_or("".into(), |(_, took)| us(*took));
        row(&format!("| {step} |"), with.iter().map(|(_, full)| cell(full)).collect());
    }
    let mean = |full: &Measured| {
        let stream = full.streams.iter().find(|(kind, _)| *kind == Kind::Assert);
        stream.map_or("".into(), |(_, outcome)| us(outcome.mean))
    };
    row("| sum |", with.iter().map(|(_, full)| mean(full)).collect());
    out
}
