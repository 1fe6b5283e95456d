//! Known ways to bend an answer, each beside the honest way to the same end: the first must fail and
//! the second succeed, under the lens and in the mode of deployment that `docs/reliability/attacks.md`
//! states.

use stemedb_engine::{AsOf, Engine, View, WriteError};
use stemedb_lens::{LensName, Options};
use stemedb_model::{
    Assertion, Body, Millis, Position, Provenance, Role, Signed, SigningKey, Source, SourceClass,
    SourceKey, Value, Vote,
};

use crate::common::*;

/// How many take part in an attack.
const SIZES: [u16; 3] = [1, 10, 100];
const TRUE: &str = "as it is";
const FALSE: &str = "as it is not";

fn view(engine: &Engine) -> View {
    engine.view(Position::NONE, std::time::Duration::ZERO).unwrap()
}

fn stranger(n: u16) -> SigningKey {
    let [low, high] = n.to_le_bytes();
    SigningKey::from_seed(&[
        low, high, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
        23, 24, 25, 26, 27, 28, 29, 30,
    ])
}

fn from(uri: &str, class: SourceClass) -> Option<Provenance> {
    Some(Provenance { uri: Some(uri.into()), class: Some(class), ..Provenance::default() })
}

fn says(author: &SigningKey, at: i64, claim: Assertion) -> Signed {
    sealed(author, at, Body::Assertion(claim))
}

fn answer_with(view: &View, options: Options) -> Option<String> {
    let answers = view.resolve(&the_key("s"), &[options]).unwrap();
    answers[0].winner().map(|winner| match &winner.value {
        Value::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    })
}

fn answer(view: &View, lens: LensName) -> Option<String> {
    answer_with(view, view.options(lens))
}

/// A registered clinic says what is so, from a registered source.
fn clinic(engine: &Engine) -> SigningKey {
    let clinic = key(1);
    create(engine, register(&root(), &clinic, SourceClass::Clinical, &[]));
    let keys = vec![SourceKey::Uri("https://clinic.example/trial".into())];
    let source = Source { keys, class: SourceClass::Clinical, title: None };
    create(engine, sealed(&root(), WALL_MS, Body::Source(source)));
    let source = from("https://clinic.example/trial", SourceClass::Clinical);
    create(engine, says(&clinic, WALL_MS, Assertion { source, ..claim("s", TRUE) }));
    clinic
}

/// Who calls itself a regulator is none: the class of a source, and the ceiling of an agent, are given.
#[test]
fn authority_is_not_declared() {
    for size in SIZES {
        let world = World::new();
        let engine = world.start();
        clinic(&engine);
        for n in 0..size {
            let source = from(&format!("https://{n}.example"), SourceClass::Regulatory);
            let lie = Assertion { source, ..claim("s", FALSE) };
            create(&engine, says(&stranger(n), WALL_MS, lie));
        }
        assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some(TRUE), "{size}");
        // A regulator that root has registered, with its source, decides.
        let regulator = key(2);
        create(&engine, register(&root(), &regulator, SourceClass::Regulatory, &[]));
        let keys = vec![SourceKey::Uri("https://regulator.example".into())];
        let source = Source { keys, class: SourceClass::Regulatory, title: None };
        create(&engine, sealed(&root(), WALL_MS, Body::Source(source)));
        let source = from("https://regulator.example", SourceClass::Regulatory);
        create(&engine, says(&regulator, WALL_MS, Assertion { source, ..claim("s", "other") }));
        assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some("other"));
    }
}

/// One source through many registered mouths is one voice.
#[test]
fn an_echo_is_one_voice() {
    for size in SIZES {
        let world = World::new();
        let engine = world.start();
        for n in 0..2 {
            let honest = stranger(1000 + n);
            create(&engine, register(&root(), &honest, SourceClass::Expert, &[]));
            let source = from(&format!("https://own.example/{n}"), SourceClass::Expert);
            create(&engine, says(&honest, WALL_MS, Assertion { source, ..claim("s", TRUE) }));
        }
        let crowd = |source_of: &dyn Fn(u16) -> String, value: &str, at: i64| {
            for n in 0..size {
                let source = from(&source_of(n), SourceClass::Expert);
                let said = Assertion { source, ..claim("s", value) };
                create(&engine, says(&stranger(n), at, said));
            }
        };
        for n in 0..size {
            create(&engine, register(&root(), &stranger(n), SourceClass::Expert, &[]));
        }
        crowd(&|_| "https://rumour.example".to_owned(), FALSE, WALL_MS);
        for lens in [LensName::Consensus, LensName::Authority, LensName::Votes] {
            assert_eq!(answer(&view(&engine), lens).as_deref(), Some(TRUE), "{size} {lens:?}");
        }
        // The same crowd, each with a source of its own, is heard.
        crowd(&|n| format!("https://looked.example/{n}"), "other", WALL_MS + 1);
        let expected = if size > 2 { "other" } else { TRUE };
        assert_eq!(answer(&view(&engine), LensName::Consensus).as_deref(), Some(expected));
    }
}

/// Unregistered keys behind one owner of an API key are one voter, and move a value by one claim at most.
#[test]
fn sybils_have_one_vote() {
    for size in SIZES {
        let world = World::new();
        let engine = world.start();
        let mut lie = None;
        for (n, value) in [(0, TRUE), (1, TRUE), (2, FALSE)] {
            let author = stranger(1000 + n);
            create(&engine, register(&root(), &author, SourceClass::Expert, &[]));
            let signed = assertion(&author, "s", value);
            lie = Some(signed.id());
            create(&engine, signed);
        }
        let lie = lie.unwrap();
        for n in 0..size {
            create(&engine, vote(&stranger(n), lie));
        }
        assert_eq!(answer(&view(&engine), LensName::Votes).as_deref(), Some(TRUE), "{size}");
        // Registered voters are voices of their own.
        for n in 0..4 {
            let voter = stranger(2000 + n);
            create(&engine, register(&root(), &voter, SourceClass::Community, &[]));
            let body = Body::Vote(Vote { assertion: lie, weight: 1.0 });
            create(&engine, sealed(&voter, WALL_MS, body));
        }
        assert_eq!(answer(&view(&engine), LensName::Votes).as_deref(), Some(FALSE), "{size}");
    }
}

/// A claim from the future is not newer than when it was recorded, and one from the past changes no
/// answer that was given.
#[test]
fn dates_do_not_bend_time() {
    let world = World::new();
    let engine = world.start();
    let first = create(&engine, assertion(&key(1), "s", TRUE));
    let then = view(&engine).as_of(AsOf::Position(first)).unwrap();
    let given = answer(&then, LensName::Recency);
    // Within the slack of clocks; beyond it the log refuses.
    let ahead = says(&stranger(1), WALL_MS + 100_000, claim("s", FALSE));
    create(&engine, ahead);
    let far = says(&stranger(2), WALL_MS + 86_400_000_000, claim("s", FALSE));
    assert!(matches!(write(&engine, far), Err(WriteError::AtAhead { .. })));
    world.clock.step(std::time::Duration::from_secs(10));
    create(&engine, says(&key(2), WALL_MS + 10_000, claim("s", "newer")));
    assert_eq!(answer(&view(&engine), LensName::Recency).as_deref(), Some("newer"));
    for n in 0..20 {
        create(&engine, says(&stranger(10 + n), WALL_MS - 86_400_000_000, claim("s", FALSE)));
    }
    let again = view(&engine).as_of(AsOf::Position(first)).unwrap();
    assert_eq!(answer(&again, LensName::Recency), given);
    assert_eq!(answer(&view(&engine), LensName::Recency).as_deref(), Some("newer"));
    // Who reads by claimed time asks for just that.
    let newest = view(&engine);
    let claimed =
        Options { asserted_before: Some(Millis(WALL_MS - 1)), ..newest.options(LensName::Recency) };
    assert_eq!(answer_with(&newest, claimed).as_deref(), Some(FALSE));
}

/// A claim is of no better tier than what it says it rests on, whoever signs it.
#[test]
fn premises_are_not_laundered() {
    let world = World::new();
    let engine = world.start();
    clinic(&engine);
    let regulator = key(2);
    create(&engine, register(&root(), &regulator, SourceClass::Regulatory, &[]));
    let keys = vec![SourceKey::Uri("https://regulator.example".into())];
    let source = Source { keys, class: SourceClass::Regulatory, title: None };
    create(&engine, sealed(&root(), WALL_MS, Body::Source(source)));
    let mut rumour = assertion(&stranger(1), "rumour", FALSE);
    create(&engine, rumour.clone());
    // Through several hands, the last of them of the best name.
    for hop in 0..5 {
        let mut said = claim(&format!("hop {hop}"), FALSE);
        said.derived_from = vec![rumour.id()];
        said.source = from("https://regulator.example", SourceClass::Regulatory);
        rumour = says(&regulator, WALL_MS, said);
        create(&engine, rumour.clone());
    }
    let source = from("https://regulator.example", SourceClass::Regulatory);
    let laundered =
        Assertion { source: source.clone(), derived_from: vec![rumour.id()], ..claim("s", FALSE) };
    create(&engine, says(&regulator, WALL_MS, laundered));
    assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some(TRUE));
    // What it says by itself counts for what it is.
    create(&engine, says(&regulator, WALL_MS + 1, Assertion { source, ..claim("s", "other") }));
    assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some("other"));
}

/// Nobody takes back, replaces or rejects what somebody else said, but who has the right to.
#[test]
fn strangers_supersede_nothing() {
    let world = World::new();
    let engine = world.start();
    let clinic = clinic(&engine);
    let said = view(&engine).entry(view(&engine).position()).unwrap().unwrap().signed.id();
    let stranger = stranger(1);
    let own = assertion(&stranger, "s", FALSE);
    create(&engine, own.clone());
    for attack in [supersede(&stranger, said, own.id()), retract(&stranger, said)] {
        let refused = write(&engine, attack).unwrap_err();
        assert!(matches!(refused, WriteError::Refused(_)), "{refused:?}");
    }
    assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some(TRUE));
    // Its author may, and a registrar.
    let source = from("https://clinic.example/trial", SourceClass::Clinical);
    let revised = says(&clinic, WALL_MS + 1, Assertion { source, ..claim("s", "revised") });
    create(&engine, revised.clone());
    create(&engine, supersede(&clinic, said, revised.id()));
    assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some("revised"));
    create(&engine, register(&root(), &key(5), SourceClass::Clinical, &[Role::Curator]));
    create(&engine, retract(&key(5), revised.id()));
    assert_eq!(answer(&view(&engine), LensName::Authority).as_deref(), Some(TRUE));
}
