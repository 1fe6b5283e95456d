//! How far the index is behind the log.

use super::super::finding::Finding;
use super::super::site::Site;

/// A group on its way makes it a few behind; further is a node that recovers or cannot follow.
const BEHIND: u64 = 10_000;

enum Facts {
    /// Position of the index and of the log, as the node says.
    Running { applied: u64, durable: u64 },
    /// Nobody says; whether the folder is there.
    Stopped { exists: bool, dir: String },
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let facts = match site.node() {
        Some(node) => Facts::Running { applied: node.position, durable: node.durable },
        None => {
            let dir = site.config.index_dir();
            Facts::Stopped { exists: dir.is_dir(), dir: dir.display().to_string() }
        }
    };
    vec![judge(&facts, site.admin("status"))]
}

fn judge(facts: &Facts, status: String) -> Finding {
    match facts {
        Facts::Running { applied, durable } => {
            let behind = durable.saturating_sub(*applied);
            let evidence = format!("index at {applied}, log at {durable}");
            if behind > BEHIND {
                let what =
                    format!("the index is {behind} records behind the log: reads do not see them");
                Finding::warning(what, evidence).next(status)
            } else {
                Finding::ok("the index follows the log", evidence)
            }
        }
        Facts::Stopped { exists: true, dir } => {
            let why = format!("{dir}: only a node opens it; a start brings it up to the log");
            Finding::unseen("how far the index is", why)
        }
        Facts::Stopped { exists: false, dir } => {
            let evidence = format!("{dir} does not exist");
            Finding::note("there is no index; a start makes it from the log", evidence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Note, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn lag() {
        for (facts, expected) in [
            (Facts::Running { applied: 7, durable: 7 }, Ok),
            (Facts::Running { applied: 0, durable: 10_000 }, Ok),
            (Facts::Running { applied: 0, durable: 10_001 }, Warning),
            (Facts::Stopped { exists: true, dir: "/d/index".into() }, Note),
            (Facts::Stopped { exists: false, dir: "/d/index".into() }, Note),
        ] {
            assert_eq!(severities(&[judge(&facts, "stemedb admin status".into())]), [expected]);
        }
    }
}
