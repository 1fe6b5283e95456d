//! Machine and disk are lost, and there are backups alone.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::Drill;
use super::estate::{BACKUPS, Estate, stemedb};

pub(crate) fn newest(drill: &mut Drill<'_>) -> Result<()> {
    let estate = Estate::begin(drill, BACKUPS)?;
    let promise = estate.lose(drill, in_the_backup)?;
    ensure!(promise > 0, "nothing is in the backup");
    drill.step("look")?;
    drill.step("whole")?;
    drill.step("plan")?;
    drill.step("restore")?;
    drill.step("verify")?;
    drill.step("start")?;
    drill.step("after")?;
    estate.survived(drill, promise)
}

/// The last position of the newest backup.
fn in_the_backup(drill: &Drill<'_>) -> Result<u64> {
    let words = stemedb(drill, "backup list --json")?;
    let newest = words.lines().last().context("there is no backup")?;
    let newest: Value = serde_json::from_str(newest).context("the list of backups")?;
    newest.get("position").and_then(Value::as_u64).context("a backup has a position")
}
