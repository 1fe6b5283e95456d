//! Are there backups, were they verified, and does their place answer?

use super::super::finding::Finding;
use super::super::site::Site;
use super::places::{Place, ask};
use crate::operations::{BackupNote, Notes};
use crate::time;
use stemedb_model::Millis;

const HOUR_MS: i64 = 3_600_000;
/// As the alert `BackupTooOld`.
const OLD_HOURS: i64 = 26;
/// As the alert `BackupNotVerified`.
const UNVERIFIED_HOURS: i64 = 8 * 24;

struct Facts<'a> {
    /// `backup.url`, and what is there.
    place: Option<(&'a str, Place)>,
    /// What was noted, or why that cannot be read.
    notes: Result<Notes, String>,
    now: Millis,
    /// ` --data-dir DIR`
    here: &'a str,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let url = site.config.backup.url.as_deref();
    let notes = Notes::load(&site.config.node_dir());
    judge(&Facts {
        place: url.map(|url| (url, ask(site, url))),
        notes: notes.map_err(|failure| failure.report().trim().replace('\n', "; ")),
        now: Millis(site.env.clock.now_ms()),
        here: &site.here,
    })
}

fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let create = format!("stemedb backup create{}", facts.here);
    let verify = format!("stemedb backup verify{}", facts.here);
    let notes = match &facts.notes {
        Ok(notes) => notes,
        Err(why) => return vec![Finding::unseen("when the last backup was made", why)],
    };
    if facts.place.is_none() && notes.backup.is_none() {
        let what = "nobody makes backups: keys, quotas and audit are lost with this machine";
        return vec![Finding::note(what, "backup.url is not set, and none was noted")];
    }
    let mut findings = Vec::new();
    if let Some((url, place)) = &facts.place {
        findings.push(place.judge("the backups", url, &create));
    }
    let older = |note: &BackupNote, hours: i64| facts.now.0 - note.at_ms > hours * HOUR_MS;
    let told = |note: &BackupNote| {
        let BackupNote { id, position, at_ms } = note;
        format!("{id}, up to position {position}, {}", time::format(Millis(*at_ms)))
    };
    findings.push(match &notes.backup {
        None => Finding::warning("no backup was made yet", "none is noted").next(create),
        Some(note) if older(note, OLD_HOURS) => {
            let what = format!("the last backup is older than {OLD_HOURS} hours");
            Finding::warning(what, told(note)).next(create)
        }
        Some(note) => Finding::ok("there is a backup of the last day", told(note)),
    });
    findings.push(match &notes.verified {
        None => Finding::warning("no backup was verified yet", "none is noted").next(verify),
        Some(note) if older(note, UNVERIFIED_HOURS) => {
            let what = "no backup was verified for eight days";
            Finding::warning(what, told(note)).next(verify)
        }
        Some(note) => Finding::ok("the newest backup was verified of late", told(note)),
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Note, Ok as Fine, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    /// Hours since the last backup and verification.
    fn found(place: Option<Place>, backup: Option<i64>, verified: Option<i64>) -> Vec<Finding> {
        let note =
            |hours: i64| BackupNote { id: "x".into(), position: 7, at_ms: NOW - hours * HOUR_MS };
        let mut notes = Notes::default();
        (notes.backup, notes.verified) = (backup.map(note), verified.map(note));
        judge(&Facts {
            place: place.map(|place| ("/mnt/backups", place)),
            notes: Ok(notes),
            now: Millis(NOW),
            here: " --data-dir /d",
        })
    }

    #[test]
    fn places_and_ages() {
        for (place, backup, verified, expected) in [
            (None, None, None, vec![Note]),
            (None, Some(1), Some(1), vec![Fine, Fine]),
            (Some(Place::Holds), Some(26), Some(192), vec![Fine, Fine, Fine]),
            (Some(Place::Holds), Some(27), Some(192), vec![Fine, Warning, Fine]),
            (Some(Place::Holds), Some(26), Some(193), vec![Fine, Fine, Warning]),
            (Some(Place::Empty), None, None, vec![Warning, Warning, Warning]),
            (Some(Place::Silent("refused".into())), Some(1), Some(1), vec![Warning, Fine, Fine]),
        ] {
            let found = found(place, backup, verified);
            assert_eq!(severities(&found), expected, "{found:?}");
        }
        let facts =
            Facts { place: None, notes: Err("x".into()), now: Millis(NOW), here: " --data-dir /d" };
        assert_eq!(severities(&judge(&facts)), [Note]);
    }
}
