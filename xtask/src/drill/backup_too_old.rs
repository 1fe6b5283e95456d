//! Backups are expected, and nobody makes or verifies them.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::Drill;
use super::estate::{BACKUPS, begin_far};
use super::room::DATA;
use crate::monitoring::stack::Pace;

const ALERTS: [&str; 2] = ["BackupTooOld", "BackupNotVerified"];
const FIRES_MAX: Duration = Duration::from_secs(60);
const CLEARS_MAX: Duration = Duration::from_secs(45);
const BEFORE: u64 = 100;

pub(crate) fn none(drill: &mut Drill<'_>) -> Result<()> {
    drill.configure(BACKUPS)?;
    begin_far()?;
    drill.good_disk(DATA, 192)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::ShortWindows)?;
    drill.struck("backup.url is set, and no timer makes backups");
    for alert in ALERTS {
        drill.fires(alert, FIRES_MAX, |_| Ok(()))?;
    }
    drill.step("look")?;
    drill.step("create")?;
    drill.clears("BackupTooOld", CLEARS_MAX)?;
    ensure!(drill.firing("BackupNotVerified")?, "one that nobody read back counts as verified");
    drill.step("verify")?;
    drill.clears("BackupNotVerified", CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
