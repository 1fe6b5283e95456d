//! Could somebody who reads the archive or the backups read what is in them?

use stemedb_remote::KeyId;

use super::super::finding::Finding;
use super::super::site::Site;

/// Makes a key, whose file then goes into `encryption.keys`.
const MAKE: &str = "stemedb key generate --encryption /etc/stemedb/encryption.key";

/// Where something is stored, and what it is encrypted with.
struct Facts {
    archive: bool,
    backups: bool,
    /// The first key and how many there are, or why they cannot be used.
    keys: Result<Option<(KeyId, usize)>, String>,
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let config = &site.config;
    let keys = crate::encryption::keys(config).map_err(|failure| failure.report());
    vec![judge(&Facts {
        archive: config.archive.url.is_some(),
        backups: config.backup.url.is_some(),
        keys: keys.map(|keys| keys.writes_with().map(|id| (id, keys.ids().count()))),
    })]
}

fn judge(facts: &Facts) -> Finding {
    let unset = "encryption.keys is not set";
    match &facts.keys {
        Err(problem) => {
            let what = "an encryption key cannot be used: nothing is archived or backed up";
            Finding::critical(what, problem.trim().replace('\n', "; ")).next("stemedb config print")
        }
        Ok(Some((id, count))) => Finding::ok(
            "archive and backups are encrypted",
            format!("with key {id}; {} to read with", super::counted(*count as u64, "key")),
        ),
        Ok(None) if facts.backups => Finding::note(
            "backups are not encrypted: whoever can read them has the keys of the node",
            unset,
        )
        .next(MAKE),
        Ok(None) if facts.archive => {
            Finding::note("the archive is not encrypted", unset).next(MAKE)
        }
        Ok(None) => Finding::ok("nothing is stored elsewhere that could be encrypted", unset),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity::{Critical, Note, Ok as Fine};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn what_is_in_the_clear_is_told() {
        let key = || Ok(Some((KeyId([7; 16]), 2)));
        for (archive, backups, keys, expected) in [
            (false, false, Ok(None), Fine),
            (true, false, Ok(None), Note),
            (true, true, Ok(None), Note),
            (true, true, key(), Fine),
            (false, false, Err("/x may be read by others".to_owned()), Critical),
        ] {
            let finding = judge(&Facts { archive, backups, keys });
            assert_eq!(severities(std::slice::from_ref(&finding)), [expected], "{finding:?}");
        }
    }
}
