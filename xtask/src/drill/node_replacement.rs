//! A node goes on elsewhere: its disk is moved, or its folder is copied.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::Drill;
use super::room::{self, DATA};
use crate::monitoring::stack::Pace;
use crate::mount::{self, run};

const ALERT: &str = "TargetDown";
const FIRES_MAX: Duration = Duration::from_secs(60);
const CLEARS_MAX: Duration = Duration::from_secs(45);
const BEFORE: u64 = 200;
/// As the page calls the file system of the data.
const LABEL: &str = "stemedb";
/// Where the page has the old disk.
const OLD: &str = "/mnt/old";

/// The machine is gone, its disk is not.
pub(crate) fn moved_disk(drill: &mut Drill<'_>) -> Result<()> {
    let (number, database) = prepare(drill)?;
    drill.service.kill()?;
    drill.volume(number)?.unmount()?;
    room::forget_fstab()?;
    drill.struck(
        "the machine is gone; a new one has its disk, the same configuration, nothing else",
    );
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    drill.step("mount")?;
    goes_on(drill, &database)
}

/// The node is stopped, and its folder goes to another disk.
pub(crate) fn copied(drill: &mut Drill<'_>) -> Result<()> {
    let (number, database) = prepare(drill)?;
    drill.struck("the disk of the node is to be replaced");
    drill.step("stop")?;
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    drill.volume(number)?.unmount()?;
    room::forget_fstab()?;
    let old = drill.volume(number)?.device().to_owned();
    std::fs::create_dir_all(OLD)?;
    mount::mount(&old, OLD.as_ref(), "ro")?;
    drill.good_disk(DATA, 256)?;
    drill.tell("a new, empty disk is in place, the old one is mounted beside it");
    let outcome = drill.step("copy");
    mount::unmount(OLD.as_ref())?;
    outcome?;
    goes_on(drill, &database)
}

/// A node at work. The number of its volume, and which database it has.
fn prepare(drill: &mut Drill<'_>) -> Result<(usize, String)> {
    let number = drill.good_disk(DATA, 256)?;
    run(Command::new("e2label").arg(drill.volume(number)?.device()).arg(LABEL))?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::ShortWindows)?;
    Ok((number, database(drill)?))
}

fn database(drill: &Drill<'_>) -> Result<String> {
    Ok(drill.client.get("/v1/admin/node")?.text("log_id").to_owned())
}

fn goes_on(drill: &mut Drill<'_>, before: &str) -> Result<()> {
    drill.step("verify")?;
    drill.step("start")?;
    let now = database(drill)?;
    ensure!(!now.is_empty() && now == before, "it is database {now}, it was {before}");
    drill.tell("the same database, ready");
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.load(BEFORE)?;
    drill.nothing_is_lost()?;
    drill.service.stop()
}
