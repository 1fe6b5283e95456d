//! Incident response: looking, and keeping what explains it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::session::Session;
use crate::mount::run as call;

const KEPT: &str = "/var/lib/stemedb-incident";

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    session.service.start()?;
    session.assert(["semaglutide", "gastroparesis_risk", "rare"], &[])?;
    session.step("look")?.shows(&["active", "ready", "listening on", "/var/lib"])?;
    session.step("keep")?;
    for (file, expected) in [
        ("status.json", "\"state\":\"ready\""),
        ("journal.txt", "listening on"),
        ("metrics.txt", "stemedb_node_state"),
    ] {
        let kept = fs::read_to_string(Path::new(KEPT).join(file))?;
        ensure!(kept.contains(expected), "{file} does not say {expected:?}: {kept}");
    }
    session.step("copy")?;
    // A copy of a folder that is written to meanwhile is none; here nobody writes, so it is asked for.
    let (status, words) = session.typed("systemctl is-active stemedb-api")?;
    ensure!(status == Some(3), "the server is {words} while its folder is copied");
    let copy = format!("{KEPT}/data");
    call(Command::new("diff").args([
        "--recursive",
        "--brief",
        "--exclude=*.sock",
        "/var/lib/stemedb",
        &copy,
    ]))?;
    let whole = session.tool(&["wal", "verify", "--data-dir", &copy])?;
    ensure!(whole.contains("positions"), "{whole}");
    Ok(())
}
