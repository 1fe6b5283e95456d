//! The certificate in force ends soon, or has ended. No clock is turned: it really does.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::authority::{Authority, CONFIG, ROOTS};
use super::case::{Drill, wait};
use super::room::DATA;
use crate::monitoring::stack::Pace;

const ALERT: &str = "CertificateExpiring";
const EXPIRY: &str = "stemedb_tls_certificate_expiry_timestamp_seconds";
const RELOADS: &str = "stemedb_config_reloads_total";
const FIRES_MAX: Duration = Duration::from_secs(60);
const CLEARS_MAX: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const SOON: Duration = Duration::from_secs(3 * 24 * 3_600);
/// Until the certificate of `ended` ends.
const MOMENT: Duration = Duration::from_secs(15);
const REFUSED_MAX: Duration = Duration::from_secs(10);
const BEFORE: u64 = 100;

/// Clients take it yet. They go on writing over the change.
pub(crate) fn soon(drill: &mut Drill<'_>) -> Result<()> {
    let authority = prepare(drill)?;
    take(drill, &authority, SOON)?;
    drill.struck("the certificate in force ends in three days");
    drill.fires(ALERT, FIRES_MAX, Drill::answers_reads)?;
    let load = drill.keep_writing();
    let changed = renew(drill);
    let enough = load.wait_for_acks(BEFORE, FIRES_MAX);
    load.finish();
    changed?;
    ensure!(enough, "clients stand still after the change");
    let failures = drill.ledger.read_failures();
    ensure!(failures.is_empty(), "reads failed over the change: {failures:?}");
    ensure!(drill.ledger.unanswered() == 0, "writes were not answered over the change");
    drill.tell("no client noticed the change");
    ends_well(drill)
}

/// Clients refuse it.
pub(crate) fn ended(drill: &mut Drill<'_>) -> Result<()> {
    let authority = prepare(drill)?;
    take(drill, &authority, MOMENT)?;
    let end = Instant::now() + MOMENT;
    drill.struck("the certificate in force ends in a few seconds");
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    let mut words = None;
    wait(end, REFUSED_MAX, "a client refuses the certificate", || {
        words = drill.stranger()?.get("/livez").err().map(|error| format!("{error:#}"));
        Ok(words.is_some())
    })?;
    let words = words.unwrap_or_default();
    ensure!(words.contains("xpired"), "a client refuses for another reason: {words}");
    drill.tell("clients refuse it: it has expired");
    drill.reload()?;
    drill.has_said(&["the TLS certificate has expired"])?;
    drill.tell("the node goes on, and says so when it reads its configuration anew");
    renew(drill)?;
    drill.client = drill.stranger()?;
    drill.load(BEFORE)?;
    drill.tell("clients are answered again");
    ends_well(drill)
}

/// A node with a good certificate, and somebody who watches it over TLS.
fn prepare(drill: &mut Drill<'_>) -> Result<Authority> {
    drill.configure(CONFIG)?;
    let authority = Authority::found()?;
    authority.sign(365 * DAY)?;
    drill.speak_tls(Path::new(ROOTS))?;
    drill.good_disk(DATA, 192)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    drill.watch(Pace::ShortWindows)?;
    ensure!(!drill.firing(ALERT)?, "{ALERT} fires before the fault");
    Ok(authority)
}

fn take(drill: &Drill<'_>, authority: &Authority, good_for: Duration) -> Result<()> {
    authority.sign(good_for)?;
    drill.reload()
}

/// As the page says.
fn renew(drill: &mut Drill<'_>) -> Result<()> {
    let words = drill.step("look")?;
    ensure!(words.contains("node.pem"), "the page does not find the file: {words}");
    ensure!(
        words.matches("notAfter=").count() == 2,
        "the page does not show the end of both, file and certificate in force: {words}"
    );
    drill.step("make")?;
    drill.step_reloads("put")?;
    let words = drill.step("check")?;
    ensure!(words.contains("will not expire"), "the certificate in force is not new: {words}");
    ensure!(words.contains(EXPIRY) && words.contains(RELOADS), "no metric says so: {words}");
    let status = drill.stranger()?.get("/livez")?.status;
    ensure!(status == 200, "a client is answered {status} under the new certificate");
    Ok(())
}

fn ends_well(drill: &mut Drill<'_>) -> Result<()> {
    drill.clears(ALERT, CLEARS_MAX)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}
