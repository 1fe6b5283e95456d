//! Two nodes and a third that takes over, drawn from a seed: clocks that run apart, a store that is slow,
//! fails before or after it has done what was asked, and processes that stand still at any call. At no
//! moment does more than one of them hold the lease.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what is not there fails it"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use stemedb_io::sim::SimRng;
use stemedb_io::{Clock, Env, RealVfs, Rng};
use stemedb_model::{LogId, SigningKey, Timeline};
use stemedb_remote::{
    EncryptionKeys, Lease, LeaseConfig, LeaseKeeper, LeaseState, LeaseView, Listed, MemoryStore,
    Put, Store, StoreError, Take, Writer, newest_lease,
};

const LOG: LogId = LogId([7; 16]);
const OLD: Timeline = Timeline([1; 16]);
const NEW: Timeline = Timeline([2; 16]);
const TIME: Duration = Duration::from_secs(10);
/// Clocks run apart by up to a twentieth: over a lease that is less than this.
const SKEW: Duration = Duration::from_millis(1_500);
const APART: u64 = 50;

/// The one time that no node knows, in microseconds.
struct World {
    now: AtomicU64,
    rng: SimRng,
    /// Of one thousand calls of a store so many fail, each in one of two ways.
    failing: u64,
    nodes: OnceLock<Vec<Node>>,
    held: AtomicU64,
}

struct Node {
    keeper: Mutex<LeaseKeeper>,
    view: LeaseView,
    /// Not asked before.
    next: AtomicU64,
}

thread_local! {
    /// How deep nodes act while others stand still in a call.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A clock that begins anywhere, and runs fast or slow.
struct Apart {
    world: Weak<World>,
    start: u64,
    /// In thousands.
    rate: u64,
}

impl Clock for Apart {
    fn now_ms(&self) -> i64 {
        (self.boottime().as_millis() as i64).wrapping_mul(3)
    }

    /// It stands still while the machine is suspended, so it must not matter.
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn boottime(&self) -> Duration {
        let now = self.world.upgrade().unwrap().now.load(Ordering::SeqCst);
        Duration::from_micros(self.start + now * self.rate / 1_000)
    }

    fn sleep(&self, _: Duration) {}
}

/// The one store, as seen over a bad network.
struct Far {
    world: Weak<World>,
    inner: Arc<MemoryStore>,
}

impl Far {
    fn call<T>(
        &self,
        act: &'static str,
        name: &str,
        call: impl Fn() -> T,
    ) -> Result<T, StoreError> {
        let world = self.world.upgrade().unwrap();
        let failed =
            || StoreError::Unavailable { act, name: name.into(), problem: "no answer".into() };
        world.pass();
        let draw = world.draw(1_000);
        if draw < world.failing {
            return Err(failed());
        }
        let done = call();
        world.pass();
        if draw < 2 * world.failing { Err(failed()) } else { Ok(done) }
    }
}

impl Store for Far {
    fn keys(&self) -> &EncryptionKeys {
        self.inner.keys()
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.call("put", name, || self.inner.put_new(name, bytes))?
    }

    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        self.call("get", name, || self.inner.get(name, most))?
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        self.call("list", folder, || self.inner.list(folder, after))?
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.call("list", folder, || self.inner.folders(folder))?
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.call("remove", name, || self.inner.remove(name))?
    }

    fn place(&self) -> String {
        "far".into()
    }
}

impl World {
    fn draw(&self, most: u64) -> u64 {
        self.rng.next_u64() % most
    }

    /// Some time goes by inside of a call, and others act in it: mostly a little, now and then so much
    /// that every lease is over.
    fn pass(&self) {
        let ms = match self.draw(40) {
            0 => 1_000 * (1 + self.draw(60)),
            1..=5 => 100 + self.draw(4_000),
            _ => self.draw(30),
        };
        let until = self.now.load(Ordering::SeqCst) + 1_000 * ms;
        if DEPTH.get() < 3 {
            DEPTH.set(DEPTH.get() + 1);
            while self.act(until) {}
            DEPTH.set(DEPTH.get() - 1);
        }
        self.now.fetch_max(until, Ordering::SeqCst);
        self.look();
    }

    /// The node whose turn it is, if it can act before `until`.
    fn act(&self, until: u64) -> bool {
        let Some(nodes) = self.nodes.get() else { return false };
        let free = nodes.iter().filter_map(|node| Some((node, node.keeper.try_lock().ok()?)));
        let Some((node, mut keeper)) =
            free.min_by_key(|(node, _)| node.next.load(Ordering::SeqCst))
        else {
            return false;
        };
        let at = node.next.load(Ordering::SeqCst).max(self.now.load(Ordering::SeqCst));
        if at >= until {
            return false;
        }
        self.now.fetch_max(at, Ordering::SeqCst);
        self.look();
        let pause = keeper.step();
        drop(keeper);
        // A process that stands still comes late.
        let late = if self.draw(25) == 0 { self.draw(40_000_000) } else { self.draw(20_000) };
        let pause = pause.as_micros() as u64 + late + 1_000;
        node.next.store(self.now.load(Ordering::SeqCst) + pause, Ordering::SeqCst);
        self.look();
        true
    }

    fn look(&self) {
        let Some(nodes) = self.nodes.get() else { return };
        let holders: Vec<usize> =
            (0..nodes.len()).filter(|one| nodes[*one].view.check().is_ok()).collect();
        assert!(holders.len() <= 1, "{holders:?} hold it at once");
        self.held.fetch_add(holders.len() as u64, Ordering::SeqCst);
    }
}

/// A node: the branch it writes, the one it left, how it takes, how long its lease is.
type Wanted = (Timeline, Option<Timeline>, Take, Duration);

fn world(seed: u64, failing: u64, wanted: &[Wanted]) -> (Arc<World>, Arc<MemoryStore>) {
    let inner = Arc::new(MemoryStore::default());
    let world = Arc::new(World {
        now: AtomicU64::new(0),
        rng: SimRng::new(seed),
        failing,
        nodes: OnceLock::new(),
        held: AtomicU64::new(0),
    });
    let nodes = wanted.iter().zip(0_u64..).map(|((timeline, parent, take, time), at)| {
        let clock = Apart {
            world: Arc::downgrade(&world),
            start: world.draw(1 << 40),
            rate: 1_000 - APART + world.draw(2 * APART + 1),
        };
        let rng = Arc::new(SimRng::new(seed.wrapping_mul(31) + at));
        let env = Env { clock: Arc::new(clock), rng, vfs: Arc::new(RealVfs) };
        let store = Far { world: Arc::downgrade(&world), inner: Arc::clone(&inner) };
        let keeper = LeaseKeeper::new(
            Arc::new(store),
            env,
            SigningKey::from_seed(&[at as u8 + 1; 32]),
            Writer { log_id: LOG, timeline: *timeline, parent: *parent },
            LeaseConfig { time: *time, skew: SKEW, address: format!("http://node-{at}") },
            *take,
        );
        // The second of a pair comes when the first is at it.
        let next = AtomicU64::new(if at == 0 { 0 } else { world.draw(300_000_000) });
        Node { view: keeper.view(), keeper: Mutex::new(keeper), next }
    });
    let nodes = nodes.collect();
    world.nodes.set(nodes).ok().unwrap();
    (world, inner)
}

fn run(world: &World, seconds: u64) {
    let end = world.now.load(Ordering::SeqCst) + seconds * 1_000_000;
    while world.now.load(Ordering::SeqCst) < end && world.act(end) {}
}

#[test]
fn two_of_one_branch_never_hold_it_at_once() {
    let same = (OLD, None, Take::WhenOver, TIME);
    for seed in 0..120 {
        let (world, _) = world(seed, seed % 200, &[same, same]);
        run(&world, 1_500);
        let held = world.held.load(Ordering::SeqCst);
        assert!(held > 20, "seed {seed}: nobody could write, {held}");
    }
}

#[test]
fn who_takes_over_waits_and_the_one_before_writes_no_more() {
    for seed in 0..120 {
        // Leases of all lengths: the new one may be far shorter.
        let short = Duration::from_secs(3 + seed % 12);
        let wanted = [
            (OLD, None, Take::WhenOver, TIME),
            (NEW, Some(OLD), Take::Now, short),
            (NEW, Some(OLD), Take::WhenOver, short),
        ];
        let (world, store) = world(seed, seed % 200, &wanted);
        run(&world, 2_500);
        let newest = newest_lease(&*store, LOG).unwrap().unwrap();
        assert_eq!(newest.timeline, NEW, "seed {seed}");
        let old = &world.nodes.get().unwrap()[0];
        assert!(old.view.check().is_err());
        assert!(world.held.load(Ordering::SeqCst) > 20, "seed {seed}: nobody could write");
    }
}

#[test]
fn what_it_says_at_each_step() {
    let wanted = [
        (OLD, None, Take::WhenOver, TIME),
        (OLD, None, Take::WhenOver, TIME),
        (NEW, Some(OLD), Take::Now, TIME),
    ];
    let (world, store) = world(5, 0, &wanted);
    let nodes = world.nodes.get().unwrap();
    DEPTH.set(9);
    let step = |node: usize| nodes[node].keeper.lock().unwrap().step();
    let state = |node: usize| nodes[node].view.state();
    let wait = |seconds: u64| world.now.fetch_add(seconds * 1_000_000, Ordering::SeqCst);

    step(0);
    assert_eq!((state(0), nodes[0].view.check()), (LeaseState::Held, Ok(())));
    step(1);
    let LeaseState::Waiting { address, .. } = state(1) else { panic!("{:?}", state(1)) };
    assert_eq!(address, "http://node-0");
    let waits = nodes[1].view.check().unwrap_err();
    assert!(waits.contains("another node at http://node-0 holds the lease"), "{waits}");

    // Taken: from now on it cannot be renewed, and the taker waits.
    step(2);
    assert!(matches!(state(2), LeaseState::Waiting { .. }), "{:?}", state(2));
    assert!(nodes[2].view.check().is_err());
    wait(9);
    step(0);
    step(0);
    let LeaseState::Lost { problem } = state(0) else { panic!("{:?}", state(0)) };
    assert!(problem.contains("http://node-2") && problem.contains("rejoin"), "{problem}");
    step(2);
    wait(4);
    step(2);
    assert_eq!((state(2), nodes[2].view.check()), (LeaseState::Held, Ok(())));

    // Given back, nobody waits.
    nodes[2].keeper.lock().unwrap().release().unwrap();
    assert_eq!(state(2), LeaseState::Released);
    assert!(nodes[2].view.check().unwrap_err().contains("given back"));
    assert!(newest_lease(&*store, LOG).unwrap().unwrap().released);
}

#[test]
fn a_store_that_does_not_answer_ends_it() {
    let (world, _) = world(9, 0, &[(OLD, None, Take::WhenOver, TIME)]);
    DEPTH.set(9);
    let node = &world.nodes.get().unwrap()[0];
    node.keeper.lock().unwrap().step();
    assert_eq!(node.view.check(), Ok(()));
    world.now.fetch_add(15_000_000, Ordering::SeqCst);
    let over = node.view.check().unwrap_err();
    assert!(over.contains("the lease is over"), "{over}");
    // Nobody took it meanwhile.
    node.keeper.lock().unwrap().step();
    assert_eq!(node.view.check(), Ok(()));
}

#[test]
fn a_lease_is_read_as_it_was_written() {
    let lease = Lease {
        log_id: LOG,
        timeline: OLD,
        number: 42,
        holder: [9; 16],
        time: TIME,
        released: true,
        position: stemedb_model::Position(77),
        address: "https://a.example:18180".into(),
        made_at: stemedb_model::Millis(1_700_000_000_000),
    };
    let key = SigningKey::from_seed(&[3; 32]);
    let mut bytes = lease.seal(&key);
    assert_eq!(Lease::open(&bytes).unwrap(), (lease, key.agent_id()));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(Lease::open(&bytes).is_err());
}
