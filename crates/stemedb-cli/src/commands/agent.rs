//! `agent`: register, replace or revoke a key.

use std::path::PathBuf;

use clap::Subcommand;
use stemedb_model::{AgentId, Kind, Space};

use crate::context::Context;
use crate::failure::Failure;
use crate::keys;
use crate::record::{self, AuthorArgs, Fields};

/// Register agents, replace their keys, revoke them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb agent register $(stemedb key show alice.key) --ceiling expert --name Alice --key root.key
  stemedb agent replace --new-key alice2.key --key alice.key
  stemedb agent revoke PUBLIC_KEY --from-position 120 --key root.key")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Give a key a name, a ceiling and roles. Needs a registrar's key, the root key for
    /// registrars.
    Register {
        /// The public key.
        public_key: AgentId,
        /// The best class that its claims can have.
        #[arg(long, value_parser = super::CLASSES)]
        ceiling: String,
        /// Its name.
        #[arg(long)]
        name: Option<String>,
        /// Who runs it: agents of one operator are one voice.
        #[arg(long)]
        operator: Option<String>,
        /// A right; may be repeated.
        #[arg(long, value_parser = ["curator", "registrar", "reviewer", "trust"])]
        role: Vec<String>,
        #[command(flatten)]
        author: AuthorArgs,
    },
    /// Put a new key in the place of the one given by --key.
    Replace {
        /// File of the new key; it gives its consent.
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
        #[command(flatten)]
        author: AuthorArgs,
    },
    /// Make what a key wrote from a position on count no longer.
    Revoke {
        /// The public key.
        public_key: AgentId,
        /// The first position that no longer counts.
        #[arg(long, value_name = "POSITION")]
        from_position: u64,
        #[command(flatten)]
        author: AuthorArgs,
    },
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let (author, fields) = match args.act {
        Act::Register { public_key, ceiling, name, operator, role, author } => {
            let fields = Fields::new()
                .set("key", public_key.to_string())
                .set("ceiling", ceiling)
                .maybe("name", name)
                .maybe("operator", operator)
                .list("roles", role);
            (author, fields)
        }
        Act::Replace { new_key, author } => {
            let Some(file) = &author.key else {
                return Err(Failure::error("the old key signs its own replacement")
                    .hint("name its file with --key"));
            };
            let (old, new) = (keys::load(file)?.agent_id(), keys::load(&new_key)?);
            let log_id = record::log_id(&author.remote.connect()?)?;
            let space =
                Space::parse(&author.space).map_err(|error| Failure::error(error.to_string()))?;
            let consent = new.consent(log_id, &space, old, new.agent_id());
            let fields = Fields::new()
                .set("key", new.agent_id().to_string())
                .set("replaces", old.to_string())
                .set("consent", consent.to_string());
            (author, fields)
        }
        Act::Revoke { public_key, from_position, author } => {
            let fields = Fields::new()
                .set("key", public_key.to_string())
                .set("from_position", from_position);
            (author, fields)
        }
    };
    record::send(context, &author, Kind::Agent, fields)
}
