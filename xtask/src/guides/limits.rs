//! What one caller may have.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::session::Session;
use crate::drill::room::NODE;
use crate::drill::service::ADDRESS;
use crate::matrix::node::{Client, REQUEST_MAX};

/// Nearly as long as a text may be.
const LONG: usize = 65_000;
/// What the page gives the key for a day.
const QUOTA_BYTES: usize = 10_000_000;

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    session.service.start()?;
    session.export("STEMEDB_API_KEY_FILE", format!("{NODE}/first-admin.key"))?;
    let said = session.step("quota")?;
    said.shows(&["trial, writer"])?;
    let secret = said.words.lines().find(|line| line.starts_with("stk_")).context("no secret")?;
    let client = Client::new(format!("http://{ADDRESS}"), REQUEST_MAX).with_key(secret);
    let taken = writes_until_refused(&client)?;
    // What is counted is the record, which is a little longer than its text.
    let fit = QUOTA_BYTES / LONG;
    ensure!((fit - 2..=fit).contains(&taken), "{taken} claims are taken, where {fit} fit");
    let listed = session.tool(&["admin", "keys", "list"])?;
    let told = format!("{taken} of 10000");
    ensure!(listed.contains(&told), "the list does not say {told:?}: {listed}");
    Ok(())
}

/// How many claims are taken until the quota is used up.
fn writes_until_refused(client: &Client) -> Result<usize> {
    for number in 0..QUOTA_BYTES / LONG + 1 {
        let claim = json!({
            "subject": format!("trial/{number}"), "predicate": "is", "object": "a".repeat(LONG), "at": 1,
        });
        let answer = client.post("/v1/assert", &claim)?;
        match (answer.status, answer.text("code")) {
            (201, _) => {}
            (429, "quota_exceeded") => return Ok(number),
            _ => bail!("a claim is answered {}: {}", answer.status, answer.body),
        }
    }
    bail!("the key may write more than the page says")
}
