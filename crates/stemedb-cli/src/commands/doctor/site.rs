//! What several checks need, read once: configuration, folders, who has the log open, what the node says,
//! and how far the log goes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stemedb_io::Env;
use stemedb_log::StatReport;
use stemedb_model::LogId;
use stemedb_server::wire::{Health, Node};

use super::Args;
use super::asked::{Answers, Asked};
use super::finding::quoted;
use super::machine::block::{self, Device, Stack};
use super::machine::mounts::{self, Mount};
use super::machine::processes::{self, Holder};
use super::machine::within;
use crate::commands::serve::PlaceArgs;
use crate::config::{self, Config, ConfigError, Setting};
use crate::context::Context;
use crate::database;
use crate::failure::Failure;

/// Where a folder lies, the kernel says at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// The newest segment, from a slow disk.
const READING: Duration = Duration::from_secs(120);

/// A folder of the node.
#[derive(Debug)]
pub(crate) struct Place {
    /// `data`, `wal`, `index` or `node`.
    pub(crate) role: &'static str,
    pub(crate) path: PathBuf,
    /// The folder, or the nearest one above that is there: what holds it, or will.
    pub(crate) near: PathBuf,
    /// Why nothing can be said of it.
    pub(crate) problem: Option<String>,
    pub(crate) mount: Option<Mount>,
}

/// A file system and the folders on it.
#[derive(Debug)]
pub(crate) struct Volume<'a> {
    /// What of the node lies there.
    pub(crate) roles: Vec<&'static str>,
    /// A folder on it.
    pub(crate) near: &'a Path,
    pub(crate) mount: &'a Mount,
}

impl Volume<'_> {
    /// Whether the log or the node's own state lies there: what cannot be made again.
    pub(crate) fn holds_truth(&self) -> bool {
        self.roles.iter().any(|role| matches!(*role, "wal" | "node"))
    }

    /// Whether nothing but what can be made again lies there.
    pub(crate) fn only(&self, role: &str) -> bool {
        self.roles.iter().all(|one| *one == role)
    }

    /// `wal, index on /var (ext4, /dev/sda1)`.
    pub(crate) fn name(&self) -> String {
        let Mount { point, kind, source, .. } = self.mount;
        format!("{} on {} ({kind}, {source})", self.roles.join(", "), point.display())
    }

    /// The block device under it, and what is under that; `None` if there is none.
    pub(crate) fn stack(&self) -> Option<(Device, Stack)> {
        let device = block::device(&self.mount.number, &self.mount.source)?;
        let stack = block::stack(&device);
        Some((device, stack))
    }
}

/// Everything that is read once.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) env: Env,
    pub(crate) config: Config,
    /// What is wrong with the configuration.
    pub(crate) problems: Vec<String>,
    /// The file that it was read from.
    pub(crate) file: Option<PathBuf>,
    /// How a command finds this database: ` --data-dir DIR`, ` --config FILE`, both or nothing.
    pub(crate) here: String,
    pub(crate) no_probe: bool,
    pub(crate) places: Vec<Place>,
    pub(crate) holder: Holder,
    /// The database that belongs here, if one does.
    pub(crate) marker: Result<Option<LogId>, String>,
    pub(crate) asked: Asked,
    /// The log in numbers; `None` if there is none.
    pub(crate) log: Result<Option<StatReport>, String>,
}

impl Site {
    /// Looks at all of that.
    pub(super) fn visit(args: &Args, context: &Context) -> Result<Self, Failure> {
        let (config, problems, file) = load(&args.place)?;
        let env = context.env.clone();
        let places: Vec<Place> = [
            ("data", config.server.data_dir.clone()),
            ("wal", config.wal_dir()),
            ("index", config.index_dir()),
            ("node", config.node_dir()),
        ]
        .into_iter()
        .map(|(role, path)| {
            let asked = path.clone();
            within(PATIENCE, move || place(role, asked)).unwrap_or_else(|| hanging(role, path))
        })
        .collect();
        let wal = places.iter().find(|place| place.role == "wal");
        let mounted = wal.and_then(|place| place.mount.as_ref());
        let mounted = mounted.map(|mount| mount.number.as_str());
        let holder = processes::holder(&config.wal_dir(), mounted);
        let marker = database::read_marker(&config.node_dir())
            .map(|marker| marker.map(|(log_id, _)| log_id))
            .map_err(|failure| failure.report().trim().replace('\n', "; "));
        let known = marker.as_ref().ok().copied().flatten();
        let asked = Asked::at(&args.keys(), &config, holder == Holder::Nobody, known);
        let log = if asked.detached() {
            // Its file system may be about to be unmounted, or be another one by now.
            Err("the node has taken it off its file system".into())
        } else {
            let (env, dir) = (env.clone(), config.wal_dir());
            let hangs = || Err(format!("nothing came back in {} s", READING.as_secs()));
            within(READING, move || stat(&env, &dir)).unwrap_or_else(hangs)
        };
        Ok(Self {
            here: here(&args.place),
            no_probe: args.no_probe,
            env,
            config,
            problems,
            file,
            places,
            holder,
            marker,
            asked,
            log,
        })
    }

    /// The file systems under the folders, each once.
    pub(crate) fn volumes(&self) -> Vec<Volume<'_>> {
        let mut volumes: Vec<Volume<'_>> = Vec::new();
        for place in &self.places {
            let Some(mount) = &place.mount else { continue };
            match volumes.iter_mut().find(|volume| volume.mount.id == mount.id) {
                Some(volume) => volume.roles.push(place.role),
                None => {
                    let (roles, near) = (vec![place.role], place.near.as_path());
                    volumes.push(Volume { roles, near, mount });
                }
            }
        }
        volumes
    }

    /// The answers of the node, if it gave any.
    pub(crate) fn answers(&self) -> Option<&Answers> {
        self.asked.answers()
    }

    /// Its state, if it gave that.
    pub(crate) fn node(&self) -> Option<&Node> {
        self.answers()?.node.as_ref().ok()
    }

    /// Its health, if it gave that: more than its state, and for the holders of keys.
    pub(crate) fn health(&self) -> Option<&Health> {
        self.answers()?.health.as_ref().ok()
    }

    /// Whether a node has the log open; `None` if that cannot be told.
    pub(crate) fn running(&self) -> Option<bool> {
        match (&self.holder, &self.asked) {
            (Holder::Process(_), _) | (_, Asked::Answered(_)) => Some(true),
            (Holder::Nobody, _) => Some(false),
            (Holder::Unknown(_), _) => None,
        }
    }

    /// Whether the node has taken the log off its file system.
    pub(crate) fn detached(&self) -> bool {
        self.asked.detached()
    }

    /// `stemedb admin WHAT`, at the address of this node.
    pub(crate) fn admin(&self, what: &str) -> String {
        let flag = self.answers().map_or("", |answers| answers.flag.as_str());
        format!("stemedb admin {what}{flag}")
    }

    /// A site that nothing was read for.
    #[cfg(test)]
    pub(super) fn made_up() -> Self {
        let mut config = Config::default();
        config.server.data_dir = "/d".into();
        Self {
            env: Env::real(),
            config,
            problems: Vec::new(),
            file: None,
            here: " --data-dir /d".into(),
            no_probe: false,
            places: Vec::new(),
            holder: Holder::Nobody,
            marker: Ok(None),
            asked: Asked::Silent(Vec::new()),
            log: Ok(None),
        }
    }
}

/// The configuration, whatever is wrong with it: a doctor is called because something is.
fn load(args: &PlaceArgs) -> Result<(Config, Vec<String>, Option<PathBuf>), Failure> {
    let data_dir = args.data_dir.as_ref().map(|dir| Setting {
        key: "server.data_dir".into(),
        value: dir.display().to_string(),
        origin: "--data-dir".into(),
    });
    let flags: Vec<Setting> = data_dir.into_iter().collect();
    match config::load(args.config.as_deref(), std::env::vars(), &flags) {
        Ok(loaded) => {
            let problems = loaded.problems();
            Ok((loaded.config, problems, loaded.file))
        }
        Err(ConfigError::Wrong(mut problems)) => {
            problems.push("what follows is of the defaults".into());
            let mut config = Config::default();
            if let Some(dir) = &args.data_dir {
                config.server.data_dir.clone_from(dir);
            }
            Ok((config, problems, args.config.clone()))
        }
        Err(error @ ConfigError::File { .. }) => Err(crate::commands::config::failure(error)),
    }
}

fn here(args: &PlaceArgs) -> String {
    let flag = |name: &str, path: &Option<PathBuf>| {
        path.as_ref().map(|path| format!(" --{name} {}", quoted(path))).unwrap_or_default()
    };
    flag("config", &args.config) + &flag("data-dir", &args.data_dir)
}

fn place(role: &'static str, path: PathBuf) -> Place {
    let (mut near, mut problem) = (None, None);
    for folder in path.ancestors() {
        // Of a path that begins here, the last one above is here.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match folder.canonicalize() {
            Ok(real) => near = Some(real),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => problem = Some(format!("{}: {error}", folder.display())),
        }
        break;
    }
    let mount = near.as_deref().and_then(mounts::find);
    Place { role, near: near.unwrap_or_else(|| path.clone()), path, problem, mount }
}

/// A folder of which the kernel gives no word.
fn hanging(role: &'static str, path: PathBuf) -> Place {
    let problem = format!("{}: nothing came back in {} s", path.display(), PATIENCE.as_secs());
    Place { role, near: path.clone(), path, problem: Some(problem), mount: None }
}

fn stat(env: &Env, dir: &Path) -> Result<Option<StatReport>, String> {
    match env.vfs.read_dir(dir) {
        Ok(entries) if entries.is_empty() => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", dir.display())),
    }
    // A segment that is renamed while it is looked at is there at the second look.
    let look = || stemedb_log::stat(dir, env.vfs.as_ref());
    look().or_else(|_| look()).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_lies_where_the_one_above_does() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        for (path, expected) in [
            (dir.path().to_owned(), real.clone()),
            (dir.path().join("a/b"), real),
            ("nowhere/a".into(), Path::new(".").canonicalize().unwrap()),
        ] {
            let found = place("wal", path);
            assert_eq!((&found.near, &found.problem), (&expected, &None), "{found:?}");
            assert!(found.mount.is_some(), "{found:?}");
        }
        let file = dir.path().join("file");
        crate::files::create_private(&file, "").unwrap();
        let found = place("wal", file.join("wal"));
        assert!(found.problem.is_some() && found.mount.is_none(), "{found:?}");
    }
}
