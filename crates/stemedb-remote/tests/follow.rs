//! A standby that follows the archive is the log that is archived, ends as a branch of it, and can itself
//! be followed; what the old log has alone is listed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stemedb_io::sim::SimRng;
use stemedb_io::{Clock, Rng, Vfs};
use stemedb_log::{Log, LogReader};
use stemedb_model::{AgentId, Position, SigningKey, Timeline};
use stemedb_remote::{
    Carrier, EncryptionKey, EncryptionKeys, FollowConfig, FollowState, KeyedStore, LeaseConfig,
    LeaseKeeper, MemoryStore, Standby, Step, Store, Take, Writer, fetch_node_state,
    newest_node_state, only_here,
};
use support::*;

const FOLLOWED: &str = "/standby/wal";
const BRANCH: Timeline = Timeline([3; 16]);

fn config(keys: Vec<AgentId>) -> FollowConfig {
    FollowConfig { every: Duration::from_secs(1), keys, segment_bytes: SEGMENT }
}

fn standby(machine: &Machine, store: &Arc<dyn Store>, branch: Timeline, dir: &str) -> Standby {
    let env = machine.env.clone();
    let identity = (LOG_ID, branch);
    Standby::new(Arc::clone(store), env, Path::new(dir), identity, config(vec![signer()])).unwrap()
}

/// Who signs what is archived here.
fn signer() -> AgentId {
    SigningKey::from_seed(&[5; 32]).agent_id()
}

/// Until there is nothing more, whatever fails meanwhile.
fn follow(standby: &mut Standby) {
    for _ in 0..10_000 {
        match standby.step() {
            Ok(Step::Idle) => return,
            Ok(Step::Worked) => {}
            Err(error) => assert!(error.passes(), "{error}"),
        }
    }
    panic!("it does not come to an end: {:?}", standby.progress());
}

fn same(a: &dyn LogReader, b: &dyn LogReader) {
    assert_eq!(a.root(), b.root());
    let (last, _) = a.durable();
    for position in 1..=last.0 {
        assert_eq!(a.read(Position(position)).unwrap(), b.read(Position(position)).unwrap());
    }
}

/// What another node has written since is not there, though the archive of this branch ends.
#[test]
fn who_stays_on_a_branch_that_was_left_falls_behind() {
    let (machine, other) = (Machine::new(1), Machine::new(2));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut wal = machine.create();
    wal.append(&history(1, 2)[0].1).unwrap();
    let mut archiver = machine.archiver(&wal, &store, 1);
    settle(&mut archiver, &machine.clock);
    let mut standby_of = standby(&other, &store, TIMELINE, FOLLOWED);
    follow(&mut standby_of);
    let there = standby_of.progress();
    assert_eq!((there.lag_positions(), there.lag), (0, Duration::ZERO));

    let position = Arc::new(AtomicU64::new(there.position.0));
    let writer = Writer { log_id: LOG_ID, timeline: BRANCH, parent: Some(TIMELINE) };
    let (time, skew) = (Duration::from_secs(10), Duration::from_secs(1));
    let settings = LeaseConfig { time, skew, address: "http://node2".into() };
    let key = SigningKey::from_seed(&[6; 32]);
    let (told, env) = (Arc::clone(&position), machine.env.clone());
    let mut keeper = LeaseKeeper::new(Arc::clone(&store), env, key, writer, settings, Take::Now)
        .telling(move || Position(told.load(Ordering::Relaxed)));
    keeper.step();
    other.clock.sleep(Duration::from_secs(100));
    follow(&mut standby_of);
    assert_eq!(standby_of.progress().lag, Duration::ZERO, "nothing was written there yet");
    position.fetch_add(3, Ordering::Relaxed);
    machine.clock.sleep(time / 2);
    keeper.step();
    other.clock.sleep(Duration::from_secs(100));
    follow(&mut standby_of);
    let left = standby_of.progress();
    assert_eq!((left.lag_positions(), left.lag), (3, Duration::from_secs(100)), "{left:?}");
    assert_eq!(left.primary, "http://node2");
}

#[test]
fn it_has_what_the_archive_has_whatever_fails_and_goes_on_as_a_branch() {
    for seed in 0..40 {
        let rng = SimRng::new(seed ^ 0x51);
        let (machine, other) = (Machine::new(seed), Machine::new(seed + 1_000));
        let faulty = FaultyStore::new(seed, &machine.clock);
        let store: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
        let history = history(seed, 30);
        let mut wal = machine.create();
        wal.append(&history[0].1).unwrap();
        let mut archiver = machine.archiver(&wal, &store, 1 + seed * 200);
        settle(&mut archiver, &machine.clock);
        let mut standby_of = standby(&other, &store, TIMELINE, FOLLOWED);
        let rate = if seed % 2 == 0 { 0 } else { 60 };
        faulty.set(Faults { refused: rate, answer_lost: rate, ..Faults::default() });
        for (n, (pause, group)) in history.iter().enumerate().skip(1) {
            machine.clock.sleep(*pause);
            wal.append(group).unwrap();
            if rng.next_u64().is_multiple_of(3) {
                settle(&mut archiver, &machine.clock);
                follow(&mut standby_of);
                same(&*wal.reader(), &*standby_of.log().reader());
                assert_eq!(standby_of.progress().state, FollowState::Following);
                assert_eq!(standby_of.progress().lag_positions(), 0);
            }
            if n == 15 {
                // Begins again, with what a loss of power leaves.
                drop(standby_of);
                standby_of = standby(&other, &store, TIMELINE, FOLLOWED);
            }
        }
        settle(&mut archiver, &machine.clock);
        follow(&mut standby_of);
        let root = wal.reader().root();
        // The old log goes on, and nobody hears of it.
        wal.append(&support::history(seed + 77, 3)[1].1).unwrap();

        let composed = standby_of.finish(BRANCH).unwrap();
        assert_eq!((composed.end.position, composed.end.chain), root);
        faulty.set(Faults::default());
        let mut promoted = other.open(FOLLOWED).unwrap();
        assert_eq!(promoted.reader().root(), root);
        assert_eq!(promoted.reader().identity(), Some((LOG_ID, BRANCH)));
        assert_eq!(promoted.cutter().parent().unwrap(), Some((TIMELINE, root.0)));
        promoted.append(&support::history(seed + 99, 2)[1].1).unwrap();
        let mut archiver = other.archiver(&promoted, &store, 4_096);
        settle(&mut archiver, &other.clock);

        // The next one follows the branch, from its start in the archive of the old log on.
        let third = Machine::new(seed + 2_000);
        let mut next = standby(&third, &store, BRANCH, FOLLOWED);
        follow(&mut next);
        same(&*promoted.reader(), &*next.log().reader());

        // What the old log has alone, and what was sent again.
        let mut alone = Vec::new();
        let apart = only_here(
            &*store,
            &machine.env,
            &mut wal.cutter(),
            BRANCH,
            &[signer()],
            &mut |entry| {
                alone.push(entry.position);
                Ok(())
            },
        );
        let apart = apart.unwrap();
        let doubted =
            only_here(&*store, &machine.env, &mut wal.cutter(), BRANCH, &[], &mut |_| Ok(()));
        assert!(doubted.unwrap_err().to_string().contains(&signer().to_string()));
        let last = wal.reader().durable().0;
        assert_eq!((apart.common.position, apart.end), (root.0, last));
        let expected: Vec<_> = (root.0.0 + 1..=last.0).map(Position).collect();
        assert_eq!(alone, expected);
        for position in &alone {
            let entry = wal.reader().read(*position).unwrap().unwrap();
            promoted.append(&[entry.new]).unwrap();
        }
        settle(&mut archiver, &other.clock);
        let apart =
            only_here(&*store, &machine.env, &mut wal.cutter(), BRANCH, &[signer()], &mut |_| {
                panic!("it was sent again")
            });
        assert_eq!(apart.unwrap().there, expected.len() as u64);
    }
}

#[test]
fn it_stops_before_another_history_and_believes_whom_it_is_told() {
    let (machine, other) = (Machine::new(3), Machine::new(4));
    let store: Arc<dyn Store> = FaultyStore::new(3, &machine.clock);
    let history = history(3, 150);
    let mut wal = machine.create();
    for (_, group) in &history {
        wal.append(group).unwrap();
    }
    let mut archiver = machine.archiver(&wal, &store, 2_048);
    settle(&mut archiver, &machine.clock);

    let stranger = SigningKey::from_seed(&[6; 32]).agent_id();
    let identity = (LOG_ID, TIMELINE);
    let env = other.env.clone();
    let dir = Path::new("/strange/wal");
    let mut strange =
        Standby::new(Arc::clone(&store), env, dir, identity, config(vec![stranger])).unwrap();
    let error = strange.step().unwrap_err().to_string();
    assert!(error.contains("nothing here says to believe"), "{error}");
    let FollowState::Stopped { .. } = strange.progress().state else { panic!() };
    assert_eq!(strange.position(), Position::NONE);

    // It followed a log that went another way.
    let mut standby_of = standby(&other, &store, TIMELINE, FOLLOWED);
    follow(&mut standby_of);
    drop(standby_of);
    let elsewhere = Machine::new(5);
    let far: Arc<dyn Store> = FaultyStore::new(5, &elsewhere.clock);
    let mut wal = elsewhere.create();
    for (_, group) in support::history(5, 160) {
        wal.append(&group).unwrap();
    }
    settle(&mut elsewhere.archiver(&wal, &far, 2_048), &elsewhere.clock);
    let mut lost = standby(&other, &far, TIMELINE, FOLLOWED);
    assert!(lost.position() > Position::NONE, "no segment is whole");
    let error = lost.step().unwrap_err().to_string();
    assert!(error.contains("another history") || error.contains("not in the archive"), "{error}");
}

#[test]
fn what_a_node_keeps_goes_along_and_old_states_go() {
    let key = EncryptionKey::generate(&SimRng::new(9));
    for keys in [vec![], vec![key]] {
        carry(EncryptionKeys::new(keys));
    }
}

/// What a primary says of its files is believed of its names only as far as they lie in the folder.
#[test]
fn the_files_of_a_node_whose_names_lead_out_are_not_fetched() {
    let machine = Machine::new(9);
    let memory = Arc::new(MemoryStore::default());
    let store: Arc<dyn Store> = Arc::clone(&memory) as _;
    let key = SigningKey::from_seed(&[5; 32]);
    let node = Path::new("/data/node");
    machine.vfs.create_dir_all(node).unwrap();
    stemedb_io::replace(&machine.vfs, &node.join("api-keys.json"), b"keys").unwrap();
    let (env, identity) = (machine.env.clone(), (LOG_ID, TIMELINE));
    let mut carrier =
        Carrier::new(Arc::clone(&store), env, key.clone(), identity, node.to_owned(), vec![]);
    assert!(carrier.step().unwrap());
    let (state, _) = newest_node_state(&*store, LOG_ID, 0).unwrap().unwrap();
    let name = format!("{LOG_ID}/node/{:020}.cbor", state.number);
    for path in LEAD_OUT {
        let mut bad = state.clone();
        bad.files[0].path = path.to_owned();
        memory.overwrite(&name, bad.seal(&key));
        let error = newest_node_state(&*store, LOG_ID, 0).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
        assert!(error.contains(&format!("{path} is no path below a folder")), "{error}");
    }
    memory.overwrite(&name, state.seal(&key));
    assert_eq!(newest_node_state(&*store, LOG_ID, 0).unwrap(), Some((state, signer())));
}

fn carry(keys: EncryptionKeys) {
    let machine = Machine::new(8);
    let faulty = FaultyStore::new(8, &machine.clock);
    let in_the_clear = keys.writes_with().is_none();
    let store: Arc<dyn Store> = Arc::new(KeyedStore::new(Arc::clone(&faulty) as _, keys));
    let node = Path::new("/data/node");
    let write = |name: &str, text: &str| {
        let path = node.join(name);
        machine.vfs.create_dir_all(path.parent().unwrap()).unwrap();
        stemedb_io::replace(&machine.vfs, &path, text.as_bytes()).unwrap();
    };
    write("api-keys.json", "one");
    write("custodial/a.key", "secret");
    write("archived", "its own");
    write("audit/1", "closed");
    write("audit/2", "in use");
    let mut carrier = Carrier::new(
        Arc::clone(&store),
        machine.env.clone(),
        SigningKey::from_seed(&[5; 32]),
        (LOG_ID, TIMELINE),
        node.to_owned(),
        vec!["archived".into()],
    );
    assert!(carrier.step().unwrap());
    assert!(!carrier.step().unwrap(), "nothing has changed");
    let (state, by) = newest_node_state(&*store, LOG_ID, 0).unwrap().unwrap();
    assert_eq!(by, signer());
    for file in store.list(&format!("{LOG_ID}/node/files"), "").unwrap() {
        let bytes = store.get(&file.name, file.bytes).unwrap();
        assert_eq!(
            bytes.windows(6).any(|some| some == b"secret"),
            in_the_clear && bytes == b"secret"
        );
    }
    assert!(state.files.iter().all(|file| file.key_id.is_none() == in_the_clear));
    let paths: Vec<&str> = state.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["api-keys.json", "audit/1", "custodial/a.key"]);

    let to = Path::new("/standby/node");
    let place = |path: &str| (path != "audit/1").then(|| path.to_owned());
    let fetch = || {
        let (state, _) = newest_node_state(&*store, LOG_ID, 0).unwrap().unwrap();
        fetch_node_state(&*store, &machine.env, &state, to, &place).unwrap()
    };
    assert_eq!(fetch(), ["api-keys.json", "custodial/a.key"]);
    assert_eq!(fetch(), [""; 0]);
    for n in 0..20 {
        write("api-keys.json", &format!("keys {n}"));
        assert!(carrier.step().unwrap());
    }
    assert_eq!(fetch(), ["api-keys.json"]);
    let file = machine.vfs.open(&to.join("api-keys.json"), stemedb_io::Open::Read).unwrap();
    let mut text = [0; 7];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"keys 19");
    // Eight states, the keys of each, and the two files that all have.
    let there = store.list(&format!("{LOG_ID}/node"), "").unwrap();
    assert_eq!(there.len(), 8 + 8 + 2, "{there:?}");
    assert!(newest_node_state(&*store, LOG_ID, 21).unwrap().is_none());

    // A store that fails for a while.
    faulty.set(Faults { refused: 300, answer_lost: 300, ..Faults::default() });
    write("api-keys.json", "late");
    let put = (0..100).any(|_| carrier.step().is_ok_and(|put| put));
    assert!(put);
    faulty.set(Faults::default());
    assert_eq!(fetch(), ["api-keys.json"]);
}
