//! Which build this is, and which one runs.

use super::super::finding::Finding;
use super::super::site::Site;

struct Facts {
    version: String,
    commit: String,
    /// Version and commit of the node that runs.
    running: Option<(String, String)>,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    judge(&Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: site.config.server().commit,
        running: site.answers().and_then(|answers| match (&answers.health, &answers.metrics) {
            (Ok(health), _) => Some((health.version.clone(), health.commit.clone())),
            // Which take no key.
            (Err(_), Ok(metrics)) => of_metrics(metrics),
            (Err(_), Err(_)) => None,
        }),
    })
}

/// Version and commit as labels of `stemedb_build_info`.
fn of_metrics(text: &str) -> Option<(String, String)> {
    let labels = text.lines().find_map(|line| line.strip_prefix("stemedb_build_info{"))?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    Some((label("version")?, label("commit")?))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let ours = format!("this is {} (commit {})", facts.version, facts.commit);
    vec![match &facts.running {
        Some((version, commit)) if (version, commit) != (&facts.version, &facts.commit) => {
            let evidence = format!("{ours}; the node runs {version} (commit {commit})");
            Finding::note(
                "the node runs another build than this one: a restart changes it",
                evidence,
            )
        }
        Some(_) => Finding::ok("the node runs this build", ours),
        None => Finding::ok("no running node said which build it is", ours),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{self, Note, Ok};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn another_build_is_worth_knowing() {
        let own = |text: &str| text.to_owned();
        let cases: [(Option<(&str, &str)>, Severity); 4] = [
            (None, Ok),
            (Some(("1", "a")), Ok),
            (Some(("1", "b")), Note),
            (Some(("2", "a")), Note),
        ];
        for (running, expected) in cases {
            let running = running.map(|(version, commit)| (own(version), own(commit)));
            let facts = Facts { version: own("1"), commit: own("a"), running };
            assert_eq!(severities(&judge(&facts)), [expected]);
        }
    }

    #[test]
    fn the_build_is_read_from_metrics() {
        let text =
            "# HELP stemedb_build_info x\nstemedb_build_info{commit=\"a\",version=\"1\"} 1\n";
        assert_eq!(of_metrics(text), Some(("1".to_owned(), "a".to_owned())));
        assert_eq!(of_metrics("stemedb_build_info{version=\"1\"} 1\n"), None);
    }
}
