//! Places far away: do they answer, and do they hold something of this database?

use std::time::Duration;

use super::super::finding::Finding;
use super::super::machine::within;
use super::super::site::Site;
use crate::archive;

/// A store that is well answers in less.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a place said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It holds something of this database.
    Holds,
    /// It answers, and holds nothing of it.
    Empty,
    /// It does not answer, and why.
    Silent(String),
}

/// Asks the store at an address. Makes nothing there.
pub(super) fn ask(site: &Site, url: &str) -> Place {
    let ours = site.marker.as_ref().ok().copied().flatten();
    let address = url.to_owned();
    let asked = within(PATIENCE, move || {
        let store = archive::open_to_look(&address)?;
        stemedb_remote::logs(&*store).map_err(archive::failure)
    });
    match asked {
        None => Place::Silent(format!("nothing came back in {} s", PATIENCE.as_secs())),
        Some(Err(failure)) => {
            let report = failure.report();
            let lines = report.lines().filter(|line| !line.starts_with("hint: ")).map(str::trim);
            Place::Silent(lines.collect::<Vec<_>>().join(", "))
        }
        Some(Ok(logs)) if ours.map_or(!logs.is_empty(), |ours| logs.contains(&ours)) => {
            Place::Holds
        }
        Some(Ok(_)) => Place::Empty,
    }
}

impl Place {
    /// What that means; `fill` puts something there.
    pub(super) fn judge(&self, name: &str, url: &str, fill: &str) -> Finding {
        match self {
            Self::Holds => Finding::ok(
                format!("the place of {name} answers"),
                format!("{url} holds something of this database"),
            ),
            Self::Empty => {
                let evidence = format!(
                    "{url}: is it mounted, and is the address right? Nothing of this database"
                );
                Finding::warning(format!("the place of {name} holds nothing"), evidence).next(fill)
            }
            Self::Silent(why) => {
                let what = format!("the place of {name} does not answer");
                Finding::warning(what, format!("{url}: {why}")).next(fill)
            }
        }
    }
}
