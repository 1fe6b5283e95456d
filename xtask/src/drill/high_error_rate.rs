//! More is asked at once than the node is configured to take.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::Drill;
use super::room::DATA;
use crate::monitoring::stack::Pace;

const FIRES_MAX: Duration = Duration::from_secs(90);
const CLEARS_MAX: Duration = Duration::from_secs(60);
const BEFORE: u64 = 100;

pub(crate) fn overloaded(drill: &mut Drill<'_>) -> Result<()> {
    drill.configure("\n[limits]\nrequests = 3\n")?;
    drill.good_disk(DATA, 256)?;
    drill.service.start()?;
    drill.watch(Pace::ShortWindows)?;
    drill.struck("sixteen writers and a reader ask a node that takes three requests at once");
    let load = drill.keep_writing();
    let fired = drill
        .fires("HighApiErrorRate", FIRES_MAX, |_| Ok(()))
        .and_then(|()| drill.fires("RequestsTurnedAway", FIRES_MAX, |_| Ok(())))
        .and_then(|()| drill.step("look"));
    load.finish();
    let words = fired?;
    ensure!(words.contains("overloaded"), "the page does not find the reason: {words}");
    ensure!(words.contains("503"), "the page does not find the status: {words}");
    drill.ledger.forgive_reads();
    drill.step("limits")?;
    let load = drill.keep_writing();
    let enough = load.wait_for_acks(BEFORE, FIRES_MAX);
    load.finish();
    ensure!(enough, "it takes no writes with the higher limit");
    ensure!(drill.ledger.read_failures().is_empty(), "{:?}", drill.ledger.read_failures());
    ensure!(
        drill.sum("stemedb_requests_rejected_total", "overloaded")? == 0.0,
        "requests are still turned away"
    );
    drill.tell("the same load is taken, nothing is turned away");
    drill.clears("HighApiErrorRate", CLEARS_MAX)?;
    drill.clears("RequestsTurnedAway", CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
