//! Are reads and acts of administrators taken down, and is what was taken down as it was written?

use std::io;
use std::path::Path;

use stemedb_server::wire::AuditHealth;

use super::super::finding::{Finding, quoted};
use super::super::site::Site;
use super::{bytes, counted};

/// What is longer is left to `audit verify`: a doctor answers soon.
const BYTES_MAX: u64 = 256 << 20;

struct Facts {
    /// As the node says it, or why it does not; `None` if no node runs.
    health: Option<Result<AuditHealth, String>>,
    /// What is wrong with the files of the reads; how many entries there are.
    reads: Read,
    /// The same of the acts of administrators.
    acts: Read,
    verify: String,
    acts_verify: String,
    room: String,
}

enum Read {
    /// There are none.
    None,
    /// Why they were not read.
    Left(String),
    Proved(u64),
    Damaged(Vec<String>),
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let data_dir = &site.config.server.data_dir;
    let vfs = site.env.vfs.as_ref();
    let reads = read(&stemedb_server::audit_dir(data_dir), |dir| {
        let report = stemedb_server::verify_audit(vfs, dir)?;
        let problems = report.findings.into_iter().map(|found| found.problem).collect();
        Ok((report.last, problems))
    });
    let acts = read(&stemedb_server::trail_dir(data_dir), |_| {
        let report = stemedb_server::read_trail(vfs, data_dir)?;
        Ok((report.entries.len() as u64, report.problems))
    });
    judge(&Facts {
        health: site.answers().map(|answers| match &answers.health {
            Ok(health) => Ok(health.audit.clone()),
            Err(why) => Err(why.clone()),
        }),
        reads,
        acts,
        verify: format!("stemedb audit verify{}", site.here),
        // Without this flag a server would be asked.
        acts_verify: format!("stemedb audit admin --data-dir {}", quoted(data_dir)),
        room: format!("df -h {}", quoted(&site.config.node_dir())),
    })
}

fn read(dir: &Path, verify: impl FnOnce(&Path) -> io::Result<(u64, Vec<String>)>) -> Read {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Read::None,
        Err(error) => return Read::Left(format!("{}: {error}", dir.display())),
    };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
    let total: u64 = sizes.map(|found| found.len()).sum();
    if total > BYTES_MAX {
        let most = bytes(BYTES_MAX);
        return Read::Left(format!("{}: {}, more than {most}", dir.display(), bytes(total)));
    }
    match verify(dir) {
        Err(error) => Read::Left(format!("{}: {error}", dir.display())),
        Ok((entries, problems)) if problems.is_empty() => Read::Proved(entries),
        Ok((_, problems)) => Read::Damaged(problems),
    }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.health {
        Some(Ok(health)) => findings.extend(judge_health(facts, health)),
        Some(Err(why)) => findings.push(Finding::unseen("whether reads are taken down", why)),
        None => {}
    }
    for (name, read, verify) in [
        ("the audit of reads", &facts.reads, &facts.verify),
        ("the trail of what administrators did", &facts.acts, &facts.acts_verify),
    ] {
        findings.push(match read {
            Read::None => Finding::ok(format!("{name} is empty"), "it has no folder"),
            Read::Left(why) => {
                Finding::unseen(format!("whether {name} is whole"), why).next(verify)
            }
            Read::Proved(entries) => {
                let evidence = format!("entries up to {entries}, proved byte by byte");
                Finding::ok(format!("{name} is whole"), evidence)
            }
            Read::Damaged(problems) => {
                let first = problems.first().map_or("", String::as_str);
                let places = counted(problems.len() as u64, "place");
                let evidence = format!("{places}, the first: {first}");
                let what = format!("{name} is not as it was written");
                Finding::critical(what, evidence).next(verify)
            }
        });
    }
    findings
}

fn judge_health(facts: &Facts, health: &AuditHealth) -> Option<Finding> {
    let detail = health.detail.as_deref().unwrap_or("no detail");
    let evidence = format!("the node says {}: {detail}", health.state);
    match (health.state.as_str(), health.required) {
        ("ok", _) => None,
        ("off", _) => Some(Finding::note("reads are not taken down", "audit.enabled = false")),
        ("failing", true) => {
            let what = "reads cannot be taken down, and are refused (audit.required)";
            Some(Finding::critical(what, evidence).next(&facts.room))
        }
        ("failing", false) => {
            let what = "reads are answered and not taken down";
            Some(Finding::warning(what, evidence).next(&facts.room))
        }
        _ => Some(Finding::critical("the audit is damaged", evidence).next(&facts.verify)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    /// `?` for a node that does not say.
    fn facts(health: Option<(&str, bool)>, reads: Read, acts: Read) -> Facts {
        let health = health.map(|(state, required)| {
            if state == "?" {
                return Err("it takes a key".to_owned());
            }
            let json = serde_json::json!({
                "state": state, "required": required, "last": 0, "chain": "00".repeat(32),
            });
            Ok(serde_json::from_value(json).unwrap())
        });
        Facts {
            health,
            reads,
            acts,
            verify: "stemedb audit verify --data-dir /d".into(),
            acts_verify: "stemedb audit admin --data-dir /d".into(),
            room: "df -h /d/node".into(),
        }
    }

    #[test]
    fn what_the_node_says_and_what_the_files_say() {
        let damaged =
            || Read::Damaged(vec!["entry 3 of 0001.jsonl is not as it was written".into()]);
        for (facts, expected) in [
            (facts(None, Read::None, Read::None), vec![Fine, Fine]),
            (facts(Some(("ok", false)), Read::Proved(1), Read::Proved(2)), vec![Fine, Fine]),
            (facts(Some(("?", false)), Read::None, Read::None), vec![Note, Fine, Fine]),
            (facts(Some(("off", false)), Read::None, Read::None), vec![Note, Fine, Fine]),
            (facts(Some(("failing", false)), Read::None, Read::None), vec![Warning, Fine, Fine]),
            (facts(Some(("failing", true)), Read::None, Read::None), vec![Critical, Fine, Fine]),
            (
                facts(Some(("damaged", false)), damaged(), Read::None),
                vec![Critical, Critical, Fine],
            ),
            (facts(None, Read::Left("too long".into()), damaged()), vec![Note, Critical]),
        ] {
            assert_eq!(severities(&judge(&facts)), expected);
        }
    }
}
