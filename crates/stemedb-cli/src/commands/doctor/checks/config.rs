//! Would a start accept the configuration, and what of it is unusual?

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::finding::{Finding, quoted};
use super::super::site::Site;

struct Facts {
    file: Option<PathBuf>,
    problems: Vec<String>,
    auth: bool,
    tls: bool,
    listen: SocketAddr,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    judge(&Facts {
        file: site.file.clone(),
        problems: site.problems.clone(),
        auth: site.config.auth.enabled,
        tls: site.config.tls.certificate.is_some(),
        listen: site.config.server.listen,
    })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let flag = facts.file.as_ref().map(|file| format!(" --config {}", quoted(file)));
    let flag = flag.unwrap_or_default();
    let from = match &facts.file {
        Some(file) => format!("read from {}", file.display()),
        None => "no file; defaults, environment and flags".to_owned(),
    };
    if !facts.problems.is_empty() {
        let evidence = format!("{}; {from}", facts.problems.join("; "));
        let what = "the configuration is not valid: the node would not start";
        return vec![Finding::critical(what, evidence).next(format!("stemedb config check{flag}"))];
    }
    let mut findings = vec![Finding::ok("the configuration is valid", from)];
    let print = format!("stemedb config print{flag}");
    if !facts.auth {
        let evidence = format!("auth.enabled = false, server.listen = {}", facts.listen);
        let what = "whoever is on this machine may do everything: API keys are off";
        findings.push(Finding::note(what, evidence).next(print));
    } else if !facts.tls && !facts.listen.ip().is_loopback() {
        let evidence = format!("server.listen = {}", facts.listen);
        let what = "API keys cross the network as they are, unless TLS is in front";
        findings.push(Finding::note(what, evidence).next(print));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn problems_are_critical_and_open_doors_worth_knowing() {
        for (problems, auth, tls, listen, expected) in [
            (0, true, false, "127.0.0.1:1", vec![Ok]),
            (0, true, false, "0.0.0.0:1", vec![Ok, Note]),
            (0, true, true, "0.0.0.0:1", vec![Ok]),
            (0, false, false, "127.0.0.1:1", vec![Ok, Note]),
            (2, true, false, "127.0.0.1:1", vec![Critical]),
        ] {
            let facts = Facts {
                file: Some("/etc/stemedb/api.toml".into()),
                problems: vec!["unknown key x".into(); problems],
                auth,
                tls,
                listen: listen.parse().unwrap(),
            };
            assert_eq!(severities(&judge(&facts)), expected, "{problems} {auth} {listen}");
        }
    }
}
