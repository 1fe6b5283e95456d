//! What a check of many steps has found, told step by step.

use anyhow::Result;

#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) problems: usize,
    pub(crate) skipped: usize,
}

impl Findings {
    /// Says how a step went.
    pub(crate) fn step(&mut self, what: &str, problems: &[String]) {
        if problems.is_empty() {
            println!("ok   {what}");
        } else {
            println!("FAIL {what}");
            problems.iter().for_each(|problem| println!("     {problem}"));
        }
        self.problems += problems.len();
    }

    /// The same for one that ends at its first problem.
    pub(crate) fn done(&mut self, what: &str, result: Result<()>) {
        let problem = result.err().map(|error| format!("{error:#}"));
        self.step(what, problem.as_slice());
    }

    /// Says that a step was not made.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        println!("SKIPPED: {what}: {why}");
        self.skipped += 1;
    }
}
