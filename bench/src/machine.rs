//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub commit: String,
    pub processor: String,
    pub processors: usize,
    pub memory_gib: u64,
    pub kernel: String,
    pub file_system: String,
    pub device: String,
    pub load_before: String,
    /// Empty where nobody is measured beside ours.
    pub rivals: String,
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".into())
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value).trim().to_owned()
}

impl Machine {
    pub fn look(scratch: &Path, postgres: bool) -> Self {
        let scratch = scratch.display().to_string();
        let mount = said("findmnt", &["-no", "FSTYPE,OPTIONS", "-T", &scratch]);
        let source = said("findmnt", &["-no", "SOURCE", "-T", &scratch]);
        let device = source.rsplit('/').next().unwrap_or_default().to_owned();
        let queue = |what: &str| {
            fs::read_to_string(format!("/sys/block/{device}/queue/{what}"))
                .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
        };
        let changed = !said("git", &["status", "--porcelain", "--", "crates"]).eq("unknown");
        let version = |package: &str| said("dpkg-query", &["-W", "-f=${Version}", package]);
        let memory = field("/proc/meminfo", "MemTotal");
        let memory: u64 =
            memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut rivals = format!(
            "SQLite {}, RocksDB {}, raft-engine 0.4, fjall 3",
            rusqlite::version(),
            version("librocksdb-dev"),
        );
        if postgres {
            rivals = format!("PostgreSQL {}, {rivals}", version("postgresql-15"));
        }
        Self {
            date: said("date", &["-u", "+%Y-%m-%d"]),
            commit: format!(
                "{}{}",
                said("git", &["rev-parse", "--short=12", "HEAD"]),
                if changed { ", with changes" } else { "" }
            ),
            processor: field("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory >> 20,
            kernel: said("uname", &["-sr"]),
            file_system: mount.split_whitespace().collect::<Vec<_>>().join(" "),
            device: format!("{device}, write cache {}, FUA {}", queue("write_cache"), queue("fua")),
            load_before: fs::read_to_string("/proc/loadavg")
                .map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(" "))
                .unwrap_or_default(),
            rivals,
        }
    }

    /// All of it in words.
    pub fn sentence(&self) -> String {
        let rivals = match self.rivals.as_str() {
            "" => String::new(),
            rivals => format!(" {rivals}."),
        };
        format!(
            "Measured on {} at commit {}. {} × {}, {} GiB, {}; {}; device {}; load before: {}.{rivals}",
            self.date,
            self.commit,
            self.processors,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.file_system,
            self.device,
            self.load_before,
        )
    }
}
