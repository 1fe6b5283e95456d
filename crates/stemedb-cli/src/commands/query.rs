//! `query`: an answer to a key, or lists of answers or claims.

use serde_json::Value;
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::present;
use crate::question::{LensArgs, Parameters, ReadArgs, when};
use crate::remote::Remote;
use crate::table::{Align, Table};

/// Most items the server puts on one page.
const PAGE_MAX: usize = 1000;

/// Ask for the answer to a key; without a whole key, list answers or claims.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb query semaglutide gastroparesis_risk
  stemedb query semaglutide gastroparesis_risk --lens consensus --asserted-before 2023-10-01
  stemedb query semaglutide gastroparesis_risk --claims
  stemedb query semaglutide gastroparesis_risk --diff 2024-01-01
  stemedb query --prefix drugs/ --lens authority --limit 20")]
pub struct Args {
    /// The entity.
    subject: Option<String>,
    /// The property.
    predicate: Option<String>,
    /// How contradictions are resolved. Default with a whole key: authority. A lens that is
    /// built in (recency, consensus, confidence, authority, trust, votes, skeptic,
    /// layered), or NAME or NAME@VERSION of one's own: see `stemedb lens list`.
    #[arg(long, value_name = "LENS")]
    lens: Option<String>,
    /// List the claims of the key instead of resolving them.
    #[arg(long, conflicts_with = "lens")]
    claims: bool,
    /// Entities whose name begins so.
    #[arg(long, value_name = "PREFIX", conflicts_with = "subject")]
    prefix: Option<String>,
    /// Only claims of this class.
    #[arg(long, value_parser = super::CLASSES)]
    class: Option<String>,
    /// Only claims made under this epoch.
    #[arg(long, value_name = "ID")]
    epoch: Option<String>,
    /// Say what changed since then, and why: a position, an answer's snapshot, or a time.
    #[arg(long, value_name = "WHEN", value_parser = when, requires = "predicate", conflicts_with = "claims")]
    diff: Option<String>,
    /// Longest list; 0 for all.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    options: LensArgs,
    #[command(flatten)]
    read: ReadArgs,
}

impl Args {
    fn parameters(&self) -> Parameters {
        let mut parameters = self.read.parameters();
        parameters.extend(self.options.parameters());
        for (name, value) in [
            ("subject", &self.subject),
            ("predicate", &self.predicate),
            ("subject_prefix", &self.prefix),
            ("class", &self.class),
            ("epoch", &self.epoch),
            ("diff", &self.diff),
        ] {
            if let Some(value) = value {
                parameters.push((name, value.clone()));
            }
        }
        let whole = self.subject.is_some() && self.predicate.is_some();
        match &self.lens {
            Some(lens) => parameters.push(("lens", lens.clone())),
            None if whole && !self.claims => parameters.push(("lens", "authority".into())),
            None => {}
        }
        parameters
    }
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let remote = args.read.remote.connect()?;
    let parameters = args.parameters();
    let whole = args.subject.is_some() && args.predicate.is_some() && !args.claims;
    if whole {
        return one(&remote, "/v1/query", &parameters, context);
    }
    list(&args, &remote, parameters, context)
}

/// Asks for one resolution and prints it. Nobody having said anything is a no.
pub fn one(
    remote: &Remote,
    path: &str,
    parameters: &Parameters,
    context: &Context,
) -> Result<(), Failure> {
    let text = remote.get(path, parameters)?.ok()?;
    let resolution: wire::Resolution = read(&text)?;
    if context.json {
        context.print(&(text + "\n"))?;
    } else {
        context.print(&present::resolution(&resolution))?;
    }
    match resolution.status {
        wire::Status::Unknown => Err(Failure::no("nobody says anything about this")),
        _ => Ok(()),
    }
}

fn list(
    args: &Args,
    remote: &Remote,
    parameters: Parameters,
    context: &Context,
) -> Result<(), Failure> {
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let name = if args.lens.is_some() { "resolutions" } else { "assertions" };
    let (mut cursor, mut count) = (None, 0);
    loop {
        let mut parameters = parameters.clone();
        parameters.push(("limit", PAGE_MAX.min(limit - count).to_string()));
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        let mut page: Value = read(&remote.get("/v1/query", &parameters)?.ok()?)?;
        let items = match page.get_mut(name).map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => return Err(Failure::error(format!("the server's page has no {name}"))),
        };
        count += items.len();
        if context.json {
            for item in &items {
                context.print_json(item)?;
            }
        } else {
            context.print(&page_text(items, args.lens.is_some())?)?;
        }
        cursor = page.get("cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() || count >= limit {
            break;
        }
    }
    if count == 0 {
        return Err(Failure::no("nothing matches"));
    }
    if cursor.is_some() {
        context.say(&format!("{count} shown, there are more; --limit 0 shows all"));
    }
    Ok(())
}

fn page_text(items: Vec<Value>, resolutions: bool) -> Result<String, Failure> {
    let unexpected = |error| {
        Failure::error("the server's answer is not what this version expects").because(error)
    };
    let columns = ["", "", "", ""].map(|name| (name, Align::Left));
    let mut table = Table::new(columns).width_max(present::WIDTH);
    for item in items {
        if resolutions {
            let one: wire::Resolution = serde_json::from_value(item).map_err(unexpected)?;
            table.row([
                present::status_name(one.status).to_owned(),
                format!("{:.2}", one.conflict_score),
                present::answer(&one),
                format!("{}  {}", one.subject.as_str(), one.predicate.as_str()),
            ]);
        } else {
            let stored: wire::StoredRecord = serde_json::from_value(item).map_err(unexpected)?;
            table.row(present::record_line(&stored));
        }
    }
    Ok(table.render())
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::error("the server's answer is not what this version expects").because(error)
    })
}
