//! Names and small files: what is needed a few times, off the hot path. Every call runs beside the shard, not on it.

use std::io;
use std::path::{Path, PathBuf};

use crate::file::CommitMethod;
use crate::{Backend, backend};

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process may use, used or not: without the blocks kept back for root, as `df` counts.
    pub total: u64,
    /// What an unprivileged process may still use.
    pub free: u64,
}

macro_rules! dispatch {
    ($name:ident($($arg:ident),*)) => {
        match backend() {
            Backend::Uring => crate::uring::fs::$name($($arg),*).await,
            Backend::Sim => crate::sim::fs::$name($($arg),*).await,
        }
    };
}

/// Creates a directory and its parents; fine if it exists.
///
/// # Errors
/// What the operating system says.
pub async fn create_dir_all(path: &Path) -> io::Result<()> {
    dispatch!(create_dir_all(path))
}

/// The names in a directory, sorted.
///
/// # Errors
/// What the operating system says.
pub async fn read_dir(path: &Path) -> io::Result<Vec<PathBuf>> {
    dispatch!(read_dir(path))
}

/// A whole small file; `None` if it does not exist.
///
/// # Errors
/// `FileTooLarge` when it is longer than `max` bytes, otherwise what the operating system says.
pub async fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    dispatch!(read(path, max))
}

/// Replaces a small file at once and durably: write beside it, flush, keep the old one as `<name>.bak` if `keep_bak`,
/// rename, flush the directory. The permissions stay as they were. A crash leaves the old content or the new, under the name or under `.bak`.
///
/// # Errors
/// What the operating system says; the old content is then still there under one of the two names.
pub async fn replace(path: &Path, bytes: Vec<u8>, keep_bak: bool) -> io::Result<()> {
    dispatch!(replace(path, bytes, keep_bak))
}

/// Removes a file; fine if it does not exist.
///
/// # Errors
/// What the operating system says.
pub async fn remove(path: &Path) -> io::Result<()> {
    dispatch!(remove(path))
}

/// Gives a file another name, in place of what had that; durable once [`sync_dir`] was called for the directory.
///
/// # Errors
/// `NotFound` if there is no such file, otherwise what the operating system says.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    dispatch!(rename(from, to))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the operating system says.
pub async fn sync_dir(path: &Path) -> io::Result<()> {
    dispatch!(sync_dir(path))
}

/// Room on the file system that holds `path`.
///
/// # Errors
/// What the operating system says.
pub async fn space(path: &Path) -> io::Result<Space> {
    dispatch!(space(path))
}

/// The way of making a batch durable that suits the device below `path`, from its cache and FUA attributes.
pub async fn commit_method(path: &Path) -> CommitMethod {
    dispatch!(commit_method(path))
}

/// An exclusive lock of a directory, held until dropped or the process dies.
#[derive(Debug)]
pub struct DirLock(#[expect(dead_code, reason = "held for its drop")] Held);

#[derive(Debug)]
enum Held {
    Uring(#[expect(dead_code, reason = "held for its drop")] std::fs::File),
    Sim(#[expect(dead_code, reason = "held for its drop")] crate::sim::fs::DirLock),
}

/// Locks `dir` through its file `lock`, which then holds this process's id. `None` if another process holds it; the text is what
/// that process wrote.
///
/// # Errors
/// What the operating system says.
pub async fn lock_dir(dir: &Path) -> io::Result<Result<DirLock, String>> {
    Ok(match backend() {
        Backend::Uring => crate::uring::fs::lock_dir(dir).await?.map(|f| DirLock(Held::Uring(f))),
        Backend::Sim => crate::sim::fs::lock_dir(dir).await?.map(|l| DirLock(Held::Sim(l))),
    })
}
