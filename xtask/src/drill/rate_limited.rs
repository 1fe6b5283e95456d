//! A caller asks more often than it may.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::case::Drill;
use super::room::DATA;
use crate::matrix::load::Told;
use crate::matrix::node::Client;
use crate::monitoring::stack::Pace;

const ALERT: &str = "RateLimitedHeavily";
const CODE: &str = "rate_limited";
const FIRES_MAX: Duration = Duration::from_secs(90);
const CLEARS_MAX: Duration = Duration::from_secs(60);
const CONFIG: &str = "\n[rate_limit.write]\nper_second = 5\nburst = 10\n";
const BEFORE: u64 = 200;
/// Less than the burst.
const OTHERS: usize = 5;

pub(crate) fn loader(drill: &mut Drill<'_>) -> Result<()> {
    drill.configure_with_keys(CONFIG)?;
    drill.good_disk(DATA, 192)?;
    drill.service.start()?;
    let (loader, other) = (drill.holder("loader", "writer")?, drill.holder("other", "writer")?);
    // The node's state is for operators.
    drill.client = drill.holder("watch", "operator")?;
    drill.watch(Pace::ShortWindows)?;
    ensure!(!drill.firing(ALERT)?, "{ALERT} fires before the fault");
    drill.struck("sixteen writers with one API key write over its rate of five a second");
    let load = drill.keep_writing_as(&loader);
    let outcome = endure(drill, &other).and_then(|()| {
        let enough = load.wait_for_acks(BEFORE, FIRES_MAX);
        ensure!(enough, "{BEFORE} claims are not taken at the higher rate");
        drill.tell("the same load is taken, nothing is refused");
        Ok(())
    });
    load.finish();
    outcome?;
    let failures = drill.ledger.read_failures();
    ensure!(failures.is_empty(), "reads failed meanwhile: {failures:?}");
    let (refused, unanswered) = (drill.ledger.refused(CODE), drill.ledger.unanswered());
    ensure!(refused > 0 && unanswered == 0, "{refused} refused, {unanswered} not answered");
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.tell(format!("and none of the {refused} that were answered 429"));
    drill.survives_the_end()
}

/// From the alert to the higher rate.
fn endure(drill: &mut Drill<'_>, other: &Client) -> Result<()> {
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    for _ in 0..OTHERS {
        let told = drill.ledger.send_next(other);
        ensure!(matches!(told, Told::Created { .. }), "another key is answered {told:?}");
    }
    drill.tell("writes with another key are taken");
    let words = drill.step("look")?;
    ensure!(words.contains("/v1/assert") && words.contains(CODE), "the page finds {words}");
    let words = drill.step("who")?;
    let named = words.lines().find(|line| line.contains("over its rate limit"));
    let named = named.with_context(|| format!("the page does not find the caller: {words}"))?;
    let listed = words.lines().filter(|line| line.contains("loader"));
    let ids = listed.filter_map(|line| line.split_whitespace().next());
    ensure!(ids.into_iter().any(|id| named.contains(id)), "the key named is another's: {words}");
    drill.step_reloads("raise")?;
    let words = drill.step("check")?;
    let counts: Vec<&str> = words.lines().filter(|line| line.contains(CODE)).collect();
    let &[first, second] = counts.as_slice() else { bail!("the page does not count: {words}") };
    ensure!(first == second, "requests are still refused: {words}");
    Ok(())
}
