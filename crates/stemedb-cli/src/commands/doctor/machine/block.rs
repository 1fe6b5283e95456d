//! The block device under a file system, and the disks under that.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::text;

/// What a disk is, as far as its name and its maker tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskKind {
    /// A device of its own.
    Physical,
    /// A file, shown as a disk.
    Loop(String),
    /// A disk that a hypervisor shows.
    Virtual,
    /// A disk that a network shows.
    Network,
    /// Memory.
    Memory,
}

/// A disk at the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// `sda`, `nvme0n1`, …
    pub(crate) name: String,
    pub(crate) kind: DiskKind,
    pub(crate) model: Option<String>,
    /// Whether it turns.
    pub(crate) rotational: Option<bool>,
    /// `write back`: it has a cache that a flush must empty; `write through`: it has none.
    pub(crate) write_cache: Option<String>,
    pub(crate) read_only: bool,
    /// `running`, `offline`, … where the kernel says.
    pub(crate) state: Option<String>,
}

/// A block device and all that lies under it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stack {
    /// Every name on the way down, the file system's own first: `dm-0`, `sda2`, `sda`.
    pub(crate) names: Vec<String>,
    /// The disks at the bottom.
    pub(crate) disks: Vec<Disk>,
}

/// A block device of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// `sda1`.
    pub(crate) name: String,
    /// Its folder in `/sys`.
    folder: PathBuf,
}

/// The device with this number, or of this special file: Btrfs has numbers that no device has.
pub(crate) fn device(number: &str, source: &str) -> Option<Device> {
    by_number(number).or_else(|| {
        let special = source.starts_with("/dev/").then(|| std::fs::metadata(source).ok())??;
        let number = special.rdev();
        by_number(&format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
    })
}

fn by_number(number: &str) -> Option<Device> {
    let folder = Path::new("/sys/dev/block").join(number).canonicalize().ok()?;
    let name = folder.file_name()?.to_string_lossy().into_owned();
    Some(Device { name, folder })
}

/// All that lies under a device.
pub(crate) fn stack(device: &Device) -> Stack {
    let mut stack = Stack::default();
    // No stack of disks is as deep; a loop in it would be a fault of the kernel.
    descend(device, &mut stack, 16);
    stack
}

fn descend(device: &Device, stack: &mut Stack, levels: u32) {
    if levels == 0 || stack.names.contains(&device.name) {
        return;
    }
    stack.names.push(device.name.clone());
    if device.folder.join("partition").exists() {
        if let Some(parent) = device.folder.parent() {
            let name = parent.file_name().unwrap_or_default().to_string_lossy().into_owned();
            descend(&Device { name, folder: parent.to_owned() }, stack, levels - 1);
        }
        return;
    }
    let below = std::fs::read_dir(device.folder.join("slaves")).into_iter().flatten().flatten();
    let mut below: Vec<Device> = below
        .filter_map(|entry| {
            let folder = entry.path().canonicalize().ok()?;
            Some(Device { name: entry.file_name().to_string_lossy().into_owned(), folder })
        })
        .collect();
    below.sort_by(|a, b| a.name.cmp(&b.name));
    if below.is_empty() {
        stack.disks.push(disk(device));
    }
    for one in below {
        descend(&one, stack, levels - 1);
    }
}

fn disk(device: &Device) -> Disk {
    let read = |name: &str| text(device.folder.join(name)).filter(|text| !text.is_empty());
    let model = match (read("device/vendor"), read("device/model")) {
        // Of a disk on the PCI bus the vendor is a number.
        (Some(vendor), Some(model)) if !vendor.starts_with("0x") => {
            Some(format!("{vendor} {model}"))
        }
        (_, model) => model,
    };
    Disk {
        kind: kind(&device.name, model.as_deref(), read("loop/backing_file")),
        model,
        rotational: read("queue/rotational").map(|text| text == "1"),
        write_cache: read("queue/write_cache"),
        read_only: read("ro").is_some_and(|text| text == "1"),
        state: read("device/state"),
        name: device.name.clone(),
    }
}

fn kind(name: &str, model: Option<&str>, backing: Option<String>) -> DiskKind {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let made_up = ["QEMU", "VMware", "VBOX", "Virtual", "Msft", "Google", "Amazon Elastic"];
    if begins(&["loop"]) {
        DiskKind::Loop(backing.unwrap_or_else(|| "an unknown file".into()))
    } else if begins(&["zram", "ram"]) {
        DiskKind::Memory
    } else if begins(&["nbd", "rbd", "drbd"]) {
        DiskKind::Network
    } else if begins(&["vd", "xvd"])
        || model.is_some_and(|model| made_up.iter().any(|word| model.contains(word)))
    {
        DiskKind::Virtual
    } else {
        DiskKind::Physical
    }
}

/// Errors that a file system has counted itself, and keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// How many, and of which kind.
    pub(crate) errors: Vec<(String, u64)>,
    /// When the last one was, in seconds since 1970, where that is kept.
    pub(crate) last: Option<i64>,
}

/// What ext4 keeps in its superblock, Btrfs in its device statistics; `None` where nothing is kept.
pub(crate) fn counted(kind: &str, device: &Device) -> Option<Counted> {
    match kind {
        "ext4" => {
            let folder = Path::new("/sys/fs/ext4").join(&device.name);
            let number = |name: &str| text(folder.join(name))?.parse::<i64>().ok();
            let count = u64::try_from(number("errors_count")?).unwrap_or(0);
            let last = number("last_error_time").filter(|seconds| *seconds > 0);
            Some(Counted { errors: vec![("errors".into(), count)], last })
        }
        "btrfs" => Some(Counted { errors: btrfs_errors(&device.name)?, last: None }),
        _ => None,
    }
}

/// `/sys/fs/btrfs/UUID/devices` names the devices of each file system; all of its counts matter.
fn btrfs_errors(device: &str) -> Option<Vec<(String, u64)>> {
    let folders = std::fs::read_dir("/sys/fs/btrfs").ok()?.flatten();
    let ours =
        folders.map(|entry| entry.path()).find(|one| one.join("devices").join(device).exists())?;
    let mut errors: Vec<(String, u64)> = Vec::new();
    for member in std::fs::read_dir(ours.join("devinfo")).ok()?.flatten() {
        let stats = text(member.path().join("error_stats")).unwrap_or_default();
        for line in stats.lines() {
            let Some((name, count)) = line.split_once(' ') else { continue };
            let count = count.trim().parse().unwrap_or(0);
            match errors.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += count,
                None => errors.push((name.to_owned(), count)),
            }
        }
    }
    Some(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_name_and_maker() {
        for (name, model, expected) in [
            ("sda", Some("ATA Samsung SSD 870"), DiskKind::Physical),
            ("nvme0n1", None, DiskKind::Physical),
            ("nvme0n1", Some("Amazon Elastic Block Store"), DiskKind::Virtual),
            ("sda", Some("QEMU HARDDISK"), DiskKind::Virtual),
            ("vda", None, DiskKind::Virtual),
            ("zram0", None, DiskKind::Memory),
            ("ram3", None, DiskKind::Memory),
            ("pmem0", None, DiskKind::Physical),
            ("nbd4", None, DiskKind::Network),
            ("loop3", None, DiskKind::Loop("/f".into())),
        ] {
            assert_eq!(kind(name, model, Some("/f".into())), expected, "{name}");
        }
    }
}
