//! Open files, length of files, memory: of the node if it runs, else of whoever asks.

use super::super::finding::Finding;
use super::super::machine::memory::{Memory, memory};
use super::super::machine::processes::{Holder, ProcessLimits, limits};
use super::super::site::Site;
use super::bytes;

/// Files besides connections: segments, the index, the audit, what the system opens.
const FILES_BESIDES: u64 = 1024;
/// Below this the node is not far from the end of its memory.
const AVAILABLE_LOW: u64 = 128 << 20;

struct Facts {
    /// Whose limits these are.
    whose: String,
    /// How the limits of that process are shown.
    next: String,
    limits: Option<ProcessLimits>,
    memory: Option<Memory>,
    connections: u64,
    segment_bytes: u64,
    /// What the configuration lets the node keep in memory.
    caches: u64,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let (whose, pid) = match &site.holder {
        Holder::Process(process) => {
            (format!("{process}, which has the log open"), process.pid.to_string())
        }
        Holder::Nobody | Holder::Unknown(_) => {
            ("this command; a service may have others".into(), "self".to_owned())
        }
    };
    let config = &site.config;
    judge(&Facts {
        whose,
        next: format!("cat /proc/{pid}/limits"),
        limits: limits(&pid),
        memory: memory(&pid),
        connections: config.limits.connections as u64,
        segment_bytes: config.wal.segment_bytes,
        caches: config
            .index
            .cache_bytes
            .saturating_add(config.query.memory_bytes)
            .saturating_add(config.query.answers_bytes),
    })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match facts.limits {
        None => {
            findings.push(Finding::unseen("limits of the process", format!("of {}", facts.whose)))
        }
        Some(limits) => findings.extend(judge_limits(facts, limits)),
    }
    match facts.memory {
        None => findings.push(Finding::unseen("how much memory there is", "/proc/meminfo")),
        Some(memory) => findings.push(judge_memory(facts, memory)),
    }
    findings
}

fn judge_limits(facts: &Facts, limits: ProcessLimits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let wanted = facts.connections.saturating_add(FILES_BESIDES);
    let shown =
        |limit: Option<u64>| limit.map_or("no limit".into(), |limit: u64| limit.to_string());
    if limits.open_files.is_some_and(|limit| limit < wanted) {
        let evidence = format!(
            "{} open files, of {}; {} connections (limits.connections) and {FILES_BESIDES} for files \
             want {wanted}",
            shown(limits.open_files),
            facts.whose,
            facts.connections
        );
        let what =
            "the node may run out of open files: raise LimitNOFILE, or lower limits.connections";
        findings.push(Finding::warning(what, evidence).next(&facts.next));
    }
    if limits.file_bytes.is_some_and(|limit| limit < facts.segment_bytes) {
        let evidence = format!(
            "{} bytes a file, of {}; a segment has {}",
            shown(limits.file_bytes),
            facts.whose,
            facts.segment_bytes
        );
        let what = "no segment may become as long as it should: raise LimitFSIZE";
        findings.push(Finding::critical(what, evidence).next(&facts.next));
    }
    if findings.is_empty() {
        let evidence = format!("{} open files, of {}", shown(limits.open_files), facts.whose);
        findings.push(Finding::ok("limits are wide enough", evidence));
    }
    findings
}

fn judge_memory(facts: &Facts, memory: Memory) -> Finding {
    let (bound, of) = match memory.group_limit {
        Some(limit) => (limit, "its control group allows"),
        None => (memory.total, "the machine has"),
    };
    let evidence = format!(
        "{of} {}; {} available; index.cache_bytes, query.memory_bytes and query.answers_bytes are {} \
         together",
        bytes(bound),
        bytes(memory.available),
        bytes(facts.caches)
    );
    if facts.caches > bound {
        let what = "the node may keep more in memory than there is: it will be ended";
        Finding::critical(what, evidence).next("stemedb config print")
    } else if facts.caches > bound / 4 * 3 {
        let what = "the node may keep most of the memory for its caches alone";
        Finding::warning(what, evidence).next("stemedb config print")
    } else if memory.available < AVAILABLE_LOW {
        Finding::warning("the machine is nearly out of memory", evidence).next("free -m")
    } else {
        Finding::ok("there is memory", evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn limits_are_held_against_the_configuration() {
        const GIB: u64 = 1 << 30;
        let plain = ProcessLimits { open_files: None, file_bytes: None };
        let files = |count| ProcessLimits { open_files: Some(count), ..plain };
        let memory = |total, available, group_limit| Memory { total, available, group_limit };
        let much = memory(8 * GIB, 4 * GIB, None);
        for (limits, memory, expected) in [
            (Some(plain), Some(much), vec![Ok, Ok]),
            (Some(files(5120)), Some(much), vec![Ok, Ok]),
            (Some(files(5119)), Some(much), vec![Warning, Ok]),
            (
                Some(ProcessLimits { file_bytes: Some((64 << 20) - 1), ..plain }),
                Some(much),
                vec![Critical, Ok],
            ),
            (Some(plain), Some(memory(8 * GIB, 4 * GIB, Some(GIB))), vec![Ok, Warning]),
            (Some(plain), Some(memory(8 * GIB, 4 * GIB, Some(GIB - 1))), vec![Ok, Critical]),
            (Some(plain), Some(memory(8 * GIB, AVAILABLE_LOW - 1, None)), vec![Ok, Warning]),
            (None, None, vec![Note, Note]),
        ] {
            let facts = Facts {
                whose: "process 1".into(),
                next: "cat /proc/1/limits".into(),
                limits,
                memory,
                connections: 4096,
                segment_bytes: 64 << 20,
                caches: GIB,
            };
            assert_eq!(severities(&judge(&facts)), expected, "{limits:?} {memory:?}");
        }
    }
}
