//! Which file system holds a path, and how it is mounted.

use std::path::{Path, PathBuf};

use super::text;

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mount {
    /// Names this mount.
    pub(crate) id: String,
    /// `major:minor`, as the kernel names the file system.
    pub(crate) number: String,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// `ext4`, `nfs4`, …
    pub(crate) kind: String,
    /// What is mounted there: `/dev/sda1`, `server:/path`.
    pub(crate) source: String,
    /// Options of this mount.
    pub(crate) options: Vec<String>,
    /// Options of the file system that differ from its defaults.
    pub(crate) super_options: Vec<String>,
    /// Of ext4, all that are in force.
    pub(crate) in_force: Vec<String>,
}

impl Mount {
    /// Whether an option is in force.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options
            .iter()
            .chain(&self.super_options)
            .chain(&self.in_force)
            .any(|one| one == option)
    }

    /// The value of `name=value`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut all = self.super_options.iter().chain(&self.in_force);
        all.find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The mount that `path` lies on. `path` has no symbolic links in it.
pub(crate) fn find(path: &Path) -> Option<Mount> {
    let mut mount = pick(&text("/proc/self/mountinfo")?, path)?;
    if mount.kind == "ext4"
        && let Some(device) = super::block::device(&mount.number, &mount.source)
        && let Some(options) = text(format!("/proc/fs/ext4/{}/options", device.name))
    {
        mount.in_force = options.lines().map(str::to_owned).collect();
    }
    Some(mount)
}

/// The mount with the longest path above `path`; of several at one place the last hides the others.
fn pick(mountinfo: &str, path: &Path) -> Option<Mount> {
    let above = mountinfo.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// ID, parent, major:minor, root, mount point, options, optional fields, `-`, type, source, options.
fn parse(line: &str) -> Option<Mount> {
    let (place, what) = line.split_once(" - ")?;
    let place: Vec<&str> = place.split(' ').collect();
    let mut what = what.split(' ');
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Some(Mount {
        id: (*place.first()?).to_owned(),
        number: (*place.get(2)?).to_owned(),
        point: unescaped(place.get(4)?).into(),
        options: list(place.get(5)?),
        kind: what.next()?.to_owned(),
        source: unescaped(what.next()?),
        super_options: list(what.next().unwrap_or_default()),
        in_force: Vec::new(),
    })
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, c) in [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")] {
        out = out.replace(escape, c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        40 27 7:3 /sub /mnt/a\\040b rw,nosuid shared:1 master:2 - xfs /dev/loop3 ro,noquota\n\
        41 27 0:44 / /mnt/x rw - nfs4 server:/data rw,soft,vers=4.2\n\
        42 27 0:45 / /mnt/x rw - tmpfs none rw,size=8k\n\
        43 27 0:46 / /mnt/xy rw - btrfs /dev/sdb rw,subvol=/\n\
        not a mount\n";

    #[test]
    fn the_longest_path_wins_and_of_one_place_the_last() {
        for (path, kind, number) in [
            ("/", "ext4", "254:0"),
            ("/mnt", "ext4", "254:0"),
            ("/mnt/a b/c", "xfs", "7:3"),
            ("/mnt/x/wal", "tmpfs", "0:45"),
            ("/mnt/xy", "btrfs", "0:46"),
            ("/procedures", "ext4", "254:0"),
        ] {
            let found = pick(MOUNTS, Path::new(path)).unwrap();
            assert_eq!((found.kind.as_str(), found.number.as_str()), (kind, number), "{path}");
        }
        assert_eq!(pick("", Path::new("/")), None);
    }

    #[test]
    fn options_are_of_the_mount_or_of_the_file_system() {
        let found = pick(MOUNTS, Path::new("/mnt/a b")).unwrap();
        assert!(found.has("nosuid") && found.has("ro") && !found.has("sync"), "{found:?}");
        let found = pick(MOUNTS, Path::new("/mnt/xy")).unwrap();
        assert_eq!((found.value("subvol"), found.value("rw")), (Some("/"), None));
    }

    #[test]
    fn this_machine_has_a_root() {
        let found = find(Path::new("/")).unwrap();
        assert_eq!(found.point, Path::new("/"));
        let proc = find(Path::new("/proc/self")).unwrap();
        assert_eq!(proc.kind, "proc");
    }
}
