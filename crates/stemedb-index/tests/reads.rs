//! Order, bounds and pages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use stemedb_index::*;
use stemedb_model::*;
use support::*;

fn claims(count: usize) -> Vec<Entry> {
    records((0..count).map(|i| (i, Body::Assertion(assertion(0, 0, i as f64)))))
}

fn the_key() -> Key {
    Key { space: space(0), subject: subject(0), predicate: predicate(0) }
}

#[test]
fn positions_and_times_only_go_up() {
    let folder = Folder::new();
    let index = folder.open();
    let entries = claims(6);
    index.apply(&[]).unwrap();
    index.apply(&entries[..3]).unwrap();
    let mut early = entries[3].clone();
    early.recorded_at = Millis(0);
    for (group, found) in [
        (entries[4..].to_vec(), 5),
        (entries[2..4].to_vec(), 3),
        (vec![entries[3].clone(), entries[3].clone()], 4),
        (vec![entries[3].clone(), entries[5].clone()], 6),
        (vec![early], 4),
    ] {
        let error = index.apply(&group).expect_err("out of order");
        assert!(
            matches!(error, IndexError::OutOfOrder { found: Position(at), .. } if at == found),
            "{error}"
        );
        assert_eq!(index.applied(), Position(3), "nothing of the group was applied");
    }
    index.apply(&entries[3..]).unwrap();
    assert_eq!(index.applied(), Position(7));
    assert_eq!(index.failure(), None, "the caller's mistakes do not stop the index");
}

#[test]
fn a_snapshot_does_not_move() {
    let folder = Folder::new();
    let index = folder.open();
    let entries = claims(6);
    index.apply(&entries[..4]).unwrap();
    let snapshot = index.snapshot();
    index.apply(&entries[4..]).unwrap();
    assert_eq!(snapshot.position(), Position(4));
    assert_eq!(snapshot.candidates(&the_key(), Position::MAX, 10).unwrap().claims.len(), 3);
    assert_eq!(snapshot.entry(Position(5)).unwrap(), None);
    let newest = entries[5].signed.id();
    for _ in 0..2 {
        assert_eq!(index.snapshot().id(entries[5].position).unwrap(), Some(newest));
        assert_eq!(snapshot.id(entries[5].position).unwrap(), None, "known to a newer one only");
    }
    assert_eq!(snapshot.position_of(&entries[5].signed.id()).unwrap(), None);
    assert_eq!(snapshot.position_at(Millis(i64::MAX)).unwrap(), Position(4));
    assert_eq!(snapshot.counters().of(Kind::Assertion), 3);
    assert_eq!(index.snapshot().candidates(&the_key(), Position::MAX, 10).unwrap().claims.len(), 6);
}

#[test]
fn times_find_the_last_position_at_or_before() {
    let folder = Folder::new();
    let index = folder.open();
    let mut entries = claims(5);
    for (entry, at) in entries.iter_mut().zip([-5, -5, 10, 10, 10, 12]) {
        entry.recorded_at = Millis(at);
    }
    index.apply(&entries[..4]).unwrap();
    index.apply(&entries[4..]).unwrap();
    let snapshot = index.snapshot();
    for (time, position) in
        [(i64::MIN, 0), (-6, 0), (-5, 2), (9, 2), (10, 5), (11, 5), (12, 6), (i64::MAX, 6)]
    {
        assert_eq!(snapshot.position_at(Millis(time)).unwrap(), Position(position), "{time}");
    }
    assert_eq!(snapshot.recorded_at(), Millis(12));
}

#[test]
fn past_the_bound_there_is_a_count_and_no_prefix() {
    let folder = Folder::new();
    let index = folder.open();
    let mut history = History { entries: claims(8) };
    let first = history.entries[1].signed.id();
    for agent in 0..3 {
        history.push(agent, space(0), Body::Cosign(Cosign { assertion: first }), 0);
    }
    let mut resting = assertion(1, 1, 0.0);
    resting.derived_from = vec![first];
    history.push(0, space(0), Body::Assertion(resting), 0);
    index.apply(&history.entries).unwrap();
    let snapshot = index.snapshot();
    let found = |key: &Key, bound| match snapshot.candidates(key, Position::MAX, bound) {
        Ok(all) => Ok((all.claims.len() + all.related.len(), all.facts.len())),
        Err(IndexError::TooLarge { claims, facts, bound: b }) if b == bound => Err((claims, facts)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(found(&the_key(), 8), Ok((8, 3)));
    assert_eq!(found(&the_key(), 7), Err((8, 3)));
    assert_eq!(found(&the_key(), 2), Err((8, 3)), "the count goes on past the bound");
    let key = Key { subject: subject(1), predicate: predicate(1), ..the_key() };
    assert_eq!(found(&key, 3), Ok((2, 3)), "the premise and its facts");
    assert_eq!(found(&key, 2), Err((2, 3)), "too many facts");
    assert_eq!(found(&key, 1), Err((2, 3)), "too many claims");
    let nobody = Key { subject: subject(3), ..the_key() };
    assert_eq!(found(&nobody, 0), Ok((0, 0)));
    assert_eq!(index.failure(), None);
}

/// A chain of premises as long as the log is walked, not recursed into.
#[test]
fn deep_premises_do_not_exhaust_the_stack() {
    let folder = Folder::new();
    let index = folder.open();
    let mut history = History { entries: claims(1) };
    let mut below = history.entries[1].signed.id();
    const DEPTH: usize = 3_000;
    for i in 0..DEPTH {
        let mut next = assertion(1 + i % 2, 1, 0.0);
        next.derived_from = vec![below];
        below = history.push(i, space(0), Body::Assertion(next), 0);
    }
    index.apply(&history.entries).unwrap();
    let snapshot = index.snapshot();
    let key = Key { subject: subject(1), predicate: predicate(1), ..the_key() };
    let all = snapshot.candidates(&key, Position::MAX, 10_000).unwrap();
    assert_eq!((all.claims.len(), all.related.len()), (DEPTH / 2, DEPTH / 2));
    assert_eq!(snapshot.tier(&below), Some(SourceClass::Anecdotal.tier()));
}

/// What admission is told is what resolution says: premises cap, and a cosigner stands for a
/// revoked author.
#[test]
fn the_tier_of_a_claim_is_that_of_resolution() {
    let register = |agent: usize, ceiling| {
        let key = key(agent).agent_id();
        let act = AgentAct::Register { name: None, ceiling, operator: None, roles: Vec::new() };
        Body::Agent(Agent { key, act })
    };
    let declared = |class| {
        let mut claim = assertion(0, 0, 1.0);
        claim.source = Some(Provenance { class: Some(class), ..Provenance::default() });
        claim.source.as_mut().unwrap().evidence = Some(Hash([1; 32]));
        claim
    };
    let mut history = History { entries: records([]) };
    let mut push = |agent, body| history.push(agent, space(0), body, 0);
    push(0, register(1, SourceClass::Observational));
    push(0, register(2, SourceClass::Expert));
    let source = Source {
        keys: vec![SourceKey::Evidence(Hash([1; 32]))],
        class: SourceClass::Clinical,
        title: None,
    };
    push(0, Body::Source(source));
    let own = push(1, Body::Assertion(declared(SourceClass::Clinical)));
    let root = push(0, Body::Assertion(declared(SourceClass::Regulatory)));
    let plain = push(3, Body::Assertion(assertion(1, 1, 1.0)));
    let mut resting = declared(SourceClass::Clinical);
    resting.derived_from = [own, plain].into();
    resting.derived_from.sort();
    let resting = push(1, Body::Assertion(resting));
    push(2, Body::Cosign(Cosign { assertion: own }));
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&history.entries).unwrap();
    let snapshot = index.snapshot();
    for (id, tier) in [(own, 2), (root, 1), (plain, 5), (resting, 5)] {
        assert_eq!(snapshot.tier(&id), Some(Tier(tier)));
    }
    assert_eq!(snapshot.tier(&history.entries[1].signed.id()), None, "no assertion");

    let act = AgentAct::Revoke { from_position: Position(2) };
    let revoked = key(1).agent_id();
    history.push(0, space(0), Body::Agent(Agent { key: revoked, act }), 0);
    index.apply(&history.entries[index.applied().0 as usize..]).unwrap();
    assert_eq!(index.snapshot().tier(&own), Some(Tier(3)), "that of its cosigner");
    assert_eq!(snapshot.tier(&own), Some(Tier(2)), "as it was");
}

/// A second copy of a record, which a log never holds, changes no answer.
#[test]
fn the_first_copy_of_a_record_stands() {
    let folder = Folder::new();
    let index = folder.open();
    let mut entries = claims(2);
    let mut copy = entries[1].clone();
    copy.position = Position(4);
    copy.recorded_at = entries[2].recorded_at;
    entries.push(copy);
    index.apply(&entries).unwrap();
    let snapshot = index.snapshot();
    assert_eq!(snapshot.position_of(&entries[1].signed.id()).unwrap(), Some(Position(2)));
    assert_eq!(snapshot.candidates(&the_key(), Position::MAX, 10).unwrap().claims.len(), 2);
    assert!(snapshot.entry(Position(4)).unwrap().is_some());
    let report = check(&snapshot).unwrap();
    assert!(report.is_whole(), "{:?}", report.problems);
}

/// All pages of a list, asked for one after the other.
fn pages<T: Clone + Ord + std::fmt::Debug>(mut page: impl FnMut(Option<&T>) -> Page<T>) -> Vec<T> {
    let mut all = Vec::new();
    let mut after: Option<T> = None;
    loop {
        let Page { items, next } = page(after.as_ref());
        all.extend(items);
        assert!(all.is_sorted_by(|a, b| a < b), "ascending without repeats: {all:?}");
        match next {
            Some(next) => {
                assert!(after.as_ref() < Some(&next), "pages go on");
                after = Some(next);
            }
            None => return all,
        }
    }
}

/// A walk that finds little hands back what it has, and where to go on.
#[test]
fn a_page_costs_no_more_than_its_bound() {
    let folder = Folder::new();
    let index = folder.open();
    let mut history = History { entries: claims(10_100) };
    history.push(1, space(1), Body::Assertion(assertion(0, 0, 0.0)), 0);
    let last = history.entries.last().unwrap().position;
    for group in history.entries.chunks(500) {
        index.apply(group).unwrap();
    }
    let snapshot = index.snapshot();
    let filter = Filter::new(space(1));
    let first = snapshot.assertions(&filter, Position::MAX, None, 5).unwrap();
    assert_eq!(first, Page { items: vec![], next: Some(Position(10_000)) });
    let second = snapshot.assertions(&filter, Position::MAX, first.next, 5).unwrap();
    assert_eq!(second, Page { items: vec![last], next: None });
}

fn filter() -> impl Strategy<Value = Filter> {
    use proptest::option::weighted;
    (
        (0usize..8, weighted(0.3, 0usize..4), weighted(0.3, 0usize..3)),
        weighted(0.3, prop::sample::select(vec!["d", "drugs", "drugs/", "drugs/a", "x", ""])),
        (weighted(0.3, 0..AGENTS), weighted(0.3, 0usize..5), weighted(0.2, 0usize..6)),
        (weighted(0.2, 0u64..60), weighted(0.2, any::<bool>())),
    )
        .prop_map(|((in_space, s, p), prefix, (agent, source, class), (epoch, approved))| {
            Filter {
                space: space(usize::from(in_space == 0)),
                subject: s.map(subject),
                subject_prefix: prefix.map(str::to_owned),
                predicate: p.map(predicate),
                agent: agent.map(|agent| key(agent).agent_id()),
                source: source.map(|source| match source {
                    0 | 1 => uri(source),
                    2 => SourceKey::Evidence(Hash([2; 32])),
                    3 => SourceKey::Agent(key(1).agent_id()),
                    _ => SourceKey::Uri("https://nobody.example".into()),
                }),
                class: class.map(|class| SourceClass::ALL[class]),
                epoch: epoch.map(Position),
                declared_lifecycle: approved.map(|approved| {
                    if approved { LifecycleState::Approved } else { LifecycleState::Proposed }
                }),
            }
        })
}

fn fits(filter: &Filter, entries: &[Entry], entry: &Entry) -> bool {
    let record = entry.signed.record();
    let Body::Assertion(assertion) = &record.body else { return false };
    let epoch = assertion
        .epoch
        .map(|id| entries.iter().find(|entry| entry.signed.id() == id).unwrap().position);
    record.space == filter.space
        && filter.subject.as_ref().is_none_or(|subject| *subject == assertion.subject)
        && filter
            .subject_prefix
            .as_ref()
            .is_none_or(|prefix| assertion.subject.as_str().starts_with(prefix.as_str()))
        && filter.predicate.as_ref().is_none_or(|predicate| *predicate == assertion.predicate)
        && filter.agent.is_none_or(|agent| agent == record.agent)
        && filter.source.as_ref().is_none_or(|s| *s == assertion.source_key(record.agent))
        && (filter.class.is_none() || filter.class == assertion.declared_class())
        && (filter.epoch.is_none() || filter.epoch == epoch)
        && filter.declared_lifecycle.is_none_or(|state| state == assertion.lifecycle)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn pages_are_complete_and_without_repeats(
        ops in ops(1..150),
        filters in prop::collection::vec((filter(), 0u64..180, 1usize..7), 40),
    ) {
        let entries = history(&ops);
        let folder = Folder::new();
        let index = folder.open();
        index.apply(&entries).unwrap();
        let snapshot = index.snapshot();
        for (filter, as_of, limit) in &filters {
            let as_of = Position(*as_of);
            let listed = pages(|after: Option<&Position>| {
                let page = snapshot.assertions(filter, as_of, after.copied(), *limit).unwrap();
                assert!(page.items.len() <= *limit);
                page
            });
            let expected: Vec<Position> = entries
                .iter()
                .filter(|entry| entry.position <= as_of && fits(filter, &entries, entry))
                .map(|entry| entry.position)
                .collect();
            prop_assert_eq!(listed, expected, "{:?} as of {}", filter, as_of);

            let keys = KeyFilter {
                space: Some(filter.space.clone()),
                subject_prefix: filter.subject_prefix.clone(),
                subject: filter.subject.clone(),
                predicate: filter.predicate.clone(),
            };
            for keys in [KeyFilter { space: None, ..keys.clone() }, keys]
            {
                let listed =
                    pages(|after: Option<&Key>| snapshot.keys(&keys, as_of, after, *limit).unwrap());
                let expected: BTreeSet<Key> = entries
                    .iter()
                    .filter(|entry| entry.position <= as_of)
                    .filter_map(|entry| match &entry.signed.record().body {
                        Body::Assertion(assertion) => Some(Key {
                            space: entry.signed.record().space.clone(),
                            subject: assertion.subject.clone(),
                            predicate: assertion.predicate.clone(),
                        }),
                        _ => None,
                    })
                    .filter(|key| {
                        let prefix = keys.subject_prefix.clone().unwrap_or_default();
                        keys.space.as_ref().is_none_or(|space| *space == key.space)
                            && keys.subject.as_ref().is_none_or(|s| *s == key.subject)
                            && key.subject.as_str().starts_with(&prefix)
                            && keys.predicate.as_ref().is_none_or(|p| *p == key.predicate)
                    })
                    .collect();
                prop_assert_eq!(listed, Vec::from_iter(expected), "{:?} as of {}", keys, as_of);
            }
        }
        for entry in &entries {
            let children = pages(|after: Option<&Position>| {
                let (of, at) = (Referrer::Dependants, entry.position);
                snapshot.referrers(of, at, Position::MAX, after.copied(), 1).unwrap()
            });
            let expected: Vec<Position> = entries
                .iter()
                .filter(|other| match &other.signed.record().body {
                    Body::Assertion(claim) => claim.derived_from.contains(&entry.signed.id()),
                    _ => false,
                })
                .map(|other| other.position)
                .collect();
            prop_assert_eq!(children, expected);
        }
    }
}
