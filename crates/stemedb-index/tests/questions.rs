//! Questions that are kept in memory answer as ones made anew, and the past as it was answered then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use stemedb_index::*;
use stemedb_lens::{
    Decay, Excluded, LensName, Options, Question, Reliability, Resolution, Standing, resolve_many,
};
use stemedb_model::*;
use support::*;

type Answers = (Vec<Resolution>, Vec<Excluded>, Vec<Standing>);

fn all_lenses(at: i64) -> Vec<Options> {
    let valid_at = Millis(at);
    LensName::ALL.map(|lens| Options { valid_at, ..Options::new(lens, Millis(1_000_000)) }).to_vec()
}

fn answers(question: &Question, options: &[Options]) -> Answers {
    let resolutions = options.iter().map(|options| question.answer(options, None)).collect();
    (resolutions, question.excluded(&options[0], None), question.standings(&options[0], None))
}

fn kept(snapshot: &Snapshot, key: &Key, options: &[Options]) -> Answers {
    snapshot.question(key, &options[0], 1000, |question| answers(question, options)).unwrap()
}

fn anew(snapshot: &Snapshot, key: &Key, options: &[Options]) -> Answers {
    let candidates = snapshot.candidates(key, snapshot.position(), 1000).unwrap();
    answers(&Question::new(&candidates, &options[0]), options)
}

/// Trusts the first half of the agents this much, and nobody else a quarter of it.
struct Trusts(u64);

impl Reliability for Trusts {
    fn reliability(&self, agent: &AgentId, _key: &Key) -> Option<u64> {
        Some(if agent.0[0] < 128 { self.0 } else { self.0 / 4 })
    }
}

/// Every lens as it is, with a filter, and fading.
fn all_options(valid_at: i64, evaluated_at: i64) -> Vec<Options> {
    let (valid_at, evaluated_at) = (Millis(valid_at), Millis(evaluated_at));
    let plain = LensName::ALL.map(|lens| Options { valid_at, ..Options::new(lens, evaluated_at) });
    let mut all = plain.to_vec();
    for one in plain {
        all.push(Options { min_confidence: Some(0.6), ..one.clone() });
        all.push(Options { decay: Decay::HalfLife(3_600_000), ..one });
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn kept_answers_are_those_made_anew(
        ops in ops(1..120),
        sizes in prop::collection::vec(1usize..9, 1..6),
        times in prop::collection::vec(prop::sample::select(vec![0i64, 5, 10, 50]), 1..5),
    ) {
        let entries = history(&ops);
        let folder = Folder::new();
        let index = folder.open();
        let mut rest = entries.as_slice();
        let mut earlier = index.snapshot();
        for (turn, size) in sizes.iter().cycle().enumerate() {
            let (group, after) = rest.split_at((*size).min(rest.len()));
            index.apply(group).unwrap();
            rest = after;
            let snapshot = index.snapshot();
            // Neither time moves with every turn, nor does what was learned.
            let options = all_options(times[turn / 3 % times.len()], 1_000_000 + turn as i64);
            let (learned, hash) = (Trusts(1 << (20 + turn / 5 % 3)), Hash([(turn / 5 % 3) as u8; 32]));
            let trust = (turn % 4 > 0).then_some(Learned { table: &learned, hash });
            for (number, key) in all_keys().into_iter().enumerate() {
                let candidates = snapshot.candidates(&key, snapshot.position(), 1000).unwrap();
                if (turn + number) % 3 == 0 {
                    // Now and then nobody asks whom to trust, while agents come and go.
                    let authority = &options[3..4];
                    let (found, _) = snapshot.answers(&key, authority, None, 1000).unwrap();
                    prop_assert_eq!(found, resolve_many(&candidates, authority, None));
                    continue;
                }
                let made = resolve_many(&candidates, &options, trust.map(|trust| trust.table));
                if let Some((found, _)) = snapshot.answers_at_hand(&key, &options, trust, 1000) {
                    prop_assert_eq!(&found, &made, "at hand");
                }
                for _ in 0..2 {
                    let (found, _) = snapshot.answers(&key, &options, trust, 1000).unwrap();
                    prop_assert_eq!(&found, &made);
                }
                // Who holds an older snapshot may find what is kept under a name that the key had then.
                if let Some((found, _)) = earlier.answers_at_hand(&key, &options, trust, 1000) {
                    let then = earlier.candidates(&key, earlier.position(), 1000).unwrap();
                    let made = resolve_many(&then, &options, trust.map(|trust| trust.table));
                    prop_assert_eq!(found, made, "at an older position");
                }
            }
            earlier = snapshot;
            if rest.is_empty() {
                break;
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn kept_questions_answer_as_new_ones(
        ops in ops(1..120),
        sizes in prop::collection::vec(1usize..9, 1..6),
        times in prop::collection::vec(prop::sample::select(vec![0i64, 5, 10, 50, 60]), 1..5),
    ) {
        let entries = history(&ops);
        let folder = Folder::new();
        let index = folder.open();
        let mut rest = entries.as_slice();
        let mut earlier = index.snapshot();
        for (turn, size) in sizes.iter().cycle().enumerate() {
            let (group, after) = rest.split_at((*size).min(rest.len()));
            index.apply(group).unwrap();
            rest = after;
            let snapshot = index.snapshot();
            let options = all_lenses(times[turn % times.len()]);
            for (number, key) in all_keys().into_iter().enumerate() {
                // Not every key every time, so that some lie for a while.
                if (turn + number) % 3 != 0 {
                    continue;
                }
                let expected = anew(&snapshot, &key, &options);
                prop_assert_eq!(kept(&snapshot, &key, &options), expected);
                // Who holds an older snapshot is answered from there.
                prop_assert_eq!(kept(&earlier, &key, &options), anew(&earlier, &key, &options));
            }
            earlier = snapshot;
            if rest.is_empty() {
                break;
            }
        }
    }

    #[test]
    fn the_past_is_answered_as_it_was_then(ops in ops(1..60), time in 0i64..60) {
        let entries = history(&ops);
        let folder = Folder::new();
        let index = folder.open();
        let mut stopped = vec![index.snapshot()];
        for entry in &entries {
            index.apply(std::slice::from_ref(entry)).unwrap();
            stopped.push(index.snapshot());
        }
        let now = index.snapshot();
        let options = all_lenses(time);
        for then in stopped {
            for key in all_keys() {
                let as_of = now.candidates(&key, then.position(), 1000).unwrap();
                let was = then.candidates(&key, then.position(), 1000).unwrap();
                prop_assert_eq!(
                    resolve_many(&as_of, &options, None),
                    resolve_many(&was, &options, None)
                );
            }
        }
    }
}

/// What is kept, and what makes it be made anew.
#[test]
fn answers_are_kept_until_something_they_rest_on_changes() {
    let folder = Folder::new();
    let index = folder.open();
    let claim = |position, agent, subject, value| {
        let confidence = 0.9 - f64::from(agent) / 100.0;
        let assertion = Assertion { confidence, ..assertion(subject, 0, value) };
        unsigned(position, agent, Body::Assertion(assertion))
    };
    index.apply(&records([])).unwrap();
    index
        .apply(&(2..12).map(|n| claim(n, n as u32, 0, (n % 3) as f64)).collect::<Vec<_>>())
        .unwrap();
    let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    let (half, whole) = (Trusts(1 << 29), Trusts(1 << 30));
    let half = Learned { table: &half, hash: Hash([1; 32]) };
    let whole = Learned { table: &whole, hash: Hash([2; 32]) };
    let ask = |options: &[Options], trust| {
        let snapshot = index.snapshot();
        let (found, kept) = snapshot.answers(&key, options, trust, 1000).unwrap();
        let candidates = snapshot.candidates(&key, snapshot.position(), 1000).unwrap();
        let table = trust.map(|trust: Learned<'_>| trust.table);
        assert_eq!(found, resolve_many(&candidates, options, table));
        kept
    };
    let (plain, all) = (all_lenses(10), all_options(10, 1_000_000));
    assert_eq!(ask(&plain, Some(half)), 0, "nothing was asked yet");
    assert_eq!(ask(&plain, Some(half)), 8);
    assert_eq!(ask(&all, Some(half)), 8, "filters and fading are other answers");
    assert_eq!(ask(&all, Some(half)), 16, "what fades is not kept");
    // Of other times of evaluation it is only told.
    assert_eq!(ask(&all_options(10, 2_000_000), Some(half)), 16);
    // Lenses that ask whom to trust: two, plain and filtered.
    assert_eq!(ask(&all, Some(whole)), 12);
    assert_eq!(ask(&all, None), 12);
    assert_eq!(ask(&all, Some(half)), 16, "kept from before");
    // A record about another key, and an agent that nobody here knows.
    index.apply(&[claim(12, 50, 1, 1.0)]).unwrap();
    assert_eq!(ask(&all, Some(half)), 16);
    index.apply(&[claim(13, 51, 0, 1.0)]).unwrap();
    assert_eq!(ask(&all, Some(half)), 0, "somebody said something");
    assert_eq!(ask(&all, Some(half)), 16);
    // It ceases to be valid.
    let short = Assertion { valid_to: Some(Millis(50)), ..assertion(0, 0, 2.0) };
    index.apply(&[unsigned(14, 52, Body::Assertion(short))]).unwrap();
    for (valid_at, kept) in [(10, 0), (20, 16), (60, 0), (70, 16), (10, 0)] {
        assert_eq!(ask(&all_options(valid_at, 1_000_000), Some(half)), kept, "at {valid_at}");
    }
}

/// What takes no look into storage, and what does.
#[test]
fn answers_are_at_hand_until_something_is_recorded_about_the_key() {
    let folder = Folder::new();
    let index = folder.open();
    let claim = |position, agent, subject| {
        unsigned(position, agent, Body::Assertion(assertion(subject, 0, 1.0)))
    };
    index.apply(&records([])).unwrap();
    index.apply(&(2..12).map(|n| claim(n, n as u32, 0)).collect::<Vec<_>>()).unwrap();
    let first = index.snapshot().entry(Position(2)).unwrap().unwrap().signed.id();
    let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    let plain = all_lenses(10);
    let table = Trusts(1 << 29);
    let learned = Learned { table: &table, hash: Hash([1; 32]) };
    let at_hand = |options: &[Options], trust| {
        let snapshot = index.snapshot();
        let (found, _) = snapshot.answers_at_hand(&key, options, trust, 1000)?;
        let candidates = snapshot.candidates(&key, snapshot.position(), 1000).unwrap();
        let table = trust.map(|trust: Learned<'_>| trust.table);
        assert_eq!(found, resolve_many(&candidates, options, table));
        Some(found[0].position)
    };
    let ask = || index.snapshot().answers(&key, &plain, None, 1000).unwrap();
    assert_eq!(at_hand(&plain, None), None, "nobody has asked");
    ask();
    assert_eq!(at_hand(&plain, None), Some(Position(11)));
    index.apply(&[claim(12, 50, 1)]).unwrap();
    assert_eq!(at_hand(&plain, None), Some(Position(12)), "it was about another key");
    assert!(index.snapshot().answers_at_hand(&key, &plain, None, 9).is_none(), "ten are too many");
    assert_eq!(at_hand(&plain, Some(learned)), None, "its sums are under no table");
    let filtered = [Options { asserted_before: Some(Millis(5)), ..plain[0].clone() }];
    assert_eq!(at_hand(&filtered, None), None, "of other claims nothing is kept");
    let vote = |assertion| Body::Vote(Vote { assertion, weight: -1.0 });
    let elsewhere = index.snapshot().entry(Position(12)).unwrap().unwrap().signed.id();
    let rests_on_it = Assertion { derived_from: vec![elsewhere], ..assertion(0, 0, 3.0) };
    for (said, body) in [
        ("a claim", Body::Assertion(assertion(0, 0, 2.0))),
        ("a vote", vote(first)),
        ("a claim with a premise", Body::Assertion(rests_on_it)),
        ("a vote on the premise", vote(elsewhere)),
        ("an alias", Body::Alias(Alias { subject: subject(0), other: subject(3) })),
        ("a claim of the other name", Body::Assertion(assertion(3, 0, 2.0))),
    ] {
        let position = index.applied().next();
        index.apply(&[unsigned(position.0, 60, body)]).unwrap();
        assert_eq!(at_hand(&plain, None), None, "{said}");
        ask();
        assert_eq!(at_hand(&plain, None), Some(position), "{said}");
    }
}

/// What a revoked key registered counts again once it is registered anew, also where nobody knows the key.
#[test]
fn a_key_that_is_registered_anew_brings_its_aliases_back() {
    let register = |agent| {
        let ceiling = SourceClass::Expert;
        let act = AgentAct::Register { name: None, ceiling, operator: None, roles: Vec::new() };
        Body::Agent(Agent { key: key(agent).agent_id(), act })
    };
    let revoke = AgentAct::Revoke { from_position: Position(1) };
    let entries = records([
        (1, Body::Assertion(assertion(0, 0, 1.0))),
        (2, Body::Assertion(assertion(3, 0, 2.0))),
        (3, Body::Alias(Alias { subject: subject(0), other: subject(3) })),
        (0, Body::Agent(Agent { key: key(3).agent_id(), act: revoke })),
        (0, register(3)),
    ]);
    let folder = Folder::new();
    let index = folder.open();
    let options = all_lenses(10);
    let asked = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    let mut considered = Vec::new();
    for group in [&entries[..4], &entries[4..5], &entries[5..]] {
        index.apply(group).unwrap();
        let snapshot = index.snapshot();
        let found = kept(&snapshot, &asked, &options);
        assert_eq!(found, anew(&snapshot, &asked, &options));
        considered.push(found.0[0].considered);
    }
    assert_eq!(considered, [2, 1, 2]);
}

/// A reader may switch it off.
#[test]
fn without_room_no_answer_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = IndexConfig { answers_bytes: 0, ..IndexConfig::new(dir.path().join("index")) };
    let index = Index::open(&config, None).unwrap();
    index.apply(&records([])).unwrap();
    index.apply(&[unsigned(2, 0, Body::Assertion(assertion(0, 0, 1.0)))]).unwrap();
    let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    for _ in 0..2 {
        let (found, kept) = index.snapshot().answers(&key, &all_lenses(10), None, 1000).unwrap();
        assert_eq!((found.len(), kept), (8, 0));
    }
}

/// Counts how often it is asked.
struct Counted(AtomicU64);

impl Reliability for Counted {
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Trusts(1 << 28).reliability(agent, key)
    }
}

/// A table is asked once about each agent, by whoever asks first whom to trust.
#[test]
fn sums_of_trust_are_kept_under_the_table_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let config = IndexConfig { answers_bytes: 0, ..IndexConfig::new(dir.path().join("index")) };
    let index = Index::open(&config, None).unwrap();
    index.apply(&records([])).unwrap();
    let claim =
        |n: u64| unsigned(n + 2, n as u32, Body::Assertion(assertion(0, 0, (n % 3) as f64)));
    index.apply(&(0..20).map(claim).collect::<Vec<_>>()).unwrap();
    let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    let table = Counted(AtomicU64::new(0));
    let ask = |lens, hash| {
        let options = [Options::new(lens, Millis(1_000_000))];
        let before = table.0.load(Ordering::Relaxed);
        let snapshot = index.snapshot();
        let learned = Learned { table: &table, hash: Hash([hash; 32]) };
        let (found, _) = snapshot.answers(&key, &options, Some(learned), 1000).unwrap();
        let asked = table.0.load(Ordering::Relaxed) - before;
        let candidates = snapshot.candidates(&key, snapshot.position(), 1000).unwrap();
        assert_eq!(found, resolve_many(&candidates, &options, Some(&Trusts(1 << 28))));
        asked
    };
    assert_eq!(ask(LensName::Trust, 1), 20);
    assert_eq!(ask(LensName::Trust, 1), 0);
    index.apply(&[claim(20), claim(21)]).unwrap();
    assert_eq!(ask(LensName::Authority, 1), 0);
    assert_eq!(ask(LensName::Trust, 1), 2, "those that came since");
    assert_eq!(ask(LensName::Trust, 2), 22, "another table");
    assert_eq!(ask(LensName::Trust, 2), 0);
}

/// A question is refused past the bound whether it is made or kept.
#[test]
fn the_bound_holds_for_what_is_kept() {
    let bodies = (0..30).map(|n| (n, Body::Assertion(assertion(0, 0, n as f64))));
    let entries = records(bodies);
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&entries[..10]).unwrap();
    let Body::Assertion(first) = &entries[1].signed.record().body else { panic!("an assertion") };
    let key = Key {
        space: entries[1].signed.record().space.clone(),
        subject: first.subject.clone(),
        predicate: first.predicate.clone(),
    };
    let options = Options::new(LensName::Authority, Millis(1_000_000));
    let ask = |bound| index.snapshot().question(&key, &options, bound, Question::claims);
    let most = ask(1000).unwrap();
    assert!(most > 5, "{most}");
    assert!(matches!(ask(most - 1), Err(IndexError::TooLarge { .. })));
    index.apply(&entries[10..]).unwrap();
    assert!(matches!(ask(most), Err(IndexError::TooLarge { .. })));
    let more = ask(1000).unwrap();
    assert!(more > most, "{more}");
    assert_eq!(ask(more).unwrap(), more);
}

/// What a question takes is counted though it is too large to be asked about, and with the text of its
/// values: else the bound on memory is none.
#[test]
fn what_is_kept_is_weighed_whatever_it_is() {
    const TEXT: usize = 20_000;
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&records([])).unwrap();
    let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    let options = Options::new(LensName::Authority, Millis(1_000_000));
    let ask = |bound| index.snapshot().question(&key, &options, bound, Question::claims);
    let claims = |from: u64, to: u64, text: usize| {
        let claim = |n: u64| {
            let mut body = assertion(0, 0, n as f64);
            if text > 0 {
                body.object = Value::text(&format!("{n:0text$}")).unwrap();
            }
            unsigned(n + 2, n as u32, Body::Assertion(body))
        };
        index.apply(&(from..to).map(claim).collect::<Vec<_>>()).unwrap();
    };
    claims(0, 100, 0);
    assert_eq!(ask(100).unwrap(), 100);
    let small = index.memory().questions;
    claims(100, 140, 0);
    assert!(matches!(ask(100), Err(IndexError::TooLarge { .. })));
    let large = index.memory().questions;
    assert!(large > small + small / 4, "{small} {large}");
    // Two claims more, of a hundred and forty.
    claims(140, 142, TEXT);
    assert_eq!(ask(1_000).unwrap(), 142);
    let texts = index.memory().questions;
    assert!(texts > large + 2 * TEXT as u64, "{large} {texts}");
}

/// An assertion or other record by an agent nobody registered; an index believes its log.
fn unsigned(position: u64, agent: u32, body: Body) -> Entry {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&agent.to_be_bytes());
    let log_id = (!matches!(body, Body::Assertion(_))).then_some(LOG);
    let at = Millis(1_000_000 + position as i64);
    let record = Record { space: space(0), agent: AgentId(id), at, log_id, body };
    Entry {
        position: Position(position),
        recorded_at: Millis(2_000_000),
        principal: Principal::parse("svc").unwrap(),
        custodial: false,
        idempotency: None,
        signed: Signed::trusted(record.encode(), Signature([0; 64])).unwrap(),
    }
}

/// A write to the key before each read, with few values and with many, some of them within tolerance
/// of others.
#[test]
fn tolerance_is_the_same_for_what_is_kept() {
    for (values, writes) in [(2u32, 60), (50, 60), (5_000, 8)] {
        let mut entries = records([]);
        let predicate = Predicate {
            name: predicate(0),
            cardinality: Cardinality::One,
            value_type: None,
            unit: None,
            conversions: Vec::new(),
            tolerance: Some(Tolerance { absolute: Some(1.0), relative: Some(0.001) }),
            opposites: Vec::new(),
            half_life: None,
        };
        entries.push(unsigned(2, 0, Body::Predicate(predicate)));
        // Neighbours are 0.4 apart: a value takes some of its neighbours, and they take others.
        let claim = |agent: u32, n: u32| {
            let value = f64::from(n.wrapping_mul(2_654_435_761) % values) * 0.4;
            let confidence = 1.0 - f64::from(agent % 7) / 10.0;
            Body::Assertion(Assertion { confidence, ..assertion(0, 0, value) })
        };
        entries.extend((0..values).map(|n| unsigned(u64::from(n) + 3, n, claim(n, n))));
        let folder = Folder::new();
        let index = folder.open();
        index.apply(&entries).unwrap();
        let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
        let options = all_lenses(10);
        let mut groups = 0;
        for write in 0..writes {
            let position = index.applied().0 + 1;
            // Now an agent that spoke before, now a new one.
            let agent = if write % 2 == 0 { write } else { values + write };
            index.apply(&[unsigned(position, agent, claim(agent, write * 31 + 1))]).unwrap();
            let snapshot = index.snapshot();
            let bound = 20_000;
            let found = snapshot
                .question(&key, &options[0], bound, |question| answers(question, &options))
                .unwrap();
            let candidates = snapshot.candidates(&key, snapshot.position(), bound).unwrap();
            assert_eq!(found, answers(&Question::new(&candidates, &options[0]), &options));
            // The same of sums of trust, under one table all along.
            let (table, trust) = (Trusts(1 << 29), [Options::new(LensName::Trust, Millis(10))]);
            let learned = Learned { table: &table, hash: Hash([1; 32]) };
            let (trusted, _) = snapshot.answers(&key, &trust, Some(learned), bound).unwrap();
            assert_eq!(trusted, resolve_many(&candidates, &trust, Some(&table)));
            groups = found.0[0].values.iter().filter(|value| value.members.len() > 1).count();
        }
        assert!(values == 2 || groups > 5, "{groups} groups of {values} values");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it waits for another thread")]
fn memory_is_told_by_what_it_is_for() {
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&records([])).unwrap();
    let key = Key { space: space(0), subject: subject(0), predicate: support::predicate(0) };
    let claim =
        |position| unsigned(position, position as u32, Body::Assertion(assertion(0, 0, 1.0)));
    let empty = index.memory();
    assert_eq!((empty.questions, empty.answers), (0, 0));
    index.apply(&(2..102).map(claim).collect::<Vec<_>>()).unwrap();
    let applied = index.memory();
    assert!(applied.names > empty.names, "{applied:?}");
    assert_eq!((applied.questions, applied.answers), (0, 0), "nobody has asked");

    let options = [Options::new(LensName::Consensus, Millis(1_000_000))];
    index.snapshot().answers(&key, &options, None, 1_000).unwrap();
    let asked = index.memory();
    assert!(asked.questions > 100 * 300, "{asked:?}");
    assert!(asked.answers > 0, "{asked:?}");
    // Looked at now and then.
    let began = std::time::Instant::now();
    while index.memory().write_buffers < 100 * 100 {
        assert!(began.elapsed().as_secs() < 20, "{:?}", index.memory());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let names: Vec<_> = asked.parts().map(|(name, _)| name).into();
    assert_eq!(names, ["blocks", "names", "filters", "write_buffers", "questions", "answers"]);
}
