//! What the node says of itself.

use stemedb_server::wire::{Health, Node, Replica};

use super::super::asked::Asked;
use super::super::finding::Finding;
use super::super::machine::processes::Holder;
use super::super::site::Site;

/// A standby is told when it is so many seconds behind, as by the alert.
const LAG_MAX: f64 = 60.0;

/// What is known of the node.
enum Facts<'a> {
    /// It answered.
    Answered {
        address: &'a str,
        node: Result<&'a Node, &'a str>,
        health: Option<&'a Health>,
        holder: &'a Holder,
    },
    /// Nothing answered; where it was asked, and who has the log open.
    Silent { tried: String, holder: &'a Holder },
}

struct Commands {
    status: String,
    acknowledge: String,
    undrain: String,
    attach: String,
    serve: String,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let facts = match &site.asked {
        Asked::Answered(answers) => Facts::Answered {
            address: &answers.address,
            node: answers.node.as_ref().map_err(String::as_str),
            health: site.health(),
            holder: &site.holder,
        },
        Asked::Another { address, .. } => {
            Facts::Silent { tried: format!("{address}: another database"), holder: &site.holder }
        }
        Asked::Silent(tried) => Facts::Silent { tried: tried.join("; "), holder: &site.holder },
    };
    let commands = Commands {
        status: site.admin("status"),
        acknowledge: site.admin("wal acknowledge"),
        undrain: site.admin("undrain"),
        attach: site.admin("wal attach"),
        serve: format!("stemedb serve{}", site.here),
    };
    judge(&facts, &commands)
}

fn judge(facts: &Facts<'_>, commands: &Commands) -> Vec<Finding> {
    match facts {
        Facts::Answered { address, node: Ok(node), health, holder } => {
            let mut findings = judge_node(address, node, holder, commands);
            findings.extend(health.and_then(|health| judge_lost(address, health)));
            findings
        }
        Facts::Answered { address, node: Err(why), .. } => {
            let why = format!(
                "{address}: {why}; the user of the node and root may ask at its admin socket, others \
                 with STEMEDB_API_KEY_FILE"
            );
            vec![Finding::unseen("how the node is", why)]
        }
        Facts::Silent { tried, holder } => vec![match holder {
            Holder::Process(process) => {
                let evidence = format!("{process}: {tried}");
                let what = "a process has the log open and does not answer: it hangs, or has only begun \
                            to read its log, or is a command such as reindex";
                Finding::critical(what, evidence)
                    .next(format!("ps -o pid,stat,etime,wchan,args -p {}", process.pid))
            }
            Holder::Nobody => {
                let evidence = format!("nobody has the log open; {tried}");
                Finding::note("the node is stopped", evidence).next(&commands.serve)
            }
            Holder::Unknown(why) => {
                let why = format!("{why}; {tried}; run it as the user of the node, or as root");
                Finding::unseen("whether the node runs", why)
            }
        }],
    }
}

fn judge_node(address: &str, node: &Node, holder: &Holder, commands: &Commands) -> Vec<Finding> {
    let mut evidence = format!(
        "{address}: {}, log {}, position {}, durable {}",
        node.state, node.wal, node.position, node.durable
    );
    if let Holder::Process(process) = holder {
        evidence += &format!("; {process} has the log open");
    }
    let mut findings = Vec::new();
    match (node.state.as_str(), &node.reason) {
        ("ready", _) => {}
        ("standby", None) => {
            let (what, bad) = match &node.replica {
                Some(replica) => follows(replica, &mut evidence),
                None => ("the node is a standby", false),
            };
            let finding = if bad { Finding::warning } else { Finding::ok };
            findings.push(finding(what, evidence.clone()).next(&commands.status));
        }
        ("starting" | "recovering", None) => {
            let what = "the node is starting: it answers once its index has caught up with the log";
            findings.push(Finding::note(what, evidence.clone()).next(&commands.status));
        }
        ("draining" | "drained", None) => {
            let what = "somebody has drained the node: it takes no writes until it is undrained";
            findings.push(Finding::warning(what, evidence.clone()).next(&commands.undrain));
        }
        (state, reason) => {
            let reason = reason
                .as_ref()
                .map_or("no reason".into(), |reason| format!("{}: {}", reason.code, reason.detail));
            let what = format!("the node is {state}: it takes no writes");
            let evidence = format!("{evidence}; {reason}");
            findings.push(Finding::critical(what, evidence).next(&commands.status));
        }
    }
    if let Some(degraded) = &node.degraded {
        let what = "the node is degraded: find out why, then acknowledge it";
        let evidence = format!("{evidence}; {degraded}");
        findings.push(Finding::warning(what, evidence).next(&commands.acknowledge));
    }
    if node.wal == "detached" {
        let what = "the log is detached: it takes no writes until it is attached";
        findings.push(Finding::warning(what, evidence.clone()).next(&commands.attach));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("the node is ready", evidence));
    }
    findings
}

/// What a standby is at, and whether somebody should look.
fn follows(replica: &Replica, evidence: &mut String) -> (&'static str, bool) {
    let Replica { of, state, problem, lag_positions, lag_seconds, .. } = replica;
    *evidence +=
        &format!("; {state} {of}, {lag_positions} positions and {lag_seconds:.1} s behind");
    if let Some(problem) = problem {
        *evidence += &format!(": {problem}");
    }
    match state.as_str() {
        "promoting" => ("the node is being promoted", false),
        "failing" | "stopped" => ("the node is a standby that cannot follow", true),
        _ if *lag_seconds > LAG_MAX => ("the node is a standby that lags", true),
        _ => ("the node is a standby and follows: it takes no writes", false),
    }
}

fn judge_lost(address: &str, health: &Health) -> Option<Finding> {
    let ranges: Vec<String> =
        health.lost.iter().map(|range| format!("{} to {}", range.first, range.last)).collect();
    let evidence = format!("{address}: positions {}", ranges.join(", "));
    let what = "a repair gave up records; whoever has them may send them again";
    health.history_lost.then(|| Finding::note(what, evidence))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::super::super::machine::processes::Process;
    use super::*;

    fn commands() -> Commands {
        Commands {
            status: "stemedb admin status --socket /d/node/admin.sock".into(),
            acknowledge: "stemedb admin wal acknowledge".into(),
            undrain: "stemedb admin undrain".into(),
            attach: "stemedb admin wal attach".into(),
            serve: "stemedb serve --data-dir /d".into(),
        }
    }

    /// Health of a node, in which these fields are others.
    fn health(node: &serde_json::Value, rest: &serde_json::Value) -> Health {
        let mut health = json!({
            "status": "ok",
            "node": {
                "state": "ready", "wal": "ok", "log_id": "00".repeat(16), "timeline": "00".repeat(16),
                "position": 7, "durable": 7, "in_flight": 0,
            },
            "audit": {"state": "ok", "required": false, "last": 0, "chain": "00".repeat(32)},
            "version": "1", "commit": "a", "snapshot": "x", "history_lost": false,
        });
        let merge = |into: &mut serde_json::Value, from: &serde_json::Value| {
            for (name, value) in from.as_object().unwrap() {
                into[name] = value.clone();
            }
        };
        merge(&mut health["node"], node);
        merge(&mut health, rest);
        serde_json::from_value(health).unwrap()
    }

    #[test]
    fn states() {
        let standby = |state, lag| {
            let replica = json!({
                "of": "/archive", "state": state, "primary_position": 7, "lag_positions": 0, "lag_seconds": lag,
            });
            json!({"state": "standby", "replica": replica})
        };
        let reason = json!({"code": "wal_unavailable", "detail": "sync of segment.001.wal failed"});
        for (changed, rest, expected) in [
            (json!({}), json!({}), vec![Fine]),
            (json!({"state": "recovering"}), json!({}), vec![Note]),
            (json!({"state": "draining"}), json!({}), vec![Warning]),
            (
                json!({"state": "read_only", "wal": "read_only", "reason": reason}),
                json!({}),
                vec![Critical],
            ),
            (json!({"state": "recovering", "reason": reason}), json!({}), vec![Critical]),
            (standby("following", 0.4), json!({}), vec![Fine]),
            (standby("following", 400.0), json!({}), vec![Warning]),
            (standby("failing", 0.4), json!({}), vec![Warning]),
            (json!({"degraded": "healed", "wal": "degraded"}), json!({}), vec![Warning]),
            (
                json!({"state": "read_only", "wal": "detached", "reason": reason}),
                json!({}),
                vec![Critical, Warning],
            ),
            (
                json!({}),
                json!({"history_lost": true, "lost": [{"first": 3, "last": 4}]}),
                vec![Fine, Note],
            ),
        ] {
            let health = health(&changed, &rest);
            let address = "unix:/d/node/admin.sock";
            let holder = Holder::Nobody;
            let (node, health) = (Ok(&health.node), Some(&health));
            let facts = Facts::Answered { address, node, health, holder: &holder };
            assert_eq!(severities(&judge(&facts, &commands())), expected, "{changed} {rest}");
        }
    }

    #[test]
    fn silence_is_judged_by_who_has_the_log_open() {
        let process = Holder::Process(Process { pid: 7, name: None });
        for (holder, expected) in [
            (Holder::Nobody, Note),
            (process, Critical),
            (Holder::Unknown("Permission denied".into()), Note),
        ] {
            let facts = Facts::Silent { tried: "http://x: refused".into(), holder: &holder };
            assert_eq!(severities(&judge(&facts, &commands())), [expected], "{holder:?}");
        }
        let holder = Holder::Nobody;
        let (address, node) = ("http://x", Err("no key"));
        let facts = Facts::Answered { address, node, health: None, holder: &holder };
        assert_eq!(severities(&judge(&facts, &commands())), [Note]);
    }
}
