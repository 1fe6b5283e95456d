//! Archive, backup and restore.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::session::{FAR, Session};
use crate::drill::room::NODE;

const ENCRYPTION: &str = "/etc/stemedb/encryption.key";
/// Where a second copy of the database is brought back, which is a branch of its own.
const OTHER: &str = "/var/lib/stemedb-other";

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    for folder in ["archive", "backups"] {
        fs::create_dir_all(Path::new(FAR).join(folder))?;
    }
    let far = format!(
        "[archive]\nurl = \"{FAR}/archive\"\ndelay = \"1s\"\n[backup]\nurl = \"{FAR}/backups\"\n"
    );
    session.configure(&far)?;
    session.export("STEMEDB_API_KEY_FILE", format!("{NODE}/first-admin.key"))?;
    session.assert(["semaglutide", "gastroparesis_risk", "rare"], &[])?;
    session.wait("the archive has all of the log", || {
        Ok(session.tool(&["admin", "status"])?.contains("archive running, at 3"))
    })?;
    session.step("archive")?.shows(&["the archive is whole", "positions 1 to 3"])?;
    session.step("backups")?.shows(&[
        "positions 1 to 3",
        "is whole",
        "the server gives the same answer root",
        "backups would go",
    ])?;
    gives_up(session)?;
    let said = session.step("drills")?;
    said.shows(&["came back, and is the same, from backup", "from the archive", "took over"])?;
    encrypts(session, &far)
}

/// One backup cannot be read, and one is of a branch that nobody writes.
fn gives_up(session: &mut Session<'_>) -> Result<()> {
    let key = session.tool(&["key", "show", &format!("{NODE}/node.key")])?;
    let restore = ["backup", "restore", "--backup", "newest", "--data-dir", OTHER, "--trust-key"];
    session.tool(&[&restore[..], &[key.trim()][..]].concat())?;
    session.tool(&["backup", "create", "--data-dir", OTHER])?;
    let backups = backups(session)?;
    let [(ours, branch), (_, other)] = backups.as_slice() else {
        bail!("two branches were backed up: {backups:?}");
    };
    ensure!(branch != other, "what was restored is of the same branch");
    fs::write(manifest(ours)?, "nothing of a backup")?;
    let swaps = [("ID", ours.as_str()), ("HEX", other.as_str())];
    // Nothing is pruned while a backup cannot be read.
    let give_up = ["backup", "give-up", ours.as_str(), "--yes"];
    let prune = ["backup", "prune", "--branch", other.as_str(), "--yes"];
    for (line, really) in [&give_up[..], &prune[..]].into_iter().enumerate() {
        let lines = session.step_by_lines_with("give-up", &swaps)?;
        let (status, said) = lines.get(line).context("the block has two lines")?;
        ensure!(*status == 1, "it ends with {status}: {}", said.words);
        said.shows(&["--yes"])?;
        session.tool(really)?;
        // One of each branch is left, or the branch of others would be all that there is.
        session.tool(&["backup", "create"])?;
    }
    Ok(())
}

/// Id and branch of each, the oldest first.
fn backups(session: &Session<'_>) -> Result<Vec<(String, String)>> {
    let listed = session.tool(&["backup", "list", "--json"])?;
    let mut found = Vec::new();
    for line in listed.lines() {
        let backup: Value = serde_json::from_str(line)?;
        let text = |key| backup.get(key).and_then(Value::as_str).map(str::to_owned);
        found.push((text("id").context("id")?, text("branch").context("branch")?));
    }
    Ok(found)
}

/// The file that says what is in a backup.
fn manifest(id: &str) -> Result<PathBuf> {
    let logs = fs::read_dir(Path::new(FAR).join("backups"))?;
    for log in logs {
        let file = log?.path().join("backups").join(format!("{id}.cbor"));
        if file.exists() {
            return Ok(file);
        }
    }
    bail!("no file says what is in {id}")
}

/// A key is made, and what is stored from then on is encrypted with it.
fn encrypts(session: &mut Session<'_>, far: &str) -> Result<()> {
    let name = session.step("encryption")?;
    let name = name.words.lines().next().unwrap_or_default().to_owned();
    session.configure(&format!("{far}[encryption]\nkeys = [\"{ENCRYPTION}\"]\n"))?;
    session.assert(["metformin", "gastroparesis_risk", "rare"], &[])?;
    session.tool(&["backup", "create"])?;
    let listed = session.tool(&["backup", "list"])?;
    ensure!(name.len() == 32 && listed.contains(&name), "{name} encrypts nothing: {listed}");
    Ok(())
}
