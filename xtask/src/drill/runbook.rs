//! The runbooks as they are read: pages whose shell blocks are run by cases of the drill.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Case;
use crate::monitoring::files;
use crate::pages::{self, Block, Runner};

pub(crate) const FOLDER: &str = "docs/operations/runbooks";
const INDEX: &str = "README";
/// Every runbook has these headings, in this order.
const HEADINGS: [&str; 9] = [
    "Severity",
    "Alert rule",
    "Symptom",
    "Impact",
    "Investigation",
    "Resolution",
    "Prevention",
    "Escalation",
    "References",
];

/// One runbook.
pub(crate) struct Runbook {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Without illustrations.
    pub(crate) blocks: Vec<Block>,
}

impl Runbook {
    pub(crate) fn load(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(FOLDER).join(format!("{name}.md"));
        let text = files::read(&path)?;
        let blocks = pages::blocks(&text).with_context(|| path.display().to_string())?;
        Ok(Self { name: name.to_owned(), text, blocks })
    }

    pub(crate) fn block(&self, step: &str) -> Result<&Block> {
        pages::find(&self.blocks, step).with_context(|| self.name.clone())
    }

    /// What is wrong with the page, whose cases these are.
    fn problems(&self, cases: &[&Case]) -> Vec<String> {
        let mut problems = Vec::new();
        let headings: Vec<&str> =
            self.text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        if headings != HEADINGS {
            problems.push(format!("its headings are {headings:?}, expected {HEADINGS:?}"));
        }
        if cases.is_empty() {
            problems.push("no drill runs it".into());
        }
        let runners: Vec<Runner<'_>> = cases
            .iter()
            .map(|case| Runner { name: case.name, steps: case.steps.iter().copied().collect() })
            .collect();
        problems.extend(pages::problems(&self.blocks, &runners));
        problems
    }
}

/// What is wrong with the pages, held against these cases: a block without a mark, one that nothing
/// runs, one that a case runs and its page does not say so. That a case really runs what it declares
/// shows when it runs.
pub(crate) fn problems(root: &Path, cases: &[Case]) -> Result<Vec<String>> {
    let (names, index) = (names(root)?, Runbook::load(root, INDEX)?);
    let mut problems = Vec::new();
    for case in cases.iter().filter(|case| !names.iter().any(|name| name == case.runbook)) {
        problems.push(format!("{} has cases and no page", case.runbook));
    }
    for name in &names {
        let ours: Vec<&Case> = cases.iter().filter(|case| case.runbook == name).collect();
        let found = Runbook::load(root, name)?.problems(&ours);
        problems.extend(found.into_iter().map(|problem| format!("{name}: {problem}")));
        if !index.text.contains(&format!("({name}.md)")) {
            problems.push(format!("the index does not name {name}.md"));
        }
    }
    Ok(problems)
}

/// Names of all runbooks: every page of the folder but its index.
fn names(root: &Path) -> Result<Vec<String>> {
    let paths = files::in_folder(&root.join(FOLDER), "md")?;
    let stem = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    Ok(paths.into_iter().filter_map(stem).filter(|name| name != INDEX).collect())
}

/// The environment that the index tells operators to set: its block of that name.
pub(crate) fn environment(root: &Path) -> Result<String> {
    let index = Runbook::load(root, INDEX)?;
    Ok(index.block("environment")?.script.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::CASES;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_block_is_run_by_a_drill() {
        assert_eq!(problems(&root(), CASES).unwrap(), Vec::<String>::new());
        let environment = environment(&root()).unwrap();
        assert!(environment.contains("STEMEDB_URL="), "{environment}");
    }

    #[test]
    fn pages_and_cases_that_differ_are_told_of() {
        let fewer: Vec<String> = problems(&root(), &CASES[1..]).unwrap();
        assert!(fewer.iter().any(|one| one.contains("nobody knows")), "{fewer:?}");
        let none = problems(&root(), &[]).unwrap();
        assert!(none.iter().any(|one| one.contains("no drill runs it")), "{none:?}");
        let page = Runbook { name: "x".into(), text: String::new(), blocks: Vec::new() };
        let case = &CASES[0];
        let found = page.problems(&[case]);
        assert!(found.iter().any(|one| one.contains("headings")), "{found:?}");
        assert!(found.iter().any(|one| one.contains("marked are {}")), "{found:?}");
    }
}
