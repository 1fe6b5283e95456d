//! Which file system is it, and can it be believed after a failed sync?

use crate::vfs::FileSystem;

// As in the kernel's `magic.h`.
const BTRFS: u64 = 0x9123_683e;
const BCACHEFS: u64 = 0xca45_1a4e;

/// Looks up `device` (as `stat` gives it) in the text of `/proc/self/mountinfo`; `ext4_options`
/// gives the options in force of the ext4 on a block device, by its `major:minor`. `magic`, as
/// `statfs` gives it, names those whose devices no mount has.
pub(crate) fn identify(
    device: u64,
    magic: Option<u64>,
    mountinfo: &str,
    ext4_options: impl Fn(&str) -> Option<String>,
) -> FileSystem {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // ID, parent, major:minor, root, mount point, options, optional fields, "-", type, …
    let kind = mountinfo.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        (place.split(' ').nth(2)? == number).then(|| what.split(' ').next())?
    });
    let (name, rereads) = match kind {
        Some("ext4") => match ext4_options(&number) {
            Some(options) if options.lines().any(|option| option == "data=journal") => {
                ("ext4 data=journal", false)
            }
            Some(_) => ("ext4", true),
            None => ("ext4 with unknown options", false),
        },
        Some("xfs") => ("xfs", true),
        Some(kind) => (kind, false),
        // Btrfs gives its subvolumes device numbers that no mount has, and it is not alone.
        None => match magic {
            Some(BTRFS) => ("btrfs", false),
            Some(BCACHEFS) => ("bcachefs", false),
            _ => ("unknown", false),
        },
    };
    FileSystem { name: name.into(), device, rereads }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        25 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        40 25 7:3 / /mnt/x y rw shared:1 master:2 - xfs /dev/loop3 rw,attr2\n\
        41 25 7:4 / /mnt/j rw - ext4 /dev/loop4 rw\n\
        42 25 0:44 / /mnt/b rw - btrfs /dev/loop5 rw,space_cache=v2\n";

    #[test]
    fn only_what_was_seen_to_reread_is_believed() {
        let options = |number: &str| match number {
            "254:0" => Some("rw\ndata=ordered\n".to_owned()),
            "7:4" => Some("rw\ndata=journal\n".to_owned()),
            _ => None,
        };
        for ((major, minor), magic, name, rereads) in [
            ((254, 0), None, "ext4", true),
            ((7, 3), None, "xfs", true),
            ((7, 4), None, "ext4 data=journal", false),
            ((0, 44), Some(BTRFS), "btrfs", false),
            ((0, 99), Some(BTRFS), "btrfs", false),
            ((0, 99), Some(0xef53), "unknown", false),
            ((0, 99), None, "unknown", false),
        ] {
            let device = rustix::fs::makedev(major, minor);
            let found = identify(device, magic, MOUNTS, options);
            assert_eq!(found, FileSystem { name: name.into(), device, rereads });
        }
        let blind = identify(rustix::fs::makedev(254, 0), None, MOUNTS, |_| None);
        assert!(!blind.rereads, "{blind:?}");
    }
}
