//! `config`: what is in force, whether it is good, and what there is to set.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::config::{self, Config, ConfigError, Loaded};
use crate::context::Context;
use crate::failure::Failure;

/// Check, print and explain the configuration of the server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb config check --config /etc/stemedb/api.toml
  STEMEDB_LOG__FORMAT=json stemedb config print
  stemedb config schema > docs/configuration.md")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Report every key that is unknown or out of bounds; exit 1 if there is one.
    #[command(after_help = "Examples:\n  stemedb config check --config api.toml")]
    Check(File),
    /// Print the values in force and where each comes from.
    #[command(after_help = "Examples:\n  stemedb config print --config api.toml")]
    Print(File),
    /// Print the reference of all keys; with --json as JSON Schema.
    #[command(after_help = "Examples:\n  stemedb config schema --json")]
    Schema,
}

#[derive(Debug, clap::Args)]
struct File {
    /// The file, instead of /etc/stemedb/api.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    fn load(&self) -> Result<Loaded, ConfigError> {
        config::load(self.config.as_deref(), std::env::vars(), &[])
    }
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.act {
        Act::Check(file) => check(&file, context),
        Act::Print(file) => {
            let loaded = file.load().map_err(failure)?;
            if context.json {
                return context.print_json(&loaded.config);
            }
            context.print(&config::print(&loaded))
        }
        Act::Schema if context.json => context.print_json(&schemars::schema_for!(Config)),
        Act::Schema => context.print(&config::reference()),
    }
}

fn check(file: &File, context: &Context) -> Result<(), Failure> {
    let problems = match file.load() {
        Err(error @ ConfigError::File { .. }) => return Err(failure(error)),
        Err(ConfigError::Wrong(sentences)) => sentences,
        Ok(loaded) => loaded.problems(),
    };
    if context.json {
        context.print_json(&json!({ "valid": problems.is_empty(), "problems": problems }))?;
    } else {
        for problem in &problems {
            context.print(&format!("{problem}\n"))?;
        }
    }
    match problems.len() {
        0 => {
            context.say("the configuration is valid");
            Ok(())
        }
        n => Err(Failure::no(format!("{n} problem{}", if n == 1 { "" } else { "s" }))
            .hint("stemedb config schema")),
    }
}

/// A configuration that cannot be used is an error for every command but `check`.
pub fn failure(error: ConfigError) -> Failure {
    let hint = match &error {
        ConfigError::File { .. } => "--config FILE names another file",
        ConfigError::Wrong(_) => "stemedb config check",
    };
    Failure::error(error.to_string()).hint(hint)
}
