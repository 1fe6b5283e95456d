//! The table of metrics in the page for operators, made from a scrape.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::files;
use super::scrape::Scrape;

pub(crate) const PAGE: &str = "docs/operations/monitoring.md";
const BEGIN: &str = "<!-- metrics: written by `make monitoring WRITE=1` -->";
const END: &str = "<!-- end of metrics -->";

/// One line a metric.
pub(crate) fn table(scrape: &Scrape) -> String {
    let mut text = "| metric | type | labels | what it is |\n|---|---|---|---|\n".to_owned();
    for (name, family) in &scrape.families {
        let labels: Vec<String> =
            scrape.labels_of_family(name).iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (family.kind.as_str(), labels.join(", "));
        // Writing to a text cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", family.help);
    }
    text
}

/// Whether the page has this table; with `write` it has, afterwards.
pub(crate) fn check(root: &Path, table: &str, write: bool) -> Result<Option<String>> {
    let path = root.join(PAGE);
    let page = files::read(&path)?;
    let (before, rest) = page.split_once(BEGIN).context("the page has no place for metrics")?;
    let (there, after) = rest.split_once(END).context("the place for metrics has no end")?;
    if there.trim() == table.trim() {
        return Ok(None);
    }
    if write {
        std::fs::write(&path, format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))?;
        return Ok(None);
    }
    let lines = |text: &str| text.trim().lines().map(str::to_owned).collect::<Vec<_>>();
    let (there, table) = (lines(there), lines(table));
    let mut differ: Vec<String> =
        there.iter().filter(|line| !table.contains(line)).map(|line| format!("- {line}")).collect();
    differ
        .extend(table.iter().filter(|line| !there.contains(line)).map(|line| format!("+ {line}")));
    Ok(Some(format!(
        "{PAGE} is not what the server exports (`make monitoring WRITE=1` writes it):\n  {}",
        differ.join("\n  ")
    )))
}
