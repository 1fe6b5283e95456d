//! Installation and units, as far as they can be judged without starting them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::findings::Findings;
use crate::mount::run;

/// Exposure that systemd may find at most, in tenths: 0 is none, 100 all.
const EXPOSURE_MAX: u32 = 15;

/// What an installation with `PREFIX=/usr` must have, with its mode; pages are those of the repository.
const FILES: [(&str, u32); 41] = [
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
    ("usr/share/stemedb/examples/multi-region-primary.toml", 0o644),
    ("usr/share/stemedb/examples/multi-region-standby.toml", 0o644),
    ("usr/share/stemedb/examples/single-node-wal-disk.toml", 0o644),
    ("usr/share/stemedb/examples/single-node.toml", 0o644),
    ("usr/share/stemedb/examples/three-node-primary.toml", 0o644),
    ("usr/share/stemedb/examples/three-node-standby.toml", 0o644),
    ("usr/share/stemedb/examples/warm-standby-primary.toml", 0o644),
    ("usr/share/stemedb/examples/warm-standby.toml", 0o644),
    ("usr/share/stemedb/grafana/dashboards/stemedb-api.json", 0o644),
    ("usr/share/stemedb/grafana/dashboards/stemedb-archive.json", 0o644),
    ("usr/share/stemedb/grafana/dashboards/stemedb-node.json", 0o644),
    ("usr/share/stemedb/grafana/dashboards/stemedb-overview.json", 0o644),
    ("usr/share/stemedb/grafana/dashboards/stemedb-resolution.json", 0o644),
    ("usr/share/stemedb/grafana/dashboards/stemedb-wal-health.json", 0o644),
    ("usr/share/stemedb/grafana/provisioning/dashboards/stemedb.yml", 0o644),
    ("usr/share/stemedb/grafana/provisioning/datasources/stemedb.yml", 0o644),
    ("usr/share/stemedb/haproxy/haproxy.cfg", 0o644),
    ("usr/share/stemedb/nginx/stemedb.conf", 0o644),
    ("usr/share/stemedb/prometheus/prometheus.yml", 0o644),
    ("usr/share/stemedb/prometheus/stemedb.rules.yml", 0o644),
    ("usr/share/stemedb/store-folder.conf", 0o644),
    ("usr/share/stemedb/wal-disk.conf", 0o644),
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
    let pages = modes(&root.join("docs"))?;
    for page in pages.keys() {
        let mode = found.get(&format!("{PAGES}{page}"));
        ensure!(mode == Some(&0o644), "docs/{page} is installed with mode {mode:?}");
    }
    let known = |name: &str| {
        let page = name.strip_prefix(PAGES);
        FILES.iter().any(|(known, _)| *known == name)
            || page.is_some_and(|page| pages.contains_key(page))
    };
    let more = found.keys().find(|name| !known(name));
    ensure!(more.is_none(), "{more:?} is installed, and nobody expects it");
    let dead = dead_links(destination, &found)?;
    ensure!(dead.is_empty(), "{} links lead nowhere: {}", dead.len(), dead.join("; "));

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

/// What installed pages link to, and units name, and is not installed.
fn dead_links(destination: &Path, found: &BTreeMap<String, u32>) -> Result<Vec<String>> {
    let destination = &destination.canonicalize()?;
    let mut dead = Vec::new();
    let mut links = 0;
    for name in found.keys() {
        let path = destination.join(name);
        let folder = path.parent().context("a file lies in a folder")?;
        let targets: Vec<PathBuf> = match Path::new(name).extension().and_then(|end| end.to_str()) {
            Some("md") => {
                let text = std::fs::read_to_string(&path)?;
                linked(&text).into_iter().map(|target| folder.join(target)).collect()
            }
            Some("service" | "timer") => {
                let text = std::fs::read_to_string(&path)?;
                let pages =
                    text.lines().filter_map(|line| line.strip_prefix("Documentation=file:/"));
                pages.map(|page| destination.join(page)).collect()
            }
            _ => continue,
        };
        links += targets.len();
        let inside = |target: &PathBuf| {
            target.canonicalize().is_ok_and(|target| target.starts_with(destination))
        };
        let gone = targets.iter().filter(|target| !inside(target));
        dead.extend(gone.map(|target| format!("{name} to {}", target.display())));
    }
    ensure!(links > 100, "only {links} links were found: they are written otherwise");
    Ok(dead)
}

/// The relative links of a page, without the place in the other page.
fn linked(page: &str) -> Vec<&str> {
    let ends = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = ends.filter_map(|target| target.split('#').next());
    files.filter(|file| !file.is_empty() && !file.contains("://")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_page_are_found() {
        let page = "[a](b.md), [c](../d/e.md#f), ![g](h.svg), [i](#j), [k](https://l.example/m.md)\n\
                    [n\no](p.md) and `[q] (r)`";
        assert_eq!(linked(page), ["b.md", "../d/e.md", "h.svg", "p.md"]);
    }
}
