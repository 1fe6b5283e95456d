//! `admin keys`: API keys.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use stemedb_model::{AgentId, Millis};
use stemedb_server::wire::{
    AdminEntry, AgentKey, KeyInfo, KeyList, KeyRole, MadeKey, NewKey, Quota, SpaceText, Time,
};

use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::remote::{Answer, RemoteArgs};
use crate::table::{Align, Table};
use crate::{files, time};

const PATH: &str = "/v1/admin/keys";

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Make a key, and print its secret, which is never shown again.
    #[command(after_help = "Examples:
  stemedb admin keys create dashboard --role reader --space default
  stemedb admin keys create ingest --role writer --out ingest.key
  stemedb admin keys create partner --role writer --agent HEX --expires 2027-01-01
  stemedb admin keys create trial --role writer --records-per-day 10000")]
    Create(CreateArgs),
    /// List the keys, revoked ones too; never their secrets.
    #[command(after_help = "Examples:\n  stemedb admin keys list --json")]
    List(RemoteArgs),
    /// Give a key another secret; the one of now is taken for a while longer.
    #[command(after_help = "Examples:
  stemedb admin keys rotate 0f3c5a7e9b1d2c4e --out ingest.key
  stemedb admin keys rotate 0f3c5a7e9b1d2c4e --grace 0")]
    Rotate(RotateArgs),
    /// Refuse a key from now on, for good.
    #[command(after_help = "Examples:\n  stemedb admin keys revoke 0f3c5a7e9b1d2c4e")]
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
        /// The server.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Revoke all keys of a stopped node, and write a new one with role admin into a file.
    ///
    /// For a lost admin key or a damaged list. Needs no key: whoever may write the data folder owns
    /// the node.
    #[command(after_help = "Examples:\n  stemedb admin keys reset --data-dir ./stemedb-data")]
    Reset(PlaceArgs),
}

/// The key to be made.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// What to call it: a-z 0-9 . _ -
    name: String,
    /// What it may do: reader, writer, operator or admin, each also what those before it may.
    #[arg(long, value_parser = role)]
    role: KeyRole,
    /// Who is stamped on what is written with it; the name if not given.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// A space that it is for; may be given again. All if not given.
    #[arg(long = "space", value_name = "SPACE")]
    spaces: Vec<String>,
    /// The one agent whose signed records it may send.
    #[arg(long, value_name = "HEX")]
    agent: Option<AgentId>,
    /// From when on it is refused; never if not given.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    expires: Option<Millis>,
    /// How many new records its holder may write in a day (UTC); no bound if not given.
    #[arg(long, value_name = "N")]
    records_per_day: Option<u64>,
    /// How many bytes of records that may be; no bound if not given.
    #[arg(long, value_name = "BYTES")]
    bytes_per_day: Option<u64>,
    /// Write the secret into this new file, mode 0600, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// The key to be rotated.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    /// The key's id, as `list` shows it.
    id: String,
    /// How many seconds the old secret is still taken, at most 2,592,000.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    grace: u64,
    /// Write the secret into this new file, mode 0600, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

fn role(text: &str) -> Result<KeyRole, String> {
    KeyRole::parse(text)
        .ok_or_else(|| format!("expected one of {}", KeyRole::ALL.map(KeyRole::as_str).join(", ")))
}

/// Does it.
pub fn run(act: Act, context: &Context) -> Result<(), Failure> {
    match act {
        Act::Create(args) => create(args, context),
        Act::List(remote) => list(&remote, context),
        Act::Rotate(args) => {
            let body = json!({ "grace_seconds": args.grace });
            let answer =
                args.remote.connect()?.post_json(&format!("{PATH}/{}/rotate", args.id), &body)?;
            show_made(answer, args.out, context)
        }
        Act::Revoke { id, remote } => {
            let key: KeyInfo = remote.connect()?.delete(&format!("{PATH}/{id}"))?.read()?;
            if context.json {
                return context.print_json(&key);
            }
            context.print(&format!("{} ({}) is revoked\n", key.id, key.name))
        }
        Act::Reset(place) => reset(&place, context),
    }
}

fn create(args: CreateArgs, context: &Context) -> Result<(), Failure> {
    let spaces = args.spaces.iter().map(|space| SpaceText::from(space.as_str())).collect();
    let new = NewKey {
        name: args.name,
        role: args.role,
        principal: args.principal,
        spaces: Some(spaces).filter(|spaces: &Vec<SpaceText>| !spaces.is_empty()),
        agent: args.agent.map(AgentKey),
        expires_at: args.expires.map(Time),
        quota: Some(Quota {
            records_per_day: args.records_per_day,
            bytes_per_day: args.bytes_per_day,
        })
        .filter(|quota| quota.records_per_day.or(quota.bytes_per_day).is_some()),
    };
    let body = serde_json::to_value(&new)
        .map_err(|error| Failure::error("cannot write JSON").because(error))?;
    show_made(args.remote.connect()?.post_json(PATH, &body)?, args.out, context)
}

/// The secret is data; all else is talk.
fn show_made(answer: Answer, out: Option<PathBuf>, context: &Context) -> Result<(), Failure> {
    let made: MadeKey = answer.read()?;
    if let Some(path) = out {
        files::create_private(&path, &format!("{}\n", made.secret)).map_err(|failure| {
            failure.hint(format!(
                "nobody has seen the secret: stemedb admin keys rotate {} makes another",
                made.key.id
            ))
        })?;
        context.say(&format!("the secret is in {}", path.display()));
        return match context.json {
            true => context.print_json(&made.key),
            false => context.print(&format!("{}\n", made.key.id)),
        };
    }
    if context.json {
        return context.print_json(&made);
    }
    context.say(&format!(
        "key {} ({}, {}); its secret is shown this once",
        made.key.id, made.key.name, made.key.role
    ));
    context.print(&format!("{}\n", made.secret))
}

fn list(remote: &RemoteArgs, context: &Context) -> Result<(), Failure> {
    let list: KeyList = remote.connect()?.get(PATH, &[])?.read()?;
    if context.json {
        return list.keys.iter().try_for_each(|key| context.print_json(key));
    }
    let mut table = Table::new([
        ("id", Align::Left),
        ("name", Align::Left),
        ("role", Align::Left),
        ("state", Align::Left),
        ("principal", Align::Left),
        ("spaces", Align::Left),
        ("records today", Align::Right),
        ("expires", Align::Left),
        ("last used", Align::Left),
    ]);
    let moment = |time: Option<Time>| time.map_or_else(String::new, |time| time.to_string());
    for key in &list.keys {
        let spaces = key.spaces.as_ref().map_or_else(
            || "all".to_owned(),
            |spaces| spaces.iter().map(SpaceText::as_str).collect::<Vec<_>>().join(", "),
        );
        table.row([
            key.id.clone(),
            key.name.clone(),
            key.role.to_string(),
            key.state.clone(),
            key.principal.clone(),
            spaces,
            records_today(key),
            moment(key.expires_at),
            moment(key.last_used_at),
        ]);
    }
    context.print(&table.render())
}

/// Written and allowed, of a key with a quota.
fn records_today(key: &KeyInfo) -> String {
    let (Some(quota), Some(used)) = (key.quota, key.used_today) else { return String::new() };
    match quota.records_per_day {
        Some(most) => format!("{} of {most}", used.records),
        None => used.records.to_string(),
    }
}

fn reset(place: &PlaceArgs, context: &Context) -> Result<(), Failure> {
    let config = place.load(Vec::new())?.config;
    let data_dir = &config.server.data_dir;
    if !config.node_dir().exists() {
        return Err(Failure::error(format!("there is no node in {}", data_dir.display()))
            .hint("stemedb serve --data-dir DIR makes one"));
    }
    let reset = stemedb_server::reset_keys(&context.env, data_dir).map_err(|error| {
        let hint = match &error {
            stemedb_server::KeyError::InUse(_) => {
                "stop the server; while it runs, an admin key does all of this"
            }
            _ => "the data folder must be writable",
        };
        Failure::error("the API keys were not reset").because(error).hint(hint)
    })?;
    let at = Time(Millis(context.env.clock.now_ms()));
    let mut act = AdminEntry::new(at, "stemedb admin keys reset", "local", "offline");
    act.detail = Some(format!("{} live keys revoked, one made", reset.revoked));
    stemedb_server::append_offline(&context.env, data_dir, act).map_err(|error| {
        Failure::error("the keys are reset, but that was not taken down").because(error)
    })?;
    if context.json {
        return context.print_json(&json!({
            "file": reset.file,
            "revoked": reset.revoked,
            "set_aside": reset.set_aside,
        }));
    }
    if let Some(aside) = &reset.set_aside {
        context.say(&format!("the damaged list is kept as {}", aside.display()));
    }
    context.say(&format!("{} keys are revoked; the new admin key is in", reset.revoked));
    context.print(&format!("{}\n", reset.file.display()))
}
