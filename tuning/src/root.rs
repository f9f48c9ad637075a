//! A tree of files that stands for a host: `/`, or one that was recorded elsewhere.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where the host's files begin.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// This host.
    pub fn host() -> Root {
        Root(PathBuf::from("/"))
    }

    /// A recorded tree.
    pub fn new(path: impl Into<PathBuf>) -> Root {
        Root(path.into())
    }

    /// The file that is `path` on the host.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let below = path.as_ref().components().filter(|part| !matches!(part, Component::RootDir));
        self.0.join(below.collect::<PathBuf>())
    }

    /// A file's text without the white space around it; `None` where it is not there or may not be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.at(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file's text as a number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// What is in a folder, in order; nothing where it cannot be listed.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether something is there.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }

    /// The path on the host that `path` means once every link is followed.
    pub fn real(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let root = fs::canonicalize(&self.0).ok()?;
        let real = fs::canonicalize(self.at(path)).ok()?;
        Some(Path::new("/").join(real.strip_prefix(root).ok()?))
    }
}
