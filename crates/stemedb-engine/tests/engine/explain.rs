//! A receipt is made again, bit for bit, by a node that has started again and by an index made anew.

use stemedb_engine::{AsOf, Engine, View};
use stemedb_lens::{Decay, LensName, Options, Receipt};
use stemedb_model::{
    Assertion, Body, Key, Lifecycle, LifecycleState, Millis, Position, RecordId, Role, SourceClass,
    Space, Tier, Value,
};

use crate::common::*;

const AGENTS: u8 = 9;
const SUBJECTS: u64 = 12;
const RECORDS: u64 = 400;

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        self.below(4).eq(&0).then_some(value)
    }
}

/// Claims with premises, revisions and bounds, votes, retractions, supersessions, states.
fn history(engine: &Engine, dice: &mut Dice) {
    for n in 1..=AGENTS {
        let class = dice.pick(&SourceClass::ALL);
        let roles: &[Role] = if n == 1 { &[Role::Registrar] } else { &[] };
        create(engine, register(&root(), &key(n), class, roles));
    }
    let mut claims: Vec<RecordId> = Vec::new();
    for n in 0..RECORDS {
        let author = key(1 + dice.below(u64::from(AGENTS)) as u8);
        let at = WALL_MS - dice.below(100_000_000) as i64;
        let earlier = |dice: &mut Dice| (!claims.is_empty()).then(|| dice.pick(&claims));
        let signed = match (dice.below(10), earlier(dice)) {
            (0, Some(target)) => vote(&author, target),
            (1, Some(target)) => retract(&root(), target),
            (2, Some(old)) => match dice.pick(&claims) {
                new if new == old => continue,
                new => supersede(&root(), old, new),
            },
            (3, Some(assertion)) => {
                let state = dice.pick(&[LifecycleState::Rejected, LifecycleState::Approved]);
                let body = Body::Lifecycle(Lifecycle { assertion, state, reason: None });
                sealed(&root(), at, body)
            }
            (_, before) => {
                let subject = format!("s{}", dice.below(SUBJECTS));
                let value = format!("v{}", dice.below(5));
                let signed = sealed(
                    &author,
                    at,
                    Body::Assertion(Assertion {
                        confidence: dice.pick(&[1.0, 0.5, 0.25]),
                        derived_from: before.filter(|_| n % 5 == 0).into_iter().collect(),
                        valid_to: dice.maybe(Millis(WALL_MS)),
                        ..claim(&subject, &value)
                    }),
                );
                claims.push(signed.id());
                signed
            }
        };
        // Some of it is refused: what closes a circle, or is there already.
        let _ = write(engine, signed);
    }
}

fn options(dice: &mut Dice, evaluated_at: Millis) -> Options {
    let lens = dice.pick(&LensName::ALL);
    Options {
        epoch_aware: dice.below(4) > 0,
        decay: dice.pick(&[Decay::Off, Decay::PerClass, Decay::HalfLife(86_400_000)]),
        min_confidence: dice.maybe(0.5),
        tiers: dice.maybe([Tier(3), Tier(4), Tier(5)].into()),
        lifecycle: dice.maybe([LifecycleState::Proposed, LifecycleState::Rejected].into()),
        agents: dice.maybe([key(1).agent_id(), key(2).agent_id()].into()),
        asserted_before: dice.maybe(Millis(WALL_MS - 50_000_000)),
        valid_at: dice.pick(&[evaluated_at, Millis(WALL_MS + 1)]),
        ..Options::new(lens, evaluated_at)
    }
}

fn view(engine: &Engine) -> View {
    engine.view(Position::NONE, std::time::Duration::ZERO).unwrap()
}

/// What a receipt says, made again from nothing but what it says.
fn again(view: &View, receipt: &Receipt) -> Receipt {
    let then = view.as_of(AsOf::Position(receipt.position)).unwrap();
    let then = then.evaluated(receipt.options.evaluated_at);
    loop {
        match then.explain(&receipt.key, &receipt.options) {
            Err(stemedb_engine::ReadError::TrustPending { .. }) => RealPause.pause(),
            found => break found.unwrap().0,
        }
    }
}

#[test]
fn receipts_are_made_again_bit_for_bit() {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    let seed = number("SEED", now);
    let wanted = number("RECEIPTS", 300);
    println!("{wanted} receipts, seed {seed}");
    let mut dice = Dice(seed);
    let world = World::new();
    let engine = world.start();
    history(&engine, &mut dice);
    let learned = view(&engine).learn_trust(&Space::default()).unwrap();
    let snapshot = Body::TrustSnapshot(learned.snapshot);
    create(&engine, sealed(&root(), WALL_MS, snapshot));
    let newest = view(&engine);
    let mut receipts = Vec::new();
    let mut excluded = 0;
    for _ in 0..wanted {
        let position = Position(1 + dice.below(newest.position().0));
        let then = newest.as_of(AsOf::Position(position)).unwrap();
        let options = options(&mut dice, then.evaluated_at());
        let key: Key = the_key(&format!("s{}", dice.below(SUBJECTS)));
        let (receipt, considered) = then.explain(&key, &options).unwrap();
        assert_eq!(receipt.considered, considered.len() as u64);
        excluded += receipt.excluded;
        receipts.push(receipt);
    }
    assert!(excluded > wanted, "{excluded} excluded in {wanted} receipts");
    let compare = |engine: &Engine| {
        let newest = view(engine);
        for receipt in &receipts {
            let found = again(&newest, receipt);
            assert_eq!(found.hash(), receipt.hash(), "{receipt:?}");
            assert_eq!(found, *receipt);
        }
    };
    // A view keeps the index open.
    drop(newest);
    compare(&engine);
    engine.close(std::time::Duration::from_secs(5));
    drop(engine);
    let engine = world.start();
    compare(&engine);
    engine.close(std::time::Duration::from_secs(5));
    drop(engine);
    world.delete_index();
    compare(&world.start());
}

/// A receipt is of the answer: it names the same values, in the same order, with the same weights.
#[test]
fn a_receipt_is_of_the_answer() {
    let world = World::new();
    let engine = world.start();
    history(&engine, &mut Dice(7));
    let newest = view(&engine);
    for subject in 0..SUBJECTS {
        let key = the_key(&format!("s{subject}"));
        for lens in LensName::ALL {
            let options = newest.options(lens);
            let answer = newest.resolve(&key, std::slice::from_ref(&options)).unwrap().remove(0);
            let (receipt, considered) = newest.explain(&key, &options).unwrap();
            let of_answer: Vec<(&Value, i128)> =
                answer.values.iter().map(|value| (&value.value, value.lens_weight)).collect();
            let of_receipt: Vec<(&Value, i128)> =
                receipt.values.iter().map(|value| (&value.value, value.lens_weight)).collect();
            assert_eq!(of_answer, of_receipt);
            assert_eq!(answer.winners, receipt.winners);
            let counted = considered.iter().filter(|one| one.excluded.is_none()).count() as u64;
            assert_eq!(answer.considered - answer.excluded_count, counted);
        }
    }
}
