//! Is there room, in bytes and in inodes?

use super::super::finding::{Finding, quoted};
use super::super::site::Site;
use super::{bytes, counted};

/// The index and the state of the node need some at least to go on.
const STATE_BYTES: u64 = 64 << 20;
/// Each segment, and each file of the index, is an inode.
const INODES_LOW: u64 = 64;

struct Facts {
    /// What is told of.
    name: String,
    /// How `df` is asked.
    path: String,
    holds_log: bool,
    total: u64,
    available: u64,
    /// 0 where inodes are made as needed.
    inodes: u64,
    inodes_free: u64,
    segment_bytes: u64,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let volumes = site.volumes().into_iter().filter(|volume| !volume.only("data"));
    volumes
        .flat_map(|volume| {
            let name = volume.name();
            match rustix::fs::statvfs(volume.near) {
                Err(error) => {
                    let evidence = format!("{name}: {error}");
                    let next = format!("df {}", quoted(volume.near));
                    vec![Finding::critical("the file system does not answer", evidence).next(next)]
                }
                Ok(found) => judge(&Facts {
                    name,
                    path: quoted(volume.near),
                    holds_log: volume.roles.contains(&"wal"),
                    total: found.f_blocks.saturating_mul(found.f_frsize),
                    available: found.f_bavail.saturating_mul(found.f_frsize),
                    inodes: found.f_files,
                    inodes_free: found.f_favail,
                    segment_bytes: site.config.wal.segment_bytes,
                }),
            }
        })
        .collect()
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts { name, total, available, inodes, inodes_free, segment_bytes, .. } = facts;
    let (total, available) = (*total, *available);
    let room = format!("{name}: {} of {} free", bytes(available), bytes(total));
    let df = format!("df -h {}", facts.path);
    let mut findings = Vec::new();
    // The log writes into one segment while it prepares the next.
    let least = if facts.holds_log { segment_bytes.saturating_mul(2) } else { STATE_BYTES };
    if available < least {
        let what = if facts.holds_log {
            "the log has no room for two more segments: it is about to refuse writes"
        } else {
            "there is hardly any room left"
        };
        let evidence = format!("{room}, expected at least {}", bytes(least));
        findings.push(Finding::critical(what, evidence).next(df));
    } else if available < total / 10 {
        let what = "less than a tenth of the file system is free";
        findings.push(Finding::warning(what, room.clone()).next(df));
    }
    let inodes_told = format!("{name}: {inodes_free} of {inodes} inodes free");
    let df = format!("df -i {}", facts.path);
    if *inodes > 0 && *inodes_free < INODES_LOW {
        let what = "there are hardly any inodes left: no new file can be made";
        findings.push(Finding::critical(what, inodes_told).next(df));
    } else if *inodes > 0 && *inodes_free < inodes / 20 {
        let what = "less than a twentieth of the inodes is free";
        findings.push(Finding::warning(what, inodes_told).next(df));
    }
    if findings.is_empty() {
        let inodes = match inodes {
            0 => "inodes are made as needed".to_owned(),
            _ => counted(*inodes_free, "inode"),
        };
        findings.push(Finding::ok("there is room", format!("{room}, {inodes}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn thresholds() {
        const MIB: u64 = 1 << 20;
        for (holds_log, total, available, inodes, inodes_free, expected) in [
            (true, 1000 * MIB, 128 * MIB, 1000, 64, vec![Ok]),
            (true, 1000 * MIB, 128 * MIB - 1, 1000, 64, vec![Critical]),
            (true, 2000 * MIB, 200 * MIB, 0, 0, vec![Ok]),
            (true, 2000 * MIB, 200 * MIB - 1, 0, 0, vec![Warning]),
            (false, 1000 * MIB, 64 * MIB, 0, 0, vec![Warning]),
            (false, 1000 * MIB, 64 * MIB - 1, 0, 0, vec![Critical]),
            (true, 1000 * MIB, 500 * MIB, 1000, 63, vec![Critical]),
            (true, 1000 * MIB, 500 * MIB, 10_000, 499, vec![Warning]),
            (true, 1000 * MIB, 500 * MIB, 10_000, 500, vec![Ok]),
            (true, 1000 * MIB, 0, 1000, 0, vec![Critical, Critical]),
        ] {
            let facts = Facts {
                name: "wal on /d".into(),
                path: "/d".into(),
                holds_log,
                total,
                available,
                inodes,
                inodes_free,
                segment_bytes: 64 * MIB,
            };
            let found = severities(&judge(&facts));
            assert_eq!(found, expected, "{total} {available} {inodes} {inodes_free}");
        }
    }
}
