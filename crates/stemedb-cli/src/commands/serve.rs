//! `serve`: the server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use stemedb_model::{AgentId, Signed};
use stemedb_server::wire;

use crate::archive::TrustArgs;
use crate::config::{self, Loaded, Once, Setting};
use crate::context::Context;
use crate::database::First;
use crate::failure::Failure;
use crate::{files, serve};

/// Serve a database over HTTP until SIGTERM or Ctrl-C.
///
/// The first start makes the database: its root key lies in <data_dir>/node/root.key, and the first API
/// key in <data_dir>/node/first-admin.key, both mode 0600.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb serve --data-dir ./stemedb-data
  stemedb serve --data-dir ./d --listen 127.0.0.1:28180 --no-auth
  stemedb serve --data-dir ./standby --standby-of s3://archive/stemedb --trust-key 5f1c…
  stemedb serve --config /etc/stemedb/api.toml --verify full")]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Address and port to listen on; port 0 takes any.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Answer without API keys, to programs on this machine only; the same as auth.enabled = false.
    #[arg(long)]
    no_auth: bool,
    /// Public half of the root key, where the secret half is kept elsewhere.
    #[arg(long, value_name = "HEX")]
    root_public_key: Option<AgentId>,
    /// First record of a new database, made by `stemedb key genesis`.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Archive of another node, which this one follows: it answers reads, and writes once it is promoted.
    #[arg(long, value_name = "URL")]
    standby_of: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Give up a last group of which nothing says whether it was durable, for this start.
    ///
    /// A start that finds one refuses and asks. Its bytes are kept beside the log as `.rejected`.
    #[arg(long)]
    void_tail: bool,
    /// What of the log is read before anything is answered.
    #[arg(long, value_enum, default_value = "new")]
    verify: Verify,
}

/// How much of the log a start reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Verify {
    /// What no earlier start has proved.
    New,
    /// All of it.
    Full,
}

/// Which database of this machine.
#[derive(Debug, Clone, clap::Args)]
pub struct PlaceArgs {
    /// Folder of everything the node keeps.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file, instead of /etc/stemedb/api.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl PlaceArgs {
    /// The configuration in force, checked.
    pub fn load(&self, mut flags: Vec<Setting>) -> Result<Loaded, Failure> {
        flags.extend(self.data_dir.as_ref().map(|dir| Setting {
            key: "server.data_dir".into(),
            value: dir.display().to_string(),
            origin: "--data-dir".into(),
        }));
        let loaded = config::load(self.config.as_deref(), std::env::vars(), &flags)
            .map_err(super::config::failure)?;
        let problems = loaded.problems();
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(Failure::error(problems.join("\n")).hint("stemedb config check"))
        }
    }
}

/// Serves.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let flag = |key: &str, value: Option<String>| {
        let origin = format!("--{}", key.rsplit('.').next().unwrap_or(key).replace('_', "-"));
        value.map(|value| Setting { key: key.into(), value, origin })
    };
    let no_auth = args.no_auth.then(|| Setting {
        key: "auth.enabled".into(),
        value: "false".into(),
        origin: "--no-auth".into(),
    });
    let flags = [
        no_auth,
        flag("server.listen", args.listen.map(|listen| listen.to_string())),
        flag("cluster.standby_of", args.standby_of),
        flag("server.root_public_key", args.root_public_key.map(|key| key.to_string())),
    ];
    let flags: Vec<Setting> = flags.into_iter().flatten().collect();
    let trusted: Vec<String> = args.trust.keys.iter().map(ToString::to_string).collect();
    let load = || -> Result<Loaded, Failure> {
        let mut loaded = args.place.load(flags.clone())?;
        loaded.config.archive.trusted_keys.extend_from_slice(&trusted);
        Ok(loaded)
    };
    let mut loaded = load()?;
    loaded.config.once =
        Once { void_tail: args.void_tail, verify_all: args.verify == Verify::Full };
    let root = match &loaded.config.server.root_public_key {
        Some(text) => {
            Some(text.parse().map_err(|error| Failure::error("root public key").because(error))?)
        }
        None => None,
    };
    let genesis = args.genesis.as_deref().map(read_genesis).transpose()?;
    let read = || Ok(load()?.config);
    serve::run(&loaded.config, &First { root, genesis }, context, read)
}

fn read_genesis(path: &Path) -> Result<Signed, Failure> {
    let wrong = |problem: String| {
        Failure::error(format!("{} is no genesis record: {problem}", path.display()))
            .hint("stemedb key genesis --key root.key > genesis.json")
    };
    let text = files::read_text(path)?;
    let form: wire::SignedBytes =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    Signed::from_bytes(form.bytes.0, form.signature.0).map_err(|error| wrong(error.to_string()))
}
