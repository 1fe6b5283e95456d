//! Questions take long: a key with very many claims is asked for again and again, and nothing of it
//! is kept.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::Drill;
use super::room::DATA;
use super::service::ADDRESS;
use crate::matrix::node::UNCOUNTED;
use crate::monitoring::stack::Pace;
use crate::mount::run;

const ALERT: &str = "HighQueryLatency";
const FIRES_MAX: Duration = Duration::from_secs(120);
const CLEARS_MAX: Duration = Duration::from_secs(90);
/// One read at a time, as on a machine with little: many at once share what they read of a key, and take
/// a fifth of a second.
const CONFIG: &str =
    "\n[query]\nanswers_bytes = 0\nmemory_bytes = 1048576\n\n[limits]\nreads = 1\n";
const BEFORE: u64 = 100;
const CLAIMS: u64 = 50_000;
/// Who ask at once.
const READERS: usize = 12;

pub(crate) fn wide(drill: &mut Drill<'_>) -> Result<()> {
    drill.configure(CONFIG)?;
    drill.good_disk(DATA, 384)?;
    drill.service.start()?;
    drill.load(BEFORE)?;
    import(drill)?;
    drill.watch(Pace::ShortWindows)?;
    drill.struck("twelve readers ask for one key with 50,000 claims, of which nothing is kept");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..READERS {
            let (client, stop) = (drill.client.clone(), &stop);
            let path = format!("/v1/query?subject={UNCOUNTED}wide&predicate=holds&lens=consensus");
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // During the restart it is not answered; below it must be.
                    if client.get(&path).is_err() {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            });
        }
        let outcome = endure(drill);
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    drill.answers_reads()?;
    drill.load(BEFORE)?;
    drill.nothing_is_lost()?;
    drill.survives_the_end()
}

fn import(drill: &Drill<'_>) -> Result<()> {
    let mut lines = String::new();
    for number in 0..CLAIMS {
        // Writing to a text cannot fail.
        let _ = writeln!(
            lines,
            r#"{{"subject":"{UNCOUNTED}wide","predicate":"holds","object":"{number}","source":"drill"}}"#
        );
    }
    let path = drill.scratch().join("wide.ndjson");
    std::fs::write(&path, lines)?;
    let mut command = Command::new(drill.service.bin().join("stemedb"));
    command.args(["import", "--at", "2026-01-01T00:00:00Z", "--url", &format!("http://{ADDRESS}")]);
    run(command.arg(&path)).map(drop)
}

fn endure(drill: &mut Drill<'_>) -> Result<()> {
    drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
    let words = drill.step("look")?;
    ensure!(words.contains("/v1/query"), "the page does not find the endpoint: {words}");
    let words = drill.step("answers")?;
    ensure!(words.contains("answers_bytes"), "the page does not find the setting: {words}");
    drill.step("memory")?;
    drill.clears(ALERT, CLEARS_MAX)
}
