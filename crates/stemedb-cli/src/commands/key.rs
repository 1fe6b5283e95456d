//! `key`: signing keys, and the first record of a database.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use stemedb_model::{Body, Genesis, LogId, Millis, Record, Signed, Space};
use stemedb_remote::KeyId;

use crate::context::Context;
use crate::failure::Failure;
use crate::{encryption, files, keys, time};

/// Make and look at keys: those that sign, and those that archive and backups are encrypted with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb key generate alice.key
  stemedb key generate --encryption /etc/stemedb/encryption.key
  stemedb key show alice.key
  stemedb key genesis --key root.key > genesis.json")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make a new key. Its secret half goes to FILE (mode 0600), its public half to stdout.
    #[command(after_help = "Examples:
  stemedb key generate alice.key
  stemedb key generate --encryption /etc/stemedb/encryption.key")]
    Generate {
        /// A key to encrypt archive and backups with (encryption.keys) and no signing key; its name goes
        /// to stdout. Keep a copy elsewhere: without it they cannot be read.
        #[arg(long)]
        encryption: bool,
        /// The new file.
        file: PathBuf,
    },
    /// Print the public half of a key, or of a source's key in a keyring; of an encryption key its name.
    #[command(after_help = "Examples:
  stemedb key show alice.key
  stemedb key show --encryption /etc/stemedb/encryption.key
  stemedb key show --keyring ring --source https://example.org/label")]
    Show {
        /// A key file.
        #[arg(required_unless_present = "keyring")]
        file: Option<PathBuf>,
        /// FILE is an encryption key.
        #[arg(long, requires = "file")]
        encryption: bool,
        /// A folder made by `import --keyring`.
        #[arg(long, value_name = "DIR", requires = "source", conflicts_with = "file")]
        keyring: Option<PathBuf>,
        /// The source, as written in the claims.
        #[arg(long, requires = "keyring")]
        source: Option<String>,
    },
    /// Sign the first record of a new database, for a server that must not hold the root key.
    ///
    /// The server is then started with --root-public-key and --genesis.
    #[command(after_help = "Examples:
  stemedb key genesis --key root.key > genesis.json
  stemedb serve --data-dir ./d --root-public-key HEX --genesis genesis.json")]
    Genesis {
        /// The root key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Name of the database, 32 hex digits; random if not given.
        #[arg(long, value_name = "HEX")]
        log_id: Option<LogId>,
        /// When it is made; now if not given.
        #[arg(long, value_name = "TIME", value_parser = time::parse)]
        at: Option<Millis>,
    },
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let rng = context.env.rng.as_ref();
    match args.act {
        Act::Generate { encryption: true, file } => {
            show_id(context, encryption::generate(&file, rng)?)
        }
        Act::Generate { encryption: false, file } => {
            let key = keys::generate(rng);
            keys::save(&file, &key)?;
            show(context, &key.agent_id().to_string())
        }
        Act::Show { file: Some(file), encryption: true, .. } => {
            show_id(context, encryption::load(&file)?.id())
        }
        Act::Show { file: Some(file), .. } => {
            show(context, &keys::load(&file)?.agent_id().to_string())
        }
        Act::Show { keyring, source, .. } => {
            let (dir, source) = (keyring.unwrap_or_default(), source.unwrap_or_default());
            if files::length(&keys::Keyring::file(&dir)).is_none() {
                return Err(Failure::error(format!("{} is no keyring", dir.display())));
            }
            let key = keys::Keyring::open(&dir, rng)?.key(&source);
            show(context, &key.agent_id().to_string())
        }
        Act::Genesis { key, log_id, at } => {
            let key = keys::load(&key)?;
            let log_id = log_id.unwrap_or_else(|| {
                let mut id = [0; LogId::LEN];
                rng.fill(&mut id);
                LogId(id)
            });
            let at = at.unwrap_or(Millis(context.env.clock.now_ms()));
            let signed = genesis(&key, log_id, at)?;
            context.print_json(&json!({
                "id": signed.id().to_string(),
                "bytes": hex::encode(signed.bytes()),
                "signature": signed.signature().to_string(),
            }))
        }
    }
}

/// The signed first record of a database.
pub fn genesis(
    key: &stemedb_model::SigningKey,
    log_id: LogId,
    at: Millis,
) -> Result<Signed, Failure> {
    let root = key.agent_id();
    let body = Body::Genesis(Genesis { format: stemedb_model::FORMAT_VERSION, root });
    let record = Record { space: Space::default(), agent: root, at, log_id: Some(log_id), body };
    Signed::seal(record, key).map_err(|error| Failure::error("genesis").because(error))
}

fn show_id(context: &Context, id: KeyId) -> Result<(), Failure> {
    if context.json {
        context.print_json(&json!({ "key_id": id.to_string() }))
    } else {
        context.print(&format!("{id}\n"))
    }
}

fn show(context: &Context, public: &str) -> Result<(), Failure> {
    if context.json {
        context.print_json(&json!({ "public_key": public }))
    } else {
        context.print(&format!("{public}\n"))
    }
}
