//! Every variable that the binary takes, as the file from which those of a node are begun.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Command, CommandFactory};
use serde_json::Value;
use stemedb_remote::{STORE_VARIABLES, StoreVariable};

use super::reference::{Section, documented};
use crate::args::Cli;

const HEAD: &str = "\
# Every key of the configuration as a variable, with its default. Take the # off a line to set it.
# Variables win over /etc/stemedb/api.toml, flags over variables. `stemedb config print` shows what
# is in force and where it comes from. No quotes: systemd, Docker and shells read this file alike.
# At the end: what the stores of archive and backups are reached by, and what commands take.
";
const STORES: &str = "\
## Where archive and backups are: read by the server, and by the commands and units that open either

# One of each for the process: where backups are in another region or account than the archive, a drop-in of
# stemedb-backup names a file of its own after this one (EnvironmentFile=).
";
const COMMANDS: &str = "\
## Commands that ask a server, or write: not read by the server

# They belong into the shell or container from which somebody asks: in the file of the units they would have
# their drills ask another server than the one beside them. Secrets are better in files.
";

/// All of them with their defaults, in comments.
pub fn environment() -> String {
    let mut text = HEAD.to_owned();
    for Section { name, description, keys } in documented() {
        let _ = write!(text, "\n## [{name}] {description}\n");
        for key in keys {
            let default = plain(&key.default);
            let _ = write!(text, "\n# {}\n#{}={default}\n", key.description, key.variable);
        }
    }
    let _ = write!(text, "\n{STORES}");
    for StoreVariable { name, meaning } in STORE_VARIABLES {
        let _ = write!(text, "\n# {meaning}\n#{name}=\n");
    }
    let _ = write!(text, "\n{COMMANDS}");
    for Variable { name, flag, meaning, default } in of_commands() {
        let _ = write!(text, "\n# --{flag}: {meaning}\n#{name}={default}\n");
    }
    text
}

/// A variable in the place of a flag.
struct Variable {
    name: String,
    flag: String,
    meaning: String,
    default: String,
}

/// Those of all commands, by name.
fn of_commands() -> Vec<Variable> {
    /// By name: each flag that takes it, and how many commands say the same of it.
    type Found = BTreeMap<String, Vec<((String, String, String), usize)>>;
    fn walk(command: &Command, found: &mut Found) {
        for arg in command.get_arguments() {
            let Some(name) = arg.get_env().and_then(|name| name.to_str()) else { continue };
            let flag = arg.get_long().unwrap_or_default().to_owned();
            let meaning = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
            // A help of one sentence has lost its full stop.
            let meaning = meaning.unwrap_or_default().replace('\n', " ");
            let meaning = format!("{}.", meaning.trim_end_matches('.'));
            let default = arg.get_default_values().first().and_then(|value| value.to_str());
            let said = (flag, meaning, default.unwrap_or_default().to_owned());
            let all = found.entry(name.to_owned()).or_default();
            match all.iter_mut().find(|(one, _)| *one == said) {
                Some((_, count)) => *count += 1,
                None => all.push((said, 1)),
            }
        }
        command.get_subcommands().for_each(|sub| walk(sub, found));
    }
    let mut found = Found::new();
    walk(&Cli::command(), &mut found);
    let most = |(name, all): (String, Vec<_>)| {
        let ((flag, meaning, default), _) = all.into_iter().max_by_key(|(_, count)| *count)?;
        Some(Variable { name, flag, meaning, default })
    };
    found.into_iter().filter_map(most).collect()
}

/// A value as a variable holds it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
