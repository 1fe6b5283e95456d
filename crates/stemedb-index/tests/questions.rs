//! Questions that are kept in memory answer as ones made anew, and the past as it was answered then.
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
use stemedb_lens::{Excluded, LensName, Options, Question, Resolution, Standing, resolve_many};
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
            groups = found.0[0].values.iter().filter(|value| value.members.len() > 1).count();
        }
        assert!(values == 2 || groups > 5, "{groups} groups of {values} values");
    }
}
