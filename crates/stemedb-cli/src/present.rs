//! Answers for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use stemedb_server::wire;

use crate::table::{Align, Cell, Table};

/// Widest line of a table of answers.
pub const WIDTH: usize = 100;

/// Emphasis.
pub const BOLD: Style = Style::new().bold();
/// Of less importance.
pub const DIM: Style = Style::new().dimmed();

/// The colour of a status; the word stands beside it always.
pub fn status_style(status: wire::Status) -> Style {
    let color = match status {
        wire::Status::Unknown => return DIM,
        wire::Status::Unanimous => AnsiColor::Green,
        wire::Status::Agreed => AnsiColor::Cyan,
        wire::Status::Contested => AnsiColor::Red,
    };
    color.on_default()
}

/// The name of a status.
pub fn status_name(status: wire::Status) -> &'static str {
    match status {
        wire::Status::Unknown => "unknown",
        wire::Status::Unanimous => "unanimous",
        wire::Status::Agreed => "agreed",
        wire::Status::Contested => "contested",
    }
}

/// The name of a lens.
pub fn lens_name(lens: &wire::LensName) -> String {
    lens.as_str().to_owned()
}

/// A value as text.
pub fn object(object: &wire::Object) -> String {
    match object {
        wire::Object::Text(text) => text.as_str().to_owned(),
        wire::Object::Number(number) => number.0.to_string(),
        wire::Object::Boolean(value) => value.to_string(),
        wire::Object::Tagged(tagged) => match tagged {
            wire::Tagged::Text { value } => text_of(value),
            wire::Tagged::Number { value, unit: None } => value.0.to_string(),
            wire::Tagged::Number { value, unit: Some(unit) } => {
                format!("{} {}", value.0, text_of(unit))
            }
            wire::Tagged::Boolean { value } => value.to_string(),
            wire::Tagged::Time { value } => value.to_string(),
            wire::Tagged::Reference { value } => format!("→ {}", text_of(value)),
        },
    }
}

/// Text of one of the wire's checked texts, whichever it is.
fn text_of(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// A number as people want to read it: at most two digits behind the point.
pub fn rounded(object: &wire::Object) -> String {
    let two = |number: f64| ((number * 100.0).round() / 100.0).to_string();
    match object {
        wire::Object::Number(number) => two(number.0),
        wire::Object::Tagged(wire::Tagged::Number { value, unit }) => match unit {
            Some(unit) => format!("{} {}", two(value.0), unit.as_str()),
            None => two(value.0),
        },
        other => self::object(other),
    }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// What a resolution answers, in short: its winners, numbers rounded, or that there is none.
pub fn answer(resolution: &wire::Resolution) -> String {
    match resolution.winners.as_slice() {
        [] if resolution.candidates.is_empty() => "nobody says".to_owned(),
        [] => "no winner".to_owned(),
        winners => winners.iter().map(rounded).collect::<Vec<_>>().join(", "),
    }
}

/// A whole resolution.
pub fn resolution(resolution: &wire::Resolution) -> String {
    let mut text = String::new();
    let status = status_style(resolution.status);
    let _ = writeln!(
        text,
        "{BOLD}{}  {}{BOLD:#}  {DIM}{} at position {}{DIM:#}",
        text_of(&resolution.subject),
        text_of(&resolution.predicate),
        lens_name(&resolution.lens),
        resolution.position,
    );
    let exact: Vec<String> = resolution.winners.iter().map(object).collect();
    let exact = if exact.is_empty() { answer(resolution) } else { exact.join(", ") };
    let _ = writeln!(text, "  answer    {BOLD}{exact}{BOLD:#}");
    let _ = writeln!(
        text,
        "  status    {status}{}{status:#}, conflict {:.2}, margin {:.2}, {:.1} effective values, {:.1} effective voices",
        status_name(resolution.status),
        resolution.conflict_score,
        resolution.margin,
        resolution.effective_values,
        resolution.evidence,
    );
    if !resolution.complete {
        text.push_str("  there are more claims than the bound: no winner is named\n");
    }
    if resolution.history_lost {
        text.push_str("  damage took records from the log: what they said is not in this answer\n");
    }
    if !resolution.candidates.is_empty() {
        text.push('\n');
        text.push_str(&candidates(&resolution.candidates).render());
    }
    for layer in &resolution.layers {
        let style = status_style(layer.status);
        let values: Vec<String> = layer.values.iter().map(|value| object(&value.value)).collect();
        let _ = writeln!(
            text,
            "  tier {} {:<13} {style}{:<9}{style:#} {:.2}  {}",
            layer.tier,
            class_name(&layer.class),
            status_name(layer.status),
            layer.conflict_score,
            values.join(" | "),
        );
    }
    if let Some(conflict) = resolution.cross_tier_conflict {
        let _ = writeln!(text, "  conflict across tiers {conflict:.2}");
    }
    if resolution.excluded_count > 0 {
        let _ = writeln!(
            text,
            "\n  {} of {} claims take no part: {}",
            resolution.excluded_count,
            resolution.considered,
            reasons(&resolution.excluded_for),
        );
    }
    if let Some(diff) = &resolution.diff {
        text.push_str(&since(diff, resolution));
    }
    text
}

/// What changed since an earlier moment, and why.
fn since(diff: &wire::Diff, now: &wire::Resolution) -> String {
    let mut text = String::new();
    let winners: Vec<String> = diff.winners.iter().map(object).collect();
    let then = if winners.is_empty() { "no winner".to_owned() } else { winners.join(", ") };
    let style = status_style(diff.status);
    let same = if diff.changed { "" } else { ", as now" };
    let _ = writeln!(
        text,
        "\n{BOLD}since position {}{BOLD:#}  {DIM}{}{DIM:#}\n  answer    {BOLD}{then}{BOLD:#}{same}\n  \
         status    {style}{}{style:#}, conflict {:.2}, margin {:.2}\n",
        diff.position,
        diff.evaluated_at,
        status_name(diff.status),
        diff.conflict_score,
        diff.margin,
    );
    let mut table = Table::new([
        ("value", Align::Left),
        ("share then", Align::Right),
        ("now", Align::Right),
        ("under the lens then", Align::Right),
        ("now", Align::Right),
    ])
    .indent(2)
    .width_max(WIDTH);
    for value in &diff.values {
        table.row([
            object(&value.value),
            percent(value.share_then),
            percent(value.share),
            percent(value.lens_share_then),
            percent(value.lens_share),
        ]);
    }
    text.push_str(&table.render());
    if diff.predicate_changed {
        text.push_str("  the predicate is registered differently now\n");
    }
    if diff.trust_snapshot != now.trust_snapshot {
        text.push_str("  another trust snapshot is in force\n");
    }
    for change in &diff.changes {
        let by = change.by.map_or_else(String::new, |by| format!("  {DIM}by {}{DIM:#}", by.0));
        let _ = writeln!(text, "  {}{by}", became(change));
    }
    let more = diff.changes_count.saturating_sub(diff.changes.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "  and {more} older changes");
    }
    if diff.changes_count == 0 {
        text.push_str("  nothing became of any claim in between\n");
    }
    text
}

/// What became of a claim, on a line.
pub fn became(change: &wire::ClaimChange) -> String {
    use wire::ChangeKind;
    let reason = change.reason.as_deref().unwrap_or_default().replace('_', " ");
    let (was, now) = (change.was.as_deref(), change.now.as_deref());
    let (was, now) = (was.unwrap_or_default(), now.unwrap_or_default());
    let told = match change.change {
        ChangeKind::Asserted if reason.is_empty() => "was asserted".to_owned(),
        ChangeKind::Asserted => format!("was asserted, and takes no part: {reason}"),
        ChangeKind::Joined if reason.is_empty() => "belongs to the key now".to_owned(),
        ChangeKind::Joined => format!("belongs to the key now, and takes no part: {reason}"),
        ChangeKind::Left => "belongs to the key no more".to_owned(),
        ChangeKind::Excluded => format!("takes no part any more: {reason}"),
        ChangeKind::Counts => format!("takes part again (was {reason})"),
        ChangeKind::Tier => format!("was {was}, is {now}"),
        ChangeKind::Lifecycle => format!("was {was}, is {now}").replace('_', " "),
        ChangeKind::Voice => "counts for another voice".to_owned(),
        ChangeKind::Source => "counts with another source".to_owned(),
        ChangeKind::Voted => format!("got a vote of {:+}", change.weight.unwrap_or_default()),
        ChangeKind::Cosigned => "was cosigned".to_owned(),
        ChangeKind::TakenBack => "lost a vote or a cosign".to_owned(),
    };
    format!("#{} {told}", change.position)
}

/// How often each reason occurs, most frequent first.
pub fn reasons(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    let words =
        counts.iter().map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")));
    words.collect::<Vec<_>>().join(", ")
}

/// The name of a class.
pub fn class_name(class: &wire::Class) -> &'static str {
    class.0.as_str()
}

fn candidates(values: &[wire::Value]) -> Table {
    let mut table = Table::new([
        ("share", Align::Right),
        ("lens", Align::Right),
        ("best tier", Align::Left),
        ("claims", Align::Right),
        ("agents", Align::Right),
        ("voices", Align::Right),
        ("value", Align::Left),
    ])
    .indent(2)
    .width_max(WIDTH);
    for value in values {
        let mut text = object(&value.value);
        if value.members.len() > 1 {
            let _ = write!(text, "  (with {} near it)", value.members.len() - 1);
        }
        table.row([
            percent(value.share).into(),
            percent(value.lens_share).into(),
            format!("{} {}", value.tier, class_name(&value.class)).into(),
            value.claims.to_string().into(),
            value.agents.to_string().into(),
            value.voices.to_string().into(),
            Cell::new(text, BOLD),
        ]);
    }
    table
}

/// One stored record on one line.
pub fn record_line(stored: &wire::StoredRecord) -> [String; 4] {
    let value = serde_json::to_value(&stored.record).unwrap_or_default();
    let field = |name: &str| value.get(name).and_then(|field| field.as_str()).unwrap_or_default();
    let what = match &stored.record {
        wire::AnyRecord::Assertion(assertion) => {
            format!("{}  {}  {}", field("subject"), field("predicate"), object(&assertion.object))
        }
        _ => value.to_string(),
    };
    let id: String = field("id").chars().take(12).collect();
    [stored.position.to_string(), field("kind").to_owned(), id, what]
}
