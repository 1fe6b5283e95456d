//! Machine and disk are lost, the archive and the backups are not.

use anyhow::{Result, ensure};

use super::case::Drill;
use super::estate::{ARCHIVE, BACKUPS, Estate};

pub(crate) fn machine(drill: &mut Drill<'_>) -> Result<()> {
    let estate = Estate::begin(drill, &format!("{ARCHIVE}{BACKUPS}"))?;
    // What the node says of its archive while it still can.
    let promise =
        estate.lose(drill, |drill| Ok(drill.sum("stemedb_wal_archived_position", "")? as u64))?;
    ensure!(promise > 0, "nothing was archived");
    let words = drill.step("look")?;
    ensure!(words.contains("present") && words.contains("lost       0"), "the page shows {words}");
    drill.step("plan")?;
    drill.step("restore")?;
    drill.step("verify")?;
    drill.step("start")?;
    drill.step("after")?;
    estate.survived(drill, promise)
}
