//! Who may do what: keys are made, rotated, revoked and lost.

use anyhow::{Context, Result, ensure};

use super::session::Session;
use crate::drill::room::NODE;

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    session.service.start()?;
    session.step("first")?.shows(&["created", "\"status\":\"ok\""])?;
    let agent = session.tool(&["key", "generate", "partner.agent"])?;
    let said = session.step_with("make", &[("HEX", agent.trim())])?;
    said.shows(&["dashboard", "2036-01-01T00:00:00Z"])?;
    let ingest = session.work().join("ingest.key");
    session.tool_with(&ingest, &["assert", "metformin", "risk", "none"])?;
    let line = said.words.lines().find(|line| line.contains("ingest") && line.contains("active"));
    let id = line.and_then(|line| line.split_whitespace().next()).context("ingest has no id")?;
    session.step_with("rotate", &[("ID", id)])?;
    // Rotated twice and revoked: neither the first secret nor the second is taken.
    for key in [&ingest, &session.work().join("new.key")] {
        let words = session.refused_with(key, &["query", "metformin", "risk"])?;
        ensure!(words.contains("401 api_key_unknown"), "a revoked key is told: {words}");
    }
    session.step("reset")?;
    let dashboards = session.tool(&["admin", "keys", "list"])?;
    let revoked = dashboards.lines().filter(|line| line.contains("revoked")).count();
    ensure!(revoked >= 3, "a reset has not revoked all: {dashboards}");
    session.step("trail")?.shows(&["made key", "rotated", "revoked", "reset"])?;
    session.step("socket")?.shows(&["ready", "ops, admin"])?;
    ensure!(std::path::Path::new(NODE).join("first-admin.key").exists(), "no new first key");
    Ok(())
}
