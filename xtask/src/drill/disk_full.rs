//! The file system of the log is full: because of other files, or because the log has grown.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::case::{Drill, wait};
use super::room::{DATA, WAL};
use crate::matrix::load::Told;
use crate::monitoring::stack::Pace;

const ALERT: &str = "WALDiskNearlyFull";
const FIRES_MAX: Duration = Duration::from_secs(60);
const BEFORE: u64 = 100;
/// Less than a segment.
const LEFT: u64 = 512 << 10;
/// How long it may take until it sees that there is room again.
const ROOM_MAX: Duration = Duration::from_secs(20);

pub(crate) fn other_files(drill: &mut Drill<'_>) -> Result<()> {
    fill(drill)?;
    let words = drill.step("look")?;
    ensure!(words.contains("no room"), "the page's first look shows {words}");
    let words = drill.step("usage")?;
    ensure!(words.contains("other-files"), "the page does not find the largest file: {words}");
    std::fs::remove_file(format!("{WAL}/other-files"))?;
    drill.tell("the other files are removed");
    goes_on(drill)
}

pub(crate) fn grow(drill: &mut Drill<'_>) -> Result<()> {
    let number = fill(drill)?;
    drill.step("look")?;
    drill.step("usage")?;
    drill.volume(number)?.grow(128 << 20)?;
    drill.tell("the device is made larger");
    drill.step("grow")?;
    goes_on(drill)
}

/// Until nothing more is taken. The number of the volume.
fn fill(drill: &mut Drill<'_>) -> Result<usize> {
    drill.good_disk(DATA, 192)?;
    let number = drill.good_disk(WAL, 48)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::ShortWindows)?;
    ensure!(!drill.firing(ALERT)?, "{ALERT} fires before the fault");
    drill.volume(number)?.fill(LEFT)?;
    drill.struck("others fill the file system of the log");
    drill.writes_until_refused()?;
    drill.refuses_writes(500, "wal_unavailable")?;
    ensure!(drill.is_ready("read")? && !drill.is_ready("write")?, "it is ready for writes");
    drill.answers_reads()?;
    drill.tell("writes are refused with 500 wal_unavailable, reads go on");
    drill.has_said(&["no room for the next WAL segment"])?;
    ensure!(drill.sum("stemedb_wal_concern", "no_room")? == 1.0, "no metric says why");
    drill.fires(ALERT, FIRES_MAX, Drill::answers_reads)?;
    Ok(number)
}

fn goes_on(drill: &mut Drill<'_>) -> Result<()> {
    wait(Instant::now(), ROOM_MAX, "writes go on", || {
        Ok(matches!(drill.write(), Told::Created { .. }))
    })?;
    wait(Instant::now(), ROOM_MAX, "not degraded", || Ok(drill.state()?.degraded.is_none()))?;
    drill.tell("writes go on by themselves, no longer degraded");
    drill.load(BEFORE)?;
    drill.clears(ALERT, FIRES_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
