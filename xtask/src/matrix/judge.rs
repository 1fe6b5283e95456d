//! What must hold whatever happened, judged from outside.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::load::{Ledger, Told};
use super::node::Holdings;

/// The promise is 10 s; the rest is for a busy machine.
pub(crate) const ANSWER_MAX: Duration = Duration::from_millis(12_500);
/// Evidence of one kind that is worth printing.
const SHOWN: usize = 3;

/// What was there at an earlier moment.
pub(crate) struct Earlier {
    holdings: Holdings,
    /// Since the ledger was opened.
    at: Duration,
}

impl Earlier {
    pub(crate) fn new(holdings: Holdings, ledger: &Ledger) -> Self {
        Self { holdings, at: ledger.now() }
    }

    /// Whether a claim was there.
    pub(crate) fn has(&self, claim: u64) -> bool {
        self.holdings.contains_key(&claim)
    }
}

#[derive(Default)]
pub(crate) struct Findings {
    /// Claims that were acknowledged and are not there, with their positions.
    pub(crate) lost: Vec<(u64, u64)>,
    pub(crate) others: Vec<String>,
}

impl Findings {
    /// One line each.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = self.others.clone();
        if let (Some(first), count @ 1..) = (self.lost.first(), self.lost.len()) {
            words.push(format!(
                "{count} acknowledged claims are lost, the first: claim {} at position {}",
                first.0, first.1
            ));
        }
        words
    }
}

/// Holds everything that was answered against what a node shows that was started since.
pub(crate) fn check(ledger: &Ledger, there: &Holdings, earlier: Option<&Earlier>) -> Findings {
    compare(ledger, there, earlier, Told::promised)
}

/// The same with a node that still runs: what it called durable and not applied is not shown yet.
pub(crate) fn check_running(ledger: &Ledger, there: &Holdings) -> Findings {
    compare(ledger, there, None, |told| match told {
        Told::Durable { .. } => None,
        told => told.promised(),
    })
}

fn compare(
    ledger: &Ledger,
    there: &Holdings,
    earlier: Option<&Earlier>,
    promise: impl Fn(&Told) -> Option<u64>,
) -> Findings {
    let mut found = Findings::default();
    let mut gather = Gather::default();
    for (claim, attempts) in ledger.by_claim() {
        let now = there.get(&claim);
        let promised: HashSet<u64> =
            attempts.iter().filter_map(|attempt| promise(&attempt.told)).collect();
        if promised.len() > 1 {
            gather.add("promised at two positions", format!("claim {claim} at {promised:?}"));
        }
        let created = attempts.iter().filter(|one| matches!(one.told, Told::Created { .. }));
        if created.count() > 1 {
            gather.add("created twice", format!("claim {claim}"));
        }
        match (promised.iter().next(), now) {
            (Some(position), None) => found.lost.push((claim, *position)),
            (Some(position), Some(now)) if now.position != *position => {
                let words = format!("claim {claim} at {}, promised at {position}", now.position);
                gather.add("there, but elsewhere", words);
            }
            _ => {}
        }
        if let Some(last) = attempts.last()
            && let (Told::NotWritten { code }, Some(now)) = (&last.told, now)
            && promised.is_empty()
        {
            let words = format!("claim {claim} ({code}) at {}", now.position);
            gather.add("there after `not_written`", words);
        }
        if let (Some(earlier), Some(now)) = (earlier, now)
            && !earlier.holdings.contains_key(&claim)
            && !attempts.iter().any(|attempt| attempt.ended() >= earlier.at)
        {
            let told: Vec<_> = attempts.iter().map(|attempt| &attempt.told).collect();
            let words = format!("claim {claim} at {}, told {told:?}", now.position);
            gather.add("there after it had settled as absent", words);
        }
    }
    for (claim, position) in ledger.seen() {
        if there.get(&claim).is_none_or(|now| now.position != position) {
            gather.add("read once and gone", format!("claim {claim} at {position}"));
        }
    }
    for (claim, now) in there.iter().filter(|(_, now)| !now.intact) {
        gather.add("with another value", format!("claim {claim} at {}", now.position));
    }
    for (claim, then) in earlier.iter().flat_map(|earlier| &earlier.holdings) {
        match there.get(claim) {
            Some(now) if now == then => {}
            Some(now) => gather.add("changed", format!("claim {claim}: {then:?}, now {now:?}")),
            None => gather.add("there earlier and gone", format!("claim {claim}: {then:?}")),
        }
    }
    found.others = gather.words();
    found.lost.sort_by_key(|(_, position)| *position);
    found
}

/// Whether what is lost is the newest part of the log and nothing else.
pub(crate) fn only_the_tail(findings: &Findings, there: &Holdings) -> bool {
    let newest = there.values().map(|there| there.position).max().unwrap_or(0);
    findings.others.iter().all(|words| words.starts_with("read once and gone"))
        && findings.lost.iter().all(|(_, position)| *position > newest)
}

/// Answers that came too late.
pub(crate) fn late_answers(ledger: &Ledger) -> Vec<String> {
    let mut gather = Gather::default();
    for attempt in ledger.attempts().iter().filter(|attempt| attempt.took > ANSWER_MAX) {
        let words = format!("claim {} after {:.1} s", attempt.claim, attempt.took.as_secs_f64());
        gather.add("answered too late", words);
    }
    gather.words()
}

/// The same kind of trouble, counted.
#[derive(Default)]
struct Gather(HashMap<&'static str, Vec<String>>);

impl Gather {
    fn add(&mut self, kind: &'static str, words: String) {
        self.0.entry(kind).or_default().push(words);
    }

    fn words(self) -> Vec<String> {
        let mut all: Vec<String> = self
            .0
            .into_iter()
            .map(|(kind, mut words)| {
                let count = words.len();
                words.truncate(SHOWN);
                format!("{kind}: {count}, {}", words.join("; "))
            })
            .collect();
        all.sort();
        all
    }
}

/// What a start that is refused must tell: what, where, and what to do.
pub(crate) fn explains_itself(words: &str, damage: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !words.contains("segment.") && !words.contains("/wal") && !words.contains("/index") {
        missing.push("names no file");
    }
    if damage && !words.contains("byte") && !words.contains("position") {
        missing.push("names neither byte nor positions");
    }
    if !words.contains("stemedb ") {
        missing.push("names no command");
    }
    if words.contains("panicked") {
        missing.push("panicked");
    }
    if missing.is_empty() {
        return Vec::new();
    }
    let last = words.lines().rev().take(4).collect::<Vec<_>>();
    let last = last.into_iter().rev().collect::<Vec<_>>().join(" / ");
    vec![format!("a refused start {}: {last}", missing.join(", "))]
}

/// A command of ours that a text tells people to type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// Its first words; the last ones may be arguments.
    pub(crate) words: Vec<String>,
    pub(crate) flags: Vec<String>,
}

pub(crate) fn commands_named(text: &str) -> Vec<Named> {
    let mut commands: Vec<Named> = text
        .match_indices("stemedb ")
        .filter_map(|(at, name)| text.get(at + name.len()..)?.split([';', '\n', '`', ',']).next())
        .map(|rest| {
            let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let words = rest.split_whitespace().take_while(|word| !word.starts_with("--"));
            Named {
                words: words.take_while(plain).take(3).map(str::to_owned).collect(),
                flags: rest
                    .split_whitespace()
                    .filter(|word| word.starts_with("--"))
                    .map(str::to_owned)
                    .collect(),
            }
        })
        .filter(|command| !command.words.is_empty())
        .collect();
    commands.sort();
    commands.dedup();
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::node::There;

    fn there(claims: &[(u64, u64)]) -> Holdings {
        let one = |&(claim, position): &(u64, u64)| {
            (claim, There { id: claim.to_string(), position, intact: true })
        };
        claims.iter().map(one).collect()
    }

    fn ledger(told: &[(u64, Told)]) -> Ledger {
        let ledger = Ledger::new();
        for (claim, told) in told {
            ledger.note(*claim, told.clone());
        }
        ledger
    }

    fn created(position: u64) -> Told {
        Told::Created { position }
    }

    fn not_written() -> Told {
        Told::NotWritten { code: "wal_unavailable".into() }
    }

    fn indeterminate() -> Told {
        Told::Indeterminate { code: "wal_unavailable".into() }
    }

    #[test]
    fn every_forbidden_thing_is_found() {
        for (told, now, expected) in [
            (vec![(1, created(5))], vec![(1, 5)], None),
            (vec![(1, created(5))], vec![], Some("1 acknowledged claims are lost")),
            (vec![(1, created(5))], vec![(1, 6)], Some("there, but elsewhere")),
            (vec![(1, not_written())], vec![], None),
            (vec![(1, not_written())], vec![(1, 5)], Some("there after `not_written`")),
            (vec![(1, not_written()), (1, created(5))], vec![(1, 5)], None),
            (vec![(1, created(5)), (1, created(5))], vec![(1, 5)], Some("created twice")),
            (vec![(1, indeterminate())], vec![(1, 5)], None),
            (vec![(1, indeterminate())], vec![], None),
            (vec![(1, indeterminate()), (1, not_written())], vec![(1, 5)], Some("there after")),
        ] {
            let words = check(&ledger(&told), &there(&now), None).words();
            match expected {
                None => assert!(words.is_empty(), "{told:?} {now:?}: {words:?}"),
                Some(expected) => {
                    assert!(words.iter().any(|one| one.starts_with(expected)), "{words:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_durable_and_not_applied_shows_after_the_next_start() {
        let ledger = ledger(&[(1, Told::Durable { position: 5 })]);
        assert!(check_running(&ledger, &there(&[])).words().is_empty());
        assert_eq!(check(&ledger, &there(&[]), None).lost, [(1, 5)]);
    }

    #[test]
    fn what_has_settled_does_not_change() {
        let ledger = ledger(&[(1, indeterminate()), (2, indeterminate())]);
        let earlier = Earlier::new(there(&[(1, 5)]), &ledger);
        let words = |now: &[(u64, u64)]| check(&ledger, &there(now), Some(&earlier)).words();
        assert!(words(&[(1, 5)]).is_empty());
        assert!(words(&[]).iter().any(|one| one.starts_with("there earlier and gone")));
        assert!(words(&[(1, 6)]).iter().any(|one| one.starts_with("changed")));
        let appeared = words(&[(1, 5), (2, 6)]);
        assert!(appeared.iter().any(|one| one.starts_with("there after it had settled as absent")));
    }

    #[test]
    fn a_refusal_names_file_place_and_command() {
        let good = "segment.001.wal, byte 8192: corrupt (positions 3 to 9); stemedb wal verify /d";
        assert!(explains_itself(good, true).is_empty());
        for bad in ["error: input/output error", "segment.001.wal is bad; stemedb wal verify x"] {
            assert_eq!(explains_itself(bad, true).len(), 1, "{bad}");
        }
        let named = commands_named("x; stemedb serve --void-tail, or\nstemedb wal verify /d");
        let named: Vec<_> =
            named.iter().map(|one| (one.words.join(" "), one.flags.len())).collect();
        assert_eq!(named, [("serve".to_owned(), 1), ("wal verify".to_owned(), 0)]);
    }
}
