//! Files of the seam on a modelled device.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, absolute};
use super::world::world;
use crate::buf::{AlignedBuf, Slice};

/// The error with what was tried in its text, as the production backend words it.
pub(super) fn named(doing: &str, path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{doing} {}: {e}", path.display()))
}

/// The device of the node whose task asks.
pub(super) fn disk() -> Disk {
    let world = world();
    world.disk(world.node())
}

/// An open file. Clones share it.
#[derive(Debug)]
pub(crate) struct File {
    disk: Disk,
    inode: u64,
    path: PathBuf,
}

impl File {
    pub(crate) async fn open(path: &Path, create_new: bool) -> io::Result<Self> {
        let (disk, at) = (disk(), absolute(path));
        // The handle exists from the moment the device has it, so that a caller who gives up does not leave it open.
        let opened = disk.metadata(|state| {
            let inode = state.open(&at, create_new)?;
            Ok(Self { disk: disk.clone(), inode, path: at.clone() })
        });
        opened.await.map_err(|e| named(if create_new { "create" } else { "open" }, path, &e))
    }

    fn id(&self) -> (u64, &Path) {
        (self.inode, &self.path)
    }

    pub(crate) async fn len(&self) -> io::Result<u64> {
        self.disk.metadata(|state| Ok(state.inode(self.inode)?.len())).await
    }

    pub(crate) async fn allocate(&self, len: u64) -> io::Result<()> {
        let done = self.disk.metadata(|state| state.allocate(self.inode, len)).await;
        done.map_err(|e| named("allocate", &self.path, &e))
    }

    pub(crate) async fn read_at(&self, mut buf: AlignedBuf, offset: u64) -> io::Result<(AlignedBuf, usize)> {
        let read = self.disk.read_at(self.id(), &mut buf, offset).await;
        read.map(|len| (buf, len)).map_err(|e| named("read", &self.path, &e))
    }

    pub(crate) async fn write_at(&self, parts: &[Slice], offset: u64) -> io::Result<()> {
        self.disk.write(self.id(), parts, offset, false).await.map_err(|e| named("write", &self.path, &e))
    }

    pub(crate) async fn commit(&self, parts: &[Slice], offset: u64) -> io::Result<()> {
        self.disk.write(self.id(), parts, offset, true).await.map_err(|e| named("commit", &self.path, &e))
    }

    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.disk.sync(self.id()).await.map_err(|e| named("sync", &self.path, &e))
    }
}

impl Clone for File {
    fn clone(&self) -> Self {
        self.disk.reopen(self.inode);
        Self { disk: self.disk.clone(), inode: self.inode, path: self.path.clone() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.disk.close(self.inode);
    }
}

/// Small files, whose length is no multiple of a block.
impl File {
    /// Creates a file in place of what had the name.
    pub(super) async fn create_over(path: &Path) -> io::Result<Self> {
        let disk = disk();
        let created = disk.metadata(|state| {
            let inode = state.create_over(path)?;
            Ok(Self { disk: disk.clone(), inode, path: path.to_path_buf() })
        });
        created.await
    }

    pub(super) async fn fill(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.disk.fill(self.id(), bytes).await
    }

    pub(super) async fn read_whole(&self, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?];
        let read = self.disk.read_at(self.id(), &mut bytes, 0).await;
        let len = read.map_err(|e| named("read", &self.path, &e))?;
        bytes.truncate(len);
        Ok(bytes)
    }
}
