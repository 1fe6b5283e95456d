//! The report: for people, and as JSON.

use std::cmp::Reverse;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::finding::{Finding, Severity};
use super::machine::processes::Holder;
use super::site::Site;
use crate::context::Context;
use crate::failure::Failure;

/// A finding with the check that found it: one line of JSON.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) check: &'static str,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

/// The last line of JSON: what it all comes to.
#[derive(Debug, Serialize)]
struct Verdict {
    /// The worst severity.
    verdict: Severity,
    critical: usize,
    warning: usize,
    note: usize,
    ok: usize,
    /// Of these, how many could not be looked at.
    not_looked_at: usize,
    data_dir: String,
    /// Whether a node has the log open, if that could be seen.
    running: Option<bool>,
    version: &'static str,
}

fn verdict(lines: &[Line], site: &Site) -> Verdict {
    let count = |severity| lines.iter().filter(|line| line.finding.severity == severity).count();
    Verdict {
        verdict: worst(lines),
        critical: count(Severity::Critical),
        warning: count(Severity::Warning),
        note: count(Severity::Note),
        ok: count(Severity::Ok),
        not_looked_at: lines.iter().filter(|line| !line.finding.looked_at).count(),
        data_dir: site.config.server.data_dir.display().to_string(),
        running: site.running(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// The worst severity.
pub(super) fn worst(lines: &[Line]) -> Severity {
    lines.iter().map(|line| line.finding.severity).max().unwrap_or(Severity::Ok)
}

/// One finding a line, then the verdict.
pub(super) fn json(lines: &[Line], site: &Site, context: &Context) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| context.print_json(line))?;
    context.print_json(&verdict(lines, site))
}

/// The worst first; the verdict is the last line, where eyes and terminals end up.
pub(super) fn human(lines: &[Line], site: &Site) -> String {
    let width = |text: fn(&Line) -> &str| lines.iter().map(|line| text(line).width()).max();
    let severity_width = width(|line| word(&line.finding)).unwrap_or(0);
    let check_width = width(|line| line.check).unwrap_or(0);
    let indent = " ".repeat(severity_width + check_width + 4);
    let mut text = format!("{}\n\n", plain(&about(site)));
    for Line { check, finding } in lines {
        let (style, word) = (style(finding.severity), word(finding));
        let padding = " ".repeat(severity_width.saturating_sub(word.width()));
        let what = plain(&finding.what);
        text += &format!("{style}{word}{style:#}{padding}  {check:check_width$}  {what}\n");
        text += &format!("{indent}{}\n", plain(&finding.evidence));
        if let Some(next) = &finding.next {
            text += &format!("{indent}next: {}\n", plain(next));
        }
    }
    let style = style(worst(lines));
    text += &format!("\n{style}{}{style:#}\n", sentence(&verdict(lines, site)));
    text
}

/// What was looked at.
fn about(site: &Site) -> String {
    let node = match (site.running(), &site.holder) {
        (_, Holder::Process(process)) => format!("{process} has the log open"),
        (Some(true), _) => "the node runs".to_owned(),
        (Some(false), _) => "the node is stopped".to_owned(),
        (None, _) => "whether the node runs cannot be seen".to_owned(),
    };
    format!("data in {}; {node}", site.config.server.data_dir.display())
}

/// The verdict in one line.
fn sentence(verdict: &Verdict) -> String {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let say = match verdict.verdict {
        Severity::Critical => "critical: act now, the worst is at the top",
        Severity::Warning => "warning: nothing is broken now, and somebody should look",
        Severity::Note | Severity::Ok => "nothing is wrong with what was looked at",
    };
    format!(
        "{say} ({} critical, {}, {}, {} ok; {} not looked at)",
        verdict.critical,
        counted(verdict.warning, "warning", "warnings"),
        counted(verdict.note, "note", "notes"),
        verdict.ok,
        verdict.not_looked_at
    )
}

fn word(finding: &Finding) -> &'static str {
    if finding.looked_at { finding.severity.as_str() } else { "not seen" }
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Ok => AnsiColor::Green.on_default(),
        Severity::Note => Style::new(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Critical => AnsiColor::Red.on_default().bold(),
    }
}

/// Names and the kernel's words may hold anything; a terminal must not be told what to do by them.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Findings in the order of the report: the worst first, else as they were found.
pub(super) fn ordered(mut found: Vec<Line>) -> Vec<Line> {
    found.sort_by_key(|line| Reverse(line.finding.severity));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        ordered(vec![
            Line { check: "space", finding: Finding::ok("there is room", "1 of 2 GiB") },
            Line { check: "smart", finding: Finding::unseen("the disk's own word", "no smartctl") },
            Line {
                check: "mounts",
                finding: Finding::critical("read-only", "ro\u{1b}[2J").next("dmesg"),
            },
        ])
    }

    #[test]
    fn the_worst_comes_first_and_the_verdict_last() {
        let site = Site::made_up();
        let text = anstream::adapter::strip_str(&human(&lines(), &site)).to_string();
        assert_eq!(
            text,
            "data in /d; the node is stopped\n\n\
             critical  mounts  read-only\n                  ro [2J\n                  next: dmesg\n\
             not seen  smart   the disk's own word\n                  no smartctl\n\
             ok        space   there is room\n                  1 of 2 GiB\n\n\
             critical: act now, the worst is at the top (1 critical, 0 warnings, 1 note, 1 ok; 1 not \
             looked at)\n"
        );
    }

    #[test]
    fn json_has_one_shape() {
        let text = serde_json::to_string(lines().first().unwrap()).unwrap();
        let expected = r#"{"check":"mounts","severity":"critical","looked_at":true,"#.to_owned()
            + r#""what":"read-only","evidence":"ro\u001b[2J","next":"dmesg"}"#;
        assert_eq!(text, expected);
        let site = Site::made_up();
        let text = serde_json::to_string(&verdict(&lines(), &site)).unwrap();
        let expected = format!(
            r#"{{"verdict":"critical","critical":1,"warning":0,"note":1,"ok":1,"not_looked_at":1,"data_dir":"/d","running":false,"version":"{}"}}"#,
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(text, expected);
    }
}
