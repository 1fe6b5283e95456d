//! `audit`: who asked what, and was told what.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use stemedb_model::Hash;
use stemedb_server::wire::{AdminEntry, AdminPage};
use stemedb_server::{AuditReport, audit_dir};

use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::remote::{Remote, RemoteArgs};
use crate::table::{Align, Table};

/// Entries of one page.
const PAGE: u32 = 1_000;

/// Read the audit: who asked what, and was told what.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb audit list --subject semaglutide --from 2026-11-01
  stemedb audit show 1207
  stemedb audit admin
  stemedb audit verify --data-dir ./stemedb-data")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List reads, newest first.
    #[command(after_help = "Examples:
  stemedb audit list
  stemedb audit list --subject semaglutide --from 2026-11-01 --to 2026-12-01
  stemedb audit list --endpoint /v1/export --limit 1000 --json")]
    List(ListArgs),
    /// Show one entry with all that is known of it.
    #[command(after_help = "Examples:\n  stemedb audit show 1207")]
    Show {
        /// The number of the entry.
        id: u64,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Prove the files of the audit, byte by byte; the node may run or not.
    ///
    /// Names every entry that is not as it was written, and every file that is missing. A tail that
    /// power cut short is no damage: it never counted. Ends with status 1 if anything is wrong.
    #[command(after_help = "Examples:
  stemedb audit verify --data-dir ./stemedb-data
  stemedb audit verify --dir ./restored/node/audit
  stemedb audit verify --data-dir ./stemedb-data --last 1207 --chain 9f…")]
    Verify(VerifyArgs),
    /// List what administrators did, newest first: keys, drains, the log taken off and put back.
    ///
    /// Asks the server, or with --data-dir or --config reads the files and proves them: then it ends
    /// with status 1 if an entry is not as it was written.
    #[command(after_help = "Examples:
  stemedb audit admin --limit 50
  stemedb audit admin --data-dir ./stemedb-data --json")]
    Admin(AdminArgs),
}

#[derive(Debug, clap::Args)]
struct AdminArgs {
    /// How many entries.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only reads by this principal.
    #[arg(long)]
    principal: Option<String>,
    /// Only reads about this entity.
    #[arg(long)]
    subject: Option<String>,
    /// Only reads of this endpoint, such as /v1/query.
    #[arg(long)]
    endpoint: Option<String>,
    /// Only what was told at this time or later.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<String>,
    /// Only what was told before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<String>,
    /// How many entries.
    #[arg(long, default_value_t = 20)]
    limit: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The folder of the audit itself, instead of that of a node.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data_dir", "config"])]
    dir: Option<PathBuf>,
    /// An entry that is known to have been there, with its --chain.
    #[arg(long, value_name = "ENTRY", requires = "chain")]
    last: Option<u64>,
    /// The chain that it had, as `stemedb admin status` or an earlier verify told it.
    #[arg(long, value_name = "HEX", requires = "last")]
    chain: Option<Hash>,
}

/// A time as the server takes it.
fn moment(text: &str) -> Result<String, String> {
    crate::time::parse(text).map(|at| at.0.to_string())
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::List(args) => list(args, context),
        Act::Show { id, remote } => {
            let answer = remote.connect()?.get(&format!("/v1/audit/query/{id}"), &[])?;
            if context.json {
                return context.print(&(answer.ok()? + "\n"));
            }
            let entry: Value = answer.read()?;
            let text = serde_json::to_string_pretty(&entry)
                .map_err(|error| Failure::error("cannot show the entry").because(error))?;
            context.print(&(text + "\n"))
        }
        Act::Verify(args) => verify(args, context),
        Act::Admin(args) => admin(&args, context),
    }
}

fn admin(args: &AdminArgs, context: &Context) -> Result<(), Failure> {
    let mut problems = Vec::new();
    let entries = if args.place.data_dir.is_some() || args.place.config.is_some() {
        let data_dir = args.place.load(Vec::new())?.config.server.data_dir;
        let read = stemedb_server::read_trail(&*context.env.vfs, &data_dir).map_err(|error| {
            let dir = stemedb_server::trail_dir(&data_dir);
            Failure::error(format!("cannot read {}", dir.display())).because(error)
        })?;
        problems = read.problems;
        read.entries.into_iter().rev().take(args.limit).collect()
    } else {
        let (remote, mut entries) = (args.remote.connect()?, Vec::<AdminEntry>::new());
        let mut cursor: Option<String> = None;
        while entries.len() < args.limit {
            let most = (args.limit - entries.len()).min(PAGE as usize);
            let mut asked = vec![("limit", most.to_string())];
            asked.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: AdminPage = remote.get("/v1/audit/admin", &asked)?.read()?;
            entries.extend(page.entries);
            problems = page.problems;
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        entries
    };
    if context.json {
        entries.iter().try_for_each(|entry| context.print_json(entry))?;
    } else {
        let mut table = Table::new([
            ("entry", Align::Right),
            ("at", Align::Left),
            ("principal", Align::Left),
            ("act", Align::Left),
            ("status", Align::Right),
            ("what came of it", Align::Left),
        ]);
        for entry in &entries {
            table.row([
                entry.id.to_string(),
                entry.at.to_string(),
                entry.principal.clone(),
                entry.act.clone(),
                entry.status.map(|status| status.to_string()).unwrap_or_default(),
                entry.detail.clone().unwrap_or_default(),
            ]);
        }
        context.print(&table.render())?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::no(problems.join("\n"))) }
}

fn list(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let mut asked: Vec<(&str, String)> = Vec::new();
    asked.extend(args.principal.map(|principal| ("principal", principal)));
    asked.extend(args.subject.map(|subject| ("subject", subject)));
    asked.extend(args.endpoint.map(|endpoint| ("endpoint", endpoint)));
    asked.extend(args.from.map(|from| ("from", from)));
    asked.extend(args.to.map(|to| ("to", to)));
    let remote = args.remote.connect()?;
    let entries = pages(&remote, &asked, args.limit)?;
    if context.json {
        return entries.iter().try_for_each(|entry| context.print_json(entry));
    }
    let mut table = Table::new([
        ("entry", Align::Right),
        ("at", Align::Left),
        ("principal", Align::Left),
        ("endpoint", Align::Left),
        ("status", Align::Right),
        ("question, and what was told", Align::Left),
    ]);
    for entry in &entries {
        let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        table.row([
            entry["id"].to_string(),
            entry["at"].as_str().map_or_else(|| entry["at"].to_string(), str::to_owned),
            word("principal"),
            entry["path"].as_str().or(entry["endpoint"].as_str()).unwrap_or_default().to_owned(),
            entry["status"].as_u64().map(|status| status.to_string()).unwrap_or_default(),
            told(entry),
        ]);
    }
    context.print(&table.render())
}

/// Pages until there are enough entries or no more.
fn pages(remote: &Remote, asked: &[(&str, String)], limit: u64) -> Result<Vec<Value>, Failure> {
    let mut entries: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let missing = limit.saturating_sub(entries.len() as u64);
        if missing == 0 {
            return Ok(entries);
        }
        let mut parameters = asked.to_vec();
        parameters.push(("limit", missing.min(u64::from(PAGE)).to_string()));
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        let mut page: Value = remote.get("/v1/audit/queries", &parameters)?.read()?;
        if let Some(Value::Array(found)) = page.get_mut("entries").map(Value::take) {
            entries.extend(found);
        }
        match page.get("cursor").and_then(serde_json::Value::as_str) {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(entries),
        }
    }
}

/// An entry in one line.
fn told(entry: &Value) -> String {
    match entry["kind"].as_str() {
        Some("gap") => return format!("{} reads are not taken down", entry["dropped"]),
        Some("end") => return "the node stopped".to_owned(),
        _ => {}
    }
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut parts: Vec<String> = Vec::new();
    if let Some(question) = entry["question"].as_object() {
        parts.extend(question.iter().map(|(name, value)| format!("{name}={}", plain(value))));
    }
    let mut answers: Vec<String> = Vec::new();
    for one in entry["told"].as_array().into_iter().flatten() {
        let lens = one["lens"].as_str();
        let winners: Vec<String> =
            one["winners"].as_array().into_iter().flatten().map(plain).collect();
        answers.push(match (one["id"].as_str(), lens) {
            (Some(id), _) => id.chars().take(12).collect(),
            (None, lens) => {
                let status = one["status"].as_str().unwrap_or_default();
                format!("{} {status} {}", lens.unwrap_or_default(), winners.join(", "))
            }
        });
    }
    let mut text = parts.join(" ");
    if let Some(code) = entry["code"].as_str() {
        answers.push(code.to_owned());
    }
    if !answers.is_empty() {
        text = format!("{text} → {}", answers.join("; "));
    }
    text
}

fn verify(args: VerifyArgs, context: &Context) -> Result<(), Failure> {
    let dir = match args.dir {
        Some(dir) => dir,
        None => audit_dir(&args.place.load(Vec::new())?.config.server.data_dir),
    };
    let report = stemedb_server::verify_audit(&*context.env.vfs, &dir).map_err(|error| {
        Failure::error(format!("cannot read {}", dir.display()))
            .because(error)
            .hint("--data-dir DIR names the folder of a node, --dir DIR that of the audit itself")
    })?;
    let known = match (args.last, args.chain) {
        (Some(last), Some(chain)) => Some((last, chain)),
        _ => None,
    };
    let anchored = match known {
        None => true,
        Some((last, chain)) => {
            stemedb_server::audit_chain_at(&*context.env.vfs, &dir, last).map_err(|error| {
                Failure::error(format!("cannot read {}", dir.display())).because(error)
            })? == Some(chain)
        }
    };
    if context.json {
        report_json(&report, context)?;
    } else {
        print(&report, context)?;
    }
    if let Some(first) = report.findings.first() {
        let problem = format!("the audit is damaged in {} places", report.findings.len());
        let hint =
            format!("first: {}; a backup of {} may still have it", first.problem, first.file);
        return Err(Failure::no(problem).hint(hint));
    }
    match known {
        Some((last, chain)) if !anchored => {
            Err(Failure::no(format!("entry {last} is not there with the chain {chain}"))
                .hint("entries were cut off or written anew since that chain was noted"))
        }
        _ => Ok(()),
    }
}

fn print(report: &AuditReport, context: &Context) -> Result<(), Failure> {
    let mut table = Table::new([
        ("file", Align::Left),
        ("entries", Align::Left),
        ("bytes", Align::Right),
        ("cut", Align::Right),
    ]);
    for file in &report.files {
        let entries =
            file.entries.map_or("–".into(), |(first, last)| format!("{first} to {last}"));
        table.row([file.file.clone(), entries, file.bytes.to_string(), file.cut.to_string()]);
    }
    context.print(&table.render())?;
    for finding in &report.findings {
        context.print(&format!("{}\n", finding.problem))?;
    }
    if let Some(chain) = report.chain {
        context.print(&format!("last entry {}, chain {chain}\n", report.last))?;
    }
    Ok(())
}

fn report_json(report: &AuditReport, context: &Context) -> Result<(), Failure> {
    for file in &report.files {
        context.print_json(&json!({
            "file": file.file,
            "first": file.entries.map(|(first, _)| first),
            "last": file.entries.map(|(_, last)| last),
            "bytes": file.bytes,
            "cut": file.cut,
        }))?;
    }
    for finding in &report.findings {
        context.print_json(&json!({
            "finding": finding.problem,
            "file": finding.file,
            "byte": finding.byte,
            "entry": finding.id,
        }))?;
    }
    context.print_json(&json!({
        "last": report.last,
        "chain": report.chain.map(|chain| chain.to_string()),
        "log_id": report.log_id.map(|log_id| log_id.to_string()),
        "findings": report.findings.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_in_a_line() {
        for (entry, expected) in [
            (
                json!({"kind": "read", "question": {"lens": "votes", "subject": "s"},
                    "told": [{"lens": "votes", "status": "agreed", "winners": ["rare", 2]}]}),
                "lens=votes subject=s → votes agreed rare, 2",
            ),
            (
                json!({"kind": "read", "question": {}, "told": [{"id": "abcdefabcdefabcdef"}]}),
                " → abcdefabcdef",
            ),
            (
                json!({"kind": "read", "question": {"a": "b"}, "code": "not_ready"}),
                "a=b → not_ready",
            ),
            (json!({"kind": "gap", "dropped": 3}), "3 reads are not taken down"),
            (json!({"kind": "end"}), "the node stopped"),
        ] {
            assert_eq!(told(&entry), expected, "{entry}");
        }
    }
}
