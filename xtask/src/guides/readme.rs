//! README: the first five minutes.

use std::fs;

use anyhow::{Result, ensure};

use super::session::Session;

/// Where `make build` puts it.
const BUILT: &str = "target/release";

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    fs::create_dir_all(session.work().join(BUILT))?;
    let built = session.work().join(BUILT).join("stemedb");
    std::os::unix::fs::symlink(session.binary(), built)?;
    let said = session.step_serves("serve")?;
    said.shows(&["first-admin.key"])?;
    let said = session.step("first")?;
    said.shows(&["contested", "rare", "increased", "no winner"])?;
    let id = said.after("created")?;
    let lines = session.step("feed")?.words;
    let records = lines.lines().filter(|line| line.starts_with("{\"position\":")).count();
    // Genesis, the key by which the server signs, two claims.
    ensure!(records == 4, "the feed has {records} records: {lines}");
    session.step_with("trace", &[("ID", &id)])?.shows(&[
        &id,
        "#3 was asserted",
        "of the answers to 1 key would be others",
        "2 considered",
        "the same, bit for bit",
        "1 key is in conflict",
        "principal",
        "agents from",
    ])?;
    session.step("curl")?.shows(&["\"status\":\"created\"", "\"lens\":\"consensus\""])
}
