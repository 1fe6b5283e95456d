//! Admission: who may write what, and which records do not fit the log.
#![allow(clippy::panic, reason = "test support: an outcome without a letter fails the test")]

mod world;

use stemedb_model::*;
use world::*;

const AUTHOR: AgentId = AgentId([1; 32]);
const REVIEWER: AgentId = AgentId([5; 32]);
const CURATOR: AgentId = AgentId([7; 32]);
const REGISTRAR: AgentId = AgentId([9; 32]);
const NOBODY: AgentId = AgentId([30; 32]);

/// The columns of the table of rights.
fn columns() -> [AgentId; 10] {
    let stranger = agent(2);
    let (replaced, revoked) = (agent(3), agent(4));
    let (curator_below, trust) = (agent(6), agent(8));
    [stranger, AUTHOR, replaced, revoked, REVIEWER, curator_below, CURATOR, trust, REGISTRAR, ROOT]
}

fn peopled() -> World {
    use SourceClass::{Community, Expert, Regulatory};
    let mut world = World::new();
    let all = Role::ALL;
    for (key, ceiling, roles) in [
        (AUTHOR, Expert, &[][..]),
        (agent(3), Regulatory, &all),
        (agent(4), Regulatory, &all),
        (REVIEWER, Expert, &[Role::Reviewer]),
        (agent(6), Community, &[Role::Curator]),
        (CURATOR, Expert, &[Role::Curator]),
        (agent(8), Expert, &[Role::Trust]),
        (REGISTRAR, Regulatory, &[Role::Registrar]),
    ] {
        world.write(ROOT, register(key, ceiling, roles));
    }
    world.write(agent(3), replace(agent(3), agent(13)));
    world.write(ROOT, revoke(agent(4), 1));
    world
}

/// `+` admitted, `-` forbidden, `p` key replaced, `v` key revoked, `c` conflict, `k` wrong kind.
fn outcome(result: Result<(), Refusal>) -> char {
    match result.as_ref().map_err(Refusal::code) {
        Ok(()) => '+',
        Err("forbidden") => '-',
        Err("key_replaced") => 'p',
        Err("key_revoked") => 'v',
        Err("conflict") => 'c',
        Err("wrong_kind") => 'k',
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_right() {
    let mut world = peopled();
    let w = &mut world;
    // The author's claims are of tier expert: one curator's ceiling is below that.
    let expert = claim(SourceClass::Expert);
    let a = w.write(AUTHOR, expert.clone());
    let b = w.write(AUTHOR, expert.clone());
    let poor = w.write(AUTHOR, claim(SourceClass::Anecdotal));
    let vote = w.write(AUTHOR, Body::Vote(Vote { assertion: a, weight: 1.0 }));
    let cosign = w.write(AUTHOR, Body::Cosign(Cosign { assertion: a }));
    let link = w.write(AUTHOR, supersede(poor, b));
    let own_epoch = w.write(AUTHOR, epoch("own", None));
    let c = w.write(AUTHOR, expert.clone());
    let withdrawn = w.write(AUTHOR, retract(c));
    let d = w.write(AUTHOR, expert.clone());
    let curated = w.write(CURATOR, retract(d));
    let uncurated = w.write(CURATOR, retract(curated));
    let verdict = w.write(REVIEWER, lifecycle(a, LifecycleState::Approved));
    let listed = w.write(REGISTRAR, source(&["s"], SourceClass::Clinical));
    let unlisted = w.write(REGISTRAR, retract(listed));
    let banned = w.write(REGISTRAR, retract_source(uri("s")));
    let epoch_banned = w.write(REGISTRAR, retract(own_epoch));
    let named = w.write(REGISTRAR, predicate("size", Cardinality::One));
    let joined = w.write(REGISTRAR, alias("x", "y"));
    let lensed = w.write(REGISTRAR, lens("house", 1));
    let golden = w.write(REGISTRAR, gold("x", true));
    let learned = w.write(REGISTRAR, trust(1));
    let (genesis, registered) = (w.log[0].0, w.log[1].0);

    use LifecycleState::{Approved, Deprecated, Proposed, Rejected, UnderReview};
    let clinical = SourceClass::Clinical;
    // Columns: stranger, author, replaced, revoked, reviewer, curator below the tier, curator,
    // trust, registrar, root.
    for (act, body, expected) in [
        ("genesis", Body::Genesis(Genesis { format: 1, root: ROOT }), "cccccccccc"),
        ("assertion", expert.clone(), "++pv++++++"),
        ("cosign", Body::Cosign(Cosign { assertion: a }), "++pv++++++"),
        ("vote", Body::Vote(Vote { assertion: a, weight: -1.0 }), "++pv++++++"),
        ("epoch", epoch("e", None), "++pv++++++"),
        ("epoch, replace", epoch("e", Some((own_epoch, EpochMode::Replace))), "--pv----++"),
        ("epoch, extend", epoch("e", Some((own_epoch, EpochMode::Extend))), "--pv----++"),
        ("source", source(&["t"], clinical), "--pv----++"),
        ("predicate", predicate("p", Cardinality::Many), "--pv----++"),
        ("alias", alias("x", "z"), "--pv----++"),
        ("lens", lens("house", 2), "--pv----++"),
        ("gold", gold("x", false), "--pv----++"),
        ("trust snapshot", trust(3), "--pv---+++"),
        ("approved", lifecycle(a, Approved), "--pv+----+"),
        ("deprecated", lifecycle(a, Deprecated), "--pv+----+"),
        ("rejected", lifecycle(a, Rejected), "--pv+----+"),
        ("proposed", lifecycle(a, Proposed), "--pv+----+"),
        ("under review", lifecycle(a, UnderReview), "--pv+----+"),
        ("supersede", supersede(a, b), "-+pv--+--+"),
        ("supersede a poor one", supersede(poor, a), "-+pv-++--+"),
        ("retract assertion", retract(a), "-+pv--+--+"),
        ("retract a poor one", retract(poor), "-+pv-++--+"),
        ("retract vote", retract(vote), "-+pv--+--+"),
        ("retract cosign", retract(cosign), "-+pv--+--+"),
        ("retract supersede", retract(link), "-+pv-++--+"),
        ("undo author's retraction", retract(withdrawn), "-+pv--+--+"),
        ("undo curator's retraction", retract(curated), "--pv--+--+"),
        ("undo curator's undoing", retract(uncurated), "--pv--+--+"),
        ("retract lifecycle", retract(verdict), "--pv+----+"),
        ("retract source record", retract(listed), "--pv----++"),
        ("undo that", retract(unlisted), "--pv----++"),
        ("retract source key", retract_source(uri("s")), "--pv----++"),
        ("undo that", retract(banned), "--pv----++"),
        ("retract author's epoch", retract(own_epoch), "-+pv----++"),
        ("undo registrar's of that", retract(epoch_banned), "--pv----++"),
        ("retract predicate", retract(named), "--pv----++"),
        ("retract alias", retract(joined), "--pv----++"),
        ("retract lens", retract(lensed), "--pv----++"),
        ("retract gold", retract(golden), "--pv----++"),
        ("retract genesis", retract(genesis), "kkpvkkkkkk"),
        ("retract agent record", retract(registered), "kkpvkkkkkk"),
        ("retract trust snapshot", retract(learned), "kkpvkkkkkk"),
        ("register", register(NOBODY, clinical, &[Role::Curator]), "--pv----++"),
        ("register a registrar", register(NOBODY, clinical, &[Role::Registrar]), "--pv-----+"),
        ("demote a registrar", register(REGISTRAR, clinical, &[]), "--pv-----+"),
        ("register a revoked one", register(agent(4), clinical, &[]), "--pv-----+"),
        ("register a replaced one", register(agent(3), clinical, &[]), "--pv-----c"),
        ("register root", register(ROOT, clinical, &[]), "ccpvcccccc"),
        ("revoke", revoke(AUTHOR, 1), "--pv----++"),
        ("revoke a stranger", revoke(NOBODY, 1), "--pv----++"),
        ("revoke a registrar", revoke(REGISTRAR, 1), "--pv-----+"),
        ("revoke root", revoke(ROOT, 1), "ccpvcccccc"),
    ] {
        let outcomes: String =
            columns().into_iter().map(|agent| outcome(world.admit(agent, body.clone()))).collect();
        assert_eq!(outcomes, expected, "{act}");
    }
    let replacing: String =
        columns().into_iter().map(|old| outcome(world.admit(old, replace(old, NOBODY)))).collect();
    assert_eq!(replacing, "++pv++++++", "replace one's own key");
}

#[test]
fn rights_are_of_one_space_and_roots_of_all() {
    let mut world = peopled();
    world.space = Space::parse("elsewhere").unwrap();
    let outcomes: String = columns()
        .into_iter()
        .map(|agent| outcome(world.admit(agent, predicate("p", Cardinality::One))))
        .collect();
    assert_eq!(outcomes, "---------+");
}

#[test]
fn references_that_do_not_fit() {
    let mut world = World::new();
    let epoch_id = world.write(AUTHOR, epoch("e", None));
    let a = world.write(AUTHOR, claim(SourceClass::Expert));
    let b = world.write(AUTHOR, claim(SourceClass::Expert));
    let c = world.write(AUTHOR, claim(SourceClass::Expert));
    world.write(AUTHOR, supersede(a, b));
    world.write(AUTHOR, supersede(b, c));
    world.write(ROOT, lens("house", 1));
    world.space = Space::parse("elsewhere").unwrap();
    let far = world.write(AUTHOR, claim(SourceClass::Expert));
    let far_epoch = world.write(AUTHOR, epoch("e", None));
    world.space = Space::default();
    let none = RecordId([9; 32]);
    let with = |change: &dyn Fn(&mut Assertion)| {
        let mut body = claim(SourceClass::Expert);
        if let Body::Assertion(claim) = &mut body {
            change(claim);
        }
        body
    };
    let next = world.last().0 + 1;

    for (code, body) in [
        ("unknown_reference", with(&|claim| claim.parent = Some(none))),
        ("wrong_space", with(&|claim| claim.parent = Some(far))),
        ("wrong_kind", with(&|claim| claim.parent = Some(epoch_id))),
        ("unknown_reference", with(&|claim| claim.derived_from = vec![a, none])),
        ("wrong_space", with(&|claim| claim.derived_from = vec![a, far])),
        ("wrong_kind", with(&|claim| claim.derived_from = vec![a, epoch_id])),
        ("unknown_reference", with(&|claim| claim.epoch = Some(none))),
        ("wrong_space", with(&|claim| claim.epoch = Some(far_epoch))),
        ("wrong_kind", with(&|claim| claim.epoch = Some(a))),
        ("unknown_reference", Body::Cosign(Cosign { assertion: none })),
        ("wrong_kind", Body::Cosign(Cosign { assertion: epoch_id })),
        ("unknown_reference", Body::Vote(Vote { assertion: none, weight: 1.0 })),
        ("wrong_space", Body::Vote(Vote { assertion: far, weight: 1.0 })),
        ("unknown_reference", epoch("f", Some((none, EpochMode::Replace)))),
        ("wrong_space", epoch("f", Some((far_epoch, EpochMode::Replace)))),
        ("wrong_kind", epoch("f", Some((a, EpochMode::Replace)))),
        ("unknown_reference", lifecycle(none, LifecycleState::Approved)),
        ("wrong_space", lifecycle(far, LifecycleState::Approved)),
        ("wrong_kind", lifecycle(epoch_id, LifecycleState::Approved)),
        ("unknown_reference", retract(none)),
        ("wrong_space", retract(far)),
        ("unknown_reference", supersede(none, a)),
        ("unknown_reference", supersede(a, none)),
        ("wrong_space", supersede(a, far)),
        ("wrong_kind", supersede(a, epoch_id)),
        ("cycle", supersede(c, a)),
        ("cycle", supersede(b, a)),
        ("conflict", lens("house", 1)),
        ("conflict", trust(next)),
    ] {
        // Root has every right, so what is refused is the reference.
        let refusal = world.admit(ROOT, body.clone()).expect_err(code);
        assert_eq!(refusal.code(), code, "{body:?}: {refusal}");
        assert!(!refusal.is_forbidden(), "{refusal}");
    }
    for fits in [supersede(a, c), lens("house", 2), trust(next - 1)] {
        assert_eq!(world.admit(ROOT, fits), Ok(()));
    }
    world.write(ROOT, retract(c));
    let cycle = world.admit(ROOT, supersede(c, a)).expect_err("undone links come back");
    assert_eq!(cycle.code(), "cycle");
}

#[test]
fn a_record_for_another_log_or_before_genesis() {
    let world = World::new();
    let admit_at = |registry: &Registry, position, record: &Record| {
        admit(registry, &world, Position(position), record, &Policy::default())
            .map_err(|refusal| refusal.code())
    };
    let mut record = world.record(AUTHOR, epoch("e", None));
    assert_eq!(admit_at(&world.registry, 2, &record), Ok(()));
    record.log_id = Some(LogId([8; 16]));
    assert_eq!(admit_at(&world.registry, 2, &record), Err("wrong_log"));
    record.log_id = None;
    assert_eq!(admit_at(&world.registry, 2, &record), Err("wrong_log"));

    let genesis = world.record(ROOT, Body::Genesis(Genesis { format: 1, root: ROOT }));
    let empty = Registry::default();
    assert_eq!(admit_at(&empty, 1, &genesis), Ok(()));
    assert_eq!(admit_at(&empty, 2, &genesis), Err("conflict"));
    let claim = world.record(AUTHOR, claim(SourceClass::Expert));
    assert_eq!(admit_at(&empty, 1, &claim), Err("conflict"));
    assert_eq!(admit_at(&world.registry, 1, &claim), Err("conflict"));
}

#[test]
fn registration_can_be_required() {
    let world = peopled();
    let policy = Policy { require_registration: true };
    let codes = columns().map(|agent| {
        let record = world.record(agent, claim(SourceClass::Expert));
        let position = world.last().next();
        admit(&world.registry, &world, position, &record, &policy).err().map(|r| r.code())
    });
    let mut expected = [None; 10];
    (expected[0], expected[2]) = (Some("agent_unregistered"), Some("key_replaced"));
    expected[3] = Some("key_revoked");
    assert_eq!(codes, expected);
}

#[test]
fn a_new_key_owns_what_the_old_one_wrote() {
    let mut world = peopled();
    let claim = world.write(AUTHOR, claim(SourceClass::Expert));
    world.write(AUTHOR, replace(AUTHOR, agent(20)));
    world.write(agent(20), replace(agent(20), agent(21)));
    assert_eq!(outcome(world.admit(agent(20), retract(claim))), 'p');
    world.write(agent(21), retract(claim));
    // A stolen key: the registrar revokes it from before the replacement, which ceases.
    world.write(REGISTRAR, revoke(AUTHOR, 1));
    assert_eq!(outcome(world.admit(agent(21), retract(claim))), '-');
}

#[test]
fn a_new_key_is_an_unused_one() {
    let mut world = peopled();
    world.write(agent(40), replace(agent(40), agent(41)));
    world.write(REGISTRAR, revoke(agent(42), 1));
    for used in [ROOT, REVIEWER, agent(4), agent(40), agent(41), agent(42)] {
        let refusal = world.admit(AUTHOR, replace(AUTHOR, used)).expect_err("used");
        assert_eq!(refusal.code(), "conflict", "{used}");
    }
    // Another space's keys are other agents, except for root, which is one in all.
    world.space = Space::parse("elsewhere").unwrap();
    assert_eq!(world.admit(AUTHOR, replace(AUTHOR, REVIEWER)), Ok(()));
    assert_eq!(outcome(world.admit(ROOT, replace(ROOT, REVIEWER))), 'c');
}

#[test]
fn root_passes_on() {
    let mut world = peopled();
    let new = agent(50);
    world.write(ROOT, replace(ROOT, new));
    assert_eq!(outcome(world.admit(ROOT, gold("x", true))), 'p');
    world.space = Space::parse("elsewhere").unwrap();
    world.write(new, register(NOBODY, SourceClass::Expert, &[Role::Registrar]));
    for key in [ROOT, new] {
        assert_eq!(outcome(world.admit(new, revoke(key, 1))), 'c');
    }
    assert_eq!(world.state(ROOT).replaced_by, Some(new));
    assert_eq!((world.state(new).root, world.state(new).lineage), (true, ROOT));
    assert_eq!(world.tier(ROOT, &uri("s"), Some(SourceClass::Expert)), Tier(3));
}

#[test]
fn only_earlier_records_decide() {
    // A registry and a store that are ahead answer as if they ended before the record.
    let mut world = World::new();
    let early = world.record(AUTHOR, predicate("p", Cardinality::One));
    let position = world.last().next();
    let refused = |world: &World| {
        admit(&world.registry, world, position, &early, &Policy::default()).unwrap_err().code()
    };
    assert_eq!(refused(&world), "forbidden");
    world.write(ROOT, register(AUTHOR, SourceClass::Expert, &[Role::Registrar]));
    assert_eq!(refused(&world), "forbidden");
    let claim = world.write(AUTHOR, claim(SourceClass::Expert));
    let vote = world.record(AUTHOR, Body::Vote(Vote { assertion: claim, weight: 1.0 }));
    let at = |position| admit(&world.registry, &world, position, &vote, &Policy::default());
    assert_eq!(at(position).unwrap_err().code(), "unknown_reference");
    assert_eq!(at(world.last().next()), Ok(()));
    assert_eq!(world.admit(AUTHOR, predicate("p", Cardinality::One)), Ok(()));
}

#[test]
fn refusals_name_the_thing_and_the_remedy() {
    let world = peopled();
    for (agent, body, parts) in [
        (AUTHOR, gold("x", true), ["gold", "registrar"]),
        (agent(4), gold("x", true), ["revoked", "another key"]),
        (agent(3), gold("x", true), ["replaced", "0d0d0d0d"]),
        (AUTHOR, retract(RecordId([9; 32])), ["record: ", "09090909"]),
    ] {
        let message = world.admit(agent, body).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }
}
