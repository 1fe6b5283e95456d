//! The log or the index fails at what it is asked.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::case::{Drill, wait};
use super::room::{DATA, WAL};
use crate::monitoring::stack::Pace;

const ERRORS: &str = "stemedb_storage_operation_errors_total";
const FIRES_MAX: Duration = Duration::from_secs(120);
const CLEARS_MAX: Duration = Duration::from_secs(60);
const REACTS_MAX: Duration = Duration::from_secs(20);
const BEFORE: u64 = 150;
/// Less than a segment.
const LEFT: u64 = 512 << 10;

/// The log has no room: every append is refused, and counted.
pub(crate) fn append(drill: &mut Drill<'_>) -> Result<()> {
    drill.good_disk(DATA, 192)?;
    let number = drill.good_disk(WAL, 48)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::ShortWindows)?;
    let file = drill.volume(number)?.fill(LEFT)?;
    drill.writes_until_refused()?;
    drill.struck("the log has no room");
    drill.refuses_writes(500, "wal_unavailable")?;
    ensure!(drill.sum(ERRORS, "append")? >= 1.0, "a failed append is not counted");
    // Somebody must ask, else nothing fails.
    drill.fires("HighStorageErrorRate", FIRES_MAX, |drill| {
        ensure!(drill.write().promised().is_none(), "a write is taken");
        drill.answers_reads()
    })?;
    let words = drill.step("look")?;
    ensure!(words.contains("append"), "the page does not find which operation fails: {words}");
    std::fs::remove_file(file)?;
    drill.tell("there is room again");
    wait(Instant::now(), REACTS_MAX, "writes go on", || Ok(drill.write().promised().is_some()))?;
    drill.tell("writes go on by themselves");
    drill.load(BEFORE)?;
    drill.clears("HighStorageErrorRate", CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}

/// The file system of the index shuts itself off under load.
pub(crate) fn index(drill: &mut Drill<'_>) -> Result<()> {
    let number = drill.good_disk(DATA, 256)?;
    drill.good_disk(WAL, 48)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::EverySecond)?;
    let load = drill.keep_writing();
    std::thread::sleep(Duration::from_secs(1));
    let off = drill.volume(number)?.shut_off();
    let read_only =
        wait(Instant::now(), REACTS_MAX, "read-only", || Ok(drill.state()?.state == "read_only"));
    load.finish();
    off.and(read_only)?;
    drill.struck("the file system of the index takes no more writes");
    let state = drill.state()?;
    ensure!(state.code.as_deref() == Some("index_failed"), "the node is {state:?}");
    drill.refuses_writes(500, "index_failed")?;
    drill.answers_reads()?;
    drill.has_said(&["the index failed; the records are durable"])?;
    ensure!(drill.sum(ERRORS, "apply")? >= 1.0, "a failed apply is not counted");
    drill.tell("writes are refused with 500 index_failed, reads go on; node read_only");
    drill.looks_at_the_kernel("EXT4-fs error")?;
    drill.fires("NodeReadOnly", FIRES_MAX, Drill::answers_reads)?;
    let words = drill.step("look")?;
    ensure!(words.contains("apply"), "the page does not find which operation fails: {words}");
    ensure!(words.contains("index_failed"), "the page does not find the reason: {words}");
    drill.step("check")?;
    drill.step("reindex")?;
    ensure!(drill.is_ready("write")?, "it takes no writes with the new index");
    drill.load(BEFORE)?;
    drill.clears("NodeReadOnly", CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
