//! The units under a real systemd: it is booted as process 1 over a copy-on-write view of this machine's
//! root, with what `make install` puts there and the log on a file system of its own.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::units::install;
use crate::findings::Findings;
use crate::matrix::interrupt;
use crate::monitoring::files;
use crate::mount::{FileSystem, Loop, Mount, run as call};
use crate::pages;

const PROBE: &str = include_str!("probe.sh");
const PROBE_UNIT: &str = "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\n\
    ExecStart=/bin/bash /probe/probe.sh\n[Install]\nWantedBy=multi-user.target\n";
/// Whose blocks are typed there, by the names that the steps give them.
pub(crate) const PAGES: [(&str, &str); 2] =
    [("deployment", "docs/operations/deployment.md"), ("upgrade", "docs/operations/upgrade.md")];
/// What a block of ours is marked with.
pub(crate) const RUNNER: &str = "boot";
/// All is root's there.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";
/// Archive and backups go to folders, for which the units need a drop-in.
const FAR: &str =
    "STEMEDB_ARCHIVE__URL=/mnt/stemedb/archive\nSTEMEDB_BACKUP__URL=/mnt/stemedb/backups\n";
/// Long enough for a boot, short enough for a test.
const WATCHDOG: &str = "[Service]\nWatchdogSec=3s\n";
const BOOT_MAX: Duration = Duration::from_secs(240);
/// What a small ext4 needs for segments of the usual length.
const DISK_BYTES: u64 = 600 << 20;

/// Everything that is mounted ends with the namespace it is mounted in. `$1`: the folder; `$2`: the
/// repository; `$3`: where the binaries are.
const ENTER: &str = r#"set -e
mount -t tmpfs -o size=2G tmpfs "$1/view"
mkdir "$1/view/upper" "$1/view/work" "$1/view/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/view/upper,workdir=$1/view/work" "$1/view/root"
root="$1/view/root"
# Nothing of this machine's own is started; without a name, a first boot would enable all of it.
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/stemedb" "$root/var/lib/stemedb"
cp -a "$1/installed/." "$root/"
printf '%032x\n' 1 > "$root/etc/machine-id"
mkdir -p "$root/var/lib/stemedb" "$root/var/lib/stemedb-wal" "$root/walsource" "$root/probe"
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-networkd.service \
  systemd-resolved.service systemd-timesyncd.service systemd-logind.service getty.target \
  console-getty.service apt-daily.timer apt-daily-upgrade.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /probe/probe.service "$root/etc/systemd/system/probe.service"
ln -s /probe/probe.service "$root/etc/systemd/system/multi-user.target.wants/probe.service"
# It makes nodes for its machines where it finds a file system that it made.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
exec systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --link-journal=no \
  --private-network --machine="stemedb-$$" --resolv-conf=off --timezone=off \
  --bind="$1/probe:/probe" --bind="$1/data:/var/lib/stemedb" --bind="$1/wal:/var/lib/stemedb-wal" \
  --bind="$1/wal:/walsource" --bind-ro="$2:/probe/repository" --bind-ro="$3:/probe/binaries" --boot systemd.unit=multi-user.target
"#;

pub(crate) fn run(
    root: &Path,
    binary: &Path,
    folder: &Path,
    findings: &mut Findings,
) -> Result<()> {
    let what = "the units under systemd";
    if !rustix::process::geteuid().is_root() {
        findings.skip(what, "it needs root (mounts, containers)");
        return Ok(());
    }
    if Command::new("systemd-nspawn").arg("--version").output().is_err() {
        findings.skip(what, "systemd-nspawn is not installed; `make setup` does that");
        return Ok(());
    }
    println!("     {what}");
    let before = findings.problems;
    let folder = folder.join("boot");
    for name in ["view", "probe", "data", "wal", "installed"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    let installed = folder.join("installed");
    install(root, binary, &[("DESTDIR", &installed), ("PREFIX", Path::new("/usr"))])?;
    let drop_ins = installed.join("etc/systemd/system/stemedb-api.service.d");
    std::fs::create_dir_all(&drop_ins)?;
    std::fs::write(drop_ins.join("watchdog.conf"), WATCHDOG)?;
    let probe = folder.join("probe");
    std::fs::write(probe.join("probe.sh"), PROBE)?;
    std::fs::write(probe.join("environment"), FAR)?;
    for name in ["bin", "binaries", "repository"] {
        std::fs::create_dir(probe.join(name))?;
    }
    let sudo = probe.join("bin/sudo");
    std::fs::write(&sudo, SUDO)?;
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755))?;
    put_blocks(root, &probe.join("blocks"))?;
    std::fs::write(probe.join("probe.service"), PROBE_UNIT)?;
    std::fs::set_permissions(&probe, std::fs::Permissions::from_mode(0o755))?;

    let disks = [disk(&folder, "data")?, disk(&folder, "wal")?];
    let binaries = binary.parent().context("a binary lies in a folder")?;
    let booted = boot(&folder, root, binaries);
    let report = std::fs::read_to_string(probe.join("report")).unwrap_or_default();
    let mut ended = false;
    for line in report.lines() {
        match line.split_once(' ') {
            Some(("ok", step)) => findings.step(&format!("systemd: {step}"), &[]),
            Some(("FAIL", step)) => {
                let (step, why) = step.split_once(": ").unwrap_or((step, "no reason"));
                findings.step(&format!("systemd: {step}"), &[why.to_owned()]);
            }
            _ => ended |= line == "end",
        }
    }
    findings.done(
        "systemd: booted, and powered off by the last step",
        booted.and_then(|()| {
            ensure!(ended, "the steps broke off: {}", last(&probe.join("trace"), 5));
            Ok(())
        }),
    );
    if findings.problems > before {
        println!("     its journal ends: {}", last(&probe.join("journal"), 30));
    }
    drop(disks);
    Ok(())
}

/// The blocks of the pages that are marked as ours, in a file each.
fn put_blocks(root: &Path, into: &Path) -> Result<()> {
    for (name, page) in PAGES {
        let folder = into.join(name);
        std::fs::create_dir_all(&folder)?;
        for block in pages::blocks(&files::read(&root.join(page))?)? {
            if block.runners.iter().any(|runner| runner == RUNNER) {
                std::fs::write(folder.join(format!("{}.sh", block.step)), block.script)?;
            }
        }
    }
    Ok(())
}

/// The blocks of a page that the steps type.
pub(crate) fn typed(page: &str) -> BTreeSet<&'static str> {
    let name = PAGES.iter().find(|(_, path)| *path == page).map(|(name, _)| *name);
    let blocks = PROBE.lines().filter_map(|line| line.strip_prefix("block ")?.split_once(' '));
    blocks.filter(|(of, _)| Some(*of) == name).map(|(_, step)| step).collect()
}

/// An ext4 of its own, mounted at a folder of this name. In the order in which they must go.
fn disk(folder: &Path, name: &str) -> Result<(Mount, Loop)> {
    let image = folder.join(format!("{name}.img"));
    std::fs::File::create(&image)?.set_len(DISK_BYTES)?;
    FileSystem::Ext4.make_in_pages(&image)?;
    let device = Loop::attach(&image)?;
    let mount = Mount::with(&device.device, &folder.join(name), FileSystem::Ext4.options())?;
    Ok((mount, device))
}

/// Until it powers itself off.
fn boot(folder: &Path, root: &Path, binaries: &Path) -> Result<()> {
    let said = folder.join("console");
    let words = std::fs::File::create(&said)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "bash", "-c", ENTER, "boot"])
        .args([folder, root, binaries])
        .stdin(Stdio::null())
        .stdout(words.try_clone()?)
        .stderr(words);
    let mut child = command.spawn().context("cannot start unshare")?;
    let began = Instant::now();
    let outcome = loop {
        if let Some(status) = child.try_wait()? {
            break if status.success() { Ok(()) } else { bail!("{status}: {}", last(&said, 20)) };
        }
        let late = began.elapsed() > BOOT_MAX;
        if late || interrupt::asked() {
            break Err(anyhow::anyhow!(
                "not over after {} s: {}",
                began.elapsed().as_secs(),
                last(&said, 20)
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if outcome.is_err() {
        // It ends its machine first.
        let _ = call(Command::new("kill").arg(child.id().to_string()));
        std::thread::sleep(Duration::from_secs(1));
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

/// The end of a text file, for people.
fn last(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all.get(from..).unwrap_or_default().join("\n       ")
}
