//! Measures the commit pipeline on a real folder: records per second from submit to reply, with
//! the signatures verified before, and how long that verification takes on its own.
//!
//! `cargo run --release -p stemedb-engine --example submit -- [FOLDER] [RECORDS]`
//!
//! Closed loop: each thread has one record on its way, as clients of the HTTP API do. Then open
//! loop: four threads submit without waiting, held back by the queue only, as the import does.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool for developers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use stemedb_engine::{Engine, EngineConfig, Submission};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::Env;
use stemedb_log::{Expect, Log, Wal, WalConfig};
use stemedb_model::*;

const LOG_ID: LogId = LogId([1; 16]);
const TIMELINE: Timeline = Timeline([1; 16]);

fn main() {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let records: usize = args.next().map_or(100_000, |n| n.parse().unwrap());
    let env = Env::real();

    let keys: Vec<SigningKey> =
        (0..64u8).map(|n| SigningKey::from_seed(&[n.wrapping_add(1); 32])).collect();
    let seconds = |since: Duration| (env.clock.monotonic() - since).as_secs_f64();
    let since = env.clock.monotonic();
    let signed: Vec<Signed> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..4)
            .map(|part| {
                let keys = &keys;
                scope.spawn(move || {
                    (0..records / 4).map(|i| claim(keys, part * (records / 4) + i)).collect()
                })
            })
            .collect();
        parts.into_iter().flat_map(|part| -> Vec<Signed> { part.join().unwrap() }).collect()
    });
    let bytes: usize = signed.iter().map(|signed| signed.bytes().len()).sum();
    println!(
        "{} records of {} bytes, signed in {:.1} s",
        signed.len(),
        bytes / signed.len(),
        seconds(since)
    );
    let sample = &signed[..signed.len().min(20_000)];
    let since = env.clock.monotonic();
    for signed in sample {
        Signed::from_bytes(Arc::clone(signed.bytes()), signed.signature()).unwrap();
    }
    let each = seconds(since) / sample.len() as f64;
    println!("verify: {:.1} us a record on one thread", each * 1e6);

    for threads in [1, 16, 64] {
        // A single client waits for every sync; fewer records do.
        let records = if threads == 1 { signed.len() / 20 } else { signed.len() };
        let dir = parent.join(format!("stemedb-submit-{}-{threads}", std::process::id()));
        closed_loop(&env, &dir, &signed[..records], threads);
        std::fs::remove_dir_all(&dir).unwrap();
    }
    let dir = parent.join(format!("stemedb-submit-{}-open", std::process::id()));
    open_loop(&env, &dir, &signed);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn claim(keys: &[SigningKey], n: usize) -> Signed {
    let key = &keys[n % keys.len()];
    let body = Body::Assertion(Assertion {
        subject: Subject::parse(&format!("flights/AA-{}", n / 8)).unwrap(),
        predicate: PredicateName::parse("departure").unwrap(),
        object: Value::Number { value: (n % 5) as f64, unit: None },
        confidence: 0.9,
        source: Some(Provenance {
            uri: Some(format!("https://source.example/{}", n % 38).into()),
            evidence: None,
            class: Some(SourceClass::Community),
        }),
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: Vec::new(),
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    });
    let at = Millis(1_700_000_000_000 + n as i64);
    let record = Record { space: Space::default(), agent: key.agent_id(), at, log_id: None, body };
    Signed::seal(record, key).unwrap()
}

fn open(env: &Env, dir: &Path) -> Arc<Engine> {
    let principal = Principal::parse("bench").unwrap();
    let expect = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let (mut log, _) = Wal::open(WalConfig::new(dir.join("wal")), env.clone(), expect).unwrap();
    let root = SigningKey::from_seed(&[255; 32]);
    let genesis = Record {
        space: Space::default(),
        agent: root.agent_id(),
        at: Millis(0),
        log_id: Some(LOG_ID),
        body: Body::Genesis(Genesis { format: 1, root: root.agent_id() }),
    };
    Engine::genesis(&mut log, &Signed::seal(genesis, &root).unwrap(), principal).unwrap();
    let index = IndexConfig::new(dir.join("index"));
    let index = Index::open(&index, log.reader().identity()).unwrap();
    let engine = Engine::open(EngineConfig::default(), env.clone(), Box::new(log), index).unwrap();
    engine.wait_ready(|_| ()).unwrap();
    engine
}

fn submission(signed: &Signed) -> Submission {
    let principal = Principal::parse("bench").unwrap();
    Submission {
        signed: signed.clone(),
        principal,
        custodial: false,
        idempotency: None,
        deadline: None,
    }
}

fn closed_loop(env: &Env, dir: &Path, signed: &[Signed], threads: usize) {
    let engine = open(env, dir);
    let since = env.clock.monotonic();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..threads)
            .map(|thread| {
                let (engine, env) = (&engine, env);
                scope.spawn(move || {
                    let (reply, answer) = channel();
                    let mine = signed.iter().skip(thread).step_by(threads);
                    mine.map(|signed| {
                        let since = env.clock.monotonic();
                        let reply = reply.clone();
                        engine.submit(submission(signed), move |result| {
                            reply.send(result).unwrap();
                        });
                        answer.recv().unwrap().unwrap();
                        env.clock.monotonic() - since
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    report(env, &format!("{threads} clients"), since, took.len());
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 1000].as_micros();
    println!("    p50 {} us, p99 {} us, p99.9 {} us", at(500), at(990), at(999));
    engine.close(Duration::from_secs(60));
}

fn open_loop(env: &Env, dir: &Path, signed: &[Signed]) {
    let engine = open(env, dir);
    let since = env.clock.monotonic();
    let (reply, answers) = channel();
    std::thread::scope(|scope| {
        for part in signed.chunks(signed.len().div_ceil(4)) {
            let (engine, reply) = (&engine, reply.clone());
            scope.spawn(move || {
                for signed in part {
                    let reply = reply.clone();
                    let wait = Duration::from_secs(60);
                    engine.submit_waiting(submission(signed), wait, move |result| {
                        reply.send(result).unwrap();
                    });
                }
            });
        }
    });
    drop(reply);
    let count = answers.iter().map(Result::unwrap).count();
    report(env, "open loop", since, count);
    engine.close(Duration::from_secs(60));
}

fn report(env: &Env, what: &str, since: Duration, count: usize) {
    let took = (env.clock.monotonic() - since).as_secs_f64();
    println!("{what}: {count} records in {took:.2} s, {:.0} records/s", count as f64 / took);
}
