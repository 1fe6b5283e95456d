//! The three load balancers, with the shipped configurations: only addresses, ports and the number of
//! nodes are made to fit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::findings::Findings;
use crate::mount::run;
use crate::port;
use crate::program::Program;

/// Where the shipped files say that a node is.
const NODE_PORT: &str = "18180";
/// Where they listen.
const LISTEN_PORT: &str = "8180";
/// Requests that the old processes of a reloaded balancer have in hand end by then.
const RELOADED_MAX: Duration = Duration::from_secs(10);
/// Lines that serve TLS begin with it.
const TLS: &str = "#tls ";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Haproxy,
    Envoy,
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Haproxy, Self::Envoy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Haproxy => "deploy/haproxy/haproxy.cfg",
            Self::Envoy => "deploy/envoy/envoy.yaml",
            Self::Nginx => "deploy/nginx/stemedb.conf",
        }
    }

    pub(crate) fn is_there(self) -> bool {
        let argument = if self == Self::Envoy { "--version" } else { "-v" };
        let output = Command::new(self.name()).arg(argument).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// Whether it asks /readyz. The free nginx cannot.
    pub(crate) fn asks(self) -> bool {
        self != Self::Nginx
    }

    /// What the program itself says of a configuration.
    fn check(self, config: &Path) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Self::Haproxy => command.args(["-c", "-f"]).arg(config),
            Self::Envoy => command.args(["--mode", "validate", "-c"]).arg(config),
            Self::Nginx => command.args(["-t", "-e", "stderr", "-c"]).arg(config),
        };
        command
    }

    fn serve(self, config: &Path) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Self::Haproxy => command.args(["-db", "-f"]).arg(config),
            Self::Envoy => command
                .args([
                    "--disable-hot-restart",
                    "--concurrency",
                    "2",
                    "--log-level",
                    "warning",
                    "-c",
                ])
                .arg(config),
            Self::Nginx => command.args(["-e", "stderr", "-c"]).arg(config),
        };
        command
    }
}

/// A node as a configuration names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) port: u16,
    /// Marked so that it is not asked.
    pub(crate) down: bool,
    /// Not asked to write, where that has to be said.
    pub(crate) standby: bool,
}

impl Target {
    pub(crate) fn at(port: u16) -> Self {
        Self { port, down: false, standby: false }
    }
}

/// What of a configuration is made to fit.
struct Fit<'a> {
    targets: &'a [Target],
    listen: u16,
    /// Certificate and key in one file each, and both in one.
    tls: Option<&'a Path>,
}

/// The shipped text with these nodes: the line that names one is there once for each.
fn fit(kind: Kind, text: &str, fit: &Fit<'_>) -> Result<String> {
    let mut fitted = String::new();
    let mut lists = 0;
    for line in text.lines() {
        let tls = line.contains(TLS);
        let line = match fit.tls {
            Some(folder) if tls => line
                .replace(TLS, "")
                .replace("443", &port::free()?.to_string())
                .replace("/etc/stemedb/tls", &folder.display().to_string()),
            _ => line.to_owned(),
        };
        let names_node = line.contains(NODE_PORT) && !line.trim_start().starts_with('#');
        if !names_node {
            fitted.push_str(&line);
            fitted.push('\n');
            continue;
        }
        lists += 1;
        for (number, target) in (1..).zip(fit.targets) {
            let line = line
                .replace(NODE_PORT, &target.port.to_string())
                .replace("node1", &format!("node{number}"));
            // Of nginx, whose second list is that of writes; the others ask.
            let down = target.down || (kind == Kind::Nginx && target.standby && lists == 2);
            match line.split_once(';') {
                Some((server, rest)) if down => {
                    ensure!(kind == Kind::Nginx, "only nginx is told by hand");
                    fitted.push_str(&format!("{server} down;{rest}\n"));
                }
                _ => fitted.push_str(&format!("{line}\n")),
            }
        }
    }
    let expected = if kind == Kind::Haproxy { 3 } else { 2 };
    ensure!(lists == expected, "{}: {lists} lines name a node, expected {expected}", kind.file());
    let listen = format!("127.0.0.1:{LISTEN_PORT}");
    let (from, to) = match kind {
        Kind::Envoy => {
            (format!("port_value: {LISTEN_PORT}"), format!("port_value: {}", fit.listen))
        }
        Kind::Haproxy | Kind::Nginx => (listen, format!("127.0.0.1:{}", fit.listen)),
    };
    ensure!(fitted.matches(&from).count() == 1, "{}: {from} is not there once", kind.file());
    Ok(fitted
        .replace(&from, &to)
        .replace("port_value: 9901", &format!("port_value: {}", port::free()?)))
}

/// Writes a configuration that can be run, and says where.
fn write(kind: Kind, root: &Path, folder: &Path, with: &Fit<'_>) -> Result<PathBuf> {
    let path = root.join(kind.file());
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let text = fit(kind, &text, with)?;
    let name = path.file_name().context("a file has a name")?;
    let fitted = folder.join(name);
    std::fs::write(&fitted, text)?;
    if kind != Kind::Nginx {
        return Ok(fitted);
    }
    // It is a part of a configuration: the rest is what a distribution brings.
    let main = folder.join("nginx.conf");
    let folder = folder.display();
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places.map(|name| format!("{name}_temp_path {folder}/{name};")).concat();
    let text = format!(
        "daemon off; worker_processes 2; pid {folder}/pid; error_log stderr warn;\n\
         events {{ }}\nhttp {{ access_log off; {places} include {}; }}\n",
        fitted.display()
    );
    std::fs::write(&main, text)?;
    Ok(main)
}

/// Has each program check its file: as it is shipped, with two nodes, and with TLS.
pub(crate) fn validate(
    kind: Kind,
    root: &Path,
    folder: &Path,
    findings: &mut Findings,
) -> Result<()> {
    let what = format!("{} takes its configuration, with one node, two, and TLS", kind.name());
    if !kind.is_there() {
        findings.skip(&what, "it is not installed; `make setup` does that");
        return Ok(());
    }
    let folder = folder.join(format!("check-{}", kind.name()));
    std::fs::create_dir(&folder)?;
    certificate(&folder)?;
    let node = || -> Result<Target> { Ok(Target::at(port::free()?)) };
    let (one, two) = ([node()?], [node()?, node()?]);
    let mut problems = Vec::new();
    for (targets, tls) in [(&one[..], None), (&two[..], None), (&two[..], Some(&*folder))] {
        let with = Fit { targets, listen: port::free()?, tls };
        let config = write(kind, root, &folder, &with)?;
        if tls.is_some() {
            let fitted = std::fs::read_to_string(folder.join(file_name(kind)))?;
            ensure!(fitted.contains("key.pem") || fitted.contains("both.pem"), "nothing on TLS");
        }
        let output = kind.check(&config).output()?;
        if !output.status.success() {
            let words = [output.stdout, output.stderr].concat();
            problems.push(String::from_utf8_lossy(&words).trim().to_owned());
        }
    }
    findings.step(&what, &problems);
    Ok(())
}

fn file_name(kind: Kind) -> &'static str {
    kind.file().rsplit('/').next().unwrap_or_default()
}

/// One that nobody trusts, for the checkers to read.
fn certificate(folder: &Path) -> Result<()> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert);
    run(&mut command)?;
    let both = [std::fs::read(&cert)?, std::fs::read(&key)?].concat();
    Ok(std::fs::write(folder.join("both.pem"), both)?)
}

/// A running one.
pub(crate) struct Balancer {
    kind: Kind,
    program: Program,
    root: PathBuf,
    folder: PathBuf,
    listen: u16,
}

impl Balancer {
    pub(crate) fn start(
        kind: Kind,
        root: &Path,
        folder: &Path,
        targets: [Target; 2],
    ) -> Result<Self> {
        let listen = port::free()?;
        let config = write(kind, root, folder, &Fit { targets: &targets, listen, tls: None })?;
        let program = Program::start(kind.name(), &mut kind.serve(&config), folder)?;
        Ok(Self { kind, program, root: root.to_owned(), folder: folder.to_owned(), listen })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.listen)
    }

    pub(crate) fn wait(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        self.program.wait(ready)
    }

    /// What an operator does with one that does not ask: edits the file, has it read again, and waits for
    /// the processes that know the old one to go. nginx lets them serve for a tenth of a second beside the
    /// new ones, with a node that they hold to be down.
    pub(crate) fn mark(&self, targets: [Target; 2]) -> Result<()> {
        let with = Fit { targets: &targets, listen: self.listen, tls: None };
        write(self.kind, &self.root, &self.folder, &with)?;
        let old = self.program.children()?;
        self.program.signal(Signal::HUP)?;
        let began = Instant::now();
        let mut gone = 0;
        // Two looks: the kernel's list may lack one while another of them ends.
        while gone < 2 {
            ensure!(began.elapsed() < RELOADED_MAX, "workers of the old configuration go on");
            std::thread::sleep(Duration::from_millis(20));
            let there = self.program.children()?.iter().any(|worker| old.contains(worker));
            gone = if there { 0 } else { gone + 1 };
        }
        Ok(())
    }

    pub(crate) fn words(&self) -> String {
        let words = self.program.words();
        let lines: Vec<_> = words.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
