//! The names on a modelled device. Each change is one step of a journal: seen at once, durable when its directory is
//! synced, and until then kept or lost by a power cut as a whole, whatever became of the other steps.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::sim::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Node {
    Dir,
    File(u64),
}

#[derive(Debug)]
struct Change {
    removes: Option<PathBuf>,
    adds: Option<(PathBuf, Node)>,
}

impl Change {
    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = self.removes {
            names.remove(&path);
        }
        if let Some((path, node)) = self.adds {
            names.insert(path, node);
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let added = self.adds.as_ref().map(|(path, _)| path);
        self.removes.iter().chain(added).any(|path| path.parent() == Some(dir))
    }
}

#[derive(Debug, Default)]
pub(in crate::sim) struct Names {
    current: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

/// The path from the root, without detours; a relative one starts at the root.
pub(in crate::sim) fn absolute(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(Node::Dir) } else { self.current.get(path).copied() }
    }

    /// The file of that name.
    pub(in crate::sim) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir(&self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, removes: Option<PathBuf>, adds: Option<(PathBuf, Node)>) {
        Change { removes: removes.clone(), adds: adds.clone() }.apply(&mut self.current);
        self.pending.push(Change { removes, adds });
    }

    /// Gives a file a name, in place of what had it.
    pub(in crate::sim) fn link(&mut self, path: &Path, inode: u64) -> io::Result<()> {
        self.dir(path.parent().ok_or(io::ErrorKind::IsADirectory)?)?;
        if self.get(path) == Some(Node::Dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(None, Some((path.to_path_buf(), Node::File(inode))));
        Ok(())
    }

    pub(in crate::sim) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for dir in path.ancestors() {
            match self.get(dir) {
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(dir.to_path_buf()),
            }
        }
        for dir in missing.into_iter().rev() {
            self.change(None, Some((dir, Node::Dir)));
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.change(Some(path.to_path_buf()), None);
        Ok(())
    }

    pub(in crate::sim) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file(from)?;
        self.dir(to.parent().ok_or(io::ErrorKind::IsADirectory)?)?;
        self.change(Some(from.to_path_buf()), Some((to.to_path_buf(), Node::File(inode))));
        Ok(())
    }

    /// The names in a directory, in order.
    pub(in crate::sim) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.dir(dir)?;
        let inside = self.current.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name().map(PathBuf::from)).collect())
    }

    /// Every file, by its whole path.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self.current.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Files that have a name now.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.current.values().filter_map(Node::inode)
    }

    /// Whether any name, now or after a power cut, leads to the file.
    pub(super) fn reaches(&self, inode: u64) -> bool {
        let pending = self.pending.iter().filter_map(|c| c.adds.as_ref()).map(|(_, node)| node);
        self.current.values().chain(self.durable.values()).chain(pending).any(|node| node.inode() == Some(inode))
    }

    /// Makes the names in a directory durable.
    pub(in crate::sim) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        self.dir(dir)?;
        for change in std::mem::take(&mut self.pending) {
            if change.touches(dir) {
                change.apply(&mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    /// Makes every name durable.
    pub(super) fn sync_all(&mut self) {
        self.pending.clear();
        self.durable = self.current.clone();
    }

    /// The power goes: each change that was not synced happened or did not.
    pub(super) fn power_cut(&mut self, rng: &mut Rng, percent: u64) {
        for change in std::mem::take(&mut self.pending) {
            if rng.chance(percent, 100) {
                change.apply(&mut self.durable);
            }
        }
        // A name in a directory that is not there leads nowhere. Parents come before their children in this order.
        let mut whole = BTreeMap::new();
        for (path, node) in std::mem::take(&mut self.durable) {
            let parent = path.parent().unwrap_or(Path::new("/"));
            if is_root(parent) || whole.get(parent) == Some(&Node::Dir) {
                whole.insert(path, node);
            }
        }
        self.durable = whole;
        self.current = self.durable.clone();
    }
}

impl Node {
    fn inode(&self) -> Option<u64> {
        match self {
            Self::File(inode) => Some(*inode),
            Self::Dir => None,
        }
    }
}
