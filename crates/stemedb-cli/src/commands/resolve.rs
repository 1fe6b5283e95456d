//! `resolve`: many keys under many lenses.

use std::io::BufRead;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::question::{LensArgs, ReadArgs};
use crate::remote::Remote;
use crate::table::{Align, Table};
use crate::{files, present};

/// Most keys the server takes in one call.
pub const KEYS_MAX: usize = 1000;

/// Resolve the keys of a file, one `{"subject","predicate"}` a line, under one or more lenses.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb resolve keys.jsonl --lens authority,consensus
  echo '{\"subject\":\"pluto\",\"predicate\":\"is_planet\"}' | stemedb resolve - --json")]
pub struct Args {
    /// The file; `-` is standard input. Other fields on a line are ignored.
    keys: PathBuf,
    /// The lenses, with commas between: built in (recency, consensus, confidence, authority, trust, votes, skeptic,
    /// layered), or NAME or NAME@VERSION of one's own: see `stemedb lens list`.
    #[arg(long, value_delimiter = ',', default_value = "authority", value_name = "LENSES")]
    lens: Vec<String>,
    #[command(flatten)]
    options: LensArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let remote = args.read.remote.connect()?;
    let request = request(&args)?;
    let mut keys = Vec::new();
    for (number, line) in files::open_lines(&args.keys)?.lines().enumerate() {
        let line = line.map_err(|error| files::cannot_read(&args.keys, error))?;
        if line.trim().is_empty() {
            continue;
        }
        keys.push(key(&line).ok_or_else(|| {
            Failure::error(format!("{}, line {}: no key", args.keys.display(), number + 1))
                .hint("a line is {\"subject\":\"…\",\"predicate\":\"…\"}")
        })?);
        if keys.len() == KEYS_MAX {
            batch(&remote, &request, std::mem::take(&mut keys), context)?;
        }
    }
    if keys.is_empty() { Ok(()) } else { batch(&remote, &request, keys, context) }
}

fn key(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    let field = |name| value.get(name).and_then(Value::as_str);
    Some(json!({ "subject": field("subject")?, "predicate": field("predicate")? }))
}

/// Everything of the request but the keys.
fn request(args: &Args) -> Result<Map<String, Value>, Failure> {
    let mut request = Map::new();
    request.insert("lenses".into(), json!(args.lens));
    let parameters = args.read.parameters().into_iter().chain(args.options.parameters());
    for (name, text) in parameters {
        let bad = || Failure::error(format!("--{}: `{text}`", name.replace('_', "-")));
        let (name, value) = match name {
            "agent" => ("agents", json!([text])),
            "source" => ("sources", json!([{ "uri": text }])),
            "lifecycle" => (name, json!(text.split(',').collect::<Vec<_>>())),
            "tiers" => {
                let tiers: Result<Vec<u8>, _> = text.split(',').map(str::parse).collect();
                (name, json!(tiers.map_err(|_| bad())?))
            }
            // Numbers and booleans are themselves in JSON; all else is text.
            _ => (name, serde_json::from_str(&text).unwrap_or_else(|_| text.clone().into())),
        };
        request.insert(name.into(), value);
    }
    Ok(request)
}

fn batch(
    remote: &Remote,
    request: &Map<String, Value>,
    keys: Vec<Value>,
    context: &Context,
) -> Result<(), Failure> {
    let mut request = request.clone();
    request.insert("keys".into(), keys.into());
    let result: wire::ResolveResult =
        remote.post_json("/v1/resolve", &Value::Object(request))?.read()?;
    if context.json {
        return result.results.iter().try_for_each(|one| context.print_json(one));
    }
    let columns = ["", "", "", "", ""].map(|name| (name, Align::Left));
    let mut table = Table::new(columns).width_max(present::WIDTH);
    for one in result.results.iter().flat_map(|key| &key.resolutions) {
        table.row([
            present::lens_name(&one.lens),
            present::status_name(one.status).to_owned(),
            format!("{:.2}", one.conflict_score),
            present::answer(one),
            format!("{}  {}", one.subject.as_str(), one.predicate.as_str()),
        ]);
    }
    context.print(&table.render())
}
