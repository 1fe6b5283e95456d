//! What a disk says of itself, where `smartctl` is installed and the disk says anything.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

use super::super::finding::Finding;
use super::super::machine::block::{Disk, DiskKind};
use super::super::site::Site;

/// A disk that is well answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Raw values of these attributes count sectors that are bad or are about to be.
const BAD_SECTORS: [(u64, &str); 3] =
    [(5, "reallocated sectors"), (197, "sectors to be reallocated"), (198, "unreadable sectors")];
/// Percent of the writes that a solid disk is made for.
const WORN: u64 = 90;

/// What came of asking a disk.
enum Told {
    /// It has nothing to say, or nobody to say it to; why.
    Nothing(String),
    /// The answer of `smartctl --json`.
    Answer(Value),
}

pub(super) fn look(site: &Site) -> Vec<Finding> {
    let mut disks: Vec<Disk> = Vec::new();
    for volume in site.volumes().iter().filter(|volume| !volume.only("data")) {
        for disk in volume.stack().into_iter().flat_map(|(_, stack)| stack.disks) {
            if !disks.iter().any(|known| known.name == disk.name) {
                disks.push(disk);
            }
        }
    }
    disks.iter().flat_map(|disk| judge(&disk.name, &ask(disk))).collect()
}

fn ask(disk: &Disk) -> Told {
    match disk.kind {
        DiskKind::Physical => {}
        DiskKind::Loop(_) => return Told::Nothing("it is a file".into()),
        DiskKind::Virtual => return Told::Nothing("a hypervisor shows it: ask there".into()),
        DiskKind::Network => return Told::Nothing("it is behind a network: ask there".into()),
        DiskKind::Memory => return Told::Nothing("it is memory".into()),
    }
    if !rustix::process::geteuid().is_root() {
        return Told::Nothing("only root may ask a disk".into());
    }
    let device = format!("/dev/{}", disk.name);
    // A disk that sleeps is left asleep.
    match run(Command::new("smartctl").args(["--json", "-H", "-A", "--nocheck=standby", &device])) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Told::Nothing("smartctl is not installed (package smartmontools)".into())
        }
        Err(error) => Told::Nothing(format!("smartctl: {error}")),
        Ok(text) => match serde_json::from_str(&text) {
            Ok(answer) => Told::Answer(answer),
            Err(_) => Told::Nothing("smartctl gives no JSON; it does from version 7.0 on".into()),
        },
    }
}

/// The output of a command that may hang with the disk that it asks.
fn run(command: &mut Command) -> io::Result<String> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout = child.stdout.take();
    let (tell, told) = channel();
    std::thread::Builder::new().name("smartctl".into()).spawn(move || {
        let mut text = String::new();
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text));
        // Nobody listens any more after the limit.
        let _ = tell.send(read.map(|_| text));
    })?;
    let Ok(text) = told.recv_timeout(PATIENCE) else {
        // It ends once the disk lets it go.
        let _ = child.kill();
        let problem = format!("no answer in {} s", PATIENCE.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
    };
    // Its status says what the answer says, too.
    child.wait()?;
    text
}

fn judge(disk: &str, told: &Told) -> Vec<Finding> {
    let unseen =
        |why: &str| vec![Finding::unseen(format!("what the disk {disk} says of itself"), why)];
    let answer = match told {
        Told::Nothing(why) => return unseen(why),
        Told::Answer(answer) => answer,
    };
    let next = format!("smartctl -x /dev/{disk}");
    let nvme = |name: &str| answer.get("nvme_smart_health_information_log")?.get(name)?.as_u64();
    let mut findings = Vec::new();
    let passed = answer.pointer("/smart_status/passed").and_then(Value::as_bool);
    let warned = nvme("critical_warning").is_some_and(|bits| bits != 0);
    if passed == Some(false) || warned {
        let evidence = format!(
            "{disk}: overall health {}, critical warning {}",
            match passed {
                Some(true) => "passed",
                Some(false) => "failed",
                None => "unknown",
            },
            nvme("critical_warning").unwrap_or(0)
        );
        findings.push(Finding::critical("the disk says that it is failing", evidence).next(&next));
    }
    let mut bad: Vec<String> = BAD_SECTORS
        .iter()
        .filter_map(|(id, name)| {
            let number = |one: &Value, at: &str| one.pointer(at).and_then(Value::as_u64);
            let attributes = answer.pointer("/ata_smart_attributes/table")?.as_array()?;
            let attribute = attributes.iter().find(|one| number(one, "/id") == Some(*id))?;
            let count = number(attribute, "/raw/value").filter(|count| *count > 0)?;
            Some(format!("{count} {name}"))
        })
        .collect();
    let media = nvme("media_errors").filter(|count| *count > 0);
    bad.extend(media.map(|count| format!("{count} media errors")));
    if !bad.is_empty() {
        let evidence = format!("{disk}: {}", bad.join(", "));
        findings
            .push(Finding::warning("the disk has lost some of its places", evidence).next(&next));
    }
    if let Some(used) = nvme("percentage_used").filter(|used| *used >= WORN) {
        let evidence = format!("{disk}: {used} % of the writes that it is made for");
        findings.push(Finding::warning("the disk is worn", evidence).next(&next));
    }
    if !findings.is_empty() {
        return findings;
    }
    match passed {
        Some(_) => vec![Finding::ok("the disk says that it is well", format!("{disk}: passed"))],
        None => unseen(&message(answer)),
    }
}

/// Why smartctl has no answer.
fn message(answer: &Value) -> String {
    let messages = answer.pointer("/smartctl/messages").and_then(Value::as_array);
    let messages = messages.into_iter().flatten();
    let texts: Vec<&str> = messages.filter_map(|one| one.get("string")?.as_str()).collect();
    match texts.is_empty() {
        true => "smartctl has no answer".to_owned(),
        false => format!("smartctl: {}", texts.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::finding::Severity::{Critical, Note, Ok, Warning};
    use super::super::super::finding::testing::severities;
    use super::*;

    #[test]
    fn answers_of_smartctl() {
        let attribute = |id: u64, raw: u64| json!({"id": id, "raw": {"value": raw}});
        for (answer, expected) in [
            (json!({"smart_status": {"passed": true}}), vec![Ok]),
            (json!({"smart_status": {"passed": false}}), vec![Critical]),
            (
                json!({"smart_status": {"passed": true}, "ata_smart_attributes": {"table":
                    [attribute(5, 0), attribute(9, 40_000), attribute(197, 8)]}}),
                vec![Warning],
            ),
            (
                json!({"smart_status": {"passed": true}, "nvme_smart_health_information_log":
                    {"critical_warning": 0, "media_errors": 0, "percentage_used": 89}}),
                vec![Ok],
            ),
            (
                json!({"smart_status": {"passed": false}, "nvme_smart_health_information_log":
                    {"critical_warning": 4, "media_errors": 2, "percentage_used": 90}}),
                vec![Critical, Warning, Warning],
            ),
            (
                json!({"smartctl": {"messages": [{"string": "Unable to detect device type"}]}}),
                vec![Note],
            ),
            (json!([]), vec![Note]),
        ] {
            let told = Told::Answer(answer.clone());
            assert_eq!(severities(&judge("sda", &told)), expected, "{answer}");
        }
        let found = judge("loop0", &Told::Nothing("it is a file".into()));
        assert_eq!(severities(&found), [Note]);
        assert!(!found.first().unwrap().looked_at);
    }

    #[test]
    fn the_words_of_a_command_are_read_to_the_end() {
        let text = run(Command::new("sh").args(["-c", "echo '{}'; exit 4"])).unwrap();
        assert_eq!(text, "{}\n");
        let missing = run(&mut Command::new("no-such-program-at-all")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
