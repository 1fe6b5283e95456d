//! A standby takes the place of its primary: of one that is killed, and of one that stands still and wakes
//! up. And a standby that cannot follow.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::case::{Drill, wait};
use super::pair::{self, FIRST, Pair, SECOND};
use crate::matrix::load::{Load, Told};

const DOWN: &str = "TargetDown";
const LEASE: &str = "LeaseNotHeld";
const LAGGING: &str = "ReplicaLagging";
const FIRES_MAX: Duration = Duration::from_secs(60);
/// The threshold is a minute.
const LAGGING_MAX: Duration = Duration::from_secs(120);
const CLEARS_MAX: Duration = Duration::from_secs(60);
/// Who was asking the old primary gives up after 25 s.
const TAKEN_MAX: Duration = Duration::from_secs(60);
/// Writes on the new branch, so that it has an archive.
const AFTER: u64 = 200;
/// Where the page has what only the old primary has.
const TAIL: &str = "/mnt/stemedb/tail.ndjson";

pub(crate) fn killed(drill: &mut Drill<'_>) -> Result<()> {
    let pair = Pair::begin(drill)?;
    let load = pair.keep_writing(drill)?;
    let promise = pair.archived()?;
    pair.first.kill()?;
    drill.struck("the primary is killed under load");
    let moved = take_over(drill, &pair, load)?;
    woken(
        drill,
        &pair,
        "the machine of the old primary is there again, and starts its node",
        || pair.first.start(),
    )?;
    comes_back(drill, &pair, promise, moved)
}

pub(crate) fn paused(drill: &mut Drill<'_>) -> Result<()> {
    let pair = Pair::begin(drill)?;
    let load = pair.keep_writing(drill)?;
    let promise = pair.archived()?;
    pair.first.pause()?;
    drill.struck("the primary stands still under load");
    let moved = take_over(drill, &pair, load)?;
    woken(drill, &pair, "the old primary goes on from where it stood", || pair.first.wake())?;
    comes_back(drill, &pair, promise, moved)
}

/// From the alert to the first write that is taken; when the standby was promoted, as the ledger counts.
fn take_over(drill: &mut Drill<'_>, pair: &Pair, load: Load) -> Result<Duration> {
    drill.fires_at(DOWN, FIRST, FIRES_MAX)?;
    let told = drill.ledger.send_next(&drill.client);
    let standby = matches!(&told, Told::NotWritten { code } if code == "standby");
    ensure!(standby, "a standby answers a write with {told:?}");
    ensure!(drill.is_ready("read")?, "the standby is not ready for reads");
    ensure!(!drill.is_ready("write")?, "a standby says that it is ready for writes");
    drill.answers_reads()?;
    drill.tell("the standby answers reads and takes no writes");
    let words = drill.step("look")?;
    ensure!(words.contains("standby") && words.contains("behind http://node1"), "it shows {words}");
    let words = drill.step("promote")?;
    ensure!(words.contains("ready"), "it shows {words}");
    let moved = drill.ledger.now();
    drill.has_said(&["promoted", "the log goes on here"])?;
    ensure!(drill.is_ready("write")?, "the promoted node is not ready for writes");
    drill.step("balancer")?;
    wait(Instant::now(), TAKEN_MAX, "a write is taken", || {
        Ok(matches!(drill.ledger.send_next(&pair.newcomer), Told::Created { .. }))
    })?;
    drill.tell("a write through the load balancer is taken");
    let enough = load.wait_for_acks(AFTER, TAKEN_MAX);
    load.finish();
    ensure!(enough, "{AFTER} claims are not taken after the failover");
    Ok(moved)
}

/// The old primary is there again while somebody still asks it to write.
fn woken(
    drill: &mut Drill<'_>,
    pair: &Pair,
    words: &str,
    wake: impl Fn() -> Result<()>,
) -> Result<()> {
    let since = drill.ledger.now();
    let load = Load::of_writers(&pair.to_first, &drill.ledger);
    wake()?;
    drill.tell(words);
    drill.fires_at(LEASE, FIRST, FIRES_MAX)?;
    let state = pair.at_first.state()?;
    ensure!(
        (state.state.as_str(), state.code.as_deref()) == ("read_only", Some("fenced")),
        "the old primary is {state:?}"
    );
    let lost = pair.at_first.text("/metrics")?;
    ensure!(lost.contains("stemedb_lease_state{state=\"lost\"} 1"), "its lease is not lost");
    let ready = pair.at_first.get("/readyz?for=write")?.status;
    ensure!(ready == 503, "a load balancer would be answered {ready}");
    load.finish();
    let said = pair.first.words();
    ensure!(said.contains("the lease is lost"), "it does not say so: {said}");
    let refused = pair::fenced(drill, since);
    ensure!(refused > 0, "nobody was told that the node is fenced");
    drill.tell(format!("it is read-only, and {refused} writes at it are answered `fenced`"));
    Ok(())
}

/// Nothing is lost but what was on its way, and that is with the old primary, which becomes a standby.
fn comes_back(drill: &mut Drill<'_>, pair: &Pair, promise: u64, moved: Duration) -> Result<()> {
    let (acked, there) = (pair::acked(drill), drill.holdings()?);
    let missing = pair::missing(&acked, &there);
    for (claim, acked) in &missing {
        ensure!(
            acked.at <= moved,
            "claim {claim} was acknowledged by the old primary after the standby had its place"
        );
        ensure!(
            acked.position > promise,
            "claim {claim} at {} is gone, and {promise} was archived",
            acked.position
        );
    }
    drill.tell(format!(
        "{} claims are acknowledged; all up to position {promise}, which was archived, and all of the new \
         primary are there; {} are with the old primary only",
        acked.len(),
        missing.len()
    ));
    let words = drill.step_on(&pair.first, "rejoin")?;
    ensure!(words.contains("are on this node only"), "it shows {words}");
    let tail = fs::read_to_string(TAIL)?.lines().count();
    ensure!(tail >= missing.len(), "{tail} records are listed, {} are missing", missing.len());
    let words = drill.step_on(&pair.first, "follow")?;
    ensure!(words.contains("standby"), "it shows {words}");
    drill.step("import")?;
    let there = drill.holdings()?;
    let lost = pair::missing(&acked, &there);
    ensure!(lost.is_empty(), "{lost:?} are lost for good");
    let changed = there.iter().find(|(_, there)| !there.intact);
    ensure!(changed.is_none(), "{changed:?} has another value");
    drill.tell(format!(
        "{tail} records are sent again; all {} acknowledged claims are there",
        acked.len()
    ));
    pair.level(&pair.at_first, &pair.at_second)?;
    drill.tell("node1 follows node2 and is level");
    drill.clears_at(LEASE, FIRST, CLEARS_MAX)?;
    drill.clears_at(DOWN, FIRST, CLEARS_MAX)?;
    pair.first.stop()?;
    drill.service.stop()
}

pub(crate) fn lagging(drill: &mut Drill<'_>) -> Result<()> {
    let pair = Pair::begin(drill)?;
    drill.volume(pair.far)?.unmount()?;
    drill.struck("the place of the archive is not mounted on node2 any more; on node1 it is");
    // What is known does not come nearer by itself.
    let load = pair.keep_writing(drill)?;
    load.finish();
    drill.fires_at(LAGGING, SECOND, LAGGING_MAX)?;
    let lag = drill.sum("stemedb_replica_lag_seconds", "")?;
    ensure!(lag > 60.0, "the lag is {lag} s");
    drill.answers_reads()?;
    drill.has_said(&["cannot follow the archive"])?;
    let words = drill.step("lag-look")?;
    ensure!(words.contains("cannot follow the archive"), "it shows {words}");
    drill.step("lag-mount")?;
    drill.clears_at(LAGGING, SECOND, CLEARS_MAX)?;
    pair.level(&pair.at_second, &pair.at_first)?;
    let (acked, there) = (pair::acked(drill), drill.holdings()?);
    let missing = pair::missing(&acked, &there);
    ensure!(missing.is_empty(), "{missing:?} did not come");
    drill.tell(format!("node2 has all {} acknowledged claims", acked.len()));
    pair.first.stop()?;
    drill.service.stop()
}
