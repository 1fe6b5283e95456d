//! The alerts and their tests. An alert says how bad it is, what it is and where to read on; its
//! tests show it firing, silent and clearing, and notice when a number or a label of it changes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use promql_parser::parser::{self, Expr};
use serde_json::{Value, json};

use super::files::{self, list, text};
use super::query::World;
use super::scrape::{Kind, Labels};

/// How bad an alert may be; `deploy/alertmanager/alertmanager.yml` routes by it.
const SEVERITIES: [&str; 3] = ["critical", "escalation", "warning"];
/// In front of the path of a runbook.
const RUNBOOK_BASE: &str = "{{ $externalLabels.runbook_base }}";

/// One alert.
#[derive(Debug, Clone)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) expression: String,
    pub(crate) severity: String,
    annotations: Value,
    /// Its place in the file.
    pointer: String,
}

/// All alerts, and the file that they are in.
pub(crate) struct Rules {
    pub(crate) document: Value,
    pub(crate) alerts: Vec<Alert>,
}

impl Rules {
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let document = files::yaml(&root.join(files::RULES))?;
        let mut alerts = Vec::new();
        for (group_at, group) in list(&document, "/groups").iter().enumerate() {
            for (rule_at, rule) in list(group, "/rules").iter().enumerate() {
                let pointer = format!("/groups/{group_at}/rules/{rule_at}");
                let name = text(rule, "/alert").to_owned();
                if name.is_empty() {
                    bail!("{}: the rule at {pointer} is no alert", files::RULES);
                }
                if alerts.iter().any(|other: &Alert| other.name == name) {
                    bail!("{}: {name} is there twice", files::RULES);
                }
                alerts.push(Alert {
                    name,
                    expression: text(rule, "/expr").trim().to_owned(),
                    severity: text(rule, "/labels/severity").to_owned(),
                    annotations: rule.get("annotations").cloned().unwrap_or_default(),
                    pointer,
                });
            }
        }
        Ok(Self { document, alerts })
    }

    /// The series that Prometheus makes by itself, of the targets and of these alerts.
    pub(crate) fn announce(&self, world: &mut World) {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let target = [label("job", &world.job), label("instance", "127.0.0.1:18180")];
        let mut alerts = Vec::new();
        for alert in &self.alerts {
            for state in ["pending", "firing"] {
                let own = [
                    label("alertname", &alert.name),
                    label("alertstate", state),
                    label("severity", &alert.severity),
                ];
                alerts.push(own.into_iter().chain(target.clone()).collect::<Labels>());
            }
        }
        world.scrape.add("up", Kind::Gauge, vec![Labels::from(target)]);
        world.scrape.add("ALERTS", Kind::Gauge, alerts);
    }

    /// What is wrong with the alerts.
    pub(crate) fn problems(&self, root: &Path, world: &World) -> Vec<String> {
        let mut problems = Vec::new();
        for alert in &self.alerts {
            let looked = world.look(&alert.expression);
            let mut own = looked.problems;
            if !SEVERITIES.contains(&alert.severity.as_str()) {
                own.push(format!("severity {:?} is none of {SEVERITIES:?}", alert.severity));
            }
            for needed in ["summary", "description"] {
                let words = text(&alert.annotations, &format!("/{needed}"));
                if words.is_empty() {
                    own.push(format!("it has no {needed}"));
                }
                for label in labels_in(words) {
                    if !looked.labels.contains(label) {
                        own.push(format!("its {needed} speaks of a label {label} that it has not"));
                    }
                }
            }
            own.extend(runbook_problem(root, alert));
            problems.extend(own.into_iter().map(|problem| format!("{}: {problem}", alert.name)));
        }
        problems
    }

    /// The same rules with one of them changed.
    fn with(&self, pointer: &str, value: Value) -> Result<Value> {
        let mut changed = self.document.clone();
        let (parent, key) = pointer.rsplit_once('/').context("a pointer has a slash")?;
        let parent = changed.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.context("the rule is where it was read")?.insert(key.to_owned(), value);
        Ok(changed)
    }
}

/// Labels that a template speaks of.
fn labels_in(template: &str) -> impl Iterator<Item = &str> {
    template
        .split("$labels.")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
}

fn runbook_problem(root: &Path, alert: &Alert) -> Option<String> {
    let link = text(&alert.annotations, "/runbook_url");
    let Some(at) = link.strip_prefix(RUNBOOK_BASE) else {
        return Some(format!("runbook_url is {link:?}, expected {RUNBOOK_BASE}PATH"));
    };
    let (path, anchor) = at.split_once('#').map_or((at, None), |(path, at)| (path, Some(at)));
    let Ok(page) = std::fs::read_to_string(root.join(path)) else {
        return Some(format!("its runbook {path} is not there"));
    };
    // A page of its own names the alert; a page for several has a part for it.
    let Some(anchor) = anchor else {
        let named = page.contains(&format!("`{}`", alert.name));
        return (!named).then(|| format!("{path} does not name {}", alert.name));
    };
    if anchor != alert.name.to_lowercase() {
        return Some(format!(
            "its runbook is at #{anchor}, expected #{}",
            alert.name.to_lowercase()
        ));
    }
    let heading = |line: &str| {
        line.starts_with('#') && line.trim_start_matches(['#', ' ']).to_lowercase() == anchor
    };
    (!page.lines().any(heading)).then(|| format!("{path} has no heading {}", alert.name))
}

/// What is missing in the tests, or names what is not there.
pub(crate) fn problems_of_tests(root: &Path, rules: &Rules, world: &World) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut groups = Vec::new();
    for path in files::in_folder(&root.join(files::TESTS), "yml")? {
        let document = files::yaml(&path)?;
        for group in list(&document, "/tests") {
            let name = text(group, "/name");
            for series in list(group, "/input_series") {
                let series = text(series, "/series");
                let found = world.look_at_series(series);
                problems.extend(found.into_iter().map(|one| format!("{name}: {series}: {one}")));
            }
            for test in list(group, "/promql_expr_test") {
                let found = world.look(text(test, "/expr")).problems;
                problems.extend(found.into_iter().map(|one| format!("{name}: {one}")));
            }
            groups.push(group.clone());
        }
    }
    for alert in &rules.alerts {
        let (mut clears, mut silent) = (false, false);
        for group in &groups {
            let asked: Vec<bool> = list(group, "/alert_rule_test")
                .iter()
                .filter(|test| text(test, "/alertname") == alert.name)
                .map(|test| !list(test, "/exp_alerts").is_empty())
                .collect();
            // Tests stand in the order of their times: promtool says so where they do not.
            clears |= asked.windows(2).any(|two| two == [true, false]);
            silent |= !asked.is_empty() && !asked.contains(&true);
        }
        if !clears {
            problems.push(format!("no test shows {} firing and clearing", alert.name));
        }
        if !silent {
            problems.push(format!("no test shows {} silent just under its threshold", alert.name));
        }
    }
    Ok(problems)
}

/// A change of one alert that its tests must notice.
struct Mutation {
    alert: String,
    what: String,
    rules: Value,
}

fn mutations(rules: &Rules) -> Result<Vec<Mutation>> {
    let mut all = Vec::new();
    for alert in &rules.alerts {
        let parse = || {
            let parsed = parser::parse(&alert.expression);
            parsed.map_err(|error| anyhow::anyhow!("{}: {error}", alert.name))
        };
        let mut push = |what: String, key: &str, value: Value| -> Result<()> {
            let rules = rules.with(&format!("{}/{key}", alert.pointer), value)?;
            all.push(Mutation { alert: alert.name.clone(), what, rules });
            Ok(())
        };
        // Each number a little larger and smaller, each matcher left out.
        for at in 0.. {
            let mut more = parse()?;
            let Some(number) = nth_number(&mut more, &mut { at }) else { break };
            let before = *number;
            // What is counted comes in ones: next to 0 is 1.
            let others = if before == 0.0 { [1.5, -1.0] } else { [before * 1.05, before * 0.95] };
            for after in others {
                let mut changed = parse()?;
                if let Some(number) = nth_number(&mut changed, &mut { at }) {
                    *number = after;
                }
                push(format!("{before} is {after}"), "expr", json!(changed.to_string()))?;
            }
        }
        for at in 0.. {
            let mut changed = parse()?;
            let Some(matcher) = drop_nth_matcher(&mut changed, &mut { at }) else { break };
            push(format!("without {matcher}"), "expr", json!(changed.to_string()))?;
        }
        let patience = rules.document.pointer(&format!("{}/for", alert.pointer));
        let patience = patience.and_then(Value::as_str).unwrap_or("0s");
        for other in other_patience(patience)? {
            push(format!("for {other} instead of {patience}"), "for", json!(other))?;
        }
    }
    Ok(all)
}

/// A quarter less and a quarter more: with an evaluation every 15 s, the least that shows.
fn other_patience(patience: &str) -> Result<Vec<String>> {
    let (number, unit) = patience.split_at(patience.len().saturating_sub(1));
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!("for {patience}: expected a number of s, m or h"),
    };
    let seconds = seconds * number.parse::<u64>().with_context(|| format!("for {patience}"))?;
    Ok(match seconds {
        0 => vec!["15s".into()],
        _ => [seconds * 3 / 4, seconds * 5 / 4].map(|seconds| format!("{seconds}s")).into(),
    })
}

/// The numbers and selectors of an expression, in one order.
fn children(expression: &mut Expr) -> Vec<&mut Expr> {
    match expression {
        Expr::Aggregate(one) => {
            one.param.iter_mut().chain([&mut one.expr]).map(|one| &mut **one).collect()
        }
        Expr::Unary(one) => vec![&mut one.expr],
        Expr::Paren(one) => vec![&mut one.expr],
        Expr::Subquery(one) => vec![&mut one.expr],
        Expr::Binary(one) => vec![&mut one.lhs, &mut one.rhs],
        Expr::Call(one) => one.args.args.iter_mut().map(|one| &mut **one).collect(),
        _ => Vec::new(),
    }
}

fn nth_number<'a>(expression: &'a mut Expr, at: &mut usize) -> Option<&'a mut f64> {
    if let Expr::NumberLiteral(number) = expression {
        if *at == 0 {
            return Some(&mut number.val);
        }
        *at -= 1;
        return None;
    }
    children(expression).into_iter().find_map(|child| nth_number(child, at))
}

fn drop_nth_matcher(expression: &mut Expr, at: &mut usize) -> Option<String> {
    let selector = match expression {
        Expr::VectorSelector(selector) => selector,
        Expr::MatrixSelector(matrix) => &mut matrix.vs,
        other => return children(other).into_iter().find_map(|child| drop_nth_matcher(child, at)),
    };
    let matchers = &mut selector.matchers.matchers;
    if *at < matchers.len() {
        return Some(matchers.remove(*at).to_string());
    }
    *at -= matchers.len();
    None
}

/// Runs the tests of an alert against changes of it: they must fail. How many changes there were,
/// and those that went unnoticed.
pub(crate) fn unnoticed(root: &Path, rules: &Rules) -> Result<(usize, Vec<String>)> {
    let scratch = tempfile::tempdir()?;
    let rules_path = scratch.path().join("rules.json");
    let tests_path = scratch.path().join("tests.json");
    let mut groups = Vec::new();
    for path in files::in_folder(&root.join(files::TESTS), "yml")? {
        groups.extend(list(&files::yaml(&path)?, "/tests").to_vec());
    }
    // JSON is YAML.
    let write = |path: &Path, value: &Value| std::fs::write(path, value.to_string());
    let passes = |alert: &str, changed: &Value| -> Result<bool> {
        write(&tests_path, &tests_of(alert, &groups))?;
        write(&rules_path, &only(alert, changed))?;
        let output = Command::new("promtool").args(["test", "rules"]).arg(&tests_path).output()?;
        Ok(output.status.success())
    };
    // As a tree and back they still mean the same: else every change would be noticed.
    for alert in &rules.alerts {
        let same = parser::parse(&alert.expression)
            .map_err(|error| anyhow::anyhow!("{}: {error}", alert.name))?;
        let same = rules.with(&format!("{}/expr", alert.pointer), json!(same.to_string()))?;
        if !passes(&alert.name, &same)? {
            bail!("{}: the tests fail though nothing was changed", alert.name);
        }
    }
    let mutations = mutations(rules)?;
    let mut unnoticed = BTreeSet::new();
    for mutation in &mutations {
        if passes(&mutation.alert, &mutation.rules)? {
            unnoticed.insert(format!("{}: no test notices: {}", mutation.alert, mutation.what));
        }
    }
    Ok((mutations.len(), unnoticed.into_iter().collect()))
}

/// The test groups that ask for this alert, and of them only what they ask of it.
fn tests_of(alert: &str, groups: &[Value]) -> Value {
    let mut kept = Vec::new();
    for group in groups {
        let asked: Vec<&Value> = list(group, "/alert_rule_test")
            .iter()
            .filter(|test| text(test, "/alertname") == alert)
            .collect();
        if !asked.is_empty() {
            let mut group = group.clone();
            if let Some(group) = group.as_object_mut() {
                group.insert("alert_rule_test".into(), json!(asked));
            }
            kept.push(group);
        }
    }
    json!({ "rule_files": ["rules.json"], "evaluation_interval": "15s", "tests": kept })
}

/// The rules without all others, unless it is one about them.
fn only(alert: &str, rules: &Value) -> Value {
    let all = list(rules, "/groups").iter().flat_map(|group| list(group, "/rules"));
    let own = |rule: &&Value| text(rule, "/alert") == alert;
    let about_others = |rule: &Value| text(rule, "/expr").contains("ALERTS");
    let kept: Vec<&Value> = match all.clone().find(own) {
        Some(rule) if !about_others(rule) => vec![rule],
        _ => all.collect(),
    };
    json!({ "groups": [{ "name": "changed", "rules": kept }] })
}
