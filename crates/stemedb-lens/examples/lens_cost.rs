//! What resolving one key costs, by lens and number of claims:
//! `cargo run --release -p stemedb-lens --example lens_cost`.
//!
//! Every claim is by a registered agent and from a source of its own, of tier 3 to 5; a tenth of them are
//! voted on, one in fifty is superseded, one in fifty retracted. `values` is how many values they name.
//! *Made* is an answer from the claims, *kept* one from a question made before, with its sums of trust
//! under the same table. The best of a few runs counts.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement of wall time, for people"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stemedb_lens::{
    Candidates, Claim, CustomLens, Decay, Fact, FactKind, LensName, Options, Question, Reliability,
    resolve, resolve_many, root_options,
};
use stemedb_model::{
    Agent, AgentAct, AgentId, Aggregate, Body, Genesis, Hash, Key, Lens, LifecycleState, LogId,
    Millis, Position, PredicateName, Principal, Record, RecordId, Registry, SourceClass, SourceKey,
    Space, Subject, Value,
};

/// Lenses of one's own: the least there is to work out, a filter, and more than most would write.
const OWN: [(&str, Option<&str>, &str); 3] = [
    ("own: 1.0", None, "1.0"),
    ("own: filtered", Some("claim.tier <= 5"), "claim.confidence"),
    (
        "own: long",
        Some("claim.confidence > 0.1 && !(claim.state == 'rejected' || claim.denies)"),
        "claim.tier == question.best_tier ? claim.confidence * exp2(-claim.age_days / 30.0) * \
         claim.reliability + steady(claim.votes_for - claim.votes_against) : null",
    ),
];

const NOW: Millis = Millis(1_700_000_000_000);

/// Made up: the first byte of an agent is as good as drawn.
struct Table;

impl Reliability for Table {
    fn reliability(&self, agent: &AgentId, _key: &Key) -> Option<u64> {
        Some(u64::from(agent.0[0]) << 22)
    }

    fn name(&self) -> Option<Hash> {
        Some(Hash([1; 32]))
    }
}

fn agent(n: u64) -> AgentId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    AgentId(bytes)
}

/// Genesis, and the agents 1 to `agents` in the places after it.
fn registry(agents: u64) -> Registry {
    let root = AgentId([255; 32]);
    let mut registry = Registry::default();
    let mut fold = |position: u64, body: Body| {
        let (space, log_id) = (Space::default(), Some(LogId([7; 16])));
        let record = Record { space, agent: root, at: NOW, log_id, body };
        let mut id = [0; 32];
        id[..8].copy_from_slice(&position.to_le_bytes());
        assert!(registry.apply(Position(position), RecordId(id), &record), "{record:?}");
    };
    fold(1, Body::Genesis(Genesis { format: 1, root }));
    for n in 1..=agents {
        let ceiling = SourceClass::Regulatory;
        let act = AgentAct::Register { name: None, ceiling, operator: None, roles: Vec::new() };
        fold(1 + n, Body::Agent(Agent { key: agent(n), act }));
    }
    registry
}

fn candidates(claims: u64, values: u64) -> Candidates {
    let subject = Subject::parse("s").expect("a subject");
    let predicate = PredicateName::parse("p").expect("a predicate");
    // The last voter is the author of no claim.
    let registered = claims + 1;
    let classes = [SourceClass::Expert, SourceClass::Community, SourceClass::Anecdotal];
    let at = |n: u64| Position(1 + registered + n);
    let principal = |n: u64| Principal::parse(&format!("p{n}")).expect("a principal");
    let claim = |n: u64| Claim {
        position: at(n),
        subject: subject.clone(),
        predicate: predicate.clone(),
        agent: agent(n),
        principal: principal(n),
        at: Millis(NOW.0 - (n as i64 * 7_919_000) % 31_536_000_000),
        recorded_at: NOW,
        source: SourceKey::Uri(format!("https://example.org/{n}").into()),
        class: Some(classes[(n % 3) as usize]),
        object: Value::text(&format!("value {}", n * n % values)).expect("a text"),
        confidence: 0.5 + (n % 50) as f64 / 100.0,
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        premises: Arc::from([]),
    };
    let fact = |n: u64, kind: FactKind| Fact {
        position: at(claims + n),
        target: at(n),
        agent: agent(n + 1),
        principal: principal(n + 1),
        at: NOW,
        recorded_at: NOW,
        kind,
    };
    let facts = (1..claims).filter_map(|n| match n % 50 {
        3 => Some(fact(n, FactKind::Supersede { new: at(n + 1) })),
        7 => Some(fact(n, FactKind::Retract)),
        0 | 10 | 20 | 30 | 40 => Some(fact(n, FactKind::Vote { weight: 0.5 })),
        _ => None,
    });
    Candidates {
        key: Key {
            space: Space::default(),
            subject: subject.clone(),
            predicate: predicate.clone(),
        },
        as_of: at(2 * claims),
        claims: (1..=claims).map(claim).collect(),
        opposing: Vec::new(),
        related: Vec::new(),
        facts: facts.collect(),
        registry: registry(registered),
        epochs: Vec::new(),
    }
}

/// The shortest of several runs.
fn time(mut run: impl FnMut() -> usize) -> Duration {
    let mut best = Duration::MAX;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        std::hint::black_box(run());
        best = best.min(start.elapsed());
    }
    best
}

fn main() {
    println!(
        "{:>8} {:>8}  {:<24} {:>12} {:>12}",
        "claims", "values", "lens", "made, us", "kept, us"
    );
    for (claims, values) in [(10, 3), (1_000, 10), (10_000, 10), (10_000, 10_000), (100_000, 10)] {
        let candidates = candidates(claims, values);
        let mut question = Question::new(&candidates, &Options::new(LensName::Authority, NOW));
        let learning = Instant::now();
        question.learn(Some(&Table));
        let learning = learning.elapsed();
        let micros = |took: Duration| took.as_secs_f64() * 1e6;
        let row = |name: &str, took: Duration| {
            println!("{claims:>8} {values:>8}  {name:<24} {:>12.1}", micros(took));
        };
        for lens in LensName::ALL {
            let options = Options::new(lens, NOW);
            let made = time(|| resolve(&candidates, &options, Some(&Table)).values.len());
            let kept = time(|| question.answer(&options, Some(&Table)).values.len());
            let (made, kept) = (micros(made), micros(kept));
            println!("{claims:>8} {values:>8}  {:<24} {made:>12.1} {kept:>12.1}", lens.as_str());
        }
        for (name, filter, weight) in OWN {
            let lens = CustomLens::new(Arc::new(Lens {
                name: name.into(),
                version: 1,
                filter: filter.map(Into::into),
                weight: weight.into(),
                aggregate: Aggregate::Sum,
                ties: Vec::new(),
            }));
            let options = Options::custom(Arc::new(lens.expect("a lens")), NOW);
            let made = time(|| resolve(&candidates, &options, None).values.len());
            let kept = time(|| question.answer(&options, None).values.len());
            let (made, kept) = (micros(made), micros(kept));
            println!("{claims:>8} {values:>8}  {name:<24} {made:>12.1} {kept:>12.1}");
        }
        println!("{claims:>8} {values:>8}  about {} bytes", question.weight());
        row("another table of trust", learning);
        let decayed = Options { decay: Decay::PerClass, ..Options::new(LensName::Authority, NOW) };
        row("authority, decay", time(|| resolve(&candidates, &decayed, None).values.len()));
        let all = root_options(NOW);
        row("all eight at once", time(|| resolve_many(&candidates, &all, None).len()));
    }
}
