//! The index is a fold: how the log was cut into groups, when it was reopened and how much came
//! later must not show in any answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use stemedb_index::*;
use stemedb_lens::{Candidates, Claim, Fact, FactKind};
use stemedb_model::*;
use support::*;

fn apply_in_groups(index: &Index, entries: &[Entry], sizes: &[usize]) {
    let mut sizes = sizes.iter().cycle();
    let mut rest = entries;
    while !rest.is_empty() {
        let (group, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        index.apply(group).unwrap();
        rest = after;
    }
}

/// All of it but the registry, whose answers have tests of their own.
fn parts(candidates: Candidates) -> impl PartialEq + std::fmt::Debug + use<> {
    let Candidates { key, as_of, claims, opposing, related, facts, epochs, registry: _ } =
        candidates;
    (key, as_of, claims, opposing, related, facts, epochs)
}

/// Every public read except `candidates`.
fn reads(snapshot: &Snapshot, entries: &[Entry]) -> impl PartialEq + std::fmt::Debug + use<> {
    let position = snapshot.position();
    let mut by_record = Vec::new();
    for entry in entries {
        let at = entry.position;
        let id = entry.signed.id();
        by_record.push((
            snapshot.entry(at).unwrap(),
            snapshot.id(at).unwrap(),
            snapshot.position_of(&id).unwrap(),
            snapshot.claim(at).unwrap(),
            snapshot.facts(at, position).unwrap(),
            snapshot.position_at(entry.recorded_at).unwrap(),
            entry.idempotency.map(|hash| snapshot.idempotency(&hash).unwrap()),
            [Referrer::Children, Referrer::Dependants, Referrer::Supersessions, Referrer::Epoch]
                .map(|of| snapshot.referrers(of, at, position, None, 1000).unwrap()),
            (snapshot.head(&id), snapshot.tier(&id), snapshot.superseded_by(&id)),
        ));
    }
    let keys = snapshot.keys(&KeyFilter::default(), position, None, 1000).unwrap();
    let registry: Vec<_> = all_keys()
        .into_iter()
        .map(|key| {
            let registry = snapshot.registry();
            (
                registry.entity(&key.space, &key.subject, position),
                registry.predicate(&key.space, &key.predicate, position),
                registry.source(&key.space, &uri(0), position),
                registry.source_retracted(&key.space, &uri(1), position, None),
                registry.agent(&key.space, &support::key(1).agent_id(), position),
            )
        })
        .collect();
    let header = (position, snapshot.recorded_at(), *snapshot.counters());
    (header, by_record, keys, registry)
}

/// What `candidates` must give, from the entries alone.
fn expected(entries: &[Entry], registry: &Registry, key: &Key, as_of: Position) -> Candidates {
    let entries = &entries[..as_of.0 as usize];
    let position: BTreeMap<RecordId, Position> =
        entries.iter().map(|entry| (entry.signed.id(), entry.position)).collect();
    let claims: BTreeMap<Position, (Space, Claim)> = entries
        .iter()
        .filter_map(|entry| {
            let record = entry.signed.record();
            let Body::Assertion(assertion) = &record.body else { return None };
            let claim = Claim {
                position: entry.position,
                subject: assertion.subject.clone(),
                predicate: assertion.predicate.clone(),
                agent: record.agent,
                principal: entry.principal.clone(),
                at: record.at,
                recorded_at: entry.recorded_at,
                source: assertion.source_key(record.agent),
                class: assertion.declared_class(),
                object: assertion.object.clone(),
                confidence: assertion.confidence,
                valid_from: assertion.valid_from,
                valid_to: assertion.valid_to,
                epoch: assertion.epoch.map(|id| position[&id]),
                lifecycle: assertion.lifecycle,
                parent: assertion.parent.map(|id| position[&id]),
                premises: assertion.derived_from.iter().map(|id| position[id]).collect(),
            };
            Some((entry.position, (record.space.clone(), claim)))
        })
        .collect();
    let facts: Vec<Fact> = entries
        .iter()
        .filter_map(|entry| {
            let record = entry.signed.record();
            let (target, kind) = match &record.body {
                Body::Cosign(it) => (it.assertion, FactKind::Cosign),
                Body::Vote(it) => (it.assertion, FactKind::Vote { weight: it.weight }),
                Body::Lifecycle(it) => (it.assertion, FactKind::Lifecycle { state: it.state }),
                Body::Supersede(it) => (it.old, FactKind::Supersede { new: position[&it.new] }),
                Body::Retract(Retract { target: RetractTarget::Record(id), .. }) => {
                    (*id, FactKind::Retract)
                }
                _ => return None,
            };
            Some(Fact {
                position: entry.position,
                target: position[&target],
                agent: record.agent,
                principal: entry.principal.clone(),
                at: record.at,
                recorded_at: entry.recorded_at,
                kind,
            })
        })
        .collect();

    let subjects = registry.entity(&key.space, &key.subject, as_of);
    let of = |predicate: &PredicateName| -> Vec<Claim> {
        let mine = |(space, claim): &&(Space, Claim)| {
            *space == key.space
                && subjects.contains(&claim.subject)
                && claim.predicate == *predicate
        };
        claims.values().filter(mine).map(|(_, claim)| claim.clone()).collect()
    };
    let opposites = registry
        .predicate(&key.space, &key.predicate, as_of)
        .filter(|predicate| predicate.cardinality == Cardinality::Many)
        .map(|predicate| predicate.opposites.clone())
        .unwrap_or_default();
    let own = of(&key.predicate);
    let mut opposing: Vec<Claim> = opposites.iter().flat_map(of).collect();
    opposing.sort_by_key(|claim| claim.position);

    // Fixed point: everything reachable through premises, new ends, and facts.
    let direct: BTreeSet<Position> =
        own.iter().chain(&opposing).map(|claim| claim.position).collect();
    let mut reached = direct.clone();
    loop {
        let before = reached.len();
        for at in reached.clone() {
            if let Some((_, claim)) = claims.get(&at) {
                reached.extend(claim.premises.iter());
            }
        }
        for fact in &facts {
            if reached.contains(&fact.target) {
                reached.insert(fact.position);
                if let FactKind::Supersede { new } = fact.kind
                    && claims.contains_key(&fact.target)
                {
                    reached.insert(new);
                }
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let related: Vec<Claim> = claims
        .values()
        .map(|(_, claim)| claim)
        .filter(|claim| reached.contains(&claim.position) && !direct.contains(&claim.position))
        .cloned()
        .collect();
    let epochs: BTreeSet<Position> =
        own.iter().chain(&opposing).chain(&related).filter_map(|claim| claim.epoch).collect();
    Candidates {
        key: Key { subject: subjects[0].clone(), ..key.clone() },
        as_of,
        claims: own,
        opposing,
        related,
        facts: facts.into_iter().filter(|fact| reached.contains(&fact.position)).collect(),
        registry: registry.clone(),
        epochs: epochs.into_iter().map(|at| (at, entries[at.0 as usize - 1].signed.id())).collect(),
    }
}

proptest! {
    // Each case opens three databases.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn groups_and_reopening_do_not_show(
        ops in ops(1..80),
        sizes in prop::collection::vec(1usize..9, 1..6),
        reopen in any::<Pick>(),
    ) {
        let entries = history(&ops);
        let single = Folder::new();
        let one_by_one = single.open();
        let mut stopped = vec![one_by_one.snapshot()];
        for entry in &entries {
            one_by_one.apply(std::slice::from_ref(entry)).unwrap();
            stopped.push(one_by_one.snapshot());
        }
        let grouped = Folder::new();
        let (before, after) = entries.split_at(reopen.index(entries.len()));
        apply_in_groups(&grouped.open(), before, &sizes);
        let index = grouped.open();
        prop_assert_eq!(index.applied().0, before.len() as u64);
        apply_in_groups(&index, after, &sizes);

        let now = index.snapshot();
        let all = reads(&now, &entries);
        prop_assert_eq!(&all, &reads(&one_by_one.snapshot(), &entries));
        for entry in &entries {
            let id = entry.signed.id();
            prop_assert_eq!(now.entry(entry.position).unwrap(), Some(entry.clone()));
            prop_assert_eq!(now.position_of(&id).unwrap(), Some(entry.position));
            prop_assert_eq!(now.head(&id), Some(Head::of(entry.position, entry.signed.record())));
            if let Some(hash) = entry.idempotency {
                let newest = entries.iter().rfind(|entry| entry.idempotency == Some(hash));
                prop_assert_eq!(now.idempotency(&hash).unwrap(), newest.map(|e| e.position));
            }
        }
        let kinds = Kind::ALL.map(|kind| {
            entries.iter().filter(|e| e.signed.record().kind() == kind).count() as u64
        });
        prop_assert_eq!(now.counters().records, kinds);
        // Reopened once more, nothing is lost.
        drop((index, now));
        let index = grouped.open();
        let now = index.snapshot();
        prop_assert_eq!(&all, &reads(&now, &entries));
        let report = check(&now).unwrap();
        prop_assert!(report.is_whole(), "{:?}", report.problems);

        for (position, stopped) in stopped.iter().enumerate() {
            let at = Position(position as u64);
            prop_assert_eq!(stopped.position(), at);
            let listed = now.keys(&KeyFilter::default(), at, None, 1000).unwrap();
            prop_assert_eq!(
                listed,
                stopped.keys(&KeyFilter::default(), Position::MAX, None, 1000).unwrap()
            );
            for key in all_keys() {
                let as_of = parts(now.candidates(&key, at, 1000).unwrap());
                prop_assert_eq!(
                    &as_of,
                    &parts(stopped.candidates(&key, Position::MAX, 1000).unwrap())
                );
                prop_assert_eq!(&as_of, &parts(expected(&entries, now.registry(), &key, at)));
            }
        }
    }
}
