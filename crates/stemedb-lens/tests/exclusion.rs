//! Step 1 by table: who takes part, who does not and why, and who comes back.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use stemedb_lens::{FactKind, LensName, standings};
use stemedb_model::{
    Cardinality, EpochMode, LifecycleState, Millis, Position, Role, SourceClass, Tier,
};
use support::*;

/// What happened, in words and in records; the winner by recency; the excluded with reasons.
type Case<'a> = (&'a str, World, Option<&'a str>, &'a [(u64, &'a str)]);

/// Plays histories whose claims are of the key ("s", "p") and by agents 1, 2, 3.
fn table(cases: Vec<Case<'_>>) {
    for (case, world, winner, excluded) in cases {
        let resolution = world.ask(LensName::Recency);
        assert_eq!(answer(&resolution), winner, "{case}");
        assert_eq!(reasons(&resolution), excluded, "{case}");
    }
}

fn world(play: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    play(&mut world);
    world
}

#[test]
fn retractions_undo_one_another() {
    table(vec![
        ("nothing", world(|_| {}), None, &[]),
        (
            "retracted",
            world(|w| {
                w.claim(agent(1), "a");
                let b = w.claim(agent(2), "b");
                w.retract(agent(2), b);
            }),
            Some("a"),
            &[(3, "retracted")],
        ),
        (
            "the retraction retracted",
            world(|w| {
                w.claim(agent(1), "a");
                let b = w.claim(agent(2), "b");
                let r = w.retract(agent(2), b);
                w.retract(agent(2), r);
            }),
            Some("b"),
            &[],
        ),
        (
            "three deep",
            world(|w| {
                let a = w.claim(agent(1), "a");
                let r = w.retract(agent(1), a);
                let rr = w.retract(agent(1), r);
                w.retract(agent(1), rr);
            }),
            None,
            &[(2, "retracted")],
        ),
        (
            "two retractions, one undone",
            world(|w| {
                let a = w.claim(agent(1), "a");
                let r = w.retract(agent(1), a);
                w.retract(ROOT, a);
                w.retract(agent(1), r);
            }),
            None,
            &[(2, "retracted")],
        ),
        (
            "by a key revoked from before it",
            world(|w| {
                w.register_as(agent(9), SourceClass::Expert, None, &[Role::Curator]);
                let a = w.claim(agent(1), "a");
                let r = w.retract(agent(9), a);
                w.revoke(agent(9), r);
            }),
            Some("a"),
            &[],
        ),
        (
            "by a key revoked from after it",
            world(|w| {
                w.register_as(agent(9), SourceClass::Expert, None, &[Role::Curator]);
                let a = w.claim(agent(1), "a");
                let r = w.retract(agent(9), a);
                w.revoke(agent(9), r.next());
            }),
            None,
            &[(3, "retracted")],
        ),
        (
            "a source key, whoever cites it by any of its names",
            world(|w| {
                w.source(&[uri("x"), uri("y")], SourceClass::Expert);
                for (n, source) in [(1, "x"), (2, "y"), (3, "z")] {
                    w.claim_with(("s", "p"), agent(n), text(source), |c| c.source = uri(source));
                }
                w.retract_source(uri("x"));
            }),
            Some("z"),
            &[(3, "source_retracted"), (4, "source_retracted")],
        ),
        (
            "a source key, undone",
            world(|w| {
                w.claim_with(("s", "p"), agent(1), text("x"), |c| c.source = uri("x"));
                let r = w.retract_source(uri("x"));
                w.retract(ROOT, r);
            }),
            Some("x"),
            &[],
        ),
    ]);
}

#[test]
fn one_statement_per_agent_key_and_interval() {
    let from = |w: &mut World, value: &str, from: Option<i64>| {
        w.claim_with(("s", "p"), agent(1), text(value), |c| c.valid_from = from.map(Millis))
    };
    table(vec![
        (
            "the newest",
            world(|w| {
                for value in ["a", "b", "c"] {
                    w.claim(agent(1), value);
                }
            }),
            Some("c"),
            &[(2, "replaced"), (3, "replaced")],
        ),
        (
            "retracting it revives the one before",
            world(|w| {
                for value in ["a", "b"] {
                    w.claim(agent(1), value);
                }
                let c = w.claim(agent(1), "c");
                w.retract(agent(1), c);
            }),
            Some("b"),
            &[(2, "replaced"), (4, "retracted")],
        ),
        (
            "other agents keep theirs",
            world(|w| {
                w.claim(agent(1), "a");
                w.claim(agent(2), "b");
            }),
            Some("b"),
            &[],
        ),
        (
            "a new key of the same agent",
            world(|w| {
                w.register(agent(1), SourceClass::Expert, None);
                w.claim(agent(1), "a");
                w.rotate(agent(1), agent(2));
                w.claim(agent(2), "b");
            }),
            Some("b"),
            &[(3, "replaced")],
        ),
        (
            "other intervals are other statements",
            world(|w| {
                from(w, "a", None);
                from(w, "b", Some(BEGINNING));
                from(w, "c", Some(BEGINNING));
                from(w, "d", Some(BEGINNING + 365 * DAY));
            }),
            Some("c"),
            &[(3, "replaced"), (5, "not_valid_then")],
        ),
        (
            "a statement that is not valid then still replaces",
            world(|w| {
                let to = |c: &mut stemedb_lens::Claim| c.valid_to = Some(Millis(BEGINNING));
                w.claim_with(("s", "p"), agent(1), text("a"), to);
                w.claim_with(("s", "p"), agent(1), text("b"), to);
            }),
            None,
            &[(2, "replaced"), (3, "not_valid_then")],
        ),
        (
            "a child replaces its author's parent in another interval",
            world(|w| {
                let a = from(w, "a", None);
                w.claim_with(("s", "p"), agent(1), text("b"), |c| {
                    c.parent = Some(a);
                    c.valid_from = Some(Millis(BEGINNING));
                });
            }),
            Some("b"),
            &[(2, "replaced")],
        ),
        (
            "nobody else's",
            world(|w| {
                let a = w.claim(agent(1), "a");
                w.claim_with(("s", "p"), agent(2), text("b"), |c| c.parent = Some(a));
            }),
            Some("b"),
            &[],
        ),
    ]);
}

#[test]
fn under_many_only_a_child_replaces() {
    let mut w = World::new();
    let mut many = predicate("p");
    many.cardinality = Cardinality::Many;
    w.predicate(many);
    w.claim(agent(1), "a");
    let b = w.claim(agent(1), "b");
    w.claim_with(("s", "p"), agent(1), text("c"), |c| c.parent = Some(b));
    let resolution = w.ask(LensName::Consensus);
    assert_eq!(reasons(&resolution), [(4, "replaced")]);
    let mut winners = answers(&resolution);
    winners.sort();
    assert_eq!(winners, ["a", "c"]);
}

#[test]
fn supersession_holds_while_the_new_one_lives() {
    let pair = |w: &mut World| (w.claim(agent(1), "a"), w.claim(agent(2), "b"));
    table(vec![
        (
            "holds",
            world(|w| {
                let (a, b) = pair(w);
                w.supersede(agent(2), b, a);
            }),
            Some("a"),
            &[(3, "superseded")],
        ),
        (
            "the new one retracted",
            world(|w| {
                let (a, b) = pair(w);
                w.supersede(agent(2), b, a);
                w.retract(agent(1), a);
            }),
            Some("b"),
            &[(2, "retracted")],
        ),
        (
            "the link retracted",
            world(|w| {
                let (a, b) = pair(w);
                let link = w.supersede(agent(2), b, a);
                w.retract(agent(2), link);
            }),
            Some("b"),
            &[],
        ),
        (
            "a chain leaves its end",
            world(|w| {
                let (a, b) = pair(w);
                let c = w.claim(agent(3), "c");
                w.supersede(agent(1), a, b);
                w.supersede(agent(2), b, c);
            }),
            Some("c"),
            &[(2, "superseded"), (3, "superseded")],
        ),
        (
            "a chain whose end is gone leaves the one before",
            world(|w| {
                let (a, b) = pair(w);
                let c = w.claim(agent(3), "c");
                w.supersede(agent(1), a, b);
                w.supersede(agent(2), b, c);
                w.retract(agent(3), c);
            }),
            Some("b"),
            &[(2, "superseded"), (4, "retracted")],
        ),
        (
            "a deprecated claim supersedes nothing",
            world(|w| {
                let (a, b) = pair(w);
                w.supersede(agent(2), b, a);
                w.lifecycle(a, LifecycleState::Deprecated);
            }),
            Some("b"),
            &[(2, "lifecycle")],
        ),
        (
            "a claim of another key supersedes too",
            world(|w| {
                let (_, b) = pair(w);
                let other = w.claim_with(("u", "q"), agent(3), text("z"), |_| {});
                w.supersede(agent(2), b, other);
            }),
            Some("a"),
            &[(3, "superseded")],
        ),
        (
            "a circle closed by undoing a retraction: the last link does not hold",
            world(|w| {
                let (a, b) = pair(w);
                let there = w.supersede(agent(1), a, b);
                let undo = w.retract(agent(1), there);
                w.supersede(agent(2), b, a);
                w.retract(agent(1), undo);
            }),
            Some("b"),
            &[(2, "superseded")],
        ),
        (
            "a revision that rests on what it revises stands",
            world(|w| {
                let a = w.claim(agent(1), "a");
                let on = |c: &mut stemedb_lens::Claim| c.premises = Arc::from([a]);
                let b = w.claim_with(("s", "p"), agent(2), text("b"), on);
                w.supersede(agent(1), a, b);
                w.claim_with(("s", "p"), agent(3), text("c"), on);
            }),
            Some("b"),
            // A third that rests on it falls.
            &[(2, "superseded"), (5, "undermined")],
        ),
    ]);
}

#[test]
fn what_rests_on_the_fallen_falls() {
    // c rests on b, b on a; what happens to a?
    let chain = |fate: &dyn Fn(&mut World, Position) -> Position| {
        world(|w| {
            w.register_as(agent(9), SourceClass::Expert, None, &[Role::Reviewer]);
            w.register(agent(1), SourceClass::Expert, None);
            let era = w.epoch(None);
            let a = w.claim_with(("u", "q"), agent(1), text("a"), |c| {
                c.epoch = Some(era);
                c.source = uri("x");
                c.valid_to = Some(Millis(BEGINNING + 3_600_000));
            });
            let b = w.claim_with(("u", "q"), agent(2), text("b"), |c| c.premises = Arc::from([a]));
            w.claim_with(("s", "p"), agent(3), text("c"), |c| c.premises = Arc::from([b]));
            fate(w, a);
        })
    };
    let fallen: &[(u64, &str)] = &[(7, "undermined")];
    let stands: &[(u64, &str)] = &[];
    table(vec![
        ("nothing", chain(&|_, a| a), Some("c"), stands),
        ("retracted", chain(&|w, a| w.retract(agent(1), a)), None, fallen),
        ("its source retracted", chain(&|w, _| w.retract_source(uri("x"))), None, fallen),
        (
            "superseded",
            chain(&|w, a| {
                let new = w.claim_with(("u", "q"), agent(4), text("new"), |_| {});
                w.supersede(agent(1), a, new)
            }),
            None,
            fallen,
        ),
        (
            "its epoch replaced",
            chain(&|w, _| w.epoch(Some((Position(4), EpochMode::Replace)))),
            None,
            fallen,
        ),
        (
            "its epoch extended",
            chain(&|w, _| w.epoch(Some((Position(4), EpochMode::Extend)))),
            Some("c"),
            stands,
        ),
        ("its author revoked", chain(&|w, a| w.revoke(agent(1), a)), None, fallen),
        ("rejected", chain(&|w, a| w.lifecycle(a, LifecycleState::Rejected)), None, fallen),
        (
            "deprecated",
            chain(&|w, a| w.lifecycle(a, LifecycleState::Deprecated)),
            Some("c"),
            stands,
        ),
        (
            "replaced",
            chain(&|w, _| w.claim_with(("u", "q"), agent(1), text("b"), |_| {})),
            Some("c"),
            stands,
        ),
    ]);
    // Not valid then: a no longer is after an hour, and nothing follows from that.
    let later = chain(&|_, a| a).ask_with(LensName::Recency, |o| o.valid_at.0 += 7_200_000);
    assert_eq!((answer(&later), reasons(&later)), (Some("c"), vec![]));
    // Readers who do not mind old epochs do not mind what rests on them.
    let replaced = chain(&|w, _| w.epoch(Some((Position(4), EpochMode::Replace))));
    let unaware = replaced.ask_with(LensName::Recency, |o| o.epoch_aware = false);
    assert_eq!(answer(&unaware), Some("c"));
}

#[test]
fn lifecycle_states() {
    use LifecycleState::{Approved, Deprecated, Proposed, Rejected, UnderReview};
    let declared = |state: LifecycleState, reviewer: bool| {
        world(|w| {
            let roles: &[Role] = if reviewer { &[Role::Reviewer] } else { &[] };
            w.register_as(agent(1), SourceClass::Expert, None, roles);
            w.claim_with(("s", "p"), agent(1), text("a"), |c| c.lifecycle = state);
        })
    };
    let state_of = |w: &World| standings(&w.candidates(), &w.options(LensName::Authority))[0].state;
    for (state, reviewer, counts_as) in [
        (Proposed, false, Proposed),
        (UnderReview, false, UnderReview),
        (Approved, false, Proposed),
        (Deprecated, false, Proposed),
        (Rejected, false, Proposed),
        (Approved, true, Approved),
        (Deprecated, true, Deprecated),
        (Rejected, true, Rejected),
    ] {
        let w = declared(state, reviewer);
        assert_eq!(state_of(&w), counts_as, "{state:?} by a reviewer: {reviewer}");
        let live = !matches!(counts_as, Deprecated | Rejected);
        assert_eq!(w.ask(LensName::Authority).winners.len(), usize::from(live));
    }
    // The newest live record holds; without any, what was declared.
    let mut w = declared(UnderReview, false);
    let claim = w.last;
    w.lifecycle(claim, Approved);
    let rejection = w.lifecycle(claim, Rejected);
    assert_eq!(state_of(&w), Rejected);
    w.retract(ROOT, rejection);
    assert_eq!(state_of(&w), Approved);
    w.retract(ROOT, Position(rejection.0 - 1));
    assert_eq!(state_of(&w), UnderReview);
    // Who asks for the rejected gets them; who asks for the approved filters the others.
    w.lifecycle(claim, Rejected);
    let ask = |states: &[LifecycleState]| {
        let states: BTreeSet<_> = states.iter().copied().collect();
        w.ask_with(LensName::Recency, |o| o.lifecycle = Some(states))
    };
    assert_eq!(answer(&ask(&[Rejected])), Some("a"));
    assert_eq!(reasons(&ask(&[Approved])), [(claim.0, "lifecycle")]);
    let proposed = declared(Proposed, false)
        .ask_with(LensName::Recency, |o| o.lifecycle = Some(BTreeSet::from([Approved])));
    assert_eq!(reasons(&proposed), [(3, "filtered")]);
    // Filtered, but still part of the disagreement.
    assert_eq!(proposed.status, stemedb_lens::Status::Unanimous);
    assert!(proposed.winners.is_empty());
}

#[test]
fn a_revoked_author_leaves_the_claim_to_its_best_cosigner() {
    let revoked = |play: &dyn Fn(&mut World, Position) -> Position| {
        world(|w| {
            w.register(agent(1), SourceClass::Regulatory, None);
            w.register(agent(2), SourceClass::Clinical, Some("trials"));
            w.register(agent(3), SourceClass::Observational, None);
            w.source(&[uri("x")], SourceClass::Regulatory);
            let claim = w.claim_with(("s", "p"), agent(1), text("a"), |c| {
                c.source = uri("x");
                c.class = Some(SourceClass::Regulatory);
            });
            play(w, claim);
            w.revoke(agent(1), claim);
        })
    };
    let standing = |w: &World| {
        let standing = standings(&w.candidates(), &w.options(LensName::Authority)).remove(0);
        let voice = standing.voice.map(|voice| format!("{voice:?}")).unwrap_or_default();
        let excluded = standing.excluded.map(|excluded| (excluded.reason.as_str(), excluded.by));
        (excluded, standing.tier, standing.cosign, voice)
    };
    let alone = revoked(&|_, a| a);
    assert_eq!(standing(&alone).0, Some(("agent_revoked", Some(alone.last))));
    for (case, play, tier, cosign, voice) in [
        (
            "the better ceiling before the older",
            &(|w: &mut World, a| {
                w.cosign(agent(3), a);
                w.cosign(agent(2), a)
            }) as &dyn Fn(&mut World, Position) -> Position,
            1,
            8,
            "trials",
        ),
        ("an unregistered one", &|w, a| w.cosign(agent(7), a), 5, 7, "p7"),
        (
            "not the author",
            &|w, a| {
                w.cosign(agent(1), a);
                w.cosign(agent(3), a)
            },
            2,
            8,
            "0303",
        ),
        (
            "the next if the first is retracted",
            &|w, a| {
                let first = w.cosign(agent(2), a);
                w.cosign(agent(3), a);
                w.retract(agent(2), first)
            },
            2,
            8,
            "0303",
        ),
        (
            "the older of equals",
            &|w, a| {
                w.register(agent(4), SourceClass::Clinical, None);
                w.cosign(agent(4), a);
                w.cosign(agent(2), a)
            },
            1,
            8,
            "0404",
        ),
    ] {
        let (excluded, found_tier, found_cosign, found_voice) = standing(&revoked(play));
        assert_eq!((excluded, found_tier), (None, Tier(tier)), "{case}");
        assert_eq!(found_cosign, Some(Position(cosign)), "{case}");
        assert!(found_voice.contains(voice), "{case}: {found_voice}");
    }
    // Cosigns add nothing while the author stands.
    let mut w = World::new();
    let claim = w.claim(agent(1), "a");
    let before = w.ask(LensName::Consensus).values[0].clone();
    w.cosign(agent(2), claim);
    assert_eq!(w.ask(LensName::Consensus).values[0], before);
}

#[test]
fn authority_is_not_borrowed_from_conclusions() {
    let mut w = World::new();
    w.register(agent(1), SourceClass::Regulatory, None);
    w.source(&[uri("label")], SourceClass::Regulatory);
    let post = w.claim_with(("u", "q"), agent(9), text("gossip"), |_| {});
    let regulatory = |c: &mut stemedb_lens::Claim| {
        c.source = uri("label");
        c.class = Some(SourceClass::Regulatory);
    };
    let step = w.claim_with(("u", "q"), agent(1), text("hence"), |c| {
        regulatory(c);
        c.premises = Arc::from([post]);
    });
    for (premises, tier) in [
        (vec![], 0),
        (vec![post], 5),
        (vec![step], 5),
        (vec![Position(500)], 5), // unknown here: nothing to stand on
        (vec![w.last.next()], 5), // itself: not a premise either
    ] {
        let mut w = w.clone();
        w.claim_with(("s", "p"), agent(1), text("a"), |c| {
            regulatory(c);
            c.premises = Arc::from(premises.clone());
        });
        let standing = &standings(&w.candidates(), &w.options(LensName::Authority))[0];
        assert_eq!(standing.tier, Tier(tier), "{premises:?}");
    }
}

#[test]
fn claimed_time_chooses_records() {
    let mut w = World::new();
    let day = |n: i64| Some(Millis(BEGINNING - 100 * DAY + n * DAY));
    w.at = day(1);
    let a = w.claim(agent(1), "a");
    w.at = day(3);
    let b = w.claim(agent(2), "b");
    w.at = day(5);
    w.retract(agent(2), b);
    w.at = day(7);
    let c = w.claim(agent(3), "c");
    w.at = day(9);
    w.supersede(agent(1), a, c);
    for (before, winner, excluded) in [
        (day(1), None, vec![]),
        (day(2), Some("a"), vec![]),
        (day(4), Some("b"), vec![]),
        (day(5), Some("b"), vec![]),
        (day(6), Some("a"), vec![(3, "retracted")]),
        (day(8), Some("c"), vec![(3, "retracted")]),
        (day(10), Some("c"), vec![(2, "superseded"), (3, "retracted")]),
        (None, Some("c"), vec![(2, "superseded"), (3, "retracted")]),
    ] {
        let found = w.ask_with(LensName::Recency, |o| o.asserted_before = before);
        assert_eq!((answer(&found), reasons(&found)), (winner, excluded), "{before:?}");
    }
    // As of positions.
    for (as_of, winner) in
        [(1, None), (2, Some("a")), (3, Some("b")), (4, Some("a")), (5, Some("c"))]
    {
        let candidates = w.candidates_at(("s", "p"), Position(as_of));
        let found = stemedb_lens::resolve(&candidates, &w.options(LensName::Recency), None);
        assert_eq!(answer(&found), winner, "{as_of}");
    }
}

#[test]
fn filters_keep_claims_from_the_answer_only() {
    let mut w = World::new();
    w.register(agent(1), SourceClass::Expert, None);
    w.source(&[uri("x"), uri("also x")], SourceClass::Expert);
    w.claim_with(("s", "p"), agent(1), text("a"), |c| {
        c.source = uri("x");
        c.confidence = 0.4;
    });
    w.claim(agent(2), "b");
    w.rotate(agent(1), agent(3));
    let all = w.ask(LensName::Consensus);
    for (case, found) in [
        ("confidence", w.ask_with(LensName::Consensus, |o| o.min_confidence = Some(0.5))),
        ("tier", w.ask_with(LensName::Consensus, |o| o.tiers = Some([Tier(5)].into()))),
        ("agent", w.ask_with(LensName::Consensus, |o| o.agents = Some([agent(2)].into()))),
    ] {
        assert_eq!(answer(&found), Some("b"), "{case}");
        assert_eq!(reasons(&found), [(4, "filtered")], "{case}");
        let shares = |r: &stemedb_lens::Resolution| {
            let mut shares: Vec<_> =
                r.values.iter().map(|v| (v.value.clone(), v.share.to_bits())).collect();
            shares.sort();
            (shares, r.status, r.margin.to_bits(), r.conflict_score.to_bits())
        };
        assert_eq!(shares(&found), shares(&all), "{case}");
        let unheard = found.values.iter().find(|value| value.value == text("a")).unwrap();
        assert_eq!((unheard.claims, unheard.lens_share), (0, 0.0), "{case}");
    }
    // By any name of a source, by any key of an agent.
    let by_source = w.ask_with(LensName::Consensus, |o| o.sources = Some([uri("also x")].into()));
    assert_eq!(answer(&by_source), Some("a"));
    let by_agent = w.ask_with(LensName::Consensus, |o| o.agents = Some([agent(3)].into()));
    assert_eq!(answer(&by_agent), Some("a"));
    // Exactly on the bound is in.
    let bound = w.ask_with(LensName::Consensus, |o| o.min_confidence = Some(0.4));
    assert!(bound.excluded.is_empty());
}

#[test]
fn depth_chosen_by_callers_costs_no_stack() {
    let mut w = World::new();
    let mut last = w.claim_with(("u", "q"), agent(1), text("0"), |_| {});
    let first = last;
    for _ in 0..20_000 {
        let next =
            w.claim_with(("u", "q"), agent(1), text("n"), |c| c.premises = Arc::from([last]));
        w.facts.push(stemedb_lens::Fact {
            position: Position(1_000_000 + next.0),
            target: last,
            agent: agent(1),
            principal: principal("p1"),
            at: Millis(0),
            recorded_at: Millis(0),
            kind: FactKind::Supersede { new: next },
        });
        last = next;
    }
    w.claim_with(("s", "p"), agent(2), text("a"), |c| c.premises = Arc::from([last]));
    let mut candidates = w.candidates();
    candidates.as_of = Position::MAX;
    candidates.facts.push(stemedb_lens::Fact {
        position: Position(2_000_000),
        target: first,
        agent: agent(1),
        principal: principal("p1"),
        at: Millis(0),
        recorded_at: Millis(0),
        kind: FactKind::Retract,
    });
    let found = stemedb_lens::resolve(&candidates, &w.options(LensName::Authority), None);
    assert_eq!(reasons(&found), [(last.0 + 1, "undermined")]);
}
