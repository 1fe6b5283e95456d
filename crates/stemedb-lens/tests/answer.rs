//! Bytes of `docs/format/answer.md`, frozen. The expected ones were computed from that page by a
//! program in another language.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a wrong test input fails")]

mod support;

use stemedb_lens::{AnswerRoot, Decay, LensName, Options, answer_leaf, lens_hash, root_options};
use stemedb_model::{Hash, LifecycleState, Millis, SourceKey, Tier};
use support::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn lens_hashes_are_frozen() {
    let hashes = root_options(Millis(0)).map(|options| lens_hash(&options).to_string());
    let expected = [
        "f819fb5dad5c0826756967cbcb6ace7eb4898ac775ca65935953875c07190758",
        "e6265fee40be53d2454ea3084144a1aeef567486ab80f37dd0cd76d853fd175a",
        "97379492b43da8e0b832b3559aae0e200a2d514286a199df4263d25067e48df2",
        "eac96edd66f30e371617764e58a9246e5d2dcba93b452df4979520620050e0c4",
        "6a92bb9395f97a2519151043af603363b662edb9555eed6e3455cd0d64ba66ce",
        "fc94daa70e02209002526296b2112a8c98173ba3705a147d1eda9e64be2a30fe",
        "3052b2530d3e8030b5593adae9aea18a2dd030115c3d32bd627fe750548a5066",
        "04801421a8b62a6042920d7b84b5e271a8d5cdfe701259e82af546ea098192dc",
    ];
    assert_eq!(hashes, expected);
}

#[test]
fn every_policy_has_its_own_hash_and_times_have_none() {
    let base = Options::new(LensName::Authority, Millis(0));
    let mut all = vec![base.clone()];
    let mut with = |set: &dyn Fn(&mut Options)| {
        let mut options = base.clone();
        set(&mut options);
        all.push(options);
    };
    with(&|o| o.lens = LensName::Recency);
    with(&|o| o.epoch_aware = false);
    with(&|o| o.decay = Decay::PerClass);
    with(&|o| o.decay = Decay::HalfLife(1));
    with(&|o| o.min_confidence = Some(0.5));
    with(&|o| o.lifecycle = Some([LifecycleState::Approved].into()));
    with(&|o| o.tiers = Some([Tier(0)].into()));
    with(&|o| o.tiers = Some([Tier(0), Tier(1)].into()));
    with(&|o| o.agents = Some([agent(1)].into()));
    with(&|o| o.sources = Some([SourceKey::Agent(agent(1))].into()));
    with(&|o| o.sources = Some([SourceKey::Evidence(Hash([1; 32]))].into()));
    with(&|o| o.sources = Some([uri("x")].into()));
    with(&|o| o.sources = Some([].into()));
    with(&|o| o.asserted_before = Some(Millis(0)));
    with(&|o| o.asserted_before = Some(Millis(-1)));
    let hashes: std::collections::BTreeSet<_> = all.iter().map(lens_hash).collect();
    assert_eq!(hashes.len(), all.len());

    let mut later = base.clone();
    (later.evaluated_at, later.valid_at) = (Millis(5), Millis(6));
    assert_eq!(lens_hash(&later), lens_hash(&base));
}

#[test]
fn a_leaf_and_a_root_are_frozen() {
    let mut w = World::new();
    w.claim(agent(1), "a");
    w.claim(agent(2), "b");
    w.claim(agent(3), "b");
    w.claim(agent(1), "c");
    let resolution = w.ask(LensName::Consensus);
    let leaf = answer_leaf(&resolution, &resolution.excluded, &id);
    let expected = [
        "88",                                                                   // a list of eight
        "6764656661756c74",                                                     // space default
        "6173",                                                                 // subject s
        "6170",                                                                 // predicate p
        "5820e6265fee40be53d2454ea3084144a1aeef567486ab80f37dd0cd76d853fd175a", // lens hash
        "81a2647479706564746578746576616c75656162", // one winner, the text b
        "66616772656564",                           // agreed
        "8282a2647479706564746578746576616c756561621b000aaaaaaaaaaaab", // two shares: b, two thirds
        "82a2647479706564746578746576616c756561631b0005555555555555", // c, one third
        "81825820",                                 // one excluded
        "0200000000000000000000000000000000000000000000000000000000000000", // its id
        "687265706c61636564",                       // replaced
    ];
    assert_eq!(hex(&leaf), expected.concat());

    let mut root = AnswerRoot::new();
    let options = root_options(w.now());
    for resolution in stemedb_lens::resolve_many(&w.candidates(), &options, None) {
        root.add(&answer_leaf(&resolution, &resolution.excluded, &id));
    }
    let expected = "43c02bf00e6563913e287de77ab81104165e23f6f9aa7c12a6d72a3fb753c7b3";
    assert_eq!(root.finish().to_string(), expected);
}
