//! The server is down and does not come up again.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::case::Drill;
use super::room::{CONFIG, DATA, WAL};
use super::service::ADDRESS;
use crate::monitoring::stack::Pace;

const ALERT: &str = "TargetDown";
/// With the shipped `for` of a minute.
const FIRES_MAX: Duration = Duration::from_secs(120);
const CLEARS_MAX: Duration = Duration::from_secs(45);
const BEFORE: u64 = 100;

pub(crate) fn port(drill: &mut Drill<'_>) -> Result<()> {
    prepare(drill, Pace::ShortWindows)?;
    let other = TcpListener::bind(ADDRESS).context("the port is free once the node is stopped")?;
    refused(drill, "another program has the port", "cannot listen")?;
    let words = drill.step("port")?;
    ensure!(words.contains("xtask"), "the page does not find who has the port: {words}");
    drop(other);
    drill.tell("the other program is stopped");
    starts(drill)
}

pub(crate) fn config(drill: &mut Drill<'_>) -> Result<()> {
    prepare(drill, Pace::ShortWindows)?;
    let good = std::fs::read_to_string(CONFIG)?;
    std::fs::write(CONFIG, good.replace("segment_bytes", "segment_byte"))?;
    refused(drill, "a key of the configuration is misspelt", "unknown key wal.segment_byte (")?;
    let words = drill.step_ends("config", 1)?;
    ensure!(words.contains("wal.segment_byte ("), "the check does not name the key: {words}");
    std::fs::write(CONFIG, good)?;
    drill.tell("the configuration is put right");
    drill.step("config")?;
    starts(drill)
}

pub(crate) fn unmounted(drill: &mut Drill<'_>) -> Result<()> {
    let number = prepare(drill, Pace::EverySecond)?;
    drill.volume(number)?.unmount()?;
    refused(drill, "the file system of the log is not mounted", "holds no log")?;
    drill.step("mounts")?;
    ensure!(drill.volume(number)?.mounted()?, "it is still not mounted");
    starts(drill)
}

/// A node that was stopped, and somebody who watches. The number of the volume of the log.
fn prepare(drill: &mut Drill<'_>, pace: Pace) -> Result<usize> {
    drill.good_disk(DATA, 192)?;
    let number = drill.good_disk(WAL, 48)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(pace)?;
    drill.service.stop()?;
    Ok(number)
}

fn refused(drill: &mut Drill<'_>, fault: &str, words: &str) -> Result<()> {
    drill.struck(fault);
    let Err(error) = drill.service.start() else { anyhow::bail!("the server starts") };
    let said = format!("{error:#}");
    ensure!(said.contains(words), "a start is refused with {said}");
    drill.tell(format!("the start is refused: {}", said.lines().next().unwrap_or_default()));
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    let found = drill.step("look")?;
    ensure!(found.contains(words), "the page's first look shows {found}");
    Ok(())
}

fn starts(drill: &mut Drill<'_>) -> Result<()> {
    drill.step("start")?;
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.load(BEFORE)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
