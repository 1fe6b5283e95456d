//! The story every demo tells: the label says rare, a trial saw no signal, hundreds report it.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

mod support;

use stemedb_lens::{LensName, Status, resolve, resolve_many, root_options};
use stemedb_model::{SourceClass, SourceKey};
use support::*;

/// Claims by a regulator (1), a trial (2) and `posts` patients, each with a source of its own.
fn story(posts: u8) -> World {
    let mut world = World::new();
    world.register(agent(1), SourceClass::Regulatory, None);
    world.register(agent(2), SourceClass::Clinical, None);
    world.source(&[uri("label")], SourceClass::Regulatory);
    world.source(&[uri("trial")], SourceClass::Clinical);
    let from = |world: &mut World, n: u8, value: &str, source: SourceKey, class| {
        world.claim_with(("s", "p"), agent(n), text(value), |claim| {
            claim.source = source;
            claim.class = Some(class);
        })
    };
    from(&mut world, 1, "rare", uri("label"), SourceClass::Regulatory);
    from(&mut world, 2, "no signal", uri("trial"), SourceClass::Clinical);
    for n in 10..10 + posts {
        from(&mut world, n, "common", uri(&format!("post {n}")), SourceClass::Anecdotal);
    }
    world
}

#[test]
fn whoever_wins_it_is_contested() {
    let world = story(200);
    for (lens, winner) in [
        (LensName::Recency, Some("common")),
        (LensName::Consensus, Some("common")),
        (LensName::Confidence, Some("common")), // all are certain, so more agents decide
        (LensName::Authority, Some("rare")),
        (LensName::Trust, Some("common")),
        (LensName::Votes, Some("common")),
        (LensName::Skeptic, None),
        (LensName::Layered, Some("rare")),
    ] {
        let resolution = world.ask(lens);
        assert_eq!(answer(&resolution), winner, "{lens:?}");
        assert_eq!(resolution.status, Status::Contested, "{lens:?}");
        // (1/202 + 1)/2, (1/202 + 0)/2 and (200/202 + 0)/2: the label leads by one in 101.
        assert!((resolution.margin - 1.5 / 303.0).abs() < 0.01, "{}", resolution.margin);
        assert_eq!(resolution.conflict_score, 1.0);
        assert!((resolution.evidence - 202.0).abs() < 1e-9);
        assert_eq!(resolution.considered, 202);
        assert!(resolution.excluded.is_empty());
    }
}

#[test]
fn layers_tell_who_says_what() {
    let layered = story(200).ask(LensName::Layered);
    let layers: Vec<_> = layered
        .layers
        .iter()
        .map(|layer| (layer.tier.0, layer.status, format!("{:?}", layer.values[0].value)))
        .collect();
    let expected = [(0, "rare"), (1, "no signal"), (5, "common")];
    let expected =
        expected.map(|(tier, value)| (tier, Status::Unanimous, format!("{:?}", text(value))));
    assert_eq!(layers, expected);
    // Three tiers, three answers: log2(3) bits, at most 1.
    assert_eq!(layered.cross_tier_conflict, 1.0);
    let dissent: Vec<_> = layered.dissent.iter().map(|d| (d.class, d.voices, d.claims)).collect();
    assert_eq!(dissent, [(SourceClass::Clinical, 1, 1), (SourceClass::Anecdotal, 200, 200)]);
}

#[test]
fn many_lenses_at_once_are_each_lens_alone() {
    let world = story(20);
    let options = root_options(world.now());
    let candidates = world.candidates();
    let alone: Vec<_> = options.iter().map(|one| resolve(&candidates, one, None)).collect();
    assert_eq!(resolve_many(&candidates, &options, None), alone);
}
