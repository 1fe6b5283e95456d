//! Simulated folders: the names that programs see, and the names that a crash would leave.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::rng::SplitMix;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

/// A change of names that is not yet durable.
#[derive(Debug, Clone)]
enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    /// Within one folder, so it is atomic. It names what is renamed: another one may have had the
    /// name before.
    Rename(PathBuf, PathBuf, Node),
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        Self { live: root.clone(), durable: root, pending: Vec::new() }
    }

    pub(super) fn get(&self, path: &Path) -> io::Result<Node> {
        self.live.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.live.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_path(), *inode)),
            Node::Dir => None,
        })
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn link(&mut self, path: &Path, node: Node) -> io::Result<()> {
        self.parent(path)?;
        self.change(Change::Link(path.into(), node));
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        match self.get(path)? {
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
            Node::File(_) => {
                self.change(Change::Unlink(path.into()));
                Ok(())
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.get(from)?;
        self.parent(to)?;
        if from.parent() == to.parent() {
            self.change(Change::Rename(from.into(), to.into(), node));
        } else {
            self.change(Change::Link(to.into(), node));
            self.change(Change::Unlink(from.into()));
        }
        Ok(())
    }

    fn parent(&self, path: &Path) -> io::Result<()> {
        match path.parent().map(|parent| self.get(parent)) {
            Some(Ok(Node::Dir)) => Ok(()),
            Some(Ok(Node::File(_))) => Err(io::ErrorKind::NotADirectory.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn children(&self, dir: &Path) -> io::Result<Vec<(PathBuf, Node)>> {
        match self.get(dir)? {
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            Node::Dir => Ok(self
                .live
                .iter()
                .filter(|(path, _)| path.parent() == Some(dir))
                .map(|(path, node)| (path.clone(), *node))
                .collect()),
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.children(dir)?;
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let here = change.dir() == Some(dir);
            if here {
                change.apply(durable);
            }
            !here
        });
        Ok(())
    }

    /// Makes everything durable, for testers that set a scene.
    pub(super) fn settle(&mut self) {
        self.pending.clear();
        self.durable = self.live.clone();
    }

    /// Power goes: of the changes that were not synced, the first so many are kept, as a journal
    /// does it, or any subset of them, as a file system without one may.
    pub(super) fn crash(&mut self, any_subset: bool, rng: &mut SplitMix) {
        let kept = rng.below(self.pending.len() as u64 + 1) as usize;
        for (at, change) in self.pending.drain(..).enumerate() {
            if if any_subset { rng.below(2) == 0 } else { at < kept } {
                change.apply(&mut self.durable);
            }
        }
        // A name whose folder is gone is gone; parents sort before their children.
        let mut live: BTreeMap<PathBuf, Node> = BTreeMap::new();
        for (path, node) in &self.durable {
            if path.parent().is_none_or(|parent| live.contains_key(parent)) {
                live.insert(path.clone(), *node);
            }
        }
        self.durable = live.clone();
        self.live = live;
    }
}
