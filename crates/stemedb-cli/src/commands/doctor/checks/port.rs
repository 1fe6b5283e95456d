//! Is the port free for a start, or is it the node that has it?

use std::net::SocketAddr;

use super::super::asked::Asked;
use super::super::finding::Finding;
use super::super::machine::processes::{Holder, Process};
use super::super::machine::sockets;
use super::super::site::Site;

struct Facts {
    listen: SocketAddr,
    /// Who listens there, and whose socket it is where that can be seen; `None`: the table cannot be
    /// read.
    listeners: Option<Vec<(SocketAddr, Option<Process>)>>,
    /// Whether a node has the log open.
    running: Option<bool>,
    /// Its process.
    node: Option<u32>,
    /// What answers there is another database.
    another: Option<String>,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let listen = site.config.server.listen;
    let listeners = sockets::in_the_way(listen)
        .map(|found| found.iter().map(|one| (one.address, sockets::owner(one))).collect());
    let node = match &site.holder {
        Holder::Process(process) => Some(process.pid),
        Holder::Nobody | Holder::Unknown(_) => None,
    };
    let another = match &site.asked {
        Asked::Another { address, log_id } => {
            Some(format!("database {log_id} answers at {address}"))
        }
        Asked::Answered(_) | Asked::Silent(_) => None,
    };
    judge(&Facts { listen, listeners, running: site.running(), node, another })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let listen = facts.listen;
    if listen.port() == 0 {
        let evidence = "server.listen has port 0";
        return vec![Finding::note("the node takes any free port", evidence)];
    }
    let Some(listeners) = &facts.listeners else {
        return vec![Finding::unseen("who listens on the port", "/proc/net/tcp cannot be read")];
    };
    let ss = format!("ss -ltnp sport = :{}", listen.port());
    let Some((address, owner)) = listeners.first() else {
        let evidence = format!("nothing listens on {listen}");
        return vec![match facts.running {
            Some(true) => {
                let what =
                    "the node that has the log open does not listen where it is configured to";
                Finding::note(what, evidence).next("ss -ltnp")
            }
            Some(false) | None => Finding::ok("the port is free for a start", evidence),
        }];
    };
    let who = owner.as_ref().map_or("a process that only root can see".into(), Process::to_string);
    let mut evidence = format!("{who} listens on {address}");
    if let Some(another) = &facts.another {
        evidence = format!("{evidence}; {another}");
    }
    let foreign = owner.as_ref().zip(facts.node).is_some_and(|(owner, node)| owner.pid != node);
    vec![match facts.running {
        Some(true) if foreign || facts.another.is_some() => {
            let what = "another process than the node listens where it is configured to";
            Finding::warning(what, evidence).next(ss)
        }
        Some(true) => Finding::ok("the node listens", evidence),
        Some(false) => {
            let what = "the port is taken: a start would refuse";
            Finding::critical(what, evidence).next(ss)
        }
        None => {
            let what = "somebody listens on the port; whether it is the node cannot be seen";
            Finding::note(what, evidence).next(ss)
        }
    }]
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn a_port_is_free_or_the_nodes_or_in_the_way() {
        let by = |pid| Some(Process { pid, name: Some("x".into()) });
        for (port, listeners, running, another, expected) in [
            (1, Some(None), Some(false), false, Ok),
            (1, Some(None), Some(true), false, Note),
            (1, Some(Some(by(7))), Some(true), false, Ok),
            (1, Some(Some(None)), Some(true), false, Ok),
            (1, Some(Some(by(8))), Some(true), false, Warning),
            (1, Some(Some(None)), Some(true), true, Warning),
            (1, Some(Some(by(8))), Some(false), false, Critical),
            (1, Some(Some(None)), Some(false), true, Critical),
            (1, Some(Some(None)), None, false, Note),
            (1, None, Some(false), false, Note),
            (0, Some(None), Some(false), false, Note),
        ] {
            let listen = SocketAddr::from(([127, 0, 0, 1], port));
            let facts = Facts {
                listen,
                listeners: listeners.map(|one| one.into_iter().map(|who| (listen, who)).collect()),
                running,
                node: (running == Some(true)).then_some(7),
                another: another.then(|| "database ab answers".into()),
            };
            assert_eq!(severities(&judge(&facts)), [expected], "{:?}", facts.listeners);
        }
    }
}
