//! `stemedb doctor`, and the statuses that its page promises.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::session::{Said, Session};
use crate::drill::room::{CONFIG, NODE};

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    session.on_a_disk()?;
    session.service.start()?;
    for (status, said) in looks(session)? {
        let found = critical(session)?;
        // The kernel's log is that of the machine, on which others may fail disks.
        ensure!(found.iter().all(|check| check == "errors"), "{found:?} of a node that is well");
        ensure!(status == i32::from(!found.is_empty()), "it ends with {status}: {}", said.words);
        said.shows(&["ready"])?;
    }
    // Something is: anybody may read the keys.
    let key = Path::new(NODE).join("root.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    for (status, said) in looks(session)? {
        ensure!(status == 1, "it ends with {status} though anybody may read the key");
        said.shows(&["critical", "root.key"])?;
    }
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    // It cannot look: what the command names is not there.
    fs::remove_file(CONFIG)?;
    let (status, said) = looks(session)?.into_iter().nth(1).context("no second line")?;
    ensure!(status == 2, "it ends with {status} without the file that it is told to read");
    said.shows(&[CONFIG])
}

fn looks(session: &mut Session<'_>) -> Result<Vec<(i32, Said)>> {
    let found = session.step_by_lines("look")?;
    ensure!(found.len() == 3, "the page looks {} times", found.len());
    Ok(found)
}

/// The checks with a critical finding.
fn critical(session: &Session<'_>) -> Result<Vec<String>> {
    let key = Path::new(NODE).join("first-admin.key");
    let (_, said) = session.told(&key, &["doctor", "--json"])?;
    let mut checks = Vec::new();
    for line in said.lines().filter(|line| line.starts_with("{\"check\"")) {
        let finding: Value = serde_json::from_str(line)?;
        if finding.get("severity").and_then(Value::as_str) == Some("critical") {
            let check = finding.get("check").and_then(Value::as_str).context(line.to_owned())?;
            checks.push(check.to_owned());
        }
    }
    Ok(checks)
}
