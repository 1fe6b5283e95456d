//! Who asked what, and was told what.

use std::path::Path;

use anyhow::{Context, Result};

use super::session::Session;
use crate::drill::room::NODE;

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    session.service.start()?;
    session.export("STEMEDB_API_KEY_FILE", format!("{NODE}/first-admin.key"))?;
    session.assert(["semaglutide", "gastroparesis_risk", "rare"], &[])?;
    let key = Path::new(NODE).join("first-admin.key");
    for subject in ["semaglutide", "metformin"] {
        // Of the second nobody says anything, which is an answer, too.
        session.told(&key, &["query", subject, "gastroparesis_risk"])?;
    }
    // Entries can be read once they are durable.
    let mut listed = String::new();
    session.wait("the audit has both questions", || {
        listed = session.tool(&["audit", "list"])?;
        Ok(listed.contains("semaglutide") && listed.contains("metformin"))
    })?;
    let about = listed.lines().find(|line| line.contains("semaglutide"));
    let entry = about.and_then(|line| line.split_whitespace().next());
    let entry = entry.context("no entry has a number")?;
    session.step_with("look", &[("1207", entry)])?.shows(&[
        "semaglutide",
        "/v1/query",
        "\"principal\"",
        "last entry",
    ])
}
