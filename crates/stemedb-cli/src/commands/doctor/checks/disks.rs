//! What the folders lie on, below the file system.

use super::super::finding::Finding;
use super::super::machine::block::{Disk, DiskKind, Stack};
use super::super::site::Site;

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let volumes = site.volumes().into_iter().filter(|volume| !volume.only("data"));
    volumes
        .flat_map(|volume| match volume.stack() {
            Some((_, stack)) => judge(&volume.name(), volume.holds_truth(), &stack),
            None => {
                let what = format!("the disk under {}", volume.name());
                vec![Finding::unseen(what, "the file system names no block device")]
            }
        })
        .collect()
}

fn judge(name: &str, truth: bool, stack: &Stack) -> Vec<Finding> {
    stack.disks.iter().flat_map(|disk| judge_disk(name, truth, stack, disk)).collect()
}

fn judge_disk(name: &str, truth: bool, stack: &Stack, disk: &Disk) -> Vec<Finding> {
    let evidence = format!("{name}: {}", told(stack, disk));
    let list = format!("lsblk -o NAME,SIZE,RO,ROTA,STATE,MODEL /dev/{}", disk.name);
    let mut findings = Vec::new();
    if disk.read_only {
        let what = "the disk takes no writes";
        findings.push(Finding::critical(what, evidence.clone()).next(list.clone()));
    }
    if disk.state.as_deref().is_some_and(|state| !matches!(state, "running" | "live")) {
        let what = "the kernel has taken the disk out of use";
        findings.push(
            Finding::critical(what, evidence.clone()).next("dmesg --level=emerg,alert,crit,err"),
        );
    }
    match &disk.kind {
        DiskKind::Memory if truth => {
            let what =
                "the disk is memory: the next loss of power takes the log or the node's keys";
            findings.push(Finding::critical(what, evidence.clone()).next(list));
        }
        DiskKind::Loop(_) => {
            let what = "the disk is a file: another file system and its room lie under it";
            findings.push(Finding::note(what, evidence.clone()));
        }
        DiskKind::Network => {
            let what = "the disk is behind a network: a sync waits for that, too";
            findings.push(Finding::note(what, evidence.clone()));
        }
        DiskKind::Virtual => {
            let what =
                "the disk is a hypervisor's: whether it keeps what it confirms is seen from there";
            findings.push(Finding::note(what, evidence.clone()));
        }
        DiskKind::Physical | DiskKind::Memory => {}
    }
    if disk.rotational == Some(true) && disk.kind == DiskKind::Physical {
        let what = "the disk turns: a sync takes milliseconds, however little it writes";
        findings.push(Finding::note(what, evidence.clone()));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("the disk takes writes", evidence));
    }
    findings
}

/// `sda2 on sda (ATA X), write cache: write back`.
fn told(stack: &Stack, disk: &Disk) -> String {
    let mut text = stack.names.join(" on ");
    if let Some(model) = &disk.model {
        text += &format!(" ({model})");
    }
    if let DiskKind::Loop(file) = &disk.kind {
        text += &format!(" (file {file})");
    }
    if let Some(cache) = &disk.write_cache {
        text += &format!(", write cache: {cache}");
    }
    if let Some(state) = &disk.state {
        text += &format!(", state: {state}");
    }
    if disk.read_only {
        text += ", read-only";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn kinds_and_states() {
        let plain = Disk {
            name: "sda".into(),
            kind: DiskKind::Physical,
            model: Some("ATA X".into()),
            rotational: Some(false),
            write_cache: Some("write back".into()),
            read_only: false,
            state: Some("running".into()),
        };
        let with = |change: fn(&mut Disk)| {
            let mut disk = plain.clone();
            change(&mut disk);
            disk
        };
        for (truth, disk, expected) in [
            (true, plain.clone(), vec![Ok]),
            (true, with(|disk| disk.read_only = true), vec![Critical]),
            (true, with(|disk| disk.state = Some("offline".into())), vec![Critical]),
            (true, with(|disk| disk.state = Some("live".into())), vec![Ok]),
            (true, with(|disk| disk.state = None), vec![Ok]),
            (true, with(|disk| disk.rotational = Some(true)), vec![Note]),
            (true, with(|disk| disk.kind = DiskKind::Memory), vec![Critical]),
            (false, with(|disk| disk.kind = DiskKind::Memory), vec![Ok]),
            (true, with(|disk| disk.kind = DiskKind::Virtual), vec![Note]),
            (true, with(|disk| disk.kind = DiskKind::Network), vec![Note]),
            (true, with(|disk| disk.kind = DiskKind::Loop("/f".into())), vec![Note]),
        ] {
            let stack = Stack { names: vec!["sda1".into(), "sda".into()], disks: vec![disk] };
            assert_eq!(severities(&judge("wal", truth, &stack)), expected, "{stack:?}");
        }
    }
}
