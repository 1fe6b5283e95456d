//! Random histories: the crate against the slow reference, bit for bit, and what must not matter.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

mod reference;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reference::Reference;
use stemedb_lens::{
    Became, Candidates, CustomLens, Decay, FactKind, LensName, Options, Question, Reason,
    Reliability, Resolution, changes, published, resolve, resolve_many, standings,
};
use stemedb_model::{
    AgentId, Aggregate, Cardinality, EpochMode, Hash, Key, Lens, LifecycleState, Millis, Position,
    Role, SourceClass, SourceKey, TieRule, Tier, Value,
};
use support::*;

/// One step of a history; what the numbers mean is [`play`]'s business.
type Step = (u8, [u8; 8]);

fn pick<T: Clone>(from: &[T], n: u8) -> T {
    from[usize::from(n) % from.len()].clone()
}

/// An earlier record: `n` steps back, more or less.
fn earlier(world: &World, n: u8) -> Position {
    Position(world.last.0.saturating_sub(u64::from(n) % 12).max(1))
}

fn earlier_claim(world: &World, n: u8) -> Option<Position> {
    let count = world.claims.len();
    (count > 0).then(|| world.claims[(count - 1).saturating_sub(usize::from(n) % 6)].position)
}

fn values() -> Vec<Value> {
    vec![
        text("a"),
        text("b"),
        text("c"),
        number(10.0),
        number(10.5),
        number(11.0),
        number(11.4),
        number(-10.0),
        measure(10.0, "mg"),
        measure(0.0105, "g"),
        measure(10.0, "stone"),
        Value::Reference(subject("s")),
        Value::Reference(subject("t")),
        Value::Reference(subject("u")),
        Value::Time(Millis(1000)),
        Value::Time(Millis(1009)),
        Value::Boolean(true),
        Value::Boolean(false),
    ]
}

fn sources() -> Vec<SourceKey> {
    vec![uri("x"), uri("y"), uri("z"), SourceKey::Evidence(Hash([9; 32]))]
}

const STATES: [LifecycleState; 5] = [
    LifecycleState::Proposed,
    LifecycleState::UnderReview,
    LifecycleState::Approved,
    LifecycleState::Deprecated,
    LifecycleState::Rejected,
];

/// Moments before, at and after what happens, and none.
fn moment(n: u8) -> Option<Millis> {
    match n % 32 {
        4 => Some(Millis(BEGINNING - 40 * DAY)),
        5 => Some(Millis(BEGINNING + 5_000)),
        6 => Some(Millis(BEGINNING + 15_000)),
        7 | 8 => Some(Millis(BEGINNING + 40_000)),
        9 => Some(Millis(BEGINNING + 400 * DAY)),
        _ => None,
    }
}

fn play(steps: &[Step]) -> World {
    let mut world = World::new();
    for n in 0..12 {
        // Agents 6 and up share a principal.
        world.principals.insert(agent(n), principal(&format!("p{}", n.min(6))));
    }
    world.register(agent(0), SourceClass::Regulatory, None);
    world.register(agent(1), SourceClass::Clinical, None);
    world.register(agent(2), SourceClass::Observational, Some("o"));
    world.register(agent(3), SourceClass::Regulatory, Some("o"));
    world.source(&[uri("x")], SourceClass::Regulatory);
    world.source(&[uri("y")], SourceClass::Clinical);
    for (kind, n) in steps {
        step(&mut world, *kind, *n);
    }
    world
}

fn step(world: &mut World, kind: u8, n: [u8; 8]) {
    let by = agent(n[0] % 10);
    world.at = match n[7] % 6 {
        0..=2 => None,
        3 => Some(Millis(BEGINNING + 5_000 + i64::from(n[6]))),
        4 => Some(Millis(BEGINNING - i64::from(n[6]) * DAY)),
        _ => Some(Millis(BEGINNING + i64::from(n[6]) * 1_000)),
    };
    match kind % 40 {
        0..=15 => {
            let key =
                (pick(&["s", "s", "s", "t", "u"], n[1]), pick(&["p", "p", "p", "not p"], n[2]));
            let (parent, premise) = (earlier_claim(world, n[6]), earlier_claim(world, n[5]));
            let other = earlier_claim(world, n[4]);
            let epoch = world.epochs.last().map(|(position, _)| *position);
            let object = pick(&values(), n[3] / 2 % if n[3].is_multiple_of(2) { 4 } else { 18 });
            world.claim_with(key, by, object, |claim| {
                claim.confidence = pick(&[1.0, 1.0, 0.5, 0.3, 0.0, 1e-9], n[4] / 2);
                if !n[5].is_multiple_of(3) {
                    claim.source = pick(&sources(), n[5] / 3);
                }
                claim.class = [None, Some(pick(&SourceClass::ALL, n[6]))][usize::from(n[4] % 2)];
                (claim.valid_from, claim.valid_to) = (moment(n[1]), moment(n[2] / 2));
                claim.epoch = epoch.filter(|_| n[3].is_multiple_of(3));
                claim.lifecycle = if n[7] > 200 { pick(&STATES, n[7]) } else { STATES[0] };
                claim.parent = parent.filter(|_| n[0] > 200);
                let mut premises: Vec<_> = premise
                    .into_iter()
                    .filter(|_| n[1].is_multiple_of(5))
                    .chain(other.filter(|_| n[1].is_multiple_of(15)))
                    .chain((n[2] % 16 == 7).then_some(Position(900)))
                    .collect();
                premises.sort();
                premises.dedup();
                claim.premises = Arc::from(premises);
            });
        }
        16..=18 => {
            let target = earlier(world, n[1]);
            if target > Position(1) {
                world.retract(by, target);
            }
        }
        19..=21 => {
            // Often the same claims, so that voters and voices meet.
            if let Some(target) = earlier_claim(world, n[1] % 3) {
                let weight = pick(&[1.0, -1.0, 0.4, -0.7, 0.0], n[2]);
                world.fact(by, target, FactKind::Vote { weight });
            }
        }
        22 | 23 => {
            if let Some(target) = earlier_claim(world, n[1]) {
                world.cosign(by, target);
            }
        }
        24..=26 => {
            if let (Some(old), Some(new)) = (earlier_claim(world, n[1]), earlier_claim(world, n[2]))
            {
                world.supersede(by, old, new);
            }
        }
        27 => {
            if let Some(target) = earlier_claim(world, n[1]) {
                world.fact(by, target, FactKind::Lifecycle { state: pick(&STATES, n[2]) });
            }
        }
        28 => {
            let old = world.epochs.last().map(|(position, _)| *position);
            let mode = pick(&[EpochMode::Replace, EpochMode::Extend], n[2]);
            world.epoch(old.filter(|_| n[1].is_multiple_of(2)).map(|old| (old, mode)));
        }
        29 | 30 => {
            let mut keys: Vec<_> = vec![pick(&sources(), n[1]), pick(&sources(), n[2])];
            keys.sort();
            keys.dedup();
            world.source(&keys, pick(&SourceClass::ALL, n[3]));
        }
        31 => {
            world.retract_source(pick(&sources(), n[1]));
        }
        32..=34 => {
            let operator = pick(&[None, Some("o"), Some("q")], n[1]);
            let roles = if n[2].is_multiple_of(2) { vec![Role::Reviewer] } else { Vec::new() };
            world.register_as(by, pick(&SourceClass::ALL, n[3]), operator, &roles);
        }
        35 => {
            let from = earlier_claim(world, n[1]).unwrap_or(Position(1));
            let author = world.claims.iter().find(|claim| claim.position == from);
            let author = author.map_or(by, |claim| claim.agent);
            world.revoke(author, from);
        }
        36 => {
            let new = agent(10 + n[1] % 2);
            world.rotate(by, new);
        }
        37 => {
            let (one, other) = pick(&[("s", "t"), ("t", "u"), ("s", "a")], n[1]);
            world.alias(one, other);
        }
        _ => {
            let mut about = predicate(pick(&["p", "p", "p", "not p"], n[1]));
            about.cardinality = pick(&[Cardinality::One, Cardinality::Many], n[2]);
            about.unit = pick(&[None, Some("mg".into()), Some("g".into())], n[3]);
            about.conversions = pick(
                &[vec![], vec![conversion("g", 1000.0, 0.0)], vec![conversion("mg", 1e-3, 0.0)]],
                n[3],
            );
            about.tolerance = pick(
                &[
                    None,
                    tolerance(Some(0.5), None),
                    tolerance(Some(10.0), None),
                    tolerance(None, Some(0.05)),
                    tolerance(Some(0.1), Some(0.04)),
                ],
                n[4],
            );
            if about.name == name("p") {
                about.opposites = vec![name("not p")];
            }
            about.half_life = pick(&[None, None, Some(20_000)], n[5]);
            world.predicate(about);
        }
    }
}

fn options(world: &World, n: [u8; 12]) -> Options {
    let mut options = world.options(pick(&LensName::ALL, n[0]));
    options.epoch_aware = !n[1].is_multiple_of(4);
    options.decay = pick(
        &[
            Decay::Off,
            Decay::Off,
            Decay::PerClass,
            Decay::HalfLife(7_000),
            Decay::HalfLife(DAY as u64),
        ],
        n[2],
    );
    let some = |n: u8| n.is_multiple_of(10);
    options.min_confidence = some(n[3]).then(|| pick(&[0.3, 0.5, 1.0], n[3] / 10));
    options.lifecycle = some(n[4]).then(|| {
        STATES
            .into_iter()
            .enumerate()
            .filter(|(i, _)| (n[4] / 6) >> i & 1 == 1)
            .map(|(_, s)| s)
            .collect()
    });
    options.tiers =
        some(n[5]).then(|| (0..6).filter(|i| (n[5] / 4) >> i & 1 == 1).map(Tier).collect());
    options.agents = some(n[6]).then(|| (n[6] % 7..9).map(agent).collect());
    options.sources = some(n[7])
        .then(|| BTreeSet::from([pick(&sources(), n[7] / 10), SourceKey::Agent(agent(n[7] / 20))]));
    options.asserted_before = moment(n[8]);
    options.valid_at = moment(n[9]).unwrap_or(options.valid_at);
    options.evaluated_at = match n[10] % 4 {
        0 => Millis(BEGINNING + 22_000),
        1 => Millis(BEGINNING + 100 * DAY),
        _ => options.evaluated_at,
    };
    options
}

/// Reliability by the first byte of the agent: some unknown, some 0, some 1.
struct Table;

impl Reliability for Table {
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64> {
        assert_eq!(key.predicate, name("p"));
        match agent.0[0] {
            0..=2 => None,
            3 => Some(0),
            4 => Some(1 << 30),
            n => Some(u64::from(n) * 0x123_4567),
        }
    }
}

/// The same table under a name, and another one: no two agents are worth the same in both.
struct Named(u8);

impl Reliability for Named {
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64> {
        match (self.0, Table.reliability(agent, key)) {
            (0, reliability) => reliability,
            (_, None) => Some(1 << 27),
            (_, Some(reliability)) => Some((1 << 30) - reliability / 2 - 1),
        }
    }

    fn name(&self) -> Option<Hash> {
        Some(Hash([self.0; 32]))
    }
}

/// A table of which nothing is kept; of none, one that knows nobody.
struct Nameless<'a>(Option<&'a dyn Reliability>);

impl Reliability for Nameless<'_> {
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64> {
        self.0?.reliability(agent, key)
    }
}

fn ask(world: &World, n: [u8; 12]) -> (Candidates, Options, Option<&'static dyn Reliability>) {
    let as_of = if n[11].is_multiple_of(3) { earlier(world, n[11]) } else { world.last };
    let trust: Option<&dyn Reliability> = if n[11].is_multiple_of(2) { Some(&Table) } else { None };
    (world.candidates_at(("s", "p"), as_of), options(world, n), trust)
}

/// The same options with a lens of one's own.
fn own(options: Options, n: u8) -> Options {
    const FORMS: [(Option<&str>, &str, Aggregate, &[TieRule]); 5] = [
        (
            Some("confidence > 0.2 && !(class == 'anecdotal' && cosigns == 0)"),
            "confidence * (1.0 + double(cosigns)) * reliability - 0.25 * votes_against",
            Aggregate::Sum,
            &[TieRule::Newest],
        ),
        // Of the confidence 0.5 there is none.
        (None, "1.0 / (confidence - 0.5)", Aggregate::Sum, &[]),
        (None, "voters > 0 ? double(1000 / voters) * votes_for : null", Aggregate::Max, &[]),
        (
            Some("1 / (tier - 3) >= 0 || state == 'approved'"),
            "double(question.claims - rank) / double(value.agents + value.voices) + age_days",
            Aggregate::Max,
            &[TieRule::Bytes],
        ),
        (
            Some("from('x') || registered || value_type != 'text' || position % 2 == 0"),
            "value.claims > 1 ? steady(exp2(number / 10.0)) - value.votes : confidence",
            Aggregate::Sum,
            &[TieRule::Agents, TieRule::Bytes],
        ),
    ];
    let (filter, weight, aggregate, ties) = pick(&FORMS, n);
    let lens = CustomLens::new(Arc::new(Lens {
        name: "own".into(),
        version: 1,
        filter: filter.map(Into::into),
        weight: weight.into(),
        aggregate,
        ties: ties.to_vec(),
    }));
    Options { lens: LensName::Custom, custom: Some(Arc::new(lens.unwrap())), ..options }
}

/// The histories are rich enough for the properties to mean something.
#[test]
fn histories_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let strategy = (history(50), any::<[u8; 12]>());
    let (mut reasons, mut statuses) = (BTreeMap::new(), BTreeMap::new());
    let mut other = BTreeMap::new();
    for _ in 0..2000 {
        let (steps, asked) = strategy.new_tree(&mut runner).unwrap().current();
        let world = play(&steps);
        let (candidates, options, trust) = ask(&world, asked);
        let resolution = resolve(&candidates, &options, trust);
        for excluded in &resolution.excluded {
            *reasons.entry(excluded.reason.as_str()).or_insert(0) += 1;
        }
        *statuses.entry(resolution.status.as_str()).or_insert(0) += 1;
        let standings = standings(&candidates, &options);
        for (what, found) in [
            ("several winners", resolution.winners.len() > 1),
            ("denied", resolution.values.iter().any(|value| value.against > 0)),
            ("merged", resolution.values.iter().any(|value| value.members.len() > 1)),
            ("several voices", resolution.values.iter().any(|value| value.voices > 1)),
            ("fewer voices than agents", resolution.values.iter().any(|v| v.voices < v.agents)),
            ("several layers", resolution.layers.len() > 1),
            ("conflict across tiers", resolution.cross_tier_conflict > 0.0),
            ("cosigned", standings.iter().any(|standing| standing.cosign.is_some())),
            ("best tier", standings.iter().any(|standing| standing.tier == Tier(0))),
            ("unheard value", resolution.values.iter().any(|value| value.claims == 0)),
        ] {
            *other.entry(what).or_insert(0) += u32::from(found);
        }
    }
    let counts = format!("{reasons:?}\n{statuses:?}\n{other:?}");
    assert!(reasons.len() == Reason::ALL.len() && statuses.len() == 4, "{counts}");
    let all = reasons.values().chain(statuses.values()).chain(other.values());
    assert!(all.into_iter().all(|count| *count >= 15), "{counts}");
}

fn history(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(any::<Step>(), 0..steps)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// Whatever happened and whatever is asked, the fast way and the slow way say the same.
    #[test]
    fn equals_the_reference(steps in history(50), asked: [u8; 12]) {
        let world = play(&steps);
        let (candidates, options, trust) = ask(&world, asked);
        let expected = Reference::resolve(&candidates, &options, trust);
        prop_assert_eq!(resolve(&candidates, &options, trust), expected);
    }
}

/// Some claims of a key with all that they depend on, and no more: what an index gathers to judge
/// them again.
fn part(all: &Candidates, wanted: &BTreeSet<Position>) -> Candidates {
    let claims = || all.claims.iter().chain(&all.opposing).chain(&all.related);
    let by_position: BTreeMap<_, _> = claims().map(|claim| (claim.position, claim)).collect();
    let about = homes(all);
    let mut needed: BTreeSet<Position> = BTreeSet::new();
    let mut todo: Vec<Position> = wanted.iter().copied().collect();
    while let Some(position) = todo.pop() {
        let Some(claim) = by_position.get(&position).filter(|_| needed.insert(position)) else {
            continue;
        };
        todo.extend(claim.premises.iter());
        let of_claim = all.facts.iter().filter(|fact| about.get(&fact.position) == Some(&position));
        todo.extend(of_claim.filter_map(|fact| match fact.kind {
            FactKind::Supersede { new } => Some(new),
            _ => None,
        }));
    }
    let mut part = all.clone();
    part.claims.retain(|claim| wanted.contains(&claim.position));
    part.opposing.retain(|claim| wanted.contains(&claim.position));
    let related = claims().filter(|claim| !wanted.contains(&claim.position));
    part.related = related.filter(|claim| needed.contains(&claim.position)).cloned().collect();
    let of_needed = |fact: &stemedb_lens::Fact| {
        about.get(&fact.position).is_some_and(|home| needed.contains(home))
    };
    part.facts.retain(of_needed);
    part
}

/// The assertion that each fact is about in the end.
fn homes(all: &Candidates) -> BTreeMap<Position, Position> {
    let claims = all.claims.iter().chain(&all.opposing).chain(&all.related);
    let mut homes: BTreeMap<Position, Position> =
        claims.map(|claim| (claim.position, claim.position)).collect();
    for fact in &all.facts {
        if let Some(home) = homes.get(&fact.target).copied() {
            homes.insert(fact.position, home);
        }
    }
    homes
}

/// Brings a question to the state of the world. Whether it was kept.
fn bring(question: &mut Question, world: &World, options: &Options) -> bool {
    let since = question.as_of();
    let all = world.candidates();
    let mut registered = world.registered.range(since.next()..);
    if registered.any(|(_, record)| question.concerned_by(record)) {
        *question = Question::new(&all, options);
        return false;
    }
    let of_key: BTreeSet<Position> =
        all.claims.iter().chain(&all.opposing).map(|claim| claim.position).collect();
    let about = homes(&all);
    let new_facts = all.facts.iter().filter(|fact| fact.position > since);
    let touched = new_facts.filter_map(|fact| about.get(&fact.position).copied());
    let touched = touched.filter(|home| of_key.contains(home) || question.related().contains(home));
    let touched = touched.chain(of_key.range(since.next()..).copied());
    let affected = question.affected(touched);
    question.apply(&part(&all, &affected));
    true
}

/// A question that is kept up to date answers as one that is made anew, at every step.
fn kept_is_made_anew(
    steps: &[Step],
    from: usize,
    asked: &[[u8; 12]],
) -> Result<u32, TestCaseError> {
    let (first, rest) = steps.split_at(from.min(steps.len()));
    let mut world = play(first);
    let choosing = options(&world, asked[0]);
    let mut question = Question::new(&world.candidates(), &choosing);
    let mut kept = 0;
    for (kind, n) in rest {
        step(&mut world, *kind, *n);
        kept += u32::from(bring(&mut question, &world, &choosing));
        let all = world.candidates();
        let custom = asked.iter().take(1).map(|n| own(options(&world, *n), n[0]));
        for asked in asked.iter().map(|n| options(&world, *n)).chain(custom) {
            let options = Options {
                epoch_aware: choosing.epoch_aware,
                asserted_before: choosing.asserted_before,
                lifecycle: choosing.lifecycle.clone(),
                ..asked
            };
            question.prepare(options.valid_at);
            let expected = Question::new(&all, &options);
            prop_assert_eq!(
                question.answer(&options, Some(&Table)),
                expected.answer(&options, Some(&Table))
            );
            let trust: Option<&dyn Reliability> = Some(&Table);
            prop_assert_eq!(question.excluded(&options, trust), expected.excluded(&options, trust));
            let standing = question.standings(&options, trust);
            if options.custom.is_none() {
                prop_assert_eq!(&standing, &standings(&all, &options));
            }
            prop_assert_eq!(standing, expected.standings(&options, trust));
        }
        question.prepare(choosing.valid_at);
        trusted_is_summed(&mut question, &all, &choosing, *n)?;
    }
    Ok(kept)
}

/// Sums of trust that are kept are those made from the voices, whichever table they are under, and
/// whether they are kept up to date with every step or not.
fn trusted_is_summed(
    question: &mut Question,
    all: &Candidates,
    choosing: &Options,
    n: [u8; 8],
) -> Result<(), TestCaseError> {
    let tables: [Option<&dyn Reliability>; 3] = [None, Some(&Named(0)), Some(&Named(1))];
    // Mostly the same one.
    let in_force = tables[[1, 1, 1, 1, 2, 0][usize::from(n[6]) % 6]];
    if n[7].is_multiple_of(4) {
        question.learn(in_force);
        prop_assert!(question.learned(in_force));
    }
    // Of such a table nothing is kept, and what was kept stays.
    question.learn(Some(&Nameless(in_force)));
    prop_assert!(!question.learned(Some(&Nameless(in_force))));
    let plain = Options {
        lens: LensName::Trust,
        decay: Decay::Off,
        min_confidence: None,
        tiers: None,
        agents: None,
        sources: None,
        ..choosing.clone()
    };
    let made = Question::new(all, &plain);
    let filtered = Options { min_confidence: Some(0.4), ..plain.clone() };
    let options = if n[5].is_multiple_of(4) { filtered } else { plain };
    for trust in tables {
        prop_assert_eq!(
            question.answer(&options, trust),
            made.answer(&options, Some(&Nameless(trust)))
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_question_that_is_kept_answers_as_one_made_anew(
        steps in history(60),
        from in 0usize..60,
        asked in vec(any::<[u8; 12]>(), 1..4),
    ) {
        kept_is_made_anew(&steps, from, &asked)?;
    }
}

/// Otherwise the property above would compare two that are made anew.
#[test]
fn most_steps_keep_a_question() {
    let mut runner = TestRunner::deterministic();
    let (mut kept, mut steps_in_all) = (0, 0);
    for _ in 0..100 {
        let steps = vec(any::<Step>(), 40).new_tree(&mut runner).unwrap().current();
        kept += kept_is_made_anew(&steps, 10, &[[1; 12]]).unwrap();
        steps_in_all += 30;
    }
    assert!(kept * 10 > steps_in_all * 7, "{kept} of {steps_in_all}");
}

proptest! {
    /// The lists of candidates are sets.
    #[test]
    fn order_of_input_does_not_matter(steps in history(50), asked: [u8; 12], shift in 1usize..50) {
        let world = play(&steps);
        let (candidates, options, trust) = ask(&world, asked);
        let mine = own(options.clone(), asked[0]);
        let mut turned = candidates.clone();
        turned.claims.reverse();
        turned.opposing.reverse();
        turned.facts.reverse();
        let (facts, related) = (turned.facts.len(), turned.related.len());
        turned.facts.rotate_left(shift % facts.max(1));
        turned.related.rotate_left(shift % related.max(1));
        for options in [options, mine] {
            prop_assert_eq!(
                resolve(&turned, &options, trust),
                resolve(&candidates, &options, trust)
            );
        }
    }

    /// Several lenses at once are each alone.
    #[test]
    fn many_are_each_alone(steps in history(50), asked in vec(any::<[u8; 12]>(), 0..6)) {
        let world = play(&steps);
        let candidates = world.candidates();
        let options: Vec<_> = asked.iter().map(|asked| options(&world, *asked)).collect();
        let alone: Vec<_> = options.iter().map(|o| resolve(&candidates, o, Some(&Table))).collect();
        prop_assert_eq!(resolve_many(&candidates, &options, Some(&Table)), alone);
    }

    /// A claim that was made and taken back leaves the answer as it was, but for its own line
    /// among the excluded.
    #[test]
    fn taken_back_is_never_said(steps in history(50), asked: [u8; 12], claim: [u8; 8]) {
        let world = play(&steps);
        let mut after = world.clone();
        step(&mut after, 0, claim);
        let made = after.claims.last().unwrap().position;
        after.at = Some(Millis(BEGINNING - 1_000_000 * DAY));
        after.retract(ROOT, made);
        let options = options(&world, asked);
        let without = resolve(&world.candidates(), &options, None);
        let with = resolve(&after.candidates(), &options, None);
        prop_assert_eq!(&with.values, &without.values);
        prop_assert_eq!(&with.winners, &without.winners);
        prop_assert_eq!(with.status, without.status);
        prop_assert_eq!(with.margin, without.margin);
        prop_assert_eq!(with.evidence, without.evidence);
        let all = |of: &World| Question::new(&of.candidates(), &options).excluded(&options, None);
        let mut excluded = all(&after);
        excluded.retain(|excluded| excluded.position != made);
        prop_assert_eq!(excluded, all(&world));
    }

    /// What became of the claims leads from those that counted then to those that count now; and where
    /// nothing became of any, and nothing else, the answer is the same.
    #[test]
    fn changes_lead_from_then_to_now(steps in history(50), asked: [u8; 12], back: u8) {
        let world = play(&steps);
        let then = earlier(&world, back);
        let options = Options { asserted_before: None, ..options(&world, asked) };
        let (before, after) = (world.candidates_at(("s", "p"), then), world.candidates());
        let found = changes(
            &standings(&before, &options),
            &standings(&after, &options),
            &after,
            then,
        );
        // What is filtered takes part in the disagreement.
        let filtered = |excluded: &stemedb_lens::Excluded| excluded.reason == Reason::Filtered;
        let live = |candidates: &Candidates| -> BTreeSet<Position> {
            let standings = standings(candidates, &options);
            let live = standings.iter().filter(|one| one.excluded.as_ref().is_none_or(filtered));
            live.map(|standing| standing.position).collect()
        };
        let mut counted = live(&before);
        for change in &found {
            match &change.became {
                Became::Asserted(excluded) | Became::Joined(excluded) => {
                    prop_assert!(!counted.contains(&change.position), "{change:?}");
                    if excluded.as_ref().is_none_or(filtered) {
                        counted.insert(change.position);
                    }
                }
                Became::Counts(was) if !filtered(was) => {
                    prop_assert!(counted.insert(change.position), "{change:?}");
                }
                Became::Excluded(now) if !filtered(now) => {
                    prop_assert!(counted.remove(&change.position), "{change:?}");
                }
                Became::Left => prop_assert!(counted.remove(&change.position), "{change:?}"),
                _ => {}
            }
        }
        prop_assert_eq!(&counted, &live(&after));
        prop_assert!(found.is_sorted_by_key(|change| change.position));

        let predicate = |at| world.registry.predicate(after.space(), &name("p"), at);
        let refers = |claim: &stemedb_lens::Claim| matches!(claim.object, Value::Reference(_));
        let same_key = before.key == after.key && predicate(then) == predicate(world.last);
        if found.is_empty() && same_key && !after.claims.iter().chain(&after.opposing).any(refers) {
            let (was, is) = (resolve(&before, &options, None), resolve(&after, &options, None));
            prop_assert_eq!(was.values, is.values);
            prop_assert_eq!(was.winners, is.winners);
            prop_assert_eq!(was.status, is.status);
        }
    }

    /// Who repeats what it said, from where it said it, is heard no louder.
    #[test]
    fn repetition_changes_no_share(steps in history(50), which: u8, times in 1usize..5) {
        let mut world = play(&steps);
        // Without `replaced`, so that the repeated claims stay side by side.
        let mut many = predicate("p");
        many.cardinality = Cardinality::Many;
        world.predicate(many);
        let options = world.options(LensName::Authority);
        let candidates = world.candidates();
        let before = resolve(&candidates, &options, None);
        let Some(said) = candidates.claims.get(usize::from(which) % candidates.claims.len().max(1)) else {
            return Ok(());
        };
        let live = standings(&candidates, &options);
        let standing = live.iter().find(|standing| standing.position == said.position).unwrap();
        if standing.excluded.is_some() || standing.cosign.is_some() {
            return Ok(());
        }
        for _ in 0..times {
            let said = said.clone();
            world.at = Some(said.at);
            world.claim_with(("s", "p"), said.agent, said.object.clone(), |claim| {
                let position = claim.position;
                let recorded_at = claim.recorded_at;
                *claim = said;
                (claim.position, claim.recorded_at) = (position, recorded_at);
                claim.parent = None;
            });
        }
        let shares = |resolution: &Resolution| {
            let mut shares: Vec<_> =
                resolution.values.iter().map(|v| (v.value.clone(), v.support, v.share.to_bits())).collect();
            shares.sort();
            shares
        };
        let after = resolve(&world.candidates(), &options, None);
        prop_assert_eq!(shares(&after), shares(&before));
    }
}

/// What a built-in lens and its definition must agree on.
fn essentials(answer: &Resolution, in_order: bool) -> String {
    let mut values: Vec<String> = answer
        .values
        .iter()
        .map(|value| {
            let lens_weight = in_order.then_some((value.lens_weight, value.lens_against));
            let mut value = value.clone();
            (value.lens_weight, value.lens_against) = (0, 0);
            format!("{value:?} {lens_weight:?}")
        })
        .collect();
    let mut winners: Vec<&String> = answer.winners.iter().map(|winner| &values[*winner]).collect();
    if !in_order {
        winners.sort_unstable();
    }
    let winners = format!("{winners:?}");
    if !in_order {
        values.sort_unstable();
    }
    let Resolution { status, margin, lens_margin, evidence, considered, .. } = answer;
    let Resolution { excluded, excluded_count, dissent, faults, .. } = answer;
    format!(
        "{winners}\n{values:?}\n{status:?} {margin} {lens_margin} {evidence} {considered}\n\
         {excluded:?} {excluded_count} {dissent:?} {faults:?}"
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// A built-in lens and its published definition are one, under all options.
    #[test]
    fn built_ins_are_their_definitions(steps in history(50), asked: [u8; 12]) {
        let world = play(&steps);
        let (candidates, options, trust) = ask(&world, asked);
        for one in published() {
            let Some(definition) = one.compiled() else { continue };
            let built_in = Options { lens: one.lens, ..options.clone() };
            let as_data = Options {
                lens: LensName::Custom,
                custom: Some(Arc::new(definition)),
                ..options.clone()
            };
            // Its weights are moments.
            let in_order = one.lens != LensName::Recency;
            let built_in = resolve(&candidates, &built_in, trust);
            let as_data = resolve(&candidates, &as_data, trust);
            prop_assert_eq!(
                essentials(&as_data, in_order),
                essentials(&built_in, in_order),
                "{:?}", one.lens
            );
        }
    }
}

/// The definitions above do something: they leave claims out, fault, and give some no say.
#[test]
fn own_lenses_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let strategy = (history(50), any::<[u8; 12]>());
    let (mut faults, mut filtered, mut silent, mut decided) = (0, 0, 0, 0);
    for n in 0..400 {
        let (steps, asked) = strategy.new_tree(&mut runner).unwrap().current();
        let world = play(&steps);
        let (candidates, options, trust) = ask(&world, asked);
        let answer = resolve(&candidates, &own(options, n as u8), trust);
        faults += answer.faults.len();
        filtered += answer.excluded.iter().filter(|e| e.reason == Reason::Filtered).count();
        silent +=
            usize::from(answer.winners.is_empty() && answer.values.iter().any(|v| v.claims > 0));
        decided += usize::from(answer.values.iter().any(|value| value.lens_weight > 0));
    }
    let counts = [faults, filtered, silent, decided];
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
}
