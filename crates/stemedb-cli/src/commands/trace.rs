//! `trace`: what an assertion rests on, and what came of it.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;
use stemedb_model::RecordId;

use crate::context::Context;
use crate::failure::Failure;
use crate::present::{BOLD, DIM};
use crate::remote::RemoteArgs;

/// Follow parents, premises and supersessions from a record, in both directions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb trace ID
  stemedb trace ID --depth 1 --as-of 2024-07-01")]
pub struct Args {
    /// The record to begin at; one that speaks of an assertion leads to that.
    id: RecordId,
    /// How many links far, up to 64.
    #[arg(long, default_value_t = 8)]
    depth: u32,
    /// How many records, up to 1,000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// As it stood then: a position, an answer's snapshot, or a time.
    #[arg(long, value_name = "WHEN", value_parser = crate::question::when)]
    as_of: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut parameters = vec![("depth", args.depth.to_string()), ("limit", args.limit.to_string())];
    parameters.extend(args.as_of.map(|when| ("as_of", when)));
    let remote = args.remote.connect()?;
    let answer = remote.get(&format!("/v1/trace/{}", args.id), &parameters)?;
    if context.json {
        return context.print(&(answer.ok()? + "\n"));
    }
    context.print(&text(&answer.read()?))
}

/// A paragraph a record: what it is, what was said of it, what it hangs together with.
fn text(trace: &Value) -> String {
    let list = |name: &str| trace.get(name).and_then(Value::as_array).into_iter().flatten();
    let places: HashMap<&str, u64> = list("records")
        .map(|one| (word(one, "/record/id"), one["position"].as_u64().unwrap_or_default()))
        .collect();
    let place = |id: &str| places.get(id).map_or_else(|| id.to_owned(), |at| format!("#{at}"));
    let mut text = String::new();
    for one in list("records") {
        let id = word(one, "/record/id");
        let _ = writeln!(text, "{BOLD}{}{BOLD:#}  {}", place(id), told(one));
        let _ = writeln!(text, "    {DIM}{id}{DIM:#}");
        for fact in one["facts"].as_array().into_iter().flatten() {
            let said = match word(fact, "/kind") {
                "vote" => format!("vote {:+}", fact["weight"].as_f64().unwrap_or_default()),
                "lifecycle" => format!("moved to {}", word(fact, "/state")),
                "retract" => "retracted".to_owned(),
                "cosign" => "cosigned".to_owned(),
                // The links tell.
                _ => continue,
            };
            let _ = writeln!(text, "    {said} by {DIM}{}{DIM:#}", word(fact, "/agent"));
        }
        for link in list("links") {
            let (from, to) = (word(link, "/from"), word(link, "/to"));
            let (words, other) = match (word(link, "/relation"), from == id, to == id) {
                ("revises", true, _) => ("revises", to),
                ("revises", _, true) => ("is revised by", from),
                ("rests_on", true, _) => ("rests on", to),
                ("rests_on", _, true) => ("is a premise of", from),
                ("supersedes", true, _) => ("supersedes", to),
                ("supersedes", _, true) => ("is superseded by", from),
                ("under", true, _) => ("was made under", to),
                ("under", _, true) => ("is the epoch of", from),
                _ => continue,
            };
            let _ = writeln!(text, "    {words} {}", place(other));
        }
    }
    if trace["complete"] == false {
        text.push_str("there is more: a larger --depth or --limit shows it\n");
    }
    text
}

/// A record in one line.
fn told(one: &Value) -> String {
    let record = &one["record"];
    let mut line = match word(record, "/kind") {
        "assertion" => {
            let object = match &record["object"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("{}  {}  {object}", word(record, "/subject"), word(record, "/predicate"))
        }
        "epoch" => format!("epoch {}", word(record, "/name")),
        other => other.to_owned(),
    };
    if one.get("standing").is_some() {
        let (class, state) = (word(one, "/standing/class"), word(one, "/standing/lifecycle"));
        let _ = write!(line, "  ({class}, {state})");
    }
    if one.get("excluded").is_some() {
        let _ = write!(line, "  excluded: {}", word(one, "/excluded/reason"));
    }
    line
}

fn word<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_record_says_what_it_hangs_together_with() {
        let trace = json!({
            "records": [
                {
                    "position": 4,
                    "record": {"id": "bb", "kind": "assertion", "subject": "s", "predicate": "p",
                        "object": "rare"},
                    "standing": {"class": "expert", "lifecycle": "proposed"},
                    "facts": [{"kind": "vote", "weight": -0.5, "agent": "cc"}],
                },
                {
                    "position": 3,
                    "record": {"id": "aa", "kind": "assertion", "subject": "s", "predicate": "p",
                        "object": 2},
                    "excluded": {"reason": "superseded"},
                },
            ],
            "links": [
                {"from": "bb", "to": "aa", "relation": "revises"},
                {"from": "bb", "to": "aa", "relation": "supersedes"},
            ],
            "complete": false,
        });
        let plain = anstream::adapter::strip_str(&text(&trace)).to_string();
        assert_eq!(
            plain,
            "#4  s  p  rare  (expert, proposed)\n    bb\n    vote -0.5 by cc\n    revises #3\n    \
             supersedes #3\n#3  s  p  2  excluded: superseded\n    aa\n    is revised by #4\n    is \
             superseded by #4\nthere is more: a larger --depth or --limit shows it\n"
        );
    }
}
