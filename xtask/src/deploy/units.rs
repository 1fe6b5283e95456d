//! Installation and units, as far as they can be judged without starting them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::findings::Findings;
use crate::mount::run;

/// Exposure that systemd may find at most, in tenths: 0 is none, 100 all.
const EXPOSURE_MAX: u32 = 15;

/// What an installation with `PREFIX=/usr` must have, with its mode; pages come from the folder.
const FILES: [(&str, u32); 30] = [
    ("etc/stemedb/api.toml", 0o644),
    ("usr/bin/stemedb", 0o755),
    ("usr/bin/stemedb-api", 0o755),
    ("usr/bin/stemedb-wal-repair", 0o755),
    ("usr/bin/stemedb-wal-verify", 0o755),
    ("usr/lib/systemd/system/stemedb-api.service", 0o644),
    ("usr/lib/systemd/system/stemedb-backup.service", 0o644),
    ("usr/lib/systemd/system/stemedb-backup.timer", 0o644),
    ("usr/lib/systemd/system/stemedb-drill@.service", 0o644),
    ("usr/lib/systemd/system/stemedb-drill@.timer", 0o644),
    ("usr/lib/systemd/system/stemedb-verify.service", 0o644),
    ("usr/lib/systemd/system/stemedb-verify.timer", 0o644),
    ("usr/lib/systemd/system/stemedb-wal-archive.service", 0o644),
    ("usr/lib/systemd/system/stemedb-wal-archive.timer", 0o644),
    ("usr/lib/sysusers.d/stemedb.conf", 0o644),
    ("usr/share/stemedb/alertmanager/alertmanager.yml", 0o644),
    ("usr/share/stemedb/alertmanager/routes.txt", 0o644),
    ("usr/share/stemedb/envoy/envoy.yaml", 0o644),
    ("usr/share/stemedb/environment.example", 0o644),
    ("usr/share/stemedb/examples/single-node-wal-disk.toml", 0o644),
    ("usr/share/stemedb/examples/single-node.toml", 0o644),
    ("usr/share/stemedb/examples/warm-standby-primary.toml", 0o644),
    ("usr/share/stemedb/examples/warm-standby.toml", 0o644),
    ("usr/share/stemedb/haproxy/haproxy.cfg", 0o644),
    ("usr/share/stemedb/nginx/stemedb.conf", 0o644),
    ("usr/share/stemedb/prometheus/prometheus.yml", 0o644),
    ("usr/share/stemedb/prometheus/stemedb.rules.yml", 0o644),
    ("usr/share/stemedb/store-folder.conf", 0o644),
    ("usr/share/stemedb/wal-disk.conf", 0o644),
    ("usr/share/doc/stemedb/deployment.md", 0o644),
];
const PAGES: &str = "usr/share/doc/stemedb/";

pub(crate) fn check(
    root: &Path,
    binary: &Path,
    folder: &Path,
    findings: &mut Findings,
) -> Result<()> {
    findings.done("make install", installed(root, binary, &folder.join("destdir")));
    // Where the units name binaries that are there.
    let prefix = folder.join("prefix");
    let etc = prefix.join("etc");
    let place = [("PREFIX", prefix.as_path()), ("SYSCONFDIR", etc.as_path())];
    install(root, binary, &place)?;
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        findings.skip("systemd-analyze", "it is not installed; `make setup` does that");
        return Ok(());
    }
    let units = prefix.join("lib/systemd/system");
    let names = [
        "stemedb-api.service",
        "stemedb-backup.service",
        "stemedb-backup.timer",
        "stemedb-drill@.service",
        "stemedb-drill@.timer",
        "stemedb-verify.service",
        "stemedb-verify.timer",
        "stemedb-wal-archive.service",
        "stemedb-wal-archive.timer",
    ];
    findings.done("systemd-analyze verify", verify(&units, &names));
    for service in names.iter().filter(|name| name.ends_with(".service")) {
        let what = format!("systemd-analyze security {service}");
        findings.done(&what, security(&units.join(service)));
    }
    Ok(())
}

/// `make install` from the folder of the binary.
pub(crate) fn install(root: &Path, binary: &Path, variables: &[(&str, &Path)]) -> Result<()> {
    let binaries = binary.parent().context("a binary lies in a folder")?;
    let mut command = Command::new("make");
    command.arg("-C").arg(root).args(["--no-print-directory", "install"]);
    // Of the `make` that runs us.
    command.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
    for (name, value) in variables.iter().chain(&[("BINARIES", binaries)]) {
        command.arg(format!("{name}={}", value.display()));
    }
    run(&mut command).map(drop)
}

fn installed(root: &Path, binary: &Path, destination: &Path) -> Result<()> {
    let place = [("DESTDIR", destination), ("PREFIX", Path::new("/usr"))];
    install(root, binary, &place)?;
    let found = modes(destination)?;
    for (name, mode) in FILES {
        let there = found.get(name).with_context(|| format!("{name} is not installed"))?;
        ensure!(*there == mode, "{name} has mode {there:o}, expected {mode:o}");
    }
    let known = |name: &str| FILES.iter().any(|(known, _)| *known == name);
    let more = found.keys().find(|name| !known(name) && !name.starts_with(PAGES));
    ensure!(more.is_none(), "{more:?} is installed, and nobody expects it");

    let usr = destination.join("usr");
    for (name, expected) in [
        ("stemedb", "Usage: stemedb "),
        ("stemedb-api", "serve"),
        ("stemedb-wal-verify", "wal verify"),
        ("stemedb-wal-repair", "wal repair"),
    ] {
        let help = run(Command::new(usr.join("bin").join(name)).arg("--help"))?;
        ensure!(help.contains(expected), "{name} --help: {help}");
    }
    let config = destination.join("etc/stemedb/api.toml");
    let check = ["config", "check", "--config"];
    run(Command::new(usr.join("bin/stemedb")).args(check).arg(&config))?;

    // What an operator wrote stays.
    std::fs::write(&config, "# mine\n")?;
    install(root, binary, &place)?;
    ensure!(std::fs::read_to_string(&config)? == "# mine\n", "api.toml was written over");

    let elsewhere = destination.join("elsewhere");
    install(root, binary, &[("DESTDIR", &elsewhere), ("PREFIX", Path::new("/usr/local"))])?;
    let unit = elsewhere.join("usr/local/lib/systemd/system/stemedb-api.service");
    let unit = std::fs::read_to_string(unit)?;
    ensure!(
        unit.contains("\nExecStart=/usr/local/bin/stemedb-api\n") && !unit.contains("/usr/bin"),
        "the unit does not follow PREFIX"
    );
    Ok(())
}

/// Files below a folder by their path in it.
fn modes(folder: &Path) -> Result<BTreeMap<String, u32>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o7777;
            found.insert(path.strip_prefix(folder)?.display().to_string(), mode);
        }
    }
    Ok(found)
}

fn verify(units: &Path, names: &[&str]) -> Result<()> {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(names.iter().map(|name| units.join(name)));
    let output = command.output()?;
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Warnings end with status 0. Other units of the machine are not ours to mend.
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("stemedb")).collect();
    ensure!(output.status.success() && ours.is_empty(), "{}: {words}", output.status);
    Ok(())
}

fn security(unit: &Path) -> Result<()> {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]);
    command.arg(format!("--threshold={EXPOSURE_MAX}")).arg(unit);
    let output = command.output()?;
    let words = String::from_utf8_lossy(&output.stdout);
    let verdict = words.lines().last().unwrap_or_default().trim();
    ensure!(output.status.success() && verdict.contains("exposure"), "{verdict}");
    println!("     {verdict}");
    Ok(())
}
