//! The tables of `docs/performance/resolve.md`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use stemedb_bench::page::{put, thousands, us};
use stemedb_bench::stats::Quantiles;

use crate::Results;
use crate::http::Http;

const PAGE: &str = "docs/performance/resolve.md";

pub(crate) fn write(dir: &Path, results: &Results) -> Result<()> {
    put(&dir.join(PAGE), "make bench-resolve WRITE=1", &tables(results))
}

pub(crate) fn tables(results: &Results) -> String {
    let (machine, store) = (&results.machine, &results.store);
    let mut out = format!("{}\n\n", machine.sentence());
    let _ = writeln!(
        out,
        "{} claims in the index: {:.0} bytes a claim, {} records applied a second, opened in {:.2} s \
         with {} MiB of memory.\n",
        thousands(store.claims as f64),
        store.bytes_per_claim,
        thousands(store.applied_per_second),
        store.open_seconds,
        store.memory_mib,
    );
    let conflicts = &store.conflicts;
    let _ = writeln!(
        out,
        "{} keys in conflict: the list followed everything in {:.0} s; a page of 100 after a random place \
         takes {} µs, p99 {}.\n",
        thousands(conflicts.open as f64),
        conflicts.followed_seconds,
        us(conflicts.page.p50),
        us(conflicts.page.p99),
    );
    let names: Vec<&str> = results
        .cells
        .first()
        .map(|cell| cell.ours.lenses.iter().map(|(name, _)| name.as_str()).collect())
        .unwrap_or_default();
    let _ = writeln!(out, "### By lens: p50 / p99 in µs, nothing written in between\n");
    let _ = writeln!(
        out,
        "| claims | agents | first answer | {} | kept: authority | kept: trust |",
        names.join(" | ")
    );
    let _ = writeln!(out, "|---:|---:|---:|{}", "---:|".repeat(names.len() + 2));
    for cell in &results.cells {
        let times = cell.ours.lenses.iter().chain(&cell.ours.kept).map(quantiles);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            thousands(cell.claims as f64),
            thousands(cell.agents as f64),
            thousands(cell.ours.first),
            times.collect::<Vec<_>>().join(" | ")
        );
    }
    let _ =
        writeln!(out, "\n### The default lens beside others: p50 in µs, and how many times ours\n");
    let rivals: Vec<&str> = results
        .cells
        .first()
        .map(|cell| cell.rivals.iter().map(|(name, _)| name.as_str()).collect())
        .unwrap_or_default();
    let _ = writeln!(
        out,
        "| claims | agents | ours | ours, after a write to the key (p99) | ours, of the past (p99) | {} | \
         memory, MiB |",
        rivals.join(" | ")
    );
    let _ = writeln!(out, "|---:|---:|---:|---:|---:|{}---:|", "---:|".repeat(rivals.len()));
    for cell in &results.cells {
        let default = cell.ours.lenses.iter().find(|(name, _)| name == "authority");
        let ours = default.map_or(f64::NAN, |(_, found)| found.p50);
        let rivals = cell.rivals.iter().map(|(_, found)| {
            format!("{} ({} ×)", thousands(found.p50), thousands(found.p50 / ours))
        });
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} ({}) | {} ({}) | {} | {} |",
            thousands(cell.claims as f64),
            thousands(cell.agents as f64),
            us(ours),
            us(cell.ours.after_write.p50),
            us(cell.ours.after_write.p99),
            thousands(cell.ours.past.p50),
            thousands(cell.ours.past.p99),
            rivals.collect::<Vec<_>>().join(" | "),
            cell.ours.memory_mib,
        );
    }
    if let Some(http) = &results.http {
        put_http(&mut out, http);
    }
    out
}

fn quantiles((_, found): &(String, Quantiles)) -> String {
    format!("{} / {}", us(found.p50), us(found.p99))
}

fn put_http(out: &mut String, http: &Http) {
    let _ = writeln!(
        out,
        "\n### Over HTTP, one client: p50 / p99 in µs\n\n{} signed claims were imported a second.\n",
        thousands(http.imported_per_second)
    );
    let Some(first) = http.cells.first() else { return };
    let lenses = first.lenses.iter().map(|(name, _)| name.clone());
    let kept = first.kept.iter().map(|(name, _)| format!("kept: {name}"));
    let names: Vec<String> = lenses.chain(kept).collect();
    let _ = writeln!(out, "| claims | agents | {} |", names.join(" | "));
    let _ = writeln!(out, "|---:|---:|{}", "---:|".repeat(names.len()));
    for cell in &http.cells {
        let times = cell.lenses.iter().chain(&cell.kept).map(quantiles);
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            thousands(cell.claims as f64),
            thousands(cell.agents as f64),
            times.collect::<Vec<_>>().join(" | ")
        );
    }
}
