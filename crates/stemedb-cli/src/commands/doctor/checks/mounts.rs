//! File systems and how they are mounted: what a sync is worth there.

use super::super::finding::{Finding, quoted};
use super::super::site::{Site, Volume};

/// File systems on which a failed sync was made to happen, and what the log does about it was judged.
const TESTED: &[&str] = &["ext4", "xfs", "btrfs"];
/// What another machine keeps.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "virtiofs",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "gfs2",
    "ocfs2",
    "beegfs",
];
/// What loss of power takes with it.
const VOLATILE: &[&str] = &["tmpfs", "ramfs"];

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let unseen = site.places.iter().filter(|place| place.mount.is_none()).map(|place| {
        let what = format!("the file system of the {} folder", place.role);
        let why = place
            .problem
            .clone()
            .unwrap_or_else(|| "/proc/self/mountinfo has no line for it".into());
        Finding::unseen(what, why)
    });
    let judged = site.volumes().into_iter().flat_map(|volume| judge(&volume));
    unseen.chain(judged).collect()
}

fn judge(volume: &Volume<'_>) -> Vec<Finding> {
    let mount = volume.mount;
    let options = told(volume);
    let look = format!("findmnt {}", quoted(&mount.point));
    let kind = mount.kind.as_str();
    let truth = volume.holds_truth();
    let mut findings = Vec::new();

    // Nothing is written into the folder above the others itself.
    if read_only(volume) && !volume.only("data") {
        let (what, next) = if ["emergency_ro", "shutdown"].iter().any(|one| mount.has(one)) {
            (
                "the file system shut itself after an error",
                "dmesg --level=emerg,alert,crit,err".into(),
            )
        } else {
            ("the file system is mounted read-only", look.clone())
        };
        findings.push(Finding::critical(what, options.clone()).next(next));
    }
    let volatile = VOLATILE.contains(&kind) || (kind == "overlay" && mount.has("volatile"));
    if volatile && truth {
        let what = "the log or the node's keys lie in memory: the next loss of power takes them";
        findings.push(Finding::critical(what, options.clone()).next(look.clone()));
    } else if volatile {
        let what = "this lies in memory; what is made from the log is made again after a restart";
        findings.push(Finding::note(what, options.clone()));
    } else if kind == "overlay" {
        let what = "this lies in the layer of a container and goes when that does; use a volume";
        findings.push(Finding::warning(what, options.clone()).next(look.clone()));
    } else if (NETWORK.contains(&kind) || kind.starts_with("fuse")) && truth {
        let what = "what a sync and a lock are worth here, another program decides";
        findings.push(Finding::warning(what, options.clone()).next(look.clone()));
    } else if kind == "btrfs" && truth {
        findings.push(not_provable("Btrfs", &options));
    } else if !TESTED.contains(&kind) && truth {
        let what = "nobody has tested what a failed sync does on this file system";
        findings.push(Finding::note(what, options.clone()));
    }
    if (mount.has("nobarrier") || mount.value("barrier") == Some("0")) && truth {
        let what = "a sync does not empty the cache of the disk: loss of power loses what was acknowledged";
        findings.push(Finding::critical(what, options.clone()).next(look.clone()));
    }
    if kind == "ext4" && truth {
        findings.extend(ext4(volume, &options));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("{kind} is mounted as it should be"), options));
    }
    findings
}

/// The options that differ from the defaults, and those of the defaults that matter.
fn told(volume: &Volume<'_>) -> String {
    let mount = volume.mount;
    let mut options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    let matters = |one: &&str| {
        ["data=", "errors=", "barrier", "nobarrier"].iter().any(|start| one.starts_with(start))
    };
    let defaults = mount.in_force.iter().map(String::as_str).filter(matters);
    for one in mount.super_options.iter().map(String::as_str).chain(defaults) {
        if !options.contains(&one) {
            options.push(one);
        }
    }
    format!("{}: {}", volume.name(), options.join(","))
}

fn read_only(volume: &Volume<'_>) -> bool {
    ["ro", "emergency_ro", "shutdown"].iter().any(|one| volume.mount.has(one))
}

/// What differs from ext4 as the log wants it.
fn ext4(volume: &Volume<'_>, options: &str) -> Vec<Finding> {
    let mount = volume.mount;
    let mut findings = Vec::new();
    match mount.value("data") {
        Some("journal") => findings.push(not_provable("ext4 with data=journal", options)),
        // Without the kernel's own list nothing follows from an option that is not there.
        None if mount.has("barrier") => {
            let what = "ext4 without a journal: check it after every loss of power";
            findings.push(Finding::note(what, options.to_owned()));
        }
        _ => {}
    }
    if mount.value("errors") == Some("continue") {
        let what = "ext4 goes on writing after it has found itself damaged";
        let next = format!("tune2fs -e remount-ro {}", mount.source);
        findings.push(Finding::warning(what, options.to_owned()).next(next));
    }
    findings
}

fn not_provable(name: &str, options: &str) -> Finding {
    let what = format!(
        "after a failed sync the log stays read-only until an operator attaches it: {name} cannot be \
         read past its cache"
    );
    Finding::note(what, options.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::finding::Severity::{Critical, Note, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::super::super::machine::mounts::Mount;
    use super::*;

    const LIST: &str = "rw,barrier,data=ordered,errors=remount-ro";

    #[test]
    fn options_decide() {
        for (roles, kind, options, super_options, expected) in [
            ("wal node", "ext4", "rw", LIST, vec![Ok]),
            ("wal", "xfs", "rw,noatime", "rw,attr2", vec![Ok]),
            ("wal", "ext4", "ro", LIST, vec![Critical]),
            ("wal", "ext4", "rw", "ro,barrier,data=ordered,errors=remount-ro", vec![Critical]),
            ("index", "ext4", "rw", "rw,emergency_ro,barrier,data=ordered", vec![Critical]),
            ("data", "ext4", "ro", "ro", vec![Ok]),
            ("wal", "ext4", "rw", "rw,nobarrier,data=ordered", vec![Critical]),
            ("wal", "btrfs", "rw", "rw,barrier=0", vec![Note, Critical]),
            ("index", "ext4", "rw", "rw,nobarrier", vec![Ok]),
            ("wal", "ext4", "rw", "rw,barrier,data=journal", vec![Note]),
            ("wal", "ext4", "rw", "rw,barrier", vec![Note]),
            // Only what differs from the defaults is listed.
            ("wal", "ext4", "rw", "rw", vec![Ok]),
            ("wal", "ext4", "rw", "rw,barrier,data=ordered,errors=continue", vec![Warning]),
            ("wal", "btrfs", "rw", "rw,subvol=/", vec![Note]),
            ("index", "btrfs", "rw", "rw,subvol=/", vec![Ok]),
            ("node", "tmpfs", "rw", "rw,size=1k", vec![Critical]),
            ("index", "tmpfs", "rw", "rw,size=1k", vec![Note]),
            ("wal", "overlay", "rw", "rw,lowerdir=/a", vec![Warning]),
            ("wal", "overlay", "rw", "rw,volatile", vec![Critical]),
            ("wal", "nfs4", "rw", "rw,soft", vec![Warning]),
            ("wal", "fuse.sshfs", "rw", "rw", vec![Warning]),
            ("wal", "jfs", "rw", "rw", vec![Note]),
        ] {
            let list = |text: &str| text.split(',').map(str::to_owned).collect();
            let mount = Mount {
                kind: kind.into(),
                source: "/dev/sda1".into(),
                point: "/d".into(),
                options: list(options),
                super_options: list(super_options),
                ..Mount::default()
            };
            let roles = roles.split(' ').collect();
            let volume = Volume { roles, near: Path::new("/d"), mount: &mount };
            let found = severities(&judge(&volume));
            assert_eq!(found, expected, "{kind} {options} {super_options}");
        }
    }
}
