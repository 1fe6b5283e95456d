//! `lens`: define a lens of one's own, and see what lenses there are and say.

use clap::Subcommand;
use stemedb_model::Kind;
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::present::{BOLD, DIM};
use crate::record::{self, AuthorArgs, Fields};
use crate::remote::{Remote, RemoteArgs};
use crate::table::{Align, Cell, Table, cut};

/// So much of an expression is shown in a list.
const EXPRESSION_WIDTH: usize = 60;

/// Define a version of a named lens, or see what lenses there are. Defining needs a registrar's key.
///
/// A lens says of each claim whether it is heard (`--filter`) and what it weighs (`--weight`), in CEL,
/// and how the weights behind one value combine. Reads take it by `--lens NAME` or `--lens NAME@VERSION`;
/// docs/format/lens.md has all that an expression can ask about.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  stemedb lens list
  stemedb lens show authority
  stemedb lens only-certain 1 --weight claim.confidence --aggregate sum --key root.key
  stemedb lens cosigned 1 --filter 'claim.cosigns > 0' --weight 1.0 --aggregate sum
  stemedb lens fresh 2 --weight 'claim.confidence * exp2(-claim.age_days / 30.0)' --aggregate max
  stemedb query earth age --lens only-certain@1"
)]
pub struct Args {
    #[command(subcommand)]
    act: Option<Act>,
    #[command(flatten)]
    define: Define,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// The built-in lenses as definitions, and those of a namespace.
    List {
        #[command(flatten)]
        read: Read,
    },
    /// What a lens says.
    Show {
        /// Its name, or `NAME@VERSION`.
        #[arg(value_name = "LENS")]
        lens: String,
        #[command(flatten)]
        read: Read,
    },
}

#[derive(Debug, clap::Args)]
struct Read {
    /// The namespace.
    #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
    space: String,
    /// As it stood then: a position, an answer's snapshot, or a time.
    #[arg(long, value_name = "WHEN", value_parser = crate::question::when)]
    as_of: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct Define {
    /// Its name.
    #[arg(required = true)]
    name: Option<String>,
    /// Its version, from 1.
    #[arg(required = true)]
    version: Option<u64>,
    /// CEL over one claim: a number, or null for no say.
    #[arg(long, value_name = "CEL", required = true)]
    weight: Option<String>,
    /// How the weights of a value's voices (sum) or claims (max) combine.
    #[arg(long, value_parser = ["sum", "max"], required = true)]
    aggregate: Option<String>,
    /// CEL over one claim: whether it is heard.
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// How ties are broken, in order; may be repeated.
    #[arg(long, value_parser = ["agents", "newest", "bytes"])]
    tie: Vec<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it, or asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Some(Act::List { read }) => list(&read, context),
        Some(Act::Show { lens, read }) => show(&lens, &read, context),
        None => define(args.define, context),
    }
}

fn define(args: Define, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .maybe("name", args.name)
        .maybe("version", args.version)
        .maybe("weight", args.weight)
        .maybe("aggregate", args.aggregate)
        .maybe("filter", args.filter)
        .list("ties", args.tie);
    record::send(context, &args.author, Kind::Lens, fields)
}

impl Read {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        if self.space != "default" {
            parameters.push(("space", self.space.clone()));
        }
        parameters.extend(self.as_of.clone().map(|when| ("as_of", when)));
        parameters
    }
}

fn list(read: &Read, context: &Context) -> Result<(), Failure> {
    let remote: Remote = read.remote.connect()?;
    let mut table =
        Table::new([("lens", Align::Left), ("aggregate", Align::Left), ("weight", Align::Left)]);
    let mut cursor: Option<String> = None;
    loop {
        let mut parameters = read.parameters();
        parameters.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: wire::LensPage = remote.get("/v1/lenses", &parameters)?.read()?;
        for lens in &page.lenses {
            if context.json {
                context.print_json(lens)?;
                continue;
            }
            let weight = lens.weight.as_ref().map_or("beyond the form", |text| text.as_str());
            let weight = weight.split_whitespace().collect::<Vec<_>>().join(" ");
            table.row([
                Cell::new(lens.lens.as_str(), if lens.problem.is_some() { DIM } else { BOLD }),
                aggregate(lens).into(),
                cut(&weight, EXPRESSION_WIDTH).into(),
            ]);
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    if context.json { Ok(()) } else { context.print(&table.render()) }
}

fn aggregate(lens: &wire::LensAnswer) -> String {
    lens.aggregate.as_ref().map_or_else(String::new, |one| one.0.as_str().to_owned())
}

fn show(name: &str, read: &Read, context: &Context) -> Result<(), Failure> {
    let remote = read.remote.connect()?;
    let path = format!("/v1/lenses/{}", escaped(name));
    let lens: wire::LensAnswer = remote.get(&path, &read.parameters())?.read()?;
    if context.json {
        return context.print_json(&lens);
    }
    let ties: Vec<&str> = lens.ties.iter().map(|rule| rule.0.as_str()).collect();
    let (ties, combined) = (ties.join(", "), aggregate(&lens));
    let mut text = format!("{BOLD}{}{BOLD:#}\n", lens.lens);
    for (name, value) in [
        ("filter", lens.filter.as_ref().map(|text| text.as_str())),
        ("weight", lens.weight.as_ref().map(|text| text.as_str())),
        ("aggregate", Some(combined.as_str()).filter(|text| !text.is_empty())),
        ("ties", Some(ties.as_str()).filter(|text| !text.is_empty())),
        ("beyond", lens.beyond.as_deref()),
        ("unusable", lens.problem.as_deref()),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<11}{value}\n"));
        }
    }
    if let Some(hash) = &lens.definition {
        text.push_str(&format!("{DIM}definition   {}{DIM:#}\n", hash.0));
    }
    if let Some(hash) = &lens.lens_hash {
        text.push_str(&format!("{DIM}lens hash    {}{DIM:#}\n", hash.0));
    }
    context.print(&text)
}

/// A name as one part of a path.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
