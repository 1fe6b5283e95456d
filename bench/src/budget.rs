//! Where the time of a write goes, by the metrics of the server.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

pub const REQUESTS: &str = "stemedb_http_request_duration_seconds";
pub const STEPS: &str = "stemedb_write_step_duration_seconds";
pub const OPERATIONS: &str = "stemedb_storage_operation_duration_seconds";
pub const SYNCS: &str = "stemedb_wal_fsync_latency_seconds";
pub const BATCHES: &str = "stemedb_wal_batch_size";

/// What grew between two looks at the metrics of a server.
pub struct Grown {
    before: BTreeMap<String, f64>,
    after: BTreeMap<String, f64>,
}

impl Grown {
    pub fn new(before: BTreeMap<String, f64>, after: BTreeMap<String, f64>) -> Self {
        Self { before, after }
    }

    pub fn by(&self, name: &str) -> f64 {
        let at = |found: &BTreeMap<String, f64>| found.get(name).copied().unwrap_or(0.0);
        at(&self.after) - at(&self.before)
    }

    /// Of a histogram, in microseconds; of a group, what each of its records waits for.
    pub fn mean(&self, name: &str, label: &str) -> Result<f64> {
        let count = self.by(&format!("{name}_count{label}"));
        ensure!(count > 0.0, "the server does not count {name}{label}");
        Ok(self.by(&format!("{name}_sum{label}")) / count * 1e6)
    }

    /// The upper bound, in seconds, of the bucket that this share of an endpoint's requests lies in;
    /// the last one has none.
    pub fn request_quantile(&self, endpoint: &str, share: f64) -> Option<f64> {
        let buckets = format!("{REQUESTS}_bucket{{endpoint=\"{endpoint}\",le=\"");
        let all = self.by(&format!("{REQUESTS}_count{{endpoint=\"{endpoint}\"}}"));
        let bounds = self.after.keys().filter_map(|name| {
            let bound = name.strip_prefix(&buckets)?.strip_suffix("\"}")?.parse::<f64>().ok()?;
            (self.by(name) >= share * all).then_some(bound)
        });
        let least = bounds.fold(f64::INFINITY, f64::min);
        (all > 0.0 && least.is_finite()).then_some(least)
    }

    pub fn records_per_group(&self) -> f64 {
        self.by(&format!("{BATCHES}_sum")) / self.by(&format!("{BATCHES}_count"))
    }

    /// Mean microseconds of `POST /v1/assert` by step, in order. They add up to `whole`, what the
    /// client saw.
    pub fn assert_steps(&self, whole: f64) -> Result<Vec<(String, f64)>> {
        let request = self.mean(REQUESTS, "{endpoint=\"/v1/assert\"}")?;
        let append = self.mean(OPERATIONS, "{operation=\"append\"}")?;
        let apply = self.mean(OPERATIONS, "{operation=\"apply\"}")?;
        let sync = self.mean(SYNCS, "")?;
        let steps: Result<Vec<f64>> = ["parse", "verify", "commit"]
            .iter()
            .map(|step| self.mean(STEPS, &format!("{{step={step:?}}}")))
            .collect();
        let mut budget = vec![("client, connection", whole - request)];
        match steps.as_deref() {
            Ok([parse, verify, commit]) => budget.extend([
                ("receive, route, answer", request - parse - verify - commit),
                ("parse", *parse),
                ("verify", *verify),
                ("queue and hand-over", commit - append - apply),
            ]),
            // An older server.
            _ => budget.push(("receive, parse, verify, queue, answer", request - append - apply)),
        }
        budget.extend([("append without sync", append - sync), ("sync", sync), ("apply", apply)]);
        Ok(budget.into_iter().map(|(step, us)| (step.to_owned(), us)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of `/a` that took at most so long.
    fn counted(buckets: [(&str, f64); 4]) -> BTreeMap<String, f64> {
        let named = |(le, count): (&str, f64)| {
            (format!("{REQUESTS}_bucket{{endpoint=\"/a\",le=\"{le}\"}}"), count)
        };
        let count = [
            (format!("{REQUESTS}_count{{endpoint=\"/a\"}}"), buckets[3].1),
            (format!("{REQUESTS}_count{{endpoint=\"/b\"}}"), 900.0),
            (format!("{REQUESTS}_bucket{{endpoint=\"/b\",le=\"0.001\"}}"), 900.0),
        ];
        buckets.map(named).into_iter().chain(count).collect()
    }

    #[test]
    fn a_quantile_is_of_what_grew_and_of_its_endpoint() {
        let before = counted([("0.001", 500.0), ("0.01", 500.0), ("10", 500.0), ("+Inf", 500.0)]);
        let after = counted([("0.001", 590.0), ("0.01", 599.0), ("10", 599.0), ("+Inf", 600.0)]);
        let grown = Grown::new(before, after);
        assert_eq!(grown.request_quantile("/a", 0.9), Some(0.001));
        assert_eq!(grown.request_quantile("/a", 0.99), Some(0.01));
        // Only the bucket without a bound holds all.
        assert_eq!(grown.request_quantile("/a", 1.0), None);
        assert_eq!(grown.request_quantile("/b", 0.99), None);
    }
}
