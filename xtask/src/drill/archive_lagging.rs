//! The place of the archive is not there when the node starts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::Drill;
use super::estate::{ARCHIVE, FAR, begin_far};
use super::room::DATA;
use crate::monitoring::stack::Pace;

const ALERT: &str = "ArchiveLagging";
const FIRES_MAX: Duration = Duration::from_secs(60);
/// The archiver looks again once a minute.
const CLEARS_MAX: Duration = Duration::from_secs(120);
const BEFORE: u64 = 100;

pub(crate) fn unmounted(drill: &mut Drill<'_>) -> Result<()> {
    // Nothing else follows in the last section.
    drill.configure(ARCHIVE)?;
    begin_far()?;
    drill.good_disk(DATA, 192)?;
    let far = drill.good_disk(FAR, 64)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    // A stop archives what is left.
    drill.service.stop()?;
    drill.volume(far)?.unmount()?;
    drill.service.start()?;
    drill.watch(Pace::ShortWindows)?;
    drill.struck("the machine was started again, and the place of the archive is not mounted");
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    drill.takes_writes(3)?;
    drill.answers_reads()?;
    ensure!(!Path::new(FAR).join("archive").exists(), "the archive is begun anew on another disk");
    drill.tell("writes and reads go on, and nothing is put where the archive is not");
    let words = drill.step("look")?;
    ensure!(words.contains("cannot archive") && words.contains("mounted"), "it shows {words}");
    drill.step("mount")?;
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.step("whole")?;
    drill.nothing_is_lost()?;
    drill.service.stop()
}
