//! Can the certificate be used, and how long yet?

use stemedb_model::Millis;
use stemedb_server::wire::Time;

use super::super::finding::Finding;
use super::super::site::Site;

const DAY_MS: i64 = 24 * 3_600_000;
/// When the alert fires.
const SOON_DAYS: i64 = 14;
/// Once the new files are in place.
const RENEW: &str = "systemctl reload stemedb-api";

/// When it ends, or why it cannot be used; `None` without TLS.
type Facts = Option<Result<Millis, String>>;

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let tls = site.config.server().tls;
    let facts = tls.map(|tls| {
        stemedb_server::certificate_ends(&site.env, &tls).map_err(|error| error.to_string())
    });
    judge(&facts, Millis(site.env.clock.now_ms()))
}

fn judge(facts: &Facts, now: Millis) -> Vec<Finding> {
    let end = match facts {
        None => {
            return vec![Finding::ok(
                "there is no certificate to end",
                "tls.certificate is not set",
            )];
        }
        Some(Err(problem)) => {
            let what = "the certificate cannot be used: a start would be refused";
            return vec![Finding::critical(what, problem.clone()).next("stemedb config print")];
        }
        Some(Ok(end)) => *end,
    };
    let (days, evidence) = ((end.0 - now.0).div_euclid(DAY_MS), format!("it ends {}", Time(end)));
    let finding = if end <= now {
        Finding::critical("the certificate has ended: clients refuse it", evidence).next(RENEW)
    } else if days < SOON_DAYS {
        Finding::warning("the certificate ends soon", evidence).next(RENEW)
    } else {
        Finding::ok("the certificate is good for a while", format!("{evidence}, in {days} days"))
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn how_long_yet() {
        let now = Millis(1_700_000_000_000);
        let after = |days: i64| Some(Result::Ok(Millis(now.0 + days * DAY_MS)));
        for (facts, expected) in [
            (None, Ok),
            (Some(Err("tls.key = /x: no such file".to_owned())), Critical),
            (after(0), Critical),
            (after(-1), Critical),
            (after(13), Warning),
            (after(14), Ok),
            (after(400), Ok),
        ] {
            assert_eq!(severities(&judge(&facts, now)), [expected], "{facts:?}");
        }
    }
}
