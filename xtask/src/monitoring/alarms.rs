//! Alerts that no failing write sets off, each made to fire by the very thing that it is about: a disk
//! that fills, audits that cannot be written, a drain that nobody ends, an alert that nobody mends.
//! The rules are the shipped ones with windows of seconds; thresholds are as shipped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::exercise;
use super::fire::wait;
use super::stack::{Notice, Pace, Stack};
use crate::findings::Findings;
use crate::matrix::lab::Lab;
use crate::matrix::node::{Client, Node};
use crate::mount::FileSystem;

/// An alert lasts five seconds, looks back at twenty, and is looked at every second.
const FIRES_MAX: Duration = Duration::from_secs(60);
/// The last increase must be out of sight.
const CLEARS_MAX: Duration = Duration::from_secs(60);
/// The audit tries again by itself, once a minute at the rarest.
const GOES_ON_MAX: Duration = Duration::from_secs(120);
/// The second line is told without a wait.
const TOLD_MAX: Duration = Duration::from_secs(30);
/// Left of the disk before it fills: less than half, as the alert asks, and far more than a tenth, at
/// which another one takes its place.
const LEFT: f64 = 0.45;
/// A step of that which fills it. So many, one a second, come nowhere near that tenth.
const STEP_BYTES: u64 = 1 << 20;
const STEP_EVERY: Duration = Duration::from_secs(1);

/// A node, and who watches it. Fields in the order in which they must go.
struct Scene {
    stack: Stack,
    node: Node,
    lab: Option<Lab>,
    data: PathBuf,
    instance: String,
}

/// All of them. Disks that fill take root.
pub(crate) fn sound(root: &Path, binary: &Path, folder: &Path, seed: u64, findings: &mut Findings) {
    let scene = match Scene::set(root, binary, folder, seed) {
        Ok(scene) => scene,
        Err(error) => return findings.done("a node under short windows", Err(error)),
    };
    if scene.lab.is_some() {
        findings.done("a disk that fills is foretold", scene.fills());
    } else {
        println!("SKIPPED: a disk that fills needs root (loop devices, mounts)");
    }
    findings.done("audits that cannot be written are heard", scene.is_not_taken_down());
    findings.done("a drain that nobody ends is heard", scene.drains());
    findings.done("the second line hears of an alert that stands", scene.stays_down());
}

impl Scene {
    fn set(root: &Path, binary: &Path, folder: &Path, seed: u64) -> Result<Self> {
        let lab = match rustix::process::geteuid().is_root() {
            false => None,
            true => {
                let disk = folder.join("disk");
                std::fs::create_dir_all(&disk)?;
                Some(Lab::new(FileSystem::Ext4, &disk, seed)?)
            }
        };
        let wal = lab.as_ref().map_or_else(|| folder.join("wal"), |lab| lab.path().join("wal"));
        let data = folder.join("data");
        // Where the folders of the audits belong there is something else. Modes would not stop root.
        std::fs::create_dir_all(data.join("node"))?;
        for path in audits(&data) {
            File::create(path)?;
        }
        let node = exercise::alone(binary, folder, &wal)?;
        // Before anybody watches: a disk that got full at once is another story than one that fills.
        if let Some(lab) = &lab {
            let stat = rustix::fs::statvfs(lab.path())?;
            lab.fill((stat.f_blocks.saturating_mul(stat.f_frsize) as f64 * LEFT) as u64)?;
        }
        let watch = folder.join("watch");
        std::fs::create_dir(&watch)?;
        let instance = super::address(node.url());
        let stack =
            Stack::start(root, &watch, &[format!("'{instance}'")], Pace::ShortWindows, None)?;
        let scene = Self { stack, node, lab, data, instance };
        wait(Instant::now(), FIRES_MAX, "seen", || {
            Ok(scene.stack.targets()?.get(&scene.instance).is_some_and(|health| health == "up"))
        })?;
        Ok(scene)
    }

    fn client(&self) -> Client {
        self.node.client()
    }

    fn is_silent(&self, alert: &str) -> Result<()> {
        let found = self.stack.alerts(&self.instance)?;
        ensure!(!found.contains_key(alert), "{alert} is there before its cause");
        Ok(())
    }

    /// Asks `meanwhile` again and again until the alert fires.
    fn fires(&self, alert: &str, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
        let after = wait(Instant::now(), FIRES_MAX, &format!("{alert} fires"), || {
            meanwhile()?;
            let found = self.stack.alerts(&self.instance)?;
            Ok(found.get(alert).is_some_and(|state| state == "firing"))
        })?;
        println!("     {alert}: fires after {:.0} s", after.as_secs_f32());
        Ok(())
    }

    fn clears(&self, alert: &str) -> Result<()> {
        let after = wait(Instant::now(), CLEARS_MAX, &format!("{alert} clears"), || {
            Ok(!self.stack.alerts(&self.instance)?.contains_key(alert))
        })?;
        println!("     {alert}: clears after {:.0} s", after.as_secs_f32());
        Ok(())
    }

    /// `WALDiskFillingUp`, while somebody else takes a little of the log's disk every second.
    fn fills(&self) -> Result<()> {
        const ALERT: &str = "WALDiskFillingUp";
        let lab = self.lab.as_ref().context("there is no disk")?;
        self.is_silent(ALERT)?;
        let taken = lab.path().join("taken");
        let file = File::create(&taken)?;
        let (mut bytes, mut last) = (0, Instant::now());
        self.fires(ALERT, || {
            if last.elapsed() >= STEP_EVERY {
                let flags = rustix::fs::FallocateFlags::empty();
                rustix::fs::fallocate(&file, flags, bytes, STEP_BYTES)?;
                (bytes, last) = (bytes + STEP_BYTES, Instant::now());
            }
            Ok(())
        })?;
        self.is_silent("WALDiskNearlyFull")?;
        // More than half is free again: whatever the line says, it is quiet.
        drop(file);
        std::fs::remove_file(taken)?;
        lab.empty()?;
        self.clears(ALERT)
    }

    /// `AuditWriteErrors` and `AdminAuditFailing`. Reads and acts are answered all the same.
    fn is_not_taken_down(&self) -> Result<()> {
        const ALERTS: [&str; 2] = ["AuditWriteErrors", "AdminAuditFailing"];
        let client = self.client();
        for alert in ALERTS {
            self.is_silent(alert)?;
        }
        let read = || {
            let answer = client.get("/v1/query?subject=a&predicate=b&lens=recency")?;
            ensure!(answer.status == 200, "a read is answered {}: {}", answer.status, answer.body);
            Ok(())
        };
        let act = || {
            let answer = client.post("/v1/admin/checkpoint", &Value::Null)?;
            ensure!(answer.status < 300, "an act is answered {}: {}", answer.status, answer.body);
            Ok(())
        };
        self.fires(ALERTS[0], read)?;
        // One of them is enough.
        act()?;
        self.fires(ALERTS[1], || Ok(()))?;
        for path in audits(&self.data) {
            std::fs::remove_file(path)?;
        }
        let health =
            || Ok(client.get("/v1/health")?.body.pointer("/audit/state") == Some(&json!("ok")));
        wait(Instant::now(), GOES_ON_MAX, "the audit goes on", || {
            read()?;
            health()
        })?;
        act()?;
        for alert in ALERTS {
            self.clears(alert)?;
        }
        Ok(())
    }

    /// `NodeDraining`: somebody drains the node and forgets it.
    fn drains(&self) -> Result<()> {
        const ALERT: &str = "NodeDraining";
        let client = self.client();
        self.is_silent(ALERT)?;
        let act = |act: &str, state: &str| {
            let answer = client.post(&format!("/v1/admin/node/{act}"), &Value::Null)?;
            ensure!(answer.status == 200, "{act} is answered {}: {}", answer.status, answer.body);
            let found = client.state()?.state;
            ensure!(found == state, "after {act} the node is {found}, expected {state}");
            Ok(())
        };
        act("drain", "drained")?;
        self.fires(ALERT, || Ok(()))?;
        act("undrain", "ready")?;
        self.clears(ALERT)
    }

    /// `CriticalAlertStanding`: the node is gone, and nobody does anything about it.
    fn stays_down(mut self) -> Result<()> {
        const CAUSE: &str = "TargetDown";
        const ALERT: &str = "CriticalAlertStanding";
        self.is_silent(ALERT)?;
        self.node.kill()?;
        self.fires(CAUSE, || Ok(()))?;
        self.fires(ALERT, || Ok(()))?;
        let ours = |notice: &Notice| {
            let is = |label: &str, value: &str| {
                notice.labels.get(label).is_some_and(|found| found == value)
            };
            notice.receiver == "second-line"
                && notice.firing
                && is("alertname", ALERT)
                && is("standing", CAUSE)
                && is("instance", &self.instance)
        };
        let told = || Ok(self.stack.told(ours).is_some());
        wait(Instant::now(), TOLD_MAX, "the second line is told", told)?;
        Ok(())
    }
}

/// Where the folders of the audits belong.
fn audits(data: &Path) -> [PathBuf; 2] {
    ["audit", "admin-audit"].map(|name| data.join("node").join(name))
}
