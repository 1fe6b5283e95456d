//! A write or sync of the log fails: once, or for good because the file system shut itself off; with
//! the log on a file system of its own, and not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::case::{Drill, wait};
use super::room::{DATA, WAL};
use crate::fault::{Act, Aim, Code, Plan, Times};
use crate::matrix::load::Told;
use crate::monitoring::stack::Pace;

const ALERT: &str = "WALFsyncFailure";
/// The promise.
const FIRES_MAX: Duration = Duration::from_secs(120);
/// How long the alert is watched while the log is degraded.
const STANDS: Duration = Duration::from_secs(130);
const STANDS_LONG: Duration = Duration::from_secs(600);
/// The counter is looked at over five minutes.
const CLEARS_MAX: Duration = Duration::from_secs(340);
const ERRORS: &str = "stemedb_wal_fsync_errors_total";
const BEFORE: u64 = 150;
const REACTS_MAX: Duration = Duration::from_secs(15);

/// Disks, a node with some records that asks for API keys, as it does by default, and somebody who
/// watches. The number of the disk of the log.
fn prepare(drill: &mut Drill<'_>, own: bool) -> Result<usize> {
    drill.configure_with_keys("")?;
    let disk = if own {
        drill.good_disk(DATA, 192)?;
        drill.failing_disk(WAL, 96)?
    } else {
        drill.failing_disk(DATA, 256)?
    };
    drill.service.start()?;
    // It writes, and asks how the node is.
    drill.client = drill.holder("drill", "operator")?;
    drill.load(BEFORE)?;
    drill.watch(Pace::Shipped)?;
    ensure!(!drill.firing(ALERT)?, "{ALERT} fires before the fault");
    Ok(disk)
}

pub(crate) fn once_own(drill: &mut Drill<'_>) -> Result<()> {
    once(drill, true)?;
    drill.clears(ALERT, CLEARS_MAX)?;
    finish(drill)
}

pub(crate) fn once_shared(drill: &mut Drill<'_>) -> Result<()> {
    once(drill, false)?;
    finish(drill)
}

/// One write of a group fails on the device; the kernel fails the sync.
fn once(drill: &mut Drill<'_>, own: bool) -> Result<()> {
    let number = prepare(drill, own)?;
    drill.begins_segments(1)?;
    let disk = drill.volume(number)?.disk().context("this disk can fail")?;
    disk.arm(Plan {
        aim: Aim::Entries,
        act: Act::Fail(Code::Io),
        times: Times::Once,
        skip: 0,
        second: false,
    });
    let told = drill.write();
    ensure!(disk.first_hit().is_some(), "the disk did not fail");
    disk.clear();
    drill.struck("the device fails one write of a segment just begun");
    // On ext4 it heals: the record was made durable in a fresh segment before it was acknowledged.
    ensure!(matches!(told, Told::Created { .. }), "the write is answered {told:?}");
    let state = drill.state()?;
    let reason = state.degraded.clone().unwrap_or_default();
    ensure!(state.state == "ready" && reason.contains("healed"), "the node is {state:?}");
    drill.tell("the write is acknowledged, from a fresh segment; node ready, log degraded");
    drill.has_said(&[
        "fsync failed",
        "Failed to fsync WAL segment",
        "segment.",
        "offset",
        "errno",
    ])?;
    // The next segment, prepared just now, is not believed either if its sync was under way.
    ensure!(drill.sum(ERRORS, "segment=")? >= 1.0, "the failure is not counted");
    drill.looks_at_the_kernel("I/O error")?;
    drill.fires(ALERT, FIRES_MAX, |drill| {
        drill.takes_writes(1).and_then(|()| drill.answers_reads())
    })?;
    let until = if drill.long { STANDS_LONG } else { STANDS };
    drill.stands(ALERT, until)?;

    let words = drill.step("look")?;
    ensure!(words.contains("degraded: healed"), "the page's first look shows {words}");
    ensure!(words.contains("Failed to fsync WAL segment"), "the page's first look shows {words}");
    let words = drill.step("place")?;
    let at = drill.volume(number)?.at().to_string_lossy().into_owned();
    ensure!(words.contains(&at), "the page does not show that the log lies on {at}: {words}");
    drill.step("probe")?;
    drill.step("verify")?;
    let words = drill.step("acknowledge")?;
    ensure!(!words.contains("degraded"), "acknowledged, and still {words}");
    let state = drill.state()?;
    ensure!(state.state == "ready" && state.degraded.is_none(), "the node is {state:?}");
    drill.tell("ready, no longer degraded");
    drill.takes_writes(3)
}

pub(crate) fn off_own(drill: &mut Drill<'_>) -> Result<()> {
    off(drill, true)?;
    let words = drill.step("check-own")?;
    ensure!(words.contains("ready"), "attached, and {words}");
    ensure!(drill.is_ready("write")?, "it takes no writes after the check");
    drill.tell("takes writes again, without a restart");
    drill.step("probe")?;
    drill.step("verify")?;
    drill.step("acknowledge")?;
    let state = drill.state()?;
    ensure!(state.state == "ready" && state.degraded.is_none(), "the node is {state:?}");
    drill.load(BEFORE)?;
    finish(drill)
}

pub(crate) fn off_shared(drill: &mut Drill<'_>) -> Result<()> {
    off(drill, false)?;
    // Whoever overlooks that the index lies there, too, is told so; nothing happens.
    let words = drill.step_ends("check-own", 2)?;
    ensure!(words.contains("same file system"), "detaching is refused with {words}");
    drill.step("check-shared")?;
    ensure!(drill.is_ready("write")?, "it takes no writes after the check");
    drill.tell("takes writes again");
    drill.step("probe")?;
    drill.step("verify")?;
    drill.load(BEFORE)?;
    finish(drill)
}

/// The file system shuts itself off, as for an error of its own.
fn off(drill: &mut Drill<'_>, own: bool) -> Result<()> {
    let number = prepare(drill, own)?;
    drill.volume(number)?.shut_off()?;
    drill.struck("the file system finds an error in itself and takes no more writes");
    drill.refuses_writes(500, "wal_unavailable")?;
    wait(Instant::now(), REACTS_MAX, "read-only", || Ok(drill.state()?.state == "read_only"))?;
    ensure!(drill.is_ready("read")?, "it is not ready for reads");
    ensure!(!drill.is_ready("write")?, "it is ready for writes");
    drill.answers_reads()?;
    drill.tell("writes are refused with 500 wal_unavailable, reads go on; node read_only");
    drill.has_said(&[
        "fsync failed",
        "Failed to fsync WAL segment",
        "segment.",
        "offset",
        "errno",
    ])?;
    ensure!(drill.sum(ERRORS, "segment=")? >= 1.0, "the failure is not counted");
    drill.looks_at_the_kernel("EXT4-fs error")?;
    drill.fires(ALERT, FIRES_MAX, Drill::answers_reads)?;
    let words = drill.step("look")?;
    ensure!(words.contains("read_only"), "the page's first look shows {words}");
    drill.step("place")?;
    Ok(())
}

fn finish(drill: &mut Drill<'_>) -> Result<()> {
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
