//! `doctor`: what an operator would look at first, looked at, with what to type next.
//!
//! | module | what |
//! |---|---|
//! | `site` | what several checks need: configuration, folders, who has the log open |
//! | `asked` | what the node says when it is asked |
//! | `machine` | reads what the kernel tells; parses, decides nothing |
//! | `checks` | one file a group: gathers facts, and judges them by a function that reads nothing |
//! | `finding`, `show` | what a check says, and the report |
//!
//! Nothing is changed. The one file that is written, by the timed sync, never has a name. No lock is
//! tried: even to try would refuse a start of the node at that moment.

mod asked;
mod checks;
mod finding;
mod machine;
mod show;
mod site;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::checks::time_syncs;
use self::finding::{Finding, Severity};
use self::show::Line;
use self::site::Site;
use super::serve::PlaceArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::remote::RemoteArgs;

/// Look for what is wrong with a node and its machine, and say what to type next.
///
/// Looks at folders, disks, kernel log, clock, limits, log, audit and configuration, and asks the node
/// if it runs. Works with the node stopped or running, without root as far as it may, and changes
/// nothing; the timed sync writes 64 KiB without a name into the folder of the log. Exit 0 unless
/// something is critical, then 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb doctor
  sudo -u stemedb stemedb doctor --config /etc/stemedb/api.toml
  stemedb doctor --data-dir ./stemedb-data --no-probe --json")]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Leave out the timed write and sync, which a busy disk would feel.
    #[arg(long)]
    no_probe: bool,
    /// API key for a node whose admin socket may not be opened; better given in the environment.
    #[arg(long, env = "STEMEDB_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// File with the API key, mode 0600.
    #[arg(long, env = "STEMEDB_API_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    api_key_file: Option<PathBuf>,
    /// Certificates in PEM that are trusted to sign that of the node, instead of the system's.
    #[arg(long, env = "STEMEDB_CA_FILE", value_name = "FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
}

impl Args {
    /// What a node is asked with.
    fn keys(&self) -> RemoteArgs {
        RemoteArgs {
            url: String::new(),
            socket: None,
            api_key: self.api_key.clone(),
            api_key_file: self.api_key_file.clone(),
            ca_file: self.ca_file.clone(),
            client_certificate: None,
            client_key: None,
        }
    }
}

/// One group of things to look at.
pub(crate) struct Check {
    /// Its name in reports and in the documentation.
    name: &'static str,
    /// Looks.
    look: fn(&Site) -> Vec<Finding>,
    /// It hangs if it takes longer.
    patience: Duration,
}

impl Check {
    /// What it finds; that it hangs, if it does: a disk that is gone must not silence the others.
    fn made(&self, site: &Arc<Site>) -> Vec<Finding> {
        let (site, look) = (Arc::clone(site), self.look);
        machine::within(self.patience, move || look(&site)).unwrap_or_else(|| {
            let what = "this check hangs, as a program does whose disk does not answer";
            let evidence = format!("nothing came back in {} s", self.patience.as_secs());
            vec![Finding::critical(what, evidence).next("dmesg --level=emerg,alert,crit,err")]
        })
    }
}

/// Does it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let site = Arc::new(Site::visit(&args, context)?);
    let mut found = Vec::new();
    for check in checks::ALL {
        let findings = check.made(&site).into_iter();
        found.extend(findings.map(|finding| Line { check: check.name, finding }));
    }
    let lines = show::ordered(found);
    if context.json {
        show::json(&lines, &site, context)?;
    } else {
        context.print(&show::human(&lines, &site))?;
    }
    // Everything is said.
    if show::worst(&lines) == Severity::Critical { Err(Failure::no("")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::finding::testing::severities;
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/doctor.md");

    #[test]
    fn the_page_lists_every_check_and_no_other() {
        let page = crate::files::read_text(PAGE.as_ref()).unwrap();
        let (_, table) = page.split_once("| check | reads |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let names: Vec<&str> = names.collect();
        let expected: Vec<&str> = checks::ALL.iter().map(|check| check.name).collect();
        assert_eq!(names, expected);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn a_check_that_hangs_is_a_finding() {
        let look = |_: &Site| {
            std::thread::park();
            Vec::new()
        };
        let check = Check { name: "x", look, patience: Duration::from_millis(10) };
        let found = check.made(&Arc::new(Site::made_up()));
        assert_eq!(severities(&found), [Severity::Critical]);
    }
}
