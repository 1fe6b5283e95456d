//! Metrics have the promised names and move when they should; a failed sync says so in words that
//! alerts and runbooks look for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::io::Write;
use std::sync::{Arc, Mutex};

use metrics_exporter_prometheus::PrometheusBuilder;
use stemedb_io::sim::{EIO, Fault, OpKind, SimVfs, When};
use stemedb_log::Log;
use world::*;

/// The value on the exported line that starts with `series` and a space.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

const EROFS: i32 = 30;

#[test]
fn metrics() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let groups = script(7, 30);
        let records = groups.concat().len() as f64;
        let vfs = SimVfs::new(7);
        let (mut wal, _) = open(&vfs, NEW).unwrap();
        let at_start = handle.render();
        for series in [
            "stemedb_wal_segment_rotations_total",
            "stemedb_wal_writes_total",
            "stemedb_wal_bytes_written_total",
            "stemedb_wal_write_errors_total{error=\"io\"}",
            "stemedb_wal_write_errors_total{error=\"no_space\"}",
        ] {
            assert_eq!(value(&at_start, series), Some(0.0), "{series} at the start\n{at_start}");
        }
        let mut ran = Ran::default();
        run(&mut wal, &groups, &mut ran);
        let text = handle.render();
        let at = |series| value(&text, series).unwrap_or_else(|| panic!("no {series} in\n{text}"));
        assert_eq!(at("stemedb_wal_durable_position"), records);
        let segments = at("stemedb_wal_segments");
        assert!(segments > 2.0);
        assert_eq!(at("stemedb_wal_segment_rotations_total"), segments - 1.0);
        assert_eq!(at("stemedb_wal_batch_size_count"), groups.len() as f64);
        assert_eq!(at("stemedb_wal_batch_size_sum"), records);
        let writes = at("stemedb_wal_writes_total");
        assert!(writes > groups.len() as f64, "seals are writes too");
        assert_eq!(at("stemedb_wal_fsync_duration_seconds_count"), writes);
        assert_eq!(at("stemedb_wal_fsync_latency_seconds_count"), writes);
        assert!(at("stemedb_wal_bytes_written_total") >= writes * 4096.0);
        assert!(at("stemedb_wal_disk_available_bytes") > 0.0);
        assert!(at("stemedb_wal_disk_size_bytes") >= at("stemedb_wal_disk_available_bytes"));
        let spare = config().segment_bytes as f64;
        let on_disk: usize = vfs.files().iter().map(|path| vfs.medium(path).unwrap().len()).sum();
        assert_eq!(at("stemedb_wal_disk_usage_bytes"), on_disk as f64 - spare);
        assert_eq!(at("stemedb_wal_state{state=\"ok\"}"), 1.0);
        assert_eq!(at("stemedb_wal_state{state=\"read_only\"}"), 0.0);
        for concern in ["healed", "no_room", "damaged"] {
            let series = format!("stemedb_wal_concern{{concern=\"{concern}\"}}");
            assert_eq!(value(&text, &series), Some(0.0), "{series}");
        }
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} does not say what it is");
        }
        assert_eq!(at("stemedb_wal_recovery_duration_seconds"), 0.0);
        for number in 1..=segments as u64 {
            let file = segment(number).file_name().unwrap().to_str().unwrap().to_string();
            let series = format!("stemedb_wal_fsync_errors_total{{segment=\"{file}\"}}");
            assert_eq!(value(&text, &series), Some(0.0), "{series}");
        }
    });
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

/// A file system that has turned read-only fails the write before there is a sync.
#[test]
fn a_failed_write_or_sync_is_counted_and_told_once() {
    counted_and_told(OpKind::SyncData, EIO, "(sync: errno 5)");
    counted_and_told(OpKind::Write, EROFS, "(write: errno 30)");
}

fn counted_and_told(op: OpKind, errno: i32, words: &str) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            let vfs = SimVfs::new(7);
            let (mut wal, _) = open(&vfs, NEW).unwrap();
            let groups = script(7, 3);
            wal.append(&groups[0]).unwrap();
            vfs.inject(Fault {
                op: Some(op),
                path: "segment.001.wal".into(),
                when: When::Nth(1),
                errno,
            });
            wal.append(&groups[1]).unwrap();
            wal.append(&groups[2]).unwrap();
        });
    });
    let text = handle.render();
    let errors = "stemedb_wal_fsync_errors_total{segment=\"segment.001.wal\"}";
    assert_eq!(value(&text, errors), Some(1.0), "{text}");
    assert_eq!(value(&text, "stemedb_wal_state{state=\"degraded\"}"), Some(1.0));
    assert_eq!(value(&text, "stemedb_wal_state{state=\"ok\"}"), Some(0.0));
    assert_eq!(value(&text, "stemedb_wal_concern{concern=\"healed\"}"), Some(1.0));
    assert_eq!(value(&text, "stemedb_wal_concern{concern=\"damaged\"}"), Some(0.0));
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<&str> = lines.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(told.len(), 1, "{lines}");
    for part in
        ["fsync failed", "Failed to fsync WAL segment", "segment.001.wal", words, "fresh segment"]
    {
        assert!(told.concat().contains(part), "{part:?} not in {told:?}");
    }
}
