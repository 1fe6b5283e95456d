//! The tables of `docs/performance/upheaval.md`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use stemedb_bench::page::{put, thousands, us};

use crate::{Phase, Results};

const PAGE: &str = "docs/performance/upheaval.md";

pub(crate) fn write(dir: &Path, results: &Results) -> Result<()> {
    put(&dir.join(PAGE), "make bench-upheaval WRITE=1", &tables(results))
}

pub(crate) fn tables(results: &Results) -> String {
    let mut out = format!("{}\n\n", results.machine.sentence());
    let size = &results.size;
    let _ = writeln!(
        out,
        "{} claims of the source, {} on each of the two subjects, {} on keys of the epoch, {} agents.\n",
        thousands(size.source as f64),
        thousands(size.subject as f64),
        thousands(size.epoch as f64),
        thousands(size.agents as f64),
    );
    let _ = writeln!(out, "| | idle | in the upheaval | ratio |\n|---|---:|---:|---:|");
    let mut row = |name: &str, of: fn(&Phase) -> f64, text: fn(f64) -> String| {
        let (idle, upheaval) = (of(&results.idle), of(&results.upheaval));
        let ratio = upheaval / idle;
        let _ = writeln!(out, "| {name} | {} | {} | {ratio:.2} |", text(idle), text(upheaval));
    };
    row("seconds", |phase| phase.seconds, |s| format!("{s:.0}"));
    row("unrelated claims written", |phase| phase.write_count as f64, thousands);
    row("p50 of a write, µs", |phase| phase.writes.p50, us);
    row("p99 of a write, µs", |phase| phase.writes.p99, us);
    row("p99.9 of a write, µs", |phase| phase.writes.p999, us);
    row("p50 of a read, µs", |phase| phase.reads.p50, us);
    row("p99 of a read, µs", |phase| phase.reads.p99, us);
    let _ = writeln!(out, "\nAnswers made twice, kept and from the claims, and the same:\n");
    let _ = writeln!(out, "| keys | idle | in the upheaval |\n|---|---:|---:|");
    for ((name, idle), (_, upheaval)) in
        results.idle.compared.iter().zip(&results.upheaval.compared)
    {
        let (idle, upheaval) = (thousands(*idle as f64), thousands(*upheaval as f64));
        let _ = writeln!(out, "| {name} | {idle} | {upheaval} |");
    }
    let acknowledged =
        results.acknowledged_ms.iter().map(|(name, ms)| format!("{name} {ms:.1} ms"));
    let acknowledged = acknowledged.collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        out,
        "\nAcknowledged after: {acknowledged}. The list of conflicts told all of it after {:.1} s: {} keys \
         were in conflict before, {} after.",
        results.conflicts_seconds,
        thousands(results.conflicts_before as f64),
        thousands(results.conflicts_after as f64),
    );
    out
}
