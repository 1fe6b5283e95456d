//! What a server counts, held against what its clients were told, while many of them are at it: each
//! series moves by exactly so much, and those that nobody has moved do not move.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::exercise::{self, LENSES};
use crate::matrix::node::{Answer, Client};

const EACH: u64 = 25;
/// Metrics whose every series is known to the clients. The sum of batches counts records.
const KNOWN: [&str; 8] = [
    "stemedb_http_requests_total",
    "stemedb_http_request_duration_seconds_count",
    "stemedb_requests_rejected_total",
    "stemedb_queries_total",
    "stemedb_query_latency_seconds_count",
    "stemedb_records_total",
    "stemedb_write_step_duration_seconds_count",
    "stemedb_wal_batch_size_sum",
];
/// One sync each, told in two ways; and what was synced.
const SYNCS: [&str; 3] = [
    "stemedb_wal_fsync_duration_seconds_count",
    "stemedb_wal_fsync_latency_seconds_count",
    "stemedb_wal_writes_total",
];
const BYTES: &str = "stemedb_wal_bytes_written_total";
/// More than the server takes by default.
const TOO_LONG: usize = (2 << 20) + 1;
/// How often a caller of a guarded server may read at once.
const BURST: u32 = 5;
/// What the log writes is whole blocks.
const BLOCK: usize = 4096;

/// By series, what it moves by.
#[derive(Default)]
struct Tally(BTreeMap<String, f64>);

impl Tally {
    fn add(&mut self, series: impl Into<String>, count: u64) {
        *self.0.entry(series.into()).or_default() += count as f64;
    }

    fn merge(&mut self, other: Self) {
        for (series, count) in other.0 {
            *self.0.entry(series).or_default() += count;
        }
    }

    /// An answer, whatever it is.
    fn answered(&mut self, method: &str, endpoint: &str, answer: &Answer) {
        let status = answer.status;
        self.add(
            format!(
                "stemedb_http_requests_total{{endpoint={endpoint:?},method={method:?},status=\"{status}\"}}"
            ),
            1,
        );
        self.add(
            format!("stemedb_http_request_duration_seconds_count{{endpoint={endpoint:?}}}"),
            1,
        );
        if status >= 400 {
            let code = answer.text("code");
            self.add(format!("stemedb_requests_rejected_total{{reason={code:?}}}"), 1);
        }
    }

    /// A question of this endpoint that was answered, for so many keys with each lens.
    fn asked(&mut self, endpoint: &str, lenses: &[&str], keys: u64) {
        for lens in lenses {
            self.add(format!("stemedb_queries_total{{endpoint={endpoint:?},lens={lens:?}}}"), keys);
        }
        self.add(format!("stemedb_query_latency_seconds_count{{endpoint={endpoint:?}}}"), 1);
    }

    /// A record of its own request that was acknowledged.
    fn created(&mut self) {
        self.add("stemedb_records_total{kind=\"assertion\"}", 1);
        self.add("stemedb_wal_batch_size_sum", 1);
        self.went_through(&["parse", "verify", "commit"]);
    }

    /// The steps that a write came to the end of.
    fn went_through(&mut self, steps: &[&str]) {
        for step in steps {
            self.add(format!("stemedb_write_step_duration_seconds_count{{step={step:?}}}"), 1);
        }
    }
}

/// One of those who ask.
struct Caller<'a> {
    client: &'a Client,
    tally: Tally,
}

impl Caller<'_> {
    fn get(&mut self, path: &str, statuses: &[u16]) -> Result<Answer> {
        let answer = self.client.get(path)?;
        self.take("GET", path, answer, statuses)
    }

    fn post(&mut self, path: &str, body: &Value, statuses: &[u16]) -> Result<Answer> {
        let answer = self.client.post(path, body)?;
        self.take("POST", path, answer, statuses)
    }

    fn take(&mut self, method: &str, path: &str, answer: Answer, of: &[u16]) -> Result<Answer> {
        let (status, body) = (answer.status, &answer.body);
        ensure!(of.contains(&status), "{method} {path} is answered {status}: {body}");
        let endpoint = path.split('?').next().unwrap_or_default();
        let endpoint = if endpoint.starts_with("/v1/") { endpoint } else { "other" };
        self.tally.answered(method, endpoint, &answer);
        Ok(answer)
    }
}

type Work<'a> = &'a (dyn Fn(&mut Caller<'_>, u64) -> Result<()> + Sync);

/// Has all of them work at the same time, so many of each; what they were told together.
fn together(client: &Client, works: &[(u64, Work<'_>)]) -> Result<Tally> {
    std::thread::scope(|scope| {
        let callers = works.iter().flat_map(|(count, work)| (0..*count).map(move |n| (n, work)));
        let callers: Vec<_> = callers
            .map(|(number, work)| {
                scope.spawn(move || -> Result<Tally> {
                    let mut caller = Caller { client, tally: Tally::default() };
                    work(&mut caller, number)?;
                    Ok(caller.tally)
                })
            })
            .collect();
        let mut all = Tally::default();
        for caller in callers {
            all.merge(caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??);
        }
        Ok(all)
    })
}

fn write(caller: &mut Caller<'_>, number: u64) -> Result<()> {
    for at in 0..EACH {
        let body = json!({
            "subject": format!("monitoring/writer/{number}"), "predicate": "holds",
            "object": "counted", "at": 1_700_000_000_000_u64 + at,
        });
        caller.post("/v1/assert", &body, &[201])?;
        caller.tally.created();
    }
    Ok(())
}

fn ask(caller: &mut Caller<'_>, _: u64) -> Result<()> {
    let of = "subject=monitoring/1&predicate=holds";
    let key = json!({ "subject": "monitoring/1", "predicate": "holds" });
    let other = json!({ "subject": "monitoring/2", "predicate": "holds" });
    let many = json!({ "keys": [key, other], "lenses": ["consensus", "recency"] });
    for _ in 0..EACH {
        for lens in LENSES {
            caller.get(&format!("/v1/query?{of}&lens={lens}"), &[200])?;
            caller.tally.asked("/v1/query", &[lens], 1);
        }
        caller.get("/v1/query?subject=monitoring/1", &[200])?;
        caller.tally.asked("/v1/query", &["none"], 1);
        for lens in ["skeptic", "layered"] {
            let endpoint = format!("/v1/{lens}");
            caller.get(&format!("{endpoint}?{of}"), &[200])?;
            caller.tally.asked(&endpoint, &[lens], 1);
        }
        caller.post("/v1/resolve", &many, &[200])?;
        caller.tally.asked("/v1/resolve", &["consensus", "recency"], 2);
    }
    Ok(())
}

fn err(caller: &mut Caller<'_>, _: u64) -> Result<()> {
    let vote = json!({ "assertion": "0".repeat(64), "weight": 1, "at": 1_700_000_000_000_u64 });
    let long = json!({ "subject": "a".repeat(TOO_LONG) });
    for _ in 0..EACH {
        caller.get("/nothing/here", &[404])?;
        caller.post("/v1/assert", &json!({ "subject": 1 }), &[400])?;
        // This one the engine refuses, and counts.
        caller.post("/v1/vote", &vote, &[409])?;
        caller.tally.went_through(&["parse", "verify"]);
    }
    for _ in 0..4 {
        caller.post("/v1/assert", &long, &[413])?;
    }
    Ok(())
}

/// Reads more often than it may.
fn hurry(caller: &mut Caller<'_>, _: u64) -> Result<()> {
    for _ in 0..EACH {
        let path = "/v1/query?subject=a&predicate=b&lens=recency";
        let answer = caller.get(path, &[200, 429])?;
        if answer.status == 200 {
            caller.tally.asked("/v1/query", &["recency"], 1);
        }
    }
    Ok(())
}

/// Has no key, or none that is known here.
fn intrude(caller: &mut Caller<'_>, number: u64) -> Result<()> {
    let stranger = match number % 2 {
        0 => caller.client.without_key(),
        _ => caller.client.with_key("made-up"),
    };
    let mut stranger = Caller { client: &stranger, tally: Tally::default() };
    for _ in 0..EACH {
        stranger.post("/v1/assert", &json!({ "subject": 1 }), &[401])?;
    }
    caller.tally.merge(stranger.tally);
    Ok(())
}

/// Clients of every kind at once, on a server that was used before; then on one that asks for keys.
pub(crate) fn exactly(client: &Client, binary: &Path, folder: &Path) -> Result<()> {
    let told = counted(client, &[(8, &write), (4, &ask), (2, &err)])?;
    for code in ["body_too_large", "invalid_field", "not_found", "unknown_reference"] {
        needs(&told, code)?;
    }
    let (place, _node, admin) = exercise::guarded(binary, folder, BURST)?;
    let told = counted(&admin, &[(2, &write), (4, &hurry), (4, &intrude)])?;
    for code in ["api_key_missing", "api_key_unknown", "rate_limited"] {
        needs(&told, code)?;
    }
    // A fresh log, and too little in it for a second segment: what was written is what is there.
    let (told, there) = (admin.metric(BYTES)?, written(&place.wal)?);
    ensure!(told == there as f64, "{BYTES} is {told}, and {there} bytes of the log are not blank");
    Ok(())
}

/// Nobody counts what did not happen.
fn needs(told: &Tally, code: &str) -> Result<()> {
    let series = format!("stemedb_requests_rejected_total{{reason={code:?}}}");
    ensure!(told.0.contains_key(&series), "nobody was refused with {code}");
    Ok(())
}

/// Counts what these do. The server does nothing else meanwhile.
fn counted(client: &Client, works: &[(u64, Work<'_>)]) -> Result<Tally> {
    let before = series(&client.text("/metrics")?)?;
    let told = together(client, works)?;
    let after = series(&client.text("/metrics")?)?;
    let mut expected = Tally::default();
    // The first look itself.
    expected
        .add("stemedb_http_requests_total{endpoint=\"/metrics\",method=\"GET\",status=\"200\"}", 1);
    expected.add("stemedb_http_request_duration_seconds_count{endpoint=\"/metrics\"}", 1);
    for (series, count) in &told.0 {
        *expected.0.entry(series.clone()).or_default() += count;
    }
    let moved = |series: &str| {
        let at = |page: &BTreeMap<String, f64>| page.get(series).copied().unwrap_or_default();
        at(&after) - at(&before)
    };
    let is_known = |series: &&String| KNOWN.contains(&series.split('{').next().unwrap_or_default());
    let mut all: Vec<&String> = after.keys().filter(is_known).chain(expected.0.keys()).collect();
    all.sort_unstable();
    all.dedup();
    let mut wrong = Vec::new();
    for series in all {
        let expected = expected.0.get(series).copied().unwrap_or_default();
        if moved(series) != expected {
            wrong.push(format!("{series} went up by {}, expected {expected}", moved(series)));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let syncs = SYNCS.map(moved);
    ensure!(syncs[0] > 0.0 && syncs.iter().all(|one| *one == syncs[0]), "{SYNCS:?}: {syncs:?}");
    let blocks = moved(BYTES) / BLOCK as f64;
    ensure!(
        blocks >= syncs[0] && blocks.fract() == 0.0,
        "{BYTES} went up by {blocks} blocks in {} writes",
        syncs[0]
    );
    let in_flight = after.get("stemedb_http_in_flight").copied();
    ensure!(in_flight == Some(1.0), "{in_flight:?} requests are in flight, the scrape alone is");
    let requests = told.0.iter().filter(|(one, _)| one.starts_with(KNOWN[0]));
    let requests: f64 = requests.map(|(_, count)| count).sum();
    println!("     {requests} answers, {} series", told.0.len());
    Ok(told)
}

fn series(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((series.to_owned(), value.parse()?))
        })
        .collect()
}

/// Bytes of the blocks of a log in which there is something.
fn written(wal: &Path) -> Result<usize> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(wal)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("segment.") && name.ends_with(".wal") {
            let segment = std::fs::read(entry.path())?;
            let there = |block: &&[u8]| block.iter().any(|byte| *byte != 0);
            let blocks = segment.chunks(BLOCK).filter(there).count();
            // One that is prepared for what comes next has nothing but its first block.
            bytes += if blocks > 1 { blocks * BLOCK } else { 0 };
        }
    }
    Ok(bytes)
}
