//! A node with an archive and backups elsewhere, under load, whose machine is lost with its disk; and what
//! must have survived that.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::{Drill, wait};
use super::room::{self, DATA, NODE};
use crate::matrix::judge;
use crate::matrix::load::Told;
use crate::matrix::node::Client;
use crate::monitoring::stack::Pace;
use crate::mount::run;

const ALERT: &str = "TargetDown";
const FIRES_MAX: Duration = Duration::from_secs(60);
pub(crate) const CLEARS_MAX: Duration = Duration::from_secs(45);
/// Where the pages have the place of archive and backups.
pub(crate) const FAR: &str = "/mnt/stemedb";
pub(crate) const ARCHIVE: &str = "\n[archive]\nurl = \"/mnt/stemedb/archive\"\ndelay = \"1s\"\n";
pub(crate) const BACKUPS: &str = "\n[backup]\nurl = \"/mnt/stemedb/backups\"\n";
const BEFORE: u64 = 300;
const AFTER: u64 = 200;
const LOAD_MAX: Duration = Duration::from_secs(90);
const MEBIBYTES: u64 = 256;
/// Records that one API key may write in a day.
const QUOTA: u64 = 5;
const NOTED_MAX: Duration = Duration::from_secs(30);
/// Files that must come back byte for byte: without them it would be another node.
const SECRETS: [&str; 3] = ["root.key", "node.key", "api-keys.json"];

/// What is known of the node before the loss.
pub(crate) struct Estate {
    volume: usize,
    /// Writes without a key of its own: the node signs for it.
    loader: Client,
    /// Has used its quota up.
    partner: Client,
    files: BTreeMap<&'static str, Vec<u8>>,
    custodian: String,
    /// An entry of the audit that is in the backup.
    audited: u64,
}

/// An empty place elsewhere.
pub(crate) fn begin_far() -> Result<()> {
    if Path::new(FAR).exists() {
        fs::remove_dir_all(FAR).context("something of the last drill is still mounted")?;
    }
    Ok(fs::create_dir_all(FAR)?)
}

/// A command as an operator's timer runs it.
pub(crate) fn stemedb(drill: &Drill<'_>, words: &str) -> Result<String> {
    run(Command::new(drill.service.bin().join("stemedb")).args(words.split(' ')))
}

impl Estate {
    /// A node at work, of which a backup was made; it writes on.
    pub(crate) fn begin(drill: &mut Drill<'_>, places: &str) -> Result<Self> {
        drill.configure_with_keys(places)?;
        begin_far()?;
        let volume = drill.good_disk(DATA, MEBIBYTES)?;
        drill.service.start()?;
        let loader = drill.holder("loader", "writer")?;
        let quota = QUOTA.to_string();
        let partner = drill.holder_with("partner", "writer", &["--records-per-day", &quota])?;
        drill.client = drill.holder("watch", "operator")?;
        use_up(drill, &partner)?;
        drill.watch(Pace::ShortWindows)?;
        let load = drill.keep_writing_as(&loader);
        let enough = load.wait_for_acks(BEFORE, LOAD_MAX);
        load.finish();
        ensure!(enough, "{BEFORE} claims are not taken in {} s", LOAD_MAX.as_secs());
        let custodian = custodian(drill)?;
        let audited = newest_of_the_audit(drill)?;
        stemedb(drill, "backup create")?;
        name_the_node(drill)?;
        drill.tell("a backup is made beside the running node, and its key is in /etc/stemedb");
        let mut files = BTreeMap::new();
        for name in SECRETS {
            files.insert(name, fs::read(Path::new(NODE).join(name)).context(name)?);
        }
        Ok(Self { volume, loader, partner, files, custodian, audited })
    }

    /// The machine and its disk are gone, under load. What `promise` said at that moment.
    pub(crate) fn lose(
        &self,
        drill: &mut Drill<'_>,
        promise: impl Fn(&Drill<'_>) -> Result<u64>,
    ) -> Result<u64> {
        let load = drill.keep_writing_as(&self.loader);
        let enough = load.wait_for_acks(AFTER, LOAD_MAX);
        let promised = promise(drill);
        let killed = drill.service.kill();
        load.finish();
        killed?;
        ensure!(enough, "{AFTER} claims are not taken in {} s", LOAD_MAX.as_secs());
        drill.volume(self.volume)?.unmount()?;
        room::forget_fstab()?;
        drill.struck(
            "the machine is gone with its disk, under load; a new one has an empty disk, the same \
             configuration, nothing else",
        );
        drill.good_disk(DATA, MEBIBYTES)?;
        drill.fires(ALERT, FIRES_MAX, |_| Ok(()))?;
        promised
    }

    /// The node runs again: nothing up to `promise` is lost, and it is the same node.
    pub(crate) fn survived(&self, drill: &mut Drill<'_>, promise: u64) -> Result<()> {
        drill.clears(ALERT, CLEARS_MAX)?;
        drill.ledger.forgive_reads();
        let there = drill.holdings()?;
        let found = judge::check(&drill.ledger, &there, None);
        ensure!(judge::only_the_tail(&found, &there), "{}", found.words().join("; "));
        let early = found.lost.iter().find(|(_, position)| *position <= promise);
        ensure!(early.is_none(), "{early:?} is lost, and {promise} was promised");
        drill.tell(format!(
            "all claims acknowledged up to position {promise}, which was promised, are there; {} of {} \
             came after what came back",
            found.lost.len(),
            drill.ledger.acks(),
        ));
        for (name, before) in &self.files {
            ensure!(fs::read(Path::new(NODE).join(name))? == *before, "{name} is another");
        }
        let told = drill.ledger.send_next(&self.loader);
        ensure!(matches!(told, Told::Created { .. }), "a writer is answered {told:?}");
        let custodian = custodian(drill)?;
        ensure!(custodian == self.custodian, "{custodian} signs now, it was {}", self.custodian);
        drill.tell("API keys are taken, and the node signs with the same keys as before");
        let told = drill.ledger.send_next(&self.partner);
        let over = matches!(&told, Told::NotWritten { code } if code == "quota_exceeded");
        ensure!(over, "who had used a quota up is answered {told:?}");
        let entry = drill.client.get(&format!("/v1/audit/query/{}", self.audited))?;
        ensure!(entry.status == 200, "entry {} of the audit is gone: {}", self.audited, entry.body);
        drill.tell("quotas are as used up as before, and the audit has what the backup had");
        drill.service.stop()
    }
}

/// Says in the configuration whose archive and backups a machine without a node believes.
fn name_the_node(drill: &Drill<'_>) -> Result<()> {
    let key = stemedb(drill, &format!("key show {NODE}/node.key"))?;
    let named = format!("[archive]\ntrusted_keys = [\"{}\"]\n", key.trim());
    let text = fs::read_to_string(room::CONFIG)?;
    let text = match text.contains("[archive]\n") {
        true => text.replace("[archive]\n", &named),
        false => format!("{text}\n{named}"),
    };
    Ok(fs::write(room::CONFIG, text)?)
}

/// Writes as often as the key may, and once more. A stop notes that at once.
fn use_up(drill: &Drill<'_>, partner: &Client) -> Result<()> {
    for _ in 0..QUOTA {
        let told = drill.ledger.send_next(partner);
        ensure!(matches!(told, Told::Created { .. }), "within its quota it is answered {told:?}");
    }
    let told = drill.ledger.send_next(partner);
    ensure!(told.promised().is_none(), "over its quota it is answered {told:?}");
    drill.service.stop()?;
    let text = fs::read_to_string(Path::new(NODE).join("quotas.json")).context("quotas.json")?;
    ensure!(text.contains(&format!("\"records\":{QUOTA}")), "what was used is not noted: {text}");
    drill.service.start()
}

/// The agent of the newest claim that was acknowledged to the loader.
fn custodian(drill: &Drill<'_>) -> Result<String> {
    let claims = drill.ledger.by_claim();
    let created = claims
        .iter()
        .rev()
        .find(|(_, told)| told.iter().any(|attempt| matches!(attempt.told, Told::Created { .. })));
    let (claim, _) = created.context("nothing was acknowledged")?;
    let path = format!("/v1/query?subject=harness/{claim}&predicate=holds");
    let answer = drill.client.get(&path)?;
    let agent = answer.body.pointer("/assertions/0/record/agent").and_then(Value::as_str);
    Ok(agent.with_context(|| format!("no agent in {}", answer.body))?.to_owned())
}

/// The newest read that is taken down; waits until there is one, since they are a moment behind.
fn newest_of_the_audit(drill: &Drill<'_>) -> Result<u64> {
    let mut newest = None;
    wait(Instant::now(), NOTED_MAX, "a read is taken down", || {
        let page = drill.client.get("/v1/audit/queries?limit=100")?;
        newest = page.body.pointer("/entries/0/id").and_then(Value::as_u64);
        Ok(newest.is_some())
    })?;
    newest.context("the audit has no entry")
}
