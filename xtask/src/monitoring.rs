//! Alerts, dashboards and their receivers held against the real server, a real Prometheus and a real
//! Alertmanager. What cannot fire, because nothing exports what it names, is found here and not in
//! the night when it is needed.

mod alarms;
mod count;
mod dashboards;
mod exercise;
pub(crate) mod files;
mod fire;
mod page;
mod query;
mod rules;
mod scrape;
pub(crate) mod stack;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use self::query::World;
use self::rules::Rules;
use self::scrape::Scrape;
use self::stack::{Pace, Stack};
use crate::findings::Findings;
use crate::matrix::interrupt;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Write the table of metrics into the page.
    #[arg(long)]
    write: bool,
    /// Leave out the faults, and the changes that tests must notice.
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    interrupt::install()?;
    let (root, began) = (args.root.as_path(), Instant::now());
    let mut findings = Findings::default();
    tools(root, &mut findings)?;

    let folder = tempfile::tempdir()?;
    let healthy = folder.path().join("healthy");
    let (place, node) = exercise::start(binary, &healthy, &healthy.join("wal"))?;
    let client = node.client();
    exercise::exercise(&client, 0)?;
    findings
        .done("the server tells of commands beside it", exercise::protect(&place, &node, &healthy));
    let counted = count::exactly(&client, binary, &folder.path().join("guarded"));
    findings.done("what is counted is exact under load", counted);
    let text = client.text("/metrics")?;
    findings.step("promtool check metrics", &promtool_metrics(&text)?);
    let standby = exercise::follow(&place, &healthy, &folder.path().join("standby"))?;
    let of_standby = standby.client().text("/metrics")?;
    findings.step("promtool check metrics of a standby", &promtool_metrics(&of_standby)?);
    let mut scrape = Scrape::parse(&text)?;
    scrape.add_all(Scrape::parse(&of_standby)?);
    let table = page::table(&scrape);
    let differs = page::check(root, &table, args.write)?;
    findings.step("the page names what the server exports", differs.as_slice());

    let job = job(root)?;
    let mut world = World { scrape, job };
    let rules = Rules::load(root)?;
    rules.announce(&mut world);
    findings.step(
        &format!("{} alerts name what is there", rules.alerts.len()),
        &rules.problems(root, &world),
    );
    findings.step(
        "their tests name what is there, and leave none out",
        &rules::problems_of_tests(root, &rules, &world)?,
    );
    let (queries, problems) = dashboards::look(root, &world)?;
    findings.step(&format!("{} queries of dashboards", queries.len()), &problems);

    let victim = match (args.quick, rustix::process::geteuid().is_root()) {
        (true, _) => {
            println!("SKIPPED: the live fault, with --quick");
            None
        }
        (_, false) => {
            println!("SKIPPED: the live fault needs root (loop devices, mounts)");
            None
        }
        (false, true) => Some(fire::Victim::start(binary, &folder.path().join("victim"), seed)?),
    };
    let nodes = [Some(&node), Some(&standby), victim.as_ref().map(|victim| &victim.node)];
    let addresses = nodes.into_iter().flatten().map(|node| address(node.url()));
    let addresses: Vec<String> = addresses.collect();
    let live = folder.path().join("live");
    std::fs::create_dir(&live)?;
    let targets: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
    let stack = Stack::start(root, &live, &targets, Pace::EverySecond, None)?;
    findings.done(
        "Prometheus scrapes the nodes and evaluates the rules",
        settled(&stack, &addresses, &rules),
    );
    if let Some(victim) = &victim {
        findings.done("room that others take is seen", fire::fill(victim, &stack));
    }
    let struck = victim.as_ref().map(|victim| fire::strike(victim, &stack)).transpose();
    let struck = match struck {
        Ok(struck) => struck,
        Err(error) => {
            findings.done("a fault of the disk", Err(error));
            None
        }
    };
    exercise::exercise(&client, 1)?;
    findings.step("every panel has an answer", &answers(&stack, &queries)?);
    findings
        .done("Alertmanager keeps to itself what follows from another alert", inhibitions(&stack));
    if let Some(struck) = &struck {
        findings.done("the fault is heard", fire::heard(struck, &stack));
        findings.done("an operator acknowledges it", fire::acknowledge(struck, &stack, binary));
        findings.done("a stopped node is heard", fire::take_down(node, &stack));
    }
    if args.quick {
        println!("SKIPPED: alerts with short windows, with --quick");
        println!("SKIPPED: changes of the alerts, with --quick");
    } else {
        // Here, since the alert takes minutes to clear.
        alarms::sound(root, binary, &folder.path().join("alarms"), seed, &mut findings);
        let (count, unnoticed) = rules::unnoticed(root, &rules)?;
        let what = format!("the tests notice each of {count} changes of the alerts");
        findings.step(&what, &unnoticed);
    }
    if let Some(struck) = &struck {
        findings.done("the alert clears", fire::cleared(struck, &stack));
    }
    println!("{} problems, {:.0} s", findings.problems, began.elapsed().as_secs_f32());
    Ok(findings.problems == 0)
}

fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

/// What the programs themselves say of their files.
fn tools(root: &Path, findings: &mut Findings) -> Result<()> {
    let mut checks: Vec<(&str, Vec<PathBuf>)> = vec![
        ("promtool check config", vec![root.join(files::PROMETHEUS)]),
        ("promtool check rules", vec![root.join(files::RULES)]),
        ("amtool check-config", vec![root.join(files::ALERTMANAGER)]),
    ];
    let tests = files::in_folder(&root.join(files::TESTS), "yml")?;
    checks.push(("promtool test rules", tests));
    for (command, paths) in checks {
        let mut words = command.split(' ');
        let program = words.next().context("a command has a name")?;
        let mut command_line = Command::new(program);
        command_line.args(words).args(&paths);
        let output = command_line
            .output()
            .with_context(|| format!("cannot start {program}; `make setup` installs it"))?;
        let words = [output.stdout, output.stderr].concat();
        let problem =
            (!output.status.success()).then(|| String::from_utf8_lossy(&words).trim().to_owned());
        findings.step(command, problem.as_slice());
    }
    findings.step("amtool config routes test", &routes(root)?);
    Ok(())
}

/// Asks amtool who is told, for each case and for each severity that an alert has.
fn routes(root: &Path) -> Result<Vec<String>> {
    let cases = files::read(&root.join(files::ROUTES))?;
    let mut problems = Vec::new();
    let mut count = 0;
    for line in cases.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (labels, receivers) =
            line.split_once(" -> ").with_context(|| format!("{}: {line}", files::ROUTES))?;
        let output = Command::new("amtool")
            .args(["config", "routes", "test"])
            .arg(format!("--config.file={}", root.join(files::ALERTMANAGER).display()))
            .arg(format!("--verify.receivers={receivers}"))
            .args(labels.split_whitespace())
            .output()?;
        if !output.status.success() {
            let words = [output.stdout, output.stderr].concat();
            problems.push(format!("{line}: {}", String::from_utf8_lossy(&words).trim()));
        }
        count += 1;
    }
    if count == 0 {
        bail!("{} has no case", files::ROUTES);
    }
    Ok(problems)
}

/// The name of the one scrape job.
fn job(root: &Path) -> Result<String> {
    let config = files::yaml(&root.join(files::PROMETHEUS))?;
    let job = files::text(&config, "/scrape_configs/0/job_name").to_owned();
    if job.is_empty() {
        bail!("{} has no scrape job", files::PROMETHEUS);
    }
    Ok(job)
}

/// What Prometheus' own checker says of a scrape.
fn promtool_metrics(text: &str) -> Result<Vec<String>> {
    use std::io::Write;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok(words.lines().map(str::to_owned).collect())
}

const SETTLED_MAX: Duration = Duration::from_secs(60);

/// Every target is up, and every rule is evaluated without an error.
fn settled(stack: &Stack, addresses: &[String], rules: &Rules) -> Result<()> {
    let began = Instant::now();
    loop {
        interrupt::check()?;
        let (targets, known) = (stack.targets()?, stack.rules()?);
        let up = addresses.iter().all(|one| targets.get(one).is_some_and(|health| health == "up"));
        let ok = rules
            .alerts
            .iter()
            .all(|one| known.get(&one.name).is_some_and(|health| health == "ok"));
        if up && ok && targets.len() == addresses.len() && known.len() == rules.alerts.len() {
            return Ok(());
        }
        if began.elapsed() > SETTLED_MAX {
            bail!("targets {targets:?}, rules {known:?}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

const ANSWERS_MAX: Duration = Duration::from_secs(30);

/// Panels without an answer. A rate needs two scrapes, so one is given some time.
fn answers(stack: &Stack, queries: &[dashboards::Query]) -> Result<Vec<String>> {
    let began = Instant::now();
    let mut problems = Vec::new();
    for query in queries {
        loop {
            interrupt::check()?;
            match stack.query(&query.expression) {
                Ok(result) if !result.is_empty() => break,
                Ok(_) if began.elapsed() < ANSWERS_MAX => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Ok(_) => {
                    problems.push(format!("{}: no answer to {}", query.place, query.expression));
                    break;
                }
                Err(error) => {
                    problems.push(format!("{}: {error:#}", query.place));
                    break;
                }
            }
        }
    }
    Ok(problems)
}

/// Alerts of one made-up node, and which of them are not told.
struct Case {
    instance: &'static str,
    alerts: &'static [(&'static str, &'static str)],
    kept: &'static [&'static str],
}

const CASES: [Case; 5] = [
    Case {
        instance: "cause:1",
        alerts: &[
            ("WALFsyncFailure", "critical"),
            ("NodeReadOnly", "critical"),
            ("WALFsyncSlow", "warning"),
        ],
        kept: &["NodeReadOnly"],
    },
    Case {
        instance: "effect:1",
        alerts: &[("NodeReadOnly", "critical"), ("WALDiskFillingUp", "warning")],
        kept: &[],
    },
    Case {
        instance: "down:1",
        alerts: &[
            ("TargetDown", "critical"),
            ("WALFsyncFailure", "critical"),
            ("NodeDraining", "warning"),
            ("CriticalAlertStanding", "escalation"),
        ],
        kept: &["WALFsyncFailure", "NodeDraining"],
    },
    Case {
        instance: "fenced:1",
        alerts: &[("LeaseNotHeld", "critical"), ("NodeReadOnly", "critical")],
        kept: &["NodeReadOnly"],
    },
    Case {
        instance: "full:1",
        alerts: &[("WALDiskNearlyFull", "critical"), ("WALDiskFillingUp", "warning")],
        kept: &["WALDiskFillingUp"],
    },
];

/// The effect is kept back where its cause is told, and only there.
fn inhibitions(stack: &Stack) -> Result<()> {
    let mut alerts = Vec::new();
    for case in &CASES {
        let instance = case.instance;
        for (name, severity) in case.alerts {
            alerts.push(json!({
                "labels": { "alertname": name, "severity": severity, "job": "stemedb", "instance": instance }
            }));
        }
    }
    stack.post_alerts(&json!(alerts))?;
    let began = Instant::now();
    loop {
        let mut wrong = Vec::new();
        for case in &CASES {
            let instance = case.instance;
            let found = stack.inhibited(instance)?;
            for (name, _) in case.alerts {
                let expected = case.kept.contains(name);
                if found.get(*name) != Some(&expected) {
                    wrong.push(format!(
                        "{name} of {instance}: expected {expected}, found {found:?}"
                    ));
                }
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        // It is found out when the group is first told of, after `group_wait`.
        if began.elapsed() > Duration::from_secs(45) {
            bail!("{}", wrong.join("; "));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
