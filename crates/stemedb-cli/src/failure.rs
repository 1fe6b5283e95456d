//! How a command ends when it does not end well.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no: not found, not valid, damaged. Exit status 1.
    No {
        /// What the answer is about; empty if stdout already said everything.
        what: String,
        /// The next command to type.
        hint: Option<String>,
    },
    /// It could not be done. Exit status 2.
    Error {
        /// The thing and what is wrong with it.
        what: String,
        /// Why, from the nearest cause to the last.
        causes: Vec<String>,
        /// The next command to type.
        hint: Option<String>,
    },
    /// Whoever read our output has read enough. Exit status 0.
    Closed,
}

impl Failure {
    /// The answer is no.
    pub fn no(what: impl Into<String>) -> Self {
        Self::No { what: what.into(), hint: None }
    }

    /// It could not be done.
    pub fn error(what: impl Into<String>) -> Self {
        Self::Error { what: what.into(), causes: Vec::new(), hint: None }
    }

    /// Adds a cause and everything below it.
    #[must_use]
    pub fn because(mut self, cause: impl std::error::Error) -> Self {
        if let Self::Error { causes, .. } = &mut self {
            causes.push(cause.to_string());
            let mut below = cause.source();
            while let Some(error) = below {
                let text = error.to_string();
                // Many errors print their source too; once is enough.
                if !causes.last().is_some_and(|last| last.ends_with(&text)) {
                    causes.push(text);
                }
                below = error.source();
            }
        }
        self
    }

    /// Says what to type next.
    #[must_use]
    pub fn hint(mut self, next: impl Into<String>) -> Self {
        match &mut self {
            Self::No { hint, .. } | Self::Error { hint, .. } => *hint = Some(next.into()),
            Self::Closed => {}
        }
        self
    }

    /// The lines for stderr: the thing, the causes, the hint. Empty if there is nothing to say.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let (what, causes, hint) = match self {
            Self::No { what, hint } => (what, &Vec::new(), hint),
            Self::Error { what, causes, hint } => (what, causes, hint),
            Self::Closed => return text,
        };
        if !what.is_empty() {
            let word = if matches!(self, Self::No { .. }) { "no" } else { "error" };
            let _ = writeln!(text, "{word}: {what}");
        }
        for cause in causes {
            let _ = writeln!(text, "  because: {cause}");
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    /// The exit status of the process.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Closed => ExitCode::SUCCESS,
            Self::No { .. } => ExitCode::from(1),
            Self::Error { .. } => ExitCode::from(2),
        }
    }
}

/// Only for writes to stdout and stderr: other files say what they are with [`Failure::error`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::error("cannot write the output").because(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_name_the_thing_then_the_causes_then_the_hint() {
        let cause = io::Error::new(io::ErrorKind::NotFound, "no such file");
        for (failure, expected, exit) in [
            (Failure::no("x"), "no: x\n", ExitCode::from(1)),
            (Failure::no("").hint("y"), "hint: y\n", ExitCode::from(1)),
            (
                Failure::error("cannot read k").because(cause).hint("stemedb key generate k"),
                "error: cannot read k\n  because: no such file\nhint: stemedb key generate k\n",
                ExitCode::from(2),
            ),
            (io::Error::from(io::ErrorKind::BrokenPipe).into(), "", ExitCode::SUCCESS),
        ] {
            assert_eq!(failure.report(), expected);
            assert_eq!(failure.exit_code(), exit, "{expected}");
        }
    }
}
