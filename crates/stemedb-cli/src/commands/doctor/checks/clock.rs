//! Is the clock kept right, and has it gone back behind the log?

use std::io;
use std::time::Duration;

use stemedb_engine::CLOCK_JUMP_MAX;
use stemedb_io::ClockDiscipline;
use stemedb_model::{Millis, Position};

use super::super::finding::Finding;
use super::super::site::Site;
use crate::time;

struct Facts {
    now: Millis,
    kept: io::Result<ClockDiscipline>,
    /// The newest record of the log, and when it was recorded.
    newest: Option<(Position, Millis)>,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let newest = site.log.as_ref().ok().and_then(Option::as_ref).and_then(|stat| stat.last);
    let kept = stemedb_io::clock_discipline();
    judge(&Facts { now: Millis(site.env.clock.now_ms()), kept, newest })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![match &facts.kept {
        Err(error) => Finding::unseen(
            "whether the clock is kept right",
            format!("the kernel does not say: {error}"),
        ),
        Ok(ClockDiscipline { synchronised: true, error_max }) => {
            let evidence = format!("by the kernel, right to {} ms", error_max.as_millis());
            Finding::ok("the clock is kept right", evidence)
        }
        Ok(ClockDiscipline { synchronised: false, .. }) => {
            let what = "nothing keeps the clock right";
            let evidence = "the kernel was told of no time source, or of none for too long";
            Finding::warning(what, evidence).next("timedatectl")
        }
    }];
    if let Some((position, recorded)) = facts.newest {
        let behind = u64::try_from(recorded.0.saturating_sub(facts.now.0)).unwrap_or(0);
        let behind = Duration::from_millis(behind);
        let evidence = format!(
            "now {}, record {position} was recorded {}",
            time::format(facts.now),
            time::format(recorded)
        );
        findings.push(if behind > CLOCK_JUMP_MAX {
            let what = format!(
                "the clock went back: for {} s every new record is stamped with the time of that one",
                behind.as_secs()
            );
            Finding::critical(what, evidence).next("timedatectl")
        } else if !behind.is_zero() {
            let what = format!("the clock is {} ms behind the log", behind.as_millis());
            Finding::note(what, evidence)
        } else {
            Finding::ok("the clock is past everything that was recorded", evidence)
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn a_clock_behind_the_log_is_told_from_one_that_nobody_keeps() {
        let kept = |synchronised| {
            Ok(ClockDiscipline { synchronised, error_max: Duration::from_millis(3) })
        };
        let refused = || Err(io::ErrorKind::PermissionDenied.into());
        for (kept, newest, expected) in [
            (kept(true), None, vec![Fine]),
            (kept(false), None, vec![Warning]),
            (refused(), None, vec![Note]),
            (kept(true), Some(100_000), vec![Fine, Fine]),
            (kept(true), Some(100_001), vec![Fine, Note]),
            (kept(true), Some(160_000), vec![Fine, Note]),
            (kept(true), Some(160_001), vec![Fine, Critical]),
            (kept(true), Some(i64::MAX), vec![Fine, Critical]),
        ] {
            let newest = newest.map(|at| (Position(7), Millis(at)));
            let facts = Facts { now: Millis(100_000), kept, newest };
            assert_eq!(severities(&judge(&facts)), expected, "{newest:?}");
        }
    }
}
