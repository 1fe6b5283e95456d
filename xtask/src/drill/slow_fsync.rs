//! Syncs of the log are slow: somebody else has the disk.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::case::Drill;
use super::room::{DATA, WAL};
use crate::fault::{Act, Aim, Plan, Times};
use crate::monitoring::stack::Pace;

const ALERT: &str = "WALFsyncSlow";
const FIRES_MAX: Duration = Duration::from_secs(120);
/// The quantile is of the last minute.
const CLEARS_MAX: Duration = Duration::from_secs(120);
const BEFORE: u64 = 100;
/// Above a second the node says so; below ten it goes on.
const DELAY: Duration = Duration::from_millis(1_200);
/// Three synced writes on a good disk.
const PROBE_MAX: Duration = Duration::from_secs(1);

pub(crate) fn neighbour(drill: &mut Drill<'_>) -> Result<()> {
    drill.good_disk(DATA, 192)?;
    let number = drill.failing_disk(WAL, 96)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::ShortWindows)?;
    let slow = Plan {
        aim: Aim::Everything,
        act: Act::Slow(DELAY),
        times: Times::Always,
        skip: 0,
        second: false,
    };
    drill.volume(number)?.disk().context("this disk can fail")?.arm(slow);
    drill.struck("every write to the disk of the log takes 1.2 s longer");
    drill.fires(ALERT, FIRES_MAX, |drill| {
        drill.takes_writes(1).and_then(|()| drill.answers_reads())
    })?;
    drill.has_said(&["a sync of segment.", "took"])?;
    drill.tell("writes are slow and taken, reads go on");
    drill.step("look")?;
    let slow = timed(drill)?;
    ensure!(slow > PROBE_MAX, "the probe of the page takes {slow:?} on a slow disk");
    drill.volume(number)?.disk().context("this disk can fail")?.clear();
    drill.tell("the neighbour is gone");
    let quick = timed(drill)?;
    ensure!(quick < PROBE_MAX, "the probe of the page takes {quick:?} on a good disk");
    drill.load(BEFORE)?;
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}

fn timed(drill: &mut Drill<'_>) -> Result<Duration> {
    let began = Instant::now();
    drill.step("probe")?;
    Ok(began.elapsed())
}
