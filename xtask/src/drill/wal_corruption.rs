//! A sealed segment is not what was written: with a good copy of it, with an archive, and with neither.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::{Drill, wait};
use super::estate::{ARCHIVE, begin_far};
use super::room::{DATA, WAL};
use crate::matrix::judge;
use crate::monitoring::stack::Pace;

const ALERT: &str = "WALCorruptionFound";
/// Scrubbed at the slowest, so that there is time to damage a segment first; not packed, so that the
/// damage is of one record.
const CONFIG: &str = "scrub_bytes_per_second = 65536\nrepack_bytes_per_second = 0\n";
/// Three segments at that pace, and some.
const FIRES_MAX: Duration = Duration::from_secs(120);
const ARCHIVED_MAX: Duration = Duration::from_secs(30);
const CLEARS_MAX: Duration = Duration::from_secs(30);
const SEGMENTS: u32 = 3;
/// Amid the records.
const PLACE: u64 = 300_100;
/// Where the page says that a good copy is.
const GOOD: &str = "/mnt/good";

pub(crate) fn copy(drill: &mut Drill<'_>) -> Result<()> {
    damage(drill, CONFIG)?;
    drill.step("restore")?;
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}

/// The archive has what was written.
pub(crate) fn archive(drill: &mut Drill<'_>) -> Result<()> {
    begin_far()?;
    damage(drill, &format!("{CONFIG}{ARCHIVE}"))?;
    let words = drill.step("again")?;
    ensure!(words.contains("archive"), "the plan does not say what comes from where: {words}");
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.tell("the segment is as it was written, from the archive; nothing is lost");
    drill.survives_the_end()
}

pub(crate) fn repair(drill: &mut Drill<'_>) -> Result<()> {
    damage(drill, CONFIG)?;
    let words = drill.step("plan")?;
    ensure!(words.contains("lost"), "the plan names nothing that is lost: {words}");
    drill.step("repair")?;
    let words = drill.step("health")?;
    let health: Value = serde_json::from_str(&words).context("the answer of /v1/health")?;
    ensure!(health.pointer("/history_lost") == Some(&Value::Bool(true)), "{words}");
    let place = |key| health.pointer(&format!("/lost/0/{key}")).and_then(Value::as_u64);
    let (first, last) = (place("first").context("no range")?, place("last").context("no range")?);
    let found = judge::check(&drill.ledger, &drill.holdings()?, None);
    ensure!(found.others.is_empty(), "after the repair: {}", found.others.join("; "));
    ensure!(!found.lost.is_empty(), "nothing is lost, though the page says so");
    for (claim, position) in &found.lost {
        ensure!(
            (first..=last).contains(position),
            "claim {claim} at {position} is lost, and the repair named {first} to {last}"
        );
        let answer = drill.client.get(&format!("/v1/positions/{position}"))?;
        ensure!(
            answer.status == 410 && answer.text("code") == "lost",
            "a lost position is answered {} {}",
            answer.status,
            answer.body
        );
        let body = crate::server::Claim(*claim).body();
        let answer = drill.client.post("/v1/assert", &body)?;
        ensure!(answer.status == 201, "sent again, it is answered {}", answer.status);
    }
    drill.tell(format!(
        "positions {first} to {last} are lost and named, all other claims are there; sent again, they \
         are taken"
    ));
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.service.stop()
}

/// Flips bits of a sealed segment; the scrub finds it.
fn damage(drill: &mut Drill<'_>, config: &str) -> Result<()> {
    drill.configure(config)?;
    drill.good_disk(DATA, 256)?;
    drill.service.start()?;
    drill.watch(Pace::ShortWindows)?;
    drill.begins_segments(SEGMENTS)?;
    if config.contains(ARCHIVE) {
        let durable = drill.sum("stemedb_wal_durable_position", "")?;
        wait(Instant::now(), ARCHIVED_MAX, "the records are not archived", || {
            Ok(drill.sum("stemedb_wal_archived_position", "")? >= durable)
        })?;
    }
    let segment = newest_sealed()?;
    let name = segment.file_name().context("a segment has a name")?;
    std::fs::create_dir_all(GOOD)?;
    std::fs::copy(&segment, Path::new(GOOD).join(name))?;
    let file = File::options().read(true).write(true).open(&segment)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, PLACE)?;
    file.write_all_at(&byte.map(|byte| byte ^ 0xff), PLACE)?;
    file.sync_all()?;
    drill.struck(&format!("a byte of {} is not what was written", name.to_string_lossy()));
    drill.fires(ALERT, FIRES_MAX, |drill| drill.takes_writes(1))?;
    let reason = drill.state()?.degraded.unwrap_or_default();
    ensure!(reason.contains("damage"), "the node is degraded by {reason:?}");
    drill.has_said(&["damage in a sealed WAL segment", "segment.", "byte", "positions"])?;
    ensure!(drill.sum("stemedb_wal_scrub_damage_total", "")? >= 1.0, "it is not counted");
    drill.tell("the scrub found it; the node is degraded, takes writes and answers reads");
    let words = drill.step("look")?;
    ensure!(words.contains("damage in a sealed"), "the page's first look shows {words}");
    drill.step("keep")?;
    let words = drill.step_ends("verify", 1)?;
    ensure!(words.contains(&*name.to_string_lossy()), "verify does not name it: {words}");
    Ok(())
}

/// The segment before the one in use; the last of all is a spare.
fn newest_sealed() -> Result<PathBuf> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(WAL)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "wal"))
        .collect();
    segments.sort();
    let wanted = usize::try_from(SEGMENTS)?.saturating_sub(1);
    segments.get(wanted).cloned().with_context(|| format!("{} segments in {WAL}", segments.len()))
}
