//! Definitions of one's own: what is refused, what they mean, and that none of them can do harm.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a wrong test input fails"
)]

mod support;

use std::sync::Arc;

use cel::{Context, Program, Value as CelValue};
use proptest::prelude::*;
use stemedb_lens::{
    CustomLens, INPUTS, LensName, LensProblem, Options, Resolution, STEPS_MAX, definition_hash,
    lens_hash, published, resolve,
};
use stemedb_model::{Aggregate, Hash, Lens, Millis, Position, SourceClass, TieRule, Value};
use support::*;

fn definition(filter: Option<&str>, weight: &str, aggregate: Aggregate) -> Lens {
    Lens {
        name: "own".into(),
        version: 1,
        filter: filter.map(Into::into),
        weight: weight.into(),
        aggregate,
        ties: Vec::new(),
    }
}

fn compiled(filter: Option<&str>, weight: &str) -> Result<CustomLens, LensProblem> {
    CustomLens::new(Arc::new(definition(filter, weight, Aggregate::Sum)))
}

fn ask(world: &World, lens: Lens) -> Resolution {
    let lens = Arc::new(CustomLens::new(Arc::new(lens)).unwrap());
    let options = Options { custom: Some(lens), ..world.options(LensName::Custom) };
    resolve(&world.candidates(), &options, None)
}

/// One claim of confidence 0.75 by a registered agent, with a vote, a vote against and a cosign.
fn world_of_one(object: Value) -> (World, Position) {
    let mut world = World::new();
    world.register(agent(1), SourceClass::Clinical, None);
    world.source(&[uri("x")], SourceClass::Clinical);
    let claim = world.claim_with(("s", "p"), agent(1), object, |claim| {
        claim.confidence = 0.75;
        claim.source = uri("x");
    });
    world.vote(agent(2), claim, 1.0);
    world.vote(agent(3), claim, -0.5);
    world.cosign(agent(2), claim);
    world.cosign(agent(1), claim);
    (world, claim)
}

/// What a weight comes to for the claim of [`world_of_one`], in 2^-30; `None` if it is left out.
fn weighed(weight: &str) -> Option<i128> {
    let (world, _) = world_of_one(text("rare"));
    let answer = ask(&world, definition(None, weight, Aggregate::Sum));
    assert_eq!(answer.faults.len(), answer.excluded.len(), "{weight}");
    answer.excluded.is_empty().then(|| answer.values[0].lens_weight)
}

#[test]
fn what_is_refused_says_where_and_what_to_write() {
    for (filter, weight, field, expected) in [
        (
            None,
            "claim.confidense",
            "weight",
            "`claim.confidense` is no input; of `claim` there are",
        ),
        (None, "value.rank", "weight", "of `value` there are claims, agents"),
        (None, "question.tier", "weight", "of `question` there are best_tier"),
        (None, "now()", "weight", "no such function; there are int, double"),
        (None, "confidence + tier", "weight", "double beside int; write 2.0"),
        (None, "confidence * 2", "weight", "double beside int"),
        (None, "tier < 2", "weight", "is of type bool, expected a number"),
        (None, "class", "weight", "is of type string, expected a number"),
        (None, "tier < 2 ? 1.0 : 1", "weight", "double beside int"),
        (None, "null + 1.0", "weight", "`null` stands only for a whole weight"),
        (None, "abs(null)", "weight", "`null` stands only for a whole weight"),
        (None, "min(steady(1.0), 2.0)", "weight", "`steady` stands only where"),
        (None, "confidence +", "weight", "expected an expression of CEL"),
        (None, "", "weight", "expected an expression of CEL"),
        (None, "9223372036854775808", "weight", "expected an expression of CEL"),
        (None, "1u", "weight", "write an int, a double or a string"),
        (None, "[1, 2].map(x, x)", "weight", "macros are not allowed"),
        (None, "[1, 2].all(x, x > 0) ? 1.0 : 0.0", "weight", "macros are not allowed"),
        (None, "has(claim.tier) ? 1.0 : 0.0", "weight", "only `claim`, `value` and `question`"),
        (None, "{1: 2}[1]", "weight", "no such function"),
        (None, "[1.0]", "weight", "a list stands only behind `in`"),
        (None, "5.5 % 2.0", "weight", "`%` is of int only"),
        (None, "text.matches('a') ? 1.0 : 0.0", "weight", "no such function"),
        (Some("confidence"), "1.0", "filter", "is of type double, expected bool"),
        (Some("rank == 0"), "1.0", "filter", "depends on which claims pass the filter"),
        (Some("tier in 3"), "1.0", "filter", "behind `in` stands a list"),
        (Some("tier in [0, 'a']"), "1.0", "filter", "int beside string"),
        (Some("by('me')"), "1.0", "filter", "`by` takes a public key"),
        (Some("from(text)"), "1.0", "filter", "`from` takes a source"),
        (Some("class == tier"), "1.0", "filter", "string beside int; both must be of one type"),
    ] {
        let problem = compiled(filter, weight).unwrap_err();
        assert_eq!(problem.field, field, "{filter:?} {weight}");
        assert!(problem.problem.contains(expected), "{filter:?} {weight}: {problem}");
    }
}

#[test]
fn every_input_can_be_asked_for_by_its_names() {
    for input in &INPUTS {
        let bare = input.name.strip_prefix("claim.");
        for name in [Some(input.name), bare].into_iter().flatten() {
            let test = match input.kind {
                "bool" => name.to_owned(),
                "string" => format!("{name} == ''"),
                "int" => format!("{name} < 3"),
                _ => format!("{name} < 3.0"),
            };
            compiled(None, &format!("{test} ? 1.0 : 2.0")).unwrap();
            assert_eq!(compiled(Some(&test), "1.0").is_ok(), input.in_filter, "{name}");
        }
    }
}

#[test]
fn weights_are_rounded_by_one_rule() {
    let one = 1i128 << 30;
    for (weight, expected) in [
        ("1.0", Some(one)),
        ("1", Some(one)),
        ("confidence", Some(one / 4 * 3)),
        ("0.25 - 1.0", Some(0)),
        ("-1.0", Some(0)),
        ("1.0 / 3.0", Some(357_913_941)),
        // Factors are taken in fixed point, one after the other.
        ("1.0 * (1.0 / 3.0) * 3.0", Some(1_073_741_823)),
        ("-2.0 * -0.5", Some(one)),
        ("1000000000", Some(one * 1_000_000_000)),
        ("1000000001", None),
        ("31623.0 * 31623.0 * 4.0", None),
        ("1.0 / 0.0", None),
        ("0.0 / 0.0", None),
        ("log2(-1.0)", None),
        ("1 / 0", None),
        ("1 % 0", None),
        ("-9223372036854775807 - 2", None),
        ("int(1e300)", None),
        ("int(0.0 / 0.0)", None),
        ("int(-2.9) + 4", Some(2 * one)),
        ("true || 1 / 0 == 1 ? 2 : 1", Some(2 * one)),
        ("1 / 0 == 1 || true ? 2 : 1", Some(2 * one)),
        ("1 / 0 == 1 && false ? 2 : 1", Some(one)),
        ("exp2(3.0)", Some(8 * one)),
        ("min(3, 2) + max(3, 2)", Some(5 * one)),
        ("votes_for - votes_against", Some(one / 2)),
        ("voters", Some(2 * one)),
        // The author's own does not count.
        ("cosigns", Some(one)),
        ("tier", Some(one)),
        ("value_type == 'text' && text == 'rare' && text.contains('ar') ? 1 : 0", Some(one)),
        ("text.startsWith('ra') && text.endsWith('re') && size(text) == 4 ? 1 : 0", Some(one)),
        ("from('x') && !from('y') && registered ? 1 : 0", Some(one)),
        ("class in ['regulatory', 'clinical'] ? 1 : 0", Some(one)),
        ("claim.rank + value.claims + question.claims", Some(2 * one)),
        // (1 - 0.5) of two voters, each worth one half without a snapshot.
        ("value.votes", Some(one / 4)),
        ("reliability", Some(one / 2)),
        ("1.0 + steady(1.0)", Some(2 * one)),
    ] {
        assert_eq!(weighed(weight), expected, "{weight}");
    }
}

#[test]
fn agents_and_sources_are_meant_by_any_of_their_names() {
    let (mut world, _) = world_of_one(text("rare"));
    world.source(&[uri("x"), uri("y")], SourceClass::Clinical);
    world.rotate(agent(1), agent(9));
    let keeps = |filter: &str| {
        let answer = ask(&world, definition(Some(filter), "1.0", Aggregate::Sum));
        answer.excluded.is_empty()
    };
    assert!(keeps("from('y')"));
    assert!(keeps(&format!("by('{}') && by('{}')", agent(1), agent(9))));
    assert!(!keeps(&format!("by('{}') || from('z')", agent(2))));
    assert!(!keeps(&format!("from('{}')", Hash([7; 32]))));
}

#[test]
fn a_claim_without_a_value_is_left_out_and_named() {
    let mut world = World::new();
    let whole = world.claim(agent(1), "a");
    let none = world.claim_with(("s", "p"), agent(2), text("b"), |claim| claim.confidence = 0.0);
    let answer = ask(&world, definition(None, "1.0 / confidence", Aggregate::Sum));
    assert_eq!(support::answer(&answer), Some("a"));
    assert_eq!(reasons(&answer), [(none.0, "filtered")]);
    let [fault] = answer.faults.as_slice() else { panic!("{:?}", answer.faults) };
    assert_eq!((fault.position, fault.field), (none, "weight"));
    assert_eq!(fault.problem, "a number beyond 1,000,000,000");
    // It takes part in the disagreement all the same.
    assert_eq!(answer.values.len(), 2);
    let answer = ask(&world, definition(Some("1 / int(confidence) == 1"), "1", Aggregate::Max));
    assert_eq!(answer.faults[0].field, "filter");
    assert_eq!((answer.excluded_count, answer.winner().unwrap().because[0]), (1, whole));
}

#[test]
fn null_has_no_say() {
    let mut world = World::new();
    world.register(agent(1), SourceClass::Regulatory, None);
    world.source(&[uri("x")], SourceClass::Regulatory);
    world.claim_with(("s", "p"), agent(1), text("a"), |claim| {
        claim.source = uri("x");
        claim.confidence = 0.0;
    });
    for n in 2..7 {
        world.claim(agent(n), "b");
    }
    let weight = "tier == question.best_tier ? confidence : null";
    let answer = ask(&world, definition(None, weight, Aggregate::Sum));
    // All weigh nothing, but only one value may win.
    assert_eq!(support::answer(&answer), Some("a"));
    let weight = "tier == question.best_tier ? confidence : 0.0";
    let answer = ask(&world, definition(None, weight, Aggregate::Sum));
    assert_eq!(support::answer(&answer), Some("b"));
    let answer = ask(&world, definition(None, "null", Aggregate::Sum));
    assert!(answer.winners.is_empty() && answer.excluded.is_empty());
}

#[test]
fn ties_are_broken_in_the_order_asked_for() {
    let mut world = World::new();
    for (n, value) in [(1, "b"), (2, "b"), (3, "c"), (4, "a"), (5, "d")] {
        world.claim(agent(n), value);
    }
    for (ties, expected) in [
        (vec![], "b"),
        (vec![TieRule::Bytes], "a"),
        (vec![TieRule::Newest], "d"),
        (vec![TieRule::Agents, TieRule::Bytes], "b"),
    ] {
        let lens = Lens { ties, ..definition(None, "1.0", Aggregate::Max) };
        assert_eq!(support::answer(&ask(&world, lens.clone())), Some(expected), "{:?}", lens.ties);
    }
}

#[test]
fn everything_a_definition_says_is_in_the_hash() {
    let one = Lens {
        ties: vec![TieRule::Newest],
        ..definition(Some("tier < 3"), "confidence", Aggregate::Sum)
    };
    let hash = |lens: &Lens| {
        let options = |lens: &Lens| {
            let lens = CustomLens::new(Arc::new(lens.clone())).unwrap();
            Options::custom(Arc::new(lens), Millis(0))
        };
        (definition_hash(lens), lens_hash(&options(lens)))
    };
    let others = [
        Lens { name: "other".into(), ..one.clone() },
        Lens { version: 2, ..one.clone() },
        Lens { filter: None, ..one.clone() },
        Lens { weight: "1.0".into(), ..one.clone() },
        Lens { aggregate: Aggregate::Max, ..one.clone() },
        Lens { ties: vec![], ..one.clone() },
    ];
    for other in &others {
        assert_ne!(hash(other).0, hash(&one).0, "{other:?}");
        assert_ne!(hash(other).1, hash(&one).1, "{other:?}");
    }
    // Frozen: another hash is another format.
    let built_in: Vec<String> =
        published().iter().filter_map(|one| Some(one.compiled()?.hash().to_string())).collect();
    assert_eq!(built_in.len(), 7);
    let (definition, lens) = hash(&one);
    assert_eq!([&definition.to_string(), &lens.to_string(), &built_in[3]], FROZEN);
}

const FROZEN: [&str; 3] = [
    "a8c94def014d22210dab10eee429c4b65faa1cab15c61806e0ffd92fc9739483",
    "615dc4764eccd525008eaece0cfc0b752abd6cac7e3b9b8cac928aa9927f71eb",
    "0a3d3d7d34820905b54095a8f283f473e8b9c16ec03d172ebecd34b974c7eb95",
];

/// Texts that would hurt a parser without bounds, or take long.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> = ["(", "[", "{", "!", "-", "a.", "f(", "a?b:", "1+", "'", "\"", "`"]
        .into_iter()
        .map(|part| part.repeat(4096 / part.len()))
        .collect();
    all.extend([
        format!("{}1{}", "(".repeat(2047), ")".repeat(2047)),
        format!("{}1{}", "[".repeat(33), "]".repeat(33)),
        format!("{}1.0", "true ? 1.0 : ".repeat(300)),
        format!("1.0{}", " * 1.0".repeat(500)),
        format!("1{}", "||1".repeat(1300)),
        format!("{}1", "- ".repeat(2000)),
        "x.map(a, a.map(b, b.map(c, c)))".into(),
        "\u{0}\u{1}\u{ffff}".into(),
        "r'".into(),
        "'''".into(),
        "b'\\xff'".into(),
        "'\\ud800'".into(),
        "1e999999".into(),
        "0x".into(),
        "é".repeat(2000),
    ]);
    all
}

#[test]
fn hostile_texts_are_refused_on_a_small_stack() {
    // Half of what a thread of the server has.
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
        for text in hostile() {
            let shown: String = text.chars().take(40).collect();
            if text.starts_with("1.0 * 1.0") || text.starts_with("true ? 1.0") {
                drop(compiled(None, &text));
                continue;
            }
            assert!(compiled(None, &text).is_err(), "{shown}");
            assert!(compiled(Some(&text), "1.0").is_err(), "{shown}");
        }
        // As much as there may be.
        let deep = format!("{}1.0{}", "(".repeat(32), ")".repeat(32));
        compiled(None, &deep).unwrap();
        compiled(None, &format!("1.0{}", " + 1.0".repeat(110))).unwrap();
    });
    thread.unwrap().join().unwrap();
}

/// There is nothing in a definition that repeats, so its length bounds its steps; looking at text costs
/// by the length of the text, which the claims bring.
#[test]
fn what_a_definition_costs_is_bounded() {
    let long = "x".repeat(64 << 10);
    let (world, claim) = world_of_one(text(&long));
    let searches = |times: usize| {
        let one = "(text.contains('y') ? 1.0 : 0.0)";
        let weight = vec![one; times].join(" + ");
        ask(&world, definition(None, &weight, Aggregate::Sum))
    };
    assert!(searches(3).faults.is_empty());
    let answer = searches(4);
    assert_eq!(answer.faults.len(), 1);
    assert_eq!(answer.faults[0].position, claim);
    assert_eq!(answer.faults[0].problem, "more than 4,096 steps");
    assert_eq!(STEPS_MAX, 4096);
    // Faults of `&&` and `||` do not hide that.
    let filter = format!("true || {}", ["text.contains('y')"; 9].join(" || "));
    let kept = ask(&world, definition(Some(&filter), "1.0", Aggregate::Sum));
    assert!(kept.faults.is_empty(), "decided before it looks");
    let filter = format!("{} || true", ["text.contains('y')"; 9].join(" || "));
    let kept = ask(&world, definition(Some(&filter), "1.0", Aggregate::Sum));
    assert_eq!(kept.faults.len(), 1);
}

// ---- random expressions, beside the interpreter of the crate that reads them

fn ints(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("tier".to_owned()),
        Just("claim.cosigns".to_owned()),
        Just("voters".to_owned()),
        (-9i64..10).prop_map(|n| n.to_string()),
        Just("9223372036854775807".to_owned()),
        Just("(-9223372036854775807 - 1)".to_owned()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let two =
        (ints(depth - 1), prop::sample::select(vec!["+", "-", "*", "/", "%"]), ints(depth - 1));
    prop_oneof![
        2 => leaf,
        3 => two.prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => ints(depth - 1).prop_map(|a| format!("(-{a})")),
        1 => doubles(depth - 1).prop_map(|a| format!("int({a})")),
        1 => texts().prop_map(|a| format!("size({a})")),
        1 => (bools(depth - 1), ints(depth - 1), ints(depth - 1))
            .prop_map(|(c, a, b)| format!("({c} ? {a} : {b})")),
    ]
    .boxed()
}

fn doubles(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("confidence".to_owned()),
        Just("votes_for".to_owned()),
        (-40i32..40).prop_map(|n| format!("{:?}", f64::from(n) / 8.0)),
        Just("1e300".to_owned()),
        Just("0.0".to_owned()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let two =
        (doubles(depth - 1), prop::sample::select(vec!["+", "-", "*", "/"]), doubles(depth - 1));
    prop_oneof![
        2 => leaf,
        3 => two.prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => doubles(depth - 1).prop_map(|a| format!("(-{a})")),
        1 => ints(depth - 1).prop_map(|a| format!("double({a})")),
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<String> {
    prop::sample::select(vec!["class", "claim.text", "state", "'clinical'", "'ra'", "''", "'é'"])
        .prop_map(str::to_owned)
        .boxed()
}

fn bools(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("denies".to_owned()),
        (texts(), texts()).prop_map(|(a, b)| format!("({a} == {b})")),
        (texts(), texts()).prop_map(|(a, b)| format!("{a}.contains({b})")),
        (texts(), texts()).prop_map(|(a, b)| format!("{a}.startsWith({b})")),
        (texts(), texts()).prop_map(|(a, b)| format!("{a}.endsWith({b})")),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let signs = || prop::sample::select(vec!["<", "<=", "==", "!=", ">=", ">"]);
    prop_oneof![
        1 => leaf,
        3 => (ints(depth - 1), signs(), ints(depth - 1)).prop_map(|(a, s, b)| format!("({a} {s} {b})")),
        3 => (doubles(depth - 1), signs(), doubles(depth - 1))
            .prop_map(|(a, s, b)| format!("({a} {s} {b})")),
        2 => (bools(depth - 1), bools(depth - 1)).prop_map(|(a, b)| format!("({a} && {b})")),
        2 => (bools(depth - 1), bools(depth - 1)).prop_map(|(a, b)| format!("({a} || {b})")),
        1 => bools(depth - 1).prop_map(|a| format!("!{a}")),
        1 => (ints(depth - 1), ints(0), ints(0)).prop_map(|(a, b, c)| format!("({a} in [{b}, {c}])")),
    ]
    .boxed()
}

/// What the interpreter of the crate says; `None`: no value.
fn by_the_crate(expression: &str) -> Option<bool> {
    let mut context = Context::default();
    let mut claim = std::collections::HashMap::new();
    let mut put = |name: &str, value: CelValue| {
        context.add_variable_from_value(name, value.clone());
        claim.insert(name.to_owned(), value);
    };
    put("tier", CelValue::Int(1));
    put("cosigns", CelValue::Int(1));
    put("voters", CelValue::Int(2));
    put("confidence", CelValue::Float(0.75));
    put("votes_for", CelValue::Float(1.0));
    put("denies", CelValue::Bool(false));
    put("class", CelValue::String(Arc::new("clinical".into())));
    put("state", CelValue::String(Arc::new("proposed".into())));
    put("text", CelValue::String(Arc::new("rare".into())));
    context.add_variable_from_value("claim", claim);
    match Program::compile(expression).unwrap().execute(&context) {
        Ok(CelValue::Bool(value)) => Some(value),
        Ok(other) => panic!("{expression} is {other:?}"),
        Err(_) => None,
    }
}

/// Whether something may be NaN: the crate refuses to compare that, where CEL says it is false.
fn may_be_nan(expression: &str) -> bool {
    let digits = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1] == b'.';
    ["confidence", "votes_for", "double", "1e300"].iter().any(|part| expression.contains(part))
        || expression.as_bytes().windows(2).any(digits)
}

fn here(expression: &str) -> Option<bool> {
    let (world, _) = world_of_one(text("rare"));
    let answer = ask(&world, definition(Some(expression), "1.0", Aggregate::Sum));
    answer.faults.is_empty().then_some(answer.excluded.is_empty())
}

#[expect(clippy::ptr_arg, reason = "a filter of strategies is given that")]
fn short(text: &String) -> bool {
    text.len() < 1200
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What is run here means what the crate's interpreter makes of it, by its other parser.
    #[test]
    fn expressions_mean_what_cel_means(expression in bools(3).prop_filter("long", short)) {
        if compiled(Some(&expression), "1.0").is_err() {
            // Only ever for its length.
            prop_assert!(expression.len() > 300, "{expression}");
            return Ok(());
        }
        if let Some(expected) = by_the_crate(&expression) {
            prop_assert_eq!(here(&expression), Some(expected), "{}", expression);
        } else if !expression.contains("&&") && !expression.contains("||") && !may_be_nan(&expression) {
            prop_assert_eq!(here(&expression), None, "{}", expression);
        }
    }

    /// Whatever is sent as a definition, there is an answer.
    #[test]
    fn no_text_breaks_it(text in ".{0,80}") {
        drop(compiled(Some(&text), &text));
    }

    #[test]
    fn no_words_break_it(words in prop::collection::vec(prop::sample::select(vec![
        "claim", ".", "confidence", "tier", "(", ")", "[", "]", "{", "}", ",", "?", ":", "+", "-",
        "*", "/", "%", "!", "&&", "||", "<", "==", "in", "null", "true", "1", "2.5", "1u", "'a'",
        "b'a'", "has", "map", "all", "exists", "steady", "by", "from", "exp2", "value", "question",
        "\"", "'", "`", "\\", "//", "\n", " ", "1e308", "0x10", "-1", "size", "int",
    ]), 0..60)) {
        for text in [words.concat(), words.join(" ")] {
            drop(compiled(Some(&text), &text));
        }
    }

    /// Whatever a weight is made of, the answer is whole, and its shares are shares.
    #[test]
    fn any_weight_gives_an_answer(weight in doubles(3).prop_filter("long", short), max: bool) {
        let aggregate = if max { Aggregate::Max } else { Aggregate::Sum };
        let Ok(lens) = CustomLens::new(Arc::new(definition(None, &weight, aggregate))) else {
            return Ok(());
        };
        let (mut world, _) = world_of_one(text("rare"));
        world.claim(agent(5), "b");
        world.claim_with(("s", "p"), agent(6), text("b"), |claim| claim.confidence = 0.0);
        let custom = Some(Arc::new(lens));
        for decay in decays() {
            let custom = custom.clone();
            let options = Options { custom, decay, ..world.options(LensName::Custom) };
            let answer = resolve(&world.candidates(), &options, None);
            let shares: f64 = answer.values.iter().map(|value| value.lens_share).sum();
            prop_assert!((0.0..=1.0 + 1e-9).contains(&shares), "{weight}: {shares}");
            prop_assert!(answer.values.iter().all(|value| value.lens_weight >= 0), "{weight}");
            prop_assert_eq!(answer.faults.len() as u64, answer.excluded_count, "{}", weight);
        }
    }
}
