//! How much memory there is, and how much of it a process may use.

use std::path::{Path, PathBuf};

use super::text;

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// What programs may still get without swapping.
    pub(crate) available: u64,
    /// The lowest limit of the control groups that the process is in.
    pub(crate) group_limit: Option<u64>,
}

/// As this process by its number, or this one (`self`), sees it.
pub(crate) fn memory(pid: &str) -> Option<Memory> {
    let (total, available) = parse(&text("/proc/meminfo")?)?;
    let groups = text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let files = limit_files(&groups);
    let limits = files.iter().filter_map(|file| text(file)?.parse::<u64>().ok());
    // Version 1 writes a number beyond all memory where there is no limit, version 2 `max`.
    let group_limit = limits.filter(|limit| *limit < total).min();
    Some(Memory { total, available, group_limit })
}

fn parse(meminfo: &str) -> Option<(u64, u64)> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
}

/// The files that may hold a limit: of the group of the process and of every group above. In a
/// container the path may be the host's; then the top is what is left.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
        let (top, file) = match controllers {
            Some("") => ("/sys/fs/cgroup", "memory.max"),
            Some(list) if list.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.unwrap_or_default());
        for folder in path.ancestors() {
            let below = folder.strip_prefix("/").unwrap_or(folder);
            files.push(Path::new(top).join(below).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_and_all_above_them() {
        let found = limit_files("5:cpu:/x\n4:memory:/a/b\n0::/c\n");
        let found: Vec<_> = found.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            found,
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/c/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn this_machine_has_memory() {
        let found = memory("self").unwrap();
        assert!(found.available > 0 && found.available <= found.total, "{found:?}");
        assert_eq!(parse("MemTotal: 2 kB\nMemAvailable: 1 kB\n"), Some((2048, 1024)));
        assert_eq!(parse("MemTotal: 2 kB\n"), None);
    }
}
