//! A bounded slice of the simulation, with fresh seeds; a failure prints the run, made smaller.
#![allow(clippy::panic, reason = "in a test the panic is the verdict")]

use std::collections::BTreeSet;

use stemedb_io::Env;
use stemedb_sim::{Plan, run, shrink};

fn plan(seed: u64, steps: u64) -> Plan {
    Plan { seed, steps, skip: BTreeSet::new() }
}

/// The first seed of this run, printed.
fn fresh() -> u64 {
    let first = Env::real().rng.next_u64() >> 16;
    eprintln!("seed {first}");
    first
}

fn break_no_promise(first: u64, runs: u64, steps: u64) {
    for n in 0..runs {
        let plan = plan(first + n, steps);
        let outcome = run(&plan);
        if outcome.broken.is_some() {
            let (plan, outcome) = shrink(&plan, outcome, 20);
            panic!("{plan:?}: {:?}\n{}", outcome.broken, outcome.trace.join("\n"));
        }
    }
}

#[test]
fn fresh_seeds_break_no_promise() {
    break_no_promise(fresh(), 100, 100);
}

#[test]
fn known_seeds_break_no_promise() {
    break_no_promise(1, 40, 150);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = fresh();
    let mut digests = BTreeSet::new();
    for n in 0..10 {
        let plan = plan(first + n, 60);
        let (one, two) = (run(&plan), run(&plan));
        assert_eq!(one.digest, two.digest, "{plan:?}");
        assert_eq!(one.tally, two.tally, "{plan:?}");
        digests.insert(one.digest);
    }
    assert_eq!(digests.len(), 10, "another seed is another run");
}
