//! Who has a folder locked, and what a process may use.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::text;

/// Who has the log open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody whom this user and this container can see.
    Nobody,
    /// A process.
    Process(Process),
    /// It cannot be told, and why.
    Unknown(String),
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Its program, if it still runs.
    pub(crate) name: Option<String>,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process {} ({name})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// The process with this number.
pub(crate) fn process(pid: u32) -> Process {
    Process { pid, name: text(format!("/proc/{pid}/comm")) }
}

/// Who holds the lock of a folder. Only looks it up: to try the lock would refuse it to a node that
/// starts at that moment. `mounted` is the number of its file system in the table of mounts, which of
/// Btrfs is another than files tell.
pub(crate) fn holder(folder: &Path, mounted: Option<&str>) -> Holder {
    let found = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Holder::Nobody,
        Err(error) => return Holder::Unknown(format!("{}: {error}", folder.display())),
    };
    let locks = match std::fs::read_to_string("/proc/locks") {
        Ok(locks) => locks,
        Err(error) => return Holder::Unknown(format!("/proc/locks: {error}")),
    };
    let device = found.dev();
    let own = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let numbers = [Some(own.as_str()), mounted];
    match lock_of(&locks, &numbers, found.ino()) {
        Some(pid) => Holder::Process(process(pid)),
        None => Holder::Nobody,
    }
}

/// `1: FLOCK  ADVISORY  WRITE 30933 fe:00:5309324 0 EOF`; with an arrow, of one who waits.
fn lock_of(locks: &str, numbers: &[Option<&str>], inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words.as_slice() else { return None };
        let mut place = place.split(':');
        let major = u32::from_str_radix(place.next()?, 16).ok()?;
        let minor = u32::from_str_radix(place.next()?, 16).ok()?;
        let number = format!("{major}:{minor}");
        let same = place.next()?.parse() == Ok(inode) && numbers.contains(&Some(number.as_str()));
        same.then(|| pid.parse().ok())?
    })
}

/// A limit of a process; `None` is no limit.
pub(crate) type Limit = Option<u64>;

/// The soft limits of a process that concern us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessLimits {
    pub(crate) open_files: Limit,
    pub(crate) file_bytes: Limit,
}

/// Those of a process by its number, or of this one (`self`).
pub(crate) fn limits(pid: &str) -> Option<ProcessLimits> {
    parse_limits(&text(format!("/proc/{pid}/limits"))?)
}

fn parse_limits(limits: &str) -> Option<ProcessLimits> {
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        }
    };
    Some(ProcessLimits {
        open_files: limit("Max open files")?,
        file_bytes: limit("Max file size")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
        1: FLOCK  ADVISORY  WRITE 30933 fe:00:5309324 0 EOF\n\
        1: -> FLOCK  ADVISORY  WRITE 30999 fe:00:5309324 0 EOF\n\
        2: POSIX  ADVISORY  WRITE 77 fe:00:12 0 EOF\n\
        3: FLOCK  ADVISORY  WRITE 78 00:2c:256 0 EOF\n";

    #[test]
    fn a_lock_is_found_by_device_and_inode() {
        for (number, inode, expected) in [
            ("254:0", 5_309_324, Some(30933)),
            ("254:1", 5_309_324, None),
            ("254:0", 12, None),
            ("0:44", 256, Some(78)),
        ] {
            assert_eq!(lock_of(LOCKS, &[None, Some(number)], inode), expected, "{number} {inode}");
        }
    }

    #[test]
    fn limits_are_numbers_or_none() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max file size             unlimited            unlimited            bytes\n\
                    Max open files            1024                 524288               files\n";
        let expected = ProcessLimits { open_files: Some(1024), file_bytes: None };
        assert_eq!(parse_limits(text), Some(expected));
        assert_eq!(parse_limits("Max open files"), None);
        assert!(limits("self").is_some());
    }

    #[test]
    fn the_holder_of_a_lock_is_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let mount = super::super::mounts::find(&dir.path().canonicalize().unwrap());
        let number = mount.map(|mount| mount.number);
        assert_eq!(holder(dir.path(), number.as_deref()), Holder::Nobody);
        let lock = stemedb_io::Vfs::lock(&stemedb_io::RealVfs, dir.path()).unwrap();
        let Holder::Process(found) = holder(dir.path(), number.as_deref()) else { panic!() };
        assert_eq!(found.pid, std::process::id());
        drop(lock);
        assert_eq!(holder(dir.path(), number.as_deref()), Holder::Nobody);
        assert_eq!(holder(&dir.path().join("nowhere"), None), Holder::Nobody);
    }
}
