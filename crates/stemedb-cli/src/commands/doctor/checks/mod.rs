//! The checks, in the order in which they are made. A new one is a file and a line here, and a row in
//! `docs/operations/doctor.md`.

mod archive;
mod audit;
mod backup;
mod build;
mod certificate;
mod clock;
mod config;
mod disks;
mod encryption;
mod errors;
mod folders;
mod index;
mod limits;
mod log;
mod metrics;
mod mounts;
mod node;
mod places;
mod port;
mod probe;
mod smart;
mod space;

use std::time::Duration;

pub(crate) use self::probe::time_syncs;

use super::Check;

/// What asks the kernel only is answered at once.
const SOON: Duration = Duration::from_secs(15);
/// What reads much, from a slow disk.
const LATER: Duration = Duration::from_secs(120);

/// All of them.
pub(super) const ALL: &[Check] = &[
    Check { name: "build", look: build::look, patience: SOON },
    Check { name: "config", look: config::look, patience: SOON },
    Check { name: "certificate", look: certificate::look, patience: SOON },
    Check { name: "encryption", look: encryption::look, patience: SOON },
    Check { name: "folders", look: folders::look, patience: SOON },
    Check { name: "mounts", look: mounts::look, patience: SOON },
    Check { name: "space", look: space::look, patience: SOON },
    Check { name: "disks", look: disks::look, patience: SOON },
    Check { name: "errors", look: errors::look, patience: SOON },
    Check { name: "smart", look: smart::look, patience: LATER },
    Check { name: "probe", look: probe::look, patience: SOON },
    Check { name: "clock", look: clock::look, patience: SOON },
    Check { name: "limits", look: limits::look, patience: SOON },
    Check { name: "port", look: port::look, patience: SOON },
    Check { name: "node", look: node::look, patience: SOON },
    Check { name: "metrics", look: metrics::look, patience: SOON },
    Check { name: "log", look: log::look, patience: LATER },
    Check { name: "index", look: index::look, patience: SOON },
    Check { name: "audit", look: audit::look, patience: LATER },
    Check { name: "archive", look: archive::look, patience: SOON },
    Check { name: "backup", look: backup::look, patience: SOON },
];

/// Bytes for people: `1.5 GiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// `1 thing`, `2 things`.
fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(super::bytes(count), expected);
        }
    }
}
