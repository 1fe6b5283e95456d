//! The list of conflicts is what asking every key would give.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use proptest::prelude::*;
use stemedb_index::*;
use stemedb_lens::{LensName, Options, Resolution, Status, resolve};
use stemedb_model::*;
use support::*;

const CLAIMS_MAX: usize = 1000;

/// What a row tells and an answer tells too.
type Told = (Key, Status, u64, u64, u64, u64, u64, u64);

fn told(conflict: &Conflict) -> Told {
    let floats = [conflict.conflict_score, conflict.effective_values, conflict.margin];
    let [score, effective, margin] = floats.map(f64::to_bits);
    let evidence = conflict.evidence.to_bits();
    let (key, values, claims) = (conflict.key.clone(), conflict.values, conflict.claims);
    (key, conflict.status, score, effective, margin, evidence, values, claims)
}

fn told_by(answer: &Resolution) -> Told {
    let floats = [answer.conflict_score, answer.effective_values, answer.margin, answer.evidence];
    let [score, effective, margin, evidence] = floats.map(f64::to_bits);
    let claims = answer.considered - answer.excluded_count;
    let values = answer.values.len() as u64;
    (answer.key.clone(), answer.status, score, effective, margin, evidence, values, claims)
}

fn follow(index: &Index, now: i64) -> ConflictStanding {
    loop {
        let followed = index.follow_conflicts(Millis(now), CLAIMS_MAX, &|| false).unwrap();
        if !followed.more {
            return followed.standing;
        }
    }
}

/// Every page of a space, by three.
fn listed(index: &Index, filter: &ConflictFilter) -> Vec<Conflict> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = index.conflicts(filter, after.as_ref(), 3).unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// What asking every key gives.
fn asked(snapshot: &Snapshot, space: &Space, now: i64) -> Vec<Told> {
    let valid_at = Millis(now).max(snapshot.recorded_at());
    let options = Options::new(LensName::Skeptic, valid_at);
    let mut found = Vec::new();
    for key in all_keys().into_iter().filter(|key| key.space == *space) {
        let registry = snapshot.registry();
        let name = registry.canonical_subject(space, &key.subject, snapshot.position());
        let known = snapshot.candidates(&key, snapshot.position(), CLAIMS_MAX).unwrap();
        // Each entity once; one of which nobody asserts the predicate is no key.
        if name != key.subject || known.claims.is_empty() {
            continue;
        }
        let answer = resolve(&known, &options, None);
        if answer.conflict_score > 0.0 {
            found.push(told_by(&answer));
        }
    }
    found
}

fn sorted(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
    told
}

fn check_all(index: &Index, standing: &ConflictStanding, now: i64) {
    let snapshot = index.snapshot();
    assert_eq!(standing.position, snapshot.position());
    let mut open = 0;
    for number in 0..2 {
        let space = space(number);
        let rows = listed(index, &ConflictFilter::new(space.clone()));
        open += rows.len() as u64;
        let place = |row: &Conflict| (row.conflict_score, row.effective_values);
        assert!(rows.is_sorted_by(|a, b| place(a) >= place(b)), "the worst first");
        let rows = rows.iter().map(told).collect();
        assert_eq!(sorted(rows), sorted(asked(&snapshot, &space, now)), "of {space}");
    }
    assert_eq!(standing.open, open);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_list_is_what_asking_every_key_gives(
        ops in ops(1..150),
        sizes in prop::collection::vec(1usize..30, 1..8),
        asked_too in any::<bool>(),
    ) {
        let entries = history(&ops);
        let folder = Folder::new();
        let mut index = folder.open();
        let mut rest = entries.as_slice();
        for (turn, size) in sizes.iter().cycle().enumerate() {
            let (group, after) = rest.split_at((*size).min(rest.len()));
            index.apply(group).unwrap();
            rest = after;
            if asked_too {
                // Kept questions are judged by what they have become.
                let snapshot = index.snapshot();
                let options = Options::new(LensName::Authority, Millis(10));
                for key in all_keys() {
                    snapshot.question(&key, &options, CLAIMS_MAX, |_| ()).unwrap();
                }
            }
            let standing = follow(&index, 10);
            check_all(&index, &standing, 10);
            if turn % 3 == 2 {
                // What stands on disk is what goes on.
                drop(index);
                index = folder.open();
            }
            if rest.is_empty() {
                break;
            }
        }
    }
}

/// Assertions of two values on one key, with validity bounds.
fn bounded() -> Vec<Entry> {
    let claim = |value: f64, from: Option<i64>, to: Option<i64>| {
        let valid = (from.map(Millis), to.map(Millis));
        Body::Assertion(Assertion {
            valid_from: valid.0,
            valid_to: valid.1,
            ..assertion(0, 0, value)
        })
    };
    records([(1, claim(1.0, None, None)), (2, claim(2.0, Some(3_000_000), Some(4_000_000)))])
}

#[test]
fn a_conflict_comes_and_goes_with_the_clock() {
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&bounded()).unwrap();
    for (now, open) in
        [(2_900_000, 0), (2_999_999, 0), (3_000_000, 1), (3_999_999, 1), (4_000_000, 0)]
    {
        let standing = follow(&index, now);
        assert_eq!(standing.open, open, "at {now}");
        check_all(&index, &standing, now);
    }
}

#[test]
fn filters_choose_and_a_page_says_where_to_go_on() {
    let folder = Folder::new();
    let index = folder.open();
    // Two against two on each of eight keys, and one against two on the others.
    let claims = (0..8).flat_map(|key| {
        let against = if key < 4 { 2 } else { 1 };
        (0..2).map(|agent| (agent, 1.0)).chain((0..against).map(|agent| (agent + 2, 2.0))).map(
            move |(agent, value)| {
                (agent as usize, Body::Assertion(assertion(key % 4, key / 4, value)))
            },
        )
    });
    // All by one principal are one voice: registered, each is its own.
    let registered = (0..4).map(|agent| {
        let act = AgentAct::Register {
            name: None,
            ceiling: SourceClass::Expert,
            operator: None,
            roles: Vec::new(),
        };
        (0, Body::Agent(Agent { key: key(agent).agent_id(), act }))
    });
    index.apply(&records(registered.chain(claims))).unwrap();
    assert_eq!(follow(&index, 0).open, 8);
    let all = ConflictFilter::new(space(0));
    let places: Vec<_> = listed(&index, &all).iter().map(|row| row.conflict_score).collect();
    assert_eq!(places[..4], [1.0; 4]);
    assert!(places[4..].iter().all(|score| *score < 1.0), "{places:?}");
    let only = |filter: ConflictFilter| listed(&index, &filter).len();
    assert_eq!(only(ConflictFilter { score_min: 0.99, ..all.clone() }), 4);
    assert_eq!(only(ConflictFilter { predicate: Some(predicate(1)), ..all.clone() }), 4);
    assert_eq!(only(ConflictFilter { subject_prefix: Some("drugs/".into()), ..all.clone() }), 4);
    assert_eq!(only(ConflictFilter { status: Some(Status::Contested), ..all.clone() }), 4);
    assert_eq!(only(ConflictFilter { status: Some(Status::Agreed), ..all.clone() }), 4);
    assert_eq!(only(ConflictFilter::new(space(1))), 0);
}

#[test]
fn keys_past_the_bound_are_counted() {
    let folder = Folder::new();
    let index = folder.open();
    let claims = (0..40).map(|n| (n, Body::Assertion(assertion(0, 0, n as f64))));
    index.apply(&records(claims)).unwrap();
    let few = index.follow_conflicts(Millis(0), 10, &|| false).unwrap();
    assert_eq!((few.standing.open, few.standing.too_large), (0, 1));
    index.apply(&[]).unwrap();
    // Touched again, under another bound.
    let more = records((0..41).map(|n| (n, Body::Assertion(assertion(0, 0, n as f64)))));
    index.apply(&more[41..]).unwrap();
    let all = index.follow_conflicts(Millis(0), CLAIMS_MAX, &|| false).unwrap();
    assert_eq!((all.standing.open, all.standing.too_large), (1, 0));
}

/// Two claims that disagree about each of 600 keys, of which a step judges 256 at a time.
fn many_keys() -> History {
    let claims = (0..600).flat_map(|n| {
        [1.0, 2.0].map(|value| {
            let subject = Subject::parse(&format!("s/{n}")).unwrap();
            let claim = Assertion { subject, ..assertion(0, 0, value) };
            (value as usize, Body::Assertion(claim))
        })
    });
    History { entries: records(claims) }
}

#[test]
fn told_to_stop_it_goes_on_where_it_was() {
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&many_keys().entries).unwrap();
    let part = index.follow_conflicts(Millis(0), CLAIMS_MAX, &|| true).unwrap();
    assert!(part.more);
    assert_eq!(part.standing.position, Position::NONE);
    assert!(part.standing.open > 0 && part.standing.open < 600, "{part:?}");
    let standing = follow(&index, 0);
    assert_eq!((standing.open, standing.position), (600, index.applied()));
}

#[test]
fn what_is_written_meanwhile_is_seen_by_the_rest_of_a_step() {
    let folder = Folder::new();
    let index = folder.open();
    let mut history = many_keys();
    let first = history.entries.len();
    index.apply(&history.entries).unwrap();
    let subject = Subject::parse("s/599").unwrap();
    let third = Assertion { subject: subject.clone(), ..assertion(0, 0, 3.0) };
    history.push(3, space(0), Body::Assertion(third), 0);
    let late = &history.entries[first..];
    // While it rests after its first 256 keys. It rests again, with nothing new.
    let between = || {
        if index.applied().0 == first as u64 {
            index.apply(late).unwrap();
        }
        false
    };
    let step = index.follow_conflicts(Millis(0), CLAIMS_MAX, &between).unwrap();
    assert_eq!(step.standing.position, Position(first as u64), "which is as far as it looked");
    assert_eq!((step.judged, step.standing.open), (600, 600));
    let rows = listed(&index, &ConflictFilter::new(space(0)));
    let at = |subject: &str| {
        let row = rows.iter().find(|row| row.key.subject.as_str() == subject).unwrap();
        (row.position, row.values)
    };
    assert_eq!(at("s/0"), (Position(first as u64), 2));
    assert_eq!(at("s/599"), (index.applied(), 3));
    assert_eq!(follow(&index, 0).position, index.applied());
}

#[test]
fn all_keys_are_judged_page_by_page() {
    let folder = Folder::new();
    let index = folder.open();
    let mut history = many_keys();
    let first = history.entries.len();
    index.apply(&history.entries).unwrap();
    assert_eq!(follow(&index, 0).open, 600);
    // An agent's end takes what it said along, whatever that was about.
    let act = AgentAct::Revoke { from_position: Position(1) };
    let revoked = Agent { key: key(2).agent_id(), act };
    history.push(0, space(0), Body::Agent(revoked), 0);
    index.apply(&history.entries[first..]).unwrap();
    let step = index.follow_conflicts(Millis(0), CLAIMS_MAX, &|| false).unwrap();
    assert_eq!((step.judged, step.standing.open), (600, 0));
}

#[test]
fn all_watched_keys_are_looked_at_page_by_page() {
    let folder = Folder::new();
    let index = folder.open();
    let claims = (0..600).flat_map(|n| {
        [0, 3].map(|other| {
            let about = Subject::parse(&format!("s/{n}")).unwrap();
            let object = Value::Reference(subject(other));
            let claim = Assertion { subject: about, object, ..assertion(0, 0, 0.0) };
            (other, Body::Assertion(claim))
        })
    });
    let mut history = History { entries: records(claims) };
    let first = history.entries.len();
    index.apply(&history.entries).unwrap();
    assert_eq!(follow(&index, 0).open, 600);
    // From now on both values are one.
    let alias = Alias { subject: subject(0), other: subject(3) };
    history.push(0, space(0), Body::Alias(alias), 0);
    index.apply(&history.entries[first..]).unwrap();
    assert_eq!(follow(&index, 0).open, 0);
}

/// A small world in which one record, the last, changes which keys are in conflict.
struct Scene(History);

impl Scene {
    fn new() -> Self {
        let mut scene = Self(History { entries: records([]) });
        // Each agent a voice of its own.
        for agent in 1..4 {
            scene.register(agent, SourceClass::Expert);
        }
        scene
    }

    fn say(&mut self, agent: usize, body: Body) -> RecordId {
        self.0.push(agent, space(0), body, 0)
    }

    fn register(&mut self, agent: usize, ceiling: SourceClass) {
        let act = AgentAct::Register { name: None, ceiling, operator: None, roles: Vec::new() };
        self.say(0, Body::Agent(Agent { key: key(agent).agent_id(), act }));
    }

    fn claim(&mut self, agent: usize, at: usize, value: f64) -> RecordId {
        let class = Provenance { class: Some(SourceClass::Expert), ..Provenance::default() };
        let claim = Assertion { source: Some(class), ..assertion(at, 0, value) };
        self.say(agent, Body::Assertion(claim))
    }

    fn retract(&mut self, agent: usize, target: RecordId) -> RecordId {
        let target = RetractTarget::Record(target);
        self.say(agent, Body::Retract(Retract { target, reason: None }))
    }
}

/// Follows all but the last record, then that one alone; the list must be right and another.
fn moves(scene: Scene) {
    let entries = scene.0.entries;
    let (last, before) = entries.split_last().unwrap();
    let folder = Folder::new();
    let index = folder.open();
    index.apply(before).unwrap();
    let standing = follow(&index, 10);
    check_all(&index, &standing, 10);
    let was = listed(&index, &ConflictFilter::new(space(0)));
    index.apply(std::slice::from_ref(last)).unwrap();
    let standing = follow(&index, 10);
    check_all(&index, &standing, 10);
    let told = |rows: &[Conflict]| rows.iter().map(told).collect::<Vec<_>>();
    assert_ne!(told(&was), told(&listed(&index, &ConflictFilter::new(space(0)))), "nothing moved");
}

#[test]
fn a_fallen_premise_reaches_the_keys_that_rest_on_it() {
    let mut scene = Scene::new();
    let premise = scene.claim(1, 3, 7.0);
    let rests = |on| Assertion { derived_from: vec![on], ..assertion(2, 0, 1.0) };
    let middle = scene.say(1, Body::Assertion(rests(premise)));
    let end = Assertion { derived_from: vec![middle], ..assertion(0, 0, 1.0) };
    scene.say(1, Body::Assertion(end));
    scene.claim(2, 0, 2.0);
    scene.retract(1, premise);
    moves(scene);
}

#[test]
fn a_supersession_lapses_with_what_it_pointed_to() {
    let mut scene = Scene::new();
    let old = scene.claim(1, 0, 1.0);
    scene.claim(2, 0, 2.0);
    let new = scene.claim(1, 3, 1.0);
    scene.say(1, Body::Supersede(Supersede { old, new, reason: None }));
    scene.retract(1, new);
    moves(scene);
}

#[test]
fn a_source_reaches_its_claims_by_each_of_its_keys() {
    let claims = |scene: &mut Scene| {
        let source = Provenance { evidence: Some(Hash([5; 32])), ..Provenance::default() };
        let claim = Assertion { source: Some(source), ..assertion(0, 0, 1.0) };
        scene.say(1, Body::Assertion(claim));
        scene.claim(2, 0, 2.0);
    };
    let keys = || vec![SourceKey::Evidence(Hash([5; 32])), uri(0)];
    let source = |class| Body::Source(Source { keys: keys(), class, title: None });
    let mut classed = Scene::new();
    claims(&mut classed);
    classed.register(1, SourceClass::Regulatory);
    classed.say(0, source(SourceClass::Observational));
    classed.say(0, source(SourceClass::Expert));
    moves(classed);
    let mut retracted = Scene::new();
    claims(&mut retracted);
    retracted.say(0, source(SourceClass::Expert));
    let target = RetractTarget::Source(uri(0));
    retracted.say(0, Body::Retract(Retract { target, reason: None }));
    moves(retracted);
}

#[test]
fn a_ceiling_reaches_the_claims_of_its_agent() {
    let mut scene = Scene::new();
    scene.claim(1, 0, 1.0);
    scene.claim(2, 0, 2.0);
    scene.register(1, SourceClass::Anecdotal);
    moves(scene);
}

#[test]
fn a_ceiling_reaches_what_its_agent_stands_by() {
    let mut scene = Scene::new();
    let claim = scene.claim(1, 0, 1.0);
    scene.claim(2, 0, 2.0);
    scene.say(3, Body::Cosign(Cosign { assertion: claim }));
    let act = AgentAct::Revoke { from_position: Position(1) };
    scene.say(0, Body::Agent(Agent { key: key(1).agent_id(), act }));
    scene.register(3, SourceClass::Anecdotal);
    moves(scene);
}

#[test]
fn an_epoch_reaches_the_claims_of_the_one_that_it_ends() {
    let mut scene = Scene::new();
    let epoch = |supersedes| Epoch { name: "era".into(), description: None, supersedes };
    let old = scene.say(0, Body::Epoch(epoch(None)));
    scene.say(1, Body::Assertion(Assertion { epoch: Some(old), ..assertion(0, 0, 1.0) }));
    scene.claim(2, 0, 2.0);
    scene.say(0, Body::Epoch(epoch(Some((old, EpochMode::Replace)))));
    moves(scene);
}

#[test]
fn a_predicate_reaches_its_keys_and_those_that_it_denies() {
    let predicate_of = |index: usize, opposites: Vec<PredicateName>, tolerance: Option<f64>| {
        Body::Predicate(Predicate {
            name: predicate(index),
            cardinality: if opposites.is_empty() { Cardinality::One } else { Cardinality::Many },
            value_type: None,
            unit: None,
            conversions: Vec::new(),
            tolerance: tolerance
                .map(|absolute| Tolerance { absolute: Some(absolute), relative: None }),
            opposites,
            half_life: None,
        })
    };
    let mut tolerant = Scene::new();
    tolerant.claim(1, 0, 1.0);
    tolerant.claim(2, 0, 2.0);
    tolerant.say(0, predicate_of(0, Vec::new(), Some(5.0)));
    moves(tolerant);
    let mut denied = Scene::new();
    denied.claim(1, 0, 1.0);
    denied.say(0, predicate_of(0, vec![predicate(1)], None));
    denied.say(2, Body::Assertion(assertion(0, 1, 1.0)));
    moves(denied);
    // The cardinality of the opposite says how many of its claims one agent may hold.
    let mut many = Scene::new();
    many.claim(1, 0, 1.0);
    many.say(0, predicate_of(0, vec![predicate(1)], None));
    many.say(2, Body::Assertion(assertion(0, 1, 1.0)));
    many.say(2, Body::Assertion(assertion(0, 1, 2.0)));
    many.say(0, predicate_of(1, Vec::new(), None));
    moves(many);
}

#[test]
fn an_alias_joins_keys_and_values_and_its_end_parts_them() {
    let alias = |scene: &mut Scene, one, other| {
        scene.say(0, Body::Alias(Alias { subject: subject(one), other: subject(other) }))
    };
    let mut joined = Scene::new();
    joined.claim(1, 0, 1.0);
    joined.claim(2, 3, 2.0);
    alias(&mut joined, 0, 3);
    moves(joined);
    // Both in conflict before and after, under one name or two.
    let mut parted = Scene::new();
    for at in [0, 3] {
        parted.claim(1, at, 1.0);
        parted.claim(2, at, 2.0);
    }
    let id = alias(&mut parted, 0, 3);
    parted.retract(0, id);
    moves(parted);
    let mut merged = Scene::new();
    for at in [0, 3] {
        merged.claim(1, at, 1.0);
        merged.claim(2, at, 2.0);
    }
    alias(&mut merged, 0, 3);
    moves(merged);
    // Two names of one subject are one value.
    let mut values = Scene::new();
    for (agent, value) in [(1, 0), (2, 3)] {
        let object = Value::Reference(subject(value));
        values.say(agent, Body::Assertion(Assertion { object, ..assertion(2, 0, 0.0) }));
    }
    alias(&mut values, 0, 3);
    moves(values);
}

#[test]
fn a_key_that_is_revoked_takes_all_it_did_along() {
    let mut scene = Scene::new();
    scene.claim(1, 0, 1.0);
    let claim = scene.claim(2, 0, 2.0);
    // A stranger's retraction counts here: rights are not the index's business.
    scene.retract(3, claim);
    let act = AgentAct::Revoke { from_position: Position(1) };
    scene.say(0, Body::Agent(Agent { key: key(3).agent_id(), act }));
    moves(scene);
}

#[test]
fn a_key_that_is_registered_anew_brings_all_it_did_back() {
    let mut scene = Scene::new();
    scene.claim(1, 0, 1.0);
    scene.claim(2, 3, 2.0);
    scene.say(3, Body::Alias(Alias { subject: subject(0), other: subject(3) }));
    let act = AgentAct::Revoke { from_position: Position(1) };
    scene.say(0, Body::Agent(Agent { key: key(3).agent_id(), act }));
    scene.register(3, SourceClass::Expert);
    moves(scene);
}
