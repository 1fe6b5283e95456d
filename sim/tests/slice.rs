//! A bounded slice of the simulation; `make sim` runs more of it.

use std::collections::BTreeSet;

use stemedb_io::Env;
use stemedb_sim::{Plan, run, shrink};

fn plan(seed: u64, steps: u64) -> Plan {
    Plan { seed, steps, skip: BTreeSet::new() }
}

#[test]
fn no_promise_is_broken() {
    let first = Env::real().rng.next_u64() >> 16;
    eprintln!("seed {first}");
    for n in 0..60 {
        let plan = plan(first + n, 60);
        let outcome = run(&plan);
        if outcome.broken.is_some() {
            let (plan, outcome) = shrink(&plan, outcome, 20);
            panic!("{plan:?}: {:?}\n{}", outcome.broken, outcome.trace.join("\n"));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = Env::real().rng.next_u64() >> 16;
    eprintln!("seed {first}");
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
