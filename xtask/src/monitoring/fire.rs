//! One real fault, followed from the disk to the receiver and back: the block device under ext4
//! fails one write, the kernel fails the sync, the log heals and is degraded, the alert fires and is
//! delivered, an operator acknowledges, the alert clears.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::exercise;
use super::stack::Stack;
use crate::fault::{Act, Aim, Code, Plan, Times};
use crate::matrix::interrupt;
use crate::matrix::lab::Lab;
use crate::matrix::node::Node;
use crate::mount::FileSystem;

const ALERT: &str = "WALFsyncFailure";
/// The promise: it fires, and is heard, within two minutes.
const HEARD_MAX: Duration = Duration::from_secs(120);
/// The counter is looked at over five minutes; then the alert must go.
const CLEARED_MAX: Duration = Duration::from_secs(330);
/// After that, Alertmanager says so with the group's next notice.
const RESOLVED_MAX: Duration = Duration::from_secs(75);
/// What is left of the disk when it counts as nearly full: less than a tenth, and enough to write.
const FILL_LEAVES: u64 = 24 << 20;
const FILLED_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A server whose log lies on a disk that can fail. Fields in the order in which they must go.
pub(crate) struct Victim {
    pub(crate) node: Node,
    lab: Lab,
}

impl Victim {
    pub(crate) fn start(binary: &Path, folder: &Path, seed: u64) -> Result<Self> {
        let disk = folder.join("disk");
        std::fs::create_dir_all(&disk)?;
        let lab = Lab::new(FileSystem::Ext4, &disk, seed)?;
        let (_, node) = exercise::start(binary, folder, &lab.path().join("wal"))?;
        Ok(Self { node, lab })
    }
}

/// Waits until `done`, at most until `longest` after `since`.
pub(crate) fn wait(
    since: Instant,
    longest: Duration,
    what: &str,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    loop {
        interrupt::check()?;
        if done()? {
            return Ok(since.elapsed());
        }
        ensure!(since.elapsed() < longest, "{what}: not within {} s", longest.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The fault has struck.
pub(crate) struct Struck {
    at: Instant,
    instance: String,
    url: String,
}

/// Fails one write of a group.
pub(crate) fn strike(victim: &Victim, stack: &Stack) -> Result<Struck> {
    let client = victim.node.client();
    let url = victim.node.url().to_owned();
    let instance = url.trim_start_matches("http://").to_owned();
    let before = stack.alerts(&instance)?;
    ensure!(!before.contains_key(ALERT), "{ALERT} is there before the fault");
    let once = Plan {
        aim: Aim::Entries,
        act: Act::Fail(Code::Io),
        times: Times::Once,
        skip: 0,
        second: false,
    };
    victim.lab.disk().arm(once);
    let at = Instant::now();
    let body = json!({ "subject": "fault", "predicate": "holds", "object": "once", "at": 1 });
    let answer = client.post("/v1/assert", &body)?;
    ensure!(victim.lab.disk().first_hit().is_some(), "the disk did not fail");
    victim.lab.disk().clear();
    // It heals here, so the write is acknowledged; what else may come of it the fault matrix says.
    ensure!(answer.status == 201, "the write is answered {}: {}", answer.status, answer.body);
    let state = client.state()?;
    let degraded = state.degraded.context("the log is not degraded after the fault")?;
    println!("     the disk failed one write; state {}, degraded: {degraded}", state.state);
    Ok(Struck { at, instance, url })
}

/// Others fill the disk while nobody writes: what alerts look at must follow.
pub(crate) fn fill(victim: &Victim, stack: &Stack) -> Result<()> {
    let instance = victim.node.url().trim_start_matches("http://");
    let share = format!(
        "stemedb_wal_disk_available_bytes{{instance=\"{instance}\"}} \
         / stemedb_wal_disk_size_bytes{{instance=\"{instance}\"}} < 0.1"
    );
    ensure!(stack.query(&share)?.is_empty(), "the disk is full before it is filled");
    victim.lab.fill(FILL_LEAVES)?;
    let seen = wait(Instant::now(), FILLED_MAX, "seen", || Ok(!stack.query(&share)?.is_empty()));
    victim.lab.empty()?;
    println!("     seen after {:.1} s", seen?.as_secs_f32());
    Ok(())
}

/// From pending to the receiver.
pub(crate) fn heard(struck: &Struck, stack: &Stack) -> Result<()> {
    let state = || -> Result<String> {
        Ok(stack.alerts(&struck.instance)?.remove(ALERT).unwrap_or_default())
    };
    let pending = wait(struck.at, HEARD_MAX, "pending", || {
        let state = state()?;
        ensure!(state != "firing", "it fires without having been pending");
        Ok(state == "pending")
    })?;
    let firing = wait(struck.at, HEARD_MAX, "firing", || Ok(state()? == "firing"))?;
    let ours = |notice: &super::stack::Notice| {
        notice.receiver == "page"
            && notice.firing
            && notice.labels.get("alertname").is_some_and(|name| name == ALERT)
            && notice.labels.get("instance") == Some(&struck.instance)
    };
    wait(struck.at, HEARD_MAX, "delivered", || Ok(stack.told(ours).is_some()))?;
    let delivered = stack.told(ours).context("it was just there")?.at.duration_since(struck.at);
    let count = stack.query(&format!(
        "sum(stemedb_wal_fsync_errors_total{{instance=\"{}\"}})",
        struck.instance
    ))?;
    let count = count.first().and_then(|one| one.pointer("/value/1")).and_then(|one| one.as_str());
    ensure!(count == Some("1"), "one failed sync is counted {count:?} times");
    println!(
        "     {ALERT}: pending after {:.1} s, firing after {:.1} s, delivered after {:.1} s; \
         counted once",
        pending.as_secs_f32(),
        firing.as_secs_f32(),
        delivered.as_secs_f32()
    );
    Ok(())
}

/// As an operator does it. The alert must be there until then.
pub(crate) fn acknowledge(struck: &Struck, stack: &Stack, binary: &Path) -> Result<()> {
    let before = stack.alerts(&struck.instance)?;
    ensure!(before.get(ALERT).is_some_and(|state| state == "firing"), "{ALERT} does not stand");
    let output = Command::new(binary)
        .args(["admin", "wal", "acknowledge"])
        .env("STEMEDB_URL", &struck.url)
        .output()?;
    if !output.status.success() {
        bail!("acknowledge: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    println!("     acknowledged {:.1} s after the fault", struck.at.elapsed().as_secs_f32());
    Ok(())
}

/// Until nobody is alarmed any more.
pub(crate) fn cleared(struck: &Struck, stack: &Stack) -> Result<()> {
    let cleared = wait(struck.at, CLEARED_MAX, "cleared", || {
        Ok(!stack.alerts(&struck.instance)?.contains_key(ALERT))
    })?;
    let ours = |notice: &super::stack::Notice| {
        notice.receiver == "page"
            && !notice.firing
            && notice.labels.get("alertname").is_some_and(|name| name == ALERT)
            && notice.labels.get("instance") == Some(&struck.instance)
    };
    let longest = cleared + RESOLVED_MAX;
    let resolved =
        wait(struck.at, longest, "told that it is over", || Ok(stack.told(ours).is_some()))?;
    println!(
        "     {ALERT}: cleared {:.0} s after the fault, told {:.0} s after it",
        cleared.as_secs_f32(),
        resolved.as_secs_f32()
    );
    Ok(())
}

/// Ends a node: the alert that a target is down must be delivered, too.
pub(crate) fn take_down(mut node: Node, stack: &Stack) -> Result<()> {
    let instance = node.url().trim_start_matches("http://").to_owned();
    ensure!(node.stop(Duration::from_secs(40))?, "the server does not stop");
    let at = Instant::now();
    let ours = |notice: &super::stack::Notice| {
        notice.receiver == "page"
            && notice.firing
            && notice.labels.get("alertname").is_some_and(|name| name == "TargetDown")
            && notice.labels.get("instance") == Some(&instance)
    };
    let told = wait(at, HEARD_MAX, "told that a node is down", || Ok(stack.told(ours).is_some()))?;
    println!("     TargetDown: delivered {:.0} s after the node was stopped", told.as_secs_f32());
    Ok(())
}
