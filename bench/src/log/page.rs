//! The results as tables, and their place in the page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use stemedb_bench::page::{put, thousands, us};
use stemedb_bench::stats::{Estimate, Quantiles};

use crate::commits::{Cell, Mode, Row};
use crate::contender::{BARE, OURS};
use crate::http::Http;
use crate::reading::Reading;
use crate::rotation::Rotations;
use crate::{Results, plot};

const PAGE: &str = "log.md";
const CHART: &str = "log-commits.svg";

/// Puts the tables into the page and draws the chart.
pub(crate) fn write(dir: &Path, results: &Results) -> Result<()> {
    put(&dir.join(PAGE), "make bench-log WRITE=1", &tables(results))?;
    plot::draw(&dir.join(CHART), &results.cells)
}

/// `1.07 (1.05–1.09)`.
fn interval(estimate: &Estimate) -> String {
    let Estimate { median, low, high } = estimate;
    if *high < 10.0 {
        format!("{median:.2} ({low:.2}–{high:.2})")
    } else {
        format!("{median:.1} ({low:.1}–{high:.1})")
    }
}

fn quantiles(found: &Quantiles) -> String {
    [found.p50, found.p99, found.p999].map(us).join(" / ")
}

fn label(row: &Row) -> String {
    match row.mode {
        Mode::Group => row.name.clone(),
        Mode::Writers => format!("{}, each client by itself", row.name),
    }
}

/// One cell.
pub(crate) fn cell(cell: &Cell) -> String {
    let clients = if cell.clients == 1 { "1 client" } else { &format!("{} clients", cell.clients) };
    let mut out = format!(
        "**{clients}, records of {} B** ({} KiB a group)\n\n\
         | | records/s | throughput ÷ bare | p50 / p99 / p99.9 µs | p50 ÷ bare | p99 ÷ bare | p99.9 ÷ bare |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        cell.body_bytes,
        cell.group_bytes / 1024,
    );
    for row in &cell.rows {
        let bare = row.name == BARE;
        let ratio = |estimate: &Estimate| {
            if bare { "1".to_owned() } else { interval(estimate) }
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            label(row),
            thousands(row.records_per_second.median),
            ratio(&row.throughput),
            quantiles(&row.latency),
            ratio(&row.p50),
            ratio(&row.p99),
            ratio(&row.p999),
        );
    }
    out
}

pub(crate) fn rotation(found: &Rotations, beside: &str) -> String {
    format!(
        "| {} rotations, 64 clients, 300 B; {beside} | appends | p50 / p99 / p99.9 µs | longest µs |\n\
         |---|---:|---:|---:|\n\
         | bare device, worker at rest | | {} | {} |\n\
         | ours, while the next segment is ready | {} | {} | {} |\n\
         | ours, from the turn until the next segment is ready | {} | {} | {} |\n\
         | of these, the appends that turned | {} | {} | {} |\n",
        found.rotations,
        quantiles(&found.bare),
        us(found.bare.max),
        found.appends - found.preparing_appends,
        quantiles(&found.quiet),
        us(found.quiet.max),
        found.preparing_appends,
        quantiles(&found.preparing),
        us(found.preparing.max),
        found.rotations,
        quantiles(&found.turning),
        us(found.turning.max),
    )
}

pub(crate) fn reading(found: &[Reading]) -> String {
    let mut out = String::from(
        "| MB/s of files | plain read | verify | recovery | verify ÷ plain | recovery ÷ plain | cached, one thread: read | verify | scan |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for one in found {
        let rate = |estimate: &Estimate| thousands(estimate.median);
        let _ = writeln!(
            out,
            "| {} MB, records of {} B | {} | {} | {} | {} | {} | {} | {} | {} |",
            one.file_bytes / 1_000_000,
            one.body_bytes,
            rate(&one.device),
            rate(&one.verify),
            rate(&one.recovery),
            interval(&one.verify_ratio),
            interval(&one.recovery_ratio),
            rate(&one.cached_read),
            rate(&one.cached_verify),
            rate(&one.cached_scan),
        );
    }
    out
}

pub(crate) fn http(found: &Http) -> String {
    let mut out = String::from("| POST /v1/assert, signed, 300 B |");
    let mut row = |name: &str, values: Vec<String>| {
        let _ = writeln!(out, "{name} {} |", values.join(" | "));
    };
    let each = |what: &dyn Fn(&crate::http::Load) -> String| -> Vec<String> {
        found.loads.iter().map(what).collect()
    };
    row(
        "",
        each(&|load| match load.clients {
            1 => "1 client".into(),
            clients => format!("{clients} clients"),
        }),
    );
    row("|---|", found.loads.iter().map(|_| "---:".into()).collect());
    row("| requests/s |", each(&|load| thousands(load.requests_per_second.median)));
    row("| p50 / p99 / p99.9 µs |", each(&|load| quantiles(&load.latency)));
    row("| p50 in syncs of the bare device |", each(&|load| interval(&load.p50_in_syncs)));
    row("| records in a group |", each(&|load| format!("{:.1}", load.records_per_group)));
    for n in 0..found.loads.first().map_or(0, |load| load.budget.len()) {
        let step = format!("| mean µs: {} |", found.loads[0].budget[n].0);
        row(&step, each(&|load| us(load.budget[n].1)));
    }
    row("| mean µs: sum |", each(&|load| us(load.mean)));
    out
}

fn yes(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// Goal, found, verdict.
fn goals(results: &Results) -> String {
    let mut out = String::from("| goal | found | |\n|---|---:|---|\n");
    let mut goal = |what: &str, found: String, met: bool| {
        let _ = writeln!(out, "| {what} | {found} | {} |", yes(met));
    };
    let ours = |clients| {
        let cell =
            results.cells.iter().find(|cell| cell.clients == clients && cell.body_bytes == 300);
        cell.and_then(|cell| cell.row(OURS, Mode::Group))
    };
    if let Some(row) = ours(1) {
        goal("1 client: p50 ≤ 1.15 × bare", interval(&row.p50), row.p50.median <= 1.15);
        goal("1 client: p99 ≤ 1.3 × bare", interval(&row.p99), row.p99.median <= 1.3);
    }
    if let Some(row) = ours(64) {
        let met = row.throughput.median >= 0.6;
        goal("64 clients: ≥ 0.6 of the bare bandwidth", interval(&row.throughput), met);
        let met = row.p99_in_syncs.median <= 3.0;
        goal("64 clients: p99 ≤ 3 bare syncs", interval(&row.p99_in_syncs), met);
    }
    if let Some(found) = &results.rotation {
        let stall = found.stall_in_syncs();
        let what = format!("{} rotations: added at p99.9 ≤ 2 bare syncs", found.rotations);
        goal(&what, format!("{stall:.2}"), stall <= 2.0);
    }
    for found in &results.reading {
        let of = format!("records of {} B", found.body_bytes);
        let rate = found.cached_verify.median;
        goal(&format!("decoder, {of}: ≥ 1,000 MB/s"), thousands(rate), rate >= 1000.0);
        for (what, ratio) in [("verify", found.verify_ratio), ("recovery", found.recovery_ratio)] {
            let what = format!("{what}, {of}: the device's speed");
            // Within what the plain read itself varies by.
            goal(&what, interval(&ratio), ratio.high >= 0.95);
        }
    }
    out
}

pub(crate) fn tables(results: &Results) -> String {
    let mut out = format!(
        "{} {} rounds of {} ms a slice.\n\n",
        results.machine.sentence(),
        results.rounds,
        results.slice_ms,
    );
    let mut part = |title: &str, text: String| {
        let _ = write!(out, "### {title}\n\n{text}\n");
    };
    part("Goals", goals(results));
    if !results.cells.is_empty() {
        let cells: Vec<String> = results.cells.iter().map(cell).collect();
        part(
            "Commits",
            format!("![Throughput and latency by clients]({CHART})\n\n{}", cells.join("\n")),
        );
    }
    if let Some(found) = &results.rotation {
        part("Rotation", rotation(found, "machine at rest"));
    }
    if !results.loaded.is_empty() {
        let tables = results.loaded.iter().map(|(who, found)| rotation(found, who.describe()));
        part("Beside neighbours", tables.collect::<Vec<_>>().join("\n"));
    }
    if !results.reading.is_empty() {
        part("Recovery, verify, decoder", reading(&results.reading));
    }
    if let Some(found) = &results.http {
        part("Over HTTP", http(found));
    }
    out
}
