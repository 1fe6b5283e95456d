//! Steps 2 to 5 by table: voices, values, disagreement, lenses, ties.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use stemedb_lens::{Claim, Decay, LensName, NEVER, Reliability, Resolution, Status, WEIGHT_ONE};
use stemedb_model::{AgentId, Cardinality, Key, Millis, SourceClass, Value};
use support::*;

const ONE: u128 = WEIGHT_ONE as u128;

fn support_of(resolution: &Resolution, value: &Value) -> u128 {
    resolution.values.iter().find(|found| found.value == *value).map_or(0, |found| found.support)
}

#[test]
fn one_voice_each() {
    // (agent, source, confidence, class) all for one value, and the support they make.
    type Said = (u8, &'static str, f64, SourceClass);
    use SourceClass::{Anecdotal, Community, Expert};
    let cases: &[(&str, &[Said], u128)] = &[
        ("one", &[(1, "x", 1.0, Expert)], ONE),
        ("no certainty", &[(1, "x", 0.0, Expert)], 0),
        ("half", &[(1, "x", 0.5, Expert)], ONE / 2),
        ("two agents, two sources", &[(1, "x", 1.0, Expert), (2, "y", 1.0, Expert)], 2 * ONE),
        ("two agents, one source", &[(1, "x", 1.0, Expert), (2, "x", 1.0, Expert)], ONE),
        ("two agents of one operator", &[(1, "x", 1.0, Expert), (3, "y", 1.0, Expert)], 2 * ONE),
        ("the same operator", &[(3, "x", 1.0, Expert), (4, "y", 1.0, Expert)], ONE),
        ("unregistered, one principal", &[(7, "x", 1.0, Expert), (8, "y", 1.0, Expert)], ONE),
        ("the more certain speaks", &[(3, "x", 0.25, Expert), (4, "y", 0.5, Expert)], ONE / 2),
        ("the better tier speaks", &[(3, "x", 0.25, Expert), (4, "y", 1.0, Community)], ONE / 4),
        (
            "who speaks for the source does not speak again elsewhere",
            &[(1, "x", 0.5, Expert), (2, "x", 0.25, Expert), (2, "y", 0.125, Anecdotal)],
            ONE / 2 + ONE / 8,
        ),
    ];
    for (case, said, support) in cases {
        let mut w = World::new();
        for n in [7, 8] {
            w.principals.insert(agent(n), principal("shared"));
        }
        w.register(agent(1), Expert, None);
        w.register(agent(2), Expert, None);
        w.register(agent(3), Expert, Some("o"));
        w.register(agent(4), Expert, Some("o"));
        // Each claim with an interval of its own, so that none replaces another.
        for (n, (by, source, confidence, class)) in said.iter().enumerate() {
            w.claim_with(("s", "p"), agent(*by), text("a"), |c| {
                c.source = uri(source);
                c.confidence = *confidence;
                c.class = Some(*class);
                c.valid_from = Some(Millis(i64::try_from(n).unwrap()));
            });
        }
        assert_eq!(support_of(&w.ask(LensName::Consensus), &text("a")), *support, "{case}");
    }
}

#[test]
fn an_unregistered_key_speaks_for_whom_it_came_through() {
    for (register, voices) in [(false, 2), (true, 1)] {
        let mut w = World::new();
        if register {
            w.register(agent(1), SourceClass::Expert, None);
        }
        for (n, by) in ["one", "other"].into_iter().enumerate() {
            w.principals.insert(agent(1), principal(by));
            w.claim_with(("s", "p"), agent(1), text("a"), |c| {
                (c.source, c.valid_from) = (uri(by), Some(Millis(i64::try_from(n).unwrap())));
            });
        }
        assert_eq!(w.ask(LensName::Consensus).values[0].voices, voices, "{register}");
    }
}

#[test]
fn values_in_one_unit() {
    let mut w = World::new();
    let mut about = predicate("p");
    about.unit = Some("mg".into());
    about.conversions = vec![conversion("g", 1000.0, 0.0), conversion("odd", 1e308, 1.0)];
    w.predicate(about);
    let said = [
        number(500.0),
        measure(500.0, "mg"),
        measure(0.5, "g"),
        measure(500.0, "stone"), // unknown: a value of its own
        measure(1e10, "odd"),    // beyond the largest number: as written
        text("500"),
    ];
    for (n, value) in (1..).zip(said) {
        w.claim_with(("s", "p"), agent(n), value, |_| {});
    }
    let found = w.ask(LensName::Consensus);
    assert_eq!(found.values.len(), 4);
    assert_eq!(found.winner().unwrap().value, measure(500.0, "mg"));
    assert_eq!(found.winner().unwrap().claims, 3);
}

#[test]
fn tolerance_merges_at_read() {
    let mut w = World::new();
    let mut about = predicate("p");
    about.tolerance = tolerance(Some(10.0), None);
    w.predicate(about);
    // 100 is heaviest and takes 90 and 110; 120 is next and finds only itself.
    for (n, value) in (1..).zip([100.0, 100.0, 90.0, 110.0, 110.1, 120.0, 120.0, -0.0, 0.0]) {
        w.claim_with(("s", "p"), agent(n), number(value), |c| c.at = Millis(i64::from(n)));
    }
    let found = w.ask(LensName::Consensus);
    let groups: Vec<_> =
        found.values.iter().map(|v| (v.members.to_vec(), v.support / ONE)).collect();
    let numbers = |values: &[f64]| values.iter().map(|value| number(*value)).collect::<Vec<_>>();
    assert_eq!(
        groups,
        [(numbers(&[100.0, 90.0, 110.0]), 4), (numbers(&[120.0, 110.1]), 3), (numbers(&[0.0]), 2),]
    );
    // The same under every lens, and whatever is filtered.
    for lens in LensName::ALL {
        let other = w.ask_with(lens, |o| o.agents = Some([agent(3)].into()));
        let mut members: Vec<_> = other.values.iter().map(|v| v.members.to_vec()).collect();
        members.sort();
        let mut expected: Vec<_> = groups.iter().map(|(members, _)| members.clone()).collect();
        expected.sort();
        assert_eq!(members, expected, "{lens:?}");
    }
    // A merged group has one voice a voice.
    let mut w = World::new();
    let mut about = predicate("p");
    about.tolerance = tolerance(None, Some(0.1));
    w.predicate(about);
    w.register(agent(1), SourceClass::Expert, Some("o"));
    w.register(agent(2), SourceClass::Expert, Some("o"));
    w.claim_with(("s", "p"), agent(1), number(100.0), |_| {});
    w.claim_with(("s", "p"), agent(2), number(101.0), |_| {});
    let found = w.ask(LensName::Consensus);
    // Equal support: the smaller is the centre.
    assert_eq!((found.values.len(), &found.values[0].value), (1, &number(100.0)));
    assert_eq!((found.values[0].support, found.values[0].agents), (ONE, 2));
}

#[test]
fn aliases_make_one_key_and_one_reference() {
    let mut w = World::new();
    let alias = w.alias("t", "s");
    w.alias("t", "r");
    let to = |of: &str| Value::Reference(subject(of));
    w.claim_with(("s", "p"), agent(1), to("t"), |_| {});
    w.claim_with(("t", "p"), agent(2), to("r"), |_| {});
    w.claim_with(("r", "p"), agent(3), to("u"), |_| {});
    let found = w.ask(LensName::Consensus);
    assert_eq!(found.key.subject, subject("r"));
    assert_eq!((found.considered, &found.winner().unwrap().value), (3, &to("r")));
    // Undone: s alone again, and what it refers to is no longer r but the rest of its entity.
    w.retract(ROOT, alias);
    let found = w.ask(LensName::Consensus);
    assert_eq!((found.key.subject.as_str(), found.considered), ("s", 1));
    assert_eq!(found.winner().unwrap().value, to("r"));
}

/// Anecdotes (each a voice) by value, in order.
fn crowd(counts: &[(&str, u8)]) -> World {
    let mut w = World::new();
    let mut n = 0;
    for (value, count) in counts {
        for _ in 0..*count {
            n += 1;
            w.claim(agent(n), value);
        }
    }
    w
}

#[test]
fn status_by_margin() {
    let third = 1.0 / 3.0;
    for (counts, status, margin, conflict, effective) in [
        (&[][..], Status::Unknown, 0.0, 0.0, 0.0),
        (&[("a", 7)], Status::Unanimous, 1.0, 0.0, 1.0),
        (&[("a", 1), ("b", 1)], Status::Contested, 0.0, 1.0, 2.0),
        // A lead of a third exactly agrees; just below, it does not.
        (&[("a", 2), ("b", 1)], Status::Agreed, third, 0.918_295_834_054, 1.889_881_574_842),
        (&[("a", 99), ("b", 50)], Status::Contested, 49.0 / 149.0, 0.920516743, 1.892793130),
        (&[("a", 1), ("b", 1), ("c", 1), ("d", 1)], Status::Contested, 0.0, 1.0, 4.0),
    ] {
        let found = crowd(counts).ask(LensName::Skeptic);
        assert_eq!(found.status, status, "{counts:?}");
        for (found, expected) in [
            (found.margin, margin),
            (found.conflict_score, conflict),
            (found.effective_values, effective),
            (found.evidence, f64::from(counts.iter().map(|(_, n)| u32::from(*n)).sum::<u32>())),
        ] {
            assert!((found - expected).abs() < 1e-6, "{counts:?}: {found} for {expected}");
        }
    }
}

#[test]
fn half_of_a_share_is_the_best_tiers() {
    let mut w = World::new();
    w.register(agent(100), SourceClass::Expert, None);
    w.claim_with(("s", "p"), agent(100), text("a"), |c| {
        (c.source, c.class) = (uri("x"), Some(SourceClass::Expert));
    });
    for n in 1..=3 {
        w.claim(agent(n), "b");
    }
    let found = w.ask(LensName::Skeptic);
    let shares: Vec<_> = found.values.iter().map(|v| (v.value.clone(), v.share)).collect();
    // 1/4 of all and all of the best tier; 3/4 of all and none of it.
    assert_eq!(shares, [(text("a"), 0.625), (text("b"), 0.375)]);
    assert_eq!(found.status, Status::Contested);
}

#[test]
fn no_weight_at_all_is_shared_equally() {
    let mut w = World::new();
    for (n, value) in [(1, "a"), (2, "a"), (3, "b")] {
        w.claim_with(("s", "p"), agent(n), text(value), |c| c.confidence = 0.0);
    }
    let found = w.ask(LensName::Authority);
    assert_eq!(found.values.iter().map(|v| v.share).collect::<Vec<_>>(), [0.5, 0.5]);
    assert_eq!((found.status, found.evidence), (Status::Contested, 0.0));
    // No weight, so more agents decide; and the lens has no shares to give.
    assert_eq!((answer(&found), found.values[0].lens_share), (Some("a"), 0.0));
}

#[test]
fn ties_go_to_agents_then_newest_then_bytes() {
    // Weights are equal under confidence: all are certain.
    assert_eq!(answer(&crowd(&[("b", 2), ("a", 1)]).ask(LensName::Confidence)), Some("b"));
    assert_eq!(answer(&crowd(&[("a", 1), ("b", 1)]).ask(LensName::Confidence)), Some("b"));
    assert_eq!(answer(&crowd(&[("b", 1), ("a", 1)]).ask(LensName::Confidence)), Some("a"));
    // One claim cannot stand for two values, so bytes decide only without positions: never here.
    // Under authority only the deciding tier breaks ties, not the crowd below it.
    let mut w = World::new();
    for n in [100, 101] {
        w.register(agent(n), SourceClass::Expert, None);
        w.claim_with(("s", "p"), agent(n), text(["a", "b"][usize::from(n - 100)]), |c| {
            (c.source, c.class) = (uri(&n.to_string()), Some(SourceClass::Expert));
        });
    }
    for n in 1..50 {
        w.claim(agent(n), "a");
    }
    assert_eq!(answer(&w.ask(LensName::Authority)), Some("b"));
    assert_eq!(answer(&w.ask(LensName::Layered)), Some("b"));
    assert_eq!(answer(&w.ask(LensName::Consensus)), Some("a"));
}

#[test]
fn a_hundred_anecdotes_never_outvote_a_regulator() {
    for confidence in [1.0, 0.5, 1e-9, 0.0] {
        let mut w = World::new();
        w.register(agent(200), SourceClass::Regulatory, None);
        w.source(&[uri("label")], SourceClass::Regulatory);
        w.claim_with(("s", "p"), agent(200), text("rare"), |c| {
            (c.source, c.confidence) = (uri("label"), confidence);
        });
        for n in 0..100 {
            w.claim(agent(n), "common");
        }
        for decay in decays() {
            for years in [0, 1, 100] {
                for lens in [LensName::Authority, LensName::Layered] {
                    let found = w.ask_with(lens, |o| {
                        o.decay = decay;
                        o.evaluated_at.0 += years * 365 * DAY;
                    });
                    assert_eq!(answer(&found), Some("rare"), "{confidence} {decay:?} {years}");
                }
            }
        }
    }
}

#[test]
fn recency_goes_by_claimed_time_bounded_by_recorded() {
    let mut w = World::new();
    w.at = Some(Millis(BEGINNING - DAY));
    w.claim(agent(1), "old");
    // Claimed five minutes ahead counts as when it was recorded.
    w.at = Some(Millis(BEGINNING + 300_000));
    w.claim(agent(2), "ahead");
    w.at = None;
    w.claim(agent(3), "new");
    w.at = Some(Millis(BEGINNING - 2 * DAY));
    w.claim(agent(4), "late news of old times");
    let found = w.ask(LensName::Recency);
    let order: Vec<_> = found.values.iter().map(|v| v.lens_weight).collect();
    assert_eq!(answer(&found), Some("new"));
    let times = [BEGINNING + 4000, BEGINNING + 3000, BEGINNING - DAY, BEGINNING - 2 * DAY];
    assert_eq!(order, times.map(i128::from));
    assert_eq!((found.values[0].lens_share, found.lens_margin), (1.0, 1.0));
}

#[test]
fn decay_changes_who_is_loudest() {
    let mut w = World::new();
    w.at = Some(Millis(BEGINNING - 60 * DAY));
    w.claim(agent(1), "old");
    w.claim(agent(2), "old");
    w.claim(agent(3), "old");
    w.at = None;
    w.claim(agent(4), "new");
    for (decay, lens, winner, weight) in [
        (Decay::Off, LensName::Consensus, "old", 3.0),
        // Anecdotes halve in 30 days: 3 voices of a quarter each.
        (Decay::PerClass, LensName::Consensus, "new", 1.0),
        (Decay::HalfLife(60 * DAY as u64), LensName::Consensus, "old", 1.5),
        (Decay::PerClass, LensName::Authority, "new", 1.0),
        (Decay::PerClass, LensName::Confidence, "new", 1.0),
        (Decay::PerClass, LensName::Trust, "new", 0.5),
        (Decay::PerClass, LensName::Votes, "new", 1.0),
    ] {
        let found = w.ask_with(lens, |o| o.decay = decay);
        let relative = found.values[0].lens_weight as f64 / ONE as f64;
        assert_eq!(answer(&found), Some(winner), "{decay:?} {lens:?}");
        assert!((relative - weight).abs() < 1e-4, "{decay:?} {lens:?}: {relative}");
        // Fading is the lens's: the disagreement does not know of it.
        assert_eq!(support_of(&found, &text("old")), 3 * ONE);
    }
    // The predicate's half-life goes before the class's.
    let mut about = predicate("p");
    about.half_life = Some(60 * DAY as u64);
    w.predicate(about);
    let found = w.ask_with(LensName::Consensus, |o| o.decay = Decay::PerClass);
    assert_eq!(answer(&found), Some("old"));
}

struct Table(HashMap<AgentId, u64>);

impl Reliability for Table {
    fn reliability(&self, agent: &AgentId, _: &Key) -> Option<u64> {
        self.0.get(agent).copied()
    }
}

#[test]
fn trust_weighs_by_what_was_learned() {
    let mut w = crowd(&[("a", 2), ("b", 1)]);
    w.register(agent(3), SourceClass::Expert, None);
    w.rotate(agent(3), agent(30));
    let ask = |table: Option<&dyn Reliability>| {
        let found = stemedb_lens::resolve(&w.candidates(), &w.options(LensName::Trust), table);
        let weights: Vec<_> = found.values.iter().map(|v| v.lens_weight.cast_unsigned()).collect();
        (answer(&found).map(String::from), weights)
    };
    assert_eq!(ask(None), (Some("a".into()), vec![ONE, ONE / 2]));
    // By the first key of an agent, whichever it signed with.
    let table = Table([(agent(1), 1 << 28), (agent(2), 1 << 28), (agent(3), 1 << 31)].into());
    assert_eq!(ask(Some(&table)), (Some("b".into()), vec![ONE, ONE / 2]));
}

#[test]
fn votes_move_a_value_by_one_claim_a_voter() {
    // By, on, weight; and the weight of "a", which one voice supports, in 1/8.
    type Cast = (u8, u8, f64);
    let cases: &[(&str, &[Cast], i128)] = &[
        ("none", &[], 8),
        ("one for, half trusted", &[(5, 1, 1.0)], 12),
        ("one against", &[(5, 1, -1.0)], 4),
        ("the newest counts", &[(5, 1, 1.0), (5, 1, -0.5)], 6),
        ("many against: never below nothing", &[(5, 1, -1.0), (6, 1, -1.0), (7, 1, -1.0)], 0),
        ("on two claims of the value: bounded", &[(5, 1, 1.0), (5, 2, 1.0)], 12),
        ("on two claims, against each other", &[(5, 1, 1.0), (5, 2, -0.5)], 10),
        ("two keys of one operator", &[(8, 1, 1.0), (9, 1, 1.0)], 12),
        ("on another value", &[(5, 3, 1.0)], 8),
    ];
    for (case, votes, eighths) in cases {
        let mut w = World::new();
        w.register(agent(1), SourceClass::Anecdotal, Some("same"));
        w.register(agent(2), SourceClass::Anecdotal, Some("same"));
        w.register(agent(8), SourceClass::Anecdotal, Some("o"));
        w.register(agent(9), SourceClass::Anecdotal, Some("o"));
        let claims = [w.claim(agent(1), "a"), w.claim(agent(2), "a"), w.claim(agent(3), "b")];
        for (by, on, weight) in *votes {
            w.vote(agent(*by), claims[usize::from(*on) - 1], *weight);
        }
        let found = w.ask(LensName::Votes);
        let a = found.values.iter().find(|value| value.value == text("a")).unwrap();
        assert_eq!(a.lens_weight * 8, eighths * ONE.cast_signed(), "{case}");
    }
    // A voter is as reliable as the least reliable of the keys it voted with, in either order.
    for [first, second] in [[8, 9], [9, 8]] {
        let mut w = World::new();
        w.register(agent(8), SourceClass::Anecdotal, Some("o"));
        w.register(agent(9), SourceClass::Anecdotal, Some("o"));
        let claim = w.claim(agent(1), "a");
        w.vote(agent(first), claim, 1.0);
        w.vote(agent(second), claim, 1.0);
        let table = Table([(agent(8), WEIGHT_ONE), (agent(9), WEIGHT_ONE / 4)].into());
        let found =
            stemedb_lens::resolve(&w.candidates(), &w.options(LensName::Votes), Some(&table));
        assert_eq!(found.values[0].lens_weight * 4, 5 * ONE.cast_signed());
    }
    // Retracting the newest vote revives the one before; a revoked voter has none.
    let mut w = World::new();
    let claim = w.claim(agent(1), "a");
    w.vote(agent(5), claim, 1.0);
    let newest = w.vote(agent(5), claim, -1.0);
    let weight = |w: &World| w.ask(LensName::Votes).values[0].lens_weight * 2 / ONE.cast_signed();
    assert_eq!(weight(&w), 1);
    w.retract(agent(5), newest);
    assert_eq!(weight(&w), 3);
    w.revoke(agent(5), claim);
    assert_eq!(weight(&w), 2);
}

fn many() -> World {
    let mut w = World::new();
    let mut about = predicate("p");
    about.cardinality = Cardinality::Many;
    about.opposites = vec![name("not p")];
    w.predicate(about);
    w
}

#[test]
fn under_many_each_value_is_a_question() {
    let mut w = many();
    for (n, value) in [(1, "yes"), (2, "yes"), (3, "yes"), (1, "split"), (2, "no"), (1, "alone")] {
        w.claim(agent(n), value);
    }
    for (n, value) in [(4, "yes"), (5, "split"), (5, "no"), (6, "no"), (7, "only denied")] {
        w.claim_with(("s", "not p"), agent(n), text(value), |_| {});
    }
    let found = w.ask(LensName::Consensus);
    let mut winners = answers(&found);
    winners.sort();
    // Equal is not more; what is only denied is no candidate.
    assert_eq!(winners, ["alone", "yes"]);
    assert_eq!(found.values.len(), 4);
    // The most contested value gives the figures.
    assert_eq!((found.status, found.margin, found.conflict_score), (Status::Contested, 0.0, 1.0));
    let yes = found.values.iter().find(|value| value.value == text("yes")).unwrap();
    assert_eq!((yes.support, yes.against, yes.share), (3 * ONE, ONE, 0.75));
    assert_eq!((yes.lens_share, found.lens_margin, found.considered), (0.75, 0.0, 11));
    // What speaks against the set: denials of winners, claims of the others.
    assert_eq!(found.dissent.iter().map(|d| d.claims).collect::<Vec<_>>(), [3]);

    // One regulator's denial beats a crowd under authority, not under consensus.
    w.register(agent(100), SourceClass::Regulatory, None);
    w.source(&[uri("label")], SourceClass::Regulatory);
    w.claim_with(("s", "not p"), agent(100), text("yes"), |c| c.source = uri("label"));
    assert_eq!(answers(&w.ask(LensName::Authority)), ["alone"]);
    assert!(answers(&w.ask(LensName::Consensus)).contains(&"yes".to_string()));
    assert!(w.ask(LensName::Skeptic).winners.is_empty());

    // Denied by a claim that is gone, it is not denied.
    let denial = w.last;
    w.retract(agent(100), denial);
    assert!(answers(&w.ask(LensName::Authority)).contains(&"yes".to_string()));
}

#[test]
fn under_many_recency_asks_who_spoke_last() {
    let mut w = many();
    w.at = Some(Millis(-5));
    w.claim(agent(1), "before 1970");
    w.at = None;
    w.claim(agent(1), "denied later");
    w.claim_with(("s", "not p"), agent(2), text("denied later"), |_| {});
    let found = w.ask(LensName::Recency);
    assert_eq!(answers(&found), ["before 1970"]);
    let sides: Vec<_> = found.values.iter().map(|v| (v.lens_weight, v.lens_against)).collect();
    let now = i128::from(w.now().0);
    assert_eq!(sides, [(now - 1000, now), (-5, NEVER)]);
}

#[test]
fn opposites_keep_their_own_unit_and_cardinality() {
    let mut w = World::new();
    let mut about = predicate("p");
    about.cardinality = Cardinality::Many;
    about.opposites = vec![name("not p")];
    about.unit = Some("mg".into());
    about.conversions = vec![conversion("g", 1000.0, 0.0)];
    w.predicate(about);
    let mut denying = predicate("not p");
    denying.unit = Some("g".into());
    w.predicate(denying);
    w.claim_with(("s", "p"), agent(1), number(500.0), |_| {});
    w.claim_with(("s", "not p"), agent(2), number(7.0), |_| {});
    let newest = w.claim_with(("s", "not p"), agent(2), number(0.5), |_| {});
    let found = w.ask(LensName::Consensus);
    assert_eq!(found.values[0].against, ONE);
    assert_eq!(reasons(&found), [(newest.0 - 1, "replaced")]);
}

#[test]
fn skeptic_maps_what_it_hears() {
    let w = crowd(&[("a", 3), ("b", 1)]);
    let found = w.ask(LensName::Skeptic);
    assert!(found.winners.is_empty() && found.dissent.is_empty());
    assert_eq!(found.values.iter().map(|v| v.lens_share).collect::<Vec<_>>(), [0.75, 0.25]);
    let agents = [agent(3), agent(4)].into();
    let heard = w.ask_with(LensName::Skeptic, |o| o.agents = Some(agents));
    assert_eq!(heard.values.iter().map(|v| v.lens_share).collect::<Vec<_>>(), [0.5, 0.5]);
    assert_eq!(heard.margin, found.margin);
}

#[test]
fn layers_count_tiers_against_each_other() {
    let mut w = World::new();
    let mut say = |n: u8, class: SourceClass, value: &str| {
        w.register(agent(n), class, None);
        w.source(&[uri(&n.to_string())], class);
        w.claim_with(("s", "p"), agent(n), text(value), |c| c.source = uri(&n.to_string()));
    };
    say(1, SourceClass::Regulatory, "a");
    say(2, SourceClass::Clinical, "a");
    say(3, SourceClass::Expert, "b");
    say(4, SourceClass::Expert, "b");
    say(5, SourceClass::Expert, "a");
    let found = w.ask(LensName::Layered);
    let layers: Vec<_> =
        found.layers.iter().map(|layer| (layer.tier.0, layer.values.len(), layer.status)).collect();
    let expected = [(0, 1, Status::Unanimous), (1, 1, Status::Unanimous), (3, 2, Status::Agreed)];
    assert_eq!(layers, expected);
    assert_eq!(found.layers[2].values[0].value, text("b"));
    // Two tiers for a, one for b.
    assert!((found.cross_tier_conflict - 0.918_295_834_054).abs() < 1e-9);
    assert_eq!(answer(&found), Some("a"));
}

#[test]
fn because_names_the_strongest_of_each_voice() {
    let mut w = World::new();
    for n in 1..=14 {
        w.claim_with(("s", "p"), agent(n), text("a"), |c| {
            c.confidence = if n > 12 { 1.0 } else { 0.5 };
        });
    }
    let set = |c: &mut Claim| {
        c.confidence = 0.75;
        c.premises = Arc::from([]);
        c.valid_from = Some(Millis(0));
    };
    let second = w.claim_with(("s", "p"), agent(1), text("a"), set);
    let because = w.ask(LensName::Consensus).values[0].because.clone();
    let positions: Vec<_> = because.iter().map(|position| position.0).collect();
    assert_eq!(positions, [14, 15, second.0, 3, 4, 5, 6, 7, 8, 9]);
}
