//! Sealed segments are read again, and what is not right is said where people look.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use stemedb_io::Env;
use stemedb_io::sim::{EIO, Fault, OpKind, When, world as new_world};
use stemedb_log::conformance::START_MS;
use stemedb_log::{Log, LogState, Wal, WalConfig, verify};
use world::*;

const AGE: &str = "stemedb_wal_scrub_oldest_age_seconds";

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn age_bytes_and_damage_are_told() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let run = || {
        let (vfs, clock, env) = new_world(3, START_MS);
        let groups = script(3, 60);
        let (mut wal, _) = Wal::open(config(), env.clone(), NEW).unwrap();
        for series in ["stemedb_wal_scrub_bytes_total", "stemedb_wal_scrub_damage_total", AGE] {
            assert_eq!(value(&handle.render(), series), 0.0, "{series}");
        }
        for group in &groups {
            clock.step(Duration::from_secs(1));
            wal.append(group).unwrap();
        }
        clock.step(Duration::from_secs(1000));
        let done = wal.scrub_now().unwrap();
        assert!(done.segments >= 4 && done.damage.is_empty() && done.from_cache == 0, "{done:?}");
        let text = handle.render();
        assert_eq!(value(&text, AGE), 0.0);
        // A segment that is not closed yet is read as far as the next one's fence.
        let read = value(&text, "stemedb_wal_scrub_bytes_total");
        assert!(read > 0.0 && read <= done.bytes as f64, "{read} of {done:?}");

        // Packed or not, they get older, and packing proves them.
        clock.step(Duration::from_secs(500));
        let packed = wal.repack_now().unwrap();
        assert!(packed.segments >= 3);
        let text = handle.render();
        assert_eq!(value(&text, "stemedb_wal_repacked_segments_total"), packed.segments as f64);
        let saved = (packed.bytes_before - packed.bytes_after) as f64;
        assert_eq!(value(&text, "stemedb_wal_repack_saved_bytes_total"), saved);
        assert_eq!(value(&text, "stemedb_wal_repack_errors_total"), 0.0);
        let on_disk: usize = (vfs.files().iter())
            .filter(|path| path.extension().is_some_and(|end| end == "wal"))
            .map(|path| vfs.medium(path).unwrap().len())
            .sum();
        let spare = config().segment_bytes as f64;
        assert_eq!(value(&text, "stemedb_wal_disk_usage_bytes"), on_disk as f64 - spare);
        wal.scrub_now().unwrap();

        for (number, at) in [(2, 700), (packed.segments + 1, 4096 + 700)] {
            let mut bytes = vfs.medium(&segment(number)).unwrap();
            bytes[at] ^= 1;
            vfs.put(&segment(number), bytes).unwrap();
        }
        let done = wal.scrub_now().unwrap();
        assert_eq!(done.damage.len(), 2, "{done:?}");
        assert!(done.damage[0].starts_with("segment.002.wal, byte "), "{done:?}");
        let damage = verify(std::path::Path::new(DIR), &vfs).unwrap();
        for (told, found) in done.damage.iter().zip(&damage.findings) {
            let positions = format!("(positions {} to {})", found.first, found.last);
            assert!(told.contains(&format!("byte {}:", found.offset)), "{told} {found:?}");
            assert!(told.ends_with(&positions), "{told} {found:?}");
        }
        let text = handle.render();
        assert_eq!(value(&text, "stemedb_wal_scrub_damage_total"), 2.0);
        assert_eq!(value(&text, "stemedb_wal_state{state=\"degraded\"}"), 1.0);
        let LogState::Degraded { reason } = wal.reader().state() else { panic!("not degraded") };
        assert!(reason.contains("stemedb wal verify"), "{reason}");
        // What is damaged was not proved: its age is that of its last record.
        assert!(value(&text, AGE) >= 1500.0, "{text}");
        wal.append(&groups[0]).unwrap();
    };
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, run);
    });
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<&str> = lines.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(told.len(), 2, "{lines}");
    for part in ["damage in a sealed WAL segment", "segment.002.wal", "byte", "positions", "repair"]
    {
        assert!(told[0].contains(part), "{part:?} not in {}", told[0]);
    }
}

/// A file system that keeps its cache shows what it has cached: that does not count as scrubbed.
#[test]
fn what_may_come_from_the_cache_does_not_count() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let (vfs, clock, env) = new_world(4, START_MS);
        let (mut wal, _) = Wal::open(config(), env, NEW).unwrap();
        for group in &script(4, 40) {
            wal.append(group).unwrap();
        }
        clock.step(Duration::from_secs(50));
        vfs.inject(Fault {
            op: Some(OpKind::ReadNowait),
            path: DIR.into(),
            when: When::From(1),
            errno: EIO,
        });
        let done = wal.scrub_now().unwrap();
        assert!(done.segments >= 2 && done.from_cache == done.segments, "{done:?}");
        assert_eq!(value(&handle.render(), AGE), 50.0);
        vfs.clear_faults();
        wal.scrub_now().unwrap();
        assert_eq!(value(&handle.render(), AGE), 0.0);
    });
}

/// What the start has read from the medium is as good as scrubbed; what it took on trust is not.
#[test]
fn a_start_counts_for_what_it_read() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let (vfs, clock, env) = new_world(5, START_MS);
        let (mut wal, _) = Wal::open(config(), env.clone(), NEW).unwrap();
        for group in &script(5, 40) {
            wal.append(group).unwrap();
        }
        drop(wal);
        clock.step(Duration::from_secs(70));
        drop(Wal::open(config(), env.clone(), existing(None)).unwrap());
        assert_eq!(value(&handle.render(), AGE), 0.0);
        // Without the note, what was taken on trust is as old as its last record.
        drop(Wal::open(config(), env.clone(), existing(None)).unwrap());
        assert_eq!(value(&handle.render(), AGE), 70.0);
        let (wal, _) = Wal::open(config(), env.clone(), existing(None)).unwrap();
        wal.scrub_now().unwrap();
        drop(wal);
        clock.step(Duration::from_secs(25));
        let (wal, recovery) = Wal::open(config(), env.clone(), existing(None)).unwrap();
        assert!(recovery.warnings.is_empty(), "{:?}", recovery.warnings);
        assert_eq!(value(&handle.render(), AGE), 25.0);
        drop(wal);
        // A note that does not verify is none.
        let note = std::path::Path::new(DIR).join("scrubbed");
        let mut bytes = vfs.medium(&note).unwrap();
        bytes[20] ^= 1;
        vfs.put(&note, bytes).unwrap();
        drop(Wal::open(config(), env, existing(None)).unwrap());
        assert_eq!(value(&handle.render(), AGE), 95.0);
    });
}

/// What the medium does not give back, and what is no longer there.
#[test]
fn what_cannot_be_read_is_damage() {
    let (vfs, _, env) = new_world(8, START_MS);
    let (mut wal, _) = Wal::open(config(), env, NEW).unwrap();
    for group in &script(8, 60) {
        wal.append(group).unwrap();
    }
    let fails =
        |when| Fault { op: Some(OpKind::Read), path: "segment.002.wal".into(), when, errno: EIO };
    // An error that passes is none.
    vfs.inject(fails(When::Nth(2)));
    let done = wal.scrub_now().unwrap();
    assert!(done.damage.is_empty() && done.segments > 2, "{done:?}");
    assert_eq!(vfs.take_failures().len(), 1);
    vfs.clear_faults();
    vfs.inject(fails(When::From(2)));
    let done = wal.scrub_now().unwrap();
    assert_eq!(done.damage.len(), 1, "{done:?}");
    assert!(
        done.damage[0].contains("segment.002.wal") && done.damage[0].contains("cannot be read")
    );
    vfs.take(&segment(3)).unwrap();
    let done = wal.scrub_now().unwrap();
    assert!(done.damage.iter().any(|line| line.contains("segment.003.wal")), "{done:?}");
    let LogState::Degraded { reason } = wal.reader().state() else { panic!("not degraded") };
    assert!(reason.contains("segment.003.wal"), "{reason}");
}

/// Real files and the thread itself: segments are packed and read beside a writer and readers.
#[test]
fn the_thread_packs_beside_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let config = WalConfig {
        segment_bytes: 64 << 10,
        repack_bytes_per_second: 1 << 30,
        scrub_bytes_per_second: 1 << 30,
        ..WalConfig::new(dir.path().join("wal"))
    };
    let (mut wal, _) = Wal::open(config.clone(), Env::real(), NEW).unwrap();
    let groups = script(6, 300);
    for group in &groups {
        wal.append(group).unwrap();
    }
    let packed = || {
        let names = std::fs::read_dir(&config.dir).unwrap();
        names
            .filter(|name| {
                let path = name.as_ref().unwrap().path();
                let mut start = [0; 8];
                use std::os::unix::fs::FileExt;
                // A copy that is being written gets another name meanwhile.
                let Ok(file) = std::fs::OpenOptions::new().read(true).open(path) else {
                    return false;
                };
                file.read_at(&mut start, 0).is_ok() && start == *b"STEMEPAK"
            })
            .count()
    };
    // The thread looks every few seconds. Where the cache cannot be dropped nothing is packed,
    // and then the call says so.
    let clock = Env::real().clock;
    let mut waited = 0;
    while packed() < 5 && waited < 200 {
        clock.sleep(Duration::from_millis(100));
        waited += 1;
    }
    let all = groups.concat();
    let mut next = 0;
    wal.reader()
        .scan(stemedb_model::Position(1), &mut |entries| {
            for entry in entries {
                assert_eq!(entry.new, all[next]);
                next += 1;
            }
            Ok(true)
        })
        .unwrap();
    assert_eq!(next, all.len());
    let unproved = wal.repack_now().unwrap().unproved;
    assert!(packed() >= 5 || unproved, "{} packed", packed());
    wal.close().unwrap();
    let report = verify(&config.dir, &stemedb_io::RealVfs).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
