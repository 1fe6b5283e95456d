//! The runbooks as they are read: pages whose shell blocks say by whom they are run.
//!
//! The mark is in the line that opens a block: `sh STEP: CASE[, CASE…]` is run by these cases of the
//! drill, `sh illustration: REASON` by none. Only blocks of `text` and `toml` need no mark.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Case;
use crate::monitoring::files;

pub(crate) const FOLDER: &str = "docs/operations/runbooks";
const INDEX: &str = "README";
const ILLUSTRATION: &str = "illustration";
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

/// One shell block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) step: String,
    pub(crate) cases: Vec<String>,
    pub(crate) script: String,
}

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
        let blocks = blocks(&text).with_context(|| path.display().to_string())?;
        Ok(Self { name: name.to_owned(), text, blocks })
    }

    pub(crate) fn block(&self, step: &str) -> Result<&Block> {
        let found = self.blocks.iter().find(|block| block.step == step);
        found.with_context(|| format!("{}: no block is marked {step:?}", self.name))
    }

    /// Steps that the page says this case runs.
    fn steps_of(&self, case: &str) -> BTreeSet<&str> {
        let ours = self.blocks.iter().filter(|block| block.cases.iter().any(|one| one == case));
        ours.map(|block| block.step.as_str()).collect()
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
        let mut steps = BTreeSet::new();
        for block in &self.blocks {
            if !steps.insert(&block.step) {
                problems.push(format!("two blocks are marked {:?}", block.step));
            }
            for case in &block.cases {
                if !cases.iter().any(|known| known.name == case) {
                    problems.push(format!("{:?} is run by {case:?}, which is no case", block.step));
                }
            }
        }
        for case in cases {
            let declared: BTreeSet<&str> = case.steps.iter().copied().collect();
            let marked = self.steps_of(case.name);
            if declared != marked {
                problems.push(format!("{} runs {declared:?}, marked are {marked:?}", case.name));
            }
        }
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

/// The shell blocks of a page that are run.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let mut script = String::new();
        loop {
            let (_, line) = lines.next().with_context(|| format!("line {}: no end", at + 1))?;
            if line.trim() == "```" {
                break;
            }
            script.push_str(line.get(indent..).unwrap_or_default());
            script.push('\n');
        }
        let block = marked(info, script).with_context(|| format!("line {}: {line}", at + 1))?;
        blocks.extend(block);
    }
    Ok(blocks)
}

/// What the first line of a block says; nothing if it is not to be run.
fn marked(info: &str, script: String) -> Result<Option<Block>> {
    let (language, mark) = info.split_once(' ').unwrap_or((info, ""));
    match language {
        "text" | "toml" if mark.is_empty() => return Ok(None),
        "sh" => {}
        _ => bail!("a block is `sh STEP: CASE, …`, `sh illustration: REASON`, `text` or `toml`"),
    }
    let (step, rest) = mark.split_once(": ").context("neither a step with cases nor a reason")?;
    if rest.trim().is_empty() {
        bail!("nothing after {step:?}");
    }
    if step == ILLUSTRATION {
        return Ok(None);
    }
    let cases = rest.split(',').map(|case| case.trim().to_owned()).collect();
    Ok(Some(Block { step: step.to_owned(), cases, script }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::CASES;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn blocks_say_who_runs_them() {
        let text = "a\n```sh look: one, two\nls\n  x\n```\n- b\n  ```sh wipe: one\n  rm\n  ```\n\
            ```sh illustration: needs a lab\nfoo\n```\n```text\nbar\n```\n";
        let found = blocks(text).unwrap();
        let found: Vec<_> =
            found.iter().map(|one| (one.step.as_str(), one.cases.len(), &*one.script)).collect();
        assert_eq!(found, [("look", 2, "ls\n  x\n"), ("wipe", 1, "rm\n")]);
    }

    #[test]
    fn blocks_without_a_mark_are_refused() {
        for text in [
            "```\nls\n```\n",
            "```sh\nls\n```\n",
            "```bash look: one\nls\n```\n",
            "```sh look:\nls\n```\n",
            "```sh look\nls\n```\n",
            "```sh illustration: \nls\n```\n",
            "```text look: one\nls\n```\n",
            "```sh look: one\nls\n",
        ] {
            assert!(blocks(text).is_err(), "{text}");
        }
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
        assert!(fewer.iter().any(|one| one.contains("which is no case")), "{fewer:?}");
        let none = problems(&root(), &[]).unwrap();
        assert!(none.iter().any(|one| one.contains("no drill runs it")), "{none:?}");
        let page = Runbook { name: "x".into(), text: String::new(), blocks: Vec::new() };
        let case = &CASES[0];
        let found = page.problems(&[case]);
        assert!(found.iter().any(|one| one.contains("headings")), "{found:?}");
        assert!(found.iter().any(|one| one.contains("marked are {}")), "{found:?}");
    }
}
