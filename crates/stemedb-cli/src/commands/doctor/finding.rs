//! What a check says.

use std::path::Path;

use serde::Serialize;

/// How much it matters, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do now.
    Note,
    /// Somebody should look before it is more.
    Warning,
    /// Something does not work, is not safe, or is about to be neither.
    Critical,
}

impl Severity {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that a check found, or could not look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// False: it was not looked at, and the evidence says why.
    pub(crate) looked_at: bool,
    /// What was found, in a sentence.
    pub(crate) what: String,
    /// How that is known.
    pub(crate) evidence: String,
    /// The next command to type.
    pub(crate) next: Option<String>,
}

impl Finding {
    fn new(severity: Severity, what: impl Into<String>, evidence: impl Into<String>) -> Self {
        let (what, evidence) = (what.into(), evidence.into());
        Self { severity, looked_at: true, what, evidence, next: None }
    }

    /// All is well with this.
    pub(crate) fn ok(what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Ok, what, evidence)
    }

    /// Worth knowing.
    pub(crate) fn note(what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Note, what, evidence)
    }

    /// Somebody should look.
    pub(crate) fn warning(what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Warning, what, evidence)
    }

    /// Something must be done.
    pub(crate) fn critical(what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Critical, what, evidence)
    }

    /// It could not be looked at.
    pub(crate) fn unseen(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { looked_at: false, ..Self::new(Severity::Note, what, why) }
    }

    /// Says what to type next.
    #[must_use]
    pub(crate) fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Rules that every finding keeps, for the tests of the checks.
#[cfg(test)]
pub(super) mod testing {
    use clap::Parser;

    use super::{Finding, Severity};

    /// What a next command may begin with, besides `stemedb`.
    const PROGRAMS: &[&str] = &[
        "chmod",
        "chown",
        "cat",
        "df",
        "dmesg",
        "du",
        "findmnt",
        "free",
        "iostat",
        "journalctl",
        "ls",
        "lsblk",
        "ps",
        "smartctl",
        "ss",
        "systemctl",
        "timedatectl",
        "tune2fs",
        "umount",
    ];

    /// The severities, once every finding has kept the rules: it says what and how that is known,
    /// a warning says what to type, and what it says exists.
    #[track_caller]
    pub(crate) fn severities(findings: &[Finding]) -> Vec<Severity> {
        for finding in findings {
            assert!(!finding.what.is_empty() && !finding.evidence.is_empty(), "{finding:?}");
            assert!(finding.severity < Severity::Warning || finding.next.is_some(), "{finding:?}");
            if let Some(next) = &finding.next {
                exists(next);
            }
        }
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[track_caller]
    fn exists(command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let first = words.first().copied().unwrap_or_default();
        if first == "stemedb" {
            let parsed = crate::args::Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
        } else {
            assert!(PROGRAMS.contains(&first), "{command}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_would_take_them_apart() {
        for (path, expected) in [
            ("/var/lib/stemedb", "/var/lib/stemedb"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
