//! Every labelled counter is there from the start.

use std::collections::BTreeSet;
use std::sync::Mutex;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use stemedb_model::Kind;

use crate::common::*;

/// Notes which series exist.
#[derive(Default)]
struct Noted(Mutex<BTreeSet<String>>);

impl Noted {
    fn note(&self, key: &Key) {
        let labels: String =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        self.0.lock().unwrap().insert(format!("{}{{{labels}}}", key.name()));
    }
}

impl Recorder for Noted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key);
        Histogram::noop()
    }
}

#[test]
fn an_engine_that_did_nothing_exports_every_counter() {
    let world = World::new();
    let noted = Noted::default();
    // Sees this thread only: what the engine's own threads count is not what is asked here.
    let engine = with_local_recorder(&noted, || world.start());
    drop(engine);
    let noted = noted.0.lock().unwrap();
    let mut expected: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("stemedb_records_total{{kind={}}}", kind.name()))
        .collect();
    for operation in ["append", "apply", "persist", "read", "seal"] {
        expected.push(format!("stemedb_storage_operation_errors_total{{operation={operation}}}"));
    }
    for reason in ["queue_full", "draining", "clock_jump", "wal_unavailable", "forbidden", "cycle"]
    {
        expected.push(format!("stemedb_requests_rejected_total{{reason={reason}}}"));
    }
    for gauge in ["stemedb_node_draining", "stemedb_index_applied_position"] {
        expected.push(format!("{gauge}{{}}"));
    }
    for series in expected {
        assert!(noted.contains(&series), "{series} is missing of {noted:#?}");
    }
}
