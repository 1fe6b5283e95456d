//! A history in which everything happens.

use std::collections::BTreeSet;

use stemedb_model::SourceClass::{Anecdotal, Clinical, Expert, Regulatory};
use stemedb_model::*;

use super::bodies::*;
use super::{Server, agent, key};

const CITED: &str = "https://example.org/cited";
const BAD: &str = "https://example.org/bad";

/// Records of every kind, of which many take each other back; gives the number of them.
pub fn every_kind(server: &Server, space: &Space) -> usize {
    let mut records: Vec<Signed> = Vec::new();
    let mut write = |who: &str, body: Body| {
        let key = if who == "root" { server.root.clone() } else { key(who) };
        let signed = server.sign(&key, space, body);
        let id = signed.id();
        records.push(signed);
        id
    };
    let colour = |about: &str, value: &str, class| claim(about, "colour", value, class);
    for (name, ceiling, roles) in [
        ("regulator", Regulatory, &[][..]),
        ("trial", Clinical, &[]),
        ("all", Regulatory, &Role::ALL),
        ("thief", Expert, &[Role::Registrar]),
    ] {
        write("root", register(agent(name), ceiling, roles));
    }
    write(
        "root",
        Body::Agent(Agent {
            key: agent("bot"),
            act: AgentAct::Register {
                name: Some("a bot".into()),
                ceiling: Expert,
                operator: Some("regulator".into()),
                roles: vec![],
            },
        }),
    );
    write("all", source(CITED, Clinical));
    write("all", source(BAD, Regulatory));
    write("all", predicate("colour", Cardinality::One));
    let size = Predicate {
        name: property("size"),
        cardinality: Cardinality::One,
        value_type: Some(ValueType::Number),
        unit: Some("m".into()),
        conversions: vec![Conversion { unit: "km".into(), multiply: 1000.0, add: 0.0 }],
        tolerance: Some(Tolerance { absolute: Some(1.0), relative: None }),
        opposites: vec![],
        half_life: Some(86_400_000),
    };
    write("all", Body::Predicate(size));
    write("all", lens("house", 1));
    write("all", gold("thing", "colour", "red"));

    let red = write("regulator", cited("thing", "colour", "red", CITED, Clinical));
    let blue = write("trial", colour("thing", "blue", Clinical));
    for n in 0..12_u8 {
        let who = format!("patient {n}");
        let first = write(&who, colour("thing", ["red", "green"][usize::from(n % 2)], Anecdotal));
        if n % 3 == 0 {
            write(&who, colour("thing", "grey", Anecdotal));
        }
        if n % 4 == 0 {
            write(&who, vote(red, if n == 0 { -1.0 } else { 0.5 }));
            write("trial", cosign(first));
        }
        let object = if n < 6 {
            Value::number(1.0 + f64::from(n) / 4.0, None)
        } else {
            Value::number(0.01, Some("km"))
        };
        let number = Assertion {
            object: object.unwrap(),
            confidence: 0.5 + f64::from(n) / 100.0,
            ..assertion("thing", "size", "")
        };
        write(&who, Body::Assertion(number));
    }
    // Aliases, one of them undone.
    write("bot", colour("object", "red", Expert));
    write("all", alias("object", "thing"));
    let wrong = write("all", alias("part/one", "part/two"));
    write("bot", colour("part/one", "red", Expert));
    write("trial", colour("part/two", "blue", Expert));
    write("all", retract(wrong));
    // Epochs.
    let before = write("trial", epoch("before", None));
    let old = Assertion { epoch: Some(before), ..assertion("retired", "colour", "old") };
    write("trial", Body::Assertion(old));
    write("bot", colour("retired", "new", Expert));
    write("all", epoch("after", Some((before, EpochMode::Replace))));
    // Premises of which one falls.
    let premise = write("trial", cited("unsound", "size", "much", BAD, Regulatory));
    let mut rests = assertion("unsound", "colour", "red");
    rests.derived_from = vec![premise];
    rests.valid_from = Some(Millis(0));
    write("bot", Body::Assertion(rests));
    write("all", retract_source(uri(BAD)));
    // Supersession, lifecycle, retraction and its undoing.
    let late = write("trial", colour("thing", "azure", Clinical));
    write("trial", supersede(blue, late));
    write("all", lifecycle(late, LifecycleState::Approved));
    let rejected = write("bot", colour("part/one", "pink", Expert));
    write("all", lifecycle(rejected, LifecycleState::Rejected));
    let gone = write("bot", colour("part/two", "pink", Expert));
    let retraction = write("bot", retract(gone));
    write("bot", retract(retraction));
    // Keys: one replaced, one revoked with what it registered.
    let other = predicate("colour", Cardinality::Many);
    write("thief", other);
    write("thief", colour("thing", "stolen", Expert));
    write("bot", replace(server.log_id, space, agent("bot"), &key("new bot")));
    write("new bot", colour("part/one", "violet", Expert));
    write("root", revoke(agent("thief"), 2));
    write("all", trust(10));
    let kinds: BTreeSet<Kind> = records.iter().map(|signed| signed.record().kind()).collect();
    assert_eq!(kinds.len(), Kind::ALL.len() - 1, "all but genesis");
    server.import(&records);
    records.len()
}
