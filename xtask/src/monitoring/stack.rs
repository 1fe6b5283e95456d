//! A real Prometheus and a real Alertmanager with the files of this repository, on loopback and
//! with shorter intervals; and somebody to be told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::Agent;

use super::files::{self, list, text};
use crate::port;
use crate::program::Program;

/// What somebody was told.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// Name of the receiver.
    pub(crate) receiver: String,
    pub(crate) firing: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) at: Instant,
}

/// All three together.
pub(crate) struct Stack {
    agent: Agent,
    prometheus_url: String,
    alertmanager_url: String,
    told: Arc<Mutex<Vec<Notice>>>,
    _prometheus: Program,
    _alertmanager: Program,
}

/// Puts `to` in the place of `from`, which must be there once.
fn replace_once(text: &str, from: &str, to: &str) -> Result<String> {
    match text.matches(from).count() {
        1 => Ok(text.replace(from, to)),
        count => bail!("{from:?} is there {count} times, expected once"),
    }
}

/// How the shipped files are changed before they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Not at all.
    Shipped,
    /// Scrapes and evaluations every second.
    EverySecond,
    /// The same; what an alert must last and the windows that it looks at are seconds, too.
    ShortWindows,
}

/// What an alert must last, and looks back at, where windows are short.
const SHORT_FOR: &str = "for: 5s";
const SHORT_WINDOW: &str = "[20s]";

/// The rules with shorter times. Thresholds and all else stay.
fn shortened(rules: &str) -> Result<String> {
    let mut text = String::new();
    let mut changed = 0;
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for: ") {
            text.push_str(line.get(..indent).unwrap_or_default());
            text.push_str(SHORT_FOR);
            changed += 1;
        } else {
            text.push_str(&line.replace("[5m]", SHORT_WINDOW).replace("[15m]", SHORT_WINDOW));
        }
        text.push('\n');
    }
    if changed == 0 {
        bail!("no rule says how long it must last");
    }
    Ok(text)
}

/// The shipped lines for nodes with a certificate, switched on.
fn over_tls(config: &str, roots: &Path) -> Result<String> {
    let config = replace_once(config, "# scheme: https", "scheme: https")?;
    let config = replace_once(&config, "# tls_config:", "tls_config:")?;
    replace_once(&config, "/etc/prometheus/stemedb-root.pem", &roots.display().to_string())
}

impl Stack {
    /// Starts all; `targets` are scraped, over TLS where there is a file of roots.
    pub(crate) fn start(
        root: &Path,
        folder: &Path,
        targets: &[String],
        pace: Pace,
        roots: Option<&Path>,
    ) -> Result<Self> {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build();
        let agent: Agent = config.into();
        let told = Arc::new(Mutex::new(Vec::new()));
        let receiver = listen(Arc::clone(&told))?;

        let shipped = files::read(&root.join(files::ALERTMANAGER))?;
        let shipped_receiver = "http://127.0.0.1:9095/";
        if !shipped.contains(shipped_receiver) {
            bail!("{} has no receiver at {shipped_receiver}", files::ALERTMANAGER);
        }
        let config = folder.join("alertmanager.yml");
        std::fs::write(&config, shipped.replace(shipped_receiver, &format!("{receiver}/")))?;
        let alertmanager_at = format!("127.0.0.1:{}", port::free()?);
        let alertmanager_url = format!("http://{alertmanager_at}");
        let mut command = Command::new(alertmanager_program()?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
            .arg(format!("--web.listen-address={alertmanager_at}"))
            // Alone: no peers, no port for them.
            .arg("--cluster.listen-address=");
        let mut alertmanager = Program::start("alertmanager", &mut command, folder)?;
        let ready = |url: &str| {
            let answer = agent.get(format!("{url}/-/ready")).call();
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        alertmanager.wait(|| ready(&alertmanager_url))?;

        let config = files::read(&root.join(files::PROMETHEUS))?;
        let config = match pace {
            Pace::Shipped => config,
            Pace::EverySecond | Pace::ShortWindows => {
                let config = replace_once(&config, "scrape_interval: 15s", "scrape_interval: 1s")?;
                replace_once(&config, "evaluation_interval: 15s", "evaluation_interval: 1s")?
            }
        };
        let config = replace_once(&config, "'127.0.0.1:9093'", &format!("'{alertmanager_at}'"))?;
        let config = replace_once(&config, "'127.0.0.1:18180'", &targets.join(", "))?;
        let config = match roots {
            None => config,
            Some(roots) => over_tls(&config, roots)?,
        };
        let path = folder.join("prometheus.yml");
        std::fs::write(&path, config)?;
        let rules = Path::new(files::RULES).file_name().context("a file has a name")?;
        let shipped = files::read(&root.join(files::RULES))?;
        let text = if pace == Pace::ShortWindows { shortened(&shipped)? } else { shipped };
        std::fs::write(folder.join(rules), text)?;
        let prometheus_at = format!("127.0.0.1:{}", port::free()?);
        let prometheus_url = format!("http://{prometheus_at}");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address={prometheus_at}"));
        let mut prometheus = Program::start("prometheus", &mut command, folder)?;
        prometheus.wait(|| ready(&prometheus_url))?;
        Ok(Self {
            agent,
            prometheus_url,
            alertmanager_url,
            told,
            _prometheus: prometheus,
            _alertmanager: alertmanager,
        })
    }

    fn ask(&self, url: String, parameters: &[(&str, &str)]) -> Result<(u16, Value)> {
        let mut request = self.agent.get(url);
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        let mut response = request.call()?;
        let words = response.body_mut().read_to_string()?;
        let body = serde_json::from_str(&words).unwrap_or(Value::String(words));
        Ok((response.status().as_u16(), body))
    }

    /// The result of a query at this moment.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let url = format!("{}/api/v1/query", self.prometheus_url);
        let (status, body) = self.ask(url, &[("query", expression)])?;
        if status != 200 || text(&body, "/status") != "success" {
            bail!("{expression}: answered {status}: {body}");
        }
        Ok(list(&body, "/data/result").to_vec())
    }

    /// Targets by address, and whether they are up.
    pub(crate) fn targets(&self) -> Result<BTreeMap<String, String>> {
        let (_, body) = self.ask(format!("{}/api/v1/targets", self.prometheus_url), &[])?;
        let targets = list(&body, "/data/activeTargets").iter();
        let health = |one: &Value| match text(one, "/health") {
            "up" => "up".to_owned(),
            other => format!("{other}: {}", text(one, "/lastError")),
        };
        Ok(targets.map(|one| (text(one, "/labels/instance").to_owned(), health(one))).collect())
    }

    /// Rules by name, and what they are: `ok`, or why not.
    pub(crate) fn rules(&self) -> Result<BTreeMap<String, String>> {
        let (_, body) = self.ask(format!("{}/api/v1/rules", self.prometheus_url), &[])?;
        let rules = list(&body, "/data/groups").iter().flat_map(|group| list(group, "/rules"));
        let health = |one: &Value| match (text(one, "/health"), text(one, "/lastError")) {
            ("ok", "") => "ok".to_owned(),
            (health, error) => format!("{health}: {error}"),
        };
        Ok(rules.map(|one| (text(one, "/name").to_owned(), health(one))).collect())
    }

    /// Alerts of one target by name: `pending` or `firing`.
    pub(crate) fn alerts(&self, instance: &str) -> Result<BTreeMap<String, String>> {
        let (_, body) = self.ask(format!("{}/api/v1/alerts", self.prometheus_url), &[])?;
        let alerts = list(&body, "/data/alerts").iter();
        let ours = alerts.filter(|one| text(one, "/labels/instance") == instance);
        let named = |one: &Value| {
            (text(one, "/labels/alertname").to_owned(), text(one, "/state").to_owned())
        };
        Ok(ours.map(named).collect())
    }

    /// Hands Alertmanager alerts of our own.
    pub(crate) fn post_alerts(&self, alerts: &Value) -> Result<()> {
        let url = format!("{}/api/v2/alerts", self.alertmanager_url);
        let request = self.agent.post(url).content_type("application/json");
        let mut response = request.send(alerts.to_string())?;
        if response.status().as_u16() != 200 {
            bail!("Alertmanager does not take alerts: {}", response.body_mut().read_to_string()?);
        }
        Ok(())
    }

    /// Which alerts of one target Alertmanager keeps to itself because of others.
    pub(crate) fn inhibited(&self, instance: &str) -> Result<BTreeMap<String, bool>> {
        let url = format!("{}/api/v2/alerts", self.alertmanager_url);
        let (_, body) = self.ask(url, &[])?;
        let alerts = list(&body, "").iter();
        let ours = alerts.filter(|one| text(one, "/labels/instance") == instance);
        let named = |one: &Value| {
            let inhibited = !list(one, "/status/inhibitedBy").is_empty();
            (text(one, "/labels/alertname").to_owned(), inhibited)
        };
        Ok(ours.map(named).collect())
    }

    /// The first notice of this kind.
    pub(crate) fn told(&self, wanted: impl Fn(&Notice) -> bool) -> Option<Notice> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().find(|notice| wanted(notice)).cloned()
    }
}

/// Debian names it after Prometheus.
pub(crate) fn alertmanager_program() -> Result<&'static str> {
    let there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    ["prometheus-alertmanager", "alertmanager"]
        .into_iter()
        .find(there)
        .context("there is no alertmanager; `make setup` installs it")
}

/// Takes what Alertmanager sends, until the process ends. Its address.
fn listen(told: Arc<Mutex<Vec<Notice>>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("receiver".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // What cannot be read was not told; the check then says that it is missing.
            if let Ok(notices) = receive(&stream) {
                told.lock().unwrap_or_else(PoisonError::into_inner).extend(notices);
            }
        }
    })?;
    Ok(format!("http://{address}"))
}

fn receive(mut stream: &TcpStream) -> Result<Vec<Notice>> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("not a request")?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(bytes) = header.strip_prefix("content-length:") {
            length = bytes.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    let body: Value = serde_json::from_slice(&body)?;
    let at = Instant::now();
    let notice = |alert: &Value| {
        let labels = alert.get("labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let labels = labels
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        Notice {
            receiver: path.trim_matches('/').to_owned(),
            firing: text(alert, "/status") == "firing",
            labels: labels.collect(),
            at,
        }
    };
    Ok(list(&body, "/alerts").iter().map(notice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_are_shortened() {
        let rules = "- alert: A\n  expr: rate(a[5m]) > 0.05\n  for: 10m\n  labels: {}\n";
        let short = "- alert: A\n  expr: rate(a[20s]) > 0.05\n  for: 5s\n  labels: {}\n";
        assert_eq!(shortened(rules).unwrap(), short);
        assert!(shortened("- alert: A\n").is_err());
    }
}
