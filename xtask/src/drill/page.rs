//! The page of what drills showed. A run writes the parts of the runbooks that it drilled, and leaves
//! the others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Report;
use super::runbook::FOLDER;
use crate::mount::run;

const PAGE: &str = "docs/operations/drills.md";
const HEAD: &str = include_str!("page.md");
const SECTION: &str = "\n## ";

pub(crate) fn write(root: &Path, binary: &Path, reports: &[Report]) -> Result<()> {
    let path = root.join(PAGE);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let mut sections = sections(&before);
    let version = run(Command::new(binary).arg("--version"))?;
    let mut runbooks: BTreeMap<&str, Vec<&Report>> = BTreeMap::new();
    for report in reports {
        runbooks.entry(report.case.runbook).or_default().push(report);
    }
    for (name, reports) in runbooks {
        sections.insert(name.to_owned(), section(name, &version, &reports));
    }
    let mut text = HEAD.trim_end().to_owned();
    text.push('\n');
    for section in sections.values() {
        text.push_str(section);
    }
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("written to {}", path.display());
    Ok(())
}

/// The parts of a page by their headings.
fn sections(page: &str) -> BTreeMap<String, String> {
    let parts = page.split(SECTION).skip(1);
    let named = |part: &str| {
        let name = part.lines().next().unwrap_or_default().to_owned();
        (name, format!("{SECTION}{}\n", part.trim_end()))
    };
    parts.map(named).collect()
}

fn section(name: &str, version: &str, reports: &[&Report]) -> String {
    let folder = FOLDER.trim_start_matches("docs/operations/");
    let mut text = format!("{SECTION}{name}\n\n[The runbook]({folder}/{name}.md); {version}.\n");
    for report in reports {
        let verdict = match &report.problem {
            None => "passed".to_owned(),
            Some(problem) => format!("**failed**: {}", problem.replace('\n', " ")),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "\n### {}\n\n{}: {verdict}, {:.0} s in all.\n",
            report.case.name,
            report.case.about,
            report.took.as_secs_f32()
        );
        text.push_str("| after the fault | seen |\n|---:|---|\n");
        for (since, words) in &report.seen {
            let since = since.map_or_else(String::new, |one| format!("{:.1} s", one.as_secs_f32()));
            let _ = writeln!(text, "| {since} | {words} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_parts_stay() {
        let page = "# Drills\n\nWords.\n\n## a\n\none\n\n### case\n\n## b\n\ntwo\n";
        let found = sections(page);
        assert_eq!(found["a"], "\n## a\n\none\n\n### case\n");
        assert_eq!(found["b"], "\n## b\n\ntwo\n");
    }
}
