//! The shell blocks of the pages that people read, and the marks that say by whom each is run.
//!
//! The mark is in the line that opens a block: `sh STEP: RUNNER[, RUNNER…]` is run by these,
//! `sh illustration: REASON` by none. Blocks of data ([`DATA`]) need no mark; any other is refused.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

/// What is read, not run.
const DATA: [&str; 7] = ["ini", "json", "mermaid", "nquads", "sparql", "text", "toml"];
const ILLUSTRATION: &str = "illustration";

/// One shell block that is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) step: String,
    /// By whom.
    pub(crate) runners: Vec<String>,
    pub(crate) script: String,
}

/// Whoever runs blocks of a page, and which it says that it runs.
pub(crate) struct Runner<'a> {
    pub(crate) name: &'a str,
    pub(crate) steps: BTreeSet<&'a str>,
}

/// The shell blocks of a page that are run.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>> {
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
        "sh" => {}
        _ if DATA.contains(&language) && mark.is_empty() => return Ok(None),
        _ => {
            bail!("a block is `sh STEP: RUNNER, …`, `sh illustration: REASON`, or one of {DATA:?}")
        }
    }
    let (step, rest) = mark.split_once(": ").context("neither a step with runners nor a reason")?;
    if rest.trim().is_empty() {
        bail!("nothing after {step:?}");
    }
    if step == ILLUSTRATION {
        return Ok(None);
    }
    let runners = rest.split(',').map(|runner| runner.trim().to_owned()).collect();
    Ok(Some(Block { step: step.to_owned(), runners, script }))
}

/// The block of this name.
pub(crate) fn find<'a>(blocks: &'a [Block], step: &str) -> Result<&'a Block> {
    let found = blocks.iter().find(|block| block.step == step);
    found.with_context(|| format!("no block is marked {step:?}"))
}

/// Where a page and those who run its blocks differ: a block that nobody runs, one that somebody runs
/// and the page does not say so. That a runner really runs what it declares shows when it runs.
pub(crate) fn problems(blocks: &[Block], runners: &[Runner<'_>]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut steps = BTreeSet::new();
    for block in blocks {
        if !steps.insert(&block.step) {
            problems.push(format!("two blocks are marked {:?}", block.step));
        }
        for runner in &block.runners {
            if !runners.iter().any(|known| known.name == runner) {
                let step = &block.step;
                problems.push(format!("{step:?} is run by {runner:?}, whom nobody knows here"));
            }
        }
    }
    for Runner { name, steps: declared } in runners {
        let marked: BTreeSet<&str> = blocks
            .iter()
            .filter(|block| block.runners.iter().any(|runner| runner == name))
            .map(|block| block.step.as_str())
            .collect();
        if *declared != marked {
            problems.push(format!("{name} runs {declared:?}, marked are {marked:?}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_who_runs_them() {
        let text = "a\n```sh look: one, two\nls\n  x\n```\n- b\n  ```sh wipe: one\n  rm\n  ```\n\
            ```sh illustration: needs a lab\nfoo\n```\n```text\nbar\n```\n";
        let found = blocks(text).unwrap();
        let found: Vec<_> =
            found.iter().map(|one| (one.step.as_str(), one.runners.len(), &*one.script)).collect();
        assert_eq!(found, [("look", 2, "ls\n  x\n"), ("wipe", 1, "rm\n")]);
    }

    #[test]
    fn blocks_without_a_mark_are_refused() {
        for text in [
            "```\nls\n```\n",
            "```sh\nls\n```\n",
            "```bash look: one\nls\n```\n",
            "```console\n$ ls\n```\n",
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
    fn pages_and_runners_that_differ_are_told_of() {
        let page = blocks("```sh a: one\nls\n```\n```sh b: one, two\nls\n```\n").unwrap();
        let runner =
            |name, steps: &[&'static str]| Runner { name, steps: steps.iter().copied().collect() };
        for (runners, expected) in [
            (vec![runner("one", &["a", "b"]), runner("two", &["b"])], None),
            (vec![runner("one", &["a", "b"])], Some("nobody knows")),
            (vec![runner("one", &["a"]), runner("two", &["b"])], Some("one runs {\"a\"}, marked")),
            (vec![runner("one", &["a", "b"]), runner("two", &["b", "c"])], Some("two runs")),
        ] {
            let found = problems(&page, &runners);
            assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
            assert!(expected.is_none_or(|words| found[0].contains(words)), "{found:?}");
        }
        let twice = [page, blocks("```sh a: one\nls\n```\n").unwrap()].concat();
        let found = problems(&twice, &[runner("one", &["a", "b"]), runner("two", &["b"])]);
        assert_eq!(found, ["two blocks are marked \"a\""]);
        assert!(find(&twice, "b").is_ok() && find(&twice, "c").is_err());
    }
}
