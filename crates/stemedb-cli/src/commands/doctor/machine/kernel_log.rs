//! What the kernel said of some devices.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::OFlags;

/// Longest record that the kernel gives.
const RECORD_BYTES: usize = 16 << 10;
/// The kernel's levels: up to this one it is at least a warning.
const WARNING: u32 = 4;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// 0 emergency, 3 error, 4 warning, 6 information.
    pub(crate) level: u32,
    /// Since the machine started.
    pub(crate) at: Duration,
    pub(crate) text: String,
}

/// Every line that the kernel still has. Fails where only root may read it.
pub(crate) fn read() -> io::Result<Vec<Message>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut device = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?;
    let (mut messages, mut record) = (Vec::new(), vec![0; RECORD_BYTES]);
    loop {
        match device.read(&mut record) {
            Ok(0) => return Ok(messages),
            Ok(len) => {
                let bytes = record.get(..len).unwrap_or_default();
                messages.extend(parse(&String::from_utf8_lossy(bytes)));
            }
            // The record to be read was overwritten meanwhile: the next one is given next.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
            Err(error) => return Err(error),
        }
    }
}

/// `priority,number,microseconds,flags;text`, then lines with details, which begin with a blank.
fn parse(record: &str) -> Option<Message> {
    let (head, text) = record.split_once(';')?;
    let mut head = head.split(',');
    let priority: u32 = head.next()?.parse().ok()?;
    let microseconds = head.nth(1)?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default().to_owned();
    // Above the level stands the facility: the kernel's own is 0, others are what programs wrote.
    let kernel = priority < 8;
    kernel.then(|| Message { level: priority & 7, at: Duration::from_micros(microseconds), text })
}

/// Words of lines that tell of a failing disk or file system; that a line is serious and names a disk
/// is not enough: a disk that has no cache to speak of is an error to the kernel, too.
const TROUBLE: &[&str] = &[
    "I/O error",
    "I/O Error",
    "medium error",
    "Medium Error",
    "page write",
    "writeback error",
    "error (device",
    "critical (device",
    "Aborting journal",
    "read-only",
    "orruption",
    "hutting down",
    "shutdown",
    "imed out",
    "imeout",
    "rejecting I/O",
    "failed command",
];

/// Lines of trouble that name one of these devices, in order.
pub(crate) fn trouble(messages: &[Message], devices: &[String]) -> Vec<Message> {
    // A name is given again: what came before the device was last attached is about another.
    let attached = |message: &Message| {
        devices.iter().any(|name| begins(&message.text, name) && names(&message.text, name))
    };
    let from = messages.iter().rposition(attached).map_or(0, |at| at + 1);
    let of_trouble = |message: &&Message| {
        message.level <= WARNING
            && TROUBLE.iter().any(|words| message.text.contains(words))
            && devices.iter().any(|name| names(&message.text, name))
    };
    messages.get(from..).unwrap_or_default().iter().filter(of_trouble).cloned().collect()
}

/// Whether a line tells that a device with this name was attached. Where many are, the kernel leaves some
/// of these lines out; a loop device, whose name is the first to be given again, is mounted soon after.
fn begins(text: &str, name: &str) -> bool {
    const MOUNTED: [&str; 3] = ["mounted filesystem", "Mounting V", "first mount of filesystem"];
    text.contains("detected capacity change from 0 to")
        || (name.starts_with("loop") && MOUNTED.iter().any(|words| text.contains(words)))
}

/// Whether a text has this name in it as a word: `sda` is neither in `sda1` nor in `nsda`.
fn names(text: &str, name: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().chars().next_back();
        let after = text.get(at + name.len()..).unwrap_or_default().chars().next();
        !part(before) && !part(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_kernel_are_taken_apart() {
        let found = parse("3,12,1277187308,-;I/O error, dev sda\n SUBSYSTEM=block\n").unwrap();
        let at = Duration::from_micros(1_277_187_308);
        assert_eq!(found, Message { level: 3, at, text: "I/O error, dev sda".into() });
        // Priority 12 is a warning that a program wrote.
        for record in ["12,1,2,-;I/O error, dev sda", "", ";", "x,1,2,-;y", "3,1;y"] {
            assert_eq!(parse(record), None, "{record}");
        }
    }

    fn log(lines: &[(u32, &str)]) -> Vec<Message> {
        let line = |(n, (level, text)): (usize, &(u32, &str))| Message {
            level: *level,
            at: Duration::from_secs(n as u64),
            text: (*text).to_owned(),
        };
        lines.iter().enumerate().map(line).collect()
    }

    fn seconds(lines: &[(u32, &str)], devices: &[&str]) -> Vec<u64> {
        let devices: Vec<String> = devices.iter().map(|name| (*name).to_owned()).collect();
        trouble(&log(lines), &devices).iter().map(|line| line.at.as_secs()).collect()
    }

    #[test]
    fn only_trouble_of_these_devices_counts() {
        let lines = [
            (6, "EXT4-fs (sda1): mounted filesystem x r/w with ordered data mode"),
            (3, "Buffer I/O error on dev sda1, logical block 1, lost async page write"),
            (3, "blk_update_request: I/O error, dev sda, sector 5"),
            (3, "I/O error, dev sdb, sector 5"),
            (3, "sd 0:0:0:0: [sda] Asking for cache data failed"),
            (
                2,
                "EXT4-fs error (device sda1): ext4_journal_check_start:84: Detected aborted journal",
            ),
            (2, "EXT4-fs (sda1): Remounting filesystem read-only"),
            (2, "Aborting journal on device sda1-8."),
            (1, "XFS (dm-1): Corruption of in-memory data detected.  Shutting down filesystem"),
            (2, "BTRFS error (device sda10): bdev /dev/sda10 errs: wr 1, rd 0"),
            (6, "I/O error, dev sda: level 6 is for information"),
        ];
        assert_eq!(seconds(&lines, &["sda1", "sda"]), [1, 2, 5, 6, 7]);
        assert_eq!(seconds(&lines, &["dm-1"]), [8]);
        assert_eq!(seconds(&lines, &["dm-10", "sdc"]), Vec::<u64>::new());
    }

    #[test]
    fn what_was_before_a_device_was_attached_is_about_another() {
        let lines = [
            (3, "I/O error, dev loop3, sector 5"),
            (6, "loop3: detected capacity change from 0 to 131072"),
            (3, "I/O error, dev loop3, sector 6"),
            (6, "loop4: detected capacity change from 0 to 131072"),
        ];
        assert_eq!(seconds(&lines, &["loop3"]), [2]);
        for mounted in [
            "EXT4-fs (loop3): mounted filesystem 5ff9 r/w with ordered data mode",
            "XFS (loop3): Mounting V5 Filesystem 1911",
            "BTRFS info (device loop3): first mount of filesystem 0ae5",
        ] {
            let lines = [
                (3, "loop3: writeback error on inode 7, offset 0, sector 5"),
                (6, mounted),
                (1, "XFS (loop3): log I/O error -5"),
                (6, "EXT4-fs (loop3): unmounting filesystem 5ff9."),
            ];
            assert_eq!(seconds(&lines, &["loop3"]), [2], "{mounted}");
        }
        // A disk that is mounted again is the same disk.
        let lines = [
            (3, "I/O error, dev sda, sector 5"),
            (6, "EXT4-fs (sda): mounted filesystem 5ff9 r/w with ordered data mode"),
        ];
        assert_eq!(seconds(&lines, &["sda"]), [0]);
    }
}
